"""A rounding shift against exact fractions: every place of every value, and far beyond."""

import random
from fractions import Fraction

import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.rounding import round_shift, shift_amount
from hw.stream import Stage
from tests.hw.streams import exchange

pytestmark = pytest.mark.unit


class Shifter(wiring.Component):
    def __init__(self, value_width, width):
        self.width = width
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout({"value": signed(value_width), "right": signed(10)}))),
                "o": Out(stream.Signature(data.StructLayout({"rounded": signed(width), "clamped": 1}))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        s = Stage.begin(m, self.i)
        value = self.i.p.value
        s = round_shift(s, value, shift_amount(m, "amount", self.i.p.right, len(value), self.width), self.width)
        o = Signal(self.o.p.shape())
        m.d.comb += [o.rounded.eq(s.rounded), o.clamped.eq(s.clamped)]
        s.finish(self.o, o, depth=s.cuts)
        return m


def expected(value, right, width):
    rounded = round(Fraction(value) / Fraction(2) ** right)
    top = 2 ** (width - 1) - 1
    return {"rounded": max(-top, min(top, rounded)), "clamped": int(abs(rounded) > top)}


@pytest.mark.parametrize(("value_width", "width"), [(4, 3), (5, 9), (37, 17), (17, 18)])
def test_against_fractions(value_width, width):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    r = random.Random(seed)
    low = -(1 << value_width - 1)
    if value_width < 6:
        cases = [(v, right) for v in range(low, -low) for right in range(-width - 2, value_width + 3)]
    else:
        cases = [(r.randrange(low, -low) >> r.randrange(value_width), r.randrange(-20, 45)) for _ in range(1500)]
        # ties, and what rounds up to the border
        for right in range(1, value_width - 1):
            odd = 2 * r.randrange(1 << min(width, value_width - right - 1)) + 1
            cases += [(sign * (odd << right - 1) // 2, right) for sign in (1, -1)]
    cases += [(v, right) for v in (low, low + 1, -1, 0, 1, -low - 1) for right in (-512, -300, -1, 0, 1, 300, 511)]
    found = exchange(Shifter(value_width, width), [{"value": v, "right": right} for v, right in cases])
    assert found.outputs == [expected(*case, width) for case in cases]
