"""The leftmost-outlier selection circuit: the first m of n flagged lanes, their values, and the flags left over.

A *thermometer* is a count written as m bits, bit j set when the count is above j; it saturates at m by itself. Lane i's
thermometer counts the flags of lanes 0..i. Slot j belongs to the lane where bit j of the thermometers rises.
"""

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, ValueLike
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw import payloads
from hw.stream import Pipeline, enabled_cuts
from hw.units.unit import Unit

__all__ = ["OutlierSelector", "add_thermometers", "or_tree", "select_outliers", "selection_cuts"]

_TABLES_PER_CUT = 4
"""Look-up tables in a row that the prefix count may take between two cuts."""

_TERMS_PER_CUT = 8
"""Pairs of lanes a slot's multiplexer takes in before the last cut."""


def or_tree(values: list[Value]) -> Value:
    """OR of all values, as a tree."""
    if not values:
        return Const(0, 1)
    while len(values) > 1:
        values = [
            values[index] | values[index + 1] if index + 1 < len(values) else values[index]
            for index in range(0, len(values), 2)
        ]
    return values[0]


def add_thermometers(a: list[Value], b: list[Value], limit: int) -> list[Value]:
    """Thermometer of the sum of two counts, saturating at `limit`."""
    reach = min(len(a) + len(b), limit)
    # The sum is at least c when, for some split c = x + y, the counts are at least x and y.
    return [
        or_tree(
            [
                a[x - 1] & b[y - 1] if x and y else a[x - 1] if x else b[y - 1]
                for x in range(count + 1)
                for y in [count - x]
                if x <= len(a) and y <= len(b)
            ]
        )
        for count in range(1, reach + 1)
    ]


def _levels_before_cuts(lanes: int, outliers: int) -> list[int]:
    """After which levels of the prefix count there is a cut; the last level has the one of its pairs."""
    levels = (lanes - 1).bit_length()
    cuts, tables = [], 0.0
    for level in range(levels):
        # A LUT4 takes four flags, so two levels of OR or the first two levels of any count.
        cost = 0.5 if outliers == 1 or level < 2 else 1 if outliers == 2 else 2 if outliers <= 4 else 3
        if tables + cost + (level == levels - 1) > _TABLES_PER_CUT:
            cuts.append(level - 1)
            tables = 0.0
        tables += cost
    return cuts


def selection_cuts(lanes: int, outliers: int) -> int:
    """Inner cuts that `select_outliers` uses for so many lanes and outliers."""
    return len(_levels_before_cuts(lanes, outliers)) + 1 + (lanes > 2 * _TERMS_PER_CUT)


def select_outliers(
    m: Module,
    cut: Callable[..., SimpleNamespace],
    flags: ValueLike,
    values: data.View,
    *,
    outliers: int,
    **carried: ValueLike,
) -> SimpleNamespace:
    """Select the first `outliers` flagged lanes.

    Latency: `selection_cuts` calls of `cut`; between them at most about five look-up tables in a row.

    ::

        flags  0 0 1 0 1 1 0 1
        count  0 0 1 1 2 3 3 4     prefix count in log2(n) levels, as thermometers
        bit 0  0 0 1 1 1 1 1 1     slot 0: lane 2, where bit 0 rises
        bit 1  0 0 0 0 1 1 1 1     slot 1: lane 4
        rest   0 0 0 0 0 1 0 1     flags of lanes before which bit m-1 has risen (m = 2)

    Parameters
    ----------
    m : Module
        Module to add to.
    cut : function
        Passes named values through the next place for registers, like `Pipeline.cut`.
    flags : value
        n flags.
    values : view
        Array of n values.
    outliers : int
        m, at least 1.
    **carried : value
        Values that travel beside the selection.

    Returns
    -------
    namespace
        ``slots`` (list of `valid`, `lane`, `value`), ``selected`` and ``rest`` (n bits each), and `carried`.
    """
    shape = values.shape()
    n, width = shape.length, values[0].shape().width
    flags = Value.cast(flags)
    counts: list[list[Value]] = [[flags[lane]] for lane in range(n)]
    cut_after = _levels_before_cuts(n, outliers)
    for level in range((n - 1).bit_length()):
        half = 1 << level
        sums = {}
        # Sklansky's prefix tree: the right half of each block of 2 * half lanes adds the count of the left half.
        for lane in range(n):
            if lane & half:
                total = Cat(add_thermometers(counts[(lane & -half) - 1], counts[lane], outliers))
                # A signal of its own: the simulator would otherwise evaluate the shared terms again for each use.
                count = Signal(len(total), name=f"count{2 * half}_{lane}")
                m.d.comb += count.eq(total)
                sums[lane] = list(count)
        counts = [sums.get(lane, count) for lane, count in enumerate(counts)]
        if level in cut_after:
            lengths = [len(count) for count in counts]
            packed = Signal(sum(lengths), name=f"counts{2 * half}")
            m.d.comb += packed.eq(Cat(Cat(*count) for count in counts))
            s = cut(flags=flags, values=values, counts=packed, **carried)
            flags, values = s.flags, s.values
            carried = {name: getattr(s, name) for name in carried}
            starts = itertools.accumulate(lengths, initial=0)
            counts = [list(s.counts[start : start + length]) for start, length in zip(starts, lengths, strict=False)]

    def above(lane: int, slot: int) -> Value:
        return counts[lane][slot] if lane >= 0 and slot < len(counts[lane]) else Const(0, 1)

    # Lanes go by pairs: bit j rises in the pair (`here`), and the first lane's bit tells in which one of the two
    # (`first`). So a term of four inputs serves two lanes.
    pairs = [(lane, min(lane + 1, n - 1)) for lane in range(0, n, 2)]
    here = Signal(data.ArrayLayout(len(pairs), outliers), name="here")
    first = Signal(data.ArrayLayout(len(pairs), outliers), name="first")
    full = Signal(n, name="full")
    found = Signal(outliers, name="found")
    for slot in range(outliers):
        m.d.comb += [
            here[slot].eq(Cat(above(right, slot) & ~above(left - 1, slot) for left, right in pairs)),
            first[slot].eq(Cat(above(left, slot) for left, _ in pairs)),
            found[slot].eq(above(n - 1, slot)),
        ]
    m.d.comb += full.eq(Cat(above(lane - 1, outliers - 1) for lane in range(n)))
    s = cut(rest=flags & full, selected=flags & ~full, values=values, here=here, first=first, found=found, **carried)

    quarters = data.ArrayLayout(width + (n - 1).bit_length(), -(-len(pairs) // _TERMS_PER_CUT))
    partial = Signal(data.ArrayLayout(quarters, outliers), name="partial")
    for slot in range(outliers):
        terms = []
        for index, (left, right) in enumerate(pairs):
            fields = [Cat(s.values[lane], Const(lane, (n - 1).bit_length())) for lane in (left, right)]
            terms.append(Mux(s.here[slot][index], Mux(s.first[slot][index], fields[0], fields[1]), 0))
        for part in range(quarters.length):
            start = part * _TERMS_PER_CUT
            m.d.comb += partial[slot][part].eq(or_tree(terms[start : start + _TERMS_PER_CUT]))
    carried = {name: getattr(s, name) for name in carried} | {"rest": s.rest, "selected": s.selected}
    if quarters.length > 1:
        s = cut(partial=partial, found=s.found, **carried)
        carried = {name: getattr(s, name) for name in carried}
        partial = s.partial
    slots = []
    for slot in range(outliers):
        fields = or_tree([partial[slot][part] for part in range(quarters.length)])
        slots.append(SimpleNamespace(valid=s.found[slot], value=fields[:width], lane=fields[width:]))
    return SimpleNamespace(slots=slots, **carried)


class OutlierSelector(Unit):
    """Finds the first m flagged lanes of a vector, lane 0 first (``docs/numerics.md``, section 4).

    Latency: ``latency`` clocks, 2 (n=16, m=1) to 5 (n=60, m=4) at full depth. Throughput: one vector per clock.

    Numerics: none; values pass unchanged.

    Parameters
    ----------
    parameters : Parameters
        ``lanes``, ``outliers`` and ``pipeline_depth`` matter.

    Members
    -------
    i : In(stream)
        `payloads.selector_input`: flags and values.
    o : Out(stream)
        `payloads.selector_output`: outlier slots and the flags left over.
    """

    name = "outlier_selector"
    summary = "leftmost-outlier selection: the first m of n flagged lanes"

    def __init__(self, parameters: Parameters):
        if not isinstance(parameters, Parameters):
            raise TypeError(f"parameters must be Parameters, not {parameters!r}")
        super().__init__(
            parameters,
            {
                "i": In(stream.Signature(payloads.selector_input(parameters))),
                "o": Out(stream.Signature(payloads.selector_output(parameters))),
            },
        )

    @property
    def _cuts(self) -> int:
        lanes, outliers = self.parameters.lanes, self.parameters.outliers
        return 1 + (selection_cuts(lanes, outliers) if outliers else 0)

    @property
    def latency(self) -> int:
        """Clocks from an accepted vector to its slots."""
        return sum(enabled_cuts(self._cuts, self.parameters.pipeline_depth))

    @property
    def throughput(self) -> str:
        """One vector per clock."""
        return "one vector per clock"

    def elaborate(self, platform: Any) -> Module:  # noqa: D102
        m = Module()
        parameters = self.parameters
        pipe = Pipeline(m, self.i, self.o, cuts=self._cuts, depth=parameters.pipeline_depth)
        if not parameters.outliers:
            pipe.finish(Cat(self.i.p.flags))
            return m
        found = select_outliers(m, pipe.cut, self.i.p.flags, self.i.p.values, outliers=parameters.outliers)
        slots = Cat(Cat(slot.valid, slot.lane, slot.value) for slot in found.slots)
        pipe.finish(Cat(slots, found.rest))
        return m
