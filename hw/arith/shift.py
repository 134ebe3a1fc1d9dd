"""Barrel shifters that keep what a later rounding needs to know.

The *window* of a shifter is the run of bit positions it delivers; bits that fall out below are remembered in one
*sticky* bit, bits that fall out above in one *huge* bit. Every row of multiplexers gets a signal of its own: the
simulators evaluate an expression as often as it is used.
"""

import dataclasses

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from hw.arith.bits import named


def leading_zeros(m: Module, name: str, value: Value) -> Value:
    """Zeros above the highest one; all of them if there is none.

    A tree: where the upper half is zero, the count is the half's width more than that of the lower half.
    Latency: none (combinational).
    """
    width = len(value)
    size = 1 << (width - 1).bit_length()
    if width < size:
        # Ones below change no count, except that of zero, which becomes `width` as it must.
        value = Cat(Const(1).replicate(size - width), value)

    def count(low: int, size: int) -> tuple[Value, Value]:
        """Zeros above the highest one, short of one bit, and whether there is none."""
        if size == 1:
            return Const(0, 0), ~value[low]
        half = size // 2
        (below, below_empty), (above, above_empty) = count(low, half), count(low + half, half)
        zeros = Cat(Mux(above_empty, below, above)[: len(below)], above_empty)
        return (
            named(m, f"{name}_zeros{low + size - 1}_{low}", zeros),
            named(m, f"{name}_empty{low + size - 1}_{low}", above_empty & below_empty),
        )

    zeros, empty = count(0, size)
    return zeros if width < size else Cat(Mux(empty, 0, zeros)[: len(zeros)], empty)


def shift_left(
    m: Module, name: str, value: Value, amount: Value, width: int, *, first: int = 0, fill: Value | None = None
) -> Value:
    """``value << (amount << first)`` cut to `width` bits, one row of multiplexers per bit of `amount`.

    Bits that come in below are `fill`, default 0. Signed in, signed out. Latency: none (combinational).
    """
    for position in range(len(amount)):
        step = 1 << first + position
        shifted = (value << step if fill is None else Cat(fill.replicate(step), value))[:width]
        if value.shape().signed:
            shifted = shifted.as_signed()
        value = named(m, f"{name}_by{step}", Mux(amount[position], shifted, value))
    return value


def saturate_amount(m: Module, name: str, amount: Value, width: int) -> Signal:
    """Signed `amount` as `width` unsigned bits: 0 for negative ones, the largest code for those too large.

    Raises
    ------
    ValueError
        If `amount` is no wider than `width`.
    """
    if len(amount) <= width:
        raise ValueError(f"width must be less than the {len(amount)} bits of the amount, not {width}")
    high = amount[width:-1]
    return named(m, name, Mux(amount[-1], 0, amount[:width] | high.any().replicate(width))[:width])


@dataclasses.dataclass(frozen=True)
class Window:
    """A number part-way through a rounding shift: ``(bits + sticky's bits) * 2^low``, times what remains to be shifted.

    Start with `Window.of`, call `shift` for every group of amount bits (in any order, each bit once), read the
    result when nothing remains. Positions count from the least significant bit of the result.

    Attributes
    ----------
    m : Module
        Module to add to.
    name : str
        Prefix of its signals.
    bits : Value, signed
        The bits kept.
    low : int
        Position of the least bit kept.
    sticky : Value
        Whether a bit below was set.
    sign : Value
        Sign of the number.
    huge : Value
        Whether the number does not fit `width` bits.
    width : int
        Bits of the result (two's complement).
    remaining : int
        Largest shift still to come.
    fill : Value
        What comes in below. With 1 it is ``~value`` that is shifted, rounded down and watched for lost bits, and `bits`
        and the results are inverted; see `increment`.
    """

    m: Module
    name: str
    bits: Value
    low: int
    sticky: Value
    sign: Value
    huge: Value
    width: int
    remaining: int
    fill: Value

    @classmethod
    def of(
        cls,
        m: Module,
        name: str,
        value: Value,
        *,
        offset: int,
        width: int,
        amount_width: int,
        fill: Value | None = None,
    ) -> "Window":
        """Begin ``value * 2^(amount - offset)`` with an amount of `amount_width` bits."""
        fill = Const(0, 1) if fill is None else fill
        return cls(m, name, value, -offset, Const(0, 1), value[-1], Const(0, 1), width, (1 << amount_width) - 1, fill)

    def shift(self, amount: Value, unit: int = 1) -> "Window":
        """Shift left by ``amount * unit``."""
        steps = (1 << len(amount)) - 1
        remaining = self.remaining - steps * unit
        top = self.low + len(self.bits)

        def bits_in(start: int, stop: int) -> Value:
            return self.bits[max(start - self.low, 0) : max(stop - self.low, 0)]

        def any_of(bits: Value) -> Value:
            return (bits ^ self.fill.replicate(len(bits))).any()

        # A bit is lost below unless this shift brings it to `floor` or higher, lost above where it would reach the
        # sign. Both are told from the bits before the shift, by segments that matter from the same amount on.
        floor, ceiling = -1 - remaining, self.width - 1
        sticky, huge = self.sticky | any_of(bits_in(self.low, floor - steps * unit)), self.huge
        for step in range(steps):
            lost = bits_in(floor - (step + 1) * unit, floor - step * unit)
            if len(lost):
                sticky = sticky | (any_of(lost) & (amount <= step))
        for step in range(steps + 1):
            lost = bits_in(ceiling - step * unit, ceiling - (step - 1) * unit if step else top)
            if len(lost):
                huge = huge | ((lost ^ self.sign.replicate(len(lost))).any() & (amount >= step))

        low = max(self.low, floor)
        above = Cat(self.sign.replicate(max(ceiling - low, 0)))

        def cut(bits: Value, start: int) -> Value:
            """Of bits that begin at `start`, those from `low` on, and the sign in place of those that equal it."""
            extended = Cat(self.fill.replicate(max(start - low, 0)), bits[max(low - start, 0) :])
            extended = Cat(extended, above)[: max(ceiling - low, 1)] if len(extended) < ceiling - low else extended
            return Cat(extended[: max(ceiling - low, 1)], self.sign)

        if low > self.low:
            # Few of the amounts bring any bit to one place: a single multiplexer is smallest.
            choices = [cut(self.bits, self.low + step * unit) for step in range(steps + 1)]
            for position in range(len(amount)):
                choices = [
                    Mux(amount[position], choices[index + 1], choices[index]) for index in range(0, len(choices), 2)
                ]
            bits = named(self.m, f"{self.name}_by{unit}_{unit * steps}", choices[0])
        else:
            bits = self.bits
            for position in range(len(amount)):
                weight = unit << position
                shifted = Cat(self.fill.replicate(weight), bits).as_signed()
                bits = named(self.m, f"{self.name}_by{weight}", Mux(amount[position], shifted, bits))
            bits = cut(bits, low) if low + len(bits) > ceiling else bits
        bits = bits.as_signed()
        return dataclasses.replace(self, bits=bits, low=low, sticky=sticky, huge=huge, remaining=remaining)

    @property
    def floor(self) -> Value:
        """The result rounded down, `width` bits signed; only if ``huge`` is 0."""
        bits, low = self.bits, self.low
        if low > -1:
            bits, low = Cat(self.fill.replicate(low + 1), bits).as_signed(), -1
        floor = bits[-low:].as_signed()
        if len(floor) < self.width:
            floor = Cat(floor, self.sign.replicate(self.width - len(floor))).as_signed()
        return floor

    @property
    def guard(self) -> Value:
        """The bit below the result."""
        return self.bits[-1 - self.low] if self.low <= -1 else self.fill

    @property
    def increment(self) -> Value:
        """What must be added to `floor` to round to nearest, ties to even; only if `fill` is 0."""
        return self.guard & (self.sticky | self.floor[0])
