"""SiLU, both forms of GELU, and exp from FP16 to FP16: tables with linear interpolation.

Source: ``docs/open-loop.md``, 13.3 and 13.4.

Words: a *binade* is what one sign and one exponent field cover; its 1024 values are cut into ``2^j`` equal *segments*.
On a segment the result is a straight line between the function's values at its ends, both rounded to 16 significant
bits of the larger::

       pattern = | sign | field (5) | fraction (10)             |
                   binade = 32 sign   segment (j) | place (10-j)
                        + field

    y = (base * 2^(10-j) + delta * place) * 2^(unit - (10-j)),  rounded once to FP16

The number of segments of each binade is the least that keeps the whole within 3/4 of a unit in the last place.
"""

import dataclasses
import decimal
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from golden import formats
from golden.common import names

_PI = decimal.Decimal("3.14159265358979323846264338327950288419716939937511")
_CONTEXT = decimal.Context(prec=40, Emin=-(10**6), Emax=10**6)
_CEILING = decimal.Decimal(2) ** 17  # stands for whatever is beyond FP16: it is clamped


def _exp(x: decimal.Decimal) -> decimal.Decimal:
    return _CEILING if x > 16 else x.exp(_CONTEXT)


def _logistic(x: decimal.Decimal, y: decimal.Decimal) -> decimal.Decimal:
    """``x / (1 + exp(-y))``."""
    if y < -2000:
        return decimal.Decimal(0)
    return x / (1 + _CONTEXT.exp(-y)) if y < 2000 else x


def _silu(x: decimal.Decimal) -> decimal.Decimal:
    return _logistic(x, x)


def _gelu(x: decimal.Decimal) -> decimal.Decimal:
    # 1 + tanh(u) = 2 / (1 + exp(-2u))
    inner = x + decimal.Decimal("0.044715") * x * x * x
    return _logistic(x, 2 * (2 / _PI).sqrt(_CONTEXT) * inner)


def _erf_gelu(x: decimal.Decimal) -> decimal.Decimal:
    if abs(x) > 13:  # the normal distribution is within 2^-126 of 0 or 1
        return max(x, decimal.Decimal(0))
    # erf(x / sqrt(2)) = sqrt(2/pi) exp(-x^2 / 2) (x + x^3 / 3 + x^5 / (3 * 5) + ...), all terms of one sign
    term, total, odd = x, decimal.Decimal(0), 1
    while total + term != total:
        total += term
        odd += 2
        term *= x * x / odd
    return x / 2 * (1 + (2 / _PI).sqrt(_CONTEXT) * _CONTEXT.exp(-x * x / 2) * total)


ACTIVATIONS: dict[str, Callable[[decimal.Decimal], decimal.Decimal]] = {
    "silu": _silu,
    "gelu": _gelu,
    "erf_gelu": _erf_gelu,
    "exp": _exp,
}
"""The functions by name, to 40 digits."""


@dataclasses.dataclass(frozen=True, eq=False)
class ActivationTable:
    """Numbers of one activation: data for every implementation.

    Members
    -------
    segments : int64 (64,)
        ``j`` of each binade, sign bit times 32 plus exponent field; 0 for the fields of infinities and NaN.
    start : int64 (64,)
        Row of the binade's first segment.
    base, delta : int64 (rows,)
        Value at the low end of the segment's magnitudes and its growth over the segment, signed, 18 bits.
    unit : int64 (rows,)
        Exponent of the unit of both.
    """

    segments: np.ndarray
    start: np.ndarray
    base: np.ndarray
    delta: np.ndarray
    unit: np.ndarray


def _end(binade: int, place: decimal.Decimal) -> decimal.Decimal:
    """Value of a binade at a fraction of it, 0..1."""
    field = binade % 32
    if field == 0:
        magnitude = place * decimal.Decimal(2) ** -14
    else:
        magnitude = (1 + place) * decimal.Decimal(2) ** (field - 15)
    return -magnitude if binade >= 32 else magnitude


def build(name: str, segments: list[int]) -> ActivationTable:
    """Table for given numbers of segments; to choose them, and for `table`."""
    function = ACTIVATIONS[name]
    starts, base, delta, unit = [], [], [], []
    with decimal.localcontext(_CONTEXT):
        for binade, log in enumerate(segments):
            starts.append(len(base))
            if binade % 32 == 31:
                continue
            ends = [function(_end(binade, decimal.Decimal(i) / 2**log)) for i in range(2**log + 1)]
            for low, high in zip(ends[:-1], ends[1:], strict=True):
                largest = max(abs(low), abs(high))
                exponent = -40
                while decimal.Decimal(2) ** (exponent + 1) <= largest:
                    exponent += 1
                scale = decimal.Decimal(2) ** (exponent - 15)
                first, last = (int((end / scale).to_integral_value()) for end in (low, high))
                base.append(first)
                delta.append(last - first)
                unit.append(exponent - 15)
    return ActivationTable(*(np.array(part, np.int64) for part in (segments, starts, base, delta, unit)))


_SEGMENTS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "silu": (
        (0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 3, 3, 4, 4, 4, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        (0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 4, 4, 5, 5, 6, 7, 8, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    ),
    "gelu": (
        (0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        (0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 4, 4, 5, 5, 6, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    ),
    "erf_gelu": (
        (0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        (0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 4, 4, 5, 5, 6, 8, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    ),
    "exp": (
        (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    ),
}
"""``j`` of the positive and the negative fields 0..30 of each function."""


@functools.cache
def table(name: str) -> ActivationTable:
    """Table of an activation.

    Raises
    ------
    ValueError
        If there is no such function.
    """
    names.lookup("Activation", name, ACTIVATIONS)
    positive, negative = _SEGMENTS[name]
    return build(name, [*positive, 0, *negative, 0])


def activation(name: str, values: Any, numbers: ActivationTable | None = None) -> formats.Halves:
    """Apply ``"silu"``, ``"gelu"`` (tanh form), ``"erf_gelu"`` (exact form) or ``"exp"`` to FP16 patterns.

    Numerics: within one unit in the last place for every pattern; results beyond FP16 are clamped; patterns that are
    not finite give 0x7E00.

    Parameters
    ----------
    name : str
        Function.
    values : uint16 array
        FP16 patterns.
    numbers : ActivationTable
        Another table than `table` gives.

    Raises
    ------
    ValueError
        If there is no such function.
    """
    numbers = numbers or table(name)
    patterns = np.asarray(values).astype(np.int64)
    finite = formats.is_finite(patterns)
    binade, fraction = patterns >> 10, patterns & 1023
    places = 10 - numbers.segments[binade]
    row = np.where(finite, numbers.start[binade] + (fraction >> places), 0)
    place = fraction & ((np.int64(1) << places) - 1)
    total = (numbers.base[row] << places) + numbers.delta[row] * place
    result, overflow = formats.encode_half(np.where(finite, total, 0), numbers.unit[row] - places)
    return formats.Halves(
        np.where(finite, result, formats.HALF_NAN).astype(np.uint16),
        {"overflow": bool(overflow.any()), "poisoned": bool((~finite).any())},
    )
