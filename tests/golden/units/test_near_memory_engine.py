from fractions import Fraction

import numpy as np
import pytest

from golden.parameters import Parameters
from golden.units.delta_group import DeltaGroups
from golden.units.delta_quantizer import quantise_passes
from golden.units.near_memory_engine import near_memory_engine

pytestmark = pytest.mark.golden


def half(pattern):
    return float(np.uint16(pattern).view(np.float16))


def nearest(value: float) -> tuple[int, bool]:
    """FP16 pattern of an exact binary64 value, clamped; zero is +0."""
    if value == 0:
        return 0, False
    if abs(value) >= 65520:
        return (0xFBFF if value < 0 else 0x7BFF), True
    return int(np.float16(value).view(np.uint16)), False


def finite(pattern):
    return pattern & 0x7C00 != 0x7C00


def naive(state, groups, parameters, address, last, refresh, bias, s, thresholds):
    """Section 11, element by element."""
    state = [list(map(int, row)) for row in state]
    fixed, w, n = parameters.state_format == "fixed", parameters.state_width, parameters.lanes
    poison = -(2 ** (w - 1)) if fixed else 0x7E00
    masks, addresses, repairs = [], [], []
    status = {"overflow": False, "poisoned": False}

    def is_poisoned(y):
        return y == poison if fixed else not finite(y)

    def code(y):
        if is_poisoned(y):
            return 0
        value = y if fixed else half(y)
        borders = [t if fixed else half(t) for t in thresholds] or [0]
        return sum(border <= value for border in borders)

    def lane(g, i):
        """Digit and outliers of a lane."""
        outlier = None
        for j in range(groups.outliers):
            if groups.outlier_valid[g, j] and groups.outlier_lane[g, j] == i:
                outlier = int(groups.outlier_value[g, j])
        return int(groups.digits[g, i]), outlier

    start = 0
    while start < len(groups):
        stop = start
        while not last[stop]:
            stop += 1
        a = int(address[start])
        mask = []
        for i in range(n):
            old = 0 if refresh[start] else state[a][i]
            poisoned = is_poisoned(old)
            total = Fraction(int(bias[start, i])) if fixed else None
            y = old
            for g in range(start, stop + 1):
                e = int(groups.exponent[g])
                if e == 63:
                    poisoned = status["poisoned"] = True
                q, outlier = lane(g, i)
                if outlier is not None and not finite(outlier):
                    poisoned = status["poisoned"] = True
                    outlier = 0
                if fixed:
                    if e < 62:
                        total += q * Fraction(2) ** (e - 24 - s)
                    if outlier is not None:
                        total += round(Fraction(half(outlier)) / Fraction(2) ** s)
                elif not poisoned and e < 62:
                    v, clamped = nearest(half(outlier) if outlier is not None else q * 2.0 ** (e - 24))
                    y, again = nearest(half(y) + half(v))
                    status["overflow"] |= clamped or again
            if fixed:
                top = 2 ** (w - 1) - 1
                y = old + int(total)
                if not poisoned and abs(y) > top:
                    status["overflow"] = True
                y = min(max(y, -top), top)
            elif not finite(int(bias[start, i])):
                poisoned = status["poisoned"] = True
            elif not poisoned:
                y, clamped = nearest(half(y) + half(bias[start, i]))
                status["overflow"] |= clamped
            y = poison if poisoned else y
            state[a][i] = y
            mask.append(code(y))
            if parameters.flip_repair and not refresh[start] and not is_poisoned(old) and not poisoned:
                if code(old) != code(y):
                    value, clamped = nearest(abs(y) * 2.0**s) if fixed else (y & 0x7FFF, False)
                    status["overflow"] |= clamped
                    repairs.append((a, i, value))
        masks.append(mask)
        addresses.append(a)
        start = stop + 1
    return state, addresses, masks, repairs, status


def traffic(rng, parameters, vectors, s, passes):
    n, k = parameters.lanes, parameters.digit_width
    field = rng.integers(max(s + 16, 2), 24, (vectors, 1)) - rng.geometric(0.4, (vectors, n))
    values = np.clip(field, 0, 30) << 10 | rng.integers(0, 1024, (vectors, n)) | rng.integers(0, 2, (vectors, n)) << 15
    values[rng.random(vectors) < 0.1] = 0
    values[rng.random(vectors) < 0.04, 1] = 0x7C00
    floor = s + 24 if parameters.state_format == "fixed" else 0
    exponent = np.clip(field[:, 0] + 9 - k, floor, 42 - k)
    result = quantise_passes(values.astype(np.uint16), parameters, passes, floor=floor, exponent=exponent)
    groups = result.groups
    odd = groups.outlier_valid & (rng.random(groups.outlier_valid.shape) < 0.02)
    groups = groups.replace(outlier_value=np.where(odd, 0x7E01, groups.outlier_value))
    return groups, result.vector, result.last


FIXED = {"state_width": 16}
HALF = {"state_format": "float16"}
REPLAY = {"exponent_policy": "layer", "overflow_policy": "replay"}
CASES = {
    "fixed": (Parameters(lanes=8, **FIXED), -10, 1),
    "fixed, passes, repair": (Parameters(lanes=8, flip_repair=True, **FIXED), -6, 3),
    "fixed, large unit": (Parameters(lanes=8, flip_repair=True, state_width=24), 1, 2),
    "fixed, replay": (Parameters(lanes=8, flip_repair=True, state_width=20, **REPLAY), -12, 2),
    "fixed, segments": (Parameters(lanes=8, mask_operand="values", mask_width=3, **FIXED), -8, 1),
    "half": (Parameters(lanes=8, **HALF), -24, 1),
    "half, passes, repair": (Parameters(lanes=8, flip_repair=True, digit_width=5, outliers=3, **HALF), -24, 2),
    "half, replay": (Parameters(lanes=8, flip_repair=True, **HALF, **REPLAY), -24, 1),
    "half, segments": (Parameters(lanes=8, mask_operand="values", mask_width=2, **HALF), -24, 1),
}


@pytest.mark.parametrize("name", CASES)
def test_against_the_law(name):
    parameters, s, passes = CASES[name]
    rng = np.random.default_rng(21)
    groups, vector, last = traffic(rng, parameters, 160, s, passes)
    fixed = parameters.state_format == "fixed"
    if fixed:
        top = 2 ** (parameters.state_width - 1)
        state = rng.integers(-top, top, (12, 8)) >> rng.integers(0, 12, (12, 8))
        bias = np.where(rng.random((160, 8)) < 0.5, 0, rng.integers(-top, top, (160, 8)) >> 6)
        bias[3] = -top
    else:
        state = rng.integers(0, 2**16, (12, 8))
        bias = np.where(rng.random((160, 8)) < 0.5, 0, rng.integers(0, 2**16, (160, 8)) & 0x9FFF)
        bias[3, :2], bias[4] = (0x7C00, 0x7E55), 0x8000
        state[2] = 0x8000
    address = rng.integers(0, 12, 160)  # the same vectors over and over
    refresh = rng.random(160) < 0.15
    thresholds = ()
    if parameters.mask_width > 1:
        thresholds = np.sort(rng.integers(-4000, 4000, 2**parameters.mask_width - 1))
        if not fixed:
            thresholds = np.sort(thresholds / 512).astype(np.float16).view(np.uint16).astype(int)
    # Only a vector's first group has a say: the others carry noise.
    first = np.concatenate([[True], last[:-1]])
    junk = rng.integers(0, 12, len(groups))
    arguments = {
        "address": np.where(first, address[vector], junk),
        "last": last,
        "refresh": np.where(first, refresh[vector], junk > 5),
        "bias": np.where(first[:, None], bias[vector], 1),
    }
    got = near_memory_engine(state, groups, parameters, state_exponent=s, thresholds=thresholds, **arguments)
    expected = naive(state, groups, parameters, *arguments.values(), s, thresholds)
    assert got.address.tolist() == expected[1]
    assert got.state.tolist() == expected[0]
    assert got.mask.tolist() == expected[2]
    rows = zip(got.repairs.address.tolist(), got.repairs.lane.tolist(), got.repairs.value.tolist(), strict=True)
    assert list(rows) == expected[3]
    assert got.status == expected[4]
    assert got.status["poisoned"] and (len(got.repairs) > 10) == parameters.flip_repair
    assert set(np.unique(got.mask)) == set(range(2**parameters.mask_width))


def one(parameters, digits, exponent=24):
    return DeltaGroups.zeros(1, parameters).replace(exponent=np.array([exponent]), digits=np.array([digits]))


def test_repair_makes_relu_exact():
    """What the consumer holds plus the repair is ReLU of the new state, for a flip in either direction."""
    parameters = Parameters(lanes=4, outliers=0, flip_repair=True, memory_lanes=1)
    state = np.array([[-2, 2, 3, 0]])
    groups = one(parameters, (3, -3, 1, -1))
    got = near_memory_engine(state, groups, parameters, address=0)
    assert got.state.tolist() == [[1, -1, 4, -1]]
    held = np.maximum(state[0], 0) + groups.digits[0] * (state[0] >= 0)  # deltas masked with the old signs
    for lane, value in zip(got.repairs.lane, got.repairs.value, strict=True):
        held[lane] += half(value)
    assert held.tolist() == np.maximum(got.state[0], 0).tolist()


def test_clamp_and_poison_of_fixed_state():
    parameters = Parameters(lanes=4, outliers=0, state_width=16, memory_lanes=1)
    state = np.array([[32767, -32767, -32768, 5]])
    got = near_memory_engine(state, one(parameters, (1, -1, 1, 0)), parameters, address=0)
    assert got.state.tolist() == [[32767, -32767, -32768, 5]]
    assert got.status == {"overflow": True, "poisoned": False}
    quiet = near_memory_engine(state, one(parameters, (0, 0, 3, 0)), parameters, address=0)
    assert quiet.status == {"overflow": False, "poisoned": False}
    again = near_memory_engine(state, one(parameters, (1, 1, 1, 1)), parameters, address=0, refresh=True)
    assert again.state.tolist() == [[1, 1, 1, 1]]
    poisoned = near_memory_engine(state, DeltaGroups.poison(1, parameters), parameters, address=0)
    assert (poisoned.state == -32768).all() and poisoned.status == {"overflow": False, "poisoned": True}
    assert not poisoned.mask.any()


def test_poisoned_half_elements_raise_no_overflow():
    parameters = Parameters(lanes=4, outliers=1, state_format="float16", memory_lanes=1)
    big = DeltaGroups.zeros(1, parameters).replace(
        exponent=np.array([24]), outlier_valid=[[True]], outlier_lane=[[1]], outlier_value=[[0x7BFF]]
    )
    state = np.array([[0, 0x7BFF, 0, 0]])
    for first, status in (
        (big[:0], {"overflow": True, "poisoned": False}),
        (DeltaGroups.poison(1, parameters), {"overflow": False, "poisoned": True}),
    ):
        groups = DeltaGroups.concatenate([first, big])
        got = near_memory_engine(state, groups, parameters, address=0, last=np.arange(len(groups)) == len(groups) - 1)
        assert got.status == status


def test_a_bias_that_is_not_finite_is_not_hidden():
    parameters = Parameters(lanes=4, outliers=0, state_format="float16", memory_lanes=1)
    bias = np.array([[0, 0x7C00, 0xFE01, 0x3C00]])
    got = near_memory_engine(np.zeros((1, 4), int), DeltaGroups.zeros(1, parameters), parameters, address=0, bias=bias)
    assert got.state.tolist() == [[0, 0x7E00, 0x7E00, 0x3C00]]
    assert got.status == {"overflow": False, "poisoned": True}


def test_half_state_keeps_plus_zero():
    parameters = Parameters(lanes=4, outliers=0, state_format="float16", memory_lanes=1)
    state = np.array([[0x8000, 0x3C00, 0xBC00, 0x0001]])
    got = near_memory_engine(state, DeltaGroups.zeros(1, parameters), parameters, address=0, bias=0x8000)
    assert got.state.tolist() == [[0, 0x3C00, 0xBC00, 1]]


def test_bad_arguments():
    parameters = Parameters(lanes=4, outliers=0, memory_lanes=1)
    groups, state = one(parameters, (1, 0, 0, 0)), np.zeros((2, 4), int)
    for arguments, message in [
        ({"address": 2}, r"^address must be in 0\.\.1, not 2$"),
        ({"address": 0, "last": False}, "^Stream of groups must end with the last group of a vector, not within it$"),
        ({"address": 0, "state_exponent": 1}, "^Exponents of digits must be at least state_exponent = 1, not 0$"),
        ({"address": 0, "state_exponent": -25}, "^state_exponent must be at least -24, not -25$"),
        ({"address": 0, "bias": 2**17}, r"^bias must be in -131072\.\.131071, not 131072$"),
    ]:
        with pytest.raises(ValueError, match=message):
            near_memory_engine(state, groups, parameters, **arguments)
    with pytest.raises(ValueError, match=r"^state must have the shape \(vectors, 4\), not \(4,\)$"):
        near_memory_engine(np.zeros(4, int), groups, parameters, address=0)
