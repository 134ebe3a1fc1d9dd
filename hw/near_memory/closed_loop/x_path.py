"""The x of an emission: Y, its norm, f; on to the delta path, group by group, or to memory as a state."""

from typing import Any, get_args

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.machine.command import Emit, Function
from golden.parameters import Parameters
from hw import payloads
from hw.arith.bits import named, one_of, or_tree, saturated
from hw.bus.ports import ADDRESS_WIDTH, UNIT_BYTES
from hw.control.engine import Engine, Fields, cause
from hw.near_memory.closed_loop import functions
from hw.near_memory.closed_loop.extent import Extent, place, sent_lines
from hw.near_memory.closed_loop.norm_tables import NormTables
from hw.near_memory.closed_loop.normalise import Normalise
from hw.near_memory.closed_loop.positions import Gather, Spread
from hw.near_memory.closed_loop.probabilities import Probabilities
from hw.near_memory.closed_loop.transposer import Transposer
from hw.stream import SkidBuffer
from hw.stream.fork import fork
from hw.stream.records import RECORDS_WIDTH

_IDENTITY = get_args(Function).index("identity")
_SOFTMAX = get_args(Function).index("softmax")


class XPath(Engine):
    """Carries out an `Emit` up to x; quantising the difference, and Xhat, are the delta path's.

    ::

        states_read --> Spread -+-> Normalise -----+-> z ~ Functions ~ x --+--> [Transposer] --> [Spread] --> o
                                +-> Probabilities -+                       +--> Gather --> states_written
                                       ^
        tables_read --> NormTables ----+

    f is outside: it is shared with `Combine`; probabilities pass it. An operation is taken when all of x has gone to
    `o`, and has arrived in memory.

    Groups along positions take the way through the transposer. Where positions have several vectors, all first ones
    come in one round, then all second ones, and so on: what is known of positions is read in each round. Segments that
    are no whole groups take the way through the second `Spread`.

    Throughput: one part per clock; one element of a narrow tensor, and of segments that are filled up; half of that
    along more than ``row_buffer / 2`` positions. Numerics: 12.6 to 12.9.

    Members
    -------
    operation, error, overflow, poisoned
        Those of an engine; f tells its own overflow.
    states_read, states_written : ports of vectors
        Y; x as a state.
    tables_read : memory port
        Scales and coefficients.
    settings : Out(`functions.settings`)
        For f.
    z : Out(stream of `payloads.element_part`)
        To f.
    x : In(stream of `payloads.element_part`)
        From f.
    o : Out(stream of `payloads.element_part`)
        x, group by group, if the operation sends it.
    held : Out(stream of `extent.place`)
        Vectors of Xhat, once for each operation that sends, before its first x.
    sent : Out(`extent.sent_lines`)
        Lines of the spool, from `held` until the operation is taken.
    """

    name = "emit"

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        part = stream.Signature(payloads.element_part(parameters))
        return super()._members(parameters) | {
            "states_read": self.read_vectors(parameters),
            "tables_read": self.read(parameters),
            "states_written": self.write_vectors(parameters),
            "settings": Out(functions.settings()),
            "z": Out(part),
            "x": In(part),
            "o": Out(part),
            "held": Out(stream.Signature(place())),
            "sent": Out(sent_lines()),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, f = self.parameters, Fields(self.operation.p, Emit)
        m.submodules.extent = extent = Extent(p)
        reader, writer = self.states_read, self.states_written
        m.submodules.spread = spread = Spread(p)
        m.submodules.tables = tables = NormTables(p)
        m.submodules.normalise = normalise = Normalise(p)
        m.submodules.gather = gather = Gather(p)
        attends = "attention" in p.functions
        softmax = named(m, "softmax", f.function == _SOFTMAX) if attends else Const(0, 1)
        along = named(m, "along", f.sent & f.along) if attends else Const(0, 1)
        wiring.connect(m, tables.tables_read, wiring.flipped(self.tables_read))
        wiring.connect(m, wiring.flipped(reader.o), spread.i)
        # What a norm and f wait for is not to reach where elements stand within a clock.
        m.submodules.parts = parts = SkidBuffer(spread.o.payload.shape())
        wiring.connect(m, spread.o, parts.i)
        wiring.connect(m, tables.scales, normalise.scales)
        wiring.connect(m, tables.sets, normalise.sets)
        wiring.connect(m, gather.o, wiring.flipped(writer.items))
        # Of a round: the channels of a position that are left, and how many of them it takes.
        rest = Signal(len(f.channels))
        in_rounds = named(m, "in_rounds", along & (extent.of > 1))
        last_round = named(m, "last_round", ~in_rounds | (rest <= p.lanes))
        channels = named(m, "round_channels", Mux(last_round, rest, p.lanes))
        m.d.comb += [
            self.settings.function.eq(Mux(softmax, _IDENTITY, f.function)),
            self.settings.middle.eq(Mux(softmax, f.result, f.middle)),
            self.settings.result.eq(f.result),
            tables.softmax.eq(softmax),
            *(
                getattr(extent, name).eq(getattr(f, name))
                for name in ("line", "lines", "width", "channels", "segment", "across")
            ),
            extent.scores.eq(softmax),
            extent.along.eq(along),
            spread.skip.eq(extent.skip),
            tables.scales_at.eq(f.scales),
            tables.coefficients_at.eq(f.coefficients),
            *(getattr(tables, name).eq(getattr(f, name)) for name in ("channels", "first", "set_channels", "second")),
            tables.placed.eq(extent.placed),
            tables.begin.eq(extent.begin),
            tables.positions.eq(extent.positions),
            normalise.normed.eq(f.normed),
            normalise.by_position.eq(f.set_channels == 0),
            normalise.channels.eq(f.channels),
            normalise.places.eq(tables.places),
            self.overflow.eq(normalise.overflow),
        ]
        for walk in (spread, gather):
            m.d.comb += [
                walk.wide.eq(extent.wide),
                walk.channels.eq(channels),
                walk.positions.eq(extent.positions),
            ]
        # Nothing goes on before the tables are known to be sound.
        ways: list[tuple[Any, Value]] = [(normalise, ~softmax)]
        if attends:
            m.submodules.probabilities = probabilities = Probabilities(p)
            wiring.connect(m, tables.rows, probabilities.rows)
            m.d.comb += [getattr(probabilities, name).eq(getattr(f, name)) for name in ("root", "exponent", "result")]
            ways.append((probabilities, softmax))
        for way, taken in ways:
            m.d.comb += [
                way.i.payload.eq(parts.o.payload),
                way.i.valid.eq(parts.o.valid & ~tables.fault & taken),
                way.o.ready.eq(self.z.ready & taken),
            ]
        m.d.comb += [
            parts.o.ready.eq(or_tree(way.i.ready & taken for way, taken in ways) & ~tables.fault),
            self.z.valid.eq(or_tree(way.o.valid & taken for way, taken in ways)),
            self.z.p.eq(one_of([(taken, way.o.p.as_value()) for way, taken in ways])),
        ]
        poison = 1 << p.state_width - 1
        m.submodules.sends = sends = SkidBuffer(self.x.payload.shape())
        fork(m, "x", self.x, [(sends.i, f.sent), (gather.i, f.written)])
        m.d.comb += [
            sends.i.payload.eq(self.x.payload),
            gather.i.payload.eq(self.x.payload),
            self.poisoned.eq(self.x.valid & or_tree(value.as_unsigned() == poison for value in self.x.p["values"])),
        ]

        begins, first = Signal(), Signal(init=1, name="first_round")
        asked = self._ask(m, f, extent, reader, writer, begins, first, in_rounds)
        given = self._group(m, f, extent, sends.o, along, channels, first)
        # Parts that have left `Spread` and have not come back.
        under_way = Signal(8)
        m.d.sync += under_way.eq(under_way + (spread.o.valid & spread.o.ready) - (self.x.valid & self.x.ready))
        passed = spread.done & ~spread.o.valid & (under_way == 0) & ~sends.o.valid & (~f.written | gather.done)

        m.d.comb += [spread.start.eq(begins), gather.start.eq(begins & f.written)]
        with m.FSM() as fsm:
            with m.State("idle"), m.If(self.operation.valid & f.chosen & (self.error == 0)):
                with m.If(self._fault(f)):
                    m.d.sync += self.error.eq(cause("field"))
                with m.Elif(f.normed & (f.channels > p.norm_buffer)):
                    m.d.sync += self.error.eq(cause("buffer"))
                with m.Else():
                    m.d.comb += [extent.start.eq(1), normalise.start.eq(1), tables.start.eq(f.normed | softmax)]
                    m.d.sync += rest.eq(f.channels)
                    m.next = "place"
            with m.State("place"), m.If(extent.placed):
                m.next = "round"
                with m.If(f.written & (extent.skip != 0)):
                    m.d.sync += self.error.eq(cause("field"))
                with m.Elif(along & (extent.positions > p.row_buffer)):
                    m.d.sync += self.error.eq(cause("buffer"))
            with m.State("round"), m.If(self.error == 0):
                m.d.comb += begins.eq(1)
                m.d.sync += first.eq(0)
                m.next = "run"
            with m.State("run"), m.If(asked & passed):
                m.next = "end"
                with m.If(~last_round):
                    m.d.comb += [normalise.advance.eq(1), tables.again.eq(f.normed | softmax)]
                    m.d.sync += rest.eq(rest - p.lanes)
                    m.next = "round"
            with m.State("end"), m.If(extent.done & given & (~f.written | writer.idle)):
                m.next = "over"
            with m.State("over"):
                m.d.comb += self.operation.ready.eq(self.error == 0)
                m.d.sync += first.eq(1)
                m.next = "idle"
        uneven = named(m, "uneven", ~fsm.ongoing("idle") & extent.done & extent.uneven & f.sent)
        faults = [tables.fault, uneven, *(way.fault for way, _ in ways[1:])]
        with m.If(or_tree(faults) & (self.error == 0)):
            m.d.sync += self.error.eq(cause("field"))
        return m

    def _fault(self, f: Fields) -> Value:
        """Whether a field breaks a rule, or asks for what the machine has not."""
        empty = (f.lines == 0) | (f.width == 0) | (f.channels == 0) | ~(f.sent | f.written)
        softmax = f.function == _SOFTMAX
        unknown = ~(softmax | functions.known(self.parameters, f.function)) | (f.normed & softmax)
        if "attention" in self.parameters.functions:
            return empty | unknown | (f.sent & f.along & (f.line != 0))
        return empty | unknown | softmax | (f.sent & (f.along | (f.segment != 0)))

    def _ask(
        self,
        m: Module,
        f: Fields,
        extent: Extent,
        reader: Any,
        writer: Any,
        begins: Value,
        first: Value,
        in_rounds: Value,
    ) -> Value:
        """Ask for Y, and for room for x, when a round `begins`; returns whether all has been asked for.

        It is one span; or in rounds, where vectors of positions do not follow each other, one for each of these.
        """
        reads, writes = Signal(), Signal()
        at, column = Signal(ADDRESS_WIDTH), Signal(ADDRESS_WIDTH)
        left = Signal(range(self.parameters.row_buffer + 1), name="spans_left")
        for span, base, asks in ((reader.i, f.state, reads), (writer.i, f.target, writes)):
            m.d.comb += [
                span.valid.eq(asks),
                span.p.region.eq(base.region),
                span.p.address.eq(saturated(base.offset * UNIT_BYTES + at, ADDRESS_WIDTH)),
                span.p.records.eq(Mux(in_rounds, 1, extent.state.records)),
            ]
            with m.If(span.ready):
                m.d.sync += asks.eq(0)
        taken = named(m, "span_taken", (reads | writes) & (~reads | reader.i.ready) & (~writes | writer.i.ready))
        begin = named(m, "round_address", Mux(first, extent.state.address, column))
        with m.If(begins):
            m.d.sync += [at.eq(begin), column.eq(begin + payloads.vector_bytes(self.parameters))]
            m.d.sync += left.eq(Mux(in_rounds, extent.positions, 1))
        with m.Elif(taken):
            m.d.sync += [at.eq(at + extent.stride), left.eq(left - 1)]
        with m.If(begins | (taken & (left != 1))):
            m.d.sync += [reads.eq(1), writes.eq(f.written)]
        return ~(reads | writes)

    def _group(
        self,
        m: Module,
        f: Fields,
        extent: Extent,
        x: stream.Interface,
        along: Value,
        channels: Value,
        first: Value,
    ) -> Value:
        """Send x in the order of its groups, filled up; returns whether all of an operation has been given."""
        o = self.o
        # Nothing is sent before Xhat is told.
        told = Signal()
        sent = Signal(RECORDS_WIDTH, name="vectors_sent")
        m.d.comb += [
            self.sent.eq(extent.sent),
            self.held.valid.eq(~first & extent.done & ~extent.uneven & f.sent & ~told),
            self.held.p.eq(extent.held),
        ]
        emptied: Value = Const(1, 1)
        if "attention" in self.parameters.functions:
            emptied = self._rearrange(m, extent, x, along, channels, told)
        else:
            m.d.comb += [
                o.valid.eq(told & x.valid),
                o.p["values"].eq(x.p["values"]),
                o.p.last.eq(x.p.last),
                x.ready.eq(told & o.ready),
            ]
        with m.If(self.held.valid & self.held.ready):
            m.d.sync += told.eq(1)
        with m.If(o.valid & o.ready & o.p.last):
            m.d.sync += sent.eq(sent + 1)
        with m.If(self.operation.ready):
            m.d.sync += [told.eq(0), sent.eq(0)]
        return ~f.sent | (told & (sent == extent.held.records) & emptied)

    def _rearrange(
        self, m: Module, extent: Extent, x: stream.Interface, along: Value, channels: Value, told: Value
    ) -> Value:
        """Put groups along positions, and segments apart, where an operation asks for it.

        Returns whether nothing is left: what fills up the last row may come when all groups of its segments have gone.
        """
        p, o = self.parameters, self.o
        m.submodules.transposer = transposer = Transposer(p, signed(p.state_width), p.row_buffer)
        m.submodules.columns = columns = SkidBuffer(transposer.o.payload.shape())
        m.submodules.segments = segments = Spread(p)
        wiring.connect(m, transposer.o, columns.i)
        rows = stream.Signature(x.payload.shape()).create(path=("rows",))
        m.d.comb += [
            transposer.block.eq(extent.positions),
            transposer.kept.eq(channels),
            transposer.i.p["values"].eq(x.p["values"]),
            transposer.i.p.last.eq(x.p.last),
            transposer.i.valid.eq(x.valid & along),
            columns.o.ready.eq(rows.ready & along),
            x.ready.eq(Mux(along, transposer.i.ready, rows.ready)),
            rows.valid.eq(told & Mux(along, columns.o.valid, x.valid)),
            rows.p["values"].eq(Mux(along, columns.o.p["values"].as_value(), x.p["values"].as_value())),
            rows.p.last.eq(Mux(along, columns.o.p.last, x.p.last)),
            rows.ready.eq(told & Mux(extent.apart, segments.i.ready, o.ready)),
            segments.start.eq(self.held.valid & self.held.ready),
            segments.channels.eq(extent.length),
            segments.row.eq(extent.row),
            segments.i.payload.eq(rows.p["values"]),
            segments.i.valid.eq(rows.valid & extent.apart),
            segments.o.ready.eq(o.ready & extent.apart),
            o.valid.eq(Mux(extent.apart, segments.o.valid, rows.valid)),
            o.p["values"].eq(Mux(extent.apart, segments.o.p["values"].as_value(), rows.p["values"].as_value())),
            o.p.last.eq(Mux(extent.apart, segments.o.p.last, rows.p.last)),
        ]
        return transposer.idle & ~columns.o.valid
