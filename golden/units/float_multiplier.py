"""Exact product of an FP16 value and a weight. Source: ``docs/numerics.md``, section 5."""

import dataclasses
from typing import Any

import numpy as np

from golden import formats
from golden.parameters import Parameters
from golden.units.int_float_multiplier import Product
from golden.units.weights import aligned_weights


@dataclasses.dataclass(frozen=True, eq=False)
class AlignedProduct:
    """Exact products of FP16 values and aligned weights, element by element.

    Members
    -------
    exponent : int64 array
        ``Ex' = max(Ex, 1)`` of the value.
    significand : int64 array
        Signed; the product is ``significand * 2^(exponent - 25)`` in units of the weights' scale.
    """

    exponent: np.ndarray
    significand: np.ndarray


def float_multiplier(values: Any, weights: Any, parameters: Parameters) -> Product | AlignedProduct:
    """Multiply FP16 values by weights, element by element with broadcasting. Nothing is rounded.

    Parameters
    ----------
    values : uint16 array
        FP16 patterns, finite.
    weights : array
        Float form: FP16 or BF16 patterns, finite. Aligned form: integers below ``2^(F+1)`` in magnitude.
    parameters : Parameters
        Gives the weight form and format.

    Returns
    -------
    Product or AlignedProduct
        Float form: value ``+-magnitude * 2^(exponent - 25 - bias - f)``.

    Raises
    ------
    TypeError, ValueError
        If a value is no 16-bit pattern, or a weight no integer within its bounds.
    """
    negative, exponent, significand = formats.FLOAT16.fields(formats.patterns("Values", values))
    if parameters.weight_form == "aligned":
        product = np.where(negative, -significand, significand) * aligned_weights(weights, parameters)
        return AlignedProduct(np.broadcast_to(exponent, product.shape), product)
    weights = formats.patterns("Weights", weights)
    signs, exponents, significands = formats.FORMATS[parameters.weight_format].fields(weights)
    return Product(negative ^ signs, exponent + exponents, significand * significands)
