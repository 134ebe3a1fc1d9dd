"""One processing element: the exact sum of a delta group times weights, rounded once into an accumulator.

`golden.units.weights` makes the weights and scales it takes. Source: ``docs/numerics.md``, section 7.
"""

import dataclasses
from typing import Any

import numpy as np

from golden import formats
from golden.parameters import Parameters
from golden.units.delta_group import DeltaGroups
from golden.units.weights import check_scale, weight_integers


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
    TypeError, ValueError
        If an array is of another type, shapes differ, a weight is outside the declared range, or a scale outside
        -220..220.
    """
    count, n = groups.digits.shape
    scale = np.broadcast_to(check_scale(scale), (count,))
    first = np.broadcast_to(formats.flags("first", first), (count,))
    last = np.broadcast_to(formats.flags("last", last), (count,))
    weights = np.asarray(weights)
    if weights.shape not in ((count, n), (n,)):
        raise ValueError(f"Weights must have the shape ({count}, {n}) or ({n},), not {weights.shape}")
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
