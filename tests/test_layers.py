"""The shape of the project: imports only go down, nothing refers outside, the test plan names tests that exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hw.units import UNITS

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.golden


def test_imports_only_go_down():
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", UNITS)
def test_unit_stands_on_every_floor_under_one_name(name):
    for path in (
        f"golden/units/{name}.py",
        f"hw/units/{name}.py",
        f"sim/benches/{name}.py",
        f"tests/hw/units/test_{name}.py",
    ):
        assert (ROOT / path).is_file(), path
    assert UNITS[name].name == name
    assert name in (ROOT / "docs/architecture.md").read_text()


def test_test_plan_names_tests_that_exist():
    plan = (ROOT / "docs/test-plan.md").read_text()
    rows = [line for line in plan.splitlines() if "::" in line]
    assert len(rows) > 30
    for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", plan):
        text = (ROOT / path).read_text()
        assert re.search(rf"^(async )?def {name}\b", text, re.M), f"{path}::{name}"


def test_test_plan_covers_every_test_file():
    plan = (ROOT / "docs/test-plan.md").read_text()
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        assert path.relative_to(ROOT).as_posix() in plan, path
