import gc
import random
import re

import pytest

from hw.stream.fifo import Fifo
from tests.hw.streams import PATTERNS, exchange, inspect

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("depth", [2, 4, 16])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_keeps_everything_in_order(depth, pattern):
    values = [random.Random(depth).randrange(1 << 16) for _ in range(200)]
    result = exchange(Fifo(16, depth), values, pattern=pattern)
    assert result.outputs == values


@pytest.mark.parametrize("depth", [2, 4, 16])
def test_latency_and_throughput(depth):
    result = exchange(Fifo(8, depth), range(50))
    assert result.left[0] - result.taken[0] == Fifo.latency
    assert result.left[-1] - result.left[0] == 49


def test_depth():
    assert inspect(Fifo(8, 4)).depth == 4


@pytest.mark.filterwarnings("ignore:.*created but never used")
@pytest.mark.parametrize(
    ("depth", "error", "message"),
    [
        (1, ValueError, "Depth of a queue must be a power of two, at least 2, not 1"),
        (12, ValueError, "Depth of a queue must be a power of two, at least 2, not 12"),
        (None, TypeError, "Depth of a queue must be an integer, not None"),
    ],
)
def test_rejects(depth, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        Fifo(8, depth)
    gc.collect()  # the refused component must go while its warning is ignored
