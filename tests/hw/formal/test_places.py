"""A walk gives each vector of its loops once, in their order, with the place that multiplication says, whoever stalls.

Numbers are small, and so is the divider: bits of its dividend, and zeros that it passes in a clock, are all that is
changed of the hardware.
"""

import pytest
from amaranth.hdl import Assert, Assume, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from golden.parameters import preset
from hw.near_memory.closed_loop import places
from rtl_gen.proof import prove

pytestmark = pytest.mark.formal

N = 4
"""Lanes."""

FREE = {
    "first": 3,
    "rows": 1,
    "row_step": 2,
    "outer": range(1, 3),
    "outer_step": 2,
    "inner": range(1, 3),
    "inner_step": 2,
    "channels": range(1, 8),
    "positions": 3,
}
"""Bits of each field, or what it may be."""

DIVIDEND_WIDTH = 5
"""Enough for n times the largest number."""

CLOCKS = 58
"""In which the longest walk ends, if nothing stalls it."""

FIRST, STALLED = 30, 32
"""Clocks of runs in which the first vectors come, and of those that are stalled."""


class Walk(wiring.Component):
    """One walk, and nothing after it."""

    def __init__(self, monkeypatch, *, stalls=False, fault=False):
        self.stalls, self.fault = stalls, fault
        monkeypatch.setattr(places, "_DIVIDEND_WIDTH", DIVIDEND_WIDTH)
        monkeypatch.setattr(places, "_SKIP", DIVIDEND_WIDTH)
        super().__init__({name: In(shape) for name, shape in FREE.items()} | {"ready": In(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = places.Places(preset("tiny"))
        clock, done = Signal(range(CLOCKS + 1)), Signal()
        m.d.sync += clock.eq(clock + 1)
        now = {}
        for name, shape in FREE.items():
            given, kept = getattr(self, name), Signal(shape, name=f"{name}_kept")
            now[name] = Signal(shape, name=f"{name}_now")
            m.d.sync += kept.eq(now[name])
            m.d.comb += [now[name].eq(Mux(clock == 0, given, kept)), dut.i.p[name].eq(now[name])]
            if isinstance(shape, range):
                m.d.comb += Assume((given >= shape.start) & (given < shape.stop))
        m.d.comb += [dut.i.valid.eq(~done), dut.o.ready.eq(self.ready | ~Const(self.stalls))]
        # Turns of the three loops.
        row, outer, inner = Signal(1), Signal(2), Signal(2)
        last_inner, last_outer = inner + 1 == now["inner"], outer + 1 == now["outer"]
        end = last_inner & last_outer & (row == now["rows"])
        takes = dut.o.valid & dut.o.ready
        with m.If(takes):
            m.d.sync += inner.eq(Mux(last_inner, 0, inner + 1))
            with m.If(last_inner):
                m.d.sync += outer.eq(Mux(last_outer, 0, outer + 1))
                with m.If(last_outer):
                    m.d.sync += row.eq(row + 1)
            with m.If(end):
                m.d.sync += done.eq(1)
        o, channels, positions = dut.o.p, now["channels"], now["positions"]
        of = (channels + N - 1) >> 2
        index = Signal(8)
        m.d.comb += [
            index.eq(now["first"] + row * now["row_step"] + outer * now["outer_step"] + inner * now["inner_step"]),
            Assert(dut.i.ready == (takes & end)),
        ]
        with m.If(dut.o.valid):
            # Of a tensor with fewer channels than lanes: those from here on.
            elements = positions * channels - (index << 2)
            m.d.comb += [
                Assert(~done),
                Assert(o.index == index + self.fault * inner),
                Assert(o.begins == ((inner == 0) & (outer == 0))),
                Assert(o.end == end),
            ]
            with m.If(channels >= N):
                rest = channels - o.channel
                m.d.comb += [
                    Assert(o.position * of + (o.channel >> 2) == index),
                    Assert((o.channel & (N - 1)) == 0),
                    Assert(o.channel < channels),
                    Assert(o.used == Mux(o.position < positions, Mux(rest < N, rest, N), 0)),
                ]
            with m.Else():
                m.d.comb += [
                    Assert(o.position * channels + o.channel == index << 2),
                    Assert(o.channel < channels),
                    Assert(o.used == Mux(elements > 0, Mux(elements < N, elements, N), 0)),
                ]
        if not self.stalls:
            with m.If(clock == CLOCKS - 1):
                m.d.comb += Assert(done)
        return m


def test_the_first_vectors_are_where_multiplication_says(monkeypatch):
    proof = prove(Walk(monkeypatch), "places_first", engine="unrolled", depth=FIRST, timeout=300)
    assert proof, proof.output


@pytest.mark.slow
@pytest.mark.parametrize("stalls", [False, True])
def test_every_vector_is_where_multiplication_says(stalls, monkeypatch):
    dut = Walk(monkeypatch, stalls=stalls)
    proof = prove(dut, "places", engine="unrolled", depth=STALLED if stalls else CLOCKS, timeout=900)
    assert proof, proof.output


def test_another_vector_is_found(monkeypatch, tmp_path):
    dut = Walk(monkeypatch, fault=True)
    assert not prove(dut, "places_fault", engine="unrolled", depth=FIRST, timeout=300, folder=tmp_path)
