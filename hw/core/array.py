"""The array: rows of processing elements, each row with a group of its own, each column with weights of its own."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.parameters import POISONED_GROUP, Parameters
from hw import payloads
from hw.arith.bits import or_tree
from hw.core.processing_element import (
    ProcessingElement,
    column_factors,
    held_sum,
    row_factors,
    split_group,
    split_record,
)
from hw.stream import Stage
from hw.tiles import Tile

__all__ = ["ArrayRow", "MultiplierArray", "WeightColumns", "array_step", "column_state"]


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


class WeightColumns(wiring.Component):
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

    def __init__(self, parameters: Parameters):
        self._parameters = parameters
        columns = parameters.columns
        super().__init__(
            {
                "enable": In(1),
                "column": In(range(columns)),
                "wrapped": In(1),
                "record": In(payloads.weight_record(parameters)),
                "swap": In(1),
                "factors": Out(data.ArrayLayout(column_factors(parameters), columns)),
                "state": Out(data.ArrayLayout(column_state(), columns)),
                "poisons": Out(1),
            }
        )

    @property
    def parameters(self) -> Parameters:
        """The machine's parameters."""
        return self._parameters

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
            following = Signal(column_factors(p), name=f"following{column}")
            following_state = Signal(column_state(), name=f"following_state{column}")
            poisoned.append(Mux(self.swap, following_state.poisoned, self.state[column].poisoned))
            with m.If(self.swap):
                m.d.sync += [
                    self.factors[column].eq(following),
                    self.state[column].eq(following_state),
                    following_state.eq(0),
                ]
            with m.If(self.enable & (self.column == column)):
                m.d.sync += [following.eq(split), following_state.eq(state)]
        m.d.comb += self.poisons.eq(or_tree(poisoned))
        return m


class ArrayRow(Tile):
    """A row of processing elements.

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
    sums : Out(`held_sum` for each column)
        The sums.
    clamped : Out(a bit for each column)
        Those that do not fit.
    """

    def __init__(self, parameters: Parameters):
        self._parameters = parameters
        columns, address = parameters.columns, range(parameters.tile_positions)
        super().__init__(
            {
                "group": In(payloads.delta_group(parameters)),
                "columns": In(data.ArrayLayout(column_factors(parameters), columns)),
                "first": In(1),
                "address": In(address),
                "poisoned": In(columns),
                "write_enable": In(1),
                "write_address": In(address),
                "sums": Out(data.ArrayLayout(held_sum(parameters), columns)),
                "clamped": Out(columns),
            }
        )

    @property
    def parameters(self) -> Parameters:
        """The machine's parameters."""
        return self._parameters

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
            m.d.comb += [
                element.row.eq(factors),
                element.column.eq(self.columns[column]),
                element.first.eq(self.first),
                element.address.eq(self.address),
                element.poison.eq(s.poison | self.poisoned[column]),
                element.write_enable.eq(self.write_enable),
                element.write_address.eq(self.write_address),
                self.sums[column].eq(element.result),
                self.clamped[column].eq(element.clamped),
            ]
        s.finish_flow()
        return m


class MultiplierArray(wiring.Component):
    """Rows times columns of processing elements; what travels with a group is delayed once for all of them.

    Latency: see `latency`. Throughput: one step per clock; a sum's address may return after `spacing` clocks.

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
        `latency` clocks later: the step whose `sums` are there.
    sums : Out(`held_sum` for each column of each row)
        The sums, the groups added.
    done_state : Out(`column_state` for each column)
        The state of the columns that the sums were made with.
    overflow : Out(1)
        Event: a sum of a row and column in use was clamped.
    """

    spacing = ProcessingElement.spacing

    def __init__(self, parameters: Parameters):
        self._parameters = parameters
        rows, columns = parameters.rows, parameters.columns
        state = data.ArrayLayout(column_state(), columns)
        super().__init__(
            {
                "step": In(array_step(parameters)),
                "groups": In(data.ArrayLayout(payloads.delta_group(parameters), rows)),
                "factors": In(data.ArrayLayout(column_factors(parameters), columns)),
                "state": In(state),
                "done": Out(array_step(parameters)),
                "sums": Out(data.ArrayLayout(data.ArrayLayout(held_sum(parameters), columns), rows)),
                "done_state": Out(state),
                "overflow": Out(1),
            }
        )

    @property
    def parameters(self) -> Parameters:
        """The machine's parameters."""
        return self._parameters

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
        m.d.comb += [self.done.eq(done.step), self.done_state.eq(done.state)]
        # Of what is on its way, a reset leaves nothing but data.
        m.d.comb += self.done.valid.eq(done.valid)
        clamped = []
        for number in range(p.rows):
            m.submodules[f"row{number}"] = row = ArrayRow(p)
            m.d.comb += [
                row.group.eq(self.groups[number]),
                row.columns.eq(self.factors),
                row.first.eq(met.step.first),
                row.address.eq(met.step.address),
                row.poisoned.eq(Cat(column.poisoned for column in summed.state)),
                row.write_enable.eq(done.valid),
                row.write_address.eq(done.step.address),
                self.sums[number].eq(row.sums),
            ]
            used = Cat(column.used for column in done.state)
            clamped.append((row.clamped & used).any() & done.step.rows[number])
        m.d.sync += self.overflow.eq(or_tree(clamped) & done.valid)
        done.finish_flow()
        return m
