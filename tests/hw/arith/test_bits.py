"""Trees over bits, by all inputs."""

import itertools

import pytest
from amaranth.hdl import Cat, Module, Signal
from amaranth.sim import Simulator

from hw.arith.bits import add_thermometers, or_tree

pytestmark = pytest.mark.unit


def evaluate(inputs, output, patterns):
    """Values of `output` for each pattern of `inputs`."""
    m, result, found = Module(), Signal(len(output)), []
    m.d.comb += result.eq(output)

    async def bench(ctx):
        for pattern in patterns:
            for signal, value in zip(inputs, pattern, strict=True):
                ctx.set(signal, value)
            found.append(ctx.get(result))

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
    return found


@pytest.mark.parametrize("count", range(8))
def test_or_tree(count):
    bits = Signal(max(count, 1))
    patterns = [(value,) for value in range(1 << count)]
    assert evaluate([bits], or_tree(bits[:count]), patterns) == [int(value != 0) for (value,) in patterns]


def test_or_tree_of_wide_values():
    values = [Signal(3, name=f"value{index}") for index in range(3)]
    patterns = list(itertools.product(range(8), repeat=3))
    assert evaluate(values, or_tree(values), patterns) == [a | b | c for a, b, c in patterns]


@pytest.mark.parametrize("a_width, b_width, limit", [(1, 1, 4), (3, 2, 8), (3, 3, 3), (4, 2, 5), (2, 4, 1)])
def test_add_thermometers(a_width, b_width, limit):
    a, b = Signal(a_width), Signal(b_width)
    counts = list(itertools.product(range(a_width + 1), range(b_width + 1)))
    patterns = [((1 << x) - 1, (1 << y) - 1) for x, y in counts]
    found = evaluate([a, b], Cat(add_thermometers(a, b, limit)), patterns)
    assert found == [(1 << min(x + y, limit)) - 1 for x, y in counts]
