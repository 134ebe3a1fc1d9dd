"""``sim compare``: methods side by side, each by what its machine does: clocks, array, link, memory, digits, images.

What compiles to a program is run by the interpreter, or by the emitted Verilog. Of the published dataflow that is what
has signs of one bit for a mask; the rest golden executes, and its clocks and bytes are those of the cost model, behind
the same link and memory.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from golden.cli import options as drawing
from golden.cli.drawn import Drawn, drawn_by_program
from golden.cli.stats import measured
from golden.common import console
from golden.common import drawing as pictures
from golden.diffusion.cost.cambricon_d import CAMBRICON_D, PAPER
from golden.diffusion.cost.predict import Cost, multipliers, predict, total
from golden.diffusion.cost.rates import Rates
from golden.diffusion.cost.traffic import loads
from golden.diffusion.differential.measure import Measure
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.differential.run import run
from golden.diffusion.networks.graph import Network
from golden.diffusion.sampling import Sampling
from golden.diffusion.zoo import quality
from golden.machine.work import needed_groups
from golden.parameters import Parameters
from rtl_gen import options
from rtl_gen.program.commands import on_machine
from rtl_gen.program.sampling import Sampled, compile_sampling
from sim.machine import drawn as drawings
from sim.machine.run import Failure

METHODS = "closed-int3,closed-int4,paper,diffy,raw-int8"


def behind(method: Method, machine: Parameters) -> Method:
    """A method without a program: digits, groups and policies its own; rows, columns, link and memory a machine's."""
    names = ("rows", "columns", "link_width", "memory_width")
    shared = {name: getattr(machine, name) for name in names}
    return dataclasses.replace(method, machine=dataclasses.replace(method.machine, **shared))


def of_program(sampled: Sampled, found: drawings.Drawn, notes: Measure, method: Method) -> dict[str, Any]:
    """Clocks, bytes and groups of a method that a program was run of.

    Parameters
    ----------
    sampled : Sampled
        The program.
    found : Drawn
        What a run of it has left.
    notes : Measure
        Of golden's run of the same method: what the machine has no counters for.
    method : Method
        On the machine.
    """
    p, counters, clocks = method.machine, found.end.counters, max(found.clocks, 1)
    groups = counters["link_groups"] + counters["chain_groups"]
    sides = [row for rows in (notes.inputs, notes.outputs) for row in rows.values()]
    slots = clocks * p.rows * p.columns
    return {
        "clocks": clocks,
        "use": sum(map(needed_groups, sampled.turns)) / slots,
        "not zero": (counters["array_groups"] - counters["array_zero_groups"]) / slots,
        "link": sum(min(row.bits, row.joint) for row in (*sides, *notes.raws.values()))
        / (16 * sum(row.elements for row in sides)),
        **_apart(sampled, found, notes, method),
        "memory MB": sum(size for name, size in counters.items() if name.startswith("memory_")) / 1e6,
        "groups": groups,
        "zero": (counters["link_zero_groups"] + counters["chain_zero_groups"]) / max(groups, 1),
        **_digits(notes),
    }


def _apart(sampled: Sampled, found: drawings.Drawn, notes: Measure, method: Method) -> dict[str, float]:
    """Attention's part: bits of its operands on the link, over 32 for each element that is sent, and of the groups in
    the array. With chains also the bits of groups and masks, over 32 for each of theirs: raw attention is not among
    them, as in what was published.
    """
    network, counters = sampled.sampling.network, found.end.counters
    tags = {name: tag for tag, name in sampled.program.tags.items()}
    products = [layer for layer in network.layers if layer.bilinear]
    operands = {name for layer in products for name in layer.inputs}
    by_tag, chains = found.end.by_tag, sampled.compiler.chains
    own = sum(by_tag[tags[name]]["link_group_bits"] for name in operands if tags.get(name) in by_tag)
    work = sum(by_tag[tags[layer.name]]["array_groups"] for layer in products)
    sent = [(name, row.elements) for (_, name), row in notes.inputs.items()]
    sent += [(name, row.elements) for (_, name), row in notes.outputs.items() if name in chains]
    elements = sum(count for _, count in sent)
    apart = {"attention link": own / (32 * elements), "attention array": work / counters["array_groups"]}
    if method.chains:
        bits = sum(counters[name] for name in ("link_group_bits", "chain_group_bits", "chain_mask_bits"))
        if method.attention == "raw":
            bits -= own
            elements = sum(count for name, count in sent if name not in operands)
        apart["groups and masks"] = bits / (32 * elements)
    return apart


def of_model(network: Network, calls: int, steps: int, notes: Measure, method: Method) -> dict[str, Any]:
    """The same of a method that golden has executed: step by step by the cost model, a layer as long as its slowest
    part.

    Parameters
    ----------
    network : Network
        That was sampled.
    calls, steps : int
        Items of a step, two for each image with guidance; and steps.
    notes : Measure
        Of golden's run.
    method : Method
        Behind the machine's link and memory.
    """
    p, table = method.machine, loads(network, calls, method.attention)
    clocks, needed, spent = 0.0, 0.0, []
    for step in range(steps):
        rates = Rates.measured(notes, joint=True, steps=(step,))
        costs = [predict(load, method.flow, rates, p) for load in table]
        clocks += sum(max(one.cycles, *_bus_clocks(one, p)) for one in costs)
        spent.append(total(costs))
        nothing_skipped = dataclasses.replace(rates, zero_groups=0.0)
        needed += sum(predict(load, method.flow, nothing_skipped, p).work for load in table)
    whole = total(spent)
    slots = max(clocks, 1) * p.rows * p.columns * p.lanes
    sent = notes.total(notes.inputs) + notes.total(notes.outputs) + notes.total(notes.raws)
    apart = {}
    if method.flow == "sign_mask":
        quantised = steps * sum(sum(load.groups.values()) for load in table)
        apart = {"groups and masks": (whole.link - whole.raw) / (4 * quantised), "raw": whole.raw / whole.yardstick}
    return {
        "clocks": int(clocks),
        "use": needed / slots,
        "not zero": whole.work / slots,
        "link": whole.ratio,
        **apart,
        "memory MB": (whole.weights + whole.read + whole.written) / 1e6,
        "groups": sent.groups,
        "zero": sent.zero_groups / max(sent.groups, 1),
        **_digits(notes),
    }


def _raw_bytes(sampling: Sampling, p: Parameters) -> dict[str, float]:
    """Link and memory where raw values cross, those of this step and of the one before, in and out, as Diffy's do."""
    table = loads(sampling.network, _calls(sampling))
    cost = total(predict(load, "diffy", Rates(), p) for load in table)
    return {"link": cost.ratio, "memory MB": sampling.steps * (cost.weights + cost.read + cost.written) / 1e6}


def _bus_clocks(cost: Cost, p: Parameters) -> tuple[float, float]:
    """Clocks of the link, and of a memory whose reads and writes, those of weights included, share a bus."""
    return 8 * cost.link / p.link_width, 8 * (cost.weights + cost.read + cost.written) / p.memory_width


def _calls(sampling: Sampling) -> int:
    """Items that a step runs: two for each image with guidance."""
    return sampling.count * (1 if sampling.guidance is None else 2)


def _digits(notes: Measure) -> dict[str, float]:
    """Shares of outliers among digits of pass 0 and of masks that flipped; clocks of replays over those of passes."""
    row = notes.total(notes.inputs or notes.outputs)
    flipped, masked = (sum(pair[part] for pair in notes.flips.values()) for part in (0, 1))
    return {
        "outliers": row.outliers / max(row.elements, 1),
        "replays": row.clocks / max(row.digits, 1) - 1,
        **({"flips": flipped / masked} if masked else {}),
    }


def _row(
    name: str, method: Method, sampling: Sampling, asked: options.Machine, runs: drawings.Run, dense: np.ndarray
) -> dict[str, Any]:
    """All figures of a method."""
    if method.tensor_scale or method.machine.mask_operand == "values":  # masks of several bits are of values
        chosen = behind(method, asked.parameters)
        notes = run(sampling, chosen, measured=True)
        images, counted = notes.images, "model"
        figures = of_model(sampling.network, _calls(sampling), sampling.steps, notes.measure, chosen)
    else:
        chosen = on_machine(method, asked)
        sampled = compile_sampling(sampling, chosen, calibrate(sampling))
        found = runs.draw(sampled, f"{sampling.network.name}, {name}, {asked.name}, {sampling.steps} steps")
        images = sampled.images(found.machine())
        figures = of_program(sampled, found, measured(sampling, name, chosen), chosen)
        counted = "Verilog" if found.rows else "interpreter"
        if method.flow == "diffy":
            figures |= _raw_bytes(sampling, chosen.machine)
            counted += ", bytes by rule"
    p = chosen.machine
    about = f"k{p.digit_width} n{p.lanes} m{p.outliers}"
    psnr = float(np.mean(quality.psnr(images, dense)))
    cost = multipliers(p) * p.rows * p.columns
    return {
        "method": name,
        "groups of": about,
        "counted by": counted,
        "PSNR dB": psnr,
        **figures,
        "cost": cost,
    }


@click.command("compare")
@drawing.method(METHODS)
@drawn_by_program(cache=False)
@options.machine
@click.option(
    "--executor",
    type=click.Choice(drawings.EXECUTORS),
    default="golden",
    show_default=True,
    help="What runs the programs: the interpreter, or the emitted Verilog beside it.",
)
@drawing.picture("plot", "machines.png", "Draw clocks and memory over those of Diffy's, the published ones beside.")
@options.as_json
@click.pass_context
def command(
    context: click.Context,
    method: str,
    drawn: Drawn,
    machine: options.Machine,
    executor: str,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Compare methods by what their machines do: clocks, use of the array, link, memory, digits, images.

    Closed loops, raw values under group exponents, Diffy's dataflow and the published one run as programs. With masks
    of several bits that one is executed by golden and counted by the cost model: it keeps its groups, and has the
    machine's rows, columns, link and memory. Three steps take two minutes, 50 a quarter of an hour.
    """
    methods = _checked(method)
    drawing.writable(plot)
    flows = {name: one.flow for name, one in methods.items()}
    if plot is not None and "diffy" not in flows.values():
        raise ValueError(f"Methods of a picture must hold one of flow diffy, not {method} alone")
    sampling = drawn.sampling(drawn.subject())
    dense, rows = sampling.images(), []
    for name, chosen in methods.items():
        runs = drawings.Run.of(executor, "compare", (drawn.network, name), False)
        try:
            rows.append(_row(name, chosen, sampling, machine, runs, dense))
        except Failure as failure:
            click.echo(f"FAIL {name}: {failure}", err=True)
            context.exit(1)
    p = machine.parameters
    title = f"{drawn.network}, {drawn.steps} steps, images: {drawn.images}, {p.rows} x {p.columns} groups, "
    title += f"memory of {machine.name}"
    console.show(rows, title=title, as_json=as_json)
    if plot is not None:
        draw(rows, next(name for name, flow in flows.items() if flow == "diffy"), plot)
        click.echo(f"Picture: {plot}", err=as_json)


def _checked(text: str) -> dict[str, Method]:
    """Methods by name; ValueError if one sends no digits."""
    methods = drawing.methods(text)
    for name, method in methods.items():
        if method.flow == "dense":
            raise ValueError(f"Method must send digits to be compared, not {name!r}, which is dense")
    return methods


def draw(rows: Sequence[Mapping[str, Any]], against: str, path: Path) -> None:
    """Save speed-up at equal cost and memory traffic over Diffy's dataflow, and what was published of them, hatched."""
    time = {row["method"]: row["clocks"] * row["cost"] for row in rows}
    size = {row["method"]: row["memory MB"] for row in rows}
    ours = {name: (time[against] / time[name], size[name] / size[against]) for name in time}
    published = {}
    for name, figures in CAMBRICON_D.items():
        own, other = figures["Cambricon-D"], figures["its PE, Diffy's dataflow"]
        published[f"Cambricon-D, {name}"] = own[0] / other[0], own[1] / other[1]
    look = pictures.colours([*ours, *published])
    with pictures.figure(path, 1, 2, figsize=(12, 0.4 * len(look) + 1.8), sharey=True) as (figure, axes):
        for side, (panel, title) in enumerate(zip(axes[0], ("speed-up at equal cost", "bytes at memory"), strict=True)):
            for number, (name, values) in enumerate((ours | published).items()):
                hatch = "//" if name in published else None
                panel.barh(number, values[side], color=look[name], hatch=hatch, edgecolor="white")
            panel.axvline(1, color="0.4", linewidth=1)
            panel.set(title=f"{title}, over Diffy's dataflow", yticks=range(len(look)), yticklabels=list(look))
        axes[0][0].invert_yaxis()  # which both share
        figure.supxlabel(f"hatched: published, {PAPER}", fontsize="small")
