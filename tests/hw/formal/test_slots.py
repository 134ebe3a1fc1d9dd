"""Lines that are written into slots of a spool: each item goes where ``docs/machine.md`` says, in batches as they come.

Where an emission lies besides does not depend on how it is stalled: that is `test_extent.py`.
"""

import pytest
from amaranth.hdl import Assert, Assume, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from golden.machine.command import Emit
from hw.control.engine import Fields
from hw.near_memory.closed_loop.spool import LineBatches
from rtl_gen.proof import prove

pytestmark = pytest.mark.formal

BITS, ITEM_BYTES, UNIT_BYTES = 20, 3, 32
ITEMS = 10
"""Items of the runs that are looked at, at most: two batches of a line, or a line and the next ones."""

SLOT, OFFSET = 1, 5
"""Units of a slot, which holds all of these items, and where slot 0 begins."""

CLOCKS = 22 + ITEMS
"""Of the runs that are looked at; four less where items pause."""


class Slots(wiring.Component):
    """Follows one item of the proof's choice to its address. Without `pauses`, an item is there in every clock."""

    def __init__(self, *, pauses=False, fault=False):
        self.pauses, self.fault = pauses, fault
        free = {"line": 2, "of": range(ITEMS)}
        super().__init__({**{name: In(shape) for name, shape in free.items()}, "valid": In(1), "last": In(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = LineBatches(BITS)
        fields, started = Fields(dut.operation, Emit), Signal()
        m.d.sync += started.eq(1)
        for name in ("line", "of"):
            given = getattr(self, name)
            before = Signal.like(given, name=f"before_{name}")
            m.d.sync += before.eq(given)
            m.d.comb += Assume(~started | (given == before))
        m.d.comb += [
            fields.line.eq(self.line),
            fields.slot.eq(SLOT),
            fields.spool.offset.eq(OFFSET),
            dut.start.eq(~started),
            dut.i.valid.eq((self.valid if self.pauses else 1) & started),
            dut.i.p.last.eq(self.last),
            dut.spans.ready.eq(1),
            dut.items.ready.eq(1),
        ]
        # Items that came, in all and of the line under way; lines that ended.
        come, item, line = Signal(5), Signal(5), Signal(5)
        takes = dut.i.valid & dut.i.ready
        expected, known = Signal(16), Signal()
        with m.If(takes):
            m.d.sync += [come.eq(come + 1), item.eq(Mux(self.last, 0, item + 1)), line.eq(line + self.last)]
            m.d.comb += [
                Assert((item + 1) * ITEM_BYTES <= SLOT * UNIT_BYTES),
                Assert(dut.ends == self.last),
                Assert(dut.length == (item + 1) * ITEM_BYTES),
            ]
            with m.If(come == self.of):
                place = (OFFSET + (self.line + line) * SLOT) * UNIT_BYTES + item * ITEM_BYTES
                m.d.sync += [known.eq(1), expected.eq(place + self.fault * (item == 9))]
        with m.If(dut.full):
            m.d.comb += Assert((item + 1) * ITEM_BYTES > SLOT * UNIT_BYTES)
        # Items that batches have a place for.
        placed = Signal(5)
        span = dut.spans.p
        with m.If(dut.spans.valid):
            behind = (self.of - placed)[:5]
            m.d.sync += placed.eq(placed + span.records)
            m.d.comb += [
                Assert((span.records != 0) & (span.records <= LineBatches.batch)),
                Assert(placed + span.records <= come),
            ]
            with m.If((placed <= self.of) & (self.of < placed + span.records)):
                m.d.comb += Assert(known & (span.address + behind * ITEM_BYTES == expected))
        with m.If(dut.idle & started):
            m.d.comb += Assert(placed == come)
        return m


@pytest.mark.slow
@pytest.mark.parametrize("pauses", [False, True])
def test_every_item_goes_to_its_slot(pauses):
    proof = prove(Slots(pauses=pauses), "slots", engine="bmc", depth=CLOCKS - 4 * pauses, timeout=600)
    assert proof, proof.output


def test_an_item_beside_its_place_is_found(tmp_path):
    assert not prove(Slots(fault=True), "slots_fault", engine="bmc", depth=CLOCKS, timeout=600, folder=tmp_path)
