"""Payloads as bytes: from arrays by field to the files that a player reads, and from a number back to its fields."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth.hdl import Shape, ShapeLike
from amaranth.lib import data

from golden.parameters import Parameters
from golden.units.delta_group import DeltaGroups

_CHUNK = 1 << 15  # vectors packed at a time: bounds the matrix of bits


@dataclass(frozen=True)
class Leaf:
    """A number within a payload.

    Members
    -------
    path : tuple of str and int
        Field names and indices that lead to it.
    offset, width : int
        Its bits.
    signed : bool
        Two's complement.
    """

    path: tuple[str | int, ...]
    offset: int
    width: int
    signed: bool

    @property
    def name(self) -> str:
        """The path as one writes it: ``group.digits[3]``."""
        text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path)
        return text.removeprefix(".") or "payload"


def width(shape: ShapeLike) -> int:
    """Bits of a payload."""
    return Shape.cast(shape).width


def leaves(shape: ShapeLike) -> list[Leaf]:
    """Every number of a payload, in bit order."""
    return list(_leaves(shape, (), 0))


def _leaves(shape: ShapeLike, path: tuple[str | int, ...], offset: int) -> Iterator[Leaf]:
    if isinstance(shape, data.Layout):
        for key, field in shape:
            yield from _leaves(field.shape, (*path, key), offset + field.offset)
    else:
        cast = Shape.cast(shape)
        if cast.width:
            yield Leaf(path, offset, cast.width, cast.signed)


def pack(shape: ShapeLike, values: Any) -> np.ndarray:
    """Pack vectors given by field.

    Parameters
    ----------
    shape : ShapeLike
        Layout of the payload.
    values : array or mapping
        For a number an integer array (N,) or its bits, bool (N, width); for a structure a mapping from field name to
        values; for an array of numbers an array (N, length), of structures a mapping whose arrays have that second
        axis.

    Returns
    -------
    uint8 (N, ceil(width / 8))
        Big-endian bytes.

    Raises
    ------
    ValueError
        If a value does not fit its field, a field is missing, or lengths differ.
    """
    columns = [(leaf, _column(values, leaf)) for leaf in leaves(shape)]
    counts = {len(column) for _, column in columns}
    if len(counts) != 1:
        raise ValueError(f"Fields of a payload must have one length, not {sorted(counts)}")
    (count,) = counts
    n_bytes = -(-width(shape) // 8)
    result = np.empty((count, n_bytes), np.uint8)
    for start in range(0, count, _CHUNK):
        stop = min(start + _CHUNK, count)
        bits = np.zeros((stop - start, 8 * n_bytes), np.uint8)
        for leaf, column in columns:
            bits[:, leaf.offset : leaf.offset + leaf.width] = _bits(column[start:stop], leaf)
        result[start:stop] = np.packbits(bits, axis=1, bitorder="little")[:, ::-1]
    return result


def _column(values: Any, leaf: Leaf) -> np.ndarray:
    for part in leaf.path:
        if isinstance(part, int):
            values = _lane(values, part)
        elif not isinstance(values, Mapping) or part not in values:
            raise ValueError(f"Values must hold the field {leaf.name}")
        else:
            values = values[part]
    column = np.asarray(values)
    if column.dtype == bool and column.shape[1:] == (leaf.width,):
        return column
    if column.ndim != 1:
        raise ValueError(f"Values of {leaf.name} must have one number per vector, not the shape {column.shape}")
    return column.astype(np.int64) if column.dtype == bool else column


def _lane(values: Any, index: int) -> Any:
    if isinstance(values, Mapping):
        return {key: _lane(value, index) for key, value in values.items()}
    return np.asarray(values)[:, index]


def _bits(column: np.ndarray, leaf: Leaf) -> np.ndarray:
    if column.ndim == 2:
        return column
    low, high = (-(1 << leaf.width - 1), 1 << leaf.width - 1) if leaf.signed else (0, 1 << leaf.width)
    if len(column) and not (low <= int(column.min()) and int(column.max()) < high):
        worst = int(column.min()) if int(column.min()) < low else int(column.max())
        raise ValueError(f"Values of {leaf.name} must be in {low}..{high - 1}, not {worst}")
    if leaf.width <= 63 and column.dtype != object:
        return (column.astype(np.int64)[:, None] >> np.arange(leaf.width)) & 1
    n_bytes = -(-leaf.width // 8)
    mask = (1 << leaf.width) - 1
    raw = b"".join((int(value) & mask).to_bytes(n_bytes, "little") for value in column)
    rows = np.frombuffer(raw, np.uint8).reshape(len(column), n_bytes)
    return np.unpackbits(rows, axis=1, bitorder="little")[:, : leaf.width]


def unpack(shape: ShapeLike, rows: np.ndarray) -> Any:
    """Vectors by field; the inverse of `pack`.

    Parameters
    ----------
    shape : ShapeLike
        Layout of the payload.
    rows : uint8 (N, ceil(width / 8))
        Big-endian bytes.

    Returns
    -------
    array or mapping
        As `pack` takes them: a number of up to 63 bits is int64 (N,), a longer one an object array of integers.
    """
    bits = np.unpackbits(np.asarray(rows, np.uint8)[:, ::-1], axis=1, bitorder="little")
    return _unpacked(shape, bits, 0)


def _unpacked(shape: ShapeLike, bits: np.ndarray, offset: int) -> Any:
    if isinstance(shape, data.StructLayout):
        return {str(key): _unpacked(field.shape, bits, offset + field.offset) for key, field in shape}
    if isinstance(shape, data.ArrayLayout):
        return _stacked([_unpacked(field.shape, bits, offset + field.offset) for _, field in shape])
    cast = Shape.cast(shape)
    own = bits[:, offset : offset + cast.width]
    kind = np.int64 if cast.width <= 63 else object
    values = (
        own.astype(kind) @ np.array([1 << bit for bit in range(cast.width)], kind)
        if cast.width
        else np.zeros(len(own), np.int64)
    )
    return np.where(own[:, -1] != 0, values - (1 << cast.width), values) if cast.signed else values


def _stacked(items: list[Any]) -> Any:
    if isinstance(items[0], dict):
        return {key: _stacked([item[key] for item in items]) for key in items[0]}
    return np.stack(items, axis=1)


def number(shape: ShapeLike, values: Any) -> int:
    """One payload as a number; `values` as in `pack` without the first axis."""
    return int.from_bytes(pack(shape, _batch_of_one(values)).tobytes(), "big")


def _batch_of_one(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {key: _batch_of_one(value) for key, value in values.items()}
    return np.asarray(values)[None]


def decode(shape: ShapeLike, number: int) -> dict[str, int]:
    """Fields of one payload, by their names as `Leaf.name` writes them."""
    fields = {}
    for leaf in leaves(shape):
        value = number >> leaf.offset & (1 << leaf.width) - 1
        if leaf.signed and value >> leaf.width - 1:
            value -= 1 << leaf.width
        fields[leaf.name] = value
    return fields


def flags_of(numbers: np.ndarray, count: int) -> np.ndarray:
    """Bits 0 to ``count - 1`` of each number, bool (N, count)."""
    return (np.asarray(numbers, np.int64)[:, None] >> np.arange(count) & 1).astype(bool)


def group_values(groups: DeltaGroups, parameters: Parameters) -> dict[str, Any]:
    """Values of `hw.payloads.delta_group` from the golden model's groups."""
    values: dict[str, Any] = {"exponent": groups.exponent, "digits": groups.digits}
    if parameters.replays:
        values["replay"] = groups.replay
    if parameters.outliers:
        values["outliers"] = {
            "valid": groups.outlier_valid,
            "lane": groups.outlier_lane,
            "value": groups.outlier_value,
        }
    return values
