"""The load engine: weights and delta groups from memory, or from the link, into the buffers of the array."""

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.machine.command import LoadGroups, LoadScales, LoadWeights
from golden.parameters import Parameters
from hw import payloads
from hw.arith.bits import named
from hw.bus.ports import UNIT_BYTES
from hw.control.engine import CAUSE_WIDTH, Engine, Fields, cause, operation
from hw.core.chain_path import ScaleLoader, scale_write, tiles_waiting
from hw.core.group_mask import GroupMask
from hw.core.line_writer import LineWriter, ZeroWriter, groups_sent
from hw.core.load_plan import LoadPlan, copies
from hw.core.spool_reader import CompressedSpoolReader, DirectSpoolReader, spool_reader
from hw.core.vector_filler import VectorFiller
from hw.part import Part
from hw.stream import Fifo, SkidBuffer
from hw.stream.fork import fork
from hw.stream.records import RecordReader

_SCALE_MAX = 220
_POISONED_RECORD = -256
"""Scale of a record that poisons what it takes part in."""


class WeightLoader(Part):
    """Carries out a `LoadWeights`.

    Throughput: one record in `Parameters.record_clocks`, or as memory gives words.

    Members
    -------
    operation : In(`operation` of the load engine)
        A `LoadWeights`, held from `start` to `done`.
    start : In(1)
        Begin, one clock.
    o : Out(stream of `payloads.weight_write`)
        Records to write.
    done : Out(1)
        Event: the last record has been written.
    error : Out(4)
        Cause of an error; until a reset.
    weights_read : Out(MemoryRead)
        Memory.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "operation": In(operation("load", parameters.dataflows)),
            "start": In(1),
            "o": Out(stream.Signature(payloads.weight_write(parameters))),
            "done": Out(1),
            "error": Out(4),
            "weights_read": Engine.read(parameters),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, c = self._parameters, Fields(self.operation, LoadWeights)
        # Whole bytes: the bits that fill the last one are read and dropped, so that no piece of a record is cut short.
        size = payloads.weight_record(p).size
        bits = -(-size // 8) * 8
        m.submodules.reader = reader = RecordReader(p.memory_width, bits, clocks=p.record_clocks)
        # A word waits here while the one before it is cut up: the hub gives no word before the last one is taken.
        words, word = self.weights_read.data, reader.port.data
        wiring.connect(m, reader.port.request, wiring.flipped(self.weights_read.request))
        m.d.comb += words.ready.eq(~word.valid | word.ready)
        with m.If(words.ready):
            m.d.sync += [word.valid.eq(words.valid), word.payload.eq(words.payload)]
        asks, left = Signal(), Signal(16)
        # Bytes of the records that are skipped: a bit of their size a clock, the highest first.
        skipped, bit = Signal(32), Signal(range(reader.record_bytes.bit_length() + 1))
        record_bytes = Const(reader.record_bytes << 1)
        address = Signal.like(self.o.p.address)
        found = named(m, "found", reader.o.payload[:size])
        scale = named(m, "scale", self.o.p.record.scale)
        beyond = named(m, "beyond", (scale > _SCALE_MAX) | ((scale < -_SCALE_MAX) & (scale != _POISONED_RECORD)))
        written = named(m, "written", self.o.valid & self.o.ready)
        m.d.comb += [
            reader.i.valid.eq(asks),
            reader.i.p.region.eq(c.source.region),
            reader.i.p.address.eq(c.source.offset * UNIT_BYTES + skipped),
            reader.i.p.records.eq(c.records),
            self.o.valid.eq(reader.o.valid & ~beyond),
            self.o.p.half.eq(c.half),
            self.o.p.address.eq(address),
            self.o.p.record.eq(found),
            reader.o.ready.eq(self.o.ready & ~beyond),
            self.done.eq(written & (left == 1)),
        ]
        with m.If(asks & reader.i.ready):
            m.d.sync += asks.eq(0)
        with m.If(self.start):
            m.d.sync += [left.eq(c.records), address.eq(c.at)]
            with m.If(~c.records.any()):
                m.d.sync += self.error.eq(cause("field"))
            with m.Elif(c.at + c.records > p.weight_buffer):
                m.d.sync += self.error.eq(cause("buffer"))
            with m.Else():
                m.d.sync += [skipped.eq(0), bit.eq(reader.record_bytes.bit_length())]
        with m.If(bit.any()):
            m.d.sync += [skipped.eq((skipped << 1) + Mux(record_bytes.bit_select(bit, 1), c.skip, 0)), bit.eq(bit - 1)]
            with m.If(bit == 1):
                m.d.sync += asks.eq(1)
        with m.If(written):
            m.d.sync += [left.eq(left - 1), address.eq(address + 1)]
        with m.If(reader.o.valid & beyond):
            m.d.sync += self.error.eq(cause("damaged"))
        return m


class LoadEngine(Engine):
    """Carries out `LoadWeights`, `LoadGroups` and, with the dataflow sign_mask, `LoadScales`.

    ::

        operation -> plan -> lines -> spool reader -> groups -+
                      |                       up -------------+-> line writer --+
                      +---> places -----------------------------------^         +-> banks
                      +---> pitches ---------------------------> zero writer ---+
        operation -> weight loader -> weights

    Zero groups are written while no other group is there to be written. With the dataflow sign_mask, groups of a spool
    pass a `GroupMask`, which takes masks from a reader of its own, and before it, on a machine that knows replay
    groups, a `VectorFiller`. A loader of scales begins when all tiles that were to leave before it have taken theirs.

    Throughput: one group into one row per clock, or as memory or the decoder gives groups.

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.

    Members
    -------
    banks : Out(stream of `payloads.bank_write`)
        Groups for the banks.
    weights : Out(stream of `payloads.weight_write`)
        Records for the weight buffer.
    up : In(stream of `payloads.stream_group`)
        Groups from the link; `last` ends a line.
    weights_read, spools_read, tables_read : Out(MemoryRead)
        Memory: records of weights, groups, and lengths of lines (`Parameters.has_lengths`).
    scales : Out(stream of `scale_write`)
        Factors and shifts for the buffer behind the array; this and what follows only with the dataflow sign_mask.
    scales_held, scales_left : In
        Tiles that have still to take scales; event: one has taken its last.
    signs_tables_read, scales_tables_read : Out(MemoryRead)
        Memory: masks; factors and shifts.
    """

    name = "load"

    _PLACES = 8
    """Lines that are asked for before the groups of the first have come."""

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        tables = {"tables_read": self.read(parameters)} if parameters.has_lengths else {}
        masks = {
            "scales": Out(stream.Signature(scale_write(parameters))),
            "scales_held": In(tiles_waiting()),
            "scales_left": In(1),
            "signs_tables_read": self.read(parameters),
            "scales_tables_read": self.read(parameters),
        }
        return super()._members(parameters) | {
            "banks": Out(stream.Signature(payloads.bank_write(parameters))),
            "weights": Out(stream.Signature(payloads.weight_write(parameters))),
            "up": In(stream.Signature(payloads.stream_group(parameters))),
            "weights_read": self.read(parameters),
            "spools_read": self.read(parameters),
            **tables,
            **(masks if parameters.masks else {}),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p = self.parameters
        m.submodules.weight_loader = loader = WeightLoader(p)
        m.submodules.plan = plan = LoadPlan(p)
        m.submodules.places = places = Fifo(copies(p), self._PLACES)
        m.submodules.reader = reader = spool_reader(p)
        m.submodules.line_writer = lines = LineWriter(p)
        m.submodules.zero_writer = zeros = ZeroWriter(p)
        c = Fields(self.operation.p, LoadGroups)
        wiring.connect(m, loader.weights_read, wiring.flipped(self.weights_read))
        wiring.connect(m, loader.o, wiring.flipped(self.weights))
        wiring.connect(m, reader.spools_read, wiring.flipped(self.spools_read))
        if p.has_lengths:
            wiring.connect(m, reader.tables_read, wiring.flipped(self.tables_read))
        groups = reader.o
        if p.replays:
            m.submodules.filler = filler = VectorFiller(p)
            wiring.connect(m, reader.o, filler.i)
            m.d.comb += [filler.sent.eq(c.sent), filler.passes.eq(c.passes)]
            groups = filler.o
        if p.masks:
            groups = self._mask(m, plan, reader, groups)
        else:
            wiring.connect(m, plan.lines, reader.i)
        wiring.connect(m, plan.places, places.i)
        wiring.connect(m, places.o, lines.places)

        source = lines.groups
        m.d.comb += [
            *(part.operation.eq(self.operation.p) for part in (loader, plan, lines, zeros)),
            *(part.pitches.eq(plan.pitches) for part in (lines, zeros)),
            reader.region.eq(c.source.region),
            reader.lengths_region.eq(c.lengths.region),
            reader.records.eq(plan.records),
            reader.slot.eq(c.slot),
            reader.passes.eq(c.sent),
        ]
        # What lines wait for is not to reach the spool's reader, or emission, within a clock.
        m.submodules.linked = linked = SkidBuffer(self.up.payload.shape())
        m.submodules.spooled = spooled = SkidBuffer(groups.payload.shape())
        wiring.connect(m, wiring.flipped(self.up), linked.i)
        wiring.connect(m, groups, spooled.i)
        # Groups come long after an operation has begun.
        links = Signal()
        m.d.sync += links.eq(c.link & c.chosen)
        with m.If(links):
            m.d.comb += [
                source.valid.eq(linked.o.valid),
                source.payload.eq(linked.o.payload),
                linked.o.ready.eq(source.ready),
            ]
        with m.Else():
            m.d.comb += [
                source.valid.eq(spooled.o.valid),
                source.payload.eq(spooled.o.payload),
                spooled.o.ready.eq(source.ready),
            ]
        free = named(m, "free", ~self.banks.valid | self.banks.ready)
        m.d.comb += [lines.o.ready.eq(free), zeros.o.ready.eq(free & ~lines.o.valid)]
        with m.If(free):
            m.d.sync += self.banks.valid.eq(lines.o.valid | zeros.o.valid)
            with m.If(lines.o.valid):
                m.d.sync += self.banks.payload.eq(lines.o.payload)
            with m.Else():
                m.d.sync += self.banks.payload.eq(zeros.o.payload)

        starts = Signal()
        idle = lines.idle & zeros.idle & ~self.banks.valid
        over = named(m, "over", plan.done & ~places.o.valid & idle)
        weights = ~c.chosen
        if p.masks:
            scales = Fields(self.operation.p, LoadScales).chosen
            weights &= ~scales
        m.d.comb += [loader.start.eq(starts & weights), plan.start.eq(starts & c.chosen)]
        if p.masks:
            scales_loaded, scales_error = self._load_scales(m, starts & scales)
        with m.FSM(name="load"):
            with m.State("idle"):
                with m.If(self.operation.valid & ~self.error.any()):
                    m.d.comb += starts.eq(1)
                    with m.If(c.chosen):
                        m.next = "plan"
                    with m.Else():
                        m.next = "weights"
                    if p.masks:
                        with m.If(scales):
                            m.next = "scales"
            with m.State("weights"):
                with m.If(loader.done):
                    m.next = "end"
            with m.State("plan"):
                with m.If(plan.ready):
                    m.d.comb += zeros.start.eq(1)
                    m.next = "groups"
            with m.State("groups"):
                with m.If(over):
                    m.next = "end"

            if p.masks:
                with m.State("scales"):
                    with m.If(scales_loaded):
                        m.next = "end"
            with m.State("end"):
                m.d.comb += self.operation.ready.eq(~self.error.any())
                m.next = "idle"

        with m.If(~self.error.any()):
            if p.masks:
                m.d.sync += self.error.eq(scales_error)
            with m.If(loader.error.any()):
                m.d.sync += self.error.eq(loader.error)
            with m.Elif(plan.error.any()):
                m.d.sync += self.error.eq(plan.error)
            with m.Elif(reader.damaged):
                m.d.sync += self.error.eq(cause("damaged"))
            with m.Elif(lines.wrong | filler.wrong if p.replays else lines.wrong):
                m.d.sync += self.error.eq(Mux(c.link, cause("field"), cause("damaged")))
            if p.replays:
                ends = source.valid & source.ready & source.p.last
                with m.Elif(ends & filler.full):
                    m.d.sync += self.error.eq(cause("buffer"))
        return m

    def _mask(
        self,
        m: Module,
        plan: LoadPlan,
        reader: DirectSpoolReader | CompressedSpoolReader,
        groups: stream.Interface,
    ) -> stream.Interface:
        """Lines to the spool reader and, if they are masked, to the reader of masks; returns the groups behind them."""
        p, c = self.parameters, Fields(self.operation.p, LoadGroups)
        m.submodules.mask_reader = masks = RecordReader(p.memory_width, p.lanes)
        m.submodules.mask = mask = GroupMask(p)
        wiring.connect(m, masks.port, wiring.flipped(self.signs_tables_read))
        wiring.connect(m, masks.o, mask.masks)
        wiring.connect(m, groups, mask.i)
        fork(m, "line", plan.lines, [(reader.i, Const(1)), (masks.i, c.masked)])
        m.d.comb += [
            reader.i.payload.eq(plan.lines.payload),
            masks.i.p.region.eq(c.signs.region),
            masks.i.p.address.eq(c.signs.offset * UNIT_BYTES + plan.lines.p.mask * masks.record_bytes),
            masks.i.p.records.eq(c.width),
            mask.enable.eq(c.masked),
            mask.groups.eq(groups_sent(p, c)),
        ]
        return mask.o

    def _load_scales(self, m: Module, start: Value) -> tuple[Value, Value]:
        """A `LoadScales`; returns the event that it is done, and the cause if it breaks a rule."""
        p, c = self.parameters, Fields(self.operation.p, LoadScales)
        m.submodules.scale_loader = loader = ScaleLoader(p)
        wiring.connect(m, loader.o, wiring.flipped(self.scales))
        wiring.connect(m, loader.scales_read, wiring.flipped(self.scales_tables_read))
        loads, before, broken = Signal(), Signal(tiles_waiting()), Signal(CAUSE_WIDTH)
        m.d.comb += [
            loader.i.valid.eq(loads & ~before.any()),
            loader.i.p.region.eq(c.source.region),
            loader.i.p.address.eq(c.source.offset * UNIT_BYTES),
            loader.i.p.records.eq(c.records),
            loader.i.p.at.eq(c.at),
        ]
        done = named(m, "scales_loaded", loader.i.valid & loader.i.ready)
        with m.If(start):
            m.d.sync += before.eq(self.scales_held - self.scales_left)
            with m.If(~c.records.any()):
                m.d.comb += broken.eq(cause("field"))
            with m.Elif(c.at + c.records > p.scale_buffer):
                m.d.comb += broken.eq(cause("buffer"))
            with m.Else():
                m.d.sync += loads.eq(1)
        with m.Elif(self.scales_left & before.any()):
            m.d.sync += before.eq(before - 1)
        with m.If(done):
            m.d.sync += loads.eq(0)
        return done, broken
