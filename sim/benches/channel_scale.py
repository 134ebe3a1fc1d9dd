"""Bench of `channel_scale`: sums of every size, scales that round, clamp and vanish, poison."""

import dataclasses

import numpy as np

from golden.parameters import SCALE_WIDTH, Parameters
from golden.units.channel_scale import channel_scale
from hw.units import ChannelScale
from sim import stimuli
from sim.bench import Bench, Case, Request, component


def variants(parameters: Parameters) -> dict[str, Parameters]:
    """The narrowest accumulator, one that needs Python's integers, and few lanes."""
    return {
        "W=16": dataclasses.replace(parameters, accumulator_width=16),
        "W=128": dataclasses.replace(parameters, accumulator_width=128),
        "n=5": dataclasses.replace(parameters, lanes=5, memory_lanes=1, outliers=min(parameters.outliers, 5)),
    }


def case(name: str, parameters: Parameters, sums: np.ndarray, poisoned: np.ndarray, *factors: np.ndarray) -> Case:
    """Sums with their scales and least bits, answered by the golden model."""
    scale, lsb = factors
    found = channel_scale(sums, poisoned, scale, lsb, parameters)
    inputs = {"sums": {"sum": sums, "poisoned": poisoned}, "scale": scale, "lsb": lsb}
    return Case(name, {"i": inputs}, {"o": found.values}, status=found.status)


def bench(request: Request) -> Bench:
    """Results about FP16's range, beyond it, ties, and poisoned sums and scales."""
    parameters, random = request.parameters, request.generator()
    n, width = parameters.lanes, parameters.accumulator_width
    count = request.count(600, 20_000)
    shape = (count, n)
    top = (1 << width - 1) - 1
    bits = random.integers(1, width, shape)
    sums = _sums(random, bits, width)
    scale = stimuli.halves(random, shape)
    # Aim the product at FP16's exponents, -26 to 15, and for the second case a little past them.
    exponent = np.where(scale & 0x7C00, (scale >> 10 & 31).astype(np.int64), 1) - 15
    aim = random.integers(-26, 15, shape) - bits - exponent
    limit = 1 << SCALE_WIDTH - 1
    nothing = np.zeros(shape, bool)
    # Scales with few bits make ties.
    simple = np.where(random.uniform(size=shape) < 0.3, scale & 0xFC00, scale).astype(np.uint16)
    inside = np.clip(aim - 1, -limit, limit - 1)
    cases = [case("results that fit", parameters, sums, nothing, simple, inside)]
    beyond = np.clip(aim + random.integers(-8, 9, shape), -limit, limit - 1)
    cases.append(case("results past the range", parameters, sums, nothing, scale, beyond))
    extreme = np.where(random.uniform(size=shape) < 0.2, random.choice([top, -top - 1, 0], shape), sums)
    anywhere = random.integers(-limit, limit, shape)
    poisoned = random.uniform(size=shape) < 0.05
    cases.append(
        case("anything", parameters, extreme, poisoned, stimuli.poisoned(random, scale, 0.2), anywhere),
    )
    cases += [_powers(parameters, random), _near_ties(parameters, random), *_single_lanes(parameters, random)]
    return Bench("channel_scale", component(ChannelScale, parameters), cases)


def _powers(parameters: Parameters, random: np.random.Generator) -> Case:
    """Powers of two of both signs times powers of two: products with a single bit, at every place."""
    width, n = parameters.accumulator_width, parameters.lanes
    sums = np.array([sign * (1 << bit) for bit in range(width - 1) for sign in (1, -1)] + [-(1 << width - 1)])
    sums = np.resize(sums, (-(-len(sums) // n), n))
    exponent = random.integers(1, 31, sums.shape)
    scale = (exponent << 10 | random.integers(0, 2, sums.shape) << 15).astype(np.uint16)
    bit = np.array([[int(abs(value)).bit_length() for value in row] for row in sums])
    limit = 1 << SCALE_WIDTH - 1
    lsb = np.clip(random.integers(-24, 15, sums.shape) - bit - exponent + 16, -limit, limit - 1)
    return case("single bits", parameters, sums, np.zeros(sums.shape, bool), scale, lsb)


def _near_ties(parameters: Parameters, random: np.random.Generator) -> Case:
    """Products half-way between two results but for a single bit, at every place, next to the half and far from it.

    Such a product is ``2^half (2 significand + 1) + 2^bit`` with an even significand, and a multiple of the scale's.
    """
    width, n = parameters.accumulator_width, parameters.lanes
    sums, scales, bits = [], [], []
    pairs = {
        (bit, half) for bit in range(width - 3) for half in (bit + 1, random.integers(bit + 1, width - 2), width - 3)
    }
    for bit, half in sorted((bit, int(half)) for bit, half in pairs):
        for factor in random.permutation(np.arange(1025, 2048, 2)).tolist():
            twice = -pow(2, bit - half, factor) % factor
            wanted = next(one for one in range(2049, 2049 + 4 * factor, 4) if one % factor == twice)
            total = ((wanted << half) + (1 << bit)) // factor
            if wanted < 4096 and total >> width - 1 == 0:
                sums.append(total if random.integers(2) else -total)
                scales.append(15 << 10 | factor - 1024 | int(random.integers(2)) << 15)
                bits.append(half)
                break
    # Every lane gets each of them, one vector later than its neighbour.
    places = (np.arange(len(sums))[:, np.newaxis] + np.arange(n)) % len(sums)
    # A half of the last place stands `half` bits up in the product, whose scale has ten bits behind the point.
    lsb = random.integers(-12, 4, places.shape) - np.array(bits)[places]
    dtype = object if width > 62 else np.int64
    total, scale = np.array(sums, dtype)[places], np.array(scales, np.uint16)[places]
    return case("ties but for a bit", parameters, total, np.zeros(places.shape, bool), scale, lsb)


def _single_lanes(parameters: Parameters, random: np.random.Generator) -> list[Case]:
    """What raises a sticky bit, in one lane of one vector among quiet ones: a case for each event and lane."""
    shape = (3, parameters.lanes)
    cases = []
    for lane, alone in enumerate(stimuli.one_lane(parameters.lanes)):
        here = np.zeros(shape, bool)
        here[1] = alone
        quiet = random.integers(-100, 101, shape), np.full(shape, 0x3C00, np.uint16), np.zeros(shape, np.int64)
        sums, scale, lsb = quiet
        events = {
            "overflow": (np.where(here, 1, sums), here & False, scale, np.where(here, 17, lsb)),
            "poisoned sum": (sums, here, scale, lsb),
            "scale without a value": (sums, here & False, np.where(here, 0x7C00, scale).astype(np.uint16), lsb),
        }
        cases += [case(f"{event} in lane {lane}", parameters, *values) for event, values in events.items()]
    return cases


def _sums(random: np.random.Generator, bits: np.ndarray, width: int) -> np.ndarray:
    """Integers of so many bits, some with nothing but their leading ones (so that products tie)."""
    dtype = object if width > 62 else np.int64
    magnitude = random.integers(0, 1 << 62, bits.shape).astype(dtype)
    for _ in range(62, width, 31):
        magnitude = (magnitude << 31) + random.integers(0, 1 << 31, bits.shape).astype(dtype)
    magnitude = magnitude & (np.ones(bits.shape, dtype) << bits.astype(dtype)) - 1
    coarse = np.maximum(bits - 8, 0).astype(dtype)
    magnitude = np.where(random.uniform(size=bits.shape) < 0.3, magnitude >> coarse << coarse, magnitude)
    return np.where(random.integers(0, 2, bits.shape) > 0, -magnitude, magnitude)
