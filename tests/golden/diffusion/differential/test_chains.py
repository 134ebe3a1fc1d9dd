"""Chains: which there are, their factors against fractions, and that fast and exact agree as far as roundings go."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from golden.diffusion import zoo
from golden.diffusion.differential.chains import Chain, chains, most_groups, most_kept, scales
from golden.diffusion.differential.closed_loop import ClosedLoop
from golden.diffusion.differential.fixed import ExactLink, FloatLink
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import Profile, calibrate
from golden.diffusion.differential.quantise import Grouping
from golden.diffusion.layers import AddChannel, Convolution, Norm, ReLU
from golden.diffusion.sampling import Sampling
from golden.parameters import Parameters

pytestmark = pytest.mark.golden

MACHINE = Parameters(digit_width=4, outliers=0, dataflows=("closed_loop", "sign_mask"), joint_width=16)
CHAINED = Method(machine=MACHINE, against="before", chains=True, output_width=16, output_bits=14)


def test_chains_of_the_zoo():
    """Of the U-Net the second convolution of a block follows one; in the DiT both layers of each perceptron."""
    for name, lanes, wanted in (("unet", 16, 7), ("unet-silu", 16, 7), ("dit", 16, 4)):
        network = zoo.load(name)
        main = ClosedLoop(network, CHAINED, calibrate(Sampling(network, [3], steps=2))).main
        found = chains(network, main, lanes)
        assert len(found) == wanted, name
        for chain in found:
            between = [layer.name for layer in chain.layers]
            assert all(len(network.consumers(one)) == 1 for one in between[:-1])
            assert all(reader.contracted for reader in network.consumers(between[-1]))
            assert (chain.norm is None) == (name == "dit")
        assert not chains(network, main, 4096)


def half(value):
    """Pattern of the FP16 number nearest to a fraction that is in range, ties to even."""
    magnitude, exponent = abs(value), -14
    while magnitude >= Fraction(2) ** (exponent + 1):
        exponent += 1
    unit = Fraction(2) ** (exponent - 10)
    return np.float16(float(round(magnitude / unit) * unit * (-1 if value < 0 else 1))).view(np.uint16)


def single(value):
    """The binary32 number nearest to a fraction, ties to even, as a fraction."""
    exponent = -126
    while abs(value) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    unit = Fraction(2) ** (exponent - 23)
    return round(value / unit) * unit


def test_scales_against_fractions(fresh_seed):
    rng = np.random.default_rng(fresh_seed)
    for _ in range(20):
        channels, sets, of_state, unit = 12, int(rng.choice([1, 3, 4])), int(rng.integers(-16, -8)), -13
        deviation = np.exp(rng.normal(0, 1, (3, sets))).astype(np.float32)
        gamma = rng.normal(0, 1, channels).astype(np.float32)
        shifts = rng.normal(0, 0.01, (2, 2, channels)).astype(np.float32)
        norm = Norm("norm", ("sum",), gamma, gamma, groups=sets)
        product = Convolution("product", ("x",), np.zeros((channels, 4, 1, 1), np.float32), None)
        chain = Chain(product, AddChannel("sum", ("product", "time")), norm, ReLU("relu", ("norm",)))
        profile = Profile(3, {}, {"norm": deviation}, {})
        step = int(rng.integers(1, 3))
        found = scales(chain, profile, step, 0, (of_state, unit), tuple(shifts))
        exact = []
        for channel in range(channels):
            one = channel * sets // channels
            now, before = (Fraction(float(deviation[index, one])) for index in (step, 0))
            exact.append(single(single(1 / (single(now + before) / 2)) * Fraction(float(gamma[channel]))))
        real = [factor * Fraction(2) ** (of_state - unit - found.places) for factor in exact]
        assert 1 <= max(map(abs, real)) < 2
        assert found.factors.tolist() == [half(one) for one in real]
        for sample, channel in np.ndindex(2, channels):
            change = single(Fraction(float(shifts[0, sample, channel])) - Fraction(float(shifts[1, sample, channel])))
            added = single(change * exact[channel]) * Fraction(2) ** (-unit - 24)
            assert found.shifts[sample, channel] == half(added)


def test_without_norm_and_shift_nothing_is_scaled():
    product = Convolution("product", ("x",), np.zeros((3, 4, 1, 1), np.float32), None)
    chain = Chain(product, None, None, ReLU("relu", ("product",)))
    found = scales(chain, Profile(1, {}, {}, {}), 0, 0, (-13, -13), None)
    assert (found.places, set(found.factors), set(found.shifts)) == (0, {0x3C00}, {0})


def test_fast_and_exact_agree_as_far_as_roundings_go():
    """In the first two steps few elements of a chain differ, by less than the digits leave behind; signs hold them."""
    network = zoo.load("unet")
    profile = calibrate(Sampling(network, [3], steps=4))
    loops = [ClosedLoop(network, CHAINED, profile, exact=exact, dtype=np.float64) for exact in (False, True)]
    image = np.random.default_rng(5).normal(0, 1, (2, 1, 1, 16, 16)).astype(np.float32)
    for index in range(2):
        for loop in loops:
            loop.begin_step(index, 4)
            network(
                image[0] + index * np.float32(0.1) * image[1],
                np.array([900 - 200 * index]),
                np.array([3]),
                executor=loop,
            )
        fast, exact = (loop._states["down0.block.relu2"] for loop in loops)
        assert (fast != exact).mean() < 0.05 and np.abs(fast - exact).mean() < 0.05 * np.abs(fast).mean()


@pytest.mark.parametrize("outliers", [0, 1, 4])
@pytest.mark.parametrize("policy", ["group", "saturate", "replay"])
def test_both_links_keep_the_same_groups(outliers, policy, fresh_seed):
    """FP16 numbers of all sizes; under a static exponent one lane in four or so overflows, or all."""
    if policy == "replay" and not outliers:
        return
    rng = np.random.default_rng(fresh_seed)
    how = {"exponent_policy": "group"} if policy == "group" else {"exponent_policy": "layer", "overflow_policy": policy}
    machine = dataclasses.replace(MACHINE, outliers=outliers, lanes=8, output_passes=1, **how)
    numbers = np.clip(np.ldexp(rng.normal(0, 1, (3, 20, 5)), rng.integers(0, 30, (3, 1, 5))), -65504 * 2**24, None)
    numbers = np.ldexp(np.ldexp(numbers, -24).astype(np.float16).astype(np.float32), 24)
    for exponent in [None] if policy == "group" else [0, 6, 20, 38]:
        passes = 2 if policy == "group" else 1
        grouping = Grouping(-2, (20,), 8)
        fast, exact = (
            kind(machine, 16).keep(numbers.copy(), grouping, passes, exponent) for kind in (FloatLink, ExactLink)
        )
        np.testing.assert_array_equal(fast.values, exact.values)
        np.testing.assert_array_equal(sum(exact.terms), exact.values)
        assert fast.saturated == exact.saturated and (fast.exponent == exact.exponent).all()
        if policy == "replay":
            assert len(exact.terms) <= most_kept(dataclasses.replace(CHAINED, machine=machine))
        if exponent == 0 and policy == "saturate":
            assert exact.saturated > 0


def test_groups_of_a_vector_at_most():
    """Passes; as many as outliers of a whole vector fill; and the passes of repairs."""
    machine = dataclasses.replace(MACHINE, lanes=16, outliers=4, output_passes=1)
    replay = dataclasses.replace(machine, exponent_policy="layer", overflow_policy="replay")
    saturate = dataclasses.replace(replay, overflow_policy="saturate")
    for chosen, wanted in ((machine, 3), (saturate, 3), (replay, 4)):
        method = dataclasses.replace(CHAINED, machine=chosen, first_passes=3)
        assert most_groups(method) == wanted
        repaired = dataclasses.replace(method, machine=dataclasses.replace(chosen, flip_repair=True))
        assert most_groups(repaired) == most_kept(method) + 3


def test_chains_need_deltas_against_the_value_before():
    with pytest.raises(ValueError, match=r"^against must be before with chains, not held$"):
        dataclasses.replace(CHAINED, against="held")
