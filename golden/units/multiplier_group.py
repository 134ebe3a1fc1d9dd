"""One processing element: the exact sum of a delta group times weights, rounded once into an accumulator.

Words: the *window* of an accumulator is what its W bits hold above its least bit ``2^L``; *compiling* a layer aligns or
checks its weights, chooses ``L`` for each output channel and proves that no input can leave the window.
Source: ``docs/numerics.md``, sections 6 and 7.
"""

import dataclasses
from fractions import Fraction
from typing import Any

import numpy as np

from golden import formats
from golden.parameters import Parameters
from golden.units.delta_group import DeltaGroups

__all__ = [
    "Compiled",
    "Sums",
    "align_weights",
    "channel_exponents",
    "check_weights",
    "check_window",
    "compile_weights",
    "largest_dequantised",
    "multiplier_group",
    "weight_integers",
    "window_widths",
]

SCALE_LIMIT = 220
"""Largest magnitude of `scale` that hardware takes."""


@dataclasses.dataclass(frozen=True, eq=False)
class Sums:
    """What left the accumulator: one row for each group with ``last``.

    Members
    -------
    sum : int64 (S,), or object (S,) of Python integers where the accumulator has more than 63 bits
        In units of ``2^L``; 0 where poisoned.
    poisoned : bool (S,)
        Whether a poisoned group went in since ``first``.
    status : dict
        Sticky ``overflow`` and ``poisoned``.
    """

    sum: np.ndarray
    poisoned: np.ndarray
    status: dict[str, bool]


def check_weights(weights: Any, parameters: Parameters) -> None:
    """Refuse weight patterns that must not reach the machine.

    Raises
    ------
    ValueError
        If a pattern is not finite or, in float form, outside the declared range.
    """
    weights = np.asarray(weights)
    format = formats.FORMATS[parameters.weight_format]
    wrong = ~format.finite(weights)
    if wrong.any():
        raise ValueError(f"Weights must be finite, not the {format.name} pattern 0x{int(weights[wrong][0]):04x}")
    if parameters.weight_form == "aligned":
        return
    _, field, significand = format.fields(weights)
    exponent = field - format.bias
    low, high, lsb = parameters.weight_exponent_min, parameters.weight_exponent_max, parameters.weight_lsb
    below = lsb - (exponent - format.fraction_width)  # places by which the least bit is under the declared one
    ragged = (below > 0) & (significand & ((np.int64(1) << np.clip(below, 0, 20)) - 1) != 0)
    wrong = (significand != 0) & ((exponent < low) | (exponent > high) | ragged)
    if wrong.any():
        raise ValueError(
            f"Weights must be zero or have exponents in {low}..{high} and be multiples of 2^{lsb}, "
            f"not the {format.name} pattern 0x{int(weights[wrong][0]):04x}"
        )


def align_weights(weights: Any, parameters: Parameters) -> tuple[np.ndarray, np.ndarray]:
    """Aligned weights of each group (numerics, section 6).

    Parameters
    ----------
    weights : uint16 (..., n)
        Patterns of `weight_format`; the last axis is one group of one output channel.
    parameters : Parameters
        Gives the format and F.

    Returns
    -------
    integers : int32 (..., n)
        ``a = RNE(w * 2^(F - E))``, below ``2^(F+1)`` in magnitude.
    exponent : int64 (...)
        ``E`` of each group: ``w ~ a * 2^(E - F)``.

    Raises
    ------
    ValueError
        If a weight is not finite.
    """
    format = formats.FORMATS[parameters.weight_format]
    weights = np.asarray(weights)
    if not format.finite(weights).all():
        check_weights(weights, parameters)
    negative, field, significand = format.fields(weights)
    own = field - format.bias  # subnormals and zeros count as `least` by themselves
    shared = own.max(axis=-1)
    # w = M * 2^(own - f); what is 40 places under the largest rounds to 0.
    right = np.minimum(shared[..., None] - own, 40) + format.fraction_width - parameters.fraction_bits
    integers = formats.round_shift(np.where(negative, -significand, significand), right)
    return integers.astype(np.int32), shared


def weight_integers(weights: Any, parameters: Parameters) -> np.ndarray:
    """``W_i`` of numerics section 7: aligned weights as they are, float weights over ``2^weight_lsb``.

    Returns
    -------
    array
        int64 where that holds every weight, else Python integers.

    Raises
    ------
    ValueError
        If an aligned weight does not fit, or a float weight is outside the declared range.
    """
    weights = np.asarray(weights)
    if parameters.weight_form == "aligned":
        if not formats.fits(weights, parameters.fraction_bits + 1):
            raise ValueError(f"Aligned weights must be below 2^{parameters.fraction_bits + 1} in magnitude")
        return weights.astype(np.int64)
    check_weights(weights, parameters)
    format = formats.FORMATS[parameters.weight_format]
    negative, field, significand = format.fields(weights)
    signed = np.where(negative, -significand, significand)
    # Exact: the declared range has no bit below weight_lsb, so a right shift only drops zeros.
    return formats.round_shift(signed, parameters.weight_lsb - (field - format.bias - format.fraction_width))


def multiplier_group(
    groups: DeltaGroups, weights: Any, parameters: Parameters, *, scale: Any, first: Any = True, last: Any = True
) -> Sums:
    """Multiply, sum, round and accumulate a stream of groups.

    Numerics: the sum of one group is exact and rounded once (RNE) to the accumulator's least bit; additions are exact;
    after each the accumulator is clamped to W bits. Any magnitude is handled: where 63 bits do not suffice, Python
    integers take over.

    Parameters
    ----------
    groups : DeltaGroups
        G groups in stream order.
    weights : array (G, n) or (n,)
        Patterns (float form) or integers (aligned form).
    parameters : Parameters
        Of the machine.
    scale : int, or int (G,)
        ``E - F - L`` (aligned) or ``weight_lsb - L`` (float form).
    first, last : bool, or bool (G,)
        First and last group of a sum. The accumulator is 0 before the stream.

    Raises
    ------
    ValueError
        If shapes differ, a weight is outside the declared range, or a scale outside -220..220.
    """
    count, n = groups.digits.shape
    scale = np.broadcast_to(np.asarray(scale, np.int64), (count,))
    first = np.broadcast_to(np.asarray(first, np.bool_), (count,))
    last = np.broadcast_to(np.asarray(last, np.bool_), (count,))
    weights = np.asarray(weights)
    if weights.shape not in ((count, n), (n,)):
        raise ValueError(f"Weights must have the shape ({count}, {n}) or ({n},), not {weights.shape}")
    _check_scale(scale)
    integers = np.broadcast_to(weight_integers(weights, parameters), (count, n))
    rounded = _group_sums(groups, integers, scale)
    totals, overflow = _accumulate(rounded, first, parameters.accumulator_width)

    sums_of = np.cumsum(first)
    poisons = np.cumsum(groups.poisoned)
    start = np.maximum.accumulate(np.where(first, np.arange(count), 0)) if count else np.zeros(0, np.int64)
    before = np.where(start > 0, poisons[start - 1], 0) if count else poisons
    poisoned = poisons > np.where(sums_of > 0, before, 0)
    emitted = np.where(poisoned, 0, totals)[last]
    wide = parameters.accumulator_width > 63
    return Sums(
        sum=emitted.astype(object if wide else np.int64),
        poisoned=poisoned[last],
        status={"overflow": overflow, "poisoned": bool(groups.poisoned.any())},
    )


def _check_scale(scale: np.ndarray) -> None:
    wrong = np.abs(scale) > SCALE_LIMIT
    if wrong.any():
        raise ValueError(f"scale must be in -{SCALE_LIMIT}..{SCALE_LIMIT}, not {int(scale[wrong][0])}")


def _group_sums(groups: DeltaGroups, weights: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """``RNE(S * 2^scale)`` of each group: 64-bit integers where those surely suffice, else Python integers."""
    lanes = np.where(groups.outlier_valid, groups.outlier_lane, 0).astype(np.int64)
    values = np.where(groups.outlier_valid, formats.half_to_fixed(groups.outlier_value), 0)
    shift = groups.shifts()
    at = np.take_along_axis(weights, lanes, axis=1)
    size = np.abs(weights).astype(np.float64)
    bound = (np.abs(groups.digits.astype(np.float64)) * size).sum(axis=1) * np.exp2(shift.astype(np.float64))
    bound += (np.abs(values).astype(np.float64) * np.abs(at).astype(np.float64)).sum(axis=1)
    down = formats.HALF_LSB + scale
    narrow = (bound < 2.0**60) & (bound * np.exp2(np.maximum(down, 0).astype(np.float64)) < 2.0**60)
    narrow &= size.max(axis=1, initial=0) < 2.0**60

    def exact(rows: np.ndarray, dtype: type) -> np.ndarray:
        # The unit is 2^-24 times that of the weights.
        inner = (groups.digits[rows].astype(dtype) * weights[rows].astype(dtype)).sum(axis=1)
        outer = (values[rows].astype(dtype) * at[rows].astype(dtype)).sum(axis=1)
        return formats.round_shift(formats.shift_left(inner, shift[rows]) + outer, -down[rows])

    if narrow.all():
        return exact(narrow, np.int64)
    result = np.zeros(len(scale), object)
    result[narrow] = exact(narrow, np.int64).astype(object)
    result[~narrow] = exact(~narrow, object)
    return result


def _accumulate(rounded: np.ndarray, first: np.ndarray, width: int) -> tuple[np.ndarray, bool]:
    """Accumulator after each group, clamped to `width` bits after each addition, and whether that changed anything."""
    low, high = -(2 ** (width - 1)), 2 ** (width - 1) - 1
    if rounded.dtype != object and np.abs(rounded).astype(np.float64).sum() > 2.0**61:
        rounded = rounded.astype(object)
    if len(rounded) == 0:
        return rounded, False
    running = np.cumsum(rounded)
    start = np.maximum.accumulate(np.where(first, np.arange(len(first)), 0))
    totals = running - (running - rounded)[start]
    outside = (totals < low) | (totals > high)
    outside = outside.astype(np.bool_)
    if not outside.any():
        return totals, False
    totals = totals.astype(object)
    for begin in np.unique(start[outside]):
        total, index = 0, int(begin)
        while index < len(first) and (index == begin or not first[index]):
            total = min(max(total + int(rounded[index]), low), high)
            totals[index] = total
            index += 1
    return totals, True


# The compiler's side -----------------------------------------------------------------------------------------------


def largest_dequantised(parameters: Parameters, largest: float, *, passes: int = 1, floor: int = 0) -> Fraction:
    """Bound on what one lane adds up to over the passes of a vector whose values are at most `largest` in magnitude.

    Rounding to digits can enlarge a value: ``RNE(x / 2^e) * 2^e`` is searched over every exponent the policy can
    choose. Later passes add at most half a step of the one before, in any order.

    Parameters
    ----------
    parameters : Parameters
        Of the machine.
    largest : float
        Largest ``|x|``, finite and not negative.
    passes : int
        Groups a vector is sent in.
    floor : int
        Least exponent code of the group policy.

    Raises
    ------
    ValueError
        If `largest` is negative or not finite.
    """
    if not 0 <= largest < float("inf"):
        raise ValueError(f"Largest |x| must be finite and not negative, not {largest!r}")
    limit = Fraction(largest)
    k = parameters.digit_width
    by_group = parameters.exponent_policy == "group"
    worst = limit if parameters.outliers else Fraction(0)
    for code in range(floor if by_group else 0, 43 - k):
        step = Fraction(2) ** (code - 24)
        if by_group and code > floor and limit < (2**k - 1) * step / 4:
            break  # the next finer exponent already fits every value
        total = min(parameters.digit_max, round(limit / step)) * step
        for number in range(1, passes):
            finer = code - (number - 1) * (k - 1)
            if finer <= floor:
                break
            total += Fraction(2) ** (finer - 25)
        worst = max(worst, total)
    return worst


@dataclasses.dataclass(frozen=True, eq=False)
class Compiled:
    """Weights of a layer as the machine takes them.

    Members
    -------
    weights : array (channels, groups, n)
        Aligned integers (int32), or the float patterns (uint16).
    scale : int64 (channels, groups)
        For `multiplier_group`.
    lsb : int64 (channels,)
        ``L``: the accumulator's unit is ``2^L``.
    width : int64 (channels,)
        Accumulator bits the proof needs.
    exact : bool (channels,)
        Whether no sum is ever rounded.
    """

    weights: np.ndarray
    scale: np.ndarray
    lsb: np.ndarray
    width: np.ndarray
    exact: np.ndarray


def _groups_of(weights: Any, parameters: Parameters) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Integers, the exponent of their unit, and the sum of magnitudes, for each channel and group."""
    weights = np.asarray(weights)
    if weights.ndim != 3 or weights.shape[2] != parameters.lanes or 0 in weights.shape:
        raise ValueError(f"Weights must have the shape (channels, groups, {parameters.lanes}), not {weights.shape}")
    if parameters.weight_form == "aligned":
        integers, exponent = align_weights(weights, parameters)
        unit = exponent - parameters.fraction_bits
        totals = np.abs(integers.astype(np.int64)).sum(axis=2)
    else:
        integers = weight_integers(weights, parameters)
        unit = np.full(weights.shape[:2], parameters.weight_lsb, np.int64)
        totals = np.abs(integers.astype(object)).sum(axis=2)
    return integers, unit, totals


def _finest(unit: np.ndarray, parameters: Parameters, floor: int) -> np.ndarray:
    """Exponent of the least bit any sum of a channel can have: no finer accumulator is of use."""
    digits = floor if parameters.outliers == 0 and parameters.exponent_policy == "group" else 0
    return unit.min(axis=1) + digits - 24


def _widths(
    unit: np.ndarray, totals: np.ndarray, lsb: np.ndarray, worst: Fraction, passes: int, exact: np.ndarray
) -> np.ndarray:
    widths = []
    for channel in range(len(unit)):
        low = int(unit[channel].min())
        total = sum(int(t) << (int(u) - low) for t, u in zip(totals[channel], unit[channel], strict=True))
        reach = worst * total * Fraction(2) ** (low - int(lsb[channel]))
        if not exact[channel]:
            reach += Fraction(passes * unit.shape[1], 2)  # every group rounds by at most a half
        widths.append(int(reach).bit_length() + 1)
    return np.array(widths, np.int64)


def window_widths(
    weights: Any, parameters: Parameters, *, largest: float, lsb: Any, passes: int = 1, floor: int = 0
) -> np.ndarray:
    """Accumulator bits each channel needs so that no vector of values up to `largest` can leave the window.

    Numerics: with ``X`` of `largest_dequantised`, ``|A| <= X * sum |w| / 2^L + groups * passes / 2`` (the second term
    only if sums can be rounded); W bits hold ``2^(W-1) - 1``. The bound covers every order of groups and passes.

    Parameters
    ----------
    weights : uint16 (channels, groups, n)
        Patterns, zero-padded.
    parameters : Parameters
        Of the machine; its `accumulator_width` plays no part.
    largest : float
        Declared largest ``|x|``.
    lsb : int, or int (channels,)
        ``L``.
    passes, floor : int
        Of the vectors, see `largest_dequantised`.
    """
    _, unit, totals = _groups_of(weights, parameters)
    lsb = np.broadcast_to(np.asarray(lsb, np.int64), len(unit))
    worst = largest_dequantised(parameters, largest, passes=passes, floor=floor)
    return _widths(unit, totals, lsb, worst, passes, lsb <= _finest(unit, parameters, floor))


def channel_exponents(
    weights: Any, parameters: Parameters, *, largest: float, passes: int = 1, floor: int = 0
) -> np.ndarray:
    """Finest useful ``L`` of each channel whose window provably holds: int64 (channels,). See `window_widths`."""
    _, unit, totals = _groups_of(weights, parameters)
    worst = largest_dequantised(parameters, largest, passes=passes, floor=floor)
    finest = _finest(unit, parameters, floor)
    lsb = finest.copy()
    widths = _widths(unit, totals, lsb, worst, passes, np.ones(len(unit), np.bool_))
    rounding = passes * unit.shape[1] // 2  # what the roundings alone can add up to, however coarse the unit
    while (missing := widths > parameters.accumulator_width).any():
        if rounding.bit_length() + 1 > parameters.accumulator_width:
            raise ValueError(
                f"accumulator_width must be at least {rounding.bit_length() + 1} for the roundings of "
                f"{passes * unit.shape[1]} groups, not {parameters.accumulator_width}"
            )
        # One step at least; the rounding term may need a second one.
        lsb = np.where(missing, lsb + np.maximum(widths - parameters.accumulator_width, 1), lsb)
        widths = _widths(unit, totals, lsb, worst, passes, lsb <= finest)
    return lsb


def check_window(
    weights: Any, parameters: Parameters, *, largest: float, lsb: Any, passes: int = 1, floor: int = 0
) -> None:
    """Prove that no vector of values up to `largest` overflows an accumulator, or name the width that it takes.

    Raises
    ------
    ValueError
        With the channel that needs most.
    """
    widths = window_widths(weights, parameters, largest=largest, lsb=lsb, passes=passes, floor=floor)
    channel = int(np.argmax(widths))
    if widths[channel] > parameters.accumulator_width:
        unit = int(np.broadcast_to(np.asarray(lsb), len(widths))[channel])
        raise ValueError(
            f"accumulator_width must be at least {widths[channel]} for channel {channel} with least bit 2^{unit} "
            f"and |x| up to {largest:g}, not {parameters.accumulator_width}"
        )


def compile_weights(
    weights: Any,
    parameters: Parameters,
    *,
    largest: float = 65504.0,
    passes: int = 1,
    floor: int = 0,
    lsb: Any = None,
) -> Compiled:
    """Align or check the weights of a layer, choose ``L`` (or take `lsb`) and prove the windows.

    Parameters
    ----------
    weights : uint16 (channels, groups, n)
        Patterns, zero-padded.
    parameters : Parameters
        Of the machine.
    largest : float
        Declared largest ``|x|``; the default is every FP16 value.
    passes, floor : int
        Of the vectors, see `largest_dequantised`.
    lsb : int, or int (channels,)
        ``L``, if it is not to be chosen.

    Raises
    ------
    ValueError
        If a weight is not finite or outside the declared range, a window does not hold, or a scale is outside
        -220..220.
    """
    integers, unit, _ = _groups_of(weights, parameters)
    options = {"largest": largest, "passes": passes, "floor": floor}
    if lsb is None:
        lsb = channel_exponents(weights, parameters, **options)
    lsb = np.broadcast_to(np.asarray(lsb, np.int64), len(unit)).copy()
    check_window(weights, parameters, lsb=lsb, **options)
    scale = unit - lsb[:, None]
    _check_scale(scale)
    return Compiled(
        weights=integers if parameters.weight_form == "aligned" else np.asarray(weights, np.uint16),
        scale=scale,
        lsb=lsb,
        width=window_widths(weights, parameters, lsb=lsb, **options),
        exact=lsb <= _finest(unit, parameters, floor),
    )
