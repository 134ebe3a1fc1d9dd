"""FP16 value times weight, exactly."""

from amaranth.hdl import Cat, Module, Mux, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw import payloads
from hw.stream import Pipeline
from hw.units.int_float_multiplier import split_weight
from hw.units.unit import Unit

__all__ = ["FloatMultiplier", "split_value"]


def split_value(pattern: Value) -> tuple[Value, Value, Value]:
    """Sign, exponent field (1 for subnormals) and significand of an FP16 value."""
    field = pattern[10:15]
    normal = field.any()
    return pattern[15], Cat(field[0] | ~normal, field[1:]), Cat(pattern[:10], normal)


class FloatMultiplier(Unit):
    """Multiplies an FP16 value by a weight without rounding (``docs/numerics.md`` section 5).

    The significands are multiplied (one DSP block on an FPGA, with registers right before and after it).

    Latency: 3 clocks (at most the pipeline depth). Throughput: one product per clock.

    Numerics: exact. A non-finite operand is outside the contract.

    Parameters
    ----------
    parameters : Parameters
        Uses ``weight_format``, ``weight_form``, ``fraction_bits`` and ``pipeline_depth``.

    Members
    -------
    i : In(stream)
        ``{value, weight}``.
    o : Out(stream)
        Float form: ``{negative, exponent, magnitude}``. Aligned form: ``{exponent, significand}``.
    """

    name = "float_multiplier"
    summary = "FP16 value x weight, exact"

    def _members(self, parameters: Parameters) -> dict:
        shape_i = data.StructLayout({"value": 16, "weight": payloads.weight(parameters)})
        if parameters.weight_form == "aligned":
            shape_o = payloads.aligned_product(parameters)
        else:
            # The sum of two exponent fields needs one bit more than the wider of them.
            shape_o = payloads.exact_product(
                11 + parameters.weight_mantissa_width, max(5, parameters.weight_exponent_width) + 1
            )
        return {"i": In(stream.Signature(shape_i)), "o": Out(stream.Signature(shape_o))}

    @property
    def latency(self) -> int:
        """Clocks from an accepted input to the output it causes."""
        return min(3, self.parameters.pipeline_depth)

    @property
    def throughput(self) -> str:
        """Payloads per clock, in words."""
        return "one product per clock"

    def elaborate(self, platform: object) -> Module:
        """Multiply between registers."""
        m = Module()
        p = self.parameters
        pipe = Pipeline(m, self.i, self.o, cuts=3, depth=p.pipeline_depth)
        sign, exponent, significand = split_value(self.i.p.value)
        if p.weight_form == "aligned":
            s = pipe.cut(sign=sign, exponent=exponent, x=significand, weight=self.i.p.weight)
            s = pipe.cut(sign=s.sign, exponent=s.exponent, product=s.x * s.weight)
            pipe.finish(Cat(s.exponent, Mux(s.sign, -s.product, s.product)[: self.o.p.significand.shape().width]))
        else:
            weight_sign, weight_exponent, weight = split_weight(self.i.p.weight, p)
            s = pipe.cut(
                negative=sign ^ weight_sign,
                exponent=exponent,
                weight_exponent=weight_exponent,
                x=significand,
                weight=weight,
            )
            s = pipe.cut(negative=s.negative, exponent=s.exponent + s.weight_exponent, product=s.x * s.weight)
            pipe.finish(Cat(s.negative, s.exponent, s.product))
        return m
