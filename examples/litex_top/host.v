// A host on the AXI4-Lite port of soc.v: writes what writes.hex says, reads the status until the program has ended, and
// leaves the RAM in ram.hex.
`timescale 1ns / 1ps

module host;
  reg clk = 0, rst = 1;
  reg [31:0] awaddr = 0, wdata = 0, araddr = 0;
  reg awvalid = 0, wvalid = 0, arvalid = 0;
  wire awready, wready, bvalid, arready, rvalid;
  wire [31:0] rdata;

  soc soc (
    .clk(clk), .rst(rst), .sim_trace(1'b0),
    .host_awaddr(awaddr), .host_awprot(3'd0), .host_awvalid(awvalid), .host_awready(awready),
    .host_wdata(wdata), .host_wstrb(4'hf), .host_wvalid(wvalid), .host_wready(wready),
    .host_bvalid(bvalid), .host_bready(1'b1), .host_bresp(),
    .host_araddr(araddr), .host_arprot(3'd0), .host_arvalid(arvalid), .host_arready(arready),
    .host_rdata(rdata), .host_rvalid(rvalid), .host_rready(1'b1), .host_rresp()
  );

  always #10 clk = !clk;

  integer clocks = 0;
  always @(posedge clk) clocks <= clocks + 1;

  // Answers, which may come in the clock that takes the request.
  reg written = 0, arrived = 0;
  reg [31:0] word = 0;
  always @(posedge clk) begin
    if (bvalid) written <= 1;
    if (rvalid) begin arrived <= 1; word <= rdata; end
  end

  task write(input [31:0] address, input [31:0] value);
    begin
      awaddr <= address; wdata <= value; awvalid <= 1; wvalid <= 1; written <= 0;
      #1;
      while (awvalid || wvalid) begin
        @(posedge clk);
        if (awready) awvalid <= 0;
        if (wready) wvalid <= 0;
        #1;
      end
      while (!written) begin @(posedge clk); #1; end
    end
  endtask

  task read(input [31:0] address, output [31:0] value);
    begin
      araddr <= address; arvalid <= 1; arrived <= 0;
      #1;
      while (arvalid) begin
        @(posedge clk);
        if (arready) arvalid <= 0;
        #1;
      end
      while (!arrived) begin @(posedge clk); #1; end
      value = word;
    end
  endtask

  reg [63:0] writes [0:63];
  reg [31:0] status, found;
  integer i;

  initial begin
    for (i = 0; i < 64; i = i + 1) writes[i] = 0;
    $readmemh("writes.hex", writes);
    if (!$value$plusargs("status=%h", status)) $finish;
    repeat (4) @(posedge clk);
    #1 rst = 0;
    for (i = 0; i < 64; i = i + 1)
      if (writes[i] != 0) write(writes[i][63:32], writes[i][31:0]);
    found = 1;
    while (found[0]) begin
      if (clocks > 2000000) found = 0;
      else read(status, found);
    end
    $display("status %0h after %0d clocks", found, clocks);
    $writememh("ram.hex", soc.main_ram);
    $finish;
  end
endmodule
