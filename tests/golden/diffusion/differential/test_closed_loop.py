"""The closed loop: what must hold between states, deltas and passes, on small networks of random parameters."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from golden.diffusion import layers
from golden.diffusion.differential.arithmetic import align
from golden.diffusion.differential.closed_loop import ClosedLoop, handed_on
from golden.diffusion.differential.fixed.near import FloatNear
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.differential.run import executor
from golden.diffusion.networks import Network, Recorder, UNetConfig, initial, stored, unet
from golden.diffusion.networks.graph import main_values
from golden.diffusion.sampling import Sampler, Sampling
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
)
from tests.golden.diffusion.sampling.networks import random_unet

pytestmark = pytest.mark.golden

PLAIN = {"early_passes": 1, "late_steps": 0, "last_passes": 1, "input_passes": 1, "first_passes": 3}
FINE = {"output_bits": 20, "output_width": 16}
"""Outputs that lose nearly nothing."""


def machine(k=4, n=8, m=0, **more):
    return Parameters(
        digit_width=k, lanes=n, outliers=m, fraction_bits=10, **{"memory_lanes": 1, "state_width": 18, **more}
    )


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

    def __init__(self, network, method, profile, **form):
        self.spy = Spy()
        self.network = network
        self.executor = ClosedLoop(network, method, profile, measure=self.spy, **form)
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
        """What a layer or the network's input was in the last step: real numbers."""
        if name in self.recorder.records:
            return self.recorder.records[name].output
        reader = self.network.consumers(name)[0]
        return self.recorder.records[reader.name].inputs[reader.inputs.index(name)]

    def sent(self, layer, operand=0):
        return self.executor._sent[layer.inputs[operand], layer.contracted[operand]][0]

    def held(self, layer, operand=0):
        """What a product holds of an operand: real numbers."""
        return np.ldexp(self.executor._held[layer.name, operand], self.sent(layer, operand).unit)


def main_products(walk):
    for layer in walk.network.layers:
        if layer.contracted and layer.name in walk.executor.main:
            yield layer


def check_sums(walk, tolerance=1e-3):
    """Every Y is the product of what its readers hold, but for the last step of its outputs."""
    for layer in main_products(walk):
        if layer.name in walk.executor.handed_on:
            continue
        y = walk.value(layer.name)
        if layer.bilinear:
            expected, slack = layer(walk.held(layer, 0), walk.held(layer, 1)), 4e-3  # one operand has 11 bits
        else:
            source = walk.network.by_name.get(layer.inputs[0])
            pieces = isinstance(source, layers.Concat)
            segments = tuple(walk.value(part).shape[1] for part in source.inputs) if pieces else ()
            weight = align(layer.weight, 1, walk.executor._method.machine, segments)
            expected, slack = layer.product(walk.held(layer), weight), tolerance
            y = y - (layer.bias[:, None, None] if isinstance(layer, layers.Convolution) else layer.bias)
        error = np.abs(y - expected).max()
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
        for layer in main_products(walk):
            for operand, name in enumerate(layer.inputs):
                found, sent = walk.sent(layer, operand), walk.spy.inputs[index, name]
                grouping = walk.spy.groupings[name]
                unit = np.ldexp(1.0, found.unit)
                last = grouping.join(np.broadcast_to(sent.last, sent.lanes.shape)) + 24
                difference = np.abs(grouping.join(sent.lanes)) * 2.0**24
                # an outlier is rounded to FP16; what FP16 loses is never more
                bound = np.maximum(2.0 ** (last - 1.0), difference * 2.0**-11) * (last > 0)
                bound = np.maximum(bound, (difference >= 2**11) * difference * 2.0**-11)
                lost = np.abs(np.rint(walk.value(name) / unit) - walk.held(layer, operand) / unit)
                assert (lost <= bound).all(), (index, name)


def test_a_closed_loop_follows_the_dense_network(network, images, profile):
    errors = []
    for k in (3, 5):
        found = Walk(network, loop(k), profile).run(images)
        dense = [network(*arguments(network, image, index)) for index, image in enumerate(images)]
        errors.append(np.sqrt(np.mean(np.square(np.subtract(found, dense)))) / np.std(dense))
    assert errors[0] < 0.15 and errors[1] < errors[0] / 2


def test_a_second_sampling_starts_anew(network, images, profile):
    """Other images, another batch: nothing of the first sampling is left."""
    method = loop(4, refresh=5)
    walk = Walk(network, method, profile)
    walk.run(images)
    again = walk.run(images[:, ::-1][:, :2] * 0.9)
    fresh = Walk(network, method, profile).run(images[:, ::-1][:, :2] * 0.9)
    np.testing.assert_array_equal(again, fresh)


def test_which_layers_are_one_command(network):
    shifts = [layer for layer in network.layers if isinstance(layer, layers.AddChannel)]
    found = handed_on(network, main_values(network))
    assert shifts and {shift.inputs[0] for shift in shifts} <= found
    for layer in network.layers:
        if isinstance(layer, layers.Norm) and network.consumers(layer.name)[0].role is layers.Role.ACTIVATION:
            assert layer.name in found
    assert not any(isinstance(network.by_name[name], layers.Add | layers.AddChannel) for name in found)


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
        found = [passes_sent(walk.spy.inputs[step, name], 3, -24) for step in range(STEPS)]
        assert found == [[count] for count in expected]


def test_passes_of_layers(network, images, profile):
    walk = Walk(network, loop(3, layer_passes={"down1.*": 2}, input_passes=2), profile)
    walk.run(images)
    for (step, name), sent in walk.spy.inputs.items():
        if step == 2:
            readers = [layer.name for layer in network.consumers(name)]
            two = name == "image" or any(reader.startswith("down1.") for reader in readers)
            assert passes_sent(sent, 3, -24) == [2 if two else 1], name


def test_refresh_sends_raw_values(network, images, profile):
    walk = Walk(network, loop(3, refresh=3), profile)
    for index, image in enumerate(images):
        walk.step(index, image)
        for name in ("image", "down0.block.relu1"):
            layer = network.consumers(name)[0]
            x = np.rint(np.ldexp(walk.value(name).astype(np.float64), -walk.sent(layer).unit))
            before = walk.before.get((layer.name, 0))
            against = x if index % 3 == 0 else x - before
            lanes = walk.spy.groupings[name].join(walk.spy.inputs[index, name].lanes) * 2.0**24
            np.testing.assert_array_equal(lanes, against)


def test_output_deltas_end_where_output_bits_say(network, images, profile):
    """Integers of a unit so many bits under the largest power of two below the largest state, layer by layer."""
    walk = Walk(network, loop(4, output_bits=9, layer_output_bits={"down1.*": 5, "*.conv2": 6}), profile)
    walk.run(images)
    seen = set()
    for (step, name), sent in walk.spy.outputs.items():
        bits = min([9, *[5] * name.startswith("down1."), *[6] * name.endswith(".conv2")])
        layer = network.by_name[name]
        state = walk.executor.units[walk.executor.state_of(layer)]
        largest = profile.largest[name] / abs(getattr(layer, "scale", 1.0))
        unit = 2.0 ** (np.floor(np.log2(largest)) + 1 - bits - state)
        for one in sent:
            units = one.values * 2.0**24 / unit
            assert (units == np.rint(units)).all(), (step, name)
            if (units % 2).any():
                seen.add((name, bits))
    assert {bits for _, bits in seen} == {5, 6, 9} and len(seen) > 0.8 * len(list(main_products(walk)))


# Values of any size --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["group_norm", "layer_norm", "affine_layer_norm", "rms_norm"])
@pytest.mark.parametrize("size", [1e11, 1.0, 1e-9])
def test_values_of_any_size(kind, size):
    """A product of 1e11 or 1e-9, a norm of it, a product: as near to the dense network as one of 1."""
    plain = normed(kind)
    first, norm, out = plain.layers
    first = dataclasses.replace(first, bias=f32(first.bias * size))
    norm = dataclasses.replace(norm, epsilon=norm.epsilon * size**2)
    network = Network(kind, plain.inputs, [first, norm, out], {})
    images = moving(plain) * np.float32(size)
    profile = calibrated(network, images)
    errors = []
    for form in ({"exact": True}, {"dtype": np.float64}):
        how = executor(network, loop(4, passes=2, parameters={"accumulator_width": 50}, **FINE), profile, **form)
        found = []
        for index, image in enumerate(images):
            how.begin_step(index, STEPS)
            found.append(network(image, executor=how))
        dense = np.stack([network(image) for image in images])
        errors.append(np.abs(np.stack(found) - dense).max() / np.abs(dense).max())
    assert errors[0] == errors[1] < 0.03


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
    fresh.recorder.begin_step(0, STEPS)
    alone = network(*arguments(network, mixed, 3), executor=fresh.recorder)
    np.testing.assert_allclose(found[1], alone[1], atol=1e-3)
    # and each of the two kinds is measured as a stream of its own
    anew, usual = other.spy.parts[3, "down1.block.relu1"]
    assert passes_sent(anew, 4, -24) == [3] and len(anew.values) == 1
    assert passes_sent(usual, 4, -24) == [1] and len(usual.values) == 2
    # and one step later it is like any other
    again = other.step(4, np.stack([images[4, 0], mixed[1], images[4, 2]]))
    np.testing.assert_array_equal(again[[0, 2]], same.step(4, images[4])[[0, 2]])


# Products of two activations -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("constant", [False, True])
def test_attention(constant):
    network = attention_network(constant=constant)
    images = moving(network)
    walk = Walk(network, loop(5, passes=2, **FINE), calibrated(network, images))
    for index, image in enumerate(images):
        found = walk.step(index, image)
        dense = network(*arguments(network, image, index))
        assert np.abs(found - dense).max() <= 0.01 * np.abs(dense).max()
        sent = {name for step, name in walk.spy.inputs if step == index}
        assert ("key" in sent, "value" in sent) == (not constant, not constant)


def test_a_constant_operand_that_changes_starts_the_sums_anew():
    """Another label from the fifth step on: keys and values are other ones."""
    network = attention_network(constant=True)
    images = moving(network)
    walk = Walk(network, loop(5, passes=2, **FINE), calibrated(network, images))
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


def test_what_a_reader_holds_is_its_own():
    """Two products read one value; one of them is left out of some steps, as in a retrieval step of DeepCache."""
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
        emissions = walk.executor._sent["image", -1]
        assert len(emissions) == (2 if index in (4, 6, 7) else 1)
        if not kept:
            check_sums(walk)


# What is refused, and what would be seen -----------------------------------------------------------------------------


def test_refusals(network, profile):
    with pytest.raises(ValueError, match=r"^flow must be closed_loop in the closed loop, not dense$"):
        ClosedLoop(network, Method(flow="dense"), profile)
    walk = Walk(network, loop(), profile)
    with pytest.raises(
        ValueError, match=r"^Values must be finite in the closed loop: poison is a matter of the units$"
    ):
        walk.step(0, np.full((1, 1, 8, 8), np.nan, np.float32))


@pytest.mark.parametrize("part", ["_first", "_second", "softmax", "combine", "align", "accumulate"])
def test_a_wrong_rounding_is_seen(monkeypatch, part):
    """Equality with the exact form, which tests ask of whole networks, breaks with one count in sixteen."""
    network = attention_network()
    images = moving(network)
    profile = calibrated(network, images)
    method = loop(4, first_passes=8, passes=4, parameters={"accumulator_width": 53}, **FINE)
    right = getattr(FloatNear, part)

    def wrong(self, *args, **options):
        found = right(self, *args, **options)
        counts = found if isinstance(found, np.ndarray) else found.counts
        return dataclasses.replace(found, counts=off(counts)) if counts is not found else off(counts)

    def off(counts):
        return counts + (np.arange(counts.size).reshape(counts.shape) % 16 == 0).astype(counts.dtype)

    def walk(**form):
        how = executor(network, method, profile, **form)
        found = []
        for index in range(3):
            how.begin_step(index, STEPS)
            found.append(network(images[index], executor=how))
        return np.stack(found)

    exact = walk(exact=True)
    np.testing.assert_array_equal(walk(dtype=np.float64), exact)
    monkeypatch.setattr(FloatNear, part, wrong)
    assert not np.array_equal(walk(dtype=np.float64), exact)


# Samplers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "process, guidance",
    [(Sampler(), None), (Sampler(eta=0.5), 1.5), (Sampler(clip=False, prediction="velocity"), None)],
    ids=["clipped", "fresh noise, guided", "velocity"],
)
def test_a_whole_sampling_is_fixed_point(process, guidance):
    """Image, clipped image and guided prediction are states, the same in both forms."""
    rng = np.random.default_rng(1)
    config = UNetConfig(side=8, widths=(8, 16), attention=(False, True), groups=4, null_label=guidance is not None)
    start = unet(config, initial(0)).parameters()
    network = unet(config, stored({name: rng.standard_normal(value.shape) * 0.2 for name, value in start.items()}))
    sampling = Sampling(network, [3, 8], 4, process=process, guidance=guidance)
    profile = calibrate(sampling)
    method = loop(4, parameters={"accumulator_width": 53})
    exact, fast = (executor(network, method, profile, **form) for form in ({"exact": True}, {"dtype": np.float64}))
    found = sampling.images(exact)
    np.testing.assert_array_equal(sampling.images(fast), found)
    counts = np.ldexp(found.astype(np.float64), -exact.units["image"])
    assert (counts == np.rint(counts)).all() and np.abs(counts).max() < 2**17
    assert np.abs(found - sampling.images()).max() < 0.2


def test_sums_of_a_step_against_fractions(network, profile):
    """One rounding for each sum, in the unit of what it is."""
    rng = np.random.default_rng(4)
    for form in ({"exact": True}, {}):
        how = executor(network, loop(4), profile, **form)
        how.begin_step(0, 3)
        image, predicted = (how.units[name] for name in ("image", network.layers[-1].name))
        values = rng.integers(-30000, 30000, (2, 50))
        terms = {"image": (np.ldexp(values[0], image), 1.25), "prediction": (np.ldexp(values[1], predicted), -0.75)}
        for name, unit, top in (("image", image, 2**17 - 1), ("clean", -16, 2**16)):
            found = how.combine(terms, name)
            for x, y, z in zip(*values.tolist(), found.tolist(), strict=True):
                exact = Fraction(5, 4) * x * Fraction(2) ** (image - unit)
                exact -= Fraction(3, 4) * y * Fraction(2) ** (predicted - unit)
                assert Fraction(z) == max(-top, min(top, round(exact))) * Fraction(2) ** unit
