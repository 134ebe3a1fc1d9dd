"""The five packages are ours, and who else answers to their names is told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import golden
from golden.common import rooms

ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.golden


def test_all_are_ours_here():
    assert rooms.foreign() == {}


@pytest.mark.parametrize("name", rooms.ROOMS)
def test_each_has_the_version(name):
    assert __import__(name).__version__ == rooms.VERSION == golden.driftless_version


@pytest.mark.parametrize("name", [room for room in rooms.ROOMS if room != "golden"])
def test_a_foreign_package_is_named_by_the_import(tmp_path, name):
    (tmp_path / f"{name}.py").write_text("")
    environment = dict(os.environ, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    call = [sys.executable, "-P", "-c", "import golden"]
    result = subprocess.run(call, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert f"Package {name} must be that of driftless-hdl in {ROOT}, but Python finds {tmp_path}" in result.stderr


def test_a_foreign_golden_is_named_by_the_others(tmp_path):
    (tmp_path / "golden.py").write_text("")
    environment = dict(os.environ, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    result = subprocess.run(
        [sys.executable, "-P", "-c", "import hw"], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode != 0
    assert f"from 'golden' ({tmp_path}" in result.stderr
