"""Bench of `int_float_multiplier`: every digit times every weight up to 4 bits of digit, else every weight once."""

import dataclasses

import numpy as np

from golden.parameters import Parameters
from golden.units.int_float_multiplier import int_float_multiplier
from hw.units import IntFloatMultiplier
from sim import stimuli
from sim.bench import Bench, Case, Request, component


def variants(parameters: Parameters) -> dict[str, Parameters]:
    """Both forms, both formats, digits of 2 to 8 bits."""
    floats = dataclasses.replace(parameters, weight_form="float", weight_exponent_min=-14, weight_exponent_max=15)
    return {
        "float16": floats,
        "float16 k=4": dataclasses.replace(floats, digit_width=4),
        "float16 k=8": dataclasses.replace(floats, digit_width=8),
        "bfloat16": dataclasses.replace(floats, weight_format="bfloat16"),
        "aligned F=16 k=2": dataclasses.replace(parameters, weight_form="aligned", fraction_bits=16, digit_width=2),
    }


def bench(request: Request) -> Bench:
    """All pairs, or a random digit for every weight and for corners."""
    parameters, random = request.parameters, request.generator()
    q = parameters.digit_max
    digits, weights = np.arange(-q, q + 1), stimuli.all_weights(parameters)
    if not request.full:
        weights = np.concatenate([weights[:32], weights[-32:], random.choice(weights, 500)])
    if parameters.digit_width <= 4:
        digits, weights = (part.reshape(-1) for part in np.meshgrid(digits, weights, indexing="ij"))
    else:
        weights = np.concatenate([weights] * 4)
        digits = random.integers(-q, q + 1, len(weights))
        digits[: len(weights) // 4] = random.choice([-q, q], len(weights) // 4)
    found = int_float_multiplier(digits, weights, parameters)
    output = found if parameters.weight_form == "aligned" else vars(found)
    case = Case("products", {"i": {"digit": digits, "weight": weights}}, {"o": output})
    return Bench("int_float_multiplier", component(IntFloatMultiplier, parameters), [case])
