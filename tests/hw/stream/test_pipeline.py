import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.stream import Pipeline, enabled_cuts
from tests.hw.streams import PATTERNS, exchange, inspect, pack, stream_assert, stream_get, stream_put, unpack

pytestmark = pytest.mark.unit


class Adder(wiring.Component):
    """Adds 1 in each of `cuts` stages, and drops odd results if asked to."""

    def __init__(self, cuts, depth, *, drop_odd=False):
        self.cuts, self.depth, self.drop_odd = cuts, depth, drop_odd
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform):
        m = Module()
        pipe = Pipeline(m, self.i, self.o, cuts=self.cuts, depth=self.depth)
        value = self.i.payload
        for _ in range(self.cuts - 1):
            value = pipe.cut(value=(value + 1)[:8]).value
        total = (value + 1)[:8]
        pipe.finish(total, valid=~total[0] if self.drop_odd else None)
        return m


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("cuts, depth", [(1, 1), (3, 1), (3, 2), (3, 3), (4, 16)])
def test_every_depth_gives_the_same_results(cuts, depth, pattern):
    inputs = [(37 * index) % 256 for index in range(100)]
    result = exchange(Adder(cuts, depth), inputs, pattern=pattern)
    assert result.outputs == [(value + cuts) % 256 for value in inputs]


@pytest.mark.parametrize("cuts, depth", [(1, 1), (5, 2), (5, 5), (4, 16)])
def test_latency_is_the_number_of_enabled_cuts(cuts, depth):
    result = exchange(Adder(cuts, depth), range(20))
    assert {left - taken for left, taken in zip(result.left, result.taken, strict=True)} == {min(cuts, depth)}
    assert sum(enabled_cuts(cuts, depth)) == min(cuts, depth)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_payload_can_be_dropped_at_the_end(pattern):
    result = exchange(Adder(2, 2, drop_odd=True), range(60), outputs=30, pattern=pattern)
    assert result.outputs == [value + 2 for value in range(0, 60, 2)]


def test_finish_must_follow_the_last_inner_cut():
    class Early(wiring.Component):
        i: In(stream.Signature(1))
        o: Out(stream.Signature(1))

    early = inspect(Early())
    pipe = Pipeline(inspect(Module()), early.i, early.o, cuts=2, depth=2)
    with pytest.raises(ValueError, match=r"^finish must follow the last inner cut, not with 2 cuts left$"):
        pipe.finish(early.i.payload)


def test_verbs():
    """The verbs themselves: a payload put is the payload got, and a wrong expectation fails."""
    from amaranth.sim import Simulator

    dut = Adder(2, 2)
    got = []

    async def producer(ctx):
        for value in (1, 2, 3):
            await stream_put(ctx, dut.i, value)

    async def consumer(ctx):
        got.append(await stream_get(ctx, dut.o))
        await stream_assert(ctx, dut.o, 4)
        with pytest.raises(AssertionError, match=r"^got 5, expected 6$"):
            await stream_assert(ctx, dut.o, 6)
        got.append("done")

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(producer)
    simulator.add_testbench(consumer)
    simulator.run()
    assert got == [3, "done"]


def test_exchange_notices_lost_and_surplus_payloads():
    with pytest.raises(AssertionError, match=r"^30 of 60 payloads after 500 clocks$"):
        exchange(Adder(2, 2, drop_odd=True), range(60), limit=500)
    with pytest.raises(AssertionError, match=r"more than 10 payloads came$"):
        exchange(Adder(2, 2, drop_odd=True), range(60), outputs=10)


def test_pack_and_unpack():
    from amaranth.hdl import signed
    from amaranth.lib import data

    shape = data.StructLayout({"a": signed(4), "b": data.ArrayLayout(signed(3), 3), "c": data.StructLayout({"d": 1})})
    value = {"a": -8, "b": [-4, 3, -1], "c": {"d": 1}}
    assert pack(shape, value) == 0b1_111_011_100_1000
    assert unpack(shape, pack(shape, value)) == value
    with pytest.raises(ValueError, match=r"^8 does not fit signed\(4\)$"):
        pack(shape, {"a": 8})
