"""Samplers from noise to image or video: DDIM, DDPM and rectified flow, with or without guidance."""

import abc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from golden.common.checked import Checked, Count, Positive, Share, check
from golden.diffusion.networks.graph import Combine, Network, binary32
from golden.diffusion.sampling.schedule import Schedule


@dataclass(frozen=True)
class Step:
    """One step of a sampling, after it was done.

    Members
    -------
    index : int
        Execution order, from 0.
    timestep : int or float
        Noise level given to the network.
    image : float32 (batch, channels, ...)
        The sample after the step; an image is about -1 to 1 at the end.
    """

    index: int
    timestep: float
    image: np.ndarray


def _noise(shape: tuple[int, ...], *seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def fresh_noise(shape: tuple[int, ...], seed: int, image: int, step: int) -> np.ndarray:
    """Noise of unit variance that a step adds to an image, the same in any batch."""
    # 1 + step: a seed that ends in 0 is the seed without it, which is that of the starting noise
    return _noise(shape, seed, image, 1 + step)


def noise(network: Network, seed: int, count: int) -> np.ndarray:
    """Starting noise of `count` images or videos, float32; item i is the same whatever the count."""
    shape = next(iter(network.inputs.values()))
    images = [_noise(shape, seed, index) for index in range(count)]
    return np.stack(images) if images else np.empty((0, *shape), np.float32)


def check_output(network: Network) -> int:
    """Channels of the sample, if the output is a prediction for it.

    Raises
    ------
    ValueError
        If the output has another shape than the sample, or than one of twice its channels.
    """
    sample, *_ = network.inputs.values()
    output = network.shapes()[network.layers[-1].name][1:]
    if output not in (sample, (2 * sample[0], *sample[1:])):
        raise ValueError(f"Output of {network.name!r} must have the shape {sample} or twice the channels, not {output}")
    return sample[0]


class Process(abc.ABC):
    """What leads from noise to a sample, step by step.

    Members
    -------
    eta : float
        Above 0 if steps add fresh noise.
    clip : bool
        Whether samples end between -1 and 1.
    """

    eta: float = 0.0
    clip: bool = False
    noise_scale: ClassVar[float] = 1.0

    @abc.abstractmethod
    def plan(self, steps: int) -> Iterable[tuple[float, float, float]]:
        """Of each step the timestep, and the noise level there and after it, in the process's own measure."""

    @abc.abstractmethod
    def update(
        self,
        image: np.ndarray,
        predicted: np.ndarray,
        here: float,
        there: float,
        fresh: np.ndarray | None = None,
        variance: np.ndarray | None = None,
        *,
        combine: Combine = binary32,
    ) -> np.ndarray:
        """Sample at the next noise level, in sums of values times factors (numerics, 12.22).

        Parameters
        ----------
        image, predicted : float32 (batch, channels, ...)
            Sample at this level and what the network says of it.
        here, there : float
            This level and the next, see `plan`.
        fresh : float32 (batch, channels, ...)
            Noise of unit variance to add, needed if eta is not 0.
        variance : float32 (batch, channels, ...)
            What the network says of the variance, if it does.
        combine : callable
            Makes the sums.

        Raises
        ------
        ValueError
            If the variance is learned and the network says nothing of it.
        """

    def run(
        self,
        denoiser: Callable[[np.ndarray, float, int, int], np.ndarray],
        start: np.ndarray,
        steps: int,
        *,
        seed: int = 0,
        first: int = 0,
        combine: Combine = binary32,
    ) -> Iterator[Step]:
        """Sample.

        Parameters
        ----------
        denoiser : callable
            Predicts, called as ``denoiser(image, timestep, index, steps)``, see `golden.diffusion.sampling.Denoiser`.
        start : float32 (batch, channels, ...)
            Noise of unit variance to start from, see `noise`.
        steps : int
            Number of steps.
        seed, first : int
            Seed of the noise that is added, and number of the first image: image i gets the same noise in any batch.
        combine : callable
            Makes the sums of each step.

        Yields
        ------
        Step
            One for each step.

        Raises
        ------
        ValueError
            At the first step, if `steps` is out of range.
        """
        x = np.asarray(start, np.float32) * np.float32(self.noise_scale)
        channels = x.shape[1]
        for index, (timestep, here, there) in enumerate(self.plan(steps)):
            predicted = denoiser(x, timestep, index, steps)
            variance = predicted[:, channels:] if predicted.shape[1] > channels else None
            fresh = None
            if self.eta:
                fresh = np.stack([fresh_noise(x.shape[1:], seed, first + item, index) for item in range(len(x))])
            x = self.update(x, predicted[:, :channels], here, there, fresh, variance, combine=combine)
            yield Step(index, timestep, x)


@dataclass(frozen=True)
class Sampler(Checked, Process, label="Sampler {}"):
    """Denoises step by step, with as much fresh noise in every step as `eta` says.

    Song et al., *Denoising diffusion implicit models* (2021), equation 12. With ``eta=0`` nothing is added. With
    ``eta=1`` it is the ancestral sampling of Ho et al., *Denoising diffusion probabilistic models* (2020). The noise in
    the image is always what the predicted (and clipped) image leaves. A level is the share of the variance that is
    signal.

    Parameters
    ----------
    schedule : Schedule
        Noise levels; the default is what the zoo was trained on.
    eta : float
        0 to 1, see above.
    clip : bool
        Clip the predicted image to -1..1 in every step, as usual for pixels; latents are not clipped.
    prediction : str
        What the network predicts: ``"noise"`` n, ``"image"`` x0, or ``"velocity"``, which is
        ``sqrt(signal) n - sqrt(1 - signal) x0`` (Salimans and Ho, *Progressive distillation for fast sampling of
        diffusion models*, 2022).
    variance : str
        Of the fresh noise: ``"small"`` or ``"large"``, the two fixed ones of Ho et al., or ``"learned"``, for each
        pixel between these two, in the logarithm, as the network says from -1 to 1 (Nichol and Dhariwal, *Improved
        denoising diffusion probabilistic models*, 2021). The last two need ``eta=1``. What a network says of its
        variance is left out of account otherwise. A step that leads to the clean image adds no noise.
    noise_scale : float
        Deviation of the noise that a sampling starts from.
    """

    schedule: Schedule = Schedule()
    eta: Share = 0.0
    clip: bool = True
    prediction: Literal["noise", "velocity", "image"] = "noise"
    variance: Literal["small", "large", "learned"] = "small"
    noise_scale: Positive = 1.0

    def check_together(self) -> None:
        """Other variances than the small one are those of DDPM."""
        if self.variance != "small" and self.eta != 1:
            raise ValueError(f"Sampler variance must be small with eta {self.eta!r}, not {self.variance!r}")

    def plan(self, steps: int) -> Iterable[tuple[int, float, float]]:
        """As the schedule says."""
        return zip(self.schedule.spaced(steps).tolist(), *self.schedule.levels(steps), strict=True)

    def update(
        self,
        image: np.ndarray,
        predicted: np.ndarray,
        here: float,
        there: float,
        fresh: np.ndarray | None = None,
        variance: np.ndarray | None = None,
        *,
        combine: Combine = binary32,
    ) -> np.ndarray:
        """One sum, and one more before it where the predicted image is clipped."""
        signal, rest = here**0.5, (1 - here) ** 0.5
        large = 1 - here / there
        small = (1 - there) / (1 - here) * large
        kept = max(1 - there - self.eta**2 * small, 0) ** 0.5 / rest  # of what is noise in the image
        of_image, of_prediction = {
            "noise": (1 / signal, -rest / signal),
            "velocity": (signal, -rest),
            "image": (0.0, 1.0),
        }[self.prediction]
        of_clean = there**0.5 - kept * signal
        terms = {"image": (image, kept + of_clean * of_image), "prediction": (predicted, of_clean * of_prediction)}
        if self.clip:
            clean = {"image": (image, of_image), "prediction": (predicted, of_prediction)}
            terms = {"image": (image, kept), "clean": (combine(clean, "clean"), of_clean)}
        if fresh is not None and small:
            deviation = self._deviation(small, large, variance, fresh.shape[1])
            terms["fresh"] = (fresh, deviation) if np.ndim(deviation) == 0 else (deviation * fresh, 1.0)
        return combine(terms, "image")

    def _deviation(self, small: float, large: float, variance: np.ndarray | None, channels: int) -> np.ndarray:
        """Of the fresh noise."""
        if self.variance != "learned":
            return np.float32(self.eta * (small if self.variance == "small" else large) ** 0.5)
        if variance is None:
            raise ValueError(f"Prediction must have {2 * channels} channels with a learned variance, not half")
        share = (variance + 1) / 2
        return np.exp((share * np.float32(np.log(large)) + (1 - share) * np.float32(np.log(small))) / 2)


@dataclass(frozen=True)
class RectifiedFlow(Checked, Process, label="Flow {}"):
    """Follows the straight lines between noise and sample (Liu et al., *Flow straight and fast*, 2023), by Euler.

    A level s is the share of noise: the sample is ``(1 - s) x0 + s n``. Open-Sora 1.2 and Stable Diffusion 3 are
    trained so.

    Parameters
    ----------
    timesteps : int
        Timestep of pure noise; timesteps are not rounded.
    shift : float
        Levels s, evenly spaced from 1, become ``shift s / (1 + (shift - 1) s)``: above 1 more steps at much noise, as
        large videos need (Open-Sora derives it from their size, Stable Diffusion 3 fixes 3).
    prediction : str
        ``"image"`` if the network predicts ``x0 - n`` (Open-Sora), ``"noise"`` if ``n - x0`` (diffusers).
    """

    timesteps: Count = 1000
    shift: Positive = 1.0
    prediction: Literal["image", "noise"] = "image"

    def plan(self, steps: int) -> Iterable[tuple[float, float, float]]:
        """Levels evenly spaced before they are shifted, down to the clean sample."""
        check("Steps", steps, Count)
        levels = np.linspace(1, 0, steps + 1)
        levels = self.shift * levels / (1 + (self.shift - 1) * levels)
        return zip((levels[:-1] * self.timesteps).tolist(), levels[:-1].tolist(), levels[1:].tolist(), strict=True)

    def update(
        self,
        image: np.ndarray,
        predicted: np.ndarray,
        here: float,
        there: float,
        fresh: np.ndarray | None = None,
        variance: np.ndarray | None = None,
        *,
        combine: Combine = binary32,
    ) -> np.ndarray:
        """One sum; nothing is made of a variance."""
        distance = here - there if self.prediction == "image" else there - here
        return combine({"image": (image, 1.0), "prediction": (predicted, distance)}, "image")
