"""Values to try a unit on: corners, strata, and deltas recorded from the trained network."""

import functools

import numpy as np

from golden.diffusion import zoo
from golden.parameters import Parameters
from golden.units.delta_group import DeltaGroups

CORNERS = np.array(
    [
        *(0x0000, 0x8000),  # zeros
        *(0x0001, 0x8001, 0x0002, 0x0200, 0x83FF, 0x03FF),  # subnormals
        *(0x0400, 0x8400, 0x0401),  # least normals
        *(0x3C00, 0xBC00, 0x3C01, 0x3BFF, 0xBBFF),  # about 1
        *(0x3E00, 0xBE00, 0x4100, 0xC100, 0x4300, 0x4700),  # 1.5, 2.5, 3.5, 7: ties of digits
        *(0x7BFF, 0xFBFF, 0x7BFE, 0x7800),  # largest
        *(0x6400, 0x5BFF, 0xE400),  # integers with no bit to spare
    ],
    np.uint16,
)
"""FP16 patterns where arithmetic turns a corner, finite ones."""

_POISON = np.array([0x7C00, 0xFC00, 0x7E00, 0xFE00, 0x7C01, 0xFFFF], np.uint16)


def halves(random: np.random.Generator, shape: tuple[int, ...] | int) -> np.ndarray:
    """Finite FP16 patterns: two thirds uniform over patterns (so over exponents), the rest corners and neighbours."""
    patterns = random.integers(0, 1 << 16, shape, np.uint16)
    corner = random.choice(CORNERS, shape) + random.integers(-1, 2, shape).astype(np.uint16)
    patterns = np.where(random.uniform(size=shape) < 1 / 3, corner, patterns).astype(np.uint16)
    infinite = (patterns & 0x7C00) == 0x7C00
    return np.where(infinite, patterns & ~np.uint16(0x4000), patterns).astype(np.uint16)


def vectors(random: np.random.Generator, count: int, lanes: int) -> np.ndarray:
    """Finite FP16 vectors, uint16 (count, lanes), of every kind a quantiser can meet.

    Kinds in turn: lanes about one magnitude with a few larger; multiples of half a digit, so that ties abound; all
    exponents at once; mostly zeros; subnormals; zeros alone.
    """
    scale = np.exp2(random.integers(-24, 15, (count, 1)).astype(np.float64))
    kind = np.arange(count) % 6
    values = random.normal(size=(count, lanes)) * scale
    values *= np.where(random.uniform(size=(count, lanes)) < 0.1, 2.0 ** random.integers(0, 6, (count, lanes)), 1.0)
    ties = random.integers(-20, 21, (count, lanes)) * 0.5 * scale
    values = np.where(kind[:, None] == 1, ties, values)
    patterns = np.clip(values, -65504, 65504).astype(np.float16).view(np.uint16)
    patterns = np.where(kind[:, None] == 2, halves(random, (count, lanes)), patterns)
    sparse = np.where(random.uniform(size=(count, lanes)) < 0.1, patterns, random.choice([0, 0x8000], (count, lanes)))
    patterns = np.where(kind[:, None] == 3, sparse, patterns)
    small = random.integers(0, 0x400, (count, lanes)) | random.choice([0, 0x8000], (count, lanes))
    patterns = np.where(kind[:, None] == 4, small, patterns)
    return np.where((kind[:, None] == 5) & (np.arange(count) % 12 < 6)[:, None], 0, patterns).astype(np.uint16)


def poisoned(random: np.random.Generator, patterns: np.ndarray, share: float = 0.5) -> np.ndarray:
    """Put a NaN or an infinity into that share of the vectors."""
    patterns = patterns.copy()
    rows = np.flatnonzero(random.uniform(size=len(patterns)) < share)
    patterns[rows, random.integers(0, patterns.shape[1], len(rows))] = random.choice(_POISON, len(rows))
    return patterns


def one_lane(lanes: int) -> np.ndarray:
    """Each lane by itself, bool (n, n): row i is set in lane i alone."""
    return np.eye(lanes, dtype=bool)


@functools.lru_cache(maxsize=4)
def _recorded(lanes: int) -> np.ndarray:
    groups = zoo.recorded().groups(lanes)
    return groups[1:].reshape(-1, lanes).view(np.uint16)  # step 0 holds raw values


def recorded_deltas(random: np.random.Generator, count: int, lanes: int) -> np.ndarray:
    """Consecutive deltas of the shipped recording as vectors, uint16 (count, lanes), from random places on."""
    deltas = _recorded(lanes)
    run = 64
    starts = random.integers(0, max(len(deltas) - run, 1), -(-count // run))
    rows = (starts[:, None] + np.arange(run)).reshape(-1)[:count] % len(deltas)
    return deltas[rows]


def delta_groups(random: np.random.Generator, count: int, parameters: Parameters) -> DeltaGroups:
    """Well-formed delta groups of every kind, not what a quantiser makes: all digits, exponents and fillings alike.

    About a tenth are zero groups, a twentieth poisoned, and where the policy knows them a tenth replay groups.
    """
    n, m, q = parameters.lanes, parameters.outliers, parameters.digit_max
    exponent = random.integers(0, 43 - parameters.digit_width, count).astype(np.uint8)
    near = random.uniform(size=count) < 0.5  # real exponents are like their neighbours'
    # ... and those about code 24, where every predictor starts, show whether it does, those above 31 its highest bit.
    middle = random.permutation([20, 24, 36])[np.arange(count) * 3 // count]
    exponent = np.where(near, np.clip(middle + random.integers(-2, 3, count), 0, 42 - parameters.digit_width), exponent)
    digits = random.integers(-q, q + 1, (count, n))
    filling = random.choice([0.05, 0.3, 0.7, 1.0], (count, 1))
    digits = np.where(random.uniform(size=(count, n)) < filling, digits, 0)
    replay = (random.uniform(size=count) < 0.1) & parameters.replays
    poison = ~replay & (random.uniform(size=count) < 0.05)
    zero = ~replay & ~poison & (random.uniform(size=count) < 0.1)
    used = random.integers(0, m + 1, count) if m else np.zeros(count, np.int64)
    used = np.where(zero | poison, 0, used)
    used = np.where(replay, np.maximum(used, 1), used)
    digits[replay | zero | poison] = 0
    lane = np.sort(np.argsort(random.uniform(size=(count, n)), axis=1)[:, :m], axis=1) if m else np.zeros((count, 0))
    valid = np.arange(m)[None, :] < used[:, None]
    # The slots of a group ascend by lane: keep the first `used` of m ascending lanes.
    lane = np.where(valid, lane, 0).astype(np.uint8)
    value = np.where(valid, halves(random, (count, m)), 0).astype(np.uint16)
    rows, slots = np.nonzero(valid)
    digits[rows, lane[rows, slots]] = 0
    nothing = ~digits.any(axis=1) & (used == 0) & ~replay & ~poison
    exponent = np.where(nothing, 62, np.where(poison, 63, exponent)).astype(np.uint8)
    return DeltaGroups(exponent, replay, digits.astype(np.int8), valid, lane, value)


def weights(random: np.random.Generator, shape: tuple[int, ...] | int, parameters: Parameters) -> np.ndarray:
    """Weights as they enter a multiplier: aligned integers, or patterns of the declared range."""
    extreme = random.uniform(size=shape) < 0.1
    if parameters.weight_form == "aligned":
        limit = (1 << parameters.fraction_bits + 1) - 1
        small = random.integers(-limit, limit + 1, shape) >> random.integers(0, parameters.fraction_bits, shape)
        return np.where(extreme, random.choice([-limit, limit, 0, 1, -1], shape), small)
    bias, fraction = parameters.weight_bias, parameters.weight_mantissa_width - 1
    low, high = parameters.weight_exponent_min + bias, parameters.weight_exponent_max + bias
    low = 0 if low == 1 else low  # subnormals count as the least exponent
    field = random.integers(low, high + 1, shape)
    mantissa = random.integers(0, 1 << fraction, shape)
    mantissa = np.where(extreme, random.choice([0, 1, (1 << fraction) - 1], shape), mantissa)
    patterns = random.integers(0, 2, shape) << 15 | field << fraction | mantissa
    zero = random.uniform(size=shape) < 0.1
    return np.where(zero, random.choice([0, 0x8000], shape), patterns).astype(np.uint16)


def all_weights(parameters: Parameters) -> np.ndarray:
    """Every weight a multiplier can meet: all finite patterns of the format, or all aligned integers."""
    if parameters.weight_form == "aligned":
        limit = (1 << parameters.fraction_bits + 1) - 1
        return np.arange(-limit, limit + 1)
    patterns = np.arange(1 << 16)
    infinite = ((1 << parameters.weight_exponent_width) - 1) << parameters.weight_mantissa_width - 1
    return patterns[patterns & infinite != infinite].astype(np.uint16)
