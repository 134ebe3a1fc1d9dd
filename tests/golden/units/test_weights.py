from fractions import Fraction

import numpy as np
import pytest

from golden.parameters import Parameters
from golden.units.delta_quantizer import delta_quantizer, quantise_passes
from golden.units.multiplier_group import multiplier_group
from golden.units.weights import (
    align_weights,
    channel_exponents,
    check_window,
    compile_weights,
    product_exponent,
    window_widths,
)
from tests.golden.units.test_multiplier_group import weight, weights_of

pytestmark = pytest.mark.golden


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
                ).groups
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
    width = int(window_widths(weights, parameters, largest=2.25, lsb=-20)[0])
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
    assert window_widths(weights, parameters, largest=1.0, lsb=0)[0] >= 5


def test_window_names_the_width_it_takes():
    parameters = Parameters(lanes=4, accumulator_width=16, memory_lanes=1)
    weights = np.full((2, 3, 4), 0x3C00, np.uint16)
    needed = window_widths(weights, parameters, largest=1.0, lsb=-20).max()
    with pytest.raises(
        ValueError,
        match=rf"^accumulator_width must be at least {needed} for channel 0 "
        rf"with least bit 2\^-20 and \|x\| up to 1, not 16$",
    ):
        check_window(weights, parameters, largest=1.0, lsb=-20)
    check_window(weights, parameters, largest=1.0, lsb=-8)
    lsb = channel_exponents(weights, parameters, largest=1.0)
    check_window(weights, parameters, largest=1.0, lsb=lsb)
    with pytest.raises(ValueError, match="^accumulator_width must be at least 17 "):
        check_window(weights, parameters, largest=1.0, lsb=lsb - 1)


@pytest.mark.parametrize("passes", [1, 2, 3])
@pytest.mark.parametrize("repairs", [False, True])
def test_the_window_of_a_product_is_the_least(repairs, passes):
    """At k = 4 and m = 0 a delta of 3 2^(w-2) is 6 steps of 2^(w-3); each later pass adds half a step of the last."""
    parameters = Parameters(
        lanes=4,
        outliers=0,
        digit_width=4,
        accumulator_width=32,
        memory_lanes=1,
        flip_repair=repairs,
        dataflows=("closed_loop", "sign_mask"),
    )
    steps = 6 + sum(Fraction(1, 2 * 8**number) for number in range(passes - 1))
    worst = steps * 2 ** (parameters.state_width - 3 + repairs)
    # A coarse group and a fine one, which round by a half in every pass: all that accumulators of 2^1 units hold.
    coarse = (2**31 - 1) * 2 // worst - 1
    fine = ((2**31 - 1 - passes) * 2 / worst - coarse) * 2**40 // 1
    unit, other = np.array([[0, -40], [0, -40]]), [[1, 1]]
    assert product_exponent(unit, np.array([*other, [int(coarse), int(fine)]]), parameters, passes=passes) == 1
    assert product_exponent(unit, np.array([*other, [int(coarse), int(fine) + 1]]), parameters, passes=passes) == 2


def test_a_product_that_rounds_nothing_has_no_roundings():
    """Which would not fit beside these sums, as there are so many groups."""
    parameters = Parameters(lanes=4, outliers=0, digit_width=4, accumulator_width=32, memory_lanes=1)
    groups = np.zeros((1, 2**19), np.int64)
    most = (2**31 - 1) // (6 * 2 ** (parameters.state_width - 3))
    for total, expected in ((most, -7), (most + 1, -6)):
        groups[0, 0] = total
        assert product_exponent(np.full_like(groups, -7), groups, parameters, passes=1) == expected


def test_roundings_of_a_product_must_fit():
    parameters = Parameters(lanes=4, outliers=0, accumulator_width=18, memory_lanes=1)
    groups = np.ones((1, 2**16), np.int64)
    with pytest.raises(ValueError, match="accumulator_width must hold the roundings of 196608 groups, not be 18"):
        product_exponent(groups, groups, parameters, passes=3)


def test_more_groups_than_a_narrow_accumulator_can_round():
    parameters = Parameters(lanes=4, accumulator_width=16, memory_lanes=1)
    weights = np.full((1, 2**14, 4), 0x3C00, np.uint16)
    with pytest.raises(
        ValueError, match="^accumulator_width must be at least 17 for the roundings of 65536 groups, not 16$"
    ):
        channel_exponents(weights, parameters, largest=1.0, passes=4)
    lsb = channel_exponents(weights[:, :100], parameters, largest=1.0, passes=4)
    assert window_widths(weights[:, :100], parameters, largest=1.0, lsb=lsb, passes=4)[0] == 16


def test_bad_weights():
    aligned = Parameters(lanes=4, memory_lanes=1)
    good = np.full(4, 0x3C00, np.uint16)
    with pytest.raises(ValueError, match="^Weights must be finite, not the float16 pattern 0xfe00$"):
        align_weights(np.array([0xFE00, 0, 0, 0]), aligned)
    with pytest.raises(ValueError, match=r"^Weights must have the shape \(channels, groups, 4\), not \(4,\)$"):
        compile_weights(good, aligned)
    with pytest.raises(ValueError, match=r"^Largest \|x\| must be finite and not negative, not -1.0$"):
        compile_weights(good.reshape(1, 1, 4), aligned, largest=-1.0)
