"""Delta groups into the banks: lines of a spool to all places that have them, and zero groups to all others."""

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.machine.command import LoadGroups
from golden.parameters import ZERO_GROUP, Parameters
from hw import payloads
from hw.arith.bits import named
from hw.control.engine import Fields, operation
from hw.core.load_plan import bank_address, copies, line_number, pitches
from hw.part import Part


def groups_sent(parameters: Parameters, load: Fields) -> Value:
    """Groups of a vector that come, minus 1: as many as were sent, or of a spool that knows replays, as addresses."""
    return Mux(load.link, load.sent, load.passes) if parameters.replays else load.sent


class LineWriter(Part):
    """Puts each group of a line to every place that has it, one place a clock.

    Latency: none (combinational). Throughput: one place per clock; a clock between lines.

    Members
    -------
    operation : In(`operation` of the load engine)
        A `LoadGroups`.
    pitches : In(`pitches`)
        Addresses from place to place.
    places : In(stream of `copies`)
        Where the groups of the next line go.
    groups : In(stream of `payloads.stream_group`)
        Groups, line by line.
    o : Out(stream of `payloads.bank_write`)
        What to write.
    idle : Out(1)
        Nothing is under way.
    wrong : Out(1)
        Event: a line ends too soon or too late.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "operation": In(operation("load", parameters.dataflows)),
            "pitches": In(pitches(parameters)),
            "places": In(stream.Signature(copies(parameters))),
            "groups": In(stream.Signature(payloads.stream_group(parameters))),
            "o": Out(stream.Signature(payloads.bank_write(parameters))),
            "idle": Out(1),
            "wrong": Out(1),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, c = self._parameters, Fields(self.operation, LoadGroups)
        sent = groups_sent(p, c)
        address = bank_address(p)
        places = Signal(copies(p))
        active = Signal()

        # Where in a line: the position's address, the group's, and how many of each are left: no more than addresses.
        position, offset = Signal(address), Signal(address)
        columns, left, pass_ = Signal(address + 1), Signal(12), Signal(3)
        pass_ends = named(m, "pass_ends", pass_ == sent)
        group_ends = named(m, "group_ends", pass_ends & (left == 1))
        line_ends = named(m, "line_ends", group_ends & (columns == 1))

        # Which place of the group: position of a repeated one, copy of the line, row.
        second, copy, row, rows = Signal(), Signal(), Signal(range(p.rows)), Signal(range(p.rows + 1))
        base = Signal(address)
        nowhere = named(m, "nowhere", ~places[0].rows.any() & ~places[1].rows.any())
        row_ends = named(m, "row_ends", rows == 1)
        copy_ends = named(m, "copy_ends", row_ends & (copy | ~places[1].rows.any()))
        done = named(m, "done", nowhere | (copy_ends & (second | ~c.repeat)))
        moves = named(m, "moves", active & self.groups.valid & (nowhere | self.o.ready))
        following = named(m, "following", moves & done)
        begins = named(m, "begins", self.places.valid & self.places.ready)

        def enter(which: Value, place: data.View) -> list[Value]:
            return [copy.eq(which), row.eq(place.row), rows.eq(place.rows), base.eq(place.address)]

        m.d.comb += [
            self.places.ready.eq(~active),
            self.groups.ready.eq(following),
            self.wrong.eq(following & (self.groups.p.last != line_ends)),
            self.idle.eq(~active),
            self.o.valid.eq(active & self.groups.valid & ~nowhere),
            self.o.p.row.eq(row),
            self.o.p.half.eq(c.half),
            self.o.p.address.eq(base + offset + Mux(second, self.pitches.position, 0)),
            self.o.p.group.eq(self.groups.p.group),
        ]
        with m.If(moves):
            m.d.sync += [row.eq(row + 1), rows.eq(rows - 1), base.eq(base - self.pitches.row)]
            with m.If(row_ends):
                m.d.sync += enter(Const(1, 1), places[1])
            with m.If(copy_ends):
                m.d.sync += second.eq(1)
        with m.If(begins | (moves & copy_ends)):
            first = data.View(copies(p), Mux(begins, self.places.payload.as_value(), places.as_value()))
            with m.If(first[0].rows.any()):
                m.d.sync += enter(Const(0, 1), first[0])
            with m.Else():
                m.d.sync += enter(Const(1, 1), first[1])
        with m.If(following):
            step = Mux(pass_ends, c.passes - sent, 0).as_unsigned()[:3] + 1
            m.d.sync += [second.eq(0), pass_.eq(pass_ + 1), offset.eq(offset + step)]
            with m.If(pass_ends):
                m.d.sync += [pass_.eq(0), left.eq(left - 1)]
            with m.If(group_ends):
                beyond = named(m, "beyond", position + (self.pitches.position << c.repeat))
                m.d.sync += [left.eq(c.groups), columns.eq(columns - 1), position.eq(beyond), offset.eq(beyond)]
            with m.If(line_ends):
                m.d.sync += active.eq(0)
        with m.If(begins):
            m.d.sync += [places.eq(self.places.payload), active.eq(1), columns.eq(c.width), left.eq(c.groups)]
            m.d.sync += [signal.eq(0) for signal in (position, offset, pass_, second)]
        return m


class ZeroWriter(Part):
    """Writes zero groups wherever no line of the spool puts a group: lines and positions outside, passes not sent.

    Throughput: one address per clock; two clocks between the paddings and the inside of each line.

    Members
    -------
    operation : In(`operation` of the load engine)
        A `LoadGroups`.
    pitches : In(`pitches`)
        Addresses from place to place.
    start : In(1)
        Begin, one clock, when `pitches` stands.
    o : Out(stream of `payloads.bank_write`)
        What to write.
    idle : Out(1)
        Nothing is under way.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "operation": In(operation("load", parameters.dataflows)),
            "pitches": In(pitches(parameters)),
            "start": In(1),
            "o": Out(stream.Signature(payloads.bank_write(parameters))),
            "idle": Out(1),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, c = self._parameters, Fields(self.operation, LoadGroups)
        address = bank_address(p)
        row, lines = Signal(range(p.rows)), Signal(12)
        row_line, line = Signal(signed(line_number(p))), Signal(signed(line_number(p)))
        # Zones of a line: the padding before it, the positions of the image, the padding after it.
        zone, positions = Signal(2), Signal(address + 1)
        image = named(m, "image", zone == 1)
        with m.Switch(zone):
            for index, value in enumerate((c.left, c.width << c.repeat, c.right)):
                with m.Case(index):
                    m.d.comb += positions.eq(value)
        outside = named(m, "outside", (line < 0) | (line >= (c.height << c.repeat)))
        # Inside the image only passes that were not sent are zero.
        begins = named(m, "begins", Mux(image & ~outside, groups_sent(p, c) + 1, 0))
        position, offset = Signal(address), Signal(address)
        columns, left, pass_ = Signal(address + 1), Signal(12), Signal(3)
        pass_ends = named(m, "pass_ends", pass_ == c.passes)
        group_ends = named(m, "group_ends", pass_ends & (left == 1))
        skips, beyond = Signal(), Signal(address)
        m.d.comb += beyond.eq(position + Mux(skips, self.pitches.inner, self.pitches.position))
        moves = named(m, "moves", ~self.o.valid | self.o.ready)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)

        with m.FSM(name="zeros") as states:
            m.d.comb += self.idle.eq(states.ongoing("idle") & ~self.o.valid)
            with m.State("idle"):
                m.d.sync += [row.eq(0), row_line.eq(c.line), line.eq(c.line), lines.eq(c.lines)]
                m.d.sync += position.eq(self.pitches.begin)
                with m.If(self.start):
                    m.next = "zone"
            with m.State("zone"):
                m.d.sync += [columns.eq(positions), left.eq(c.groups), pass_.eq(begins), offset.eq(begins)]
                with m.If(positions.any() & (begins <= c.passes)):
                    m.next = "write"
                with m.Else():
                    m.d.comb += skips.eq(image)
                    with m.If(image):
                        m.d.sync += position.eq(beyond)
                    m.next = "following"
            with m.State("write"):
                with m.If(moves):
                    m.d.sync += [
                        self.o.valid.eq(1),
                        self.o.p.row.eq(row),
                        self.o.p.half.eq(c.half),
                        self.o.p.address.eq(position + offset),
                        self.o.p.group.exponent.eq(ZERO_GROUP),
                        pass_.eq(Mux(pass_ends, begins, pass_ + 1)),
                        offset.eq(offset + 1 + Mux(pass_ends, begins, 0)),
                    ]
                    with m.If(pass_ends):
                        m.d.sync += left.eq(left - 1)
                    with m.If(group_ends):
                        m.d.sync += [left.eq(c.groups), columns.eq(columns - 1)]
                        m.d.sync += [position.eq(beyond), offset.eq(begins)]
                        with m.If(columns == 1):
                            m.next = "following"
            with m.State("following"):
                m.next = "zone"
                m.d.sync += zone.eq(zone + 1)
                with m.If(zone == 2):
                    m.d.sync += [zone.eq(0), lines.eq(lines - 1), line.eq(line + 1)]
                    with m.If(lines == 1):
                        below = row_line + c.line_step
                        m.d.sync += [lines.eq(c.lines), row.eq(row + 1), row_line.eq(below), line.eq(below)]
                        m.d.sync += position.eq(self.pitches.begin)
                        with m.If(row == c.rows):
                            m.next = "idle"
        return m
