"""``golden tune``: a method for one network, whose passes and output bits are dealt out by measured effects."""

import json
from pathlib import Path
from typing import Any

import click

from golden.cli import options
from golden.cli.drawn import Drawn, drawn
from golden.cli.stats import measured
from golden.common import console, files
from golden.diffusion.cost import traffic
from golden.diffusion.cost.areas import read as read_areas
from golden.diffusion.differential.compare import compare
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.tune import tune
from golden.diffusion.sampling import Sampling


@click.command("tune")
@click.option(
    "--target",
    type=click.FloatRange(10, 100),
    callback=console.finite,
    default=50.0,
    show_default=True,
    help="PSNR against dense to reach, dB, mean of images.",
)
@click.option("--k", "digit_width", type=click.IntRange(3, 4), default=3, show_default=True, help="Bits of a digit.")
@drawn(16, 1000)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="build/tuned.json",
    show_default=True,
    help="File of the method (.json), for --method of the other commands.",
)
@options.as_json
def command(target: float, digit_width: int, drawn: Drawn, out: Path, as_json: bool) -> None:
    """Write the cheapest method that reaches a PSNR on a network.

    What passes and output bits are worth is measured first, once for a network, a number of steps and a k (about two
    minutes on the networks of the zoo), and kept in the user's cache folder. The method is checked on images that it
    was not tuned on. The table shows it beside the named method of the same k, on the images of --seed.
    """
    options.writable(out, ".json")
    network, steps, sampling = drawn.network, drawn.steps, drawn.sampling(drawn.subject())
    found = tune(sampling, target, digit_width=digit_width, track=console.progress)
    if not found.reached:
        raise ValueError(
            f"Target must be at most {found.checking:.1f} dB with k = {digit_width} in {steps} steps of {network!r} "
            f"(other images than those tuned on), not {target:g}"
        )
    name = f"closed-int{digit_width}"
    methods = {out.stem: found.method, name: Method.named(name)}
    report = read_areas(None)
    rows = [
        {
            **{key: row[key] for key in ("method", "network", "steps", "images", "psnr_mean", "psnr_min")},
            **_costs(sampling, row["method"], methods[row["method"]], report),
        }
        for row in compare(
            sampling, methods, track=lambda name: lambda run: console.progress(run, f"{network}, {name}", total=steps)
        )
    ]
    with files.complete(out) as partial:
        partial.write_text(json.dumps(found.method.to_dict(), indent=1) + "\n", encoding="utf-8")
    title = (
        f"{network}: {found.checking:.1f} dB on images it was not tuned on (least {found.least:.1f}), "
        f"{found.tuning:.1f} dB on the others; bits on the link for a boundary element, groups worked on over dense"
    )
    console.show(rows, title=title, as_json=as_json)
    click.echo(str(out), err=as_json)


def _costs(sampling: Sampling, name: str, method: Method, report: Any) -> dict[str, float | None]:
    """What a method costs, measured on one image."""
    notes = measured(sampling.of(sampling.given[:1]), name, method)
    prices = traffic.price(sampling.network, method, notes, report)
    return {**prices, "array": notes.total(notes.inputs).array}
