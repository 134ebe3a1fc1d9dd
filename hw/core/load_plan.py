"""What a load of groups comes to: its products, and line by line where the groups of a line go."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.machine.command import LoadGroups
from golden.parameters import Parameters
from hw.arith.bits import bounded, named
from hw.bus.ports import ADDRESS_WIDTH, ENTRY_WIDTH, UNIT_WIDTH
from hw.control.engine import CAUSE_WIDTH, Fields, cause, operation
from hw.part import Part

_PITCH_WIDTH = 16
"""Bits of a pitch: as a field has them, and more than any bank has addresses."""


def bank_address(parameters: Parameters) -> int:
    """Bits of an address of a bank."""
    return (parameters.group_buffer - 1).bit_length()


def line_number(parameters: Parameters) -> int:
    """Bits of a signed number of a line, counted as the banks have them: `line`, a repeated height, steps of rows."""
    return 18 + (parameters.rows - 1).bit_length()


def pitches(parameters: Parameters) -> data.StructLayout:
    """Addresses from place to place of a load.

    `begin` is where the first line begins; `position` leads from position to position, `inner` over those of a line
    that are no padding, `row` to where the next row has the line that a row has here.
    """
    address = bank_address(parameters)
    return data.StructLayout({"begin": address, "position": address, "inner": address, "row": address})


def copies(parameters: Parameters) -> data.ArrayLayout:
    """Where the groups of a line of a spool go; a repeated line goes to two places.

    Each is `rows` rows from `row` on: from `address` on in the first, ``pitches.row`` less in each that follows.
    """
    place = {"row": range(parameters.rows), "rows": range(parameters.rows + 1), "address": bank_address(parameters)}
    return data.ArrayLayout(data.StructLayout(place), 2)


def spool_line(parameters: Parameters) -> data.StructLayout:
    """A line to read.

    `unit`: the first one of memory of its slot. `entry`: of the table of lengths. `mask`: number of the first record of
    the sign tensor; only with the dataflow sign_mask.
    """
    mask = {"mask": ADDRESS_WIDTH} if parameters.masks else {}
    return data.StructLayout({"unit": UNIT_WIDTH, "entry": ENTRY_WIDTH, **mask})


class LoadPlan(Part):
    """Checks a `LoadGroups`, and walks over the lines of its spool that any row needs.

    One multiplier makes all products, one after the other. Then, for strips once and for samples row by row: from the
    first line that is needed to the last, each row is asked which of its lines it is. Lines go out as `lines` to be
    read, and as `places` to be put into the banks; there may be several of them before the first has been read.

    Latency: about 30 clocks from `start` to `ready`, 10 more to the first line. Throughput: a line in 2 clocks, and one
    for each row and copy.

    Members
    -------
    operation : In(`operation` of the load engine)
        A `LoadGroups`, held from `start` to the end.
    start : In(1)
        Begin, one clock.
    ready : Out(1)
        `pitches` and `records` stand.
    pitches : Out(`pitches`)
        Addresses from place to place.
    records : Out(16)
        Groups of a line of the spool; 0 where a table holds their lengths.
    lines : Out(stream of `spool_line`)
        Lines to read; none with `link`.
    places : Out(stream of `copies`)
        The same lines in the same order, or every line of the link.
    done : Out(1)
        All lines are out; until the next `start`.
    error : Out(4)
        Cause of a field that breaks a rule; until a reset.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "operation": In(operation("load", parameters.dataflows)),
            "start": In(1),
            "ready": Out(1),
            "pitches": Out(pitches(parameters)),
            "records": Out(16),
            "lines": Out(stream.Signature(spool_line(parameters))),
            "places": Out(stream.Signature(copies(parameters))),
            "done": Out(1, init=1),
            "error": Out(CAUSE_WIDTH),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, c = self._parameters, Fields(self.operation, LoadGroups)
        address, of_line = bank_address(p), line_number(p)
        of_slot = (0xFFFF * (p.rows + 1)).bit_length()

        # Where a set of rows begins: the row, its first line in lines of the banks, its first slot.
        row, row_line, row_slot = Signal(range(p.rows)), Signal(signed(of_line)), Signal(of_slot)
        # The line under way: its slot, where that begins, its number in the first row and address there, lines left.
        slot, unit, number = Signal(of_slot), Signal(UNIT_WIDTH + 1), Signal(signed(of_line))
        line_address, left = Signal(address), Signal(signed(of_line + 1))

        # Products, three clocks each: the multiplier has a register at either side.
        line_pitch, left_pitch, size = Signal(_PITCH_WIDTH), Signal(address), Signal(15)
        far = Signal()
        factor0, factor1, product = Signal(of_slot), Signal(_PITCH_WIDTH), Signal(of_slot + _PITCH_WIDTH)
        m.d.sync += product.eq(factor0 * factor1)
        # What stands still meanwhile is added up before.
        end, room = Signal(17), Signal(signed(19))
        m.d.sync += [end.eq(c.first + size), room.eq(c.pitch + p.group_buffer - c.at - end)]
        beyond = named(m, "beyond", product[:17] > room)
        across = named(m, "across", c.width << c.repeat)
        pitch_sum = named(m, "pitch_sum", line_pitch + product[:_PITCH_WIDTH])
        too_far = named(m, "too_far", pitch_sum[_PITCH_WIDTH] | product[_PITCH_WIDTH:].any())
        add_pitch = [line_pitch.eq(pitch_sum), far.eq(far | too_far)]
        products = [
            (c.groups, c.passes + 1, [size.eq(product), line_pitch.eq(0), far.eq(0)]),
            (across, c.pitch, [self.pitches.inner.eq(product), *add_pitch]),
            (c.left, c.pitch, [left_pitch.eq(product), *add_pitch]),
            (c.right, c.pitch, add_pitch),
            (c.lines, line_pitch, [far.eq(far | product[_PITCH_WIDTH:].any() | beyond)]),
            (c.line_step, line_pitch, [self.pitches.row.eq(product)]),
        ]
        if not p.has_lengths:
            products += [
                (c.groups, c.sent + 1, [self.records.eq(product)]),
                (self.records, c.width, [self.records.eq(product)]),
            ]
        shared = len(products)
        products += [
            (number.as_unsigned()[:address], line_pitch, [line_address.eq(self.pitches.begin + left_pitch + product)]),
            (slot, c.slot, [unit.eq(bounded(product, UNIT_WIDTH + 1))]),
        ]
        if p.masks:
            mask = Signal(ADDRESS_WIDTH)
            products.append((slot, c.width, [mask.eq(bounded(product, ADDRESS_WIDTH))]))
        step, clock = Signal(range(len(products) + 1)), Signal(2)

        def multiply(last: int, following: str) -> None:
            """In a state: the products up to that one."""
            m.d.sync += clock.eq(Mux(clock == 2, 0, clock + 1))
            with m.If(clock == 2):
                m.d.sync += step.eq(step + 1)
                with m.If(step == last):
                    m.next = following

        with m.Switch(step):
            for index, (a, b, results) in enumerate(products):
                with m.Case(index):
                    m.d.sync += [factor0.eq(a), factor1.eq(b)]
                    with m.If(clock == 2):
                        m.d.sync += results

        broken = [
            c.rows >= p.rows,
            c.sent > c.passes,
            ~c.lines.any() | ~c.width.any() | ~c.groups.any(),
            end > c.pitch,
        ]
        if p.masks:
            broken.append(c.masked & (c.link | (c.groups != 1)))
        illegal = Signal()
        m.d.sync += illegal.eq(Cat(*broken).any())
        samples = named(m, "samples", c.slot_step.any() & ~c.link)
        rows_last = named(m, "rows_last", Mux(samples, row, c.rows))
        # The row that is asked, the number that the line has there, its address.
        copy, asked = Signal(), Signal(range(p.rows))
        asked_number, asked_address = Signal(signed(of_line)), Signal(address)
        found = Signal(copies(p))
        place = found[copy]
        passed = named(m, "passed", asked_number >= c.lines)
        needed = named(m, "needed", found[0].rows.any() | found[1].rows.any())
        sends = Signal()
        m.d.comb += [
            self.pitches.begin.eq(c.at + c.first),
            self.pitches.position.eq(c.pitch),
            self.places.payload.eq(found),
            self.lines.p.unit.eq(bounded(c.source.offset + unit, UNIT_WIDTH)),
            self.lines.p.entry.eq((c.lengths.offset << 3) + slot if p.has_lengths else 0),
            self.places.valid.eq(sends & (c.link | (needed & self.lines.ready))),
            self.lines.valid.eq(sends & ~c.link & needed & self.places.ready),
        ]
        if p.masks:
            m.d.comb += self.lines.p.mask.eq(mask)

        with m.FSM(name="plan"):
            with m.State("idle"):
                m.d.sync += [row.eq(0), row_slot.eq(c.skip), row_line.eq(c.line), step.eq(0)]
                with m.If(self.start):
                    m.d.sync += [self.ready.eq(0), self.done.eq(0)]
                    m.next = "products"
            with m.State("products"):
                multiply(shared - 1, "rules")
            with m.State("rules"):
                with m.If(illegal):
                    m.d.sync += self.error.eq(cause("field"))
                    m.next = "refused"
                with m.Elif(far):
                    m.d.sync += self.error.eq(cause("buffer"))
                    m.next = "refused"
                with m.Else():
                    m.d.sync += self.ready.eq(1)
                    m.next = "row"
            with m.State("refused"):
                pass
            with m.State("row"):
                # With the link every line comes; else the first one is that which the row begins with.
                m.d.sync += step.eq(shared)
                with m.If(c.link | (row_line < 0)):
                    m.d.sync += [slot.eq(row_slot), left.eq(c.height), number.eq(-row_line)]
                with m.Else():
                    begin = row_line.as_unsigned() >> c.repeat
                    m.d.sync += [slot.eq(row_slot + begin), left.eq(c.height - begin)]
                    m.d.sync += number.eq((row_line[0] & c.repeat).as_signed())
                m.next = "first line"
            with m.State("first line"):
                multiply(len(products) - 1, "line")
            with m.State("line"):
                m.d.sync += [
                    copy.eq(0),
                    asked.eq(row),
                    asked_number.eq(number),
                    asked_address.eq(line_address),
                    found.eq(0),
                ]
                m.next = "rows"
                with m.If(left <= 0):
                    m.next = "following"
            with m.State("rows"):
                with m.If((asked_number >= 0) & ~passed):
                    m.d.sync += place.rows.eq(place.rows + 1)
                    with m.If(~place.rows.any()):
                        m.d.sync += [place.row.eq(asked), place.address.eq(asked_address)]
                with m.If(asked != rows_last):
                    m.d.sync += [
                        asked.eq(asked + 1),
                        asked_number.eq(asked_number - c.line_step),
                        asked_address.eq(asked_address - self.pitches.row),
                    ]
                with m.Elif(passed & ~copy & ~c.link):
                    m.next = "following"
                with m.Elif(c.repeat & ~copy):
                    m.d.sync += [
                        copy.eq(1),
                        asked.eq(row),
                        asked_number.eq(number + 1),
                        asked_address.eq(line_address + line_pitch),
                    ]
                with m.Else():
                    m.next = "send"
            with m.State("send"):
                m.d.comb += sends.eq(1)
                gone = Mux(c.link, self.places.ready, ~needed | (self.places.ready & self.lines.ready))
                with m.If(gone):
                    m.d.sync += [
                        slot.eq(slot + 1),
                        left.eq(left - 1),
                        number.eq(number + Mux(c.repeat, 2, 1)),
                        line_address.eq(line_address + (line_pitch << c.repeat)),
                        unit.eq(bounded(unit + c.slot, UNIT_WIDTH + 1)),
                    ]
                    if p.masks:
                        m.d.sync += mask.eq(bounded(mask + c.width, ADDRESS_WIDTH))
                    m.next = "line"
            with m.State("following"):
                m.d.sync += [row.eq(row + 1), row_slot.eq(row_slot + c.slot_step), row_line.eq(row_line + c.line_step)]
                with m.If(samples & (row != c.rows)):
                    m.next = "row"
                with m.Else():
                    m.d.sync += self.done.eq(1)
                    m.next = "idle"
        return m
