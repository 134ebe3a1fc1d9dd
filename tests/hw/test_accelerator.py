"""The accelerator around its engines: registers, programs, memory, counters, errors, resets, on the emitted Verilog."""

import dataclasses
import functools
import random

import numpy as np
import pytest

from golden.machine.command import (
    Accumulate,
    Combine,
    End,
    Interrupt,
    Loop,
    Multiply,
    Operand,
    Stamp,
    Step,
    Stop,
    Wait,
    assemble,
)
from golden.machine.registers import CAUSES, COUNTERS, IDENTITY, fingerprint, register
from golden.parameters import Parameters
from hw.accelerator import Accelerator
from rtl_gen.verilog import emission, lint
from sim.machine.verilated import Fault, MachineModel, Memory, VerilatedPort
from tests.hw.movers import TINY, moved, moving_machine
from tests.hw.streams import refusal

pytestmark = pytest.mark.cocotb

REGIONS = [(8, 120), (128, 64), (192, 64), (256, 64), (320, 64), (384, 64), (448, 64), (0, 0)]
UNITS = 512


@functools.cache
def model(width=128):
    return MachineModel(moving_machine(TINY.with_settings([f"memory_width={width}"])), optimise="-O1")


class Machine:
    """The machine behind its registers."""

    def __init__(self, memory, *, width=128, how=None, faults=()):
        how = how or Memory(latency=7)
        self.port = VerilatedPort(model(width), TINY.with_settings([f"memory_width={width}"]), memory, how, faults)
        for number, (base, limit) in enumerate(REGIONS):
            self.set(f"region{number}_base", base)
            self.set(f"region{number}_limit", limit)

    def set(self, name, value):
        self.port.write(register(name).offset, value)

    def get(self, name, field=None):
        found = register(name)
        value = self.port.read(found.offset)
        if field is None:
            return value
        slot = next(one for one in found.fields if one.name == field)
        return (value & slot.mask) >> slot.low

    def start(self, commands, *, watchdog=20_000):
        self.set("program", Operand(0, 0).encode())
        self.set("program_size", commands)
        self.set("watchdog", watchdog)
        self.set("control", 1 | 16)

    def wait(self, clocks=100_000):
        for _ in range(clocks // 64):
            if not self.get("status", "busy"):
                return
            self.port.advance(64)
        raise AssertionError("the machine must come to an end")

    def counters(self):
        self.set("control", 8)
        return {
            counter.name: self.get(f"{counter.name}_low") | self.get(f"{counter.name}_high") << 32
            for counter in COUNTERS
        }

    def error(self):
        return CAUSES[self.get("error", "cause")], self.get("error", "engine"), self.get("error", "tag")


def filled(program, seed=1):
    """Memory with a program at the beginning of region 0, noise elsewhere."""
    memory = np.frombuffer(random.Random(seed).randbytes(32 * UNITS), np.uint8).copy()
    words = assemble(program)
    first = 32 * REGIONS[0][0]
    memory[first : first + words.nbytes] = words.view(np.uint8).ravel()
    return memory, len(words)


def random_moves(draw, length):
    """Copies that wait for each other wherever they could meet: a chain of tokens."""
    program, engine = [], None
    for number in range(length):
        count = draw.randrange(1, 9)
        regions = draw.sample(range(1, 7), 2)
        source, target = (Operand(region, draw.randrange(64 - count)) for region in regions)
        following = draw.choice(["accumulate", "emit"])
        pop = (engine,) if engine not in (None, following) else ()
        if program and pop:
            program[-1] = dataclasses.replace(program[-1], push=(following,))
        if following == "accumulate":
            program.append(Accumulate(origin=source, state=target, first=count, tag=number, pop=pop))
        else:
            program.append(Combine(source1=source, state=target, vectors=count, tag=number, pop=pop))
        engine = following
    return [*program, Stop()]


@pytest.mark.parametrize("width", [32, 128, 256])
@pytest.mark.parametrize("mode", ["none", "both"])
def test_programs_leave_the_memory_that_they_should(width, mode):
    for seed in range(3):
        draw = random.Random(f"{width} {mode} {seed}")
        program = random_moves(draw, 12)
        memory, commands = filled(program, seed)
        expected, total = moved(memory, program, REGIONS)
        machine = Machine(memory, width=width, how=Memory(latency=7, mode=mode, seed=seed))
        machine.start(commands)
        machine.wait()
        machine.counters()
        memory[:] = filled(program, seed)[0]
        machine.start(commands)
        machine.wait()
        assert machine.get("status", "done") and not machine.get("status", "error"), machine.error()
        np.testing.assert_array_equal(memory, expected)
        counters = machine.counters()
        assert counters["memory_states_read"] == counters["memory_states_written"] == total
        assert counters["accumulate_operations"] + counters["emit_operations"] == 12
        # Nothing is lost of what begins as counters are cleared, and nothing of the run before is left.
        assert counters["commands"] == commands
        for engine in ("load", "multiply", "accumulate", "emit"):
            assert counters[f"{engine}_busy"] + counters[f"{engine}_waiting"] <= counters["clocks"]


def test_registers_say_what_the_machine_is():
    machine = Machine(np.zeros(32 * UNITS, np.uint8))
    assert machine.get("id") == IDENTITY
    assert machine.get("parameters") == fingerprint(TINY)
    assert machine.get("capabilities") == 0b011  # attention and tables
    assert [machine.get(f"region{number}_{part}") for number in range(8) for part in ("base", "limit")] == [
        value for pair in REGIONS for value in pair
    ]


def test_stamps_interrupts_and_loops():
    body = [Accumulate(origin=Operand(1), state=Operand(2), first=2), Wait(accumulate=True), Stamp(tag=7)]
    program = [Loop(turns=3, steps=(Step(1, 4), Step(2, 5))), *body, End(), Interrupt(tag=99), Stamp(tag=8), Stop()]
    memory, commands = filled(program)
    before = memory.copy()
    machine = Machine(memory)
    machine.set("interrupt_enable", 4)
    machine.start(commands)
    machine.wait()
    for turn in range(3):
        source, target = 32 * (REGIONS[1][0] + 4 * turn), 32 * (REGIONS[2][0] + 5 * turn)
        np.testing.assert_array_equal(memory[target : target + 64], before[source : source + 64])
    assert machine.get("interrupt") == 5 and machine.get("reached") == 99
    machine.set("interrupt", 4)
    assert machine.get("interrupt") == 1
    tags, clocks = [], []
    assert machine.get("trace", "stamps") == 4 and not machine.get("trace", "lost")
    for _ in range(4):
        tags.append(machine.get("trace", "tag"))
        clocks.append(machine.get("trace_clock"))
        machine.set("control", 32)
    assert tags == [7, 7, 7, 8] and clocks == sorted(clocks) and len(set(clocks)) == 4
    assert machine.get("trace") == 0


def test_sticky_bits_and_errors_of_fields():
    memory, commands = filled([Multiply(half=True, lines=3), Multiply(tag=0x5A, columns=255), Stop()])
    machine = Machine(memory)
    machine.set("interrupt_enable", 2)
    machine.start(commands)
    machine.wait()
    assert machine.get("sticky") == 1
    machine.set("sticky", 1)
    assert machine.get("sticky") == 0
    assert machine.error() == ("field", 1, 0x5A) and machine.get("interrupt") == 2
    assert machine.get("error_position") == 3


@pytest.mark.parametrize("engine", ["accumulate", "emit", "fetch"])
def test_an_access_past_a_limit_does_not_leave_the_machine(engine):
    # The memory model refuses whatever lies in no region.
    copy = {"accumulate": Accumulate(origin=Operand(5, 60), state=Operand(2), first=9, tag=3)}
    copy["emit"] = Combine(source1=Operand(1), state=Operand(6, 62), vectors=3, tag=3)
    program = [copy[engine], Stop()] if engine != "fetch" else [*[Stamp()] * 130, Stop()]
    memory, commands = filled(program)
    expected = memory.copy()
    machine = Machine(memory)
    machine.start(commands)
    machine.wait()
    number = {"accumulate": 2, "emit": 3, "fetch": 15}[engine]
    assert machine.error() == ("region", number, 0 if engine == "fetch" else 3)
    if engine != "fetch":
        assert machine.get("error_address") == {"accumulate": 68, "emit": 64}[engine]
        np.testing.assert_array_equal(memory, expected)
    else:
        assert machine.get("error_position") == 120


def test_a_beat_that_memory_refuses_is_an_error_of_its_engine():
    program = [Accumulate(origin=Operand(1), state=Operand(2), first=8, tag=0x77), Stop()]
    memory, commands = filled(program)
    seen = set()
    for write, beat in [(False, 0), (False, 3), (False, 2 * commands + 4), (True, 5)]:
        machine = Machine(memory.copy(), faults=[Fault(write, beat, 3)])
        machine.start(commands)
        machine.wait()
        cause, engine, tag = machine.error()
        assert cause == "bus" and machine.get("error", "response") == 3
        assert (engine, tag) in ((2, 0x77), (15, 0)), (engine, tag)
        seen.add(engine)
        # The machine is as new.
        machine.start(commands)
        machine.wait()
        assert machine.get("status", "done")
    assert seen == {2, 15}


def test_the_watchdog_tells_who_waits():
    memory, commands = filled([Combine(pop=("accumulate",), tag=5, vectors=1), Stop()])
    machine = Machine(memory)
    machine.start(commands, watchdog=500)
    machine.port.advance(1000)
    assert machine.get("emit_command", "waiting") == 4 and machine.get("emit_command", "tag") == 5
    assert machine.get("emit_command", "opcode") == 0x40 and machine.get("emit_command", "queued") == 1
    machine.wait()
    assert machine.error() == ("watchdog", 3, 5)


def test_after_a_reset_at_any_clock_the_next_program_is_right():
    draw = random.Random(11)
    program = random_moves(draw, 10)
    clean, commands = filled(program)
    # The program itself is in region 0, which no copy writes: it may run again on what the first run left.
    machine = Machine(clean.copy(), how=Memory(latency=9, mode="both", seed=3))
    memory = machine.port.memory
    for _ in range(60):
        memory[:] = clean
        machine.start(commands)
        machine.port.advance(draw.randrange(1, 1600))
        machine.set("control", 2)
        machine.wait()
        assert machine.get("status") == 0
        memory[:] = clean
        machine.start(commands)
        machine.wait()
        assert machine.get("status", "done"), machine.error()
        np.testing.assert_array_equal(memory, moved(clean, program, REGIONS)[0])


def test_the_verilog_has_no_complaint():
    text = emission.emit(moving_machine(), name="accelerator").text
    (found,) = lint.check_files({"accelerator": text})
    assert not [complaint for reader in lint.READERS for complaint in found[reader]]


def test_the_open_loop_is_refused():
    sentence = "exponent_policy must be group for the closed loop, not layer"
    machine = Parameters(exponent_policy="layer", output_passes=1)
    assert str(refusal(Accelerator, machine, [])) == sentence
