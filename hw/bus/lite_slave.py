"""Registers on AXI4-Lite: a slave that turns each access into one on a simple port."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.bus.axi import AXI4Lite, Response


class RegisterPort(wiring.Signature):
    """Accesses to registers of 32 bits, one after the other.

    Parameters
    ----------
    address_width : int
        Bits of a register's number.

    Members
    -------
    valid : Out(1)
        An access is wanted; what it is stays as it is until `ready`.
    write : Out(1)
        Whether it writes.
    address : Out
        Which register.
    data : Out(32), strobe : Out(4)
        What it writes, and which bytes of it count.
    ready : In(1)
        The access is done in this clock.
    read_data : In(32)
        What it reads, in that clock.
    error : In(1)
        Whether it is refused, in that clock.
    """

    def __init__(self, address_width: int):
        super().__init__(
            {
                "valid": Out(1),
                "write": Out(1),
                "address": Out(address_width),
                "data": Out(32),
                "strobe": Out(4),
                "ready": In(1),
                "read_data": In(32),
                "error": In(1),
            }
        )


class LiteSlave(wiring.Component):
    """A slave of AXI4-Lite in front of registers. Reads and writes take turns where both are wanted.

    Latency: 1 clock from address (and data) to the access, 1 from its end to the response.
    Throughput: an access in 3 clocks.

    Parameters
    ----------
    address_width : int
        Bits of an address in bytes, at least 3.

    Members
    -------
    bus : In(AXI4Lite)
        The bus. An access that the registers refuse ends with SLVERR.
    registers : Out(RegisterPort)
        The registers.

    Raises
    ------
    TypeError
        If `address_width` is no integer.
    ValueError
        If it is out of its range.
    """

    def __init__(self, address_width: int):
        super().__init__({"bus": In(AXI4Lite(address_width)), "registers": Out(RegisterPort(address_width - 2))})

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        bus, registers = self.bus, self.registers
        response = Signal(Response)
        m.d.comb += [bus.bresp.eq(response), bus.rresp.eq(response)]
        with m.FSM(name="state"):
            with m.State("IDLE"):
                writes = Signal()
                reads = Signal()
                # `registers.write` still says what the last access was.
                m.d.comb += [
                    writes.eq(bus.awvalid & bus.wvalid & ~(bus.arvalid & registers.write)),
                    reads.eq(bus.arvalid & ~writes),
                    bus.awready.eq(writes),
                    bus.wready.eq(writes),
                    bus.arready.eq(reads),
                ]
                with m.If(writes | reads):
                    m.d.sync += [
                        registers.valid.eq(1),
                        registers.write.eq(writes),
                        registers.address.eq(Mux(writes, bus.awaddr, bus.araddr)[2:]),
                        registers.data.eq(bus.wdata),
                        registers.strobe.eq(bus.wstrb),
                    ]
                    m.next = "ACCESS"
            with m.State("ACCESS"), m.If(registers.ready):
                m.d.sync += [
                    registers.valid.eq(0),
                    response.eq(Mux(registers.error, Response.SLVERR, Response.OKAY)),
                    bus.rdata.eq(registers.read_data),
                    bus.bvalid.eq(registers.write),
                    bus.rvalid.eq(~registers.write),
                ]
                m.next = "RESPONSE"
            with m.State("RESPONSE"), m.If(Mux(registers.write, bus.bready, bus.rready)):
                m.d.sync += [bus.bvalid.eq(0), bus.rvalid.eq(0)]
                m.next = "IDLE"
        return m
