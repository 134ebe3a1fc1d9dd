"""Norm of a fixed-point state in two stages: coefficients of each set from exact sums, then two roundings an element.

::

        sums -> mean (1/256 units), root r 2^rho                gain, shift (by channel)
                        |                                            |
    Y --> (256 Y - mean) r 2^(rho-8) --RNE, 18 bits--> u --> (u G 2^-h + B / 4) --RNE--> z

One form serves group norm, layer norm, RMS norm and their adaptive kinds: what differs are the sets, whether the mean
counts, and the tables G and B. Every factor is below ``2^17`` in magnitude: signed multipliers of 18 bits do.
Source: ``docs/closed-loop.md``, 12.5 to 12.7.
"""

import dataclasses
import functools
import math
from fractions import Fraction
from typing import Any

import numpy as np

from golden import formats

FACTOR_BITS = 17
"""Magnitude bits of every factor: they fit a signed multiplier of 18 bits."""

FACTOR_MAX = 2**FACTOR_BITS - 1

UNIT = -10
"""Exponent of the unit of u where nothing else is asked for: 18 bits reach 128 deviations."""

MEAN_BITS = 8
"""Fraction bits of a mean."""

FINER_MAX = 8
"""Places by which the unit of a set can be finer than that of an element."""

PLACES_MAX = 30
"""Largest shift of the second stage: ``u G`` has 34 bits."""

SEEDS = np.array([(math.isqrt(2**50 // ((2 * i + 1) << 7)) + 1) // 2 for i in range(128, 512)], np.int64)
"""``RNE(2^24 / sqrt((i + 1/2) 2^8))`` for i in 128..511: 384 words of 17 bits."""


@functools.lru_cache(maxsize=1024)
def factor(value: Any) -> tuple[int, int]:
    """``(a, e)``: the nearest number ``a 2^e`` to a positive rational, with `a` in ``2^16 .. 2^17 - 1``.

    Raises
    ------
    ValueError
        If the value is not positive.
    """
    value = Fraction(value)
    if value <= 0:
        raise ValueError(f"Factor must be positive, not {value}")
    exponent = value.numerator.bit_length() - value.denominator.bit_length() - FACTOR_BITS
    while (rounded := round(value / Fraction(2) ** exponent)) > FACTOR_MAX:
        exponent += 1
    return rounded, exponent


_shift_right = np.frompyfunc(lambda value, shift: value >> int(shift) if shift > 0 else value << -int(shift), 2, 1)


@functools.lru_cache(maxsize=1024)
def variance_floor(epsilon: float, size: int, unit: int) -> int:
    """``RNE(N^2 epsilon 4^-s)``: epsilon of a set of N elements of unit ``2^s`` as `coefficients` takes it.

    Beyond ``2^(72) N^2`` it counts as that: u is 0 then anyway.
    """
    found = round(Fraction(float(epsilon)) * size * size / Fraction(4) ** unit)
    return min(found, size * size << 72)


def reciprocal_root(value: Any) -> tuple[np.ndarray, np.ndarray]:
    """``(y, t)`` with ``y 2^(-24 - t)`` near ``1 / sqrt(D)``: a table and one Newton step.

    Numerics: y is within 2^-14.5 of the true value, relatively (tested over every mantissa).

    Parameters
    ----------
    value : int array
        D, at least 1; int64 or Python integers.

    Returns
    -------
    y : int64 array
        ``2^15.5 .. 2^16.5``.
    t : int64 array
        Half the places that D was shifted by.
    """
    value = np.asarray(value)
    t = (formats.bit_length(value) - 16) // 2
    # the high bits, truncated: D = m 4^t with m of 16 or 17 bits
    if value.dtype == object:
        m = _shift_right(value, 2 * t).astype(np.int64)
    else:
        m = (value << np.maximum(-2 * t, 0)) >> np.maximum(2 * t, 0)
    seed = SEEDS[(m >> 8) - 128]
    square = formats.round_shift(seed * seed, 16)
    correction = formats.round_shift((np.int64(3) << 32) - m * square, 17)
    return formats.round_shift(seed * correction, 16), t


@dataclasses.dataclass(frozen=True, eq=False)
class Coefficients:
    """Of each set: what the first stage needs.

    Members
    -------
    mean : int64 (sets,)
        In units of ``2^-8`` of the state's.
    root : int64 (sets,)
        r, below ``2^17``.
    exponent : int64 (sets,)
        rho: ``r 2^rho`` units of u are one unit of the state.
    """

    mean: np.ndarray
    root: np.ndarray
    exponent: np.ndarray


def coefficients(
    total: Any, square: Any, size: int, floor: int, *, unit: int = UNIT, centred: bool = True
) -> Coefficients:
    """Mean and reciprocal root of sets of one size, from their exact sums.

    Numerics: the root is within ``2^-14`` of ``1 / sqrt(variance + epsilon)``, relatively; the mean is rounded once.

    Parameters
    ----------
    total, square : int (sets,)
        ``sum Y`` and ``sum Y^2``.
    size : int
        N, elements of a set.
    floor : int
        `variance_floor` of epsilon.
    unit : int
        u counts units of ``2^unit``.
    centred : bool
        Whether the mean is taken away; an RMS norm leaves it.
    """
    total, square = np.asarray(total), np.asarray(square)
    if not centred:
        total = np.zeros_like(total)
    wide = size * float(np.abs(square).max(initial=0)) + float(floor)
    wide += float(np.abs(total).max(initial=0)) ** 2
    dtype = np.int64 if wide < 2.0**62 else object
    variance = square.astype(dtype) * size - total.astype(dtype) ** 2 + floor
    y, t = reciprocal_root(np.maximum(variance, 1))
    significand, places = factor(size)
    product = y * significand
    shift = np.where(product < 2 ** (FACTOR_BITS + 16) - 2**15, 16, 17)
    root = formats.round_shift(product, shift)
    return Coefficients(
        mean=formats.round_quotient(total.astype(np.int64) << MEAN_BITS, size),
        root=root,
        exponent=shift + places - 24 - t - unit,
    )


def normalise(y: Any, mean: Any, root: Any, exponent: Any, *, finer: Any = 0) -> tuple[np.ndarray, bool]:
    """First stage: ``u = RNE((Y 2^(8+finer) - mean) r 2^(rho-8))``, clamped to ``+-(2^17 - 1)``.

    Parameters
    ----------
    y : int array
        State.
    mean, root, exponent : int, broadcast against `y`
        Of each element's set, see `Coefficients`.
    finer : int, broadcast against `y`
        By how many places the set's unit is finer than that of the element, 0 to 8 (a set over two tensors).

    Returns
    -------
    u : int64 array
    overflow : bool
        Whether one was clamped.
    """
    centred = (np.asarray(y, np.int64) << MEAN_BITS + np.asarray(finer, np.int64)) - mean
    u = formats.round_shift(centred * root, MEAN_BITS - np.asarray(exponent, np.int64))
    return formats.clamp(u, FACTOR_MAX)


@dataclasses.dataclass(frozen=True, eq=False)
class Affine:
    """Tables of the second stage; any shape that can be broadcast against the elements.

    Members
    -------
    gain : int64 array
        G, below ``2^17`` in magnitude.
    shift : int64 array
        B, in quarters of a unit of z.
    places : int
        h, 2 to 30.
    """

    gain: np.ndarray
    shift: np.ndarray
    places: int

    @classmethod
    def of(cls, gain: Any, shift: Any, unit: int, *, source: int = UNIT, width: int = 18) -> "Affine":
        """Tables of real numbers, each rounded once (RNE); a gain or shift beyond its bits is clamped.

        Parameters
        ----------
        gain, shift : float array
            Real factors and shifts.
        unit, source : int
            Exponents of the units of z and u.
        width : int
            Bits of a state: a shift has two more.

        Raises
        ------
        ValueError
            If a number is not finite.
        """
        gain, shift = np.asarray(gain, np.float64), np.asarray(shift, np.float64)
        for name, table in (("gain", gain), ("shift", shift)):
            if not np.isfinite(table).all():
                raise ValueError(f"{name} must be finite, not {table[~np.isfinite(table)].ravel()[0]}")
        exponent = int(np.frexp(np.abs(gain).max(initial=0))[1]) - FACTOR_BITS
        places = min(max(unit - source - exponent, 2), PLACES_MAX)
        integers = np.rint(np.ldexp(gain, places - unit + source))
        quarters = np.rint(np.ldexp(shift, 2 - unit))
        top = 2 ** (width + 1) - 1
        return cls(
            np.clip(integers, -FACTOR_MAX, FACTOR_MAX).astype(np.int64),
            np.clip(quarters, -top, top).astype(np.int64),
            places,
        )


def affine(u: Any, tables: Affine, top: int) -> tuple[np.ndarray, bool]:
    """Second stage: ``z = RNE(u G 2^-h + B / 4)``, clamped to ``+-top``, and whether one was clamped."""
    total = np.asarray(u, np.int64) * tables.gain + (tables.shift << tables.places - 2)
    return formats.clamp(formats.round_shift(total, tables.places), top)
