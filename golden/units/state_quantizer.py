"""Quantiser of differences of states: integers to delta groups. Source: ``docs/closed-loop.md``, 12.10."""

from typing import Any

import numpy as np

from golden import formats
from golden.parameters import POISONED_GROUP, ZERO_GROUP, Parameters
from golden.units.delta_group import DeltaGroups
from golden.units.delta_quantizer import Passes


def quantise_state(differences: Any, parameters: Parameters, passes: int = 1, *, poisoned: Any = False) -> Passes:
    """Quantise vectors of integers in passes, each vector under its own exponents.

    The rules are 3.2 to 3.5 and 3.8 with the least exponent code 0, the unit of the state. An outlier travels as the
    nearest FP16 number (of multiples of ``2^-24``); later passes know nothing of what that lost.

    Parameters
    ----------
    differences : int (V, n)
        Below ``2^26`` in magnitude.
    parameters : Parameters
        Gives n, m and k; the exponent policy must be ``group``, or that of what products of chains send.
    passes : int
        1 or more.
    poisoned : bool, or bool (V,)
        Vectors that make poisoned groups, whatever their integers.

    Raises
    ------
    ValueError
        If the policy, the shape or the number of passes breaks a rule, or a difference is too large.
    """
    if parameters.exponent_policy != "group" and not parameters.masks:
        raise ValueError(f"exponent_policy must be group in the closed loop, not {parameters.exponent_policy}")
    if not isinstance(passes, int | np.integer) or passes < 1:
        raise ValueError(f"passes must be a positive integer, not {passes!r}")
    left = np.array(differences, np.int64)
    n, m, k = parameters.lanes, parameters.outliers, parameters.digit_width
    if left.ndim != 2 or left.shape[1] != n:
        raise ValueError(f"differences must have the shape (vectors, {n}), not {left.shape}")
    if not formats.fits(left, 26):
        raise ValueError(f"differences must be below 2^26, not {int(np.abs(left).max())}")
    count = len(left)
    poisoned = np.broadcast_to(np.asarray(poisoned, np.bool_), (count,))
    left[poisoned] = 0

    magnitude = np.abs(left)
    # At most m lanes overflow exactly when the (m+1)-th largest does not: code c from (2^k - 1) 2^(c-1) on.
    decisive = np.partition(magnitude, n - 1 - m, axis=1)[:, n - 1 - m] if m < n else np.zeros(count, np.int64)
    borders = np.int64(2**k - 1) << np.arange(43 - k)
    code = np.searchsorted(borders, 2 * decisive, side="right")
    over = 2 * magnitude >= borders[code][:, None]

    valid, lane, value = np.zeros((count, m), np.bool_), np.zeros((count, m), np.uint8), np.zeros((count, m), np.uint16)
    rows, lanes = np.nonzero(over)
    slots = (np.cumsum(over, axis=1) - 1)[rows, lanes]
    valid[rows, slots], lane[rows, slots] = True, lanes
    value[rows, slots] = formats.encode_half(left[rows, lanes], formats.HALF_LSB)[0]
    left[over] = 0

    results = []
    for _ in range(passes):
        digits = formats.round_shift(left, code[:, None])
        left = left - (digits << code[:, None])
        codes = np.where(digits.any(axis=1) | valid.any(axis=1), code, ZERO_GROUP)
        codes = np.where(poisoned, POISONED_GROUP, codes).astype(np.uint8)
        groups = DeltaGroups(codes, np.zeros(count, np.bool_), digits.astype(np.int8), valid, lane, value)
        results.append(groups)
        code = np.maximum(code - (k - 1), 0)
        valid, lane, value = np.zeros_like(valid), np.zeros_like(lane), np.zeros_like(value)
    order = np.arange(passes * count).reshape(passes, count).T.ravel()
    return Passes(
        groups=DeltaGroups.concatenate(results)[order],
        vector=np.repeat(np.arange(count), passes),
        last=np.tile(np.arange(passes) == passes - 1, count),
        status={"saturated": False, "poisoned": bool(poisoned.any())},
    )
