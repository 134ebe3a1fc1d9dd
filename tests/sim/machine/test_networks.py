"""Networks on the emitted Verilog of the whole machine: memories and counters as the interpreter leaves them."""

import dataclasses
import functools

import numpy as np
import pytest

from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.networks.stdit import stdit
from golden.diffusion.sampling import Sampling
from golden.diffusion.zoo import importer
from golden.machine.command import Loop
from golden.parameters import preset
from hw.accelerator import Accelerator
from rtl_gen import options
from rtl_gen.program.commands import on_machine
from rtl_gen.program.sections import cut_sampling
from sim.machine.run import SideBySide
from sim.machine.verilated import MachineModel, Memory, VerilatedPort
from tests.golden.diffusion.sampling.networks import random_unet
from tests.golden.diffusion.zoo.diffusers_cases import RECORDED
from tests.rtl_gen.program.test_kinds import ALTERNATING, STDIT, made

pytestmark = pytest.mark.cocotb

METHOD = on_machine(Method.named("closed-int3"), options.Machine("tiny", preset("tiny")))


@functools.cache
def model():
    return MachineModel(Accelerator(METHOD.machine), traced=True, optimise="-O1")


def sections(seed, *, fenced=True):
    sampling = Sampling(random_unet(seed), [1], steps=3)
    return cut_sampling(sampling, METHOD, calibrate(sampling), 2, lambda layer: not fenced or layer.name)


def every(section):
    return True


def side_by_side(made, how, *, fenced=True):
    return SideBySide(made, lambda p, memory: VerilatedPort(model(), p, memory, how), every, fenced=fenced)


@pytest.mark.parametrize("mode", ["none", "both"])
def test_every_layer_of_a_network(mode, fresh_seed):
    made = sections(fresh_seed % 7)
    how = Memory(latency=40 if mode == "none" else 5, mode=mode, seed=fresh_seed)
    rows = list(side_by_side(made, how).run())
    assert len(rows) > 40 and all(row.ran for row in rows)
    assert {name: odd for row in rows for name, odd in row.odd.items()} == {}
    for row in rows:
        counters = row.counters
        for engine in ("load", "multiply", "accumulate", "emit"):
            count = sum(command.engine == engine for command in row.commands)
            assert len(row.spans[engine]) == count == counters[f"{engine}_operations"]
            assert counters[f"{engine}_busy"] + counters[f"{engine}_waiting"] <= counters["clocks"]


def test_layers_that_run_into_each_other(fresh_seed):
    made = sections(fresh_seed % 5, fenced=False)
    both = side_by_side(made, Memory(mode="idle", seed=fresh_seed), fenced=False)
    assert len(list(both.run())) == 4  # the network and the sampler, twice
    np.testing.assert_array_equal(both.driver.port.memory, both.reference.port.memory)


def text(width, tokens):
    return {"text": np.random.default_rng(3).standard_normal((1, tokens, width), np.float32)}


KINDS = {
    # norms of heads, rotary positions, fewer frames and tokens than lanes, a variance behind the prediction
    "STDiT": lambda: (
        made(stdit, dataclasses.replace(ALTERNATING, frames=3, tokens=3, width=4, channels_in=1, channels_out=2)),
        text(6, 3) | {"fps": np.array([24.0])},
    ),
    "LatteTransformer3DModel": lambda: (importer.load(RECORDED / "latte", tokens=7), text(12, 7)),
    "DiTTransformer2DModel": lambda: (importer.load(RECORDED / "dit"), [3]),
    "UNet2DConditionModel": lambda: (importer.load(RECORDED / "text", tokens=7), text(12, 7)),
}


@pytest.mark.parametrize(
    "title", [pytest.param(title, marks=[pytest.mark.slow] * (title != "STDiT")) for title in KINDS]
)
def test_one_step_of_every_layer(title, fresh_seed):
    sampling = Sampling(*KINDS[title](), steps=3)
    made = cut_sampling(sampling, METHOD, calibrate(sampling), 1, lambda layer: layer.name)
    rows = list(side_by_side(made, Memory(latency=7, mode="both", seed=fresh_seed)).run())
    assert {row.name: row.odd for row in rows if row.odd} == {}
    products = {layer.name for layer in sampling.network.layers if layer.contracted}
    assert sum(row.name in products for row in rows) > 10 and all(row.ran for row in rows)


@pytest.mark.slow
def test_frames_longer_than_a_bank_and_attention_in_loops(fresh_seed):
    """Frames of 30 tokens are two lines each, and a loop goes over 30 places, two in a turn."""
    config = dataclasses.replace(STDIT, frames=4, height=10, width=12, channels_in=1, channels_out=1)
    sampling = Sampling(made(stdit, config), text(6, 5), steps=3)
    cut = cut_sampling(sampling, METHOD, calibrate(sampling), 1, lambda layer: layer.name, at_once=4)
    assert cut.compiler.states["blocks.0"].width == 15
    assert [one.turns for section in cut.sections for one in section.commands if isinstance(one, Loop)] == [15, 15]
    rows = list(side_by_side(cut, Memory(latency=7, mode="both", seed=fresh_seed)).run())
    assert {row.name: row.odd for row in rows if row.odd} == {} and all(row.ran for row in rows)
