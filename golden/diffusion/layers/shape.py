"""The same values in another order or number."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from golden.diffusion.layers.base import Layer, Role, Shape


@dataclass(frozen=True, eq=False)
class Upsample(Layer):
    """Every pixel becomes a square of `factor` by `factor` equal pixels (nearest neighbour)."""

    factor: int = 2
    kind: ClassVar[str] = "upsample"
    role: ClassVar[Role] = Role.MOVE
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
    role: ClassVar[Role] = Role.MEAN
    channel_axis: ClassVar[int | None] = -1
    linear: ClassVar[bool] = True

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Average ``(batch, channels, height, width)`` to ``(batch, channels)``."""
        return self.averaged(x).mean(axis=-1)

    def averaged(self, x: np.ndarray) -> np.ndarray:
        """Pixels that each mean is of, along the last axis."""
        return x.reshape(*x.shape[:2], -1)

    def shape(self, *shapes: Shape) -> Shape:
        """``(batch, channels)``."""
        return shapes[0][:2]


@dataclass(frozen=True, eq=False)
class Tokens(Layer):
    """An image as tokens, one for each pixel, row by row."""

    kind: ClassVar[str] = "tokens"
    role: ClassVar[Role] = Role.MOVE
    channel_axis: ClassVar[int | None] = -1
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
    role: ClassVar[Role] = Role.MOVE
    channel_axis: ClassVar[int | None] = -3
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
class Patches(Layer):
    """Squares of `size` by `size` pixels as tokens, row by row; a token holds channel after channel, row by row.

    Parameters
    ----------
    size : int
        Side of a patch; divides height and width.
    """

    size: int = 2
    kind: ClassVar[str] = "patches"
    role: ClassVar[Role] = Role.MOVE
    channel_axis: ClassVar[int | None] = -1
    linear: ClassVar[bool] = True

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Turn ``(batch, channels, height, width)`` into ``(batch, patches, channels * size * size)``."""
        batch, channels, height, width = x.shape
        parts = x.reshape(batch, channels, height // self.size, self.size, width // self.size, self.size)
        return parts.transpose(0, 2, 4, 1, 3, 5).reshape(self.shape(x.shape))

    def shape(self, *shapes: Shape) -> Shape:
        """``(batch, patches, channels * size * size)``."""
        batch, channels, height, width = shapes[0]
        return (batch, (height // self.size) * (width // self.size), channels * self.size**2)


@dataclass(frozen=True, eq=False)
class Unpatch(Layer):
    """Tokens of a square image as pixels; a token holds row by row of its patch, channels last (as in DiT).

    Parameters
    ----------
    size : int
        Side of a patch.
    """

    size: int = 2
    kind: ClassVar[str] = "unpatch"
    role: ClassVar[Role] = Role.MOVE
    channel_axis: ClassVar[int | None] = -3
    linear: ClassVar[bool] = True

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Turn ``(batch, side * side, size * size * channels)`` into an image of ``channels``."""
        batch, channels, height, width = self.shape(x.shape)
        parts = x.reshape(batch, height // self.size, width // self.size, self.size, self.size, channels)
        return parts.transpose(0, 5, 1, 3, 2, 4).reshape(batch, channels, height, width)

    def shape(self, *shapes: Shape) -> Shape:
        """``(batch, channels, side * size, side * size)``."""
        batch, tokens, channels = shapes[0]
        side = round(tokens**0.5) * self.size
        return (batch, channels // self.size**2, side, side)


@dataclass(frozen=True, eq=False)
class Heads(Layer):
    """Channels of tokens as attention heads, each with its own neighbouring channels.

    Parameters
    ----------
    heads : int
        Number of heads; divides the channels.
    """

    heads: int = 1
    kind: ClassVar[str] = "heads"
    role: ClassVar[Role] = Role.MOVE
    linear: ClassVar[bool] = True

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Turn ``(batch, ..., tokens, channels)`` into ``(batch, ..., heads, tokens, channels / heads)``."""
        return x.reshape(*x.shape[:-1], self.heads, -1).swapaxes(-2, -3)

    def shape(self, *shapes: Shape) -> Shape:
        """``(batch, ..., heads, tokens, channels / heads)``."""
        *outer, tokens, channels = shapes[0]
        return (*outer, self.heads, tokens, channels // self.heads)


@dataclass(frozen=True, eq=False)
class Joined(Layer):
    """Attention heads side by side as the channels of tokens: the inverse of `Heads`."""

    kind: ClassVar[str] = "joined"
    role: ClassVar[Role] = Role.MOVE
    linear: ClassVar[bool] = True

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Turn ``(batch, ..., heads, tokens, width)`` into ``(batch, ..., tokens, heads * width)``."""
        return x.swapaxes(-2, -3).reshape(self.shape(x.shape))

    def shape(self, *shapes: Shape) -> Shape:
        """``(batch, ..., tokens, heads * width)``."""
        *outer, heads, tokens, width = shapes[0]
        return (*outer, tokens, heads * width)


@dataclass(frozen=True, eq=False)
class Part(Layer):
    """One of several equal parts of the last axis.

    Parameters
    ----------
    index, parts : int
        Which part of how many; `parts` divides the axis.
    """

    index: int = 0
    parts: int = 1
    kind: ClassVar[str] = "part"
    role: ClassVar[Role] = Role.MOVE
    linear: ClassVar[bool] = True

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Take the part."""
        width = x.shape[-1] // self.parts
        return x[..., self.index * width : (self.index + 1) * width]

    def shape(self, *shapes: Shape) -> Shape:
        """Last axis over `parts`."""
        return (*shapes[0][:-1], shapes[0][-1] // self.parts)
