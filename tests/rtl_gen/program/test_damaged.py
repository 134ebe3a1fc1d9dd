"""Programs whose memory was damaged: each run ends in a result or in an error with cause and tag."""

import numpy as np
import pytest

from golden.machine.accelerator import MachineError
from golden.machine.command import UNIT_BYTES, assemble
from golden.machine.registers import CAUSES
from rtl_gen.program.memory import PROGRAMS
from tests.rtl_gen.program.test_products import Case

pytestmark = pytest.mark.golden

GUARD = 64 * UNIT_BYTES
RUNS = 300


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, 34))])
def test_mutated_images(part):
    """Bits of commands, or of anything: no other exception, no end that does not come, no write outside the regions."""
    case = Case(3 + part % 4)
    words = assemble(case.program(0))
    place = case.memory.place(PROGRAMS, words.view(np.uint8))
    ends = {"done": 0}
    for seed in range(part * RUNS, (part + 1) * RUNS):
        rng = np.random.default_rng(seed)
        machine = case.memory.load()
        size, first = len(machine.memory), machine.regions[PROGRAMS].base * UNIT_BYTES
        at, count = (0, size) if seed % 2 else (first, words.nbytes)
        for bit in 8 * at + rng.integers(0, 8 * count, rng.integers(1, 9)):
            machine.memory[bit // 8] ^= 1 << bit % 8
        guard = rng.integers(0, 256, GUARD, np.uint8)
        machine.memory = np.concatenate([machine.memory, guard])
        try:
            machine.run(place, len(words))
            ends["done"] += 1
        except MachineError as error:
            assert error.cause in CAUSES and 0 <= error.tag < 2**16, (seed, error)
            ends[error.cause] = ends.get(error.cause, 0) + 1
        np.testing.assert_array_equal(machine.memory[size:], guard, f"seed {seed}")
    assert ends["done"] > 20 and ends["command"] > 20 and len(ends) > 3, ends
