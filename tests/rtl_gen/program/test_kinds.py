"""Networks of diffusers' classes, with random weights, as programs: every state equals the exact executor's."""

import dataclasses
import re

import numpy as np
import pytest

from golden.diffusion.differential.profile import calibrate
from golden.diffusion.differential.run import executor
from golden.diffusion.layers import AveragePool, Layer, Mean
from golden.diffusion.networks import stored
from golden.diffusion.networks.builder import Builder, unallocated
from golden.diffusion.networks.dit2d import DiT2DConfig, dit2d
from golden.diffusion.networks.graph import Network
from golden.diffusion.networks.latte import LatteConfig, latte
from golden.diffusion.networks.stdit import STDiTConfig, stdit
from golden.diffusion.networks.unet2d import UNet2DConfig, unet2d
from golden.diffusion.sampling import Sampling
from golden.machine import hazards
from golden.machine.accelerator import Accelerator
from rtl_gen.program.network import Compiler
from rtl_gen.program.outline import outlined
from rtl_gen.program.sampling import compile_sampling
from tests.golden.diffusion.differential.networks import arguments, calibrated, moving
from tests.golden.diffusion.sampling.networks import random_unet
from tests.rtl_gen.program.test_network import Both, method

pytestmark = pytest.mark.golden

TINY = {"lanes": 4, "memory_lanes": 2, "rows": 2, "columns": 4, "outliers": 1}
UNET = UNet2DConfig(side=8, widths=(8, 12), groups=4, middle_groups=4, time_width=16, heads=(1, 2), blocks=(1, 1))
TEXT = {"down": ("none", "text"), "up": ("text", "none"), "middle": "text", "text_width": 6, "tokens": 5}
DIT = DiT2DConfig(side=8, width=16, heads=2, depth=1, classes=10, activation="geglu")
LATTE = LatteConfig(frames=5, side=8, width=16, heads=2, depth=1, text_width=6, tokens=5)
STDIT = STDiTConfig(frames=5, height=4, width=6, channels=16, heads=2, depth=1, text_width=6, tokens=5)
FORMS = ("joint", "alternating")
ALTERNATING = dataclasses.replace(STDIT, form="alternating")

NETWORKS = {
    "UNet2DConditionModel, fewer tokens than lanes": (
        unet2d,
        dataclasses.replace(UNET, **TEXT | {"tokens": 3}),
        TINY,
        117,
    ),
    "LatteTransformer3DModel, fewer frames, places and tokens than lanes": (
        latte,
        dataclasses.replace(LATTE, side=4, frames=3, tokens=2),
        TINY | {"lanes": 8, "near_lanes": 4, "memory_lanes": 4, "rows": 3},
        28,
    ),
    "STDiT": (stdit, STDIT, TINY, 25),
    "STDiT, norms of heads and rotary positions": (
        stdit,
        ALTERNATING,
        TINY | {"rows": 3},
        38,
    ),
    "STDiT, norms of heads of fewer channels than lanes": (
        stdit,
        dataclasses.replace(ALTERNATING, frames=8, height=6, heads=4, tokens=9),
        TINY | {"lanes": 8, "near_lanes": 4, "memory_lanes": 4},
        38,
    ),
    "LatteTransformer3DModel": (latte, LATTE, TINY, 28),
    "UNet2DModel": (unet2d, dataclasses.replace(UNET, corner=True), TINY, 61),
    "UNet2DConditionModel": (unet2d, dataclasses.replace(UNET, **TEXT), TINY, 117),
    "DiTTransformer2DModel": (dit2d, DIT, TINY, 15),
    "LatteTransformer3DModel, heads of fewer channels than lanes": (
        latte,
        dataclasses.replace(LATTE, frames=8, heads=4, tokens=9, activation="geglu", affine=True),
        TINY | {"lanes": 8, "memory_lanes": 2, "rows": 3, "link_form": "compressed", "link_width": 32},
        34,
    ),
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
        wrong, compared = both.step(step, 2, image, named, checked=network.name != "unet2d")
        assert not wrong and compared == states, (step, wrong, compared)


@pytest.mark.parametrize(
    "build, config, lanes, sentence",
    [
        (
            stdit,
            ALTERNATING,
            6,
            r"q_norm' \(norm\) cannot be expressed: its heads of 8 channels are cut by vectors of lanes = 6$",
        ),
        (
            latte,
            LATTE,
            24,
            "^Frames of 'transformer_blocks.0.attn1.to_q' must have at least lanes = 24 channels, not 16$",
        ),
    ],
)
def test_heads_and_frames_that_vectors_cut_are_refused(build, config, lanes, sentence):
    network = made(build, config)
    images = moving(network, 1, items=1)
    chosen = method("closed-int4", **TINY | {"lanes": lanes, "tile_positions": 48})
    compiler = Compiler(network, chosen, calibrated(network, images))
    _, *given = arguments(network, images[0], 0)
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


def check_images(sampling, run=Accelerator.run):
    """A program of a sampling leaves the images of golden's exact executor; `run` takes machine, operand, commands."""
    profile, chosen = calibrate(sampling), method("closed-int4", **TINY)
    sampled = compile_sampling(sampling, chosen, profile)
    machine = sampled.program.load()
    run(machine, sampled.program.operand, sampled.program.commands)
    expected = sampling.images(executor(sampling.network, chosen, profile, exact=True))
    np.testing.assert_array_equal(sampled.images(machine), expected)


def test_a_sampling_guided_by_texts():
    """Both halves of guidance have keys and values of their own."""
    config = dataclasses.replace(UNET, middle="text", text_width=6, tokens=5)
    network, rng = made(unet2d, config), np.random.default_rng(1)
    given = {"text": rng.standard_normal((1, 5, 6), np.float32), "null.text": np.zeros((5, 6), np.float32)}
    sampling = Sampling(network, given, 2, guidance=3.0)
    check_images(sampling)


def test_two_videos_are_rows_of_one_program():
    network = made(latte, dataclasses.replace(LATTE, side=4, channels_in=1, channels_out=1))
    text = np.random.default_rng(2).standard_normal((2, 5, 6), np.float32)
    sampling = Sampling(network, {"text": text}, 2)
    check_images(sampling, hazards.check)


@pytest.mark.parametrize(
    "build, config, given",
    [
        (dit2d, dataclasses.replace(DIT, channels_in=2, channels_out=4), [3]),
        (dit2d, dataclasses.replace(DIT, channels_in=3, channels_out=3), [3]),
        (unet2d, dataclasses.replace(UNET, channels_in=2, channels_out=4), 1),
    ],
)
def test_a_sampling_of_several_channels_with_and_without_a_variance(build, config, given):
    """A variance that nobody asks for is computed beside the prediction, and left."""
    network = made(build, config)
    sampling = Sampling(network, given, 2)
    check_images(sampling)


def test_a_prediction_of_other_channels_is_refused():
    network = made(dit2d, dataclasses.replace(DIT, channels_in=2, channels_out=3))
    images = moving(network, 2, items=1)
    compiler = Compiler(network, method("closed-int4", **TINY), calibrated(network, images))
    sentence = "Output of network 'dit2d' must have the shape (2, 8, 8), not (3, 8, 8), to be sampled by a program"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        compiler.check_prediction()


def drawn(seed):
    """A network of a random shape, and a machine of random parameters."""
    rng = np.random.default_rng(seed)

    def one_of(*values):
        return values[rng.integers(len(values))]

    lanes = one_of(4, 6, 8)
    machine = {
        "lanes": lanes,
        "memory_lanes": one_of(*(width for width in range(1, lanes + 1) if lanes % width == 0)),
        "rows": int(rng.integers(1, 5)),
        "columns": int(rng.integers(1, 6)),
        "outliers": int(rng.integers(0, 3)),
        "digit_width": int(rng.integers(3, 6)),
        "state_width": int(rng.integers(16, 21)),
        "accumulator_width": one_of(32, 40),
        "tile_positions": one_of(32, 64),
        "link_form": one_of("direct", "compressed"),
        "link_width": 32,
    }
    if rng.random() < 0.2:
        heads = one_of(1, 2, 4)
        return latte, dataclasses.replace(
            LATTE,
            frames=int(rng.integers(1, 12)),
            side=one_of(6, 8),
            width=4 * heads * int(rng.integers(-(-lanes // (4 * heads)), 4)),
            heads=heads,
            channels_in=int(rng.integers(1, 5)),
            channels_out=int(rng.integers(1, 9)),
            activation=one_of("gelu", "gelu-approximate", "geglu"),
            tokens=int(rng.integers(1, 12)),
            cross=one_of(False, True),
            affine=one_of(False, True),
            bias=one_of(False, True),
        ), machine  # fmt: skip
    if rng.random() < 0.2:
        heads = one_of(1, 2)
        return stdit, dataclasses.replace(
            STDIT,
            form=one_of("joint", "alternating"),
            frames=int(rng.integers(1, 12)),
            height=6,
            width=one_of(6, 8),
            channels_in=int(rng.integers(1, 5)),
            channels_out=int(rng.integers(1, 9)),
            channels=2 * lanes * heads,
            heads=heads,
            tokens=int(rng.integers(1, 12)),
        ), machine  # fmt: skip
    if rng.random() < 0.4:
        heads = one_of(1, 2, 4)
        return dit2d, dataclasses.replace(
            DIT,
            side=one_of(6, 8),
            width=4 * heads * int(rng.integers(1, 4)),
            heads=heads,
            channels_in=int(rng.integers(1, 5)),
            channels_out=int(rng.integers(1, 9)),
            activation=one_of("gelu", "gelu-approximate", "geglu"),
            affine=one_of(False, True),
            bias=one_of(False, True),
        ), machine  # fmt: skip
    groups = one_of(2, 3)
    widths = tuple(groups * 2 * int(rng.integers(1, 4)) for _ in range(2))
    kind = one_of("none", "self", "text")
    text = {"text_width": int(rng.integers(3, 9)), "tokens": int(rng.integers(1, 12))} if kind == "text" else {}
    return unet2d, dataclasses.replace(
        UNET,
        side=one_of(6, 8),
        widths=widths,
        groups=groups,
        middle_groups=groups,
        heads=tuple(one_of(*(heads for heads in (1, 2, 3) if width % heads == 0)) for width in widths),
        channels_in=int(rng.integers(1, 4)),
        channels_out=int(rng.integers(1, 4)),
        corner=one_of(False, True),
        linear_projection=one_of(False, True),
        down=("none", kind),
        up=(kind, "none"),
        middle=kind,
        **text,
    ), machine  # fmt: skip


@pytest.mark.parametrize("seed", [*range(2), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 20))])
def test_random_networks_on_random_machines(seed):
    """Attention, norms, odd sizes and odd heads."""
    build, config, machine = drawn(seed)
    network = made(build, config, seed)
    images = moving(network, 3, items=1, seed=seed)
    both = Both(network, method("closed-int4", **machine), calibrated(network, images))
    for step, image in enumerate(images):
        _, *given = arguments(network, image, step)
        named = dict(zip(list(network.inputs)[1:], given, strict=True))
        wrong, compared = both.step(step, 3, image, named, checked=step == 0)
        assert not wrong and compared > 10, (config, machine, step, wrong, compared)


def drawn_video(seed):
    """A video whose frames are longer than a bank, a machine, how many products attention takes at once, and how."""
    rng = np.random.default_rng(seed)
    lanes, heads = int(rng.choice([4, 8])), int(rng.choice([1, 2]))
    height, width = (2 * int(number) for number in rng.integers(3, 7, 2))
    channels = lanes * heads * int(rng.integers(1, 3))
    shape = {
        "frames": int(rng.choice([2, 4, 5, 8])),
        "channels_in": int(rng.integers(1, 5)),
        "tokens": int(rng.integers(1, 12)),
        "heads": heads,
    }
    if rng.random() < 0.3:
        shape |= {"side": max(height, width), "width": channels, "cross": bool(rng.random() < 0.5)}
        build, config = latte, dataclasses.replace(LATTE, **shape)
    else:
        shape |= {"height": height, "width": width, "channels": channels, "form": str(rng.choice(FORMS))}
        build, config = stdit, dataclasses.replace(STDIT, **shape)
    groups = 4 * -(-4 * channels // lanes)  # of the widest value, in four passes
    machine = {
        "lanes": lanes,
        "memory_lanes": int(rng.choice([2, 4])),
        "rows": int(rng.integers(1, 5)),
        "columns": int(rng.integers(1, 6)),
        "outliers": int(rng.integers(0, 3)),
        "group_buffer": max(groups * int(rng.integers(3, 9)), 768),
        "state_width": int(rng.choice([16, 18, 20])),
        "tile_positions": 64,
        "link_form": str(rng.choice(["direct", "compressed"])),
        "link_width": 32,
    }
    return build, config, machine, int(rng.choice([1, 2, 4, 8])), str(rng.choice(["delta", "raw"]))


CUT = (0, 1, 2, 3, 5, 7, 9, 10, 12, 13, *range(20, 25))
"""Seeds of machines whose banks hold a line of scores, at least."""


@pytest.mark.parametrize("seed", [4, 6, *(pytest.param(seed, marks=pytest.mark.slow) for seed in CUT)])
def test_frames_longer_than_a_bank_and_attention_in_loops(seed):
    """Frames are cut into lines, and a loop goes over the sequences of attention; every state is golden's."""
    build, config, machine, at_once, attention = drawn_video(seed)
    network = made(build, config, seed)
    images = moving(network, 2, items=1, seed=seed)
    chosen = dataclasses.replace(method("closed-int4", **machine), attention=attention)
    both = Both(network, chosen, calibrated(network, images), at_once=at_once)
    for step, image in enumerate(images):
        _, *given = arguments(network, image, step)
        named = dict(zip(list(network.inputs)[1:], given, strict=True))
        wrong, compared = both.step(step, 2, image, named)
        assert not wrong and compared > 10, (config, machine, at_once, attention, step, wrong, compared)


def behind_a_convolution(kind, options):
    """A network of a convolution and a layer."""
    b = Builder(unallocated)
    b.add(kind, "tested", b.convolution("first", "image", 4, 8), **options)
    return Network("small", {"image": (4, 8, 8)}, b.layers, {})


def concrete(kind=Layer):
    """Classes of layers that networks are made of."""
    found = {kind} if kind.kind and kind.__module__.startswith("golden.") else set()
    return found.union(*map(concrete, kind.__subclasses__()))


REFUSED = {Mean: {}, AveragePool: {"factor": 2}}


def test_every_kind_of_layer_is_expressed_or_refused_by_its_name():
    """There is no third case."""
    chosen, expressed = method("closed-int4", **TINY), set()
    shapes = (
        (unet2d, dataclasses.replace(UNET, **TEXT)),
        (dit2d, DIT),
        (dit2d, dataclasses.replace(DIT, activation="gelu-approximate")),
        (stdit, ALTERNATING),
    )
    for network in (random_unet(), *(build(config, unallocated) for build, config in shapes)):
        outlined(network, chosen, steps=1)
        expressed |= {type(layer) for layer in network.layers}
    for kind, options in REFUSED.items():
        sentence = f"^Layer 'tested' \\({kind.kind}\\) cannot be expressed: no command adds up positions of a state$"
        with pytest.raises(ValueError, match=sentence):
            outlined(behind_a_convolution(kind, options), chosen, steps=1)
    assert not expressed & REFUSED.keys() and expressed | REFUSED.keys() == concrete()
