"""The queue loses nothing, repeats nothing, keeps order, and does not sit on what it holds: for runs of any length."""

import pytest
from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.stream import Fifo
from rtl_gen.proof import prove

pytestmark = pytest.mark.formal


FAULTS = ("lost", "repeated", "replaced", "changed", "stuck")


class Faulty(wiring.Component):
    """A queue that loses a payload, repeats one, gives one the value of another, changes one that waits, or takes none.

    It does so when it holds two payloads.
    """

    def __init__(self, depth, fault):
        self.depth, self.fault = depth, fault
        super().__init__({"i": In(stream.Signature(1)), "o": Out(stream.Signature(1))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.fifo = fifo = Fifo(1, self.depth)
        wiring.connect(m, wiring.flipped(self.i), fifo.i)
        wiring.connect(m, fifo.o, wiring.flipped(self.o))
        inside = Signal(range(self.depth + 3))
        put, get = self.i.valid & self.i.ready, self.o.valid & self.o.ready
        m.d.sync += inside.eq(inside + put - get)
        two = inside == 2
        if self.fault == "lost":
            m.d.comb += fifo.i.valid.eq(self.i.valid & ~two)
        if self.fault == "repeated":
            m.d.comb += fifo.o.ready.eq(self.o.ready & ~two)
        if self.fault == "replaced":
            m.d.comb += [fifo.i.payload.eq(Mux(two, self.o.payload, self.i.payload))]
        if self.fault == "changed":
            m.d.comb += self.o.payload.eq(fifo.o.payload ^ (two & self.i.valid))
        if self.fault == "stuck":
            m.d.comb += [self.i.ready.eq(fifo.i.ready & ~two), fifo.i.valid.eq(self.i.valid & ~two)]
        return m


class Contract(wiring.Component):
    """Follows one payload of the proof's choice through the queue and counts the others."""

    def __init__(self, fifo, depth):
        self.fifo, self.depth = fifo, depth
        super().__init__({"valid": In(1), "payload": In(1), "ready": In(1), "follow": In(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.fifo = fifo = self.fifo
        m.d.comb += [
            fifo.i.valid.eq(self.valid),
            fifo.i.payload.eq(self.payload),
            fifo.o.ready.eq(self.ready),
        ]
        inside, ahead = Signal(range(self.depth + 3)), Signal(range(self.depth + 3))
        following, value = Signal(), Signal()
        put, get = self.valid & fifo.i.ready, fifo.o.valid & self.ready
        m.d.sync += inside.eq(inside + put - get)
        with m.If(get & following):
            m.d.sync += [ahead.eq(ahead - 1), following.eq(ahead != 0)]
            with m.If(ahead == 0):
                m.d.comb += Assert(fifo.o.payload == value)
        with m.If(put & self.follow & ~following):
            m.d.sync += [following.eq(1), value.eq(self.payload), ahead.eq(inside - get)]

        held, waited = Signal(), Signal()
        last = Signal()
        m.d.sync += [held.eq(fifo.o.valid & ~self.ready), last.eq(fifo.o.payload), waited.eq(inside != 0)]
        with m.If(held):
            m.d.comb += Assert(fifo.o.valid & (fifo.o.payload == last))
        with m.If(inside == 0):
            m.d.comb += Assert(~fifo.o.valid)
        with m.If((inside != 0) & waited & ~fifo.o.valid):
            # Only a queue that was emptied down to its newest payload may show nothing for a clock.
            m.d.comb += Assert(inside == 1)
        with m.If(inside < self.depth):
            m.d.comb += Assert(fifo.i.ready)
        m.d.comb += Assert(inside <= self.depth + 1)
        return m


@pytest.mark.parametrize("depth", [2, 4])
def test_contract(depth):
    proof = prove(Contract(Fifo(1, depth), depth), f"fifo_{depth}", timeout=300)
    assert proof, proof.output


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_breaks_the_contract(fault, tmp_path):
    assert not prove(Contract(Faulty(4, fault), 4), f"fifo_{fault}", timeout=300, folder=tmp_path)
