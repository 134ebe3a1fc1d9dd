"""What is measured once, on images of its own, before a network runs differentially: ranges, deviations, exponents.

Words: *calibration* runs the dense network over a whole sampling; the *profile* is what it leaves.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np

from golden.diffusion import zoo
from golden.diffusion.differential import kept
from golden.diffusion.layers import Layer, Role
from golden.diffusion.networks.graph import Network, StatefulExecutor, main_values
from golden.diffusion.sampling import Sampling

_FITTING = 0.98
"""Share of deltas that a static exponent has to fit: it leaves about the published share of outliers."""


@dataclasses.dataclass(frozen=True, eq=False)
class Profile:
    """Figures of a network over a sampling.

    Members
    -------
    steps : int
        Steps of the sampling.
    largest : mapping of str to float
        Largest magnitude of every value on the way from the first input.
    deviation : mapping of str to float32 (steps, sets)
        Mean over the images of what a norm divides by, for each set: groups of a GroupNorm, tokens of the others.
    overflow : mapping of str to float
        Magnitude that 98 % of a value's deltas do not exceed, over all steps but the first and the last.
    rows : int (batch,), optional
        Row of `deviation` for each item of the batch, where a stream keeps its items at timesteps of their own; the
        default is the row of the step, for all of them.
    gains : mapping of str to float
        What errors of each product do to the image (`differential.allocation`); empty if that is not known.
    """

    steps: int
    largest: Mapping[str, float]
    deviation: Mapping[str, np.ndarray]
    overflow: Mapping[str, float]
    rows: np.ndarray | None = None
    gains: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def magnitude(self, name: str) -> int:
        """``M`` of a value: the least power of two ``2^M`` above its largest magnitude."""
        return int(np.frexp(self.largest.get(name, 1.0) or 1.0)[1])

    def unit(self, name: str, width: int, factor: float = 1.0) -> int:
        """``s`` in the closed loop (numerics, 12.17): `width` bits hold twice the largest magnitude over `factor`."""
        return int(np.frexp((self.largest.get(name, 1.0) or 1.0) / abs(factor))[1]) + 2 - width

    def state_exponent(self, name: str, width: int) -> int:
        """``s`` of a tensor: `width` bits hold twice its largest magnitude; -24 at the least."""
        return max(self.magnitude(name) + 2 - width, -24)

    def deviations(self, name: str, step: int, reference: np.ndarray | None = None) -> np.ndarray:
        """What a norm divides by in a step, float32 (batch or 1, sets).

        Parameters
        ----------
        name : str
            The norm.
        step : int
            Step of the sampling; of no account in a stream.
        reference : int (batch,), optional
            In a stream: the item that each one refers to, for the deviations of that one; -1 is the item itself.

        Raises
        ------
        ValueError
            If the sampling that was calibrated has no such step.
        """
        found = self.deviation[name]
        if self.rows is not None:
            own = np.arange(len(self.rows))
            return found[self.rows if reference is None else self.rows[np.where(reference < 0, own, reference)]]
        if step >= len(found):
            raise ValueError(f"profile must be of more than {step} steps with calibrated norms, not of {len(found)}")
        return found[step][None]

    def layer_exponent(self, name: str, digit_width: int) -> int:
        """Static exponent of a tensor's deltas under the layer policy: the least that `overflow` fits."""
        bound = max(self.overflow.get(name, 0.0), 2.0**-24)
        return int(np.clip(np.frexp(2 * bound / (2**digit_width - 1))[1], -24, 18 - digit_width))


class Calibration(StatefulExecutor):
    """Executor that runs a network densely and keeps what a `Profile` is made of.

    Parameters
    ----------
    network : Network
        To calibrate.
    stream : bool
        Whether every item of the batch keeps a timestep of its own, see `Profile.rows`. Means are then over the calls,
        without as many of the first ones as there are items: these fill the stream.
    """

    def __init__(self, network: Network, *, stream: bool = False):
        self._network = network
        self._stream = stream
        self._index = 0
        self._reference: np.ndarray | None = None
        self._main = main_values(network)
        reads = (layer for layer in network.layers if layer.contracted or layer.role is Role.ACTIVATION)
        self._read = {source for layer in reads for source in layer.inputs} & self._main
        self._largest: dict[str, float] = dict.fromkeys(self._main, 0.0)
        self._deviation: dict[str, dict[int, np.ndarray]] = {}
        self._last: dict[str, np.ndarray] = {}
        self._overflow: dict[str, list[float]] = {}
        self._input = next(iter(network.inputs))
        self._noted = False

    def begin_step(self, index: int, steps: int | None, reference: np.ndarray | None = None) -> None:
        """The network's input is to be noted once in a step."""
        self._noted = False
        self._index, self._reference = index, reference

    def __call__(self, layer: Layer, values: Sequence[np.ndarray]) -> np.ndarray:
        """Evaluate `layer` densely."""
        output = layer(*values)
        if not self._noted and self._input in layer.inputs:
            self._noted = True
            self._note(self._input, values[layer.inputs.index(self._input)])
        if layer.name in self._main:
            self._note(layer.name, output)
            if layer.role is Role.NORM:
                deviation = layer.statistics(values[0])[1]
                if not self._stream:
                    deviation = deviation.mean(axis=0)
                if not self._filling(len(values[0])):
                    self._deviation.setdefault(layer.name, {})[self._index] = deviation.astype(np.float32)
        return output

    def _filling(self, items: int) -> bool:
        return self._stream and self._index < items

    def _note(self, name: str, value: np.ndarray) -> None:
        self._largest[name] = max(self._largest[name], float(np.abs(value).max()))
        if name not in self._read:
            return
        before = self._last.get(name)
        if before is not None and not self._filling(len(value)):
            delta = value - before
            if self._reference is not None:
                refers = self._reference >= 0
                delta = value[refers] - before[self._reference[refers]]
            self._overflow.setdefault(name, []).append(float(np.quantile(np.abs(delta), _FITTING)))
        self._last[name] = value

    def profile(self, steps: int, gains: Mapping[str, float] | None = None) -> Profile:
        """What was found in a sampling of `steps` steps. A step that left a norm out takes the row before.

        Gains that are not given are those that ship with the network.
        """
        overflow = {name: float(np.median(found[:-1] or found)) for name, found in self._overflow.items()}
        return Profile(
            steps=steps,
            largest=self._largest,
            deviation={name: self._rows(found, steps) for name, found in self._deviation.items()},
            overflow=overflow,
            rows=np.arange(len(self._reference)) if self._stream and self._reference is not None else None,
            gains=zoo.gains(self._network) if gains is None else gains,
        )

    def _rows(self, found: dict[int, np.ndarray], steps: int) -> np.ndarray:
        if self._stream:
            return np.mean(list(found.values()), axis=0)
        rows = [found[min(found)]]
        for step in range(1, steps):
            rows.append(found.get(step, rows[-1]))
        return np.stack(rows)


def known_gains(sampling: Sampling) -> dict[str, float]:
    """Gains of a network's products that ship with it, or were measured before; empty if there are none."""
    return zoo.gains(sampling.network) or kept.load("gains", sampling) or {}


@functools.lru_cache(maxsize=32)
def _calibrated(sampling: Sampling) -> Profile:
    gains = known_gains(sampling)
    calibration = Calibration(sampling.network)
    for _ in sampling.walk(calibration):
        pass
    return calibration.profile(sampling.steps, gains)


def calibrate(sampling: Sampling, *, images: int = 10, seed: int = 1_000_003) -> Profile:
    """Profile of a network from a dense sampling like the one to come: process, guidance, cache steps. Kept.

    Parameters
    ----------
    sampling : Sampling
        To come.
    images, seed : int
        What is drawn meanwhile, at most: other images than anybody compares, whose seeds are small. They are the first
        of the sampling's conditioning, or classes in order for a network that takes labels alone.
    """
    return _calibrated(sampling.example(images, seed))
