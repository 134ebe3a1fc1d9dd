"""The bench of one engine, on a copier that is written here, sound and broken in each way that a rule names."""

import numpy as np
import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from golden.machine.accelerator import Region
from golden.machine.command import LoadWeights, Operand
from golden.parameters import preset
from hw.control.engine import Engine, Fields, cause
from sim import engine
from sim.play import MODES

pytestmark = pytest.mark.cocotb

FLAWS = ("none", "early", "impatient", "withdrawn", "changed", "stray", "greedy", "stuck", "empty", "after")


class Copier(Engine):
    """Copies the words of a load's source to `skip` units further on, and shows them on a stream.

    The input `flaw` makes it break one rule.
    """

    name = "load"

    def _members(self, parameters):
        return super()._members(parameters) | {
            "source": self.read(parameters),
            "target": self.write(parameters),
            "shown": Out(stream.Signature(parameters.memory_width)),
            "added": In(stream.Signature(8)),
            "times": In(4),
            "flaw": In(range(len(FLAWS))),
        }

    def elaborate(self, platform):
        m = Module()
        size = self.parameters.memory_width // 8
        fields = Fields(self.operation.p, LoadWeights)
        source, target, shown = self.source, self.target, self.shown
        flaw = {name: self.flaw == number for number, name in enumerate(FLAWS)}
        asked_read, asked_write, held, is_shown, is_written = (Signal(name=name) for name in "asdfg")
        word, clock, count = Signal(self.parameters.memory_width), Signal(8), Signal(16)
        runs = Signal()
        m.d.sync += clock.eq(clock + 1)
        m.d.comb += [
            runs.eq(self.operation.valid & (self.error == 0) & (fields.records != 0)),
            self.added.ready.eq(clock[:2] == 3),
            source.request.p.region.eq(fields.source.region),
            source.request.p.address.eq(fields.source.offset * 32),
            source.request.p.bytes.eq((fields.records + flaw["greedy"]) * size),
            source.request.valid.eq(runs & ~asked_read),
            source.data.ready.eq(runs & ~held & (count != fields.records)),
            target.request.p.region.eq(fields.source.region),
            target.request.p.address.eq((fields.source.offset + fields.skip) * 32),
            target.request.p.bytes.eq(Mux(flaw["empty"], 0, fields.records * size - flaw["stray"])),
            target.request.valid.eq(runs & ~asked_write & ~flaw["early"]),
            target.data.p.data.eq(word),
            target.data.p.strobe.eq(-1),
            target.data.valid.eq(runs & held & ~is_written | flaw["early"]),
            shown.payload.eq(word ^ Mux(flaw["changed"], clock, 0)),
            shown.valid.eq(runs & held & ~is_shown & (~flaw["withdrawn"] | clock[2])),
        ]
        with m.If(self.operation.valid & (fields.records == 0)):
            m.d.sync += self.error.eq(cause("field"))
        with m.If(source.request.valid & source.request.ready):
            m.d.sync += asked_read.eq(1)
        with m.If(target.request.valid & target.request.ready):
            m.d.sync += asked_write.eq(1)
        with m.If(source.data.valid & source.data.ready):
            m.d.sync += [word.eq(source.data.payload + self.times), held.eq(1), is_shown.eq(0), is_written.eq(0)]
        with m.If(shown.valid & shown.ready):
            m.d.sync += is_shown.eq(1)
        with m.If(target.data.valid & target.data.ready):
            m.d.sync += is_written.eq(1)
        with m.If(held & is_shown & is_written):
            m.d.sync += [held.eq(0), count.eq(count + 1)]
        done = asked_read & asked_write & (count == fields.records) & (target.idle | flaw["impatient"])
        m.d.comb += self.operation.ready.eq(
            runs & done & ~flaw["stuck"] | (self.error != 0) & flaw["after"],
        )
        m.d.sync += self.overflow.eq(0)
        with m.If(self.operation.valid & self.operation.ready):
            m.d.sync += [asked_read.eq(0), asked_write.eq(0), count.eq(0), self.overflow.eq(fields.half)]
        return m


@pytest.fixture(scope="module")
def parameters():
    return preset("tiny")


@pytest.fixture(scope="module")
def copier(parameters):
    return engine.build(Copier(parameters))


def case(parameters, seed):
    generator = np.random.default_rng(seed)
    memory = generator.integers(0, 256, 8192, np.uint8)
    regions = [Region(), Region(3, 200)]
    operations = [
        LoadWeights(source=Operand(1, int(generator.integers(0, 20))), records=int(generator.integers(1, 30)), skip=100)
        for _ in range(4)
    ]
    return memory, regions, operations


def copied(memory, operations, width):
    expected, words = memory.copy(), []
    for operation in operations:
        begin, size = (3 + operation.source.offset) * 32, operation.records * width // 8
        data = expected[begin : begin + size].copy()
        expected[begin + 3200 : begin + 3200 + size] = data
        words += [int.from_bytes(row, "little") for row in data.reshape(-1, width // 8)]
    return expected, words


@pytest.mark.parametrize("mode", MODES)
def test_a_copier_in_every_mode(parameters, copier, mode, fresh_seed):
    memory, regions, operations = case(parameters, fresh_seed)
    before = memory.copy()
    outcome = copier.run(memory, regions, operations, mode=mode, seed=fresh_seed)
    expected, words = copied(memory, operations, parameters.memory_width)
    assert (memory == before).all()
    assert (outcome.memory == expected).all() and outcome.streams["shown"].tolist() == words
    assert outcome.error is None and len(outcome.clocks) == 4 and sum(outcome.clocks) <= outcome.length
    size = sum(operation.records for operation in operations) * parameters.memory_width // 8
    assert outcome.moved == {"source": size, "target": size}


def test_settings_status_and_other_streams(parameters, copier):
    memory, regions, operations = case(parameters, 1)
    outcome = copier.run(memory, regions, operations[:1], settings={"times": 3}, streams={"added": np.arange(9)})
    _, words = copied(memory, operations[:1], parameters.memory_width)
    mask = (1 << parameters.memory_width) - 1
    assert outcome.streams["shown"].tolist() == [word + 3 & mask for word in words]
    assert len(outcome.cycles["added"]) == 9 and outcome.status == {"error": 0, "overflow": 0, "poisoned": 0}
    half = LoadWeights(source=Operand(1), records=1, skip=100, half=True)
    assert copier.run(memory, regions, [half]).status["overflow"] == 1


def test_latency_is_seen(parameters, copier):
    memory, regions, operations = case(parameters, 2)
    fast, slow = (copier.run(memory, regions, operations, mode="none", latency=latency) for latency in (2, 60))
    assert all(58 * 2 <= there - here <= 58 * 2 + 4 for here, there in zip(fast.clocks, slow.clocks, strict=True))


def test_errors_of_the_engine_and_of_its_memory(parameters, copier):
    memory, regions, operations = case(parameters, 3)
    wrong = LoadWeights(source=Operand(1))
    outcome = copier.run(memory, regions, [operations[0], wrong, operations[1]])
    assert (outcome.error, len(outcome.clocks)) == ("field", 1)
    assert (outcome.memory == copied(memory, operations[:1], parameters.memory_width)[0]).all()
    beyond = LoadWeights(source=Operand(1, 199), records=2000)
    outcome = copier.run(memory, regions, [beyond])
    assert outcome.error == "region" and "of region 1" in outcome.sentence
    assert (outcome.memory == memory).all()


RULES = {
    "early": "target has data that it asked no place for",
    "impatient": "an operation was taken before target was idle",
    "withdrawn": "shown was offered and then withdrawn",
    "changed": "shown changed before it was taken",
    "stray": "target writes a byte outside its span",
    "empty": "target asks for a span of no bytes",
    "after": "an operation was taken after an error",
    "greedy": "an operation was taken before source was idle",
}


@pytest.mark.parametrize("flaw", RULES)
def test_every_rule_is_checked(parameters, copier, flaw):
    memory, regions, operations = case(parameters, 4)
    operations = [LoadWeights(source=Operand(1))] if flaw == "after" else operations
    with pytest.raises(engine.Violation, match=rf"^Clock \d+: {RULES[flaw]}"):
        for seed in range(4):
            copier.run(memory, regions, operations, seed=seed, settings={"flaw": FLAWS.index(flaw)})


def test_a_run_that_hangs_names_what_is_left(parameters, copier):
    memory, regions, operations = case(parameters, 5)
    stuck = {"flaw": FLAWS.index("stuck")}
    with pytest.raises(engine.Hung, match=r"^Clock \d+: the unit must come to rest, but 4 of operation are left$"):
        copier.run(memory, regions, operations, patience=500, settings=stuck)
    with pytest.raises(engine.Hung, match="^Clock 40: "):
        copier.run(memory, regions, operations, limit=40)


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"mode": "noone"}, "mode must be one of the known names, not 'noone'; did you mean none"),
        ({"streams": {"aded": [1]}}, "streams must be one of the known names, not 'aded'; did you mean added"),
        ({"settings": {"time": 1}}, "settings must be one of the known names, not 'time'; did you mean times"),
        ({"settings": {"times": 16}}, "Values of payload must be in 0..15, not 16"),
        ({"regions": [Region(0, 257)]}, "regions must lie in memory of 8192 bytes, region 0 ends at 8224"),
    ],
)
def test_bad_input_is_refused(parameters, copier, options, sentence):
    memory, regions, operations = case(parameters, 6)
    arguments = {"regions": regions} | options
    with pytest.raises(ValueError, match=f"^{sentence}"):
        copier.run(memory, operations=operations, **arguments)


def test_waveforms(parameters, copier, tmp_path):
    memory, regions, operations = case(parameters, 7)
    outcome = copier.run(memory, regions, operations, waves=tmp_path / "copier.vcd")
    assert (outcome.memory == copied(memory, operations, parameters.memory_width)[0]).all()
    text = (tmp_path / "copier.vcd").read_text()
    assert "operation_valid" in text and text.count("\n#") > outcome.length
