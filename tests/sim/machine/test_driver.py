"""The driver on registers: of the interpreter, and of a machine that is made up here."""

import dataclasses

import numpy as np
import pytest

from golden.machine import image
from golden.machine.accelerator import MachineError
from golden.machine.command import Combine, Operand, Stop
from golden.machine.registers import COUNTERS, IDENTITY, REGISTERS, fingerprint, register
from golden.parameters import preset
from rtl_gen.program.file import Program
from rtl_gen.program.memory import STATES, TABLES, Memory
from sim.machine import Driver, InterpreterPort, Timeout

pytestmark = pytest.mark.golden


def machine():
    return dataclasses.replace(preset("tiny"), state_format="fixed", exponent_policy="group", weight_form="aligned")


def sum_of_two(limit=None):
    """A program that adds two states; and what it leaves."""
    p = machine()
    memory = Memory(p)
    one, other, both = (memory.tensor(name, 2, 3, 5, 0) for name in ("one", "other", "both"))
    factor = memory.place(TABLES, image.pack_entries([0, 1]))
    rng = np.random.default_rng(4)
    values = [rng.integers(-1000, 1000, (6, 5)) for _ in range(2)]
    for tensor, content in zip((one, other), values, strict=True):
        memory.fill(tensor.data, image.pack_vectors(image.vectors_of(content, p.lanes), p))
    command = Combine(
        tag=7,
        state=both.data if limit is None else Operand(STATES, limit),
        source1=one.data,
        source2=other.data,
        factor1=factor,
        factor2=factor,
        vectors=both.vectors(p.lanes),
        terms=2,
        channels=5,
    )
    tensors = {"both": both}
    return Program.of(memory, [command, Stop()], tensors, {7: "sum"}), values[0] + values[1]


def driver(program):
    return Driver(InterpreterPort(program.parameters, np.zeros(len(program.image), np.uint8)))


def test_a_program_runs_and_is_counted():
    program, expected = sum_of_two()
    found = driver(program)
    for _ in range(2):  # counters start anew
        found.load(program)
        found.run()
        found.wait(0)
        np.testing.assert_array_equal(found.read(program.tensors["both"]), expected)
        counters = found.counters()
        assert counters["combined"] == program.tensors["both"].vectors(4) and counters["emit_operations"] == 1
        assert set(counters) == {counter.name for counter in COUNTERS}
    assert found.sticky == {"overflow": False, "poisoned": False}
    assert found.get("interrupt", "done") and found.dump().startswith("machine: the program has ended\nload: idle")


def test_an_error_is_told_in_words():
    program, _ = sum_of_two(limit=10_000)
    found = driver(program)
    found.load(program)
    found.run()
    with pytest.raises(MachineError, match="error region in the emit engine for sum, at unit 0 of memory") as raised:
        found.wait(0)
    assert (raised.value.cause, raised.value.tag) == ("region", 7)
    assert found.get("status", "error") and not found.get("status", "done")
    found.reset()
    assert found.dump().startswith("machine: nothing was started")


@dataclasses.dataclass
class MadeUp:
    """Registers that say what a test wants."""

    values: dict
    parameters: object = dataclasses.field(default_factory=machine)
    memory: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(1 << 16, np.uint8))
    clocks: int = 0

    def __post_init__(self):
        self.values = {one.offset: one.reset for one in REGISTERS} | {
            register(name).offset: value for name, value in self.values.items()
        }
        self.values.setdefault(register("parameters").offset, 0)
        self.values[register("parameters").offset] = fingerprint(self.parameters)

    def read(self, offset):
        return self.values[offset]

    def write(self, offset, value):
        if offset != register("control").offset:
            self.values[offset] = value

    def advance(self, clocks):
        self.clocks += clocks

    def spans(self):
        return {}


def test_where_every_engine_stands():
    port = MadeUp(
        {
            "status": 1,
            "load_command": 0x11 | 3 << 8 | 7 << 16,
            "load_traffic": 2 | 1 << 16,
            "multiply_command": 0x20 | 1 << 8 | 0b0001 << 12 | 9 << 16,
            "accumulate_tokens": 4 << 8,
        }
    )
    found = Driver(port)
    found.load(sum_of_two()[0])
    assert found.dump().splitlines() == [
        "machine: a program is under way",
        "load: LoadGroups for sum; 3 queued; 2 reads outstanding; 1 on the link",
        "multiply: Multiply (tag 0x0009); waits for a token of load; 1 queued",
        "accumulate: idle; tokens: 4 of multiply",
        "emit: idle",
    ]
    found.run()
    with pytest.raises(Timeout, match="^machine: a program is under way\nload: LoadGroups for sum"):
        found.wait(200_000)
    assert port.clocks == 200_000


class Interrupting(MadeUp):
    """Interrupts whatever is answered."""

    def advance(self, clocks):
        self.clocks += 1
        return True


def test_a_broken_machine_is_not_waited_for_for_ever():
    port = Interrupting({"status": 1, "interrupt": 4})
    found = Driver(port)
    found.load(sum_of_two()[0])
    found.run()
    with pytest.raises(Timeout, match="^machine: a program is under way"):
        found.wait(10_000)
    assert port.clocks < 10_000
    port = MadeUp({"status": 4})
    with pytest.raises(Timeout, match="^machine: the bus is draining after a reset"):
        Driver(port).reset()
    assert port.clocks == 1 << 16


@pytest.mark.parametrize(
    "name, value, sentence",
    [
        ("id", 1, f"id must be {IDENTITY:#x}, not 0x1"),
        ("version", 0x12, "version of the commands must be 0x1, not 0x2"),
    ],
)
def test_another_machine_is_refused(name, value, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        Driver(MadeUp({name: value}))


def test_another_build_and_a_small_memory_are_refused():
    program, _ = sum_of_two()
    other = dataclasses.replace(program.parameters, columns=3)
    with pytest.raises(ValueError, match="^program must be for the parameters of this machine$"):
        Driver(InterpreterPort(other, np.zeros(1 << 16, np.uint8))).load(program)
    with pytest.raises(ValueError, match=f"^memory must hold {len(program.image)} bytes, not 64$"):
        Driver(InterpreterPort(program.parameters, np.zeros(64, np.uint8))).load(program)
    with pytest.raises(ValueError, match="^a program must be loaded first$"):
        driver(program).run()
