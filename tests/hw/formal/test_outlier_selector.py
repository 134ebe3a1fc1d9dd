import pytest
from amaranth.hdl import Assert, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In

from hw.stream import Stage
from hw.units.outlier_selector import select_outliers
from rtl_gen.proof import prove

pytestmark = pytest.mark.formal


class EqualsNaiveCount(wiring.Component):
    """The selection beside a walk over the lanes that counts flags one by one, as numerics section 4 reads.

    The value of a lane is an input of one bit that tells the lanes apart: the selection copies bits, all 16 alike.
    """

    def __init__(self, lanes, outliers, *, broken=False):
        self.lanes, self.outliers, self.broken = lanes, outliers, broken
        super().__init__({"flags": In(lanes), "values": In(data.ArrayLayout(1, lanes))})

    def elaborate(self, platform):
        m = Module()
        # The fault of the test's own test: the second lane from the end is thought never to be flagged.
        flags = self.flags & ~(self.broken << (self.lanes - 2))
        i, o = (stream.Signature(0).create(path=(name,)) for name in "io")
        s = select_outliers(Stage.begin(m, i), flags, self.values, outliers=self.outliers)
        slots, selected, remaining = s.slots, s.selected, s.rest
        s.finish(o, Const(0, 0), depth=0)
        count, fields = 0, [(0, 0, 0)] * self.outliers
        rest = []
        for lane in range(self.lanes):
            for slot in range(self.outliers):
                take = Signal(name=f"take{lane}_{slot}")
                m.d.comb += take.eq(self.flags[lane] & (count == slot))
                found = zip((1, lane, self.values[lane]), fields[slot], strict=True)
                fields[slot] = tuple(Mux(take, new, old) for new, old in found)
            rest.append(self.flags[lane] & (count == self.outliers))
            total = Signal(range(self.outliers + 1), name=f"naive{lane}")
            m.d.comb += total.eq(Mux(count == self.outliers, count, count + self.flags[lane]))
            count = total
        for slot, (valid, lane, value) in zip(slots, fields, strict=True):
            m.d.comb += [Assert(slot.valid == valid), Assert(slot.lane == lane), Assert(slot.value == value)]
        m.d.comb += [Assert(remaining == Cat(rest)), Assert(selected == (self.flags & ~Cat(rest)))]
        return m


@pytest.mark.parametrize("lanes, outliers", [(4, 1), (4, 4), (7, 2), (16, 1), (16, 2), (32, 4), (60, 1), (60, 4)])
def test_selects_what_a_walk_over_the_lanes_does(lanes, outliers):
    assert prove(EqualsNaiveCount(lanes, outliers), f"selector_{lanes}_{outliers}", timeout=300).proven


def test_the_proof_can_fail(tmp_path):
    result = prove(EqualsNaiveCount(16, 2, broken=True), "selector_broken", folder=tmp_path)
    assert not result.proven
    assert result.trace.is_file()
