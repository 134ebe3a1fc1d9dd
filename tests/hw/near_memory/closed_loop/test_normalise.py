"""The two stages of a norm against exact fractions, any coefficients that records can hold."""

import functools
import random
from fractions import Fraction

import numpy as np
import pytest

from golden.parameters import preset
from hw.near_memory.closed_loop.normalise import Normalise
from sim import engine

pytestmark = pytest.mark.cocotb

NOTHING = np.zeros(0, np.uint8)


def machine(width, lanes, u):
    settings = [f"state_width={width}", f"lanes={lanes}", f"near_lanes={u}", "memory_lanes=1", "norm_buffer=64"]
    return preset("tiny").with_settings(settings)


@functools.cache
def component(p):
    return Normalise(p)


def clamp(value, top):
    return max(-top, min(top, value)), abs(value) > top


def exact(y, known, gain, shift, places, width):
    """z and whether something was clamped."""
    real = (y * 2 ** (8 + known["finer"]) - known["mean"]) * known["root"] * Fraction(2) ** (known["exponent"] - 8)
    u, beyond = clamp(round(real), 2**17 - 1)
    z, past = clamp(round(Fraction(u * gain, 2**places) + Fraction(shift, 4)), 2 ** (width - 1) - 1)
    return z, beyond or past


def draw_set(r, width):
    kind = r.randrange(4)
    exponent = r.randrange(-128, 128) if kind == 0 else r.randrange(-24, 4)
    return {
        "mean": r.randrange(-(2**31), 2**31) if kind == 1 else r.randrange(-(2 ** (width + 4)), 2 ** (width + 4)),
        "root": r.randrange(2**17) if kind == 2 else r.randrange(2**16, 2**17),
        "exponent": exponent,
        "finer": r.choice([0, 0, 0, 1, 8]),
        "poisoned": r.random() < 0.1,
    }


def run(p, r, *, channels, positions, by_position, normed=True, mode="both"):
    n, u, w = p.lanes, p.near_lanes, p.state_width
    poison, parts = -(2 ** (w - 1)), -(-channels // n) * n // u
    y = np.array([r.randrange(-(2 ** (w - 1)), 2 ** (w - 1)) >> r.randrange(w) for _ in range(positions * channels)])
    y = np.where(np.array([r.random() < 0.05 for _ in y]), poison, y).reshape(positions, channels)
    padded = np.pad(y, ((0, 0), (0, parts * u - channels)), constant_values=77)
    known = [draw_set(r, w) for _ in range(positions if by_position else channels)]
    places = r.choice([2, 3, 13, 14, 15, 30])
    gain = [r.choice([2**17 - 1, 1 - 2**17, 0, r.randrange(-(2**17) + 1, 2**17)]) for _ in range(channels)]
    shift = [r.randrange(-(2 ** (w + 1)) + 1, 2 ** (w + 1)) >> r.randrange(w) for _ in range(channels)]

    value_width = max(w + 8, 32) + 17 + 8 + 1
    most = 2 ** (value_width + 18).bit_length() - 1
    amount = [max(0, min(most, value_width - 16 + one["exponent"] + one["finer"])) for one in known]
    columns = {name: np.array([one[name] for one in known]) for name in ("root", "poisoned")}
    columns["offset"] = np.array([one["mean"] * one["root"] << 8 - one["finer"] for one in known])
    columns["amount"] = np.array(amount)
    used = np.arange(parts * u) < channels
    masks = (used.reshape(parts, u) << np.arange(u)).sum(axis=1)
    part = np.arange(positions * parts)
    streams = {
        "i": {
            "values": padded.reshape(-1, u),
            "used": np.tile(masks, positions),
            "last": part % (n // u) == n // u - 1,
            "ends": part % parts == parts - 1,
        },
    }
    if normed:
        streams |= {"scales": {"gain": np.array(gain), "shift": np.array(shift)}, "sets": columns}
    found = engine.run(
        component(p),
        NOTHING,
        [],
        streams=streams,
        settings={"normed": normed, "by_position": by_position, "channels": channels, "places": places},
        mode=mode,
        seed=r.randrange(1 << 30),
    )
    expected, overflow = np.zeros_like(padded), False
    for position in range(positions):
        for channel in range(channels):
            if not normed:
                expected[position, channel] = y[position, channel]
                continue
            one = known[position if by_position else channel]
            lost = y[position, channel] == poison
            z, clamped = exact(0 if lost else int(y[position, channel]), one, gain[channel], shift[channel], places, w)
            expected[position, channel] = poison if lost or one["poisoned"] else z
            overflow |= clamped
    if not normed:
        expected = padded
    assert np.array_equal(found.streams["o"]["values"].reshape(positions, -1), expected)
    assert np.array_equal(found.streams["o"]["last"], streams["i"]["last"])
    assert found.status["overflow"] == overflow
    return found


@pytest.mark.parametrize(("width", "lanes", "u"), [(16, 4, 1), (18, 4, 2), (24, 6, 3)])
@pytest.mark.parametrize("by_position", [False, True])
def test_against_fractions(width, lanes, u, by_position):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    r = random.Random(seed)
    p = machine(width, lanes, u)
    for channels in (1, lanes - 1, lanes, 64, r.randrange(1, 60)):
        mode = r.choice(["none", "idle", "back-pressure", "both", "reset"])
        run(p, r, channels=channels, positions=r.randrange(1, 12), by_position=by_position, mode=mode)


def test_without_a_norm():
    run(machine(18, 4, 2), random.Random(3), channels=6, positions=5, by_position=False, normed=False)


def test_overflow_is_told_and_not_made_up():
    """Small values under small factors clamp nothing."""
    p, count = machine(18, 4, 2), 8
    found = engine.run(
        component(p),
        NOTHING,
        [],
        streams={
            "i": {
                "values": np.arange(count).reshape(-1, 2),
                "used": np.full(4, 3),
                "last": [0, 1] * 2,
                "ends": [0, 1] * 2,
            },
            "scales": {"gain": np.full(4, 2**16), "shift": np.arange(4)},
            "sets": {
                name: np.full(4, value)
                for name, value in {
                    "root": 2**16,
                    "offset": 0,
                    "amount": 58 - 16 - 16,
                    "poisoned": 0,
                }.items()
            },
        },
        settings={"normed": 1, "channels": 4, "places": 16},
    )
    assert not found.status["overflow"]
    # u = Y, z = RNE(Y + B / 4)
    assert found.streams["o"]["values"].ravel().tolist() == [0, 1, 2, 4, 4, 5, 6, 8]


@pytest.mark.parametrize("by_position", [False, True])
def test_a_part_a_clock(by_position):
    found = run(machine(18, 4, 2), random.Random(1), channels=64, positions=8, by_position=by_position, mode="none")
    clocks = found.cycles["o"]
    assert clocks[-1] - clocks[0] == len(clocks) - 1
