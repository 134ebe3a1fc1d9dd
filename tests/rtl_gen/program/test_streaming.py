"""Videos as programs: every image of the stream equals that of golden's exact executor."""

import dataclasses
import re

import numpy as np
import pytest

from golden.diffusion.differential.run import executor
from golden.diffusion.differential.streams import calibrate_stream, pushed
from golden.diffusion.sampling.streaming import Similarity, Stream, Streaming
from golden.machine import hazards
from golden.machine.command import Loop, disassemble
from rtl_gen.program.streaming import compile_stream
from tests.golden.diffusion.sampling.networks import random_unet
from tests.rtl_gen.program.test_network import method

pytestmark = pytest.mark.golden


def case(seed, how, frames=6, **machine):
    """A stream, its video, and the program of it."""
    network, rng = random_unet(seed, null_label=True), np.random.default_rng(seed)
    shape = next(iter(network.inputs.values()))
    steps = rng.uniform(-0.5, 0.5, (1, *shape)), rng.normal(0, 0.03, (frames - 1, *shape))
    video = np.cumsum(np.concatenate(steps), axis=0).astype(np.float32)
    profile = calibrate_stream(network, video[::-1], 5, how)
    chosen = method("closed-int4", lanes=8, memory_lanes=4, **machine)
    streamed = compile_stream(Stream(network, 3, how), video, chosen, profile)
    exact = Stream(network, 3, how, executor=executor(network, chosen, profile, exact=True))
    return streamed, pushed(exact, video)


@pytest.mark.parametrize(
    "seed, how, rows, loops",
    [
        (0, Streaming((600, 400, 200)), 2, [3]),
        (1, Streaming((600, 400), residual="full", guidance=2.0), 3, [4]),
        (2, Streaming((600, 300), interval=2, scalings="lcm"), 1, []),
        (3, Streaming((500,), clip=False, renoise=False), 2, [5]),
    ],
)
def test_every_image_of_a_video(seed, how, rows, loops):
    streamed, expected = case(seed, how, rows=rows)
    program = streamed.program
    machine = program.load()
    hazards.check(machine, program.operand, program.commands)
    np.testing.assert_array_equal(streamed.images(machine), expected)
    turns = [command.turns for command in disassemble(program.words()) if isinstance(command, Loop)]
    assert turns == loops  # calls of a full stream differ in their frame alone


def test_calls_from_one_on_are_a_program():
    streamed, expected = case(4, Streaming((600, 400)), frames=4, rows=2)
    machine = streamed.program.load()
    machine.run(streamed.program.operand, streamed.program.commands)
    np.testing.assert_array_equal(streamed.images(machine), expected)
    rest = streamed.after(3, machine.memory)
    again = rest.load()
    again.run(rest.operand, rest.commands)
    assert rest.commands < streamed.program.commands
    # the frame of the last call once more, by the states that it left: the image hardly changes
    moved = np.abs(streamed.images(again) - expected)
    assert not moved[:-1].any() and moved[-1].max() < 0.2


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"reference": "timesteps"}, "Stream reference must be frames in a program, not timesteps"),
        ({"residual": "self"}, "Stream residual must be none or full in a program, not self"),
        ({"similarity": Similarity()}, "Stream similarity must be left out in a program, which takes every frame"),
    ],
)
def test_streams_that_no_program_draws(changes, sentence):
    network = random_unet(0, null_label=True)
    how, video = Streaming((600, 400)), np.zeros((4, 1, 8, 8), np.float32)
    profile = calibrate_stream(network, video, 5, how)
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        compile_stream(Stream(network, 3, dataclasses.replace(how, **changes)), video, method("closed-int4"), profile)
    with pytest.raises(ValueError, match="^Frames must fill the 2 slots of the stream, not be 1$"):
        compile_stream(Stream(network, 3, how), video[:1], method("closed-int4"), profile)
