"""The parts of the bus: no address outside a region leaves, bursts are what spans say, masters keep the protocol."""

import pytest
from amaranth.hdl import Assert, Assume, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.bus.axi import BOUNDARY, MAX_BEATS
from hw.bus.bursts import LENGTH_WIDTH, BurstCutter
from hw.bus.ports import UNIT_BYTES
from hw.bus.read_master import ReadMaster
from hw.bus.span_check import CHIP_REGION, Fault, SpanCheck
from hw.bus.write_master import WriteMaster
from rtl_gen.proof import prove

pytestmark = pytest.mark.formal

WIDTH = 256
ADDRESS = 14
WORDS = ADDRESS - 5
"""Bits of the number of a word of 256 bits: a few blocks of `MAX_BEATS`, and two times 4 KiB."""


class Regions(wiring.Component):
    """Whatever is asked for and whatever the table says: a span that goes on lies in its region, else it is a fault."""

    def __init__(self, *, chip_bytes=0, fault=False):
        self.chip_bytes, self.fault = chip_bytes, fault
        ports = {f"{name}{port}": In(width) for port in range(2) for name, width in [("valid", 1), ("span", 70)]}
        super().__init__(ports | {"base": In(32), "limit": In(32), "ended": In(2), "enable": In(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = SpanCheck(WIDTH, ADDRESS, 2, chip_bytes=self.chip_bytes)
        m.d.comb += [
            dut.lookup.base.eq(self.base),
            dut.lookup.limit.eq(self.limit + self.fault),
            dut.enable.eq(self.enable),
            dut.ended.eq(self.ended & dut.busy),
        ]
        asked, port, valid = Signal(70), Signal(), Signal()
        taken = Signal()
        for number, request in enumerate(dut.requests):
            offered, spanned = getattr(self, f"valid{number}"), getattr(self, f"span{number}")
            m.d.comb += [request.valid.eq(offered), request.payload.eq(spanned)]
            # A span has at least a byte; what is offered stays until it is taken.
            waits = Signal(name=f"waits{number}")
            m.d.sync += waits.eq(offered & ~request.ready)
            m.d.comb += [Assume(request.payload.bytes != 0), Assume(offered | ~waits)]
            with m.If(offered & request.ready):
                m.d.comb += taken.eq(1)
                m.d.sync += [asked.eq(spanned), port.eq(number)]
        m.d.sync += valid.eq(taken)
        with m.If(valid):
            m.d.comb += Assert(dut.lookup.region == asked[:3])

        # Where it lies by the law, in bytes, in integers that are wide enough; kept until the answer comes.
        address, size = asked[3:38], asked[38:70]
        end = Signal(37)
        start, top = Signal(40), Signal(40)
        inside, reached, chip = Signal(), Signal(), Signal()
        m.d.comb += end.eq(address + size)
        m.d.sync += [
            start.eq(self.base * UNIT_BYTES + address),
            top.eq(self.base * UNIT_BYTES + end),
            inside.eq(end <= self.limit * UNIT_BYTES),
            chip.eq(asked[:3] == CHIP_REGION),
        ]
        m.d.comb += reached.eq(top <= Mux(chip, self.chip_bytes, 1 << ADDRESS))
        came = Signal(2)
        m.d.sync += came.eq(Cat(valid, came))
        known = {"start": start, "top": top, "inside": inside, "reached": reached, "chip": chip}
        before = {name: Signal.like(value, name=f"{name}_before") for name, value in known.items()}
        m.d.sync += [before[name].eq(value) for name, value in known.items()]
        ports = Signal(2)
        m.d.sync += ports.eq(Cat(port, ports))
        with m.If(dut.valid):
            word = WIDTH // 8
            m.d.comb += [
                Assert(came[1] & before["inside"] & before["reached"]),
                Assert(dut.span.port == ports[1]),
                Assert(dut.span.first == before["start"] // word + (before["chip"] << WORDS)),
                Assert(dut.span.last == (before["top"] - 1) // word + (before["chip"] << WORDS)),
                Assert(dut.fault == Fault.NONE),
            ]
        with m.If(came[1] & ~before["inside"]):
            m.d.comb += Assert((dut.fault == Fault.REGION) & (dut.port == ports[1]))
        with m.If(came[1] & before["inside"] & ~before["reached"]):
            m.d.comb += Assert((dut.fault == Fault.BUS) & (dut.port == ports[1]))
        with m.If(~came[1]):
            m.d.comb += Assert(~dut.valid & (dut.fault == Fault.NONE))
        return m


@pytest.mark.parametrize("chip_bytes", [0, 1024])
def test_what_leaves_lies_in_its_region(chip_bytes):
    dut = Regions(chip_bytes=chip_bytes)
    proof = prove(dut, f"regions_{chip_bytes}", engine="induction", depth=6, timeout=300)
    assert proof, proof.output


def test_a_wrong_limit_is_found(tmp_path):
    assert not prove(Regions(fault=True), "regions_fault", engine="bmc", depth=8, folder=tmp_path, timeout=300)


class Walk(wiring.Component):
    """Bursts of a port are its spans, word by word, whatever the other port does; none leaves its block."""

    def __init__(self, *, fault=False):
        self.fault = fault
        super().__init__(
            {
                "first": In(WORDS),
                "last": In(WORDS),
                "valid": In(1),
                "other": In(1),
                "fits": In(1),
                "moved": In(2),
                "ready": In(1),
                "enable": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = BurstCutter(WIDTH, ADDRESS, 2)
        # The span that is followed, one at a time, is port 1's; port 0 has spans of its own.
        active, next_word, last_word = Signal(), Signal(WORDS), Signal(WORDS)
        busy = Signal()
        m.d.comb += [
            dut.valid.eq(self.valid & Mux(self.other, ~busy, ~active)),
            dut.span.port.eq(~self.other),
            dut.span.first.eq(self.first),
            dut.span.last.eq(self.last),
            dut.fits.eq(self.fits),
            dut.moved.eq(self.moved),
            dut.enable.eq(self.enable),
            dut.bursts.ready.eq(self.ready),
            Assume(self.first <= self.last),
        ]
        m.d.sync += busy.eq((busy | (dut.valid & self.other)) & ~dut.ended[0])
        with m.If(dut.valid & ~self.other):
            m.d.sync += [active.eq(1), next_word.eq(self.first), last_word.eq(self.last)]
        end = Signal(WORDS + 1)
        m.d.comb += end.eq(next_word + dut.length)
        with m.If(dut.cuts & (dut.port == 1)):
            m.d.comb += [
                Assert(active),
                Assert(end <= last_word),
                Assert(end[LENGTH_WIDTH:] == next_word[LENGTH_WIDTH:]),
                Assert(dut.ended[1] == (end == last_word)),
                # No burst is shorter than it must be.
                Assert((end == last_word) | (end[:LENGTH_WIDTH] == MAX_BEATS - 1 - self.fault)),
            ]
            m.d.sync += [next_word.eq(end + 1), active.eq(end != last_word)]
        with m.If(~(dut.cuts & (dut.port == 1))):
            m.d.comb += Assert(~dut.ended[1])

        # What was cut is offered, and stays until it is taken.
        cut, expected = Signal(), Signal.like(dut.bursts.payload.as_value())
        held = Signal()
        m.d.sync += [
            cut.eq(dut.cuts & (dut.port == 1)),
            expected.eq(Cat(next_word, dut.length, Const(1, 1))),
            held.eq(dut.bursts.valid & ~self.ready),
        ]
        last = Signal.like(expected)
        m.d.sync += last.eq(dut.bursts.payload.as_value())
        with m.If(cut):
            m.d.comb += Assert(dut.bursts.valid & (dut.bursts.payload.as_value() == expected))
        with m.If(held):
            m.d.comb += Assert(dut.bursts.valid & (dut.bursts.payload.as_value() == last))
        return m


def test_bursts_walk_through_their_span():
    proof = prove(Walk(), "walk", timeout=400)
    assert proof, proof.output


def test_a_walk_that_is_cut_short_is_found(tmp_path):
    assert not prove(Walk(fault=True), "walk_fault", engine="bmc", depth=14, folder=tmp_path, timeout=300)


class Reads(wiring.Component):
    """A master that reads, and a slave that may do all that the protocol lets it: order, no beat lost, addresses."""

    def __init__(self):
        super().__init__(
            {"address": In(WORDS), "length": In(LENGTH_WIDTH), "tag": In(1)}
            | {name: In(1) for name in ("valid", "ready", "arready", "rvalid", "follow")}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = ReadMaster(WIDTH, ADDRESS, 1, outstanding=2)
        bus, bursts, beats = dut.bus, dut.bursts, dut.beats
        taken = Signal()
        m.d.comb += [
            bursts.valid.eq(self.valid),
            bursts.payload.address.eq(self.address),
            bursts.payload.length.eq(self.length),
            bursts.payload.tag.eq(self.tag),
            taken.eq(bursts.valid & bursts.ready),
            Assume(self.address[:LENGTH_WIDTH] + self.length < MAX_BEATS),
            bus.arready.eq(self.arready),
            beats.ready.eq(self.ready),
        ]
        _check_address(m, "ar", bus)

        # The slave: so many addresses came, and it is in the midst of the oldest one, whose length it knows.
        inside, ahead = Signal(range(6)), Signal(range(6))
        following, begun = Signal(), Signal()
        place, left, tag = Signal(WORDS), Signal(LENGTH_WIDTH), Signal()
        asked = Signal(range(6))
        beat = Signal()
        m.d.comb += [
            bus.rvalid.eq(self.rvalid & (asked != 0)),
            beat.eq(bus.rvalid & bus.rready),
        ]
        oldest = Signal()
        m.d.comb += oldest.eq(following & (ahead == 0))
        # Others' bursts end when they like; the one that is followed when its length says.
        ends = Signal()
        m.d.comb += [ends.eq(beat & bus.rlast), bus.rlast.eq(Mux(oldest, left == 0, self.follow))]
        m.d.sync += [
            asked.eq(asked + (bus.arvalid & bus.arready) - ends),
            inside.eq(inside + taken - ends),
        ]
        m.d.comb += Assert(inside == dut.pending)
        with m.If(beat):
            m.d.comb += Assert(beats.valid & (beats.payload.last == bus.rlast))
            with m.If(oldest):
                m.d.comb += [Assert(beats.payload.tag == tag), Assert(beats.payload.address == place)]
                m.d.sync += [place.eq(place + 1), left.eq(left - 1), begun.eq(1)]
        with m.If(ends & following):
            m.d.sync += [ahead.eq(ahead - 1), following.eq(~oldest)]
        with m.If(taken & self.follow & ~following):
            m.d.sync += [
                following.eq(1),
                ahead.eq(inside - ends),
                place.eq(self.address),
                left.eq(self.length),
                tag.eq(self.tag),
            ]
        return m


def _check_address(m, prefix, bus):
    """A channel of addresses: what is offered stays; INCR, whole words, no boundary crossed."""
    valid, ready = getattr(bus, f"{prefix}valid"), getattr(bus, f"{prefix}ready")
    fields = [getattr(bus, f"{prefix}{name}") for name in ("addr", "len", "size", "burst", "id")]
    held, last = Signal(name=f"{prefix}_held"), Signal(len(Cat(fields)), name=f"{prefix}_last")
    m.d.sync += [held.eq(valid & ~ready), last.eq(Cat(fields))]
    with m.If(held):
        m.d.comb += Assert(valid & (last == Cat(fields)))
    address, length, size, burst, _ = fields
    word = WIDTH // 8
    with m.If(valid):
        m.d.comb += [
            Assert(burst == 1),
            Assert(size == word.bit_length() - 1),
            Assert(address[: word.bit_length() - 1] == 0),
            Assert(address // BOUNDARY == (address + length * word) // BOUNDARY),
        ]


def test_a_master_that_reads():
    proof = prove(Reads(), "reads", timeout=400)
    assert proof, proof.output


class Writes(wiring.Component):
    """A master that writes: addresses, words as they are, answers in order."""

    def __init__(self):
        super().__init__(
            {"address": In(WORDS), "length": In(LENGTH_WIDTH), "tag": In(1), "word": In(4)}
            | {name: In(1) for name in ("valid", "ready", "awready", "wready", "bvalid", "given", "follow")}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = WriteMaster(WIDTH, ADDRESS, 1, outstanding=2)
        bus, bursts, answers = dut.bus, dut.bursts, dut.answers
        taken, ends = Signal(), Signal()
        inside, ahead, asked = Signal(range(6)), Signal(range(6)), Signal(range(6))
        following, tag, place = Signal(), Signal(), Signal(WORDS)
        m.d.comb += [
            bursts.valid.eq(self.valid),
            bursts.payload.address.eq(self.address),
            bursts.payload.length.eq(self.length),
            bursts.payload.tag.eq(self.tag),
            taken.eq(bursts.valid & bursts.ready),
            Assume(self.address[:LENGTH_WIDTH] + self.length < MAX_BEATS),
            bus.awready.eq(self.awready),
            bus.wready.eq(self.wready),
            dut.words.valid.eq(self.given),
            dut.words.payload.data.eq(self.word),
            Assert(bus.wvalid == self.given),
            Assert(dut.words.ready == self.wready),
            Assert(bus.wdata == self.word),
            bus.bvalid.eq(self.bvalid & (asked != 0)),
            answers.ready.eq(self.ready),
            ends.eq(bus.bvalid & bus.bready),
            Assert(inside == dut.pending),
        ]
        _check_address(m, "aw", bus)
        m.d.sync += [asked.eq(asked + (bus.awvalid & bus.awready) - ends), inside.eq(inside + taken - ends)]
        with m.If(ends):
            m.d.comb += Assert(answers.valid)
        with m.If(ends & following):
            m.d.sync += [ahead.eq(ahead - 1), following.eq(ahead != 0)]
            with m.If(ahead == 0):
                m.d.comb += [Assert(answers.payload.tag == tag), Assert(answers.payload.address == place)]
        with m.If(taken & self.follow & ~following):
            m.d.sync += [following.eq(1), ahead.eq(inside - ends), tag.eq(self.tag), place.eq(self.address)]
        return m


def test_a_master_that_writes():
    proof = prove(Writes(), "writes", timeout=400)
    assert proof, proof.output
