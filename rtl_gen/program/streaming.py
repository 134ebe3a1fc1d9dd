"""Videos as programs: frames and noise in memory, then the images, and no host in between (StreamDiffusion).

Slots of the stream batch are samples of the network, and so rows of the array. A call is one sum for the newest frame,
one run of the network, and two sums for each slot: its clean image, and what enters the slot behind it. A slot starts
anew in the call in which the first frame reaches it and rests before. Calls of a full stream differ in where their
frame and image lie, so they are a loop. Source: ``docs/closed-loop.md``, 12.23.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import Profile
from golden.diffusion.sampling.deepcache import value as kept_value
from golden.diffusion.sampling.streaming import Slot, Stream
from rtl_gen.program.memory import STEPS, TABLES, Tensor
from rtl_gen.program.network import Compiler
from rtl_gen.program.schedule import Schedule
from rtl_gen.program.steps import Steps, Turns
from rtl_gen.program.sums import Sums


@dataclasses.dataclass(frozen=True, eq=False)
class Streamed(Steps):
    """A video as a program: a step is a call.

    Samples of the compiler are the slots; with guidance those without the conditioning, then those with it. Tensors
    ``image.0`` and so on are the images.

    Members
    -------
    outputs : tuple of Tensor
        Image of each call of a full stream.
    """

    outputs: tuple[Tensor, ...]

    def images(self, machine: Any) -> np.ndarray:
        """The images that a machine has drawn: float32 (images, channels, height, width)."""
        found = [
            self.compiler.put_back(self.compiler.read(machine, one).astype(np.float64) * 2.0**one.unit)
            for one in self.outputs
        ]
        return np.stack(found).astype(np.float32)


def compile_stream(
    stream: Stream,
    video: np.ndarray,
    method: Method,
    profile: Profile,
    *,
    track: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> Streamed:
    """Compile all calls of a stream.

    Parameters
    ----------
    stream : Stream
        Nothing was pushed into it, and nothing will be.
    video : float (frames, channels, height, width)
        Frames; as many as slots at least.
    method : Method
        How.
    profile : Profile
        Of the stream, see `golden.diffusion.differential.streams.calibrate_stream`.
    track : callable
        Wraps the iteration over the calls, to show progress.

    Raises
    ------
    ValueError
        If a layer or the stream cannot be expressed.
    """
    how, slots = stream.how, len(stream.slots)
    if len(video) < slots:
        raise ValueError(f"Frames must fill the {slots} slots of the stream, not be {len(video)}")
    if how.reference != "frames":
        raise ValueError(f"Stream reference must be frames in a program, not {how.reference}")
    if how.guided not in ("none", "full"):
        raise ValueError(f"Stream residual must be none or full in a program, not {how.guided}")
    if how.similarity is not None:
        raise ValueError("Stream similarity must be left out in a program, which takes every frame")
    kept = kept_value(stream.network, how.branch) if how.interval > 1 else None
    compiler = Compiler(stream.network, method, profile, samples=stream.items, kept=kept, steady=True)
    calls = _Calls(stream, compiler)
    turns = Turns(compiler)
    for call, frame in enumerate(track(list(np.asarray(video, np.float32)))):
        calls.add(turns.begin(), call, frame)
    images = {f"image.{number}": one for number, one in enumerate(calls.outputs)}
    return Streamed(*turns.closed(stream.network, **images), tuple(calls.outputs))


class _Calls:
    """Adds the commands of calls, one after the other.

    Parameters
    ----------
    stream : Stream
        That is compiled.
    compiler : Compiler
        Of its network.

    Members
    -------
    outputs : list of Tensor
        Images so far.
    """

    def __init__(self, stream: Stream, compiler: Compiler):
        self._stream, self._compiler, self._sums = stream, compiler, Sums(compiler)
        sample, memory = compiler.input, compiler.memory
        self._unit = self._sums.clean if stream.how.clip else sample.unit  # of frames and clean images
        shape = sample.lines, sample.width, sample.channels
        self._clean = memory.tensor("x0", *shape, self._unit)
        self._guided = memory.tensor("guided", *shape, compiler.prediction + 1)
        self._noise = [
            self._sums.tensor(
                "noise", memory.place(TABLES, self._sums.content(slot.noise, self._sums.fresh)), self._sums.fresh
            )
            for slot in stream.slots
        ]
        self.outputs: list[Tensor] = []

    def add(self, schedule: Schedule, call: int, frame: np.ndarray) -> None:
        """Add a call."""
        stream, compiler, memory = self._stream, self._compiler, self._compiler.memory
        how, slots = stream.how, len(stream.slots)
        placed = memory.place(STEPS, self._sums.content(frame, self._unit))
        self._enter(schedule, 0, self._sums.tensor("frame", placed, self._unit))
        starts = [None if slot > call else slot == call for slot in range(slots)]
        starts *= stream.items // slots
        compiler.step(call, None, stream.given, whole=how.whole(call), schedule=schedule, starts=starts)
        # from the last slot on: what enters a slot takes the place of what was in it
        for number in reversed(range(min(call + 1, slots))):
            target = self._clean
            if number == slots - 1:
                room = memory.place(STEPS, self._sums.content(frame, self._unit).size)
                target = self._sums.tensor("image", room, self._unit)
                self.outputs.append(target)
            self._leave(schedule, stream.slots[number], number, target)
            if number < slots - 1:
                self._enter(schedule, number + 1, target)

    def _items(self, slot: int) -> list[Tensor]:
        """What is in a slot; in both of its items, if there is guidance."""
        slots = len(self._stream.slots)
        return [self._compiler.input.sample(item) for item in range(slot, self._stream.items, slots)]

    def _enter(self, schedule: Schedule, slot: int, image: Tensor) -> None:
        level = self._stream.slots[slot]
        self._sums.add(schedule, self._items(slot), [(image, level.signal), (self._noise[slot], level.rest)])

    def _leave(self, schedule: Schedule, slot: Slot, number: int, target: Tensor) -> None:
        how, slots, output = self._stream.how, len(self._stream.slots), self._compiler.output
        prediction = output.sample(number)
        if self._stream.items > slots:
            both = [(prediction, 1 - how.guidance), (output.sample(number + slots), how.guidance)]
            self._sums.add(schedule, [self._guided], both)
            prediction = self._guided
        terms = [(self._items(number)[0], slot.of_sample), (prediction, slot.of_prediction)]
        self._sums.add(schedule, [target], terms, clamped=how.clip)
