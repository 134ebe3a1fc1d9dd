"""Output deltas as one integer a lane: the quantiser, and the packed stream.

Words: a lane's *integer* Q counts steps of the group's *last* exponent ``e - r``; its *first digit* q0 travels as in
the delta stream, and the r *finer* bits are plain. Source: ``docs/formats.md``, joint delta stream, version 2.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from golden import formats
from golden.parameters import EXPONENT_BIAS, POISONED_GROUP, ZERO_GROUP, Parameters
from golden.units.cyclic_check import CHECK_BITS, check_bits
from golden.units.delta_compressor import (
    BLOCK_GROUPS,
    HEADER_BITS,
    Layout,
    fields,
    framed,
    group_lengths,
    pack_block,
)
from golden.units.delta_decompressor import Beyond, Block
from golden.units.delta_group import DeltaGroups

JOINT_MARKER = 0xD8
"""Low byte of every block header; that of a block with checks is one more."""


@dataclasses.dataclass(frozen=True, eq=False)
class JointGroups:
    """G groups of n lanes in stream order.

    Members
    -------
    exponent : uint8 (G,)
        Codes of ``e``: ``e + 24``, 62 zero group, 63 poisoned group.
    integers : int32 (G, n)
        Q of each lane, in units of ``2^(e - r)``.
    """

    exponent: np.ndarray
    integers: np.ndarray

    def __len__(self) -> int:
        return len(self.exponent)


@dataclasses.dataclass(frozen=True)
class JointStream:
    """A stream of output deltas.

    Parameters
    ----------
    parameters : Parameters
        Gives n, k and the link; there are no outliers.
    width : int
        Bits of a lane at most, k to 16.
    floor : int
        Code of the least exponent of a step, 0 to ``42 - k``.

    Raises
    ------
    ValueError
        If `width` or `floor` is out of range.
    """

    parameters: Parameters
    width: int
    floor: int

    def __post_init__(self) -> None:
        """Check the rules above."""
        k = self.parameters.digit_width
        for name, low, high in (("width", k, 16), ("floor", 0, 42 - k)):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or not low <= value <= high:
                raise ValueError(f"{name} of a joint stream must be in {low}..{high}, not {value!r}")

    @property
    def marker(self) -> int:
        """Low byte of every block header."""
        return JOINT_MARKER + self.parameters.link_checks

    @property
    def _plain(self) -> Parameters:
        return dataclasses.replace(self.parameters, outliers=0, exponent_policy="group")

    def finer(self, exponent: Any) -> np.ndarray:
        """``r`` for each exponent code, int64; 0 for zero and poisoned groups."""
        code = np.asarray(exponent, np.int64)
        return np.where(code < ZERO_GROUP, np.minimum(self.width - self.parameters.digit_width, code - self.floor), 0)

    def quantise(
        self, values: Any, exponent: Any = formats.HALF_LSB, poisoned: Any = False
    ) -> tuple[JointGroups, bool]:
        """Quantise vectors, one group each.

        Numerics: each lane is rounded once (RNE), to ``2^(e - r)``; a vector beyond the largest exponent is clamped to
        the integers that there are.

        Parameters
        ----------
        values : int (V, n)
            Lanes in units of ``2^exponent``: sums of accumulators, or multiples of ``2^-24``.
        exponent : int, broadcast against `values`
            Of their unit.
        poisoned : bool, or bool (V,)
            Vectors that make poisoned groups.

        Returns
        -------
        groups : JointGroups
        overflow : bool
            Whether a vector was clamped.
        """
        values = np.asarray(values)
        poisoned = np.broadcast_to(np.asarray(poisoned, np.bool_), (len(values),))
        lsb = np.broadcast_to(np.asarray(exponent, np.int64) + EXPONENT_BIAS, values.shape)
        k = self.parameters.digit_width
        codes = np.full(len(values), ZERO_GROUP, np.int64)
        integers = np.zeros(values.shape, np.int64)
        open_ = ~poisoned
        overflow = False
        for code in range(self.floor, 43 - k):
            if not open_.any():
                break
            r = int(self.finer(code))
            rounded = formats.round_shift(values[open_], code - r - lsb[open_])
            limit = (2**k - 1) << r
            fits = (2 * np.abs(rounded) < limit).all(axis=1)
            if code == 42 - k and not fits.all():
                rounded, overflow = np.clip(rounded, -((limit - 1) // 2), (limit - 1) // 2), True
                fits[:] = True
            rows = np.flatnonzero(open_)[fits]
            integers[rows] = rounded[fits]
            codes[rows] = code
            open_[rows] = False
        codes[~integers.any(axis=1)] = ZERO_GROUP
        codes[poisoned] = POISONED_GROUP
        return JointGroups(codes.astype(np.uint8), integers.astype(np.int32)), overflow

    def fixed(self, groups: JointGroups) -> np.ndarray:
        """Lanes as int64 (G, n) multiples of ``2^-24``; poisoned groups read 0."""
        last = groups.exponent.astype(np.int64) - self.finer(groups.exponent)
        return groups.integers.astype(np.int64) << np.where(groups.exponent < ZERO_GROUP, last, 0)[:, None]

    def first(self, groups: JointGroups) -> DeltaGroups:
        """Delta groups of the first digits, ``q0 = floor(Q / 2^r + 1/2)``.

        Raises
        ------
        ValueError
            If a group breaks a rule of the format.
        """
        self._check(groups)
        r = self.finer(groups.exponent)[:, None]
        digits = groups.integers + ((1 << r) >> 1) >> r
        zeros = DeltaGroups.zeros(len(groups), self._plain)
        return zeros.replace(exponent=groups.exponent, digits=digits)

    def _check(self, groups: JointGroups) -> None:
        code = groups.exponent.astype(np.int64)
        k, n = self.parameters.digit_width, self.parameters.lanes
        shape = groups.integers.shape
        body = code < ZERO_GROUP
        limit = np.where(body, (2**k - 1) << np.maximum(self.finer(code), 0), 1)  # 1: only zeros
        rules = {
            f"{n} lanes": np.full(len(groups), shape != (len(groups), n)),
            f"an exponent code in {self.floor}..{42 - k}, 62 or 63": body & ((code < self.floor) | (code > 42 - k)),
            "integers below (2^k - 1) 2^(r-1) in magnitude": (
                2 * np.abs(groups.integers.astype(np.int64)) >= limit[:, None]
            ).any(axis=1),
        }
        for rule, broken in rules.items():
            if broken.any():
                raise ValueError(f"Joint group must have {rule}, not as in group {int(np.argmax(broken))}")

    def encode(self, groups: JointGroups) -> list[int]:
        """Pack a stream, lossless, in blocks of 64 groups: words of `link_width` bits."""
        if len(groups) == 0:
            return []
        first = self.first(groups)
        bits, used = fields(first, self._plain, 1).joined()
        places = np.arange(self.width - self.parameters.digit_width)
        finer = groups.integers[..., None] >> places & 1
        sent = np.broadcast_to(places < self.finer(groups.exponent)[:, None, None], finer.shape)
        bits = np.concatenate([bits, finer.reshape(len(groups), -1).astype(np.bool_)], axis=1)
        used = np.concatenate([used, sent.reshape(len(groups), -1)], axis=1)
        width = self.parameters.link_width
        words: list[int] = []
        for start in range(0, len(groups), BLOCK_GROUPS):
            part = slice(start, start + BLOCK_GROUPS)
            block = bits[part][used[part]]
            words += pack_block(self.marker, len(bits[part]), block, width, checked=self.parameters.link_checks)
        return words

    def bits(self, groups: JointGroups) -> int:
        """Bits that `encode` spends on groups, headers and padding included."""
        if len(groups) == 0:
            return 0
        plain = sum(group_lengths(self.first(groups), self._plain, 1).values())
        each = plain + self.finer(groups.exponent) * self.parameters.lanes
        return int(each.sum()) + sum(framed(each, self.parameters))

    def decode(self, words: Sequence[int]) -> JointGroups:
        """Unpack a stream.

        Raises
        ------
        ValueError
            If it breaks a rule of the format, with the block and the rule.
        """
        width, n = self.parameters.link_width, self.parameters.lanes
        layout = Layout.of(self._plain)
        exponents: list[int] = []
        rows: list[np.ndarray] = []
        position, number = 0, 0
        checked = self.parameters.link_checks
        begin, tail = HEADER_BITS + CHECK_BITS * checked, CHECK_BITS * checked
        while position < len(words):
            header = words[position] % 2**HEADER_BITS
            count, length = (header >> 8) % 64 + 1, header >> 14
            size = -(-(begin + length + tail) // width)
            if header % 256 != self.marker:
                raise _wrong(number, f"the marker {self.marker:#x}")
            if position + size > len(words):
                raise _wrong(number, "the words that its length says")
            data = b"".join(int(word).to_bytes(width // 8, "little") for word in words[position : position + size])
            bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little").astype(np.bool_)
            head, bits = bits[:begin], bits[begin:]
            bits, check = bits[: len(bits) - tail], bits[len(bits) - tail :]
            if checked and not (
                np.array_equal(check_bits(head[:HEADER_BITS]), head[HEADER_BITS:])
                and np.array_equal(check_bits(bits), check)
            ):
                raise _wrong(number, "the checks of its header and payload")
            block = Block(bits, length, self._plain, layout, 1)
            for _ in range(count):
                try:
                    code, _, digits, _ = block.group()
                    if block.refused:
                        raise _wrong(number, "groups of the format")
                    r = int(self.finer(code))
                    if r < 0:
                        raise _wrong(number, f"exponent codes from {self.floor} on")
                    low = block.take(r * n).reshape(n, r)
                except Beyond:
                    raise _wrong(number, "as many whole groups as announced") from None
                # the finer bits are two's complement: the highest counts negative
                weights = (1 << np.arange(r)) * np.where(np.arange(r) == r - 1, -1, 1)
                exponents.append(code)
                rows.append((digits << r) + (low * weights).sum(axis=1))
            if block.position != length:
                raise _wrong(number, "a length that its groups have")
            if bits[length:].any():
                raise _wrong(number, "zeros behind its groups")
            position, number = position + size, number + 1
        integers = np.array(rows, np.int32).reshape(-1, n)
        return JointGroups(np.array(exponents, np.uint8), integers)


def _wrong(block: int, rule: str) -> ValueError:
    return ValueError(f"Joint block must have {rule}, not as in block {block}")
