# amaranth: UnusedElaboratable=no
"""What joins an element of a state and what comes to it: ``Y' = clamp(Y + delta + bias)``."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import EXPONENT_WIDTH, Parameters
from hw.arith.bits import filled, named, or_tree
from hw.arith.shift import Window
from hw.near_memory.closed_loop.sums import changed_part
from hw.near_memory.closed_loop.transposer import block_part
from hw.near_memory.rows import Rows
from hw.part import Part
from hw.stream import Pipelined, Stage

SIGNIFICAND = 11
"""Bits of an FP16 number's significand."""

STARTS = ("add", "zero", "region")
"""What Y is before, by number."""

_TOTAL_WIDTH = 46
"""Bits that hold what the groups of a vector add to a lane: 8 passes below 2^41 each, and a replay."""


def bias_entry(parameters: Parameters) -> Any:
    """An entry of the bias, as far as it may go."""
    return signed(parameters.state_width + 1)


def term(parameters: Parameters) -> data.StructLayout:
    """What a joint vector, or a group, adds to a lane: ``value << step`` units of the state, or poison."""
    width = parameters.joint_width
    if parameters.masks:
        width = max(width, parameters.digit_width, SIGNIFICAND + 1 if parameters.outliers else 0)
    return data.StructLayout({"value": signed(width), "step": EXPONENT_WIDTH, "poisoned": 1})


def update(parameters: Parameters) -> data.StructLayout:
    """u elements of a vector, and what is added to them; lanes past `used` are padding.

    With the dataflow sign_mask, `more` marks a group that others of the same vector follow.
    """
    p, u = parameters, parameters.near_lanes
    more = {"more": 1} if p.masks else {}
    return data.StructLayout(
        {
            "delta": block_part(p, term(p)),
            "old": data.ArrayLayout(signed(p.state_width), u),
            "bias": data.ArrayLayout(bias_entry(p), u),
            "used": u,
            **more,
        }
    )


class Update(Pipelined, Part):
    """``Y' = clamp(Y + delta + bias)``, u elements a clock.

    ::

        delta --> shift | shift | shift --+--> + --> clamp --> new
        old, bias --> + ------------------+

    Of a vector that comes in several groups, these are added up first; its elements are those of the last group. If it
    is poisoned, all of them are.

    Throughput: one part a clock. Numerics: 12.2, 12.3; sums of groups are exact.

    Members
    -------
    i : In(stream of `update`)
        Elements as they were.
    o : Out(stream of `changed_part`)
        As they were and as they are.
    overflow, poisoned : Out(1)
        Events: an element was clamped, a delta poisoned one.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "i": In(stream.Signature(update(parameters))),
            "o": Out(stream.Signature(changed_part(parameters))),
            "overflow": Out(1),
            "poisoned": Out(1),
        }

    def _describe(self, m: Module, platform: object) -> int:
        p, delta = self._parameters, self.i.p.delta
        width = p.state_width
        poison, top = -(1 << (width - 1)), (1 << (width - 1)) - 1
        # A delta past what both others can take back clamps whatever they are; one past all groups, likewise.
        wide = _TOTAL_WIDTH if p.masks else width + 2
        s = Stage.begin(m, self.i)
        s.last, s.end, used = delta.last, delta.end, list(self.i.p.used)
        s.spoiled = [there & one.poisoned for there, one in zip(used, delta.values, strict=True)]
        if p.masks:
            s.more = self.i.p.more
        s.values = [Mux(there, one.value, 0).as_signed() for there, one in zip(used, delta.values, strict=True)]
        s.steps = [one.step for one in delta.values]
        s.old = [Mux(there, old, 0).as_signed() for there, old in zip(used, self.i.p.old, strict=True)]
        s.bias = [Mux(there, bias, 0).as_signed() for there, bias in zip(used, self.i.p.bias, strict=True)]

        s = s.cut()
        s.lost = [spoiled | (old == poison) for spoiled, old in zip(s.spoiled, s.old, strict=True)]
        s.before = [old + bias for old, bias in zip(s.old, s.bias, strict=True)]
        s.windows = [
            Window.of(m, f"delta{lane}", value, offset=0, width=wide, amount_width=EXPONENT_WIDTH)
            for lane, value in enumerate(s.values)
        ]
        for low in range(0, EXPONENT_WIDTH, 2):
            s.windows = [
                window.shift(step[low : low + 2], 1 << low) for window, step in zip(s.windows, s.steps, strict=True)
            ]
            s = s.cut()
        limit = (1 << (wide - 1)) - 1
        s.delta = [
            Mux(window.huge, Mux(window.sign, -limit, limit), window.floor)[:wide].as_signed() for window in s.windows
        ]
        if p.masks:
            s = self._total(m, s)

        s = s.cut()
        s.sums = [delta + before for delta, before in zip(s.delta, s.before, strict=True)]

        s = s.cut()
        high = [named(m, f"high{lane}", value > top) for lane, value in enumerate(s.sums)]
        low = [named(m, f"low{lane}", value < -top) for lane, value in enumerate(s.sums)]
        new = [
            Mux(lost, poison, Mux(above, top, Mux(below, -top, value)))[:width].as_signed()
            for lost, above, below, value in zip(s.lost, high, low, s.sums, strict=True)
        ]
        clamped = [(above | below) & ~lost for above, below, lost in zip(high, low, s.lost, strict=True)]
        m.d.comb += [
            self.overflow.eq(s.moves & or_tree(clamped)),
            self.poisoned.eq(s.moves & or_tree(s.spoiled)),
        ]
        fields = {"old": s.old, "new": new, "last": s.last, "end": s.end}
        return s.finish(self.o, filled(m, "result", self.o.payload.shape(), **fields), depth=p.pipeline_depth)

    def _total(self, m: Module, s: Stage) -> Stage:
        """Deltas of all groups of a vector; those that more follow go no further."""
        u, words = self._parameters.near_lanes, self._parameters.lanes // self._parameters.near_lanes
        m.submodules.totals = totals = Rows(data.ArrayLayout(signed(_TOTAL_WIDTH), u), words, ahead=True)
        goes_on = Signal()
        s.total = [
            (delta + Mux(goes_on, kept, 0))[:_TOTAL_WIDTH].as_signed()
            for delta, kept in zip(s.delta, totals.kept, strict=True)
        ]
        m.d.comb += [totals.step.eq(s.moves), totals.store.eq(s.moves)]
        m.d.comb += [row.eq(total) for row, total in zip(totals.row, s.total, strict=True)]
        with m.If(s.moves & s.last):
            m.d.sync += goes_on.eq(s.more)

        s = s.cut()
        s.delta = s.total
        s.valid = s.valid & ~s.more
        return s
