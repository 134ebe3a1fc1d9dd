"""Weights of a layer for the multiplier groups: checked or aligned, with a proven accumulator for each channel.

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

SCALE_LIMIT = 220
"""Largest magnitude of `scale` that hardware takes."""


def check_weights(weights: Any, parameters: Parameters) -> None:
    """Refuse weight patterns that must not reach the machine.

    Raises
    ------
    TypeError, ValueError
        If a weight is no 16-bit pattern, is not finite or, in float form, outside the declared range.
    """
    weights = formats.patterns("Weights", weights)
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
    TypeError, ValueError
        If a weight is no 16-bit pattern or not finite.
    """
    format = formats.FORMATS[parameters.weight_format]
    weights = formats.patterns("Weights", weights)
    if not format.finite(weights).all():
        check_weights(weights, parameters)
    negative, field, significand = format.fields(weights)
    own = field - format.bias  # subnormals and zeros count as `least` by themselves
    shared = own.max(axis=-1)
    # w = M * 2^(own - f); what is 40 places under the largest rounds to 0.
    right = np.minimum(shared[..., None] - own, 40) + format.fraction_width - parameters.fraction_bits
    integers = formats.round_shift(np.where(negative, -significand, significand), right)
    return integers.astype(np.int32), shared


def aligned_weights(weights: Any, parameters: Parameters) -> np.ndarray:
    """Aligned weights as int64.

    Raises
    ------
    TypeError, ValueError
        If one is no integer below ``2^(F+1)`` in magnitude.
    """
    largest = 2 ** (parameters.fraction_bits + 1) - 1
    return formats.integers("Aligned weights", weights, -largest, largest).astype(np.int64)


def weight_integers(weights: Any, parameters: Parameters) -> np.ndarray:
    """``W_i`` of numerics section 7: aligned weights as they are, float weights over ``2^weight_lsb``.

    Returns
    -------
    array
        int64 where that holds every weight, else Python integers.

    Raises
    ------
    TypeError, ValueError
        If an aligned weight does not fit, or a float weight is outside the declared range.
    """
    if parameters.weight_form == "aligned":
        return aligned_weights(weights, parameters)
    weights = formats.patterns("Weights", weights)
    check_weights(weights, parameters)
    format = formats.FORMATS[parameters.weight_format]
    negative, field, significand = format.fields(weights)
    signed = np.where(negative, -significand, significand)
    # Exact: the declared range has no bit below weight_lsb, so a right shift only drops zeros.
    return formats.round_shift(signed, parameters.weight_lsb - (field - format.bias - format.fraction_width))


def check_scale(scale: Any) -> np.ndarray:
    """Scales as int64.

    Raises
    ------
    TypeError, ValueError
        If one is no integer of -220..220.
    """
    return formats.integers("scale", scale, -SCALE_LIMIT, SCALE_LIMIT).astype(np.int64)


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
    weights = formats.patterns("Weights", weights)
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
    lsb = np.broadcast_to(formats.integers("lsb", lsb).astype(np.int64), len(unit))
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


def product_exponent(unit: np.ndarray, totals: np.ndarray, parameters: Parameters, *, passes: int) -> int:
    """Least ``L`` of a product of the closed loop whose window provably holds every sum (numerics, 12.11).

    Deltas are below ``3 2^(w-2)``, with `flip_repair` below twice that: a delta and a repair meet in a lane (12.28).

    Parameters
    ----------
    unit : int array (outputs, ...)
        Exponent of the unit of each output's groups of weights, over that of the state behind the product.
    totals : int array (outputs, ...)
        Sum of the magnitudes of each group's integers.
    parameters : Parameters
        Of the machine.
    passes : int
        Groups of a vector of the operand at most.

    Raises
    ------
    ValueError
        If the roundings alone fill half of the window, however coarse it is.
    """
    largest = 3 * 2.0 ** (parameters.state_width - 2 + parameters.flip_repair - 24)
    worst = largest_dequantised(parameters, largest, passes=passes) * 2**24
    low, groups = int(unit.min()), passes * totals[0].size
    most = max(
        sum(int(total) << int(exponent) - low for total, exponent in zip(row.ravel(), units.ravel(), strict=True))
        for row, units in zip(totals, unit, strict=True)
    )
    roundings, limit = Fraction(groups, 2), 2 ** (parameters.accumulator_width - 1) - 1
    if roundings > Fraction(limit, 2):
        raise ValueError(
            f"accumulator_width must hold the roundings of {groups} groups, not be {parameters.accumulator_width}"
        )
    lsb = low
    while worst * most * Fraction(2) ** (low - lsb) + (roundings if lsb > low else 0) > limit:
        lsb += 1
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
    TypeError, ValueError
        If a weight is no pattern, not finite or outside the declared range, a window does not hold, or a scale is
        outside -220..220.
    """
    integers, unit, _ = _groups_of(weights, parameters)
    options = {"largest": largest, "passes": passes, "floor": floor}
    if lsb is None:
        lsb = channel_exponents(weights, parameters, **options)
    lsb = np.broadcast_to(formats.integers("lsb", lsb).astype(np.int64), len(unit)).copy()
    check_window(weights, parameters, lsb=lsb, **options)
    scale = check_scale(unit - lsb[:, None])
    return Compiled(
        weights=integers if parameters.weight_form == "aligned" else formats.patterns("Weights", weights),
        scale=scale,
        lsb=lsb,
        width=window_widths(weights, parameters, lsb=lsb, **options),
        exact=lsb <= _finest(unit, parameters, floor),
    )
