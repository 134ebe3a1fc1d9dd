"""Blocks of a stream on their way out: a block waits until its header is known."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.bits import named
from hw.link.bits import block_word
from hw.stream import Fifo

BLOCK_GROUPS = 64
"""Groups of a full block."""

HEADER_WIDTH = 32
"""Bits of a block's header."""


class BlockQueue(wiring.Component):
    """Holds the words of a block until its header comes, and sends both.

    Latency: 3 clocks from the header to the first word. Throughput: one word per clock.

    Parameters
    ----------
    width : int
        Bits of a word, at least 32.
    words : int
        Words of the longest block.

    Members
    -------
    i : In(stream of `block_word`)
        Words, with zeros where the header goes: in the lowest bits of a block's first word.
    headers : In(stream of header and last)
        Headers of the blocks, each not before the block's last bit is known; `last` ends a stream.
    o : Out(stream of data, and last)
        Words; `last` marks the stream's final one.
    """

    def __init__(self, width: int, words: int):
        if width < HEADER_WIDTH:
            raise ValueError(f"width must be at least {HEADER_WIDTH}, not {width}")
        self._width, self._words = width, words
        super().__init__(
            {
                "i": In(stream.Signature(block_word(width))),
                "headers": In(stream.Signature(data.StructLayout({"header": HEADER_WIDTH, "last": 1}))),
                "o": Out(stream.Signature(data.StructLayout({"data": width, "last": 1}))),
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        m.submodules.words = words = Fifo(block_word(self._width), 1 << self._words.bit_length())
        m.submodules.headers = headers = Fifo(self.headers.payload.shape(), 4)
        wiring.connect(m, wiring.flipped(self.i), words.i)
        wiring.connect(m, wiring.flipped(self.headers), headers.i)
        first = Signal(init=1)
        word, o = words.o.p, self.o
        moves = named(m, "moves", words.o.valid & headers.o.valid & (~o.valid | o.ready))
        m.d.comb += [words.o.ready.eq(moves), headers.o.ready.eq(moves & word.final)]
        with m.If(o.ready):
            m.d.sync += o.valid.eq(0)
        with m.If(moves):
            m.d.sync += [
                o.valid.eq(1),
                o.p.data.eq(word.data | Mux(first, headers.o.p.header, 0)),
                o.p.last.eq(word.final & headers.o.p.last),
                first.eq(word.final),
            ]
        return m
