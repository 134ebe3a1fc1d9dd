"""Faults in the emitted Verilog: each unit's bench must find them and name the unit."""

import pytest

from golden.parameters import preset
from hw.units.catalogue import UNITS
from rtl_gen import emission
from sim import bench, faults

TEXT = """\
module toy (
  input wire clk,
  input wire [7:0] i__payload,
  output reg [7:0] o__payload,
  output wire o__valid
);

  wire [8:0] sum;
  wire [7:0] mux_1;

  assign sum = $signed(i__payload) + $signed(mux_1);
  assign mux_1 = o__valid ? i__payload : 8'h00;
  assign o__valid = i__payload[0] & clk;
  always @(posedge clk) begin
    if (o__valid) begin
      o__payload <= sum[7:0];
    end
    if (rst) begin
      o__payload <= 8'h00;
    end
  end
endmodule
"""


@pytest.mark.unit
def test_one_fault_of_each_kind():
    text, found = faults.inject(TEXT, per_kind=1)
    assert [(fault.number, fault.kind, fault.line) for fault in found] == [
        (1, "inverted bit", 12),
        (2, "dropped carry", 11),
        (3, "stuck condition", 15),
    ]
    assert "wire [8:0] fault2_sound = $signed(i__payload) + $signed(mux_1);" in text
    assert "wire [8:0] fault2_faulty = $signed(i__payload) ^ $signed(mux_1);" in text
    assert "assign sum = faults::active == 32'd2 ? fault2_faulty : fault2_sound;" in text
    assert "if (faults::active == 32'd3 || o__valid) begin" in text
    assert "if (rst) begin" in text


@pytest.mark.unit
def test_the_same_text_has_the_same_faults():
    parameters = preset("tiny")
    text = emission.emit(bench.load("outlier_selector", bench.Request(parameters)).component).text
    assert faults.inject(text) == faults.inject(text)


@pytest.mark.unit
def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="^per_kind must be at least 1, not 0$"):
        faults.inject(TEXT, per_kind=0)
    with pytest.raises(ValueError, match="^Text must be emitted Verilog with an assignment in it, but has none$"):
        faults.inject("module empty;\nendmodule\n")


@pytest.mark.cocotb
@pytest.mark.parametrize("name", bench.BENCHES)
def test_the_bench_finds_faults_and_names_the_unit(name):
    made = bench.load(name, bench.Request(preset("tiny"), seed=1))
    findings = faults.run(made, per_kind=4)
    found = [finding for finding in findings if finding.mismatch]
    assert {finding.fault.kind for finding in found} >= {"inverted bit"}
    # What stays hidden must be the exception: a fault that no sound input shows.
    assert len(found) >= 0.75 * len(findings), [str(f.fault) for f in findings if not f.mismatch]
    for finding in found:
        assert finding.mismatch.unit == name and f"unit {name}, " in str(finding.mismatch)


@pytest.mark.unit
def test_every_unit_is_tried():
    assert set(UNITS) <= set(bench.BENCHES)
