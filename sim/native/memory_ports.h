// One memory behind the ports of an engine (`hw.bus.ports`): a word read and a word written a clock, shared in turn.
//
// Words are read `latency` clocks after they were asked for, or later; they are written as late, and `idle` is high
// only when all have been. So whoever reads too early what it has written is found out.
#pragma once

#include <deque>

#include "model.h"

// Widths of a span's fields: `table.h` tells.
extern const unsigned kRegionWidth, kAddressWidth, kBytesWidth;

struct MemoryPortsOf {
  const char* name;
  bool write;
  StreamPorts request, data;
  Port idle;
};

struct Region {
  uint64_t base = 0, limit = 0;  // bytes
  uint8_t* bytes = nullptr;      // of the memory that it lies in
};

struct Span {
  unsigned region;
  uint64_t address, bytes;  // address from the base of the region
};

// An access that does not lie in its region.
struct Beyond {
  Span span;
};

class MemoryPort {
 public:
  MemoryPort(const MemoryPortsOf& ports, uint32_t salt)
      : ports_(ports),
        salt_(salt),
        request_(ports.request, 3 * salt),
        source_(ports.data, 3 * salt + 1),
        sink_(ports.data, 3 * salt + 1),
        word_((ports.write ? ports.data.payload.width * 8 / 9 : ports.data.payload.width) / 8) {}

  void start(const Behaviour& how, unsigned latency) {
    random_.seed(how.seed, 7 * salt_ + 3);
    spread_ = how.idle ? 32 : 0;
    latency_ = latency;
    request_.start(how);
    if (ports_.write)
      sink_.start(how);
    else
      source_.start(how);
    spans_.clear();
    words_.clear();
    begun_ = 0;
    read_bytes = written_bytes = 0;
  }
  void noise(bool valid) {
    if (!ports_.write) source_.noise(valid);
  }

  // Looks at the outputs; whether something moved.
  bool sample(uint64_t now, const std::vector<Region>& regions) {
    bool moved = false;
    if (const uint8_t* row = request_.sample()) {
      accept(row, regions, now);
      moved = true;
    }
    if (ports_.write) {
      const uint8_t* row = sink_.sample();
      if (sink_.offered() && spans_.empty() && !request_.offered())
        throw Violation(std::string(ports_.name) + " has data that it asked no place for");
      if (row) {
        words_.push_back({due(now), Bytes(row, row + ports_.data.payload.size())});
        moved = true;
      }
    } else {
      moved |= source_.sample();
    }
    return moved;
  }

  // Whether the bus may move a word for this port now.
  bool wants_bus(uint64_t now) const {
    if (spans_.empty() || spans_.front().due > now) return false;
    return ports_.write ? !words_.empty() && words_.front().due <= now : words_.size() < kWaiting;
  }

  void move(uint64_t now, const std::vector<Region>& regions) {
    Pending& pending = spans_.front();
    const Span& span = pending.span;
    const uint64_t first = (span.address / word_ + begun_) * word_;
    const Region& region = regions[span.region];
    const uint64_t low = std::max(first, span.address), high = std::min(first + word_, span.address + span.bytes);
    if (ports_.write) {
      const Bytes& row = words_.front().row;
      for (uint64_t i = first; i < first + word_; i++) {
        if (!bits_of(row.data(), unsigned(8 * word_ + i - first), 1)) continue;
        if (i < low || i >= high) throw Violation(std::string(ports_.name) + " writes a byte outside its span");
        region.bytes[region.base + i] = row[i - first];
        written_bytes++;
      }
      words_.pop_front();
    } else {
      Bytes row(word_);
      // Bytes that nobody asked for are junk.
      for (auto& byte : row) byte = random_.next() >> 16;
      std::memcpy(row.data() + (low - first), region.bytes + region.base + low, high - low);
      words_.push_back({now, row});
      read_bytes += high - low;
    }
    begun_++;
    if (first + word_ >= span.address + span.bytes) {
      spans_.pop_front();
      begun_ = 0;
    }
  }

  void drive() {
    // A request that waits for its turn holds up nobody else: few are let in at a time.
    request_.drive(spans_.size() < 8);
    if (ports_.write) {
      sink_.drive((!spans_.empty() || request_.offered()) && words_.size() < kWaiting);
      ports_.idle.set(idle());
    } else {
      if (source_.wants() && !words_.empty()) {
        source_.offer(words_.front().row.data());
        words_.pop_front();
      }
      source_.rest();
    }
  }

  bool writes() const { return ports_.write; }
  bool idle() const { return spans_.empty() && words_.empty() && !(!ports_.write && source_.offering()); }
  const char* name() const { return ports_.name; }

  uint64_t read_bytes = 0, written_bytes = 0;

 private:
  static constexpr size_t kWaiting = 64;

  struct Pending {
    Span span;
    uint64_t due;
  };
  struct Word {
    uint64_t due;
    Bytes row;
  };

  uint64_t due(uint64_t now) {
    return now + latency_ + (spread_ ? random_.next() % spread_ : 0);
  }

  void accept(const uint8_t* row, const std::vector<Region>& regions, uint64_t now) {
    const Span span{unsigned(bits_of(row, 0, kRegionWidth)), bits_of(row, kRegionWidth, kAddressWidth),
                    bits_of(row, kRegionWidth + kAddressWidth, kBytesWidth)};
    if (!span.bytes) throw Violation(std::string(ports_.name) + " asks for a span of no bytes");
    if (span.address + span.bytes > regions[span.region].limit) throw Beyond{span};
    // A span may not come before the one that was asked for earlier.
    spans_.push_back({span, ports_.write ? now : due(now)});
  }

  MemoryPortsOf ports_;
  uint32_t salt_;
  Sink request_;
  Source source_;
  Sink sink_;
  uint64_t word_;  // bytes of a word
  Random random_;
  uint32_t spread_ = 0;
  unsigned latency_ = 1;
  std::deque<Pending> spans_;
  std::deque<Word> words_;
  uint64_t begun_ = 0;
};

// Lets the ports take turns: one word read and one written a clock.
class MemoryBus {
 public:
  explicit MemoryBus(std::vector<MemoryPort>& ports) : ports_(ports) {}

  bool step(uint64_t now, const std::vector<Region>& regions) {
    bool moved = false;
    for (const bool write : {false, true}) {
      for (size_t i = 0; i < ports_.size(); i++) {
        MemoryPort& port = ports_[(turn_[write] + i) % ports_.size()];
        if (port.writes() != write || !port.wants_bus(now)) continue;
        port.move(now, regions);
        turn_[write] = (turn_[write] + i + 1) % ports_.size();
        moved = true;
        break;
      }
    }
    return moved;
  }

 private:
  std::vector<MemoryPort>& ports_;
  size_t turn_[2] = {0, 0};
};
