"""``golden gains``: how much of a product's errors reaches the image, and the output bits that follow from it."""

import dataclasses
import json
from pathlib import Path

import click
import numpy as np

from golden.cli import options
from golden.cli.drawn import Drawn, drawn
from golden.common import console, files
from golden.diffusion import zoo
from golden.diffusion.differential import kept
from golden.diffusion.differential.allocation import STEPS, dealt, measure_gains
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.sampling import Sampling


@click.command("gains")
@click.option("--method", default="closed-int4", show_default=True, help="Method whose output bits to deal out.")
@drawn(4, 100, steps=STEPS, seed=False)
@click.option("--out", type=click.Path(path_type=Path), help="Write the method with the bits of every layer (.json).")
@click.option("--ship", is_flag=True, hidden=True, help="Write the gains of the networks of the zoo into the package.")
@options.as_json
def command(method: str, drawn: Drawn, out: Path | None, ship: bool, as_json: bool) -> None:
    """Measure what errors of each product do to the image, and deal out the output bits of a method by it.

    One dense sampling for each product. The networks of the zoo have their gains on board; those of another one are
    kept in the user's cache folder, where all other commands find them.
    """
    if ship:
        _ship()
        return
    how = Method.named(method)
    if how.flow != "closed_loop" or not how.output_bits:
        raise ValueError(f"Method must be a closed loop with output_bits above 0, not {method!r}")
    options.writable(out, ".json")
    sampling = drawn.sampling(drawn.subject())
    model = sampling.network
    gains = measure_gains(
        sampling, images=drawn.count, track=lambda names: console.progress(names, f"Gains of {model.name}")
    )
    kept.save("gains", sampling, gains)
    profile = calibrate(sampling, images=drawn.count)
    bits = dealt(model, dataclasses.replace(profile, gains=gains), how.output_bits)
    shapes = model.shapes()
    rows = [
        {
            "layer": name,
            "elements": int(np.prod(shapes[name][1:])),
            "largest": profile.largest[name],
            "gain": gains[name],
            "bits": bits[name],
        }
        for name in gains
    ]
    title = (
        f"{model.name}, {drawn.steps} steps: variance of the image over that of errors in a product, and output bits"
    )
    console.show(rows, title=title, as_json=as_json)
    if out is not None:
        fixed = dataclasses.replace(how, output_allocation="even", layer_output_bits=bits)
        with files.complete(out) as partial:
            partial.write_text(json.dumps(fixed.to_dict(), indent=1) + "\n", encoding="utf-8")
        click.echo(str(out), err=as_json)


def _ship() -> None:
    networks = {}
    for name in zoo.DRAWS:
        model = zoo.load(name)
        found = measure_gains(
            Sampling(model, [0], STEPS), track=lambda names, name=name: console.progress(names, f"Gains of {name}")
        )
        networks[name] = {
            "digest": zoo.digest(model),
            "gains": {layer: float(f"{gain:.4g}") for layer, gain in found.items()},
        }
    text = json.dumps({"schema": 1, "networks": networks}, indent=1)
    with files.complete(zoo.DATA / zoo.GAINS) as partial:
        partial.write_text(text + "\n", encoding="utf-8")
    click.echo(str(zoo.DATA / zoo.GAINS))
