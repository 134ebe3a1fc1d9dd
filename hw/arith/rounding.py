"""A shift by any amount with one rounding to the nearest and a clamp, in stages of a pipeline."""

from amaranth.hdl import Module, Mux, Signal, Value, signed

from hw.arith.bits import below_power
from hw.arith.shift import Window, saturate_amount
from hw.stream import Stage


def amount_width(value_width: int, width: int) -> int:
    """Bits of an amount of `round_shift`."""
    return (value_width + width).bit_length()


def shift_amount(m: Module, name: str, right: Value, value_width: int, width: int) -> Value:
    """What `round_shift` takes as `amount`, of a signed number of places to the right.

    From `value_width` places on nothing is left of a value; `width` places to the left and more, it clamps or is 0.

    Parameters
    ----------
    m : Module
        Module to add to.
    name : str
        Of the signal.
    right : Value, signed
        Places; negative ones are to the left.
    value_width, width : int
        Bits of the value and of the result.
    """
    bits = amount_width(value_width, width)
    left = Signal(signed(max(len(right) + 1, bits + 1)), name=f"{name}_left")
    m.d.comb += left.eq(value_width - right)
    return saturate_amount(m, name, left, bits)


def round_shift(s: Stage, value: Value, amount: Value, width: int) -> Stage:
    """``RNE(value 2^-right)``, clamped to ``+-(2^(width-1) - 1)``: `rounded`, and whether it was `clamped`.

    ::

        value --> shift by 64s to 4s | by 2 and 1, sticky | + half | clamp

    Four cuts. Throughput: one value a clock.

    Parameters
    ----------
    s : Stage
        Stage, or part of one, that the value is of.
    value : Value, signed
        What to round.
    amount : Value
        `shift_amount` of the places.
    width : int
        Bits of the result, at least 2.

    Returns
    -------
    Stage
        Where the result is.
    """
    s.amount = amount
    window = Window.of(s.m, s.label("window"), value, offset=len(value), width=width + 1, amount_width=len(amount))
    groups = [(max(high - 2, 0), high) for high in range(len(amount), 0, -2)]
    s.window = window
    for index, (low, high) in enumerate(groups):
        s.window = s.window.shift(s.amount[low:high], 1 << low)
        if index % 2 or index == len(groups) - 1:
            s = s.cut()
    s.total = (s.window.floor + s.window.increment)[: width + 2].as_signed()
    s.huge, s.negative = s.window.huge, s.window.sign

    s = s.cut()
    top = (1 << width - 1) - 1
    s.clamped = s.huge | ~below_power(s.total, width - 1)
    limit = Mux(s.negative, -top, top)
    s.rounded = Mux(s.clamped, limit, s.total)[:width].as_signed()
    return s
