"""What an emission sends: delta groups to a spool or the link, and the new Xhat to memory."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.machine.command import Emit
from golden.parameters import POISONED_GROUP, ZERO_GROUP, Parameters
from hw import payloads
from hw.arith.bits import named, saturated
from hw.bus.ports import ADDRESS_WIDTH, UNIT_BYTES
from hw.control.engine import Engine, Fields
from hw.near_memory.closed_loop.delta_path import DeltaPath
from hw.near_memory.closed_loop.extent import place, sent_lines
from hw.near_memory.closed_loop.spool import SpoolWriter, spool_ports
from hw.stream import SkidBuffer


class Sender(Engine):
    """The part of `Emit` from x on: differences to Xhat as groups, and Xhat as it then is (``docs/machine.md``, Emit).

    ::

        held_read --+
                    v
        x ---> DeltaPath -+-> SpoolWriter -> spools_written, tables_written, up
                          +-> held_written

    An `Emit` that is not ``sent`` is taken at once.

    Throughput: that of `DeltaPath`, or as memory and link take it.

    Members
    -------
    x : In(stream of `payloads.element_part`)
        Vectors of x in the order of the groups.
    held : In(stream of `extent.place`)
        Where their Xhat lies; once for an emission.
    sent : In(`extent.sent_lines`)
        Lines of the emission, from `held` until the operation is taken.
    held_read, held_written : Out
        Ports of vectors: Xhat. None is read at a start.
    spools_written, tables_written, up
        As those of `SpoolWriter`.
    emitted, link_groups, link_zero_groups : Out(1)
        Events: a vector of x came, a group was sent, and it is zero.
    """

    name = "emit"

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        p = parameters
        return super()._members(parameters) | {
            "x": In(stream.Signature(payloads.element_part(p))),
            "held": In(stream.Signature(place())),
            "sent": In(sent_lines()),
            "held_read": self.read_vectors(p),
            "held_written": self.write_vectors(p),
            **spool_ports(p),
            "up": Out(stream.Signature(payloads.stream_group(p))),
            "emitted": Out(1),
            "link_groups": Out(1),
            "link_zero_groups": Out(1),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, c = self.parameters, Fields(self.operation.p, Emit)
        m.submodules.path = path = DeltaPath(p)
        reader, writer = self.held_read, self.held_written
        m.submodules.spool = spool = SpoolWriter(p)
        # Whether a line has room in its slot is told by long comparisons: the delta path does not wait for them.
        m.submodules.groups = groups = SkidBuffer(path.o.payload.shape())
        wiring.connect(m, path.o, groups.i)
        wiring.connect(m, groups.o, spool.groups)
        wiring.connect(m, spool.up, wiring.flipped(self.up))
        for name in spool_ports(p):
            wiring.connect(m, getattr(spool, name), wiring.flipped(getattr(self, name)))
        m.d.comb += [
            # Settings are those of an operation that is there.
            path.x.valid.eq(self.x.valid & self.operation.valid),
            path.x.payload.eq(self.x.payload),
            self.x.ready.eq(path.x.ready & self.operation.valid),
            path.held.payload.as_value().eq(reader.o.payload),
            path.held.valid.eq(reader.o.valid),
            reader.o.ready.eq(path.held.ready),
            writer.items.payload.eq(path.updated.payload),
            writer.items.valid.eq(path.updated.valid),
            path.updated.ready.eq(writer.items.ready),
            *(getattr(path, name).eq(getattr(c, name)) for name in ("start", "exact", "passes")),
            path.vectors.eq(self.sent.vectors),
            spool.operation.eq(self.operation.p),
            self.error.eq(spool.error),
        ]

        begins = named(m, "begins", self.operation.valid & self.held.valid & self.held.ready)
        begin = saturated(c.held.offset * UNIT_BYTES + self.held.p.address, ADDRESS_WIDTH)
        for records in (reader, writer):
            m.d.comb += [
                records.i.p.region.eq(c.held.region),
                records.i.p.address.eq(begin),
                records.i.p.records.eq(self.held.p.records),
            ]
        m.d.comb += [
            self.held.ready.eq(self.operation.valid & writer.i.ready & (reader.i.ready | c.start)),
            reader.i.valid.eq(begins & ~c.start),
            writer.i.valid.eq(begins),
            spool.start.eq(begins),
        ]

        lines = Signal(16)
        sends = named(m, "sends", groups.o.valid & groups.o.ready)
        ends_line = named(m, "ends_line", sends & groups.o.p.last)
        finished = named(m, "finished", lines.any() & (lines == self.sent.lines) & writer.idle & spool.idle)
        m.d.comb += [
            self.operation.ready.eq(c.chosen & (finished | ~c.sent)),
            self.link_groups.eq(sends),
            self.link_zero_groups.eq(sends & (groups.o.p.group.exponent == ZERO_GROUP)),
            self.poisoned.eq(sends & (groups.o.p.group.exponent == POISONED_GROUP)),
            self.emitted.eq(self.x.valid & self.x.ready & self.x.p.last),
        ]
        m.d.sync += lines.eq(Mux(self.operation.valid & self.operation.ready, 0, lines + ends_line))
        return m
