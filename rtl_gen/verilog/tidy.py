"""A netlist made readable: constants folded, dead and double logic dropped, names of the design brought back.

A *wire* is driven; an *alias* is a name for a value. Amaranth writes every read in terms of the driven wires and adds
an alias for each signal and each payload field, so aliases are never read. `tidy` turns that round: what has no name of
its own and is part of a signal becomes that part (`_gather`), a read of part of a payload goes through the field
(`_use_fields`), all other aliases go. Only names, widths of unread bits and dead logic change;
``tests/rtl_gen/verilog`` has yosys prove it.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rtl_gen.verilog.rtlil import (
    Assign,
    Bits,
    Case,
    Cell,
    Constant,
    Module,
    Netlist,
    Process,
    Slice,
    Statement,
    Switch,
    Wire,
    bits_of,
    join,
    low_bits,
    take,
    whole,
    width,
    wires_in,
)

# Cells whose low result bits depend on the same low bits of these operands only.
_LOW_BITS = {
    **dict.fromkeys(("$add", "$sub", "$mul", "$and", "$or", "$xor", "$mux"), "AB"),
    **dict.fromkeys(("$neg", "$not", "$shl"), "A"),
    **dict.fromkeys(("$shr", "$sshr", "$shift"), ""),
}

_BITWISE = ("$and", "$or", "$xor", "$not", "$mux")

_ARITHMETIC = ("$add", "$sub", "$mul", "$neg", "$divfloor", "$modfloor")

_COMPARISONS = ("$eq", "$ne", "$lt", "$le", "$gt", "$ge")

_SHIFTS = ("$shl", "$shr", "$sshr", "$shift")


def tidy(netlist: Netlist) -> None:
    """Make a design readable; see the module's text."""
    for module in netlist.modules.values():
        split_aliases(module)
    _drop_dead(netlist)
    for module in netlist.modules.values():
        _join_outputs(module)
        _gather(module)
        _use_fields(module)
        _drop_unused(module, _idle(netlist))


def is_unnamed_port(name: str) -> bool:
    """Whether Amaranth made up the name of a port."""
    return name.startswith("\\port$")


def split_aliases(module: Module) -> None:
    """Set the connections that drive no port apart, without their wires."""
    kept = []
    for target, value in module.connections:
        wire = module.wires[target.wire]
        if wire.port or wire.is_kept:
            kept.append((target, value))
        else:
            module.aliases.append((wire.name, value))
            del module.wires[wire.name]
    module.connections = kept


def substitute(value: Bits, values: dict[str, Bits]) -> Bits:
    """Replace what a value reads of some wires by parts of what these stand for."""
    if not any(isinstance(piece, Slice) and piece.wire in values for piece in value):
        return value
    result: list[Constant | Slice] = []
    for piece in value:
        if isinstance(piece, Slice) and piece.wire in values:
            result.extend(substitute(take(values[piece.wire], piece.high, piece.low), values))
        else:
            result.append(piece)
    return join(result)


# Folding --------------------------------------------------------------------------------------------------------------


def _constant(bits: Bits) -> str | None:
    """Bits of a value that is known."""
    if all(isinstance(piece, Constant) for piece in bits):
        text = "".join(piece.bits for piece in bits)
        return text if set(text) <= {"0", "1"} else None
    return None


def _number(bits: str, signed: bool) -> int:
    value = int(bits, 2) if bits else 0
    return value - (1 << len(bits)) if signed and bits[:1] == "1" else value


def _known(value: int, count: int) -> Bits:
    return (Constant(f"{value & (1 << count) - 1:0{count}b}"),) if count else ()


def _extend(bits: Bits, count: int, signed: bool) -> Bits:
    """A value widened, or cut, to `count` bits."""
    have = width(bits)
    if have >= count:
        return low_bits(bits, count)
    filler: Bits = take(bits, have - 1, have - 1) if signed and have else (Constant("0"),)
    return join((*(filler * (count - have)), *bits))


def _trim(bits: Bits) -> Bits:
    """A value without leading zeros, but at least one bit."""
    first = bits[0] if bits else None
    if not isinstance(first, Constant) or not first.bits.startswith("0"):
        return bits
    zeros = len(first.bits) - len(first.bits.lstrip("0"))
    return low_bits(bits, max(width(bits) - zeros, 1))


def _trim_signed(bits: Bits) -> Bits:
    """A value without copies of its sign."""
    while len(bits) > 1 and bits[0].width == 1 and take(bits[1:2], bits[1].width - 1, bits[1].width - 1) == bits[:1]:
        bits = bits[1:]
    return bits


_EVALUATED: dict[str, Callable[[int, int], int]] = {
    "$add": lambda a, b: a + b,
    "$sub": lambda a, b: a - b,
    "$mul": lambda a, b: a * b,
    "$eq": lambda a, b: a == b,
    "$ne": lambda a, b: a != b,
    "$lt": lambda a, b: a < b,
    "$le": lambda a, b: a <= b,
    "$gt": lambda a, b: a > b,
    "$ge": lambda a, b: a >= b,
    "$shl": lambda a, b: a << b,
    "$shr": lambda a, b: a >> b,
    "$sshr": lambda a, b: a >> b,
    "$shift": lambda a, b: a >> b,
}


class _Folder:
    """Works out what cells compute from constants; `values` are the wires that need no cell any more."""

    def __init__(self, module: Module):
        self._module = module
        self._count = 0
        self._next = _next_values(module)
        self.values: dict[str, Bits] = {}
        self.changed = False

    def run(self) -> bool:
        """Fold each cell and process once and replace what became known."""
        self._module.cells = [cell for cell in self._module.cells if not (cell.is_operator and self._fold(cell))]
        self._module.processes = [process for process in self._module.processes if not self._settle(process)]
        self._forward()
        if self.values:
            self._replace()
        return self.changed

    def _replace(self) -> None:
        module = self._module
        module.map_reads(lambda value: substitute(value, self.values))
        for name, value in self.values.items():
            wire = module.wires[name]
            value = substitute(value, self.values)
            if wire.port or wire.is_kept:
                module.connections.append((whole(wire), value))
            else:
                if wire.is_named:
                    module.aliases.insert(0, (name, value))
                del module.wires[name]
        self.changed = True

    def _forward(self) -> None:
        """What reads bits that are driven by a constant reads that."""
        known: dict[str, list[tuple[Slice, str]]] = {}
        for target, value in self._module.connections:
            text = _constant(value)
            if text is not None:
                known.setdefault(target.wire, []).append((target, text))
        if not known:
            return

        def change(value: Bits) -> Bits:
            if not any(isinstance(piece, Slice) and piece.wire in known for piece in value):
                return value
            new = join(part for piece in value for part in self._parts(piece, known))
            self.changed |= new != value
            return new

        self._module.map_reads(change)

    @staticmethod
    def _parts(piece: Constant | Slice, known: dict[str, list[tuple[Slice, str]]]) -> Iterator[Constant | Slice]:
        if isinstance(piece, Constant):
            yield piece
            return
        table = {
            target.low + index: bit
            for target, text in known.get(piece.wire, ())
            for index, bit in enumerate(reversed(text))
        }
        for bit in range(piece.high, piece.low - 1, -1):
            yield Constant(table[bit]) if bit in table else Slice(piece.wire, bit, bit)

    # Cells

    def _fold(self, cell: Cell) -> bool:
        target = cell.outputs["Y"][0]
        if target.wire in self.values:
            return False
        kind, signed = cell.kind, cell.signed
        for port, value in cell.inputs.items():
            cell.inputs[port] = substitute(value, self.values)
        a, b = cell.inputs.get("A", ()), cell.inputs.get("B", ())
        count = target.width
        value: Bits | None = None
        if kind in ("$reduce_or", "$reduce_bool", "$reduce_and"):
            value = self._reduce(cell, "0" if kind == "$reduce_and" else "1")
        elif kind in _BITWISE:
            value = self._bitwise(cell)
        elif kind in _SHIFTS:
            value = self._shift(cell)
        elif kind in _ARITHMETIC or kind in _COMPARISONS:
            trim = _trim_signed if signed else _trim
            a = cell.inputs["A"] = trim(a) or (Constant("0"),)
            if "B" in cell.inputs:
                b = cell.inputs["B"] = trim(b) or (Constant("0"),)
            known_a, known_b = _constant(a), _constant(b) if "B" in cell.inputs else None
            if known_a is not None and known_b is not None and kind in _EVALUATED:
                value = _known(int(_EVALUATED[kind](_number(known_a, signed), _number(known_b, signed))), count)
            elif kind == "$neg" and known_a is not None:
                value = _known(-_number(known_a, signed), count)
            elif kind in ("$add", "$sub") and known_b is not None and "1" not in known_b:
                value = _extend(a, count, signed)
            elif kind == "$add" and known_a is not None and "1" not in known_a:
                value = _extend(b, count, signed)
            elif kind == "$mul" and not signed:
                value = self._power(a, known_b, count) or self._power(b, known_a, count)
            elif kind in ("$eq", "$ne") and width(a) == width(b) == count == 1:
                value = self._equal(cell, a, known_b) or self._equal(cell, b, known_a)
            elif known_b == "0" and not signed and kind in ("$ge", "$lt"):
                value = _known(kind == "$ge", count)
        if value is None:
            return False
        self.values[target.wire] = value
        return True

    @staticmethod
    def _power(factor: Bits, other: str | None, count: int) -> Bits | None:
        if other is None or other.count("1") > 1:
            return None
        zeros = len(other) - other.index("1") - 1 if "1" in other else count
        return _extend(join((*factor, Constant("0" * zeros))) if zeros < count else (Constant("0"),), count, False)

    def _equal(self, cell: Cell, bit: Bits, other: str | None) -> Bits | None:
        """A bit compared with a constant is the bit, or its inverse."""
        if other is None:
            return None
        if (other == "1") == (cell.kind == "$eq"):
            return bit
        cell.kind, cell.inputs, cell.parameters = "$not", {"A": bit}, {}
        self.changed = True
        return None

    def _reduce(self, cell: Cell, absorbing: str) -> Bits | None:
        neutral = "1" if absorbing == "0" else "0"
        count = cell.outputs["Y"][0].width
        pieces = cell.inputs["A"]
        if any(isinstance(piece, Constant) and absorbing in piece.bits for piece in pieces):
            return _known(int(absorbing), count)
        left = tuple(dict.fromkeys(piece for piece in pieces if isinstance(piece, Slice)))
        if not left:
            return _known(int(neutral), count)
        if left != pieces:
            cell.inputs["A"] = left
            self.changed = True
        return left if width(left) == count == 1 else None

    def _shift(self, cell: Cell) -> Bits | None:
        a, count = cell.inputs["A"], cell.outputs["Y"][0].width
        amount = _constant(cell.inputs["B"] or (Constant("0"),))
        known = _constant(a)
        if known is not None and "1" not in known:
            return _known(0, count)
        if amount is None:
            return None
        signed = cell.signed
        by = _number(amount, False)
        if cell.kind == "$shl":
            low = min(by, count)
            return join((*low_bits(_extend(a, count, signed), count - low), Constant("0" * low)))
        if by >= width(a):
            return _extend(take(a, width(a) - 1, width(a) - 1) if signed else (Constant("0"),), count, signed)
        return _extend(take(a, width(a) - 1, by), count, signed)

    def _bitwise(self, cell: Cell) -> Bits | None:
        target = cell.outputs["Y"][0]
        kind, count = cell.kind, target.width
        operands = [bits_of(cell.inputs[port]) for port in ("A", "B") if port in cell.inputs]
        if any(len(operand) != count for operand in operands):
            return None
        select = bits_of(cell.inputs["S"])[0] if kind == "$mux" else None
        found = [_settled(kind, [operand[bit] for operand in operands], select) for bit in range(count)]
        if all(found):
            return join(reversed(found))
        if kind == "$xor" and all(bit == Constant("1") for bit in operands[1]):
            cell.kind, cell.inputs, cell.parameters = "$not", {"A": cell.inputs["A"]}, {}
            self.changed = True
        elif kind == "$mux" and count == 1:
            self._choose(cell, operands[0][0], operands[1][0])
        if self._module.wires[target.wire].is_named:
            return None
        # The bits that are still to be computed, if they lie together.
        open_bits = [bit for bit, known in enumerate(found) if known is None]
        low, high = open_bits[0], open_bits[-1]
        if len(open_bits) != high - low + 1 or len(open_bits) == count:
            return None
        self._count += 1
        name = f"{target.wire}~{self._count}"
        self._module.wires[name] = Wire(name, high - low + 1)
        narrow = {port: take(value, high, low) for port, value in cell.inputs.items() if port != "S"}
        narrow |= {"S": cell.inputs["S"]} if kind == "$mux" else {}
        output = {"Y": (Slice(name, high - low, 0),)}
        self._module.cells.append(Cell(cell.kind, cell.name, cell.parameters, narrow, output))
        above, below = reversed(found[high + 1 :]), reversed(found[:low])
        return join((*above, Slice(name, high - low, 0), *below))

    def _choose(self, cell: Cell, otherwise: Constant | Slice, then: Constant | Slice) -> None:
        """One bit that is chosen between something and a constant."""
        select = cell.inputs["S"]
        if otherwise == Constant("0"):
            cell.kind, cell.inputs = "$and", {"A": select, "B": (then,)}
        elif then == Constant("1"):
            cell.kind, cell.inputs = "$or", {"A": select, "B": (otherwise,)}
        elif otherwise == Constant("1") and then == Constant("0"):
            cell.kind, cell.inputs = "$not", {"A": select}
        else:
            return
        cell.parameters = {}
        self.changed = True

    # Processes

    def _settle(self, process: Process) -> bool:
        """Turn a process without decisions into connections, and one of a single decision into a multiplexer."""
        process.body = self._decided(process.body)
        module, wire = self._module, self._module.wires[process.wire]
        if all(isinstance(statement, Assign) for statement in process.body):
            if [statement.target for statement in process.body] == [whole(wire)] and not wire.port:
                self.values[wire.name] = substitute(process.body[0].value, self.values)
                if not wire.is_kept:
                    return True
                del self.values[wire.name]
            module.connections.extend(_last_values(wire, process.body))
            self.changed = True
            return True
        chosen = _chosen(wire, process.body)
        if chosen is None or wire.name in self._next:
            return False
        select, otherwise, then = chosen
        cell = Cell("$mux", "", {}, {"S": select, "A": otherwise, "B": then}, {"Y": (whole(wire),)})
        module.cells.append(cell)
        self.changed = True
        return True

    def _decided(self, body: list[Statement]) -> list[Statement]:
        result: list[Statement] = []
        for statement in body:
            if isinstance(statement, Assign):
                # An assignment that this one covers as a whole is void.
                result = [
                    earlier
                    for earlier in result
                    if not isinstance(earlier, Assign) or not _covers(statement.target, earlier.target)
                ]
                result.append(statement)
                continue
            statement.value = substitute(statement.value, self.values)
            cases = _possible(statement)
            if cases is not None:
                self.changed = True
                result.extend(self._decided(cases))
                continue
            for case in statement.cases:
                case.body = self._decided(case.body)
            _drop_idle_cases(statement)
            if statement.cases:
                result.append(statement)
        return result


def _next_values(module: Module) -> set[str]:
    """Unnamed wires that one register reads and nothing else: the decisions about them are the register's own."""
    counts: dict[str, int] = {}
    for wire in wires_in(module.reads()):
        counts[wire] = counts.get(wire, 0) + 1
    inputs = wires_in(cell.inputs["D"] for cell in module.cells if cell.is_register)
    return {wire for wire in inputs if counts[wire] == 1 and not module.wires[wire].is_named}


def _settled(kind: str, operands: list[Constant | Slice], select: Constant | Slice | None) -> Constant | Slice | None:
    """One bit of a bitwise result if no gate is needed for it."""
    zero, one = Constant("0"), Constant("1")
    if kind == "$not":
        return {zero: one, one: zero}.get(operands[0])
    a, b = operands
    if kind == "$mux":
        if a == b or select == zero:
            return a
        if select == one:
            return b
        return select if (a, b) == (zero, one) else None
    for this, other in ((a, b), (b, a)):
        if kind == "$xor":
            if this == zero:
                return other
        elif this == other or this == (one if kind == "$and" else zero):
            return other
        elif this == (zero if kind == "$and" else one):
            return this
    if kind == "$xor" and (a == b or (isinstance(a, Constant) and isinstance(b, Constant))):
        return zero if a == b else one
    return None


def _drop_idle_cases(switch: Switch) -> None:
    """Drop cases that never happen, and those in which nothing does, unless they keep later ones from happening."""
    seen: list[str] = []
    cases: list[Case] = []
    for case in switch.cases:
        patterns = tuple(each for each in case.patterns if not any(_includes(other, each) for other in seen))
        if patterns or not case.patterns:
            cases.append(Case(patterns, case.body))
        seen += patterns
    switch.cases = cases
    while cases and not cases[-1].body:
        cases.pop()
    if all(case.patterns for case in cases):
        patterns = [(case, pattern) for case in cases for pattern in case.patterns]
        switch.cases = [
            case
            for case in cases
            if case.body
            or any(_overlap(own, other) for own in case.patterns for owner, other in patterns if owner is not case)
        ]


def _includes(one: str, other: str) -> bool:
    """Whether a pattern matches whatever another one does, or a value."""
    return all(own in ("-", bit) for own, bit in zip(one, other, strict=True))


def _overlap(one: str, other: str) -> bool:
    return all("-" in pair or pair[0] == pair[1] for pair in zip(one, other, strict=True))


def _covers(target: Slice, other: Slice) -> bool:
    return target.low <= other.low and other.high <= target.high


def _possible(switch: Switch) -> list[Statement] | None:
    """What a decision does if it is no decision: its value is known, or its first case always matches."""
    text = _constant(switch.value)
    for case in switch.cases:
        always = not case.patterns or any(set(pattern) <= {"-"} for pattern in case.patterns)
        if always and case is switch.cases[0]:
            return case.body
        if text is None:
            return None
        if always or any(_includes(pattern, text) for pattern in case.patterns):
            return case.body
    return [] if text is not None or not switch.cases else None


def _last_values(wire: Wire, body: list[Assign]) -> list[tuple[Slice, Bits]]:
    """What drives each part of a wire, of assignments of which later ones count."""
    bits: list[Constant | Slice | None] = [None] * wire.width
    starts = set()
    for assign in body:
        starts.add(assign.target.low)
        starts.add(assign.target.high + 1)
        for index, bit in enumerate(bits_of(assign.value)):
            bits[assign.target.low + index] = bit
    ends = sorted(starts | {wire.width})
    return [
        (Slice(wire.name, end - 1, start), join(reversed(bits[start:end])))
        for start, end in zip(ends, ends[1:], strict=False)
        if start < end
    ]


def _chosen(wire: Wire, body: list[Statement]) -> tuple[Bits, Bits, Bits] | None:
    """Condition and the two values of a process that is one choice."""
    all_bits = whole(wire)
    if not body or not isinstance(body[-1], Switch) or len(body) > 2:
        return None
    switch = body[-1]
    otherwise = body[0].value if isinstance(body[0], Assign) and body[0].target == all_bits else None
    if width(switch.value) != 1 or len(switch.cases) > 2:
        return None
    values: dict[str, Bits] = {}
    for case in switch.cases:
        if len(case.body) != 1 or not isinstance(case.body[0], Assign) or case.body[0].target != all_bits:
            return None
        for pattern in case.patterns or ("1", "0"):
            values.setdefault(pattern, case.body[0].value)
    then, other = values.get("1", otherwise), values.get("0", otherwise)
    if then is None or other is None or set(values) - {"0", "1"}:
        return None
    return switch.value, other, then


# Dead and double logic ------------------------------------------------------------------------------------------------


def _drop_dead(netlist: Netlist) -> None:
    changed = True
    while changed:
        changed = False
        idle = _idle(netlist)
        for module in netlist.modules.values():
            while (
                _Folder(module).run()
                | _drop_unused(module, idle)
                | _shrink(module)
                | _shift_down(module)
                | _merge_equal(module)
            ):
                changed = True
        changed |= _drop_ports(netlist)
    used = {netlist.top.name, *(cell.kind for module in netlist.modules.values() for cell in module.cells)}
    netlist.modules = {name: module for name, module in netlist.modules.items() if name in used}


def _idle(netlist: Netlist) -> set[str]:
    """Modules without outputs."""
    idle: set[str] = set()
    for name, module in reversed(netlist.modules.items()):  # children come after their parents
        quiet = all(cell.kind in idle for cell in module.cells if cell.is_instance)
        if quiet and module is not netlist.top and not any(port.port in ("output", "inout") for port in module.ports):
            idle.add(name)
    return idle


def _drop_ports(netlist: Netlist) -> bool:
    """Drop inputs that a module does not read, and outputs that no instance of it needs."""
    instances: dict[str, list[tuple[Module, Cell]]] = {}
    for module in netlist.modules.values():
        for cell in module.cells:
            if cell.kind in netlist.modules:
                instances.setdefault(cell.kind, []).append((module, cell))
    reads = {name: set(wires_in(module.reads())) for name, module in netlist.modules.items()}
    changed = False
    for name, users in instances.items():
        child = netlist.modules[name]
        for port in child.ports:
            key = port.name[1:]
            if port.port == "output" and not any(
                wire in reads[module.name] or module.wires[wire].port
                for module, cell in users
                for wire in wires_in([cell.outputs.get(key, ())])
            ):
                port.port = ""
            elif port.port == "input" and port.name not in reads[name]:
                del child.wires[port.name]
            else:
                continue
            for _module, cell in users:
                cell.inputs.pop(key, None)
                cell.outputs.pop(key, None)
            changed = True
    return changed


def _drop_unused(module: Module, idle: set[str]) -> bool:
    """Drop what reaches no port and no instance; those of `idle` modules do nothing."""
    drivers: dict[str, list[Cell | Process | Bits]] = {}
    writers: dict[str, list[Cell]] = {}
    live: set[int] = set()
    work: list[str] = []

    def mark(item: Cell | Process | Bits) -> None:
        if id(item) in live:
            return
        live.add(id(item))
        if isinstance(item, Cell):
            work.extend(wires_in(item.inputs.values()))
            if item.kind == "$memrd_v2":
                for writer in writers.pop(item.parameters["MEMID"], []):
                    mark(writer)
        else:
            work.extend(wires_in(item.reads() if isinstance(item, Process) else [item]))

    roots: list[Cell] = []
    for cell in module.cells:
        for wire in wires_in(cell.outputs.values()):
            drivers.setdefault(wire, []).append(cell)
        if cell.kind == "$memwr_v2":
            writers.setdefault(cell.parameters["MEMID"], []).append(cell)
        elif cell.is_instance and cell.kind not in idle:
            roots.append(cell)
    for process in module.processes:
        drivers.setdefault(process.wire, []).append(process)
    for target, value in module.connections:
        drivers.setdefault(target.wire, []).append(value)
    for cell in roots:
        mark(cell)
    work.extend(wire.name for wire in module.wires.values() if wire.port or wire.is_kept)
    used: set[str] = set()
    while work:
        wire = work.pop()
        if wire not in used:
            used.add(wire)
            for item in drivers.get(wire, ()):
                mark(item)
    before = len(module.cells) + len(module.processes) + len(module.wires) + len(module.connections)
    module.cells = [cell for cell in module.cells if id(cell) in live]
    module.processes = [process for process in module.processes if id(process) in live]
    module.connections = [(target, value) for target, value in module.connections if target.wire in used]
    # Outputs of a live instance may be unread; they stay declared.
    used.update(wire for cell in module.cells for wire in wires_in(cell.outputs.values()))
    module.wires = {name: wire for name, wire in module.wires.items() if name in used}
    kept = {cell.parameters["MEMID"] for cell in module.cells if cell.kind == "$memrd_v2"}
    module.memories = {name: memory for name, memory in module.memories.items() if name in kept}
    return len(module.cells) + len(module.processes) + len(module.wires) + len(module.connections) != before


def _read_bits(module: Module) -> dict[str, tuple[int, int]]:
    """Lowest and highest bit read of each wire that is read."""
    result: dict[str, tuple[int, int]] = {}
    for value in module.reads():
        for piece in value:
            if isinstance(piece, Slice):
                low, high = result.get(piece.wire, (piece.low, piece.high))
                result[piece.wire] = (min(low, piece.low), max(high, piece.high))
    return result


def _is_free(module: Module, cell: Cell) -> bool:
    """Whether the result of a cell may change its width."""
    wire = module.wires[cell.outputs["Y"][0].wire] if cell.is_operator else None
    return wire is not None and not wire.is_named and not wire.port


def _keep_aliases(module: Module, condition: Callable[[Slice], bool]) -> None:
    """Drop aliases of bits that are no longer there."""
    module.aliases = [
        (name, value)
        for name, value in module.aliases
        if all(isinstance(piece, Constant) or condition(piece) for piece in value)
    ]


def _shrink(module: Module) -> bool:
    """Narrow unnamed results whose upper bits nobody reads, and the operands they come from."""
    read = _read_bits(module)
    changed = False
    for cell in module.cells:
        if cell.kind not in _LOW_BITS or not _is_free(module, cell):
            continue
        wire = module.wires[cell.outputs["Y"][0].wire]
        count = read.get(wire.name, (0, wire.width - 1))[1] + 1
        narrow = {
            operand: low_bits(cell.inputs[operand], count)
            for operand in _LOW_BITS[cell.kind]
            if width(cell.inputs[operand]) > count
        }
        if count >= wire.width and not narrow:
            continue
        changed = True
        wire.width = count
        cell.outputs["Y"] = (whole(wire),)
        cell.inputs.update(narrow)
    if changed:
        _keep_aliases(
            module, lambda piece: piece.wire not in module.wires or piece.high < module.wires[piece.wire].width
        )
    return changed


def _shift_down(module: Module) -> bool:
    """Drop the low bits of unnamed bitwise results when nobody reads them."""
    read = _read_bits(module)
    shifted: dict[str, int] = {}
    for cell in module.cells:
        if cell.kind not in _BITWISE or not _is_free(module, cell):
            continue
        result = cell.outputs["Y"][0]
        low = read.get(result.wire, (0, 0))[0]
        operands = [port for port in cell.inputs if port != "S"]
        if not low or any(width(cell.inputs[port]) != result.width for port in operands):
            continue
        for port in operands:
            cell.inputs[port] = take(cell.inputs[port], result.width - 1, low)
        wire = module.wires[result.wire]
        wire.width -= low
        cell.outputs["Y"] = (whole(wire),)
        shifted[wire.name] = low
    if shifted:
        _keep_aliases(module, lambda piece: piece.low >= shifted.get(piece.wire, 0))
        module.map_reads(
            lambda value: tuple(
                Slice(piece.wire, piece.high - shifted[piece.wire], piece.low - shifted[piece.wire])
                if isinstance(piece, Slice) and piece.wire in shifted
                else piece
                for piece in value
            )
        )
    return bool(shifted)


def _merge_equal(module: Module) -> bool:
    """Keep one of several operators that compute the same."""
    found: dict[tuple, Cell] = {}
    same: dict[str, Bits] = {}
    kept = []
    for cell in module.cells:
        if not cell.is_operator:
            kept.append(cell)
            continue
        target = cell.outputs["Y"][0]
        first = found.setdefault((cell.kind, cell.signed, target.width, tuple(cell.inputs.items())), cell)
        if first is cell or not _is_free(module, cell):
            kept.append(cell)
        else:
            same[target.wire] = first.outputs["Y"]
    module.cells = kept
    if same:
        module.map_reads(lambda value: substitute(value, same))
        for name in same:
            del module.wires[name]
    return bool(same)


# Names of the design --------------------------------------------------------------------------------------------------


def _join_outputs(module: Module) -> None:
    """Let what computes an output drive it, where Amaranth had no name for one of the two."""
    joined: dict[str, str] = {}
    kept = []
    for target, value in module.connections:
        port = module.wires[target.wire]
        source = value[0] if len(value) == 1 and isinstance(value[0], Slice) else None
        wire = module.wires[source.wire] if source else None
        free = wire is not None and not wire.port and (not wire.is_named or is_unnamed_port(port.name))
        if not free or source != whole(wire) or target != whole(port) or not port.port or wire.name in joined:
            kept.append((target, value))
            continue
        joined[wire.name] = port.name
        port.attributes.update(wire.attributes)
        if wire.is_named:
            module.aliases.insert(0, (wire.name, (target,)))
    module.connections = kept
    for name in joined:
        del module.wires[name]
    if joined:
        _rename(module, lambda piece: Slice(joined.get(piece.wire, piece.wire), piece.high, piece.low))


def _rename(module: Module, change: Callable[[Slice], Slice]) -> None:
    module.map_targets(change)
    module.map_reads(lambda value: join(change(piece) if isinstance(piece, Slice) else piece for piece in value))


def _gather(module: Module) -> None:
    """Make unnamed results that are parts of a signal these parts: ``signal[3]`` instead of ``and_17``."""
    results = {cell.outputs["Y"][0].wire: cell for cell in module.cells if cell.is_operator and _is_free(module, cell)}
    order = _Order(module)
    aliases = [(name, value) for name, value in module.aliases if len(value) > 1 and "$" not in name]
    aliases.sort(key=lambda alias: (bool(re.search(r"[.\[]", alias[0])), alias[0].startswith("\\_"), width(alias[1])))
    moved: dict[str, Slice] = {}
    for name, value in aliases:
        value = join(moved.get(p.wire, p) if isinstance(p, Slice) and p.wire in moved else p for p in value)
        if any(wire not in module.wires for wire in wires_in([value])):
            continue  # a part of the signal was dead, and has gone
        own = [
            piece.wire
            for piece in value
            if isinstance(piece, Slice) and piece.wire in results and piece == whole(module.wires[piece.wire])
        ]
        # A result that stands there again, or in part (a sign that is repeated), stays a wire.
        uses = [piece.wire for piece in value if isinstance(piece, Slice) and piece.wire in own]
        if name in module.wires or len(uses) != len(set(own)) or 2 * len(own) < len(value) or not own:
            continue
        if not order.merge(name, own):
            continue
        module.wires[name] = Wire(name, width(value))
        low = 0
        for piece in reversed(value):
            part = Slice(name, low + piece.width - 1, low)
            low += piece.width
            if isinstance(piece, Slice) and piece.wire in own:
                moved[piece.wire] = part
                results.pop(piece.wire).outputs["Y"] = (part,)
                del module.wires[piece.wire]
            else:
                module.connections.append((part, (piece,)))
    if moved:
        module.map_reads(lambda value: substitute(value, {wire: (part,) for wire, part in moved.items()}))


class _Order:
    """Which wires are computed from which within a clock; keeps signals from depending on themselves."""

    def __init__(self, module: Module):
        self._sources: dict[str, dict[str, None]] = {}  # sets whose order is always the same
        self._stands_for: dict[str, str] = {}
        for cell in module.cells:
            if cell.is_operator or (cell.kind == "$memrd_v2" and cell.parameters["CLK_ENABLE"] == "0"):
                for wire in wires_in(cell.outputs.values()):
                    self._add(wire, cell.inputs.values())
        for process in module.processes:
            self._add(process.wire, process.reads())
        for target, value in module.connections:
            self._add(target.wire, [value])
        self._levels = self._measure()

    def _add(self, wire: str, values: Iterable[Bits]) -> None:
        self._sources.setdefault(wire, {}).update(dict.fromkeys(wires_in(values)))

    def _measure(self) -> dict[str, int]:
        levels: dict[str, int] = {}
        for wire in order_by(self._sources, lambda wire: (self._own(source) for source in self._sources.get(wire, ()))):
            sources = self._sources.get(wire, ())
            levels[wire] = 1 + max((levels.get(self._own(source), 0) for source in sources), default=-1)
        return levels

    def _own(self, wire: str) -> str:
        while wire in self._stands_for:
            wire = self._stands_for[wire]
        return wire

    def merge(self, name: str, wires: list[str]) -> bool:
        """Make one of some wires, unless one of them is computed from another."""
        wanted = set(wires)
        lowest = min(self._levels.get(wire, 0) for wire in wires)
        seen: set[str] = set()
        work = [self._own(source) for wire in wires for source in self._sources.get(wire, ())]
        while work:
            wire = work.pop()
            if wire in wanted:
                return False
            if wire in seen or self._levels.get(wire, 0) <= lowest:
                continue
            seen.add(wire)
            work.extend(self._own(source) for source in self._sources.get(wire, ()))
        alike = len({self._levels.get(wire, 0) for wire in wires}) == 1
        self._sources[name] = {source: None for wire in wires for source in self._sources.pop(wire, ())}
        self._levels[name] = max(self._levels.get(wire, 0) for wire in wires)
        self._stands_for.update(dict.fromkeys(wires, name))
        if not alike:
            self._levels = self._measure()
        return True


Node = TypeVar("Node")


def order_by(nodes: Iterable[Node], sources: Callable[[Node], Iterable[Node]]) -> list[Node]:
    """Nodes and what they come from, each after all that it comes from; loops are cut somewhere."""
    result: list[Node] = []
    done: set[Node] = set()
    for root in nodes:
        stack = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if ready:
                result.append(node)
            elif node not in done:
                done.add(node)
                stack.append((node, True))
                stack.extend((source, False) for source in sources(node) if source not in done)
    return result


def _use_fields(module: Module) -> None:
    """Read parts of payloads through aliases named after the fields."""
    fields: dict[str, list[tuple[int, int, str]]] = {}
    for name, value in module.aliases:
        if re.search(r"\.[^\[]+$", name) and len(value) == 1 and isinstance(value[0], Slice):
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

    def change(piece: Constant | Slice) -> Constant | Slice:
        if isinstance(piece, Slice) and (found := field(piece)) and found[2] in used:
            _high, low, name = found
            return Slice(name, piece.high - low, piece.low - low)
        return piece

    module.map_reads(lambda value: tuple(change(piece) for piece in value))
    for name, (wire, high, low) in used.items():
        module.wires[name] = Wire(name, high - low + 1)
        module.connections.append((Slice(name, high - low, 0), (Slice(wire, high, low),)))
