"""Raw state near memory, open loop: state += delta, sign tensor, flip repair.

Source: ``docs/numerics.md``, section 11.
"""

import dataclasses
from typing import Any

import numpy as np

from golden import formats
from golden.parameters import Parameters
from golden.units.delta_group import DeltaGroups
from golden.units.sign_mask import mask_codes


@dataclasses.dataclass(frozen=True, eq=False)
class Repairs:
    """Exact corrections of elements whose mask changed, in stream order, lane 0 first.

    Members
    -------
    address : int64 (R,)
        Vector.
    lane : uint8 (R,)
        Lane.
    value : uint16 (R,)
        FP16 pattern of ``|Y'|``, to be added to the consumer's ReLU value.
    """

    address: np.ndarray
    lane: np.ndarray
    value: np.ndarray

    def __len__(self) -> int:
        return len(self.address)


@dataclasses.dataclass(frozen=True, eq=False)
class Update:
    """What a stream of groups did.

    Members
    -------
    state : int32 (vectors, n)
        The new state: integers, or FP16 patterns.
    address : int64 (T,)
        Vector of each transaction, in stream order.
    mask : uint8 (T, n)
        New mask code of each of its elements.
    repairs : Repairs
        Empty without `flip_repair`.
    status : dict
        Sticky ``overflow`` and ``poisoned``.
    """

    state: np.ndarray
    address: np.ndarray
    mask: np.ndarray
    repairs: Repairs
    status: dict[str, bool]


def poison_code(parameters: Parameters) -> int:
    """The state pattern of a poisoned element: ``-2^(w-1)``, or 0x7E00."""
    return -(2 ** (parameters.state_width - 1)) if parameters.state_format == "fixed" else formats.HALF_NAN


def state_magnitude_max(parameters: Parameters) -> int:
    """Largest magnitude of a fixed-point state element, in its LSBs."""
    return 2 ** (parameters.state_width - 1) - 1


def poisoned_state(state: np.ndarray, parameters: Parameters) -> np.ndarray:
    """Which elements of a state are poisoned."""
    if parameters.state_format == "fixed":
        return state == poison_code(parameters)
    return ~formats.is_finite(state)


def near_memory_engine(
    state: Any,
    groups: DeltaGroups,
    parameters: Parameters,
    *,
    address: Any,
    last: Any = True,
    refresh: Any = False,
    bias: Any = 0,
    state_exponent: int = 0,
    thresholds: Any = (),
) -> Update:
    """Add a stream of groups to the state.

    Parameters
    ----------
    state : int (vectors, n)
        Integers of `state_width` bits, or FP16 patterns.
    groups : DeltaGroups
        G groups in stream order; a vector may take several.
    parameters : Parameters
        Of the machine.
    address : int (G,)
        Vector of each group; that of a vector's first group counts.
    last : bool, or bool (G,)
        Marks the final group of a vector.
    refresh : bool, or bool (G,)
        On a vector's first group: forget the old state.
    bias : int, or int (G, n)
        On a vector's first group: added once, in the state's format.
    state_exponent : int
        ``s``: a fixed-point state counts units of ``2^s``; -24 or more. Not used by an FP16 state.
    thresholds : int (2^s - 1,)
        Of the segment mask, in the state's format, ascending; empty for the sign mask.

    Raises
    ------
    TypeError, ValueError
        If an array is of another type, a shape, an address or a bias is out of range, a digit lies under the state's
        LSB, or the stream ends within a vector.
    """
    fixed = parameters.state_format == "fixed"
    most = 2 ** (parameters.state_width - 1)
    bounds = (-most, most - 1) if fixed else (0, 0xFFFF)
    state = formats.integers("state", state, *bounds).astype(np.int64, copy=True)
    count, n = groups.digits.shape
    if state.ndim != 2 or state.shape[1] != n:
        raise ValueError(f"state must have the shape (vectors, {n}), not {state.shape}")
    last = np.broadcast_to(formats.flags("last", last), (count,))
    if count and not last[-1]:
        raise ValueError("Stream of groups must end with the last group of a vector, not within it")
    transaction = np.cumsum(last) - last  # number of each group's vector in the stream
    first = np.concatenate([[True], last[:-1]]) if count else last
    address = formats.integers("address", address, 0, len(state) - 1).astype(np.int64)
    address = np.broadcast_to(address, (count,))[first]
    refresh = np.broadcast_to(formats.flags("refresh", refresh), (count,))[first]
    bias = np.broadcast_to(formats.integers("bias", bias, *bounds).astype(np.int64), (count, n))[first]
    if fixed and state_exponent < -24:
        raise ValueError(f"state_exponent must be at least -24, not {state_exponent}")

    poison = np.zeros((len(address), n), np.bool_)  # by a group, an outlier or a bias of the transaction
    np.logical_or.at(poison, transaction, groups.poisoned[:, None] | _odd_outliers(groups))
    total = _fixed_sums(groups, transaction, bias, state_exponent) if fixed else None
    if not fixed:
        poison |= ~formats.is_finite(bias)

    mask = np.zeros((len(address), n), np.uint8)
    flips = np.zeros((len(address), n), np.bool_)
    new = np.zeros((len(address), n), np.int64)
    overflow = False
    for rows in _rounds(address):
        old = np.where(refresh[rows, None], 0, state[address[rows]])
        was = poisoned_state(old, parameters)
        if total is not None:
            y = np.where(was, 0, old) + total[rows]
            top = state_magnitude_max(parameters)
            overflow |= bool(((np.abs(y) > top) & ~was & ~poison[rows]).any())
            y = np.where(was | poison[rows], poison_code(parameters), np.clip(y, -top, top))
        else:
            y, clamped = _half_sums(old, groups, transaction, rows, bias[rows])
            overflow |= clamped
        new[rows] = state[address[rows]] = y
        mask[rows] = mask_codes(y, parameters, thresholds=thresholds)
        flips[rows] = (
            (mask_codes(old, parameters, thresholds=thresholds) != mask[rows])
            & ~was
            & ~poisoned_state(y, parameters)
            & ~refresh[rows, None]
        )
    repairs = Repairs(np.zeros(0, np.int64), np.zeros(0, np.uint8), np.zeros(0, np.uint16))
    if parameters.flip_repair:
        which, lanes = np.nonzero(flips)
        values = new[which, lanes]
        if fixed:
            values, clamped = formats.encode_half(np.abs(values), state_exponent)
            overflow |= bool(clamped.any())
        repairs = Repairs(address[which], lanes.astype(np.uint8), (values & 0x7FFF).astype(np.uint16))
    return Update(
        state=state.astype(np.int32),
        address=address,
        mask=mask,
        repairs=repairs,
        status={"overflow": overflow, "poisoned": bool(poison.any())},
    )


def _odd_outliers(groups: DeltaGroups) -> np.ndarray:
    """Lanes that hold an outlier that is not finite, bool (G, n)."""
    odd = np.zeros(groups.digits.shape, np.bool_)
    rows, slots = np.nonzero(groups.outlier_valid & ~formats.is_finite(groups.outlier_value))
    odd[rows, groups.outlier_lane[rows, slots]] = True
    return odd


def _rounds(address: np.ndarray) -> list[np.ndarray]:
    """Transactions in rounds, no address twice in one and every address in stream order over them."""
    order = np.argsort(address, kind="stable")
    ordered = address[order]
    start = np.maximum.accumulate(np.where(np.diff(ordered, prepend=-1) != 0, np.arange(len(order)), 0))
    occurrence = np.zeros(len(order), np.int64)
    occurrence[order] = np.arange(len(order)) - start
    return [np.flatnonzero(occurrence == number) for number in range(occurrence.max(initial=-1) + 1)]


def _fixed_sums(groups: DeltaGroups, transaction: np.ndarray, bias: np.ndarray, exponent: int) -> np.ndarray:
    """``D`` of each transaction: exact digits, outliers rounded one by one, the bias."""
    lsb = exponent - formats.HALF_LSB  # of the state, as an exponent code
    shift = groups.shifts() - lsb
    under = groups.digits.any(axis=1) & (shift < 0)
    if under.any():
        code = int(groups.exponent[under][0])
        raise ValueError(f"Exponents of digits must be at least state_exponent = {exponent}, not {code - 24}")
    lanes = groups.digits.astype(np.int64) << np.maximum(shift, 0)[:, None]
    rows, slots = np.nonzero(groups.outlier_valid)
    values = formats.round_shift(formats.half_to_fixed(groups.outlier_value[rows, slots]), lsb)
    np.add.at(lanes, (rows, groups.outlier_lane[rows, slots]), values)
    total = bias.copy()
    np.add.at(total, transaction, lanes)
    return total


def _half_sums(
    old: np.ndarray, groups: DeltaGroups, transaction: np.ndarray, rows: np.ndarray, bias: np.ndarray
) -> tuple[np.ndarray, bool]:
    """FP16 state after every group and the bias, added in order, each sum rounded; whether anything was clamped."""
    y = formats.half_to_fixed(old)
    poisoned = ~formats.is_finite(old)
    overflow = False
    start, stop = np.searchsorted(transaction, rows, "left"), np.searchsorted(transaction, rows, "right")

    def add(where: np.ndarray, addend: np.ndarray) -> None:
        nonlocal overflow
        patterns, clamped = formats.encode_half(y[where] + addend, formats.HALF_LSB)
        overflow |= bool((clamped & ~poisoned[where]).any())
        y[where] = formats.half_to_fixed(patterns)

    for number in range(int((stop - start).max(initial=0))):
        where = np.flatnonzero(start + number < stop)
        part = groups[start[where] + number]
        poisoned[where] |= part.poisoned[:, None] | _odd_outliers(part)
        patterns, clamped = formats.encode_half(part.fixed(), formats.HALF_LSB)
        overflow |= bool((clamped & ~poisoned[where]).any())
        add(where, formats.half_to_fixed(patterns))
    poisoned |= ~formats.is_finite(bias)
    everywhere = np.arange(len(rows))
    add(everywhere, formats.half_to_fixed(bias))
    # What was -0 is +0 by now: in units of 2^-24 there is only one zero.
    return np.where(poisoned, formats.HALF_NAN, formats.fixed_to_half(y).astype(np.int64)), overflow
