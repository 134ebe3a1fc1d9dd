"""The reading half of an AXI4 master: bursts in, beats out."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.bits import named
from hw.bus.axi import AXI4Read
from hw.bus.bursts import LENGTH_WIDTH, Asking, burst


class ReadMaster(wiring.Component):
    """Asks for bursts on AXI4, several ahead, and gives their beats in order.

    Latency: 1 clock from a burst to its address, none from a beat to `beats`. Throughput: a burst and a beat a clock.

    Parameters
    ----------
    width : int
        Bits of a word, which is a beat.
    address_width : int
        Bits of an address in bytes.
    tag_width : int
        Bits of a burst's tag.
    outstanding : int
        Bursts that are asked for before the first of them has come, a power of two.

    Members
    -------
    bursts : In(stream of `burst`)
        What to read.
    beats : Out(stream of data, response, last, tag, and the address of the word)
        What came.
    pending : Out
        Bursts that have been taken and have not come.
    bus : Out(AXI4Read)
        The bus.
    """

    def __init__(self, width: int, address_width: int, tag_width: int, *, outstanding: int = 16):
        self._width, self._outstanding = width, outstanding
        self._burst = burst(width, address_width, tag_width)
        beat = {"data": width, "response": 2, "last": 1, "tag": tag_width, "address": self._burst["address"].width}
        super().__init__(
            {
                "bursts": In(stream.Signature(self._burst)),
                "beats": Out(stream.Signature(data.StructLayout(beat))),
                "pending": Out(range(outstanding + 2)),
                "bus": Out(AXI4Read(address_width, width)),
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        bus, beats = self.bus, self.beats
        oldest = Asking(m, "ar", bus, self.bursts, self.pending, self._outstanding)
        number = Signal(LENGTH_WIDTH)
        low = named(m, "low", oldest.address[:LENGTH_WIDTH] + number)
        m.d.comb += [
            beats.valid.eq(bus.rvalid & oldest.valid),
            bus.rready.eq(beats.ready & oldest.valid),
            beats.payload.data.eq(bus.rdata),
            beats.payload.response.eq(bus.rresp),
            beats.payload.last.eq(bus.rlast),
            beats.payload.tag.eq(oldest.tag),
            # No carry: a burst stays within its block.
            beats.payload.address.eq(Cat(low[:LENGTH_WIDTH], oldest.address[LENGTH_WIDTH:])),
            oldest.ended.eq(beats.valid & beats.ready & bus.rlast),
        ]
        with m.If(beats.valid & beats.ready):
            m.d.sync += number.eq(Mux(bus.rlast, 0, number + 1))
        return m
