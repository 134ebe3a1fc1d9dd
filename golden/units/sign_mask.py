"""Sign mask and segment mask: which piece of a piecewise-linear activation each element is on.

Source: ``docs/numerics.md``, section 9.
"""

import dataclasses
from typing import Any

import numpy as np

from golden import formats
from golden.common import names
from golden.parameters import ZERO_GROUP, Parameters
from golden.units.delta_group import DeltaGroups


@dataclasses.dataclass(frozen=True)
class Segments:
    """A piecewise-linear activation for a segment mask of s bits.

    Members
    -------
    thresholds : tuple of int
        The ``2^s - 1`` borders, ascending, in units of 1/64: exact in FP16 and in every state with ``s <= -6``.
    slopes : tuple of int
        FP16 patterns of the ``2^s`` slopes, lowest piece first: each the chord of the function between its borders,
        rounded once; the outer ones are the limits 0 and 1.
    """

    thresholds: tuple[int, ...]
    slopes: tuple[int, ...]

    def fixed(self, state_exponent: int) -> np.ndarray:
        """Thresholds for a fixed-point state of LSB ``2^state_exponent``, int64, rounded (RNE) where they must be."""
        return formats.round_shift(np.array(self.thresholds), state_exponent + 6)

    def half(self) -> np.ndarray:
        """Thresholds as FP16 patterns, uint16."""
        return formats.encode_half(np.array(self.thresholds), -6)[0]

    def of(self, parameters: Parameters, state_exponent: int = 0) -> np.ndarray:
        """Thresholds in the state's format, as `near_memory_engine` takes them."""
        return self.fixed(state_exponent) if parameters.state_format == "fixed" else self.half().astype(np.int64)


SEGMENTS: dict[str, dict[int, Segments]] = {
    "silu": {
        2: Segments((-46, 0, 46), (0x0000, 0x353E, 0x3961, 0x3C00)),
        3: Segments((-64, -39, -18, 1, 20, 40, 65), (0x0000, 0x3073, 0x3491, 0x36F2, 0x38A7, 0x39CD, 0x3AEF, 0x3C00)),
        4: Segments(
            (-304, -91, -67, -50, -36, -23, -11, 1, 13, 25, 38, 52, 69, 92, 298),
            (0x0000, 0xAC88, 0x21F5, 0x2E6C, 0x3206, 0x3472, 0x35E7, 0x3760)
            + (0x3870, 0x392B, 0x39E4, 0x3A98, 0x3B47, 0x3BF3, 0x3C4A, 0x3C00),
        ),
    },
    "gelu": {
        2: Segments((-29, 0, 29), (0x0000, 0x3534, 0x3966, 0x3C00)),
        3: Segments((-168, -44, -20, 0, 20, 44, 168), (0x0000, 0xAD3A, 0x305E, 0x360A, 0x38FB, 0x3AE8, 0x3C54, 0x3C00)),
        4: Segments(
            (-164, -128, -62, -47, -35, -25, -16, -7, 1, 10, 20, 31, 43, 58, 146),
            (0x0000, 0xAB68, 0xAF31, 0xA8BF, 0x2AEB, 0x30E4, 0x340E, 0x35BC)
            + (0x3767, 0x388C, 0x3977, 0x3A68, 0x3B4C, 0x3C0E, 0x3C68, 0x3C00),
        ),
    },
}
"""Pieces of SiLU and GELU (tanh form) by s, with the thresholds that make the rms error of the slope least for
normally distributed Y: 0.091, 0.047, 0.025 (SiLU), 0.095, 0.058, 0.027 (GELU); the sign mask alone has 0.26, 0.22."""

SEGMENTS["erf_gelu"] = SEGMENTS["gelu"]  # the exact form: its own chords between these thresholds differ by 0.0007


def segments(function: str, mask_width: int) -> Segments:
    """Table of an activation.

    Raises
    ------
    ValueError
        If there is no such function or no table of that width.
    """
    tables = names.lookup("Segmented activation", function, SEGMENTS)
    if mask_width not in tables:
        raise ValueError(f"mask_width of a segment mask must be in 2..4, not {mask_width}")
    return tables[mask_width]


def mask_codes(state: Any, parameters: Parameters, *, thresholds: Any = ()) -> np.ndarray:
    """Mask code of each state element.

    Parameters
    ----------
    state : int array
        Integers, or FP16 patterns; the poisoned ones get code 0.
    parameters : Parameters
        Gives the state's format and s.
    thresholds : int (2^s - 1,)
        For s >= 2, in the state's format, ascending. The sign mask (s = 1) takes none: its border is 0.

    Returns
    -------
    uint8 array
        Number of thresholds at or below the element.

    Raises
    ------
    TypeError, ValueError
        If an array holds no integers, or the number or the order of the thresholds is wrong.
    """
    state = formats.integers("state", state).astype(np.int64)
    thresholds = formats.integers("thresholds", thresholds).astype(np.int64)
    wanted = 2**parameters.mask_width - 1 if parameters.mask_width > 1 else 0
    if thresholds.shape != (wanted,):
        raise ValueError(
            f"thresholds must be {wanted} for mask_width {parameters.mask_width}, not of shape {thresholds.shape}"
        )
    if parameters.state_format == "fixed":
        poisoned = state == -(2 ** (parameters.state_width - 1))
    else:
        poisoned = ~formats.is_finite(state)
        state, thresholds = formats.half_to_fixed(state), formats.half_to_fixed(thresholds)
    if (np.diff(thresholds) < 0).any():
        raise ValueError("thresholds must be ascending, not as given")
    borders = thresholds if wanted else np.zeros(1, np.int64)
    codes = np.searchsorted(borders, state, side="right")
    return np.where(poisoned, 0, codes).astype(np.uint8)


def sign_mask(groups: DeltaGroups, mask: Any, parameters: Parameters) -> DeltaGroups:
    """Mask delta groups (``mask_operand = digits``): where the mask is 0, nothing is left.

    Parameters
    ----------
    groups : DeltaGroups
        G groups.
    mask : (G, n)
        0 or 1 for each lane.
    parameters : Parameters
        Of the machine.

    Raises
    ------
    ValueError
        If the shape is wrong.
    """
    mask = formats.flags("mask", mask)
    if mask.shape != groups.digits.shape or mask.shape[1] != parameters.lanes:
        raise ValueError(f"mask must have the shape {groups.digits.shape}, not {mask.shape}")
    digits = np.where(mask, groups.digits, 0)
    lanes = np.minimum(groups.outlier_lane, parameters.lanes - 1).astype(np.int64)
    kept = groups.outlier_valid & np.take_along_axis(mask, lanes, axis=1)
    order = np.argsort(~kept, axis=1, kind="stable")  # the kept ones first, in order
    valid = np.take_along_axis(kept, order, axis=1)
    lane = np.where(valid, np.take_along_axis(groups.outlier_lane, order, axis=1), 0)
    value = np.where(valid, np.take_along_axis(groups.outlier_value, order, axis=1), 0)
    empty = ~digits.any(axis=1) & ~valid.any(axis=1) & ~groups.replay & ~groups.poisoned
    return DeltaGroups(
        exponent=np.where(empty, ZERO_GROUP, groups.exponent).astype(np.uint8),
        replay=groups.replay,
        digits=digits.astype(np.int8),
        outlier_valid=valid,
        outlier_lane=lane.astype(np.uint8),
        outlier_value=value.astype(np.uint16),
    )


def mask_values(values: Any, mask: Any) -> formats.Halves:
    """Mask FP16 values (``mask_operand = values``, s = 1): ``+0`` where the mask is 0; what is not finite is poison.

    Parameters
    ----------
    values : uint16 array
        FP16 patterns.
    mask : array
        0 or 1, broadcast against `values`.
    """
    values, mask = formats.patterns("Values", values), formats.flags("mask", mask)
    bad = ~formats.is_finite(values)
    result = np.where(bad, formats.HALF_NAN, np.where(mask, values, 0))
    return formats.Halves(result.astype(np.uint16), {"overflow": False, "poisoned": bool(bad.any())})


def segment_mask(values: Any, codes: Any, slopes: Any) -> formats.Halves:
    """Multiply FP16 values by the slope of their segment (s >= 2): one rounding, clamped to +-65504.

    Parameters
    ----------
    values : uint16 array
        FP16 patterns.
    codes : int array
        Code of each value, broadcast against `values`.
    slopes : uint16 (2^s,)
        FP16 patterns.

    Raises
    ------
    TypeError, ValueError
        If an array is of another type, or a code has no slope.
    """
    values, slopes = formats.patterns("Values", values), formats.patterns("slopes", slopes)
    codes = formats.integers("codes", codes, 0, len(slopes) - 1)
    slope = slopes[codes]
    bad = ~formats.is_finite(values) | ~formats.is_finite(slope)
    # Both are below 2^41 as integers: the product takes significands instead, with the exponents beside it.
    negative, exponent, significand = formats.FLOAT16.fields(values)
    signs, exponents, significands = formats.FLOAT16.fields(slope)
    product = np.where(bad, 0, significand * significands)
    result, overflow = formats.encode_half(np.where(negative ^ signs, -product, product), exponent + exponents - 50)
    return formats.Halves(
        np.where(bad, formats.HALF_NAN, result).astype(np.uint16),
        {"overflow": bool(overflow.any()), "poisoned": bool(bad.any())},
    )
