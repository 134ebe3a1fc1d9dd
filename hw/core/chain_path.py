"""Outputs of a product that an activation follows: sums times norm, plus shift, to delta groups."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw import payloads
from hw.arith.bits import multiply_constant, named
from hw.bus.ports import MemoryRead
from hw.core.chain_quantizer import ChainQuantizer
from hw.core.chain_scale import ChainScale
from hw.memory import Ram
from hw.part import Part
from hw.stream import Stage
from hw.stream.records import RecordReader, record_span

CHAINS_AHEAD = 4
"""Tiles that wait for their way to groups while others are on it, besides the next one."""


def chain_tile(parameters: Parameters) -> data.StructLayout:
    """How the outputs of a tile become groups.

    `record`: factors and shifts of row 0. `step`: records from row to row. `positions`: vectors of a row. `passes`:
    of a vector, minus 1. `static`: no group chooses its exponent; only under the layer policy.
    """
    fields = {
        "record": range(parameters.scale_buffer),
        "step": range(parameters.scale_buffer),
        "positions": range(parameters.tile_words + 1),
        "passes": 3,
    }
    return data.StructLayout({**fields, **({"static": 1} if parameters.exponent_policy == "layer" else {})})


def tiles_waiting() -> range:
    """Shape of the number of tiles that have still to take factors and shifts."""
    return range(CHAINS_AHEAD + 2)


def scale_rows(parameters: Parameters) -> range:
    """Rows of `near_lanes` channels of all records of factors, or of shifts."""
    return range(parameters.scale_buffer * parameters.lanes // parameters.near_lanes)


def scale_write(parameters: Parameters) -> data.StructLayout:
    """`near_lanes` factors, or shifts, and their place: `row` counts those of all records before."""
    values = data.ArrayLayout(16, parameters.near_lanes)
    return data.StructLayout({"row": scale_rows(parameters), "shifts": 1, "values": values})


def scale_span(parameters: Parameters) -> data.StructLayout:
    """Records to load: `record_span`, and the record of the buffer that the first one becomes."""
    span = {name: field.shape for name, field in record_span()}
    return data.StructLayout({**span, "at": range(parameters.scale_buffer)})


class ScaleLoader(Part):
    """Reads records of n factors and n shifts for `ScaleBuffer`, which ends after the last of them.

    Throughput: u numbers per clock, or as memory gives words.

    Parameters
    ----------
    parameters : Parameters
        Uses ``scale_buffer``, ``lanes``, ``near_lanes`` and ``memory_width``.

    Members
    -------
    i : In(stream of `scale_span`)
        Records to load; taken when the last one has left.
    o : Out(stream of `scale_write`)
        What to keep.
    scales_read : Out(MemoryRead)
        Memory.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "i": In(stream.Signature(scale_span(parameters))),
            "o": Out(stream.Signature(scale_write(parameters))),
            "scales_read": Out(MemoryRead(parameters.memory_width)),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, i = self._parameters, self.i.p
        rows = p.lanes // p.near_lanes
        m.submodules.reader = reader = RecordReader(p.memory_width, 16 * p.near_lanes, 2 * rows)
        wiring.connect(m, reader.port, wiring.flipped(self.scales_read))
        asked, shifts = Signal(), Signal()
        row, record, gone = Signal(range(rows)), Signal.like(self.o.p.row), Signal.like(i.records)
        base = named(m, "base", Mux(gone.any(), record, multiply_constant(i.at, rows))[: len(record)])
        moves = named(m, "moves", self.o.valid & self.o.ready)
        row_ends = named(m, "row_ends", row == rows - 1)
        m.d.comb += [
            reader.i.valid.eq(self.i.valid & ~asked),
            *(reader.i.p[name].eq(i[name]) for name in ("region", "address", "records")),
            self.o.valid.eq(reader.o.valid),
            self.o.p.row.eq(base + row),
            self.o.p.shifts.eq(shifts),
            self.o.p["values"].eq(reader.o.payload),
            reader.o.ready.eq(self.o.ready),
            self.i.ready.eq(moves & row_ends & shifts & (gone + 1 == i.records)),
        ]
        with m.If(self.i.ready):
            m.d.sync += asked.eq(0)
        with m.Elif(reader.i.valid & reader.i.ready):
            m.d.sync += asked.eq(1)
        with m.If(moves):
            m.d.sync += row.eq(Mux(row_ends, 0, row + 1))
            with m.If(row_ends):
                m.d.sync += shifts.eq(~shifts)
            with m.If(row_ends & shifts):
                m.d.sync += [record.eq(base + rows), gone.eq(Mux(self.i.ready, 0, gone + 1))]
        return m


class ScaleBuffer(Part):
    """Keeps records of factors and shifts, u channels a row.

    Latency: 1 clock from address to data. Throughput: one write and one read per clock.

    Parameters
    ----------
    parameters : Parameters
        Uses ``scale_buffer``, ``lanes`` and ``near_lanes``.

    Members
    -------
    write : In(stream of `scale_write`)
        What to keep; always ready.
    enable, row : In
        Row to read at this clock edge; without `enable` the last one stays.
    factors, shifts : Out(array of u FP16 patterns)
        The row.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        values = data.ArrayLayout(16, parameters.near_lanes)
        return {
            "write": In(stream.Signature(scale_write(parameters))),
            "enable": In(1),
            "row": In(scale_rows(parameters)),
            "factors": Out(values),
            "shifts": Out(values),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        m.d.comb += self.write.ready.eq(1)
        for name, port in (("factors", self.factors), ("shifts", self.shifts)):
            m.submodules[name] = ram = Ram(port.shape(), len(scale_rows(self._parameters)))
            m.d.comb += [
                ram.write_enable.eq(self.write.valid & (self.write.p.shifts == (name == "shifts"))),
                ram.write_address.eq(self.write.p.row),
                ram.write_data.eq(self.write.p["values"]),
                ram.read_enable.eq(self.enable),
                ram.read_address.eq(self.row),
                port.eq(ram.read_data),
            ]
        return m


class ChainPath(Part):
    """Makes delta groups of the sums of a tile, u lanes a clock (``docs/machine.md``, `Multiply` with `leaves`).

    ::

        i --> place of factors and shifts --> buffer --> ChainScale --> ChainQuantizer --> o

    Throughput: as `ChainQuantizer`.

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters, with the dataflow sign_mask.

    Members
    -------
    i : In(stream of `payloads.sum_part`)
        Sums of vectors of n channels.
    tile : In(stream of `chain_tile`)
        How those of the tile become groups; taken with the last of them.
    write : In(stream of `scale_write`)
        Factors and shifts; always ready.
    o : Out(stream of `payloads.chain_group`)
        Groups.
    overflow, saturated, poisoned : Out(1)
        Events: a delta was clamped, a lane was sent as the largest digit, a vector is poisoned.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "i": In(stream.Signature(payloads.sum_part(parameters))),
            "tile": In(stream.Signature(chain_tile(parameters))),
            "write": In(stream.Signature(scale_write(parameters))),
            "o": Out(stream.Signature(payloads.chain_group(parameters))),
            **{event: Out(1) for event in ("overflow", "saturated", "poisoned")},
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, tile = self._parameters, self.tile.p
        rows = p.lanes // p.near_lanes
        m.submodules.buffer = buffer = ScaleBuffer(p)
        m.submodules.scale = scale = ChainScale(p)
        m.submodules.quantizer = quantizer = ChainQuantizer(p)
        wiring.connect(m, wiring.flipped(self.write), buffer.write)
        wiring.connect(m, scale.o, quantizer.i)
        wiring.connect(m, quantizer.o, wiring.flipped(self.o))

        begun, base, row = Signal(), Signal.like(buffer.row), Signal(range(rows))
        positions = Signal.like(tile.positions)
        both = stream.Signature(0).create(path=("both",))
        first = named(m, "first", Mux(begun, base, multiply_constant(tile.record, rows))[: len(base)])
        m.d.comb += [
            both.valid.eq(self.i.valid & self.tile.valid),
            self.i.ready.eq(both.ready & self.tile.valid),
            self.tile.ready.eq(both.ready & self.i.valid & self.i.p.end & self.i.p.last),
        ]
        s = Stage.begin(m, both)
        part = self.i.p
        for name in ("poisoned", "unit", "last", "floor"):
            s.make(name, part[name])
        s.sums, s.end, s.passes = list(part["values"]), part.end & part.last, tile.passes
        if p.exponent_policy == "layer":
            s.static = tile.static
        m.d.comb += [buffer.enable.eq(s.moves), buffer.row.eq(first + row)]
        row_ends = named(m, "row_ends", part.last & (positions + 1 == tile.positions))
        with m.If(s.moves):
            following = named(m, "following", first + multiply_constant(tile.step, rows))
            m.d.sync += [
                begun.eq(~self.tile.ready),
                row.eq(Mux(part.last, 0, row + 1)),
                base.eq(Mux(row_ends, following, first)),
            ]
            with m.If(part.last):
                m.d.sync += positions.eq(Mux(row_ends, 0, positions + 1))
        s.make("factors", buffer.factors, held_by=buffer.factors.as_value())
        s.make("shifts", buffer.shifts, held_by=buffer.shifts.as_value())

        s = s.cut()
        result = Signal(payloads.chain_sums(p), name="result")
        for name in result.shape().members:
            value = getattr(s, name)
            if isinstance(value, list):
                m.d.comb += [target.eq(one) for target, one in zip(result[name], value, strict=True)]
            else:
                m.d.comb += result[name].eq(value)
        s.finish(scale.i, result, depth=s.cuts)
        m.d.comb += [
            self.overflow.eq(scale.overflow),
            self.saturated.eq(quantizer.saturated),
            self.poisoned.eq(quantizer.poisoned),
        ]
        return m
