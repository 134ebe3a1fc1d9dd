"""Where an emission's vectors lie in memory: of Y, and of Xhat, group by group; and how many there are of each."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw.arith.bits import saturated
from hw.arith.serial import Divider, Multiplier
from hw.bus.ports import ADDRESS_WIDTH
from hw.near_memory.part import Part
from hw.stream.records import RECORDS_WIDTH

__all__ = ["Extent", "place", "sent_lines"]

_COUNT_WIDTH = 16
"""Bits of lines, of a width, of channels."""

_POSITION_WIDTH = 2 * _COUNT_WIDTH
_PRODUCT_WIDTH = 3 * _COUNT_WIDTH


def place() -> data.StructLayout:
    """Vectors: where the first one begins, in bytes from the operand, and how many there are.

    Numbers too large stand as the largest ones, which no region reaches.
    """
    return data.StructLayout({"address": ADDRESS_WIDTH, "records": RECORDS_WIDTH})


def sent_lines() -> data.StructLayout:
    """Lines of a spool: how many, and vectors of x in each; a number too large stands as the largest one."""
    return data.StructLayout({"lines": _COUNT_WIDTH, "vectors": RECORDS_WIDTH})


class Extent(Part):
    """Place of the lines `line` to ``line + lines - 1`` of a tensor (``docs/machine.md``, tensors), and of its groups.

    A *wide* tensor has at least n channels: whole vectors for each position. In a narrow one elements run on over
    positions. Groups are made of *rows*: the channels of a position or, along positions, the positions of a channel.
    Segments of a row are filled up to whole groups apart.

    One product after the other, a bit a clock: some 30 clocks until Y is placed, as many more until all is done. A row
    is cut into segments by as many clocks as it has.

    Members
    -------
    start : In(1)
        Begin; what is given stays as it is until the next start.
    line, lines, width, channels, segment, across : In(16)
        First line, how many lines, positions of a line, channels; elements of a segment, 0 for the whole row; channels
        of a line of the spool along positions.
    along : In(1)
        Whether groups are along positions.
    placed : Out(1)
        `wide` to `stride` hold, until the next start.
    wide : Out(1)
        Whether the tensor is wide.
    begin, positions : Out(32)
        Number of the first position, and how many.
    skip : Out
        Elements of the first vector before those of the first position.
    state : Out(`place`)
        Vectors of the tensor.
    of, stride : Out
        Vectors of a position, and their bytes.
    done : Out(1)
        What follows holds, too.
    uneven : Out(1)
        A row is no whole number of segments, or a channel no part of a line.
    apart : Out(1)
        Whether rows are to be cut: into several segments that are no whole groups.
    row, length : Out(16)
        Elements of a row (the largest number for all that are too many), and of a segment.
    held : Out(`place`)
        Vectors of Xhat: one for each group.
    sent : Out(`sent_lines`)
        Lines of the spool.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        fields = ("line", "lines", "width", "channels", "segment", "across")
        return {
            "start": In(1),
            **{name: In(_COUNT_WIDTH) for name in fields},
            "along": In(1),
            "placed": Out(1),
            "wide": Out(1),
            "begin": Out(_POSITION_WIDTH),
            "positions": Out(_POSITION_WIDTH),
            "skip": Out(parameters.lane_width),
            "state": Out(place()),
            "of": Out(_COUNT_WIDTH),
            "stride": Out(_COUNT_WIDTH + 8),
            "done": Out(1),
            "uneven": Out(1),
            "apart": Out(1),
            "row": Out(_COUNT_WIDTH),
            "length": Out(_COUNT_WIDTH),
            "held": Out(place()),
            "sent": Out(sent_lines()),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        n, size = self._parameters.lanes, -(-self._parameters.lanes * self._parameters.state_width // 8)
        m.submodules.product = product = Multiplier(unsigned(_POSITION_WIDTH), _COUNT_WIDTH)
        m.submodules.quotient = quotient = Divider(_PRODUCT_WIDTH, n)
        first = Signal(_PRODUCT_WIDTH)
        count = Signal(_PRODUCT_WIDTH)
        asked = Signal()
        # Parts that were taken off, and what is left of the whole.
        parts, rest = Signal(_COUNT_WIDTH), Signal(_COUNT_WIDTH)
        # Vectors of a segment; then those of a row.
        groups = Signal(_COUNT_WIDTH)
        each = Mux(self.wide, self.of, self.channels)
        m.d.comb += self.wide.eq(self.channels >= n)

        def step(name: str, following: str, unit: Any, given: list[Any], found: list[Any]) -> None:
            """A state that gives `unit` its operands and keeps what it finds."""
            with m.State(name):
                m.d.comb += [unit.i.valid.eq(~asked), unit.o.ready.eq(1), *given]
                with m.If(unit.o.valid):
                    m.d.sync += [asked.eq(0), *found]
                    m.next = following
                with m.Elif(unit.i.ready):
                    m.d.sync += asked.eq(1)

        def multiply(name: str, following: str, a: Value, b: Any, *found: Any) -> None:
            step(name, following, product, [product.i.p.a.eq(a), product.i.p.b.eq(b)], list(found))

        def divide(name: str, following: str, number: Value, *found: Any) -> None:
            step(name, following, quotient, [quotient.i.payload.eq(number)], list(found))

        def count_off(name: str, following: str, part: Value, *found: Any) -> None:
            """A state that takes `part` off `rest` until nothing is left of it, if it comes out even."""
            with m.State(name):
                m.d.sync += [rest.eq(rest - part), parts.eq(parts + 1)]
                with m.If((rest <= part) | (part == 0)):
                    m.d.sync += [self.uneven.eq(self.uneven | (rest != part)), *found]
                    m.next = following

        found, address = quotient.o.p, saturated(product.o.payload, ADDRESS_WIDTH)
        records = saturated(product.o.payload, RECORDS_WIDTH)
        with m.FSM():
            with m.State("idle"), m.If(self.start):
                m.d.sync += [self.placed.eq(0), self.done.eq(0)]
                m.next = "vectors"
            divide("vectors", "begin", self.channels + (n - 1), self.of.eq(found.quotient))
            multiply("begin", "positions", self.width, self.line, self.begin.eq(product.o.payload))
            multiply("positions", "first", self.width, self.lines, self.positions.eq(product.o.payload))
            multiply("first", "count", self.begin, each, first.eq(product.o.payload))
            multiply("count", "split", self.positions, each, count.eq(product.o.payload))
            with m.State("split"):
                m.d.sync += self.skip.eq(0)
                m.next = "address"
                with m.If(~self.wide):
                    m.next = "skipped"
            divide("skipped", "whole", first, first.eq(found.quotient), self.skip.eq(found.rest))
            divide("whole", "address", count + self.skip + (n - 1), count.eq(found.quotient))
            multiply("address", "stride", saturated(first, _POSITION_WIDTH), size, self.state.address.eq(address))
            multiply("stride", "row", self.of, size, self.stride.eq(product.o.payload))
            with m.State("row"):
                row = Mux(self.along, saturated(self.positions, _COUNT_WIDTH), self.channels)
                m.d.sync += [
                    self.state.records.eq(saturated(count, RECORDS_WIDTH)),
                    self.placed.eq(1),
                    self.row.eq(row),
                    self.length.eq(Mux(self.segment == 0, row, self.segment)),
                    rest.eq(row),
                    parts.eq(0),
                    self.uneven.eq(0),
                ]
                m.next = "segments"
            count_off("segments", "groups", self.length)
            whole = found.rest == n - 1
            divide(
                "groups", "of row", self.length + (n - 1),
                groups.eq(found.quotient), self.apart.eq((parts != 1) & ~whole), rest.eq(self.channels),
            )  # fmt: skip
            multiply("of row", "lines", groups, parts, groups.eq(product.o.payload), parts.eq(0))
            with m.State("lines"):
                m.d.sync += self.sent.lines.eq(self.lines)
                m.next = "line"
                with m.If(self.along):
                    m.next = "across"
            count_off("across", "line", self.across, self.sent.lines.eq(parts + 1))
            of_line, rows = Mux(self.along, self.across, self.width), Mux(self.along, self.channels, self.positions)
            multiply("line", "first held", of_line, groups, self.sent.vectors.eq(records))
            multiply("first held", "held", self.begin, groups, first.eq(product.o.payload))
            multiply("held", "records", saturated(first, _POSITION_WIDTH), size, self.held.address.eq(address))
            multiply("records", "end", rows, groups, self.held.records.eq(records))
            with m.State("end"):
                m.d.sync += self.done.eq(1)
                m.next = "idle"
        return m
