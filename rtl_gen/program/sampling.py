"""Whole samplings as programs: noise and conditioning in memory, then the image, and no host in between.

A step is one run of the network (two with guidance), then one combine for the clipped image and one for the next
sample. Source: ``docs/closed-loop.md``, 12.22.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import Profile
from golden.diffusion.sampling import Denoiser, RectifiedFlow, Sampler, Sampling, noise
from golden.diffusion.sampling.deepcache import value as kept_value
from golden.diffusion.sampling.samplers import fresh_noise
from rtl_gen.program.memory import INPUTS, Memory, Tensor
from rtl_gen.program.network import Compiler
from rtl_gen.program.schedule import Schedule
from rtl_gen.program.steps import Steps, Turns
from rtl_gen.program.sums import Sums


@dataclasses.dataclass(frozen=True, eq=False)
class Sampled(Steps):
    """A sampling as a program.

    Samples of the compiler are the images; with guidance those without the conditioning, then those with it. Tensor
    ``image`` is noise at the start and the images at the end.

    Members
    -------
    sampling : Sampling
        What is drawn.
    """

    sampling: Sampling

    def images(self, machine: Any) -> np.ndarray:
        """The images that a machine has drawn: float32 (count, channels, height, width)."""
        compiler, found = self.compiler, []
        for number in range(self.sampling.count):
            values = compiler.read(machine, compiler.input.sample(number)).astype(np.float64)
            found.append(compiler.put_back(values * 2.0**compiler.input.unit))
        return np.stack(found).astype(np.float32)


def compile_sampling(
    sampling: Sampling,
    method: Method,
    profile: Profile,
    *,
    track: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> Sampled:
    """Compile a sampling: its images are rows of the array, as are both halves of guidance.

    Parameters
    ----------
    sampling : Sampling
        What is drawn.
    method : Method
        How.
    profile : Profile
        Of the sampling.
    track : callable
        Wraps the iteration over the steps, to show progress.

    Raises
    ------
    ValueError
        If a layer or the process cannot be expressed.
    """
    inputs = Denoiser(sampling).inputs
    samples = sampling.count * (1 if sampling.guidance is None else 2)
    kept = None if sampling.cache is None else kept_value(sampling.network, sampling.cache.branch)
    compiler = Compiler(sampling.network, method, profile, samples=samples, kept=kept)
    sampler = SamplerCommands(sampling, compiler)
    turns = Turns(compiler)
    for index, (timestep, here, there) in enumerate(track(list(sampling.process.plan(sampling.steps)))):
        schedule = turns.begin()
        whole = sampling.cache is None or index in sampling.cache.whole
        given = ordered(sampling, timestep, inputs, samples)
        compiler.step(index, sampling.steps, given, whole=whole, schedule=schedule)
        sampler.step(schedule, index, here, there)
    return Sampled(*turns.closed(sampling.network), sampling)


def ordered(sampling: Sampling, timestep: float, given: Mapping[str, np.ndarray], batch: int) -> dict[str, np.ndarray]:
    """Inputs of the network behind the first: the timestep, then the conditioning."""
    _, clock, *others = sampling.network.inputs
    found = {clock: np.full(batch, timestep)}
    return found | dict(zip(others, given.values(), strict=True))


class SamplerCommands:
    """Adds the sampler's commands; samples are the network's input.

    Parameters
    ----------
    sampling : Sampling
        What is drawn.
    compiler : Compiler
        Whose memory takes the noise and the tables.

    Raises
    ------
    ValueError
        If the process cannot be expressed.
    """

    def __init__(self, sampling: Sampling, compiler: Compiler):
        process = sampling.process
        if not isinstance(process, Sampler | RectifiedFlow):
            raise ValueError(f"Process of a program must be a Sampler or a RectifiedFlow, not {type(process).__name__}")
        if isinstance(process, Sampler) and process.variance == "learned":
            raise ValueError("Variance of a sampler must not be learned in a program: its noise has no factors")
        self._sampling, self._process, self._compiler = sampling, process, compiler
        self._sums = Sums(compiler)
        memory, sample = compiler.memory, compiler.input
        starts = noise(sampling.network, sampling.seed, sampling.count) * np.float32(process.noise_scale)
        for number in range(compiler.samples):
            start = starts[number % sampling.count]
            memory.fill(sample.sample(number).data, self._sums.content(start, sample.unit))
        shape = sample.lines, sample.width, sample.channels
        self._clean = memory.tensor("x0", *shape, self._sums.clean)
        self._guided = memory.tensor("guided", *shape, compiler.prediction + 1)
        self._fresh = self._noise(memory) if process.eta else None

    def _noise(self, memory: Memory) -> list[list[Tensor]]:
        """Fresh noise of every step and image, in memory."""
        steps, images = self._sampling.steps, self._sampling.count
        shape = next(iter(self._sampling.network.inputs.values()))
        found: list[list[Tensor]] = [[] for _ in range(steps)]
        for index, number in itertools.product(range(steps), range(images)):
            fresh = fresh_noise(shape, self._sampling.seed, number, index)
            data = memory.place(INPUTS, self._sums.content(fresh, self._sums.fresh))
            found[index].append(self._sums.tensor("noise", data, self._sums.fresh))
        return found

    def step(self, schedule: Schedule, index: int, here: float, there: float) -> None:
        """Add one step of the process, image by image: from noise level `here` to `there`."""
        compiler, count = self._compiler, self._sampling.count
        for number in range(count):
            both = compiler.samples > count
            samples = [compiler.input.sample(one) for one in ((number, number + count) if both else (number,))]
            prediction, scale = compiler.output.sample(number), self._sampling.guidance
            if both:
                guided = compiler.output.sample(number + count)
                self._sums.add(schedule, [self._guided], [(prediction, 1 - scale), (guided, scale)])
                prediction = self._guided
            fresh = self._fresh[index][number] if self._fresh else None
            self._image(schedule, samples, prediction, fresh, here, there)

    def _image(
        self,
        schedule: Schedule,
        samples: list[Tensor],
        prediction: Tensor,
        fresh: Tensor | None,
        here: float,
        there: float,
    ) -> None:
        """The next sample of an image, written to both halves of guidance."""
        process, sample = self._process, samples[0]
        if isinstance(process, RectifiedFlow):
            distance = here - there if process.prediction == "image" else there - here
            self._sums.add(schedule, samples, [(sample, 1.0), (prediction, distance)])
            return
        signal, rest = here**0.5, (1 - here) ** 0.5
        large = 1 - here / there
        small = (1 - there) / (1 - here) * large
        kept = max(1 - there - process.eta**2 * small, 0.0) ** 0.5 / rest
        of_sample, of_prediction = {
            "noise": (1 / signal, -rest / signal),
            "image": (0.0, 1.0),
            "velocity": (signal, -rest),
        }[process.prediction]
        of_clean = there**0.5 - kept * signal
        if process.clip:
            clean = [(sample, of_sample), (prediction, of_prediction)]
            self._sums.add(schedule, [self._clean], clean, clamped=True)
            terms = [(sample, kept), (self._clean, of_clean)]
        else:
            terms = [(sample, kept + of_clean * of_sample), (prediction, of_clean * of_prediction)]
        if fresh is not None and small:
            terms.append((fresh, process.eta * (small if process.variance == "small" else large) ** 0.5))
        self._sums.add(schedule, samples, terms)
