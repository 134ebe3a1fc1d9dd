"""Elements as they lie in memory, and position by position: there and back."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw import payloads
from hw.arith.bits import named
from hw.part import Part

_CHANNELS_WIDTH = 16
_POSITION_WIDTH = 32


def position_part(parameters: Parameters) -> data.StructLayout:
    """`payloads.element_part` of the channels of one position, padded with zeros to whole vectors.

    `used` tells the lanes that hold channels, `ends` marks the last part of a position.
    """
    part = payloads.element_part(parameters)
    return data.StructLayout({**part.members, "used": parameters.near_lanes, "ends": 1})


class _Walk(Part):
    """What both directions share: where in a position the part at hand stands."""

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "start": In(1),
            "wide": In(1),
            "channels": In(_CHANNELS_WIDTH),
            "positions": In(_POSITION_WIDTH),
            "done": Out(1),
        }

    @property
    def _parts(self) -> int:
        """Parts of a vector."""
        return self._parameters.lanes // self._parameters.near_lanes


class Spread(_Walk):
    """Parts of vectors in memory as parts of positions.

    A wide tensor passes, its padding made 0. Of any other, whose elements run on over positions, each position is
    filled up to vectors of its own. So it cuts rows into segments, too: then the positions are the segments.

    Throughput: one part per clock; one element, or one part of padding, per clock of what is not wide.

    Members
    -------
    start : In(1)
        Begin; what is given stays as it is until `done`.
    wide : In(1)
        Whether each position has vectors of its own already.
    channels : In(16)
        Of a position, at least 1.
    positions : In(32)
        How many; 0: without end.
    skip : In
        Elements that run on to leave out first.
    row : In(16)
        Elements that run on, a number of positions, until a new vector begins; 0: all of them.
    i : In(stream of array of u elements)
        Vectors, as they lie in memory; all that run on are taken to the end of the last one.
    o : Out(stream of `position_part`)
        Positions.
    done : Out(1)
        All have been given.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return super()._members(parameters) | {
            "skip": In(parameters.lane_width),
            "row": In(_CHANNELS_WIDTH),
            "i": In(stream.Signature(payloads.element_part(parameters)["values"].shape)),
            "o": Out(stream.Signature(position_part(parameters))),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        i, o, u = self.i, self.o, self._parameters.near_lanes
        walk = _Place(m, self)
        # Of the input: parts of its vector that were taken, elements of the part at hand.
        taken = Signal(range(self._parts))
        lane = Signal(range(u))
        skipped = Signal(self._parameters.lane_width)
        drops = Signal()
        # Of what runs on: elements of the part that is being made, and those of the row that are left.
        count = Signal(range(u))
        built = Signal(i.payload.shape())
        left = Signal(_CHANNELS_WIDTH, name="row_left")

        free = named(m, "free", ~o.valid | o.ready)
        skips = named(m, "skips", ~self.wide & (skipped != self.skip))
        pads = named(m, "pads", ~self.wide & (walk.rest == 0))
        full = named(m, "full", self.wide | pads | (count == u - 1) | (walk.rest == 1))
        moves = named(m, "moves", walk.active & ~drops & (skips | ~full | free) & (pads | i.valid))
        emits = named(m, "emits", moves & full & ~skips)
        takes_element = named(m, "takes_element", moves & ~self.wide & ~pads)
        dropping = named(m, "dropping", drops & ((lane != 0) | (taken != 0)))
        m.d.comb += i.ready.eq(Mux(self.wide, emits, takes_element & (lane == u - 1)) | dropping)
        element = named(m, "element", i.payload[lane])

        with m.If(o.ready):
            m.d.sync += o.valid.eq(0)
        with m.If(emits):
            used = Cat(Mux(self.wide, walk.rest > index, ~pads & (count >= index)) for index in range(u))
            m.d.sync += [o.valid.eq(1), o.p.used.eq(used), o.p.last.eq(walk.last), o.p.ends.eq(walk.ends)]
            for index, value in enumerate(o.p["values"]):
                narrow = Mux(count == index, element, built[index])
                m.d.sync += value.eq(Mux(used[index], Mux(self.wide, i.payload[index], narrow), 0))
        with m.If(takes_element):
            m.d.sync += lane.eq(Mux(lane == u - 1, 0, lane + 1))
            with m.If(skips):
                m.d.sync += skipped.eq(skipped + 1)
            with m.Else():
                m.d.sync += [built[count].eq(element), count.eq(Mux(full, 0, count + 1))]
                m.d.sync += left.eq(Mux(left == 1, self.row, left - 1))
                with m.If((left == 1) & self.row.any()):
                    m.d.sync += drops.eq(1)
        with m.If(i.valid & i.ready):
            m.d.sync += taken.eq(Mux(taken == self._parts - 1, 0, taken + 1))
        with m.If(dropping & i.valid):
            m.d.sync += lane.eq(0)
        with m.If(drops & ~dropping):
            m.d.sync += [drops.eq(0), self.done.eq(~walk.active)]
        with m.If(emits & walk.ends & (walk.left == 1)):
            m.d.sync += drops.eq(1)
        with m.If(self.start):
            m.d.sync += [self.done.eq(0), skipped.eq(0), left.eq(self.row)]
        walk.move(m, part=emits, channels=Mux(self.wide, emits, takes_element & ~skips))
        return m


class Gather(_Walk):
    """Parts of positions as parts of vectors in memory: the inverse of `Spread`.

    What is left of the last vector of a narrow tensor is 0.

    Throughput: one part per clock; one element, or one part of padding, per clock of a narrow tensor.

    Members
    -------
    start, wide, channels, positions, done
        As those of `Spread`; the first element is the first of a vector.
    i : In(stream of `payloads.element_part`)
        Positions.
    o : Out(stream of array of u elements)
        Vectors.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        part = payloads.element_part(parameters)
        return super()._members(parameters) | {
            "i": In(stream.Signature(part)),
            "o": Out(stream.Signature(part["values"].shape)),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        i, o, u = self.i, self.o, self._parameters.near_lanes
        walk = _Place(m, self)
        # Of the output: parts of its vector that were given, elements of the part that is being made.
        given = Signal(range(self._parts))
        count = Signal(range(u))
        built = Signal(o.payload.shape())
        lane = Signal(range(u))
        fills = Signal()

        free = named(m, "free", ~o.valid | o.ready)
        pads = named(m, "pads", ~self.wide & (walk.rest == 0))
        full = named(m, "full", self.wide | (~pads & (count == u - 1)))
        moves = named(m, "moves", walk.active & i.valid & (free | ~full))
        takes_element = named(m, "takes_element", moves & ~self.wide & ~pads)
        ends_part = named(m, "ends_part", self.wide | pads | (lane == u - 1) | (walk.rest == 1))
        filling = named(m, "filling", fills & ((given != 0) | (count != 0)))
        flushes = named(m, "flushes", filling & free)
        emits = named(m, "emits", (moves & full) | flushes)
        m.d.comb += i.ready.eq(moves & ends_part)
        element = named(m, "element", i.p["values"][lane])

        with m.If(o.ready):
            m.d.sync += o.valid.eq(0)
        with m.If(emits):
            m.d.sync += [o.valid.eq(1), given.eq(Mux(given == self._parts - 1, 0, given + 1))]
            for index, value in enumerate(o.payload):
                narrow = Mux(count > index, built[index], Mux((count == index) & ~fills, element, 0))
                m.d.sync += value.eq(Mux(self.wide, i.p["values"][index], narrow))
        with m.If(takes_element):
            m.d.sync += [lane.eq(Mux(ends_part, 0, lane + 1)), built[count].eq(element)]
            m.d.sync += count.eq(Mux(full, 0, count + 1))
        with m.If(flushes):
            m.d.sync += count.eq(0)
        with m.If(fills & ~filling & ~o.valid):
            m.d.sync += [fills.eq(0), self.done.eq(1)]
        with m.If(i.valid & i.ready & walk.ends & (walk.left == 1)):
            m.d.sync += fills.eq(1)
        with m.If(self.start):
            m.d.sync += self.done.eq(0)
        walk.move(m, part=i.valid & i.ready, channels=Mux(self.wide, moves, takes_element))
        return m


class _Place:
    """Where a walk stands: the position, its channel, the part of its vector.

    Members
    -------
    active : Signal
        Positions are left.
    left : Signal
        How many, this one included.
    rest : Signal
        Channels of this one that are left.
    last, ends : Value
        Whether this part is the last of its vector, of its position.
    """

    def __init__(self, m: Module, walk: _Walk):
        self._walk = walk
        self.active, self.left = Signal(name="active"), Signal(_POSITION_WIDTH, name="left")
        self.rest = Signal(_CHANNELS_WIDTH, name="rest")
        self._part = Signal(range(walk._parts), name="part")
        self.last = named(m, "last", self._part == walk._parts - 1)
        # Channels that it moves by at a time.
        self._step = named(m, "step", Mux(walk.wide, walk._parameters.near_lanes, 1))
        self._final = named(m, "final", self.rest <= self._step)
        self.ends = named(m, "ends", self.last & self._final)

    def move(self, m: Module, *, part: Value, channels: Value) -> None:
        """Past a part in this clock, or its channels, or both; begin where the walk starts."""
        walk = self._walk
        with m.If(channels):
            m.d.sync += self.rest.eq(Mux(self._final, 0, self.rest - self._step))
        with m.If(part):
            m.d.sync += self._part.eq(Mux(self.last, 0, self._part + 1))
            with m.If(self.ends):
                m.d.sync += [self.rest.eq(walk.channels), self.left.eq(self.left - 1), self.active.eq(self.left != 1)]
        with m.If(walk.start):
            m.d.sync += [self.active.eq(1), self.left.eq(walk.positions), self.rest.eq(walk.channels)]
