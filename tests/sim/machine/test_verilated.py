"""The memory behind AXI4 and the master of registers, on a small machine that is written here, sound or not."""

import dataclasses

import numpy as np
import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.machine.registers import register
from golden.parameters import preset
from hw.bus.axi import AXI4, AXI4Lite
from rtl_gen.verilog import emission
from sim.machine.verilated import Fault, MachineModel, Memory, ProtocolError, VerilatedPort
from sim.mutants import mutate
from sim.simulator import SimulationError

pytestmark = pytest.mark.cocotb

FLAWS = {
    "none": "",
    "withdrawn": "AR was offered and then withdrawn",
    "changed": "AW changed before it was taken",
    "restless": "W changed before it was taken",
    "kind": "AR must be of kind INCR, not 0",
    "narrow": "AW must be of the whole width, not of size 2",
    "unaligned": "AR must be aligned, not at 100",
    "boundary": "AR must not cross 4 KiB, as from 96 for 4096 bytes",
    "last": "WLAST must be high at the last beat of 4 and at no other, at 4160",
    "outside": "W is outside every region, at 1052736",
    "stray": "R is outside every region, at 80",
    "mute": "registers do not answer",
    "refused": "registers answer with response 2",
}
BEATS = 4


class Copier(wiring.Component):
    """Copies `program_size` bursts of four beats from region 0 to region 1; the register `watchdog` names a flaw.

    A beat that memory refuses ends it with the cause 8 in the register ``error``.
    """

    def __init__(self):
        super().__init__({"memory": Out(AXI4(32, 128)), "registers": In(AXI4Lite(12)), "interrupt": Out(1)})

    def elaborate(self, platform):
        m = Module()
        size, flaw, base, target = (Signal(32, name=name) for name in ("size", "flaw", "base", "target"))
        places = {"program_size": size, "watchdog": flaw, "region0_base": base, "region1_base": target}
        busy, done, cause, clock = Signal(), Signal(), Signal(4), Signal(8)
        m.d.sync += clock.eq(clock + 1)
        self._slave(m, places, {"status": busy | done << 3 | (cause != 0) << 4, "error": cause}, busy, flaw)
        bus, number, beat, held = self.memory, Signal(32), Signal(range(BEATS)), [Signal(128) for _ in range(BEATS)]
        wrong = {name: flaw == index for index, name in enumerate(FLAWS)}
        m.d.comb += [
            self.interrupt.eq(~busy & (done | (cause != 0))),
            bus.araddr.eq((base << 5) + 64 * number + 4 * wrong["unaligned"] - 16 * wrong["stray"]),
            bus.arlen.eq(Mux(wrong["boundary"], 255, BEATS - 1)),
            bus.arsize.eq(4),
            bus.arburst.eq(~wrong["kind"]),
            bus.awaddr.eq((target << 5) + 64 * number + (clock << 4) * wrong["changed"] + (wrong["outside"] << 20)),
            bus.awlen.eq(BEATS - 1),
            bus.awsize.eq(Mux(wrong["narrow"], 2, 4)),
            bus.awburst.eq(1),
            bus.wlast.eq((beat == BEATS - 1) ^ wrong["last"]),
            bus.wstrb.eq(-1),
        ]
        with m.Switch(beat):
            for index in range(BEATS):
                with m.Case(index):
                    m.d.comb += bus.wdata.eq(held[index] ^ (clock[0] & wrong["restless"]))
        with m.FSM():
            with m.State("rest"):
                m.d.sync += [number.eq(0), beat.eq(0)]
                with m.If(busy):
                    m.d.sync += [done.eq(0), cause.eq(0)]
                    m.next = "ask"
            with m.State("ask"):
                m.d.comb += bus.arvalid.eq(~wrong["withdrawn"] | clock[1])
                with m.If(bus.arvalid & bus.arready):
                    m.next = "read"
            with m.State("read"):
                m.d.comb += bus.rready.eq(1)
                with m.If(bus.rvalid):
                    m.d.sync += beat.eq(beat + 1)
                    with m.Switch(beat):
                        for index in range(BEATS):
                            with m.Case(index):
                                m.d.sync += held[index].eq(bus.rdata)
                    with m.If(bus.rresp != 0):
                        m.d.sync += cause.eq(8)
                    with m.If(bus.rlast):
                        m.next = "place"
            with m.State("place"):
                m.d.comb += bus.awvalid.eq(1)
                with m.If(bus.awready):
                    m.next = "write"
            with m.State("write"):
                m.d.comb += bus.wvalid.eq(1)
                with m.If(bus.wready):
                    m.d.sync += beat.eq(beat + 1)
                    with m.If(beat == BEATS - 1):
                        m.next = "answer"
            with m.State("answer"):
                m.d.comb += bus.bready.eq(1)
                with m.If(bus.bvalid):
                    m.d.sync += number.eq(number + 1)
                    with m.If(bus.bresp != 0):
                        m.d.sync += cause.eq(8)
                    m.next = "ask"
                    with m.If((number + 1 == size) | (cause != 0) | (bus.bresp != 0)):
                        m.d.sync += [busy.eq(0), done.eq((cause == 0) & (bus.bresp == 0))]
                        m.next = "rest"
        return m

    def _slave(self, m, places, shown, busy, flaw):
        port, got_address, got_data = self.registers, Signal(), Signal()
        address, value = Signal(12), Signal(32)
        mute = flaw == list(FLAWS).index("mute")
        m.d.comb += [
            port.awready.eq(~got_address & ~port.bvalid),
            port.wready.eq(~got_data & ~port.bvalid),
            port.arready.eq(~port.rvalid),
            port.rresp.eq(Mux(flaw == list(FLAWS).index("refused"), 2, 0)),
        ]
        with m.If(port.awvalid & port.awready):
            m.d.sync += [got_address.eq(1), address.eq(port.awaddr)]
        with m.If(port.wvalid & port.wready):
            m.d.sync += [got_data.eq(1), value.eq(port.wdata)]
        with m.If(got_address & got_data):
            m.d.sync += [port.bvalid.eq(1), got_address.eq(0), got_data.eq(0)]
            for name, signal in places.items():
                with m.If(address == register(name).offset):
                    m.d.sync += signal.eq(value)
            with m.If((address == register("control").offset) & value[0]):
                m.d.sync += busy.eq(1)
        with m.If(port.bvalid & port.bready):
            m.d.sync += port.bvalid.eq(0)
        with m.If(port.rvalid & port.rready):
            m.d.sync += port.rvalid.eq(0)
        with m.If(port.arvalid & port.arready & ~mute):
            m.d.sync += [port.rvalid.eq(1), port.rdata.eq(0)]
            for name, signal in (places | shown).items():
                with m.If(port.araddr == register(name).offset):
                    m.d.sync += port.rdata.eq(signal)


@pytest.fixture(scope="module")
def model():
    return MachineModel(Copier())


PLAIN = Memory()


def begin(model, how=PLAIN, *, bursts=20, flaw="none", faults=(), seed=0, base=3, mutant=0):
    memory = np.random.default_rng(seed).integers(0, 256, 1 << 15, np.uint8)
    port = VerilatedPort(model, preset("tiny"), memory, how, faults, mutant=mutant)
    values = {"region0_base": base, "region0_limit": 100, "region1_base": 130, "region1_limit": 100}
    for name, value in (values | {"program_size": bursts, "watchdog": list(FLAWS).index(flaw)}).items():
        port.write(register(name).offset, value)
        if flaw not in ("mute", "refused"):
            assert "limit" in name or port.read(register(name).offset) == value
    port.write(register("control").offset, 1)
    return port, memory.copy()


def status(port):
    return port.read(register("status").offset)


@pytest.mark.parametrize("mode", ["none", "idle", "back-pressure", "both", "late"])
def test_a_copy_in_every_mode(model, mode, fresh_seed):
    port, expected = begin(model, Memory(mode=mode, seed=fresh_seed), seed=fresh_seed)
    port.advance(100_000)
    expected[130 * 32 : 130 * 32 + 1280] = expected[96 : 96 + 1280]
    assert status(port) == 8
    np.testing.assert_array_equal(port.memory, expected)
    assert port.traffic == {"bursts read": 20, "beats read": 80, "bursts written": 20, "beats written": 80}


@pytest.mark.parametrize("origin", [0x1000, 0x5A5A5000, 0xA5A5A000])
def test_memory_may_lie_anywhere(model, origin):
    port, expected = begin(model, Memory(origin=origin))
    port.advance(100_000)
    expected[130 * 32 : 130 * 32 + 1280] = expected[96 : 96 + 1280]
    assert status(port) == 8 and port.read(register("program_size").offset) == 20
    np.testing.assert_array_equal(port.memory, expected)
    with pytest.raises(ProtocolError, match=rf"^Clock \d+: R is outside every region, at {origin + 80}$"):
        port, _ = begin(model, Memory(origin=origin), flaw="stray")
        port.advance(10_000)


def test_latency_and_bandwidth(model):
    taken = {}
    for how in (Memory(2), Memory(42), Memory(2, 1, 8)):
        port, _ = begin(model, how)
        before = port.clocks
        port.advance(100_000)
        taken[how] = port.clocks - before
    fast, slow, narrow = taken.values()
    assert slow - fast == 20 * 2 * 40
    # four beats an eighth as fast, both ways, but for the first one of a run of beats
    assert 20 * 2 * 3 * 7 <= narrow - fast <= 20 * 2 * 4 * 7


def test_nothing_is_seen_before_it_is_acknowledged(model):
    port, before = begin(model, Memory(30), bursts=1)
    port.advance(30 + 20)
    assert (port.memory == before).all()
    port.advance(100)
    assert (port.memory != before).any()


@pytest.mark.parametrize("write, beat", [(False, 0), (False, 7), (True, 0), (True, 6)])
def test_beats_that_are_refused(model, write, beat):
    port, before = begin(model, faults=[Fault(write, beat, 3)])
    port.advance(100_000)
    assert status(port) == 16 and port.read(register("error").offset) == 8
    done = beat // 4 * 64
    if write:
        assert (port.memory[130 * 32 : 130 * 32 + done] == before[96 : 96 + done]).all()
        assert (port.memory[130 * 32 + done :] == before[130 * 32 + done :]).all()


def test_memory_that_is_not_there_is_refused(model):
    port, _ = begin(model, base=1 << 11)
    port.advance(100_000)
    assert status(port) == 16


def test_a_mutant_is_chosen_by_a_port():
    copier = Copier()
    unit = emission.emit(copier, name="unit", ports="flat")
    drawn = mutate(unit.text, "unit", 6, seed=1)
    mutated = MachineModel(copier, optimise="-O1", mutated=dataclasses.replace(unit, text=drawn.text))

    def shows(number):
        try:
            port, _ = begin(mutated, Memory(mode="both", seed=1), mutant=number)
            port.advance(100_000)
            return status(port) != 8 or port.memory.tobytes() != right
        except (AssertionError, SimulationError):
            return True

    port, _ = begin(mutated)
    port.advance(100_000)
    right = port.memory.tobytes()
    assert not shows(0)
    assert any(shows(mutant.number) for mutant in drawn.mutants["unit"])


def test_a_reset_begins_anew(model):
    port, before = begin(model, Memory(mode="both", seed=5))
    port.advance(333)
    port.reset(1)
    port.memory[:] = before
    assert status(port) == 0
    for name, value in {"region0_base": 3, "region1_base": 130, "program_size": 20}.items():
        port.write(register(name).offset, value)
    port.write(register("control").offset, 1)
    port.advance(100_000)
    assert status(port) == 8 and (port.memory[130 * 32 : 130 * 32 + 1280] == before[96 : 96 + 1280]).all()


@pytest.mark.parametrize("flaw", list(FLAWS)[1:])
def test_every_rule_is_checked(model, flaw):
    with pytest.raises(ProtocolError, match=rf"^Clock \d+: {FLAWS[flaw]}"):
        port, _ = begin(model, Memory(mode="both", seed=1), flaw=flaw)
        port.advance(10_000)
        status(port)


@pytest.mark.parametrize(
    "values, sentence",
    [
        ({"mode": "nun"}, "mode must be one of the known names, not 'nun'; did you mean none"),
        ({"latency": 0}, "latency must be at least 1, not 0"),
        ({"beats": 3, "clocks": 2}, "beats must be at most clocks = 2, not 3"),
        ({"origin": 100}, r"origin must be a multiple of 4096 below 2\^32, not 100"),
        ({"origin": 1 << 32}, r"origin must be a multiple of 4096 below 2\^32, not 4294967296"),
    ],
)
def test_bad_behaviour_is_refused(values, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        Memory(**values)
