"""Norms in binary32, of the flows whose values near memory are not fixed point. Source: ``docs/open-loop.md``, 13.1."""

import dataclasses
import math
from fractions import Fraction
from typing import Any

import numpy as np


def round_single(value: Fraction) -> np.float32:
    """Nearest binary32 (ties to even) of an exact rational."""
    if value == 0:
        return np.float32(0)
    magnitude = abs(value)
    # floor(log2), at most one too large by the lengths alone
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    lsb = max(exponent - 23, -149)
    rounded = math.ldexp(float(round(magnitude / Fraction(2) ** lsb)), lsb)
    with np.errstate(over="ignore"):
        return np.float32(-rounded if value < 0 else rounded)


def reciprocal_root_single(value: Fraction) -> np.float32:
    """Nearest binary32 (ties to even) of the real number ``1 / sqrt(value)``, for a positive rational."""
    numerator, denominator = value.denominator, value.numerator
    # Scaled by 4^shift, the root has at least 30 bits; a sticky bit below them decides every tie.
    shift = max(30 + (denominator.bit_length() - numerator.bit_length()) // 2 + 1, 0)
    square = (numerator << 2 * shift) // denominator
    root = math.isqrt(square)
    sticky = root * root * denominator != numerator << 2 * shift
    return round_single(Fraction(2 * root + sticky, 2 ** (shift + 1)))


@dataclasses.dataclass(frozen=True, eq=False)
class Norm:
    """A normalisation over sets of elements in binary32: GroupNorm, LayerNorm, RMS norm (13.2). z of padding is 0.

    Members
    -------
    sets : int64 (vectors, n)
        Statistics set of each element, 0 and up; -1 for padding.
    gamma, beta : float32, broadcast against `sets`
        Scale and shift.
    epsilon : float
        Added to the variance, as binary32; positive.
    centred : bool
        Whether the mean is taken away; an RMS norm leaves it, and its variance is the mean square.

    Raises
    ------
    ValueError
        If a number is not finite or `epsilon` not positive.
    """

    sets: np.ndarray
    gamma: Any = 1.0
    beta: Any = 0.0
    epsilon: float = 1e-5
    centred: bool = True

    def __post_init__(self) -> None:
        """Check the numbers and bring them to their type."""
        object.__setattr__(self, "sets", np.asarray(self.sets, np.int64))
        for name in ("gamma", "beta"):
            array = np.asarray(getattr(self, name), np.float32)
            if not np.isfinite(array).all():
                raise ValueError(f"{name} must be finite, not {array[~np.isfinite(array)].ravel()[0]}")
            object.__setattr__(self, name, array)
        if not 0 < np.float32(self.epsilon) < np.inf:
            raise ValueError(f"epsilon must be positive and finite, not {self.epsilon}")


def _totals(sets: np.ndarray, values: np.ndarray, count: int) -> list[int]:
    """Exact sum of the values of each set."""
    parts = []
    for part in (values >> 24, values & (2**24 - 1)):  # each far from 63 bits for any set that fits memory
        sums = np.zeros(count, np.int64)
        np.add.at(sums, sets, part)
        parts.append(sums.tolist())
    return [(high << 24) + low for high, low in zip(*parts, strict=True)]


def normalise(y: Any, poisoned: Any, norm: Norm, state_exponent: int) -> tuple[np.ndarray, np.ndarray]:
    """Normalise a fixed-point state (numerics, section 13.1).

    Numerics: ``sum Y`` and ``sum Y^2`` are exact; mean and reciprocal deviation are rounded once; the four operations
    that follow are binary32 operations.

    Parameters
    ----------
    y : int (vectors, n)
        State in units of ``2^state_exponent``, below ``2^24`` in magnitude.
    poisoned : bool (vectors, n)
        Elements that poison their whole set.
    norm : Norm
        Sets, scale and shift.
    state_exponent : int
        ``s``.

    Returns
    -------
    z : float32 (vectors, n)
        0 for padding.
    poisoned : bool (vectors, n)
        Elements of poisoned sets.
    """
    y, poisoned = np.asarray(y, np.int64), np.asarray(poisoned, np.bool_)
    sets = norm.sets
    used = sets >= 0
    count = int(sets.max(initial=-1)) + 1
    sizes = np.bincount(sets[used], minlength=count).tolist()
    sums = _totals(sets[used], y[used], count) if norm.centred else [0] * count
    squares = _totals(sets[used], y[used] ** 2, count)
    unit = Fraction(2) ** state_exponent
    epsilon = Fraction(float(np.float32(norm.epsilon)))
    mean, scale = np.zeros(count, np.float32), np.zeros(count, np.float32)
    for index, (size, total, square) in enumerate(zip(sizes, sums, squares, strict=True)):
        if size:
            variance = Fraction(square * size - total * total, size * size) * unit * unit
            mean[index] = round_single(Fraction(total, size) * unit)
            scale[index] = reciprocal_root_single(variance + epsilon)
    bad = np.zeros(count, np.bool_)
    bad[sets[used & poisoned]] = True
    which = np.where(used, sets, 0)
    with np.errstate(over="ignore"):
        t = np.ldexp(y.astype(np.float32), state_exponent) - mean[which]
        z = (t * scale[which]) * norm.gamma + norm.beta
    return np.where(used, z, np.float32(0)).astype(np.float32), used & bad[which]
