"""Noise schedule and the deterministic DDIM sampler, in numpy."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from golden.networks.graph import Executor, Network, begin_step, dense


@dataclass(frozen=True)
class Schedule:
    """Cosine noise schedule of Nichol and Dhariwal, *Improved denoising diffusion probabilistic models* (2021).

    Parameters
    ----------
    timesteps : int
        Number of noise levels the network was trained on; timestep 0 is the cleanest.
    """

    timesteps: int = 1000

    def __post_init__(self) -> None:
        """Check the rule above."""
        if not isinstance(self.timesteps, int) or self.timesteps < 2:
            raise ValueError(f"Schedule timesteps must be an integer of at least 2, not {self.timesteps!r}")

    @property
    def signal(self) -> np.ndarray:
        """Share of the variance that is signal at each timestep, float64 ``(timesteps,)``, strictly falling.

        An image x0 with noise n is ``sqrt(signal) x0 + sqrt(1 - signal) n``.
        """
        edges = np.cos((np.arange(self.timesteps + 1) / self.timesteps + 0.008) / 1.008 * np.pi / 2) ** 2
        # 0.999: the published clip of beta, which keeps the last level above zero
        return np.cumprod(1 - np.minimum(1 - edges[1:] / edges[:-1], 0.999))

    def spaced(self, steps: int) -> np.ndarray:
        """Timesteps that a sampling of so many steps visits: evenly spaced, falling, the last one 0.

        Raises
        ------
        ValueError
            If `steps` is not between 1 and `timesteps`.
        """
        if not isinstance(steps, int | np.integer) or not 1 <= steps <= self.timesteps:
            raise ValueError(f"Steps must be an integer from 1 to {self.timesteps}, not {steps!r}")
        return (np.arange(steps)[::-1] * self.timesteps // steps).astype(np.int64)


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


def noise(network: Network, seed: int, count: int) -> np.ndarray:
    """Starting noise of `count` images, float32; image i is the same whatever the count."""
    shape = next(iter(network.inputs.values()))
    images = [np.random.default_rng([seed, index]).standard_normal(shape, np.float32) for index in range(count)]
    return np.stack(images) if images else np.empty((0, *shape), np.float32)


def ddim(
    network: Network,
    start: np.ndarray,
    labels: Sequence[int] | np.ndarray,
    steps: int,
    *,
    schedule: Schedule | None = None,
    executor: Executor = dense,
) -> Iterator[Step]:
    """Denoise step by step without added noise (Song et al., *Denoising diffusion implicit models*, 2021, eta = 0).

    The predicted image is clipped to -1..1 in every step, as usual for pixels.

    Parameters
    ----------
    network : Network
        Takes image, timestep and label, and predicts the noise.
    start : float32 (batch, channels, side, side)
        Noise to start from, see `noise`.
    labels : integers (batch,)
        Class of each image.
    steps : int
        Number of evaluations of the network.
    schedule : Schedule
        Noise levels; the default is what the zoo was trained on.
    executor : Executor
        Evaluates the layers.

    Yields
    ------
    Step
        One for each step.

    Raises
    ------
    ValueError
        At the first step, if the network does not predict noise, or labels or steps are out of range.
    """
    schedule = schedule or Schedule()
    timesteps = schedule.spaced(steps)
    signal = schedule.signal
    classes = network.config.get("classes", 0)
    labels = np.asarray(labels)
    if tuple(network.inputs) != ("image", "timestep", "label"):
        raise ValueError(f"Network must take image, timestep and label to be sampled, not {', '.join(network.inputs)}")
    if labels.size and not (labels.dtype.kind in "iu" and 0 <= labels.min() and labels.max() < classes):
        wrong = next((label for label in labels.tolist() if label not in range(classes)), labels.dtype)
        raise ValueError(f"Labels must be integers from 0 to {classes - 1}, not {wrong}")
    x = np.asarray(start, np.float32)
    for index, timestep in enumerate(timesteps):
        begin_step(executor, index, steps)
        predicted = network(x, np.full(len(x), timestep), labels, executor=executor)
        here = signal[timestep]
        there = signal[timesteps[index + 1]] if index + 1 < steps else 1.0
        clean = np.clip((x - np.float32((1 - here) ** 0.5) * predicted) / np.float32(here**0.5), -1, 1)
        left = (x - np.float32(here**0.5) * clean) / np.float32((1 - here) ** 0.5)
        x = np.float32(there**0.5) * clean + np.float32((1 - there) ** 0.5) * left
        yield Step(index, int(timestep), x)


def sample(
    network: Network,
    labels: Sequence[int] | np.ndarray,
    steps: int,
    seed: int = 0,
    batch: int = 25,
    track: Callable[[Iterable[Step]], Iterable[Step]] = iter,
) -> np.ndarray:
    """Sample an image for each label.

    Parameters
    ----------
    network, labels, steps
        As for `ddim`.
    seed : int
        Seed of the starting noise.
    batch : int
        Images evaluated together; each takes about 1 MB while it is.
    track : callable
        Wraps the iteration over the steps of all batches, to show progress.

    Returns
    -------
    float32 (len(labels), channels, side, side)
        Images in -1..1.
    """
    labels = np.asarray(labels)
    start = noise(network, seed, len(labels))
    images = np.empty_like(start)

    def run() -> Iterator[Step]:
        for first in range(0, len(labels), batch):
            part = slice(first, first + batch)
            for step in ddim(network, start[part], labels[part], steps):
                images[part] = step.image
                yield step

    for _ in track(run()):
        pass
    return images
