"""`ProcessingElement` against exact fractions, written from docs/numerics.md section 7, on many sums at once."""

import random
from fractions import Fraction

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from amaranth.sim import Simulator

from golden.parameters import Parameters
from hw import payloads
from hw.core.processing_element import ProcessingElement, split_group, split_record
from tests.hw.streams import pack
from tests.hw.units.test_multiplier_group import POISONED, ZERO, Draw, fp16

pytestmark = pytest.mark.unit


class Bench(wiring.Component):
    """The element behind what takes a group and a record apart."""

    def __init__(self, parameters):
        self.element = ProcessingElement(parameters)
        super().__init__(
            {"group": In(payloads.delta_group(parameters)), "record": In(payloads.weight_record(parameters))}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.element = self.element
        split_group(m, self.element.row, self.group)
        split_record(m, self.element.parameters, self.element.column, self.record)
        return m


def added(item, p):
    """What a group adds to a sum."""
    code = item["group"]["exponent"]
    if code in (ZERO, POISONED):
        return 0
    exact = sum(q * w for q, w in zip(item["group"]["digits"], item["weights"], strict=True))
    exact *= Fraction(2) ** (code - 24)
    for slot in item["group"].get("outliers", []):
        exact += fp16(slot["value"]) * item["weights"][slot["lane"]] if slot["valid"] else 0
    return round(exact * Fraction(2) ** item["scale"])


def check(p, seed, count=160):
    print(f"seed {seed}")
    r, items = random.Random(seed), Draw(p, seed).items(count)
    dut = Bench(p)
    element, latency = dut.element, dut.element.latency
    low, high = -(1 << p.accumulator_width - 1), (1 << p.accumulator_width - 1) - 1
    sums, last_at, plan, clock = {}, {}, {}, 0
    for item in items:
        clock += r.choice([1, 1, 1, 2, 5])
        address = r.randrange(p.tile_positions)
        clock = max(clock, last_at.get(address, -9) + element.spacing)
        last_at[address] = clock
        first = item["first"] or address not in sums
        poison = item["group"]["exponent"] == POISONED
        total, poisoned = (0, False) if first else sums[address]
        exact = added(item, p) + total
        total = min(max(exact, low), high)
        sums[address] = total, poisoned or poison
        plan[clock] = item, first, address, poison, (exact != total, *sums[address])

    async def bench(ctx):
        for now in range(clock + latency + 4):
            item = plan.get(now, plan[clock])[0]
            ctx.set(dut.group.as_value(), pack(dut.group.shape(), item["group"]))
            record = {"scale": item["scale"], "weights": item["weights"]}
            ctx.set(dut.record.as_value(), pack(dut.record.shape(), record))
            _, first, address, _, _ = plan.get(
                now - latency, (0, r.getrandbits(1), r.randrange(p.tile_positions), 0, 0)
            )
            ctx.set(element.first, first)
            ctx.set(element.address, address)
            ctx.set(element.poison, plan.get(now - latency - 1, (0, 0, 0, r.getrandbits(1), 0))[3])
            done = plan.get(now - latency - 2)
            ctx.set(element.write_enable, done is not None)
            if done is not None:
                ctx.set(element.write_address, done[2])
                clamped, total, poisoned = done[4]
                got = ctx.get(element.result.total), ctx.get(element.result.negative), ctx.get(element.result.poisoned)
                assert ctx.get(element.clamped) == clamped, now
                assert got[2] == poisoned, now
                assert (total if clamped else got[0]) == total, now
                assert not clamped or got[1] == (total < 0), now
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("width", [16, 32, 48])
@pytest.mark.parametrize("m", [0, 1, 3])
def test_sums(m, width):
    p = Parameters(lanes=4, outliers=m, accumulator_width=width, tile_positions=7, fraction_bits=10, memory_lanes=1)
    check(p, seed=16 * m + width)


@pytest.mark.parametrize(("k", "n", "m"), [(2, 5, 1), (8, 4, 0), (8, 4, 8 // 2), (5, 13, 2), (4, 32, 0)])
def test_shapes(k, n, m):
    p = Parameters(lanes=n, digit_width=k, outliers=m, tile_positions=3, near_lanes=1, memory_lanes=1)
    check(p, seed=k * n + m, count=90)
