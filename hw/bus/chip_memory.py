"""RAM on the chip, in front of a bus."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.bits import named
from hw.bus.axi import AXI4, Response
from hw.memory import Ram
from hw.stream.fifo import Fifo


def check_chip(size: int, width: int) -> None:
    """Refuse a size in bytes of a RAM on the chip with words of `width` bits that is none."""
    word = width // 8
    if not isinstance(size, int):
        raise TypeError(f"chip_bytes must be an integer, not {size!r}")
    if size < 2 * word or size % word:
        raise ValueError(f"chip_bytes must be a multiple of {word}, at least {2 * word}, not {size}")


class ChipMemory(wiring.Component):
    """Passes AXI4 on, but for addresses whose highest bit is set: those lie in a RAM of its own.

    All bursts are answered in their order, whichever memory they go to.

    Latency: none to the bus, 4 clocks from an address to the first beat of the RAM. Throughput: a beat a clock each
    way.

    Parameters
    ----------
    bus : AXI4
        The bus behind it; the one in front has a bit more of address.
    size : int
        Bytes of RAM, a multiple of the bytes of a beat, at least two beats.
    outstanding : int
        Bursts that may be outstanding each way, a power of two.

    Members
    -------
    i : In(AXI4)
        From the master: aligned bursts of whole words, one identifier, addresses in the RAM if they are its own.
    o : Out(AXI4)
        The bus behind.

    Raises
    ------
    TypeError
        If `size` is no integer.
    ValueError
        If `size` is no multiple of a beat, or less than two.
    """

    def __init__(self, bus: AXI4, size: int, *, outstanding: int = 32):
        check_chip(size, bus.data_width)
        self._bus, self._depth, self._outstanding = bus, size // (bus.data_width // 8), outstanding
        super().__init__({"i": In(AXI4(bus.address_width + 1, bus.data_width)), "o": Out(bus)})

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        lanes = []
        for number in range(self._bus.data_width // 8):
            m.submodules[f"lane{number}"] = lane = Ram(8, self._depth)
            lanes.append(lane)
        self._read(m, lanes)
        self._write(m, lanes)
        return m

    def _addresses(self, m: Module, prefix: str) -> stream.Interface:
        """Pass addresses on; returns the bursts in their order: whether in the RAM, where, and how many."""
        first = (self._bus.data_width // 8 - 1).bit_length()
        layout = data.StructLayout({"chip": 1, "row": range(self._depth), "length": 8})
        m.submodules[f"{prefix}_order"] = order = Fifo(layout, self._outstanding)
        address, length = getattr(self.i, f"{prefix}addr"), getattr(self.i, f"{prefix}len")
        valid, ready = getattr(self.i, f"{prefix}valid"), getattr(self.i, f"{prefix}ready")
        chip = named(m, f"{prefix}_chip", address[-1])
        m.d.comb += [
            getattr(self.o, f"{prefix}valid").eq(valid & ~chip & order.i.ready),
            ready.eq(order.i.ready & (chip | getattr(self.o, f"{prefix}ready"))),
            order.i.valid.eq(valid & (chip | getattr(self.o, f"{prefix}ready"))),
            order.i.payload.chip.eq(chip),
            order.i.payload.row.eq(address[first:]),
            order.i.payload.length.eq(length),
            getattr(self.o, f"{prefix}addr").eq(address[:-1]),
        ]
        m.d.comb += [
            getattr(self.o, prefix + name).eq(getattr(self.i, prefix + name)) for name in ("id", "len", "size", "burst")
        ]
        return order.o

    def _read(self, m: Module, lanes: list[Ram]) -> None:
        oldest, i, o = self._addresses(m, "ar"), self.i, self.o
        # The RAM's register is a beat that waits; it is older than what the bus behind offers.
        waits = Signal()
        last = Signal()
        number = Signal(8)
        final = named(m, "read_final", number == oldest.payload.length)
        reads = named(m, "reads", oldest.valid & oldest.payload.chip & (~waits | i.rready))
        passes = named(m, "passes", oldest.valid & ~oldest.payload.chip & ~waits)
        for lane in lanes:
            m.d.comb += [lane.read_enable.eq(reads), lane.read_address.eq(oldest.payload.row + number)]
        m.d.comb += [
            i.rvalid.eq(waits | (passes & o.rvalid)),
            i.rdata.eq(Mux(waits, Cat(lane.read_data for lane in lanes), o.rdata)),
            i.rresp.eq(Mux(waits, Response.OKAY, o.rresp)),
            i.rlast.eq(Mux(waits, last, o.rlast)),
            o.rready.eq(passes & i.rready),
            oldest.ready.eq((reads & final) | (passes & o.rvalid & i.rready & o.rlast)),
        ]
        with m.If(reads):
            m.d.sync += [waits.eq(1), last.eq(final), number.eq(Mux(final, 0, number + 1))]
        with m.Elif(i.rready):
            m.d.sync += waits.eq(0)

    def _write(self, m: Module, lanes: list[Ram]) -> None:
        oldest, i, o = self._addresses(m, "aw"), self.i, self.o
        # Where the answers come from, in the order in which the last words went.
        m.submodules.answers = answers = Fifo(1, self._outstanding)
        number = Signal(8)
        here = named(m, "here", oldest.valid & oldest.payload.chip & answers.i.ready)
        beyond = named(m, "beyond", oldest.valid & ~oldest.payload.chip & answers.i.ready)
        moves = named(m, "moves", i.wvalid & i.wready)
        for lane, byte in enumerate(lanes):
            m.d.comb += [
                byte.write_enable.eq(i.wvalid & here & i.wstrb[lane]),
                byte.write_address.eq(oldest.payload.row + number),
                byte.write_data.eq(i.wdata.word_select(lane, 8)),
            ]
        m.d.comb += [
            o.wvalid.eq(i.wvalid & beyond),
            o.wdata.eq(i.wdata),
            o.wstrb.eq(i.wstrb),
            o.wlast.eq(i.wlast),
            i.wready.eq(here | (beyond & o.wready)),
            oldest.ready.eq(moves & i.wlast),
            answers.i.valid.eq(moves & i.wlast),
            answers.i.payload.eq(here),
            i.bvalid.eq(answers.o.valid & (answers.o.payload | o.bvalid)),
            i.bresp.eq(Mux(answers.o.payload, Response.OKAY, o.bresp)),
            o.bready.eq(answers.o.valid & ~answers.o.payload & i.bready),
            answers.o.ready.eq(i.bvalid & i.bready),
        ]
        with m.If(moves):
            m.d.sync += number.eq(Mux(i.wlast, 0, number + 1))
