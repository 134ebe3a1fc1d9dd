# amaranth: UnusedElaboratable=no
"""FP16 state: groups as FP16 values, added one after another, then the bias."""

import functools
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import EXPONENT_WIDTH, ZERO_GROUP, Parameters
from hw import payloads
from hw.arith.bits import filled, named, or_tree
from hw.arith.float import FLOAT16
from hw.near_memory import layouts
from hw.near_memory.adders import Adders
from hw.near_memory.rows import Rows
from hw.part import Part
from hw.stream import Stage, count_stages


class HalfTerms(Part):
    """Words as FP16 values to add, with the bias of their vector.

    Latency: 3 clocks (at most ``pipeline_depth``). Throughput: one word per clock.

    Members
    -------
    i : In(stream of `layouts.word`)
        Words of groups.
    o : Out(stream of `layouts.half_terms`)
        What they add.
    poisoned : Out(1)
        A value or bias that is no finite number passes in this clock.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "i": In(stream.Signature(layouts.word(parameters))),
            "o": Out(stream.Signature(layouts.half_terms(parameters))),
            "poisoned": Out(1),
        }

    @functools.cached_property
    def latency(self) -> int:
        """Clocks from a word to its values."""
        return count_stages(lambda m: self._values(m, stream.Signature(self._valued).create(path=("valued",))))

    @property
    def _valued(self) -> data.StructLayout:
        terms = layouts.half_terms(self._parameters).members
        return data.StructLayout({**terms, "poisoned": self._parameters.memory_lanes})

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, o = self._parameters, self.o
        valued = stream.Signature(self._valued).create(path=("valued",))
        self._values(m, valued)
        # The bias comes with a vector's first group and is added after its last.
        m.submodules.bias = biases = Rows(payloads.memory_word(p), p.words_per_vector, ahead=True)
        v, step = valued.p, Signal()
        m.d.comb += [
            step.eq(valued.valid & valued.ready),
            biases.step.eq(step),
            biases.store.eq(step & v.first),
            biases.row.eq(v.bias),
            o.valid.eq(valued.valid),
            valued.ready.eq(o.ready),
            *(o.p[name].eq(v[name]) for name in layouts.half_terms(p).members if name != "bias"),
            o.p.bias.eq(Mux(v.first, v.bias, biases.kept)),
            self.poisoned.eq(step & v.poisoned.any()),
        ]
        return m

    def _values(self, m: Module, valued: stream.Interface) -> int:
        w, s = self.i.p, Stage.begin(m, self.i)
        s.first, s.final, s.refresh, s.address, s.bias = w.first, w.final, w.refresh, w.address, list(w.bias)
        s.poisoned, s.exponent, s.digits = w.poisoned, w.exponent, list(w.digits)
        s.values, s.hits = list(w.values), list(w.hits)

        s = s.cut()
        empty = s.exponent >= ZERO_GROUP
        halves = [_digit_to_half(m, f"digit{lane}", digit, s.exponent) for lane, digit in enumerate(s.digits)]
        s.patterns = [Mux(empty, 0, pattern)[:16] for pattern, _ in halves]
        s.clamped = Cat(~empty & beyond for _, beyond in halves)

        s = s.cut()
        patterns, clamped, poisoned = [], [], []
        for pattern, beyond, hits, bias in zip(s.patterns, s.clamped, s.hits, s.bias, strict=True):
            chosen = or_tree(Mux(hit, value, 0) for hit, value in zip(hits, s.values, strict=True))
            pattern = Mux(hits.any(), chosen, pattern)[:16] if s.values else pattern
            patterns.append(Mux(s.poisoned, FLOAT16.nan, pattern))
            clamped.append(beyond & ~hits.any() & ~s.poisoned)
            bad_bias = s.first & ~FLOAT16.is_finite(bias)
            poisoned.append(s.poisoned | ~FLOAT16.is_finite(pattern) | bad_bias)
        fields = {name: getattr(s, name) for name in ("first", "final", "refresh", "address", "bias")}
        fields |= {"values": patterns, "clamped": Cat(clamped), "poisoned": Cat(poisoned)}
        payload = filled(m, "values", valued.payload.shape(), **fields)
        return s.finish(valued, payload, depth=self._parameters.pipeline_depth)


class HalfUpdate(Part):
    """Adds a vector's groups to its FP16 state one after another, then the bias; finds the masks.

    Latency: twice that of the adders, and 1 clock. Throughput: one word per clock; the groups of one vector follow each
    other no faster than the adders return.

    Members
    -------
    i : In(stream of `layouts.joined` of `layouts.half_terms`)
        Values and state.
    o : Out(stream of `layouts.result`)
        New state.
    thresholds : In(array of state elements)
        See the engine.
    overflow : Out(1)
        A group's sum is clamped in this clock.
    """

    def __init__(self, parameters: Parameters):
        super().__init__(parameters)
        p = parameters
        lanes, values = p.memory_lanes, payloads.memory_word(p)
        # What travels beside the adders: the old state's sign and whether a flip against it means anything.
        old = {"old_negative": lanes, "incomparable": lanes}
        self._running = data.StructLayout({"values": values, **old})
        place = {"final": 1, "address": payloads.address_width}
        beside = data.StructLayout({**place, "bias": values, "clamped": lanes, **old})
        self._groups, self._biases = Adders(p, beside), Adders(p, beside)

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        p = parameters
        members = {
            "i": In(stream.Signature(layouts.joined(p, layouts.half_terms(p)))),
            "o": Out(stream.Signature(layouts.result(p))),
            "overflow": Out(1),
        }
        if p.mask_width > 1:
            members["thresholds"] = In(data.ArrayLayout(payloads.state_element(p), 2**p.mask_width - 1))
        return members

    @property
    def latency(self) -> int:
        """Clocks from the last word of a vector's groups to its result."""
        return 1 + self._groups.latency + self._biases.latency

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        n_words = self._parameters.words_per_vector
        m.submodules.groups, m.submodules.biases = groups, biases = self._groups, self._biases
        m.submodules.running = running = Rows(self._running, n_words, ahead=False)
        fetched = self._fetch(m, running, groups)
        self._start(m, fetched, running, groups)

        sums, beside = groups.o, groups.o.p.beside
        finish, final = Signal(name="add_finish"), beside.final
        clamped = sums.p.overflow | (beside.clamped & Cat(FLOAT16.is_finite(value) for value in sums.p.values))
        m.d.comb += [
            finish.eq(sums.valid & sums.ready),
            sums.ready.eq(biases.i.ready | ~final),
            biases.i.valid.eq(sums.valid & final),
            biases.i.p.a.eq(sums.p.values),
            biases.i.p.b.eq(beside.bias),
            biases.i.p.beside.eq(beside),
            running.finish.eq(finish),
            running.store.eq(finish & ~final),
            running.row.values.eq(sums.p.values),
            running.row.old_negative.eq(beside.old_negative),
            running.row.incomparable.eq(beside.incomparable),
            self.overflow.eq(finish & clamped.any()),
        ]
        self._finish(m, biases.o)
        return m

    def _fetch(self, m: Module, running: Rows, groups: Adders) -> stream.Interface:
        """A word beside what the group before left for it.

        A group's word may only start when the word of the group before has been kept: fewer words than a vector's are
        then between start and keeping.
        """
        i, n_words = self.i, self._parameters.words_per_vector
        fetched = stream.Signature(i.payload.shape()).create(path=("fetched",))
        between = Signal(range(4 * groups.latency + 4))
        free, start = Signal(name="fetch_free"), Signal(name="add_start")
        m.d.comb += [
            free.eq((~fetched.valid | fetched.ready) & (i.p.first | (between < n_words))),
            i.ready.eq(free),
            start.eq(i.valid & free),
            running.step.eq(start),
        ]
        m.d.sync += between.eq(between + start - running.finish)
        with m.If(fetched.ready):
            m.d.sync += fetched.valid.eq(0)
        with m.If(start):
            m.d.sync += [fetched.valid.eq(1), fetched.payload.eq(i.payload)]
        return fetched

    def _start(self, m: Module, fetched: stream.Interface, running: Rows, groups: Adders) -> None:
        """The old state, or the sum so far, into the adders."""
        f, kept, beside = fetched.p, running.kept, groups.i.p.beside
        first = f.first.replicate(self._parameters.memory_lanes)
        negative = Cat(state[15] & state[:15].any() for state in f.state)
        incomparable = Cat(f.refresh | ~FLOAT16.is_finite(state) for state in f.state)
        m.d.comb += [
            groups.i.valid.eq(fetched.valid),
            fetched.ready.eq(groups.i.ready),
            groups.i.p.a.eq(Mux(f.first, Mux(f.refresh, 0, f.state.as_value()), kept.values.as_value())),
            groups.i.p.b.eq(f.values),
            beside.old_negative.eq((negative & first) | (kept.old_negative & ~first)),
            beside.incomparable.eq((incomparable & first) | (kept.incomparable & ~first)),
            *(beside[name].eq(f[name]) for name in ("final", "address", "bias", "clamped")),
        ]

    def _finish(self, m: Module, totals: stream.Interface) -> None:
        """New state, masks and flips."""
        p, o, beside = self._parameters, self.o, totals.p.beside
        m.d.comb += [
            o.valid.eq(totals.valid),
            totals.ready.eq(o.ready),
            o.p.address.eq(beside.address),
            o.p.overflow.eq(totals.p.overflow.any()),
            o.p.data.eq(totals.p.values),
        ]
        for lane, value in enumerate(totals.p.values):
            finite = FLOAT16.is_finite(value)
            if p.mask_width == 1:
                mask = ~value[15] & finite
            else:
                mask = sum((_ordered(value) >= _ordered(threshold)) & finite for threshold in self.thresholds)
            m.d.comb += o.p.mask[lane].eq(mask)
            if p.flip_repair:
                flip = (value[15] != beside.old_negative[lane]) & finite & ~beside.incomparable[lane]
                m.d.comb += o.p.flips[lane].eq(flip)


def _ordered(pattern: Value) -> Value:
    """A signed integer ordered like the finite numbers of FP16, both zeros alike."""
    return Mux(pattern[15], -pattern[:15], pattern[:15])


def _digit_to_half(m: Module, name: str, digit: Value, code: Value) -> tuple[Value, Value]:
    """FP16 pattern of ``digit * 2^(code - 24)``, clamped, and whether it was."""
    width = len(digit) - 1
    negative = digit < 0
    magnitude = named(m, f"{name}_magnitude", Mux(negative, -digit, digit)[:width])
    # Left-justified; `place` is where its leading one stands, counted from FP16's least subnormal.
    top, place = Signal(width, name=f"{name}_top"), Signal(EXPONENT_WIDTH + 1, name=f"{name}_place")
    for zeros in reversed(range(width)):  # the last assignment, that of the highest bit, counts
        with m.If(magnitude[width - 1 - zeros]):
            m.d.comb += [top.eq(magnitude << zeros), place.eq(code + (width - 1 - zeros))]
    # Below 2^10 of the least subnormal the integer itself is the pattern.
    small = named(m, f"{name}_small", (magnitude << code)[:10])
    beyond = magnitude.any() & (place > 39)
    normal = Cat(Const(0, 11 - width), top[:-1], (place - 9)[:5])
    pattern = Mux(beyond, FLOAT16.largest, Mux(place < 10, small, normal))
    return Cat(pattern[:15], negative), beyond
