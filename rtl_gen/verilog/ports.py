"""Ports of an emitted module: payloads taken apart into named fields, left whole, or under the names of AXI4-Stream."""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from amaranth.hdl import Shape, ShapeCastable
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In

from rtl_gen.verilog.naming import plain_name, unique
from rtl_gen.verilog.rtlil import (
    Assign,
    Bits,
    Case,
    Cell,
    Constant,
    Module,
    Process,
    Slice,
    Statement,
    Switch,
    Wire,
    join,
    take,
    whole,
    wires_in,
)
from rtl_gen.verilog.tidy import substitute

FORMS = ("fields", "flat", "axis")
"""How payloads become ports: one for each field, one for all, or ``tdata`` and ``tlast`` of AXI4-Stream."""


_HANDSHAKE = {"valid": "a payload is offered", "ready": "it is taken, if one is offered"}

PART = "$port"
"""Ends the names of wires that are part of a member and did not exist in Amaranth's netlist."""


def _where_it_applies(part: "Field | Port") -> dict[str, Any]:
    """Elements, fields and meaning of what has them."""
    fields = [field.to_dict() for field in part.fields]
    found = {"count": part.count, "fields": fields or None, "meaning": part.meaning or None}
    return {name: value for name, value in found.items() if value is not None}


@dataclasses.dataclass(frozen=True)
class Field:
    """Part of a port.

    Parameters
    ----------
    name : str
        Name in the payload.
    offset : int
        First bit, counted within what encloses it.
    width : int
        Bits (of one element).
    signed : bool
        Whether it is two's complement.
    count : int or None
        Elements of an array, each `width` bits after the one before; None if it is no array.
    fields : tuple of Field
        Parts of a structure (of one element).
    meaning : str
        What it is, where the payload says so.
    """

    name: str
    offset: int
    width: int
    signed: bool = False
    count: int | None = None
    fields: tuple["Field", ...] = ()
    meaning: str = ""

    @property
    def total(self) -> int:
        """Bits of all elements."""
        return self.width * (1 if self.count is None else self.count)

    def to_dict(self) -> dict[str, Any]:
        """Return it as a mapping for the manifest; `count`, `fields` and `meaning` only where they apply."""
        result = {"name": self.name, "offset": self.offset, "width": self.width, "signed": self.signed}
        return result | _where_it_applies(self)


@dataclasses.dataclass(frozen=True)
class Port:
    """Port of an emitted module.

    Parameters
    ----------
    name : str
        Its name in Verilog.
    direction : str
        ``input`` or ``output``.
    width : int
        Bits.
    signed : bool
        Whether it is two's complement.
    member : str
        Where it comes from in the component's signature, with dots: ``i.payload``; empty for clock and reset.
    parts : tuple of (int, int)
        Which bits of the member it is, from its least significant on: first bit and number of bits. What is left of
        `width` is filled up with zeros.
    count : int or None
        Elements of an array; None if it is none.
    fields : tuple of Field
        Parts of it, or of each of its elements.
    meaning : str
        What it is, where its payload or signature says so.
    """

    name: str
    direction: str
    width: int
    signed: bool = False
    member: str = ""
    parts: tuple[tuple[int, int], ...] = ()
    count: int | None = None
    fields: tuple[Field, ...] = ()
    meaning: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as a mapping for the manifest; `count`, `fields` and `meaning` only where they apply."""
        result: dict[str, Any] = {
            "name": self.name,
            "direction": self.direction,
            "width": self.width,
            "signed": self.signed,
        }
        if self.member:
            result["member"] = self.member
            result["offset"] = self.parts[0][0] if self.parts else 0
        return result | _where_it_applies(self)


@dataclasses.dataclass(frozen=True)
class Member:
    """A port member of a component's signature.

    Parameters
    ----------
    path : tuple of str
        Where it is.
    direction : str
        ``input`` or ``output``.
    width : int
        Bits.
    signed : bool
        Whether it is two's complement.
    count : int or None
        Elements, if its payload is an array.
    fields : tuple of Field
        Parts of its payload, or of an element of it.
    role : str
        ``payload``, ``valid`` or ``ready`` of a stream, or empty.
    meaning : str
        What it is, where its signature says so.
    """

    path: tuple[str, ...]
    direction: str
    width: int
    signed: bool
    count: int | None
    fields: tuple[Field, ...]
    role: str
    meaning: str = ""

    @property
    def name(self) -> str:
        """Its name in Amaranth's netlist."""
        return "__".join(self.path)


def members(component: wiring.Component) -> list[Member]:
    """Port members of a component, in the order of its signature."""
    signatures = dict(_signatures(component.signature, ()))
    result = []
    for path, member, _value in component.signature.flatten(component):
        path = tuple(map(str, path))
        field = _field("", 0, member.shape)
        # Numbers in a path are those of members that are an array.
        owner = next(path[:length] for length in reversed(range(len(path))) if path[:length] in signatures)
        signature, name = signatures[owner], path[len(owner)]
        is_stream = isinstance(signature, stream.Signature)
        meanings = _HANDSHAKE if is_stream else getattr(signature, "meanings", {})
        direction = "input" if member.flow == In else "output"
        width = Shape.cast(member.shape).width
        result.append(
            Member(
                path,
                direction,
                width,
                field.signed,
                field.count,
                field.fields,
                name if is_stream else "",
                meanings.get(name, ""),
            )
        )
    return result


def _signatures(
    signature: wiring.Signature, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], wiring.Signature]]:
    yield path, signature
    for name, member in signature.members.items():
        if member.is_signature:
            # A flipped signature hides what its class has of its own.
            inner = member.signature
            yield from _signatures(inner.flip() if isinstance(inner, wiring.FlippedSignature) else inner, (*path, name))


def _layout(shape: Any) -> data.Layout | None:
    while isinstance(shape, ShapeCastable) and not isinstance(shape, data.Layout):
        shape = shape.as_shape()
    return shape if isinstance(shape, data.Layout) else None


def _field(name: str, offset: int, shape: Any) -> Field:
    layout = _layout(shape)
    if isinstance(layout, data.ArrayLayout):
        element = _field("", 0, layout.elem_shape)
        # An array of arrays has its inner array as its one field.
        fields = (dataclasses.replace(element, name="elements"),) if element.count is not None else element.fields
        return Field(name, offset, Shape.cast(layout.elem_shape).width, element.signed, layout.length, fields)
    if layout is not None:
        meanings = getattr(layout, "meanings", {})
        fields = tuple(
            dataclasses.replace(_field(str(key), field.offset, field.shape), meaning=meanings.get(key, ""))
            for key, field in layout
        )
        return Field(name, offset, Shape.cast(shape).width, False, None, fields)
    return Field(name, offset, Shape.cast(shape).width, Shape.cast(shape).signed)


# Names and parts ------------------------------------------------------------------------------------------------------


def name_ports(found: Iterable[Member], form: str) -> list[Port]:
    """Ports that members become.

    Raises
    ------
    ValueError
        If `form` is unknown.
    """
    if form not in FORMS:
        raise ValueError(f"ports must be {', '.join(FORMS[:-1])} or {FORMS[-1]}, not {form!r}")
    taken = {"clk", "rst"}
    found = [member for member in found if member.width]
    # What cannot be called otherwise comes first, payloads' fields last.
    names = {
        member.name: unique(_member_name(member, form), taken)
        for member in sorted(found, key=lambda member: _is_split(member, form))
        if not _is_split(member, form)
    }
    result = []
    for member in found:
        path = ".".join(member.path)
        if form == "axis" and member.role == "payload":
            result += _axis(member, path, taken)
        elif _is_split(member, form):
            base = member.path[:-1] if member.role == "payload" else member.path
            for names_, offset, field in _leaves(member.fields, 0):
                name = unique(plain_name("_".join((*base, *names_))), taken)
                result.append(
                    Port(
                        name,
                        member.direction,
                        field.total,
                        field.signed,
                        path,
                        ((offset, field.total),),
                        field.count,
                        field.fields,
                        field.meaning,
                    )
                )
        else:
            parts = ((0, member.width),)
            name = names[member.name]
            result.append(
                Port(
                    name,
                    member.direction,
                    member.width,
                    member.signed,
                    path,
                    parts,
                    member.count,
                    member.fields,
                    member.meaning,
                )
            )
    return result


def _is_split(member: Member, form: str) -> bool:
    if form == "axis" and member.role == "payload":
        return True
    return form != "flat" and bool(member.fields) and member.count is None


def _member_name(member: Member, form: str) -> str:
    if form == "axis" and member.role:
        return f"{_axis_base(member)}_t{member.role}"
    return plain_name("_".join(member.path))


def _axis_base(member: Member) -> str:
    # A stream is that of its payload: the unit takes it as a slave or drives it as a master.
    takes = (member.direction == "input") == (member.role != "ready")
    return f"{'s' if takes else 'm'}_axis_{plain_name('_'.join(member.path[:-1]))}"


def _axis(member: Member, path: str, taken: set[str]) -> Iterator[Port]:
    base = _axis_base(member)
    last = next((field for field in member.fields if field.name == "last" and field.total == 1), None)
    parts = ((0, member.width),)
    if member.count is None and last is not None:
        parts = ((0, last.offset), (last.offset + 1, member.width - last.offset - 1))
        parts = tuple(part for part in parts if part[1])
    width = -(-sum(count for _, count in parts) // 8) * 8
    yield Port(unique(f"{base}_tdata", taken), member.direction, width, False, path, parts)
    if member.count is None and last is not None:
        yield Port(unique(f"{base}_tlast", taken), member.direction, 1, False, path, ((last.offset, 1),))


def _leaves(fields: Iterable[Field], start: int) -> Iterator[tuple[tuple[str, ...], int, Field]]:
    """Fields that become ports: those of inner structures instead of these; arrays stay whole."""
    for field in fields:
        offset = start + field.offset
        if field.fields and field.count is None:
            for names, inner, leaf in _leaves(field.fields, offset):
                yield (field.name, *names), inner, leaf
        elif field.total:
            yield (field.name,), offset, field


# Splitting ------------------------------------------------------------------------------------------------------------


def split(module: Module, ports: Sequence[Port]) -> dict[str, str]:
    """Give the top module its ports, before it is tidied.

    Parameters
    ----------
    module : Module
        As Amaranth wrote it, with one port for each member, named by the member's path with ``__`` between.
    ports : sequence of Port
        What is wanted.

    Returns
    -------
    dict of str to str
        Names of the ports, by wire.
    """
    wanted: dict[str, list[Port]] = {}
    for port in ports:
        wanted.setdefault("\\" + port.member.replace(".", "__"), []).append(port)
    names: dict[str, str] = {}
    wires: dict[str, Wire] = {}
    values: dict[str, Bits] = {}
    for member, found in wanted.items():
        wire = module.wires[member]
        if len(found) == 1 and found[0].parts == ((0, wire.width),) and found[0].width == wire.width:
            names[member] = found[0].name
            wires[member] = wire
            continue
        news = []
        for port in found:
            new = Wire(f"{member}.{port.name}{PART}", port.width, port.direction)
            names[new.name], wires[new.name] = port.name, new
            news.append((new, port.parts))
        if wire.port == "input":
            values[member] = _gathered(wire, news)
            del module.wires[member]
        else:
            wire.port = ""
            _drive(module, wire, news, values)
    others = {name: wire for name, wire in module.wires.items() if name not in wires}
    module.wires = {**wires, **others}
    module.map_reads(lambda value: substitute(value, values))
    return names


def _gathered(wire: Wire, news: Iterable[tuple[Wire, tuple[tuple[int, int], ...]]]) -> Bits:
    """A member's bits as those of its ports."""
    pieces: dict[int, Slice] = {}
    for new, parts in news:
        low = 0
        for offset, count in parts:
            pieces[offset] = Slice(new.name, low + count - 1, low)
            low += count
    return join(pieces[offset] for offset in sorted(pieces, reverse=True))


def _drive(
    module: Module, wire: Wire, news: list[tuple[Wire, tuple[tuple[int, int], ...]]], values: dict[str, Bits]
) -> None:
    """Drive ports with the parts of an output."""
    simple = all(len(parts) == 1 and parts[0][1] == new.width for new, parts in news)
    if simple and _split_driver(module, wire, [(new, parts[0][0]) for new, parts in news]):
        values[wire.name] = _gathered(wire, news)
        del module.wires[wire.name]
        return
    source: Bits = (whole(wire),)
    for target, value in module.connections:
        if target == whole(wire):
            source = value
    for new, parts in news:
        taken = [piece for offset, count in reversed(parts) for piece in take(source, offset + count - 1, offset)]
        filler = new.width - sum(count for _, count in parts)
        module.connections.append((whole(new), join((Constant("0" * filler), *taken))))


def _split_driver(module: Module, wire: Wire, news: list[tuple[Wire, int]]) -> bool:
    """Let a register, or a process, that drives an output drive its parts instead."""
    for cell in module.cells:
        if cell.is_register and cell.outputs["Q"] == (whole(wire),):
            _split_register(module, cell, wire, news)
            return True
    for process in module.processes:
        if process.wire == wire.name:
            module.processes.remove(process)
            module.processes += [_restricted(process, new.name, low, new.width) for new, low in news]
            return True
    return False


def _split_register(module: Module, cell: Cell, wire: Wire, news: list[tuple[Wire, int]]) -> None:
    value = cell.inputs["D"]
    following = value[0].wire if len(value) == 1 and isinstance(value[0], Slice) else ""
    process = next((each for each in module.processes if each.wire == following), None)
    reads = sum(wire == following for wire in wires_in(module.reads()))
    module.cells.remove(cell)
    if process is not None and reads == 1:
        module.processes.remove(process)
    else:
        process = None
    init = wire.attributes.get("init", "").partition("'")[2]
    for number, (new, low) in enumerate(news):
        high = low + new.width - 1
        part = take(value, high, low)
        if process is not None:
            following = f"{process.wire}~{number}"
            module.wires[following] = Wire(following, new.width)
            module.processes.append(_restricted(process, following, low, new.width))
            part = (Slice(following, new.width - 1, 0),)
        if init:
            bits = init[len(init) - 1 - high : len(init) - low]
            new.attributes["init"] = f"{new.width}'{bits}"
        new.attributes |= {key: text for key, text in wire.attributes.items() if key != "init"}
        parameters = dict(cell.parameters)
        if "ARST_VALUE" in parameters:
            bits = parameters["ARST_VALUE"].partition("'")[2]
            parameters["ARST_VALUE"] = f"{new.width}'{bits[len(bits) - 1 - high : len(bits) - low]}"
        inputs = {**cell.inputs, "D": part}
        module.cells.append(Cell(cell.kind, f"{cell.name}~{number}", parameters, inputs, {"Q": (whole(new),)}))


def _restricted(process: Process, wire: str, low: int, count: int) -> Process:
    """A process for `count` bits, from bit `low` on, of what another one drives."""

    def part(body: Iterable[Statement]) -> Iterator[Statement]:
        for statement in body:
            if isinstance(statement, Switch):
                cases = [Case(case.patterns, list(part(case.body))) for case in statement.cases]
                if any(case.body for case in cases):
                    yield Switch(statement.value, cases)
                continue
            first, last = max(statement.target.low, low), min(statement.target.high, low + count - 1)
            if first <= last:
                value = take(statement.value, last - statement.target.low, first - statement.target.low)
                yield Assign(Slice(wire, last - low, first - low), value)

    return Process(wire, list(part(process.body)))


def bit_range(port: Port) -> str:
    """The range of a port's declaration, with a blank behind it; empty for a single bit."""
    return f"[{port.width - 1}:0] " if port.width > 1 else ""


def plain_text(text: str) -> str:
    """A line of a docstring without its marks."""
    text = re.sub(r"`{1,2}(?:payloads\.)?([^`]*)`{1,2}", r"\1", text)
    return re.sub(r"\s+", " ", text).strip()
