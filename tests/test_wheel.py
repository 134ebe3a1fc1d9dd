"""What the wheel would ship: every file of the five packages is one that pyproject.toml names."""

import fnmatch
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = ("fpga", "golden", "hw", "rtl_gen", "sim")

pytestmark = pytest.mark.golden


def files():
    listed = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True)
    return [Path(line) for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def test_packages_are_the_five():
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]) == [f"{name}*" for name in PACKAGES]


def test_every_data_file_is_shipped():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["*"]
    for file in files():
        if file.suffix != ".py":
            assert any(fnmatch.fnmatch(file.name, pattern) for pattern in patterns), f"{file} would not be shipped"


def test_command_is_there():
    assert PROJECT["project"]["scripts"] == {"driftless-hdl": "sim.script:main"}
