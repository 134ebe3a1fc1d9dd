"""The trace keeps stamps in order, as many as it says, and tells when one is lost."""

import collections
import random

import pytest
from amaranth.sim import Simulator

from golden.machine.registers import TRACE
from hw.control.trace import Trace

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("often", [0.1, 0.5, 0.9])
def test_stamps_come_out_in_order(often):
    draw = random.Random(int(10 * often))
    dut = Trace()
    model, lost = collections.deque(), False

    async def bench(ctx):
        nonlocal lost
        for clock in range(800):
            comes, goes, tag = draw.random() < often, draw.random() < 0.4, draw.getrandbits(16)
            ctx.set(dut.stamps, comes)
            ctx.set(dut.tag, tag)
            ctx.set(dut.clock, clock)
            assert ctx.get(dut.waiting) == len(model) and ctx.get(dut.lost) == lost
            # A stamp is there to be read two clocks after it came.
            shown = (ctx.get(dut.oldest_tag), ctx.get(dut.oldest_clock))
            seen = model and model[0][1] <= clock - 2
            assert shown == (model[0] if seen else (0, 0)) or (model and not seen and shown == model[0])
            ctx.set(dut.advance, goes and bool(seen))
            room = len(model) < TRACE
            await ctx.tick()
            if goes and seen:
                model.popleft()
            if comes and room:
                model.append((tag, clock))
            lost |= comes and not room
        assert lost == (often >= 0.5)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
