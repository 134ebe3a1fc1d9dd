"""Networks of which only shapes are known, as programs."""

import dataclasses
import json

import pytest
from click.testing import CliRunner

import rtl_gen.__main__
from golden.diffusion.networks.builder import unallocated
from golden.diffusion.networks.published import PUBLISHED, Published
from golden.diffusion.networks.unet2d import unet2d
from golden.machine.work import timeline
from rtl_gen.program.memory import SPOOLS, STATES, WEIGHTS
from rtl_gen.program.network import Compiler
from rtl_gen.program.outline import TIMESTEP, outlined
from rtl_gen.program.schedule import Schedule
from tests.golden.diffusion.differential.networks import arguments, calibrated, moving
from tests.rtl_gen.program.test_kinds import TEXT, TINY, UNET, made
from tests.rtl_gen.program.test_network import method

pytestmark = pytest.mark.golden

CONFIG = dataclasses.replace(UNET, **TEXT)


def test_commands_are_those_of_a_network_with_weights():
    """Of the same kinds, in about the time: what is added by time or label differs, and with it who waits for whom."""
    chosen, count = method("closed-int4", **TINY), 14
    steps, sizes = outlined(unet2d(CONFIG, unallocated), chosen, steps=count)
    network = made(unet2d, CONFIG)
    images = moving(network, 2, items=1)
    _, *given = arguments(network, images[0], 0)
    named = dict(zip(list(network.inputs)[1:], given, strict=True))
    compiler = Compiler(network, chosen, calibrated(network, images))
    for one, index in zip(steps, (0, 1, 9), strict=True):
        schedule = Schedule(compiler.memory.parameters)
        compiler.step(index, count, named | {"timestep": [TIMESTEP]}, schedule=schedule)
        found, expected = (sorted(type(command).__name__ for command in x) for x in (one.commands, schedule.commands))
        assert found == expected and len(found) > 300
        clocks = [
            timeline(commands, compiler.memory.parameters).clocks for commands in (one.commands, schedule.commands)
        ]
        assert 0.97 < clocks[0] / clocks[1] < 1.03
    assert [(step.name, step.count) for step in steps] == [("step 0", 1), ("steps 1-8, 11-13", 11), ("steps 9-10", 2)]
    for name, region in (("weights", WEIGHTS), ("states", STATES), ("spools", SPOOLS)):
        assert sizes[name] == 32 * compiler.memory.used(region), name


def test_a_published_network_is_explained(monkeypatch):
    small = Published(title="Small", build=unet2d, config=CONFIG, parameters=1.0, source="here")
    monkeypatch.setitem(PUBLISHED, "small", small)
    settings = [
        f"--set={name}={value}" for name, value in (TINY | {"group_buffer": 4096, "weight_buffer": 1024}).items()
    ]
    arguments = ["program", "--network", "small", "--preset", "tiny", *settings, "--set", "tile_positions=16"]
    found = CliRunner().invoke(rtl_gen.__main__.main, [*arguments, "explain", "--json"])
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert [row["steps"] for row in told["steps"]] == ["step 0", "steps 1-8, 47-49", "steps 9-46", "all"]
    assert all(0 < row["use"] <= row["array"] < 1 and row["MB"] > 0 for row in told["steps"])
    assert {row["memory"] for row in told["memory"]} >= {"weights", "states", "spools"}
