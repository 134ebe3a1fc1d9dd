"""What readers hold of a state, as weights: records for the weight buffer (command `Align`)."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.machine.command import Align
from golden.parameters import SCALE_WIDTH, Parameters
from hw import payloads
from hw.arith.bits import multiply_constant, named
from hw.bus.ports import ADDRESS_WIDTH, UNIT_BYTES
from hw.control.engine import Engine, Fields, cause
from hw.part import Part
from hw.stream import Fifo, SkidBuffer
from hw.stream.records import RecordWriter

_SCALE_MAX = 220
_POISONED_RECORD = -256
"""Scale of a record that poisons what it takes part in."""

_VECTOR_WIDTH = 32
"""Bits of the number of a vector, past every one that memory can hold."""


class _Walk(Part):
    """Vectors of Xhat in the order of their records, and how many records follow each other.

    The order of the multiply loop: vector of n output channels by vector; in it, block of as many channels as the array
    has columns by block; in it, group by group; and channel by channel.

    Members
    -------
    offered : In(1)
        An operation is there, and goes on.
    first, step, outputs, groups : In
        As of `Align`.
    vector : Out(32)
        Vector to read, from the operand on.
    valid : Out(1)
        There is one.
    begins : Out(1)
        It is the first of `records` records, one for each channel of the block.
    records : Out
        See `begins`.
    next : In(1)
        Go on to the next one.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "offered": In(1),
            "first": In(24),
            "step": In(16),
            "outputs": In(16),
            "groups": In(12),
            "vector": Out(_VECTOR_WIDTH),
            "valid": Out(1),
            "begins": Out(1),
            "records": Out(range(min(parameters.columns, parameters.lanes) + 1)),
            "next": In(1),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p = self._parameters
        most = min(p.columns, p.lanes)
        active, done = Signal(), Signal()
        row = Signal(_VECTOR_WIDTH)  # the group's vector of the block's first channel
        left, in_vector = Signal(16), Signal(range(p.lanes + 1))  # channels that are left: of all, of n
        group, channel = Signal(12), Signal(range(most + 1))
        width = named(m, "width", Mux(in_vector < most, in_vector, most))
        count = named(m, "count", Mux(left < width, left, width))
        last_channel = named(m, "last_channel", channel + 1 == count)
        last_group = named(m, "last_group", group + 1 == self.groups)
        last_block = named(m, "last_block", left == count)
        m.d.comb += [
            self.valid.eq(active),
            self.begins.eq(channel == 0),
            self.records.eq(count),
        ]
        with m.If(~self.offered):
            m.d.sync += [active.eq(0), done.eq(0)]
        with m.Elif(~active):
            with m.If(~done):
                m.d.sync += [
                    active.eq(1),
                    *(signal.eq(self.first) for signal in (row, self.vector)),
                    left.eq(self.outputs),
                    in_vector.eq(p.lanes),
                    group.eq(0),
                    channel.eq(0),
                ]
        with m.Elif(self.next):
            # Behind the last channel of a block's last group begins the next block, but for the groups gone by.
            after = named(m, "after", (self.vector + self.step)[:_VECTOR_WIDTH])
            with m.If(~last_channel):
                m.d.sync += [channel.eq(channel + 1), self.vector.eq(after)]
            with m.Elif(~last_group):
                m.d.sync += [
                    channel.eq(0),
                    group.eq(group + 1),
                    row.eq(row + 1),
                    self.vector.eq(row + 1),
                ]
            with m.Else():
                following = named(m, "following", (after - group)[:_VECTOR_WIDTH])
                ends_vector = in_vector == count
                m.d.sync += [
                    channel.eq(0),
                    group.eq(0),
                    *(signal.eq(following) for signal in (row, self.vector)),
                    left.eq(left - count),
                    in_vector.eq(Mux(ends_vector, p.lanes, in_vector - count)),
                    active.eq(~last_block),
                    done.eq(last_block),
                ]
        return m


class Aligner(Engine):
    """Carries out `Align` (``docs/machine.md``): what readers hold of a state, as weight records.

    A vector waits in a queue while its largest magnitude is found, u elements a clock. That tells the least exponent at
    which every element rounds below ``2^(F+1)``: so many of the constants ``2^e (2^(F+1) - 1/2)`` it reaches. Then the
    elements come out of the queue, rounded, and fill a record.

    ::

        walk -> held_read ----+-> queue ----------------+-> shift, round -> record -> RecordWriter
                              |                         |
                              +-> largest -> exponent --+

    Throughput: a vector in n/u clocks and 5 more, or as memory gives them. Numerics: 12.13.

    Members
    -------
    held_read : port of vectors
        Xhat.
    weights_written : Out
        Memory: records.
    """

    name = "emit"

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return super()._members(parameters) | {
            "held_read": self.read_vectors(parameters),
            "weights_written": self.write(parameters),
        }

    @property
    def _thresholds(self) -> list[int]:
        """Magnitudes from which on the exponent is at least 1, 2, and so on."""
        p = self.parameters
        limit, top = 1 << p.fraction_bits + 1, (1 << p.state_width - 1) - 1
        found = [limit]
        while found[-1] <= top:
            found.append((limit << len(found)) - (1 << len(found) - 1))
        return found[:-1]

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, c = self.parameters, Fields(self.operation.p, Align)
        record = SCALE_WIDTH + p.lanes * p.weight_width
        m.submodules.walk = walk = _Walk(p)
        reader = self.held_read
        m.submodules.writer = writer = RecordWriter(p.memory_width, record, chunk=min(64, p.memory_width))
        wiring.connect(m, writer.port, wiring.flipped(self.weights_written))
        legal = named(m, "legal", (c.outputs != 0) & (c.groups != 0))
        # From the second clock on: what is asked for does not wait for comparisons of fields.
        offered = Signal()
        m.d.sync += offered.eq(self.operation.valid & c.chosen & legal & ~self.operation.ready)

        # Vectors are asked for one by one, records by block.
        written = Signal(ADDRESS_WIDTH)
        goes = named(m, "goes", walk.valid & reader.i.ready & (writer.i.ready | ~walk.begins))
        size = writer.record_bytes
        with m.If(~walk.valid):
            m.d.sync += written.eq(c.result.offset * UNIT_BYTES)
        with m.Elif(goes & walk.begins):
            m.d.sync += written.eq(written + multiply_constant(walk.records, size))
        held = (c.held.offset * UNIT_BYTES) + multiply_constant(walk.vector, payloads.vector_bytes(p))
        past = named(m, "past", held[ADDRESS_WIDTH:].any())
        m.d.comb += [
            walk.offered.eq(offered & ~self.operation.ready),
            *(getattr(walk, name).eq(getattr(c, name)) for name in ("first", "step", "outputs", "groups")),
            walk.next.eq(goes),
            reader.i.valid.eq(walk.valid & (writer.i.ready | ~walk.begins)),
            reader.i.p.region.eq(c.held.region),
            reader.i.p.address.eq(Mux(past, ~0, held[:ADDRESS_WIDTH])),
            reader.i.p.records.eq(1),
            writer.i.valid.eq(walk.valid & walk.begins & reader.i.ready),
            writer.i.p.region.eq(c.result.region),
            writer.i.p.address.eq(written),
            writer.i.p.records.eq(walk.records),
        ]

        found = self._measure(m, reader)
        bad_scale = self._records(m, c, found, writer)
        with m.If(self.operation.valid & c.chosen & ~self.error.any() & (~legal | bad_scale)):
            m.d.sync += self.error.eq(cause("field"))
        begun = Signal()
        done = named(m, "done", offered & begun & ~walk.valid & writer.idle & ~self.error.any())
        # That memory has all of it is told a clock later, as it is by a long way.
        m.d.sync += [
            begun.eq(offered & ~self.operation.ready & (begun | walk.valid)),
            self.operation.ready.eq(done & ~self.operation.ready),
        ]
        return m

    def _measure(self, m: Module, reader: Any) -> tuple[Fifo, SkidBuffer]:
        """Elements in a queue, and of each vector its exponent and whether it is poisoned."""
        p = self.parameters
        u, w, parts = p.near_lanes, p.state_width, p.lanes // p.near_lanes
        thresholds = self._thresholds
        shape = data.StructLayout({"exponent": range(len(thresholds) + 1), "poisoned": 1})
        m.submodules.queue = queue = Fifo(u * w, 1 << (2 * parts - 1).bit_length())
        m.submodules.vectors = vectors = SkidBuffer(shape)
        part, reached, lost = Signal(range(parts)), Signal(len(thresholds)), Signal()
        last = named(m, "last_part", part == parts - 1)
        values = [reader.o.payload[lane * w : (lane + 1) * w].as_signed() for lane in range(u)]
        poisoned = named(m, "poisoned_part", Cat(value == -(1 << w - 1) for value in values).any())
        above = [Cat((value >= one) | (value <= -one) for value in values).any() for one in thresholds]
        now = named(m, "reached_now", reached | Cat(above))
        takes = named(m, "takes", reader.o.valid & queue.i.ready & (vectors.i.ready | ~last))
        m.d.comb += [
            reader.o.ready.eq(queue.i.ready & (vectors.i.ready | ~last)),
            queue.i.valid.eq(takes),
            queue.i.payload.eq(reader.o.payload),
            vectors.i.valid.eq(takes & last),
            vectors.i.p.exponent.eq(sum(now) if thresholds else 0),
            vectors.i.p.poisoned.eq(lost | poisoned),
        ]
        with m.If(takes):
            m.d.sync += [
                part.eq(Mux(last, 0, part + 1)),
                reached.eq(Mux(last, 0, now)),
                lost.eq(~last & (lost | poisoned)),
            ]
        return queue, vectors

    def _records(self, m: Module, c: Fields, found: tuple[Fifo, SkidBuffer], writer: RecordWriter) -> Value:
        """Records from measured vectors; returns whether a scale does not fit one."""
        p = self.parameters
        queue, vectors = found
        u, w, b, parts = p.near_lanes, p.state_width, p.weight_width, p.lanes // p.near_lanes
        vector = vectors.o.p
        whole = Signal(p.lanes * b)
        scale = Signal(SCALE_WIDTH)
        part, full = Signal(range(parts)), Signal()
        last = named(m, "last_rounded", part == parts - 1)
        # Not while the writer takes the last of it: what it waits for is not to reach the queue within a clock.
        moves = named(m, "moves", queue.o.valid & vectors.o.valid & ~full)
        rounded = []
        for lane in range(u):
            value = queue.o.payload[lane * w : (lane + 1) * w].as_signed()
            weight = Signal(b, name=f"weight{lane}")
            with m.Switch(vector.exponent):
                for exponent in range(len(self._thresholds) + 1):
                    with m.Case(exponent):
                        m.d.comb += weight.eq(_nearest(value, exponent))
            rounded.append(Mux(vector.poisoned, 0, weight))
        total = named(m, "scale_wanted", vector.exponent + c.scale)
        m.d.comb += [
            queue.o.ready.eq(moves),
            vectors.o.ready.eq(moves & last),
            writer.items.valid.eq(full),
            writer.items.payload.eq(Cat(scale, whole)),
        ]
        with m.If(writer.items.ready):
            m.d.sync += full.eq(0)
        with m.If(moves):
            m.d.sync += [
                whole.eq(Cat(whole, *rounded)[u * b :]),
                scale.eq(Mux(vector.poisoned, _POISONED_RECORD, total)),
                part.eq(Mux(last, 0, part + 1)),
                full.eq(last),
            ]
        fits = (total >= -_SCALE_MAX) & (total <= _SCALE_MAX)
        return moves & ~vector.poisoned & ~fits


def _nearest(value: Value, places: int) -> Value:
    """``RNE(value / 2^places)``."""
    if not places:
        return value
    guard, odd = value[places - 1], value[places]
    sticky = value[: places - 1].any() if places > 1 else Const(0, 1)
    return (value >> places) + (guard & (sticky | odd))
