"""`int_float_multiplier` and `float_multiplier`: values against numpy's floats, which hold every product exactly."""

import numpy as np
import pytest

from golden.parameters import Parameters
from golden.units.float_multiplier import float_multiplier
from golden.units.int_float_multiplier import int_float_multiplier

pytestmark = pytest.mark.golden

ALL = np.arange(2**16, dtype=np.uint16)
HALF = ALL[np.isfinite(ALL.view(np.float16))]
BFLOAT = ALL[np.isfinite((ALL.astype(np.uint32) << 16).view(np.float32))]
FORMATS = {"float16": (HALF, 15, 10), "bfloat16": (BFLOAT, 127, 7)}


def values(patterns, name):
    if name == "float16":
        return patterns.view(np.float16).astype(np.float64)
    return (patterns.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def parameters(name, form="float", k=8):
    return Parameters(digit_width=k, weight_format=name, weight_form=form)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("k", [2, 3, 4, 8])
def test_every_digit_times_every_weight(name, k):
    patterns, bias, f = FORMATS[name]
    digits = np.arange(1 - 2 ** (k - 1), 2 ** (k - 1))
    if k == 8:
        digits = digits[::7]
    got = int_float_multiplier(digits[:, None], patterns, parameters(name, k=k))
    signs = np.where(got.negative, -1.0, 1.0)
    value = signs * np.ldexp(got.magnitude.astype(np.float64), got.exponent - bias - f)
    assert np.array_equal(value, digits[:, None] * values(patterns, name))
    assert np.array_equal(got.negative, (digits < 0)[:, None] ^ (patterns >> 15 == 1))
    assert got.magnitude.max() < 2 ** (k - 1 + f + 1)
    assert got.exponent.min() == 1


@pytest.mark.parametrize("name", FORMATS)
def test_float_products(name):
    patterns, bias, f = FORMATS[name]
    rng = np.random.default_rng(2)
    corner = np.array([0, 0x8000, 1, 0x8001, 0x3FF, 0x400, 0x3C00, 0x7BFF, 0xFBFF], np.uint16)
    x = np.concatenate([np.repeat(corner, len(patterns)), rng.choice(HALF, 400_000)])
    w = np.concatenate([np.tile(patterns, len(corner)), rng.choice(patterns, 400_000)])
    got = float_multiplier(x, w, parameters(name))
    value = np.where(got.negative, -1.0, 1.0) * np.ldexp(got.magnitude.astype(np.float64), got.exponent - 25 - bias - f)
    assert np.array_equal(value, values(x, "float16") * values(w, name))  # 22 bits: exact in binary64
    assert np.array_equal(got.negative, (x ^ w) >> 15 == 1)
    assert got.magnitude.max() < 2 ** (11 + f + 1)


@pytest.mark.parametrize("fraction", [10, 16])
def test_aligned_products(fraction):
    machine = Parameters(digit_width=3, fraction_bits=fraction)
    rng = np.random.default_rng(4)
    a = rng.integers(1 - 2 ** (fraction + 1), 2 ** (fraction + 1), 100_000)
    digits = rng.integers(-3, 4, 100_000)
    assert np.array_equal(int_float_multiplier(digits, a.astype(np.int32), machine), digits * a)
    x = rng.choice(HALF, 100_000)
    got = float_multiplier(x, a.astype(np.int32), machine)
    value = np.ldexp(got.significand.astype(np.float64), got.exponent - 25)
    assert np.array_equal(value, values(x, "float16") * a)
    assert np.abs(got.significand).max() < 2 ** (11 + fraction + 1)
