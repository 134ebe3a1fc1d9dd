"""The leftmost-outlier selection circuit: the first m of n flagged lanes, their values, and the flags left over.

A *thermometer* is a count written as m bits, bit j set when the count is above j; it saturates at m by itself. Lane i's
thermometer counts the flags of lanes 0..i. Slot j belongs to the lane where bit j of the thermometers rises.
"""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw import payloads
from hw.arith.bits import add_thermometers, named, or_tree
from hw.stream import Stage
from hw.units.unit import PipelinedUnit

_TABLES_PER_CUT = 4
"""Look-up tables in a row that the prefix count may take between two cuts."""

_TERMS_PER_CUT = 8
"""Pairs of lanes a slot's multiplexer takes in between two cuts."""


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


def select_outliers(s: Stage, flags: Value, values: data.View, *, outliers: int) -> Stage:
    """Select the first `outliers` flagged lanes; between two cuts stand about five look-up tables in a row.

    ::

        flags  0 0 1 0 1 1 0 1
        count  0 0 1 1 2 3 3 4     prefix count in log2(n) levels, as thermometers
        bit 0  0 0 1 1 1 1 1 1     slot 0: lane 2, where bit 0 rises
        bit 1  0 0 0 0 1 1 1 1     slot 1: lane 4
        rest   0 0 0 0 0 1 0 1     flags of lanes before which bit m-1 has risen (m = 2)

    Parameters
    ----------
    s : Stage
        Where the flags are.
    flags : value
        n flags.
    values : view
        Array of n values.
    outliers : int
        m, at least 1.

    Returns
    -------
    Stage
        With ``slots`` (view of m of `valid`, `lane`, `value`), ``selected`` and ``rest`` (n bits each).
    """
    n = len(flags)
    s.flags, s.values = flags, values
    s.counts = [flags[lane] for lane in range(n)]
    cut_after = _levels_before_cuts(n, outliers)
    for level in range((n - 1).bit_length()):
        half = 1 << level
        counts = list(s.counts)
        # Sklansky's prefix tree: the right half of each block of 2 * half lanes adds the count of the left half.
        for lane in range(n):
            if lane & half:
                total = Cat(add_thermometers(s.counts[(lane & -half) - 1], s.counts[lane], outliers))
                counts[lane] = named(s.m, s.label(f"count{2 * half}_{lane}"), total)
        s.counts = counts
        if level in cut_after:
            s = s.cut()
    flags, counts = s.flags, s.counts

    def above(lane: int, slot: int) -> Value:
        return counts[lane][slot] if lane >= 0 and slot < len(counts[lane]) else Const(0, 1)

    full = named(s.m, s.label("full"), Cat(above(lane - 1, outliers - 1) for lane in range(n)))
    s.selected, s.rest = flags & ~full, flags & full
    # Bit j rises in a pair of lanes (`here`), and the left lane's bit tells in which one of the two (`left`).
    pairs = range(0, n, 2)
    s.here = [
        Cat(above(min(lane + 1, n - 1), slot) & ~above(lane - 1, slot) for lane in pairs) for slot in range(outliers)
    ]
    s.left = [Cat(above(lane, slot) for lane in pairs) for slot in range(outliers)]
    s.found = Cat(above(n - 1, slot) for slot in range(outliers))
    s = s.cut()
    return multiplex_slots(s)


def multiplex_slots(s: Stage) -> Stage:
    """Fill outlier slots: `slots` of the stage returned.

    Lanes go by pairs: a term of four inputs serves two lanes. With many pairs there is a cut in the middle.

    Parameters
    ----------
    s : Stage
        With ``values`` (view, array of n values); ``here`` and ``left``, lists of a value for each slot, one bit per
        pair of lanes: the slot's lane is one of the pair, and it is the left one; ``found``: which slots are filled.
    """
    values, n = s.values, s.values.shape().length
    lane_width, width = (n - 1).bit_length(), len(Value.cast(values[0]))
    pairs = [(lane, min(lane + 1, n - 1)) for lane in range(0, n, 2)]
    fields = [[Cat(Const(lane, lane_width), values[lane]) for lane in pair] for pair in pairs]
    parts = -(-len(pairs) // _TERMS_PER_CUT)
    size = -(-len(pairs) // parts)
    partial = []
    for here, left in zip(s.here, s.left, strict=True):
        terms = [Mux(here[index], Mux(left[index], *pair), 0) for index, pair in enumerate(fields)]
        partial.append([or_tree(terms[part * size : (part + 1) * size]) for part in range(parts)])
    s.partial = partial
    if parts > 1:
        s = s.cut()
    slot = data.StructLayout({"valid": 1, "lane": lane_width, "value": width})
    slots = Cat(Cat(found, or_tree(terms)) for found, terms in zip(s.found, s.partial, strict=True))
    s.slots = data.ArrayLayout(slot, len(s.found))(slots)
    return s


class OutlierSelector(PipelinedUnit):
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
    def throughput(self) -> str:
        """One vector per clock."""
        return "one vector per clock"

    def _describe(self, m: Module, platform: Any) -> int:
        s, outliers = Stage.begin(m, self.i), self.parameters.outliers
        payload = self.i.p.flags
        if outliers:
            s = select_outliers(s, self.i.p.flags, self.i.p.values, outliers=outliers)
            payload = Cat(s.slots, s.rest)
        return s.finish(self.o, payload, depth=self.parameters.pipeline_depth)
