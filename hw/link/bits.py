"""Streams of bits: words are taken apart, and put together, many bits a clock."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.bits import named, take
from hw.arith.shift import shift_left


def amount_width(bits: int) -> int:
    """Bits of a number of up to so many bits."""
    return bits.bit_length()


def bit_item(bits: int) -> data.StructLayout:
    """The lowest `length` of some `bits`, all others 0; `closes` a block: zeros follow up to the end of the word."""
    return data.StructLayout({"bits": bits, "length": amount_width(bits), "closes": 1})


def block_word(width: int) -> data.StructLayout:
    """A word of a block; `final` is its last one."""
    return data.StructLayout({"data": width, "final": 1})


class BitReader(wiring.Component):
    """Takes words apart, from bit 0 up.

    A window shows the next bits. It lies in two *chunks* of as many; where the stream ends in the first of them, what
    the window shows beyond it means nothing.

    Latency: 4 clocks from a word to its first bits. Throughput: a window per clock as long as chunks are at hand, of
    which one comes in two clocks.

    Parameters
    ----------
    width : int
        Bits of a word, a multiple of `bits`.
    bits : int
        Bits of the window, a power of two.

    Members
    -------
    i : In(stream of data, and last)
        Words; `last` ends a stream.
    window : Out(bits)
        The bits that come next.
    ready : Out(1)
        The window holds all of its bits that the stream still has.
    take : In(range(bits + 1))
        Bits to take at this clock edge; only if `ready`.
    beyond : Out(1)
        `take` reaches past the end of the stream.
    place : Out(range(bits))
        Bits that the chunk has lost already.
    clean : Out(1)
        All bits that it still has are 0.
    boundary : Out(1)
        The next bit begins a word.
    ended : Out(1)
        The bit before it ended a stream.
    """

    def __init__(self, width: int, bits: int):
        _check(width, bits)
        self._width, self._bits = width, bits
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout({"data": width, "last": 1}))),
                "window": Out(bits),
                "ready": Out(1),
                "take": In(amount_width(bits)),
                "beyond": Out(1),
                "place": Out(range(bits)),
                "clean": Out(1),
                "boundary": Out(1, init=1),
                "ended": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        width = self._bits
        chunks, carry = self._width // width, width.bit_length() - 1
        chunk = data.StructLayout({"data": width, "closes": 1, "last": 1})
        word, word_last = Signal(self._width), Signal()
        left = Signal(range(chunks + 1))
        low, high, spare = Signal(chunk), Signal(chunk), Signal(chunk)
        low_valid, high_valid, spare_valid = Signal(), Signal(), Signal()
        place = self.place

        end = named(m, "end", place + self.take)
        leaves = named(m, "leaves", end[carry])
        ends_stream = named(m, "ends_stream", low.closes & low.last)
        bits = Cat(low.data, high.data)
        m.d.comb += [
            self.window.eq(take(m, "window", bits, place, width)),
            self.ready.eq(low_valid & (high_valid | ends_stream)),
            self.beyond.eq(self.take.any() & (self.ended | (ends_stream & (end > width)))),
            self.clean.eq(~(low.data & named(m, "coming", Const(-1, width) << place)[:width]).any()),
        ]
        m.d.sync += place.eq(end[:carry])
        with m.If(self.take.any()):
            m.d.sync += [self.boundary.eq(leaves & low.closes & ~end[:carry].any()), self.ended.eq(0)]
            with m.If(leaves & low.closes & ~end[:carry].any()):
                m.d.sync += self.ended.eq(low.last)

        shifts_low = named(m, "shifts_low", ~low_valid | leaves)
        shifts_high = named(m, "shifts_high", ~high_valid | shifts_low)
        with m.If(shifts_low):
            m.d.sync += [low.eq(high), low_valid.eq(high_valid)]
        with m.If(shifts_high):
            m.d.sync += [high.eq(spare), high_valid.eq(spare_valid)]
        # The spare chunk is filled in a clock of its own, and a word taken only when all of the one before it has moved
        # on: so nothing of `take` reaches further than two chunks.
        with m.If(~spare_valid):
            m.d.sync += [
                spare.data.eq(word[:width]),
                spare.closes.eq(left == 1),
                spare.last.eq(word_last),
                spare_valid.eq(left.any()),
                word.eq(word[width:]),
                left.eq(left - left.any()),
            ]
        with m.Elif(shifts_high):
            m.d.sync += spare_valid.eq(0)
        m.d.comb += self.i.ready.eq(~left.any())
        with m.If(self.i.ready):
            m.d.sync += [word.eq(self.i.p.data), word_last.eq(self.i.p.last), left.eq(Mux(self.i.valid, chunks, 0))]
        return m


class BitWriter(wiring.Component):
    """Puts words together, from bit 0 up; every block begins a word.

    Throughput: one item per clock; one clock more for each word, and two at the end of a block.

    Parameters
    ----------
    width : int
        Bits of a word, a multiple of `bits`.
    bits : int
        Bits of an item at most, a power of two.

    Members
    -------
    i : In(stream of `bit_item`)
        Bits; a block has at least one.
    o : Out(stream of `block_word`)
        Words.
    """

    def __init__(self, width: int, bits: int):
        _check(width, bits)
        self._width, self._bits = width, bits
        super().__init__({"i": In(stream.Signature(bit_item(bits))), "o": Out(stream.Signature(block_word(width)))})

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        width = self._bits
        chunks, carry = self._width // width, width.bit_length() - 1
        kept, place = Signal(width), Signal(range(width))
        word, count = Signal(self._width), Signal(range(chunks + 1))
        closing = Signal()

        # The item at hand: a register, so that whoever makes it has a clock of its own.
        item, item_valid, item_ready = Signal(bit_item(width)), Signal(), Signal()
        m.d.comb += self.i.ready.eq(~item_valid | item_ready)
        with m.If(self.i.ready):
            m.d.sync += [item.eq(self.i.payload), item_valid.eq(self.i.valid)]

        joined, chunk = Signal(2 * width), Signal(width)
        end = named(m, "end", place + item.length)
        m.d.comb += joined.eq(kept | shift_left(m, "placed", item.bits, place, 2 * width))
        flushes = named(m, "flushes", closing & place.any())
        finishes = named(m, "finishes", closing & ~place.any())
        fills = named(m, "fills", flushes | (item_valid & ~closing & end[carry:].any()))
        room = named(m, "room", count != chunks)
        m.d.comb += [
            chunk.eq(Mux(closing, kept, joined[:width])),
            item_ready.eq(~closing & (room | ~end[carry:].any())),
            self.o.valid.eq(finishes | (fills & ~room)),
            self.o.p.data.eq(word),
            self.o.p.final.eq(finishes),
        ]
        with m.If(item_valid & item_ready):
            m.d.sync += [
                place.eq(end[:carry]),
                kept.eq(Mux(fills, joined[width:], joined[:width])),
                closing.eq(item.closes),
            ]
        with m.If(flushes & room):
            m.d.sync += [place.eq(0), kept.eq(0)]
        with m.If(fills & room):
            m.d.sync += count.eq(count + 1)
            with m.Switch(count):
                for number in range(chunks):
                    with m.Case(number):
                        m.d.sync += word.word_select(number, width).eq(chunk)
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [count.eq(0), word.eq(0)]
            with m.If(finishes):
                m.d.sync += closing.eq(0)
        return m


def _check(width: int, bits: int) -> None:
    if bits < 2 or bits & (bits - 1):
        raise ValueError(f"bits must be a power of two, at least 2, not {bits}")
    if width < bits or width % bits:
        raise ValueError(f"width must be a multiple of bits = {bits}, not {width}")
