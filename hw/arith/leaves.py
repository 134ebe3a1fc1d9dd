"""Adders whose operands are gated or inverted on the way in, mapped into a target's carry cells where it has them.

A *leaf* is the smallest piece whose form depends on the target. The generic form of every leaf is plain Amaranth that
any tool reads; the form for a target instantiates its cells. Both compute the same function, and a test proves it.
"""

from amaranth.hdl import Cat, Const, Instance, Module, Signal, Value, ValueLike, signed

LEAF_TARGETS = ("generic", "ecp5")
"""Targets that leaves know."""

_FIRST = {
    "plain": lambda a, b: a,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
}

_SECOND = {
    "plain": lambda b, c, d: c,
    "and": lambda b, c, d: c & d,
    "xor": lambda b, c, d: c ^ d,
    "and or": lambda b, c, d: b & c | d,
}


class LeafTarget:
    """Stands in for a platform where there is no board: pass it as ``platform`` to choose the form of the leaves.

    Parameters
    ----------
    name : str
        One of `LEAF_TARGETS`.

    Raises
    ------
    ValueError
        If the target is unknown.
    """

    def __init__(self, name: str):
        if name not in LEAF_TARGETS:
            raise ValueError(f"Leaf target must be {' or '.join(LEAF_TARGETS)}, not {name!r}")
        self.leaf_target = name


def leaf_target(platform: object) -> str:
    """Target of the leaves under a platform: ``"ecp5"`` for an ECP5 board or a `LeafTarget` of that name."""
    named = getattr(platform, "leaf_target", None)
    if named is not None:
        return named
    return "ecp5" if str(getattr(platform, "device", "")).upper().startswith(("LFE5", "LAE5")) else "generic"


def fused_add(
    m: Module,
    platform: object,
    name: str,
    width: int,
    first: str,
    a: ValueLike,
    b: ValueLike,
    second: str,
    c: ValueLike,
    d: ValueLike,
    carry: ValueLike | None = None,
) -> Signal:
    """``first(a, b) + second(b, c, d) + carry``, modulo ``2^width``.

    On ECP5 each pair of bits takes one CCU2C and nothing else. Its lookup table holds the propagate bit
    ``first(a, b) ^ second(b, c, d)``, and the same table read at ``c = d = 0`` is what it generates as carry where
    nothing propagates; that is ``first(a, b)``, as it must be, because every `second` is 0 there.

    Latency: none (combinational).

    Parameters
    ----------
    m : Module
        Module to add to.
    platform : object
        Chooses the form, see `leaf_target`.
    name : str
        Name of the sum, and of the cells.
    width : int
        Bits of the sum; operands are sign-extended or cut to it.
    first : "plain" | "and" | "or" | "xor"
        Function of `a` and `b`, bit by bit.
    second : "plain" | "and" | "xor" | "and or"
        Function of `c` and `d`, bit by bit, or ``b & c | d``; 0 where those two are.
    a, b, c, d : value
        Numbers, or control bits: a single bit acts on every bit.
    carry : value, optional
        Carry into the least bit.

    Returns
    -------
    Signal, signed(width)

    Raises
    ------
    ValueError
        If a function is unknown.
    """
    if first not in _FIRST:
        raise ValueError(f"first must be one of {', '.join(_FIRST)}, not {first!r}")
    if second not in _SECOND:
        raise ValueError(f"second must be one of {', '.join(_SECOND)}, not {second!r}")
    total = Signal(signed(width), name=name)
    a, b, c, d = (_extend(value, width) for value in (a, b, c, d))
    if leaf_target(platform) == "ecp5":
        _ccu2c_chain(m, name, total, first, a, b, second, c, d, carry)
        return total
    x, y = _FIRST[first](a, b), _SECOND[second](b, c, d)
    if carry is None:
        m.d.comb += total.eq(x + y)
    else:
        # A carry as one more bit below keeps the sum a single adder for every tool.
        m.d.comb += total.eq((Cat(Const(1, 1), x) + Cat(carry, y))[1:])
    return total


def _extend(value: ValueLike, width: int) -> Value:
    value = Value.cast(value)
    if len(value) == 1 and not value.shape().signed:
        return value.replicate(width)
    if len(value) >= width:
        return value[:width]
    top = value[-1] if value.shape().signed else Const(0, 1)
    return Cat(value, top.replicate(width - len(value)))


def _ccu2c_chain(m, name, total, first, a, b, second, c, d, carry):
    table = 0
    for index in range(16):
        a_bit, b_bit, c_bit, d_bit = (index >> position & 1 for position in range(4))
        table |= (_FIRST[first](a_bit, b_bit) ^ _SECOND[second](b_bit, c_bit, d_bit)) << index
    chain = Const(0, 1) if carry is None else carry
    zero = Const(0, 1)
    for low in range(0, len(total), 2):
        high = low + 1 < len(total)
        out = Signal(1, name=f"{name}_carry{low + 2}")
        m.submodules[f"{name}_bit{low}"] = Instance(
            "CCU2C",
            p_INIT0=Const(table, 16),
            p_INIT1=Const(table, 16),
            p_INJECT1_0="NO",
            p_INJECT1_1="NO",
            i_CIN=chain,
            i_A0=a[low],
            i_B0=b[low],
            i_C0=c[low],
            i_D0=d[low],
            i_A1=a[low + 1] if high else zero,
            i_B1=b[low + 1] if high else zero,
            i_C1=c[low + 1] if high else zero,
            i_D1=d[low + 1] if high else zero,
            o_S0=total[low],
            o_S1=total[low + 1] if high else Signal(1, name=f"{name}_spare"),
            o_COUT=out,
        )
        chain = out
