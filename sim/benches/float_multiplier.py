"""Bench of `float_multiplier`: corners times corners, and stratified random pairs."""

import dataclasses

import numpy as np

from golden.parameters import Parameters
from golden.units.float_multiplier import float_multiplier
from hw.units import FloatMultiplier
from sim import stimuli
from sim.bench import Bench, Case, Request, component


def variants(parameters: Parameters) -> dict[str, Parameters]:
    """Both forms and both formats."""
    floats = dataclasses.replace(parameters, weight_form="float", weight_exponent_min=-14, weight_exponent_max=15)
    return {
        "float16": floats,
        "bfloat16": dataclasses.replace(floats, weight_format="bfloat16"),
        "aligned F=16": dataclasses.replace(parameters, weight_form="aligned", fraction_bits=16),
    }


def bench(request: Request) -> Bench:
    """Every pair of corners, every value and every weight at least once, and random pairs."""
    parameters, random = request.parameters, request.generator()
    count = request.count(3_000, 200_000)
    pairs = [np.meshgrid(stimuli.CORNERS, stimuli.weights(random, 40, parameters), indexing="ij")]
    pairs += [(stimuli.halves(random, count), stimuli.weights(random, count, parameters))]
    if request.full:
        every = stimuli.all_weights(parameters)
        pairs += [(stimuli.halves(random, len(every)), every)]
        patterns = np.arange(1 << 16, dtype=np.uint16)
        patterns = patterns[patterns & 0x7C00 != 0x7C00]
        pairs += [(patterns, stimuli.weights(random, len(patterns), parameters))]
    values, weights = (np.concatenate([np.ravel(part) for part in parts]) for parts in zip(*pairs, strict=True))
    found = float_multiplier(values, weights, parameters)
    case = Case("products", {"i": {"value": values, "weight": weights}}, {"o": vars(found)})
    return Bench("float_multiplier", component(FloatMultiplier, parameters), [case])
