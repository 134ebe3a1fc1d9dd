"""A processing element of the array: one row's group times one column's weights, added to one of many sums."""

from amaranth.hdl import Module, ShapeLike, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from golden.parameters import EXPONENT_WIDTH, SCALE_WIDTH, Parameters
from hw import payloads
from hw.arith.accumulate import ROUNDING_CUTS, add_to, round_to_addend, tell
from hw.memory import Ram
from hw.stream import Stage, count_cuts
from hw.tiles import Tile
from hw.units.float_multiplier import split_value
from hw.units.group_sum import Factors, GroupSum, Slot
from hw.units.int_float_multiplier import split_digit


def held_sum(parameters: Parameters) -> data.StructLayout:
    """A sum as an adder leaves it, one bit wider and not yet clamped; `negative` is the sign of what was added last."""
    return data.StructLayout({"total": signed(parameters.accumulator_width + 1), "negative": 1, "poisoned": 1})


def row_factors(parameters: Parameters) -> data.StructLayout:
    """What all elements of a row multiply: a delta group, signs and magnitudes apart."""
    digit = data.StructLayout({"negative": 1, "magnitude": parameters.digit_width - 1})
    fields: dict[str, ShapeLike] = {"exponent": EXPONENT_WIDTH, "digits": data.ArrayLayout(digit, parameters.lanes)}
    if parameters.outliers:
        lane = parameters.lane_width
        slot = data.StructLayout({"negative": 1, "exponent": 5, "significand": 11, "lane": lane})
        fields["outliers"] = data.ArrayLayout(slot, parameters.outliers)
    return data.StructLayout(fields)


def column_factors(parameters: Parameters) -> data.StructLayout:
    """What all elements of a column multiply with: weights and their scale, with outliers the shift it comes to."""
    shift: ShapeLike = signed(SCALE_WIDTH)
    if parameters.outliers:
        shift = GroupSum(parameters, None).amount_width
    return data.StructLayout(
        {"shift": shift, "weights": data.ArrayLayout(payloads.weight(parameters), parameters.lanes)}
    )


def split_group(m: Module, target: data.View, group: data.View) -> None:
    """Drive `row_factors` from a delta group."""
    m.d.comb += target.exponent.eq(group.exponent)
    for split, digit in zip(target.digits, group.digits, strict=True):
        negative, magnitude = split_digit(digit)
        m.d.comb += [split.negative.eq(negative), split.magnitude.eq(magnitude)]
    if "outliers" in group.shape().members:
        for split, slot in zip(target.outliers, group.outliers, strict=True):
            negative, exponent, significand = split_value(slot.value)
            m.d.comb += [
                split.negative.eq(negative),
                split.exponent.eq(exponent),
                split.significand.eq(significand),
                split.lane.eq(slot.lane),
            ]


def split_record(m: Module, parameters: Parameters, target: data.View, record: data.View) -> None:
    """Drive `column_factors` from a record of weights."""
    m.d.comb += target.weights.eq(record.weights)
    if parameters.outliers:
        m.d.comb += target.shift.eq(GroupSum(parameters, None).scale_amount(m, record.scale))
    else:
        m.d.comb += target.shift.eq(record.scale)


def _factors(row: data.View, column: data.View) -> Factors:
    """What a `GroupSum` takes."""
    slots = []
    if "outliers" in row.shape().members:
        slots = [Slot(slot.negative, slot.exponent, slot.significand, slot.lane) for slot in row.outliers]
    digits: list[tuple[Value, Value]] = [(digit.negative, digit.magnitude) for digit in row.digits]
    given = {"amount" if slots else "scale": column.shift}
    return Factors(digits, row.exponent, slots, list(column.weights), **given)


class ProcessingElement(Tile):
    """Adds the products of a delta group and n weights to one of T sums (``docs/numerics.md`` section 7).

    ::

        row, column --> exact sum --> shift and round --> add --> sum
                                                           ^       |
                                             sums (T) -----'<------'

    It never waits, and knows no valid bit: what it is told about the group in flight comes `latency` clocks after the
    group, so that one delay line serves all elements. The address of a sum may return after `spacing` clocks.

    Latency: `latency` clocks from a group to its address, two more to the sum. Throughput: one group per clock.

    Numerics: as `hw.units.MultiplierGroup`.

    Parameters
    ----------
    parameters : Parameters
        Uses all that shape a delta group or an aligned weight, ``accumulator_width`` and ``tile_positions``. All cuts
        hold registers, whatever ``pipeline_depth`` says.

    Members
    -------
    row : In(`row_factors`)
        The group.
    column : In(`column_factors`)
        The weights.
    first, address : In
        `latency` clocks later: whether the sum begins with the group, and which sum it is.
    poison : In(1)
        One clock later: the group, or its record, is poisoned.
    write_enable, write_address : In
        One clock later: whether there was a group, and its sum's address again.
    result : Out(`held_sum`)
        In the same clock: the sum, the group added.
    clamped : Out(1)
        In the same clock: it does not fit, and will be clamped when it is read.
    """

    spacing = 3
    """Clocks after which a sum can be added to again."""

    def __init__(self, parameters: Parameters):
        address = range(parameters.tile_positions)
        super().__init__(
            parameters,
            {
                "row": In(row_factors(parameters)),
                "column": In(column_factors(parameters)),
                "first": In(1),
                "address": In(address),
                "poison": In(1),
                "write_enable": In(1),
                "write_address": In(address),
                "result": Out(held_sum(parameters)),
                "clamped": Out(1),
            },
        )

    @classmethod
    def latency_of(cls, parameters: Parameters) -> int:
        """Clocks from a group to `first` and `address`."""
        factors = _factors(Signal(row_factors(parameters)), Signal(column_factors(parameters)))
        return count_cuts(lambda trial: GroupSum(parameters, None).describe(trial, factors)) + ROUNDING_CUTS

    @property
    def latency(self) -> int:
        """Clocks from a group to `first` and `address`."""
        return self.latency_of(self._parameters)

    def describe(self, platform: object) -> Module:  # noqa: D102
        p, m = self._parameters, Module()
        m.submodules.sums = sums = Ram(held_sum(p), p.tile_positions, distributed=True)
        held = sums.read_data
        m.d.comb += [sums.read_enable.eq(1), sums.read_address.eq(self.address)]
        group_sum = GroupSum(p, platform)
        s = group_sum.describe(Stage.begin_flow(m), _factors(self.row, self.column))
        s.cut(ROUNDING_CUTS).first = self.first
        total = s.total
        s = round_to_addend(
            s, value=total.value, flip=total.flip, amount=s.amount, offset=group_sum.offset, width=p.accumulator_width
        )
        s.total = add_to(s, platform, held.total, held.negative, width=p.accumulator_width)
        s.poisoned = self.poison | (held.poisoned & ~s.first)

        s = s.cut()
        m.d.comb += [
            self.result.total.eq(s.total),
            self.result.negative.eq(s.negative),
            self.result.poisoned.eq(s.poisoned),
            self.clamped.eq(~tell(s.total, s.negative)[0]),
            sums.write_enable.eq(self.write_enable),
            sums.write_address.eq(self.write_address),
            sums.write_data.eq(self.result),
        ]
        s.finish_flow()
        return m
