"""The queue that goes back, against a list: random puts, gets and returns to any word that is still kept."""

import random

import pytest
from amaranth.lib import data
from amaranth.sim import Simulator

from hw.link.recall import Recall
from tests.hw.streams import refusal

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("depth", [2, 8])
def test_against_a_list(depth, fresh_seed):
    draw, dut = random.Random(fresh_seed), Recall(data.StructLayout({"data": 16}), depth)
    words, returns = [draw.getrandbits(16) for _ in range(600)], 0

    async def run(ctx):
        nonlocal returns
        put, following, kept = 0, 0, 0
        while following < len(words):
            kept = draw.choice([kept, draw.randint(kept, following), following])
            again = draw.random() < 0.1
            back = draw.randint(kept, following)
            offered, ready = put < len(words) and draw.random() < 0.8, draw.random() < 0.7
            ctx.set(dut.i.valid, offered)
            ctx.set(dut.i.p.data, words[put] if offered else 0)
            ctx.set(dut.o.ready, ready)
            for port, value in ((dut.kept, kept), (dut.back, back)):
                ctx.set(port, value % (2 * depth))
            ctx.set(dut.again, again)
            await ctx.delay(0)
            assert ctx.get(dut.i.ready) == (put - kept < depth)
            put += bool(offered and ctx.get(dut.i.ready))
            if ctx.get(dut.o.valid) and ready:
                assert ctx.get(dut.o.p.word.data) == words[following]
                assert ctx.get(dut.o.p.number) == following % (2 * depth)
                following += 1
            if again:
                following, returns = back, returns + 1
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(run)
    simulator.run()
    assert returns > 20


@pytest.mark.parametrize("depth", [1, 12])
def test_rejects(depth):
    expected = f"depth must be a power of two, at least 2, not {depth}"
    assert str(refusal(Recall, data.StructLayout({"data": 16}), depth)) == expected
