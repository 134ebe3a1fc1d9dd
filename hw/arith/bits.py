"""Trees over many bits, and signals by name."""

from collections.abc import Iterable
from typing import Any

from amaranth.hdl import Const, Module, Signal, Value, ValueLike
from amaranth.lib import data

__all__ = ["add_thermometers", "filled", "multiply_constant", "named", "or_tree"]


def named(m: Module, name: str, value: ValueLike) -> Signal:
    """A signal of that name, driven by `value`."""
    value = Value.cast(value)
    signal = Signal(value.shape(), name=name)
    m.d.comb += signal.eq(value)
    return signal


def filled(m: Module, name: str, layout: data.StructLayout, **fields: Any) -> data.View:
    """A signal of `layout` with these fields, a list for an array's; 0 where none is given.

    Raises
    ------
    KeyError
        If `layout` has no such field.
    """
    signal = Signal(layout, name=name)
    for field, value in fields.items():
        if isinstance(value, list):
            m.d.comb += [part.eq(item) for part, item in zip(signal[field], value, strict=True)]
        else:
            m.d.comb += signal[field].eq(value)
    return signal


def multiply_constant(value: Value, factor: int) -> Value:
    """``value * factor`` as shifts and adds, so that no tool spends a multiplier on it; `factor` is at least 1."""
    terms = [value << bit for bit in range(factor.bit_length()) if factor >> bit & 1]
    return sum(terms[1:], terms[0])


def or_tree(values: Iterable[ValueLike]) -> Value:
    """OR of all values, as a tree; 0 if there is none. The bits of a value are values."""
    values = [Value.cast(value) for value in values]
    if not values:
        return Const(0, 1)
    while len(values) > 1:
        values = [
            values[index] | values[index + 1] if index + 1 < len(values) else values[index]
            for index in range(0, len(values), 2)
        ]
    return values[0]


def add_thermometers(a: list[Value], b: list[Value], limit: int) -> list[Value]:
    """Thermometer of the sum of two counts, saturating at `limit`.

    A *thermometer* is a count written as bits, of which bit j is set when the count is above j.
    """
    reach = min(len(a) + len(b), limit)
    # The sum is at least c when, for some split c = x + y, the counts are at least x and y.
    return [
        or_tree(
            a[x - 1] & b[y - 1] if x and y else a[x - 1] if x else b[y - 1]
            for x in range(count + 1)
            for y in [count - x]
            if x <= len(a) and y <= len(b)
        )
        for count in range(1, reach + 1)
    ]
