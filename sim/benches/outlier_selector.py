"""Bench of `outlier_selector`: every pattern of flags up to 16 lanes, random and sparse ones beyond."""

import dataclasses

import numpy as np

from golden.parameters import Parameters
from golden.units.outlier_selector import outlier_selector
from hw.units import OutlierSelector
from sim.bench import Bench, Case, Request, component
from sim.vectors import flags_of


def variants(parameters: Parameters) -> dict[str, Parameters]:
    """Every m, with 16 lanes so that all 65,536 patterns of flags are tried."""
    sixteen = dataclasses.replace(parameters, lanes=16, memory_lanes=1, exponent_policy="group", outliers=1)
    return {f"n=16 m={m}": dataclasses.replace(sixteen, outliers=m) for m in range(9)}


def bench(request: Request) -> Bench:
    """Every pattern where there are at most 2^16, else counts from none to all lanes; values tell lanes apart."""
    parameters, random = request.parameters, request.generator()
    n = parameters.lanes
    if n <= 16 and (request.full or n <= 10):
        patterns = np.arange(1 << n)
        # A few patterns are repeated in any order, so that pauses meet all of them.
        again = random.integers(0, 1 << n, max(2_000 - len(patterns), 0))
        flags = flags_of(np.concatenate([patterns, again]), n)
    else:
        count = request.count(6_000, 100_000)
        share = random.uniform(0, 1, count) ** 3  # mostly few flags, as real vectors have
        flags = random.uniform(0, 1, (count, n)) < share[:, None]
        flags[: n + 1] = np.arange(n)[None, :] < np.arange(n + 1)[:, None]
        flags[n + 1 : 2 * n + 1] = np.eye(n, dtype=bool)
    values = random.integers(0, 1 << 16, flags.shape, np.uint16)
    found = outlier_selector(flags, values, parameters)
    outputs = {"rest": found.rest}
    if parameters.outliers:
        outputs["outliers"] = {"valid": found.valid, "lane": found.lane, "value": found.value}
    case = Case("flags", {"i": {"flags": flags, "values": values}}, {"o": outputs})
    return Bench("outlier_selector", component(OutlierSelector, parameters), [case])
