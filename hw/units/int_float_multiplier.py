"""Digit times weight, exactly."""

from amaranth.hdl import Cat, Module, Mux, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw import payloads
from hw.stream import Pipeline
from hw.units.unit import Unit

__all__ = ["IntFloatMultiplier", "split_digit", "split_weight"]


def split_digit(digit: Value) -> tuple[Value, Value]:
    """Sign and magnitude (k - 1 bits) of a digit, ``-2^(k-1)`` excepted."""
    return digit[-1], Mux(digit[-1], -digit, digit)[: len(digit) - 1]


def split_weight(pattern: Value, parameters: Parameters) -> tuple[Value, Value, Value]:
    """Sign, exponent field (1 for subnormals) and significand of a float weight."""
    fraction = parameters.weight_mantissa_width - 1
    field = pattern[fraction:15]
    normal = field.any()
    return pattern[15], Cat(field[0] | ~normal, field[1:]), Cat(pattern[:fraction], normal)


class IntFloatMultiplier(Unit):
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
        shape_i = data.StructLayout({"digit": signed(k), "weight": payloads.weight(parameters)})
        if parameters.weight_form == "aligned":
            shape_o = signed(k + parameters.weight_width)
        else:
            shape_o = payloads.exact_product(k - 1 + parameters.weight_mantissa_width, parameters.weight_exponent_width)
        return {"i": In(stream.Signature(shape_i)), "o": Out(stream.Signature(shape_o))}

    @property
    def latency(self) -> int:
        """Clocks from an accepted input to the output it causes."""
        return min(2, self.parameters.pipeline_depth)

    @property
    def throughput(self) -> str:
        """Payloads per clock, in words."""
        return "one product per clock"

    def elaborate(self, platform: object) -> Module:
        """Gate and add."""
        m = Module()
        p = self.parameters
        pipe = Pipeline(m, self.i, self.o, cuts=2, depth=p.pipeline_depth)
        sign, planes = split_digit(self.i.p.digit)
        if p.weight_form == "aligned":
            s = pipe.cut(sign=sign, planes=planes, number=self.i.p.weight)
            product = _gated_sum(s.number, s.planes)
            pipe.finish(Mux(s.sign, -product, product))
        else:
            weight_sign, exponent, significand = split_weight(self.i.p.weight, p)
            s = pipe.cut(sign=sign ^ weight_sign, planes=planes, exponent=exponent, number=significand)
            pipe.finish(Cat(s.sign, s.exponent, _gated_sum(s.number, s.planes)[: self.o.p.magnitude.shape().width]))
        return m


def _gated_sum(number: Value, planes: Value) -> Value:
    terms = [Mux(planes[position], number << position, 0) for position in range(len(planes))]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
