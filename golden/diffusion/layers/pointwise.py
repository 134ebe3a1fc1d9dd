"""Elementwise functions of one value, and softmax."""

import math
from dataclasses import dataclass

import numpy as np

from golden.diffusion.layers.base import Layer, Role

_erf = np.frompyfunc(math.erf, 1, 1)


@dataclass(frozen=True, eq=False)
class ReLU(Layer, kind="relu", role=Role.ACTIVATION):
    """``max(x, 0)``."""

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Clamp below at zero."""
        return np.maximum(x, np.float32(0))


@dataclass(frozen=True, eq=False)
class SiLU(Layer, kind="silu", role=Role.ACTIVATION, function="silu"):
    """``x / (1 + exp(-x))``."""

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Multiply by the logistic function."""
        with np.errstate(over="ignore"):  # exp(-x) is infinite where the result is 0
            return x / (np.float32(1) + np.exp(-x))


@dataclass(frozen=True, eq=False)
class GELU(Layer, kind="gelu", role=Role.ACTIVATION, function="gelu"):
    """Gaussian error linear unit in its tanh form: ``x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))``.

    Source: Hendrycks and Gimpel, *Gaussian error linear units*, 2016.
    """

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Weight by the approximate normal distribution."""
        inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * (x * x * x))
        return np.float32(0.5) * x * (np.float32(1) + np.tanh(inner))


@dataclass(frozen=True, eq=False)
class ErfGELU(Layer, kind="erf_gelu", role=Role.ACTIVATION, function="erf_gelu"):
    """Gaussian error linear unit in its exact form: ``x/2 (1 + erf(x / sqrt(2)))``.

    Source: Hendrycks and Gimpel, *Gaussian error linear units*, 2016.
    """

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Weight by the normal distribution."""
        return x * ((1 + _erf(x / math.sqrt(2))) / 2).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Softmax(Layer, kind="softmax", role=Role.SOFTMAX, function="exp"):
    """``exp(x) / sum(exp(x))`` along the last axis."""

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Normalised exponentials; the largest is subtracted first, so nothing overflows."""
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)
