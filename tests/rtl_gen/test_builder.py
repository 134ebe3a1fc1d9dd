# amaranth: UnusedElaboratable=no
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from amaranth.hdl import Shape

from golden.parameters import PRESETS, Parameters, preset
from hw import units
from rtl_gen import builder, options, tools

pytestmark = pytest.mark.synth

TINY = preset("tiny")
UNITS = ["outlier_selector", "int_float_multiplier"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "deep" / "tiny"
    manifest = builder.build(TINY, UNITS, out, machine="tiny")
    return out, manifest


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_folder_holds_what_the_manifest_lists(built):
    out, manifest = built
    assert set(contents(out)) == {"manifest.json", *(file["path"] for file in manifest["files"])}
    assert set(contents(out)) == {
        "manifest.json",
        "filelist.f",
        "driftless_tiny.core",
        "waivers.vlt",
        *(f"{name}{end}" for name in UNITS for end in (".v", ".vh", "_pkg.sv", "_instance.vh")),
    }
    assert json.loads((out / "manifest.json").read_text()) == manifest


def test_sums_are_those_of_the_files(built):
    out, manifest = built
    for file in manifest["files"]:
        assert hashlib.sha256((out / file["path"]).read_bytes()).hexdigest() == file["sha256"]
    for entry in manifest["units"]:
        for path in entry["files"]:
            assert hashlib.sha256((out / path).read_bytes()).hexdigest() == entry["sha256"][path]


def test_manifest_says_what_a_unit_is(built):
    _, manifest = built
    assert [entry["name"] for entry in manifest["units"]] == UNITS
    for entry in manifest["units"]:
        component = units.UNITS[entry["name"]](TINY)
        assert entry["latency"] == component.latency
        assert entry["throughput"] == component.throughput
        assert entry["summary"] == component.summary
        assert Parameters.from_dict(entry["parameters"]) == TINY
        assert set(entry["tools"]) == {"amaranth"}
        assert all(re.fullmatch(r"[\d.]+(post\d+)?", version) for version in entry["tools"].values())


def test_manifest_ports_are_those_that_yosys_reads(built, tmp_path):
    out, manifest = built
    for entry in manifest["units"]:
        name = entry["name"]
        tools.run_yosys(f'read_verilog "{out / entry["files"][0]}"\nproc\nwrite_json {name}.json\n', cwd=tmp_path)
        design = json.loads((tmp_path / f"{name}.json").read_text())
        real = {
            port: (facts["direction"], len(facts["bits"])) for port, facts in design["modules"][name]["ports"].items()
        }
        assert {port["name"]: (port["direction"], port["width"]) for port in entry["ports"]} == real
        assert entry["modules"][0] == name and set(entry["modules"]) == set(design["modules"])


def check_fields(fields, width):
    end = 0
    for field in fields:
        assert field["offset"] == end
        end += field["width"] * field.get("count", 1)
        check_fields(field["fields"], field["width"]) if "fields" in field else None
    assert end == width


def test_fields_fill_their_ports(built):
    _, manifest = built
    checked = 0
    for entry in manifest["units"]:
        for port in entry["ports"]:
            if "fields" in port:
                check_fields(port["fields"], port["width"] // port.get("count", 1))
                checked += 1
    assert checked == 1


def test_ports_of_a_member_fill_it(built):
    _, manifest = built
    for entry in manifest["units"]:
        ends: dict[str, int] = {}
        for port in entry["ports"]:
            if "member" in port:
                assert port["offset"] == ends.get(port["member"], 0)
                ends[port["member"]] = port["offset"] + port["width"]
        component = units.UNITS[entry["name"]](TINY)
        for path, member, _value in component.signature.flatten(component):
            assert ends[".".join(path)] == Shape.cast(member.shape).width


def test_file_list_compiles(built):
    out, _ = built
    assert (out / "filelist.f").read_text().split() == [f"{name}.v" for name in UNITS]
    for name in UNITS:
        command = [*tools.verilator_command(), "--lint-only", str(out / "waivers.vlt")]
        tools.run([*command, "-F", str(out / "filelist.f"), "--top-module", name])


def test_core_is_a_fusesoc_core(built):
    out, _ = built
    text = (out / "driftless_tiny.core").read_text()
    assert text.startswith("CAPI=2:\n")
    core = yaml.safe_load(text)
    assert re.fullmatch(r"driftless-hw:driftless:tiny:\d+\.\d+\.\d+", core["name"])
    assert core["filesets"]["rtl"] == {"files": [f"{name}.v" for name in UNITS], "file_type": "verilogSource-2005"}
    assert core["filesets"]["waivers"] == {"files": ["waivers.vlt"], "file_type": "vlt"}
    for name in UNITS:
        target = core["targets"][name]
        assert (target["filesets"], target["toplevel"], target["flow"]) == (["waivers", "rtl"], name, "lint")


def fusesoc(out: Path, machine: str, target: str, folder: Path) -> None:
    command = [sys.executable, "-m", "rtl_gen", "shell", "fusesoc", "--cores-root", str(out), "run"]
    command += ["--work-root", str(folder), "--target", target, f"driftless-hw:driftless:{machine}"]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("target", ["default", "lint", UNITS[1]])
def test_fusesoc_runs_the_targets_of_the_core(built, tmp_path, target):
    fusesoc(built[0], "tiny", target, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("machine", PRESETS)
def test_fusesoc_lints_every_preset(machine, tmp_path):
    names = options.choose_units((), preset(machine))
    builder.build(preset(machine), names, tmp_path / "out", machine=machine, jobs=2)
    (tmp_path / "work").mkdir()
    fusesoc(tmp_path / "out", machine, "lint", tmp_path / "work")


def test_second_build_is_the_same_and_replaces_the_first(built, tmp_path):
    out, _ = built
    builder.build(TINY, UNITS, tmp_path / "other", machine="tiny", jobs=2)
    assert contents(tmp_path / "other") == contents(out)
    builder.build(TINY, UNITS[:1], tmp_path / "other", machine="tiny")
    assert "int_float_multiplier.v" not in contents(tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


@pytest.mark.parametrize("form, port", [("flat", "i_payload"), ("axis", "s_axis_i_tdata")])
def test_forms_of_ports(tmp_path, form, port):
    manifest = builder.build(TINY, UNITS[:1], tmp_path / "out", machine="tiny", ports=form)
    assert port in [found["name"] for found in manifest["units"][0]["ports"]]


def test_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    builder.build(TINY, UNITS[1:], tmp_path / "out", machine="tiny")
    assert "manifest.json" in contents(tmp_path / "out")


@pytest.mark.parametrize("with_manifest", [False, True])
def test_foreign_folder_is_refused_and_untouched(tmp_path, with_manifest):
    out = tmp_path / "out"
    if with_manifest:
        builder.build(TINY, UNITS[1:], out, machine="tiny")
    out.mkdir(exist_ok=True)
    (out / "thesis.tex").write_text("years of work")
    before = contents(out)
    sentence = f"Output folder must be empty or hold an earlier build alone, not {out} with thesis.tex"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        builder.build(TINY, UNITS[1:], out, machine="tiny")
    assert contents(out) == before


def test_manifest_of_somebody_else_does_not_make_a_folder_ours(tmp_path):
    (tmp_path / "manifest.json").write_text('{"generator": "something else", "files": []}')
    with pytest.raises(ValueError, match="^Output folder must be empty or hold an earlier build alone, not "):
        builder.build(TINY, UNITS[1:], tmp_path, machine="tiny")


def test_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ValueError, match="^Output must be a folder, not the file "):
        builder.build(TINY, UNITS[1:], tmp_path / "out", machine="tiny")


def test_current_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="^Output must be a folder of its own, not the current one "):
        builder.build(TINY, UNITS[1:], Path("."), machine="tiny")


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("before", [False, True])
def test_interrupted_build_leaves_everything_as_it_was(tmp_path, monkeypatch, before):
    out = tmp_path / "out"
    if before:
        builder.build(TINY, UNITS[1:], out, machine="tiny")
    old = contents(out) if before else None
    write_text = Path.write_text

    def fail_at_the_last(self, *args, **kwargs):
        if self.name == "manifest.json":
            raise Interrupted
        return write_text(self, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", fail_at_the_last)
    with pytest.raises(Interrupted):
        builder.build(preset("edge"), UNITS[1:], out, machine="edge")
    assert [path.name for path in tmp_path.iterdir()] == (["out"] if before else [])
    if before:
        assert contents(out) == old


def test_failed_exchange_brings_the_old_folder_back(tmp_path, monkeypatch):
    out = tmp_path / "out"
    builder.build(TINY, UNITS[1:], out, machine="tiny")
    old = contents(out)
    rename = builder.os.rename

    def fail_with_the_new(source, target):
        if Path(source).name == "new":
            raise Interrupted
        rename(source, target)

    monkeypatch.setattr(builder.os, "rename", fail_with_the_new)
    with pytest.raises(Interrupted):
        builder.build(preset("edge"), UNITS[1:], out, machine="edge")
    assert contents(out) == old
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_unit_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def refuse(parameters):
        raise ValueError("outlier_selector must not be built, not today")

    monkeypatch.setitem(builder.COMPONENTS, "outlier_selector", refuse)
    with pytest.raises(ValueError, match="^outlier_selector must not be built, not today$"):
        builder.build(TINY, UNITS, tmp_path / "out", machine="tiny")
    assert list(tmp_path.iterdir()) == []


def test_the_accelerator_comes_with_its_registers(tmp_path):
    manifest = builder.build(TINY, ["accelerator"], tmp_path / "out", machine="tiny")
    (entry,) = manifest["units"]
    ends = [".v", ".vh", "_pkg.sv", "_instance.vh"]
    own = [f"accelerator{end}" for end in ends] + [f"registers.{end}" for end in ("h", "py", "rdl", "md")]
    assert entry["files"] == own and set(own) < set(contents(tmp_path / "out"))
    assert entry["latency"] is None and entry["throughput"] is None
    assert {port["name"] for port in entry["ports"]} > {"clk", "rst", "interrupt", "memory_awvalid", "registers_rdata"}
