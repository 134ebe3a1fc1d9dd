import itertools

import pytest
from amaranth.hdl import Shape

from golden.parameters import PRESETS, Parameters
from hw import payloads

pytestmark = pytest.mark.unit

REPLAY = {"exponent_policy": "layer", "overflow_policy": "replay"}


def width(layout):
    return Shape.cast(layout).width


def fields(layout):
    return {name: (field.offset, field.width) for name, field in layout}


@pytest.mark.parametrize(
    "k, n, m, others",
    [
        (k, n, m, others)
        for k, n, m in itertools.product((2, 3, 8), (4, 5, 16, 60, 64), (0, 1, 4))
        for others in ({}, REPLAY)
        if m or not others
    ],
)
def test_a_group_is_exponent_replay_digits_and_slots(k, n, m, others):
    parameters = Parameters(digit_width=k, lanes=n, outliers=m, memory_lanes=1, **others)
    slot = 1 + (n - 1).bit_length() + 16
    replay = 1 if others else 0
    expected = {"exponent": (0, 6)}
    if replay:
        expected["replay"] = (6, 1)
    expected["digits"] = (6 + replay, n * k)
    if m:
        expected["outliers"] = (6 + replay + n * k, m * slot)
    assert fields(payloads.delta_group(parameters)) == expected


def test_one_slot():
    assert fields(payloads.outlier(Parameters(lanes=60, memory_lanes=1))) == {
        "valid": (0, 1),
        "lane": (1, 6),
        "value": (7, 16),
    }


@pytest.mark.parametrize(
    "name, selector_input, selector_output, quantizer_input, quantizer_output",
    [
        ("tiny", 4 + 64, 19 + 4, 14 + 64, (6 + 12 + 19) + 1 + 6 + 4 + 64),
        ("edge", 16 + 256, 21 + 16, 14 + 256, (6 + 48 + 21) + 1 + 6 + 16 + 256),
        ("ulx3s", 32 + 512, 32, 14 + 512, (6 + 96) + 1 + 6 + 32 + 512),
        ("paper", 60 + 960, 4 * 23 + 60, 14 + 960, (6 + 180 + 4 * 23) + 1 + 6 + 60 + 960),
    ],
)
def test_widths_of_the_presets(name, selector_input, selector_output, quantizer_input, quantizer_output):
    parameters = PRESETS[name]
    assert width(payloads.selector_input(parameters)) == selector_input
    assert width(payloads.selector_output(parameters)) == selector_output
    assert width(payloads.quantizer_input(parameters)) == quantizer_input
    assert width(payloads.quantizer_output(parameters)) == quantizer_output


def test_digits_and_sums_are_signed():
    parameters = Parameters()
    assert payloads.delta_group(parameters)["digits"].shape.elem_shape.signed
    assert payloads.sum_with_poison(parameters)["sum"].shape.signed
    assert fields(payloads.sum_with_poison(parameters)) == {"sum": (0, 32), "poisoned": (32, 1)}


def test_weights_follow_their_form():
    assert width(payloads.weight(Parameters(weight_form="float"))) == 16
    assert payloads.weight(Parameters(fraction_bits=10)).width == 12
    assert payloads.weight(Parameters(fraction_bits=10)).signed


def test_channel_scale_carries_a_sum_a_scale_and_an_lsb_for_each_lane():
    parameters = Parameters(lanes=4, memory_lanes=1, accumulator_width=40)
    assert fields(payloads.channel_scale_input(parameters)) == {
        "sums": (0, 4 * 41),
        "scale": (164, 64),
        "lsb": (228, 36),
    }


def test_multiplier_group_and_near_memory_inputs():
    parameters = Parameters(lanes=4, outliers=0, memory_lanes=1, fraction_bits=10, state_width=24)
    assert fields(payloads.multiplier_group_input(parameters)) == {
        "first": (0, 1),
        "last": (1, 1),
        "scale": (2, 9),
        "group": (11, 18),
        "weights": (29, 48),
    }
    assert fields(payloads.near_memory_input(parameters)) == {
        "last": (0, 1),
        "refresh": (1, 1),
        "address": (2, 32),
        "group": (34, 18),
        "bias": (52, 96),
    }
    assert width(payloads.memory_word(Parameters(lanes=4, memory_lanes=2, state_width=24))) == 48
    assert width(payloads.memory_word(Parameters(lanes=4, memory_lanes=2, state_format="float16"))) == 32


def test_parts_of_vectors():
    parameters = Parameters(state_width=18, near_lanes=2, joint_width=12)
    assert fields(payloads.element_part(parameters)) == {"values": (0, 36), "last": (36, 1)}
    assert fields(payloads.joint_part(parameters)) == {
        "exponent": (0, 6),
        "values": (6, 24),
        "last": (30, 1),
        "end": (31, 1),
        "floor": (32, 6),
    }
    assert payloads.element_part(parameters)["values"].shape.elem_shape.signed
    assert payloads.joint_part(parameters)["values"].shape.elem_shape.signed


def test_products():
    assert fields(payloads.exact_product(13, 5)) == {"negative": (0, 1), "exponent": (1, 5), "magnitude": (6, 13)}
    assert fields(payloads.aligned_product(Parameters(fraction_bits=12))) == {
        "exponent": (0, 5),
        "significand": (5, 25),
    }
