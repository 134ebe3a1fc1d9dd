"""Programs that the machine could run differently are refused; their neighbours that it cannot are not."""

import dataclasses

import numpy as np
import pytest

from golden.machine import hazards, image
from golden.machine.accelerator import Accelerator, MachineError
from golden.machine.command import UNIT_BYTES, Combine, Emit, LoadGroups, LoadWeights, Multiply, Operand, Stop, assemble
from golden.parameters import preset
from golden.units.delta_group import DeltaGroups

pytestmark = pytest.mark.golden

PARAMETERS = preset("tiny").with_settings(["rows=2", "link_form=direct"])
SPOOL, PROGRAM, UNITS = 64, 128, 160
"""Units where regions begin: records lie before the spool."""


def check(operations, spool=None):
    """Check a program on a memory of zero records and zero groups, or of bytes in the place of groups."""
    machine = Accelerator(PARAMETERS, UNITS * UNIT_BYTES)
    for region, (base, end) in enumerate([(PROGRAM, UNITS), (0, SPOOL), (SPOOL, PROGRAM)]):
        machine.regions[region].base, machine.regions[region].limit = base, end - base
    groups = image.pack_groups(DeltaGroups.zeros(8, PARAMETERS), PARAMETERS).ravel()
    machine.memory[SPOOL * UNIT_BYTES :][: groups.size] = groups
    if spool is not None:
        machine.memory[SPOOL * UNIT_BYTES : PROGRAM * UNIT_BYTES] = spool
    words = np.array(assemble([*operations, Stop()]), "<u4").view(np.uint8).ravel()
    machine.memory[PROGRAM * UNIT_BYTES :][: words.size] = words
    hazards.check(machine, Operand(0), UNITS)


SLOT = -(-4 * 2 * image.group_bytes(PARAMETERS) // UNIT_BYTES)
WEIGHTS = LoadWeights(source=Operand(1), at=3, records=6)
GROUPS = LoadGroups(source=Operand(2), slot=SLOT, rows=1, lines=1, width=4, height=1, groups=2, pitch=2)
GROUPS = dataclasses.replace(GROUPS, at=5, push=("multiply",))
PRODUCT = Multiply(at=5, weights_at=3, lines=1, columns=4, channels=3, rows=1, column_pitch=2, kernel_lines=1)
PRODUCT = dataclasses.replace(PRODUCT, kernel_columns=1, groups=2, collected=4, leave=False, pop=("load",))


def test_a_product_of_what_was_loaded():
    check([WEIGHTS, GROUPS, PRODUCT])


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"at": 4}, "bank at 4"),
        ({"at": 6}, "bank at 13"),
        ({"half": True}, f"bank at {2 * PARAMETERS.group_buffer + 5}"),
        ({"weights_at": 2}, "weights at 2"),
        ({"weights_at": 4}, "weights at 9"),
        ({"weights_half": True}, f"weights at {PARAMETERS.weight_buffer + 3}"),
    ],
)
def test_a_product_of_what_was_not(fields, place):
    with pytest.raises(
        hazards.Unloaded, match=rf"^Multiply at \d+ \(tag 0x0000\) must read what was loaded, not {place}$"
    ):
        check([WEIGHTS, GROUPS, dataclasses.replace(PRODUCT, **fields)])


def test_a_row_without_groups():
    with pytest.raises(hazards.Unloaded, match=f"not bank at {PARAMETERS.group_buffer + 5}$"):
        check([WEIGHTS, dataclasses.replace(GROUPS, rows=0), PRODUCT])


def test_a_result_over_its_own_sums():
    """A unit further on the records lie free."""
    result = Combine(state=Operand(2), source1=Operand(2), factor1=Operand(1), vectors=1, channels=4, terms=1)
    result = dataclasses.replace(result, summed="channel", sums=Operand(2, 1))
    check([result])
    with pytest.raises(
        hazards.Twice, match=r"^Combine at \d+ \(tag 0x0000\) must write memory at 2048 once, not twice$"
    ):
        check([dataclasses.replace(result, sums=Operand(2))])


def test_a_result_over_a_part_of_what_is_read():
    """In place, or elsewhere, it may be written."""
    result = Combine(state=Operand(2), source1=Operand(2), factor1=Operand(1), vectors=4, channels=4, terms=1)
    for state in (Operand(2), Operand(2, 8)):
        check([dataclasses.replace(result, state=state)])
    with pytest.raises(
        hazards.Meets, match=r"^Combine at \d+ \(tag 0x0000\) must not write memory at \d+, which it reads$"
    ):
        check([dataclasses.replace(result, state=Operand(2, 1))])


def test_a_program_that_writes_its_own_commands():
    result = Combine(state=Operand(0), source1=Operand(2), factor1=Operand(1), vectors=1, channels=4, terms=1)
    with pytest.raises(hazards.Overwritten, match=r"^A program must not write its own commands, as at \d+ of memory$"):
        check([result])


def test_an_error_that_comes_of_what_nothing_orders():
    """Groups that the program writes besides: damaged or not, as it comes."""
    with pytest.raises(MachineError, match="a record must be a group"):
        check([GROUPS], spool=255)
    meanwhile = Combine(state=Operand(2), source1=Operand(1), factor1=Operand(1), vectors=1, channels=4, terms=1)
    with pytest.raises(hazards.Conflict, match="^Tokens must order Combine.* before LoadGroups at"):
        check([meanwhile, GROUPS], spool=255)
    with pytest.raises(MachineError, match="a record must be a group"):
        check([dataclasses.replace(meanwhile, push=("load",)), dataclasses.replace(GROUPS, pop=("emit",))], spool=255)


def test_a_load_that_nothing_orders():
    with pytest.raises(hazards.Conflict, match="^Tokens must order Load.* before Multiply at"):
        check([WEIGHTS, GROUPS, dataclasses.replace(PRODUCT, pop=())])


EMISSION = Emit(state=Operand(2), held=Operand(2, 8), width=4, lines=2, channels=8, link=True, start=True)
"""Two lines of four positions, of as many groups as those of a load; along positions, eight of one group."""


@pytest.mark.parametrize(("fields", "height"), [({}, 2), ({"along": "positions", "across": 4, "lines": 1}, 2)])
def test_what_goes_to_the_link_is_taken(fields, height):
    emission = dataclasses.replace(EMISSION, **fields)
    taken = dataclasses.replace(GROUPS, link=True, height=height, lines=height, push=())
    if emission.along == "positions":
        taken = dataclasses.replace(taken, groups=1)
    check([emission, taken])
    with pytest.raises(hazards.Stuck, match=r"^What goes to the link must be taken .* as by Emit at \d+$"):
        check([emission, emission, taken])
    with pytest.raises(hazards.Stuck, match="as by Multiply at"):
        check([WEIGHTS, GROUPS, dataclasses.replace(PRODUCT, leave=True)])
