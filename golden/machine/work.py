"""What commands cost before anything runs: how much each does, and a time line of the engines.

Counts are exact: they follow from the fields. Clocks are a model: an operation takes as long as its slowest part
(lanes, records, memory), engines overlap as tokens allow, share the bus, and the link holds what is on
its way. Zero groups take their clocks, as they do in the banks.
Source: ``docs/machine.md``, cost.
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence

from golden.machine import image
from golden.machine.command import (
    ENGINES,
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
    Operation,
    Rows,
    Wait,
)
from golden.machine.hazards import QUEUE
from golden.parameters import Parameters

LATENCY = 40
"""Clocks until memory gives the first beat."""

_CROWDING = 0.55
"""Part of the others' load on the bus by which an operation takes longer: it waits behind their bursts. Fitted to
measured steps, see ``tests/golden/machine/test_work.py``."""

_SPACING = 3
"""Clocks after which a sum of a PE can be added to again."""

_MULTIPLY_BEGIN = 6
"""Clocks of a Multiply beside its steps."""

_LOAD_CLOCKS = 40
"""Clocks until a load asks for its first line, or record."""

_PORT_CLOCKS = 2
"""Clocks in which the hub gives a port a word."""

_WORD_CLOCKS = 3
"""Clocks in which a port that reads groups takes a word."""

_COMBINE_CLOCKS, _EMIT_CLOCKS = 72, 60
"""Clocks of an operation besides its elements and its tables."""

HUB_CLOCKS = 65
"""Clocks that the hub adds where all of an operation waits for an access: a Combine does once, an Emit twice."""

_RECORD_SUM_CLOCKS, _ROOT_CLOCKS = 12, 110
"""Clocks in which a record of sums is added up, and a set besides its records."""

_ROW_CLOCKS = 24
"""Clocks of a row of scores besides its elements, of which one is summed in a clock."""

_ALIGN_BITS, _ALIGN_CLOCKS = 56, 2
"""Bits of an aligned record that are written in a clock, and clocks of a record besides."""

_JOINT_CLOCKS = 6
"""Clocks of a joint vector in its coder, and in the decoder, besides its elements and parts: planes of digits."""

_WINDOW_CLOCKS = 34
"""Clocks besides its records until sums that have been gathered near memory are on their way."""

_SET_CLOCKS = 9
"""Clocks of a statistics set on its way to the norm."""


@dataclasses.dataclass(frozen=True)
class Work:
    """What an operation does.

    Members
    -------
    groups : int
        Groups times output channels that a tile multiplies, zero groups and filled-up passes included.
    vectors : int
        That are accumulated, combined, emitted, aligned or read as rows.
    read, written : int
        Bytes of memory; groups as long as they are in the direct form.
    clocks : int
        Until it is done, if nothing holds it up.
    """

    groups: int = 0
    vectors: int = 0
    read: int = 0
    written: int = 0
    clocks: int = 0


def executed(commands: Sequence[Command]) -> Iterator[Command]:
    """Commands in the order that they are carried out in: turns of loops one after the other."""
    position, turns = 0, []
    while position < len(commands):
        command = commands[position]
        if isinstance(command, Loop):
            turns.append([position, command.turns - 1])
        elif isinstance(command, End):
            begin, left = turns[-1]
            if left:
                turns[-1][1] -= 1
                position = begin
            else:
                turns.pop()
        else:
            yield command
        position += 1


def repeated(commands: Iterable[Command]) -> Iterator[tuple[Command, int]]:
    """Commands as they stand, each with how often loops carry it out; those of loops themselves are left out."""
    times = [1]
    for command in commands:
        if isinstance(command, Loop):
            times.append(times[-1] * command.turns)
        elif isinstance(command, End):
            times.pop()
        else:
            yield command, times[-1]


def needed_groups(commands: Iterable[Command]) -> int:
    """Groups that products need: existing positions, taps, groups, output channels, and the passes that were sent."""
    return needed_by_tag(commands).total()


def needed_by_tag(commands: Iterable[Command]) -> "collections.Counter[int]":
    """The same by the tag of the products."""
    total: collections.Counter[int] = collections.Counter()
    loaded: dict[tuple[bool, int], list[LoadGroups]] = {}  # pieces of the same positions, by half and first address
    for command, times in repeated(commands):
        if isinstance(command, LoadGroups):
            half, at = place = command.half, command.at
            if command.first == 0:
                end = at + _bank_addresses(command)
                for other, pieces in list(loaded.items()):
                    if other[0] == half and other[1] < end and at < other[1] + _bank_addresses(pieces[0]):
                        del loaded[other]
                loaded[place] = []
            loaded[place].append(command)
        if isinstance(command, Multiply):
            pieces = loaded[max(place for place in loaded if place[0] == command.half and place[1] <= command.at)]
            if command.groups == sum(piece.groups for piece in pieces):
                groups = sum(piece.groups * (piece.sent + 1) for piece in pieces)
            else:  # a head's part of the groups
                groups = command.groups * (pieces[0].sent + 1)
            taps = command.kernel_lines * command.kernel_columns
            positions = (command.rows + 1) * command.lines * command.columns
            total[command.tag] += times * positions * taps * groups * command.channels
    return total


def _bank_addresses(c: LoadGroups) -> int:
    """Addresses of a bank that the positions of a load take, all pieces of them."""
    return c.lines * (c.left + c.width * c.repeat + c.right) * c.pitch


def work(operation: Operation, p: Parameters) -> Work:
    """Work of an operation on a machine."""
    found = _COUNTS[type(operation)](operation, p)
    beats = -(-(found.read + found.written) * 8 // p.memory_width)
    return dataclasses.replace(found, clocks=max(found.clocks, beats) + (LATENCY if beats else 0))


def _load_weights(c: LoadWeights, p: Parameters) -> Work:
    size = c.records * image.weight_bytes(p)
    clocks = max(p.record_clocks * c.records, _PORT_CLOCKS * -(-8 * size // p.memory_width))
    return Work(read=size, clocks=_LOAD_CLOCKS + clocks)


def _load_scales(c: LoadScales, p: Parameters) -> Work:
    size = c.records * image.scale_bytes(p)
    return Work(read=size, clocks=_LOAD_CLOCKS + -(-8 * size // p.memory_width))


def _decoding(p: Parameters) -> int:
    """Clocks of a group with digits and all its outliers in the serial decoder; 1 where there is none."""
    if p.link_form == "direct" or p.near_lanes >= p.lanes:
        return 1
    planes = 2 if p.digit_width == 2 else 4 + (p.digit_width > 3)
    return 2 + bool(p.outliers) + planes * (p.lanes // p.code_lanes) + 2 * p.outliers


def _load_groups(c: LoadGroups, p: Parameters) -> Work:
    lines = set()
    for row in range(c.rows + 1):
        for number in range(c.lines):
            y = c.line + row * c.line_step + number
            if 0 <= y < c.height * c.repeat:
                lines.add((row * bool(c.slot_step), y // c.repeat))
    groups = len(lines) * c.width * c.groups * (c.sent + 1)
    line = c.left + c.width * c.repeat + c.right
    written = (c.rows + 1) * c.lines * line * c.groups * (c.passes + 1)
    read = 0 if c.link else groups * image.group_bytes(p)
    read += c.masked * len(lines) * c.width * image.sign_bytes(p)
    coming = groups if c.link else max(groups * _decoding(p), -(-read * 8 // p.memory_width) * _WORD_CLOCKS)
    return Work(read=read, clocks=_LOAD_CLOCKS + max(written, coming))


def _multiply(c: Multiply, p: Parameters) -> Work:
    positions, records, slots = c.lines * c.columns, c.kernel_lines * c.kernel_columns * c.groups, c.passes + 1
    clocks = 0
    for block in range(0, c.channels, p.columns):
        channels = min(p.columns, c.channels - block)
        for first in range(0, positions, p.tile_positions):
            length = max(min(p.tile_positions, positions - first), _SPACING)
            clocks += records * max(slots * length, channels + 1)
    clocks += _MULTIPLY_BEGIN
    return Work(groups=(c.rows + 1) * positions * records * slots * c.channels, clocks=clocks)


def _accumulate(c: Accumulate, p: Parameters) -> Work:
    vectors = (c.rows + 1) * c.outer * c.inner
    size = vectors * image.vector_bytes(p)
    # a vector of the bias is read once for those that follow each other
    count, rows = c.outer * c.inner, c.rows + 1
    biases = rows * (1 if c.bias_period == 1 else count)
    biases -= (rows - 1) * ((count - 1) % max(c.bias_period, 1) == c.bias_step)
    bias = biases * p.lanes * image.ENTRY_BYTES * c.biased
    clocks = vectors * max(p.lanes // p.near_lanes, _joint_clocks(p))
    written = size
    if c.groups:  # of one pass
        written += vectors * (image.group_bytes(p) + image.sign_bytes(p))
    return Work(vectors=vectors, read=size * (c.start != "zero") + bias, written=written, clocks=clocks)


def _joint_clocks(p: Parameters) -> int:
    """Clocks of a joint vector that is coded, and decoded once its block is whole; 0 where nothing is coded."""
    if p.link_form == "direct":
        return 0
    return 2 * (p.lanes + p.lanes // p.near_lanes + _JOINT_CLOCKS)


def _combine(c: Combine, p: Parameters) -> Work:
    size = c.vectors * image.vector_bytes(p)
    clocks = _elements(c.vectors, p) * (c.terms if c.form == "sum" else 1) + _COMBINE_CLOCKS + HUB_CLOCKS
    of = -(-c.channels // p.lanes)
    if c.form == "sum":
        kinds = (c.kind1, c.kind2, c.kind3)[: c.terms]
        clocks += _factors(c, p, kinds) + c.channels * kinds.count("channel")
    # sums leave whenever the n records are full that are kept near memory
    if c.summed == "position":
        clocks += -(-c.vectors // of // p.lanes) * (2 * p.lanes * p.near_lanes + _WINDOW_CLOCKS)
    elif c.summed == "channel":
        clocks += of * (p.lanes + _WINDOW_CLOCKS)
    return Work(vectors=c.vectors, read=c.terms * size, written=size * (1 + c.copied), clocks=clocks)


def _factors(c: Combine, p: Parameters, kinds: Sequence[str]) -> int:
    """Clocks beside those of parts and terms: factors of a vector's elements are put together before."""
    narrow = c.channels < p.lanes
    single = kinds.count("element") + narrow * (kinds.count("position") + 3 * kinds.count("channel"))
    return c.vectors * p.lanes * single


def _coefficients(c: Coefficients, p: Parameters) -> Work:
    read = c.sets * (c.size * image.SUM_BYTES + image.FLOOR_BYTES)
    return Work(
        read=read,
        written=c.sets * image.COEFFICIENT_BYTES,
        clocks=c.sets * (_RECORD_SUM_CLOCKS * c.size + _ROOT_CLOCKS),
    )


def _emit(c: Emit, p: Parameters) -> Work:
    segment = c.segment or (c.lines * c.width if c.along == "positions" else c.channels)
    contracted = c.lines * c.width if c.along == "positions" else c.channels
    of = c.channels if c.along == "positions" else c.lines * c.width
    groups = of * (contracted // segment) * -(-segment // p.lanes)
    narrow = c.channels < p.lanes and c.function != "softmax"
    state = -(-c.lines * c.width * c.channels // p.lanes) if narrow else groups
    vector = image.vector_bytes(p)
    read, written = state * vector, state * vector * c.written
    if c.sent:
        read += groups * vector * (not c.start)
        written += groups * vector + groups * (c.passes + 1) * image.group_bytes(p) * (not c.link)
    clocks = _elements(groups, p) * (c.passes + 1 if c.sent else 1)
    if narrow:
        # an element a clock, then a part of padding
        padding = (p.lanes - c.channels) // p.near_lanes
        clocks = max(clocks, c.lines * c.width * (c.channels + padding))
    clocks += _EMIT_CLOCKS + 2 * HUB_CLOCKS
    if c.normed:
        sets = (c.first + c.channels - 1) // c.set_channels - c.first // c.set_channels + 1 if c.set_channels else 1
        clocks += 2 * c.channels + _SET_CLOCKS * sets
    return Work(vectors=groups * c.sent, read=read, written=written, clocks=clocks)


def _align(c: Align, p: Parameters) -> Work:
    vectors = c.outputs * c.groups
    size = vectors * image.weight_bytes(p)
    pieces = -(-8 * image.weight_bytes(p) // _ALIGN_BITS)
    clocks = vectors * (p.lanes // p.near_lanes + pieces + _ALIGN_CLOCKS)
    return Work(vectors=vectors, read=vectors * image.vector_bytes(p), written=size, clocks=clocks)


def _rows(c: Rows, p: Parameters) -> Work:
    vectors = c.rows * -(-c.channels // p.lanes)
    # the largest first, then the sum: two readings
    read = 2 * vectors * image.vector_bytes(p)
    written = c.rows * image.COEFFICIENT_BYTES
    return Work(vectors=vectors, read=read, written=written, clocks=c.rows * (c.channels + _ROW_CLOCKS))


def _elements(vectors: int, p: Parameters) -> int:
    return -(-vectors * p.lanes // p.near_lanes)


_COUNTS = {
    LoadScales: _load_scales,
    LoadWeights: _load_weights,
    LoadGroups: _load_groups,
    Multiply: _multiply,
    Accumulate: _accumulate,
    Combine: _combine,
    Coefficients: _coefficients,
    Emit: _emit,
    Align: _align,
    Rows: _rows,
}


@dataclasses.dataclass(frozen=True)
class Timeline:
    """When engines work.

    Members
    -------
    clocks : int
        From the first command to the last.
    busy : mapping of str to int
        Clocks of each engine at work.
    by_tag : mapping of int to int
        Clocks by which each tag's operations move the end on, as they end one after the other.
    """

    clocks: int
    busy: dict[str, int]
    by_tag: dict[int, int]


@dataclasses.dataclass
class _Active:
    """An operation under way: clocks that are left of it if nothing holds it up, and its beats a clock, each way."""

    operation: Operation
    left: float
    loads: tuple[float, float]
    begun: float

    @classmethod
    def of(cls, operation: Operation, p: Parameters, now: float) -> "_Active":
        found = work(operation, p)
        clocks = max(found.clocks, 1)
        loads = tuple(8 * size / p.memory_width / clocks for size in (found.read, found.written))
        return cls(operation, clocks, loads, now)

    def slowed(self, loads: Sequence[float]) -> float:
        """How many times as long it takes under the loads of all."""
        pairs = [(own, whole) for own, whole in zip(self.loads, loads, strict=True) if own]
        waits = _CROWDING * sum(whole - own for own, whole in pairs)
        return max(1 + waits, *(whole for _, whole in pairs), 1)


class _Engines:
    """The engines at work: queues in front of them, tokens, vectors on the link."""

    def __init__(self, p: Parameters) -> None:
        self._p = p
        self.queues: dict[str, collections.deque[Operation]] = {engine: collections.deque() for engine in ENGINES}
        self.active: dict[str, _Active] = {}
        self._tokens: collections.Counter[tuple[str, str]] = collections.Counter()
        self._down = 0  # tiles on the link
        self.now = 0.0
        self.busy = dict.fromkeys(ENGINES, 0.0)

    def idle(self, engine: str) -> bool:
        return engine not in self.active and not self.queues[engine]

    def room(self, engine: str) -> bool:
        return len(self.queues[engine]) + (engine in self.active) < QUEUE

    def begin(self) -> None:
        """Begin what waits for nothing."""
        for engine, queue in self.queues.items():
            if engine in self.active or not queue:
                continue
            operation = queue[0]
            takes = isinstance(operation, Accumulate)
            if any(not self._tokens[other, engine] for other in operation.pop) or (takes and not self._down):
                continue
            self._tokens.subtract((other, engine) for other in operation.pop)
            self._down -= takes
            self.active[engine] = _Active.of(queue.popleft(), self._p, self.now)

    def advance(self) -> list[Operation]:
        """Go on to where an operation ends; those that do."""
        loads = [sum(column) for column in zip(*(one.loads for one in self.active.values()), strict=True)]
        slowed = {engine: one.slowed(loads) for engine, one in self.active.items()}
        clocks = min(one.left * slowed[engine] for engine, one in self.active.items())
        self.now += clocks
        ended = []
        for engine, one in list(self.active.items()):
            one.left -= clocks / slowed[engine]
            if one.left < 1e-6:
                ended.append(one.operation)
                del self.active[engine]
                self.busy[engine] += self.now - one.begun
                self._down += isinstance(one.operation, Multiply) and one.operation.leave
                self._tokens.update((engine, other) for other in one.operation.push)
        return ended


def timeline(commands: Iterable[Command], p: Parameters) -> Timeline:
    """Let the engines work off commands.

    Operations under way share the bus, each way apart: each is slowed down by the loads of the others, and all of them
    where it is full. A turn of a loop is played once, as those that compilers make begin and end with idle engines;
    loops that do not are given as `executed` has them.

    Raises
    ------
    ValueError
        If the program does not end: an operation waits for a token that nobody pushes. If engines may be at work
        where a turn of a loop begins or ends.
    """
    commands = list(commands)
    _check_turns(commands)
    clocks, busy, by_tag = 0, collections.Counter(dict.fromkeys(ENGINES, 0)), collections.Counter()
    for times, turn in itertools.groupby(repeated(commands), key=lambda pair: pair[1]):
        found = _played((command for command, _ in turn), p)
        clocks += times * found.clocks
        busy.update({engine: times * count for engine, count in found.busy.items()})
        by_tag.update({tag: times * count for tag, count in found.by_tag.items()})
    return Timeline(clocks, dict(busy), dict(by_tag))


def _check_turns(commands: Iterable[Command]) -> None:
    """Turns begin and end where a `Wait` is for all engines: before them, or the first that follows."""
    last: Operation | Wait | None = None
    bounds = False  # whether a turn begins or ends behind `last`
    firsts: list[Operation | Wait | None] = []  # of each loop that is open
    for command in commands:
        if isinstance(command, Operation | Wait):
            if bounds:
                _check_bound(last, command)
            firsts = [command if first is None else first for first in firsts]
            last, bounds = command, False
        elif isinstance(command, Loop):
            firsts.append(None)
            bounds = True
        elif isinstance(command, End):
            _check_bound(last, firsts.pop())  # the next turn
            bounds = True


def _check_bound(before: Operation | Wait | None, after: Operation | Wait | None) -> None:
    whole = any(isinstance(one, Wait) and all(getattr(one, engine) for engine in ENGINES) for one in (before, after))
    if before is not None and after is not None and not whole:
        raise ValueError(
            "Turns of a loop must begin and end with a Wait for all engines, or follow each other as they are "
            f"executed, not have {type(before).__name__} before and {type(after).__name__} behind"
        )


def _played(commands: Iterable[Command], p: Parameters) -> Timeline:
    engines = _Engines(p)
    by_tag: collections.Counter[int] = collections.Counter()
    end = 0.0
    left = collections.deque(command for command in commands if isinstance(command, Operation | Wait))
    while left or not all(map(engines.idle, ENGINES)):
        while left:
            command = left[0]
            if isinstance(command, Wait):
                if not all(engines.idle(engine) for engine in ENGINES if getattr(command, engine)):
                    break
            elif engines.room(command.engine):
                engines.queues[command.engine].append(command)
            else:
                break
            left.popleft()
        engines.begin()
        if not engines.active and not all(map(engines.idle, ENGINES)):
            raise ValueError("Operations must wait for tokens that are pushed, not for ever")
        for operation in engines.advance() if engines.active else ():
            by_tag[operation.tag] += engines.now - end
            end = engines.now
    busy = {engine: round(clocks) for engine, clocks in engines.busy.items()}
    return Timeline(round(engines.now), busy, {tag: round(clocks) for tag, clocks in by_tag.items()})
