"""The end of every sum of products: shift to the accumulator's LSB, round once, add, clamp."""

from types import SimpleNamespace

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed

from hw.arith.leaves import fused_add
from hw.arith.shift import Window
from hw.stream import Pipeline

__all__ = ["ACCUMULATE_CUTS", "round_and_accumulate"]

ACCUMULATE_CUTS = 8
"""Cuts of `round_and_accumulate`, the output register included."""


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


def round_and_accumulate(
    m: Module,
    platform: object,
    pipe: Pipeline,
    *,
    value: Value,
    flip: Value,
    amount: Value,
    offset: int,
    width: int,
    first: Value,
    last: Value,
    poison: Value,
) -> SimpleNamespace:
    """``A = clamp(RNE((value + flip) * 2^(amount - offset)) + (0 if first else A))``, emitted on `last`.

    Drives the output of the pipeline.

    ::

        value --> shift | shift | shift | what to round by | add | clear | set |
                                                              ^-clamp-'

    Rounding costs no adder of its own: it is the carry into the accumulator's. Neither does the flip: ``value`` is
    ``x ^ flip`` for the number ``x`` it negates, is shifted in that form, and the carry is inverted
    (``-(x + r) = ~x + 1 - r``). A total is held as it comes from the adder, with the bits that tell whether it fits;
    what they make of it, all zeros or all ones, is a gate on the adder's input, and so is forgetting a finished sum.
    One bit above the accumulator's is enough: a total past the range lies on the side of what was added last.
    What is emitted is clamped by resets and sets of registers.

    Latency: `ACCUMULATE_CUTS` of the pipeline. Throughput: one value per clock.

    Parameters
    ----------
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
    first, last : Value
        The value begins, or ends, a sum.
    poison : Value
        Until the next `first`, 0 is emitted in place of the sum.

    Returns
    -------
    SimpleNamespace
        ``clamped`` and ``poison``: whether these events happen in this clock.
    """
    window = Window.of(m, "window", value, offset=offset, width=width + 1, amount_width=len(amount), fill=flip)
    groups = _groups(len(value), width + 1, len(amount))
    s = SimpleNamespace(first=first, last=last, poison=poison, flip=flip, amount=amount)
    for index in range(3):
        for low, high in groups[index]:
            window = window.shift(s.amount[low:high], 1 << low)
        if index < 2:
            s = pipe.cut(
                first=s.first, last=s.last, poison=s.poison, flip=s.flip, amount=s.amount, **window.registers()
            )
            window = window.resume(vars(s), fill=s.flip)
    s = pipe.cut(
        first=s.first,
        last=s.last,
        poison=s.poison,
        flip=s.flip,
        floor=window.floor,
        guard=window.guard,
        sticky=window.sticky,
        huge=window.huge,
        negative=window.sign,
    )
    # A number too large for any sum to fit is added to 0, with 01 on top. Rounding makes that 01 or 10, and both are
    # past the range on either side.
    s = pipe.cut(
        first=s.first,
        follows=~(s.first | s.huge),
        last=s.last,
        poison=s.poison,
        negative=s.negative,
        addend=Cat(s.floor[: width - 1], s.floor[-2] | s.huge, s.floor[-1] & ~s.huge),
        carry=((s.guard ^ s.flip) & (s.sticky | (s.floor[0] ^ s.flip))) ^ s.flip,
    )

    # The adder's result, modulo 2^(width + 1), and the sign of what was added. The two top bits agree if the sum fits.
    held = Signal(signed(width + 1))
    side = Signal()
    fits, above, below = _tell(held, side)
    poisoned = Signal()
    total = fused_add(
        m,
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
    now_poisoned = s.poison | (poisoned & ~s.first)
    with m.If(pipe.advance & pipe.valid):
        m.d.sync += [held.eq(total), side.eq(s.negative), poisoned.eq(now_poisoned)]

    before = pipe.valid
    negative = s.negative
    s = pipe.cut(last=s.last, poisoned=now_poisoned, poison=s.poison)
    if pipe.valid is not before:
        emitted = held
    else:
        emitted, (fits, above, below) = total, _tell(total, negative)
    moves = pipe.advance & pipe.valid
    events = SimpleNamespace(clamped=moves & ~fits, poison=moves & s.poison)
    s = pipe.cut(
        last=s.last,
        poisoned=s.poisoned,
        low=Mux(~fits | s.poisoned, 0, emitted[: width - 1])[: width - 1],
        top=((emitted[-1] & fits) | below) & ~s.poisoned,
        ceiling=above & ~s.poisoned,
    )
    low = Mux(s.ceiling, ~0, s.low)[: width - 1]
    before = pipe.valid
    s = pipe.cut(last=s.last, poisoned=s.poisoned, top=s.top)
    if pipe.valid is not before:
        # Flip-flops that are set must begin so in most FPGAs; before the first valid sum no one looks.
        ceiled = Signal(width - 1, init=-1, reset_less=True)
        with m.If(pipe.advance):
            m.d.sync += ceiled.eq(low)
        low = ceiled
    pipe.finish(Cat(low, s.top, s.poisoned), valid=s.last)
    return events


def _tell(total: Value, side: Value) -> tuple[Value, Value, Value]:
    """Whether a total fits, is above what fits, and is below it."""
    fits = total[-1] == total[-2]
    return fits, ~fits & ~side, ~fits & side
