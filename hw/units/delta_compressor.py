"""The compression unit: delta groups to a packed stream of words."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.parameters import EXPONENT_WIDTH, POISONED_GROUP, ZERO_GROUP, Parameters
from hw import payloads
from hw.arith.bits import filled
from hw.link.blocks import BLOCK_GROUPS, HEADER_WIDTH
from hw.link.checks import CheckWriter
from hw.link.delta_code import START, Code
from hw.stream import Fifo, Stage, count_stages
from hw.units.unit import Unit

PASSES_WIDTH = 3
"""Bits of the passes, minus 1."""

_HEADERS = 8
"""Headers of finished blocks that can wait for their payload to leave."""

_MARKER = 0b1110
"""Highest bits of a block's marker; below them, whether blocks have checks, and the passes, minus 1."""


def delta_marker(parameters: Parameters, passes: Value) -> Value:
    """Low byte of every block's header in a delta stream of so many passes, minus 1."""
    return Cat(passes, Const(parameters.link_checks, 1), Const(_MARKER, 4))


def link_ports(given: data.Layout, made: data.Layout) -> dict:
    """Members of what codes or decodes a delta stream: streams `i` and `o`, and `passes`."""
    return {"i": In(stream.Signature(given)), "passes": In(PASSES_WIDTH), "o": Out(stream.Signature(made))}


class DeltaCompressor(Unit):
    """Packs delta groups, without loss, into blocks of a header and up to 64 groups.

    Groups are gathered into *rows* of whole words, wide enough that a group never fills two. The header holds the
    payload's length, so a block waits in a memory until it is finished. Its first row goes there with room for the
    header, which is filled in on the way out; the next block fills the memory meanwhile.

    ::

        i -> prefix -> planes -> joins -> place in row -> gather rows -> memory -> header | word -> o
                                                              |                       |
                                                              +-> headers ------------+

    With `link_checks`, `CheckWriter` follows.

    Latency: 9 clocks from the only group of a stream to its word, with `pipeline_depth` at least 5; one more with
    `link_checks`.
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
    passes : In(3)
        Groups of a vector, minus 1; constant during a stream.
    o : Out(stream of `payloads.link_word`)
        Words; `last` marks the stream's final one.
    """

    name = "delta_compressor"
    summary = "packs delta groups into a compressed stream, without loss"

    def __init__(self, parameters: Parameters):
        super().__init__(parameters)
        self._code = Code(parameters)
        lengths = range(BLOCK_GROUPS * self._code.longest + 1)
        self._header = {"groups": 6, "passes": PASSES_WIDTH, "length": lengths, "last": 1}

    def _members(self, parameters: Parameters) -> dict:
        return link_ports(payloads.stream_group(parameters), payloads.link_word(parameters))

    @property
    def latency(self) -> int:
        """Clocks from the only group of a stream to its word."""
        checks = CheckWriter.latency if self.parameters.link_checks else 0
        return count_stages(lambda m: self._encode(m, self._coded())) + 1 + Fifo.latency + 1 + checks

    @property
    def throughput(self) -> str:
        """Payloads per clock, in words."""
        return f"one group per clock, or {self.parameters.link_width} bits per clock, whichever is lower"

    @property
    def block_words(self) -> int:
        """Words of the longest block."""
        return -(-(HEADER_WIDTH + BLOCK_GROUPS * self._code.longest) // self.parameters.link_width)

    def _coded(self) -> stream.Interface:
        """Groups as bits."""
        longest = self._code.longest
        layout = {
            "bits": longest,
            "length": range(longest + 1),
            "closes": 1,
            "last": 1,
            "groups": 6,
            "passes": PASSES_WIDTH,
        }
        return stream.Signature(data.StructLayout(layout)).create(path=("coded",))

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, code = self.parameters, self._code
        coded = self._coded()
        self._encode(m, coded)
        m.submodules.headers = headers = Fifo(data.StructLayout(self._header), _HEADERS)
        # The memory must hold the longest block: its header is only known when all of it is in.
        row = code.row_width(p.link_width)
        block_rows = -(-self.block_words * p.link_width // row)
        m.submodules.rows = rows = Fifo(row, 1 << (block_rows + 2 - 1).bit_length())
        self._gather(m, self._place(m, coded), rows, headers)
        o = wiring.flipped(self.o)
        if p.link_checks:
            m.submodules.checks = checks = CheckWriter(p.link_width)
            wiring.connect(m, checks.o, o)
            o = checks.i
        self._send(m, rows, headers, o)
        return m

    def _encode(self, m: Module, coded: stream.Interface) -> int:
        """Number the groups, predict their exponents, find their bits."""
        code, group = self._code, self.i.p.group
        number, place = Signal(6, name="number"), Signal(PASSES_WIDTH, name="place")
        places = range(1 << PASSES_WIDTH)
        predictors = [Signal(EXPONENT_WIDTH, init=START, name=f"predictor{index}") for index in places]
        before = Signal(EXPONENT_WIDTH, init=POISONED_GROUP, name="before")
        predictor, closes = Signal(EXPONENT_WIDTH, name="predicted"), Signal(name="closes")
        with m.Switch(place):
            for index in places:
                with m.Case(index):
                    m.d.comb += predictor.eq(predictors[index])
        replay = group.replay if self.parameters.replays else Const(0, 1)
        m.d.comb += closes.eq(self.i.p.last | (number == BLOCK_GROUPS - 1))
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [number.eq(number + 1), before.eq(group.exponent)]
            with m.If(~replay):
                m.d.sync += place.eq(Mux(place == self.passes, 0, place + 1))
                with m.If(group.exponent < ZERO_GROUP):
                    for index in places:
                        with m.If(place == index):
                            m.d.sync += predictors[index].eq(group.exponent)
            with m.If(closes):
                m.d.sync += [number.eq(0), place.eq(0), before.eq(POISONED_GROUP)]
                m.d.sync += [register.eq(START) for register in predictors]
        prefix, prefix_length = code.prefix(m, group.exponent, replay, predictor, before)
        s = Stage.begin(m, self.i)
        s.closes, s.last, s.number, s.passes = closes, self.i.p.last, number, self.passes
        s = code.encode(s, group, prefix, prefix_length)
        fields = {"bits": s.bits, "length": s.length, "closes": s.closes, "last": s.last}
        result = filled(m, "coded_result", coded.payload.shape(), **fields, groups=s.number, passes=s.passes)
        return s.finish(coded, result, depth=self.parameters.pipeline_depth)

    def _place(self, m: Module, coded: object) -> object:
        """Move the bits of each group to the place in a row where the group before it ended."""
        row = self._code.row_width(self.parameters.link_width)
        shape = {"bits": 2 * row, "fills": 1, "spills": 1, "closes": 1}
        placed = stream.Signature(data.StructLayout(shape | self._header)).create(path=("placed",))
        offset, end = Signal(range(row), init=HEADER_WIDTH, name="offset"), Signal(range(2 * row), name="group_end")
        c, p = coded.p, placed.p
        length, following = (Signal(len(p.length), name=name) for name in ("block_length", "block_length_next"))
        m.d.comb += [
            coded.ready.eq(~placed.valid | placed.ready),
            end.eq(offset + c.length),
            following.eq(length + c.length),
        ]
        with m.If(coded.ready):
            m.d.sync += [
                placed.valid.eq(coded.valid),
                p.bits.eq(c.bits << offset),
                p.fills.eq(end[-1]),
                p.spills.eq(end[:-1].any()),
                p.closes.eq(c.closes),
                p.groups.eq(c.groups),
                p.passes.eq(c.passes),
                p.length.eq(following),
                p.last.eq(c.last),
            ]
            with m.If(coded.valid):
                # Every block starts a row, with room for its header.
                m.d.sync += [
                    offset.eq(Mux(c.closes, HEADER_WIDTH, end[:-1])),
                    length.eq(Mux(c.closes, 0, following)),
                ]
        return placed

    def _gather(self, m: Module, placed: object, rows: Fifo, headers: Fifo) -> None:
        """Join what shares a row; a row leaves when it is full or its block closes."""
        p, header = placed.p, headers.i.p
        row = len(rows.i.payload)
        kept, joined = Signal(row, name="kept"), Signal(row, name="joined")
        # A block that closes in a row it has just begun leaves two rows. The second, `kept`, goes a clock later; groups
        # of the next block pass it unless they fill a row themselves.
        closed, leaves = Signal(name="closed"), Signal(name="leaves")
        with m.If(~closed):
            m.d.comb += [
                joined.eq(p.bits[:row] | kept),
                rows.i.payload.eq(joined),
                rows.i.valid.eq(placed.valid & leaves & (headers.i.ready | ~p.closes)),
                headers.i.valid.eq(placed.valid & p.closes & rows.i.ready),
                placed.ready.eq((rows.i.ready & (headers.i.ready | ~p.closes)) | ~leaves),
            ]
        with m.Else():
            m.d.comb += [
                joined.eq(p.bits[:row]),
                rows.i.payload.eq(kept),
                rows.i.valid.eq(1),
                placed.ready.eq(rows.i.ready & ~leaves),
            ]
        m.d.comb += [
            leaves.eq(p.fills | p.closes),
            header.groups.eq(p.groups),
            header.passes.eq(p.passes),
            header.length.eq(p.length),
            header.last.eq(p.last),
        ]
        with m.If(placed.valid & placed.ready):
            m.d.sync += [
                kept.eq(Mux(p.fills, p.bits[row:], Mux(p.closes, 0, joined))),
                closed.eq(p.fills & p.spills & p.closes),
            ]
        with m.Elif(closed & rows.i.ready):
            m.d.sync += [kept.eq(0), closed.eq(0)]

    def _send(self, m: Module, rows: Fifo, headers: Fifo, o: stream.Interface) -> None:
        """Cut the rows into words and fill in the headers; count words to find the end of each block."""
        width = self.parameters.link_width
        header, row = headers.o.p, rows.o.payload
        n_words = len(row) // width
        first, at = Signal(init=1, name="first"), Signal(range(n_words), name="word_of_row")
        most = range(HEADER_WIDTH + BLOCK_GROUPS * self._code.longest + 1)
        left = Signal(most, name="bits_left")
        now, final, step = Signal(most, name="bits_now"), Signal(name="final"), Signal(name="send_step")
        filled = Cat(delta_marker(self.parameters, header.passes), header.groups, header.length)
        m.d.comb += [
            now.eq(Mux(first, header.length + HEADER_WIDTH, left)),
            final.eq(now <= width),
            step.eq(rows.o.valid & headers.o.valid & (~o.valid | o.ready)),
            rows.o.ready.eq(step & (final | (at == n_words - 1))),
            headers.o.ready.eq(step & final),
        ]
        with m.If(o.ready):
            m.d.sync += o.valid.eq(0)
        with m.If(step):
            m.d.sync += [
                o.valid.eq(1),
                o.p.data.eq(row.word_select(at, width) | Mux(first, filled, 0)),
                o.p.last.eq(final & header.last),
                first.eq(final),
                at.eq(Mux(final, 0, at + 1)),
                left.eq(now - width),
            ]
