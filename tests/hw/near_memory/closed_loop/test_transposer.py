"""The transposer against numpy, on rows of any length."""

import random

import numpy as np
import pytest

from golden.parameters import Parameters
from hw.near_memory.closed_loop.transposer import Transposer
from tests.hw.streams import PATTERNS, exchange

pytestmark = pytest.mark.unit


def parts_of(vectors, u, *, final):
    """Parts of vectors; the last one carries `end` if it is the last of a row."""
    found = []
    for number, vector in enumerate(vectors.tolist()):
        for low in range(0, len(vector), u):
            last = low + u == len(vector)
            end = last and final and number == len(vectors) - 1
            found.append({"values": vector[low : low + u], "last": int(last), "end": int(end)})
    return found


def transposed(row, kept):
    """The columns of each n vectors, the last block filled up with zeros."""
    n = row.shape[1]
    blocks = np.pad(row, ((0, -len(row) % n), (0, 0))).reshape(-1, n, n)
    return blocks.swapaxes(1, 2)[:, :kept].reshape(-1, n)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("n", "u"), [(4, 1), (4, 2), (4, 4), (6, 3), (12, 6), (16, 2), (9, 3)])
def test_rows(n, u, pattern):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    p = Parameters(lanes=n, near_lanes=u, memory_lanes=1)
    kept = draw.choice([1, n, draw.randint(1, n)])
    sent, expected = [], []
    for _ in range(4):
        row = np.random.default_rng(draw.randrange(2**32)).integers(1, 512, (draw.randint(1, 2 * n + 1), n))
        sent += parts_of(row, u, final=True)
        expected += parts_of(transposed(row, kept), u, final=True)
    result = exchange(Transposer(p, 9), sent, pattern=pattern, seed=seed, outputs=len(expected), ports={"kept": kept})
    assert result.outputs == expected


def test_a_part_per_clock():
    p = Parameters(lanes=8, near_lanes=2, memory_lanes=1)
    row = np.arange(8 * 8 * 6).reshape(-1, 8) % 512
    sent = parts_of(row, 2, final=True)
    result = exchange(Transposer(p, 9), sent, outputs=len(sent), ports={"kept": 8})
    assert result.left == list(range(result.left[0], result.left[0] + len(sent)))
    assert result.left[0] - result.taken[0] == 8 * 8 // 2 + 3
