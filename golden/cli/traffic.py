"""``golden traffic``: bytes and cycles of a step of a network, flow by flow, and the published table beside them."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from golden.cli import options
from golden.cli.stats import measured
from golden.cli.subject import outline
from golden.common import console, drawing, names
from golden.diffusion import zoo
from golden.diffusion.cost import traffic
from golden.diffusion.cost.cambricon_d import CAMBRICON_D, PAPER, against_dense
from golden.diffusion.cost.predict import multipliers, predict, total
from golden.diffusion.cost.rates import Rates
from golden.diffusion.differential.method import Method
from golden.diffusion.layers import Convolution
from golden.diffusion.networks import published
from golden.diffusion.networks.graph import Network
from golden.diffusion.sampling import Sampling, Schedule
from golden.parameters import DEFAULT_PRESET, PRESETS, Parameters

KINDRED = {"unet2d": "unet-silu", "dit2d": "dit", "stdit": "dit"}
"""Network of the zoo on which rates of a published one are measured, by the builder of the latter."""

ARRAY = 64
"""FP16 multipliers that every array of the table of flows costs."""

GUIDED = ("sd15",)
"""Published networks that are sampled with guidance: two images, one of them without text."""


def find(name: str) -> tuple[Network, str]:
    """Network of the zoo, published one, checkpoint or function, and the network of the zoo that gives its rates.

    Raises
    ------
    ValueError
        If there is none of this name.
    """
    if name in published.PUBLISHED:
        return published.network(name), KINDRED[published.PUBLISHED[name].build.__name__]
    if name in set(zoo.NETWORKS) - set(zoo.DRAWS):
        raise ValueError(names.unknown("Network", name, (*zoo.DRAWS, *published.PUBLISHED)))
    network = outline(name, published.PUBLISHED)
    convolves = any(isinstance(layer, Convolution) for layer in network.layers)
    return network, name if name in zoo.DRAWS else KINDRED["unet2d" if convolves else "dit2d"]


RIVALS = {
    "dense FP16": ("dense", Rates(source="exact")),
    "dense INT8": ("int8", Rates(source="exact")),
    "Diffy": ("diffy", Rates(source="one pass, no group skipped")),
}
"""Flow and rates of the rows beside the methods, on the default machine: they depend on no method."""


def flows(
    network: Network, methods: Mapping[str, tuple[Method, Rates]], *, batch: int = 1, by: str = "total"
) -> list[dict[str, Any]]:
    """Bytes and cycles of one step.

    Parameters
    ----------
    network : Network
        With or without weights.
    methods : mapping of str to (Method, Rates)
        What to bill beside `RIVALS`.
    batch : int
        Images of the step.
    by : str
        A row for each ``layer``, or the ``total``.

    Returns
    -------
    list of dict
        ``network``, ``method``, ``layer``; bytes ``link_in``, ``link_out`` of activations, ``raw`` among them (FP16 in
        the open loop), ``weights``, and behind the engine ``memory_read``, ``memory_written``; ``ratio`` of the link to
        Diffy's 32 bits, ``ratio_groups`` of groups and masks alone to 32 bits for each quantised element (open loop);
        ``macs``; ``cycles`` of arrays that all cost as much, see `equal_cost`; the rates.
    """
    table = {name: (flow, rates, PRESETS[DEFAULT_PRESET], "delta") for name, (flow, rates) in RIVALS.items()}
    for name, (method, rates) in methods.items():
        table[name] = (method.flow, rates, method.machine, method.attention)
    found = []
    for name, (flow, rates, machine, attention) in table.items():
        loads = traffic.loads(network, batch, attention)
        parts = {load.name: [load] for load in loads} if by == "layer" else {"": loads}
        for layer, part in parts.items():
            cost = total(predict(load, flow, rates, machine) for load in part)
            groups = sum(sum(load.groups.values()) for load in part) if flow == "sign_mask" else 0
            found.append(
                {
                    "network": network.name,
                    "method": name,
                    **({"layer": layer} if by == "layer" else {}),
                    "link_in": round(cost.link_in),
                    "link_out": round(cost.link_out),
                    "raw": round(cost.raw),
                    "ratio": cost.ratio,
                    "ratio_groups": (cost.link - cost.raw) / (4 * groups) if groups else None,
                    "weights": round(cost.weights),
                    "memory_read": round(cost.read),
                    "memory_written": round(cost.written),
                    "macs": cost.macs,
                    "cycles": round(cost.cycles * equal_cost(machine)),
                    "input_bits": rates.input_bits or None,
                    "output_bits": rates.output_bits or None,
                    "passes": rates.passes,
                    "zero_groups": rates.zero_groups,
                    "rates": rates.source,
                }
            )
    return found


def equal_cost(parameters: Parameters) -> float:
    """Clocks of an array over those of one of the same groups that costs as much as `ARRAY` FP16 multipliers."""
    return parameters.rows * parameters.columns * multipliers(parameters) / ARRAY


def published_rows(
    methods: Mapping[str, tuple[Method, Rates]], chosen: Sequence[str] = tuple(CAMBRICON_D)
) -> list[dict[str, Any]]:
    """The published table, and beside it what the cost model predicts for the published machine and for methods.

    Returns
    -------
    list of dict
        ``network``, ``machine``, ``speedup`` over the dense machine of the same cost, ``traffic`` off chip relative to
        it (None where it was not published), and ``source``.
    """
    found = []
    for name in chosen:
        for machine, (speedup, moved) in CAMBRICON_D[name].items():
            found.append({"network": name, "machine": machine, "speedup": speedup, "traffic": moved, "source": PAPER})
        loads = traffic.loads(published.network(name), 2 if name in GUIDED else 1, "raw", modulated=True)
        flow, rates = RIVALS["Diffy"]
        cases = {"Diffy's dataflow": (flow, rates, PRESETS["paper"])}
        for title, (method, own) in methods.items():
            if method.flow != "dense":
                cases[title] = (method.flow, own, method.machine)
        for machine, (flow, rates, parameters) in cases.items():
            speedup, moved = against_dense(loads, flow, rates, parameters)
            row = {"network": name, "machine": f"{machine}, predicted", "speedup": speedup, "traffic": moved}
            found.append({**row, "source": rates.source})
    return found


def _rates(
    kindred: str,
    name: str,
    method: Method,
    steps: int,
    joint: bool,
    given: Mapping[str, float],
    targets: Sequence[Network],
) -> dict[str, Rates]:
    """Rates of a method on each network: measured on a network of the zoo where they are not given.

    Without a measurement, passes are those that the method's rules say, over the steps of a sampling.
    """
    bits = {key: value for key, value in given.items() if key != "passes"}
    if len(bits) == 3:
        found = {}
        for network in targets:
            own = {} if "passes" in given else traffic.passes(network, method, steps)
            mean = sum(own.values()) / len(own) if own else 1.0
            found[network.name] = Rates(**{"passes": mean, **given}, by_passes=own, source="given")
        return found
    notes = measured(Sampling(zoo.load(kindred), [3], steps), name, method)
    source = f"measured on {kindred}, {steps} steps" + (", but those given" if given else "")
    tables = {"input_bits": "by_input", "output_bits": "by_output", "passes": "by_passes"}
    changes = {**given, **{tables[field]: {} for field in given if field in tables}}
    own, other = (
        dataclasses.replace(form(notes, joint=joint, source=source), **changes)
        for form in (Rates.measured, Rates.elsewhere)
    )
    return {network.name: own if network.name == kindred else other for network in targets}


@click.command("traffic")
@click.option(
    "--network",
    default="unet",
    show_default=True,
    help="Networks, comma separated: of the zoo, folders, FILE.py:FUNCTION, or published ones.",
)
@options.method("paper,closed-int3,closed-int4")
@options.steps()
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1, 1024), help="Images of a step.")
@click.option(
    "--by", type=click.Choice(["layer", "total"]), default="total", show_default=True, help="What a row is for."
)
@click.option(
    "--form",
    type=click.Choice(["joint", "stream"]),
    default="joint",
    show_default=True,
    help="Code of deltas in several passes: all finer bits behind one digit, or the delta stream.",
)
@click.option(
    "--input-bits",
    type=click.FloatRange(0, 64),
    callback=console.finite,
    help="Bits of an input, instead of those measured.",
)
@click.option("--output-bits", type=click.FloatRange(0, 64), callback=console.finite, help="Bits of an output.")
@click.option(
    "--zero-groups", type=click.FloatRange(0, 1), callback=console.finite, help="Share of groups that are zero."
)
@click.option(
    "--passes",
    type=click.FloatRange(0, 64),
    callback=console.finite,
    help="Passes of an input, instead of the method's.",
)
@options.picture("plot", "traffic.png", "Draw the link, and of published networks speed-up and traffic.")
@options.as_json
def command(
    network: str,
    method: str,
    steps: int,
    batch: int,
    by: str,
    form: str,
    input_bits: float | None,
    output_bits: float | None,
    zero_groups: float | None,
    passes: float | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Bytes and cycles of a step: dense, Diffy, open and closed loop; core-NDP link and DRAM side apart.

    Deltas of published networks are taken to be like those of the network of the zoo that is named in the output.
    """
    methods = options.methods(method)
    targets = [find(name) for name in options.each(network, "Networks")]
    Schedule().spaced(steps)  # refuses a number of steps also where nothing is measured
    if plot is not None and by == "layer":
        raise ValueError("--plot must come with --by total, whose rows it draws")
    options.writable(plot)
    given = {"input_bits": input_bits, "output_bits": output_bits, "zero_groups": zero_groups, "passes": passes}
    given = {key: value for key, value in given.items() if value is not None}
    compared = [one.name for one, _ in targets if one.name in CAMBRICON_D]
    networks = {one.name: (one, kindred) for one, kindred in targets}
    rates: dict[str, dict[str, tuple[Method, Rates]]] = {name: {} for name in networks}
    for kindred in dict.fromkeys(kindred for _, kindred in networks.values()):
        own = [one for one, kind in networks.values() if kind == kindred]
        for name, one in methods.items():
            if one.flow == "dense":
                every = dict.fromkeys((network.name for network in own), Rates())
            else:
                every = _rates(kindred, name, one, steps, form == "joint", given, own)
            for network_name, found_rates in every.items():
                rates[network_name][name] = (one, found_rates)
    found = []
    for one, _ in targets:
        found += flows(one, rates[one.name], batch=batch, by=by)
    beside = [row for name in compared for row in published_rows(rates[name], (name,))]
    if as_json:
        shown = [{"table": "flows", **row} for row in found]
        shown += [{"table": "published", **row} for row in beside]
        console.show(shown, as_json=True)
    else:
        _print(found, beside, batch)
    if plot is not None:
        draw(found, beside, plot)
        click.echo(f"Picture: {plot}", err=as_json)


def _print(found: Sequence[Mapping[str, Any]], beside: Sequence[Mapping[str, Any]], batch: int) -> None:
    sizes = ("link_in", "link_out", "raw", "weights", "memory_read", "memory_written")
    hidden = ("macs", "input_bits", "output_bits", "passes", "zero_groups", "rates")
    title = (
        f"One step, batch {batch}, MB; ratio: activations on the link over Diffy's 32 bits; million cycles of arrays "
        f"that cost as much as {ARRAY} FP16 multipliers"
    )
    rows = []
    for row in found:
        kept = {key: value for key, value in row.items() if key not in hidden}
        kept |= {key: row[key] / 1e6 for key in (*sizes, "cycles")}
        rows.append(kept)
    console.show(rows, title=title)
    told = {}
    for row in found:
        if row["input_bits"] or row["output_bits"]:
            bits = f"{row['input_bits'] or 0:.2f} bits in, {row['output_bits'] or 0:.2f} out"
            text = f"{bits}, {row['passes']:.2f} passes, {row['zero_groups']:.1%} of groups zero"
            told[f"{row['network']}, {row['method']}: {text}; {row['rates']}"] = None
    for line in told:
        click.echo(line)
    if beside:
        rows = [{key: row[key] for key in ("network", "machine", "speedup", "traffic", "source")} for row in beside]
        console.show(rows, title="Published machine: speed-up over dense of the same cost, and its off-chip traffic")


def draw(found: Sequence[Mapping[str, Any]], beside: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Save the link of every network; of those that were published, speed-up and traffic beside it.

    What is the same machine or method has one colour in all panels; what was published is hatched.
    """
    methods = dict.fromkeys(row["method"] for row in found)
    machines = {row["machine"]: row["source"] == PAPER for row in beside}
    look = drawing.colours([*methods, *(SAME.get(name, name) for name in machines)])
    panels = 3 if beside else 1
    with drawing.figure(path, 1, panels, figsize=(5.7 * panels, 5)) as (_, axes):
        link, *others = axes[0]
        for place, method in enumerate(methods):
            values = {row["network"]: row["ratio"] for row in found if row["method"] == method}
            _bars(link, values, place, len(methods), color=look[method], label=method)
        link.set(title="activations on the link over Diffy's 32 bits", ylabel="ratio")
        titles = {"speedup": "speed-up over dense of the same cost", "traffic": "off-chip traffic over dense (log)"}
        for panel, (key, title) in zip(others, titles.items(), strict=False):
            for place, (machine, known) in enumerate(machines.items()):
                values = {row["network"]: row[key] for row in beside if row["machine"] == machine}
                style = {"hatch": "///", "edgecolor": "white"} if known else {}
                label = f"{machine}{', published' if known else ''}"
                _bars(panel, values, place, len(machines), color=look[SAME.get(machine, machine)], label=label, **style)
            panel.axhline(1, color="k", linewidth=0.7)
            panel.set(title=title, ylabel="over dense")
            if key == "traffic":
                panel.set_yscale("log")
                panel.set_yticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
                panel.minorticks_off()
        if beside:
            axes[0][2].set_xlabel(f"published: {PAPER}", fontsize="x-small")
        drawing.legend(link)
        for panel in others:
            drawing.legend(panel, 2)


SAME = {"its PE, Diffy's dataflow": "Diffy", "Diffy's dataflow, predicted": "Diffy"}
"""Machines of the published table that are drawn like one of the table of flows."""


def _bars(panel: Any, values: Mapping[str, float | None], place: int, count: int, *, label: str, **style: Any) -> None:
    """One bar for each network, the so many-th of so many, with its value above."""
    width = 0.8 / count
    heights = [np.nan if value is None else value for value in values.values()]
    at = np.arange(len(values)) + (place - (count - 1) / 2) * width
    bars = panel.bar(at, heights, width, label=label, **style)
    texts = ["" if np.isnan(height) else f"{height:.2f}" for height in heights]
    panel.bar_label(bars, texts, fontsize="xx-small", rotation=90, padding=2)
    panel.set_xticks(range(len(values)), [name.replace("guided-diffusion", "guided") for name in values])
    panel.margins(y=0.12)
