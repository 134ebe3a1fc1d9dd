"""What goes beside an emitted module: widths and offsets, packed structures, a template of its instance."""

from collections.abc import Iterable, Iterator

from rtl_gen.verilog.emission import Emitted
from rtl_gen.verilog.naming import plain_name
from rtl_gen.verilog.ports import Field, Port, bit_range


def collateral(emitted: Emitted) -> dict[str, str]:
    """All of it, by file name."""
    name = emitted.name
    return {
        f"{name}.vh": header(emitted),
        f"{name}_pkg.sv": package(emitted),
        f"{name}_instance.vh": instance(emitted),
    }


def header(emitted: Emitted) -> str:
    """Macros with the width of each port, its offset in its payload, its elements and their fields."""
    unit = emitted.name.upper()
    lines = [
        f"// Ports of {emitted.name}: bits (WIDTH), first bit in the payload (OFFSET), elements (COUNT).",
        f"`ifndef {unit}_VH",
        f"`define {unit}_VH",
    ]
    for port in emitted.ports:
        name = f"{unit}_{port.name.upper()}"
        lines.append(f"`define {name}_WIDTH {port.width}")
        if port.parts:
            lines.append(f"`define {name}_OFFSET {port.parts[0][0]}")
        if port.count is not None:
            lines.append(f"`define {name}_COUNT {port.count}")
            lines.append(f"`define {name}_ELEMENT_WIDTH {port.width // port.count}")
        lines += _field_macros(name, port.fields)
    return "\n".join([*lines, "`endif", ""])


def _field_macros(name: str, fields: Iterable[Field]) -> Iterator[str]:
    for field in fields:
        own = f"{name}_{plain_name(field.name).upper()}"
        yield f"`define {own}_WIDTH {field.total}"
        yield f"`define {own}_OFFSET {field.offset}"
        yield from _field_macros(own, field.fields)


def package(emitted: Emitted) -> str:
    """A SystemVerilog package with a type for each port, and a packed structure for each payload of several."""
    lines = [f"// Types of the ports of {emitted.name}.", f"package {emitted.name}_pkg;"]
    payloads: dict[str, list[Port]] = {}
    for port in emitted.ports:
        if port.member:
            lines += _types(port.name, port.width, port.signed, port.count, port.fields)
            payloads.setdefault(port.member, []).append(port)
    taken = {port.name for port in emitted.ports}
    for member, ports in payloads.items():
        name = plain_name(member)
        if len(ports) > 1 and name not in taken and all(len(port.parts) == 1 for port in ports):
            # The first field lies in the least significant bits.
            fields = [f"    {port.name}_t {port.name};" for port in reversed(ports)]
            lines += ["  typedef struct packed {", *fields, f"  }} {name}_t;"]
    return "\n".join([*lines, "endpackage", ""])


def _types(name: str, width: int, signed: bool, count: int | None, fields: tuple[Field, ...]) -> Iterator[str]:
    if count is not None:
        yield from _types(f"{name}_element", width // count, signed, None, fields)
        yield f"  typedef {name}_element_t [{count - 1}:0] {name}_t;"
        return
    if not fields:
        bits = f" [{width - 1}:0]" if width > 1 else ""
        yield f"  typedef logic{' signed' if signed else ''}{bits} {name}_t;"
        return
    inner = [f"{name}_{plain_name(field.name)}" for field in fields]
    for each, field in zip(inner, fields, strict=True):
        yield from _types(each, field.total, field.signed, field.count, field.fields)
    members = [
        f"    {each}_t {plain_name(field.name)};" for each, field in zip(inner, fields, strict=True) if field.total
    ]
    yield from ["  typedef struct packed {", *reversed(members), f"  }} {name}_t;"]


def instance(emitted: Emitted) -> str:
    """Declarations and an instance to copy, or to include where nothing has these names."""
    wires = [
        f"wire {bit_range(port)}{port.name};" if port.direction == "output" else f"reg {bit_range(port)}{port.name};"
        for port in emitted.ports
    ]
    connections = ",\n".join(f"  .{port.name}({port.name})" for port in emitted.ports)
    head = f"// An instance of {emitted.name}: registers that you drive, wires that it drives."
    return "\n".join([head, *wires, "", f"{emitted.name} {emitted.name}_0 (", connections, ");", ""])
