"""The end of every sum of products: shift to the accumulator's LSB, round once, add, clamp."""

import dataclasses

from amaranth.hdl import Cat, Mux, Signal, Value, signed

from hw.arith.leaves import fused_add
from hw.arith.shift import Window
from hw.stream import Stage

ROUNDING_CUTS = 3
"""Cuts of `round_to_addend` before it reads ``first``."""


@dataclasses.dataclass(frozen=True)
class Accumulated:
    """What `round_and_accumulate` leaves.

    Attributes
    ----------
    stage : Stage
        Last stage, valid on `last`, with `sum` and `poisoned`.
    clamped, poison : Value
        Whether these events happen in this clock.
    """

    stage: Stage
    clamped: Value
    poison: Value


def _groups(value_width: int, window_width: int, amount_width: int) -> list[list[tuple[int, int]]]:
    """Amount bits, as ranges, that each of three cuts shifts by.

    A narrow value grows: it is shifted by little first. A wide one shrinks: by much first.
    """
    if value_width < window_width:
        fine = [(0, 2), (2, min(4, amount_width))]
        coarse = [(low, min(low + 2, amount_width)) for low in range(4, amount_width, 2)]
        return [[fine[0]], [fine[1]], coarse[::-1]]
    groups = [(max(high - 2, 0), high) for high in range(amount_width, 0, -2)]
    return [groups[:1], groups[1:2], groups[2:]]


def round_to_addend(s: Stage, *, value: Value, flip: Value, amount: Value, offset: int, width: int) -> Stage:
    """What an accumulator adds for ``RNE((value + flip) * 2^(amount - offset))``; see `round_and_accumulate`.

    Parameters
    ----------
    s : Stage
        Where the value is; `ROUNDING_CUTS` later it must have ``first``.
    value, flip, amount, offset, width
        As for `round_and_accumulate`.

    Returns
    -------
    Stage
        With ``addend`` (width + 1 bits), ``carry``, ``negative`` (its sign) and ``follows`` (whether the total before
        counts).
    """
    s.amount = amount
    s.window = Window.of(s.m, "window", value, offset=offset, width=width + 1, amount_width=len(amount), fill=flip)
    for group in _groups(len(value), width + 1, len(amount)):
        for low, high in group:
            s.window = s.window.shift(s.amount[low:high], 1 << low)
        s = s.cut()

    # A number too large for any sum to fit is added to 0, with 01 on top. Rounding makes that 01 or 10, and both are
    # past the range on either side.
    window = s.window
    s.follows, s.negative = ~(s.first | window.huge), window.sign
    s.addend = Cat(window.floor[: width - 1], window.floor[-2] | window.huge, window.floor[-1] & ~window.huge)
    flip = window.fill
    s.carry = ((window.guard ^ flip) & (window.sticky | (window.floor[0] ^ flip))) ^ flip

    return s.cut()


def tell(total: Value, side: Value) -> tuple[Value, Value, Value]:
    """Whether a total fits, is above what fits, and is below it; `side` is the sign of what was added last."""
    fits = total[-1] == total[-2]
    return fits, ~fits & ~side, ~fits & side


def add_to(s: Stage, platform: object, held: Value, side: Value, *, width: int) -> Signal:
    """The total after the addend of `round_to_addend`: ``clamp(held) + addend``, or the addend alone.

    Parameters
    ----------
    s : Stage
        Returned by `round_to_addend`.
    platform : object
        Chooses the leaves.
    held, side : Value
        The total before, as this function gave it (width + 1 bits, not yet clamped), and the sign of its addend.
    width : int
        Bits of the accumulator.
    """
    fits, above, below = tell(held, side)
    return fused_add(
        s.m,
        platform,
        "sum",
        width + 1,
        "plain",
        s.addend.as_signed(),
        Cat(held[: width - 1], held[-1].replicate(2)),
        "and or",
        (fits & s.follows).replicate(width + 1),
        Cat((above & s.follows).replicate(width - 1), (below & s.follows).replicate(2)),
        s.carry,
    )


def clamp_total(total: Value, side: Value) -> Value:
    """A total of `add_to` as a number of one bit less."""
    fits, above, below = tell(total, side)
    magnitude = (total[:-2] & fits.replicate(len(total) - 2)) | above.replicate(len(total) - 2)
    return Cat(magnitude, (total[-1] & fits) | below).as_signed()


def round_and_accumulate(
    s: Stage, platform: object, *, value: Value, flip: Value, amount: Value, offset: int, width: int
) -> Accumulated:
    """``A = clamp(RNE((value + flip) * 2^(amount - offset)) + (0 if first else A))``, emitted on `last`.

    ::

        value --> shift | shift | shift | what to round by | add | clear | set |
                                                              ^-clamp-'

    Rounding costs no adder of its own: it is the carry into the accumulator's. Neither does the flip: ``value`` is
    ``x ^ flip`` for the number ``x`` it negates, is shifted in that form, and the carry is inverted
    (``-(x + r) = ~x + 1 - r``). A total is held as it comes from the adder, with the bits that tell whether it fits;
    what they make of it, all zeros or all ones, is a gate on the adder's input, and so is forgetting a finished sum.
    One bit above the accumulator's is enough: a total past the range lies on the side of what was added last.
    What is emitted is clamped by resets and sets of registers.

    Throughput: one value per clock.

    Parameters
    ----------
    s : Stage
        With ``first`` and ``last``: the value begins, or ends, a sum; ``poison``: until the next `first`, 0 is emitted
        in place of the sum.
    platform : object
        Chooses the leaves.
    value : Value, signed
        What to add, exact; short of `flip`.
    flip : Value
        See `value`.
    amount : Value
        Unsigned shift.
    offset : int
        Amount at which the LSB of `value` is that of the accumulator.
    width : int
        Bits of the accumulator.
    """
    s = round_to_addend(s, value=value, flip=flip, amount=amount, offset=offset, width=width)
    # The adder's result, modulo 2^(width + 1), and the sign of what was added. The two top bits agree if the sum fits.
    held, side, poisoned = Signal(signed(width + 1), name="held"), Signal(name="side"), Signal(name="held_poisoned")
    total = add_to(s, platform, held, side, width=width)
    s.make("total", total, held_by=held)
    s.make("side", s.negative, held_by=side)
    s.poisoned = s.poison | (poisoned & ~s.first)
    with s.m.If(s.moves):
        s.m.d.sync += [held.eq(total), side.eq(s.negative), poisoned.eq(s.poisoned)]

    s = s.cut()
    fits, above, below = tell(s.total, s.side)
    clamped, poison = s.moves & ~fits, s.moves & s.poison
    s.low = Mux(~fits | s.poisoned, 0, s.total[: width - 1])[: width - 1]
    s.top = ((s.total[-1] & fits) | below) & ~s.poisoned
    s.ceiling = above & ~s.poisoned

    s = s.cut()
    # Flip-flops that are set must begin so in most FPGAs; before the first valid sum no one looks.
    s.make("low", Mux(s.ceiling, ~0, s.low)[: width - 1], init=-1)

    s = s.cut()
    s.sum, s.valid = Cat(s.low, s.top), s.valid & s.last
    return Accumulated(s, clamped, poison)
