"""The code of one delta group: group to bits and bits to group.

`docs/formats.md` gives the bits. A *plane* is one bit per lane; only lanes that a *mask* keeps have a bit in the
stream, so a plane is packed with its mask on the way out and unpacked with the same mask on the way in. The *prefix* is
the code of the exponent, the *body* everything after it.
"""

import dataclasses

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data

from golden.parameters import EXPONENT_WIDTH, POISONED_GROUP, ZERO_GROUP, Parameters
from hw.arith.bits import choose, named, one_of, ones, or_tree, pack, prefix_ones, take, unpack
from hw.stream import Stage

PREFIX_WIDTH = 4 + 2 * EXPONENT_WIDTH
"""Bits of the longest prefix."""

START = 24
"""Code of every predictor at the start of a block."""


@dataclasses.dataclass
class Measured:
    """What the length of a group depends on.

    Attributes
    ----------
    length : Value
        Bits of the group, at most `Code.longest` whatever the bits are.
    bad : Value
        The count does not exist.
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
        self.body_width = self.longest - 10

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

    def encode(self, s: Stage, group: data.View, prefix: Value, prefix_length: Value) -> Stage:
        """Code of a group: `bits` of the stage returned, and their number, `length`.

        ::

            magnitudes, signs | planes packed, ones counted | signs, rests, outliers joined | planes 1, 2 | all
        """
        p, n, r = self.parameters, self.parameters.lanes, self.rest_width
        s.prefix, s.prefix_length = prefix, prefix_length
        s.listed = group.exponent < ZERO_GROUP
        s.plain = s.listed & ~group.replay if p.replays else s.listed
        s.magnitudes = [Mux(s.plain, Mux(digit < 0, -digit, digit), 0)[: p.digit_width - 1] for digit in group.digits]
        s.negative = Cat(digit < 0 for digit in group.digits)
        slots = group.outliers if p.outliers else []
        s.filled = [slot.valid & s.listed for slot in slots]
        s.slots = Cat(
            Cat(slot.lane, slot.value) & filled.replicate(self.slot_width)
            for slot, filled in zip(slots, s.filled, strict=True)
        )

        s = s.cut()
        above = [[(magnitude >> r) > limit for magnitude in s.magnitudes] for limit in range(self.planes)]
        s.plane0, s.plane1, s.plane2 = Cat(above[0]), Const(0, 0), Const(0, 0)
        s.count0, s.count1 = Const(0, 0), Const(0, 0)
        if self.planes == 3:
            s.plane1, s.count0 = pack(s.m, "plane1", above[1], above[0])
            s.plane2, s.count1 = pack(s.m, "plane2", above[2], above[1])
        s.signs, s.n_signs = pack(s.m, "signs", list(s.negative), [magnitude.any() for magnitude in s.magnitudes])
        s.rests = Cat(magnitude[:r] for magnitude in s.magnitudes)
        s.count = ones(s.m, "outliers", s.filled) if p.outliers else Const(0, 0)

        s = s.cut()
        bits = _joined(s, "with_signs", s.signs, s.n_signs, s.slots)
        if r:
            bits = _joined(s, "with_rests", s.rests, Mux(s.plain, n * r, 0), bits)
        s.rest_bits, s.counts = bits, s.count0 + s.count1
        length = s.prefix_length + Mux(s.listed, self.count_width, 0) + Mux(s.plain, n * (1 + r), 0)
        length = length + s.counts + s.n_signs + s.count * self.slot_width
        s.length = length[: self.longest.bit_length()]

        s = s.cut()
        s.plane_bits = s.rest_bits
        if self.planes == 3:
            # The planes are joined while the bits after them already move by both counts.
            planes = _joined(s, "planes_1_2", s.plane1, s.count0, s.plane2)
            s.plane_bits = _joined(s, "with_planes", planes, s.counts, s.rest_bits)

        s = s.cut()
        bits = _joined(s, "with_plane0", s.plane0, Mux(s.plain, n, 0), s.plane_bits)
        if self.count_width:
            bits = _joined(s, "with_count", s.count, Mux(s.listed, self.count_width, 0), bits)
        s.bits = _joined(s, "with_prefix", s.prefix, s.prefix_length, bits)[: self.longest]
        return s

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
            replay = long_replay | short_replay
            prefixes |= {4: short_replay, 10: explicit & ~long_replay, 16: long_replay}
        else:
            poisoned = explicit & (code >= ZERO_GROUP)
            replay = short_replay
            prefixes |= {10: explicit}
        body = Signal(self.body_width, name="body")
        m.d.comb += body.eq(one_of([(case, bits[length:]) for length, case in prefixes.items()]))
        listed, plain = Signal(name="measured_listed"), Signal(name="measured_plain")
        m.d.comb += [listed.eq(~zero & ~poisoned), plain.eq(listed & ~replay)]
        count, bad = Const(0, 0), Const(0, 1)
        if p.outliers:
            field = body[: self.count_width]
            too_many = field > p.outliers
            bad = listed & too_many
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
        m.d.comb += above0.eq(one_of(places))
        above1 = nonzero = above0
        if self.planes == 3:
            # The number of ones among the first j bits of plane 1, for every j, is ready when `above0` chooses.
            counts = prefix_ones(m, "plane1", rest[:n])
            above1 = Signal(range(n + 1), name="above1")
            m.d.comb += above1.eq(choose(m, "above1_choice", above0, counts))
        if r:
            rests = Signal(n * r, name="measured_rests")
            m.d.comb += rests.eq(take(m, "rests", rest, above0 + above1, n * r, most=2 * n))
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
        m.d.comb += early.eq(one_of([(case, Const(amount)) for case, amount in cases]) + count * self.slot_width)
        if self.planes == 3:
            late = above0 + above1 + nonzero if r else (above0 << 1) + above1
        else:
            late = above0
        m.d.comb += length.eq(early + late)
        return Measured(length, bad, body, plain, listed, count, above0, above1, nonzero)

    def exponent(self, m: Module, prefix: Value, predictor: Value, before: Value) -> tuple[Value, Value, Value]:
        """Exponent code of a prefix, whether its group is a replay, and whether it is refused; inverse of `prefix`."""
        exponent, refused = Signal(EXPONENT_WIDTH, name="exponent"), Signal(name="refused")
        replay = Signal(name="replay") if self.parameters.replays else Const(0, 1)
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
        if self.parameters.replays:
            with m.Elif(~prefix[3]):
                m.d.comb += [exponent.eq(before), replay.eq(1), refused.eq(before >= ZERO_GROUP)]
            with m.Elif(code == ZERO_GROUP):
                m.d.comb += [exponent.eq(own), replay.eq(1), refused.eq(own > largest)]
        else:
            with m.Elif(~prefix[3]):
                m.d.comb += refused.eq(1)
        with m.Elif(code == POISONED_GROUP):
            m.d.comb += exponent.eq(POISONED_GROUP)
        with m.Else():
            m.d.comb += [exponent.eq(code), refused.eq(code > largest)]
        return exponent, replay, refused

    def decode(self, s: Stage, measured: Measured) -> Stage:
        """The group that was measured: `digits`, `outliers` (bits of the payload's fields), `refused` of a lane.

        ::

            measure | planes 0 and 1 | plane 2, rests | signs, outliers
        """
        p, n, r = self.parameters, self.parameters.lanes, self.rest_width
        s.body, s.plain, s.count, s.nonzero = measured.body, measured.plain, measured.count, measured.nonzero
        s.above0, s.above1 = measured.above0, measured.above1

        s = s.cut()
        fields = s.body[self.count_width :]
        s.plane0, s.after = fields[:n] & s.plain.replicate(n), Mux(s.plain, fields[n:], fields)
        s.plane1 = Const(0, n)
        if self.planes == 3:
            s.plane1 = Cat(unpack(s.m, "plane1", s.after[:n], list(s.plane0)))
            s.after = s.after >> s.above0

        s = s.cut()
        plane2 = Const(0, n)
        if self.planes == 3:
            plane2 = Cat(unpack(s.m, "plane2", s.after[:n], list(s.plane1)))
            s.after = s.after >> s.above1
        rests = s.after[: n * r] & s.plain.replicate(n * r)
        if r:
            s.after = Mux(s.plain, s.after[n * r :], s.after)
        # h counts the planes: 0, 1, 2, 3 are the planes 000, 100, 110, 111.
        high = [Cat(bits[0] ^ bits[1] ^ bits[2], bits[1]) for bits in zip(s.plane0, s.plane1, plane2, strict=True)]
        high_width = min(p.digit_width - 1, 2)
        s.magnitudes = [Cat(rests[lane * r : lane * r + r], high[lane][:high_width]) for lane in range(n)]

        s = s.cut()
        negative = unpack(s.m, "sign", s.after[:n], [magnitude.any() for magnitude in s.magnitudes])
        # Two's complement: a negative magnitude is inverted and one is added; -0 cannot be, zeros have no sign.
        s.digits = Cat(
            ((magnitude ^ sign.replicate(p.digit_width)) + sign)[: p.digit_width]
            for magnitude, sign in zip(s.magnitudes, negative, strict=True)
        )
        slots, refused, previous = [], [], None
        tail = take(s.m, "slots", s.after, s.nonzero, p.outliers * self.slot_width, most=n) if p.outliers else None
        for index in range(p.outliers):
            valid = s.count > index
            slot = tail.word_select(index, self.slot_width) & valid.replicate(self.slot_width)
            lane = slot[: p.lane_width]
            refused.append(valid & ((lane >= n) | (lane <= previous if index else Const(0, 1))))
            slots.append(Cat(valid, slot))
            previous = lane
        s.outliers, s.refused = Cat(slots), or_tree(refused)
        return s


def _joined(s: Stage, name: str, low: Value, length: Value, high: Value) -> Value:
    """Bits of `low`, then those of `high`; `low` has zeros above its length."""
    return named(s.m, s.label(name), (low | (high << length))[: len(low) + len(high)])
