"""Work of commands: the counts of the interpreter, and time lines by hand."""

import dataclasses

import pytest

from golden.diffusion import zoo
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.sampling import Sampling
from golden.machine.command import (
    ENGINES,
    Accumulate,
    End,
    LoadGroups,
    LoadWeights,
    Loop,
    Multiply,
    Operation,
    Rows,
    Stamp,
    Stop,
    Wait,
    disassemble,
)
from golden.machine.work import LATENCY, executed, timeline, work
from golden.parameters import Parameters, preset
from golden.units.joint_stream import JointStream
from rtl_gen.program.sampling import compile_sampling
from tests.golden.diffusion.sampling.networks import random_unet

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def program():
    """Two steps of the U-Net."""
    method = Method.named("closed-int4")
    machine = dataclasses.replace(Parameters(), digit_width=4, state_width=18, joint_width=method.output_width)
    machine = dataclasses.replace(machine, link_form="direct")
    sampling = Sampling(zoo.load("unet"), [3], steps=2)
    return compile_sampling(sampling, dataclasses.replace(method, machine=machine), calibrate(sampling)).program


def test_the_array_is_kept_at_work(program):
    """Emissions, loads and accumulations run beside it: of a machine that waits for each it would be half of that."""
    p, commands = program.parameters, list(executed(disassemble(program.words())))
    groups = sum(work(one, p).groups for one in commands if isinstance(one, Operation))
    assert groups > 0.82 * p.rows * p.columns * timeline(commands, p).clocks


def test_counts_are_those_of_the_interpreter(program):
    """Every operation of a sampling: groups, vectors, bytes read and written."""
    machine, runner = program.parameters, program.load()
    seen = [dict(runner.counters)]

    def watch(position, command):
        if isinstance(command, Operation):
            after = dict(runner.counters)
            changed = {name: after.get(name, 0) - seen[-1].get(name, 0) for name in after}
            seen.append(after)
            found = work(command, machine)
            vectors = sum(changed.get(name, 0) for name in ("accumulated", "combined", "emitted"))
            read = sum(size for name, size in changed.items() if name.startswith("memory_") and name.endswith("_read"))
            written = sum(
                size for name, size in changed.items() if name.startswith("memory_") and name.endswith("_written")
            )
            assert found.groups == changed.get("array_groups", 0), command
            if command.engine == "accumulate" or type(command).__name__ in ("Combine", "Emit"):
                assert found.vectors == vectors, command
            # tables and sums are small change that the model leaves out, but for biases
            small = sum(changed.get(f"memory_{name}", 0) for name in ("tables_read", "sums_read"))
            assert read - small <= found.read <= max(read, 2 * (read - small)) + small, command
            small = sum(changed.get(f"memory_{name}", 0) for name in ("tables_written", "sums_written"))
            assert written - small <= found.written <= written, command

    runner.run(program.operand, program.commands, watch=watch)
    assert len(seen) == 1 + sum(isinstance(one, Operation) for one in executed(disassemble(program.words())))


def test_bits_on_the_link_are_those_of_the_coded_streams(monkeypatch):
    """Lines as they lie in compressed spools, and tiles as the coder of joint vectors sends them."""
    method = Method.named("closed-int4")
    machine = dataclasses.replace(preset("tiny"), digit_width=4, joint_width=method.output_width, tile_positions=32)
    sampling = Sampling(random_unet(), [3], steps=2)
    found = compile_sampling(sampling, dataclasses.replace(method, machine=machine), calibrate(sampling)).program
    runner, sent = found.load(), []
    quantise = JointStream.quantise

    def seen(stream, *arguments):
        made = quantise(stream, *arguments)
        sent.append(machine.link_width * len(stream.encode(made[0])))
        return made

    monkeypatch.setattr(JointStream, "quantise", seen)
    counted = runner.run(found.operand, found.commands)
    assert counted["link_group_bits"] == 8 * counted["memory_spools_written"] > 0
    assert counted["link_output_bits"] == sum(sent) > 0


def test_loops_are_carried_out_turn_by_turn():
    tags = [1, 2, 2, 3, 3, 2, 2, 3, 3, 4]
    inner = [Loop(turns=2), LoadWeights(tag=2), End(), Loop(turns=2), LoadWeights(tag=3), End()]
    program = [LoadWeights(tag=1), Loop(turns=2), *inner, End(), LoadWeights(tag=4), Stop()]
    assert [one.tag for one in executed(program) if isinstance(one, Operation)] == tags


def test_a_time_line_by_hand():
    p = Parameters(near_lanes=2, memory_width=128, lanes=16)
    load = LoadWeights(records=8, push=("multiply",))  # 8 records of 30 bytes: 15 beats
    tile = Multiply(
        lines=1, columns=16, channels=4, collected=16, groups=2, kernel_lines=3, kernel_columns=3, pop=("load",)
    )
    take = Accumulate(outer=1, inner=16, channels=16)  # 16 vectors of 16 elements, two a clock
    assert work(load, p).clocks == 40 + 4 * 8 + LATENCY
    assert work(tile, p).clocks == 18 * 16 + 6
    assert work(take, p).clocks == 16 * 16 // 2 + LATENCY
    line = timeline([load, tile, take], p)
    assert line.clocks == 72 + LATENCY + 294 + 128 + LATENCY
    assert line.busy == {"load": 112, "multiply": 294, "accumulate": 168, "emit": 0}


def test_engines_share_the_bus():
    """Two that read at a time: the one that is left alone goes on at its own pace; a third that only writes does not
    mind them."""
    p = Parameters(near_lanes=2, memory_width=32, lanes=16)
    load = LoadWeights(records=100)
    rows = Rows(rows=10, channels=64)
    first, second = work(load, p), work(rows, p)
    reads = [8 * one.read / p.memory_width / one.clocks for one in (first, second)]
    # each waits behind the other's bursts, and both for the whole load, until the shorter one has ended
    slowed = [max(1 + 0.55 * other, sum(reads)) for other in reversed(reads)]
    assert max(slowed) > 1.3
    ends = [one.clocks * times for one, times in zip((first, second), slowed, strict=True)]
    longer = max((0, 1), key=ends.__getitem__)
    expected = min(ends) + (ends[longer] - min(ends)) / slowed[longer]
    assert timeline([load, rows], p).clocks == pytest.approx(expected, abs=1)
    assert timeline([load, rows], p).busy["load"] > first.clocks
    wide = dataclasses.replace(p, memory_width=256)
    assert timeline([load, rows], wide).clocks < 1.2 * max(work(one, wide).clocks for one in (load, rows))


def test_eight_operations_wait_at_most():
    """A ninth is not fetched, nor is what stands behind it: another engine's that waits for nothing."""
    p = Parameters(near_lanes=2, memory_width=256, lanes=16)
    loads = [LoadWeights(records=8)] * 20
    late = timeline([*loads, Multiply(columns=16, lines=1, channels=4, collected=16, groups=1)], p)
    early = timeline([*loads[:8], Multiply(columns=16, lines=1, channels=4, collected=16, groups=1), *loads[8:]], p)
    each = work(loads[0], p).clocks
    assert early.clocks == late.clocks == 20 * each
    much = Multiply(columns=200, lines=8, channels=16, collected=16, groups=20, kernel_lines=3, kernel_columns=3)
    alone = work(much, p).clocks
    assert alone > 20 * each
    assert timeline([*loads, much], p).clocks == 12 * each + alone
    assert timeline([much, *loads], p).clocks == alone


def test_a_program_that_never_ends_is_told():
    with pytest.raises(ValueError, match="Operations must wait for tokens that are pushed, not for ever"):
        timeline([LoadWeights(records=8, pop=("multiply",))], Parameters())


WAIT = Wait(**dict.fromkeys(ENGINES, True))
LOAD = LoadWeights(records=8)


@pytest.mark.parametrize(
    "program",
    [
        [Loop(turns=3), WAIT, LOAD, End(), WAIT, LOAD],
        [LOAD, WAIT, Loop(turns=3), LOAD, WAIT, End(), LOAD],
        [LOAD, Loop(turns=3), WAIT, Loop(turns=2), Stamp(), WAIT, LOAD, End(), WAIT, LOAD, End(), Stop()],
        [LOAD, Loop(turns=3), Stamp(), End(), Loop(turns=2), WAIT, LOAD, WAIT, End(), LOAD],
    ],
)
def test_turns_with_idle_engines_are_played_once(program):
    p = Parameters(near_lanes=2, memory_width=256, lanes=16)
    assert timeline(program, p) == timeline(executed(program), p)


@pytest.mark.parametrize(
    ("program", "before", "behind"),
    [
        ([LOAD, Loop(turns=2), LOAD, WAIT, End()], "LoadWeights", "LoadWeights"),
        ([Loop(turns=2), LOAD, Wait(load=True), End()], "Wait", "LoadWeights"),
        ([Loop(turns=2), WAIT, LOAD, End(), Stamp(), Wait(load=True)], "LoadWeights", "Wait"),
        ([WAIT, Loop(turns=2), Loop(turns=3), LOAD, WAIT, Multiply(), End(), WAIT, End()], "Multiply", "LoadWeights"),
    ],
)
def test_turns_that_overlap_are_refused(program, before, behind):
    """Of these a turn played once says nothing: they take other clocks, turn by turn."""
    sentence = "Turns of a loop must begin and end with a Wait for all engines, or follow each other as they are "
    with pytest.raises(ValueError, match=f"^{sentence}executed, not have {before} before and {behind} behind$"):
        timeline(program, Parameters())


def test_a_load_of_groups_by_hand():
    """Two strips of three lines with a halo: the decoder takes longer than the banks, records do not."""
    load = LoadGroups(
        line=-1, line_step=2, lines=3, rows=1, height=8, width=4, left=1, right=1, groups=2, passes=1, sent=1, pitch=4
    )
    lines, groups, written = 4, 4 * 2 * 2, 2 * 3 * 6 * 2 * 2
    compressed = Parameters(near_lanes=2, lanes=16, outliers=1, link_form="compressed")
    direct = Parameters(near_lanes=2, lanes=16, outliers=1, link_form="direct")
    assert work(load, compressed).clocks - work(load, direct).clocks == lines * groups * 9 - written
