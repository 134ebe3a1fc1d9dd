"""FP16 arithmetic of the units against Berkeley SoftFloat, through softfloatpy."""

import numpy as np
import pytest
import softfloatpy

from golden.parameters import Parameters
from golden.units.delta_group import DeltaGroups
from golden.units.near_memory_engine import near_memory_engine
from golden.units.sign_mask import segment_mask

pytestmark = pytest.mark.golden

CORNERS = [0, 0x8000, 1, 0x8001, 0x3FF, 0x400, 0x401, 0x3BFF, 0x3C00, 0x3C01, 0x7BFF, 0xFBFF, 0x7800, 0x0200, 0x9400]


def pairs(seed, count):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 2**16, (2, count))
    near = (a & 0x7C00) + rng.integers(-12, 13, count) * 0x400  # exponents that interact
    b = np.where(rng.random(count) < 0.6, near & 0x7C00 | b & 0x83FF, b)
    corner = np.array([(x, y) for x in CORNERS for y in CORNERS]).T
    a, b = np.concatenate([corner[0], a]), np.concatenate([corner[1], b])
    finite = (a & 0x7C00 != 0x7C00) & (b & 0x7C00 != 0x7C00)
    return a[finite], b[finite]


def softfloat(operation, a, b):
    """Patterns, with infinities clamped and zeros of exact results positive, and which were clamped."""

    def number(pattern):
        return softfloatpy.Float16.from_bytes(int(pattern).to_bytes(2, "big"))

    results = (operation(number(x), number(y)) for x, y in zip(a, b, strict=True))
    result = np.array([int.from_bytes(value.to_bytes(), "big") for value in results])
    clamped = result & 0x7FFF == 0x7C00
    return np.where(clamped, result & 0x8000 | 0x7BFF, result), clamped


def test_segment_mask_is_a_multiplication():
    a, b = pairs(1, 20_000)
    expected, clamped = softfloat(softfloatpy.f16_mul, a, b)
    zero = (a & 0x7FFF == 0) | (b & 0x7FFF == 0)
    expected = np.where(zero, 0, expected)
    slopes = np.unique(b)
    got = segment_mask(a, np.searchsorted(slopes, b), slopes)
    assert np.array_equal(got.values, expected)
    assert got.status["overflow"] == clamped.any() and clamped.sum() > 100


def test_half_state_is_an_addition():
    a, b = pairs(2, 20_000)
    expected, clamped = softfloat(softfloatpy.f16_add, a, b)
    expected = np.where(expected == 0x8000, 0, expected)  # a sum only rounds to zero if it is zero
    parameters = Parameters(lanes=4, outliers=1, state_format="float16", memory_lanes=1)
    count = len(a)
    state = np.zeros((count, 4), np.int64)
    state[:, 2] = a
    groups = DeltaGroups.zeros(count, parameters).replace(
        exponent=np.full(count, 24),
        outlier_valid=np.ones((count, 1)),
        outlier_lane=np.full((count, 1), 2),
        outlier_value=b[:, None],
    )
    got = near_memory_engine(state, groups, parameters, address=np.arange(count))
    assert np.array_equal(got.state[:, 2], expected) and not got.state[:, [0, 1, 3]].any()
    assert got.status == {"overflow": bool(clamped.any()), "poisoned": False} and clamped.sum() > 20
