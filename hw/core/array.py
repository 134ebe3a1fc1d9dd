"""The array: rows of processing elements, each row with a group of its own, each column with weights of its own.

A column's weights go to all rows, so rows are told by `Tile.give` what they share: an array of 128 x 128 has some
hundred thousand bits of weights, and no second name for them in a row.
"""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from golden.parameters import POISONED_GROUP, Parameters
from hw import payloads
from hw.arith.bits import named, or_tree
from hw.core.processing_element import (
    ProcessingElement,
    column_factors,
    row_factors,
    split_group,
    split_record,
)
from hw.core.sum_buffer import SumRead, SumRow, kept_sums
from hw.part import Part
from hw.stream import Stage
from hw.tiles import Tile


def array_step(parameters: Parameters) -> data.StructLayout:
    """What a step of the array does with the groups of all rows.

    `valid`: there is a group. `first`, `last`: sums begin, and end, with it. `address`: theirs in the elements.
    `rows`: those that exist. `half`, `word`: where sums that end are kept. `leave`: what was kept leaves with them.
    """
    return data.StructLayout(
        {
            "valid": 1,
            "first": 1,
            "last": 1,
            "leave": 1,
            "address": range(parameters.tile_positions),
            "rows": parameters.rows,
            "half": 1,
            "word": range(parameters.tile_words),
        }
    )


def column_state() -> data.StructLayout:
    """Of a column: whether it has a channel, its sums are kept a word further on, its record poisons."""
    return data.StructLayout({"used": 1, "wrapped": 1, "poisoned": 1})


class WeightColumn(Tile):
    """The weights of a column, and those that will follow. No reset changes them.

    Parameters
    ----------
    parameters : Parameters
        Uses what shapes a record.

    Members
    -------
    enable, arriving : In
        Weights that follow.
    swap : In(1)
        Those that followed are used from the next clock on.
    factors : Out(`column_factors`)
        Weights in use.
    """

    def __init__(self, parameters: Parameters):
        factors = column_factors(parameters)
        super().__init__(parameters, {"enable": In(1), "arriving": In(factors), "swap": In(1), "factors": Out(factors)})

    def describe(self, platform: object) -> Module:  # noqa: D102
        m, factors = Module(), column_factors(self._parameters)
        following, used = (Signal(factors, name=name, reset_less=True) for name in ("following", "used"))
        with m.If(self.swap):
            m.d.sync += used.eq(following)
        with m.If(self.enable):
            m.d.sync += following.eq(self.arriving)
        m.d.comb += self.factors.eq(used)
        return m


class WeightColumns(Part):
    """The weights of each column, and those that will follow.

    Latency: a record is there one clock after it came; a swap takes one clock.

    Parameters
    ----------
    parameters : Parameters
        Uses ``columns`` and what shapes a record.

    Members
    -------
    enable, column, wrapped, record : In
        A record that follows, its column, and the bit of its `column_state`.
    swap : In(1)
        The records that followed are used from the next clock on. One that comes in this clock follows them.
    factors : Out(`column_factors` for each column)
        Weights in use.
    state : Out(`column_state` for each column)
        Of the columns in use.
    poisons : Out(1)
        A record that is used in the next clock poisons.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        columns = parameters.columns
        return {
            "enable": In(1),
            "column": In(range(columns)),
            "wrapped": In(1),
            "record": In(payloads.weight_record(parameters)),
            "swap": In(1),
            "factors": Out(column_factors(parameters)).array(columns),
            "state": Out(data.ArrayLayout(column_state(), columns)),
            "poisons": Out(1),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        p, m = self._parameters, Module()
        split, state = Signal(column_factors(p), name="split"), Signal(column_state(), name="arrived")
        split_record(m, p, split, self.record)
        m.d.comb += [
            state.used.eq(1),
            state.wrapped.eq(self.wrapped),
            state.poisoned.eq(self.record.scale == payloads.POISONED_RECORD),
        ]
        poisoned = []
        for column in range(p.columns):
            arrives = named(m, f"arrives{column}", self.enable & (self.column == column))
            m.submodules[f"column{column}"] = weights = WeightColumn(p)
            weights.give(enable=arrives, arriving=split, swap=self.swap)
            m.d.comb += self.factors[column].eq(weights.factors)
            following_state = Signal(column_state(), name=f"following_state{column}")
            poisoned.append(Mux(self.swap, following_state.poisoned, self.state[column].poisoned))
            with m.If(self.swap):
                m.d.sync += [self.state[column].eq(following_state), following_state.eq(0)]
            with m.If(arrives):
                m.d.sync += following_state.eq(state)
        m.d.comb += self.poisons.eq(or_tree(poisoned))
        return m


class ArrayRow(Tile):
    """A row of processing elements, and the `SumRow` that keeps what they end.

    What it is told comes when the elements need it, counted from the group: see `ProcessingElement`, whose latency is
    one less than that of the row.

    Throughput: one group per clock.

    Parameters
    ----------
    parameters : Parameters
        As for `ProcessingElement`, and ``columns``.

    Members
    -------
    group : In(delta group)
        The group.
    columns : In(`column_factors` for each column)
        One clock later: what it is multiplied with.
    first, address, write_enable, write_address : In
        As for `ProcessingElement`.
    poisoned : In(a bit for each column)
        Whether the record of the column poisons; with `ProcessingElement.poison`.
    clamped : Out(a bit for each column)
        Sums that do not fit.
    keep, keep_half, keep_words : In
        As for `SumRow`, with the sums.
    read_enable, read_half, read_word, read_block, read_sums
        As for `SumRow`.
    """

    def __init__(self, parameters: Parameters):
        columns, address = parameters.columns, range(parameters.tile_positions)
        super().__init__(
            parameters,
            {
                "group": In(payloads.delta_group(parameters)),
                "columns": In(column_factors(parameters)).array(columns),
                "first": In(1),
                "address": In(address),
                "poisoned": In(columns),
                "write_enable": In(1),
                "write_address": In(address),
                "clamped": Out(columns),
                **kept_sums(parameters),
            },
        )

    def describe(self, platform: object) -> Module:  # noqa: D102
        p, m = self._parameters, Module()
        split, factors = (Signal(row_factors(p), name=name) for name in ("split", "factors"))
        split_group(m, split, self.group)
        m.d.sync += factors.eq(split)
        elements = [ProcessingElement(p) for _ in range(p.columns)]
        s = Stage.begin_flow(m)
        s.poison = self.group.exponent == POISONED_GROUP
        s = s.cut(ProcessingElement.latency_of(p) + 2)
        for column, element in enumerate(elements):
            m.submodules[f"column{column}"] = element
            element.give(
                row=factors,
                column=self.columns[column],
                first=self.first,
                address=self.address,
                poison=s.poison | self.poisoned[column],
                write_enable=self.write_enable,
                write_address=self.write_address,
            )
        m.submodules.sums = sums = SumRow(p)
        told = {name: getattr(self, name) for name, member in kept_sums(p).items() if member.flow == In}
        sums.give(sums=Cat(*(element.result for element in elements)), **told)
        m.d.comb += [self.clamped.eq(Cat(element.clamped for element in elements)), self.read_sums.eq(sums.read_sums)]
        s.finish_flow()
        return m


class MultiplierArray(Part):
    """Rows times columns of processing elements; what travels with a group is delayed once for all of them.

    Sums that a step ends are kept: channel ch of those that leave together in column ``ch mod columns``,
    ``ch div columns`` words after the first one of its position.

    Latency: see `latency`. Throughput: one step per clock, and a reading of kept sums; a sum's address may return after
    `spacing` clocks.

    Parameters
    ----------
    parameters : Parameters
        As for `ArrayRow`, and ``rows``.

    Members
    -------
    step : In(`array_step`)
        What is done in this clock.
    groups : In(a delta group for each row)
        With what.
    factors, state : In
        One clock later: those of `WeightColumns`.
    done : Out(`array_step`)
        `latency` clocks later: the step whose sums are there, and kept with the next clock if it is their `last`.
    read : In(SumRead)
        Who reads the sums that are kept.
    overflow : Out(1)
        Event: a sum of a row and column in use was clamped.
    """

    spacing = ProcessingElement.spacing

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        rows, columns = parameters.rows, parameters.columns
        return {
            "step": In(array_step(parameters)),
            "groups": In(data.ArrayLayout(payloads.delta_group(parameters), rows)),
            "factors": In(column_factors(parameters)).array(columns),
            "state": In(data.ArrayLayout(column_state(), columns)),
            "done": Out(array_step(parameters)),
            "read": In(SumRead(parameters)),
            "overflow": Out(1),
        }

    @classmethod
    def latency_of(cls, parameters: Parameters) -> int:
        """Clocks from a step to its sums."""
        return ProcessingElement.latency_of(parameters) + 3

    @property
    def latency(self) -> int:
        """Clocks from a step to its sums."""
        return self.latency_of(self._parameters)

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        p, m = self._parameters, Module()
        latency = self.latency
        s = Stage.begin_flow(m)
        s.step, s.valid = self.step, self.step.valid
        s.cut().state = self.state
        met, summed, done = (s.cut(latency - before) for before in (2, 1, 0))
        m.d.comb += self.done.eq(done.step)
        # Of what is on its way, a reset leaves nothing but data.
        m.d.comb += self.done.valid.eq(done.valid)
        used = named(m, "used", Cat(column.used for column in done.state))
        words = Signal(data.ArrayLayout(range(p.tile_words), p.columns), name="words")
        m.d.comb += [word.eq(done.step.word + state.wrapped) for word, state in zip(words, done.state, strict=True)]
        shared = {
            "columns": self.factors,
            "first": met.step.first,
            "address": met.step.address,
            "poisoned": named(m, "record_poisons", Cat(column.poisoned for column in summed.state)),
            "write_enable": done.valid,
            "write_address": done.step.address,
            "keep": named(m, "keep", used & (done.valid & done.step.last).replicate(p.columns)),
            "keep_half": done.step.half,
            "keep_words": words,
            **{f"read_{name}": getattr(self.read, name) for name in ("enable", "half", "word", "block")},
        }
        clamped, sums = [], []
        for number in range(p.rows):
            m.submodules[f"row{number}"] = row = ArrayRow(p)
            row.give(group=self.groups[number], **shared)
            sums.append(row.read_sums)
            clamped.append((row.clamped & used).any() & done.step.rows[number])
        m.d.comb += self.read.sums.eq(Cat(*sums))
        m.d.sync += self.overflow.eq(or_tree(clamped) & done.valid)
        done.finish_flow()
        return m
