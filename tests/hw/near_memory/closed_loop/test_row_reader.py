"""Rows of scores, as Verilog, against the interpreter's memory and counters."""

import random
from fractions import Fraction

import numpy as np
import pytest

from golden.machine import image
from golden.machine.accelerator import Accelerator, Region
from golden.machine.command import UNIT_BYTES, Operand, Rows
from golden.parameters import preset
from hw.near_memory.closed_loop import powers
from hw.near_memory.closed_loop.row_reader import RowReader
from sim import engine
from tests.hw.near_memory.closed_loop.parts import OnMemory, check, check_refusal, write

pytestmark = pytest.mark.cocotb

UNITS = 1 << 12
REGIONS = [Region(0, UNITS) for _ in range(8)]
REGIONS[1], REGIONS[2] = Region(2048, 64), Region(16, 2000)

SHAPES = {
    "tiny": ["row_buffer=64"],
    "one element a clock": ["near_lanes=1", "memory_width=32", "state_width=21", "row_buffer=70"],
    "edge": ["lanes=16", "near_lanes=4", "memory_width=256", "row_buffer=96"],
}


@pytest.fixture(params=SHAPES, scope="module")
def dut(request):
    return OnMemory(RowReader(preset("tiny").with_settings(SHAPES[request.param])))


def command(r, p):
    channels = r.choice(
        [1, r.randint(1, p.lanes), p.lanes, p.lanes + 1, 3 * p.lanes, p.row_buffer, r.randint(p.lanes, p.row_buffer)]
    )
    root = r.randrange(2**16, 2**17)
    return Rows(
        state=Operand(2, r.randrange(8)),
        result=Operand(1, r.randrange(8)),
        rows=r.randint(1, 5),
        channels=channels,
        root=root,
        exponent=r.choice([-14, -18, -22, -30, 3, -128, 127]),
    )


def filled(p, generator):
    """Rows of every spread, with equal largest elements and some poison."""
    memory = generator.integers(0, 256, UNITS * UNIT_BYTES, np.uint8)
    top = 2 ** (p.state_width - 1) - 1
    size = generator.integers(0, p.state_width, (800, 1))
    values = generator.integers(-(2**size), 2**size + 1, (800, p.lanes))
    values = np.clip(values, -top, top)
    values[generator.random(values.shape) < 0.003] = -top - 1
    write(memory, REGIONS[2].base, image.pack_vectors(values, p))
    return memory


@pytest.mark.parametrize("mode", ["none", "both", "reset"])
def test_rows(dut, mode, fresh_seed):
    p, r = dut.parameters, random.Random(fresh_seed)
    for _ in range(8):
        operations, seed = [command(r, p) for _ in range(2)], r.getrandbits(32)
        memory = filled(p, np.random.default_rng(seed))
        check(
            dut, memory, REGIONS, operations, Accelerator._rows, ("states_read", "tables_written"), mode=mode, seed=seed
        )


@pytest.mark.parametrize(
    "change, cause",
    [
        ({"rows": 0}, "field"),
        ({"channels": 0}, "field"),
        ({"channels": 1025}, "buffer"),
        ({"state": Operand(2, 1999)}, "region"),
        ({"result": Operand(1, 64)}, "region"),
    ],
)
def test_what_is_no_row(change, cause):
    dut = OnMemory(RowReader(preset("tiny")))
    memory = np.zeros(UNITS * UNIT_BYTES, np.uint8)
    fields = {"state": Operand(2, 0), "result": Operand(1, 0), "rows": 2, "channels": 40, "root": 70000} | change
    check_refusal(dut, memory, REGIONS, Rows(**fields), Accelerator._rows, cause)


def test_an_element_a_clock():
    p = preset("tiny").with_settings(["lanes=16", "near_lanes=2"])
    memory = np.zeros(UNITS * UNIT_BYTES, np.uint8)
    one = Rows(state=Operand(2, 0), result=Operand(1, 0), rows=8, channels=64, root=70000, exponent=-20)
    outcome = engine.run(OnMemory(RowReader(p)), memory, REGIONS, [one], mode="none", latency=4)
    assert outcome.clocks[0] < 8 * (64 + 20) + 150


def test_words_are_the_nearest():
    """By fractions: the 256th powers of the borders of each word."""
    words = [word & (1 << powers.POWER_WIDTH) - 1 for word in powers.table()]
    for segment, word in enumerate(words):
        exact = Fraction(2) ** (16 * 256 - segment)
        assert (word - Fraction(1, 2)) ** 256 < exact < (word + Fraction(1, 2)) ** 256
    drops = [word >> powers.POWER_WIDTH for word in powers.table()]
    assert [base - drop for base, drop in zip(words, drops, strict=True)] == [*words[1:], 2**15]
