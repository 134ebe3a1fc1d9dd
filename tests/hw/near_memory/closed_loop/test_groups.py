"""Groups of products at a state: the accumulate engine with the dataflow sign_mask against the interpreter."""

import dataclasses
import functools

import numpy as np
import pytest

from golden.machine import image
from golden.machine.accelerator import MachineError, Region, _Tile
from golden.machine.command import Accumulate, Operand
from golden.parameters import preset
from golden.units.delta_group import DeltaGroups
from golden.units.delta_quantizer import quantise_passes
from hw.near_memory.closed_loop.accumulate_engine import AccumulateEngine
from hw.near_memory.closed_loop.groups import Chains
from sim import engine
from sim.vectors import group_values
from tests.hw.interpreter import interpreter
from tests.hw.near_memory.closed_loop import test_accumulate_engine as joint
from tests.hw.near_memory.closed_loop.parts import complaints

pytestmark = pytest.mark.cocotb

SETTINGS = {
    "compressed": ["rows=3", "memory_width=64", "flip_repair=true"],
    "four outliers": ["lanes=8", "near_lanes=4", "memory_width=32", "outliers=4", "link_form=direct", "functions=[]"],
    "whole vectors": ["near_lanes=4", "rows=2", "digit_width=8", "exponent_policy=layer", "output_passes=1"],
    "replays": [
        "lanes=16", "near_lanes=1", "link_form=direct", "exponent_policy=layer", "overflow_policy=replay",
        "flip_repair=true",
    ],
    "three of six": [
        "lanes=6", "rows=2", "near_lanes=3", "state_width=24", "outliers=0", "memory_width=256", "memory_lanes=2",
    ],
}  # fmt: skip
MACHINES = {
    name: preset("tiny").with_settings(['dataflows=["closed_loop","sign_mask"]', *settings])
    for name, settings in SETTINGS.items()
}
SPOOL, TABLES = 5, 6
REGIONS = [*joint.REGIONS, Region(6600, 8000), Region(14600, 600)]
FLOWS = (
    "states_read",
    "tables_read",
    "sums_read",
    "states_written",
    "sums_written",
    "tables_written",
    "spools_written",
)


@functools.cache
def model(machine):
    return engine.build(AccumulateEngine(MACHINES[machine]))


def operation(draw, p):
    """An operation on groups as a compiler might give it; a slot has room for every group that may come."""
    c = joint.operation(draw, p)
    size = c.inner * (3 + p.lanes * p.replays) * 2 * image.group_bytes(p) + p.link_width
    start = str(draw.choice(["add", "add", "zero"] if p.flip_repair else ["add", "add", "zero", "region"]))
    return dataclasses.replace(
        c, groups=True, start=start, biased=False, summed="no",
        spool=Operand(SPOOL, int(draw.integers(20))), slot=-(-size // 32) + int(draw.integers(3)),
        place=int(draw.integers(12)), sums_step=c.outer + int(draw.integers(3)),
        signs=Operand(TABLES, int(draw.integers(8))), lengths=Operand(TABLES, 560 + int(draw.integers(8))),
    )  # fmt: skip


def tile(draw, p, count):
    """Groups of so many vectors: of every size, some zero, some poisoned."""
    single = p.exponent_policy == "layer" and not p.replays
    passes = 1 if single else int(draw.integers(1, 4))
    floor = int(draw.integers(20))
    values = draw.normal(0, 2.0 ** draw.integers(-24, -4, (count, 1)), (count, p.lanes))
    values *= 2.0 ** draw.integers(0, 8, values.shape) * (draw.random(values.shape) < draw.random())
    patterns = np.clip(values, -65504, 65504).astype(np.float16).view(np.uint16)
    patterns[draw.random(count) < 0.1] = 0
    patterns[draw.random(count) < 0.03, 0] = 0x7C00
    static = p.exponent_policy == "layer" and bool(draw.integers(2))
    found = quantise_passes(patterns, p, passes, floor=floor, by_group=not static, exponent=floor if static else 0)
    return _Tile(found.groups, passes), found.last


def offered(p, tiles):
    """The stream of groups of some tiles."""
    fields = {"group": {}, "last": [], "end": [], "passes": []}
    for of_tile, last in tiles:
        fields["last"].append(last)
        fields["end"].append(np.arange(len(last)) == len(last) - 1)
        fields["passes"].append(np.full(len(last), of_tile.sent - 1))
    groups = DeltaGroups.concatenate([of_tile.groups for of_tile, _ in tiles])
    return {"group": group_values(groups, p)} | {name: np.concatenate(fields[name]) for name in list(fields)[1:]}


def memory_before(draw, p):
    return np.concatenate([joint.memory_before(draw, p), draw.integers(0, 256, 8600 * 32).astype(np.uint8)])


def compare(machine, operations, tiles, memory, **how):
    """Run operations by both and compare all that they leave; returns what the engine did."""
    p = MACHINES[machine]
    expected, cause = interpreter(p, memory, REGIONS), None
    try:
        for c, given in zip(operations, tiles, strict=True):
            expected._down.append(given[0] if c.groups else given)
            expected._accumulate(c)
    except MachineError as error:
        cause = error.cause
    streams = {}
    plain = [given for c, given in zip(operations, tiles, strict=True) if not c.groups]
    if plain:
        streams["down"] = joint.down(p, plain)
    chained = [given for c, given in zip(operations, tiles, strict=True) if c.groups]
    if chained:
        streams["down_groups"] = offered(p, chained)
    outcome = model(machine).run(memory, REGIONS, operations, streams=streams, **how)
    assert outcome.error == cause, (operations, outcome.sentence)
    if cause:
        return outcome
    np.testing.assert_array_equal(outcome.memory, expected.memory)
    moved = dict.fromkeys(FLOWS, 0)
    for name, size in outcome.moved.items():
        moved["_".join(name.split("_")[-2:])] += size
    assert moved == {name: expected.counters[f"memory_{name}"] for name in FLOWS}
    assert outcome.status["overflow"] == expected.status["overflow"]
    assert outcome.status["poisoned"] == expected.status["poisoned"]
    return outcome


@pytest.mark.parametrize("machine", MACHINES)
def test_operations_one_after_another(machine, fresh_seed):
    """Tiles of groups between tiles of joint vectors; memory, bytes, status."""
    p = MACHINES[machine]
    draw = np.random.default_rng(fresh_seed)
    for mode in ("none", "both", "reset"):
        operations = [(joint.operation if draw.random() < 0.3 else operation)(draw, p) for _ in range(8)]
        tiles = [
            tile(draw, p, joint.vectors_that_come(c, p)) if c.groups
            else joint.tile(draw, c, p, joint.vectors_that_come(c, p))
            for c in operations
        ]  # fmt: skip
        found = compare(machine, operations, tiles, memory_before(draw, p), mode=mode, seed=fresh_seed % 1000)
        assert found.error is None


PLAIN = Accumulate(
    state=Operand(joint.STATE), origin=Operand(joint.ORIGIN), groups=True, rows=1, row_step=8, outer=2, outer_step=4,
    inner=3, inner_step=1, channels=4, positions=16, slot=4, place=1, sums_step=2,
    spool=Operand(SPOOL), signs=Operand(TABLES), lengths=Operand(TABLES, 560),
)  # fmt: skip
END = 2**29 - 1


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({}, None),
        ({"biased": True, "bias_period": 1}, "field"),
        ({"exchanged": True, "tail": 1}, "field"),
        ({"summed": "channel"}, "field"),
        ({"start": "region"}, "field"),
        ({"slot": 0}, "field"),
        ({"inner": 4}, "field"),
        ({"inner": 2}, "field"),
        ({"signs": Operand(TABLES, END)}, "region"),
        ({"spool": Operand(SPOOL, END)}, "region"),
        ({"lengths": Operand(TABLES, END)}, "region"),
        ({"origin": Operand(joint.ORIGIN, END)}, "region"),
        ({"place": 2**16 - 1}, "region"),
        ({"sums_step": 2**16 - 1}, "region"),
    ],
    ids=str,
)
def test_rules_of_fields(change, cause):
    p, draw = MACHINES["compressed"], np.random.default_rng(3)
    outcome = compare("compressed", [dataclasses.replace(PLAIN, **change)], [tile(draw, p, 12)], memory_before(draw, p))
    assert outcome.error == cause


def test_a_line_that_has_no_room_in_its_slot():
    """A slot of a unit, and lines of records that reach past it by one, or do not."""
    p, draw = MACHINES["four outliers"], np.random.default_rng(4)
    fits = 32 // image.group_bytes(p)
    groups = DeltaGroups.zeros(2 * (fits + 1), p)
    last = np.ones(len(groups), np.bool_)
    for inner, cause in ((fits, None), (fits + 1, "field")):
        c = dataclasses.replace(PLAIN, rows=0, channels=p.lanes, inner=inner, slot=1, outer_step=inner, outer=2)
        given = _Tile(groups[: 2 * inner], 1), last[: 2 * inner]
        assert compare("four outliers", [c], [given], memory_before(draw, p)).error == cause


@pytest.mark.parametrize("machine", ["compressed", "whole vectors", "three of six"])
def test_groups_that_cancel(machine):
    """Eight passes at the ends of what digits can say: their sum is exact, however large the first of them are."""
    p, draw = MACHINES[machine], np.random.default_rng(5)
    digits = np.tile(np.array([1, 1, 1, -1, -1, -1, 0, 0])[:, None] * p.digit_max, (12, p.lanes))
    digits[6:48:8] = 1  # what the first six vectors are left with is past every state
    digits[7::8] = draw.integers(-p.digit_max, p.digit_max + 1, (12, p.lanes)) | 1
    exponents = np.tile(np.where(np.arange(8) < 7, 42 - p.digit_width, 1), 12)
    groups = DeltaGroups.zeros(96, p).replace(exponent=exponents, digits=digits)
    given = _Tile(groups, 8), np.arange(96) % 8 == 7
    c = dataclasses.replace(PLAIN, channels=p.lanes, slot=40)
    assert compare(machine, [c], [given], memory_before(draw, p), mode="none").error is None


def test_throughput():
    """Two rows of 16 vectors, an element a clock: what an operation takes besides."""
    p, draw = MACHINES["replays"], np.random.default_rng(7)
    c = dataclasses.replace(PLAIN, rows=0, channels=p.lanes, inner=16, outer_step=16, positions=64, slot=64)
    groups = tile(draw, p, 1)[0].groups[:1]
    given = _Tile(DeltaGroups.concatenate([groups] * 32), 1), np.ones(32, np.bool_)
    outcome = compare("replays", [c], [given], memory_before(draw, p), mode="none", latency=40)
    assert outcome.clocks[0] <= 32 * p.lanes + 260


@pytest.mark.parametrize("machine", ["compressed", "replays"])
def test_the_verilog_is_clean(machine):
    assert complaints(Chains(MACHINES[machine])) == []
