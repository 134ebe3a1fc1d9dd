"""``golden capture`` and ``golden layers``: what layers are, and what they read and compute."""

import re
from pathlib import Path

import click
import numpy as np

from golden import console, zoo
from golden.commands import options
from golden.commands.subject import outline, subject

__all__ = ["capture", "layers"]


@click.command()
@options.network
@click.option("--layer", required=True, help="Layer to record, see `layers`.")
@click.option("--steps", required=True, metavar="A:B", help="Steps to record, half-open, in order of execution.")
@click.option("--total", default=50, show_default=True, help="Steps of the whole sampling.")
@options.count(1, 1000)
@options.labels
@options.seed
@options.sampling
@click.option("--half", is_flag=True, help="Round inputs to FP16, and compute and store the outputs accordingly.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="File to write, .npz.")
def capture(
    network: str,
    layer: str,
    steps: str,
    total: int,
    count: int,
    labels: str | None,
    seed: int,
    conditioning: Path | None,
    guidance: float | None,
    sampler: str | None,
    half: bool,
    out: Path,
) -> None:
    """Record what one layer reads and computes: inputs, deltas against the step before, outputs, parameters."""
    one = subject(network, conditioning, sampler)
    match = re.fullmatch(r"(\d{1,6}):(\d{1,6})", steps)
    if not match:
        raise ValueError(f"Steps must be a half-open range A:B, not {steps!r}")
    first, last = map(int, match.groups())
    given = one.conditioning(count, labels, guidance)
    options.writable(out, ".npz")
    recording = zoo.capture(
        one.network,
        layer,
        given,
        steps=total,
        first=first,
        last=last,
        seed=seed,
        sampler=one.sampler,
        guidance=guidance,
        half=half,
        track=lambda run: console.progress(run, "Sampling", total=last),
    )
    recording.save(out)
    deltas = recording.deltas()
    shape, zeros = "x".join(map(str, deltas.shape)), np.mean(deltas == 0)
    click.echo(f"{out}: {layer}, steps {first}:{last} of {total}, deltas {shape}, {zeros:.1%} of them zero")


@click.command()
@options.network
@options.as_json
def layers(network: str, as_json: bool) -> None:
    """List the layers of a network in order of evaluation, for one image."""
    model = outline(network)
    shapes, macs = model.shapes(), model.macs()
    rows = [
        {
            "layer": layer.name,
            "kind": layer.kind,
            "inputs": ", ".join(layer.inputs),
            "shape": "x".join(map(str, shapes[layer.name][1:])),
            "parameters": sum(value.size for value in layer.parameters().values()),
            "macs": macs[layer.name],
        }
        for layer in model.layers
    ]
    parameters, work = sum(row["parameters"] for row in rows), sum(macs.values())
    title = f"{network}: {len(rows)} layers, {parameters:,} parameters, {work:,} MACs per image and call"
    console.show(rows, title=title, as_json=as_json)
