"""Values put together: sums, and channels side by side."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from golden.diffusion.layers.base import Layer, Role, Shape


@dataclass(frozen=True, eq=False)
class Add(Layer):
    """Sum of two values of one shape: a residual connection."""

    kind: ClassVar[str] = "add"
    role: ClassVar[Role] = Role.SUM
    linear: ClassVar[bool] = True

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Add elementwise."""
        return a + b


@dataclass(frozen=True, eq=False)
class AddChannel(Layer):
    """An image plus one value for each channel: how the time embedding enters a block."""

    kind: ClassVar[str] = "add_channel"
    role: ClassVar[Role] = Role.SUM
    linear: ClassVar[bool] = True

    def __call__(self, x: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """Add ``(batch, channels)`` to every pixel of ``(batch, channels, height, width)``."""
        return x + shift[:, :, None, None]


@dataclass(frozen=True, eq=False)
class AddConstant(Layer):
    """A value plus a learnt or fixed table: positions of tokens.

    Parameters
    ----------
    table : float32
        Broadcast against the value without its batch axis.
    """

    table: np.ndarray
    kind: ClassVar[str] = "add_constant"
    role: ClassVar[Role] = Role.SUM
    linear: ClassVar[bool] = True

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Add to every item of the batch."""
        return x + self.table

    def parameters(self) -> dict[str, np.ndarray]:
        """``table``."""
        return {"table": self.table}


@dataclass(frozen=True, eq=False)
class Concat(Layer):
    """Channels of two images side by side, the first input's first."""

    kind: ClassVar[str] = "concat"
    role: ClassVar[Role] = Role.MOVE
    linear: ClassVar[bool] = True

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Concatenate along axis 1."""
        return np.concatenate([a, b], axis=1)

    def shape(self, *shapes: Shape) -> Shape:
        """Channels of both."""
        a, b = shapes
        return (a[0], a[1] + b[1], *a[2:])
