"""Rows of words against a list."""

import random

import pytest
from amaranth.sim import Simulator

from hw.near_memory import Rows

pytestmark = pytest.mark.unit


def simulate(dut, bench):
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("words", [1, 2, 3, 8])
def test_ahead(words):
    """What a step stored is there when the same word of the next group is at hand."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    r, dut = random.Random(seed), Rows(12, words, ahead=True)

    async def bench(ctx):
        rows: list[int | None] = [None] * words
        word = 0
        await ctx.tick()
        for _ in range(300):
            step, store, row = r.getrandbits(1), r.getrandbits(1), r.getrandbits(12)
            if rows[word] is not None:
                assert ctx.get(dut.kept) == rows[word]
            ctx.set(dut.step, step)
            ctx.set(dut.store, step & store)
            ctx.set(dut.row, row)
            await ctx.tick()
            if step:
                rows[word] = row if store else rows[word]
                word = (word + 1) % words

    simulate(dut, bench)


@pytest.mark.parametrize("words", [1, 2, 3, 8])
def test_in_its_own_time(words):
    """Rows are stored later than their words come, but before the next group's."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    r, dut = random.Random(seed), Rows(12, words, ahead=False)

    async def bench(ctx):
        rows: list[int | None] = [None] * words
        read = written = 0
        expected = None
        for _ in range(400):
            # Fewer words than rows are under way when another comes, as the engine sees to.
            step = r.getrandbits(1) if read - written < words else 0
            finish = r.getrandbits(1) if written < read else 0
            store, row = r.getrandbits(1), r.getrandbits(12)
            if expected is not None:
                assert ctx.get(dut.kept) == expected
            ctx.set(dut.step, step)
            ctx.set(dut.finish, finish)
            ctx.set(dut.store, finish & store)
            ctx.set(dut.row, row)
            await ctx.tick()
            if step and words > 1:
                expected = rows[read % words]
            if finish and store:
                rows[written % words] = row
                expected = row if words == 1 else expected
            read, written = read + step, written + finish

    simulate(dut, bench)
