// Takes payloads from a stream and compares them with those of a binary file (as in stream_source). Keeps the first one
// that differs, and watches the stream: a payload once offered must stay until it is taken. A `late` sink is ready only
// after it has seen a payload offered, for one clock.
module stream_sink #(
  parameter int WIDTH = 8,
  parameter     FILE  = "o.bin",
  parameter int SALT  = 1
) (
  input  logic             clk,
  input  logic             start,
  input  logic [31:0]      seed,
  input  logic             pauses,
  input  logic             late,
  input  logic [31:0]      first,
  input  logic [31:0]      count,
  input  logic [31:0]      cycle,
  input  logic             valid,
  input  logic [WIDTH-1:0] payload,
  output logic             ready,
  output logic             active,
  output logic             finished,
  output logic [31:0]      taken,
  output logic [31:0]      first_cycle,
  output logic [31:0]      last_cycle,
  output logic [31:0]      wrong,
  output logic [31:0]      wrong_index,
  output logic [31:0]      wrong_cycle,
  output logic [WIDTH-1:0] wrong_got,
  output logic [WIDTH-1:0] wrong_expected,
  output logic             extra,
  output logic             unstable
);
  localparam int BYTES = (WIDTH + 7) / 8;

  integer             file;
  logic [8*BYTES-1:0] vector;
  logic               hold, waiting;
  logic [WIDTH-1:0]   waiting_payload;

  pause pause (.clk, .start, .seed(seed ^ (32'h85EBCA6B * SALT)), .enable(pauses), .hold);

  initial begin
    file = $fopen(FILE, "rb");
    ready = 1'b0;
  end

  assign active   = valid && ready;
  assign finished = taken == count;

  always @(posedge clk) begin
    ready <= !hold && !start && (!late || valid && !ready);
    if (start) begin
      taken    <= 32'd0;
      wrong    <= 32'd0;
      extra    <= 1'b0;
      unstable <= 1'b0;
      waiting  <= 1'b0;
      if (file != 0) void'($fseek(file, first * BYTES, 0));
    end else begin
      waiting         <= valid && !ready;
      waiting_payload <= payload;
      if (waiting && (!valid || payload != waiting_payload)) unstable <= 1'b1;
      if (valid && finished) extra <= 1'b1;
      if (active && !finished) begin
        void'($fread(vector, file));
        taken      <= taken + 32'd1;
        last_cycle <= cycle;
        if (taken == 32'd0) first_cycle <= cycle;
        if (payload != vector[WIDTH-1:0]) begin
          wrong <= wrong + 32'd1;
          if (wrong == 32'd0) begin
            wrong_index    <= taken;
            wrong_cycle    <= cycle;
            wrong_got      <= payload;
            wrong_expected <= vector[WIDTH-1:0];
          end
        end
      end
    end
  end
endmodule
