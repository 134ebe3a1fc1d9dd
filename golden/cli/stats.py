"""``golden stats``: what the digits are like that a method sends, and what they cost on the link."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from golden.cli import options
from golden.cli.drawn import Drawn, drawn
from golden.common import console, drawing
from golden.diffusion.differential.measure import Measure, Row
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.run import run
from golden.diffusion.networks.graph import Network
from golden.diffusion.sampling import Sampling

SIDES = ("inputs", "outputs")


def measured(sampling: Sampling, name: str, method: Method) -> Measure:
    """Notes of a sampling under a method of this name, with a progress bar.

    Raises
    ------
    ValueError
        If the method sends no digits.
    """
    if method.flow == "dense":
        raise ValueError(f"Method must send digits to be measured, not {name!r}, which is dense")
    title = f"{sampling.network.name}, {name}"
    track = functools.partial(console.progress, description=title, total=sampling.steps)
    return run(sampling, method, measured=True, track=track).measure


def rows(network: Network, name: str, measure: Measure, by: str = "total") -> list[dict[str, Any]]:
    """Figures of a measured sampling.

    Parameters
    ----------
    network : Network
        That was sampled.
    name : str
        Of the method.
    measure : Measure
        Its notes.
    by : str
        A row for each ``layer`` (the value that is sent), for each ``step``, for each layer in each step
        (``layer-step``), or one in ``total``; each for what products read (``inputs``) and for what leaves them
        (``outputs``; in the open loop all that is quantised).

    Returns
    -------
    list of dict
        ``method``, ``network``, ``side``, ``layer`` or ``step``, ``elements``; shares ``zero``, ``inlier`` and
        ``outlier`` of the digits of pass 0; ``passes`` on average; shares of vectors ``crowded`` (`Row.crowded`), of
        elements ``flips`` (open loop) and ``saturated``, of groups ``zero_groups``; bits of each element: order-0
        ``entropy``, the delta stream ``bits``, and the ``joint`` form.
    """
    found = []
    for side in SIDES:
        notes: Mapping[tuple[int, str], Row] = getattr(measure, side)
        for key in _keys(notes, by):
            row = sum((row for place, row in notes.items() if _of(place, by) == key), Row())
            if row.elements:
                flips = _flips(network, measure, by, key) if side == "outputs" else None
                where = {} if by == "total" else dict(zip(by.split("-"), key, strict=True))
                found.append({"method": name, "network": network.name, "side": side, **where, **_figures(row, flips)})
    return found


def _of(place: tuple[int, str], by: str) -> tuple[Any, ...]:
    step, layer = place
    return {"layer": (layer,), "step": (step,), "layer-step": (layer, step), "total": ()}[by]


def _keys(places: Iterable[tuple[int, str]], by: str) -> list[tuple[Any, ...]]:
    return list(dict.fromkeys(_of(place, by) for place in places))


def _flips(network: Network, measure: Measure, by: str, key: tuple[Any, ...]) -> float | None:
    """Share of flipped masks; an activation is found by the value it reads, which is what was quantised."""
    pairs = [
        pair
        for (step, layer), pair in measure.flips.items()
        if _of((step, network.by_name[layer].inputs[0]), by) == key
    ]
    elements = sum(count for _, count in pairs)
    return sum(flipped for flipped, _ in pairs) / elements if elements else None


def _figures(row: Row, flips: float | None) -> dict[str, Any]:
    elements = row.elements
    return {
        "elements": elements,
        "zero": row.first_zeros / elements,
        "inlier": 1 - (row.first_zeros + row.outliers) / elements,
        "outlier": row.outliers / elements,
        "passes": row.digits / elements,
        "crowded": row.crowded / row.vectors if row.vectors else None,
        "saturated": row.saturated / elements,
        "flips": flips,
        "zero_groups": row.zero_groups / row.groups if row.groups else None,
        "entropy": row.entropy / elements,
        "bits": row.bits / elements,
        "joint": row.joint / elements,
    }


@click.command("stats")
@options.method("closed-int3,paper")
@drawn(2, 100, several=True, cache=True)
@click.option(
    "--by",
    type=click.Choice(["layer", "step", "layer-step", "total"]),
    default="total",
    show_default=True,
    help="A row for each value that is sent, for each step, for each value in each step, or one for all.",
)
@options.picture("plot", "stats.png", "Draw shares and bits of each element, step by step.")
@options.as_json
def command(
    method: str,
    drawn: Drawn,
    by: str,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Show the digits that methods send: zeros, outliers, crowded vectors, flips, entropy, bits of an element."""
    methods = options.methods(method)
    samplings = [drawn.sampling(one) for one in drawn.subjects()]
    options.writable(plot)
    options.note_gains(samplings, methods.values())
    found, pictured = [], {}
    for sampling in samplings:
        model = sampling.network
        for name, method in methods.items():
            notes = measured(sampling, name, method)
            found += rows(model, name, notes, by)
            pictured[name if len(samplings) == 1 else f"{model.name}, {name}"] = rows(model, name, notes, "step")
    title = f"{drawn.network}, {drawn.count} images, {drawn.steps} steps: "
    title += "shares of digits of pass 0, vectors, elements, groups; bits"
    hidden = () if as_json or len(samplings) > 1 else ("network",)
    shown = [{key: value for key, value in row.items() if key not in hidden} for row in found]
    console.show(shown, title=title, as_json=as_json)
    if plot is not None:
        draw(pictured, plot)
        click.echo(f"Picture: {plot}", err=as_json)


def draw(found: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Save shares and bits over the steps, a row of panels for each method."""
    with drawing.figure(path, len(found), 3, figsize=(14, 4.2 * len(found))) as (_, axes):
        for (shares, bits, rare), (name, all_rows) in zip(axes, found.items(), strict=True):
            sides = {side: [row for row in all_rows if row["side"] == side] for side in SIDES}
            digits = sides["inputs"] or sides["outputs"]
            steps = [row["step"] for row in digits]
            layers = [[row[key] for row in digits] for key in drawing.DIGITS]
            shares.stackplot(steps, layers, labels=list(drawing.DIGITS), colors=list(drawing.DIGITS.values()))
            shares.set(title=f"{name}: digits of pass 0", ylabel="share", ylim=(0, 1))
            for side, rows_ in sides.items():
                for key, style in (("bits", "-"), ("joint", "--"), ("entropy", ":")):
                    if rows_:
                        at, values = [row["step"] for row in rows_], [row[key] for row in rows_]
                        bits.plot(at, values, style, color=drawing.SIDES[side], label=f"{side}, {key}")
            bits.set(title=f"{name}: on the link", ylabel="bits of an element", ylim=(0, None))
            for key, style in (("crowded", "-"), ("zero_groups", "--"), ("flips", ":")):
                points = [(row["step"], row[key]) for row in all_rows if row[key] is not None and row in digits]
                points = points or [(row["step"], row[key]) for row in sides["outputs"] if row[key] is not None]
                if points:
                    rare.plot(*zip(*points, strict=True), style, color="#222222", label=key)
            rare.set(title=f"{name}: vectors, groups, masks", ylabel="share", ylim=(0, None))
            drawing.over_steps(shares, bits, rare)
            for panel in (shares, bits, rare):
                drawing.legend(panel)
