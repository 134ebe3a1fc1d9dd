import math
import re

import numpy as np
import pytest

from golden.networks import Schedule, UNetConfig, ddim, initial, noise, sample, unet

pytestmark = pytest.mark.golden

SMALL = UNetConfig(side=8, widths=(8, 16), attention=(False, True), groups=4, encoding=8, embedding=16)


@pytest.fixture(scope="module")
def network():
    return unet(SMALL, initial(0))


def test_schedule_is_the_published_cosine():
    signal = Schedule().signal
    assert signal.shape == (1000,)
    assert np.all(np.diff(signal) < 0) and 0 < signal[-1] < 1e-6 and signal[0] > 0.999
    for t in (0, 100, 500, 900):
        f = math.cos(((t + 1) / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
        assert signal[t] == pytest.approx(f, rel=1e-9)


def test_spaced():
    assert Schedule().spaced(50).tolist() == list(range(980, -1, -20))
    assert Schedule().spaced(1).tolist() == [0]
    assert Schedule(10).spaced(3).tolist() == [6, 3, 0]
    assert Schedule().spaced(1000).tolist() == list(range(999, -1, -1))


@pytest.mark.parametrize("steps", [0, 1001, -1, 2.0])
def test_bad_steps(network, steps):
    with pytest.raises(ValueError, match=f"^{re.escape(f'Steps must be an integer from 1 to 1000, not {steps!r}')}$"):
        sample(network, [1], steps)


def test_bad_schedule():
    with pytest.raises(ValueError, match=r"^Schedule timesteps must be an integer of at least 2, not 1$"):
        Schedule(1)


@pytest.mark.parametrize("labels, wrong", [([0, 10], "10"), ([-1], "-1"), ([0.5], "0.5")])
def test_bad_labels(network, labels, wrong):
    with pytest.raises(ValueError, match=f"^Labels must be integers from 0 to 9, not {wrong}$"):
        sample(network, labels, 2)


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

    steps = list(ddim(network, image, [3], 10, executor=oracle))
    assert [(step.index, step.timestep) for step in steps] == [(i, 900 - 100 * i) for i in range(10)]
    expected = math.sqrt(signal[500]) * clean + math.sqrt(1 - signal[500]) * start
    np.testing.assert_allclose(steps[3].image, expected, atol=1e-4)
    np.testing.assert_allclose(steps[-1].image, clean, atol=1e-4)


def test_samples_do_not_depend_on_batch_or_count(network):
    whole = sample(network, [1, 2, 3], 3, seed=5)
    np.testing.assert_allclose(sample(network, [1, 2, 3], 3, seed=5, batch=2), whole, atol=1e-4)
    np.testing.assert_allclose(sample(network, [1, 2], 3, seed=5), whole[:2], atol=1e-4)
    assert np.abs(sample(network, [1, 2, 3], 3, seed=6) - whole).max() > 0.1
    assert whole.dtype == np.float32 and np.abs(whole).max() <= 1


def test_no_images(network):
    assert sample(network, np.zeros(0, int), 3).shape == (0, 1, 8, 8)
