"""Quantiser of FP16 vectors to delta groups. Source: ``docs/numerics.md``, section 3."""

import dataclasses
from typing import Any

import numpy as np

from golden import formats
from golden.parameters import POISONED_GROUP, ZERO_GROUP, Parameters
from golden.units.delta_group import DeltaGroups


@dataclasses.dataclass(frozen=True, eq=False)
class Quantised:
    """G groups made of V vectors; every array but `status` has a row for each group.

    Members
    -------
    groups : DeltaGroups
        In stream order.
    vector : int64 (G,)
        The input vector each group was made of.
    last : bool (G,)
        Set on the last group of each vector.
    next_exponent : uint8 (G,)
        Code for the next pass, the same on all groups of a vector.
    overflow : bool (G, n)
        Overflow flags of the vector, the same on all its groups.
    residual : uint16 (G, n)
        What the next pass gets, the same on all groups of a vector.
    status : dict
        Sticky ``saturated`` and ``poisoned``.
    """

    groups: DeltaGroups
    vector: np.ndarray
    last: np.ndarray
    next_exponent: np.ndarray
    overflow: np.ndarray
    residual: np.ndarray
    status: dict[str, bool]


def _codes(name: str, codes: Any, count: int, parameters: Parameters) -> np.ndarray:
    codes = formats.integers(f"Codes of {name}", codes, 0, 42 - parameters.digit_width)
    return np.broadcast_to(codes.astype(np.int64), (count,))


def delta_quantizer(
    values: Any,
    parameters: Parameters,
    *,
    by_group: Any = True,
    first_pass: Any = True,
    exponent: Any = 0,
    floor: Any = 0,
) -> Quantised:
    """Quantise vectors.

    Numerics: exact integers of unit ``2^-24``; each digit rounded once (RNE).

    Parameters
    ----------
    values : uint16 (V, n)
        FP16 patterns.
    parameters : Parameters
        Gives n, m, k and the policies.
    by_group, first_pass : bool, or bool (V,)
        Whether the vector chooses its exponent; whether this is its first pass.
    exponent : int, or int (V,)
        Exponent code, used where `by_group` or `first_pass` is false.
    floor : int, or int (V,)
        Least exponent code a vector may choose.

    Raises
    ------
    TypeError, ValueError
        If an array is of another type, the shape is not (V, n) or a code is outside ``0..42-k``.
    """
    values = formats.patterns("Values", values)
    n, m, k = parameters.lanes, parameters.outliers, parameters.digit_width
    if values.ndim != 2 or values.shape[1] != n:
        raise ValueError(f"Values must have the shape (vectors, {n}), not {values.shape}")
    count = len(values)
    by_group = np.broadcast_to(formats.flags("by_group", by_group), (count,))
    first_pass = np.broadcast_to(formats.flags("first_pass", first_pass), (count,))
    exponent, floor = (_codes(name, c, count, parameters) for name, c in (("exponent", exponent), ("floor", floor)))

    poisoned = ~formats.is_finite(values).all(axis=1)
    fixed = formats.half_to_fixed(values)
    fixed[poisoned] = 0
    magnitude = np.abs(fixed)

    # Code c overflows exactly from thresholds[c] on, in units of 2^-25 (a tie at Q + 1/2 rounds up since Q is odd).
    thresholds = np.int64(2**k - 1) << np.arange(43 - k, dtype=np.int64)
    code = exponent.copy()
    choose = by_group & first_pass
    if choose.any():
        # At most m lanes overflow exactly when the (m+1)-th largest does not.
        decisive = np.partition(magnitude[choose], n - 1 - m, axis=1)[:, n - 1 - m] if m < n else 0
        least = np.searchsorted(thresholds, 2 * decisive, side="right")
        code[choose] = np.maximum(least, floor[choose])
    overflow = 2 * magnitude >= thresholds[code][:, None]

    rank = np.cumsum(overflow, axis=1, dtype=np.int64) - 1
    replays = parameters.replays & first_pass & ~by_group
    carried = overflow & first_pass[:, None] & (replays[:, None] | (rank < m))  # in an outlier slot of some group
    stuck = overflow & ~carried
    inlier = ~overflow
    # Exact in binary64: 41 bits, scaled by a power of two; rint rounds ties to even.
    digits = np.rint(np.where(inlier, fixed, 0) * np.exp2(-code.astype(np.float64))[:, None]).astype(np.int64)
    residual = np.where(inlier, fixed - (digits << code[:, None]), 0)
    digits = np.where(stuck, np.where(fixed < 0, -parameters.digit_max, parameters.digit_max), digits)
    residual = formats.exact_half(residual)
    residual[poisoned] = formats.HALF_NAN
    following = np.where(poisoned, floor, np.maximum(code - (k - 1), floor))

    groups_of = np.maximum(-(-carried.sum(axis=1) // m), 1) if m else np.ones(count, np.int64)
    vector = np.repeat(np.arange(count), groups_of)
    start = np.cumsum(groups_of) - groups_of
    number = np.arange(len(vector)) - start[vector]  # of the group within its vector

    shape = (len(vector), m)
    valid, lane, value = np.zeros(shape, np.bool_), np.zeros(shape, np.uint8), np.zeros(shape, np.uint16)
    vectors, lanes = np.nonzero(carried)
    if m:
        ranks = rank[vectors, lanes]
        rows, slots = start[vectors] + ranks // m, ranks % m
        valid[rows, slots], lane[rows, slots], value[rows, slots] = True, lanes, values[vectors, lanes]
    digits = np.where(number[:, None] == 0, digits[vector], 0).astype(np.int8)
    codes = code[vector]
    codes[~digits.any(axis=1) & ~valid.any(axis=1)] = ZERO_GROUP  # never a replay group: it has an outlier
    codes[poisoned[vector]] = POISONED_GROUP

    groups = DeltaGroups(codes.astype(np.uint8), number > 0, digits, valid, lane, value)
    return Quantised(
        groups=groups,
        vector=vector,
        last=number == groups_of[vector] - 1,
        next_exponent=following[vector].astype(np.uint8),
        overflow=overflow[vector],
        residual=residual[vector],
        status={"saturated": bool(stuck.any()), "poisoned": bool(poisoned.any())},
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Passes:
    """All passes of V vectors.

    Members
    -------
    groups : DeltaGroups
        Vector by vector, its passes in order; replay groups follow the pass they belong to.
    vector : int64 (G,)
        The input vector each group was made of.
    last : bool (G,)
        Set on the last group of each vector.
    status : dict
        Sticky ``saturated`` and ``poisoned``.
    """

    groups: DeltaGroups
    vector: np.ndarray
    last: np.ndarray
    status: dict[str, bool]


def quantise_passes(
    values: Any, parameters: Parameters, passes: int, *, floor: Any = 0, by_group: bool | None = None, exponent: Any = 0
) -> Passes:
    """Quantise vectors in several passes, each taking the residual of the one before (rule 3.8).

    Parameters
    ----------
    values : uint16 (V, n)
        FP16 patterns.
    parameters : Parameters
        Of the machine.
    passes : int
        1 or more.
    floor, exponent : int, or int (V,)
        Codes as in `delta_quantizer`; `exponent` is for pass 0 under the layer policy.
    by_group : bool
        Policy of pass 0; the default is that of `parameters`.
    """
    if not isinstance(passes, int | np.integer) or passes < 1:
        raise ValueError(f"passes must be a positive integer, not {passes!r}")
    policy = parameters.exponent_policy == "group" if by_group is None else by_group
    results = []
    for number in range(passes):
        result = delta_quantizer(
            values, parameters, by_group=policy, first_pass=number == 0, exponent=exponent, floor=floor
        )
        results.append(result)
        values, exponent = result.residual[result.last], result.next_exponent[result.last]
    groups = DeltaGroups.concatenate(result.groups for result in results)
    vector = np.concatenate([result.vector for result in results])
    order = np.argsort(vector, kind="stable")  # pass after pass stays in order within a vector
    vector = vector[order]
    return Passes(
        groups=groups[order],
        vector=vector,
        last=np.diff(vector, append=-1) != 0,
        status={name: any(result.status[name] for result in results) for name in results[0].status},
    )
