"""f against golden's, whose oracle is extended precision: every argument, any units, poison, back-pressure."""

import functools
import random

import numpy as np
import pytest

from golden import formats
from golden.parameters import preset
from golden.units import activation_tables
from golden.units.closed_loop import FUNCTIONS, activation_max, functions
from hw.near_memory.closed_loop import tables
from hw.near_memory.closed_loop.functions import Functions
from sim import engine

NOTHING = np.zeros(0, np.uint8)


@pytest.mark.unit
@pytest.mark.parametrize("name", tables.FUNCTIONS)
def test_tables(name):
    found, expected = tables.table(name), activation_tables.table(name)
    assert [base for base, _ in found] == expected.base.tolist()
    assert [delta for _, delta in found] == expected.delta.tolist()


@functools.cache
def component(p):
    return Functions(p)


def machine(width, lanes):
    return preset("tiny").with_settings([f"state_width={width}", f"near_lanes={lanes}"])


def check(p, name, middle, result, z, **options):
    u, poison = p.near_lanes, -(1 << p.state_width - 1)
    z = np.resize(z, -(-len(z) // u) * u)
    lost = z == poison
    expected, clamped = formats.clamp(functions(name, np.where(lost, 0, z), middle, result), activation_max(p))
    last = np.arange(len(z) // u) % 3 == 0
    found = engine.run(
        component(p),
        NOTHING,
        [],
        streams={"i": {"values": z.reshape(-1, u), "last": last}},
        settings={
            "settings": FUNCTIONS.index(name) | (middle & 255) << 3 | (result & 255) << 11,
        },
        **options,
    )
    assert np.array_equal(found.streams["o"]["values"].ravel(), np.where(lost, poison, expected))
    assert np.array_equal(found.streams["o"]["last"], last)
    assert found.status["overflow"] == clamped
    return found


@pytest.mark.cocotb
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("middle", [-14, -13])
def test_every_argument(name, middle):
    """All 2^18 states of a unit that makes each an argument of its own, or every second one."""
    found = check(machine(18, 1), name, middle, middle, np.arange(-(2**17), 2**17), mode="none")
    clocks = found.cycles["o"]
    assert clocks[-1] - clocks[0] == 2**18 - 1  # one part a clock
    assert clocks[0] - found.cycles["i"][0] == component(machine(18, 1)).latency


@pytest.mark.cocotb
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(("width", "lanes"), [(16, 1), (18, 2), (24, 4)])
def test_any_units(name, width, lanes):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = np.random.default_rng(seed)
    top = 2 ** (width - 1) - 1
    middles = [-128, -width - 14, -width - 13, -width - 12, -30, -22, -21, -14, -13, -8, 0, 3, 4, 5, 127]
    for middle in [*middles, *rng.integers(-50, 10, 8)]:
        z = rng.integers(-top - 1, top + 1, 300) >> rng.integers(0, width, 300)
        z = np.concatenate([z, np.arange(-9, 10), top - np.arange(5), np.arange(5) - top - 1])
        for result in np.clip(middle + np.array([0, rng.integers(-6, 7), rng.integers(-200, 200)]), -128, 127):
            mode = rng.choice(["none", "idle", "back-pressure", "both", "reset"])
            check(machine(width, lanes), name, int(middle), int(result), z, mode=mode, seed=int(rng.integers(1 << 30)))


@pytest.mark.cocotb
@pytest.mark.parametrize("name", ["identity", "relu"])
def test_without_tables(name):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = np.random.default_rng(seed)
    p = machine(18, 2).with_settings(["functions=[]"])
    for middle, result in [(0, 0), (-14, -14), (3, -20), *rng.integers(-128, 128, (4, 2))]:
        z = rng.integers(-(2**17), 2**17, 400) >> rng.integers(0, 18, 400)
        found = check(p, name, int(middle), int(result), z, mode="none")
        assert found.cycles["o"][0] - found.cycles["i"][0] == component(p).latency
