"""``sim sample``: an image drawn by a program, by the interpreter of the machine."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from golden.cli import options as drawing
from golden.common import console, files
from golden.diffusion import zoo
from golden.diffusion.zoo import quality
from golden.diffusion.zoo.pictures import grid, visible, write_png
from golden.machine.command import Command, Wait
from rtl_gen import options
from rtl_gen.program.commands import compiled, labels, several

__all__ = ["command"]


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
    type=click.Choice(["golden"]),
    default="golden",
    show_default=True,
    help="What runs the program: the interpreter.",
)
@click.option("--png", type=click.Path(path_type=Path), help="Write the image.")
@options.as_json
def command(
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
    png: Path | None,
    as_json: bool,
) -> None:
    """Draw images by a program: noise, conditioning and commands in memory, nothing in between.

    50 steps of one image of the U-Net take about two minutes. Several images, and both halves of guidance, are rows of
    the array.
    """
    drawing.writable(png)
    begin = time.perf_counter()
    sampled = compiled(
        machine, network, method, steps, label=label, seed=seed, guidance=guidance, cache=cache,
        images=images, conditioning=conditioning, sampler=sampler,
    )  # fmt: skip
    compiled_at = time.perf_counter()
    runner = sampled.program.load()
    with console.advancing("Running", steps) as advance:

        def watch(position: int, command: Command) -> None:
            if isinstance(command, Wait):  # each step begins with one
                advance()

        runner.run(sampled.program.operand, sampled.program.commands, watch=watch)
    ran_at = time.perf_counter()
    drawn = sampled.images(runner)
    dense = dataclasses.replace(sampled.sampling, cache=None).images()
    if png is not None:
        shown, columns, _ = visible(drawn)
        with files.complete(png) as part:
            write_png(part, grid(shown, columns))
    counters = runner.counters
    row = {
        "network": network,
        "machine": machine.name,
        "psnr": _each(quality.psnr(drawn, dense).round(1)),
        "ssim": _each(quality.ssim(drawn, dense).round(4)) if drawn.shape[-1] >= 7 else None,
        "classifier": _each(_digits(drawn)) if sampled.sampling.network.name in zoo.DRAWS else None,
        "groups": counters["array_groups"],
        "zero": round(counters["array_zero_groups"] / counters["array_groups"], 3),
        "sent groups": counters["link_groups"],
        "sent outputs": counters["link_outputs"],
        "memory MB": round(sum(size for name, size in counters.items() if name.startswith("memory_")) / 1e6, 1),
        "clamped": runner.status["overflow"],
        "compile s": round(compiled_at - begin, 1),
        "run s": round(ran_at - compiled_at, 1),
    }
    console.show([row], title=f"{network}, {method}, {steps} steps by the {executor} executor", as_json=as_json)


def _digits(images: np.ndarray) -> np.ndarray:
    """What the shipped classifier sees in images."""
    return zoo.classify(np.clip(images, -1, 1), zoo.load("classifier"))


def _each(values: np.ndarray) -> Any:
    """A number for one image, a list of them for several."""
    found = values.tolist()
    return found[0] if len(found) == 1 else ", ".join(map(str, found))
