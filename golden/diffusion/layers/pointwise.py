"""Elementwise functions of one value, and softmax."""

import math
from dataclasses import dataclass

import numpy as np

from golden.diffusion.layers.base import Layer, Role

# W. J. Cody, "Rational Chebyshev approximations for the error function", 1969, as in SPECFUN's CALERF: erf(z) = z A/B
# of z^2 up to 0.46875, erfc(z) = exp(-z^2) C/D of z up to 4; leading coefficient first, ...
_A = (1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2, 3.77485237685302021e2, 3.20937758913846947e3)
_B = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
_C = (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1, 2.98635138197400131e2)
_C += (8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3)
_D = (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3)
_D += (3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3)
# ... and past 4 the second quotient errs by less than the 1.6e-8 that erfc(4) is.


def erf(x: np.ndarray) -> np.ndarray:
    """Error function in float64, to 1e-14 up to 4 and to 1e-8 past it."""
    z = np.abs(np.asarray(x, np.float64))
    square = np.minimum(z, 0.46875) ** 2
    near = z * np.polyval(_A, square) / np.polyval(_B, square)
    z = np.minimum(z, 6.0)
    far = 1 - np.exp(-(z**2)) * np.polyval(_C, z) / np.polyval(_D, z)
    return np.copysign(np.where(z <= 0.46875, near, far), x)


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
        return x * ((1 + erf(x / math.sqrt(2))) / 2).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Softmax(Layer, kind="softmax", role=Role.SOFTMAX, function="exp"):
    """``exp(x) / sum(exp(x))`` along the last axis."""

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Normalised exponentials; the largest is subtracted first, so nothing overflows."""
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)
