"""IEEE 754 binary floats: formats, multiplication and addition with rounding to nearest, ties to even.

The *field* of a float is its biased exponent as stored. The *significand* is its fraction with the hidden one in front,
so that subnormals differ only in that bit; their field counts as 1. Both units round by adding one to the packed
pattern, which carries from fraction to exponent, from subnormals to normals, and into infinity, all by itself.
"""

import dataclasses
from collections.abc import Callable

from amaranth.hdl import Cat, Const, Module, Mux, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from hw.arith.bits import named
from hw.arith.shift import Window, leading_zeros, shift_left
from hw.stream import Pipelined, Stage

_NEVER = Const(0, 1)


@dataclasses.dataclass(frozen=True)
class FloatFormat:
    """A binary interchange format with subnormals, infinities and NaNs.

    Parameters
    ----------
    exponent_width : int
        Bits of the exponent field, 3..8.
    fraction_width : int
        Bits of the fraction, 2..23.

    Raises
    ------
    ValueError
        If a width is out of range.
    """

    exponent_width: int
    fraction_width: int

    def __post_init__(self) -> None:
        """Check the widths."""
        if not 3 <= self.exponent_width <= 8:
            raise ValueError(f"exponent_width must be in 3..8, not {self.exponent_width}")
        if not 2 <= self.fraction_width <= 23:
            raise ValueError(f"fraction_width must be in 2..23, not {self.fraction_width}")

    @property
    def width(self) -> int:
        """Bits of a pattern."""
        return 1 + self.exponent_width + self.fraction_width

    @property
    def bias(self) -> int:
        """Field of 1.0."""
        return (1 << self.exponent_width - 1) - 1

    @property
    def infinity(self) -> int:
        """Pattern of +infinity."""
        return (1 << self.exponent_width) - 1 << self.fraction_width

    @property
    def nan(self) -> int:
        """Pattern of the NaN that results are."""
        return self.infinity | 1 << self.fraction_width - 1

    @property
    def largest(self) -> int:
        """Pattern of the largest finite number."""
        return self.infinity - 1

    # Taking patterns apart ------------------------------------------------------------------------------------------

    def sign(self, pattern: Value) -> Value:
        """Sign bit."""
        return pattern[-1]

    def magnitude(self, pattern: Value) -> Value:
        """All but the sign; ordered like the numbers."""
        return pattern[:-1]

    def field(self, pattern: Value) -> Value:
        """Exponent field, 1 for subnormals and zeros."""
        stored = pattern[self.fraction_width : -1]
        return Cat(stored[0] | ~stored.any(), stored[1:])

    def significand(self, pattern: Value) -> Value:
        """Fraction with the hidden bit on top."""
        return Cat(pattern[: self.fraction_width], pattern[self.fraction_width : -1].any())

    def is_finite(self, pattern: Value) -> Value:
        """Whether it is neither infinity nor NaN."""
        return ~pattern[self.fraction_width : -1].all()

    def is_nan(self, pattern: Value) -> Value:
        """Whether it is a NaN."""
        return pattern[self.fraction_width : -1].all() & pattern[: self.fraction_width].any()

    def is_zero(self, pattern: Value) -> Value:
        """Whether it is a zero of either sign."""
        return ~pattern[:-1].any()


FLOAT16 = FloatFormat(5, 10)
"""IEEE 754 binary16."""

BFLOAT16 = FloatFormat(8, 7)
"""The upper half of binary32."""


@dataclasses.dataclass(frozen=True)
class Rules:
    """What results outside the finite numbers look like.

    Parameters
    ----------
    overflow : "infinity" | "clamp"
        A finite result too large becomes an infinity, or the largest finite number; ``overflow`` reports either.
    zero : "ieee" | "positive"
        An exact zero has IEEE's sign, or is always +0. (A result that only rounds to zero keeps its sign.)
    non_finite : "ieee" | "nan"
        Infinities as operands follow IEEE, or give NaN like NaNs do.

    Raises
    ------
    ValueError
        If a rule is unknown.
    """

    overflow: str = "infinity"
    zero: str = "ieee"
    non_finite: str = "ieee"

    def __post_init__(self) -> None:
        """Check the rules."""
        for name, choices in {
            "overflow": ("infinity", "clamp"),
            "zero": ("ieee", "positive"),
            "non_finite": ("ieee", "nan"),
        }.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be {' or '.join(choices)}, not {getattr(self, name)!r}")


def round_and_pack(
    s: Stage,
    format: FloatFormat,
    rules: Rules,
    *,
    sign: Value,
    above: Value,
    significand: Value,
    increment: Value,
    nan: Value,
    infinite: Value = _NEVER,
) -> None:
    """Make `value` and `overflow` of a stage: the rounded and packed pattern.

    `above` is the field minus 1 if the significand's top bit is set, and 0 otherwise; it has two bits more than a
    field.
    """
    f = format.fraction_width
    sum_width = f + format.exponent_width + 2
    rounded = named(s.m, s.label("rounded"), (Cat(Const(0, f), above) + significand + increment)[:sum_width])
    # The field of a finite number is below that of infinity, all ones.
    too_large = rounded[f : f + format.exponent_width].all() | rounded[f + format.exponent_width :].any()
    magnitude = format.width - 1
    limit = format.infinity if rules.overflow == "infinity" else format.largest
    value = Mux(too_large, limit, rounded[:magnitude])
    if rules.non_finite == "ieee":
        value = Mux(infinite, format.infinity, value)
    s.value = Mux(nan, format.nan, Cat(value[:magnitude], sign))[: format.width]
    s.overflow = too_large & ~nan & ~infinite


def float_multiply(s: Stage, format: FloatFormat, rules: Rules, a: Value, b: Value) -> Stage:
    """``a * b``: `value` and `overflow` of the stage returned.

    ::

        take apart | multiply | count leading zeros | the lesser of both counts | shift | shift | round and pack

    The second and third place for registers are right around the multiplier of the significands.
    """
    f, bias = format.fraction_width, format.bias
    finite = format.is_finite(a) & format.is_finite(b)
    if rules.non_finite == "ieee":
        s.nan = format.is_nan(a) | format.is_nan(b) | ~finite & (format.is_zero(a) | format.is_zero(b))
        s.infinite = ~finite
    else:
        s.nan, s.infinite = ~finite, _NEVER
    s.sign = format.sign(a) ^ format.sign(b)
    if rules.zero == "positive":
        s.sign = s.sign & ~format.is_zero(a) & ~format.is_zero(b)
    s.a, s.b = format.significand(a), format.significand(b)
    # The field of the product if its leading bit were the topmost, minus 1. Its least useful value shifts every bit
    # below the guard bit.
    lowest = -(f + 3)
    wide = format.exponent_width + 2
    above = (format.field(a) + format.field(b) - bias)[:wide].as_signed()
    largest_field = 2 * bias
    if 1 + largest_field - bias > 2 * f + 1:
        # A zero times a large number: the leading zeros of the product must not be taken for a normal number.
        above = Mux(format.is_zero(a) | format.is_zero(b), 0, above)
    s.above = above

    s = s.cut()
    s.product = s.a * s.b
    if 2 - bias < lowest:
        s.above = Mux(s.above < lowest, Const(lowest, signed(wide)), s.above)

    s = s.cut()
    s.zeros = leading_zeros(s.m, s.label("product"), s.product)

    s = s.cut()
    # The lesser of both counts. Everything it may come to is computed beside the subtraction whose sign decides.
    excess = named(s.m, s.label("excess"), s.above - s.zeros)
    subnormal = excess[-1]
    amount_width = (2 * f + 1 - lowest).bit_length()
    s.amount = Mux(subnormal, (s.above - lowest)[:amount_width], (s.zeros - lowest)[:amount_width])
    s.field_above = Mux(subnormal, 0, excess)[:wide]

    s = s.cut()
    product = Cat(s.product, Const(0, 1)).as_signed()
    offset, name = 2 * f + 4, s.label("product")
    s.window = Window.of(s.m, name, product, offset=offset, width=f + 2, amount_width=amount_width)
    for position in reversed(range(amount_width)):
        if position == amount_width // 2 - 1:
            s = s.cut()
        s.window = s.window.shift(s.amount[position : position + 1], 1 << position)
    s.significand, s.increment = s.window.floor[: f + 1], s.window.increment

    s = s.cut()
    result = {"sign": s.sign, "above": s.field_above, "significand": s.significand, "increment": s.increment}
    round_and_pack(s, format, rules, **result, nan=s.nan, infinite=s.infinite)
    return s


def float_add(s: Stage, format: FloatFormat, rules: Rules, a: Value, b: Value) -> Stage:
    """``a + b``: `value` and `overflow` of the stage returned.

    ::

        order by magnitude | align the smaller | add or subtract | count leading zeros | normalise | round and pack
    """
    f = format.fraction_width
    finite = format.is_finite(a) & format.is_finite(b)
    if rules.non_finite == "ieee":
        opposite = ~format.is_finite(a) & ~format.is_finite(b) & (format.sign(a) ^ format.sign(b))
        s.nan, s.infinite = format.is_nan(a) | format.is_nan(b) | opposite, ~finite
    else:
        s.nan, s.infinite = ~finite, _NEVER
    swap = format.magnitude(a) < format.magnitude(b)
    large, small = Mux(swap, b, a), Mux(swap, a, b)
    s.large, s.small = format.significand(large), format.significand(small)
    s.field, s.sign = format.field(large), format.sign(large)
    s.difference = (s.field - format.field(small))[: format.exponent_width]
    s.zero_sign = format.sign(a) & format.sign(b) if rules.zero == "ieee" else Const(0, 1)
    s.subtract = format.sign(a) ^ format.sign(b)

    s = s.cut()
    # Two bits below the significand and a sticky one are enough: only a difference below 2 can lose leading bits to
    # a subtraction, and then no bit falls out.
    small, width, sticky = Cat(Const(0, 3), s.small), f + 4, Const(0, 1)
    for position in reversed(range(len(s.difference))):
        step, moves = 1 << position, s.difference[position]
        sticky = sticky | (moves & small[:step].any())
        shifted = small[step:] if step < width else Const(0, width)
        small = named(s.m, s.label(f"small_by{step}"), Mux(moves, shifted, small))
    s.aligned, s.sticky = small, sticky

    s = s.cut()
    # The sticky bit only joins here, so that its OR runs beside the shifter.
    small = Cat(s.aligned[0] | s.sticky, s.aligned[1:])
    flipped = Cat(small ^ s.subtract.replicate(width), s.subtract)
    s.total = (Cat(Const(1, 1), Const(0, 3), s.large) + Cat(s.subtract, flipped))[1 : width + 2]

    s = s.cut()
    zeros, some = leading_zeros(s.m, s.label("total"), s.total), s.total.any()
    normal = some & (zeros < s.field)
    s.above = Mux(normal, s.field - zeros, 0)[: format.exponent_width]
    s.shift = Mux(normal, zeros, s.field)[: len(zeros)]
    s.result_sign = Mux(some | s.infinite if rules.non_finite == "ieee" else some, s.sign, s.zero_sign)

    s = s.cut()
    total = shift_left(s.m, s.label("normal"), s.total, s.shift, width + 1)
    s.significand, guard, rest = total[4:], total[3], total[:3]
    s.increment = guard & (rest.any() | s.significand[0])

    s = s.cut()
    result = {"sign": s.result_sign, "significand": s.significand, "increment": s.increment}
    round_and_pack(s, format, rules, **result, above=Cat(s.above, Const(0, 2)), nan=s.nan, infinite=s.infinite)
    return s


class _FloatUnit(Pipelined):
    """An operation on two floats, rounded to nearest, ties to even.

    Numerics: IEEE 754 with subnormals; NaN results are ``format.nan``. See `Rules` for the choices.

    Parameters
    ----------
    format : FloatFormat
        Format of operands and result.
    overflow : "infinity" | "clamp"
        What a finite result too large becomes.
    zero : "ieee" | "positive"
        Sign of exact zeros.
    non_finite : "ieee" | "nan"
        What infinities as operands do.
    depth : int
        At most this many register stages; at least 1.

    Members
    -------
    i : In(stream)
        ``{a, b}``.
    o : Out(stream)
        ``{value, overflow}``; `overflow` if a finite result was too large.

    Raises
    ------
    TypeError
        If `format` is no `FloatFormat`.
    ValueError
        If a choice is unknown or `depth` is no positive integer.
    """

    _operation: Callable[..., Stage]

    def __init__(
        self,
        format: FloatFormat,
        *,
        overflow: str = "infinity",
        zero: str = "ieee",
        non_finite: str = "ieee",
        depth: int = 16,
    ):
        if not isinstance(format, FloatFormat):
            raise TypeError(f"format must be a FloatFormat, not {format!r}")
        if not isinstance(depth, int) or depth < 1:
            raise ValueError(f"depth must be a positive integer, not {depth!r}")
        self._format = format
        self._rules = Rules(overflow, zero, non_finite)
        self._depth = depth
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout({"a": format.width, "b": format.width}))),
                "o": Out(stream.Signature(data.StructLayout({"value": format.width, "overflow": 1}))),
            }
        )

    @property
    def format(self) -> FloatFormat:
        """Format of operands and result."""
        return self._format

    def _describe(self, m: Module, platform: object) -> int:
        s = Stage.begin(m, self.i)
        s = type(self)._operation(s, self._format, self._rules, self.i.p.a, self.i.p.b)
        return s.finish(self.o, Cat(s.value, s.overflow), depth=self._depth)


class FloatMultiply(_FloatUnit):
    """Multiplies two floats, rounded to nearest, ties to even.

    ::

        significands --> multiply --> count leading zeros --> shift --> round and pack
        exponents ----> add ----------------^

    Latency: 7 clocks (at most `depth`). Throughput: one product per clock.
    """

    _operation = staticmethod(float_multiply)


class FloatAdd(_FloatUnit):
    """Adds two floats, rounded to nearest, ties to even.

    See `float_add` for the stages.

    Latency: 6 clocks (at most `depth`). Throughput: one sum per clock.
    """

    _operation = staticmethod(float_add)
