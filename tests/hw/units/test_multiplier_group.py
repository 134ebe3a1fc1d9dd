"""`MultiplierGroup` against exact integers, written from docs/numerics.md section 7."""

import random
from fractions import Fraction

import pytest

from golden.parameters import Parameters
from hw.units import MultiplierGroup
from tests.hw.streams import PATTERNS, exchange, inspect

pytestmark = pytest.mark.unit

ZERO, POISONED = 62, 63


def parameters(**values):
    return Parameters(memory_lanes=1, **values)


def fp16(pattern):
    exponent, fraction = pattern >> 10 & 31, pattern & 1023
    magnitude = Fraction(fraction + (1024 if exponent else 0)) * Fraction(2) ** (max(exponent, 1) - 25)
    return -magnitude if pattern >> 15 else magnitude


def weight_integer(pattern, p):
    """The integer a weight stands for, in units of the weights' LSB."""
    if p.weight_form == "aligned":
        return pattern
    f = p.weight_mantissa_width - 1
    exponent, fraction = pattern >> f & (1 << 15 - f) - 1, pattern & (1 << f) - 1
    magnitude = fraction + ((1 << f) if exponent else 0)
    value = Fraction(magnitude) * Fraction(2) ** (max(exponent, 1) - p.weight_bias - f - p.weight_lsb)
    assert value.denominator == 1
    return -int(value) if pattern >> 15 else int(value)


def oracle(items, p):
    """Sums emitted, and the sticky bits at the end."""
    sums, overflow, ever_poisoned = [], 0, 0
    total, poisoned = 0, 0
    low, high = -(1 << p.accumulator_width - 1), (1 << p.accumulator_width - 1) - 1
    for item in items:
        group, weights = item["group"], [weight_integer(w, p) for w in item["weights"]]
        code = group["exponent"]
        exact = Fraction(0)
        if code not in (ZERO, POISONED):
            exact = sum(q * w for q, w in zip(group["digits"], weights, strict=True)) * Fraction(2) ** (code - 24)
            for slot in group.get("outliers", []):
                if slot["valid"]:
                    exact += fp16(slot["value"]) * weights[slot["lane"]]
        rounded = round(exact * Fraction(2) ** item["scale"])  # Python rounds ties to even
        total = rounded + (0 if item["first"] else total)
        if not low <= total <= high:
            overflow = 1
            total = min(max(total, low), high)
        poisoned = int(code == POISONED or (poisoned and not item["first"]))
        ever_poisoned |= code == POISONED
        if item["last"]:
            sums.append({"sum": 0 if poisoned else total, "poisoned": poisoned})
    return sums, overflow, int(ever_poisoned)


class Draw:
    """Random groups, leaning towards corners."""

    def __init__(self, p, seed):
        self.p, self.r = p, random.Random(seed)

    def weight(self):
        p, r = self.p, self.r
        if p.weight_form == "aligned":
            top = (1 << p.fraction_bits + 1) - 1
            return r.choice([0, top, -top, 1, -1, r.randint(-top, top), r.randint(-top, top), r.randint(-9, 9)])
        f = p.weight_mantissa_width - 1
        least, bias = p.weight_exponent_min, p.weight_bias
        sign, fraction = r.getrandbits(1) << 15, r.choice([0, (1 << f) - 1, r.getrandbits(f)])
        if r.random() < 0.1:
            return sign  # a zero
        if least == 1 - bias and r.random() < 0.2:
            return sign | fraction  # a subnormal
        exponent = r.choice([least, p.weight_exponent_max, r.randint(least, p.weight_exponent_max)])
        return sign | exponent + bias << f | fraction

    def value(self):
        r = self.r
        exponent = r.choice([0, 1, 30, 15, r.randrange(31), r.randrange(31)])
        return r.getrandbits(1) << 15 | exponent << 10 | r.choice([0, 1023, 1, r.getrandbits(10)])

    def group(self):
        p, r = self.p, self.r
        n, m = p.lanes, p.outliers
        empty = {"exponent": ZERO, "digits": [0] * n}
        slots = [{"valid": 0, "lane": 0, "value": 0}] * m
        kind = r.random()
        if m:
            empty["outliers"] = list(slots)
        if kind < 0.06:
            return empty
        if kind < 0.09:
            return empty | {"exponent": POISONED}
        q = p.digit_max
        extreme = r.random() < 0.2
        digits = [
            r.choice([q, -q]) if extreme else r.choice([0, q, -q, r.randint(-q, q), r.randint(-q, q)]) for _ in range(n)
        ]
        group = {"exponent": r.choice([0, 42 - p.digit_width, 24, r.randrange(43 - p.digit_width)]), "digits": digits}
        if m:
            count = r.choice([0, m, r.randint(0, m)])
            for slot, lane in enumerate(sorted(r.sample(range(n), count))):
                slots[slot] = {"valid": 1, "lane": lane, "value": self.value()}
                digits[lane] = 0
            group["outliers"] = slots
        return group

    def items(self, count):
        p, r = self.p, self.r
        items, scale = [], 0
        for _ in range(count):
            group, weights = self.group(), [self.weight() for _ in range(p.lanes)]
            # Where the largest bit of a typical sum lands in the accumulator.
            size = max((abs(weight_integer(w, p)) for w in weights), default=0).bit_length() + 2
            aim = r.choice([p.accumulator_width - 2, 3, -1, 0, 1, r.randrange(p.accumulator_width + 4)])
            scale = r.choice([scale, aim - size - group["exponent"] % 62 + 24, aim - size, r.randint(-220, 220)])
            scale = max(-220, min(220, scale))
            items.append(
                {
                    "first": r.random() < 0.3,
                    "last": r.random() < 0.5,
                    "scale": scale,
                    "group": group,
                    "weights": weights,
                }
            )
        items[0]["first"] = items[-1]["last"] = True
        return items


def check(p, count=150, seed=1, pattern="none"):
    items = Draw(p, seed).items(count)
    sums, overflow, poisoned = oracle(items, p)
    result = exchange(
        MultiplierGroup(p), items, pattern=pattern, seed=seed, outputs=len(sums), watch=("overflow", "poisoned")
    )
    for index, (got, expected) in enumerate(zip(result.outputs, sums, strict=True)):
        assert got == expected, f"sum {index}: got {got}, expected {expected}"
    assert result.ports == {"overflow": overflow, "poisoned": poisoned}
    return result


@pytest.mark.parametrize("k", range(2, 9))
def test_digit_widths(k):
    check(parameters(digit_width=k, lanes=4, outliers=0), seed=k)


@pytest.mark.parametrize("n, m", [(4, 4), (5, 0), (7, 1), (16, 0), (16, 1), (16, 2), (31, 0), (60, 4), (64, 8)])
def test_lanes_and_outliers(n, m):
    check(parameters(lanes=n, outliers=m, fraction_bits=10), seed=n * 16 + m, count=100)


@pytest.mark.parametrize("width", [16, 17, 64, 128])
@pytest.mark.parametrize("m", [0, 1])
def test_accumulator_widths(width, m):
    check(parameters(lanes=4, outliers=m, accumulator_width=width), seed=width)


@pytest.mark.parametrize(
    "form",
    [
        dict(weight_form="float"),
        dict(weight_form="float", weight_exponent_min=-10, weight_exponent_max=2),
        dict(weight_form="float", weight_exponent_min=3, weight_exponent_max=3),
        dict(weight_form="float", weight_format="bfloat16", weight_exponent_min=-20, weight_exponent_max=1),
        dict(weight_form="float", weight_format="bfloat16", weight_exponent_min=-126, weight_exponent_max=-100),
        dict(weight_form="aligned", weight_format="bfloat16", fraction_bits=7),
        dict(weight_form="aligned", fraction_bits=16),
    ],
)
@pytest.mark.parametrize("m", [0, 2])
def test_weight_forms(form, m):
    check(parameters(lanes=5, outliers=m, accumulator_width=48, **form), seed=m)


def test_bfloat16_over_its_whole_range():
    form = dict(weight_form="float", weight_format="bfloat16", weight_exponent_min=-126, weight_exponent_max=127)
    check(parameters(lanes=4, outliers=1, **form), count=60)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("depth", [1, 2, 5, 16])
def test_depth_and_back_pressure_change_nothing(depth, pattern):
    check(parameters(lanes=4, outliers=1, pipeline_depth=depth), seed=depth, pattern=pattern, count=100)


@pytest.mark.parametrize("depth", [1, 3, 16])
def test_latency_and_throughput(depth):
    p = parameters(lanes=4, outliers=1, pipeline_depth=depth)
    items = Draw(p, 5).items(40)
    for item in items:
        item["last"] = True
    dut = MultiplierGroup(p)
    result = exchange(dut, items)
    assert result.taken == list(range(result.taken[0], result.taken[0] + 40))
    assert [left - taken for taken, left in zip(result.taken, result.left, strict=True)] == [dut.latency] * 40


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_many(seed):
    r = random.Random(seed)
    n = r.choice([4, 8, 13, 16, 60])
    form = r.choice([{}, dict(weight_form="float", weight_exponent_min=r.randint(-14, 0))])
    p = parameters(
        lanes=n, outliers=r.randint(0, 4), digit_width=r.randint(2, 8), accumulator_width=r.randint(16, 128), **form
    )
    check(p, seed=seed, count=600)


def test_status_is_cleared():
    p = parameters(lanes=4, outliers=0)
    dut = MultiplierGroup(p)
    item = {"first": 1, "last": 1, "scale": 0, "group": {"exponent": POISONED, "digits": [0] * 4}, "weights": [0] * 4}
    assert exchange(dut, [item], watch=("poisoned",)).ports == {"poisoned": 1}
    dut = MultiplierGroup(p)
    assert exchange(dut, [item], watch=("poisoned",), ports={"clear": 1}).ports == {"poisoned": 0}


def test_properties():
    dut = inspect(MultiplierGroup(parameters(lanes=16, outliers=0)))
    assert dut.latency == 13
    assert dut.throughput == "one group per clock"
