"""A sum of weighted terms, or a product of two, with one rounding: u elements of a term a clock."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw import payloads
from hw.arith.bits import choose, filled, or_tree
from hw.arith.rounding import amount_width, round_shift, shift_amount
from hw.part import Part
from hw.stream import Stage

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

        Y --> * a --> << d --> + --> RNE --> clamp --> limits --> Y
                               ^ |
                               '-'

    A poisoned term poisons; what is not used is 0. Throughput: a term of a part per clock. Numerics: 12.14, 12.15.

    Members
    -------
    i : In(stream of `Terms.operands`)
        Elements of the terms of a part, one term after the other, and their factors; of a product its two sides at
        once.
    o : Out(stream of `Terms.results`)
        Y.
    product : In(1)
        Whether factors are states, which may be poisoned.
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
        """A part of a term, its number and factors, lanes that are used; `complete` with the last term of a part."""
        u, width = parameters.near_lanes, parameters.state_width
        return data.StructLayout(
            {
                "values": data.ArrayLayout(signed(width), u),
                "factors": data.ArrayLayout(signed(max(width, FACTOR_WIDTH)), u),
                "term": range(TERMS),
                "complete": 1,
                "used": u,
                "last": 1,
                "end": 1,
            }
        )

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
        s.last, s.end, s.complete, s.first = i.last, i.end, i.complete, i.term == 0
        s.shift = choose(m, "shift", i.term, list(self.shifts))
        lanes = []
        for lane, (value, factor) in enumerate(zip(i["values"], i.factors, strict=True)):
            part = s.part(f"lane{lane}")
            part.used = i.used[lane]
            lost = (value == poison, self.product & (factor == poison))
            part.lost = part.used & or_tree(lost)
            part.value, part.factor = (
                Mux(spoiled, 0, one).as_signed() for spoiled, one in zip(lost, (value, factor), strict=True)
            )

            part = part.cut()
            part.product = part.value * part.factor

            part = part.cut()
            part.shifted = part.product << part.outer.shift

            # What there is of the sum; nothing before the first term.
            part = part.cut()
            first = part.outer.first
            summed, spoilt = Signal(signed(self._sum_width), name=f"sum{lane}"), Signal(name=f"spoilt{lane}")
            part.total = (Mux(first, 0, summed) + part.shifted)[: self._sum_width].as_signed()
            part.spoilt = part.lost | (spoilt & ~first)
            with m.If(part.moves):
                m.d.sync += [summed.eq(part.total), spoilt.eq(part.spoilt)]
            lanes.append(part)
        s, lanes = s.join(lanes)
        s.valid = s.valid & s.complete
        for lane, part in enumerate(lanes):
            part = round_shift(part.cut(), part.cut().total, amount, width).cut()
            part.result = Mux(part.rounded > self.high, self.high, Mux(part.rounded < self.low, self.low, part.rounded))
            lanes[lane] = part
        s, lanes = s.join(lanes)
        values = [Mux(lane.used, Mux(lane.spoilt, poison, lane.result), 0)[:width].as_signed() for lane in lanes]
        m.d.comb += [
            self.overflow.eq(s.moves & or_tree(lane.clamped & lane.used for lane in lanes)),
            self.poisoned.eq(s.moves & or_tree(lane.spoilt for lane in lanes)),
        ]
        result = filled(m, "result", self.o.payload.shape(), values=values, last=s.last, end=s.end)
        s.finish(self.o, result, depth=s.cuts)
        return m
