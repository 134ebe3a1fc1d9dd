"""One PE of the array: a delta group times n weights, summed exactly, rounded once into an accumulator.

The *frame* is the fixed-point format all products of a group share: LSB ``2^-24`` times that of the weights. The
*window* is what the accumulator sees of the sum once it is shifted to its own LSB.
"""

from amaranth.hdl import Array, Cat, Const, Module, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from golden.parameters import POISONED_GROUP, Parameters
from hw import payloads
from hw.arith.accumulate import ACCUMULATE_CUTS, round_and_accumulate
from hw.arith.bits import named
from hw.arith.leaves import leaf_target
from hw.arith.path import Path, parallel, run, wait
from hw.arith.shift import saturate_amount, shift_left
from hw.arith.sums import Term, add_terms, levels, plane_product, product_levels
from hw.stream import Pipeline
from hw.units.float_multiplier import split_value
from hw.units.int_float_multiplier import split_digit, split_weight
from hw.units.unit import Unit

__all__ = ["MultiplierGroup"]

_FRAME_LSB = -24
_FINE = (1, 2, 4)  # weights shifted by in the first half of a shifter


class MultiplierGroup(Unit):
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
    def latency(self) -> int:
        """Clocks from an accepted group to the sum it causes."""
        return min(self._cuts, self.parameters.pipeline_depth)

    @property
    def throughput(self) -> str:
        """Payloads per clock, in words."""
        return "one group per clock"

    @property
    def _cuts(self) -> int:
        if not self.parameters.outliers:
            return self._inlier_cuts + ACCUMULATE_CUTS
        return max(self._inlier_cuts, self._outlier_cuts) + 1 + ACCUMULATE_CUTS

    @property
    def _inlier_cuts(self) -> int:
        p = self.parameters
        return (
            product_levels(p.digit_width - 1) + levels(p.lanes) + 2 * (p.weight_form == "float") + 2 * (p.outliers > 0)
        )

    @property
    def _outlier_cuts(self) -> int:
        p = self.parameters
        return 4 + (p.weight_form == "float") + levels(p.outliers)

    @property
    def _spare_cuts(self) -> int:
        """Cuts for which the outliers would wait for the inliers."""
        return max(self._inlier_cuts - self._outlier_cuts, 0)

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

    def _inliers(self, m: Module, platform: object, payload) -> Path:
        p = self.parameters
        n = p.lanes
        digits = [split_digit(payload.group.digits[lane]) for lane in range(n)]
        if p.weight_form == "aligned":
            inverted = leaf_target(platform) == "generic" or p.digit_width == 2
            signs = [sign for sign, _ in digits]
        else:
            inverted = False
            weights = [split_weight(payload.weights[lane], p) for lane in range(n)]
            signs = [sign ^ weight_sign for (sign, _), (weight_sign, _, _) in zip(digits, weights, strict=True)]
        paths = {}
        for lane, (_, planes) in enumerate(digits):
            name = f"lane{lane}"
            if p.weight_form == "aligned":
                paths[name] = plane_product(
                    m,
                    platform,
                    name,
                    payload.weights[lane],
                    self._weight_limit,
                    planes,
                    signs[lane],
                    inverted=inverted,
                )
            else:
                paths[name] = self._shifted_product(m, platform, name, weights[lane], planes, signs[lane])
        products = yield from parallel(**paths)
        terms = [
            Term(product["value"], self._weight_limit * p.digit_max, product["flip"], inverted)
            for product in (products[f"lane{lane}"] for lane in range(n))
        ]
        return (yield from add_terms(m, platform, "tree", terms))

    def _shifted_product(self, m, platform, name, weight, planes, flip) -> Path:
        p = self.parameters
        _, exponent, significand = weight
        shift = self._weight_shift(exponent)
        limit = (1 << p.weight_mantissa_width) - 1
        products = yield from parallel(
            shift=wait(0, amount=shift, flip=flip),
            product=plane_product(m, platform, name, significand, limit, planes, Const(0, 1), inverted=False),
        )
        width = (self._weight_limit * p.digit_max).bit_length() + 1
        result = yield from _shift_in_two(
            m,
            f"{name}_placed",
            products["product"]["value"],
            products["shift"]["amount"],
            width,
            products["shift"]["flip"],
        )
        return result

    def _outlier(self, m: Module, payload, index: int, *, inverted: bool) -> Path:
        p = self.parameters
        slot = payload.group.outliers[index]
        sign, exponent, significand = split_value(slot.value)
        weights = Array(payload.weights[lane] for lane in range(p.lanes))
        s = yield {"sign": sign, "exponent": exponent, "x": significand, "weight": weights[slot.lane]}
        s["weight"] = s["weight"].as_signed() if p.weight_form == "aligned" else s["weight"]
        if p.weight_form == "aligned":
            weight, flip, shift = s["weight"], s["sign"], s["exponent"] - 1
            shift = shift[:5]
        else:
            weight_sign, weight_exponent, weight = split_weight(s["weight"], p)
            flip = s["sign"] ^ weight_sign
            shift = s["exponent"] - 1 + self._weight_shift(weight_exponent)
            shift = shift[: (29 + p.weight_exponent_max - p.weight_exponent_min).bit_length()]
            s = yield {"flip": flip, "shift": shift, "x": s["x"], "weight": weight}
            flip, shift, weight = s["flip"], s["shift"], s["weight"]
        # A multiplier block stands far from the logic before and after it: what time there is goes to these wires.
        before = (self._spare_cuts + 1) // 2
        s = yield from wait(before, flip=flip, shift=shift, x=s["x"], weight=weight)
        product = s["x"] * (s["weight"].as_signed() if p.weight_form == "aligned" else s["weight"])
        if p.weight_form == "float":
            product = Cat(product, Const(0, 1)).as_signed()
        s = yield from wait(self._spare_cuts - before + 1, flip=s["flip"], shift=s["shift"], product=product)
        flip, product = s["flip"], s["product"]
        if inverted:
            product = (product.as_unsigned() ^ flip.replicate(len(product))).as_signed()
        width = self._outlier_limit.bit_length() + 1
        return (
            yield from _shift_in_two(m, f"outlier{index}_placed", product, s["shift"], width, flip, inverted=inverted)
        )

    @property
    def _outlier_limit(self) -> int:
        return 2047 * self._weight_limit << 29

    @property
    def _inlier_limit(self) -> int:
        return self._weight_limit * self.parameters.digit_max * self.parameters.lanes

    def _outliers(self, m: Module, platform: object, payload) -> Path:
        count = self.parameters.outliers
        # Inverting costs least on the product, unless it is free in the adders.
        inverted = leaf_target(platform) == "generic"
        found = yield from parallel(
            **{f"outlier{index}": self._outlier(m, payload, index, inverted=inverted) for index in range(count)}
        )
        terms = [
            Term(placed["value"], self._outlier_limit, placed["flip"], inverted)
            for placed in (found[f"outlier{index}"] for index in range(count))
        ]
        return (yield from add_terms(m, platform, "outliers", terms))

    def _framed_inliers(self, m: Module, platform: object, payload) -> Path:
        p = self.parameters
        found = yield from parallel(
            code=wait(0, exponent=payload.group.exponent), total=self._inliers(m, platform, payload)
        )
        # Codes past the largest exponent belong to groups whose sum is 0.
        width = (self._inlier_limit << p.exponent_max - _FRAME_LSB).bit_length() + 1
        total = found["total"]
        return (
            yield from _shift_in_two(
                m, "inliers_placed", total["value"], found["code"]["exponent"], width, total["flip"], inverted=True
            )
        )

    def _sum(self, m: Module, platform: object, payload) -> Path:
        """The exact sum: ``(value + flip) * 2^(amount - offset)`` in accumulator LSBs."""
        p = self.parameters
        offset, amount_width = self._amount
        if not p.outliers:
            # The group's exponent code is biased by 24, and so is the amount if the offset is as much.
            raw = named(m, "raw_amount", payload.group.exponent + payload.scale)
            if offset != -_FRAME_LSB:
                raw = named(m, "biased_amount", raw + (_FRAME_LSB + offset))
            found = yield from parallel(
                amount=_saturated(m, raw, amount_width), total=self._inliers(m, platform, payload)
            )
            return {**found["amount"], **found["total"]}
        raw = named(m, "raw_amount", payload.scale + (_FRAME_LSB + offset))
        found = yield from parallel(
            amount=_saturated(m, raw, amount_width),
            inliers=self._framed_inliers(m, platform, payload),
            outliers=self._outliers(m, platform, payload),
        )
        inliers, outliers = found["inliers"], found["outliers"]
        frame_limit = self._inlier_limit << p.exponent_max - _FRAME_LSB
        inverted = leaf_target(platform) == "generic" or p.outliers > 1
        terms = [
            Term(inliers["value"], frame_limit, inliers["flip"], inverted=True),
            Term(outliers["value"], self._outlier_limit * p.outliers, outliers["flip"], inverted),
        ]
        total = yield from parallel(amount=wait(0, **found["amount"]), total=add_terms(m, platform, "frame", terms))
        return {**total["amount"], **total["total"]}

    @property
    def _sum_width(self) -> int:
        p = self.parameters
        limit = self._inlier_limit
        if p.outliers:
            limit = (limit << p.exponent_max - _FRAME_LSB) + self._outlier_limit * p.outliers
        return limit.bit_length() + 1

    @property
    def _amount(self) -> tuple[int, int]:
        """Offset and width of the shift amount: from "all bits below the half" to "all bits above the accumulator"."""
        width, window = self._sum_width, self.parameters.accumulator_width
        offset = max(width, -_FRAME_LSB) if not self.parameters.outliers else width
        return offset, (offset + window).bit_length()

    # Rounding and accumulating --------------------------------------------------------------------------------------

    def elaborate(self, platform: object) -> Module:
        """Sum, shift, round and accumulate."""
        m = Module()
        p = self.parameters
        pipe = Pipeline(m, self.i, self.o, cuts=self._cuts, depth=p.pipeline_depth)
        payload = self.i.p
        flags = wait(0, first=payload.first, last=payload.last, poison=payload.group.exponent == POISONED_GROUP)
        state = run(pipe, parallel(flags=flags, sum=self._sum(m, platform, payload)))
        total = state["sum"]
        offset, _ = self._amount
        events = round_and_accumulate(
            m, platform, pipe, **total, offset=offset, width=p.accumulator_width, **state["flags"]
        )
        self._stick(m, overflow=events.clamped, poisoned=events.poison)
        return m


def _saturated(m: Module, raw: Value, width: int) -> Path:
    """A shift amount, added and saturated in clocks of their own."""
    s = yield {"raw": raw}
    return (yield {"amount": saturate_amount(m, "amount", s["raw"], width)})


def _shift_in_two(
    m: Module, name: str, value: Value, amount: Value, width: int, flip: Value, *, inverted: bool = False
) -> Path:
    """``value << amount``, `width` bits signed, with cuts in the middle and at the end; `inverted` as in `Term`."""
    half = (len(amount) + 1) // 2

    def row(value: Value, amount: Value, flip: Value, first: int) -> Value:
        return shift_left(m, name, value, amount, width, first=first, fill=flip if inverted else None)

    s = yield {"flip": flip, "value": row(value, amount[:half], flip, 0), "amount": amount[half:]}
    return (yield {"flip": s["flip"], "value": row(s["value"], s["amount"], s["flip"], half)})
