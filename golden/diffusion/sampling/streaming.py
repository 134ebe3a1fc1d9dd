"""StreamDiffusion: frames of a video denoised as they come, one call of the network for each (Kodaira et al., 2023).

The *stream batch* has a *slot* for each noise level. In every call slot 0 takes the newest frame, and each other slot
what the slot before it made of the frame before: n frames are under way at n levels, and the last slot's comes out. A
slot always has the same timestep and the same noise, so what it holds changes from call to call only as the video does.
That is a small delta of its own kind, between frames; `Stream` tells the executor which old state to take it against.

Follows the published code (github.com/cumulo-autumn/StreamDiffusion, b623251) for frames that are one image each.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from golden.common.checked import Checked, Count, Rule, Whole
from golden.diffusion.networks.graph import Combine, Executor, Network, begin_step, binary32, combine_of, dense
from golden.diffusion.sampling.conditioning import Given, condition
from golden.diffusion.sampling.deepcache import Reuse
from golden.diffusion.sampling.guidance import guided
from golden.diffusion.sampling.samplers import check_output, noise
from golden.diffusion.sampling.schedule import Schedule


def distance(now: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Euclidean distance of each item, ``(batch,)``."""
    return np.sqrt(np.square(now - before, dtype=np.float64).reshape(len(now), -1).sum(axis=1))


_FALLING = Rule("at least one, and fall", lambda levels: levels == tuple(sorted(set(levels), reverse=True)) != ())


@dataclass(frozen=True)
class Similarity(Checked, label="Similarity {}"):
    """Which frames a stream may leave out.

    Parameters
    ----------
    eta : float
        Similarity from which on frames may be left out; 1 or more processes every frame.
    max_skips : int
        Frames left out in a row at most.
    seed : int
        Seed of the draws.
    """

    eta: float = 0.98
    max_skips: Whole = 10
    seed: Whole = 0


class SimilarityFilter:
    """Stochastic similarity filter: leaves out frames that are much like the last one that was processed.

    With S the cosine of frame and reference, a frame is left out with probability ``max(0, (S - eta) / (1 - eta))``. A
    frame that is processed becomes the reference. (The published code processes one by force only after more than
    `max_skips`.)
    """

    def __init__(self, settings: Similarity):
        self.settings = settings
        self._random = np.random.default_rng(settings.seed)
        self._reference: np.ndarray | None = None
        self._skips = 0

    def probability(self, frame: np.ndarray) -> float:
        """Probability with which this frame is left out, were it the next."""
        eta = self.settings.eta
        if self._reference is None or eta >= 1 or self._skips >= self.settings.max_skips:
            return 0.0
        now, then = np.ravel(frame).astype(np.float64), self._reference
        size = np.linalg.norm(now) * np.linalg.norm(then)
        similarity = now @ then / size if size else 0.0
        return max(0.0, (similarity - eta) / (1 - eta))

    def __call__(self, frame: np.ndarray) -> bool:
        """Whether to process this frame, the next of the video."""
        probability = self.probability(frame)
        if probability > 0 and probability >= self._random.random():
            self._skips += 1
            return False
        self._reference = np.ravel(frame).astype(np.float64)
        self._skips = 0
        return True


@dataclass(frozen=True)
class Streaming(Checked, label="Stream {}"):
    """How a video is denoised.

    Parameters
    ----------
    timesteps : tuple of int
        Noise level of each slot, falling. The first says how much of the input is left to see.
    schedule : Schedule
        Noise levels; the default is what the zoo was trained on.
    residual : str
        Where the prediction without conditioning comes from, for guidance: ``"none"`` (no guidance),
        ``"full"`` (a second item for every slot), ``"self"`` (the noise that would lead from the slot back to the input
        frame, which needs nothing that stands for none) or ``"onetime"`` (the noise that would lead back to the image
        that one item more, at slot 0, predicts without conditioning).
    guidance : float
        Its scale; up to 1 there is none.
    delta : float
        Factor of the noise of ``"self"`` and ``"onetime"``.
    scalings : str
        ``"plain"`` takes the predicted image as it is, which suits networks trained as DDPM; ``"lcm"`` blends it with
        the input as a latent consistency model does (Luo et al., 2023).
    clip : bool
        Clip predicted images to -1..1, as usual for pixels; the published code works on latents and does not.
    renoise : bool
        Add the slot's noise to what enters it; the published code calls it `do_add_noise`.
    reference : str
        State that each item's delta is against: ``"frames"``, its own of the call before; ``"timesteps"``, that of the
        slot before it (the same frame at the noise level before; slot 0 starts anew); ``"measured"``, whichever of the
        two is nearer (slot 0: its own). While the stream fills, an item starts anew rather than refer to a slot that no
        frame had reached.
    similarity : Similarity, optional
        Which frames may be left out.
    interval : int
        DeepCache along frames: one call in `interval` runs the whole network, those between reuse the deep value of the
        same slot, a frame or more ago. The calls that fill the stream are whole. Needs references along frames.
    branch : int or str
        What is kept, see `golden.diffusion.sampling.deepcache.value`.
    seed : int
        Seed of the slots' noise.
    """

    timesteps: Annotated[tuple[Whole, ...], _FALLING] = (400, 300, 200, 100)
    schedule: Schedule = Schedule()
    residual: Literal["none", "self", "onetime", "full"] = "none"
    guidance: float = 1.2
    delta: float = 1.0
    scalings: Literal["plain", "lcm"] = "plain"
    clip: bool = True
    renoise: bool = True
    reference: Literal["frames", "timesteps", "measured"] = "frames"
    similarity: Similarity | None = None
    interval: Count = 1
    branch: int | str = 0
    seed: Whole = 0

    def check_together(self) -> None:
        """Levels are the schedule's, and what is kept belongs to a slot."""
        most = self.schedule.timesteps - 1
        if self.timesteps[0] > most:
            raise ValueError(f"Stream timesteps must be from 0 to {most}, not {list(self.timesteps)}")
        if self.interval > 1 and self.reference != "frames":
            raise ValueError(f"Stream interval must be 1 with references along {self.reference}, not {self.interval}")

    @property
    def guided(self) -> str:
        """`residual`, ``"none"`` where the scale asks for no guidance."""
        return self.residual if self.guidance > 1 else "none"

    def whole(self, call: int) -> bool:
        """Whether a call runs the whole network, from 0: those that fill the stream do, then one in `interval`."""
        since = call - len(self.timesteps) + 1
        return since <= 0 or since % self.interval == 0

    @property
    def items(self) -> int:
        """Items of the batch in each call: n slots; one more for ``"onetime"``, twice as many for ``"full"``."""
        slots = len(self.timesteps)
        return slots + {"onetime": 1, "full": slots}.get(self.guided, 0)


@dataclass(frozen=True, eq=False)
class Slot:
    """A place of the stream batch.

    Members
    -------
    timestep : int
        Of every call.
    signal, rest : float
        What enters is ``signal image + rest noise``; the image is the newest frame, or what the slot before predicts.
    noise : float32 (channels, ...)
        Noise that is added to what enters.
    of_sample, of_prediction : float
        The clean image is ``of_sample x + of_prediction n``, of what is in the slot and the noise predicted there.
    """

    timestep: int
    signal: float
    rest: float
    noise: np.ndarray
    of_sample: float
    of_prediction: float


class Stream:
    """Video to video, frame by frame.

    Parameters
    ----------
    network : Network
        Takes a sample, a timestep and conditioning, and predicts the noise; a variance is left out of account.
    given : int, or conditioning of one image
        Label that every frame is drawn towards, or other conditioning, as for `golden.diffusion.sampling.Denoiser`.
    how : Streaming
        Levels, guidance, references and what is left out.
    executor : Executor
        Evaluates the layers. The first call is step 0 and refers to nothing. Nobody knows how many follow, so no call
        is announced as the last: what is left out of a delta comes with the next frame.

    Members
    -------
    how : Streaming
        As given.
    items : int
        Items of the batch in each call, see `Streaming.items`; those without conditioning come first.
    slots : tuple of Slot
        Noise levels.
    given : mapping of str to array
        Inputs of the network behind the first, of every item, the same in each call.
    calls : int
        Calls of the network so far.
    references : int64 (items,)
        References of the last call, as `StatefulExecutor.begin_step` takes them.

    Raises
    ------
    ValueError
        If the network has no null conditioning and needs it, or not the branch that is kept.
    """

    def __init__(
        self,
        network: Network,
        given: Given,
        how: Streaming = Streaming(),
        *,
        executor: Executor = dense,
    ):
        one = condition(
            network, [given] if isinstance(given, int | np.integer) and "label" in network.inputs else given
        )
        if one.count != 1:
            raise ValueError(f"Conditioning of a stream must be of one image, not {one.count}")
        slots = len(how.timesteps)
        self.network = network
        self.executor = executor
        self.items = how.items
        self.how = how
        self._similarity = how.similarity and SimilarityFilter(how.similarity)
        self._channels = check_output(network)
        self._reuse = Reuse(network, how.branch) if how.interval > 1 else None

        levels = np.array(how.timesteps)
        signal, rest = np.sqrt(how.schedule.signal[levels]), np.sqrt(1 - how.schedule.signal[levels])
        wide = 10.0 * levels  # times 10: the published scaling of timesteps
        skip, out = np.zeros(slots), np.ones(slots)
        if how.scalings == "lcm":
            skip, out = 0.25 / (wide**2 + 0.25), wide / np.sqrt(wide**2 + 0.25)
        self._noise = noise(network, how.seed, slots)
        added = [self._noise[0], *(self._noise[1:] if how.renoise else np.zeros_like(self._noise[1:]))]
        of_sample, of_prediction = out / signal + skip, -out * rest / signal
        numbers = (values.tolist() for values in (levels, signal, rest))
        self.slots = tuple(map(Slot, *numbers, added, of_sample.tolist(), of_prediction.tolist()))
        self._signal, self._rest = (
            values.astype(np.float32).reshape(-1, *[1] * (self._noise.ndim - 1)) for values in (signal, rest)
        )
        self._buffer = np.zeros_like(self._noise[1:])
        self._stock = np.zeros_like(self._noise)

        extra = how.items - slots
        self._slot = np.concatenate([np.arange(extra), np.arange(slots)])
        rows = one.doubled(network) if extra else one
        given = rows[np.where(np.arange(how.items) < extra, 0, rows.count - 1)].values
        timesteps = levels[self._slot].astype(np.int64)
        self.given = dict(zip(list(network.inputs)[1:], (timesteps, *given.values()), strict=True))
        self._own = np.arange(how.items)
        self._previous = np.where(self._slot > 0, self._own - 1, -1)
        self._before: np.ndarray | None = None
        self._output: np.ndarray | None = None
        self.references = np.full(how.items, -1)
        self.calls = 0

    def push(self, frame: np.ndarray) -> np.ndarray | None:
        """Take the next frame and give the next image.

        Parameters
        ----------
        frame : float (channels, ...)
            Frame of the video, in -1..1, or its latent.

        Returns
        -------
        float32 (channels, ...) or None
            The image of the frame pushed n - 1 calls ago, for n slots; again the last one if the filter leaves this
            frame out; None while the first frames are under way.

        Raises
        ------
        ValueError
            If the frame has another shape than the images of the network, or is not finite.
        """
        frame = np.asarray(frame, np.float32)
        if frame.shape != self._noise.shape[1:]:
            raise ValueError(f"Frame must have the shape {self._noise.shape[1:]}, not {frame.shape}")
        if not np.isfinite(frame).all():
            raise ValueError(f"Frame must be finite, not {frame[~np.isfinite(frame)][0]}")
        if self._similarity is not None and not self._similarity(frame):
            return self._output
        # guidance by a stock of noise has no sums of a machine
        combine = combine_of(self.executor) if self.how.guided in ("none", "full") else binary32
        x = np.concatenate([self._entering(combine, self.slots[0], frame[None]), self._buffer])
        image = x[self._slot]
        self.references = self._refer(image)
        begin_step(self.executor, self.calls, None, self.references)
        predicted = self._predict(image, *self.given.values())[:, : self._channels]
        clean = self._clean(combine, x, self._guided(combine, predicted))
        entering = [self._entering(combine, *pair) for pair in zip(self.slots[1:], clean[:-1, None], strict=True)]
        self._buffer = np.concatenate([*entering, self._buffer[:0]])
        self._before = image
        self.calls += 1
        if self.calls >= len(x):
            self._output = clean[-1]
        return self._output

    def _predict(self, *inputs: np.ndarray) -> np.ndarray:
        """Call the network, or what is left of it."""
        if self._reuse is None:
            return self.network(*inputs, executor=self.executor)
        return self._reuse(inputs, self.executor, whole=self.how.whole(self.calls))

    def _refer(self, image: np.ndarray) -> np.ndarray:
        """For each item the one of the call before that its delta is against."""
        if self._before is None:
            return np.full(len(image), -1)
        if self.how.reference == "frames":
            return self._reached(self._own)
        if self.how.reference == "timesteps":
            return self._reached(self._previous)
        chosen, later = self._reached(self._own), np.flatnonzero(self._previous >= 0)
        frames = distance(image, self._before)[later]
        levels = distance(image[later], self._before[self._previous[later]])
        nearer = later[(levels < frames) & (chosen[later] >= 0)]
        chosen[nearer] = self._previous[nearer]
        return chosen

    def _reached(self, reference: np.ndarray) -> np.ndarray:
        """These references, but -1 for slots that held no frame in the call before."""
        return np.where((reference >= 0) & (self._slot[reference] < self.calls), reference, -1)

    @property
    def _cleaned(self) -> str:
        """What a clean image is in the sums of a step: one that is not clipped has the range of any sample."""
        return "clean" if self.how.clip else "image"

    def _entering(self, combine: Combine, slot: Slot, image: np.ndarray) -> np.ndarray:
        """What enters a slot, as one sum (numerics, 12.23)."""
        return combine({self._cleaned: (image, slot.signal), "fresh": (slot.noise[None], slot.rest)}, "image")

    def _clean(self, combine: Combine, x: np.ndarray, predicted: np.ndarray, name: str | None = None) -> np.ndarray:
        """Image without noise that the prediction implies, for each slot: a sum of values times factors each."""
        clean = []
        for slot, own, found in zip(self.slots, x, predicted, strict=True):
            terms = {"image": (own[None], slot.of_sample), "prediction": (found[None], slot.of_prediction)}
            clean.append(combine(terms, name or self._cleaned))
        return np.concatenate(clean)

    def _guided(self, combine: Combine, predicted: np.ndarray) -> np.ndarray:
        """Prediction for each slot from that for each item."""
        if self.how.guided == "none":
            return predicted
        if self.how.guided == "full":
            return guided(predicted, self.how.guidance, combine=combine)
        stock = np.concatenate([self._noise[:1], self._stock[:-1]])
        if self.how.guided == "onetime":
            stock[0], predicted = predicted[0], predicted[1:]
        predicted = guided(np.concatenate([np.float32(self.how.delta) * stock, predicted]), self.how.guidance)
        # The next slot adds its noise to what this one predicts. How far that is from the image that the stock noise
        # leads back to, seen as noise at the next level, is what its own stock noise has beside the noise added.
        away = self._clean(combine, self._rest * stock, predicted, "image")
        signal, rest = (np.concatenate([level[1:], np.ones_like(level[:1])]) for level in (self._signal, self._rest))
        self._stock = np.roll(self._noise, -1, axis=0) + signal * away / rest
        return predicted
