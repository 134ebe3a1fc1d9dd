"""Each example runs by its one command and says that all is equal; a wrong result is told."""

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from golden.diffusion import Method

ROOT = Path(__file__).resolve().parents[2]


def run(name, *arguments, seeded=True):
    script = ROOT / "examples" / name / "run.py"
    seed = ["--seed", str(random.randrange(1 << 16))] if seeded else []
    print(*seed)
    call = [sys.executable, str(script), *seed, *arguments]
    return subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=1200)


@pytest.mark.cocotb
def test_verilog_top(tmp_path):
    done = run("verilog_top", "--simulator", "verilator", "--out", str(tmp_path / "top"))
    assert done.returncode == 0, done.stderr
    assert " sums, each equal to golden's (verilator, seed " in done.stdout


@pytest.mark.cocotb
def test_litex_top(tmp_path):
    done = run("litex_top", "--lint", "--out", str(tmp_path / "top"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("Verilator reads the system with the accelerator in it\n")


@pytest.mark.slow
@pytest.mark.cocotb
def test_a_program_runs_in_the_litex_system(tmp_path):
    done = run("litex_top", "--out", str(tmp_path / "top"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(" groups; RAM is what the interpreter leaves, byte for byte\n")


@pytest.mark.unit
def test_amaranth_top(tmp_path):
    done = run("amaranth_top", "--out", str(tmp_path / "dot_product.v"))
    assert done.returncode == 0, done.stderr
    assert "10 sums, each equal to golden's" in done.stdout


@pytest.mark.unit
def test_ulx3s_demo():
    done = run("ulx3s_demo")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("driftless PASS 0160/0160 multiplier_group edge\ndriftless FAIL 0159/0160 ")


@pytest.mark.golden
def test_pytorch_model(tmp_path):
    done = run("pytorch_model", "--out", str(tmp_path / "mine.json"))
    assert done.returncode == 0, done.stderr
    named, tuned = re.findall(r"^(?:closed-int3|tuned): ([\d.]+) dB, .*, ([\d.]+) of the clocks", done.stdout, re.M)
    assert float(tuned[0]) > 37 and float(tuned[1]) < float(named[1])
    assert Method.from_dict(json.loads((tmp_path / "mine.json").read_text())).flow == "closed_loop"


@pytest.mark.golden
def test_notebook(tmp_path):
    """After a change: ``python examples/notebook/run.py --page docs/tour.md``."""
    page = tmp_path / "tour.md"
    done = run("notebook", "--out", str(tmp_path / "tour.ipynb"), "--page", str(page), seeded=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("tour.ipynb: 5 pictures\n")
    assert page.read_text(encoding="utf-8") == (ROOT / "docs/tour.md").read_text(encoding="utf-8")
    assert len(list((tmp_path / "images").iterdir())) == 5


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
