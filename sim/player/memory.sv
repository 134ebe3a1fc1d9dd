// Stands for the memory behind a near-memory engine: answers reads in order, takes writes, both with pauses.
//
// Records of the files are {data, address} with the address in the low 32 bits. A read returns what was there before the
// clock that accepts it. `settled` makes it compare its content with what is expected; an address that was not preloaded
// must not be touched.
module memory #(
  parameter int WIDTH = 8
) (
  input  logic             clk,
  input  logic             start,
  input  logic             settled,
  input  logic [31:0]      seed,
  input  logic             idle,
  input  logic             stall,
  input  logic             late,
  input  logic             noise,
  input  logic [31:0]      cycle,
  input  logic [31:0]      first,
  input  logic [31:0]      count,

  input  logic             request_valid,
  input  logic [31:0]      request_address,
  output logic             request_ready,
  output logic             response_valid,
  output logic [WIDTH-1:0] response_data,
  input  logic             response_ready,
  input  logic             write_valid,
  input  logic [31:0]      write_address,
  input  logic [WIDTH-1:0] write_data,
  output logic             write_ready,

  output logic             active,
  output logic             finished,
  output logic [31:0]      taken,
  output logic [31:0]      first_cycle,
  output logic [31:0]      last_cycle,
  output logic [31:0]      wrong,
  output logic [31:0]      wrong_address,
  output logic [WIDTH-1:0] wrong_got,
  output logic [WIDTH-1:0] wrong_expected,
  output logic             stray,
  output logic             unstable
);
  localparam int BYTES = (WIDTH + 39) / 8;
  localparam int LATENCY = 4;

  integer             before_file, after_file;
  logic [8*BYTES-1:0] record;
  logic [WIDTH-1:0]   words [int unsigned];
  logic [WIDTH-1:0]   data_queue [$];
  logic [31:0]        time_queue [$];
  logic               hold_request, hold_response, hold_write;
  logic [31:0]        draw;
  logic               write_waiting, request_waiting;
  logic [31:0]        write_waiting_address, request_waiting_address;
  logic [WIDTH-1:0]   write_waiting_data;

  pause request_pause (.clk, .start, .seed(seed ^ 32'hC2B2AE35), .enable(stall), .hold(hold_request));
  pause response_pause (.clk, .start, .seed(seed ^ 32'h27D4EB2F), .enable(idle), .hold(hold_response));
  pause write_pause (.clk, .start, .seed(seed ^ 32'h165667B1), .enable(stall), .hold(hold_write));

  initial begin
    before_file = $fopen("memory_before.bin", "rb");
    after_file = $fopen("memory_after.bin", "rb");
    response_valid = 1'b0;
    request_ready = 1'b0;
    write_ready = 1'b0;
  end

  assign active   = request_valid && request_ready || response_valid && response_ready || write_valid && write_ready;
  assign finished = !response_valid && !request_valid && !write_valid;

  always @(posedge clk) begin
    request_ready <= !start && !hold_request && (!late || request_valid && !request_ready);
    write_ready   <= !start && !hold_write && (!late || write_valid && !write_ready);
    draw          <= {draw[30:0], draw[31] ^ draw[21] ^ draw[1] ^ draw[0]};
    if (start) begin
      words.delete();
      data_queue.delete();
      time_queue.delete();
      void'($fseek(before_file, first * BYTES, 0));
      for (int i = 0; i < count; i++) begin
        void'($fread(record, before_file));
        words[record[31:0]] = record[32+:WIDTH];
      end
      response_valid  <= noise;
      response_data   <= ~response_data;
      taken           <= 32'd0;
      wrong            = 32'd0;
      stray           <= 1'b0;
      unstable        <= 1'b0;
      write_waiting   <= 1'b0;
      request_waiting <= 1'b0;
      draw            <= seed | 32'd1;
    end else begin
      write_waiting           <= write_valid && !write_ready;
      write_waiting_address   <= write_address;
      write_waiting_data      <= write_data;
      request_waiting         <= request_valid && !request_ready;
      request_waiting_address <= request_address;
      if (write_waiting && (!write_valid || {write_waiting_address, write_waiting_data} != {write_address, write_data}))
        unstable <= 1'b1;
      if (request_waiting && (!request_valid || request_waiting_address != request_address)) unstable <= 1'b1;

      // Reads come before writes within a clock, so a unit that relies on more is found out.
      if (request_valid && request_ready) begin
        if (words.exists(request_address) == 0) stray <= 1'b1;
        data_queue.push_back(words[request_address]);
        time_queue.push_back(cycle + LATENCY + (idle ? {27'd0, draw[4:0]} : 32'd0));
      end
      if (write_valid && write_ready) begin
        if (words.exists(write_address) == 0) stray <= 1'b1;
        words[write_address] = write_data;
        taken      <= taken + 32'd1;
        last_cycle <= cycle;
        if (taken == 32'd0) first_cycle <= cycle;
      end
      if (!response_valid || response_ready) begin
        if (data_queue.size() != 0 && time_queue[0] <= cycle && !hold_response) begin
          response_data  <= data_queue.pop_front();
          void'(time_queue.pop_front());
          response_valid <= 1'b1;
        end else begin
          response_data  <= ~response_data;
          response_valid <= 1'b0;
        end
      end
    end
    if (settled) begin
      void'($fseek(after_file, first * BYTES, 0));
      for (int i = 0; i < count; i++) begin
        void'($fread(record, after_file));
        if (words[record[31:0]] != record[32+:WIDTH]) begin
          if (wrong == 32'd0) begin
            wrong_address  = record[31:0];
            wrong_got      = words[record[31:0]];
            wrong_expected = record[32+:WIDTH];
          end
          wrong = wrong + 32'd1;
        end
      end
    end
  end
endmodule
