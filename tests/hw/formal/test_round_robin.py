"""Who wants is granted: one at a time, and nobody waits longer than all others take once."""

import pytest
from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.bus.round_robin import RoundRobin
from rtl_gen.proof import prove

pytestmark = pytest.mark.formal


class Contract(wiring.Component):
    """Watches each of them from when it wants on; `patience` is how many others may be granted before it."""

    def __init__(self, count, patience):
        self.count, self.patience = count, patience
        super().__init__({"wants": In(count), "moves": In(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = RoundRobin(self.count)
        m.d.comb += [dut.wants.eq(self.wants), dut.moves.eq(self.moves)]
        m.d.comb += [
            Assert((dut.grant & ~self.wants) == 0),
            Assert((dut.grant & (dut.grant - 1)) == 0),
            Assert(dut.grant.any() == self.wants.any()),
            Assert(dut.grant == Mux(self.wants.any(), 1 << dut.number, 0)),
        ]
        # How many were granted since it began to want; it may give up.
        for one in range(self.count):
            waited = Signal(range(self.count + 1), name=f"waited{one}")
            mine = self.wants[one] & ~dut.grant[one]
            m.d.sync += waited.eq(Mux(mine, waited + self.moves, 0))
            with m.If(mine & self.moves):
                m.d.comb += Assert(waited < self.patience)
        return m


@pytest.mark.parametrize("count", [2, 5])
def test_nobody_waits_longer_than_all_others_take(count):
    proof = prove(Contract(count, count - 1), f"round_robin_{count}", timeout=300)
    assert proof, proof.output


def test_less_patience_is_found(tmp_path):
    assert not prove(Contract(4, 2), "round_robin_fault", engine="bmc", depth=10, folder=tmp_path)
