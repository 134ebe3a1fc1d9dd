"""Mean and reciprocal root of statistics sets, from their sums: once a set, so one multiplier takes its time."""

import dataclasses
import math
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.machine.command import Coefficients
from golden.machine.image import COEFFICIENT_BYTES, FLOOR_BYTES, SUM_BYTES
from golden.parameters import Parameters
from hw.arith.bits import named
from hw.arith.serial import Quotient
from hw.bus.ports import UNIT_BYTES, MemoryRead
from hw.control.engine import Engine, Fields, cause, operation
from hw.memory import Ram, Rom
from hw.near_memory.part import Part
from hw.stream import Fifo
from hw.stream.records import RecordReader, RecordWriter

__all__ = ["CoefficientsEngine", "SetReader", "seeds"]

_LIMB = 16
"""Bits of a limb: long numbers are worked on limb by limb, the lowest one first."""

_TOTAL, _SQUARE = 4, 5
"""Limbs of the sums of a set: ``sum Y`` in two's complement, ``sum Y^2`` unsigned."""

_WIDE = 6
"""Limbs that a sum is added in: no 2^16 records leave them."""

_COUNT_AT = 2 * _WIDE
"""Place of N, behind both sums."""

_COLUMNS = 9
"""Limbs of D."""

_FLOOR_LIMBS = 8 * FLOOR_BYTES // _LIMB


def seeds() -> list[int]:
    """First guesses of ``2^24 / sqrt(m)`` by the high bits i of m, rounded to nearest; 0 below i = 128."""
    words = []
    for i in range(512):
        square = 128 * (2 * i + 1)
        guess = math.isqrt((1 << 48) // square)
        # Nearer to the next one where that is so in the middle between them.
        words.append(0 if i < 128 else guess + ((2 * guess + 1) ** 2 * square < 1 << 50))
    return words


@dataclasses.dataclass(frozen=True)
class _Step:
    """A clock of ``N S2 - S1^2 + K``: a product of two limbs, or the end of a column."""

    a: int = 0
    b: int = 0
    a_signed: int = 0
    b_signed: int = 0
    minus: int = 0
    ends: int = 0


def _steps() -> list[_Step]:
    """The products of each column, then its end."""
    steps = []
    for column in range(_COLUMNS):
        for i in range(2):
            if 0 <= column - i < _SQUARE:
                steps.append(_Step(a=_COUNT_AT + i, b=_WIDE + column - i))
        for i in range(_TOTAL):
            if 0 <= column - i < _TOTAL:
                top = [int(place == _TOTAL - 1) for place in (i, column - i)]
                steps.append(_Step(a=i, b=column - i, a_signed=top[0], b_signed=top[1], minus=1))
        steps.append(_Step(ends=1))
    return steps


def _part() -> data.StructLayout:
    """How the records of a set come: so many of the coarser tensor first, if it has two; then the others."""
    return data.StructLayout({"coarse": 16, "mixed": 1})


class SetReader(Part):
    """Reads the records of sums of each set, those of the coarser one of its tensors first.

    Members
    -------
    operation : In(`operation` of the emit engine)
        A `Coefficients`, held from `start` on.
    start : In(1)
        Begin, one clock.
    sets : Out(stream)
        How the records of each set come.
    limbs : Out(stream of 16 bits)
        Those records.
    port : Out(MemoryRead)
        Memory.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "operation": In(operation("emit")),
            "start": In(1),
            "sets": Out(stream.Signature(_part())),
            "limbs": Out(stream.Signature(_LIMB)),
            "port": Out(MemoryRead(parameters.memory_width)),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        c = Fields(self.operation, Coefficients)
        m.submodules.reader = reader = RecordReader(self._parameters.memory_width, _LIMB, 8 * SUM_BYTES // _LIMB)
        m.submodules.queue = queue = Fifo(_part(), 4)
        wiring.connect(m, reader.port, wiring.flipped(self.port))
        wiring.connect(m, reader.o, wiring.flipped(self.limbs))
        wiring.connect(m, queue.o, wiring.flipped(self.sets))

        sets = Signal(16, name="sets_left")
        first_left = Signal(16)
        # Records of the tensor at hand before this set.
        position = Signal(32)
        of_first = named(m, "of_first", Mux(first_left < c.size, first_left, c.size))
        of_second = named(m, "of_second", (c.size - of_first)[:16])
        mixed = named(m, "mixed", (of_first != 0) & (of_second != 0))
        second_first = named(m, "second_first", ~mixed & (of_first == 0) | mixed & (c.shift > 0))
        second = Signal()
        span = reader.i
        m.d.comb += [
            span.p.region.eq(Mux(second, c.sums2.region, c.sums1.region)),
            span.p.address.eq(
                Mux(second, c.sums2.offset, c.sums1.offset) * UNIT_BYTES + Mux(mixed & second, 0, position) * SUM_BYTES
            ),
            span.p.records.eq(Mux(second, of_second, of_first)),
            queue.i.p.mixed.eq(mixed),
            queue.i.p.coarse.eq(Mux(mixed, Mux(second, of_second, of_first), 0)),
        ]
        with m.FSM():
            with m.State("idle"):
                with m.If(self.start):
                    m.d.sync += [sets.eq(c.sets), first_left.eq(c.records1), position.eq(0)]
                    m.next = "set"
            with m.State("set"):
                m.d.sync += second.eq(second_first)
                m.next = "first"
                with m.If(sets == 0):
                    m.next = "idle"
            with m.State("first"):
                m.d.comb += [span.valid.eq(queue.i.ready), queue.i.valid.eq(span.ready)]
                with m.If(span.ready & queue.i.ready):
                    m.d.sync += second.eq(~second)
                    m.next = "next"
                    with m.If(mixed):
                        m.next = "second"
            with m.State("second"):
                m.d.comb += span.valid.eq(1)
                with m.If(span.ready):
                    m.next = "next"
            with m.State("next"):
                m.d.sync += [
                    sets.eq(sets - 1),
                    first_left.eq(first_left - of_first),
                    # The second tensor's records are counted anew.
                    position.eq(Mux(mixed, of_second, Mux(first_left == of_first, 0, position + c.size))),
                ]
                with m.If(of_first == 0):
                    m.d.sync += position.eq(position + c.size)
                m.next = "set"
        return m


class SetSums(Part):
    """Adds up the records of each set, limb by limb, and keeps the sums where `RootOfSet` reads them.

    Records of the coarser tensor come first; then the sums are doubled as often as units differ, and the others added.

    Latency: 24 clocks a record, 24 for each place of the units, and 20. One set at a time: it stays until it is taken.

    Members
    -------
    sets, limbs : In
        As `SetReader` has them.
    size : In(16)
        Records of a set.
    count : In(32)
        N.
    shift : In(5, signed)
        By how many places the units of both tensors differ.
    places : Out(4)
        That many.
    o : Out(stream)
        Magnitude and sign of ``sum Y``; whether the set has two tensors, is poisoned, or has sums that cannot be.
    a, b : In(4)
        Limbs to read, when `o` is valid: ``sum Y`` from 0 on, ``sum Y^2`` from 6 on, N from 12 on.
    enable : In(1)
        Read them at this clock edge.
    a_limb, b_limb : Out(16)
        What was read.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        given = {"magnitude": _LIMB * _TOTAL, "negative": 1, "mixed": 1, "poisoned": 1, "damaged": 1}
        return {
            "sets": In(stream.Signature(_part())),
            "limbs": In(stream.Signature(_LIMB)),
            "size": In(16),
            "count": In(32),
            "shift": In(signed(5)),
            "o": Out(stream.Signature(data.StructLayout(given))),
            "places": Out(4),
            "a": In(4),
            "b": In(4),
            "enable": In(1),
            "a_limb": Out(_LIMB),
            "b_limb": Out(_LIMB),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        sets, o = self.sets, self.o
        m.submodules.a_rows = a_rows = Ram(_LIMB, 16, distributed=True)
        m.submodules.b_rows = b_rows = Ram(_LIMB, 16, distributed=True)
        place = Signal(4)
        place_read = named(m, "place_read", place)
        reads = Signal()
        writes = Signal()
        written = Signal(_LIMB)
        limb = a_rows.read_data
        m.d.comb += [
            a_rows.read_enable.eq(reads | self.enable),
            a_rows.read_address.eq(Mux(o.valid, self.a, place_read)),
            b_rows.read_enable.eq(self.enable),
            b_rows.read_address.eq(self.b),
            self.a_limb.eq(limb),
            self.b_limb.eq(b_rows.read_data),
            self.places.eq(Mux(self.shift < 0, -self.shift, self.shift)),
        ]
        for rows in (a_rows, b_rows):
            m.d.comb += [rows.write_enable.eq(writes), rows.write_address.eq(place), rows.write_data.eq(written)]

        # A limb is read in one clock, and worked on in the next one in which there is what it takes.
        read = Signal()
        left = Signal(16)
        coarse = Signal(16)
        fresh = Signal()
        carry = Signal()
        sign = Signal()
        turns = Signal(5)
        of_square = named(m, "of_square", place >= _WIDE)
        taken = named(m, "taken", ((place < _TOTAL) | of_square) & (place < _WIDE + _TOTAL))
        ends = named(m, "ends", place == 2 * _WIDE - 1)
        addend = Signal(_LIMB)
        total = named(m, "total", Mux(fresh, 0, limb) + addend + carry)
        m.d.comb += written.eq(total)
        m.d.sync += read.eq(reads)

        def rotate(works: Value, ended: Any) -> None:
            """Read each limb of both sums, and add to it when `works` holds; at the end go on with `ended`."""
            m.d.comb += [reads.eq(~read), writes.eq(read & works)]
            with m.If(read & ~works):
                m.d.sync += read.eq(1)
            with m.If(writes):
                m.d.sync += [place.eq(place + 1), carry.eq(total[_LIMB] & (place != _WIDE - 1))]
                with m.If(ends):
                    m.d.sync += [place.eq(0), carry.eq(0), fresh.eq(0)]
                    ended()

        with m.FSM():
            with m.State("set"):
                m.d.comb += sets.ready.eq(1)
                m.d.sync += [coarse.eq(sets.p.coarse), o.p.mixed.eq(sets.p.mixed), left.eq(self.size)]
                m.d.sync += [place.eq(_COUNT_AT), turns.eq(self.places << 1), fresh.eq(1)]
                m.d.sync += [o.p.poisoned.eq(0), o.p.damaged.eq(0), carry.eq(0)]
                with m.If(sets.valid):
                    m.next = "count"
            with m.State("count"):
                m.d.comb += [writes.eq(1), written.eq(self.count.word_select(place[0], _LIMB))]
                m.d.sync += place.eq(place + 1)
                with m.If(place[0]):
                    m.d.sync += place.eq(0)
                    m.next = "add"
            with m.State("add"):
                poison = place == _WIDE + _TOTAL - 1
                m.d.comb += [
                    self.limbs.ready.eq(taken & read),
                    addend.eq(Mux(of_square, 0, sign.replicate(_LIMB))),
                ]
                with m.If(taken):
                    m.d.comb += addend.eq(Cat(self.limbs.payload[:-1], self.limbs.payload[-1] & ~poison))
                with m.If(writes & taken):
                    m.d.sync += sign.eq(self.limbs.payload[-1])
                with m.If(writes & poison & self.limbs.payload[-1]):
                    m.d.sync += o.p.poisoned.eq(1)

                def added() -> None:
                    m.d.sync += [left.eq(left - 1), coarse.eq(coarse - 1)]
                    with m.If(left == 1):
                        m.next = "check"
                    with m.Elif((coarse == 1) & (turns != 0)):
                        m.next = "double"

                rotate(self.limbs.valid | ~taken, added)
            with m.State("double"):
                # Twice for squares.
                m.d.comb += addend.eq(Mux(of_square | ~turns[0], limb, 0))

                def doubled() -> None:
                    m.d.sync += turns.eq(turns - 1)
                    with m.If(turns == 1):
                        m.next = "add"

                rotate(Const(1), doubled)
            with m.State("check"):
                # The highest limbs of both sums first, then those of the magnitude.
                checks = [_TOTAL - 1, _TOTAL, _TOTAL + 1, 2 * _WIDE - 1, *range(_TOTAL)]
                with m.Switch(place):
                    for number, at in enumerate(checks):
                        with m.Case(number):
                            m.d.comb += place_read.eq(at)
                m.d.comb += [reads.eq(~read), addend.eq(0)]
                with m.If(read):
                    m.d.sync += place.eq(place + 1)
                    with m.Switch(place):
                        with m.Case(0):
                            m.d.sync += [o.p.negative.eq(limb[-1]), carry.eq(limb[-1])]
                            m.d.sync += o.p.damaged.eq(limb[7:] != limb[-1].replicate(_LIMB - 7))
                        with m.Case(1, 2):
                            with m.If(limb != o.p.negative.replicate(_LIMB)):
                                m.d.sync += o.p.damaged.eq(1)
                        with m.Case(3):
                            with m.If(limb != 0):
                                m.d.sync += o.p.damaged.eq(1)
                        with m.Default():
                            magnitude = named(m, "magnitude", (limb ^ o.p.negative.replicate(_LIMB)) + carry)
                            m.d.sync += [
                                o.p.magnitude.eq(Cat(o.p.magnitude[_LIMB:], magnitude[:_LIMB])),
                                carry.eq(magnitude[_LIMB]),
                            ]
                    with m.If(place == len(checks) - 1):
                        m.d.sync += o.valid.eq(1)
                        m.next = "done"
            with m.State("done"):
                with m.If(o.ready):
                    m.d.sync += o.valid.eq(0)
                    m.next = "set"
        return m


class RootOfSet(Part):
    """``1 / sqrt(D)`` of a set, with ``D = max(N S2 - S1^2 + K, 1)``: a table and a Newton step (numerics, 12.5).

    Latency: 58 clocks, up to 8 more for a D whose highest limb is small.

    Members
    -------
    start : In(1)
        The limbs of a set are there, and stay.
    centred : In(1)
        S1 counts.
    significand : In(17)
        n': N is ``n' 2^v``.
    floors : In(stream of 16 bits)
        K, limb by limb.
    a, b, enable, a_limb, b_limb
        Limbs, as `SetSums` has them.
    o : Out(stream)
        r, and ``j - t``.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        found = data.StructLayout({"root": 17, "exponent": signed(8)})
        return {
            "start": In(1),
            "centred": In(1),
            "significand": In(17),
            "floors": In(stream.Signature(_LIMB)),
            "a": Out(4),
            "b": Out(4),
            "enable": Out(1),
            "a_limb": In(_LIMB),
            "b_limb": In(_LIMB),
            "o": Out(stream.Signature(found)),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        m.submodules.table = table = Rom(seeds())
        steps = _steps()
        count = Signal(range(len(steps) + 1), init=len(steps))
        # Three stages: limbs are read, multiplied, added.
        step, read, product = (Signal(_step(), name=name) for name in ("step", "read", "product"))
        result = Signal(signed(36))
        total = Signal(signed(40))
        column = Signal(range(_COLUMNS + 1))
        limb_below = Signal(_LIMB)
        # The highest limb that is not 0, the one below it, and its place.
        highest = Signal(2 * _LIMB)
        highest_column = Signal(range(_COLUMNS))
        with m.Switch(count):
            for number, one in enumerate(steps):
                with m.Case(number):
                    m.d.comb += step.eq(_step().const({"there": 1, **dataclasses.asdict(one)}))
        takes_floor = named(m, "takes_floor", product.there & product.ends & (column < _FLOOR_LIMBS))
        moves = named(m, "moves", ~takes_floor | self.floors.valid)
        with_floor = named(m, "with_floor", (total + Mux(takes_floor, self.floors.payload, 0))[:40].as_signed())
        limb = with_floor[:_LIMB]
        m.d.comb += [
            self.a.eq(step.a),
            self.b.eq(step.b),
            self.enable.eq(moves),
            self.floors.ready.eq(takes_floor),
        ]

        window = Signal(2 * _LIMB + 1)
        halvings = Signal(signed(8))
        value = Signal(18)
        # Which of the four products of the root: y0^2, m q, y0 h, y n'.
        number = Signal(2)
        scalar = Signal()
        seed = table.words[0]
        a_value = Mux(number == 3, self.significand, Mux(number == 1, window[_LIMB:], seed))
        a_factor = Mux(scalar, a_value, Cat(self.a_limb, (self.a_limb[-1] & read.a_signed).replicate(2)))
        b_factor = Mux(
            scalar,
            Mux(number == 0, seed, value),
            Cat(self.b_limb, (self.b_limb[-1] & read.b_signed).replicate(2)),
        )
        with m.If(moves):
            m.d.sync += [read.eq(step), product.eq(read), result.eq(a_factor.as_signed() * b_factor.as_signed())]
            with m.If(step.there):
                m.d.sync += count.eq(count + 1)
            with m.If(product.there & ~product.ends & (self.centred | ~product.minus)):
                m.d.sync += total.eq(Mux(product.minus, total - result, total + result))
            with m.If(product.there & product.ends):
                m.d.sync += [total.eq(with_floor >> _LIMB), limb_below.eq(limb), column.eq(column + 1)]
                with m.If(limb != 0):
                    m.d.sync += [highest.eq(Cat(limb_below, limb)), highest_column.eq(column)]

        # RNE(total / 2^16), or by 2^17.
        by_more = Signal()
        floor = Mux(by_more, total[17:35], total[16:34])
        half = Mux(by_more, total[16], total[15])
        rounded = named(m, "rounded", floor + (half & (total[:15].any() | (by_more & total[15]) | floor[0])))
        m.d.comb += [table.addresses[0].eq(window[-9:]), self.o.p.root.eq(value)]
        with m.FSM():
            with m.State("idle"), m.If(self.start):
                m.d.sync += [count.eq(0), column.eq(0), total.eq(0), highest.eq(0), limb_below.eq(0)]
                m.next = "columns"
            with m.State("columns"), m.If(~(step.there | read.there | product.there)):
                m.next = "shift"
                m.d.sync += [window.eq(highest), halvings.eq(highest_column << 3), by_more.eq(0), number.eq(0)]
                with m.If((total < 0) | (highest == 0)):
                    m.d.sync += [window.eq(1 << _LIMB), halvings.eq(0)]
            with m.State("shift"):
                m.d.comb += table.enable.eq(1)
                with m.If(window[-2:].any()):
                    m.next = "multiply"
                with m.Else():
                    m.d.sync += [window.eq(window << 2), halvings.eq(halvings - 1)]
            with m.State("multiply"):
                m.d.comb += scalar.eq(1)
                m.next = "take"
            with m.State("take"):
                m.d.sync += [total.eq(Mux(number == 1, (3 << 32) - result, result)), by_more.eq(number == 1)]
                m.next = "round"
            with m.State("round"):
                m.d.sync += [value.eq(rounded), number.eq(number + 1)]
                m.next = "multiply"
                with m.If(number == 3):
                    m.d.sync += self.o.p.exponent.eq(Mux(by_more, 17, 16) - halvings)
                    m.next = "done"
                    with m.If(rounded[17]):
                        # 18 bits: one place more, rounded once.
                        m.d.sync += [number.eq(number), by_more.eq(1)]
                        m.next = "round"
            with m.State("done"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "idle"
        return m


def _step() -> data.StructLayout:
    """A `_Step`, if there is one."""
    widths = {"there": 1, "a": 4, "b": 4, "a_signed": 1, "b_signed": 1, "minus": 1, "ends": 1}
    return data.StructLayout(widths)


class CoefficientsEngine(Engine):
    """Carries out `Coefficients`: mean, root and exponent of each set (numerics, 12.4 and 12.5).

    ::

        records -> SetReader -> sums, in limbs -+-> N S2 - S1^2 + K -> m 4^t -> y0 -> y -> r 2^rho -+-> RecordWriter
                                                +-> 256 S1 / N -> mean ----------------------------+

    Sums and N lie in a small RAM, limb by limb. One multiplier makes D column by column, and then the root by a table
    and a Newton step, while the quotient is made a bit a clock.

    Throughput: a set in 12 clocks a record and some 90 clocks; a set of two tensors takes 24 clocks more for each
    place that their units differ by.

    Members
    -------
    sums_read, tables_read, tables_written : Out
        Memory: sums, K, coefficients.
    """

    name = "emit"

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "sums_read": self.read(parameters),
            "tables_read": self.read(parameters),
            "tables_written": self.write(parameters),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        c, width = Fields(self.operation.p, Coefficients), self.parameters.memory_width
        m.submodules.reader = reader = SetReader(self.parameters)
        m.submodules.floors = floors = RecordReader(width, _LIMB, _FLOOR_LIMBS)
        m.submodules.writer = writer = RecordWriter(width, 8 * COEFFICIENT_BYTES)
        m.submodules.sums = sums = SetSums(self.parameters)
        m.submodules.mean = mean = Quotient(_LIMB * _TOTAL, 32)
        m.submodules.root = root = RootOfSet(self.parameters)
        wiring.connect(m, reader.port, wiring.flipped(self.sums_read))
        wiring.connect(m, floors.port, wiring.flipped(self.tables_read))
        wiring.connect(m, writer.port, wiring.flipped(self.tables_written))
        wiring.connect(m, reader.limbs, sums.limbs)
        wiring.connect(m, reader.sets, sums.sets)
        wiring.connect(m, floors.o, root.floors)

        # N as n' 2^v: its 17 highest bits, rounded.
        shifted = Signal(32)
        zeros = Signal(5)
        up = shifted[14] & (shifted[:14].any() | shifted[15])
        nearest = named(m, "nearest", shifted[15:] + up)
        carries = nearest[17]
        exponent = named(m, "exponent", (root.o.p.exponent + carries + (15 - 24) - zeros + c.unit)[:8])

        first = named(m, "first", c.floors.offset << 5)
        m.d.comb += [
            reader.operation.eq(self.operation.p),
            sums.size.eq(c.size),
            sums.count.eq(c.count),
            sums.shift.eq(c.shift),
            *(getattr(sums, name).eq(getattr(root, name)) for name in ("a", "b", "enable")),
            *(getattr(root, name).eq(getattr(sums, name)) for name in ("a_limb", "b_limb")),
            root.centred.eq(c.centred),
            root.significand.eq(Mux(carries, 1 << 16, nearest[:17])),
            mean.i.p.number.eq(sums.o.p.magnitude << 8),
            mean.i.p.divisor.eq(c.count),
            floors.i.p.region.eq(c.floors.region),
            floors.i.p.address.eq(first),
            floors.i.p.records.eq(c.sets),
            writer.i.p.region.eq(c.result.region),
            writer.i.p.address.eq(c.result.offset << 5),
            writer.i.p.records.eq(c.sets),
        ]
        # A negative mean is the complement of what is 1 less.
        negative = sums.o.p.negative
        signed_mean = named(m, "signed_mean", ((mean.o.payload ^ negative.replicate(64)) + negative)[:32])
        record = Cat(
            Mux(c.centred, signed_mean, 0),
            root.o.p.root,
            exponent,
            Mux(sums.o.p.mixed, sums.places, 0)[:4],
            c.shift > 0,
            Const(0, 1),
            sums.o.p.poisoned,
        )
        m.d.comb += writer.items.payload.eq(record)

        legal = (c.sets != 0) & (c.size != 0) & (c.count != 0) & (c.shift >= -8) & (c.shift <= 8)
        left = Signal(16)
        with m.FSM():
            with m.State("idle"), m.If(self.operation.valid & c.chosen):
                m.d.sync += [shifted.eq(c.count), zeros.eq(0), left.eq(c.sets)]
                m.next = "normalise"
                with m.If(~legal):
                    m.d.sync += self.error.eq(cause("field"))
                    m.next = "stop"
            with m.State("normalise"):
                m.d.sync += [shifted.eq(shifted << 1), zeros.eq(zeros + 1)]
                with m.If(shifted[-1]):
                    m.d.sync += [shifted.eq(shifted), zeros.eq(zeros)]
                    m.next = "ask"
            with m.State("ask"):
                both = floors.i.ready & writer.i.ready
                m.d.comb += [floors.i.valid.eq(both), writer.i.valid.eq(both), reader.start.eq(both)]
                with m.If(both):
                    m.next = "sums"
            with m.State("sums"), m.If(sums.o.valid & mean.i.ready):
                m.d.comb += [mean.i.valid.eq(1), root.start.eq(1)]
                m.next = "root"
                with m.If(sums.o.p.damaged):
                    m.d.comb += [mean.i.valid.eq(0), root.start.eq(0)]
                    m.d.sync += self.error.eq(cause("damaged"))
                    m.next = "stop"
            with m.State("root"):
                m.d.comb += writer.items.valid.eq(root.o.valid & mean.o.valid)
                with m.If(writer.items.valid & writer.items.ready):
                    m.d.comb += [root.o.ready.eq(1), mean.o.ready.eq(1), sums.o.ready.eq(1)]
                    m.d.sync += left.eq(left - 1)
                    m.next = "sums"
                    with m.If(left == 1):
                        m.next = "end"
            with m.State("end"):
                m.d.comb += self.operation.ready.eq(writer.idle)
                with m.If(writer.idle):
                    m.next = "idle"
            with m.State("stop"):
                pass
        return m
