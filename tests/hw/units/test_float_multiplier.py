"""`FloatMultiplier` against exact integers, written from docs/numerics.md section 5."""

import random

import pytest

from golden.parameters import Parameters
from hw.units import FloatMultiplier
from tests.hw.streams import PATTERNS, exchange, inspect

pytestmark = pytest.mark.unit


def split(pattern, fraction_width):
    field = pattern >> fraction_width & (1 << 15 - fraction_width) - 1
    significand = (pattern & (1 << fraction_width) - 1) + ((1 << fraction_width) if field else 0)
    return pattern >> 15, max(field, 1), significand


def oracle(x, weight, p):
    negative, exponent, significand = split(x, 10)
    if p.weight_form == "aligned":
        return {"exponent": exponent, "significand": (-1) ** negative * significand * weight}
    other = split(weight, p.weight_mantissa_width - 1)
    return {
        "negative": negative ^ other[0],
        "exponent": exponent + other[1],
        "magnitude": significand * other[2],
    }


def finite(r, fraction_width):
    top = (1 << 15 - fraction_width) - 1
    field = r.choice([0, 1, top - 1, r.randrange(top), r.randrange(top)])
    fraction = r.choice([0, 1, (1 << fraction_width) - 1, r.getrandbits(fraction_width)])
    return r.getrandbits(1) << 15 | field << fraction_width | fraction


def inputs(p, count, seed=1):
    r = random.Random(seed)
    items = []
    for _ in range(count):
        top = (1 << p.fraction_bits + 1) - 1
        aligned = r.choice([0, 1, -1, top, -top, r.randint(-top, top), r.randint(-top, top)])
        weight = aligned if p.weight_form == "aligned" else finite(r, p.weight_mantissa_width - 1)
        items.append({"value": finite(r, 10), "weight": weight})
    return items


@pytest.mark.parametrize(
    "form",
    [
        dict(weight_form="float"),
        dict(weight_form="float", weight_format="bfloat16"),
        dict(weight_form="aligned", fraction_bits=10),
        dict(weight_form="aligned", fraction_bits=16),
        dict(weight_form="aligned", fraction_bits=7, weight_format="bfloat16"),
    ],
)
def test_against_exact_integers(form):
    p = Parameters(**form)
    items = inputs(p, 1000)
    assert exchange(FloatMultiplier(p), items).outputs == [oracle(i["value"], i["weight"], p) for i in items]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("depth", [1, 2, 16])
def test_depth_and_back_pressure_change_nothing(depth, pattern):
    p = Parameters(weight_form="float", pipeline_depth=depth)
    items = inputs(p, 60, seed=depth)
    dut = FloatMultiplier(p)
    result = exchange(dut, items, pattern=pattern)
    assert result.outputs == [oracle(i["value"], i["weight"], p) for i in items]
    if pattern == "none":
        assert {left - taken for taken, left in zip(result.taken, result.left, strict=True)} == {dut.latency}
        assert dut.latency == min(depth, 3)


def test_widths_are_those_of_the_contract():
    dut = inspect(FloatMultiplier(Parameters(weight_form="float", weight_format="bfloat16")))
    assert [len(dut.o.p[name]) for name in ("negative", "exponent", "magnitude")] == [1, 9, 11 + 8]
    dut = inspect(FloatMultiplier(Parameters(fraction_bits=12)))
    assert [len(dut.o.p[name]) for name in ("exponent", "significand")] == [5, 11 + 14]
    assert dut.throughput == "one product per clock"
