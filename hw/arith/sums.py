"""Products by a few bits, and sums of signed terms without a negation anywhere.

A *plane* is one bit of a small magnitude, with the weight of its position. A *flip* is a sign: ``value ^ flip + flip``
is the value or its negative. Every adder of the tree has a carry input, and it takes exactly the one ``+ flip`` that
its right operand needs; so signs cost no adder and no count of corrections. The first term's ``+ flip`` is left to the
end, where an accumulator can take it in the same way. A number that still lacks it is *inverted*.
"""

import dataclasses
from collections.abc import Sequence

from amaranth.hdl import Const, Signal, Value, signed

from hw.arith.leaves import fused_add, leaf_target
from hw.stream import Stage


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
    s: Stage, platform: object, number: Value, limit: int, planes: Value, flip: Value, *, inverted: bool
) -> Stage:
    """``number * planes``, a sum of the number gated by each plane; ``^ flip`` if `inverted`.

    Two planes take one `fused_add`, with both gates in it. Inverting costs nothing where the gates are lookup tables of
    their own anyway (generic leaves, or a single plane): it is done there, and each adder's carry brings back the
    ``+ flip`` that inverting one operand too many takes away.

    Parameters
    ----------
    s : Stage
        Where the operands are.
    platform : object
        Chooses the leaves.
    number : Value
        A number of magnitude at most `limit`.
    planes : Value
        Unsigned bits.

    Returns
    -------
    Stage
        With ``value`` and ``flip``.
    """
    limit *= (1 << len(planes)) - 1
    width = limit.bit_length() + 1
    gated_outside = leaf_target(platform) == "generic" or len(planes) == 1
    if inverted and not gated_outside:
        raise ValueError("inverted must be false where the planes are gated inside the adders")
    s.flip = flip
    wide = Signal(signed(width), name=s.label("number"))
    s.m.d.comb += wide.eq(number)

    def gated(low: int) -> Value:
        """The number, times a plane's weight, gated by it."""
        invert = (s.flip if inverted else Const(0, 1)).replicate(width)
        return (((wide << low)[:width] & planes[low].replicate(width)) ^ invert).as_signed()

    sums = []
    for low in range(0, len(planes), 2):
        if low + 1 == len(planes):
            sums.append(gated(low))
        elif gated_outside:
            sums.append(_add(s, platform, f"planes{low}", width, gated(low), gated(low + 1), inverted=inverted))
        else:
            operands = ("and", wide, planes[low], "and", wide << 1, planes[low + 1])
            sums.append(fused_add(s.m, platform, s.label(f"planes{low}"), width - low, *operands) << low)
    s.sums = sums
    s, level = s.cut(), 0
    while len(s.sums) > 1:
        level += 1
        s.sums = [
            _add(s, platform, f"sum{level}_{index}", width, *s.sums[index : index + 2], inverted=inverted)
            if index + 1 < len(s.sums)
            else s.sums[index]
            for index in range(0, len(s.sums), 2)
        ]
        s = s.cut()
    s.value = s.sums[0]
    return s


def _add(s: Stage, platform: object, name: str, width: int, a: Value, b: Value, *, inverted: bool) -> Signal:
    """``a + b``, and ``+ flip`` if both are inverted, so that their sum is."""
    carry = s.flip if inverted else None
    return fused_add(s.m, platform, s.label(name), width, "plain", a, Const(0, 1), "plain", b, Const(0, 1), carry)


def add_terms(s: Stage, platform: object, terms: Sequence[Term]) -> Stage:
    """Sum of signed terms, a cut for each level of the tree.

    Parameters
    ----------
    s : Stage
        Where the terms are.
    platform : object
        Chooses the leaves.
    terms : sequence of Term
        At least one.

    Returns
    -------
    Stage
        With ``total``, a `Term` short of its own flip: ``total.value + total.flip`` is the sum. The total of at least
        two terms is inverted; a single term is returned as it is.
    """
    s.terms, level = list(terms), 0
    while len(s.terms) > 1:
        level += 1
        sums = []
        for index in range(0, len(s.terms), 2):
            pair = s.terms[index : index + 2]
            if len(pair) == 2:
                left, right = pair
                limit = left.limit + right.limit
                name, width = s.label(f"level{level}_{index // 2}"), limit.bit_length() + 1
                total = fused_add(s.m, platform, name, width, *_flipped(left), *_flipped(right), right.flip)
                sums.append(Term(total, limit, left.flip, inverted=True))
            else:
                sums += pair
        s.terms = sums
        s = s.cut()
    s.total = s.terms[0]
    return s


def _flipped(term: Term) -> tuple[str, Value, Value]:
    """Function and operands of an adder's input that inverts a term unless it is inverted already."""
    return ("plain", term.value, Const(0, 1)) if term.inverted else ("xor", term.value, term.flip)
