"""Where a group that starts at any bit of a word would end, for all bits at once.

The start of a group is known only when the group before it has been measured. The *scan* does not wait: it measures at
every bit, so that a choice among finished ends is all that is left for the moment when the start is known.

Numbers are *sliced*: a list with one vector for each binary digit, the least first, whose bit x belongs to place x of
the stream. An operation on two vectors is that operation at every place, and a shift moves all places.
"""

import functools
import itertools
import operator

from amaranth.hdl import Const, Value

from hw.arith.bits import named
from hw.link.delta_code import PREFIX_WIDTH, Code
from hw.stream import Stage

Sliced = list[Value]

_PREFIX_WIDTH = 10
"""Bits of the longest prefix that planes follow."""


class Scan:
    """The ends of the groups of a code without rests (``k <= 3``); with them a place would cost too much.

    Parameters
    ----------
    code : Code
        The code.
    width : int
        Places to scan.

    Attributes
    ----------
    ahead : int
        Bits needed after the last place.
    end_width : int
        Bits of an end, counted from place 0.
    """

    def __init__(self, code: Code, width: int):
        if code.rest_width:
            raise ValueError(f"digit_width must be at most 3 for a scan, not {code.parameters.digit_width}")
        self.code, self.width = code, width
        n_planes = 2 if code.planes == 3 else 1
        self.ahead = code.count_width + max(_PREFIX_WIDTH + n_planes * code.parameters.lanes, PREFIX_WIDTH)
        self.end_width = (width - 1 + code.longest).bit_length()

    def ends(self, s: Stage, bits: Value) -> Stage:
        """Ends for groups at the first `width` of `bits`: the sliced number `ends` of the stage returned.

        They are those of `Code.measure`, for whatever bits; a group that needs bits after `bits` ends after them.
        """
        self._m = s.m
        code, n = self.code, self.code.parameters.lanes
        sums: dict[int, Sliced] = {1: [bits]}
        while 2 * max(sums) <= n:
            half = max(sums)
            sums[2 * half] = self._pair(f"ones{2 * half}", sums[half], _from(sums[half], half))
        ones: Sliced = []
        for size in sorted((size for size in sums if n & size), reverse=True):
            part = _from(sums[size], n & ~(2 * size - 1))
            ones = self._add(f"ones_{n}_{size}", ones, part, n)
        s.all, s.ones = ones, list(sums.values())

        s = s.cut()
        sums = dict(zip(sums, s.ones, strict=True))
        s.bits = sums[1][0]
        # What the fields after the prefix add to their least lengths, by the place after the prefix.
        above0 = _from(s.all, code.count_width)
        s.slots, planes = self._slots(s.bits), above0
        if code.planes == 3:
            above1 = self._first(above0, {size: _from(ones, code.count_width + n) for size, ones in sums.items()})
            planes = self._add("planes", above1, [Const(0, len(s.bits)), *above0], 3 * n)
        most = code.parameters.outliers * code.slot_width + n * (3 if code.planes == 3 else 1)
        s.late = self._add("late", s.slots, planes, most)

        s = s.cut()
        s.ends = self._choose(s.bits, s.late, s.slots)
        return s

    def _slots(self, bits: Value) -> Sliced:
        """Bits of the outliers whose count stands at each place; none if there are too many, which is refused."""
        slots: Sliced = []
        size, width, most = self.code.slot_width, self.code.count_width, self.code.parameters.outliers
        fields = [bits[digit:][: len(bits) - width + 1] for digit in range(width)]
        refused = [_all_of(fields, count) for count in range(most + 1, 1 << width)]
        if refused:
            fits = ~self._named("too_many", functools.reduce(operator.or_, refused))
            fields = [field & fits for field in fields]
        for digit, field in enumerate(fields):
            added = size << digit
            part = [field if added >> place & 1 else Const(0, len(field)) for place in range(added.bit_length())]
            slots = self._add(f"slots{digit}", slots, part, size * self.code.parameters.outliers)
        return slots

    def _first(self, amount: Sliced, sums: dict[int, Sliced]) -> Sliced:
        """How many of the first `amount` places after each place are 1; `amount` is at most n."""
        n = self.code.parameters.lanes
        result: Sliced = []
        every: Sliced = []
        for digit in reversed(range(len(amount))):
            size = 1 << digit
            # The digits above say how far the places of this digit are. Those past n are not to be reached.
            choices = {start: _from(sums[size], start) for start in range(0, n - size + 1, 2 * size)}
            for above in range(digit + 1, len(amount)):
                step = 1 << above
                choices = {
                    start: self._mux(f"first{size}_{above}_{start}", amount[above], choices.get(start + step), value)
                    for start, value in choices.items()
                    if not start & step
                }
            part = self._mux(
                f"first{size}", amount[digit], choices[0], [Const(0, len(amount[digit]))] * len(choices[0])
            )
            if size == n:
                every = part  # an amount of n has no other digit
            else:
                result = self._add(f"first_to{size}", result, part, n)
        return self._either("first", every, result)

    def _choose(self, bits: Value, total: Sliced, slots: Sliced) -> Sliced:
        """The end of a group at each place, by its prefix."""
        code, n, width = self.code, self.code.parameters.lanes, self.width
        b = [bits[place:][:width] for place in range(10)]
        explicit = b[0] & b[1] & b[2] & b[3]
        # Code 62 is refused without replay groups, and ends where it is.
        special = explicit & b[5] & b[6] & b[7] & b[8] & b[9]
        poisoned = special & b[4] if code.parameters.replays else special
        fields = code.count_width + n
        cases = [
            (~b[0], 1 + fields, _from(total, 1)),
            (b[0] & (b[1] ^ b[2]), 3 + fields, _from(total, 3)),
            (explicit & ~special, 10 + fields, _from(total, 10)),
            (b[0] & ~b[1] & ~b[2], 3, []),
            (poisoned, 10, []),
        ]
        replay = b[0] & b[1] & b[2] & ~b[3]
        if not code.parameters.replays:
            cases += [(replay, 4, [])]
        else:
            cases += [
                (replay, 4 + code.count_width, _from(slots, 4)),
                (special & ~b[4], 16 + code.count_width, _from(slots, 16)),
            ]
        fixed = [Const(0, width)] * self.end_width
        late = [Const(0, width)] * len(total)
        for index, (case, length, added) in enumerate(cases):
            here = self._named(f"prefix_case{index}", case)
            for digit in range(self.end_width):
                mask = sum((place + length >> digit & 1) << place for place in range(width))
                fixed[digit] = fixed[digit] | (here & Const(mask, width))
            for digit, plane in enumerate(added):
                late[digit] = late[digit] | (here & plane[:width])
        fixed = [self._named(f"end_fixed{digit}", plane) for digit, plane in enumerate(fixed)]
        late = [self._named(f"end_late{digit}", plane) for digit, plane in enumerate(late)]
        return self._add("end", fixed, late, (1 << self.end_width) - 1)

    # Sliced numbers -------------------------------------------------------------------------------------------------

    def _named(self, name: str, value: Value) -> Value:
        return named(self._m, name, value)

    def _add(self, name: str, a: Sliced, b: Sliced, most: int) -> Sliced:
        """Sum, at most `most`, at the places that both have."""
        if not a or not b:
            return a or b
        places = min(len(plane) for plane in [*a, *b])
        carry, result = Const(0, places), []
        for digit in range(most.bit_length()):
            x, y = (v[digit][:places] if digit < len(v) else Const(0, places) for v in (a, b))
            result.append(self._named(f"{name}_sum{digit}", x ^ y ^ carry))
            carry = self._named(f"{name}_carry{digit}", (x & y) | (carry & (x | y)))
        return result

    def _pair(self, name: str, a: Sliced, b: Sliced) -> Sliced:
        """Sum of two numbers that are at most a power of two, that of their highest digit, at the places of both."""
        places = min(len(plane) for plane in [*a, *b])
        # One that has this digit has no other, so no carry comes where it is.
        x, y = a[-1][:places], b[-1][:places]
        *low, carry = self._add(name, a[:-1], b[:-1], (1 << len(a)) - 2) or [Const(0, places)]
        return [*low, self._named(f"{name}_half", (x ^ y) | carry), self._named(f"{name}_all", x & y)]

    def _either(self, name: str, a: Sliced, b: Sliced) -> Sliced:
        """`a` or `b` where the other one is 0, at the places that both have."""
        if not a or not b:
            return a or b
        places = min(len(plane) for plane in [*a, *b])
        pairs = itertools.zip_longest(a, b, fillvalue=Const(0, places))
        return [self._named(f"{name}_{digit}", x[:places] | y[:places]) for digit, (x, y) in enumerate(pairs)]

    def _mux(self, name: str, select: Value, one: Sliced | None, zero: Sliced) -> Sliced:
        if one is None:
            return zero
        places = min(len(plane) for plane in [select, *one, *zero])
        select = select[:places]
        return [
            self._named(f"{name}_{digit}", (select & a[:places]) | (~select & b[:places]))
            for digit, (a, b) in enumerate(zip(one, zero, strict=True))
        ]


def _all_of(fields: list[Value], number: int) -> Value:
    """Where the bits of `fields` are those of `number`."""
    return functools.reduce(
        operator.and_, (field if number >> digit & 1 else ~field for digit, field in enumerate(fields))
    )


def _from(planes: Sliced, place: int) -> Sliced:
    """The number whose place 0 is `place`."""
    return [plane[place:] for plane in planes]
