"""A queue of words that can be had again."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.bits import named
from hw.memory import Ram


class Recall(wiring.Component):
    """Passes words on and keeps them, so that it can go back to one and pass them on once more.

    Words have numbers, counted from 0, modulo twice the depth.

    ::

        i -> | kept | passed on | waiting | -> o
             ^      ^           ^
             kept   back        next

    Latency: 2 clocks. Throughput: one word per clock.

    Parameters
    ----------
    shape : ShapeLike
        Of a word.
    depth : int
        Words that are kept or wait, a power of two.

    Members
    -------
    i : In(stream)
        Words.
    o : Out(stream of word, and number)
        Words, each with its number.
    kept : In(number)
        Words before this one are not asked for any more; never falls.
    back, again : In(number), In(1)
        With `again` the next word is that of number `back`, at least `kept`; what waits at `o` is none any more.
    """

    latency = 2

    def __init__(self, shape: data.StructLayout, depth: int):
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"depth must be a power of two, at least 2, not {depth}")
        self._shape, self._depth = shape, depth
        number = depth.bit_length()
        super().__init__(
            {
                "i": In(stream.Signature(shape)),
                "o": Out(stream.Signature(data.StructLayout({"word": shape, "number": number}))),
                "kept": In(number),
                "back": In(number),
                "again": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        m.submodules.ram = ram = Ram(self._shape, self._depth)
        written, following, shown = (Signal(len(self.kept), name=name) for name in ("written", "following", "shown"))
        put = named(m, "put", self.i.valid & self.i.ready)
        get = named(m, "get", (following != written) & (~self.o.valid | self.o.ready) & ~self.again)
        m.d.comb += [
            self.i.ready.eq((written ^ self.kept) != self._depth),
            ram.write_enable.eq(put),
            ram.write_address.eq(written[:-1]),
            ram.write_data.eq(self.i.payload),
            ram.read_enable.eq(get),
            ram.read_address.eq(following[:-1]),
            self.o.p.word.eq(ram.read_data),
            self.o.p.number.eq(shown),
        ]
        m.d.sync += [
            written.eq(written + put),
            following.eq(Mux(self.again, self.back, following + get)),
        ]
        with m.If(get):
            m.d.sync += [self.o.valid.eq(1), shown.eq(following)]
        with m.Elif(self.o.ready | self.again):
            m.d.sync += self.o.valid.eq(0)
        return m
