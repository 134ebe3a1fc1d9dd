"""``golden compare``: what methods do to the images, against dense sampling with the same seed."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from golden import console, zoo
from golden.commands import options
from golden.differential.configuration import Configuration
from golden.differential.profile import calibrate
from golden.differential.run import Run, run
from golden.networks.graph import Network
from golden.sampling import Step
from golden.zoo import quality

__all__ = ["command", "rows"]

Track = Callable[[Iterable[Step]], Iterable[Step]]

METHODS = "paper,closed-int3,closed-int4,raw-int8,raw-int8-tensor"


def rows(
    network: Network,
    methods: Mapping[str, Configuration],
    labels: np.ndarray,
    steps: int,
    *,
    seed: int = 0,
    track: Callable[[str], Track] = lambda name: iter,
) -> list[dict[str, Any]]:
    """Compare methods with dense sampling.

    Parameters
    ----------
    network, labels, steps, seed :
        As for `golden.differential.run.run`.
    methods : mapping of str to Configuration
        What to compare, by name.
    track : callable
        Gives the progress bar of a sampling for its name.

    Returns
    -------
    list of dict
        For each method ``method``, ``network``, ``steps``, ``images``; of the PSNR of each image (dB, peak 2) the mean
        ``psnr_mean`` and the least ``psnr_min``; ``ssim_mean``; the share ``agreement`` in which the classifier finds
        the digit that it finds in the dense image, and ``found``, that which was asked for; ``frechet``, the distance
        of its features to those of the real digits; ``drift``, the mean PSNR of the samples after each step;
        ``seconds`` and their ratio ``time_ratio`` to those of the dense sampling. None stands for a PSNR without limit,
        and for the distance of a single image.
    """
    calibrate(network, steps)  # once for all; and what the first run pays for memory, no method does
    dense, dense_seconds = _timed(network, Configuration(flow="dense"), labels, steps, seed, track("dense"))
    seen = zoo.classify(dense.images)
    real = zoo.digits()
    found = []
    for name, configuration in methods.items():
        own, seconds = _timed(network, configuration, labels, steps, seed, track(name))
        psnr, digits = quality.psnr(own.images, dense.images), zoo.classify(own.images)
        distance = quality.frechet(zoo.statistics(own.images), real) if len(labels) > 1 else None
        found.append(
            {
                "method": name,
                "network": network.name,
                "steps": steps,
                "images": len(labels),
                "psnr_mean": _finite(psnr.mean()),
                "psnr_min": _finite(psnr.min()),
                "ssim_mean": float(quality.ssim(own.images, dense.images).mean()),
                "agreement": quality.agreement(digits, seen),
                "found": quality.agreement(digits, labels),
                "frechet": distance,
                "drift": [
                    _finite(quality.psnr(*pair).mean()) for pair in zip(own.trajectory, dense.trajectory, strict=True)
                ],
                "seconds": round(seconds, 3),
                "time_ratio": round(seconds / dense_seconds, 3),
            }
        )
    return found


def _timed(
    network: Network, configuration: Configuration, labels: np.ndarray, steps: int, seed: int, track: Track
) -> tuple[Run, float]:
    start = time.perf_counter()
    result = run(network, configuration, labels, steps, seed=seed, track=track)
    return result, time.perf_counter() - start


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def draw(found: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Save the drift of every method, a panel for each network."""
    networks = list(dict.fromkeys(row["network"] for row in found))
    width = 5.5 * len(networks)
    with options.figure(path, 1, len(networks), figsize=(width, 4), squeeze=False, sharey=True) as (_, axes):
        for panel, name in zip(axes[0], networks, strict=True):
            for row in (row for row in found if row["network"] == name):
                drift = [np.nan if value is None else value for value in row["drift"]]
                panel.plot(range(1, len(drift) + 1), drift, label=row["method"])
            panel.set(title=f"{name}, mean of {row['images']} images", xlabel="step", ylabel="PSNR to dense, dB")
            panel.grid(alpha=0.3)
            panel.legend(fontsize="small")


@click.command("compare")
@options.method(METHODS)
@click.option("--network", default="unet", show_default=True, help="Networks of the zoo, comma separated.")
@options.steps()
@options.count(16, 1000)
@options.labels
@options.seed
@options.picture("plot", "compare.png", "Draw how far the samples are from dense ones after each step.")
@options.as_json
def command(
    method: str,
    network: str,
    steps: int,
    count: int,
    labels: str | None,
    seed: int,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Compare methods with dense sampling of the same seed: PSNR, SSIM, classifier, drift and time."""
    methods = options.methods(method)
    networks = [zoo.load(name.strip()) for name in network.split(",")]
    options.writable(plot)
    found = []
    for one in networks:
        asked = options.classes(labels, count, one.config["classes"])

        def track(name: str, one: Network = one) -> Track:
            return lambda run: console.progress(run, f"{one.name}, {name}", total=steps)

        found += rows(one, methods, asked, steps, seed=seed, track=track)
    title = f"{count} images, {steps} DDIM steps, seed {seed}; PSNR in dB against dense, mean and least of the images"
    shown = found if as_json else [{key: row[key] for key in row if key not in ("drift", "steps")} for row in found]
    console.show(shown, title=title, as_json=as_json)
    if plot is not None:
        draw(found, plot)
        click.echo(f"Picture: {plot}", err=as_json)
