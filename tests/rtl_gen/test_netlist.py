import pytest
from amaranth.back import rtlil

from golden.parameters import preset
from rtl_gen.netlist import Netlist, plain_name
from tests.rtl_gen.everything import Everything

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "name, plain",
    [
        ("\\o__valid", "o__valid"),
        ("\\a.b[3].c", "a__b_3__c"),
        ("\\a$12", "a"),
        ("\\U$0", "U"),
        ("\\_signature__data", "signature__data"),
        ("\\3rd", "_3rd"),
        ("\\table", "table_"),
        ("\\logic", "logic_"),
        ("\\x-y", "x_y"),
    ],
)
def test_plain_name(name, plain):
    assert plain_name(name) == plain


@pytest.fixture(scope="module")
def text():
    return rtlil.convert(Everything(preset("tiny")), name="everything", emit_src=False)


def test_reading_loses_nothing(text):
    netlist = Netlist(text)
    again = Netlist(str(netlist))
    assert str(again) == str(netlist)
    assert list(netlist.modules) == list(again.modules)
    cells = sum(len(module.cells) for module in netlist.modules.values())
    assert cells == text.count("  cell ")
    assert sum(len(module.processes) for module in netlist.modules.values()) == text.count("  process ")
    assert sum(len(module.wires) for module in netlist.modules.values()) == text.count("  wire ")


def test_tidying_leaves_plain_names_only(text):
    netlist = Netlist(text)
    netlist.tidy()
    for module in netlist.modules.values():
        names = [*module.wires, *module.memories, *(cell.name for cell in module.cells if cell.is_instance)]
        assert all(name[1:].isidentifier() for name in (module.name, *names))


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
        Netlist(line)
