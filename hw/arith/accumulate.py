"""The end of every sum of products: shift to the accumulator's LSB, round once, add, clamp."""

from types import SimpleNamespace

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed

from hw.arith.leaves import fused_add
from hw.arith.shift import Window
from hw.stream import Pipeline

__all__ = ["ACCUMULATE_CUTS", "round_and_accumulate"]

ACCUMULATE_CUTS = 5
"""Cuts of `round_and_accumulate`, the output register included."""

_FINE_BITS = 4
"""Bits of the amount that the first half of the shifter takes: the narrow value is shifted by little first."""


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

        value --> shift by little | shift by much, what to round by | add and test | clamp

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
    window = window.shift(amount[:_FINE_BITS])
    flags = {"first": first, "last": last, "poison": poison}
    s = pipe.cut(**flags, flip=flip, amount=amount[_FINE_BITS:], **window.registers())

    window = window.resume(vars(s))
    for low in reversed(range(0, len(s.amount), 2)):
        window = window.shift(s.amount[low : low + 2], 1 << _FINE_BITS + low)
    upstream = Signal(name="begins_next")
    m.d.comb += upstream.eq(pipe.valid & s.first)
    before = pipe.valid
    s = pipe.cut(
        first=s.first,
        last=s.last,
        poison=s.poison,
        flip=s.flip,
        floor=window.floor,
        carry=window.increment ^ s.flip,
        huge=window.huge,
        negative=window.sign ^ s.flip,
    )
    registered = pipe.valid is not before

    accumulator = Signal(signed(width))
    ceiling = Signal()
    poisoned = Signal()
    # With a register in between, a sum is forgotten in the clock before the next one begins.
    held = accumulator if registered else Mux(s.first, 0, accumulator).as_signed()
    ones = ceiling if registered else ceiling & ~s.first
    total = fused_add(
        m, platform, "sum", width + 2, "or", held, ones.replicate(width - 1), "xor", s.floor, s.flip, s.carry
    )
    fits, negative = Signal(), Signal()
    m.d.comb += [
        fits.eq((total[width - 1 :].all() | ~total[width - 1 :].any()) & ~s.huge),
        negative.eq(Mux(s.huge, s.negative, total[-1])),
    ]
    kept = Cat(Mux(fits, total[: width - 1], 0)[: width - 1], Mux(fits, total[width - 1], negative))
    reaches_ceiling = ~fits & ~negative
    now_poisoned = s.poison | (poisoned & ~s.first)
    takes = pipe.advance & pipe.valid
    with m.If(takes):
        m.d.sync += [accumulator.eq(kept), ceiling.eq(reaches_ceiling), poisoned.eq(now_poisoned)]
    if registered:
        with m.If(pipe.advance & upstream):
            m.d.sync += [accumulator.eq(0), ceiling.eq(0)]
    events = SimpleNamespace(clamped=takes & ~fits, poison=takes & s.poison)

    s = pipe.cut(
        last=s.last,
        poisoned=now_poisoned,
        sum=Mux(now_poisoned | ~fits, Cat(Const(0, width - 1), kept[-1] & ~now_poisoned), kept),
        ceiling=reaches_ceiling & ~now_poisoned,
    )
    s = pipe.cut(
        last=s.last,
        poisoned=s.poisoned,
        sum=Cat(Mux(s.ceiling, Const(1).replicate(width - 1), s.sum[: width - 1]), s.sum[width - 1]),
    )
    pipe.finish(Cat(s.sum, s.poisoned), valid=s.last)
    return events
