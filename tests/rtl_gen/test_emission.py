# amaranth: UnusedElaboratable=no
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.parameters import preset
from hw import payloads
from hw.arith.leaves import LeafTarget
from hw.units import UNITS, MultiplierGroup
from rtl_gen import lint, tools
from rtl_gen.emission import emit
from tests.rtl_gen.everything import Everything, prove_same

pytestmark = pytest.mark.synth

ROOT = Path(__file__).resolve().parents[2]
TINY = preset("tiny")


@pytest.fixture(scope="module")
def emitted():
    return emit(Everything(TINY))


def code(text: str) -> str:
    """Verilog without comments."""
    return re.sub(r"//.*", "", text)


def test_names_are_plain(emitted):
    text = code(emitted.text)
    assert "\\" not in text
    assert set(re.findall(r"\$\w*", text)) <= {"$signed", "$unsigned"}


def test_fields_and_outputs_of_instances_have_speaking_names(emitted):
    words = set(re.findall(r"\w+", code(emitted.text)))
    assert {"i__payload__digits_0", "leaf2__y_7_0", "status__overflow", "queue__r_rdy", "view"} <= words


def test_keyword_as_name_gets_an_underscore(emitted):
    assert re.search(r"reg \[15:0\] case_;", emitted.text)


def test_dead_register_is_dropped(emitted):
    assert "never_read" not in emitted.text


def test_equal_leaves_are_emitted_once(emitted):
    assert emitted.modules[0] == "everything"
    assert sorted(emitted.modules[1:]) == ["everything__leaf", "everything__queue"]
    assert len(re.findall(r"^  everything__leaf leaf\d \($", emitted.text, re.MULTILINE)) == TINY.lanes


def test_header_says_what_it_is(emitted):
    head = emitted.text.partition("module")[0]
    for line in (
        "// everything: whatever the emitter must cope with",
        "// Latency: 3 clocks",
        "// Throughput: one group per clock",
        "//   digit_width = 3",
        "//   flip_repair = false",
        "// SPDX-License-Identifier: BSD-2-Clause",
    ):
        assert line in head.splitlines()
    assert all(len(line) <= 120 for line in head.splitlines())


def test_ports_follow_the_signature(emitted):
    found = {port.name: (port.direction, port.width, port.signed) for port in emitted.ports}
    group = 6 + 4 * 3 + 1 * (1 + 2 + 16)
    assert found == {
        "clk": ("input", 1, False),
        "rst": ("input", 1, False),
        "i__payload": ("input", group, False),
        "i__valid": ("input", 1, False),
        "i__ready": ("output", 1, False),
        "o__payload": ("output", group, False),
        "o__valid": ("output", 1, False),
        "o__ready": ("input", 1, False),
        "status": ("output", 2, False),
        "level": ("output", 4, True),
        "clear": ("input", 1, False),
    }
    declared = re.findall(r"^  (input|output) (?:wire|reg) (?:\[(\d+):0\] )?(\w+),?$", emitted.text, re.MULTILINE)
    assert [(name, kind, int(high or 0) + 1) for kind, high, name in declared[: len(found)]] == [
        (port.name, port.direction, port.width) for port in emitted.ports
    ]


def test_fields_lie_where_amaranth_puts_them(emitted):
    fields = next(port for port in emitted.ports if port.name == "i__payload").fields
    layout = payloads.delta_group(TINY)
    assert [field.name for field in fields] == ["exponent", "digits", "outliers"]
    for field in fields:
        assert field.offset == layout[field.name].offset
    digits, outliers = fields[1:]
    assert (digits.count, digits.width, digits.signed) == (4, 3, True)
    assert (outliers.count, outliers.width) == (1, 19)
    assert [(inner.name, inner.offset, inner.width) for inner in outliers.fields] == [
        ("valid", 0, 1),
        ("lane", 1, 2),
        ("value", 3, 16),
    ]


def test_same_text_whatever_the_hash_seed(emitted):
    script = (
        "import sys\n"
        "from golden.parameters import preset\n"
        "from rtl_gen.emission import emit\n"
        "from tests.rtl_gen.everything import Everything\n"
        "sys.stdout.write(emit(Everything(preset('tiny'))).text)\n"
    )
    for seed in ("0", "1", "4242"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert result.stdout == emitted.text


def test_other_yosys_on_the_path_changes_nothing(emitted, tmp_path, monkeypatch):
    (tmp_path / "yosys").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "yosys").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("YOSYS", str(tmp_path / "yosys"))
    assert emit(Everything(TINY)).text == emitted.text


def test_text_is_the_circuit_that_amaranth_describes(emitted, tmp_path):
    prove_same(Everything(TINY), emitted.text, "everything", tmp_path)


@pytest.mark.parametrize(
    "old, new",
    [
        ("level[2:0] = sub_8;", "level[2:0] = row0[2:0];"),
        pytest.param("status__busy = reduce_and_7;", "status__busy = 1'h0;", marks=pytest.mark.slow),
        pytest.param("o__valid <= queue__r_rdy;", "o__valid <= 1'h1;", marks=pytest.mark.slow),
        pytest.param("status__overflow <= 1'h1;", "status__overflow <= 1'h0;", marks=pytest.mark.slow),
    ],
)
def test_proof_notices_a_fault(emitted, tmp_path, old, new):
    assert emitted.text.count(old) == 1
    with pytest.raises(tools.ToolError, match="unproven"):
        prove_same(Everything(TINY), emitted.text.replace(old, new), "everything", tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "outlier_selector",
        "int_float_multiplier",
        "float_multiplier",
        "multiplier_group",
        "channel_scale",
        "sign_mask",
        "delta_decompressor",
    ],
)
def test_unit_is_the_circuit_that_amaranth_describes(name, tmp_path):
    prove_same(UNITS[name](TINY), emit(UNITS[name](TINY)).text, name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["delta_quantizer", "delta_compressor", "near_memory_engine"])
def test_large_unit_is_the_circuit_that_amaranth_describes(name, tmp_path):
    prove_same(UNITS[name](TINY), emit(UNITS[name](TINY)).text, name, tmp_path)


def test_lint_is_clean(emitted):
    (row,) = lint.check_files({"everything": emitted.text})
    assert (row["verilator"], row["yosys"]) == ([], [])


def test_lint_reports_what_is_wrong(emitted):
    unread = emitted.text.replace("\n);\n", "\n);\n  wire forgotten;\n", 1)
    twice = emitted.text.replace("endmodule", "  assign level = 4'h0;\nendmodule", 1)
    rows = lint.check_files({"everything": unread})
    assert any("'forgotten'" in complaint for complaint in rows[0]["verilator"])
    (row,) = lint.check_files({"everything": twice})
    assert row["yosys"] != []


def test_several_files_compile_together(emitted):
    files = {"everything": emitted.text, "second": emit(Everything(TINY), name="second").text}
    assert lint.check_together(files) == []
    files["third"] = emitted.text
    assert "Re-definition" in lint.check_together(files)[0]


def test_memory_stays_a_memory(emitted, tmp_path):
    (tmp_path / "x.v").write_text(emitted.text)
    log = tools.run_yosys("read_verilog x.v; hierarchy -top everything; proc; memory_collect; stat", cwd=tmp_path)
    assert len(re.findall(r"^ +\d+ +\$mem_v2$", log, re.MULTILINE)) >= 2


def test_primitives_of_a_target_keep_their_names():
    text = emit(MultiplierGroup(TINY), platform=LeafTarget("ecp5")).text
    assert re.search(r"^  CCU2C #\($", text, re.MULTILINE)
    (row,) = lint.check_files({"multiplier_group": text}, target="ecp5")
    assert (row["verilator"], row["yosys"]) == ([], [])


class Passing(wiring.Component):
    """Hands a value on."""

    def __init__(self, **members):
        super().__init__({"a": In(4), "y": Out(4), **members})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.y.eq(self.a)
        return m


def test_component_without_clock_has_no_clock_port():
    result = emit(Passing(), name="passing")
    assert [port.name for port in result.ports] == ["a", "y"]
    assert "// passing: Hands a value on." in result.text


def test_array_port_lists_its_elements():
    result = emit(Passing(b=In(data.ArrayLayout(3, 2))), name="passing")
    (field,) = next(port for port in result.ports if port.name == "b").fields
    assert field.to_dict() == {"name": "elements", "offset": 0, "width": 3, "signed": False, "count": 2}


class Kept(wiring.Component):
    """Holds a signal that must stay."""

    def __init__(self):
        super().__init__({"a": In(4), "y": Out(4)})

    def elaborate(self, platform):
        m = Module()
        probe = Signal(4, attrs={"keep": "true"})
        m.d.sync += [probe.eq(self.a), self.y.eq(self.a)]
        return m


def test_kept_signal_stays():
    text = emit(Kept(), name="kept").text
    assert "probe <= a;" in text and '(* keep = "true" *)' in text


def test_what_is_no_component_is_refused():
    with pytest.raises(TypeError, match="^component must be an Amaranth component, not 3$"):
        emit(3, name="x")


@pytest.mark.parametrize("name", [None, "a-b", "1st", ""])
def test_what_is_no_identifier_is_refused(name):
    with pytest.raises(ValueError, match=f"^name must be a plain identifier, not {name!r}$"):
        emit(Passing(), name=name)
