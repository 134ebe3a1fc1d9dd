"""A whole sampling as one value: which network, of what conditioning, by how many steps of what process.

>>> from golden.diffusion import zoo
>>> images = Sampling(zoo.load("unet"), [3, 8], steps=10).images()
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from golden.common.checked import check
from golden.diffusion.networks.graph import Executor, Network, begin_step, combine_of, dense
from golden.diffusion.sampling.conditioning import Conditioning, Given, classes, condition, needed
from golden.diffusion.sampling.deepcache import Cache, Reuse
from golden.diffusion.sampling.guidance import guided
from golden.diffusion.sampling.samplers import Process, Sampler, Step, check_output, noise

EVERY = slice(None)
"""All images of a sampling."""


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Images of a network, before they are drawn. Equal if network and process are and all conditioning is.

    Parameters
    ----------
    network : Network
        Takes a sample, a timestep and conditioning, and predicts what its process says, in as many channels as the
        sample has, or in twice as many, of which the second half is a variance.
    given : int, sequence of int, mapping or Conditioning
        Labels, or other conditioning of each image, see `golden.diffusion.sampling.condition`.
    steps : int
        Number of steps.
    process : Process
        Steps from noise level to noise level; the default is DDIM on the schedule of the zoo.
    guidance : float, optional
        Scale of classifier-free guidance, see `sampling.guidance`; without it the network is called once for
        each image.
    seed : int
        Seed of all noise.
    cache : Cache, optional
        Steps that run the whole network, if not all do.

    Members
    -------
    given : Conditioning
        Of each image.

    Raises
    ------
    TypeError, ValueError
        If the network cannot be sampled or guided, its conditioning does not fit, or an argument is out of range.
    """

    network: Network
    given: Given
    steps: int = 50
    _: dataclasses.KW_ONLY
    process: Process = Sampler()
    guidance: float | None = None
    seed: int = 0
    cache: Cache | None = None

    def __post_init__(self) -> None:
        """Check every rule, once."""
        if self.guidance is not None:
            check("Guidance", self.guidance, float)
        found = condition(self.network, self.given)
        if not found.count:
            raise ValueError("Conditioning of a sampling must be of at least one image, not of none")
        object.__setattr__(self, "given", found)
        check_output(self.network)
        if self.guidance is not None:
            found.doubled(self.network)
        self.process.plan(self.steps)
        if self.cache is not None:
            self.cache.check(self.network, self.steps)

    @property
    def count(self) -> int:
        """How many images."""
        return self.given.count

    def of(self, given: Given, *, seed: int | None = None) -> "Sampling":
        """The same of other conditioning, and from other noise if a seed is given."""
        return dataclasses.replace(self, given=given, seed=self.seed if seed is None else seed)

    def example(self, images: int, seed: int) -> "Sampling":
        """The same of some images to measure: the first of its own; classes in order if it takes labels alone."""
        wanted = needed(self.network)
        if wanted == ("label",):
            return self.of(np.arange(images) % classes(self.network), seed=seed)
        return self.of(self.given[:images] if wanted else images, seed=seed)

    def walk(self, executor: Executor = dense, part: slice = EVERY) -> Iterator[Step]:
        """Draw all images together, or some of them: each gets the noise that it has among all.

        Yields
        ------
        Step
            One for each step.
        """
        start = noise(self.network, self.seed, self.count)[part]
        first = part.indices(self.count)[0]
        predicts = Denoiser(self, executor, part)
        yield from self.process.run(
            predicts, start, self.steps, seed=self.seed, first=first, combine=combine_of(executor)
        )

    def images(
        self,
        executor: Executor = dense,
        *,
        batch: int = 25,
        track: Callable[[Iterable[Step]], Iterable[Step]] = iter,
    ) -> np.ndarray:
        """Draw the images.

        Parameters
        ----------
        executor : Executor
            Evaluates the layers.
        batch : int
            Images evaluated together; each takes about 1 MB while it is, in networks of the zoo.
        track : callable
            Wraps the iteration over the steps of all batches, to show progress.

        Returns
        -------
        float32 (images, channels, ...)
            Images in -1..1, latents or videos.
        """
        found = np.empty((self.count, *next(iter(self.network.inputs.values()))), np.float32)

        def run() -> Iterator[Step]:
            for first in range(0, self.count, batch):
                part = slice(first, first + batch)
                for step in self.walk(executor, part):
                    found[part] = step.image
                    yield step

        for _ in track(run()):
            pass
        return found


class Denoiser:
    """What predicts in each step of a sampling.

    Parameters
    ----------
    sampling : Sampling
        Gives network, conditioning, guidance and cache steps.
    executor : Executor
        Evaluates the layers.
    part : slice
        Images to predict for.

    Members
    -------
    inputs : mapping of str to array
        Conditioning of each call, whose batch is doubled with guidance.
    """

    def __init__(self, sampling: Sampling, executor: Executor = dense, part: slice = EVERY):
        self._sampling = sampling
        self._executor = executor
        self._channels = check_output(sampling.network)
        given: Conditioning = sampling.given[part]
        self.inputs = (given if sampling.guidance is None else given.doubled(sampling.network)).values
        self._reuse = None if sampling.cache is None else Reuse(sampling.network, sampling.cache.branch)

    def __call__(self, image: np.ndarray, timestep: float, index: int, steps: int) -> np.ndarray:
        """Predict for the samples of step `index` of `steps`, all at one timestep."""
        sampling = self._sampling
        if sampling.guidance is not None:
            image = np.concatenate([image, image])
        begin_step(self._executor, index, steps)
        inputs = image, np.full(len(image), timestep), *self.inputs.values()
        if self._reuse is None:
            predicted = sampling.network(*inputs, executor=self._executor)
        else:
            predicted = self._reuse(inputs, self._executor, index in sampling.cache.whole)
        if sampling.guidance is None:
            return predicted
        return guided(predicted, sampling.guidance, self._channels, combine_of(self._executor))
