"""Deltas of a product to delta groups, a few lanes a clock: what `DeltaQuantizer` does with n lanes at once.

A row is u lanes. The rows of a vector wait in a RAM until its exponent is known. Each *scan* of them makes a group: the
passes of the vector, and behind the first one its replays. A scan that is not the last one writes back what the next
one needs: the residuals, or, where a replay follows, the values that found no slot yet.

::

    i --> fits -+-> ranks --> exponent ---.
                |                         v
                +-> Ram <--------> scan: digits, slots --> group --> o
                                         residuals
"""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import EXPONENT_WIDTH, POISONED_GROUP, ZERO_GROUP, Parameters
from hw import payloads
from hw.arith.bits import filled, looked_up, named, or_tree
from hw.arith.ranks import fill_slots, keep_largest
from hw.memory import Ram
from hw.part import Part
from hw.stream import Stage
from hw.units.delta_quantizer import digit_of, fit_of, residual_of, shift_of

_PASSES_WIDTH = 3


class ChainQuantizer(Part):
    """Makes delta groups of vectors of FP16 deltas, u lanes a clock (``docs/numerics.md``, section 3).

    Throughput: a row a clock; a vector takes as many scans of its n / u rows as it becomes groups. A scan that is not
    the last one takes 6 clocks at least, or m + 2, since the next one reads what it leaves.

    Numerics: exponent by group, or given; digits rounded to nearest, ties to even; residuals exact.

    Parameters
    ----------
    parameters : Parameters
        What shapes a group, the policies, and ``near_lanes``.

    Members
    -------
    i : In(stream of `payloads.chain_part`)
        Vectors.
    o : Out(stream of `payloads.chain_group`)
        Groups, pass by pass; replays follow the first.
    saturated, poisoned : Out(1)
        Events: a lane that did not fit was sent as the largest digit; a vector with a NaN or an infinity.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "i": In(stream.Signature(payloads.chain_part(parameters))),
            "o": Out(stream.Signature(payloads.chain_group(parameters))),
            "saturated": Out(1),
            "poisoned": Out(1),
        }

    @property
    def rows(self) -> int:
        """Rows of a vector."""
        return self._parameters.lanes // self._parameters.near_lanes

    def _row(self) -> data.StructLayout:
        u = self._parameters.near_lanes
        return data.StructLayout({"values": data.ArrayLayout(16, u), "fits": data.ArrayLayout(EXPONENT_WIDTH, u)})

    def _ranked(self) -> data.StructLayout:
        """A row on its way to the ranks."""
        p = self._parameters
        static = {"static": 1} if p.exponent_policy == "layer" else {}
        fields = {"row": self._row(), "infinite": 1, "last": 1, "end": 1, "floor": EXPONENT_WIDTH}
        return data.StructLayout({**fields, "passes": _PASSES_WIDTH, **static})

    def _vector(self) -> data.StructLayout:
        """What is known of a vector whose rows have all come; `replays` is the number of them."""
        replays = {"replays": range(self._most_replays + 1)} if self._parameters.replays else {}
        fields = {"exponent": EXPONENT_WIDTH, "floor": EXPONENT_WIDTH, "passes": _PASSES_WIDTH}
        return data.StructLayout({**fields, "poisoned": 1, "end": 1, **replays})

    @property
    def _most_replays(self) -> int:
        return -(-self._parameters.lanes // self._parameters.outliers) - 1

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, n_rows, k = self._parameters, self.rows, self._parameters.digit_width
        depth = 1 << (n_rows + 6 + p.outliers).bit_length()
        m.submodules.ram = ram = Ram(self._row(), depth)
        fitted, ranked, beats = (
            stream.Signature(layout).create(path=(name,))
            for name, layout in (("fitted", self._ranked()), ("ranked", self._ranked()), ("beats", unsigned(0)))
        )
        vectors = stream.Signature(self._vector()).create(path=("vectors",))
        self._fit(m, fitted)
        self._rank(m, ranked, vectors)

        vector, left = Signal(self._vector()), Signal(_PASSES_WIDTH, name="passes_left")
        active, first_pass, replay, beat = Signal(), Signal(), Signal(), Signal(range(n_rows + p.outliers + 8))
        base, address, written = (Signal(range(depth), name=name) for name in ("base", "address", "written"))
        level = Signal(range(depth + 1))
        replays = vector.replays if p.replays else Const(0, 1)
        follows = named(m, "follows", replays.any())
        final = named(m, "final", ~follows & ~left.any())
        there = named(m, "there", beat < n_rows)
        m.d.comb += beats.valid.eq(active & there)

        s = Stage.begin(m, beats, name="scan_")
        s.address, s.replay, s.first_pass, s.follows, s.final = address, replay, first_pass, follows, final
        s.code, s.poison, s.end, s.passes = vector.exponent, vector.poisoned, vector.end, vector.passes
        s.beat, s.last = beat[: max(n_rows - 1, 1).bit_length()], beat == n_rows - 1
        s.make("row", ram.read_data, held_by=ram.read_data)
        s = self._scan(s.cut(), m)
        period = max(n_rows, s.cuts)
        kept = named(m, "kept", s.moves & ~s.final)
        step, put = (Signal(name=name) for name in ("step", "put"))
        end = named(m, "end", beat == Mux(final, n_rows - 1, period - 1))
        m.d.comb += [
            step.eq(active & beats.ready),
            put.eq(fitted.valid & fitted.ready),
            # A row is ranked when it is stored.
            ranked.payload.eq(fitted.payload),
            ranked.valid.eq(fitted.valid & (level != depth) & ~kept),
            fitted.ready.eq(ranked.ready & (level != depth) & ~kept),
            vectors.ready.eq(~active | (step & end & final)),
            ram.read_enable.eq(beats.ready),
            ram.read_address.eq(address),
            ram.write_enable.eq(put | kept),
            ram.write_address.eq(Mux(kept, s.address, written)),
            ram.write_data.as_value().eq(Mux(kept, Cat(*s.left, *s.left_fits), fitted.p.row)),
        ]
        m.d.sync += [written.eq(written + put), level.eq(level + put - (step & there & final))]
        with m.If(step):
            m.d.sync += [beat.eq(Mux(end, 0, beat + 1)), address.eq(address + there)]
            with m.If(end & final):
                m.d.sync += [base.eq(address + 1), active.eq(0)]
            with m.Elif(end):
                lower = named(m, "lower", vector.exponent - (k - 1))
                m.d.sync += [address.eq(base), replay.eq(follows)]
                if p.replays:
                    m.d.sync += vector.replays.eq(replays - follows)
                with m.If(~follows):
                    m.d.sync += [
                        first_pass.eq(0),
                        left.eq(left - 1),
                        vector.exponent.eq(Mux(lower < vector.floor, vector.floor, lower)),
                    ]
        with m.If(vectors.valid & vectors.ready):
            m.d.sync += [vector.eq(vectors.p), left.eq(vectors.p.passes)]
            m.d.sync += [active.eq(1), first_pass.eq(1), replay.eq(0)]
        self._collect(s, m)
        return m

    def _fit(self, m: Module, fitted: stream.Interface) -> None:
        """Of each lane the least exponent that it fits."""
        p, i = self._parameters, self.i.p
        s = Stage.begin(m, self.i, name="fit_")
        s.values = list(i["values"])
        for name in ("last", "end", "floor", "passes"):
            s.make(name, getattr(i, name))
        s.static = i.static if p.exponent_policy == "layer" else Const(0, 1)
        lanes = [fit_of(s.instance(f"fit{lane}", value=value), p.digit_width) for lane, value in enumerate(s.values)]
        s, lanes = s.join(lanes)
        row = filled(m, "row", self._row(), values=list(s.values), fits=[lane.fit for lane in lanes])
        fields = {name: getattr(s, name) for name in ("last", "end", "floor", "passes")}
        if p.exponent_policy == "layer":
            fields["static"] = s.static
        infinite = or_tree(lane.infinite for lane in lanes)
        s.finish(fitted, filled(m, "fitted_row", self._ranked(), row=row, infinite=infinite, **fields), depth=s.cuts)

    def _rank(self, m: Module, ranked: stream.Interface, vectors: stream.Interface) -> None:
        """Of each vector its exponent, whether it is poisoned, and how many replays it needs."""
        p, i = self._parameters, ranked.p
        first, poisoned = Signal(init=1), Signal(name="poisoned_so_far")
        s = Stage.begin(m, ranked, name="rank_")
        s.first, s.poisoned = first, i.infinite | (poisoned & ~first)
        for name in ("last", "end", "floor", "passes"):
            s.make(name, getattr(i, name))
        with m.If(s.moves):
            m.d.sync += [first.eq(s.last), poisoned.eq(s.poisoned)]
        if p.exponent_policy == "layer":
            s.static = i.static
        if p.replays:
            counted = Signal(range(p.lanes + 1), name="counted_so_far")
            over = sum(fit > i.floor for fit in i.row.fits)
            s.make("over", (over + Mux(first, 0, counted))[: len(counted)], held_by=counted)
            with m.If(s.moves):
                m.d.sync += counted.eq(s.over)
        s, found = keep_largest(s, list(i.row.fits), p.outliers + 1)
        chosen = Mux(found < s.floor, s.floor, found)
        fields = {"floor": s.floor, "passes": s.passes, "poisoned": s.poisoned, "end": s.end, "exponent": chosen}
        if p.exponent_policy == "layer":
            fields["exponent"] = Mux(s.static, s.floor, chosen)
        if p.replays:
            groups = [max(-(-count // p.outliers), 1) for count in range(p.lanes + 1)]
            replays = looked_up(m, "replays", s.over, [count - 1 for count in groups])
            fields["replays"] = Mux(s.static & ~s.poisoned, replays, 0)
        s.valid = s.valid & s.last
        s.finish(vectors, filled(m, "vector_found", self._vector(), **fields), depth=s.cuts)

    def _scan(self, s: Stage, m: Module) -> Stage:
        """Digits and slots of a row, and what it leaves to the next scan: `left`, `left_fits`."""
        p = self._parameters
        after = named(m, "after", s.code + 1)
        s.values, s.fits = list(s.row["values"]), list(s.row.fits)
        s.shifts = [shift_of(m, lane, value, after) for lane, value in enumerate(s.values)]
        s.overflow = Cat((fit > s.code) & ~s.poison for fit in s.fits)

        s = s.cut()
        operands = enumerate(zip(s.values, s.shifts, s.overflow, strict=True))
        lanes = [
            digit_of(s.instance(f"lane{lane}", value=value, shift=shift, overflow=overflow), p)
            for lane, (value, shift, overflow) in operands
        ]
        slots = []
        if p.outliers:
            part = s.part("slots")
            part.beat, part.values = s.beat, s.values
            slots = [fill_slots(part, s.overflow, payloads.outlier(p), p.outliers)]
        s, lanes = s.join(lanes)
        s.digits = [lane.digit for lane in lanes]
        s, joined = s.join([*(residual_of(lane) for lane in lanes), *slots])
        left = [lane.residual for lane in joined[: p.near_lanes]]
        s.sent = Const(0, p.near_lanes)
        if p.outliers:
            s.slots = [getattr(joined[-1], f"slot{number}") for number in range(p.outliers)]
            s.sent = s.overflow & ~getattr(joined[-1], f"flags{p.outliers}")
        s.left, s.left_fits = left, [Const(0, EXPONENT_WIDTH)] * p.near_lanes
        if p.replays:
            lanes = list(enumerate(zip(s.values, left, s.fits, strict=True)))
            s.left = [Mux(s.follows, Mux(s.sent[lane], 0, value), rest) for lane, (value, rest, _) in lanes]
            s.left_fits = [Mux(s.follows & ~s.sent[lane], fit, 0) for lane, (_, _, fit) in lanes]
        return s

    def _collect(self, s: Stage, m: Module) -> None:
        """Rows of a scan to its group."""
        p = self._parameters
        digits = [Mux(s.sent[lane] | s.replay, 0, digit) for lane, digit in enumerate(s.digits)]
        before, something = Signal((p.lanes - p.near_lanes) * p.digit_width), Signal()
        row = named(m, "row_digits", Cat(*(digit[: p.digit_width] for digit in digits)))
        all_digits = named(m, "all_digits", Cat(before, row))
        found = named(m, "found", something | row.any() | (s.slots[0].valid if p.outliers else 0))
        with m.If(s.moves):
            m.d.sync += [before.eq(all_digits[len(row) :]), something.eq(found & ~s.last)]
        lost = Const(0, 1) if p.replays else (s.overflow & ~s.sent).any()
        m.d.comb += [
            self.saturated.eq(s.moves & lost),
            self.poisoned.eq(s.moves & s.poison & s.last & s.final),
        ]
        result = Signal(payloads.chain_group(p), name="result")
        group = result.group
        m.d.comb += [
            result.last.eq(s.final),
            result.end.eq(s.final & s.end),
            result.passes.eq(s.passes),
            group.exponent.eq(Mux(s.poison, POISONED_GROUP, Mux(found, s.code, ZERO_GROUP))),
            group.digits.eq(all_digits),
        ]
        if p.replays:
            m.d.comb += group.replay.eq(s.replay)
        if p.outliers:
            m.d.comb += group.outliers.eq(Cat(*s.slots))
        s.valid = s.valid & s.last
        s.finish(self.o, result, depth=s.cuts)
