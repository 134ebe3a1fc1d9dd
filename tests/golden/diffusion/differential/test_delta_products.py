"""The flows near memory: what must hold between states, deltas and passes, on small networks of random parameters."""

import numpy as np
import pytest

from golden.diffusion.differential.arithmetic import align
from golden.diffusion.differential.delta_products import DeltaProducts
from golden.diffusion.differential.exact import ExactArithmetic
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.quantise import half
from golden.diffusion.networks import Recorder
from golden.parameters import Parameters
from tests.golden.diffusion.differential.networks import (
    STEPS,
    Spy,
    arguments,
    calibrated,
    f32,
    moving,
    normed,
)
from tests.golden.diffusion.sampling.networks import random_unet

pytestmark = pytest.mark.golden

PLAIN = {"early_passes": 1, "late_steps": 0, "last_passes": 1, "input_passes": 1, "first_passes": 3}


FINE = {"output_bits": 20, "output_width": 16}
"""Outputs that lose nearly nothing."""


def machine(k=4, n=8, m=0, **more):
    return Parameters(digit_width=k, lanes=n, outliers=m, fraction_bits=10, **{"memory_lanes": 1, **more})


def loop(k=4, n=8, m=0, *, parameters=None, **more):
    return Method(machine=machine(k, n, m, **(parameters or {})), **{**PLAIN, **more})


@pytest.fixture(scope="module")
def network():
    return random_unet()


@pytest.fixture(scope="module")
def images(network):
    return moving(network)


@pytest.fixture(scope="module")
def profile(network, images):
    return calibrated(network, images)


class Walk:
    """An executor driven step by step, with everything it was told and what every layer saw."""

    def __init__(self, network, method, profile, first=0):
        self.spy = Spy()
        self.network = network
        self.executor = DeltaProducts(network, method, profile, measure=self.spy)
        self.recorder = Recorder(executor=self.executor)
        self.before = {}
        self.steps = STEPS

    def step(self, index, image, reference=None, given=None, labels=None):
        self.before = dict(self.executor._held)
        self.recorder.begin_step(index, self.steps, reference)
        inputs = list(arguments(self.network, image, index))
        if labels is not None:
            inputs[list(self.network.inputs).index("label")] = labels
        return self.network(*inputs, executor=self.recorder, given=given)

    def run(self, images):
        return [self.step(index, image) for index, image in enumerate(images)]

    def value(self, name):
        """What a layer or the network's input was in the last step."""
        if name in self.recorder.records:
            return self.recorder.records[name].output
        reader = self.network.consumers(name)[0]
        return self.recorder.records[reader.name].inputs[reader.inputs.index(name)]

    def held(self, layer, operand=0):
        return self.executor._held[layer.inputs[operand], layer.contracted[operand]]


def main_products(walk):
    for layer in walk.network.layers:
        if layer.contracted and layer.name in walk.executor._main:
            yield layer


def unbiased(layer, value):
    bias = getattr(layer, "bias", None)
    if bias is None:
        return value
    return value - (bias[:, None, None] if layer.kind == "convolution" else bias)


def expected_sum(walk, layer):
    """W Xhat, with aligned weights."""
    segments = ()
    source = walk.network.by_name.get(layer.inputs[0])
    if source is not None and source.kind == "concat":
        segments = tuple(walk.recorder.records[part].output.shape[1] for part in source.inputs)
    weight = align(layer.weight, 1, walk.executor._method.machine, segments)
    return layer.product(walk.held(layer), weight)


def check_sums(walk, tolerance=1e-3):
    """Every Y is the product of what its readers hold, up to the rounding of every change to FP16."""
    for layer in main_products(walk):
        y = walk.recorder.records[layer.name].output
        if layer.kind == "matmul":
            a, b = walk.held(layer, 0), walk.held(layer, 1)
            expected, slack = layer(a, b), 4e-3  # the operand that is no delta enters with 11 bits
        else:
            expected, slack = expected_sum(walk, layer), tolerance
        error = np.abs(unbiased(layer, y) - expected).max()
        assert error <= slack * np.abs(expected).max() + 1e-5, (layer.name, error)


@pytest.mark.parametrize("flow", ["raw", "diffy"])
def test_a_second_sampling_starts_anew(network, images, profile, flow):
    """Other images, another batch: nothing of the first sampling is left, whatever was switched on."""
    for more in ({}, {"passes": 2}):
        method = loop(4, flow=flow, **more)
        walk = Walk(network, method, profile)
        walk.run(images)
        again = walk.run(images[:, ::-1][:, :2] * 0.9)
        fresh = Walk(network, method, profile).run(images[:, ::-1][:, :2] * 0.9)
        np.testing.assert_array_equal(again, fresh)


# Passes and digits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exact", [False, True])
def test_weights_beyond_the_declared_range_are_refused(exact):
    network = normed("layer_norm")
    images = moving(network)
    profile = calibrated(network, images)
    method = loop(4, flow="raw", parameters={"weight_form": "float", "weight_exponent_max": -3})
    executor = DeltaProducts(network, method, profile, ExactArithmetic(method, profile) if exact else None)
    executor.begin_step(0, STEPS)
    with pytest.raises(ValueError, match=r"^Weights must be zero or have exponents in -14\.\.-3"):
        network(images[0], executor=executor)


# Other flows ---------------------------------------------------------------------------------------------------------


def test_diffy_takes_deltas_against_the_raw_values_before(network, images, profile):
    """With enough digits nothing is lost but FP16's own bits; activations and norms are those of every step."""
    walk = Walk(network, loop(8, flow="diffy", passes=3), profile)
    for index, image in enumerate(images):
        found = walk.step(index, image)
        for name in ("image", "middle.block.relu1"):
            x = half(walk.value(name))
            sent = walk.spy.inputs[index, name]
            against = x if index == 0 else half(x - walk.before[name, -3])
            np.testing.assert_array_equal(walk.spy.groupings[name].join(sent.lanes), against)
            np.testing.assert_array_equal(walk.executor._held[name, -3], x)
        dense = network(*arguments(network, image, index))
        assert np.abs(found - dense).max() <= 0.02 * np.abs(dense).max()


def test_raw_keeps_no_state(network, images, profile):
    walk = Walk(network, loop(8, flow="raw", first_passes=1), profile)
    found = walk.run(images)
    for index in (3, 7):
        alone = Walk(network, loop(8, flow="raw", first_passes=1), profile)
        np.testing.assert_array_equal(alone.step(index, images[index]), found[index])
        for (step, name), sent in alone.spy.inputs.items():
            s = alone.executor._exponent(name)
            x = np.rint(alone.value(name) * 2.0**-s) * 2.0**s
            np.testing.assert_array_equal(alone.spy.groupings[name].join(sent.lanes), half(f32(x)))
            assert step == index


def test_one_scale_for_every_item(network, images, profile):
    walk = Walk(network, Method(flow="raw", machine=machine(8), tensor_scale=True), profile)
    walk.step(0, images[0])
    for (_, name), sent in walk.spy.inputs.items():
        x = walk.value(name)
        largest = np.abs(x).reshape(len(x), -1).max(axis=1).reshape(-1, *[1] * (x.ndim - 1))
        assert sent.exponent is None
        assert (np.abs(sent.values - x) <= largest / 127 * 0.502 + 1e-5).all()


# Items of the batch --------------------------------------------------------------------------------------------------


# Choice --------------------------------------------------------------------------------------------------------------


WIDE = {"memory_lanes": 8, "link_width": 32}  # else the traffic of the state alone speaks for raw values


ARRAY = {"rows": 128, "columns": 128}
BOUND = {
    "array": ({"rows": 1, "columns": 1, "link_width": 512, "memory_lanes": 8}, {}, False),
    "array, many passes": ({"rows": 1, "columns": 1, "link_width": 512, "memory_lanes": 8}, {"passes": 4}, True),
    "memory": ({**ARRAY, "link_width": 512, "memory_lanes": 1}, {}, True),
    "link": ({**ARRAY, "link_width": 32, "memory_lanes": 8}, {}, False),
    "link, many passes": ({**ARRAY, "link_width": 32, "memory_lanes": 8}, {"passes": 4}, True),
}
"""What a machine is bound by, how many passes deltas take against two of raw values, and whether these are cheaper."""


# Products of two activations -----------------------------------------------------------------------------------------


def test_another_flow_is_refused(network, profile):
    with pytest.raises(ValueError, match=r"^flow must be raw or diffy, not dense$"):
        DeltaProducts(network, Method(flow="dense"), profile)
