"""No engine begins before its tokens are there, and an offer stays as it is: for runs of any length."""

import pytest
from amaranth.hdl import Assert, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from golden.machine.command import ENGINES
from hw.control.dispatcher import TOKENS_MAX, Dispatcher
from rtl_gen.proof import prove

pytestmark = pytest.mark.formal


class Contract(wiring.Component):
    """Counts the tokens from one engine to another one, all of whose operations are the proof's choice."""

    def __init__(self, source, target):
        self.source, self.target = source, target
        pair = {name: In(1) for name in ("valid", "ready", "token", "opcode")}
        super().__init__({f"{engine}_{name}": member for engine in ("s", "t") for name, member in pair.items()})

    def elaborate(self, platform):
        m = Module()
        m.submodules.dispatcher = dut = Dispatcher()
        source, target = ENGINES.index(self.source), ENGINES.index(self.target)
        for side, engine in (("s", self.source), ("t", self.target)):
            i, o = getattr(dut, f"{engine}_i"), getattr(dut, engine)
            m.d.comb += [
                i.valid.eq(getattr(self, f"{side}_valid")),
                i.p.operation.opcode.eq(getattr(self, f"{side}_opcode")),
                o.ready.eq(getattr(self, f"{side}_ready")),
            ]
        m.d.comb += [
            getattr(dut, f"{self.source}_i").p.push[target].eq(self.s_token),
            getattr(dut, f"{self.target}_i").p.pop[source].eq(self.t_token),
        ]

        # What an operation pushes and pops is noted as it goes in: one stands in the dispatcher at a time.
        pushes, pops = Signal(), Signal()
        for side, engine, noted in (("s", self.source, pushes), ("t", self.target, pops)):
            i = getattr(dut, f"{engine}_i")
            with m.If(i.valid & i.ready):
                m.d.sync += noted.eq(getattr(self, f"{side}_token"))
        tokens = Signal(range(TOKENS_MAX + 2))
        pushed = dut.taken[source] & pushes
        popped = dut.begun[target] & pops
        m.d.sync += tokens.eq(tokens + pushed - popped)
        with m.If(popped):
            m.d.comb += Assert(tokens != 0)
        m.d.comb += Assert(tokens <= TOKENS_MAX + 1)

        o = getattr(dut, self.target)
        held, opcode = Signal(), Signal()
        m.d.sync += [held.eq(o.valid & ~o.ready), opcode.eq(o.p.opcode)]
        with m.If(held):
            m.d.comb += Assert(o.valid & (o.p.opcode == opcode))
        # For the induction: what is counted here is what stands in the dispatcher.
        standing = dut.standings[target]
        m.d.comb += Assert((tokens == standing.tokens[source]) | (tokens == standing.tokens[source] + 1))
        return m


@pytest.mark.parametrize(("source", "target"), [("load", "emit"), ("multiply", "load")])
def test_no_token_is_taken_that_was_not_given(source, target):
    proof = prove(Contract(source, target), f"dispatcher_{source}_{target}", timeout=300)
    assert proof, proof.output
