"""`ChainScale` against fractions: one rounding of the exact product and shift, and against golden's unit."""

import random
from fractions import Fraction

import numpy as np
import pytest

from golden.parameters import Parameters
from hw.core.chain_scale import ChainScale
from tests.hw.streams import PATTERNS, counted, exchange

pytestmark = pytest.mark.unit

SHAPES = {
    "one": {"near_lanes": 1},
    "edge": {},
    "published": {"near_lanes": 4, "accumulator_width": 48, "exponent_policy": "layer", "output_passes": 1},
    "narrow": {"near_lanes": 1, "accumulator_width": 16},
}


def fraction(pattern):
    """The number of a finite FP16 pattern."""
    return Fraction(float(np.uint16(pattern).view(np.float16)))


def nearest(value):
    """FP16 pattern nearest to a fraction, ties to even, clamped; 0 is +0 where nothing is rounded."""
    if not value:
        return 0
    exponent = max(-14, max(e for e in range(-40, 400) if Fraction(2) ** e <= abs(value) or e == -40))
    unit = Fraction(2) ** (exponent - 10)
    magnitude = min(round(abs(value) / unit) * unit, Fraction(65504))
    if abs(value) >= 65520:
        magnitude = Fraction(65504)
    return int(np.float16(float(magnitude)).view(np.uint16)) | (0x8000 if value < 0 else 0)


def half(r):
    """A finite pattern of any kind."""
    return r.choice(
        (0, 0x8000, 1, 0x8001, 0x3FF, 0x400, 0x7BFF, 0xFBFF, 0x3C00, r.getrandbits(1) << 15 | r.randrange(31 << 10))
    )


def lane(r, width, unit):
    """A sum, a factor and a shift: any, alike in size, cancelling, half-way between two numbers, or poisoned."""
    total = r.choice(
        (0, 1, -1, (1 << width - 1) - 1, -(1 << width - 1), r.randrange(-(1 << width - 1), 1 << width - 1))
    )
    total = r.choice((total, r.randrange(-(1 << 12), 1 << 12) << r.randrange(width - 13)))
    factor, shift = half(r), half(r)
    kind = r.choice(("any", "alike", "cancels", "tie", "tie"))
    product = total * Fraction(2) ** (unit - 24) * fraction(factor)
    if kind == "alike":
        shift = nearest(product * Fraction(r.randint(-300, 300), 100))
    elif kind == "cancels":
        shift = nearest(-product)
    elif kind == "tie":
        # A product of one bit beside a shift: it falls between two numbers, or next to that.
        factor = r.getrandbits(1) << 15 | r.randrange(1, 31) << 10
        total = r.choice((-1, 1)) * (1 << r.randrange(width - 1)) + r.choice((0, 0, 1, -1))
    return total, factor, shift


@pytest.mark.parametrize("name", SHAPES)
def test_one_rounding_of_the_exact_sum(name, fresh_seed):
    p, r = Parameters(**SHAPES[name]), random.Random(fresh_seed)
    u, inputs, wanted, clamped, lost = p.near_lanes, [], [], 0, 0
    for _ in range(600 // u):
        unit = r.choice((r.randrange(-128, 128), r.randrange(-30, 30), r.randrange(-30, 10)))
        rows = [lane(r, p.accumulator_width, unit) for _ in range(u)]
        poisoned = [int(r.random() < 0.03) for _ in range(u)]
        if r.random() < 0.05:
            total, factor, shift = rows[0]
            rows[0] = (total, 0x7C00, shift) if r.getrandbits(1) else (total, factor, 0x7E01)
        settings = {
            "last": r.getrandbits(1),
            "end": r.getrandbits(1),
            "floor": r.randrange(40),
            "passes": r.randrange(8),
        }
        if p.exponent_policy == "layer":
            settings["static"] = r.getrandbits(1)
        inputs.append({"unit": unit, "poisoned": sum(bit << at for at, bit in enumerate(poisoned)), **settings})
        for at, field in enumerate(("sums", "factors", "shifts")):
            inputs[-1][field] = [row[at] for row in rows]
        values = []
        for (total, factor, shift), bad in zip(rows, poisoned, strict=True):
            if bad or factor >> 10 & 31 == 31 or shift >> 10 & 31 == 31:
                values.append(0x7E00)
                continue
            exact = total * Fraction(2) ** (unit - 24) * fraction(factor) + fraction(shift)
            values.append(nearest(exact))
            clamped += abs(exact) >= 65520
        lost += 0x7E00 in values
        wanted.append({"values": values, **settings})
    dut = ChainScale(p)
    wrap = counted(dut, "overflow", "poisoned")
    watch = ["seen_overflow", "seen_poisoned"]
    result = exchange(dut, inputs, pattern=r.choice(PATTERNS), watch=watch, wrap=wrap)
    for sent, got, expected in zip(inputs, result.outputs, wanted, strict=True):
        assert got == expected, sent
    assert result.ports["seen_poisoned"] == lost
    assert bool(result.ports["seen_overflow"]) == bool(clamped)
