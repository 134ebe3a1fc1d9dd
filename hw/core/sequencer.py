"""The loops of a `Multiply`: which records are loaded, which groups are read, and what is done with them."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.machine.command import Multiply
from golden.parameters import Parameters
from hw.arith.bits import looked_up, named
from hw.control.engine import Fields, operation
from hw.core.array import MultiplierArray, array_step
from hw.core.multiply_check import tile_key
from hw.core.sum_buffer import summed_tile

__all__ = ["Sequencer", "sequenced_step"]


def sequenced_step(parameters: Parameters) -> data.StructLayout:
    """A step of the array as the loops make it.

    `swap`: it is the first one with the records that were read last. `channels`: of its block. `end`: of the operation.
    """
    return data.StructLayout(
        {"step": array_step(parameters), "swap": 1, "channels": range(parameters.columns + 1), "end": 1}
    )


class Sequencer(wiring.Component):
    """Runs the loops of ``docs/machine.md``, Multiply: a record and a step per clock.

    Records of the next group are read while the steps of this one go on. A step waits for its records, for the sum it
    adds to (an address returns after `MultiplierArray.spacing` clocks), and, if it ends sums, for the verdict on the
    fields and for a half to keep them in.

    Parameters
    ----------
    parameters : Parameters
        Uses ``rows``, ``columns``, ``lanes``, ``tile_positions`` and the sizes of the buffers.

    Members
    -------
    operation : In
        A `Multiply`, from `start` on.
    start : In(1)
        First clock of the operation.
    counted, positions, passed : In
        From `hw.core.multiply_check.MultiplyCheck`.
    halted : In(1)
        The operation cannot go on.
    final : Out(1)
        Last clock of the operation: the last group is read.
    weights_enable, weights_half, weights_address : Out
        Record to read at this clock edge.
    column, wrapped : Out
        Where it goes: see `hw.core.array.WeightColumns`.
    banks_enable, banks_half, banks_address : Out
        Groups to read at this clock edge,
    step : Out(`sequenced_step`)
        and what is done with them; in the same clock.
    open, key : Out
        To `MultiplyCheck`.
    free : In(1)
        There is a half for the sums of the tile.
    leave : Out(1)
        The tile leaves, in the clock of `final`,
    tile : Out(`summed_tile`)
        and this is how.
    waits : Out
        Why there is no step in this clock: `records`, `sums` (an address returns too soon), `half`, `fields`.
    """

    def __init__(self, parameters: Parameters):
        self._parameters = parameters
        super().__init__(
            {
                "operation": In(operation("multiply")),
                "start": In(1),
                "counted": In(1),
                "positions": In(tile_key(parameters)["positions"].shape),
                "passed": In(1),
                "halted": In(1),
                "final": Out(1),
                "weights_enable": Out(1),
                "weights_half": Out(1),
                "weights_address": Out(range(parameters.weight_buffer)),
                "column": Out(range(parameters.columns)),
                "wrapped": Out(1),
                "banks_enable": Out(1),
                "banks_half": Out(1),
                "banks_address": Out(range(parameters.group_buffer)),
                "step": Out(sequenced_step(parameters)),
                "open": Out(1),
                "key": Out(tile_key(parameters)),
                "free": In(1),
                "leave": Out(1),
                "tile": Out(summed_tile(parameters)),
                "waits": Out(data.StructLayout({"records": 1, "sums": 1, "half": 1, "fields": 1})),
            }
        )

    @property
    def parameters(self) -> Parameters:
        """The machine's parameters."""
        return self._parameters

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        p, m, c = self._parameters, Module(), Fields(self.operation, Multiply)
        n, columns, tile_positions = p.lanes, p.columns, p.tile_positions
        runs, fresh, loaded = Signal(), Signal(), Signal()

        # What ends with the step at hand, outermost last.
        left, position = Signal.like(self.positions, name="left"), Signal(range(tile_positions))
        one_pass, group, kernel_column, kernel_line = Signal(3), Signal(12), Signal(4), Signal(4)
        channels_left = Signal(7)
        last_tile = named(m, "last_tile", left <= tile_positions)
        ends_pass = named(m, "ends_pass", position == Mux(last_tile, left - 1, tile_positions - 1))
        last_pass = named(m, "last_pass", one_pass == c.passes)
        last_group = named(m, "last_group", group == c.groups - 1)
        last_column = named(m, "last_column", kernel_column == c.kernel_columns - 1)
        last_record = named(m, "last_record", last_group & last_column & (kernel_line == c.kernel_lines - 1))
        last_block = named(m, "last_block", channels_left <= columns)
        first_record = Signal()
        ends_sums = named(m, "ends_sums", last_record & last_pass)
        ends_record = named(m, "ends_record", ends_pass & last_pass)
        ends_tile = named(m, "ends_tile", ends_record & last_record)

        # Whether there is a step. The sums of few positions come back too soon.
        rest = Signal(range(MultiplierArray.spacing))
        ready = named(m, "ready", runs & self.counted & ~self.halted)
        goes = named(m, "goes", ready & (~fresh | loaded) & (rest == 0) & (~ends_sums | (self.passed & self.free)))
        m.d.comb += [
            self.final.eq(goes & ends_tile & last_tile & last_block),
            self.leave.eq(self.final & c.leave),
            self.waits.records.eq(runs & fresh & ~loaded),
            self.waits.sums.eq(ready & (rest != 0)),
            self.waits.half.eq(ready & ends_sums & self.passed & ~self.free),
            self.waits.fields.eq(runs & ~self.halted & (~self.counted | (ends_sums & ~self.passed))),
        ]
        with m.If(self.start):
            m.d.sync += runs.eq(1)
        with m.Elif(self.final | self.halted):
            m.d.sync += runs.eq(0)
        spacing = MultiplierArray.spacing
        with m.If(goes & ends_pass):
            m.d.sync += rest.eq(Mux(position < spacing, spacing - 1 - position, 0))
        with m.Elif(rest != 0):
            m.d.sync += rest.eq(rest - 1)

        # Addresses: of the position, of the tap and group.
        address, line_address, column = Signal(16), Signal(16), Signal(8)
        begin = [Signal.like(each, name=f"begin_{each.name}") for each in (address, line_address, column)]
        ends_line = named(m, "ends_line", column == c.columns - 1)
        next_line = named(m, "next_line", (line_address + c.line_pitch)[:16])
        following = [
            named(m, "next_address", Mux(ends_line, next_line, address + c.column_pitch)[:16]),
            named(m, "next_line_address", Mux(ends_line, next_line, line_address)),
            named(m, "next_column", Mux(ends_line, 0, column + 1)[:8]),
        ]
        here = (address, line_address, column)

        def go_to(place: Sequence[Value]) -> list:
            return [each.eq(value) for each, value in zip(here, place, strict=True)]

        def begin_at(place: Sequence[Value]) -> list:
            return [each.eq(value) for each, value in zip(begin, place, strict=True)]

        tap, column_tap, line_tap = (Signal(16, name=name) for name in ("tap", "column_tap", "line_tap"))
        next_column_tap = named(m, "next_column_tap", (column_tap + c.tap_pitch)[:16])
        next_line_tap = named(m, "next_line_tap", (line_tap + c.kernel_pitch)[:16])
        words = range(p.tile_words)
        places = looked_up(m, "places", c.collected, [-(-channels // columns) for channels in range(n + 1)])
        first_word = looked_up(m, "first_word", c.first, [channel // columns for channel in range(n)])
        first_column = looked_up(m, "first_column", c.first, [channel % columns for channel in range(n)])
        word, block_word = Signal(words), Signal(words)
        origin = (c.at, c.at, Const(0, 8))
        clear_tap = [each.eq(0) for each in (tap, column_tap, line_tap, group, kernel_column, kernel_line, one_pass)]
        with m.If(self.start):
            m.d.sync += [*go_to(origin), *begin_at(origin), *clear_tap, rest.eq(0), position.eq(0)]
            m.d.sync += [first_record.eq(1), fresh.eq(1), channels_left.eq(c.channels)]
            m.d.sync += [word.eq(first_word), block_word.eq(first_word)]
        with m.Elif(~self.counted):
            m.d.sync += left.eq(self.positions)
        with m.If(goes):
            m.d.sync += [fresh.eq(ends_record), position.eq(Mux(ends_pass, 0, position + 1))]
            m.d.sync += go_to(following)
            with m.If(ends_sums):
                m.d.sync += word.eq(word + places)
            with m.If(ends_pass):
                m.d.sync += [*go_to(begin), one_pass.eq(one_pass + 1), tap.eq(tap + 1)]
            with m.If(ends_record):
                m.d.sync += [first_record.eq(0), one_pass.eq(0), group.eq(group + 1)]
                with m.If(last_group):
                    m.d.sync += [group.eq(0), kernel_column.eq(kernel_column + 1)]
                    m.d.sync += [tap.eq(next_column_tap), column_tap.eq(next_column_tap)]
                    with m.If(last_column):
                        m.d.sync += [kernel_column.eq(0), kernel_line.eq(kernel_line + 1)]
                        m.d.sync += [each.eq(next_line_tap) for each in (tap, column_tap, line_tap)]
            with m.If(ends_tile):
                m.d.sync += [*clear_tap, first_record.eq(1), left.eq(left - tile_positions)]
                m.d.sync += [*go_to(following), *begin_at(following)]
                with m.If(last_tile):
                    m.d.sync += [*go_to(origin), *begin_at(origin), left.eq(self.positions)]
                    m.d.sync += [word.eq(block_word + 1), block_word.eq(block_word + 1)]
                    m.d.sync += channels_left.eq(channels_left - columns)

        # The step, as its groups are read.
        half, size = Signal(), named(m, "size", Mux(last_block, channels_left, columns))
        step = self.step.step
        m.d.sync += [
            self.banks_enable.eq(goes),
            self.banks_half.eq(c.half),
            self.banks_address.eq(address + tap),
            self.step.swap.eq(goes & fresh),
            self.step.channels.eq(size),
            self.step.end.eq(self.final),
            step.valid.eq(goes),
            step.first.eq(first_record & (one_pass == 0)),
            step.last.eq(ends_sums),
            step.leave.eq(self.leave),
            step.address.eq(position),
            step.rows.eq(Cat(c.rows >= row for row in range(p.rows))),
            step.half.eq(half),
            step.word.eq(word),
        ]

        # Records: those of the first group, then those of the group after the one that begins.
        record, begin_record = (
            Signal(range(p.weight_buffer + columns), name=name) for name in ("record", "begin_record")
        )
        loading, count, load_size = Signal(), Signal(range(columns)), Signal(range(columns + 1))
        channel, begin_channel, computed = Signal(7), Signal(7), Signal(n)
        begins = named(m, "begins", goes & fresh)
        rewind = [count.eq(0), self.column.eq(first_column), self.wrapped.eq(0)]
        m.d.comb += [self.weights_enable.eq(loading), self.weights_half.eq(c.weights_half)]
        m.d.comb += self.weights_address.eq(record)
        with m.If(self.leave):
            m.d.sync += computed.eq(0)
        with m.If(self.start):
            m.d.sync += [*rewind, loading.eq(1), loaded.eq(0), record.eq(c.weights_at), begin_record.eq(c.weights_at)]
            m.d.sync += [channel.eq(c.first), begin_channel.eq(c.first)]
            m.d.sync += load_size.eq(Mux(c.channels < columns, c.channels, columns))
        with m.Elif(loading):
            m.d.sync += [record.eq(record + 1), count.eq(count + 1), channel.eq(channel + 1)]
            m.d.sync += computed.bit_select(channel, 1).eq(1)
            wraps = self.column == columns - 1
            m.d.sync += [self.column.eq(Mux(wraps, 0, self.column + 1)), self.wrapped.eq(self.wrapped | wraps)]
            with m.If(count == load_size - 1):
                m.d.sync += [loading.eq(0), loaded.eq(1)]
        with m.If(begins):
            m.d.sync += [*rewind, loaded.eq(0), channel.eq(begin_channel)]
            m.d.sync += loading.eq(~(last_record & last_tile & last_block))
            with m.If(last_record & ~last_tile):
                m.d.sync += record.eq(begin_record)
            with m.Elif(last_record):
                further = channels_left - columns
                m.d.sync += [channel.eq(begin_channel + columns), begin_channel.eq(begin_channel + columns)]
                m.d.sync += [begin_record.eq(record), load_size.eq(Mux(further < columns, further, columns))]

        # Parts of a tile have their positions, rows and place in common.
        m.d.comb += [
            self.tile.half.eq(half),
            self.tile.rows.eq(c.rows),
            self.tile.positions.eq(self.positions),
            self.tile.collected.eq(c.collected),
            self.tile.computed.eq(computed),
            self.tile.floor.eq(c.floor),
            self.tile.unit.eq(c.unit),
        ]
        with m.If(self.final):
            m.d.sync += [self.open.eq(~c.leave), half.eq(half ^ c.leave)]
            m.d.sync += [self.key.rows.eq(c.rows), self.key.positions.eq(self.positions)]
            m.d.sync += self.key.collected.eq(c.collected)
        return m
