"""Elementwise functions of one value, and softmax."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from golden.diffusion.layers.base import Layer, Role


@dataclass(frozen=True, eq=False)
class ReLU(Layer):
    """``max(x, 0)``."""

    kind: ClassVar[str] = "relu"
    role: ClassVar[Role] = Role.ACTIVATION

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Clamp below at zero."""
        return np.maximum(x, np.float32(0))


@dataclass(frozen=True, eq=False)
class Softmax(Layer):
    """``exp(x) / sum(exp(x))`` along the last axis."""

    kind: ClassVar[str] = "softmax"
    role: ClassVar[Role] = Role.SOFTMAX
    table: ClassVar[str | None] = "exp"

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Normalised exponentials; the largest is subtracted first, so nothing overflows."""
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)


@dataclass(frozen=True, eq=False)
class SiLU(Layer):
    """``x / (1 + exp(-x))``."""

    kind: ClassVar[str] = "silu"
    role: ClassVar[Role] = Role.ACTIVATION
    table: ClassVar[str | None] = "silu"

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Multiply by the logistic function."""
        with np.errstate(over="ignore"):  # exp(-x) is infinite where the result is 0
            return x / (np.float32(1) + np.exp(-x))


@dataclass(frozen=True, eq=False)
class GELU(Layer):
    """Gaussian error linear unit in its tanh form: ``x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))``.

    Source: Hendrycks and Gimpel, *Gaussian error linear units*, 2016.
    """

    kind: ClassVar[str] = "gelu"
    role: ClassVar[Role] = Role.ACTIVATION
    table: ClassVar[str | None] = "gelu"

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Weight by the approximate normal distribution."""
        inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * (x * x * x))
        return np.float32(0.5) * x * (np.float32(1) + np.tanh(inner))
