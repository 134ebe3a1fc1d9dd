"""Layers that contract: convolution, linear, and the product of two activations."""

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np

from golden.diffusion.layers.base import Layer, Role, Shape, Weighted

Padding = int | Literal["same"] | tuple[tuple[int, int], tuple[int, int]]
"""Zeros around an image, see `Convolution`."""


@dataclass(frozen=True, eq=False)
class Convolution(Weighted, kind="convolution", role=Role.PRODUCT, channel_axis=-3, linear=True):
    """Two-dimensional convolution with a square kernel, with the parameters and defaults of ``torch.nn.Conv2d``.

    Parameters
    ----------
    weight : float32 (out, in / groups, kernel, kernel)
        Kernel, in the orientation of a cross-correlation.
    bias : float32 (out,) or None
        Added to each output channel.
    stride : int
        Step between neighbouring outputs, in pixels.
    padding : int, "same" or two pairs of int
        Zeros at every side; as many as keep the size of the image, the odd one below and to the right; or those above
        and below, and to the left and right.
    dilation : int
        Distance between neighbouring taps, in pixels.
    groups : int
        Equal parts of the input channels, each read by its own equal part of the output channels.

    Raises
    ------
    ValueError
        If the kernel is not square, or a rule above is broken, by the layer's name.
    """

    stride: int = 1
    padding: Padding = 0
    dilation: int = 1
    groups: int = 1

    def __post_init__(self) -> None:
        """Check every rule."""
        owner, shape = f"layer {self.name!r}", self.weight.shape
        if len(shape) != 4 or shape[2] != shape[3] or not shape[2]:
            raise ValueError(f"Weight of {owner} must be (out, in / groups, kernel, kernel), not {shape}")
        for field in ("stride", "dilation", "groups"):
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{field.capitalize()} of {owner} must be a positive integer, not {value!r}")
        if len(self.weight) % self.groups:
            raise ValueError(f"Groups of {owner} must divide its {len(self.weight)} outputs, not be {self.groups}")
        if self.padding == "same":
            if self.stride != 1:
                raise ValueError(f"Padding of {owner} must be numbers where the stride is {self.stride}, not 'same'")
        elif np.shape(self.padding) not in ((), (2, 2)) or not all(
            isinstance(zeros, int) and zeros >= 0 for side in self.margins for zeros in side
        ):
            raise ValueError(
                f"Padding of {owner} must be an integer from 0 on, 'same' or two pairs of them, not {self.padding!r}"
            )

    @property
    def margins(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Zeros above and below, and to the left and right."""
        if self.padding == "same":
            zeros = self.dilation * (self.weight.shape[2] - 1)
            return ((zeros // 2, zeros - zeros // 2),) * 2
        return ((self.padding, self.padding),) * 2 if isinstance(self.padding, int) else self.padding

    @property
    def plain(self) -> bool:
        """Whether half of an odd kernel is padded at each side, without dilation or groups."""
        half, odd = divmod(self.weight.shape[2], 2)
        return bool(odd) and self.margins == ((half, half),) * 2 and self.dilation == self.groups == 1

    @property
    def contracted(self) -> tuple[int, ...]:
        """Input channels."""
        return (-3,)

    @functools.cached_property
    def whole_weight(self) -> np.ndarray:
        """Weight over all input channels, ``(out, in, kernel, kernel)``: zeros where an output is of another group."""
        if self.groups == 1:
            return self.weight
        outs, ins = len(self.weight) // self.groups, self.weight.shape[1]
        whole = np.zeros((len(self.weight), ins * self.groups, *self.weight.shape[2:]), self.weight.dtype)
        for group in range(self.groups):
            rows = slice(group * outs, (group + 1) * outs)
            whole[rows, group * ins : (group + 1) * ins] = self.weight[rows]
        return whole

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Convolve images ``(batch, in, height, width)``."""
        return self.product(x, self.weight, self.bias)

    def product(self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
        """Convolve with other weights, of the shape of `weight` or `whole_weight`; no bias unless one is given."""
        batch, _, height, width = self.shape(x.shape)
        groups = x.shape[1] // weight.shape[1]
        y = weight.reshape(groups, len(weight) // groups, -1) @ self.columns(x).reshape(groups, weight[0].size, -1)
        y = y.reshape(len(weight), -1)
        if bias is not None:
            y += bias[:, None]
        return np.ascontiguousarray(y.reshape(-1, batch, height, width).transpose(1, 0, 2, 3))

    def columns(self, x: np.ndarray) -> np.ndarray:
        """Operand of the matrix product: ``(in * kernel * kernel, batch * height * width)``, as rows of a weight."""
        batch, _, height, width = self.shape(x.shape)
        channels, size, stride = x.shape[1], self.weight.shape[2], self.stride
        planes = x.transpose(1, 0, 2, 3)
        if self.margins != ((0, 0), (0, 0)):
            planes = np.pad(planes, ((0, 0), (0, 0), *self.margins))
        if size == 1:
            return planes[:, :, ::stride, ::stride].reshape(channels, -1)
        taps = np.empty((channels, size, size, batch, height, width), x.dtype)
        for i, j in np.ndindex(size, size):
            top, left = i * self.dilation, j * self.dilation
            taps[:, i, j] = planes[:, :, top : top + stride * height : stride, left : left + stride * width : stride]
        return taps.reshape(channels * size * size, -1)

    def shape(self, *shapes: Shape) -> Shape:
        """``(batch, out, rows, columns)``: of padded sides less ``dilation (kernel - 1)`` every stride-th place."""
        (x,) = shapes
        _, ins, size, _ = self.weight.shape
        self._check(len(x) == 4 and x[1] == ins * self.groups, f"images of {ins * self.groups} channels", x)
        span = self.dilation * (size - 1)
        rows, columns = (
            (side + sum(zeros) - span - 1) // self.stride + 1 for side, zeros in zip(x[2:], self.margins, strict=True)
        )
        self._check(min(rows, columns) > 0, f"images that with their padding are not smaller than {span + 1}", x)
        return (x[0], len(self.weight), rows, columns)

    def macs(self, *shapes: Shape) -> int:
        """One for each weight and output position; padding counts."""
        batch, _, height, width = self.shape(*shapes)
        return batch * height * width * self.weight.size


@dataclass(frozen=True, eq=False)
class Linear(Weighted, kind="linear", role=Role.PRODUCT, channel_axis=-1, linear=True):
    """Matrix product with the last axis: ``y = x @ weight.T + bias``.

    Parameters
    ----------
    weight : float32 (out, in)
        Matrix.
    bias : float32 (out,) or None
        Added to each output channel.
    """

    @property
    def contracted(self) -> tuple[int, ...]:
        """The last axis."""
        return (-1,)

    @property
    def whole_weight(self) -> np.ndarray:
        """The weight."""
        return self.weight

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Multiply ``(..., in)``."""
        y = self.product(x, self.weight)
        return y if self.bias is None else y + self.bias

    def product(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Multiply by other weights of the same shape, without bias."""
        return x @ weight.T

    def shape(self, *shapes: Shape) -> Shape:
        """``(..., out)``."""
        (x,) = shapes
        self._check(x[-1] == self.weight.shape[1], f"values of {self.weight.shape[1]} channels", x)
        return (*x[:-1], len(self.weight))

    def macs(self, *shapes: Shape) -> int:
        """One for each weight and row."""
        return int(np.prod(shapes[0][:-1])) * self.weight.size


@dataclass(frozen=True, eq=False)
class MatMul(Layer, kind="matmul", role=Role.PRODUCT, channel_axis=-1, linear=True):
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
        inner = b[-1 if self.transposed else -2]
        self._check(a[:-2] == b[:-2] and a[-1] == inner, "values that agree in all but one axis", a, b)
        return (*a[:-1], b[-2] if self.transposed else b[-1])

    def macs(self, *shapes: Shape) -> int:
        """Rows times columns times the contracted dimension."""
        return int(np.prod(self.shape(*shapes))) * shapes[0][-1]
