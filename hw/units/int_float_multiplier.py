"""Digit times weight, exactly."""

from amaranth.hdl import Cat, Module, Mux, Value, signed
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw import payloads
from hw.stream import Stage
from hw.units.unit import PipelinedUnit


def split_digit(digit: Value) -> tuple[Value, Value]:
    """Sign and magnitude (k - 1 bits) of a digit, ``-2^(k-1)`` excepted."""
    return digit[-1], Mux(digit[-1], -digit, digit)[: len(digit) - 1]


def split_weight(pattern: Value, parameters: Parameters) -> tuple[Value, Value, Value]:
    """Sign, exponent field (1 for subnormals) and significand of a float weight."""
    fraction = parameters.weight_mantissa_width - 1
    field = pattern[fraction:15]
    normal = field.any()
    return pattern[15], Cat(field[0] | ~normal, field[1:]), Cat(pattern[:fraction], normal)


class IntFloatMultiplier(PipelinedUnit):
    """Multiplies a digit by a weight without rounding (``docs/numerics.md`` section 5).

    The magnitude of the digit gates shifted copies of the weight's integer, which are added; there is no multiplier.

    Latency: 2 clocks (1 at a pipeline depth of 1). Throughput: one product per clock.

    Numerics: exact. A non-finite weight is outside the contract.

    Parameters
    ----------
    parameters : Parameters
        Uses ``digit_width``, ``weight_format``, ``weight_form``, ``fraction_bits`` and ``pipeline_depth``.

    Members
    -------
    i : In(stream)
        ``{digit, weight}``.
    o : Out(stream)
        Float form: ``{negative, exponent, magnitude}``. Aligned form: the signed product.
    """

    name = "int_float_multiplier"
    summary = "digit x weight, exact"

    def _members(self, parameters: Parameters) -> dict:
        k = parameters.digit_width
        shape_i = payloads.Payload(
            {"digit": (signed(k), "digit q"), "weight": (payloads.weight(parameters), "what it is multiplied by")}
        )
        if parameters.weight_form == "aligned":
            shape_o = signed(k + parameters.weight_width)
        else:
            shape_o = payloads.exact_product(k - 1 + parameters.weight_mantissa_width, parameters.weight_exponent_width)
        return {"i": In(stream.Signature(shape_i)), "o": Out(stream.Signature(shape_o))}

    @property
    def throughput(self) -> str:
        """Payloads per clock, in words."""
        return "one product per clock"

    def _describe(self, m: Module, platform: object) -> int:
        p, s = self.parameters, Stage.begin(m, self.i)
        s.sign, s.planes = split_digit(self.i.p.digit)
        if p.weight_form == "aligned":
            s.number = self.i.p.weight
        else:
            weight_sign, s.exponent, s.number = split_weight(self.i.p.weight, p)
            s.sign = s.sign ^ weight_sign

        s = s.cut()
        product = _gated_sum(s.number, s.planes)
        if p.weight_form == "aligned":
            payload = Mux(s.sign, -product, product)
        else:
            payload = Cat(s.sign, s.exponent, product[: self.o.p.magnitude.shape().width])
        return s.finish(self.o, payload, depth=p.pipeline_depth)


def _gated_sum(number: Value, planes: Value) -> Value:
    terms = [Mux(planes[position], number << position, 0) for position in range(len(planes))]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
