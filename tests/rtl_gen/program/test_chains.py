"""Programs of the published dataflow: chains of deltas, signs of the step before; every state as golden has it."""

import collections
import dataclasses

import numpy as np
import pytest

from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.differential.run import executor
from golden.diffusion.sampling import Sampling
from golden.machine import hazards
from golden.machine.command import Multiply, disassemble
from golden.parameters import Parameters
from rtl_gen.program.sampling import compile_sampling
from tests.golden.diffusion.sampling.networks import random_unet
from tests.rtl_gen.program.test_network import Both

pytestmark = pytest.mark.golden


def chained(**settings):
    """Deltas against the value before, chains, on a machine with room enough."""
    own = {name: settings.pop(name) for name in ("passes", "refresh", "attention") if name in settings}
    room = {"group_buffer": 4096, "weight_buffer": 1024, "joint_width": 16, "dataflows": ("closed_loop", "sign_mask")}
    machine = Parameters(**room | {"digit_width": 4, "outliers": 0} | settings)
    return Method(machine=machine, against="before", chains=True, output_width=16, output_bits=14, **own)


def check_chains(both):
    """States of chains are golden's; some of their elements changed their signs."""
    found = {chain.product.name: chain for chain in both.loop.chains.values()}
    for chain in found.values():
        state = both.compiler.states[chain.read]
        got = both.compiler.read(both.machine, state)
        wanted = both.loop._states[chain.activation.name][0]
        if wanted.ndim == 3:
            wanted = wanted.transpose(1, 2, 0)
        assert np.array_equal(got, wanted.reshape(got.shape)), chain.activation.name
    return len(found)


STATIC = {"exponent_policy": "layer", "output_passes": 1}
POLICIES = [
    {"outliers": 0, "attention": "raw"},
    {"outliers": 1},
    {"outliers": 4, "flip_repair": True, "attention": "raw"},
    {"outliers": 0, "flip_repair": True} | STATIC,
    {"outliers": 1, "attention": "raw"} | STATIC,
    {"outliers": 1, "lanes": 4, "overflow_policy": "replay", "flip_repair": True} | STATIC,
    {"outliers": 4, "lanes": 8, "overflow_policy": "replay"} | STATIC,
]
"""By group, saturating and replaying under static exponents; no outlier, one, four; without and with repairs;
attention on deltas and raw."""


@pytest.mark.parametrize("seed", range(len(POLICIES)))
def test_every_state_of_random_networks_on_random_machines(seed):
    """First step, chains, a refresh in the midst of them, chains again."""
    policy = POLICIES[seed]
    rng = np.random.default_rng(seed)
    network = random_unet(seed % 3)
    chosen = chained(
        **{"lanes": int(rng.choice([4, 8])), "memory_lanes": 4, "digit_width": int(rng.integers(3, 6)),
           "rows": int(rng.integers(1, 4)), "columns": int(rng.choice([1, 3, 4])),
           "state_width": int(rng.integers(16, 21)), "link_form": ("direct", "compressed")[seed % 2],
           "passes": int(rng.integers(1, 3)), "refresh": 3} | policy,
    )  # fmt: skip
    profile = calibrate(Sampling(network, [1], steps=5))
    few = {name: bound / 16 for name, bound in profile.overflow.items()}  # so that static exponents overflow often
    both = Both(network, chosen, dataclasses.replace(profile, overflow=few))
    shape, seen = next(iter(network.inputs.values())), collections.Counter()
    image = rng.normal(0, 1, (1, *shape)).astype(np.float32)
    for index in range(5):
        given = {name: np.array([1 + 100 * (5 - index) * (name == "timestep")]) for name in list(network.inputs)[1:]}
        wrong, compared = both.step(index, 5, image, given)
        assert not wrong and compared > 3, (seed, index, wrong, compared)
        assert check_chains(both) > 0
        seen.update(both.machine.counters)
        image = image + rng.normal(0, 0.1, image.shape).astype(np.float32)
    assert seen["chain_flips"] > 0 and (seen["chain_replays"] > 0) == chosen.machine.replays


def test_images_are_rows_and_have_shifts_of_their_own():
    """Three images of two labels on two rows, two side by side, the third in strips; with repairs of each."""
    network = random_unet(2)
    sampling = Sampling(network, [1, 2, 1], steps=3)
    chosen = chained(lanes=4, memory_lanes=4, rows=2, columns=2, link_form="compressed", flip_repair=True)
    profile = calibrate(sampling)
    sampled = compile_sampling(sampling, chosen, profile)
    machine = sampled.program.load()
    hazards.check(machine, sampled.program.operand, sampled.program.commands)
    expected = sampling.images(executor(network, chosen, profile, exact=True))
    np.testing.assert_array_equal(sampled.images(machine), expected)
    assert 0 < machine.counters["chain_zero_groups"] < machine.counters["chain_groups"]
    assert any(one.scales_step for one in disassemble(sampled.program.words()) if isinstance(one, Multiply))


@pytest.mark.parametrize(
    "machine, sentence",
    [
        ({"tile_positions": 2}, "tile_positions must hold lines of "),
        ({"norm_buffer": 16}, "norm_buffer must hold "),
        (
            STATIC | {"overflow_policy": "replay", "lanes": 12, "outliers": 1},
            "Groups of a vector that 'down1.block.conv2' reads must be at most 8 with replays and repairs, not 12",
        ),
    ],
)
def test_a_machine_that_is_too_small_is_told(machine, sentence):
    network = random_unet(2)
    sampling = Sampling(network, [1], steps=2)
    with pytest.raises(ValueError, match=f"^{sentence}"):
        compile_sampling(sampling, chained(**{"lanes": 4, "memory_lanes": 4} | machine), calibrate(sampling))
