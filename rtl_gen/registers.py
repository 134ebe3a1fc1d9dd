"""The registers of a machine for those who drive it: C header, Python, SystemRDL, Markdown, from the one table."""

import json
from collections.abc import Iterator

from golden.machine.registers import CAUSES, COUNTERS, REGISTERS, Field, Register, fingerprint, table
from golden.parameters import Parameters


def files(machine: str, parameters: Parameters) -> dict[str, str]:
    """All of them, by file name.

    Parameters
    ----------
    machine : str
        Name of the machine.
    parameters : Parameters
        Its parameters.
    """
    return {
        "registers.h": header(machine, parameters),
        "registers.py": python(machine, parameters),
        "registers.rdl": systemrdl(machine),
        "registers.md": markdown(machine),
    }


def header(machine: str, parameters: Parameters) -> str:
    """C header: of each register its offset in bytes, of each field its lowest bit and its bits in place."""
    lines = [
        f"/* Registers of the machine {machine}: offsets in bytes, fields as shift and mask (in place). */",
        "#ifndef DRIFTLESS_REGISTERS_H",
        "#define DRIFTLESS_REGISTERS_H",
        "",
        f"#define DRIFTLESS_FINGERPRINT {fingerprint(parameters):#010x}u",
    ]
    lines += [f"#define DRIFTLESS_CAUSE_{cause.upper()} {number}u" for number, cause in enumerate(CAUSES)]
    for one in REGISTERS:
        name = f"DRIFTLESS_{one.name.upper()}"
        lines += ["", f"/* {one.help} */", f"#define {name} {one.offset:#05x}u"]
        for field in one.fields:
            lines.append(f"/* {field.access}: {field.help} */")
            lines.append(f"#define {name}_{field.name.upper()}_SHIFT {field.low}u")
            lines.append(f"#define {name}_{field.name.upper()}_MASK {field.mask:#010x}u")
    return "\n".join([*lines, "", "#endif", ""])


def python(machine: str, parameters: Parameters) -> str:
    """Python module: ``REGISTERS[name]`` is the offset and, by name, each field's lowest bit and width."""
    lines = [
        f'"""Registers of the machine {machine}: REGISTERS[name] is (offset in bytes, {{field: (low, width)}})."""',
        "",
        f"FINGERPRINT = {fingerprint(parameters):#010x}",
        f"CAUSES = ({', '.join(json.dumps(cause) for cause in CAUSES)})",
        f"COUNTERS = ({', '.join(json.dumps(counter.name) for counter in COUNTERS)})",
        "REGISTERS = {",
    ]
    for one in REGISTERS:
        fields = ", ".join(f'"{field.name}": ({field.low}, {field.width})' for field in one.fields)
        lines.append(f'    "{one.name}": ({one.offset:#05x}, {{{fields}}}),')
    return "\n".join([*lines, "}", ""])


def systemrdl(machine: str) -> str:
    """SystemRDL 2.0 description, as one address map."""
    lines = [
        "addrmap driftless {",
        f'    name = "Registers of the machine {machine}";',
        "    default regwidth = 32;",
        "    default accesswidth = 32;",
    ]
    for one in REGISTERS:
        lines += _register(one)
    return "\n".join([*lines, "};", ""])


_ACCESS = {
    "ro": "sw = r; hw = w;",
    "rw": "sw = rw; hw = r;",
    "w1s": "sw = w; hw = r; onwrite = woset; singlepulse;",
    "w1c": "sw = rw; hw = w; onwrite = woclr;",
}


def _register(one: Register) -> Iterator[str]:
    yield "    reg {"
    yield f'        desc = "{one.help}";'
    for field in one.fields:
        yield f"        {_field(field)}"
    yield f"    }} {one.name} @ {one.offset:#05x};"


def _field(field: Field) -> str:
    place = f"[{field.low + field.width - 1}:{field.low}]"
    # Escaped, for some names are words of the language.
    return f'field {{ desc = "{field.help}"; {_ACCESS[field.access]} }} \\{field.name} {place} = {field.reset:#x};'


def markdown(machine: str) -> str:
    """A page with the registers, then the counters."""
    rows = [f"| `{one.offset:03x}` | `{one.name}` | {one.help} |" for one in REGISTERS if one.offset >= 0x100]
    return "\n".join(
        [
            f"# Registers of the machine {machine}",
            "",
            "32 bits each. `ro` is read only; `w1s` does something when 1 is written; `w1c` is cleared by 1.",
            "",
            table(),
            "",
            "## Counters, as frozen",
            "",
            "| offset | register | meaning |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )
