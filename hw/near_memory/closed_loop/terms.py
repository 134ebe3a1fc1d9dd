"""A sum of weighted terms, or a product of two, with one rounding: u elements a clock."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw import payloads
from hw.arith.bits import filled, or_tree
from hw.arith.rounding import amount_width, round_shift, shift_amount
from hw.near_memory.part import Part
from hw.stream import Stage

__all__ = ["FACTOR_WIDTH", "PLACES_WIDTH", "SPREAD", "TERMS", "Terms"]

TERMS = 3
"""Terms of a sum at most."""

FACTOR_WIDTH = 18
"""Bits of a factor: those of a multiplier."""

PLACES_WIDTH = 7
"""Bits of h, signed."""

SPREAD = 16
"""Places that the shifts of two terms differ by at most: the adder's width."""


class Terms(Part):
    """``RNE(sum of a_i Y_i 2^-h_i)``, or ``RNE(Y_1 x_2 2^-h)``: clamped, and clamped to limits of its own.

    ::

        Y1 --> * a1 --> << d1 --+
        x2 --> * a2 --> << d2 --+--> RNE --> clamp --> limits --> Y
        Y3 --> * a3 --> << d3 --+

    A poisoned term poisons; what is not used is 0. Throughput: one part per clock. Numerics: 12.14, 12.15.

    Members
    -------
    i : In(stream of `Terms.operands`)
        Elements of each term (0 where there is none), their factors.
    o : Out(stream of `Terms.results`)
        Y.
    product : In(1)
        Whether it is a product of the first two terms.
    shifts : In(array of 5 bits)
        d: by how much the places of each term are fewer than the most.
    places : In(7, signed)
        The most places, or those of the product.
    low, high : In
        Limits.
    overflow, poisoned : Out(1)
        Events: a sum was clamped, before its limits; an element is poisoned.
    """

    @staticmethod
    def operands(parameters: Parameters) -> data.StructLayout:
        """A part of each term, factors, lanes that are used."""
        u = parameters.near_lanes
        terms = data.ArrayLayout(data.ArrayLayout(signed(parameters.state_width), u), TERMS)
        factors = data.ArrayLayout(data.ArrayLayout(signed(FACTOR_WIDTH), u), TERMS)
        return data.StructLayout({"terms": terms, "factors": factors, "used": u, "last": 1, "end": 1})

    @staticmethod
    def results(parameters: Parameters) -> data.StructLayout:
        """A part of the result; `last` ends a vector, `end` the last one."""
        return data.StructLayout({**payloads.element_part(parameters).members, "end": 1})

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        state = signed(parameters.state_width)
        return {
            "i": In(stream.Signature(self.operands(parameters))),
            "o": Out(stream.Signature(self.results(parameters))),
            "product": In(1),
            "shifts": In(data.ArrayLayout(SPREAD.bit_length(), TERMS)),
            "places": In(signed(PLACES_WIDTH)),
            "low": In(state),
            "high": In(state),
            "overflow": Out(1),
            "poisoned": Out(1),
        }

    @property
    def _sum_width(self) -> int:
        width = self._parameters.state_width
        return width + max(width, FACTOR_WIDTH) + SPREAD + 2

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        width, i = self._parameters.state_width, self.i.p
        poison = -(1 << width - 1)
        amount = Signal(amount_width(self._sum_width, width), reset_less=True)
        m.d.sync += amount.eq(shift_amount(m, "places_amount", self.places, self._sum_width, width))

        s = Stage.begin(m, self.i)
        s.last, s.end = i.last, i.end
        lanes = []
        for lane in range(self._parameters.near_lanes):
            part = s.part(f"lane{lane}")
            terms = [i.terms[term][lane] for term in range(TERMS)]
            part.used = i.used[lane]
            part.lost = part.used & or_tree(term == poison for term in terms)
            part.terms = [Mux(term == poison, 0, term)[:width].as_signed() for term in terms]
            part.factors = [
                Mux(self.product, part.terms[1] if term == 0 else 0, i.factors[term][lane]).as_signed()
                for term in range(TERMS)
            ]

            part = part.cut()
            part.products = [term * factor for term, factor in zip(part.terms, part.factors, strict=True)]

            part = part.cut()
            part.shifted = [value << self.shifts[term] for term, value in enumerate(part.products)]

            part = part.cut()
            part.total = sum(part.shifted)[: self._sum_width].as_signed()

            part = part.cut()
            part = round_shift(part, part.total, amount, width).cut()
            part.result = Mux(part.rounded > self.high, self.high, Mux(part.rounded < self.low, self.low, part.rounded))
            lanes.append(part)
        s, lanes = s.join(lanes)
        values = [Mux(lane.used, Mux(lane.lost, poison, lane.result), 0)[:width].as_signed() for lane in lanes]
        m.d.comb += [
            self.overflow.eq(s.moves & or_tree(lane.clamped & lane.used for lane in lanes)),
            self.poisoned.eq(s.moves & or_tree(lane.lost for lane in lanes)),
        ]
        result = filled(m, "result", self.o.payload.shape(), values=values, last=s.last, end=s.end)
        s.finish(self.o, result, depth=s.cuts)
        return m
