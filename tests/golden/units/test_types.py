"""Every unit refuses floats, and integers beyond 16 bits, where patterns or integers are asked for."""

import re

import numpy as np
import pytest

from golden.parameters import Parameters
from golden.units.channel_scale import channel_scale
from golden.units.delta_group import DeltaGroups
from golden.units.delta_quantizer import delta_quantizer
from golden.units.float_multiplier import float_multiplier
from golden.units.int_float_multiplier import int_float_multiplier
from golden.units.multiplier_group import multiplier_group
from golden.units.near_memory_engine import near_memory_engine
from golden.units.outlier_selector import outlier_selector
from golden.units.sign_mask import mask_codes, mask_values, segment_mask, sign_mask
from golden.units.weights import align_weights, check_weights, compile_weights

pytestmark = pytest.mark.golden

ALIGNED = Parameters(lanes=4, memory_lanes=1)
FLOAT = Parameters(lanes=4, memory_lanes=1, weight_form="float")
HALF = Parameters(lanes=4, memory_lanes=1, state_format="float16")
GROUPS = DeltaGroups.zeros(1, ALIGNED)
FOUR = np.zeros((1, 4), np.uint16)

PATTERNS = {
    "Values of the quantiser": ("Values", lambda x: delta_quantizer(x, ALIGNED)),
    "Values of the selector": ("Values", lambda x: outlier_selector(FOUR, x, ALIGNED)),
    "Values of the multiplier": ("Values", lambda x: float_multiplier(x, FOUR, ALIGNED)),
    "Values of a mask": ("Values", lambda x: mask_values(x, FOUR)),
    "Values of segments": ("Values", lambda x: segment_mask(x, FOUR, [0, 1])),
    "slopes": ("slopes", lambda x: segment_mask(FOUR, FOUR, x[0])),
    "scale": ("scale", lambda x: channel_scale(FOUR, False, x, 0, ALIGNED)),
    "Weights, aligned now": ("Weights", lambda x: align_weights(x, ALIGNED)),
    "Weights, checked": ("Weights", lambda x: check_weights(x, ALIGNED)),
    "Weights, compiled": ("Weights", lambda x: compile_weights(x.reshape(1, 1, 4), ALIGNED)),
    "Weights of a float multiplier": ("Weights", lambda x: float_multiplier(FOUR, x, FLOAT)),
    "Weights of an integer multiplier": ("Weights", lambda x: int_float_multiplier(FOUR, x, FLOAT)),
    "Weights of a group": ("Weights", lambda x: multiplier_group(GROUPS, x, FLOAT, scale=0)),
}
INTEGERS = {
    "Digits": ("Digits", (-3, 3), lambda x: int_float_multiplier(x, FOUR, ALIGNED)),
    "Aligned weights": ("Aligned weights", (-8191, 8191), lambda x: int_float_multiplier(FOUR, x, ALIGNED)),
    "Aligned weights, float": ("Aligned weights", (-8191, 8191), lambda x: float_multiplier(FOUR, x, ALIGNED)),
    "Aligned weights of a group": (
        "Aligned weights",
        (-8191, 8191),
        lambda x: multiplier_group(GROUPS, x, ALIGNED, scale=0),
    ),
    "scale of a group": ("scale", (-220, 220), lambda x: multiplier_group(GROUPS, FOUR, ALIGNED, scale=x[0, 0])),
    "first": ("first", (0, 1), lambda x: multiplier_group(GROUPS, FOUR, ALIGNED, scale=0, first=x[0, :1])),
    "sums": ("sums", (-(2**31), 2**31 - 1), lambda x: channel_scale(x, False, FOUR, 0, ALIGNED)),
    "poisoned": ("poisoned", (0, 1), lambda x: channel_scale(FOUR, x, FOUR, 0, ALIGNED)),
    "lsb": ("lsb", (-256, 255), lambda x: channel_scale(FOUR, False, FOUR, x, ALIGNED)),
    "Flags": ("Flags", (0, 1), lambda x: outlier_selector(x, FOUR, ALIGNED)),
    "mask": ("mask", (0, 1), lambda x: sign_mask(GROUPS, x, ALIGNED)),
    "mask of values": ("mask", (0, 1), lambda x: mask_values(FOUR, x)),
    "codes": ("codes", (0, 1), lambda x: segment_mask(FOUR, x, [0, 1])),
    "floor": ("Codes of floor", (0, 39), lambda x: delta_quantizer(FOUR, ALIGNED, floor=x[0, :1])),
    "by_group": ("by_group", (0, 1), lambda x: delta_quantizer(FOUR, ALIGNED, by_group=x[0, :1])),
    "state": ("state", (-(2**17), 2**17 - 1), lambda x: near_memory_engine(x, GROUPS, ALIGNED, address=0)),
    "state, FP16": ("state", (0, 0xFFFF), lambda x: near_memory_engine(x, GROUPS, HALF, address=0)),
    "address": ("address", (0, 0), lambda x: near_memory_engine(FOUR, GROUPS, ALIGNED, address=x[0, 0])),
    "bias": ("bias", (0, 0xFFFF), lambda x: near_memory_engine(FOUR, GROUPS, HALF, address=0, bias=x)),
    "refresh": ("refresh", (0, 1), lambda x: near_memory_engine(FOUR, GROUPS, HALF, address=0, refresh=x[0, 0])),
}


@pytest.mark.parametrize("case", PATTERNS)
def test_patterns(case):
    name, call = PATTERNS[case]
    call(FOUR.astype(np.int64))
    for value in (0.1, np.float16(0.1)):
        kind = np.asarray(value).dtype
        message = f"{name} must be 16-bit patterns, as formats.FLOAT16.from_floats makes them, not {kind}"
        with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
            call(np.full((1, 4), value))
    for value in (70000, -1):
        with pytest.raises(ValueError, match=f"^{name} must be in 0..65535, not {value}$"):
            call(np.full((1, 4), value))


@pytest.mark.parametrize("case", INTEGERS)
def test_integers(case):
    name, (low, high), call = INTEGERS[case]
    for value in (low, high):
        call(np.full((1, 4), value))
    with pytest.raises(TypeError, match=f"^{name} must be integers, not float64$"):
        call(np.full((1, 4), 0.1))
    for value in (low - 1, high + 1):
        with pytest.raises(ValueError, match=f"^{name} must be in {low}..{high}, not {value}$"):
            call(np.full((1, 4), value))


def test_thresholds_and_state_of_a_mask():
    for name, arguments in (("state", ([0.5], ())), ("thresholds", ([0], [0.5]))):
        with pytest.raises(TypeError, match=f"^{name} must be integers, not float64$"):
            mask_codes(arguments[0], ALIGNED, thresholds=arguments[1])
