"""Counters count every event, small and large, and are read as they were at the freeze."""

import collections
import random

import pytest
from amaranth.lib import data
from amaranth.sim import Simulator

from golden.machine.registers import COUNTERS
from hw.control.counters import Amounts, Counters
from tests.hw.streams import refusal, stream_put

pytestmark = pytest.mark.unit

NAMES = [counter.name for counter in COUNTERS]
AMOUNTS = [name for name in NAMES if name.startswith("memory_")]
WIDTHS = {"clocks": 1, "load_busy": 1, "array_groups": 7, "emitted": 3, "commands": 1}


async def read(ctx, dut, name):
    """A counter's copy, and how many clocks it took."""
    halves, clocks = [], 0
    for half in range(2):
        ctx.set(dut.half, 2 * NAMES.index(name) + half)
        ctx.set(dut.wanted, 1)
        while not ctx.get(dut.ready):
            await ctx.tick()
            clocks += 1
        halves.append(ctx.get(dut.value))
        await ctx.tick()
        ctx.set(dut.wanted, 0)
    return halves[0] | halves[1] << 32, clocks


def simulate(widths, bench):
    dut = Counters(widths, AMOUNTS)
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)

    async def run(ctx):
        await bench(ctx, dut)

    simulator.add_testbench(run)
    simulator.run()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("full", [False, True])
def test_every_event_is_counted(seed, full):
    draw = random.Random(seed)
    counted = collections.Counter()
    frozen = {}

    async def bench(ctx, dut):
        for clock in range(1500):
            for name, width in WIDTHS.items():
                amount = (1 << width) - 1 if full else draw.getrandbits(width)
                ctx.set(getattr(dut, name), amount)
                counted[name] += amount
            valid = draw.random() < 0.8
            ctx.set(dut.valid, valid)
            if valid:
                which, amount = draw.randrange(len(AMOUNTS)), draw.getrandbits(32 if draw.random() < 0.05 else 9)
                ctx.set(dut.which, which)
                ctx.set(dut.amount, amount)
                counted[AMOUNTS[which]] += amount
            ctx.set(dut.freeze, clock == 1499)
            await ctx.tick()
        ctx.set(dut.freeze, 0)
        # What comes after the freeze is not in the copies.
        frozen.update({name: counted[name] for name in NAMES})
        for name in WIDTHS:
            ctx.set(getattr(dut, name), 0)
        ctx.set(dut.valid, 0)
        for name in NAMES:
            assert (await read(ctx, dut, name))[0] == frozen[name], name

    simulate(WIDTHS, bench)


def test_copies_stay_until_the_next_freeze_and_a_clear_leaves_them():
    async def count(ctx, dut, clocks):
        ctx.set(dut.commands, 1)
        await ctx.tick().repeat(clocks)
        ctx.set(dut.commands, 0)

    async def tell(ctx, dut, *names):
        for name in names:
            ctx.set(getattr(dut, name), 1)
        await ctx.tick()
        for name in names:
            ctx.set(getattr(dut, name), 0)

    async def bench(ctx, dut):
        await count(ctx, dut, 1000)
        assert (await read(ctx, dut, "commands"))[0] == 0
        await tell(ctx, dut, "freeze")
        assert (await read(ctx, dut, "commands"))[0] == 1000
        await count(ctx, dut, 100)
        assert (await read(ctx, dut, "commands"))[0] == 1000
        await tell(ctx, dut, "freeze", "clear")
        assert (await read(ctx, dut, "commands"))[0] == 1100
        await count(ctx, dut, 5)
        await tell(ctx, dut, "clear")
        assert (await read(ctx, dut, "commands"))[0] == 1100
        await count(ctx, dut, 7)
        await tell(ctx, dut, "freeze")
        value, clocks = await read(ctx, dut, "commands")
        assert value == 7
        # A copy of 64 rows, and a turn of what gathers.
        assert 8 * 64 < clocks <= 8 * (64 + len(AMOUNTS) + 3)

    simulate({"commands": 1}, bench)


def test_carries_reach_the_high_half():
    async def bench(ctx, dut):
        ctx.set(dut.which, AMOUNTS.index("memory_states_read"))
        ctx.set(dut.amount, 0xFFFFFFFF)
        ctx.set(dut.valid, 1)
        await ctx.tick().repeat(5)
        ctx.set(dut.valid, 0)
        ctx.set(dut.freeze, 1)
        await ctx.tick()
        ctx.set(dut.freeze, 0)
        assert (await read(ctx, dut, "memory_states_read"))[0] == 5 * 0xFFFFFFFF

    simulate({"clocks": 1}, bench)


@pytest.mark.parametrize("seed", range(3))
def test_amounts_come_one_after_the_other(seed):
    draw = random.Random(seed)
    dut = Amounts(data.StructLayout({"a": 32, "b": 5, "c": 20}))
    sent = [{"a": draw.getrandbits(32), "b": draw.getrandbits(5), "c": draw.getrandbits(20)} for _ in range(20)]
    got = []

    async def give(ctx):
        for amounts in sent:
            await stream_put(ctx, dut.i, amounts)

    async def take(ctx):
        while len(got) < 3 * len(sent):
            ctx.set(dut.ready, draw.random() < 0.6)
            if ctx.get(dut.valid) and ctx.get(dut.ready):
                got.append((ctx.get(dut.which), ctx.get(dut.amount)))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(give)
    simulator.add_testbench(take)
    simulator.run()
    assert got == [(which, amounts[name]) for amounts in sent for which, name in enumerate("abc")]


def test_refusals():
    assert str(refusal(Counters, {}, AMOUNTS)) == "widths must name at least one counter, not none"
    assert str(refusal(Counters, {"clocks": 1}, [])) == "amounts must name at least one counter, not none"
    sentence = "amounts must name counters of the table, not 'nothing'"
    assert str(refusal(Counters, {"clocks": 1}, ["nothing"])) == sentence
