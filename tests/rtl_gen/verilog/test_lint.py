# amaranth: UnusedElaboratable=no
import re

import pytest

from golden.parameters import PRESETS
from hw.units import UNITS
from rtl_gen.verilog import lint
from rtl_gen.verilog.emission import emit
from rtl_gen.verilog.naming import is_legal

pytestmark = pytest.mark.synth


def check(preset: str, units: list[str]) -> None:
    emitted = {name: emit(UNITS[name](PRESETS[preset])) for name in units}
    texts = {name: found.text for name, found in emitted.items()}
    for row in lint.check_files(texts):
        assert (row["unit"], row["verilator"], row["yosys"]) == (row["unit"], [], [])
    assert lint.check_together(texts) == []
    for found in emitted.values():
        assert all(is_legal(port.name) for port in found.ports)
        assert all(is_legal(module) for module in found.modules)
        assert "__" not in re.sub(r"//.*", "", found.text)


def test_inputs_that_parameters_make_idle_are_marked():
    text = emit(UNITS["outlier_selector"](PRESETS["ulx3s"])).text
    assert "  wire unused = &{1'b0, i_values};" in text.splitlines()
    check("ulx3s", ["outlier_selector"])


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_clean(preset):
    check(preset, list(UNITS))
