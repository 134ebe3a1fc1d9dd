"""The queues between bus and ports: no word lost, none twice, each at its port and in order, none stuck."""

import pytest
from amaranth.hdl import Assert, Assume, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.bus.bursts import LENGTH_WIDTH
from hw.bus.queues import ReadQueues, WriteQueues
from rtl_gen.proof import prove

pytestmark = pytest.mark.formal

DEPTH = 32
CLOCKS = {"Reads": 8, "Writes": 9}
"""Clocks of the runs that are looked at: from the reset until words of both ports have passed, and a queue is full."""


class Followed:
    """One word of the proof's choice, on its way past the others of its port."""

    def __init__(self, m, put, get, follow, value, found):
        self.inside = Signal(range(4 * DEPTH))
        ahead, following, kept = Signal(range(4 * DEPTH)), Signal(), Signal.like(value)
        m.d.sync += self.inside.eq(self.inside + put - get)
        with m.If(get):
            m.d.comb += Assert(self.inside != 0)
        with m.If(get & following):
            m.d.sync += [ahead.eq(ahead - 1), following.eq(ahead != 0)]
            with m.If(ahead == 0):
                m.d.comb += Assert(found == kept)
        with m.If(put & follow & ~following):
            m.d.sync += [following.eq(1), kept.eq(value), ahead.eq(self.inside - get)]


class Reads(wiring.Component):
    """Words of two ports come in bursts that fit; those of port 1 are followed."""

    def __init__(self, *, fault=False):
        self.fault = fault
        ports = {name: In(1) for name in ("cuts", "burst_port", "valid", "port", "ready0", "ready1", "follow")}
        super().__init__(ports | {"length": In(LENGTH_WIDTH), "word": In(8)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = ReadQueues(8, 2, DEPTH)
        cuts = Signal()
        m.d.comb += [
            cuts.eq(self.cuts & dut.ready & (dut.fits | self.fault)),
            dut.cuts.eq(cuts),
            dut.burst_port.eq(self.burst_port),
            dut.length.eq(self.length),
            dut.valid.eq(self.valid),
            dut.port.eq(self.port),
            dut.word.eq(self.word),
            dut.words[0].ready.eq(self.ready0),
            dut.words[1].ready.eq(self.ready1),
        ]
        asked = [Signal(range(2 * DEPTH), name=f"asked{port}") for port in range(2)]
        for port in range(2):
            came = self.valid & (self.port == port)
            m.d.sync += asked[port].eq(asked[port] + Mux(cuts & (self.burst_port == port), self.length + 1, 0) - came)
            m.d.comb += Assume(~came | (asked[port] != 0))
        words = dut.words[1]
        get = words.valid & self.ready1
        one = Followed(m, self.valid & (self.port == 1), get, self.follow, self.word, words.payload)
        m.d.comb += Assert(asked[1] + one.inside <= DEPTH + 2)
        # Where there is a word, it is offered soon, whatever the other port does.
        stuck = Signal(range(8))
        m.d.sync += stuck.eq(Mux((one.inside != 0) & ~words.valid, stuck + 1, 0))
        m.d.comb += Assert(stuck <= 4)
        return m


class Writes(wiring.Component):
    """Two ports give words, bursts are cut that are there, and their words leave; those of port 1 are followed."""

    def __init__(self, *, fault=False):
        self.fault = fault
        ports = {name: In(1) for name in ("cuts", "burst_port", "valid0", "valid1", "ready", "follow")}
        super().__init__(ports | {"length": In(LENGTH_WIDTH), "word": In(8)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = WriteQueues(8, 2, DEPTH)
        cuts = Signal()
        out, bursts = dut.burst_words, dut.bursts
        m.d.comb += [
            cuts.eq(self.cuts & dut.ready & (dut.fits | self.fault) & bursts.ready),
            dut.cuts.eq(cuts),
            dut.burst_port.eq(self.burst_port),
            dut.length.eq(self.length),
            bursts.valid.eq(cuts),
            bursts.payload.port.eq(self.burst_port),
            bursts.payload.length.eq(self.length),
            dut.words[0].valid.eq(self.valid0),
            dut.words[1].valid.eq(self.valid1),
            dut.words[0].payload.data.eq(self.word),
            dut.words[1].payload.data.eq(self.word),
            dut.words[1].payload.strobe.eq(1),
            out.ready.eq(self.ready),
        ]
        # Only port 1 sets strobes.
        words = dut.words[1]
        mine = Signal()
        m.d.comb += mine.eq(out.valid & self.ready & out.payload.strobe[0])
        one = Followed(m, words.valid & words.ready, mine, self.follow, self.word, out.payload.data)
        m.d.comb += Assert(one.inside <= DEPTH + 1)
        # As many words as bursts say, and the last one is marked.
        owed, sent = Signal(8), Signal(8)
        m.d.sync += owed.eq(owed + Mux(cuts, self.length + 1, 0) - (out.valid & self.ready))
        with m.If(out.valid & self.ready):
            m.d.comb += Assert(owed != 0)
            m.d.sync += sent.eq(Mux(out.payload.last, 0, sent + 1))
            m.d.comb += Assert(sent < 16)
            with m.If(owed == 1):
                m.d.comb += Assert(out.payload.last)
        return m


@pytest.mark.parametrize("kind", [Reads, Writes])
def test_every_word_of_a_port_in_order(kind):
    proof = prove(kind(), f"queues_{kind.__name__}", engine="bmc", depth=CLOCKS[kind.__name__], timeout=300)
    assert proof, proof.output


@pytest.mark.parametrize("kind", [Reads, Writes])
def test_a_burst_that_does_not_fit_is_found(kind, tmp_path):
    dut = kind(fault=True)
    proof = prove(
        dut, f"queues_{kind.__name__}_fault", engine="bmc", depth=CLOCKS[kind.__name__], timeout=300, folder=tmp_path
    )
    assert not proof
