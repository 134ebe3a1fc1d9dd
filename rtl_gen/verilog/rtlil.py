"""A design as Amaranth describes it: modules of wires, cells, decision processes and connections, read from RTLIL.

Values are `Bits`, tuples of constants and slices of wires with the most significant piece first. Names stay as they
are in RTLIL: ``\\name`` was given by the design, ``$7`` was not. Equal modules are read once, however many instances
there are, so a large array costs what its kinds of tiles cost.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator


@dataclasses.dataclass(frozen=True, slots=True)
class Constant:
    """Bits, most significant first; ``-`` and ``x`` occur in patterns and memories."""

    bits: str

    @property
    def width(self) -> int:
        """Number of bits."""
        return len(self.bits)


@dataclasses.dataclass(frozen=True, slots=True)
class Slice:
    """Bits ``high`` down to ``low`` of a wire."""

    wire: str
    high: int
    low: int

    @property
    def width(self) -> int:
        """Number of bits."""
        return self.high - self.low + 1


Bits = tuple[Constant | Slice, ...]
"""A value: its pieces, most significant first."""


def width(bits: Bits) -> int:
    """Number of bits of a value."""
    return sum(piece.width for piece in bits)


def join(pieces: Iterable[Constant | Slice]) -> Bits:
    """Make a value of pieces, with neighbours that belong together made one."""
    result: list[Constant | Slice] = []
    for piece in pieces:
        last = result[-1] if result else None
        if isinstance(piece, Constant):
            if not piece.bits:
                continue
            if isinstance(last, Constant):
                result[-1] = Constant(last.bits + piece.bits)
                continue
        elif isinstance(last, Slice) and last.wire == piece.wire and last.low == piece.high + 1:
            result[-1] = Slice(piece.wire, last.high, piece.low)
            continue
        result.append(piece)
    return tuple(result)


def take(bits: Bits, high: int, low: int) -> Bits:
    """Bits ``high`` down to ``low`` of a value."""
    result: list[Constant | Slice] = []
    end = width(bits)
    for piece in bits:
        end -= piece.width  # the piece's lowest bit in the value
        top, bottom = min(high - end, piece.width - 1), max(low - end, 0)
        if top < bottom:
            continue
        if isinstance(piece, Constant):
            result.append(Constant(piece.bits[piece.width - 1 - top : piece.width - bottom]))
        else:
            result.append(Slice(piece.wire, piece.low + top, piece.low + bottom))
    return join(result)


def low_bits(bits: Bits, count: int) -> Bits:
    """The low `count` bits of a value."""
    return take(bits, count - 1, 0)


def bits_of(bits: Bits) -> list[Constant | Slice]:
    """The bits of a value one by one, least significant first."""
    result: list[Constant | Slice] = []
    for piece in reversed(bits):
        if isinstance(piece, Constant):
            result.extend(Constant(bit) for bit in reversed(piece.bits))
        else:
            result.extend(Slice(piece.wire, bit, bit) for bit in range(piece.low, piece.high + 1))
    return result


def wires_in(values: Iterable[Bits]) -> Iterator[str]:
    """Names of the wires that values are made of."""
    return (piece.wire for value in values for piece in value if isinstance(piece, Slice))


@dataclasses.dataclass
class Wire:
    """A wire; `port` is ``input``, ``output``, ``inout`` or empty."""

    name: str
    width: int
    port: str = ""
    attributes: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def is_named(self) -> bool:
        """Whether the design gave it a name."""
        return self.name.startswith("\\")

    @property
    def is_kept(self) -> bool:
        """Whether it must stay whatever reads it."""
        return "keep" in self.attributes


def whole(wire: Wire) -> Slice:
    """All bits of a wire."""
    return Slice(wire.name, wire.width - 1, 0)


@dataclasses.dataclass
class Cell:
    """An operator, register, memory port (``$...``) or instance of a module or primitive."""

    kind: str
    name: str
    parameters: dict[str, str]
    inputs: dict[str, Bits]
    outputs: dict[str, Bits]
    attributes: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def is_instance(self) -> bool:
        """Whether it is an instance of a module or a primitive."""
        return not self.kind.startswith("$")

    @property
    def is_register(self) -> bool:
        """Whether it is a row of flip-flops."""
        return self.kind in ("$dff", "$adff")

    @property
    def is_operator(self) -> bool:
        """Whether its one output is a function of its inputs."""
        return tuple(self.outputs) == ("Y",) and not self.is_instance

    @property
    def signed(self) -> bool:
        """Whether an operator extends its first operand by its sign."""
        return self.parameters.get("A_SIGNED", "0") == "1"


@dataclasses.dataclass
class Assign:
    """Drives part of a process's wire."""

    target: Slice
    value: Bits


@dataclasses.dataclass
class Case:
    """A branch of a `Switch`; without patterns it is the default."""

    patterns: tuple[str, ...]
    body: list["Statement"]


@dataclasses.dataclass
class Switch:
    """Does what the first case says that matches a value."""

    value: Bits
    cases: list[Case]


Statement = Assign | Switch


def statements(body: Iterable[Statement]) -> Iterator[Statement]:
    """Statements of a process, with those inside decisions."""
    for statement in body:
        yield statement
        if isinstance(statement, Switch):
            for case in statement.cases:
                yield from statements(case.body)


@dataclasses.dataclass
class Process:
    """A decision tree that drives one wire; of two assignments to a bit the later one counts."""

    wire: str
    body: list[Statement]

    def reads(self) -> Iterator[Bits]:
        """Every value that it reads."""
        for statement in statements(self.body):
            yield statement.value


@dataclasses.dataclass
class Memory:
    """Rows that memory ports (``$memrd_v2``, ``$memwr_v2``) refer to by its name; `rows` are its initial values."""

    name: str
    width: int
    depth: int
    attributes: dict[str, str]
    rows: tuple[str, ...] = ()


@dataclasses.dataclass
class Module:
    """A module. `connections` drive slices of wires; `aliases` are names of values that nothing reads by that name."""

    name: str
    wires: dict[str, Wire] = dataclasses.field(default_factory=dict)
    memories: dict[str, Memory] = dataclasses.field(default_factory=dict)
    cells: list[Cell] = dataclasses.field(default_factory=list)
    processes: list[Process] = dataclasses.field(default_factory=list)
    connections: list[tuple[Slice, Bits]] = dataclasses.field(default_factory=list)
    aliases: list[tuple[str, Bits]] = dataclasses.field(default_factory=list)

    @property
    def ports(self) -> list[Wire]:
        """Wires that are ports."""
        return [wire for wire in self.wires.values() if wire.port]

    def reads(self) -> Iterator[Bits]:
        """Every value that something reads."""
        for cell in self.cells:
            yield from cell.inputs.values()
        for process in self.processes:
            yield from process.reads()
        for _target, value in self.connections:
            yield value

    def map_reads(self, change: Callable[[Bits], Bits]) -> None:
        """Replace every value that is read, and those that have names, by ``change(value)``."""
        for cell in self.cells:
            for port, value in cell.inputs.items():
                cell.inputs[port] = change(value)
        for process in self.processes:
            for statement in statements(process.body):
                statement.value = change(statement.value)
        self.connections = [(target, change(value)) for target, value in self.connections]
        self.aliases = [(name, change(value)) for name, value in self.aliases]

    def map_targets(self, change: Callable[[Slice], Slice]) -> None:
        """Replace everything that is driven by ``change(target)``."""
        for cell in self.cells:
            for port, value in cell.outputs.items():
                cell.outputs[port] = tuple(change(piece) for piece in value)
        for process in self.processes:
            for statement in statements(process.body):
                if isinstance(statement, Assign):
                    statement.target = change(statement.target)
                    process.wire = statement.target.wire
        self.connections = [(change(target), value) for target, value in self.connections]


@dataclasses.dataclass
class Netlist:
    """Modules by name, parents before their children; the first is the top."""

    modules: dict[str, Module]

    @property
    def top(self) -> Module:
        """The top module."""
        return next(iter(self.modules.values()))


# Reading ------------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(r"\{|\}|\[\d+(?::\d+)?\]|\d+'[01xz-]*|[\\$]\S+|\S+")

# Amaranth writes reads with an explicit slice and driven wires without: that tells the outputs of a primitive.
_BARE = re.compile(r"[\\$]\S+")

_OUTPUTS = ("Y", "Q", "DATA")

_READS_DATA = ("$memwr_v2", "$meminit_v2")


def read(text: str) -> Netlist:
    """Read a design.

    Parameters
    ----------
    text : str
        RTLIL as ``amaranth.back.rtlil`` writes it.

    Raises
    ------
    ValueError
        If the text holds something that Amaranth does not write.
    """
    found: list[tuple[str, list[str]]] = []
    lines = iter(text.splitlines())
    for line in lines:
        if not line.strip() or line.startswith("attribute "):
            continue
        if not line.startswith("module "):
            raise ValueError(f"RTLIL line must start a module, not {line!r}")
        body = []
        for inner in lines:
            if inner == "end":
                break
            if inner.strip():
                body.append(inner.strip())
        found.append((line.split()[1], body))
    # Children come after their parents. Of modules with the same text the first one stands for all.
    representatives: dict[str, str] = {}
    first: dict[tuple[str, ...], str] = {}
    texts: dict[str, tuple[str, ...]] = {}
    for name, body in reversed(found):
        key = tuple(_with_kind(line, representatives) if line.startswith("cell \\") else line for line in body)
        representatives[name] = first.setdefault(key, name)
        if first[key] == name:
            texts[name] = key
    modules = {name: _read_module(name, texts[name]) for name, _ in found if name in texts}
    for module in modules.values():
        for cell in module.cells:
            child = modules.get(cell.kind)
            if child is not None:
                connected = cell.inputs | cell.outputs
                outputs = {port.name[1:] for port in child.ports if port.port == "output"}
                cell.inputs = {port: value for port, value in connected.items() if port not in outputs}
                cell.outputs = {port: value for port, value in connected.items() if port in outputs}
    return Netlist(modules)


def _with_kind(line: str, kinds: dict[str, str]) -> str:
    word, kind, name = line.split(" ", 2)
    return f"{word} {kinds.get(kind, kind)} {name}"


def _read_module(name: str, lines: Iterable[str]) -> Module:
    module = Module(name)
    widths: dict[str, int] = {}
    attributes: dict[str, str] = {}
    pending: list[tuple[str, list[str], dict[str, str]]] = []
    lines = iter(lines)
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "attribute":
            key, _, value = rest.partition(" ")
            attributes[key[1:]] = value
            continue
        if word == "wire":
            wire = _read_wire(rest.split(), attributes)
            module.wires[wire.name] = wire
            widths[wire.name] = wire.width
        elif word == "memory":
            _, bits, _, depth, memory = rest.split()
            module.memories[memory] = Memory(memory, int(bits), int(depth), attributes)
        elif word in ("cell", "process"):
            pending.append((line, _block(lines), attributes))
        elif word == "connect":
            pending.append((line, [], {}))
        else:
            raise ValueError(f"RTLIL line must be a wire, memory, cell, process or connection, not {line!r}")
        attributes = {}
    for line, block, attributes in pending:
        tokens = _TOKEN.findall(line)
        if tokens[0] == "connect":
            target, position = _parse_bits(tokens, 1, widths)
            value = _parse_bits(tokens, position, widths)[0]
            if target:  # a wire of no bits is connected to nothing
                module.connections.append((target[0], value))
        elif tokens[0] == "cell":
            cell = _read_cell(tokens[1], tokens[2], block, attributes, widths)
            if cell.kind == "$meminit_v2":
                memory = module.memories[_memory_of(cell)]
                data = "".join(piece.bits for piece in cell.inputs["DATA"])
                rows = [data[start : start + memory.width] for start in range(0, len(data), max(memory.width, 1))]
                memory.rows = tuple(reversed(rows))
            elif cell.is_instance or not cell.outputs or any(cell.outputs.values()):
                module.cells.append(cell)  # what computes no bits is left out
        else:
            process = Process("", _read_body(block, 0, widths)[0])
            process.wire = next(each for each in statements(process.body) if isinstance(each, Assign)).target.wire
            module.processes.append(process)
    return module


def _memory_of(cell: Cell) -> str:
    return cell.parameters["MEMID"]


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


def _read_wire(words: list[str], attributes: dict[str, str]) -> Wire:
    port = next((word for word in words[:-1] if word in ("input", "output", "inout")), "")
    return Wire(words[-1], int(words[1]), port, attributes)


def _read_cell(kind: str, name: str, block: list[str], attributes: dict[str, str], widths: dict[str, int]) -> Cell:
    parameters: dict[str, str] = {}
    inputs: dict[str, Bits] = {}
    outputs: dict[str, Bits] = {}
    for line in block:
        word, _, rest = line.partition(" ")
        if word == "parameter":
            # `signed` and `real` stay part of the key, in front of the name.
            form, key, value = re.fullmatch(r"(signed |real )?\\(\S+) (.*)", rest).groups(default="")
            parameters[form + key] = value
        else:
            port, _, value = rest.partition(" ")
            port = port[1:]
            bits = _parse_bits(_TOKEN.findall(value), 0, widths)[0]
            drives = _BARE.fullmatch(value) and (not kind.startswith("$") or port in _OUTPUTS)
            (outputs if drives and kind not in _READS_DATA else inputs)[port] = bits
    if "MEMID" in parameters:
        parameters["MEMID"] = parameters["MEMID"][1:-1].replace("\\\\", "\\")
    return Cell(kind, name, parameters, inputs, outputs, attributes)


def _read_body(lines: list[str], position: int, widths: dict[str, int]) -> tuple[list[Statement], int]:
    """Statements from a line on, and the line that ends them: that of the next case, or behind the last."""
    body: list[Statement] = []
    while position < len(lines) and lines[position] != "end" and not lines[position].startswith("case"):
        line = lines[position]
        tokens = _TOKEN.findall(line)
        position += 1
        if tokens[0] == "assign":
            target, value = _parse_bits(tokens, 1, widths)
            if target:  # else a field of no bits
                body.append(Assign(target[0], _parse_bits(tokens, value, widths)[0]))
        elif tokens[0] == "switch":
            switch = Switch(_parse_bits(tokens, 1, widths)[0], [])
            while lines[position] != "end":
                patterns = tuple(re.findall(r"'([01-]*)", lines[position]))
                inner, position = _read_body(lines, position + 1, widths)
                switch.cases.append(Case(patterns, inner))
            position += 1
            # Assignments after a decision come inside one that decides nothing.
            body.extend([switch] if switch.value else switch.cases[0].body)
        else:
            raise ValueError(f"RTLIL line of a process must be assign, switch, case or end, not {line!r}")
    return body, position


def _parse_bits(tokens: list[str], position: int, widths: dict[str, int]) -> tuple[Bits, int]:
    if tokens[position] == "{":
        pieces: list[Constant | Slice] = []
        position += 1
        while tokens[position] != "}":
            more, position = _parse_bits(tokens, position, widths)
            pieces.extend(more)
        return join(pieces), position + 1
    token = tokens[position]
    position += 1
    if token[0] in "\\$":
        if position < len(tokens) and tokens[position].startswith("["):
            high, _, low = tokens[position][1:-1].partition(":")
            return (Slice(token, int(high), int(low or high)),), position + 1
        bits = widths[token]
        return ((Slice(token, bits - 1, 0),) if bits else ()), position
    count, quote, bits = token.partition("'")
    if not quote or len(bits) != int(count):
        raise ValueError(f"RTLIL value must be a wire or a sized constant, not {token!r}")
    return ((Constant(bits),) if bits else ()), position
