"""Softmax in fixed point against fractions, and against real numbers."""

import math
from fractions import Fraction

import numpy as np
import pytest

from golden.units.softmax import log2_factor, powers, probabilities

pytestmark = pytest.mark.golden


def test_every_power():
    f = np.arange(2**13)
    t = powers(f)
    assert t[0] == 2**16 and t.min() > 2**15 and t.max() <= 2**16
    assert np.abs(t * 2.0**-16 - 2.0 ** (-f / 2**13)).max() < 2.0**-16


def walk(row, root, exponent, unit):
    """The rules in fractions, for one row; the powers are data."""
    top = max(row)
    arguments = [min(round(Fraction((top - y) * root) * Fraction(2) ** exponent), 2**18 - 1) for y in row]
    numbers = [(b >> 13, int(powers(np.int64(b & 8191)))) for b in arguments]
    total = sum(round(Fraction(t << 8, 2**n)) for n, t in numbers)
    length = (total - 1).bit_length()
    reciprocal = round(Fraction(2 ** (15 + length), total))
    assert 2**15 <= reciprocal <= 2**16
    return [round(Fraction(t * reciprocal, 1) / Fraction(2) ** (7 + n + length + unit)) for n, t in numbers]


@pytest.mark.parametrize("length", [1, 2, 7, 64, 500])
@pytest.mark.parametrize("unit", [-24, -16, -10])
def test_rows_against_fractions(length, unit):
    rng = np.random.default_rng([length, -unit])
    for scale in (1.0, 0.17677669, 3.0, 2.0**-20):
        root, exponent = log2_factor(scale, -12)
        y = rng.integers(-(2 ** int(rng.integers(2, 18))), 2**17, (3, length))
        found = probabilities(y, root, exponent, unit)
        assert found.tolist() == [walk(row.tolist(), root, exponent, unit) for row in y]


@pytest.mark.parametrize("length", [2, 64, 4096])
def test_near_the_real_softmax(length):
    rng = np.random.default_rng(length)
    y = np.rint(rng.standard_normal((20, length)) * 2.0**14).astype(np.int64)
    scores = y * 2.0**-12 / math.sqrt(32)
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    truth = e / e.sum(axis=1, keepdims=True)
    found = probabilities(y, *log2_factor(1 / math.sqrt(32), -12), -24) * 2.0**-24
    np.testing.assert_allclose(found, truth, rtol=2.0**-12, atol=2.0**-24)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=2.0**-14)


def test_values_of_any_size():
    """Scores of 1e11 leave one; those of 1e-9 leave all alike."""
    root, exponent = log2_factor(1.0, 20)
    assert probabilities([5, 4, -9], root, exponent, -16).tolist() == [2**16, 0, 0]
    root, exponent = log2_factor(1.0, -60)
    assert probabilities([99999, 0, -99999, 7], root, exponent, -16).tolist() == [2**14] * 4


def test_bad_arguments():
    with pytest.raises(ValueError, match="^Factor must be positive, not 0$"):
        log2_factor(0.0, 0)
