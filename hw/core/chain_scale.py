"""Sums to deltas of an activation: times the norm of their channels, plus a shift by time, rounded once to FP16.

What is added up is fixed point of unit ``2^-26``: a shift is a multiple of ``2^-24``, and FP16 rounds at multiples of
``2^-25`` at the least. So one sticky bit says all of what a product has below that unit.
"""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw import payloads
from hw.arith.bits import filled, named, or_tree
from hw.arith.float import FLOAT16, Rules, round_and_pack
from hw.arith.rounding import shift_amount
from hw.arith.shift import Window, leading_zeros, shift_left
from hw.part import Part
from hw.stream import Pipelined, Stage

_RULES = Rules(overflow="clamp", zero="positive", non_finite="nan")

_UNIT = -26
"""Exponent of the unit that products and shifts are added in."""

_PRODUCT = 45
"""Bits of a product in that unit: from ``2^18`` on no shift keeps a sum within FP16."""

_SHIFT = 42
"""Bits of the magnitude of a shift in that unit."""


class ChainScale(Pipelined, Part):
    """``RNE16(sum 2^(unit-24) factor + shift)`` of u lanes a clock, clamped (``docs/machine.md``, `Multiply`).

    ::

        |sum| x significand of the factor --> shift --> + shift by time --> count zeros --> shift --> round and pack

    Latency: ``latency`` clocks. Throughput: one part per clock.

    Numerics: one rounding of the exact sum, ties to even; what FP16 cannot hold is clamped; an exact 0 is +0.

    Parameters
    ----------
    parameters : Parameters
        ``near_lanes``, ``accumulator_width`` and ``exponent_policy`` matter.

    Members
    -------
    i : In(stream of `payloads.chain_sums`)
        Sums, with the factors and shifts of their channels.
    o : Out(stream of `payloads.chain_part`)
        Deltas; NaN where a sum is poisoned, or a factor or a shift is no finite number.
    overflow, poisoned : Out(1)
        Events: a delta was clamped, is NaN.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "i": In(stream.Signature(payloads.chain_sums(parameters))),
            "o": Out(stream.Signature(payloads.chain_part(parameters))),
            "overflow": Out(1),
            "poisoned": Out(1),
        }

    def _describe(self, m: Module, platform: object) -> int:
        p, i = self._parameters, self.i.p
        s = Stage.begin(m, self.i)
        settings = [name for name in payloads.chain_part(p).members if name != "values"]
        for name in settings:
            s.make(name, i[name])
        s.unit = i.unit
        lanes = []
        for lane in range(p.near_lanes):
            operands: dict[str, Any] = {"total": i.sums[lane], "poisoned": i.poisoned[lane], "unit": i.unit}
            operands |= {"factor": i.factors[lane], "shift": i.shifts[lane]}
            lanes.append(_delta(s.instance(f"lane{lane}", **operands)))
        s, lanes = s.join(lanes)
        m.d.comb += [
            self.overflow.eq(s.moves & or_tree(lane.overflow for lane in lanes)),
            self.poisoned.eq(s.moves & or_tree(lane.poisoned for lane in lanes)),
        ]
        fields = {name: getattr(s, name) for name in settings}
        result = filled(m, "result", payloads.chain_part(p), values=[lane.value for lane in lanes], **fields)
        return s.finish(self.o, result, depth=s.cuts)


def _signed_significand(pattern: Value) -> Value:
    """Significand of an FP16 number, with its sign."""
    significand = FLOAT16.significand(pattern)
    return Mux(FLOAT16.sign(pattern), -significand, significand)[:12].as_signed()


def _delta(s: Stage) -> Stage:
    """One lane, from `total`, `poisoned`, `unit`, `factor` and `shift` to `value`, `overflow` and `poisoned`."""
    f = FLOAT16.fraction_width
    s.poisoned = s.poisoned | ~FLOAT16.is_finite(s.factor) | ~FLOAT16.is_finite(s.shift)
    s.significand = _signed_significand(s.factor)
    width = len(s.total) + 12
    # The unit of a product is 2^(unit - 24 + field - 25).
    right = named(s.m, "right", (49 + _UNIT - s.unit - FLOAT16.field(s.factor))[:10].as_signed())
    s.amount = shift_amount(s.m, "amount", right, width, _PRODUCT)

    s = s.cut()
    s.product = (s.total * s.significand)[:width].as_signed()

    s = s.cut()
    bits = len(s.amount)
    s.window = Window.of(s.m, "window", s.product, offset=width, width=_PRODUCT, amount_width=bits)
    s.window = s.window.shift(s.amount[4:bits], 16)

    s = s.cut()
    s.window = s.window.shift(s.amount[2:4], 4).shift(s.amount[:2])
    shift_field = named(s.m, "shift_field", FLOAT16.field(s.shift) - 1)
    shifts = shift_left(s.m, "shifted", Cat(Const(0, 2), _signed_significand(s.shift)).as_signed(), shift_field[:5], 43)
    s.added = shifts.as_signed()

    s = s.cut()
    s.sticky = s.window.guard | s.window.sticky
    s.huge, s.huge_sign = s.window.huge, s.window.sign
    s.sum = (s.window.floor + s.added)[: _PRODUCT + 1].as_signed()

    s = s.cut()
    s.negative = s.sum[-1]
    # A negative number that is not whole is one less than its floor's magnitude.
    s.magnitude = ((s.sum ^ s.negative.replicate(_PRODUCT + 1)) + (s.negative & ~s.sticky))[:_PRODUCT]

    s = s.cut()
    zeros = leading_zeros(s.m, "magnitude", s.magnitude)
    # A number whose highest bit stands for 2^-14 or more is normal.
    most = _PRODUCT - 1 + _UNIT + 14
    s.places = Mux(zeros > most, most, zeros)[: most.bit_length()]
    s.above = Mux(s.huge, 63, Mux(zeros > most, 0, most - zeros))[:6]

    s = s.cut()
    s.aligned = shift_left(s.m, "aligned", s.magnitude, s.places, _PRODUCT)

    s = s.cut()
    significand, below = s.aligned[-f - 1 :], s.aligned[: -f - 1]
    increment = below[-1] & (below[:-1].any() | s.sticky | significand[0])
    sign = Mux(s.huge, s.huge_sign, s.negative)
    above = Cat(s.above, Const(0, 1))
    result = {"sign": sign, "significand": significand, "increment": increment}
    round_and_pack(s, FLOAT16, _RULES, **result, above=above, nan=s.poisoned)
    return s
