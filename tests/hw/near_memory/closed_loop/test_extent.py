"""Places of positions against plain integers."""

import random

import pytest
from amaranth.sim import Simulator

from golden.parameters import preset
from hw.near_memory.closed_loop.extent import Extent

pytestmark = pytest.mark.unit


def expected(p, line, lines, width, channels):
    n, size = p.lanes, -(-p.lanes * p.state_width // 8)
    of = -(-channels // n)
    begin, positions = line * width, lines * width
    held = {"address": begin * of * size, "records": positions * of}
    if channels >= n:
        state, skip = held, 0
    else:
        first, end = begin * channels, (begin + positions) * channels
        state, skip = {"address": first // n * size, "records": -(-end // n) - first // n}, first % n
    state, held = (
        {"address": min(one["address"], 2**35 - 1), "records": min(one["records"], 2**24 - 1)} for one in (state, held)
    )
    return {
        "wide": int(channels >= n),
        "begin": begin,
        "positions": positions,
        "skip": skip,
        "state": state,
        "held": held,
    }


@pytest.mark.parametrize("settings", [[], ["lanes=60", "near_lanes=4", "memory_lanes=4"], ["state_width=24"]])
def test_against_integers(settings):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    r = random.Random(seed)
    p = preset("edge").with_settings(settings)
    dut = Extent(p)
    cases = [
        (0, 8, 8, 64),
        (3, 5, 8, 3),
        (0, 1, 1, 1),
        (65535, 65535, 65535, 65535),
        (65535, 65535, 65535, p.lanes - 1),
    ]
    cases += [
        (r.choice([0, r.randrange(40)]), r.randrange(1, 40), r.randrange(1, 40), r.randrange(1, 2 * p.lanes))
        for _ in range(40)
    ]
    clocks = []

    async def bench(ctx):
        for case in cases:
            for name, value in zip(("line", "lines", "width", "channels"), case, strict=True):
                ctx.set(getattr(dut, name), value)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            waited = 1
            while not ctx.get(dut.done):
                await ctx.tick()
                waited += 1
                assert waited < 400
            clocks.append(waited)
            want = expected(p, *case)
            got = {name: ctx.get(getattr(dut, name)) for name in want if name not in ("state", "held")}
            got |= {
                name: {field: ctx.get(getattr(dut, name)[field]) for field in ("address", "records")}
                for name in ("state", "held")
            }
            assert got == want, case

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    print(clocks[:3])
    if p.lanes == 16:
        assert clocks[0] < 50
