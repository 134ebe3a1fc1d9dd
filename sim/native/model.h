// What drives a Verilated model from outside: ports as bytes, streams with pauses, and the rules of both.
//
// Every port of a model is held little endian in bytes of its own, so bits are moved as bytes whatever the port's type.
// A clock is: inputs are set, the model settles, outputs are looked at (`sample`), the edge comes, and what was seen
// decides the inputs of the next clock (`drive`). So nothing here depends on an output within the same clock.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "verilated.h"
#if VM_TRACE
#include "verilated_vcd_c.h"
#endif

#define EXPORT extern "C" __attribute__((visibility("default")))

// Each library is one source, so this is defined once.
void vl_fatal(const char* file, int line, const char*, const char* message) VL_MT_UNSAFE {
  throw std::runtime_error(std::string(message) + " (" + file + ":" + std::to_string(line) + ")");
}

using Bytes = std::vector<uint8_t>;

// A rule of an interface was broken.
struct Violation : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline uint64_t bits_of(const uint8_t* bytes, unsigned low, unsigned width) {
  uint64_t value = 0;
  for (unsigned bit = 0; bit < width;) {
    const unsigned at = low + bit, take = std::min(8 - at % 8, width - bit);
    value |= uint64_t(bytes[at / 8] >> at % 8 & ((1u << take) - 1)) << bit;
    bit += take;
  }
  return value;
}

struct Port {
  void* data;  // null for what the model does not have: payloads of no bits, `ready` where it is always high
  unsigned width;

  size_t size() const { return (width + 7) / 8; }
  bool high() const { return !data || *static_cast<const uint8_t*>(data) & 1; }
  void set(bool value) const {
    if (data) *static_cast<uint8_t*>(data) = value;
  }
  void put(const uint8_t* bytes) const {
    if (data) std::memcpy(data, bytes, size());
  }
  void get(uint8_t* bytes) const {
    if (data) std::memcpy(bytes, data, size());
  }
  // As a number, of up to 64 bits.
  uint64_t number() const {
    uint64_t value = 0;
    if (data) std::memcpy(&value, data, size());
    return value;
  }
  void assign(uint64_t value) const {
    if (data) std::memcpy(data, &value, size());
  }
};

// A generator of 32 bits (xorshift).
class Random {
 public:
  void seed(uint32_t seed, uint32_t salt) {
    state_ = (seed ^ 0x9E3779B9u * salt) | 1;
    for (int i = 0; i < 8; i++) next();
  }
  uint32_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 17;
    return state_ ^= state_ << 5;
  }

 private:
  uint32_t state_ = 1;
};

// Decides clock by clock whether something pauses. The odds change every 64 clocks among rare, even and frequent, so
// that buffers run empty and full.
class Pause {
 public:
  void start(uint32_t seed, uint32_t salt, bool enabled) {
    random_.seed(seed, salt);
    enabled_ = enabled;
    clocks_ = 0;
    chance_ = 128;
  }
  bool hold() {
    if (!enabled_) return false;
    const uint32_t draw = random_.next();
    if (++clocks_ % 64 == 0) chance_ = "\x10\x80\x80\xe6"[draw >> 16 & 3] & 0xff;
    return (draw >> 8 & 0xff) < chance_;
  }

 private:
  Random random_;
  bool enabled_ = false;
  unsigned clocks_ = 0, chance_ = 128;
};

// How what surrounds a model behaves.
struct Behaviour {
  uint32_t seed;
  bool idle;   // what the model takes comes with pauses
  bool stall;  // what the model offers is taken with pauses
  bool late;   // and is taken only after it was seen
};

struct StreamPorts {
  const char* name;
  bool into;  // the model takes it
  Port valid, payload, ready;
};

// Offers payloads; junk while it has none.
class Source {
 public:
  Source(const StreamPorts& ports, uint32_t salt) : ports_(ports), salt_(salt), row_(ports.payload.size()) {}

  void start(const Behaviour& how) {
    pause_.start(how.seed, 2 * salt_, how.idle);
    junk_.seed(how.seed, 2 * salt_ + 1);
    offering_ = false;
  }
  // During a reset: junk that looks like an offer.
  void noise(bool valid) {
    ports_.valid.set(valid);
    draw_junk();
  }
  bool sample() {
    const bool taken = offering_ && ports_.ready.high();
    if (taken) offering_ = false;
    return taken;
  }
  bool wants() {
    const bool hold = pause_.hold();
    return !offering_ && !hold;
  }
  void offer(const uint8_t* row) {
    offering_ = true;
    ports_.valid.set(true);
    ports_.payload.put(row);
  }
  void rest() {
    if (offering_) return;
    ports_.valid.set(false);
    draw_junk();
  }
  bool offering() const { return offering_; }

 private:
  void draw_junk() {
    for (auto& byte : row_) byte = junk_.next() >> 16;
    if (ports_.payload.width % 8) row_.back() &= (1u << ports_.payload.width % 8) - 1;
    ports_.payload.put(row_.data());
  }

  StreamPorts ports_;
  uint32_t salt_;
  Bytes row_;
  Pause pause_;
  Random junk_;
  bool offering_ = false;
};

// Takes payloads, and sees to it that one once offered stays until it is taken.
class Sink {
 public:
  Sink(const StreamPorts& ports, uint32_t salt)
      : ports_(ports), salt_(salt), row_(ports.payload.size()), before_(ports.payload.size()) {}

  void start(const Behaviour& how) {
    pause_.start(how.seed, 2 * salt_, how.stall);
    late_ = how.late;
    ready_ = waiting_ = offered_ = false;
  }
  // Payload that was taken in this clock, or null.
  const uint8_t* sample() {
    offered_ = ports_.valid.high();
    ports_.payload.get(row_.data());
    if (waiting_ && !offered_) throw Violation(std::string(ports_.name) + " was offered and then withdrawn");
    if (waiting_ && row_ != before_) throw Violation(std::string(ports_.name) + " changed before it was taken");
    waiting_ = offered_ && !ready_;
    before_ = row_;
    return offered_ && ready_ ? row_.data() : nullptr;
  }
  bool offered() const { return offered_; }
  void drive(bool room) {
    const bool hold = pause_.hold();
    ready_ = !ports_.ready.data || (room && !hold && (!late_ || (offered_ && !ready_)));
    ports_.ready.set(ready_);
  }

 private:
  StreamPorts ports_;
  uint32_t salt_;
  Bytes row_, before_;
  Pause pause_;
  bool late_ = false, ready_ = false, waiting_ = false, offered_ = false;
};

// Waveforms of a model that was built with them.
template <typename Unit>
class Waves {
 public:
  void open(Unit& unit, const char* file) {
#if VM_TRACE
    unit.contextp()->traceEverOn(true);
    unit.trace(&trace_, 99);
    trace_.open(file);
    open_ = true;
#endif
  }
  void close() {
#if VM_TRACE
    if (open_) trace_.close();
    open_ = false;
#endif
  }
  // Half a clock later.
  void step() {
#if VM_TRACE
    if (open_) trace_.dump(time_++);
#endif
  }

 private:
#if VM_TRACE
  VerilatedVcdC trace_;
  bool open_ = false;
  uint64_t time_ = 0;
#endif
};

// A model with its ports and waveforms, half a clock at a time.
template <typename Context, typename Unit, typename Table>
struct Clocked {
  Context context;
  Unit unit{&context};
  Table table{unit};
  Waves<Unit> waves;
  uint64_t now = 0;

  void settle() {
    table.clk.set(false);
    unit.eval();
    waves.step();
  }
  void edge() {
    table.clk.set(true);
    unit.eval();
    waves.step();
    now++;
  }
};
