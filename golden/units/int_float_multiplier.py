"""Exact product of a digit and a weight. Source: ``docs/numerics.md``, section 5."""

import dataclasses
from typing import Any

import numpy as np

from golden import formats
from golden.parameters import Parameters
from golden.units.weights import aligned_weights


@dataclasses.dataclass(frozen=True, eq=False)
class Product:
    """Exact products of floats, element by element.

    Members
    -------
    negative : bool array
        Sign, by the rule of signs also where the magnitude is 0.
    exponent : int64 array
        Biased, as numerics section 5 says.
    magnitude : int64 array
        Integer magnitude.
    """

    negative: np.ndarray
    exponent: np.ndarray
    magnitude: np.ndarray


def int_float_multiplier(digits: Any, weights: Any, parameters: Parameters) -> Product | np.ndarray:
    """Multiply digits by weights, element by element with broadcasting. Nothing is rounded.

    Parameters
    ----------
    digits : int array
        ``-Q..Q``.
    weights : array
        Float form: FP16 or BF16 patterns, finite. Aligned form: integers below ``2^(F+1)`` in magnitude.
    parameters : Parameters
        Gives the weight form and format.

    Returns
    -------
    Product, or int64 array
        Float form: value ``+-magnitude * 2^(exponent - bias - f)``. Aligned form: ``q * a``.

    Raises
    ------
    TypeError, ValueError
        If a digit or a weight is no integer within its bounds.
    """
    digits = formats.integers("Digits", digits, -parameters.digit_max, parameters.digit_max).astype(np.int64)
    if parameters.weight_form == "aligned":
        return digits * aligned_weights(weights, parameters)
    weights = formats.patterns("Weights", weights)
    negative, exponent, significand = formats.FORMATS[parameters.weight_format].fields(weights)
    magnitude = np.abs(digits) * significand
    return Product((digits < 0) ^ negative, np.broadcast_to(exponent, magnitude.shape), magnitude)
