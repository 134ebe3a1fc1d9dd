from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.parameters import PRESETS, Parameters
from golden.units.delta_group import DeltaGroups
from golden.units.delta_quantizer import delta_quantizer
from golden.units.multiplier_group import multiplier_group
from golden.units.weights import align_weights

pytestmark = pytest.mark.golden


def half(pattern: int) -> Fraction:
    return Fraction(float(np.uint16(pattern).view(np.float16)))


def weight(pattern: int, name: str) -> Fraction:
    if name == "float16":
        return half(pattern)
    return Fraction(float((np.uint32(pattern) << np.uint32(16)).view(np.float32)))


def weights_of(rng, shape, parameters):
    """Finite patterns of the declared range with neighbouring exponents, some subnormal, zero or of either end."""
    name = parameters.weight_format
    f, bias = (10, 15) if name == "float16" else (7, 127)
    low, high = parameters.weight_exponent_min + bias, parameters.weight_exponent_max + bias
    if parameters.weight_form == "aligned":
        low, high = 1, 2 * bias
    field = rng.integers(low, high + 1, (*shape[:-1], 1)) - rng.geometric(0.3, shape) + 1
    field = np.clip(field, low, high)
    field = np.where(rng.random(shape) < 0.05, rng.integers(low, high + 1, shape), field)
    bits = field << f | rng.integers(0, 2**f, shape)
    if low == 1:
        bits = np.where(rng.random(shape) < 0.05, rng.integers(0, 2**f, shape), bits)  # subnormals
    bits = np.where(rng.random(shape) < 0.05, 0, bits)
    return (bits | rng.integers(0, 2, shape) << 15).astype(np.uint16)


def groups_of(rng, count, parameters):
    n = parameters.lanes
    field = rng.integers(0, 31, (count, 1)) - rng.geometric(0.3, (count, n)) + 1
    bits = np.clip(field, 0, 30) << 10 | rng.integers(0, 1024, (count, n)) | rng.integers(0, 2, (count, n)) << 15
    bits[rng.random(count) < 0.1] = 0
    bits[rng.random(count) < 0.03, 0] = 0x7C00
    code = np.clip(
        field[:, 0] + 9 - parameters.digit_width + rng.integers(-1, 3, count), 0, 42 - parameters.digit_width
    )
    by_group = parameters.exponent_policy == "group"
    return delta_quantizer(bits.astype(np.uint16), parameters, by_group=by_group, exponent=code).groups


def naive(groups, integers, parameters, scale, first, last):
    """Section 7 in fractions, from the dequantised values."""
    width = parameters.accumulator_width
    low, high = -(2 ** (width - 1)), 2 ** (width - 1) - 1
    total, poisoned, overflow, sums = 0, False, False, []
    for g in range(len(groups)):
        value = Fraction(0)
        if groups.exponent[g] < 62:
            step = Fraction(2) ** (int(groups.exponent[g]) - 24)
            for i in range(groups.lanes):
                value += int(groups.digits[g, i]) * int(integers[g, i]) * step
            for j in range(groups.outliers):
                if groups.outlier_valid[g, j]:
                    lane = int(groups.outlier_lane[g, j])
                    value += half(int(groups.outlier_value[g, j])) * int(integers[g, lane])
        rounded = round(value * Fraction(2) ** int(scale[g]))
        total = rounded if first[g] else total + rounded
        clamped = min(max(total, low), high)
        overflow |= clamped != total
        total = clamped
        poisoned = (poisoned and not first[g]) or groups.exponent[g] == 63
        if last[g]:
            sums.append((0 if poisoned else total, bool(poisoned)))
    return sums, overflow


CASES = {
    "edge": PRESETS["edge"],
    "tiny, narrow": Parameters(lanes=4, fraction_bits=10, accumulator_width=16, memory_lanes=2),
    "wide": Parameters(digit_width=8, lanes=5, outliers=5, fraction_bits=16, accumulator_width=128, memory_lanes=1),
    "63 bits": Parameters(digit_width=4, lanes=7, outliers=2, fraction_bits=16, accumulator_width=63, memory_lanes=1),
    "paper": PRESETS["paper"],
    "float16 128": Parameters(weight_form="float", accumulator_width=128, digit_width=5, outliers=2),
    "bfloat16 all": Parameters(
        weight_form="float",
        weight_format="bfloat16",
        weight_exponent_min=-126,
        weight_exponent_max=127,
        accumulator_width=96,
    ),
    "bfloat16 near 1": Parameters(
        weight_form="float", weight_format="bfloat16", weight_exponent_min=-12, weight_exponent_max=2, lanes=8
    ),
    "bfloat16 aligned": Parameters(weight_format="bfloat16", fraction_bits=7, accumulator_width=24, outliers=0),
    "replay": Parameters(exponent_policy="layer", overflow_policy="replay", outliers=2, lanes=8, accumulator_width=40),
}


@pytest.mark.parametrize("name", CASES)
def test_against_fractions(name):
    parameters = CASES[name]
    rng = np.random.default_rng(11)
    groups = groups_of(rng, 250 if parameters.lanes < 32 else 80, parameters)
    count = len(groups)
    weights = weights_of(rng, (count, parameters.lanes), parameters)
    if parameters.weight_form == "aligned":
        weights, _ = align_weights(weights, parameters)
        integers = weights.astype(object)
    else:
        unit_of = Fraction(2) ** parameters.weight_lsb
        integers = np.array(
            [[int(weight(int(w), parameters.weight_format) / unit_of) for w in row] for row in weights], object
        )
    # Scales that bring sums near the window, some far off.
    size = np.abs(groups.dequantise()).max(axis=1)
    size = np.where(np.isfinite(size) & (size > 0), size, 1)
    top = np.array([max(int(abs(w).max()), 1).bit_length() for w in integers])
    scale = parameters.accumulator_width - np.log2(size).astype(int) - top - rng.integers(1, 8, count)
    scale = np.where(rng.random(count) < 0.1, rng.integers(-220, 221, count), scale)
    scale = np.clip(scale, -220, 220)
    first = rng.random(count) < 0.3
    last = rng.random(count) < 0.4
    got = multiplier_group(groups, weights, parameters, scale=scale, first=first, last=last)
    expected, overflow = naive(groups, integers, parameters, scale, first, last)
    assert [(int(s), bool(p)) for s, p in zip(got.sum, got.poisoned, strict=True)] == expected
    assert got.status == {"overflow": overflow, "poisoned": bool((groups.exponent == 63).any())}
    assert got.sum.dtype == (object if parameters.accumulator_width > 63 else np.int64)
    assert any(s for s, _ in expected) and any(p for _, p in expected) and overflow


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_clamping_in_order(data):
    """Clamping happens after each group: the same groups in another order may give another sum."""
    parameters = Parameters(lanes=4, outliers=0, accumulator_width=16, fraction_bits=10, memory_lanes=1)
    count = data.draw(st.integers(1, 12))
    digits = data.draw(st.lists(st.integers(-3, 3), min_size=count, max_size=count))
    weights = data.draw(st.lists(st.integers(-2047, 2047), min_size=count, max_size=count))
    first = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    code = data.draw(st.lists(st.integers(20, 30), min_size=count, max_size=count))
    groups = DeltaGroups.zeros(count, parameters).replace(
        exponent=np.array(code), digits=np.array([[q, 0, 0, 0] for q in digits])
    )
    rows = np.array([[w, 0, 0, 0] for w in weights])
    last = np.ones(count, bool)
    got = multiplier_group(groups, rows, parameters, scale=0, first=first, last=last)
    expected, overflow = naive(groups, rows, parameters, np.zeros(count, int), first, last)
    assert [(int(s), bool(p)) for s, p in zip(got.sum, got.poisoned, strict=True)] == expected
    assert got.status["overflow"] == overflow


def test_products_past_64_bits():
    """An outlier times a float weight in units of 2^-24 times 2^-24: 66 bits and more, beside a small neighbour."""
    parameters = Parameters(lanes=4, weight_form="float", accumulator_width=128, memory_lanes=1)
    groups = DeltaGroups.zeros(3, parameters).replace(
        exponent=np.full(3, 24),
        digits=np.array([[0, 1, 0, 0]] * 3),
        outlier_valid=np.ones((3, 1)),
        outlier_value=np.array([[0x6400], [0x7BFF], [0x0001]]),
    )
    weights = np.array([0x5C00, 0x0001, 0, 0], np.uint16)  # 256 and 2^-24
    got = multiplier_group(groups, weights, parameters, scale=24)
    assert got.sum.tolist() == [(2**66 + 2**24), 65504 * 2**56 + 2**24, 2**32 + 2**24]


def test_poison_lasts_until_first():
    parameters = Parameters(lanes=4, outliers=0, memory_lanes=1)
    good = DeltaGroups.zeros(1, parameters).replace(exponent=np.array([24]), digits=np.array([[1, 0, 0, 0]]))
    bad = DeltaGroups.poison(1, parameters)
    stream = DeltaGroups.concatenate([good, bad, good, good, bad, good])
    got = multiplier_group(
        stream, np.array([5, 0, 0, 0]), parameters, scale=0, first=[1, 0, 0, 1, 0, 1], last=[0, 1, 1, 1, 1, 1]
    )
    assert got.poisoned.tolist() == [True, True, False, True, False]
    assert got.sum.tolist() == [0, 0, 5, 0, 5]
    assert got.status == {"overflow": False, "poisoned": True}


def test_bad_weights():
    floats = Parameters(lanes=4, weight_form="float", weight_exponent_min=-5, weight_exponent_max=1, memory_lanes=1)
    good = np.full(4, 0x3C00, np.uint16)
    groups = DeltaGroups.zeros(1, floats)
    multiplier_group(groups, good, floats, scale=0)
    for pattern in (0x4400, 0x2400, 0x0001):
        with pytest.raises(
            ValueError,
            match=rf"^Weights must be zero or have exponents in -5\.\.1 and be multiples of 2\^-15, "
            rf"not the float16 pattern 0x{pattern:04x}$",
        ):
            multiplier_group(groups, np.array([0x3C00, pattern, 0, 0]), floats, scale=0)
    with pytest.raises(ValueError, match="^Weights must be finite, not the float16 pattern 0x7c00$"):
        multiplier_group(groups, np.array([0x7C00, 0, 0, 0]), floats, scale=0)
    aligned = Parameters(lanes=4, memory_lanes=1)
    with pytest.raises(ValueError, match=r"^Aligned weights must be in -8191\.\.8191, not 8192$"):
        multiplier_group(DeltaGroups.zeros(1, aligned), np.array([8192, 0, 0, 0]), aligned, scale=0)
    with pytest.raises(ValueError, match=r"^scale must be in -220\.\.220, not 221$"):
        multiplier_group(DeltaGroups.zeros(1, aligned), np.zeros(4, int), aligned, scale=221)
    with pytest.raises(ValueError, match=r"^Weights must have the shape \(1, 4\) or \(4,\), not \(3,\)$"):
        multiplier_group(DeltaGroups.zeros(1, aligned), np.zeros(3, int), aligned, scale=0)


def test_no_groups():
    parameters = Parameters()
    got = multiplier_group(DeltaGroups.zeros(0, parameters), np.zeros((0, 16), int), parameters, scale=0)
    assert len(got.sum) == 0 and got.status == {"overflow": False, "poisoned": False}
