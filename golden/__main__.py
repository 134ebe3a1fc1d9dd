"""Command line of the golden model: ``python -m golden``."""

import re
from pathlib import Path

import click
import numpy as np

from golden import console, zoo
from golden.sampling import sample as draw
from golden.zoo.pictures import grid, write_png


@console.group("Golden model: trained networks, their layers, and values recorded from them.")
def main(traceback: bool) -> None:
    """Root of the command line."""


_network = click.option("--network", default="unet", show_default=True, help="Network of the zoo.")
_seed = click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the starting noise.")
_labels = click.option("--labels", help="Digits to draw, comma separated and repeated as needed.  [default: 0,1,...,9]")


@main.command()
@_network
@click.option("--steps", default=50, show_default=True, help="Steps of the sampling.")
@click.option("--count", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Images to draw.")
@_labels
@_seed
@click.option("--out", default="samples.png", show_default=True, type=click.Path(path_type=Path), help="PNG to write.")
def sample(network: str, steps: int, count: int, labels: str | None, seed: int, out: Path) -> None:
    """Draw images by DDIM and write them as a grid, ten in a row."""
    model = zoo.load(network)
    classes = _classes(labels, count, model.config["classes"])
    _writable(out, ".png")
    total = steps * -(-count // 25)
    images = draw(model, classes, steps, seed, track=lambda run: console.progress(run, "Sampling", total=total))
    write_png(out, grid(images))
    found = int((zoo.load("classifier")(images).argmax(axis=1) == classes).sum())
    click.echo(f"{out}: {count} images in {steps} steps; the classifier finds the asked digit in {found} of them")


@main.command()
@_network
@click.option("--layer", required=True, help="Layer to record, see `layers`.")
@click.option("--steps", required=True, metavar="A:B", help="Steps to record, half-open, in order of execution.")
@click.option("--total", default=50, show_default=True, help="Steps of the whole sampling.")
@click.option("--count", type=click.IntRange(1, 1000), default=1, show_default=True, help="Images to draw.")
@_labels
@_seed
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
    half: bool,
    out: Path,
) -> None:
    """Record what one layer reads and computes: inputs, deltas against the step before, outputs, parameters."""
    model = zoo.load(network)
    match = re.fullmatch(r"(\d{1,6}):(\d{1,6})", steps)
    if not match:
        raise ValueError(f"Steps must be a half-open range A:B, not {steps!r}")
    first, last = map(int, match.groups())
    classes = _classes(labels, count, model.config["classes"])
    _writable(out, ".npz")
    recording = zoo.capture(
        model,
        layer,
        classes,
        steps=total,
        first=first,
        last=last,
        seed=seed,
        half=half,
        track=lambda run: console.progress(run, "Sampling", total=last),
    )
    recording.save(out)
    deltas = recording.deltas()
    shape, zeros = "x".join(map(str, deltas.shape)), np.mean(deltas == 0)
    click.echo(f"{out}: {layer}, steps {first}:{last} of {total}, deltas {shape}, {zeros:.1%} of them zero")


@main.command()
@_network
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def layers(network: str, as_json: bool) -> None:
    """List the layers of a network in order of evaluation, for one image."""
    model = zoo.load(network)
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


@main.command(
    add_help_option=False, context_settings={"ignore_unknown_options": True}, short_help="Train the shipped networks."
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def train(arguments: tuple[str, ...]) -> None:
    """Train the shipped networks (extra ``train``); see ``python -m golden train --help``."""
    try:
        from golden.zoo.train import train as command
    except ImportError as error:
        raise console.UserError(str(error)) from error
    command.main(list(arguments), prog_name="python -m golden train", standalone_mode=False)


def _classes(labels: str | None, count: int, classes: int) -> np.ndarray:
    """Labels of `count` images from a comma separated list, repeated in order."""
    if labels is None:
        chosen = list(range(classes))
    else:
        parts = [part.strip() for part in labels.split(",")]
        wrong = next((part for part in parts if not re.fullmatch(r"\d{1,6}", part) or int(part) >= classes), None)
        if wrong is not None:
            raise ValueError(f"Labels must be comma-separated digits from 0 to {classes - 1}, not {wrong!r}")
        chosen = [int(part) for part in parts]
    return np.resize(np.array(chosen, np.int64), count)


def _writable(path: Path, suffix: str) -> None:
    """Refuse an output that cannot be written before any long work begins."""
    if path.suffix.lower() != suffix:
        raise ValueError(f"Output must end in {suffix}, not {str(path)!r}")
    if path.is_dir():
        raise ValueError(f"Output must be a file, not the folder {str(path)!r}")
    if not path.parent.is_dir():
        raise ValueError(f"Folder of the output must exist, not {str(path.parent)!r}")


if __name__ == "__main__":
    main(prog_name="python -m golden")
