"""Groups that a product sends to a state: what they add to it, where they are kept, and the masks that they leave."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.machine.command import Accumulate, Emit
from golden.parameters import POISONED_GROUP, Parameters
from hw import payloads
from hw.arith.bits import bounded, choose, filled, multiply_constant, named, or_tree
from hw.arith.serial import Multiplier
from hw.bus.ports import ADDRESS_WIDTH, UNIT_BYTES, MemoryWrite
from hw.control.engine import CAUSE_WIDTH, Fields, operation
from hw.near_memory.closed_loop.spool import SpoolWriter, spool_ports
from hw.near_memory.closed_loop.sums import changed_part
from hw.near_memory.closed_loop.transposer import block_part
from hw.near_memory.closed_loop.update import SIGNIFICAND, STARTS, term
from hw.part import Part
from hw.stream import Stage
from hw.stream.fork import fork
from hw.stream.records import RecordWriter


def group_part(parameters: Parameters) -> data.StructLayout:
    """What a group adds to u elements of its vector; `more` marks a group that others of the vector follow."""
    return data.StructLayout({"delta": block_part(parameters, term(parameters)), "more": 1})


class GroupTerms(Part):
    """Digits and outliers of groups, u lanes a clock, each as an integer and a power of two.

    Latency: 2 clocks. Throughput: one part a clock. Numerics: exact.

    Members
    -------
    i : In(stream of `payloads.chain_group`)
        Groups; taken with their last part.
    o : Out(stream of `group_part`)
        Their parts; `last` ends a group, `end` with it the last one of a tile.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "i": In(stream.Signature(payloads.chain_group(parameters))),
            "o": Out(stream.Signature(group_part(parameters))),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, group = self._parameters, self.i.p.group
        u, parts = p.near_lanes, p.lanes // p.near_lanes
        part, first = Signal(range(parts)), Signal(range(p.lanes))
        ends = named(m, "ends", part == parts - 1)
        beats = stream.Signature(0).create(path=("beats",))
        m.d.comb += [beats.valid.eq(self.i.valid), self.i.ready.eq(beats.ready & ends)]

        s = Stage.begin(m, beats)
        with m.If(s.moves):
            m.d.sync += [part.eq(Mux(ends, 0, part + 1)), first.eq(Mux(ends, 0, first + u))]
        s.exponent, s.last, s.more, s.end = group.exponent, ends, ~self.i.p.last, self.i.p.end & ends
        rows = [group.digits.as_value()[row * u * p.digit_width :][: u * p.digit_width] for row in range(parts)]
        s.digits = choose(m, "digits", part, rows)
        if p.outliers:
            # Of each lane its outlier, if it has one: its digit is 0 then.
            slots = [group.outliers[number] for number in range(p.outliers)]
            found = [
                [
                    named(m, f"hit{lane}_{number}", slot.valid & (slot.lane == first + lane))
                    for number, slot in enumerate(slots)
                ]
                for lane in range(u)
            ]
            s.exact = [or_tree(hits) for hits in found]
            s.halves = [
                or_tree(Mux(hit, slot.value, 0) for hit, slot in zip(hits, slots, strict=True)) for hits in found
            ]

        s = s.cut()
        poisoned = s.exponent == POISONED_GROUP
        terms = []
        for lane in range(u):
            value, step = s.digits.word_select(lane, p.digit_width).as_signed(), s.exponent
            if p.outliers:
                half, exact = s.halves[lane], s.exact[lane]
                normal = named(m, f"normal{lane}", half[10:15].any())
                magnitude = named(m, f"magnitude{lane}", half[: SIGNIFICAND - 1] | (normal << SIGNIFICAND - 1))
                value = Mux(exact, Mux(half[15], -magnitude, magnitude), value)
                step = Mux(exact, half[10:15] - normal, step)[: len(step)]
            terms.append(filled(m, f"term{lane}", term(p), value=value, step=step, poisoned=poisoned))
        result = Signal(group_part(p), name="result")
        m.d.comb += [
            *(target.eq(one) for target, one in zip(result.delta["values"], terms, strict=True)),
            result.delta.last.eq(s.last),
            result.delta.end.eq(s.end),
            result.more.eq(s.more),
        ]
        s.finish(self.o, result, depth=s.cuts)
        return m


class KeptGroups(Part):
    """Keeps the groups of an `Accumulate` in a spool, in the form that an `Emit` gives them.

    A turn of the outer loop is a line; row r begins with the slot ``place + r sums_step``.

    Throughput: that of `SpoolWriter`; 25 clocks more for each row.

    Members
    -------
    operation : In(`operation` of the accumulate engine)
        An `Accumulate` with ``groups``, held from `start` until `idle`.
    start : In(1)
        Begin, one clock, before the first group comes.
    i : In(stream of `payloads.chain_group`)
        Groups.
    spools_written, tables_written : Out(MemoryWrite)
        As those of `SpoolWriter`.
    idle : Out(1)
        Every line that came is whole, and has arrived in memory.
    error : Out(4)
        That of `SpoolWriter`.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "operation": In(operation("accumulate", parameters.dataflows)),
            "start": In(1),
            "i": In(stream.Signature(payloads.chain_group(parameters))),
            **spool_ports(parameters),
            "idle": Out(1),
            "error": Out(CAUSE_WIDTH),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, c = self._parameters, Fields(self.operation, Accumulate)
        m.submodules.spool = spool = SpoolWriter(p, rows=True)
        for name in spool_ports(p):
            wiring.connect(m, getattr(spool, name), wiring.flipped(getattr(self, name)))
        emitted, groups, vector = Fields(spool.operation, Emit), spool.groups, Signal.like(c.inner, name="vector")
        line_ends = named(m, "line_ends", self.i.p.last & (vector + 1 == c.inner))
        # Lines that are to end in this row, and the slot that it began with.
        turns, begun = Signal.like(c.outer, name="turns"), Signal.like(spool.line)
        row_ends = named(m, "row_ends", spool.ends & (turns == 1))
        m.d.comb += [
            *(getattr(emitted, name).eq(getattr(c, name)) for name in ("slot", "spool", "lengths")),
            groups.valid.eq(self.i.valid),
            groups.p.group.eq(self.i.p.group),
            groups.p.last.eq(line_ends),
            self.i.ready.eq(groups.ready),
            spool.start.eq(self.start | row_ends),
            spool.line.eq(Mux(self.start, c.place, begun + c.sums_step)),
            self.idle.eq(spool.idle),
            self.error.eq(spool.error),
        ]
        if p.link_form == "compressed":
            # All vectors of a tile have as many; a stream is told them until its last word has left.
            passes = Signal.like(self.i.p.passes)
            with m.If(self.i.valid):
                m.d.sync += passes.eq(self.i.p.passes)
            m.d.comb += emitted.passes.eq(Mux(self.i.valid, self.i.p.passes, passes))
        with m.If(self.i.valid & self.i.ready & self.i.p.last):
            m.d.sync += vector.eq(Mux(line_ends, 0, vector + 1))
        with m.If(spool.start):
            m.d.sync += [begun.eq(spool.line), turns.eq(c.outer)]
        with m.Elif(spool.ends):
            m.d.sync += turns.eq(turns - 1)
        return m


class SignWriter(Part):
    """Writes the masks of the vectors of an `Accumulate`: turn by turn of the outer loop, a record for each vector.

    The turn t of row r is the slot ``place + r sums_step + t``, whose records begin with number ``slot inner``.

    Latency: some 40 clocks from `start` until masks are taken. Throughput: u lanes a clock.

    Members
    -------
    operation : In(`operation` of the accumulate engine)
        An `Accumulate` with ``groups``, held from `start` until `idle`.
    start : In(1)
        Begin, one clock.
    i : In(stream of u bits)
        A bit for each lane, 1: the element is not negative.
    tables_written : Out(MemoryWrite)
        Memory.
    idle : Out(1)
        All masks of the operation have arrived in memory.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "operation": In(operation("accumulate", parameters.dataflows)),
            "start": In(1),
            "i": In(stream.Signature(parameters.near_lanes)),
            "tables_written": Out(MemoryWrite(parameters.memory_width)),
            "idle": Out(1),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, c = self._parameters, Fields(self.operation, Accumulate)
        m.submodules.writer = writer = RecordWriter(p.memory_width, p.near_lanes, p.lanes // p.near_lanes)
        wiring.connect(m, wiring.flipped(self.i), writer.items)
        wiring.connect(m, writer.port, wiring.flipped(self.tables_written))
        line_bytes = multiply_constant(c.inner, writer.record_bytes)
        m.submodules.product = product = Multiplier(unsigned(len(line_bytes)), len(c.place))
        # Where the row began, by how much rows are apart, where the next line goes.
        row, step, line = (Signal(ADDRESS_WIDTH, name=name) for name in ("row", "step", "line"))
        rows, turns = Signal.like(c.rows, name="rows_left"), Signal.like(c.outer, name="turns_left")
        asked, found = Signal(), bounded(product.o.payload, ADDRESS_WIDTH)
        following = named(m, "following", bounded(row + step, ADDRESS_WIDTH))
        m.d.comb += [
            product.i.p.a.eq(line_bytes),
            product.o.ready.eq(1),
            writer.i.p.region.eq(c.signs.region),
            writer.i.p.address.eq(line),
            writer.i.p.records.eq(c.inner),
        ]

        def multiply(name: str, following: str, factor: Value, *kept: Any) -> None:
            with m.State(name):
                m.d.comb += [product.i.valid.eq(~asked), product.i.p.b.eq(factor)]
                m.d.sync += asked.eq((asked | product.i.ready) & ~product.o.valid)
                with m.If(product.o.valid):
                    m.d.sync += list(kept)
                    m.next = following

        with m.FSM(name="lines"):
            with m.State("idle"):
                m.d.comb += self.idle.eq(~self.start & writer.idle)
                m.d.sync += [rows.eq(c.rows), turns.eq(c.outer)]
                with m.If(self.start):
                    m.next = "step"
            multiply("step", "place", c.sums_step, step.eq(found))
            multiply("place", "begin", c.place, line.eq(found))
            with m.State("begin"):
                first = bounded(line + c.signs.offset * UNIT_BYTES, ADDRESS_WIDTH)
                m.d.sync += [row.eq(first), line.eq(first)]
                m.next = "write"
            with m.State("write"):
                m.d.comb += writer.i.valid.eq(1)
                with m.If(writer.i.ready):
                    m.d.sync += [turns.eq(turns - 1), line.eq(bounded(line + line_bytes, ADDRESS_WIDTH))]
                    with m.If(turns == 1):
                        m.d.sync += [turns.eq(c.outer), rows.eq(rows - 1), row.eq(following), line.eq(following)]
                        with m.If(rows == 0):
                            m.next = "idle"
        return m


def chain_ports(parameters: Parameters) -> dict[str, Any]:
    """Ports to memory of `Chains`: groups, lengths of their lines if they differ, masks, repairs if there are any."""
    names = ["signs_tables_written", *(["repairs_states_written"] if parameters.flip_repair else [])]
    return spool_ports(parameters) | {name: Out(MemoryWrite(parameters.memory_width)) for name in names}


class Chains(Part):
    """What is done with the groups of an `Accumulate` besides an update of the state (``docs/machine.md``).

    ::

        i -+-> GroupTerms -> terms             changed -+-> SignWriter
           +-> KeptGroups                               +-> repairs

    Throughput: u lanes a clock.

    Members
    -------
    operation : In(`operation` of the accumulate engine)
        An `Accumulate`, held from `start` until `idle`.
    start : In(1)
        Begin with an operation that takes groups, one clock.
    i : In(stream of `payloads.chain_group`)
        Groups; after the last one of a tile none is taken until the next start.
    terms : Out(stream of `group_part`)
        What they add.
    changed : In(stream of `changed_part`)
        The elements of their vectors.
    targets : In(stream of address)
        With ``flip_repair``: where each vector lies in the region of the state.
    spools_written, tables_written, signs_tables_written, repairs_states_written : Out(MemoryWrite)
        Memory: `chain_ports`.
    idle : Out(1)
        All that came has arrived in memory.
    full : Out(1)
        A line has no room in its slot; until a reset.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        p = parameters
        return {
            "operation": In(operation("accumulate", p.dataflows)),
            "start": In(1),
            "i": In(stream.Signature(payloads.chain_group(p))),
            "terms": Out(stream.Signature(group_part(p))),
            "changed": In(stream.Signature(changed_part(p))),
            **({"targets": In(stream.Signature(ADDRESS_WIDTH))} if p.flip_repair else {}),
            **chain_ports(p),
            "idle": Out(1),
            "full": Out(1),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, changed = self._parameters, self.changed.p
        m.submodules.group_terms = terms = GroupTerms(p)
        m.submodules.kept = kept = KeptGroups(p)
        m.submodules.signs = signs = SignWriter(p)
        wiring.connect(m, terms.o, wiring.flipped(self.terms))
        for name in spool_ports(p):
            wiring.connect(m, getattr(kept, name), wiring.flipped(getattr(self, name)))
        wiring.connect(m, signs.tables_written, wiring.flipped(self.signs_tables_written))

        comes, groups = Signal(), stream.Signature(self.i.payload.shape()).create(path=("groups",))
        takes = named(m, "takes", self.i.valid & self.i.ready)
        m.d.comb += [
            *(part.operation.eq(self.operation) for part in (kept, signs)),
            *(part.start.eq(self.start) for part in (kept, signs)),
            *(part.i.payload.eq(self.i.payload) for part in (kept, terms)),
            groups.valid.eq(self.i.valid & comes),
            self.i.ready.eq(groups.ready & comes),
            signs.i.payload.eq(Cat(~element[-1] for element in changed.new)),
            self.full.eq(kept.error.any()),
        ]
        with m.If(self.start):
            m.d.sync += comes.eq(1)
        with m.Elif(takes & self.i.p.end):
            m.d.sync += comes.eq(0)
        fork(m, "group", groups, [(kept.i, Const(1, 1)), (terms.i, Const(1, 1))])

        sinks, repaired = [(signs.i, Const(1, 1))], Const(1, 1)
        if p.flip_repair:
            m.submodules.repairs = writer = RecordWriter(
                p.memory_width, p.near_lanes * p.state_width, p.lanes // p.near_lanes
            )
            wiring.connect(m, writer.port, wiring.flipped(self.repairs_states_written))
            self._repair(m, writer)
            sinks.append((writer.items, Const(1, 1)))
            repaired = writer.idle
        fork(m, "changed", self.changed, sinks)
        m.d.comb += self.idle.eq(kept.idle & signs.idle & repaired & ~comes)
        return m

    def _repair(self, m: Module, writer: RecordWriter) -> None:
        """Where a mask changed, what the element is: its magnitude, where the state's vector lies."""
        p, c, changed = self._parameters, Fields(self.operation, Accumulate), self.changed.p
        poison = -(1 << (p.state_width - 1))
        adds = c.start == STARTS.index("add")
        worth = []
        for old, new in zip(changed.old, changed.new, strict=True):
            flips = adds & (old[-1] ^ new[-1]) & (new != poison)  # poison stays poison
            worth.append(Mux(flips, Mux(new[-1], -new, new), 0)[: p.state_width])
        distance = Signal(ADDRESS_WIDTH)
        m.d.sync += distance.eq((c.origin.offset - c.state.offset) * UNIT_BYTES)
        m.d.comb += [
            writer.items.payload.eq(Cat(worth)),
            writer.i.valid.eq(self.targets.valid),
            writer.i.p.region.eq(c.origin.region),
            writer.i.p.address.eq(self.targets.payload + distance),
            writer.i.p.records.eq(1),
            self.targets.ready.eq(writer.i.ready),
        ]
