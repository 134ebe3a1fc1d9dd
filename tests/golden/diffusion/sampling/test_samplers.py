import dataclasses
import math
import re

import numpy as np
import pytest

from golden.diffusion.networks import initial, unet
from golden.diffusion.sampling import Cache, Denoiser, RectifiedFlow, Sampler, Sampling, Schedule, noise
from tests.golden.diffusion.sampling.networks import SMALL, random_unet

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def network():
    return unet(SMALL, initial(0))


@pytest.mark.parametrize("steps", [0, 1001, -1])
def test_bad_steps(network, steps):
    with pytest.raises(ValueError, match=f"^{re.escape(f'Steps must be in 1..1000, not {steps!r}')}$"):
        Sampling(network, [1], steps)


def test_steps_are_integers(network):
    with pytest.raises(TypeError, match=r"^Steps must be an integer, not 2\.0$"):
        Sampling(network, [1], 2.0)


@pytest.mark.parametrize("labels, wrong", [([0, 10], "10"), ([-1], "-1"), ([0.5], "0.5")])
def test_bad_labels(network, labels, wrong):
    with pytest.raises(ValueError, match=f"^Labels must be integers from 0 to 9, not {wrong}$"):
        Sampling(network, labels, 2)


def test_the_true_noise_gives_back_the_image(network):
    """With an executor that answers with the noise in the image, each step stays on the line to the clean image."""
    rng = np.random.default_rng(0)
    clean = rng.uniform(-0.9, 0.9, (1, 1, 8, 8)).astype(np.float32)
    signal = Schedule().signal
    start = noise(network, 0, 1)
    image = math.sqrt(signal[900]) * clean + math.sqrt(1 - signal[900]) * start

    def oracle(layer, values):
        if layer.name == "head.conv":
            return start
        return layer(*values)

    steps = list(Sampler().run(Denoiser(Sampling(network, [3], 10), oracle), image, 10))
    assert [(step.index, step.timestep) for step in steps] == [(i, 900 - 100 * i) for i in range(10)]
    expected = math.sqrt(signal[500]) * clean + math.sqrt(1 - signal[500]) * start
    np.testing.assert_allclose(steps[3].image, expected, atol=1e-4)
    np.testing.assert_allclose(steps[-1].image, clean, atol=1e-4)


def test_samples_do_not_depend_on_batch_or_count(network):
    sampling = Sampling(network, [1, 2, 3], 3, seed=5)
    whole = sampling.images()
    np.testing.assert_allclose(sampling.images(batch=2), whole, atol=1e-4)
    np.testing.assert_allclose(sampling.of([1, 2]).images(), whole[:2], atol=1e-4)
    *_, last = sampling.walk(part=slice(1, 3))
    np.testing.assert_allclose(last.image, whole[1:], atol=1e-4)
    assert np.abs(sampling.of([1, 2, 3], seed=6).images() - whole).max() > 0.1
    assert whole.dtype == np.float32 and np.abs(whole).max() <= 1


def test_equal_samplings_are_equal(network):
    """What is kept of one is found by the other."""
    one, two = (Sampling(network, np.array([1, 2]), 3, cache=Cache([0, 2])) for _ in range(2))
    assert one == two and hash(one) == hash(two)
    for other in (one.of([2, 1]), one.of([1, 2], seed=1), dataclasses.replace(one, cache=None)):
        assert other != one


def test_fresh_noise_does_not_depend_on_batch_or_count():
    network, sampler = random_unet(), Sampler(eta=1.0)
    sampling = Sampling(network, [1, 2, 3], 4, seed=5, process=sampler)
    whole = sampling.images()
    np.testing.assert_allclose(sampling.images(batch=2), whole, atol=1e-4)
    assert np.abs(Sampling(network, [1, 2, 3], 4, seed=5).images() - whole).max() > 0.1
    start = noise(network, 5, 3)
    other = sampler.run(Denoiser(sampling), start, 4, seed=6)
    *_, last = other
    assert np.abs(last.image - whole).max() > 0.1


def test_fresh_noise_is_unit_noise_of_each_step_and_image():
    """A denoiser that predicts what leaves no image at all: what is left of each step is the noise it added."""
    sampler, start = Sampler(eta=1.0, clip=False), np.zeros((4, 1, 32, 32), np.float32)
    here, there = sampler.schedule.levels(5)
    images = [step.image for step in sampler.run(lambda image, *_: image * 0, start, 5)]
    variance = (1 - there[0]) / (1 - here[0]) * (1 - here[0] / there[0])
    fresh = [images[0] / variance**0.5]
    for before, after, h, t in zip(images, images[1:], here[1:], there[1:], strict=False):
        variance = (1 - t) / (1 - h) * (1 - h / t)
        if variance:
            fresh.append((after - sampler.update(before, before * 0, h, t)) / variance**0.5)
    assert len(fresh) == 4
    fresh = np.array(fresh).reshape(16, -1)
    np.testing.assert_allclose(fresh.std(axis=1), 1, atol=0.1)
    np.testing.assert_allclose(np.corrcoef(fresh), np.eye(16), atol=0.15)


def test_fresh_noise_is_not_the_starting_noise():
    start = noise(random_unet(), 0, 4)
    first = next(Sampler(eta=1.0, clip=False).run(lambda image, *_: image * 0, np.zeros_like(start), 5)).image
    assert abs(np.corrcoef(first.ravel(), start.ravel())[0, 1]) < 0.2


def test_a_velocity_is_another_way_to_say_the_noise():
    network, schedule = random_unet(), Schedule()
    noisy = Denoiser(Sampling(network, [1, 2], 5))

    def velocity(image, timestep, index, steps):
        signal = schedule.signal[timestep]
        predicted = noisy(image, timestep, index, steps)
        clean = (image - np.sqrt(1 - signal) * predicted) / np.sqrt(signal)
        return (np.sqrt(signal) * predicted - np.sqrt(1 - signal) * clean).astype(np.float32)

    start = noise(network, 0, 2)
    *_, expected = Sampler().run(noisy, start, 5)
    *_, found = Sampler(prediction="velocity").run(velocity, start, 5)
    np.testing.assert_allclose(found.image, expected.image, atol=1e-3)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"eta": -0.1}, "Sampler eta must be in 0..1, not -0.1"),
        ({"prediction": "noises"}, "Sampler prediction must be noise or velocity or image, not 'noises'"),
    ],
)
def test_bad_sampler(options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Sampler(**options)


def test_a_sampling_needs_an_image_and_a_finite_guidance(network):
    with pytest.raises(ValueError, match="^Conditioning of a sampling must be of at least one image, not of none$"):
        Sampling(network, [])
    with pytest.raises(ValueError, match="^Guidance must be finite, not inf$"):
        Sampling(network, [1], guidance=float("inf"))


def published(sampler, image, predicted, here, there, fresh, said):
    """A step as the papers write it, in binary64: predict the clean image, then mix it with what is left of noise."""
    signal, rest = here**0.5, (1 - here) ** 0.5
    clean = {
        "noise": (image - rest * predicted) / signal,
        "velocity": signal * image - rest * predicted,
        "image": predicted,
    }[sampler.prediction]
    clean = np.clip(clean, -1, 1) if sampler.clip else clean
    large = 1 - here / there
    small = (1 - there) / (1 - here) * large
    left = (image - signal * clean) / rest
    image = there**0.5 * clean + max(1 - there - sampler.eta**2 * small, 0) ** 0.5 * left
    if not sampler.eta or not small:
        return image
    share = (said + 1) / 2
    deviation = {
        "small": sampler.eta * small**0.5,
        "large": large**0.5,
        "learned": np.exp((share * np.log(large) + (1 - share) * np.log(small)) / 2),
    }[sampler.variance]
    return image + deviation * fresh


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("prediction", ["noise", "velocity", "image"])
@pytest.mark.parametrize("eta, variance", [(0.0, "small"), (0.4, "small"), (1.0, "large"), (1.0, "learned")])
def test_a_step_is_the_published_one(clip, prediction, eta, variance):
    """The few sums that a machine near memory makes are what the papers compute, at every level."""
    sampler = Sampler(eta=eta, clip=clip, prediction=prediction, variance=variance)
    rng = np.random.default_rng(1)
    for _, here, there in sampler.plan(7):
        image, predicted, fresh, said = rng.standard_normal((4, 2, 3, 4, 4)).astype(np.float32)
        arguments = image, predicted, here, there, fresh, np.tanh(said)
        expected = published(sampler, *(np.float64(value) for value in arguments))
        size = 1 + np.abs(expected).max() + here**-0.5 * (not clip)
        found = sampler.update(image, predicted, here, there, fresh if eta else None, np.tanh(said))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=3e-6 * size)


@pytest.mark.parametrize("prediction, sign", [("image", 1), ("noise", -1)])
def test_a_flow_follows_its_line(prediction, sign):
    rng = np.random.default_rng(2)
    flow = RectifiedFlow(prediction=prediction)
    for _, here, there in flow.plan(4):
        image, predicted = rng.standard_normal((2, 2, 3, 4, 4)).astype(np.float32)
        expected = image + sign * (here - there) * np.float64(predicted)
        np.testing.assert_allclose(flow.update(image, predicted, here, there), expected, atol=1e-6)


def test_whoever_executes_makes_the_sums():
    """Terms and names are those that programs use: the image, the clean one, the prediction, the noise."""
    made = []

    def combine(terms, name):
        made.append((name, *terms))
        return next(iter(terms.values()))[0]

    image = np.ones((1, 1, 2, 2), np.float32)
    Sampler(eta=1.0).update(image, image, 0.5, 0.9, image, combine=combine)
    assert made == [("clean", "image", "prediction"), ("image", "image", "clean", "fresh")]
