"""``sim machine``: a network's layers by the interpreter and by the emitted Verilog, memories compared."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from golden.cli import options as drawing
from golden.cli.drawn import Drawn, together
from golden.common import console, files, names
from golden.common import drawing as plots
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.layers import Add, Layer
from golden.diffusion.networks.graph import Network
from golden.machine.command import ENGINES
from golden.parameters import Parameters
from hw.accelerator import Accelerator
from rtl_gen import options
from rtl_gen.program.commands import on_machine, one_method
from rtl_gen.program.sections import Section, cut_sampling
from sim.machine import drawn as drawings
from sim.machine.port import InterpreterPort, Port
from sim.machine.run import Failure, Row, SideBySide, total
from sim.machine.trace import chrome
from sim.machine.verilated import MachineModel, Memory, VerilatedPort
from sim.ranges import half_open

_STEPS = 50  # of the sampling whose first steps are run


@click.command("machine")
@one_method
@click.option("--block", metavar="NAME", help="Layers NAME.*.  [default: the first residual block]")
@click.option("--all", "every", is_flag=True, help="Every layer.")
@click.option(
    "--steps", default="0:3", show_default=True, metavar="A:B", help="Steps, half-open, in order of execution."
)
@click.option("--overlapped", is_flag=True, help="Layers run into each other; memories are compared after each step.")
@options.machine
@together(
    drawing.network,
    click.option(
        "--images", "count", default=1, show_default=True, type=click.IntRange(1), help="Several are rows of the array."
    ),
    drawing.seed,
    drawing.conditioning,
    drawing.sampler,
    own=("steps",),
)
@drawings.executor
@click.option("--trace", type=click.Path(path_type=Path, dir_okay=False), help="Trace for Perfetto, .json.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Picture to save, .png.")
@options.as_json
@click.pass_context
def command(
    context: click.Context,
    method: str,
    drawn: Drawn,
    block: str | None,
    every: bool,
    steps: str,
    overlapped: bool,
    machine: options.Machine,
    executor: str,
    trace: Path | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Run a block of a network, or all layers, on the machine, and compare all of memory.

    Ends with code 1 at the first difference. Without --overlapped, memories are compared after every layer. Compiling
    the model takes about a minute, once for each machine.
    """
    chosen = half_open("Steps", steps)
    if chosen.stop > _STEPS:
        raise ValueError(f"Steps must be among the {_STEPS} of a sampling, not {steps!r}")
    if block is not None and every:
        raise ValueError(f"Layers must come from --block or --all, not both ({block})")
    if trace is not None and executor != "verilog":
        raise ValueError(f"--trace must be of the executor verilog, not of {executor}, which has no clocks")
    drawing.writable(plot)
    drawing.writable(trace, ".json")
    sampling = drawn.sampling(drawn.subject(), _STEPS)
    meets = _layers(sampling.network, block, every)
    sections = cut_sampling(
        sampling,
        on_machine(Method.named(method), machine),
        calibrate(sampling),
        chosen.stop,
        meets if overlapped else lambda layer: layer.name,
    )

    def runs(section: Section) -> bool:
        return all(map(meets, section.layers))

    port = _port(executor, sections.program.parameters, trace is not None)
    both = SideBySide(sections, port, runs, first=chosen.start, fenced=not overlapped)
    rows: list[Row] = []
    failure = ""
    with console.advancing("Sections", len(sections.sections)) as advance:
        try:
            for row in both.run():
                rows.append(row)
                advance()
        except Failure as error:
            failure = str(error)
    ran = [row for row in rows if row.ran]
    summary = total(rows, sections.program.parameters)
    if executor == "verilog":
        summary["clocks a second"] = int(summary["clocks"] / max(both.seconds, 1e-9))
    if as_json:
        found = {
            "network": drawn.network,
            "method": method,
            "machine": machine.name,
            "images": drawn.images,
            "executor": executor,
        }
        listed = [{key: value for key, value in dataclasses.asdict(row).items() if key != "commands"} for row in rows]
        click.echo(json.dumps(found | {"sections": listed, "total": summary, "failure": failure}, indent=2))
    else:
        title = f"{drawn.network}, {method}, steps {steps}: {machine.name} by the {executor} executor"
        console.show([_short(row) for row in ran], title=title)
        console.show([{key: _rounded(value) for key, value in summary.items()}], title="All of them")
    if trace is not None:
        with files.complete(trace) as part:
            part.write_text(chrome(ran, sections.program.tags), encoding="utf-8")
        click.echo(f"Trace: {trace}", err=as_json)
    if plot is not None and ran:
        _plot(ran, plot)
        click.echo(f"Picture: {plot}", err=as_json)
    odd = [
        f"step {row.step}, {row.name}: {name}: got {got}, expected {expected}"
        for row in ran
        for name, (got, expected) in row.odd.items()
    ]
    for line in odd:
        click.echo(f"FAIL counter, {line}", err=True)
    if failure:
        click.echo(f"FAIL {failure}", err=True)
    if failure or odd:
        context.exit(1)
    if not as_json:
        click.echo(f"Memories are equal after {len(ran)} {'sections' if overlapped else 'layers'}.")


def _port(executor: str, parameters: Parameters, traced: bool) -> Callable[[Parameters, np.ndarray], Port]:
    """What makes the port of the machine: of a memory of one beat a clock, 40 clocks late."""
    if executor == "golden":
        return InterpreterPort
    with console.advancing("Compiling the Verilog", 1) as advance:
        model = MachineModel(Accelerator(parameters), traced=traced)
        advance()
    return lambda parameters, memory: VerilatedPort(model, parameters, memory, Memory())


def _layers(network: Network, block: str | None, every: bool) -> Callable[[Layer], bool]:
    """Which layers the machine runs."""
    if every:
        return lambda layer: True
    blocks = list(dict.fromkeys(layer.name.rpartition(".")[0] for layer in network.layers))
    inside = {name: [layer for layer in network.layers if layer.name.startswith(f"{name}.")] for name in blocks}
    residual = (name for name, layers in inside.items() if isinstance(layers[-1], Add) and len(layers) > 3)
    chosen = block if block is not None else next(residual, "")
    if chosen not in inside:
        raise ValueError(names.unknown("Block", chosen, [name for name in inside if name]))
    return lambda layer: layer.name.startswith(f"{chosen}.")


def _rounded(value: float) -> float:
    return round(value, 3) if isinstance(value, float) else value


def _short(row: Row) -> dict[str, Any]:
    sizes = {
        "weights": row.flows["memory_weights_read"],
        "spools": row.flows["memory_spools_read"] + row.flows["memory_spools_written"],
        "states": sum(row.flows[f"memory_{what}_{how}"] for what in ("states", "held") for how in ("read", "written")),
    }
    rest = sum(row.flows.values()) - sum(sizes.values())
    return {
        "step": row.step,
        "layer": row.name,
        "predicted": row.predicted,
        "clocks": row.clocks or None,
        "use": round(row.use, 3),
        "not zero": round(row.busy, 3),
        **{f"{engine} waits": row.stalls[engine] for engine in ENGINES if any(row.stalls.values())},
        **{f"{name} kB": round(size / 1e3, 1) for name, size in (sizes | {"others": rest}).items()},
        "bits/element": None if row.link_bits is None else round(row.link_bits, 2),
        "PSNR dB": None if row.psnr is None else round(row.psnr, 1),
    }


def _plot(rows: Sequence[Row], path: Path) -> None:
    """Clocks, use of the array, and bytes of each section."""
    names_ = [f"{row.step} {row.name}" for row in rows]
    places = range(len(rows))
    with plots.figure(path, 1, 3, figsize=(16, max(4, 0.22 * len(rows)))) as (figure, ((clocks, use, sizes),)):
        clocks.barh(places, [row.predicted for row in rows], color="#c9d1d9", label="predicted")
        clocks.barh(places, [row.clocks for row in rows], height=0.4, color="#2f6f9f", label="measured")
        clocks.set(title="clocks", yticks=list(places), yticklabels=names_)
        use.barh(places, [row.use for row in rows], color="#c9d1d9", label="with zero groups")
        use.barh(places, [row.busy for row in rows], height=0.4, color="#2f6f9f", label="without")
        use.set(title="use of the array", yticks=[], xlim=(0, 1))
        left = [0.0] * len(rows)
        for name in dict.fromkeys(name for row in rows for name, size in row.flows.items() if size):
            found = [row.flows[name] / 1e3 for row in rows]
            sizes.barh(places, found, left=left, label=name.removeprefix("memory_").replace("_", " "))
            left = [first + more for first, more in zip(left, found, strict=True)]
        sizes.set(title="kilobytes", yticks=[])
        for panel in (clocks, use, sizes):
            panel.invert_yaxis()
            panel.legend(fontsize="small")
        figure.suptitle(f"{len(rows)} sections")
