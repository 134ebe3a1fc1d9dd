"""``sim sample``: images drawn by a program, by the interpreter of the machine and by its emitted Verilog."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from golden.cli import options as drawing
from golden.common import console
from golden.diffusion.zoo.pictures import grid, visible, write_png
from hw.accelerator import Accelerator
from rtl_gen import options
from rtl_gen.program.commands import compiled, labels, several
from rtl_gen.program.sampling import Sampled
from sim.machine import figures
from sim.machine.checkpoint import Checkpoint, digest
from sim.machine.run import Failure
from sim.machine.verilated import MachineModel, Memory, VerilatedPort
from sim.machine.whole import Snapshot, StepRow, WholeSampling, interpreted

__all__ = ["command"]

_EXECUTORS = ("golden", "verilog")


@click.command("sample")
@drawing.network
@click.option("--method", default="closed-int4", show_default=True, help="Closed loop: a name, or a file .json.")
@drawing.steps()
@labels
@several
@drawing.seed
@drawing.sampling
@drawing.caching
@options.machine
@click.option(
    "--executor",
    type=click.Choice(_EXECUTORS),
    default="golden",
    show_default=True,
    help="What runs the program: the interpreter, or the emitted Verilog beside it.",
)
@click.option("--resume", is_flag=True, help="Go on behind the last step of a run of the Verilog that was stopped.")
@click.option(
    "--clock",
    type=click.FloatRange(0, min_open=True),
    callback=drawing.finite,
    metavar="MHZ",
    help="Of a placed machine, for images a second.",
)
@click.option("--png", type=click.Path(path_type=Path), help="Write the images, each beside the dense network's.")
@options.as_json
@click.pass_context
def command(
    context: click.Context,
    network: str,
    method: str,
    steps: int,
    label: str | None,
    images: int | None,
    seed: int,
    conditioning: Path | None,
    guidance: float | None,
    sampler: str | None,
    cache: Any,
    machine: options.Machine,
    executor: str,
    resume: bool,
    clock: float | None,
    png: Path | None,
    as_json: bool,
) -> None:
    """Draw images by a program: noise, conditioning and commands in memory, nothing in between.

    The Verilog runs the whole program. After each step all of its memory is compared with the interpreter's, at the end
    every counter; the first difference ends the command with code 1. Several images, and both halves of guidance, are
    rows of the array.
    """
    drawing.writable(png)
    if executor == "golden":
        for name, given in (("resume", resume), ("clock", clock is not None)):
            if given:
                raise ValueError(f"--{name} must be with the executor verilog, not with golden, which has no clocks")
    place = drawing.FOLDER / f"sample-{Path(network).stem}-{Path(method).stem}-{machine.name}.npz"
    kept = Checkpoint.load(place) if resume else None
    begin = time.perf_counter()
    sampled = compiled(
        machine, network, method, steps, label=label, seed=seed, guidance=guidance, cache=cache,
        images=images, conditioning=conditioning, sampler=sampler,
    )  # fmt: skip
    seconds = time.perf_counter() - begin
    told = {"network": network, "method": method, "machine": machine.name, "steps": steps, "executor": executor}
    rows: list[StepRow] = []
    if executor == "golden":
        end = _interpret(sampled)
    else:
        about = ", ".join([network, method, machine.name, f"{steps} steps", f"label {label}", f"seed {seed}"])
        try:
            rows, end = _simulate(sampled, place, about, kept)
        except Failure as failure:
            click.echo(f"FAIL {failure}", err=True)
            context.exit(1)
        except KeyboardInterrupt:
            if place.exists():
                click.echo(f"Steps that have ended are in {place}: --resume goes on behind them.", err=True)
            raise
    drawn, dense = _images(sampled, end), dataclasses.replace(sampled.sampling, cache=None).images()
    if png is not None:
        shown, columns, _ = visible(np.stack([drawn, dense], 1).reshape(-1, *drawn.shape[1:]))
        write_png(png, grid(shown, columns))
    p, network_ = sampled.program.parameters, sampled.sampling.network
    tables: dict[str, list[dict[str, Any]]] = {
        "images": figures.images(network_, drawn, dense),
        "run": [figures.totals(rows, sampled.turns, p) if rows else figures.counts(end.counters)],
    }
    tables["run"][0] |= {"clamped": end.status["overflow"], "compile s": round(seconds, 1)}
    if rows:
        tables["layers"] = figures.shares(network_, rows)
    tables["flows"] = figures.flows(end.counters)
    if clock is not None:
        tables["images a second"] = figures.rates(network_, rows, len(drawn), clock, p)
    if as_json:
        if rows:
            tables["by step"] = figures.by_step(rows, sampled.turns, p)
        click.echo(json.dumps(told | tables, indent=2))
        return
    title = f"{network}, {method}, {steps} steps on {machine.name} by the {executor} executor"
    for name, table in tables.items():
        console.show(table, title=f"{title}: {name}")
    if rows:
        click.echo(f"Memories are equal after each of {steps} steps, and so are all counters at the end.")


def _interpret(sampled: Sampled) -> Snapshot:
    """What the interpreter leaves at the end."""
    with console.advancing("Running", len(sampled.turns)) as advance:
        found = []
        for snapshot in interpreted(sampled.program):
            if found:  # the first one is of the time before the first step
                advance()
            found = [snapshot]
    return found[0]


def _simulate(sampled: Sampled, place: Path, about: str, kept: Checkpoint | None) -> tuple[list[StepRow], Snapshot]:
    """Run the Verilog beside the interpreter: every step's row, and what both have left; counters of all rows."""
    program = sampled.program
    if kept is not None:
        kept.check(program, about)
    rows = list(kept.rows) if kept else []
    with console.advancing("Compiling the Verilog", 1) as advance:
        model = MachineModel(Accelerator(program.parameters), traced=True)
        advance()
    both = WholeSampling(
        sampled,
        lambda parameters, memory: VerilatedPort(model, parameters, memory, Memory()),
        first=len(rows),
        memory=kept.memory if kept else None,
    )
    with console.advancing("Running", len(sampled.turns)) as advance:
        for _ in rows:
            advance()
        for row, memory in both.run():
            rows.append(row)
            advance()
            if len(rows) < len(sampled.turns):
                Checkpoint(digest(program), about, tuple(rows), memory).save(place)
    odd = both.odd()
    if odd:
        told = "; ".join(f"{name}: got {got}, expected {expected}" for name, (got, expected) in odd.items())
        raise Failure(f"counters at the end: {told}")
    place.unlink(missing_ok=True)
    return rows, dataclasses.replace(both.end, counters=figures.counted(rows))


def _images(sampled: Sampled, end: Snapshot) -> np.ndarray:
    machine = sampled.program.load()
    machine.memory[:] = end.memory
    return sampled.images(machine)
