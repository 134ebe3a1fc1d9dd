"""The walk through a tensor's vectors against plain loops."""

import random

import numpy as np
import pytest
from amaranth.sim import Simulator

from golden.parameters import preset
from hw.near_memory.closed_loop.vector_walk import VectorWalk
from tests.hw.streams import shape_of, unpack

pytestmark = pytest.mark.unit


def expected(n, vectors, channels, by_channels):
    of, index = -(-channels // n), np.arange(vectors)
    if by_channels:
        index = np.concatenate([np.arange(number, vectors, of) for number in range(of)])
    found = []
    for v in index.tolist():
        position, channel = (v // of, v % of * n) if channels >= n else divmod(v * n, channels)
        used = min(n, channels - channel) if channels >= n else n
        found.append({"index": v, "position": position, "channel": channel, "used": used})
        found[-1] |= {"turns": int(by_channels or channel == 0), "end": 0, "number": v % of if channels >= n else 0}
    found[-1]["end"] = 1
    return found


@pytest.mark.parametrize("n", [4, 16, 60])
def test_against_loops(n):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    r = random.Random(seed)
    dut = VectorWalk(preset("edge").with_settings([f"lanes={n}", "memory_lanes=1"]))

    async def bench(ctx):
        for channels in [1, 2, n - 1, n, n + 1, 2 * n, 5 * n - 1, *(r.randrange(1, 4 * n) for _ in range(4))]:
            for by_channels in [0, 1] if channels > n else [0]:
                vectors = r.choice([1, 2, 3, r.randrange(1, 40)])
                settings = {"vectors": vectors, "channels": channels, "of": -(-channels // n)}
                for name, value in (settings | {"by_channels": by_channels}).items():
                    ctx.set(getattr(dut, name), value)
                ctx.set(dut.start, 1)
                await ctx.tick()
                ctx.set(dut.start, 0)
                got, clocks = [], 0
                for _ in range(40 + 60 * vectors):
                    ctx.set(dut.o.ready, ready := r.randrange(2))
                    bits, valid = ctx.get(dut.o.payload.as_value()), ctx.get(dut.o.valid)
                    if valid and ready:
                        got.append(unpack(shape_of(dut.o), bits))
                    await ctx.tick()
                    clocks += 1
                assert got == expected(n, vectors, channels, by_channels), (vectors, channels, by_channels)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
