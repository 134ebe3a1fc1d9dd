"""``golden sweep``: variants of the methods, one change at a time."""

import fnmatch
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from golden import console, names, zoo
from golden.commands import options
from golden.differential.sweep import sweep, variants

__all__ = ["command"]


@click.command("sweep")
@click.option("--network", default="unet,unet-silu,dit", show_default=True, help="Networks, comma separated.")
@click.option(
    "--variant", default="*", show_default=True, help="Pattern of the variants to run, semicolons between several."
)
@click.option("--list", "listed", is_flag=True, help="Name the variants and run nothing.")
@options.steps()
@options.count(16, 1000)
@options.seed
@click.option("--out", type=click.Path(path_type=Path), help="File to which every row is appended as a line of JSON.")
@options.as_json
def command(
    network: str, variant: str, listed: bool, steps: int, count: int, seed: int, out: Path | None, as_json: bool
) -> None:
    """Run variants of the methods: dB, bits on the link and work of the array for one change at a time."""
    chosen = _matching(variant)
    if listed:
        click.echo("\n".join(chosen))
        return
    models = {name.strip(): zoo.load(name.strip()) for name in network.split(",")}
    options.writable(out, ".jsonl")
    found: list[dict[str, Any]] = []
    for name, model in models.items():

        def track(variants: Sequence[str], name: str = name) -> Iterator[str]:
            return iter(console.progress(variants, f"Variants on {name}"))

        for row in sweep(model, steps, chosen, images=count, seed=seed, track=track):
            found.append(row)
            if out is not None:
                with open(out, "a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
    title = "PSNR (dB against dense), bits an element, bits on the link over 32 a boundary, groups worked on over dense"
    console.show(found, title=title, as_json=as_json)


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
