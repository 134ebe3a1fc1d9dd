"""Values between layers, as near memory holds them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from golden.diffusion.differential.quantise import Passes


@dataclasses.dataclass(frozen=True, eq=False)
class Fixed:
    """A tensor of integers.

    Members
    -------
    counts : float32 array
        Integers of at most 24 bits.
    unit : int, or int array broadcast against `counts`
        The real value is ``factor * counts * 2^unit``; pieces of a concatenation have units of their own.
    factor : float
        Of a product, no power of two: it belongs to whoever reads the value.
    """

    counts: np.ndarray
    unit: int | np.ndarray
    factor: float = 1.0

    @property
    def real(self) -> np.ndarray:
        """The values, float32."""
        return np.ldexp(self.counts * np.float64(self.factor), self.unit).astype(np.float32)

    def moved(self, move: Callable[[np.ndarray], np.ndarray]) -> "Fixed":
        """The same elements in another order."""
        unit = self.unit
        if isinstance(unit, np.ndarray):
            unit = move(np.broadcast_to(unit, self.counts.shape))
        return Fixed(move(self.counts), unit, self.factor)


@dataclasses.dataclass(frozen=True, eq=False)
class Change:
    """What a product adds to its state, before the bias is known.

    Members
    -------
    counts : float32 array
        In units of the state.
    start : bool, or bool (batch,)
        Whether the state starts anew; which items do.
    unit : int
        Exponent of the state's unit.
    """

    counts: np.ndarray
    start: bool | np.ndarray
    unit: int

    @property
    def real(self) -> np.ndarray:
        """What is added, float32."""
        return np.ldexp(self.counts, self.unit).astype(np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class Normed:
    """A norm between its stages: ``gain * u * 2^unit + shift``.

    Members
    -------
    u : float64 array
        Integers.
    unit : int
        Exponent of the unit of u.
    gain, shift : float32, broadcast against `u`
        Real factors and shifts so far.
    """

    u: np.ndarray
    unit: int
    gain: np.ndarray
    shift: np.ndarray

    @property
    def real(self) -> np.ndarray:
        """The values, float32."""
        return (np.ldexp(self.u, self.unit) * self.gain + self.shift).astype(np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class Gated:
    """A value times real factors, on its way into a sum: float32, broadcast against it."""

    value: Fixed
    factors: np.ndarray

    @property
    def real(self) -> np.ndarray:
        """The products, float32."""
        return self.value.real * self.factors


@dataclasses.dataclass(frozen=True, eq=False)
class Chained:
    """What a product of a chain gives, before the scales are known.

    Members
    -------
    sums : Sums
        In units of the state that the product has at a start.
    shifts : tuple of array, optional
        What is added by channel now, and what was in the step before.
    """

    sums: Any
    shifts: tuple[np.ndarray, np.ndarray] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Masked:
    """Groups of a chain behind the signs of the step before.

    Members
    -------
    passes : Passes
        Counts.
    unit : int
        Exponent of their unit.
    """

    passes: Passes
    unit: int

    @property
    def real(self) -> np.ndarray:
        """What changed, float32."""
        return np.ldexp(self.passes.values, self.unit).astype(np.float32)
