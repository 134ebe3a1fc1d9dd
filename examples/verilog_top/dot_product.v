// Dot products of FP16 changes with weights: a quantiser, a processing element, and between them, side by side with
// the groups, a queue for what belongs to a vector but does not pass the quantiser (weights, scale, first, last).
//
//   i ---> delta_quantizer ---------------------> multiplier_group ---> o
//    `---> queue of weights, scale, first, last ----^
//
// A vector is taken when both sides have room. A group goes on together with the oldest entry of the queue. With one
// pass and one group a vector (exponent_policy = group) both come in the same order, one each.
//
// Preset tiny: n = 4 lanes, k = 3 bits a digit, m = 1 outlier.

`include "delta_quantizer.vh"
`include "multiplier_group.vh"

module dot_product (
  input clk,
  input rst,
  input [`DELTA_QUANTIZER_I_VALUES_WIDTH-1:0] i_values,
  input [`MULTIPLIER_GROUP_I_WEIGHTS_WIDTH-1:0] i_weights,
  input [`MULTIPLIER_GROUP_I_SCALE_WIDTH-1:0] i_scale,
  input i_first,
  input i_last,
  input i_valid,
  output i_ready,
  output [`MULTIPLIER_GROUP_O_SUM_WIDTH-1:0] o_sum,
  output o_poisoned,
  output o_valid,
  input o_ready
);
  // The entries: as many as vectors can be on their way in the quantiser, so that it never waits for the queue.
  localparam WIDTH = `MULTIPLIER_GROUP_I_WEIGHTS_WIDTH + `MULTIPLIER_GROUP_I_SCALE_WIDTH + 2;
  localparam DEPTH_LOG2 = 5;

  reg [WIDTH-1:0] entries[0:(1 << DEPTH_LOG2) - 1];
  reg [DEPTH_LOG2:0] written, read;
  wire full = written - read == 1 << DEPTH_LOG2;
  wire empty = written == read;

  wire quantizer_ready, group_valid, group_ready;
  assign i_ready = quantizer_ready && !full;
  wire taken = i_valid && i_ready;

  // `valid` may not wait for `ready`, but may come later: the group waits for its entry, never the other way round.
  wire multiplier_valid = group_valid && !empty;
  wire multiplier_ready;
  assign group_ready = multiplier_ready && !empty;
  wire passed = multiplier_valid && multiplier_ready;

  always @(posedge clk) begin
    if (taken) entries[written[DEPTH_LOG2-1:0]] <= {i_first, i_last, i_scale, i_weights};
    if (rst) begin
      written <= 0;
      read <= 0;
    end else begin
      written <= written + taken;
      read <= read + passed;
    end
  end

  wire first, last;
  wire [`MULTIPLIER_GROUP_I_SCALE_WIDTH-1:0] scale;
  wire [`MULTIPLIER_GROUP_I_WEIGHTS_WIDTH-1:0] weights;
  assign {first, last, scale, weights} = entries[read[DEPTH_LOG2-1:0]];

  wire [`DELTA_QUANTIZER_O_GROUP_EXPONENT_WIDTH-1:0] exponent;
  wire [`DELTA_QUANTIZER_O_GROUP_DIGITS_WIDTH-1:0] digits;
  wire [`DELTA_QUANTIZER_O_GROUP_OUTLIERS_WIDTH-1:0] outliers;

  delta_quantizer quantizer (
    .clk(clk),
    .rst(rst),
    .i_by_group(1'b1),
    .i_first_pass(1'b1),
    .i_exponent(6'd0),
    .i_floor(6'd0),
    .i_values(i_values),
    .i_valid(i_valid && !full),
    .i_ready(quantizer_ready),
    .o_group_exponent(exponent),
    .o_group_digits(digits),
    .o_group_outliers(outliers),
    .o_last(),
    .o_next_exponent(),
    .o_overflow(),
    .o_residual(),
    .o_valid(group_valid),
    .o_ready(group_ready),
    .clear(1'b0),
    .saturated(),
    .poisoned()
  );

  multiplier_group multiplier (
    .clk(clk),
    .rst(rst),
    .i_first(first),
    .i_last(last),
    .i_scale(scale),
    .i_group_exponent(exponent),
    .i_group_digits(digits),
    .i_group_outliers(outliers),
    .i_weights(weights),
    .i_valid(multiplier_valid),
    .i_ready(multiplier_ready),
    .o_sum(o_sum),
    .o_poisoned(o_poisoned),
    .o_valid(o_valid),
    .o_ready(o_ready),
    .clear(1'b0),
    .overflow(),
    .poisoned()
  );
endmodule
