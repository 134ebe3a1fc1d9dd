"""The x of an emission: Y, its norm, f; on to the delta path, or to memory as a state."""

from typing import Any, get_args

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.machine.command import Emit, Function
from golden.parameters import Parameters
from hw import payloads
from hw.arith.bits import named, or_tree, saturated
from hw.bus.ports import ADDRESS_WIDTH, UNIT_BYTES
from hw.control.engine import Engine, Fields, cause
from hw.near_memory.closed_loop import functions
from hw.near_memory.closed_loop.extent import Extent, place
from hw.near_memory.closed_loop.norm_tables import NormTables
from hw.near_memory.closed_loop.normalise import Normalise
from hw.near_memory.closed_loop.positions import Gather, Spread
from hw.near_memory.closed_loop.probabilities import Probabilities
from hw.stream.fork import fork
from hw.stream.records import RecordReader, RecordWriter

__all__ = ["XPath"]

_IDENTITY = get_args(Function).index("identity")
_SOFTMAX = get_args(Function).index("softmax")


class XPath(Engine):
    """Carries out an `Emit` up to x; quantising the difference, and Xhat, are the delta path's.

    ::

        states_read --> Spread -+-> Normalise -----+-> z ~ Functions ~ x --+--> o
                                +-> Probabilities -+                       +--> Gather --> states_written
                                       ^
        tables_read --> NormTables ----+

    f is outside: it is shared with `Combine`; probabilities pass it. An operation is taken when all of x has gone to
    `o`, and has arrived in memory. Groups along positions are no part of it, nor segments that end within a
    group: cause ``field``.

    Throughput: one part per clock; one element of a narrow tensor. Numerics: 12.6 to 12.9.

    Members
    -------
    operation, error, overflow, poisoned
        Those of an engine; f tells its own overflow.
    states_read, tables_read, states_written : memory ports
        Y; scales and coefficients; x as a state.
    settings : Out(`functions.settings`)
        For f.
    z : Out(stream of `payloads.element_part`)
        To f.
    x : In(stream of `payloads.element_part`)
        From f.
    o : Out(stream of `payloads.element_part`)
        x, group by group, if the operation sends it.
    held : Out(stream of `extent.place`)
        Vectors of Xhat, once for each operation that sends.
    """

    name = "emit"

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        part = stream.Signature(payloads.element_part(parameters))
        return {
            "states_read": self.read(parameters),
            "tables_read": self.read(parameters),
            "states_written": self.write(parameters),
            "settings": Out(functions.settings()),
            "z": Out(part),
            "x": In(part),
            "o": Out(part),
            "held": Out(stream.Signature(place())),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, f = self.parameters, Fields(self.operation.p, Emit)
        item = (p.memory_width, p.near_lanes * p.state_width, p.lanes // p.near_lanes)
        m.submodules.extent = extent = Extent(p)
        m.submodules.reader = reader = RecordReader(*item)
        m.submodules.spread = spread = Spread(p)
        m.submodules.tables = tables = NormTables(p)
        m.submodules.normalise = normalise = Normalise(p)
        m.submodules.probabilities = probabilities = Probabilities(p)
        m.submodules.gather = gather = Gather(p)
        softmax = named(m, "softmax", f.function == _SOFTMAX)
        m.submodules.writer = writer = RecordWriter(*item)
        wiring.connect(m, reader.port, wiring.flipped(self.states_read))
        wiring.connect(m, tables.tables_read, wiring.flipped(self.tables_read))
        wiring.connect(m, writer.port, wiring.flipped(self.states_written))
        wiring.connect(m, reader.o, spread.i)
        wiring.connect(m, tables.scales, normalise.scales)
        wiring.connect(m, tables.sets, normalise.sets)
        wiring.connect(m, tables.rows, probabilities.rows)
        wiring.connect(m, gather.o, writer.items)
        m.d.comb += [
            self.settings.function.eq(Mux(softmax, _IDENTITY, f.function)),
            self.settings.middle.eq(Mux(softmax, f.result, f.middle)),
            self.settings.result.eq(f.result),
            *(getattr(probabilities, name).eq(getattr(f, name)) for name in ("root", "exponent", "result")),
            tables.softmax.eq(softmax),
            *(getattr(extent, name).eq(getattr(f, name)) for name in ("line", "lines", "width", "channels")),
            spread.skip.eq(extent.skip),
            tables.scales_at.eq(f.scales),
            tables.coefficients_at.eq(f.coefficients),
            *(getattr(tables, name).eq(getattr(f, name)) for name in ("channels", "first", "set_channels", "second")),
            tables.placed.eq(extent.done),
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
                walk.channels.eq(f.channels),
                walk.positions.eq(extent.positions),
            ]
        # Nothing goes on before the tables are known to be sound.
        ways = ((normalise, ~softmax), (probabilities, softmax))
        for way, taken in ways:
            m.d.comb += [
                way.i.payload.eq(spread.o.payload),
                way.i.valid.eq(spread.o.valid & ~tables.fault & taken),
                way.o.ready.eq(self.z.ready & taken),
            ]
        m.d.comb += [
            spread.o.ready.eq(Mux(softmax, probabilities.i.ready, normalise.i.ready) & ~tables.fault),
            self.z.valid.eq(Mux(softmax, probabilities.o.valid, normalise.o.valid)),
            self.z.p.eq(Mux(softmax, probabilities.o.p.as_value(), normalise.o.p.as_value())),
        ]
        poison = 1 << p.state_width - 1
        fork(m, "x", self.x, [(self.o, f.sent), (gather.i, f.written)])
        m.d.comb += [
            self.o.payload.eq(self.x.payload),
            gather.i.payload.eq(self.x.payload),
            self.poisoned.eq(self.x.valid & or_tree(value.as_unsigned() == poison for value in self.x.p["values"])),
        ]

        # Spans are asked for once, and told once.
        reads, writes, tells = Signal(), Signal(), Signal()
        for span, at, asks in ((reader.i, f.state, reads), (writer.i, f.target, writes)):
            m.d.comb += [
                span.valid.eq(asks),
                span.p.region.eq(at.region),
                span.p.address.eq(saturated(at.offset * UNIT_BYTES + extent.state.address, ADDRESS_WIDTH)),
                span.p.records.eq(extent.state.records),
            ]
            with m.If(span.ready):
                m.d.sync += asks.eq(0)
        m.d.comb += [self.held.valid.eq(tells), self.held.p.eq(extent.held)]
        with m.If(self.held.ready):
            m.d.sync += tells.eq(0)
        # Parts that have left `Spread` and have not come back.
        under_way = Signal(8)
        m.d.sync += under_way.eq(under_way + (spread.o.valid & spread.o.ready) - (self.x.valid & self.x.ready))
        done = ~(reads | writes | tells) & spread.done & (under_way == 0) & (~f.written | (gather.done & writer.idle))

        rest = Signal(len(f.channels))
        with m.FSM():
            with m.State("idle"), m.If(self.operation.valid & f.chosen & (self.error == 0)):
                with m.If(self._fault(f)):
                    m.d.sync += self.error.eq(cause("field"))
                with m.Elif(f.normed & (f.channels > p.norm_buffer)):
                    m.d.sync += self.error.eq(cause("buffer"))
                with m.Else():
                    m.d.comb += [extent.start.eq(1), normalise.start.eq(1), tables.start.eq(f.normed | softmax)]
                    m.d.sync += rest.eq(f.channels)
                    m.next = "place"
                    with m.If(f.sent & (f.segment != 0) & (f.segment != f.channels)):
                        m.next = "segments"
            with m.State("segments"):
                # Whole segments in a position, whole groups in a segment: neither changes the order of elements.
                m.d.sync += rest.eq(rest - f.segment)
                with m.If(rest <= f.segment):
                    m.d.sync += rest.eq(f.segment)
                    self._unless(m, rest == f.segment, "groups")
            with m.State("groups"):
                m.d.sync += rest.eq(rest - p.lanes)
                with m.If(rest <= p.lanes):
                    self._unless(m, rest == p.lanes, "place")
            with m.State("place"), m.If(extent.done):
                with m.If(f.written & (extent.skip != 0)):
                    m.d.sync += self.error.eq(cause("field"))
                    m.next = "idle"
                with m.Else():
                    m.d.comb += [spread.start.eq(1), gather.start.eq(f.written)]
                    m.d.sync += [reads.eq(1), writes.eq(f.written), tells.eq(f.sent)]
                    m.next = "run"
            with m.State("run"), m.If(done):
                m.next = "end"
            with m.State("end"):
                m.d.comb += self.operation.ready.eq(self.error == 0)
                m.next = "idle"
        with m.If((tables.fault | probabilities.fault) & (self.error == 0)):
            m.d.sync += self.error.eq(cause("field"))
        return m

    def _unless(self, m: Module, holds: Value, following: str) -> None:
        """Go on if a rule of the fields holds, else refuse."""
        m.next = following
        with m.If(~holds):
            m.d.sync += self.error.eq(cause("field"))
            m.next = "idle"

    @staticmethod
    def _fault(f: Fields) -> Value:
        """Whether a field breaks a rule, or asks for what is not here."""
        empty = (f.lines == 0) | (f.width == 0) | (f.channels == 0) | ~(f.sent | f.written)
        unknown = (f.function > _SOFTMAX) | (f.normed & (f.function == _SOFTMAX))
        return empty | unknown | (f.sent & f.along)
