"""The open loop against a small walk of its own, and what must hold on whole networks."""

import dataclasses

import numpy as np
import pytest

from golden.differential.configuration import Configuration
from golden.differential.open_loop import Flow, OpenLoop
from golden.networks import Network, layers
from golden.parameters import Parameters
from tests.golden.differential.networks import (
    STEPS,
    Spy,
    arguments,
    attention_network,
    calibrated,
    f32,
    moving,
    random_unet,
)
from tests.golden.differential.walks import units

pytestmark = pytest.mark.golden

ONCE = {"passes": 1, "early_passes": 1, "last_passes": 1, "late_steps": 0, "input_passes": 1}


def machine(k=3, n=4, m=1, **more):
    return Parameters(digit_width=k, lanes=n, outliers=m, memory_lanes=1, weight_form="float", **more)


def open_loop(k=3, n=4, m=1, *, parameters=None, **more):
    return Configuration(flow="sign_mask", machine=machine(k, n, m, **(parameters or {})), **{**ONCE, **more})


def chain(function="relu", seed=0, average=False):
    """Convolution, norm, activation, convolution: one of each."""
    rng = np.random.default_rng(seed)

    def convolution(name, source, wide_in, wide_out):
        weight, bias = rng.standard_normal((wide_out, wide_in, 1, 1)) * 0.6, rng.standard_normal(wide_out) * 0.2
        return layers.Convolution(name, (source,), weight=f32(weight), bias=f32(bias))

    kind = {"relu": layers.ReLU, "silu": layers.SiLU, "gelu": layers.GELU}[function]
    scale, shift = f32(rng.uniform(0.5, 1.5, 6)), f32(rng.standard_normal(6) * 0.3)
    found = [
        convolution("first", "image", 5, 6),
        layers.GroupNorm("norm", ("first",), weight=scale, bias=shift, groups=2),
        kind("act", ("norm",)),
        convolution("second", "act", 6, 3),
    ]
    return Network("chain", {"image": (5, 4, 4)}, found, {})


def half16(x):
    return np.clip(x, -65504, 65504).astype(np.float16).astype(np.float32)


def walk(network, images, configuration, profile):
    """Outputs of `chain` step by step, and the state and held value of its activation: no class, no cases."""
    first, norm, act, second = network.layers
    parameters, form = configuration.machine, configuration.norm
    s, found, states, helds = parameters.mask_width, [], [], []
    repairs, x_before, deviation_before, z, out = 0, None, None, None, None

    def sent(values, name, fresh):
        exponent = 0
        layer = parameters.exponent_policy == "layer" and not fresh
        if layer:
            exponent = 24 + max(profile.layer_exponent(name, parameters.digit_width), -24)
        if layer:  # groups of a static exponent run on over positions
            flat = half16(values).transpose(0, 2, 3, 1)
            found = units(
                flat.reshape(len(flat), 1, -1), -1, (flat[0].size,), parameters, 1, by_group=False, exponent=exponent
            )[1]
            return found.reshape(flat.shape).transpose(0, 3, 1, 2)
        count = configuration.first_passes if fresh else 1
        return units(half16(values), -3, (values.shape[1],), parameters, count, by_group=True, exponent=0)[1]

    def times(layer, values):
        return half16(np.einsum("oi,bihw->bohw", half16(layer.weight[:, :, 0, 0]), values))

    def spread(deviation):
        """Of each group to its channels."""
        return np.repeat(deviation, 3, axis=1)[:, :, None, None]

    scale, shift = norm.weight[:, None, None], norm.bias[:, None, None]
    for step, image in enumerate(images):
        x = half16(image)
        fresh = step == 0 or (configuration.refresh and step % configuration.refresh == 0)
        if fresh:
            y = times(first, sent(x, "image", True)) + first.bias[:, None, None]
            dy = y
        else:
            dy = times(first, sent(x - x_before, "image", False))
            y = y + dy
        mean, deviation = norm.statistics(y)
        if fresh or form == "current":
            new = (y - spread(mean)) / spread(deviation) * scale + shift
        elif form == "previous":
            new = (y - spread(mean)) / spread(deviation_before) * scale + shift
        else:
            used = (profile.deviation["norm"][step] + profile.deviation["norm"][step - 1]) / 2
            new = z + dy / spread(used[None]) * scale
        dz = new if fresh else new - z
        z, x_before, deviation_before = new, x, deviation
        d = sent(dz, "norm", fresh)
        if fresh:
            state, held, repairs = d, act(d), 0
            da = held
        else:
            if act.kind == "relu" or s == 1:
                da = np.where(state >= 0, d, 0)
                following = state + d
                da = da + (repairs if parameters.flip_repair else 0)
                repairs = half16(np.where((state >= 0) != (following >= 0), np.abs(following), 0))
            else:
                borders, slopes = SEGMENTS[act.kind, s]
                code = sum((state >= border).astype(int) for border in borders)
                da = half16(np.take(slopes, code) * d)
                following = state + d
            state, held = following, held + da
        if act.kind != "relu" and (s > 1 or fresh):
            da = sent(da, "act", fresh)  # no groups any more
        dout = times(second, da)
        out = dout + second.bias[:, None, None] if fresh else out + dout
        found.append(out)
        states.append(state)
        helds.append(held)
    return found, states, helds


def table(function, s):
    from golden.units.sign_mask import SEGMENTS as found  # data that every side may read

    segment = found[function][s]
    slopes = np.array(segment.slopes, np.uint16).view(np.float16).astype(np.float32)
    return [threshold / 64 for threshold in segment.thresholds], slopes


SEGMENTS = {(name, s): table(name, s) for name in ("silu", "gelu") for s in (2, 3, 4)}


def run(network, images, configuration, profile, spy=None):
    executor = OpenLoop(network, configuration, profile, spy)
    found = []
    for index, image in enumerate(images):
        executor.begin_step(index, len(images))
        found.append(network(*arguments(network, image, index), executor=executor))
    return found, executor


LAYER = {"exponent_policy": "layer", "output_passes": 1}


@pytest.mark.parametrize(
    "function, parameters",
    [
        ("relu", {}),
        ("relu", {"flip_repair": True}),
        ("relu", {**LAYER, "overflow_policy": "saturate"}),
        ("relu", {**LAYER, "overflow_policy": "replay"}),
        ("silu", {}),
        ("silu", {"mask_width": 2, "mask_operand": "values"}),
        ("gelu", {"mask_width": 3, "mask_operand": "values"}),
        ("silu", {"mask_width": 4, "mask_operand": "values"}),
    ],
)
@pytest.mark.parametrize("form", ["calibrated", "previous", "current"])
@pytest.mark.parametrize("refresh", [0, 3])
def test_against_a_walk(function, parameters, form, refresh):
    network = chain(function)
    images = moving(network, speed=0.3)
    profile = calibrated(network, images)
    configuration = open_loop(parameters=parameters, norm=form, refresh=refresh)
    found, executor = run(network, images, configuration, profile)
    expected, states, helds = walk(network, images, configuration, profile)
    # Rounding of binary32 may flip a rounding to FP16 or to a digit; that is rare and small.
    assert np.abs(found[0] - expected[0]).max() <= 1e-3
    wrong = np.abs(np.subtract(found, expected)) > 4e-3
    assert wrong.mean() < 0.02
    assert np.mean(np.abs(executor._raw["act"] - states[-1]) > 1e-3) < 0.02
    assert np.mean(np.abs(executor._held["act", 0] - helds[-1]) > 1e-3) < 0.02


def test_the_mask_is_that_of_the_step_before():
    """The ReLU of a value that changes sign still sees the old one."""
    network = Network(
        "one",
        {"image": (4, 1, 1)},
        [
            layers.Convolution("first", ("image",), weight=f32(np.eye(4)[:, :, None, None]), bias=f32(np.zeros(4))),
            layers.ReLU("act", ("first",)),
        ],
        {},
    )
    steps = np.array([[2, 2, -2, -2], [3, -1, -3, 1], [3, -2, -3, 2]], np.float32).reshape(3, 1, 4, 1, 1)
    profile = calibrated(network, steps)
    found, _ = run(network, steps, open_loop(8), profile)
    assert [one.ravel().tolist() for one in found] == [[2, 2, 0, 0], [3, -1, 0, 0], [3, -1, 0, 1]]
    repaired, _ = run(network, steps, open_loop(8, parameters={"flip_repair": True}), profile)
    assert [one.ravel().tolist() for one in repaired] == [[2, 2, 0, 0], [3, -1, 0, 0], [3, 0, 0, 2]]


def test_repair_makes_relu_exact_one_step_later():
    network = chain()
    images = moving(network, speed=0.4)
    spy = Spy()
    executor = OpenLoop(network, open_loop(parameters={"flip_repair": True}), calibrated(network, images), spy)
    flipped, checked = 0, 0
    for index, image in enumerate(images):
        before = executor._raw.get("act")
        executor.begin_step(index, STEPS)
        network(image, executor=executor)
        state, held = executor._raw["act"], executor._held["act", 0]
        if index:
            flips = (before >= 0) != (state >= 0)
            np.testing.assert_allclose(held[~flips], np.maximum(state, 0)[~flips], atol=2e-3)
            assert spy.flips[index, "act"] == (flips.sum(), flips.size)
            flipped += flips.sum()
            checked += (~flips).sum()
    assert flipped > 20 and checked > 1000


def test_a_second_sampling_starts_anew():
    network = random_unet()
    images = moving(network)
    profile = calibrated(network, images)
    for form in ("calibrated", "previous"):
        configuration = open_loop(norm=form)
        _, executor = run(network, images, configuration, profile)
        other = images[::-1, :2] * 0.8
        spies = Spy(), Spy()
        executor._measure = spies[0]
        again = []
        for index, image in enumerate(other):
            executor.begin_step(index, STEPS)
            again.append(network(*arguments(network, image, index), executor=executor))
        fresh, _ = run(network, other, configuration, profile, spies[1])
        np.testing.assert_array_equal(again, fresh)
        assert {key: len(sent) for key, sent in spies[0].outputs.items()} == {
            key: len(sent) for key, sent in spies[1].outputs.items()
        }


def test_items_take_up_their_references_or_start_anew():
    network = random_unet()
    images = moving(network)
    profile = calibrated(network, images)
    order = np.array([2, -1, 1])
    spy = Spy()
    configuration = open_loop(norm="current", first_passes=3)
    same, other = OpenLoop(network, configuration, profile), OpenLoop(network, configuration, profile, spy)
    for index in range(3):
        for executor in (same, other):
            executor.begin_step(index, STEPS)
            network(*arguments(network, images[index], index), executor=executor)
    same.begin_step(3, STEPS)
    other.begin_step(3, STEPS, order)
    image, steps, labels = arguments(network, images[3], 3)
    expected = network(image, steps, labels, executor=same)
    mixed = np.stack([image[2], image[0] * 0.5, image[1]])
    found = network(mixed, steps, labels[[2, 0, 1]], executor=other)
    np.testing.assert_allclose(found[[0, 2]], expected[[2, 1]], atol=5e-3)
    fresh = OpenLoop(network, configuration, profile)
    fresh.begin_step(0, STEPS)
    alone = network(mixed, steps, labels[[2, 0, 1]], executor=fresh)
    np.testing.assert_allclose(found[1], alone[1], atol=5e-3)
    # what is measured: every item once
    for (step, _), sent in spy.outputs.items():
        assert sum(len(one.values) for one in sent) == 3 and len(sent) == (2 if step == 3 else 1)


def line(seed=0, pool=False):
    """A shallow convolution, two deep ones, and what joins them again."""
    rng = np.random.default_rng(seed)

    def convolution(name, source):
        weight = rng.standard_normal((4, 4, 1, 1)) * 0.5
        return layers.Convolution(name, (source,), weight=f32(weight), bias=f32(rng.standard_normal(4)))

    found = [
        convolution("shallow", "image"),
        convolution("deep1", "shallow"),
        layers.ReLU("act", ("deep1",)),
        convolution("deep2", "act"),
        layers.Add("add", ("shallow", "deep2")),
        convolution("last", "add"),
    ]
    return Network("line", {"image": (4, 3, 3)}, found, {})


def test_layers_that_skip_steps_get_all_that_changed_meanwhile():
    """As in DeepCache: the deep layers run in every third step only, on what the shallow one has done since."""
    network = line()
    images = moving(network)
    images = np.abs(images)  # signs that stay: the mask makes no difference
    profile = calibrated(network, images)
    spy = Spy()
    executor = OpenLoop(network, open_loop(8, m=0, passes=3), profile, spy)
    kept = None
    for index, image in enumerate(images):
        executor.begin_step(index, STEPS)
        if index % 3 == 0:
            before = None if kept is None else executor.result(kept)
            found, values = network(image, executor=executor, keep=["deep2"])
            kept = values["deep2"]
            deep = kept.raw
            dense = network.by_name["deep1"](network.by_name["shallow"](image))
            np.testing.assert_allclose(executor._raw["deep1"], dense, atol=0.02)
            assert before is None or np.abs(deep - before).max() > 0.02
            # a delta that is made of groups already is not quantised again
            assert (index, "act") not in spy.outputs
        else:
            found = network(image, executor=executor, given={"deep2": executor.held(kept)})
        shallow = network.by_name["shallow"](image)
        np.testing.assert_allclose(found, network.by_name["last"](shallow + deep), atol=0.05)


def test_an_average_of_groups_is_no_group():
    rng = np.random.default_rng(0)
    weight = f32(rng.standard_normal((4, 4, 1, 1)))
    found = [
        layers.Convolution("first", ("image",), weight=weight, bias=f32(np.zeros(4))),
        layers.ReLU("act", ("first",)),
        layers.AveragePool("pool", ("act",), factor=2),
        layers.Upsample("up", ("act",)),
        layers.Convolution("second", ("pool",), weight=weight, bias=f32(np.zeros(4))),
        layers.Convolution("third", ("up",), weight=weight, bias=f32(np.zeros(4))),
        layers.Upsample("wide", ("second",)),
        layers.Upsample("wider", ("wide",)),
        layers.Add("add", ("wider", "third")),
    ]
    network = Network("pool", {"image": (4, 4, 4)}, found, {})
    images = moving(network)
    spy = Spy()
    run(network, images, open_loop(), calibrated(network, images), spy)
    assert (2, "pool") in spy.outputs and (2, "up") not in spy.outputs


def test_held_values_have_not_changed():
    executor = OpenLoop(chain(), open_loop(), calibrated(chain(), moving(chain())))
    flow = Flow(f32([1, 2]), f32([3, 4]))
    held = executor.held(flow)
    assert held.quantised and not held.delta.any()
    np.testing.assert_array_equal(executor.result(held), [1, 2])
    np.testing.assert_array_equal(executor.result(f32([5])), [5])


@pytest.mark.parametrize("attention", ["delta", "raw"])
@pytest.mark.parametrize("constant", [False, True])
def test_attention(attention, constant):
    network = attention_network(constant=constant)
    images = moving(network)
    configuration = open_loop(8, passes=3, norm="current", attention=attention)
    found, _ = run(network, images, configuration, calibrated(network, images))
    for index, image in enumerate(images):
        dense = network(*arguments(network, image, index))
        assert np.abs(found[index] - dense).max() <= 0.02 * np.abs(dense).max()


def test_calibrated_deviations_of_a_stream_are_those_of_its_items():
    """Items at timesteps of their own, each on the average of its deviation and that of the item it refers to."""
    network = chain()
    images = moving(network)
    profile = calibrated(network, images)
    rows = dataclasses.replace(profile, rows=np.array([1, 4, 6]))
    executor = OpenLoop(network, open_loop(norm="calibrated"), rows)
    table = profile.deviation["norm"]
    reference = np.array([-1, 0, 1])
    for index in range(12):  # more than the profile has steps
        executor.begin_step(index, index + 1, np.full(3, -1) if index == 0 else reference)
        before = executor._raw.get("norm")
        network(images[min(index, 7)], executor=executor)
        if index:
            flow_before = executor._raw["norm"] - before
            assert flow_before.shape == (3, 6, 4, 4)
    found = rows.deviations("norm", 99, reference)
    np.testing.assert_array_equal(found, table[[1, 1, 4]])
    np.testing.assert_array_equal(rows.deviations("norm", 99), table[[1, 4, 6]])


def test_another_flow_is_refused():
    network = chain()
    with pytest.raises(ValueError, match=r"^flow must be sign_mask in the open loop, not raw$"):
        OpenLoop(network, Configuration(flow="raw"), calibrated(network, moving(network)))
