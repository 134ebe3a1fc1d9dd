"""The cyclic check of a stream's blocks. Source: ``docs/formats.md``, checks."""

import functools

import numpy as np

CHECK_BITS = 16
"""Bits of a check."""

POLYNOMIAL = 0x1002D
"""``x^16 + x^5 + x^3 + x^2 + 1``: primitive, so it tells any two flips within 65,535 bits."""


@functools.cache
def _remainders() -> np.ndarray:
    """Remainder of ``x^(16 + i)`` for every i of a period, uint16."""
    found, value = [], 1 << CHECK_BITS - 1
    for _ in range((1 << CHECK_BITS) - 1):
        value <<= 1
        value ^= POLYNOMIAL * (value >> CHECK_BITS)
        found.append(value)
    return np.array(found, np.uint16)


def check_bits(bits: np.ndarray) -> np.ndarray:
    """Check of bits, bool (16,), in order of transmission.

    The bits are the coefficients of a polynomial, the first one that of the highest power; times ``x^16``, divided by
    `POLYNOMIAL`, the remainder is sent, again highest power first.

    Parameters
    ----------
    bits : bool (L,)
        In order of transmission.
    """
    remainders = _remainders()
    powers = (len(bits) - 1 - np.flatnonzero(bits)) % len(remainders)
    value = int(np.bitwise_xor.reduce(remainders[powers], initial=0))
    return (value >> np.arange(CHECK_BITS - 1, -1, -1) & 1).astype(np.bool_)
