"""What is left of a netlist: folded, without what is dead or there twice, with the design's names, and the same."""

import pytest

from rtl_gen.verilog.rtlil import Constant, Slice, Switch, read, take, whole
from rtl_gen.verilog.tidy import split_aliases, substitute, tidy
from tests.rtl_gen.verilog.netlists import RandomNetlist, is_same, written

HEAD = """\
module \\top
  wire width 4 input 0 \\a
  wire width 4 input 1 \\b
"""


def cell(kind, y, *, signed=0, **ports):
    widths = [f"    parameter \\{port}_SIGNED {signed}" for port in ports]
    lines = [f"    connect \\{port} {bits}" for port, bits in ports.items()]
    return "\n".join([f"  cell {kind} $of{y[1:]}", *widths, *lines, f"    connect \\Y {y}", "  end\n"])


def tidied(body):
    netlist = read(HEAD + body + "end\n")
    tidy(netlist)
    return netlist.top


def value_of(top, name):
    """What drives a wire that no cell drives."""
    (value,) = [value for target, value in top.connections if target == whole(top.wires[name])]
    return value


def named_after(read):
    """A sum and an exclusive or that are named as one signal afterwards, of which the output reads a part."""
    body = "  wire width 5 $1\n  wire width 4 $2\n  wire width 9 \\both\n  wire width 1 output 2 \\y\n"
    body += cell("$add", "$1", A="\\a [3:0]", B="\\b [3:0]") + cell("$xor", "$2", A="\\a [3:0]", B="\\b [3:0]")
    body += "  wire width 1 $3\n" + cell("$reduce_xor", "$3", A=read)
    return tidied(body + "  connect \\both { $1 [4:0] $2 [3:0] }\n  connect \\y $3 [0]\n")


@pytest.mark.unit
@pytest.mark.parametrize(
    ("kind", "ports", "bits"),
    [
        ("$add", {"A": "4'0011", "B": "4'0110"}, "01001"),
        ("$sub", {"A": "4'0011", "B": "4'0110"}, "11101"),
        ("$mul", {"A": "4'0011", "B": "4'0110"}, "10010"),
        ("$lt", {"A": "4'0011", "B": "4'0110"}, "1"),
        ("$shl", {"A": "4'0011", "B": "2'10"}, "01100"),
        ("$reduce_and", {"A": "4'1111"}, "1"),
        ("$not", {"A": "4'0101"}, "1010"),
        ("$and", {"A": "\\a [3:0]", "B": "4'0000"}, "0000"),
        ("$mux", {"S": "1'1", "A": "\\a [3:0]", "B": "4'1001"}, "1001"),
    ],
)
def test_constants_are_folded(kind, ports, bits):
    top = tidied(f"  wire width {len(bits)} output 2 \\y\n" + cell(kind, "\\y", **ports))
    assert top.cells == [] and value_of(top, "\\y") == (Constant(bits),)


@pytest.mark.unit
def test_dead_logic_goes_and_equal_logic_is_there_once():
    body = "  wire width 5 $1\n  wire width 5 $2\n  wire width 5 $3\n  wire width 10 output 2 \\y\n"
    for name in ("$1", "$2"):
        body += cell("$add", name, A="\\a [3:0]", B="\\b [3:0]")
    body += cell("$sub", "$3", A="\\a [3:0]", B="\\b [3:0]")
    top = tidied(body + "  connect \\y { $1 [4:0] $2 [4:0] }\n")
    (left,) = top.cells
    assert left.kind == "$add"
    (adds,) = left.outputs["Y"]
    assert value_of(top, "\\y") == (adds, adds)


@pytest.mark.unit
def test_bits_that_nothing_reads_go():
    body = "  wire width 5 $1\n  wire width 2 output 2 \\y\n" + cell("$add", "$1", A="\\a [3:0]", B="\\b [3:0]")
    (left,) = tidied(body + "  connect \\y $1 [1:0]\n").cells
    assert left.inputs == {"A": (Slice("\\a", 1, 0),), "B": (Slice("\\b", 1, 0),)}
    assert left.outputs["Y"][0].width == 2


@pytest.mark.unit
def test_a_case_that_never_happens_goes():
    """The second of two equal ones, which is no `else` of the first; one that others before it cover."""
    body = "  wire width 1 output 2 \\y\n  process $1\n    assign \\y [0] 1'0\n    switch \\a [1:0]\n"
    for pattern, value in (("2'1-", "\\b [0]"), ("2'11", "\\b [1]"), ("2'01, 2'10", "\\b [2]")):
        body += f"      case {pattern}\n        assign \\y [0] {value}\n"
    (process,) = tidied(body + "    end\n  end\n").processes
    (decision,) = [statement for statement in process.body if isinstance(statement, Switch)]
    assert [case.patterns for case in decision.cases] == [("1-",), ("01",)]
    assert [case.body[0].value for case in decision.cases] == [(Slice("\\b", 0, 0),), (Slice("\\b", 2, 2),)]


@pytest.mark.unit
def test_what_is_part_of_a_signal_becomes_that_part():
    """Amaranth drives unnamed wires and names them afterwards."""
    top = named_after("{ $1 [4:0] $2 [3:0] }")
    assert "\\both" in top.wires and not {"$1", "$2"} & set(top.wires)
    assert {cell.kind: cell.outputs["Y"] for cell in top.cells}["$add"] == (Slice("\\both", 8, 4),)


@pytest.mark.unit
def test_a_signal_of_which_a_part_is_dead_stays_apart():
    top = named_after("$1")
    assert "\\both" not in top.wires and [cell.kind for cell in top.cells] == ["$add", "$reduce_xor"]


@pytest.mark.unit
def test_aliases_are_set_apart():
    netlist = read(
        HEAD + "  wire width 4 \\same\n  wire width 4 output 2 \\y\n  connect \\same \\a\n  connect \\y \\b\nend\n"
    )
    split_aliases(netlist.top)
    assert netlist.top.aliases == [("\\same", (Slice("\\a", 3, 0),))]
    assert "\\same" not in netlist.top.wires and len(netlist.top.connections) == 1


@pytest.mark.unit
def test_values_are_put_into_values():
    values = {"x": (Constant("10"), Slice("y", 3, 2)), "y": (Slice("z", 7, 4),)}
    assert substitute((Slice("x", 2, 0), Slice("w", 0, 0)), values) == (
        Constant("0"),
        Slice("z", 7, 6),
        Slice("w", 0, 0),
    )
    assert take(substitute((Slice("x", 3, 0),), values), 1, 0) == (Slice("z", 7, 6),)


@pytest.mark.formal
def test_random_netlists_stay_what_they_are(tmp_path, fresh_seed):
    """Many constants, decisions and double operators; yosys compares with the text that was read."""
    for number in range(4):
        netlist = RandomNetlist(fresh_seed + number, 30, ("$mux", "process", "$and", "$add", "$eq", "$shr", "$sshr"))
        assert is_same(netlist.text, written(netlist.text), tmp_path), netlist.text


@pytest.mark.formal
def test_a_wrong_operator_is_seen(tmp_path):
    netlist = RandomNetlist(3, 16, ("$add",))
    text = written(netlist.text)
    assert is_same(netlist.text, text, tmp_path)
    assert not is_same(netlist.text, text.replace(" + ", " - "), tmp_path)
