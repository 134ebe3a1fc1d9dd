"""Decompressor of the packed stream, malformed ones included. Source: ``docs/formats.md``, delta stream, version 2."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from golden.parameters import EXPONENT_BIAS, EXPONENT_WIDTH, POISONED_GROUP, ZERO_GROUP, Parameters
from golden.units.cyclic_check import CHECK_BITS, check_bits
from golden.units.delta_compressor import CHECKED, HEADER_BITS, MARKER, Layout, check_passes
from golden.units.delta_group import DeltaGroups


@dataclasses.dataclass(frozen=True, eq=False)
class Decoded:
    """What a stream decodes to.

    Members
    -------
    groups : DeltaGroups
        In stream order; the last one is the one marked last. Groups of a malformed block from the first bad one on
        are poisoned.
    error : bool
        The sticky status: something was refused.
    """

    groups: DeltaGroups
    error: bool

    @property
    def status(self) -> dict[str, bool]:
        """Sticky ``error``."""
        return {"error": self.error}


class Beyond(Exception):
    """A group goes past the end of its block."""


class Block:
    """The payload of one block, read bit by bit; `refused` from the first malformed group on.

    The fields of a malformed group are read like those of any other, so that it ends where they do.
    """

    def __init__(self, bits: np.ndarray, length: int, parameters: Parameters, layout: Layout, passes: int):
        self.bits = bits
        self.length = length  # bits there are to read, never more than len(bits)
        self.position = 0
        self.parameters = parameters
        self.layout = layout
        self.predictors = [EXPONENT_BIAS] * passes
        self.counted = 0
        self.refused = False
        self.before: int | None = None  # code of the group before, if a replay group may follow it with 1110

    def take(self, count: int) -> np.ndarray:
        """The next bits."""
        end = self.position + count
        if end > self.length:
            raise Beyond
        bits = self.bits[self.position : end]
        self.position = end
        return bits

    def bit(self) -> bool:
        """The next bit."""
        return bool(self.take(1)[0])

    def number(self, width: int) -> int:
        """The next `width` bits as a number, bit 0 first."""
        return sum(int(bit) << place for place, bit in enumerate(self.take(width)))

    def exponent(self) -> tuple[int, bool]:
        """Exponent code of the next group and whether it is a replay group."""
        largest = 42 - self.parameters.digit_width
        group_pass = self.counted % len(self.predictors)
        predictor = self.predictors[group_pass]
        replay = False
        if not self.bit():
            code = predictor
        elif not self.bit():
            code = predictor + 1 if self.bit() else ZERO_GROUP
        elif not self.bit():
            code = predictor - 1
        elif not self.bit():
            replay = True
            code = -1 if self.before is None else self.before
        else:
            code = self.number(EXPONENT_WIDTH)
            if code == ZERO_GROUP:
                replay = True
                code = self.number(EXPONENT_WIDTH) if self.parameters.replays else -1
        # A replay group has an exponent; another group has one, or says that there is nothing more of it.
        bare = () if replay else (ZERO_GROUP, POISONED_GROUP)
        self.refused |= (replay and not self.parameters.replays) or not (0 <= code <= largest or code in bare)
        return code, replay

    def group(self) -> tuple[int, bool, np.ndarray, list[tuple[int, int]]]:
        """The next group: exponent code, replay, digits, outliers as (lane, value).

        Raises
        ------
        Beyond
            If it needs bits that the block does not have.
        """
        parameters, layout, n = self.parameters, self.layout, self.parameters.lanes
        code, replay = self.exponent()
        digits = np.zeros(n, np.int64)
        outliers: list[tuple[int, int]] = []
        if (replay and parameters.replays) or (not replay and code < ZERO_GROUP):
            count = self.number(layout.count)
            if count > parameters.outliers:
                self.refused, count = True, 0
            if not replay:
                # Each plane asks the lanes that are still as large as it: ones so far.
                asking = np.arange(n)
                for _ in range(layout.planes):
                    asking = asking[self.take(len(asking))]
                    digits[asking] += 1
                low = self.take(layout.rest * n).reshape(n, layout.rest)
                digits = (digits << layout.rest) + (low << np.arange(layout.rest)).sum(axis=1)
                used = np.flatnonzero(digits)
                negative = used[self.take(len(used))]
                digits[negative] = -digits[negative]
            for _ in range(count):
                lane, value = self.number(layout.lane), self.number(16)
                self.refused |= lane >= n or (bool(outliers) and lane <= outliers[-1][0])
                outliers.append((lane, value))
            if not replay and not self.refused:
                self.predictors[self.counted % len(self.predictors)] = code
        self.counted += not replay
        self.before = code if code < ZERO_GROUP else None
        return code, replay, digits, outliers


def delta_decompressor(words: Sequence[int], parameters: Parameters, *, passes: int = 1) -> Decoded:
    """Unpack one stream, whatever is in it.

    Numerics: a malformed block sets `error`; its groups from the first bad one on arrive as poisoned groups, up to the
    number its header announced. Decoding resumes with the next word whose low byte is the marker: after the block if
    marker and length were sound, or where its groups end if that is before. A stream ends with a group marked last: the
    final one of the block that holds its last word, or an extra poisoned group where that word is in no block with a
    sound header.

    Parameters
    ----------
    words : sequence of int
        Words of `link_width` bits, from the first of a stream to the one marked last.
    parameters : Parameters
        Of the machine.
    passes : int
        1..8: the setting of the stream; a block of another number of passes is refused.

    Raises
    ------
    ValueError
        If a word does not fit `link_width` bits, or `passes` is outside 1..8.
    """
    check_passes(passes)
    checked = parameters.link_checks
    marker = MARKER + passes - 1 | CHECKED * checked
    # A check follows the header, another one ends the block.
    begin, tail = HEADER_BITS + CHECK_BITS * checked, CHECK_BITS * checked
    width, layout = parameters.link_width, Layout.of(parameters)
    size = width // 8
    words = [int(word) for word in words]
    for word in words:
        if not 0 <= word < 2**width:
            raise ValueError(f"Words must be in 0..2^{width} - 1, not {word}")
    data = np.frombuffer(b"".join(word.to_bytes(size, "little") for word in words), np.uint8)
    stream = np.unpackbits(data, bitorder="little").astype(np.bool_)
    exponents, replays, digits, slots = [], [], [], []
    error, position, closed = False, 0, True
    while position < len(words):
        header = words[position] % 2**HEADER_BITS
        announced, length = (header >> 8) % 64 + 1, header >> 14
        bits = stream[position * width :]
        sound = header % 256 == marker and announced <= length <= announced * layout.longest
        if checked and sound:
            check = check_bits(bits[:HEADER_BITS])
            sound = np.array_equal(check, bits[HEADER_BITS:begin])
        if not sound:
            error, closed = True, False
            position += 1
            while position < len(words) and words[position] % 256 != marker:
                position += 1
            continue
        end = position + -(-(begin + length + tail) // width)
        bits = stream[position * width + begin : end * width]
        whole, good = end <= len(words), 0
        intact = not checked or (whole and np.array_equal(check_bits(bits[:-tail]), bits[-tail:]))
        block = Block(bits, min(length, len(bits)) if intact else 0, parameters, layout, passes)
        try:
            for _ in range(announced):
                code, replay, lanes, outliers = block.group()
                if not block.refused:
                    exponents.append(code)
                    replays.append(replay)
                    digits.append(lanes)
                    slots.append(outliers)
                    good += 1
            if block.position != length and not checked:
                end = position + -(-(begin + block.position) // width)
            error |= block.refused or block.position != length
        except Beyond:
            error = True
        if not whole or bits[length : len(bits) - tail].any():
            error = True
        for _ in range(announced - good):
            exponents.append(POISONED_GROUP)
            replays.append(False)
            digits.append(np.zeros(parameters.lanes, np.int64))
            slots.append([])
        position, closed = end, True
    if not closed:
        exponents.append(POISONED_GROUP)
        replays.append(False)
        digits.append(np.zeros(parameters.lanes, np.int64))
        slots.append([])
    return Decoded(_assemble(exponents, replays, digits, slots, parameters), error)


def _assemble(exponents: list, replays: list, digits: list, slots: list, parameters: Parameters) -> DeltaGroups:
    groups = DeltaGroups.zeros(len(exponents), parameters)
    for row, outliers in enumerate(slots):
        for slot, (lane, value) in enumerate(outliers):
            groups.outlier_valid[row, slot] = True
            groups.outlier_lane[row, slot] = lane
            groups.outlier_value[row, slot] = value
    if not exponents:
        return groups
    return groups.replace(
        exponent=np.array(exponents, np.uint8),
        replay=np.array(replays, np.bool_),
        digits=np.array(digits).astype(np.int8),
    )
