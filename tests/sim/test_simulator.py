import re
import sys

import pytest
from click.testing import CliRunner

from rtl_gen import tools
from rtl_gen.__main__ import main
from sim import simulator

pytestmark = pytest.mark.golden

RULE = "must have no space in its path, where GNU make cannot build, not"


def test_a_path_with_a_space_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "my models"
    with pytest.raises(tools.ToolError, match=f"^Folder of simulations {RULE} {re.escape(repr(str(folder)))}$"):
        simulator.build({}, folder=folder)
    assert not folder.exists()
    monkeypatch.setattr(sys, "prefix", "/home/some one/venv")
    with pytest.raises(tools.ToolError, match=f"^Python environment {RULE} '/home/some one/venv'$"):
        tools.verilator_environment()


def test_the_doctor_sees_it(tmp_path, monkeypatch):
    monkeypatch.setattr(tools, "TOOLS", ())
    folder = tmp_path / "my project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(main, ["doctor", "--json"], standalone_mode=False)
    assert (result.return_value, result.stderr) == (1, f"Working folder {RULE} {str(folder)!r}\n")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["doctor", "--json"], standalone_mode=False)
    assert (result.return_value, result.stderr) == (0, "")
