"""Verilog-2005 of a tidied module: expressions put together, registers that move together in one block."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from rtl_gen.verilog import expressions
from rtl_gen.verilog.expressions import Expression
from rtl_gen.verilog.naming import Names
from rtl_gen.verilog.rtlil import (
    Assign,
    Bits,
    Case,
    Cell,
    Constant,
    Memory,
    Module,
    Netlist,
    Process,
    Slice,
    Statement,
    Switch,
    Wire,
    bits_of,
    take,
    whole,
    width,
    wires_in,
)
from rtl_gen.verilog.tidy import order_by

# An operator goes into its one reader up to this many characters, and anywhere up to the second.
_INLINED, _REPEATED = 80, 12

_COLUMNS = 110

# Attributes that only Amaranth and yosys read.
_INTERNAL_ATTRIBUTES = ("init", "generator", "top", "src", "amaranth.", "enum_")

_UNWRITABLE = ("$check", "$print", "$assert", "$assume", "$cover", "$tribuf", "$initstate", "$any", "$all")


@dataclass
class _Item:
    """Part of a module's body: what it defines, what it reads, and its lines."""

    defines: tuple[str, ...]
    reads: tuple[str, ...]
    lines: list[str] = field(default_factory=list)
    declaration: str = ""


def check_writable(netlist: Netlist) -> None:
    """Refuse what this project does not write, before it is taken for dead logic.

    Raises
    ------
    ValueError
        If the design holds assertions, prints or tristate buffers.
    """
    for module in netlist.modules.values():
        for cell in module.cells:
            if cell.kind.startswith(_UNWRITABLE):
                raise ValueError(
                    f"component must be free of assertions, prints and tristate pins, not hold {cell.kind}"
                )


class Writer:
    """Writes one module.

    Parameters
    ----------
    module : Module
        The module, tidied.
    children : dict
        Names of the modules below it, by module.
    ports : dict, optional
        Names that its ports must have.
    """

    def __init__(self, module: Module, children: dict[str, Names], ports: dict[str, str] | None = None):
        self._module = module
        self._widths = {name: wire.width for name, wire in module.wires.items()}
        self._memory_reads = [cell for cell in module.cells if cell.kind == "$memrd_v2"]
        self._registers = [cell for cell in module.cells if cell.is_register]
        self._sources = {
            cell.outputs["Y"][0].wire: cell
            for cell in module.cells
            if cell.is_operator and cell.outputs["Y"][0] == whole(module.wires[cell.outputs["Y"][0].wire])
        }
        self._readers: dict[str, int] = {}
        for wire in wires_in(module.reads()):
            self._readers[wire] = self._readers.get(wire, 0) + 1
        self._next = self._own_decisions()
        self.names = Names(module, children, ports or {})
        self._declared: set[str] = set()
        self._is_settled = False  # which operators have wires, so that everything can be named
        self._expressions: dict[str, Expression] = {}
        self._choose()
        self._is_settled = True
        unnamed = [wire for wire in module.wires if wire in self._declared or not self._is_inlinable(wire)]
        kinds = {wire: cell.kind[1:].partition("_v2")[0] for wire, cell in self._sources.items()}
        self.names.name([wire for wire in unnamed if wire not in self._next], kinds)
        self._build()

    @property
    def ports(self) -> list[Wire]:
        """Ports in the order of the text: clock and reset first."""
        order = {"\\clk": 0, "\\rst": 1}
        return sorted((wire for wire in self._module.ports if wire.width), key=lambda wire: order.get(wire.name, 2))

    def write(self, name: str, kinds: dict[str, str]) -> str:
        """The module's text.

        Parameters
        ----------
        name : str
            Name of the module.
        kinds : dict
            Names of the modules below it, by kind of instance; primitives keep theirs.
        """
        items = [*self._logic(), *self._memory_ports(), *self._register_blocks()]
        items += [self._instance(cell, kinds) for cell in self._module.cells if cell.is_instance]
        ordered = self._in_order([*items, *self._unread()])
        head = [f"module {name} (", *self._port_lines(), ");"]
        sections = [self._declarations(ordered), self._memories(), self._initial()]
        body = [line for section in sections if section for line in ("", *section)]
        for item, before in zip(ordered, [None, *ordered], strict=False):
            # Single lines of logic stand together.
            if before is None or len(item.lines) > 1 or len(before.lines) > 1:
                body.append("")
            body += item.lines
        return "\n".join([*head, *body, "", "endmodule"])

    # What becomes an expression -------------------------------------------------------------------------------------

    def _own_decisions(self) -> dict[str, Process]:
        """Processes that are the next value of one register, by wire; they are written in the register's block."""
        processes = {process.wire: process for process in self._module.processes}
        found = {}
        for cell in self._registers:
            value = cell.inputs["D"]
            if len(value) == 1 and isinstance(value[0], Slice) and value[0].wire in processes:
                wire = self._module.wires[value[0].wire]
                if (
                    value[0] == whole(wire)
                    and self._readers.get(wire.name) == 1
                    and not wire.is_named
                    and not wire.port
                ):
                    found[wire.name] = processes[wire.name]
        return found

    def _is_inlinable(self, wire: str) -> bool:
        return wire in self._sources and not self._module.wires[wire].is_named and wire not in self.names.table

    def _choose(self) -> None:
        """Find out which operators need a wire of their own."""
        before = None
        while before != self._declared:
            before = set(self._declared)
            self._build()
            for cell in self._module.cells:
                if cell.is_operator:
                    self._operator(cell)
                    continue
                for port, value in cell.inputs.items():
                    self._part(value) if port == "D" else self._alone(value)
            for process in self._module.processes:
                self._visit(process.body)
            for _target, value in self._module.connections:
                self._part(value)

    def _visit(self, body: Iterable[Statement]) -> None:
        for statement in body:
            if isinstance(statement, Assign):
                self._part(statement.value)
                continue
            if self._conditions(statement) is None:
                self._alone(statement.value)
            for case in statement.cases:
                self._visit(case.body)

    def _build(self) -> None:
        self._expressions = {}
        sources = {
            wire: [source for source in wires_in(cell.inputs.values()) if source in self._sources]
            for wire, cell in self._sources.items()
        }
        for wire in order_by(sources, sources.__getitem__):
            self._expressions[wire] = self._operator(self._sources[wire])

    def _operator(self, cell: Cell) -> Expression:
        found = expressions.operator(cell, self._operand)
        if found is None:
            self._declared.update(wires_in(cell.inputs.values()))
            found = expressions.operator(cell, self._leaf)
        if found is None:
            raise ValueError(f"component must be made of what Verilog can express, not {cell.kind} cells like this")
        return found

    def _leaf(self, value: Bits) -> Expression:
        return expressions.value([self._piece(piece) for piece in value] or [self._piece(Constant("0"))])

    def _piece(self, piece: Constant | Slice) -> Expression:
        if isinstance(piece, Constant):
            return expressions.leaf(piece, "", piece.width)
        name = self.names.table[piece.wire] if self._is_settled else self.names.table.get(piece.wire, "value_00")
        return expressions.leaf(piece, name, self._widths[piece.wire])

    def _inlined(self, piece: Constant | Slice) -> Expression | None:
        """The operator behind a wire, if it is to be written in its place."""
        if isinstance(piece, Constant) or piece.wire in self._declared or not self._is_inlinable(piece.wire):
            return None
        found = self._expressions.get(piece.wire)
        if self._is_settled:
            return found
        limit = _INLINED if self._readers.get(piece.wire, 0) <= 1 else _REPEATED
        if found is None or piece.width != self._widths[piece.wire] or len(found.text) > limit:
            self._declared.add(piece.wire)
            return None
        return found

    def _operand(self, value: Bits) -> Expression:
        """A value within an expression; what is inlined may depend on the width around it."""
        if len(value) == 1:
            return self._inlined(value[0]) or self._leaf(value)
        return self._part(value)

    def _part(self, value: Bits) -> Expression:
        """A value that stands alone."""
        parts = []
        for piece in value:
            found = self._inlined(piece)
            if found is not None and not (found.stands_alone and not found.signed) and len(value) > 1:
                self._declared.add(piece.wire)
                found = None
            parts.append(found or self._piece(piece))
        return expressions.value(parts or [self._piece(Constant("0"))])

    def _alone(self, value: Bits) -> Expression:
        """A value in a condition or a connection."""
        found = self._part(value)
        if not found.stands_alone:
            self._declared.update(wires_in([value]))
            found = self._leaf(value)
        return found

    # Items ----------------------------------------------------------------------------------------------------------

    def _logic(self) -> Iterator[_Item]:
        """Assignments and decisions that are not those of registers."""
        assigned: dict[str, list[tuple[Slice, Expression]]] = {}
        for cell in self._module.cells:
            if not cell.is_operator:
                continue
            target = cell.outputs["Y"][0]
            if target.wire in self._sources:
                if target.wire in self._declared or not self._is_inlinable(target.wire):
                    assigned.setdefault(target.wire, []).append((target, self._expressions[target.wire]))
            else:
                assigned.setdefault(target.wire, []).append((target, self._operator(cell)))
        for target, value in self._module.connections:
            assigned.setdefault(target.wire, []).append((target, self._part(value)))
        for cell in self._memory_reads:
            if cell.parameters["CLK_ENABLE"] == "0":
                target = cell.outputs["DATA"][0]
                row = self._row(cell)
                assigned.setdefault(target.wire, []).append((target, row))
        for wire, parts in assigned.items():
            yield self._assignment(self._module.wires[wire], parts)
        for process in self._module.processes:
            if process.wire not in self._next:
                yield self._decision(process)

    def _unread(self) -> Iterator[_Item]:
        """A reader for inputs, and outputs of instances, that have none: linters know then that this is meant."""
        given = [wire.name for wire in self.ports if wire.port == "input"]
        made = wires_in(value for cell in self._module.cells if cell.is_instance for value in cell.outputs.values())
        inner = [name for name in made if not self._module.wires[name].port]
        names = [self.names.table[name] for name in dict.fromkeys([*given, *inner]) if name not in self._readers]
        if names:
            name = self.names.extra("unused")
            yield _Item((), (), _wrapped(f"  wire {name} = &{{1'b0, {', '.join(names)}}};"))

    def _assignment(self, wire: Wire, parts: list[tuple[Slice, Expression]]) -> _Item:
        parts.sort(key=lambda part: part[0].low)
        reads = tuple(name for _, found in parts for name in found.wires)
        declaration = f"  {self._attributes(wire)}wire {self._range(wire.width)}{self.names.table[wire.name]}"
        if len(parts) == 1 and parts[0][0] == whole(wire):
            text = parts[0][1].text
            if wire.port:
                return _Item((wire.name,), reads, _wrapped(f"  assign {self.names.table[wire.name]} = {text};"))
            return _Item((wire.name,), reads, _wrapped(f"{declaration} = {text};"), f"{declaration};")
        lines = [] if wire.port else [f"{declaration};"]
        for target, found in self._packed(parts):
            lines += _wrapped(f"  assign {self._piece(target).text} = {found.text};")
        return _Item((wire.name,), reads, lines, "" if wire.port else f"{declaration};")

    def _packed(self, parts: list[tuple[Slice, Expression]]) -> Iterator[tuple[Slice, Expression]]:
        """Put short neighbours into one assignment."""
        run: list[tuple[Slice, Expression]] = []
        for part in parts:
            target, found = part
            size = sum(len(each.text) + 2 for _, each in run)
            fits = found.stands_alone and not found.signed and len(found.text) <= _INLINED
            if run and not (fits and run[-1][0].high + 1 == target.low and size + len(found.text) < 3 * _COLUMNS):
                yield self._packed_run(run)
                run = []
            run.append(part)
            if not fits:
                yield self._packed_run(run)
                run = []
        if run:
            yield self._packed_run(run)

    @staticmethod
    def _packed_run(run: list[tuple[Slice, Expression]]) -> tuple[Slice, Expression]:
        if len(run) == 1:
            return run[0]
        target = Slice(run[0][0].wire, run[-1][0].high, run[0][0].low)
        return target, expressions.value([found for _, found in reversed(run)])

    def _decision(self, process: Process) -> _Item:
        wire = self._module.wires[process.wire]
        reads: list[str] = []
        body = self._body(process.body, "=", "    ", reads)
        declaration = f"  {self._attributes(wire)}reg {self._range(wire.width)}{self.names.table[wire.name]};"
        lines = [] if wire.port else [declaration]
        lines += ["  always @* begin", *body, "  end"]
        return _Item((wire.name,), tuple(reads), lines, "" if wire.port else declaration)

    def _register_blocks(self) -> Iterator[_Item]:
        groups: dict[tuple, list[tuple[Cell, list[Statement]]]] = {}
        for cell in self._registers:
            target, value = cell.outputs["Q"], cell.inputs["D"]
            process = self._next.get(value[0].wire) if isinstance(value[0], Slice) else None
            body = self._register_body(cell, process) if process else [Assign(target[0], value)]
            edges = (cell.kind, cell.parameters["CLK_POLARITY"], cell.inputs["CLK"], cell.inputs.get("ARST"))
            groups.setdefault((edges, _skeleton(body)), []).append((cell, body))
        for members in groups.values():
            cell = members[0][0]
            body = _merged([body for _, body in members])
            reads: list[str] = []
            lines = self._body(body, "<=", "    ", reads)
            edge = "posedge" if cell.parameters["CLK_POLARITY"] == "1" else "negedge"
            when = f"{edge} {self._alone(cell.inputs['CLK']).text}"
            if cell.kind == "$adff":
                reset = self._alone(cell.inputs["ARST"]).text
                inits = [
                    f"      {self._piece(each.outputs['Q'][0]).text} <= "
                    f"{expressions.constant(each.parameters['ARST_VALUE'].partition(chr(39))[2])};"
                    for each, _ in members
                ]
                lines = [f"    if ({reset}) begin", *inits, "    end else begin", *(f"  {x}" for x in lines), "    end"]
                when += f" or posedge {reset}"
            defines = tuple(each.outputs["Q"][0].wire for each, _ in members)
            if len(lines) == 1:
                yield _Item(defines, tuple(reads), [f"  always @({when}) {lines[0].strip()}"])
            else:
                yield _Item(defines, tuple(reads), [f"  always @({when}) begin", *lines, "  end"])

    def _register_body(self, cell: Cell, process: Process) -> list[Statement]:
        """Decisions about a register's next value as assignments to the register itself."""
        register, hold = cell.outputs["Q"][0].wire, cell.outputs["Q"]

        def moved(body: Iterable[Statement]) -> Iterator[Statement]:
            for statement in body:
                if isinstance(statement, Assign):
                    target = Slice(register, statement.target.high, statement.target.low)
                    yield Assign(target, statement.value)
                else:
                    cases = [Case(case.patterns, list(moved(case.body))) for case in statement.cases]
                    yield Switch(statement.value, cases)

        body = list(moved(process.body))
        # A register keeps its value unless told otherwise.
        return body[1:] if isinstance(body[0], Assign) and body[0].value == hold else body

    def _instance(self, cell: Cell, kinds: dict[str, str]) -> _Item:
        reads: list[str] = []
        connections = []
        child = self.names.children.get(cell.kind)
        for port, value in (cell.inputs | cell.outputs).items():
            if not value and width(value) == 0:
                continue
            found = self._alone(value)
            if port in cell.inputs:
                reads.extend(found.wires)
            connections.append((child.table["\\" + port] if child else port, found.text))
        connections.sort(key=lambda each: {"clk": 0, "rst": 1}.get(each[0], 2))
        kind = kinds.get(cell.kind, cell.kind.removeprefix("\\"))
        parameters = ""
        if cell.parameters:
            inner = ",\n".join(f"    .{key.split()[-1]}({_parameter(found)})" for key, found in cell.parameters.items())
            parameters = f" #(\n{inner}\n  )"
        head = f"  {self._attributes(cell)}{kind}{parameters} {self.names.instances[cell.name]} ("
        wires = tuple(wires_in(cell.outputs.values()))
        inner = [line for port, text in connections for line in _wrapped(f"    .{port}({text}),")]
        inner[-1] = inner[-1].removesuffix(",")
        return _Item(wires, tuple(reads), [*head.split("\n"), *inner, "  );"])

    # Memories -------------------------------------------------------------------------------------------------------

    def _row(self, cell: Cell) -> Expression:
        """The row that a memory port is about."""
        address = self._alone(cell.inputs["ADDR"])
        name = self.names.table[cell.parameters["MEMID"]]
        count = self._module.memories[cell.parameters["MEMID"]].width
        return expressions.named(f"{name}[{address.text}]", count, address.wires)

    def _memory_ports(self) -> Iterator[_Item]:
        writes = [cell for cell in self._module.cells if cell.kind == "$memwr_v2"]
        for cell in writes:
            yield self._clocked(cell, self._write_lines(cell, self._row(cell).text, "    "), ())
        for cell in self._memory_reads:
            if cell.parameters["CLK_ENABLE"] == "0":
                continue
            target = cell.outputs["DATA"][0]
            lines = [f"    {self._piece(target).text} <= {self._row(cell).text};"]
            mask = cell.parameters["TRANSPARENCY_MASK"].partition("'")[2][::-1]
            for write in writes:
                number = int(write.parameters["PORTID"])
                if write.parameters["MEMID"] == cell.parameters["MEMID"] and mask[number : number + 1] == "1":
                    # What is written in the same clock is what is read.
                    same = f"{self._alone(write.inputs['ADDR']).text} == {self._alone(cell.inputs['ADDR']).text}"
                    through = self._write_lines(write, self._piece(target).text, "      ")
                    lines += [f"    if ({same}) begin", *through, "    end"]
            enable = cell.inputs["EN"]
            if enable != (Constant("1"),):
                condition = self._alone(enable).text
                if len(lines) == 1:
                    lines = [f"    if ({condition}) {lines[0].strip()}"]
                else:
                    lines = [f"    if ({condition}) begin", *(f"  {line}" for line in lines), "    end"]
            yield self._clocked(cell, lines, (target.wire,))

    def _clocked(self, cell: Cell, lines: list[str], defines: tuple[str, ...]) -> _Item:
        edge = "posedge" if cell.parameters["CLK_POLARITY"] == "1" else "negedge"
        when = f"  always @({edge} {self._alone(cell.inputs['CLK']).text})"
        reads = tuple(wire for value in cell.inputs.values() for wire in self._part(value).wires)
        if len(lines) == 1:
            return _Item(defines, reads, [f"{when} {lines[0].strip()}"])
        return _Item(defines, reads, [f"{when} begin", *lines, "  end"])

    def _write_lines(self, cell: Cell, row: str, indent: str) -> list[str]:
        """Assignments of a write port, one for each part that has an enable of its own."""
        enables, data = bits_of(cell.inputs["EN"]), cell.inputs["DATA"]
        lines = []
        low = 0
        while low < len(enables):
            high = low
            while high + 1 < len(enables) and enables[high + 1] == enables[low]:
                high += 1
            part = "" if high - low + 1 == len(enables) else f"[{high}:{low}]" if high > low else f"[{low}]"
            line = f"{row}{part} <= {self._part(take(data, high, low)).text};"
            if enables[low] == Constant("1"):
                lines.append(f"{indent}{line}")
            elif enables[low] != Constant("0"):
                lines.append(f"{indent}if ({self._alone((enables[low],)).text}) {line}")
            low = high + 1
        return lines

    def _memories(self) -> list[str]:
        lines = []
        for memory in self._module.memories.values():
            name = self.names.table[memory.name]
            attributes = self._attributes(memory)
            lines.append(f"  {attributes}reg {self._range(memory.width)}{name} [0:{memory.depth - 1}];")
        for memory in self._module.memories.values():
            lines += self._rows(memory)
        return lines

    def _rows(self, memory: Memory) -> list[str]:
        """Initial values of a memory: most often one in all rows."""
        name = self.names.table[memory.name]
        common = max(dict.fromkeys(memory.rows), key=memory.rows.count, default="")
        others = [
            f"    {name}[{row}] = {expressions.constant(bits)};"
            for row, bits in enumerate(memory.rows)
            if bits != common
        ]
        if not common:
            return []
        counter = self.names.extra(f"{name}_row")
        fill = f"for ({counter} = 0; {counter} < {memory.depth}; {counter} = {counter} + 1)"
        fill = f"{fill} {name}[{counter}] = {expressions.constant(common)};"
        if not others:
            return [f"  integer {counter};", f"  initial {fill}"]
        return [f"  integer {counter};", "  initial begin", f"    {fill}", *others, "  end"]

    # Declarations ---------------------------------------------------------------------------------------------------

    def _port_lines(self) -> list[str]:
        ports = self.ports
        variables = self._variables()
        lines = []
        for wire in ports:
            kind = "reg" if wire.name in variables else "wire"
            comma = "" if wire is ports[-1] else ","
            lines.append(f"  {wire.port} {kind} {self._range(wire.width)}{self.names.table[wire.name]}{comma}")
        return lines

    def _variables(self) -> set[str]:
        """Wires that are assigned in blocks."""
        found = {process.wire for process in self._module.processes if process.wire not in self._next}
        found |= set(wires_in(cell.outputs["Q"] for cell in self._registers))
        reads = (cell for cell in self._memory_reads if cell.parameters["CLK_ENABLE"] == "1")
        return found | set(wires_in(cell.outputs["DATA"] for cell in reads))

    def _declarations(self, ordered: Sequence[_Item]) -> list[str]:
        """What must be declared in front: registers, what instances drive, and what is read before it is computed."""
        early: list[str] = []
        seen: set[str] = set()
        own = {wire: item for item in ordered for wire in item.defines if item.declaration}
        for item in ordered:
            for wire in item.reads:
                if wire in own and wire not in seen and own[wire] is not item:
                    late = own.pop(wire)
                    early.append(late.declaration)
                    late.lines = _undeclared(late, self.names.table[wire])
            seen.update(item.defines)
        variables = self._variables()
        groups: dict[tuple[str, str, int], list[str]] = {}
        for item in ordered:
            if item.declaration:
                continue
            for wire in item.defines:
                found = self._module.wires[wire]
                if not found.port:
                    kind = "reg" if wire in variables else "wire"
                    groups.setdefault((self._attributes(found), kind, found.width), []).append(self.names.table[wire])
        lines = []
        for (attributes, kind, count), names in groups.items():
            lines += _wrapped(f"  {attributes}{kind} {self._range(count)}{', '.join(names)};")
        return [*lines, *early]

    def _initial(self) -> list[str]:
        """Values that registers start from."""
        zeros: list[Slice] = []
        lines = []
        for cell in self._registers:
            target = cell.outputs["Q"][0]
            bits = self._module.wires[target.wire].attributes.get("init", "").partition("'")[2]
            if bits and set(bits) == {"0"}:
                zeros.append(target)
            elif bits:
                lines.append(f"    {self.names.table[target.wire]} = {expressions.constant(bits)};")
        if zeros:
            names = ", ".join(self.names.table[target.wire] for target in zeros)
            total = expressions.constant("0" * sum(target.width for target in zeros))
            lines[:0] = _wrapped(f"    {{{names}}} = {total};") if len(zeros) > 1 else [f"    {names} = {total};"]
        return ["  initial begin", *lines, "  end"] if lines else []

    def _range(self, count: int) -> str:
        return f"[{count - 1}:0] " if count > 1 else ""

    @staticmethod
    def _attributes(item: Wire | Cell | Memory) -> str:
        found = {key: text for key, text in item.attributes.items() if not key.startswith(_INTERNAL_ATTRIBUTES)}
        if not found:
            return ""
        return "(* " + ", ".join(f"{key} = {_parameter(text)}" for key, text in found.items()) + " *) "

    # Statements -----------------------------------------------------------------------------------------------------

    def _body(self, body: Iterable[Statement], sign: str, indent: str, reads: list[str]) -> list[str]:
        lines: list[str] = []
        for statement in body:
            if isinstance(statement, Assign):
                found = self._part(statement.value)
                reads.extend(found.wires)
                lines += _wrapped(f"{indent}{self._piece(statement.target).text} {sign} {found.text};")
            else:
                lines += self._switch(statement, sign, indent, reads)
        return lines

    def _switch(self, switch: Switch, sign: str, indent: str, reads: list[str]) -> list[str]:
        conditions = self._conditions(switch)
        lines: list[str] = []
        if conditions is not None:
            bodies = []
            for condition, case in zip(conditions, switch.cases, strict=True):
                reads.extend(condition.wires if condition else ())
                bodies.append(self._body(case.body, sign, indent + "  ", reads))
            # An `else` would belong to a decision that stands alone in a branch before it.
            short = all(
                len(body) == 1 and (len(bodies) == 1 or not body[0].lstrip().startswith("if ")) for body in bodies
            )
            for number, (condition, body) in enumerate(zip(conditions, bodies, strict=True)):
                head = f"if ({condition.text}) " if condition else ""
                if short:
                    lines += _wrapped(f"{indent}{'else ' if number else ''}{head}{body[0].strip()}")
                else:
                    lines += [f"{indent}{'end else ' if number else ''}{head}begin", *body]
            return lines if short else [*lines, f"{indent}end"]
        value = self._alone(switch.value)
        reads.extend(value.wires)
        masked = any("-" in pattern for case in switch.cases for pattern in case.patterns)
        lines.append(f"{indent}{'casez' if masked else 'case'} ({value.text})")
        for case in switch.cases:
            labels = ", ".join(_pattern(pattern) for pattern in case.patterns) or "default"
            body = self._body(case.body, sign, indent + "    ", reads)
            if len(body) == 1:
                lines += _wrapped(f"{indent}  {labels}: {body[0].strip()}")
            elif body:
                lines += [f"{indent}  {labels}: begin", *body, f"{indent}  end"]
            else:
                lines.append(f"{indent}  {labels}: ;")
        if switch.cases[-1].patterns:
            lines.append(f"{indent}  default: ;")
        return [*lines, f"{indent}endcase"]

    def _conditions(self, switch: Switch) -> list[Expression | None] | None:
        """Conditions of a chain of if and else, None for the last else; or None if it is no such chain."""
        bits = bits_of(switch.value)
        result: list[Expression | None] = []
        for case in switch.cases:
            if not case.patterns and case is switch.cases[-1] and result:
                result.append(None)
                continue
            if len(case.patterns) != 1:
                return None
            pattern = case.patterns[0]
            wanted = {len(bits) - 1 - place: bit for place, bit in enumerate(pattern) if bit != "-"}
            if len(bits) == 1 and result:  # the other value of a bit
                result.append(None)
            elif len(wanted) == 1 and (len(bits) == 1 or "1" in pattern):
                ((place, bit),) = wanted.items()
                found = self._alone((bits[place],))
                result.append(found if bit == "1" else expressions.inverse(found))
            elif "-" not in pattern and all(not other.patterns for other in switch.cases[1:]):
                result.append(expressions.equals(self._alone(switch.value), pattern))
            else:
                return None
        return result if None not in result[:-1] else None

    # Order ----------------------------------------------------------------------------------------------------------

    @staticmethod
    def _in_order(items: Sequence[_Item]) -> list[_Item]:
        """Put what computes a value in front of what uses it, directly before the first register or instance."""
        makers = {wire: number for number, item in enumerate(items) if item.declaration for wire in item.defines}
        combinational = set(makers.values())
        roots = [number for number in range(len(items)) if number not in combinational] + sorted(combinational)
        order = order_by(
            roots, lambda number: [makers[wire] for wire in reversed(items[number].reads) if wire in makers]
        )
        return [items[number] for number in order]


def _undeclared(item: _Item, name: str) -> list[str]:
    """Lines of a piece of logic whose declaration stands elsewhere."""
    first = item.declaration.removesuffix(";")
    if item.lines[0] == item.declaration:
        return item.lines[1:]
    return [f"  assign {name}{item.lines[0][len(first) :]}", *item.lines[1:]]


def _skeleton(body: Iterable[Statement]) -> tuple:
    """Decisions of a body without what is assigned: bodies that share it can be one."""
    return tuple(
        (statement.value, tuple((case.patterns, _skeleton(case.body)) for case in statement.cases))
        for statement in body
        if isinstance(statement, Switch)
    )


def _merged(bodies: Sequence[Sequence[Statement]]) -> list[Statement]:
    """One body of several with the same decisions: assignments stay between the decisions they stood between."""
    if len(bodies) == 1:
        return list(bodies[0])
    slots: list[list[Statement]] = [[]]
    switches: list[list[Switch]] = []
    for body in bodies:
        place = 0
        for statement in body:
            if isinstance(statement, Switch):
                if place == len(switches):
                    switches.append([])
                    slots.append([])
                switches[place].append(statement)
                place += 1
            else:
                slots[place].append(statement)
    result = list(slots[0])
    for group, after in zip(switches, slots[1:], strict=True):
        cases = [
            Case(same[0].patterns, _merged([case.body for case in same]))
            for same in zip(*(switch.cases for switch in group), strict=True)
        ]
        result += [Switch(group[0].value, cases), *after]
    return result


def _pattern(bits: str) -> str:
    return f"{len(bits)}'b{bits.replace('-', '?')}" if "-" in bits else expressions.constant(bits)


def _parameter(text: str) -> str:
    """A parameter or attribute of RTLIL in Verilog: text and numbers stay, bits get their base."""
    found = re.fullmatch(r"(\d+)'([01xz]+)", text)
    return f"{found[1]}'b{found[2]}" if found else text


def _wrapped(line: str) -> list[str]:
    """A statement on lines of bearable length."""
    if len(line) <= _COLUMNS:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    lines: list[str] = []
    current = indent
    for word in line.strip().split(" "):
        if len(current) + len(word) > _COLUMNS and current.strip():
            lines.append(current.rstrip())
            current = f"{indent}  "
        current += f"{word} "
    return [*lines, current.rstrip()]
