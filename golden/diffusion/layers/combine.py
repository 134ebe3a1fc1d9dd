"""Values put together: sums, and channels side by side."""

from dataclasses import dataclass

import numpy as np

from golden.diffusion.layers.base import Layer, Pair, Role, Shape


@dataclass(frozen=True, eq=False)
class Add(Pair, kind="add", role=Role.SUM, linear=True):
    """Sum of two values of one shape: a residual connection."""

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Add elementwise."""
        return a + b


@dataclass(frozen=True, eq=False)
class AddChannel(Layer, kind="add_channel", role=Role.SUM, linear=True):
    """An image plus one value for each channel: how the time embedding enters a block."""

    def __call__(self, x: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """Add ``(batch, channels)`` to every pixel of ``(batch, channels, height, width)``."""
        return x + shift[:, :, None, None]

    def shape(self, *shapes: Shape) -> Shape:
        """That of the image."""
        x, shift = shapes
        self._check(len(x) == 4 and shift == x[:2], "an image and a value for each of its channels", x, shift)
        return x


@dataclass(frozen=True, eq=False)
class AddConstant(Layer, kind="add_constant", role=Role.SUM, linear=True):
    """A value plus a learnt or fixed table: positions of tokens.

    Parameters
    ----------
    table : float32
        Broadcast against the value without its batch axis.
    """

    table: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Add to every item of the batch."""
        return x + self.table

    def shape(self, *shapes: Shape) -> Shape:
        """That of the value."""
        (x,) = shapes
        fits = self.table.ndim < len(x) and all(
            own in (1, length) for own, length in zip(self.table.shape[::-1], x[::-1], strict=False)
        )
        self._check(fits, f"values that a table {self.table.shape} can be added to", x)
        return x

    def parameters(self) -> dict[str, np.ndarray]:
        """``table``."""
        return {"table": self.table}


@dataclass(frozen=True, eq=False)
class Concat(Layer, kind="concat", role=Role.MOVE, linear=True):
    """Channels of two images side by side, the first input's first."""

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Concatenate along axis 1."""
        return np.concatenate([a, b], axis=1)

    def shape(self, *shapes: Shape) -> Shape:
        """Channels of both."""
        a, b = shapes
        self._check(a[:1] + a[2:] == b[:1] + b[2:], "two values that differ in their channels, axis 1, only", a, b)
        return (a[0], a[1] + b[1], *a[2:])
