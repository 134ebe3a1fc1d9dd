"""The interpreter: runs a program on a memory image by the rules of the units, nothing clocked.

It carries out commands in the order of the program, one after the other. What it leaves in memory is what every
executor must leave, for a program that `golden.machine.hazards` accepts.

Words: a *bank* holds the groups of one row of the array; the *link* carries groups up to the core and joint vectors
down. Source: ``docs/machine.md``, ``docs/numerics.md`` (section 7) and ``docs/closed-loop.md``.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from golden import formats
from golden.machine import image
from golden.machine.command import (
    ENGINES,
    REGISTERS,
    UNIT_BYTES,
    Accumulate,
    Align,
    Coefficients,
    Combine,
    Command,
    Emit,
    End,
    LoadGroups,
    LoadScales,
    LoadWeights,
    Loop,
    Multiply,
    Operand,
    Operation,
    Rows,
    Stop,
    decode,
)
from golden.parameters import POISONED_GROUP, ZERO_GROUP, Parameters
from golden.units import norm, softmax
from golden.units.channel_scale import channel_scale
from golden.units.closed_loop import accumulate, activation_max, align, emit, functions
from golden.units.combine import PLACES_MAX, SPREAD, Factors, combine, multiply
from golden.units.delta_compressor import cost, delta_compressor
from golden.units.delta_decompressor import delta_decompressor
from golden.units.delta_group import DeltaGroups
from golden.units.delta_quantizer import quantise_passes
from golden.units.joint_stream import JointGroups, JointStream
from golden.units.near_memory_engine import poison_code, poisoned_state, state_magnitude_max
from golden.units.norm import Affine, affine, coefficients, normalise
from golden.units.sign_mask import mask_codes, sign_mask

CHIP_REGION = 7
"""Region of the RAM on the chip; all others are in memory."""

_MOVED_MAX = 2**31 - 1
_LOST = 1 << 40
"""A move that left 32 bits: past every limit, whatever comes."""

_SCALE_MAX = 220
_TOTAL_LIMIT, _SQUARE_LIMIT = 1 << 55, 1 << 80
"""What sums of a statistics set stay below."""
_POISONED_RECORD = -256
"""Scale of a record that poisons what it takes part in."""


class MachineError(ValueError):
    """A program that the machine does not finish.

    Members
    -------
    cause : str
        One of `golden.machine.registers.CAUSES`.
    position : int
        Number of the command in the program.
    tag : int
        Of the command.
    command : Command or None
        The command, where the interpreter knows it.
    """

    def __init__(self, cause: str, sentence: str, position: int = -1, tag: int = 0, command: Command | None = None):
        super().__init__(f"Command {position} (tag {tag:#06x}): {sentence}")
        self.cause, self.sentence, self.position, self.tag, self.command = cause, sentence, position, tag, command


@dataclasses.dataclass
class Region:
    """Where a region lies, in units of memory: its first one and how many."""

    base: int = 0
    limit: int = 0


@dataclasses.dataclass
class _Turn:
    """A loop under way."""

    begin: int
    left: int
    command: Loop
    moved: list[int]


@dataclasses.dataclass(frozen=True, eq=False)
class _Tile:
    """Groups of a tile on their way down, vector by vector, and of how many passes."""

    groups: DeltaGroups
    sent: int


class Accelerator:
    """A machine with its memory.

    Parameters
    ----------
    parameters : Parameters
        Of the machine: weights are aligned, states fixed-point, exponents chosen by group.
    memory : int
        Bytes of memory.
    chip : int
        Bytes of RAM on the chip.

    Members
    -------
    memory, chip : uint8 arrays
        What they hold.
    regions : list of Region
        The eight.
    counters : Counter
        See `docs/machine.md`, counters; and what the hardware does not count: ``link_group_bits`` and
        ``link_output_bits``, what crosses the link as streams of deltas, each line and each tile once; of the
        dataflow sign_mask ``chain_groups``, ``chain_zero_groups``, ``chain_replays``, ``chain_group_bits``, what
        products send as groups, ``chain_mask_bits``, the masks that loads read of it, and ``chain_flips``.
    status : dict of str to bool
        Sticky ``overflow`` and ``poisoned``.
    access : callable, optional
        Called for every access of an operation with the name of what is accessed (``memory``, ``chip``, ``bank``,
        ``weights``), the places in it, and whether they are written.

    Raises
    ------
    ValueError
        If the parameters are those of a machine without a closed loop.
    """

    def __init__(self, parameters: Parameters, memory: int, chip: int = 0):
        parameters.check_closed_loop()
        self.parameters = parameters
        self.memory = np.zeros(memory, np.uint8)
        self.chip = np.zeros(chip, np.uint8)
        self.regions = [Region() for _ in range(8)]
        self.counters: collections.Counter[str] = collections.Counter()
        self.status = {"overflow": False, "poisoned": False}
        self.access: Callable[[str, np.ndarray, bool], None] | None = None
        self._slots: dict[bytes, DeltaGroups] = {}  # what streams decode to, of those that were made here
        self._reset()

    def _reset(self) -> None:
        """What a start forgets."""
        p = self.parameters
        self._registers = {engine: [0] * REGISTERS for engine in ENGINES}
        self._tokens: collections.Counter[tuple[str, str]] = collections.Counter()
        self._banks = [DeltaGroups.zeros(p.rows * p.group_buffer, p) for _ in range(2)]
        self._weights = np.zeros((2, p.weight_buffer, p.lanes), np.int64)
        self._scales = np.zeros((2, p.weight_buffer), np.int64)
        self._up: collections.deque[DeltaGroups] = collections.deque()
        self._down: collections.deque[JointGroups | _Tile] = collections.deque()
        self._factors_held = np.zeros((2, p.scale_buffer, p.lanes), np.uint16)  # factors, shifts
        self._collected: tuple[tuple[int, int, int], np.ndarray, np.ndarray] | None = None
        self._moved = [0] * 8

    # Memory ---------------------------------------------------------------------------------------------------------

    def _span(self, operand: Operand, begin: int, size: int, *, write: bool = False) -> np.ndarray:
        """View of bytes of a region."""
        start = self._offset(operand, begin, size)
        self._touch(self._place(operand), np.arange(start, start + size), write)
        return self._bytes(operand)[start : start + size]

    def _touch(self, name: str, places: np.ndarray, write: bool) -> None:
        if self.access is not None:
            self.access(name, places, write)

    @staticmethod
    def _place(operand: Operand) -> str:
        return "chip" if operand.region == CHIP_REGION else "memory"

    def _bytes(self, operand: Operand) -> np.ndarray:
        return self.chip if operand.region == CHIP_REGION else self.memory

    def _offset(self, operand: Operand, begin: int, size: int, *, moves: bool = True) -> int:
        region = self.regions[operand.region]
        first = (operand.offset + moves * self._moved[operand.region]) * UNIT_BYTES + begin
        if first < 0 or begin < 0 or first + size > region.limit * UNIT_BYTES:
            raise MachineError(
                "region",
                f"bytes {first}..{first + size - 1} must lie in region {operand.region} of {region.limit} units",
            )
        start = region.base * UNIT_BYTES + first
        if start + size > len(self._bytes(operand)):
            raise MachineError("bus", f"bytes from {start} on must lie in memory")
        return start

    def _records(self, operand: Operand, indices: np.ndarray, size: int) -> np.ndarray:
        """Places of records of a region: int64 (records, size)."""
        indices = np.asarray(indices, np.int64)
        if not indices.size:
            return np.zeros((0, size), np.int64)
        low, high = int(indices.min()), int(indices.max())
        start = self._offset(operand, low * size, (high - low + 1) * size)
        return start + (indices[:, None] - low) * size + np.arange(size)

    def _read_vectors(self, operand: Operand, indices: np.ndarray, flow: str) -> np.ndarray:
        size = image.vector_bytes(self.parameters)
        places = self._records(operand, indices, size)
        self._touch(self._place(operand), places, False)
        self._count(operand, f"{flow}_read", places.size)
        return image.unpack_vectors(self._bytes(operand)[places], self.parameters)

    def _write_vectors(self, operand: Operand, indices: np.ndarray, vectors: np.ndarray, flow: str) -> None:
        size = image.vector_bytes(self.parameters)
        places = self._records(operand, indices, size)
        self._touch(self._place(operand), places, True)
        self._count(operand, f"{flow}_written", places.size)
        self._bytes(operand)[places] = image.pack_vectors(vectors, self.parameters)

    def _entries(self, operand: Operand, begin: int, count: int) -> np.ndarray:
        data = self._span(operand, begin * image.ENTRY_BYTES, count * image.ENTRY_BYTES)
        self._count(operand, "tables_read", data.size)
        return image.unpack_entries(data)

    def _count(self, operand: Operand, flow: str, size: int) -> None:
        self.counters[f"{self._place(operand)}_{flow}"] += int(size)

    def read_tensor(self, operand: Operand, positions: int, channels: int) -> np.ndarray:
        """Elements of a state: int64 (positions, channels)."""
        return self._elements(operand, 0, positions, channels)

    def write_tensor(self, operand: Operand, values: np.ndarray) -> None:
        """Write the elements of a whole state, int (positions, channels)."""
        vectors = image.vectors_of(values, self.parameters.lanes)
        self._write_vectors(operand, np.arange(len(vectors)), vectors, "states")

    # Control --------------------------------------------------------------------------------------------------------

    def run(
        self, program: Operand, commands: int, *, watch: Callable[[int, Command], None] | None = None
    ) -> "collections.Counter[str]":
        """Run a program to its end.

        Parameters
        ----------
        program : Operand
            Its first command.
        commands : int
            How many it has at most.
        watch : callable
            Called with the position of every command that was carried out, and the command.

        Returns
        -------
        Counter
            `counters`, of all runs.

        Raises
        ------
        MachineError
            At the first command that cannot be carried out; memory keeps what was written before it.
        """
        self._reset()
        position, turns = 0, []
        command: Command | None = None
        try:
            while True:
                command = None
                if position >= commands:
                    raise MachineError("command", f"the program must end within {commands} commands")
                start = self._offset(program, position * UNIT_BYTES, UNIT_BYTES, moves=False)
                words = self._bytes(program)[start : start + UNIT_BYTES].view("<u4").tolist()
                self.counters["commands"] += 1
                try:
                    command = decode(words, self._registers, self.parameters.dataflows)
                except ValueError as error:
                    raise MachineError("command", str(error), position, words[0] >> 16) from None
                if isinstance(command, Operation):
                    self._carry_out(command)
                if watch is not None and command is not None:
                    watch(position, command)
                if isinstance(command, Stop):
                    if turns:
                        raise MachineError("command", "a stop must not be inside a loop")
                    return self.counters
                position = self._next(position, command, turns)
        except MachineError as error:
            tag = command.tag if command is not None else error.tag
            raise MachineError(error.cause, error.sentence, position, tag, command) from None
        finally:
            self._moved = [0] * 8

    def _carry_out(self, operation: Operation) -> None:
        self._take(operation)
        carry_out: dict[type[Operation], Callable[[Any], None]] = {
            LoadWeights: self._load_weights,
            LoadGroups: self._load_groups,
            LoadScales: self._load_scales,
            Multiply: self._multiply,
            Accumulate: self._accumulate,
            Combine: self._combine,
            Coefficients: self._coefficients,
            Emit: self._emit,
            Align: self._align,
            Rows: self._rows,
        }
        carry_out[type(operation)](operation)
        for engine in operation.push:
            self._tokens[operation.engine, engine] += 1
        self.counters[f"{operation.engine}_operations"] += 1

    def _take(self, operation: Operation) -> None:
        for engine in operation.pop:
            if not self._tokens[engine, operation.engine]:
                raise MachineError("token", f"a token of {engine} must have been pushed to {operation.engine} before")
            self._tokens[engine, operation.engine] -= 1

    def _next(self, position: int, command: Command | None, turns: list[_Turn]) -> int:
        """Position of the command to come."""
        if isinstance(command, Loop):
            if len(turns) == Loop.DEPTH:
                raise MachineError("command", f"loops must nest at most {Loop.DEPTH} deep")
            turns.append(_Turn(position + 1, command.turns - 1, command, list(self._moved)))
        if isinstance(command, End):
            if not turns:
                raise MachineError("command", "an end must close a loop")
            turn = turns[-1]
            if turn.left:
                turn.left -= 1
                for step in turn.command.steps:
                    moved = self._moved[step.region] + step.stride
                    self._moved[step.region] = moved if abs(moved) <= _MOVED_MAX else _LOST
                return turn.begin
            self._moved = turns.pop().moved
        return position + 1

    @staticmethod
    def _field(holds: bool, sentence: str) -> None:
        if not holds:
            raise MachineError("field", sentence)

    def _sound(self, holds: bool, sentence: str, cause: str = "damaged") -> None:
        """A rule of what memory holds; those of fields alone are `_field`."""
        if not holds:
            raise MachineError(cause, sentence)

    def _has(self, function: str, what: str) -> None:
        """Refuse what the machine was built without."""
        functions = self.parameters.functions
        held = ", ".join(functions) or "none"
        self._field(function in functions, f"functions must hold {function} for {what}, not {held}")

    def _fit(self, c: LoadWeights | LoadScales, records: int) -> None:
        """Refuse a load of nothing, or of more than its buffer holds."""
        self._field(c.records > 0, "records must be at least 1")
        if c.at + c.records > records:
            raise MachineError("buffer", f"records must end at {records}, not at {c.at + c.records}")

    # Load -----------------------------------------------------------------------------------------------------------

    def _load_weights(self, c: LoadWeights) -> None:
        p = self.parameters
        size = image.weight_bytes(p)
        self._fit(c, p.weight_buffer)
        data = self._span(c.source, c.skip * size, c.records * size).reshape(-1, size)
        weights, scale = image.unpack_weights(data, p)
        beyond = (np.abs(scale) > _SCALE_MAX) & (scale != _POISONED_RECORD)
        self._sound(not beyond.any(), f"scale of a record must be in -{_SCALE_MAX}..{_SCALE_MAX}")
        where = slice(c.at, c.at + c.records)
        self._weights[int(c.half), where], self._scales[int(c.half), where] = weights, scale
        self._touch("weights", np.arange(c.at, c.at + c.records) + c.half * p.weight_buffer, True)
        self._count(c.source, "weights_read", data.size)

    def _load_scales(self, c: LoadScales) -> None:
        p = self.parameters
        size = image.scale_bytes(p)
        self._fit(c, p.scale_buffer)
        data = self._span(c.source, 0, c.records * size)
        self._factors_held[:, c.at : c.at + c.records] = image.unpack_scales(data.reshape(-1, size), p)
        self._touch("scales", np.arange(c.at, c.at + c.records), True)
        self._count(c.source, "tables_read", data.size)

    def _load_groups(self, c: LoadGroups) -> None:
        p = self.parameters
        rows, sent, slots = c.rows + 1, c.sent + 1, c.passes + 1
        self._field(rows <= p.rows, f"rows must be at most {p.rows}, not {rows}")
        self._field(sent <= slots, f"sent must be at most passes, not {sent} of {slots}")
        self._field(c.lines > 0 and c.width > 0 and c.groups > 0, "lines, width and groups must be at least 1")
        self._field(not c.masked or (c.groups == 1 and not c.link), "masked groups must be 1 a position, of a spool")
        end = c.first + c.groups * slots
        self._field(end <= c.pitch, f"groups of a position must end at its pitch {c.pitch}, not at {end}")
        line = c.left + c.width * c.repeat + c.right
        last = c.at + (c.lines * line - 1) * c.pitch + end
        if last > p.group_buffer:
            raise MachineError("buffer", f"groups must end at address {p.group_buffer}, not at {last}")
        taken = self._lines_of_link(c, sent) if c.link else None
        found: dict[tuple[int, int], DeltaGroups] = {}
        bank = self._banks[int(c.half)]
        for row in range(rows):
            # the addresses of this piece: zero groups wherever nothing is put below
            place = c.at + (np.arange(c.lines)[:, None] * line + np.arange(line)) * c.pitch + c.first
            everywhere = row * p.group_buffer + place[..., None] + np.arange(c.groups * slots)
            self._put(bank, everywhere.ravel(), DeltaGroups.zeros(everywhere.size, p))
            self._touch("bank", everywhere.ravel() + c.half * p.rows * p.group_buffer, True)
            for number in range(c.lines):
                y = c.line + row * c.line_step + number
                if not 0 <= y < c.height * c.repeat:
                    continue
                # Strips share their lines, which are read once; samples have lines of their own.
                line_of = (0 if c.link or not c.slot_step else row, y // c.repeat)
                if line_of not in found:
                    slot = c.skip + row * c.slot_step + y // c.repeat
                    groups = taken[y // c.repeat] if taken is not None else self._slot(c, slot, sent)
                    found[line_of] = self._vectors_of(c, groups, slot, sent, slots)
                columns = c.left + np.arange(c.width * c.repeat)
                source = (np.arange(c.width * c.repeat) // c.repeat)[:, None] * c.groups * slots
                source = source + np.arange(c.groups * slots)
                target = row * p.group_buffer + place[number, columns][:, None] + np.arange(c.groups * slots)
                self._put(bank, target.ravel(), found[line_of][source.ravel()])

    def _vectors_of(self, c: LoadGroups, groups: DeltaGroups, slot: int, sent: int, slots: int) -> DeltaGroups:
        """Groups of a line as they lie in a bank, so many addresses for each vector, behind their masks."""
        p = self.parameters
        vector = (np.cumsum(~groups.replay) - 1) // sent
        number = np.arange(len(groups)) - np.searchsorted(vector, vector)
        if number.max(initial=0) >= slots:
            raise MachineError("buffer", f"groups of a vector must be at most {slots}, not {int(number.max()) + 1}")
        if c.masked:
            size = image.sign_bytes(p)
            data = self._span(c.signs, slot * c.width * size, c.width * size)
            self._count(c.signs, "tables_read", data.size)
            self.counters["chain_mask_bits"] += c.width * p.lanes
            groups = sign_mask(groups, image.unpack_signs(data.reshape(-1, size), p)[vector], p)
        filled = DeltaGroups.zeros(c.width * c.groups * slots, p)
        self._put(filled, vector * slots + number, groups)
        return filled

    @staticmethod
    def _put(bank: DeltaGroups, addresses: np.ndarray, groups: DeltaGroups) -> None:
        for field in dataclasses.fields(DeltaGroups):
            getattr(bank, field.name)[addresses] = getattr(groups, field.name)

    def _lines_of_link(self, c: LoadGroups, sent: int) -> dict[int, DeltaGroups]:
        """The next lines that the link brings, by number."""
        count = c.width * c.groups * sent
        lines = {}
        for number in range(c.height):
            if not self._up:
                raise MachineError("starved", "the link must bring the groups that are loaded")
            lines[number] = self._up.popleft()
            self._field(len(lines[number]) == count, f"a line of the link must have {count} groups")
        return lines

    def _slot(self, c: LoadGroups, slot: int, sent: int) -> DeltaGroups:
        p = self.parameters
        count = c.width * c.groups * sent
        begin = slot * c.slot * UNIT_BYTES
        if p.replays and p.link_form == "direct":
            return self._records_of_slot(c, slot, count)
        if p.link_form == "direct":
            size = image.group_bytes(p)
            data = self._span(c.source, begin, count * size)
            self._count(c.source, "spools_read", data.size)
            return self._checked(image.unpack_groups(data.reshape(-1, size), p))
        length = int(self._entries(c.lengths, slot, 1)[0])
        width = p.link_width // 8
        if not 0 < length <= c.slot * UNIT_BYTES or length % width:
            raise MachineError("damaged", f"length of a slot must fit it, in words of {width} bytes, not {length}")
        data = self._span(c.source, begin, length)
        self._count(c.source, "spools_read", data.size)
        raw = data.tobytes()
        groups = self._slots.get(raw)
        if groups is None:
            words = [int.from_bytes(raw[at : at + width], "little") for at in range(0, length, width)]
            decoded = delta_decompressor(words, p, passes=sent)
            groups = decoded.groups
            if decoded.error or (groups.outlier_valid & ~formats.is_finite(groups.outlier_value)).any():
                raise MachineError("damaged", "a slot must hold a sound stream of finite outliers")
        found = len(groups) - int(groups.replay.sum())
        if found != count:
            raise MachineError("damaged", f"a slot must hold {count} groups, not {found}")
        return groups

    def _records_of_slot(self, c: LoadGroups, slot: int, count: int) -> DeltaGroups:
        """Groups of the direct form where some may be replay groups."""
        p = self.parameters
        size = image.group_bytes(p)
        length = int(self._entries(c.lengths, slot, 1)[0])
        if not 0 < length <= c.slot * UNIT_BYTES or length % size:
            raise MachineError("damaged", f"length of a slot must fit it, in records of {size} bytes, not {length}")
        data = self._span(c.source, slot * c.slot * UNIT_BYTES, length)
        self._count(c.source, "spools_read", data.size)
        groups = self._checked(image.unpack_groups(data.reshape(-1, size), p))
        found = len(groups) - int(groups.replay.sum())
        if found != count or groups.replay[0]:
            raise MachineError("damaged", f"a slot must hold {count} groups, not {found}")
        return groups

    def _checked(self, groups: DeltaGroups) -> DeltaGroups:
        """Groups of the direct form; a record that is no group by numerics 2 is refused."""
        p = self.parameters
        code = groups.exponent
        bare = code >= ZERO_GROUP
        wrong = (code > 42 - p.digit_width) & ~bare
        wrong |= (np.abs(groups.digits.astype(np.int64)) > p.digit_max).any(axis=1)
        empty = ~groups.digits.any(axis=1) & ~groups.outlier_valid.any(axis=1)
        wrong |= bare != empty
        wrong |= groups.replay & (bare | groups.digits.any(axis=1))
        if p.outliers:
            valid, lane = groups.outlier_valid, groups.outlier_lane.astype(np.int64)
            wrong |= (~valid[:, :-1] & valid[:, 1:]).any(axis=1) | (valid & (lane >= p.lanes)).any(axis=1)
            wrong |= (~valid & ((lane != 0) | (groups.outlier_value != 0))).any(axis=1)
            wrong |= (valid[:, 1:] & (lane[:, 1:] <= lane[:, :-1])).any(axis=1)
            rows = np.arange(len(groups))[:, None]
            digits = groups.digits[rows, np.minimum(lane, p.lanes - 1)]
            wrong |= (valid & ((digits != 0) | ~formats.is_finite(groups.outlier_value))).any(axis=1)
        if wrong.any():
            raise MachineError("damaged", f"a record must be a group, not as the one number {int(np.argmax(wrong))}")
        return groups

    # Multiply -------------------------------------------------------------------------------------------------------

    def _multiply(self, c: Multiply) -> None:
        p = self.parameters
        rows, slots = c.rows + 1, c.passes + 1
        positions, taps = c.lines * c.columns, c.kernel_lines * c.kernel_columns
        self._field(rows <= p.rows, f"rows must be at most {p.rows}, not {rows}")
        self._field(c.channels > 0 and positions > 0 and taps > 0 and c.groups > 0, "loops must have a turn")
        last = c.first + c.channels
        self._field(
            last <= c.collected <= p.lanes,
            f"channels must end within collected and {p.lanes}, not {last} of {c.collected}",
        )
        words = positions * -(-c.collected // p.columns)
        self._field(words <= p.tile_words, f"sums of a column must be at most {p.tile_words}, not {words}")
        self._field(c.floor <= 42 - p.digit_width, f"floor must be at most {42 - p.digit_width}, not {c.floor}")

        place = c.at + np.arange(c.lines)[:, None] * c.line_pitch + np.arange(c.columns) * c.column_pitch
        tap = np.arange(c.kernel_lines)[:, None] * c.kernel_pitch + np.arange(c.kernel_columns) * c.tap_pitch
        inner = tap.ravel()[:, None] + np.arange(c.groups) * slots
        addresses = place.ravel()[:, None, None, None] + inner[:, :, None] + np.arange(slots)
        addresses = addresses.reshape(positions, -1)
        if addresses.max() >= p.group_buffer:
            raise MachineError("buffer", f"addresses must be below {p.group_buffer}, not {int(addresses.max())}")
        records = taps * c.groups
        channel = np.arange(c.channels)
        block = channel // p.columns * p.columns
        size = np.minimum(p.columns, c.channels - block)
        index = (
            c.weights_at + block[:, None] * records + np.arange(records) * size[:, None] + (channel - block)[:, None]
        )
        if index.max() >= p.weight_buffer:
            raise MachineError("buffer", f"records must be below {p.weight_buffer}, not {int(index.max())}")
        if c.leaves == "groups" and c.leave:
            self._check_chain(c, rows)
        key = (rows, positions, c.collected)
        same = self._collected is None or self._collected[0] == key
        self._field(same, "what leaves together must be of the same positions and rows")
        where = (np.arange(rows)[:, None, None] * p.group_buffer + addresses).reshape(rows * positions, -1)
        bank = self._banks[int(c.half)]
        self._touch("bank", where.ravel() + c.half * p.rows * p.group_buffer, False)
        self._touch("weights", index.ravel() + c.weights_half * p.weight_buffer, False)
        weights = np.repeat(self._weights[int(c.weights_half)][index], slots, axis=1)
        scale = np.repeat(self._scales[int(c.weights_half)][index], slots, axis=1)
        lost_records = scale == _POISONED_RECORD  # they add 0
        weights = np.where(lost_records[:, :, None], 0, weights)
        terms = self._terms(bank, where, weights, np.where(lost_records, 0, scale))
        poisoned = (bank.exponent[where] == POISONED_GROUP).any(axis=1)[:, None]
        poisoned = poisoned | lost_records.any(axis=1)
        sums = self._summed(terms)
        self._count_groups(bank, where, rows, c.channels)
        if self._collected is None:
            shape = rows * positions, c.collected
            self._collected = (key, np.zeros(shape, object), np.zeros(shape, np.bool_))
        _, collected, lost = self._collected
        collected[:, c.first : last], lost[:, c.first : last] = sums, poisoned
        if not c.leave:
            return
        self._collected = None
        if c.leaves == "groups":
            self._down.append(self._chained(c, collected, lost))
            return
        sums = collected if p.accumulator_width > 62 else collected.astype(np.int64)
        sums, lost = np.where(lost, 0, sums).reshape(rows, -1), lost.reshape(rows, -1)
        padding = -sums.shape[1] % p.lanes
        sums = np.pad(sums, ((0, 0), (0, padding))).reshape(-1, p.lanes)
        lost = np.pad(lost, ((0, 0), (0, padding))).reshape(-1, p.lanes).any(axis=1)
        stream = JointStream(p, p.joint_width, c.floor)
        groups, overflow = stream.quantise(sums, c.unit - 24, lost)
        self._raise(overflow=overflow, poisoned=bool(lost.any()))
        self._down.append(groups)
        self.counters["link_outputs"] += len(groups)
        self.counters["link_output_bits"] += stream.bits(groups)

    def _check_chain(self, c: Multiply, rows: int) -> None:
        """Rules of a product whose outputs leave as groups."""
        p = self.parameters
        self._field(c.collected == p.lanes, f"collected must be {p.lanes} for groups, not {c.collected}")
        fits = not c.static or p.exponent_policy == "layer"
        self._field(fits, "static must be false with exponent_policy group, not true")
        self._field(not c.static or p.replays or not c.sent, "sent must be 0 where a saturated lane leaves no residual")
        last = c.scales + (rows - 1) * c.scales_step
        if last >= p.scale_buffer:
            raise MachineError("buffer", f"scales must be below {p.scale_buffer}, not {last}")
        self._touch("scales", c.scales + np.arange(rows) * c.scales_step, False)

    def _chained(self, c: Multiply, sums: np.ndarray, lost: np.ndarray) -> _Tile:
        """A tile's outputs as delta groups, row by row."""
        p = self.parameters
        rows, positions = c.rows + 1, c.lines * c.columns
        record = np.repeat(c.scales + np.arange(rows) * c.scales_step, positions)
        factors, shifts = self._factors_held[:, record]
        scaled = channel_scale(np.where(lost, 0, sums), lost, factors, c.unit - 24, p, shift=shifts)
        found = quantise_passes(
            scaled.values, p, c.sent + 1, floor=c.floor, by_group=not c.static, exponent=c.floor if c.static else 0
        )
        self._raise(overflow=scaled.status["overflow"] or found.status["saturated"], poisoned=found.status["poisoned"])
        groups = found.groups
        self.counters["link_outputs"] += rows * positions
        self.counters["chain_groups"] += len(groups)
        self.counters["chain_zero_groups"] += int(groups.zero.sum())
        self.counters["chain_replays"] += int(groups.replay.sum())
        return _Tile(groups, c.sent + 1)

    def _terms(self, bank: DeltaGroups, where: np.ndarray, weights: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """What each group adds to each sum, rounded once: (positions, channels, groups)."""
        digits = bank.digits[where].astype(np.float64).transpose(1, 0, 2)
        inner = np.rint(digits @ weights.transpose(1, 2, 0).astype(np.float64)).astype(np.int64).transpose(1, 2, 0)
        code = np.where(bank.exponent[where] < ZERO_GROUP, bank.exponent[where], 0).astype(np.int64)[:, None, :]
        result = formats.round_shift(inner, 24 - code - scale)
        valid = bank.outlier_valid[where].any(axis=2)
        if valid.any():
            position, group = np.nonzero(valid)
            at = where[position, group]
            values = formats.half_to_fixed(bank.outlier_value[at]) * bank.outlier_valid[at]
            lanes = bank.outlier_lane[at]
            outer = sum(
                values[:, slot, None].astype(object) * weights[:, group, lanes[:, slot]].T
                for slot in range(self.parameters.outliers)
            )
            whole = inner[position, :, group].astype(object) * (1 << code[position, 0, group].astype(object))[:, None]
            rounded = formats.round_shift(whole + outer, 24 - scale[:, group].T)
            fits = all(abs(int(one)) < 2**62 for one in rounded.ravel())
            result = result if fits else result.astype(object)
            result[position, :, group] = rounded
        return result

    def _summed(self, terms: np.ndarray) -> np.ndarray:
        """Sums after every group, clamped to the accumulator after each."""
        width = self.parameters.accumulator_width
        low, high = -(2 ** (width - 1)), 2 ** (width - 1) - 1
        reach = np.abs(terms).astype(np.float64).sum(axis=2)
        if reach.max(initial=0) < min(high, 2.0**61):
            return terms.sum(axis=2)
        sums = np.zeros(terms.shape[:2], object)
        overflow = False
        for number in range(terms.shape[2]):
            total = sums + terms[:, :, number].astype(object)
            sums = np.minimum(np.maximum(total, low), high)
            overflow |= bool((sums != total).any())
        self._raise(overflow=overflow)
        return sums if width > 62 else sums.astype(np.int64)

    def _count_groups(self, bank: DeltaGroups, where: np.ndarray, rows: int, channels: int) -> None:
        zero = (bank.exponent[where] == ZERO_GROUP).reshape(rows, -1)
        self.counters["array_groups"] += zero.size * channels
        self.counters["array_zero_groups"] += int(zero.sum()) * channels
        self.counters["array_skipped"] += int(zero.all(axis=0).sum()) * -(-channels // self.parameters.columns)
        self.counters["array_addresses"] += zero.shape[1] * -(-channels // self.parameters.columns)

    def _raise(self, *, overflow: bool = False, poisoned: bool = False) -> None:
        self.status["overflow"] |= overflow
        self.status["poisoned"] |= poisoned

    # Near memory ----------------------------------------------------------------------------------------------------

    def _channels_of(self, indices: np.ndarray, channels: int) -> tuple[np.ndarray, np.ndarray]:
        """Channel and position of each lane of vectors of a tensor; channel -1 is padding: int64 (V, n) each."""
        n = self.parameters.lanes
        if channels >= n:
            of = -(-channels // n)
            channel = (indices % of)[:, None] * n + np.arange(n)
            position = np.broadcast_to((indices // of)[:, None], channel.shape)
            return np.where(channel < channels, channel, -1), position
        element = indices[:, None] * n + np.arange(n)
        return element % channels, element // channels

    def _add_sums(
        self,
        operand: Operand,
        records: np.ndarray,
        which: np.ndarray,
        before: np.ndarray,
        after: np.ndarray,
        fresh: bool,
    ) -> None:
        """Add what changed of elements (E,) to their records `which` (E,), all among `records` (R,), ascending."""
        p = self.parameters
        place = np.searchsorted(records, which)
        old, new = (np.where(poisoned_state(y, p), 0, y) for y in (before, after))
        total, square = np.zeros(records.size, np.int64), np.zeros(records.size, np.int64)
        poisoned = np.zeros(records.size, np.bool_)
        np.add.at(total, place, new - old)
        np.add.at(square, place, new * new - old * old)
        poisoned[place[poisoned_state(after, p)]] = True
        places = self._records(operand, records, image.SUM_BYTES)
        self._touch(self._place(operand), places, True)
        if not fresh:
            held = image.unpack_sums(self._bytes(operand)[places])
            total, square, poisoned = held.total + total, held.square + square, held.poisoned | poisoned
            self._count(operand, "sums_read", places.size)
        self._count(operand, "sums_written", places.size)
        self._bytes(operand)[places] = image.pack_sums(image.Sums(total, square & 2**63 - 1, poisoned))

    def _records_of_sums(self, c: Accumulate, begin: np.ndarray, which: np.ndarray, used: np.ndarray) -> np.ndarray:
        """Records that the vectors of an operation have, ascending; one may not come back after others.

        Parameters
        ----------
        begin : int64 (V,)
            Record 0 of each vector's row.
        which : int64 (V, n)
            Record of each element.
        used : bool (V, n)
            Elements that are no padding.
        """
        some, n = used.any(axis=1), self.parameters.lanes
        if c.summed == "channel" and c.channels < n:
            first = begin[some]
            last = first + c.channels - 1
        else:
            first = np.where(used, which, 2**62).min(axis=1)[some]
            last = np.where(used, which, -1).max(axis=1)[some]
        same = first[1:] == last[:-1]
        if c.summed == "channel":
            same = (first[1:] == first[:-1]) & (last[1:] == last[:-1])
        self._field(bool((same | (first[1:] > last[:-1])).all()), "records of sums must come in ascending order")
        every = first[:, None] + np.arange(n)
        return np.unique(every[every <= last[:, None]])

    def _accumulate(self, c: Accumulate) -> None:
        p = self.parameters
        rows, count = c.rows + 1, c.outer * c.inner
        self._field(rows <= p.rows, f"rows must be at most {p.rows}, not {rows}")
        self._field(count > 0, "loops must have a turn")
        self._field(c.floor <= 42 - p.digit_width, f"floor must be at most {42 - p.digit_width}, not {c.floor}")
        self._field(c.channels > 0, "channels must be at least 1")
        if not self._down:
            raise MachineError("starved", "the link must bring the vectors that are accumulated")
        groups = self._down.popleft()
        self._field(isinstance(groups, _Tile) == c.groups, "groups must say in which form the vectors come")
        if isinstance(groups, _Tile):
            self._field(not (c.biased or c.exchanged), "groups must have no bias, and not be exchanged")
            self._field(c.summed == "no", "groups must have no sums")
            self._field(c.start != "region" or not p.flip_repair, "start must not be region with flip_repair")
            delta, poisoned = self._kept(c, groups)
        else:
            delta = JointStream(p, p.joint_width, c.floor).fixed(groups)
            poisoned = np.repeat(groups.exponent[:, None] == POISONED_GROUP, p.lanes, axis=1)
        come = rows * count
        if c.exchanged:
            self._has("attention", "exchanged vectors")
            self._field(c.inner <= p.lanes, f"inner of exchanged vectors must be at most {p.lanes}, not {c.inner}")
            self._field(0 < c.tail <= p.lanes, f"tail must be in 1..{p.lanes}, not {c.tail}")
            come = rows * ((c.outer - 1) * p.lanes + c.tail)
        self._field(len(delta) == come, f"vectors that come must be those of the tile, {come}, not {len(delta)}")
        if c.exchanged:
            delta, poisoned = (
                self._transposed(one, rows)[:, : c.inner].reshape(-1, p.lanes) for one in (delta, poisoned)
            )
        row, vector = np.repeat(np.arange(rows), count), np.tile(np.arange(count), rows)
        index = c.first + row * c.row_step + vector // c.inner * c.outer_step + vector % c.inner * c.inner_step
        before = self._read_vectors(c.state, index, "states") if c.start == "add" else np.zeros_like(delta)
        base = self._read_vectors(c.origin, index, "states") if c.start == "region" else before
        bias: Any = 0
        if c.biased:
            self._field(c.bias_period > 0, "bias_period must be at least 1")
            entries = c.bias_first + vector % c.bias_period + row * c.bias_step
            places = self._records(c.bias, entries, p.lanes * image.ENTRY_BYTES)
            self._touch(self._place(c.bias), places, False)
            # what the vector before took is not read again
            self._count(c.bias, "tables_read", places[np.diff(entries, prepend=-1) != 0].size)
            bias = image.unpack_entries(self._bytes(c.bias)[places].ravel()).reshape(-1, p.lanes)
            limit = 2**p.state_width
            self._sound((np.abs(bias) < limit).all(), f"entries of a bias must be below {limit} in magnitude")
        channel, position = self._channels_of(index, c.channels)
        padding = (channel < 0) | (position >= c.positions)
        if c.summed != "no":
            begin = row * c.sums_step
            which = (channel if c.summed == "channel" else position) + begin[:, None]
            records = self._records_of_sums(c, begin, which, ~padding)
        after, status = accumulate(
            np.where(padding, 0, base),
            np.where(padding, 0, delta),
            p,
            bias=np.where(padding, 0, bias),
            poisoned=poisoned & ~padding,
        )
        self._raise(**status)
        self._write_vectors(c.state, index, after, "states")
        self.counters["accumulated"] += len(index)
        if c.groups:
            self._write_signs(c, index, before, after)
        if c.summed != "no":
            if c.start != "add":
                before = np.zeros_like(before)
            self._add_sums(c.sums, records, which[~padding], before[~padding], after[~padding], c.fresh)

    def _slots_of(self, c: Accumulate) -> np.ndarray:
        """Slot of each turn of the outer loop, row by row."""
        turns = c.place + np.arange(c.rows + 1)[:, None] * c.sums_step + np.arange(c.outer)
        return turns.ravel()

    def _kept(self, c: Accumulate, tile: _Tile) -> tuple[np.ndarray, np.ndarray]:
        """What the groups of a tile add to each vector, and where it is poisoned; its lines go to the spool."""
        groups = tile.groups
        vector = (np.cumsum(~groups.replay) - 1) // tile.sent
        come, count = (c.rows + 1) * c.outer * c.inner, int(vector[-1]) + 1
        self._field(count == come, f"vectors that come must be those of the tile, {come}, not {count}")
        total, lost = np.zeros((count, groups.lanes), np.int64), np.zeros(count, np.bool_)
        np.add.at(total, vector, groups.fixed())
        lost[vector[groups.poisoned]] = True
        for number, slot in enumerate(self._slots_of(c)):
            line = groups[vector // c.inner == number]
            self.counters["chain_group_bits"] += cost(line, self.parameters, passes=tile.sent).bits
            self._spool(c, int(slot), line, tile.sent)
        return total, np.repeat(lost[:, None], groups.lanes, axis=1)

    def _write_signs(self, c: Accumulate, index: np.ndarray, before: np.ndarray, after: np.ndarray) -> None:
        """Write the masks of vectors after an accumulation; with flip repair, what those that changed are worth."""
        p = self.parameters
        masks = mask_codes(after, p).astype(np.bool_)
        records = (self._slots_of(c)[:, None] * c.inner + np.arange(c.inner)).ravel()
        places = self._records(c.signs, records, image.sign_bytes(p))
        self._touch(self._place(c.signs), places, True)
        self._count(c.signs, "tables_written", places.size)
        self._bytes(c.signs)[places] = image.pack_signs(masks)
        lost = poisoned_state(before, p) | poisoned_state(after, p)
        flips = (mask_codes(before, p) != masks) & ~lost & (c.start == "add")
        self.counters["chain_flips"] += int(flips.sum())
        if p.flip_repair:
            self._write_vectors(c.origin, index, np.where(flips, np.abs(after), 0), "states")

    def _transposed(self, vectors: np.ndarray, rows: int) -> np.ndarray:
        """Blocks of n vectors of each row, transposed: (blocks, n, n)."""
        n = self.parameters.lanes
        each = vectors.reshape(rows, -1, n)
        each = np.pad(each, ((0, 0), (0, -each.shape[1] % n), (0, 0)))
        return each.reshape(-1, n, n).swapaxes(1, 2)

    def _combine(self, c: Combine) -> None:
        p = self.parameters
        self._field(1 <= c.terms <= 3, f"terms must be in 1..3, not {c.terms}")
        self._field(c.form == "sum" or c.terms == 2, "a product must have two terms")
        self._field(c.vectors > 0 and c.channels > 0, "vectors and channels must be at least 1")
        self._field(c.terms == 1 or c.function != "softmax", "a softmax must be that of an emission")
        if c.terms > 1 and c.function not in ("identity", "relu"):
            self._has("tables", c.function)
        index = np.arange(c.vectors)
        channel, position = self._channels_of(index, c.channels)
        padding = channel < 0
        states, factors = [], []
        for number in range(1, c.terms + 1):
            y = self._read_vectors(getattr(c, f"source{number}"), index, "states")
            lost = poisoned_state(y, p)
            y, lost = np.where(lost, 0, y), lost & ~padding
            if number == 2 and c.permuted:
                self._field(p.lanes % 2 == 0 and c.channels % 2 == 0, "channels of a rotation must be even")
                y, lost = (one.reshape(len(one), -1, 2)[:, :, ::-1].reshape(len(one), -1) for one in (y, lost))
            if number == 2 and c.function != "identity":
                y, clamped = formats.clamp(functions(c.function, y, c.middle, c.result), activation_max(p))
                self._raise(overflow=clamped)
            states.append((np.where(padding, 0, y), lost))
            if c.form == "sum":
                kind = getattr(c, f"kind{number}")
                factors.append(self._factors(getattr(c, f"factor{number}"), kind, channel, position))
                if kind == "position" and c.summed == "channel" and c.channels >= p.lanes:
                    # By channels, positions come again for each vector of them.
                    again = (c.vectors - 1 - int(position.max())) * image.ENTRY_BYTES
                    self._count(getattr(c, f"factor{number}"), "tables_read", again)
        lost = functools.reduce(np.logical_or, (one for _, one in states))
        top = state_magnitude_max(p)
        if c.form == "sum":
            places = [factor.places for factor in factors]
            spread = max(places) - min(places)
            self._sound(spread <= SPREAD, f"places of two terms must differ by at most {SPREAD}, not {spread}", "field")
            after, overflow = combine([y for y, _ in states], factors, top)
        else:
            places = int(self._entries(c.factor1, 0, 1)[0])
            self._sound(-64 < places < 64, f"h must be in -63..63, not {places}", "field")
            after, overflow = multiply(states[0][0], states[1][0], places, top)
        if c.clamped:
            low, high = self._entries(c.limits, 0, 2).tolist()
            self._sound(-top <= low <= high <= top, "limits must be ordered and fit a state", "field")
            after = np.clip(after, low, high)
        after = np.where(padding, 0, np.where(lost, poison_code(p), after))
        self._raise(overflow=overflow, poisoned=bool(lost.any()))
        for target in (c.state, c.copy)[: 1 + c.copied]:
            self._write_vectors(target, index, after, "states")
        self.counters["combined"] += c.vectors
        if c.summed != "no":
            which, used = channel if c.summed == "channel" else position, channel >= 0
            records, zeros = np.unique(which[used]), np.zeros(used.sum(), np.int64)
            self._add_sums(c.sums, records, which[used], zeros, after[used], c.fresh)

    def _factors(self, operand: Operand, kind: str, channel: np.ndarray, position: np.ndarray) -> Factors:
        """A table of factors: h, then a for each channel, position or element."""
        if kind == "channel" and int(channel.max()) >= self.parameters.norm_buffer:
            most = self.parameters.norm_buffer
            raise MachineError("buffer", f"channels of a table must be at most {most}, not {int(channel.max()) + 1}")
        which = {"one": np.zeros((), np.int64), "channel": np.maximum(channel, 0), "position": position}.get(
            kind, np.arange(channel.size).reshape(channel.shape)
        )
        places, *_ = table = self._entries(operand, 0, 2 + int(which.max()))
        self._sound(0 <= places <= PLACES_MAX, f"h must be in 0..{PLACES_MAX}, not {places}", "field")
        self._sound((np.abs(table[1:]) <= norm.FACTOR_MAX).all(), "factors must be below 2^17 in magnitude", "field")
        return Factors(table[1:][which], int(places))

    def _coefficients(self, c: Coefficients) -> None:
        self._field(c.sets > 0 and c.size > 0 and c.count > 0, "sets, size and count must be at least 1")
        self._field(-8 <= c.shift <= 8, f"shift must be in -8..8, not {c.shift}")
        records = c.sets * c.size
        first = min(records, c.records1)
        parts = []
        for operand, count in ((c.sums1, first), (c.sums2, records - first)):
            data = self._span(operand, 0, count * image.SUM_BYTES) if count else np.zeros(0, np.uint8)
            self._count(operand, "sums_read", data.size)
            parts.append(image.unpack_sums(data.reshape(-1, image.SUM_BYTES)))
        of_second = (np.arange(records) >= first).reshape(c.sets, c.size)
        mixed = of_second.any(axis=1) & ~of_second.all(axis=1)
        # the finer of two units: elements of the other one count shifted
        places = np.where(mixed[:, None], np.where(of_second, max(c.shift, 0), max(-c.shift, 0)), 0)
        total, square, poisoned = (
            np.concatenate([getattr(part, name) for part in parts]).reshape(c.sets, c.size)
            for name in ("total", "square", "poisoned")
        )
        total = (total.astype(object) << places).sum(axis=1)
        square = (square.astype(object) << 2 * places).sum(axis=1)
        fits = (-_TOTAL_LIMIT <= total) & (total < _TOTAL_LIMIT) & (square < _SQUARE_LIMIT)
        self._sound(fits.all(), "sums of a set must be below 2^55, and 2^80 for squares, in magnitude")
        floors = image.unpack_floors(self._span(c.floors, 0, c.sets * image.FLOOR_BYTES))
        self._count(c.floors, "sums_read", c.sets * image.FLOOR_BYTES)
        result = self._span(c.result, 0, c.sets * image.COEFFICIENT_BYTES, write=True)
        found = [
            coefficients(total[[number]], square[[number]], c.count, floors[number], unit=-c.unit, centred=c.centred)
            for number in range(c.sets)
        ]
        joined = norm.Coefficients(
            *(
                np.concatenate([getattr(one, name) for one in found]).astype(np.int64)
                for name in ("mean", "root", "exponent")
            )
        )
        roots = image.Roots(joined, mixed * abs(c.shift), np.full(c.sets, c.shift > 0), poisoned.any(axis=1))
        data = image.pack_coefficients(roots)
        result[:] = data.ravel()
        self._count(c.result, "tables_written", data.size)

    def _emit(self, c: Emit) -> None:
        p = self.parameters
        n, passes = p.lanes, c.passes + 1
        self._field(c.lines > 0 and c.width > 0 and c.channels > 0, "lines, width and channels must be at least 1")
        self._field(c.sent or c.written, "an emission must be sent or written")
        if c.function not in ("identity", "relu", "softmax"):
            self._has("tables", c.function)
        if c.function == "softmax" or (c.sent and (c.along == "positions" or c.segment)):
            self._has("attention", "a softmax, groups along positions and segments")
        x, lost = self._activated(c)
        if c.written:
            self._write_x(c, np.where(lost, poison_code(p), x))
        if not c.sent:
            return
        x = np.where(lost, poison_code(p), x)
        if c.along == "positions":
            self._field(c.line == 0, "groups along positions must be of a whole tensor")
            self._field(c.across > 0 and c.channels % c.across == 0, "across must divide channels")
            if len(x) > p.row_buffer:
                raise MachineError("buffer", f"positions must be at most {p.row_buffer} along them, not {len(x)}")
            x, lines = x.T, c.channels // c.across
        else:
            lines = c.lines
        segment = c.segment or x.shape[1]
        self._field(x.shape[1] % segment == 0, f"segment must divide {x.shape[1]}, not {segment}")
        vectors = x.reshape(len(x), -1, segment)
        vectors = np.pad(vectors, ((0, 0), (0, 0), (0, -segment % n))).reshape(-1, n)
        of = len(vectors) // len(x)
        index = c.line * c.width * of + np.arange(len(vectors))
        held = np.zeros_like(vectors) if c.start else self._read_vectors(c.held, index, "held")
        emitted = emit(vectors, held, p, passes, start=c.start, exact=c.exact)
        self._raise(poisoned=emitted.status["poisoned"])
        self._write_vectors(c.held, index, emitted.xhat, "held")
        self.counters["emitted"] += len(vectors)
        self.counters["link_groups"] += len(emitted.groups)
        self.counters["link_zero_groups"] += int(emitted.groups.zero.sum())
        size = len(emitted.groups) // lines
        for number in range(lines):
            self._send(c, c.line + number, emitted.groups[number * size : (number + 1) * size], passes)

    def _places(
        self, begin: int, count: int, channels: int, *, scores: bool = False
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Vectors of positions; which of their elements those are; vectors of a position, 0 if they run on."""
        n = self.parameters.lanes
        if channels >= n or scores:
            of = -(-channels // n)
            return begin * of + np.arange(count * of), np.arange(0), of
        low, high = begin * channels // n, -(-(begin + count) * channels // n)
        return np.arange(low, high), np.arange(begin * channels, (begin + count) * channels) - low * n, 0

    def _elements(self, operand: Operand, begin: int, count: int, channels: int, *, scores: bool = False) -> np.ndarray:
        """Positions of a state: int64 (count, channels)."""
        index, elements, of = self._places(begin, count, channels, scores=scores)
        y = self._read_vectors(operand, index, "states")
        return y.reshape(count, -1)[:, :channels] if of else y.ravel()[elements].reshape(count, channels)

    def _activated(self, c: Emit) -> tuple[np.ndarray, np.ndarray]:
        """x of every position and channel, and where it is poisoned."""
        p = self.parameters
        count = c.lines * c.width
        y = self._elements(c.state, c.line * c.width, count, c.channels, scores=c.function == "softmax")
        lost = poisoned_state(y, p)
        z = np.where(lost, 0, y)
        # Along positions their vectors come one by one: what is known of a position is read for each.
        times = -(-c.channels // p.lanes) if c.sent and c.along == "positions" else 1
        if c.normed:
            if c.channels > p.norm_buffer:
                raise MachineError("buffer", f"channels of a norm must be at most {p.norm_buffer}, not {c.channels}")
            if c.set_channels:
                which = (c.first + np.arange(c.channels)) // c.set_channels
            else:
                which = (c.line * c.width + np.arange(count))[:, None]
            low, high = int(which.min()), int(which.max())
            size = image.COEFFICIENT_BYTES
            data = self._span(c.coefficients, low * size, (high - low + 1) * size)
            self._count(c.coefficients, "tables_read", data.size * (1 if c.set_channels else times))
            roots = image.unpack_coefficients(data.reshape(-1, size))
            which = which - low
            finer = np.where(roots.second == c.second, np.minimum(roots.finer, norm.FINER_MAX), 0)[which]
            found = roots.coefficients
            u, beyond = normalise(z, found.mean[which], found.root[which], found.exponent[which], finer=finer)
            table = self._entries(c.scales, 0, 1 + 2 * c.channels)
            places, (gain, shift) = int(table[0]), table[1:].reshape(-1, 2).T
            self._sound(2 <= places <= norm.PLACES_MAX, f"h must be in 2..{norm.PLACES_MAX}, not {places}", "field")
            self._sound((np.abs(gain) <= norm.FACTOR_MAX).all(), "G must be below 2^17 in magnitude", "field")
            self._sound((np.abs(shift) < 2 ** (p.state_width + 1)).all(), "B must be of w + 2 bits", "field")
            z, clamped = affine(u, Affine(gain, shift, places), state_magnitude_max(p))
            lost = lost | np.broadcast_to(roots.poisoned[which], lost.shape)
            z = np.where(lost, 0, z)
            self._raise(overflow=beyond or clamped)
        if c.function == "softmax":
            self._field(not c.normed, "a softmax must not have a norm")
            size = image.COEFFICIENT_BYTES
            data = self._span(c.coefficients, c.line * c.width * size, count * size)
            self._count(c.coefficients, "tables_read", data.size * times)
            found = image.unpack_rows(data.reshape(-1, size))
            rows = softmax.Rows(found.largest, found.reciprocal, found.length)
            top = state_magnitude_max(p)
            self._sound((np.abs(rows.largest) <= top).all(), f"largest of a row must be within {top}", "field")
            lost = lost | found.poisoned[:, None]
            self._sound(
                (z <= rows.largest[:, None])[~lost].all(), "no score may be above the largest of its row", "field"
            )
            x = softmax.probabilities(np.where(lost, rows.largest[:, None], z), c.root, c.exponent, c.result, rows)
        else:
            x = functions(c.function, z, c.middle, c.result)
        x, clamped = formats.clamp(x, activation_max(p))
        self._raise(overflow=clamped, poisoned=bool(lost.any()))
        return np.where(lost, 0, x), lost

    def _align(self, c: Align) -> None:
        p = self.parameters
        self._has("attention", "aligned states")
        self._field(c.outputs > 0 and c.groups > 0, "outputs and groups must be at least 1")
        index = c.first + np.arange(c.outputs)[:, None] * c.step + np.arange(c.groups)
        found = align(self._read_vectors(c.held, index.ravel(), "held"), p)
        scale = np.where(found.poisoned, _POISONED_RECORD, found.exponent + c.scale).reshape(index.shape)
        self._sound(
            (np.abs(scale) <= _SCALE_MAX)[scale != _POISONED_RECORD].all(), "scale of a record must fit it", "field"
        )
        weights = found.weights.reshape(*index.shape, p.lanes)
        blocks = image.record_blocks(c.outputs, p)
        data = np.concatenate(
            [
                image.pack_weights(weights[one].swapaxes(0, 1).reshape(-1, p.lanes), scale[one].T.ravel(), p)
                for one in blocks
            ]
        )
        self._span(c.result, 0, data.size, write=True)[:] = data.ravel()
        self._count(c.result, "weights_written", data.size)

    def _rows(self, c: Rows) -> None:
        p = self.parameters
        self._has("attention", "rows of a softmax")
        self._field(c.rows > 0 and c.channels > 0, "rows and channels must be at least 1")
        if c.channels > p.row_buffer:
            raise MachineError("buffer", f"channels of a row must be at most {p.row_buffer}, not {c.channels}")
        y = self._elements(c.state, 0, c.rows, c.channels, scores=True)
        lost = poisoned_state(y, p).any(axis=1)
        found = softmax.rows(np.where(lost[:, None], 0, y), c.root, c.exponent)
        data = image.pack_rows(image.RowSums(found.largest, found.reciprocal, found.length, lost))
        self._span(c.result, 0, data.size, write=True)[:] = data.ravel()
        self._count(c.result, "tables_written", data.size)

    def _write_x(self, c: Emit, x: np.ndarray) -> None:
        p = self.parameters
        scores = c.function == "softmax"
        index, elements, of = self._places(c.line * c.width, c.lines * c.width, c.channels, scores=scores)
        self._field(of > 0 or elements[0] == 0, "a tensor of fewer channels than n must be written in whole vectors")
        if of:
            x = np.pad(x, ((0, 0), (0, -x.shape[1] % p.lanes)))
        vectors = image.vectors_of(x, p.lanes)
        self._write_vectors(c.target, index, vectors, "states")

    def _send(self, c: Emit, line: int, groups: DeltaGroups, passes: int) -> None:
        p = self.parameters
        self.counters["link_group_bits"] += cost(groups, p, passes=passes).bits
        if c.link:
            self._up.append(groups)
            return
        self._spool(c, line, groups, passes)

    def _spool(self, c: Emit | Accumulate, line: int, groups: DeltaGroups, passes: int) -> None:
        """Write the groups of a line to its slot."""
        p = self.parameters
        if p.link_form == "direct":
            data = image.pack_groups(groups, p).ravel()
        else:
            words = delta_compressor(groups, p, passes=passes)
            raw = b"".join(int(word).to_bytes(p.link_width // 8, "little") for word in words)
            data = np.frombuffer(raw, np.uint8)
            self._slots[raw] = groups
        if p.has_lengths:
            entry = self._span(c.lengths, line * image.ENTRY_BYTES, image.ENTRY_BYTES, write=True)
            entry[:] = image.pack_entries([data.size])
            self._count(c.lengths, "tables_written", entry.size)
        self._sound(data.size <= c.slot * UNIT_BYTES, f"a slot must have room for {data.size} bytes", "field")
        self._span(c.spool, line * c.slot * UNIT_BYTES, data.size, write=True)[:] = data
        self._count(c.spool, "spools_written", data.size)
