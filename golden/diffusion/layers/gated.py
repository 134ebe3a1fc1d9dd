"""Gated feed-forward: GELU by the error function, and the product of two values (GEGLU: Shazeer, 2020)."""

import math
from dataclasses import dataclass
from typing import ClassVar

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
class ErfGELU(Layer):
    """Gaussian error linear unit in its exact form: ``x/2 (1 + erf(x / sqrt(2)))``.

    Source: Hendrycks and Gimpel, *Gaussian error linear units*, 2016.
    """

    kind: ClassVar[str] = "erf_gelu"
    role: ClassVar[Role] = Role.ACTIVATION
    table: ClassVar[str | None] = "erf_gelu"

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Weight by the normal distribution."""
        return x * ((1 + erf(x / math.sqrt(2))) / 2).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Multiply(Layer):
    """Product of two values of one shape, element by element: the gate of GEGLU. Both change from step to step."""

    kind: ClassVar[str] = "multiply"
    role: ClassVar[Role] = Role.SCALE
    linear: ClassVar[bool] = True

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Multiply elementwise."""
        return a * b
