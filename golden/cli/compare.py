"""``golden compare``: what methods do to the images, against dense sampling with the same seed."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from golden.cli import options
from golden.cli.stats import measured
from golden.cli.subject import subject
from golden.common import console, files
from golden.diffusion import zoo
from golden.diffusion.cost import traffic
from golden.diffusion.cost.areas import read as read_areas
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.differential.reuse import cached_run
from golden.diffusion.differential.run import Run, run
from golden.diffusion.networks.graph import Network
from golden.diffusion.sampling import Conditioning, Given, Process, Sampler, Step, condition, deepcache
from golden.diffusion.zoo import quality

__all__ = ["command", "price", "rows"]

Track = Callable[[Iterable[Step]], Iterable[Step]]

METHODS = "paper,closed-int3,closed-int4,raw-int8,raw-int8-tensor"


def rows(
    network: Network,
    methods: Mapping[str, Method],
    given: Given,
    steps: int,
    *,
    seed: int = 0,
    sampler: Process | None = None,
    guidance: float | None = None,
    exact: bool = False,
    caching: Mapping[str, Any] | None = None,
    track: Callable[[str], Track] = lambda name: iter,
) -> list[dict[str, Any]]:
    """Compare methods with dense sampling.

    Parameters
    ----------
    network, given, steps, seed, sampler, guidance :
        As for `golden.diffusion.differential.run.run`.
    methods : mapping of str to Method
        What to compare, by name.
    exact : bool
        Whether methods give the machine's bits; dense stays binary32.
    caching : mapping, optional
        Arguments ``cached`` and ``branch`` of `differential.reuse.cached_run`, for methods, ``dense`` among
        them; what they are compared with stays without DeepCache.
    track : callable
        Gives the progress bar of a sampling for its name.

    Returns
    -------
    list of dict
        For each method ``method``, ``network``, ``steps``, ``images``; of the PSNR of each image (dB) the mean
        ``psnr_mean`` and the least ``psnr_min``, and its ``peak``: 2 of images, from -1 to 1, or the range of the dense
        result, where the sampler does not clip; ``ssim_mean``; the share ``agreement`` in which the classifier finds
        the digit that it finds in the dense image, and ``found``, that which was asked for; ``frechet``, the distance
        of its features to those of the real digits; ``drift``, the mean PSNR of the samples after each step;
        ``seconds`` and their ratio ``time_ratio`` to those of the dense sampling; with `caching` also ``cached``, how
        many steps are whole, and ``multiplications``, the share of them that is left. None stands for a PSNR without
        limit, for the distance of fewer than 16 images, and for what is not defined: SSIM of other than clipped images
        of at least 7 x 7 pixels, what the classifier says of other than the digits of the zoo.
    """
    given, sampler = condition(network, given), sampler or Sampler()
    kept = {}
    if caching is not None:
        kept = {"cached": len(caching["cached"]), "multiplications": deepcache.share(network, steps, **caching)}
    how = {"seed": seed, "sampler": sampler, "guidance": guidance}
    # once for all; and what the first run pays for memory, no method does
    calibrate(network, steps, given=given, sampler=sampler, guidance=guidance)
    dense, dense_seconds = _timed(network, Method(flow="dense"), given, steps, how, track("dense"))
    images = dense.images
    peak = 2.0 if sampler.clip else float(np.ptp(images))
    similar = sampler.clip and images.ndim == 4 and min(images.shape[2:]) >= 7
    judged = _judged(network, given, images)
    found = []
    for name, method in methods.items():
        own, seconds = _timed(network, method, given, steps, how | {"exact": exact}, track(name), caching)
        psnr = quality.psnr(own.images, images, peak)
        found.append(
            {
                "method": name,
                "network": network.name,
                "steps": steps,
                "images": given.count,
                "psnr_mean": _finite(psnr.mean()),
                "psnr_min": _finite(psnr.min()),
                "peak": peak,
                "ssim_mean": float(quality.ssim(own.images, images).mean()) if similar else None,
                **judged(own.images),
                "drift": [
                    _finite(quality.psnr(*pair, peak).mean())
                    for pair in zip(own.trajectory, dense.trajectory, strict=True)
                ],
                "seconds": round(seconds, 3),
                "time_ratio": round(seconds / dense_seconds, 3),
                **kept,
            }
        )
    return found


def _judged(
    network: Network, given: Conditioning, images: np.ndarray
) -> Callable[[np.ndarray], dict[str, float | None]]:
    """What the classifier says of the images of a method, beside those of the dense sampling."""
    if network.name not in zoo.DRAWS:
        return lambda own: dict.fromkeys(("agreement", "found", "frechet"))
    seen, real = zoo.classify(images), zoo.digits()

    def judge(own: np.ndarray) -> dict[str, float | None]:
        digits = zoo.classify(own)
        return {
            "agreement": quality.agreement(digits, seen),
            "found": quality.agreement(digits, given.values["label"]),
            "frechet": quality.frechet(zoo.statistics(own), real) if len(own) >= quality.FEWEST else None,
        }

    return judge


def _timed(
    network: Network,
    method: Method,
    given: Given,
    steps: int,
    how: dict[str, Any],
    track: Track,
    caching: Mapping[str, Any] | None = None,
) -> tuple[Run, float]:
    start = time.perf_counter()
    if caching is None:
        result = run(network, method, given, steps, **how, track=track)
    else:
        result = cached_run(network, method, given, steps, **how, **caching, track=track)
    return result, time.perf_counter() - start


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def price(
    network: Network,
    method: Method,
    name: str,
    steps: int,
    report: Sequence[Mapping[str, Any]] = (),
    *,
    given: Given = (3,),
    **how: Any,
) -> dict[str, Any]:
    """`golden.diffusion.cost.traffic.price`, measured on a sampling of one image.

    Parameters
    ----------
    network, method, name, steps, given :
        What is run, as in `rows`.
    report : sequence of mapping
        Areas.
    how :
        Sampler and guidance, as in `rows`.
    """
    dense = method.flow == "dense"
    notes = None if dense else measured(network, name, method, given, steps, **how)
    return traffic.price(network, method, notes, report)


def draw_prices(found: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Save PSNR against bits on the link, and against area and cycles where they are known."""
    keys = {"link_bits": "bits on the link for a boundary element (Diffy: 32)"}
    if any(row["area_cycles"] is not None for row in found):
        keys["area_cycles"] = "LUTs times clocks of a multiply-accumulate"
    with options.figure(path, 1, len(keys), figsize=(6.5 * len(keys), 4.5), squeeze=False, sharey=True) as (made, axes):
        panels = []
        for panel, (key, label) in zip(axes[0], keys.items(), strict=True):
            points: list[tuple[float, float]] = []
            names, fronts = [], []
            for marker, name in zip(itertools.cycle("osD^vPX"), dict.fromkeys(row["network"] for row in found)):
                shown = [row for row in found if row["network"] == name and None not in (row["psnr_mean"], row[key])]
                own = [(row[key], row["psnr_mean"]) for row in shown]
                (dots,) = panel.plot(*np.reshape(own, (-1, 2)).T, marker, label=name)
                fronts.append(front(own))
                panel.plot(*np.reshape(fronts[-1], (-1, 2)).T, "--", color=dots.get_color(), linewidth=1)
                points += own
                names += [row["method"] for row in shown]
            panel.plot([], [], "k--", linewidth=1, label="front: no method is better in both")
            panel.set(xlabel=label, ylabel="PSNR to dense, dB")
            panel.margins(0.12)
            panel.set_xlim(0, None)
            panel.grid(alpha=0.3)
            panel.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=4, frameon=False)
            panels.append((panel, points, names, fronts))
        made.draw_without_rendering()  # where things are, before labels go beside them
        for panel in panels:
            options.annotate(*panel)


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
@options.networks
@options.steps()
@options.count(16, 1000)
@options.labels
@options.seed
@options.sampling
@options.caching
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
    network: str,
    steps: int,
    count: int,
    labels: str | None,
    seed: int,
    conditioning: Path | None,
    guidance: float | None,
    sampler: str | None,
    cache: options.Cache | None,
    exact: bool,
    plot: Path | None,
    pareto: Path | None,
    areas: Path | None,
    as_json: bool,
) -> None:
    """Compare methods with dense sampling of the same seed: PSNR, SSIM, classifier, drift and time."""
    methods = options.methods(method, exact=exact)
    subjects = [subject(name, conditioning, sampler) for name in options.each(network, "Networks")]
    asked = [one.conditioning(count, labels, guidance) for one in subjects]
    if cache is not None and (pareto is not None or areas is not None):
        raise ValueError("--cache must be left out with --pareto and --areas, which know no cache steps")
    caches = [None if cache is None else cache.options(one.network, steps) for one in subjects]
    options.writable(plot)
    options.writable(pareto)
    if plot is not None and plot == pareto:
        raise ValueError(f"Pictures must be two files, not {str(plot)!r} twice")
    report = read_areas(areas)
    found = []
    for one, given, caching in zip(subjects, asked, caches, strict=True):
        model, how = one.network, {"sampler": one.sampler, "guidance": guidance}

        def track(name: str, model: Network = model) -> Track:
            return lambda run: console.progress(run, f"{model.name}, {name}", total=steps)

        found += rows(model, methods, given, steps, seed=seed, exact=exact, caching=caching, track=track, **how)
        if pareto is not None or areas is not None:
            single = (3,) if one.digits else given[:1]
            for row in (row for row in found if row["network"] == model.name):
                row.update(price(model, methods[row["method"]], row["method"], steps, report, given=single, **how))
    samplers = " and ".join(dict.fromkeys(one.title for one in subjects))
    title = (
        f"{count} images, {steps} {samplers} steps, seed {seed}; PSNR in dB against dense, mean and least of the images"
    )
    shown = found if as_json else [{key: row[key] for key in row if key not in ("drift", "steps")} for row in found]
    console.show(shown, title=title, as_json=as_json)
    with contextlib.ExitStack() as pictures:  # both appear, or none
        for path, drawing in ((plot, draw), (pareto, draw_prices)):
            if path is not None:
                drawing(found, pictures.enter_context(files.complete(path)))
    for path in filter(None, (plot, pareto)):
        click.echo(f"Picture: {path}", err=as_json)
