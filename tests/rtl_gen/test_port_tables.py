"""Tables of ports: the page is what the command prints, nothing is without a meaning, emitted files say the same."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from golden.parameters import PRESETS, preset
from hw.tops import COMPONENTS
from hw.units import UNITS
from rtl_gen import port_tables
from rtl_gen.__main__ import main
from rtl_gen.verilog.emission import emit

PAGE = Path(__file__).resolve().parents[2] / "docs/ports.md"

pytestmark = pytest.mark.golden


def test_the_page_is_what_the_command_prints():
    """After a change: ``python -m rtl_gen ports > docs/ports.md``."""
    done = CliRunner().invoke(main, ["ports"])
    assert done.exit_code == 0 and done.stdout == PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PRESETS)
def test_every_port_and_field_has_a_meaning(name):
    units = [unit for unit in COMPONENTS if unit not in ("core", "near_memory")]
    if not preset(name).closed_loop:
        units.remove("accelerator")
    text = port_tables.markdown(name, preset(name), units)
    rows = re.findall(r"^\| `([^`]+)` \| \w* ?\| [^|]+ \| (.*) \|$", text, re.M)
    assert len(rows) > 120 and [port for port, meaning in rows if not meaning] == []


def test_another_form_has_other_ports():
    done = CliRunner().invoke(main, ["ports", "--unit", "outlier_selector", "--ports", "axis"])
    assert "`s_axis_i_tdata` | in | 272 |" in done.stdout and "i_flags" not in done.stdout


@pytest.mark.parametrize("unit", ["channel_scale", "float_multiplier", "near_memory_engine"])
def test_the_head_of_the_emitted_file_says_the_same(unit):
    text = port_tables.markdown("tiny", preset("tiny"), [unit])
    emitted = emit(UNITS[unit](preset("tiny"))).text
    head = re.sub(r"\s+", " ", emitted.partition("`default_nettype")[0].replace("//", ""))
    rows = re.findall(r"^\| `\.?([^`]+)` \| (\w*) ?\| [^|]+ \| (.*) \|$", text, re.M)
    assert len(rows) >= 8
    for port, direction, meaning in rows:
        plain = meaning.replace("`", "").replace("\\*", "*")
        assert f"{port}: {direction}put" in head if direction else f"{port} [" in head
        assert plain in head
