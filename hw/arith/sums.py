"""Products by a few bits, and sums of signed terms without a negation anywhere.

A *plane* is one bit of a small magnitude, with the weight of its position. A *flip* is a sign: ``value ^ flip + flip``
is the value or its negative. Every adder of the tree has a carry input, and it takes exactly the one ``+ flip`` that
its right operand needs; so signs cost no adder and no count of corrections. The first term's ``+ flip`` is left to the
end, where an accumulator can take it in the same way. A number that still lacks it is *inverted*.
"""

import dataclasses
from collections.abc import Sequence

from amaranth.hdl import Const, Module, Signal, Value, signed

from hw.arith.leaves import fused_add, leaf_target
from hw.arith.path import Path

__all__ = ["Term", "add_terms", "levels", "plane_product", "product_levels"]


def levels(count: int) -> int:
    """Levels of a tree over `count` terms."""
    return (count - 1).bit_length()


def product_levels(planes: int) -> int:
    """Cuts `plane_product` makes for so many planes."""
    return 1 + levels((planes + 1) // 2)


@dataclasses.dataclass(frozen=True)
class Term:
    """What `add_terms` adds.

    Attributes
    ----------
    value : Value, signed
        The number, or ``number ^ flip`` if `inverted`.
    limit : int
        Largest magnitude of the number.
    flip : Value
        Whether it counts negative.
    inverted : bool
        See `value`.
    """

    value: Value
    limit: int
    flip: Value
    inverted: bool = False


def plane_product(
    m: Module, platform: object, name: str, number: Value, limit: int, planes: Value, flip: Value, *, inverted: bool
) -> Path:
    """``number * planes``, a sum of the number gated by each plane; ``^ flip`` if `inverted`.

    Two planes take one `fused_add`, with both gates in it. Inverting costs nothing where the gates are lookup tables of
    their own anyway (generic leaves, or a single plane): it is done there, and each adder's carry brings back the
    ``+ flip`` that inverting one operand too many takes away.

    Parameters
    ----------
    number : Value
        A number of magnitude at most `limit`.
    planes : Value
        Unsigned bits.
    """
    limit *= (1 << len(planes)) - 1
    width = limit.bit_length() + 1
    gated_outside = leaf_target(platform) == "generic" or len(planes) == 1
    wide = Signal(signed(width), name=f"{name}_number")
    m.d.comb += wide.eq(number)

    if gated_outside:
        invert = (flip if inverted else Const(0, 1)).replicate(width)
        carry = flip if inverted else None
        terms = [
            (((wide << position)[:width] & planes[position].replicate(width)) ^ invert).as_signed()
            for position in range(len(planes))
        ]
        sums = [
            fused_add(
                m,
                platform,
                f"{name}_planes{low}",
                width,
                "plain",
                *_two(terms[low]),
                "plain",
                *_two(terms[low + 1]),
                carry,
            )
            if low + 1 < len(planes)
            else terms[low]
            for low in range(0, len(planes), 2)
        ]
    else:
        if inverted:
            raise ValueError("inverted must be false where the planes are gated inside the adders")
        carry = None
        sums = [
            fused_add(
                m,
                platform,
                f"{name}_planes{low}",
                width - low,
                "and",
                wide,
                planes[low],
                "and",
                wide << 1,
                planes[low + 1],
            )
            << low
            if low + 1 < len(planes)
            else ((wide << low)[:width] & planes[low].replicate(width)).as_signed()
            for low in range(0, len(planes), 2)
        ]
    level = 0
    while True:
        registered = yield {"flip": flip, **{f"sum{index}": value for index, value in enumerate(sums)}}
        flip = registered["flip"]
        carry = None if carry is None else flip
        sums = [registered[f"sum{index}"] for index in range(len(sums))]
        if len(sums) == 1:
            return {"value": sums[0], "flip": flip}
        level += 1
        sums = [
            fused_add(
                m,
                platform,
                f"{name}_sum{level}_{index}",
                width,
                "plain",
                *_two(sums[index]),
                "plain",
                *_two(sums[index + 1]),
                carry,
            )
            if index + 1 < len(sums)
            else sums[index]
            for index in range(0, len(sums), 2)
        ]


def _two(value: Value) -> tuple[Value, Value]:
    return value, Const(0, 1)


def add_terms(m: Module, platform: object, name: str, terms: Sequence[Term]) -> Path:
    """Sum of signed terms, short of the flip of term 0: ``value + flip`` is the sum.

    Yields once per level of the tree (`levels`), and returns ``value`` and ``flip``. The sum of at least two terms is
    inverted; a single term is returned as it is.
    """
    terms = list(terms)
    for level in range(levels(len(terms))):
        sums = []
        for index in range(0, len(terms), 2):
            left = terms[index]
            if index + 1 == len(terms):
                sums.append(left)
                continue
            right = terms[index + 1]
            limit = left.limit + right.limit
            total = fused_add(
                m,
                platform,
                f"{name}_level{level + 1}_{index // 2}",
                limit.bit_length() + 1,
                *_flipped(left),
                *_flipped(right),
                right.flip,
            )
            sums.append(Term(total, limit, left.flip, inverted=True))
        request = {}
        for index, term in enumerate(sums):
            request |= {f"value{index}": term.value, f"flip{index}": term.flip}
        registered = yield request
        terms = [
            dataclasses.replace(term, value=registered[f"value{index}"], flip=registered[f"flip{index}"])
            for index, term in enumerate(sums)
        ]
    return {"value": terms[0].value, "flip": terms[0].flip}


def _flipped(term: Term) -> tuple[str, Value, Value]:
    """Function and operands of an adder's input that inverts a term unless it is inverted already."""
    return ("plain", *_two(term.value)) if term.inverted else ("xor", term.value, term.flip)
