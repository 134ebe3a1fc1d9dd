"""One PE of the array: a delta group times n weights, summed exactly, rounded once into an accumulator.

The *frame* is the fixed-point format all products of a group share: LSB ``2^-24`` times that of the weights. The
*window* is what the accumulator sees of the sum once it is shifted to its own LSB.
"""

from collections.abc import Sequence

from amaranth.hdl import Array, Cat, Const, Module, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import POISONED_GROUP, Parameters
from hw import payloads
from hw.arith.accumulate import round_and_accumulate
from hw.arith.leaves import leaf_target
from hw.arith.shift import saturate_amount, shift_left
from hw.arith.sums import Term, add_terms, plane_product
from hw.stream import Stage, count_cuts
from hw.units.float_multiplier import split_value
from hw.units.int_float_multiplier import split_digit, split_weight
from hw.units.unit import PipelinedUnit

__all__ = ["MultiplierGroup"]

_FRAME_LSB = -24
_FINE = (1, 2, 4)  # weights shifted by in the first half of a shifter


class MultiplierGroup(PipelinedUnit):
    """Sums the products of a delta group and n weights, and accumulates the sums (``docs/numerics.md`` section 7).

    ::

        digits, weights --> gate and add --> tree --.
                                                    +--> frame --> shift by scale --> round and accumulate --> o
        outliers --> pick weight --> multiply ------'

    Without outliers the frame is skipped: group exponent and scale make one shift. Signs are flips on the adders'
    inputs (see `hw.arith.sums`), the last of them at the accumulator.

    Latency: one clock per stage, see `latency`. Throughput: one group per clock.

    Numerics: the sum of a group is exact; it is rounded once, ties to even, to the accumulator's LSB and added exactly.

    Parameters
    ----------
    parameters : Parameters
        Uses all that shape a delta group or a weight, ``accumulator_width`` and ``pipeline_depth``.

    Members
    -------
    i : In(stream)
        ``payloads.multiplier_group_input``.
    o : Out(stream)
        ``payloads.sum_with_poison``, one for each group marked ``last``.
    clear : In(1)
        Clears `overflow` and `poisoned`, unless their event happens in the same clock.
    overflow : Out(1)
        Sticky: the accumulator was clamped.
    poisoned : Out(1)
        Sticky: a poisoned group came.
    """

    name = "multiplier_group"
    summary = "delta group x n weights, exact sum, rounded into an accumulator"

    def _members(self, parameters: Parameters) -> dict:
        return {
            "i": In(stream.Signature(payloads.multiplier_group_input(parameters))),
            "o": Out(stream.Signature(payloads.sum_with_poison(parameters))),
            "clear": In(1),
            "overflow": Out(1),
            "poisoned": Out(1),
        }

    @property
    def throughput(self) -> str:
        """Payloads per clock, in words."""
        return "one group per clock"

    def _describe(self, m: Module, platform: object) -> int:
        p, payload = self.parameters, self.i.p
        s = Stage.begin(m, self.i)
        s.first, s.last, s.poison = payload.first, payload.last, payload.group.exponent == POISONED_GROUP
        s = self._sum(s, platform, payload)
        value, flip, (offset, _) = s.total.value, s.total.flip, self._amount
        result = round_and_accumulate(
            s, platform, value=value, flip=flip, amount=s.amount, offset=offset, width=p.accumulator_width
        )
        self._stick(m, overflow=result.clamped, poisoned=result.poison)
        s = result.stage
        return s.finish(self.o, Cat(s.sum, s.poisoned), depth=p.pipeline_depth)

    # The exact sum --------------------------------------------------------------------------------------------------

    @property
    def _weight_limit(self) -> int:
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

    def _inliers(self, s: Stage, platform: object, payload: data.View) -> Stage:
        """Sum of digits times weights: `total`."""
        p = self.parameters
        aligned = p.weight_form == "aligned"
        inverted = aligned and (leaf_target(platform) == "generic" or p.digit_width == 2)
        lanes = []
        for lane, (digit, weight) in enumerate(zip(payload.group.digits, payload.weights, strict=True)):
            part, (sign, planes) = s.part(f"lane{lane}"), split_digit(digit)
            if aligned:
                lanes.append(plane_product(part, platform, weight, self._weight_limit, planes, sign, inverted=inverted))
            else:
                lanes.append(self._shifted_product(part, platform, weight, planes, sign))
        s, lanes = s.join(lanes)
        limit = self._weight_limit * p.digit_max
        return add_terms(s, platform, [Term(lane.value, limit, lane.flip, inverted) for lane in lanes])

    def _shifted_product(self, s: Stage, platform: object, weight: Value, planes: Value, sign: Value) -> Stage:
        """Product with a float weight, in its place above the declared LSB: `value` and `flip`."""
        p = self.parameters
        weight_sign, exponent, significand = split_weight(weight, p)
        s.flip, s.shift = sign ^ weight_sign, self._weight_shift(exponent)
        limit = (1 << p.weight_mantissa_width) - 1
        product = plane_product(s.part("product"), platform, significand, limit, planes, Const(0, 1), inverted=False)
        s, (product,) = s.join([product])
        width = (self._weight_limit * p.digit_max).bit_length() + 1
        return _shift_in_two(s, product.value, s.shift, width, s.flip)

    def _outlier(self, s: Stage, slot: data.View, weights: Sequence[Value], *, inverted: bool, spare: int) -> Stage:
        """An outlier times the weight of its lane, in its place above the frame's LSB: `value` and `flip`."""
        p = self.parameters
        s.sign, s.exponent, s.x = split_value(slot.value)
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
        return 2047 * self._weight_limit << 29

    @property
    def _inlier_limit(self) -> int:
        return self._weight_limit * self.parameters.digit_max * self.parameters.lanes

    def _outliers(self, s: Stage, platform: object, payload: data.View, *, spare: int = 0) -> Stage:
        """Sum of outliers times weights: `total`; its parts take `spare` cuts more than they need."""
        # Inverting costs least on the product, unless it is free in the adders.
        inverted, weights = leaf_target(platform) == "generic", list(payload.weights)
        s, slots = s.join(
            [
                self._outlier(s.part(f"slot{index}"), slot, weights, inverted=inverted, spare=spare)
                for index, slot in enumerate(payload.group.outliers)
            ]
        )
        return add_terms(s, platform, [Term(slot.value, self._outlier_limit, slot.flip, inverted) for slot in slots])

    def _framed_inliers(self, s: Stage, platform: object, payload: data.View) -> Stage:
        """The inliers' sum times its group's power of two: `value` and `flip`."""
        s.exponent = payload.group.exponent
        s = self._inliers(s, platform, payload)
        # Codes past the largest exponent belong to groups whose sum is 0.
        width = self._framed_limit.bit_length() + 1
        return _shift_in_two(s, s.total.value, s.exponent, width, s.total.flip, inverted=True)

    @property
    def _framed_limit(self) -> int:
        return self._inlier_limit << self.parameters.exponent_max - _FRAME_LSB

    def _sum(self, s: Stage, platform: object, payload: data.View) -> Stage:
        """The exact sum in accumulator LSBs, ``(total.value + total.flip) * 2^(amount - offset)``."""
        p, (offset, amount_width) = self.parameters, self._amount
        if p.outliers:
            s.raw = payload.scale + (_FRAME_LSB + offset)
        else:
            # The group's exponent code is biased by 24, and so is the amount if the offset is as much.
            s.raw = payload.group.exponent + payload.scale
            if offset != -_FRAME_LSB:
                s.raw = s.raw + (_FRAME_LSB + offset)
        # The amount is added and saturated in clocks of their own, beside the sum.
        later = s.cut()
        later.amount = saturate_amount(later.m, "amount", later.raw, amount_width)
        if not p.outliers:
            return self._inliers(s, platform, payload)
        inliers = self._framed_inliers(s.part("inliers"), platform, payload)
        needed = count_cuts(lambda trial: self._outliers(trial, platform, payload))
        spare = max(inliers.cuts - s.cuts - needed, 0)
        outliers = self._outliers(s.part("outliers"), platform, payload, spare=spare)
        s, (inliers, outliers) = s.join([inliers, outliers])
        framed = Term(inliers.value, self._framed_limit, inliers.flip, inverted=True)
        return add_terms(s, platform, [framed, outliers.total])

    @property
    def _sum_width(self) -> int:
        if not self.parameters.outliers:
            return self._inlier_limit.bit_length() + 1
        return (self._framed_limit + self._outlier_limit * self.parameters.outliers).bit_length() + 1

    @property
    def _amount(self) -> tuple[int, int]:
        """Offset and width of the shift amount: from "all bits below the half" to "all bits above the accumulator"."""
        width, window = self._sum_width, self.parameters.accumulator_width
        offset = max(width, -_FRAME_LSB) if not self.parameters.outliers else width
        return offset, (offset + window).bit_length()


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
