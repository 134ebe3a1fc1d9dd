"""Bench of `delta_quantizer`: both exponent policies, passes, saturation, replay, poison and recorded deltas."""

import dataclasses
from typing import Any

import numpy as np

from golden.parameters import Parameters
from golden.units.delta_quantizer import delta_quantizer
from hw.units import DeltaQuantizer
from sim import stimuli
from sim.bench import Bench, Case, Request, component
from sim.vectors import group_values


def variants(parameters: Parameters) -> dict[str, Parameters]:
    """The policies, no outlier at all, the least and the widest digit."""
    layer = dataclasses.replace(parameters, exponent_policy="layer", output_passes=1)
    some = max(parameters.outliers, 1)
    return {
        "saturate": dataclasses.replace(layer, overflow_policy="saturate"),
        "replay": dataclasses.replace(layer, overflow_policy="replay", outliers=some),
        "m=0": dataclasses.replace(parameters, outliers=0, exponent_policy="group"),
        "k=2": dataclasses.replace(parameters, digit_width=2),
        "k=8": dataclasses.replace(parameters, digit_width=8),
        "n=13 m=8": dataclasses.replace(parameters, lanes=13, memory_lanes=1, outliers=8),
    }


def case(name: str, parameters: Parameters, values: np.ndarray, **control: Any) -> Case:
    """Vectors with their control fields (one value for all, or an array), answered by the golden model."""
    control = {
        field: np.broadcast_to(control.get(field, default), (len(values),))
        for field, default in {"by_group": True, "first_pass": True, "exponent": 0, "floor": 0}.items()
    }
    found = delta_quantizer(values, parameters, **control)
    output = {
        "group": group_values(found.groups, parameters),
        "last": found.last,
        "next_exponent": found.next_exponent,
        "overflow": found.overflow,
        "residual": found.residual,
    }
    return Case(name, {"i": {**control, "values": values}}, {"o": output}, status=found.status)


def bench(request: Request) -> Bench:
    """Each policy apart, then all mixed; the status bit must stay low where nothing saturates."""
    parameters, random = request.parameters, request.generator()
    n, codes = parameters.lanes, 43 - parameters.digit_width
    count = request.count(1_500, 20_000)
    values = stimuli.vectors(random, count, n)
    real = stimuli.recorded_deltas(random, count, n)
    floor = np.where(np.arange(count) % 3 == 0, random.integers(0, codes, count), 0)

    # An exponent near the one a vector needs, so that some lanes overflow and most do not.
    magnitude = np.median(np.abs(values.view(np.float16).astype(np.float64)), axis=1)
    near = np.log2(np.maximum(magnitude, 2.0**-24)).astype(np.int64) + 24 + random.integers(-3, 3, count)
    near = np.clip(near, 0, codes - 1)
    anything = random.integers(0, codes, count)
    mixed = {
        "by_group": random.integers(0, 2, count).astype(bool),
        "first_pass": random.integers(0, 4, count) > 0,
        "exponent": np.where(random.integers(0, 2, count) > 0, near, anything),
        "floor": floor,
    }
    cases = [
        case("group exponents", parameters, values, floor=floor),
        case("given exponents", parameters, values, by_group=False, exponent=near),
        case("later passes", parameters, values, first_pass=False, exponent=anything),
        case("all mixed", parameters, stimuli.poisoned(random, values, 0.1), **mixed),
        case("recorded deltas", parameters, real, floor=8),
        passes_case("4 passes of recorded deltas", parameters, real[: count // 4], 4),
        *_single_lanes(parameters),
    ]
    return Bench("delta_quantizer", component(DeltaQuantizer, parameters), cases)


def _single_lanes(parameters: Parameters) -> list[Case]:
    """A lane that saturates, or has no value, in one vector among quiet ones: a case for each."""
    cases = []
    for lane, alone in enumerate(stimuli.one_lane(parameters.lanes)):
        for event, pattern in (("saturated", 0x4F00), ("infinite", 0xFC00)):
            values = np.full((3, parameters.lanes), 0x3C00, np.uint16)
            values[1, alone] = pattern
            control = {"by_group": False, "first_pass": False, "exponent": 24}
            cases.append(case(f"lane {lane} {event}", parameters, values, **control))
    return cases


def passes_case(
    name: str,
    parameters: Parameters,
    values: np.ndarray,
    passes: int,
    *,
    by_group: bool = True,
    exponent: int = 0,
    floor: int = 0,
) -> Case:
    """Vectors in so many passes, all vectors of a pass together.

    Each pass gets the residual and the exponent that the golden model says the one before handed on; the unit's own are
    compared with these, so this is the loop a machine runs.
    """
    parts, exponents, first = [], [], []
    code: np.ndarray | int = exponent
    for number in range(passes):
        parts.append(values)
        exponents.append(np.broadcast_to(code, (len(values),)))
        first.append(np.full(len(values), number == 0))
        found = delta_quantizer(
            values, parameters, by_group=by_group, first_pass=number == 0, exponent=code, floor=floor
        )
        values, code = found.residual[found.last], found.next_exponent[found.last].astype(np.int64)
    return case(
        name,
        parameters,
        np.concatenate(parts),
        by_group=by_group,
        first_pass=np.concatenate(first),
        exponent=np.concatenate(exponents),
        floor=floor,
    )
