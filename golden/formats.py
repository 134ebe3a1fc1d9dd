"""Number formats on integer patterns: FP16 and BF16 fields, FP16 as fixed point, rounding to nearest, ties to even.

An FP16 value is a multiple of ``2^-24``; as an integer of that unit (*fixed*) it is at most ``2^40`` in magnitude; sums
and products of FP16 values stay exact in 64-bit integers for a long way. Where 63 bits do not suffice, every function
here also takes object arrays of Python integers. `Format.from_floats` makes patterns of floats; where integers or
patterns are asked for, floats are refused (`integers`, `patterns`, `flags`). Source: ``docs/numerics.md``, section 1.
"""

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Halves:
    """FP16 values that a unit gives out, and what happened to them.

    Members
    -------
    values : uint16 array
        FP16 patterns.
    status : dict
        Sticky ``overflow`` and ``poisoned``.
    """

    values: np.ndarray
    status: dict[str, bool]


def integers(name: str, values: Any, low: int | None = None, high: int | None = None) -> np.ndarray:
    """Array of integers, each within bounds: as it is, or int64 where it was a list.

    Parameters
    ----------
    name : str
        What the sentence begins with.
    values : int array, or object array of Python integers
        What is checked; any shape.
    low, high : int, optional
        Least and largest that is taken.

    Raises
    ------
    TypeError
        If they are no integers.
    ValueError
        If one is out of bounds.
    """
    array = np.asarray(values)
    if array.size == 0:
        return array if array.dtype.kind in "iu" else array.astype(np.int64)
    if array.dtype == object:
        known = all(isinstance(one, int | np.integer) and not isinstance(one, bool) for one in array.flat)
    else:
        known = array.dtype.kind in "iu"
    if not known:
        raise TypeError(f"{name} must be integers, not {array.dtype}")
    held = (-np.inf, np.inf) if array.dtype == object else (np.iinfo(array.dtype).min, np.iinfo(array.dtype).max)
    if (low is None or low <= held[0]) and (high is None or held[1] <= high):
        return array  # no value of the type is out of bounds
    for found in (array.min(), array.max()):
        if (low is not None and found < low) or (high is not None and found > high):
            bounds = f"at least {low}" if high is None else f"at most {high}" if low is None else f"in {low}..{high}"
            raise ValueError(f"{name} must be {bounds}, not {int(found)}")
    return array


def patterns(name: str, values: Any) -> np.ndarray:
    """uint16 array of 16-bit patterns; arguments and errors as of `integers`."""
    array = np.asarray(values)
    if array.dtype.kind == "f" and array.size:
        raise TypeError(f"{name} must be 16-bit patterns, as formats.FLOAT16.from_floats makes them, not {array.dtype}")
    return integers(name, array, 0, 0xFFFF).astype(np.uint16, copy=False)


def flags(name: str, values: Any) -> np.ndarray:
    """bool array of bools, or of integers that are 0 or 1; arguments and errors as of `integers`."""
    array = np.asarray(values)
    return array if array.dtype == np.bool_ else integers(name, array, 0, 1).astype(np.bool_)


@dataclasses.dataclass(frozen=True)
class Format:
    """A binary floating-point format of 16 bits.

    Members
    -------
    name : str
        As in `Parameters.weight_format`.
    exponent_width, fraction_width : int
        Bits of the fields.
    bias : int
        Of the exponent field.
    least : int
        Exponent that zeros and subnormals count as.
    nan : int
        The pattern every NaN is produced as.
    """

    name: str
    exponent_width: int
    fraction_width: int
    bias: int
    nan: int

    @property
    def least(self) -> int:
        """Exponent of subnormals: ``1 - bias``."""
        return 1 - self.bias

    def fields(self, patterns: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Split finite patterns.

        Returns
        -------
        negative : bool array
            Sign bit.
        exponent : int64 array
            ``E' = max(E, 1)``.
        significand : int64 array
            ``M``, hidden one included; the value is ``+-M * 2^(E' - bias - fraction_width)``.
        """
        patterns = self._checked(patterns).astype(np.int64)
        field = (patterns >> self.fraction_width) & (2**self.exponent_width - 1)
        fraction = patterns & (2**self.fraction_width - 1)
        significand = np.where(field > 0, fraction + 2**self.fraction_width, fraction)
        return (patterns >> 15) & 1 == 1, np.maximum(field, 1), significand

    def finite(self, patterns: Any) -> np.ndarray:
        """Whether a pattern is neither infinite nor NaN."""
        ones = 2**self.exponent_width - 1
        return (self._checked(patterns) >> self.fraction_width) & ones != ones

    def from_floats(self, values: Any) -> np.ndarray:
        """Patterns of floats, uint16: rounded once to nearest even, clamped to the largest finite value.

        Infinities and NaN, which are poison to a machine, keep their kind.

        Parameters
        ----------
        values : float array
            Of at most 64 bits.

        Raises
        ------
        TypeError
            If they are no real numbers.
        """
        values = np.asarray(values)
        if values.dtype.kind not in "fiu":
            raise TypeError(f"Values of {self.name} must be real numbers, not {values.dtype}")
        with np.errstate(invalid="ignore"):  # a signalling NaN
            values = values.astype(np.float64)
        magnitude = np.where(np.isfinite(values), np.abs(values), 0)
        lowest = self.least - self.fraction_width
        # In units of the least bit that the result can hold, a value is below 2^(f + 1): scaling is exact.
        unit = np.maximum(np.frexp(magnitude)[1] - 1 - self.fraction_width, lowest)
        unit = np.where(magnitude == 0, lowest, unit)
        # A carry out of the significand adds one to the exponent field by itself.
        found = ((unit - lowest) << self.fraction_width) + np.rint(np.ldexp(magnitude, -unit)).astype(np.int64)
        infinity = (2**self.exponent_width - 1) << self.fraction_width
        found = np.where(np.isinf(values), infinity, np.minimum(found, infinity - 1))
        found = np.where(np.signbit(values), found | 0x8000, found)
        return np.where(np.isnan(values), self.nan, found).astype(np.uint16)

    def _checked(self, values: Any) -> np.ndarray:
        return patterns(f"Patterns of {self.name}", values)


FLOAT16 = Format("float16", 5, 10, 15, 0x7E00)
"""IEEE 754 binary16."""

BFLOAT16 = Format("bfloat16", 8, 7, 127, 0x7FC0)
"""The upper half of binary32."""

FORMATS = {format.name: format for format in (FLOAT16, BFLOAT16)}
"""The formats by their name in `Parameters`."""

HALF_NAN = 0x7E00
"""FP16 pattern of poison."""

HALF_MAX = 0x7BFF
"""FP16 pattern of 65504."""

HALF_LSB = -24
"""Exponent of the unit every FP16 value is a multiple of."""


def is_finite(patterns: Any) -> np.ndarray:
    """Whether an FP16 pattern is neither infinite nor NaN."""
    return FLOAT16.finite(patterns)


def half_to_fixed(patterns: Any) -> np.ndarray:
    """FP16 patterns as int64 multiples of ``2^-24``; patterns that are not finite give 0."""
    negative, exponent, significand = FLOAT16.fields(patterns)
    magnitude = np.where(FLOAT16.finite(patterns), significand << (exponent - 1), 0)
    return np.where(negative, -magnitude, magnitude)


def fixed_to_half(values: Any) -> np.ndarray:
    """FP16 patterns of multiples of ``2^-24``, rounded once, beyond 65504 clamped."""
    return encode_half(values, HALF_LSB)[0]


def exact_half(values: np.ndarray) -> np.ndarray:
    """FP16 patterns of int64 multiples of ``2^-24`` that FP16 holds exactly; faster than `fixed_to_half`."""
    return (values * 2.0**HALF_LSB).astype(np.float16).view(np.uint16)


def fits(array: np.ndarray, bits: int) -> bool:
    """Whether all integers of an array are below ``2^bits`` in magnitude."""
    if array.size == 0:
        return True
    return -(2**bits) < int(array.min()) and int(array.max()) < 2**bits


def bit_length(magnitudes: np.ndarray) -> np.ndarray:
    """Bits of each integer of 0 or more: 0 for 0, ``floor(log2) + 1`` otherwise."""
    if magnitudes.dtype == object:
        return np.frompyfunc(int.bit_length, 1, 1)(magnitudes).astype(np.int64)
    # The conversion to binary64 may round up to the next power of two; the second term takes that back.
    length = np.frexp(magnitudes.astype(np.float64))[1].astype(np.int64)
    return length - ((length > 0) & (magnitudes >> np.maximum(length - 1, 0) == 0))


def _round_shift(value: int, shift: int) -> int:
    if shift <= 0:
        return value << -shift
    quotient, rest = divmod(value, 1 << shift)
    half = 1 << (shift - 1)
    return quotient + (rest > half or (rest == half and quotient & 1))


_round_shift_objects = np.frompyfunc(_round_shift, 2, 1)
_shift_objects = np.frompyfunc(lambda value, shift: value << shift, 2, 1)


def shift_left(values: Any, shifts: Any) -> np.ndarray:
    """``values * 2^shifts`` for shifts of 0 or more: int64 where that holds every result, else Python integers."""
    values, shifts = np.asarray(values), np.asarray(shifts, np.int64)
    if values.dtype != object:
        used = np.where(values != 0, shifts, 0)
        if used.size == 0 or int((bit_length(np.abs(values.astype(np.int64))) + used).max()) < 63:
            return values.astype(np.int64) << used
    return _shift_objects(values.astype(object), shifts.astype(object))


def round_shift(values: Any, shifts: Any) -> np.ndarray:
    """``RNE(values / 2^shifts)``, exact left shifts where a shift is negative.

    Parameters
    ----------
    values : int64 array, or object array of integers
        What to round.
    shifts : int array
        Any integers, broadcast against `values`.

    Returns
    -------
    array
        int64 where that holds every result, else Python integers.
    """
    values, shifts = np.asarray(values), np.asarray(shifts, np.int64)
    if values.dtype == object:
        return _round_shift_objects(values, shifts.astype(object))
    values = values.astype(np.int64 if fits(values, 62) else object)
    if (shifts < 0).any():
        return _round_right(shift_left(values, np.maximum(-shifts, 0)), np.maximum(shifts, 0))
    return _round_right(values, shifts)


def _round_right(values: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    if values.dtype == object:
        return _round_shift_objects(values, shifts.astype(object))
    # Below 2^62 everything past 63 places is less than a half.
    near = np.minimum(shifts, 62)
    some = near > 0
    # A half less one unit, and that unit where the quotient is odd: the sum carries where RNE goes up.
    carry = ((np.int64(1) << near) >> 1) - some + ((values >> near) & some)
    return np.where(shifts > 62, 0, (values + carry) >> near)


def round_quotient(dividends: Any, divisors: Any) -> np.ndarray:
    """``RNE(dividends / divisors)`` of integers; divisors are positive."""
    quotient, rest = np.divmod(dividends, divisors)
    return quotient + ((2 * rest > divisors) | ((2 * rest == divisors) & (quotient & 1 == 1)))


def clamp(values: Any, top: int) -> tuple[np.ndarray, bool]:
    """Integers clamped to ``+-top`` as int64, and whether that changed one."""
    held = np.clip(values, -top, top).astype(np.int64)
    return held, bool((held != values).any())


def encode_half(values: Any, exponents: Any) -> tuple[np.ndarray, np.ndarray]:
    """FP16 patterns of ``values * 2^exponents``: one rounding (RNE), clamped to +-65504, zero always ``+0``.

    Parameters
    ----------
    values : int64 array, or object array of integers
        Signed integers.
    exponents : int array
        Broadcast against `values`.

    Returns
    -------
    patterns : uint16 array
        The results; a value that is not zero but rounds to zero keeps its sign.
    overflow : bool array
        Where a result was clamped.
    """
    values, exponents = np.broadcast_arrays(np.asarray(values), np.asarray(exponents, np.int64))
    if values.dtype != object:
        values = values.astype(np.int64 if fits(values, 62) else object)
    magnitude = np.abs(values)
    length = bit_length(magnitude)
    lsb = np.maximum(length + exponents - 11, HALF_LSB)
    high = (length > 0) & (length + exponents > 16)  # at least 2^16: clamped whatever the bits
    lsb = np.where(high | (length == 0), HALF_LSB, lsb)
    magnitude = np.where(high, 0, magnitude)
    shift = np.where(length == 0, 0, lsb - exponents)
    # A carry out of the significand adds one to the exponent field by itself.
    rounded = round_shift(magnitude, np.where(high, 0, shift)).astype(np.int64)
    patterns = ((lsb - HALF_LSB) << 10) + rounded
    overflow = high | (patterns > HALF_MAX)
    patterns = np.where(overflow, HALF_MAX, patterns)
    return np.where(values < 0, patterns | 0x8000, patterns).astype(np.uint16), overflow
