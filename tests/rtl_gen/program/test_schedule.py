"""The order of commands: what touches the same keeps its order, what is ready goes first."""

import itertools
import random

import pytest

from golden.machine.command import (
    ENGINES,
    Accumulate,
    Coefficients,
    Combine,
    Emit,
    LoadGroups,
    LoadWeights,
    Multiply,
    Operation,
    Wait,
)
from golden.parameters import Parameters
from rtl_gen.program.schedule import Schedule

pytestmark = pytest.mark.golden

P = Parameters()


def some_operations(rng, count):
    """Operations with a number as their tag, and the places that each reads and writes."""
    found = []
    while len(found) < count:
        kind = rng.choice(["weights", "groups", "tile", "emit", "combine", "coefficients"])
        places = rng.sample(range(12), 3)
        reads, writes = places[:2], places[2:]
        made = {
            "weights": [LoadWeights(records=rng.randint(1, 300))],
            "groups": [LoadGroups(lines=2, height=4, width=rng.randint(1, 40), groups=1, pitch=1)],
            "tile": [
                *[Multiply(lines=1, columns=8, channels=4, groups=9, leave=False)] * rng.randint(0, 2),
                Multiply(lines=1, columns=8, channels=4, groups=9),
                Accumulate(outer=1, inner=rng.randint(1, 400)),
            ],
            "emit": [Emit(lines=1, width=rng.randint(1, 100), channels=16)],
            "combine": [Combine(vectors=rng.randint(1, 400), channels=16)],
            "coefficients": [Coefficients(sets=rng.randint(1, 8), size=4, count=1)],
        }[kind]
        for one in made:
            found.append((type(one)(**{**vars(one), "tag": len(found)}), reads, writes))
    return found


def ordered(operations):
    schedule = Schedule(P)
    for operation, reads, writes in operations:
        schedule.add(operation, reads=reads, writes=writes)
    return schedule.commands


def test_what_touches_the_same_place_keeps_its_order():
    seed = random.randrange(1 << 32)
    print("seed", seed)
    operations = some_operations(random.Random(seed), 150)
    commands = ordered(operations)
    assert sorted(command.tag for command in commands) == list(range(len(operations)))
    at = {command.tag: number for number, command in enumerate(commands)}
    for first, second in itertools.combinations(operations, 2):
        (one, reads, writes), (other, others_reads, others_writes) = first, second
        if {*writes} & {*others_reads, *others_writes} or {*reads} & {*others_writes}:
            assert at[one.tag] < at[other.tag]
        # the link gives in the order in which it takes
        if one.engine == other.engine and one.engine in ("multiply", "accumulate"):
            assert at[one.tag] < at[other.tag]
    given = [command.tag for command in commands if isinstance(command, Multiply) and command.leave]
    taken = [command.tag for command in commands if isinstance(command, Accumulate)]
    assert taken == [tag + 1 for tag in given] and all(at[tag] < at[tag + 1] for tag in given)


def test_a_pop_finds_its_token_and_none_is_left_in_vain():
    seed = random.randrange(1 << 32)
    print("seed", seed)
    tokens = dict.fromkeys(itertools.permutations(ENGINES, 2), 0)
    for command in ordered(some_operations(random.Random(seed), 150)):
        for engine in command.pop:
            tokens[engine, command.engine] -= 1
            assert tokens[engine, command.engine] >= 0
        for engine in command.push:
            tokens[command.engine, engine] += 1
    assert not any(tokens.values())


def test_weights_do_not_wait_for_groups_that_are_not_emitted_yet():
    emit = Emit(tag=1, lines=4, width=16, channels=32)
    groups = LoadGroups(tag=2, lines=4, height=4, width=16, groups=2, pitch=2)
    weights = LoadWeights(tag=3, records=100)
    tile = Multiply(tag=4, lines=1, columns=16, channels=16, groups=2)
    found = ordered([
        (emit, [], ["spool"]),
        (groups, ["spool"], ["bank"]),
        (weights, [], ["records"]),
        (tile, ["bank", "records"], []),
        (Accumulate(tag=5, outer=1, inner=32), [], ["state"]),
    ])  # fmt: skip
    assert [command.tag for command in found] == [1, 3, 2, 4, 5]
    assert [command.pop for command in found] == [(), (), ("emit",), ("load",), ()]


def test_nothing_passes_a_barrier():
    schedule = Schedule(P)
    schedule.add(Emit(tag=1, lines=40, width=16, channels=32), writes=["spool"])
    schedule.add(LoadGroups(tag=2, lines=4, height=4, width=16, groups=2, pitch=2), reads=["spool"])
    schedule.barrier(tag=3)
    schedule.add(LoadWeights(tag=4, records=1))
    assert [command.tag for command in schedule.commands] == [1, 2, 3, 4]
    assert isinstance(schedule.commands[2], Wait)
    assert all(not command.pop for command in schedule.commands[3:] if isinstance(command, Operation))
