"""Means over the pixels of an image."""

from dataclasses import dataclass

import numpy as np

from golden.diffusion.layers.base import Layer, Role, Shape


@dataclass(frozen=True, eq=False)
class Mean(Layer, kind="mean", role=Role.MEAN, channel_axis=-1, linear=True):
    """Mean of each channel over the pixels of an image."""

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Average ``(batch, channels, height, width)`` to ``(batch, channels)``."""
        return self.averaged(x).mean(axis=-1)

    def averaged(self, x: np.ndarray) -> np.ndarray:
        """Pixels that each mean is of, along the last axis."""
        return x.reshape(*x.shape[:2], -1)

    def shape(self, *shapes: Shape) -> Shape:
        """``(batch, channels)``."""
        (x,) = shapes
        self._check(len(x) > 2, "values with positions", x)
        return x[:2]


@dataclass(frozen=True, eq=False)
class AveragePool(Layer, kind="average_pool", role=Role.MEAN, linear=True):
    """Every square of `factor` by `factor` pixels becomes their mean.

    Parameters
    ----------
    factor : int
        Side of the square; rows and columns past the last whole one are dropped.
    """

    factor: int = 2

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Reduce images ``(batch, channels, height, width)``."""
        return self.averaged(x).mean(axis=-1)

    def averaged(self, x: np.ndarray) -> np.ndarray:
        """Pixels that each mean is of, along a last axis of their own."""
        batch, channels, height, width = self.shape(x.shape)
        whole = x[:, :, : height * self.factor, : width * self.factor]
        squares = whole.reshape(batch, channels, height, self.factor, width, self.factor).swapaxes(3, 4)
        return squares.reshape(batch, channels, height, width, -1)

    def shape(self, *shapes: Shape) -> Shape:
        """Height and width over `factor`."""
        (x,) = shapes
        self._check(len(x) == 4 and min(x[2:]) >= self.factor, f"images of at least {self.factor} pixels a side", x)
        return (*x[:2], x[2] // self.factor, x[3] // self.factor)
