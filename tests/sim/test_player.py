"""The player itself: it must notice whatever a unit can do wrong."""

import numpy as np
import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl_gen.verilog import emission
from sim import play, player, run, simulator
from sim.bench import Bench, Case, Memory
from sim.result import Result

DEFECTS = ("none", "value", "missing", "extra", "changes", "withdraws", "status", "clear", "cleared event")
COUNT = 200
ODD = 77  # the value at which a defect shows


class Rogue(wiring.Component):
    """Hands on what it gets plus 1, unless it has a defect."""

    i: In(stream.Signature(data.StructLayout({"low": 4, "high": 8})))
    o: Out(stream.Signature(data.StructLayout({"pad": 3, "lanes": data.ArrayLayout(6, 2)})))
    defect: In(4)
    clear: In(1)
    seen: Out(1)

    def elaborate(self, platform):
        m = Module()
        value = self.i.p.as_value()
        odd = value == ODD
        full, held = Signal(), Signal(12)
        again = Signal()
        waited = Signal()
        m.d.sync += waited.eq(self.o.valid & ~self.o.ready)
        m.d.comb += [
            self.i.ready.eq(~full | self.o.valid & self.o.ready & ~again),
            self.o.valid.eq(full & ~((self.defect == 5) & waited & (held == ODD + 1))),
            self.o.p.pad.eq(5),
            self.o.p.as_value()[3:].eq(held ^ ((self.defect == 4) & waited)),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [full.eq(again), again.eq(0)]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                full.eq(~(odd & (self.defect == 2))),
                held.eq(Mux(odd & (self.defect == 1), value + 65, value + 1)),
                again.eq(odd & (self.defect == 3)),
            ]
        event = self.i.valid & self.i.ready & odd & (self.defect != 6)
        with m.If(self.clear & (self.defect != 7)):
            m.d.sync += self.seen.eq(event & (self.defect != 8))
        with m.Elif(event):
            m.d.sync += self.seen.eq(1)
        return m


class Remembers(wiring.Component):
    """Ports of a unit with a memory of bytes."""

    i: In(stream.Signature(8))
    o: Out(stream.Signature(8))
    request: Out(stream.Signature(data.StructLayout({"address": 32})))
    response: In(stream.Signature(8))
    write: Out(stream.Signature(data.StructLayout({"address": 32, "data": 8})))


class Restless(Remembers):
    """Hands on what it gets, and reads a word of memory again and again."""

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [
            self.o.valid.eq(self.i.valid),
            self.o.payload.eq(self.i.payload),
            self.i.ready.eq(self.o.ready),
            self.request.valid.eq(1),
            self.response.ready.eq(1),
        ]
        return m


class Keeper(Remembers):
    """Hands on what it gets, and writes it to word 0 of memory."""

    def elaborate(self, platform):
        m = Module()
        writes, gives, held = Signal(), Signal(), Signal(8)
        m.d.comb += [
            self.i.ready.eq(~writes & ~gives),
            self.write.valid.eq(writes),
            self.write.p.data.eq(held),
            self.o.valid.eq(gives),
            self.o.payload.eq(held),
            self.response.ready.eq(1),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [writes.eq(1), held.eq(self.i.payload)]
        with m.If(writes & self.write.ready):
            m.d.sync += [writes.eq(0), gives.eq(1)]
        with m.If(gives & self.o.ready):
            m.d.sync += gives.eq(0)
        return m


def outcome(defect: str, mode: str = "both") -> Result:
    values = np.arange(COUNT)
    values[[60, ODD]] = values[[ODD, 60]]  # the odd one comes at 60, and last when an extra one is to follow it
    if defect == "extra":
        values[[60, -1]] = values[[-1, 60]]
    inputs = {"low": values & 15, "high": values >> 4}
    after = values + 1
    outputs = {"pad": np.full(COUNT, 5), "lanes": np.stack([after & 63, after >> 6], axis=1)}
    case = Case("count", {"i": inputs}, {"o": outputs}, {"defect": DEFECTS.index(defect)}, {"seen": True})
    return run.run(Bench("rogue", Rogue(), [case], groups_per_clock=1.0), modes=[mode], seed=3)


@pytest.mark.unit
def test_the_boundary_of_a_unit():
    rogue = Rogue()
    ports = player.interface(rogue.signature)
    emitted = emission.emit(rogue, name="rogue")
    assert {"defect", "clear", "seen", "i_low", "i_high", "o_pad", "o_lanes"} < {port.name for port in emitted.ports}
    assert [(port.name, port.width) for port in ports.inputs] == [("i", 12)]
    assert [(port.name, port.width) for port in ports.outputs] == [("o", 15)]
    assert [(port.name, port.width) for port in ports.settings] == [("defect", 4), ("clear", 1)]
    assert [(port.name, port.width) for port in ports.status] == [("seen", 1)]


@pytest.mark.unit
def test_an_array_of_ports_is_refused():
    signature = wiring.Signature({"several": In(1).array(3)})
    with pytest.raises(ValueError, match="^Members of a unit must be single ports, not an array as several is$"):
        player.interface(signature)


@pytest.mark.cocotb
@pytest.mark.parametrize("mode", play.MODES)
def test_a_sound_unit_passes(mode):
    result = outcome("none", mode)
    assert result.first is None and result.mismatches == 0
    assert result.vectors == COUNT
    assert (result.groups_per_clock == 1.0) == (mode == "none")


@pytest.mark.cocotb
@pytest.mark.parametrize("defect", DEFECTS[1:])
def test_every_defect_is_noticed(defect):
    first = outcome(defect, "late" if defect == "cleared event" else "both").first
    assert first is not None and first.unit == "rogue"
    expected = {
        "value": "value",
        "missing": "value",  # the next one comes in its place
        "extra": "extra",
        "changes": "unstable",
        "withdraws": "unstable",
        "status": "status",
        "clear": "clear",
        "cleared event": "status",
    }
    if defect == "changes" and first.what == "value":
        assert first.where == "lanes[0]"  # taken while changed
    else:
        assert first.what == expected[defect]


@pytest.mark.cocotb
def test_a_run_that_is_broken_off_as_it_ends_leaves_no_verdict_on_memory():
    values = np.arange(1, 21)
    memory = Memory(address=np.array([0]), before=np.array([0]), after=np.array([20]))
    case = Case("keep", {"i": values}, {"o": values}, memory=memory)
    bench = Bench("keeper", Keeper(), [case], memory=player.MemoryPorts("request", "response", "write"))
    made = play.Play(bench, modes=["reset"])
    model, (whole,) = run.build(bench), made.plan["runs"]
    with simulator.workspace("keeper", None) as space:
        (outcome,) = model.run(made.plan, made.files, space.folder)
        # The reset comes before the clock in which a run ends, in it, or after it.
        ends = range(outcome["cycles"] - 5, outcome["cycles"] + 5)
        made.plan["runs"] = [whole | {"begun": begun, "reset": 1} for begun in ends]
        outcomes = model.run(made.plan, made.files, space.folder)
    assert len(outcomes) == 10
    assert not [(one["cycles"], one["memory"]) for one in (outcome, *outcomes) if one["failed"]]


@pytest.mark.cocotb
def test_a_unit_that_never_comes_to_rest_is_stopped():
    values = np.arange(20)
    memory = Memory(address=np.array([0]), before=np.array([5]), after=np.array([5]))
    case = Case("hand on", {"i": values}, {"o": values}, memory=memory)
    ports = player.MemoryPorts("request", "response", "write")
    result = run.run(Bench("restless", Restless(), [case], memory=ports), modes=["none"])
    assert result.first.what == "endless" and 10_000 < result.first.got < 100_000
    assert str(result.first).startswith("unit restless, lane -, cycle ")
    assert "clocks until the unit was stopped, which never came to rest: got " in str(result.first)


@pytest.mark.cocotb
def test_a_mismatch_names_unit_lane_cycle_got_and_expected():
    result = outcome("value", "none")
    first = result.first
    assert (first.where, first.lane, first.index) == ("lanes[1]", 1, 60)
    assert (first.got, first.expected) == ((ODD + 65) >> 6, (ODD + 1) >> 6)
    assert result.mismatches == 1
    assert str(first) == (
        f"unit rogue, lane 1, cycle {first.cycle}: lanes[1] of output 60 of stream o: got 2, expected 1 "
        "(case count, mode none)"
    )
