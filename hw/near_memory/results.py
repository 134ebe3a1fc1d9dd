"""Results to memory, masks and repairs."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw import payloads
from hw.arith.bits import multiply_constant
from hw.near_memory import layouts
from hw.near_memory.scoreboard import Scoreboard
from hw.part import Part


class Results(Part):
    """Gives each word to memory, each vector's mask to `o`, each word with flips to `flipped`.

    Latency: 1 clock. Throughput: one word per clock.

    Members
    -------
    i : In(stream of `layouts.result`)
        Words of new state, in order.
    write : Out(stream of `payloads.near_memory_write`)
        Words to write.
    o : Out(stream of `payloads.near_memory_mask`)
        One mask per vector.
    flipped : Out(stream of `layouts.flipped`)
        Words with flips; only with `flip_repair`.
    release : Out(stream)
        Slot of a vector that memory accepted, for the `Scoreboard`.
    overflow : Out(1)
        A word with clamped elements passes in this clock.
    """

    latency = 1

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        p = parameters
        flipped = {"flipped": Out(stream.Signature(layouts.flipped(p)))} if p.flip_repair else {}
        return {
            "i": In(stream.Signature(layouts.result(p))),
            "write": Out(stream.Signature(payloads.near_memory_write(p))),
            "o": Out(stream.Signature(payloads.near_memory_mask(p))),
            **flipped,
            "release": Out(stream.Signature(range(Scoreboard.slots), always_ready=True)),
            "overflow": Out(1),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, i, write, o = self._parameters, self.i, self.write, self.o
        n_words = p.words_per_vector
        index, end, step = Signal(range(max(n_words, 2)), name="word"), Signal(), Signal()
        room = (~write.valid | write.ready) & (~end | ~o.valid | o.ready)
        if p.flip_repair:
            flips = i.p.flips.any()
            m.d.comb += [
                self.flipped.valid.eq(i.valid & room & flips),
                self.flipped.p.word.eq(index),
                *(self.flipped.p[name].eq(i.p[name]) for name in ("address", "flips", "data")),
            ]
            room = room & (self.flipped.ready | ~flips)
        m.d.comb += [
            end.eq(index == n_words - 1),
            i.ready.eq(room),
            step.eq(i.valid & i.ready),
            self.overflow.eq(step & i.p.overflow),
        ]
        masks, write_end = Signal(p.lanes * p.mask_width), Signal()
        shifted = Cat(masks[p.memory_lanes * p.mask_width :], i.p.mask)
        with m.If(write.ready):
            m.d.sync += write.valid.eq(0)
        with m.If(o.ready):
            m.d.sync += o.valid.eq(0)
        with m.If(step):
            m.d.sync += [
                write.valid.eq(1),
                write.p.address.eq(multiply_constant(i.p.address, n_words) + index),
                write.p.data.eq(i.p.data),
                write_end.eq(end),
                self.release.payload.eq(Scoreboard.slot(i.p.address)),
                index.eq(Mux(end, 0, index + 1)),
                masks.eq(shifted),
            ]
            with m.If(end):
                m.d.sync += [o.valid.eq(1), o.p.address.eq(i.p.address), o.p.mask.eq(shifted)]
        m.d.comb += self.release.valid.eq(write.valid & write.ready & write_end)
        return m
