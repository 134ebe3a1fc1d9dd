"""The code of one delta group, as combinational cores: group to bits and bits to group.

`docs/formats.md` gives the bits. A *plane* is one bit per lane; only lanes that a *mask* keeps have a bit in the
stream, so a plane is packed with its mask on the way out and unpacked with the same mask on the way in. The *prefix* is
the code of the exponent, the *body* everything after it.

Both cores take a function `cut` at the places where a pipeline may put registers: it gets values by name and returns
them, registered or not.
"""

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data

from golden.parameters import EXPONENT_WIDTH, POISONED_GROUP, ZERO_GROUP, Parameters

__all__ = ["Code", "Decoded", "Measured", "ones", "pack", "take", "unpack", "wires"]

Cut = Callable[..., Any]

PREFIX_WIDTH = 4 + 2 * EXPONENT_WIDTH
"""Bits of the longest prefix."""

START = 24
"""Code of every predictor at the start of a block."""


def wires(**values: Value) -> SimpleNamespace:
    """A `cut` without registers."""
    return SimpleNamespace(**values)


def ones(m: Module, name: str, bits: Value | list[Value]) -> Value:
    """How many of `bits` are 1, as a tree."""
    values = [Value.cast(bit) for bit in bits]
    level = 0
    while len(values) > 1:
        sums = []
        for index in range(0, len(values) - 1, 2):
            total = values[index] + values[index + 1]
            node = Signal(total.shape(), name=f"{name}_ones{level}_{index // 2}")
            m.d.comb += node.eq(total)
            sums.append(node)
        values = sums + ([values[-1]] if len(values) % 2 else [])
        level += 1
    return values[0]


def take(m: Module, name: str, bits: Value, amount: Value, width: int) -> Value:
    """`width` bits from place `amount` on.

    The largest steps come first, and each row keeps only what the steps after it can still reach.
    """
    for position in reversed(range(len(amount))):
        reach = width + (1 << position) - 1
        row = Signal(min(len(bits), reach), name=f"{name}_by{1 << position}")
        m.d.comb += row.eq(Mux(amount[position], bits[1 << position :], bits))
        bits = row
    return bits[:width]


def pack(m: Module, name: str, bits: list[Value], mask: list[Value]) -> tuple[Value, Value]:
    """Bits whose mask is set, moved together from lane 0 up, and their number.

    A tree that joins neighbours: a node shifts its upper half by the count of its lower half. That takes about
    ``n * log2(n)`` two-way multiplexers, under half of a network that moves lane by lane and carries distances along.
    """
    if len(bits) == 1:
        return bits[0] & mask[0], Value.cast(mask[0])
    half = (len(bits) + 1) // 2
    low, low_count = pack(m, f"{name}l", bits[:half], mask[:half])
    high, high_count = pack(m, f"{name}h", bits[half:], mask[half:])
    packed, count = Signal(len(bits), name=f"{name}_packed"), Signal(range(len(bits) + 1), name=f"{name}_count")
    m.d.comb += [packed.eq(low | (high << low_count)), count.eq(low_count + high_count)]
    return packed, count


def unpack(m: Module, name: str, packed: Value, mask: list[Value]) -> list[Value]:
    """One bit per lane, taken from `packed` in order where the mask is set, else 0; inverse of `pack`."""
    counts: dict[tuple[int, int], Value] = {}

    def count(first: int, last: int) -> Value:
        """Mask bits set in lanes `first` to `last` - 1, shared by all nodes of the tree."""
        if last - first == 1:
            return Value.cast(mask[first])
        if (first, last) not in counts:
            middle = first + (last - first + 1) // 2
            node = Signal(range(last - first + 1), name=f"{name}_count{first}_{last}")
            m.d.comb += node.eq(count(first, middle) + count(middle, last))
            counts[first, last] = node
        return counts[first, last]

    def split(first: int, last: int, bits: Value) -> list[Value]:
        if last - first == 1:
            return [bits[0] & mask[first]]
        middle = first + (last - first + 1) // 2
        high = Signal(last - middle, name=f"{name}_from{middle}_{last}")
        m.d.comb += high.eq(bits >> count(first, middle))
        return split(first, middle, bits[: middle - first]) + split(middle, last, high)

    return split(0, len(mask), packed[: len(mask)])


@dataclasses.dataclass
class Measured:
    """What the length of a group depends on.

    Attributes
    ----------
    length : Value
        Bits of the group, at most `Code.longest` whatever the bits are.
    bad : Value
        The prefix or the count does not exist.
    body : Value
        The bits after the prefix.
    plain : Value
        A group with planes: neither zero, poisoned nor a replay.
    listed : Value
        A group with a count and outliers.
    count, above0, above1, nonzero : Value
        Outliers; lanes with ``h > 0``; with ``h > 1``; with a digit. The last three are 0 without planes.
    """

    length: Value
    bad: Value
    body: Value
    plain: Value
    listed: Value
    count: Value
    above0: Value
    above1: Value
    nonzero: Value


@dataclasses.dataclass
class Decoded:
    """A decoded body: `digits` and `outliers` as values of the payload's fields, `bad` if a lane was refused."""

    digits: Value
    outliers: Value
    bad: Value


class Code:
    """The code of a configuration.

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.

    Attributes
    ----------
    longest : int
        Bits of the longest group.
    count_width, slot_width, rest_width : int
        Bits of the count of outliers, of an outlier, and of the digit part that is sent as it is.
    """

    def __init__(self, parameters: Parameters):
        self.parameters = p = parameters
        self.count_width = p.outliers.bit_length()
        self.slot_width = p.lane_width + 16
        self.rest_width = max(p.digit_width - 3, 0)
        self.planes = 1 if p.digit_width == 2 else 3
        per_lane = self.planes + self.rest_width + 1
        self.longest = 10 + self.count_width + p.lanes * per_lane + p.outliers * self.slot_width
        self.body_width = self.longest - 1

    def row_width(self, link_width: int) -> int:
        """Bits of a row of words, in which no group is longer than a row: a power of two, at least 64."""
        return max(link_width, 64, 1 << (self.longest - 1).bit_length())

    # Group to bits --------------------------------------------------------------------------------------------------

    def prefix(self, m: Module, exponent: Value, replay: Value, predictor: Value, before: Value) -> tuple[Value, Value]:
        """Prefix of a group and its bits.

        Parameters
        ----------
        exponent, replay : Value
            The group's.
        predictor : Value
            Exponent code expected.
        before : Value
            Exponent code of the group before in the block; `POISONED_GROUP` where there is none.
        """
        bits, length = Signal(PREFIX_WIDTH, name="prefix"), Signal(range(PREFIX_WIDTH + 1), name="prefix_length")
        with m.If(exponent == ZERO_GROUP):
            m.d.comb += [bits.eq(0b001), length.eq(3)]
        with m.Elif(exponent == POISONED_GROUP):
            m.d.comb += [bits.eq(0b1111 | POISONED_GROUP << 4), length.eq(10)]
        if self.parameters.replays:
            with m.Elif(replay & (exponent == before)):
                m.d.comb += [bits.eq(0b0111), length.eq(4)]
            with m.Elif(replay):
                m.d.comb += [bits.eq(Cat(Const(0b1111, 4), Const(ZERO_GROUP, 6), exponent)), length.eq(16)]
        with m.Elif(exponent == predictor):
            m.d.comb += [bits.eq(0b0), length.eq(1)]
        with m.Elif(exponent == predictor + 1):
            m.d.comb += [bits.eq(0b101), length.eq(3)]
        with m.Elif(exponent + 1 == predictor):
            m.d.comb += [bits.eq(0b011), length.eq(3)]
        with m.Else():
            m.d.comb += [bits.eq(Cat(Const(0b1111, 4), exponent)), length.eq(10)]
        return bits, length

    def encode(
        self, m: Module, cut: Cut, group: data.View, prefix: Value, prefix_length: Value, keep: dict[str, Value]
    ) -> tuple[Value, Value, dict[str, Value]]:
        """Bits of a group, their number, and `keep` delayed as much; four cuts."""
        p, n = self.parameters, self.parameters.lanes
        listed, plain = Signal(name="listed"), Signal(name="plain")
        m.d.comb += [
            listed.eq(group.exponent < ZERO_GROUP),
            plain.eq(listed & ~group.replay if p.replays else listed),
        ]
        magnitude_width = p.digit_width - 1
        magnitudes = Signal(data.ArrayLayout(magnitude_width, n), name="magnitudes")
        for lane in range(n):
            digit = group.digits[lane]
            m.d.comb += magnitudes[lane].eq(Mux(plain, Mux(digit < 0, -digit, digit), 0))
        slots = [group.outliers[index] for index in range(p.outliers)]
        s = cut(
            **keep,
            prefix=prefix,
            prefix_length=prefix_length,
            listed=listed,
            plain=plain,
            magnitudes=magnitudes,
            negative=Cat(group.digits[lane] < 0 for lane in range(n)),
            valid=Cat(slot.valid & listed for slot in slots),
            slots=Cat(Cat(slot.lane, slot.value) & (slot.valid & listed).replicate(self.slot_width) for slot in slots),
        )
        r = self.rest_width
        above = [[(s.magnitudes[lane] >> r) > limit for lane in range(n)] for limit in range(self.planes)]
        nonzero = [s.magnitudes[lane].any() for lane in range(n)]
        if self.planes == 3:
            plane1, count0 = pack(m, "plane1", above[1], above[0])
            plane2, count1 = pack(m, "plane2", above[2], above[1])
        else:
            plane1, plane2, count1 = Const(0, 0), Const(0, 0), Const(0, 0)
            count0 = Const(0, 0)
        signs, n_signs = pack(m, "signs", list(s.negative), nonzero)
        keep = {name: getattr(s, name) for name in keep}
        s = cut(
            **keep,
            prefix=s.prefix,
            prefix_length=s.prefix_length,
            listed=s.listed,
            plain=s.plain,
            count=ones(m, "outliers", s.valid) if p.outliers else Const(0, 0),
            slots=s.slots,
            plane0=Cat(above[0]),
            plane1=plane1,
            plane2=plane2,
            rests=Cat(s.magnitudes[lane][:r] for lane in range(n)),
            signs=signs,
            count0=count0,
            count1=count1,
            n_signs=n_signs,
        )

        def join(name: str, low: Value, length: Value, high: Value) -> Value:
            """Bits of `low`, then those of `high`; `low` has zeros above its length."""
            joined = Signal(len(low) + len(high), name=name)
            m.d.comb += joined.eq(low | (high << length))
            return joined

        bits = join("with_signs", s.signs, s.n_signs, s.slots)
        if r:
            bits = join("with_rests", s.rests, Mux(s.plain, n * r, 0), bits)
        keep = {name: getattr(s, name) for name in keep}
        counts = Signal(range(2 * n + 1), name="counts")
        m.d.comb += counts.eq(s.count0 + s.count1)
        length = Signal(range(self.longest + 1), name="group_length")
        plain_length = n * (1 + r)
        m.d.comb += length.eq(
            s.prefix_length
            + Mux(s.listed, self.count_width, 0)
            + Mux(s.plain, plain_length, 0)
            + counts
            + s.n_signs
            + s.count * self.slot_width
        )
        s = cut(
            **keep,
            prefix=s.prefix,
            prefix_length=s.prefix_length,
            listed=s.listed,
            plain=s.plain,
            count=s.count,
            plane0=s.plane0,
            plane1=s.plane1,
            plane2=s.plane2,
            count0=s.count0,
            counts=counts,
            bits=bits,
            length=length,
        )
        bits = s.bits
        if self.planes == 3:
            # The planes are joined while the bits after them already move by both counts.
            planes = join("planes_1_2", s.plane1, s.count0, s.plane2)
            bits = join("with_planes", planes, s.counts, bits)
        keep = {name: getattr(s, name) for name in keep}
        s = cut(
            **keep,
            prefix=s.prefix,
            prefix_length=s.prefix_length,
            listed=s.listed,
            plain=s.plain,
            count=s.count,
            plane0=s.plane0,
            bits=bits,
            length=s.length,
        )
        bits = join("with_plane0", s.plane0, Mux(s.plain, n, 0), s.bits)
        if self.count_width:
            bits = join("with_count", s.count, Mux(s.listed, self.count_width, 0), bits)
        bits = join("with_prefix", s.prefix, s.prefix_length, bits)
        return bits[: self.longest], s.length, {name: getattr(s, name) for name in keep}

    # Bits to group --------------------------------------------------------------------------------------------------

    def measure(self, m: Module, bits: Value) -> Measured:
        """Everything the length of the group at the start of `bits` depends on."""
        p, n, r = self.parameters, self.parameters.lanes, self.rest_width
        first, code = bits[:4], bits[4:10]
        explicit = first == 0b1111
        zero = bits[:3] == 0b001
        short_replay = first == 0b0111
        # Prefix lengths, each with the case it stands for; exactly one case holds. A prefix that is refused ends with
        # the last bit that told so: no bit beyond the end of a block can make a group seem to end before it.
        prefixes = {1: ~bits[0], 3: bits[0] & ~(bits[1] & bits[2])}
        if p.replays:
            poisoned = explicit & (code == POISONED_GROUP)
            long_replay = explicit & (code == ZERO_GROUP)
            replay, bad = long_replay | short_replay, Const(0, 1)
            prefixes |= {4: short_replay, 10: explicit & ~long_replay, 16: long_replay}
        else:
            poisoned = explicit & (code >= ZERO_GROUP)
            replay, bad = short_replay, short_replay | (poisoned & (code == ZERO_GROUP))
            prefixes |= {10: explicit}
        body = Signal(self.body_width, name="body")
        m.d.comb += body.eq(_one_of([(case, bits[length:]) for length, case in prefixes.items()]))
        listed, plain = Signal(name="measured_listed"), Signal(name="measured_plain")
        m.d.comb += [listed.eq(~zero & ~poisoned), plain.eq(listed & ~replay)]
        count = Const(0, 0)
        if p.outliers:
            field = body[: self.count_width]
            too_many = field > p.outliers
            bad = bad | (listed & too_many)
            count = Signal(range(p.outliers + 1), name="measured_count")
            m.d.comb += count.eq(Mux(listed & ~too_many, field, 0))
        plane0 = body[self.count_width :][:n] & plain.replicate(n)
        rest = body[self.count_width + n :]
        # Plane 0 is counted at each place where it may stand while the prefix is still being told.
        above0 = Signal(range(n + 1), name="above0")
        places = [
            (prefixes[length] & plain, ones(m, f"above0_at{length}", bits[length + self.count_width :][:n]))
            for length in (1, 3, 10)
        ]
        m.d.comb += above0.eq(_one_of(places))
        above1 = nonzero = above0
        if self.planes == 3:
            # The number of ones among the first j bits of plane 1, for every j, is ready when `above0` chooses.
            counts = _prefix_ones(m, "plane1", rest[:n])
            above1 = Signal(range(n + 1), name="above1")
            m.d.comb += above1.eq(_choose(m, "above1_choice", above0, counts))
        if r:
            rests = Signal(n * r, name="measured_rests")
            m.d.comb += rests.eq(take(m, "rests", rest, above0 + above1, n * r))
            nonzero = ones(m, "nonzero", [plane0[lane] | rests[lane * r : lane * r + r].any() for lane in range(n)])
            nonzero = Mux(plain, nonzero, 0)
        # What the prefix gives is early; the planes' counts come late.
        fixed = self.count_width + n * (1 + r)
        cases = [
            (prefixes[1], 1 + fixed),
            (prefixes[3] & ~zero, 3 + fixed),
            (zero, 3),
            (prefixes[10] & ~poisoned, 10 + fixed),
            (poisoned, 10),
        ]
        if p.replays:
            cases += [(short_replay, 4 + self.count_width), (long_replay, 16 + self.count_width)]
        else:
            cases += [(short_replay, 4)]
        early, length = (Signal(range(self.longest + 1), name=name) for name in ("early_length", "measured_length"))
        m.d.comb += early.eq(_one_of([(case, Const(amount)) for case, amount in cases]) + count * self.slot_width)
        if self.planes == 3:
            late = above0 + above1 + nonzero if r else (above0 << 1) + above1
        else:
            late = above0
        m.d.comb += length.eq(early + late)
        return Measured(length, bad, body, plain, listed, count, above0, above1, nonzero)

    def exponent(self, m: Module, prefix: Value, predictor: Value, before: Value) -> tuple[Value, Value, Value]:
        """Exponent code of a prefix, whether its group is a replay, and whether it is refused; inverse of `prefix`."""
        exponent = Signal(EXPONENT_WIDTH, name="exponent")
        replay, refused = Signal(name="replay"), Signal(name="refused")
        code, own = prefix[4:10], prefix[10:16]
        largest = 42 - self.parameters.digit_width
        with m.If(~prefix[0]):
            m.d.comb += exponent.eq(predictor)
        with m.Elif(prefix[:3] == 0b001):
            m.d.comb += exponent.eq(ZERO_GROUP)
        with m.Elif(prefix[:3] == 0b101):
            m.d.comb += [exponent.eq(predictor + 1), refused.eq(predictor == largest)]
        with m.Elif(prefix[:3] == 0b011):
            m.d.comb += [exponent.eq(predictor - 1), refused.eq(predictor == 0)]
        with m.Elif(~prefix[3]):
            m.d.comb += [exponent.eq(before), replay.eq(1), refused.eq(before >= ZERO_GROUP)]
        with m.Elif(code == POISONED_GROUP):
            m.d.comb += exponent.eq(POISONED_GROUP)
        with m.Elif(code == ZERO_GROUP):
            m.d.comb += [exponent.eq(own), replay.eq(1), refused.eq(own > largest)]
        with m.Else():
            m.d.comb += [exponent.eq(code), refused.eq(code > largest)]
        return exponent, replay, refused

    def decode(
        self, m: Module, cut: Cut, measured: Measured, keep: dict[str, Value]
    ) -> tuple[Decoded, dict[str, Value]]:
        """The group's digits and outliers, and `keep` delayed as much; two cuts."""
        p, n, r = self.parameters, self.parameters.lanes, self.rest_width
        body, plain = measured.body, measured.plain
        plane0 = body[self.count_width :][:n] & plain.replicate(n)
        after = Signal(self.body_width - self.count_width, name="after_plane0")
        m.d.comb += after.eq(Mux(plain, body[self.count_width + n :], body[self.count_width :]))
        plane1 = [Const(0, 1)] * n
        if self.planes == 3:
            plane1 = unpack(m, "plane1", after[:n], list(plane0))
            shifted = Signal(len(after), name="after_plane1")
            m.d.comb += shifted.eq(after >> measured.above0)
            after = shifted
        s = cut(
            **keep,
            plain=plain,
            count=measured.count,
            above1=measured.above1 if self.planes == 3 else Const(0, 0),
            nonzero=measured.nonzero,
            plane0=plane0,
            plane1=Cat(plane1),
            after=after,
        )
        after, plane2 = s.after, [Const(0, 1)] * n
        if self.planes == 3:
            plane2 = unpack(m, "plane2", after[:n], list(s.plane1))
            shifted = Signal(len(after), name="after_plane2")
            m.d.comb += shifted.eq(after >> s.above1)
            after = shifted
        rests = after[: n * r] & s.plain.replicate(n * r)
        if r:
            skipped = Signal(len(after), name="after_rests")
            m.d.comb += skipped.eq(Mux(s.plain, after[n * r :], after))
            after = skipped
        magnitudes = []
        for lane in range(n):
            # h counts the planes: 0, 1, 2, 3 are the planes 000, 100, 110, 111.
            high = Cat(s.plane0[lane] ^ s.plane1[lane] ^ plane2[lane], s.plane1[lane])[: min(p.digit_width - 1, 2)]
            magnitudes.append(Cat(rests[lane * r : lane * r + r], high))
        keep = {name: getattr(s, name) for name in keep}
        s = cut(**keep, plain=s.plain, count=s.count, nonzero=s.nonzero, magnitudes=Cat(magnitudes), after=after)
        width = p.digit_width - 1
        magnitudes = [s.magnitudes.word_select(lane, width) for lane in range(n)]
        negative = unpack(m, "sign", s.after[:n], [magnitude.any() for magnitude in magnitudes])
        digits = []
        for lane in range(n):
            digit = Signal(p.digit_width, name=f"digit{lane}")
            # Two's complement: a negative magnitude is inverted and one is added; -0 cannot be, zeros have no sign.
            m.d.comb += digit.eq((magnitudes[lane] ^ negative[lane].replicate(p.digit_width)) + negative[lane])
            digits.append(digit)
        slots, bad = [], []
        if p.outliers:
            tail = Signal(p.outliers * self.slot_width, name="slots")
            m.d.comb += tail.eq(take(m, "slots", s.after, s.nonzero, len(tail)))
            previous = None
            for index in range(p.outliers):
                valid = s.count > index
                slot = tail.word_select(index, self.slot_width) & valid.replicate(self.slot_width)
                lane = slot[: p.lane_width]
                refused = lane >= n
                if previous is not None:
                    refused = refused | (lane <= previous)
                bad.append(valid & refused)
                previous = lane
                slots.append(Cat(valid, slot))
        return Decoded(Cat(digits), Cat(slots), Cat(bad).any()), {name: getattr(s, name) for name in keep}


def _one_of(cases: list[tuple[Value, Value]]) -> Value:
    """The value whose case holds: cheaper than a chain of multiplexers where one case excludes the others."""
    result = Const(0, 1)
    for case, value in cases:
        result = result | (value & case.replicate(len(value)))
    return result


def _prefix_ones(m: Module, name: str, bits: Value) -> list[Value]:
    """Ones among the first 0, 1, ..., n bits: a parallel prefix sum."""
    n = len(bits)
    counts: list[Value] = [bits[index] for index in range(n)]
    distance, level = 1, 0
    while distance < n:
        following = []
        for index in range(n):
            if index & distance:
                # Sklansky: the upper half of each block adds the total of the lower half.
                total = counts[index] + counts[(index & ~(distance - 1)) - 1]
                node = Signal(range(index + 2), name=f"{name}_prefix{level}_{index}")
                m.d.comb += node.eq(total)
                following.append(node)
            else:
                following.append(counts[index])
        counts, distance, level = following, distance * 2, level + 1
    return [Const(0, 1), *counts]


def _choose(m: Module, name: str, select: Value, values: list[Value]) -> Value:
    """``values[select]``; 0 beyond the end."""
    for position in range(len(select)):
        chosen = []
        for index in range(0, len(values), 2):
            pair = Mux(select[position], values[index + 1] if index + 1 < len(values) else 0, values[index])
            node = Signal(len(pair), name=f"{name}{position}_{index // 2}")
            m.d.comb += node.eq(pair)
            chosen.append(node)
        values = chosen
    return values[0]
