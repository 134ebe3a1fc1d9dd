"""Sums on their way out of the core: rounded once, to the joint form."""

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.parameters import EXPONENT_WIDTH, POISONED_GROUP, ZERO_GROUP, Parameters
from hw import payloads
from hw.arith.bits import filled, named
from hw.arith.rounding import round_shift, shift_amount
from hw.arith.shift import leading_zeros
from hw.stream import Fifo, SkidBuffer, Stage, count_stages

_PLACES_WIDTH = 9
"""Bits of the signed number of places that a sum moves to the right: a code less finer bits less a unit."""


class OutputPath(wiring.Component):
    """Rounds vectors of n sums to the joint form: one exponent a vector, one integer a lane.

    The exponent of a vector is the least one, from the floor on, at which all its integers fit. Rounding is monotone,
    so the largest magnitude alone tells: a first pipeline finds it while the sums wait in a queue, the bits that it has
    give the exponent but for one, and rounding it like a lane tells which. A second pipeline rounds the lanes.

    ::

        i -+-> queue ----------------------------------------------+-> shift, round, clamp -> o
           |                                                       |
           +-> magnitudes -> largest -> exponent -> does it fit ---+

    Throughput: u sums a clock, whole vectors without a pause.
    Numerics: 12.11; ``docs/formats.md``, joint delta stream, rules 1, 2 and 4.

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.

    Members
    -------
    i : In(stream of `payloads.sum_part`)
        Sums, in units of ``2^unit`` of the state that they end in.
    o : Out(stream of `payloads.joint_part`)
        The same vectors; integers of a poisoned one are 0.
    overflow, poisoned : Out(1)
        Events: a vector was clamped, was poisoned.
    link_outputs : Out(1)
        Event: a vector has left.
    """

    def __init__(self, parameters: Parameters):
        self._parameters = p = parameters
        self._found = data.StructLayout(
            {
                "exponent": EXPONENT_WIDTH,
                "right": signed(_PLACES_WIDTH),
                "clamps": 1,
                "top": p.joint_width - 1,
                "floor": EXPONENT_WIDTH,
            }
        )
        super().__init__(
            {
                "i": In(stream.Signature(payloads.sum_part(p))),
                "o": Out(stream.Signature(payloads.joint_part(p))),
                "overflow": Out(1),
                "poisoned": Out(1),
                "link_outputs": Out(1),
            }
        )

    @property
    def latency(self) -> int:
        """Clocks from the last part of a vector to its first one, rounded, where nothing waits before it."""
        parts, found, pair = self._parts(), self._vectors(), self._pairs()
        measured = count_stages(lambda m: self._measure(m, parts, found))
        return measured + SkidBuffer.latency + count_stages(lambda m: self._round(m, pair))

    def _parts(self) -> stream.Interface:
        return stream.Signature(payloads.sum_part(self._parameters)).create(path=("measured",))

    def _vectors(self) -> stream.Interface:
        return stream.Signature(self._found).create(path=("found",))

    def _pairs(self) -> stream.Interface:
        waiting = self._waiting()
        return stream.Signature(data.StructLayout({"sums": waiting, "vector": self._found})).create(path=("pair",))

    def _waiting(self) -> data.StructLayout:
        p = self._parameters
        values = data.ArrayLayout(signed(p.accumulator_width), p.near_lanes)
        return data.StructLayout({"values": values, "last": 1, "end": 1})

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p = self._parameters
        parts, found, pair = self._parts(), self._vectors(), self._pairs()
        latency = self._measure(m, parts, found)
        # A vector waits whole until its exponent is found; meanwhile others come in.
        depth = p.lanes // p.near_lanes + latency + SkidBuffer.latency
        # What was found of a vector is read for as long as its parts come.
        m.submodules.vectors = vectors = SkidBuffer(self._found)
        m.submodules.queue = queue = Fifo(self._waiting(), 1 << (depth - 1).bit_length())
        i, waits, vector = self.i, queue.i, vectors.o
        wiring.connect(m, vectors.i, found)
        m.d.comb += [
            parts.payload.eq(i.payload),
            waits.p.values.eq(i.p.values),
            waits.p.last.eq(i.p.last),
            waits.p.end.eq(i.p.end),
            parts.valid.eq(i.valid & waits.ready),
            waits.valid.eq(i.valid & parts.ready),
            i.ready.eq(parts.ready & waits.ready),
            pair.p.sums.eq(queue.o.payload),
            pair.p.vector.eq(vector.payload),
            pair.valid.eq(queue.o.valid & vector.valid),
            queue.o.ready.eq(pair.ready & vector.valid),
            vector.ready.eq(pair.ready & queue.o.valid & queue.o.p.last),
        ]
        self._round(m, pair)
        m.d.comb += self.link_outputs.eq(self.o.valid & self.o.ready & self.o.p.last)
        return m

    def _measure(self, m: Module, parts: stream.Interface, found: stream.Interface) -> int:
        """Of each vector: its exponent, the shift of its lanes, whether they clamp.

        What is compared is ``-|x|``: unlike the magnitude, it has a bit pattern for every sum.
        """
        p, sums = self._parameters, parts.p
        width, k = p.accumulator_width, p.digit_width
        code_max, finer_max = 42 - k, p.joint_width - k
        s = Stage.begin(m, parts, name="measure_")
        s.floor, s.unit, s.last, s.lost = sums.floor, sums.unit, sums.last, sums.poisoned.any()
        s.least = [Mux(value < 0, value, -value)[:width].as_signed() for value in sums.values]
        while len(s.least) > 1:
            s = s.cut()
            pairs = zip(s.least[::2], s.least[1::2], strict=False)
            s.least = [_smaller(*pair) for pair in pairs] + s.least[len(s.least) & ~1 :]

        s = s.cut()
        kept, kept_lost = Signal(signed(width), name="least_kept"), Signal(name="lost_kept")
        s.lane, s.poisoned = _smaller(s.least[0], kept), s.lost | kept_lost
        with m.If(s.moves):
            m.d.sync += [kept.eq(Mux(s.last, 0, s.lane)), kept_lost.eq(~s.last & s.poisoned)]
        s.valid = s.valid & s.last

        s = s.cut()
        # |x| is at most 2^b: code b + unit + 1 - k or the one after it is the least that it fits.
        s.length = width - leading_zeros(m, "inverse", ~s.lane)

        s = s.cut()
        s.wanted = s.length + s.unit + (1 - k)

        s = s.cut()
        code = Mux(s.wanted < s.floor, s.floor, Mux(s.wanted > code_max, code_max, s.wanted))
        s.code = code[:EXPONENT_WIDTH].as_unsigned()

        s = s.cut()
        above = named(m, "above_floor", s.code - s.floor)
        s.full = above >= finer_max
        s.finer = Mux(s.full, finer_max, above)[: max(finer_max.bit_length(), 1)]
        s.right = (s.code - s.finer - s.unit)[:_PLACES_WIDTH].as_signed()

        s = s.cut()
        s.amount = shift_amount(m, "widest_amount", s.right, width, p.joint_width + 1)

        s = s.cut()
        part = round_shift(s.part("widest"), s.lane, s.amount, p.joint_width + 1)
        s, (part,) = s.join([part])
        s.border = ((Const((1 << k) - 1)) << s.finer)[: p.joint_width]
        s.fits = ~part.clamped & ((part.rounded << 1) + s.border > 0)
        s.zero = part.rounded == 0

        s = s.cut()
        highest = named(m, "highest", s.code == code_max)
        grows = named(m, "grows", ~s.fits & ~highest)
        clamps = named(m, "clamps", ~s.fits & highest & ~s.poisoned)
        fields = {
            "exponent": Mux(s.poisoned, POISONED_GROUP, Mux(s.zero, ZERO_GROUP, s.code + grows)),
            "right": s.right + (grows & s.full),
            "clamps": clamps,
            "top": (s.border - 1)[1:],
            "floor": s.floor,
        }
        m.d.comb += [self.overflow.eq(s.moves & clamps), self.poisoned.eq(s.moves & s.poisoned)]
        return s.finish(found, filled(m, "found_result", self._found, **fields), depth=p.pipeline_depth)

    def _round(self, m: Module, pair: stream.Interface) -> int:
        """The lanes of each vector, by what was found of it."""
        p, sums, vector = self._parameters, pair.p.sums, pair.p.vector
        width = p.accumulator_width
        s = Stage.begin(m, pair, name="round_")
        s.last, s.end, s.exponent, s.floor = sums.last, sums.end, vector.exponent, vector.floor
        s.clamps, s.top = vector.clamps, vector.top
        s.values, s.poisoned = list(sums.values), vector.exponent == POISONED_GROUP
        s.amount = shift_amount(m, "lanes_amount", vector.right, width, p.joint_width)

        s = s.cut()
        lanes = [
            round_shift(s.part(f"lane{lane}"), value, s.amount, p.joint_width) for lane, value in enumerate(s.values)
        ]
        s, lanes = s.join(lanes)
        top = named(m, "top", Mux(s.clamps, s.top, ~0)[: p.joint_width - 1])
        values = [
            Mux(s.poisoned, 0, Mux(lane.rounded > top, top, Mux(lane.rounded < -top, -top, lane.rounded)))
            for lane in lanes
        ]
        fields = {"exponent": s.exponent, "last": s.last, "end": s.end, "floor": s.floor}
        return s.finish(
            self.o, filled(m, "o_result", self.o.payload.shape(), values=values, **fields), depth=p.pipeline_depth
        )


def _smaller(a: Value, b: Value) -> Value:
    return Mux(a < b, a, b)
