"""IEEE 754 binary floats: formats, multiplication and addition with rounding to nearest, ties to even.

The *field* of a float is its biased exponent as stored. The *significand* is its fraction with the hidden one in front,
so that subnormals differ only in that bit; their field counts as 1. Both units round by adding one to the packed
pattern, which carries from fraction to exponent, from subnormals to normals, and into infinity, all by itself.
"""

import dataclasses

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.path import Path, run
from hw.arith.shift import Window, leading_zeros, named, shift_left
from hw.stream import Pipeline

__all__ = [
    "ADD_CUTS",
    "BFLOAT16",
    "FLOAT16",
    "FloatAdd",
    "FloatFormat",
    "FloatMultiply",
    "MULTIPLY_CUTS",
    "float_add",
    "float_multiply",
    "round_and_pack",
]


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
    m: Module, format: FloatFormat, rules: Rules, *, sign, above, significand, increment, nan, infinite
) -> dict[str, Value]:
    """Round and pack. `above` is the field minus 1 if the significand's top bit is set, and 0 otherwise.

    `above` has two bits more than a field.
    """
    f = format.fraction_width
    rounded = named(m, "rounded", (Cat(Const(0, f), above) + significand + increment)[: f + format.exponent_width + 2])
    # The field of a finite number is below that of infinity, all ones.
    too_large = rounded[f : f + format.exponent_width].all() | rounded[f + format.exponent_width :].any()
    magnitude = format.width - 1
    limit = format.infinity if rules.overflow == "infinity" else format.largest
    value = Mux(too_large, limit, rounded[:magnitude])
    if rules.non_finite == "ieee":
        value = Mux(infinite, format.infinity, value)
    value = Mux(nan, format.nan, Cat(value[:magnitude], sign))
    return {"value": value[: format.width], "overflow": too_large & ~nan & ~infinite}


MULTIPLY_CUTS = 6
"""Places for registers inside `float_multiply`."""

ADD_CUTS = 5
"""Places for registers inside `float_add`."""


def float_multiply(m: Module, format: FloatFormat, rules: Rules, a: Value, b: Value) -> Path:
    """``a * b``; six places for registers, the second and third right around the multiplier of the significands.

    Returns ``value`` and ``overflow``.
    """
    f, bias = format.fraction_width, format.bias
    finite = format.is_finite(a) & format.is_finite(b)
    if rules.non_finite == "ieee":
        nan = format.is_nan(a) | format.is_nan(b) | ~finite & (format.is_zero(a) | format.is_zero(b))
        infinite = ~finite
    else:
        nan, infinite = ~finite, Const(0, 1)
    sign = format.sign(a) ^ format.sign(b)
    if rules.zero == "positive":
        sign = sign & ~format.is_zero(a) & ~format.is_zero(b)
    # The field of the product if its leading bit were the topmost, minus 1. Its least useful value shifts every bit
    # below the guard bit.
    lowest = -(f + 3)
    wide = format.exponent_width + 2
    above = (format.field(a) + format.field(b) - bias)[:wide].as_signed()
    largest_field = 2 * bias
    if 1 + largest_field - bias > 2 * f + 1:
        # A zero times a large number: the leading zeros of the product must not be taken for a normal number.
        above = Mux(format.is_zero(a) | format.is_zero(b), 0, above)
    s = yield {
        "a": format.significand(a),
        "b": format.significand(b),
        "above": above,
        "sign": sign,
        "nan": nan,
        "infinite": infinite,
    }
    above = s["above"]
    if 2 - bias < lowest:
        above = Mux(above < lowest, Const(lowest, signed(wide)), above)
    s = yield {
        "product": s["a"] * s["b"],
        "above": above,
        "sign": s["sign"],
        "nan": s["nan"],
        "infinite": s["infinite"],
    }
    flags = ("sign", "nan", "infinite")
    zeros = leading_zeros(m, "product", s["product"])
    s = yield {"zeros": zeros, **{name: s[name] for name in ("product", "above", *flags)}}
    zeros, above = s["zeros"], s["above"]
    # The lesser of both counts. Everything it may come to is computed beside the subtraction whose sign decides.
    excess = named(m, "excess", above - zeros)
    subnormal = excess[-1]
    amount_width = (2 * f + 1 - lowest).bit_length()
    amount = Mux(subnormal, (above - lowest)[:amount_width], (zeros - lowest)[:amount_width])
    left = Mux(subnormal, 0, excess)[:wide]
    s = yield {"amount": amount, "above": left, **{name: s[name] for name in ("product", *flags)}}
    window = Window.of(
        m,
        "product",
        Cat(s["product"], Const(0, 1)).as_signed(),
        offset=2 * f + 4,
        width=f + 2,
        amount_width=amount_width,
    )
    for position in reversed(range(amount_width)):
        if position == amount_width // 2 - 1:
            kept = {f"kept_{name}": s[name] for name in ("above", "amount", *flags)}
            registered = yield {**kept, **window.registers()}
            window = window.resume(registered)
            s = {name: registered[f"kept_{name}"] for name in ("above", "amount", *flags)}
        window = window.shift(s["amount"][position : position + 1], 1 << position)
    s = yield {
        "significand": window.floor[: f + 1],
        "increment": window.increment,
        **{name: s[name] for name in ("above", *flags)},
    }
    return round_and_pack(m, format, rules, **s)


def float_add(m: Module, format: FloatFormat, rules: Rules, a: Value, b: Value) -> Path:
    """``a + b``; five places for registers.

    ::

        order by magnitude | align the smaller | add or subtract | count leading zeros | normalise | round and pack

    Returns ``value`` and ``overflow``.
    """
    f = format.fraction_width
    if rules.non_finite == "ieee":
        opposite = ~format.is_finite(a) & ~format.is_finite(b) & (format.sign(a) ^ format.sign(b))
        nan = format.is_nan(a) | format.is_nan(b) | opposite
        infinite = ~format.is_finite(a) | ~format.is_finite(b)
    else:
        nan, infinite = ~format.is_finite(a) | ~format.is_finite(b), Const(0, 1)
    swap = format.magnitude(a) < format.magnitude(b)
    large, small = Mux(swap, b, a), Mux(swap, a, b)
    difference = (format.field(large) - format.field(small))[: format.exponent_width]
    both_negative = format.sign(a) & format.sign(b)
    s = yield {
        "large": format.significand(large),
        "small": format.significand(small),
        "difference": difference,
        "field": format.field(large),
        "sign": format.sign(large),
        "zero_sign": both_negative if rules.zero == "ieee" else Const(0, 1),
        "subtract": format.sign(a) ^ format.sign(b),
        "nan": nan,
        "infinite": infinite,
    }
    # Two bits below the significand and a sticky one are enough: only a difference below 2 can lose leading bits to
    # a subtraction, and then no bit falls out.
    small = Cat(Const(0, 3), s["small"])
    width = f + 4
    sticky = Const(0, 1)
    difference = s["difference"]
    for position in reversed(range(len(difference))):
        step = 1 << position
        if step >= width:
            sticky = sticky | (difference[position] & small.any())
            shifted = Const(0, width)
        else:
            sticky = sticky | (difference[position] & small[:step].any())
            shifted = small[step:]
        small = named(m, f"small_by{step}", Mux(difference[position], shifted, small))
    names = ("field", "sign", "zero_sign", "subtract", "nan", "infinite")
    s = yield {
        "large": Cat(Const(0, 3), s["large"]),
        "small": small,
        "sticky": sticky,
        **{name: s[name] for name in names},
    }
    # The sticky bit only joins here, so that its OR runs beside the shifter.
    small = Cat(s["small"][0] | s["sticky"], s["small"][1:])
    total = Signal(width + 1, name="aligned_sum")
    flipped = Cat(small ^ s["subtract"].replicate(width), s["subtract"])
    m.d.comb += total.eq((Cat(Const(1, 1), s["large"]) + Cat(s["subtract"], flipped))[1:])
    names = ("field", "sign", "zero_sign", "nan", "infinite")
    s = yield {"total": total, **{name: s[name] for name in names}}
    zeros = leading_zeros(m, "total", s["total"])
    nonzero = s["total"].any()
    normal = nonzero & (zeros < s["field"])
    left = Mux(normal, s["field"] - zeros, 0)[: format.exponent_width]
    shift = Mux(normal, zeros, s["field"])[: len(zeros)]
    sign = Mux(nonzero, s["sign"], s["zero_sign"])
    sign = Mux(s["infinite"], s["sign"], sign) if rules.non_finite == "ieee" else sign
    s = yield {
        "total": s["total"],
        "shift": shift,
        "above": left,
        "sign": sign,
        "nan": s["nan"],
        "infinite": s["infinite"],
    }
    total = shift_left(m, "normal", s["total"], s["shift"], width + 1)[: width + 1]
    significand, guard, rest = total[4:], total[3], total[:3]
    s = yield {
        "significand": significand,
        "increment": guard & (rest.any() | significand[0]),
        "above": Cat(s["above"], Const(0, 2)),
        "sign": s["sign"],
        "nan": s["nan"],
        "infinite": s["infinite"],
    }
    return round_and_pack(m, format, rules, **s)


class _FloatUnit(wiring.Component):
    _path = None
    _cuts = 0

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

    @property
    def latency(self) -> int:
        """Clocks from operands to their result."""
        return min(self._cuts, self._depth)

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        pipe = Pipeline(m, self.i, self.o, cuts=self._cuts, depth=self._depth)
        result = run(pipe, type(self)._path(m, self._format, self._rules, self.i.p.a, self.i.p.b))
        pipe.finish(Cat(result["value"], result["overflow"]))
        return m


class FloatMultiply(_FloatUnit):
    """Multiplies two floats, rounded to nearest, ties to even.

    ::

        significands --> multiply --> count leading zeros --> shift --> round and pack
        exponents ----> add ----------------^

    Latency: 7 clocks (at most `depth`). Throughput: one product per clock.

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

    _path = staticmethod(float_multiply)
    _cuts = MULTIPLY_CUTS + 1


class FloatAdd(_FloatUnit):
    """Adds two floats, rounded to nearest, ties to even.

    See `float_add` for the stages.

    Latency: 6 clocks (at most `depth`). Throughput: one sum per clock.

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

    _path = staticmethod(float_add)
    _cuts = ADD_CUTS + 1
