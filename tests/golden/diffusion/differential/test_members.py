"""Every member in every flow: either it is refused, or it changes images or what is sent."""

import dataclasses
import re
import typing

import numpy as np
import pytest

from golden.diffusion import layers
from golden.diffusion.cost.flows import MethodFlow
from golden.diffusion.differential.measure import Measure
from golden.diffusion.differential.method import ACTS_IN, SENDING, Method
from golden.diffusion.differential.run import executor
from golden.diffusion.networks import Network
from golden.parameters import Parameters
from tests.golden.diffusion.differential.networks import arguments, calibrated, f32, moving

pytestmark = pytest.mark.golden

STEPS = 6
ONCE = {"last_passes": 1, "input_passes": 1}
LAYER = {"exponent_policy": "layer", "outliers": 1, "output_passes": 1}

# of each member a value that is not the default; what else has to be set for it to act; what else of the machine
CHANGES = {
    "passes": (4, {}, {}),
    "first_passes": (4, {}, {}),
    "last_passes": (4, {}, {}),
    "input_passes": (5, {}, {}),
    "early_steps": (2, {"early_passes": 4}, {}),
    "early_passes": (4, {}, {}),
    "late_steps": (3, {"last_passes": 4}, {}),
    "mix_passes": (4, {}, {}),
    "layer_passes": ({"query": 4}, {}, {}),
    "output_width": (6, {}, {}),
    "output_bits": (6, {}, {}),
    "output_allocation": ("gain", {}, {}),
    "layer_output_bits": ({"query": 6}, {}, {}),
    "tensor_scale": (True, {}, {}),
    "refresh": (2, {}, {}),
    "norm": ("calibrated", {}, {}),
    "attention": ("raw", {}, {}),
    "against": ("before", {}, {}),
    "chains": (True, {"against": "before"}, {"lanes": 4}),
    "exponent_policy": ("layer", ONCE, {"outliers": 1, "output_passes": 1}),
    "overflow_policy": ("replay", ONCE, LAYER),
    "mask_operand": ("values", {}, {}),
    "mask_width": (2, {}, {"mask_operand": "values"}),
    "flip_repair": (True, {}, {}),
    "state_format": ("float16", {}, {}),
    "state_width": (16, {}, {}),
    "weight_form": ("float", {}, {}),
}
OF_MACHINE = {field.name for field in dataclasses.fields(Parameters)}
SAME_NUMBERS = {("sign_mask", "mask_operand"), ("diffy", "state_width")}
"""Where the mask stands in the hardware: by numerics 14.5 no number depends on it. Diffy keeps no state."""


@pytest.fixture(scope="module")
def network():
    """One of everything that a member speaks of: what reads the input, a norm, attention, an activation."""
    rng = np.random.default_rng(0)

    def linear(name, source, width=6):
        weight, bias = rng.standard_normal((6, width)) * 0.4, rng.standard_normal(6) * 0.1
        return layers.Linear(name, (source,), weight=f32(weight), bias=f32(bias))

    found = [
        linear("first", "image"),
        layers.Norm("norm", ("first",), epsilon=1e-6),
        linear("query", "norm"),
        linear("key", "norm"),
        linear("value", "norm"),
        layers.MatMul("scores", ("query", "key"), transposed=True, scale=0.4),
        layers.Softmax("softmax", ("scores",)),
        layers.MatMul("mix", ("softmax", "value")),
        layers.Add("add", ("first", "mix")),
        linear("wide", "add"),
        layers.SiLU("act", ("wide",)),
        linear("out", "act"),
    ]
    return Network("all", {"image": (5, 6)}, found, {})


@pytest.fixture(scope="module")
def images(network):
    return moving(network, STEPS)


@pytest.fixture(scope="module")
def profile(network, images):
    return calibrated(network, images)


def changed(method, member, value):
    if member in OF_MACHINE:
        return dataclasses.replace(method, machine=dataclasses.replace(method.machine, **{member: value}))
    return dataclasses.replace(method, **{member: value})


def refused(flow, member):
    """Whatever has to be set with it in a machine is refused like it."""
    value, _, parameters = CHANGES.get(member, (5, {}, {}))
    named = "|".join((member, *parameters))
    with pytest.raises(ValueError, match=rf"^({named}) must be \S+ with flow {flow}, not .+$"):
        if member in OF_MACHINE:
            Method(flow=flow, machine=Parameters(**parameters | {member: value}))
        else:
            Method(flow=flow, **{member: value})


def walk(network, images, profile, method):
    """Images, and every figure of what was sent."""
    measure = Measure(method.machine)
    how = executor(network, method, profile, measure=measure)
    found = []
    for step, image in enumerate(images):
        how.begin_step(step, STEPS)
        found.append(network(*arguments(network, image, step), executor=how))
    rows = [dataclasses.astuple(measure.total(one)) for one in (measure.inputs, measure.outputs)]
    return np.stack(found), rows


def test_there_is_a_change_of_every_member():
    members = {field.name for field in dataclasses.fields(Method)} - {"flow", "machine"}
    assert set(CHANGES) == members | set(ACTS_IN)
    assert members | OF_MACHINE >= set(ACTS_IN)


@pytest.mark.parametrize("flow", SENDING)
@pytest.mark.parametrize("member", CHANGES)
def test_a_member_acts_or_is_refused(network, images, profile, flow, member):
    value, options, parameters = CHANGES[member]
    machine = {"digit_width": 3, "accumulator_width": 48}
    if flow not in ACTS_IN.get(member, SENDING):
        refused(flow, member)
        return
    if flow == "raw":  # every step is a first one: the most passes that any rule asks for
        options = {**({} if member in ("first_passes", "tensor_scale") else {"first_passes": 1}), **options}
    base = Method(flow=flow, machine=Parameters(**machine | parameters), **options)
    one = changed(base, member, value)
    assert one != base
    (plain, sent), (other, other_sent) = (walk(network, images, profile, how) for how in (base, one))
    same = np.array_equal(plain, other) and sent == other_sent
    assert same == ((flow, member) in SAME_NUMBERS)


@pytest.mark.parametrize("member", [*CHANGES, "digit_width", "rows"])
def test_the_dense_flow_has_no_members(member):
    refused("dense", member)
    assert set(typing.get_args(MethodFlow)) == {"dense", *SENDING}


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"flow": "raw", "tensor_scale": True, member: 2},
            f"{member} must be {getattr(Method(), member)} with tensor_scale true, not 2",
        )
        for member in ("passes", "early_passes", "input_passes", "first_passes", "early_steps", "late_steps")
    ],
)
def test_what_another_member_leaves_without_effect_is_refused(options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Method(**options)


# Patterns and steps of the network that is run ------------------------------------------------------------------------


@pytest.mark.parametrize("flow", ["sign_mask", "closed_loop", "raw"])
@pytest.mark.parametrize(
    "options, message",
    [
        ({"layer_passes": {"*.mxi": 2}}, "layer_passes must match a layer of network 'all', not '*.mxi'"),
        ({"layer_output_bits": {"act": 9}}, "layer_output_bits must match a layer of network 'all', not 'act'"),
    ],
)
def test_patterns_that_match_nothing_are_refused(network, profile, flow, options, message):
    if flow not in ACTS_IN.get(next(iter(options)), SENDING):
        return
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        executor(network, Method(flow=flow, **options), profile)
