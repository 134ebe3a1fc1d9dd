"""The verbs of the stream tests themselves: what is put is what is got, and what is wrong fails."""

import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.stream import Stage
from tests.hw.streams import exchange, pack, stream_assert, stream_get, stream_put, unpack

pytestmark = pytest.mark.unit


class Adder(wiring.Component):
    """Adds 2 in two clocks, and drops odd results if asked to."""

    def __init__(self, *, drop_odd=False):
        self.drop_odd = drop_odd
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform):
        m = Module()
        s = Stage.begin(m, self.i)
        s.value = (self.i.payload + 2)[:8]
        s = s.cut()
        if self.drop_odd:
            s.valid = s.valid & ~s.value[0]
        s.finish(self.o, s.value, depth=2)
        return m


def test_verbs():
    from amaranth.sim import Simulator

    dut = Adder()
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
        exchange(Adder(drop_odd=True), range(60), limit=500)
    with pytest.raises(AssertionError, match=r"more than 10 payloads came$"):
        exchange(Adder(drop_odd=True), range(60), outputs=10)


def test_pack_and_unpack():
    from amaranth.hdl import signed
    from amaranth.lib import data

    shape = data.StructLayout({"a": signed(4), "b": data.ArrayLayout(signed(3), 3), "c": data.StructLayout({"d": 1})})
    value = {"a": -8, "b": [-4, 3, -1], "c": {"d": 1}}
    assert pack(shape, value) == 0b1_111_011_100_1000
    assert unpack(shape, pack(shape, value)) == value
    with pytest.raises(ValueError, match=r"^8 does not fit signed\(4\)$"):
        pack(shape, {"a": 8})
