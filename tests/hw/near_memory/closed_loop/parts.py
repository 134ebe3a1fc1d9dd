"""Parts of the emit engine with what they leave to others, f and readers; and tensors of random numbers in memory."""

import numpy as np
import pytest
from amaranth.hdl import Const, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from golden.machine import image
from golden.machine.accelerator import MachineError
from hw.control.engine import Engine
from hw.near_memory.closed_loop.functions import Functions
from hw.near_memory.closed_loop.vectors import join_memory, ports_to_memory
from hw.stream.shared import share
from rtl_gen.verilog import emission, lint
from sim import engine
from tests.hw.interpreter import interpreter

BORDER = ("settings", "z", "x")


class OnMemory(Engine):
    """A part with ports of vectors, and the readers and writers that they are for; `left` stays inside."""

    name = "emit"

    def __init__(self, part, left=()):
        self.part, self._left = part, left
        super().__init__(part.parameters)

    def _members(self, parameters):
        common = ("operation", "error", "overflow", "poisoned", *self._left)
        members = dict(self.part.signature.members) | ports_to_memory(self.part)
        return super()._members(parameters) | {name: member for name, member in members.items() if name not in common}

    def elaborate(self, platform):
        m = Module()
        m.submodules.part = part = self.part
        for name, member in self.signature.members.items():
            inner, outer = getattr(part, name), getattr(self, name)
            if name in ports_to_memory(part):
                target = join_memory(m, name, outer, inner.signature, self.parameters)
                share(m, target, [(Const(1, 1), inner)])
            elif member.is_signature:
                wiring.connect(m, inner, wiring.flipped(outer))
            elif name != "overflow":
                m.d.comb += outer.eq(inner) if member.flow == Out else inner.eq(outer)
        self._inside(m, part)
        return m

    def _inside(self, m, part):
        """What the part leaves to others."""
        m.d.comb += self.overflow.eq(part.overflow)


class WithFunctions(OnMemory):
    """A part and `Functions`, as the emit engine joins them."""

    def __init__(self, part):
        super().__init__(part, BORDER)

    def _inside(self, m, part):
        m.submodules.functions = functions = Functions(self.parameters)
        wiring.connect(m, part.z, functions.i)
        wiring.connect(m, functions.o, part.x)
        m.d.comb += [functions.settings.eq(part.settings), self.overflow.eq(part.overflow | functions.overflow)]


def check(dut, memory, regions, operations, carry_out, flows, **options):
    """The part does what the interpreter's method `carry_out` does: the same memory, the same bytes of each flow."""
    expected = interpreter(dut.parameters, memory, regions)
    for operation in operations:
        carry_out(expected, operation)
    outcome = engine.run(dut, memory, regions, operations, **options)
    assert outcome.error is None and len(outcome.clocks) == len(operations), outcome.sentence
    np.testing.assert_array_equal(outcome.memory, expected.memory)
    for name in flows:
        assert outcome.moved[name] == expected.counters[f"memory_{name}"], name


def check_refusal(dut, memory, regions, operation, carry_out, cause):
    """The part refuses what the interpreter refuses, for the same cause."""
    with pytest.raises(MachineError) as found:
        carry_out(interpreter(dut.parameters, memory, regions), operation)
    assert engine.run(dut, memory, regions, [operation]).error == found.value.cause == cause


def states(rng, shape, p):
    """Random elements of every magnitude, in every other tensor some of them poisoned."""
    most = 2 ** (p.state_width - 1)
    y = rng.integers(1 - most, most, shape) >> rng.integers(0, p.state_width - 1, shape)
    return np.where(rng.random(shape) < 0.03 * rng.integers(2), -most, y)


def write(space, at, data):
    """Bytes at an operand's place, of a region that begins at 0."""
    begin = at * 32
    space[begin : begin + data.size] = data.ravel()


def vectors(elements, p, rng=None):
    """Bytes of a tensor; with `rng`, noise for padding past the channels of a position."""
    found = image.vectors_of(elements, p.lanes)
    if rng is not None and elements.shape[1] >= p.lanes:
        rows = found.reshape(len(elements), -1)
        padding = rows[:, elements.shape[1] :]
        padding[:] = states(rng, padding.shape, p)
    return image.pack_vectors(found, p)


def complaints(component):
    """What lint has to say about a component's Verilog."""
    (row,) = lint.check_files({"unit": emission.emit(component, name="unit").text})
    return [complaint for reader in ("verilator", "yosys", "slang") for complaint in row[reader]]
