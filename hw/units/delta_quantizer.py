"""FP16 deltas to delta groups: exponent, digits, outliers, and the residual a next pass sends.

The *fit* of a lane is the least exponent code at which its value fits a digit; a lane overflows at code c when its fit
is above c. So the exponent that lets at most m lanes overflow is the (m+1)-th largest fit. It is found bit by bit from
the top, with the *candidates*: the lanes whose fit agrees with it so far.
"""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, ValueLike
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import EXPONENT_WIDTH, POISONED_GROUP, ZERO_GROUP, Parameters
from hw import payloads
from hw.arith.bits import add_thermometers, named, or_tree
from hw.arith.float import FLOAT16
from hw.arith.shift import leading_zeros, shift_left
from hw.stream import Stage
from hw.units.outlier_selector import multiplex_slots, select_outliers
from hw.units.unit import PipelinedUnit


class DeltaQuantizer(PipelinedUnit):
    """Makes delta groups of FP16 vectors (``docs/numerics.md``, section 3).

    Latency: ``latency`` clocks. Throughput: one vector per clock; under ``replay`` one group per clock.

    Numerics: exponent by group, or given; digits rounded to nearest, ties to even; residuals exact.

    ::

        values -> fit of each lane -> (m+1)-th largest, 6 steps -> exponent -> overflow flags -+-> selection of outliers
                                                                                               +-> digits -> residuals

    Parameters
    ----------
    parameters : Parameters
        ``digit_width``, ``lanes``, ``outliers``, the policies and ``pipeline_depth`` matter.

    Members
    -------
    i : In(stream)
        `payloads.quantizer_input`: a vector and how to quantise it.
    o : Out(stream)
        `payloads.quantizer_output`: a group and what the next pass needs.
    clear : In(1)
        Clears the sticky bits, unless their event happens in the same clock.
    saturated : Out(1)
        Sticky: a lane that did not fit was sent as the largest digit.
    poisoned : Out(1)
        Sticky: a NaN or an infinity came.
    """

    name = "delta_quantizer"
    summary = "FP16 deltas to exponent, digits, outliers and residual"

    def _members(self, parameters: Parameters) -> dict:
        return {
            "i": In(stream.Signature(payloads.quantizer_input(parameters))),
            "o": Out(stream.Signature(payloads.quantizer_output(parameters))),
            "clear": In(1),
            "saturated": Out(1),
            "poisoned": Out(1),
        }

    @property
    def throughput(self) -> str:
        """One group per clock."""
        return "one group per clock"

    def _describe(self, m: Module, platform: Any) -> int:
        return self._with_replays(m) if self.parameters.replays else self._without_replays(m)

    # Without replays: a straight pipeline -----------------------------------------------------------------------------

    def _without_replays(self, m: Module) -> int:
        n, outliers = self.parameters.lanes, self.parameters.outliers
        s = self._flagged(Stage.begin(m, self.i), m)
        selected, parts = Const(0, n), []
        if outliers:
            flags = named(m, "selectable", Mux(s.first_pass, s.overflow, 0))
            parts = [select_outliers(s.part("selection"), flags, s.values, outliers=outliers)]
        s, parts = self._digits(s).join(parts)
        group = {"exponent": s.group_code}
        if outliers:
            selected, group["outliers"] = parts[0].selected, parts[0].slots
        lost = named(m, "lost", s.overflow & ~selected)
        group["digits"] = [Mux(selected[lane], 0, s.digits[lane]) for lane in range(n)]
        self._stick(m, saturated=s.moves & or_tree(lost), poisoned=s.moves & s.poison)
        return s.finish(self.o, self._output(m, s, group, last=1), depth=self.parameters.pipeline_depth)

    def _output(self, m: Module, s: Stage, group: dict[str, Any], *, last: ValueLike) -> data.View:
        """Payload of `o`; the fields of the group by their names."""
        output = Signal(self.o.payload.shape(), name="output")
        m.d.comb += [output.group[name].eq(_joined(value)) for name, value in group.items()]
        m.d.comb += [
            output.last.eq(last),
            output.next_exponent.eq(s.next_exponent),
            output.overflow.eq(s.overflow),
            output.residual.eq(_joined(s.residual)),
        ]
        return output

    # With replays: vectors, then the groups of each -------------------------------------------------------------------

    def _with_replays(self, m: Module) -> int:
        """A vector with more than m flags leaves as several groups.

        ::

            i -> fits ... flags -+-> digits, residuals ----+-> vector -> once per group -> slots -> o
                                 +-> rank of each flag ----+
        """
        n, outliers = self.parameters.lanes, self.parameters.outliers
        slot_width = max(1, (outliers - 1).bit_length())
        group_width = (-(-n // outliers)).bit_length()
        layout = data.StructLayout(
            {
                "code": EXPONENT_WIDTH,
                "digits": data.ArrayLayout(self.parameters.digit_width, n),
                "next_exponent": EXPONENT_WIDTH,
                "overflow": n,
                "residual": data.ArrayLayout(16, n),
                "values": data.ArrayLayout(16, n),
                "flags": n,
                "group": data.ArrayLayout(group_width, n),
                "slot": data.ArrayLayout(slot_width, n),
                "groups": group_width,
            }
        )
        vector = stream.Signature(layout).create(path=("vector",))
        s = self._flagged(Stage.begin(m, self.i, name="vector_"), m)
        flags = named(m, "selectable", Mux(s.first_pass, s.overflow, 0))
        ranks = self._ranks(s.part("ranks"), m, flags, s.values, group_width, slot_width)
        s, (ranks,) = self._digits(s).join([ranks])
        payload = Signal(layout, name="vector_payload")
        m.d.comb += [payload[name].eq(_joined(getattr(ranks, name))) for name in ("values", "flags", "group", "slot")]
        m.d.comb += [payload[name].eq(_joined(getattr(s, name))) for name in ("digits", "next_exponent", "overflow")]
        m.d.comb += [
            payload.code.eq(s.group_code),
            payload.residual.eq(_joined(s.residual)),
            payload.groups.eq(ranks.groups),
        ]
        self._stick(m, saturated=s.moves & or_tree(s.overflow & ~ranks.flags), poisoned=s.moves & s.poison)
        g, output = self._groups(m, vector)
        # Of the register stages allowed, those past the replay loop get their share, and at least one.
        depth, cuts = self.parameters.pipeline_depth, s.cuts + g.cuts
        group_depth = max(1, min(depth, cuts) * g.cuts // cuts)
        vector_depth = min(s.cuts, depth - group_depth)
        return s.finish(vector, payload, depth=vector_depth) + g.finish(self.o, output, depth=group_depth)

    def _ranks(self, s: Stage, m: Module, flags: Value, values: data.View, group_width: int, slot_width: int) -> Stage:
        """Number of flagged lanes before each, as groups and slots; and the groups the vector makes."""
        n, outliers = self.parameters.lanes, self.parameters.outliers
        s.flags, s.values = flags, values
        # Inclusive prefix counts, each a pair (groups, slots) with slots below m.
        groups, slots = (flags, Const(0, n)) if outliers == 1 else (Const(0, n), flags)
        s.counted = [Cat(group, Const(0, group_width - 1)) for group in groups]
        s.left_over = [Cat(slot, Const(0, slot_width - 1)) for slot in slots]
        levels = (n - 1).bit_length()
        for level in range(levels):
            half, counted, left_over = 1 << level, list(s.counted), list(s.left_over)
            for lane in range(n):
                if lane & half:
                    before = (lane & -half) - 1
                    slots = named(m, s.label(f"slots{2 * half}_{lane}"), s.left_over[before] + s.left_over[lane])
                    wraps = named(m, s.label(f"wraps{2 * half}_{lane}"), slots >= outliers)
                    rest, total = Mux(wraps, slots - outliers, slots), s.counted[before] + s.counted[lane] + wraps
                    left_over[lane] = named(m, s.label(f"slot{2 * half}_{lane}"), rest[:slot_width])
                    counted[lane] = named(m, s.label(f"group{2 * half}_{lane}"), total[:group_width])
            s.counted, s.left_over = counted, left_over
            if level in (levels // 3, 2 * levels // 3):
                s = s.cut()
        s.group, s.slot = [Const(0, group_width), *s.counted[:-1]], [Const(0, slot_width), *s.left_over[:-1]]
        s.groups = (s.counted[-1] + s.left_over[-1].any())[:group_width]
        return s

    def _groups(self, m: Module, vector: Any) -> tuple[Stage, data.View]:
        """Repeat a vector for each of its groups, and fill the slots of each."""
        n, outliers = self.parameters.lanes, self.parameters.outliers
        p = vector.payload
        number, last, replay = Signal.like(p.groups, name="number"), Signal(name="last"), Signal(name="replay")
        m.d.comb += [last.eq(number + 1 >= p.groups), replay.eq(number != 0)]
        issue = stream.Signature(1).create(path=("issue",))
        m.d.comb += [issue.valid.eq(vector.valid), vector.ready.eq(issue.ready & last)]
        with m.If(issue.valid & issue.ready):
            m.d.sync += number.eq(Mux(last, 0, number + 1))
        s = Stage.begin(m, issue, name="group_")
        pairs = range(0, n, 2)
        taken = named(m, "taken", Cat(p.flags[lane] & (p.group[lane] == number) for lane in range(n)))
        at = [[taken[lane] & (p.slot[lane] == slot) for lane in range(n)] for slot in range(outliers)]
        s.left = [Cat(lanes[lane] for lane in pairs) for lanes in at]
        s.here = [Cat(lanes[lane] | lanes[min(lane + 1, n - 1)] for lane in pairs) for lanes in at]
        s.values, s.replay, s.last = p.values, replay, last
        s.digits = [Mux(replay, 0, digit) for digit in p.digits]
        s.code, s.next_exponent, s.overflow, s.residual = p.code, p.next_exponent, p.overflow, p.residual

        s = s.cut()
        s.found = Cat(or_tree(here) for here in s.here)
        s = multiplex_slots(s)
        group = {"exponent": s.code, "replay": s.replay, "digits": s.digits, "outliers": s.slots}
        return s, self._output(m, s, group, last=s.last)

    # Exponent and flags -----------------------------------------------------------------------------------------------

    def _flagged(self, s: Stage, m: Module) -> Stage:
        """From the input to the exponent code, the overflow flags and how far each lane must be shifted."""
        k, n, outliers, p = self.parameters.digit_width, self.parameters.lanes, self.parameters.outliers, self.i.p
        s.by_group, s.first_pass, s.exponent, s.floor, s.values = (
            p.by_group,
            p.first_pass,
            p.exponent,
            p.floor,
            p.values,
        )
        lanes = [fit_of(s.instance(f"fit{lane}", value=value), k) for lane, value in enumerate(p.values)]
        s.fits, s.infinite = [lane.fit for lane in lanes], Cat(lane.infinite for lane in lanes)

        s = s.cut()
        s.poison = or_tree(s.infinite)
        s.candidates, s.above, s.found = Const(-1, n), Const(0, 0), Const(0, 0)
        for bit in reversed(range(EXPONENT_WIDTH)):
            ones = Cat(candidate & fit[bit] for candidate, fit in zip(s.candidates, s.fits, strict=True))
            counts = [*([s.above] if len(s.above) else []), *named(m, f"ones{bit}", ones)]
            level = 0
            while len(counts) > 1:
                counts = [
                    named(m, f"above{bit}_{level}_{index // 2}", Cat(add_thermometers(*pair, outliers + 1)))
                    if len(pair := counts[index : index + 2]) == 2
                    else pair[0]
                    for index in range(0, len(counts), 2)
                ]
                level += 1
            # More than m lanes are at least as large as the result with this bit set: it is set.
            is_set = named(m, f"set{bit}", counts[0][outliers] if outliers < len(counts[0]) else 0)
            s.found = Cat(is_set, s.found)
            s.candidates = Cat(
                candidate & (fit[bit] == is_set) for candidate, fit in zip(s.candidates, s.fits, strict=True)
            )
            s.above = Mux(is_set, s.above, counts[0])[:outliers]
            s = s.cut()

        chosen = named(m, "chosen", Mux(s.found < s.floor, s.floor, s.found))
        s.code = Mux(s.by_group & s.first_pass, chosen, s.exponent)

        s = s.cut()
        after, overflow, shifts = named(m, "after", s.code + 1), [], []
        for lane, (value, fit) in enumerate(zip(s.values, s.fits, strict=True)):
            shifts.append(shift_of(m, lane, value, after))
            overflow.append((fit > s.code) & ~s.poison)
        s.overflow, s.shifts = Cat(overflow), shifts
        lower = named(m, "lower", s.code - (k - 1))
        s.next_exponent = Mux(s.poison | (lower < s.floor), s.floor, lower[:EXPONENT_WIDTH])
        return s.cut()

    # Digits and residuals ---------------------------------------------------------------------------------------------

    def _digits(self, s: Stage) -> Stage:
        """Digits as if no lane were selected, residuals, and the exponent code of the group."""
        operands = enumerate(zip(s.values, s.shifts, s.overflow, strict=True))
        lanes = [
            digit_of(s.instance(f"lane{lane}", value=value, shift=shift, overflow=overflow), self.parameters)
            for lane, (value, shift, overflow) in operands
        ]
        s, lanes = s.join(lanes)
        s.digits, empty = [lane.digit for lane in lanes], ~or_tree(lane.nonzero for lane in lanes)
        s.group_code = Mux(s.poison, POISONED_GROUP, Mux(empty, ZERO_GROUP, s.code))
        s, lanes = s.join([residual_of(lane) for lane in lanes])
        s.residual = [lane.residual for lane in lanes]
        return s


def digit_of(s: Stage, parameters: Parameters) -> Stage:
    """Of a lane's `value`, `shift` and `overflow` the `digit`, whether it is `nonzero`, and what `residual_of` takes.

    The stage that the lane is part of has ``poison`` and ``first_pass``. Two cuts.
    """
    k, largest = parameters.digit_width, parameters.digit_max
    poison = s.outer.poison
    significand = named(s.m, "significand", FLOAT16.significand(s.value))
    shifted = named(s.m, "shifted", (Cat(Const(0, 1), significand) >> s.shift)[:k])
    half, odd, s.whole = shifted[0], shifted[1], shifted[1:]
    # Tables of one bit per shift: comparators would become carry chains.
    s.below = Cat((Const(-2 << bit, 16) >> s.shift)[0] for bit in range(11))
    s.rounds_up = half & (or_tree(significand[:10] & s.below[1:]) | odd)
    s.lower = Mux(s.overflow | poison, 0, significand & s.below)[:11]
    s.sign, s.field = FLOAT16.sign(s.value), FLOAT16.field(s.value)

    s = s.cut()
    magnitude = Cat(bit ^ (s.rounds_up & s.whole[:index].all()) for index, bit in enumerate(s.whole))
    sent = Mux(s.outer.first_pass, 0, largest) if parameters.replays else largest
    limited = named(s.m, "limited", Mux(s.outer.poison, 0, Mux(s.overflow, sent, magnitude))[: k - 1])
    s.digit = Cat(_negated_bit(limited, index, s.sign) for index in range(k))
    s.nonzero = or_tree(limited) | s.overflow
    # Rounded up, the residual is what was missing: 2^shift - lower, the negative within the bits below the digit. A
    # negative number keeps its lowest one and inverts what is above.
    ones = named(s.m, "ones", Cat(or_tree(s.lower[:index]) for index in range(11)))
    s.rest = s.lower ^ (s.rounds_up.replicate(11) & s.below & ones)
    s.down = s.sign ^ s.rounds_up
    return s.cut()


def residual_of(s: Stage) -> Stage:
    """What a digit leaves, as FP16: `residual`. One cut."""
    poison = s.outer.poison
    s.negative = s.down & or_tree(s.rest)
    # A poisoned lane has rest 0 so far; with two ones on top and the field of all ones it is packed as NaN.
    s.rest = s.rest | Mux(poison, 0x600, 0)
    zeros = named(s.m, "zeros", leading_zeros(s.m, "rest", s.rest))
    # The field after a left shift by all leading zeros; if it is not positive, the result is subnormal and the field
    # alone bounds the shift.
    left = named(s.m, "left", (s.field - zeros)[:6])
    short = named(s.m, "short", left[5] | ~or_tree(left))
    s.shift = Mux(short, s.field[:4] - 1, zeros)[:4]
    s.field = left[:5] | Mux(poison, 31, 0)

    s = s.cut()
    fraction = shift_left(s.m, "fraction", s.rest, s.shift, 11)
    # A subnormal has no hidden one: its field is 0.
    s.residual = Cat(fraction[:10], Mux(fraction[10], s.field, 0)[:5], s.negative)
    return s


def _joined(value: Any) -> Value:
    """A value, or the values of a list side by side."""
    return Cat(value) if isinstance(value, list) else value


def _negated_bit(magnitude: Value, index: int, negative: Value) -> Value:
    """Bit of ``-magnitude`` if `negative`, else of `magnitude`; in look-up tables, for a few bits."""
    bit = magnitude[index] if index < len(magnitude) else Const(0, 1)
    return bit ^ (negative & or_tree(magnitude[:index]))


def shift_of(m: Module, lane: int, value: Value, after: Value) -> Value:
    """Places that a lane's significand moves to the right, 12 for all beyond; `after` is the exponent code plus 1.

    That is ``after - max(field, 1)``: not negative where the lane fits, and from 12 on nothing is left.
    """
    distance = named(m, f"distance{lane}", (after - FLOAT16.field(value))[: EXPONENT_WIDTH + 1])
    far = named(m, f"far{lane}", or_tree(distance[4:]) | distance[2:4].all())
    return Mux(far, 12, distance[:4])


def fit_of(s: Stage, k: int) -> Stage:
    """Least exponent code at which a finite `value` fits a digit of k bits: `fit`, and whether it is `infinite`."""
    fraction, field = s.value[:10], s.value[10:15]
    s.infinite = field.all()
    # A normal value 1.f x 2^(field - 15) overflows once more when it is at least Q + 1/2 = 1.1..1 (k ones) x 2^(k - 2).
    more = fraction[11 - k :].all()
    grown = named(s.m, "grown", Cat(bit ^ (more & field[:index].all()) for index, bit in enumerate(field)))
    normal = named(s.m, "fit_normal", (grown + (11 - k))[:EXPONENT_WIDTH])
    # A subnormal overflows at code c when 2 f >= (2^k - 1) << c: some bit above, or k ones in a row.
    overflows = []
    for code in range(12 - k):
        row = fraction[code - 1 : code + k - 1].all() if code else Const(0, 1)
        overflows.append(or_tree(fraction[code + k - 1 :]) | row)
    overflows = named(s.m, "overflows", Cat(overflows))
    least = [overflows[code] & (~overflows[code + 1] if code + 1 < len(overflows) else 1) for code in range(12 - k)]
    bits = [or_tree(top for code, top in enumerate(least) if (code + 1) >> bit & 1) for bit in range(EXPONENT_WIDTH)]
    s.fit = Mux(field.any(), normal, Cat(bits))
    return s
