"""Commands in order, with as few tokens as order them.

Each operation is added with what it reads and writes. Where another engine touched the same before, that engine's
operation is made to push a token and this one to pop it, unless an order follows from other tokens already. One engine
does its operations in order, so one token stands for all that its engine did before.
"""

import dataclasses
from collections.abc import Hashable, Iterable, Sequence

from golden.machine.command import (
    ENGINES,
    Accumulate,
    Command,
    Emit,
    End,
    LoadGroups,
    Loop,
    Multiply,
    Operand,
    Operation,
    Step,
    Wait,
)

__all__ = ["Schedule", "rolled"]


@dataclasses.dataclass
class _Use:
    """Number of the last operation of each engine that wrote or read something; 0: none."""

    written: dict[str, int] = dataclasses.field(default_factory=dict)
    read: dict[str, int] = dataclasses.field(default_factory=dict)


class Schedule:
    """A program under way.

    Members
    -------
    commands : list of Command
        So far.
    """

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self._places: dict[str, list[int]] = {engine: [] for engine in ENGINES}  # of operations, in `commands`
        self._clock = {engine: dict.fromkeys(ENGINES, 0) for engine in ENGINES}
        self._clocks: dict[tuple[str, int], dict[str, int]] = {}
        self._uses: dict[Hashable, _Use] = {}
        self._down: list[dict[str, int]] = []
        self._up: list[dict[str, int]] = []

    def add(self, operation: Operation, *, reads: Iterable[Hashable] = (), writes: Iterable[Hashable] = ()) -> None:
        """Add an operation after all that touched what it reads or writes."""
        engine = operation.engine
        clock = dict(self._clock[engine])
        # what the link brings was given after its giver had started
        for kind, queue in ((Accumulate, self._down), (LoadGroups, self._up)):
            if isinstance(operation, kind) and (kind is Accumulate or operation.link):
                _join(clock, queue.pop(0))
        wanted: dict[str, int] = {}
        for place in reads:
            _most(wanted, self._uses.setdefault(place, _Use()).written)
        for place in writes:
            use = self._uses.setdefault(place, _Use())
            _most(wanted, use.written)
            _most(wanted, use.read)
        pops = []
        for other in ENGINES:
            if other != engine and wanted.get(other, 0) > clock[other]:
                self._push(other, wanted[other], engine)
                pops.append(other)
                _join(clock, self._clocks[other, wanted[other]])
        if isinstance(operation, Multiply) and operation.leave:
            self._down.append(dict(clock))
        if isinstance(operation, Emit) and operation.sent and operation.link:
            self._up.append(dict(clock))
        number = len(self._places[engine]) + 1
        clock[engine] = number
        self._clock[engine] = clock
        self._clocks[engine, number] = dict(clock)
        self._places[engine].append(len(self.commands))
        self.commands.append(dataclasses.replace(operation, pop=tuple(pops)))
        for place in reads:
            self._uses[place].read[engine] = number
        for place in writes:
            self._uses[place].written[engine] = number

    def barrier(self, tag: int = 0) -> None:
        """Wait until every engine is idle: all that follows comes after all before."""
        self.commands.append(Wait(tag=tag, **dict.fromkeys(ENGINES, True)))
        self._uses.clear()

    def control(self, command: Command) -> None:
        """Add a command that no engine takes."""
        self.commands.append(command)

    def _push(self, engine: str, number: int, to: str) -> None:
        place = self._places[engine][number - 1]
        command = self.commands[place]
        push = {*command.push, to}
        self.commands[place] = dataclasses.replace(command, push=tuple(one for one in ENGINES if one in push))


def _join(clock: dict[str, int], other: dict[str, int]) -> None:
    for engine, number in other.items():
        clock[engine] = max(clock[engine], number)


def _most(wanted: dict[str, int], found: dict[str, int]) -> None:
    for engine, number in found.items():
        wanted[engine] = max(wanted.get(engine, 0), number)


def rolled(turns: Sequence[Sequence[Command]], starts: Sequence[int], region: int) -> list[Command]:
    """Commands of consecutive turns, those that differ only in where their tables lie as loops.

    Parameters
    ----------
    turns : sequence of sequences of Command
        Each ordered in itself, and after the one before.
    starts : sequence of int
        Where the tables of each begin in their region, in units of memory.
    region : int
        The region.
    """
    commands: list[Command] = []
    plain = [_moved(turn, region, -start) for turn, start in zip(turns, starts, strict=True)]
    first = 0
    while first < len(turns):
        last = first + 1
        stride = starts[last] - starts[first] if last < len(turns) else 0
        while last < len(turns) and plain[last] == plain[first] and starts[last] - starts[last - 1] == stride:
            last += 1
        if last - first == 1:
            commands += turns[first]
        else:
            steps = (Step(region, stride),) if stride else ()
            commands += [Loop(turns=last - first, steps=steps), *turns[first], End()]
        first = last
    return commands


def _moved(turn: Sequence[Command], region: int, offset: int) -> list[Command]:
    """Commands with every operand of a region moved."""
    found = []
    for command in turn:
        changes = {
            field.name: Operand(region, value.offset + offset)
            for field in dataclasses.fields(command)
            if isinstance(value := getattr(command, field.name), Operand) and value.region == region
        }
        found.append(dataclasses.replace(command, **changes) if changes else command)
    return found
