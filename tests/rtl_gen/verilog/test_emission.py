# amaranth: UnusedElaboratable=no
import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.parameters import preset
from hw.arith.leaves import LeafTarget
from hw.units import UNITS
from rtl_gen import tools
from rtl_gen.proof import prove_same
from rtl_gen.verilog import lint
from rtl_gen.verilog.emission import emit
from rtl_gen.verilog.ports import FORMS
from tests.rtl_gen.verilog.everything import Everything

pytestmark = pytest.mark.synth

ROOT = Path(__file__).resolve().parents[3]
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
    assert {"i_digits", "leaf2_y", "status_overflow", "queue_r_rdy", "view"} <= words


def test_keyword_as_name_is_a_value(emitted):
    assert re.search(r"reg \[15:0\] case_value;", emitted.text)


def test_dead_register_is_dropped(emitted):
    assert "never_read" not in emitted.text


def test_equal_leaves_are_emitted_once(emitted):
    assert emitted.modules[0] == "everything"
    assert sorted(emitted.modules[1:]) == ["everything_leaf", "everything_queue"]
    assert len(re.findall(r"^  everything_leaf leaf\d \($", emitted.text, re.MULTILINE)) == TINY.lanes


def test_header_says_what_it_is(emitted):
    head = emitted.text.partition("module")[0]
    for line in (
        "// everything: whatever the emitter must cope with",
        "// Latency: 3 clocks",
        "// Throughput: one group per clock",
        "//   digit_width = 3",
        "//   flip_repair = false",
        "//     i_digits: input, 12 bits, 4 x 3, signed; a digit q for each lane, which stands for q * 2^e",
    ):
        assert line in head.splitlines()
    assert all(len(line) <= 120 for line in head.splitlines())


def test_licence_is_that_of_our_own_units_only(emitted):
    licence = "// SPDX-License-Identifier: BSD-2-Clause"
    assert licence not in emitted.text and "Copyright" not in emitted.text
    assert licence in emit(UNITS["float_multiplier"](TINY)).text


def test_header_says_what_ports_mean():
    head = emit(UNITS["channel_scale"](TINY)).text.partition("module")[0]
    assert "//   overflow: Sticky: a value was clamped." in head.splitlines()


def test_ports_follow_the_signature(emitted):
    found = {port.name: (port.direction, port.width, port.signed) for port in emitted.ports}
    assert found == {
        "clk": ("input", 1, False),
        "rst": ("input", 1, False),
        "i_exponent": ("input", 6, False),
        "i_digits": ("input", 4 * 3, True),
        "i_outliers": ("input", 1 + 2 + 16, False),
        "i_valid": ("input", 1, False),
        "i_ready": ("output", 1, False),
        "o_exponent": ("output", 6, False),
        "o_digits": ("output", 4 * 3, True),
        "o_outliers": ("output", 1 + 2 + 16, False),
        "o_valid": ("output", 1, False),
        "o_ready": ("input", 1, False),
        "status_busy": ("output", 1, False),
        "status_overflow": ("output", 1, False),
        "level": ("output", 4, True),
        "clear": ("input", 1, False),
    }
    declared = re.findall(r"^  (input|output) (?:wire|reg) (?:\[(\d+):0\] )?(\w+),?$", emitted.text, re.MULTILINE)
    assert [(name, kind, int(high or 0) + 1) for kind, high, name in declared[: len(found)]] == [
        (port.name, port.direction, port.width) for port in emitted.ports
    ]


def test_same_text_whatever_the_hash_seed(emitted):
    script = (
        "import sys\n"
        "from golden.parameters import preset\n"
        "from rtl_gen.verilog.emission import emit\n"
        "from tests.rtl_gen.verilog.everything import Everything\n"
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


@pytest.mark.parametrize("form", FORMS)
def test_text_is_the_circuit_that_amaranth_describes(form):
    prove_same(Everything(TINY), emit(Everything(TINY), ports=form))


@pytest.mark.parametrize(
    "old, new",
    [
        ("level[2:0] = row0[2:0] - 3'h1;", "level[2:0] = row0[2:0];"),
        pytest.param("status_busy = control_state;", "status_busy = 1'b0;", marks=pytest.mark.slow),
        pytest.param("o_valid <= queue_r_rdy;", "o_valid <= 1'b1;", marks=pytest.mark.slow),
        pytest.param("status_overflow <= 1'b1;", "status_overflow <= 1'b0;", marks=pytest.mark.slow),
    ],
)
def test_proof_notices_a_fault(emitted, old, new):
    assert emitted.text.count(old) == 1
    with pytest.raises(tools.ToolError, match="unproven"):
        prove_same(Everything(TINY), dataclasses.replace(emitted, text=emitted.text.replace(old, new)))


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
def test_unit_is_the_circuit_that_amaranth_describes(name):
    prove_same(UNITS[name](TINY), emit(UNITS[name](TINY)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["delta_quantizer", "delta_compressor", "near_memory_engine"])
def test_large_unit_is_the_circuit_that_amaranth_describes(name):
    prove_same(UNITS[name](TINY), emit(UNITS[name](TINY)))


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
    text = emit(UNITS["multiplier_group"](TINY), platform=LeafTarget("ecp5")).text
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
    port = next(port for port in result.ports if port.name == "b")
    assert (port.width, port.count, port.fields) == (6, 2, ())


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
    assert "probe <= a;" in text and '(* keep = "true" *) reg [3:0] probe;' in text


def test_what_is_no_component_is_refused():
    with pytest.raises(TypeError, match="^component must be an Amaranth component, not 3$"):
        emit(3, name="x")


@pytest.mark.parametrize("name", [None, "a-b", "1st", "", "a__b", "entity", "a_"])
def test_what_is_no_identifier_is_refused(name):
    with pytest.raises(ValueError, match=f"^name must be an identifier of Verilog, VHDL and C\\+\\+, not {name!r}$"):
        emit(Passing(), name=name)


def test_a_sign_that_is_repeated_beside_its_number():
    class Extended(wiring.Component):
        name = "extended"

        def __init__(self):
            super().__init__({"a": In(4), "b": In(4), "o": Out(16)})

        def elaborate(self, platform):
            m = Module()
            total, pair = self.a + self.b, Signal(16)
            m.d.comb += pair.eq(Cat(total, total[-1].replicate(3), (self.a - self.b)[:4], self.a & self.b))
            m.d.sync += self.o.eq(pair)
            return m

    component = Extended()
    prove_same(component, emit(component))
