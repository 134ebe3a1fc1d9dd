"""Units clock by clock: the page is what the command prints, and that is what the units promise."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from golden.parameters import preset
from hw.units import UNITS
from sim import bench, latency
from sim.__main__ import main

PAGE = Path(__file__).resolve().parents[2] / "docs/latency.md"

pytestmark = pytest.mark.unit


def test_the_page_is_what_the_command_prints():
    """After a change: ``python -m sim latency > docs/latency.md``."""
    done = CliRunner().invoke(main, ["latency"])
    assert done.exit_code == 0 and done.stdout == PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_takes_as_long_as_it_says(name):
    made = bench.load(name, bench.Request(preset("tiny")))
    assert latency.watch(made).latency == made.component.latency


def test_the_page_has_those_of_the_default_machine():
    rows = re.findall(r"^\| \[(\w+)\]\(.*?\) \| (\d+) \|", PAGE.read_text(encoding="utf-8"), re.M)
    stated = {name: bench.load(name, bench.Request(preset("edge"))).component.latency for name in UNITS}
    assert {name: int(clocks) for name, clocks in rows} == stated


def test_a_diagram_says_what_moved():
    """Two inputs, the second one held for a clock; a result three clocks behind the first."""
    seen = latency.Watch(
        {"i": [(1, 1), (1, 0), (1, 1), (0, 1)]}, {"o": [(0, 1), (0, 1), (0, 1), (1, 1)]}, complete=[0, 2]
    )
    assert seen.latency == 3
    assert seen.diagram() == {
        "signal": [
            {"name": "clk", "wave": "p..."},
            {"name": "i_valid", "wave": "1..0"},
            {"name": "i_ready", "wave": "101."},
            {"name": "i", "wave": "33.x", "data": ["A", "B"], "node": "I"},
            {"name": "o_valid", "wave": "0..1"},
            {"name": "o", "wave": "x..3", "data": ["a"], "node": "...O"},
        ],
        "edge": ["I->O 3"],
    }


def test_a_unit_that_gives_nothing_is_told():
    made = bench.load("outlier_selector", bench.Request(preset("tiny")))
    with pytest.raises(RuntimeError, match="^outlier_selector must give 200 results within 100 clocks$"):
        latency.watch(made, results=200)
