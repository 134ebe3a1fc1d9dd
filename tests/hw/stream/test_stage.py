# amaranth: UnusedElaboratable=no
"""Stages: equal results at every depth, registers for what is read later and nothing else, cuts counted."""

import dataclasses
import random
import re

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Const, Module, ResetInserter, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from hw.stream import Stage, count_stages, enabled_cuts
from tests.hw.streams import PATTERNS, exchange

pytestmark = pytest.mark.unit


class Described(wiring.Component):
    """A component that is one pipeline; `describe` takes its first stage and returns its last with the payload."""

    def __init__(self, describe, depth, *, i=8, o=8):
        self._describe, self.depth = describe, depth
        super().__init__({"i": In(stream.Signature(i)), "o": Out(stream.Signature(o))})

    def _pipeline(self, m):
        s, payload = self._describe(Stage.begin(m, self.i), m, self.i.payload)
        return s.finish(self.o, payload, depth=self.depth)

    @property
    def latency(self):
        return count_stages(self._pipeline)

    def elaborate(self, platform):
        m = Module()
        self._pipeline(m)
        return m


@dataclasses.dataclass(frozen=True)
class Pair:
    name: str
    low: Value
    high: list


def mixed(s, m, i):
    """``(i + 1) * 3 + (i ^ 255) + 2 i + i[7]``, by values of every kind, made and read stages apart."""
    s.i, s.bits = i, list(i)
    s.view = data.ArrayLayout(4, 2)(i)
    s.pair = Pair("kept", (i + 1)[:8], [i, ~i])
    s.three = Const(3, 2)
    s = s.cut().cut()
    assert s.pair.name == "kept"
    s.product = s.pair.low * s.three
    s.bits = s.bits[:7] + [s.bits[7]]
    s = s.cut()
    s.view = s.view
    return s.cut(), s


def described(s, m, i):
    s, before = mixed(s, m, i)
    twice = before.view[0] + (before.view[1] << 4)
    before.twice = (twice << 1)[:9]
    total = s.product + s.pair.high[1] + s.twice + s.bits[7]
    return s, total[:8]


def expected(i):
    return ((i + 1) % 256 * 3 + (i ^ 255) + 2 * i + (i >> 7)) % 256


def clocked(dut):
    """The component beside a register, so that there is a clock even without registers of its own."""
    m = Module()
    m.submodules.dut = dut
    m.d.sync += Signal(name="ticks").eq(1)
    return m


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("depth", [0, 1, 2, 3, 4, 5, 16])
def test_every_depth_gives_the_same_results(depth, pattern):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    inputs = random.Random(seed).choices(range(256), k=60)
    dut = Described(described, depth)
    assert dut.latency == min(depth, 5)
    result = exchange(dut, inputs, pattern=pattern, seed=seed, wrap=clocked)
    assert result.outputs == [expected(value) for value in inputs]
    if pattern == "none":
        delays = {left - taken for taken, left in zip(result.taken, result.left, strict=True)}
        assert delays == {dut.latency}


def names(dut):
    """Names of the registers of a component."""
    return set(re.findall(r"connect \\Q \\(\S+)", rtlil.convert(dut)))


def test_registers_hold_what_is_read_later_and_nothing_else():
    def describe(s, m, i):
        s.used, s.unused, s.constant = i + 1, i + 2, Const(5, 4)
        s = s.cut()
        s.total = s.used + s.constant
        s = s.cut()
        return s, s.total[:8]

    registers = names(Described(describe, 3))
    data_registers = {name for name in registers if name.startswith("stage") and not name.endswith("valid")}
    assert data_registers == {"stage1_used", "stage2_total"}


def test_values_of_one_shape_share_a_register():
    def describe(s, m, i):
        s.lanes, s.uneven = [i[:3], i[3:6]], [i[0], i[:2]]
        s = s.cut()
        return s, (s.lanes[0] + s.lanes[1] + s.uneven[1] + s.uneven[0])[:8]

    registers = names(Described(describe, 2))
    assert {"stage1_lanes", "stage1_uneven_0", "stage1_uneven_1"} <= registers
    inputs = range(256)
    outputs = exchange(Described(describe, 2), inputs).outputs
    assert outputs == [(i & 7) + (i >> 3 & 7) + (i & 3) + (i & 1) for i in inputs]


def test_signs_and_structs_stay():
    layout = data.StructLayout({"a": signed(4), "b": 4})

    def describe(s, m, i):
        s.parts, s.lanes = layout(i), [layout(i).a, layout(i).a]
        s = s.cut()
        return s, s.parts.a + s.lanes[1] + s.parts.b

    dut = Described(describe, 2, o=signed(8))
    signs = [value - 16 if value > 7 else value for value in range(16)]
    assert exchange(dut, range(256)).outputs == [2 * signs[i & 15] + (i >> 4) for i in range(256)]


def test_parts_meet_where_the_latest_ends():
    def add(s, value, cuts):
        s.value = value
        for _ in range(cuts):
            s = s.cut()
            s.value = (s.value + 1)[:8]
        return s

    def describe(s, m, i):
        s.i = i
        s, lanes = s.join([add(s.part(f"lane{cuts}"), i, cuts) for cuts in (2, 0, 3)])
        return s, Value.cast(sum(lane.value for lane in lanes) + s.i)[:8]

    for depth in (1, 2, 4):
        assert exchange(Described(describe, depth), range(80)).outputs == [(4 * i + 5) % 256 for i in range(80)]
    assert {"stage1_lane2_value", "stage3_lane0_value"} <= names(Described(describe, 4))


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("depth", [1, 2])
def test_a_payload_can_be_dropped(depth, pattern):
    def describe(s, m, i):
        s.i = i
        s = s.cut()
        s.valid = s.valid & ~s.i[0]
        return s, s.i

    result = exchange(Described(describe, depth), range(60), outputs=30, pattern=pattern)
    assert result.outputs == list(range(0, 60, 2))


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_register_of_the_callers_stands_for_a_value(depth, pattern):
    """A running sum is held by its own register, and read in the next stage from there."""

    def describe(s, m, i):
        s.i = i
        s = s.cut()
        held = Signal(8, name="held")
        with m.If(s.moves):
            m.d.sync += held.eq(held + s.i)
        s.make("total", (held + s.i)[:8], held_by=held)
        s = s.cut()
        return s, s.total

    result = exchange(Described(describe, depth), range(50), pattern=pattern)
    assert result.outputs == [sum(range(i + 1)) % 256 for i in range(50)]
    assert not {name for name in names(Described(describe, depth)) if name.endswith("total")}


def test_first_values_are_as_told():
    def describe(s, m, i):
        s.make("i", i, init=0xA5)
        s = s.cut()
        return s, s.i

    assert re.search(r"attribute \\init 8'10100101\n  wire width 8 \\stage1_i", rtlil.convert(Described(describe, 2)))


def test_enabled_cuts_always_hold_the_last():
    for cuts in range(1, 12):
        for depth in range(1, 17):
            enabled = enabled_cuts(cuts, depth)
            assert len(enabled) == cuts
            assert enabled[-1]
            assert sum(enabled) == min(cuts, depth)


def test_enabled_cuts_spread_evenly():
    assert enabled_cuts(6, 2) == (False, False, True, False, False, True)
    assert enabled_cuts(4, 1) == (False, False, False, True)


@pytest.mark.parametrize(
    "cuts, depth, message",
    [(0, 1, r"^cuts must be at least 1, not 0$"), (2, 0, r"^depth must be at least 1, not 0$")],
)
def test_rejections(cuts, depth, message):
    with pytest.raises(ValueError, match=message):
        enabled_cuts(cuts, depth)


def begin():
    ends = stream.Signature(8).create(path=("ends",))
    return Stage.begin(Module(), ends), ends


def test_reading_what_was_not_made():
    s, _ = begin()
    with pytest.raises(AttributeError, match=r"^value 'sum' must be made before stage 2 reads it$"):
        s.cut().cut().sum  # noqa: B018


@pytest.mark.parametrize("name", ["cut", "moves", "_hidden"])
def test_names_that_stages_have(name):
    s, _ = begin()
    with pytest.raises(ValueError, match=f"^value must not be called '{name}', a stage's own name$"):
        setattr(s, name, Const(0, 1))


def test_finish_stands_at_the_end_and_once():
    s, ends = begin()
    s.cut().cut()
    message = r"^finish must be called in the last stage, 2, not in stage 1$"
    with pytest.raises(ValueError, match=message):
        s.cut().finish(ends, Const(0, 8), depth=1)
    last = s.cut().cut()
    last.finish(ends, Const(0, 8), depth=1)
    with pytest.raises(ValueError, match=r"^finish must be called once$"):
        last.finish(ends, Const(0, 8), depth=1)


def test_reading_after_the_end():
    s, ends = begin()
    s.late = Signal(4)
    last = s.cut()
    last.finish(ends, Const(0, 8), depth=1)
    with pytest.raises(ValueError, match=r"^value 'late' must not be read after its pipeline is finished$"):
        last.late  # noqa: B018


def test_parts_of_another_pipeline():
    s, _ = begin()
    other, _ = begin()
    with pytest.raises(ValueError, match=r"^parts must be of the pipeline they are joined in$"):
        s.join([other.part("lane")])


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_instances_are_submodules_that_are_alike(depth):
    def lane(s):
        s = s.cut()
        s.value = (s.value + s.outer.offset)[:8]
        s = s.cut()
        return s

    def describe(s, m, i):
        s.offset = Const(1, 8) + i[0]
        lanes = [lane(s.instance(f"lane{index}", value=i[4 * index :][:4])) for index in range(2)]
        s, lanes = s.join(lanes)
        return s, lanes[0].value + lanes[1].value

    dut = Described(describe, depth)
    assert exchange(dut, range(256)).outputs == [(i & 15) + (i >> 4) + 2 + 2 * (i & 1) for i in range(256)]
    text = rtlil.convert(Described(describe, depth))
    modules = [body for body in text.split("\nmodule ") if body.startswith("\\top.lane")]
    lines = [sorted(re.findall(r"^  (?:wire|cell) (?!.*\$).*?(\\\w+)$", body, re.MULTILINE)) for body in modules]
    assert len(lines) == 2
    assert lines[0] == lines[1]
    assert {"\\value", "\\value_stage1", "\\stage2_value"} <= set(lines[0])


def test_a_whole_stage_stands_in_no_other():
    s, _ = begin()
    with pytest.raises(ValueError, match=r"^outer must be asked of a part, not of a whole stage$"):
        s.outer  # noqa: B018


class Flow(wiring.Component):
    """``3 a + b`` three clocks later, and a valid bit with it."""

    a: In(8)
    b: In(8)
    valid: In(1)
    total: Out(10)
    there: Out(1)

    def elaborate(self, platform):
        m = Module()
        s = Stage.begin_flow(m)
        s.b, s.valid, s.triple = self.b, self.valid, 3 * self.a
        s = s.cut(2)
        s.total = s.triple + s.b
        s = s.cut()
        m.d.comb += [self.total.eq(s.total), self.there.eq(s.valid)]
        assert s.finish_flow() == 3
        return m


def test_a_flow_never_waits_and_forgets_what_is_valid_at_a_reset():
    dut = Flow()
    sent = [(random.randrange(256), random.randrange(256), random.getrandbits(1)) for _ in range(60)]

    async def bench(ctx):
        for clock, (a, b, valid) in enumerate(sent):
            ctx.set(dut.a, a)
            ctx.set(dut.b, b)
            ctx.set(dut.valid, valid)
            ctx.set(reset, clock == 30)
            if clock > 2:
                past_a, past_b, past_valid = sent[clock - 3]
                forgotten = 28 <= clock - 3 <= 30
                assert ctx.get(dut.total) == (3 * past_a + past_b) % 1024
                assert ctx.get(dut.there) == (past_valid and not forgotten)
            await ctx.tick()

    reset = Signal()
    simulator = Simulator(ResetInserter(reset)(dut))
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_a_flow_registers_what_is_read_later():
    text = rtlil.convert(Flow(), name="flow", emit_src=False)
    assert set(re.findall(r"wire width \d+ .*(stage\d_\w+)", text)) == {
        *("stage1_b", "stage2_b", "stage1_triple", "stage2_triple", "stage3_total"),
        *("stage1_valid", "stage2_valid", "stage3_valid"),
    }
