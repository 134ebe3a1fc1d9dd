"""The sequencer reads the groups and records of ``docs/machine.md``, Multiply, in its order, whoever stalls it.

Beside it runs the loop as the page words it: counters that count up, and addresses by multiplication.
"""

import pytest
from amaranth.hdl import Assert, Assume, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from golden.machine.command import Multiply, layout
from golden.parameters import preset
from hw.control.engine import Fields
from hw.core.array import MultiplierArray
from hw.core.sequencer import Sequencer
from rtl_gen.proof import prove

pytestmark = pytest.mark.formal

T, COLUMNS, COLLECTED = 2, 2, 4
"""Positions of a block, columns, and channels that leave together: with 8 lanes two blocks of each fit a tile."""

LOOPS = {
    "blocks": {"columns": 3, "channels": 3},
    "kernel": {"kernel_lines": 2, "kernel_columns": 2, "channels": 2, "first": 1},
    "groups of two blocks": {"lines": 3, "groups": 2},
    "passes": {"lines": 2, "groups": 2, "passes": 1, "first": 2},
}
"""Fields of operations; turns that are not named are 1, all others 0."""

CLOCKS = 19
"""Of the runs that are looked at: enough for each operation to end, if nothing stalls it."""

FREE = {"at": 2, "line_pitch": 2, "column_pitch": 2, "kernel_pitch": 2, "tap_pitch": 2, "weights_at": 2}
"""Bits of each field that is free."""


class Odometer:
    """Counters that run together, the last one fastest; each from 0 to below its count.

    Parameters
    ----------
    m : Module
        That holds them.
    counts : mapping of str to value
        Turns of each loop, outermost first.
    ticks : value
        One step further.
    """

    def __init__(self, m, counts, ticks):
        self.at = {name: Signal(4, name=f"{ticks.name}_{name}") for name in counts}
        self.over = Signal(name=f"{ticks.name}_over")
        self.last = {name: self.at[name] + 1 == count for name, count in counts.items()}
        carries = ticks
        for name in reversed(counts):
            with m.If(carries):
                m.d.sync += self.at[name].eq(Mux(self.last[name], 0, self.at[name] + 1))
            carries = carries & self.last[name]
        with m.If(carries):
            m.d.sync += self.over.eq(1)


def at_most(limit, value):
    return Mux(value < limit, value, limit)


class Walk(wiring.Component):
    """Follows the steps and the records of one operation. With `never`, it is said not to come to its end."""

    def __init__(self, loops, *, fault=False, never=False):
        turns = ("lines", "columns", "channels", "kernel_lines", "kernel_columns", "groups")
        for name, value in (dict.fromkeys(turns, 1) | {"passes": 0, "first": 0} | loops).items():
            setattr(self, name, value)
        self.fault, self.never, self.positions = fault, never, self.lines * self.columns
        super().__init__({**{name: In(width) for name, width in FREE.items()}, "counted": In(1), "free": In(1)})

    def elaborate(self, platform):
        m = Module()
        settings = ["lanes=8", f"columns={COLUMNS}", f"tile_positions={T}", "group_buffer=64", "weight_buffer=64"]
        m.submodules.dut = dut = Sequencer(preset("tiny").with_settings(settings))
        fields, started, known = Fields(dut.operation, Multiply), Signal(), Signal()
        m.d.sync += [started.eq(1), known.eq(dut.counted)]
        for slot in layout(Multiply):
            if slot.name in FREE:
                given, before = getattr(self, slot.name), Signal(FREE[slot.name], name=f"before_{slot.name}")
                m.d.sync += before.eq(given)
                m.d.comb += Assume(~started | (given == before))
            if hasattr(self, slot.name):
                m.d.comb += getattr(fields, slot.name).eq(getattr(self, slot.name))
        m.d.comb += [
            fields.collected.eq(COLLECTED),
            Assume(~known | self.counted),
            dut.start.eq(~started),
            dut.counted.eq(self.counted & started),
            dut.positions.eq(self.positions),
            dut.passed.eq(dut.counted),
            dut.free.eq(self.free),
        ]
        self._follow_steps(m, dut)
        self._follow_records(m, dut)
        return m

    def _turns(self):
        """The loops that steps and records have in common."""
        return {
            "block": -(-self.channels // COLUMNS),
            "tile": -(-self.positions // T),
            "kernel_line": self.kernel_lines,
            "kernel_column": self.kernel_columns,
            "group": self.groups,
        }

    def _follow_steps(self, m, dut):
        tile, step = Signal(4), dut.step.step
        ticks = Signal(name="steps")
        counts = self._turns() | {
            "one_pass": self.passes + 1,
            "position": at_most(T, self.positions - tile * T),
        }
        walk = Odometer(m, counts, ticks)
        at, last = walk.at, walk.last
        here = (at["tile"] * T + at["position"])[:4]
        tap = at["kernel_line"] * self.kernel_pitch + at["kernel_column"] * self.tap_pitch
        group = at["group"] * (self.passes + 1) + at["one_pass"]
        place = here // self.columns * self.line_pitch + here % self.columns * self.column_pitch
        ends = last["kernel_line"] & last["kernel_column"] & last["group"] & last["one_pass"]
        block = self.channels - at["block"] * COLUMNS
        m.d.comb += [tile.eq(at["tile"]), ticks.eq(dut.banks_enable), Assert(step.valid == ticks)]
        with m.If(ticks):
            begins = (at["one_pass"] == 0) & (at["position"] == 0)
            first = (at["kernel_line"] == 0) & (at["kernel_column"] == 0) & (at["group"] == 0) & (at["one_pass"] == 0)
            m.d.comb += [
                Assert(~walk.over),
                Assert(dut.banks_address == (self.at + place + tap + group + self.fault * ends)[:6]),
                Assert(step.address == at["position"]),
                Assert(step.first == first),
                Assert(step.last == ends),
                Assert(dut.step.swap == begins),
                Assert(dut.step.channels == at_most(COLUMNS, block)),
                Assert(dut.step.end == (ends & last["block"] & last["tile"] & last["position"])),
                Assert(~step.last | (step.word == self.first // COLUMNS + at["block"] + here * (COLLECTED // COLUMNS))),
            ]
        # An address returns when its sum is there again.
        for address in range(T):
            rest = Signal(range(MultiplierArray.spacing + 1), name=f"rest_{address}")
            with m.If(ticks & (step.address == address)):
                m.d.comb += Assert(rest == 0)
                m.d.sync += rest.eq(MultiplierArray.spacing - 1)
            with m.Elif(rest != 0):
                m.d.sync += rest.eq(rest - 1)
        if self.never:
            m.d.comb += Assert(~walk.over)

    def _follow_records(self, m, dut):
        ticks, block = Signal(name="records"), Signal(4)
        size = at_most(COLUMNS, self.channels - block * COLUMNS)
        walk = Odometer(m, self._turns() | {"channel": size}, ticks)
        at, read, begun = walk.at, Signal(6), Signal(6)
        taps = self.kernel_lines * self.kernel_columns * self.groups
        record = (at["kernel_line"] * self.kernel_columns + at["kernel_column"]) * self.groups + at["group"]
        column = self.first % COLUMNS + at["channel"]
        m.d.comb += [block.eq(at["block"]), ticks.eq(dut.weights_enable)]
        m.d.sync += read.eq(read + (ticks & walk.last["channel"]))
        with m.If(ticks):
            m.d.comb += [
                Assert(~walk.over),
                Assert(
                    dut.weights_address
                    == (self.weights_at + at["block"] * COLUMNS * taps + record * size + at["channel"])[:6]
                ),
                Assert(dut.column == column % COLUMNS),
                Assert(dut.wrapped == (column >= COLUMNS)),
            ]
        # The array takes over the records that were read last: all of this group's, and none of the next.
        with m.If(dut.banks_enable & dut.step.swap):
            m.d.sync += begun.eq(begun + 1)
            m.d.comb += Assert((read == begun + 1) & (at["channel"] == 0))


@pytest.mark.parametrize("loops", LOOPS)
def test_groups_and_records_are_those_of_the_page(loops):
    proof = prove(Walk(LOOPS[loops]), "sequencer", engine="bmc", depth=CLOCKS, timeout=600)
    assert proof, proof.output


@pytest.mark.parametrize("loops", LOOPS)
def test_the_operation_ends_within_those_clocks(loops, tmp_path):
    """What `never` says is broken: no walk was cut off."""
    dut = Walk(LOOPS[loops], never=True)
    assert not prove(dut, "sequencer_never", engine="bmc", depth=CLOCKS, timeout=600, folder=tmp_path)


def test_a_wrong_address_is_found(tmp_path):
    dut = Walk(LOOPS["passes"], fault=True)
    assert not prove(dut, "sequencer_fault", engine="bmc", depth=CLOCKS, timeout=600, folder=tmp_path)
