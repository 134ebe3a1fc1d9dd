"""The exact sum of a delta group's products, described into a pipeline.

The *frame* is the fixed-point format all products of a group share: LSB ``2^-24`` times that of the weights. The
*window* is what the accumulator sees of the sum once it is shifted to its own LSB.
"""

import dataclasses
from collections.abc import Sequence

from amaranth.hdl import Array, Cat, Const, Module, Value
from amaranth.lib import data

from golden.parameters import Parameters
from hw.arith.leaves import leaf_target
from hw.arith.shift import saturate_amount, shift_left
from hw.arith.sums import Term, add_terms, plane_product
from hw.stream import Stage, count_cuts
from hw.units.float_multiplier import split_value
from hw.units.int_float_multiplier import split_digit, split_weight

_FRAME_LSB = -24
_FINE = (1, 2, 4)  # weights shifted by in the first half of a shifter


@dataclasses.dataclass(frozen=True)
class Slot:
    """An outlier slot, its value taken apart as `split_value` does."""

    sign: Value
    exponent: Value
    significand: Value
    lane: Value


@dataclasses.dataclass(frozen=True)
class Factors:
    """What the sum of a group is made of.

    Attributes
    ----------
    digits : list of (Value, Value)
        Sign and magnitude of each lane's digit.
    exponent : Value
        Code of the group's exponent.
    slots : list of Slot
        Its outliers.
    weights : list of Value
        Of the lanes.
    scale : Value, optional
        Of the weights.
    amount : Value, optional
        In place of the scale, where there are outliers: its `GroupSum.scale_amount`.
    """

    digits: list[tuple[Value, Value]]
    exponent: Value
    slots: list[Slot]
    weights: list[Value]
    scale: Value | None = None
    amount: Value | None = None

    @classmethod
    def of(cls, group: data.View, weights: Sequence[Value], scale: Value) -> "Factors":
        """Of a delta group, `payloads.delta_group`, and weights."""
        slots = []
        if "outliers" in group.shape().members:
            slots = [Slot(*split_value(slot.value), slot.lane) for slot in group.outliers]
        return cls([split_digit(digit) for digit in group.digits], group.exponent, slots, list(weights), scale)


class GroupSum:
    """Describes the sum of a group's products: exact, and short of a shift.

    Parameters
    ----------
    parameters : Parameters
        Uses all that shape a delta group or a weight, and ``accumulator_width``.
    platform : object
        Chooses the leaves.
    """

    def __init__(self, parameters: Parameters, platform: object):
        self.parameters, self.platform = parameters, platform

    @property
    def weight_limit(self) -> int:
        """Largest magnitude of a weight's integer."""
        p = self.parameters
        if p.weight_form == "aligned":
            return (1 << p.fraction_bits + 1) - 1
        return ((1 << p.weight_mantissa_width) - 1) << p.weight_exponent_max - p.weight_exponent_min

    @property
    def _weight_shift_width(self) -> int:
        p = self.parameters
        return (p.weight_exponent_max - p.weight_exponent_min).bit_length()

    def _weight_shift(self, exponent: Value) -> Value:
        """How far a float weight's significand stands above the declared LSB; free for a weight of 0."""
        p = self.parameters
        return (exponent - (p.weight_bias + p.weight_exponent_min))[: self._weight_shift_width]

    def inliers(self, s: Stage, factors: Factors) -> Stage:
        """Sum of digits times weights: `total`."""
        p = self.parameters
        aligned = p.weight_form == "aligned"
        inverted = aligned and (leaf_target(self.platform) == "generic" or p.digit_width == 2)
        lanes = []
        for lane, ((sign, planes), weight) in enumerate(zip(factors.digits, factors.weights, strict=True)):
            part = s.part(f"lane{lane}")
            if aligned:
                lanes.append(
                    plane_product(part, self.platform, weight, self.weight_limit, planes, sign, inverted=inverted)
                )
            else:
                lanes.append(self._shifted_product(part, weight, planes, sign))
        s, lanes = s.join(lanes)
        limit = self.weight_limit * p.digit_max
        return add_terms(s, self.platform, [Term(lane.value, limit, lane.flip, inverted) for lane in lanes])

    def _shifted_product(self, s: Stage, weight: Value, planes: Value, sign: Value) -> Stage:
        """Product with a float weight, in its place above the declared LSB: `value` and `flip`."""
        p = self.parameters
        weight_sign, exponent, significand = split_weight(weight, p)
        s.flip, s.shift = sign ^ weight_sign, self._weight_shift(exponent)
        limit = (1 << p.weight_mantissa_width) - 1
        product = plane_product(
            s.part("product"), self.platform, significand, limit, planes, Const(0, 1), inverted=False
        )
        s, (product,) = s.join([product])
        width = (self.weight_limit * p.digit_max).bit_length() + 1
        return _shift_in_two(s, product.value, s.shift, width, s.flip)

    def _outlier(self, s: Stage, slot: Slot, weights: Sequence[Value], *, inverted: bool, spare: int) -> Stage:
        """An outlier times the weight of its lane, in its place above the frame's LSB: `value` and `flip`."""
        p = self.parameters
        s.sign, s.exponent, s.x = slot.sign, slot.exponent, slot.significand
        s.weight = Array(weights)[slot.lane]

        s = s.cut()
        if p.weight_form == "aligned":
            s.flip, s.shift, s.factor = s.sign, (s.exponent - 1)[:5], s.weight.as_signed()
        else:
            weight_sign, weight_exponent, s.factor = split_weight(s.weight, p)
            shift = s.exponent - 1 + self._weight_shift(weight_exponent)
            s.flip, s.shift = s.sign ^ weight_sign, shift[: self._shift_limit.bit_length()]
            s = s.cut()
        # A multiplier block stands far from the logic before and after it: what time there is goes to these wires.
        before = (spare + 1) // 2
        s = s.cut(before)
        product = s.x * s.factor
        s.product = product if p.weight_form == "aligned" else Cat(product, Const(0, 1)).as_signed()
        s = s.cut(spare - before + 1)
        product = s.product
        if inverted:
            product = (product.as_unsigned() ^ s.flip.replicate(len(product))).as_signed()
        return _shift_in_two(s, product, s.shift, self._outlier_limit.bit_length() + 1, s.flip, inverted=inverted)

    @property
    def _shift_limit(self) -> int:
        """Largest shift of a product of an outlier and a float weight."""
        p = self.parameters
        return 29 + p.weight_exponent_max - p.weight_exponent_min

    @property
    def _outlier_limit(self) -> int:
        return 2047 * self.weight_limit << 29

    @property
    def _inlier_limit(self) -> int:
        return self.weight_limit * self.parameters.digit_max * self.parameters.lanes

    def _outliers(self, s: Stage, factors: Factors, *, spare: int = 0) -> Stage:
        """Sum of outliers times weights: `total`; its parts take `spare` cuts more than they need."""
        # Inverting costs least on the product, unless it is free in the adders.
        inverted, weights = leaf_target(self.platform) == "generic", factors.weights
        s, slots = s.join(
            [
                self._outlier(s.part(f"slot{index}"), slot, weights, inverted=inverted, spare=spare)
                for index, slot in enumerate(factors.slots)
            ]
        )
        return add_terms(
            s, self.platform, [Term(slot.value, self._outlier_limit, slot.flip, inverted) for slot in slots]
        )

    def _framed_inliers(self, s: Stage, factors: Factors) -> Stage:
        """The inliers' sum times its group's power of two: `value` and `flip`."""
        s.exponent = factors.exponent
        s = self.inliers(s, factors)
        # Codes past the largest exponent belong to groups whose sum is 0.
        width = self._framed_limit.bit_length() + 1
        return _shift_in_two(s, s.total.value, s.exponent, width, s.total.flip, inverted=True)

    @property
    def _framed_limit(self) -> int:
        return self._inlier_limit << self.parameters.exponent_max - _FRAME_LSB

    def describe(self, s: Stage, factors: Factors) -> Stage:
        """The exact sum in accumulator LSBs, ``(total.value + total.flip) * 2^(amount - offset)``.

        Parameters
        ----------
        s : Stage
            Where the factors are.
        factors : Factors
            Of the group.

        Returns
        -------
        Stage
            With ``total``, a `Term`, and ``amount``.
        """
        if factors.amount is not None:
            s.amount = factors.amount
        else:
            s.raw = self._raw_amount(factors.scale, factors.exponent)
            # The amount is added and saturated in clocks of their own, beside the sum.
            later = s.cut()
            later.amount = saturate_amount(later.m, "amount", later.raw, self.amount_width)
        if not self.parameters.outliers:
            return self.inliers(s, factors)
        inliers = self._framed_inliers(s.part("inliers"), factors)
        needed = count_cuts(lambda trial: self._outliers(trial, factors))
        spare = max(inliers.cuts - s.cuts - needed, 0)
        outliers = self._outliers(s.part("outliers"), factors, spare=spare)
        s, (inliers, outliers) = s.join([inliers, outliers])
        framed = Term(inliers.value, self._framed_limit, inliers.flip, inverted=True)
        return add_terms(s, self.platform, [framed, outliers.total])

    def scale_amount(self, m: Module, scale: Value) -> Value:
        """How far a sum is shifted, where there are outliers: it depends on nothing but the scale."""
        return saturate_amount(m, "amount", self._raw_amount(scale, Const(0, 1)), self.amount_width)

    def _raw_amount(self, scale: Value, exponent: Value) -> Value:
        if self.parameters.outliers:
            return scale + (_FRAME_LSB + self.offset)
        # The group's exponent code is biased by 24, and so is the amount if the offset is as much.
        raw = exponent + scale
        return raw if self.offset == -_FRAME_LSB else raw + (_FRAME_LSB + self.offset)

    @property
    def offset(self) -> int:
        """Amount at which the sum's LSB is that of the accumulator: below it stand all bits below the half."""
        width = self._sum_width
        return width if self.parameters.outliers else max(width, -_FRAME_LSB)

    @property
    def amount_width(self) -> int:
        """Bits of an amount, enough for "all bits above the accumulator"."""
        return (self.offset + self.parameters.accumulator_width).bit_length()

    @property
    def _sum_width(self) -> int:
        if not self.parameters.outliers:
            return self._inlier_limit.bit_length() + 1
        return (self._framed_limit + self._outlier_limit * self.parameters.outliers).bit_length() + 1


def _shift_in_two(s: Stage, value: Value, amount: Value, width: int, flip: Value, *, inverted: bool = False) -> Stage:
    """``value << amount``, `width` bits signed, with cuts in the middle and at the end; `inverted` as in `Term`."""
    half = (len(amount) + 1) // 2
    s.placed, s.amount, s.flip = value, amount, flip
    for bits, first in ((slice(None, half), 0), (slice(half, None), half)):
        fill = s.flip if inverted else None
        s.placed = shift_left(s.m, s.label("placed"), s.placed, s.amount[bits], width, first=first, fill=fill)
        s = s.cut()
    s.value = s.placed
    return s
