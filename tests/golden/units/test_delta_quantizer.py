from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.parameters import Parameters
from golden.units.delta_group import DeltaGroups
from golden.units.delta_quantizer import delta_quantizer, quantise_passes

pytestmark = pytest.mark.golden

REPLAY = {"exponent_policy": "layer", "overflow_policy": "replay"}
SATURATE = {"exponent_policy": "layer", "overflow_policy": "saturate", "output_passes": 1}
CASES = [
    {"digit_width": k, "lanes": n, "outliers": m, "memory_lanes": 1, **policy}
    for k, n, m in [(2, 4, 1), (3, 4, 4), (3, 16, 1), (4, 7, 0), (5, 16, 2), (8, 60, 8), (3, 60, 4)]
    for policy in ({}, SATURATE, REPLAY)
    if m or policy is not REPLAY
]


def half(pattern: int) -> Fraction:
    sign = -1 if pattern >> 15 else 1
    field, fraction = pattern >> 10 & 31, pattern & 1023
    return sign * (Fraction(fraction, 2**24) if field == 0 else Fraction(fraction + 1024) * Fraction(2) ** (field - 25))


def pattern_of(value: Fraction) -> int:
    pattern = int(np.float16(float(value)).view(np.uint16))
    assert half(pattern) == value  # always exact, says the law
    return 0 if value == 0 else pattern


def naive(values, parameters, by_group, first_pass, exponent, floor):
    """Section 3 of the numerics, one vector, in fractions. Returns groups as tuples and what goes with them."""
    k, m, n = parameters.digit_width, parameters.outliers, parameters.lanes
    largest = 2 ** (k - 1) - 1
    empty = tuple([(False, 0, 0)] * m)
    if any(pattern >> 10 & 31 == 31 for pattern in values):
        return [(63, False, (0,) * n, empty)], [False] * n, [0x7E00] * n, floor, False
    xs = [half(pattern) for pattern in values]

    def flags(code):
        return [abs(round(x / Fraction(2) ** (code - 24))) > largest for x in xs]

    code = exponent
    if by_group and first_pass:
        code = next(c for c in range(floor, 43 - k) if sum(flags(c)) <= m)
    flag = flags(code)
    flagged = [i for i in range(n) if flag[i]]
    replay = (
        parameters.exponent_policy == "layer" and parameters.overflow_policy == "replay" and first_pass and not by_group
    )
    selected = flagged[:m] if first_pass else []
    digits, residual, saturated = [], [], False
    for i, x in enumerate(xs):
        if not flag[i]:
            q = round(x / Fraction(2) ** (code - 24))
            digits.append(q)
            residual.append(pattern_of(x - q * Fraction(2) ** (code - 24)))
            continue
        residual.append(0)
        if i in selected or replay:
            digits.append(0)
        else:
            digits.append(largest if x > 0 else -largest)
            saturated = True

    def slots(lanes):
        return tuple((True, i, values[i]) for i in lanes) + empty[len(lanes) :]

    zero = not any(digits) and not selected
    groups = [(62 if zero else code, False, tuple(digits), slots(selected))]
    if replay:
        rest = flagged[m:]
        groups += [(code, True, (0,) * n, slots(rest[i : i + m])) for i in range(0, len(rest), m)]
    return groups, flag, residual, max(code - (k - 1), floor), saturated


def rows(groups: DeltaGroups):
    for g in range(len(groups)):
        slots = zip(groups.outlier_valid[g], groups.outlier_lane[g], groups.outlier_value[g], strict=True)
        yield (
            int(groups.exponent[g]),
            bool(groups.replay[g]),
            tuple(groups.digits[g].tolist()),
            tuple((bool(v), int(lane), int(x)) for v, lane, x in slots),
        )


def compare(values, parameters, by_group, first_pass, exponent, floor):
    got = delta_quantizer(values, parameters, by_group=by_group, first_pass=first_pass, exponent=exponent, floor=floor)
    groups = list(rows(got.groups))
    saturated = False
    index = 0
    for v in range(len(values)):
        expected, flag, residual, following, stuck = naive(
            [int(x) for x in values[v]],
            parameters,
            bool(by_group[v]),
            bool(first_pass[v]),
            int(exponent[v]),
            int(floor[v]),
        )
        saturated |= stuck
        for number, group in enumerate(expected):
            assert groups[index] == group
            assert got.vector[index] == v
            assert got.last[index] == (number == len(expected) - 1)
            assert got.overflow[index].tolist() == flag
            assert got.residual[index].tolist() == residual
            assert got.next_exponent[index] == following
            index += 1
    assert index == len(groups)
    poisoned = bool((values & 0x7C00 == 0x7C00).any())
    assert got.status == {"saturated": saturated, "poisoned": poisoned}
    got.groups.check(parameters)


def vectors(rng, count, n):
    """Patterns of neighbouring exponents, with corners: zeros, subnormals, the largest, infinities, NaN, exact ties."""
    exponent = rng.integers(0, 31, (count, 1)) - rng.geometric(0.4, (count, n)) + 1
    bits = (np.clip(exponent, 0, 30) << 10) | rng.integers(0, 1024, (count, n))
    bits |= rng.integers(0, 2, (count, n)) << 15
    corner = np.array([0, 0x8000, 1, 0x8001, 0x3FF, 0x400, 0x7BFF, 0xFBFF, 0x4000, 0x4300, 0x4200, 0x3800])
    bits = np.where(rng.random((count, n)) < 0.15, rng.choice(corner, (count, n)), bits)
    odd = rng.choice([0x7C00, 0xFC00, 0x7E00, 0x7C01], (count, n))
    bits = np.where(rng.random((count, n)) < 0.002, odd, bits)
    bits[rng.random(count) < 0.05] = 0
    return bits.astype(np.uint16)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_against_fractions(case):
    parameters = Parameters(**case)
    rng = np.random.default_rng(7)
    count = 60 if parameters.lanes > 16 else 150
    values = vectors(rng, count, parameters.lanes)
    top = 43 - parameters.digit_width
    near = np.clip(
        (values[:, 0] >> 10 & 31) + 24 - 15 - parameters.digit_width + rng.integers(-2, 4, count), 0, top - 1
    )
    compare(
        values,
        parameters,
        rng.random(count) < 0.4,
        rng.random(count) < 0.7,
        near,
        np.where(rng.random(count) < 0.5, 0, rng.integers(0, top, count)),
    )


@settings(deadline=None, max_examples=60)
@given(
    st.integers(2, 8),
    st.integers(0, 4),
    st.lists(st.lists(st.integers(0, 0xFFFF), min_size=4, max_size=4), min_size=1, max_size=4),
    st.booleans(),
    st.integers(0, 34),
)
def test_any_patterns(k, m, values, by_group, floor):
    parameters = Parameters(digit_width=k, outliers=m, lanes=4)
    values = np.array(values, np.uint16)
    ones = np.ones(len(values), bool)
    compare(values, parameters, ones * by_group, ones, ones * floor, ones * floor)


@pytest.mark.parametrize("k", [2, 3, 4, 8])
def test_threshold_of_every_pattern(k):
    """OF holds exactly from (2^k - 1) 2^(e-1) on, for every finite FP16 value and every exponent."""
    parameters = Parameters(digit_width=k, lanes=4, outliers=0)
    patterns = np.arange(0x7C00, dtype=np.uint16)
    values = np.repeat(patterns[:, None], 4, axis=1) | np.array([0, 0x8000, 0, 0x8000], np.uint16)
    magnitude = patterns.view(np.float16).astype(np.float64)
    for code in range(0, 43 - k, 3):
        got = delta_quantizer(values, parameters, by_group=False, exponent=code)
        assert np.array_equal(got.overflow[:, 0], magnitude >= (2**k - 1) * 2.0 ** (code - 25))
        exact = np.clip(np.rint(magnitude / 2.0 ** (code - 24)), 0, 2 ** (k - 1) - 1)  # rint: ties to even
        assert np.array_equal(got.groups.digits[:, 0], exact) and np.array_equal(got.groups.digits[:, 1], -exact)


def test_worked_vector():
    parameters = Parameters(digit_width=3, lanes=4, outliers=1)
    values = np.array([[1.0, -3.4, 100.0, 3.6]], np.float16).view(np.uint16)
    got = delta_quantizer(values, parameters)
    # At e = 0 lanes 2 and 3 overflow (3.6 >= 3.5); at e = 1 only lane 2.
    assert got.groups.exponent.tolist() == [25]
    assert got.groups.digits.tolist() == [[0, -2, 0, 2]]
    assert got.groups.outlier_lane.tolist() == [[2]]
    assert got.groups.dequantise().tolist() == [[0.0, -4.0, 100.0, 4.0]]
    assert got.next_exponent.tolist() == [23]


def test_passes_lose_at_most_half_of_the_last_step():
    parameters = Parameters(digit_width=3, lanes=16, outliers=1)
    rng = np.random.default_rng(3)
    values = vectors(rng, 2000, 16)
    values = values[(values & 0x7C00 != 0x7C00).all(axis=1)]
    for passes in (1, 2, 4):
        groups = quantise_passes(values, parameters, passes, floor=2).groups
        assert len(groups) == passes * len(values)
        total = groups.dequantise().reshape(len(values), passes, 16).sum(axis=1)
        first = delta_quantizer(values, parameters, floor=2)
        if passes == 1:
            last = np.where(first.groups.zero, 2, first.groups.exponent).astype(int)  # nothing overflows at the floor
        else:
            last = np.maximum(first.next_exponent.astype(int) - 2 * (passes - 2), 2)
        error = np.abs(total - values.view(np.float16).astype(np.float64))
        assert (error <= 2.0 ** (last - 25)[:, None]).all()


def test_passes_are_each_the_quantiser():
    parameters = Parameters(digit_width=3, lanes=4, outliers=1, **REPLAY)
    rng = np.random.default_rng(5)
    values = vectors(rng, 300, 4)
    groups = list(rows(quantise_passes(values, parameters, 3, floor=3, exponent=20).groups))
    index = 0
    for v in range(300):
        current, code = [int(x) for x in values[v]], 20
        for number in range(3):
            expected, _, current, code, _ = naive(current, parameters, False, number == 0, code, 3)
            assert groups[index : index + len(expected)] == expected
            index += len(expected)
    assert index == len(groups)


def test_no_vectors():
    got = delta_quantizer(np.zeros((0, 16), np.uint16), Parameters())
    assert len(got.groups) == 0 and got.status == {"saturated": False, "poisoned": False}


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"^Values must have the shape \(vectors, 16\), not \(1, 4\)$"):
        delta_quantizer(np.zeros((1, 4), np.uint16), Parameters())
    with pytest.raises(ValueError, match=r"^Codes of floor must be in 0\.\.39, not 40$"):
        delta_quantizer(np.zeros((1, 16), np.uint16), Parameters(), floor=40)
    with pytest.raises(ValueError, match=r"^Codes of exponent must be in 0\.\.39, not -1$"):
        delta_quantizer(np.zeros((1, 16), np.uint16), Parameters(), exponent=-1)
    with pytest.raises(ValueError, match=r"^passes must be a positive integer, not 0$"):
        quantise_passes(np.zeros((1, 16), np.uint16), Parameters(), 0)
