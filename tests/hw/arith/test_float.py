# amaranth: UnusedElaboratable=no
"""Float units against numpy, and BF16 against exact fractions."""

import itertools
import random
from fractions import Fraction

import numpy as np
import pytest

from hw.arith.float import BFLOAT16, FLOAT16, FloatAdd, FloatFormat, FloatMultiply
from tests.hw.streams import PATTERNS, exchange

pytestmark = pytest.mark.unit

CORNERS = [0, 1, 2, 0x1FF, 0x200, 0x3FF, 0x400, 0x401, 0x7FF, 0x800, 0x3BFF, 0x3C00, 0x3C01, 0x7800, 0x7BFE, 0x7BFF]
SPECIAL = [0x7C00, 0x7C01, 0x7E00, 0x7FFF]


def pairs(format, count, seed):
    """Corners with each other, near neighbours, and random patterns."""
    r = random.Random(seed)
    shift = format.fraction_width
    corners = sorted({pattern % (1 << format.width - 1) for pattern in CORNERS})
    corners += [format.infinity, format.infinity + 1, format.nan, format.largest, 1 << shift, (1 << shift) - 1]
    corners += [pattern | 1 << format.width - 1 for pattern in corners]
    items = [{"a": a, "b": b} for a, b in itertools.product(corners, repeat=2) if r.random() < 0.35]
    for _ in range(count):
        a = r.getrandbits(format.width)
        kind = r.random()
        if kind < 0.3:
            b = r.getrandbits(format.width)
        elif kind < 0.6:  # close exponents, often opposite signs: cancellation
            b = (a ^ 1 << format.width - 1) + r.randint(-3 << shift, 3 << shift)
        elif kind < 0.8:  # products around the least normal and the largest number
            target = r.choice([format.bias - 1 - shift, format.bias, 1, 0, 2 * format.bias + 1]) + format.bias
            field = max(0, min(2 * format.bias, target - (a >> shift & 2 * format.bias + 1)))
            b = r.getrandbits(1) << format.width - 1 | field << shift | r.getrandbits(shift)
        else:
            b = a ^ 1 << format.width - 1 ^ r.choice([0, 0, 1, 3])
        items.append({"a": a, "b": b % (1 << format.width)})
    return items


def by_numpy(operation):
    def oracle(item):
        a, b = (np.array(item[name], np.uint16).view(np.float16) for name in "ab")
        with np.errstate(all="ignore"):
            value = (a + b if operation == "add" else a * b).astype(np.float16)
        pattern = 0x7E00 if np.isnan(value) else int(value.view(np.uint16))
        return {"value": pattern, "overflow": int(np.isinf(value) and np.isfinite(a) and np.isfinite(b))}

    return oracle


def number(format, pattern):
    """The exact value of a finite pattern."""
    f = format.fraction_width
    field, fraction = pattern >> f & (1 << format.exponent_width) - 1, pattern & (1 << f) - 1
    magnitude = Fraction(fraction + ((1 << f) if field else 0)) * Fraction(2) ** (max(field, 1) - format.bias - f)
    return -magnitude if pattern >> format.width - 1 else magnitude


def nearest(format, value):
    """Pattern of the float nearest a positive value, possibly that of infinity; ties to even."""
    low, high = 0, format.infinity
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if number(format, middle) <= value else (low, middle)
    # The upper neighbour of the largest number counts as one more step, like any other.
    step = Fraction(2) ** (format.bias + 1) if high == format.infinity else number(format, high)
    below, above = value - number(format, low), step - value
    return low if below < above or (below == above and low % 2 == 0) else high


def by_fractions(format, operation, **rules):
    top = 1 << format.width - 1
    clamp, positive = rules.get("overflow") == "clamp", rules.get("zero") == "positive"

    def oracle(item):
        a, b = item["a"], item["b"]
        signs = a >> format.width - 1, b >> format.width - 1
        infinite = [pattern % top == format.infinity for pattern in (a, b)]
        if any(pattern % top > format.infinity for pattern in (a, b)):
            return {"value": format.nan, "overflow": 0}
        if any(infinite):
            lost = all(infinite) and signs[0] != signs[1] if operation == "add" else 0 in (a % top, b % top)
            if lost or rules.get("non_finite") == "nan":
                return {"value": format.nan, "overflow": 0}
            sign = (signs[0] if infinite[0] else signs[1]) if operation == "add" else signs[0] ^ signs[1]
            return {"value": sign * top | format.infinity, "overflow": 0}
        x, y = number(format, a), number(format, b)
        value = x + y if operation == "add" else x * y
        if value == 0:
            sign = signs[0] & signs[1] if operation == "add" else signs[0] ^ signs[1]
            return {"value": 0 if positive else sign * top, "overflow": 0}
        pattern = nearest(format, abs(value))
        overflow = int(pattern == format.infinity)
        if overflow and clamp:
            pattern = format.largest
        return {"value": (top if value < 0 else 0) | pattern, "overflow": overflow}

    return oracle


def check(dut, items, oracle, **options):
    result = exchange(dut, items, limit=100_000, **options)
    for item, got in zip(items, result.outputs, strict=True):
        expected = oracle(item)
        assert got == expected, f"{item['a']:04x}, {item['b']:04x}: got {got['value']:04x}, expected {expected}"
    return result


UNITS = {"add": FloatAdd, "multiply": FloatMultiply}


@pytest.mark.parametrize("operation", UNITS)
def test_float16_against_numpy(operation):
    check(UNITS[operation](FLOAT16), pairs(FLOAT16, 2500, seed=1), by_numpy(operation))


@pytest.mark.slow
@pytest.mark.parametrize("operation", UNITS)
@pytest.mark.parametrize("seed", range(5))
def test_float16_against_numpy_longer(operation, seed):
    check(UNITS[operation](FLOAT16), pairs(FLOAT16, 20_000, seed=seed + 2), by_numpy(operation))


@pytest.mark.parametrize("operation", UNITS)
def test_the_oracles_agree(operation):
    ours, numpys = by_fractions(FLOAT16, operation), by_numpy(operation)
    for item in pairs(FLOAT16, 300, seed=5):
        assert ours(item) == numpys(item)


@pytest.mark.parametrize("operation", UNITS)
@pytest.mark.parametrize("format", [BFLOAT16, FLOAT16, FloatFormat(4, 3)], ids=["bfloat16", "float16", "minifloat"])
@pytest.mark.parametrize(
    "rules", [{}, dict(overflow="clamp", zero="positive", non_finite="nan")], ids=["ieee", "machine"]
)
def test_against_fractions(operation, format, rules):
    check(UNITS[operation](format, **rules), pairs(format, 700, seed=7), by_fractions(format, operation, **rules))


@pytest.mark.parametrize("operation", UNITS)
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("depth", [1, 3, 16])
def test_depth_and_back_pressure_change_nothing(operation, pattern, depth):
    dut = UNITS[operation](FLOAT16, depth=depth)
    result = check(dut, pairs(FLOAT16, 40, seed=depth)[-80:], by_numpy(operation), pattern=pattern)
    if pattern == "none":
        assert {left - taken for taken, left in zip(result.taken, result.left, strict=True)} == {dut.latency}
        assert dut.latency == min(depth, {"add": 6, "multiply": 7}[operation])


def test_formats():
    assert (FLOAT16.bias, FLOAT16.infinity, FLOAT16.nan, FLOAT16.largest) == (15, 0x7C00, 0x7E00, 0x7BFF)
    assert (BFLOAT16.bias, BFLOAT16.infinity, BFLOAT16.nan, BFLOAT16.largest) == (127, 0x7F80, 0x7FC0, 0x7F7F)


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda: FloatFormat(2, 10), "exponent_width must be in 3..8, not 2"),
        (lambda: FloatFormat(5, 24), "fraction_width must be in 2..23, not 24"),
        (lambda: FloatAdd("float16"), "format must be a FloatFormat, not 'float16'"),
        (lambda: FloatAdd(FLOAT16, overflow="wrap"), "overflow must be infinity or clamp, not 'wrap'"),
        (lambda: FloatAdd(FLOAT16, zero="minus"), "zero must be ieee or positive, not 'minus'"),
        (lambda: FloatMultiply(FLOAT16, non_finite="trap"), "non_finite must be ieee or nan, not 'trap'"),
        (lambda: FloatMultiply(FLOAT16, depth=0), "depth must be a positive integer, not 0"),
    ],
)
def test_bad_arguments(make, sentence):
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    assert str(caught.value) == sentence
