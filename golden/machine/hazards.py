"""Whether tokens order every two accesses that meet, whether what is read is there, and whether engines can get stuck.

The interpreter runs a program in its own order. The machine's engines run side by side, ordered by tokens alone. Both
leave the same memory if, of any two operations that touch the same place and one of which writes it, the tokens order
one before the other; and the machine comes to an end if no engine waits for what waits for it. `check` runs a program
by the interpreter, watches every access, and refuses it otherwise. What the buffers hold when a program starts is not
defined: a program that multiplies what it did not load is refused, too. Source: ``docs/machine.md``, order.
"""

import collections
import dataclasses

import numpy as np

from golden.machine.accelerator import Accelerator, MachineError
from golden.machine.command import (
    ENGINES,
    UNIT_BYTES,
    Accumulate,
    Command,
    Emit,
    LoadGroups,
    Multiply,
    Operand,
    Operation,
    Wait,
)

QUEUE = 8
"""Operations that wait in front of an engine at most, the one under way included; fetching stops before the next."""


class HazardError(ValueError):
    """A program that the machine may run differently, or not to its end."""


class Conflict(HazardError):
    """Two operations touch the same place, one writes it, and nothing orders them.

    Members
    -------
    first, second : int
        Positions of both commands.
    place : str
        What they touch.
    """

    def __init__(self, first: tuple[int, str, int], second: tuple[int, str, int], place: str):
        described = [f"{kind} at {position} (tag {tag:#06x})" for position, kind, tag in (first, second)]
        super().__init__(f"Tokens must order {described[0]} before {described[1]}: both touch {place}")
        self.first, self.second, self.place = first[0], second[0], place


class Twice(HazardError):
    """An operation that writes a place twice: which comes last is the machine's affair."""


class Meets(HazardError):
    """An operation that writes into what it reads, and not in place: what it reads then is the machine's affair."""


class Overwritten(HazardError):
    """A program that writes its own commands, which are read ahead."""


class Unloaded(HazardError):
    """A product of what the program did not load."""


class Stuck(HazardError):
    """Engines that wait for each other for ever, or for somebody who takes what they send."""


_BUFFERS = ("bank", "weights", "scales")
"""Places that only the load engine writes."""


@dataclasses.dataclass
class _Access:
    """Last operation of each engine that touched each place: its number among those of the engine, from 1."""

    written: np.ndarray
    read: np.ndarray

    @classmethod
    def of(cls, size: int) -> "_Access":
        return cls(np.zeros((len(ENGINES), size), np.int32), np.zeros((len(ENGINES), size), np.int32))


class _Watch:
    """Takes note of an execution in program order."""

    def __init__(self, accelerator: Accelerator, places: dict[str, int], commands: range):
        self.accelerator, self.commands = accelerator, commands
        self.accesses = {name: _Access.of(size) for name, size in places.items()}
        self.done: list[tuple[int, Operation]] = []
        self.names: dict[tuple[int, int], tuple[int, str, int]] = {}
        self.clock = {engine: np.zeros(len(ENGINES), np.int32) for engine in ENGINES}
        self.pushed: dict[tuple[str, str], collections.deque[np.ndarray]] = collections.defaultdict(collections.deque)
        self.touched: list[tuple[str, np.ndarray, bool]] = []
        self.down: collections.deque[np.ndarray] = collections.deque()
        self.up: collections.deque[np.ndarray] = collections.deque()

    def access(self, name: str, places: np.ndarray, write: bool) -> None:
        found = np.unique(places)
        if name == "memory" and write and found.size:
            first, last = np.searchsorted(found, [self.commands.start, self.commands.stop])
            if first < last:
                raise Overwritten(f"A program must not write its own commands, as at {int(found[first])} of memory")
        self.touched.append((name, found, write))

    def carried_out(self, position: int, command: Command) -> None:
        if isinstance(command, Wait):
            self._wait(command)
        if not isinstance(command, Operation):
            return
        number = ENGINES.index(command.engine)
        clock = self.clock[command.engine].copy()
        for engine in command.pop:
            clock = np.maximum(clock, self.pushed[engine, command.engine].popleft())
        # what takes from the link writes nothing before the first of it came, so not before its giver started
        early = clock
        if isinstance(command, Accumulate):
            clock = np.maximum(clock, self.down.popleft())
        if isinstance(command, LoadGroups) and command.link:
            clock = np.maximum.reduce([clock, *(self.up.popleft() for _ in range(command.height))])
        if isinstance(command, Multiply) and command.leave:
            self.down.append(clock)
        if isinstance(command, Emit) and command.sent and command.link:
            self.up.extend([clock] * _lines(command))
        clock = clock.copy()
        clock[number] = self.clock[command.engine][number] + 1
        self.clock[command.engine] = clock
        own = (position, type(command).__name__, command.tag)
        self.names[number, int(clock[number])] = own
        self._check_writes(own)
        for name, places, write in self.touched:
            self._check(name, places, write, clock if write else early, number, own)
        for name, places, write in self.touched:
            access = self.accesses[name]
            (access.written if write else access.read)[number, places] = clock[number]
        self.touched.clear()
        for engine in command.push:
            self.pushed[command.engine, engine].append(clock)
        self.done.append((position, command))

    def _wait(self, command: Wait) -> None:
        """Whatever comes after a wait comes after all that the engines named have done."""
        clock = np.zeros(len(ENGINES), np.int32)
        for engine in ENGINES:
            if getattr(command, engine):
                clock = np.maximum(clock, self.clock[engine])
        for engine in ENGINES:
            own = self.clock[engine][ENGINES.index(engine)]
            self.clock[engine] = np.maximum(self.clock[engine], clock)
            self.clock[engine][ENGINES.index(engine)] = own

    def _check_writes(self, own: tuple[int, str, int]) -> None:
        """No operation writes a place of memory twice, nor what it reads, unless all of it in place."""
        read, written = (
            [places for name, places, write in self.touched if write == which and name == "memory"]
            for which in (False, True)
        )
        if len(written) > 1:
            places, counts = np.unique(np.concatenate(written), return_counts=True)
            if (counts > 1).any():
                position, kind, tag = own
                place = f"memory at {int(places[np.argmax(counts > 1)])}"
                raise Twice(f"{kind} at {position} (tag {tag:#06x}) must write {place} once, not twice")
        for target in written:
            for source in read:
                if not np.array_equal(source, target):
                    met = np.intersect1d(source, target, assume_unique=True)
                    if met.size:
                        position, kind, tag = own
                        place = f"memory at {int(met[0])}"
                        raise Meets(f"{kind} at {position} (tag {tag:#06x}) must not write {place}, which it reads")

    def _check(
        self, name: str, places: np.ndarray, write: bool, clock: np.ndarray, number: int, own: tuple[int, str, int]
    ) -> None:
        access = self.accesses[name]
        if name in _BUFFERS and not write:
            missing = access.written[ENGINES.index("load"), places] == 0
            if missing.any():
                position, kind, tag = own
                place = f"{name} at {int(places[np.argmax(missing)])}"
                raise Unloaded(f"{kind} at {position} (tag {tag:#06x}) must read what was loaded, not {place}")
        for engine in range(len(ENGINES)):
            if engine == number:
                continue
            for last in (access.written, access.read)[: 1 + write]:
                beyond = last[engine, places] > clock[engine]
                if beyond.any():
                    index = int(places[np.argmax(beyond)])
                    first = self.names[engine, int(last[engine, index])]
                    raise Conflict(first, own, f"{name} at {index}")


def check(accelerator: Accelerator, program: Operand, commands: int) -> None:
    """Run a program by the interpreter and check its order.

    Parameters
    ----------
    accelerator : Accelerator
        With the image in its memory; it is left as after `Accelerator.run`.
    program : Operand
        Its first command.
    commands : int
        How many it has at most.

    Raises
    ------
    MachineError
        As `Accelerator.run`, if nothing that it comes from may be something else.
    Conflict
        At the first access that nothing orders after an earlier one.
    Twice
        At the first operation that writes a place of memory twice.
    Unloaded
        At the first product that reads what the program did not load.
    Meets
        At the first operation that writes some of what it reads.
    Overwritten
        At the first operation that writes a command of the program.
    Stuck
        If engines can wait for each other for ever, or for what nobody takes from the link.
    """
    p = accelerator.parameters
    places = {
        "memory": len(accelerator.memory),
        "chip": len(accelerator.chip),
        "bank": 2 * p.rows * p.group_buffer,
        "weights": 2 * p.weight_buffer,
        "scales": p.scale_buffer,
    }
    first = (accelerator.regions[program.region].base + program.offset) * UNIT_BYTES
    watch = _Watch(accelerator, places, range(first, first + commands * UNIT_BYTES))
    accelerator.access = watch.access
    try:
        accelerator.run(program, commands, watch=watch.carried_out)
    except MachineError as error:
        # What an operation has read by then may be something else on the machine.
        if isinstance(error.command, Operation) and error.cause not in ("token", "starved"):
            watch.carried_out(error.position, error.command)
        raise
    finally:
        accelerator.access = None
    _check_progress(watch.done)


def _check_progress(done: list[tuple[int, Operation]]) -> None:
    """Let the engines run with queues of `QUEUE` operations and a link that holds nothing, as far as they can."""
    partner = _partners(done)
    waiting: dict[str, collections.deque[int]] = {engine: collections.deque() for engine in ENGINES}
    started = [False] * len(done)
    finished = [False] * len(done)
    tokens: collections.Counter[tuple[str, str]] = collections.Counter()
    fetched = 0
    while True:
        moved = False
        while fetched < len(done) and len(waiting[done[fetched][1].engine]) < QUEUE:
            waiting[done[fetched][1].engine].append(fetched)
            fetched += 1
            moved = True
        for engine, queue in waiting.items():
            if not queue:
                continue
            number = queue[0]
            operation = done[number][1]
            if not started[number] and all(tokens[other, engine] for other in operation.pop):
                for other in operation.pop:
                    tokens[other, engine] -= 1
                started[number] = moved = True
            if started[number] and all(started[other] for other in partner.get(number, ())):
                finished[number] = moved = True
                queue.popleft()
                for other in operation.push:
                    tokens[engine, other] += 1
        if all(finished):
            return
        if not moved:
            heads = [done[queue[0]] for queue in waiting.values() if queue]
            names = ", ".join(f"{type(operation).__name__} at {position}" for position, operation in heads)
            raise Stuck(f"Engines must not wait for each other, as {names} do")


def _partners(done: list[tuple[int, Operation]]) -> dict[int, list[int]]:
    """Of what gives to the link and of what takes from it: those on the other side."""
    found: dict[int, list[int]] = collections.defaultdict(list)
    up: collections.deque[int] = collections.deque()
    down: collections.deque[int] = collections.deque()
    for number, (_, operation) in enumerate(done):
        if isinstance(operation, Emit) and operation.sent and operation.link:
            up.extend([number] * _lines(operation))
        if isinstance(operation, LoadGroups) and operation.link:
            for _ in range(operation.height):
                giver = up.popleft()
                if number not in found[giver]:
                    found[giver].append(number)
        if isinstance(operation, Multiply) and operation.leave:
            down.append(number)
        if isinstance(operation, Accumulate):
            found[down.popleft()].append(number)
    for number in [*up, *down][:1]:
        position, operation = done[number]
        kind = type(operation).__name__
        raise Stuck(f"What goes to the link must be taken from it, not left there, as by {kind} at {position}")
    return found


def _lines(emission: Emit) -> int:
    """Lines that an emission sends."""
    return emission.lines if emission.along == "channels" else emission.channels // emission.across
