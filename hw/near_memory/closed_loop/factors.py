"""The tables of a combine: places and factors of its terms, its limits."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw.arith.bits import below_power, choose, filled, in_range, multiply_constant, named
from hw.memory import Ram
from hw.near_memory.closed_loop.terms import FACTOR_WIDTH, PLACES_WIDTH, SPREAD, TERMS
from hw.near_memory.closed_loop.vector_walk import walked_vector
from hw.near_memory.part import Part
from hw.stream import Stage

__all__ = ["CHANNEL", "ELEMENT", "ENTRY_WIDTH", "ONE", "POSITION", "Factors", "factor_part"]

ENTRY_WIDTH = 32

ONE, CHANNEL, POSITION, ELEMENT = range(4)
"""What a factor is for, by number."""

_PLACES_MAX = 44


def factor_part(parameters: Parameters) -> data.StructLayout:
    """Factors of a part, of the term that has a table; lanes that are no padding.

    `last` ends a vector, `end` the last one of all.
    """
    u = parameters.near_lanes
    return data.StructLayout({"table": data.ArrayLayout(signed(FACTOR_WIDTH), u), "used": u, "last": 1, "end": 1})


class Factors(Part):
    """Takes the tables of a combine, entry by entry, and gives the factors of each part.

    Entries come so: of each term h, and its factor if it has but one; two limits, if there are any; the factors of all
    channels, if the one term with a table has such. Then, for the vectors in their order, what a table holds of each
    position that begins, or of each element.

    Throughput: a part a clock; two clocks an element where elements have factors of their own, or where positions or
    channels have and are fewer than lanes.

    Members
    -------
    start : In(1)
        Begin; what is given stays as it is until the last part.
    terms : In(2)
        How many, 1 to 3.
    product : In(1)
        Whether it is a product: only h of the first term is there.
    table : In(3)
        Which terms have a table; one at most.
    kind : In(2)
        What its factors are for.
    clamped : In(1)
        Whether there are limits.
    channels : In(16)
        Of a position; at most ``norm_buffer`` where they have factors.
    entries : In(stream of 32 bits)
        Tables.
    vectors : In(stream of `vector_walk.walked_vector`)
        Vectors.
    o : Out(stream of `factor_part`)
        Factors of every part.
    constants : Out(array)
        The one factor of each term.
    shifts, places, low, high : Out
        As `Terms` takes them.
    fault : Out(1)
        An entry breaks a rule; stays so.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        state = signed(parameters.state_width)
        return {
            "start": In(1),
            "terms": In(2),
            "product": In(1),
            "table": In(TERMS),
            "kind": In(2),
            "clamped": In(1),
            "channels": In(16),
            "entries": In(stream.Signature(ENTRY_WIDTH)),
            "vectors": In(stream.Signature(walked_vector(parameters))),
            "o": Out(stream.Signature(factor_part(parameters))),
            "constants": Out(data.ArrayLayout(signed(FACTOR_WIDTH), TERMS)),
            "shifts": Out(data.ArrayLayout(SPREAD.bit_length(), TERMS)),
            "places": Out(signed(PLACES_WIDTH)),
            "low": Out(state),
            "high": Out(state),
            "fault": Out(1),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        u = self._parameters.near_lanes
        entry = named(m, "entry", self.entries.payload.as_signed())
        cursor = _Cursor(m, u, -(-self._parameters.norm_buffer // u), self.channels)
        rams = []
        for lane in range(u):
            m.submodules[f"lane{lane}"] = ram = Ram(signed(FACTOR_WIDTH), cursor.rows)
            rams.append(ram)
        goes = self._heads(m, entry, cursor, rams)
        self._give(m, entry, cursor, rams, goes)
        return m

    def _check(self, m: Module, holds: Value) -> None:
        """Raise `fault` unless a rule holds."""
        with m.If(~holds):
            m.d.sync += self.fault.eq(1)

    def _heads(self, m: Module, entry: Value, cursor: "_Cursor", rams: list[Ram]) -> Value:
        """Take what comes before the first vector; returns whether all of it is there and sound."""
        top = (1 << self._parameters.state_width - 1) - 1
        entries, goes, fills = self.entries, Signal(name="goes"), Signal(name="fills")
        number = Signal(range(TERMS), name="number")
        places = Signal(data.ArrayLayout(signed(PLACES_WIDTH), TERMS), name="term_places")
        low, high = self.low, self.high
        for index, ram in enumerate(rams):
            m.d.comb += [
                ram.write_enable.eq(fills & (cursor.lane == index)),
                ram.write_address.eq(cursor.row),
                ram.write_data.eq(entry),
            ]

        def end_term() -> None:
            m.d.sync += number.eq(number + 1)
            with m.If(~self.product & (number != self.terms - 1)):
                m.next = "places"
            with m.Elif(self.clamped):
                m.next = "low"
            with m.Else():
                m.next = "table"

        with m.FSM():
            with m.State("idle"):
                m.d.comb += goes.eq(~self.fault & ~self.start)
                with m.If(self.start):
                    m.d.sync += [number.eq(0), low.eq(-top), high.eq(top)]
                    m.next = "places"
            with m.State("places"):
                m.d.comb += entries.ready.eq(1)
                with m.If(entries.valid):
                    # Terms that there are not differ by no place.
                    for index in range(TERMS):
                        with m.If((number == index) | (number == 0)):
                            m.d.sync += places[index].eq(entry)
                    with m.If(self.product):
                        self._check(m, below_power(entry, PLACES_WIDTH - 1))
                    with m.Else():
                        self._check(m, in_range(entry, 0, _PLACES_MAX))
                    with m.If(~self.product & ~self.table.bit_select(number, 1)):
                        m.next = "factor"
                    with m.Else():
                        end_term()
            with m.State("factor"):
                m.d.comb += entries.ready.eq(1)
                with m.If(entries.valid):
                    m.d.sync += self.constants[number].eq(entry)
                    self._check(m, below_power(entry, FACTOR_WIDTH - 1))
                    end_term()
            with m.State("low"):
                m.d.comb += entries.ready.eq(1)
                m.d.sync += low.eq(entry)
                with m.If(entries.valid):
                    self._check(m, below_power(entry, self._parameters.state_width - 1))
                    m.next = "high"
            with m.State("high"):
                m.d.comb += entries.ready.eq(1)
                m.d.sync += high.eq(entry)
                with m.If(entries.valid):
                    self._check(m, below_power(entry, self._parameters.state_width - 1))
                    m.next = "table"
            with m.State("table"):
                m.d.comb += entries.ready.eq(self.kind == CHANNEL)
                m.d.comb += fills.eq(entries.valid & entries.ready)
                with m.If(fills):
                    self._check(m, below_power(entry, FACTOR_WIDTH - 1))
                    cursor.move(m)
                with m.If((self.kind != CHANNEL) | (fills & cursor.last)):
                    m.next = "most"
            with m.State("most"):
                most = places[0]
                for other in list(places)[1:]:
                    most = Mux(most > other, most, other)
                m.d.sync += self.places.eq(most)
                with m.If(low > high):
                    m.d.sync += self.fault.eq(1)
                m.next = "shifts"
            with m.State("shifts"):
                for one, shift in zip(places, self.shifts, strict=True):
                    m.d.sync += shift.eq(self.places - one)
                    with m.If(self.places - one > SPREAD):
                        m.d.sync += self.fault.eq(1)
                m.next = "settle"
            with m.State("settle"):
                # A fault of the last check is seen before anything goes.
                m.next = "idle"
        return goes

    def _give(self, m: Module, entry: Value, cursor: "_Cursor", rams: list[Ram], goes: Value) -> None:
        """Give the factors of each part, with what the table holds."""
        u, parts, factor = (
            self._parameters.near_lanes,
            self._parameters.lanes // self._parameters.near_lanes,
            signed(FACTOR_WIDTH),
        )
        vector, entries, kind = self.vectors.p, self.entries, self.kind
        wide = named(m, "wide", self.channels >= self._parameters.lanes)
        one_by_one = named(m, "one_by_one", (kind == ELEMENT) | (~wide & (kind != ONE)))
        fed = stream.Signature(0).create(path=("fed",))
        part = Signal(range(parts))
        # The factor of this position, and whether it has come; those of this part's elements, and how many have.
        held = Signal(factor)
        served = Signal()
        built = Signal(data.ArrayLayout(factor, u))
        place = Signal(range(u))
        complete = Signal()
        # Whether the RAM has been read for the element at hand.
        read = Signal()

        here = named(m, "here", goes & self.vectors.valid)
        lacks = named(m, "lacks", (kind == POSITION) & ~served & Mux(wide, vector.turns, cursor.channel == 0))
        builds = named(m, "builds", here & one_by_one & ~complete)
        takes = named(m, "takes", builds & ~lacks & read & ((kind != ELEMENT) | entries.valid))
        asks = named(m, "asks", here & lacks & (builds | ~one_by_one))
        last = named(m, "last", part == parts - 1)
        moves = named(m, "moves", fed.valid & fed.ready)
        m.d.comb += [
            fed.valid.eq(here & Mux(one_by_one, complete, ~lacks)),
            self.vectors.ready.eq(moves & last),
        ]
        with m.If(asks | (takes & (kind == ELEMENT))):
            m.d.comb += entries.ready.eq(1)
            with m.If(entries.valid):
                self._check(m, below_power(entry, FACTOR_WIDTH - 1))
        with m.If(asks & entries.valid):
            m.d.sync += [held.eq(entry), served.eq(1)]
        m.d.sync += read.eq(builds & ~lacks & ~takes)
        with m.If(takes):
            word = choose(m, "word", cursor.lane, [ram.read_data for ram in rams])
            m.d.sync += [
                built[place].eq(Mux(kind == ELEMENT, entry, Mux(kind == POSITION, held, word))),
                place.eq(Mux(place == u - 1, 0, place + 1)),
                complete.eq(place == u - 1),
                served.eq(0),
            ]
            cursor.move(m)
        with m.If(moves):
            m.d.sync += [part.eq(Mux(last, 0, part + 1)), complete.eq(0)]
            with m.If(last & ~one_by_one):
                m.d.sync += served.eq(0)
        with m.If(self.start):
            m.d.sync += [part.eq(0), place.eq(0), complete.eq(0), served.eq(0)]
            cursor.begin(m)

        s = Stage.begin(m, fed)
        row = named(m, "row", multiply_constant(vector.number, parts) + part)
        lanes = []
        for index, ram in enumerate(rams):
            m.d.comb += [
                ram.read_enable.eq(s.moves | builds),
                ram.read_address.eq(Mux(one_by_one, cursor.row, row)),
            ]
            lane = s.part(f"lane{index}")
            lane.other = Mux(one_by_one, built[index], held)
            lane.make("word", ram.read_data, held_by=ram.read_data)
            lanes.append(lane.cut())
        first_lane = named(m, "first_lane", multiply_constant(part, u))
        s.used = Cat(vector.used > first_lane + index for index in range(u))
        s.last, s.end, s.from_ram = last, last & vector.end, ~one_by_one & (kind == CHANNEL)

        s = s.cut()
        table = [Mux(s.from_ram, lane.word, lane.other).as_signed() for lane in lanes]
        given = filled(m, "given", self.o.payload.shape(), table=table, used=s.used, last=s.last, end=s.end)
        s.finish(self.o, given, depth=s.cuts)


class _Cursor:
    """Channel after channel, and where its factor lies: a row of the RAMs, and which of them."""

    def __init__(self, m: Module, lanes: int, rows: int, channels: Value):
        self._lanes, self.rows = lanes, rows
        self.channel = Signal.like(channels, name="channel")
        self.row = Signal(range(rows), name="channel_row")
        self.lane = Signal(range(lanes), name="channel_lane")
        self.last = named(m, "channel_last", self.channel == channels - 1)

    def begin(self, m: Module) -> None:
        """To channel 0."""
        m.d.sync += [self.channel.eq(0), self.row.eq(0), self.lane.eq(0)]

    def move(self, m: Module) -> None:
        """To the next channel; from the last one to the first."""
        with m.If(self.last):
            self.begin(m)
        with m.Else():
            full = self.lane == self._lanes - 1
            m.d.sync += [
                self.channel.eq(self.channel + 1),
                self.row.eq(self.row + full),
                self.lane.eq(Mux(full, 0, self.lane + 1)),
            ]
