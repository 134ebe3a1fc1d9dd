"""Steps cut into programs of their own: one after the other they leave what the whole program leaves."""

import dataclasses

import numpy as np
import pytest

from golden.diffusion import zoo
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.sampling import Cache, Sampling
from golden.machine import hazards
from rtl_gen.program.memory import INPUTS, SPOOLS, STATES
from rtl_gen.program.sampling import compile_sampling
from rtl_gen.program.sections import cut_sampling
from tests.golden.diffusion.sampling.networks import random_unet

pytestmark = pytest.mark.golden


def method(**machine):
    found = Method.named("closed-int4")
    room = {"group_buffer": 4096, "weight_buffer": 1024, "joint_width": found.output_width, "tile_positions": 32}
    return dataclasses.replace(found, machine=dataclasses.replace(found.machine, **room | machine))


def content(machine, region):
    begin, size = 32 * machine.regions[region].base, 32 * machine.regions[region].limit
    return machine.memory[begin : begin + size]


@pytest.mark.parametrize(
    "together", [lambda layer: layer.name, lambda layer: layer.bilinear, lambda layer: 0], ids=["each", "some", "all"]
)
@pytest.mark.parametrize("number", [0, 5])
def test_sections_one_after_the_other_do_what_the_whole_does(number, together):
    network = random_unet(number)
    chosen = method(lanes=4, memory_lanes=4)
    sampling = Sampling(network, [1], steps=3)
    profile = calibrate(sampling)
    whole = compile_sampling(sampling, chosen, profile)
    expected = whole.program.load()
    expected.run(whole.program.operand, whole.program.commands)
    cut = cut_sampling(sampling, chosen, profile, 3, together)
    machine = cut.program.load()
    for section in cut.sections:
        hazards.check(machine, section.operand, section.size)
    for region in (STATES, SPOOLS, INPUTS):
        np.testing.assert_array_equal(content(machine, region), content(expected, region))
    layers = [layer.name for section in cut.sections if section.step == 1 for layer in section.layers]
    assert len(set(layers)) == len(layers) > 8
    # what reads what is not turned round
    for name in layers:
        before = set(network.by_name[name].inputs) & set(layers)
        assert all(layers.index(one) < layers.index(name) for one in before)


def test_sections_are_named_by_their_layers():
    network = zoo.load("unet")
    sampling = Sampling(network, [3], steps=3)
    cut = cut_sampling(sampling, method(), calibrate(sampling), 1, lambda layer: layer.name)
    names = [section.name for section in cut.sections]
    assert names[:4] == ["stem.conv", "down0.block.conv1", "down0.block.conv2", "down0.block.add"]
    assert names[-1] == "sampler" and {section.step for section in cut.sections} == {0}


def test_what_lies_in_memory_has_a_name():
    network = random_unet(2)
    sampling = Sampling(network, [1], steps=2)
    cut = cut_sampling(sampling, method(lanes=4, memory_lanes=4), calibrate(sampling), 1, lambda layer: layer.name)
    memory, states = cut.compiler.memory, cut.compiler.states
    for name, tensor in states.items():
        found = memory.find(tensor.data.region, tensor.data.offset)
        assert (found.name, found.kind, found.operand) == (name, "state", tensor.data)
        if tensor.sums is not None:
            assert memory.find(tensor.sums.region, tensor.sums.offset).kind == "sums"
    kinds = {memory.find(region, unit).kind for region in (STATES, SPOOLS) for unit in range(memory.used(region))}
    assert kinds >= {"state", "held", "sums", "coefficients", "spool", "lengths"} and "bytes" not in kinds


def test_a_cache_is_refused():
    network = zoo.load("unet")
    sampling = Sampling(network, [3], steps=3, cache=Cache((0, 2)))
    with pytest.raises(ValueError, match="^sampling must be without guidance and cache to be cut into sections$"):
        cut_sampling(sampling, method(), None, 1, lambda layer: layer.name)
