import math

import numpy as np
import pytest

from golden.parameters import Parameters
from golden.units.delta_group import DeltaGroups
from golden.units.delta_quantizer import quantise_passes
from golden.units.sign_mask import SEGMENTS, mask_codes, mask_values, segment_mask, segments, sign_mask

pytestmark = pytest.mark.golden

ALL = np.arange(2**16, dtype=np.uint16)
HALVES = ALL.view(np.float16)
FINITE = np.isfinite(HALVES)


def test_mask_bits_of_fixed_state():
    for width in (16, 24):
        parameters = Parameters(state_width=width)
        low = -(2 ** (width - 1))
        state = [[low, low + 1, -1, 0, 1, -low - 1]]
        assert mask_codes(state, parameters).tolist() == [[0, 0, 0, 1, 1, 1]]


def test_mask_bits_of_every_half():
    parameters = Parameters(state_format="float16")
    got = mask_codes(ALL, parameters)
    values = np.where(FINITE, HALVES, -1).astype(np.float64)
    assert np.array_equal(got, values >= 0)  # -0 >= 0


@pytest.mark.parametrize("s", [2, 3, 4])
def test_segment_codes(s):
    table = segments("silu", s)
    half = Parameters(state_format="float16", mask_operand="values", mask_width=s)
    got = mask_codes(ALL, half, thresholds=table.of(half))
    borders = [t / 64 for t in table.thresholds]
    values = np.where(FINITE, HALVES, -6e4).astype(np.float64)
    assert np.array_equal(got, sum((values >= border).astype(int) for border in borders))
    fixed = Parameters(mask_operand="values", mask_width=s)
    state = np.arange(-(2**13), 2**13)
    got = mask_codes(state, fixed, thresholds=table.of(fixed, -10))
    assert np.array_equal(got, sum((state / 1024 >= border).astype(int) for border in borders))
    assert mask_codes([-(2**23)], fixed, thresholds=table.of(fixed, -10)).tolist() == [0]


def silu(x):
    return x / (1 + math.exp(-x))


def gelu(x):
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@pytest.mark.parametrize("s", [2, 3, 4])
@pytest.mark.parametrize(("name", "function"), [("silu", silu), ("gelu", gelu)])
def test_slopes_are_chords(name, function, s):
    table = SEGMENTS[name][s]
    borders = [t / 64 for t in table.thresholds]
    assert len(borders) == 2**s - 1 and len(table.slopes) == 2**s and sorted(borders) == borders
    chords = [(function(b) - function(a)) / (b - a) for a, b in zip(borders[:-1], borders[1:], strict=True)]
    expected = np.array([0.0, *chords, 1.0]).astype(np.float16).view(np.uint16)
    assert table.slopes == tuple(expected.tolist())
    # Better than the sign mask, and than half as many pieces.
    grid = np.linspace(-6, 6, 4801)
    weight = np.exp(-(grid**2) / 2)
    slope = np.gradient(np.array([function(x) for x in grid]), grid)

    def error(borders, slopes):
        code = np.searchsorted(borders, grid, side="right")
        return math.sqrt((weight * (np.array(slopes)[code] - slope) ** 2).sum() / weight.sum())

    mine = error(borders, np.array(table.slopes, np.uint16).view(np.float16).astype(float))
    fewer = SEGMENTS[name].get(s - 1)
    if fewer is None:
        rival = error([0.0], [0.0, 1.0])
    else:
        fewer_slopes = np.array(fewer.slopes, np.uint16).view(np.float16).astype(float)
        rival = error([t / 64 for t in fewer.thresholds], fewer_slopes)
    assert mine < 0.65 * rival
    limit = {"silu": {2: 0.092, 3: 0.048, 4: 0.026}, "gelu": {2: 0.096, 3: 0.059, 4: 0.028}}[name][s]
    assert mine < limit


def naive_sign_mask(groups, mask, g):
    digits = [int(q) if mask[g, i] else 0 for i, q in enumerate(groups.digits[g])]
    slots = [
        (True, int(groups.outlier_lane[g, j]), int(groups.outlier_value[g, j]))
        for j in range(groups.outliers)
        if groups.outlier_valid[g, j] and mask[g, groups.outlier_lane[g, j]]
    ]
    code = int(groups.exponent[g])
    if code != 63 and not any(digits) and not slots and not groups.replay[g]:
        code = 62
    return code, digits, slots + [(False, 0, 0)] * (groups.outliers - len(slots))


@pytest.mark.parametrize(
    ("m", "policy"), [(0, "saturate"), *((m, policy) for m in (1, 3, 8) for policy in ("saturate", "replay"))]
)
def test_groups(m, policy):
    parameters = Parameters(lanes=12, outliers=m, exponent_policy="layer", overflow_policy=policy, output_passes=1)
    rng = np.random.default_rng(m)
    values = rng.integers(0, 2**16, (300, 12)).astype(np.uint16)
    values = np.where((values & 0x7C00 == 0x7C00) & (rng.random((300, 12)) < 0.9), 0, values)
    groups = quantise_passes(values, parameters, 1, exponent=22).groups
    mask = rng.random((len(groups), 12)) < rng.choice([0, 0.2, 0.5, 0.9, 1], (len(groups), 1))
    got = sign_mask(groups, mask, parameters)
    got.check(parameters)
    for g in range(len(groups)):
        code, digits, slots = naive_sign_mask(groups, mask, g)
        assert (got.exponent[g], got.digits[g].tolist(), got.replay[g]) == (code, digits, groups.replay[g])
        assert [
            (bool(got.outlier_valid[g, j]), int(got.outlier_lane[g, j]), int(got.outlier_value[g, j])) for j in range(m)
        ] == slots
    if policy == "replay":
        assert (got.replay & ~got.outlier_valid.any(axis=1) & (got.exponent == 22)).any()
    assert got.poisoned.any() and got.zero.any()


def test_every_value():
    for mask in (0, 1):
        got = mask_values(ALL, mask)
        assert np.array_equal(got.values, np.where(FINITE, ALL if mask else 0, 0x7E00))
        assert got.status["poisoned"]
    assert mask_values(ALL[FINITE], 0).status == {"overflow": False, "poisoned": False}


def test_segments_of_every_value():
    rng = np.random.default_rng(0)
    slopes = np.array([0, 0x3C00, 0xAC88, 0x0001, 0x7BFF, 0x8000, 0x3555, 0xFC00], np.uint16)
    codes = np.concatenate([np.repeat(np.arange(8), 2**16), rng.integers(0, 8, 2**16)])
    values = np.tile(ALL, 9)
    got = segment_mask(values, codes, slopes)
    factors = slopes.view(np.float16)[codes]
    ok = np.isfinite(values.view(np.float16)) & np.isfinite(factors)
    exact = np.where(ok, values.view(np.float16), 0).astype(np.float64) * np.where(ok, factors, 0).astype(np.float64)
    with np.errstate(over="ignore"):
        expected = exact.astype(np.float16)
    clamped = np.isinf(expected)
    expected = np.where(clamped, np.sign(exact) * 65504, expected).astype(np.float16)
    expected = np.where(exact == 0, 0, expected.view(np.uint16))
    assert np.array_equal(got.values, np.where(ok, expected, 0x7E00))
    assert clamped.any() and got.status == {"overflow": True, "poisoned": True}
    assert segment_mask([0x3C00], 1, slopes).status == {"overflow": False, "poisoned": False}


def test_bad_arguments():
    parameters = Parameters(lanes=4, mask_operand="values", mask_width=2, memory_lanes=1)
    with pytest.raises(ValueError, match=r"^thresholds must be 3 for mask_width 2, not of shape \(0,\)$"):
        mask_codes([0], parameters)
    with pytest.raises(ValueError, match="^thresholds must be ascending, not as given$"):
        mask_codes([0], parameters, thresholds=[1, 0, 2])
    with pytest.raises(ValueError, match=r"^mask must have the shape \(1, 4\), not \(4,\)$"):
        sign_mask(DeltaGroups.zeros(1, parameters), np.zeros(4, bool), parameters)
    with pytest.raises(ValueError, match=r"^codes must be in 0\.\.1, not 2$"):
        segment_mask([0], [2], [0, 0x3C00])
    with pytest.raises(ValueError, match=r"^Segmented activation must be one of the known names, not 'silo'; did you"):
        segments("silo", 2)
    with pytest.raises(ValueError, match=r"^mask_width of a segment mask must be in 2\.\.4, not 1$"):
        segments("silu", 1)
