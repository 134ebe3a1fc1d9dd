"""``golden sample``: images of any network, drawn by any methods, as a grid."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import numpy as np

from golden.cli import options
from golden.cli.drawn import Drawn, drawn
from golden.common import console, drawing, files
from golden.diffusion import zoo
from golden.diffusion.differential.run import prepared
from golden.diffusion.zoo.pictures import grid, visible, write_png

_BATCH = 25

DEFAULT = options.FOLDER / "samples.png"
"""Where images go that are given no name."""


@click.command("sample")
@options.method("dense")
@drawn(100, 10_000, cache=True)
@options.exact
@click.option("--out", type=click.Path(path_type=Path), help=f"PNG of the bare images.  [default: {DEFAULT}]")
@options.picture("plot", "side.png", "Draw the images with the names of the methods beside them, labels above.")
@options.as_json
def command(
    method: str,
    drawn: Drawn,
    exact: bool,
    out: Path | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Draw images and write them as a grid, ten in a row, the methods below each other; a video takes a row."""
    methods = options.methods(method, exact=exact)
    one = drawn.subject()
    sampling = drawn.sampling(one)
    if out is None and plot is None:
        out = DEFAULT
    if out is not None and out == plot:
        raise ValueError(f"Pictures must be two files, not {str(out)!r} twice")
    options.writable(out)
    options.writable(plot)
    options.note_gains([sampling], methods.values())
    total = drawn.steps * -(-drawn.count // _BATCH)
    found = {}
    for name, method in methods.items():
        title = "Sampling" if len(methods) == 1 else f"Sampling, {name}"
        found[name] = sampling.images(
            prepared(sampling, method, exact=exact),
            batch=_BATCH,
            track=lambda run, title=title: console.progress(run, title, total=total),
        )
    shown, columns, note = visible(np.concatenate(list(found.values())))
    sheets = {name: grid(part, columns) for name, part in zip(found, np.split(shown, len(found)), strict=True)}
    with contextlib.ExitStack() as both:  # neither picture is replaced if one cannot be written
        if out is not None:
            # one gap between two grids
            bare = np.concatenate([sheet[2 * (number > 0) :] for number, sheet in enumerate(sheets.values())])
            write_png(both.enter_context(files.complete(out)), bare)
        if plot is not None:
            asked = [str(label) for label in sampling.given.values.get("label", ())]
            _draw(sheets, f"{drawn.network}, {drawn.steps} {one.title} steps, seed {drawn.seed}", plot, asked, columns)
    judge = zoo.load("classifier") if one.digits else None
    right = {
        name: None if judge is None else int((zoo.classify(images, judge) == sampling.given.values["label"]).sum())
        for name, images in found.items()
    }
    kept = sampling.cache
    share = None if kept is None else kept.share(one.network, drawn.steps)
    if as_json:
        rows = [
            {
                "method": name,
                "network": one.network.name,
                "steps": drawn.steps,
                "sampler": one.title,
                "seed": drawn.seed,
                "images": drawn.count,
                "found": None if right[name] is None else right[name] / drawn.count,
                "cached": None if kept is None else list(kept.whole),
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
        told = [f"{drawn.count} images in {drawn.steps} steps", *filter(None, (note, one.note))]
        if kept is not None:
            told.append(f"{len(kept.whole)} whole ones, {share:.3f} of the multiplications")
        if right[name] is not None:
            told.append(f"the classifier finds the asked digit in {right[name]} of them")
        click.echo(f"{where if len(found) == 1 else f'{where}, {name}'}: {'; '.join(told)}")


def _draw(sheets: Mapping[str, np.ndarray], title: str, path: Path, labels: Sequence[str], columns: int) -> None:
    """Save the grids with their names, and above each column the label of its images, if it is the same for all.

    A single method's grid needs no name.
    """
    columns = min(columns, len(labels) or columns)
    height, width = next(iter(sheets.values())).shape[:2]
    scale = 8 / max(width, 200)
    size = (8 + 1.5 * (len(sheets) > 1), height * scale * len(sheets) + 0.7)
    with drawing.figure(path, len(sheets), 1, figsize=size) as (figure, axes):
        for axis, (name, sheet) in zip(axes[:, 0], sheets.items(), strict=True):
            drawing.images(axis, sheet)
            if len(sheets) > 1:
                axis.set_anchor("W")  # beside its name, for which room was made before the grid got its shape
                axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=11)
        if labels and all(label == labels[index % columns] for index, label in enumerate(labels)):
            axes[0, 0].xaxis.tick_top()
            axes[0, 0].set_xticks((np.arange(columns) + 0.5) * width / columns, labels[:columns])
            axes[0, 0].tick_params(length=0)
        figure.suptitle(title, fontsize=11)
