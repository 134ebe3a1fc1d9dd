"""Each channel of a bus between two clocks loses nothing, repeats nothing, keeps order, whatever the others carry.

Both clocks are ticks of one, each with an enable that is free: every interleaving of edges is one of these runs.
"""

import pytest
from amaranth.hdl import Assert, Cat, DomainRenamer, EnableInserter, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.bus.axi import AXI4, AXI4Lite
from hw.bus.crossing import Crossing
from rtl_gen.proof import prove

pytestmark = pytest.mark.formal

DEPTH = 2


class Contract(wiring.Component):
    """Follows one payload of the proof's choice through a channel and counts the others; all inputs are free.

    With `mixed`, a payload is said to come with the bits of its fields in another order.
    """

    def __init__(self, bus, channel, *, mixed=False):
        self.bus, self.channel, self.mixed = bus, channel, mixed
        sides = {
            f"{side}_{name}": In(member.shape)
            for side, flow in (("i", Out), ("o", In))
            for name, member in bus.members.items()
            if member.flow == flow
        }
        super().__init__({**sides, **{name: In(1) for name in ("master_ticks", "slave_ticks", "follow")}})

    def elaborate(self, platform):
        m, bus, channel = Module(), self.bus, self.channel
        crossing = Crossing(bus, depth=DEPTH, master="one", slave="two")
        ticking = EnableInserter({"one": self.master_ticks, "two": self.slave_ticks})(crossing)
        m.submodules.crossing = DomainRenamer({"one": "sync", "two": "sync"})(ticking)
        for name, member in bus.members.items():
            side = "i" if member.flow == Out else "o"
            m.d.comb += getattr(getattr(crossing, side), name).eq(getattr(self, f"{side}_{name}"))

        forth = bus.members[f"{channel}valid"].flow == Out
        source, target = (crossing.i, crossing.o) if forth else (crossing.o, crossing.i)
        ticks = (self.master_ticks, self.slave_ticks) if forth else (self.slave_ticks, self.master_ticks)
        fields = [name for name in bus.members if name.startswith(channel)]
        fields = [name for name in fields if name[len(channel) :] not in ("valid", "ready")]
        came, goes = Cat(getattr(source, name) for name in fields), Cat(getattr(target, name) for name in fields)
        valid = getattr(target, f"{channel}valid")
        inside, ahead = Signal(range(DEPTH + 2)), Signal(range(DEPTH + 2))
        following, value, put, get = Signal(), Signal.like(came), Signal(), Signal()
        m.d.comb += [
            put.eq(getattr(source, f"{channel}valid") & getattr(source, f"{channel}ready") & ticks[0]),
            get.eq(valid & getattr(target, f"{channel}ready") & ticks[1]),
        ]
        m.d.sync += inside.eq(inside + put - get)
        with m.If(get & following):
            m.d.sync += [ahead.eq(ahead - 1), following.eq(ahead != 0)]
            with m.If(ahead == 0):
                m.d.comb += Assert(goes == (value.rotate_left(1) if self.mixed else value))
        with m.If(put & self.follow & ~following):
            m.d.sync += [following.eq(1), value.eq(came), ahead.eq(inside - get)]
        held, last = Signal(), Signal.like(goes)
        m.d.sync += [held.eq(valid & ~get), last.eq(goes)]
        with m.If(held):
            m.d.comb += Assert(valid & (goes == last))
        m.d.comb += [Assert((inside != 0) | ~valid), Assert(inside <= DEPTH)]
        return m


@pytest.mark.parametrize("channel", ["aw", "w", "b", "ar", "r"])
def test_contract(channel):
    proof = prove(Contract(AXI4(12, 32), channel), f"crossing_{channel}", timeout=300)
    assert proof, proof.output


def test_fields_in_another_order_break_the_contract(tmp_path):
    assert not prove(Contract(AXI4Lite(4), "b", mixed=True), "crossing_mixed", folder=tmp_path)
