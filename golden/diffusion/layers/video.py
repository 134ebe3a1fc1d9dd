"""Tokens of several frames: ``(batch, frames, tokens, channels)``, and what attention along time needs.

The batch axis stays the first one throughout: whoever keeps state for each item of the batch can go on doing so.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from golden.diffusion.layers.base import Layer, Role, Shape


@dataclass(frozen=True, eq=False)
class FramePatches(Layer):
    """Every frame as tokens, one for each square of `size` by `size` pixels, row by row.

    A token holds channel after channel, row by row: a patch of ``(1, size, size)``.

    Parameters
    ----------
    size : int
        Side of a patch; divides height and width.
    """

    size: int = 2
    kind: ClassVar[str] = "frame_patches"
    role: ClassVar[Role] = Role.MOVE
    channel_axis: ClassVar[int | None] = -1
    linear: ClassVar[bool] = True

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Turn ``(batch, channels, frames, height, width)`` into ``(batch, frames, patches, channels * size^2)``."""
        batch, channels, frames, height, width = x.shape
        parts = x.reshape(batch, channels, frames, height // self.size, self.size, width // self.size, self.size)
        return parts.transpose(0, 2, 3, 5, 1, 4, 6).reshape(self.shape(x.shape))

    def shape(self, *shapes: Shape) -> Shape:
        """``(batch, frames, patches, channels * size^2)``."""
        batch, channels, frames, height, width = shapes[0]
        return (batch, frames, (height // self.size) * (width // self.size), channels * self.size**2)


@dataclass(frozen=True, eq=False)
class FrameUnpatch(Layer):
    """Tokens of frames as pixels; a token holds row by row of its patch, channels last.

    Parameters
    ----------
    size : int
        Side of a patch.
    rows : int
        Rows of patches in a frame; divides its tokens.
    """

    size: int = 2
    rows: int = 1
    kind: ClassVar[str] = "frame_unpatch"
    role: ClassVar[Role] = Role.MOVE
    channel_axis: ClassVar[int | None] = -4
    linear: ClassVar[bool] = True

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Turn ``(batch, frames, patches, size^2 * channels)`` into ``(batch, channels, frames, height, width)``."""
        batch, channels, frames, height, width = self.shape(x.shape)
        parts = x.reshape(batch, frames, self.rows, width // self.size, self.size, self.size, channels)
        return parts.transpose(0, 6, 1, 2, 4, 3, 5).reshape(batch, channels, frames, height, width)

    def shape(self, *shapes: Shape) -> Shape:
        """``(batch, channels, frames, rows * size, columns * size)``."""
        batch, frames, tokens, channels = shapes[0]
        return (batch, channels // self.size**2, frames, self.rows * self.size, tokens // self.rows * self.size)


@dataclass(frozen=True, eq=False)
class Permuted(Layer):
    """Axes in another order: ``(0, 2, 1, 3)`` brings the tokens of one place in all frames together.

    Parameters
    ----------
    axes : tuple of int
        For each axis of the result, the axis of the value it is; the batch axis stays first.
    """

    axes: tuple[int, ...] = (0, 2, 1, 3)
    kind: ClassVar[str] = "permuted"
    role: ClassVar[Role] = Role.MOVE
    linear: ClassVar[bool] = True

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Permute the axes."""
        return np.ascontiguousarray(x.transpose(self.axes))

    def shape(self, *shapes: Shape) -> Shape:
        """The lengths in the new order."""
        return tuple(shapes[0][axis] for axis in self.axes)


@dataclass(frozen=True, eq=False)
class Merged(Layer):
    """Tokens of all frames in one row, frame after frame."""

    kind: ClassVar[str] = "merged"
    role: ClassVar[Role] = Role.MOVE
    linear: ClassVar[bool] = True

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Turn ``(batch, frames, tokens, channels)`` into ``(batch, frames * tokens, channels)``."""
        return x.reshape(self.shape(x.shape))

    def shape(self, *shapes: Shape) -> Shape:
        """``(batch, frames * tokens, channels)``."""
        batch, frames, tokens, channels = shapes[0]
        return (batch, frames * tokens, channels)


@dataclass(frozen=True, eq=False)
class Framed(Layer):
    """One row of tokens as those of several frames: the inverse of `Merged`.

    Parameters
    ----------
    frames : int
        Number of frames; divides the tokens.
    """

    frames: int = 1
    kind: ClassVar[str] = "framed"
    role: ClassVar[Role] = Role.MOVE
    linear: ClassVar[bool] = True

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Turn ``(batch, frames * tokens, channels)`` into ``(batch, frames, tokens, channels)``."""
        return x.reshape(self.shape(x.shape))

    def shape(self, *shapes: Shape) -> Shape:
        """``(batch, frames, tokens, channels)``."""
        batch, tokens, channels = shapes[0]
        return (batch, self.frames, tokens // self.frames, channels)


@dataclass(frozen=True, eq=False)
class Rotary(Layer):
    """Rotary position embedding: neighbouring pairs of channels are turned by an angle that grows with the token.

    With pair j of ``width / 2`` and token p the angle is ``p * period ** (-2 j / width)``; the product of a query and a
    key then depends on their distance only. Source: Su et al., *RoFormer*, 2021, section 3.2.

    Parameters
    ----------
    period : float
        Longest wavelength over 2 pi, in tokens.
    """

    period: float = 10_000.0
    kind: ClassVar[str] = "rotary"
    role: ClassVar[Role] = Role.SCALE
    linear: ClassVar[bool] = True

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Turn ``(..., tokens, width)``."""
        tokens, width = x.shape[-2:]
        # float64 inside, as for the encoding of timesteps
        angle = np.arange(tokens)[:, None] * self.period ** (-2 * np.arange(width // 2) / width)
        cosine, sine = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        even, odd = x[..., 0::2], x[..., 1::2]
        y = np.empty_like(x)
        y[..., 0::2] = even * cosine - odd * sine
        y[..., 1::2] = odd * cosine + even * sine
        return y
