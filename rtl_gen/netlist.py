"""Amaranth's RTLIL, made readable: dead logic and aliases dropped, everything named, equal modules merged.

A *wire* is driven once; an *alias* is a wire that only gives (part of) another wire a second name. Amaranth writes
every read in terms of the driven wires and adds an alias for each signal and each payload field, so aliases are never
read. `Netlist.tidy` turns that round: a read of part of a payload goes through the alias named after the field, all
other aliases go. Only names, widths of unread bits and dead logic change; ``tests/rtl_gen/test_emission.py`` has yosys
prove it.
"""

import dataclasses
import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence

__all__ = ["Cell", "Constant", "Module", "Netlist", "Process", "Slice", "Wire", "plain_name"]

_KEYWORDS = frozenset(
    """
    accept_on alias always always_comb always_ff always_latch and assert assign assume automatic before begin bind bins
    binsof bit break buf bufif0 bufif1 byte case casex casez cell chandle checker class clocking cmos config const
    constraint context continue cover covergroup coverpoint cross deassign default defparam design disable dist do edge
    else end endcase endchecker endclass endclocking endconfig endfunction endgenerate endgroup endinterface endmodule
    endpackage endprimitive endprogram endproperty endsequence endspecify endtable endtask enum event eventually expect
    export extends extern final first_match for force foreach forever fork forkjoin function generate genvar global
    highz0 highz1 if iff ifnone ignore_bins illegal_bins implements implies import incdir include initial inout input
    inside instance int integer interconnect interface intersect join join_any join_none large let liblist library local
    localparam logic longint macromodule matches medium modport module nand negedge nettype new nexttime nmos nor
    noshowcancelled not notif0 notif1 null or output package packed parameter pmos posedge primitive priority program
    property protected pull0 pull1 pulldown pullup pulsestyle_ondetect pulsestyle_onevent pure rand randc randcase
    randsequence rcmos real realtime ref reg reject_on release repeat restrict return rnmos rpmos rtran rtranif0
    rtranif1 s_always s_eventually s_nexttime s_until s_until_with scalared sequence shortint shortreal showcancelled
    signed small soft solve specify specparam static string strong strong0 strong1 struct super supply0 supply1
    sync_accept_on sync_reject_on table tagged task this throughout time timeprecision timeunit tran tranif0 tranif1 tri
    tri0 tri1 triand trior trireg type typedef union unique unique0 unsigned until until_with untyped use uwire var
    vectored virtual void wait wait_order wand weak weak0 weak1 while wildcard wire with within wor xnor xor
    """.split()
)

# Attributes that only Amaranth and yosys read.
_INTERNAL_ATTRIBUTES = ("generator", "top", "src", "amaranth.", "enum_")

_OUTPUTS = ("Y", "Q", "DATA")

# Cells whose low result bits depend on the same low bits of their operands only.
_LOW_BITS = {
    **dict.fromkeys(("$add", "$sub", "$mul", "$and", "$or", "$xor", "$mux"), "AB"),
    **dict.fromkeys(("$neg", "$not", "$shl"), "A"),
}

_BITWISE = ("$and", "$or", "$xor", "$not", "$mux")

_EFFECTS = ("$memwr", "$meminit", "$check", "$print", "$assert", "$assume", "$cover", "$scopeinfo", "$tribuf")


@dataclasses.dataclass(frozen=True)
class Constant:
    """Bits, most significant first; ``-`` and ``x`` occur in patterns and memories."""

    bits: str

    @property
    def width(self) -> int:
        """Number of bits."""
        return len(self.bits)

    def __str__(self):
        return f"{len(self.bits)}'{self.bits}"


@dataclasses.dataclass(frozen=True)
class Slice:
    """Bits ``high`` down to ``low`` of a wire."""

    wire: str
    high: int
    low: int

    @property
    def width(self) -> int:
        """Number of bits."""
        return self.high - self.low + 1

    def __str__(self):
        return f"{self.wire} [{self.high}:{self.low}]"


Bits = tuple[Constant | Slice, ...]
"""A value: its pieces, most significant first."""


def _width(bits: Bits) -> int:
    return sum(piece.width for piece in bits)


def _text(bits: Bits) -> str:
    return str(bits[0]) if len(bits) == 1 else "{ " + " ".join(map(str, bits)) + " }"


def _low(bits: Bits, width: int) -> Bits:
    result: list[Constant | Slice] = []
    for piece in reversed(bits):
        if width == 0:
            break
        take = min(width, piece.width)
        if isinstance(piece, Constant):
            result.append(Constant(piece.bits[piece.width - take :]))
        else:
            result.append(Slice(piece.wire, piece.low + take - 1, piece.low))
        width -= take
    return tuple(reversed(result))


def _high(bits: Bits, width: int) -> Bits:
    result: list[Constant | Slice] = []
    for piece in bits:
        if width == 0:
            break
        take = min(width, piece.width)
        if isinstance(piece, Constant):
            result.append(Constant(piece.bits[:take]))
        else:
            result.append(Slice(piece.wire, piece.high, piece.high - take + 1))
        width -= take
    return tuple(result)


@dataclasses.dataclass
class Wire:
    """A wire; ``port`` is ``input``, ``output`` or empty."""

    name: str
    width: int
    signed: bool
    port: str
    attributes: dict[str, str]


@dataclasses.dataclass
class Cell:
    """An operator, register, memory port or instance; `outputs` names those of its ports that drive a wire."""

    kind: str
    name: str
    parameters: dict[str, str]
    ports: dict[str, Bits]
    outputs: tuple[str, ...]
    attributes: dict[str, str]

    @property
    def is_instance(self) -> bool:
        """Whether it is an instance of a module or a primitive."""
        return not self.kind.startswith("$")


@dataclasses.dataclass
class Process:
    """A decision tree that drives one wire: ``("assign", target, value)``, ``("switch", value)``, case, end."""

    name: str
    body: list[tuple]
    attributes: dict[str, str]


@dataclasses.dataclass
class Module:
    """A module as Amaranth writes it; `aliases` are set apart from the other connections by `Netlist.tidy`."""

    name: str
    wires: dict[str, Wire] = dataclasses.field(default_factory=dict)
    memories: dict[str, tuple[int, int, dict[str, str]]] = dataclasses.field(default_factory=dict)
    cells: list[Cell] = dataclasses.field(default_factory=list)
    processes: list[Process] = dataclasses.field(default_factory=list)
    connections: list[tuple[Bits, Bits]] = dataclasses.field(default_factory=list)
    aliases: list[tuple[str, Bits]] = dataclasses.field(default_factory=list)

    @property
    def ports(self) -> list[Wire]:
        """Wires that are ports."""
        return [wire for wire in self.wires.values() if wire.port]

    def reads(self) -> Iterator[Bits]:
        """Every value that something reads."""
        for cell in self.cells:
            for port, value in cell.ports.items():
                if port not in cell.outputs:
                    yield value
        for process in self.processes:
            for step in process.body:
                if step[0] == "assign":
                    yield step[2]
                elif step[0] == "switch":
                    yield step[1]
        for _target, value in self.connections:
            yield value

    def map_reads(self, change: Callable[[Bits], Bits]) -> None:
        """Replace every value that is read by ``change(value)``."""
        for cell in self.cells:
            for port, value in cell.ports.items():
                if port not in cell.outputs:
                    cell.ports[port] = change(value)
        for process in self.processes:
            for number, step in enumerate(process.body):
                if step[0] == "assign":
                    process.body[number] = ("assign", step[1], change(step[2]))
                elif step[0] == "switch":
                    process.body[number] = ("switch", change(step[1]))
        self.connections = [(target, change(value)) for target, value in self.connections]

    def keep_aliases(self, condition: Callable[[Slice], bool]) -> None:
        """Drop aliases of bits that are no longer there."""
        self.aliases = [
            (name, value)
            for name, value in self.aliases
            if all(isinstance(piece, Constant) or condition(piece) for piece in value)
        ]

    def map_targets(self, change: Callable[[Bits], Bits]) -> None:
        """Replace everything that is driven by ``change(target)``."""
        for cell in self.cells:
            for output in cell.outputs:
                cell.ports[output] = change(cell.ports[output])
        for process in self.processes:
            process.body = [
                ("assign", change(step[1]), step[2]) if step[0] == "assign" else step for step in process.body
            ]
        self.connections = [(change(target), value) for target, value in self.connections]


# Reading ------------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(r"\{|\}|\[\d+(?::\d+)?\]|\d+'[01xz-]*|[\\$]\S+|\S+")


def _parse_bits(tokens: list[str], position: int, widths: dict[str, int]) -> tuple[Bits, int]:
    if tokens[position] == "{":
        pieces: list[Constant | Slice] = []
        position += 1
        while tokens[position] != "}":
            more, position = _parse_bits(tokens, position, widths)
            pieces.extend(more)
        return tuple(pieces), position + 1
    token = tokens[position]
    position += 1
    if token[0] in "\\$":
        if position < len(tokens) and tokens[position].startswith("["):
            high, _, low = tokens[position][1:-1].partition(":")
            return (Slice(token, int(high), int(low or high)),), position + 1
        return (Slice(token, widths[token] - 1, 0),), position
    width, quote, bits = token.partition("'")
    if not quote or len(bits) != int(width):
        raise ValueError(f"RTLIL value must be a wire or a sized constant, not {token!r}")
    return (Constant(bits),), position


class Netlist:
    """A design read from Amaranth's RTLIL; the first module is its top.

    Parameters
    ----------
    text : str
        RTLIL as ``amaranth.back.rtlil`` writes it.

    Raises
    ------
    ValueError
        If the text holds something that Amaranth does not write.
    """

    def __init__(self, text: str):
        self.modules: dict[str, Module] = {}
        lines = iter([line.strip() for line in text.splitlines() if line.strip()])
        for line in lines:
            if line.startswith("attribute "):
                continue
            if not line.startswith("module "):
                raise ValueError(f"RTLIL line must start a module, not {line!r}")
            module = self._read_module(line.split()[1], lines)
            self.modules[module.name] = module
        self.top = next(iter(self.modules))
        for module in self.modules.values():
            for cell in module.cells:
                child = self.modules.get(cell.kind)
                if child is not None:
                    cell.outputs = tuple(port.name for port in child.ports if port.port == "output")

    def _read_module(self, name: str, lines: Iterator[str]) -> Module:
        module = Module(name)
        widths: dict[str, int] = {}
        attributes: dict[str, str] = {}
        pending: list[tuple[str, list[str], dict[str, str]]] = []
        for line in lines:
            word, _, rest = line.partition(" ")
            if word == "attribute":
                key, _, value = rest.partition(" ")
                attributes[key[1:]] = value
                continue
            if word == "end":
                break
            if word == "wire":
                wire = self._read_wire(rest.split(), attributes)
                module.wires[wire.name] = wire
                widths[wire.name] = wire.width
            elif word == "memory":
                _, width, _, size, memory = rest.split()
                module.memories[memory] = (int(width), int(size), attributes)
            elif word in ("cell", "process"):
                pending.append((line, self._block(lines), attributes))
            elif word == "connect":
                pending.append((line, [], {}))
            else:
                raise ValueError(f"RTLIL line must be a wire, memory, cell, process or connection, not {line!r}")
            attributes = {}
        for line, block, attributes in pending:
            tokens = _TOKEN.findall(line)
            if tokens[0] == "connect":
                target, position = _parse_bits(tokens, 1, widths)
                module.connections.append((target, _parse_bits(tokens, position, widths)[0]))
            elif tokens[0] == "cell":
                module.cells.append(self._read_cell(tokens[1], tokens[2], block, attributes, widths))
            else:
                body = [self._read_step(step, widths) for step in block]
                module.processes.append(Process(tokens[1], body, attributes))
        return module

    @staticmethod
    def _block(lines: Iterator[str]) -> list[str]:
        block = []
        depth = 1
        for line in lines:
            depth += line.startswith("switch ")
            depth -= line == "end"
            if not depth:
                break
            block.append(line)
        return block

    @staticmethod
    def _read_wire(words: list[str], attributes: dict[str, str]) -> Wire:
        port = next((word for word in words if word in ("input", "output", "inout")), "")
        return Wire(words[-1], int(words[1]), "signed" in words[:-1], port, attributes)

    @staticmethod
    def _read_cell(kind: str, name: str, block: list[str], attributes: dict[str, str], widths: dict[str, int]) -> Cell:
        parameters: dict[str, str] = {}
        ports: dict[str, Bits] = {}
        bare: list[str] = []
        for line in block:
            word, _, rest = line.partition(" ")
            if word == "parameter":
                # `signed` and `real` stay part of the key, in front of the name.
                key, value = re.fullmatch(r"((?:signed |real )?\\\S+) (.*)", rest).groups()
                parameters[key] = value
            else:
                port, _, value = rest.partition(" ")
                ports[port] = _parse_bits(_TOKEN.findall(value), 0, widths)[0]
                if re.fullmatch(r"[\\$]\S+", value):
                    bare.append(port)
        # Amaranth writes reads with an explicit slice and driven wires without: that is all there is to tell the
        # outputs of a primitive. Outputs of a submodule are set once its ports are known.
        if kind == "$reduce_and" and not ports["\\A"]:
            # All of no bits is true, but yosys writes an operand of no bits as 0 unless it has folded it before.
            ports["\\A"] = (Constant("1"),)
            parameters["\\A_WIDTH"] = "1"
        outputs = tuple(bare) if not kind.startswith("$") else tuple(p for p in bare if p[1:] in _OUTPUTS)
        return Cell(kind, name, parameters, ports, outputs, attributes)

    @staticmethod
    def _read_step(line: str, widths: dict[str, int]) -> tuple:
        tokens = _TOKEN.findall(line)
        if tokens[0] == "assign":
            target, position = _parse_bits(tokens, 1, widths)
            return ("assign", target, _parse_bits(tokens, position, widths)[0])
        if tokens[0] == "switch":
            return ("switch", _parse_bits(tokens, 1, widths)[0])
        if tokens[0] == "case":
            return ("case", line)
        if line == "end":
            return ("end",)
        raise ValueError(f"RTLIL line of a process must be assign, switch, case or end, not {line!r}")

    # Writing --------------------------------------------------------------------------------------------------------

    def __str__(self):
        return "\n".join(self._module_text(module) for module in self.modules.values())

    def _module_text(self, module: Module, name: str | None = None) -> str:
        lines = []

        def attribute(attributes: dict[str, str]) -> None:
            for key, value in attributes.items():
                if not key.startswith(_INTERNAL_ATTRIBUTES):
                    lines.append(f"attribute \\{key} {value}")

        if name is None and module.name == self.top:
            lines.append("attribute \\top 1")
        lines.append(f"module {name or module.name}")
        port_number = 0
        for wire in module.wires.values():
            attribute(wire.attributes)
            port = ""
            if wire.port:
                port_number += 1
                port = f" {wire.port} {port_number}"
            lines.append(f"wire width {wire.width}{port} {wire.name}")
        for memory, (width, size, attributes) in module.memories.items():
            attribute(attributes)
            lines.append(f"memory width {width} size {size} {memory}")
        for cell in module.cells:
            attribute(cell.attributes)
            lines.append(f"cell {cell.kind} {cell.name}")
            lines.extend(f"parameter {key} {value}" for key, value in cell.parameters.items())
            lines.extend(f"connect {port} {_text(value)}" for port, value in cell.ports.items())
            lines.append("end")
        for process in module.processes:
            attribute(process.attributes)
            lines.append(f"process {process.name}")
            for step in process.body:
                if step[0] == "assign":
                    lines.append(f"assign {_text(step[1])} {_text(step[2])}")
                else:
                    lines.append(f"switch {_text(step[1])}" if step[0] == "switch" else step[-1])
            lines.append("end")
        for target, value in module.connections:
            lines.append(f"connect {_text(target)} {_text(value)}")
        lines.append("end\n")
        return "\n".join(lines)

    # Tidying --------------------------------------------------------------------------------------------------------

    def tidy(self) -> None:
        """Make the design readable; see the module's text."""
        for module in self.modules.values():
            _split_aliases(module)
        self._drop_dead()
        for module in self.modules.values():
            _join_outputs(module)
            _use_fields(module)
        names: dict[str, _Names] = {}
        for name in reversed(self.modules):  # children come after their parents
            names[name] = _Names(self.modules[name], names, name == self.top)
        for module in self.modules.values():
            for cell in module.cells:
                if cell.kind in names:
                    ports = names[cell.kind].table
                    cell.ports = {ports[port]: value for port, value in cell.ports.items()}
                    cell.outputs = tuple(ports[port] for port in cell.outputs)
        for name, module in self.modules.items():
            names[name].apply(module)
        for module in self.modules.values():
            _order(module, module.name == self.top)
        self._merge()

    def _drop_dead(self) -> None:
        changed = True
        while changed:
            changed = False
            for module in self.modules.values():
                while _drop_unused(module, self._idle()) | _shrink(module) | _shift_down(module) | _merge_equal(module):
                    changed = True
            changed |= self._drop_ports()
        used = {self.top, *(cell.kind for module in self.modules.values() for cell in module.cells)}
        self.modules = {name: module for name, module in self.modules.items() if name in used}

    def _idle(self) -> set[str]:
        """Modules without outputs and side effects."""
        idle: set[str] = set()
        for name, module in reversed(self.modules.items()):  # children come after their parents
            quiet = all(
                cell.kind in idle if cell.is_instance else not cell.kind.startswith(("$check", "$print"))
                for cell in module.cells
            )
            if quiet and name != self.top and not any(port.port == "output" for port in module.ports):
                idle.add(name)
        return idle

    def _drop_ports(self) -> bool:
        # Amaranth makes one module per instance, so a port can go as soon as its one user no longer needs it.
        changed = False
        for module in self.modules.values():
            read = _read_wires(module)
            for cell in module.cells:
                child = self.modules.get(cell.kind)
                if child is None:
                    continue
                child_read = _read_wires(child)
                for port in child.ports:
                    driven = _wires([cell.ports[port.name]])
                    if port.port == "output" and not any(wire in read or module.wires[wire].port for wire in driven):
                        port.port = ""
                    elif port.port == "input" and port.name not in child_read:
                        del child.wires[port.name]
                    else:
                        continue
                    del cell.ports[port.name]
                    cell.outputs = tuple(output for output in cell.outputs if output != port.name)
                    changed = True
        return changed

    def _merge(self) -> None:
        prefix = self.top
        order = list(self.modules.values())
        texts: dict[str, str] = {}
        members: dict[str, list[Module]] = {}
        representative: dict[str, str] = {}
        for module in reversed(order):  # children come after their parents
            for cell in module.cells:
                cell.kind = representative.get(cell.kind, cell.kind)
            text = self._module_text(module, "\\same")
            first = texts.setdefault(text, module.name)
            representative[module.name] = first
            members.setdefault(first, []).append(module)
        kept = [module for module in order if representative[module.name] == module.name]
        final: dict[str, str] = {self.top: self.top}
        taken = {prefix}
        for module in kept:
            if module.name == self.top:
                continue
            # The first instance in the order of the text gives the name; an array of equal ones loses its number.
            group = sorted((member.name for member in members[module.name]), key=list(self.modules).index)
            name = prefix + "".join("__" + plain_name(part) for part in group[0][1:].split(".")[1:])
            bare = re.sub(r"_?\d+$", "", name)
            if len(group) > 1 and bare not in taken:
                name = bare
            name = _unique(name, taken)
            final[module.name] = name
        for module in kept:
            for cell in module.cells:
                cell.kind = final.get(cell.kind, cell.kind)
            module.name = final[module.name]
        self.modules = {module.name: module for module in kept}


def _split_aliases(module: Module) -> None:
    """Set the connections that drive no port apart, without their wires."""
    kept = []
    for target, value in module.connections:
        wire = module.wires[target[0].wire]
        if wire.port or "keep" in wire.attributes:
            kept.append((target, value))
        else:
            module.aliases.append((wire.name, value))
            del module.wires[wire.name]
    module.connections = kept


def _read_wires(module: Module) -> dict[str, int]:
    """Wires that are read, with the highest bit read."""
    result: dict[str, int] = {}
    for value in module.reads():
        for piece in value:
            if isinstance(piece, Slice):
                result[piece.wire] = max(piece.high, result.get(piece.wire, -1))
    return result


def _wires(values: Iterable[Bits]) -> Iterator[str]:
    return (piece.wire for value in values for piece in value if isinstance(piece, Slice))


def _drop_unused(module: Module, outputless: Container[str]) -> bool:
    """Drop what reaches no port, instance or side effect; `outputless` are kinds of instances that do nothing."""
    drivers: dict[str, list[Cell | Process | Bits]] = {}
    work: list[str] = []
    memories: dict[str, list[Cell]] = {}
    live: set[int] = set()

    def reads(item: Cell | Process | Bits) -> Iterator[str]:
        if isinstance(item, Cell):
            return _wires(value for port, value in item.ports.items() if port not in item.outputs)
        if isinstance(item, Process):
            return _wires(step[-1] for step in item.body if step[0] in ("assign", "switch"))
        return _wires([item])

    def mark(item: Cell | Process | Bits) -> None:
        if id(item) in live:
            return
        live.add(id(item))
        work.extend(reads(item))
        if isinstance(item, Cell) and item.kind.startswith("$memrd"):
            for writer in memories.pop(item.parameters["\\MEMID"], []):
                mark(writer)

    roots: list[Cell] = []
    for cell in module.cells:
        for wire in _wires(cell.ports[output] for output in cell.outputs):
            drivers.setdefault(wire, []).append(cell)
        if cell.kind.startswith(("$memwr", "$meminit")):
            memories.setdefault(cell.parameters["\\MEMID"], []).append(cell)
        elif cell.kind.startswith(_EFFECTS) or "keep" in cell.attributes:
            roots.append(cell)
        elif cell.is_instance and cell.kind not in outputless:
            roots.append(cell)
    for process in module.processes:
        for wire in _targets(process):
            drivers.setdefault(wire, []).append(process)
    for target, value in module.connections:
        drivers.setdefault(target[0].wire, []).append(value)
    for cell in roots:
        mark(cell)
    work.extend(wire.name for wire in module.wires.values() if wire.port or "keep" in wire.attributes)
    used: set[str] = set()
    while work:
        wire = work.pop()
        if wire not in used:
            used.add(wire)
            for item in drivers.get(wire, ()):
                mark(item)
    before = len(module.cells) + len(module.processes) + len(module.wires)
    module.cells = [cell for cell in module.cells if id(cell) in live]
    module.processes = [process for process in module.processes if id(process) in live]
    # Outputs of a live instance or register may be unread in part; they stay declared.
    used.update(wire for cell in module.cells for wire in _wires(cell.ports[output] for output in cell.outputs))
    used.update(wire for process in module.processes for wire in _targets(process))
    module.wires = {name: wire for name, wire in module.wires.items() if name in used}
    kept = {cell.parameters["\\MEMID"] for cell in module.cells if cell.kind.startswith("$memrd")}
    module.memories = {name: memory for name, memory in module.memories.items() if _memory_id(name) in kept}
    return len(module.cells) + len(module.processes) + len(module.wires) != before


def _memory_id(name: str) -> str:
    return '"' + name.replace("\\", "\\\\") + '"'


def _merge_equal(module: Module) -> bool:
    """Keep one of several operators that compute the same."""
    found: dict[tuple, Cell] = {}
    same: dict[str, str] = {}
    kept = []
    for cell in module.cells:
        if cell.is_instance or cell.kind.startswith((*_EFFECTS, "$mem", "$any", "$init")) or cell.outputs != ("\\Y",):
            kept.append(cell)
            continue
        inputs = tuple((port, value) for port, value in cell.ports.items() if port != "\\Y")
        first = found.setdefault((cell.kind, tuple(cell.parameters.items()), inputs), cell)
        wire = cell.ports["\\Y"][0].wire
        if first is cell or not wire.startswith("$") or module.wires[wire].port:
            kept.append(cell)
        else:
            same[wire] = first.ports["\\Y"][0].wire
    module.cells = kept

    def change(value: Bits) -> Bits:
        return tuple(
            Slice(same[piece.wire], piece.high, piece.low) if isinstance(piece, Slice) and piece.wire in same else piece
            for piece in value
        )

    if same:
        module.map_reads(change)
        module.aliases = [(name, change(value)) for name, value in module.aliases]
    return bool(same)


def _targets(process: Process) -> list[str]:
    return list(dict.fromkeys(piece.wire for step in process.body if step[0] == "assign" for piece in step[1]))


def _shrink(module: Module) -> bool:
    """Narrow unnamed results whose upper bits nobody reads, and the operands they come from."""
    read = _read_wires(module)
    changed = False
    for cell in module.cells:
        operands = _LOW_BITS.get(cell.kind)
        if not operands:
            continue
        wire = module.wires[cell.ports["\\Y"][0].wire]
        width = read[wire.name] + 1 if wire.name in read else wire.width
        if wire.name.startswith("\\") or width >= wire.width:
            continue
        changed = True
        wire.width = width
        cell.ports["\\Y"] = (Slice(wire.name, width - 1, 0),)
        cell.parameters["\\WIDTH" if cell.kind == "$mux" else "\\Y_WIDTH"] = str(width)
        for operand in operands:
            if _width(cell.ports[f"\\{operand}"]) > width:
                cell.ports[f"\\{operand}"] = _low(cell.ports[f"\\{operand}"], width)
                if cell.kind != "$mux":
                    cell.parameters[f"\\{operand}_WIDTH"] = str(width)
    if changed:
        module.keep_aliases(lambda piece: piece.wire not in module.wires or piece.high < module.wires[piece.wire].width)
    return changed


def _shift_down(module: Module) -> bool:
    """Drop the low bits of unnamed bitwise results when nobody reads them."""
    lowest: dict[str, int] = {}
    for value in module.reads():
        for piece in value:
            if isinstance(piece, Slice):
                lowest[piece.wire] = min(piece.low, lowest.get(piece.wire, piece.low))
    shifted: dict[str, int] = {}
    for cell in module.cells:
        if cell.kind not in _BITWISE:
            continue
        result = cell.ports["\\Y"][0]
        low = lowest.get(result.wire, 0)
        operands = [port for port in cell.ports if port in ("\\A", "\\B")]
        if not low or result.wire.startswith("\\") or module.wires[result.wire].port:
            continue
        if any(_width(cell.ports[port]) != result.width for port in operands):
            continue
        width = result.width - low
        for port in operands:
            cell.ports[port] = _high(cell.ports[port], width)
        for parameter in ("\\WIDTH", "\\A_WIDTH", "\\B_WIDTH", "\\Y_WIDTH"):
            if parameter in cell.parameters:
                cell.parameters[parameter] = str(width)
        cell.ports["\\Y"] = (Slice(result.wire, width - 1, 0),)
        module.wires[result.wire].width = width
        shifted[result.wire] = low

    def change(value: Bits) -> Bits:
        return tuple(
            Slice(piece.wire, piece.high - shifted[piece.wire], piece.low - shifted[piece.wire])
            if isinstance(piece, Slice) and piece.wire in shifted
            else piece
            for piece in value
        )

    if shifted:
        module.map_reads(change)
        module.keep_aliases(lambda piece: piece.low >= shifted.get(piece.wire, 0))
        module.aliases = [(name, change(value)) for name, value in module.aliases]
    return bool(shifted)


def _join_outputs(module: Module) -> None:
    """Let what computes an output drive it, where Amaranth had no name for one of the two."""
    joined: dict[str, str] = {}
    kept = []
    for target, value in module.connections:
        port, source = module.wires[target[0].wire], value[0]
        whole = len(value) == 1 and isinstance(source, Slice) and source.width == module.wires[source.wire].width
        if not whole or module.wires[source.wire].port or source.wire in joined:
            kept.append((target, value))
        elif source.wire.startswith("$") or _is_unnamed_port(port.name):
            joined[source.wire] = port.name
            port.attributes.update(module.wires.pop(source.wire).attributes)
            if source.wire.startswith("\\"):
                module.aliases.insert(0, (source.wire, target))
        else:
            kept.append((target, value))
    module.connections = kept

    def change(value: Bits) -> Bits:
        return tuple(
            Slice(joined.get(piece.wire, piece.wire), piece.high, piece.low) if isinstance(piece, Slice) else piece
            for piece in value
        )

    if joined:
        module.map_reads(change)
        module.map_targets(change)
        module.aliases = [(name, change(value)) for name, value in module.aliases]


def _is_unnamed_port(name: str) -> bool:
    return name.startswith("\\port$")


def _use_fields(module: Module) -> None:
    """Read parts of payloads through aliases named after the fields."""
    fields: dict[str, list[tuple[int, int, str]]] = {}
    for name, value in module.aliases:
        if re.search(r"[.\[]", name) and len(value) == 1 and isinstance(value[0], Slice):
            piece = value[0]
            if piece.wire in module.wires and piece.width < module.wires[piece.wire].width:
                fields.setdefault(piece.wire, []).append((piece.high, piece.low, name))
    for wire, found in fields.items():
        # A payload's own fields come before those of another signal that happens to be the same wire.
        found.sort(key=lambda field: (field[0] - field[1], not field[2].startswith((wire + ".", wire + "["))))

    def field(piece: Slice) -> tuple[int, int, str] | None:
        return next((f for f in fields.get(piece.wire, ()) if f[1] <= piece.low and piece.high <= f[0]), None)

    # A field of which some bits are never read would only be a wire with unused bits.
    read: dict[str, int] = {}
    for value in module.reads():
        for piece in value:
            if isinstance(piece, Slice) and (found := field(piece)):
                _high, low, name = found
                read[name] = read.get(name, 0) | ((1 << piece.width) - 1) << (piece.low - low)
    used = {
        name: (wire, high, low)
        for wire, found in fields.items()
        for high, low, name in found
        if read.get(name) == (1 << (high - low + 1)) - 1
    }

    def change(value: Bits) -> Bits:
        pieces: list[Constant | Slice] = []
        for piece in value:
            if isinstance(piece, Slice) and (found := field(piece)) and found[2] in used:
                _high, low, name = found
                piece = Slice(name, piece.high - low, piece.low - low)
            pieces.append(piece)
        return tuple(pieces)

    module.map_reads(change)
    for name, (wire, high, low) in used.items():
        module.wires[name] = Wire(name, high - low + 1, False, "", {})
        module.connections.append(((Slice(name, high - low, 0),), (Slice(wire, high, low),)))


# Naming -------------------------------------------------------------------------------------------------------------


def plain_name(name: str) -> str:
    """Return a Verilog identifier for a name of Amaranth: ``\\a.b[3]$7`` becomes ``a__b_3``."""
    name = name.removeprefix("\\")
    name = re.sub(r"\$\d+$", "", name)
    name = name.replace(".", "__").replace("[", "_").replace("]", "")
    name = re.sub(r"\W", "_", name)
    name = name.lstrip("_") if re.match(r"_+[A-Za-z]", name) else name
    if not name or name[0].isdigit():
        name = "_" + name
    return name + "_" if name in _KEYWORDS else name


def _unique(name: str, taken: set[str]) -> str:
    candidate = name
    number = 2
    while candidate in taken:
        candidate = f"{name}_{number}"
        number += 1
    taken.add(candidate)
    return candidate


class _Names:
    """Final names of a module's wires, memories and instances."""

    def __init__(self, module: Module, children: dict, is_top: bool):
        self.table: dict[str, str] = {}
        self._taken: set[str] = set()
        self._module = module
        wires = module.wires
        ports = [wire.name for wire in module.ports]
        if is_top:
            for name in ports:
                if plain_name(name) != name[1:]:
                    raise ValueError(f"Port name must be a Verilog identifier, not {name[1:]!r}")
        for name in ports:
            if not _is_unnamed_port(name):
                self._give(name, plain_name(name))
        # Names that Amaranth made up itself come last.
        aliases = sorted(module.aliases, key=lambda alias: (alias[0].startswith("\\_"), "$" in alias[0]))
        self._give_same(aliases)
        for cell in module.cells:
            if cell.is_instance:
                self._give_instance(cell, children.get(cell.kind))
        for name in wires:
            if name.startswith("\\") and not _is_unnamed_port(name):
                self._give(name, plain_name(name))
        for memory in module.memories:
            self._give(memory, plain_name(memory))
        self._give_part(aliases)
        self._give_next()
        self._number = 0
        for cell in module.cells:
            if not cell.is_instance:
                for output in cell.outputs:
                    self._give_number(cell.ports[output], cell.kind[1:].removesuffix("_v2"))
        for process in module.processes:
            for target in _targets(process):
                self._give_number((Slice(target, 0, 0),), "value")
        for name in wires:
            self._give(name, "part" if name in ports else "value")
        self.instances = {}
        for cell in module.cells:
            if cell.is_instance:
                self.instances[cell.name] = _unique(plain_name(cell.name), self._taken)

    def _give(self, name: str, wanted: str) -> None:
        if name not in self.table:
            self.table[name] = "\\" + _unique(wanted, self._taken)

    def _give_number(self, bits: Bits, kind: str) -> None:
        for piece in bits:
            if piece.wire not in self.table:
                self._number += 1
                self._give(piece.wire, f"{kind}_{self._number}")

    def _is_unnamed(self, piece: Constant | Slice) -> bool:
        wires = self._module.wires
        if not isinstance(piece, Slice) or piece.wire not in wires or piece.width != wires[piece.wire].width:
            return False
        return piece.wire.startswith("$") or _is_unnamed_port(piece.wire)

    def _give_same(self, aliases: Sequence[tuple[str, Bits]]) -> None:
        """What has no name takes that of a signal that is the same."""
        for name, value in aliases:
            if len(value) == 1 and self._is_unnamed(value[0]):
                self._give(value[0].wire, plain_name(name))

    def _give_part(self, aliases: Sequence[tuple[str, Bits]]) -> None:
        """What still has no name takes that of the bits of a signal that it feeds."""
        for name, value in aliases:
            low = 0
            for piece in reversed(value):
                if self._is_unnamed(piece):
                    bits = f"_{low + piece.width - 1}_{low}" if piece.width > 1 else f"_{low}"
                    self._give(piece.wire, plain_name(name) + bits)
                low += piece.width

    def _give_instance(self, cell: Cell, child: "_Names | None") -> None:
        """A wire that an instance drives is called after both, unless the design gave it a name of its own."""
        for output in cell.outputs:
            for piece in cell.ports[output]:
                port = child.table[output][1:] if child else plain_name(output)
                if piece.wire.startswith("$") or plain_name(piece.wire) in (port, plain_name(output)):
                    self._give(piece.wire, f"{plain_name(cell.name)}__{port}")

    def _give_next(self) -> None:
        for cell in self._module.cells:
            if cell.kind in ("$dff", "$adff") and len(cell.ports["\\D"]) == 1:
                source, register = cell.ports["\\D"][0], cell.ports["\\Q"][0].wire
                if isinstance(source, Slice) and source.wire.startswith("$") and register in self.table:
                    self._give(source.wire, f"{self.table[register][1:]}__next")

    def apply(self, module: Module) -> None:
        """Rename everything in `module`; ports of instances have their new names already."""

        def change(value: Bits) -> Bits:
            return tuple(
                Slice(self.table[piece.wire], piece.high, piece.low) if isinstance(piece, Slice) else piece
                for piece in value
            )

        module.map_reads(change)
        module.map_targets(change)
        for cell in module.cells:
            if cell.is_instance:
                cell.name = "\\" + self.instances[cell.name]
            if "\\MEMID" in cell.parameters:
                memory = cell.parameters["\\MEMID"][1:-1].replace("\\\\", "\\")
                cell.parameters["\\MEMID"] = _memory_id(self.table[memory])
        module.memories = {self.table[name]: memory for name, memory in module.memories.items()}
        wires = {}
        for name, wire in module.wires.items():
            wire.name = self.table[name]
            wires[wire.name] = wire
        module.wires = wires


def _order(module: Module, is_top: bool) -> None:
    """Put the ports first: clock, reset, then by declaration (top) or by name, so that equal modules read the same."""
    ports = [wire.name for wire in module.ports]
    if not is_top:
        ports.sort()
    ports.sort(key=lambda name: {"\\clk": 0, "\\rst": 1}.get(name, 2))
    module.wires = {name: module.wires[name] for name in [*ports, *(n for n in module.wires if n not in set(ports))]}
    numbers = {"$": 0}

    def number() -> str:
        numbers["$"] += 1
        return f"${numbers['$']}"

    for cell in module.cells:
        if not cell.is_instance:
            cell.name = number()
    for process in module.processes:
        process.name = number()
