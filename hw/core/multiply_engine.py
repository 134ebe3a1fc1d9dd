"""The multiply engine: operations in, sums of whole tiles out."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from golden.machine.command import Multiply
from golden.parameters import ZERO_GROUP, Parameters
from hw import payloads
from hw.arith.bits import named
from hw.control.engine import Engine, Fields
from hw.core.array import MultiplierArray, WeightColumns
from hw.core.chain_path import CHAINS_AHEAD, chain_tile, tiles_waiting
from hw.core.multiply_check import MultiplyCheck
from hw.core.sequencer import Sequencer, waits
from hw.core.sum_buffer import SumReader, summed_tile
from hw.memory import BufferRead, DoubleBuffer
from hw.part import Part
from hw.stream import Fifo, Stage


def work_counts(parameters: Parameters) -> data.StructLayout:
    """What an operation adds to the counters of the array, as ``docs/machine.md`` names them."""
    p = parameters
    addresses = p.tile_words * p.weight_buffer * 8  # at most so many positions, records and passes
    names = ("groups", "zero_groups", "addresses", "skipped")
    return data.StructLayout({name: range(addresses * p.rows + 1) for name in names})


class TileQueue(wiring.Component):
    """The tiles, two at most, whose sums are on their way or kept.

    Parameters
    ----------
    parameters : Parameters
        Of the machine.

    Members
    -------
    enable, tile : In
        A tile whose last groups were read; only while `free`.
    ended : In(1)
        The last sums of the oldest tile that is on its way are kept.
    free : Out(1)
        There is room for a tile.
    o : Out(stream of `summed_tile`)
        Tiles whose sums are kept.
    """

    def __init__(self, parameters: Parameters):
        super().__init__(
            {
                "enable": In(1),
                "tile": In(summed_tile(parameters)),
                "ended": In(1),
                "free": Out(1),
                "o": Out(stream.Signature(summed_tile(parameters))),
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        tiles = [Signal.like(self.tile, name=f"tile{half}") for half in range(2)]
        held, kept, oldest = Signal(range(3), name="held"), Signal(range(3), name="kept"), Signal(name="oldest")
        taken = named(m, "taken", self.o.valid & self.o.ready)
        m.d.comb += [
            self.free.eq(held != 2),
            self.o.valid.eq(kept != 0),
            self.o.payload.eq(Mux(oldest, tiles[1], tiles[0])),
        ]
        m.d.sync += [held.eq(held + self.enable - taken), kept.eq(kept + self.ended - taken), oldest.eq(oldest ^ taken)]
        for half, tile in enumerate(tiles):
            with m.If(self.enable & (self.tile.half == half)):
                m.d.sync += tile.eq(self.tile)
        return m


class WorkCounter(Part):
    """Counts what an operation does: groups times channels, and addresses.

    Parameters
    ----------
    parameters : Parameters
        Uses ``rows`` and ``columns``.

    Members
    -------
    valid, rows, zero, channels, end : In
        A step: which rows exist, which of them have a zero group, how many channels its block has, and whether it is
        the last one of its operation.
    o : Out(stream of `work_counts`)
        Of each operation; no operation may end before those of the last one are taken.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "valid": In(1),
            "rows": In(parameters.rows),
            "zero": In(parameters.rows),
            "channels": In(range(parameters.columns + 1)),
            "end": In(1),
            "o": Out(stream.Signature(work_counts(parameters))),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m, channels = Module(), len(self.channels)
        s = Stage.begin_flow(m)
        s.valid, s.end, s.skipped = self.valid, self.valid & self.end, self.zero == self.rows
        s.groups = sum(self.channels & row.replicate(channels) for row in self.rows)
        s.zero_groups = sum(self.channels & row.replicate(channels) for row in self.zero)

        s = s.cut()
        totals = Signal(work_counts(self._parameters))
        with m.If(s.valid):
            added = {"groups": s.groups, "zero_groups": s.zero_groups, "addresses": 1, "skipped": s.skipped}
            for name, more in added.items():
                m.d.sync += totals[name].eq(totals[name] + more)
        s = s.cut()
        ended = named(m, "ended", s.valid & s.end)
        s.finish_flow()
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        # No step follows so soon that it would be forgotten.
        with m.If(ended):
            m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(totals), totals.eq(0)]
        return m


class MultiplyEngine(Engine):
    """Carries out `Multiply` (``docs/machine.md``): a step of the array per clock.

    ::

        operation --> sequencer --> banks, weights --> array --> sum buffer --> sum reader --> o
                          ^                                                         |
                          '----- check of the fields                tile queue <----'

    An operation is taken a clock after its last group is read. Its sums are then under way; the next operation goes on
    while they leave. It waits for a half to keep sums in, but only with the steps that end them.

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.

    Members
    -------
    banks : Out(BufferRead)
        Groups of every row.
    weights : Out(BufferRead)
        Records.
    sums : Out(stream of `payloads.sum_part`)
        Of tiles that leave, as `SumReader` tells.
    counts : Out(stream of `work_counts`)
        What each operation did.
    waits : Out
        Why there is no step in this clock.
    chains : Out(stream of `chain_tile`)
        How those of the tiles in `sums` that leave as groups do so; this and what follows only with the dataflow
        sign_mask.
    scales_held, scales_left : Out
        Tiles of `chains` that are not taken; event: one is.
    """

    name = "multiply"

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        chains = {
            "chains": Out(stream.Signature(chain_tile(parameters))),
            "scales_held": Out(tiles_waiting()),
            "scales_left": Out(1),
        }
        groups = data.ArrayLayout(payloads.delta_group(parameters), parameters.rows)
        record = payloads.weight_record(parameters)
        return super()._members(parameters) | {
            "banks": Out(BufferRead(groups, parameters.group_buffer)),
            "weights": Out(BufferRead(record, parameters.weight_buffer)),
            "sums": Out(stream.Signature(payloads.sum_part(parameters))),
            "counts": Out(stream.Signature(work_counts(parameters))),
            "waits": Out(waits()),
            **(chains if parameters.masks else {}),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        p, m = self.parameters, Module()
        m.submodules.check = check = MultiplyCheck(p)
        m.submodules.sequencer = sequencer = Sequencer(p)
        m.submodules.columns = columns = WeightColumns(p)
        m.submodules.array = array = MultiplierArray(p)
        m.submodules.sum_reader = reader = SumReader(p)
        m.submodules.tile_queue = queue = TileQueue(p)
        m.submodules.work = work = WorkCounter(p)

        free = queue.free & ~work.o.valid
        if p.masks:
            free &= self._keep_chains(m, sequencer)
        begun = Signal()
        ended = Signal()
        start = named(m, "start", self.operation.valid & ~begun)
        with m.If(start):
            m.d.sync += begun.eq(1)
        with m.Elif(ended):
            m.d.sync += begun.eq(0)
        m.d.sync += ended.eq(sequencer.final)
        m.d.comb += [
            self.operation.ready.eq(ended),
            check.operation.eq(self.operation.p),
            check.start.eq(start),
            check.open.eq(sequencer.open),
            check.key.eq(sequencer.key),
            sequencer.operation.eq(self.operation.p),
            sequencer.start.eq(start),
            sequencer.counted.eq(check.counted),
            sequencer.positions.eq(check.positions),
            sequencer.passed.eq(check.passed),
            sequencer.halted.eq(check.cause != 0),
            sequencer.free.eq(free),
            self.banks.enable.eq(sequencer.banks_enable),
            self.banks.half.eq(sequencer.banks_half),
            self.banks.address.eq(sequencer.banks_address),
            self.weights.enable.eq(sequencer.weights_enable),
            self.weights.half.eq(sequencer.weights_half),
            self.weights.address.eq(sequencer.weights_address),
            self.waits.eq(sequencer.waits),
        ]

        # Records and groups take as long to come, so a record that is asked for after a step comes after it.
        asked = Stage.begin_flow(m, name="record_")
        asked.valid, asked.column, asked.wrapped = sequencer.weights_enable, sequencer.column, sequencer.wrapped
        came = asked.cut(DoubleBuffer.latency)
        m.d.comb += [
            columns.enable.eq(came.valid),
            columns.column.eq(came.column),
            columns.wrapped.eq(came.wrapped),
            columns.record.eq(self.weights.data),
        ]
        came.finish_flow()

        read = Stage.begin_flow(m, name="group_")
        read.valid, read.step = sequencer.step.step.valid, sequencer.step
        there = read.cut(DoubleBuffer.latency)
        step = there.step.step
        zero = [(group.exponent == ZERO_GROUP) & row for group, row in zip(self.banks.data, step.rows, strict=True)]
        # A record poisons sums whatever it is multiplied with.
        idle = (Cat(zero) == step.rows) & ~columns.poisons
        skipped = named(m, "skipped", idle & ~step.first & ~step.last)
        m.d.comb += [
            columns.swap.eq(there.valid & there.step.swap),
            array.step.eq(step),
            array.step.valid.eq(there.valid & ~skipped),
            array.groups.eq(self.banks.data),
            *(given.eq(factors) for given, factors in zip(array.factors, columns.factors, strict=True)),
            array.state.eq(columns.state),
            work.valid.eq(there.valid),
            work.rows.eq(step.rows),
            work.zero.eq(Cat(zero)),
            work.channels.eq(there.step.channels),
            work.end.eq(there.step.end),
        ]
        there.finish_flow()

        connect(m, reader.read, array.read)
        m.d.comb += [
            queue.enable.eq(sequencer.leave),
            queue.tile.eq(sequencer.tile),
            queue.ended.eq(array.done.valid & array.done.leave),
        ]
        connect(m, queue.o, reader.tile)
        for source, target in ((reader.o, self.sums), (work.o, self.counts)):
            m.d.comb += [
                target.valid.eq(source.valid),
                target.payload.eq(source.payload),
                source.ready.eq(target.ready),
            ]

        # An error waits until what was under way before it has come to its end.
        under_way = DoubleBuffer.latency + array.latency + 2
        clocks = Signal(range(under_way + 1))
        with m.If(start):
            m.d.sync += clocks.eq(0)
        with m.Elif(clocks != under_way):
            m.d.sync += clocks.eq(clocks + 1)
        with m.Elif(check.cause != 0):
            m.d.sync += self.error.eq(check.cause)
        m.d.comb += [
            self.overflow.eq(array.overflow & (self.error == 0)),
            self.poisoned.eq(self.sums.valid & self.sums.ready & self.sums.p.poisoned.any()),
        ]
        return m

    def _keep_chains(self, m: Module, sequencer: Sequencer) -> Value:
        """How tiles become groups, in the order in which they leave; returns whether there is room for one more."""
        p, c = self.parameters, Fields(self.operation.p, Multiply)
        m.submodules.chain_queue = chains = Fifo(chain_tile(p), CHAINS_AHEAD)
        connect(m, chains.o, flipped(self.chains))
        kept = named(m, "chain_kept", sequencer.leave & sequencer.tile.groups)
        m.d.comb += [
            chains.i.valid.eq(kept),
            chains.i.p.record.eq(c.scales),
            chains.i.p.step.eq(c.scales_step),
            chains.i.p.positions.eq(sequencer.tile.positions),
            chains.i.p.passes.eq(c.sent),
            self.scales_left.eq(self.chains.valid & self.chains.ready),
        ]
        if p.exponent_policy == "layer":
            m.d.comb += chains.i.p.static.eq(c.static)
        m.d.sync += self.scales_held.eq(self.scales_held + kept - self.scales_left)
        return chains.i.ready
