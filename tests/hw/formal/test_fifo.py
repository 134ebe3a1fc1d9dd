"""The queue loses nothing, repeats nothing, keeps order, and does not sit on what it holds: for runs of any length."""

import pytest
from amaranth.hdl import Assert, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.stream import Fifo
from rtl_gen.proof import prove

pytestmark = pytest.mark.formal


class Contract(wiring.Component):
    """Follows one payload of the proof's choice through the queue and counts the others."""

    def __init__(self, depth):
        self.depth = depth
        super().__init__({"valid": In(1), "payload": In(1), "ready": In(1), "follow": In(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.fifo = fifo = Fifo(1, self.depth)
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
    proof = prove(Contract(depth), f"fifo_{depth}", timeout=300)
    assert proof, proof.output
