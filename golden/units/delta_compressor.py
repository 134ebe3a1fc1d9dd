"""Compressor of delta groups to the packed stream. Source: ``docs/formats.md``, delta stream, version 2."""

import dataclasses
from typing import Any

import numpy as np

from golden.parameters import EXPONENT_BIAS, EXPONENT_WIDTH, ZERO_GROUP, Parameters
from golden.units.cyclic_check import CHECK_BITS, check_bits
from golden.units.delta_group import DeltaGroups

MARKER = 0xE0
"""Low byte of the header of a block in one pass; more passes count up from it."""

CHECKED = 0x08
"""Bit of the marker that says that a block has checks."""

MAX_PASSES = 8
"""Most passes that a stream can have."""

BLOCK_GROUPS = 64
"""A block is closed after this many groups."""

HEADER_BITS = 32
"""Bits of a block header."""

_PREFIX = 16  # bits of the longest exponent field: 1111, code 62, code of a replay group


@dataclasses.dataclass(frozen=True)
class Layout:
    """Widths of the fields of a group.

    Members
    -------
    count : int
        Bits of the count of outliers.
    rest : int
        ``r``: low bits of a magnitude sent as they are.
    planes : int
        Planes before them: 3, or 1 for k = 2.
    lane : int
        Bits of a lane number.
    longest : int
        ``G``, bits of the longest group.
    """

    count: int
    rest: int
    planes: int
    lane: int
    longest: int

    @classmethod
    def of(cls, parameters: Parameters) -> "Layout":
        """Layout for a machine."""
        count, rest = parameters.outliers.bit_length(), max(parameters.digit_width - 3, 0)
        planes = 3 if parameters.digit_width >= 3 else 1
        longest = 10 + count + parameters.lanes * (planes + rest + 1)
        longest += parameters.outliers * (parameters.lane_width + 16)
        return cls(count, rest, planes, parameters.lane_width, longest)


@dataclasses.dataclass(frozen=True, eq=False)
class _Fields:
    """Every bit a group could have, and which of them it has; one row for each group."""

    exponent: tuple[np.ndarray, np.ndarray]
    count: tuple[np.ndarray, np.ndarray]
    planes: tuple[np.ndarray, np.ndarray]
    rest: tuple[np.ndarray, np.ndarray]
    signs: tuple[np.ndarray, np.ndarray]
    outliers: tuple[np.ndarray, np.ndarray]

    def joined(self) -> tuple[np.ndarray, np.ndarray]:
        """All fields side by side, in the order of the format."""
        parts = [getattr(self, field.name) for field in dataclasses.fields(self)]
        return np.concatenate([bits for bits, _ in parts], axis=1), np.concatenate([used for _, used in parts], axis=1)


def _bits(values: np.ndarray, width: int) -> np.ndarray:
    """Bits of integers, bit 0 first, on a new last axis."""
    return (values[..., None].astype(np.int64) >> np.arange(width) & 1).astype(np.bool_)


def _predictors(groups: DeltaGroups, passes: int) -> np.ndarray:
    """Code each group's exponent is coded against (formats, group, item 1)."""
    count = len(groups)
    index = np.arange(count)
    block = index // BLOCK_GROUPS
    counted = np.cumsum(~groups.replay) - ~groups.replay  # groups before this one, replays apart
    number = counted - counted[block * BLOCK_GROUPS]
    group_pass = number % passes
    sent = ~groups.replay & (groups.exponent < ZERO_GROUP)
    predictor = np.full(count, EXPONENT_BIAS, np.int64)
    for which in range(passes):
        mine = sent & (group_pass == which)
        latest = np.maximum.accumulate(np.where(mine, index, -1))
        previous = np.concatenate([[-1], latest[:-1]])  # the last one before each group
        known = previous >= block * BLOCK_GROUPS
        value = np.where(known, groups.exponent[np.maximum(previous, 0)], EXPONENT_BIAS)
        predictor = np.where(group_pass == which, value, predictor)
    return predictor


def _exponent_field(groups: DeltaGroups, passes: int) -> tuple[np.ndarray, np.ndarray]:
    count = len(groups)
    code = groups.exponent.astype(np.int64)
    step = code - _predictors(groups, passes)
    before = np.concatenate([[-1], code[:-1]])
    starts = np.arange(count) % BLOCK_GROUPS == 0
    follows = groups.replay & ~starts & (before == code)
    plain = ~groups.replay & (code < ZERO_GROUP)
    cases = [  # condition, bits in order of transmission
        (plain & (step == 0), "0"),
        (code == ZERO_GROUP, "100"),
        (plain & (step == 1), "101"),
        (plain & (step == -1), "110"),
        (follows, "1110"),
    ]
    bits, used = np.zeros((count, _PREFIX), np.bool_), np.zeros((count, _PREFIX), np.bool_)
    rest = np.ones(count, np.bool_)
    for condition, text in cases:
        rest &= ~condition
        bits[condition, : len(text)] = [letter == "1" for letter in text]
        used[condition, : len(text)] = True
    bits[rest, :4] = True
    bits[rest, 4:10] = _bits(np.where(groups.replay, ZERO_GROUP, code)[rest], EXPONENT_WIDTH)
    used[rest, :10] = True
    rest &= groups.replay
    bits[rest, 10:] = _bits(code[rest], EXPONENT_WIDTH)
    used[rest, 10:] = True
    return bits, used


def fields(groups: DeltaGroups, parameters: Parameters, passes: int) -> _Fields:
    """Bits of every field of each group, and which of them a group has."""
    layout = Layout.of(parameters)
    count, n = groups.digits.shape
    body = groups.exponent < ZERO_GROUP
    inner = np.broadcast_to((body & ~groups.replay)[:, None], (count, n))
    magnitude = np.abs(groups.digits.astype(np.int64))
    high = magnitude >> layout.rest
    levels = np.concatenate([high > level for level in range(layout.planes)], axis=1)
    asked = np.concatenate([inner, *(inner & (high > level) for level in range(layout.planes - 1))], axis=1)
    used = groups.outlier_valid.sum(axis=1)
    slots = _bits(groups.outlier_lane, layout.lane), _bits(groups.outlier_value, 16)
    outliers = np.concatenate(slots, axis=2).reshape(count, -1)
    return _Fields(
        exponent=_exponent_field(groups, passes),
        count=(_bits(used, layout.count), np.broadcast_to(body[:, None], (count, layout.count))),
        planes=(levels, asked),
        rest=(_bits(magnitude, layout.rest).reshape(count, -1), np.repeat(inner, layout.rest, axis=1)),
        signs=(groups.digits < 0, inner & (magnitude > 0)),
        outliers=(outliers, np.repeat(groups.outlier_valid, layout.lane + 16, axis=1)),
    )


def group_lengths(groups: DeltaGroups, parameters: Parameters, passes: int) -> dict[str, np.ndarray]:
    """Bits that each group takes, by field of the format: int64 (G,) each. What `fields` makes is not made for it."""
    layout = Layout.of(parameters)
    body = groups.exponent < ZERO_GROUP
    inner = (body & ~groups.replay)[:, None]
    magnitude = np.abs(groups.digits) * inner
    high = magnitude >> layout.rest
    asked = sum(np.count_nonzero(high > level, axis=1) for level in range(layout.planes - 1))
    lanes = inner[:, 0] * groups.lanes
    return {
        "exponent": _exponent_field(groups, passes)[1].sum(axis=1),
        "count": body * layout.count,
        "planes": lanes + asked,
        "rest": lanes * layout.rest,
        "signs": np.count_nonzero(magnitude, axis=1),
        "outliers": groups.outlier_valid.sum(axis=1) * (layout.lane + 16),
    }


def framed(lengths: np.ndarray, parameters: Parameters) -> tuple[int, int]:
    """Bits of the headers of a stream whose groups are so long, checks included, and of its padding."""
    starts = np.arange(0, len(lengths), BLOCK_GROUPS)
    header = HEADER_BITS + 2 * CHECK_BITS * parameters.link_checks
    blocks = header + np.add.reduceat(lengths, starts)
    return header * len(starts), int((-blocks % parameters.link_width).sum())


def check_passes(passes: Any) -> None:
    """Refuse what no stream can have as its setting `passes`.

    Raises
    ------
    ValueError
        If it is no integer in 1..8.
    """
    if not isinstance(passes, int | np.integer) or not 1 <= passes <= MAX_PASSES:
        raise ValueError(f"passes must be in 1..{MAX_PASSES}, not {passes!r}")


def _check(groups: DeltaGroups, parameters: Parameters, passes: Any) -> None:
    check_passes(passes)
    groups.check(parameters)


def pack_block(marker: int, count: int, payload: np.ndarray, width: int, *, checked: bool) -> list[int]:
    """Words of a block: header, payload and padding, and their checks if it has any.

    Parameters
    ----------
    marker, count : int
        Low byte of the header; groups.
    payload : bool (length,)
        Bits of the groups.
    width : int
        Bits of a word.
    checked : bool
        Whether a check follows the header, and another the padding.
    """
    header = _bits(np.array(marker | count - 1 << 8 | len(payload) << 14), HEADER_BITS)
    bits = np.concatenate([header, check_bits(header), payload] if checked else [header, payload])
    bits = np.pad(bits, (0, -(len(bits) + CHECK_BITS * checked) % width))
    if checked:
        bits = np.concatenate([bits, check_bits(bits[HEADER_BITS + CHECK_BITS :])])
    bits = bits.reshape(-1, width)
    return [int.from_bytes(word.tobytes(), "little") for word in np.packbits(bits, axis=1, bitorder="little")]


def delta_compressor(groups: DeltaGroups, parameters: Parameters, *, passes: int = 1) -> list[int]:
    """Pack one stream of groups. Lossless.

    Parameters
    ----------
    groups : DeltaGroups
        The whole stream; blocks of 64 groups are made of it.
    parameters : Parameters
        Of the machine.
    passes : int
        1..8: groups a vector has, replay groups apart.

    Returns
    -------
    list of int
        Words of `link_width` bits; the last one ends the stream.

    Raises
    ------
    ValueError
        If `passes` is outside 1..8 or a group breaks a rule.
    """
    _check(groups, parameters, passes)
    if len(groups) == 0:
        return []
    bits, used = fields(groups, parameters, passes).joined()
    lengths = used.sum(axis=1)
    payload = bits[used]
    ends = np.concatenate([[0], np.cumsum(lengths)])
    width = parameters.link_width
    checked = parameters.link_checks
    marker = MARKER + int(passes) - 1 | CHECKED * checked
    words: list[int] = []
    for start in range(0, len(groups), BLOCK_GROUPS):
        stop = min(start + BLOCK_GROUPS, len(groups))
        block = payload[ends[start] : ends[stop]]
        words += pack_block(marker, stop - start, block, width, checked=checked)
    return words


@dataclasses.dataclass(frozen=True)
class Cost:
    """Bits of a compressed stream.

    Members
    -------
    header, exponent, count, planes, rest, signs, outliers, padding : int
        Bits by field; `header` holds the checks too, `padding` fills the last word of each block.
    """

    header: int
    exponent: int
    count: int
    planes: int
    rest: int
    signs: int
    outliers: int
    padding: int

    @property
    def bits(self) -> int:
        """All bits, headers and padding included."""
        return sum(dataclasses.asdict(self).values())


def cost(groups: DeltaGroups, parameters: Parameters, *, passes: int = 1) -> Cost:
    """Bits that `delta_compressor` spends, by field; arguments and errors as there."""
    _check(groups, parameters, passes)
    if len(groups) == 0:
        return Cost(0, 0, 0, 0, 0, 0, 0, 0)
    present = group_lengths(groups, parameters, passes)
    header, padding = framed(sum(present.values()), parameters)
    return Cost(header=header, padding=padding, **{name: int(bits.sum()) for name, bits in present.items()})


# Other forms, for comparison ----------------------------------------------------------------------------------------


def list_bitmap_bits(groups: DeltaGroups, parameters: Parameters) -> int:
    """Bits of the published form: a bitmap of outliers, a list of k-bit inliers, a list of FP16 outliers.

    ``lanes + k * inliers + 16 * outliers``; exponents, which that machine fixes for each layer, are not counted.
    Source: Cambricon-D (ISCA 2024), compression unit: 4.24 bits per element at k = 3 and 1.86 % outliers.
    """
    lanes, outliers = int((~groups.replay).sum()) * groups.lanes, int(groups.outlier_valid.sum())
    return lanes + parameters.digit_width * (lanes - outliers) + 16 * outliers


def entropy_bits(groups: DeltaGroups, *, passes: int = 1) -> float:
    """Static order-0 entropy of the digits, in bits for all of them: the limit of a code that knows nothing else.

    Each pass has a distribution of its own; the lane of an outlier is a symbol of its own, its value not counted.
    Replay groups have no digits. Exponents are not counted.
    """
    kept = groups[~groups.replay]
    symbols = kept.digits.astype(np.int64)
    rows, slots = np.nonzero(kept.outlier_valid)
    symbols[rows, kept.outlier_lane[rows, slots]] = 999
    total = 0.0
    for which in range(passes):
        _, counts = np.unique(symbols[which::passes], return_counts=True)
        total -= float((counts * np.log2(counts / counts.sum())).sum()) if len(counts) else 0.0
    return total
