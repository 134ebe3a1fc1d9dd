"""The flows near memory: what must hold between states, deltas and passes, on small networks of random parameters."""

import dataclasses

import numpy as np
import pytest

from golden.diffusion import layers
from golden.diffusion.differential.arithmetic import align
from golden.diffusion.differential.delta_products import DeltaProducts
from golden.diffusion.differential.exact import ExactArithmetic
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.quantise import half
from golden.diffusion.networks import Network, Recorder
from golden.parameters import Parameters
from tests.golden.diffusion.differential.networks import (
    STEPS,
    Spy,
    arguments,
    attention_network,
    calibrated,
    f32,
    moving,
    normed,
    passes_sent,
    random_unet,
)

pytestmark = pytest.mark.golden

PLAIN = {"early_passes": 1, "late_steps": 0, "last_passes": 1, "input_passes": 1, "first_passes": 3}


FINE = {"output_bits": 20, "output_width": 16}
"""Outputs that lose nearly nothing."""


def machine(k=4, n=8, m=0, **more):
    return Parameters(digit_width=k, lanes=n, outliers=m, fraction_bits=10, **{"memory_lanes": 1, **more})


def loop(k=4, n=8, m=0, *, parameters=None, **more):
    return Method(machine=machine(k, n, m, **(parameters or {})), **{**PLAIN, **more})


@pytest.fixture(scope="module")
def network():
    return random_unet()


@pytest.fixture(scope="module")
def images(network):
    return moving(network)


@pytest.fixture(scope="module")
def profile(network, images):
    return calibrated(network, images)


class Walk:
    """An executor driven step by step, with everything it was told and what every layer saw."""

    def __init__(self, network, method, profile, first=0):
        self.spy = Spy()
        self.network = network
        self.executor = DeltaProducts(network, method, profile, measure=self.spy)
        self.recorder = Recorder(executor=self.executor)
        self.before = {}
        self.steps = STEPS

    def step(self, index, image, reference=None, given=None, labels=None):
        self.before = dict(self.executor._held)
        self.recorder.begin_step(index, self.steps, reference)
        inputs = list(arguments(self.network, image, index))
        if labels is not None:
            inputs[list(self.network.inputs).index("label")] = labels
        return self.network(*inputs, executor=self.recorder, given=given)

    def run(self, images):
        return [self.step(index, image) for index, image in enumerate(images)]

    def value(self, name):
        """What a layer or the network's input was in the last step."""
        if name in self.recorder.records:
            return self.recorder.records[name].output
        reader = self.network.consumers(name)[0]
        return self.recorder.records[reader.name].inputs[reader.inputs.index(name)]

    def held(self, layer, operand=0):
        return self.executor._held[layer.inputs[operand], layer.contracted[operand]]


def main_products(walk):
    for layer in walk.network.layers:
        if layer.contracted and layer.name in walk.executor._main:
            yield layer


def unbiased(layer, value):
    bias = getattr(layer, "bias", None)
    if bias is None:
        return value
    return value - (bias[:, None, None] if layer.kind == "convolution" else bias)


def expected_sum(walk, layer):
    """W Xhat, with aligned weights."""
    segments = ()
    source = walk.network.by_name.get(layer.inputs[0])
    if source is not None and source.kind == "concat":
        segments = tuple(walk.recorder.records[part].output.shape[1] for part in source.inputs)
    weight = align(layer.weight, 1, walk.executor._method.machine, segments)
    return layer.product(walk.held(layer), weight)


def check_sums(walk, tolerance=1e-3):
    """Every Y is the product of what its readers hold, up to the rounding of every change to FP16."""
    for layer in main_products(walk):
        y = walk.recorder.records[layer.name].output
        if layer.kind == "matmul":
            a, b = walk.held(layer, 0), walk.held(layer, 1)
            expected, slack = layer(a, b), 4e-3  # the operand that is no delta enters with 11 bits
        else:
            expected, slack = expected_sum(walk, layer), tolerance
        error = np.abs(unbiased(layer, y) - expected).max()
        assert error <= slack * np.abs(expected).max() + 1e-5, (layer.name, error)


@pytest.mark.parametrize("k", [3, 4, 8])
def test_states_are_the_products_of_what_readers_hold(network, images, profile, k):
    walk = Walk(network, loop(k, **FINE), profile)
    for index, image in enumerate(images):
        walk.step(index, image)
        check_sums(walk)


@pytest.mark.parametrize("m", [0, 1])
def test_error_of_what_readers_hold_is_half_the_last_step(network, images, profile, m):
    walk = Walk(network, loop(3, m=m, early_passes=2, early_steps=2), profile)
    for index, image in enumerate(images):
        walk.step(index, image)
        for (step, name), sent in walk.spy.inputs.items():
            if step != index:
                continue
            axis = walk.spy.groupings[name].axis
            key = next(key for key in walk.executor._held if key[0] == name)
            s = walk.executor._exponent(name)
            x = np.rint(walk.value(name) * 2.0**-s) * 2.0**s
            assert axis == (key[1] if key[1] < 0 else key[1] - x.ndim)
            last = walk.spy.groupings[name].join(np.broadcast_to(sent.last, sent.lanes.shape))
            difference = np.abs(walk.spy.groupings[name].join(sent.lanes))
            # the difference is rounded to FP16 before it is quantised
            bound = 2.0 ** (last - 1.0) + difference * 2.0**-11
            assert (np.abs(x - walk.executor._held[key]) <= bound).all(), (step, name)


def test_a_closed_loop_follows_the_dense_network(network, images, profile):
    errors = []
    for k in (3, 5):
        walk = Walk(network, loop(k), profile)
        found = [walk.step(index, image) for index, image in enumerate(images)]
        dense = [network(*arguments(network, image, index)) for index, image in enumerate(images)]
        errors.append(np.sqrt(np.mean(np.square(np.subtract(found, dense)))) / np.std(dense))
    assert errors[0] < 0.15 and errors[1] < errors[0] / 2


@pytest.mark.parametrize("flow", ["closed_loop", "raw", "diffy"])
def test_a_second_sampling_starts_anew(network, images, profile, flow):
    """Other images, another batch: nothing of the first sampling is left, whatever was switched on."""
    options = {"refresh": 5} if flow == "closed_loop" else {}
    for more in ({}, {"choice": "cost", "raw_passes": 1} if flow == "closed_loop" else {"passes": 2}):
        method = loop(4, flow=flow, **options, **more)
        walk = Walk(network, method, profile)
        walk.run(images)
        again = walk.run(images[:, ::-1][:, :2] * 0.9)
        fresh = Walk(network, method, profile).run(images[:, ::-1][:, :2] * 0.9)
        np.testing.assert_array_equal(again, fresh)


# Passes and digits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, [3, 1, 1, 1, 1, 1, 1, 1]),
        ({"early_passes": 2, "early_steps": 3}, [3, 2, 2, 2, 1, 1, 1, 1]),
        ({"late_steps": 2, "last_passes": 3}, [3, 1, 1, 1, 1, 1, 3, 3]),
        ({"passes": 2, "first_passes": 4}, [4, 2, 2, 2, 2, 2, 2, 2]),
        ({"layer_passes": {"*": (2, 1, 3)}, "early_steps": 2, "late_steps": 1}, [3, 2, 2, 1, 1, 1, 1, 3]),
        ({"refresh": 3}, [3, 1, 1, 3, 1, 1, 3, 1]),
        ({"refresh": 3, "first_passes": 2, "passes": 3}, [3] * 8),
    ],
)
def test_passes_of_steps(network, images, profile, options, expected):
    walk = Walk(network, loop(3, **options), profile)
    walk.run(images)
    for name in ("down1.block.relu1", "up0.concat"):
        floor = walk.executor._exponent(name)
        assert [passes_sent(walk.spy.inputs[step, name], 3, floor) for step in range(STEPS)] == [
            [count] for count in expected
        ]


def test_passes_of_layers(network, images, profile):
    walk = Walk(network, loop(3, layer_passes={"down1.*": 2}, input_passes=2), profile)
    walk.run(images)
    seen = {}
    for (step, name), sent in walk.spy.inputs.items():
        if step == 2:
            seen[name] = passes_sent(sent, 3, walk.executor._exponent(name))
    for name, passes in seen.items():
        readers = [layer.name for layer in network.consumers(name)]
        two = name == "image" or any(reader.startswith("down1.") for reader in readers)
        assert passes == [2 if two else 1], name


def test_refresh_sends_raw_values(network, images, profile):
    walk = Walk(network, loop(3, refresh=3), profile)
    for index, image in enumerate(images):
        walk.step(index, image)
        for name in ("image", "down0.block.relu1"):
            sent = walk.spy.inputs[index, name]
            s = walk.executor._exponent(name)
            x = np.rint(walk.value(name) * 2.0**-s) * 2.0**s
            key = next(key for key in walk.before or walk.executor._held if key[0] == name)
            against = x if index % 3 == 0 else x - walk.before[key]
            np.testing.assert_array_equal(walk.spy.groupings[name].join(sent.lanes), half(f32(against)))


def test_output_deltas_end_where_output_bits_say(network, images, profile):
    """Integers of a unit so many bits under the largest power of two below the largest state, layer by layer."""
    walk = Walk(network, loop(4, output_bits=9, layer_output_bits={"down1.*": 5, "*.conv2": 6}), profile)
    walk.run(images)
    seen = set()
    for (step, name), (sent,) in walk.spy.outputs.items():
        bits = min([9, *[5] * name.startswith("down1."), *[6] * name.endswith(".conv2")])
        unit = 2.0 ** (np.floor(np.log2(profile.largest[name])) + 1 - bits)
        units = sent.values / unit
        assert (units == np.rint(units)).all(), (step, name)
        if (units % 2).any():
            seen.add((name, bits))
    assert {bits for _, bits in seen} == {5, 6, 9} and len(seen) > 0.8 * len(list(main_products(walk)))


@pytest.mark.parametrize("exact", [False, True])
def test_a_tensor_too_large_for_its_output_bits_is_named(exact):
    network = normed("layer_norm")
    images = moving(network)
    profile = calibrated(network, images)
    profile = dataclasses.replace(profile, largest={**profile.largest, "first": 2.0**16})
    method = loop(4, output_bits=2)
    executor = DeltaProducts(network, method, profile, ExactArithmetic(method, profile) if exact else None)
    executor.begin_step(0, STEPS)
    with pytest.raises(
        ValueError, match=r"^Output deltas of 'first' must have a least exponent of at most 14, not 15: "
    ):
        network(images[0], executor=executor)


@pytest.mark.parametrize("exact", [False, True])
def test_weights_beyond_the_declared_range_are_refused(exact):
    network = normed("layer_norm")
    images = moving(network)
    profile = calibrated(network, images)
    method = loop(4, parameters={"weight_form": "float", "weight_exponent_max": -3})
    executor = DeltaProducts(network, method, profile, ExactArithmetic(method, profile) if exact else None)
    executor.begin_step(0, STEPS)
    with pytest.raises(ValueError, match=r"^Weights must be zero or have exponents in -14\.\.-3"):
        network(images[0], executor=executor)


# Other flows ---------------------------------------------------------------------------------------------------------


def test_diffy_takes_deltas_against_the_raw_values_before(network, images, profile):
    """With enough digits nothing is lost but FP16's own bits; activations and norms are those of every step."""
    walk = Walk(network, loop(8, flow="diffy", passes=3), profile)
    for index, image in enumerate(images):
        found = walk.step(index, image)
        for name in ("image", "middle.block.relu1"):
            x = half(walk.value(name))
            sent = walk.spy.inputs[index, name]
            against = x if index == 0 else half(x - walk.before[name, -3])
            np.testing.assert_array_equal(walk.spy.groupings[name].join(sent.lanes), against)
            np.testing.assert_array_equal(walk.executor._held[name, -3], x)
        dense = network(*arguments(network, image, index))
        assert np.abs(found - dense).max() <= 0.02 * np.abs(dense).max()


def test_raw_keeps_no_state(network, images, profile):
    walk = Walk(network, loop(8, flow="raw", first_passes=1), profile)
    found = walk.run(images)
    for index in (3, 7):
        alone = Walk(network, loop(8, flow="raw", first_passes=1), profile)
        np.testing.assert_array_equal(alone.step(index, images[index]), found[index])
        for (step, name), sent in alone.spy.inputs.items():
            s = alone.executor._exponent(name)
            x = np.rint(alone.value(name) * 2.0**-s) * 2.0**s
            np.testing.assert_array_equal(alone.spy.groupings[name].join(sent.lanes), half(f32(x)))
            assert step == index


def test_one_scale_for_every_item(network, images, profile):
    walk = Walk(network, Method(flow="raw", machine=machine(8), tensor_scale=True), profile)
    walk.step(0, images[0])
    for (_, name), sent in walk.spy.inputs.items():
        x = walk.value(name)
        largest = np.abs(x).reshape(len(x), -1).max(axis=1).reshape(-1, *[1] * (x.ndim - 1))
        assert sent.exponent is None
        assert (np.abs(sent.values - x) <= largest / 127 * 0.502 + 1e-5).all()


# Items of the batch --------------------------------------------------------------------------------------------------


def test_items_take_up_their_references(network, images, profile):
    """Items in another order, each with the state that it had."""
    order = np.array([2, 0, 1])
    same, other = (Walk(network, loop(4), profile) for _ in range(2))
    labels = np.array([3, 8, 1])
    for index in range(3):
        same.step(index, images[index])
        other.step(index, images[index])
    for index in range(3, 6):
        expected = same.step(index, images[index])
        found = other.step(index, images[index][order], order if index == 3 else None, labels=labels[order])
        np.testing.assert_allclose(found, expected[order], atol=2e-3)


def test_a_new_item_starts_anew_among_the_others(network, images, profile):
    """It gets the passes of a first step and raw values; the others do not notice."""
    same, other, fresh = (Walk(network, loop(4), profile) for _ in range(3))
    for index in range(3):
        same.step(index, images[index])
        other.step(index, images[index])
    expected = same.step(3, images[3])
    mixed = images[3].copy()
    mixed[1] = images[0, 0] * 0.7
    found = other.step(3, mixed, np.array([0, -1, 2]))
    np.testing.assert_array_equal(found[[0, 2]], expected[[0, 2]])
    fresh.steps = STEPS
    fresh.recorder.begin_step(0, STEPS)
    inputs = arguments(network, mixed, 3)
    alone = network(*inputs, executor=fresh.recorder)
    np.testing.assert_allclose(found[1], alone[1], atol=1e-3)
    # and each of the two kinds is measured as a stream of its own
    anew, usual = other.spy.parts[3, "down1.block.relu1"]
    assert passes_sent(anew, 4, -30) == [3] and len(anew.values) == 1
    assert passes_sent(usual, 4, -30) == [1] and len(usual.values) == 2
    # and one step later it is like any other
    again = other.step(4, np.stack([images[4, 0], mixed[1], images[4, 2]]))
    np.testing.assert_array_equal(again[[0, 2]], same.step(4, images[4])[[0, 2]])


# Choice --------------------------------------------------------------------------------------------------------------


WIDE = {"memory_lanes": 8, "link_width": 32}  # else the traffic of the state alone speaks for raw values


def test_choice_changes_nothing_where_deltas_are_cheaper(network, images, profile):
    plain = Walk(network, loop(4), profile).run(images)
    walk = Walk(network, loop(4, choice="cost", raw_passes=8, parameters=WIDE), profile)
    np.testing.assert_array_equal(walk.run(images), plain)
    assert not walk.executor._raw


ARRAY = {"rows": 128, "columns": 128}
BOUND = {
    "array": ({"rows": 1, "columns": 1, "link_width": 512, "memory_lanes": 8}, {}, False),
    "array, many passes": ({"rows": 1, "columns": 1, "link_width": 512, "memory_lanes": 8}, {"passes": 4}, True),
    "memory": ({**ARRAY, "link_width": 512, "memory_lanes": 1}, {}, True),
    "link": ({**ARRAY, "link_width": 32, "memory_lanes": 8}, {}, False),
    "link, many passes": ({**ARRAY, "link_width": 32, "memory_lanes": 8}, {"passes": 4}, True),
}
"""What a machine is bound by, how many passes deltas take against two of raw values, and whether these are cheaper."""


@pytest.mark.parametrize("bound", BOUND)
def test_cost_is_that_of_whatever_binds_the_machine(network, images, profile, bound):
    """Raw values spare memory its state, and cost the array and the link two passes where deltas take one or four."""
    parameters, options, cheaper = BOUND[bound]
    walk = Walk(network, loop(4, choice="cost", raw_passes=2, parameters=parameters, **options), profile)
    walk.run(images[:4])
    sent = {name for _, name in walk.spy.inputs}
    share = len({name for name, _ in walk.executor._raw}) / len(sent)
    assert share > 0.7 if cheaper else share < 0.1


def test_a_still_input_is_never_sent_raw(network, images, profile):
    parameters = {**WIDE, "rows": 1, "columns": 1}  # a large array would wait for the state that only deltas need
    still = Walk(network, loop(4, choice="cost", parameters=parameters), profile)
    still.run(np.repeat(images[:1], STEPS, axis=0))
    assert not still.executor._raw


# Products of two activations -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("constant", [False, True])
def test_attention(constant):
    network = attention_network(constant=constant)
    images = moving(network)
    profile = calibrated(network, images)
    walk = Walk(network, loop(5, passes=2, **FINE), profile)
    for index, image in enumerate(images):
        found = walk.step(index, image)
        dense = network(*arguments(network, image, index))
        assert np.abs(found - dense).max() <= 0.01 * np.abs(dense).max()
        sent = {name for step, name in walk.spy.inputs if step == index}
        assert ("key" in sent, "value" in sent) == (not constant, not constant)
        s = walk.executor._exponent("query")
        x = np.rint(walk.value("query") * 2.0**-s) * 2.0**s
        lanes = walk.spy.inputs[index, "query"].lanes
        against = x if index == 0 else x - walk.before["query", -1]
        np.testing.assert_array_equal(walk.spy.groupings["query"].join(lanes), half(f32(against)))


def test_a_constant_operand_that_changes_starts_the_sums_anew():
    """Another label from the fifth step on: keys and values are other ones."""
    network = attention_network(constant=True)
    images = moving(network)
    profile = calibrated(network, images)
    walk = Walk(network, loop(5, passes=2, **FINE), profile)
    for index, image in enumerate(images):
        labels = np.array([3, 8, 1]) if index < 4 else np.array([3, 2, 9])
        found = walk.step(index, image, labels=labels)
        dense = network(image, labels)
        assert np.abs(found - dense).max() <= 0.01 * np.abs(dense).max(), index


def test_softmax_deltas_use_the_first_axis_of_the_second_operand():
    network = attention_network()
    images = moving(network)
    walk = Walk(network, loop(4), calibrated(network, images))
    walk.run(images[:2])
    assert walk.spy.groupings["value"].axis == -2 and walk.spy.groupings["key"].axis == -1


def test_a_product_that_skipped_a_step_gets_all_that_is_held():
    """Two products read one tensor; one of them is left out of a step, as in a retrieval step of DeepCache."""
    rng = np.random.default_rng(0)

    def linear(name, source):
        return layers.Linear(name, (source,), weight=f32(rng.standard_normal((6, 6))), bias=f32(np.zeros(6)))

    found = [linear("first", "image"), linear("second", "image"), layers.Add("add", ("first", "second"))]
    network = Network("two", {"image": (6,)}, found, {})
    images = moving(network)
    walk = Walk(network, loop(8, passes=2, **FINE), calibrated(network, images))
    for index, image in enumerate(images):
        kept = {"second": walk.value("second")} if index in (2, 3, 5) else None
        walk.step(index, image, given=kept)
        if not kept:
            check_sums(walk)


def test_another_flow_is_refused(network, profile):
    with pytest.raises(ValueError, match=r"^flow must be raw, diffy or closed_loop, not dense$"):
        DeltaProducts(network, Method(flow="dense"), profile)
