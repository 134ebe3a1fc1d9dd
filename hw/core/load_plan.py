"""What a load of groups comes to: its products, and line by line where the groups of a line go."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.machine.command import LoadGroups
from golden.parameters import Parameters
from hw.arith.bits import named, saturated
from hw.bus.ports import ENTRY_WIDTH, UNIT_WIDTH
from hw.control.engine import CAUSE_WIDTH, Fields, cause, operation

__all__ = ["LoadPlan", "bank_address", "copies", "pitches", "spool_line"]

_FACTOR_WIDTH = 17
"""Bits of a factor: those of a field of 16 bits, doubled."""


def bank_address(parameters: Parameters) -> int:
    """Bits of an address of a bank."""
    return (parameters.group_buffer - 1).bit_length()


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


def spool_line() -> data.StructLayout:
    """A line to read: the first `unit` of memory of its slot, and the `entry` of the table of lengths."""
    return data.StructLayout({"unit": UNIT_WIDTH, "entry": ENTRY_WIDTH})


class LoadPlan(wiring.Component):
    """Checks a `LoadGroups`, and walks over the lines of its spool that any row needs.

    One multiplier makes all products, one after the other. Then, for strips once and for samples row by row: from the
    first line that is needed to the last, each row is asked which of its lines it is. Lines go out as `lines` to be
    read, and as `places` to be put into the banks; there may be several of them before the first has been read.

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.

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
        Groups of a line of the spool.
    lines : Out(stream of `spool_line`)
        Lines to read; none with `link`.
    places : Out(stream of `copies`)
        The same lines in the same order, or every line of the link.
    done : Out(1)
        All lines are out; until the next `start`.
    error : Out(4)
        Cause of a field that breaks a rule; until a reset.
    """

    def __init__(self, parameters: Parameters):
        self._parameters = parameters
        super().__init__(
            {
                "operation": In(operation("load")),
                "start": In(1),
                "ready": Out(1),
                "pitches": Out(pitches(parameters)),
                "records": Out(16),
                "lines": Out(stream.Signature(spool_line())),
                "places": Out(stream.Signature(copies(parameters))),
                "done": Out(1, init=1),
                "error": Out(CAUSE_WIDTH),
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, c = self._parameters, Fields(self.operation, LoadGroups)
        address = bank_address(p)

        # Products -----------------------------------------------------------------------------------------------------
        factors = [Signal(_FACTOR_WIDTH, name=name) for name in ("factor0", "factor1")]
        product = Signal(2 * _FACTOR_WIDTH)
        m.d.sync += product.eq(factors[0] * factors[1])
        size, packed, line_pitch, total, left_pitch, reach, row_units, slot_units, first_pitch = (
            Signal(width, name=name)
            for name, width in (
                ("size", 15),
                ("packed", 15),
                ("line_pitch", 2 * _FACTOR_WIDTH),
                ("total", 2 * _FACTOR_WIDTH),
                ("left_pitch", address),
                ("reach", 24),
                ("row_units", 32),
                ("slot_units", 33),
                ("first_pitch", address),
            )
        )
        across = named(m, "across", c.width << c.repeat)
        line = named(m, "line", c.left + across + c.right)
        y_first = Signal(16)
        number = Signal(signed(26))
        products = [
            (c.groups, c.passes + 1, size),
            (c.groups, c.sent + 1, packed),
            (line, c.pitch, line_pitch),
            (line_pitch, c.lines, total),
            (packed, c.width, self.records),
            (across, c.pitch, self.pitches.inner),
            (c.left, c.pitch, left_pitch),
            (c.line_step, line_pitch[:address], self.pitches.row),
            (c.line_step, c.rows, reach),
            (c.slot_step, c.slot, row_units),
        ]
        of_rows = [
            (c.skip + y_first, c.slot, slot_units),
            (number.as_unsigned()[:address], line_pitch[:address], first_pitch),
        ]
        step = Signal(range(len(products + of_rows)))
        clock = Signal(2)

        def multiply(first: int, count: int, following: str) -> None:
            """In a state: products `first` onwards, three clocks each."""
            m.d.sync += clock.eq(Mux(clock == 2, 0, clock + 1))
            with m.Switch(step):
                for index, (a, b, result) in enumerate((products + of_rows)[first : first + count], first):
                    with m.Case(index):
                        m.d.sync += [factors[0].eq(a), factors[1].eq(b)]
                        with m.If(clock == 2):
                            m.d.sync += result.eq(product)
            with m.If(clock == 2):
                m.d.sync += step.eq(step + 1)
                with m.If(step == first + count - 1):
                    m.next = following

        # Rules --------------------------------------------------------------------------------------------------------
        end = named(m, "end", c.first + size)
        last = named(m, "last", total + c.at + end)
        broken = [
            c.rows >= p.rows,
            c.sent > c.passes,
            ~c.lines.any() | ~c.width.any() | ~c.groups.any(),
            end > c.pitch,
        ]
        beyond = [line > 0xFFFF, line_pitch > 0xFFFF, last > c.pitch + p.group_buffer]

        # Rows and lines -----------------------------------------------------------------------------------------------
        samples = named(m, "samples", c.slot_step.any() & ~c.link)
        row, row_slot = Signal(range(p.rows)), Signal(24)
        row_line, row_base = Signal(signed(26)), Signal(41)
        height = named(m, "height", c.height << c.repeat)
        # Lines that are needed, in those of the banks: the first one, and the one past the last.
        begin, past = Signal(signed(27)), Signal(signed(27))
        m.d.comb += [
            begin.eq(Mux(row_line < 0, 0, row_line)),
            past.eq(row_line + Mux(samples, 0, reach) + c.lines),
        ]
        y, y_last = Signal(16), Signal(16)
        unit = Signal(41)
        copy, of_row, of_number, of_address = Signal(), Signal(range(p.rows)), Signal(signed(26)), Signal(address)
        line_address = Signal(address)
        found = Signal(copies(p))
        rows_last = named(m, "rows_last", Mux(samples, row, c.rows))
        needed = named(m, "needed", found[0].rows.any() | found[1].rows.any())
        sends = Signal()
        m.d.comb += [
            self.pitches.begin.eq(c.at + c.first),
            self.pitches.position.eq(c.pitch),
            self.places.payload.eq(found),
            self.lines.p.unit.eq(saturated(c.source.offset + unit, UNIT_WIDTH)),
            self.lines.p.entry.eq(saturated((c.lengths.offset << 3) + row_slot + c.skip + y, ENTRY_WIDTH)),
            self.places.valid.eq(sends & (c.link | (needed & self.lines.ready))),
            self.lines.valid.eq(sends & ~c.link & needed & self.places.ready),
        ]

        with m.FSM(name="plan"):
            with m.State("idle"):
                with m.If(self.start):
                    m.d.sync += [self.ready.eq(0), self.done.eq(0), step.eq(0)]
                    m.next = "products"
            with m.State("products"):
                multiply(0, len(products), "rules")
            with m.State("rules"):
                m.d.sync += [row.eq(0), row_slot.eq(0), row_line.eq(c.line), row_base.eq(0)]
                with m.If(Cat(*broken).any()):
                    m.d.sync += self.error.eq(cause("field"))
                    m.next = "refused"
                with m.Elif(Cat(*beyond).any()):
                    m.d.sync += self.error.eq(cause("buffer"))
                    m.next = "refused"
                with m.Else():
                    m.d.sync += self.ready.eq(1)
                    m.next = "row"
            with m.State("refused"):
                pass
            with m.State("row"):
                # With the link every line comes; else those that a row needs.
                m.d.sync += [
                    step.eq(len(products)),
                    y_first.eq(Mux(c.link, 0, begin >> c.repeat)),
                    y_last.eq(Mux(c.link, c.height - 1, (Mux(past < height, past, height) - 1) >> c.repeat)),
                ]
                with m.If(Mux(c.link, c.height.any(), (past > begin) & (begin < height))):
                    m.next = "number"
                with m.Else():
                    m.next = "following"
            with m.State("number"):
                m.d.sync += number.eq((y_first << c.repeat) - row_line)
                m.next = "first_line"
            with m.State("first_line"):
                multiply(len(products), len(of_rows), "begin")
            with m.State("begin"):
                m.d.sync += [
                    y.eq(y_first),
                    unit.eq(row_base + slot_units),
                    line_address.eq(self.pitches.begin + left_pitch + first_pitch),
                ]
                m.next = "line"
            with m.State("line"):
                m.d.sync += [
                    copy.eq(0),
                    of_row.eq(row),
                    of_number.eq(number),
                    of_address.eq(line_address),
                    found.eq(0),
                ]
                m.next = "rows"
            with m.State("rows"):
                place = found[copy]
                with m.If((of_number >= 0) & (of_number < c.lines)):
                    m.d.sync += place.rows.eq(place.rows + 1)
                    with m.If(~place.rows.any()):
                        m.d.sync += [place.row.eq(of_row), place.address.eq(of_address)]
                with m.If(of_row != rows_last):
                    m.d.sync += [
                        of_row.eq(of_row + 1),
                        of_number.eq(of_number - c.line_step),
                        of_address.eq(of_address - self.pitches.row),
                    ]
                with m.Elif(c.repeat & ~copy):
                    m.d.sync += [
                        copy.eq(1),
                        of_row.eq(row),
                        of_number.eq(number + 1),
                        of_address.eq(line_address + line_pitch),
                    ]
                with m.Else():
                    m.next = "send"
            with m.State("send"):
                m.d.comb += sends.eq(1)
                gone = Mux(c.link, self.places.ready, ~needed | (self.places.ready & self.lines.ready))
                with m.If(gone):
                    m.d.sync += [
                        y.eq(y + 1),
                        number.eq(number + Mux(c.repeat, 2, 1)),
                        line_address.eq(line_address + (line_pitch << c.repeat)),
                        unit.eq(unit + c.slot),
                    ]
                    with m.If(y == y_last):
                        m.next = "following"
                    with m.Else():
                        m.next = "line"
            with m.State("following"):
                m.d.sync += [
                    row.eq(row + 1),
                    row_slot.eq(row_slot + c.slot_step),
                    row_line.eq(row_line + c.line_step),
                    row_base.eq(row_base + row_units),
                ]
                with m.If(samples & (row != c.rows)):
                    m.next = "row"
                with m.Else():
                    m.d.sync += self.done.eq(1)
                    m.next = "idle"
        return m
