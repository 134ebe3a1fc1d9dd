"""Lines of delta groups on their way into the slots of a spool, or up the link: what an emission sends, or is kept."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.machine.command import Emit
from golden.parameters import Parameters
from hw import payloads
from hw.arith.bits import bounded, named
from hw.bus.ports import ENTRY_WIDTH, UNIT_BYTES, UNIT_WIDTH, MemoryWrite
from hw.control.engine import CAUSE_WIDTH, Fields, cause, operation
from hw.link.serial_delta import delta_coder
from hw.stream import Fifo
from hw.stream.records import RecordWriter, record_span

_LINE_WIDTH = 24
"""Bits of the number of a slot that a row begins with."""


def spool_ports(parameters: Parameters) -> dict[str, Any]:
    """Ports to memory of what writes lines: groups, and the lengths of lines if they differ."""
    names = ["spools_written", *(["tables_written"] if parameters.has_lengths else [])]
    return {name: Out(MemoryWrite(parameters.memory_width)) for name in names}


def _row_ports(rows: bool) -> dict[str, Any]:
    """Ports of what writes lines that come in rows."""
    return {"line": In(_LINE_WIDTH)} if rows else {}


class LineBatches(wiring.Component):
    """Cuts lines into batches that are written one after the other: how long a line is, its end tells.

    Latency: 2 clocks from the item that ends a batch to the batch. Throughput: one item per clock.

    Parameters
    ----------
    bits : int
        Bits of an item.
    rows : bool
        Lines come in rows, each of which begins with a start of its own, at slot `line`; one that follows another
        starts when the last line before it `ends`.

    Members
    -------
    operation : In(`operation` of the emit engine)
        An `Emit`, held from `start` on.
    line : In(24)
        With `rows`: the first slot, when it starts; without, it is the operation's.
    start : In(1)
        Begin, one clock; after that 17 clocks go by until the first item is taken, 25 with `rows`.
    i : In(stream of item, and last)
        Items; `last` ends a line.
    spans : Out(stream of `record_span`)
        Where the next batch goes.
    items : Out(stream of item)
        Items of the batches; there is room for two batches.
    ends : Out(1)
        Event: the last item of a line has been taken.
    length : Out(21)
        Bytes of the line, when `ends`.
    idle : Out(1)
        All that was taken has left.
    full : Out(1)
        Sticky: a line has no room in its slot.
    """

    batch = 8
    """Items of a batch."""

    def __init__(self, bits: int, *, rows: bool = False):
        self._bits, self._rows = bits, rows
        super().__init__(
            {
                "operation": In(operation("emit")),
                **_row_ports(rows),
                "start": In(1),
                "i": In(stream.Signature(data.StructLayout({"item": bits, "last": 1}))),
                "spans": Out(stream.Signature(record_span())),
                "items": Out(stream.Signature(bits)),
                "ends": Out(1),
                "length": Out(payloads.LINE_BYTES_WIDTH),
                "idle": Out(1),
                "full": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        c = Fields(self.operation, Emit)
        size = -(-self._bits // 8)
        m.submodules.queue = queue = Fifo(self._bits, 2 * self.batch)
        wiring.connect(m, queue.o, wiring.flipped(self.items))

        # The first slot is `line` slots on: a bit of `line` a clock, the highest first; then comes the spool's offset.
        first_line = self.line if self._rows else c.line
        steps = len(first_line) + 1
        unit, line, step = Signal(UNIT_WIDTH + 1), Signal(len(first_line)), Signal(range(steps + 1))
        counts = named(m, "counts", step.any())
        count = Signal(range(self.batch))
        begin = Signal(payloads.LINE_BYTES_WIDTH, name="begin")
        # Bytes of the line, the next item included.
        past = Signal(payloads.LINE_BYTES_WIDTH + 1, name="past", init=size)
        spans = self.spans
        closes = named(m, "closes", self.i.p.last | (count == self.batch - 1))
        beyond = named(m, "beyond", past > c.slot * UNIT_BYTES)
        takes = named(m, "takes", ~counts & ~self.full & (~spans.valid | spans.ready | ~closes))
        moves = named(m, "moves", self.i.valid & self.i.ready)
        m.d.comb += [
            self.i.ready.eq(takes & queue.i.ready & ~beyond),
            queue.i.valid.eq(self.i.valid & takes & ~beyond),
            queue.i.payload.eq(self.i.p.item),
            self.ends.eq(moves & self.i.p.last),
            self.length.eq(past),
            self.idle.eq(~spans.valid & ~count.any()),
        ]
        added = named(m, "added", Mux(step == 1, c.spool.offset, Mux(counts & ~line[-1], 0, c.slot)))
        following = named(m, "following", Mux(step > 1, unit << 1, unit) + added)
        with m.If(counts | (moves & self.i.p.last)):
            m.d.sync += unit.eq(bounded(following, UNIT_WIDTH + 1))
        with m.If(self.start):  # even while it counts: an operation that went up the link has not waited for its place
            m.d.sync += [unit.eq(0), line.eq(first_line), step.eq(steps)]
        with m.Elif(counts):
            m.d.sync += [line.eq(line << 1), step.eq(step - 1)]
        with m.If(self.i.valid & takes & beyond):
            m.d.sync += self.full.eq(1)

        with m.If(spans.ready):
            m.d.sync += spans.valid.eq(0)
        with m.If(moves):
            m.d.sync += [past.eq(Mux(self.i.p.last, 0, self.length) + size), count.eq(count + 1)]
            with m.If(closes):
                first = Cat(Const(0, UNIT_BYTES.bit_length() - 1), bounded(unit, UNIT_WIDTH))
                m.d.sync += [
                    spans.valid.eq(1),
                    spans.p.region.eq(c.spool.region),
                    spans.p.address.eq(first + begin),
                    spans.p.records.eq(count + 1),
                    count.eq(0),
                    begin.eq(self.length),
                ]
            with m.If(self.i.p.last):
                m.d.sync += begin.eq(0)
        return m


class SpoolWriter(wiring.Component):
    """Sends the groups of an `Emit` where its fields say: records or a delta stream into slots, or groups to the link.

    Throughput: one group per clock, or as memory takes words; to the link without latency.

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.
    rows : bool
        As that of `LineBatches`.

    Members
    -------
    operation : In(`operation` of the emit engine)
        An `Emit`, held from `start` until `idle`.
    line, ends : In(24), Out(1)
        With `rows`: those of `LineBatches`.
    start : In(1)
        Begin, one clock, before or when the first group comes.
    groups : In(stream of `payloads.stream_group`)
        Groups; `last` ends a line.
    up : Out(stream of `payloads.stream_group`)
        The link.
    spools_written, tables_written : Out(MemoryWrite)
        Memory: `spool_ports`.
    idle : Out(1)
        Every line that came is whole, and has arrived in memory or left for the link.
    error : Out(4)
        Cause of an error: ``field`` if a slot is too small. Until a reset.
    """

    def __init__(self, parameters: Parameters, *, rows: bool = False):
        self._parameters, self._rows = parameters, rows
        super().__init__(
            {
                "operation": In(operation("emit")),
                **_row_ports(rows),
                **({"ends": Out(1)} if rows else {}),
                "start": In(1),
                "groups": In(stream.Signature(payloads.stream_group(parameters))),
                "up": Out(stream.Signature(payloads.stream_group(parameters))),
                **spool_ports(parameters),
                "idle": Out(1),
                "error": Out(CAUSE_WIDTH),
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, c = self._parameters, Fields(self.operation, Emit)
        groups, compressed = self.groups.p.group, p.link_form == "compressed"
        bits = p.link_width if compressed else payloads.group_record(p).size
        m.submodules.batches = batches = LineBatches(bits, rows=self._rows)
        m.submodules.writer = writer = RecordWriter(p.memory_width, bits)
        wiring.connect(m, batches.spans, writer.i)
        wiring.connect(m, batches.items, writer.items)
        wiring.connect(m, writer.port, wiring.flipped(self.spools_written))
        m.d.comb += [batches.operation.eq(self.operation), batches.start.eq(self.start)]
        if self._rows:
            m.d.comb += [batches.line.eq(self.line), self.ends.eq(batches.ends)]
        with m.If(batches.full):
            m.d.comb += self.error.eq(cause("field"))

        sink = batches.i
        tables_idle = Const(1, 1)
        if compressed:
            m.submodules.coder = coder = delta_coder(p)
            sink = coder.i
            tables_idle = self._lengths(m, coder.o, batches)
            m.d.comb += [coder.passes.eq(c.passes), sink.payload.eq(self.groups.payload)]
        else:
            item = sink.p.item
            if p.replays:
                sink = stream.Signature(data.StructLayout({"data": bits, "last": 1})).create(path=("records",))
                item, tables_idle = sink.p.data, self._lengths(m, sink, batches)
            record = Signal(payloads.group_record(p))
            m.d.comb += [record.exponent.eq(groups.exponent), record.digits.eq(groups.digits)]
            for index in range(p.outliers):
                slot = groups.outliers[index]
                m.d.comb += [
                    record.valid[index].eq(slot.valid),
                    record.lanes[index].eq(slot.lane),
                    record.values[index].eq(slot.value),
                ]
            if p.replays:
                m.d.comb += record.replay.eq(groups.replay)
            m.d.comb += [item.eq(record), sink.p.last.eq(self.groups.p.last)]
        m.d.comb += [
            self.up.payload.eq(self.groups.payload),
            self.up.valid.eq(self.groups.valid & c.link),
            sink.valid.eq(self.groups.valid & ~c.link),
            self.groups.ready.eq(Mux(c.link, self.up.ready, sink.ready)),
        ]

        # Lines whose last group has come and whose last word has not left the coder yet, and whether one has begun.
        lines, begun = Signal(6), Signal()
        comes = named(m, "comes", self.groups.valid & self.groups.ready)
        with m.If(comes):
            m.d.sync += begun.eq(~self.groups.p.last)
        m.d.sync += lines.eq(lines + (comes & self.groups.p.last & ~c.link) - batches.ends)
        m.d.comb += self.idle.eq(~begun & ~lines.any() & batches.idle & writer.idle & tables_idle)
        return m

    def _lengths(self, m: Module, words: stream.Interface, batches: LineBatches) -> Value:
        """Pass the words on, and write the length of each line; returns whether all are written."""
        c, port = Fields(self.operation, Emit), self.tables_written
        word_bytes = self._parameters.memory_width // 8
        entry, length = Signal(ENTRY_WIDTH), Signal(32)
        holds = named(m, "holds", words.p.last & (port.request.valid | port.data.valid))
        place = entry[: (word_bytes // 4 - 1).bit_length()]
        m.d.comb += [
            batches.i.p.item.eq(words.p.data),
            batches.i.p.last.eq(words.p.last),
            batches.i.valid.eq(words.valid & ~holds),
            words.ready.eq(batches.i.ready & ~holds),
            port.request.p.region.eq(c.lengths.region),
            port.request.p.bytes.eq(4),
            port.data.p.data.eq(length.replicate(word_bytes // 4)),
        ]
        for group in (port.request, port.data):
            with m.If(group.ready):
                m.d.sync += group.valid.eq(0)
        first_entry, following = (c.lengths.offset << 3) + (self.line if self._rows else c.line), entry + 1
        if self._rows:
            following = Mux(self.start, first_entry, following)
        with m.If(self.start):
            m.d.sync += entry.eq(first_entry)
        with m.If(batches.ends):
            m.d.sync += [
                port.request.valid.eq(1),
                port.data.valid.eq(1),
                port.request.p.address.eq(Cat(Const(0, 2), entry)),
                port.data.p.strobe.eq(Const(15, word_bytes) << (place << 2)),
                length.eq(batches.length),
                entry.eq(following),
            ]
        return ~port.request.valid & ~port.data.valid & port.idle
