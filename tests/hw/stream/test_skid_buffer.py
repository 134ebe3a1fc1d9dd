import pytest
from amaranth.lib import data

from hw.stream import SkidBuffer
from tests.hw.streams import PATTERNS, exchange

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("pattern", PATTERNS)
def test_everything_arrives_in_order(pattern):
    inputs = [(7 * index) % 256 for index in range(200)]
    result = exchange(SkidBuffer(8), inputs, pattern=pattern)
    assert result.outputs == inputs


def test_latency_and_throughput():
    result = exchange(SkidBuffer(8), range(50))
    assert [left - taken for left, taken in zip(result.left, result.taken, strict=True)] == [1] * 50
    assert result.left == list(range(1, 51))


def test_structured_payload():
    shape = data.StructLayout({"a": 3, "b": data.ArrayLayout(4, 2)})
    inputs = [{"a": 5, "b": [1, 15]}, {"a": 2, "b": [0, 9]}]
    assert exchange(SkidBuffer(shape), inputs).outputs == inputs
