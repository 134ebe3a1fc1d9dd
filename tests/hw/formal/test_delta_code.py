"""Decompressor after compressor is the identity on a group, for every group, predictor and whatever bits follow it."""

import pytest
from amaranth.hdl import Assert, Assume, Cat, Const, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In

from golden.parameters import POISONED_GROUP, ZERO_GROUP, Parameters, preset
from hw import payloads
from hw.arith.bits import pack, unpack
from hw.link.delta_code import Code
from hw.link.delta_scan import Scan
from hw.stream import Stage
from rtl_gen.proof import prove

pytestmark = pytest.mark.formal

REPLAY = {"exponent_policy": "layer", "overflow_policy": "replay"}


def stages(m, name):
    """First stage of a pipeline without registers, and what ends it."""
    i, o = (stream.Signature(0).create(path=(name + port,)) for port in "io")
    return Stage.begin(m, i, name=name), lambda s: s.finish(o, Const(0, 0), depth=0)


class Identity(wiring.Component):
    """A group encoded, followed by free bits, decoded; optionally with one wire of the code inverted."""

    def __init__(self, parameters, fault=None):
        self.parameters, self.fault = parameters, fault
        self.code = Code(parameters)
        super().__init__(
            {
                "group": In(payloads.delta_group(parameters)),
                "predictor": In(6),
                "before": In(6),
                "following": In(self.code.longest),
            }
        )

    def elaborate(self, platform):
        m = Module()
        p, code, group = self.parameters, self.code, self.group
        largest = 42 - p.digit_width
        ordinary = group.exponent <= largest
        special = (group.exponent == ZERO_GROUP) | (group.exponent == POISONED_GROUP)
        digits = [group.digits[lane] for lane in range(p.lanes)]
        slots = [group.outliers[index] for index in range(p.outliers)]
        replay = group.replay if p.replays else Value.cast(0)
        m.d.comb += [
            Assume(ordinary | special),
            Assume(self.predictor <= largest),
            Assume((self.before <= largest) | (self.before >= ZERO_GROUP)),
        ]
        for lane, digit in enumerate(digits):
            taken = Cat(slot.valid & (slot.lane == lane) for slot in slots).any()
            m.d.comb += Assume(digit != -(1 << p.digit_width - 1))
            with m.If(special | replay | taken):
                m.d.comb += Assume(digit == 0)
        with m.If(special):
            m.d.comb += Assume(~replay)
        for index, slot in enumerate(slots):
            with m.If(~slot.valid):
                m.d.comb += Assume(slot.as_value() == 0)
            with m.If(special):
                m.d.comb += Assume(~slot.valid)
            m.d.comb += Assume(slot.lane < p.lanes)
            if index:
                m.d.comb += Assume(~slot.valid | (slots[index - 1].valid & (slot.lane > slots[index - 1].lane)))

        prefix, prefix_length = code.prefix(m, group.exponent, replay, self.predictor, self.before)
        begin, end = stages(m, "encode_")
        s = code.encode(begin, group, prefix, prefix_length)
        bits, length = s.bits, s.length
        end(s)
        sent = Signal(code.longest)
        m.d.comb += sent.eq(bits | (self.following << length))
        if self.fault is not None:
            damaged = Signal(code.longest)
            m.d.comb += damaged.eq(sent ^ (1 << self.fault))
            sent = damaged
        measured = code.measure(m, sent)
        exponent, is_replay, refused = code.exponent(m, sent[:16], self.predictor, self.before)
        begin, end = stages(m, "decode_")
        decoded = code.decode(begin, measured)
        m.d.comb += [
            Assert(measured.length == length),
            Assert(~measured.bad & ~refused & ~decoded.refused),
            Assert(exponent == group.exponent),
            Assert(is_replay == replay),
            Assert(decoded.digits == group.digits.as_value()),
        ]
        if p.outliers:
            m.d.comb += Assert(decoded.outliers == group.outliers.as_value())
        end(decoded)
        return m


CONFIGURATIONS = {
    "tiny": preset("tiny"),
    "replay": Parameters(lanes=5, memory_lanes=1, outliers=2, digit_width=2, **REPLAY),
    "wide": Parameters(lanes=4, memory_lanes=1, outliers=1, digit_width=5),
    "middle": Parameters(lanes=8, memory_lanes=1, outliers=0),
}


class Ends(wiring.Component):
    """The scan of a few places, each against the length that the decoder measures there."""

    def __init__(self, parameters, width, fault=0):
        self.code, self.fault = Code(parameters), fault
        self.scan = Scan(self.code, width)
        super().__init__({"bits": In(width + self.code.longest)})

    def elaborate(self, platform):
        m = Module()
        begin, end = stages(m, "scan_")
        s = self.scan.ends(begin, self.bits[: self.scan.width + self.scan.ahead])
        planes = s.ends
        end(s)
        for place in range(self.scan.width):
            m.submodules[f"place{place}"] = inner = Module()
            measured = self.code.measure(inner, self.bits[place:][: self.code.longest])
            found = Cat(plane[place] for plane in planes)
            m.d.comb += Assert((found ^ self.fault) == place + measured.length)
        return m


class Beyond(wiring.Component):
    """Two strings that agree in their first `end` bits: a sound group that needs more of one needs more of the other.

    So what stands beyond the end of a block, which may be anything, never makes a group look as if it ended within.
    """

    def __init__(self, parameters, fault=0):
        self.code, self.fault = Code(parameters), fault
        longest = self.code.longest
        super().__init__({"a": In(longest), "b": In(longest), "end": In(range(longest + 1))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.a, m.submodules.b = inner = Module(), Module()
        m.d.comb += Assume(((self.a ^ self.b) & ~(Const(-1, self.code.longest) << self.end)) == 0)
        a, b = (self.code.measure(part, bits) for part, bits in zip(inner, (self.a, self.b), strict=True))
        m.d.comb += Assert(a.bad | (a.length <= self.end) | (b.length > self.end + self.fault))
        return m


class Planes(wiring.Component):
    """`unpack` after `pack`, whatever follows the packed bits."""

    def __init__(self, lanes):
        self.lanes = lanes
        super().__init__({"bits": In(lanes), "mask": In(lanes), "following": In(lanes)})

    def elaborate(self, platform):
        m = Module()
        mask = [self.mask[lane] for lane in range(self.lanes)]
        packed, count = pack(m, "packed", [self.bits[lane] for lane in range(self.lanes)], mask)
        stream = Signal(2 * self.lanes)
        m.d.comb += stream.eq(packed | (self.following << count))
        unpacked = Cat(unpack(m, "unpacked", stream, mask))
        m.d.comb += [Assert(unpacked == (self.bits & self.mask)), Assert(count == sum(mask))]
        return m


@pytest.mark.parametrize("lanes", [5, 16])
def test_planes(lanes):
    proof = prove(Planes(lanes), f"planes_{lanes}", timeout=100)
    assert proof, proof.output


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_identity(name):
    proof = prove(Identity(CONFIGURATIONS[name]), f"delta_code_{name}", timeout=100)
    assert proof, proof.output


SCANNED = {name: CONFIGURATIONS[name] for name in ("tiny", "replay", "middle")} | {
    "edge": preset("edge"),
    "odd": Parameters(lanes=13, memory_lanes=1, outliers=4),
}


@pytest.mark.parametrize("name", SCANNED)
def test_scan(name):
    """A scan of three places says where the group that the decoder measures there ends, for whatever bits."""
    proof = prove(Ends(SCANNED[name], 3), f"delta_scan_{name}", timeout=100)
    assert proof, proof.output


def test_a_fault_breaks_the_scan(tmp_path):
    assert not prove(Ends(preset("tiny"), 3, fault=1), "delta_scan_fault", folder=tmp_path)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_what_stands_beyond_the_end_is_of_no_account(name):
    proof = prove(Beyond(CONFIGURATIONS[name]), f"delta_beyond_{name}", timeout=100)
    assert proof, proof.output


def test_a_fault_breaks_that(tmp_path):
    assert not prove(Beyond(preset("tiny"), fault=1), "delta_beyond_fault", folder=tmp_path)


def test_scan_rejects():
    with pytest.raises(ValueError, match=r"^digit_width must be at most 3 for a scan, not 5$"):
        Scan(Code(CONFIGURATIONS["wide"]), 8)


@pytest.mark.parametrize("fault", [0, 3, 9])
def test_a_fault_breaks_it(fault, tmp_path):
    proof = prove(Identity(preset("tiny"), fault=fault), "delta_code_fault", folder=tmp_path)
    assert not proof
    assert proof.trace.exists()
