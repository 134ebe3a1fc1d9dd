"""Pairs of channels exchanged, part by part."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw import payloads
from hw.arith.bits import named
from hw.part import Part


class Pairs(Part):
    """Each pair of elements of a vector in exchanged order, or all as they come.

    Where u is even, a pair is in one part: nothing is kept. Where it is odd, two parts have u pairs: the first one
    waits for the second, which stays to be exchanged itself.

    Throughput: a part a clock; where u is odd and pairs are exchanged, two in three clocks.

    Members
    -------
    exchanged : In(1)
        Whether pairs are exchanged; constant while parts are under way.
    i, o : streams of arrays of u elements
        Parts.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        part = data.ArrayLayout(payloads.state_element(parameters), parameters.near_lanes)
        return {"exchanged": In(1), "i": In(stream.Signature(part)), "o": Out(stream.Signature(part))}

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        i, o, u = self.i, self.o, self._parameters.near_lanes
        if self._parameters.lanes % 2:
            # There are no pairs: whoever asks for them is refused.
            m.d.comb += [o.payload.eq(i.payload), o.valid.eq(i.valid), i.ready.eq(o.ready)]
        elif u % 2 == 0:
            m.d.comb += [o.valid.eq(i.valid), i.ready.eq(o.ready)]
            m.d.comb += [
                o.payload[lane].eq(Mux(self.exchanged, i.payload[lane ^ 1], i.payload[lane])) for lane in range(u)
            ]
        else:
            first, kept, given = Signal(i.payload.shape()), Signal(), Signal()
            both = Cat(first, i.payload)
            width = len(both) // (2 * u)
            takes = named(m, "takes", self.exchanged & ~kept)
            m.d.comb += [
                o.valid.eq(i.valid & ~takes),
                i.ready.eq(takes | (o.ready & (~self.exchanged | given))),
            ]
            for lane in range(u):
                pair = [both.word_select((lane + half * u) ^ 1, width) for half in range(2)]
                value = Mux(self.exchanged, Mux(given, pair[1], pair[0]), i.payload[lane])
                m.d.comb += o.payload[lane].eq(value)
            with m.If(i.valid & takes):
                m.d.sync += [first.eq(i.payload), kept.eq(1)]
            with m.If(o.valid & o.ready & self.exchanged):
                m.d.sync += [given.eq(~given), kept.eq(~given)]
        return m
