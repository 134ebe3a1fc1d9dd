"""Fixed-point state: groups in its LSBs, their sums, and the new state."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import EXPONENT_WIDTH, ZERO_GROUP, Parameters
from hw import payloads
from hw.arith.bits import filled, named, or_tree
from hw.near_memory import layouts
from hw.near_memory.rows import Rows
from hw.part import Part
from hw.stream import Pipelined, Stage

_TERM_WIDTH = 42

_FRACTION = 12
"""Fraction bits kept of an outlier before rounding; an FP16 significand (11 bits) that falls below is under a half."""


class FixedTerms(Pipelined, Part):
    """Words in LSBs of the state: digits shifted, outliers shifted and rounded (ties to even).

    Latency: 3 clocks (at most ``pipeline_depth``). Throughput: one word per clock.

    Members
    -------
    i : In(stream of `layouts.word`)
        Words of groups.
    o : Out(stream of `layouts.fixed_terms`)
        What they add.
    state_exponent : In(6)
        Code of the state's LSB, ``s + 24``.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "i": In(stream.Signature(layouts.word(parameters))),
            "o": Out(stream.Signature(layouts.fixed_terms(parameters))),
            "state_exponent": In(EXPONENT_WIDTH),
        }

    def _describe(self, m: Module, platform: object) -> int:
        w, s = self.i.p, Stage.begin(m, self.i)
        s.first, s.final, s.refresh, s.address, s.bias = w.first, w.final, w.refresh, w.address, w.bias
        s.poisoned, s.empty, s.hits = w.poisoned, w.exponent >= ZERO_GROUP, list(w.hits)
        s.digits, s.digit_shift = list(w.digits), Mux(s.empty, 0, (w.exponent - self.state_exponent)[:6])
        # An outlier is M * 2^(E - 25) = M * 2^(E - 1 - state_exponent) LSBs.
        exponents = [value[10:15] for value in w.values]
        shifts = [
            named(m, f"outlier_shift{j}", (exponent - (exponent != 0) - self.state_exponent + _FRACTION)[:8])
            for j, exponent in enumerate(exponents)
        ]
        s.values, s.shifts, s.small = list(w.values), [shift[:6] for shift in shifts], [shift[7] for shift in shifts]

        s = s.cut()
        s.digits = [(Mux(s.empty, 0, digit) << s.digit_shift)[:_TERM_WIDTH].as_signed() for digit in s.digits]
        outliers = zip(s.values, s.shifts, s.small, strict=True)
        s.magnitudes = [
            Mux(small, 0, Cat(value[:10], value[10:15].any()) << shift)[: _TERM_WIDTH - 1 + _FRACTION]
            for value, shift, small in outliers
        ]
        s.negative, s.nonfinite = Cat(value[15] for value in s.values), Cat(value[10:15].all() for value in s.values)

        s = s.cut()
        rounded = []
        for magnitude, negative in zip(s.magnitudes, s.negative, strict=True):
            whole, fraction = magnitude[_FRACTION:], magnitude[:_FRACTION]
            up = fraction[-1] & (fraction[:-1].any() | whole[0])
            # -(whole + up) = ~whole + 1 - up: the sign flips the bits and the carry, and one adder does both.
            rounded.append((Cat(whole ^ negative.replicate(len(whole)), negative), up ^ negative))
        terms = []
        for digit, hits in zip(s.digits, s.hits, strict=True):
            chosen = or_tree(Mux(hit, value, 0) for hit, (value, _) in zip(hits, rounded, strict=True))
            carry = or_tree(hit & up for hit, (_, up) in zip(hits, rounded, strict=True))
            value = Mux(hits.any(), chosen, digit.as_unsigned()) if rounded else digit.as_unsigned()
            terms.append(Cat(value[:_TERM_WIDTH], carry, s.poisoned | (hits & s.nonfinite).any()))
        fields = {name: getattr(s, name) for name in ("first", "final", "refresh", "address", "bias")}
        payload = filled(m, "payload", self.o.payload.shape(), terms=terms, **fields)
        return s.finish(self.o, payload, depth=self._parameters.pipeline_depth)


class FixedSums(Part):
    """Running sums over the groups of a vector, limited to what the state can notice.

    Latency: 1 clock. Throughput: one word per clock.

    Members
    -------
    i : In(stream of `layouts.fixed_terms`)
        What the words add.
    o : Out(stream of `layouts.fixed_delta`)
        The sums, once per word of a vector.
    poisoned : Out(1)
        A poisoned term passes in this clock.
    """

    latency = 1

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "i": In(stream.Signature(layouts.fixed_terms(parameters))),
            "o": Out(stream.Signature(layouts.fixed_delta(parameters))),
            "poisoned": Out(1),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, i, o, width = self._parameters, self.i, self.o, self._parameters.state_width
        m.submodules.running = running = Rows(layouts.running_sum(p), p.words_per_vector, ahead=True)
        step = Signal()
        m.d.comb += [
            i.ready.eq(~i.p.final | ~o.valid | o.ready),
            step.eq(i.valid & i.ready),
            running.step.eq(step),
            running.store.eq(step & ~i.p.final),
            self.poisoned.eq(step & Cat(term.poisoned for term in i.p.terms).any()),
        ]
        totals = Signal(layouts.running_sum(p))
        for before, bias, term, after, total, delta in zip(
            running.kept, i.p.bias, i.p.terms, running.row, totals, o.p.deltas, strict=True
        ):
            value = total.value.as_unsigned()
            # +-(2^w - 1) and what is beyond clamp whatever the state is, so w + 1 bits say enough.
            top = value[width:]
            fits = top.all() | ~top.any()
            limit = Cat(Const(1, 1), (~value[-1]).replicate(width - 1), value[-1])
            m.d.comb += [
                after.value.eq(Mux(i.p.first, bias, before.value) + term.value + term.carry),
                after.poisoned.eq(term.poisoned | (before.poisoned & ~i.p.first)),
                delta.value.eq(Mux(fits, value[: width + 1], limit)),
                delta.poisoned.eq(total.poisoned),
            ]
        with m.If(o.ready):
            m.d.sync += o.valid.eq(0)
        with m.If(step & i.p.final):
            m.d.sync += [
                o.valid.eq(1),
                o.p.refresh.eq(i.p.refresh),
                o.p.address.eq(i.p.address),
                totals.eq(running.row),
            ]
        return m


class FixedUpdate(Pipelined, Part):
    """Adds deltas to fixed-point state, clamps it, finds the masks.

    Latency: 3 clocks (at most ``pipeline_depth``). Throughput: one word per clock.

    Members
    -------
    i : In(stream of `layouts.joined` of `layouts.fixed_delta`)
        Deltas and state.
    o : Out(stream of `layouts.result`)
        New state.
    thresholds : In(array of state elements)
        See the engine.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        p = parameters
        members = {
            "i": In(stream.Signature(layouts.joined(p, layouts.fixed_delta(p)))),
            "o": Out(stream.Signature(layouts.result(p))),
        }
        if p.mask_width > 1:
            members["thresholds"] = In(data.ArrayLayout(payloads.state_element(p), 2**p.mask_width - 1))
        return members

    def _describe(self, m: Module, platform: object) -> int:
        p, i, s = self._parameters, self.i.p, Stage.begin(m, self.i)
        width = p.state_width
        poison, largest = -(1 << (width - 1)), (1 << (width - 1)) - 1
        s.refresh, s.address, s.deltas, s.state = i.refresh, i.address, i.deltas, list(i.state)

        s = s.cut()
        old = [Mux(s.refresh, 0, element) for element in s.state]
        s.sums = [(value + delta.value)[: width + 2].as_signed() for value, delta in zip(old, s.deltas, strict=True)]
        was_poison = Cat(element == poison for element in s.state)
        s.incomparable = was_poison | s.refresh.replicate(len(was_poison))
        poisoned = (was_poison[lane] & ~s.refresh for lane in range(p.memory_lanes))
        s.poisoned = Cat(delta.poisoned | before for delta, before in zip(s.deltas, poisoned, strict=True))
        s.old_negative = Cat(value[-1] for value in old)

        s = s.cut()
        new, overflows, masks, flips = [], [], [], []
        for lane, (total, poisoned) in enumerate(zip(s.sums, s.poisoned, strict=True)):
            high, low = total > largest, total < -largest
            clamped = Mux(high, largest, Mux(low, -largest, total[:width].as_signed()))
            value = named(m, f"new{lane}", Mux(poisoned, poison, clamped)[:width].as_signed())
            new.append(value)
            overflows.append((high | low) & ~poisoned)
            # Poison is negative too.
            at_least = [value >= threshold for threshold in self.thresholds] if p.mask_width > 1 else []
            masks.append(sum((reached & ~poisoned for reached in at_least), Const(0, 1)) if at_least else ~value[-1])
            flips.append((value[-1] != s.old_negative[lane]) & ~poisoned & ~s.incomparable[lane])
        fields = {"flips": Cat(flips)} if p.flip_repair else {}
        result = filled(
            m,
            "result",
            self.o.payload.shape(),
            address=s.address,
            overflow=or_tree(overflows),
            data=new,
            mask=masks,
            **fields,
        )
        return s.finish(self.o, result, depth=p.pipeline_depth)
