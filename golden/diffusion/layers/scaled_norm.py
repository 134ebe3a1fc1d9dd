"""Normalisations of the last axis with learnt factors of their own."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from golden.diffusion.layers.base import Layer, Role, Weighted


@dataclass(frozen=True, eq=False)
class AffineLayerNorm(Weighted):
    """Normalise the last axis to mean 0 and variance 1, then scale and shift each channel.

    Parameters
    ----------
    weight, bias : float32 (channels,)
        Scale and shift.
    epsilon : float
        Added to the variance.
    """

    epsilon: float = 1e-5
    kind: ClassVar[str] = "affine_layer_norm"
    role: ClassVar[Role] = Role.NORM

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Normalise ``(..., channels)`` with its own statistics."""
        return self.normalised(x, *self.statistics(x))

    def normalised(self, x: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        """Normalise with the given statistics."""
        return (x - mean[..., None]) / deviation[..., None] * self.weight + self.bias

    def statistics(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (with `epsilon` under the root) of each row, both without the last axis."""
        mean = x.mean(axis=-1)
        variance = np.square(x - mean[..., None]).mean(axis=-1)
        return mean, np.sqrt(variance + np.float32(self.epsilon))


@dataclass(frozen=True, eq=False)
class RMSNorm(Layer):
    """Divide the last axis by its root mean square, then scale each channel.

    Source: Zhang and Sennrich, *Root mean square layer normalization*, 2019. Of queries and keys it is QK-norm.

    Parameters
    ----------
    weight : float32 (channels,)
        Scale.
    epsilon : float
        Added to the mean square.
    """

    weight: np.ndarray
    epsilon: float = 1e-6
    kind: ClassVar[str] = "rms_norm"
    role: ClassVar[Role] = Role.NORM

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Normalise ``(..., channels)`` with its own statistics."""
        return self.normalised(x, *self.statistics(x))

    def normalised(self, x: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        """Normalise with the given statistics."""
        return (x - mean[..., None]) / deviation[..., None] * self.weight

    def statistics(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean, which counts as 0, and root mean square (with `epsilon`) of each row, both without the last axis."""
        square = np.square(x).mean(axis=-1)
        return np.zeros_like(square), np.sqrt(square + np.float32(self.epsilon))

    def parameters(self) -> dict[str, np.ndarray]:
        """``weight``."""
        return {"weight": self.weight}
