import re

import numpy as np
import pytest

from golden.diffusion.networks import StatefulExecutor
from golden.diffusion.sampling import Denoiser, Sampling, guided, noise, null_label
from tests.golden.diffusion.sampling.networks import random_unet

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def network():
    return random_unet(null_label=True)


def test_the_null_label_is_the_one_after_the_classes(network):
    assert null_label(network) == 10
    assert network.by_name["label.embedding"].weight.shape[0] == 11


def test_guided_by_hand():
    predicted = np.array([1.0, 2.0, 5.0, 0.0], np.float32).reshape(4, 1)
    assert guided(predicted, 3.0).ravel().tolist() == [1 + 3 * 4, 2 - 3 * 2]


def test_one_call_predicts_with_and_without_the_labels(network):
    x, labels, t = noise(network, 0, 2), np.array([3, 7]), np.full(2, 400)
    with_labels, without = network(x, t, labels), network(x, t, np.full(2, 10))
    assert np.abs(with_labels - without).max() > 1e-3
    found = Denoiser(Sampling(network, labels, 10, guidance=2.5))(x, 400, 0, 10)
    np.testing.assert_allclose(found, without + 2.5 * (with_labels - without), atol=1e-4)


@pytest.mark.parametrize("scale, labels", [(1.0, [3, 7]), (0.0, [10, 10])])
def test_scales_that_need_no_guidance(network, scale, labels):
    found = Sampling(network, [3, 7], 4, guidance=scale).images()
    np.testing.assert_allclose(found, Sampling(network, labels, 4).images(), atol=1e-3)


def test_an_executor_sees_each_item_in_the_same_place_in_every_step(network):
    seen = []

    class Watcher(StatefulExecutor):
        def begin_step(self, index, steps, reference=None):
            seen.append((index, steps, reference, []))

        def __call__(self, layer, values):
            if layer.kind == "embedding":
                seen[-1][-1].extend(values[0].tolist())
            return layer(*values)

    list(Sampling(network, [3, 7], 3, guidance=2.0).walk(Watcher()))
    assert seen == [(index, 3, None, [10, 10, 3, 7]) for index in range(3)]


def test_networks_without_a_null_label_cannot_be_guided():
    message = "Network must have a null label to be guided, not 'unet'"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Sampling(random_unet(), [1], 2, guidance=2.0)
    with pytest.raises(ValueError, match=r"^Labels must be integers from 0 to 9, not 10$"):
        Sampling(random_unet(), [10], 2)
