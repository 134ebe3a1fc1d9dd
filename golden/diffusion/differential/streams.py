"""StreamDiffusion under a method: its images, and what its deltas cost.

``golden stream`` prints what is here.
"""

import dataclasses

import numpy as np

from golden.diffusion.differential.measure import Measure
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import Calibration, Profile
from golden.diffusion.differential.run import executor
from golden.diffusion.networks.graph import Network
from golden.diffusion.sampling.streaming import Stream, Streaming

ROOM = 1.5
"""Largest magnitudes over those calibrated: another video has larger ones, and what is sent holds less than twice them
(numerics, 12.8 and 12.17)."""


@dataclasses.dataclass(frozen=True)
class Figures:
    """What one execution gave.

    Members
    -------
    images : float32 (images, channels, side, side)
        What came out.
    input_bits, output_bits : float
        On the link, for each element that a product reads, and for each that it writes.
    megabits : float
        On the link, altogether, for each image.
    """

    images: np.ndarray
    input_bits: float
    output_bits: float
    megabits: float


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


def calibrate_stream(network: Network, video: np.ndarray, label: int, how: Streaming) -> Profile:
    """Profile of a stream, with deviations for every item, and room for larger values than this video has.

    Parameters
    ----------
    network, label, how
        As for `Stream`; `reference` says which deltas the static exponents are for. No frame is left out.
    video : float (frames, channels, side, side)
        Other frames than those that will be compared: more than the stream has items.
    """
    calibration = Calibration(network, stream=True)
    pushed(Stream(network, label, dataclasses.replace(how, similarity=None), executor=calibration), video)
    found = calibration.profile(len(how.timesteps))
    return dataclasses.replace(found, largest={name: ROOM * value for name, value in found.largest.items()})


def streamed(
    network: Network, method: Method, video: np.ndarray, label: int, how: Streaming, profile: Profile
) -> Figures:
    """Figures of a video under a method; bits without the calls that fill the stream.

    Parameters
    ----------
    network, label, how
        As for `Stream`.
    method : Method
        Any but dense.
    video : float (frames, channels, side, side)
        Frames.
    profile : Profile
        See `calibrate_stream`.
    """
    measure = Measure(method.machine)
    own = Stream(network, label, how, executor=executor(network, method, profile, measure=measure))
    images, calls = pushed(own, video), range(own.items, own.calls)
    sent, given = measure.total(measure.inputs, calls), measure.total(measure.outputs, calls)
    written = given.joint if method.flow == "closed_loop" else given.bits
    return Figures(
        images=images,
        input_bits=sent.bits / max(sent.elements, 1),
        output_bits=written / max(given.elements, 1),
        megabits=(sent.bits + written) / max(len(calls), 1) / 1e6,  # a call is an image
    )
