"""The end of every sum of products: shift to the accumulator's LSB, round once, add, clamp."""

from types import SimpleNamespace

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed

from hw.arith.leaves import fused_add
from hw.arith.shift import Window
from hw.stream import Pipeline

__all__ = ["ACCUMULATE_CUTS", "round_and_accumulate"]

ACCUMULATE_CUTS = 7
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
    """``A = clamp(RNE(+-value * 2^(amount - offset)) + (0 if first else A))``, emitted on `last`.

    Drives the output of the pipeline.

    ::

        value --> shift | shift | shift | what to round by | add and test | clamp

    Rounding costs no adder of its own: it is the carry into the accumulator's. Neither does the sign: a negative number
    is added inverted, and the carry inverted too (``-(x + r) = ~x + 1 - r``). A sum clamped upwards is held as 0 with
    `ceiling` set, which the adder reads as ones; so clamping, and forgetting a finished sum, are resets of registers
    and no multiplexer stands in the loop.

    Latency: `ACCUMULATE_CUTS` of the pipeline. Throughput: one value per clock.

    Parameters
    ----------
    value : Value, signed
        What to add, exact.
    flip : Value
        Subtract it instead.
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
    window = Window.of(m, "window", value, offset=offset, width=width + 1, amount_width=len(amount))
    groups = _groups(len(value), width + 1, len(amount))
    s = SimpleNamespace(first=first, last=last, poison=poison, flip=flip, amount=amount)
    for index in range(3):
        for low, high in groups[index]:
            window = window.shift(s.amount[low:high], 1 << low)
        if index < 2:
            s = pipe.cut(
                first=s.first, last=s.last, poison=s.poison, flip=s.flip, amount=s.amount, **window.registers()
            )
            window = window.resume(vars(s))
    valids = [pipe.valid]
    behind = s.first & pipe.valid
    s = pipe.cut(
        first=s.first,
        last=s.last,
        poison=s.poison,
        flip=s.flip,
        floor=window.floor,
        guard=window.guard,
        sticky=window.sticky,
        huge=window.huge,
        negative=window.sign ^ s.flip,
    )
    valids.append(pipe.valid)
    s = pipe.cut(
        first=s.first,
        last=s.last,
        poison=s.poison,
        flip=s.flip,
        floor=s.floor,
        carry=(s.guard & (s.sticky | s.floor[0])) ^ s.flip,
        huge=s.huge,
        negative=s.negative,
        forced=s.huge | behind,
        forced_up=s.huge & ~s.negative & ~behind,
        forced_down=s.huge & s.negative & ~behind,
        begins=behind,
    )
    valids.append(pipe.valid)
    # With registers at both cuts, what was just behind the value now sits behind it: a sum is forgotten in the clock
    # before the next one begins.
    ahead = len({id(valid) for valid in valids}) == len(valids)

    accumulator = Signal(signed(width))
    ceiling = Signal()
    poisoned = Signal()
    held = accumulator if ahead else Mux(s.first, 0, accumulator).as_signed()
    ones = ceiling if ahead else ceiling & ~s.first
    total = fused_add(
        m, platform, "sum", width + 2, "or", held, ones.replicate(width - 1), "xor", s.floor, s.flip, s.carry
    )
    # The three top bits agree if the sum fits.
    same = Signal()
    above = Signal()
    m.d.comb += [
        same.eq(total[width - 1 :].all() | ~total[width - 1 :].any()),
        above.eq(~total[-1] & (total[width] | total[width - 1])),
    ]
    up, down = s.huge & ~s.negative, s.huge & s.negative
    now_poisoned = s.poison | (poisoned & ~s.first)
    takes = pipe.advance & pipe.valid
    fits = same & ~s.huge
    # What is kept for the next value, and what is emitted: the first forgets when the next value begins a sum.
    begins, forced, forced_up, forced_down = (
        (s.begins, s.forced, s.forced_up, s.forced_down) if ahead else (Const(0, 1), s.huge, up, down)
    )
    with m.If(pipe.advance & (pipe.valid | begins)):
        m.d.sync += [
            accumulator.eq(
                Cat(Mux(forced | ~same, 0, total[: width - 1])[: width - 1], Mux(forced, forced_down, total[-1]))
            ),
            ceiling.eq(forced_up | (~forced & above)),
        ]
    with m.If(takes):
        m.d.sync += poisoned.eq(now_poisoned)

    # What is emitted takes its clamping a clock later, where one lookup table for a bit has time for it.
    s = pipe.cut(
        last=s.last,
        poisoned=now_poisoned,
        low=total[: width - 1],
        top=Mux(s.huge, down, total[-1]),
        ceiling=up | (~s.huge & above),
        zero=~fits | now_poisoned,
        clamped=~fits,
        poison=s.poison,
    )
    moves = pipe.advance & pipe.valid
    events = SimpleNamespace(clamped=moves & s.clamped, poison=moves & s.poison)
    ones = (s.ceiling & ~s.poisoned).replicate(width - 1)
    low = Mux(s.zero, 0, s.low) | ones
    s = pipe.cut(last=s.last, poisoned=s.poisoned, sum=Cat(low, s.top & ~s.poisoned))
    pipe.finish(Cat(s.sum, s.poisoned), valid=s.last)
    return events
