"""StreamDiffusion under a method: what its deltas cost, and how far its images are off.

``golden stream`` prints what is here.
"""

import copy
import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from golden.diffusion.differential.measure import Measure
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import Calibration, Profile
from golden.diffusion.differential.run import executor
from golden.diffusion.networks.graph import Executor, Network, dense
from golden.diffusion.sampling.streaming import Stream
from golden.diffusion.zoo.quality import psnr

__all__ = [
    "TIMESTEPS",
    "Figures",
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
