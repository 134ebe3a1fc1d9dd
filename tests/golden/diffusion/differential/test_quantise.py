"""The fast quantiser against the units' own, digit for digit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.diffusion.differential.quantise import Grouping, half, quantise
from golden.parameters import Parameters
from tests.golden.diffusion.differential.walks import halves, tensor, units, vectors

pytestmark = pytest.mark.golden

LAYER = {"exponent_policy": "layer", "output_passes": 1}
POLICIES = {
    "group": {},
    "saturate": {**LAYER, "overflow_policy": "saturate"},
    "replay": {**LAYER, "overflow_policy": "replay"},
}


def machine(k, m, n=8, policy="group"):
    return Parameters(digit_width=k, lanes=n, outliers=m, memory_lanes=1, **POLICIES[policy])


def agree(values, axis, segments, parameters, passes, floor, exponent=None):
    sent = quantise(
        values, Grouping(axis, segments, parameters.lanes), parameters, passes=passes, floor=floor, exponent=exponent
    )
    options = {"floor": floor + 24, "by_group": exponent is None, "exponent": 24 + (exponent or 0)}
    result, expected = units(values, axis, segments, parameters, passes, **options)
    np.testing.assert_array_equal(sent.values, expected)
    groups, n = result.groups, parameters.lanes
    first = np.flatnonzero(np.diff(result.vector, prepend=-1))
    # exponents of pass 0 of the groups that have any, and the lanes that travel as outliers
    position = sent.exponent.ndim + axis  # axis of lanes; groups of a position stand before it
    e = np.moveaxis(np.squeeze(sent.exponent, position), position - 1, -1).ravel()
    used = ~groups.zero[first]
    np.testing.assert_array_equal(e[used], groups.exponent[first][used].astype(int) - 24)
    carried = np.zeros((len(first), n), bool)
    rows, slots = np.nonzero(groups.outlier_valid)
    carried[result.vector[rows], groups.outlier_lane[rows, slots]] = True
    exact = np.zeros_like(sent.values, bool)
    if sent.exact is not None:
        exact = Grouping(axis, segments, n).join(sent.exact)
    np.testing.assert_array_equal(exact, tensor(carried, values.shape, axis, segments, n))
    assert bool(sent.saturated) == result.status["saturated"]
    return sent


SHAPES = {
    "channels": ((2, 16, 3, 2), -3, (16,)),
    "uneven channels": ((2, 11, 3, 2), -3, (11,)),
    "few channels": ((2, 5, 3, 2), -3, (5,)),
    "segments": ((2, 20, 3, 1), -3, (9, 11)),
    "short segments": ((2, 10, 2, 2), -3, (5, 5)),
    "segments of two lengths": ((1, 11, 2, 2), -3, (8, 3)),
    "tokens": ((2, 7, 24), -1, (24,)),
    "second operand": ((2, 2, 13, 5), -2, (13,)),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("k", range(2, 9))
def test_groups_choose_their_exponents(name, k):
    shape, axis, segments = SHAPES[name]
    rng = np.random.default_rng(k)
    for m in (0, 1, 2, 3):
        for passes, floor in ((1, -24), (2, -9), (3, -12), (4, -24)):
            agree(halves(rng, shape), axis, segments, machine(k, m), passes, floor)


@pytest.mark.parametrize("policy", ["saturate", "replay"])
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("k", [2, 3, 4, 8])
def test_the_layer_gives_the_exponent(name, policy, k):
    shape, axis, segments = SHAPES[name]
    rng = np.random.default_rng(k)
    for m in (0, 1, 3):
        if m or policy != "replay":
            for passes, floor, exponent in ((1, -24, -6), (1, -10, -10), (2, -12, -3), (3, -24, 2), (1, -24, 18 - k)):
                agree(halves(rng, shape), axis, segments, machine(k, m, policy=policy), passes, floor, exponent)


def test_an_exponent_below_the_floor_is_raised_to_it():
    values = halves(np.random.default_rng(0), (2, 16))
    grouping, parameters = Grouping(-1, (16,), 8), machine(3, 1, policy="saturate")
    low, level = (quantise(values, grouping, parameters, floor=-6, exponent=e) for e in (-12, -6))
    np.testing.assert_array_equal(low.values, level.values)
    np.testing.assert_array_equal(low.exponent, level.exponent)


@pytest.mark.parametrize("k", range(2, 9))
def test_every_threshold_and_its_neighbours(k):
    """Where a lane just overflows or just does not, of every exponent."""
    borders = np.array([(2**k - 1) * 2.0 ** (e - 1) for e in range(-24, 19 - k)])
    borders = borders[borders <= 65504].astype(np.float16)
    near = np.concatenate([borders, np.nextafter(borders, np.float16(0)), np.nextafter(borders, np.float16(60000))])
    near = np.concatenate([near, -near]).astype(np.float32)
    values = np.zeros((len(near), 8), np.float32)
    values[:, 3] = near
    agree(values, -1, (8,), machine(k, 0), 1, -24)
    agree(values, -1, (8,), machine(k, 1), 2, -24)
    for exponent in (-24, -3, 18 - k):
        agree(values, -1, (8,), machine(k, 1, policy="saturate"), 1, -24, exponent)


def test_zeros_and_ties():
    parameters = machine(3, 0)
    sent = agree(np.zeros((2, 16), np.float32), -1, (16,), parameters, 2, -10)
    assert (sent.exponent == -10).all() and not sent.values.any()
    # at e = 0 (3.25 overflows there no more than 3 does): ties to even
    values = np.array([[3.25, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0]], np.float32)
    sent = agree(values, -1, (8,), parameters, 1, 0)
    assert sent.values.tolist() == [[3, 0, 2, 2, 0, -2, -2, 0]]


@settings(deadline=None, max_examples=60, print_blob=True)
@given(st.data())
def test_any_tensor(data):
    """Hypothesis prints the seed of what fails."""
    draw = data.draw
    k, m, n = draw(st.integers(2, 8)), draw(st.integers(0, 3)), draw(st.integers(4, 9))
    policy = draw(st.sampled_from(["group", "saturate", "replay"] if m else ["group", "saturate"]))
    segments = tuple(draw(st.lists(st.integers(1, 2 * n), min_size=1, max_size=3)))
    axis = draw(st.sampled_from([-1, -2, -3]))
    shape = [2, 2, 2]
    shape[axis] = sum(segments)
    passes, floor = draw(st.integers(1, 4)), draw(st.integers(-24, 0))
    exponent = None if policy == "group" else draw(st.integers(floor, 18 - k))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    agree(halves(rng, tuple(shape)), axis, segments, machine(k, m, n, policy), passes, floor, exponent)


def test_passes_may_differ_from_item_to_item():
    values = halves(np.random.default_rng(1), (3, 16, 2, 2))
    grouping, parameters = Grouping(-3, (16,), 8), machine(3, 0)
    count = np.array([1, 3, 2]).reshape(3, 1, 1, 1, 1)
    sent = quantise(values, grouping, parameters, passes=count, floor=-14)
    for item, passes in enumerate((1, 3, 2)):
        alone = quantise(values[[item]], grouping, parameters, passes=passes, floor=-14)
        np.testing.assert_array_equal(sent.values[[item]], alone.values)
        np.testing.assert_array_equal(sent.last[[item]], alone.last)


def test_outliers_may_differ_from_the_machine():
    values = halves(np.random.default_rng(2), (2, 16))
    sent = quantise(values, Grouping(-1, (16,), 8), machine(5, 2), outliers=0, passes=2)
    np.testing.assert_array_equal(sent.values, units(values, -1, (16,), machine(5, 0), 2)[1])


# Joint form ---------------------------------------------------------------------------------------------------------


def joint_walk(row, k, finer, floor):
    """One group by the rule of docs/formats.md, joint stream: exponent, last exponent and integers Q."""
    for e in range(floor, 40):
        r = min(finer, e - floor)
        q = [round(float(x) / 2.0 ** (e - r)) for x in row]  # exact: a power of two; round is to even
        if all(2 * abs(x) < (2**k - 1) * 2**r for x in q):
            return e, e - r, q
    raise AssertionError


def joint_agrees(values, k, finer, floor, n=8):
    sent = quantise(values, Grouping(-1, (values.shape[-1],), n), machine(k, 0, n), finer=finer, floor=floor)
    rows = vectors(values, -1, (values.shape[-1],), n)
    found = [joint_walk(row, k, finer, floor) for row in rows]
    np.testing.assert_array_equal(sent.exponent.ravel(), [e for e, _, _ in found])
    np.testing.assert_array_equal(sent.last.ravel(), [last for _, last, _ in found])
    expected = np.array([np.array(q) * 2.0**last for _, last, q in found])
    np.testing.assert_array_equal(sent.values, tensor(expected, values.shape, -1, (values.shape[-1],), n))


@pytest.mark.parametrize("k", range(2, 9))
def test_joint_form_is_one_rounding_at_the_last_step(k):
    rng = np.random.default_rng(k)
    for finer in (0, 1, 3, 10, 16 - k):
        for floor in (-24, -12, -5):
            joint_agrees(halves(rng, (12, 16)), k, finer, floor)


@pytest.mark.parametrize("k", range(2, 9))
def test_a_group_that_rounds_up_to_the_border_takes_the_next_exponent(k):
    """The largest lane is less than ``(2^k - 1) 2^(e-1)``, and is not any more once it is rounded."""
    for e in range(1, 5):
        border = (2**k - 1) * 2.0 ** (e - 1)
        near = np.nextafter(np.float16(border), np.float16(0)).astype(np.float32)
        if round(float(near)) != border:
            assert e > 1
            continue
        values = np.zeros((2, 8), np.float32)
        values[0, 2], values[1, 5] = near, -near
        joint_agrees(values, k, 4, 0)
        sent = quantise(values, Grouping(-1, (8,), 8), machine(k, 0), finer=4, floor=0)
        assert (sent.exponent == e + 1).all()
        alone = quantise(values, Grouping(-1, (8,), 8), machine(k, 0), floor=0)
        assert (alone.exponent == e).all()


def test_half_rounds_and_clamps():
    values = np.array([1.0, 2049.0, 2051.0, 70000.0, -1e9, 2.0**-26], np.float32)
    assert half(values).tolist() == [1, 2048, 2052, 65504, -65504, 0]
