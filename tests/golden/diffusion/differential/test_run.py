"""Whole samplings under named methods."""

import re

import numpy as np
import pytest

from golden.diffusion import zoo
from golden.diffusion.differential.closed_loop import ClosedLoop
from golden.diffusion.differential.delta_products import DeltaProducts
from golden.diffusion.differential.method import METHODS, Method
from golden.diffusion.differential.open_loop import OpenLoop
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.differential.run import executor, run
from golden.diffusion.networks import dense
from golden.diffusion.sampling import Sampling
from golden.diffusion.zoo.quality import psnr
from tests.golden.diffusion.sampling.networks import random_unet

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def network():
    return random_unet()


def test_dense_is_the_plain_sampling(network):
    result = run(Sampling(network, [1, 4], 4, seed=7), Method(flow="dense"), measured=True)
    np.testing.assert_array_equal(result.images, Sampling(network, [1, 4], 4, seed=7).images())
    assert result.measure is None and result.trajectory.shape == (4, 2, 1, 8, 8)
    np.testing.assert_array_equal(result.trajectory[-1], result.images)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "dense"])
def test_every_named_method_runs_and_is_measured(network, name):
    result = run(Sampling(network, [1, 4], 3), Method.named(name), measured=True)
    assert np.isfinite(result.trajectory).all()
    rows = result.measure
    found = rows.total(rows.inputs) + rows.total(rows.outputs)
    assert found.bits > 0 and found.elements > 0
    assert {step for step, _ in (*rows.inputs, *rows.outputs)} == {0, 1, 2}
    plain = run(Sampling(network, [1, 4], 3), Method.named(name))
    np.testing.assert_array_equal(plain.images, result.images)
    assert plain.measure is None


def test_the_shipped_network_keeps_its_image():
    """A few steps; the figures of whole samplings stand in the document on fidelity."""
    network = zoo.load("unet")
    expected = run(Sampling(network, [3, 8], 6), Method.named("dense")).images
    found = {
        name: run(Sampling(network, [3, 8], 6), Method.named(name)).images
        for name in ("closed-int3", "closed-int4", "paper")
    }
    quality = {name: float(np.mean(psnr(images, expected))) for name, images in found.items()}
    assert quality["closed-int4"] > quality["closed-int3"] > 35
    assert quality["closed-int3"] > quality["paper"] + 10


def test_steps_can_be_tracked(network):
    seen = []

    def track(steps):
        for step in steps:
            seen.append(step.index)
            yield step

    run(Sampling(network, [1], 3), Method(flow="dense"), track=track)
    assert seen == [0, 1, 2]


def test_executor_of_a_flow(network):
    profile = calibrate(Sampling(network, [0], 3))
    assert executor(network, Method(flow="dense")) is dense
    assert isinstance(executor(network, Method.named("paper"), profile), OpenLoop)
    assert isinstance(executor(network, Method.named("closed-int4"), profile), ClosedLoop)
    for flow in ("raw", "diffy"):
        assert isinstance(executor(network, Method(flow=flow), profile), DeltaProducts)


def test_refusals(network):
    for flow in ("raw", "diffy", "sign_mask", "closed_loop"):
        message = f"profile must be given for flow {flow}, not None"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            executor(network, Method(flow=flow))


@pytest.mark.parametrize("name", ["closed-int3", "paper"])
def test_products_can_be_of_another_type(network, name):
    one = Method.named(name)
    profile = calibrate(Sampling(network, [0], 3))
    given = executor(network, one, profile, dtype=np.float64 if name == "paper" else np.float32)
    plain = executor(network, one, profile)
    image = np.ones((1, 1, 8, 8), np.float32)
    found = []
    for how in (given, plain):
        how.begin_step(0, 3)
        found.append(network(image, np.array([500]), np.array([3]), executor=how))
    np.testing.assert_array_equal(*found)
