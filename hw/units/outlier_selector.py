"""The leftmost-outlier selection circuit: the first m of n flagged lanes, their values, and the flags left over.

A *thermometer* is a count written as m bits, bit j set when the count is above j; it saturates at m by itself. Lane i's
thermometer counts the flags of lanes 0..i. Slot j belongs to the lane where bit j of the thermometers rises.
"""

import itertools
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw import payloads
from hw.arith.path import Path, carry, run
from hw.arith.shift import named
from hw.stream import Pipeline, enabled_cuts
from hw.units.unit import Unit

__all__ = [
    "OutlierSelector",
    "add_thermometers",
    "multiplex_cuts",
    "multiplex_slots",
    "or_tree",
    "select_outliers",
    "selection_cuts",
]

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
    return len(_levels_before_cuts(lanes, outliers)) + 1 + multiplex_cuts(lanes)


def select_outliers(m: Module, flags: Value, values: data.View, *, outliers: int) -> Path:
    """Select the first `outliers` flagged lanes.

    Latency: `selection_cuts`, between them about five look-up tables in a row.

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
    flags : value
        n flags.
    values : view
        Array of n values.
    outliers : int
        m, at least 1.

    Returns
    -------
    dict
        ``slots`` (view of m of `valid`, `lane`, `value`), ``selected`` and ``rest`` (n bits each).
    """
    n = len(flags)
    counts: list[list[Value]] = [[flags[lane]] for lane in range(n)]
    cut_after = _levels_before_cuts(n, outliers)
    for level in range((n - 1).bit_length()):
        half = 1 << level
        sums = {}
        # Sklansky's prefix tree: the right half of each block of 2 * half lanes adds the count of the left half.
        for lane in range(n):
            if lane & half:
                total = Cat(add_thermometers(counts[(lane & -half) - 1], counts[lane], outliers))
                sums[lane] = list(named(m, f"count{2 * half}_{lane}", total))
        counts = [sums.get(lane, count) for lane, count in enumerate(counts)]
        if level in cut_after:
            lengths = [len(count) for count in counts]
            packed = named(m, f"counts{2 * half}", Cat(Cat(*count) for count in counts))
            s = yield {"flags": flags, "values": values, "counts": packed}
            flags, values, packed = s["flags"], s["values"], s["counts"]
            starts = itertools.accumulate(lengths, initial=0)
            counts = [list(packed[start : start + length]) for start, length in zip(starts, lengths, strict=False)]

    def above(lane: int, slot: int) -> Value:
        return counts[lane][slot] if lane >= 0 and slot < len(counts[lane]) else Const(0, 1)

    full = named(m, "full", Cat(above(lane - 1, outliers - 1) for lane in range(n)))
    selected, rest = named(m, "selected", flags & ~full), named(m, "rest", flags & full)
    # Bit j rises in a pair of lanes (`here`), and the left lane's bit tells in which one of the two (`left`).
    pairs = range(0, n, 2)
    here = Signal(data.ArrayLayout(len(pairs), outliers))
    left = Signal(data.ArrayLayout(len(pairs), outliers))
    for slot in range(outliers):
        rises = (above(min(lane + 1, n - 1), slot) & ~above(lane - 1, slot) for lane in pairs)
        m.d.comb += [here[slot].eq(Cat(rises)), left[slot].eq(Cat(above(lane, slot) for lane in pairs))]
    found = named(m, "found", Cat(above(n - 1, slot) for slot in range(outliers)))
    s = yield {"selected": selected, "rest": rest, "values": values, "here": here, "left": left, "found": found}
    slots = multiplex_slots(m, s["values"], s["here"], s["left"], s["found"])
    s = yield from carry(slots, selected=s["selected"], rest=s["rest"])
    return s


def multiplex_cuts(lanes: int) -> int:
    """Inner cuts that `multiplex_slots` uses for so many lanes."""
    return int(lanes > 2 * _TERMS_PER_CUT)


def multiplex_slots(m: Module, values: data.View, here: data.View, left: data.View, found: Value) -> Path:
    """Fill outlier slots.

    Lanes go by pairs: a term of four inputs serves two lanes.

    Parameters
    ----------
    m : Module
        Module to add to.
    values : view
        Array of n values.
    here, left : view
        For each slot one bit per pair of lanes: the slot's lane is one of the pair; it is the left one.
    found : value
        Which slots are filled.

    Returns
    -------
    dict
        ``slots``.
    """
    n, width = values.shape().length, len(Value.cast(values[0]))
    lane_width = (n - 1).bit_length()
    outliers = len(found)
    pairs = [(lane, min(lane + 1, n - 1)) for lane in range(0, n, 2)]
    parts = -(-len(pairs) // _TERMS_PER_CUT) if multiplex_cuts(n) else 1
    size = -(-len(pairs) // parts)
    partial = Signal(data.ArrayLayout(data.ArrayLayout(lane_width + width, parts), outliers), name="partial")
    for slot in range(outliers):
        terms = []
        for index, pair in enumerate(pairs):
            fields = [Cat(Const(lane, lane_width), values[lane]) for lane in pair]
            terms.append(Mux(here[slot][index], Mux(left[slot][index], *fields), 0))
        for part in range(parts):
            m.d.comb += partial[slot][part].eq(or_tree(terms[part * size : (part + 1) * size]))
    if parts > 1:
        s = yield {"partial": partial, "found": found}
        partial, found = s["partial"], s["found"]
    layout = data.StructLayout({"valid": 1, "lane": lane_width, "value": width})
    slots = Signal(data.ArrayLayout(layout, outliers), name="slots")
    for slot in range(outliers):
        fields = or_tree([partial[slot][part] for part in range(parts)])
        m.d.comb += slots[slot].eq(Cat(found[slot], fields))
    return {"slots": slots}


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

    def _members(self, parameters: Parameters) -> dict:
        return {
            "i": In(stream.Signature(payloads.selector_input(parameters))),
            "o": Out(stream.Signature(payloads.selector_output(parameters))),
        }

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
        flags, values = self.i.p.flags, self.i.p.values
        if parameters.outliers:
            selection = run(pipe, select_outliers(m, flags, values, outliers=parameters.outliers))
            pipe.finish(Cat(selection["slots"], selection["rest"]))
        else:
            pipe.finish(flags)
        return m
