"""The accumulate engine against the interpreter: whole memory, bytes moved, status, errors."""

import dataclasses
import functools

import numpy as np
import pytest

from golden.machine import image
from golden.machine.accelerator import Accelerator, MachineError, Region
from golden.machine.command import Accumulate, Operand
from golden.parameters import preset
from golden.units.joint_stream import JointStream
from hw.near_memory.closed_loop.accumulate_engine import AccumulateEngine
from sim import engine

pytestmark = pytest.mark.cocotb

TINY = preset("tiny")
MACHINES = {
    "tiny": dataclasses.replace(TINY, rows=3, memory_width=64),
    "whole vectors": dataclasses.replace(
        TINY, near_lanes=4, memory_width=32, digit_width=2, joint_width=2, functions=()
    ),
    "edge": preset("edge"),
    "three of six": dataclasses.replace(TINY, lanes=6, near_lanes=3, state_width=24, digit_width=8, memory_width=256),
}
REGIONS = [Region(), Region(), Region(0, 3000), Region(3000, 600), Region(3600, 3000)]
STATE, BIAS, ORIGIN = 2, 3, 4
SUMS = Operand(STATE, 2000)


@functools.cache
def model(machine):
    return engine.build(AccumulateEngine(MACHINES[machine]))


def operation(draw, p):
    """An operation as a compiler might give it: a tile of a tensor, in strips or samples."""
    n, rows = p.lanes, int(draw.integers(1, p.rows + 1))
    channels = int(draw.choice([draw.integers(1, n), n, draw.integers(n, 4 * n)]))
    columns, lines = int(draw.integers(1, 5)), int(draw.integers(1, 4))
    width, height = columns + int(draw.integers(3)), lines * rows + int(draw.integers(-1, 3))
    positions = width * max(height, 1)
    samples = draw.random() < 0.5
    if channels < n:
        whole = -(-positions * channels // n)
        count = int(draw.integers(1, min(whole, p.tile_positions) + 1))
        fields = {"outer": 1, "outer_step": 0, "inner": count, "inner_step": 1, "row_step": whole if samples else count}
        first, period = int(draw.integers(whole)), channels
    else:
        of = -(-channels // n)
        first = int(draw.integers(of)) + int(draw.integers(width - columns + 1)) * of
        fields = {"outer": lines, "outer_step": width * of, "inner": columns, "inner_step": of}
        fields["row_step"] = (positions if samples else lines * width) * of
        period = 1 if draw.random() < 0.7 else int(draw.integers(1, 6))
    summed = str(draw.choice(["no", "channel", "position"]))
    if samples:
        fields["sums_step"] = positions if summed == "position" else channels
        # all samples have one tensor after the other here: whatever is past the first one is no padding
        positions *= p.rows
    return Accumulate(
        state=Operand(STATE, int(draw.integers(20))),
        origin=Operand(ORIGIN, int(draw.integers(20))),
        bias=Operand(BIAS, int(draw.integers(20))),
        sums=SUMS,
        first=first,
        rows=rows - 1,
        start=str(draw.choice(["add", "zero", "region"])),
        biased=bool(draw.integers(2)),
        summed=summed,
        fresh=bool(draw.integers(2)),
        bias_period=period,
        bias_first=int(draw.integers(6)),
        bias_step=int(draw.integers(3)),
        channels=channels,
        positions=positions,
        floor=int(draw.integers(20)),
        **fields,
    )


def exchanged(draw, p):
    """An operation on blocks: vectors that come are columns of the state, some of their lanes are its positions."""
    c, n = operation(draw, p), p.lanes
    samples = c.summed == "position" or draw.random() < 0.5
    blocks = 1 if c.summed == "position" else int(draw.integers(1, 3))
    inner, rows = int(draw.choice([n, draw.integers(1, n + 1)])), c.rows + 1
    first = int(draw.integers(2))
    of = blocks * (1 if samples else rows) + first
    positions, channels = inner + int(draw.integers(2)), n * of - int(draw.integers(n))
    c = dataclasses.replace(c, exchanged=True, channels=channels, first=first)
    c = dataclasses.replace(c, outer=blocks, outer_step=1, inner=inner, inner_step=of)
    if samples:
        records = positions if c.summed == "position" else channels
        c = dataclasses.replace(c, row_step=positions * of, sums_step=records, positions=positions * p.rows)
    else:
        c = dataclasses.replace(c, row_step=blocks, sums_step=0, positions=positions)
    return dataclasses.replace(c, tail=int(draw.choice([n, draw.integers(1, n + 1)])))


def vectors_that_come(c, p):
    """How many of them an operation takes from the link."""
    return (c.rows + 1) * ((c.outer - 1) * p.lanes + c.tail if c.exchanged else c.outer * c.inner)


def spoiled(draw, c, p, turn):
    """The operation with a field that breaks a rule, or lies far from the others, each in its turn."""
    values = {
        "rows": p.rows + int(draw.integers(3)),
        "tail": int(draw.choice([0, p.lanes + 1, 127])),
        "inner": 0,
        "outer": 0,
        "channels": 0,
        "floor": 43 - p.digit_width,
        "first": 2**24 - 1,
        "row_step": 2**23,
        "outer_step": 2**16 - 1,
        "inner_step": 2**16 - 1,
        "bias_step": 2**16 - 1,
        "bias_first": 2**16 - 1,
        "sums_step": int(draw.integers(40)),
        "positions": int(draw.integers(20)),
        "bias_period": 0,
        "state": Operand(STATE, 2**29 - 1),
        "origin": Operand(ORIGIN, 2990),
        "sums": Operand(6, 0),
    }
    name = list(values)[turn % len(values)]
    return dataclasses.replace(c, **{name: values[name]})


def tile(draw, c, p, count):
    """Joint vectors for an operation."""
    top = 2 ** int(draw.integers(1, p.state_width + 2))
    values = draw.integers(-top, top + 1, (count, p.lanes)) >> draw.integers(0, 24, (count, 1))
    groups, _ = JointStream(p, p.joint_width, min(c.floor, 42 - p.digit_width)).quantise(
        values, -24, draw.random(count) < 0.03
    )
    return groups


def memory_before(draw, p):
    """States with extremes and poison, a bias of w + 1 bits, and whatever was where sums are."""
    memory = draw.integers(0, 256, 6600 * 32).astype(np.uint8)
    top, size = 2 ** (p.state_width - 1) - 1, image.vector_bytes(p)
    for region, units in ((REGIONS[STATE], 1990), (REGIONS[ORIGIN], 2990)):
        count = units * 32 // size
        values = draw.integers(-top, top + 1, (count, p.lanes)) >> draw.integers(0, p.state_width, (count, p.lanes))
        kind = draw.random(values.shape)
        values = np.where(kind < 0.01, -top - 1, np.where(kind < 0.03, np.sign(values) * top, values))
        begin = region.base * 32
        memory[begin : begin + count * size] = image.pack_vectors(values, p).ravel()
    region = REGIONS[BIAS]
    entries = draw.integers(-(2**p.state_width) + 1, 2**p.state_width, region.limit * 8) >> draw.integers(
        0, 20, region.limit * 8
    )
    memory[region.base * 32 : (region.base + region.limit) * 32] = image.pack_entries(entries)
    return memory


def interpreted(p, memory, operations, tiles):
    machine = Accelerator(p, memory.size)
    machine.memory[:] = memory
    machine.regions[: len(REGIONS)] = REGIONS
    try:
        for c, groups in zip(operations, tiles, strict=True):
            machine._down.append(groups)
            machine._accumulate(c)
    except MachineError as error:
        return machine, error.cause
    return machine, None


def down(p, tiles):
    """The stream of joint vectors of some tiles."""
    parts = p.lanes // p.near_lanes
    vectors = np.concatenate([np.arange(len(groups)) == len(groups) - 1 for groups in tiles])
    last = np.tile(np.arange(parts) == parts - 1, len(vectors))
    return {
        "exponent": np.repeat(np.concatenate([groups.exponent for groups in tiles]), parts),
        "values": np.concatenate([groups.integers for groups in tiles]).reshape(-1, p.near_lanes),
        "last": last,
        "end": last & np.repeat(vectors, parts),
        "floor": np.zeros(last.size, np.int64),
    }


def compare(machine, operations, tiles, memory, **how):
    """Run operations by both and compare all that they leave; returns what the engine did."""
    p = MACHINES[machine]
    expected, cause = interpreted(p, memory, operations, tiles)
    outcome = model(machine).run(memory, REGIONS, operations, streams={"down": down(p, tiles)}, **how)
    assert outcome.error == cause, (operations, outcome.sentence)
    if cause:
        return outcome
    np.testing.assert_array_equal(outcome.memory, expected.memory)
    names = ("states_read", "tables_read", "sums_read", "states_written", "sums_written")
    assert outcome.moved == {name: expected.counters[f"memory_{name}"] for name in names}
    assert outcome.status["overflow"] == expected.status["overflow"]
    assert outcome.status["poisoned"] == expected.status["poisoned"]
    return outcome


def vectors_of(c, p):
    """Numbers of the vectors of an operation."""
    steps = np.arange(c.rows + 1)[:, None, None] * c.row_step + np.arange(c.outer)[:, None] * c.outer_step
    return (c.first + steps + np.arange(c.inner) * c.inner_step).ravel()


@pytest.mark.parametrize("machine", MACHINES)
def test_operations_one_after_another(machine, fresh_seed):
    p = MACHINES[machine]
    draw = np.random.default_rng(fresh_seed)
    kinds = [operation, exchanged] if "attention" in p.functions else [operation]
    for mode in ("none", "both", "reset", "both"):
        operations = [draw.choice(kinds)(draw, p) for _ in range(8)]
        tiles = [tile(draw, c, p, vectors_that_come(c, p)) for c in operations]
        memory = memory_before(draw, p)
        if draw.random() < 0.1:
            place = REGIONS[BIAS].base * 32 + draw.integers(20) * 32
            memory[place : place + 4] = image.pack_entries([draw.choice([-1, 1]) << p.state_width])
        compare(machine, operations, tiles, memory, mode=mode, seed=fresh_seed % 1000)


@pytest.mark.parametrize("machine", MACHINES)
def test_rules_of_fields(machine, fresh_seed):
    p = MACHINES[machine]
    draw = np.random.default_rng(fresh_seed)
    causes = set()
    for turn in range(36):
        c = spoiled(draw, (exchanged if turn % 2 else operation)(draw, p), p, turn // 2)
        if len(set(vectors_of(c, p))) < len(vectors_of(c, p)):
            continue  # what such an operation leaves is not defined
        tiles = [tile(draw, c, p, max(vectors_that_come(c, p), 1))]
        memory = memory_before(draw, p)
        causes.add(compare(machine, [c], tiles, memory, mode="both", seed=fresh_seed % 1000 + turn).error)
    assert {None, "field", "region"} <= causes


def test_nothing_is_exchanged_without_attention():
    p, draw = MACHINES["whole vectors"], np.random.default_rng(5)
    c = exchanged(draw, p)
    tiles = [tile(draw, c, p, vectors_that_come(c, p))]
    assert compare("whole vectors", [c], tiles, memory_before(draw, p)).error == "field"


def test_vectors_must_be_those_of_the_tile():
    p, draw = MACHINES["tiny"], np.random.default_rng(5)
    c = Accumulate(state=Operand(STATE), outer=1, inner=6, inner_step=1, start="zero", channels=4, positions=6)
    for count in (5, 7):
        assert compare("tiny", [c], [tile(draw, c, p, count)], memory_before(draw, p)).error == "field"


def test_blocks_must_be_those_of_the_tile():
    p, draw = MACHINES["tiny"], np.random.default_rng(5)
    c = Accumulate(state=Operand(STATE), exchanged=True, outer=2, outer_step=1, inner=3, inner_step=2, tail=2, rows=1)
    c = dataclasses.replace(c, row_step=12, start="zero", channels=2 * p.lanes, positions=12)
    right = vectors_that_come(c, p)
    for count, cause in ((right - 1, "field"), (right, None), (right + 1, "field")):
        assert compare("tiny", [c], [tile(draw, c, p, count)], memory_before(draw, p)).error == cause
    memory, tiles = memory_before(draw, p), [tile(draw, c, p, right)]
    wide = dataclasses.replace(c, inner=p.lanes + 1)
    assert compare("tiny", [wide], tiles, memory).error == "field"


def test_an_entry_of_the_bias_beyond_its_bits():
    p, draw = MACHINES["tiny"], np.random.default_rng(6)
    c = Accumulate(state=Operand(STATE), bias=Operand(BIAS), biased=True, outer=1, inner=3, inner_step=1, channels=4)
    c = dataclasses.replace(c, bias_period=1, positions=3, start="zero")
    for value, cause in ((2**18, "damaged"), (-(2**18), "damaged"), (1 - 2**18, None), (2**31 - 1, "damaged")):
        memory = memory_before(draw, p)
        begin = REGIONS[BIAS].base * 32
        memory[begin + 8 : begin + 12] = image.pack_entries([value])
        assert compare("tiny", [c], [tile(draw, c, p, 3)], memory).error == cause


@pytest.mark.parametrize(("summed", "overhead"), [("no", 215), ("channel", 240), ("position", 405)])
def test_throughput(summed, overhead):
    """A tile of 16 positions in two rows, u elements a clock, and what an operation takes besides."""
    p, draw = MACHINES["edge"], np.random.default_rng(7)
    c = Accumulate(state=Operand(STATE), bias=Operand(BIAS), sums=SUMS, rows=1, row_step=32, outer=2, inner=8)
    c = dataclasses.replace(c, outer_step=16, inner_step=2, biased=True, bias_period=1, channels=32, positions=32)
    c = dataclasses.replace(c, summed=summed)
    outcome = compare("edge", [c], [tile(draw, c, p, 32)], memory_before(draw, p), mode="none", latency=40)
    assert outcome.clocks[0] <= 32 * p.lanes // p.near_lanes + overhead
