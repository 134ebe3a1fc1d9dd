"""The output path against exact fractions: least exponents, one rounding, clamps, poison."""

import dataclasses
import random
from fractions import Fraction

import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.parameters import POISONED_GROUP, ZERO_GROUP, preset
from hw.core.output_path import OutputPath
from tests.hw.streams import PATTERNS, exchange

pytestmark = pytest.mark.unit

TINY = dataclasses.replace(preset("tiny"), state_width=18)
MACHINES = {
    "tiny": TINY,
    "a lane a clock": dataclasses.replace(TINY, near_lanes=1, joint_width=6),
    "whole vectors": dataclasses.replace(TINY, near_lanes=4, digit_width=2, joint_width=2, accumulator_width=16),
    "no finer bits": dataclasses.replace(TINY, digit_width=5, joint_width=5, accumulator_width=20),
    "three of six": dataclasses.replace(
        TINY, lanes=6, near_lanes=3, digit_width=8, accumulator_width=128, memory_lanes=2
    ),
    "edge": dataclasses.replace(preset("edge"), state_width=18),
}


EVENTS = ("overflow", "poisoned", "link_outputs")


class Counted(wiring.Component):
    """An output path that counts its events."""

    def __init__(self, path):
        self.path = path
        streams = {
            "i": In(stream.Signature(path.i.payload.shape())),
            "o": Out(stream.Signature(path.o.payload.shape())),
        }
        super().__init__(streams | dict.fromkeys(EVENTS, Out(16)))

    def elaborate(self, platform):
        m = Module()
        m.submodules.path = path = self.path
        wiring.connect(m, path.i, wiring.flipped(self.i))
        wiring.connect(m, wiring.flipped(self.o), path.o)
        m.d.sync += [getattr(self, name).eq(getattr(self, name) + getattr(path, name)) for name in EVENTS]
        return m


def joint(values, floor, unit, p):
    """Exponent code, integers, and whether they were clamped (``docs/formats.md``, joint delta stream, rules 1, 2)."""
    k = p.digit_width
    for code in range(floor, 43 - k):
        r = min(p.joint_width - k, code - floor)
        integers = [round(value * Fraction(2) ** (unit - code + r)) for value in values]
        limit = (2**k - 1) << r
        if all(2 * abs(one) < limit for one in integers):
            return (code if any(integers) else ZERO_GROUP), integers, False
    top = (limit - 1) // 2
    return code, [max(-top, min(top, one)) for one in integers], True


def vectors(p, r, count):
    """Vectors with a floor, a unit and poison; magnitudes at, above and under borders, and everywhere."""
    width, k = p.accumulator_width, p.digit_width
    high = 2 ** (width - 1) - 1
    for _ in range(count):
        floor = r.randint(0, 42 - k)
        # most within reach of the codes, some beyond
        unit = max(-128, min(127, r.choice([floor - r.randint(0, width), r.randint(-128, 127)])))
        bits = r.randint(0, width - 1)
        border = ((2**k - 1) << max(bits - k, 0)) + r.randint(-2, 2)
        scale = r.choice([0, 1, border, r.getrandbits(width), 1 << bits, high + 1, (1 << bits) - 1])
        scale = min(scale, high + 1)
        values = [
            r.choice([scale, -scale, r.randint(-scale, scale), scale >> r.randint(0, width)]) for _ in range(p.lanes)
        ]
        values = [max(-high - 1, min(high, value)) for value in values]
        yield values, floor, unit, [r.random() < 0.02 for _ in range(p.lanes)]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("machine", MACHINES)
def test_against_fractions(machine, pattern):
    p = MACHINES[machine]
    seed = random.randrange(1 << 32)
    print("seed", seed)
    r = random.Random(seed)
    u, count = p.near_lanes, 150
    inputs, expected, events = [], [], {"overflow": 0, "poisoned": 0, "link_outputs": count}
    for number, (values, floor, unit, poisoned) in enumerate(vectors(p, r, count)):
        code, integers, clamped = joint(values, floor, unit, p)
        if any(poisoned):
            code, integers, clamped = POISONED_GROUP, [0] * p.lanes, False
        events["overflow"] += clamped
        events["poisoned"] += any(poisoned)
        for at in range(0, p.lanes, u):
            marks = {"last": at + u == p.lanes, "end": at + u == p.lanes and number % 7 == 6}
            inputs.append(
                {
                    "values": values[at : at + u],
                    "poisoned": sum(bit << lane for lane, bit in enumerate(poisoned[at : at + u])),
                    "floor": floor,
                    "unit": unit,
                    **marks,
                }
            )
            expected.append({"exponent": code, "values": integers[at : at + u], "floor": floor, **marks})
    result = exchange(Counted(OutputPath(p)), inputs, pattern=pattern, seed=seed, watch=events)
    assert result.outputs == expected
    assert result.ports == events
    assert events["overflow"]
    assert events["poisoned"]


@pytest.mark.parametrize("machine", MACHINES)
def test_latency_and_throughput(machine):
    p = MACHINES[machine]
    parts = p.lanes // p.near_lanes
    one = {"values": [1] * p.near_lanes, "poisoned": 0, "floor": 20, "unit": 20, "end": 0}
    inputs = [{**one, "last": number % parts == parts - 1} for number in range(20 * parts)]
    dut = OutputPath(p)
    result = exchange(dut, inputs)
    assert result.left[0] - result.taken[parts - 1] == dut.latency
    assert result.left[-1] - result.left[0] == len(inputs) - 1
