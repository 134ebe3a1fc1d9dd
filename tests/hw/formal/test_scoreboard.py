"""A slot that is taken is never given again before it is released, and a free one is given at once."""

import pytest
from amaranth.hdl import Assert, Assume, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.near_memory import Scoreboard
from rtl_gen.proof import prove

pytestmark = pytest.mark.formal


class Contract(wiring.Component):
    """Watches one slot, any: `watched` does not change."""

    def __init__(self, *, broken=False):
        self.broken = broken
        slot = range(Scoreboard.slots)
        super().__init__({"valid": In(1), "slot": In(slot), "done": In(1), "released": In(slot), "watched": In(slot)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.board = board = Scoreboard()
        held, started, before = Signal(), Signal(), Signal.like(self.watched)
        m.d.sync += [started.eq(1), before.eq(self.watched)]
        m.d.comb += [
            Assume(~started | (before == self.watched)),
            # Only what was taken is released.
            Assume(~self.done | (self.released != self.watched) | held),
            board.claim.valid.eq(self.valid),
            board.claim.payload.eq(self.slot),
            board.release.valid.eq(self.done | (self.broken & self.valid)),
            board.release.payload.eq(self.released),
        ]
        watched = self.slot == self.watched
        with m.If(self.done & (self.released == self.watched)):
            m.d.sync += held.eq(0)
        with m.Elif(self.valid & board.claim.ready & watched):
            m.d.sync += held.eq(1)
        m.d.comb += Assert(~watched | (board.claim.ready == ~held))
        return m


def test_contract():
    assert prove(Contract(), "scoreboard")


def test_a_fault_breaks_the_contract(tmp_path):
    assert not prove(Contract(broken=True), "scoreboard_broken", folder=tmp_path)


def test_slots_are_all_bits_folded():
    from amaranth.sim import Simulator

    address, m = Signal(32), Module()
    found = Signal(6)
    m.d.comb += found.eq(Scoreboard.slot(address))

    async def bench(ctx):
        for bit in range(32):
            ctx.set(address, 1 << bit)
            assert ctx.get(found) == 1 << bit % 6

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
