"""From an Amaranth component to one readable Verilog file."""

import contextlib
import dataclasses
import gc
import importlib.metadata
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from amaranth.lib import wiring

from rtl_gen.verilog.naming import Names, is_legal, plain_name, unique
from rtl_gen.verilog.ports import PART, Field, Port, members, name_ports, plain_text, split
from rtl_gen.verilog.rtlil import Netlist, read, wires_in
from rtl_gen.verilog.tidy import tidy
from rtl_gen.verilog.tiles import convert, place_tiles
from rtl_gen.verilog.writer import Writer, check_writable

_COLUMNS = 117

_ALLOCATIONS = 100_000

_LICENCE = """\
SPDX-License-Identifier: BSD-2-Clause
Copyright the Driftless authors. Redistribution and use in source and binary forms, with or without modification,
are permitted provided that redistributions of source code retain this notice and the following disclaimer, and
redistributions in binary form reproduce them in their documentation. THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT
HOLDERS "AS IS" AND ANY EXPRESS OR IMPLIED WARRANTIES, INCLUDING THE IMPLIED WARRANTIES OF MERCHANTABILITY AND
FITNESS FOR A PARTICULAR PURPOSE, ARE DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDERS BE LIABLE FOR ANY DAMAGES
ARISING IN ANY WAY OUT OF THE USE OF THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE."""


@dataclasses.dataclass(frozen=True)
class SignalNames:
    """Signals and rows of memories as Amaranth calls them and as the text does, with dots between instances.

    Iterating yields the two names, and whether it is a row; a large array has far more than are kept here.

    Parameters
    ----------
    top : str
        Module at the top.
    own : dict
        Of each module: names of its signals, and of its memories with their rows (0 for a signal).
    instances : dict
        Of each module: names of the instances in it, and their modules.
    """

    top: str
    own: dict[str, tuple[tuple[str, str, int], ...]]
    instances: dict[str, tuple[tuple[str, str, str], ...]]

    def __iter__(self) -> Iterator[tuple[str, str, bool]]:
        return self._below(self.top, "", "")

    def _below(self, module: str, old: str, new: str) -> Iterator[tuple[str, str, bool]]:
        for described, written, depth in self.own[module]:
            rows = [f"[{row}]" for row in range(depth)] or [""]
            yield from ((f"{old}{described}{row}", f"{new}{written}{row}", depth > 0) for row in rows)
        for described, written, child in self.instances[module]:
            yield from self._below(child, f"{old}{described}.", f"{new}{written}.")


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
        All modules in the file, the top module first; the others begin with its name and an underscore.
    signals : iterable of (str, str, bool)
        `SignalNames`.
    registers : frozenset of str
        Ports of the top module that are registers.
    """

    name: str
    text: str
    ports: tuple[Port, ...]
    modules: tuple[str, ...]
    signals: Iterable[tuple[str, str, bool]]
    registers: frozenset[str]


@contextlib.contextmanager
def _seldom_collected() -> Iterator[None]:
    """Look for cycles of objects a hundred times less often than Python does.

    A netlist is millions of objects that all stay until it is written: looking for cycles among them takes as long as
    all the rest. Never to look would keep what elaboration throws away, several times what a machine takes.
    """
    before = gc.get_threshold()
    gc.set_threshold(_ALLOCATIONS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@_seldom_collected()
def emit(
    component: wiring.Component, *, name: str | None = None, platform: Any = None, ports: str = "fields"
) -> Emitted:
    """Turn a component into one Verilog file.

    The text depends on nothing but the component, its parameters and the pinned Amaranth.

    Parameters
    ----------
    component : Component
        A unit of the machine, or any other component with a signature.
    name : str, optional
        Name of the top module; default: the unit's name.
    platform : optional
        Handed to `elaborate`, for example a `hw.arith.leaves.LeafTarget`.
    ports : str
        How payloads become ports, one of `rtl_gen.verilog.ports.FORMS`.

    Raises
    ------
    TypeError
        If `component` is no component.
    ValueError
        If it has no name and none is given, `name` is no identifier of Verilog, VHDL and C++, `ports` is unknown, or
        the component holds what is not written: assertions, prints, tristate pins.
    """
    if not isinstance(component, wiring.Component):
        raise TypeError(f"component must be an Amaranth component, not {component!r}")
    name = name if name is not None else getattr(component, "name", None)
    if not isinstance(name, str) or not is_legal(name):
        raise ValueError(f"name must be an identifier of Verilog, VHDL and C++, not {name!r}")
    wanted = name_ports(members(component), ports)
    text, tiles = convert(component, name, platform)
    netlist = read(text)
    check_writable(netlist)
    place_tiles(netlist, tiles)
    given = split(netlist.top, wanted)
    tidy(netlist)
    names: dict[str, Names] = {}
    writers: dict[str, Writer] = {}
    for key, module in reversed(netlist.modules.items()):  # children come after their parents
        writers[key] = Writer(module, names, given if module is netlist.top else None)
        names[key] = writers[key].names
    kinds = _module_names(netlist, writers)
    texts: dict[str, str] = {}
    for key, kind in kinds.items():
        if kind not in texts:
            texts[kind] = writers[key].write(kind, kinds)
    by_name = {port.name: port for port in wanted}
    top = names[netlist.top.name]
    found = tuple(
        by_name.get(top.table[wire.name], Port(top.table[wire.name], wire.port, wire.width))
        for wire in writers[netlist.top.name].ports
    )
    header = _header(component, name, found)
    text = f"{header}\n\n`default_nettype none\n\n" + "\n\n".join(texts.values()) + "\n\n`default_nettype wire\n"
    registers = wires_in(cell.outputs["Q"] for cell in netlist.top.cells if cell.is_register)
    held = frozenset(top.table[wire] for wire in registers)
    return Emitted(name, text, found, tuple(texts), _signals(netlist, names), held & by_name.keys())


def _module_names(netlist: Netlist, writers: dict[str, Writer]) -> dict[str, str]:
    """Names of modules, parents first; those that turn out equal have the same."""
    top = netlist.top.name
    same: dict[str, str] = {}
    representatives: dict[str, str] = {}
    for key in reversed(netlist.modules):
        if key != top:
            text = writers[key].write("same", {kind: f"\\{other}" for kind, other in representatives.items()})
            representatives[key] = same.setdefault(text, key)
    taken = {top[1:].lower()}
    final = {top: top[1:]}
    for key in netlist.modules:
        if key == top or representatives[key] != key:
            continue
        parts = key[1:].split(".")[1:]
        full = plain_name("_".join((top[1:], *parts)))
        # An array of equal modules loses its number.
        bare = re.sub(r"_?\d+$", "", full)
        several = _instances(netlist, [each for each in representatives if representatives[each] == key]) > 1
        final[key] = unique(bare if several and bare.lower() not in taken else full, taken)
    return {key: final[representatives.get(key, key)] for key in netlist.modules}


def _instances(netlist: Netlist, kinds: list[str]) -> int:
    return sum(cell.kind in kinds for module in netlist.modules.values() for cell in module.cells)


def _signals(netlist: Netlist, names: dict[str, Names]) -> SignalNames:
    own, instances = {}, {}
    for key, module in netlist.modules.items():
        table = names[key].table
        found = [(memory.name[1:], table[memory.name], memory.depth) for memory in module.memories.values()]
        wires = [wire.name for wire in module.wires.values() if wire.is_named and not wire.name.endswith(PART)]
        own[key] = (*found, *((wire[1:], table[wire], 0) for wire in wires))
        cells = [cell for cell in module.cells if cell.kind in netlist.modules]
        instances[key] = tuple((cell.name[1:], names[key].instances[cell.name], cell.kind) for cell in cells)
    return SignalNames(netlist.top.name, own, instances)


# Header -------------------------------------------------------------------------------------------------------------


def _header(component: wiring.Component, name: str, ports: tuple[Port, ...]) -> str:
    lines = [f"{name}: {getattr(component, 'summary', '') or _summary(component)}".rstrip(": "), ""]
    latency = getattr(component, "latency", None)
    if latency is not None:
        lines.append(f"Latency: {latency} {'clock' if latency == 1 else 'clocks'}")
    throughput = getattr(component, "throughput", None)
    if throughput is not None:
        lines.append(f"Throughput: {throughput}")
    parameters = getattr(component, "parameters", None)
    if parameters is not None:
        used = frozenset(parameters.used if hasattr(parameters, "used") else parameters.to_dict())
        lines += ["", "Parameters:"]
        lines += [
            f"  {key} = {_value(value)}"
            for key, value in parameters.to_dict().items()
            if key != "schema" and key in used
        ]
    lines += ["", "Ports:", *_port_lines(component, ports)]
    lines += ["", f"Generated by Driftless with Amaranth {importlib.metadata.version('amaranth')}; do not edit."]
    if type(component).__module__.partition(".")[0] in ("hw", "fpga"):
        lines += ["", *_LICENCE.splitlines()]
    return "\n".join(f"// {line}".rstrip() for line in lines)


def _port_lines(component: wiring.Component, ports: tuple[Port, ...]) -> list[str]:
    said = meanings(component)
    lines: list[str] = []
    before = None
    for port in ports:
        member = port.member.partition(".")[0]
        if member != before and member:
            text = said.get(member, "")
            lines += textwrap.wrap(
                f"{member}: {text}" if text else member, _COLUMNS - 2, initial_indent="  ", subsequent_indent="    "
            )
        before = member
        if not member:
            meaning = {"clk": "clock", "rst": "synchronous reset, active high"}.get(port.name, "")
            lines.append(f"  {port.name}: {meaning}".rstrip(": "))
            continue
        bits = f"{port.width} bits" if port.width > 1 else "1 bit"
        element = f", {port.count} x {port.width // port.count}" if port.count else ""
        sign = ", signed" if port.signed else ""
        meaning = f"; {plain_text(port.meaning)}" if port.meaning else ""
        line = f"{port.name}: {port.direction}, {bits}{element}{sign}{meaning}"
        lines += textwrap.wrap(line, _COLUMNS - 2, initial_indent="    ", subsequent_indent="      ")
        lines += [f"      {text}" for text in _field_lines(port.fields)]
    return lines


def _field_lines(fields: Sequence[Field]) -> Iterator[str]:
    """Parts of a port, or of each of its elements."""
    for field in fields:
        top = field.offset + field.total - 1
        bits = f"{top}:{field.offset}" if field.total > 1 else str(field.offset)
        yield f"{field.name} [{bits}]" + (f": {plain_text(field.meaning)}" if field.meaning else "")
        yield from (f"  {text}" for text in _field_lines(field.fields))


def meanings(component: wiring.Component) -> dict[str, str]:
    """What the docstring of a component says of its members."""
    text = inspect.getdoc(type(component)) or ""
    _, _, section = text.partition("\nMembers\n-------\n")
    section = re.split(r"\n\w+\n-+\n", section)[0]
    result: dict[str, str] = {}
    heads: list[str] = []
    for line in section.splitlines():
        if line and not line[0].isspace():
            heads = [head.strip() for head in line.partition(" : ")[0].split(",")]
        elif line.strip():
            for head in heads:
                result[head] = plain_text(f"{result.get(head, '')} {line}")
    return result


def _summary(component: wiring.Component) -> str:
    return (type(component).__doc__ or "").strip().partition("\n")[0]


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
