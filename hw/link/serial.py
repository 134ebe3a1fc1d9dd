"""What the serial decoders of the link share: bits of a block, and first digits that come plane by plane."""

from collections.abc import Callable

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from golden.parameters import EXPONENT_WIDTH, POISONED_GROUP
from hw.arith.bits import named, ones, unpack
from hw.link.bits import BitReader, amount_width
from hw.link.blocks import BLOCK_GROUPS, HEADER_WIDTH
from hw.link.delta_code import Code

MARKER_WIDTH = 8
"""Bits of a block's marker."""

GROUPS_WIDTH = (BLOCK_GROUPS - 1).bit_length()
"""Bits of a block's groups, minus 1."""

LENGTH_WIDTH = 18
"""Bits of a block's length."""


def plane_states(code: Code) -> dict[str, str]:
    """States of planes, in order, each with the state after it."""
    names = [f"plane{plane}" for plane in range(code.planes)]
    return dict(zip(names, [*names[1:], "rests" if code.rest_width else "signs"], strict=True))


class BlockDecoder:
    """States of a decoder, and what they work with, within its module.

    Every state but those of a header takes its bits *inside* a block: no more than the block has left, none past the
    end of the stream. Whatever is refused raises `error`, and nothing moves any more.

    Parameters
    ----------
    m : Module
        Module to add to.
    code : Code
        The code of first digits.
    reader : BitReader
        Where the bits come from.
    lanes, width : int
        Lanes of a step, bits of the window.
    error : Value
        Register that is raised.

    Attributes
    ----------
    moves : Value
        The bits of this state are taken at this clock edge.
    inside, refuses : Value
        Set by a state: its bits belong to the block; they are refused.
    left, groups_left : Value
        Bits of the block, and groups after this one.
    digits : Value
        Digits of the group, lane 0 lowest. A step takes those of the lowest lanes and puts them back at the top.
    """

    def __init__(self, m: Module, code: Code, reader: BitReader, lanes: int, width: int, error: Value):
        self._m, self._code, self._reader, self._lanes, self._width, self._error = m, code, reader, lanes, width, error
        p = code.parameters
        self._digit_width = p.digit_width
        self.left, self.groups_left = Signal(LENGTH_WIDTH, name="left"), Signal(GROUPS_WIDTH, name="groups_left")
        self.inside, self.refuses = Signal(name="inside"), Signal(name="refuses")
        self._amount, self._takes = Signal(amount_width(width), name="amount"), Signal(name="takes")
        low = len(self._amount)
        short = ~self.left[low:].any() & (self._amount > self.left[:low])
        ready = named(m, "ready", reader.ready | (reader.ended & self.inside))
        self.moves = named(m, "moves", self._takes & ready & ~error)
        m.d.comb += reader.take.eq(Mux(self.moves, self._amount, 0))
        with m.If(self.moves & (self.refuses | (self.inside & (short | reader.beyond)))):
            m.d.sync += error.eq(1)
        with m.If(self.moves & self.inside):
            m.d.sync += self.left.eq(self.left - self._amount)

        self.digits = Signal(p.lanes * p.digit_width, name="digits")
        steps = p.lanes // lanes
        self._step = Signal(range(steps), name="step")
        self._ends = named(m, "ends", self._step == steps - 1)
        self._now = [self.digits[lane * p.digit_width :][: p.digit_width] for lane in range(lanes)]
        self._mask = Signal(lanes, name="mask")
        self._bits = unpack(m, "plane", reader.window[:lanes], list(self._mask))
        self._counted = ones(m, "mask", list(self._mask))

    def receive(self, number: Value | int) -> None:
        """In a state: bits to take."""
        self._m.d.comb += [self._takes.eq(1), self._amount.eq(number)]

    def _turn(self, values: list[Value], following: str) -> None:
        """In a state: new digits of the lanes of this step."""
        m, k = self._m, self._digit_width
        with m.If(self.moves):
            above = self.digits[self._lanes * k :]
            m.d.sync += [
                self.digits.eq(Cat(above, *(Cat(value, Const(0, k))[:k] for value in values))),
                self._step.eq(Mux(self._ends, 0, self._step + 1)),
            ]
            with m.If(self._ends):
                m.next = following

    def header(self, marker: Value | int, begin: Callable[[], None]) -> None:
        """States from ``header`` to ``exponent``, which is the caller's; `begin` adds what a block begins with."""
        m, window, start = self._m, self._reader.window, MARKER_WIDTH + GROUPS_WIDTH
        with m.State("header"):
            begin()
            self.receive(min(self._width, HEADER_WIDTH))
            m.d.comb += self.refuses.eq(window[:MARKER_WIDTH] != marker)
            with m.If(self.moves):
                m.d.sync += [self.groups_left.eq(window[MARKER_WIDTH:start]), self.left.eq(window[start:])]
                m.next = "exponent" if self._width == HEADER_WIDTH else "length"
        if self._width < HEADER_WIDTH:
            with m.State("length"):
                self.receive(HEADER_WIDTH - self._width)
                with m.If(self.moves):
                    m.d.sync += self.left[self._width - start :].eq(window)
                    m.next = "exponent"

    def exponent(self, expected: Value) -> tuple[Value, Value, Value]:
        """Exponent code at the window, whether it is refused, and its bits."""
        window, none = self._reader.window, Const(POISONED_GROUP, EXPONENT_WIDTH)
        exponent, _, unknown = self._code.exponent(self._m, Cat(window[:10], Const(0, EXPONENT_WIDTH)), expected, none)
        return exponent, unknown, Mux(~window[0], 1, Mux(window[1] & window[2], 10, 3))

    def planes(self, following: str, instead: tuple[Value, str] | None = None) -> None:
        """States from ``plane0`` to the signs; then comes `following`, or the state of `instead` if its value holds."""
        m, rest, window = self._m, self._code.rest_width, self._reader.window
        for plane, (name, after) in enumerate(plane_states(self._code).items()):
            with m.State(name):
                # A height counts its planes; those of the planes before decide who has a bit in this one.
                heights = [digit[rest : rest + 2] for digit in self._now]
                m.d.comb += [self.inside.eq(1), self._mask.eq(Cat(height == plane for height in heights))]
                self.receive(self._counted)
                grown = zip(heights, self._bits, strict=True)
                self._turn([(height + bit)[:2] << rest for height, bit in grown], after)
        if rest:
            with m.State("rests"):
                m.d.comb += self.inside.eq(1)
                self.receive(self._lanes * rest)
                parts = [window[lane * rest : (lane + 1) * rest] for lane in range(self._lanes)]
                self._turn([Cat(part, digit[rest:]) for part, digit in zip(parts, self._now, strict=True)], "signs")
        with m.State("signs"):
            m.d.comb += [self.inside.eq(1), self._mask.eq(Cat(digit.any() for digit in self._now))]
            self.receive(self._counted)
            # Two's complement: a negative magnitude is inverted and one is added.
            signed = zip(self._now, self._bits, strict=True)
            self._turn([(digit ^ bit.replicate(self._digit_width)) + bit for digit, bit in signed], following)
            if instead is not None:
                with m.If(self.moves & self._ends & instead[0]):
                    m.next = instead[1]

    def finish(self, o: object) -> None:
        """In the state after a block's last group: what is left of the block, then the payload of `o`, then a header.

        The block's bits must be used up, and zeros lead to the end of the word, a chunk at a time.
        """
        m, reader = self._m, self._reader
        with m.If(~reader.boundary):
            m.d.comb += self.refuses.eq(self.left.any() | ~reader.clean)
            self.receive(self._width - reader.place)
        with m.Elif(self.left.any()):
            m.d.sync += self._error.eq(1)
        with m.Else():
            m.d.comb += o.valid.eq(~self._error)
            with m.If(o.valid & o.ready):
                m.next = "header"
