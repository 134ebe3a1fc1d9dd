"""`ChannelScale` against exact fractions, written from docs/numerics.md section 8."""

import random
from fractions import Fraction

import numpy as np
import pytest

from golden.parameters import Parameters
from hw.units import ChannelScale
from tests.hw.streams import PATTERNS, exchange

pytestmark = pytest.mark.unit


def exact(pattern):
    return Fraction(float(np.array(pattern, np.uint16).view(np.float16)))


def nearest_half(value):
    """Pattern of the FP16 number nearest to a fraction, ties to even, and whether it was clamped."""
    magnitude, sign = abs(value), 0x8000 if value < 0 else 0
    exponent = -14
    while magnitude >= Fraction(2) ** (exponent + 1):
        exponent += 1
    steps = round(magnitude / Fraction(2) ** (exponent - 10))  # Python rounds fractions to even
    if steps * Fraction(2) ** (exponent - 10) > 65504:
        return sign | 0x7BFF, True
    return sign | int(np.float16(float(steps * Fraction(2) ** (exponent - 10))).view(np.uint16)), False


def oracle(item):
    values, clamped, poisoned = [], False, False
    for total, scale, lsb in zip(item["sums"], item["scale"], item["lsb"], strict=True):
        if total["poisoned"] or scale & 0x7C00 == 0x7C00:
            values.append(0x7E00)
            poisoned = True
            continue
        value, too_large = nearest_half(total["sum"] * exact(scale) * Fraction(2) ** lsb)
        values.append(value)
        clamped |= too_large
    return values, clamped, poisoned


def lane(r, width, *, wrong):
    limit = 1 << width - 1
    total = r.choice(
        [
            0,
            1,
            -1,
            limit - 1,
            -limit,
            *(r.randrange(-1 << r.randrange(width), 1 << r.randrange(width)) for _ in range(6)),
        ]
    )
    scale = r.choice([0, 0x8000, 1, 0x8001, 0x3C00, 0x7BFF, 0xFBFF, *(r.getrandbits(15) for _ in range(5)), 0x9ABC])
    if not wrong and scale & 0x7C00 == 0x7C00:
        scale ^= 0x4000
    # Mostly where FP16 has something to say: sum * 2^lsb of about 1, give or take 30 bits.
    near = -total.bit_length() + r.randrange(-30, 30)
    lsb = r.choice([-256, 255, *[max(-256, near)] * 8])
    return {"sum": total, "poisoned": int(wrong and r.random() < 0.1)}, scale, lsb


def vectors(p, count, seed, *, wrong):
    r = random.Random(seed)
    for _ in range(count):
        sums, scales, lsbs = zip(*(lane(r, p.accumulator_width, wrong=wrong) for _ in range(p.lanes)), strict=True)
        yield {"sums": list(sums), "scale": list(scales), "lsb": list(lsbs)}


@pytest.mark.parametrize(("width", "depth"), [(16, 16), (32, 1), (32, 16), (33, 3), (48, 2), (128, 16)])
def test_values(width, depth):
    p = Parameters(lanes=4, accumulator_width=width, pipeline_depth=depth)
    items = list(vectors(p, 1600 // width + 40, width + depth, wrong=False))
    result = exchange(ChannelScale(p), items, pattern=PATTERNS[depth % 4], watch=["overflow", "poisoned"])
    expected = [oracle(item) for item in items]
    assert result.outputs == [values for values, _, _ in expected]
    assert result.ports == {"overflow": int(any(clamped for _, clamped, _ in expected)), "poisoned": 0}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_poison(pattern):
    p = Parameters(lanes=4)
    items = list(vectors(p, 60, 9, wrong=True))
    result = exchange(ChannelScale(p), items, pattern=pattern, watch=["poisoned"])
    assert result.outputs == [oracle(item)[0] for item in items]
    assert result.ports["poisoned"] == 1


def test_ties_go_to_even_once():
    # 2049 and 2051 lie half-way between neighbours; a sticky one far below decides for the upper.
    p = Parameters(lanes=4, accumulator_width=64)
    sums = [2049 << 30, 2051 << 30, (2049 << 30) + 1, -(2049 << 30)]
    item = {"sums": [{"sum": s, "poisoned": 0} for s in sums], "scale": [0x3C00] * 4, "lsb": [-30] * 4}
    result = exchange(ChannelScale(p), [item])
    assert [float(exact(value)) for value in result.outputs[0]] == [2048.0, 2052.0, 2050.0, -2048.0]


def test_keeps_up_and_takes_latency_clocks():
    p = Parameters(lanes=4, pipeline_depth=4)
    items = list(vectors(p, 20, 1, wrong=False))
    dut = ChannelScale(p)
    result = exchange(dut, items)
    assert result.left[0] - result.taken[0] == dut.latency == 4
    assert result.left[-1] - result.left[0] == len(items) - 1
