"""``golden sample``: images of any network, drawn by any methods, as a grid."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from golden.cli import options
from golden.cli.subject import subject
from golden.common import console, files
from golden.diffusion import zoo
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.differential.reuse import cached_denoiser
from golden.diffusion.differential.run import executor
from golden.diffusion.networks.graph import Network
from golden.diffusion.sampling import Conditioning, Denoiser, Process, deepcache
from golden.diffusion.sampling import sample as draw
from golden.diffusion.zoo.pictures import grid, visible, write_png

__all__ = ["command"]

_BATCH = 25


def denoiser(
    method: Method,
    steps: int,
    sampler: Process | None = None,
    *,
    exact: bool = False,
    caching: Mapping[str, Any] | None = None,
) -> Any:
    """What `golden.diffusion.sampling.sample` makes its denoisers by: every batch gets an executor of its own.

    Ranges are those of another sampling by the same sampler, with the same guidance and, with DeepCache, the same cache
    steps: `caching` are the arguments ``cached`` and ``branch`` of `golden.diffusion.sampling.deepcache.sample`.
    """

    def make(network: Network, given: Conditioning, *, guidance: float | None, executor: Any) -> Denoiser:
        if caching is not None:
            options = {"sampler": sampler, "guidance": guidance, "exact": exact, **caching}
            return cached_denoiser(network, method, given, steps, **options)
        how = _executor(network, method, steps, given, sampler, guidance, exact)
        return Denoiser(network, given, guidance=guidance, executor=how)

    return make


def _executor(
    network: Network,
    method: Method,
    steps: int,
    given: Conditioning,
    sampler: Process | None,
    guidance: float | None,
    exact: bool,
) -> Any:
    profile = None
    if method.flow != "dense":
        profile = calibrate(network, steps, given=given, sampler=sampler, guidance=guidance)
    return executor(network, method, profile, exact=exact)


@click.command("sample")
@options.network
@options.method("dense")
@options.steps()
@options.count(100, 10_000)
@options.labels
@options.seed
@options.sampling
@options.caching
@options.exact
@click.option("--out", type=click.Path(path_type=Path), help="PNG of the bare images.  [default: samples.png]")
@options.picture("plot", "samples.png", "Draw the images with the names of the methods beside them, a row for each.")
@options.as_json
def command(
    network: str,
    method: str,
    steps: int,
    count: int,
    labels: str | None,
    seed: int,
    exact: bool,
    conditioning: Path | None,
    guidance: float | None,
    sampler: str | None,
    out: Path | None,
    plot: Path | None,
    cache: options.Cache | None,
    as_json: bool,
) -> None:
    """Draw images and write them as a grid, ten in a row, the methods below each other; a video takes a row."""
    methods = options.methods(method, exact=exact)
    one = subject(network, conditioning, sampler)
    given = one.conditioning(count, labels, guidance)
    if out is None and plot is None:
        out = Path("samples.png")
    if out is not None and out == plot:
        raise ValueError(f"Pictures must be two files, not {str(out)!r} twice")
    options.writable(out)
    options.writable(plot)
    caching = None if cache is None else cache.options(one.network, steps)
    total = steps * -(-count // _BATCH)
    found = {}
    for name, method in methods.items():
        title = "Sampling" if len(methods) == 1 else f"Sampling, {name}"
        found[name] = draw(
            one.network,
            given,
            steps,
            seed,
            batch=_BATCH,
            track=lambda run, title=title: console.progress(run, title, total=total),
            sampler=one.sampler,
            guidance=guidance,
            denoiser=denoiser(method, steps, one.sampler, exact=exact, caching=caching),
        )
    shown, columns, note = visible(np.concatenate(list(found.values())))
    sheets = {name: grid(part, columns) for name, part in zip(found, np.split(shown, len(found)), strict=True)}
    with contextlib.ExitStack() as both:  # neither picture is replaced if one cannot be written
        if out is not None:
            # one gap between two grids
            bare = np.concatenate([sheet[2 * (number > 0) :] for number, sheet in enumerate(sheets.values())])
            write_png(both.enter_context(files.complete(out)), bare)
        if plot is not None:
            _draw(sheets, f"{network}, {steps} {one.title} steps, seed {seed}", plot)
    judge = zoo.load("classifier") if one.digits else None
    right = {
        name: None if judge is None else int((zoo.classify(images, judge) == given.values["label"]).sum())
        for name, images in found.items()
    }
    share = None if caching is None else deepcache.share(one.network, steps, **caching)
    if as_json:
        rows = [
            {
                "method": name,
                "network": one.network.name,
                "steps": steps,
                "sampler": one.title,
                "seed": seed,
                "images": count,
                "found": None if right[name] is None else right[name] / count,
                "cached": None if caching is None else list(caching["cached"]),
                "multiplications": share,
                "file": None if out is None else str(out),
                "plot": None if plot is None else str(plot),
                "note": "; ".join(filter(None, (note, one.note))),
            }
            for name in found
        ]
        console.show(rows, as_json=True)
        return
    where = " and ".join(str(path) for path in (out, plot) if path is not None)
    for name in found:
        told = [f"{count} images in {steps} steps", *filter(None, (note, one.note))]
        if caching is not None:
            told.append(f"{len(caching['cached'])} whole ones, {share:.3f} of the multiplications")
        if right[name] is not None:
            told.append(f"the classifier finds the asked digit in {right[name]} of them")
        click.echo(f"{where if len(found) == 1 else f'{where}, {name}'}: {'; '.join(told)}")


def _draw(sheets: Mapping[str, np.ndarray], title: str, path: Path) -> None:
    """Save the grids with their names; a single method's needs none."""
    height, width = next(iter(sheets.values())).shape[:2]
    scale = 8 / max(width, 200)
    size = (8 + 1.5 * (len(sheets) > 1), height * scale * len(sheets) + 0.5)
    with options.figure(path, len(sheets), 1, figsize=size, squeeze=False) as (figure, axes):
        for axis, (name, sheet) in zip(axes[:, 0], sheets.items(), strict=True):
            axis.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axis.set(xticks=[], yticks=[], frame_on=False)
            if len(sheets) > 1:
                axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=11)
        figure.suptitle(title, fontsize=11)
