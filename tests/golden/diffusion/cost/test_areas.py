"""Shipped areas are those of pieces that `python -m fpga area` measures, under the names the model looks for."""

import json
import re

import pytest

from golden.diffusion.cost import areas
from golden.diffusion.differential.method import METHODS
from golden.parameters import Parameters

pytestmark = pytest.mark.golden


def test_shipped_figures_say_what_made_them():
    report = json.loads(areas.SHIPPED.read_text())
    assert report["made"].startswith("python -m fpga area") and re.fullmatch(r"\d{4}-\d\d-\d\d", report["date"])


@pytest.mark.parametrize("name", [name for name in METHODS if name != "dense"])
def test_every_method_has_its_own_area(name):
    assert areas.lane(areas.read(), METHODS[name][1].machine) > 10


def test_only_the_very_group_counts():
    rows = [{"piece": "multiplier_group, k=4 n=32 m=0, aligned F=10", "leaves": "ecp5", "lanes": 32}]
    rows[0]["cells"] = {"luts": 64}
    machine = Parameters(digit_width=4, lanes=32, outliers=0, fraction_bits=10)
    assert areas.piece(machine) == rows[0]["piece"] and areas.lane(rows, machine) == 2
    for change in ({"digit_width": 3}, {"lanes": 16}, {"outliers": 1}, {"fraction_bits": 12}, {"weight_form": "float"}):
        values = {"digit_width": 4, "lanes": 32, "outliers": 0, "fraction_bits": 10, **change}
        assert areas.lane(rows, Parameters(**values)) is None
    assert areas.lane(rows, None) is None
    assert areas.lane([rows[0] | {"leaves": "generic"}], machine) is None
