"""The two-stage norm against exact fractions."""

import decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.units.norm import (
    SEEDS,
    Affine,
    affine,
    coefficients,
    factor,
    normalise,
    reciprocal_root,
    variance_floor,
)

pytestmark = pytest.mark.golden


def sums(members: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Exact sum and sum of squares of one set."""
    square = sum(v * v for v in members)
    return np.array([sum(members)]), np.array([square], np.int64 if square < 2**62 else object)


def true_root(value: Fraction) -> Fraction:
    """``1 / sqrt(value)`` to 60 digits."""
    with decimal.localcontext(decimal.Context(prec=60)):
        return Fraction((decimal.Decimal(value.denominator) / decimal.Decimal(value.numerator)).sqrt())


def test_every_mantissa_has_its_root():
    m = np.arange(2**15, 2**17)
    y, t = reciprocal_root(m)
    assert (t == 0).all() and SEEDS.shape == (384,) and SEEDS.max() < 2**17
    # a mantissa stands for all values up to the next one
    for values in (m, m + 1 - 2.0**-20):
        assert np.abs(y * np.sqrt(values) * 2.0**-24 - 1).max() < 2.0**-14.5


@settings(max_examples=300)
@given(st.integers(1, 2**100))
def test_root_of_any_integer(value):
    y, t = reciprocal_root(np.array([value], object if value >= 2**62 else np.int64))
    found = int(y[0]) * Fraction(2) ** (-24 - int(t[0]))
    assert abs(found / true_root(Fraction(value)) - 1) < Fraction(2) ** -14 and y[0] < 2**17


@settings(max_examples=200)
@given(st.fractions(min_value=Fraction(1, 2**80), max_value=2**80))
def test_factor(value):
    a, e = factor(value)
    assert 2**16 <= a < 2**17 and abs(a * Fraction(2) ** e - value) <= Fraction(2) ** e / 2


@pytest.mark.parametrize("size", [1, 2, 3, 10, 64, 100, 1152, 40960])
@pytest.mark.parametrize("centred", [True, False])
def test_coefficients_against_fractions(size, centred):
    rng = np.random.default_rng(size)
    for number in range(25):
        unit = int(rng.integers(-40, 20))
        width = int(rng.integers(2, 18))
        y = rng.integers(-(2**width) + 1, 2**width, size) + int(rng.integers(-(2**17), 2**17) * (number % 2))
        y = np.clip(y, 1 - 2**17, 2**17 - 1)
        epsilon = float(rng.choice([1e-5, 1e-6, 1e-30, 1e30]))
        members = y.tolist()
        total, square = sums(members)
        floor = variance_floor(epsilon, size, unit)
        found = coefficients(total, square, size, floor, centred=centred)
        mean = Fraction(sum(members), size) if centred else Fraction(0)
        assert int(found.mean[0]) == round(mean * 256)
        variance = Fraction(sum(v * v for v in members), size) - mean * mean
        # epsilon counts in whole units of N^2 variance, and at most as 2^72
        floored = min(variance + Fraction(epsilon) / Fraction(4) ** unit, variance + 2**72)
        exact = max(floored, Fraction(1, size * size))
        r = int(found.root[0]) * Fraction(2) ** (int(found.exponent[0]) - 10)
        slack = Fraction(1, 2 * size * size) / exact
        assert abs(r / true_root(exact) - 1) < Fraction(2) ** -14 + slack and found.root[0] < 2**17


def test_a_set_whose_squares_pass_63_bits():
    y = [1 - 2**23] + [2**23 - 1] * (2**18 - 1)
    found = coefficients(*sums(y), 2**18, 0)
    assert found.mean[0] == round(Fraction(sum(y) * 256, 2**18))


@pytest.mark.parametrize("finer", [0, 3, 8])
def test_both_stages_round_once(finer):
    rng = np.random.default_rng(finer)
    y = rng.integers(1 - 2**17, 2**17, 400)
    mean, root = rng.integers(-(2**25), 2**25, 400), rng.integers(2**15, 2**17, 400)
    exponent = rng.integers(-34, -14, 400)
    u, overflow = normalise(y, mean, root, exponent, finer=finer)
    exact = [
        (int(a) * 2 ** (8 + finer) - int(m)) * int(r) * Fraction(2) ** (int(e) - 8)
        for a, m, r, e in zip(y, mean, root, exponent, strict=True)
    ]
    top = 2**17 - 1
    assert u.tolist() == [min(max(round(v), -top), top) for v in exact]
    assert overflow == any(abs(round(v)) > top for v in exact) and overflow
    gain, shift = rng.standard_normal(400) * 3, rng.standard_normal(400)
    for unit, source in ((-12, -10), (-30, -10), (4, -12)):
        tables = Affine.of(gain, shift, unit, source=source)
        assert 2 <= tables.places <= 30 and np.abs(tables.gain).max() < 2**17
        z, _ = affine(u, tables, top)
        expected = [
            round(int(a) * int(g) * Fraction(1, 2**tables.places) + Fraction(int(b), 4))
            for a, g, b in zip(u, tables.gain, tables.shift, strict=True)
        ]
        assert z.tolist() == [min(max(v, -top), top) for v in expected]
        if unit != -30:  # whose gains have no room
            step = Fraction(2) ** (unit - source - tables.places)
            for g, real in zip(tables.gain, gain, strict=True):
                assert abs(int(g) * step - Fraction(real)) <= step / 2


def test_the_whole_norm_is_near_the_real_one():
    """Means far off, values of 1e9 and 1e-9, epsilon large and small: u within two units of the real number."""
    rng = np.random.default_rng(5)
    for unit, epsilon in ((-60, 1e-30), (-13, 1e-5), (20, 1e-5), (-13, 1e2)):
        y = np.clip(np.rint(rng.standard_normal(2048) * 5000 + rng.integers(-30000, 30000)), -(2**17), 2**17).astype(
            int
        )
        total, square = sums(y.tolist())
        found = coefficients(total, square, 2048, variance_floor(epsilon, 2048, unit))
        u, _ = normalise(y, found.mean, found.root, found.exponent)
        real = y * 2.0**unit
        expected = (real - real.mean()) / np.sqrt(real.var() + epsilon)
        np.testing.assert_allclose(u * 2.0**-10, expected, atol=0.6 * 2.0**-10, rtol=2.0**-13)


def test_a_constant_set_is_zero():
    total, square = sums([1000] * 64)
    found = coefficients(total, square, 64, 0)
    assert normalise(np.full(64, 1000), found.mean, found.root, found.exponent)[0].tolist() == [0] * 64


def test_bad_arguments():
    with pytest.raises(ValueError, match="^Factor must be positive, not 0$"):
        factor(0)
    with pytest.raises(ValueError, match="^gain must be finite, not nan$"):
        Affine.of(np.nan, 0.0, 0)
    with pytest.raises(ValueError, match="^shift must be finite, not inf$"):
        Affine.of(1.0, np.inf, 0)
