"""``golden capture`` and ``golden layers``: what layers are, and what they read and compute."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from golden.cli import options
from golden.cli.drawn import Drawn, drawn
from golden.cli.subject import outline
from golden.common import console
from golden.diffusion import zoo
from golden.diffusion.networks import published


@click.command()
@click.option("--layer", required=True, help="Layer to record, see `layers`.")
@click.option("--steps", required=True, metavar="A:B", help="Steps to record, half-open, in order of execution.")
@click.option("--total", default=50, show_default=True, help="Steps of the whole sampling.")
@drawn(1, 1000, steps=None)
@click.option("--half", is_flag=True, help="Round inputs to FP16, and compute and store the outputs accordingly.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="File to write, .npz.")
@options.as_json
def capture(layer: str, steps: str, total: int, drawn: Drawn, half: bool, out: Path, as_json: bool) -> None:
    """Record what one layer reads and computes: inputs, deltas against the step before, outputs, parameters."""
    one = drawn.subject()
    match = re.fullmatch(r"(\d{1,6}):(\d{1,6})", steps)
    if not match:
        raise ValueError(f"Steps must be a half-open range A:B, not {steps!r}")
    first, last = map(int, match.groups())
    sampling = drawn.sampling(one, total)
    options.writable(out, ".npz")
    recording = zoo.capture(
        sampling,
        layer,
        first=first,
        last=last,
        half=half,
        track=lambda run: console.progress(run, "Sampling", total=last),
    )
    recording.save(out)
    deltas = recording.deltas()
    shape, zeros = "x".join(map(str, deltas.shape)), float(np.mean(deltas == 0))
    if as_json:
        row = {"file": str(out), "layer": layer, "network": one.network.name, "first": first, "last": last}
        row |= {"steps": total, "images": drawn.count, "seed": drawn.seed, "deltas": list(deltas.shape), "zero": zeros}
        console.show([row], as_json=True)
        return
    click.echo(f"{out}: {layer}, steps {first}:{last} of {total}, deltas {shape}, {zeros:.1%} of them zero")


@click.command()
@click.option(
    "--network",
    default="unet",
    show_default=True,
    help="Networks, comma separated: of the zoo, folders of checkpoints, FILE.py:FUNCTION, or published ones.",
)
@click.option("--totals", "only", is_flag=True, help="A row for each network, with the totals published for it.")
@options.as_json
def layers(network: str, only: bool, as_json: bool) -> None:
    """List the layers of networks in order of evaluation, for one image, and their totals."""
    names = options.each(network, "Networks")
    tables = {name: _layers(name) for name in names}
    sums = [_totals(name, table) for name, table in tables.items()]
    if as_json:
        console.show(sums if only else [row for table in tables.values() for row in table], as_json=True)
        return
    for (name, table), row in zip(tables.items(), sums, strict=True):
        if not only:
            told = f"{row['layers']} layers, {row['parameters']:,} parameters, {row['macs']:,} MACs per image and call"
            shown = [{key: value for key, value in line.items() if key != "network"} for line in table]
            console.show(shown, title=f"{name}: {told}")
    if only or any(row["source"] for row in sums):
        shown = [{key: value for key, value in row.items() if key != "source"} for row in sums]
        console.show(shown, title="Totals for one image; macs_ratio: what the publication counts, over its figure")
        for row in (row for row in sums if row["source"]):
            click.echo(f"{row['network']}: {row['source']}")


def _layers(name: str) -> list[dict[str, Any]]:
    """A row for each layer: elements of its value (`activations`) and of its weight (`weights`), its MACs."""
    model = published.network(name) if name in published.PUBLISHED else outline(name, published.PUBLISHED)
    shapes, macs = model.shapes(), model.macs()
    found = []
    for layer in model.layers:
        parameters = layer.parameters()
        found.append(
            {
                "network": name,
                "layer": layer.name,
                "kind": layer.kind,
                "inputs": ", ".join(layer.inputs),
                "shape": "x".join(map(str, shapes[layer.name][1:])),
                "parameters": sum(value.size for value in parameters.values()),
                "weights": parameters["weight"].size if "weight" in parameters else 0,
                "activations": math.prod(shapes[layer.name]),
                "macs": macs[layer.name],
            }
        )
    return found


def _totals(name: str, table: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sums of the layers, and what is published; `macs_ratio` compares what the publication counts."""
    known = published.PUBLISHED.get(name)
    found = {key: sum(row[key] for row in table) for key in ("parameters", "weights", "activations", "macs")}
    if known is not None:
        found["parameters"] = published.learnt(name)
    found["weight_macs"] = sum(row["macs"] for row in table if row["kind"] != "matmul")
    counted = found["weight_macs" if known is not None and known.counted == "weights" else "macs"]
    return {
        "network": name,
        "layers": len(table),
        **found,
        "published_parameters": None if known is None else known.parameters,
        "published_macs": None if known is None else known.macs,
        "macs_ratio": counted / known.macs if known is not None and known.macs else None,
        "source": None if known is None else known.source,
    }
