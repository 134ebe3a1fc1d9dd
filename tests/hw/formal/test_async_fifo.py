"""The queue between two clocks loses nothing, repeats nothing, keeps order, whenever either clock ticks.

Both clocks are ticks of one, each with an enable that is free: every interleaving of edges is one of these runs.
"""

import pytest
from amaranth.hdl import Assert, DomainRenamer, EnableInserter, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.stream.async_fifo import AsyncFifo
from rtl_gen.proof import prove

pytestmark = pytest.mark.formal


class Contract(wiring.Component):
    """Follows one payload of the proof's choice through the queue and counts the others."""

    def __init__(self, depth, *, fault=False):
        self.depth, self.fault = depth, fault
        inputs = ("i_ticks", "o_ticks", "valid", "payload", "ready", "follow")
        super().__init__({name: In(1) for name in inputs})

    def elaborate(self, platform):
        m = Module()
        fifo = AsyncFifo(1, self.depth, i_domain="one", o_domain="two")
        ticking = EnableInserter({"one": self.i_ticks, "two": self.o_ticks})(fifo)
        m.submodules.fifo = DomainRenamer({"one": "sync", "two": "sync"})(ticking)
        m.d.comb += [fifo.i.valid.eq(self.valid), fifo.i.payload.eq(self.payload), fifo.o.ready.eq(self.ready)]
        inside, ahead = Signal(range(self.depth + 2)), Signal(range(self.depth + 2))
        following, value = Signal(), Signal()
        put, get = Signal(), Signal()
        m.d.comb += [
            put.eq(self.valid & fifo.i.ready & self.i_ticks),
            get.eq(fifo.o.valid & self.ready & (self.o_ticks | self.fault)),
        ]
        m.d.sync += inside.eq(inside + put - get)
        with m.If(get & following):
            m.d.sync += [ahead.eq(ahead - 1), following.eq(ahead != 0)]
            with m.If(ahead == 0):
                m.d.comb += Assert(fifo.o.payload == value)
        with m.If(put & self.follow & ~following):
            m.d.sync += [following.eq(1), value.eq(self.payload), ahead.eq(inside - get)]

        held, last = Signal(), Signal()
        m.d.sync += [held.eq(fifo.o.valid & ~get), last.eq(fifo.o.payload)]
        with m.If(held):
            m.d.comb += Assert(fifo.o.valid & (fifo.o.payload == last))
        with m.If(inside == 0):
            m.d.comb += Assert(~fifo.o.valid)
        with m.If(inside == self.depth):
            m.d.comb += Assert(~fifo.i.ready)
        m.d.comb += Assert(inside <= self.depth)
        return m


@pytest.mark.parametrize("depth", [2, 4])
def test_contract(depth):
    proof = prove(Contract(depth), f"async_fifo_{depth}", timeout=300)
    assert proof, proof.output


def test_a_fault_breaks_the_contract(tmp_path):
    assert not prove(Contract(2, fault=True), "async_fifo_fault", folder=tmp_path)
