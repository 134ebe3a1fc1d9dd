"""The sums of whole tiles: kept as the array ends them, read row by row in the order that they leave."""

import math
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.parameters import EXPONENT_WIDTH, Parameters
from hw import payloads
from hw.arith.accumulate import clamp_total
from hw.arith.bits import choose, looked_up, named
from hw.core.processing_element import held_sum
from hw.memory import Ram
from hw.part import Part
from hw.stream import Stage
from hw.tiles import Tile


def summed_tile(parameters: Parameters) -> data.StructLayout:
    """A tile whose sums leave.

    `rows`: that exist, minus 1. `positions`: of a row. `collected`: channels of a position. `computed`: those that are
    not 0. `half`: where they are kept. `floor`, `unit`: of the tile. `groups`: whether it leaves as groups.
    """
    groups = {"groups": 1} if parameters.masks else {}
    return data.StructLayout(
        {
            "half": 1,
            "rows": range(parameters.rows),
            "positions": range(parameters.tile_words + 1),
            "collected": range(parameters.lanes + 1),
            "computed": parameters.lanes,
            "floor": EXPONENT_WIDTH,
            "unit": signed(payloads.UNIT_WIDTH),
            **groups,
        }
    )


def sums_at_once(parameters: Parameters) -> int:
    """Sums that are read together, if they are not read one by one: as many as divide both u and the columns."""
    return math.gcd(parameters.near_lanes, parameters.columns)


class SumRead(wiring.Signature):
    """Port of a part that reads the sums that the rows of the array keep.

    Parameters
    ----------
    parameters : Parameters
        Uses ``rows``, ``columns``, ``lanes``, ``near_lanes``, ``tile_positions`` and ``accumulator_width``.

    Members
    -------
    enable, half, word : Out
        Sums to read at this clock edge; without `enable` those of the last reading stay.
    block : Out
        One clock later: which of their columns, as a multiple of `sums_at_once`.
    sums : In(`held_sum` for each of these columns, for each row)
        In the same clock: the sums.
    """

    def __init__(self, parameters: Parameters):
        at_once = sums_at_once(parameters)
        super().__init__(
            {
                "enable": Out(1),
                "half": Out(1),
                "word": Out(range(parameters.tile_words)),
                "block": Out(range(-(-parameters.columns // at_once))),
                "sums": In(data.ArrayLayout(data.ArrayLayout(held_sum(parameters), at_once), parameters.rows)),
            }
        )


def kept_sums(parameters: Parameters) -> dict[str, wiring.Member]:
    """Members of `SumRow` but the sums that come."""
    read = SumRead(parameters).members
    return {
        "keep": In(parameters.columns),
        "keep_half": In(1),
        "keep_words": In(data.ArrayLayout(read["word"].shape, parameters.columns)),
        **{f"read_{name}": In(read[name].shape) for name in ("enable", "half", "word", "block")},
        "read_sums": Out(data.ArrayLayout(held_sum(parameters), sums_at_once(parameters))),
    }


class SumRow(Tile):
    """A `Ram` for each column of a row of the array: two halves of the sums of a tile.

    Latency: 1 clock from address to sums. Throughput: the sums of all columns, and a reading, per clock.

    Parameters
    ----------
    parameters : Parameters
        As for `SumRead`.

    Members
    -------
    keep, keep_half, keep_words, sums : In
        Columns whose sums are kept at this clock edge, and the word of each.
    read_enable, read_half, read_word, read_block, read_sums
        As the members of `SumRead`, for one row.
    """

    def __init__(self, parameters: Parameters):
        sums = data.ArrayLayout(held_sum(parameters), parameters.columns)
        super().__init__(parameters, {"sums": In(sums), **kept_sums(parameters)})

    def describe(self, platform: object) -> Module:  # noqa: D102
        p, m = self._parameters, Module()
        depth = (1 << len(self.read_word)) + p.tile_words
        found = []
        for column in range(p.columns):
            m.submodules[f"column{column}"] = ram = Ram(held_sum(p), depth)
            m.d.comb += [
                ram.write_enable.eq(self.keep[column]),
                ram.write_address.eq(Cat(self.keep_words[column], self.keep_half)),
                ram.write_data.eq(self.sums[column]),
                ram.read_enable.eq(self.read_enable),
                ram.read_address.eq(Cat(self.read_word, self.read_half)),
            ]
            found.append(ram.read_data)
        at_once = sums_at_once(p)
        blocks = [Cat(*found[first : first + at_once]) for first in range(0, p.columns, at_once)]
        m.d.comb += self.read_sums.eq(choose(m, "block", self.read_block, blocks))
        return m


class SumReader(Part):
    """Reads the sums of a tile row by row, position by position, channel by channel; rows are padded to whole vectors.

    It reads `sums_at_once`, or one by one where the channels of a position are no multiple of them.

    Throughput: u sums per clock where u divides the columns and the channels of a position.

    Parameters
    ----------
    parameters : Parameters
        As for `SumRead`.

    Members
    -------
    tile : In(stream of `summed_tile`)
        Tiles; taken when the last of its sums is read.
    read : Out(SumRead)
        To the rows.
    o : Out(stream of `payloads.sum_part`)
        The sums, clamped; 0 where they are poisoned.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "tile": In(stream.Signature(summed_tile(parameters))),
            "read": Out(SumRead(parameters)),
            "o": Out(stream.Signature(payloads.sum_part(parameters))),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        p, m = self._parameters, Module()
        at_once = sums_at_once(p)
        # The tile is read from a register, as its place in the queue is found by looking at two.
        tile, begun = Signal(summed_tile(p), name="held_tile"), Signal(name="begun")
        m.d.sync += [tile.eq(self.tile.payload), begun.eq(self.tile.valid & ~self.tile.ready)]
        reading = self._walk(m, tile, begun)

        s = Stage.begin(m, reading)
        place = reading.p
        s.row, s.block, s.lane, s.computed, s.serial = place.row, place.block, place.lane, place.computed, place.serial
        s.complete, s.last_of_vector, s.last_of_tile = place.complete, place.last, place.end
        s.floor, s.unit = tile.floor, tile.unit
        s.groups = tile.groups if p.masks else Const(0, 0)
        m.d.comb += [
            self.read.enable.eq(s.moves),
            self.read.half.eq(tile.half),
            self.read.word.eq(place.word),
        ]

        s = s.cut()
        m.d.comb += self.read.block.eq(s.block)
        rows = [Value.cast(sums) for sums in self.read.sums]
        s.picked = data.ArrayLayout(held_sum(p), at_once)(choose(m, "picked", s.row, rows))

        s = s.cut()
        values, poisoned = [], []
        for lane in range(at_once):
            held, computed = s.picked[lane], s.computed[lane]
            poisoned.append(held.poisoned & computed)
            counts = computed & ~held.poisoned
            value = clamp_total(held.total, held.negative).as_unsigned()
            values.append(value & counts.replicate(len(value)))
        s.sums = [Cat(*pair) for pair in zip(values, poisoned, strict=True)]

        # A part fills from its upper end: what came before moves down.
        s = s.cut()
        one = choose(m, "one", s.lane, list(s.sums))
        held = Signal(data.ArrayLayout(len(one), p.near_lanes))
        moved = [held[at + 1] for at in range(p.near_lanes - 1)] + [one]
        together = [held[at + at_once] for at in range(p.near_lanes - at_once)] + list(s.sums)
        s.filling = [Mux(s.serial, *pair) for pair in zip(moved, together, strict=True)]
        with m.If(s.moves):
            m.d.sync += [target.eq(source) for target, source in zip(held, s.filling, strict=True)]
        s.valid = s.valid & s.complete
        values = Cat(part[:-1] for part in s.filling)
        poisoned = Cat(part[-1] for part in s.filling)
        tail = Cat(s.last_of_vector, s.last_of_tile, s.floor, s.unit, s.groups)
        s.finish(self.o, Cat(values, poisoned, tail), depth=s.cuts)
        return m

    def _walk(self, m: Module, tile: data.View, begun: Value) -> stream.Interface:
        """The places of a tile to read, one after the other, once it has begun.

        `block`, `lane`: the column, as a multiple of `at_once` and the rest. `computed`: which of those read together
        are not 0. `serial`: only the one at `lane` counts. `complete`: it ends a part; `last` a vector, `end` the tile.
        """
        p, at_once = self._parameters, sums_at_once(self._parameters)
        n, u, columns = p.lanes, p.near_lanes, p.columns
        place = data.StructLayout(
            {
                "row": range(p.rows),
                "word": range(p.tile_words),
                "block": self.read.block.shape(),
                "lane": range(at_once),
                "computed": at_once,
                "serial": 1,
                "complete": 1,
                "last": 1,
                "end": 1,
            }
        )
        reading = stream.Signature(place).create(path=("reading",))
        row, position = Signal(range(p.rows), name="row"), Signal.like(tile.positions, name="position")
        first, word = (Signal(range(p.tile_words), name=name) for name in ("first", "word"))
        block, lane = Signal.like(reading.p.block, name="block"), Signal(range(at_once), name="lane")
        channel, element = (Signal(range(n), name=name) for name in ("channel", "element"))
        filled, padding = Signal(range(u), name="filled"), Signal(name="padding")
        collected = range(n + 1)
        serial = looked_up(m, "serial", tile.collected, [c % at_once != 0 for c in collected])
        places = looked_up(m, "places", tile.collected, [-(-c // columns) for c in collected])
        step = Mux(serial, 1, at_once)
        ends_block = ~serial | (lane == at_once - 1)
        ends_word = ends_block & (block == columns // at_once - 1)
        ends_position = named(m, "ends_position", ~padding & (channel + step == tile.collected))
        ends_row = named(m, "ends_row", ends_position & (position == tile.positions - 1))
        ends_vector = named(m, "ends_vector", element + step == n)
        # A row ends with a whole vector.
        ends_padded = named(m, "ends_padded", (padding | ends_row) & ends_vector)
        ends_tile = named(m, "ends_tile", ends_padded & (row == tile.rows))
        found = tile.computed.bit_select(channel, at_once)
        computed = Mux(serial, found[0].replicate(at_once), found) & (~padding).replicate(at_once)
        m.d.comb += [
            reading.valid.eq(begun),
            self.tile.ready.eq(begun & reading.ready & ends_tile),
            reading.p.row.eq(row),
            reading.p.word.eq(word),
            reading.p.block.eq(block),
            reading.p.lane.eq(lane),
            reading.p.computed.eq(computed),
            reading.p.serial.eq(serial),
            reading.p.complete.eq(filled + step == u),
            reading.p.last.eq(ends_vector),
            reading.p.end.eq(ends_tile),
        ]
        with m.If(reading.valid & reading.ready):
            m.d.sync += [
                element.eq(Mux(ends_vector, 0, element + step)),
                filled.eq(Mux(reading.p.complete, 0, filled + step)),
            ]
            with m.If(ends_padded):
                m.d.sync += [padding.eq(0), row.eq(Mux(ends_tile, 0, row + 1))]
            with m.Elif(ends_row):
                m.d.sync += padding.eq(1)
            with m.If(ends_position):
                m.d.sync += [channel.eq(0), block.eq(0), lane.eq(0)]
                with m.If(ends_row):
                    m.d.sync += [position.eq(0), first.eq(0), word.eq(0)]
                with m.Else():
                    m.d.sync += [position.eq(position + 1), first.eq(first + places), word.eq(first + places)]
            with m.Elif(~padding):
                m.d.sync += [channel.eq(channel + step), lane.eq(Mux(ends_block, 0, lane + 1))]
                with m.If(ends_word):
                    m.d.sync += [block.eq(0), word.eq(word + 1)]
                with m.Elif(ends_block):
                    m.d.sync += block.eq(block + 1)
        return reading
