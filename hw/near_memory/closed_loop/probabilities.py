"""Probabilities of a softmax: scores, and what is known of their rows, to x."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw import payloads
from hw.arith.bits import filled, or_tree
from hw.arith.rounding import round_shift, shift_amount
from hw.near_memory.closed_loop import powers
from hw.near_memory.closed_loop.positions import position_part
from hw.part import Part
from hw.stream import Stage

RECIPROCAL_WIDTH = 17
"""Bits of V."""

_PLACES = 7
"""``x = T V 2^-(7 + n + L + s)``."""


def known_row(parameters: Parameters) -> data.StructLayout:
    """What a record of a row holds."""
    fields = {"largest": signed(parameters.state_width), "reciprocal": RECIPROCAL_WIDTH, "length": 6, "poisoned": 1}
    return data.StructLayout(fields)


class Probabilities(Part):
    """``x = RNE(T V 2^-(7 + n + L + s))`` with ``b = RNE((m - Y) R)``, its whole part n and T its fraction's power.

    ::

        m - Y --> * R --> RNE --> b --> table --> T --> * V --> 2^-(7 + n + L + s), RNE --> x

    A poisoned element, or one of a poisoned row, is poisoned; what a part does not use is 0.

    Throughput: one part per clock. Numerics: 12.9.

    Members
    -------
    root, exponent, result : In
        r and rho of R; s of x. Constant while parts are under way, and for a clock before them.
    rows : In(stream of `known_row`)
        Of each position, taken with its last part.
    i : In(stream of `position_part`)
        Scores.
    o : Out(stream of `payloads.element_part`)
        x, clamped to a state.
    fault : Out(1)
        Event: a score was above the largest of its row.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "root": In(powers.ROOT_WIDTH),
            "exponent": In(signed(8)),
            "result": In(signed(8)),
            "rows": In(stream.Signature(known_row(parameters))),
            "i": In(stream.Signature(position_part(parameters))),
            "o": Out(stream.Signature(payloads.element_part(parameters))),
            "fault": Out(1),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        w, i, row = self._parameters.state_width, self.i, self.rows
        joined = stream.Signature(i.payload.shape()).create(path=("joined",))
        m.d.comb += [
            joined.valid.eq(i.valid & row.valid),
            joined.payload.eq(i.payload),
            i.ready.eq(joined.ready & row.valid),
            row.ready.eq(joined.valid & joined.ready & i.p.ends),
        ]
        poison, amount = -(1 << w - 1), powers.argument_amount(m, self.exponent, w + 1)
        s = Stage.begin(m, joined)
        s.last, s.row = i.p.last, row.payload
        lanes, above = [], []
        for lane, element in enumerate(i.payload["values"]):
            part = s.part(f"lane{lane}")
            part.used, part.lost = i.p.used[lane], (element == poison) | row.p.poisoned
            part.below = Mux(part.lost, 0, row.p.largest - element)[: w + 1]
            above.append(part.used & ~part.lost & (element > row.p.largest))
            lanes.append(powers.argument(part, part.below, self.root, amount))
        m.d.comb += self.fault.eq(s.moves & or_tree(above))
        s, lanes = s.join(lanes)
        s, lanes = s.join([powers.power(lane, s.moves) for lane in lanes])
        s, lanes = s.join([self._rounded(s, lane) for lane in lanes])
        values = [Mux(lane.used, Mux(lane.lost, poison, lane.rounded), 0)[:w].as_signed() for lane in lanes]
        s.finish(self.o, filled(m, "x", self.o.payload.shape(), values=values, last=s.last), depth=s.cuts)
        return m

    def _rounded(self, s: Stage, lane: Stage) -> Stage:
        """x: `rounded`."""
        w, row = self._parameters.state_width, s.row
        lane.product = Cat(lane.power * row.reciprocal, Const(0, 1)).as_signed()
        lane.right = lane.whole + row.length + self.result + _PLACES
        lane = lane.cut()
        lane.places = shift_amount(lane.m, lane.label("places"), lane.right, len(lane.product), w)
        lane = lane.cut()
        return round_shift(lane, lane.product, lane.places, w)
