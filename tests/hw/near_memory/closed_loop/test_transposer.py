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


def transposed(row, kept, size=None):
    """The first columns of each `size` vectors (without it n), each filled up with zeros to whole vectors."""
    n = row.shape[1]
    columns = [row[low : low + (size or n), :kept].T for low in range(0, len(row), size or n)]
    return np.concatenate([np.pad(one, ((0, 0), (0, -one.shape[1] % n))).reshape(-1, n) for one in columns])


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


@pytest.mark.parametrize("pattern", ("none", "both"))
@pytest.mark.parametrize(("n", "u", "capacity"), [(4, 1, 16), (4, 2, 22), (6, 3, 20), (4, 4, 9), (16, 2, 32)])
def test_blocks_of_any_size(n, u, capacity, pattern, fresh_seed):
    """Up to all that there is room for: two at a time where they fit, one otherwise."""
    draw = random.Random(fresh_seed)
    p = Parameters(lanes=n, near_lanes=u, memory_lanes=1)
    for size in {1, capacity, draw.randint(1, capacity // 2), draw.randint(capacity // 2, capacity)}:
        kept, sent, expected = draw.randint(1, n), [], []
        for _ in range(3):
            length = draw.choice([size, draw.randint(1, 2 * size)])
            row = np.random.default_rng(draw.randrange(2**32)).integers(1, 512, (length, n))
            sent += parts_of(row, u, final=True)
            expected += parts_of(transposed(row, kept, size), u, final=True)
        unit, ports = Transposer(p, 9, capacity), {"kept": kept, "block": size}
        result = exchange(unit, sent, pattern=pattern, seed=fresh_seed, outputs=len(expected), ports=ports)
        assert result.outputs == expected


@pytest.mark.parametrize(("size", "overlapped"), [(16, True), (17, False)])
def test_blocks_that_fit_twice_overlap(size, overlapped):
    p = Parameters(lanes=4, near_lanes=2, memory_lanes=1)
    row = np.arange(3 * size * 4).reshape(-1, 4) % 512
    sent = parts_of(row, 2, final=True)
    count = 3 * 4 * -(-size // 4) * 2
    result = exchange(Transposer(p, 9, 32), sent, outputs=count, ports={"kept": 4, "block": size})
    clocks = result.left[-1] - result.taken[0]
    assert (clocks < 4 * 2 * size + 8) == overlapped


def test_a_part_per_clock():
    p = Parameters(lanes=8, near_lanes=2, memory_lanes=1)
    row = np.arange(8 * 8 * 6).reshape(-1, 8) % 512
    sent = parts_of(row, 2, final=True)
    result = exchange(Transposer(p, 9), sent, outputs=len(sent), ports={"kept": 8})
    assert result.left == list(range(result.left[0], result.left[0] + len(sent)))
    assert result.left[0] - result.taken[0] == 8 * 8 // 2 + 3
