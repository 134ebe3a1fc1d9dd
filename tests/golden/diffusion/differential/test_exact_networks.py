"""Networks of every kind on exact numbers for three steps, and every way to run them, against floating point."""

import dataclasses

import numpy as np
import pytest

from golden.diffusion import layers
from golden.diffusion.differential.method import METHODS, Method
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.differential.run import executor, run
from golden.diffusion.differential.streams import calibrate_stream
from golden.diffusion.networks import ClassifierConfig, classifier, stored
from golden.diffusion.networks.builder import unallocated
from golden.diffusion.networks.dit2d import DiT2DConfig, dit2d
from golden.diffusion.networks.latte import LatteConfig, latte
from golden.diffusion.networks.stdit import STDiTConfig, stdit
from golden.diffusion.networks.unet2d import UNet2DConfig, unet2d
from golden.diffusion.sampling import Cache, Sampling, deepcache
from golden.diffusion.sampling.streaming import Stream, Streaming
from tests.golden.diffusion.differential.networks import arguments, calibrated, moving
from tests.golden.diffusion.sampling.networks import random_unet

pytestmark = pytest.mark.golden

CLOSED = METHODS["closed-int4"][1]
STEPS = 3

STDIT = STDiTConfig(frames=3, height=4, width=6, channels=16, heads=2, depth=1, text_width=5, tokens=4)
UNET = UNet2DConfig(side=8, widths=(8, 12), groups=4, middle_groups=4, time_width=16, heads=(1, 2), blocks=(1, 1))
DIT = DiT2DConfig(side=8, width=16, heads=2, depth=1, classes=10)
LATTE = LatteConfig(frames=3, side=8, width=16, heads=2, depth=1, text_width=6, tokens=3)
POOLED = {"shrink": ("residual", "residual"), "enlarge": ("residual", "residual"), "time_norm": "scale_shift"}
TEXT = {"down": ("none", "text"), "up": ("text", "none"), "middle": "text", "text_width": 6, "tokens": 3}

NETWORKS = {
    "stdit, joint": (stdit, STDIT),
    "stdit, alternating": (stdit, dataclasses.replace(STDIT, form="alternating")),
    "latte": (latte, LATTE),
    "latte, geglu": (latte, dataclasses.replace(LATTE, activation="geglu", affine=True, cross=False)),
    "dit": (dit2d, dataclasses.replace(DIT, activation="gelu", affine=True)),
    "dit, geglu": (dit2d, dataclasses.replace(DIT, activation="geglu")),
    "unet": (unet2d, dataclasses.replace(UNET, corner=True)),
    "unet of guided diffusion": (unet2d, dataclasses.replace(UNET, **POOLED, activation="gelu")),
    "unet with text": (unet2d, dataclasses.replace(UNET, **TEXT)),
    "classifier": (classifier, ClassifierConfig(side=8, widths=(8, 16), groups=4)),
}
"""Between them they have every kind of layer that follows an image."""


def network_of(name):
    build, config = NETWORKS[name]
    rng = np.random.default_rng(5)
    shapes = {key: value.shape for key, value in build(config, unallocated).parameters().items()}
    parameters = {}
    for key, shape in shapes.items():
        spread = 0.3 if len(shape) == 1 else np.prod(shape[1:]) ** -0.5
        centre = len(shape) == 1 and "norm" in key and key.endswith("weight")
        parameters[key] = (rng.standard_normal(shape) * spread + centre).astype(np.float32)
    return build(config, stored(parameters))


def wide(method, width=53):
    return dataclasses.replace(method, machine=dataclasses.replace(method.machine, accumulator_width=width))


def walk(network, method, images, profile, **form):
    how = executor(network, method, profile, **form)
    found = []
    for step, image in enumerate(images):
        how.begin_step(step, STEPS)
        found.append(network(*arguments(network, image, step), executor=how))
    return np.stack(found)


def both(network, method, dtype=np.float64):
    """Three steps exact and in floating point; and dense."""
    images = moving(network, STEPS, items=2)
    profile = calibrated(network, images)
    forms = {"exact": True}, {"dtype": dtype}
    dense = [network(*arguments(network, image, step)) for step, image in enumerate(images)]
    return *(walk(network, method, images, profile, **form) for form in forms), np.stack(dense)


def distance(a, b):
    return float(np.sqrt(np.square((a - b).astype(np.float64)).mean()))


def test_every_kind_is_in_one_of_the_networks():
    found = {layer.kind for build, config in NETWORKS.values() for layer in build(config, unallocated).layers}
    assert found >= {kind.kind for kind in layers.KINDS}


@pytest.mark.parametrize("name", NETWORKS)
def test_bit_for_bit_where_no_accumulator_rounds(name):
    exact, double, dense = both(network_of(name), wide(CLOSED))
    assert exact[1:].std() > 0.01 and distance(exact, dense) < 0.1 * dense.std()
    np.testing.assert_array_equal(exact, double)


@pytest.mark.parametrize("norm", ["current", "calibrated"])
@pytest.mark.parametrize("name", ["stdit, alternating", "unet of guided diffusion", "classifier"])
def test_the_open_loop_bit_for_bit(name, norm):
    paper = METHODS["paper"][1]
    exact, double, dense = both(network_of(name), wide(dataclasses.replace(paper, norm=norm), 64))
    assert distance(exact, dense) < 0.5 * dense.std()
    np.testing.assert_array_equal(exact, double)


@pytest.mark.parametrize("name", NETWORKS)
def test_with_32_bits_both_are_as_far_from_the_dense_network(name):
    """A sum that is rounded is a digit that may fall the other way: the two forms err alike, not equally."""
    exact, single, dense = both(network_of(name), CLOSED, np.float32)
    errors = [distance(form, dense) for form in (exact, single)]
    assert 0.8 < errors[0] / errors[1] < 1.25
    assert distance(exact, single) <= 1.25 * errors[1]


# Ways to run them ---------------------------------------------------------------------------------------------------

LAYER = {"exponent_policy": "layer", "outliers": 2, "output_passes": 1}
ONCE = {"early_passes": 1, "last_passes": 1, "input_passes": 1}
USUAL = {
    name: getattr(Method(), name) for name in ("output_bits", "output_allocation", "output_width", "layer_output_bits")
}
WAYS = {
    "refresh": ({"refresh": 2}, {}),
    "16 bits": ({}, {"state_width": 16}),
    "20 bits": ({}, {"state_width": 20}),
    "bfloat16": ({}, {"weight_format": "bfloat16", "fraction_bits": 8}),
    "24 bits": ({}, {"state_width": 24}),
    "diffy": ({**USUAL, "flow": "diffy"}, {}),
    "diffy, replay": ({**USUAL, "flow": "diffy"}, LAYER | {"overflow_policy": "replay"}),
    "diffy, saturate": (
        {**USUAL, **ONCE, "flow": "diffy", "mix_passes": 1},
        LAYER | {"overflow_policy": "saturate"},
    ),
    "raw": ({**USUAL, "flow": "raw"}, {}),
}


@pytest.mark.parametrize(
    ("name", "way"),
    [("stdit, alternating", way) for way in (*WAYS, "one scale")]
    + [("unet with text", way) for way in ("diffy", "diffy, replay", "one scale")],
)
def test_every_way_bit_for_bit(name, way):
    base, (options, changes) = CLOSED, WAYS.get(way, ({}, {}))
    if way == "one scale":
        base, changes = METHODS["raw-int8-tensor"][1], {}
    method = dataclasses.replace(
        base, **options, machine=dataclasses.replace(base.machine, accumulator_width=64, **changes)
    )
    exact, double, dense = both(network_of(name), method)
    assert distance(exact, dense) < (1 if "saturate" in way else 0.3) * dense.std()
    np.testing.assert_array_equal(exact, double)


@pytest.mark.parametrize("branch", [0, 1])
def test_deepcache_bit_for_bit(branch):
    network, method = random_unet(), wide(CLOSED)
    sampling = Sampling(network, [3, 8], 5, cache=Cache(deepcache.uniform(5, 2), branch))
    profile = calibrate(sampling, images=2)
    exact, double = (
        sampling.images(executor(network, method, profile, **form)) for form in ({"exact": True}, {"dtype": np.float64})
    )
    assert np.isfinite(exact).all()
    np.testing.assert_array_equal(exact, double)


@pytest.mark.parametrize("reference", ["frames", "timesteps", "measured"])
def test_streams_bit_for_bit(reference):
    """Items that start anew have passes of their own."""
    network, timesteps = random_unet(), (600, 400, 200)
    rng = np.random.default_rng(0)
    start, moves = rng.uniform(-0.5, 0.5, (1, 1, 8, 8)), rng.normal(0, 0.02, (5, 1, 8, 8))
    video = np.cumsum(np.concatenate([start, moves]), axis=0).astype(np.float32)
    method = dataclasses.replace(wide(CLOSED), **USUAL)
    profile = calibrate_stream(network, video[::-1], 5, Streaming(timesteps, reference=reference))
    found = []
    for form in ({"exact": True}, {"dtype": np.float64}):
        how = executor(network, method, profile, **form)
        stream = Stream(network, 3, Streaming(timesteps, reference=reference), executor=how)
        found.append(np.stack([image for image in map(stream.push, video) if image is not None]))
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("flow", ["closed_loop", "raw", "diffy"])
def test_an_exact_run_is_measured_like_any_other(flow):
    network = random_unet()
    method = Method(flow=flow, machine=CLOSED.machine, tensor_scale=flow == "raw")
    exact, plain = (run(Sampling(network, [3, 8], 3), method, exact=form, measured=True) for form in (True, False))
    for name in ("inputs", "outputs"):
        rows = [found.measure.total(getattr(found.measure, name)) for found in (exact, plain)]
        assert rows[0].elements == rows[1].elements and rows[0].digits == rows[1].digits
        assert abs(rows[0].bits - rows[1].bits) <= 0.02 * rows[1].bits
    assert exact.images.shape == plain.images.shape
