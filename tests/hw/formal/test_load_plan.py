"""A load's plan reads each line of the spool that a row needs, once, and puts it where ``docs/machine.md`` says.

Beside it stands the page's own rule: row r holds at its line l the line ``line + r line_step + l`` of the picture.
"""

import pytest
from amaranth.hdl import Assert, Assume, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from golden.machine.command import LoadGroups
from golden.parameters import preset
from hw.control.engine import Fields
from hw.core.load_plan import LoadPlan
from rtl_gen.proof import prove

pytestmark = pytest.mark.formal

ROWS, LINES, HEIGHT, SLOT_STEP = 2, 2, 2, 3
"""Rows, lines of a bank, lines of a spool at most, slots from sample to sample."""

LINE = {"width": 2, "left": 1, "right": 1, "groups": 1, "passes": 1, "sent": 0, "first": 1, "pitch": 3}
SOURCE, SLOT, LENGTHS = 5, 4, 2
"""Unit of the first slot, units of a slot, unit of the table of lengths."""

FREE = {"at": 3, "line": signed(4), "line_step": 2, "skip": 2, "height": 2, "repeat": 1}
"""Shape of each field that is free."""

CLOCKS = {"strips": 55, "samples": 66, "link": 55}
"""In which each kind of load ends, if nothing stalls it."""

FORMS = {"strips": "direct", "samples": "compressed", "link": "direct"}
"""Form of the spool of each kind; the compressed one has a table of lengths."""


class Walk(wiring.Component):
    """Follows the lines of one load. `of` is any line of the spool, `row` any row. Without `stalls`, all is taken."""

    def __init__(self, kind, *, stalls=False, fault=False):
        self.kind, self.form, self.stalls, self.fault = kind, FORMS[kind], stalls, fault
        free = {name: In(shape) for name, shape in FREE.items()}
        super().__init__({**free, "of": In(2), "row": In(1), "lines_ready": In(1), "places_ready": In(1)})

    def elaborate(self, platform):
        m = Module()
        settings = [f"rows={ROWS}", "group_buffer=64", f"link_form={self.form}"]
        m.submodules.dut = dut = LoadPlan(preset("tiny").with_settings(settings))
        fields, started, begun, clock = Fields(dut.operation, LoadGroups), Signal(), Signal(), Signal(7)
        m.d.sync += [started.eq(1), begun.eq(started), clock.eq(clock + 1)]
        for name in (*FREE, "of", "row"):
            given = getattr(self, name)
            before = Signal.like(given, name=f"before_{name}")
            m.d.sync += before.eq(given)
            m.d.comb += Assume(~started | (given == before))
        m.d.comb += [
            *(getattr(fields, name).eq(getattr(self, name)) for name in FREE),
            *(getattr(fields, name).eq(value) for name, value in LINE.items()),
            fields.lines.eq(LINES),
            fields.rows.eq(ROWS - 1),
            fields.slot.eq(SLOT),
            fields.source.offset.eq(SOURCE),
            fields.lengths.offset.eq(LENGTHS),
            fields.slot_step.eq(SLOT_STEP if self.kind == "samples" else 0),
            fields.link.eq(self.kind == "link"),
            Assume((self.height <= HEIGHT) & (self.of < SLOT_STEP)),
            Assume((self.lines_ready & self.places_ready) | Const(self.stalls)),
            dut.start.eq(~started),
            dut.lines.ready.eq(self.lines_ready),
            dut.places.ready.eq(self.places_ready),
            Assert(dut.error == 0),
        ]
        sends, number = self._number(m, dut)
        self._check_places(m, dut, sends, number)
        self._check_all(m, dut, sends, number, begun)
        stalled = Signal()
        with m.If(~self.lines_ready | ~self.places_ready):
            m.d.sync += stalled.eq(1)
        with m.If(clock == CLOCKS[self.kind] - 1):
            m.d.comb += Assert(dut.done | stalled)
        return m

    def _number(self, m, dut):
        """When a line is sent, and which of the spool it is, counted from the first sample's."""
        sends, number = Signal(), Signal(signed(8))
        m.d.comb += sends.eq(dut.places.valid & dut.places.ready)
        if self.kind == "link":
            m.d.sync += number.eq(number + sends)
            m.d.comb += Assert(~dut.lines.valid)
            return sends, number
        slot = Signal(8)
        m.d.comb += [slot.eq((dut.lines.p.unit - SOURCE)[2:]), number.eq(slot - self.skip)]
        m.d.comb += Assert(sends == (dut.lines.valid & dut.lines.ready))
        with m.If(sends):
            m.d.comb += Assert(dut.lines.p.unit == SOURCE + SLOT * slot)
            m.d.comb += Assert(dut.lines.p.entry == ((LENGTHS << 3) + slot if self.form == "compressed" else 0))
        return sends, number

    def _check_places(self, m, dut, sends, number):
        """A line goes to each place of each row that needs it, and to no other."""
        sample = Signal()
        line = Signal(signed(8))
        samples = self.kind == "samples"
        m.d.comb += [sample.eq(samples & (number >= SLOT_STEP)), line.eq(number - sample * SLOT_STEP)]
        pitch = LINE["pitch"]
        across = Mux(self.repeat, LINE["left"] + 2 * LINE["width"] + LINE["right"], sum(map(LINE.get, _ACROSS)))
        with m.If(sends):
            m.d.comb += [
                Assert((line >= 0) & (line < self.height)),
                Assert(dut.pitches.position == pitch),
                Assert(dut.pitches.inner == Mux(self.repeat, 2, 1) * LINE["width"] * pitch),
            ]
            if self.form == "direct":
                m.d.comb += Assert(dut.records == LINE["width"] * LINE["groups"] * (LINE["sent"] + 1))
            for copy in range(2):
                place = dut.places.payload[copy]
                for row in range(ROWS):
                    placed = (place.row <= row) & (row < place.row + place.rows)
                    behind = row - place.row
                    address = place.address - Mux(behind == 1, dut.pitches.row, 0)
                    at = Signal(signed(9), name=f"at_{copy}_{row}")
                    m.d.comb += at.eq((line << self.repeat) + copy - self.line - row * self.line_step)
                    needs = (at >= 0) & (at < LINES) & (Const(copy == 0) | self.repeat)
                    if samples:
                        needs = needs & (sample == row)
                    begin = self.at + LINE["first"] + LINE["left"] * pitch + self.fault * (copy == 1)
                    m.d.comb += [
                        Assert(placed == needs),
                        Assert(~needs | (address[:6] == (begin + Mux(at == 1, across * pitch, 0))[:6])),
                    ]

    def _check_all(self, m, dut, sends, number, begun):
        """Lines come in ascending order, and any one that a row needs has come when all is done."""
        last, seen, wanted = Signal(signed(8), init=-1), Signal(), Signal()
        row = self.row if self.kind == "samples" else Const(0, 1)
        here = number == self.of + row * SLOT_STEP
        with m.If(sends):
            m.d.sync += [last.eq(number), seen.eq(seen | here)]
            m.d.comb += Assert(number > last)
        needs = []
        for one in range(ROWS):
            for copy in range(2):
                at = (self.of << self.repeat) + copy - self.line - one * self.line_step
                of_row = (self.row == one) if self.kind == "samples" else Const(1)
                needs.append((at >= 0) & (at < LINES) & (Const(copy == 0) | self.repeat) & of_row)
        every = Const(1) if self.kind == "link" else Cat(needs).any()
        m.d.comb += wanted.eq(every & (self.of < self.height))
        with m.If(begun & dut.done):
            m.d.comb += Assert(seen == wanted)


_ACROSS = ("left", "width", "right")


TRIALS = [
    pytest.param(kind, stalls, marks=[pytest.mark.slow] * (stalls or kind != "link"))
    for kind in CLOCKS
    for stalls in (False, True)
]


@pytest.mark.parametrize("kind, stalls", TRIALS)
def test_every_line_goes_where_rows_need_it(kind, stalls):
    proof = prove(Walk(kind, stalls=stalls), f"load_plan_{kind}", engine="bmc", depth=CLOCKS[kind], timeout=900)
    assert proof, proof.output


def test_a_wrong_address_is_found(tmp_path):
    dut = Walk("link", fault=True)
    assert not prove(dut, "load_plan_fault", engine="bmc", depth=CLOCKS["link"], timeout=600, folder=tmp_path)
