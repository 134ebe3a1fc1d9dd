"""The memory becomes block RAM, with no register or multiplexer per bit around it."""

import re

import pytest

from hw.stream import Fifo
from rtl_gen import tools
from rtl_gen.verilog.emission import emit

pytestmark = pytest.mark.synth


def cells(folder, target, width, depth):
    """Cells by kind of a queue's netlist, from the Verilog."""
    (folder / "fifo.v").write_text(emit(Fifo(width, depth), name="fifo").text, encoding="utf-8")
    output = tools.run_yosys(f"read_verilog fifo.v\nsynth_{target} -top fifo\nstat", cwd=folder, timeout=120)
    statistics = output[output.rindex("Printing statistics") :]
    return {kind: int(number) for number, kind in re.findall(r"^\s+(\d+)\s+(\w+)$", statistics, re.MULTILINE)}


@pytest.mark.parametrize(("target", "ram", "count"), [("ecp5", "DP16KD", 2), ("ice40", "SB_RAM40_4K", 4)])
def test_queue(target, ram, count, tmp_path):
    found = cells(tmp_path, target, 64, 256)
    assert found[ram] == count
    registers = sum(number for kind, number in found.items() if re.match(r"TRELLIS_FF|SB_DFF", kind))
    # Two addresses, a level and a valid bit; a promise about collisions would add 64.
    assert registers <= 2 * 8 + 9 + 1
