from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.parameters import PRESETS, Parameters
from golden.units import multiplier_group as unit
from golden.units.delta_group import DeltaGroups
from golden.units.delta_quantizer import delta_quantizer, quantise_passes
from golden.units.multiplier_group import align_weights, compile_weights, multiplier_group

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


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("fraction", [10, 12, 16])
def test_alignment_against_fractions(name, fraction):
    parameters = Parameters(weight_format=name, fraction_bits=fraction, lanes=8)
    rng = np.random.default_rng(fraction)
    weights = weights_of(rng, (300, 8), parameters)
    weights[:3] = [[0] * 8, [1] * 8, [0x8001, 0, 0x3FF if name == "float16" else 0x7F, 0, 0, 0, 0, 1]]
    integers, exponent = align_weights(weights, parameters)
    least = -14 if name == "float16" else -126
    for row in range(len(weights)):
        exact = [weight(int(w), name) for w in weights[row]]
        shared = least
        for value in exact:
            while abs(value) >= Fraction(2) ** (shared + 1):
                shared += 1
        assert exponent[row] == shared
        assert integers[row].tolist() == [round(v * Fraction(2) ** (fraction - shared)) for v in exact]
    assert np.abs(integers).max() < 2 ** (fraction + 1)


def test_every_pattern_aligns_alone():
    """A weight alone in its group loses nothing: F is at least the format's fraction."""
    for name, f in (("float16", 10), ("bfloat16", 7)):
        parameters = Parameters(weight_format=name, fraction_bits=f, lanes=4)
        patterns = np.arange(2**16, dtype=np.uint16)
        ones = 0x7C00 if name == "float16" else 0x7F80
        patterns = patterns[patterns & ones != ones]
        value = np.array([float(weight(int(p), name)) for p in patterns])
        integers, exponent = align_weights(np.repeat(patterns[:, None], 4, axis=1), parameters)
        assert np.array_equal(np.ldexp(integers[:, 0].astype(float), exponent - f), value)


@pytest.mark.parametrize(
    "parameters",
    [
        Parameters(lanes=4, outliers=0, accumulator_width=24, memory_lanes=1),
        Parameters(lanes=4, outliers=1, accumulator_width=32, digit_width=2, memory_lanes=1),
        Parameters(
            lanes=4, outliers=1, weight_form="float", weight_exponent_min=-9, weight_exponent_max=2, memory_lanes=1
        ),
        Parameters(lanes=4, exponent_policy="layer", overflow_policy="replay", accumulator_width=20, memory_lanes=1),
    ],
    ids=["group, m=0", "group, k=2, m=1", "float weights", "replay"],
)
@pytest.mark.parametrize("passes", [1, 3])
def test_a_proven_window_never_overflows(parameters, passes):
    """The proof against the worst inputs that can be found: the sign of each weight, values just past a rounding."""
    rng = np.random.default_rng(8)
    weights = weights_of(rng, (6, 3, 4), parameters)
    for largest in (0.11, 1.0, 3.51, 300.0):
        compiled = compile_weights(weights, parameters, largest=largest, passes=passes)
        assert (compiled.width <= parameters.accumulator_width).all()
        for channel in range(6):
            signs = np.where(weights[channel] >> 15, -1, 1)
            for trial in range(12):
                size = largest * (1 if trial < 4 else rng.random((3, 4)))
                values = (signs * size * (-1 if trial % 2 else 1)).astype(np.float16)
                values = np.where(np.abs(values.astype(float)) > largest, np.nextafter(values, np.float16(0)), values)
                by_group = parameters.exponent_policy == "group"
                groups = quantise_passes(
                    values.view(np.uint16), parameters, passes, by_group=by_group, exponent=int(rng.integers(15, 30))
                )
                vector = np.repeat(np.arange(3), passes)
                if len(groups) != len(vector):  # replays
                    continue
                for order in (np.arange(len(vector)), rng.permutation(len(vector))):
                    first = np.arange(len(vector)) == 0
                    rows = vector[order]
                    got = multiplier_group(
                        groups[order],
                        compiled.weights[channel][rows],
                        parameters,
                        scale=compiled.scale[channel][rows],
                        first=first,
                        last=np.ones(len(rows), bool),
                    )
                    assert not got.status["overflow"]
                    reach = 2 ** (int(compiled.width[channel]) - 1)
                    assert max(abs(int(s)) for s in got.sum) < reach


def test_exact_channels_never_round():
    parameters = Parameters(lanes=4, outliers=0, accumulator_width=64, memory_lanes=1)
    rng = np.random.default_rng(9)
    weights = weights_of(rng, (4, 2, 4), parameters) & 0xBFFF  # below 2
    compiled = compile_weights(weights, parameters, largest=8.0, floor=10)
    assert compiled.exact.all()
    values = rng.standard_normal((2, 4)).astype(np.float16).view(np.uint16)
    groups = delta_quantizer(values, parameters, floor=10).groups
    for channel in range(4):
        got = multiplier_group(
            groups, compiled.weights[channel], parameters, scale=compiled.scale[channel], first=[1, 0], last=[0, 1]
        )
        exact = Fraction(0)
        for g in range(2):
            unit_of = Fraction(2) ** int(compiled.scale[channel, g] + compiled.lsb[channel])
            for i in range(4):
                exact += Fraction(float(groups.dequantise()[g, i])) * int(compiled.weights[channel, g, i]) * unit_of
        assert int(got.sum[0]) * Fraction(2) ** int(compiled.lsb[channel]) == exact


def test_the_width_is_tight():
    """One bit less than the proof asks for does overflow, for a vector of one sign under the group policy."""
    parameters = Parameters(lanes=4, outliers=0, accumulator_width=32, memory_lanes=1)
    weights = np.full((1, 1, 4), 0x3C00, np.uint16)
    width = int(unit.window_widths(weights, parameters, largest=2.25, lsb=-20)[0])
    # 2.25 needs e = 0 and becomes 2 in every lane: 8 * 2^20 = 2^23 is one more than 24 bits hold.
    assert width == 25
    values = np.full((1, 4), 2.25, np.float16).view(np.uint16)
    groups = delta_quantizer(values, parameters).groups
    aligned, exponent = align_weights(weights[0], parameters)
    for bits, overflow in ((width, False), (width - 1, True)):
        machine = Parameters(lanes=4, outliers=0, accumulator_width=bits, memory_lanes=1)
        scale = exponent - machine.fraction_bits + 20
        assert multiplier_group(groups, aligned, machine, scale=scale).status["overflow"] == overflow


def test_rounding_counts_in_the_width():
    """Eight groups of 3/4 each round to 1: 8 needs a bit more than their true sum of 6."""
    parameters = Parameters(lanes=4, outliers=0, memory_lanes=1)
    weights = np.zeros((1, 8, 4), np.uint16)
    weights[:, :, 0] = 0x3A00  # 0.75
    values = np.tile(np.array([1, 0, 0, 0], np.float16).view(np.uint16), (8, 1))
    groups = delta_quantizer(values, parameters).groups
    aligned, exponent = align_weights(weights[0], parameters)
    last = np.arange(8) == 7
    got = multiplier_group(
        groups, aligned, parameters, scale=exponent - parameters.fraction_bits, first=last[::-1], last=last
    )
    assert got.sum.tolist() == [8]
    assert unit.window_widths(weights, parameters, largest=1.0, lsb=0)[0] >= 5


def test_window_names_the_width_it_takes():
    parameters = Parameters(lanes=4, accumulator_width=16, memory_lanes=1)
    weights = np.full((2, 3, 4), 0x3C00, np.uint16)
    needed = unit.window_widths(weights, parameters, largest=1.0, lsb=-20).max()
    with pytest.raises(
        ValueError,
        match=rf"^accumulator_width must be at least {needed} for channel 0 "
        rf"with least bit 2\^-20 and \|x\| up to 1, not 16$",
    ):
        unit.check_window(weights, parameters, largest=1.0, lsb=-20)
    unit.check_window(weights, parameters, largest=1.0, lsb=-8)
    lsb = unit.channel_exponents(weights, parameters, largest=1.0)
    unit.check_window(weights, parameters, largest=1.0, lsb=lsb)
    with pytest.raises(ValueError, match="^accumulator_width must be at least 17 "):
        unit.check_window(weights, parameters, largest=1.0, lsb=lsb - 1)


def test_more_groups_than_a_narrow_accumulator_can_round():
    parameters = Parameters(lanes=4, accumulator_width=16, memory_lanes=1)
    weights = np.full((1, 2**14, 4), 0x3C00, np.uint16)
    with pytest.raises(
        ValueError, match="^accumulator_width must be at least 17 for the roundings of 65536 groups, not 16$"
    ):
        unit.channel_exponents(weights, parameters, largest=1.0, passes=4)
    lsb = unit.channel_exponents(weights[:, :100], parameters, largest=1.0, passes=4)
    assert unit.window_widths(weights[:, :100], parameters, largest=1.0, lsb=lsb, passes=4)[0] == 16


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
    with pytest.raises(ValueError, match="^Weights must be finite, not the float16 pattern 0xfe00$"):
        align_weights(np.array([0xFE00, 0, 0, 0]), aligned)
    with pytest.raises(ValueError, match=r"^Aligned weights must be below 2\^13 in magnitude$"):
        multiplier_group(DeltaGroups.zeros(1, aligned), np.array([8192, 0, 0, 0]), aligned, scale=0)
    with pytest.raises(ValueError, match=r"^scale must be in -220\.\.220, not 221$"):
        multiplier_group(DeltaGroups.zeros(1, aligned), np.zeros(4, int), aligned, scale=221)
    with pytest.raises(ValueError, match=r"^Weights must have the shape \(1, 4\) or \(4,\), not \(3,\)$"):
        multiplier_group(DeltaGroups.zeros(1, aligned), np.zeros(3, int), aligned, scale=0)
    with pytest.raises(ValueError, match=r"^Weights must have the shape \(channels, groups, 4\), not \(4,\)$"):
        compile_weights(good, aligned)
    with pytest.raises(ValueError, match=r"^Largest \|x\| must be finite and not negative, not -1.0$"):
        compile_weights(good.reshape(1, 1, 4), aligned, largest=-1.0)


def test_no_groups():
    parameters = Parameters()
    got = multiplier_group(DeltaGroups.zeros(0, parameters), np.zeros((0, 16), int), parameters, scale=0)
    assert len(got.sum) == 0 and got.status == {"overflow": False, "poisoned": False}
