import re

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, Signal
from amaranth.lib import data

from golden.parameters import preset
from rtl_gen.verilog.rtlil import Assign, Constant, Slice, join, read, statements, take
from tests.rtl_gen.verilog.everything import Everything, Tiles

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def text():
    return rtlil.convert(Everything(preset("tiny")), name="everything", emit_src=False)


def test_reading_loses_nothing(text):
    netlist = read(text)
    leaves = [name for name in re.findall(r"^module (\S+)", text, re.MULTILINE) if "leaf" in name]
    assert len(leaves) == preset("tiny").lanes
    # Of equal modules the last one stands for all.
    kept = [part for part in re.split(r"^(?=module )", text, flags=re.MULTILINE) if "module" in part[:6]]
    kept = [part for part in kept if part.split()[1] in netlist.modules]
    for part in kept:
        module = netlist.modules[part.split()[1]]
        inits = part.count("  cell $meminit_v2 ")
        assert len(module.cells) + inits == part.count("  cell ")
        assert len(module.processes) == part.count("  process ")
        assert len(module.wires) == part.count("  wire ")
        assert sum(isinstance(each, Assign) for process in module.processes for each in statements(process.body)) == (
            part.count("  assign ")
        )


def test_equal_modules_are_read_once(text):
    netlist = read(text)
    kinds = [cell.kind for cell in netlist.top.cells if "leaf" in cell.name]
    assert len(kinds) == preset("tiny").lanes
    # Amaranth names ports without a signal of their own by numbers: leaves whose numbers differ differ in the text.
    assert set(kinds) <= set(netlist.modules)


def test_tiles_of_an_array_are_read_once():
    netlist = read(rtlil.convert(Tiles(64), name="tiles", emit_src=False))
    # Those at the ends have their ports in another order.
    assert len(netlist.modules) <= 4
    assert sum(cell.is_instance for cell in netlist.top.cells) == 64


def test_rows_of_a_memory(text):
    (memory,) = [memory for memory in read(text).top.memories.values()]
    assert (memory.width, memory.depth) == (8, 16)
    assert [int(row, 2) for row in memory.rows] == [1, 2, 3] + [0] * 13


def test_a_field_of_no_bits_is_no_assignment():
    layout = data.StructLayout({"low": 1, "place": 0, "value": 4})
    m, i, o = Module(), Signal(4), Signal(4)
    fields, others = Signal(layout, name="fields"), Signal(layout, name="others")
    m.d.comb += others.value.eq(i)
    with m.If(i[0]):
        m.d.sync += [fields.value.eq(others.value), fields.place.eq(others.place), fields.low.eq(0)]
    m.d.comb += o.eq(fields.value)
    found = read(rtlil.convert(m, name="fields", ports=[i, o], emit_src=False)).top
    assigned = [each for process in found.processes for each in statements(process.body) if isinstance(each, Assign)]
    assert all(each.target.high >= each.target.low for each in assigned)
    assert assigned


@pytest.mark.parametrize(
    "high, low, expected",
    [
        (7, 0, (Slice("\\a", 5, 2), Constant("01"), Slice("\\b", 1, 0))),
        (4, 1, (Slice("\\a", 2, 2), Constant("01"), Slice("\\b", 1, 1))),
        (3, 2, (Constant("01"),)),
        (7, 7, (Slice("\\a", 5, 5),)),
    ],
)
def test_take(high, low, expected):
    assert take((Slice("\\a", 5, 2), Constant("01"), Slice("\\b", 1, 0)), high, low) == expected


def test_neighbours_are_joined():
    pieces = [Slice("\\a", 5, 4), Slice("\\a", 3, 0), Constant("0"), Constant("1"), Slice("\\a", 0, 0)]
    assert join(pieces) == (Slice("\\a", 5, 0), Constant("01"), Slice("\\a", 0, 0))


@pytest.mark.parametrize(
    "line, sentence",
    [
        ("blackbox x", r"^RTLIL line must start a module, not 'blackbox x'$"),
        ("module \\x\n  frobnicate y\nend", r"^RTLIL line must be a wire, memory, cell, process or connection, not "),
        ("module \\x\n  wire width 1 \\y\n  connect \\y 2'1\nend", r"^RTLIL value must be a wire or a sized constant"),
        (
            "module \\x\n  process $1\n    jump\n  end\nend",
            r"^RTLIL line of a process must be ",
        ),
    ],
)
def test_what_amaranth_does_not_write_is_refused(line, sentence):
    with pytest.raises(ValueError, match=sentence):
        read(line)
