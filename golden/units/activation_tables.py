"""SiLU and both forms of GELU from fixed point to fixed point: half of z, and an even function of it from a table.

::

    f(z) = z / 2 + h(|z|)        h(a) = f(a) - a / 2 = f(-a) + a / 2,   from 0 to about a / 2

           |z| in 2^-14, 18 bits:  | segment (10) | place (8) |    h = (base 2^8 + delta place) 2^-23

From 16 on the functions are z above and 0 below, for values of any size. Since h is flat at 0, small values keep their
relative precision: they are halved exactly. A table is 1024 words of 18 + 10 bits.
Source: ``docs/closed-loop.md``, 12.8.
"""

import dataclasses
import decimal
import functools
from typing import Any

import numpy as np

from golden import formats
from golden.common import names
from golden.units.activations import ACTIVATIONS

FUNCTIONS = ("silu", "gelu", "erf_gelu")
"""Names of the functions with a table."""

ARGUMENT = -14
"""Exponent of the unit of the argument."""

BASE = -15
"""Exponent of the unit of a table's words."""

PLACES = 8
SEGMENTS = 1024


@dataclasses.dataclass(frozen=True, eq=False)
class ActivationTable:
    """Numbers of one function: data for every implementation.

    Members
    -------
    base : int64 (1024,)
        ``RNE(h(i / 64) 2^15)``.
    delta : int64 (1024,)
        What the next one has more.
    """

    base: np.ndarray
    delta: np.ndarray

    def even(self, argument: Any) -> np.ndarray:
        """``h`` in units of ``2^-23`` for arguments of 0 to ``2^18 - 1`` units of ``2^-14``."""
        segment, place = argument >> PLACES, argument & 2**PLACES - 1
        return (self.base[segment] << PLACES) + self.delta[segment] * place


@functools.cache
def table(name: str) -> ActivationTable:
    """Table of a function.

    Raises
    ------
    ValueError
        If there is no such function.
    """
    function = names.lookup("Activation", name, {one: ACTIVATIONS[one] for one in FUNCTIONS})
    words = []
    with decimal.localcontext(decimal.Context(prec=40)):
        for index in range(SEGMENTS + 1):
            a = decimal.Decimal(index) / 64
            words.append(int(((function(a) - a / 2) * 2**-BASE).to_integral_value()))
    words = np.array(words, np.int64)
    return ActivationTable(words[:-1], np.diff(words))


def apply(name: str, z: Any, unit: int, result: int) -> np.ndarray:
    """``RNE(f(z 2^unit) / 2^result)``, not clamped: int64.

    Numerics: within ``2^-14`` of the function, then one rounding. From 16 on exact but for that rounding.

    Parameters
    ----------
    name : str
        One of `FUNCTIONS`.
    z : int array
        At most 24 bits.
    unit, result : int
        Exponents of the units of `z` and of the result.
    """
    z = np.asarray(z, np.int64)
    magnitude = np.abs(z)
    inner = magnitude < 2.0 ** (4 - unit)  # below 16
    argument = formats.round_shift(np.where(inner, magnitude, 0), ARGUMENT - unit)
    inner &= argument < SEGMENTS << PLACES
    fine = min(unit - 1, BASE - PLACES)
    even = table(name).even(np.where(inner, argument, 0))
    total = formats.shift_left(np.where(inner, z, 0), unit - 1 - fine)
    total = total + formats.shift_left(even, BASE - PLACES - fine)
    outer = formats.round_shift(np.maximum(z, 0), result - unit)
    return np.where(inner, formats.round_shift(total, result - fine), outer)
