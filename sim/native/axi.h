// A memory behind an AXI4 master, and a master of AXI4-Lite (ARM IHI 0022H); both watch the other side's manners.
//
// Reads are answered in the order they came, `latency` clocks after their address or later; what is written is in
// memory just when it is acknowledged, so whoever reads before that sees what was there before.
#pragma once

#include <algorithm>
#include <deque>

#include "model.h"

struct AxiPorts {
  Port awvalid, awready, awid, awaddr, awlen, awsize, awburst;
  Port wvalid, wready, wdata, wstrb, wlast;
  Port bvalid, bready, bid, bresp;
  Port arvalid, arready, arid, araddr, arlen, arsize, arburst;
  Port rvalid, rready, rid, rdata, rresp, rlast;
};

struct LitePorts {
  Port awvalid, awready, awaddr, awprot, wvalid, wready, wdata, wstrb, bvalid, bready, bresp;
  Port arvalid, arready, araddr, arprot, rvalid, rready, rdata, rresp;
};

struct MemorySettings {
  uint64_t latency = 40;            // clocks from an address to its first beat, and from the last beat to its answer
  uint64_t beats = 1, clocks = 1;   // so many beats in so many clocks, each way
  Behaviour pauses{0, false, false, false};
};

// Bytes that the master may touch.
struct Range {
  uint64_t begin, end;
};

// The beat with this number, counted over the whole run, is answered by a response that is not OKAY.
struct Fault {
  bool write;
  uint64_t beat;
  uint8_t response;
};

class AxiMemory {
 public:
  AxiMemory(const AxiPorts& ports) : ports_(ports), bytes_(ports.rdata.size()) {}

  void place(uint8_t* memory, uint64_t size) {
    memory_ = memory;
    size_ = size;
  }
  std::vector<Range> ranges;
  std::vector<Fault> faults;
  uint64_t beats_read = 0, beats_written = 0, bursts_read = 0, bursts_written = 0;

  void start(const MemorySettings& settings) {
    settings_ = settings;
    const Behaviour& how = settings.pauses;
    read_address_.start(how.seed, 1, how.stall);
    write_address_.start(how.seed, 2, how.stall);
    write_data_.start(how.seed, 3, how.stall);
    read_data_.start(how.seed, 4, how.idle);
    answer_.start(how.seed, 5, how.idle);
    random_.seed(how.seed, 6);
    reads_.clear();
    writes_.clear();
    words_.clear();
    matched_.clear();
    answers_.clear();
    offers_read_ = offers_answer_ = false;
    arready_ = awready_ = wready_ = false;
    ar_ = aw_ = w_ = Held();
    read_credit_ = write_credit_ = settings.clocks;
    beats_read = beats_written = bursts_read = bursts_written = 0;
  }

  bool idle() const { return reads_.empty() && writes_.empty() && words_.empty() && answers_.empty(); }

  // Looks at the master's side in this clock.
  void sample(uint64_t now) {
    if (check(ar_, "AR", ports_.arvalid, arready_, {ports_.araddr, ports_.arlen, ports_.arid})) {
      reads_.push_back(burst("AR", ports_.araddr, ports_.arlen, ports_.arsize, ports_.arburst, ports_.arid, now));
      bursts_read++;
    }
    if (check(aw_, "AW", ports_.awvalid, awready_, {ports_.awaddr, ports_.awlen, ports_.awid})) {
      writes_.push_back(burst("AW", ports_.awaddr, ports_.awlen, ports_.awsize, ports_.awburst, ports_.awid, now));
      bursts_written++;
    }
    if (check(w_, "W", ports_.wvalid, wready_, {ports_.wdata, ports_.wstrb, ports_.wlast})) {
      words_.emplace_back();
      ports_.wdata.get(words_.back().data);
      words_.back().strobe = ports_.wstrb.number();
      words_.back().last = ports_.wlast.high();
    }
    if (offers_read_ && ports_.rready.high()) {
      offers_read_ = false;
      Burst& read = reads_.front();
      if (read.done++ == read.length) reads_.pop_front();
    }
    if (offers_answer_ && ports_.bready.high()) offers_answer_ = false;
    match(now);
  }

  // Sets what the master sees in the next clock.
  void drive(uint64_t now) {
    // One more beat may pass when a beat's worth of clocks has been saved up.
    read_credit_ = std::min(read_credit_ + settings_.beats, settings_.clocks);
    write_credit_ = std::min(write_credit_ + settings_.beats, settings_.clocks);
    const bool late = settings_.pauses.late;
    arready_ = reads_.size() < kOutstanding && !read_address_.hold() && (!late || (ar_.offered && !arready_));
    awready_ = writes_.size() < kOutstanding && !write_address_.hold() && (!late || (aw_.offered && !awready_));
    wready_ = words_.size() < kOutstanding && !write_data_.hold() && write_credit_ >= settings_.clocks &&
              (!late || (w_.offered && !wready_));
    if (wready_) write_credit_ -= settings_.clocks;
    ports_.arready.set(arready_);
    ports_.awready.set(awready_);
    ports_.wready.set(wready_);
    const bool hold_read = read_data_.hold(), hold_answer = answer_.hold();
    if (!offers_read_) {
      if (!reads_.empty() && reads_.front().due <= now && !hold_read && read_credit_ >= settings_.clocks) {
        read_credit_ -= settings_.clocks;
        offer_read();
      } else {
        ports_.rvalid.set(false);
      }
    }
    if (!offers_answer_) {
      if (!answers_.empty() && answers_.front().due <= now && !hold_answer) {
        answer();
      } else {
        ports_.bvalid.set(false);
      }
    }
  }

 private:
  static constexpr size_t kOutstanding = 64;

  // What a channel held in the clock before, if it was not taken.
  struct Held {
    bool waiting = false, offered = false;
    uint8_t payload[160] = {};
  };
  struct Burst {
    uint64_t address, length, id, due, done;
  };
  struct Word {
    uint8_t data[128];
    uint64_t strobe;
    bool last;
  };
  struct Answer {
    Burst burst;
    std::vector<Word> words;
    uint64_t due;
    uint8_t response;
  };

  // Whether a channel's payload was taken; it must not change while it waits.
  bool check(Held& held, const char* name, const Port& valid, bool ready, std::initializer_list<Port> fields) {
    held.offered = valid.high();
    if (held.waiting && !held.offered) throw Violation(std::string(name) + " was offered and then withdrawn");
    if (!held.offered) return held.waiting = false;
    uint8_t payload[sizeof held.payload];
    size_t size = 0;
    for (const Port& field : fields) {
      field.get(payload + size);
      size += field.size();
    }
    if (held.waiting && std::memcmp(held.payload, payload, size))
      throw Violation(std::string(name) + " changed before it was taken");
    std::memcpy(held.payload, payload, size);
    held.waiting = !ready;
    return ready;
  }

  Burst burst(const char* name, Port addr, Port len, Port size, Port burst, Port id, uint64_t now) {
    const std::string channel = name;
    const Burst found{addr.number(), len.number(), id.number(), now + settings_.latency + spread(), 0};
    const uint64_t bytes = (found.length + 1) * bytes_;
    if (burst.number() != 1) throw Violation(channel + " must be of kind INCR, not " + std::to_string(burst.number()));
    if ((uint64_t(1) << size.number()) != bytes_)
      throw Violation(channel + " must be of the whole width, not of size " + std::to_string(size.number()));
    if (found.address % bytes_) throw Violation(channel + " must be aligned, not at " + std::to_string(found.address));
    if (found.address / 4096 != (found.address + bytes - 1) / 4096)
      throw Violation(channel + " must not cross 4 KiB, as from " + std::to_string(found.address) + " for " +
                      std::to_string(bytes) + " bytes");
    return found;
  }

  uint64_t spread() { return settings_.pauses.idle ? random_.next() % 48 : 0; }

  bool inside(uint64_t begin, uint64_t end) const {
    return std::any_of(ranges.begin(), ranges.end(),
                       [=](const Range& range) { return begin >= range.begin && end <= range.end; });
  }

  uint8_t response(bool write, uint64_t beat, uint64_t address) const {
    for (const Fault& fault : faults)
      if (fault.write == write && fault.beat == beat) return fault.response;
    return address + bytes_ <= size_ ? 0 : 3;
  }

  void offer_read() {
    const Burst& read = reads_.front();
    const uint64_t address = read.address + read.done * bytes_;
    if (!inside(address, address + bytes_)) throw Violation("R is outside every region, at " + std::to_string(address));
    const uint8_t found = response(false, beats_read++, address);
    if (found)
      junk();
    else
      ports_.rdata.put(memory_ + address);
    ports_.rresp.assign(found);
    ports_.rid.assign(read.id);
    ports_.rlast.set(read.done == read.length);
    ports_.rvalid.set(true);
    offers_read_ = true;
  }

  void junk() {
    uint8_t row[128];
    for (uint64_t i = 0; i < bytes_; i++) row[i] = random_.next() >> 16;
    ports_.rdata.put(row);
  }

  // Beats that came with bursts that are known.
  void match(uint64_t now) {
    while (!writes_.empty() && words_.size() > 0) {
      Burst& write = writes_.front();
      if (matched_.empty()) matched_response_ = 0;
      const uint64_t address = write.address + write.done * bytes_;
      const Word& word = words_.front();
      if (word.last != (write.done == write.length))
        throw Violation(std::string("WLAST must be high at the last beat of ") + std::to_string(write.length + 1) +
                        " and at no other, at " + std::to_string(address));
      for (uint64_t i = 0; i < bytes_; i++)
        if (word.strobe >> i & 1 && !inside(address + i, address + i + 1))
          throw Violation("W is outside every region, at " + std::to_string(address + i));
      matched_response_ = std::max(matched_response_, response(true, beats_written++, address));
      matched_.push_back(word);
      words_.pop_front();
      if (write.done++ == write.length) {
        answers_.push_back({write, std::move(matched_), now + settings_.latency + spread(), matched_response_});
        matched_.clear();
        writes_.pop_front();
      }
    }
  }

  void answer() {
    const Answer& found = answers_.front();
    uint64_t address = found.burst.address;
    if (!found.response)
      for (const Word& word : found.words) {
        for (uint64_t i = 0; i < bytes_; i++)
          if (word.strobe >> i & 1) memory_[address + i] = word.data[i];
        address += bytes_;
      }
    ports_.bid.assign(found.burst.id);
    ports_.bresp.assign(found.response);
    ports_.bvalid.set(true);
    offers_answer_ = true;
    answers_.pop_front();
  }

  AxiPorts ports_;
  uint64_t bytes_;  // of a beat
  uint8_t* memory_ = nullptr;
  uint64_t size_ = 0;
  MemorySettings settings_;
  Pause read_address_, write_address_, write_data_, read_data_, answer_;
  Random random_;
  std::deque<Burst> reads_, writes_;
  std::deque<Word> words_;
  std::vector<Word> matched_;
  uint8_t matched_response_ = 0;
  std::deque<Answer> answers_;
  Held ar_, aw_, w_;
  bool arready_ = false, awready_ = false, wready_ = false, offers_read_ = false, offers_answer_ = false;
  uint64_t read_credit_ = 0, write_credit_ = 0;
};

// Reads or writes one register at a time.
class LiteMaster {
 public:
  explicit LiteMaster(const LitePorts& ports) : ports_(ports) {}

  void start() { reading_ = writing_ = address_taken_ = data_taken_ = false; }

  void read(uint32_t address) {
    ports_.araddr.assign(address);
    reading_ = true;
    address_taken_ = false;
  }
  void write(uint32_t address, uint32_t value) {
    ports_.awaddr.assign(address);
    ports_.wdata.assign(value);
    ports_.wstrb.assign(15);
    writing_ = true;
    address_taken_ = data_taken_ = false;
  }
  bool busy() const { return reading_ || writing_; }
  uint32_t data() const { return data_; }
  unsigned response() const { return response_; }

  void sample() {
    if (!reading_ && ports_.rvalid.high()) throw Violation("R of the registers came without a read");
    if (!writing_ && ports_.bvalid.high()) throw Violation("B of the registers came without a write");
    if (reading_) {
      if (offers_address_ && ports_.arready.high()) address_taken_ = true;
      if (ready_ && ports_.rvalid.high()) {
        if (!address_taken_) throw Violation("R of the registers came before its address was taken");
        data_ = ports_.rdata.number();
        response_ = ports_.rresp.number();
        reading_ = false;
      }
    } else if (writing_) {
      if (offers_address_ && ports_.awready.high()) address_taken_ = true;
      if (offers_data_ && ports_.wready.high()) data_taken_ = true;
      if (ready_ && ports_.bvalid.high()) {
        if (!address_taken_ || !data_taken_) throw Violation("B of the registers came before its write was taken");
        response_ = ports_.bresp.number();
        writing_ = false;
      }
    }
  }

  void drive() {
    offers_address_ = busy() && !address_taken_;
    offers_data_ = writing_ && !data_taken_;
    ready_ = busy();
    ports_.arvalid.set(reading_ && offers_address_);
    ports_.awvalid.set(writing_ && offers_address_);
    ports_.wvalid.set(offers_data_);
    ports_.rready.set(reading_);
    ports_.bready.set(writing_);
  }

 private:
  LitePorts ports_;
  bool reading_ = false, writing_ = false, address_taken_ = false, data_taken_ = false;
  bool offers_address_ = false, offers_data_ = false, ready_ = false;
  uint32_t data_ = 0;
  unsigned response_ = 0;
};
