"""The walk through a tensor's vectors is where division says, and ends with the last vector, whoever stalls it."""

import pytest
from amaranth.hdl import Assert, Assume, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from golden.parameters import preset
from hw.near_memory.closed_loop.vector_walk import VectorWalk
from rtl_gen.proof import prove

pytestmark = pytest.mark.formal

LANES = 4
CLOCKS = 14
"""Of the runs that are looked at: the start, and a walk of every length in `VECTORS` with stalls."""

VECTORS, CHANNELS = 6, 11
"""Of a tensor, at most: up to three vectors a position."""


class Walk(wiring.Component):
    """Counts the vectors that come, and says where each must be by multiplications alone."""

    def __init__(self, *, fault=False):
        self.fault = fault
        super().__init__({"vectors": In(3), "channels": In(4), "of": In(2), "by_channels": In(1), "ready": In(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = VectorWalk(preset("tiny"))
        given = ("vectors", "channels", "of", "by_channels")
        kept, started, begun = {name: Signal.like(getattr(self, name)) for name in given}, Signal(), Signal()
        m.d.sync += [started.eq(1), begun.eq(started)]
        for name in given:
            m.d.sync += kept[name].eq(getattr(self, name))
            m.d.comb += [getattr(dut, name).eq(getattr(self, name))]
            with m.If(started):
                m.d.comb += Assume(getattr(self, name) == kept[name])
        m.d.comb += [
            Assume((self.vectors != 0) & (self.vectors <= VECTORS)),
            Assume((self.channels != 0) & (self.channels <= CHANNELS)),
            Assume((self.of * LANES >= self.channels) & (self.of * LANES < self.channels + LANES)),
            Assume(~self.by_channels | (self.of > 1)),
            dut.start.eq(~started),
            dut.o.ready.eq(self.ready),
        ]
        o, wide = dut.o.p, self.channels >= LANES
        count, last = Signal(4), Signal(4)
        taken = dut.o.valid & dut.o.ready
        m.d.sync += count.eq(count + taken)
        # By channels: as many more as one turn has, or the first of the next turn.
        onwards, turn = Signal(4), Signal(4)
        with m.If(taken):
            m.d.sync += last.eq(o.index)
            with m.If(o.index + self.of >= self.vectors):
                m.d.sync += turn.eq(turn + 1)
        m.d.comb += onwards.eq(Mux(last + self.of < self.vectors, last + self.of, turn))
        first, begins = Signal(), count == 0
        m.d.comb += first.eq(Mux(self.by_channels, o.number == turn, 1))
        with m.If(dut.o.valid):
            m.d.comb += [
                Assert(o.index == Mux(begins, 0, Mux(self.by_channels, onwards, count))),
                Assert(o.index < self.vectors),
                Assert(o.end == (count == self.vectors - 1 - self.fault)),
                Assert(first),
            ]
            with m.If(wide):
                m.d.comb += [
                    Assert(o.position * self.of + o.number == o.index),
                    Assert(o.number < self.of),
                    Assert(o.channel == o.number * LANES),
                    Assert(o.channel + o.used == Mux(o.number == self.of - 1, self.channels, o.channel + LANES)),
                ]
            with m.Else():
                m.d.comb += [
                    Assert(o.position * self.channels + o.channel == o.index * LANES),
                    Assert((o.channel < self.channels) & (o.used == LANES)),
                ]
        # Nothing comes behind the last one.
        with m.If(count == self.vectors):
            m.d.comb += Assert(~dut.o.valid)
        return m


def test_every_vector_is_where_division_says():
    proof = prove(Walk(), "vector_walk", engine="bmc", depth=CLOCKS, timeout=300)
    assert proof, proof.output


def test_a_walk_that_ends_early_is_found(tmp_path):
    assert not prove(Walk(fault=True), "vector_walk_fault", engine="bmc", depth=CLOCKS, timeout=300, folder=tmp_path)
