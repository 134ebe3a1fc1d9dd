"""Records of what readers hold, as Verilog, against the interpreter's memory and counters."""

import random

import numpy as np
import pytest

from golden.machine import image
from golden.machine.accelerator import Accelerator, Region
from golden.machine.command import UNIT_BYTES, Align, Operand
from golden.parameters import preset
from hw.near_memory.closed_loop.aligner import Aligner
from sim import engine
from tests.hw.near_memory.closed_loop.parts import OnMemory, check, check_refusal, write

pytestmark = pytest.mark.cocotb

UNITS = 1 << 12
REGIONS = [Region(0, UNITS) for _ in range(8)]
REGIONS[1], REGIONS[2] = Region(2048, 2048), Region(16, 1024)

SHAPES = {
    "tiny": [],
    "one element a clock": ["near_lanes=1", "memory_width=32", "columns=3", "state_width=21"],
    "edge": ["lanes=16", "near_lanes=4", "columns=4", "fraction_bits=12", "memory_width=256"],
    "no exponent": ["fraction_bits=16", "state_width=17", "columns=8"],
}


@pytest.fixture(params=SHAPES, scope="module")
def dut(request):
    return OnMemory(Aligner(preset("tiny").with_settings(SHAPES[request.param])))


def alignment(r, p):
    return Align(
        held=Operand(2, r.randrange(8)),
        result=Operand(1, r.randrange(8)),
        first=r.randrange(9),
        step=r.randint(0, 7),
        outputs=r.choice([1, 2, p.lanes - 1, p.lanes, p.lanes + 1, 2 * p.lanes + r.randrange(p.lanes)]),
        groups=r.randint(1, 5),
        scale=r.randint(-200, 180),
    )


def filled(p, generator):
    """Memory at random but for Xhat: magnitudes of every size, those at borders of the exponent, some poison."""
    memory = generator.integers(0, 256, UNITS * UNIT_BYTES, np.uint8)
    top = 2 ** (p.state_width - 1) - 1
    size = generator.integers(0, p.state_width, (400, 1))
    values = generator.integers(-(2**size), 2**size + 1, (400, p.lanes))
    for vector in values[::3]:
        exponent = int(generator.integers(0, p.state_width - p.fraction_bits))
        border = (1 << p.fraction_bits + 1 + exponent) - (1 << exponent >> 1) + int(generator.integers(-1, 2))
        vector[generator.integers(p.lanes)] = generator.choice([-1, 1]) * border
    values = np.clip(values, -top, top)
    values[generator.random(values.shape) < 0.01] = -top - 1
    write(memory, REGIONS[2].base, image.pack_vectors(values, p))
    return memory


@pytest.mark.parametrize("mode", ["none", "both", "reset"])
def test_alignments(dut, mode, fresh_seed):
    p, r = dut.parameters, random.Random(fresh_seed)
    for _ in range(10):
        operations, seed = [alignment(r, p) for _ in range(2)], r.getrandbits(32)
        memory = filled(p, np.random.default_rng(seed))
        check(
            dut, memory, REGIONS, operations, Accelerator._align, ("held_read", "weights_written"), mode=mode, seed=seed
        )


@pytest.mark.parametrize(
    "change, cause",
    [
        ({"outputs": 0}, "field"),
        ({"groups": 0}, "field"),
        ({"scale": 230}, "field"),
        ({"scale": -221}, "field"),
        ({"first": 2**24 - 1}, "region"),
        ({"result": Operand(1, 2048)}, "region"),
    ],
)
def test_what_cannot_be_aligned(dut, change, cause):
    memory = np.zeros(UNITS * UNIT_BYTES, np.uint8)
    fields = {"held": Operand(2, 0), "result": Operand(1, 0), "step": 1, "outputs": 3, "groups": 1} | change
    check_refusal(dut, memory, REGIONS, Align(**fields), Accelerator._align, cause)


def test_clocks_of_a_vector():
    """n/u, and some more for each span."""
    p = preset("tiny").with_settings(["lanes=16", "near_lanes=2", "columns=4"])
    memory = np.zeros(UNITS * UNIT_BYTES, np.uint8)
    one = Align(held=Operand(2, 0), result=Operand(1, 0), step=2, outputs=16, groups=2)
    outcome = engine.run(OnMemory(Aligner(p)), memory, REGIONS, [one], mode="none", latency=4)
    assert outcome.clocks[0] < 32 * 13
