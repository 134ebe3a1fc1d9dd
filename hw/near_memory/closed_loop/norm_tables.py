"""Reads the tables of a norm: scales of every channel, then what is known of the sets; or those of a softmax: rows."""

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw.arith.bits import below_power, in_range, named, saturated
from hw.arith.serial import Multiplier
from hw.bus.ports import ADDRESS_WIDTH, UNIT_BYTES, MemoryRead
from hw.control.engine import operand
from hw.near_memory.closed_loop.normalise import (
    FACTOR_MAX,
    FINER_MAX,
    MEAN_WIDTH,
    PLACES_MAX,
    PLACES_MIN,
    ROOT_WIDTH,
    root_amount,
    scale,
    statistics,
)
from hw.near_memory.closed_loop.probabilities import RECIPROCAL_WIDTH, known_row
from hw.part import Part
from hw.stream.records import RECORDS_WIDTH, RecordReader

COEFFICIENTS_BYTES = 8
"""Of a record of coefficients."""

_ENTRY_BYTES = 4


class NormTables(Part):
    """Entries of a table of scales, and records of coefficients, as `Normalise` takes them.

    The product of a mean and a root is made here, two bits a clock, once for each set, while the set before is given:
    once for each of its channels, or of its position.

    Of a softmax there are no scales, and records of rows in the place of those of positions.

    Members
    -------
    start : In(1)
        Begin; what is given stays as it is until the last part has been normalised.
    again : In(1)
        What is known of positions is read once more: all of it has been given.
    softmax : In(1)
        Rows are read.
    placed : In(1)
        Whether `begin` and `positions` hold.
    scales_at, coefficients_at : In(`operand`)
        Where the tables are.
    channels, first, set_channels : In(16)
        Channels of the tensor; those of its sets before channel 0; those of a set, 0 where a set is a position.
    second : In(1)
        Whether the tensor is the second one of its sets.
    begin, positions : In(32)
        Positions that are normalised.
    tables_read : Out(MemoryRead)
        Memory.
    scales : Out(stream of `scale`)
        Of each channel.
    sets : Out(stream of `statistics`)
        Of each channel, or of each position.
    rows : Out(stream of `known_row`)
        Of each position.
    places : Out(5)
        h.
    fault : Out(1)
        Something in the scales, or in a row, breaks a rule; stays so.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "start": In(1),
            "again": In(1),
            "softmax": In(1),
            "placed": In(1),
            "scales_at": In(operand()),
            "coefficients_at": In(operand()),
            "channels": In(16),
            "first": In(16),
            "set_channels": In(16),
            "second": In(1),
            "begin": In(32),
            "positions": In(32),
            "tables_read": Out(MemoryRead(parameters.memory_width)),
            "scales": Out(stream.Signature(scale(parameters))),
            "sets": Out(stream.Signature(statistics(parameters))),
            "rows": Out(stream.Signature(known_row(parameters))),
            "places": Out(5),
            "fault": Out(1),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        m.submodules.reader = reader = RecordReader(self._parameters.memory_width, 8 * _ENTRY_BYTES)
        wiring.connect(m, reader.port, wiring.flipped(self.tables_read))
        by_position = named(m, "by_position", self.softmax | (self.set_channels == 0))
        before = self._ask(m, reader.i, by_position)
        self._take(m, reader.o, by_position, before)
        return m

    def _ask(self, m: Module, spans: stream.Interface, by_position: Value) -> Value:
        """Ask for both tables; returns the channels of the first set that lie before channel 0 of the tensor."""
        # Sets are counted off, one a clock: those before the first one that is needed, then those that are.
        rest = Signal(len(self.channels) + 1)
        number = Signal(len(rest))
        first = Signal(len(rest))
        before = Signal(len(self.channels))
        size = self.set_channels

        def ask(at: data.View, begin: Value, entries: Value) -> None:
            m.d.comb += [
                spans.valid.eq(1),
                spans.p.region.eq(at.region),
                spans.p.address.eq(saturated((at.offset * UNIT_BYTES) + begin, ADDRESS_WIDTH)),
                spans.p.records.eq(saturated(entries, RECORDS_WIDTH)),
            ]

        with m.FSM():
            with m.State("idle"):
                with m.If(self.start):
                    m.next = "scales"
                    with m.If(self.softmax):
                        m.next = "count"
                with m.Elif(self.again & by_position):
                    m.next = "coefficients"
            with m.State("scales"):
                ask(self.scales_at, Const(0, 1), 2 * self.channels + 1)
                m.d.sync += [rest.eq(self.first), number.eq(0)]
                with m.If(spans.ready):
                    m.next = "first"
            with m.State("first"):
                with m.If((rest >= size) & ~by_position):
                    m.d.sync += [rest.eq(rest - size), number.eq(number + 1)]
                with m.Else():
                    m.d.sync += [first.eq(number), before.eq(rest), rest.eq(rest + self.channels), number.eq(0)]
                    m.next = "count"
            with m.State("count"):
                with m.If((rest != 0) & ~by_position):
                    m.d.sync += [rest.eq(Mux(rest <= size, 0, rest - size)), number.eq(number + 1)]
                with m.Elif(self.placed | ~by_position):
                    m.next = "coefficients"
            with m.State("coefficients"):
                begin, records = Mux(by_position, self.begin, first), Mux(by_position, self.positions, number)
                ask(self.coefficients_at, COEFFICIENTS_BYTES * begin, COEFFICIENTS_BYTES // _ENTRY_BYTES * records)
                with m.If(spans.ready):
                    m.next = "idle"
        return before

    def _take(self, m: Module, entries: stream.Interface, by_position: Value, before: Value) -> None:
        """Take the entries, and give what they come to."""
        m.submodules.product = product = Multiplier(signed(MEAN_WIDTH), ROOT_WIDTH + FINER_MAX, step=2)
        entry = named(m, "entry", entries.payload.as_signed())
        gain = Signal(self.scales.p.gain.shape())
        mean = Signal(signed(MEAN_WIDTH))
        rest, row = data.View(_rest(), entries.payload), data.View(_row(), entries.payload)
        finer = named(
            m, "finer", Mux(rest.second == self.second, Mux(rest.finer > FINER_MAX, FINER_MAX, rest.finer), 0)
        )
        amount = root_amount(m, self._parameters, rest.exponent, finer)
        known = Signal(statistics(self._parameters))
        # Channels whose scales are to come.
        left = Signal(len(self.channels))
        is_first = Signal()
        top = (1 << self._parameters.state_width - 1) - 1

        def check(holds: Value) -> None:
            with m.If(~holds):
                m.d.sync += self.fault.eq(1)

        with m.FSM():
            with m.State("places"):
                m.d.comb += entries.ready.eq(1)
                m.d.sync += [left.eq(self.channels), is_first.eq(1)]
                with m.If(entries.valid):
                    m.d.sync += self.places.eq(entry)
                    check(in_range(entry, PLACES_MIN, PLACES_MAX))
                    m.next = "gain"
                with m.If(self.start & self.softmax):
                    m.next = "mean"
            with m.State("gain"):
                m.d.comb += entries.ready.eq(1)
                with m.If(entries.valid):
                    m.d.sync += gain.eq(entry)
                    check(below_power(entry, FACTOR_MAX.bit_length()))
                    m.next = "shift"
            with m.State("shift"):
                m.d.comb += [self.scales.valid.eq(entries.valid), entries.ready.eq(self.scales.ready)]
                with m.If(entries.valid & self.scales.ready):
                    m.d.sync += left.eq(left - 1)
                    check(below_power(entry, self._parameters.state_width + 1))
                    m.next = "gain"
                    with m.If(left == 1):
                        m.next = "mean"
            with m.State("mean"):
                m.d.comb += entries.ready.eq(1)
                m.d.sync += mean.eq(entry)
                with m.If(self.start & ~self.softmax):
                    m.next = "places"
                with m.Elif(entries.valid):
                    m.next = "rest"
            with m.State("rest"):
                m.d.comb += [
                    product.i.valid.eq(entries.valid & ~self.softmax),
                    self.rows.valid.eq(entries.valid & self.softmax),
                    entries.ready.eq(~self.softmax | self.rows.ready),
                ]
                with m.If(entries.valid & self.softmax):
                    with m.If((mean > top) | (mean < -top)):
                        m.d.sync += self.fault.eq(1)
                    with m.If(self.rows.ready):
                        m.next = "mean"
                with m.Elif(entries.valid):
                    m.d.sync += [
                        known.root.eq(rest.root),
                        known.amount.eq(amount),
                        known.poisoned.eq(rest.poisoned),
                    ]
                    m.next = "set"
            with m.State("set"):
                m.d.comb += product.o.ready.eq(~self.sets.valid)
                with m.If(product.o.valid & product.o.ready):
                    m.d.sync += is_first.eq(0)
                    m.next = "mean"

        # The set that is given, and to how many channels of it and of all it is still to be.
        given = Signal(statistics(self._parameters))
        repeats, rests = Signal(len(self.channels)), Signal(len(self.channels))
        with m.If(product.o.valid & product.o.ready):
            m.d.sync += [
                self.sets.valid.eq(1),
                given.eq(known),
                given.offset.eq(product.o.payload),
                repeats.eq(self.set_channels - Mux(is_first, before, 0)),
            ]
            with m.If(is_first):
                m.d.sync += rests.eq(self.channels)
        with m.Elif(self.sets.valid & self.sets.ready):
            m.d.sync += [repeats.eq(repeats - 1), rests.eq(rests - 1)]
            with m.If(by_position | (repeats == 1) | (rests == 1)):
                m.d.sync += self.sets.valid.eq(0)
        m.d.comb += [
            product.i.p.a.eq(mean),
            product.i.p.b.eq(rest.root << (FINER_MAX - finer)[:4]),
            self.sets.p.eq(given),
            self.scales.p.gain.eq(gain),
            self.scales.p.shift.eq(entry),
            self.rows.p.largest.eq(mean),
            *(self.rows.p[name].eq(row[name]) for name in ("reciprocal", "length", "poisoned")),
        ]


def _rest() -> data.StructLayout:
    """The second half of a record of coefficients; the first one is the mean."""
    return data.StructLayout(
        {"root": ROOT_WIDTH, "exponent": signed(8), "finer": 4, "second": 1, "unused": 1, "poisoned": 1}
    )


def _row() -> data.StructLayout:
    """The second half of a record of a row; the first one is the largest score."""
    return data.StructLayout({"reciprocal": RECIPROCAL_WIDTH, "length": 6, "unused": 8, "poisoned": 1})
