"""Barrel shifters that keep what a later rounding needs to know.

The *window* of a shifter is the run of bit positions it delivers; bits that fall out below are remembered in one
*sticky* bit, bits that fall out above in one *huge* bit.
"""

import dataclasses

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, ValueLike

__all__ = ["Window", "saturate_amount", "shift_left"]


def shift_left(value: Value, amount: Value, width: int, *, first: int = 0) -> Value:
    """``value << (amount << first)`` cut to `width` bits, one row of multiplexers per bit of `amount`.

    Signed in, signed out. Latency: none (combinational).
    """
    for position in range(len(amount)):
        shifted = value << (1 << first + position)
        if value.shape().signed:
            value = Mux(amount[position], shifted[:width].as_signed(), value)
        else:
            value = Mux(amount[position], shifted[:width], value)
    return value


def saturate_amount(m: Module, name: str, amount: Value, width: int) -> Signal:
    """Signed `amount` as `width` unsigned bits: 0 for negative ones, the largest code for those too large."""
    result = Signal(width, name=name)
    if len(amount) <= width:
        raise ValueError(f"width must be less than the {len(amount)} bits of the amount, not {width}")
    high = amount[width:-1]
    m.d.comb += result.eq(Mux(amount[-1], 0, amount[:width] | high.any().replicate(width)))
    return result


@dataclasses.dataclass(frozen=True)
class Window:
    """A number part-way through a rounding shift: ``(bits + sticky's bits) * 2^low``, times what remains to be shifted.

    Start with `Window.of`, call `shift` for every group of amount bits (in any order, each bit once), read the
    result when nothing remains. Positions count from the least significant bit of the result.

    Attributes
    ----------
    bits : Value, signed
        The bits kept.
    low : int
        Position of the least bit kept.
    sticky : Value
        Whether a bit below was set.
    sign : Value
        Sign of the number.
    huge : Value
        Whether the number does not fit `width` bits for certain.
    width : int
        Bits of the result (two's complement).
    remaining : int
        Largest shift still to come.
    """

    bits: Value
    low: int
    sticky: Value
    sign: Value
    huge: Value
    width: int
    remaining: int

    @classmethod
    def of(cls, value: Value, *, offset: int, width: int, amount_width: int) -> "Window":
        """Begin ``value * 2^(amount - offset)`` with an amount of `amount_width` bits."""
        return cls(value, -offset, Const(0, 1), value[-1], Const(0, 1), width, (1 << amount_width) - 1)

    def shift(self, selects: dict[int, ValueLike]) -> "Window":
        """Shift left by the sum of those weights (powers of two) whose bit is set."""
        bits, remaining = self.bits, self.remaining
        sticky, huge = self.sticky, self.huge
        low = self.low
        for weight, select in selects.items():
            remaining -= weight
            bits = Mux(select, bits << weight, bits)
            below = -1 - remaining - low  # bits that cannot reach the guard position any more
            if below > 0:
                below = min(below, len(bits) - 1)
                sticky = sticky | bits[:below].any()
                bits, low = bits[below:].as_signed(), low + below
            above = low + len(bits) - self.width  # bits beyond the sign position of the result
            if above > 0:
                huge = huge | (bits[len(bits) - above :] ^ self.sign.replicate(above)).any()
                bits = bits[: len(bits) - above].as_signed()
        return dataclasses.replace(self, bits=bits, low=low, sticky=sticky, huge=huge, remaining=remaining)

    def registers(self) -> dict[str, Value]:
        """What a pipeline must carry between two `shift` calls; see `resume`."""
        return {"bits": self.bits, "sticky": self.sticky, "sign": self.sign, "huge": self.huge}

    def resume(self, registers: object) -> "Window":
        """The same window, read from registers that carry what `registers` returned."""
        return dataclasses.replace(
            self, bits=registers.bits, sticky=registers.sticky, sign=registers.sign, huge=registers.huge
        )

    @property
    def floor(self) -> Value:
        """The result rounded down, `width` bits signed; only if ``huge`` is 0."""
        bits, low = self.bits, self.low
        if low > -1:
            bits, low = Cat(Const(0, low + 1), bits).as_signed(), -1
        floor = bits[-low:].as_signed()
        if len(floor) < self.width:
            floor = Cat(floor, self.sign.replicate(self.width - len(floor))).as_signed()
        return floor

    @property
    def overflow(self) -> Value:
        """Whether the number, shifted and rounded down, does not fit `width` bits."""
        return self.huge | (self.floor[-1] ^ self.sign)

    @property
    def increment(self) -> Value:
        """What must be added to `floor` to round to nearest, ties to even."""
        guard = self.bits[-1 - self.low] if self.low <= -1 else Const(0, 1)
        return guard & (self.sticky | self.floor[0])
