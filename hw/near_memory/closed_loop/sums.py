"""Exact sums of a state's elements and of their squares, kept up with what changes."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw.arith.bits import filled, named
from hw.bus.ports import REGION_WIDTH, MemoryRead, MemoryWrite
from hw.control.engine import OFFSET_WIDTH
from hw.memory import Ram
from hw.near_memory.closed_loop.places import CHANNEL_WIDTH, POSITION_WIDTH
from hw.stream import SkidBuffer, Stage
from hw.stream.records import RecordReader, RecordWriter

_SUM_WIDTH = 64
"""Bits of each sum of a record (sums, version 1): of elements; of squares, with a bit for poison above."""

_SUMS = 2
"""Sums of a record."""

_BASE_WIDTH = POSITION_WIDTH + 1
"""Bits of the number of a record."""


def summed_vector(parameters: Parameters) -> data.StructLayout:
    """A vector whose sums are kept: its record 0, and its place.

    The record of a channel, or of a position, is `base` and its number.
    """
    return data.StructLayout(
        {
            "base": POSITION_WIDTH,
            "position": POSITION_WIDTH,
            "channel": CHANNEL_WIDTH,
            "used": range(parameters.lanes + 1),
        }
    )


def changed_part(parameters: Parameters) -> data.StructLayout:
    """u elements of a vector as they were and as they are; `last` ends the vector, `end` the last one of all."""
    elements = data.ArrayLayout(signed(parameters.state_width), parameters.near_lanes)
    return data.StructLayout({"old": elements, "new": elements, "last": 1, "end": 1})


class Sums(wiring.Component):
    """Adds what changed of Y and Y^2 to records of sums.

    Near memory has a *window* of records: all those of a vector of channels, or n positions. What changes is added up
    there; a vector beyond the window closes it. Then its records are read, what changed is added, and they are written.
    ``Y'^2 - Y^2`` is one product, that of sum and difference.

    A row of the window is as wide as a part. Where each lane has a channel of its own, so has each column. Elsewhere
    every record has a row to itself, whose columns count together; and where a tensor has fewer channels than lanes,
    elements come one by one, as neighbours do not share a record.

    Throughput: a part a clock, an element a clock where channels are fewer than lanes. A window that closes takes two
    clocks for each record, 2 u clocks where columns count together.

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.
    elements : int
        How many elements of an operation a record counts at most.

    Members
    -------
    vectors : In(stream of `summed_vector`)
        Vectors, in an order in which no record comes back after one beyond it; see ``docs/machine.md``.
    i : In(stream of `changed_part`)
        Their elements. Those past the `used` ones of a vector do not count.
    by_position, fresh : In(1)
        What a record is for, from a clock before the first vector on; whether records start at 0.
    channels : In(16)
        Channels of the tensor; from a clock before its first vector on.
    region, offset : In
        Operand of record 0.
    sums_read, sums_written : MemoryRead, MemoryWrite
        Memory.
    idle : Out(1)
        All that came is in memory, if the last of it was marked `end`.
    disordered : Out(1)
        A record came back; stays until a reset.
    """

    def __init__(self, parameters: Parameters, elements: int):
        self._parameters = p = parameters
        count_width = elements.bit_length()
        self._column = data.StructLayout(
            {
                "total": signed(p.state_width + 1 + count_width),
                "square": signed(2 * p.state_width + count_width),
                "poisoned": 1,
            }
        )
        # Either sum of a column.
        self._value = signed(max(self._column.members["total"].width, self._column.members["square"].width))
        self._change = data.StructLayout(
            {"total": signed(p.state_width + 1), "square": signed(2 * p.state_width), "poisoned": 1}
        )
        # What a transaction says of its row: `slot` is that of a channel, `records` are those of its vector.
        self._where = {"base": _BASE_WIDTH, "slot": range(p.lanes), "records": range(p.lanes + 1), "any": 1, "end": 1}
        super().__init__(
            {
                "vectors": In(stream.Signature(summed_vector(p))),
                "i": In(stream.Signature(changed_part(p))),
                "by_position": In(1),
                "fresh": In(1),
                "channels": In(CHANNEL_WIDTH),
                "region": In(REGION_WIDTH),
                "offset": In(OFFSET_WIDTH),
                "sums_read": Out(MemoryRead(p.memory_width)),
                "sums_written": Out(MemoryWrite(p.memory_width)),
                "idle": Out(1),
                "disordered": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p = self._parameters
        narrow, by_position = Signal(reset_less=True), Signal(reset_less=True)
        m.d.sync += [narrow.eq(self.channels < p.lanes), by_position.eq(self.by_position)]
        m.submodules.reader = reader = RecordReader(p.memory_width, _SUM_WIDTH, _SUMS)
        m.submodules.writer = writer = RecordWriter(p.memory_width, _SUM_WIDTH, _SUMS)
        wiring.connect(m, reader.port, wiring.flipped(self.sums_read))
        wiring.connect(m, writer.port, wiring.flipped(self.sums_written))
        changed = self._change_of(m, self._split(m, narrow, by_position))
        # Whether the window takes a change is told by long comparisons: what is before it does not wait for them.
        m.submodules.changes = changes = SkidBuffer(changed.payload.shape())
        wiring.connect(m, changed, changes.i)
        closing = self._keep(m, narrow, by_position, changes.o, reader, writer)
        self._total(m, closing, reader.o, writer.items)
        return m

    def _split(self, m: Module, narrow: Value, by_position: Value) -> stream.Interface:
        """What is added at a time: a part, or an element where neighbours share no row."""
        p, i, vector = self._parameters, self.i, self.vectors.p
        n, u = p.lanes, p.near_lanes
        fields = {"old": i.p.old.shape(), "new": i.p.new.shape(), "counts": u, **self._where}
        o = stream.Signature(data.StructLayout(fields)).create(path=("split",))
        starts = Signal(init=1)
        part, lane = Signal(range(n // u)), Signal(range(u))
        following = {"used": Signal(range(n + 1)), "position": Signal(POSITION_WIDTH), "channel": Signal(CHANNEL_WIDTH)}
        now = {name: named(m, f"{name}_now", Mux(starts, vector[name], value)) for name, value in following.items()}
        whole, moves, wraps = (Signal(name=name) for name in ("whole", "moves", "wraps"))
        some = now["used"].any()
        m.d.comb += [
            o.valid.eq(i.valid & self.vectors.valid),
            whole.eq(~narrow | (lane == u - 1)),
            moves.eq(o.valid & o.ready),
            i.ready.eq(self.vectors.valid & o.ready & whole),
            self.vectors.ready.eq(moves & whole & i.p.last),
            wraps.eq(now["channel"] == self.channels - 1),
            o.p.old.eq(i.p.old),
            o.p.new.eq(i.p.new),
            o.p.counts.eq(Mux(narrow, some << lane, Cat(now["used"] > each for each in range(u)))),
            o.p.any.eq(some),
            o.p.base.eq(vector.base + Mux(by_position, now["position"], Mux(narrow, 0, vector.channel))),
            o.p.slot.eq(Mux(narrow, now["channel"], part)),
            o.p.records.eq(Mux(narrow, self.channels, vector.used)),
            o.p.end.eq(i.p.end & whole),
        ]
        step = Mux(narrow, 1, u)
        with m.If(moves):
            m.d.sync += [
                starts.eq(whole & i.p.last),
                lane.eq(Mux(whole, 0, lane + 1)),
                following["used"].eq(Mux(now["used"] > step, now["used"] - step, 0)),
                following["channel"].eq(Mux(narrow, Mux(wraps, 0, now["channel"] + 1), now["channel"])),
                following["position"].eq(now["position"] + (narrow & wraps)),
            ]
            with m.If(whole):
                m.d.sync += part.eq(Mux(i.p.last, 0, part + 1))
        return o

    def _change_of(self, m: Module, split: stream.Interface) -> stream.Interface:
        """By how much each lane changes Y and Y^2."""
        p, c = self._parameters, split.p
        poison = -(1 << (p.state_width - 1))
        o = stream.Signature(
            data.StructLayout({"changes": data.ArrayLayout(self._change, p.near_lanes), **self._where})
        ).create(path=("changed",))
        s = Stage.begin(m, split)
        s.old, s.new, s.counts = list(c.old), list(c.new), list(c.counts)
        for name in self._where:
            s.make(name, c[name])
        lost = [(old == poison, new == poison) for old, new in zip(s.old, s.new, strict=True)]
        s.poisoned = [counts & after for counts, (_, after) in zip(s.counts, lost, strict=True)]
        s.before = [
            Mux(counts & ~before, old, 0).as_signed()
            for counts, old, (before, _) in zip(s.counts, s.old, lost, strict=True)
        ]
        s.after = [
            Mux(counts & ~after, new, 0).as_signed()
            for counts, new, (_, after) in zip(s.counts, s.new, lost, strict=True)
        ]

        s = s.cut()
        s.total = [after - before for before, after in zip(s.before, s.after, strict=True)]
        s.both = [after + before for before, after in zip(s.before, s.after, strict=True)]

        # Sum and difference are odd together. Halved they fit a multiplier of the state's width:
        # (2a + 1) (2b + 1) = 4ab + 2 (a + b) + 1, and a + b = Y' - 1.
        s = s.cut()
        s.product = [(total >> 1) * (both >> 1) for total, both in zip(s.total, s.both, strict=True)]
        s.rest = [Mux(total[0], (after << 1) - 1, 0).as_signed() for total, after in zip(s.total, s.after, strict=True)]

        s = s.cut()
        s.square = [(product << 2) + rest for product, rest in zip(s.product, s.rest, strict=True)]

        s = s.cut()
        changes = [
            filled(m, f"change{lane}", self._change, total=total, square=square, poisoned=poisoned)
            for lane, (total, square, poisoned) in enumerate(zip(s.total, s.square, s.poisoned, strict=True))
        ]
        fields = {name: getattr(s, name) for name in self._where}
        s.finish(o, filled(m, "changed_result", o.payload.shape(), changes=changes, **fields), depth=p.pipeline_depth)
        return o

    def _keep(
        self,
        m: Module,
        narrow: Value,
        by_position: Value,
        changed: stream.Interface,
        reader: RecordReader,
        writer: RecordWriter,
    ) -> stream.Interface:
        """The window: what changed is added to its rows; a stream of their columns when it closes."""
        p, c = self._parameters, changed.p
        n, u = p.lanes, p.near_lanes
        m.submodules.rows = rows = Ram(data.ArrayLayout(self._column, u), n, distributed=True)
        opened, ending, busy = Signal(name="open"), Signal(), Signal()
        base, records, high = Signal(_BASE_WIDTH), Signal(range(n + 1)), Signal(range(n))
        touched, gathers = Signal(n), Signal()

        distance = named(m, "distance", c.base - base)
        within, behind, takes = (Signal(name=name) for name in ("within", "behind", "takes"))
        row = Signal(range(n))
        new_row = named(m, "new_row", ~(opened & touched.bit_select(row, 1)))
        # All that is compared are small numbers, where nothing stands above them.
        small, near = distance[: len(records)], Signal(name="near")
        m.d.comb += [
            near.eq(~distance[len(records) :].any()),
            within.eq(near & Mux(by_position, (small >= high) & (small < n), ~small.any() & (c.records == records))),
            behind.eq(distance[-1] | (near & (small < Mux(by_position, high, records)))),
            row.eq(Mux(by_position, Mux(opened, distance, 0), c.slot)),
            takes.eq(gathers & changed.valid & (~opened | within | ~c.any)),
        ]

        # An addition takes two clocks: the row is read, then written. One that follows at once takes what was written.
        adds, again, first = Signal(name="adds"), Signal(name="adds_again"), Signal(name="adds_first")
        at = Signal(range(n), name="adds_row")
        changes = Signal(c.changes.shape(), name="adds_changes")
        written = Signal(rows.write_data.shape(), name="added")
        m.d.comb += [rows.write_enable.eq(adds), rows.write_address.eq(at), rows.write_data.eq(written)]
        recent = Signal.like(written, name="added_before")
        for column in range(u):
            change, kept = changes[column], Signal(self._column, name=f"kept{column}")
            m.d.comb += [
                kept.eq(Mux(first, 0, Mux(again, recent[column].as_value(), rows.read_data[column].as_value()))),
                written[column].total.eq(kept.total + change.total),
                written[column].square.eq(kept.square + change.square),
                written[column].poisoned.eq(kept.poisoned | change.poisoned),
            ]
        m.d.sync += adds.eq(takes & c.any)
        with m.If(adds):
            m.d.sync += recent.eq(written)

        # A window that closes: record by record, first the total of its columns, then their squares.
        columns = data.StructLayout({"value": self._value, "poisoned": 1, "squares": 1, "starts": 1, "ends": 1})
        o = stream.Signature(columns).create(path=("closing",))
        lane, line, left = (
            Signal(range(u), name="lane"),
            Signal(range(n), name="line"),
            Signal(range(n + 1), name="left"),
        )
        squares, whole, moves, here, skips = (
            Signal(name=name) for name in ("squares", "row_ends", "moves", "here", "skips")
        )
        separate = named(m, "separate", ~by_position & ~narrow)
        column = data.View(self._column, rows.read_data.as_value().word_select(lane, self._column.size))
        last_lane = named(m, "last_lane", lane == u - 1)
        record_ends = named(m, "record_ends", squares & (last_lane | separate))
        m.d.comb += [
            changed.ready.eq(takes),
            rows.read_address.eq(row),
            skips.eq(by_position & ~here),
            whole.eq(skips | (last_lane & squares)),
            o.p.value.eq(Mux(here, Mux(squares, column.square, column.total), 0)),
            o.p.poisoned.eq(here & column.poisoned),
            o.p.squares.eq(squares),
            o.p.starts.eq(separate | (lane == 0)),
            o.p.ends.eq(separate | last_lane),
            self.idle.eq(~busy & writer.idle),
        ]
        # Records are asked for while changes are still gathered, as far as the reader takes it.
        asked, asks, there = Signal(range(n + 1), name="asked"), Signal(name="asks"), Signal(name="asked_there")
        m.d.comb += [
            asks.eq(opened & ~self.fresh & Mux(by_position, asked <= high, asked == 0)),
            there.eq(~by_position | touched.bit_select(asked, 1)),
            reader.i.valid.eq(asks & there),
        ]
        with m.If(asks & (~there | reader.i.ready)):
            m.d.sync += asked.eq(asked + 1)
        for spans, number in ((reader.i, asked), (writer.i, line)):
            m.d.comb += [
                spans.p.region.eq(self.region),
                spans.p.address.eq(self._address(base + Mux(by_position, number, 0))),
                spans.p.records.eq(Mux(by_position, 1, records)),
            ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += busy.eq(1)
        with m.FSM(name="window"):
            with m.State("gather"):
                m.d.comb += [gathers.eq(1), rows.read_enable.eq(takes)]
                with m.If(takes):
                    with m.If(c.any):
                        m.d.sync += [
                            opened.eq(1),
                            first.eq(new_row),
                            again.eq(adds & (at == row)),
                            at.eq(row),
                            changes.eq(c.changes),
                            touched.eq(touched | (1 << row)),
                            high.eq(row),
                        ]
                        with m.If(~opened):
                            m.d.sync += [base.eq(c.base), records.eq(c.records)]
                    with m.If(c.end):
                        m.d.sync += ending.eq(1)
                        m.next = "settle"
                with m.Elif(changed.valid & behind):
                    m.d.sync += self.disordered.eq(1)
                with m.Elif(changed.valid):
                    m.next = "settle"
            with m.State("settle"):
                # The last addition is written; row 0 is read after it.
                m.d.comb += [rows.read_enable.eq(1), rows.read_address.eq(0)]
                m.d.sync += [line.eq(0), here.eq(touched[0]), left.eq(Mux(by_position, high + 1, records))]
                with m.If(~adds & ~opened):
                    m.d.sync += [ending.eq(0), busy.eq(0)]
                    m.next = "gather"
                with m.Elif(~adds):
                    m.d.comb += writer.i.valid.eq(~by_position)
                    with m.If(by_position | writer.i.ready):
                        m.next = "close"
            with m.State("close"):
                announces = named(m, "announces", by_position & here & (lane == 0) & ~squares)
                m.d.comb += [
                    o.valid.eq(~skips & (~announces | writer.i.ready)),
                    writer.i.valid.eq(announces & o.ready),
                    moves.eq(skips | (o.valid & o.ready)),
                    rows.read_enable.eq(moves & whole),
                    rows.read_address.eq(line + 1),
                ]
                with m.If(moves):
                    with m.If(separate | last_lane):
                        m.d.sync += squares.eq(~squares & ~skips)
                    with m.If(~separate | squares):
                        m.d.sync += lane.eq(Mux(last_lane, 0, lane + 1))
                    with m.If(skips):
                        m.d.sync += lane.eq(0)
                    with m.If(whole):
                        m.d.sync += [line.eq(line + 1), here.eq(touched.bit_select((line + 1)[: len(line)], 1))]
                    with m.If(skips | record_ends):
                        m.d.sync += left.eq(left - 1)
                        with m.If(left == 1):
                            m.d.sync += [lane.eq(0), opened.eq(0), touched.eq(0), asked.eq(0), ending.eq(0)]
                            with m.If(ending):
                                m.d.sync += busy.eq(0)
                            m.next = "gather"
        return o

    def _total(self, m: Module, closing: stream.Interface, held: stream.Interface, items: stream.Interface) -> None:
        """Add the columns of each record, and what it held: of both sums, one after the other."""
        c = closing.p
        total, before = Signal(_SUM_WIDTH, name="total"), Signal(_SUM_WIDTH, name="total_before")
        ready, asks, moves = (Signal(name=name) for name in ("total_ready", "held_asked", "total_moves"))
        after = Signal(_SUM_WIDTH, name="total_after")
        m.d.comb += [
            asks.eq(c.starts & ~self.fresh),
            ready.eq((~asks | held.valid) & (~c.ends | ~items.valid | items.ready)),
            closing.ready.eq(ready),
            moves.eq(closing.valid & ready),
            held.ready.eq(moves & asks),
            before.eq(Mux(c.starts, Mux(self.fresh, 0, held.payload), total)),
            after.eq(before + c.value),
        ]
        with m.If(c.squares):
            # Whether an element is poisoned stands above the squares.
            m.d.comb += after[-1].eq(before[-1] | c.poisoned)
        with m.If(items.ready):
            m.d.sync += items.valid.eq(0)
        with m.If(moves):
            m.d.sync += total.eq(after)
            with m.If(c.ends):
                m.d.sync += [items.payload.eq(after), items.valid.eq(1)]

    def _address(self, record: Value) -> Value:
        """Address of a record from the base of the region."""
        return Cat(Const(0, 4), (self.offset << 1) + record)
