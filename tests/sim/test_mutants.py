"""Mutants of the emitted Verilog: each unit's bench must tell them from the unit and name the unit."""

import pytest

from golden.parameters import preset
from hw.units import UNITS
from rtl_gen import tools
from rtl_gen.verilog import emission
from sim import bench, mutants

TOY = """\
module toy (
  input wire clk,
  input wire [7:0] a,
  input wire [7:0] b,
  output reg [7:0] sum,
  output wire same
);
  wire [7:0] twice = a & (a | b);
  assign same = twice == a;
  always @(posedge clk) sum <= a + b;
endmodule
"""


@pytest.mark.formal
def test_mutants_are_numbered_and_chosen_by_an_input():
    drawn = mutants.mutate(TOY, "toy", 5, seed=3)
    found = drawn.mutants["toy"]
    assert [mutant.number for mutant in found] == [1, 2, 3, 4, 5]
    assert "input [31:0] mutant" in drawn.text and "-ctrl" not in found[0].command
    assert " at port " in str(found[0]) and "of the cell at unit.v:" in str(found[0])
    assert mutants.mutate(TOY, "toy", 5, seed=3) == drawn
    assert mutants.mutate(TOY, "toy", 5, seed=4) != drawn


@pytest.mark.formal
def test_only_what_no_input_shows_is_equivalent():
    drawn = mutants.mutate(TOY, "toy", 60)
    found = drawn.mutants["toy"]
    # `a & (a | b)` is a whatever becomes of b there, and `same` is 1; nothing in line 10, the sum, is without effect.
    equivalent = [mutant for mutant in found if mutants.is_equivalent(drawn.netlist, mutant)]
    assert equivalent and len(equivalent) < len(found) / 2
    assert not any("unit.v:10." in mutant.command for mutant in equivalent)
    assert any("unit.v:10." in mutant.command for mutant in found)


WHOLE = """\
module whole (
  input wire clk,
  input wire [1:0] a,
  input wire [1:0] b,
  output wire [1:0] sum
);
  wire [1:0] twice = a & (a | b);
  adder below (.clk(clk), .a(twice), .b(b), .unread(a[0]), .sum(sum));
endmodule
module adder (
  input wire clk,
  input wire [1:0] a,
  input wire [1:0] b,
  input wire unread,
  output reg [1:0] sum
);
  always @(posedge clk) if (b[0]) sum <= a + b;
endmodule
"""


def is_equivalent(drawn, *words):
    """Whether one of the first six mutants with these words in their commands is."""
    (found,) = drawn.mutants.values()
    found = [mutant for mutant in found if all(word in mutant.command for word in words)]
    assert found
    return any(mutants.is_equivalent(drawn.netlist, mutant) for mutant in found[:6])


@pytest.mark.formal
def test_a_module_is_proven_without_those_below_and_with_them():
    drawn = mutants.draw(WHOLE, "whole", {"whole": ["whole"]}, 60, flatten=False)
    assert is_equivalent(drawn, "-cell unit.v:7.", "-port B ")  # what the adder is given is the same
    assert is_equivalent(drawn, "-port unread ")  # it is not, but never read
    assert not is_equivalent(drawn, "-port b ", "-portbit 0")
    assert not is_equivalent(drawn, "-port clk ")


@pytest.mark.formal
def test_a_register_that_is_never_loaded_is_not_what_is():
    drawn = mutants.draw(WHOLE, "whole", {"adder": ["adder"]}, 60, flatten=False)
    assert not is_equivalent(drawn, "-mode const0 ", "-port EN ")


@pytest.mark.unit
def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="^count of mutants must be at least 1, not 0$"):
        mutants.mutate(TOY, "toy", 0)
    with pytest.raises(ValueError, match="^Verilog of empty must have a cell to mutate, but has none$"):
        mutants.mutate("module empty;\nendmodule\n", "empty", 3)
    with pytest.raises(tools.ToolError):
        mutants.mutate("module", "toy", 3)


@pytest.mark.cocotb
@pytest.mark.parametrize("name", bench.BENCHES)
def test_the_bench_catches_mutants_and_names_the_unit(name):
    report = mutants.run(name, preset("tiny"), count=40, seed=1, full=False)
    assert report.unit == name and len(report.findings) == 40
    # Without proofs, those that are the unit itself count as survivors, and so do those that full vectors catch.
    assert report.caught >= 34, [str(mutant) for mutant in report.survived]
    for finding in report.findings:
        assert finding.mismatch is None or f"unit {name}, " in str(finding.mismatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", bench.BENCHES)
def test_no_mutant_survives_full_vectors_and_the_proof(name):
    report = mutants.run(name, preset("tiny"), count=150, seed=0)
    assert report.score >= 0.995, [str(mutant) for mutant in report.survived]


@pytest.mark.unit
def test_every_unit_is_tried():
    assert set(UNITS) <= set(bench.BENCHES)


@pytest.mark.unit
def test_emitted_text_has_no_port_of_that_name():
    for name in ("outlier_selector", "delta_decompressor"):
        unit = emission.emit(bench.load(name, bench.Request(preset("tiny"))).component, name=name)
        assert "mutant" not in {port.name for port in unit.ports}
