# amaranth: UnusedElaboratable=no
# Units are made for their signatures alone.
"""Ports of a machine's units with their meanings, as a page: what stands in the heads of the emitted files."""

import itertools
from collections.abc import Iterator, Sequence

from golden.parameters import Parameters
from hw.tops import COMPONENTS
from rtl_gen.verilog.emission import meanings
from rtl_gen.verilog.ports import Field, Port, members, name_ports

_LEGEND = """\
`in` and `out` are the unit's directions, `s` is two's complement. Bits of an array are written
elements x bits, element 0 in the low bits; bits of a field (`.name`) are its places, counted from
the first bit of the element or structure that it is part of. A unit with registers has `clk` and
`rst`, too; reset is synchronous and active high."""

_HEAD = ["| port | | bits | meaning |", "|---|---|---|---|"]


def markdown(machine: str, parameters: Parameters, units: Sequence[str], form: str = "fields") -> str:
    """A section for each unit: its ports and the fields of these.

    Parameters
    ----------
    machine : str
        Name of the machine.
    parameters : Parameters
        Its parameters.
    units : sequence of str
        Names in `hw.tops.COMPONENTS`.
    form : str
        How payloads become ports, one of `rtl_gen.verilog.ports.FORMS`.

    Raises
    ------
    ValueError
        If a unit does not support the parameters, or `form` is unknown.
    """
    lines = [f"# Ports of the machine {machine}", "", *_LEGEND.splitlines()]
    for unit in units:
        component = COMPONENTS[unit](parameters)
        said = meanings(component)
        lines += ["", f"## {unit}", "", f"{component.summary[0].upper()}{component.summary[1:]}."]
        ports = name_ports(members(component), form)
        alone = False
        for member, group in itertools.groupby(ports, key=lambda port: port.member.partition(".")[0]):
            rows = [row for port in group for row in _rows(port, said.get(member, ""))]
            if len(rows) > 1 and said.get(member):
                lines += ["", f"`{member}`: {_escaped(said[member])}"]
            if len(rows) > 1 or not alone:
                lines += ["", *_HEAD]
            lines += rows
            alone = len(rows) == 1
    return "\n".join(lines) + "\n"


def _rows(port: Port, member: str) -> Iterator[str]:
    # A port that is a member by itself means what the member does.
    meaning = port.meaning or (member if port.member.count(".") == 0 or port.member.endswith(".payload") else "")
    direction = port.direction.removesuffix("put")
    bits = f"{port.count} x {port.width // port.count}" if port.count else str(port.width)
    yield f"| `{port.name}` | {direction} | {bits}{' s' if port.signed else ''} | {_escaped(meaning)} |"
    yield from _field_rows(port.fields, "")


def _field_rows(fields: Sequence[Field], path: str) -> Iterator[str]:
    for field in fields:
        top = field.offset + field.total - 1
        bits = f"{top}:{field.offset}" if field.total > 1 else str(field.offset)
        name = f"{path}.{field.name}"
        yield f"| `{name}` | | {bits}{' s' if field.signed else ''} | {_escaped(field.meaning)} |"
        yield from _field_rows(field.fields, name)


def _escaped(text: str) -> str:
    """Text for a table: stars and bars are no marks."""
    return text.replace("*", r"\*").replace("|", r"\|")
