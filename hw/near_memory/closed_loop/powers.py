"""``2^-f`` of a softmax, in stages of a pipeline.

Source: ``docs/closed-loop.md``, 12.9. Words of the table are exact: whole numbers decide which integer is nearest.
"""

import functools

from amaranth.hdl import Cat, Const, Module, Signal, Value

from hw.arith.bits import named
from hw.arith.rounding import amount_width, round_shift, shift_amount
from hw.memory import Rom
from hw.stream import Stage

FRACTION = 13
"""Fraction bits of an argument."""

WHOLE_WIDTH = 5
"""Bits of its whole part."""

ARGUMENT_WIDTH = FRACTION + WHOLE_WIDTH
"""Bits of ``(m - Y) R``."""

POWER_WIDTH = 17
"""Bits of T: ``2^-f`` in units of ``2^-16``."""

ROOT_WIDTH = 17
"""Bits of r."""

_SEGMENTS = 256
_PLACE = 5


@functools.cache
def _word(segment: int) -> int:
    """``RNE(2^(16 - segment / 256))``: the n with ``n - 1/2 < x < n + 1/2``; x is irrational or whole, never a tie."""
    low, high = 0, 1 << POWER_WIDTH
    target = 1 << 16 * _SEGMENTS - segment + _SEGMENTS  # (2 x)^256
    while low < high:  # the least n whose upper border is past x
        middle = (low + high) // 2
        if (2 * middle + 1) ** _SEGMENTS > target:
            high = middle
        else:
            low = middle + 1
    return low


def table() -> list[int]:
    """Words: a segment's base, and above it what the next one has less."""
    return [_word(one) | _word(one) - _word(one + 1) << POWER_WIDTH for one in range(_SEGMENTS)]


def argument_amount(m: Module, exponent: Value, below: int) -> Value:
    """Amount of the shift by ``-rho`` places of a product of R's r and so many bits; a clock later."""
    product = below + ROOT_WIDTH + 1
    amount = Signal(amount_width(product, ARGUMENT_WIDTH + 1))
    m.d.sync += amount.eq(shift_amount(m, "argument_amount", -exponent, product, ARGUMENT_WIDTH + 1))
    return amount


def argument(s: Stage, below: Value, root: Value, amount: Value) -> Stage:
    """``b = RNE(below R)``, at most ``2^18 - 1``: `argument`.

    Parameters
    ----------
    s : Stage
        Stage, or part of one, that `below` is of.
    below : Value
        ``m - Y``, unsigned.
    root : Value
        r, constant.
    amount : Value
        `argument_amount`, constant.
    """
    s.below = below
    s = s.cut()
    s.product = Cat(s.below * root, Const(0, 1)).as_signed()
    s = s.cut()
    s = round_shift(s, s.product, amount, ARGUMENT_WIDTH + 1)
    s.argument = s.rounded[:ARGUMENT_WIDTH]
    return s


def power(s: Stage, enable: Value) -> Stage:
    """T of the fraction of `argument`: `power`; and its whole part: `whole`.

    Parameters
    ----------
    s : Stage
        With `argument`.
    enable : Value
        Whether the stage moves.
    """
    m, rom = s.m, Rom(table())
    m.submodules[s.label("powers")] = rom
    m.d.comb += [rom.enable.eq(enable), rom.addresses[0].eq(s.argument[_PLACE:FRACTION])]
    s.make("word", rom.words[0], held_by=rom.words[0])
    s.place, s.whole = s.argument[:_PLACE], s.argument[FRACTION:]
    s = s.cut()
    s.dropped = s.word[POWER_WIDTH:] * s.place
    s.base = s.word[:POWER_WIDTH]
    s = s.cut()
    total = named(m, s.label("total"), ((s.base << _PLACE) - s.dropped)[: POWER_WIDTH + _PLACE])
    up = total[_PLACE - 1] & (total[: _PLACE - 1].any() | total[_PLACE])
    s.power = (total[_PLACE:] + up)[:POWER_WIDTH]
    return s
