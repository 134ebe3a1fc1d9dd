"""Values put together: sums, products, concatenation."""

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


def _per_channel(vector: np.ndarray, ndim: int, axis: int) -> np.ndarray:
    """``(batch, channels)`` ready to be broadcast along `axis` of a value with `ndim` axes."""
    shape = [1] * ndim
    shape[0], shape[axis] = vector.shape
    return vector.reshape(shape)


@dataclass(frozen=True, eq=False)
class Modulate(Layer):
    """``x * (1 + scale) + shift``, with a shift and a scale for each channel: adaptive normalisation.

    Source: Peebles and Xie, *Scalable diffusion models with transformers*, 2023. Inputs: x, shift, scale.

    Parameters
    ----------
    axis : int
        Channels of x: the last axis of tokens, axis 1 of images.
    """

    axis: int = -1
    kind: ClassVar[str] = "modulate"
    role: ClassVar[Role] = Role.SCALE

    def __call__(self, x: np.ndarray, shift: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Scale and shift ``(batch, ..., channels)`` by ``(batch, channels)``."""
        shift, scale = (_per_channel(vector, x.ndim, self.axis) for vector in (shift, scale))
        return x * (np.float32(1) + scale) + shift


@dataclass(frozen=True, eq=False)
class Gate(Layer):
    """``x * gate``, with a gate for each channel. Inputs: x, gate.

    Parameters
    ----------
    axis : int
        Channels of x: the last axis of tokens, axis 1 of images.
    """

    axis: int = -1
    kind: ClassVar[str] = "gate"
    role: ClassVar[Role] = Role.SCALE
    linear: ClassVar[bool] = True

    def __call__(self, x: np.ndarray, gate: np.ndarray) -> np.ndarray:
        """Scale ``(batch, ..., channels)`` by ``(batch, channels)``."""
        return x * _per_channel(gate, x.ndim, self.axis)


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
