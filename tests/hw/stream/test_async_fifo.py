"""The queue between two clocks, at many ratios of them, while both sides hesitate."""

import random
import re

import pytest
from amaranth.sim import Simulator

from hw.stream.async_fifo import AsyncFifo
from tests.hw.lint import complaints
from tests.hw.streams import PATTERNS, refusal

pytestmark = pytest.mark.unit

PERIODS = [(10, 10), (10, 11), (10, 3), (3, 10), (10, 47), (47, 10)]


def carry(depth, periods, pattern, values, seed=1):
    """What comes out, and the times at which it did."""
    dut, draw = AsyncFifo(16, depth, i_domain="one", o_domain="two"), random.Random(seed)
    idle = 0.5 if pattern in ("idle", "both") else 0
    pressure = 0.5 if pattern in ("back_pressure", "both") else 0
    found = []

    async def put(ctx):
        for value in values:
            while draw.random() < idle:
                await ctx.tick("one")
            ctx.set(dut.i.payload, value)
            ctx.set(dut.i.valid, 1)
            await ctx.tick("one").until(dut.i.ready)
            ctx.set(dut.i.valid, 0)

    async def get(ctx):
        held, quiet, clock = None, 0, 0
        # All of it, and then long enough to see whether a payload comes twice.
        while len(found) < len(values) or quiet < 60:
            ready = draw.random() >= pressure
            ctx.set(dut.o.ready, ready)
            _, _, valid, payload = await ctx.tick("two").sample(dut.o.valid, dut.o.payload)
            clock += 1
            assert held is None or (valid and payload == held), "a waiting payload changed"
            held = payload if valid and not ready else None
            quiet = 0 if valid else quiet + 1
            assert quiet < 10_000, f"{len(found)} of {len(values)} payloads came"
            if valid and ready:
                found.append((payload, clock))

    simulator = Simulator(dut)
    simulator.add_clock(periods[0] * 1e-9, domain="one")
    simulator.add_clock(periods[1] * 1e-9, domain="two", phase=random.Random(seed).random() * periods[1] * 1e-9)
    simulator.add_testbench(put)
    simulator.add_testbench(get)
    simulator.run()
    return [payload for payload, _ in found], [clock for _, clock in found]


@pytest.mark.parametrize("periods", PERIODS)
@pytest.mark.parametrize("depth", [2, 4, 16])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_keeps_everything_in_order(depth, periods, pattern):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    values = random.Random(seed).choices(range(1 << 16), k=60)
    assert carry(depth, periods, pattern, values, seed)[0] == values


@pytest.mark.parametrize("depth, periods", [(8, (10, 10)), (8, (10, 11)), (8, (3, 10)), (16, (10, 11))])
def test_a_payload_in_each_clock_of_a_slower_output(depth, periods):
    _, clocks = carry(depth, periods, "none", range(100))
    assert clocks[-1] - clocks[0] <= 100


@pytest.mark.parametrize(
    ("depth", "error", "message"),
    [
        (1, ValueError, "Depth of a queue must be a power of two, at least 2, not 1"),
        (12, ValueError, "Depth of a queue must be a power of two, at least 2, not 12"),
        (None, TypeError, "Depth of a queue must be an integer, not None"),
    ],
)
def test_rejects(depth, error, message):
    found = refusal(lambda depth: AsyncFifo(8, depth, i_domain="one", o_domain="two"), depth)
    assert type(found) is error
    assert re.fullmatch(re.escape(message), str(found))


@pytest.mark.synth
def test_verilog_is_clean():
    assert not complaints(AsyncFifo(16, 8, i_domain="one", o_domain="two"))
