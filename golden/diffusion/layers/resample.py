"""Images made smaller in other ways than by a centred convolution."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from golden.diffusion.layers.base import Layer, Role, Shape
from golden.diffusion.layers.contraction import Convolution


@dataclass(frozen=True, eq=False)
class AveragePool(Layer):
    """Every square of `factor` by `factor` pixels becomes their mean.

    Parameters
    ----------
    factor : int
        Side of the square; rows and columns past the last whole one are dropped.
    """

    factor: int = 2
    kind: ClassVar[str] = "average_pool"
    role: ClassVar[Role] = Role.MEAN
    linear: ClassVar[bool] = True

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
        batch, channels, height, width = shapes[0]
        return (batch, channels, height // self.factor, width // self.factor)


@dataclass(frozen=True, eq=False)
class CornerConvolution(Convolution):
    """Convolution with stride whose zero padding stands below and to the right only, one pixel (as in Ho et al., 2020).

    Output ``[i, j]`` reads from ``[stride * i, stride * j]`` on. Its kind is that of any convolution:
    an executor that multiplies by `product` or `columns` need not know.
    """

    def columns(self, x: np.ndarray) -> np.ndarray:
        """As for `Convolution`."""
        batch, _, height, width = self.shape(x.shape)
        channels, size = x.shape[1], self.weight.shape[2]
        padded = np.pad(x.transpose(1, 0, 2, 3), ((0, 0), (0, 0), (0, 1), (0, 1)))
        taps = np.empty((channels, size, size, batch, height, width), x.dtype)
        for i in range(size):
            for j in range(size):
                bottom, right = i + self.stride * height, j + self.stride * width
                taps[:, i, j] = padded[:, :, i : bottom : self.stride, j : right : self.stride]
        return taps.reshape(channels * size * size, -1)

    def shape(self, *shapes: Shape) -> Shape:
        """``(batch, out, rows, columns)``, with ``(height + 1 - kernel) // stride + 1`` rows."""
        batch, _, height, width = shapes[0]
        size = self.weight.shape[2]
        return (batch, len(self.weight), *((side + 1 - size) // self.stride + 1 for side in (height, width)))
