"""`SignMask` against lists and numpy's float16, written from docs/numerics.md section 9."""

import random

import numpy as np
import pytest

from golden.parameters import Parameters
from hw.units import SignMask
from tests.hw.masks import masked, random_group
from tests.hw.streams import PATTERNS, exchange, inspect

pytestmark = pytest.mark.unit

REPLAY = {"exponent_policy": "layer", "overflow_policy": "replay"}


@pytest.mark.parametrize(
    "settings",
    [
        {"lanes": 4, "outliers": 0, "memory_lanes": 1},
        {"lanes": 4, "outliers": 1, "memory_lanes": 1, "digit_width": 2},
        {"lanes": 5, "outliers": 2, "memory_lanes": 1, "digit_width": 8},
        {"lanes": 16, "outliers": 3, **REPLAY},
        {"lanes": 60, "outliers": 4, "exponent_policy": "layer", "output_passes": 1},
        {"lanes": 9, "outliers": 8, "memory_lanes": 1, **REPLAY},
    ],
)
@pytest.mark.parametrize("depth", [1, 2, 16])
def test_groups(settings, depth):
    p = Parameters(pipeline_depth=depth, **settings)
    r = random.Random(depth)
    items = [{"group": random_group(r, p), "mask": r.getrandbits(p.lanes)} for _ in range(60)]
    dut = SignMask(p)
    result = exchange(dut, items, pattern=PATTERNS[depth % 4])
    assert result.outputs == [masked(item["group"], item["mask"], p) for item in items]


def test_groups_keep_up_and_take_latency_clocks():
    p = Parameters(lanes=8, outliers=3)
    r = random.Random(1)
    items = [{"group": random_group(r, p), "mask": 255} for _ in range(20)]
    dut = SignMask(p)
    result = exchange(dut, items)
    assert result.left[0] - result.taken[0] == dut.latency
    assert result.left[-1] - result.left[0] == len(items) - 1


def half(r):
    return r.choice([0, 0x8000, 1, 0x8001, 0x7BFF, 0xFBFF, 0x3C00, *(r.randrange(0x7C00) for _ in range(6))])


@pytest.mark.parametrize("pattern", PATTERNS)
def test_values(pattern):
    p = Parameters(lanes=4, mask_operand="values")
    r = random.Random(3)
    items = [{"values": [half(r) for _ in range(4)], "mask": r.getrandbits(4)} for _ in range(50)]
    dut = SignMask(p)
    result = exchange(dut, items, pattern=pattern, watch=["poisoned"])
    expected = [[v if i["mask"] >> lane & 1 else 0 for lane, v in enumerate(i["values"])] for i in items]
    assert result.outputs == expected
    assert result.ports["poisoned"] == 0


@pytest.mark.parametrize("wrong", [0x7C00, 0xFC00, 0x7E01, 0xFFFF])
def test_poisoned_values_show_whatever_the_mask(wrong):
    p = Parameters(lanes=4, mask_operand="values")
    result = exchange(SignMask(p), [{"values": [1, wrong, wrong, 2], "mask": 0b1010}], watch=["poisoned"])
    assert result.outputs == [[0, 0x7E00, 0x7E00, 2]]
    assert result.ports["poisoned"] == 1


@pytest.mark.parametrize(("s", "depth"), [(2, 1), (3, 16), (4, 3)])
def test_segments(s, depth):
    p = Parameters(lanes=4, mask_operand="values", mask_width=s, pipeline_depth=depth)
    r = random.Random(s)
    slopes = [r.choice([0, 0x3C00, 0xB000, 0x3555, r.randrange(0x4000)]) for _ in range(2**s)]
    items = [{"values": [half(r) for _ in range(4)], "codes": [r.randrange(2**s) for _ in range(4)]} for _ in range(80)]
    dut = SignMask(p)
    result = exchange(dut, items, pattern="both", ports={"slopes": slopes}, watch=["poisoned", "overflow"])
    table = np.array(slopes, np.uint16).view(np.float16)
    clamped = 0
    for item, output in zip(items, result.outputs, strict=True):
        with np.errstate(over="ignore"):
            values, factors = np.array(item["values"], np.uint16).view(np.float16), table[item["codes"]]
            exact = values * factors
        clamped += np.isinf(exact).sum()
        exact = np.clip(exact, -65504, 65504)
        exact[(values == 0) | (factors == 0)] = 0  # only an exact zero loses its sign
        assert output == exact.view(np.uint16).tolist()
    assert result.ports == {"poisoned": 0, "overflow": int(clamped > 0)}


def test_segments_clamp_and_poison():
    p = Parameters(lanes=4, mask_operand="values", mask_width=2)
    item = {"values": [0x7BFF, 0xFBFF, 0x7C00, 0x3C00], "codes": [1, 1, 0, 2]}
    ports = {"slopes": [0x3C00, 0x4000, 0x7E00, 0]}
    result = exchange(SignMask(p), [item], ports=ports, watch=["poisoned", "overflow"])
    assert result.outputs == [[0x7BFF, 0xFBFF, 0x7E00, 0x7E00]]
    assert result.ports == {"poisoned": 1, "overflow": 1}


def test_latency_of_every_form():
    for settings in ({}, {"mask_operand": "values"}, {"mask_operand": "values", "mask_width": 2}):
        dut = inspect(SignMask(Parameters(lanes=4, **settings)))
        assert dut.latency >= 1
        assert dut.throughput.endswith("per clock")
