"""``golden sample``: images of any network, drawn by any methods, as a grid."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from golden import console, zoo
from golden.commands import options
from golden.differential.configuration import Configuration
from golden.differential.exact import ExactArithmetic
from golden.differential.profile import calibrate
from golden.differential.run import executor
from golden.networks.graph import Network
from golden.sampling import Denoiser, Sampler, check_labels, null_label
from golden.sampling import sample as draw
from golden.zoo.pictures import grid, write_png

__all__ = ["command"]

_BATCH = 25


def denoiser(configuration: Configuration, steps: int, *, exact: bool = False) -> Any:
    """What `golden.sampling.sample` makes its denoisers by: every batch gets an executor of its own.

    Ranges are those of a DDIM sampling without guidance, which hold for others too: twice the largest magnitude fits.
    """

    def make(network: Network, labels: np.ndarray, *, guidance: float | None, executor: Any) -> Denoiser:
        return Denoiser(network, labels, guidance=guidance, executor=_executor(network, configuration, steps, exact))

    return make


def _executor(network: Network, configuration: Configuration, steps: int, exact: bool) -> Any:
    profile = None if configuration.flow == "dense" else calibrate(network, steps)
    arithmetic = ExactArithmetic(configuration, profile) if exact and profile is not None else None
    return executor(network, configuration, profile, arithmetic=arithmetic)


@click.command("sample")
@options.network
@options.method("dense")
@options.steps()
@options.count(100, 10_000)
@options.labels
@options.seed
@options.exact
@click.option(
    "--sampler",
    type=click.Choice(["ddim", "ddpm"]),
    default="ddim",
    show_default=True,
    help="Without fresh noise in every step, or with.",
)
@click.option("--guidance", type=float, help="Scale of classifier-free guidance (networks with a null label).")
@click.option("--out", type=click.Path(path_type=Path), help="PNG of the bare images.  [default: samples.png]")
@options.picture("plot", "samples.png", "Draw the images with the names of the methods beside them, a row for each.")
def command(
    network: str,
    method: str,
    steps: int,
    count: int,
    labels: str | None,
    seed: int,
    exact: bool,
    sampler: str,
    guidance: float | None,
    out: Path | None,
    plot: Path | None,
) -> None:
    """Draw images and write them as a grid, ten in a row, the methods below each other."""
    model = zoo.load(network)
    methods = options.methods(method, exact=exact)
    classes = check_labels(model, options.classes(labels, count, model.config["classes"]))
    if guidance is not None:
        null_label(model)
    if out is None and plot is None:
        out = Path("samples.png")
    if out is not None and out == plot:
        raise ValueError(f"Pictures must be two files, not {str(out)!r} twice")
    options.writable(out)
    options.writable(plot)
    samples = Sampler(eta=1.0 if sampler == "ddpm" else 0.0)
    total = steps * -(-count // _BATCH)
    found = {}
    for name, configuration in methods.items():
        title = "Sampling" if len(methods) == 1 else f"Sampling, {name}"
        found[name] = draw(
            model,
            classes,
            steps,
            seed,
            batch=_BATCH,
            track=lambda run, title=title: console.progress(run, title, total=total),
            sampler=samples,
            guidance=guidance,
            denoiser=denoiser(configuration, steps, exact=exact),
        )
    if out is not None:
        sheets = list(_sheets(found))
        write_png(out, np.concatenate(sheets))
    if plot is not None:
        _draw(found, f"{network}, {steps} {sampler.upper()} steps, seed {seed}", plot)
    judge = zoo.load("classifier")
    where = " and ".join(str(path) for path in (out, plot) if path is not None)
    for name, images in found.items():
        right = int((zoo.classify(images, judge) == classes).sum())
        prefix = where if len(found) == 1 else f"{where}, {name}"
        click.echo(
            f"{prefix}: {count} images in {steps} steps; the classifier finds the asked digit in {right} of them"
        )


def _sheets(found: Mapping[str, np.ndarray]) -> Iterator[np.ndarray]:
    """Grids below each other, with one gap between two."""
    for number, images in enumerate(found.values()):
        sheet = grid(images)
        yield sheet[2:] if number else sheet


def _draw(found: Mapping[str, np.ndarray], title: str, path: Path) -> None:
    """Save the grids with their names; a single method's needs none."""
    sheets = {name: grid(images) for name, images in found.items()}
    height, width = next(iter(sheets.values())).shape
    scale = 8 / max(width, 200)
    size = (8 + 1.5 * (len(sheets) > 1), height * scale * len(sheets) + 0.5)
    with options.figure(path, len(sheets), 1, figsize=size, squeeze=False) as (figure, axes):
        for axis, (name, sheet) in zip(axes[:, 0], sheets.items(), strict=True):
            axis.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axis.set(xticks=[], yticks=[], frame_on=False)
            if len(sheets) > 1:
                axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=11)
        figure.suptitle(title, fontsize=11)
