"""Rows of scores: the largest element, the sum and its reciprocal (command `Rows`)."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring

from golden.machine.command import Rows
from golden.parameters import Parameters
from hw import payloads
from hw.arith.bits import filled, multiply_constant, named
from hw.arith.rounding import round_shift, shift_amount
from hw.arith.serial import Divider
from hw.arith.shift import leading_zeros
from hw.bus.ports import ADDRESS_WIDTH, UNIT_BYTES
from hw.control.engine import Engine, Fields, cause
from hw.memory import DoubleBuffer
from hw.near_memory.closed_loop import powers
from hw.stream import SkidBuffer, Stage
from hw.stream.records import RecordWriter

_SUM_PLACES = 24
"""A sum counts units of ``2^-24``."""

_RECIPROCAL = 15
"""V is ``2^(15+L) / S``."""

_EARLY = 8
"""Steps of a division after which the next row may be summed: n elements of it take longer than what is left."""


class RowReader(Engine):
    """Carries out `Rows` (``docs/machine.md``): largest element, sum and reciprocal of each row of scores.

    A row comes from memory once, and waits in a buffer while its largest element is found. Then its elements are read
    again, one a clock; their powers are summed; the sum is divided. The next row comes meanwhile.

    ::

        states_read --+-> buffer (two rows) -+-> (m - Y) R -> 2^-b -> sum -> divide -> RecordWriter
                      |                      |
                      +-> largest -----------+

    Throughput: an element a clock. Numerics: 12.9.

    Members
    -------
    states_read, tables_written : Out
        Memory: scores, records of rows.
    """

    name = "emit"

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return super()._members(parameters) | {
            "states_read": self.read_vectors(parameters),
            "tables_written": self.write(parameters),
        }

    @property
    def _row(self) -> data.StructLayout:
        """A row in the buffer."""
        return data.StructLayout({"half": 1, "poisoned": 1, "largest": signed(self.parameters.state_width)})

    @property
    def _total(self) -> data.StructLayout:
        """A row that was summed."""
        width = _SUM_PLACES + self.parameters.row_buffer.bit_length()
        return data.StructLayout({"poisoned": 1, "largest": signed(self.parameters.state_width), "sum": width})

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, c = self.parameters, Fields(self.operation.p, Rows)
        u, w = p.near_lanes, p.state_width
        reader = self.states_read
        m.submodules.writer = writer = RecordWriter(p.memory_width, 64)
        m.submodules.buffer = buffer = DoubleBuffer(u * w, -(-p.row_buffer // u))
        m.submodules.rows = rows = SkidBuffer(self._row)
        wiring.connect(m, writer.port, wiring.flipped(self.tables_written))
        offered = named(m, "offered", self.operation.valid & c.chosen & ~self.error.any())
        legal = (c.rows != 0) & (c.channels != 0)
        fits = c.channels <= p.row_buffer
        with m.If(offered & ~(legal & fits)):
            m.d.sync += self.error.eq(Mux(legal, cause("buffer"), cause("field")))
        # From the second clock on: comparisons of fields are not to reach what asks for memory.
        runs = Signal()
        m.d.sync += runs.eq(offered & legal & fits & ~self.operation.ready)

        vectors = self._ask(m, c, runs, reader, writer)
        summed = Signal()
        self._fill(m, c, reader, buffer, rows, vectors, summed)
        totals = stream.Signature(self._total).create(path=("totals",))
        may_sum = self._divide(m, c.channels >= p.lanes, totals, writer)
        self._sum(m, c, rows.o, buffer, totals, may_sum, summed)

        begun = Signal()
        done = named(m, "done", begun & writer.i.ready & writer.idle)
        m.d.sync += begun.eq(runs & ~done & (begun | (writer.i.valid & writer.i.ready)))
        m.d.comb += self.operation.ready.eq(runs & done)
        return m

    def _ask(self, m: Module, c: Fields, runs: Value, reader: Any, writer: RecordWriter) -> Value:
        """Ask for row by row; returns vectors of a row, known before the first of them comes."""
        p = self.parameters
        m.submodules.divider = divider = Divider(16, p.lanes)
        divided, vectors = Signal(2), Signal(16)
        left, address = Signal(24), Signal(ADDRESS_WIDTH)
        asks = named(m, "asks", reader.i.valid & reader.i.ready)
        writes = Signal()
        m.d.comb += [
            divider.i.valid.eq(runs & (divided == 0)),
            divider.i.payload.eq(c.channels + (p.lanes - 1)),
            divider.o.ready.eq(1),
            reader.i.valid.eq(runs & (divided == 2) & (left != 0)),
            reader.i.p.region.eq(c.state.region),
            reader.i.p.address.eq(address),
            reader.i.p.records.eq(vectors),
            writer.i.valid.eq(runs & (divided == 2) & ~writes),
            writer.i.p.region.eq(c.result.region),
            writer.i.p.address.eq(c.result.offset * UNIT_BYTES),
            writer.i.p.records.eq(c.rows),
        ]
        with m.If(~runs | self.operation.ready):
            m.d.sync += [divided.eq(0), writes.eq(0)]
        with m.Elif((divided == 0) & divider.i.ready):
            m.d.sync += [divided.eq(1), left.eq(c.rows), address.eq(c.state.offset * UNIT_BYTES)]
        with m.Elif((divided == 1) & divider.o.valid):
            m.d.sync += [divided.eq(2), vectors.eq(divider.o.p.quotient)]
        with m.Elif(divided == 2):
            with m.If(asks):
                m.d.sync += [
                    left.eq(left - 1),
                    address.eq(address + multiply_constant(vectors, payloads.vector_bytes(p))),
                ]
            with m.If(writer.i.ready):
                m.d.sync += writes.eq(1)
        return vectors

    def _fill(
        self,
        m: Module,
        c: Fields,
        reader: Any,
        buffer: DoubleBuffer,
        rows: SkidBuffer,
        vectors: Value,
        summed: Value,
    ) -> None:
        """Rows into the buffer, and the largest element of each."""
        p = self.parameters
        u, w, parts = p.near_lanes, p.state_width, p.lanes // p.near_lanes
        lowest = -(1 << w - 1)
        half, address = Signal(), Signal(range(buffer.depth + parts))
        part, vector = Signal(range(parts)), Signal(16)
        left = Signal(17)  # elements that are left of the row, once its first part has come
        largest, poisoned = Signal(signed(w), init=lowest), Signal()
        waiting = Signal(2)  # rows in the buffer
        first = named(m, "first_part", (part == 0) & (vector == 0))
        here = named(m, "left_here", Mux(first, c.channels, left))
        last = named(m, "last_part", (part == parts - 1) & (vector + 1 == vectors))
        values = [reader.o.payload[lane * w : (lane + 1) * w].as_signed() for lane in range(u)]
        used = [named(m, f"used{lane}", here > lane) for lane in range(u)]
        now = largest
        for lane, (value, counts) in enumerate(zip(values, used, strict=True)):
            now = named(m, f"largest{lane}", Mux(counts & (value > now), value, now)[:w].as_signed())
        bad = Cat(counts & (value == lowest) for value, counts in zip(values, used, strict=True)).any()
        poisoned_now = named(m, "poisoned_now", poisoned | bad)
        # Whether the next part has an element of the row: a part that fills up the last vector is not kept.
        some = Signal(init=1)
        takes = named(m, "takes", reader.o.valid & ~waiting[1] & (rows.i.ready | ~last))
        m.d.comb += [
            reader.o.ready.eq(~waiting[1] & (rows.i.ready | ~last)),
            buffer.write_enable.eq(takes & some),
            buffer.write_half.eq(half),
            buffer.write_address.eq(address),
            buffer.write_data.eq(reader.o.payload),
            rows.i.valid.eq(takes & last),
            rows.i.p.half.eq(half),
            rows.i.p.poisoned.eq(poisoned_now),
            rows.i.p.largest.eq(Mux(poisoned_now, 0, now)),
        ]
        m.d.sync += waiting.eq((waiting + (takes & last) - summed)[:2])
        with m.If(takes):
            m.d.sync += [
                part.eq(Mux(part == parts - 1, 0, part + 1)),
                left.eq(Mux(here > u, here - u, 0)),
                some.eq(last | (here > u)),
                address.eq(address + 1),
                largest.eq(now),
                poisoned.eq(poisoned_now),
            ]
            with m.If(part == parts - 1):
                m.d.sync += vector.eq(Mux(last, 0, vector + 1))
            with m.If(last):
                m.d.sync += [half.eq(~half), address.eq(0), largest.eq(lowest), poisoned.eq(0)]

    def _sum(
        self,
        m: Module,
        c: Fields,
        rows: stream.Interface,
        buffer: DoubleBuffer,
        totals: stream.Interface,
        may_sum: Value,
        summed: Value,
    ) -> None:
        """Sum of powers of each row, an element a clock; `summed` when a row has been read."""
        p = self.parameters
        u, w = p.near_lanes, p.state_width
        lane, address, left = Signal(range(u)), Signal(range(buffer.depth)), Signal(16)
        active, drains = Signal(), Signal()
        last = named(m, "last_element", left == 1)
        m.d.comb += [
            buffer.read.enable.eq(1),
            buffer.read.half.eq(rows.p.half),
            buffer.read.address.eq(address),
            rows.ready.eq(totals.valid),
            summed.eq(totals.valid),
        ]
        with m.If(~active):
            m.d.sync += [lane.eq(0), address.eq(0), left.eq(c.channels)]
            with m.If(rows.valid & ~drains & may_sum):
                m.d.sync += [active.eq(1), drains.eq(1)]
        with m.Else():
            ends = lane == u - 1
            m.d.sync += [lane.eq(Mux(ends, 0, lane + 1)), address.eq(address + ends), left.eq(left - 1)]
            with m.If(last):
                m.d.sync += active.eq(0)
        with m.If(totals.valid):
            m.d.sync += drains.eq(0)

        s = Stage.begin_flow(m, name="sum_")
        s.valid, s.last, s.lane = active, active & last, lane
        s = s.cut(buffer.latency)
        element = buffer.read.data.word_select(s.lane, w).as_signed()
        # Of the operation; the first element comes long after it.
        root = Signal.like(c.root, reset_less=True)
        m.d.sync += root.eq(c.root)
        s.below = Mux(rows.p.poisoned, 0, rows.p.largest - element)[: w + 1]
        s = powers.argument(s, s.below, root, powers.argument_amount(m, c.exponent, w + 1))
        s = powers.power(s, Const(1))
        s.term = Cat(Const(0, _SUM_PLACES - 16), s.power, Const(0, 1)).as_signed()
        width = len(s.term) + 1
        s.places = shift_amount(m, "term_amount", s.whole, len(s.term), width)
        s = s.cut()
        s = round_shift(s, s.term, s.places, width)
        total = Signal(self._total["sum"].shape)
        now = named(m, "sum_now", (total + s.rounded.as_unsigned())[: len(total)])
        with m.If(s.valid):
            m.d.sync += total.eq(Mux(s.last, 0, now))
        m.d.comb += [
            totals.valid.eq(s.valid & s.last),
            totals.payload.eq(
                filled(m, "total_row", self._total, poisoned=rows.p.poisoned, largest=rows.p.largest, sum=now)
            ),
        ]
        s.finish_flow()

    def _divide(self, m: Module, long: Value, totals: stream.Interface, writer: RecordWriter) -> Value:
        """Records of rows from their sums; returns whether another row may be summed, `long` if it has n elements."""
        row = Signal(self._total)
        length, quotient = Signal(6), Signal(_RECIPROCAL + 2)
        rest = Signal(len(row.sum) + 1)
        step, busy, full = Signal(range(_RECIPROCAL + 3)), Signal(), Signal()
        ends = named(m, "ends_division", busy & (step == _RECIPROCAL + 2) & (~full | writer.items.ready))
        width = len(row.sum)
        m.d.comb += totals.ready.eq(1)
        twice = named(m, "twice", rest << 1)
        above = named(m, "above", twice >= row.sum)
        nearest = named(m, "nearest", twice > row.sum)
        tie = twice == row.sum
        with m.If(totals.valid):
            m.d.sync += [row.eq(totals.p), busy.eq(1), step.eq(0)]
        with m.Elif(busy & (step == 0)):
            # L is the least with S <= 2^L
            m.d.sync += [length.eq(width - leading_zeros(m, "below_sum", (row.sum - 1)[:width])), step.eq(1)]
        with m.Elif(busy & (step == 1)):
            m.d.sync += [rest.eq((Const(1, width + 1) << length)[: width + 1] - row.sum), quotient.eq(1), step.eq(2)]
        with m.Elif(busy & (step <= _RECIPROCAL + 1)):
            m.d.sync += [
                quotient.eq(Cat(above, quotient)),
                rest.eq(Mux(above, twice - row.sum, twice)),
                step.eq(step + 1),
            ]
        with m.Elif(ends):
            m.d.sync += busy.eq(0)
        with m.If(writer.items.ready):
            m.d.sync += full.eq(0)
        largest = Cat(row.largest, row.largest[-1].replicate(32 - len(row.largest)))
        rounded = (quotient + (nearest | (tie & quotient[0])))[: _RECIPROCAL + 2]
        with m.If(ends):
            m.d.sync += [
                full.eq(1),
                writer.items.payload.eq(Cat(largest, rounded, length, Const(0, 8), row.poisoned)),
            ]
        m.d.comb += writer.items.valid.eq(full)
        return named(m, "may_sum", ~busy | (long & (step >= _EARLY) & ~full))
