// The bench of one engine: plays payloads into its streams, keeps what comes out, serves its memory ports.
// `table.h` is written beside the model and lists its ports; `sim/engine.py` calls what is exported here.
#include <memory>

#include "memory_ports.h"
#include "table.h"

namespace {

enum Outcome { kFinished, kViolation, kHung, kBroken };

struct Stream {
  StreamPorts ports;
  Bytes given, taken;
  uint64_t count = 0, next = 0;
  std::vector<uint64_t> cycles;
};

struct Bench : Clocked<VerilatedContext, Unit, Table> {
  std::vector<Stream> streams;
  std::vector<Source> sources;
  std::vector<Sink> sinks;
  std::vector<MemoryPort> memories;
  MemoryBus bus{memories};
  std::vector<Region> regions;
  std::vector<Bytes> seen;
  std::string message;
  bool beyond = false;

  Bench() {
    uint32_t salt = 1;
    for (const auto& ports : table.streams) {
      streams.push_back({ports, {}, {}, 0, 0, {}});
      sources.emplace_back(ports, salt);
      sinks.emplace_back(ports, salt++);
    }
    for (const auto& ports : table.memories) memories.emplace_back(ports, salt++);
    regions.resize(size_t(1) << kRegionWidth);
    for (const auto& port : table.status) seen.emplace_back(port.size());
  }

  // Resets the model for `clocks` clocks and forgets what the bench has seen.
  void reset(const Behaviour& how, unsigned latency, unsigned clocks, bool noise) {
    table.rst.set(true);
    for (unsigned clock = 0; clock < clocks; clock++) {
      for (size_t i = 0; i < streams.size(); i++)
        if (streams[i].ports.into) sources[i].noise(noise);
      for (auto& memory : memories) memory.noise(noise);
      settle();
      edge();
    }
    table.rst.set(false);
    now = 0;
    beyond = false;
    for (size_t i = 0; i < streams.size(); i++) {
      sources[i].start(how);
      sinks[i].start(how);
      streams[i].next = 0;
      streams[i].taken.clear();
      streams[i].cycles.clear();
    }
    for (auto& memory : memories) memory.start(how, latency);
    for (auto& bytes : seen) std::fill(bytes.begin(), bytes.end(), 0);
    drive();
  }

  void drive() {
    for (size_t i = 0; i < streams.size(); i++) {
      Stream& stream = streams[i];
      if (!stream.ports.into) {
        sinks[i].drive(true);
        continue;
      }
      if (sources[i].wants() && stream.next < stream.count)
        sources[i].offer(stream.given.data() + stream.next++ * stream.ports.payload.size());
      sources[i].rest();
    }
    for (auto& memory : memories) memory.drive();
  }

  bool failed() const {
    if (beyond) return true;
    return table.error >= 0 && std::any_of(seen[table.error].begin(), seen[table.error].end(), [](uint8_t b) { return b; });
  }

  bool finished() const {
    for (size_t i = 0; i < streams.size(); i++)
      if (streams[i].ports.into && (streams[i].next < streams[i].count || sources[i].offering())) return false;
    return true;
  }

  bool sample() {
    for (size_t i = 0; i < table.status.size(); i++) {
      Bytes row(table.status[i].size());
      table.status[i].get(row.data());
      for (size_t k = 0; k < row.size(); k++)
        if (int(i) != table.error || !failed()) seen[i][k] |= row[k];
    }
    bool moved = false;
    for (size_t i = 0; i < streams.size(); i++) {
      Stream& stream = streams[i];
      if (stream.ports.into) {
        if (!sources[i].sample()) continue;
        if (int(i) == table.operation) {
          if (failed()) throw Violation("an operation was taken after an error");
          for (const auto& memory : memories)
            if (!memory.idle())
              throw Violation(std::string("an operation was taken before ") + memory.name() + " was idle");
        }
      } else {
        const uint8_t* row = sinks[i].sample();
        if (!row) continue;
        stream.taken.insert(stream.taken.end(), row, row + stream.ports.payload.size());
      }
      stream.cycles.push_back(now);
      moved = true;
    }
    for (auto& memory : memories) moved |= memory.sample(now, regions);
    return moved | bus.step(now, regions);
  }

  Outcome play(uint64_t patience, uint64_t grace, uint64_t limit) {
    for (uint64_t quiet = 0; now < limit;) {
      settle();
      const bool moved = sample();
      edge();
      drive();
      quiet = moved ? 0 : quiet + 1;
      if (quiet >= grace && failed()) return kFinished;
      if (quiet >= grace && finished()) {
        for (const auto& memory : memories)
          if (!memory.idle())
            throw Violation(std::string(memory.name()) + (memory.writes() ? " was not given all words of a span"
                                                                          : " has words that were not taken"));
        return kFinished;
      }
      if (quiet >= patience) return kHung;
    }
    return kHung;
  }
};

}  // namespace

EXPORT void* bench_open() try {
  return new Bench;
} catch (...) {
  return nullptr;
}

EXPORT void bench_close(Bench* bench) {
  bench->waves.close();
  delete bench;
}

EXPORT void bench_waves(Bench* bench, const char* file) { bench->waves.open(bench->unit, file); }

EXPORT void bench_region(Bench* bench, unsigned number, uint64_t base, uint64_t limit, uint8_t* bytes) {
  bench->regions[number] = {base, limit, bytes};
}

EXPORT void bench_stream(Bench* bench, unsigned number, const uint8_t* rows, uint64_t count) {
  Stream& stream = bench->streams[number];
  stream.given.assign(rows, rows + count * stream.ports.payload.size());
  stream.count = count;
}

EXPORT void bench_setting(Bench* bench, unsigned number, const uint8_t* row) { bench->table.settings[number].put(row); }

EXPORT int bench_reset(Bench* bench, uint32_t seed, unsigned flags, unsigned latency, unsigned clocks, int noise) try {
  const Behaviour how{seed, bool(flags & 1), bool(flags & 2), bool(flags & 4)};
  bench->reset(how, latency, clocks, noise);
  return kFinished;
} catch (const std::exception& error) {
  bench->message = error.what();
  return kBroken;
}

EXPORT int bench_play(Bench* bench, uint64_t patience, uint64_t grace, uint64_t limit) try {
  bench->message.clear();
  return bench->play(patience, grace, limit);
} catch (const Beyond& beyond) {
  bench->beyond = true;
  const Span& span = beyond.span;
  bench->message = "bytes " + std::to_string(span.address) + ".." + std::to_string(span.address + span.bytes - 1) +
                   " of region " + std::to_string(span.region);
  return kFinished;
} catch (const Violation& violation) {
  bench->message = violation.what();
  return kViolation;
} catch (const std::exception& error) {
  bench->message = error.what();
  return kBroken;
}

EXPORT const char* bench_message(Bench* bench) { return bench->message.c_str(); }
EXPORT uint64_t bench_now(Bench* bench) { return bench->now; }
EXPORT int bench_beyond(Bench* bench) { return bench->beyond; }
EXPORT uint64_t bench_taken(Bench* bench, unsigned number) { return bench->streams[number].cycles.size(); }
EXPORT const uint64_t* bench_cycles(Bench* bench, unsigned number) { return bench->streams[number].cycles.data(); }
EXPORT const uint8_t* bench_payloads(Bench* bench, unsigned number) { return bench->streams[number].taken.data(); }
EXPORT const uint8_t* bench_seen(Bench* bench, unsigned number) { return bench->seen[number].data(); }
EXPORT uint64_t bench_moved(Bench* bench, unsigned number) {
  const MemoryPort& memory = bench->memories[number];
  return memory.writes() ? memory.written_bytes : memory.read_bytes;
}
