"""The vectors that an operation goes through, and what of a tensor each of them holds."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw.arith.bits import choose, multiply_constant, named
from hw.near_memory.part import Part
from hw.stream import Stage

__all__ = ["CHANNEL_WIDTH", "INDEX_WIDTH", "POSITION_WIDTH", "Places", "place", "walk"]

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

    Latency: about 60 clocks from a walk to its first vector. Throughput: one vector in two clocks.

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
        found = self._divide(m, narrow, modulus, walks)
        vectors = self._walk(m, found, modulus, walks)
        self._use(m, vectors, narrow)
        m.d.comb += self.i.ready.eq(self.o.valid & self.o.ready & self.o.p.end)
        return m

    def _divide(self, m: Module, narrow: Value, modulus: Signal, walks: Signal) -> list[data.View]:
        """Places of `first` and of the steps, in the order of the loops; sets `modulus`, then `walks`."""
        n, i = self._parameters.lanes, self.i.p
        numbers = [i.first, i.row_step, i.outer_step, i.inner_step]
        found = [Signal(data.StructLayout(_PLACE), name=f"found{index}") for index in range(len(numbers))]
        whole = i.channels + (n - 1)
        divides_size = bool(n & (n - 1))
        if divides_size:
            numbers.insert(0, whole)
        dividend, rest = Signal(_DIVIDEND_WIDTH), Signal(CHANNEL_WIDTH)
        number, left = Signal(range(len(numbers))), Signal(range(_DIVIDEND_WIDTH + 1))
        with m.FSM(name="division"):
            with m.State("idle"):
                m.d.sync += number.eq(0)
                size = n if divides_size else Mux(narrow, i.channels, whole >> (n.bit_length() - 1))
                with m.If(self.i.valid):
                    m.d.sync += modulus.eq(size)
                    m.next = "load"
            with m.State("load"):
                value = choose(m, "number", number, numbers)
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
                    with m.Switch(number):
                        for place, index in zip(found, range(divides_size, len(numbers)), strict=True):
                            with m.Case(index):
                                m.d.sync += [
                                    place.position.eq(dividend),
                                    place.beyond.eq(dividend[POSITION_WIDTH:].any()),
                                    place.rest.eq(rest),
                                ]
                        if divides_size:
                            with m.Case(0):
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
        return found

    def _walk(self, m: Module, found: list[data.View], modulus: Value, walks: Value) -> stream.Interface:
        """The loops: a stream of vectors' numbers and places."""
        i = self.i.p
        o = stream.Signature(_VECTOR).create(path=("walked",))
        # Where each loop stands: its next turn goes on from there.
        at = [Signal(_AT, name=f"{name}_at") for name in _LOOPS]
        turns = [i.rows + 1, i.outer, i.inner]
        left = [Signal(len(turn), name=f"{name}_left") for name, turn in zip(_LOOPS, turns, strict=True)]
        over = [named(m, f"{name}_over", turn == 1) for name, turn in zip(_LOOPS, left, strict=True)]
        starts, row, outer = Signal(), Signal(name="row_begins"), Signal(name="outer_begins")
        # The loop that goes on is the innermost one that is not over.
        row_next = named(m, "row_next", starts | (over[2] & over[1]))
        outer_next = named(m, "outer_next", row_next | over[2])

        def chosen(name: str, values: list[Value]) -> Value:
            """Of the values of three loops that of the one that goes on."""
            return named(m, f"{name}_chosen", Mux(row_next, values[0], Mux(outer_next, values[1], values[2])))

        base, step, following = (Signal(_AT, name=name) for name in ("base", "step", "following"))
        numbers = [Mux(starts, i.first, i.row_step), i.outer_step, i.inner_step]
        steps = {"index": numbers}
        for name in _PLACE:
            steps[name] = [Mux(starts, found[0][name], found[1][name]), *(one[name] for one in found[2:])]
        rest = named(m, "rest_sum", base.rest + step.rest)
        carry = named(m, "carry", rest >= modulus)
        position = named(m, "position_sum", base.position + step.position + carry)
        m.d.comb += [
            following.index.eq(base.index + step.index),
            following.position.eq(position),
            following.beyond.eq(base.beyond | step.beyond | position[POSITION_WIDTH:].any()),
            following.rest.eq(rest - Mux(carry, modulus, 0)),
            o.p.at.eq(following),
            o.p.begins.eq(row),
            o.p.end.eq(over[0] & over[1] & over[2]),
        ]
        with m.FSM(name="loops"):
            with m.State("idle"):
                m.d.sync += [starts.eq(1), left[0].eq(turns[0] + 1)]
                with m.If(walks):
                    m.next = "choose"
            with m.State("choose"):
                for name in _AT.members:
                    m.d.sync += [
                        base[name].eq(Mux(starts, 0, chosen(f"{name}_base", [one[name] for one in at]))),
                        step[name].eq(chosen(f"{name}_step", steps[name])),
                    ]
                m.d.sync += [
                    starts.eq(0),
                    row.eq(row_next),
                    outer.eq(outer_next),
                    left[0].eq(left[0] - row_next),
                    left[1].eq(Mux(row_next, turns[1], left[1] - outer_next)),
                    left[2].eq(Mux(outer_next, turns[2], left[2] - 1)),
                ]
                m.next = "offer"
            with m.State("offer"):
                m.d.comb += o.valid.eq(1)
                with m.If(o.ready):
                    m.d.sync += at[2].eq(following)
                    with m.If(outer):
                        m.d.sync += at[1].eq(following)
                    with m.If(row):
                        m.d.sync += at[0].eq(following)
                    m.next = "choose"
                    with m.If(o.p.end):
                        m.next = "walked"
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
