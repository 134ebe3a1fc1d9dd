"""The layers of a network: frozen objects that own their parameters and can be evaluated, in float32, by numpy alone.

A layer says what it is (`Layer.kind`), where it stands (`Layer.name`, and in `Layer.inputs` the names of what it
reads), and what it computes when called. Whoever wants another execution of the same network, a differential one for
instance, reads the parameters and does not call the layer.

Images are ``(batch, channels, height, width)``, tokens ``(batch, tokens, channels)``. Groups along a contracted
dimension run over input channels.
"""

from collections.abc import Sequence
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
    """

    name: str
    inputs: tuple[str, ...]
    kind: ClassVar[str] = ""
    linear: ClassVar[bool] = False

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
class _Weighted(Layer):
    weight: np.ndarray
    bias: np.ndarray

    def parameters(self) -> dict[str, np.ndarray]:
        """``weight`` and ``bias``."""
        return {"weight": self.weight, "bias": self.bias}


@dataclass(frozen=True, eq=False)
class Convolution(_Weighted):
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
    linear: ClassVar[bool] = True

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Convolve images ``(batch, in, height, width)``."""
        batch, _, height, width = self.shape(x.shape)
        rows = self.columns(x)
        y = self.weight.reshape(len(self.weight), -1) @ rows
        y += self.bias[:, None]
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
class Linear(_Weighted):
    """Matrix product with the last axis: ``y = x @ weight.T + bias``.

    Parameters
    ----------
    weight : float32 (out, in)
        Matrix.
    bias : float32 (out,)
        Added to each output channel.
    """

    kind: ClassVar[str] = "linear"
    linear: ClassVar[bool] = True

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Multiply ``(..., in)``."""
        return x @ self.weight.T + self.bias

    def shape(self, *shapes: Shape) -> Shape:
        """``(..., out)``."""
        return (*shapes[0][:-1], len(self.weight))

    def macs(self, *shapes: Shape) -> int:
        """One for each weight and row."""
        return int(np.prod(shapes[0][:-1])) * self.weight.size


@dataclass(frozen=True, eq=False)
class GroupNorm(_Weighted):
    """Normalise every group of channels of an image to mean 0 and variance 1, then scale and shift each channel.

    Parameters
    ----------
    weight, bias : float32 (channels,)
        Scale and shift.
    groups : int
        Number of groups; neighbouring channels share one.
    epsilon : float
        Added to the variance.
    """

    groups: int = 1
    epsilon: float = 1e-5
    kind: ClassVar[str] = "group_norm"

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Normalise images ``(batch, channels, height, width)`` with their own statistics."""
        mean, deviation = self.statistics(x)
        scale = self.weight.reshape(self.groups, -1) / deviation[:, :, None]
        shift = self.bias.reshape(self.groups, -1) - mean[:, :, None] * scale
        return x * scale.reshape(len(x), -1, 1, 1) + shift.reshape(len(x), -1, 1, 1)

    def statistics(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (with `epsilon` under the root) of each group, both ``(batch, groups)``."""
        grouped = x.reshape(len(x), self.groups, -1)
        mean = grouped.mean(axis=2)
        variance = np.square(grouped - mean[:, :, None]).mean(axis=2)
        return mean, np.sqrt(variance + np.float32(self.epsilon))


@dataclass(frozen=True, eq=False)
class ReLU(Layer):
    """``max(x, 0)``."""

    kind: ClassVar[str] = "relu"

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Clamp below at zero."""
        return np.maximum(x, np.float32(0))


@dataclass(frozen=True, eq=False)
class Softmax(Layer):
    """``exp(x) / sum(exp(x))`` along the last axis."""

    kind: ClassVar[str] = "softmax"

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Normalised exponentials; the largest is subtracted first, so nothing overflows."""
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)


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
    linear: ClassVar[bool] = True

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Multiply ``(batch, rows, inner)`` by ``(batch, inner, columns)``, or by ``(batch, columns, inner)``."""
        y = a @ (b.swapaxes(-1, -2) if self.transposed else b)
        return y if self.scale == 1.0 else y * np.float32(self.scale)

    def shape(self, *shapes: Shape) -> Shape:
        """``(batch, rows, columns)``."""
        a, b = shapes
        return (*a[:-1], b[-2] if self.transposed else b[-1])

    def macs(self, *shapes: Shape) -> int:
        """Rows times columns times the contracted dimension."""
        return int(np.prod(self.shape(*shapes))) * shapes[0][-1]


@dataclass(frozen=True, eq=False)
class Add(Layer):
    """Sum of two values of one shape: a residual connection."""

    kind: ClassVar[str] = "add"
    linear: ClassVar[bool] = True

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Add elementwise."""
        return a + b


@dataclass(frozen=True, eq=False)
class AddChannel(Layer):
    """An image plus one value for each channel: how the time embedding enters a block."""

    kind: ClassVar[str] = "add_channel"
    linear: ClassVar[bool] = True

    def __call__(self, x: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """Add ``(batch, channels)`` to every pixel of ``(batch, channels, height, width)``."""
        return x + shift[:, :, None, None]


@dataclass(frozen=True, eq=False)
class Concat(Layer):
    """Channels of two images side by side, the first input's first."""

    kind: ClassVar[str] = "concat"
    linear: ClassVar[bool] = True

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Concatenate along axis 1."""
        return np.concatenate([a, b], axis=1)

    def shape(self, *shapes: Shape) -> Shape:
        """Channels of both."""
        a, b = shapes
        return (a[0], a[1] + b[1], *a[2:])


@dataclass(frozen=True, eq=False)
class Upsample(Layer):
    """Every pixel becomes a square of `factor` by `factor` equal pixels (nearest neighbour)."""

    factor: int = 2
    kind: ClassVar[str] = "upsample"
    linear: ClassVar[bool] = True

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Enlarge images ``(batch, channels, height, width)``."""
        return x.repeat(self.factor, axis=2).repeat(self.factor, axis=3)

    def shape(self, *shapes: Shape) -> Shape:
        """Height and width times `factor`."""
        batch, channels, height, width = shapes[0]
        return (batch, channels, height * self.factor, width * self.factor)


@dataclass(frozen=True, eq=False)
class Mean(Layer):
    """Mean of each channel over the pixels of an image."""

    kind: ClassVar[str] = "mean"
    linear: ClassVar[bool] = True

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Average ``(batch, channels, height, width)`` to ``(batch, channels)``."""
        return x.mean(axis=(2, 3))

    def shape(self, *shapes: Shape) -> Shape:
        """``(batch, channels)``."""
        return shapes[0][:2]


@dataclass(frozen=True, eq=False)
class Tokens(Layer):
    """An image as tokens, one for each pixel, row by row."""

    kind: ClassVar[str] = "tokens"
    linear: ClassVar[bool] = True

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Turn ``(batch, channels, height, width)`` into ``(batch, height * width, channels)``."""
        return np.ascontiguousarray(x.reshape(*x.shape[:2], -1).transpose(0, 2, 1))

    def shape(self, *shapes: Shape) -> Shape:
        """``(batch, height * width, channels)``."""
        batch, channels, height, width = shapes[0]
        return (batch, height * width, channels)


@dataclass(frozen=True, eq=False)
class Image(Layer):
    """Tokens as a square image: the inverse of `Tokens`."""

    kind: ClassVar[str] = "image"
    linear: ClassVar[bool] = True

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Turn ``(batch, side * side, channels)`` into ``(batch, channels, side, side)``."""
        return np.ascontiguousarray(x.transpose(0, 2, 1)).reshape(self.shape(x.shape))

    def shape(self, *shapes: Shape) -> Shape:
        """``(batch, channels, side, side)``."""
        batch, tokens, channels = shapes[0]
        side = round(tokens**0.5)
        return (batch, channels, side, side)


@dataclass(frozen=True, eq=False)
class TimeEncoding(Layer):
    """Sinusoidal encoding of a timestep (Vaswani et al., *Attention is all you need*, 2017, section 3.5).

    Parameters
    ----------
    channels : int
        Even length of the encoding: first the cosines, then the sines.
    period : float
        Longest wavelength over 2 pi, in timesteps.
    """

    channels: int = 32
    period: float = 10_000.0
    kind: ClassVar[str] = "time_encoding"

    def __call__(self, timestep: np.ndarray) -> np.ndarray:
        """Encode ``(batch,)`` timesteps as float32 ``(batch, channels)``."""
        half = self.channels // 2
        # float64 inside: an angle near 1000 has no more than 13 good fraction bits in float32
        angle = np.asarray(timestep, np.float64)[:, None] * self.period ** (-np.arange(half) / half)
        return np.concatenate([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)

    def shape(self, *shapes: Shape) -> Shape:
        """``(batch, channels)``."""
        return (shapes[0][0], self.channels)


@dataclass(frozen=True, eq=False)
class Embedding(Layer):
    """A row of a table for each label.

    Parameters
    ----------
    weight : float32 (labels, channels)
        Table.
    """

    weight: np.ndarray
    kind: ClassVar[str] = "embedding"

    def __call__(self, label: np.ndarray) -> np.ndarray:
        """Look up ``(batch,)`` integer labels."""
        return self.weight[label]

    def parameters(self) -> dict[str, np.ndarray]:
        """``weight``."""
        return {"weight": self.weight}

    def shape(self, *shapes: Shape) -> Shape:
        """``(batch, channels)``."""
        return (shapes[0][0], self.weight.shape[1])


KINDS: Sequence[type[Layer]] = (
    Convolution,
    Linear,
    GroupNorm,
    ReLU,
    Softmax,
    MatMul,
    Add,
    AddChannel,
    Concat,
    Upsample,
    Mean,
    Tokens,
    Image,
    TimeEncoding,
    Embedding,
)
"""Every class of layer."""
