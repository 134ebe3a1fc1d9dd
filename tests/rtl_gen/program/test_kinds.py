"""Networks of diffusers' classes, with random weights, as programs: every state equals the exact executor's."""

import dataclasses

import numpy as np
import pytest

from golden.diffusion.networks import stored
from golden.diffusion.networks.builder import unallocated
from golden.diffusion.networks.dit2d import DiT2DConfig, dit2d
from golden.diffusion.networks.unet2d import UNet2DConfig, unet2d
from rtl_gen.program.network import Compiler
from tests.golden.diffusion.differential.networks import arguments, calibrated, moving
from tests.rtl_gen.program.test_network import Both, method

pytestmark = pytest.mark.golden

TINY = {"lanes": 4, "memory_lanes": 2, "rows": 2, "columns": 4, "outliers": 1}
UNET = UNet2DConfig(side=8, widths=(8, 12), groups=4, middle_groups=4, time_width=16, heads=(1, 2), blocks=(1, 1))
TEXT = {"down": ("none", "text"), "up": ("text", "none"), "middle": "text", "text_width": 6, "tokens": 5}
DIT = DiT2DConfig(side=8, width=16, heads=2, depth=1, classes=10, activation="geglu")

NETWORKS = {
    "UNet2DModel": (unet2d, dataclasses.replace(UNET, corner=True), TINY, 61),
    "UNet2DConditionModel": (unet2d, dataclasses.replace(UNET, **TEXT), TINY, 117),
    "DiTTransformer2DModel": (dit2d, DIT, TINY, 15),
    "DiTTransformer2DModel, heads of fewer channels than lanes": (
        dit2d,
        dataclasses.replace(DIT, heads=4, activation="gelu-approximate"),
        TINY | {"lanes": 8, "memory_lanes": 4, "outliers": 0},
        12,
    ),
}


def made(build, config, seed=5):
    """A network with random weights, its norms near one."""
    rng = np.random.default_rng(seed)
    parameters = {}
    for name, value in build(config, unallocated).parameters().items():
        spread = 0.3 if value.ndim == 1 else np.prod(value.shape[1:]) ** -0.5
        centre = value.ndim == 1 and "norm" in name and name.endswith("weight")
        parameters[name] = (rng.standard_normal(value.shape) * spread + centre).astype(np.float32)
    return build(config, stored(parameters))


@pytest.mark.parametrize("title", NETWORKS)
def test_every_state_of_two_steps(title):
    build, config, machine, states = NETWORKS[title]
    network = made(build, config)
    images = moving(network, 2, items=1)
    both = Both(network, method("closed-int4", **machine), calibrated(network, images))
    for step, image in enumerate(images):
        _, *given = arguments(network, image, step)
        named = dict(zip(list(network.inputs)[1:], given, strict=True))
        wrong, compared = both.step(step, 2, image, named, checked=network.name == "dit2d")
        assert not wrong and compared == states, (step, wrong, compared)


def test_rows_of_too_few_elements_are_refused():
    network = made(unet2d, dataclasses.replace(UNET, **TEXT | {"tokens": 3}))
    images = moving(network, 2, items=1)
    compiler = Compiler(network, method("closed-int4", **TINY), calibrated(network, images))
    _, *given = arguments(network, images[0], 0)
    sentence = r"attn2.scores' \(matmul\) cannot be expressed: its rows must have at least lanes = 4 elements, not 3$"
    with pytest.raises(ValueError, match=sentence):
        compiler.step(0, 2, dict(zip(list(network.inputs)[1:], given, strict=True)))


def test_keys_and_values_must_stay():
    network = made(unet2d, dataclasses.replace(UNET, **TEXT))
    images = moving(network, 2, items=1)
    compiler = Compiler(network, method("closed-int4", **TINY), calibrated(network, images))
    for step, image in enumerate(images):
        _, *given = arguments(network, image, step)
        named = dict(zip(list(network.inputs)[1:], given, strict=True))
        if step:
            with pytest.raises(ValueError, match="conditioning that changes from step to step$"):
                compiler.step(step, 2, named | {"text": named["text"] * 2})
        else:
            compiler.step(step, 2, named)
