"""Groups to words."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import POISONED_GROUP, Parameters
from hw import payloads
from hw.arith.bits import multiply_constant, or_tree
from hw.near_memory import layouts
from hw.near_memory.scoreboard import Scoreboard
from hw.part import Part


class Words(Part):
    """Cuts groups into words, starts vectors, asks for their state.

    Fixed-point state is asked for with a vector's last group, FP16 state with its first.

    Latency: none (combinational; a request leaves from a register). Throughput: one word per clock.

    Members
    -------
    i : In(stream of `payloads.near_memory_input`)
        Groups.
    claim : Out(stream)
        Slot of a vector that starts, for the `Scoreboard`.
    read_request : Out(stream of `payloads.near_memory_request`)
        Words wanted, in order.
    o : Out(stream of `layouts.word`)
        Words.
    """

    latency = 0

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "i": In(stream.Signature(payloads.near_memory_input(parameters))),
            "claim": Out(stream.Signature(range(Scoreboard.slots))),
            "read_request": Out(stream.Signature(payloads.near_memory_request(parameters))),
            "o": Out(stream.Signature(layouts.word(parameters))),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, i, o, request = self._parameters, self.i, self.o, self.read_request
        n_words = p.words_per_vector
        index, starts, ends = Signal(range(max(n_words, 2)), name="word"), Signal(init=1), Signal()
        saved = Signal(data.StructLayout({"refresh": 1, "address": payloads.address_width}), name="vector")
        vector = Signal.like(saved, name="vector_now")
        with m.If(starts):
            m.d.comb += [vector.refresh.eq(i.p.refresh), vector.address.eq(i.p.address)]
        with m.Else():
            m.d.comb += vector.eq(saved)

        first_word, free, reads, room, step = (
            Signal(name=name) for name in ("first_word", "free", "reads", "room", "step")
        )
        m.d.comb += [
            ends.eq(index == n_words - 1),
            first_word.eq(starts & (index == 0)),
            free.eq(~first_word | self.claim.ready),
            reads.eq((i.p.last if p.state_format == "fixed" else starts) & ~vector.refresh),
            room.eq(~reads | ~request.valid | request.ready),
            o.valid.eq(i.valid & free & room),
            step.eq(o.valid & o.ready),
            i.ready.eq(o.ready & free & room & ends),
            self.claim.valid.eq(i.valid & first_word & room & o.ready),
            self.claim.payload.eq(Scoreboard.slot(i.p.address)),
        ]
        with m.If(request.ready):
            m.d.sync += request.valid.eq(0)
        with m.If(step):
            m.d.sync += index.eq(Mux(ends, 0, index + 1))
            with m.If(reads):
                m.d.sync += [
                    request.valid.eq(1),
                    request.p.address.eq(multiply_constant(vector.address, n_words) + index),
                ]
            with m.If(ends):
                m.d.sync += [starts.eq(i.p.last), saved.eq(vector)]

        group = i.p.group
        m.d.comb += [
            o.p.first.eq(starts),
            o.p.final.eq(i.p.last),
            o.p.refresh.eq(vector.refresh),
            o.p.address.eq(vector.address),
            o.p.poisoned.eq(group.exponent == POISONED_GROUP),
            o.p.exponent.eq(group.exponent),
            o.p.digits.eq(group.digits.as_value().word_select(index, p.memory_lanes * p.digit_width)),
            o.p.bias.eq(i.p.bias.as_value().word_select(index, len(Value.cast(o.p.bias)))),
        ]
        if p.outliers:
            self._outliers(m, group.outliers, index)
        return m

    def _outliers(self, m: Module, slots: data.View, index: Signal) -> None:
        """Give each lane of the word its outlier."""
        p, o = self._parameters, self.o.p
        lanes = range(p.memory_lanes)
        offsets = []
        for position, slot in enumerate(slots):
            # Place of the outlier's lane in this word; anything out of 0..lanes-1 is another word's.
            offset = Signal(signed(p.lane_width + 1), name=f"offset{position}")
            m.d.comb += offset.eq(slot.lane - index * p.memory_lanes)
            offsets.append(offset)
        for lane in lanes:
            hits = Cat(slot.valid & (offset == lane) for slot, offset in zip(slots, offsets, strict=True))
            if p.outliers <= p.memory_lanes:
                # With fewer outliers than lanes it is cheaper to convert each outlier and choose afterwards.
                m.d.comb += o.hits[lane].eq(hits)
            else:
                chosen = or_tree(Mux(hit, slot.value, 0) for hit, slot in zip(hits, slots, strict=True))
                m.d.comb += [o.values[lane].eq(chosen), o.hits[lane].eq(hits.any() << lane)]
        if p.outliers <= p.memory_lanes:
            m.d.comb += [value.eq(slot.value) for value, slot in zip(o.values, slots, strict=True)]
