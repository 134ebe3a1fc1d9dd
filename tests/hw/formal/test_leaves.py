# amaranth: UnusedElaboratable=no
"""Both forms of every leaf are equal, for all inputs: yosys's SAT solver on a miter, with the vendor cells' models."""

import itertools
import subprocess
import sys
import textwrap
from pathlib import Path

import pyosys
import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, Signal

from hw.arith.leaves import LeafTarget, fused_add, leaf_target

pytestmark = pytest.mark.formal

CELLS = Path(pyosys.__file__).parent / "share" / "ecp5" / "cells_sim.v"


def leaf(target, first, second, width, carried):
    m = Module()
    a, b, c, d = (Signal(width, name=name) for name in "abcd")
    carry, y = Signal(name="carry"), Signal(width, name="y")
    total = fused_add(m, LeafTarget(target), "total", width, first, a, b, second, c, d, carry if carried else None)
    m.d.comb += y.eq(total)
    return rtlil.convert(m, ports=[a, b, c, d, carry, y], name=target, emit_src=False, platform=LeafTarget(target))


def proved_equal(folder, first, second, width, carried, *, broken=False):
    for target in ("generic", "ecp5"):
        text = leaf(target, first, second, width, carried)
        if broken and target == "ecp5":
            assert "CCU2C" in text
            at = text.index("INIT0") + len("INIT0 16'")
            text = text[:at] + ("1" if text[at] == "0" else "0") + text[at + 1 :]
        (folder / f"{target}.il").write_text(text)
    script = textwrap.dedent(f"""
        from pyosys import libyosys as ys
        design = ys.Design()
        for command in [
            "read_verilog -nooverwrite {CELLS}",
            "read_rtlil {folder}/generic.il",
            "read_rtlil {folder}/ecp5.il",
            "setattr -mod -unset top",
            "hierarchy",
            "proc",
            "flatten",
            "miter -equiv -flatten -make_assert generic ecp5 proof",
            "opt_clean",
            "sat -verify -prove-asserts -show-inputs proof",
        ]:
            ys.Pass.call(design, "tee -q -a {folder}/log " + command)
    """)
    return subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 0


FORMS = list(itertools.product(("plain", "and", "or", "xor"), ("plain", "and", "xor", "and or")))


@pytest.mark.parametrize("first, second", FORMS)
def test_fused_add(tmp_path, first, second):
    for width, carried in ((7, True), (8, False)):
        assert proved_equal(tmp_path, first, second, width, carried), (tmp_path / "log").read_text()[-2000:]


def test_a_wrong_table_is_found(tmp_path):
    assert not proved_equal(tmp_path, "and", "xor", 6, True, broken=True)
    assert "SAT proof finished - model found: FAIL!" in (tmp_path / "log").read_text()


def test_targets():
    class Board:
        device = "LFE5U-85F"

    assert [leaf_target(platform) for platform in (None, Board(), LeafTarget("ecp5"))] == ["generic", "ecp5", "ecp5"]
    with pytest.raises(ValueError, match=r"^Leaf target must be generic or ecp5, not 'ice40'$"):
        LeafTarget("ice40")


def test_functions_are_checked():
    bits = [Signal(4) for _ in range(4)]
    with pytest.raises(ValueError, match=r"^first must be one of plain, and, or, xor, not 'nand'$"):
        fused_add(Module(), None, "sum", 4, "nand", bits[0], bits[1], "plain", bits[2], bits[3])
    with pytest.raises(ValueError, match=r"^second must be one of plain, and, xor, and or, not 'or'$"):
        fused_add(Module(), None, "sum", 4, "plain", bits[0], bits[1], "or", bits[2], bits[3])
