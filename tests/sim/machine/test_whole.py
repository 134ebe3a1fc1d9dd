"""Whole samplings on the emitted Verilog of the whole machine, one program, beside the interpreter."""

import functools

import numpy as np
import pytest

from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.differential.streams import calibrate_stream
from golden.diffusion.sampling import Cache, Sampling
from golden.diffusion.sampling.streaming import Stream, Streaming
from golden.machine.command import ENGINES, Combine, Interrupt, Multiply, Operation, Stop, disassemble
from golden.machine.work import executed
from golden.parameters import preset
from hw.accelerator import Accelerator
from rtl_gen import options
from rtl_gen.program.commands import on_machine
from rtl_gen.program.sampling import compile_sampling
from rtl_gen.program.streaming import compile_stream
from sim.machine.run import Failure
from sim.machine.verilated import MachineModel, Memory, VerilatedPort
from sim.machine.whole import WholeSampling, clocks_by_tag, interpreted
from tests.golden.diffusion.sampling.networks import random_unet

METHOD = on_machine(Method.named("closed-int3"), options.Machine("tiny", preset("tiny")))
NONE = Memory()


@functools.cache
def model():
    return MachineModel(Accelerator(METHOD.machine), traced=True, optimise="-O1")


def compiled(seed=1, labels=(1,), **settings):
    network = random_unet(seed, null_label="guidance" in settings)
    sampling = Sampling(network, list(labels), **{"steps": 3} | settings)
    return compile_sampling(sampling, METHOD, calibrate(sampling))


def whole(sampled, how=NONE, **begin):
    return WholeSampling(sampled, lambda p, memory: VerilatedPort(model(), p, memory, how), **begin)


@pytest.mark.golden
def test_the_interpreter_tells_of_every_step():
    sampled = compiled()
    found = list(interpreted(sampled.program))
    assert len(found) == 4
    plain = sampled.program.load()
    plain.run(sampled.program.operand, sampled.program.commands)
    np.testing.assert_array_equal(found[-1].memory, plain.memory)
    assert found[-1].counters == plain.counters
    np.testing.assert_array_equal(found[0].memory, sampled.program.image)
    images = [one.memory[32 * sampled.program.regions[2][0] :] for one in found]
    assert all((one != other).any() for one, other in zip(images, images[1:], strict=False))


@pytest.mark.golden
@pytest.mark.parametrize("cache", [None, Cache({0, 3})])
def test_a_program_can_begin_at_any_step(cache):
    """What is left of a program, on the memory that the steps before have left, leaves what the whole one does."""
    sampled = compiled(steps=5, cache=cache)
    found = list(interpreted(sampled.program))
    start = 32 * (sampled.program.regions[0][0] + sampled.program.regions[0][1])
    for step in range(1, 5):
        rest = sampled.after(step, found[step].memory)
        assert rest.commands <= sampled.program.commands
        commands = list(executed(disassemble(rest.words())))
        assert sum(isinstance(command, Interrupt) for command in commands) == 5 - step
        *_, end = interpreted(rest)
        np.testing.assert_array_equal(end.memory[start:], found[-1].memory[start:])


@pytest.mark.golden
def test_the_interpreter_need_not_be_heard_to_the_end():
    snapshots = interpreted(compiled().program)
    next(snapshots)
    snapshots.close()
    assert list(snapshots) == []


@pytest.mark.golden
def test_clocks_go_to_who_ends_last():
    commands = [Multiply(tag=1), Combine(tag=2), Multiply(tag=1), Combine(tag=3), Stop()]
    spans = {"multiply": [(10, 20), (20, 50)], "emit": [(10, 30), (30, 45)]}
    assert clocks_by_tag(commands, spans) == {1: 10 + 5, 2: 10, 3: 15}
    with pytest.raises(ValueError):
        clocks_by_tag(commands, spans | {"emit": [(10, 30)]})


@pytest.mark.cocotb
@pytest.mark.parametrize(
    "settings",
    [{"labels": (1, 2)}, {"guidance": 2.0, "cache": Cache({0})}],
    ids=["two labels", "guidance and cache"],
)
def test_a_sampling_is_drawn_by_the_verilog(settings, fresh_seed):
    sampled = compiled(fresh_seed % 5, steps=2, **settings)
    both = whole(sampled, Memory(mode="idle", latency=9, seed=fresh_seed))
    rows = [row for row, _ in both.run()]
    assert both.odd() == {}
    np.testing.assert_array_equal(both.driver.port.memory, both.end.memory)
    assert [row.step for row in rows] == [0, 1]
    total = both.driver.counters()
    assert sum(row.clocks for row in rows) <= total["clocks"] < sum(row.clocks for row in rows) + 2000
    for row, turn in zip(rows, sampled.turns, strict=True):
        operations = [command for command in turn if isinstance(command, Operation)]
        assert sum(row.counters[f"{engine}_operations"] for engine in ENGINES) == len(operations)
        assert set(row.by_tag) == {command.tag for command in operations}
        assert sum(row.by_tag.values()) == pytest.approx(row.clocks, rel=0.1)


@pytest.mark.cocotb
def test_a_sampling_goes_on_where_another_has_stopped_and_differs_where_it_is_damaged(fresh_seed):
    sampled = compiled(fresh_seed % 5, steps=2)
    memories = [memory for _, memory in whole(sampled).run()]
    rest = whole(sampled, first=1, memory=memories[0])
    assert [row.step for row, _ in rest.run()] == [1] and rest.odd() == {}
    start = 32 * (sampled.program.regions[0][0] + sampled.program.regions[0][1])
    np.testing.assert_array_equal(rest.driver.port.memory[start:], memories[-1][start:])
    damaged = whole(sampled, first=1, memory=memories[0])
    name, tensor = next((name, one) for name, one in sampled.compiler.states.items() if one.channels >= 8)
    at = 32 * (sampled.program.regions[tensor.data.region][0] + tensor.data.offset)
    damaged.driver.port.memory[at] ^= 1
    with pytest.raises(
        Failure, match=rf"^after step 0: region 2 \(states\), state of {name}, line 0, column 0, channel 0: "
    ):
        next(damaged.run())


@pytest.mark.cocotb
def test_a_video_is_drawn_by_the_verilog(fresh_seed):
    """Slots that start, go on and rest; with attention."""
    network, how = random_unet(fresh_seed % 5), Streaming((600, 400))
    video = np.random.default_rng(fresh_seed).uniform(-1, 1, (3, 1, 8, 8)).astype(np.float32)
    profile = calibrate_stream(network, video[::-1], 5, how)
    both = whole(compile_stream(Stream(network, 3, how), video, METHOD, profile))
    assert [row.step for row, _ in both.run()] == [0, 1, 2]
    assert both.odd() == {}
    np.testing.assert_array_equal(both.driver.port.memory, both.end.memory)
