"""Expressions: what they look like, and that Verilog takes them as the operators they stand for."""

import pytest

from rtl_gen.verilog.expressions import constant, equals, inverse, leaf, operator, value
from rtl_gen.verilog.rtlil import Cell, Constant, Slice
from tests.rtl_gen.verilog.netlists import KINDS, RandomNetlist, is_same, written

WIDTHS = {"\\a": 4, "\\b": 4, "\\c": 6, "\\s": 1}


def wire(name, high=None, low=0):
    total = WIDTHS[name]
    high = total - 1 if high is None else high
    return (Slice(name, high, low),)


def operand(bits):
    """A value as an operand: nothing of it is inlined."""
    return value(
        [
            leaf(piece, piece.wire[1:] if isinstance(piece, Slice) else "", WIDTHS.get(getattr(piece, "wire", ""), 0))
            for piece in bits
        ]
    )


def cell(kind, bits, *, signed=False, **inputs):
    result = (Slice("$y", bits - 1, 0),)
    return Cell(kind, "$1", {"A_SIGNED": str(int(signed))}, inputs, {"Y": result})


def text(kind, bits, **settings):
    found = operator(cell(kind, bits, **settings), operand)
    return None if found is None else found.text


@pytest.mark.unit
@pytest.mark.parametrize(
    ("kind", "bits", "settings", "expected"),
    [
        ("$add", 5, {"A": wire("\\a"), "B": wire("\\b")}, "a + b"),
        ("$add", 5, {"A": wire("\\a"), "B": wire("\\b"), "signed": True}, "$signed(a) + $signed(b)"),
        ("$sub", 7, {"A": wire("\\c"), "B": (Constant("000011"),), "signed": True}, "$signed(c) - 6'sd3"),
        ("$lt", 1, {"A": wire("\\a"), "B": (Constant("1101"),), "signed": True}, "$signed(a) < -4'sd3"),
        ("$eq", 1, {"A": wire("\\a"), "B": (Constant("0101"),)}, "a == 4'h5"),
        ("$not", 4, {"A": wire("\\a")}, "~a"),
        ("$mux", 4, {"S": wire("\\s"), "A": wire("\\a"), "B": wire("\\b")}, "s ? b : a"),
        ("$reduce_or", 1, {"A": wire("\\c", 3, 1)}, "|c[3:1]"),
        ("$shr", 4, {"A": wire("\\a"), "B": wire("\\b")}, "a >> b"),
        ("$sshr", 4, {"A": wire("\\a"), "B": wire("\\b"), "signed": True}, "$signed(a) >>> b"),
        # Bits side by side; a repeated one is written once.
        ("$and", 4, {"A": wire("\\a"), "B": wire("\\s") * 4}, "a & {4{s}}"),
    ],
)
def test_texts(kind, bits, settings, expected):
    assert text(kind, bits, **settings) == expected


@pytest.mark.unit
def test_a_chain_of_bits_becomes_a_reduction():
    chain = operand(wire("\\c", 0, 0))
    for bit in range(1, 6):
        found = {"A": chain, "B": operand(wire("\\c", bit, bit))}
        chain = operator(
            cell("$or", 1, A=(Constant("0"),), B=(Constant("1"),)),
            lambda bits, found=found: found["A" if bits[0].bits == "0" else "B"],
        )
    assert chain.text == "|c"
    assert inverse(chain).text == "~|c"


@pytest.mark.unit
def test_constants():
    assert [constant(bits) for bits in ("1", "0101", "1x-0")] == ["1'b1", "4'h5", "4'b1xx0"]
    assert equals(operand(wire("\\c")), "000101").text == "c == 6'h5"


@pytest.mark.unit
def test_what_would_change_in_a_wider_place_does_not_stand_there():
    total = operator(cell("$add", 4, A=wire("\\a"), B=wire("\\b")), operand)
    assert total.stands_alone and not total.holds_in(5, 5)
    wide = operator(cell("$add", 5, A=wire("\\a"), B=wire("\\b")), operand)
    assert not wide.stands_alone and wide.holds_in(8, 8)


@pytest.mark.unit
def test_other_operators_are_refused():
    with pytest.raises(
        ValueError, match=r"^component must be made of what Verilog has operators for, not \$pow cells$"
    ):
        operator(cell("$pow", 4, A=wire("\\a"), B=wire("\\b")), operand)


@pytest.mark.formal
@pytest.mark.parametrize("kind", KINDS)
def test_every_operator_means_what_its_cell_does(kind, tmp_path, fresh_seed):
    """Yosys reads the Verilog: whatever widths, signs and constants, put into each other and into others."""
    netlist = RandomNetlist(fresh_seed, 16, (kind, kind, *KINDS))
    assert is_same(netlist.text, written(netlist.text), tmp_path), netlist.text
