"""Replays of `DeltaQuantizer`: every vector ends, and each flagged lane is sent once, as what it is (numerics 3.7).

What a flagged lane is, and what the groups of a vector are, is told by integers and counts from the law alone.
"""

import pytest
from amaranth.hdl import Assert, Assume, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from golden.parameters import POISONED_GROUP, ZERO_GROUP, preset
from hw.units.delta_quantizer import DeltaQuantizer
from rtl_gen.proof import prove

pytestmark = pytest.mark.formal

LANES = 4

CLOCKS = 7
"""Of the runs that are looked at: a vector of as many groups as there can be, after two clocks, and the next begins."""

LARGEST = 0x7C00
"""Magnitudes from here on are not finite."""


def units(value):
    """Magnitude of an FP16 number as a number of 2^-24."""
    fraction, field = value[:10], value[10:15]
    return Mux(field == 0, fraction, (fraction | 1 << 10) << (field - 1)[:5])[:41]


class Replays(wiring.Component):
    """Follows one vector of the proof's choice past those before it, group by group; nothing pauses."""

    def __init__(self, outliers, *, fault=False):
        self.p = preset("tiny").with_settings(
            [
                f"lanes={LANES}",
                f"outliers={outliers}",
                "exponent_policy=layer",
                "overflow_policy=replay",
                "pipeline_depth=2",
            ]
        )
        self.fault = fault
        ports = {name: In(1) for name in ("follow", "first_pass")}
        super().__init__(ports | {"exponent": In(6), "floor": In(6), "values": In(16 * LANES)})

    def elaborate(self, platform):
        m = Module()
        p, k, slots = self.p, self.p.digit_width, self.p.outliers
        m.submodules.dut = dut = DeltaQuantizer(p)
        i, o, top = dut.i, dut.o, 42 - k
        m.d.comb += [
            Assume((self.exponent <= top) & (self.floor <= top)),
            i.valid.eq(1),
            o.ready.eq(1),
            i.p.values.as_value().eq(self.values),
            i.p.first_pass.eq(self.first_pass),
            i.p.exponent.eq(self.exponent),
            i.p.floor.eq(self.floor),
        ]
        comes, goes = i.valid & i.ready, o.valid & o.ready
        ends = goes & o.p.last
        # Vectors that are inside, those of them before the one that is followed, and groups of that which have left.
        inside, ahead, chosen, group = Signal(4), Signal(4), Signal(), Signal(3)
        values, first_pass, code = Signal(16 * LANES), Signal(), Signal(6)
        m.d.sync += inside.eq(inside + comes - ends)
        here = chosen & (ahead == 0)
        with m.If(ends & chosen):
            m.d.sync += [ahead.eq(ahead - 1), chosen.eq(~here)]
        with m.If(goes & here):
            m.d.sync += group.eq(group + 1)
        with m.If(comes & self.follow & ~chosen):
            m.d.sync += [chosen.eq(1), ahead.eq(inside - ends), group.eq(0)]
            m.d.sync += [values.eq(self.values), first_pass.eq(self.first_pass), code.eq(self.exponent)]
        m.d.comb += Assert(~o.valid | (inside != 0))

        lanes = [values[16 * lane : 16 * lane + 16] for lane in range(LANES)]
        poisoned = Cat(value[:15] >= LARGEST for value in lanes).any()
        overflow = [(units(value) << 1 >= Const((1 << k) - 1, k) << code) & ~poisoned for value in lanes]
        flagged = [Signal(name=f"flagged{lane}") for lane in range(LANES)]
        m.d.comb += [flag.eq(over & first_pass) for flag, over in zip(flagged, overflow, strict=True)]
        ranks = [Signal(3, name=f"rank{lane}") for lane in range(LANES + 1)]
        m.d.comb += [after.eq(rank + flag) for rank, after, flag in zip(ranks, ranks[1:], flagged, strict=False)]
        # All groups before this one have taken `group * slots` flagged lanes.
        groups, begin = o.p.group, Signal(4)
        m.d.comb += begin.eq(group * slots)
        with m.If(o.valid & here):
            m.d.comb += [
                Assert(o.p.last == (begin + slots >= ranks[-1])),
                Assert(groups.replay == (group != 0)),
                Assert(o.p.overflow == Cat(overflow)),
            ]
            for slot in range(slots):
                holds = [flag & (rank == begin + slot) for flag, rank in zip(flagged, ranks, strict=False)]
                found = groups.outliers[slot]
                m.d.comb += Assert(found.valid == Cat(holds).any())
                for lane, value in enumerate(lanes):
                    with m.If(holds[lane]):
                        m.d.comb += Assert((found.lane == lane) & (found.value == value + self.fault))
            empty = ~groups.digits.as_value().any() & (ranks[-1] == 0)
            m.d.comb += Assert(groups.exponent == Mux(poisoned, POISONED_GROUP, Mux(empty, ZERO_GROUP, code)))
            for lane, digit in enumerate(groups.digits):
                nothing = (group != 0) | flagged[lane] | poisoned
                m.d.comb += Assert(~nothing | (digit == 0))
                with m.If(overflow[lane] & ~first_pass):
                    m.d.comb += Assert(digit == Mux(lanes[lane][15], -p.digit_max, p.digit_max))
                m.d.comb += Assert(poisoned | ~overflow[lane] | (o.p.residual[lane] == 0))
        # None stays inside: one that is there comes in the clocks of the pipeline.
        waits = Signal(3)
        m.d.sync += waits.eq(Mux((inside != 0) & ~o.valid, waits + 1, 0))
        m.d.comb += Assert(waits <= dut.latency)
        return m


@pytest.mark.slow
@pytest.mark.parametrize("outliers", [1, 2])
def test_every_flagged_lane_is_sent_once(outliers):
    proof = prove(Replays(outliers), f"replays_{outliers}", engine="bmc", depth=CLOCKS, timeout=600)
    assert proof, proof.output


def test_a_value_that_differs_is_found(tmp_path):
    dut = Replays(1, fault=True)
    assert not prove(dut, "replays_fault", engine="bmc", depth=CLOCKS, timeout=600, folder=tmp_path)
