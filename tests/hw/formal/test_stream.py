"""The stream blocks lose nothing, repeat nothing, keep order and hold what waits: for runs of any length."""

import pytest
from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw.stream import SkidBuffer, Stage, enabled_cuts
from hw.units import OutlierSelector
from rtl_gen.proof import prove

pytestmark = pytest.mark.formal

NUMBER = 3
"""Bits of the serial number that every payload carries; blocks hold fewer payloads than that tells apart."""


class Stages(wiring.Component):
    """A pipeline that computes nothing, or that repeats a payload where `fault` is the stage to break."""

    def __init__(self, cuts, depth, *, fault=""):
        self.cuts, self.depth, self.fault = cuts, depth, fault
        self.latency = sum(enabled_cuts(cuts, depth))
        super().__init__({"i": In(stream.Signature(NUMBER)), "o": Out(stream.Signature(NUMBER))})

    def elaborate(self, platform):
        m = Module()
        s = Stage.begin(m, self.i)
        s.number = self.i.payload
        for _ in range(self.cuts - 1):
            s = s.cut()
        five = (s.number == 5) & self.i.valid
        if self.fault == "lost":
            s.valid = s.valid & ~five
        s.finish(self.o, s.number, depth=self.depth)
        if self.fault == "repeated":
            m.d.comb += self.i.ready.eq((~self.o.valid | self.o.ready) & ~five)
        if self.fault == "changed":
            with m.If(self.o.valid & ~self.o.ready & (self.o.payload == 5)):
                m.d.sync += self.o.payload.eq(4)
        return m


class Contract(wiring.Component):
    """Numbers the payloads that go in, and checks the numbers that come out.

    `number` puts a serial number into an input payload and `read` finds it in an output payload.
    """

    def __init__(self, dut, capacity, *, number=lambda payload, value: payload.eq(value), read=lambda payload: payload):
        self.dut, self.capacity, self.number, self.read = dut, capacity, number, read
        super().__init__({"valid": In(1), "ready": In(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = self.dut
        sent, got, inside = Signal(NUMBER), Signal(NUMBER), Signal(range(self.capacity + 2))
        m.d.comb += [dut.i.valid.eq(self.valid), self.number(dut.i.payload, sent), dut.o.ready.eq(self.ready)]
        put, get = Signal(), Signal()
        m.d.comb += [put.eq(dut.i.valid & dut.i.ready), get.eq(dut.o.valid & dut.o.ready)]
        m.d.sync += [sent.eq(sent + put), got.eq(got + get), inside.eq(inside + put - get)]
        # Order; nothing lost, nothing repeated: each number comes once, after the one before it.
        m.d.comb += Assert(~dut.o.valid | (self.read(dut.o.payload) == got))
        m.d.comb += [Assert(inside <= self.capacity), Assert(~dut.o.valid | (inside != 0))]
        # What waits stays.
        waits = Signal()
        m.d.sync += waits.eq(dut.o.valid & ~dut.o.ready)
        m.d.comb += Assert(~waits | dut.o.valid)
        # A payload comes out within the latency, if the consumer takes what there is, and room is found for the next.
        stuck = Signal(range(dut.latency + 2))
        progress = Mux((inside != 0) & ~dut.o.valid, stuck + 1, 0)
        m.d.sync += stuck.eq(progress)
        m.d.comb += Assert(stuck <= dut.latency)
        m.d.comb += Assert((inside == self.capacity) | dut.i.ready | ~dut.o.ready | (stuck != 0) | dut.o.valid)
        return m


@pytest.mark.parametrize("cuts, depth", [(cuts, depth) for cuts in range(1, 5) for depth in range(1, cuts + 1)])
def test_pipeline(cuts, depth):
    dut = Stages(cuts, depth)
    assert prove(Contract(dut, dut.latency), f"pipeline_{cuts}_{depth}")


def test_skid_buffer():
    assert prove(Contract(SkidBuffer(NUMBER), 2), "skid_buffer")


@pytest.mark.parametrize("fault", ["lost", "repeated", "changed"])
def test_a_fault_breaks_the_contract(fault, tmp_path):
    assert not prove(Contract(Stages(3, 3, fault=fault), 3), f"pipeline_{fault}", folder=tmp_path)


@pytest.mark.parametrize("depth", [1, 2, 16])
def test_outlier_selector(depth):
    """The number travels as the value of the one flagged lane, from any lane to slot 0."""
    dut = OutlierSelector(Parameters(lanes=4, outliers=1, memory_lanes=1, pipeline_depth=depth))

    def number(payload, value):
        return [payload.flags.eq(0b0100), payload.values[2].eq(value)]

    proof = Contract(dut, dut.latency, number=number, read=lambda payload: payload.outliers[0].value)
    assert prove(proof, f"selector_stream_{depth}")
