"""The text of a module: registers that move together, decisions, memories, and what is not written."""

import re

import pytest
from amaranth.hdl import Assert, Const, Module
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from rtl_gen.verilog.emission import emit

pytestmark = pytest.mark.unit


class Part(wiring.Component):
    """A component whose logic a function adds."""

    def __init__(self, members, logic):
        self.logic = logic
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        self.logic(m, self)
        return m


def text_of(members, logic):
    """The module's own lines, without its ports."""
    text = emit(Part(members, logic), name="part").text
    return text[text.index(");") + 3 : text.index("endmodule")].strip()


def test_registers_that_move_together_stand_in_one_block():
    def logic(m, part):
        with m.If(part.go):
            m.d.sync += [part.one.eq(part.a), part.two.eq(part.one)]
        m.d.sync += part.three.eq(part.a)

    text = text_of({"go": In(1), "a": In(4), "one": Out(4), "two": Out(4, init=3), "three": Out(4)}, logic)
    assert text.count("always @(posedge clk)") == 2
    (block,) = [block for block in text.split("always") if "two <=" in block]
    assert "one <= a;" in block and "two <= one;" in block and "three" not in block
    assert re.search(r"if \(rst\) begin\s+one <= 4'h0;\s+two <= 4'h3;", block)


def test_an_operator_stands_where_its_one_reader_is():
    def logic(m, part):
        m.d.comb += part.y.eq((part.a + part.b) == 3)

    assert text_of({"a": In(4), "b": In(4), "y": Out(1)}, logic) == "assign y = (a + b) == 5'h3;"


def test_decisions_are_cases_and_conditions():
    def logic(m, part):
        with m.Switch(part.a):
            with m.Case("1--0"):
                m.d.comb += part.y.eq(1)
            with m.Case(3, 5):
                m.d.comb += part.y.eq(2)
            with m.Default():
                m.d.comb += part.y.eq(part.a[:2])

    text = text_of({"a": In(4), "y": Out(2)}, logic)
    assert "casez (a)" in text and "4'b1??0:" in text and "4'h3, 4'h5:" in text and "default:" in text


def test_a_memory_keeps_its_contents_and_its_style():
    def logic(m, part):
        m.submodules.rows = rows = memory.Memory(shape=8, depth=4, init=[1, 2, 3], attrs={"ram_style": "block"})
        read, write = rows.read_port(), rows.write_port()
        m.d.comb += [read.addr.eq(part.at), read.en.eq(1), part.y.eq(read.data)]
        m.d.comb += [write.addr.eq(part.at), write.data.eq(part.a), write.en.eq(part.go)]

    text = text_of({"go": In(1), "at": In(2), "a": In(8), "y": Out(8)}, logic)
    assert '(* ram_style = "block" *)' in text and re.search(r"reg \[7:0\] \w+ \[0:3\];", text)
    # Every row gets what the first has, then those that differ get their own.
    assert "= 8'h1;" in text and re.findall(r"\[(\d)\] = 8'h(\w+);", text) == [("1", "2"), ("2", "3"), ("3", "0")]


def test_what_is_not_written_is_refused():
    def logic(m, part):
        m.d.comb += Assert(part.a == 0)

    with pytest.raises(ValueError, match=r"^component must be free of assertions, .*, not hold \$check$"):
        emit(Part({"a": In(1), "y": Out(1)}, logic), name="part")


def test_long_lines_are_wrapped():
    def logic(m, part):
        total = Const(0, 1)
        for number in range(40):
            total = total ^ (part.a[number % 8] & part.b[(3 * number) % 8])
        m.d.comb += part.y.eq(total)

    assert max(map(len, text_of({"a": In(8), "b": In(8), "y": Out(1)}, logic).splitlines())) <= 110
