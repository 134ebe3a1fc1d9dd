"""A state of two or three others: sum of weights, or product; one rounding. Source: ``docs/closed-loop.md``, 12.14."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from golden import formats
from golden.units.norm import FACTOR_BITS, FACTOR_MAX

PLACES_MAX = 44
SPREAD = 16
"""At most by so many places the shifts of two operands differ: the adder has 18 + 17 + 16 bits and two of carry."""


@dataclasses.dataclass(frozen=True, eq=False)
class Factors:
    """Factors of one operand; any shape that can be broadcast against it.

    Members
    -------
    values : int64 array
        a, below ``2^17`` in magnitude.
    places : int
        h: the factor is ``a 2^-h`` units of the result for a unit of the operand.
    """

    values: np.ndarray
    places: int

    @classmethod
    def of(cls, factors: Sequence[Any], sources: Sequence[int], unit: int) -> tuple["Factors", ...]:
        """Factors of all operands, from real numbers, each rounded once (RNE).

        Numerics: h is the largest for which every ``|a| < 2^17``, from 0 to 44, and at most 16 more than the least of
        the others; one below 0 has no place in 17 bits, and clamps.

        Parameters
        ----------
        factors : sequence of float arrays
            Real factor of each operand.
        sources : sequence of int
            Exponents of their units.
        unit : int
            Exponent of the unit of the result.

        Raises
        ------
        ValueError
            If a factor is not finite.
        """
        reals, places = [], []
        for factor, source in zip(factors, sources, strict=True):
            real = np.ldexp(np.asarray(factor, np.float64), source - unit)
            if not np.isfinite(real).all():
                raise ValueError(f"Factor must be finite, not {real[~np.isfinite(real)].ravel()[0]}")
            most = FACTOR_BITS - int(np.frexp(np.abs(real).max(initial=0))[1])
            most -= bool(np.rint(np.ldexp(np.abs(real).max(initial=0), most)) > FACTOR_MAX)
            reals.append(real)
            places.append(min(max(most, 0), PLACES_MAX))
        least = min(places) + SPREAD
        found = []
        for real, shift in zip(reals, places, strict=True):
            shift = min(shift, least)
            integers = np.clip(np.rint(np.ldexp(real, shift)), -FACTOR_MAX, FACTOR_MAX)
            found.append(cls(integers.astype(np.int64), shift))
        return tuple(found)


def combine(states: Sequence[Any], factors: Sequence[Factors], top: int) -> tuple[np.ndarray, bool]:
    """``RNE(sum of a_i Y_i 2^-h_i)``, one rounding of the exact sum, clamped to ``+-top``.

    Parameters
    ----------
    states : sequence of int arrays
        At most 24 bits each.
    factors : sequence of Factors
        Of each.
    top : int
        Largest magnitude of the result.

    Returns
    -------
    state : int64 array
    overflow : bool
        Whether one was clamped.
    """
    most = max(factor.places for factor in factors)
    terms = zip(states, factors, strict=True)
    total = sum((np.asarray(y, np.int64) * factor.values) << most - factor.places for y, factor in terms)
    return formats.clamp(formats.round_shift(total, most), top)


def multiply(left: Any, right: Any, places: int, top: int) -> tuple[np.ndarray, bool]:
    """``RNE(Y_1 x_2 2^-h)``, one rounding, clamped; `places` is h, ``s - s_1 - s_2`` of the units."""
    product = np.asarray(left, np.int64) * np.asarray(right, np.int64)
    return formats.clamp(formats.round_shift(product, places), top)
