"""Sums near memory against exact integers, on random vectors of every kind of tensor."""

import dataclasses
import functools

import numpy as np
import pytest

from golden.machine import image
from golden.machine.accelerator import Region
from golden.parameters import preset
from hw.near_memory.closed_loop.sums import Sums
from sim import engine

pytestmark = pytest.mark.cocotb

TINY = preset("tiny")
MACHINES = {
    "tiny": TINY,
    "whole vectors": dataclasses.replace(TINY, near_lanes=4, memory_width=32),
    "edge": preset("edge"),
    "three of six": dataclasses.replace(TINY, lanes=6, near_lanes=3, state_width=24, memory_width=256),
}
UNITS = 600


@functools.cache
def model(machine):
    p = MACHINES[machine]
    return engine.build(Sums(p, 64 * p.lanes))


def vectors(draw, p, by_position):
    """Channels of a tensor, and vectors in ascending order of records: (base, position, channel, used) each."""
    n = p.lanes
    channels = int(draw.choice([draw.integers(1, n), n, draw.integers(n, 3 * n + 1)]))
    positions, rows = int(draw.integers(1, 2 * n)), int(draw.integers(1, 4))
    group = int(draw.integers(-(-channels // n))) * n
    found, base = [], int(draw.integers(20))
    for _ in range(rows):
        if channels < n:
            total = positions * channels
            starts = [(at // channels, at % channels, min(n, total - at)) for at in range(0, total, n)]
        else:
            groups = range(0, channels, n) if by_position else [group]
            starts = [(at, first, min(n, channels - first)) for at in range(positions) for first in groups]
        found += [(base, *one) for one in starts if draw.random() < 0.7]
        if draw.random() < 0.2:
            found.append((base, 0, 0, 0))
        # other rows have the same records, or ones past all of these
        if by_position or draw.random() < 0.5:
            base += (positions if by_position else channels) + int(draw.integers(3))
    return channels, found


def elements(draw, p, shape):
    top = 2 ** (p.state_width - 1) - 1
    kind = draw.integers(0, 8, shape)
    values = np.where(kind < 3, draw.integers(-top, top + 1, shape), draw.integers(-9, 10, shape))
    values = np.where(kind == 3, np.where(draw.random(shape) < 0.5, top, -top), values)
    return np.where(draw.random(shape) < 0.01, -top - 1, values)


@pytest.mark.parametrize("by_position", [False, True])
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("mode", ["none", "both"])
def test_against_exact_integers(machine, by_position, mode, fresh_seed):
    p = MACHINES[machine]
    draw = np.random.default_rng(fresh_seed)
    for turn in range(12):
        n, poison = p.lanes, -(2 ** (p.state_width - 1))
        channels, found = vectors(draw, p, by_position)
        if not found:
            continue
        fresh = bool(draw.integers(2))
        memory = draw.integers(0, 256, (UNITS + 64) * 32).astype(np.uint8)
        region, offset = Region(16, UNITS), int(draw.integers(40))
        begin = (region.base + offset) * 32
        old, new = elements(draw, p, (len(found), n)), elements(draw, p, (len(found), n))
        records: dict[int, list[int]] = {}
        for (base, position, channel, used), before, after in zip(found, old, new, strict=True):
            if not by_position and channels < n and used:
                for each in range(channels):
                    records.setdefault(base + each, [0, 0, 0])
            for lane in range(used):
                at = channel + lane if channels >= n else (position * channels + channel + lane) % channels
                place = position if channels >= n else (position * channels + channel + lane) // channels
                record = records.setdefault(base + (place if by_position else at), [0, 0, 0])
                was, now = (0 if one == poison else int(one) for one in (before[lane], after[lane]))
                record[0] += now - was
                record[1] += now**2 - was**2
                record[2] |= int(after[lane] == poison)
        expected = memory.copy()
        for number, (total, square, lost) in records.items():
            where = slice(begin + number * 16, begin + number * 16 + 16)
            held = int.from_bytes(memory[where].tobytes(), "little")
            held = 0 if fresh else held
            total, square = (held + total) % 2**64, (held // 2**64 + square) % 2**63
            whole = total | square << 64 | (held >> 127 | lost) << 127
            expected[where] = np.frombuffer(whole.to_bytes(16, "little"), np.uint8)
        u = p.near_lanes
        parts = len(found) * n // u
        last = np.arange(parts) % (n // u) == n // u - 1
        streams = {
            "vectors": dict(zip(("base", "position", "channel", "used"), np.array(found).T, strict=True)),
            "i": {
                "old": old.reshape(-1, u),
                "new": new.reshape(-1, u),
                "last": last,
                "end": last & (np.arange(parts) == parts - 1),
            },
        }
        settings = {"by_position": by_position, "fresh": fresh, "channels": channels, "region": 2, "offset": offset}
        outcome = model(machine).run(
            memory, [Region(), Region(), region], streams=streams, settings=settings, mode=mode, seed=fresh_seed + turn
        )
        assert not outcome.status["disordered"]
        np.testing.assert_array_equal(outcome.memory, expected)
        size = len(records) * image.SUM_BYTES
        assert outcome.moved == {"sums_read": 0 if fresh else size, "sums_written": size}
