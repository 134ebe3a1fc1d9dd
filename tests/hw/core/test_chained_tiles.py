"""Tiles that leave as groups, between others in the joint form: the multiply engine against the interpreter."""

import dataclasses

import numpy as np
import pytest

from golden.machine.accelerator import MachineError
from golden.machine.command import Multiply
from golden.parameters import preset
from hw.core.multiply_path import MultiplyPath
from sim import engine, stimuli
from sim.vectors import group_values
from tests.hw.core.test_multiply_engine import Core, drawn, drawn_tile

pytestmark = pytest.mark.cocotb

BASE = ['dataflows=["closed_loop","sign_mask"]', "tile_positions=5", "group_buffer=60", "weight_buffer=50"]
BASE += ["norm_buffer=20", "link_form=direct"]
LAYER = ["exponent_policy=layer", "outliers=2"]
SHAPES = {
    "group": [*BASE, "rows=2"],
    "saturate": [*BASE, *LAYER, "output_passes=1", "near_lanes=4"],
    "replay": [*BASE, *LAYER, "overflow_policy=replay", "rows=3", "near_lanes=1"],
}


@pytest.fixture(params=SHAPES, scope="module")
def core(request):
    p = preset("tiny").with_settings(SHAPES[request.param])
    return Core(MultiplyPath(p), "down", "down_groups")


def filled(p, random):
    """As `drawn`, with factors and shifts besides, and the stream that brings them."""
    golden, groups, records = drawn(p, random)
    shape = (2, p.scale_buffer, p.lanes)
    near = (
        random.integers(10, 18, shape) << 10 | random.integers(0, 1 << 10, shape) | random.integers(0, 2, shape) << 15
    )
    wild = random.random(shape) < random.choice([0, 0.1])
    golden._factors_held[:] = np.where(wild, stimuli.halves(random, shape), near)
    values = golden._factors_held.reshape(-1, p.near_lanes)
    kind, row = (each.ravel() for each in np.indices((2, len(values) // 2)))
    return golden, {"groups": groups, "records": records, "scales": {"row": row, "shifts": kind, "values": values}}


def chained_tile(p, random):
    """The parts of a tile that leaves as groups."""
    parts = drawn_tile(p, random)
    while parts[-1].collected != p.lanes:
        parts = drawn_tile(p, random)
    step = int(random.integers(p.scale_buffer // p.rows))
    static = bool(random.integers(2)) if p.exponent_policy == "layer" else False
    return parts[:-1] + [
        dataclasses.replace(
            parts[-1],
            leaves="groups",
            static=static,
            sent=int(random.integers(3)) if p.replays or not static else 0,
            scales=int(random.integers(p.scale_buffer - step * (p.rows - 1))),
            scales_step=step,
            floor=int(random.integers(12)),
            unit=int(random.integers(-12, 4)),
        )
    ]


def groups_of(tile, p):
    """Groups of a tile as the stream has them: by field, and which end a vector and the tile."""
    groups = tile.groups
    vector = (np.cumsum(~groups.replay) - 1) // tile.sent
    last = np.append(vector[1:] != vector[:-1], True)
    end = np.append(np.zeros(len(vector) - 1, bool), True)
    return {**group_values(groups, p), "last": last, "end": end, "passes": np.full(len(vector), tile.sent - 1)}


def joined(parts):
    """Values of several tiles one after the other."""
    if isinstance(parts[0], dict):
        return {name: joined([part[name] for part in parts]) for name in parts[0]}
    return np.concatenate(parts)


def same(found, wanted):
    for name, value in wanted.items():
        if isinstance(value, dict):
            same(found[name], value)
        else:
            np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(value), err_msg=name)


@pytest.mark.parametrize("mode", ["both", "reset"])
def test_against_the_interpreter(core, mode, fresh_seed):
    p, random = core.parameters, np.random.default_rng(fresh_seed)
    golden, streams = filled(p, random)
    tiles = [(chained_tile if random.random() < 0.7 else drawn_tile)(p, random) for _ in range(7)]
    tiles.append(chained_tile(p, random))
    operations = [part for tile in tiles for part in tile]
    for c in operations:
        golden._multiply(c)
    writes = sum(len(next(iter(stream.values()))) for stream in streams.values())
    settings = {"writes": writes}
    outcome = engine.run(
        core,
        np.zeros(0, np.uint8),
        [],
        operations,
        streams=streams,
        settings=settings,
        mode=mode,
        seed=fresh_seed % 999,
    )
    assert outcome.error is None and len(outcome.clocks) == len(operations)
    chains = [tile for tile, parts in zip(golden._down, tiles, strict=True) if parts[-1].leaves == "groups"]
    joints = [tile for tile, parts in zip(golden._down, tiles, strict=True) if parts[-1].leaves == "joint"]
    found = dict(outcome.streams["down_groups"])
    same({**found.pop("group"), **found}, joined([groups_of(tile, p) for tile in chains]))
    integers = np.concatenate([tile.integers.ravel() for tile in joints]) if joints else np.zeros(0)
    np.testing.assert_array_equal(outcome.streams["down"]["values"].ravel(), integers)
    assert outcome.status["overflow"] == golden.status["overflow"]
    assert outcome.status["poisoned"] == golden.status["poisoned"]


WRONG = [
    ({"collected": 3, "channels": 3}, "field"),
    ({"static": True, "sent": 1}, {"group": "field", "saturate": "field"}),
    ({"static": True}, {"group": "field"}),
    ({"scales": 5}, "buffer"),
    ({"scales": 4, "scales_step": 1, "rows": 1}, {"group": "buffer", "saturate": "field", "replay": "buffer"}),
    ({"scales": 4, "scales_step": 1}, {}),
    ({"scales": 0x7FFF, "at": 60}, "buffer"),
    ({"leave": False, "scales": 0x7FFF}, {}),
    ({"leaves": "joint", "scales": 0x7FFF}, {}),
]


def test_rules(core, request):
    """Each by its cause, which the interpreter has as well."""
    p = core.parameters
    golden, streams = filled(p, np.random.default_rng(1))
    tile = {"lines": 1, "columns": 2, "channels": 4, "kernel_lines": 1, "kernel_columns": 1, "groups": 1, "leave": True}
    settings = {"writes": sum(len(next(iter(stream.values()))) for stream in streams.values())}
    for fields, causes in WRONG:
        c = Multiply(**{**tile, "collected": p.lanes, "leaves": "groups"} | fields)
        expected = causes if isinstance(causes, str) else causes.get(request.node.callspec.params["core"])
        found = None
        try:
            golden._multiply(c)
        except MachineError as error:
            found = error.cause
        assert found == expected, c
        outcome = engine.run(core, np.zeros(0, np.uint8), [], [c], streams=streams, settings=settings, mode="none")
        assert outcome.error == expected and len(outcome.clocks) == (expected is None), c
