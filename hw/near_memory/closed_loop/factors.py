"""The tables of a combine: places and factors of its terms, its limits."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw.arith.bits import below_power, filled, in_range, multiply_constant, named
from hw.memory import Ram
from hw.near_memory.closed_loop.terms import FACTOR_WIDTH, PLACES_WIDTH, SPREAD, TERMS
from hw.near_memory.closed_loop.vector_walk import walked_vector
from hw.part import Part
from hw.stream import SkidBuffer, Stage

ENTRY_WIDTH = 32

ONE, CHANNEL, POSITION, ELEMENT = range(4)
"""What a factor is for, by number."""

_PLACES_MAX = 44


def factor_part(parameters: Parameters) -> data.StructLayout:
    """Factors of a term's part; lanes that are no padding. `complete` marks the last term of a part, `last` the last
    part of a vector, `end` that of the last one of all."""
    u = parameters.near_lanes
    factors = data.ArrayLayout(signed(FACTOR_WIDTH), u)
    return data.StructLayout({"factors": factors, "term": range(TERMS), "complete": 1, "used": u, "last": 1, "end": 1})


def lowest(m: Module, name: str, terms: Value) -> Value:
    """Number of the first of some terms; the last one's if there is none."""
    return named(m, name, Mux(terms[0], 0, Mux(terms[1], 1, 2)))


class Factors(Part):
    """Takes the tables of a combine, entry by entry, and gives the factors of each part, term by term.

    Entries come so: of each term h, and its factor if it has but one; two limits, if there are any; the factors of all
    channels, term by term. Then, for the vectors in their order, term by term: what a table holds of the position that
    begins, if one does, or of each element.

    ::

        entries -+-> one factor of each term ------------------+-> factors of a part, term by term
                 +-> RAM: channels, or elements of a vector ---+

    Where channels are fewer than lanes, the factors of a vector's elements are put together in the RAM.

    Throughput: a part in as many clocks as there are terms, a product's in one. A table by element takes a clock more
    for each element; so do others where channels are fewer than lanes, by channel three. What a term needs of a vector
    is looked at a clock before it is taken.

    Members
    -------
    start : In(1)
        Begin; what is given stays as it is until the last part.
    terms : In(2)
        How many, 1 to 3.
    product : In(1)
        Whether it is a product: only h of the first term is there.
    kinds : In(array)
        What the factors of each term are for; ONE where there is none.
    clamped : In(1)
        Whether there are limits.
    channels : In(16)
        Of a position; at most ``norm_buffer`` where they have factors.
    entries : In(stream of 32 bits)
        Tables.
    vectors : In(stream of `vector_walk.walked_vector`)
        Vectors.
    o : Out(stream of `factor_part`)
        Factors of every term of every part; for a product, once for both.
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
            "kinds": In(data.ArrayLayout(2, TERMS)),
            "clamped": In(1),
            "channels": In(16),
            "entries": In(stream.Signature(ENTRY_WIDTH)),
            "vectors": In(stream.Signature(walked_vector(parameters))),
            "o": Out(stream.Signature(factor_part(parameters))),
            "shifts": Out(data.ArrayLayout(SPREAD.bit_length(), TERMS)),
            "places": Out(signed(PLACES_WIDTH)),
            "low": Out(state),
            "high": Out(state),
            "fault": Out(1),
        }

    @property
    def _parts(self) -> int:
        """Parts of a vector."""
        return self._parameters.lanes // self._parameters.near_lanes

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, u = self._parameters, self._parameters.near_lanes
        entry = named(m, "entry", self.entries.payload.as_signed())
        one = Signal(data.ArrayLayout(signed(FACTOR_WIDTH), TERMS))
        # Of each term: a row for u channels or, where channels are fewer than lanes, one for each; then a vector.
        depth = max(-(-p.norm_buffer // u), p.lanes + self._parts)
        slot = 1 << (depth - 1).bit_length()
        rams = []
        for lane in range(u):
            m.submodules[f"lane{lane}"] = ram = Ram(signed(FACTOR_WIDTH), (TERMS - 1) * slot + depth)
            rams.append(ram)
        wide = named(m, "wide", self.channels >= p.lanes)
        goes = self._heads(m, entry, one, rams, wide, slot)
        self._give(m, entry, one, rams, wide, slot, goes)
        return m

    @staticmethod
    def _at(row: Value, term: Value, slot: int) -> Value:
        """Address of a row of a term's slot."""
        width = slot.bit_length() - 1
        return Cat(row[:width], Const(0, max(width - len(row), 0)), term)

    def _check(self, m: Module, holds: Value) -> None:
        """Raise `fault` unless a rule holds."""
        with m.If(~holds):
            m.d.sync += self.fault.eq(1)

    def _heads(self, m: Module, entry: Value, one: data.View, rams: list[Ram], wide: Value, slot: int) -> Value:
        """Take what comes before the first vector; returns whether all of it is there and sound."""
        u, top = self._parameters.near_lanes, (1 << self._parameters.state_width - 1) - 1
        entries, goes, fills = self.entries, Signal(name="goes"), Signal(name="fills")
        number = Signal(range(TERMS), name="number")
        kind = named(m, "head_kind", self.kinds[number])
        places = Signal(data.ArrayLayout(signed(PLACES_WIDTH), TERMS), name="term_places")
        low, high = self.low, self.high
        # Channels of a table by channel, and where the next one goes.
        left, row, lane = Signal(16, name="channels_left"), Signal(range(slot)), Signal(range(u), name="table_lane")
        ends_row = named(m, "ends_row", ~wide | (lane == u - 1))
        for index, ram in enumerate(rams):
            with m.If(fills & (~wide | (lane == index))):
                m.d.comb += [
                    ram.write_enable.eq(1),
                    ram.write_address.eq(self._at(row, number, slot)),
                    ram.write_data.eq(entry),
                ]

        def end_term() -> None:
            m.d.sync += number.eq(number + 1)
            with m.If(~self.product & (number != self.terms - 1)):
                m.next = "places"
            with m.Elif(self.clamped):
                m.next = "low"
            with m.Else():
                m.next = "tables"

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
                    with m.If(~self.product & (kind == ONE)):
                        m.next = "factor"
                    with m.Else():
                        end_term()
            with m.State("factor"):
                m.d.comb += entries.ready.eq(1)
                with m.If(entries.valid):
                    m.d.sync += one[number].eq(entry)
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
                    m.next = "tables"
            with m.State("tables"):
                m.d.sync += number.eq(0)
                m.next = "table"
            with m.State("table"):
                m.d.sync += [left.eq(self.channels), row.eq(0), lane.eq(0)]
                with m.If(kind == CHANNEL):
                    m.next = "channels"
                with m.Else():
                    m.d.sync += number.eq(number + 1)
                    with m.If(number == TERMS - 1):
                        m.next = "most"
            with m.State("channels"):
                m.d.comb += [entries.ready.eq(1), fills.eq(entries.valid)]
                with m.If(fills):
                    self._check(m, below_power(entry, FACTOR_WIDTH - 1))
                    m.d.sync += [left.eq(left - 1), row.eq(row + ends_row), lane.eq(Mux(ends_row, 0, lane + 1))]
                    with m.If(left == 1):
                        m.d.sync += number.eq(number + 1)
                        m.next = "table"
                        with m.If(number == TERMS - 1):
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
                for one_place, shift in zip(places, self.shifts, strict=True):
                    m.d.sync += shift.eq(self.places - one_place)
                    with m.If(self.places - one_place > SPREAD):
                        m.d.sync += self.fault.eq(1)
                m.next = "settle"
            with m.State("settle"):
                # A fault of the last check is seen before anything goes.
                m.next = "idle"
        return goes

    def _give(
        self, m: Module, entry: Value, one: data.View, rams: list[Ram], wide: Value, slot: int, goes: Value
    ) -> None:
        """Give the factors of each part."""
        kinds = self.kinds
        # Terms whose factors are read from the RAM; those that wait for entries, or for being put together.
        held = named(m, "in_ram", Cat((kind != ONE) & ~((kind == POSITION) & wide) for kind in kinds))
        # What a vector needs is known when it comes, a clock before anything hangs on it.
        needs = Cat(
            (kind == ELEMENT) | ((kind == POSITION) & self.vectors.p.turns) | ((kind != ONE) & ~wide) for kind in kinds
        )
        waiting = data.StructLayout({"vector": self.vectors.payload.shape(), "needs": TERMS})
        m.submodules.waiting = vectors = SkidBuffer(waiting)
        m.d.comb += [
            vectors.i.valid.eq(self.vectors.valid),
            vectors.i.p.vector.eq(self.vectors.payload),
            vectors.i.p.needs.eq(needs),
            self.vectors.ready.eq(vectors.i.ready),
        ]
        filled_terms = Signal(TERMS)
        todo = named(m, "todo", vectors.o.p.needs & ~filled_terms)
        here = named(m, "here", goes & vectors.o.valid)
        # Factors that were read, or are of a position, stay until they have been given.
        read = Signal(name="was_read")
        # Which term is filled stands in registers: what takes entries hangs on it.
        fills, term, kind = (
            Signal(name="fills_term"),
            Signal(range(TERMS), name="fill_term"),
            Signal(2, name="fill_kind"),
        )
        ends = Signal(name="fill_ends")
        with m.If(ends):
            m.d.sync += fills.eq(0)
        with m.Elif(~fills):
            first = lowest(m, "term_todo", todo)
            m.d.sync += [fills.eq(here & todo.any() & ~read), term.eq(first), kind.eq(kinds[first])]
        self._fill(m, entry, one, rams, vectors.o.p.vector, wide, slot, fills, term, kind, ends)
        with m.If(ends):
            m.d.sync += filled_terms.eq(filled_terms | (1 << term))
        self._emit(m, one, rams, vectors.o, wide, slot, here & ~todo.any(), held, filled_terms, read)

    def _fill(
        self,
        m: Module,
        entry: Value,
        one: data.View,
        rams: list[Ram],
        vector: data.View,
        wide: Value,
        slot: int,
        fills: Value,
        term: Value,
        kind: Value,
        ends: Signal,
    ) -> None:
        """Take what a term needs of a vector: an entry for its position, or the factors of all its elements."""
        p, u, entries = self._parameters, self._parameters.near_lanes, self.entries
        element, lane = Signal(range(p.lanes)), Signal(range(u), name="fill_lane")
        row = Signal(range(self._parts), name="fill_row")
        # Of the element: its channel, if these are fewer than lanes.
        following = Signal(range(p.lanes))
        channel = named(m, "fill_channel", Mux(element == 0, vector.channel, following)[: len(following)])
        # Whether this position's entry was taken, and whether the RAM was read for the element, which then waits.
        served, read, fetched = Signal(), Signal(), Signal()
        channel_factor = Signal.like(rams[0].read_data)

        single = named(m, "single", wide & (kind == POSITION))
        lacks = named(m, "lacks", fills & (kind == POSITION) & ~served & (wide | (channel == 0)))
        there = Mux(kind == CHANNEL, fetched, (kind == POSITION) | entries.valid)
        puts = named(m, "puts", fills & ~single & ~lacks & there)
        m.d.comb += ends.eq((puts & (element == p.lanes - 1)) | (lacks & single & entries.valid))
        with m.If(lacks | (puts & (kind == ELEMENT))):
            m.d.comb += entries.ready.eq(1)
            with m.If(entries.valid):
                self._check(m, below_power(entry, FACTOR_WIDTH - 1))
        with m.If(lacks & entries.valid):
            m.d.sync += [one[term].eq(entry), served.eq(1)]
        m.d.sync += [read.eq(fills & ~puts), fetched.eq(read & ~puts), channel_factor.eq(rams[0].read_data)]
        with m.If(puts):
            wraps = lane == u - 1
            m.d.sync += [
                served.eq(0),
                element.eq(Mux(ends, 0, element + 1)),
                lane.eq(Mux(wraps, 0, lane + 1)),
                row.eq(Mux(ends, 0, row + wraps)),
                following.eq(Mux(channel == self.channels - 1, 0, channel + 1)),
            ]
        with m.If(ends):
            m.d.sync += served.eq(0)
        for index, ram in enumerate(rams):
            with m.If(fills):
                m.d.comb += [ram.read_enable.eq(1), ram.read_address.eq(self._at(channel, term, slot))]
            with m.If(puts & (lane == index)):
                value = Mux(kind == ELEMENT, entry, Mux(kind == POSITION, one[term], channel_factor))
                m.d.comb += [
                    ram.write_enable.eq(1),
                    ram.write_address.eq(self._at(p.lanes + row, term, slot)),
                    ram.write_data.eq(value),
                ]

    def _emit(
        self,
        m: Module,
        one: data.View,
        rams: list[Ram],
        vectors: stream.Interface,
        wide: Value,
        slot: int,
        goes: Value,
        held: Value,
        filled_terms: Signal,
        was_read: Signal,
    ) -> None:
        """Give the factors of a part, term by term: those of a table are read."""
        u, vector = self._parameters.near_lanes, vectors.p.vector
        reads = stream.Signature(0).create(path=("reads",))
        part, term = Signal(range(self._parts)), Signal(range(TERMS), name="read_term")
        complete = named(m, "complete", self.product | (term == self.terms - 1))
        last = named(m, "last", part == self._parts - 1)
        m.d.comb += reads.valid.eq(goes)
        s = Stage.begin(m, reads)
        m.d.comb += vectors.ready.eq(s.moves & complete & last)
        with m.If(s.moves):
            m.d.sync += term.eq(Mux(complete, 0, term + 1))
            with m.If(complete):
                m.d.sync += part.eq(Mux(last, 0, part + 1))
                with m.If(last):
                    m.d.sync += filled_terms.eq(0)
        row = Mux(
            wide & (self.kinds[term] == CHANNEL),
            multiply_constant(vector.number, self._parts) + part,
            self._parameters.lanes + part,
        )
        address = named(m, "read_address", self._at(row, term, slot))
        for ram in rams:
            with m.If(s.moves):
                m.d.comb += [ram.read_enable.eq(1), ram.read_address.eq(address)]
        first_lane = named(m, "first_lane", multiply_constant(part, u))
        s.used = Cat(vector.used > first_lane + index for index in range(u))
        s.last, s.end, s.term, s.complete = last, last & vector.end, term, complete
        s.in_ram = held.bit_select(term, 1)
        words = Cat(*(ram.read_data for ram in rams))
        s.make("words", words, held_by=words)

        s = s.cut()
        m.d.comb += was_read.eq(s.valid)
        factors = Mux(s.in_ram, s.words, one[s.term].replicate(u))
        fields = {
            "factors": factors,
            **{name: getattr(s, name) for name in ("term", "complete", "used", "last", "end")},
        }
        s.finish(self.o, filled(m, "given", self.o.payload.shape(), **fields), depth=s.cuts)
