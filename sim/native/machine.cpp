// The whole machine: a memory behind its AXI4 port, a master of its registers, and its interrupt.
// `table.h` is written beside the model and lists its ports; `sim/machine/verilated.py` calls what is exported here.
#include "axi.h"
#include "table.h"
#include "visible.h"

namespace {

constexpr unsigned kPatience = 1000;  // clocks that an access to a register may take

// Threads are set before there is a model.
struct Context : VerilatedContext {
  Context() { threads(kThreads); }
};

// Clocks from one that something is offered in to one that it is taken in.
struct Watched {
  const uint8_t *valid, *ready;
  std::vector<uint64_t> spans;  // begin and end of each
  bool begun = false;

  void look(uint64_t now) {
    if (!*valid) return;
    if (!begun) spans.push_back(now);
    begun = !*ready;
    if (!begun) spans.push_back(now + 1);
  }
};

struct Machine : Clocked<Context, Unit, Table> {
  AxiMemory memory{table.memory};
  LiteMaster registers{table.registers};
  MemorySettings settings;
  std::string message;
  std::vector<Visible> signals = visible(unit);
  std::vector<Watched> watched;

  void clock() {
    settle();
    memory.sample(now);
    registers.sample();
    for (Watched& one : watched) one.look(now);
    edge();
    memory.drive(now);
    registers.drive();
  }

  void reset(unsigned clocks) {
    table.rst.set(true);
    memory.start(settings);
    registers.start();
    memory.drive(now);
    registers.drive();
    for (unsigned i = 0; i < clocks; i++) {
      settle();
      edge();
    }
    table.rst.set(false);
  }

  void finish_access() {
    registers.drive();
    for (unsigned i = 0; registers.busy(); i++) {
      if (i == kPatience) throw Violation("registers do not answer");
      clock();
    }
    if (registers.response()) throw Violation("registers answer with response " + std::to_string(registers.response()));
  }
};

// What `body` throws is kept as a message; whether it threw nothing.
template <typename Body>
int guarded(Machine* machine, Body body) try {
  body();
  return 0;
} catch (const Violation& violation) {
  machine->message = violation.what();
  return 1;
} catch (const std::exception& error) {
  machine->message = error.what();
  return 2;
}

}  // namespace

EXPORT void* machine_open() try {
  return new Machine;
} catch (...) {
  return nullptr;
}

EXPORT void machine_close(Machine* machine) {
  Verilated::threadContextp(&machine->context);  // a scope leaves the current context, which may be another machine's
  machine->waves.close();
  delete machine;
}

EXPORT void machine_waves(Machine* machine, const char* file) { machine->waves.open(machine->unit, file); }

EXPORT void machine_memory(Machine* machine, uint8_t* bytes, uint64_t size) { machine->memory.place(bytes, size); }

EXPORT void machine_ranges(Machine* machine, const uint64_t* pairs, unsigned count) {
  machine->memory.ranges.clear();
  for (unsigned i = 0; i < count; i++) machine->memory.ranges.push_back({pairs[2 * i], pairs[2 * i + 1]});
}

EXPORT void machine_faults(Machine* machine, const uint64_t* triples, unsigned count) {
  machine->memory.faults.clear();
  for (unsigned i = 0; i < count; i++)
    machine->memory.faults.push_back({triples[3 * i] != 0, triples[3 * i + 1], uint8_t(triples[3 * i + 2])});
}

EXPORT void machine_settings(Machine* machine, uint64_t latency, uint64_t beats, uint64_t clocks, uint32_t seed,
                             unsigned flags) {
  machine->settings = {latency, beats, clocks, {seed, bool(flags & 1), bool(flags & 2), bool(flags & 4)}};
}

// A mutant of the machine instead of it, if the model has any; 0: none.
EXPORT void machine_mutant(Machine* machine, uint32_t number) { machine->table.mutant.assign(number); }

EXPORT int machine_reset(Machine* machine, unsigned clocks) {
  return guarded(machine, [=] { machine->reset(clocks); });
}

EXPORT int machine_write(Machine* machine, uint32_t offset, uint32_t value) {
  return guarded(machine, [=] {
    machine->registers.write(offset, value);
    machine->finish_access();
  });
}

EXPORT int machine_read(Machine* machine, uint32_t offset, uint32_t* value) {
  return guarded(machine, [=] {
    machine->registers.read(offset);
    machine->finish_access();
    *value = machine->registers.data();
  });
}

// So many clocks, or fewer if the machine interrupts.
EXPORT int machine_advance(Machine* machine, uint64_t clocks) {
  return guarded(machine, [=] {
    for (uint64_t i = 0; i < clocks && !machine->table.interrupt.high(); i++) machine->clock();
  });
}

EXPORT int machine_interrupts(Machine* machine) { return machine->table.interrupt.high(); }

EXPORT unsigned machine_signals(Machine* machine) { return machine->signals.size(); }
EXPORT const char* machine_signal(Machine* machine, unsigned number) { return machine->signals[number].path; }
EXPORT void machine_watch(Machine* machine, unsigned valid, unsigned ready) {
  machine->watched.push_back({machine->signals[valid].data, machine->signals[ready].data, {}, false});
}
EXPORT const uint64_t* machine_spans(Machine* machine, unsigned number, uint64_t* count) {
  *count = machine->watched[number].spans.size();
  return machine->watched[number].spans.data();
}
EXPORT void machine_forget(Machine* machine) {
  for (Watched& one : machine->watched) one.spans.clear(), one.begun = false;
}

EXPORT const char* machine_message(Machine* machine) { return machine->message.c_str(); }
EXPORT uint64_t machine_now(Machine* machine) { return machine->now; }
EXPORT int machine_idle(Machine* machine) { return machine->memory.idle(); }
EXPORT void machine_traffic(Machine* machine, uint64_t* counts) {
  const AxiMemory& memory = machine->memory;
  counts[0] = memory.bursts_read, counts[1] = memory.beats_read;
  counts[2] = memory.bursts_written, counts[3] = memory.beats_written;
}
