"""Pairs exchanged against numpy, where a pair may lie in two parts."""

import numpy as np
import pytest

from golden.parameters import preset
from hw.near_memory.closed_loop.pairs import Pairs
from tests.hw.streams import PATTERNS, exchange

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("exchanged", [0, 1])
@pytest.mark.parametrize(("lanes", "u"), [(4, 1), (6, 3), (10, 5)])
def test_pairs(lanes, u, exchanged, pattern, fresh_seed):
    p = preset("tiny").with_settings([f"lanes={lanes}", f"near_lanes={u}", "memory_lanes=1"])
    x = np.random.default_rng(fresh_seed).integers(-(2**17), 2**17, (7, lanes))
    expected = x.reshape(-1, 2)[:, ::-1] if exchanged else x
    ports = {"exchanged": exchanged}
    result = exchange(Pairs(p), x.reshape(-1, u).tolist(), pattern=pattern, seed=fresh_seed, ports=ports)
    assert result.outputs == expected.reshape(-1, u).tolist()
