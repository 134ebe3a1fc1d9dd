"""Serial products and quotients against Python's integers."""

import random
from fractions import Fraction

import pytest
from amaranth.hdl import signed

from hw.arith.serial import Divider, Multiplier, Quotient
from tests.hw.streams import PATTERNS, exchange, refusal

pytestmark = pytest.mark.unit


def generator():
    seed = random.randrange(1 << 32)
    print("seed", seed)
    return random.Random(seed)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(
    ("a", "b_width", "step"), [(4, 3, 1), (signed(4), 4, 3), (signed(32), 17, 2), (signed(32), 17, 1), (32, 16, 1)]
)
def test_products(a, b_width, step, pattern):
    r, signs = generator(), isinstance(a, type(signed(1))) and a.signed
    width = a if isinstance(a, int) else a.width
    low = -(1 << width - 1) if signs else 0
    pairs = [(low, (1 << b_width) - 1), (low + (1 << width) - 1, (1 << b_width) - 1), (low, 0), (1, 1)]
    pairs += [(r.randrange(low, low + (1 << width)), r.randrange(1 << b_width)) for _ in range(60)]
    found = exchange(Multiplier(a, b_width, step=step), [{"a": x, "b": y} for x, y in pairs], pattern=pattern)
    assert found.outputs == [x * y for x, y in pairs]
    if pattern == "none":
        waits = [left - taken for taken, left in zip(found.taken, found.left, strict=True)]
        assert waits == [1 + -(-y.bit_length() // step) for _, y in pairs]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("divisor", [1, 2, 3, 16, 60, 64])
def test_quotients(divisor, pattern):
    r = generator()
    numbers = [0, 1, divisor - 1, divisor, 2**20 - 1, *(r.randrange(2**20) for _ in range(40))]
    found = exchange(Divider(20, divisor), numbers, pattern=pattern)
    rests = [{"quotient": number // divisor, "rest": number % divisor} for number in numbers]
    assert found.outputs == rests


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("width", "divisor_width"), [(1, 1), (9, 5), (64, 32), (6, 9)])
def test_nearest_quotients(width, divisor_width, pattern):
    r = generator()
    pairs = [(r.randrange(1 << width), r.randrange(1, 1 << r.randint(1, divisor_width))) for _ in range(60)]
    # Ties, to an even number above and below.
    pairs += [(3 * d // 2, d) for d in range(2, min(1 << divisor_width, 64), 2) if 5 * d // 2 < 1 << width][:20]
    pairs += [(5 * d // 2, d) for d in range(2, min(1 << divisor_width, 64), 2) if 5 * d // 2 < 1 << width][:20]
    found = exchange(Quotient(width, divisor_width), [{"number": a, "divisor": b} for a, b in pairs], pattern=pattern)
    assert found.outputs == [round(Fraction(a, b)) for a, b in pairs]
    if pattern == "none":
        waits = [left - taken for taken, left in zip(found.taken, found.left, strict=True)]
        assert set(waits) == {width + 2}


def test_rejects():
    assert str(refusal(Divider, 8, 0)) == "Divisor must be at least 1, not 0"
