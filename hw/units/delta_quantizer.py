"""FP16 deltas to delta groups: exponent, digits, outliers, and the residual a next pass sends.

The *fit* of a lane is the least exponent code at which its value fits a digit; a lane overflows at code c when its fit
is above c. So the exponent that lets at most m lanes overflow is the (m+1)-th largest fit. It is found bit by bit from
the top, with the *candidates*: the lanes whose fit agrees with it so far.
"""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import EXPONENT_WIDTH, POISONED_GROUP, ZERO_GROUP, Parameters
from hw import payloads
from hw.arith.float import FLOAT16
from hw.arith.path import Path, carry, parallel, run, settle
from hw.arith.shift import leading_zeros, named, shift_left
from hw.stream import Pipeline, enabled_cuts
from hw.units.outlier_selector import (
    add_thermometers,
    multiplex_cuts,
    multiplex_slots,
    or_tree,
    select_outliers,
    selection_cuts,
)
from hw.units.unit import Unit

__all__ = ["DeltaQuantizer"]

_DIGIT_CUTS = 3


def _any(bits: Value) -> Value:
    return or_tree(list(bits))


class DeltaQuantizer(Unit):
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

    def __init__(self, parameters: Parameters):
        super().__init__(parameters)
        lanes, outliers = parameters.lanes, parameters.outliers
        # Fits, six steps, exponent, flags; then digits and residuals beside the selection; then the output register.
        shared = 1 + EXPONENT_WIDTH + 1 + 1
        if parameters.replays:
            beside, self._group_cuts = _DIGIT_CUTS, 2 + multiplex_cuts(lanes)
        else:
            beside, self._group_cuts = max(_DIGIT_CUTS, selection_cuts(lanes, outliers) if outliers else 0), 0
        self._vector_cuts = shared + beside + 1
        depth = parameters.pipeline_depth
        # Of the register stages allowed, those past the replay loop get their share, and at least one.
        total = self._vector_cuts + self._group_cuts
        self._group_depth = max(1, min(depth, total) * self._group_cuts // total) if parameters.replays else 0
        self._vector_depth = min(self._vector_cuts, depth - self._group_depth)

    def _members(self, parameters: Parameters) -> dict:
        return {
            "i": In(stream.Signature(payloads.quantizer_input(parameters))),
            "o": Out(stream.Signature(payloads.quantizer_output(parameters))),
            "clear": In(1),
            "saturated": Out(1),
            "poisoned": Out(1),
        }

    @property
    def latency(self) -> int:
        """Clocks from an accepted vector to its first group."""
        vector = sum(enabled_cuts(self._vector_cuts, self._vector_depth)) if self._vector_depth else 0
        return vector + (sum(enabled_cuts(self._group_cuts, self._group_depth)) if self._group_depth else 0)

    @property
    def throughput(self) -> str:
        """One group per clock."""
        return "one group per clock"

    def elaborate(self, platform: Any) -> Module:  # noqa: D102
        m = Module()
        if self.parameters.replays:
            self._with_replays(m)
        else:
            self._without_replays(m)
        return m

    # Without replays: a straight pipeline -----------------------------------------------------------------------------

    def _without_replays(self, m: Module) -> None:
        n, outliers = self.parameters.lanes, self.parameters.outliers
        pipe = Pipeline(m, self.i, self.o, cuts=self._vector_cuts, depth=self._vector_depth)
        s = run(pipe, self._flagged(m))
        digits = self._digits(m, s)
        if outliers:
            flags = named(m, "selectable", Mux(s["first_pass"], s["overflow"], 0))
            both = run(
                pipe, parallel(digits=digits, selection=select_outliers(m, flags, s["values"], outliers=outliers))
            )
            s = both["digits"]
            slots, selected = both["selection"]["slots"], both["selection"]["selected"]
        else:
            s = run(pipe, digits)
            slots, selected = None, Const(0, n)
        lost = named(m, "lost", s["overflow"] & ~selected)
        cleared = Signal(data.ArrayLayout(self.parameters.digit_width, n), name="cleared")
        for lane in range(n):
            m.d.comb += cleared[lane].eq(Mux(selected[lane], 0, s["digits"][lane]))
        group = {"exponent": s["code"], "digits": cleared}
        if slots is not None:
            group["outliers"] = slots
        output = Signal(self.o.payload.shape(), name="output")
        m.d.comb += [getattr(output.group, name).eq(value) for name, value in group.items()]
        m.d.comb += [
            output.last.eq(1),
            output.next_exponent.eq(s["next_exponent"]),
            output.overflow.eq(s["overflow"]),
            output.residual.eq(s["residual"]),
        ]
        leaves = named(m, "leaves", pipe.valid & pipe.advance)
        pipe.finish(output)
        self._stick(m, saturated=leaves & _any(lost), poisoned=leaves & s["poison"])

    # With replays: vectors, a loop over their groups, outlier slots ---------------------------------------------------

    def _with_replays(self, m: Module) -> None:
        n, outliers = self.parameters.lanes, self.parameters.outliers
        # A lane's rank among the flagged ones, as the group that takes it and the slot there.
        slot_width, group_width = max((outliers - 1).bit_length(), 1), (-(-n // outliers)).bit_length()
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
        saturates, poisons, leaves = Signal(name="saturates"), Signal(name="poisons"), Signal(name="leaves")
        s = self._flagged(m)
        if self._vector_depth:
            pipe = Pipeline(m, self.i, vector, cuts=self._vector_cuts, depth=self._vector_depth, name="vector_")
            s = run(pipe, s)
        else:
            s = settle(s)
        flags = named(m, "selectable", Mux(s["first_pass"], s["overflow"], 0))
        values = s["values"]
        both = parallel(digits=self._digits(m, s), ranks=self._ranks(m, flags, values, group_width, slot_width))
        both = run(pipe, both) if self._vector_depth else settle(both)
        ranks, s = both["ranks"], both["digits"]
        payload = Signal(layout, name="vector_payload")
        names = ("code", "digits", "next_exponent", "overflow", "residual")
        m.d.comb += [getattr(payload, name).eq(s[name]) for name in names]
        m.d.comb += [getattr(payload, name).eq(value) for name, value in ranks.items()]
        if self._vector_depth:
            m.d.comb += leaves.eq(pipe.valid & pipe.advance)
            pipe.finish(payload)
        else:
            m.d.comb += [vector.payload.eq(payload), vector.valid.eq(self.i.valid), self.i.ready.eq(vector.ready)]
            m.d.comb += leaves.eq(vector.valid & vector.ready)
        m.d.comb += [saturates.eq(_any(s["overflow"] & ~ranks["flags"])), poisons.eq(s["poison"])]
        self._stick(m, saturated=leaves & saturates, poisoned=leaves & poisons)
        self._groups(m, vector)

    def _ranks(self, m: Module, flags: Value, values: data.View, group_width: int, slot_width: int) -> Path:
        """Number of flagged lanes before each, as groups and slots; and the groups the vector makes."""
        n, outliers = self.parameters.lanes, self.parameters.outliers
        zero = Const(0, group_width)
        # Inclusive prefix counts, each a pair (groups, slots) with slots below m.
        if outliers == 1:
            counts = [(flags[lane], Const(0, 1)) for lane in range(n)]
        else:
            counts = [(zero, flags[lane]) for lane in range(n)]
        levels = (n - 1).bit_length()
        for level in range(levels):
            half, sums = 1 << level, {}
            for lane in range(n):
                if lane & half:
                    before, own = counts[(lane & -half) - 1], counts[lane]
                    slots = named(m, f"slots{2 * half}_{lane}", before[1] + own[1])
                    wraps = named(m, f"wraps{2 * half}_{lane}", slots >= outliers)
                    rest = named(m, f"slot{2 * half}_{lane}", Mux(wraps, slots - outliers, slots)[:slot_width])
                    total = named(m, f"group{2 * half}_{lane}", (before[0] + own[0] + wraps)[:group_width])
                    sums[lane] = (total, rest)
            counts = [sums.get(lane, count) for lane, count in enumerate(counts)]
            if level in (levels // 3, 2 * levels // 3):
                widths = [(len(group), len(slot)) for group, slot in counts]
                packed = named(m, f"ranks{2 * half}", Cat(Cat(*count) for count in counts))
                s = yield {"flags": flags, "values": values, "counts": packed}
                flags, values, packed = s["flags"], s["values"], s["counts"]
                counts, start = [], 0
                for group, slot in widths:
                    counts.append((packed[start : start + group], packed[start + group : start + group + slot]))
                    start += group + slot
        group = Signal(data.ArrayLayout(group_width, n), name="rank_group")
        slot = Signal(data.ArrayLayout(slot_width, n), name="rank_slot")
        for lane in range(1, n):
            m.d.comb += [group[lane].eq(counts[lane - 1][0]), slot[lane].eq(counts[lane - 1][1])]
        groups = named(m, "groups", (counts[-1][0] + counts[-1][1].any())[:group_width])
        return {"flags": flags, "values": values, "group": group, "slot": slot, "groups": groups}

    def _groups(self, m: Module, vector: Any) -> None:
        """Repeat a vector for each of its groups, and fill the slots of each."""
        n, outliers = self.parameters.lanes, self.parameters.outliers
        p = vector.payload
        number, last, groups = Signal.like(p.groups, name="number"), Signal(name="last"), Signal(name="replay")
        m.d.comb += [last.eq(number + 1 >= p.groups), groups.eq(number != 0)]
        issue = stream.Signature(1).create(path=("issue",))
        m.d.comb += [issue.valid.eq(vector.valid), vector.ready.eq(issue.ready & last)]
        with m.If(issue.valid & issue.ready):
            m.d.sync += number.eq(Mux(last, 0, number + 1))
        pairs = range(0, n, 2)
        taken = Signal(n, name="taken")
        here = Signal(data.ArrayLayout(len(pairs), outliers))
        left = Signal(data.ArrayLayout(len(pairs), outliers))
        m.d.comb += taken.eq(Cat(p.flags[lane] & (p.group[lane] == number) for lane in range(n)))
        for slot in range(outliers):
            at = [taken[lane] & (p.slot[lane] == slot) for lane in range(n)]
            m.d.comb += [
                left[slot].eq(Cat(at[lane] for lane in pairs)),
                here[slot].eq(Cat(at[lane] | at[min(lane + 1, n - 1)] for lane in pairs)),
            ]
        digits = Signal(p.digits.shape(), name="group_digits")
        for lane in range(n):
            m.d.comb += digits[lane].eq(Mux(groups, 0, p.digits[lane]))
        kept = {
            "code": p.code,
            "replay": groups,
            "digits": digits,
            "last": last,
            "next_exponent": p.next_exponent,
            "overflow": p.overflow,
            "residual": p.residual,
        }
        pipe = Pipeline(m, issue, self.o, cuts=self._group_cuts, depth=self._group_depth, name="group_")
        s = vars(pipe.cut(values=p.values, here=here, left=left, **kept))
        found = named(m, "found", Cat(_any(s["here"][slot]) for slot in range(outliers)))
        slots = multiplex_slots(m, s["values"], s["here"], s["left"], found)
        s = run(pipe, carry(slots, **{name: s[name] for name in kept}))
        output = Signal(self.o.payload.shape(), name="output")
        m.d.comb += [
            output.group.exponent.eq(s["code"]),
            output.group.replay.eq(s["replay"]),
            output.group.digits.eq(s["digits"]),
            output.group.outliers.eq(s["slots"]),
            output.last.eq(s["last"]),
            output.next_exponent.eq(s["next_exponent"]),
            output.overflow.eq(s["overflow"]),
            output.residual.eq(s["residual"]),
        ]
        pipe.finish(output)

    # Exponent and flags -----------------------------------------------------------------------------------------------

    def _flagged(self, m: Module) -> Path:
        """From the input to the exponent code, the overflow flags and how far each lane must be shifted."""
        k, n, outliers = self.parameters.digit_width, self.parameters.lanes, self.parameters.outliers
        p = self.i.p
        fits = Signal(data.ArrayLayout(EXPONENT_WIDTH, n), name="fits")
        infinite = Signal(n, name="infinite")
        for lane in range(n):
            m.d.comb += fits[lane].eq(_fit(m, k, lane, p.values[lane]))
            m.d.comb += infinite[lane].eq(p.values[lane][10:15].all())
        kept = {name: getattr(p, name) for name in ("by_group", "first_pass", "exponent", "floor", "values")}
        s = yield kept | {"fits": fits, "infinite": infinite}

        candidates, infinite = Const(-1, n), s["infinite"]
        above: list[Value] = []
        found: list[Value] = []
        poison = named(m, "poison", _any(infinite))
        for bit in reversed(range(EXPONENT_WIDTH)):
            ones = named(m, f"ones{bit}", Cat(candidates[lane] & s["fits"][lane][bit] for lane in range(n)))
            counts = [list(above), *([one] for one in ones)] if above else [[one] for one in ones]
            level = 0
            while len(counts) > 1:
                merged = []
                for index in range(0, len(counts), 2):
                    total = (
                        Cat(counts[index])
                        if index + 1 == len(counts)
                        else Cat(add_thermometers(counts[index], counts[index + 1], outliers + 1))
                    )
                    merged.append(list(named(m, f"above{bit}_{level}_{index // 2}", total)))
                counts, level = merged, level + 1
            total = counts[0]
            # More than m lanes are at least as large as the result with this bit set: it is set.
            is_set = named(m, f"set{bit}", total[outliers] if outliers < len(total) else 0)
            found.insert(0, is_set)
            candidates = named(
                m,
                f"candidates{bit}",
                Cat(candidates[lane] & (s["fits"][lane][bit] == is_set) for lane in range(n)),
            )
            before = Cat(above) if above else 0
            kept_above = (
                {"above": named(m, f"above{bit}", Mux(is_set, before, Cat(total))[:outliers])} if outliers else {}
            )
            s = yield {name: s[name] for name in (*kept, "fits")} | {
                "poison": poison,
                "candidates": candidates,
                "found": named(m, f"found{bit}", Cat(found)),
                **kept_above,
            }
            candidates, poison = s["candidates"], s["poison"]
            above = list(s["above"]) if outliers else []
            found = list(s["found"])

        chosen = named(m, "chosen", Mux(s["found"] < s["floor"], s["floor"], s["found"]))
        exponent = named(m, "code", Mux(s["by_group"] & s["first_pass"], chosen, s["exponent"]))
        s = yield {name: s[name] for name in ("first_pass", "floor", "values", "fits", "poison")} | {"code": exponent}

        code = s["code"]
        after = named(m, "after", code + 1)
        overflow = Signal(n, name="flags")
        shifts = Signal(data.ArrayLayout(4, n), name="shifts")
        for lane in range(n):
            # Right shift of the significand: c + 1 - max(field, 1). It is not negative where the lane fits, and from 12
            # on nothing is left.
            field = FLOAT16.field(s["values"][lane])
            distance = named(m, f"distance{lane}", (after - field)[: EXPONENT_WIDTH + 1])
            far = named(m, f"far{lane}", _any(distance[4:]) | distance[2:4].all())
            m.d.comb += [
                overflow[lane].eq((s["fits"][lane] > code) & ~s["poison"]),
                shifts[lane].eq(Mux(far, 12, distance[:4])),
            ]
        lower = named(m, "lower", code - (k - 1))
        follows = Mux(s["poison"] | (lower < s["floor"]), s["floor"], lower[:EXPONENT_WIDTH])
        s = yield {name: s[name] for name in ("first_pass", "values", "poison", "code")} | {
            "overflow": overflow,
            "shifts": shifts,
            "next_exponent": named(m, "next_exponent", follows),
        }
        return s

    # Digits and residuals ---------------------------------------------------------------------------------------------

    def _digits(self, m: Module, s: dict[str, Value]) -> Path:
        """Digits as if no lane were selected, residuals, and the exponent code of the group."""
        k, n, largest = self.parameters.digit_width, self.parameters.lanes, self.parameters.digit_max
        whole = Signal(data.ArrayLayout(k - 1, n), name="whole")
        rounds_up, nonzero = Signal(n, name="rounds_up"), Signal(n, name="nonzero")
        lower = Signal(data.ArrayLayout(11, n), name="lower")
        below = Signal(data.ArrayLayout(11, n), name="below")
        signs = Signal(n, name="signs")
        fields = Signal(data.ArrayLayout(5, n), name="fields")
        for lane in range(n):
            value, shift = s["values"][lane], s["shifts"][lane]
            significand = named(m, f"significand{lane}", FLOAT16.significand(value))
            shifted = named(m, f"shifted{lane}", (Cat(Const(0, 1), significand) >> shift)[:k])
            half, odd = shifted[0], shifted[1]
            # Tables of one bit per shift: comparators would become carry chains.
            m.d.comb += below[lane].eq(Cat((Const(-2 << bit, 16) >> shift)[0] for bit in range(11)))
            sticky = _any(significand[:10] & below[lane][1:])
            m.d.comb += [
                whole[lane].eq(shifted[1:]),
                rounds_up[lane].eq(half & (sticky | odd)),
                lower[lane].eq(Mux(s["overflow"][lane] | s["poison"], 0, significand & below[lane])),
                signs[lane].eq(FLOAT16.sign(value)),
                fields[lane].eq(FLOAT16.field(value)),
            ]
        kept = {name: s[name] for name in ("first_pass", "poison", "code", "next_exponent", "overflow")}
        s = yield kept | {
            "whole": whole,
            "rounds_up": rounds_up,
            "lower": lower,
            "below": below,
            "signs": signs,
            "fields": fields,
        }

        digits = Signal(data.ArrayLayout(k, n), name="digits")
        rest = Signal(data.ArrayLayout(11, n), name="rest_of")
        down = Signal(n, name="rest_negative")
        for lane in range(n):
            up, flagged, negative = s["rounds_up"][lane], s["overflow"][lane], s["signs"][lane]
            magnitude = s["whole"][lane]
            magnitude = Cat(bit ^ (up & magnitude[:index].all()) for index, bit in enumerate(magnitude))
            if self.parameters.replays:
                limited = Mux(flagged, Mux(s["first_pass"], 0, largest), magnitude)
            else:
                limited = Mux(flagged, largest, magnitude)
            limited = named(m, f"limited{lane}", Mux(s["poison"], 0, limited)[: k - 1])
            # Rounded up, the residual is what was missing: 2^shift - lower, the negative within the bits below the
            # digit. A negative number keeps its lowest one and inverts what is above.
            lower, below = s["lower"][lane], s["below"][lane]
            ones = named(m, f"ones{lane}", Cat(_any(lower[:index]) for index in range(11)))
            m.d.comb += [
                digits[lane].eq(Cat(_negated_bit(limited, index, negative) for index in range(k))),
                nonzero[lane].eq(_any(limited) | flagged),
                rest[lane].eq(Cat(lower[index] ^ (up & below[index] & ones[index]) for index in range(11))),
                down[lane].eq(negative ^ up),
            ]
        kept = {name: s[name] for name in ("first_pass", "poison", "code", "next_exponent", "overflow", "fields")}
        s = yield kept | {"digits": digits, "rest": rest, "down": down, "nonzero": nonzero}

        zeros = Signal(data.ArrayLayout(4, n), name="zeros")
        exponents = Signal(data.ArrayLayout(5, n), name="residual_fields")
        rests, negative = Signal(data.ArrayLayout(11, n), name="rests"), Signal(n, name="residual_negative")
        for lane in range(n):
            # A poisoned lane has rest 0 so far; with two ones on top and the field of all ones it is packed as NaN.
            rest = named(m, f"rest{lane}", s["rest"][lane] | Mux(s["poison"], 0x600, 0))
            count = named(m, f"zeros{lane}", leading_zeros(m, f"rest{lane}", rest))
            # The field after a left shift by all leading zeros; if it is not positive, the result is subnormal and the
            # field alone bounds the shift.
            field = s["fields"][lane]
            left = named(m, f"left{lane}", (field - count)[:6])
            short = named(m, f"short{lane}", left[5] | ~_any(left))
            m.d.comb += [
                zeros[lane].eq(Mux(short, field[:4] - 1, count)),
                exponents[lane].eq(left[:5] | Mux(s["poison"], 31, 0)),
                rests[lane].eq(rest),
                negative[lane].eq(s["down"][lane] & _any(s["rest"][lane])),
            ]
        empty = named(m, "empty", ~_any(s["nonzero"]))
        code = Mux(s["poison"], POISONED_GROUP, Mux(empty, ZERO_GROUP, s["code"]))
        kept = {name: s[name] for name in ("first_pass", "poison", "next_exponent", "overflow", "digits")}
        s = yield kept | {
            "code": named(m, "group_code", code),
            "zeros": zeros,
            "exponents": exponents,
            "rests": rests,
            "negative": negative,
        }

        residual = Signal(data.ArrayLayout(16, n), name="residual")
        for lane in range(n):
            fraction = shift_left(m, f"residual{lane}", s["rests"][lane], s["zeros"][lane], 11)
            # A subnormal has no hidden one: its field is 0.
            field = Mux(fraction[10], s["exponents"][lane], 0)[:5]
            m.d.comb += residual[lane].eq(Cat(fraction[:10], field, s["negative"][lane]))
        kept = {name: s[name] for name in ("first_pass", "poison", "code", "next_exponent", "overflow", "digits")}
        return kept | {"residual": residual}


def _negated_bit(magnitude: Value, index: int, negative: Value) -> Value:
    """Bit of ``-magnitude`` if `negative`, else of `magnitude`; in look-up tables, for a few bits."""
    bit = magnitude[index] if index < len(magnitude) else Const(0, 1)
    return bit ^ (negative & _any(magnitude[:index]))


def _fit(m: Module, k: int, lane: int, value: Value) -> Value:
    """Least exponent code at which a finite value fits a digit of k bits."""
    fraction, field = value[:10], value[10:15]
    # A normal value 1.f x 2^(field - 15) overflows once more when it is at least Q + 1/2 = 1.1..1 (k ones) x 2^(k - 2).
    more = fraction[11 - k :].all()
    grown = named(m, f"grown{lane}", Cat(bit ^ (more & field[:index].all()) for index, bit in enumerate(field)))
    normal = named(m, f"fit_normal{lane}", (grown + (11 - k))[:EXPONENT_WIDTH])
    # A subnormal overflows at code c when 2 f >= (2^k - 1) << c: some bit above, or k ones in a row.
    overflows = []
    for code in range(12 - k):
        row = fraction[code - 1 : code + k - 1].all() if code else Const(0, 1)
        overflows.append(_any(fraction[code + k - 1 :]) | row)
    overflows = named(m, f"overflows{lane}", Cat(overflows))
    least = [overflows[code] & (~overflows[code + 1] if code + 1 < len(overflows) else 1) for code in range(12 - k)]
    bits = [or_tree([top for code, top in enumerate(least) if (code + 1) >> bit & 1]) for bit in range(EXPONENT_WIDTH)]
    return Mux(field.any(), normal, Cat(bits))
