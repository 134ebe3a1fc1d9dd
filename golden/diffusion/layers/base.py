"""What every layer is."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Layer:
    """One node of a network.

    Parameters
    ----------
    name : str
        Stable dotted name, unique in its network.
    inputs : tuple of str
        Names of the layers, or of the inputs of the network, whose values it reads, in order.

    Members
    -------
    kind : str
        What the layer computes, one word for each subclass.
    linear : bool
        True if the layer is linear in its first input once the others are held: it can run on deltas.
    contracted : tuple of int
        Of each operand of a product, the axis that is contracted and whose elements form groups; empty for layers that
        do not contract.
    """

    name: str
    inputs: tuple[str, ...]
    kind: ClassVar[str] = ""
    linear: ClassVar[bool] = False

    @property
    def contracted(self) -> tuple[int, ...]:
        """Contracted axis of each operand."""
        return ()

    def __call__(self, *values: np.ndarray) -> np.ndarray:
        """Value of the layer for the given input values, one for each name in `inputs`."""
        raise NotImplementedError

    def parameters(self) -> dict[str, np.ndarray]:
        """Float32 parameters by their short name, empty for most kinds."""
        return {}

    def shape(self, *shapes: Shape) -> Shape:
        """Shape of the output for the given shapes of the inputs."""
        return shapes[0]

    def macs(self, *shapes: Shape) -> int:
        """Multiply-accumulates for the given shapes of the inputs; elementwise work and norms count 0."""
        return 0


@dataclass(frozen=True, eq=False)
class Weighted(Layer):
    """A layer with a weight and a bias."""

    weight: np.ndarray
    bias: np.ndarray

    def parameters(self) -> dict[str, np.ndarray]:
        """``weight`` and ``bias``."""
        return {"weight": self.weight, "bias": self.bias}
