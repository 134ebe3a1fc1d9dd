"""Normalisations with current statistics."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from golden.diffusion.layers.base import Layer, Role, Weighted


@dataclass(frozen=True, eq=False)
class GroupNorm(Weighted):
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
    role: ClassVar[Role] = Role.NORM

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Normalise images ``(batch, channels, height, width)`` with their own statistics."""
        return self.normalised(x, *self.statistics(x))

    def normalised(self, x: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        """Normalise with the given statistics."""
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
class LayerNorm(Layer):
    """Normalise the last axis to mean 0 and variance 1, without scale and shift of its own (adaLN gives them).

    Parameters
    ----------
    epsilon : float
        Added to the variance.
    """

    epsilon: float = 1e-6
    kind: ClassVar[str] = "layer_norm"
    role: ClassVar[Role] = Role.NORM

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Normalise ``(..., channels)`` with its own statistics."""
        return self.normalised(x, *self.statistics(x))

    def normalised(self, x: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        """Normalise with the given statistics."""
        return (x - mean[..., None]) / deviation[..., None]

    def statistics(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (with `epsilon` under the root) of each row, both without the last axis."""
        mean = x.mean(axis=-1)
        variance = np.square(x - mean[..., None]).mean(axis=-1)
        return mean, np.sqrt(variance + np.float32(self.epsilon))
