"""DeepCache and StreamDiffusion under a method: what their deltas cost, and how far their images are off.

``golden stream``, and ``--cache`` of the other commands, print what is here.
"""

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from golden.diffusion.differential.exact import check_exact
from golden.diffusion.differential.measure import Measure
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import Calibration, Profile
from golden.diffusion.differential.run import Run, executor, walk
from golden.diffusion.networks.graph import Executor, Network, dense
from golden.diffusion.sampling import Conditioning, Given, Process, Sampler, Step, condition, noise, sample
from golden.diffusion.sampling.conditioning import needed
from golden.diffusion.sampling.deepcache import CachedDenoiser, check_cached, uniform
from golden.diffusion.sampling.streaming import Stream
from golden.diffusion.zoo.quality import psnr

__all__ = [
    "TIMESTEPS",
    "Figures",
    "cached",
    "cached_denoiser",
    "cached_run",
    "calibrate_cached",
    "calibrate_stream",
    "pushed",
    "stream",
    "streamed",
]

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
    images: np.ndarray, expected: np.ndarray, measure: Measure, how: Method, steps: Iterable[int] | None = None
) -> Figures:
    steps = None if steps is None else set(steps)
    sent, given = measure.total(measure.inputs, steps), measure.total(measure.outputs, steps)
    written = given.joint if how.flow == "closed_loop" else given.bits
    return Figures(
        images=images,
        psnr=psnr(images, expected),
        input_bits=sent.bits / max(sent.elements, 1),
        output_bits=written / max(given.elements, 1),
        megabits=(sent.bits + written) / max(len(images if steps is None else steps), 1) / 1e6,  # a call is an image
    )


def stream(
    network: Network, label: int, timesteps: Sequence[int] = TIMESTEPS, *, executor: Executor = dense, **options: object
) -> Stream:
    """A new stream; a similarity filter among its options is copied, so that two streams draw the same."""
    return Stream(network, label, timesteps, executor=executor, **copy.deepcopy(options))


def pushed(stream: Stream, video: np.ndarray) -> np.ndarray:
    """Images that a stream gives for the frames of a video, once it is full; float32 (images, channels, side, side).

    Raises
    ------
    ValueError
        If it never is: too few frames, or too many of them left out.
    """
    found = [image for image in map(stream.push, video) if image is not None]
    if not found:
        raise ValueError(f"Frames that are not left out must fill the slots of the stream, not be {stream.calls}")
    return np.stack(found)


def calibrate_stream(
    network: Network, video: np.ndarray, label: int, timesteps: Sequence[int] = TIMESTEPS, **options: object
) -> Profile:
    """Profile of a stream, with deviations for every item.

    Parameters
    ----------
    network, label, timesteps, options
        As for `Stream`; `reference` says which deltas the static exponents are for. A similarity filter is left out.
    video : float (frames, channels, side, side)
        Other frames than those that will be compared: more than the stream has items.
    """
    calibration = Calibration(network, stream=True)
    options = {name: value for name, value in options.items() if name != "similarity"}
    pushed(stream(network, label, timesteps, executor=calibration, **options), video)
    return calibration.profile(len(timesteps))


def streamed(
    network: Network,
    how: Method,
    video: np.ndarray,
    label: int,
    profile: Profile,
    timesteps: Sequence[int] = TIMESTEPS,
    **options: object,
) -> Figures:
    """Figures of a video under a method, against the dense stream; bits without the calls that fill it.

    Parameters
    ----------
    network, label, timesteps, options
        As for `Stream`.
    how : Method
        Any but dense.
    video : float (frames, channels, side, side)
        Frames.
    profile : Profile
        See `calibrate_stream`.
    """
    measure = Measure(how.machine)
    differential = executor(network, how, profile, measure=measure)
    own = stream(network, label, timesteps, executor=differential, **options)
    images = pushed(own, video)
    expected = pushed(stream(network, label, timesteps, **options), video)
    return _figures(images, expected, measure, how, range(own.items, own.calls))


@functools.lru_cache(maxsize=32)
def _cached_profile(
    network: Network,
    steps: int,
    seed: int,
    given: Conditioning,
    cached: tuple[int, ...],
    branch: int | str,
    sampler: Process,
    guidance: float | None,
) -> Profile:
    calibration = Calibration(network)
    options = {"cached": cached, "branch": branch, "guidance": guidance}
    denoiser = CachedDenoiser(network, given, executor=calibration, **options)
    for _ in sampler.run(denoiser, noise(network, seed, given.count), steps, seed=seed):
        pass
    return calibration.profile(steps)


def calibrate_cached(
    network: Network,
    steps: int,
    interval: int = 3,
    *,
    cached: Iterable[int] | None = None,
    branch: int | str = 0,
    images: int = 4,
    seed: int = 1_000_003,
    given: Given | None = None,
    sampler: Process | None = None,
    guidance: float | None = None,
) -> Profile:
    """Profile of a sampling with DeepCache: exponents for the deltas that its deep layers really see. Kept.

    Parameters
    ----------
    network, steps, interval, cached, branch, sampler, guidance
        As for `golden.diffusion.sampling.deepcache.sample`.
    images, seed, given
        As for `golden.diffusion.differential.profile.calibrate`.
    """
    if needed(network) == ("label",):
        given = np.arange(images) % network.config["classes"]
    given = condition(network, images if given is None else given)[:images]
    cached = uniform(steps, interval) if cached is None else check_cached(cached, steps)
    return _cached_profile(network, steps, seed, given, cached, branch, sampler or Sampler(), guidance)


def cached_denoiser(
    network: Network,
    how: Method,
    given: Given,
    steps: int,
    *,
    cached: Iterable[int],
    branch: int | str = 0,
    sampler: Process | None = None,
    guidance: float | None = None,
    exact: bool = False,
    measure: Measure | None = None,
) -> CachedDenoiser:
    """Denoiser with DeepCache under a method, calibrated with the same cache steps.

    Parameters
    ----------
    network, given, steps, cached, branch, sampler, guidance
        As for `golden.diffusion.sampling.deepcache.sample`.
    how : Method
        Any.
    exact, measure
        As for `golden.diffusion.differential.run`.
    """
    profile, options = None, {"cached": cached, "branch": branch, "guidance": guidance}
    if how.flow != "dense":
        profile = calibrate_cached(network, steps, given=given, sampler=sampler, **options)
    differential = executor(network, how, profile, exact=exact, measure=measure)
    return CachedDenoiser(network, given, executor=differential, **options)


def cached_run(
    network: Network,
    how: Method,
    given: Given,
    steps: int,
    *,
    cached: Iterable[int],
    branch: int | str = 0,
    seed: int = 0,
    sampler: Process | None = None,
    guidance: float | None = None,
    measured: bool = False,
    exact: bool = False,
    track: Callable[[Iterable[Step]], Iterable[Step]] = iter,
) -> Run:
    """A whole sampling with DeepCache, as `golden.diffusion.differential.run.run` does it without.

    Parameters
    ----------
    cached, branch
        As for `golden.diffusion.sampling.deepcache.sample`.
    network, how, given, steps, seed, sampler, guidance, measured, exact, track
        As for `golden.diffusion.differential.run.run`.
    """
    if exact:
        check_exact(how)
    sampler = sampler or Sampler()
    measure = Measure(how.machine) if measured and how.flow != "dense" else None
    options = {"cached": check_cached(cached, steps), "branch": branch, "sampler": sampler, "guidance": guidance}
    denoiser = cached_denoiser(network, how, given, steps, exact=exact, measure=measure, **options)
    return walk(denoiser, sampler, steps, seed, measure, track)


def cached(
    network: Network,
    how: Method,
    labels: Sequence[int],
    steps: int,
    interval: int,
    *,
    branch: int | str = 0,
    seed: int = 0,
) -> Figures:
    """Figures of DeepCache with uniform cache steps under a method, against the full dense sampling."""
    options = {"cached": uniform(steps, interval), "branch": branch, "seed": seed, "measured": True}
    found = cached_run(network, how, labels, steps, **options)
    return _figures(found.images, sample(network, labels, steps, seed), found.measure, how)
