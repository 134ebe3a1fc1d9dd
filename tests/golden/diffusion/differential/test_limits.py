"""Values far from 1: any magnitude in the closed loop, refused by name where FP16 travels."""

import dataclasses

import numpy as np
import pytest

from golden.diffusion import Builder, Method, Network, Sampling, compare, layers, run
from golden.diffusion.differential.limits import check_range
from golden.diffusion.differential.profile import Profile, calibrate

pytestmark = pytest.mark.golden


def network(factor):
    """A norm behind convolutions that multiply by `factor` together, none of them by more than FP16 holds."""
    rng = np.random.default_rng(0)

    def numbers(name, shape):
        return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    b = Builder(numbers)
    time = b.linear("time", b.add(layers.TimeEncoding, "encoding", "timestep", channels=8), 8, 8)
    h = b.add(layers.AddChannel, "shift", b.convolution("stem", "image", 1, 8), time)
    for number in range(3):
        weight = np.eye(8, dtype=np.float32)[:, :, None, None] * np.float32(factor ** (1 / 3))
        h = b.add(layers.Convolution, f"scale{number}", h, weight=weight)
    h = b.add(layers.Norm, "norm", h, groups=2, epsilon=0.0)
    b.convolution("head", b.activation("silu", h, "silu"), 8, 1)
    return Network("far", {"image": (1, 8, 8), "timestep": ()}, b.layers)


@pytest.mark.parametrize("factor", [1e11, 1.0, 1e-9])
def test_the_closed_loop_takes_any_magnitude(factor):
    """At the quality that its digits allow: the image hardly knows the factor."""
    sampling = Sampling(network(factor), 2, 6)
    largest = calibrate(sampling).largest["scale2"]
    assert 0.1 * factor < largest < 100 * factor
    table = compare(sampling, {name: Method.named(name) for name in ("closed-int3", "closed-int4")})
    assert table[0]["psnr_mean"] > 38 and table[1]["psnr_mean"] > 48


@pytest.mark.parametrize("factor", [1e11, 1e-9])
def test_its_bits_too(factor):
    sampling = Sampling(network(factor), 1, 3)
    method = Method.named("closed-int4")
    method = dataclasses.replace(method, machine=dataclasses.replace(method.machine, accumulator_width=48))
    exact, fast = (run(sampling, method, exact=exact).images for exact in (True, False))
    np.testing.assert_allclose(exact, fast, atol=0.02)


@pytest.mark.parametrize("name", ["raw-int8", "raw-int8-tensor", "paper"])
@pytest.mark.parametrize("factor, layer", [(1e11, "scale1"), (1e-9, "scale2")])
def test_flows_of_half_precision_refuse_it_by_name(name, factor, layer):
    method = Method.named(name)
    sentence = rf"^Values of '{layer}' must be within 6e-08\.\.65504 \(FP16\) in the flow {method.flow}, not reach "
    with pytest.raises(ValueError, match=sentence):
        run(Sampling(network(factor), 1, 4), method)


@pytest.mark.parametrize("name", ["raw-int8", "paper", "closed-int3"])
def test_weights_beyond_their_format_are_refused(name):
    found = network(1.0)
    weight = np.full((1, 8, 3, 3), 7e4, np.float32)
    wide = [dataclasses.replace(one, weight=weight) if one.name == "head" else one for one in found.layers]
    found, method = Network("far", found.inputs, wide), Method.named(name)
    profile = Profile(steps=1, largest={"scale0": 1.0}, deviation={}, overflow={})
    with pytest.raises(ValueError, match=r"^Weights of 'head' must be below 65536 \(float16\), not reach 7e\+04$"):
        check_range(found, method, profile)
    machine = dataclasses.replace(method.machine, weight_format="bfloat16")
    check_range(found, dataclasses.replace(method, machine=machine), profile)
