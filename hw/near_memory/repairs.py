"""Exact corrections of elements whose sign changed."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, connect, flipped

from golden.parameters import EXPONENT_WIDTH, Parameters
from hw import payloads
from hw.arith.bits import filled, named
from hw.near_memory import layouts
from hw.part import Part
from hw.stream import Fifo, Stage

_WAITING = 16
"""Words with flips that can wait for their repairs to leave."""


class Repairs(Part):
    """Queues words with flips and sends the new value of each flipped element as FP16, one a clock.

    Latency: that of the queue and 3 clocks (at most ``pipeline_depth``). Throughput: one element per clock.
    Numerics: rounded to nearest, ties to even; what FP16 cannot hold is clamped.

    Members
    -------
    i : In(stream of `layouts.flipped`)
        Words with flips.
    o : Out(stream of `payloads.near_memory_repair`)
        Their repairs.
    state_exponent : In(6)
        Code of the state's LSB, ``s + 24``.
    overflow : Out(1)
        A value is clamped in this clock.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "i": In(stream.Signature(layouts.flipped(parameters))),
            "o": Out(stream.Signature(payloads.near_memory_repair(parameters))),
            "state_exponent": In(EXPONENT_WIDTH),
            "overflow": Out(1),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        m.submodules.queue = queue = Fifo(layouts.flipped(self._parameters), _WAITING)
        connect(m, flipped(self.i), queue.i)
        s = self._one_by_one(m, queue.o)
        s = s.cut(2) if self._parameters.state_format == "float16" else self._rounded(s, m)
        # Without its sign, which the mask tells.
        result = filled(m, "repair", self.o.payload.shape(), address=s.address, lane=s.lane, value=s.value[:15])
        s.finish(self.o, result, depth=self._parameters.pipeline_depth)
        return m

    def _one_by_one(self, m: Module, words: stream.Interface) -> Stage:
        """The flipped elements of each word, lane 0 first."""
        p, w = self._parameters, words.p
        lanes, element = p.memory_lanes, payloads.state_element(p)
        layout = data.StructLayout({"address": payloads.address_width, "lane": p.lane_width, "value": element})
        single = stream.Signature(layout).create(path=("flip",))
        done, left, alone = Signal(lanes), Signal(lanes), Signal()
        m.d.comb += [
            left.eq(w.flips & ~done),
            alone.eq(~(left & (left - 1)[:lanes]).any()),
            single.valid.eq(words.valid),
            single.p.address.eq(w.address),
            words.ready.eq(single.ready & alone),
        ]
        for lane in reversed(range(lanes)):
            with m.If(left[lane]):
                m.d.comb += [single.p.lane.eq(w.word * lanes + lane), single.p.value.eq(w.data[lane])]
        with m.If(single.valid & single.ready):
            m.d.sync += done.eq(Mux(alone, 0, done | (left & -left)[:lanes]))
        s = Stage.begin(m, single)
        s.address, s.lane, s.value = single.p.address, single.p.lane, single.p.value
        return s

    def _rounded(self, s: Stage, m: Module) -> Stage:
        """The magnitude of a fixed-point `value` as FP16."""
        width, value = self._parameters.state_width, Value.cast(s.value)
        s.magnitude = Mux(value[-1], -value.as_signed(), value)[: width - 1]

        s = s.cut()
        # Left-justify; `place` is the position of the leading one, counted from the least FP16 subnormal's.
        top, place = s.magnitude, self.state_exponent + (width - 2)
        for step in (16, 8, 4, 2, 1):
            if step < width - 1:
                empty = ~top[-step:].any()
                top = named(m, f"top_by{step}", Mux(empty, (top << step)[: width - 1], top))
                place = place - Mux(empty, step, 0)
        s.top, s.place, s.small = top, place.as_signed(), (s.magnitude << self.state_exponent)[:10]

        s = s.cut()
        fraction, rest = s.top[-11:-1], s.top[:-11]
        up = rest[-1] & (rest[:-1].any() | fraction[0])
        # Below 2^10 of the least subnormal the integer itself is the pattern.
        small = (s.place < 10) | ~s.top[-1]
        rounded = Signal(18, name="rounded")
        m.d.comb += rounded.eq(Mux(small, s.small, Cat(fraction, (s.place - 9)[:7]) + up))
        beyond = rounded >= 0x7C00
        m.d.comb += self.overflow.eq(s.moves & beyond)
        s.value = Mux(beyond, 0x7BFF, rounded[:15])[:15]
        return s
