"""What lies in memory: vectors of states, records of weights, groups, sums and coefficients, entries of tables.

Everything is little endian and packed, field after field from bit 0; a vector or a record is padded to whole bytes.
Source: ``docs/formats.md``, the memory of the machine.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from golden.parameters import SCALE_WIDTH, Parameters
from golden.units.delta_group import DeltaGroups
from golden.units.norm import Coefficients

ENTRY_BYTES = 4
"""Of an entry of a table: two's complement."""

SUM_BYTES = 16
"""Of a record of sums: ``sum Y`` (64 bits), ``sum Y^2`` (63 bits), whether an element was poisoned."""

COEFFICIENT_BYTES = 8
"""Of a record of coefficients: see `Roots`."""

FLOOR_BYTES = 16
"""Of the constant K of a set."""


def _bits(values: Any, width: int) -> np.ndarray:
    """Bits of integers, low first: bool (records, fields * width) of (records, fields)."""
    values = np.asarray(values, np.int64)
    spread = values[..., None] >> np.arange(width) & 1
    return spread.astype(np.uint8).reshape(len(values), -1)


def _packed(*fields: tuple[Any, int]) -> np.ndarray:
    """Records of fields ``(values (records, count), width)``: uint8 (records, bytes)."""
    return np.packbits(np.concatenate([_bits(*field) for field in fields], axis=1), axis=1, bitorder="little")


def _unpacked(records: np.ndarray, *fields: tuple[int, int, bool]) -> list[np.ndarray]:
    """Fields ``(count, width, signed)`` of records: int64 (records, count) each."""
    bits = np.unpackbits(np.ascontiguousarray(records), axis=1, bitorder="little")
    found, position = [], 0
    for count, width, signed in fields:
        part = bits[:, position : position + count * width].reshape(len(bits), count, width)
        weights = np.int64(1) << np.arange(width, dtype=np.int64)
        if signed:
            weights[-1] = -weights[-1]
        found.append(part @ weights if width else np.zeros(part.shape[:2], np.int64))
        position += count * width
    return found


def vector_bytes(parameters: Parameters) -> int:
    """Bytes of a vector of n state elements."""
    return -(-parameters.lanes * parameters.state_width // 8)


def pack_vectors(vectors: Any, parameters: Parameters) -> np.ndarray:
    """State, version 2: int (V, n) to uint8 (V, bytes)."""
    return _packed((vectors, parameters.state_width))


def unpack_vectors(data: np.ndarray, parameters: Parameters) -> np.ndarray:
    """State, version 2: uint8 (V, bytes) to int64 (V, n)."""
    return _unpacked(data, (parameters.lanes, parameters.state_width, True))[0]


def vectors_of(elements: np.ndarray, lanes: int) -> np.ndarray:
    """Elements (positions, channels) of a whole tensor as the vectors that it lies in, int64 (V, n)."""
    channels = elements.shape[1]
    if channels >= lanes:
        return np.pad(elements, ((0, 0), (0, -channels % lanes))).reshape(-1, lanes)
    return np.pad(elements.ravel(), (0, -elements.size % lanes)).reshape(-1, lanes)


def record_blocks(outputs: int, parameters: Parameters) -> list[slice]:
    """Output channels in the order that their records lie in: blocks of the array's columns, vector by vector."""
    n, columns = parameters.lanes, parameters.columns
    return [
        slice(first, min(first + columns, start + n, outputs))
        for start in range(0, outputs, n)
        for first in range(start, min(start + n, outputs), columns)
    ]


def weight_bytes(parameters: Parameters) -> int:
    """Bytes of a record of weights."""
    return -(-(SCALE_WIDTH + parameters.lanes * (parameters.fraction_bits + 2)) // 8)


def pack_weights(weights: Any, scale: Any, parameters: Parameters) -> np.ndarray:
    """Weights, version 2: integers (R, n) and scales (R,) to uint8 (R, bytes)."""
    return _packed((np.asarray(scale)[:, None], SCALE_WIDTH), (weights, parameters.fraction_bits + 2))


def unpack_weights(data: np.ndarray, parameters: Parameters) -> tuple[np.ndarray, np.ndarray]:
    """Weights, version 2: uint8 (R, bytes) to int64 (R, n) and (R,)."""
    scale, weights = _unpacked(data, (1, SCALE_WIDTH, True), (parameters.lanes, parameters.fraction_bits + 2, True))
    return weights, scale[:, 0]


def _group_fields(parameters: Parameters) -> tuple[tuple[int, int, bool], ...]:
    n, k, m = parameters.lanes, parameters.digit_width, parameters.outliers
    fields = (1, 6, False), (n, k, True), (m, 1, False), (m, (n - 1).bit_length(), False), (m, 16, False)
    return *fields, (int(parameters.replays), 1, False)


def group_bytes(parameters: Parameters) -> int:
    """Bytes of a group in the direct form of the link."""
    return -(-sum(count * width for count, width, _ in _group_fields(parameters)) // 8)


def pack_groups(groups: DeltaGroups, parameters: Parameters) -> np.ndarray:
    """Groups, version 1 (direct form): uint8 (G, bytes)."""
    parts = (groups.exponent[:, None], groups.digits)
    parts += (groups.outlier_valid, groups.outlier_lane, groups.outlier_value)
    parts += (groups.replay[:, None][:, : int(parameters.replays)],)
    return _packed(*((part, width) for part, (_, width, _) in zip(parts, _group_fields(parameters), strict=True)))


def unpack_groups(data: np.ndarray, parameters: Parameters) -> DeltaGroups:
    """Groups, version 1, as they are."""
    code, digits, valid, lane, value, replay = _unpacked(data, *_group_fields(parameters))
    return DeltaGroups(
        exponent=code[:, 0].astype(np.uint8),
        replay=replay.any(axis=1),
        digits=digits.astype(np.int8),
        outlier_valid=valid.astype(np.bool_),
        outlier_lane=lane.astype(np.uint8),
        outlier_value=value.astype(np.uint16),
    )


def sign_bytes(parameters: Parameters) -> int:
    """Bytes of a record of the sign tensor, a bit for each lane."""
    return -(-parameters.lanes // 8)


def pack_signs(masks: Any) -> np.ndarray:
    """Sign tensor, version 2: bool (V, n) to uint8 (V, bytes)."""
    return np.packbits(np.asarray(masks, np.bool_), axis=1, bitorder="little")


def unpack_signs(data: np.ndarray, parameters: Parameters) -> np.ndarray:
    """Sign tensor, version 2: uint8 (V, bytes) to bool (V, n)."""
    return np.unpackbits(np.ascontiguousarray(data), axis=1, bitorder="little")[:, : parameters.lanes].astype(np.bool_)


def scale_bytes(parameters: Parameters) -> int:
    """Bytes of a record of scales: n factors, then n shifts."""
    return 4 * parameters.lanes


def pack_scales(factors: Any, shifts: Any) -> np.ndarray:
    """Scales, version 1: FP16 patterns (R, n) each to uint8 (R, 4 n)."""
    return np.ascontiguousarray(np.concatenate([factors, shifts], axis=1).astype("<u2")).view(np.uint8)


def unpack_scales(data: np.ndarray, parameters: Parameters) -> tuple[np.ndarray, np.ndarray]:
    """Scales, version 1: uint8 (R, 4 n) to patterns, uint16 (R, n) each."""
    patterns = np.ascontiguousarray(data).view("<u2").astype(np.uint16)
    return patterns[:, : parameters.lanes], patterns[:, parameters.lanes :]


@dataclasses.dataclass(frozen=True, eq=False)
class Sums:
    """Records of sums of Y.

    Members
    -------
    total, square : int64 (records,)
        Exact ``sum Y`` and ``sum Y^2``.
    poisoned : bool (records,)
        Whether an element was poisoned since the records were fresh.
    """

    total: np.ndarray
    square: np.ndarray
    poisoned: np.ndarray


def pack_sums(sums: Sums) -> np.ndarray:
    """Sums, version 1: uint8 (records, 16)."""
    words = np.stack([sums.total, sums.square | sums.poisoned.astype(np.int64) << 63], axis=1)
    return np.ascontiguousarray(words, "<i8").view(np.uint8)


def unpack_sums(data: np.ndarray) -> Sums:
    """Sums, version 1, of uint8 (records, 16)."""
    words = np.ascontiguousarray(data).view("<i8").astype(np.int64)
    return Sums(words[:, 0], words[:, 1] & 2**63 - 1, words[:, 1] < 0)


@dataclasses.dataclass(frozen=True, eq=False)
class Roots:
    """Records of coefficients.

    Members
    -------
    coefficients : Coefficients
        Mean, root and exponent of each set, see `golden.units.norm`.
    finer : int64 (sets,)
        Places by which elements of the coarser tensor are shifted left, 0 to 8.
    second : bool (sets,)
        Whether the coarser tensor is the second one.
    poisoned : bool (sets,)
        Whether the set is poisoned.
    """

    coefficients: Coefficients
    finer: np.ndarray
    second: np.ndarray
    poisoned: np.ndarray


def pack_coefficients(roots: Roots) -> np.ndarray:
    """Coefficients, version 1: uint8 (sets, 8)."""
    found = roots.coefficients
    columns = ((found.mean, 32), (found.root, 17), (found.exponent, 8), (roots.finer, 4), (roots.second, 1))
    columns += ((np.zeros(len(found.mean)), 1), (roots.poisoned, 1))
    return _packed(*((np.asarray(values)[:, None], width) for values, width in columns))


def unpack_coefficients(data: np.ndarray) -> Roots:
    """Coefficients, version 1, of uint8 (sets, 8)."""
    columns = ((1, 32, True), (1, 17, False), (1, 8, True), (1, 4, False), (1, 1, False), (1, 1, False), (1, 1, False))
    mean, root, exponent, finer, second, _, poisoned = (part[:, 0] for part in _unpacked(data, *columns))
    return Roots(Coefficients(mean, root, exponent), finer, second.astype(np.bool_), poisoned.astype(np.bool_))


@dataclasses.dataclass(frozen=True, eq=False)
class RowSums:
    """Records of rows of a softmax.

    Members
    -------
    largest, reciprocal, length : int64 (rows,)
        m, V and L.
    poisoned : bool (rows,)
        Whether an element of the row is.
    """

    largest: np.ndarray
    reciprocal: np.ndarray
    length: np.ndarray
    poisoned: np.ndarray


def pack_rows(rows: RowSums) -> np.ndarray:
    """Rows, version 1: uint8 (rows, 8)."""
    columns = ((rows.largest, 32), (rows.reciprocal, 17), (rows.length, 6))
    columns += ((np.zeros(len(rows.largest)), 8), (rows.poisoned, 1))
    return _packed(*((np.asarray(values)[:, None], width) for values, width in columns))


def unpack_rows(data: np.ndarray) -> RowSums:
    """Rows, version 1, of uint8 (rows, 8)."""
    columns = ((1, 32, True), (1, 17, False), (1, 6, False), (1, 8, False), (1, 1, False))
    largest, reciprocal, length, _, poisoned = (part[:, 0] for part in _unpacked(data, *columns))
    return RowSums(largest, reciprocal, length, poisoned.astype(np.bool_))


def pack_entries(values: Any) -> np.ndarray:
    """Entries of a table: uint8 (entries * 4,)."""
    return np.ascontiguousarray(np.asarray(values, np.int64).ravel().astype("<i4")).view(np.uint8)


def unpack_entries(data: np.ndarray) -> np.ndarray:
    """Entries of a table, int64."""
    return np.ascontiguousarray(data).view("<i4").astype(np.int64)


def pack_floors(floors: Sequence[int]) -> np.ndarray:
    """Constants K of sets: uint8 (sets * 16,)."""
    return np.frombuffer(b"".join(int(floor).to_bytes(FLOOR_BYTES, "little") for floor in floors), np.uint8)


def unpack_floors(data: np.ndarray) -> list[int]:
    """Constants K of sets."""
    raw = data.tobytes()
    return [int.from_bytes(raw[start : start + FLOOR_BYTES], "little") for start in range(0, len(raw), FLOOR_BYTES)]
