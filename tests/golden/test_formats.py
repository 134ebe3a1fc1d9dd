import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden import formats

pytestmark = pytest.mark.golden

ALL = np.arange(2**16, dtype=np.uint16)
HALVES = ALL.view(np.float16)


def rne(value: Fraction) -> int:
    """Python rounds fractions to nearest, ties to even."""
    return round(value)


def half(value: Fraction) -> int:
    """Nearest FP16 pattern, ties to even, clamped: the neighbours of the value are compared as fractions."""
    magnitude = abs(value)
    exponent = -14
    while magnitude >= Fraction(2) ** (exponent + 1):
        exponent += 1
    unit = Fraction(2) ** (exponent - 10)
    rounded = rne(magnitude / unit) * unit
    if rounded >= 65520:
        return 0x7BFF | (0x8000 if value < 0 else 0)
    pattern = int(np.float16(float(rounded)).view(np.uint16))
    return pattern | (0x8000 if value < 0 else 0)


def test_half_fields_are_the_values():
    finite = np.isfinite(HALVES)
    negative, exponent, significand = formats.FLOAT16.fields(ALL)
    values = np.where(negative, -1.0, 1.0) * significand * 2.0 ** (exponent - 25.0)
    assert np.array_equal(values[finite], HALVES[finite].astype(np.float64))
    assert np.array_equal(formats.is_finite(ALL), finite)


def test_bfloat_fields_are_the_values():
    singles = (ALL.astype(np.uint32) << 16).view(np.float32)
    finite = np.isfinite(singles)
    negative, exponent, significand = formats.BFLOAT16.fields(ALL)
    values = np.where(negative, -1.0, 1.0) * np.ldexp(significand.astype(np.float64), exponent - 134)
    assert np.array_equal(values[finite], singles[finite].astype(np.float64))
    assert np.array_equal(formats.BFLOAT16.finite(ALL), finite)


@given(st.lists(st.floats(width=64), min_size=1))
def test_patterns_of_floats_against_numpy_and_fractions(values):
    with np.errstate(over="ignore"):
        expected = np.array(values).astype(np.float16)
    clamped = np.isinf(expected) & ~np.isinf(values)
    expected = np.where(clamped, np.copysign(np.float16(65504), expected), expected).astype(np.float16)
    found = formats.FLOAT16.from_floats(values)
    assert found.dtype == np.uint16
    nan = np.isnan(values)
    assert np.array_equal(found[~nan], expected.view(np.uint16)[~nan])
    assert not formats.is_finite(found[nan]).any() and np.isnan(found.view(np.float16)[nan]).all()


@pytest.mark.parametrize("format", formats.FORMATS.values(), ids=lambda format: format.name)
def test_every_pattern_comes_back_from_its_float(format):
    singles = HALVES if format is formats.FLOAT16 else (ALL.astype(np.uint32) << 16).view(np.float32)
    nan = np.isnan(singles)
    assert np.array_equal(format.from_floats(singles)[~nan], ALL[~nan])
    assert np.isnan(singles[format.from_floats(singles[nan])]).all()


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(list(formats.FORMATS.values())))
def test_patterns_of_floats_are_the_nearest(value, format):
    negative, exponent, significand = format.fields(format.from_floats(value))
    unit = Fraction(2) ** (int(exponent) - format.bias - format.fraction_width)
    magnitude = abs(Fraction(value))
    largest = (2 - Fraction(1, 2**format.fraction_width)) * Fraction(2) ** format.bias
    assert bool(negative) == (np.signbit(value))
    if magnitude > largest:
        assert int(significand) * unit == largest
    else:
        error = abs(int(significand) * unit - magnitude)
        # half a unit below a power of two is half of the unit above it
        assert error < unit / 2 or (error == unit / 2 and int(significand) % 2 == 0)


def test_what_is_no_pattern_is_refused():
    for value, error, message in (
        (0.1, TypeError, "x must be 16-bit patterns, as formats.FLOAT16.from_floats makes them, not float64"),
        ("a", TypeError, "x must be integers, not <U1"),
        (None, TypeError, "x must be integers, not object"),
        (True, TypeError, "x must be integers, not bool"),
        (2**16, ValueError, "x must be in 0..65535, not 65536"),
        (2**80, ValueError, f"x must be in 0..65535, not {2**80}"),
        (-1, ValueError, "x must be in 0..65535, not -1"),
    ):
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            formats.patterns("x", value)
    assert formats.patterns("x", []).dtype == np.uint16 and formats.flags("x", [1, 0]).tolist() == [True, False]
    assert formats.integers("x", [2**80], 0).tolist() == [2**80]
    for bounds, message in (((0, None), "at least 0"), ((None, -9), "at most -9")):
        with pytest.raises(ValueError, match=f"^x must be {message}, not -1$"):
            formats.integers("x", [-1], *bounds)
    for call in (formats.FLOAT16.fields, formats.is_finite, formats.half_to_fixed):
        with pytest.raises(TypeError, match="^Patterns of float16 must be 16-bit patterns"):
            call(0.1)
    with pytest.raises(TypeError, match="^Values of bfloat16 must be real numbers, not complex128$"):
        formats.BFLOAT16.from_floats(1j)


def test_half_to_fixed_and_back():
    finite = np.isfinite(HALVES)
    fixed = formats.half_to_fixed(ALL)
    assert np.array_equal(fixed[finite] * 2.0**-24, HALVES[finite].astype(np.float64))
    assert not fixed[~finite].any()
    for back in (formats.fixed_to_half(fixed[finite]), formats.exact_half(fixed[finite])):
        assert np.array_equal(back, np.where(ALL[finite] == 0x8000, 0, ALL[finite]))


@given(st.lists(st.tuples(st.integers(-(2**62), 2**62), st.integers(-70, 130)), min_size=1, max_size=20))
def test_round_shift_is_rne(cases):
    values, shifts = zip(*cases, strict=True)
    expected = [rne(Fraction(value) / Fraction(2) ** shift) for value, shift in cases]
    for dtype in (np.int64, object):
        assert list(formats.round_shift(np.array(values, dtype), np.array(shifts))) == expected


def test_round_shift_ties():
    values = np.arange(-16, 17)
    for shift in range(5):
        assert formats.round_shift(values, shift).tolist() == [rne(Fraction(int(v), 2**shift)) for v in values]


@given(st.integers(-(2**80), 2**80), st.integers(-150, 60))
def test_encode_half_against_fractions(value, exponent):
    exact = Fraction(value) * Fraction(2) ** exponent
    pattern, overflow = formats.encode_half(np.array([value], object), np.array([exponent]))
    assert pattern[0] == half(exact)
    assert overflow[0] == (abs(exact) >= 65520)
    if abs(value) < 2**62:
        pattern, overflow = formats.encode_half(np.array([value]), np.array([exponent]))
        assert (pattern[0], overflow[0]) == (half(exact), abs(exact) >= 65520)


def test_encode_half_against_numpy():
    rng = np.random.default_rng(1)
    values = rng.integers(-(2**52), 2**52, 200_000) >> rng.integers(0, 52, 200_000)
    exponents = rng.integers(-80, 10, 200_000)
    exact = np.ldexp(values.astype(np.float64), exponents)
    with np.errstate(over="ignore"):
        expected = exact.astype(np.float16)
    clamped = np.isinf(expected)
    expected = np.where(clamped, np.where(exact < 0, -65504, 65504), expected).astype(np.float16)
    pattern, overflow = formats.encode_half(values, exponents)
    assert np.array_equal(pattern, expected.view(np.uint16))
    assert np.array_equal(overflow, clamped)
    assert clamped.sum() > 1000


def test_encode_half_at_the_clamp_and_zero():
    pattern, overflow = formats.encode_half(np.array([65504, 65519, 65520, -65520, 2**40, 0]), 0)
    assert pattern.tolist() == [0x7BFF, 0x7BFF, 0x7BFF, 0xFBFF, 0x7BFF, 0]
    assert overflow.tolist() == [False, False, True, True, True, False]
    pattern, overflow = formats.encode_half(np.array([-1, -1, -3]), np.array([-25, -26, -26]))
    assert pattern.tolist() == [0x8000, 0x8000, 0x8001]


def test_bit_length_where_binary64_rounds_up():
    values = np.array([0, 1, 2, 3, 2**53 - 1, 2**54 - 1, 2**62 - 1, 2**62, 2**63 - 1], np.int64)
    assert formats.bit_length(values).tolist() == [int(v).bit_length() for v in values]


def test_shift_left_leaves_int64_only_when_it_must():
    small = formats.shift_left(np.array([3, -3, 0]), np.array([60, 60, 200]))
    assert small.dtype == np.int64 and small.tolist() == [3 << 60, -3 << 60, 0]
    large = formats.shift_left(np.array([3, -1]), np.array([62, 100]))
    assert large.dtype == object and list(large) == [3 << 62, -1 << 100]
