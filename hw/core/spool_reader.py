"""Lines of a spool from memory: records of groups that are checked, or streams that are decoded."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.parameters import ZERO_GROUP, Parameters
from hw import payloads
from hw.arith.bits import choose, named, or_tree
from hw.arith.serial import Divider
from hw.bus.ports import REGION_WIDTH, UNIT_BYTES, UNIT_WIDTH, MemoryRead
from hw.core.load_plan import spool_line
from hw.link.serial_delta import delta_decoder
from hw.part import Part
from hw.stream import Fifo, Stage
from hw.stream.records import RecordReader
from hw.units.delta_compressor import PASSES_WIDTH


class _SpoolReader(Part):
    """What both forms share.

    Members
    -------
    i : In(stream of `spool_line`)
        Lines to read; several are asked for ahead.
    region, lengths_region : In(3)
        Of the spool, and of its table of lengths.
    records : In(16)
        Groups of a line.
    slot : In(16)
        Units of memory that a line has room in.
    passes : In(3)
        Groups of a vector, minus 1.
    o : Out(stream of `payloads.stream_group`)
        Groups; `last` ends a line.
    damaged : Out(1)
        Sticky: a record, a stream or a length that cannot be one.
    spools_read : Out(MemoryRead)
        Memory, for groups.
    tables_read : Out(MemoryRead)
        Memory, for lengths; only where a table holds them.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        tables = {"tables_read": Out(MemoryRead(parameters.memory_width))} if parameters.has_lengths else {}
        return {
            "i": In(stream.Signature(spool_line(parameters))),
            "region": In(REGION_WIDTH),
            "lengths_region": In(REGION_WIDTH),
            "records": In(16),
            "slot": In(16),
            "passes": In(PASSES_WIDTH),
            "o": Out(stream.Signature(payloads.stream_group(parameters))),
            "damaged": Out(1),
            "spools_read": Out(MemoryRead(parameters.memory_width)),
            **tables,
        }

    def _queues(self, m: Module) -> tuple[Fifo, Fifo]:
        """Lines whose lengths are asked for; items of those that are asked for themselves."""
        asked = data.StructLayout({"unit": UNIT_WIDTH, "entry": range(self._parameters.memory_width // 32)})
        m.submodules.asked = asked = Fifo(asked, 8)
        m.submodules.counts = counts = Fifo(20, 4)
        return asked, counts

    def _ask(self, m: Module, items: RecordReader, asked: Fifo, counts: Fifo) -> Value:
        """Ask for the length of each line, then for its items; returns whether a length is wrong."""
        size, entries = items.record_bytes, self._parameters.memory_width // 32
        request, table = self.tables_read.request, self.tables_read.data
        m.d.comb += [
            request.valid.eq(self.i.valid & asked.i.ready),
            request.p.region.eq(self.lengths_region),
            request.p.address.eq(self.i.p.entry * 4),
            request.p.bytes.eq(4),
            asked.i.valid.eq(self.i.valid & request.ready),
            asked.i.p.unit.eq(self.i.p.unit),
            asked.i.p.entry.eq(self.i.p.entry[: (entries - 1).bit_length()]),
            self.i.ready.eq(request.ready & asked.i.ready),
        ]

        # A length must be that of some items, and fit the slot; the line is asked for only then.
        length = named(m, "length", table.payload.word_select(asked.o.p.entry, 32) if entries > 1 else table.payload)
        found = named(m, "found", table.valid & asked.o.valid)
        unfit = ~length.any() | (length > self.slot * UNIT_BYTES)
        if size & (size - 1):
            m.submodules.divider = divider = Divider(payloads.LINE_BYTES_WIDTH, size)
            number, rest, divided = divider.o.p.quotient, divider.o.p.rest, divider.o.valid
            m.d.comb += [
                divider.i.valid.eq(found & ~unfit),
                divider.i.payload.eq(length),
                divider.o.ready.eq(table.ready),
            ]
        else:
            number, rest, divided = length // size, length % size, Const(1, 1)
        broken = named(m, "broken", unfit | (divided & rest.any()))
        known = named(m, "known", found & ~broken & divided)
        asks = named(m, "asks", known & items.i.ready & counts.i.ready)
        m.d.comb += [
            items.i.valid.eq(known & counts.i.ready),
            items.i.p.region.eq(self.region),
            items.i.p.address.eq(asked.o.p.unit * UNIT_BYTES),
            items.i.p.records.eq(number),
            counts.i.valid.eq(known & items.i.ready),
            counts.i.payload.eq(number),
            table.ready.eq(asks),
            asked.o.ready.eq(asks),
        ]
        return found & broken


class DirectSpoolReader(_SpoolReader):
    """Reads records of groups, and checks that each is a group (numerics, section 2).

    On a machine that knows replay groups, how many records a line has is found by dividing its length.
    """

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, n = self._parameters, self._parameters.lanes
        m.submodules.reader = reader = RecordReader(p.memory_width, payloads.group_record(p).size)
        wiring.connect(m, reader.port, wiring.flipped(self.spools_read))
        if p.replays:
            asked, counts = self._queues(m)
            unsound = self._ask(m, reader, asked, counts)
            records = counts.o.payload
        else:
            records, unsound = self.records, Const(0)
            m.d.comb += [
                reader.i.valid.eq(self.i.valid),
                reader.i.p.region.eq(self.region),
                reader.i.p.address.eq(self.i.p.unit * UNIT_BYTES),
                reader.i.p.records.eq(self.records),
                self.i.ready.eq(reader.i.ready),
            ]

        s = Stage.begin(m, reader.o)
        record = data.View(payloads.group_record(p), reader.o.payload)
        s.code, s.digits = record.exponent, list(record.digits)
        s.valid_bits = record.valid if p.outliers else Const(0, 0)
        s.lanes, s.values = (list(record.lanes), list(record.values)) if p.outliers else ([], [])
        if p.replays:
            s.replay = record.replay
        s.used = Cat(digit.any() for digit in s.digits)
        s.wrong = or_tree(digit < -p.digit_max for digit in s.digits)

        s = s.cut()
        bare = s.code >= ZERO_GROUP
        wrong = [s.wrong, (s.code > 42 - p.digit_width) & ~bare, bare == (s.used.any() | s.valid_bits.any())]
        for index in range(p.outliers):
            valid, lane, value = s.valid_bits[index], s.lanes[index], s.values[index]
            taken = choose(m, f"taken{index}_", lane, list(s.used))
            wrong += [~valid & (lane.any() | value.any()), valid & (taken | value[10:15].all())]
            if n & (n - 1):
                wrong.append(valid & (lane >= n))
            if index:
                wrong.append(valid & (~s.valid_bits[index - 1] | (lane <= s.lanes[index - 1])))
        if p.replays:
            wrong.append(s.replay & (bare | s.used.any()))
        s.refused = or_tree(wrong)

        left = Signal.like(records)
        last = named(m, "last", left == 1)
        ends = named(m, "ends", Mux(left.any(), last, records == 1))
        with m.If(s.moves):
            m.d.sync += [left.eq(Mux(left.any(), left, records) - 1), self.damaged.eq(self.damaged | s.refused)]
        if p.replays:
            m.d.comb += counts.o.ready.eq(s.moves & ends)
            with m.If(unsound):
                m.d.sync += self.damaged.eq(1)
        result = Signal(payloads.stream_group(p), name="result")
        m.d.comb += [result.last.eq(ends), result.group.exponent.eq(s.code), result.group.digits.eq(Cat(s.digits))]
        for index in range(p.outliers):
            slot = Cat(s.valid_bits[index], s.lanes[index], s.values[index])
            m.d.comb += result.group.outliers[index].eq(slot)
        if p.replays:
            m.d.comb += result.group.replay.eq(s.replay)
        s.finish(self.o, result, depth=p.pipeline_depth)
        return m


class CompressedSpoolReader(_SpoolReader):
    """Reads the length of each line's stream, then the stream, and decodes it."""

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p = self._parameters
        m.submodules.words = words = RecordReader(p.memory_width, p.link_width)
        asked, counts = self._queues(m)
        m.submodules.decoder = decoder = delta_decoder(p)
        wiring.connect(m, words.port, wiring.flipped(self.spools_read))
        wiring.connect(m, decoder.o, wiring.flipped(self.o))
        broken = self._ask(m, words, asked, counts)

        left = Signal(len(counts.o.payload))
        last = named(m, "last", left == 1)
        m.d.comb += [
            counts.o.ready.eq(~left.any()),
            decoder.i.valid.eq(words.o.valid & left.any()),
            decoder.i.p.data.eq(words.o.payload),
            decoder.i.p.last.eq(last),
            decoder.passes.eq(self.passes),
            words.o.ready.eq(decoder.i.ready & left.any()),
        ]
        with m.If(counts.o.valid & counts.o.ready):
            m.d.sync += left.eq(counts.o.payload)
        with m.Elif(decoder.i.valid & decoder.i.ready):
            m.d.sync += left.eq(left - 1)
        # No decoder looks at outliers, which are finite numbers.
        outliers = decoder.o.p.group.outliers if p.outliers else []
        wild = or_tree(outlier.valid & outlier.value[10:15].all() for outlier in outliers)
        unsound = Signal()
        m.d.sync += unsound.eq(unsound | broken | (decoder.o.valid & wild))
        m.d.comb += self.damaged.eq(unsound | decoder.error)
        return m


def spool_reader(parameters: Parameters) -> DirectSpoolReader | CompressedSpoolReader:
    """The reader for a machine's `link_form`."""
    return (CompressedSpoolReader if parameters.link_form == "compressed" else DirectSpoolReader)(parameters)
