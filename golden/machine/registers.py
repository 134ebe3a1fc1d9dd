"""The registers of the machine: one table for hardware, drivers and documents.

Registers are 32 bits wide, at multiples of 4 bytes, little endian. Source: ``docs/machine.md``, registers.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from typing import Literal

from golden.machine.command import ENGINES, VERSION
from golden.parameters import Parameters

IDENTITY = int.from_bytes(b"DRFT", "little")
"""What the register ``id`` holds."""

TRACE = 16
"""Stamps that wait to be read, at most."""

CAUSES = ("none", "command", "region", "field", "buffer", "damaged", "token", "starved", "bus", "watchdog")
"""Why a machine stops before its program does, by number (``docs/machine.md``, errors)."""

Access = Literal["ro", "rw", "w1s", "w1c"]
"""Of software: read only; read and write; writing 1 does something; writing 1 clears."""


@dataclasses.dataclass(frozen=True)
class Field:
    """Bits of a register.

    Members
    -------
    name : str
        Of the field.
    low, width : int
        Lowest bit, bits.
    access : str
        See `Access`.
    help : str
        What it says or does.
    reset : int
        Value after a reset.
    """

    name: str
    low: int
    width: int
    access: Access
    help: str
    reset: int = 0

    @property
    def mask(self) -> int:
        """Its bits in the register."""
        return (1 << self.width) - 1 << self.low


@dataclasses.dataclass(frozen=True)
class Register:
    """A register.

    Members
    -------
    name : str
        Of the register.
    offset : int
        In bytes.
    fields : tuple of Field
        From bit 0 upwards; bits between them read 0.
    help : str
        What the register is for.
    """

    name: str
    offset: int
    fields: tuple[Field, ...]
    help: str

    @property
    def reset(self) -> int:
        """Value after a reset."""
        return sum(field.reset << field.low for field in self.fields)


@dataclasses.dataclass(frozen=True)
class Counter:
    """A counter of 64 bits: two registers, low half first.

    Members
    -------
    name : str
        Of the counter, as the interpreter calls it.
    unit : str
        What it counts.
    help : str
        Which of them.
    """

    name: str
    unit: str
    help: str


_FLOWS = (
    ("weights_read", "records of weights"),
    ("weights_written", "records that an Align wrote"),
    ("states_read", "vectors of Y, and of what starts a state"),
    ("states_written", "vectors of Y"),
    ("held_read", "vectors of Xhat"),
    ("held_written", "vectors of Xhat"),
    ("spools_read", "groups"),
    ("spools_written", "groups"),
    ("tables_read", "tables: biases, scales, factors, coefficients, rows, lengths, masks"),
    ("tables_written", "coefficients, rows, lengths, masks"),
    ("sums_read", "records of sums, and K"),
    ("sums_written", "records of sums"),
)

COUNTERS: tuple[Counter, ...] = (
    Counter("clocks", "clocks", "in which a program ran"),
    *(Counter(f"{engine}_busy", "clocks", f"in which the {engine} engine had an operation") for engine in ENGINES),
    *(Counter(f"{engine}_waiting", "clocks", f"in which the {engine} engine waited for a token") for engine in ENGINES),
    *(
        Counter(f"multiply_without_{what}", "clocks", f"in which an operation of the array waited for {help}")
        for what, help in (
            ("records", "records of weights"),
            ("sums", "sums that it had just added to"),
            ("half", "room to keep sums in"),
            ("fields", "the check of its fields"),
        )
    ),
    Counter("commands", "commands", "that were fetched"),
    *(Counter(f"{engine}_operations", "operations", f"that the {engine} engine has done") for engine in ENGINES),
    Counter("array_groups", "groups times channels", "that tiles multiplied, zero groups included"),
    Counter("array_zero_groups", "groups times channels", "of them, zero groups"),
    Counter("array_addresses", "addresses times blocks", "that the banks were read at"),
    Counter("array_skipped", "addresses times blocks", "of them, those with a zero group in every row"),
    Counter("link_groups", "groups", "that were sent up"),
    Counter("link_zero_groups", "groups", "of them, zero groups"),
    Counter("link_outputs", "vectors", "that were sent down"),
    Counter("accumulated", "vectors", "that were accumulated"),
    Counter("combined", "vectors", "that were combined"),
    Counter("emitted", "vectors", "that were emitted"),
    *(Counter(f"memory_{name}", "bytes", f"of memory: {what}") for name, what in _FLOWS),
    *(Counter(f"chip_{name}", "bytes", f"of RAM on the chip: {what}") for name, what in _FLOWS),
)
"""Every counter; the interpreter counts the same, but for clocks, of which it has none."""


def _all(name: str, access: Access, help: str, reset: int = 0) -> tuple[Field, ...]:
    return (Field(name, 0, 32, access, help, reset),)


def _bits(access: Access, *pairs: tuple[str, str]) -> tuple[Field, ...]:
    return tuple(Field(name, low, 1, access, help) for low, (name, help) in enumerate(pairs))


_EVENTS = (
    ("done", "the program has ended"),
    ("error", "the program was ended by an error"),
    ("reached", "an Interrupt command was carried out"),
)


_CAPABILITIES = (
    ("attention", "functions hold attention"),
    ("tables", "functions hold tables: SiLU, GELU"),
    ("sign_mask", "dataflows hold sign_mask: chains"),
)


def _registers() -> Iterator[Register]:
    yield Register("id", 0x000, _all("id", "ro", "the letters DRFT", IDENTITY), "tells that this is the machine")
    yield Register(
        "version",
        0x004,
        (
            Field("commands", 0, 4, "ro", "version of the commands", VERSION),
            Field("registers", 4, 4, "ro", "version of this table", 2),
        ),
        "what software must know",
    )
    yield Register("parameters", 0x008, _all("hash", "ro", "of the parameters"), "which build this is")
    yield Register(
        "control",
        0x00C,
        _bits(
            "w1s",
            ("start", "run the program, if the machine is idle"),
            ("reset", "stop at once, let the bus drain, forget everything but these registers"),
            ("halt", "stop fetching; operations under way end"),
            ("freeze", "copy all counters to where they are read"),
            ("clear", "count from 0 again"),
            ("advance", "drop the oldest stamp of the trace"),
        ),
        "what the machine is told to do",
    )
    yield Register(
        "status",
        0x010,
        _bits(
            "ro",
            ("busy", "a program runs"),
            ("halted", "it was halted"),
            ("resetting", "the bus is draining"),
            *((name, help) for name, help in _EVENTS[:2]),
        ),
        "what the machine does",
    )
    yield Register("interrupt", 0x014, _bits("w1c", *_EVENTS), "events that came")
    yield Register("interrupt_enable", 0x018, _bits("rw", *_EVENTS), "events that raise the interrupt")
    yield Register(
        "sticky",
        0x01C,
        _bits("w1c", ("overflow", "a result was clamped"), ("poisoned", "something poisoned came by")),
        "what happened to numbers",
    )
    yield Register("program", 0x020, _all("operand", "rw", "operand of the first command"), "where the program is")
    yield Register("program_size", 0x024, _all("commands", "rw", "commands at most"), "how long it is")
    yield Register("watchdog", 0x028, _all("clocks", "rw", "without progress; 0: never"), "when to give up")
    yield Register("reached", 0x02C, (Field("tag", 0, 16, "ro", "of the last Interrupt"),), "where the program came to")
    yield Register(
        "error",
        0x030,
        (
            Field("cause", 0, 8, "ro", ", ".join(f"{number} {name}" for number, name in enumerate(CAUSES))),
            Field("engine", 8, 4, "ro", "number of the engine; 15: fetch"),
            Field("response", 12, 2, "ro", "of the bus"),
            Field("tag", 16, 16, "ro", "of the command"),
        ),
        "why the program was ended",
    )
    yield Register("error_position", 0x034, _all("command", "ro", "number in the program"), "which command it was")
    yield Register("error_address", 0x038, _all("unit", "ro", "unit of memory, if there is one"), "where it was")
    yield Register("capabilities", 0x03C, _bits("ro", *_CAPABILITIES), "what this build has")
    for number in range(8):
        base = 0x040 + 8 * number
        yield Register(f"region{number}_base", base, _all("unit", "rw", "first unit of memory"), f"region {number}")
        limit = Field("units", 0, 29, "rw", "how many")
        yield Register(f"region{number}_limit", base + 4, (limit,), f"region {number}")
    for number, engine in enumerate(ENGINES):
        base = 0x080 + 16 * number
        yield Register(
            f"{engine}_command",
            base,
            (
                Field("opcode", 0, 8, "ro", "of the operation under way; 0: none"),
                Field("queued", 8, 4, "ro", "operations that wait, this one included"),
                Field("waiting", 12, 4, "ro", "engines whose token it waits for, a bit each"),
                Field("tag", 16, 16, "ro", "of the operation"),
            ),
            f"where the {engine} engine stands",
        )
        others = [(index, other) for index, other in enumerate(ENGINES) if other != engine]
        yield Register(
            f"{engine}_tokens",
            base + 4,
            tuple(Field(other, 8 * index, 8, "ro", f"tokens of the {other} engine") for index, other in others),
            f"what was pushed to the {engine} engine",
        )
        yield Register(
            f"{engine}_traffic",
            base + 8,
            (
                Field(
                    "reads",
                    0,
                    8,
                    "ro",
                    "its ports that read from memory and have not got all they asked for, a bit each",
                ),
                Field("writes", 8, 8, "ro", "its ports that write to memory and have not given all, a bit each"),
                Field("link", 16, 1, "ro", "the link waits for it, or it for the link"),
            ),
            f"what the {engine} engine waits for",
        )
    yield Register(
        "trace",
        0x0C0,
        (
            Field("tag", 0, 16, "ro", "of the oldest stamp"),
            Field("stamps", 16, 8, "ro", "that wait to be read"),
            Field("lost", 31, 1, "ro", "a stamp came when there was no room"),
        ),
        "where the program came by",
    )
    yield Register(
        "trace_clock", 0x0C4, _all("clock", "ro", "of the oldest stamp, since the start"), "when it was there"
    )
    for number, counter in enumerate(COUNTERS):
        base = 0x100 + 8 * number
        for half, name in enumerate(("low", "high")):
            yield Register(
                f"{counter.name}_{name}",
                base + 4 * half,
                _all("count", "ro", f"{counter.unit} {counter.help}, bits {32 * half + 31}:{32 * half}"),
                f"counter {counter.name}, as frozen",
            )


REGISTERS: tuple[Register, ...] = tuple(_registers())
"""Every register, by rising offset."""

_BY_NAME = {one.name: one for one in REGISTERS}


def fingerprint(parameters: Parameters) -> int:
    """What the register ``parameters`` holds: the first 32 bits of the SHA-256 of the configuration.

    Its text is JSON without spaces, keys in alphabetical order.
    """
    text = json.dumps(parameters.to_dict(), sort_keys=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def capabilities(parameters: Parameters) -> int:
    """What the register ``capabilities`` holds: a bit for each function and dataflow that the build has."""
    held = (*parameters.functions, *parameters.dataflows)
    return sum(field.mask for field in register("capabilities").fields if field.name in held)


def register(name: str) -> Register:
    """A register by its name.

    Raises
    ------
    KeyError
        If there is none.
    """
    if name not in _BY_NAME:
        raise KeyError(f"Register must be one of {len(REGISTERS)}, not {name!r}")
    return _BY_NAME[name]


def table() -> str:
    """Registers, without counters, as a table of Markdown."""
    rows = ["| offset | register | bits | field | access | meaning |", "|---|---|---|---|---|---|"]
    for one in REGISTERS:
        if one.offset >= 0x100:
            break
        for number, field in enumerate(one.fields):
            head = f"`{one.offset:03x}` | `{one.name}`" if not number else " |"
            bits = f"{field.low + field.width - 1}:{field.low}" if field.width > 1 else f"{field.low}"
            rows.append(f"| {head} | {bits} | `{field.name}` | {field.access} | {field.help} |")
    return "\n".join(rows)
