"""Checks of a stream's blocks: what puts them in, and what takes them out."""

import functools

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import crc, data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw.arith.bits import named
from hw.link.blocks import BLOCK_GROUPS, HEADER_WIDTH
from hw.stream import Fifo

CHECK_WIDTH = 16
"""Bits of a check."""

ALGORITHM = crc.Algorithm(
    crc_width=CHECK_WIDTH,
    polynomial=0x002D,
    initial_crc=0,
    reflect_input=True,
    reflect_output=True,
    xor_output=0,
)
"""``x^16 + x^5 + x^3 + x^2 + 1`` over bits in order of transmission, of which bit 0 of a word is the first."""

_REFUSED = 0b0111
"""``1110``, first bit first: no block begins with such a group."""

_LEFT_WIDTH = 19
"""Bits of what is left of a block, in bits."""


def sound_header(header: Value, marker: Value, longest: int) -> Value:
    """Whether 32 bits are the header of a block that can be.

    Parameters
    ----------
    header : Value
        The bits.
    marker : Value
        The stream's marker, 8 bits.
    longest : int
        Bits of the longest group.
    """
    groups, length = header[8:14] + 1, header[14:HEADER_WIDTH]
    most = sum((groups << bit for bit in range(longest.bit_length()) if longest >> bit & 1), Const(0, 1))
    return (header[:8] == marker) & (length >= groups) & (length <= most)


@functools.cache
def _columns(width: int) -> list[int]:
    """Check of each word of `width` bits with a single one."""
    return [ALGORITHM(width).compute([1 << place]) for place in range(width)]


def _remainder(bits: Value) -> Value:
    """Check of a word; of all since a beginning, if the check of what came before is added to the word."""
    columns = _columns(len(bits))
    return Cat(
        Cat(bit for bit, column in zip(bits, columns, strict=True) if column >> place & 1).xor()
        for place in range(CHECK_WIDTH)
    )


def with_checks(m: Module, parameters: Parameters, words: stream.Interface) -> stream.Interface:
    """`words` with the checks of their blocks, if the link has them."""
    if not parameters.link_checks:
        return words
    m.submodules.checks = checks = CheckWriter(parameters.link_width)
    wiring.connect(m, words, checks.i)
    return checks.o


def without_checks(
    m: Module, parameters: Parameters, words: stream.Interface, marker: Value, longest: int
) -> stream.Interface:
    """`words` without the checks of their blocks, if the link has them; see `CheckReader`."""
    if not parameters.link_checks:
        return words
    m.submodules.checks = checks = CheckReader(parameters.link_width, longest)
    wiring.connect(m, words, checks.i)
    m.d.comb += checks.marker.eq(marker)
    return checks.o


def _words(width: int) -> stream.Signature:
    return stream.Signature(data.StructLayout({"data": width, "last": 1}))


def _width(width: int) -> int:
    if width < HEADER_WIDTH:
        raise ValueError(f"width must be at least {HEADER_WIDTH}, not {width}")
    return width


class CheckWriter(wiring.Component):
    """Puts the checks into blocks: one behind the header, one at the end.

    ::

        header | payload, zeros   ->   header | check | payload, zeros | check

    Latency: 1 clock.
    Throughput: one word per clock; a block that grows by a word takes one clock more.
    Numerics: ``docs/formats.md``, checks.

    Parameters
    ----------
    width : int
        Bits of a word, at least 32.

    Members
    -------
    i : In(stream of data, and last)
        Words of blocks without checks; `last` ends a stream.
    o : Out(stream of data, and last)
        Words of blocks with checks.

    Raises
    ------
    ValueError
        If `width` is below 32.
    """

    latency = 1

    def __init__(self, width: int):
        self._width = _width(width)
        super().__init__({"i": In(_words(width)), "o": Out(_words(width))})

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        width, o = self._width, self.o
        narrow = width == HEADER_WIDTH
        header_check, check = Signal(CHECK_WIDTH), Signal(CHECK_WIDTH)

        # The word at hand is that of the plain block, or none where only the check has no room in the block's last one.
        first, spare, spare_last = Signal(init=1), Signal(), Signal()
        word = named(m, "word", Mux(spare, 0, self.i.p.data))
        last = named(m, "last", Mux(spare, spare_last, self.i.p.last))
        left = Signal(_LEFT_WIDTH)
        now = named(m, "now", Mux(first, word[14:HEADER_WIDTH] + (HEADER_WIDTH + 2 * CHECK_WIDTH), left))
        final = named(m, "final", now <= width)
        grows = named(m, "grows", ~final & (now <= width + 2 * CHECK_WIDTH))
        free = named(m, "free", ~o.valid | o.ready)
        step = named(m, "step", (self.i.valid | spare) & free)
        m.d.comb += self.i.ready.eq(~spare & free)

        # Words with checks lag behind by 16 bits, and the second check goes over what lies 16 more behind them.
        held, sent = Signal(2 * CHECK_WIDTH), Signal(width)
        header, payload = word[:HEADER_WIDTH], word[HEADER_WIDTH:]
        behind = Mux(first, Cat(Const(0, 2 * HEADER_WIDTH), payload)[:width], Cat(held, word)[:width])
        # The header's check follows in the same word, or begins the next one.
        header_check_next, check_next = Signal(), Signal()
        after_first = Signal()
        with m.If(o.ready):
            m.d.sync += o.valid.eq(0)
        with m.If(step):
            m.d.sync += [
                o.valid.eq(1),
                o.p.last.eq(final & last),
                sent.eq(
                    Mux(
                        first,
                        Cat(header, Const(0, CHECK_WIDTH), payload)[:width],
                        Cat(held[CHECK_WIDTH:], word)[:width],
                    )
                ),
                held.eq(Mux(first, 0, word[-HEADER_WIDTH:]) if narrow else word[-HEADER_WIDTH:]),
                check.eq(_remainder(named(m, "checked", behind ^ Mux(first, 0, check)))),
                left.eq(now - width),
                first.eq(final),
                after_first.eq(first),
                spare.eq(grows),
                spare_last.eq(last),
                header_check_next.eq(after_first if narrow else first),
                check_next.eq(final),
            ]
            with m.If(first):
                m.d.sync += header_check.eq(_remainder(header))
        m.d.comb += o.p.data.eq(
            sent
            | Mux(header_check_next, header_check << (0 if narrow else HEADER_WIDTH), 0)
            | Mux(check_next, check << (width - CHECK_WIDTH), 0)
        )
        return m


class CheckReader(wiring.Component):
    """Takes the checks out of blocks, each of which it holds until they are known.

    What is damaged leaves so that any decoder refuses it. A word in no block is a word of zeros. A block whose second
    check fails, or in which its stream ends, keeps its header, and its first group is one that no block begins with:
    all groups that it announces are poisoned then.

    ::

        i -> sort, shift -> words of a block -> words, or zeros -> o
                 |                                   |
                 +------------> verdicts ------------+

    Latency: 4 clocks from a block's last word to its first one.
    Throughput: one word per clock; a block, and a word in none, takes one clock more.
    Numerics: ``docs/formats.md``, checks.

    Parameters
    ----------
    width : int
        Bits of a word, at least 32.
    longest : int
        Bits of the longest group.

    Members
    -------
    i : In(stream of data, and last)
        Words of blocks with checks; `last` ends a stream.
    marker : In(8)
        Of the stream, constant while the unit holds one.
    o : Out(stream of data, and last)
        Words of blocks without checks.

    Raises
    ------
    ValueError
        If `width` is below 32.
    """

    latency = 4

    def __init__(self, width: int, longest: int):
        self._width, self._longest = _width(width), longest
        super().__init__({"i": In(_words(width)), "marker": In(8), "o": Out(_words(width))})

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        width, i = self._width, self.i
        narrow = width == HEADER_WIDTH
        block_words = -(-(HEADER_WIDTH + BLOCK_GROUPS * self._longest) // width)
        header_check, check = Signal(CHECK_WIDTH), Signal(CHECK_WIDTH)
        # The longest block, and what comes while its verdict is on its way.
        rows = 1 << (block_words + 2 * self.latency - 1).bit_length()
        m.submodules.words = words = Fifo(data.StructLayout({"data": width, "final": 1}), rows)
        m.submodules.verdicts = verdicts = Fifo(data.StructLayout({"intact": 1, "last": 1}), 4)

        # The word at hand; what is known of it as a header is found out on the way into its register.
        word, last, valid, plausible = Signal(width), Signal(), Signal(), Signal()
        step = Signal()
        m.d.comb += i.ready.eq(~valid | step)
        with m.If(i.ready):
            m.d.sync += [
                valid.eq(i.valid),
                word.eq(i.p.data),
                last.eq(i.p.last),
                header_check.eq(_remainder(i.p.data[:HEADER_WIDTH])),
                plausible.eq(sound_header(i.p.data[:HEADER_WIDTH], self.marker, self._longest)),
            ]

        # Bits of the block from this word on, checks included.
        left, inside, second = Signal(_LEFT_WIDTH), Signal(), Signal()
        found = i.p.data[:CHECK_WIDTH] if narrow else word[HEADER_WIDTH:][:CHECK_WIDTH]
        sound = named(m, "sound", plausible & (found == header_check) & (~last if narrow else 1))
        known = named(m, "known", inside | sound)
        now = named(m, "now", Mux(inside, left, word[14:HEADER_WIDTH] + (HEADER_WIDTH + 2 * CHECK_WIDTH)))
        whole = named(m, "whole", now <= width)
        ends = named(m, "ends", ~known | whole | last)
        # A word is shifted into the next one's place: it must be there, unless nothing of it is wanted.
        alone = named(m, "alone", last | ((inside if narrow else 1) & (~known | whole)))
        following = Mux(ends, 0, i.p.data[:CHECK_WIDTH])
        own = named(m, "own", word & ~Mux(whole, Const(0xFFFF << (width - CHECK_WIDTH), width), 0))
        behind_header = word if narrow else Cat(own[:HEADER_WIDTH], own[HEADER_WIDTH + CHECK_WIDTH :], following)
        plain = named(m, "plain", Mux(inside, Cat(own[CHECK_WIDTH:], following), behind_header))
        header = Const((1 << HEADER_WIDTH + CHECK_WIDTH) - 1)
        unchecked = named(m, "unchecked", Mux(inside, Mux(second, header >> width, 0), header))
        checked = named(m, "checked", (word & ~Cat(unchecked, Const(0, width))[:width]) ^ Mux(inside, check, 0))
        closing = Signal(data.StructLayout({"valid": 1, "whole": 1, "last": 1}))
        m.d.comb += [
            step.eq(valid & words.i.ready & ~closing.valid & (alone | i.valid)),
            words.i.valid.eq(step & (~known | (now > 2 * CHECK_WIDTH))),
            words.i.p.data.eq(Mux(known, plain, 0)),
            words.i.p.final.eq(ends | (now <= width + 2 * CHECK_WIDTH)),
            verdicts.i.valid.eq(closing.valid),
            verdicts.i.p.intact.eq(closing.whole & ~check.any()),
            verdicts.i.p.last.eq(closing.last),
        ]
        with m.If(step):
            m.d.sync += [
                check.eq(_remainder(checked)),
                inside.eq(~ends),
                second.eq(~inside),
                left.eq(now - width),
                closing.valid.eq(ends),
                closing.whole.eq(known & whole),
                closing.last.eq(last),
            ]
        with m.Elif(verdicts.i.ready):
            m.d.sync += closing.valid.eq(0)

        # What leaves.
        o, w = self.o, words.o.p
        first, follows_first = Signal(init=1), Signal()
        moves = named(m, "moves", o.valid & o.ready)
        spoilt = Mux(first, w.data[:HEADER_WIDTH], Mux(follows_first, _REFUSED, 0) if narrow else 0)
        if not narrow:
            spoilt = Cat(spoilt[:HEADER_WIDTH], Mux(first, _REFUSED, 0))
        m.d.comb += [
            o.valid.eq(words.o.valid & verdicts.o.valid),
            o.p.data.eq(Mux(verdicts.o.p.intact, w.data, spoilt)),
            o.p.last.eq(w.final & verdicts.o.p.last),
            words.o.ready.eq(o.ready & verdicts.o.valid),
            verdicts.o.ready.eq(moves & w.final),
        ]
        with m.If(moves):
            m.d.sync += [first.eq(w.final), follows_first.eq(first)]
        return m
