import random

import pytest

from golden.parameters import Parameters
from hw.units import OutlierSelector
from tests.hw.streams import PATTERNS, exchange, inspect, refusal

pytestmark = pytest.mark.unit


def parameters(n, m, **others):
    return Parameters(lanes=n, outliers=m, memory_lanes=1, **others)


def oracle(flags, values, m):
    """Walk the lanes from 0 and fill the slots; numerics section 4."""
    slots, rest = [], 0
    for lane, value in enumerate(values):
        if flags >> lane & 1:
            if len(slots) < m:
                slots.append({"valid": 1, "lane": lane, "value": value})
            else:
                rest |= 1 << lane
    slots += [{"valid": 0, "lane": 0, "value": 0}] * (m - len(slots))
    return {"outliers": slots, "rest": rest} if m else {"rest": rest}


def vectors(n, count, seed):
    draw = random.Random(seed)
    corners = [0, (1 << n) - 1, 1, 1 << (n - 1), (1 << n) - 2]
    for index in range(count):
        density = draw.choice([1, 2, 4, 16, 32])
        flags = corners[index] if index < len(corners) else sum((draw.randrange(density) == 0) << i for i in range(n))
        yield {"flags": flags, "values": [draw.randrange(1 << 16) for _ in range(n)]}


@pytest.mark.parametrize("n, m", [(4, 0), (4, 1), (4, 4), (5, 2), (7, 3), (16, 1), (16, 8), (32, 2), (60, 4), (64, 8)])
def test_against_a_walk_over_the_lanes(n, m):
    inputs = list(vectors(n, 150, seed=n * 16 + m))
    result = exchange(OutlierSelector(parameters(n, m)), inputs)
    assert result.outputs == [oracle(item["flags"], item["values"], m) for item in inputs]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("depth", [1, 2, 16])
def test_depth_and_back_pressure_change_nothing(depth, pattern):
    inputs = list(vectors(16, 80, seed=3))
    result = exchange(OutlierSelector(parameters(16, 2, pipeline_depth=depth)), inputs, pattern=pattern)
    assert result.outputs == [oracle(item["flags"], item["values"], 2) for item in inputs]


@pytest.mark.parametrize("m", range(5))
def test_every_flag_pattern_of_four_lanes(m):
    inputs = [{"flags": flags, "values": [0xA000, 0xB001, 0xC002, 0xFFFF]} for flags in range(16)]
    result = exchange(OutlierSelector(parameters(4, m)), inputs)
    assert result.outputs == [oracle(item["flags"], item["values"], m) for item in inputs]


@pytest.mark.parametrize(
    "n, m, depth, latency",
    [(4, 1, 16, 2), (60, 4, 16, 5), (60, 4, 2, 2), (60, 4, 1, 1), (16, 0, 16, 1), (16, 1, 16, 2)],
)
def test_latency(n, m, depth, latency):
    dut = OutlierSelector(parameters(n, m, pipeline_depth=depth))
    result = exchange(dut, list(vectors(n, 20, seed=1)))
    assert dut.latency == latency
    assert {left - taken for left, taken in zip(result.left, result.taken, strict=True)} == {latency}
    assert result.taken == list(range(20))


def test_rejects_what_is_not_parameters():
    assert repr(refusal(OutlierSelector, 4)) == "TypeError('parameters must be Parameters, not 4')"


def test_describes_itself():
    dut = inspect(OutlierSelector(Parameters()))
    assert dut.name == "outlier_selector"
    assert dut.throughput == "one vector per clock"
