# amaranth: UnusedElaboratable=no
"""`DenseGroup` against exact fractions, within what its kept bits lose."""

import random
from fractions import Fraction

import pytest

from hw.rivals.dense_group import DenseGroup
from tests.hw.streams import PATTERNS, exchange

pytestmark = pytest.mark.unit


def split(pattern):
    field, fraction = pattern >> 10 & 31, pattern & 1023
    return pattern >> 15, max(field, 1), fraction + (1024 if field else 0)


def oracle(items, kept, width):
    """Sums emitted: each product cut to the kept bits below the largest exponent, the rest exact."""
    sums, total, clamped = [], 0, 0
    low, high = -(1 << width - 1), (1 << width - 1) - 1
    for item in items:
        products = []
        for x, w in zip(item["values"], item["weights"], strict=True):
            (sx, ex, mx), (sw, ew, mw) = split(x), split(w)
            products.append((sx ^ sw, ex + ew, mx * mw))
        anchor = max(exponent for _, exponent, _ in products)
        spare = kept - 22
        exact = sum((-1) ** sign * ((product << spare) >> anchor - exponent) for sign, exponent, product in products)
        rounded = round(exact * Fraction(2) ** (anchor - 50 - spare + item["scale"]))
        total = rounded + (0 if item["first"] else total)
        if not low <= total <= high:
            clamped, total = 1, min(max(total, low), high)
        if item["last"]:
            sums.append(total)
    return sums, clamped


def draw(n, count, width, seed):
    r = random.Random(seed)

    def number():
        field = r.choice([0, 1, 15, 30, r.randint(10, 20), r.randint(13, 17)])
        return r.getrandbits(1) << 15 | field << 10 | r.choice([0, 1023, r.getrandbits(10)])

    items = []
    for _ in range(count):
        values, weights = [number() for _ in range(n)], [number() for _ in range(n)]
        anchor = max(split(x)[1] + split(w)[1] for x, w in zip(values, weights, strict=True))
        scale = r.choice([30 - anchor + r.randint(-6, width), r.randint(-200, 200), 12])
        items.append(
            {
                "first": r.random() < 0.3,
                "last": r.random() < 0.6,
                "scale": max(-220, min(220, scale)),
                "values": values,
                "weights": weights,
            }
        )
    items[0]["first"] = items[-1]["last"] = True
    return items


@pytest.mark.parametrize("n, kept, width", [(4, 32, 32), (5, 22, 16), (16, 32, 32), (2, 48, 64)])
def test_against_fractions(n, kept, width):
    items = draw(n, 120, width, seed=n)
    sums, clamped = oracle(items, kept, width)
    dut = DenseGroup(lanes=n, kept=kept, accumulator_width=width)
    result = exchange(dut, items, outputs=len(sums), watch=("overflow",))
    assert result.outputs == sums
    assert result.ports == {"overflow": clamped}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("depth", [1, 5, 64])
def test_depth_and_back_pressure_change_nothing(depth, pattern):
    items = draw(4, 40, 32, seed=depth)
    sums, _ = oracle(items, 32, 32)
    assert exchange(DenseGroup(lanes=4, depth=depth), items, pattern=pattern, outputs=len(sums)).outputs == sums


def test_arguments_are_checked():
    with pytest.raises(ValueError, match=r"^lanes must be in 2\.\.64, not 1$"):
        DenseGroup(lanes=1)
    with pytest.raises(ValueError, match=r"^kept must be in 22\.\.48, not 12$"):
        DenseGroup(lanes=4, kept=12)
