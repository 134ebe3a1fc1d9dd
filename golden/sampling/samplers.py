"""Samplers from noise to image: DDIM and DDPM, with or without guidance."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from golden import names
from golden.networks.graph import Executor, Network, begin_step, dense
from golden.sampling.guidance import doubled, guided, null_label
from golden.sampling.schedule import Schedule


@dataclass(frozen=True)
class Step:
    """One step of a sampling, after it was done.

    Members
    -------
    index : int
        Execution order, from 0.
    timestep : int
        Noise level given to the network.
    image : float32 (batch, channels, side, side)
        The sample after the step, about -1 to 1 at the end.
    """

    index: int
    timestep: int
    image: np.ndarray


def _noise(shape: tuple[int, ...], *seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def noise(network: Network, seed: int, count: int) -> np.ndarray:
    """Starting noise of `count` images, float32; image i is the same whatever the count."""
    shape = next(iter(network.inputs.values()))
    images = [_noise(shape, seed, index) for index in range(count)]
    return np.stack(images) if images else np.empty((0, *shape), np.float32)


def check_labels(network: Network, labels: Sequence[int] | np.ndarray) -> np.ndarray:
    """Labels as an array.

    Raises
    ------
    ValueError
        If the network takes no labels, or one of them is not one of its classes (or its null label, if it has one).
    """
    last = network.config.get("classes", 0) - (0 if network.config.get("null_label") else 1)
    labels = np.asarray(labels)
    if tuple(network.inputs) != ("image", "timestep", "label"):
        raise ValueError(f"Network must take image, timestep and label to be sampled, not {', '.join(network.inputs)}")
    if labels.size and not (labels.dtype.kind in "iu" and 0 <= labels.min() and labels.max() <= last):
        wrong = next((label for label in labels.tolist() if label not in range(last + 1)), labels.dtype)
        raise ValueError(f"Labels must be integers from 0 to {last}, not {wrong}")
    return labels


class Denoiser:
    """What predicts in each step of a sampling: a network, its labels and its executor.

    Parameters
    ----------
    network : Network
        Takes image, timestep and label, and predicts the noise (or the velocity, see `Sampler`).
    labels : integers (batch,)
        Class of each image.
    guidance : float, optional
        Scale of classifier-free guidance, see `golden.sampling.guidance`; without it the network is called once for
        each image.
    executor : Executor
        Evaluates the layers.

    Raises
    ------
    ValueError
        If the network cannot be sampled or guided, or a label is out of range.
    """

    def __init__(
        self,
        network: Network,
        labels: Sequence[int] | np.ndarray,
        *,
        guidance: float | None = None,
        executor: Executor = dense,
    ):
        self.network = network
        self.labels = check_labels(network, labels)
        self.guidance = guidance
        self.executor = executor
        if guidance is not None:
            null_label(network)

    def __call__(self, image: np.ndarray, timestep: int, index: int, steps: int) -> np.ndarray:
        """Predict for the images of step `index` of `steps`, all at one timestep."""
        labels = self.labels
        if self.guidance is not None:
            image, labels = doubled(self.network, image, labels)
        begin_step(self.executor, index, steps)
        predicted = self.evaluate(index, image, np.full(len(image), timestep), labels)
        return predicted if self.guidance is None else guided(predicted, self.guidance)

    def evaluate(self, index: int, *inputs: np.ndarray) -> np.ndarray:
        """Call the network in step `index`."""
        return self.network(*inputs, executor=self.executor)


@dataclass(frozen=True)
class Sampler:
    """Denoises step by step, with as much fresh noise in every step as `eta` says.

    Song et al., *Denoising diffusion implicit models* (2021), equation 12. With ``eta=0`` nothing is added. With
    ``eta=1`` it is the ancestral sampling of Ho et al., *Denoising diffusion probabilistic models* (2020), with the
    smaller of its two fixed variances. The noise in the image is always what the predicted (and clipped) image leaves.

    Parameters
    ----------
    schedule : Schedule
        Noise levels; the default is what the zoo was trained on.
    eta : float
        0 to 1, see above.
    clip : bool
        Clip the predicted image to -1..1 in every step, as usual for pixels.
    prediction : str
        What the network predicts: ``"noise"`` n, or ``"velocity"``, which is ``sqrt(signal) n - sqrt(1 - signal) x0``
        (Salimans and Ho, *Progressive distillation for fast sampling of diffusion models*, 2022).
    """

    schedule: Schedule = Schedule()
    eta: float = 0.0
    clip: bool = True
    prediction: str = "noise"

    def __post_init__(self) -> None:
        """Check the rules above."""
        if not 0 <= self.eta <= 1:
            raise ValueError(f"Sampler eta must be from 0 to 1, not {self.eta!r}")
        names.lookup("Sampler prediction", self.prediction, dict.fromkeys(("noise", "velocity")))

    def update(
        self, image: np.ndarray, predicted: np.ndarray, here: float, there: float, fresh: np.ndarray | None = None
    ) -> np.ndarray:
        """Image at the next noise level.

        Parameters
        ----------
        image, predicted : float32 (batch, channels, side, side)
            Image at this level and what the network says of it.
        here, there : float
            Signal at this level and at the next.
        fresh : float32 (batch, channels, side, side)
            Noise of unit variance to add, needed if eta is not 0.
        """
        signal, rest = np.float32(here**0.5), np.float32((1 - here) ** 0.5)
        clean = (image - rest * predicted) / signal if self.prediction == "noise" else signal * image - rest * predicted
        if self.clip:
            clean = np.clip(clean, -1, 1)
        left = (image - signal * clean) / rest
        variance = self.eta**2 * (1 - there) / (1 - here) * (1 - here / there)
        image = np.float32(there**0.5) * clean + np.float32((1 - there - variance) ** 0.5) * left
        return image if fresh is None else image + np.float32(variance**0.5) * fresh

    def run(
        self,
        denoiser: Callable[[np.ndarray, int, int, int], np.ndarray],
        start: np.ndarray,
        steps: int,
        *,
        seed: int = 0,
        first: int = 0,
    ) -> Iterator[Step]:
        """Sample.

        Parameters
        ----------
        denoiser : callable
            Predicts, called as ``denoiser(image, timestep, index, steps)``, see `Denoiser`.
        start : float32 (batch, channels, side, side)
            Noise to start from, see `noise`.
        steps : int
            Number of steps.
        seed, first : int
            Seed of the noise that is added, and number of the first image: image i gets the same noise in any batch.

        Yields
        ------
        Step
            One for each step.

        Raises
        ------
        ValueError
            At the first step, if `steps` is out of range.
        """
        timesteps = self.schedule.spaced(steps)
        x = np.asarray(start, np.float32)
        for index, (timestep, here, there) in enumerate(zip(timesteps, *self.schedule.levels(steps), strict=True)):
            predicted = denoiser(x, int(timestep), index, steps)
            fresh = None
            if self.eta:
                # 1 + index: a seed that ends in 0 is the seed without it, which is that of the starting noise
                fresh = np.stack([_noise(x.shape[1:], seed, first + item, 1 + index) for item in range(len(x))])
            x = self.update(x, predicted, here, there, fresh)
            yield Step(index, int(timestep), x)


def ddim(
    network: Network,
    start: np.ndarray,
    labels: Sequence[int] | np.ndarray,
    steps: int,
    *,
    schedule: Schedule | None = None,
    executor: Executor = dense,
) -> Iterator[Step]:
    """Denoise step by step without added noise or guidance: `Sampler` and `Denoiser` with their defaults.

    Parameters
    ----------
    network, labels, executor
        As for `Denoiser`.
    start, steps
        As for `Sampler.run`.
    schedule : Schedule
        Noise levels; the default is what the zoo was trained on.

    Yields
    ------
    Step
        One for each step.

    Raises
    ------
    ValueError
        At the first step, if the network does not predict noise, or labels or steps are out of range.
    """
    sampler = Sampler(schedule or Schedule())
    yield from sampler.run(Denoiser(network, labels, executor=executor), start, steps)


def sample(
    network: Network,
    labels: Sequence[int] | np.ndarray,
    steps: int,
    seed: int = 0,
    batch: int = 25,
    track: Callable[[Iterable[Step]], Iterable[Step]] = iter,
    *,
    sampler: Sampler | None = None,
    guidance: float | None = None,
    executor: Executor = dense,
    denoiser: Callable[..., Denoiser] = Denoiser,
) -> np.ndarray:
    """Sample an image for each label.

    Parameters
    ----------
    network, labels, guidance, executor
        As for `Denoiser`.
    steps : int
        Number of steps.
    seed : int
        Seed of all noise.
    batch : int
        Images evaluated together; each takes about 1 MB while it is.
    track : callable
        Wraps the iteration over the steps of all batches, to show progress.
    sampler : Sampler
        Steps from noise level to noise level; the default is DDIM.
    denoiser : callable
        Makes what predicts for one batch, with the arguments of `Denoiser`.

    Returns
    -------
    float32 (len(labels), channels, side, side)
        Images in -1..1.
    """
    sampler = sampler or Sampler()
    labels = np.asarray(labels)
    start = noise(network, seed, len(labels))
    images = np.empty_like(start)

    def run() -> Iterator[Step]:
        for first in range(0, len(labels), batch):
            part = slice(first, first + batch)
            predicts = denoiser(network, labels[part], guidance=guidance, executor=executor)
            for step in sampler.run(predicts, start[part], steps, seed=seed, first=first):
                images[part] = step.image
                yield step

    for _ in track(run()):
        pass
    return images
