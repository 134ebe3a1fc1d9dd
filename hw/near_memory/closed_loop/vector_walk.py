"""All vectors of a tensor, in the order of memory or by channels first, with what each of them holds."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw.arith.bits import named
from hw.part import Part

_VECTORS_WIDTH = 24
_CHANNEL_WIDTH = 16


def walked_vector(parameters: Parameters) -> data.StructLayout:
    """A vector: its index, position and channel of its lane 0, how many lanes from there on are no padding.

    `number` counts the vectors of its position before it; it is 0 where elements run on over positions.

    `turns` marks the first vector of a position (of a tensor with at least n channels, by channels: each); `end` the
    last one of all.
    """
    return data.StructLayout(
        {
            "index": _VECTORS_WIDTH,
            "position": _VECTORS_WIDTH,
            "channel": _CHANNEL_WIDTH,
            "number": _CHANNEL_WIDTH,
            "used": range(parameters.lanes + 1),
            "turns": 1,
            "end": 1,
        }
    )


class VectorWalk(Part):
    """Walks through the vectors of a tensor.

    In the order of memory; or, of a tensor whose positions have several vectors, all first vectors of a position, then
    all second ones, and so on.

    Throughput: a vector a clock; where channels are fewer than lanes, n / channels clocks a vector.

    Members
    -------
    start : In(1)
        Begin; what is given stays as it is until the last vector.
    vectors : In(24)
        How many, at least 1.
    channels, of : In(16)
        Of a position: channels, and vectors, which are ``ceil(channels / n)``.
    by_channels : In(1)
        Channels first; only where `of` is above 1.
    o : Out(stream of `walked_vector`)
        Vectors.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "start": In(1),
            "vectors": In(_VECTORS_WIDTH),
            "channels": In(_CHANNEL_WIDTH),
            "of": In(_CHANNEL_WIDTH),
            "by_channels": In(1),
            "o": Out(stream.Signature(walked_vector(parameters))),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        n, o = self._parameters.lanes, self.o
        active = Signal()
        index = Signal(_VECTORS_WIDTH)
        position = Signal(_VECTORS_WIDTH)
        channel = Signal(_CHANNEL_WIDTH + 1)
        # Of a wide tensor: vectors of the position before this one.
        number = Signal(_CHANNEL_WIDTH)
        wide = named(m, "wide", self.channels >= n)
        rest = named(m, "rest", self.channels - channel)
        settled = named(m, "settled", wide | (channel < self.channels))
        following = named(m, "following", index + Mux(self.by_channels, self.of, 1))
        past = named(m, "past", following >= self.vectors)
        # Of what is given, which stays as it is.
        last_of = Signal.like(self.of, name="last_of")
        last_vector = Signal.like(self.vectors, name="last_vector")
        m.d.sync += [last_of.eq(self.of - 1), last_vector.eq(self.vectors - 1)]
        last_number = named(m, "last_number", (number == last_of) | (number == last_vector))
        m.d.comb += [
            o.valid.eq(active & settled),
            o.p.index.eq(index),
            o.p.position.eq(position),
            o.p.channel.eq(channel),
            o.p.number.eq(number),
            o.p.used.eq(Mux(wide & (rest < n), rest, n)),
            o.p.turns.eq(self.by_channels | (channel == 0)),
            o.p.end.eq(past & (~self.by_channels | last_number)),
        ]
        with m.If(o.valid & o.ready):
            m.d.sync += [index.eq(following), active.eq(~o.p.end)]
            with m.If(~wide):
                m.d.sync += channel.eq(channel + n)
            with m.Elif(Mux(self.by_channels, past, number != last_of)):
                m.d.sync += [channel.eq(channel + n), number.eq(number + 1)]
                with m.If(self.by_channels):
                    m.d.sync += [index.eq(number + 1), position.eq(0)]
            with m.Elif(self.by_channels):
                m.d.sync += position.eq(position + 1)
            with m.Else():
                m.d.sync += [channel.eq(0), number.eq(0), position.eq(position + 1)]
        with m.Elif(active & ~settled):
            m.d.sync += [channel.eq(channel - self.channels), position.eq(position + 1)]
        with m.If(self.start):
            m.d.sync += [active.eq(1), index.eq(0), position.eq(0), channel.eq(0), number.eq(0)]
        return m
