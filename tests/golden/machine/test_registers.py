"""The table of registers: nothing overlaps, and the counters are those of the interpreter."""

import pytest

from golden.machine import registers
from golden.machine.accelerator import Accelerator
from golden.machine.command import ENGINES, Multiply, Operand, Stop, assemble
from golden.machine.registers import COUNTERS, IDENTITY, REGISTERS, capabilities, register
from golden.parameters import Parameters
from tests.golden.machine.pages import page

pytestmark = pytest.mark.golden


def test_no_two_registers_share_an_address_and_no_two_fields_a_bit():
    offsets = [one.offset for one in REGISTERS]
    assert offsets == sorted(set(offsets)) and all(offset % 4 == 0 for offset in offsets)
    assert len({one.name for one in REGISTERS}) == len(REGISTERS)
    for one in REGISTERS:
        seen = 0
        for field in one.fields:
            assert field.mask < 2**32 and not seen & field.mask, (one.name, field.name)
            assert field.reset < 1 << field.width and field.help
            seen |= field.mask
        assert len({field.name for field in one.fields}) == len(one.fields)


def test_registers_by_hand():
    assert register("id").reset == IDENTITY == 0x54465244
    assert register("control").offset == 0x00C and register("region7_limit").offset == 0x07C
    assert [register(f"{engine}_command").offset for engine in ENGINES] == [0x80, 0x90, 0xA0, 0xB0]
    assert register("clocks_low").offset == 0x100 and register("clocks_high").offset == 0x104
    with pytest.raises(KeyError, match="Register must be one of"):
        register("nothing")


@pytest.mark.parametrize(
    "settings, expected",
    [
        ([], 0b011),
        (["functions=[]"], 0),
        (['functions=["tables"]'], 0b010),
        (['functions=["attention"]', 'dataflows=["closed_loop", "sign_mask"]'], 0b101),
    ],
)
def test_capabilities_by_hand(settings, expected):
    assert capabilities(Parameters().with_settings(settings)) == expected


def test_the_page_shows_the_table():
    assert registers.table() in page("machine")
    for number, cause in enumerate(registers.CAUSES[1:], 1):
        assert f"| {number} | {cause} |" in page("machine")
    for counter in COUNTERS:
        name = counter.name.removeprefix("memory_").removeprefix("chip_")
        assert f"`{name}`" in page("machine"), name


def test_the_interpreter_counts_what_has_a_register():
    machine = Accelerator(Parameters(), 4096)
    machine.regions[0].limit = 128
    words = assemble([Stop()])
    machine.memory[: words.nbytes] = words.view("uint8").ravel()
    machine.run(Operand(0), 1)
    assert machine.counters == {"commands": 1}
    assert set(machine.counters) <= {counter.name for counter in COUNTERS}
    assert Multiply.engine in ENGINES
