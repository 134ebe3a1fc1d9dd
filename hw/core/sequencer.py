"""The loops of a `Multiply`: which records are loaded, which groups are read, and what is done with them."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.machine.command import Multiply
from golden.parameters import Parameters
from hw.arith.bits import looked_up, named
from hw.control.engine import Fields, operation
from hw.core.array import MultiplierArray, array_step
from hw.core.multiply_check import tile_key
from hw.core.sum_buffer import summed_tile
from hw.part import Part


def sequenced_step(parameters: Parameters) -> data.StructLayout:
    """A step of the array as the loops make it.

    `swap`: it is the first one with the records that were read last. `channels`: of its block. `end`: of the operation.
    """
    return data.StructLayout(
        {"step": array_step(parameters), "swap": 1, "channels": range(parameters.columns + 1), "end": 1}
    )


def turn() -> data.StructLayout:
    """Where the loops stand.

    `steps`: there is a step in this clock; `begins`: the first one with its records. What it is the last one of:
    `passes`: the positions, of a pass; `record`: all passes; `sums`: what is added to a sum; `tile`: all of a block of
    positions. Whether the loops inside the tile are in their last turn: `group` of a kernel column, `column`, `line`;
    and those outside: `tiles` of a block of channels, `blocks`.
    """
    names = ("steps", "begins", "passes", "record", "sums", "tile", "group", "column", "line", "tiles", "blocks")
    return data.StructLayout(dict.fromkeys(names, 1))


def waits() -> data.StructLayout:
    """Why there is no step: records are not read, the sum would be back too soon, no half is free, no verdict yet."""
    return data.StructLayout(dict.fromkeys(("records", "sums", "half", "fields"), 1))


class _Controlled(Part):
    """What counts the loops of an operation, and what it needs to know of the checks and of the sums' buffer.

    Members
    -------
    operation : In
        A `Multiply`, from `start` on.
    start : In(1)
        First clock of the operation.
    counted, positions, passed : In
        From `hw.core.multiply_check.MultiplyCheck`.
    halted, free : In(1)
        The operation cannot go on; there is a half to keep sums in.
    final : Out(1)
        Last clock of the operation: the last group is read.
    waits : Out(`waits`)
        Why there is no step.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "operation": In(operation("multiply", parameters.dataflows)),
            "start": In(1),
            "counted": In(1),
            "positions": In(tile_key(parameters)["positions"].shape),
            "passed": In(1),
            "halted": In(1),
            "free": In(1),
            "final": Out(1),
            "waits": Out(waits()),
        }


class Loops(_Controlled):
    """Counts the loops of ``docs/machine.md``, Multiply.

    A step waits for its records, for the sum it adds to (an address returns after `MultiplierArray.spacing` clocks),
    and, if it ends sums, for the verdict on the fields and for a half to keep them in.

    Throughput: one step per clock.

    Parameters
    ----------
    parameters : Parameters
        Uses ``columns`` and ``tile_positions``.

    Members
    -------
    loaded : In(1)
        The records of the next group are read.
    turn : Out(`turn`)
        Where the loops stand.
    first : Out(1)
        The step is the first one of its sums.
    position : Out
        Of the block.
    channels_left : Out(7)
        Of this block and those after it.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return super()._members(parameters) | {
            "loaded": In(1),
            "turn": Out(turn()),
            "first": Out(1),
            "position": Out(range(parameters.tile_positions)),
            "channels_left": Out(7),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        p, m, c, ends = self._parameters, Module(), Fields(self.operation, Multiply), self.turn
        runs, fresh = Signal(name="runs"), Signal(name="fresh")
        left = Signal.like(self.positions, name="left")
        one_pass = Signal(3, name="one_pass")
        groups_left = Signal(12, name="groups_left")
        columns_left, lines_left = Signal(4, name="columns_left"), Signal(4, name="lines_left")
        last_group, last_column, last_line = (Signal(name=f"last_{name}") for name in ("group", "column", "line"))
        first_record, rest = Signal(name="first_record"), Signal(range(MultiplierArray.spacing), name="rest")
        last_position, last_tile, last_block = (Signal(name=f"last_{name}") for name in ("position", "tile", "block"))
        last_pass, last_tap = Signal(name="last_pass"), Signal(name="last_tap")
        ready = named(m, "ready", runs & self.counted & ~self.halted)
        m.d.comb += [
            ends.steps.eq(ready & (~fresh | self.loaded) & (rest == 0) & (~ends.sums | (self.passed & self.free))),
            ends.begins.eq(ends.steps & fresh),
            ends.passes.eq(last_position),
            ends.record.eq(ends.passes & last_pass),
            ends.sums.eq(last_tap & last_pass),
            ends.tile.eq(ends.passes & ends.sums),
            ends.group.eq(last_group),
            ends.column.eq(last_group & last_column),
            ends.line.eq(last_tap),
            ends.tiles.eq(last_tile),
            ends.blocks.eq(last_block),
            self.first.eq(first_record & (one_pass == 0)),
            self.final.eq(ends.steps & ends.tile & ends.tiles & ends.blocks),
            self.waits.records.eq(runs & fresh & ~self.loaded),
            self.waits.sums.eq(ready & (rest != 0)),
            self.waits.half.eq(ready & ends.sums & self.passed & ~self.free),
            self.waits.fields.eq(runs & ~self.halted & (~self.counted | (ends.sums & ~self.passed))),
        ]
        # What is left counts down, and whether that is the last of it is known in advance: the clock depends on it.
        turns = {"group": c.groups, "column": c.kernel_columns, "line": c.kernel_lines}
        only = [named(m, f"only_{name}", count == 1) for name, count in turns.items()]
        all_groups = [groups_left.eq(c.groups - 1), last_group.eq(only[0])]
        all_columns = [columns_left.eq(c.kernel_columns - 1), last_column.eq(only[1])]
        all_lines = [lines_left.eq(c.kernel_lines - 1), last_line.eq(only[2])]
        following = [
            Mux(ends.group, only[0], groups_left == 1),
            Mux(ends.column, only[1], Mux(ends.group, columns_left == 1, last_column)),
            Mux(ends.column, lines_left == 1, last_line),
        ]
        all_positions = [
            left.eq(self.positions),
            last_tile.eq(self.positions <= p.tile_positions),
            last_position.eq((self.positions == 1) | (p.tile_positions == 1)),
        ]
        size = named(m, "size", Mux(last_tile, left, p.tile_positions))
        with m.If(self.start):
            m.d.sync += [runs.eq(1), fresh.eq(1), self.channels_left.eq(c.channels)]
            m.d.sync += last_block.eq(c.channels <= p.columns)
        with m.Elif(self.final | self.halted):
            m.d.sync += runs.eq(0)
        with m.If(ends.steps):
            m.d.sync += [fresh.eq(ends.record), self.position.eq(self.position + 1)]
            m.d.sync += last_position.eq(Mux(ends.passes, size == 1, self.position + 2 == size))
            with m.If(ends.passes):
                spacing, last = MultiplierArray.spacing, self.position
                m.d.sync += [self.position.eq(0), one_pass.eq(one_pass + 1), last_pass.eq(one_pass + 1 == c.passes)]
                m.d.sync += rest.eq(Mux(last < spacing, spacing - 1 - last, 0))
            with m.If(ends.record):
                m.d.sync += [one_pass.eq(0), last_pass.eq(c.passes == 0), first_record.eq(0)]
                m.d.sync += last_tap.eq(Cat(following).all())
                m.d.sync += [groups_left.eq(groups_left - 1), last_group.eq(groups_left == 1)]
                with m.If(ends.group):
                    m.d.sync += [*all_groups, columns_left.eq(columns_left - 1), last_column.eq(columns_left == 1)]
                with m.If(ends.column):
                    m.d.sync += [*all_columns, lines_left.eq(lines_left - 1), last_line.eq(lines_left == 1)]
            with m.If(ends.tile):
                m.d.sync += [left.eq(left - p.tile_positions), last_tile.eq(left <= 2 * p.tile_positions)]
                m.d.sync += last_position.eq((left == p.tile_positions + 1) | (p.tile_positions == 1))
                with m.If(last_tile):
                    m.d.sync += [*all_positions, self.channels_left.eq(self.channels_left - p.columns)]
                    m.d.sync += last_block.eq(self.channels_left <= 2 * p.columns)
        with m.Elif(rest != 0):
            m.d.sync += rest.eq(rest - 1)
        with m.If(~self.counted):
            m.d.sync += all_positions
        with m.If(self.start | (ends.steps & ends.tile)):
            m.d.sync += [self.position.eq(0), one_pass.eq(0), last_pass.eq(c.passes == 0), first_record.eq(1)]
            m.d.sync += [*all_groups, *all_columns, *all_lines, last_tap.eq(Cat(only).all())]
        return m


class GroupAddresses(wiring.Component):
    """The address of each step's groups: that of its position, counted from the first one, and that of its tap.

    Latency: none from the step to `address`, which the next clock's step finds moved on.

    Parameters
    ----------
    parameters : Parameters
        Uses ``group_buffer``.

    Members
    -------
    operation, start, turn : In
        As in `Loops`.
    address : Out
        Of the step's groups. What lies past the banks comes out wrong: the fields are refused.
    """

    def __init__(self, parameters: Parameters):
        super().__init__(
            {
                "operation": In(operation("multiply", parameters.dataflows)),
                "start": In(1),
                "turn": In(turn()),
                "address": Out(range(parameters.group_buffer)),
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m, c, turn = Module(), Fields(self.operation, Multiply), self.turn
        width = len(self.address)
        position, line, begin, begin_line, tap, column_tap, line_tap = (
            Signal(width, name=name)
            for name in ("position", "line", "begin", "begin_line", "tap", "column_tap", "line_tap")
        )
        column, begin_column = Signal(8, name="column"), Signal(8, name="begin_column")
        m.d.comb += self.address.eq(position + tap)
        # Whether there is a step, which is known last, only says whether registers move.
        kernel = Mux(turn.column, line_tap, column_tap), Mux(turn.column, c.kernel_pitch, c.tap_pitch)
        moves = named(m, "moves", turn.record & turn.group)
        following = named(m, "next_tap", (Mux(moves, kernel[0], tap) + Mux(moves, kernel[1], 1))[:width])
        with m.If(self.start | (turn.steps & turn.passes)):
            with m.If(self.start | turn.tile):
                m.d.sync += [each.eq(c.at) for each in (tap, column_tap, line_tap)]
            with m.Else():
                m.d.sync += tap.eq(following)
                with m.If(moves):
                    m.d.sync += column_tap.eq(following)
                    with m.If(turn.column):
                        m.d.sync += line_tap.eq(following)

        ends_line = named(m, "ends_line", column + 1 == c.columns)
        pitch = Mux(ends_line, c.line_pitch, c.column_pitch)
        following = named(m, "next_position", (Mux(ends_line, line, position) + pitch)[:width])
        here = position, line, column
        ahead = following, Mux(ends_line, following, line), Mux(ends_line, 0, column + 1)
        first = begin, begin_line, begin_column
        returns = named(m, "returns", turn.passes & ~turn.tile)
        with m.If(self.start | turn.steps):
            with m.If(self.start | (turn.tile & turn.tiles)):
                m.d.sync += [each.eq(0) for each in (*here, *first)]
            with m.Else():
                m.d.sync += [each.eq(Mux(returns, back, on)) for each, back, on in zip(here, first, ahead, strict=True)]
                with m.If(turn.tile):
                    m.d.sync += [each.eq(on) for each, on in zip(first, ahead, strict=True)]
        return m


class RecordAddresses(Part):
    """Asks for the records of the first group, then for those of the group after the one that begins.

    Throughput: one record per clock.

    Parameters
    ----------
    parameters : Parameters
        Uses ``columns``, ``lanes`` and ``weight_buffer``.

    Members
    -------
    operation, start, turn, channels_left : In
        As in `Loops`.
    enable, address : Out
        Record to read.
    column, wrapped : Out
        Where it goes: channel ``first`` and those after it take column ``first mod columns`` and those after it.
    loaded : Out(1)
        All records that the next group needs are read.
    leave : In(1)
        The tile leaves.
    computed : Out(n)
        Channels of the tile that there are records for.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "operation": In(operation("multiply", parameters.dataflows)),
            "start": In(1),
            "turn": In(turn()),
            "channels_left": In(7),
            "enable": Out(1),
            "address": Out(range(parameters.weight_buffer)),
            "column": Out(range(parameters.columns)),
            "wrapped": Out(1),
            "loaded": Out(1),
            "leave": In(1),
            "computed": Out(parameters.lanes),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        p, m, c, turn = self._parameters, Module(), Fields(self.operation, Multiply), self.turn
        columns = p.columns
        begin, channel = Signal.like(self.address, name="begin"), Signal(range(p.lanes), name="channel")
        begin_channel = Signal.like(channel, name="begin_channel")
        count, size = Signal(range(columns), name="count"), Signal(range(columns + 1), name="size")
        first_column = looked_up(m, "first_column", c.first, [channel % columns for channel in range(p.lanes)])

        def at_most_columns(channels):
            return Mux(channels < columns, channels, columns)

        with m.If(self.leave):
            m.d.sync += self.computed.eq(0)
        with m.If(self.enable):
            wraps = named(m, "wraps", self.column == columns - 1)
            m.d.sync += [self.address.eq(self.address + 1), count.eq(count + 1), channel.eq(channel + 1)]
            m.d.sync += [self.column.eq(Mux(wraps, 0, self.column + 1)), self.wrapped.eq(self.wrapped | wraps)]
            m.d.sync += self.computed.bit_select(channel, 1).eq(1)
            with m.If(count + 1 == size):
                m.d.sync += [self.enable.eq(0), self.loaded.eq(1)]
        with m.If(self.start | turn.begins):
            m.d.sync += [count.eq(0), self.column.eq(first_column), self.wrapped.eq(0), self.loaded.eq(0)]
        with m.If(self.start):
            m.d.sync += [self.enable.eq(1), self.address.eq(c.weights_at), begin.eq(c.weights_at)]
            m.d.sync += [channel.eq(c.first), begin_channel.eq(c.first), size.eq(at_most_columns(c.channels))]
        with m.Elif(turn.begins):
            m.d.sync += [self.enable.eq(~(turn.line & turn.tiles & turn.blocks)), channel.eq(begin_channel)]
            with m.If(turn.line & ~turn.tiles):
                m.d.sync += self.address.eq(begin)
            with m.If(turn.line & turn.tiles):
                further = named(m, "further", (begin_channel + columns)[: len(channel)])
                m.d.sync += [channel.eq(further), begin_channel.eq(further), begin.eq(self.address)]
                m.d.sync += size.eq(at_most_columns(self.channels_left - columns))
        return m


class SumPlaces(Part):
    """The word of a column that a step's sums are kept in: position by position, block by block.

    Parameters
    ----------
    parameters : Parameters
        Uses ``columns``, ``lanes`` and ``tile_words``.

    Members
    -------
    operation, start, turn : In
        As in `Loops`.
    word : Out
        Of the sums that the step ends.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "operation": In(operation("multiply", parameters.dataflows)),
            "start": In(1),
            "turn": In(turn()),
            "word": Out(range(parameters.tile_words)),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        p, m, c, turn = self._parameters, Module(), Fields(self.operation, Multiply), self.turn
        places = looked_up(m, "places", c.collected, [-(-channels // p.columns) for channels in range(p.lanes + 1)])
        first = looked_up(m, "first_word", c.first, [channel // p.columns for channel in range(p.lanes)])
        block = Signal.like(first, name="block")
        with m.If(self.start):
            m.d.sync += [self.word.eq(first), block.eq(first)]
        with m.Elif(turn.steps & turn.tile & turn.tiles):
            m.d.sync += [self.word.eq(block + 1), block.eq(block + 1)]
        with m.Elif(turn.steps & turn.sums):
            m.d.sync += self.word.eq(self.word + places)
        return m


class Sequencer(_Controlled):
    """Runs the loops of ``docs/machine.md``, Multiply: a record and a step per clock.

    Records of the next group are read while the steps of this one go on.

    Members
    -------
    weights_enable, weights_half, weights_address : Out
        Record to read at this clock edge.
    column, wrapped : Out
        Where it goes: see `hw.core.array.WeightColumns`.
    banks_enable, banks_half, banks_address : Out
        Groups to read at this clock edge,
    step : Out(`sequenced_step`)
        and what is done with them.
    open, key : Out
        To `MultiplyCheck`.
    leave : Out(1)
        The tile leaves, in the clock of `final`,
    tile : Out(`summed_tile`)
        and this is how.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return super()._members(parameters) | {
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
            "leave": Out(1),
            "tile": Out(summed_tile(parameters)),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        p, m, c = self._parameters, Module(), Fields(self.operation, Multiply)
        m.submodules.loops = loops = Loops(p)
        m.submodules.groups = groups = GroupAddresses(p)
        m.submodules.records = records = RecordAddresses(p)
        m.submodules.places = places = SumPlaces(p)
        for part in (loops, groups, records, places):
            m.d.comb += [part.operation.eq(self.operation), part.start.eq(self.start)]
        for part in (groups, records, places):
            m.d.comb += part.turn.eq(loops.turn)
        half, step, size = Signal(name="half"), self.step.step, loops.channels_left
        m.d.comb += [
            loops.counted.eq(self.counted),
            loops.positions.eq(self.positions),
            loops.passed.eq(self.passed),
            loops.halted.eq(self.halted),
            loops.free.eq(self.free),
            loops.loaded.eq(records.loaded),
            records.channels_left.eq(loops.channels_left),
            records.leave.eq(self.leave),
            self.final.eq(loops.final),
            self.leave.eq(loops.final & c.leave),
            self.waits.eq(loops.waits),
            self.weights_enable.eq(records.enable),
            self.weights_half.eq(c.weights_half),
            self.weights_address.eq(records.address),
            self.column.eq(records.column),
            self.wrapped.eq(records.wrapped),
            self.tile.half.eq(half),
            self.tile.rows.eq(c.rows),
            self.tile.positions.eq(self.positions),
            self.tile.collected.eq(c.collected),
            self.tile.computed.eq(records.computed),
            self.tile.floor.eq(c.floor),
            self.tile.unit.eq(c.unit),
        ]
        if p.masks:
            m.d.comb += self.tile.groups.eq(c.leaves)
        m.d.sync += [
            self.banks_enable.eq(loops.turn.steps),
            self.banks_half.eq(c.half),
            self.banks_address.eq(groups.address),
            self.step.swap.eq(loops.turn.begins),
            self.step.channels.eq(Mux(loops.turn.blocks, size, p.columns)),
            self.step.end.eq(loops.final),
            step.valid.eq(loops.turn.steps),
            step.first.eq(loops.first),
            step.last.eq(loops.turn.sums),
            step.leave.eq(self.leave),
            step.address.eq(loops.position),
            step.rows.eq(Cat(c.rows >= row for row in range(p.rows))),
            step.half.eq(half),
            step.word.eq(places.word),
        ]
        # Parts of a tile have their positions, rows and half in common.
        with m.If(self.final):
            m.d.sync += [self.open.eq(~c.leave), half.eq(half ^ c.leave), self.key.rows.eq(c.rows)]
            m.d.sync += [self.key.positions.eq(self.positions), self.key.collected.eq(c.collected)]
        return m
