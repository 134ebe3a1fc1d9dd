"""``sim sample``: images drawn by a program, by the interpreter of the machine and by its emitted Verilog."""

import dataclasses
import time
from pathlib import Path

import click
import numpy as np

from golden.cli import options as drawing
from golden.cli.drawn import Drawn, drawn_by_program
from golden.common import console
from golden.diffusion.zoo.pictures import grid, visible, write_png
from rtl_gen import options
from rtl_gen.program.commands import compiled, one_method
from sim.machine import drawn as drawings
from sim.machine import figures
from sim.machine.run import Failure

_SIDE = 128  # pixels of an image that is written, at least about


@click.command("sample")
@one_method
@drawn_by_program()
@options.machine
@drawings.executor
@drawings.resume
@click.option(
    "--clock",
    type=click.FloatRange(0, min_open=True),
    callback=console.finite,
    metavar="MHZ",
    help="Of a placed machine, for images a second; by golden on paper.",
)
@click.option("--png", type=click.Path(path_type=Path), help="Write the images, each beside the dense network's.")
@options.as_json
@click.pass_context
def command(
    context: click.Context,
    method: str,
    drawn: Drawn,
    machine: options.Machine,
    executor: str,
    resume: bool,
    clock: float | None,
    png: Path | None,
    as_json: bool,
) -> None:
    """Draw images by a program: noise, conditioning and commands in memory, nothing in between.

    The Verilog runs the whole program. After each step all of its memory is compared with the interpreter's, at the end
    every counter; the first difference ends the command with code 1. 50 steps of the U-Net take four minutes, once the
    Verilog has been compiled. Several images, and both halves of guidance, are rows of the array.
    """
    drawing.writable(png)
    network, steps = drawn.network, drawn.steps
    run = drawings.Run.of(executor, "sample", (network, method, machine.name), resume)
    begin = time.perf_counter()
    sampled = compiled(drawn, method, machine)
    seconds = time.perf_counter() - begin
    told = {"network": network, "method": method, "machine": machine.name, "steps": steps, "executor": executor}
    about = ", ".join([network, method, machine.name, f"{steps} steps", f"label {drawn.labels}", f"seed {drawn.seed}"])
    try:
        found = run.draw(sampled, about)
    except Failure as failure:
        click.echo(f"FAIL {failure}", err=True)
        context.exit(1)
    images, dense = sampled.images(found.machine()), dataclasses.replace(sampled.sampling, cache=None).images()
    if png is not None:
        shown, columns, _ = visible(np.stack([images, dense], 1).reshape(-1, *images.shape[1:]))
        write_png(png, grid(shown, columns, scale=max(3, _SIDE // images.shape[-1])))
    p, network_, rows = sampled.program.parameters, sampled.sampling.network, found.rows
    runs = sampled.compiler.samples * steps if sampled.sampling.cache is None else 0
    tables = found.tables(network_, images, dense, runs)
    tables["run"][0] |= {"compile s": round(seconds, 1)}
    if clock is not None:
        tables["images a second"] = figures.rates(
            network_, found.end.counters, found.clocks, steps, len(images), clock, p
        )
    if as_json and rows:
        tables["by step"] = figures.by_step(rows, sampled.turns, p)
    title = f"{network}, {method}, {steps} steps on {machine.name} by the {executor} executor"
    drawings.show(title, told, tables, as_json=as_json)
    if rows and not as_json:
        click.echo(f"Memories are equal after each of {steps} steps, and so are all counters at the end.")
