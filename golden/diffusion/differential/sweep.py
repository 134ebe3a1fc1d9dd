"""Variants of the closed and the open loop, one change at a time: the figures behind the decisions.

``python -m golden sweep`` runs them; a row a variant, network and number of steps.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from golden.common import names
from golden.diffusion.cost import traffic
from golden.diffusion.cost.rates import Rates
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.run import run
from golden.diffusion.sampling import Sampling
from golden.diffusion.zoo.quality import psnr

MEASURED = 2
"""Images on which bits are counted: counting takes longer than executing, and the shares hardly differ."""


def _changed(base: Method, machine: dict[str, Any] | None = None, **changes: Any) -> Method:
    parameters = dataclasses.replace(base.machine, **(machine or {}))
    return dataclasses.replace(base, machine=parameters, **changes)


def variants() -> dict[str, Method]:
    """Every variant by name: ``<base>`` as it is, or ``<base>: <what is different>``."""
    result: dict[str, Method] = {}
    usual = Method()

    def add(base: str, what: str, machine: dict[str, Any] | None = None, **changes: Any) -> None:
        result[f"{base}: {what}"] = _changed(Method.named(base), machine, **changes)

    for base in ("raw-int8", "raw-int8-tensor", "closed-int3", "closed-int4"):
        result[base] = Method.named(base)
    for base in ("closed-int3", "closed-int4"):
        own = Method.named(base)
        add(base, "n = 16", {"lanes": 16})
        add(base, "m = 1", {"outliers": 1})
        add(base, "m = 2", {"outliers": 2})
        add(base, "one output bit less", output_bits=own.output_bits - 1)
        add(base, "one output bit more", output_bits=own.output_bits + 1)
        add(base, "even output bits", output_allocation="even")
        add(base, "even output bits, one more", output_allocation="even", output_bits=own.output_bits + 1)
        for width in (16, 20, 24):
            add(base, f"state {width} bits", {"state_width": width})
        for bits in (12, 14):
            add(base, f"F = {bits}", {"fraction_bits": bits})
        add(base, "one pass early", early_passes=1)
        add(base, "two passes in 4 early and 2 late steps", early_steps=4, late_steps=2)
        add(base, "one pass for the mix of attention", mix_passes=1)
        add(base, "one pass at the end", last_passes=1)
    group = {"exponent_policy": "group", "overflow_policy": "saturate", "lanes": 32, "outliers": 0, "memory_lanes": 4}
    exact = _changed(Method.named("paper"), norm="current")
    result["paper"] = Method.named("paper")
    result["paper: k = 4"] = _changed(Method.named("paper"), {"digit_width": 4})
    result["paper: current norm"] = exact
    for bits in (2, 3, 4):
        result[f"paper: segment masks of {bits} bits"] = _changed(
            Method.named("paper"), {"mask_width": bits, "mask_operand": "values"}
        )
    result["paper: current norm, 8 bits"] = _changed(exact, group | {"digit_width": 8})
    result["paper: refresh every 10 steps"] = _changed(Method.named("paper"), refresh=10)
    result["paper: current norm, flip repair"] = _changed(exact, {"flip_repair": True})
    result["paper: current norm, 8 bits, flip repair"] = _changed(
        exact, group | {"digit_width": 8, "flip_repair": True}
    )
    result["paper: current norm, group exponent"] = _changed(exact, group)
    result["paper: current norm, group exponent, flip repair"] = _changed(exact, group | {"flip_repair": True})
    closed = {name: getattr(usual, name) for name in ("output_width", "output_bits", "output_allocation")}
    result["diffy: digits of closed-int3"] = _changed(Method.named("closed-int3"), flow="diffy", **closed)
    result["diffy: digits of paper"] = _changed(exact, flow="diffy", attention="delta")
    return result


def sweep(
    sampling: Sampling,
    chosen: Sequence[str],
    *,
    areas: Sequence[Mapping[str, Any]] = (),
    track: Callable[[Sequence[str]], Iterator[str]] = iter,
) -> Iterator[dict[str, Any]]:
    """Run variants.

    Parameters
    ----------
    sampling : Sampling
        What to draw.
    chosen : sequence of str
        Names of `variants`.
    areas : sequence of mapping
        LUTs of pieces, see `golden.diffusion.cost.areas.read`.
    track : callable
        Wraps the iteration over the names, to show progress.

    Raises
    ------
    ValueError
        If a variant is unknown.

    Yields
    ------
    dict
        ``variant``, ``network``, ``steps``, ``images``, ``psnr_mean`` and ``psnr_min`` (dB against dense, peak 2);
        ``link_bits`` and ``area_cycles`` of `cost.traffic.price`, over all steps; over all steps but the first:
        ``input_bits`` and ``output_bits`` of an element that is quantised (0: none is), ``link`` of `cost.traffic`
        (everything that crosses over Diffy's 32 bits, what is not quantised in FP16) in the delta stream and
        ``link_joint`` with joint deltas where that is smaller, and ``array``: groups of inputs that are not zero,
        replays and all passes, over the groups of one pass (elements where there are no groups).
    """
    known = variants()
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise ValueError(names.unknown("Variant", unknown[0], known))
    network, steps = sampling.network, sampling.steps
    reference = run(sampling, Method.named("dense")).images
    for name in track(chosen):
        how = known[name]
        result = psnr(run(sampling, how).images, reference)
        measure = run(sampling.of(sampling.given[:MEASURED]), how, measured=True).measure
        later = range(1, steps)
        inputs, outputs = measure.total(measure.inputs, later), measure.total(measure.outputs, later)
        links = [
            traffic.step(network, how, Rates.measured(measure, joint=joint, steps=later)).ratio
            for joint in (False, True)
        ]
        yield {
            "variant": name,
            "network": network.name,
            "steps": steps,
            "images": sampling.count,
            "psnr_mean": float(result.mean()),
            "psnr_min": float(result.min()),
            **traffic.price(network, how, measure, areas),
            "input_bits": inputs.bits / max(inputs.elements, 1),
            "output_bits": outputs.bits / max(outputs.elements, 1),
            "link": links[0],
            "link_joint": links[1],
            "array": (inputs if inputs.elements else outputs).array,
        }
