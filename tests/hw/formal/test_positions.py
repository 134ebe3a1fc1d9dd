"""Elements go where ``docs/machine.md``, Tensors, says: none lost, doubled or out of place, and none read beyond.

The parts move elements and never look at them. So each element is its own number here, and where it comes out is
told by additions alone. Tensors, and rows that are cut into segments, follow each other with pauses on both sides.
"""

import pytest
from amaranth.hdl import Assert, Assume, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from golden.parameters import preset
from hw.near_memory.closed_loop.positions import Gather, Spread
from rtl_gen.proof import prove

pytestmark = pytest.mark.formal

LANES, U = 4, 2

POSITIONS, CHANNELS, ROW = 3, 7, 15
"""Of a tensor, at most, and elements of a row that is cut into segments."""

CLOCKS = {False: 24, True: 14}
"""Of the runs that are looked at, without and with stalls: without, the largest tensor ends, and another one begins."""

GIVEN = {"wide": 1, "channels": range(CHANNELS + 1), "positions": range(POSITIONS + 1)}


def whole(elements):
    """Elements of whole vectors."""
    return (elements + (LANES - 1)) & ~(LANES - 1)


class Tensors(wiring.Component):
    """Tensor after tensor goes through a part: what is given is drawn anew for each, and stays until it is done."""

    free: dict = {}

    def __init__(self, *, stalls=False, fault=False):
        self.stalls, self.fault = stalls, fault
        self.given = GIVEN | self.free
        members = {name: In(shape) for name, shape in self.given.items()}
        super().__init__(members | {name: In(1) for name in ("again", "valid", "ready")})

    def _run(self, m, dut):
        """Connect `dut`; returns what holds, whether parts come and go, and whether a tensor starts and runs."""
        now = {name: Signal(shape, name=f"{name}_now") for name, shape in self.given.items()}
        drawn, runs, stalled, clock = Signal(), Signal(), Signal(), Signal(range(CLOCKS[False] + 1))
        starts = drawn & ~runs
        m.d.sync += clock.eq(clock + 1)
        with m.If(~drawn):
            m.d.sync += [drawn.eq(1), *(value.eq(getattr(self, name)) for name, value in now.items())]
        with m.Elif(starts):
            m.d.sync += runs.eq(1)
        with m.Elif(dut.done & ~dut.o.valid & self.again):
            m.d.sync += [drawn.eq(0), runs.eq(0)]
        m.d.comb += [
            dut.start.eq(starts),
            *(getattr(dut, name).eq(value) for name, value in now.items()),
            dut.i.valid.eq((self.valid | ~Const(self.stalls)) & runs),
            dut.o.ready.eq(self.ready | ~Const(self.stalls)),
            Assume(self.channels != 0),
        ]
        with m.If(starts):
            m.d.comb += Assert(~dut.o.valid)
        m.d.sync += stalled.eq(stalled | (runs & dut.done & ~dut.o.valid & self.again) | ~self._ends(now))
        if not self.stalls:
            with m.If(clock == CLOCKS[False] - 1):
                m.d.comb += Assert((runs & dut.done) | stalled)
        return now, dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready, starts, runs

    def _ends(self, now):
        """Whether the tensor comes to an end."""
        return now["positions"] != 0


class Spreads(Tensors):
    """Parts of positions of each tensor that comes as vectors, or of each segment of rows."""

    free = {"skip": range(LANES), "row": range(ROW + 1)}

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = Spread(preset("tiny").with_settings([f"lanes={LANES}", f"near_lanes={U}"]))
        now, comes, goes, starts, runs = self._run(m, dut)
        wide, channels, positions, row = (now[name] for name in ("wide", "channels", "positions", "row"))
        # A row is a number of segments, and begins a vector; whole tensors have no rows.
        rows = [self.row == number * self.channels for number in range(1, ROW + 1)]
        m.d.comb += [
            Assume(Mux(self.row == 0, self.positions != 0, Cat(rows).any() & ~self.wide & (self.skip == 0))),
            Assume((self.row == 0) | (self.positions == 0)),
            Assume(~self.wide | (self.skip == 0)),
            Assume(self.wide | (self.channels < LANES) | (self.row != 0)),
        ]
        taken, given, place, channel = Signal(8), Signal(4), Signal(8), Signal(4)
        in_row, base = Signal(8), Signal(8)
        for lane, value in enumerate(dut.i.payload):
            m.d.comb += value.eq(taken * U + lane + 1)
        with m.If(comes):
            m.d.sync += taken.eq(taken + 1)
        used = [channel + lane < channels for lane in range(U)]
        ends = channel + U >= whole(channels)
        with m.If(goes):
            m.d.comb += [
                Assert(dut.o.p.used == Cat(used)),
                Assert(dut.o.p.last == (channel[: LANES.bit_length() - 1] == LANES - U)),
                Assert(dut.o.p.ends == ends),
                Assert((positions == 0) | (given < positions)),
                *(
                    Assert(value == Mux(here, place + lane + 1 + self.fault * (given == 2), 0))
                    for lane, (value, here) in enumerate(zip(dut.o.p["values"], used, strict=True))
                ),
            ]
            m.d.sync += [channel.eq(channel + U), place.eq(place + Mux(wide, U, sum(used)))]
            with m.If(ends):
                m.d.sync += [given.eq(given + 1), channel.eq(0), in_row.eq(in_row + channels)]
                with m.If((row != 0) & (in_row + channels == row)):
                    m.d.sync += [in_row.eq(0), base.eq(base + whole(row)), place.eq(base + whole(row))]
        total = Signal(8)
        m.d.comb += total.eq(Mux(wide, positions * whole(channels), whole(now["skip"] + positions * channels)))
        with m.If(runs & (positions != 0)):
            m.d.comb += Assert(taken * U <= total)
            with m.If(dut.done):
                m.d.comb += [Assert(taken * U == total), Assert((given == positions) | dut.o.valid)]
        with m.If(starts):
            m.d.sync += [taken.eq(0), given.eq(0), place.eq(now["skip"]), channel.eq(0), in_row.eq(0), base.eq(0)]
        return m


class Gathers(Tensors):
    """Vectors of each tensor that comes position by position, whatever stands in the padding of a narrow one."""

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = Gather(preset("tiny").with_settings([f"lanes={LANES}", f"near_lanes={U}"]))
        now, comes, goes, starts, runs = self._run(m, dut)
        wide, channels, positions = (now[name] for name in ("wide", "channels", "positions"))
        m.d.comb += Assume((self.positions != 0) & (self.wide | (self.channels < LANES)))
        taken, place, channel, given = Signal(8), Signal(8), Signal(4), Signal(8)
        for lane, value in enumerate(dut.i.p["values"]):
            there = channel + lane < channels
            m.d.comb += value.eq(Mux(there, place + lane + 1, Mux(wide, 0, 255)))
        ends = channel + U >= whole(channels)
        m.d.comb += dut.i.p.last.eq(channel[: LANES.bit_length() - 1] == LANES - U)
        with m.If(comes):
            m.d.comb += Assert(taken < positions)
            left = Mux(channel < channels, channels - channel, 0)
            m.d.sync += [channel.eq(channel + U), place.eq(place + Mux(wide, U, Mux(left < U, left, U)))]
            with m.If(ends):
                m.d.sync += [taken.eq(taken + 1), channel.eq(0)]
        total, in_position = Signal(8), Signal(8)
        m.d.comb += total.eq(Mux(wide, positions * whole(channels), whole(positions * channels)))
        with m.If(goes):
            m.d.comb += Assert(given < total)
            for lane, value in enumerate(dut.o.payload):
                there = Mux(wide, in_position + lane < channels, given + lane < positions * channels)
                m.d.comb += Assert(value == Mux(there, given + lane + 1 + self.fault * (given == 4), 0))
            m.d.sync += [given.eq(given + U), in_position.eq(in_position + U)]
            with m.If(in_position + U >= whole(channels)):
                m.d.sync += in_position.eq(0)
        with m.If(runs & dut.done):
            m.d.comb += [Assert(given == total), Assert(taken == positions)]
        with m.If(starts):
            m.d.sync += [taken.eq(0), place.eq(0), channel.eq(0), given.eq(0), in_position.eq(0)]
        return m


@pytest.mark.parametrize("stalls", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", [Spreads, Gathers])
def test_every_element_goes_to_its_place(kind, stalls):
    dut = kind(stalls=stalls)
    proof = prove(dut, f"positions_{kind.__name__}", engine="unrolled", depth=CLOCKS[stalls], timeout=900)
    assert proof, proof.output


@pytest.mark.parametrize("kind", [Spreads, Gathers])
def test_an_element_beside_its_place_is_found(kind, tmp_path):
    dut = kind(fault=True)
    assert not prove(
        dut, f"{kind.__name__}_fault", engine="unrolled", depth=CLOCKS[False], timeout=600, folder=tmp_path
    )
