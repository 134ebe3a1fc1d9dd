"""Where positions of a tensor lie in memory: first vector, how many, what of the first one is not theirs."""

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

__all__ = ["Extent", "place"]

_COUNT_WIDTH = 16
"""Bits of lines, of a width, of channels."""

_POSITION_WIDTH = 2 * _COUNT_WIDTH
_PRODUCT_WIDTH = 3 * _COUNT_WIDTH


def place() -> data.StructLayout:
    """Vectors: where the first one begins, in bytes from the operand, and how many there are.

    Numbers too large stand as the largest ones, which no region reaches.
    """
    return data.StructLayout({"address": ADDRESS_WIDTH, "records": RECORDS_WIDTH})


class Extent(Part):
    """Place of the lines `line` to ``line + lines - 1`` of a tensor (``docs/machine.md``, tensors).

    A *wide* tensor has at least n channels: whole vectors for each position. In a narrow one elements run on over
    positions. Of an Xhat, each position has ``ceil(channels / n)`` vectors in any case.

    One product after the other, a bit a clock: some 30 clocks.

    Members
    -------
    start : In(1)
        Begin; what is given stays as it is until the next start.
    line, lines, width, channels : In(16)
        First line, how many lines, positions of a line, channels.
    done : Out(1)
        What follows holds, until the next start.
    wide : Out(1)
        Whether the tensor is wide.
    begin, positions : Out(32)
        Number of the first position, and how many.
    skip : Out
        Elements of the first vector before those of the first position.
    state, held : Out(`place`)
        Vectors of the tensor, and of its Xhat.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "start": In(1),
            "line": In(_COUNT_WIDTH),
            "lines": In(_COUNT_WIDTH),
            "width": In(_COUNT_WIDTH),
            "channels": In(_COUNT_WIDTH),
            "done": Out(1),
            "wide": Out(1),
            "begin": Out(_POSITION_WIDTH),
            "positions": Out(_POSITION_WIDTH),
            "skip": Out(parameters.lane_width),
            "state": Out(place()),
            "held": Out(place()),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        n, size = self._parameters.lanes, -(-self._parameters.lanes * self._parameters.state_width // 8)
        m.submodules.product = product = Multiplier(unsigned(_POSITION_WIDTH), _COUNT_WIDTH)
        m.submodules.quotient = quotient = Divider(_PRODUCT_WIDTH, n)
        of = Signal(_COUNT_WIDTH)
        first = Signal(_PRODUCT_WIDTH)
        count = Signal(_PRODUCT_WIDTH)
        asked = Signal()
        each = Mux(self.wide, of, self.channels)
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

        found, address = quotient.o.p, saturated(product.o.payload, ADDRESS_WIDTH)
        with m.FSM():
            with m.State("idle"), m.If(self.start):
                m.d.sync += self.done.eq(0)
                m.next = "vectors"
            divide("vectors", "begin", self.channels + (n - 1), of.eq(found.quotient))
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
            multiply("address", "held", saturated(first, _POSITION_WIDTH), size, self.state.address.eq(address))
            multiply("held", "end", self.begin, size, self.held.address.eq(address))
            with m.State("end"):
                records = saturated(count, RECORDS_WIDTH)
                m.d.sync += [
                    self.done.eq(1),
                    self.state.records.eq(records),
                    self.held.records.eq(records),
                ]
                with m.If(self.wide):
                    m.d.sync += self.held.address.eq(self.state.address)
                with m.Else():
                    m.d.sync += self.held.records.eq(saturated(self.positions, RECORDS_WIDTH))
                m.next = "idle"
        return m
