"""Mean and reciprocal root of statistics sets, from their sums: once a set, so one multiplier takes its time."""

import math
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.machine.command import Coefficients
from golden.machine.image import COEFFICIENT_BYTES, FLOOR_BYTES, SUM_BYTES
from golden.parameters import Parameters
from hw.arith.bits import choose, named
from hw.arith.serial import Quotient
from hw.bus.ports import ADDRESS_WIDTH, UNIT_BYTES, MemoryRead
from hw.control.engine import Engine, Fields, cause, operation
from hw.memory import Ram, Rom
from hw.part import Part
from hw.stream import Fifo
from hw.stream.records import RecordReader, RecordWriter

_LIMB = 16
"""Bits of a limb: long numbers are worked on limb by limb, the lowest one first."""

_TOTAL, _SQUARE = 4, 5
"""Limbs of the sums of a set: ``sum Y`` in two's complement, ``sum Y^2`` unsigned."""

_WIDE = 6
"""Limbs that a sum is added in: no 2^16 records leave them."""

_COUNT, _ONE, _FLOOR = 2 * _WIDE, 2 * _WIDE + 2, 16
"""Places of N, of 1, and of K, behind both sums."""

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


def _part() -> data.StructLayout:
    """How the records of a set come: so many of the coarser tensor first, if it has two; then the others."""
    return data.StructLayout({"coarse": 16, "mixed": 1})


class SetReader(Part):
    """Reads K and the records of sums of each set, those of the coarser one of its tensors first.

    Members
    -------
    operation : In(`operation` of the emit engine)
        A `Coefficients`, held from `start` on.
    start : In(1)
        Begin, one clock.
    sets : Out(stream)
        How the records of each set come.
    limbs : Out(stream of 16 bits)
        K of a set, then its records; set after set.
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

        # Each of the three tables goes on where it was left.
        tables = [c.floors, c.sums1, c.sums2]
        places = [Signal(ADDRESS_WIDTH, name=f"place{number}") for number in range(3)]
        sets = Signal(16, name="sets_left")
        first_left = Signal(16)
        beyond = named(m, "beyond", first_left - c.size)
        none_left = beyond[-1]
        of_first = named(m, "of_first", Mux(none_left, first_left, c.size))
        of_second = named(m, "of_second", Mux(none_left, -beyond, 0)[:16])
        mixed = named(m, "mixed", (of_first != 0) & (of_second != 0))
        table = Signal(range(3))
        span = reader.i
        place = named(m, "place", choose(m, "chosen", table, places))
        records = named(m, "records", Mux(table == 0, 1, Mux(table[1], of_second, of_first)))
        after = named(m, "after", place + records * SUM_BYTES)
        taken = named(m, "taken", span.valid & span.ready)
        for number, (at, operand) in enumerate(zip(places, tables, strict=True)):
            with m.If(self.start):
                m.d.sync += at.eq(operand.offset * UNIT_BYTES)
            with m.Elif(taken & (table == number)):
                m.d.sync += at.eq(after)
        m.d.comb += [
            span.p.region.eq(choose(m, "region", table, [operand.region for operand in tables])),
            span.p.address.eq(place),
            span.p.records.eq(records),
            queue.i.p.mixed.eq(mixed),
            queue.i.p.coarse.eq(Mux(mixed, Mux(table[1], of_second, of_first), 0)),
        ]
        with m.FSM():
            with m.State("idle"):
                m.d.sync += [sets.eq(c.sets), first_left.eq(c.records1), table.eq(0)]
                with m.If(self.start):
                    m.next = "floor"
            with m.State("floor"):
                m.d.comb += span.valid.eq(sets != 0)
                with m.If(sets == 0):
                    m.next = "idle"
                with m.Elif(span.ready):
                    m.d.sync += table.eq(Mux((of_first == 0) | (mixed & (c.shift > 0)), 2, 1))
                    m.next = "first"
            with m.State("first"):
                m.d.comb += [span.valid.eq(queue.i.ready), queue.i.valid.eq(span.ready)]
                with m.If(taken):
                    m.d.sync += table.eq(~table)
                    m.next = "next"
                    with m.If(mixed):
                        m.next = "second"
            with m.State("second"):
                m.d.comb += span.valid.eq(1)
                with m.If(taken):
                    m.next = "next"
            with m.State("next"):
                m.d.sync += [sets.eq(sets - 1), first_left.eq(Mux(none_left, 0, beyond[:16])), table.eq(0)]
                m.next = "floor"
        return m


class SetSums(Part):
    """Adds up the records of each set, limb by limb, and keeps sums, N and K where `RootOfSet` reads them.

    Records of the coarser tensor come first; then the sums are doubled as often as units differ, and the others added.

    Latency: 12 clocks a record, 24 for each place of the units, and 28. One set at a time: it stays until it is taken.

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
    a, b : In(5)
        Limbs to read, when `o` is valid: ``sum Y`` from 0 on, ``sum Y^2`` from 6 on, N, 1, and K from 16 on.
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
            "a": In(5),
            "b": In(5),
            "enable": In(1),
            "a_limb": Out(_LIMB),
            "b_limb": Out(_LIMB),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        sets, o = self.sets, self.o
        m.submodules.a_rows = a_rows = Ram(_LIMB, 32, distributed=True)
        m.submodules.b_rows = b_rows = Ram(_LIMB, 32, distributed=True)
        place = Signal(5)
        place_read = Signal(5)
        reads = Signal()
        writes = Signal()
        written = Signal(_LIMB)
        limb = a_rows.read_data
        m.d.comb += [
            place_read.eq(place),
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

        # A limb is read in one clock, and worked on in the next one in which there is what it takes; meanwhile the one
        # after it is read.
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
            m.d.comb += [reads.eq(~read | writes), writes.eq(read & works)]
            m.d.sync += read.eq(1)
            with m.If(read):
                m.d.comb += place_read.eq(Mux(ends, 0, place + 1))
            with m.If(writes):
                m.d.sync += [place.eq(place + 1), carry.eq(total[_LIMB] & (place != _WIDE - 1))]
                with m.If(ends):
                    m.d.sync += [place.eq(0), carry.eq(0), fresh.eq(0)]
                    ended()

        with m.FSM():
            with m.State("set"):
                m.d.comb += sets.ready.eq(1)
                m.d.sync += [coarse.eq(sets.p.coarse), o.p.mixed.eq(sets.p.mixed), left.eq(self.size)]
                m.d.sync += [place.eq(_COUNT), turns.eq(self.places << 1), fresh.eq(1)]
                m.d.sync += [o.p.poisoned.eq(0), o.p.damaged.eq(0), carry.eq(0)]
                with m.If(sets.valid):
                    m.next = "constants"
            with m.State("constants"):
                # N, 1, whatever, K.
                from_memory = place >= _FLOOR
                count = self.count.word_select(place[0], _LIMB)
                m.d.comb += [
                    self.limbs.ready.eq(from_memory),
                    writes.eq(~from_memory | self.limbs.valid),
                    written.eq(Mux(from_memory, self.limbs.payload, Mux(place[1], 1, count))),
                ]
                with m.If(writes):
                    m.d.sync += place.eq(place + 1)
                    with m.If(place == _FLOOR + _FLOOR_LIMBS - 1):
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
                        m.d.sync += read.eq(0)
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

    Latency: 67 clocks, up to 8 more for a D whose highest limb is small, and one more where r is shifted by 17.

    Members
    -------
    start : In(1)
        The limbs of a set are there, and stay.
    centred : In(1)
        S1 counts.
    significand : In(17)
        n': N is ``n' 2^v``.
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
            "a": Out(5),
            "b": Out(5),
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
        step, read, product = (Signal(_step(), name=name) for name in ("step", "read", "product"))
        with m.Switch(count):
            for number, (a, b) in enumerate(steps):
                with m.Case(number):
                    m.d.comb += step.eq(_step().const({"there": 1, "a": a or 0, "b": b, "ends": a is None}))
        with m.If(step.there):
            m.d.sync += count.eq(count + 1)
        m.d.comb += [self.a.eq(step.a), self.b.eq(step.b), self.enable.eq(step.there)]

        # Of products of limbs: read, multiplied, added, a clock each.
        result = Signal(signed(36))
        total = Signal(signed(40))
        limb = total[:_LIMB]
        limb_below = Signal(_LIMB)
        place = Signal(signed(8), name="limb_place")
        # The highest limb of D that is not 0 and the one below it; then with m as its 17 highest bits, D / 4^t.
        window = Signal(2 * _LIMB + 1)
        halved = Signal(signed(8))
        # Which of the products of the root: y0^2, m q, y0 h, y n'.
        number = Signal(2)
        scalar = Signal()
        takes = Signal()
        value = Signal(18)
        seed = Signal(17)
        top = _TOTAL - 1
        a_limb = Cat(self.a_limb, (self.a_limb[-1] & (read.a == top)).replicate(2))
        b_limb = Cat(self.b_limb, (self.b_limb[-1] & (read.b == top)).replicate(2))
        a_factor = Mux(scalar, Mux(number == 3, self.significand, Mux(number == 1, window[_LIMB:], seed)), a_limb)
        b_factor = Mux(scalar, Mux(number == 0, seed, value), b_limb)
        of_total = named(m, "of_total", product.a < _TOTAL)
        subtracts = named(m, "subtracts", Mux(takes, number == 1, of_total))
        adds = named(m, "adds", takes | (product.there & ~product.ends & (self.centred | ~of_total)))
        addend = Mux(adds, result.as_unsigned() ^ subtracts.replicate(36), 0).as_signed()
        ends = named(m, "ends", product.there & product.ends)
        m.d.sync += [
            read.eq(step),
            product.eq(read),
            seed.eq(table.words[0]),
            result.eq(a_factor.as_signed() * b_factor.as_signed()),
            total.eq(Mux(ends, total >> _LIMB, total + addend + (adds & subtracts))),
        ]

        # RNE(total / 2^16), or by 2^17.
        by_more = Signal()
        floor = Mux(by_more, total[17:35], total[16:34])
        half = Mux(by_more, total[16], total[15])
        rounded = named(m, "rounded", floor + (half & (total[:15].any() | (by_more & total[15]) | floor[0])))
        m.d.comb += [table.addresses[0].eq(window[-9:]), table.enable.eq(1), self.o.p.root.eq(value)]
        with m.FSM():
            with m.State("idle"), m.If(self.start):
                m.d.sync += [count.eq(0), total.eq(0), window.eq(0), limb_below.eq(0), place.eq(0), number.eq(0)]
                m.next = "columns"
            with m.State("columns"):
                with m.If(ends):
                    m.d.sync += [limb_below.eq(limb), place.eq(place + 8)]
                with m.If(ends & (limb != 0)):
                    m.d.sync += [window.eq(Cat(limb_below, limb)), halved.eq(place)]
                with m.If(~(step.there | read.there | product.there)):
                    m.next = "shift"
                    with m.If((total < 0) | (window == 0)):
                        m.d.sync += [window.eq(1 << _LIMB), halved.eq(0)]
            with m.State("shift"):
                m.d.sync += [window.eq(window << 2), halved.eq(halved - 1)]
                with m.If(window[-2:].any()):
                    m.d.sync += [window.eq(window), halved.eq(halved)]
                    m.next = "look up"
            # Two clocks for the table.
            with m.State("look up"):
                m.next = "multiply"
            with m.State("multiply"):
                m.d.comb += scalar.eq(1)
                m.d.sync += [total.eq(Mux(number == 1, 3 << 32, 0)), by_more.eq(number == 1)]
                m.next = "take"
            with m.State("take"):
                m.d.comb += takes.eq(1)
                m.next = "round"
            with m.State("round"):
                m.d.sync += [value.eq(rounded), number.eq(number + 1)]
                m.next = "multiply"
                with m.If(number == 3):
                    m.d.sync += self.o.p.exponent.eq(Mux(by_more, 17, 16) - halved)
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


def _steps() -> list[tuple[int | None, int]]:
    """Limbs of ``N S2 - S1^2 + K`` to multiply, column by column; None where a column ends."""
    steps: list[tuple[int | None, int]] = []
    for column in range(_COLUMNS):
        steps += [(_COUNT + i, _WIDE + column - i) for i in range(2) if 0 <= column - i < _SQUARE]
        steps += [(i, column - i) for i in range(_TOTAL) if 0 <= column - i < _TOTAL]
        steps += [(_FLOOR + column, _ONE)] * (column < _FLOOR_LIMBS)
        steps.append((None, 0))
    return steps


def _step() -> data.StructLayout:
    """Two limbs to multiply, or the end of a column."""
    return data.StructLayout({"there": 1, "a": 5, "b": 5, "ends": 1})


class CoefficientsEngine(Engine):
    """Carries out `Coefficients`: mean, root and exponent of each set (numerics, 12.4 and 12.5).

    ::

        records -> SetReader -> sums, in limbs -+-> N S2 - S1^2 + K -> m 4^t -> y0 -> y -> r 2^rho -+-> RecordWriter
                                                +-> 256 S1 / N -> mean ----------------------------+

    Sums and N lie in a small RAM, limb by limb. One multiplier makes D column by column, and then the root by a table
    and a Newton step, while the quotient is made a bit a clock.

    Throughput: a set in 12 clocks a record and some 110 clocks; one of two tensors takes 24 clocks more for each place
    that their units differ by.

    Members
    -------
    sums_read, tables_written : Out
        Memory: sums and K, coefficients.
    """

    name = "emit"

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return super()._members(parameters) | {
            "sums_read": self.read(parameters),
            "tables_written": self.write(parameters),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        c, width = Fields(self.operation.p, Coefficients), self.parameters.memory_width
        m.submodules.reader = reader = SetReader(self.parameters)
        m.submodules.writer = writer = RecordWriter(width, 8 * COEFFICIENT_BYTES)
        m.submodules.sums = sums = SetSums(self.parameters)
        m.submodules.mean = mean = Quotient(_LIMB * _TOTAL, 32)
        m.submodules.root = root = RootOfSet(self.parameters)
        wiring.connect(m, reader.port, wiring.flipped(self.sums_read))
        wiring.connect(m, writer.port, wiring.flipped(self.tables_written))
        wiring.connect(m, reader.limbs, sums.limbs)
        wiring.connect(m, reader.sets, sums.sets)

        # N as n' 2^v: its 17 highest bits, rounded.
        shifted = Signal(32)
        zeros = Signal(5)
        up = shifted[14] & (shifted[:14].any() | shifted[15])
        nearest = named(m, "nearest", shifted[15:] + up)
        significand = Signal(17)
        carries = Signal()
        m.d.sync += [significand.eq(Mux(nearest[17], 1 << 16, nearest[:17])), carries.eq(nearest[17])]
        exponent = named(m, "exponent", (root.o.p.exponent + carries + (15 - 24) - zeros + c.unit)[:8])

        m.d.comb += [
            reader.operation.eq(self.operation.p),
            sums.size.eq(c.size),
            sums.count.eq(c.count),
            sums.shift.eq(c.shift),
            *(getattr(sums, name).eq(getattr(root, name)) for name in ("a", "b", "enable")),
            *(getattr(root, name).eq(getattr(sums, name)) for name in ("a_limb", "b_limb")),
            root.centred.eq(c.centred),
            root.significand.eq(significand),
            mean.i.p.number.eq(sums.o.p.magnitude << 8),
            mean.i.p.divisor.eq(c.count),
            writer.i.p.region.eq(c.result.region),
            writer.i.p.address.eq(c.result.offset * UNIT_BYTES),
            writer.i.p.records.eq(c.sets),
        ]
        # A negative mean is the complement of what is 1 less.
        negative = sums.o.p.negative
        signed_mean = Signal(32)
        m.d.sync += signed_mean.eq((mean.o.payload ^ negative.replicate(64)) + negative)
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
                m.d.comb += [writer.i.valid.eq(1), reader.start.eq(writer.i.ready)]
                with m.If(writer.i.ready):
                    m.next = "sums"
            with m.State("sums"), m.If(sums.o.valid & mean.i.ready):
                m.d.comb += [mean.i.valid.eq(1), root.start.eq(1)]
                m.next = "root"
                with m.If(sums.o.p.damaged):
                    m.d.comb += [mean.i.valid.eq(0), root.start.eq(0)]
                    m.d.sync += self.error.eq(cause("damaged"))
                    m.next = "stop"
            with m.State("root"), m.If(root.o.valid & mean.o.valid):
                m.next = "write"
            with m.State("write"):
                m.d.comb += writer.items.valid.eq(1)
                with m.If(writer.items.ready):
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
