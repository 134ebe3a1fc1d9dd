"""Layers that contract: convolution, linear, and the product of two activations."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from golden.diffusion.layers.base import Layer, Role, Shape, Weighted


@dataclass(frozen=True, eq=False)
class Convolution(Weighted):
    """Two-dimensional convolution with odd square kernel, zero padding of half the kernel, and a stride.

    Parameters
    ----------
    weight : float32 (out, in, kernel, kernel)
        Kernel, in the orientation of a cross-correlation.
    bias : float32 (out,)
        Added to each output channel.
    stride : int
        Step between neighbouring outputs, in pixels.
    """

    stride: int = 1
    kind: ClassVar[str] = "convolution"
    role: ClassVar[Role] = Role.PRODUCT
    channel_axis: ClassVar[int | None] = -3
    linear: ClassVar[bool] = True

    @property
    def contracted(self) -> tuple[int, ...]:
        """Input channels."""
        return (-3,)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Convolve images ``(batch, in, height, width)``."""
        return self.product(x, self.weight, self.bias)

    def product(self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
        """Convolve with other weights of the same shape, and add no bias unless one is given."""
        batch, _, height, width = self.shape(x.shape)
        y = weight.reshape(len(weight), -1) @ self.columns(x)
        if bias is not None:
            y += bias[:, None]
        return np.ascontiguousarray(y.reshape(-1, batch, height, width).transpose(1, 0, 2, 3))

    def columns(self, x: np.ndarray) -> np.ndarray:
        """Operand of the matrix product: ``(in * kernel * kernel, batch * height * width)``, row order of `weight`."""
        batch, _, height, width = self.shape(x.shape)
        channels, size = x.shape[1], self.weight.shape[2]
        planes = x.transpose(1, 0, 2, 3)
        if size == 1:
            return planes[:, :, :: self.stride, :: self.stride].reshape(channels, -1)
        pad = size // 2
        padded = np.zeros((channels, batch, x.shape[2] + 2 * pad, x.shape[3] + 2 * pad), x.dtype)
        padded[:, :, pad:-pad, pad:-pad] = planes
        taps = np.empty((channels, size, size, batch, height, width), x.dtype)
        for i in range(size):
            for j in range(size):
                bottom, right = i + self.stride * height, j + self.stride * width
                taps[:, i, j] = padded[:, :, i : bottom : self.stride, j : right : self.stride]
        return taps.reshape(channels * size * size, -1)

    def shape(self, *shapes: Shape) -> Shape:
        """``(batch, out, ceil(height / stride), ceil(width / stride))``."""
        batch, _, height, width = shapes[0]
        return (batch, len(self.weight), -(-height // self.stride), -(-width // self.stride))

    def macs(self, *shapes: Shape) -> int:
        """One for each weight and output position; padding counts."""
        batch, _, height, width = self.shape(*shapes)
        return batch * height * width * self.weight.size


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


@dataclass(frozen=True, eq=False)
class Linear(Weighted):
    """Matrix product with the last axis: ``y = x @ weight.T + bias``.

    Parameters
    ----------
    weight : float32 (out, in)
        Matrix.
    bias : float32 (out,)
        Added to each output channel.
    """

    kind: ClassVar[str] = "linear"
    role: ClassVar[Role] = Role.PRODUCT
    channel_axis: ClassVar[int | None] = -1
    linear: ClassVar[bool] = True

    @property
    def contracted(self) -> tuple[int, ...]:
        """The last axis."""
        return (-1,)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Multiply ``(..., in)``."""
        return self.product(x, self.weight) + self.bias

    def product(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Multiply by other weights of the same shape, without bias."""
        return x @ weight.T

    def shape(self, *shapes: Shape) -> Shape:
        """``(..., out)``."""
        return (*shapes[0][:-1], len(self.weight))

    def macs(self, *shapes: Shape) -> int:
        """One for each weight and row."""
        return int(np.prod(shapes[0][:-1])) * self.weight.size


@dataclass(frozen=True, eq=False)
class MatMul(Layer):
    """Product of two activations, ``scale * a @ b`` or ``scale * a @ b.T``: both operands change from step to step.

    Parameters
    ----------
    transposed : bool
        Contract the last axes of both (queries with keys) rather than the last of `a` with the first of `b`.
    scale : float
        Factor of the product.
    """

    transposed: bool = False
    scale: float = 1.0
    kind: ClassVar[str] = "matmul"
    role: ClassVar[Role] = Role.PRODUCT
    channel_axis: ClassVar[int | None] = -1
    linear: ClassVar[bool] = True

    @property
    def contracted(self) -> tuple[int, ...]:
        """The last axis of `a`; of `b` the last axis but one, or the last if transposed."""
        return (-1, -1 if self.transposed else -2)

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Multiply ``(..., rows, inner)`` by ``(..., inner, columns)``, or by ``(..., columns, inner)``."""
        y = a @ (b.swapaxes(-1, -2) if self.transposed else b)
        return y if self.scale == 1.0 else y * np.float32(self.scale)

    def shape(self, *shapes: Shape) -> Shape:
        """``(..., rows, columns)``."""
        a, b = shapes
        return (*a[:-1], b[-2] if self.transposed else b[-1])

    def macs(self, *shapes: Shape) -> int:
        """Rows times columns times the contracted dimension."""
        return int(np.prod(self.shape(*shapes))) * shapes[0][-1]
