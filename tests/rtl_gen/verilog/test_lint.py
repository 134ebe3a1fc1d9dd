# amaranth: UnusedElaboratable=no
import re

import pytest

from golden.parameters import PRESETS
from hw.units import UNITS
from rtl_gen.verilog import lint
from rtl_gen.verilog.emission import emit
from rtl_gen.verilog.naming import is_legal

pytestmark = pytest.mark.synth


def test_inputs_that_parameters_make_idle_are_marked():
    text = emit(UNITS["outlier_selector"](PRESETS["ulx3s"])).text
    assert "  wire unused = &{1'b0, i_values};" in text.splitlines()
    (row,) = lint.check_files({"outlier_selector": text})
    assert not any(row[reader] for reader in lint.READERS)


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_names_of_every_preset_are_legal(preset):
    for name in UNITS:
        found = emit(UNITS[name](PRESETS[preset]))
        assert all(is_legal(port.name) for port in found.ports)
        assert all(is_legal(module) for module in found.modules)
        assert "__" not in re.sub(r"//.*", "", found.text)
