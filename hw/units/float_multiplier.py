"""FP16 value times weight, exactly."""

from amaranth.hdl import Cat, Module, Mux, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw import payloads
from hw.stream import Stage
from hw.units.int_float_multiplier import split_weight
from hw.units.unit import PipelinedUnit


def split_value(pattern: Value) -> tuple[Value, Value, Value]:
    """Sign, exponent field (1 for subnormals) and significand of an FP16 value."""
    field = pattern[10:15]
    normal = field.any()
    return pattern[15], Cat(field[0] | ~normal, field[1:]), Cat(pattern[:10], normal)


class FloatMultiplier(PipelinedUnit):
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
        shape_i = payloads.Payload(
            {"value": (16, "FP16 value"), "weight": (payloads.weight(parameters), "what it is multiplied by")}
        )
        if parameters.weight_form == "aligned":
            shape_o = payloads.aligned_product(parameters)
        else:
            # The sum of two exponent fields needs one bit more than the wider of them.
            shape_o = payloads.exact_product(
                11 + parameters.weight_mantissa_width, max(5, parameters.weight_exponent_width) + 1
            )
        return {"i": In(stream.Signature(shape_i)), "o": Out(stream.Signature(shape_o))}

    @property
    def throughput(self) -> str:
        """Payloads per clock, in words."""
        return "one product per clock"

    def _describe(self, m: Module, platform: object) -> int:
        p, s = self.parameters, Stage.begin(m, self.i)
        s.sign, s.exponent, s.x = split_value(self.i.p.value)
        aligned = p.weight_form == "aligned"
        if aligned:
            s.weight = self.i.p.weight
        else:
            weight_sign, s.weight_exponent, s.weight = split_weight(self.i.p.weight, p)
            s.sign = s.sign ^ weight_sign

        s = s.cut()
        s.product = s.x * s.weight
        if not aligned:
            s.exponent = s.exponent + s.weight_exponent

        s = s.cut()
        if aligned:
            significand = Mux(s.sign, -s.product, s.product)[: self.o.p.significand.shape().width]
            payload = Cat(s.exponent, significand)
        else:
            payload = Cat(s.sign, s.exponent, s.product)
        return s.finish(self.o, payload, depth=p.pipeline_depth)
