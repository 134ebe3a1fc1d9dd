"""Figures of a whole sampling on the machine: clocks by step and by kind of layer, bytes, images a second."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from golden.diffusion import zoo
from golden.diffusion.cost.predict import predict, total
from golden.diffusion.cost.rates import Rates
from golden.diffusion.cost.traffic import loads
from golden.diffusion.layers import Layer
from golden.diffusion.networks.graph import Network
from golden.diffusion.zoo import quality
from golden.machine.command import ENGINES, Command
from golden.machine.work import needed_groups
from golden.parameters import Parameters
from rtl_gen.program.sums import SAMPLE_TAG
from sim.machine.whole import StepRow


def images(network: Network, drawn: np.ndarray, dense: np.ndarray) -> list[dict[str, Any]]:
    """A row for each image: how far it is from the dense network's, and what the shipped classifier sees in both.

    Parameters
    ----------
    network : Network
        That drew them.
    drawn, dense : float (count, channels, ...)
        Images of the machine and of the network itself.
    """
    rows: list[dict[str, Any]] = [
        {"image": number, "PSNR dB": round(float(value), 1)}
        for number, value in enumerate(np.atleast_1d(quality.psnr(drawn, dense)))
    ]
    further = {}
    if min(drawn.shape[-2:]) >= quality.WINDOW:
        further["SSIM"] = np.atleast_1d(quality.ssim(drawn, dense)).round(4)
    if network.name in zoo.DRAWS:
        classifier = zoo.load("classifier")
        for name, found in (("classified", drawn), ("dense classified", dense)):
            further[name] = zoo.classify(np.clip(found, -1, 1), classifier)
    for name, values in further.items():
        for row, value in zip(rows, values.tolist(), strict=True):
            row[name] = value
    return rows


def counted(rows: Sequence[StepRow]) -> "collections.Counter[str]":
    """Counters of all steps together."""
    found: collections.Counter[str] = collections.Counter()
    for row in rows:
        found.update(row.counters)
    return found


def counts(counters: Mapping[str, int]) -> dict[str, Any]:
    """What was multiplied and sent, without clocks."""
    return {
        "groups": counters["array_groups"],
        "zero": round(counters["array_zero_groups"] / max(counters["array_groups"], 1), 3),
        "sent groups": counters["link_groups"],
        "sent outputs": counters["link_outputs"],
    }


def totals(rows: Sequence[StepRow], turns: Sequence[Sequence[Command]], p: Parameters) -> dict[str, Any]:
    """Clocks on paper and measured, use of the array as `sim.machine.run.Row` has it, engines that wait."""
    counters = counted(rows)
    clocks = sum(row.clocks for row in rows)
    slots = max(clocks, 1) * p.rows * p.columns
    seconds = sum(row.seconds for row in rows)
    return {
        "clocks": clocks,
        "predicted": sum(row.predicted for row in rows),
        **counts(counters),
        "use": round(sum(map(needed_groups, turns)) / slots, 3),
        "not zero": round((counters["array_groups"] - counters["array_zero_groups"]) / slots, 3),
        **{f"{engine} waits": round(counters[f"{engine}_waiting"] / max(clocks, 1), 3) for engine in ENGINES},
        "seconds": round(seconds, 1),
        "clocks a second": int(clocks / seconds) if seconds else 0,
    }


def by_step(rows: Sequence[StepRow], turns: Sequence[Sequence[Command]], p: Parameters) -> list[dict[str, Any]]:
    """A row for each step: the most of what `totals` says."""
    kept = ("clocks", "predicted", "zero", "use", "not zero", "seconds")
    found = [totals([row], [turn], p) for row, turn in zip(rows, turns, strict=True)]
    return [{"step": row.step} | {name: one[name] for name in kept} for row, one in zip(rows, found, strict=True)]


def flows(counters: Mapping[str, int]) -> list[dict[str, Any]]:
    """Megabytes that were read and written, by what they are."""
    found: dict[str, dict[str, float]] = {}
    for name, size in counters.items():
        place, _, rest = name.partition("_")
        if place in ("memory", "chip") and size:
            what, _, way = rest.rpartition("_")
            found.setdefault(f"{what}{' on the chip' * (place == 'chip')}", {})[f"{way} MB"] = round(size / 1e6, 3)
    return [{"flow": what, "read MB": 0.0, "written MB": 0.0} | sizes for what, sizes in found.items()]


def link(network: Network, counters: Mapping[str, int], runs: int) -> list[dict[str, Any]]:
    """Bits that streams of deltas take on the link, for each operand and for each output of a product, and over Diffy's
    32 (`golden.diffusion.cost.traffic`).

    Each emitted group and each output is counted once, whatever is read again; masks of chains as they are read. `runs`
    are those of the whole network.
    """
    table = loads(network)
    ins, outs = (runs * sum(getattr(load, name) for load in table) for name in ("inputs", "outputs"))
    up = counters["link_group_bits"] + counters.get("chain_mask_bits", 0)
    down = counters["link_output_bits"] + counters.get("chain_group_bits", 0)
    return [
        {
            "bits of an operand": round(up / ins, 2),
            "bits of an output": round(down / outs, 2),
            "link": round((up + down) / (16 * (ins + outs)), 4),
        }
    ]


def shares(network: Network, rows: Sequence[StepRow]) -> list[dict[str, Any]]:
    """Kinds of layers: their share of the network's multiplications, and of the clocks.

    Clocks are those by which a layer's operations move the end on. Emission counts with the layer whose value is sent.
    """
    macs: collections.Counter[str] = collections.Counter()
    for load in loads(network):
        macs[_kind(network.by_name[load.name])] += sum(shape.macs for shape in load.dense)
    clocks: collections.Counter[str] = collections.Counter()
    for row in rows:
        for tag, count in row.by_tag.items():
            clocks["sampler" if tag == SAMPLE_TAG else _kind(network.layers[tag])] += count
    return [
        {
            "layers": kind,
            "share of MACs": round(macs[kind] / macs.total(), 4),
            "clocks": clocks[kind],
            "share of clocks": round(clocks[kind] / max(clocks.total(), 1), 4),
        }
        for kind in ("products with weights", "attention", "between", "sampler")
    ]


def int8_clocks(network: Network, p: Parameters, *, memory: bool = True) -> int:
    """Clocks of a step on a dense INT8 machine of the same area, by the cost model: those of the slowest part, of the
    array and, with `memory`, the same memory.
    """
    cost = total(predict(load, "int8", Rates.plain(p, "int8"), p) for load in loads(network))
    reads, writes = (memory * 8 * size / p.memory_width for size in (cost.weights + cost.link_in, cost.link_out))
    return int(max(cost.cycles, reads, writes))


def rates(
    network: Network,
    counters: Mapping[str, int],
    clocks: int,
    steps: int,
    count: int,
    clock: float,
    p: Parameters,
) -> list[dict[str, Any]]:
    """Images a second of the machine, and of dense INT8 by the cost model: each with the memory, and its array alone.

    Parameters
    ----------
    network : Network
        That is sampled.
    counters : mapping of str to int
        Of the whole sampling.
    clocks, steps, count : int
        Of the sampling, which draws so many images.
    clock : float
        MHz.
    p : Parameters
        Of the machine.
    """
    found = {
        "this machine": clocks / count,
        "its array alone": counters["array_groups"] / (p.rows * p.columns) / count,
        "dense INT8 of the same area and memory": steps * int8_clocks(network, p),
        "dense INT8 of the same area, its array alone": steps * int8_clocks(network, p, memory=False),
    }
    return [
        {"machine": name, "clocks an image": int(each), "images a second": round(clock * 1e6 / each, 3)}
        for name, each in found.items()
    ]


def _kind(layer: Layer) -> str:
    if layer.bilinear:
        return "attention"
    return "products with weights" if layer.contracted else "between"
