"""``golden stream``: a video, frame by frame, by any methods, against the dense stream."""

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from golden.cli import options
from golden.cli.subject import subject
from golden.common import console, drawing, names
from golden.diffusion.differential import streams
from golden.diffusion.differential.method import Method
from golden.diffusion.networks.graph import Network
from golden.diffusion.sampling.streaming import Similarity, Stream, Streaming
from golden.diffusion.zoo.moving import blend_video, digit_video
from golden.diffusion.zoo.pictures import grid
from golden.diffusion.zoo.quality import psnr

OTHERS = {"digit": 5, "into": 3}
"""What moves in the video that a stream is calibrated on."""

digit = click.option(
    "--digit", default=3, show_default=True, type=click.IntRange(0, 9), help="Digit that is seen and drawn."
)
shift = click.option(
    "--shift", default="0,0.125", show_default=True, help="Pixels down and right that a digit moves a frame."
)
timesteps = click.option(
    "--timesteps",
    default=",".join(map(str, Streaming().timesteps)),
    show_default=True,
    help="Noise level of each slot, falling, comma separated.",
)


def moving(name: str) -> Network:
    """Network that can be given digits that move; ValueError if it has other inputs than those of the zoo."""
    network, drawn = subject(name).network, {"image": (1, 16, 16), "timestep": (), "label": ()}
    if network.inputs != drawn:
        raise ValueError(f"Network must take {drawn} to be given digits that move, not {network.inputs}")
    return network


def videos(
    digit: int, into: int, frames: int, *, shift: tuple[float, float], rotation: float, seed: int
) -> dict[str, np.ndarray]:
    """Videos of digits, float32 ``(frames, 1, 16, 16)`` each: one is moved, one turned, one becomes another."""
    return {
        "move": digit_video(digit, frames, shift=shift, seed=seed),
        "turn": digit_video(digit, frames, rotation=rotation, seed=seed),
        "blend": blend_video(digit, into, frames, seed=seed),
    }


def rows(
    network: Network,
    methods: Mapping[str, Method],
    video: np.ndarray,
    other: np.ndarray,
    label: int,
    how: Streaming,
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Figures of a video by methods, and its images.

    Parameters
    ----------
    network, label, how
        As for `golden.diffusion.sampling.streaming.Stream`.
    methods : mapping of str to Method
        What to compare, by name.
    video : float (frames, channels, side, side)
        Frames.
    other : float (frames, channels, side, side)
        Frames to calibrate on.

    Returns
    -------
    list of dict
        For each method ``method``, ``network``, ``images``, how many frames the filter ``skipped``, of the PSNR of each
        image against the dense stream without cached layers (dB) the mean ``psnr_mean`` and the least ``psnr_min`` of
        those that are not equal, and its mean ``psnr_same`` against the dense stream with the same cached layers; bits
        of each element that products read and write, ``input_bits`` and ``output_bits``, and altogether for a call,
        ``megabits``, without the calls that fill the stream; and ``psnr``, that of each image. None stands for a PSNR
        without limit, and for bits of a method that sends none.
    dict of str to float32 (images, channels, side, side)
        Images of the dense stream, and of each method.

    Raises
    ------
    ValueError
        If the video is too short to fill the stream and calibrate it.
    """
    plain = Stream(network, label, how)
    if len(video) <= plain.items:
        raise ValueError(f"Frames must be more than the {plain.items} items of the stream, not {len(video)}")
    cached = streams.pushed(plain, video)
    whole = cached
    if how.interval > 1:
        whole = streams.pushed(Stream(network, label, dataclasses.replace(how, interval=1)), video)
    profile = None
    if any(method.flow != "dense" for method in methods.values()):
        profile = streams.calibrate_stream(network, other, OTHERS["digit"], how)
    found, images = [], {"dense": whole}
    for name, method in console.progress(methods.items(), f"Streams on {network.name}", total=len(methods)):
        figures, own = None, cached
        if method.flow != "dense":
            figures = streams.streamed(network, method, video, label, how, profile)
            own = figures.images
        sent = figures if plain.calls > plain.items else None
        away = psnr(own, whole)
        unequal, same = away[np.isfinite(away)], psnr(own, cached)
        found.append(
            {
                "method": name,
                "network": network.name,
                "images": len(own),
                "skipped": len(video) - plain.calls,
                "psnr_mean": float(unequal.mean()) if len(unequal) else None,
                "psnr_min": float(unequal.min()) if len(unequal) else None,
                "psnr_same": float(same.mean()) if np.isfinite(same).all() else None,
                "input_bits": None if sent is None or method.flow == "sign_mask" else sent.input_bits,
                "output_bits": None if sent is None else sent.output_bits,
                "megabits": None if sent is None else sent.megabits,
                "psnr": [float(value) if np.isfinite(value) else None for value in away],
            }
        )
        if name not in images or cached is not whole:
            images[name if name != "dense" else "cached"] = own
    return found, images


@click.command("stream")
@click.option(
    "--network", default="unet", show_default=True, help="Networks of the zoo or FILE.py:FUNCTION, comma separated."
)
@options.method("closed-int3,closed-int4")
@click.option(
    "--video", default="move", show_default=True, help="Videos, comma separated: a digit can move, turn, or blend."
)
@digit
@click.option("--into", default=5, show_default=True, type=click.IntRange(0, 9), help="Digit that blend ends with.")
@shift
@click.option(
    "--rotation", default=2.0, show_default=True, type=float, callback=console.finite, help="Degrees that turn takes."
)
@click.option("--frames", default=12, show_default=True, type=click.IntRange(2, 1000), help="Frames of a video.")
@timesteps
@click.option(
    "--reference",
    default="frames",
    show_default=True,
    help="What deltas are along, comma separated: frames, timesteps, measured.",
)
@click.option(
    "--residual",
    type=click.Choice(["none", "self", "onetime", "full"]),
    default="none",
    show_default=True,
    help="Where guidance takes the prediction without a label from.",
)
@click.option(
    "--guidance", default=1.2, show_default=True, type=float, callback=console.finite, help="Scale, with --residual."
)
@click.option(
    "--similarity",
    type=float,
    callback=console.finite,
    metavar="ETA",
    help="Leave out frames more alike than this, by chance.",
)
@click.option("--max-skips", type=click.IntRange(0), help="Frames left out in a row, with --similarity.  [default: 10]")
@click.option("--cache", default="1", show_default=True, help="DeepCache: one call in N is whole; comma separated.")
@click.option("--branch", default="0", show_default=True, help="What is reused: branch by its number, or any layer.")
@options.seed
@click.option(
    "--by",
    type=click.Choice(["frame", "total"]),
    default="total",
    show_default=True,
    help="A row for each image, or one for all.",
)
@options.picture("plot", "stream.png", "Draw frames, dense images and those of the methods below each other.")
@options.as_json
def command(
    network: str,
    method: str,
    video: str,
    digit: int,
    into: int,
    shift: str,
    rotation: float,
    frames: int,
    timesteps: str,
    reference: str,
    residual: str,
    guidance: float,
    similarity: float | None,
    max_skips: int | None,
    cache: str,
    branch: str,
    seed: int,
    by: str,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Denoise a video frame by frame (StreamDiffusion): PSNR against the dense stream, bits, frames left out.

    The stream is calibrated on another digit that moves alike. With --cache the deep layers are reused (DeepCache).
    """
    methods = options.methods(method)
    models = [moving(name) for name in options.each(network, "Networks")]
    kinds = options.each(video, "Videos")
    for name in kinds:
        names.lookup("Video", name, dict.fromkeys(("move", "turn", "blend")))
    levels = options.numbers(timesteps, "Timesteps")
    intervals = options.numbers(cache, "Intervals of --cache")
    if max_skips is not None and similarity is None:
        raise ValueError("--similarity must be given with --max-skips, not left out")
    leaves = None if similarity is None else Similarity(similarity, 10 if max_skips is None else max_skips, seed)
    common = {"timesteps": levels, "residual": residual, "guidance": guidance, "similarity": leaves, "seed": seed}
    moves = {"shift": options.shift(shift), "rotation": rotation, "seed": seed}
    hows = [
        Streaming(**common, branch=options.branch(branch), reference=along, interval=interval)
        for along, interval in itertools.product(options.each(reference, "References"), intervals)
    ]
    chosen = list(itertools.product(models, kinds, hows))
    for model, _, how in chosen:
        items = Stream(model, digit, how).items  # refuses what does not fit before any work
        if frames <= items:
            raise ValueError(f"Frames must be more than the {items} items of the stream, not {frames}")
    options.writable(plot)
    seen, others = videos(digit, into, frames, **moves), videos(**OTHERS, frames=frames, **moves)
    found, sheets = [], {}
    for model, name, how in chosen:
        part, images = rows(model, methods, seen[name], others[name], digit, how)
        where = {"video": name, "reference": how.reference, "cache": how.interval}
        found += [{**where, **row} for row in part]
        title = ", ".join((model.name, name, f"along {how.reference}", f"cache {how.interval}"))
        sheets[title] = {"frames": seen[name][: len(images["dense"])], **images}
    if by == "frame":
        found = [
            {
                **{key: row[key] for key in ("video", "reference", "cache", "method", "network")},
                "image": n,
                "psnr": value,
            }
            for row in found
            for n, value in enumerate(row["psnr"])
        ]
    hidden = () if as_json or by == "frame" else ("psnr", *(("network",) if len(models) == 1 else ()))
    shown = [{key: value for key, value in row.items() if key not in hidden} for row in found]
    title = (
        f"{frames} frames at {len(levels)} levels; PSNR in dB against the dense stream, bits of an element, Mbit a call"
    )
    console.show(shown, title=title, as_json=as_json)
    if plot is not None:
        draw(sheets, plot)
        click.echo(f"Picture: {plot}", err=as_json)


def draw(sheets: Mapping[str, Mapping[str, np.ndarray]], path: Path) -> None:
    """Save images in rows, frame beside frame, a panel for each stream."""
    lines = [len(sheet) for sheet in sheets.values()]
    columns = max(len(images) for sheet in sheets.values() for images in sheet.values())
    size = (max(5, 0.55 * columns + 2), 0.6 * sum(lines) + 0.6 * len(lines))
    with drawing.figure(path, len(lines), 1, figsize=size, height_ratios=lines) as (_, axes):
        for panel, (title, sheet) in zip(axes[:, 0], sheets.items(), strict=True):
            picture = grid(np.concatenate(list(sheet.values())), len(sheet["dense"]))
            height = len(picture) / len(sheet)
            drawing.images(panel, picture)
            panel.set_title(title, fontsize="small")
            panel.set_yticks([height * (row + 0.5) for row in range(len(sheet))], list(sheet), fontsize="small")
