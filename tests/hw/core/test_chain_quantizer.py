"""`ChainQuantizer` against numerics section 3 on integers, and against golden's quantiser."""

import random

import numpy as np
import pytest

from golden.parameters import Parameters
from golden.units.delta_quantizer import quantise_passes
from hw.core.chain_quantizer import ChainQuantizer
from tests.hw.masks import plain_group
from tests.hw.streams import PATTERNS, counted, exchange

pytestmark = pytest.mark.unit

LAYER = {"exponent_policy": "layer", "output_passes": 1}
REPLAY = {"exponent_policy": "layer", "overflow_policy": "replay"}
SHAPES = {
    "tiny": {"lanes": 4, "outliers": 1, "memory_lanes": 1, "near_lanes": 2},
    "edge": {"lanes": 16, "outliers": 1},
    "none": {"lanes": 6, "outliers": 0, "memory_lanes": 1, "near_lanes": 3, "digit_width": 2},
    "whole": {"lanes": 4, "outliers": 4, "memory_lanes": 1, "near_lanes": 4, "digit_width": 8},
    "saturate": {"lanes": 12, "outliers": 2, "memory_lanes": 1, "near_lanes": 4, **LAYER},
    "saturate none": {"lanes": 8, "outliers": 0, "memory_lanes": 1, "near_lanes": 1, "digit_width": 4, **LAYER},
    "replay": {"lanes": 8, "outliers": 1, "memory_lanes": 1, "near_lanes": 2, **REPLAY},
    "replay many": {"lanes": 9, "outliers": 4, "memory_lanes": 1, "near_lanes": 3, "digit_width": 5, **REPLAY},
    "published": {"lanes": 60, "outliers": 4, "near_lanes": 4, **LAYER},
}


def vectors(r, p, count):
    """Vectors of every kind: any pattern, values near each other with some large ones, borders, poison, zeros."""
    for _ in range(count):
        kind = r.choice(("any", "near", "near", "near", "border", "zero", "poison"))
        field = r.randrange(0, 24)
        near = [
            r.getrandbits(1) << 15 | max(field - r.randrange(5), 0) << 10 | r.getrandbits(10) for _ in range(p.lanes)
        ]
        if kind == "any":
            near = [r.getrandbits(1) << 15 | r.randrange(31 << 10) for _ in range(p.lanes)]
        elif kind == "border":
            ones = (1 << 10) - (1 << 10 - p.digit_width + 1)
            near = [r.getrandbits(1) << 15 | field << 10 | max(ones + r.randint(-1, 1), 0) for _ in range(p.lanes)]
        elif kind == "zero":
            near = [r.choice((0, 0x8000)) for _ in range(p.lanes)]
        for _ in range(r.randrange(p.outliers + 3) if kind in ("near", "zero") else 0):
            near[r.randrange(p.lanes)] = r.getrandbits(1) << 15 | r.randrange(20 << 10, 31 << 10)
        if kind == "poison":
            near[r.randrange(p.lanes)] = r.choice((0x7C00, 0xFC00, 0x7E00, 0xFFFF))
        yield near, r.choice((0, r.randrange(43 - p.digit_width))), r.randint(1, 4), r.getrandbits(1)


def parts(p, values, *, floor, passes, static, end):
    """The rows of a vector."""
    fields = {"static": static} if p.exponent_policy == "layer" else {}
    u = p.near_lanes
    for at in range(0, p.lanes, u):
        last = int(at + u == p.lanes)
        yield {
            **{"values": values[at : at + u], "last": last, "end": int(end and last), "floor": floor},
            **{"passes": passes - 1, **fields},
        }


def expected(p, values, *, floor, passes, static, end):
    """Groups of a vector, as golden makes them."""
    found = quantise_passes(np.array([values], np.uint16), p, passes, floor=floor, exponent=floor, by_group=not static)
    for index, last in enumerate(found.last):
        marks = {"last": int(last), "end": int(last and end), "passes": passes - 1}
        yield {"group": plain_group(found.groups, p, index), **marks}


@pytest.mark.parametrize("name", SHAPES)
def test_groups_are_those_of_the_law(name, fresh_seed):
    p, r = Parameters(**SHAPES[name]), random.Random(fresh_seed)
    inputs, wanted = [], []
    for values, floor, passes, static in vectors(r, p, 40 if p.lanes < 20 else 12):
        settings = {"floor": floor, "passes": passes, "static": static & (p.exponent_policy == "layer")}
        settings["end"] = r.getrandbits(1)
        inputs += parts(p, values, **settings)
        wanted += expected(p, values, **settings)
    pattern = r.choice(PATTERNS)
    print(f"{pattern=}")
    result = exchange(ChainQuantizer(p), inputs, outputs=len(wanted), pattern=pattern)
    assert result.outputs == wanted


@pytest.mark.parametrize(
    ("name", "passes", "clocks"), [("edge", 1, 8), ("edge", 3, 24), ("tiny", 1, 2), ("tiny", 2, 8)]
)
def test_a_vector_takes_the_clocks_of_its_scans(name, passes, clocks):
    p = Parameters(**SHAPES[name])
    settings = {"floor": 0, "passes": passes, "static": 0, "end": 0}
    inputs = [part for number in range(8) for part in parts(p, [number + 1] * p.lanes, **settings)]
    result = exchange(ChainQuantizer(p), inputs, outputs=8 * passes)
    ends = result.left[passes - 1 :: passes]
    # While a scan writes back, rows of the next vector wait: a few clocks in several vectors.
    assert all(
        after - before - clocks in range(2 * passes - 1) for before, after in zip(ends[3:], ends[4:], strict=False)
    )


@pytest.mark.parametrize(
    ("name", "values", "floor", "events"),
    [
        ("saturate", [0x7BFF] * 3 + [0] * 9, 10, (1, 0)),
        ("saturate", [0x7BFF] * 2 + [0] * 10, 10, (0, 0)),
        ("replay", [0x7BFF] * 8, 10, (0, 0)),
        ("edge", [0x7BFF] * 15 + [0xFC00], 0, (0, 1)),
    ],
)
def test_events(name, values, floor, events):
    p = Parameters(**SHAPES[name])
    dut = ChainQuantizer(p)
    settings = {"floor": floor, "passes": 1, "static": int(p.exponent_policy == "layer"), "end": 0}
    wanted = list(expected(p, values, **settings))
    watch = ["seen_saturated", "seen_poisoned"]
    wrap = counted(dut, "saturated", "poisoned")
    result = exchange(dut, parts(p, values, **settings), outputs=len(wanted), watch=watch, wrap=wrap)
    assert result.outputs == wanted
    assert tuple(result.ports.values()) == events
