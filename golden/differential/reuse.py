"""DeepCache and StreamDiffusion under a configuration: what their deltas cost, and how far their images are off.

``python -m golden.differential.reuse`` prints the tables of ``docs/sampling.md``.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from golden import zoo
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
    psnr : float64 (images,)
        Against the reference, in dB.
    input_bits, output_bits : float
        On the link, for each element that a product reads, and for each that it writes.
    megabits : float
        On the link, altogether, for each image.
    """

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
        psnr=psnr(images, expected),
        input_bits=sent.bits / max(sent.elements, 1),
        output_bits=written / max(given.elements, 1),
        megabits=(sent.bits + written) / len(images) / 1e6,
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
    network: Network, steps: int, interval: int, *, branch: int | str = 0, images: int = 10, seed: int = 1_000_003
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


def _videos(digit: int, frames: int) -> dict[str, np.ndarray]:
    return {
        "1/8 pixel a frame": digit_video(digit, frames, shift=(0.0, 0.125)),
        "2 degrees a frame": digit_video(digit, frames, rotation=2.0),
        "becomes another": blend_video(digit, digit + 2, frames),
    }


def _print_streams(names: Sequence[str], frames: int = 20) -> None:
    network = zoo.load("unet")
    print("| video | method | reference | bits in | bits out | PSNR mean | least |")
    print("|---|---|---|---|---|---|---|")
    other = _videos(6, frames)
    for title, video in _videos(3, frames).items():
        for name in names:
            for reference in ("frames", "timesteps", "measured"):
                profile = calibrate_stream(network, other[title], 6, reference=reference)
                found = streamed(network, configuration(name), video, 3, profile, reference=reference)
                row = f"{found.input_bits:.2f} | {found.output_bits:.2f}"
                row += f" | {found.psnr.mean():.1f} dB | {found.psnr.min():.1f} dB"
                print(f"| {title} | {name} | {reference} | {row} |", flush=True)


def _print_caches(names: Sequence[str], steps: int = 50, images: int = 10) -> None:
    network = zoo.load("unet")
    labels = np.arange(images)
    full = sample(network, labels, steps, 0)
    print("| N | multiplications | method | bits in | bits out | Mbit an image | PSNR mean | least |")
    print("|---|---|---|---|---|---|---|---|")
    for interval in (1, 2, 3, 5):
        share = deepcache.share(network, steps, deepcache.uniform(steps, interval))
        alone = psnr(deepcache.sample(network, labels, steps, 0, interval=interval), full)
        mean = "exact" if interval == 1 else f"{alone.mean():.1f} dB"
        least = "exact" if interval == 1 else f"{alone.min():.1f} dB"
        print(f"| {interval} | {share:.3f} | dense | 32 | 32 | | {mean} | {least} |", flush=True)
        for name in names:
            found = cached(network, configuration(name), labels, steps, interval)
            row = f"{found.input_bits:.2f} | {found.output_bits:.2f} | {found.megabits:.1f}"
            row += f" | {found.psnr.mean():.1f} dB | {found.psnr.min():.1f} dB"
            print(f"| {interval} | {share:.3f} | {name} | {row} |", flush=True)


if __name__ == "__main__":
    _print_streams(("closed-int3", "paper"))
    print()
    _print_caches(("closed-int3", "closed-int4", "paper"))
