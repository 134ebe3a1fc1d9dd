"""`IntFloatMultiplier` against exact integers, written from docs/numerics.md section 5."""

import random

import pytest

from golden.parameters import Parameters
from hw.units import IntFloatMultiplier
from tests.hw.streams import PATTERNS, exchange, inspect

pytestmark = pytest.mark.unit


def finite_patterns(p, count, seed):
    r = random.Random(seed)
    f = p.weight_mantissa_width - 1
    top = (1 << 15 - f) - 1  # the exponent field of infinities
    fields = [0, 1, 2, top - 1]
    for index in range(count):
        field = fields[index] if index < len(fields) else r.randrange(top)
        yield r.getrandbits(1) << 15 | field << f | r.choice([0, 1, (1 << f) - 1, r.getrandbits(f)])


def oracle(q, pattern, p):
    if p.weight_form == "aligned":
        return q * pattern
    f = p.weight_mantissa_width - 1
    field = pattern >> f & (1 << 15 - f) - 1
    significand = (pattern & (1 << f) - 1) + ((1 << f) if field else 0)
    return {
        "negative": int(q < 0) ^ pattern >> 15,
        "exponent": max(field, 1),
        "magnitude": abs(q) * significand,
    }


def inputs(p, weights, seed=1):
    r = random.Random(seed)
    q = p.digit_max
    digits = range(-q, q + 1) if p.digit_width <= 4 else [0, 1, -1, q, -q, r.randint(-q, q), r.randint(-q, q)]
    return [{"digit": digit, "weight": weight} for weight in weights for digit in digits]


@pytest.mark.parametrize("k", range(2, 9))
@pytest.mark.parametrize("weight_format", ["float16", "bfloat16"])
def test_float_form(k, weight_format):
    p = Parameters(digit_width=k, weight_form="float", weight_format=weight_format)
    items = inputs(p, finite_patterns(p, 60, seed=k))
    assert exchange(IntFloatMultiplier(p), items).outputs == [oracle(i["digit"], i["weight"], p) for i in items]


@pytest.mark.parametrize("k", range(2, 9))
@pytest.mark.parametrize("fraction_bits", [10, 16])
def test_aligned_form(k, fraction_bits):
    p = Parameters(digit_width=k, weight_form="aligned", fraction_bits=fraction_bits)
    top = (1 << fraction_bits + 1) - 1
    r = random.Random(k)
    items = inputs(p, [0, 1, -1, top, -top, *(r.randint(-top, top) for _ in range(40))])
    assert exchange(IntFloatMultiplier(p), items).outputs == [oracle(i["digit"], i["weight"], p) for i in items]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("depth", [1, 16])
def test_depth_and_back_pressure_change_nothing(depth, pattern):
    p = Parameters(weight_form="float", pipeline_depth=depth)
    items = inputs(p, finite_patterns(p, 12, seed=1))
    dut = IntFloatMultiplier(p)
    result = exchange(dut, items, pattern=pattern)
    assert result.outputs == [oracle(i["digit"], i["weight"], p) for i in items]
    if pattern == "none":
        assert {left - taken for taken, left in zip(result.taken, result.left, strict=True)} == {dut.latency}
        assert dut.latency == min(depth, 2)


def test_widths_are_those_of_the_contract():
    dut = inspect(IntFloatMultiplier(Parameters(digit_width=5, weight_form="float", weight_format="bfloat16")))
    assert [len(dut.o.p[name]) for name in ("negative", "exponent", "magnitude")] == [1, 8, 4 + 8]
    dut = inspect(IntFloatMultiplier(Parameters(digit_width=5, fraction_bits=12)))
    assert len(dut.o.p) == 5 + 12 + 2
    assert dut.throughput == "one product per clock"
