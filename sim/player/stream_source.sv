// Plays vectors from a binary file into a stream: each ceil(WIDTH / 8) bytes, most significant byte first.
// While `valid` is low the payload is junk, so that a unit which looks at it is found out. With `noise` it offers junk
// while it is started, that is during the unit's reset.
module stream_source #(
  parameter int WIDTH = 8,
  parameter     FILE  = "i.bin",
  parameter int SALT  = 1
) (
  input  logic             clk,
  input  logic             start,
  input  logic [31:0]      seed,
  input  logic             pauses,
  input  logic             noise,
  input  logic [31:0]      first,
  input  logic [31:0]      count,
  input  logic [31:0]      cycle,
  output logic             valid,
  output logic [WIDTH-1:0] payload,
  input  logic             ready,
  output logic             active,
  output logic             finished,
  output logic [31:0]      taken,
  output logic [31:0]      first_cycle,
  output logic [31:0]      last_cycle
);
  localparam int BYTES = (WIDTH + 7) / 8;

  integer             file;
  logic [8*BYTES-1:0] vector;
  logic [31:0]        left;
  logic               hold;

  pause pause (.clk, .start, .seed(seed ^ (32'h9E3779B9 * SALT)), .enable(pauses), .hold);

  initial begin
    file = $fopen(FILE, "rb");
    valid = 1'b0;
    left = 32'd0;
  end

  assign active   = valid && ready;
  assign finished = left == 32'd0 && !valid;

  always @(posedge clk) begin
    if (start) begin
      valid   <= noise;
      payload <= ~payload;
      left    <= count;
      taken   <= 32'd0;
      if (file != 0) void'($fseek(file, first * BYTES, 0));
    end else begin
      if (active) begin
        taken      <= taken + 32'd1;
        last_cycle <= cycle;
        if (taken == 32'd0) first_cycle <= cycle;
      end
      if (active || !valid) begin
        if (left != 32'd0 && !hold) begin
          void'($fread(vector, file));
          payload <= vector[WIDTH-1:0];
          valid   <= 1'b1;
          left    <= left - 32'd1;
        end else begin
          payload <= ~payload;
          valid   <= 1'b0;
        end
      end
    end
  end
endmodule
