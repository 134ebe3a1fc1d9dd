"""Vectors of as many groups as addresses: replay groups make some longer, zero groups fill up the others."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from golden.parameters import ZERO_GROUP, Parameters
from hw import payloads
from hw.arith.bits import named
from hw.part import Part
from hw.units.delta_compressor import PASSES_WIDTH


class VectorFiller(Part):
    """Gives every vector the groups of all its addresses, on a machine that knows replay groups.

    A vector has ended when the group behind its last pass is no replay group: so a group waits for the one that follows
    it, unless it is the last one of its line.

    Throughput: one group per clock.

    Parameters
    ----------
    parameters : Parameters
        What shapes a group, with replay groups.

    Members
    -------
    i : In(stream of `payloads.stream_group`)
        Groups of vectors: `sent` + 1 that are no replays, and replays after each.
    sent, passes : In(3)
        Passes that were sent, and addresses of a vector, each minus 1.
    o : Out(stream of `payloads.stream_group`)
        `passes` + 1 groups for each vector; of one that has more, only so many, the last one included.
    full : Out(1)
        Sticky: a vector has more groups than addresses.
    wrong : Out(1)
        Event: a line ends in the midst of a vector, or a vector begins with a replay group.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        groups = stream.Signature(payloads.stream_group(parameters))
        return {
            "i": In(groups),
            "sent": In(PASSES_WIDTH),
            "passes": In(PASSES_WIDTH),
            "o": Out(groups),
            "full": Out(1),
            "wrong": Out(1),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        held, waits = Signal.like(self.i.payload), Signal()
        # Groups of the vector that are no replays, and addresses, before the one that is held.
        begun, address = Signal(PASSES_WIDTH + 1), Signal(PASSES_WIDTH)
        fills, ends_line = Signal(), Signal()
        replay = held.group.replay
        closes = named(m, "closes", held.last | ~self.i.p.group.replay)
        whole = named(m, "whole", closes & (begun - replay == self.sent))
        final = named(m, "final", address == self.passes)
        known = named(m, "known", waits & ~fills & (held.last | self.i.valid))
        # The last address is for the group that ends the vector.
        dropped = named(m, "dropped", known & final & ~whole & ~held.last)
        moves = named(m, "moves", dropped | (known & self.o.ready))
        m.d.comb += [
            self.i.ready.eq(~waits | moves),
            self.o.valid.eq(fills | (known & ~dropped)),
            self.o.payload.eq(held),
            self.o.p.last.eq(held.last & (final | ~whole)),
            self.wrong.eq(moves & ((held.last & ~whole) | (replay & ~begun.any()))),
        ]
        with m.If(fills):
            m.d.comb += [
                self.o.payload.eq(0),
                self.o.p.group.exponent.eq(ZERO_GROUP),
                self.o.p.last.eq(ends_line & final),
            ]
        with m.If(self.i.ready):
            m.d.sync += [waits.eq(self.i.valid), held.eq(self.i.payload)]
        with m.If(dropped):
            m.d.sync += self.full.eq(1)
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += address.eq(Mux(final, 0, address + 1))
        with m.If(moves):
            m.d.sync += [
                begun.eq(Mux(whole, 0, begun + ~replay)),
                fills.eq(whole & ~final),
                ends_line.eq(held.last),
            ]
        with m.Elif(fills & self.o.ready & final):
            m.d.sync += fills.eq(0)
        return m
