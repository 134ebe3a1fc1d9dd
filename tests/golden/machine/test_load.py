"""What the interpreter loads, against a walk over the addresses; what it refuses."""

import random

import numpy as np
import pytest

from golden.machine import image
from golden.machine.accelerator import Accelerator, MachineError
from golden.machine.command import UNIT_BYTES, LoadGroups, Operand, Stop, assemble
from golden.parameters import preset
from golden.units.delta_compressor import delta_compressor
from golden.units.delta_group import DeltaGroups
from tests.golden.machine.loads import GROUP, placed, random_load, refused

pytestmark = pytest.mark.golden

UNITS = 1 << 12
LENGTHS = 1 << 11  # unit where the regions of tables begin: above all slots


def machine(settings):
    """A machine whose regions are all of its memory, but for region 0, the program's."""
    accelerator = Accelerator(preset("tiny").with_settings(settings), (UNITS + 8) * UNIT_BYTES)
    for region in accelerator.regions:
        region.limit = UNITS
    accelerator.regions[3].base, accelerator.regions[3].limit = LENGTHS, LENGTHS
    accelerator.regions[0].base, accelerator.regions[0].limit = UNITS, 8
    return accelerator


def run(accelerator, operation):
    """Run one operation."""
    words = np.array(assemble([operation, Stop()]), "<u4").view(np.uint8).ravel()
    accelerator.memory[UNITS * UNIT_BYTES :][: words.size] = words
    accelerator.run(Operand(0, 0), 8)


def cause(accelerator, operation):
    """Why an operation is refused."""
    with pytest.raises(MachineError) as refused:
        run(accelerator, operation)
    return refused.value.cause


def drawn(p, generator, count):
    """Groups that are neither zero nor poisoned."""
    digits = generator.integers(-p.digit_max, p.digit_max + 1, (count, p.lanes))
    digits[:, 0] = 1
    return DeltaGroups.zeros(count, p).replace(exponent=generator.integers(0, 43 - p.digit_width, count), digits=digits)


@pytest.mark.parametrize("link_form", ["direct", "compressed"])
def test_banks_hold_what_a_walk_puts_there(link_form, fresh_seed):
    """Strips and samples, halos, padding, repeats, passes that were not sent."""
    r, generator = random.Random(fresh_seed), np.random.default_rng(fresh_seed)
    accelerator = machine([f"link_form={link_form}", "rows=3", "outliers=0", "group_buffer=512"])
    p = accelerator.parameters
    for _ in range(40):
        load = random_load(p, r)
        wanted, slots = placed(load), {}
        for slot in sorted({where[0] for where in wanted.values() if where}):
            groups = slots[slot] = drawn(p, generator, load.width * load.groups * (load.sent + 1))
            if p.link_form == "direct":
                data = image.pack_groups(groups, p).ravel()
            else:
                data = np.array(delta_compressor(groups, p, passes=load.sent + 1), "<u4").view(np.uint8)
                entry = (LENGTHS + load.lengths.offset) * UNIT_BYTES + slot * image.ENTRY_BYTES
                accelerator.memory[entry : entry + image.ENTRY_BYTES] = image.pack_entries([data.size])
            begin = (load.source.offset + slot * load.slot) * UNIT_BYTES
            accelerator.memory[begin : begin + data.size] = data
        read = accelerator.counters["memory_spools_read"]
        run(accelerator, load)
        bank, halves = accelerator._banks[load.half], accelerator._banks
        assert halves[not load.half].zero.all()
        for row in range(p.rows):
            for address in range(p.group_buffer):
                group = bank[row * p.group_buffer + address]
                where = wanted.get((row, address))
                assert group.zero[0] if where is None else group.equals(slots[where[0]][where[1]])[0]
        if p.link_form == "direct":
            lines = {(row * bool(load.slot_step), where[0]) for (row, _), where in wanted.items() if where}
            size = load.width * load.groups * (load.sent + 1) * image.group_bytes(p)
            assert accelerator.counters["memory_spools_read"] - read == len(lines) * size


@pytest.mark.parametrize(("operation", "expected"), refused(UNITS))
def test_refused(operation, expected):
    """Each rule of the page by its cause."""
    assert cause(machine(["link_form=direct"]), operation) == expected


@pytest.mark.parametrize("length", [0, 2, 6, 36, -4])
def test_a_length_that_cannot_be_is_damage(length):
    """It fits its slot and is a whole number of words of the link."""
    accelerator = machine(["link_form=compressed"])
    accelerator.memory[LENGTHS * UNIT_BYTES :][:4] = image.pack_entries([length])
    assert cause(accelerator, LoadGroups(**GROUP, lengths=Operand(3, 0))) == "damaged"
