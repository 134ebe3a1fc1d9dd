"""The open loop against the units, step by step, and what must hold on whole networks."""

import dataclasses

import numpy as np
import pytest

from golden.diffusion import layers
from golden.diffusion.differential.exact import ExactArithmetic
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.open_loop import Flow, OpenLoop
from golden.diffusion.networks import Network
from golden.parameters import Parameters
from golden.units.activations import activation
from golden.units.sign_mask import segment_mask, segments
from tests.golden.diffusion.differential.networks import (
    STEPS,
    Spy,
    arguments,
    attention_network,
    calibrated,
    deviation_of,
    f32,
    moving,
    normalised,
    normed,
    passes_sent,
)
from tests.golden.diffusion.differential.walks import State, Stream, multiplied, nearest, numbers, units
from tests.golden.diffusion.sampling.networks import random_unet

pytestmark = pytest.mark.golden

ONCE = {"passes": 1, "early_passes": 1, "last_passes": 1, "late_steps": 0, "input_passes": 1}


def machine(k=3, n=4, m=1, **more):
    values = {"digit_width": k, "lanes": n, "outliers": m, "memory_lanes": 1, "weight_form": "float"}
    return Parameters(**values | more)


def open_loop(k=3, n=4, m=1, *, parameters=None, **more):
    return Method(flow="sign_mask", machine=machine(k, n, m, **(parameters or {})), **{**ONCE, **more})


def chain(function="relu", seed=0, average=False):
    """Convolution, norm, activation, convolution: one of each."""
    rng = np.random.default_rng(seed)

    def convolution(name, source, wide_in, wide_out):
        weight, bias = rng.standard_normal((wide_out, wide_in, 1, 1)) * 0.6, rng.standard_normal(wide_out) * 0.2
        return layers.Convolution(name, (source,), weight=f32(weight), bias=f32(bias))

    kind = {"relu": layers.ReLU, "silu": layers.SiLU, "gelu": layers.GELU, "erf_gelu": layers.ErfGELU}[function]
    scale, shift = f32(rng.uniform(0.5, 1.5, 6)), f32(rng.standard_normal(6) * 0.3)
    found = [
        convolution("first", "image", 5, 6),
        layers.Norm("norm", ("first",), weight=scale, bias=shift, groups=2),
        kind("act", ("norm",)),
        convolution("second", "act", 6, 3),
    ]
    return Network("chain", {"image": (5, 4, 4)}, found, {})


def walk(network, images, method, profile):
    """States and outputs of `chain` step by step, each made by a unit: no class of the executor, no batch."""
    first, norm, act, second = network.layers
    machine, form = method.machine, method.norm
    n, plain = machine.lanes, dataclasses.replace(machine, mask_width=1, mask_operand="digits", flip_repair=False)
    signs = act.kind == "relu" or machine.mask_width == 1
    s = {name: profile.state_exponent(name, machine.state_width) for name in ("image", "first", "norm", "act")}
    x, y1, z = (State(plain, s[name]) for name in ("image", "first", "norm"))
    y, held = State(machine, s["norm"]), State(plain, s["norm"])
    y2 = State(plain, profile.state_exponent("second", machine.state_width))
    near = ExactArithmetic(method, profile)  # for norms of raw values only: they have a test of their own
    thresholds = () if signs else segments(act.kind, machine.mask_width).of(machine, s["norm"])
    repairs, found = None, []

    def floor(name):
        return 0 if machine.state_format == "float16" else s[name] + 24

    def sent(patterns, name, fresh):
        static = machine.exponent_policy == "layer" and not fresh
        exponent = max(profile.layer_exponent(name, machine.digit_width) + 24, floor(name)) if static else None
        passes = method.first_passes if fresh else method.passes
        return Stream.quantised(patterns, machine, passes, floor(name), exponent)

    def product(layer, streams, source, state, fresh):
        largest = min(2.0 ** (s[source] + machine.state_width + machine.flip_repair), 65504.0)
        passes = method.first_passes + machine.flip_repair * method.first_passes
        change, exact = multiplied(layer, streams, machine, largest=largest, passes=passes, floor=floor(source))
        bias = np.broadcast_to(layer.bias[:, None, None], change.shape) if fresh else None
        state.add(Stream.values(change, n), fresh, bias)
        return (nearest(state.image) if fresh else change), exact

    def evaluated(state, value, fresh):
        before = 0 if fresh else state.image.astype(np.float64)
        state.set(value)
        return nearest(state.image - before)

    for step, image in enumerate(images):
        fresh = step == 0 or bool(method.refresh and step % method.refresh == 0)
        dx = evaluated(x, image, fresh)
        dy, exact1 = product(first, [sent(dx, "image", fresh)], "image", y1, fresh)
        if fresh or form == "current":
            dz = evaluated(z, near.near(norm, [y1.image]), fresh)
        else:
            between = (profile.deviation["norm"][step] + profile.deviation["norm"][step - 1]) / np.float32(2)
            reciprocal = np.repeat(np.float32(1) / between, 3)[:, None, None]
            dz = nearest(numbers(dy) * reciprocal * norm.weight[:, None, None])
            z.add(Stream.values(dz, n), False)
        groups = sent(dz, "norm", fresh)
        before, after, flipped = y.add(groups, fresh, thresholds=thresholds)
        mask = after if fresh else before
        if signs:
            masked = [groups.masked(mask, machine)]
            if machine.flip_repair and not fresh:
                masked.append(Stream.quantised(repairs, machine, method.first_passes, floor("norm"), None))
            repairs = groups.layout.image(flipped)
        else:
            slopes = segments(act.kind, machine.mask_width).slopes
            scaled = segment_mask(nearest(groups.total()), groups.layout.image(mask), slopes)
            masked = [Stream.values(scaled.values, n)]
        for number, part in enumerate(masked):
            held.add(part, fresh and number == 0)
        if act.kind != "relu" and fresh:
            held.set(numbers(activation(act.kind, nearest(y.image)).values))
            masked = [sent(nearest(held.image), "act", True)]
        elif not signs:
            masked = [sent(nearest(masked[0].total()), "act", False)]
        _, exact2 = product(second, masked, "act", y2, fresh)
        found.append((y2.image, y1.image, z.image, y.image, held.image, exact1 and exact2))
    return found


def run(network, images, method, profile, spy=None):
    executor = OpenLoop(network, method, profile, measure=spy)
    found = []
    for index, image in enumerate(images):
        executor.begin_step(index, len(images))
        found.append(network(*arguments(network, image, index), executor=executor))
    return found, executor


LAYER = {"exponent_policy": "layer", "output_passes": 1}
ALIGNED = {"weight_form": "aligned", "fraction_bits": 10}
HALF = {"state_format": "float16"}
SEGMENTS = {"mask_operand": "values"}

VARIANTS = [
    ("relu", {}, {}),
    ("relu", {"flip_repair": True}, {"passes": 2}),
    ("relu", {"flip_repair": True, **ALIGNED, "outliers": 0}, {}),
    ("relu", {**LAYER, "overflow_policy": "saturate"}, {}),
    ("relu", {**LAYER, "overflow_policy": "replay", "flip_repair": True}, {"passes": 2}),
    ("relu", {**HALF, "flip_repair": True}, {"passes": 2}),
    ("relu", {**HALF, **LAYER, "overflow_policy": "replay"}, {}),
    ("relu", {"state_width": 16, **ALIGNED}, {"passes": 3}),
    ("silu", {}, {}),
    ("silu", {"mask_width": 2, **SEGMENTS}, {"passes": 2}),
    ("gelu", {"mask_width": 3, **SEGMENTS, **LAYER, "overflow_policy": "saturate"}, {}),
    ("silu", {"mask_width": 4, **SEGMENTS, **HALF}, {}),
    ("erf_gelu", {}, {}),
    ("erf_gelu", {"mask_width": 2, **SEGMENTS}, {"passes": 2}),
]
"""Activation, what the machine has, and how it is used: every line takes another way through the executor."""


@pytest.mark.parametrize("function, parameters, more", VARIANTS)
@pytest.mark.parametrize("form", ["calibrated", "current"])
def test_every_bit_is_that_of_the_units(function, parameters, more, form):
    """Exact arithmetic against the units at an accumulator that rounds, floating point at one that hardly does."""
    network = chain(function)
    images = moving(network, speed=0.3, steps=5, items=2)
    profile = calibrated(network, images)
    for width in (28, 53):
        wide = {"accumulator_width": width, **parameters}
        method = open_loop(parameters=wide, norm=form, refresh=3, **more)
        exact = ExactArithmetic(method, profile)
        executors = [OpenLoop(network, method, profile, exact)]
        if width == 53:
            executors.append(OpenLoop(network, method, profile))
        expected = walk(network, images, method, profile)
        assert width == 53 or not all(step[-1] for step in expected)
        for executor in executors:
            for index, (image, (out, *states, _)) in enumerate(zip(images, expected, strict=True)):
                executor.begin_step(index, len(images))
                np.testing.assert_array_equal(network(image, executor=executor), out)
                found = [executor._raw[name] for name in ("first", "norm", "act")] + [executor._held["act", 0]]
                for state, unit in zip(found, states, strict=True):
                    np.testing.assert_array_equal(state, unit)


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
    method = open_loop(8, parameters={"flip_repair": True})  # three passes of 8 bits: repairs miss nothing that counts
    executor = OpenLoop(network, method, calibrated(network, images), measure=spy)
    flipped, checked, late = 0, 0, None
    for index, image in enumerate(images):
        before = executor._raw.get("act")
        executor.begin_step(index, STEPS)
        network(image, executor=executor)
        state, held = executor._raw["act"], executor._held["act", 0]
        if index:
            flips = (before >= 0) != (state >= 0)
            np.testing.assert_allclose(held[~flips], np.maximum(state, 0)[~flips], atol=2e-3)
            assert spy.flips[index, "act"] == (flips.sum(), flips.size)
            # those of this step are sent in the next one
            assert index == 1 or (np.count_nonzero(spy.raws[index, "act"][0].values), flips.size) == late
            late = spy.flips[index, "act"]
            flipped += flips.sum()
            checked += (~flips).sum()
    assert flipped > 20 and checked > 1000


@pytest.mark.parametrize("policy", [{}, {"exponent_policy": "layer", "output_passes": 1}])
@pytest.mark.parametrize("passes", [2, 3])
def test_repairs_are_vectors_of_their_own(policy, passes):
    """Flips of the step before by the units: along channels, by group whatever the policy, in passes of their own."""
    network = chain()
    images = moving(network, speed=0.4)
    method = open_loop(3, 4, 0, parameters={"flip_repair": True, **policy}, first_passes=passes)
    profile, spy = calibrated(network, images), Spy()
    executor = OpenLoop(network, method, profile, measure=spy)
    floor, finer = profile.state_exponent("norm", method.machine.state_width) + 24, 0
    late = None
    for index, image in enumerate(images):
        before = executor._raw.get("act")
        executor.begin_step(index, STEPS)
        network(image, executor=executor)
        state = executor._raw["act"]
        if late is not None:
            (sent,) = spy.raws[index, "act"]
            result, digits = units(late, 1, (6,), method.machine, passes, floor=floor, by_group=True)
            np.testing.assert_array_equal(sent.values, digits)
            finer += np.count_nonzero(result.groups.digits.reshape(-1, passes, 4)[:, -1])
        if index:
            late = numbers(nearest(np.where((before >= 0) != (state >= 0), np.abs(state), 0)))
    assert finer  # the last pass matters


def test_a_second_sampling_starts_anew():
    network = random_unet()
    images = moving(network)
    profile = calibrated(network, images)
    for form in ("calibrated", "current"):
        method = open_loop(norm=form)
        _, executor = run(network, images, method, profile)
        other = images[::-1, :2] * 0.8
        spies = Spy(), Spy()
        executor._measure = spies[0]
        again = []
        for index, image in enumerate(other):
            executor.begin_step(index, STEPS)
            again.append(network(*arguments(network, image, index), executor=executor))
        fresh, _ = run(network, other, method, profile, spies[1])
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
    method = open_loop(norm="current", first_passes=3)
    same, other = OpenLoop(network, method, profile), OpenLoop(network, method, profile, measure=spy)
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
    fresh = OpenLoop(network, method, profile)
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
    executor = OpenLoop(network, open_loop(8, m=0, passes=3), profile, measure=spy)
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


@pytest.mark.parametrize(
    "parameters", [{}, {"flip_repair": True}, {**LAYER, "overflow_policy": "replay", "flip_repair": True}, HALF]
)
def test_references_and_skipped_steps_bit_for_bit(parameters):
    """In exact arithmetic and in floating point: items that change places or start anew, layers that rest."""
    method = open_loop(parameters={"accumulator_width": 53, **parameters}, passes=1)

    def both(network, profile):
        return [
            OpenLoop(network, method, profile, arithmetic) for arithmetic in (ExactArithmetic(method, profile), None)
        ]

    network = random_unet()
    images = moving(network)
    executors = both(network, calibrated(network, images))
    for index, image in enumerate(images):
        found = []
        for executor in executors:
            executor.begin_step(index, STEPS, np.array([2, -1, 1]) if index == 3 else None)
            found.append(network(*arguments(network, image, index), executor=executor))
        np.testing.assert_array_equal(*found)

    network = line()
    images = moving(network)
    kept = [None, None]
    executors = both(network, calibrated(network, images))
    for index, image in enumerate(images):
        found = []
        for number, executor in enumerate(executors):
            executor.begin_step(index, STEPS)
            if index % 3 == 0:
                out, values = network(image, executor=executor, keep=["deep2"])
                kept[number] = values["deep2"]
            else:
                out = network(image, executor=executor, given={"deep2": executor.held(kept[number])})
            found.append(out)
        np.testing.assert_array_equal(*found)


def test_activations_of_videos_are_grouped_along_channels():
    rng = np.random.default_rng(0)

    def linear(name, source):
        weight, bias = rng.standard_normal((6, 6)) * 0.4, rng.standard_normal(6)
        return layers.Linear(name, (source,), weight=f32(weight), bias=f32(bias))

    found = [linear("a", "video"), layers.GELU("act", ("a",)), linear("b", "act")]
    network = Network("video", {"video": (3, 5, 6)}, found, {})
    images = moving(network)
    spy = Spy()
    run(network, images, open_loop(), calibrated(network, images), spy)
    assert spy.groupings["a"].axis == -1 and spy.groupings["a"].segments == (6,)
    spy = Spy()
    run(chain(), moving(chain()), open_loop(), calibrated(chain(), moving(chain())), spy)
    assert spy.groupings["norm"].axis == -3 and spy.groupings["norm"].segments == (6,)


def test_a_product_of_two_values_has_no_delta_form():
    """As in gated layers: the product of two deltas is not the delta of the product."""
    rng = np.random.default_rng(0)

    def linear(name, source):
        weight, bias = rng.standard_normal((6, 6)) * 0.4, rng.standard_normal(6)
        return layers.Linear(name, (source,), weight=f32(weight), bias=f32(bias))

    found = [linear("a", "image"), linear("b", "image"), layers.Multiply("times", ("a", "b")), linear("out", "times")]
    network = Network("gated", {"image": (5, 6)}, found, {})
    images = moving(network)
    outs, _ = run(network, images, open_loop(8, passes=3), calibrated(network, images))
    for out, image in zip(outs, images, strict=True):
        assert np.abs(out - network(image)).max() < 0.01


def test_an_average_of_groups_is_no_group():
    rng = np.random.default_rng(0)
    weight = f32(rng.standard_normal((4, 4, 1, 1)))

    def upsampled(name, source):
        return layers.Move(name, (source,), "b c h w -> b c (h p) (w q)", {"p": 2, "q": 2})

    found = [
        layers.Convolution("first", ("image",), weight=weight, bias=f32(np.zeros(4))),
        layers.ReLU("act", ("first",)),
        layers.AveragePool("pool", ("act",), factor=2),
        upsampled("up", "act"),
        layers.Convolution("second", ("pool",), weight=weight, bias=f32(np.zeros(4))),
        layers.Convolution("third", ("up",), weight=weight, bias=f32(np.zeros(4))),
        upsampled("wide", "second"),
        upsampled("wider", "wide"),
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
    assert held.terms and not held.delta.any()
    np.testing.assert_array_equal(executor.result(held), [1, 2])
    np.testing.assert_array_equal(executor.result(f32([5])), [5])


@pytest.mark.parametrize("attention", ["delta", "raw"])
@pytest.mark.parametrize("constant", [False, True])
def test_attention(attention, constant):
    network = attention_network(constant=constant)
    images = moving(network)
    method = open_loop(8, passes=3, norm="current", attention=attention)
    found, _ = run(network, images, method, calibrated(network, images))
    for index, image in enumerate(images):
        dense = network(*arguments(network, image, index))
        assert np.abs(found[index] - dense).max() <= 0.02 * np.abs(dense).max()


@pytest.mark.parametrize("n, m", [(4, 1), (6, 0)])
@pytest.mark.parametrize("constant", [False, True])
def test_raw_attention_multiplies_passes_of_digits(n, m, constant):
    """The left operand of both products by the units, in every step; an accumulator that holds every sum."""
    network = attention_network(constant=constant)
    images = moving(network)
    method = open_loop(3, n, m, norm="current", attention="raw", parameters={"accumulator_width": 53})
    profile, spy = calibrated(network, images), Spy()
    executor = OpenLoop(network, method, profile, ExactArithmetic(method, profile), spy)
    for index, image in enumerate(images):
        executor.begin_step(index, STEPS)
        _, values = network(
            *arguments(network, image, index), executor=executor, keep=["query", "key", "value", "scores", "softmax"]
        )
        raw = {name: executor.result(value) for name, value in values.items()}
        for product, left, right in (("scores", "query", "key"), ("mix", "softmax", "value")):
            floor = profile.state_exponent(left, method.machine.state_width)
            left, wide = nearest(raw[left]), raw[left].shape[-1]
            groups, digits = units(numbers(left), 2, (wide,), method.machine, 3, floor=floor + 24)
            (sent,) = spy.raws[index, product]
            np.testing.assert_array_equal(sent.values, digits)
            assert len(groups.groups) == 3 * len(numbers(left).reshape(-1, wide)) * -(-wide // n)
            weights = numbers(nearest(raw[right])).astype(np.float64)
            layer = network.by_name[product]
            sums = digits @ (weights.swapaxes(1, 2) if layer.transposed else weights)
            factor = float(numbers(nearest(np.float64(layer.scale))))
            unit = 2.0 ** profile.state_exponent(product, method.machine.state_width)
            expected = np.rint(numbers(nearest(sums * factor)) / unit) * unit
            np.testing.assert_array_equal(executor._raw[product], expected)
    # half of what a digit of the third pass stands for, next to the 3 of the first
    assert np.abs(sent.values - numbers(left)).max() <= 2.0**-5 * numbers(left).max()


@pytest.mark.parametrize(
    "options, of_image, of_norm",
    [
        ({}, [3, 1, 1, 1, 1, 1], [3, 1, 1, 1, 1, 1]),
        ({"layer_passes": {"*": (1, 2, 4)}, "late_steps": 2}, [3, 1, 1, 1, 4, 4], [3, 1, 1, 1, 4, 4]),
        ({"late_steps": 2, "last_passes": 2}, [3, 1, 1, 1, 2, 2], [3, 1, 1, 1, 2, 2]),
        ({"early_steps": 1, "early_passes": 3}, [3, 3, 1, 1, 1, 1], [3, 3, 1, 1, 1, 1]),
        ({"layer_passes": {"act": 2}}, [3, 1, 1, 1, 1, 1], [3, 2, 2, 2, 2, 2]),
        ({"layer_passes": {"first": 4}}, [4, 4, 4, 4, 4, 4], [3, 1, 1, 1, 1, 1]),
        ({"input_passes": 2}, [3, 2, 2, 2, 2, 2], [3, 1, 1, 1, 1, 1]),
        ({"refresh": 3}, [3, 1, 1, 3, 1, 1], [3, 1, 1, 3, 1, 1]),
    ],
)
def test_passes(options, of_image, of_norm):
    network = chain()
    images = moving(network, 6, speed=0.3)
    spy = Spy()
    _, executor = run(network, images, open_loop(3, m=0, **options), calibrated(network, images), spy)
    for name, expected in (("image", of_image), ("norm", of_norm)):
        floor = executor._exponent(name)
        assert [passes_sent(spy.outputs[step, name][0], 3, floor) for step in range(6)] == [[one] for one in expected]


@pytest.mark.parametrize("kind", ["group_norm", "layer_norm", "affine_layer_norm", "rms_norm"])
@pytest.mark.parametrize("form", ["current", "calibrated"])
def test_norms_divide_by_the_deviation_that_was_asked_for(kind, form):
    """Calibrated: deltas, by the mean of two steps. Current: raw values, less the mean of the step."""
    network = normed(kind)
    images = moving(network, speed=0.5)
    profile = calibrated(network, images)
    executor = OpenLoop(network, open_loop(8, m=0, norm=form, passes=2), profile)
    y_before = z_before = None
    far = 0.0
    for index, image in enumerate(images):
        executor.begin_step(index, STEPS)
        network(image, executor=executor)
        y, z = executor._raw["first"], executor._raw["norm"]
        own = deviation_of(network, y)
        if index == 0 or form == "current":
            expected = normalised(network, y, own)
        else:
            table = profile.deviation["norm"]
            used = np.broadcast_to((table[index] + table[index - 1]) / 2, own.shape)
            expected = z_before + normalised(network, y - y_before, used, centred=False, shifted=False)
            wrong = z_before + normalised(
                network, y - y_before, np.broadcast_to(table[0], own.shape), centred=False, shifted=False
            )
            far = max(far, np.abs(z - wrong).max())
        np.testing.assert_allclose(z, expected, rtol=2e-3, atol=2e-3)
        y_before, z_before = y, z
    assert far > 0.05 or form == "current"


def test_calibrated_deviations_of_a_stream_are_those_of_its_items():
    """Items at timesteps of their own, each on the average of its deviation and that of the item it refers to."""
    network = chain()
    images = moving(network)
    profile = calibrated(network, images)
    table = np.linspace(0.5, 3, STEPS, dtype=np.float32)[:, None] * np.array([1, 1.3], np.float32)
    rows = dataclasses.replace(profile, deviation={"norm": table}, rows=np.array([1, 4, 6]))
    executor = OpenLoop(network, open_loop(8, m=0, passes=2, norm="calibrated"), rows)
    reference = np.array([-1, 0, 1])
    gamma = network.by_name["norm"].weight[:, None, None]
    for index in range(12):  # more than the profile has steps
        executor.begin_step(index, None, np.full(3, -1) if index == 0 else reference)
        before = {name: executor._raw[name].copy() for name in ("first", "norm")} if index else {}
        network(images[min(index, 7)], executor=executor)
        for item, refers in ((1, 1), (2, 4)) if index else ():
            used = np.repeat((table[rows.rows[item]] + table[refers]) / 2, 3)[:, None, None]
            change = executor._raw["first"][item] - before["first"][item]
            found = executor._raw["norm"][item] - before["norm"][item]
            np.testing.assert_allclose(found, change * gamma / used, rtol=5e-3, atol=5e-3)
    np.testing.assert_array_equal(rows.deviations("norm", 99, reference), table[[1, 1, 4]])
    np.testing.assert_array_equal(rows.deviations("norm", 99), table[[1, 4, 6]])


def test_another_flow_is_refused():
    network = chain()
    with pytest.raises(ValueError, match=r"^flow must be sign_mask in the open loop, not raw$"):
        OpenLoop(network, Method(flow="raw"), calibrated(network, moving(network)))
