"""From accumulators to FP16: each sum times its channel's scale, rounded once. Norm in delta form is such a scale."""

from amaranth.hdl import Cat, Const, Module, Mux, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import SCALE_WIDTH, Parameters
from hw import payloads
from hw.arith.float import FLOAT16, Rules, round_and_pack
from hw.arith.path import Path, parallel, run
from hw.arith.shift import Window, leading_zeros
from hw.stream import Pipeline
from hw.units.outlier_selector import or_tree
from hw.units.unit import Unit

__all__ = ["ChannelScale"]

_RULES = Rules(overflow="clamp", zero="positive", non_finite="nan")
_CUTS = 6


class ChannelScale(Unit):
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
    def latency(self) -> int:
        """Clocks from accepted sums to their values."""
        return min(_CUTS, self.parameters.pipeline_depth)

    @property
    def throughput(self) -> str:
        """One vector per clock."""
        return "one vector per clock"

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        n = self.parameters.lanes
        pipe = Pipeline(m, self.i, self.o, cuts=_CUTS, depth=self.parameters.pipeline_depth)
        sums, scale, lsb = self.i.p.sums, self.i.p.scale, self.i.p.lsb
        paths = {
            f"lane{lane}": _scaled(m, sums[lane].sum, sums[lane].poisoned, scale[lane], lsb[lane]) for lane in range(n)
        }
        results = run(pipe, parallel(**paths)).values()
        pipe.finish(Cat(result["value"] for result in results))
        leaves = pipe.valid & pipe.advance
        self._stick(
            m,
            **{name: leaves & or_tree([result[name] for result in results]) for name in ("overflow", "poisoned")},
        )
        return m


def _scaled(m: Module, total: Value, poisoned: Value, scale: Value, lsb: Value) -> Path:
    f = FLOAT16.fraction_width
    negative = total[-1]
    s = yield {
        "magnitude": ((total.as_unsigned() ^ negative.replicate(len(total))) + negative)[: len(total)],
        "significand": FLOAT16.significand(scale),
        "exponent": lsb + Cat(FLOAT16.field(scale), Const(0, 1)).as_signed(),
        "sign": negative ^ FLOAT16.sign(scale),
        "poisoned": poisoned | ~FLOAT16.is_finite(scale),
    }
    product = s["magnitude"] * s["significand"]
    width = len(product)
    # Field of the value if the product's topmost bit led it, minus 1 (0 is that of subnormals).
    wide = signed(SCALE_WIDTH + 2)
    above = s["exponent"] + Const(width - 1 + 14 - 25, signed(SCALE_WIDTH + 1))
    # At its least useful value every bit is shifted below the guard bit.
    lowest = -(f + 3)
    s = yield {
        "product": product,
        "above": Mux(above < lowest, Const(lowest, wide), above)[: wide.width].as_signed(),
        "sign": s["sign"],
        "poisoned": s["poisoned"],
    }
    s = yield {"zeros": leading_zeros(m, "scaled", s["product"]), **s}
    zeros, above = s["zeros"], s["above"]
    normal = zeros < above
    amount_width = (width - 1 - lowest).bit_length()
    left = (above - zeros)[: wide.width]
    # Fields past 63 overflow like 63 does. A product of 0 has no leading bit, so nothing to go by.
    left = Mux(left[6:].any(), 63, left[:6])
    some = s["product"].any()
    s = yield {
        "product": s["product"],
        "amount": (Mux(normal, zeros, above) - lowest)[:amount_width],
        "above": Mux(normal & some, left, 0),
        "sign": s["sign"] & some,
        "poisoned": s["poisoned"],
    }
    window = Window.of(
        m,
        "scaled",
        Cat(s["product"], Const(0, 1)).as_signed(),
        offset=width - 1 - f - lowest,
        width=f + 2,
        amount_width=amount_width,
    )
    # In two parts: what a part loses is told from one segment of bits for each of its amounts.
    window = window.shift(s["amount"][4:], 16).shift(s["amount"][:4])
    s = yield {
        "significand": window.floor[: f + 1],
        "increment": window.increment,
        "above": Cat(s["above"], Const(0, 1)),
        "sign": s["sign"],
        "poisoned": s["poisoned"],
    }
    poisoned = s.pop("poisoned")
    return {
        "poisoned": poisoned,
        **round_and_pack(m, FLOAT16, _RULES, **s, nan=poisoned, infinite=Const(0, 1)),
    }
