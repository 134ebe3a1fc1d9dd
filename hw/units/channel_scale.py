"""From accumulators to FP16: each sum times its channel's scale, rounded once. Norm in delta form is such a scale."""

from amaranth.hdl import Cat, Const, Module, Mux, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import SCALE_WIDTH, Parameters
from hw import payloads
from hw.arith.bits import or_tree
from hw.arith.float import FLOAT16, Rules, round_and_pack
from hw.arith.shift import Window, leading_zeros
from hw.stream import Stage
from hw.units.unit import PipelinedUnit

_RULES = Rules(overflow="clamp", zero="positive", non_finite="nan")


class ChannelScale(PipelinedUnit):
    """Multiplies sums by per-channel scales and rounds them to FP16 (``docs/numerics.md``, section 8).

    ::

        |sum| --> times the scale's significand --> count leading zeros --> shift --> round and pack
        lsb + exponent ------------------------------------^

    Latency: 6 clocks (at most ``pipeline_depth``). Throughput: one vector per clock.

    Numerics: one rounding (ties to even) of the exact product; what FP16 cannot hold is clamped.

    Parameters
    ----------
    parameters : Parameters
        ``lanes``, ``accumulator_width`` and ``pipeline_depth`` matter.

    Members
    -------
    i : In(stream)
        `payloads.channel_scale_input`: n sums, scales (FP16) and exponents of the sums' least bits.
    o : Out(stream)
        Array of n FP16 patterns.
    clear : In(1)
        Clears the status, unless its event happens in the same clock.
    overflow : Out(1)
        Sticky: a value was clamped.
    poisoned : Out(1)
        Sticky: a sum was poisoned or a scale was no finite number.
    """

    name = "channel_scale"
    summary = "accumulator sums x per-channel scale, rounded once to FP16"

    def _members(self, parameters: Parameters) -> dict:
        return {
            "i": In(stream.Signature(payloads.channel_scale_input(parameters))),
            "o": Out(stream.Signature(data.ArrayLayout(16, parameters.lanes))),
            "clear": In(1),
            "overflow": Out(1),
            "poisoned": Out(1),
        }

    @property
    def throughput(self) -> str:
        """One vector per clock."""
        return "one vector per clock"

    def _describe(self, m: Module, platform: object) -> int:
        s, p = Stage.begin(m, self.i), self.i.p
        lanes = [
            _scaled(s.instance(f"lane{lane}", total=total.sum, poisoned=total.poisoned, scale=scale, lsb=lsb))
            for lane, (total, scale, lsb) in enumerate(zip(p.sums, p.scale, p.lsb, strict=True))
        ]
        s, lanes = s.join(lanes)
        self._stick(
            m,
            overflow=s.moves & or_tree(lane.overflow for lane in lanes),
            poisoned=s.moves & or_tree(lane.poisoned for lane in lanes),
        )
        return s.finish(self.o, Cat(lane.value for lane in lanes), depth=self.parameters.pipeline_depth)


def _scaled(s: Stage) -> Stage:
    """One lane, from `total`, `poisoned`, `scale` and `lsb` to `value`, `overflow` and `poisoned`."""
    f = FLOAT16.fraction_width
    negative = s.total[-1]
    s.magnitude = ((s.total.as_unsigned() ^ negative.replicate(len(s.total))) + negative)[: len(s.total)]
    s.significand = FLOAT16.significand(s.scale)
    s.exponent = s.lsb + Cat(FLOAT16.field(s.scale), Const(0, 1)).as_signed()
    s.sign = negative ^ FLOAT16.sign(s.scale)
    s.poisoned = s.poisoned | ~FLOAT16.is_finite(s.scale)

    s = s.cut()
    s.product = s.magnitude * s.significand
    width = len(s.product)
    # Field of the value if the product's topmost bit led it, minus 1 (0 is that of subnormals).
    wide = signed(SCALE_WIDTH + 2)
    above = s.exponent + Const(width - 1 + 14 - 25, signed(SCALE_WIDTH + 1))
    # At its least useful value every bit is shifted below the guard bit.
    lowest = -(f + 3)
    s.above = Mux(above < lowest, Const(lowest, wide), above)[: wide.width].as_signed()

    s = s.cut()
    s.zeros = leading_zeros(s.m, s.label("scaled"), s.product)

    s = s.cut()
    normal = s.zeros < s.above
    amount_width = (width - 1 - lowest).bit_length()
    left = (s.above - s.zeros)[: wide.width]
    # Fields past 63 overflow like 63 does. A product of 0 has no leading bit, so nothing to go by.
    left = Mux(left[6:].any(), 63, left[:6])
    some = s.product.any()
    s.amount = (Mux(normal, s.zeros, s.above) - lowest)[:amount_width]
    s.field_above = Mux(normal & some, left, 0)
    s.result_sign = s.sign & some

    s = s.cut()
    product, offset = Cat(s.product, Const(0, 1)).as_signed(), width - 1 - f - lowest
    window = Window.of(s.m, s.label("scaled"), product, offset=offset, width=f + 2, amount_width=amount_width)
    # In two parts: what a part loses is told from one segment of bits for each of its amounts.
    window = window.shift(s.amount[4:], 16).shift(s.amount[:4])
    s.rounded_down, s.increment = window.floor[: f + 1], window.increment

    s = s.cut()
    result = {"sign": s.result_sign, "significand": s.rounded_down, "increment": s.increment}
    round_and_pack(s, FLOAT16, _RULES, **result, above=Cat(s.field_above, Const(0, 1)), nan=s.poisoned)
    return s
