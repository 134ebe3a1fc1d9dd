"""Whole networks on exact numbers: their primitives are the units, and what floating point makes of the same."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from golden import formats, zoo
from golden.differential.arithmetic import FloatArithmetic
from golden.differential.configuration import CONFIGURATIONS, Configuration
from golden.differential.exact import ExactArithmetic
from golden.differential.near_memory import NearMemory
from golden.differential.profile import Profile, calibrate
from golden.differential.quantise import Grouping
from golden.differential.run import run
from golden.networks import DiTConfig, Network, UNetConfig, dit, initial, stored, unet
from golden.networks.layers import Convolution, ErfGELU, Linear, MatMul, Softmax
from golden.parameters import Parameters
from golden.sampling import ddim, noise
from golden.units.activations import activation
from golden.units.closed_loop import ClosedLoop, Norm
from golden.units.delta_group import DeltaGroups
from golden.units.multiplier_group import align_weights, compile_weights, multiplier_group
from golden.units.near_memory_engine import near_memory_engine

pytestmark = pytest.mark.golden

MACHINE = Parameters(
    digit_width=4, lanes=8, outliers=0, fraction_bits=10, output_passes=3, memory_lanes=4, accumulator_width=32
)
CLOSED = Configuration(machine=MACHINE, early_passes=2)
LAYER = dataclasses.replace(
    MACHINE, outliers=1, exponent_policy="layer", overflow_policy="replay", output_passes=1, weight_form="float"
)

UNET = UNetConfig(side=8, widths=(8, 16), attention=(False, True), groups=4, encoding=8, embedding=16)
SILU = dataclasses.replace(UNET, activation="silu")
DIT = DiTConfig(side=8, patch=2, width=24, blocks=2, heads=2, ratio=2, encoding=8)


def random(build, config) -> Network:
    rng = np.random.default_rng(1)
    start = build(config, initial(0)).parameters()
    return build(config, stored({name: rng.standard_normal(value.shape) * 0.2 for name, value in start.items()}))


NETWORKS = {"unet": (unet, UNET), "silu": (unet, SILU), "dit": (dit, DIT)}


def machine(configuration: Configuration, **changes) -> Configuration:
    return dataclasses.replace(configuration, machine=dataclasses.replace(configuration.machine, **changes))


def sampled(network, configuration, arithmetic, steps, *, count=None, images=1):
    """Images after each of the first `count` steps."""
    executor = NearMemory(network, configuration, calibrate(network, steps), arithmetic)
    labels = np.arange(images) % 10
    found = []
    for step in ddim(network, noise(network, 0, images), labels, steps, executor=executor):
        found.append(step.image)
        if len(found) == count:
            break
    return np.stack(found)


def pair(network, configuration, steps, dtype=np.float64, **options):
    exact = ExactArithmetic(configuration, calibrate(network, steps))
    return [
        sampled(network, configuration, arithmetic, steps, **options)
        for arithmetic in (exact, FloatArithmetic(configuration, dtype))
    ]


def psnr(a, b):
    return -10 * np.log10(np.square((a - b).astype(np.float64)).mean() / 4)


def profile(**largest) -> Profile:
    return Profile(steps=1, largest=largest, deviation={}, overflow={}, trend={})


# Against floating point ---------------------------------------------------------------------------------------------

WIDE = {
    "joint": (CLOSED, ("unet", "silu", "dit")),
    "passes": (dataclasses.replace(CLOSED, output_form="passes"), ("unet",)),
    "outliers": (machine(CLOSED, outliers=2), ("unet",)),
    "replay, float weights": (machine(CLOSED, **{f: getattr(LAYER, f) for f in (
        "outliers", "exponent_policy", "overflow_policy", "output_passes", "weight_form")}), ("unet", "dit")),
    "saturate": (dataclasses.replace(CLOSED, machine=dataclasses.replace(
        MACHINE, exponent_policy="layer", output_passes=1), passes=1, early_passes=1, last_passes=1), ("unet",)),
    "prediction": (dataclasses.replace(CLOSED, prediction=True), ("dit",)),
    "residual": (dataclasses.replace(CLOSED, residual_bits=4), ("unet",)),
    "raw": (dataclasses.replace(CLOSED, flow="raw", attention="raw"), ("unet", "dit")),
    "refresh, k by layer": (dataclasses.replace(CLOSED, refresh=2, layer_digits={"*conv2": 6}), ("unet",)),
    "previous": (dataclasses.replace(CLOSED, norm="previous", attention="raw"), ()),
}  # fmt: skip


@pytest.mark.parametrize(
    ("form", "name"), [(form, name) for form, (_, networks) in WIDE.items() for name in networks]
)
def test_bit_for_bit_where_no_accumulator_rounds(form, name):
    network = random(*NETWORKS[name])
    wide = machine(WIDE[form][0], accumulator_width=53)
    exact, double = pair(network, wide, 5, images=2)
    assert np.isfinite(exact).all()
    np.testing.assert_array_equal(exact, double)


@pytest.mark.parametrize("name", ["unet", "dit"])
def test_bit_for_bit_on_the_shipped_networks(name):
    wide = machine(CONFIGURATIONS["closed-int4"][1], accumulator_width=53)
    exact, double = pair(zoo.load(name), wide, 20, count=2)
    np.testing.assert_array_equal(exact, double)
