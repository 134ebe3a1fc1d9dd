"""``golden compare``: what methods do to the images, against dense sampling with the same seed."""

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from golden.cli import options
from golden.cli.drawn import Drawn, drawn
from golden.cli.stats import measured
from golden.common import console, drawing, files
from golden.diffusion.cost import traffic
from golden.diffusion.cost.areas import read as read_areas
from golden.diffusion.differential.compare import Track, compare
from golden.diffusion.differential.method import Method
from golden.diffusion.networks.graph import Network
from golden.diffusion.sampling import Sampling

METHODS = "paper,closed-int3,closed-int4,raw-int8,raw-int8-tensor"


def price(sampling: Sampling, method: Method, name: str, report: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """`golden.diffusion.cost.traffic.price` of a method and its name, measured on a sampling."""
    notes = None if method.flow == "dense" else measured(sampling, name, method)
    return traffic.price(sampling.network, method, notes, report)


def draw_prices(found: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Save PSNR against bits on the link, and against area and cycles where they are known.

    A method has one colour, a network one marker.
    """
    keys = {"link_bits": "bits on the link for a boundary element (Diffy: 32)"}
    if any(row["area_cycles"] is not None for row in found):
        keys["area_cycles"] = "LUTs times clocks of a multiply-accumulate"
    look = drawing.colours(row["method"] for row in found)
    networks = dict(zip(dict.fromkeys(row["network"] for row in found), itertools.cycle("osD^vPX"), strict=False))
    with drawing.figure(path, 1, len(keys), figsize=(6.5 * len(keys), 4.5), sharey=True) as (made, axes):
        labelled = []
        for panel, (key, label) in zip(axes[0], keys.items(), strict=True):
            shown = [row for row in found if None not in (row["psnr_mean"], row[key])]
            fronts = []
            for name, marker in networks.items():
                own = [row for row in shown if row["network"] == name]
                for row in own:
                    panel.plot(row[key], row["psnr_mean"], marker, color=look[row["method"]])
                panel.plot([], [], marker, color="0.4", label=name)
                fronts.append(front([(row[key], row["psnr_mean"]) for row in own]))
                panel.plot(*np.reshape(fronts[-1], (-1, 2)).T, "--", color="0.6", linewidth=1, zorder=0)
            panel.plot([], [], "--", color="0.6", linewidth=1, label="front: no method is better in both")
            panel.set(xlabel=label, ylabel="PSNR to dense, dB")
            panel.margins(0.12)
            panel.set_xlim(0, None)
            panel.grid(alpha=0.3)
            drawing.legend(panel, 4)
            points = [(row[key], row["psnr_mean"]) for row in shown]
            labelled.append((panel, points, [row["method"] for row in shown], fronts))
        made.draw_without_rendering()  # where things are, before labels go beside them
        for label in labelled:
            drawing.annotate(*label)


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points (cost, quality) that no other one beats: none is as cheap and better, or cheaper and as good."""
    best: list[tuple[float, float]] = []
    for cost, quality_ in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not best or quality_ > best[-1][1]:
            best.append((cost, quality_))
    return best


def draw(found: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Save the drift of every method, a panel for each network."""
    networks = list(dict.fromkeys(row["network"] for row in found))
    look = drawing.colours(row["method"] for row in found)
    with drawing.figure(path, 1, len(networks), figsize=(5.5 * len(networks), 4.5), sharey=True) as (_, axes):
        for panel, name in zip(axes[0], networks, strict=True):
            for row in (row for row in found if row["network"] == name):
                drift = [np.nan if value is None else value for value in row["drift"]]
                panel.plot(range(1, len(drift) + 1), drift, color=look[row["method"]], label=row["method"])
            panel.set(title=f"{name}, mean of {row['images']} images", ylabel="PSNR to dense, dB")
            drawing.over_steps(panel)
            panel.grid(alpha=0.3)
            drawing.legend(panel)


@click.command("compare")
@options.method(METHODS)
@drawn(16, 1000, several=True, cache=True)
@options.exact
@options.picture("plot", "compare.png", "Draw how far the samples are from dense ones after each step.")
@options.picture("pareto", "pareto.png", "Measure what methods cost, and draw PSNR against it.")
@click.option(
    "--areas",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Report of `python -m fpga area`, build/fpga/area.json, instead of the figures that are shipped.",
)
@options.as_json
def command(
    method: str,
    drawn: Drawn,
    exact: bool,
    plot: Path | None,
    pareto: Path | None,
    areas: Path | None,
    as_json: bool,
) -> None:
    """Compare methods with dense sampling of the same seed: PSNR, SSIM, classifier, drift and time.

    The default takes seconds; 50 steps of 16 images of the three networks take about four minutes.
    """
    methods = options.methods(method, exact=exact)
    subjects = drawn.subjects()
    if drawn.cache is not None and (pareto is not None or areas is not None):
        raise ValueError("--cache must be left out with --pareto and --areas, which know no cache steps")
    samplings = [drawn.sampling(one) for one in subjects]
    options.writable(plot)
    options.writable(pareto)
    if plot is not None and plot == pareto:
        raise ValueError(f"Pictures must be two files, not {str(plot)!r} twice")
    options.note_gains(samplings, methods.values())
    report = read_areas(areas)
    found = []
    for one, sampling in zip(subjects, samplings, strict=True):
        model = one.network

        def track(name: str, model: Network = model) -> Track:
            return lambda run: console.progress(run, f"{model.name}, {name}", total=drawn.steps)

        found += compare(sampling, methods, exact=exact, track=track)
        if pareto is not None or areas is not None:
            single = sampling.of([3] if one.digits else sampling.given[:1], seed=0)
            for row in (row for row in found if row["network"] == model.name):
                row.update(price(single, methods[row["method"]], row["method"], report))
    samplers = " and ".join(dict.fromkeys(one.title for one in subjects))
    title = f"{drawn.count} images, {drawn.steps} {samplers} steps, seed {drawn.seed}; PSNR in dB against dense, "
    title += "mean and least of the images"
    shown = found if as_json else [{key: row[key] for key in row if key not in ("drift", "steps")} for row in found]
    console.show(shown, title=title, as_json=as_json)
    with contextlib.ExitStack() as pictures:  # both appear, or none
        for path, drawing in ((plot, draw), (pareto, draw_prices)):
            if path is not None:
                drawing(found, pictures.enter_context(files.complete(path)))
    for path in filter(None, (plot, pareto)):
        click.echo(f"Picture: {path}", err=as_json)
