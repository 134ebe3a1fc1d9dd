"""Words meet their state in order; those that read none do not wait for it."""

import random

import pytest
from amaranth.lib import data
from amaranth.sim import Simulator

from golden.parameters import preset
from hw.near_memory import Join, layouts
from tests.hw.streams import pack, shape_of, unpack

pytestmark = pytest.mark.unit

TINY = preset("tiny")


@pytest.mark.parametrize("first", [False, True])
def test_pairs(first):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    r = random.Random(seed)
    fields = {"refresh": 1, "address": 8} | ({"first": 1} if first else {})
    dut = Join(TINY, data.StructLayout(fields))
    words = [{name: r.getrandbits(width) for name, width in fields.items()} for _ in range(80)]
    reads = [not word["refresh"] and word.get("first", 1) for word in words]
    states = [[r.getrandbits(7) for _ in range(TINY.memory_lanes)] for _ in range(sum(reads))]
    got = []

    async def bench(ctx):
        word = state = 0
        while len(got) < len(words):
            there = state < len(states) and r.random() < 0.5
            ctx.set(dut.i.valid, word < len(words))
            ctx.set(dut.read_data.valid, there)
            ctx.set(dut.o.ready, r.random() < 0.6)
            if word < len(words):
                ctx.set(dut.i.payload.as_value(), pack(shape_of(dut.i), words[word]))
            if there:
                ctx.set(dut.read_data.payload.as_value(), pack(shape_of(dut.read_data), states[state]))
            if ctx.get(dut.o.valid) and ctx.get(dut.o.ready):
                got.append(unpack(shape_of(dut.o), ctx.get(dut.o.payload.as_value())))
            word += ctx.get(dut.i.valid) & ctx.get(dut.i.ready)
            state += ctx.get(dut.read_data.valid) & ctx.get(dut.read_data.ready)
            await ctx.delay(1e-6)
        assert (word, state) == (len(words), len(states))

    simulator = Simulator(dut)
    simulator.add_testbench(bench)
    simulator.run()
    following = iter(states)
    for word, read, found in zip(words, reads, got, strict=True):
        assert {name: found[name] for name in fields} == word
        if read:
            assert found["state"] == next(following)


def test_layouts_of_an_engine_meet():
    """What waits in the engine has the fields that a join looks at."""
    assert {"refresh", "address"} <= set(layouts.fixed_delta(TINY).members)
    assert {"refresh", "first", "final"} <= set(layouts.half_terms(TINY).members)
