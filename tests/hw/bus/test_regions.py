import random

import pytest
from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.sim import Simulator

from hw.bus.regions import RegionTable
from tests.hw.lint import complaints

pytestmark = pytest.mark.unit


def test_what_the_host_wrote_is_found_also_after_a_reset():
    draw = random.Random(8)
    m, reset = Module(), Signal()
    table = RegionTable()
    m.submodules.table = ResetInserter(reset)(table)
    values = [draw.getrandbits(32) for _ in range(16)]

    async def bench(ctx):
        for number in range(8):
            ctx.set(table.lookup.region, number)
            assert (ctx.get(table.lookup.base), ctx.get(table.lookup.limit)) == (0, 0)
        for address in draw.sample(range(16), 16):
            ctx.set(table.address, address)
            ctx.set(table.write_data, values[address])
            ctx.set(table.write_enable, 1)
            await ctx.tick()
            ctx.set(table.write_enable, 0)
            ctx.set(table.write_data, 5)
            await ctx.tick()
        ctx.set(reset, 1)
        await ctx.tick()
        for address in range(16):
            ctx.set(table.address, address)
            assert ctx.get(table.read_data) == values[address]
        for number in range(8):
            ctx.set(table.lookup.region, number)
            assert [ctx.get(table.lookup.base), ctx.get(table.lookup.limit)] == values[2 * number : 2 * number + 2]

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.synth
def test_verilog_is_clean():
    assert not complaints(RegionTable())
