"""Bench of `sign_mask`: every mask up to 16 lanes; every FP16 value in every segment of SiLU and GELU."""

import dataclasses

import numpy as np
from amaranth.lib import data

from golden.formats import Halves
from golden.parameters import Parameters
from golden.units.delta_group import DeltaGroups
from golden.units.delta_quantizer import quantise_passes
from golden.units.sign_mask import mask_values, segment_mask, segments, sign_mask
from hw.units import SignMask
from sim import stimuli
from sim.bench import Bench, Case, Request, component
from sim.benches.multiplier_group import layer_exponent
from sim.vectors import flags_of, group_values, number


def variants(parameters: Parameters) -> dict[str, Parameters]:
    """Values in place of groups, segments of 2 to 4 bits, replay groups, no outlier and many."""
    plain = dataclasses.replace(parameters, flip_repair=False)
    digits = dataclasses.replace(plain, mask_operand="digits", mask_width=1)
    layer = dataclasses.replace(digits, exponent_policy="layer", output_passes=1)
    values = dataclasses.replace(plain, mask_operand="values")
    return {
        "replay, m=2": dataclasses.replace(layer, overflow_policy="replay", outliers=2),
        "m=0": dataclasses.replace(digits, outliers=0, exponent_policy="group"),
        "m=4": dataclasses.replace(digits, outliers=4, exponent_policy="group"),
        "values": dataclasses.replace(values, mask_width=1),
        "segments, s=2": dataclasses.replace(values, mask_width=2),
        "segments, s=3": dataclasses.replace(values, mask_width=3),
        "segments, s=4": dataclasses.replace(values, mask_width=4),
    }


def bench(request: Request) -> Bench:
    """Masks of groups, of values, or segments, as the machine has it."""
    parameters = request.parameters
    if parameters.mask_operand == "digits":
        cases = [_made_up_groups(request), _recorded_groups(request)]
    elif parameters.mask_width == 1:
        cases = [_values(request), *_single_values(parameters)]
    else:
        cases = _segments(request)
    return Bench("sign_mask", component(SignMask, parameters), cases)


def group_case(name: str, groups: DeltaGroups, mask: np.ndarray, parameters: Parameters) -> Case:
    """Groups and masks, answered by the golden model."""
    found = sign_mask(groups, mask, parameters)
    values = {"group": group_values(groups, parameters), "mask": mask}
    return Case(name, {"i": values}, {"o": group_values(found, parameters)})


def _made_up_groups(request: Request) -> Case:
    parameters, random = request.parameters, request.generator()
    n = parameters.lanes
    if n <= 16 and request.full:
        mask = flags_of(np.arange(1 << n), n)
        mask = np.concatenate([mask, mask[random.integers(0, len(mask), max(5_000 - len(mask), 0))]])
    else:
        count = request.count(2_500, 60_000)
        mask = random.uniform(size=(count, n)) < random.choice([0.0, 0.2, 0.5, 0.9, 1.0], (count, 1))
    return group_case("every mask", stimuli.delta_groups(random, len(mask), parameters), mask, parameters)


def _recorded_groups(request: Request) -> Case:
    parameters, random = request.parameters, request.generator(1)
    deltas = stimuli.recorded_deltas(random, request.count(600, 20_000), parameters.lanes)
    by_group = parameters.exponent_policy == "group"
    code = 0 if by_group else layer_exponent(deltas.view(np.float16), parameters)
    groups = quantise_passes(deltas, parameters, 1, exponent=code).groups
    mask = random.uniform(size=groups.digits.shape) < 0.5
    return group_case("recorded deltas", groups, mask, parameters)


def _every_value(request: Request, codes: int) -> tuple[np.ndarray, np.ndarray]:
    # Every FP16 pattern under every code, cut into vectors.
    parameters, random = request.parameters, request.generator()
    patterns = np.arange(1 << 16)
    if not request.full:
        patterns = np.concatenate([stimuli.CORNERS, random.integers(0, 1 << 16, 1_500)])
    values, code = (part.reshape(-1) for part in np.meshgrid(patterns, np.arange(codes), indexing="ij"))
    padding = -len(values) % parameters.lanes
    shape = (-1, parameters.lanes)
    return (
        np.pad(values, (0, padding)).reshape(shape).astype(np.uint16),
        np.pad(code, (0, padding)).reshape(shape),
    )


def _values(request: Request) -> Case:
    values, mask = _every_value(request, 2)
    found = mask_values(values, mask)
    inputs = {"values": values, "mask": mask.astype(bool)}
    return Case("every value", {"i": inputs}, {"o": found.values}, status=found.status)


def _single_values(parameters: Parameters) -> list[Case]:
    """A value that is none, in one lane of one vector: a case for each lane and mask."""
    cases = []
    for lane, alone in enumerate(stimuli.one_lane(parameters.lanes)):
        for mask in (0, 1):
            values = np.full((3, parameters.lanes), 0x3C00, np.uint16)
            values[1, alone] = 0x7C00
            masks = np.full(values.shape, mask)
            found = mask_values(values, masks)
            inputs = {"values": values, "mask": masks.astype(bool)}
            cases.append(
                Case(f"no value in lane {lane}, mask {mask}", {"i": inputs}, {"o": found.values}, {}, found.status)
            )
    return cases


def _segments(request: Request) -> list[Case]:
    parameters, random = request.parameters, request.generator(2)
    codes = 2**parameters.mask_width
    values, code = _every_value(request, codes)
    cases = []
    for name in ("silu", "gelu"):
        slopes = np.array(segments(name, parameters.mask_width).slopes, np.uint16)
        cases.append(_segment_case(name, values, code, slopes, segment_mask(values, code, slopes)))
        # Sound values leave the sticky bits low.
        finite = (values & 0x7C00 != 0x7C00).all(axis=1)
        found = segment_mask(values[finite], code[finite], slopes)
        cases.append(_segment_case(f"{name}, finite", values[finite], code[finite], slopes, found))
    slopes = random.permutation(np.concatenate([stimuli.halves(random, codes - 2), [0x7C00, 0x7BFF]]))
    slopes = slopes.astype(np.uint16)
    cases.append(_segment_case("any slopes", values, code, slopes, segment_mask(values, code, slopes)))
    ones = np.full(codes, 0x3C00, np.uint16)
    large = np.full(codes, 0x7BFF, np.uint16)
    for lane, alone in enumerate(stimuli.one_lane(parameters.lanes)):
        for event, pattern, slopes in (("no value", 0xFC00, ones), ("overflow", 0x4000, large)):
            values = np.full((3, parameters.lanes), 0x3800, np.uint16)
            values[1, alone] = pattern
            code = random.integers(0, codes, values.shape)
            found = segment_mask(values, code, slopes)
            cases.append(_segment_case(f"{event} in lane {lane}", values, code, slopes, found))
    return cases


def _segment_case(name: str, values: np.ndarray, code: np.ndarray, slopes: np.ndarray, found: Halves) -> Case:
    settings = {"slopes": number(data.ArrayLayout(16, len(slopes)), slopes)}
    return Case(name, {"i": {"values": values, "codes": code}}, {"o": found.values}, settings, found.status)
