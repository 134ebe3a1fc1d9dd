"""Vectors of an operation against plain loops and divisions."""

import random

import pytest

from golden.parameters import Parameters, preset
from hw.near_memory.closed_loop.places import Places
from tests.hw.streams import PATTERNS, exchange

pytestmark = pytest.mark.unit

MACHINES = {
    "tiny": preset("tiny"),
    "edge": preset("edge"),
    "six lanes": Parameters(lanes=6, memory_lanes=1, near_lanes=2),
    "sixty-four lanes": Parameters(lanes=64, memory_lanes=1),
}


def walked(walk, n):
    """Places by the words of ``docs/machine.md``."""
    channels, positions = walk["channels"], walk["positions"]
    for row in range(walk["rows"] + 1):
        for outer in range(walk["outer"]):
            for inner in range(walk["inner"]):
                index = walk["first"] + row * walk["row_step"]
                index += outer * walk["outer_step"] + inner * walk["inner_step"]
                if channels < n:
                    position, channel = divmod(index * n, channels)
                    used = positions * channels - index * n
                else:
                    of = -(-channels // n)
                    position, channel = index // of, index % of * n
                    used = channels - channel if position < positions else 0
                yield {
                    "index": index,
                    "position": position,
                    "channel": channel,
                    "used": max(0, min(n, used)),
                    "begins": outer == inner == 0,
                    "end": (row, outer, inner) == (walk["rows"], walk["outer"] - 1, walk["inner"] - 1),
                }


def walks(r, n):
    """A walk, the tensor and the steps of any size."""
    big = r.random() < 0.3
    size = {24: 1 << r.randint(0, 24), 16: 1 << r.randint(0, 16)} if big else {24: 200, 16: 9}
    return {
        "first": r.randrange(size[24]),
        "rows": r.randrange(4),
        "row_step": r.randrange(size[24]),
        "outer": r.randint(1, 4),
        "outer_step": r.randrange(size[16]),
        "inner": r.randint(1, 5),
        "inner_step": r.randrange(size[16]),
        "channels": r.choice([r.randint(1, n - 1), n, r.randint(n, 5 * n), r.randint(1, 65535)]),
        "positions": r.choice([r.randint(0, 100), r.randint(0, 2**24 - 1), r.randint(0, 20)]),
    }


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("machine", MACHINES)
def test_against_loops(machine, pattern):
    p = MACHINES[machine]
    seed = random.randrange(1 << 32)
    print("seed", seed)
    r = random.Random(seed)
    inputs = [walks(r, p.lanes) for _ in range(25)]
    expected = [one for walk in inputs for one in walked(walk, p.lanes)]
    result = exchange(Places(p), inputs, pattern=pattern, seed=seed, outputs=len(expected))
    for got, wanted in zip(result.outputs, expected, strict=True):
        if not wanted["used"]:  # where nothing is in the tensor, the place says nothing
            got |= {name: wanted[name] for name in ("position", "channel")}
        assert got == wanted


def test_throughput():
    walk = dict.fromkeys(("rows", "row_step", "outer_step", "first"), 0)
    walk |= {"outer": 4, "inner": 16, "inner_step": 2, "channels": 32, "positions": 64}
    result = exchange(Places(preset("edge")), [walk], outputs=64)
    assert result.left[-1] - result.left[0] == 2 * 63 + 5
    assert result.left[0] < 64
