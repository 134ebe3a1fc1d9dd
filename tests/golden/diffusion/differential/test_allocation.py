import dataclasses
import math

import numpy as np
import pytest

from golden.diffusion import layers, zoo
from golden.diffusion.differential.allocation import STEPS, dealt, measure_gains, output_bits, output_bits_by_product
from golden.diffusion.differential.closed_loop import ClosedLoop
from golden.diffusion.differential.fixed.link import output_vectors
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.differential.run import run
from golden.diffusion.networks import Network
from golden.diffusion.sampling import Sampler, Sampling
from golden.diffusion.zoo.quality import psnr
from tests.golden.diffusion.differential.networks import f32


def deaf(outputs=1):
    """A network whose prediction is the bias of its head, whatever the image is."""
    return Network(
        "deaf",
        {"image": (1, 4, 4), "timestep": ()},
        [
            layers.Convolution("stem", ("image",), np.zeros((2, 1, 1, 1), np.float32), f32([1, -1])),
            layers.Convolution("head", ("stem",), np.zeros((outputs, 2, 1, 1), np.float32), f32([0.5] * outputs)),
        ],
        {},
    )


def test_gain_of_the_last_product_is_that_of_the_sampler():
    """Errors of step u stay in Y, so they are in every prediction from u on; the sampler is linear in these."""
    steps, process = 6, Sampler(clip=False)
    pushes = []
    for first in range(steps):

        def predict(image, timestep, index, count, first=first):
            return np.full_like(image, float(index >= first))

        pushes.append([one.image for one in process.run(predict, np.zeros((1, 1, 4, 4), np.float32), steps)][-1].mean())
    gains = measure_gains(Sampling(deaf(), 1, steps, process=process), images=200)
    assert gains["head"] == pytest.approx(float(np.sum(np.square(pushes))), rel=0.05)
    assert gains["stem"] == 0


def test_bits_have_the_mean_asked_for_and_equal_slopes():
    gains = {"a": 4.0, "b": 1.0, "c": 1 / 64}
    magnitudes, elements = {"a": 3, "b": 0, "c": 2}, {"a": 10, "b": 1000, "c": 500}
    bits = output_bits(gains, magnitudes, elements, 12.0)
    mean = sum(bits[name] * count for name, count in elements.items()) / sum(elements.values())
    assert abs(mean - 12) < 0.5
    slopes = [gains[name] * 4.0 ** (magnitudes[name] - bits[name]) / elements[name] for name in gains]
    assert max(slopes) / min(slopes) <= 4  # a step of one bit is four in variance


@pytest.mark.parametrize("bits", [10, 12.5, 20])
def test_what_reaches_the_image_more_gets_more(bits):
    same = {"magnitudes": {"a": 0, "b": 0}, "elements": {"a": 100, "b": 100}, "bits": bits}
    found = output_bits({"a": 16.0, "b": 1.0}, **same)
    assert found["a"] - found["b"] == 2
    assert found["a"] + found["b"] == pytest.approx(2 * bits, abs=1)


def test_products_without_effect_keep_a_bit():
    found = output_bits({"a": 1.0, "b": 0.0}, {"a": 0, "b": 0}, {"a": 1, "b": 1}, 5)
    assert found["b"] >= 1 and found["a"] > found["b"]
    assert output_bits({"a": 0.0}, {"a": 0}, {"a": 1}, 3) == {"a": 3}


def test_floors_follow_gains_patterns_and_the_state():
    network = zoo.load("unet")
    profile = calibrate(Sampling(network, [0], 5))
    how = Method.named("closed-int4")
    found = output_bits_by_product(network, how, profile)
    bits = dealt(network, profile, how.output_bits)
    assert found == bits and bits["head.conv"] > bits["stem.conv"] > bits["up1.attention.value"]
    named = dataclasses.replace(how, layer_output_bits={"stem.*": 9})
    assert output_bits_by_product(network, named, profile) == bits | {"stem.conv": 9}
    loop = ClosedLoop(network, how, profile)
    for name, code in loop.floors.items():
        layer = network.by_name[name]
        state, factor = loop.units[loop.state_of(layer)], getattr(layer, "scale", 1.0)
        magnitude = np.floor(np.log2(profile.largest[name] / factor)) + 1
        assert code == max(magnitude - bits[name] - state, 0), name
    coarse = dataclasses.replace(how, machine=dataclasses.replace(how.machine, state_width=16))
    assert ClosedLoop(network, coarse, profile).floors["head.conv"] == 0


def test_without_gains_every_layer_gets_a_bit_more():
    network = zoo.load("unet")
    profile = dataclasses.replace(calibrate(Sampling(network, [0], 5)), gains={})
    found = output_bits_by_product(network, Method.named("closed-int4"), profile)
    assert set(found.values()) == {14}  # 12.75 + 1


@pytest.mark.parametrize("name", zoo.DRAWS)
def test_shipped_gains_are_those_of_the_shipped_weights(name):
    network = zoo.load(name)
    products = [layer.name for layer in network.layers if layer.contracted]
    assert set(zoo.gains(network)) <= set(products)
    assert calibrate(Sampling(network, [0], 3)).gains == zoo.gains(network) != {}


def test_other_weights_have_no_shipped_gains():
    known = zoo.load("unet")
    index = next(i for i, layer in enumerate(known.layers) if layer.name == "stem.conv")
    changed = list(known.layers)
    changed[index] = dataclasses.replace(changed[index], bias=changed[index].bias + 1)
    assert zoo.gains(Network("unet", known.inputs, changed, known.config)) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet"])
def test_shipped_gains_can_be_measured_again(name):
    network = zoo.load(name)
    found, known = measure_gains(Sampling(network, [0], STEPS)), zoo.gains(network)
    assert {layer: math.log2(found[layer] / known[layer]) for layer in known} == pytest.approx(
        dict.fromkeys(known, 0.0), abs=0.05
    )


def test_dealt_bits_keep_more_of_the_image_than_even_ones():
    network = zoo.load("unet-silu")
    labels = np.arange(6)
    reference = run(Sampling(network, labels, 20), Method(flow="dense")).images
    quality = {}
    for allocation in ("gain", "even"):
        how = dataclasses.replace(Method.named("closed-int4"), output_allocation=allocation, output_bits=8)
        quality[allocation] = psnr(run(Sampling(network, labels, 20), how).images, reference).mean()
    assert quality["gain"] > quality["even"] + 1


def test_narrow_outputs_share_vectors():
    narrow = np.arange(2 * 3 * 2 * 5, dtype=np.float32).reshape(2, 3, 2, 5)
    values, grouping, back = output_vectors(narrow, -3, 8)
    vectors = grouping.split(values)
    assert vectors.shape[-2:] == (4, 8)  # 30 elements of an item
    assert vectors[0].ravel()[:6].tolist() == [0, 10, 20, 1, 11, 21]  # channels of a position, then the next position
    assert np.array_equal(back(values), narrow)
    _, wide, _ = output_vectors(narrow, -3, 3)
    assert wide.axis == -3 and wide.segments == (3,)
