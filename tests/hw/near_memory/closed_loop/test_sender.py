"""What an emission sends and keeps, as Verilog, against the interpreter's memory, link and counters."""

import random

import numpy as np
import pytest

from golden.machine import image
from golden.machine.accelerator import Region
from golden.machine.command import UNIT_BYTES, Emit, Operand
from golden.parameters import preset
from hw.near_memory.closed_loop.extent import sent_lines
from hw.near_memory.closed_loop.sender import Sender
from sim import engine
from tests.hw.interpreter import interpreter
from tests.hw.near_memory.closed_loop.parts import OnMemory
from tests.hw.streams import pack

pytestmark = pytest.mark.cocotb

UNITS = 1 << 13
REGIONS = [Region(0, UNITS) for _ in range(8)]
REGIONS[2], REGIONS[3], REGIONS[5] = Region(1024, 2048), Region(3072, 64), Region(4096, 4096)

SHAPES = {
    "direct": ["link_form=direct"],
    "compressed": ["link_form=compressed", "near_lanes=4", "memory_width=32"],
    "edge": ["link_form=direct", "lanes=16", "memory_width=256", "digit_width=4", "outliers=2", "state_width=17"],
}


@pytest.fixture(params=SHAPES, scope="module")
def dut(request):
    return OnMemory(Sender(preset("tiny").with_settings(SHAPES[request.param])))


def emission(r, p):
    """An emission of the identity: x is Y."""
    return Emit(
        state=Operand(2, 0),
        held=Operand(2, 1024 + r.randrange(8)),
        spool=Operand(5, r.randrange(4)),
        lengths=Operand(3, r.randrange(4)),
        slot=r.choice([400, 431]),
        line=r.randrange(3),
        lines=r.randint(1, 3),
        width=r.randint(1, 5),
        channels=r.choice([1, p.lanes - 1, p.lanes, p.lanes + 1, 3 * p.lanes]),
        start=r.random() < 0.3,
        passes=r.choice([0, 1, 2, 7]),
        exact=r.random() < 0.3,
        link=r.random() < 0.3,
    )


def filled(p, seed):
    """Memory at random but for Y, which is an x, and Xhat, most of which lies near it; both with some poison."""
    generator = np.random.default_rng(seed)
    memory = generator.integers(0, 256, UNITS * UNIT_BYTES, np.uint8)
    size, top = image.vector_bytes(p), 2 ** (p.state_width - 2) - 1
    states = generator.integers(-top, top + 1, (200, p.lanes))
    held = states + generator.integers(-40, 41, states.shape)
    for values, unit in ((states, 1024), (held, 2048)):
        values[generator.random(values.shape) < 0.02] = -(2 ** (p.state_width - 1))
        memory[unit * UNIT_BYTES :][: 200 * size] = image.pack_vectors(values, p).ravel()
    return memory


def given(p, accelerator, c):
    """x, where Xhat lies, and how its lines are."""
    n, u = p.lanes, p.near_lanes
    x = accelerator.read_tensor(c.state, (c.line + c.lines) * c.width, c.channels)[c.line * c.width :]
    of = -(-c.channels // n)
    parts = np.pad(x, ((0, 0), (0, of * n - c.channels))).reshape(-1, u)
    last = np.arange(1, len(parts) + 1) % (n // u) == 0
    begin = c.line * c.width * of * image.vector_bytes(p)
    held = {"address": np.array([begin]), "records": np.array([c.lines * c.width * of])}
    lines = pack(sent_lines(), {"lines": c.lines, "vectors": c.width * of})
    return {"streams": {"x": {"values": parts, "last": last}, "held": held}, "settings": {"sent": lines}}


@pytest.mark.parametrize("mode", ["none", "both", "reset"])
def test_emissions(dut, mode, fresh_seed):
    """Memory byte for byte, groups on the link, counters."""
    p, r = dut.parameters, random.Random(fresh_seed)
    for _ in range(12):
        c, seed = emission(r, p), r.getrandbits(32)
        memory = filled(p, seed)
        options, expected = given(p, interpreter(p, memory, REGIONS), c), interpreter(p, memory, REGIONS)
        expected._emit(c)
        outcome = engine.run(dut, memory, REGIONS, [c], **options, mode=mode, seed=seed)
        assert outcome.error is None and len(outcome.clocks) == 1
        np.testing.assert_array_equal(outcome.memory, expected.memory)
        up = outcome.streams["up"]
        if c.link:
            lines = list(expected._up)
            np.testing.assert_array_equal(up["group"]["digits"], np.concatenate([line.digits for line in lines]))
            ends = np.cumsum([len(line) for line in lines]) - 1
            np.testing.assert_array_equal(np.flatnonzero(up["last"]), ends)
        else:
            assert not len(up["last"])
        for name in ("held_read", "held_written", "spools_written", "tables_written"):
            assert outcome.moved.get(name, 0) == expected.counters[f"memory_{name}"], name
        assert bool(outcome.status["poisoned"]) == expected.status["poisoned"]


def test_what_is_not_sent_is_taken_at_once(dut):
    memory = np.zeros(UNITS * UNIT_BYTES, np.uint8)
    c = Emit(sent=False, written=True, lines=1, width=1, channels=4)
    outcome = engine.run(dut, memory, REGIONS, [c, c])
    assert outcome.error is None and len(outcome.clocks) == 2
    assert not any(outcome.moved.values())


def test_a_slot_that_is_too_small(dut):
    p = dut.parameters
    c = Emit(
        state=Operand(2, 0), held=Operand(2, 1024), spool=Operand(5, 0), slot=0, lines=1, width=1, channels=p.lanes
    )
    memory = filled(p, 1)
    outcome = engine.run(dut, memory, REGIONS, [c], **given(p, interpreter(p, memory, REGIONS), c))
    assert outcome.error == "field"


@pytest.mark.parametrize("passes", [1, 3])
def test_a_row_of_a_pass_a_clock(passes):
    """From the first access to the last, with a memory of 40 clocks: the rows of all passes, and little else."""
    p = preset("tiny").with_settings(SHAPES["edge"])
    c = Emit(
        state=Operand(2, 0),
        held=Operand(2, 1024),
        spool=Operand(5, 0),
        slot=400,
        lines=2,
        width=8,
        channels=4 * p.lanes,
        passes=passes - 1,
    )
    memory = filled(p, 2)
    options = given(p, interpreter(p, memory, REGIONS), c)
    outcome = engine.run(OnMemory(Sender(p)), memory, REGIONS, [c], **options, mode="none", latency=40)
    rows = passes * 64 * p.lanes // p.near_lanes
    print(outcome.clocks[0] - rows, "clocks beside", rows)
    assert outcome.error is None
    assert outcome.clocks[0] - rows <= 150
