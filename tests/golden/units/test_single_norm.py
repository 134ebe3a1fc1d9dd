import decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.units.single_norm import Norm, normalise, reciprocal_root_single, round_single

pytestmark = pytest.mark.golden


def single(value: Fraction) -> Fraction:
    """Nearest binary32 of a fraction, found between numpy's neighbours of its binary64 approximation."""
    near = np.float32(float(value))
    candidates = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    exact = [Fraction(float(c)) for c in candidates]
    best = min(abs(c - value) for c in exact)
    ties = [c for c, f in zip(candidates, exact, strict=True) if abs(f - value) == best]
    even = [c for c in ties if int(c.view(np.uint32)) % 2 == 0]
    return Fraction(float((even or ties)[0]))


@settings(max_examples=300)
@given(st.integers(-(2**60), 2**60), st.integers(1, 2**60), st.integers(-40, 40))
def test_round_single(numerator, denominator, scale):
    value = Fraction(numerator, denominator) * Fraction(2) ** scale
    assert Fraction(float(round_single(value))) == single(value)


def test_round_single_ties_and_ends():
    for value in (
        Fraction(2**24 + 1),
        Fraction(2**24 + 3),
        Fraction(2**25 - 1),
        Fraction(1, 3),
        Fraction(2**24 - 1, 2),
    ):
        for sign in (1, -1):
            assert Fraction(float(round_single(sign * value))) == single(sign * value)
    assert round_single(Fraction(3, 2**150)) == np.float32(2**-148)  # a tie of subnormals, to even
    assert round_single(Fraction(0)) == 0


@settings(max_examples=300)
@given(st.integers(1, 2**70), st.integers(1, 2**70))
def test_reciprocal_root(numerator, denominator):
    value = Fraction(numerator, denominator)
    with decimal.localcontext(decimal.Context(prec=90)):
        root = (decimal.Decimal(denominator) / decimal.Decimal(numerator)).sqrt()
    got = reciprocal_root_single(value)
    # No other binary32 is nearer; exact ties are squares and tested below.
    for other in (np.nextafter(got, np.float32(0)), np.nextafter(got, np.float32(np.inf))):
        assert abs(decimal.Decimal(float(got)) - root) <= abs(decimal.Decimal(float(other)) - root)


def test_reciprocal_root_of_squares():
    roots = [Fraction(1), Fraction(3, 8), Fraction(2**24 + 1, 2**20), Fraction(2**24 + 3), Fraction(1, 2**30)]
    # Next to a tie, by far less than the bits of the integer root.
    roots += [Fraction(2**24 + odd, 2**24) + side * Fraction(1, 2**90) for odd in (1, 3) for side in (1, -1)]
    for root in roots:
        assert Fraction(float(reciprocal_root_single(1 / root**2))) == single(root)


def naive_norm(y, sets, gamma, beta, epsilon, s, centred=True):
    """Section 13.1 in fractions; the reciprocal root from 60 decimals."""
    result = np.zeros(y.shape, np.float64)
    unit = Fraction(2) ** s
    for index in set(sets.ravel().tolist()) - {-1}:
        members = [Fraction(int(v)) * unit for v in y[sets == index]]
        mean = sum(members) / len(members) if centred else Fraction(0)
        variance = sum(v * v for v in members) / len(members) - mean * mean + Fraction(float(np.float32(epsilon)))
        with decimal.localcontext(decimal.Context(prec=60)):
            root = (decimal.Decimal(variance.denominator) / decimal.Decimal(variance.numerator)).sqrt()
            rstd = single(Fraction(root))
        mean = single(mean)
        for position in zip(*np.nonzero(sets == index), strict=True):
            t = single(int(y[position]) * unit - mean)
            u = single(t * rstd)
            v = single(u * Fraction(float(gamma[position])))
            result[position] = float(single(v + Fraction(float(beta[position]))))
    return result


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("s", [-16, -10, -3])
def test_norm_against_fractions(s, centred):
    rng = np.random.default_rng(-s)
    y = rng.integers(-(2**23) + 1, 2**23, (10, 8)) >> rng.integers(0, 20, (10, 1))
    sets = rng.integers(-1, 4, (10, 8))
    gamma, beta = rng.standard_normal((2, 10, 8)).astype(np.float32)
    norm = Norm(sets, gamma, beta, 1e-5, centred)
    z, poisoned = normalise(y, np.zeros(y.shape, bool), norm, s)
    assert z.dtype == np.float32 and not poisoned.any()
    assert np.array_equal(z.astype(np.float64), naive_norm(y, sets, gamma, beta, 1e-5, s, centred))


def test_sums_of_a_large_set_are_exact():
    """2^17 elements of 23 bits: sum Y^2 passes 2^63."""
    y = np.full((2**14, 8), 2**23 - 1)
    y[0, 0] = -(2**23 - 1)
    z, _ = normalise(y, np.zeros(y.shape, bool), Norm(np.zeros(y.shape, int)), 0)
    size, top = 2**17, 2**23 - 1
    mean = Fraction(top * (size - 2), size)
    variance = Fraction(top * top) - mean * mean + Fraction(float(np.float32(1e-5)))
    with decimal.localcontext(decimal.Context(prec=60)):
        rstd = single(Fraction((decimal.Decimal(variance.denominator) / decimal.Decimal(variance.numerator)).sqrt()))
    expected = [float(single(single(v - single(mean)) * rstd)) for v in (-top, top)]
    assert [float(z[0, 0]), float(z[1, 1])] == expected


def test_bad_arguments():
    with pytest.raises(ValueError, match="^gamma must be finite, not nan$"):
        Norm(np.zeros((1, 8)), gamma=np.nan)
    with pytest.raises(ValueError, match="^epsilon must be positive and finite, not 0$"):
        Norm(np.zeros((1, 8)), epsilon=0)
