"""What every unit has in common."""

import pytest

from golden.parameters import PRESETS
from hw.units import UNITS
from tests.hw.streams import inspect, refusal

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("name", UNITS)
def test_units_take_parameters_and_nothing_else(name):
    assert repr(refusal(UNITS[name], 4)) == "TypeError('parameters must be Parameters, not 4')"


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", UNITS)
def test_units_describe_themselves(name, preset):
    dut = inspect(UNITS[name](PRESETS[preset]))
    assert dut.parameters is PRESETS[preset]
    assert dut.latency >= 1
    assert " per " in dut.throughput
    assert dut.summary
