"""DeepCache and StreamDiffusion under a configuration: what their deltas cost, and how far their images are off.

``python -m golden.differential.reuse`` prints the tables of ``docs/sampling.md``, or those that are named: ``streams``,
``caches`` and ``both`` (streams whose deep layers are cached).
"""

import dataclasses
import sys
from collections.abc import Iterable, Sequence

import numpy as np

from golden import names, zoo
from golden.differential.configuration import Configuration, configuration
from golden.differential.measure import Measure
from golden.differential.profile import Calibration, Profile
from golden.differential.run import executor
from golden.networks.graph import Network
from golden.sampling import deepcache, sample
from golden.sampling.streaming import Stream
from golden.zoo.moving import blend_video, digit_video
from golden.zoo.quality import psnr

__all__ = ["Figures", "cached", "calibrate_cached", "calibrate_stream", "streamed"]

TIMESTEPS = (400, 300, 200, 100)
"""Noise levels of the stream of the document."""


@dataclasses.dataclass(frozen=True)
class Figures:
    """What one execution gave.

    Members
    -------
    images : float32 (images, channels, side, side)
        What came out.
    psnr : float64 (images,)
        Against the reference, in dB.
    input_bits, output_bits : float
        On the link, for each element that a product reads, and for each that it writes.
    megabits : float
        On the link, altogether, for each image.
    """

    images: np.ndarray
    psnr: np.ndarray
    input_bits: float
    output_bits: float
    megabits: float


def _figures(
    images: np.ndarray, expected: np.ndarray, measure: Measure, how: Configuration, steps: Iterable[int] | None = None
) -> Figures:
    steps = None if steps is None else set(steps)
    sent, given = measure.total(measure.inputs, steps), measure.total(measure.outputs, steps)
    written = given.joint if how.output_form == "joint" and how.flow == "closed_loop" else given.bits
    return Figures(
        images=images,
        psnr=psnr(images, expected),
        input_bits=sent.bits / max(sent.elements, 1),
        output_bits=written / max(given.elements, 1),
        megabits=(sent.bits + written) / len(images if steps is None else steps) / 1e6,  # a call is an image
    )


def _images(stream: Stream, video: np.ndarray) -> np.ndarray:
    found = [stream.push(frame) for frame in video]
    return np.stack([image for image in found if image is not None])


def calibrate_stream(
    network: Network, video: np.ndarray, label: int, timesteps: Sequence[int] = TIMESTEPS, **options: object
) -> Profile:
    """Profile of a stream, with deviations for every item.

    Parameters
    ----------
    network, label, timesteps, options
        As for `Stream`; `reference` says which deltas the static exponents are for.
    video : float (frames, channels, side, side)
        Other frames than those that will be compared.
    """
    calibration = Calibration(network, stream=True)
    _images(Stream(network, label, timesteps, executor=calibration, **options), video)
    return calibration.profile(len(timesteps))


def streamed(
    network: Network,
    how: Configuration,
    video: np.ndarray,
    label: int,
    profile: Profile,
    timesteps: Sequence[int] = TIMESTEPS,
    **options: object,
) -> Figures:
    """Figures of a video under a configuration, against the dense stream; bits without the calls that fill it.

    Parameters
    ----------
    network, label, timesteps, options
        As for `Stream`.
    how : Configuration
        Any but dense.
    video : float (frames, channels, side, side)
        Frames.
    profile : Profile
        See `calibrate_stream`.
    """
    measure = Measure(how.machine)
    stream = Stream(network, label, timesteps, executor=executor(network, how, profile, measure=measure), **options)
    images = _images(stream, video)
    expected = _images(Stream(network, label, timesteps, **options), video)
    return _figures(images, expected, measure, how, range(stream.items, stream.calls))


def calibrate_cached(
    network: Network, steps: int, interval: int, *, branch: int | str = 0, images: int = 4, seed: int = 1_000_003
) -> Profile:
    """Profile of a sampling with DeepCache: exponents for the deltas that its deep layers really see."""
    calibration = Calibration(network)
    labels = np.arange(images) % network.config["classes"]
    options = {"interval": interval, "branch": branch, "batch": images}
    deepcache.sample(network, labels, steps, seed, executor=calibration, **options)
    return calibration.profile(steps)


def cached(
    network: Network,
    how: Configuration,
    labels: Sequence[int],
    steps: int,
    interval: int,
    *,
    branch: int | str = 0,
    seed: int = 0,
) -> Figures:
    """Figures of DeepCache with uniform cache steps under a configuration, against the full dense sampling."""
    measure = Measure(how.machine)
    options = {"interval": interval, "branch": branch, "batch": len(labels)}
    profile = calibrate_cached(network, steps, interval, branch=branch)
    images = deepcache.sample(
        network, labels, steps, seed, executor=executor(network, how, profile, measure=measure), **options
    )
    return _figures(images, sample(network, labels, steps, seed), measure, how)


def _videos(digit: int, other: int, frames: int) -> dict[str, np.ndarray]:
    return {
        "1/8 pixel a frame": digit_video(digit, frames, shift=(0.0, 0.125)),
        "2 degrees a frame": digit_video(digit, frames, rotation=2.0),
        "becomes another digit": blend_video(digit, other, frames),
    }


def _decibels(found: np.ndarray) -> str:
    """Mean and least of the images that are not exact, if there are such."""
    found = found[np.isfinite(found)]
    return f"{found.mean():.1f} ({found.min():.1f})" if len(found) else "exact"


def _print_streams(frames: int = 12) -> None:
    network = zoo.load("unet")
    print("| video | method | deltas along | bits in | bits out | PSNR (least) |")
    print("|---|---|---|---|---|---|")
    methods = {name: configuration(name) for name in ("closed-int3", "paper")}
    others = _videos(5, 3, frames)
    for title, video in _videos(3, 5, frames).items():
        for reference in ("frames", "timesteps", "measured"):
            profile = calibrate_stream(network, others[title], 5, reference=reference)
            for name, how in methods.items():
                found = streamed(network, how, video, 3, profile, reference=reference)
                bits = f"{found.input_bits:.2f} | {found.output_bits:.2f}"
                print(f"| {title} | {name} | {reference} | {bits} | {_decibels(found.psnr)} |", flush=True)


def _print_caches(steps: int = 50, images: int = 4) -> None:
    network = zoo.load("unet")
    labels = np.arange(images)
    full = sample(network, labels, steps, 0)
    print("| N | multiplications | method | bits in | bits out | Mbit an image | PSNR, full (least) | same schedule |")
    print("|---|---|---|---|---|---|---|---|")
    for interval in (1, 2, 3, 5):
        share = f"{deepcache.share(network, steps, deepcache.uniform(steps, interval)):.3f}"
        alone = deepcache.sample(network, labels, steps, 0, interval=interval)
        print(f"| {interval} | {share} | dense | | | | {_decibels(psnr(alone, full))} | exact |", flush=True)
        for name in ("closed-int3", "closed-int4"):
            found = cached(network, configuration(name), labels, steps, interval)
            bits = f"{found.input_bits:.2f} | {found.output_bits:.2f} | {found.megabits:.1f}"
            same = psnr(found.images, alone).mean()
            print(f"| {interval} | {share} | {name} | {bits} | {_decibels(found.psnr)} | {same:.1f} |", flush=True)


def _print_both(frames: int = 16) -> None:
    network = zoo.load("unet")
    print("| video | N | method | bits in | bits out | Mbit an image | PSNR, whole stream (least) | same schedule |")
    print("|---|---|---|---|---|---|---|---|")
    others = _videos(5, 3, frames)
    for title, video in _videos(3, 5, frames).items():
        whole = _images(Stream(network, 3, TIMESTEPS), video)
        for interval in (1, 2, 3):
            alone = _images(Stream(network, 3, TIMESTEPS, interval=interval), video)
            print(f"| {title} | {interval} | dense | | | | {_decibels(psnr(alone, whole))} | exact |", flush=True)
            profile = calibrate_stream(network, others[title], 5, interval=interval)
            for name in ("closed-int3", "closed-int4"):
                found = streamed(network, configuration(name), video, 3, profile, interval=interval)
                bits = f"{found.input_bits:.2f} | {found.output_bits:.2f} | {found.megabits:.2f}"
                full = _decibels(psnr(found.images, whole))
                print(f"| {title} | {interval} | {name} | {bits} | {full} | {found.psnr.mean():.1f} |", flush=True)


TABLES = {"streams": _print_streams, "caches": _print_caches, "both": _print_both}
"""What prints each table, by the name that asks for it."""

if __name__ == "__main__":
    for asked in sys.argv[1:] or TABLES:
        names.lookup("Table", asked, TABLES)()
        print()
