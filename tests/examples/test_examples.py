"""Each example runs by its one command and says that all is equal; a wrong result is told."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(name, *arguments):
    script = ROOT / "examples" / name / "run.py"
    seed = str(random.randrange(1 << 16))
    print("seed", seed)
    call = [sys.executable, str(script), "--seed", seed, *arguments]
    return subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=1200)


@pytest.mark.cocotb
def test_verilog_top(tmp_path):
    done = run("verilog_top", "--simulator", "verilator", "--out", str(tmp_path / "top"))
    assert done.returncode == 0, done.stderr
    assert " sums, each equal to golden's (verilator, seed " in done.stdout


@pytest.mark.unit
def test_amaranth_top(tmp_path):
    done = run("amaranth_top", "--out", str(tmp_path / "dot_product.v"))
    assert done.returncode == 0, done.stderr
    assert "10 sums, each equal to golden's" in done.stdout


@pytest.mark.golden
def test_program():
    done = run("program")
    assert done.returncode == 0, done.stderr
    assert "groups multiplied" in done.stdout


@pytest.mark.slow
@pytest.mark.cocotb
def test_program_in_verilog():
    done = run("program", "--verilog")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("memories are equal, byte for byte\n")


@pytest.mark.golden
def test_every_example_is_listed_and_has_its_command():
    listed = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    folders = sorted(path.name for path in (ROOT / "examples").iterdir() if path.is_dir())
    assert folders
    for name in folders:
        assert f"| `{name}` | `python examples/{name}/run.py" in listed
