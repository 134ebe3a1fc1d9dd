"""Where an emission's vectors lie in memory: of Y, and of Xhat, group by group; and how many there are of each."""

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw.arith.bits import named, saturated
from hw.arith.serial import Divider, Multiplier
from hw.bus.ports import ADDRESS_WIDTH
from hw.part import Part
from hw.stream.records import RECORDS_WIDTH

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

    A *wide* tensor has at least n channels, or is of scores: whole vectors for each position. In a narrow one elements
    run on over positions. Groups are made of *rows*: the channels of a position or, along positions, the positions of
    a channel. Segments of a row are filled up to whole groups apart.

    One product after the other, a bit a clock: some 30 clocks until Y is placed, as many more until all is done. A row
    is cut into segments by as many clocks as it has. A machine without attention has whole rows of channels only.

    Members
    -------
    start : In(1)
        Begin; what is given stays as it is until the next start.
    line, lines, width, channels, segment, across : In(16)
        First line, how many lines, positions of a line, channels; elements of a segment, 0 for the whole row; channels
        of a line of the spool along positions.
    scores : In(1)
        Whether the tensor is of scores.
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
            "scores": In(1),
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
        attends = "attention" in self._parameters.functions
        m.submodules.product = product = Multiplier(unsigned(_POSITION_WIDTH), _COUNT_WIDTH)
        m.submodules.quotient = quotient = Divider(_PRODUCT_WIDTH, n)
        first = Signal(_PRODUCT_WIDTH)
        count = Signal(_PRODUCT_WIDTH)
        asked = Signal()
        # Y is placed first, then Xhat by the same products.
        of_held = Signal()
        # Vectors of a segment; then those of a row.
        groups = Signal(_COUNT_WIDTH)
        each = Mux(of_held, groups, Mux(self.wide, self.of, self.channels))
        along = self.along if attends else Const(0, 1)
        rows = Mux(of_held & along, self.channels, self.positions)
        m.d.comb += self.wide.eq((self.channels >= n) | self.scores)

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

        found, records = quotient.o.p, saturated(count, RECORDS_WIDTH)
        whole = named(m, "whole", found.rest == 0)
        up = named(m, "up", found.quotient + ~whole)
        with m.FSM():
            with m.State("idle"), m.If(self.start):
                m.d.sync += [self.placed.eq(0), self.done.eq(0), of_held.eq(0)]
                m.next = "vectors"
            divide("vectors", "begin", self.channels, self.of.eq(up))
            multiply("begin", "positions", self.width, self.line, self.begin.eq(product.o.payload))
            multiply("positions", "first", self.width, self.lines, self.positions.eq(product.o.payload))
            multiply("first", "count", self.begin, each, first.eq(product.o.payload))
            multiply("count", "split", rows, each, count.eq(product.o.payload))
            with m.State("split"):
                m.next = "address"
                with m.If(~of_held):
                    m.d.sync += self.skip.eq(0)
                    with m.If(~self.wide):
                        m.next = "skipped"
            divide("skipped", "last", first, first.eq(found.quotient), self.skip.eq(found.rest))
            divide("last", "address", count + self.skip, count.eq(up))
            multiply("address", "keep", saturated(first, _POSITION_WIDTH), size, first.eq(product.o.payload))
            with m.State("keep"):
                address = saturated(first, ADDRESS_WIDTH)
                with m.If(of_held):
                    m.d.sync += [self.held.address.eq(address), self.held.records.eq(records), self.done.eq(1)]
                    m.next = "idle"
                with m.Else():
                    m.d.sync += [self.state.address.eq(address), self.state.records.eq(records)]
                    m.d.sync += [groups.eq(self.of), self.sent.lines.eq(self.lines), of_held.eq(1)]
                    if attends:
                        m.next = "stride"
                    else:
                        m.d.sync += self.placed.eq(1)
                        m.next = "line"
            if attends:
                multiply("stride", "row", self.of, size, self.stride.eq(product.o.payload), self.placed.eq(1))
                self._cut(m, divide, groups, up, whole)
            of_line = Mux(along, self.across, self.width)
            vectors = saturated(product.o.payload, RECORDS_WIDTH)
            multiply("line", "first", of_line, groups, self.sent.vectors.eq(vectors))
        return m

    def _cut(self, m: Module, divide: Callable[..., None], groups: Signal, up: Value, whole: Value) -> None:
        """States that find the segments of a row, vectors of a row and, along positions, lines of the spool."""
        # What was counted off, and what is left of the whole.
        parts, rest = Signal(_COUNT_WIDTH), Signal(_COUNT_WIDTH)

        def count_off(name: str, following: str, part: Value, each: Any, *found: Any) -> None:
            """A state that takes `part` off `rest` until nothing is left, and adds `each` up, if it comes out even."""
            with m.State(name):
                m.d.sync += [rest.eq(rest - part), parts.eq(parts + each)]
                with m.If((rest <= part) | (part == 0)):
                    m.d.sync += [self.uneven.eq(self.uneven | (rest != part)), rest.eq(self.channels), parts.eq(0)]
                    m.d.sync += list(found)
                    m.next = following

        with m.State("row"):
            row = Mux(self.along, saturated(self.positions, _COUNT_WIDTH), self.channels)
            m.d.sync += [self.row.eq(row), self.length.eq(Mux(self.segment == 0, row, self.segment))]
            m.d.sync += [rest.eq(row), parts.eq(0), self.uneven.eq(0)]
            m.next = "groups"
        divide("groups", "segments", self.length, groups.eq(up), self.apart.eq(~whole))
        single = self.apart.eq(self.apart & parts.any())
        count_off("segments", "lines", self.length, groups, groups.eq(parts + groups), single)
        with m.State("lines"):
            m.next = "line"
            with m.If(self.along):
                m.next = "across"
        count_off("across", "line", self.across, 1, self.sent.lines.eq(parts + 1))
