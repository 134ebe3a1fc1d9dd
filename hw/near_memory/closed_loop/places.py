"""The vectors that an operation goes through, and what of a tensor each of them holds."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw.arith.bits import choose, multiply_constant, named
from hw.memory import Ram
from hw.part import Part
from hw.stream import Stage

INDEX_WIDTH = 33
"""Bits of a vector's number: no sum of steps is larger."""

POSITION_WIDTH = 24
"""Bits of a position; what lies beyond is no part of a tensor."""

CHANNEL_WIDTH = 16
"""Bits of a channel."""

_DIVIDEND_WIDTH = 32

_SKIP = 8
"""Zeros that a division passes in one clock."""


def walk() -> data.StructLayout:
    """Three loops over vectors, `rows` the outermost, and the tensor that these belong to; `rows` is 1 too few."""
    return data.StructLayout(
        {
            "first": 24,
            "rows": 8,
            "row_step": 24,
            "outer": 8,
            "outer_step": 16,
            "inner": 16,
            "inner_step": 16,
            "channels": CHANNEL_WIDTH,
            "positions": POSITION_WIDTH,
        }
    )


def place(parameters: Parameters) -> data.StructLayout:
    """A vector: its number, position and channel of its lane 0, and how many lanes from there on the tensor has.

    `begins` marks the first vector of a row, `end` the last one of all.
    """
    return data.StructLayout(
        {
            "index": INDEX_WIDTH,
            "position": POSITION_WIDTH,
            "channel": CHANNEL_WIDTH,
            "used": range(parameters.lanes + 1),
            "begins": 1,
            "end": 1,
        }
    )


_PLACE = {"position": POSITION_WIDTH, "beyond": 1, "rest": CHANNEL_WIDTH}
"""Quotient and remainder of a number of vectors; `beyond` marks a quotient that has more bits."""

_AT = data.StructLayout({"index": INDEX_WIDTH, **_PLACE})

_VECTOR = data.StructLayout({"at": _AT, "begins": 1, "end": 1})

_LOOPS = ("row", "outer", "inner")


class Places(Part):
    """Goes through the vectors ``first + row row_step + outer outer_step + inner inner_step`` of a tensor.

    The place of a vector is a quotient and a remainder: of its number by the vectors of a position, or, where there are
    fewer channels than lanes, of its elements by the channels. One divider finds that of `first` and of each step; a
    vector's is then the sum of two, with a carry.

    Latency: about 60 clocks from a walk to its first vector. Throughput: one vector in two clocks,
    and one more for each loop that begins.

    Members
    -------
    i : In(stream of `walk`)
        Loops of at least a turn each, a tensor of at least a channel. Taken when its last vector is.
    o : Out(stream of `place`)
        Vectors.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {"i": In(stream.Signature(walk())), "o": Out(stream.Signature(place(parameters)))}

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        modulus, walks = Signal(CHANNEL_WIDTH), Signal()
        narrow = named(m, "narrow", self.i.p.channels < self._parameters.lanes)
        # A step for each loop, and the first of all.
        m.submodules.steps = steps = Ram(_AT, len(_LOOPS) + 1, distributed=True)
        self._divide(m, narrow, modulus, walks, steps)
        vectors = self._walk(m, modulus, walks, steps)
        self._use(m, vectors, narrow)
        m.d.comb += self.i.ready.eq(self.o.valid & self.o.ready & self.o.p.end)
        return m

    def _divide(self, m: Module, narrow: Value, modulus: Signal, walks: Signal, steps: Ram) -> None:
        """Find `modulus`, the steps and their places; then `walks` is set."""
        n, i = self._parameters.lanes, self.i.p
        numbers = [i.row_step, i.outer_step, i.inner_step, i.first]
        whole = i.channels + (n - 1)
        divides_size = bool(n & (n - 1))
        if divides_size:
            numbers.insert(0, whole)
        dividend, rest = Signal(_DIVIDEND_WIDTH), Signal(CHANNEL_WIDTH)
        number, left = Signal(range(len(numbers))), Signal(range(_DIVIDEND_WIDTH + 1))
        value = choose(m, "number", number, numbers)
        with m.FSM(name="division"):
            with m.State("idle"):
                m.d.sync += number.eq(0)
                size = n if divides_size else Mux(narrow, i.channels, whole >> (n.bit_length() - 1))
                with m.If(self.i.valid):
                    m.d.sync += modulus.eq(size)
                    m.next = "load"
            with m.State("load"):
                scales = narrow & number.any() if divides_size else narrow
                scaled = Mux(scales, multiply_constant(value, n), value)
                m.d.sync += [dividend.eq(scaled), rest.eq(0), left.eq(_DIVIDEND_WIDTH)]
                m.next = "divide"
            with m.State("divide"):
                difference = Signal(signed(CHANNEL_WIDTH + 2))
                m.d.comb += difference.eq(Cat(dividend[-1], rest) - modulus)
                with m.If(left == 0):
                    m.d.sync += number.eq(number + 1)
                    m.next = "load"
                    m.d.comb += steps.write_enable.eq(1)
                    if divides_size:
                        with m.If(number == 0):
                            m.d.sync += modulus.eq(Mux(narrow, i.channels, dividend))
                    with m.If(number == len(numbers) - 1):
                        m.next = "walk"
                with m.Elif(~rest.any() & ~dividend[-_SKIP:].any() & (left >= _SKIP)):
                    m.d.sync += [dividend.eq(dividend << _SKIP), left.eq(left - _SKIP)]
                with m.Else():
                    m.d.sync += [
                        rest.eq(Mux(difference[-1], Cat(dividend[-1], rest), difference)),
                        dividend.eq(Cat(~difference[-1], dividend)),
                        left.eq(left - 1),
                    ]
            with m.State("walk"):
                m.d.comb += walks.eq(1)
                with m.If(self.i.ready):
                    m.next = "idle"
        m.d.comb += [
            steps.write_address.eq(number - divides_size),
            steps.write_data.index.eq(value),
            steps.write_data.position.eq(dividend),
            steps.write_data.beyond.eq(dividend[POSITION_WIDTH:].any()),
            steps.write_data.rest.eq(rest),
        ]

    def _walk(self, m: Module, modulus: Value, walks: Value, steps: Ram) -> stream.Interface:
        """The loops: a stream of vectors' numbers and places."""
        i = self.i.p
        o = stream.Signature(_VECTOR).create(path=("walked",))
        # Where each loop stands: its next turn goes on from there.
        m.submodules.at = at = Ram(_AT, len(_LOOPS), distributed=True)
        turns = [i.rows + 1, i.outer, i.inner]
        left = [Signal(len(turn), name=f"{name}_left") for name, turn in zip(_LOOPS, turns, strict=True)]
        over = [named(m, f"{name}_over", turn == 1) for name, turn in zip(_LOOPS, left, strict=True)]
        starts, first, row, outer = Signal(), Signal(), Signal(name="row_begins"), Signal(name="outer_begins")
        # The loop that goes on is the innermost one that is not over.
        row_next = named(m, "row_next", starts | (over[2] & over[1]))
        outer_next = named(m, "outer_next", row_next | over[2])
        loop = named(m, "loop", Mux(row_next, 0, Mux(outer_next, 1, 2)))

        base, step, following = at.read_data, steps.read_data, Signal(_AT, name="following")
        goes_on = ~first
        rest = named(m, "rest_sum", (base.rest & goes_on.replicate(CHANNEL_WIDTH)) + step.rest)
        carry = named(m, "carry", rest >= modulus)
        position = named(m, "position_sum", (base.position & goes_on.replicate(POSITION_WIDTH)) + step.position + carry)
        m.d.comb += [
            following.index.eq((base.index & goes_on.replicate(INDEX_WIDTH)) + step.index),
            following.position.eq(position),
            following.beyond.eq((base.beyond & goes_on) | step.beyond | position[POSITION_WIDTH:].any()),
            following.rest.eq(rest - Mux(carry, modulus, 0)),
            o.p.at.eq(following),
            o.p.begins.eq(row),
            o.p.end.eq(over[0] & over[1] & over[2]),
            at.read_address.eq(loop),
            steps.read_address.eq(Mux(starts, len(_LOOPS), loop)),
            at.write_data.eq(following),
        ]
        with m.FSM(name="loops"):
            with m.State("idle"):
                m.d.sync += [starts.eq(1), left[0].eq(turns[0] + 1)]
                with m.If(walks):
                    m.next = "choose"
            with m.State("choose"):
                m.d.comb += [at.read_enable.eq(1), steps.read_enable.eq(1)]
                m.d.sync += [
                    starts.eq(0),
                    first.eq(starts),
                    row.eq(row_next),
                    outer.eq(outer_next),
                    left[0].eq(left[0] - row_next),
                    left[1].eq(Mux(row_next, turns[1], left[1] - outer_next)),
                    left[2].eq(Mux(outer_next, turns[2], left[2] - 1)),
                ]
                m.next = "offer"
            with m.State("offer"):
                m.d.comb += [o.valid.eq(1), at.write_enable.eq(o.ready), at.write_address.eq(2)]
                with m.If(o.ready):
                    m.next = "choose"
                    with m.If(o.p.end):
                        m.next = "walked"
                    with m.Elif(outer):
                        m.next = "keep_outer"
            with m.State("keep_outer"):
                m.d.comb += [at.write_enable.eq(1), at.write_address.eq(1)]
                m.next = "choose"
                with m.If(row):
                    m.next = "keep_row"
            with m.State("keep_row"):
                m.d.comb += [at.write_enable.eq(1), at.write_address.eq(0)]
                m.next = "choose"
            with m.State("walked"):
                with m.If(~walks):
                    m.next = "idle"
        return o

    def _use(self, m: Module, vectors: stream.Interface, narrow: Value) -> None:
        """How many lanes of each vector the tensor has."""
        p, i, at = self._parameters, self.i.p, vectors.p.at
        n, lane_width = p.lanes, p.lane_width
        s = Stage.begin(m, vectors)
        s.index, s.position, s.begins, s.end = at.index, at.position, vectors.p.begins, vectors.p.end
        s.rest, s.beyond = at.rest, at.beyond

        s = s.cut()
        s.channel = Mux(narrow, s.rest, multiply_constant(s.rest, n))[:CHANNEL_WIDTH]
        s.left = (i.positions - s.position).as_signed()

        s = s.cut()
        s.outside = s.beyond | (s.left <= 0)
        s.tail = i.channels - s.channel
        # Elements of the positions that are left, if those are fewer than lanes; then both factors are small.
        channels, positions = i.channels[:lane_width], s.left[:lane_width]
        s.elements = sum(Mux(positions[bit], channels << bit, 0) for bit in range(lane_width)) - s.channel[:lane_width]
        s.many = s.left >= n

        s = s.cut()
        whole = Mux(narrow, s.many | (s.elements >= n), s.tail >= n)
        some = Mux(narrow, s.elements[: len(self.o.p.used)], s.tail[: len(self.o.p.used)])
        result = Signal(place(p), name="o_result")
        m.d.comb += [
            result.index.eq(s.index),
            result.position.eq(s.position),
            result.channel.eq(s.channel),
            result.used.eq(Mux(s.outside, 0, Mux(whole, n, some))),
            result.begins.eq(s.begins),
            result.end.eq(s.end),
        ]
        s.finish(self.o, result, depth=p.pipeline_depth)
