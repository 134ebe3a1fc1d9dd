"""An engine that leaves f to others, with f; and tensors of random numbers in memory."""

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import wiring

from golden.machine import image
from hw.control.engine import Engine
from hw.near_memory.closed_loop.functions import Functions
from rtl_gen.verilog import emission, lint

BORDER = ("settings", "z", "x")


class WithFunctions(Engine):
    """`engine` and `Functions`, as the emit engine joins them."""

    name = "emit"

    def __init__(self, engine):
        self.engine = engine
        super().__init__(engine.parameters)

    def _members(self, parameters):
        common = ("operation", "error", "overflow", "poisoned", *BORDER)
        return {name: member for name, member in self.engine.signature.members.items() if name not in common}

    def elaborate(self, platform):
        m = Module()
        m.submodules.engine = engine = self.engine
        m.submodules.functions = functions = Functions(self.parameters)
        wiring.connect(m, engine.z, functions.i)
        wiring.connect(m, functions.o, engine.x)
        for name, member in self.signature.members.items():
            inner, outer = getattr(engine, name), getattr(self, name)
            if member.is_signature:
                wiring.connect(m, inner, wiring.flipped(outer))
            elif name != "overflow":
                m.d.comb += outer.eq(inner)
        m.d.comb += [functions.settings.eq(engine.settings), self.overflow.eq(engine.overflow | functions.overflow)]
        return m


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
