"""Attention on the emitted Verilog of machines of odd shapes: memories and counters as the interpreter leaves them."""

import dataclasses

import numpy as np
import pytest

from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.networks import DiTConfig, UNetConfig, dit, scattered
from golden.diffusion.networks.dit2d import dit2d
from golden.diffusion.networks.unet2d import unet2d
from golden.diffusion.sampling import Sampling
from golden.parameters import preset
from hw.accelerator import Accelerator
from rtl_gen import options
from rtl_gen.program.commands import on_machine
from rtl_gen.program.sections import cut_sampling
from sim.machine.run import SideBySide
from sim.machine.verilated import MachineModel, Memory, VerilatedPort
from tests.golden.diffusion.sampling.networks import random_unet
from tests.rtl_gen.program.test_kinds import DIT, TEXT, UNET, made

pytestmark = [pytest.mark.cocotb, pytest.mark.slow]

MACHINES = {
    "eight lanes, compressed": (
        "closed-int3",
        ["lanes=8", "near_lanes=2", "outliers=1", "rows=3", "memory_width=128", "link_form=compressed"],
    ),
    "four lanes beside memory": ("closed-int4", ["near_lanes=4", "columns=3", "state_width=20", "memory_width=32"]),
    "lanes of six": ("closed-int4", ["lanes=6", "near_lanes=3", "columns=4", "memory_width=256"]),
}
ROOM = ["group_buffer=4096", "weight_buffer=512", "tile_positions=48"]

WIDE = UNetConfig(side=6, widths=(8, 20), attention=(True, True), groups=4, encoding=8, embedding=16)
TOKENS = DiTConfig(side=10, patch=2, width=20, blocks=1, encoding=8)
GATED = dataclasses.replace(DIT, channels_in=1, channels_out=1)  # a sampler's sums take no other channels
NARROW_HEADS = dataclasses.replace(GATED, heads=4, activation="gelu-approximate")

NETWORKS = {
    "36 and 9 positions": (lambda seed: random_unet(seed, WIDE), [1]),
    "25 tokens": (lambda seed: scattered(dit, TOKENS, seed), [1]),
    "heads padded apart": (lambda seed: made(dit2d, NARROW_HEADS, seed), [1]),
    "gated units": (lambda seed: made(dit2d, GATED, seed), [1]),
    "a text of nine tokens": (
        lambda seed: made(unet2d, dataclasses.replace(UNET, **TEXT | {"tokens": 9}), seed),
        {"text": np.random.default_rng(3).standard_normal((1, 9, 6)).astype(np.float32)},
    ),
}


@pytest.mark.parametrize("machine", MACHINES)
def test_networks_that_attend(machine, fresh_seed):
    name, settings = MACHINES[machine]
    parameters = preset("tiny").with_settings([*ROOM, *settings])
    method = on_machine(Method.named(name), options.Machine(machine, parameters))
    model = MachineModel(Accelerator(method.machine), optimise="-O1")
    how = Memory(latency=7, mode="both", seed=fresh_seed)
    for title, (network, given) in NETWORKS.items():
        sampling = Sampling(network(fresh_seed % 5), given, steps=3)
        sections = cut_sampling(sampling, method, calibrate(sampling), 2, lambda layer: layer.name)
        both = SideBySide(sections, lambda p, memory: VerilatedPort(model, p, memory, how), lambda section: True)
        rows = list(both.run())
        assert any(layer.bilinear for section in sections.sections for layer in section.layers), title
        assert {row.name: row.odd for row in rows if row.odd} == {}, title
