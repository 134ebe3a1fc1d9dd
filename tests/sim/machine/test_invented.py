"""Programs that no compiler writes: they end well or leave a region, they differ, and the Verilog does the same."""

import collections

import numpy as np
import pytest

from golden.machine.command import OPERATIONS, UNIT_BYTES, disassemble
from sim.machine.invented import fields, invented, odd_field
from sim.machine.trust import Programs, Trials, small_sections
from sim.machine.verilated import Memory
from tests.sim.machine.test_networks import METHOD, model

ALONE = {f"{name} alone" for name in ("Combine", "Coefficients", "Emit", "Align", "Rows")}
KINDS = {"other fields", "loops", "no spool"} | ALONE


@pytest.fixture(scope="module")
def layers():
    return Programs(small_sections(METHOD, 3))


def commands(layers, mistake):
    begin = layers.words_at(mistake.number)
    words = mistake.wrong.memory[begin : begin + mistake.wrong.size * UNIT_BYTES].view("<u4").reshape(-1, 8)
    return [(type(one).__name__, one) for one in disassemble(words)]


@pytest.mark.unit
def test_programs_end_well_or_leave_a_region_and_differ(layers, fresh_seed):
    found = [invented(layers, fresh_seed, turn) for turn in range(52)]
    assert {mistake.kind for mistake in found} == KINDS
    values = collections.defaultdict(set)
    for mistake in found:
        assert mistake.cause is None or (mistake.kind, mistake.cause) == ("loops", "region")
        assert (mistake.memory is None) == (mistake.cause is not None)
        for name, command in commands(layers, mistake):
            for field, value in vars(command).items():
                values[name, field].add(repr(value))
    assert max(len(values["Loop", "turns"]), len(values["Combine", "terms"])) > 1
    assert values["LoadGroups", "link"] == {"False", "True"}
    plain = {
        (type(command).__name__, field, repr(value))
        for section in layers.sections
        for command in section.commands
        for field, value in vars(command).items()
    }
    kinds = {kind.__name__ for kind in OPERATIONS}
    assert sum((*key, one) not in plain for key, every in values.items() for one in every if key[0] in kinds) > 50
    again = invented(layers, fresh_seed, 5)
    np.testing.assert_array_equal(again.memory, found[5].memory)


@pytest.mark.cocotb
def test_the_machine_does_the_same(layers, fresh_seed):
    trials = Trials(model(), layers, Memory(latency=7, mode="both", seed=fresh_seed), fresh_seed)
    for turn in range(39):
        trial = trials.counted(turn, invented(layers, fresh_seed, turn))
        assert (trial.outcome in ("equal", "region"), trial.failure) == (True, ""), trial.told


@pytest.mark.unit
def test_each_field_is_odd_in_two_programs(layers):
    every = fields(layers)
    assert {kind for kind, _ in every} == set(OPERATIONS) and len(every) > 140
    for turn in (*range(0, len(every), 9), *range(len(every), 2 * len(every), 9)):
        kind, slot = every[turn % len(every)]
        mistake = odd_field(layers, 1, turn)
        assert mistake.wrong.told.startswith(f"{slot.name} of {kind.__name__}(")
        (odd,) = {
            repr(vars(one)) for name, one in commands(layers, mistake) if f"{slot.name} of {one}" == mistake.wrong.told
        }
        plain = [vars(one) for section in layers.sections for one in section.commands if type(one) is kind]
        if turn >= len(every):
            assert odd not in map(repr, plain)


@pytest.mark.cocotb
def test_odd_fields_end_on_the_machine_as_the_interpreter_says(layers, fresh_seed):
    trials = Trials(model(), layers, Memory(latency=7, mode="both", seed=fresh_seed), fresh_seed)
    found = [trials.counted(turn, odd_field(layers, fresh_seed, turn)) for turn in range(fresh_seed % 5, 2 * 151, 5)]
    assert not [f"{trial.told}: {trial.failure}" for trial in found if trial.failure]
    assert {"equal", "field"} <= {trial.outcome for trial in found}


@pytest.mark.cocotb
def test_a_counter_that_differs_is_told(layers):
    trials = Trials(model(), layers, Memory(), 0)
    mistake = invented(layers, 0, 3)
    wrong = collections.Counter(mistake.counters) + collections.Counter(commands=1)
    assert "commands is" in trials.counted(3, mistake._replace(counters=wrong)).failure
    assert "bytes of memory differ" in trials.counted(3, mistake._replace(memory=mistake.memory ^ 1)).failure
