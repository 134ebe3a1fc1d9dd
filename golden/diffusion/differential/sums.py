"""Sums of groups as accumulators take them, on exact numbers, and patterns of weights."""

import dataclasses
import functools

import numpy as np

from golden import formats
from golden.diffusion.differential.quantise import weight_numbers
from golden.parameters import EXPONENT_BIAS, Parameters

__all__ = ["Bound", "Group", "low_zeros", "weight_patterns"]


def low_zeros(integers: np.ndarray) -> int:
    """Zeros that every integer ends in; 0 if there is none but 0."""
    bits = int(np.bitwise_or.reduce(integers, axis=None))
    return (bits & -bits).bit_length() - 1 if bits else 0


@dataclasses.dataclass(frozen=True)
class Bound:
    """Of values: the exponent of a `unit` that all are multiples of, and their `largest` magnitude as integers.

    Where the lanes of a group are digits of one exponent, the integers of a group are its digits.
    """

    unit: int
    largest: float

    @classmethod
    def of(cls, values: np.ndarray, digits: float | None) -> "Bound":
        """Bound of multiples of ``2^-24``; `digits` is the magnitude that no digit exceeds, if that is known."""
        integers = np.rint(values * 2.0**EXPONENT_BIAS).astype(np.int64)
        unit = low_zeros(integers) - EXPONENT_BIAS
        return cls(unit, float(np.abs(values).max(initial=0)) * 2.0**-unit if digits is None else digits)


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Weights of one group: ``integers`` (..., rows, lanes), and of each row the `scale` to the accumulator's unit."""

    integers: np.ndarray
    scale: np.ndarray

    @functools.cached_property
    def _real(self) -> np.ndarray:
        return np.ldexp(self.integers.astype(np.float64), self.scale)

    @functools.cached_property
    def _single(self) -> np.ndarray:
        return self._real.astype(np.float32)

    @functools.cached_property
    def _most(self) -> float:
        """Largest sum of magnitudes of a row."""
        return float(np.abs(self.integers.astype(np.float64)).sum(axis=-1).max(initial=0))

    def times(self, columns: np.ndarray, bound_of: Bound, *, wide: bool = False) -> np.ndarray:
        """``RNE(S * 2^scale)`` of all rows and columns: floats that hold it or, if `wide`, Python integers.

        Parameters
        ----------
        columns : float32 (..., lanes, columns)
            Dequantised group of each column.
        bound_of : Bound
            What is known of them.
        wide : bool
            Whether the accumulator has more than 53 bits.
        """
        bound = self._most * bound_of.largest
        if bound < 2.0**53:
            # binary32 has no room for the weights in units of a wide accumulator
            single = bound < 2.0**24 and not wide
            result = self._single @ columns if single else self._real @ columns.astype(np.float64)
            np.rint(result, out=result)
            return _integer(result) if wide else result
        dtype = np.int64 if bound < 2.0**62 else object
        fixed = np.rint(columns.astype(np.float64) * 2.0**-bound_of.unit).astype(np.int64)
        sums = self.integers.astype(dtype) @ fixed.astype(dtype)
        return formats.round_shift(sums, -(self.scale + bound_of.unit)).astype(object if wide else np.float64)


_integer = np.frompyfunc(int, 1, 1)


def weight_patterns(values: np.ndarray, parameters: Parameters) -> np.ndarray:
    """Patterns of the nearest weights."""
    numbers = weight_numbers(np.ascontiguousarray(values, np.float32), parameters)
    if parameters.weight_format == "float16":
        return numbers.astype(np.float16).view(np.uint16)
    return (numbers.view(np.uint32) >> 16).astype(np.uint16)
