"""Trees over bits, by all inputs."""

import itertools

import pytest
from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import data
from amaranth.sim import Simulator

from hw.arith.bits import (
    add_thermometers,
    below_power,
    bounded,
    choose,
    filled,
    in_range,
    looked_up,
    multiply_constant,
    one_of,
    ones,
    or_tree,
    prefix_ones,
    saturated,
    take,
)

pytestmark = pytest.mark.unit


def evaluate(inputs, output, patterns, m=None):
    """Values of `output` for each pattern of `inputs`; `m` holds what it depends on."""
    m, result, found = m or Module(), Signal(len(output)), []
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


def test_ranges():
    value = Signal(signed(6))
    patterns = [(number,) for number in range(-32, 32)]
    for power in range(1, 5):
        expected = [int(abs(number) < 2**power) for (number,) in patterns]
        assert evaluate([value], below_power(value, power), patterns) == expected
    for least, most in [(0, 1), (2, 30), (0, 12), (3, 3)]:
        expected = [int(least <= number <= most) for (number,) in patterns]
        assert evaluate([value], in_range(value, least, most), patterns) == expected


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


@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_counts_of_ones(width):
    m, bits = Module(), Signal(width)
    patterns = [(value,) for value in range(1 << width)]
    assert evaluate([bits], ones(m, "bits", bits), patterns, m) == [value.bit_count() for (value,) in patterns]


@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_prefix_counts_and_a_choice_among_them(width):
    m, bits, place = Module(), Signal(width), Signal(4)
    counts = prefix_ones(m, "bits", bits)
    assert len(counts) == width + 1
    patterns = list(itertools.product(range(1 << width), range(16)))
    found = evaluate([bits, place], choose(m, "count", place, counts), patterns, m)
    assert found == [(value % (1 << at)).bit_count() if at <= width else 0 for value, at in patterns]


@pytest.mark.parametrize("width, first", [(1, 0), (3, 0), (6, 0), (2, 1), (4, 1), (3, 2)])
def test_take(width, first):
    m, bits, amount = Module(), Signal(9), Signal(2)
    patterns = list(itertools.product(range(512), range(4)))
    found = evaluate([bits, amount], take(m, "bits", bits, amount, width, first=first), patterns, m)
    assert found == [(value >> (at << first)) % (1 << width) for value, at in patterns]


@pytest.mark.parametrize("most", range(8))
def test_take_of_amounts_that_are_not_all(most):
    m, bits, amount = Module(), Signal(9), Signal(3)
    patterns = list(itertools.product(range(512), range(most + 1)))
    found = evaluate([bits, amount], take(m, "bits", bits, amount, 3, most=most), patterns, m)
    assert found == [(value >> at) % 8 for value, at in patterns]


def test_one_of():
    cases, values = Signal(3), [Signal(4, name=f"value{index}") for index in range(3)]
    patterns = [(1 << which if which < 3 else 0, 3, 9, 12) for which in range(4)]
    output = one_of([(cases[index], value) for index, value in enumerate(values)])
    assert evaluate([cases, *values], output, patterns) == [3, 9, 12, 0]


@pytest.mark.parametrize("factor", [1, 3, 4, 13])
def test_multiply_constant(factor):
    value = Signal(5)
    patterns = [(number,) for number in range(32)]
    assert evaluate([value], multiply_constant(value, factor), patterns) == [number * factor for (number,) in patterns]


def test_looked_up():
    index, m = Signal(4), Module()
    values = [3, 0, 12, 1, 1, 0, 7]
    found = evaluate([index], looked_up(m, "found", index, values), [(place,) for place in range(16)], m)
    assert found == values + [0] * 9


def test_filled():
    m, a, b = Module(), Signal(signed(4)), Signal(3)
    layout = data.StructLayout({"a": signed(4), "lanes": data.ArrayLayout(3, 2), "rest": 2})
    view = filled(m, "view", layout, a=a, lanes=[b, b + 1])
    patterns = [(-3, 5), (7, 7)]
    found = evaluate([a, b], view.as_value(), patterns, m)
    assert found == [x % 16 | y << 4 | (y + 1) % 8 << 7 for x, y in patterns]
    with pytest.raises(KeyError):
        filled(m, "other", layout, c=a)


@pytest.mark.parametrize("width", [1, 3, 6])
def test_what_does_not_fit(width):
    """All ones, or the highest bit at least."""
    value, patterns = Signal(6), [(item,) for item in range(64)]
    largest = (1 << width) - 1
    assert evaluate([value], saturated(value, width), patterns) == [min(item, largest) for item in range(64)]
    found = evaluate([value], bounded(value, width), patterns)
    assert [item for item, *_ in patterns if found[item] == item] == list(range(1 << width))
    assert all(result >= 1 << width - 1 for result in found[1 << width :])
