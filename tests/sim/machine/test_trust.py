"""What the whole machine on emitted Verilog does with programs that are broken off, moved, or wrong."""

import copy
import dataclasses
import json
import random
import re

import numpy as np
import pytest

import sim.trust
from golden.machine.accelerator import MachineError
from golden.machine.command import UNIT_BYTES, Coefficients, Operand, Operation, Stop, assemble
from golden.machine.image import SUM_BYTES
from sim.__main__ import main
from sim.machine import Driver
from sim.machine.trust import MUTANTS, Programs, Trial, Trials, small_sections
from sim.machine.verilated import Memory, VerilatedPort
from tests.sim.machine.test_invented import KINDS
from tests.sim.machine.test_networks import METHOD, model

pytestmark = pytest.mark.cocotb

MACHINE = METHOD.machine
WATCHDOG = 20_000


@pytest.fixture(scope="module")
def layers():
    return Programs(small_sections(METHOD, 3))


def of(layers, *kinds):
    """Numbers of the layers that have an operation of each of these kinds."""
    found = [{type(command).__name__ for command in section.commands} for section in layers.sections]
    return [number for number, names in enumerate(found) if names >= set(kinds)]


def machine(layers, **how):
    """A driver of the Verilog."""
    memory = np.zeros(len(layers.program.image), np.uint8)
    driver = Driver(VerilatedPort(model(), MACHINE, memory, Memory(**how)), watchdog=WATCHDOG)
    driver.load(layers.program)
    return driver


def run(driver, layers, number, memory=None):
    """Run a layer's program on the memory that it finds."""
    driver.port.memory[:] = layers.before[number] if memory is None else memory
    driver.run(layers.sections[number].operand, layers.sections[number].size)
    driver.wait(2_000_000)


def test_programs_in_any_order_need_no_reset(layers, fresh_seed):
    draw = random.Random(fresh_seed)
    driver = machine(layers, latency=5, mode="idle", seed=fresh_seed)
    for _ in range(20):
        number = draw.randrange(len(layers.sections))
        run(driver, layers, number)
        np.testing.assert_array_equal(driver.port.memory, layers.before[number + 1], layers.sections[number].name)


def test_programs_run_wherever_regions_lie(layers, fresh_seed):
    draw, regions = random.Random(fresh_seed), layers.program.regions
    size = len(layers.program.image) + 9 * 100 * UNIT_BYTES
    driver = Driver(VerilatedPort(model(), MACHINE, np.zeros(size, np.uint8), Memory(latency=5)), watchdog=WATCHDOG)
    driver.load(layers.program)
    for _ in range(5):
        number = draw.randrange(len(layers.sections))
        order, base, places = draw.sample(range(7), 7), 0, {}
        for region in order:
            base += draw.randrange(100)
            places[region] = base
            base += regions[region][1]
        memory = np.random.default_rng(fresh_seed).integers(0, 256, size, np.uint8)
        expected = memory.copy()
        for region, place in places.items():
            first, limit = regions[region]
            for target, source in ((memory, layers.before[number]), (expected, layers.before[number + 1])):
                target[32 * place : 32 * (place + limit)] = source[32 * first : 32 * (first + limit)]
            driver.set(f"region{region}_base", place)
        run(driver, layers, number, memory)
        np.testing.assert_array_equal(driver.port.memory, expected, layers.sections[number].name)


def test_a_program_without_one_of_its_tokens_goes_wrong(layers, fresh_seed):
    """For at least one of them: else tokens would not be needed."""
    number = of(layers, "Emit", "LoadGroups", "Multiply", "Accumulate")[-1]
    section, at = layers.sections[number], layers.words_at(number)
    tokens = [
        (place, engine)
        for place, command in enumerate(section.commands)
        if isinstance(command, Operation)
        for engine in command.pop
    ]
    driver, wrong = machine(layers, latency=30, mode="both", seed=fresh_seed), 0
    for place, engine in random.Random(fresh_seed).sample(tokens, min(len(tokens), 12)):
        commands = list(section.commands)
        kept = tuple(other for other in commands[place].pop if other != engine)
        commands[place] = dataclasses.replace(commands[place], pop=kept)
        words = assemble([*commands, Stop()]).view(np.uint8).ravel()
        memory, expected = layers.before[number].copy(), layers.before[number + 1].copy()
        memory[at : at + words.size] = expected[at : at + words.size] = words
        try:
            run(driver, layers, number, memory)
            wrong += not np.array_equal(driver.port.memory, expected)
        except MachineError:
            wrong += 1
    assert wrong


def trials(layers, seed):
    return Trials(model(), layers, Memory(latency=7, mode="both", seed=seed), seed)


def failures(found):
    return [f"turn {trial.turn}, {trial.kind}, {trial.told}: {trial.failure}" for trial in found if trial.failure]


def test_programs_run_wherever_operands_lie_and_on_any_numbers(layers):
    right = Trials(model(), layers, Memory(latency=7, mode="both", seed=40, origin=0xA5A5A000), 40)
    found = [*right.moved([0x1555555]), *right.stamps(3), *right.noise(20)]
    assert not failures(found)
    assert {trial.kind for trial in found} == {"moved", "stamps", "noise"}


def test_layers_and_registers_are_right_and_trials_can_fail(layers, fresh_seed, monkeypatch):
    right = trials(layers, fresh_seed)
    found = [*right.layers(), *right.registers(2), *right.layers()]
    assert not failures(found) and len(layers.varied) > 10
    last = layers.varied[-1]
    monkeypatch.setitem(layers.counters[last], "combined", layers.counters[last]["combined"] + 1)
    (failure,) = failures(right.layers())
    assert re.search(r"combined is \d+, not \d+$", failure)
    layers.before[last + 1][-1] ^= 1
    assert failures(right.layers())[-1].endswith(
        ": 1 bytes of memory differ, the first at " + str(len(layers.before[last]) - 1)
    )
    layers.before[last + 1][-1] ^= 1


def test_after_a_reset_at_any_clock_every_program_is_right(layers, fresh_seed):
    found = list(trials(layers, fresh_seed).resets(30))
    assert len(found) == 30 and not failures(found)
    assert all(any(f"by the {how}, then" in trial.told for trial in found) for how in ("pin", "register"))


def test_programs_that_are_wrong_end_as_the_interpreter_says(layers):
    """Nothing hangs past the watchdog, and the memory behind the bus sees to it that no region is left."""
    found = list(trials(layers, 40).mutants(80))
    assert {trial.kind for trial in found} == set(MUTANTS) and not failures(found)
    assert {"equal", "command", "field", "damaged", "region"} <= {trial.outcome for trial in found}


def test_a_program_that_is_halted_ends_what_it_began(layers, fresh_seed, monkeypatch):
    found = list(trials(layers, fresh_seed).halts(20))
    assert {trial.kind for trial in found} == {"halt"} and not failures(found)
    keep = Driver.set
    monkeypatch.setattr(Driver, "set", lambda self, name, value: keep(self, name, value | 7 * name.endswith("enable")))
    assert any(re.search("pending, one is told: True$", failure) for failure in failures(trials(layers, 3).halts(20)))


def test_a_beat_that_memory_refuses_ends_a_program(layers, fresh_seed):
    found = list(trials(layers, fresh_seed).faults(20))
    assert {trial.outcome for trial in found} == {"bus"} and not failures(found)


def test_trials_see_what_is_not_as_it_should_be(layers):
    """With another memory expected behind every layer, none is right."""
    others = copy.copy(layers)
    others.before = [memory ^ 1 for memory in layers.before]
    others.before[:-1] = layers.before[:-1]
    one = Trials(model(), others, Memory(), 0)
    assert one._right(len(layers.sections) - 1) == (
        "equal",
        f"{len(layers.before[0])} bytes of memory differ, the first at 0",
    )
    assert one._right(0) == ("equal", "")


def test_which_causes_may_be_told_first(layers):
    """Those of operations side by side; none of what waits for the one at fault; of a load all that it breaks."""
    one = Trials(model(), layers, Memory(), 0)

    def causes(number, limits=None, large=None, **changes):
        section, memory = layers.sections[number], layers.before[number].copy()
        if large is not None:
            begin = layers.byte_at(large)
            memory[begin : begin + 8 * SUM_BYTES] = 0x7F
        changed = [dataclasses.replace(each, **changes.get(type(each).__name__, {})) for each in section.commands]
        words = assemble([*changed, Stop()]).view(np.uint8).ravel()
        memory[layers.words_at(number) :][: words.size] = words
        wrong = sim.machine.trust.Wrong("", memory, limits)
        return one._causes(number, wrong, layers.interpreted("", number, wrong).cause)

    number = of(layers, "Emit", "LoadWeights", "LoadGroups", "Multiply", "Accumulate")[0]
    nowhere = Operand(2, (1 << 29) - 2)
    assert causes(number, LoadWeights={"at": 1 << 14}, Emit={"lines": 0}) == {"buffer", "field"}
    assert causes(number, LoadWeights={"at": 1 << 14}, Emit={"state": nowhere}) == {"buffer", "region"}
    assert causes(number, LoadGroups={"pitch": 0}, Emit={"state": nowhere}) == {"region"}
    assert causes(number, Emit={"push": ()}) == {"watchdog"}
    # Fields that break a rule are told, or the region that they lie behind.
    assert causes(number, Emit={"state": nowhere, "slot": 0}) == {"field", "region"}
    # States are read before a vector has come, whatever the array does.
    beyond = {"collected": 127}
    assert causes(number, Multiply=beyond, Accumulate={"state": nowhere}) == {"field", "region"}
    assert causes(number, Multiply=beyond, Accumulate={"state": nowhere, "pop": ("multiply",)}) == {"field"}
    # A result's place is asked for before sums that are damaged have come.
    number = of(layers, "Coefficients")[0]
    commands = layers.sections[number].operand
    assert causes(number, Coefficients={"sums1": commands, "result": nowhere}) == {"damaged", "region"}
    # So it is where sums have more bits than anybody counts with.
    sums = next(each.sums1 for each in layers.sections[number].commands if isinstance(each, Coefficients))
    assert causes(number, large=sums, Coefficients={"result": nowhere}) == {"damaged", "region"}
    number = of(layers, "Emit", "LoadWeights", "LoadGroups", "Multiply", "Accumulate")[0]
    # A line is asked for before the one in front of it, which is damaged, is there.
    assert causes(number, LoadGroups={"slot": 1 << 15}) == {"region"}
    assert causes(number, LoadGroups={"slot": 1 << 15, "sent": 1, "passes": 1, "pitch": 64}) == {"damaged", "region"}


def command(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["trust", *arguments], prog_name="sim")
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def test_the_command_counts_trials_and_ends_with_what_failed(monkeypatch, capsys):
    monkeypatch.setattr(sim.trust, "Accelerator", lambda parameters: None)
    monkeypatch.setattr(sim.trust, "MachineModel", lambda component: model())
    few = ["--resets", "2", "--mutants", "12", "--faults", "2", "--invented", "13", "--seed", "3"]
    code, output, error = command(capsys, *few, "--json")
    found = json.loads(output)
    assert code == 0 and error == "" and found["failures"] == []
    assert sum(row["trials"] for row in found["trials"]) == sum(row["trials"] for row in found["outcomes"]) == 29
    kinds = {row["kind"] for row in found["trials"]}
    assert kinds - set(MUTANTS) == {"reset", "refused beat", *KINDS}
    told = Trial("number", 5, "step 0, stem.conv: lines becomes 1", "failed", "3 bytes of memory differ")
    monkeypatch.setattr(Trials, "mutants", lambda self, count: iter([told]))
    code, output, error = command(capsys, *few)
    assert code == 1 and "ended as they should" not in output
    assert error == "FAIL number, turn 5, step 0, stem.conv: lines becomes 1: 3 bytes of memory differ\n"


def test_bad_input_is_one_sentence(capsys):
    code, output, error = command(capsys, "--method", "dense")
    assert (code, output) == (2, "")
    assert error == "Error: Method of a program must send digits, not be of flow dense\n"
