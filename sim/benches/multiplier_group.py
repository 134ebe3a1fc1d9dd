"""Bench of `multiplier_group`: windows, clamping, poison, and recorded deltas times the trained layer's weights.

The golden model's own sums are checked against exact fractions on a sample of every case.
"""

import dataclasses
from fractions import Fraction
from typing import Any

import numpy as np

from golden.diffusion import zoo
from golden.parameters import Parameters
from golden.units.delta_group import DeltaGroups
from golden.units.delta_quantizer import quantise_passes
from golden.units.multiplier_group import multiplier_group
from golden.units.weights import compile_weights
from hw.units import MultiplierGroup
from sim import stimuli
from sim.bench import Bench, Case, Request, component
from sim.vectors import group_values


def variants(parameters: Parameters) -> dict[str, Parameters]:
    """Weight forms and formats, no outlier and many, the least and widest digit, narrow and wide accumulators."""
    floats = dataclasses.replace(parameters, weight_form="float", weight_exponent_min=-14, weight_exponent_max=15)
    aligned = dataclasses.replace(parameters, weight_form="aligned")
    return {
        "float16": floats,
        "bfloat16": dataclasses.replace(
            floats, weight_format="bfloat16", weight_exponent_min=-20, weight_exponent_max=3, accumulator_width=64
        ),
        "m=0 F=10": dataclasses.replace(aligned, outliers=0, exponent_policy="group", fraction_bits=10),
        "m=3 k=8 W=96": dataclasses.replace(aligned, outliers=3, digit_width=8, accumulator_width=96),
        "k=2 n=13 W=16": dataclasses.replace(aligned, digit_width=2, lanes=13, memory_lanes=1, accumulator_width=16),
        "depth 1": dataclasses.replace(parameters, pipeline_depth=1),
    }


def case(name: str, parameters: Parameters, groups: DeltaGroups, weights: np.ndarray, **control: Any) -> Case:
    """Groups with weights and control fields, answered by the golden model."""
    control = {key: np.broadcast_to(value, (len(groups),)) for key, value in control.items()}
    found = multiplier_group(groups, weights, parameters, **control)
    values = {**control, "group": group_values(groups, parameters), "weights": weights}
    output = {"sum": found.sum, "poisoned": found.poisoned}
    return Case(name, {"i": values}, {"o": output}, status=found.status)


def check_with_fractions(groups: DeltaGroups, weights: np.ndarray, parameters: Parameters, scale: np.ndarray) -> None:
    """Recompute single-group sums with fractions, for groups that are not poisoned.

    Raises
    ------
    ArithmeticError
        If the golden model differs.
    """
    found = multiplier_group(groups, weights, parameters, scale=scale)
    low, high = -(1 << parameters.accumulator_width - 1), (1 << parameters.accumulator_width - 1) - 1
    for row in np.flatnonzero(~groups.poisoned):
        numbers = [_weight(int(pattern), parameters) for pattern in weights[row]]
        total = Fraction(0)
        if groups.exponent[row] != 62:
            unit = Fraction(2) ** (int(groups.exponent[row]) - 24)
            total += sum(int(q) * w for q, w in zip(groups.digits[row], numbers, strict=True)) * unit
        for slot in np.flatnonzero(groups.outlier_valid[row]):
            value = Fraction(float(groups.outlier_value[row, slot].view(np.float16)))
            total += value * numbers[groups.outlier_lane[row, slot]]
        # Python rounds fractions to nearest, ties to even.
        expected = min(max(round(total * Fraction(2) ** int(scale[row])), low), high)
        if int(found.sum[row]) != expected:
            raise ArithmeticError(f"Golden sum of group {row} must be {expected}, not {found.sum[row]}")


def _weight(pattern: int, parameters: Parameters) -> Fraction:
    if parameters.weight_form == "aligned":
        return Fraction(pattern)
    width = parameters.weight_mantissa_width - 1
    field = pattern >> width & (1 << parameters.weight_exponent_width) - 1
    significand = pattern & (1 << width) - 1 | (1 << width if field else 0)
    number = Fraction(significand) * Fraction(2) ** (max(field, 1) - parameters.weight_bias - width)
    return (-number if pattern >> 15 else number) / Fraction(2) ** parameters.weight_lsb


def bench(request: Request) -> Bench:
    """Sums that fit, windows of every kind, poison, and the layer that was recorded."""
    parameters, random = request.parameters, request.generator()
    n = parameters.lanes
    count = request.count(1_200, 40_000)
    groups = stimuli.delta_groups(random, count, parameters)
    sound = groups[~groups.poisoned]
    weights = stimuli.weights(random, (count, n), parameters)
    first, last = random.uniform(size=(2, count)) < 0.3
    first[0] = last[-1] = True
    # Scales at which the sum of a group lands about the accumulator's width, and all others.
    near = _near(sound, weights[: len(sound)], parameters, random)
    anywhere = random.integers(-220, 221, count)
    sample = slice(0, request.count(100, 500))
    check_with_fractions(sound[sample], weights[sample], parameters, near[sample])

    few = {"first": first[: len(sound)], "last": last[: len(sound)]}
    few["first"][0] = few["last"][-1] = True
    cases = [
        case("sums that fit", parameters, sound, weights[: len(sound)], scale=np.maximum(near - 8, -220), **few),
        case("sums that clamp", parameters, sound, weights[: len(sound)], scale=np.minimum(near + 4, 220), **few),
        case("any scale, poison", parameters, groups, weights, scale=anywhere, first=first, last=last),
        _single_bits(request),
        _trained(request),
        *_short(request),
    ]
    return Bench("multiplier_group", component(MultiplierGroup, parameters), cases)


def _single_bits(request: Request) -> Case:
    """Sums of one digit times a power of two, at every place, moved by every scale: whole sums of a single group."""
    parameters, random = request.parameters, request.generator(4)
    count, n = request.count(2_000, 20_000), parameters.lanes
    rows, lane = np.arange(count), random.integers(0, n, count)
    digits = np.zeros((count, n), np.int8)
    digits[rows, lane] = random.choice([-1, 1], count)
    groups = DeltaGroups.zeros(count, parameters)
    groups = groups.replace(exponent=random.integers(0, 43 - parameters.digit_width, count), digits=digits)
    if parameters.weight_form == "aligned":
        weights = random.choice([-1, 1], (count, n)) << random.integers(0, parameters.fraction_bits + 1, (count, n))
    else:
        weights = stimuli.weights(random, (count, n), parameters)
        weights &= np.uint16(-1 << parameters.weight_mantissa_width - 1 & 0xFFFF)
    scale = random.integers(-220, 221, count)
    return case("single bits", parameters, groups, weights, scale=scale, first=True, last=True)


def _short(request: Request) -> list[Case]:
    """A few groups a case, so that what raises a sticky bit does so alone."""
    parameters, random = request.parameters, request.generator(3)
    cases = []
    for number in range(request.count(24, 200)):
        groups = stimuli.delta_groups(random, 4, parameters)
        weights = stimuli.weights(random, (4, parameters.lanes), parameters)
        near = _near(groups, weights, parameters, random)
        scale = np.clip(near + (number % 4 - 2) * 3, -220, 220)
        first = np.array([True, False, number % 2 > 0, False])
        last = np.array([False, number % 2 > 0, False, True])
        cases.append(case(f"few groups {number}", parameters, groups, weights, scale=scale, first=first, last=last))
    return cases


def _near(groups: DeltaGroups, weights: np.ndarray, parameters: Parameters, random: np.random.Generator) -> np.ndarray:
    # log2 of the sum, from its terms in float64: good enough to aim by.
    if parameters.weight_form == "aligned":
        numbers = weights.astype(np.float64)
    else:
        bits = weights.astype(np.uint32) << 16 if parameters.weight_format == "bfloat16" else weights
        numbers = bits.view(np.float32 if parameters.weight_format == "bfloat16" else np.float16).astype(np.float64)
        numbers = numbers * 2.0**-parameters.weight_lsb
    total = np.abs(np.nan_to_num(groups.dequantise()) * numbers).sum(axis=1)
    top = np.log2(np.maximum(total, 2.0**-60)).astype(np.int64)
    return np.clip(parameters.accumulator_width - 2 - top + random.integers(-6, 2, len(top)), -220, 220)


def _trained(request: Request) -> Case:
    # Positions of the recorded deltas times all output channels' weights of one kernel tap, summed over its groups.
    parameters, random = request.parameters, request.generator(1)
    n = parameters.lanes
    recording = zoo.recorded()
    deltas = recording.groups(n)
    steps, positions, per_position, _ = deltas.shape
    chosen = request.count(8, 200)
    vectors = deltas[random.integers(1, steps, chosen), random.integers(0, positions, chosen)].reshape(-1, n)
    policy = {} if parameters.exponent_policy == "group" else {"exponent": layer_exponent(vectors, parameters)}
    groups = quantise_passes(vectors.view(np.uint16), parameters, 1, **policy).groups
    if len(groups) != len(vectors):  # a replay adds groups; the rest of this case wants one for each vector
        groups = groups[~groups.replay]
    taps = np.zeros((len(recording.weight), per_position * n), np.float16)
    taps[:, : recording.weight.shape[1]] = recording.weight[:, :, 1, 1].astype(np.float16)
    patterns = weight_patterns(taps.reshape(len(taps), per_position, n), parameters)
    compiled = compile_weights(patterns, parameters, largest=8.0)
    channels = random.integers(0, len(taps), (chosen, 4))
    rows = np.repeat(np.arange(chosen * per_position).reshape(chosen, 1, per_position), 4, axis=1).reshape(-1)
    channel = np.repeat(channels.reshape(-1), per_position)
    group = np.tile(np.arange(per_position), chosen * 4)
    return case(
        "trained layer",
        parameters,
        groups[rows],
        compiled.weights[channel, group],
        scale=compiled.scale[channel, group],
        first=group == 0,
        last=group == per_position - 1,
    )


def layer_exponent(deltas: np.ndarray, parameters: Parameters) -> int:
    """Code of the exponent at which the share of a layer's deltas that overflow is nearest to the published 1.86 %."""
    magnitude = np.abs(deltas.astype(np.float64)).reshape(-1)
    # The rule of numerics 2.2: digits overflow from (2^k - 1) * 2^(e-1) on.
    codes = np.arange(43 - parameters.digit_width)
    limits = (2**parameters.digit_width - 1) * np.exp2(codes - 25.0)
    shares = 1 - np.searchsorted(np.sort(magnitude), limits) / max(len(magnitude), 1)
    return int(codes[np.argmin(np.abs(np.log(np.maximum(shares, 1e-6) / 0.0186)))])


def weight_patterns(weights: np.ndarray, parameters: Parameters) -> np.ndarray:
    """FP16 weights in the machine's format, rounded to its declared range where they are finer."""
    lsb = 2.0**parameters.weight_lsb if parameters.weight_form == "float" else 2.0**-24
    values = (np.round(weights.astype(np.float64) / lsb) * lsb).astype(np.float32)
    if parameters.weight_format == "float16":
        return values.astype(np.float16).view(np.uint16)
    bits = values.view(np.uint32)
    return (bits + 0x7FFF + (bits >> 16 & 1) >> 16).astype(np.uint16)
