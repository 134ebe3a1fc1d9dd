"""LICENSES.md names every datum that ships, or the folder it lies in, and nothing that is gone."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DATA = (".json", ".npz", ".png", ".safetensors", ".svg")

pytestmark = pytest.mark.golden


def listed():
    text = (ROOT / "LICENSES.md").read_text(encoding="utf-8")
    return {path for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for path in re.findall(r"`([^`]+)`", row)}


def data():
    found = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return [path for path in found if path.endswith(DATA) and (ROOT / path).is_file()]


def test_every_datum_is_listed():
    names = listed()
    folders = tuple(name for name in names if name.endswith("/"))
    assert [path for path in data() if path not in names and not path.startswith(folders)] == []


def test_everything_listed_is_there():
    assert all((ROOT / name).exists() for name in listed())
