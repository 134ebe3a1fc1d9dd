"""What an emission sends, as Verilog: memory and link as the interpreter leaves them."""

import random

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring

from golden.machine.accelerator import Region
from golden.machine.command import UNIT_BYTES, Emit, Operand
from golden.parameters import preset
from golden.units.delta_group import DeltaGroups
from hw.control.engine import Engine, Fields
from hw.near_memory.closed_loop.spool import SpoolWriter
from sim import engine
from sim.vectors import group_values
from tests.hw.core.test_load_engine import drawn
from tests.hw.interpreter import interpreter

pytestmark = pytest.mark.cocotb

UNITS = 1 << 13
REGIONS = [Region(0, UNITS) for _ in range(8)]
REGIONS[3] = Region(UNITS // 2, UNITS // 2)

SHAPES = {
    "direct": ["link_form=direct"],
    "compressed": ["link_form=compressed"],
    "narrow bus": ["link_form=compressed", "memory_width=32", "link_width=64", "outliers=0", "link_checks=true"],
    "wide": ["link_form=direct", "lanes=16", "memory_width=256", "digit_width=4", "outliers=2"],
}


class Sender(Engine):
    """An emit engine that is nothing but its spool writer: groups come from outside."""

    name = "emit"

    def _members(self, parameters):
        self.spool = SpoolWriter(parameters)
        names = ("groups", "up", "spools_written", "tables_written")
        return super()._members(parameters) | {
            name: self.spool.signature.members[name] for name in names if name in self.spool.signature.members
        }

    def elaborate(self, platform):
        m = Module()
        m.submodules.spool = spool = self.spool
        begun, lines = Signal(), Signal(16)
        for name in spool.signature.members:
            if name in ("up", "spools_written", "tables_written"):
                wiring.connect(m, getattr(spool, name), wiring.flipped(getattr(self, name)))
        taken = self.groups.valid & self.groups.ready
        m.d.comb += [
            spool.operation.eq(self.operation.p),
            spool.start.eq(self.operation.valid & ~begun),
            spool.groups.valid.eq(self.groups.valid & begun & (lines != Fields(self.operation.p, Emit).lines)),
            spool.groups.payload.eq(self.groups.payload),
            self.groups.ready.eq(spool.groups.ready & spool.groups.valid),
            self.error.eq(spool.error),
            self.operation.ready.eq(begun & (lines == Fields(self.operation.p, Emit).lines) & spool.idle),
        ]
        m.d.sync += [
            begun.eq(self.operation.valid & ~self.operation.ready),
            lines.eq(lines + (taken & self.groups.p.last)),
        ]
        with m.If(self.operation.ready):
            m.d.sync += lines.eq(0)
        return m


@pytest.fixture(params=SHAPES, scope="module")
def dut(request):
    return Sender(preset("tiny").with_settings(SHAPES[request.param]))


def sent(p, memory, emissions):
    """An interpreter that has sent the lines of all emissions."""
    accelerator = interpreter(p, memory, REGIONS)
    for emission, lines in emissions:
        for number, groups in enumerate(lines):
            accelerator._send(emission, emission.line + number, groups, emission.passes + 1)
    return accelerator


def played(p, lines):
    """Lines as the stream of groups has them."""
    last = np.concatenate([np.arange(1, len(groups) + 1) == len(groups) for groups in lines])
    return {"groups": {"group": group_values(DeltaGroups.concatenate(lines), p), "last": last}}


@pytest.mark.parametrize("mode", ["both", "reset"])
def test_lines(dut, mode, fresh_seed):
    """Lines short and long, into slots at any place and up the link; also after a reset in the midst of them."""
    p, r, generator = dut.parameters, random.Random(fresh_seed), np.random.default_rng(fresh_seed)
    memory = generator.integers(0, 256, UNITS * UNIT_BYTES, np.uint8)
    emissions = []
    for number in range(10):
        size = r.choice([1, 2, 7, 8, 9, 16, 70])
        emission = Emit(
            spool=Operand(5, number * 400),
            lengths=Operand(3, number * 16 + r.randrange(4)),
            slot=r.choice([40, 43]),
            line=r.randrange(4),
            lines=r.randint(1, 4),
            passes=r.randrange(3),
            link=r.random() < 0.3,
        )
        emissions.append((emission, [drawn(p, generator, size) for _ in range(emission.lines)]))
    expected = sent(p, memory, emissions)
    lines = [groups for _, of in emissions for groups in of]
    operations = [emission for emission, _ in emissions]
    outcome = engine.run(dut, memory, REGIONS, operations, streams=played(p, lines), mode=mode, seed=fresh_seed)
    assert outcome.error is None and len(outcome.clocks) == len(emissions)
    np.testing.assert_array_equal(outcome.memory, expected.memory)
    up = outcome.streams["up"]
    linked = [groups for emission, of in emissions if emission.link for groups in of]
    if linked:
        wanted = played(p, linked)["groups"]
        np.testing.assert_array_equal(up["last"], wanted["last"])
        np.testing.assert_array_equal(up["group"]["digits"], wanted["group"]["digits"])
        np.testing.assert_array_equal(up["group"]["exponent"], wanted["group"]["exponent"])
    else:
        assert not len(up["last"])
    written = outcome.moved["spools_written"]
    assert written == expected.counters["memory_spools_written"]
    assert outcome.moved.get("tables_written", 0) == expected.counters["memory_tables_written"]


def test_a_spool_behind_a_short_line_that_went_up_the_link(dut):
    """The link takes its group before the next slot's place would be counted: that count begins anew."""
    p, memory = dut.parameters, np.zeros(UNITS * UNIT_BYTES, np.uint8)
    short, long = drawn(p, np.random.default_rng(2), 1), drawn(p, np.random.default_rng(3), 9)
    fields = {"spool": Operand(5, 3), "lengths": Operand(3, 0), "slot": 40, "lines": 1}
    emissions = [(Emit(**fields, line=0xFFFF, link=True), [short]), (Emit(**fields, line=1), [long])]
    expected = sent(p, memory, emissions)
    outcome = engine.run(
        dut, memory, REGIONS, [one for one, _ in emissions], streams=played(p, [short, long]), mode="none"
    )
    assert outcome.error is None
    np.testing.assert_array_equal(outcome.memory, expected.memory)


def test_a_slot_that_is_too_small(dut):
    """Is an error of its field; what fits exactly is none."""
    p = dut.parameters
    groups = drawn(p, np.random.default_rng(1), 60)
    memory = np.zeros(UNITS * UNIT_BYTES, np.uint8)
    room = Emit(slot=400, lines=1, spool=Operand(5, 0), lengths=Operand(3, 0))
    accelerator = sent(p, memory, [(room, [groups])])
    units = -(-accelerator.counters["memory_spools_written"] // UNIT_BYTES)
    for slot, error in ((units, None), (units - 1, "field")):
        emission = Emit(slot=slot, lines=1, spool=Operand(5, 1), lengths=Operand(3, 1))
        outcome = engine.run(dut, memory, REGIONS, [emission], streams=played(p, [groups]))
        assert outcome.error == error
        end = (1 + slot) * UNIT_BYTES
        assert not outcome.memory[end : UNITS // 2 * UNIT_BYTES].any()


def test_a_place_past_every_limit_is_an_error_of_the_region(dut):
    """Far products do not wrap."""
    p = dut.parameters
    groups = drawn(p, np.random.default_rng(1), 3)
    emission = Emit(slot=0xFFFF, line=0xFFFF, lines=1, spool=Operand(5, 5), lengths=Operand(3, 1))
    outcome = engine.run(dut, np.zeros(UNITS * UNIT_BYTES, np.uint8), REGIONS, [emission], streams=played(p, [groups]))
    assert outcome.error == "region"
