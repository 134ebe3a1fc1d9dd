"""The commands of the machine, and the 256-bit words that they are in memory.

Words: an *operation* is what one engine does once it is told to go; its *fields* lie in the 32-bit *shadow registers*
of that engine, which a ``configure`` writes and a ``go`` takes over. A *token* orders two engines: one that pops waits
until the other one has pushed. A *unit of memory* is 32 bytes. Source: ``docs/machine.md``, commands.

>>> program = [Stamp(tag=7), Stop()]
>>> disassemble(assemble(program)) == program
True
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self, get_args, get_origin

import numpy as np

from golden.common.checked import Checked, Range, described

VERSION = 1
"""Of the commands; another one is refused by the machine."""

UNIT_BYTES = 32
"""Bytes of a unit of memory: what operands and regions count in, and what a command takes."""

COMMAND_WORDS = UNIT_BYTES // 4
"""32-bit words of a command."""

ENGINES = ("load", "multiply", "accumulate", "emit")
"""The four engines, by number. Each runs its operations in order; only tokens order two of them."""

DATAFLOWS = ("closed_loop", "sign_mask")
"""What a machine can be built for. Fields and operations that only the second one has are reserved without it."""

CLOSED_LOOP = DATAFLOWS[:1]
"""What every machine is built for."""

Function = Literal["identity", "relu", "silu", "gelu", "erf_gelu", "softmax"]
"""What an emission or a combination applies, by number (numerics, 12.8); softmax is for emissions (12.9)."""

Summed = Literal["no", "channel", "position"]
"""What sums of Y and of its squares are kept of."""

Factor = Literal["one", "channel", "position", "element"]
"""What a combination has a factor for."""

_HEAD_WORDS = 2
_DATA_WORDS = COMMAND_WORDS - _HEAD_WORDS
REGISTERS = 32
"""Shadow registers of an engine."""

_MASK = 2**32 - 1


class CommandError(ValueError):
    """Words that are no command: the cause is a sentence, `position` the number of the command in the program."""

    def __init__(self, position: int, cause: str):
        super().__init__(f"Command {position}: {cause}")
        self.position = position


class Bits(Range):
    """An integer of so many bits, two's complement if `signed`."""

    def __init__(self, width: int, *, signed: bool = False):
        low, high = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
        super().__init__(low, high)
        object.__setattr__(self, "width", width)
        object.__setattr__(self, "signed", signed)


@dataclasses.dataclass(frozen=True)
class Operand(Checked, label="Operand's {}"):
    """Where data lie: units of memory from the base of a region. Raises as `Checked` does."""

    region: Annotated[int, Bits(3)]
    offset: Annotated[int, Bits(29)] = 0

    def encode(self) -> int:
        """The 32-bit word."""
        return self.region << 29 | self.offset

    def moved(self, units: int) -> Self:
        """What lies so many units of memory behind."""
        return dataclasses.replace(self, offset=self.offset + units)

    @classmethod
    def decode(cls, word: int) -> Self:
        """The operand of a word; every word is one."""
        return cls(word >> 29, word & (1 << 29) - 1)


NOWHERE = Operand(0, 0)
"""What an operand that an operation does not use must be."""


@dataclasses.dataclass(frozen=True)
class Slot:
    """Bits of a field.

    Members
    -------
    name : str
        Of the field.
    word, low, width : int
        Register, its lowest bit, bits.
    kind : type or tuple
        `int`, `bool`, `Operand`, or the names of a choice by number.
    signed : bool
        Whether an integer is two's complement.
    help : str
        What the field says.
    dataflow : str
        Whose it is: a machine without it has reserved bits there.
    """

    name: str
    word: int
    low: int
    width: int
    kind: Any
    signed: bool
    help: str
    dataflow: str


@functools.cache
def layout(kind: type, dataflows: tuple[str, ...] = CLOSED_LOOP) -> tuple[Slot, ...]:
    """Slots of the fields that a class of commands adds to its base.

    Fields are placed in the order of their declaration, from bit 0 of word 0; one that would straddle two words starts
    the next. Those of a dataflow that is not among `dataflows` are left out, and move no other.
    """
    base = {field.name for field in dataclasses.fields(Operation if issubclass(kind, Operation) else Command)}
    slots, word, low = [], 0, 0
    for field in dataclasses.fields(kind):
        dataflow = field.metadata.get("dataflow", CLOSED_LOOP[0])
        if field.name in base or dataflow not in dataflows:
            continue
        width, what, signed = _shape(field.type)
        if low + width > 32:
            word, low = word + 1, 0
        slots.append(Slot(field.name, word, low, width, what, signed, field.metadata["help"], dataflow))
        low += width
    return tuple(slots)


def _shape(annotation: Any) -> tuple[int, Any, bool]:
    if annotation is bool:
        return 1, bool, False
    if annotation is Operand:
        return 32, Operand, False
    if get_origin(annotation) is Literal:
        names = get_args(annotation)
        return max(1, (len(names) - 1).bit_length()), names, False
    bits = next(rule for rule in annotation.__metadata__ if isinstance(rule, Bits))
    return bits.width, int, bits.signed


def pack(command: "Command", dataflows: tuple[str, ...] = CLOSED_LOOP) -> list[int]:
    """Words of a command's own fields: of an operation, what its shadow registers hold."""
    slots = layout(type(command), dataflows)
    words = [0] * (slots[-1].word + 1 if slots else 0)
    for slot in slots:
        value = getattr(command, slot.name)
        if slot.kind is Operand:
            value = value.encode()
        elif isinstance(slot.kind, tuple):
            value = slot.kind.index(value)
        words[slot.word] |= (int(value) & (1 << slot.width) - 1) << slot.low
    return words


def _unpack(kind: type, words: Sequence[int], dataflows: tuple[str, ...]) -> dict[str, Any]:
    """Own fields of a command from its words; ValueError if a reserved bit is set or a choice is not offered."""
    slots = layout(kind, dataflows)
    used = [0] * (slots[-1].word + 1 if slots else 0)
    values: dict[str, Any] = {}
    for slot in slots:
        mask = (1 << slot.width) - 1
        used[slot.word] |= mask << slot.low
        value = words[slot.word] >> slot.low & mask
        if slot.kind is Operand:
            values[slot.name] = Operand.decode(value)
        elif slot.kind is bool:
            values[slot.name] = bool(value)
        elif isinstance(slot.kind, tuple):
            if value >= len(slot.kind):
                raise ValueError(f"{slot.name} must be in 0..{len(slot.kind) - 1}, not {value}")
            values[slot.name] = slot.kind[value]
        else:
            values[slot.name] = value - (1 << slot.width) if slot.signed and value >> slot.width - 1 else value
    for number, (word, mask) in enumerate(zip(words, used, strict=False)):
        if word & ~mask & _MASK:
            for slot in layout(kind, DATAFLOWS):
                if slot.word == number and slot not in slots and word >> slot.low & (1 << slot.width) - 1:
                    raise ValueError(f"dataflows must hold {slot.dataflow} for {slot.name}, not {', '.join(dataflows)}")
            raise ValueError(f"reserved bits of register {number} must be 0, not {word & ~mask & _MASK:#010x}")
    return values


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command(Checked):
    """What the fetch unit takes from memory.

    Parameters
    ----------
    tag : int
        16 bits for people: layer and tile, in traces, errors and snapshots.
    """

    opcode: ClassVar[int]

    tag: Annotated[int, Bits(16)] = 0


def _of_sign_mask(default: Any, help: str) -> Any:
    """Field of a command that only a machine with the dataflow sign_mask has."""
    return dataclasses.field(default=default, metadata={"help": help, "dataflow": "sign_mask"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stop(Command):
    """End of the program: waits until every engine is idle, then the machine is done."""

    opcode: ClassVar[int] = 0x01


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wait(Command):
    """Wait until the engines named are idle and their writes have arrived in memory."""

    opcode: ClassVar[int] = 0x02

    load: bool = described(False, "wait for the load engine")
    multiply: bool = described(False, "wait for the multiply engine")
    accumulate: bool = described(False, "wait for the accumulate engine")
    emit: bool = described(False, "wait for the emit engine")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stamp(Command):
    """Write clock and tag to the trace."""

    opcode: ClassVar[int] = 0x03


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interrupt(Command):
    """Raise the interrupt ``reached`` with the tag; the program goes on."""

    opcode: ClassVar[int] = 0x04


@dataclasses.dataclass(frozen=True)
class Step(Checked, label="Loop step's {}"):
    """How far a region moves for each turn of a loop, in units of memory."""

    region: Annotated[int, Bits(3)]
    stride: Annotated[int, Bits(29, signed=True)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loop(Command):
    """Repeat what stands before the matching `End`. Loops nest `DEPTH` deep at most.

    Each turn after the first adds the strides to the bases of their regions; the bases return when the loop is over.
    """

    opcode: ClassVar[int] = 0x05
    DEPTH: ClassVar[int] = 4
    STEPS: ClassVar[int] = _DATA_WORDS - 1

    turns: Annotated[int, Range(1, 2**16 - 1)] = 1
    steps: tuple[Step, ...] = ()

    def check_together(self) -> None:
        """Each region moves once."""
        if len(self.steps) > self.STEPS:
            raise ValueError(f"steps must be at most {self.STEPS}, not {len(self.steps)}")
        if len({step.region for step in self.steps}) < len(self.steps):
            raise ValueError(f"steps must be of different regions, not {[step.region for step in self.steps]}")
        for step in self.steps:
            if not step.stride:
                raise ValueError(f"stride of region {step.region} must not be 0: leave the step out")


@dataclasses.dataclass(frozen=True, kw_only=True)
class End(Command):
    """End of a loop's turn."""

    opcode: ClassVar[int] = 0x06


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operation(Command):
    """What an engine does once.

    Parameters
    ----------
    pop, push : tuple of str
        Engines to wait for a token of before it starts, and to give one to once its last write is done. In the order
        of `ENGINES`, the own engine never.
    """

    engine: ClassVar[str]
    dataflow: ClassVar[str] = CLOSED_LOOP[0]

    pop: tuple[str, ...] = ()
    push: tuple[str, ...] = ()

    def check_together(self) -> None:
        """Tokens go to other engines, in order."""
        others = [engine for engine in ENGINES if engine != self.engine]
        for name in ("pop", "push"):
            engines = getattr(self, name)
            if list(engines) != [engine for engine in others if engine in engines]:
                raise ValueError(f"{name} must name engines of {', '.join(others)} in this order, not {list(engines)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadWeights(Operation):
    """Bring weight records from memory into one half of the weight buffer, one after the other."""

    opcode: ClassVar[int] = 0x10
    engine: ClassVar[str] = "load"

    source: Operand = described(NOWHERE, "first record")
    half: bool = described(False, "half of the buffer")
    at: Annotated[int, Bits(15)] = described(0, "record of the half that the first one becomes")
    records: Annotated[int, Bits(16)] = described(0, "how many")
    skip: Annotated[int, Bits(24)] = described(0, "records of the source before the first one")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadGroups(Operation):
    """Bring lines of delta groups into one half of every row's bank; what lies outside the image is zero groups.

    Row r takes the lines ``line + r line_step`` onwards of the spool that begins ``r slot_step`` slots after `source`.
    A bank holds, for each line, ``left + width repeat + right`` positions of `pitch` addresses; the groups of a
    position start at `first` and take `passes` addresses each. Fewer passes than that are filled up by zero groups.
    `masked` groups are those of a product, one vector a position; record ``slot width + position`` of the sign tensor
    says what is left of them (numerics, 9.2).
    """

    opcode: ClassVar[int] = 0x11
    engine: ClassVar[str] = "load"

    source: Operand = described(NOWHERE, "slot of line 0 of row 0")
    lengths: Operand = described(
        NOWHERE, "table of the slots' lengths in bytes, 4 bytes each (compressed form, or replays)"
    )
    half: bool = described(False, "half of the banks")
    at: Annotated[int, Bits(15)] = described(0, "address of the first line in the banks")
    slot: Annotated[int, Bits(16)] = described(0, "units of memory from slot to slot")
    slot_step: Annotated[int, Bits(16)] = described(0, "slots from row to row: 0 strips, else samples")
    line_step: Annotated[int, Bits(16)] = described(0, "lines from row to row: 0 samples, else strips")
    rows: Annotated[int, Bits(8)] = described(0, "rows that get groups, minus 1")
    link: bool = described(False, "the groups come from the link as they are emitted, not from a spool")
    line: Annotated[int, Bits(16, signed=True)] = described(0, "first line of row 0; negative ones are zero groups")
    skip: Annotated[int, Bits(16)] = described(0, "slots before line 0")
    lines: Annotated[int, Bits(12)] = described(0, "lines of a bank")
    repeat: Literal[1, 2] = described(1, "2: each position and each line stands twice (upsampling)")
    height: Annotated[int, Bits(16)] = described(0, "lines of the spool; those past them are zero groups")
    width: Annotated[int, Bits(16)] = described(0, "positions of a line")
    left: Annotated[int, Bits(4)] = described(0, "positions of zero groups before a line")
    right: Annotated[int, Bits(4)] = described(0, "positions of zero groups after it")
    groups: Annotated[int, Bits(12)] = described(0, "groups of a position")
    passes: Annotated[int, Bits(3)] = described(0, "addresses of a group in the banks, minus 1")
    sent: Annotated[int, Bits(3)] = described(0, "passes that were sent, minus 1")
    masked: bool = _of_sign_mask(False, "the groups pass the mask of their vector")
    first: Annotated[int, Bits(16)] = described(0, "address of a position where its groups start")
    pitch: Annotated[int, Bits(16)] = described(0, "addresses from position to position")
    signs: Operand = _of_sign_mask(NOWHERE, "sign tensor of the spool's vectors, if `masked`")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadScales(Operation):
    """Bring records of scales into the buffer behind the array: n factors, then n shifts, FP16 numbers."""

    opcode: ClassVar[int] = 0x12
    engine: ClassVar[str] = "load"
    dataflow: ClassVar[str] = "sign_mask"

    source: Operand = _of_sign_mask(NOWHERE, "first record")
    at: Annotated[int, Bits(15)] = _of_sign_mask(0, "record of the buffer that the first one becomes")
    records: Annotated[int, Bits(16)] = _of_sign_mask(0, "how many")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Multiply(Operation):
    """Sums of `channels` for each of ``lines x columns`` positions of every row, collected and sent down as vectors.

    The loop, outermost first: blocks of as many channels as the array has columns, blocks of T positions, kernel
    lines, kernel columns, groups (with each, the records of the block's channels), passes, positions. The group of a
    position is at ``at + line line_pitch + column column_pitch + kernel line kernel_pitch + kernel column tap_pitch +
    group passes + pass``. Records are taken one after the other from `weights_at`. Rows past `rows` work on nothing.
    `collected` channels of all positions leave row by row, in the order position, channel, as joint vectors of n, the
    last one padded; or, as `groups`, vector by vector ``RNE16(sum 2^(unit - 24) factor + shift)``, quantised.
    """

    opcode: ClassVar[int] = 0x20
    engine: ClassVar[str] = "multiply"

    half: bool = described(False, "half of the banks")
    at: Annotated[int, Bits(15)] = described(0, "address of the first group")
    weights_half: bool = described(False, "half of the weight buffer")
    weights_at: Annotated[int, Bits(15)] = described(0, "first record")
    lines: Annotated[int, Bits(8)] = described(0, "lines of positions")
    columns: Annotated[int, Bits(8)] = described(0, "positions of a line")
    channels: Annotated[int, Bits(7)] = described(0, "output channels of this operation")
    rows: Annotated[int, Bits(8)] = described(0, "rows that exist, minus 1")
    line_pitch: Annotated[int, Bits(16)] = described(0, "addresses from line to line of positions")
    column_pitch: Annotated[int, Bits(16)] = described(0, "addresses from position to position")
    kernel_lines: Annotated[int, Bits(4)] = described(0, "lines of the kernel")
    kernel_columns: Annotated[int, Bits(4)] = described(0, "columns of the kernel")
    groups: Annotated[int, Bits(12)] = described(0, "groups of a position")
    passes: Annotated[int, Bits(3)] = described(0, "addresses of a group, minus 1")
    first: Annotated[int, Bits(6)] = described(0, "place of the first of them among those that leave together")
    leave: bool = described(True, "what was collected leaves")
    kernel_pitch: Annotated[int, Bits(16)] = described(0, "addresses from kernel line to kernel line")
    tap_pitch: Annotated[int, Bits(16)] = described(0, "addresses from kernel column to kernel column")
    collected: Annotated[int, Bits(7)] = described(0, "channels of a position that leave together")
    floor: Annotated[int, Bits(6)] = described(0, "code of the least exponent of a joint vector")
    unit: Annotated[int, Bits(8, signed=True)] = described(0, "L: a sum counts 2^L units of the state that it ends in")
    leaves: Literal["joint", "groups"] = _of_sign_mask("joint", "in which form what was collected leaves")
    static: bool = _of_sign_mask(
        False, "groups have the exponent `floor`, instead of the least that is enough from there"
    )
    sent: Annotated[int, Bits(3)] = _of_sign_mask(0, "passes of the groups, minus 1")
    scales: Annotated[int, Bits(15)] = _of_sign_mask(0, "record of factors and shifts of row 0")
    scales_step: Annotated[int, Bits(15)] = _of_sign_mask(0, "records of them from row to row")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accumulate(Operation):
    """Take the joint vectors of one tile: ``Y += delta``, with the bias, and the sums of what changed.

    Vector v of row r goes to vector ``first + r row_step + (v div inner) outer_step + (v mod inner) inner_step`` of
    the state, and takes vector ``bias_first + (v mod bias_period) + r bias_step`` of the bias.

    Or the `groups` of a tile, a vector a position, and keep them: turn t of the outer loop of row r is the line in slot
    ``place + r sums_step + t`` of a spool, its vector i the record ``slot inner + i`` of the sign tensor.
    """

    opcode: ClassVar[int] = 0x30
    engine: ClassVar[str] = "accumulate"

    state: Operand = described(NOWHERE, "vector 0 of the state")
    bias: Operand = described(NOWHERE, "vectors of n entries of the bias")
    sums: Operand = described(NOWHERE, "records of sums")
    origin: Operand = described(NOWHERE, "what a start from a region begins with, vectors like the state's")
    first: Annotated[int, Bits(24)] = described(0, "vector of the state that the first one of row 0 goes to")
    rows: Annotated[int, Bits(8)] = described(0, "rows that exist, minus 1")
    row_step: Annotated[int, Bits(24)] = described(0, "vectors of the state from row to row")
    outer: Annotated[int, Bits(8)] = described(0, "turns of the outer loop")
    outer_step: Annotated[int, Bits(16)] = described(0, "vectors from turn to turn of it")
    inner: Annotated[int, Bits(16)] = described(0, "turns of the inner loop")
    inner_step: Annotated[int, Bits(16)] = described(0, "vectors from turn to turn of it")
    start: Literal["add", "zero", "region"] = described("add", "what Y is before: itself, 0, or a region")
    biased: bool = described(False, "whether there is a bias")
    summed: Summed = described("no", "whether sums are kept, and of what")
    fresh: bool = described(False, "the records of sums start at 0")
    exchanged: bool = described(False, "each n vectors of a row are transposed as a block first")
    tail: Annotated[int, Bits(7)] = described(0, "vectors that come of the last block of a row, if `exchanged`")
    bias_period: Annotated[int, Bits(8)] = described(0, "vectors after which the bias repeats itself")
    bias_first: Annotated[int, Bits(16)] = described(0, "vector of the bias that the first one takes")
    bias_step: Annotated[int, Bits(16)] = described(0, "vectors of the bias from row to row")
    sums_step: Annotated[int, Bits(16)] = described(0, "records of sums from row to row")
    channels: Annotated[int, Bits(16)] = described(0, "channels of the tensor")
    positions: Annotated[int, Bits(24)] = described(0, "positions of the tensor; what lies beyond is padding")
    floor: Annotated[int, Bits(6)] = described(0, "code of the least exponent of a joint vector")
    groups: bool = _of_sign_mask(False, "delta groups come, not joint vectors")
    signs: Operand = _of_sign_mask(NOWHERE, "where the new masks go, if `groups`")
    spool: Operand = _of_sign_mask(NOWHERE, "where the groups go: slot 0")
    lengths: Operand = _of_sign_mask(NOWHERE, "table of the slots' lengths in bytes, an entry each")
    slot: Annotated[int, Bits(16)] = _of_sign_mask(0, "units of memory from slot to slot")
    place: Annotated[int, Bits(16)] = _of_sign_mask(0, "slot of the first turn of row 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Combine(Operation):
    """A state from one to three states, vector by vector; one rounding (numerics, 12.14 and 12.15).

    ``sum``: ``RNE(a1 Y1 2^-h1 + a2 x2 2^-h2 + a3 Y3 2^-h3)``; ``product``: ``RNE(Y1 x2 2^-h1)``; with ``x2 = f(Y2)``.
    """

    opcode: ClassVar[int] = 0x40
    engine: ClassVar[str] = "emit"

    state: Operand = described(NOWHERE, "vector 0 of the result")
    copy: Operand = described(NOWHERE, "where it is written a second time, if `copied`")
    source1: Operand = described(NOWHERE, "Y1")
    source2: Operand = described(NOWHERE, "Y2")
    source3: Operand = described(NOWHERE, "Y3")
    factor1: Operand = described(NOWHERE, "entry h1, then entries a1")
    factor2: Operand = described(NOWHERE, "entry h2, then entries a2")
    factor3: Operand = described(NOWHERE, "entry h3, then entries a3")
    limits: Operand = described(NOWHERE, "two entries, the least and the largest result, if `clamped`")
    sums: Operand = described(NOWHERE, "records of sums")
    vectors: Annotated[int, Bits(24)] = described(0, "how many")
    terms: Annotated[int, Bits(2)] = described(1, "states that there are, 1 to 3")
    form: Literal["sum", "product"] = described("sum", "what is made of them")
    function: Function = described("identity", "f of Y2")
    clamped: bool = described(False, "whether the result is clamped to limits of its own")
    copied: bool = described(False, "whether there is a second result")
    kind1: Factor = described("one", "what a1 is for")
    kind2: Factor = described("one", "what a2 is for")
    kind3: Factor = described("one", "what a3 is for")
    permuted: bool = described(False, "Y2 is read with each pair of channels exchanged (rotary)")
    summed: Summed = described("no", "whether sums are kept, and of what")
    channels: Annotated[int, Bits(16)] = described(0, "channels of the tensor")
    middle: Annotated[int, Bits(8, signed=True)] = described(0, "s of Y2")
    result: Annotated[int, Bits(8, signed=True)] = described(0, "s of x2")
    fresh: bool = described(False, "the records of sums start at 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Coefficients(Operation):
    """Mean and reciprocal root of statistics sets, from sums of one tensor or of two (numerics, 12.4 and 12.5)."""

    opcode: ClassVar[int] = 0x41
    engine: ClassVar[str] = "emit"

    sums1: Operand = described(NOWHERE, "records of sums of the first tensor")
    sums2: Operand = described(NOWHERE, "of the second one, if there is one")
    floors: Operand = described(NOWHERE, "K of each set, 16 bytes")
    result: Operand = described(NOWHERE, "records of coefficients, one for each set")
    sets: Annotated[int, Bits(16)] = described(0, "how many")
    size: Annotated[int, Bits(16)] = described(0, "records of sums of a set")
    records1: Annotated[int, Bits(16)] = described(0, "records of the first tensor; those after them are the second's")
    shift: Annotated[int, Bits(5, signed=True)] = described(0, "s of the second tensor less s of the first, -8 to 8")
    centred: bool = described(True, "whether the mean is taken off (RMS norm: no)")
    unit: Annotated[int, Bits(5)] = described(10, "u counts units of 2^-unit")
    count: Annotated[int, Bits(32)] = described(0, "N, elements of a set")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Emit(Operation):
    """``x = f(norm(Y))``, the delta groups of ``x - Xhat`` for its readers, and the new Xhat (numerics, 12.6 to 12.10).

    Lines `line` to ``line + lines - 1`` of the tensor, position by position, group by group, pass by pass. Groups are
    n channels of a position, the last one padded; or, `along` positions, n positions of a channel.
    """

    opcode: ClassVar[int] = 0x42
    engine: ClassVar[str] = "emit"

    state: Operand = described(NOWHERE, "vector 0 of Y")
    held: Operand = described(NOWHERE, "vector 0 of Xhat: one vector for each group, in the order of the groups")
    target: Operand = described(NOWHERE, "vector 0 of a state that x is written to, laid out like Y, if `written`")
    coefficients: Operand = described(NOWHERE, "records of coefficients, if `normed`; of rows, for a softmax")
    scales: Operand = described(NOWHERE, "entry h, then G and B of each channel, if `normed`")
    spool: Operand = described(NOWHERE, "slot of line 0")
    lengths: Operand = described(
        NOWHERE, "table of the slots' lengths in bytes, an entry each (compressed form, or replays)"
    )
    slot: Annotated[int, Bits(16)] = described(0, "units of memory from slot to slot")
    line: Annotated[int, Bits(16)] = described(0, "first line")
    lines: Annotated[int, Bits(16)] = described(0, "how many lines")
    width: Annotated[int, Bits(16)] = described(0, "positions of a line")
    channels: Annotated[int, Bits(16)] = described(0, "channels of the tensor")
    first: Annotated[int, Bits(16)] = described(0, "channels of the sets before channel 0 (second tensor of a set)")
    set_channels: Annotated[int, Bits(16)] = described(0, "channels of a statistics set; 0: a set is a position")
    normed: bool = described(False, "whether there is a norm; without one z = Y")
    second: bool = described(False, "the tensor is the second one of its sets")
    sent: bool = described(True, "whether groups are sent")
    link: bool = described(False, "the groups go to the link, not to a spool")
    written: bool = described(False, "whether x is written as a state")
    function: Function = described("identity", "f")
    along: Literal["channels", "positions"] = described("channels", "axis of a group")
    segment: Annotated[int, Bits(16)] = described(0, "channels that are padded to whole groups apart; 0: all of them")
    across: Annotated[int, Bits(16)] = described(0, "channels of a line of the spool, along positions")
    root: Annotated[int, Bits(17)] = described(0, "r of a softmax")
    exponent: Annotated[int, Bits(8, signed=True)] = described(0, "rho of a softmax")
    start: bool = described(False, "Xhat and its poison count as 0")
    passes: Annotated[int, Bits(3)] = described(0, "passes, minus 1")
    middle: Annotated[int, Bits(8, signed=True)] = described(0, "s of z")
    result: Annotated[int, Bits(8, signed=True)] = described(0, "s of x")
    exact: bool = described(False, "Xhat becomes x, not what was sent")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Align(Operation):
    """What the readers of a state hold of it, as weight records (numerics, 12.13).

    Output channel o takes the vectors ``first + o step + group`` of Xhat. Records are placed as those of weights.
    """

    opcode: ClassVar[int] = 0x43
    engine: ClassVar[str] = "emit"

    held: Operand = described(NOWHERE, "vector 0 of Xhat")
    result: Operand = described(NOWHERE, "first record")
    first: Annotated[int, Bits(24)] = described(0, "vector of the first group of output channel 0")
    step: Annotated[int, Bits(16)] = described(0, "vectors from output channel to output channel")
    outputs: Annotated[int, Bits(16)] = described(0, "output channels")
    groups: Annotated[int, Bits(12)] = described(0, "groups of an output channel")
    scale: Annotated[int, Bits(9, signed=True)] = described(0, "what is added to the exponent of each record")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows(Operation):
    """Largest element, sum and reciprocal of each row of scores (numerics, 12.9)."""

    opcode: ClassVar[int] = 0x44
    engine: ClassVar[str] = "emit"

    state: Operand = described(NOWHERE, "vector 0 of the scores; a row is the channels of a position")
    result: Operand = described(NOWHERE, "records of rows")
    rows: Annotated[int, Bits(24)] = described(0, "how many")
    channels: Annotated[int, Bits(16)] = described(0, "elements of a row")
    root: Annotated[int, Bits(17)] = described(0, "r")
    exponent: Annotated[int, Bits(8, signed=True)] = described(0, "rho")


OPERATIONS: tuple[type[Operation], ...] = (
    LoadWeights,
    LoadGroups,
    Multiply,
    Accumulate,
    Combine,
    Coefficients,
    Emit,
    Align,
    Rows,
)
"""Operations of every machine."""


def operations(dataflows: Sequence[str] = CLOSED_LOOP) -> tuple[type[Operation], ...]:
    """Operations of a machine that is built for these dataflows."""
    return OPERATIONS + tuple(kind for kind in (LoadScales,) if kind.dataflow in dataflows)


def dataflows_of(program: Sequence["Command"]) -> tuple[str, ...]:
    """Dataflows that a machine must have for a program, in the order of `DATAFLOWS`."""
    used = set(CLOSED_LOOP)
    for command in program:
        if isinstance(command, Operation):
            used.add(command.dataflow)
            used |= {slot.dataflow for slot, idle in _further(type(command)) if getattr(command, slot.name) != idle}
    return tuple(name for name in DATAFLOWS if name in used)


@functools.cache
def _further(kind: type[Operation]) -> tuple[tuple[Slot, Any], ...]:
    """Fields of an operation that not every machine has, and what they are where nobody uses them."""
    idle = {field.name: field.default for field in dataclasses.fields(kind)}
    return tuple((slot, idle[slot.name]) for slot in layout(kind, DATAFLOWS) if slot.dataflow not in CLOSED_LOOP)


_CONTROLS: tuple[type[Command], ...] = (Stop, Wait, Stamp, Interrupt, Loop, End)
_CONFIGURE = 0x08
_BY_OPCODE = {kind.opcode: kind for kind in (*_CONTROLS, *operations(DATAFLOWS))}


def _head(opcode: int, tag: int = 0, engine: int = 0, low: int = 0) -> list[int]:
    return [opcode | VERSION << 8 | engine << 12 | tag << 16, low]


def _mask(engines: Sequence[str]) -> int:
    return sum(1 << ENGINES.index(engine) for engine in engines)


def assemble(program: Sequence[Command]) -> np.ndarray:
    """Words of a program.

    A field that a shadow register holds already is not written again, but in the first turn of a loop.

    Parameters
    ----------
    program : sequence of Command
        Ends with `Stop`; every `Loop` has its `End`.

    Returns
    -------
    uint32 (commands, 8)
        Little endian in memory, one unit of memory each.

    Raises
    ------
    ValueError
        If loops do not match or nest too deeply, or `Stop` is not the last command.
    """
    lines: list[list[int]] = []
    known: dict[str, list[int | None]] = {engine: [0] * REGISTERS for engine in ENGINES}
    dataflows = dataflows_of(program)
    depth = 0
    for number, command in enumerate(program):
        if isinstance(command, Stop) != (number == len(program) - 1):
            raise ValueError(f"Stop must be the last command of a program, not {type(command).__name__} at {number}")
        if isinstance(command, Operation):
            engine = ENGINES.index(command.engine)
            held = known[command.engine]
            for first, words in _changes(held, pack(command, dataflows)):
                head = _head(_CONFIGURE, command.tag, engine, first | len(words) << 8)
                lines.append([*head, *words, *[0] * (_DATA_WORDS - len(words))])
                held[first : first + len(words)] = words
            tokens = _mask(command.pop) | _mask(command.push) << 4
            lines.append([*_head(command.opcode, command.tag, engine, tokens), *[0] * _DATA_WORDS])
        elif isinstance(command, Loop):
            depth += 1
            if depth > Loop.DEPTH:
                raise ValueError(f"Loops must nest at most {Loop.DEPTH} deep, not {depth}, at command {number}")
            steps = [Operand(step.region, step.stride & (1 << 29) - 1).encode() for step in command.steps]
            lines.append(_padded([*_head(command.opcode, command.tag), command.turns | len(steps) << 16, *steps]))
            known = {engine: [None] * REGISTERS for engine in ENGINES}
        else:
            if isinstance(command, End):
                depth -= 1
                if depth < 0:
                    raise ValueError(f"End must close a loop, at command {number}")
            lines.append(_padded([*_head(command.opcode, command.tag), *pack(command)]))
    if not lines:
        raise ValueError("Stop must be the last command of a program, not left out")
    if depth:
        raise ValueError(f"Every loop must be closed by an End, not {depth} left open")
    return np.array(lines, np.uint32)


def _padded(words: list[int]) -> list[int]:
    return [*words, *[0] * (COMMAND_WORDS - len(words))]


def _changes(held: Sequence[int | None], words: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """Runs of at most six registers that cover every change, each as its first register and its words."""
    number = 0
    while number < len(words):
        if held[number] == words[number]:
            number += 1
            continue
        last = min(number + _DATA_WORDS, len(words))
        while held[last - 1] == words[last - 1]:
            last -= 1
        yield number, list(words[number:last])
        number = last


def disassemble(words: np.ndarray) -> list[Command]:
    """Commands of a program; the inverse of `assemble`.

    Parameters
    ----------
    words : uint32 (commands, 8)
        What memory holds from the program's base on.

    Raises
    ------
    CommandError
        At the first command that the machine would refuse: an unknown opcode, another version, a reserved bit that is
        not 0, a choice that is not offered, loops that do not match, or no Stop.
    """
    program: list[Command] = []
    registers = {engine: [0] * REGISTERS for engine in ENGINES}
    depth = 0
    for position, line in enumerate(np.asarray(words, np.uint32).tolist()):
        try:
            command = decode(line, registers, DATAFLOWS)
            if isinstance(command, Loop):
                depth += 1
                if depth > Loop.DEPTH:
                    raise ValueError(f"loops must nest at most {Loop.DEPTH} deep")
            if isinstance(command, End):
                depth -= 1
                if depth < 0:
                    raise ValueError("an end without a loop")
            if isinstance(command, Stop) and depth:
                raise ValueError("a stop inside a loop")
        except ValueError as error:
            raise CommandError(position, str(error)) from None
        if command is not None:
            program.append(command)
        if isinstance(command, Stop):
            return program
    raise CommandError(len(words), "the program must end with a stop")


def decode(
    line: Sequence[int], registers: dict[str, list[int]], dataflows: tuple[str, ...] = CLOSED_LOOP
) -> Command | None:
    """One command.

    Parameters
    ----------
    line : sequence of int
        Its eight words.
    registers : mapping of str to list of int
        Shadow registers by engine: a configure writes them, an operation reads its own.
    dataflows : tuple of str
        Of the machine.

    Returns
    -------
    Command, or None for a configure.

    Raises
    ------
    ValueError
        If the machine would refuse it.
    """
    opcode, version, engine, tag = line[0] & 255, line[0] >> 8 & 15, line[0] >> 12 & 15, line[0] >> 16
    low, data = line[1], line[_HEAD_WORDS:]
    if opcode != _CONFIGURE and opcode not in _BY_OPCODE:
        raise ValueError(f"opcode must be a known one, not {opcode:#04x}")
    if version != VERSION:
        raise ValueError(f"version must be {VERSION}, not {version}")
    if opcode == _CONFIGURE:
        first, count = low & 255, low >> 8
        if engine >= len(ENGINES):
            raise ValueError(f"engine must be in 0..{len(ENGINES) - 1}, not {engine}")
        if not 1 <= count <= _DATA_WORDS or first + count > REGISTERS:
            raise ValueError(f"registers must be 1 to {_DATA_WORDS} below {REGISTERS}, not {count} from {first}")
        _zero(data[count:])
        registers[ENGINES[engine]][first : first + count] = data[:count]
        return None
    kind = _BY_OPCODE[opcode]
    if issubclass(kind, Operation):
        if kind.dataflow not in dataflows:
            raise ValueError(f"dataflows must hold {kind.dataflow} for {kind.__name__}, not {', '.join(dataflows)}")
        number = ENGINES.index(kind.engine)
        if engine != number:
            raise ValueError(f"engine must be {number}, not {engine}")
        pop, push = low & 15, low >> 4 & 15
        _zero([*data, low >> 8, (pop | push) >> number & 1])
        tokens = {
            name: tuple(engine for index, engine in enumerate(ENGINES) if mask >> index & 1)
            for name, mask in (("pop", pop), ("push", push))
        }
        return kind(tag=tag, **tokens, **_unpack(kind, registers[kind.engine], dataflows))
    _zero([engine, low])
    if kind is Loop:
        turns, count = data[0] & 0xFFFF, data[0] >> 16
        if count > Loop.STEPS:
            raise ValueError(f"steps must be at most {Loop.STEPS}, not {count}")
        _zero(data[1 + count :])
        operands = [Operand.decode(word) for word in data[1 : 1 + count]]
        half = 1 << 28
        steps = tuple(Step(one.region, (one.offset ^ half) - half) for one in operands)
        return Loop(tag=tag, turns=turns, steps=steps)
    slots = layout(kind)
    own = slots[-1].word + 1 if slots else 0
    _zero(data[own:])
    return kind(tag=tag, **_unpack(kind, data[:own], dataflows))


def _zero(words: Sequence[int]) -> None:
    if any(words):
        raise ValueError("reserved bits must be 0")


def table(kind: type[Command]) -> str:
    """The fields of a kind of command as a table of Markdown, as ``docs/machine.md`` shows them."""
    rows = ["| register | bits | field | meaning |", "|---|---|---|---|"]
    for slot in layout(kind, DATAFLOWS):
        bits = f"{slot.low + slot.width - 1}:{slot.low}" if slot.width > 1 else f"{slot.low}"
        choices = (
            "; " + ", ".join(f"{number} {name}" for number, name in enumerate(slot.kind))
            if isinstance(slot.kind, tuple)
            else ""
        )
        sign = ", signed" if slot.signed else ""
        rows.append(f"| {slot.word} | {bits} | `{slot.name}` | {slot.help}{sign}{choices} |")
    return "\n".join(rows)
