"""A state of one to three others: residual, gate, gated unit, guidance, a sampler's step."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.machine import command
from golden.parameters import Parameters
from hw import payloads
from hw.arith.bits import choose, multiply_constant, named
from hw.arith.serial import Divider
from hw.bus.ports import UNIT_BYTES
from hw.control.engine import Engine, Fields, cause
from hw.near_memory.closed_loop import functions
from hw.near_memory.closed_loop.factors import CHANNEL, ELEMENT, ENTRY_WIDTH, ONE, POSITION, Factors, lowest
from hw.near_memory.closed_loop.pairs import Pairs
from hw.near_memory.closed_loop.sums import Sums, summed_vector
from hw.near_memory.closed_loop.terms import TERMS, Terms
from hw.near_memory.closed_loop.vector_walk import VectorWalk
from hw.stream import Fifo, SkidBuffer
from hw.stream.fork import fork
from hw.stream.records import RecordReader

_ENTRY_BYTES = ENTRY_WIDTH // 8
_BY_CHANNEL, _BY_POSITION = 1, 2
"""What sums are of, by number."""

_UNDER_WAY = 16
"""Vectors whose sums are still to come at most: more than the parts in the pipeline."""

_AHEAD = 16
"""Vectors that are asked for before their result is written, where each is asked for by itself."""


_BEGIN_WIDTH = 32
"""Bits of where a vector begins, in bytes: 2^24 vectors of at most 255 bytes."""


class Combine(Engine):
    """Carries out a `Combine`.

    ::

        states_read ---------> Y1 --------------+
        second_states_read --> Y2 --> z ~ f ~ x-+--> Terms --+--> states_written
        third_states_read ---> Y3 --------------+            +--> copy_states_written
        tables_read ---------> Factors ---------+            +--> Sums

    f is outside: it is shared with `XPath`, and passed by where it is the identity. Vectors come in the order of
    memory; where sums of channels are kept of positions of several vectors, by channels.

    Throughput: one term of a part per clock, see `Factors` for what is slower. Numerics: 12.8, 12.14, 12.15.

    Members
    -------
    operation, error, overflow, poisoned
        Those of an engine; f tells its own overflow.
    states_read, second_states_read, third_states_read, states_written, copy_states_written : ports of vectors
        Y1, Y2, Y3; the result and its copy.
    tables_read, sums_read, sums_written : memory ports
        Factors and limits; sums.
    settings : Out(`functions.settings`)
        For f.
    z, x : stream of `payloads.element_part`
        To f, and from it.
    combined : Out(1)
        A vector is done.
    """

    name = "emit"

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        part = stream.Signature(payloads.element_part(parameters))
        reads = ("states_read", "second_states_read", "third_states_read")
        writes = ("states_written", "copy_states_written")
        return super()._members(parameters) | {
            **{name: self.read_vectors(parameters) for name in reads},
            **{name: self.write_vectors(parameters) for name in writes},
            "tables_read": self.read(parameters),
            "sums_read": self.read(parameters),
            "sums_written": self.write(parameters),
            "settings": Out(functions.settings()),
            "z": Out(part),
            "x": In(part),
            "combined": Out(1),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, f = self.parameters, Fields(self.operation.p, command.Combine)
        readers = [self.states_read, self.second_states_read, self.third_states_read]
        writers = [self.states_written, self.copy_states_written]
        m.submodules.entries = entries = RecordReader(p.memory_width, ENTRY_WIDTH)
        m.submodules.asked = asked = VectorWalk(p)
        m.submodules.given = given = VectorWalk(p)
        m.submodules.factors = factors = Factors(p)
        m.submodules.terms = terms = Terms(p)
        m.submodules.sums = sums = Sums(p, p.lanes << 24)
        m.submodules.summed = summed = Fifo(summed_vector(p), _UNDER_WAY)
        m.submodules.quotient = quotient = Divider(len(f.channels) + 1, p.lanes)
        wiring.connect(m, entries.port, wiring.flipped(self.tables_read))
        wiring.connect(m, sums.sums_read, wiring.flipped(self.sums_read))
        wiring.connect(m, sums.sums_written, wiring.flipped(self.sums_written))
        wiring.connect(m, entries.o, factors.entries)
        wiring.connect(m, summed.o, sums.vectors)

        what = _What(m, f)
        of = Signal(len(f.channels))
        by_channels = Signal()
        for walk in (asked, given):
            m.d.comb += [
                walk.vectors.eq(f.vectors),
                walk.channels.eq(f.channels),
                walk.of.eq(of),
                walk.by_channels.eq(by_channels),
            ]
        fork(m, "vector", given.o, [(factors.vectors, Const(1, 1)), (summed.i, f.summed != 0)])
        m.d.comb += [
            factors.vectors.payload.eq(given.o.payload),
            summed.i.p.base.eq(0),
            *(summed.i.p[name].eq(given.o.p[name]) for name in ("position", "channel", "used")),
            factors.terms.eq(f.terms),
            factors.product.eq(what.product),
            *(kind.eq(value) for kind, value in zip(factors.kinds, what.kinds, strict=True)),
            factors.clamped.eq(f.clamped),
            factors.channels.eq(f.channels),
            *(getattr(terms, name).eq(getattr(factors, name)) for name in ("shifts", "places", "low", "high")),
            terms.product.eq(what.product),
            *(getattr(self.settings, name).eq(getattr(f, name)) for name in ("function", "middle", "result")),
            sums.by_position.eq(f.summed == _BY_POSITION),
            sums.fresh.eq(f.fresh),
            sums.channels.eq(f.channels),
            sums.region.eq(f.sums.region),
            sums.offset.eq(f.sums.offset),
            self.overflow.eq(terms.overflow),
            self.poisoned.eq(terms.poisoned),
        ]
        self._feed(m, f, what, readers, factors, terms)
        finished = self._finish(m, f, terms, writers, sums)
        start = Signal()
        resting = self._ask(m, f, what, start, asked, readers, writers, entries, by_channels)
        idle = writers[0].idle & (~f.copied | writers[1].idle) & ((f.summed == 0) | sums.idle)

        m.d.comb += [walk.start.eq(start) for walk in (asked, given, factors)]
        with m.FSM():
            with m.State("idle"), m.If(self.operation.valid & f.chosen & (self.error == 0)):
                m.d.comb += [quotient.i.valid.eq(1), quotient.i.payload.eq(f.channels + (p.lanes - 1))]
                with m.If(self._fault(f)):
                    m.d.sync += self.error.eq(cause("field"))
                with m.Elif(what.by_channel & (f.channels > p.norm_buffer)):
                    m.d.sync += self.error.eq(cause("buffer"))
                with m.Else():
                    m.next = "divide"
            with m.State("divide"):
                m.d.comb += quotient.o.ready.eq(1)
                m.d.sync += of.eq(quotient.o.p.quotient)
                m.d.sync += by_channels.eq((f.summed == _BY_CHANNEL) & (quotient.o.p.quotient > 1))
                with m.If(quotient.o.valid):
                    m.next = "start"
            with m.State("start"):
                m.d.comb += start.eq(1)
                m.next = "run"
            with m.State("run"), m.If(finished & resting & idle):
                m.next = "end"
            with m.State("end"):
                m.d.comb += self.operation.ready.eq(1)
                m.next = "idle"
        with m.If(factors.fault & (self.error == 0)):
            m.d.sync += self.error.eq(cause("field"))
        return m

    def _fault(self, f: Fields) -> Value:
        """Whether a field breaks a rule, or asks for what the machine has not."""
        counts = (f.terms == 0) | ((f.form != 0) & (f.terms != 2)) | (f.vectors == 0) | (f.channels == 0)
        pairs = f.permuted & (f.channels[0] if self.parameters.lanes % 2 == 0 else 1)
        return counts | ((f.terms > 1) & (pairs | ~functions.known(self.parameters, f.function)))

    def _feed(self, m: Module, f: Fields, what: "_What", readers: list[Any], factors: Factors, terms: Terms) -> None:
        """Join the parts of all terms with their factors."""
        p = self.parameters
        width, u = p.state_width, p.near_lanes
        m.submodules.pairs = pairs = Pairs(p)
        # What results wait for is not to reach the tables within a clock.
        m.submodules.factored = factored = SkidBuffer(factors.o.payload.shape())
        wiring.connect(m, factors.o, factored.i)
        m.d.comb += [
            pairs.exchanged.eq(f.permuted),
            pairs.i.payload.as_value().eq(readers[1].o.payload),
            pairs.i.valid.eq(readers[1].o.valid),
            readers[1].o.ready.eq(pairs.i.ready),
        ]
        states = [[reader.o.payload[lane * width : (lane + 1) * width] for lane in range(u)] for reader in readers]
        # What terms wait for is not to reach a reader through the pairs within a clock.
        m.submodules.paired = paired = SkidBuffer(pairs.o.payload.shape())
        wiring.connect(m, pairs.o, paired.i)
        second, states[1] = paired.o, list(paired.o.payload)
        smooth = named(m, "smooth", f.function != 0)
        m.d.comb += [
            self.z.p["values"].eq(Cat(*states[1])),
            self.z.valid.eq(second.valid & smooth),
        ]
        states[1] = [Mux(smooth, value, state) for value, state in zip(self.x.p["values"], states[1], strict=True)]
        valid = [readers[0].o.valid, Mux(smooth, self.x.valid, second.valid), readers[2].o.valid]
        # Terms one after the other; both sides of a product at once.
        given = factored.o.p
        joins = [named(m, f"joins{term + 1}", given.term == term) for term in range(TERMS)]
        joins[1] = named(m, "joins_second", joins[1] | what.product)
        moves = named(m, "feeds", terms.i.valid & terms.i.ready)
        m.d.comb += [
            terms.i.valid.eq(
                factored.o.valid
                & ~factors.fault
                & Cat(there | ~here for there, here in zip(valid, joins, strict=True)).all()
            ),
            factored.o.ready.eq(moves),
            readers[0].o.ready.eq(moves & joins[0]),
            second.ready.eq(Mux(smooth, self.z.ready, moves & joins[1])),
            readers[2].o.ready.eq(moves & joins[2]),
            self.x.ready.eq(moves & smooth & joins[1]),
            *(terms.i.p[name].eq(given[name]) for name in ("term", "complete", "used", "last", "end")),
        ]
        for lane in range(u):
            value = choose(m, f"value{lane}", given.term, [state[lane] for state in states])
            factor = Mux(what.product, states[1][lane].as_signed(), given.factors[lane])
            m.d.comb += [terms.i.p["values"][lane].eq(value), terms.i.p.factors[lane].eq(factor)]

    def _finish(self, m: Module, f: Fields, terms: Terms, writers: list[Any], sums: Sums) -> Value:
        """Give results to memory and to the sums; returns whether all of an operation have been given."""
        m.submodules.output = output = SkidBuffer(terms.o.payload.shape())
        wiring.connect(m, terms.o, output.i)
        o = output.o
        elements = o.p["values"].as_value()
        outputs = [(writers[0].items, Const(1, 1)), (writers[1].items, f.copied), (sums.i, f.summed != 0)]
        fork(m, "result", o, outputs)
        m.d.comb += [
            *(writer.items.payload.eq(elements) for writer in writers),
            sums.i.p.old.eq(0),
            sums.i.p.new.eq(elements),
            sums.i.p.last.eq(o.p.last),
            sums.i.p.end.eq(o.p.end),
            self.combined.eq(o.valid & o.ready & o.p.last),
        ]
        finished = Signal()
        with m.If(o.valid & o.ready & o.p.end):
            m.d.sync += finished.eq(1)
        with m.Elif(self.operation.ready):
            m.d.sync += finished.eq(0)
        return finished

    def _ask(
        self,
        m: Module,
        f: Fields,
        what: "_What",
        start: Value,
        walk: VectorWalk,
        readers: list[Any],
        writers: list[Any],
        entries: RecordReader,
        by_channels: Value,
    ) -> Value:
        """Ask for tables and vectors, in the order that they are used in; returns whether all has been asked for."""
        p, vector = self.parameters, walk.o.p
        # Vectors: whether they are to be asked for, where, and how many; all of them, or one by one.
        first = Signal(_BEGIN_WIDTH)
        count = named(m, "span_vectors", Mux(by_channels, 1, f.vectors))
        # What is read is asked for long before its result is written: writers' spans wait in a queue.
        m.submodules.results = results = Fifo(len(first), _AHEAD)
        targets = [(writers[0].i, f.state, Const(1, 1)), (writers[1].i, f.copy, f.copied)]
        fork(m, "written", results.o, [(i, wanted) for i, _, wanted in targets])
        sources = [(readers[0].i, f.source1), (readers[1].i, f.source2), (readers[2].i, f.source3)]
        spans = [(i, at, first) for i, at in sources] + [(i, at, results.o.payload) for i, at, _ in targets]
        for i, at, begin in spans:
            m.d.comb += [i.p.region.eq(at.region), i.p.address.eq(_address(at, begin)), i.p.records.eq(count)]
        m.d.comb += results.i.payload.eq(first)
        wanted = Cat(Const(1, 1), f.terms > 1, f.terms > 2, Const(1, 1))
        waits = Signal(len(wanted))
        for index, i in enumerate([*(i for i, _ in sources), results.i]):
            m.d.comb += i.valid.eq(waits[index])
            with m.If(i.ready):
                m.d.sync += waits[index].eq(0)

        # Tables: the one at hand and, of a vector, those that were asked for.
        number, entry = Signal(range(TERMS)), Signal(len(f.vectors) + p.lanes.bit_length())
        asked = Signal(TERMS)
        heads = [f.factor1, f.factor2, f.factor3]
        wide = Signal()
        m.d.sync += wide.eq(f.channels >= p.lanes)
        by_position = Cat((kind == POSITION) & (vector.turns | ~wide) for kind in what.kinds)
        by_element = Cat(kind == ELEMENT for kind in what.kinds)
        todo = named(m, "todo", (by_element | by_position) & ~asked)
        walks = named(
            m, "walks", by_channels | Cat((kind == ELEMENT) | (kind == POSITION) for kind in what.kinds).any()
        )
        table = Signal(range(TERMS))
        m.d.comb += table.eq(lowest(m, "table_todo", todo))
        head = data.View(heads[0].shape(), choose(m, "head", table, [at.as_value() for at in heads]))
        kind = named(m, "table_kind", choose(m, "kind", table, what.kinds))
        # Where elements run on: lanes before the next position begins.
        lanes = Signal(16)

        def ask(offset: Value | int, records: Value | int, at: data.View = head) -> None:
            m.d.comb += [
                entries.i.valid.eq(1),
                entries.i.p.region.eq(at.region),
                entries.i.p.address.eq(_address(at, offset)),
                entries.i.p.records.eq(records),
            ]

        resting = Signal()
        with m.FSM(name="ask"):
            with m.State("idle"):
                m.d.comb += resting.eq(~start & (waits == 0) & ~results.o.valid)
                with m.If(start):
                    m.d.sync += [number.eq(0), first.eq(0)]
                    with m.If(~by_channels):
                        m.d.sync += waits.eq(wanted)
                    m.next = "heads"
            with m.State("heads"):
                m.d.comb += table.eq(number)
                ask(0, 1 + (~what.product & (kind == ONE)))
                with m.If(entries.i.ready):
                    m.d.sync += number.eq(number + 1)
                    with m.If(what.product | (number == f.terms - 1)):
                        m.next = "limits"
            with m.State("limits"):
                ask(0, 2, at=f.limits)
                m.d.comb += entries.i.valid.eq(f.clamped)
                m.d.sync += [number.eq(0), asked.eq(0)]
                with m.If(~f.clamped | entries.i.ready):
                    m.next = "tables"
            with m.State("tables"):
                m.d.comb += table.eq(number)
                ask(_ENTRY_BYTES, f.channels)
                m.d.comb += entries.i.valid.eq(kind == CHANNEL)
                with m.If((kind != CHANNEL) | entries.i.ready):
                    m.d.sync += number.eq(number + 1)
                    with m.If(number == TERMS - 1):
                        m.next = "idle"
                        with m.If(walks):
                            m.next = "vector"
            with m.State("vector"), m.If(walk.o.valid & (~by_channels | (waits == 0))):
                with m.If(by_channels):
                    m.d.sync += first.eq(multiply_constant(vector.index, payloads.vector_bytes(p)))
                m.next = "states"
                with m.If(todo.any()):
                    m.next = "begin"
            with m.State("begin"):
                # Entries of the vector's elements; or of its position, or of those that begin in it.
                within = ~wide & (vector.channel != 0)
                elements = multiply_constant(vector.index, p.lanes)
                m.d.sync += [
                    entry.eq(Mux(kind == ELEMENT, elements, vector.position + within)),
                    lanes.eq(Mux(within, f.channels - vector.channel, 0)),
                ]
                m.next = "entries"
            with m.State("entries"):
                ask((entry + 1) * _ENTRY_BYTES, Mux(kind == ELEMENT, p.lanes, 1))
                with m.If(entries.i.ready):
                    following = lanes + f.channels
                    m.d.sync += [entry.eq(entry + 1), lanes.eq(following)]
                    with m.If((kind == ELEMENT) | (following >= p.lanes)):
                        m.d.sync += asked.eq(asked | (1 << table))
                        m.next = "begin"
                        with m.If((todo & (todo - 1)) == 0):
                            m.next = "states"
            with m.State("states"):
                m.d.comb += walk.o.ready.eq(1)
                m.d.sync += asked.eq(0)
                with m.If(by_channels):
                    m.d.sync += waits.eq(wanted)
                m.next = "vector"
                with m.If(vector.end):
                    m.next = "idle"
        return resting


def _address(at: data.View, begin: Value | int) -> Value:
    """Address of what begins so many bytes behind an operand: less than 2^34, so that the sum is never too wide."""
    return (at.offset << (UNIT_BYTES - 1).bit_length()) + begin


class _What:
    """What the fields of an operation come to.

    Members
    -------
    product : Value
        Whether it is a product.
    kinds : list of Value
        What the factors of each term are for; ONE where there is no such term. Told a clock later.
    by_channel : Value
        Whether a term has a table by channel.
    """

    def __init__(self, m: Module, f: Fields):
        self.product = named(m, "product", f.form != 0)
        kinds = [
            Mux(~self.product & (f.terms > index), kind, ONE) for index, kind in enumerate((f.kind1, f.kind2, f.kind3))
        ]
        self.by_channel = Cat(kind == CHANNEL for kind in kinds).any()
        self.kinds = [Signal(2, name=f"kind{index + 1}") for index in range(TERMS)]
        m.d.sync += [kind.eq(value) for kind, value in zip(self.kinds, kinds, strict=True)]
