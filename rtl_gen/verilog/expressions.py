"""Operators as Verilog expressions, put into each other where that does not change what they compute.

The width and sign in which Verilog evaluates an operator depend on all of the expression around it. An `Expression`
knows what it looks like, how wide Verilog finds it alone (`width`) and how many bits it means (`bits`), and
`holds_in` tells whether it still means that within a wider one.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from rtl_gen.verilog.rtlil import Bits, Cell, Constant, Slice

# Ranks: what stands lower needs brackets inside what stands higher.
_PRIMARY, _UNARY, _PREFIX, _BINARY, _CHOICE = 5, 4, 3, 2, 1

_SIGNS = {
    "$and": "&",
    "$or": "|",
    "$xor": "^",
    "$add": "+",
    "$sub": "-",
    "$mul": "*",
    "$eq": "==",
    "$ne": "!=",
    "$lt": "<",
    "$le": "<=",
    "$gt": ">",
    "$ge": ">=",
}

_OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}

_REDUCE = {"$reduce_or": "|", "$reduce_bool": "|", "$reduce_and": "&", "$reduce_xor": "^"}

# From here on bits of one vector that are and-ed or or-ed are written as a reduction.
_RUN = 3


@dataclasses.dataclass(frozen=True)
class Expression:
    """A Verilog expression.

    Parameters
    ----------
    form : str
        Its operator; ``closed`` if nothing around it changes what it computes.
    text : str
        What it looks like.
    rank : int
        How tightly it binds.
    width : int
        Bits that Verilog gives it where nothing around it is wider.
    bits : int
        Bits that it means.
    operands : tuple of Expression
        Those that are evaluated in the width around it.
    signed : bool
        Whether Verilog takes it as signed.
    exact : bool
        Whether its result has room for every value, so that it may be computed in more bits.
    wires : tuple of str
        Wires that it reads.
    chain : str
        The operator whose chain it is, ``&`` or ``|`` or ``^``, whatever form it is written in.
    terms : tuple of Expression
        What that chain combines.
    opposite : str
        The text of its inverse, for what has one.
    bit : tuple of str, int and int, or None
        Vector, index and width of the vector, for a single bit of one.
    known : str
        The bits of a constant.
    """

    form: str
    text: str
    rank: int
    width: int
    bits: int
    operands: tuple["Expression", ...] = ()
    signed: bool = False
    exact: bool = False
    wires: tuple[str, ...] = ()
    chain: str = ""
    terms: tuple["Expression", ...] = ()
    opposite: str = ""
    bit: tuple[str, int, int] | None = None
    known: str = ""

    @property
    def is_closed(self) -> bool:
        """Whether it can stand anywhere."""
        return self.form == "closed"

    @property
    def stands_alone(self) -> bool:
        """Whether it is right where nothing around it gives it a width: in conditions, concatenations, connections."""
        return self.width == self.bits and self.holds_in(self.width, self.bits, self.signed)

    def holds_in(self, context: int, needed: int, signed: bool = False) -> bool:
        """Whether its low `needed` bits are right if Verilog evaluates it in `context` bits, signed or not."""
        if self.is_closed:
            return self.signed == signed or not signed
        if self.signed != signed:
            return False
        if self.form in ("&", "|", "^", "?"):
            return all(each.holds_in(context, needed, signed) for each in self.operands)
        if self.form == "~":
            return needed <= self.bits and self.operands[0].holds_in(context, needed, signed)
        if self.form == ">>":
            (source,) = self.operands
            return (needed <= self.bits or self.bits >= source.bits) and source.holds_in(context, context, signed)
        return (needed <= self.bits or self.exact) and all(
            each.holds_in(context, needed, signed) for each in self.operands
        )


def constant(bits: str) -> str:
    """A constant in Verilog."""
    if set(bits) <= {"0", "1"}:
        return f"{len(bits)}'b{bits}" if len(bits) == 1 else f"{len(bits)}'h{int(bits, 2):x}"
    return f"{len(bits)}'b{bits.replace('-', 'x')}"


def leaf(piece: Constant | Slice, name: str, total: int) -> Expression:
    """A constant, or part of a vector called `name` of `total` bits."""
    count = piece.width
    if isinstance(piece, Constant):
        return Expression("closed", constant(piece.bits), _PRIMARY, count, count, known=piece.bits)
    bit = None
    if count == total:
        text = name
    elif count == 1:
        text, bit = f"{name}[{piece.low}]", (name, piece.low, total)
    else:
        text = f"{name}[{piece.high}:{piece.low}]"
    return Expression("closed", text, _PRIMARY, count, count, wires=(piece.wire,), bit=bit)


def named(text: str, count: int, wires: tuple[str, ...]) -> Expression:
    """Something with a name of its own, such as the row of a memory."""
    return Expression("closed", text, _PRIMARY, count, count, wires=wires)


def inverse(bit: Expression) -> Expression:
    """The inverse of a single bit."""
    return _inverse(bit, 1, bit.wires)


def equals(found: Expression, bits: str) -> Expression:
    """Whether something that stands alone is a constant."""
    return _comparison("==", found, leaf(Constant(bits), "", len(bits)), False, found.wires)


def value(parts: Sequence[Expression]) -> Expression:
    """Several expressions side by side, most significant first; each must stand alone."""
    if len(parts) == 1:
        return parts[0]
    texts: list[str] = []
    position = 0
    while position < len(parts):
        end = position
        while end < len(parts) and parts[end].text == parts[position].text:
            end += 1
        count, text = end - position, parts[position].text
        texts.append(f"{{{count}{{{text}}}}}" if count > 1 else text)
        position = end
    text = texts[0] if len(texts) == 1 else "{" + ", ".join(texts) + "}"
    total = sum(part.bits for part in parts)
    return Expression("closed", text, _PRIMARY, total, total, wires=_wires(parts))


def _wires(parts: Iterable[Expression]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(wire for part in parts for wire in part.wires))


def _in(expression: Expression, rank: int) -> str:
    """The text of an operand of something of that rank."""
    return expression.text if expression.rank > rank else f"({expression.text})"


def _signed(expression: Expression) -> Expression | None:
    """An expression as an operand of a signed operator."""
    if expression.signed:
        return expression
    if not expression.stands_alone:
        return None
    text, bits = _signed_text(expression), expression.bits
    return Expression("closed", text, _PRIMARY, bits, bits, signed=True, wires=expression.wires)


def _signed_text(expression: Expression) -> str:
    bits = expression.known
    # The least number has no positive counterpart that could be negated.
    if set(bits) - {"0", "1"} or "1" not in bits[1:]:
        return f"$signed({expression.text})"
    number = int(bits, 2)
    size = len(bits)
    return f"-{size}'sd{(1 << size) - number}" if bits[0] == "1" else f"{size}'sd{number}"


def operator(cell: Cell, operand: Callable[[Bits], Expression]) -> Expression | None:
    """The expression of an operator whose operands are as `operand` gives them; None if they do not fit in there."""
    bits = cell.outputs["Y"][0].width
    kind = cell.kind
    inputs = {port: operand(found) for port, found in cell.inputs.items() if found or port == "A"}
    wires = _wires(inputs.values())
    a = inputs["A"]
    if kind in _REDUCE:
        return _reduction(_REDUCE[kind], a, wires) if bits == 1 else None
    if kind == "$not":
        result = _inverse(a, bits, wires)
    elif kind == "$neg":
        result = _arithmetic("-", [a], bits, cell.signed, wires)
    elif kind in ("$and", "$or", "$xor"):
        result = _bitwise(_SIGNS[kind], [a, inputs["B"]], bits, wires)
    elif kind == "$mux":
        result = _choice(inputs["S"], inputs["B"], a, bits, wires)
    elif kind in ("$add", "$sub", "$mul"):
        result = _arithmetic(_SIGNS[kind], [a, inputs["B"]], bits, cell.signed, wires)
    elif kind in _SIGNS:
        return _comparison(_SIGNS[kind], a, inputs["B"], cell.signed, wires) if bits == 1 else None
    elif kind in ("$shl", "$shr", "$sshr", "$shift"):
        result = _shift(kind, a, inputs["B"], bits, cell.signed, wires)
    elif kind in ("$divfloor", "$modfloor"):
        return _division(kind, a, inputs["B"], bits, cell.signed, wires)
    else:
        raise ValueError(f"component must be made of what Verilog has operators for, not {kind} cells")
    if result is None or not result.holds_in(max(result.width, bits), bits, result.signed):
        return None
    return result


def _reduction(sign: str, a: Expression, wires: tuple[str, ...]) -> Expression | None:
    if not a.stands_alone or a.signed:
        return None
    text = sign + (a.text if a.rank == _PRIMARY else f"({a.text})")
    return Expression("closed", text, _PREFIX, 1, 1, wires=wires, opposite=f"~{text}")


def _inverse(a: Expression, bits: int, wires: tuple[str, ...]) -> Expression | None:
    if a.signed:
        return None
    if a.opposite and bits == 1:
        return dataclasses.replace(a, text=a.opposite, opposite=a.text, chain="", terms=())
    text = f"~{a.text}" if a.rank == _PRIMARY else f"~({a.text})"
    return Expression("~", text, _UNARY, a.width, bits, (a,), wires=wires)


def _bitwise(sign: str, operands: list[Expression], bits: int, wires: tuple[str, ...]) -> Expression | None:
    if any(each.signed or each.bits != bits for each in operands):
        return None
    terms = tuple(term for each in operands for term in (each.terms if each.chain == sign else (each,)))
    written = _runs(sign, terms) if bits == 1 and sign != "^" else list(terms)
    if len(written) == 1:
        return dataclasses.replace(written[0], chain=sign, terms=terms)
    text = f" {sign} ".join(_in(each, _PREFIX) for each in written)
    width = max(each.width for each in operands)
    return Expression(sign, text, _BINARY, width, bits, tuple(operands), wires=wires, chain=sign, terms=terms)


def _runs(sign: str, terms: Sequence[Expression]) -> list[Expression]:
    """Put neighbouring bits of a vector, or their inverses, together: ``|a[5:2]``, ``~|a[5:2]``."""
    groups: dict[tuple[str, bool], dict[int, Expression]] = {}
    for term in terms:
        inverse = term.form == "~"
        bit = term.operands[0].bit if inverse else term.bit
        if bit is not None:
            groups.setdefault((bit[0], inverse), {}).setdefault(bit[1], term)
    # The first term of a run stands for all of it.
    replaced: dict[Expression, Expression | None] = {}
    for (name, inverse), found in groups.items():
        for run in _neighbours(sorted(found)):
            members = [found[index] for index in run]
            bit = (members[0].operands[0] if inverse else members[0]).bit
            if len(run) < min(_RUN, bit[2]):
                continue
            part = name if len(run) == bit[2] else f"{name}[{run[-1]}:{run[0]}]"
            text = {"&": "~|" if inverse else "&", "|": "~&" if inverse else "|"}[sign] + part
            opposite = text[1:] if inverse else f"~{text}"
            reduction = Expression("closed", text, _PREFIX, 1, 1, wires=members[0].wires, opposite=opposite)
            replaced.update(dict.fromkeys(members))
            replaced[next(term for term in terms if term in members)] = reduction
    written = (replaced.get(term, term) for term in dict.fromkeys(terms))
    return [term for term in written if term is not None]


def _neighbours(numbers: Sequence[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def _choice(
    select: Expression, then: Expression, otherwise: Expression, bits: int, wires: tuple[str, ...]
) -> Expression | None:
    if not select.stands_alone or then.signed or otherwise.signed:
        return None
    tail = otherwise.text if otherwise.rank != _BINARY else f"({otherwise.text})"
    text = f"{_in(select, _PREFIX)} ? {_in(then, _BINARY)} : {tail}"
    width = max(then.width, otherwise.width)
    return Expression("?", text, _CHOICE, width, bits, (then, otherwise), wires=wires)


def _operands(operands: list[Expression], signed: bool) -> list[Expression] | None:
    if not signed:
        # A constant is written as wide as what it is combined with.
        count = max(each.bits for each in operands)
        operands = [
            leaf(Constant(each.known.zfill(count)), "", count) if each.known.isdigit() else each for each in operands
        ]
        return None if any(each.signed for each in operands) else operands
    found = [_signed(each) for each in operands]
    return None if None in found else found


def _arithmetic(
    sign: str, operands: list[Expression], bits: int, signed: bool, wires: tuple[str, ...]
) -> Expression | None:
    operands = _operands(operands, signed)
    if operands is None:
        return None
    widths = [each.bits for each in operands]
    width = max(each.width for each in operands)
    if len(operands) == 1:
        text, exact = f"-{_in(operands[0], _PREFIX)}", signed and bits > widths[0]
        return Expression(sign, text, _PREFIX, width, bits, tuple(operands), signed, exact, wires)
    exact = bits >= sum(widths) if sign == "*" else bits > max(widths) and (signed or sign == "+")
    left, right = operands
    # Sums are read from left to right; everything else is bracketed.
    first = left.text if left.form in ("+", "-") and sign in "+-" and left.rank == _BINARY else _in(left, _PREFIX)
    second = f"({right.text})" if right.text.startswith("-") else _in(right, _PREFIX)
    text = f"{first} {sign} {second}"
    return Expression(sign, text, _BINARY, width, bits, tuple(operands), signed, exact, wires)


def _comparison(sign: str, a: Expression, b: Expression, signed: bool, wires: tuple[str, ...]) -> Expression | None:
    operands = _operands([a, b], signed)
    if operands is None:
        return None
    context = max(each.width for each in operands)
    if context < max(each.bits for each in operands):
        return None
    if not all(each.holds_in(context, context, signed) for each in operands):
        return None
    left, right = (_in(each, _PREFIX) for each in operands)
    opposite = f"{left} {_OPPOSITE[sign]} {right}"
    return Expression("closed", f"{left} {sign} {right}", _BINARY, 1, 1, wires=wires, opposite=opposite)


def _shift(
    kind: str, a: Expression, amount: Expression, bits: int, signed: bool, wires: tuple[str, ...]
) -> Expression | None:
    operands = _operands([a], signed)
    if operands is None or not amount.stands_alone or amount.signed:
        return None
    sign = "<<" if kind == "$shl" else ">>>" if signed else ">>"
    text = f"{_in(operands[0], _PREFIX)} {sign} {_in(amount, _PREFIX)}"
    form = "<<" if kind == "$shl" else ">>"
    return Expression(form, text, _BINARY, operands[0].width, bits, tuple(operands), signed, False, wires)


def _division(
    kind: str, a: Expression, b: Expression, bits: int, signed: bool, wires: tuple[str, ...]
) -> Expression | None:
    """Quotient or remainder, rounded towards minus infinity, of two values that stand in wires."""
    operands = _operands([a, b], signed)
    if operands is None or not (a.is_closed and b.is_closed):
        return None
    x, y = (_in(each, _PREFIX) for each in operands)
    width = max(each.width for each in operands)
    if not signed:
        text = f"{x} {'/' if kind == '$divfloor' else '%'} {y}"
        return Expression(kind, text, _BINARY, width, bits, tuple(operands), wires=wires)
    # Verilog rounds towards zero.
    apart = f"{x} % {y} != 0 && ({x} < 0) != ({y} < 0)"
    correction = f"{width}'sd1" if kind == "$divfloor" else y
    none = f"{width}'sd0"
    step = f"({apart} ? {correction} : {none})"
    text = f"{x} / {y} - {step}" if kind == "$divfloor" else f"{x} % {y} + {step}"
    return Expression(kind, text, _BINARY, width, bits, tuple(operands), True, wires=wires)
