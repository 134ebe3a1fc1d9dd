"""Trees over many bits, bits moved together and apart, and signals by name."""

from collections.abc import Iterable
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, ValueLike
from amaranth.lib import data


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


def looked_up(m: Module, name: str, index: Value, values: Iterable[int]) -> Signal:
    """``values[index]`` of a small table of natural numbers, in look-up tables; 0 beyond its end."""
    values = [int(value) for value in values]
    signal = Signal(range(max(values) + 1), name=name)
    with m.Switch(index):
        for number, value in enumerate(values):
            if value:
                with m.Case(number):
                    m.d.comb += signal.eq(value)
    return signal


def multiply_constant(value: Value, factor: int) -> Value:
    """``value * factor`` as shifts and adds, so that no tool spends a multiplier on it; `factor` is at least 1."""
    terms = [value << bit for bit in range(factor.bit_length()) if factor >> bit & 1]
    return sum(terms[1:], terms[0])


def saturated(value: Value, width: int) -> Value:
    """An unsigned value in so many bits: all ones if it does not fit."""
    return Mux(value[width:].any(), Const((1 << width) - 1, width), value[:width])


def bounded(value: Value, width: int) -> Value:
    """An unsigned value in so many bits, the highest of which is 1 as well for whatever does not fit.

    So sums that stay bounded never fall below ``2^(width - 1)`` again once they have reached it.
    """
    return Cat(value[: width - 1], value[width - 1 :].any())


def below_power(value: Value, power: int) -> Value:
    """Whether a signed value is below ``2^power`` in magnitude: cheaper than two comparisons."""
    above, below = value[power:], value[:power]
    return ~above.any() | (above.all() & below.any())


def in_range(value: Value, least: int, most: int) -> Value:
    """Whether a signed value is in ``least..most``, both at least 0: compares no more bits than `most` has."""
    above, below = value[most.bit_length() :], value[: most.bit_length()]
    return ~above.any() & (below >= least) & (below <= most)


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


def ones(m: Module, name: str, bits: Value | list[Value]) -> Value:
    """How many of `bits` are 1, as a tree."""
    values = [Value.cast(bit) for bit in bits]
    level = 0
    while len(values) > 1:
        sums = []
        for index in range(0, len(values) - 1, 2):
            total = values[index] + values[index + 1]
            node = Signal(total.shape(), name=f"{name}_ones{level}_{index // 2}")
            m.d.comb += node.eq(total)
            sums.append(node)
        values = sums + ([values[-1]] if len(values) % 2 else [])
        level += 1
    return values[0]


def take(
    m: Module, name: str, bits: Value, amount: Value, width: int, *, first: int = 0, most: int | None = None
) -> Value:
    """`width` bits from place ``amount << first`` on, where `amount` is at most `most`.

    The largest steps come first, and each row keeps only what the steps after it can still reach.
    """
    unit = 1 << first
    left = (1 << len(amount)) - 1 if most is None else most
    for position in reversed(range(len(amount))):
        step = 1 << position
        if step > left:
            continue
        # Steps that are left if this one is taken, and if it is not.
        after, without = min(step - 1, left - step), min(step - 1, left)
        row = Signal(min(len(bits), width + max(after, without) * unit), name=f"{name}_by{step * unit}")
        m.d.comb += row.eq(Mux(amount[position], bits[step * unit :][: width + after * unit], bits))
        bits, left = row, max(after, without)
    return bits[:width]


def pack(m: Module, name: str, bits: list[Value], mask: list[Value]) -> tuple[Value, Value]:
    """Bits whose mask is set, moved together from lane 0 up, and their number.

    A tree that joins neighbours: a node shifts its upper half by the count of its lower half. That takes about
    ``n * log2(n)`` two-way multiplexers, under half of a network that moves lane by lane and carries distances along.
    """
    if len(bits) == 1:
        return bits[0] & mask[0], Value.cast(mask[0])
    half = (len(bits) + 1) // 2
    low, low_count = pack(m, f"{name}l", bits[:half], mask[:half])
    high, high_count = pack(m, f"{name}h", bits[half:], mask[half:])
    packed, count = Signal(len(bits), name=f"{name}_packed"), Signal(range(len(bits) + 1), name=f"{name}_count")
    m.d.comb += [packed.eq(low | (high << low_count)), count.eq(low_count + high_count)]
    return packed, count


def unpack(m: Module, name: str, packed: Value, mask: list[Value]) -> list[Value]:
    """One bit per lane, taken from `packed` in order where the mask is set, else 0; inverse of `pack`."""
    counts: dict[tuple[int, int], Value] = {}

    def count(first: int, last: int) -> Value:
        """Mask bits set in lanes `first` to `last` - 1, shared by all nodes of the tree."""
        if last - first == 1:
            return Value.cast(mask[first])
        if (first, last) not in counts:
            middle = first + (last - first + 1) // 2
            node = Signal(range(last - first + 1), name=f"{name}_count{first}_{last}")
            m.d.comb += node.eq(count(first, middle) + count(middle, last))
            counts[first, last] = node
        return counts[first, last]

    def split(first: int, last: int, bits: Value) -> list[Value]:
        if last - first == 1:
            return [bits[0] & mask[first]]
        middle = first + (last - first + 1) // 2
        high = Signal(last - middle, name=f"{name}_from{middle}_{last}")
        m.d.comb += high.eq(bits >> count(first, middle))
        return split(first, middle, bits[: middle - first]) + split(middle, last, high)

    return split(0, len(mask), packed[: len(mask)])


def one_of(cases: list[tuple[Value, Value]]) -> Value:
    """The value whose case holds: cheaper than a chain of multiplexers where one case excludes the others."""
    result = Const(0, 1)
    for case, value in cases:
        result = result | (value & case.replicate(len(value)))
    return result


def prefix_ones(m: Module, name: str, bits: Value) -> list[Value]:
    """Ones among the first 0, 1, ..., n bits: a parallel prefix sum."""
    n = len(bits)
    counts: list[Value] = [bits[index] for index in range(n)]
    distance, level = 1, 0
    while distance < n:
        following = []
        for index in range(n):
            if index & distance:
                # Sklansky: the upper half of each block adds the total of the lower half.
                total = counts[index] + counts[(index & ~(distance - 1)) - 1]
                node = Signal(range(index + 2), name=f"{name}_prefix{level}_{index}")
                m.d.comb += node.eq(total)
                following.append(node)
            else:
                following.append(counts[index])
        counts, distance, level = following, distance * 2, level + 1
    return [Const(0, 1), *counts]


def choose(m: Module, name: str, select: Value, values: list[Value]) -> Value:
    """``values[select]``; 0 beyond the end."""
    for position in range(len(select)):
        chosen = []
        for index in range(0, len(values), 2):
            pair = Mux(select[position], values[index + 1] if index + 1 < len(values) else 0, values[index])
            node = Signal(len(pair), name=f"{name}{position}_{index // 2}")
            m.d.comb += node.eq(pair)
            chosen.append(node)
        values = chosen
    return values[0]
