"""The compression unit: delta groups to a packed stream of words."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import EXPONENT_WIDTH, POISONED_GROUP, ZERO_GROUP, Parameters
from hw import payloads
from hw.delta_code import START, Code
from hw.stream import Fifo, Pipeline
from hw.units.unit import Unit

__all__ = ["BLOCK_GROUPS", "HEADER_WIDTH", "MARKER", "DeltaCompressor"]

MARKER = 0xD7
"""Low byte of a block's header."""

HEADER_WIDTH = 32
"""Bits of a block's header."""

BLOCK_GROUPS = 64
"""Groups of a full block."""

_HEADERS = 8
"""Headers of finished blocks that can wait for their payload to leave."""

_CUTS = 4


class DeltaCompressor(Unit):
    """Packs delta groups, without loss, into blocks of a header and up to 64 groups.

    The header holds the payload's length, so a block waits in a memory until it is finished. Its first word goes there
    with room for the header, which is filled in on the way out; the next block fills the memory meanwhile.

    ::

        i -> prefix -> planes -> joins -> gather words -> memory -> header | word -> o
                                              |                       |
                                              +-> headers ------------+

    Latency: 8 clocks from the only group of a stream to its word, with `pipeline_depth` at least 4.
    Throughput: one group per clock, or `link_width` / group bits, whichever is lower.
    Numerics: lossless; ``docs/formats.md``, delta stream.

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.

    Members
    -------
    i : In(stream of `payloads.stream_group`)
        Groups; `last` ends the stream.
    passes : In(2)
        Groups of a vector, minus 1; constant during a stream.
    o : Out(stream of `payloads.link_word`)
        Words; `last` marks the stream's final one.
    """

    name = "delta_compressor"
    summary = "packs delta groups into a compressed stream, without loss"

    def __init__(self, parameters: Parameters):
        super().__init__(parameters)
        self._code = Code(parameters)

    def _members(self, parameters: Parameters) -> dict:
        return {
            "i": In(stream.Signature(payloads.stream_group(parameters))),
            "passes": In(2),
            "o": Out(stream.Signature(payloads.link_word(parameters))),
        }

    @property
    def latency(self) -> int:
        """Clocks from the only group of a stream to its word."""
        return min(_CUTS, self.parameters.pipeline_depth) + 1 + Fifo.latency + 1

    @property
    def throughput(self) -> str:
        """Payloads per clock, in words."""
        return f"one group per clock, or {self.parameters.link_width} bits per clock, whichever is lower"

    @property
    def block_words(self) -> int:
        """Words of the longest block."""
        return -(-(HEADER_WIDTH + BLOCK_GROUPS * self._code.longest) // self.parameters.link_width)

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, code = self.parameters, self._code
        layout = data.StructLayout(
            {"bits": code.longest, "length": range(code.longest + 1), "closes": 1, "last": 1, "groups": 6, "passes": 2}
        )
        coded = stream.Signature(layout).create(path=("coded",))
        self._encode(m, coded)
        header_layout = data.StructLayout({"groups": 6, "passes": 2, "length": 16, "last": 1})
        m.submodules.headers = headers = Fifo(header_layout, _HEADERS)
        # The memory must hold the longest block: its header is only known when all of it is in.
        m.submodules.words = words = Fifo(p.link_width, 1 << (self.block_words + 2 - 1).bit_length())
        self._gather(m, coded, words, headers)
        self._send(m, words, headers)
        return m

    def _encode(self, m: Module, coded: object) -> None:
        """Number the groups, predict their exponents, find their bits."""
        code, group = self._code, self.i.p.group
        pipe = Pipeline(m, self.i, coded, cuts=_CUTS, depth=self.parameters.pipeline_depth)
        number, place = Signal(6, name="number"), Signal(2, name="place")
        predictors = [Signal(EXPONENT_WIDTH, init=START, name=f"predictor{index}") for index in range(4)]
        before = Signal(EXPONENT_WIDTH, init=POISONED_GROUP, name="before")
        predictor, closes = Signal(EXPONENT_WIDTH, name="predicted"), Signal(name="closes")
        with m.Switch(place):
            for index in range(4):
                with m.Case(index):
                    m.d.comb += predictor.eq(predictors[index])
        replay = group.replay if self.parameters.replays else Const(0, 1)
        m.d.comb += closes.eq(self.i.p.last | (number == BLOCK_GROUPS - 1))
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [number.eq(number + 1), before.eq(group.exponent)]
            with m.If(~replay):
                m.d.sync += place.eq(Mux(place == self.passes, 0, place + 1))
                with m.If(group.exponent < ZERO_GROUP):
                    for index in range(4):
                        with m.If(place == index):
                            m.d.sync += predictors[index].eq(group.exponent)
            with m.If(closes):
                m.d.sync += [number.eq(0), place.eq(0), before.eq(POISONED_GROUP)]
                m.d.sync += [predictors[index].eq(START) for index in range(4)]
        prefix, prefix_length = code.prefix(m, group.exponent, replay, predictor, before)
        keep = {"closes": closes, "last": self.i.p.last, "number": number, "passes": self.passes}
        bits, length, keep = code.encode(m, lambda **values: pipe.cut(**values), group, prefix, prefix_length, keep)
        result = Signal(coded.payload.shape(), name="coded_result")
        m.d.comb += [
            result.bits.eq(bits),
            result.length.eq(length),
            result.closes.eq(keep["closes"]),
            result.last.eq(keep["last"]),
            result.groups.eq(keep["number"]),
            result.passes.eq(keep["passes"]),
        ]
        pipe.finish(result)

    def _gather(self, m: Module, coded: object, words: Fifo, headers: Fifo) -> None:
        """Cut the bits of the groups into words; leave room for a header at the start of each block."""
        width, longest = self.parameters.link_width, self._code.longest
        # A group may be put after up to a word and a header's room, so that closing a block costs no clock.
        highest = width + HEADER_WIDTH
        bits = Signal(highest + longest, name="gathered")
        top = -(-(highest + longest) // width) * width + HEADER_WIDTH
        level = Signal(range(top + 1), init=HEADER_WIDTH, name="level")
        left, added, end = (Signal(range(top + 1), name=name) for name in ("level_left", "level_added", "level_end"))
        kept = Signal.like(bits, name="kept")
        length = Signal(16, name="block_length")
        following = Signal(16, name="block_length_next")
        emit, accept = Signal(name="emit"), Signal(name="accept")
        c = coded.p
        m.d.comb += [
            words.i.valid.eq(level >= width),
            words.i.payload.eq(bits[:width]),
            emit.eq(words.i.valid & words.i.ready),
            left.eq(Mux(emit, level - width, level)),
            kept.eq(Mux(emit, bits >> width, bits)),
            coded.ready.eq((left <= highest) & (~c.closes | headers.i.ready)),
            accept.eq(coded.valid & coded.ready),
            added.eq(left + c.length),
            # A closed block is padded to whole words; the next one starts with room for its header.
            end.eq((((added + (width - 1)) >> (width - 1).bit_length()) << (width - 1).bit_length()) + HEADER_WIDTH),
            following.eq(length + c.length),
            headers.i.valid.eq(coded.valid & (left <= highest) & c.closes),
            headers.i.p.groups.eq(c.groups),
            headers.i.p.passes.eq(c.passes),
            headers.i.p.length.eq(following),
            headers.i.p.last.eq(c.last),
        ]
        m.d.sync += [level.eq(left), bits.eq(kept)]
        with m.If(accept):
            m.d.sync += [
                level.eq(Mux(c.closes, end, added)),
                length.eq(Mux(c.closes, 0, following)),
                bits.eq(kept | (c.bits << left[: highest.bit_length()])),
            ]

    def _send(self, m: Module, words: Fifo, headers: Fifo) -> None:
        """Fill in the headers; count words to find the end of each block."""
        width, o = self.parameters.link_width, self.o
        header = headers.o.p
        first = Signal(init=1, name="first")
        left = Signal(17, name="bits_left")
        now, final, step = Signal(17, name="bits_now"), Signal(name="final"), Signal(name="send_step")
        filled = Cat(Const(MARKER, 8), header.groups, header.passes, header.length)
        m.d.comb += [
            now.eq(Mux(first, header.length + HEADER_WIDTH, left)),
            final.eq(now <= width),
            step.eq(words.o.valid & headers.o.valid & (~o.valid | o.ready)),
            words.o.ready.eq(step),
            headers.o.ready.eq(step & final),
        ]
        with m.If(o.ready):
            m.d.sync += o.valid.eq(0)
        with m.If(step):
            m.d.sync += [
                o.valid.eq(1),
                o.p.data.eq(words.o.payload | Mux(first, filled, 0)),
                o.p.last.eq(final & header.last),
                first.eq(final),
                left.eq(now - width),
            ]
