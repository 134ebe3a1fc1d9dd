"""``golden sweep``: variants of the methods, one change at a time."""

import fnmatch
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from golden.cli import options
from golden.cli.subject import subject
from golden.common import console, drawing, names
from golden.diffusion.cost import ranking
from golden.diffusion.cost.areas import read as read_areas
from golden.diffusion.differential.sweep import sweep, variants


@click.command("sweep")
@click.option("--network", default="unet,unet-silu,dit", show_default=True, help="Networks, FILE.py:FUNCTION too.")
@click.option(
    "--variant", default="*", show_default=True, help="Pattern of the variants to run, semicolons between several."
)
@click.option("--list", "listed", is_flag=True, help="Name the variants and run nothing.")
@options.steps()
@options.count(16, 1000)
@options.seed
@click.option("--out", type=click.Path(path_type=Path), help="File to which every row is appended as a line of JSON.")
@click.option("--rank", is_flag=True, help="Sort by dB for a byte on the link, then by dB for LUTs times clocks.")
@click.option(
    "--read",
    "earlier",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Run nothing: take the rows of an earlier --out.",
)
@click.option(
    "--areas",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Report of `python -m fpga area`, instead of the figures that are shipped.",
)
@options.picture("plot", "sweep.png", "Draw PSNR against bits on the link, a point for each variant.")
@options.as_json
def command(
    network: str,
    variant: str,
    listed: bool,
    steps: int,
    count: int,
    seed: int,
    out: Path | None,
    rank: bool,
    earlier: Path | None,
    areas: Path | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Run variants of the methods: dB, bits on the link and work of the array for one change at a time.

    All variants of a network take about 45 minutes of one core.
    """
    chosen = _matching(variant)
    if listed:
        click.echo("\n".join(chosen))
        return
    report = read_areas(areas)
    options.writable(plot)
    if earlier is not None:
        rows = [row for row in _earlier(earlier) if row["variant"] in chosen or variant == "*"]
        _show(rows, rank, plot, as_json)
        return
    samplings = [subject(name).sampling(count, steps, seed=seed) for name in options.each(network, "Networks")]
    options.writable(out, ".jsonl", append=True)
    found: list[dict[str, Any]] = []
    for sampling in samplings:

        def track(variants: Sequence[str], name: str = sampling.network.name) -> Iterator[str]:
            return iter(console.progress(variants, f"Variants on {name}"))

        for row in sweep(sampling, chosen, areas=report, track=track):
            found.append(row)
            if out is not None:
                with open(out, "a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
    _show(found, rank, plot, as_json)


def _show(rows: list[dict[str, Any]], rank: bool, plot: Path | None, as_json: bool) -> None:
    if plot is not None:
        draw(rows, plot)
        click.echo(f"Picture: {plot}", err=as_json)
    if not rank:
        title = "PSNR (dB against dense), bits an element, link over Diffy's 32 bits, groups worked on over dense"
        console.show(rows, title=title, as_json=as_json)
        return
    rows = ranking.merits(rows)
    tables = {key: ranking.ranked(rows, key) for key in ranking.KEYS}
    if as_json:
        console.show([{"table": key, **row} for key, table in tables.items() for row in table], as_json=True)
        return
    kept = ("network", "steps", "variant", "psnr_mean", "link_bits", "area_cycles")
    added = ("db_per_byte", "db_per_area", "db_over", "link_over", "area_over", "front")
    for key, table in tables.items():
        title = f"Sorted by {key}; *_over: against {ranking.BASELINE}; front: nothing else is as good for no more"
        console.show([{name: row[name] for name in (*kept, *added)} for row in table], title=title)


def _earlier(path: Path) -> list[dict[str, Any]]:
    """Rows of an earlier run.

    Raises
    ------
    OSError, ValueError
        If they cannot be read or are something else.
    """
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (ValueError, RecursionError):
        rows = []
    if not rows or not all(map(_is_row, rows)):
        raise ValueError(f"Rows must be those of `golden sweep --out`, not {str(path)!r}")
    return rows


def _is_row(row: Any) -> bool:
    """Whether something has the names and figures that are shown of a row."""
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("variant", "network")):
        return False
    needed = ("steps", "psnr_mean", "link_bits", "link_joint")
    known = [row.get(key) for key in needed] + [row.get("area_cycles") or 0]
    return all(type(value) in (int, float) for value in known)


def draw(found: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Save PSNR against bits on the link, both of a boundary element, a panel for each network.

    Points have numbers, which a list beside the panels explains; equal markers are variants of the same method.
    """
    networks = list(dict.fromkeys(row["network"] for row in found))
    chosen = list(dict.fromkeys(row["variant"] for row in found))
    methods = list(dict.fromkeys(name.split(":")[0] for name in chosen))
    size = (5 * len(networks) + 4, max(4.5, 0.17 * len(chosen) + 1))
    look = drawing.colours(methods)
    with drawing.figure(path, 1, len(networks) + 1, figsize=size) as (made, axes):
        panels = []
        for panel, name in zip(axes[0], networks, strict=False):
            own = [row for row in found if row["network"] == name and np.isfinite(row["psnr_mean"])]
            for marker, method in zip(itertools.cycle("osD^vPX"), methods):
                points = [(32 * row["link_joint"], row["psnr_mean"]) for row in own if _method(row) == method]
                if points:
                    panel.plot(*zip(*points, strict=True), marker, color=look[method], label=method, alpha=0.7)
            panel.set(
                title=name, xlabel="bits on the link for a boundary element (Diffy: 32)", ylabel="PSNR to dense, dB"
            )
            panel.margins(0.1)
            panel.grid(alpha=0.3)
            drawing.legend(panel)
            numbers = [str(1 + chosen.index(row["variant"])) for row in own]
            panels.append((panel, [(32 * row["link_joint"], row["psnr_mean"]) for row in own], numbers))
        axes[0][-1].axis("off")
        listed = "\n".join(f"{number}  {name}" for number, name in enumerate(chosen, 1))
        axes[0][-1].text(0, 1, listed, va="top", fontsize="x-small", transform=axes[0][-1].transAxes)
        made.draw_without_rendering()  # where things are, before numbers go beside them
        for panel in panels:
            drawing.annotate(*panel)


def _method(row: Mapping[str, Any]) -> str:
    return row["variant"].split(":")[0]


def _matching(patterns: str) -> list[str]:
    """Names of the variants that match any of the patterns, in their order.

    Raises
    ------
    ValueError
        If a pattern matches none.
    """
    known = list(variants())
    wanted = [pattern.strip() for pattern in patterns.split(";")]
    for pattern in wanted:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in known):
            raise ValueError(names.unknown("Variant", pattern, known))
    return [name for name in known if any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted)]
