"""The cyclic check of a stream's blocks. Source: ``docs/formats.md``, check."""

import functools

import numpy as np

__all__ = ["CHECK_BITS", "POLYNOMIAL", "check_bits"]

CHECK_BITS = 16
"""Bits of a check."""

POLYNOMIAL = 0x1002D
"""``x^16 + x^5 + x^3 + x^2 + 1``: primitive, so it tells any two flips within 65,535 bits."""


@functools.cache
def _remainders() -> np.ndarray:
    """Remainder of ``x^(16 + i)`` for every i that a check can meet, uint16."""
    found, value = [], 1 << CHECK_BITS - 1
    for _ in range((1 << CHECK_BITS) - 1 - CHECK_BITS):
        value <<= 1
        value ^= POLYNOMIAL * (value >> CHECK_BITS)
        found.append(value)
    return np.array(found, np.uint16)


def check_bits(bits: np.ndarray) -> np.ndarray:
    """Check of up to 65,519 bits, bool (16,), in order of transmission.

    The bits are the coefficients of a polynomial, the first one that of the highest power; times ``x^16``, divided by
    `POLYNOMIAL`, the remainder is sent, again highest power first.

    Parameters
    ----------
    bits : bool (L,)
        In order of transmission.

    Raises
    ------
    ValueError
        If there are more bits than the check tells double flips of.
    """
    remainders = _remainders()
    if len(bits) > len(remainders):
        raise ValueError(f"Bits under a check must be at most {len(remainders)}, not {len(bits)}")
    powers = len(bits) - 1 - np.flatnonzero(bits)
    value = int(np.bitwise_xor.reduce(remainders[powers], initial=0))
    return (value >> np.arange(CHECK_BITS - 1, -1, -1) & 1).astype(np.bool_)
