"""What every differential executor knows: the network, the units of its states, and how its values are cut into groups.

Words: what depends on the network's first input is the *main* part, the rest is *conditioning* and runs densely.
"""

import functools
from collections.abc import MutableMapping, Sequence
from typing import Any, ClassVar

import numpy as np

from golden.diffusion.differential.arithmetic import Arithmetic
from golden.diffusion.differential.measure import Measure
from golden.diffusion.differential.method import PATTERNS, Method, matches
from golden.diffusion.differential.profile import Profile
from golden.diffusion.differential.quantise import Grouping
from golden.diffusion.layers import Concat, Convolution, Layer
from golden.diffusion.networks.graph import Network, StatefulExecutor, main_values


class Differential(StatefulExecutor):
    """Executor with state.

    A subclass says which `flows` it executes, and where a sentence puts it.

    Parameters
    ----------
    network : Network
        To run.
    method : Method
        How.
    profile : Profile
        Of the network and the number of steps.
    measure : Measure
        Takes notes of what is sent, if given.

    Raises
    ------
    ValueError
        If the method has another flow, or a pattern of it matches no layer that follows the network's first input.
    """

    flows: ClassVar[tuple[str, ...]]
    where: ClassVar[str] = ""

    def __init__(
        self,
        network: Network,
        method: Method,
        profile: Profile,
        measure: Measure | None = None,
    ):
        if method.flow not in self.flows:
            raise ValueError(f"flow must be {' or '.join(self.flows)}{self.where}, not {method.flow}")
        self._network = network
        self._method = method
        self._profile = profile
        self._measure = measure
        self._main = main_values(network)
        self._input = next(iter(network.inputs))
        self._index = -1
        self._steps: int | None = profile.steps
        self._cuts: dict[tuple[str, int], tuple[int, ...]] = {}
        for member in PATTERNS:
            for pattern in getattr(method, member):
                layers = [layer for layer in network.layers if layer.name in self._main]
                known = [layer.name for layer in layers if layer.contracted or member != "layer_output_bits"]
                if not matches(pattern, known):
                    raise ValueError(f"{member} must match a layer of network {network.name!r}, not {pattern!r}")

    def _restore(self, tables: Sequence[MutableMapping[Any, np.ndarray]], reference: np.ndarray) -> np.ndarray | None:
        """States of items become those of their references; which items have none, None if all have one."""
        moved: dict[int, np.ndarray] = {}  # readers that hold the same go on doing so
        for states in tables:
            for name, value in states.items():
                if id(value) not in moved:
                    moved[id(value)] = value[np.maximum(reference, 0)]
                states[name] = moved[id(value)]
        return reference < 0 if (reference < 0).any() else None

    def _exponent(self, name: str) -> int:
        """``s`` of a value's state."""
        return self._profile.state_exponent(name, self._method.machine.state_width)

    def _grouping(self, source: str, axis: int, shape: tuple[int, ...]) -> Grouping:
        axis = axis if axis < 0 else axis - len(shape)
        return Grouping(axis, self._cut(source, axis) or (shape[axis],), self._method.machine.lanes)

    def _segments(self, layer: Layer) -> tuple[int, ...]:
        """Channels of what a product reads a concatenation of; empty if it does not."""
        return self._cut(layer.inputs[0], -3 if isinstance(layer, Convolution) else -1)

    def _cut(self, source: str, axis: int) -> tuple[int, ...]:
        """Lengths that are padded to groups apart; empty: the whole axis is one."""
        if (source, axis) not in self._cuts:
            self._cuts[source, axis] = self._pieces(source) if axis == -3 else self._heads(source) if axis == -1 else ()
        return self._cuts[source, axis]

    def _pieces(self, source: str) -> tuple[int, ...]:
        """Channels of what a value is concatenated of; empty if it is no concatenation."""
        layer = self._network.by_name.get(source)
        if not isinstance(layer, Concat):
            return ()
        return tuple(self._shapes[part][1] for part in layer.inputs)

    def _heads(self, source: str) -> tuple[int, ...]:
        """Channels of each head that tokens are joined of, if they are sent apart."""
        return ()

    @functools.cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return self._network.shapes()


class Rival(Differential):
    """Executor with floating point near memory.

    Parameters
    ----------
    network, method, profile, measure
        As for `Differential`.
    arithmetic : Arithmetic
        What computes; the default is floating point, with products of the subclass's `dtype`.
    """

    dtype: ClassVar[type] = np.float32

    def __init__(
        self,
        network: Network,
        method: Method,
        profile: Profile,
        arithmetic: Arithmetic | None = None,
        measure: Measure | None = None,
    ):
        super().__init__(network, method, profile, measure)
        self._arithmetic = arithmetic or Arithmetic(method, self.dtype)
