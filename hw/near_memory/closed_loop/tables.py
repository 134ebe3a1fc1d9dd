"""Words of the functions' tables, from exact integers: ``h(a) = f(a) - a / 2`` at multiples of 1/64.

Source: ``docs/closed-loop.md``, 12.8. A real number is an integer in units of ``2^-320`` here; words have 15 places, so
what the series leave out is far from any tie (tested against golden's, which come from decimal arithmetic).
"""

import functools
import math

FUNCTIONS = ("silu", "gelu", "erf_gelu")
"""Functions that have a table, in the order of their numbers."""

BASE_WIDTH = 18
"""Bits of a base."""

SEGMENTS = 1024
"""Words of a table: 1/64 each, up to 16."""

_PLACES = 320  # e^-128 of erf_gelu has 185 zeros first
_ONE = 1 << _PLACES


def _times(a: int, b: int) -> int:
    return a * b >> _PLACES


def _exp(x: int) -> int:
    """``e^x`` of x up to 0: the series of ``x / 2^r``, below 1 in magnitude, squared r times."""
    halvings = max((-x).bit_length() - _PLACES, 0) + 8
    term = total = _ONE
    step = x >> halvings
    count = 0
    while term:
        count += 1
        term = _times(term, step) // count if step else 0
        term = 0 if term == -1 else term  # what a shift to the right leaves of a negative number
        total += term
    for _ in range(halvings):
        total = _times(total, total)
    return total


@functools.cache
def _pi() -> int:
    """Machin: ``16 atan(1/5) - 4 atan(1/239)``."""

    def arctangent(inverse: int) -> int:
        power, total, odd = _ONE // inverse, 0, 1
        while power:
            total += power // odd if odd % 4 == 1 else -(power // odd)
            power //= inverse * inverse
            odd += 2
        return total

    return 16 * arctangent(5) - 4 * arctangent(239)


def _tail(a: int, y: int) -> int:
    """``a / (1 + e^-y) - a / 2``, both at least 0."""
    return (a << _PLACES) // (_ONE + _exp(-y)) - a // 2


def _silu(a: int) -> int:
    return _tail(a, a)


def _root(x: int) -> int:
    return math.isqrt(x << _PLACES)


def _gelu(a: int) -> int:
    cube = _times(_times(a, a), a)
    inner = a + cube * 44715 // 10**6
    return _tail(a, 2 * _times(_root((2 * _ONE << _PLACES) // _pi()), inner))


def _erf_gelu(a: int) -> int:
    # erf(a / sqrt(2)) = sqrt(2 / pi) e^(-a^2 / 2) (a + a^3 / 3 + a^5 / (3 5) + ...), all terms of one sign
    square = _times(a, a)
    term = total = a
    odd = 1
    while term:
        odd += 2
        term = _times(term, square) // odd
        total += term
    factor = _times(_root((2 * _ONE << _PLACES) // _pi()), _exp(-square // 2))
    return _times(a, _times(factor, total)) // 2


_EVEN = {"silu": _silu, "gelu": _gelu, "erf_gelu": _erf_gelu}


@functools.cache
def table(name: str) -> list[tuple[int, int]]:
    """``(base, delta)`` of each segment: ``RNE(h 2^15)`` where it begins, and what the next one has more."""
    even = _EVEN[name]
    half = 1 << _PLACES - 16  # of a unit of 2^-15; no word is a tie but 0
    words = [even(index * _ONE // 64) + half >> _PLACES - 15 for index in range(SEGMENTS + 1)]
    return [(base, following - base) for base, following in zip(words, words[1:], strict=False)]
