// Decides clock by clock whether a stream pauses. A generator of 32 bits (xorshift) draws against a chance that itself
// changes every 64 clocks among rare, even and frequent, so that buffers run empty and full.
module pause (
  input  logic        clk,
  input  logic        start,
  input  logic [31:0] seed,
  input  logic        enable,
  output logic        hold
);
  logic [31:0] state, next;
  logic [5:0]  clocks;
  logic [7:0]  chance;

  always_comb begin
    next = state ^ (state << 13);
    next = next ^ (next >> 17);
    next = next ^ (next << 5);
  end

  always_ff @(posedge clk) begin
    if (start) begin
      state  <= seed | 32'd1;
      clocks <= 6'd0;
      chance <= 8'd128;
    end else begin
      state  <= next;
      clocks <= clocks + 6'd1;
      if (clocks == 6'd63)
        case (next[17:16])
          2'd0: chance <= 8'd16;
          2'd1, 2'd2: chance <= 8'd128;
          2'd3: chance <= 8'd230;
        endcase
    end
  end

  assign hold = enable && state[15:8] < chance;
endmodule
