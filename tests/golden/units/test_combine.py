"""States of two or three others against fractions."""

from fractions import Fraction

import numpy as np
import pytest

from golden.units.combine import Factors, combine, multiply

pytestmark = pytest.mark.golden


@pytest.mark.parametrize("count", [2, 3])
def test_one_rounding_of_the_exact_sum(count):
    rng = np.random.default_rng(count)
    for _ in range(60):
        unit = int(rng.integers(-40, 30))
        sources = [unit + int(s) for s in rng.integers(-6, 4, count)]
        reals = [rng.standard_normal(50) * 2.0 ** rng.integers(-12, 3) for _ in range(count)]
        states = [rng.integers(1 - 2**17, 2**17, 50) for _ in range(count)]
        factors = Factors.of(reals, sources, unit)
        top = 2**17 - 1
        y, overflow = combine(states, factors, top)
        for lane in range(50):
            exact = sum(
                int(s[lane]) * int(f.values[lane]) * Fraction(1, 2**f.places)
                for s, f in zip(states, factors, strict=True)
            )
            assert y[lane] == min(max(round(exact), -top), top)
            assert overflow or abs(round(exact)) <= top
        least = min(f.places for f in factors)
        for factor, real, source in zip(factors, reals, sources, strict=True):
            assert 0 <= factor.places <= least + 16 and np.abs(factor.values).max() < 2**17
            step = Fraction(2) ** -factor.places
            for a, value in zip(factor.values, real, strict=True):
                true = Fraction(value) * Fraction(2) ** (source - unit)
                assert abs(a * step - true) <= step / 2


def test_a_residual_of_one_unit_is_a_sum():
    factors = Factors.of([1.0, 1.0], [-12, -12], -12)
    assert combine([[5, -7]], factors[:1], 100)[0].tolist() == [5, -7]
    assert combine([[5, -7], [1, 2]], factors, 100) == (pytest.approx([6, -5]), False)
    assert combine([[99, -99], [99, -99]], factors, 100)[0].tolist() == [100, -100]
    assert combine([[99], [99]], factors, 100)[1]


@pytest.mark.parametrize("places", [0, 5, 17, 40])
def test_products_round_once(places):
    rng = np.random.default_rng(places)
    left, right = rng.integers(1 - 2**17, 2**17, (2, 300))
    top = 2**17 - 1
    y, overflow = multiply(left, right, places, top)
    exact = [round(Fraction(int(a) * int(b), 2**places)) for a, b in zip(left, right, strict=True)]
    assert y.tolist() == [min(max(v, -top), top) for v in exact]
    assert overflow == any(abs(v) > top for v in exact)


def test_bad_arguments():
    with pytest.raises(ValueError, match="^Factor must be finite, not inf$"):
        Factors.of([np.inf], [0], 0)
