"""Commands in order, with as few tokens as order them.

Operations are added in an order in which they could be carried out one after the other, each with the places that it
reads and writes. What the engines make of it side by side is played through on paper, and commands come in the order in
which that begins them. Load and emit take what is ready first, so weights and emissions of a layer do not wait for the
end of the one before. Multiply and accumulate keep their order, as vectors on the link do.

Where another engine touched the same before, that engine's operation is made to push a token and this one to pop it,
unless an order follows from other tokens already. One engine does its operations in order, so one token stands for all
that its engine did before.
"""

import collections
import contextlib
import dataclasses
import itertools
from collections.abc import Hashable, Iterable, Iterator, Sequence

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
from golden.machine.work import work
from golden.parameters import Parameters

_WINDOW = {"load": 64, "multiply": 1, "accumulate": 1, "emit": 64}
"""Operations of each engine among which one is looked for that is ready."""


@dataclasses.dataclass
class _Use:
    """Number of the last operation of each engine that wrote or read something; 0: none."""

    written: dict[str, int] = dataclasses.field(default_factory=dict)
    read: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(eq=False)
class _Node:
    """An operation that waits for its place.

    Members
    -------
    operation : Operation
        Without tokens.
    reads, writes : tuple
        Places.
    clocks : int
        That it takes.
    before, after : tuple, list of _Node
        Those whose end it waits for, and those that wait for its end.
    missing : int
        Operations that it waits for, and that have no place yet.
    ready : int
        Clock from which on it waits for none, as far as is known.
    """

    operation: Operation
    reads: tuple[Hashable, ...]
    writes: tuple[Hashable, ...]
    clocks: int
    before: "tuple[_Node, ...]" = ()
    after: "list[_Node]" = dataclasses.field(default_factory=list)
    missing: int = 0
    ready: int = 0


class Schedule:
    """A program under way.

    Parameters
    ----------
    parameters : Parameters
        Of the machine, whose clocks decide which operation begins first.

    Members
    -------
    barriers : int
        How many there were.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self.barriers = 0
        self._waiting: list[_Node] = []
        self._commands: list[Command] = []
        self._places: dict[str, list[int]] = {engine: [] for engine in ENGINES}  # of operations, in `commands`
        self._clock = {engine: dict.fromkeys(ENGINES, 0) for engine in ENGINES}
        self._clocks: dict[tuple[str, int], dict[str, int]] = {}
        self._uses: dict[Hashable, _Use] = {}
        self._down: list[dict[str, int]] = []
        self._up: list[dict[str, int]] = []

    @property
    def commands(self) -> list[Command]:
        """All that was added so far, in order."""
        self._settle()
        return self._commands

    def add(self, operation: Operation, *, reads: Iterable[Hashable] = (), writes: Iterable[Hashable] = ()) -> None:
        """Add an operation that comes after all before it that touched what it reads or writes."""
        clocks = work(operation, self._parameters).clocks
        self._waiting.append(_Node(operation, tuple(reads), tuple(writes), clocks))

    def barrier(self, tag: int = 0) -> None:
        """Wait until every engine is idle: all that follows comes after all before."""
        self.control(Wait(tag=tag, **dict.fromkeys(ENGINES, True)))
        self._uses.clear()
        self.barriers += 1

    @contextlib.contextmanager
    def loop(self, turns: int, steps: Iterable[Step], tag: int = 0) -> Iterator[None]:
        """What is added meanwhile is carried out so many times; engines are idle before and after each turn."""
        self.control(Loop(turns=turns, steps=tuple(steps)))
        self.barrier(tag)
        yield
        self.control(End())
        self.barrier(tag)

    def control(self, command: Command) -> None:
        """Add a command that no engine takes; what follows it is not begun before it."""
        self._settle()
        self._commands.append(command)

    def _settle(self) -> None:
        """Give what waits its place."""
        for node in _played(self._waiting):
            self._place(node.operation, node.reads, node.writes)
        self._waiting = []

    def _place(self, operation: Operation, reads: Sequence[Hashable], writes: Sequence[Hashable]) -> None:
        engine = operation.engine
        clock = dict(self._clock[engine])
        # what the link brings was given after its giver had started, but memory may be read sooner
        early = dict(clock)
        for kind, queue in ((Accumulate, self._down), (LoadGroups, self._up)):
            if isinstance(operation, kind) and (kind is Accumulate or operation.link):
                _join(clock, queue.pop(0))
        wanted: dict[str, int] = {}
        for place in reads:
            _most(wanted, self._uses.setdefault(place, _Use()).written)
        needed = dict(wanted)
        for place in writes:
            use = self._uses.setdefault(place, _Use())
            _most(wanted, use.written)
            _most(wanted, use.read)
        pops = []
        for other in ENGINES:
            late = wanted.get(other, 0) > clock[other] or needed.get(other, 0) > early[other]
            if other != engine and late:
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
        self._places[engine].append(len(self._commands))
        self._commands.append(dataclasses.replace(operation, pop=tuple(pops)))
        for place in reads:
            self._uses[place].read[engine] = number
        for place in writes:
            self._uses[place].written[engine] = number

    def _push(self, engine: str, number: int, to: str) -> None:
        place = self._places[engine][number - 1]
        command = self._commands[place]
        push = {*command.push, to}
        self._commands[place] = dataclasses.replace(command, push=tuple(one for one in ENGINES if one in push))


def _played(nodes: Sequence[_Node]) -> list[_Node]:
    """Operations in the order in which engines begin them, if each begins as soon as it can."""
    _connect(nodes)
    lines: dict[str, collections.deque[tuple[int, _Node]]] = {engine: collections.deque() for engine in ENGINES}
    for number, node in enumerate(nodes):
        lines[node.operation.engine].append((number, node))
    free = dict.fromkeys(ENGINES, 0)
    order = []
    while len(order) < len(nodes):
        able = []
        for engine, line in lines.items():
            for number, node in itertools.islice(line, _WINDOW[engine]):
                if not node.missing:
                    able.append((max(free[engine], node.ready), number, node))
        begin, number, node = min(able)
        engine = node.operation.engine
        free[engine] = end = begin + node.clocks
        lines[engine].remove((number, node))
        order.append(node)
        for other in node.after:
            other.missing -= 1
            other.ready = max(other.ready, end)
    return _taken_at_once(order)


def _taken_at_once(order: Sequence[_Node]) -> list[_Node]:
    """Move what takes from the link to what gives, as far as it may: the link waits for it from then on."""
    keys: dict[_Node, tuple[int, int]] = {}
    last = (0, 0)
    for number, node in enumerate(order):
        keys[node] = (number, 0)
        if isinstance(node.operation, Accumulate):
            place, rank = max([last, *(keys[other] for other in node.before)])
            keys[node] = last = (place, rank + 1)
    return sorted(order, key=keys.__getitem__)


def _connect(nodes: Sequence[_Node]) -> None:
    """Find what each operation has to wait for: its own engine's order is left open."""
    written: dict[Hashable, _Node] = {}
    read: collections.defaultdict[Hashable, list[_Node]] = collections.defaultdict(list)
    down: collections.deque[_Node] = collections.deque()
    for node in nodes:
        operation, before = node.operation, set()
        writes = list(node.writes)
        if getattr(operation, "link", False):
            writes.append("up")  # lines are taken in the order in which they are sent
        for place in (*node.reads, *writes):
            if place in written:
                before.add(written[place])
        for place in writes:
            before.update(read.pop(place, ()))
            written[place] = node
        for place in node.reads:
            read[place].append(node)
        if isinstance(operation, Multiply) and operation.leave:
            down.append(node)
        if isinstance(operation, Accumulate):
            before.add(down.popleft())
        before.discard(node)
        node.before, node.missing = tuple(before), len(before)
        for other in before:
            other.after.append(node)


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
