import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from golden.parameters import PRESETS, Parameters, preset
from hw.tops import COMPONENTS
from hw.units import UNITS
from rtl_gen import tools
from rtl_gen.__main__ import main

pytestmark = pytest.mark.synth

ROOT = Path(__file__).resolve().parents[2]
ONE = ["--unit", "int_float_multiplier", "--jobs", "1"]


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run a command in an empty folder; returns exit code, output and complaints."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(list(arguments), prog_name="rtl_gen")
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return call


def test_build_writes_to_the_machines_folder(run, tmp_path):
    code, output, complaints = run("build", "--preset", "tiny", *ONE)
    assert (code, complaints) == (0, "")
    assert re.search(r"\nbuild/tiny: 1 unit, 8 files, \d+ s\n$", output)
    assert (tmp_path / "build" / "tiny" / "int_float_multiplier.v").is_file()


def test_default_machine_is_edge(run, tmp_path):
    assert run("build", *ONE)[0] == 0
    manifest = json.loads((tmp_path / "build" / "edge" / "manifest.json").read_text())
    assert Parameters.from_dict(manifest["parameters"]) == preset("edge")


def test_build_from_a_file_with_settings(run, tmp_path):
    Path("my machine.json").write_text(json.dumps({**preset("tiny").to_dict(), "digit_width": 4}))
    code, output, _ = run("build", "--config", "my machine.json", "--set", "fraction_bits=11", *ONE, "--json")
    manifest = json.loads(output)
    assert code == 0
    assert (manifest["machine"], manifest["target"]) == ("my_machine", "generic")
    assert (manifest["parameters"]["digit_width"], manifest["parameters"]["fraction_bits"]) == (4, 11)
    assert json.loads((tmp_path / "build" / "my_machine" / "manifest.json").read_text()) == manifest


def test_build_for_a_target(run, tmp_path):
    code, _, _ = run("build", "--preset", "tiny", "--target", "ecp5", "--unit", "multiplier_group", "--out", "x/y")
    assert code == 0
    assert "CCU2C" in (tmp_path / "x" / "y" / "multiplier_group.v").read_text()
    assert json.loads((tmp_path / "x" / "y" / "manifest.json").read_text())["target"] == "ecp5"


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--preset", "egde"], "Preset must be one of the known names, not 'egde'; did you mean edge or edge25?"),
        (["--unit", "outlier_select"], "Unit must be one of the known names, not 'outlier_select'; did you mean"),
        (
            ["--set", "lane=8"],
            "Key of a configuration must be one of the known names, not 'lane'; did you mean lanes or",
        ),
        (["--set", "lanes"], "A setting must be key=value, not 'lanes'"),
        (["--set", "lanes=3"], "lanes must be in 4..64, not 3"),
        (["--set", "lanes=many"], "lanes must be an integer, not 'many'"),
        (["--set", "outliers=8", "--set", "lanes=4", "--set", "memory_lanes=4"], "outliers must be at most lanes = 4"),
        (["--preset", "edge", "--config", "x.json"], "A machine must come from --preset or --config, not both"),
        (["--config", "missing.json"], "A configuration file must be a file, not 'missing.json', which does not exist"),
        (["--config", "broken.json"], "A configuration file must be JSON, not 'broken.json'"),
        (["--config", "list.json"], "A configuration must be a JSON object, not list"),
        (["--config", "new.json"], "schema of a configuration must be 1, not 2"),
        (["--target", "asic"], "Invalid value for '--target': 'asic' is not one of 'generic', 'ecp5'."),
        (["--out", "broken.json"], "Output must be a folder, not the file "),
    ],
)
def test_bad_input_is_one_sentence_and_code_2(run, tmp_path, arguments, sentence):
    Path("broken.json").write_text("{")
    Path("list.json").write_text("[]")
    Path("new.json").write_text('{"schema": 2}')
    code, output, complaints = run("build", *arguments)
    assert (code, output) == (2, "")
    assert complaints.startswith(f"Error: {sentence}")
    assert complaints.count("\n") == 1
    assert not (tmp_path / "build").exists()


def test_unknown_command_suggests_the_closest(run):
    assert run("biuld") == (2, "", "Error: Command must be one of the known names, not 'biuld'; did you mean build?\n")


def test_refusal_of_a_worker_is_one_sentence_too(tmp_path):
    # In a process of its own: what Amaranth prints at exit would show, too.
    command = [sys.executable, "-m", "rtl_gen", "build", "--out", str(tmp_path / "file" / "x"), *ONE]
    (tmp_path / "file").write_text("")
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1


def test_list_names_every_preset_and_unit(run):
    code, output, _ = run("list")
    assert code == 0
    assert all(name in output for name in (*PRESETS, *COMPONENTS))
    found = json.loads(run("list", "--json")[1])
    assert {row["preset"]: row["default"] for row in found["presets"]} == {name: name == "edge" for name in PRESETS}
    assert [row["unit"] for row in found["units"]] == list(COMPONENTS)
    assert all(row["summary"] for row in found["units"])


@pytest.mark.parametrize("name", PRESETS)
def test_explain_predicts_before_building(run, tmp_path, name):
    code, output, complaints = run("explain", "--preset", name, "--json")
    assert (code, complaints) == (0, "")
    found = json.loads(output)
    p = PRESETS[name]
    assert Parameters.from_dict(found["parameters"]) == p
    assert found["derived"]["int_float_multipliers"] == p.rows * p.columns * p.lanes
    assert found["derived"]["weight_bits"] == (16 if p.weight_form == "float" else p.fraction_bits + 2)
    assert [row["unit"] for row in found["units"]] == list(UNITS)
    assert [row["flow"] for row in found["predictions"]] == [
        "dense",
        "int8",
        "raw",
        "diffy",
        "sign_mask",
        "closed_loop",
    ]
    assert all(row["cycles"] > 0 and row["accumulator_bytes"] > 0 for row in found["predictions"])
    assert list(tmp_path.iterdir()) == []


def test_explain_follows_the_layer(run):
    code, output, _ = run("explain", "--in-channels", "16", "--kernel", "1", "--size", "4", "--json")
    found = json.loads(output)
    assert code == 0
    assert found["layer"]["in_channels"] == 16
    # 4 x 4 positions and 64 channels on the 2 x 4 array, one group of 16 lanes each.
    assert [row["compute_cycles"] for row in found["predictions"] if row["flow"] == "sign_mask"] == [8 * 16]


def test_explain_shows_tables(run):
    code, output, _ = run("explain")
    assert code == 0
    for text in ("Machine edge", "k, bits of a digit", "float multipliers", "delta_compressor", "closed_loop"):
        assert text in output


def test_doctor_finds_everything(run):
    code, output, complaints = run("doctor", "--json")
    rows = {row["tool"]: row for row in json.loads(output)}
    assert (code, complaints) == (0, "")
    assert {tool.name for tool in tools.TOOLS} == set(rows)
    assert rows["pyosys"]["state"] == "ok" and rows["pyosys"]["supported"].startswith("==")
    assert "amaranth" in run("doctor")[1]


def test_doctor_names_what_is_missing_or_too_old(run, monkeypatch):
    broken = (
        tools.Tool("frob", "nothing", command="frobnicate-9000", supported=">=1", package="frob"),
        tools.Tool("python", "everything", supported=">=99", package="python3"),
        tools.Tool("wish", "nothing", command="frobnicate-9000", supported=">=1", package="wish", optional=True),
    )
    monkeypatch.setattr(tools, "TOOLS", broken)
    code, output, complaints = run("doctor")
    assert code == 1
    assert complaints.splitlines()[0] == "frob is missing; install it with: apt install frob"
    assert complaints.splitlines()[1].startswith("python is version 3.")
    assert len(complaints.splitlines()) == 2
    assert "absent" in output


def test_lint_is_clean(run):
    code, output, complaints = run("lint", "--preset", "tiny", *ONE)
    assert (code, complaints) == (0, "")
    assert output.count("clean") == 3


@pytest.mark.parametrize("reader", ["verilator", "yosys", "slang"])
def test_every_reader_sees_a_fault(reader):
    from rtl_gen.verilog import lint

    text = "module one (input wire [3:0] a, output wire b);\n  absent part (.a(a), .b(b));\nendmodule\n"
    (row,) = lint.check_files({"one": text})
    assert row[reader]


def test_a_shell_finds_the_tools(run):
    assert run("shell", "verilator", "--version")[0] == 0
    code, _, complaints = run("shell", "no-such-tool")
    assert code == 1 and complaints == "Error: no-such-tool cannot be started: No such file or directory\n"


def test_lint_fails_on_a_complaint(run, monkeypatch):
    from rtl_gen.verilog import lint

    monkeypatch.setitem(lint.READERS, "yosys", lambda *_: ["Warning: it smells"])
    code, output, complaints = run("lint", "--preset", "tiny", *ONE, "--json")
    assert code == 1
    assert json.loads(output)["units"][0]["yosys"] == ["Warning: it smells"]
    code, _, complaints = run("lint", "--preset", "tiny", *ONE)
    assert (code, complaints) == (1, "int_float_multiplier: Warning: it smells\n")


@pytest.mark.slow
@pytest.mark.parametrize("target", ["generic", "ecp5"])
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_clean(run, name, target):
    code, _, complaints = run("lint", "--preset", name, "--target", target)
    assert (code, complaints) == (0, "")
