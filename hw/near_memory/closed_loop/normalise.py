"""The two stages of a norm, u elements a clock, and the tables that they read."""

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw import payloads
from hw.arith.bits import below_power, filled, named, or_tree
from hw.arith.rounding import amount_width, round_shift, shift_amount
from hw.arith.shift import Window
from hw.memory import Ram
from hw.near_memory.closed_loop.positions import position_part
from hw.part import Part
from hw.stream import Stage

MEAN_WIDTH = 32
ROOT_WIDTH = 17

_FACTOR_WIDTH = 18
"""Bits of u, and of G: those of a multiplier."""

FINER_MAX = 8
"""Places that an element of a coarser tensor can be shifted by; more count as so many."""

PLACES_MIN, PLACES_MAX = 2, 30
"""Least and largest h."""

FACTOR_MAX = (1 << _FACTOR_WIDTH - 1) - 1
"""Largest magnitude of u, and of G."""

_MEAN_PLACES = 8


def scale(parameters: Parameters) -> data.StructLayout:
    """G and B of a channel (numerics, 12.7)."""
    return data.StructLayout({"gain": signed(_FACTOR_WIDTH), "shift": signed(parameters.state_width + 2)})


def statistics(parameters: Parameters) -> data.StructLayout:
    """What the first stage needs of a set (numerics, 12.6).

    `root` is r, `offset` is ``mean r 2^(8 - finer)``, `amount` that of the shift after they met (`root_amount`).
    """
    fields = {"root": ROOT_WIDTH, "offset": signed(MEAN_WIDTH + ROOT_WIDTH + FINER_MAX)}
    amount = amount_width(_difference_width(parameters), _FACTOR_WIDTH)
    return data.StructLayout({**fields, "amount": amount, "poisoned": 1})


def root_amount(m: Module, parameters: Parameters, exponent: Value, finer: Value) -> Value:
    """Amount of the shift by ``16 - rho - finer`` places."""
    places = _MEAN_PLACES + FINER_MAX - exponent - finer
    return shift_amount(m, "root_amount", places, _difference_width(parameters), _FACTOR_WIDTH)


def _difference_width(parameters: Parameters) -> int:
    """Bits of ``Y r 2^16 - mean r 2^(8 - finer)``."""
    return max(parameters.state_width + _MEAN_PLACES, MEAN_WIDTH) + ROOT_WIDTH + FINER_MAX + 1


class Normalise(Part):
    """``z = RNE(u G 2^-h + B / 4)`` with ``u = RNE((Y 2^(8 + finer) - mean) r 2^(rho - 8))``, both clamped.

    ::

        Y --> * r --> << 16 --> - mean r 2^(8 - finer) --> RNE, 18 bits --> * G --> 2^-h --> + B / 4 --> RNE --> z

    A poisoned element, or one of a poisoned set, is poisoned; what a part does not use is 0. Without a norm, Y passes.

    Tables come first: G and B of every channel, and what is known of its set; or, where sets are positions, of each
    position, as it comes. Positions have all channels, or a vector of n of them.

    Throughput: one part per clock. Numerics: 12.6, 12.7.

    Members
    -------
    start : In(1)
        Tables are forgotten.
    advance : In(1)
        Positions hold the next n channels from now on; nothing is on its way in.
    normed : In(1)
        Whether there is a norm.
    by_position : In(1)
        Whether a set is a position.
    channels : In(16)
        Of a position, at most ``norm_buffer``.
    places : In(5)
        h, 2 to 30.
    scales : In(stream of `scale`)
        Of channel 0, 1, ...
    sets : In(stream of `statistics`)
        Of the set of channel 0, 1, ..., or of each position.
    i : In(stream of `position_part`)
        Y.
    o : Out(stream of `payloads.element_part`)
        z.
    overflow : Out(1)
        A u or a z was clamped, of a poisoned element too.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "start": In(1),
            "advance": In(1),
            "normed": In(1),
            "by_position": In(1),
            "channels": In(16),
            "places": In(5),
            "scales": In(stream.Signature(scale(parameters))),
            "sets": In(stream.Signature(statistics(parameters))),
            "i": In(stream.Signature(position_part(parameters))),
            "o": Out(stream.Signature(payloads.element_part(parameters))),
            "overflow": Out(1),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        i, o, u = self.i, self.o, self._parameters.near_lanes
        rows = -(-self._parameters.norm_buffer // u)
        scales, has_scales = self._table(m, "scales", self.scales, rows)
        sets, has_sets = self._table(m, "sets", self.sets, rows, wanted=~self.by_position)

        # A part waits for the tables, and in a norm of positions for its position.
        joined = stream.Signature(i.payload.shape()).create(path=("joined",))
        normed = stream.Signature(o.payload.shape()).create(path=("normed",))
        goes = named(m, "goes", has_scales & Mux(self.by_position, self.sets.valid, has_sets))
        m.d.comb += [
            joined.valid.eq(i.valid & self.normed & goes),
            joined.payload.eq(i.payload),
            i.ready.eq(Mux(self.normed, joined.ready & goes, o.ready)),
            normed.ready.eq(o.ready),
            o.valid.eq(Mux(self.normed, normed.valid, i.valid)),
            o.p.eq(Mux(self.normed, normed.payload.as_value(), i.payload.as_value()[: len(o.p.as_value())])),
        ]
        with m.If(self.by_position):
            m.d.comb += self.sets.ready.eq(joined.valid & joined.ready & i.p.ends)
        first, row = Signal(range(rows)), Signal(range(rows))
        with m.If(joined.valid & joined.ready):
            m.d.sync += row.eq(Mux(i.p.ends, first, row + 1))
        with m.If(self.advance):
            m.d.sync += [at.eq(first + self._parameters.lanes // u) for at in (first, row)]
        with m.If(self.start):
            m.d.sync += [at.eq(0) for at in (first, row)]
        self._pipeline(m, joined, normed, row, scales, sets)
        return m

    def _table(
        self, m: Module, name: str, items: stream.Interface, rows: int, *, wanted: Value | None = None
    ) -> tuple[list[Ram], Value]:
        """RAM of each lane, filled channel by channel from `items`, and whether it holds all channels."""
        u = self._parameters.near_lanes
        wanted = Const(1, 1) if wanted is None else wanted
        lane, row, count = (
            Signal(range(u), name=f"{name}_lane"),
            Signal(range(rows), name=f"{name}_row"),
            Signal(16, name=f"{name}_count"),
        )
        full = named(m, f"has_{name}", count == self.channels)
        moves = named(m, f"{name}_moves", items.valid & ~full & wanted)
        rams = []
        for index in range(u):
            m.submodules[f"{name}{index}"] = ram = Ram(items.payload.shape(), rows)
            m.d.comb += [
                ram.write_enable.eq(moves & (lane == index)),
                ram.write_address.eq(row),
                ram.write_data.eq(items.payload),
            ]
            rams.append(ram)
        with m.If(wanted):
            m.d.comb += items.ready.eq(~full)
        with m.If(moves):
            m.d.sync += [lane.eq(lane + 1), count.eq(count + 1)]
            with m.If(lane == u - 1):
                m.d.sync += [lane.eq(0), row.eq(row + 1)]
        with m.If(self.start):
            m.d.sync += [lane.eq(0), row.eq(0), count.eq(0)]
        return rams, full

    def _pipeline(
        self,
        m: Module,
        i: stream.Interface,
        o: stream.Interface,
        row: Value,
        scales: list[Ram],
        sets: list[Ram],
    ) -> None:
        poison = -(1 << self._parameters.state_width - 1)
        s = Stage.begin(m, i)
        s.last, s.row, s.position = i.payload.last, row, self.sets.payload
        lanes = []
        for lane, (element, ram) in enumerate(zip(i.payload["values"], sets, strict=True)):
            part = s.part(f"lane{lane}")
            part.used, part.lost = i.payload.used[lane], element == poison
            part.y = Mux(part.lost, 0, element)[: self._parameters.state_width].as_signed()
            self._read(m, s, part, "channel", ram)
            lanes.append(part.cut())
        s = s.cut()
        s, lanes = s.join([self._first(s, lane) for lane in lanes])
        for lane, ram in zip(lanes, scales, strict=True):
            self._read(m, s, lane, "scale", ram)
        s.beyond = or_tree(lane.clamped & lane.used for lane in lanes)
        s, lanes = s.join([self._second(lane.cut()) for lane in lanes])
        values = [
            Mux(lane.used, Mux(lane.lost, poison, lane.z), 0)[: self._parameters.state_width].as_signed()
            for lane in lanes
        ]
        m.d.comb += self.overflow.eq(s.moves & (s.beyond | or_tree(lane.past & lane.used for lane in lanes)))
        s.finish(o, filled(m, "z", o.payload.shape(), values=values, last=s.last), depth=s.cuts)

    @staticmethod
    def _read(m: Module, s: Stage, lane: Stage, name: str, ram: Ram) -> None:
        """The row of this payload, one cut on."""
        m.d.comb += [ram.read_enable.eq(s.moves), ram.read_address.eq(s.row)]
        lane.make(name, ram.read_data, held_by=ram.read_data)

    def _first(self, s: Stage, lane: Stage) -> Stage:
        """u: `rounded`, and whether it was `clamped`."""
        layout = statistics(self._parameters)
        lane.known = data.View(layout, Mux(self.by_position, s.position.as_value(), lane.channel.as_value()))
        for name in ("root", "offset", "amount"):
            lane.make(name, lane.known[name])
        lane.lost = lane.lost | lane.known.poisoned

        lane = lane.cut()
        lane.product = lane.y * lane.root

        lane = lane.cut()
        width = _difference_width(self._parameters)
        lane.difference = ((lane.product << _MEAN_PLACES + FINER_MAX) - lane.offset)[:width].as_signed()

        lane = lane.cut()
        return round_shift(lane, lane.difference, lane.amount, _FACTOR_WIDTH)

    def _second(self, s: Stage) -> Stage:
        """z, and whether it is `past` what a state holds."""
        width = self._parameters.state_width
        s.shift, s.product = s.scale.shift, s.rounded * s.scale.gain

        # In quarters of a unit of z. Past two bits more than those of B, no B brings it back.
        s = s.cut()
        s.amount = (PLACES_MAX - self.places)[:5]
        offset = PLACES_MAX - PLACES_MIN
        s.quarters = Window.of(s.m, s.label("quarters"), s.product, offset=offset, width=width + 4, amount_width=5)
        s.quarters = s.quarters.shift(s.amount[3:], 8)

        s = s.cut()
        s.quarters = s.quarters.shift(s.amount[:3])

        s = s.cut()
        s.sum = s.quarters.floor + s.shift
        s.sticky, s.huge, s.negative = s.quarters.guard | s.quarters.sticky, s.quarters.huge, s.quarters.sign

        s = s.cut()
        whole = s.sum[2:].as_signed()
        s.total = whole + (s.sum[1] & (s.sum[0] | s.sticky | whole[0]))

        s = s.cut()
        top = (1 << width - 1) - 1
        s.past = s.huge | ~below_power(s.total, width - 1)
        s.z = Mux(s.past, Mux(Mux(s.huge, s.negative, s.total[-1]), -top, top), s.total)[:width].as_signed()
        return s
