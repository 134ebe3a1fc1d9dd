"""Softmax of rows of a fixed-point state: exact maximum, powers of two, exact sum, one reciprocal a row.

::

    b = RNE((max - Y) R)     in 2^-13, 18 bits:  | n (5) | segment (8) | place (5) |
    t = T(fraction of b) 2^-n,   T = 2^-fraction in 2^-16, from 256 words of 17 + 8 bits
    p = RNE(T V 2^-(7 + n + L) / unit of p),   V = RNE(2^(15+L) / sum),  L the least with sum <= 2^L

R holds the factor of the scores and log2 e. Source: ``docs/closed-loop.md``, 12.9.
"""

import dataclasses
import functools
import math
from fractions import Fraction
from typing import Any

import numpy as np

from golden import formats
from golden.units.norm import factor

ARGUMENT = -13
ARGUMENT_MAX = 2**18 - 1
SEGMENT_PLACES = 5
SEGMENTS = 256
SUM = -24
"""Exponent of the unit of a row's sum."""

_LOG2_E = Fraction(int(math.log2(math.e) * 2**52), 2**52)


@functools.lru_cache(maxsize=1024)
def log2_factor(scale: float, unit: int) -> tuple[int, int]:
    """``(r, rho)``: ``r 2^rho`` arguments are one unit ``2^unit`` of scores that have the factor `scale` > 0.

    Raises
    ------
    ValueError
        If the factor is not positive.
    """
    root, exponent = factor(Fraction(float(scale)) * _LOG2_E * Fraction(2) ** (unit - ARGUMENT))
    return root, exponent


@functools.cache
def _table() -> tuple[np.ndarray, np.ndarray]:
    words = np.array([round(2.0 ** (16 - i / SEGMENTS)) for i in range(SEGMENTS + 1)], np.int64)
    return words[:-1], -np.diff(words)


def powers(argument: Any) -> np.ndarray:
    """T: ``2^-f`` in units of ``2^-16`` for fractions f of 0 to ``2^13 - 1`` units of ``2^-13``, int64.

    Numerics: within ``2^-16`` of the true value (tested over every argument).
    """
    base, drop = _table()
    segment, place = argument >> SEGMENT_PLACES, argument & 2**SEGMENT_PLACES - 1
    return formats.round_shift((base[segment] << SEGMENT_PLACES) - drop[segment] * place, SEGMENT_PLACES)


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """What one reading of whole rows leaves for the probabilities.

    Members
    -------
    largest : int64 (...)
        m, the row's largest score.
    reciprocal : int64 (...)
        V, 17 bits.
    length : int64 (...)
        L.
    """

    largest: np.ndarray
    reciprocal: np.ndarray
    length: np.ndarray


def _arguments(y: np.ndarray, largest: np.ndarray, root: int, exponent: int) -> tuple[np.ndarray, np.ndarray]:
    """n and T of every score."""
    below = largest[..., None] - y
    argument = np.minimum(formats.round_shift(below * root, -exponent), ARGUMENT_MAX).astype(np.int64)
    return argument >> 13, powers(argument & 2**13 - 1)


def rows(y: Any, root: int, exponent: int) -> Rows:
    """Largest score, reciprocal and length of each row.

    Parameters
    ----------
    y : int (..., length)
        Scores, at most 24 bits.
    root, exponent : int
        See `log2_factor`.
    """
    y = np.asarray(y, np.int64)
    largest = y.max(axis=-1)
    whole, t = _arguments(y, largest, root, exponent)
    total = formats.round_shift(t << -SUM - 16, whole).sum(axis=-1)
    length = formats.bit_length(total - 1)
    return Rows(largest, formats.round_quotient(np.int64(1) << 15 + length, total), length)


def probabilities(y: Any, root: int, exponent: int, unit: int, known: Rows | None = None) -> np.ndarray:
    """Softmax along the last axis, in units of ``2^unit``, not clamped: int64.

    Parameters
    ----------
    y : int (..., length)
        Scores, at most 24 bits.
    root, exponent : int
        See `log2_factor`.
    unit : int
        Exponent of the unit of the probabilities.
    known : Rows, optional
        Of these rows; by default they are computed.
    """
    y = np.asarray(y, np.int64)
    known = known or rows(y, root, exponent)
    whole, t = _arguments(y, known.largest, root, exponent)
    shift = 7 + whole + known.length[..., None] + unit
    return formats.round_shift(t * known.reciprocal[..., None], shift)
