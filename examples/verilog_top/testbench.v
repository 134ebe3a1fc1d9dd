// Plays vectors.hex into dot_product, both sides pausing now and then, and prints each sum.

`timescale 1ns / 1ns
`include "delta_quantizer.vh"
`include "multiplier_group.vh"

module testbench;
  localparam WIDTH =
    2 + `MULTIPLIER_GROUP_I_SCALE_WIDTH + `MULTIPLIER_GROUP_I_WEIGHTS_WIDTH + `DELTA_QUANTIZER_I_VALUES_WIDTH;

  reg clk = 0, rst = 1;
  always #5 clk = !clk;

  // The first word says how many vectors follow.
  reg [WIDTH-1:0] vectors[0:1023];
  integer sent = 0, found = 0, expected = 0, number;
  reg offered = 0, taking = 0;
  wire first, last, i_ready, o_valid, o_poisoned;
  wire [`MULTIPLIER_GROUP_I_SCALE_WIDTH-1:0] scale;
  wire [`MULTIPLIER_GROUP_I_WEIGHTS_WIDTH-1:0] weights;
  wire [`DELTA_QUANTIZER_I_VALUES_WIDTH-1:0] values;
  wire signed [`MULTIPLIER_GROUP_O_SUM_WIDTH-1:0] sum;
  assign {first, last, scale, weights, values} = vectors[sent + 1];

  dot_product dut (
    .clk(clk),
    .rst(rst),
    .i_values(values),
    .i_weights(weights),
    .i_scale(scale),
    .i_first(first),
    .i_last(last),
    .i_valid(offered),
    .i_ready(i_ready),
    .o_sum(sum),
    .o_poisoned(o_poisoned),
    .o_valid(o_valid),
    .o_ready(taking)
  );

  initial begin
    $readmemh("vectors.hex", vectors);
    for (number = 1; number <= vectors[0]; number = number + 1) expected = expected + vectors[number][WIDTH-2];
    repeat (4) @(posedge clk);
    rst = 0;
    repeat (100000) @(posedge clk);
    $display("gave up after %0d of %0d sums", found, expected);
    $finish;
  end

  always @(posedge clk) if (!rst) begin
    // What is offered stays until it is taken.
    if (!offered || i_ready) offered <= sent + (offered && i_ready) < vectors[0] && $random % 4 != 0;
    if (offered && i_ready) sent <= sent + 1;
    taking <= $random % 4 != 0;
    if (o_valid && taking) begin
      $display("sum %0d %0d", sum, o_poisoned);
      found <= found + 1;
      if (found + 1 == expected) $finish;
    end
  end
endmodule
