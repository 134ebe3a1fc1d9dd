import dataclasses
import re

import numpy as np
import pytest

from golden.diffusion import zoo
from golden.diffusion.networks import Recorder, dense
from golden.diffusion.sampling import Cache, Denoiser, Sampling, deepcache, noise
from tests.golden.diffusion.sampling.executors import Differential
from tests.golden.diffusion.sampling.networks import random_unet

pytestmark = pytest.mark.golden

# what the rule of the authors' code gives (github.com/horseee/DeepCache, 1691a3a)
CENTRED = {
    (50, 2, 15, 1.4): "0 2 4 6 7 9 11 12 14 15 17 18 20 22 24 26 28 30 32 35 37 39 42 44 47",
    (50, 3, 15, 1.4): "0 3 6 8 11 13 15 17 20 22 25 28 32 35 38 42 46",
    (50, 5, 15, 1.4): "0 5 9 13 17 21 26 31 37 43",
    (50, 10, 15, 1.4): "0 9 17 26 37",
    (100, 5, 30, 1.4): "0 5 9 14 18 22 26 30 34 38 43 47 52 58 63 69 75 81 87 93",
    (250, 20, 120, 1.2): "0 22 42 62 80 98 116 132 149 168 187 207 228",
}
RISING = "0 5 12 19 27 36 45 54 63 73 83 93 103 114 124 135 146 157 168 179 191 202 214 226 238"


@pytest.fixture(scope="module")
def network():
    return random_unet()


def integers(text):
    return tuple(map(int, text.split()))


@pytest.mark.parametrize("arguments", CENTRED)
def test_centred_as_published(arguments):
    assert deepcache.centred(*arguments) == integers(CENTRED[arguments])


def test_rising_as_published():
    assert deepcache.rising(250, 10, 1.2) == integers(RISING)


def test_uniform():
    assert deepcache.uniform(50, 10) == (0, 10, 20, 30, 40)
    assert deepcache.uniform(7, 3) == (0, 3, 6)
    assert deepcache.uniform(4, 1) == (0, 1, 2, 3)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: deepcache.uniform(50, 0), "Interval must be at least 1, not 0"),
        (lambda: deepcache.uniform(0, 1), "Steps must be at least 1, not 0"),
        (lambda: deepcache.centred(50, 5, 50), "Centre must lie between 0 and the number of steps, 50, not be 50"),
        (
            lambda: deepcache.centred(50, 5, 15, 1.0),
            "Power must be above 1 and give 10 cache steps around 15, not be 1.0",
        ),
        (
            lambda: deepcache.centred(10, 1, 5, 1.4),
            "Power must be above 1 and give 10 cache steps around 5, not be 1.4",
        ),
        (lambda: deepcache.rising(50, 5, 0), "Power must be at most 10 and above 0, not 0"),
        (lambda: deepcache.rising(50, 5, float("nan")), "Power must be finite, not nan"),
        (lambda: deepcache.centred(50, 5, 15, float("inf")), "Power must be finite, not inf"),
        (lambda: deepcache.centred(50, 5, 15, 1e9), "Power must be at most 10, not 1000000000.0"),
        (lambda: Cache([0, 77]).share(random_unet(), 50), "Cache steps must be from 0 to 49, not 77"),
        (lambda: Cache([0, -1]), "Cache steps must be from 0 up, not -1"),
        (
            lambda: Sampling(random_unet(), [1], 4, cache=Cache([0, 99])),
            "Cache steps must be from 0 to 3, not 99",
        ),
        (
            lambda: Sampling(random_unet(), [1], 4, cache=Cache([0], 2)),
            "Branch must be the name of a layer or below 2 in 'unet', not 2",
        ),
        (
            lambda: deepcache.value(random_unet(), 2),
            "Branch must be the name of a layer or below 2 in 'unet', not 2",
        ),
        (lambda: deepcache.value(random_unet(), "up1"), "Layer must be one of the known names, not 'up1'; "),
        (lambda: Cache([1, 2]), "Cache steps must contain step 0, not only [1, 2]"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        call()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: deepcache.uniform(True, 1), "Steps must be an integer, not True"),
        (lambda: deepcache.centred(50, 5, 15.5), "Centre must be an integer, not 15.5"),
        (lambda: deepcache.centred(50, 5, 15, "1"), "Power must be a number, not '1'"),
        (lambda: deepcache.rising(50, 5, None), "Power must be a number, not None"),
        (lambda: Cache([0, 1.5]), "Cache step must be an integer, not 1.5"),
        (lambda: deepcache.value(random_unet(), 0.5), "Branch must be an integer or a text, not 0.5"),
    ],
)
def test_wrong_types(call, message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        call()


def test_planned():
    assert deepcache.planned(50, 5) == deepcache.uniform(50, 5)
    assert deepcache.planned(50, 5, 15) == deepcache.centred(50, 5, 15, 1.4)
    assert deepcache.planned(50, 5, 15, 1.2) == deepcache.centred(50, 5, 15, 1.2)
    assert deepcache.planned(50, 5, power=1.5) == deepcache.rising(50, 5, 1.5)


def test_branches_of_the_zoo():
    network = zoo.load("unet")
    assert deepcache.branches(network) == ("up1.enlarge", "up2.enlarge", "middle.block.add")
    for branch, name in enumerate(deepcache.branches(network)):
        assert network.by_name[f"up{branch}.concat"].inputs[0] == name


@pytest.mark.parametrize("branch", [0, 1])
def test_retrieval_evaluates_the_levels_outside_the_branch(network, branch):
    recorder = Recorder()
    denoiser = Denoiser(Sampling(network, [3], 2, cache=Cache([0], branch)), recorder)
    x = noise(network, 0, 1)
    denoiser(x, 900, 0, 2)
    assert len(recorder.records) == len(network.layers)
    recorder.records.clear()
    denoiser(x, 800, 1, 2)
    ran = [layer.name for layer in network.layers if layer.name in recorder.records]
    levels = {name.split(".")[0] for name in ran} - {"time", "label", "stem", "head"}
    assert levels == {f"{way}{level}" for way in ("down", "up") for level in range(branch + 1)}
    assert ("down0.reduce" in ran) == (branch == 1) and ("up1.enlarge" in ran) == (branch == 1)


def test_every_step_a_cache_step_is_the_plain_sampling(network):
    plain = Sampling(network, [1, 2, 3], 4, seed=5)
    every = dataclasses.replace(plain, cache=Cache(deepcache.uniform(4, 1)))
    np.testing.assert_array_equal(every.images(batch=2), plain.images(batch=2))


@pytest.mark.parametrize("branch", [0, 1, "up1.block.add"])
def test_retrieval_uses_the_value_of_the_last_cache_step(network, branch):
    """Against an executor that computes everything and then puts the older value in its place."""
    name = deepcache.value(network, branch)
    cached, step, kept = (0, 2, 3), [-1], {}

    def replaced(layer, values):
        if layer.name == network.layers[0].name:
            step[0] += 1
        output = dense(layer, values)
        if layer.name == name and step[0] in cached:
            kept[name] = output
        return kept[name] if layer.name == name else output

    found, plain = Sampling(network, [4, 6], 6, cache=Cache(cached, branch)).images(), Sampling(network, [4, 6], 6)
    np.testing.assert_array_equal(found, plain.images(replaced))
    assert np.abs(found - plain.images()).max() > 1e-3


def test_guidance_and_caching_go_together():
    network = random_unet(null_label=True)
    denoiser = Denoiser(Sampling(network, [4], 2, guidance=2.0, cache=Cache([0])))
    x = noise(network, 0, 1)
    denoiser(x, 900, 0, 2)
    apart = []
    for label in (10, 4):
        single = Denoiser(Sampling(network, [label], 2, cache=Cache([0])))
        single(x, 900, 0, 2)
        apart.append(single(x, 800, 1, 2))
    np.testing.assert_allclose(denoiser(x, 800, 1, 2), apart[0] + 2 * (apart[1] - apart[0]), atol=1e-4)


def test_deltas_of_deep_layers_are_against_the_step_in_which_they_last_ran(network):
    executor = Differential()
    sampling = Sampling(network, [4, 6], 7, cache=Cache((0, 3, 4)))
    np.testing.assert_allclose(sampling.images(executor), sampling.images(), atol=1e-3)
    outside = {layer.name for layer in network.evaluated(["up1.enlarge"])}
    for layer in network.layers:
        if layer.kind not in ("convolution", "linear"):
            continue
        steps = {step: then for (step, name), then in executor.references.items() if name == layer.name}
        if layer.name in outside:
            assert steps == {0: None, 1: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 5}
        else:
            assert steps == {0: None, 3: 0, 4: 3}
    assert executor.held_values == 4


def test_multiplications_of_a_schedule(network):
    recorder = Recorder()
    work = network.macs()
    done = 0
    for step in Sampling(network, [1], 4, cache=Cache((0, 2))).walk(recorder):
        done += sum(work[name] for name in recorder.records)
        recorder.records.clear()
        assert step.index < 4
    assert Cache((0, 2)).share(network, 4) == done / (4 * sum(work.values()))
    full, left = deepcache.macs(network, 0)
    assert full == sum(work.values()) and 0 < left < full
    assert Cache(range(4)).share(network, 4) == 1


def test_the_more_steps_are_cached_the_closer_the_image():
    network = zoo.load("unet")
    plain = Sampling(network, [3, 8], 20)
    full, errors = plain.images(), []
    for interval in (2, 5, 10):
        cached = dataclasses.replace(plain, cache=Cache(deepcache.uniform(20, interval)))
        errors.append(np.sqrt(np.mean((cached.images() - full) ** 2)))
    assert errors == sorted(errors) and errors[0] < 0.05
