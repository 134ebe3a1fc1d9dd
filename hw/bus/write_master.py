"""The writing half of an AXI4 master: bursts and their words in, answers out."""

from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.bus.axi import AXI4Write
from hw.bus.bursts import Asking, burst


def burst_word(width: int) -> data.StructLayout:
    """A word of a burst; `last` marks its final one."""
    return data.StructLayout({"data": width, "strobe": width // 8, "last": 1})


class WriteMaster(wiring.Component):
    """Writes bursts on AXI4, several ahead of their answers.

    Latency: 1 clock from a burst to its address, none from a word to the bus. Throughput: a burst and a beat a clock.

    Parameters
    ----------
    width, address_width, tag_width, outstanding
        As those of `ReadMaster`; here bursts are outstanding until they have been answered.

    Members
    -------
    bursts : In(stream of `burst`)
        Where to write.
    words : In(stream of `burst_word`)
        The words of all bursts, in order. Those of a burst come after it has been taken.
    answers : Out(stream of response, tag, and the address of the burst)
        How each burst ended.
    pending : Out
        Bursts that have been taken and have not been answered.
    bus : Out(AXI4Write)
        The bus.
    """

    def __init__(self, width: int, address_width: int, tag_width: int, *, outstanding: int = 16):
        self._width, self._outstanding = width, outstanding
        self._burst = burst(width, address_width, tag_width)
        answer = {"response": 2, "tag": tag_width, "address": self._burst["address"].width}
        super().__init__(
            {
                "bursts": In(stream.Signature(self._burst)),
                "words": In(stream.Signature(burst_word(width))),
                "answers": Out(stream.Signature(data.StructLayout(answer))),
                "pending": Out(range(outstanding + 2)),
                "bus": Out(AXI4Write(address_width, width)),
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        bus, answers = self.bus, self.answers
        oldest = Asking(m, "aw", bus, self.bursts, self.pending, self._outstanding)
        m.d.comb += [
            bus.wvalid.eq(self.words.valid),
            bus.wdata.eq(self.words.payload.data),
            bus.wstrb.eq(self.words.payload.strobe),
            bus.wlast.eq(self.words.payload.last),
            self.words.ready.eq(bus.wready),
            answers.valid.eq(bus.bvalid & oldest.valid),
            bus.bready.eq(answers.ready & oldest.valid),
            answers.payload.response.eq(bus.bresp),
            answers.payload.tag.eq(oldest.tag),
            answers.payload.address.eq(oldest.address),
            oldest.ended.eq(answers.valid & answers.ready),
        ]
        return m
