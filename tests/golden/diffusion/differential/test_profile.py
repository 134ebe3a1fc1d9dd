"""What calibration measures, against plain computations."""

import numpy as np
import pytest

from golden.diffusion.differential.profile import Calibration, Profile, calibrate
from golden.diffusion.networks import Recorder
from golden.diffusion.networks.graph import main_values
from golden.diffusion.sampling import Sampling
from tests.golden.diffusion.differential.networks import (
    arguments,
    attention_network,
    calibrated,
    moving,
)
from tests.golden.diffusion.sampling.networks import random_unet

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def network():
    return random_unet()


@pytest.fixture(scope="module")
def images(network):
    return moving(network)


@pytest.fixture(scope="module")
def profile(network, images):
    return calibrated(network, images)


@pytest.fixture(scope="module")
def records(network, images):
    """Every value of every step."""
    found = []
    for index, image in enumerate(images):
        recorder = Recorder()
        network(*arguments(network, image, index), executor=recorder)
        found.append({"image": image, **{name: record.output for name, record in recorder.records.items()}})
    return found


def test_main_values_depend_on_the_first_input(network):
    found = main_values(network)
    assert "image" in found and "head.conv" in found and "down0.block.shift" in found
    assert not found & {"timestep", "label", "time.encoding", "label.embedding", "down0.block.time"}
    constant = main_values(attention_network(constant=True))
    assert "key" not in constant and {"query", "scores", "mix"} <= constant
    assert "key" in main_values(attention_network())


def test_largest_magnitudes(profile, records, network):
    for name in main_values(network):
        assert profile.largest[name] == max(np.abs(values[name]).max() for values in records), name
    assert set(profile.largest) == main_values(network)


def test_deviations_are_means_over_images(profile, records, network):
    for name in ("down0.block.norm1", "up1.attention.norm"):
        layer = network.by_name[name]
        for step, values in enumerate(records):
            x = values[layer.inputs[0]]
            grouped = x.reshape(len(x), layer.groups, -1)
            deviation = np.sqrt(grouped.astype(np.float64).var(axis=2) + layer.epsilon)
            np.testing.assert_allclose(profile.deviation[name][step], deviation.mean(axis=0), rtol=1e-5)
            np.testing.assert_array_equal(profile.deviations(name, step), profile.deviation[name][[step]])


def test_a_step_that_was_not_calibrated_is_refused(profile):
    with pytest.raises(ValueError, match=r"^profile must be of more than 8 steps with calibrated norms, not of 8$"):
        profile.deviations("head.norm", 8)


def test_overflow_is_the_median_of_the_quantiles_of_deltas(profile, records):
    for name in ("image", "head.norm", "head.relu", "down1.attention.tokens"):
        quantiles = [
            np.quantile(np.abs(now[name] - then[name]), 0.98)
            for then, now in zip(records[:-2], records[1:-1], strict=True)
        ]
        assert profile.overflow[name] == pytest.approx(np.median(quantiles), rel=1e-6)


def made(largest=1.0, overflow=1.0):
    return Profile(4, {"x": largest}, {}, {"x": overflow})


@pytest.mark.parametrize("width", [16, 24])
@pytest.mark.parametrize("largest", [2.0**-30, 0.001, 0.75, 1.0, 3.99, 4.0, 1000.0])
def test_state_exponent_leaves_a_bit(largest, width):
    s = made(largest).state_exponent("x", width)
    limit = 2.0 ** (width - 1)
    assert s >= -24
    assert 2 * largest <= limit * 2.0**s  # twice the largest fits (the very end of the range excepted)
    assert s == -24 or 4 * max(largest, 2.0**-20) >= limit * 2.0**s


@pytest.mark.parametrize("largest", [3.0, 4.0, 3.9e11, 1.1e-9, 0.0])
@pytest.mark.parametrize("factor", [1.0, 0.3])
def test_the_unit_of_the_closed_loop_knows_no_end(largest, factor):
    s = made(largest).unit("x", 18, factor=factor)
    reach = (largest or 1.0) / factor
    assert 2.0 ** (s + 15) <= reach < 2.0 ** (s + 16)


@pytest.mark.parametrize("k", range(2, 9))
@pytest.mark.parametrize("bound", [0.01, 0.9, 1.0, 3.5, 7.0, 100.0, 0.0, 1e9])
def test_layer_exponent_is_the_least_that_fits(k, bound):
    e = made(overflow=bound).layer_exponent("x", k)
    fits = [one for one in range(-24, 19 - k) if max(bound, 2.0**-24) < (2**k - 1) * 2.0 ** (one - 1)]
    assert e == (fits[0] if fits else 18 - k)


def test_values_that_were_not_seen_have_harmless_defaults():
    profile = made()
    assert profile.state_exponent("y", 24) == 1 + 1 - 23
    assert profile.layer_exponent("y", 3) == -24


def test_calibration_is_that_of_a_sampling(network):
    profile = calibrate(Sampling(network, [0], 3), images=2, seed=5)
    assert profile is calibrate(Sampling(network, [7], 3, seed=9), images=2, seed=5) and profile.steps == 3
    calibration = Calibration(network)
    sampling = Sampling(network, [0, 1], 3, seed=5)
    for step in sampling.walk(calibration):
        last = step.image
    again = calibration.profile(3)
    assert again.largest == profile.largest
    plain = list(sampling.walk())[-1].image
    np.testing.assert_array_equal(last, plain)
