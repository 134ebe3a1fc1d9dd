"""The engine that adds what the core sends down to the states: ``Y += delta + bias``."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.machine.command import Accumulate
from golden.parameters import EXPONENT_WIDTH, POISONED_GROUP, ZERO_GROUP, Parameters
from hw import payloads
from hw.arith.bits import filled, multiply_constant, named, or_tree
from hw.bus.ports import ADDRESS_WIDTH, UNIT_BYTES
from hw.control.engine import Engine, Fields, cause, operation
from hw.near_memory.closed_loop.groups import Chains, chain_ports
from hw.near_memory.closed_loop.places import POSITION_WIDTH, Places, place
from hw.near_memory.closed_loop.sums import Sums, summed_vector
from hw.near_memory.closed_loop.transposer import Transposer, block_part
from hw.near_memory.closed_loop.update import STARTS, Update, bias_entry, term
from hw.near_memory.rows import Rows
from hw.part import Part
from hw.stream import Fifo, Pipelined, SkidBuffer, Stage
from hw.stream.fork import fork
from hw.stream.records import RecordReader, RecordWriter

_SUMMED = ("no", "channel", "position")

_AHEAD = 16
"""Vectors whose places are known before their elements come."""

_ENTRY_WIDTH = 32
"""Bits of an entry of a table."""


def located(parameters: Parameters) -> data.StructLayout:
    """A vector of a tile, where its state lies, what it starts from, and its bias.

    `repeats` marks a vector with the bias of the one before it; `base` is record 0 of its row's sums.
    """
    return data.StructLayout(
        {
            "place": place(parameters),
            "state": ADDRESS_WIDTH,
            "source": ADDRESS_WIDTH,
            "bias": ADDRESS_WIDTH,
            "repeats": 1,
            "base": POSITION_WIDTH,
        }
    )


class Addresses(Pipelined, Part):
    """Finds addresses for the vectors of an operation.

    Throughput: one vector a clock.

    Members
    -------
    i : In(stream of `place`)
        Vectors.
    operation : In(`operation` of the engine)
        An `Accumulate`, while its vectors come.
    o : Out(stream of `located`)
        The same vectors.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "i": In(stream.Signature(place(parameters))),
            "operation": In(operation("accumulate")),
            "o": Out(stream.Signature(located(parameters))),
        }

    def _describe(self, m: Module, platform: object) -> int:
        p, c, i = self._parameters, Fields(self.operation, Accumulate), self.i.p
        s = Stage.begin(m, self.i)
        s.place = i
        # What each row begins with, and the vector of the bias in its period.
        bias_row, base, phase, later = (
            Signal(POSITION_WIDTH, name="bias_row"),
            Signal(POSITION_WIDTH, name="base_row"),
            Signal(8, name="phase"),
            Signal(name="later_row"),
        )
        bias_now = named(m, "bias_now", Mux(i.begins, Mux(later, bias_row + c.bias_step, c.bias_first), bias_row))
        s.base = Mux(i.begins, Mux(later, base + c.sums_step, 0), base)[:POSITION_WIDTH]
        phase_now = named(m, "phase_now", Mux(i.begins, 0, phase))
        s.number = (bias_now + phase_now)[:POSITION_WIDTH]
        with m.If(s.moves):
            m.d.sync += [
                bias_row.eq(bias_now),
                base.eq(s.base),
                phase.eq(Mux(phase_now == c.bias_period - 1, 0, phase_now + 1)),
                later.eq(~i.end),
            ]

        s = s.cut()
        vector_bytes = -(-p.lanes * p.state_width // 8)
        before, follows = Signal(POSITION_WIDTH, name="number_before"), Signal(name="follows")
        s.bytes = multiply_constant(s.place.index, vector_bytes)
        s.bias_bytes = multiply_constant(s.number, p.lanes * _ENTRY_WIDTH // 8)
        s.repeats = follows & (s.number == before)
        with m.If(s.moves):
            m.d.sync += [before.eq(s.number), follows.eq(~s.place.end)]

        s = s.cut()
        # No region is larger than half of all addresses: what lies beyond is kept there, and no sum wraps.
        beyond = s.bytes[ADDRESS_WIDTH - 1 :].any()
        s.bytes = Cat(s.bytes[: ADDRESS_WIDTH - 1], beyond)

        s = s.cut()
        start = Mux(c.start == STARTS.index("region"), c.origin.offset, c.state.offset)
        fields = {
            "place": s.place,
            "state": c.state.offset * UNIT_BYTES + s.bytes,
            "source": start * UNIT_BYTES + s.bytes,
            "bias": c.bias.offset * UNIT_BYTES + s.bias_bytes,
            "repeats": s.repeats,
            "base": s.base,
        }
        result = filled(m, "located_result", self.o.payload.shape(), **fields)
        return s.finish(self.o, result, depth=p.pipeline_depth)


class AccumulateEngine(Engine):
    """Takes the joint vectors of a tile and adds them to a state, with a bias; keeps the sums of what changes.

    Vectors are found first, so far ahead as their elements may be asked for; elements, bias and delta then meet part by
    part. A bias that several vectors share is read once. Blocks that are exchanged are transposed before they meet.
    With the dataflow sign_mask, groups may come instead, which are kept, as are the masks of what the state becomes.

    ::

        operation -> places -> addresses -+-> states_read -> old ------+
                                          +-> tables_read -> bias ---+ |
                                          |               +-> kept --+ |
                     down --+--------------------------+--------- update --+-> states_written
                            +-> blocks transposed -----+                   +-> sums
              down_groups --+-> digits and outliers ---+                   +-> signs, repairs
                            +-> spool     +-> what is in the tensor -----------^

    Throughput: u elements a clock, of those that come and of those that are taken; of groups, u elements of each.

    Members
    -------
    down : In(stream of `payloads.joint_part`)
        What the core sends; `end` must come with the last vector of an operation.
    down_groups : In(stream of `payloads.chain_group`)
        With the dataflow sign_mask: what the core sends as groups, likewise.
    states_read, tables_read, sums_read, states_written, sums_written : MemoryRead, MemoryWrite
        Memory.
    spools_written, tables_written, signs_tables_written, repairs_states_written : MemoryWrite
        With the dataflow sign_mask: groups; lengths of their lines, if they differ; masks; what a mask that changed is
        worth, with ``flip_repair``.
    accumulated : Out(1)
        Event: a vector has been added.
    """

    name = "accumulate"

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        p = parameters
        chains: dict[str, Any] = {}
        if p.masks:
            chains = {"down_groups": In(stream.Signature(payloads.chain_group(p))), **chain_ports(p)}
        return super()._members(parameters) | {
            "down": In(stream.Signature(payloads.joint_part(p))),
            "states_read": self.read(p),
            "tables_read": self.read(p),
            "sums_read": self.read(p),
            "states_written": self.write(p),
            "sums_written": self.write(p),
            **chains,
            "accumulated": Out(1),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, c = self.parameters, Fields(self.operation.p, Accumulate)
        m.submodules.places = places = Places(p)
        m.submodules.addresses = addresses = Addresses(p)
        m.submodules.update = updates = Update(p)
        # A record counts all that the array keeps of a tile at most, padded in each row.
        m.submodules.sums = sums = Sums(p, p.rows * (p.tile_words * p.columns + p.lanes))
        wiring.connect(m, places.o, addresses.i)
        wiring.connect(m, sums.sums_read, wiring.flipped(self.sums_read))
        wiring.connect(m, sums.sums_written, wiring.flipped(self.sums_written))
        summed = named(m, "summed", c.summed != _SUMMED.index("no"))
        walk = places.i.p
        m.d.comb += [getattr(walk, name).eq(getattr(c, name)) for name in walk.shape().members]
        m.d.comb += [
            addresses.operation.eq(self.operation.p),
            sums.by_position.eq(c.summed == _SUMMED.index("position")),
            sums.fresh.eq(c.fresh),
            sums.channels.eq(c.channels),
            sums.region.eq(c.sums.region),
            sums.offset.eq(c.sums.offset),
            self.overflow.eq(updates.overflow),
            self.poisoned.eq(updates.poisoned),
        ]
        m.submodules.writer = writer = RecordWriter(
            p.memory_width, p.near_lanes * p.state_width, p.lanes // p.near_lanes
        )
        wiring.connect(m, writer.port, wiring.flipped(self.states_written))
        chains = self._chains(m) if p.masks else None
        ended = self._write(m, updates.o, writer, sums, summed, chains)
        begins = Signal()
        written = writer.idle & (sums.idle | ~summed)
        deltas, astray = self._arrive(m, begins)
        if chains is not None:
            deltas = self._choose(m, deltas, chains)
            m.d.comb += chains.start.eq(begins & c.groups)
            written = written & (chains.idle | ~c.groups)
        faults = self._read(m, addresses.o, deltas, updates.i, writer, sums, summed, chains)
        faults["field"] |= astray
        if chains is not None:
            faults["field"] |= chains.full
        self._control(m, places, begins, ended, written, faults)
        return m

    def _chains(self, m: Module) -> Chains:
        """What takes groups, with its ports to memory."""
        p = self.parameters
        m.submodules.chains = chains = Chains(p)
        wiring.connect(m, wiring.flipped(self.down_groups), chains.i)
        for name in chain_ports(p):
            wiring.connect(m, getattr(chains, name), wiring.flipped(getattr(self, name)))
        m.d.comb += chains.operation.eq(self.operation.p)
        return chains

    def _choose(self, m: Module, joint: stream.Interface, chains: Chains) -> stream.Interface:
        """Deltas of the form that the operation takes."""
        c, terms = Fields(self.operation.p, Accumulate), chains.terms
        o = stream.Signature(terms.payload.shape()).create(path=("chosen",))
        m.d.comb += [
            o.valid.eq(Mux(c.groups, terms.valid, joint.valid)),
            o.p.delta.eq(Mux(c.groups, terms.p.delta.as_value(), joint.payload.as_value())),
            o.p.more.eq(c.groups & terms.p.more),
            terms.ready.eq(c.groups & o.ready),
            joint.ready.eq(~c.groups & o.ready),
        ]
        return o

    def _control(
        self, m: Module, places: Places, begins: Signal, ended: Value, written: Value, faults: dict[str, Value]
    ) -> None:
        """Check the fields of an operation, send its vectors off, take it when all is written."""
        p, c = self.parameters, Fields(self.operation.p, Accumulate)
        exchange: Value = Const(0, 1)
        if "attention" in p.functions:
            exchange = (c.inner <= p.lanes) & c.tail.any() & (c.tail <= p.lanes)
        allowed = [
            c.rows < p.rows,
            c.outer.any() & c.inner.any(),
            c.floor <= 42 - p.digit_width,
            c.channels.any(),
            ~c.exchanged | exchange,
            ~c.biased | c.bias_period.any(),
        ]
        if p.masks:
            plain = ~c.biased & ~c.exchanged & (c.summed == _SUMMED.index("no"))
            if p.flip_repair:
                plain &= c.start != STARTS.index("region")
            allowed.append(~c.groups | plain)
        over, sound = Signal(), Signal()
        m.d.sync += sound.eq(Cat(allowed).all())
        with m.FSM(name="control"):
            with m.State("idle"):
                m.d.sync += over.eq(0)
                with m.If(self.operation.valid & ~self.error.any()):
                    m.next = "check"
            with m.State("check"):
                with m.If(sound):
                    m.d.comb += begins.eq(1)
                    m.next = "walk"
                with m.Else():
                    m.d.sync += self.error.eq(cause("field"))
                    m.next = "idle"
            with m.State("walk"):
                m.d.comb += places.i.valid.eq(1)
                with m.If(places.i.ready):
                    m.next = "wait"
            with m.State("wait"):
                with m.If(over & written):
                    m.next = "end"
            with m.State("end"):
                m.d.comb += self.operation.ready.eq(~self.error.any())
                m.next = "idle"
        with m.If(ended):
            m.d.sync += over.eq(1)
        for name, fault in faults.items():
            with m.If(fault & ~self.error.any()):
                m.d.sync += self.error.eq(cause(name))

    def _arrive(self, m: Module, begins: Value) -> tuple[stream.Interface, Value]:
        """Deltas as they meet their vectors, and whether an exchanged tile ends elsewhere than it should."""
        p, c, i = self.parameters, Fields(self.operation.p, Accumulate), self.down.p
        last = i.last
        # The last step of the joint form: the floor, or so many bits under the exponent.
        least = named(m, "least_step", i.exponent - (p.joint_width - p.digit_width))
        step = named(m, "step", Mux(least < c.floor, c.floor, least)[:EXPONENT_WIDTH])
        counts, poisoned = named(m, "counts", i.exponent < ZERO_GROUP), i.exponent == POISONED_GROUP
        values = [
            filled(m, f"come{lane}", term(p), value=Mux(counts, value, 0), step=step, poisoned=poisoned)
            for lane, value in enumerate(i.values)
        ]
        o = stream.Signature(block_part(p, term(p))).create(path=("deltas",))
        direct = filled(m, "come", o.payload.shape(), values=values, last=last, end=i.end)
        if "attention" not in p.functions:
            m.d.comb += [o.valid.eq(self.down.valid), o.p.eq(direct), self.down.ready.eq(o.ready)]
            return o, Const(0, 1)

        n, exchanged = p.lanes, c.exchanged
        m.submodules.transposer = transposer = Transposer(p, term(p))
        # Vectors are counted: the link does not tell where a row ends. Those of the next tile wait.
        expects, vector, ended = Signal(name="tile_expected"), Signal(range(n), name="come_vector"), Signal()
        blocks, rows = Signal(c.outer.shape(), name="blocks_left"), Signal(c.rows.shape(), name="rows_left")
        takes = named(m, "come_ends", transposer.i.valid & transposer.i.ready & last)
        row_ends = named(m, "row_ends", ~blocks.any() & (vector + 1 == c.tail))
        m.d.comb += ended.eq(row_ends & ~rows.any())
        with m.If(takes):
            m.d.sync += [
                vector.eq(Mux(row_ends | (vector == n - 1), 0, vector + 1)),
                blocks.eq(Mux(row_ends, c.outer - 1, blocks - (vector == n - 1))),
                rows.eq(rows - row_ends),
                expects.eq(~ended),
            ]
        with m.If(begins):
            m.d.sync += [expects.eq(c.exchanged), vector.eq(0), blocks.eq(c.outer - 1), rows.eq(c.rows)]

        m.d.comb += [
            transposer.i.valid.eq(self.down.valid & expects),
            transposer.i.payload.eq(direct),
            transposer.i.p.end.eq(row_ends),
            transposer.kept.eq(c.inner),
            transposer.o.ready.eq(exchanged & o.ready),
            o.valid.eq(Mux(exchanged, transposer.o.valid, self.down.valid)),
            o.p.eq(Mux(exchanged, transposer.o.payload.as_value(), direct.as_value())),
            self.down.ready.eq(Mux(exchanged, expects & transposer.i.ready, o.ready)),
        ]
        return o, takes & (ended != i.end)

    def _read(
        self,
        m: Module,
        vectors: Any,
        deltas: Any,
        parts: Any,
        writer: RecordWriter,
        sums: Sums,
        summed: Value,
        chains: Chains | None,
    ) -> dict[str, Value]:
        """Ask for elements and bias of each vector, join them with its delta; returns faults by their cause."""
        p, c, at = self.parameters, Fields(self.operation.p, Accumulate), vectors.p
        n, u, width = p.lanes, p.near_lanes, p.state_width
        reads = named(m, "reads", c.start != STARTS.index("zero"))
        m.submodules.states_reader = states = RecordReader(p.memory_width, u * width, n // u)
        m.submodules.bias_reader = entries = RecordReader(p.memory_width, u * _ENTRY_WIDTH)
        wiring.connect(m, states.port, wiring.flipped(self.states_read))
        wiring.connect(m, entries.port, wiring.flipped(self.tables_read))
        m.submodules.targets = targets = Fifo(ADDRESS_WIDTH, _AHEAD)
        kept = data.StructLayout({"used": range(n + 1), "end": 1, "repeats": 1})
        m.submodules.known = known = Fifo(kept, _AHEAD)
        m.submodules.summed = counted = Fifo(summed_vector(p), _AHEAD)
        wiring.connect(m, counted.o, sums.vectors)
        straight = [writer.i.valid.eq(targets.o.valid), targets.o.ready.eq(writer.i.ready)]
        if chains is not None and p.flip_repair:
            straight = [chains.targets.payload.eq(targets.o.payload)]
            fork(m, "target", targets.o, [(writer.i, Const(1, 1)), (chains.targets, c.groups)])
        from_origin = c.start == STARTS.index("region")
        m.d.comb += [
            states.i.p.region.eq(Mux(from_origin, c.origin.region, c.state.region)),
            states.i.p.address.eq(at.source),
            states.i.p.records.eq(1),
            entries.i.p.region.eq(c.bias.region),
            entries.i.p.address.eq(at.bias),
            entries.i.p.records.eq(n // u),
            targets.i.payload.eq(at.state),
            *straight,
            writer.i.p.region.eq(c.state.region),
            writer.i.p.address.eq(targets.o.payload),
            writer.i.p.records.eq(1),
            known.i.p.used.eq(at.place.used),
            known.i.p.end.eq(at.place.end),
            known.i.p.repeats.eq(at.repeats),
            counted.i.p.base.eq(at.base),
            counted.i.p.position.eq(at.place.position),
            counted.i.p.channel.eq(at.place.channel),
            counted.i.p.used.eq(at.place.used),
        ]
        sinks = [
            (states.i, reads),
            (entries.i, c.biased & ~at.repeats),
            (targets.i, Const(1, 1)),
            (known.i, Const(1, 1)),
            (counted.i, summed),
        ]
        fork(m, "vector", vectors, sinks)

        vector, moves, starts = known.o.p, Signal(name="part_moves"), Signal(init=1, name="vector_starts")
        left = Signal(range(n + 1), name="used_left")
        used = named(m, "used_now", Mux(starts, vector.used, left))
        new_bias = named(m, "new_bias", c.biased & ~vector.repeats)
        if chains is None:
            delta, ends, leaves = deltas.p, deltas.p.last, moves
        else:
            # Only the last group of a vector takes what is joined with it.
            delta, more = deltas.p.delta, deltas.p.more
            ends, leaves = named(m, "vector_ends", delta.last & ~more), named(m, "part_leaves", moves & ~more)
            m.d.comb += parts.p.more.eq(more)
        last = delta.last
        m.submodules.kept = bias = Rows(data.ArrayLayout(bias_entry(p), u), n // u, ahead=True)
        m.d.comb += [
            parts.valid.eq(
                deltas.valid
                & known.o.valid
                & (states.o.valid | ~reads)
                & (entries.o.valid | ~new_bias)
                & ~self.error.any()
            ),
            moves.eq(parts.valid & parts.ready),
            deltas.ready.eq(moves),
            known.o.ready.eq(moves & ends),
            states.o.ready.eq(leaves & reads),
            entries.o.ready.eq(moves & new_bias),
            parts.p.delta.eq(delta),
            parts.p.delta.end.eq(vector.end & last),
            parts.p.old.eq(Mux(reads, states.o.payload, 0)),
            parts.p.bias.eq(Mux(c.biased, bias.row.as_value(), 0)),
            parts.p.used.eq(Cat(used > lane for lane in range(u))),
            bias.step.eq(moves),
            bias.store.eq(moves),
        ]
        with m.If(moves):
            m.d.sync += [starts.eq(last), left.eq(Mux(used > u, used - u, 0))]
        damaged = []
        for lane in range(u):
            entry = entries.o.payload.word_select(lane, _ENTRY_WIDTH)
            sign, above = entry[width], entry[width + 1 :]
            damaged.append((above != sign.replicate(len(above))) | (sign & ~entry[:width].any()))
            m.d.comb += bias.row[lane].eq(Mux(new_bias, entry[: width + 1], bias.kept[lane]))
        return {
            "damaged": moves & new_bias & or_tree(damaged),
            "field": (moves & ends & ~c.exchanged & (delta.end != vector.end)) | sums.disordered,
        }

    def _write(
        self, m: Module, parts: Any, writer: RecordWriter, sums: Sums, summed: Value, chains: Chains | None
    ) -> Value:
        """Send new elements to memory and to the sums; returns whether the last of an operation goes."""
        c = Fields(self.operation.p, Accumulate)
        adds = c.start == STARTS.index("add")
        # What sums wait for is not to reach what elements are joined from within a clock.
        m.submodules.changed = changed = SkidBuffer(parts.payload.shape())
        wiring.connect(m, parts, changed.i)
        parts = changed.o
        m.d.comb += [
            writer.items.payload.eq(parts.p.new),
            sums.i.payload.eq(parts.payload),
            sums.i.p.old.eq(Mux(adds, parts.p.old.as_value(), 0)),
        ]
        sinks = [(writer.items, Const(1, 1)), (sums.i, summed)]
        if chains is not None:
            m.d.comb += chains.changed.payload.eq(parts.payload)
            sinks.append((chains.changed, c.groups))
        fork(m, "part", parts, sinks)
        moves = named(m, "written_moves", parts.valid & parts.ready)
        m.d.comb += self.accumulated.eq(moves & parts.p.last)
        return moves & parts.p.end
