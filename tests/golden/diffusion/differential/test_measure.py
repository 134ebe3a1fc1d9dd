"""Figures of what is sent against the streams that the units write."""

import dataclasses

import numpy as np
import pytest

from golden.diffusion.differential.measure import Measure, Row, count
from golden.diffusion.differential.quantise import Grouping, Passes, quantise
from golden.formats import half_to_fixed
from golden.parameters import Parameters
from golden.units.delta_compressor import cost
from golden.units.joint_stream import JointStream
from tests.golden.diffusion.differential.walks import halves, patterns, units, vectors

pytestmark = pytest.mark.golden

LAYER = {"exponent_policy": "layer", "output_passes": 1}


def machine(k, m, n=8, **more):
    return Parameters(digit_width=k, lanes=n, outliers=m, memory_lanes=1, link_width=32, **more)


def padding(groups, parameters):
    """What is counted for it: half a word a block. The true padding is less than a word a block."""
    return -(-groups // 64) * parameters.link_width / 2


SHAPES = {
    "channels": ((3, 20, 7, 2), -3, (20,)),
    "segments": ((3, 20, 3, 3), -3, (9, 11)),
    "tokens": ((3, 17, 24), -1, (24,)),
    "second operand": ((2, 2, 13, 11), -2, (13,)),
    "few channels": ((9, 5, 4, 3), -3, (5,)),
}


def smooth(rng, shape):
    """Values whose exponents wander; some vectors are 0."""
    values = halves(rng, shape, -2, 1) * np.exp2(rng.integers(-6, 3, (shape[0],) + (1,) * (len(shape) - 1)))
    values = np.where(rng.random(values.shape[:1] + (1,) + values.shape[2:]) < 0.3, 0, values)
    return values.astype(np.float16).astype(np.float32)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("k, m", [(2, 0), (3, 0), (3, 2), (4, 1), (5, 0), (8, 3)])
@pytest.mark.parametrize("passes", [1, 2, 3, 4])
def test_bits_are_those_of_the_compressor(name, k, m, passes):
    shape, axis, segments = SHAPES[name]
    rng = np.random.default_rng(10 * k + passes)
    parameters = machine(k, m)
    values = smooth(rng, shape)
    sent = quantise(values, Grouping(axis, segments, 8), parameters, passes=passes, floor=-24)
    row = count(sent, Grouping(axis, segments, 8), parameters, m)
    result, _ = units(values, axis, segments, parameters, passes)
    expected = cost(result.groups, parameters, passes=passes)
    assert row.bits - padding(row.groups, parameters) == expected.bits - expected.padding
    assert row.groups == len(result.groups) and row.zero_groups == result.groups.zero.sum()
    assert row.outliers == result.groups.outlier_valid.sum()
    assert row.elements == values.size and row.digits == passes * values.size
    assert row.vectors == len(result.groups) // passes
    digits = result.groups.digits  # padding lanes have digit 0; they are no elements
    assert row.zeros == row.digits - np.count_nonzero(digits) - row.outliers


@pytest.mark.parametrize("k, bits", [(2, 1), (3, 1), (4, 2), (8, 6)])
def test_bits_and_clocks_of_lanes_by_hand(k, bits):
    """One channel in groups of 8: seven lanes of each group that is not zero are padding, a digit of 0 each."""
    parameters, grouping = machine(k, 0), Grouping(-3, (1,), 8)
    values = np.zeros((1, 1, 5, 3), np.float32)
    values[0, 0, :, 1] = 1.5
    row = count(quantise(values, grouping, parameters, floor=-24), grouping, parameters, 0)
    assert row.padding == row.joint_padding == 5 * 7 * bits
    assert row.clocks == 15
    full = Grouping(-1, (8,), 8)
    row = count(quantise(np.ones((5, 8), np.float32), full, parameters, passes=2, floor=-24), full, parameters, 0)
    assert row.padding == row.joint_padding == 0 and row.clocks == 2 * 40


@pytest.mark.parametrize("overflow", ["saturate", "replay"])
@pytest.mark.parametrize("k, m, passes", [(3, 1, 1), (3, 2, 2), (4, 3, 3), (2, 1, 4)])
def test_bits_under_the_exponent_of_a_layer(overflow, k, m, passes):
    """Replay groups wherever they fall, the first places of blocks included."""
    parameters = machine(k, m, overflow_policy=overflow, **LAYER)
    for seed in range(6):
        values = halves(np.random.default_rng(seed), (3, 20, 7, 2), -8, 2)
        grouping = Grouping(-3, (20,), 8)
        sent = quantise(values, grouping, parameters, passes=passes, floor=-24, exponent=-4)
        row = count(sent, grouping, parameters, m)
        result, _ = units(values, -3, (20,), parameters, passes, by_group=False, exponent=20)
        expected = cost(result.groups, parameters, passes=passes)
        assert row.bits - padding(row.groups, parameters) == expected.bits - expected.padding
        assert row.groups == len(result.groups)
        if overflow == "replay":
            assert row.saturated == 0 and row.groups > passes * row.vectors
        else:
            assert row.saturated > 0


def test_passes_that_nobody_needs_are_not_sent():
    """Close to the floor the second pass finishes what a third would leave at zero."""
    values = smooth(np.random.default_rng(3), (3, 16, 4, 2))
    grouping, parameters = Grouping(-3, (16,), 8), machine(4, 0)
    e = int(np.frexp(np.abs(values).max())[1])
    sent = quantise(values, grouping, parameters, passes=4, floor=e - 4)
    row = count(sent, grouping, parameters, 0)
    assert row.digits == 2 * values.size
    result, _ = units(values, -3, (16,), parameters, 2, floor=e - 4 + 24)
    expected = cost(result.groups, parameters, passes=2)
    assert row.bits - padding(row.groups, parameters) == expected.bits - expected.padding


@pytest.mark.parametrize("k", range(2, 9))
@pytest.mark.parametrize("width, floor", [(13, -24), (13, -9), (10, -4), (16, -14), (8, -24)])
def test_joint_bits_are_those_of_the_joint_stream(k, width, floor):
    rng = np.random.default_rng(k)
    parameters = machine(k, 0)
    for name in SHAPES:
        shape, axis, segments = SHAPES[name]
        values = np.where(rng.random(shape) < 0.5, smooth(rng, shape), halves(rng, shape, -10, 0))
        grouping = Grouping(axis, segments, 8)
        sent = quantise(values, grouping, parameters, finer=width - k, floor=floor)
        row = count(sent, grouping, parameters, 0)
        joint = JointStream(parameters, width, floor + 24)
        groups, _ = joint.quantise(half_to_fixed(vectors(patterns(values), axis, segments, 8)))
        words = joint.encode(groups)
        lengths, position = [], 0
        while position < len(words):
            lengths.append(32 + (words[position] >> 14))
            position += -(-lengths[-1] // 32)
        assert row.joint - padding(len(groups), parameters) == sum(lengths)
        assert abs(row.joint - 32 * len(words)) <= padding(len(groups), parameters)
        # and the integers are the same, so what the two make of a tensor is
        np.testing.assert_array_equal(
            vectors(sent.values, axis, segments, 8).astype(np.float64), joint.fixed(groups) * 2.0**-24
        )


def test_one_scale_for_a_tensor_costs_its_digits_and_the_scale():
    values = np.ones((2, 16), np.float32)
    row = count(Passes(values, values.reshape(2, 2, 8), None, None, None, 0), Grouping(-1, (16,), 8), machine(8, 0), 0)
    assert row.bits == row.joint == 32 * 8 + 2 * 16 and row.elements == row.digits == 32


@pytest.mark.parametrize("m", [0, 2])
def test_entropy_is_that_of_the_digits_pass_by_pass(m):
    parameters = machine(3, m)
    values = halves(np.random.default_rng(5), (2, 16, 5, 2), -6, 0)
    sent = quantise(values, Grouping(-3, (16,), 8), parameters, passes=2)
    row = count(sent, Grouping(-3, (16,), 8), parameters, m)
    result, _ = units(values, -3, (16,), parameters, 2)
    expected = 0.0
    for number in range(2):
        digits = result.groups.digits[number::2].ravel()
        for digit in range(-3, 4):
            share = np.mean(digits == digit)
            expected -= share * np.log2(share) * digits.size if share else 0.0
    assert row.entropy == pytest.approx(expected + row.outliers * (3 + 16), rel=1e-9)


def test_rows_add_up():
    rng = np.random.default_rng(0)
    rows = [Row(*(int(x) for x in rng.integers(0, 9, len(dataclasses.fields(Row))))) for _ in range(3)]
    total = sum(rows, Row())
    for field in dataclasses.fields(Row):
        assert getattr(total, field.name) == sum(getattr(row, field.name) for row in rows)


def test_a_measure_collects_by_step_and_name():
    parameters, grouping = machine(3, 1), Grouping(-1, (16,), 8)
    values = halves(np.random.default_rng(1), (2, 16))
    sent = quantise(values, grouping, parameters)
    joint = quantise(values, grouping, parameters, outliers=0, finer=4)
    measure = Measure(parameters)
    measure.sent(0, "a", sent, grouping)
    measure.sent(1, "a", sent, grouping)
    measure.sent(1, "b", sent, grouping)
    measure.output(1, "c", joint, grouping)
    one = count(sent, grouping, parameters, 1)
    assert measure.inputs[0, "a"] == measure.inputs[1, "b"] == one
    assert measure.outputs == {(1, "c"): count(joint, grouping, parameters, 0)}
    assert measure.total(measure.inputs) == one + one + one
    assert measure.total(measure.inputs, steps=[0]) == one
    assert measure.total(measure.inputs, steps=[7]) == Row()


def test_groups_of_the_open_loop_have_outliers():
    parameters, grouping = machine(3, 2, **LAYER), Grouping(-1, (16,), 8)
    sent = quantise(halves(np.random.default_rng(1), (40, 16)), grouping, parameters)
    measure = Measure(parameters)
    measure.output(1, "a", sent, grouping, outliers=2)
    assert measure.outputs == {(1, "a"): count(sent, grouping, parameters, 2)}
    assert measure.outputs[1, "a"].outliers > 0
