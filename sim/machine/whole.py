"""A whole sampling by both executors: one program, run by each without a pause, memories compared after every step.

The program tells where a step ends by an `Interrupt`. Nobody answers: the simulation's clock stands while memory is
looked at, and the machine goes on in the next one. The interpreter works a step ahead in a thread of its own.
"""

import collections
import contextlib
import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from golden.machine.command import ENGINES, Command, Interrupt, Operation
from golden.machine.work import timeline
from golden.parameters import Parameters
from rtl_gen.program.file import Program
from rtl_gen.program.steps import Steps
from sim.machine.comparison import difference
from sim.machine.driver import Driver
from sim.machine.port import Port
from sim.machine.run import Failure, failing, odd_counters


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What a machine has left at some point of a program.

    Members
    -------
    memory : uint8 array
        All of it.
    counters : Counter
        Since the program's start, by `golden.machine.registers.COUNTERS`.
    status : dict of str to bool
        Sticky ``overflow`` and ``poisoned``.
    by_tag : dict of int to Counter
        Of the operations of each tag so far: the counters `TAGGED`.
    """

    memory: np.ndarray
    counters: "collections.Counter[str]"
    status: dict[str, bool]
    by_tag: dict[int, "collections.Counter[str]"]


TAGGED = ("link_group_bits", "array_groups")
"""Counters that the interpreter keeps for each tag: what crosses the link, and what the array works on."""


class _Stopped(Exception):
    """Nobody wants more snapshots."""


def interpreted(program: Program) -> Iterator[Snapshot]:
    """Run a program by the interpreter: what it leaves at each `Interrupt`, and at the end."""
    machine = program.load()
    given: queue.Queue[Snapshot | Exception | None] = queue.Queue(1)
    by_tag: dict[int, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    seen = dict.fromkeys(TAGGED, 0)
    stopped = threading.Event()

    def give(one: Snapshot | Exception | None) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                return given.put(one, timeout=0.1)
        raise _Stopped

    def look() -> None:
        tags = {tag: found.copy() for tag, found in by_tag.items()}
        give(Snapshot(machine.memory.copy(), machine.counters.copy(), dict(machine.status), tags))

    def watch(position: int, command: Command) -> None:
        if isinstance(command, Operation):
            for name in TAGGED:
                by_tag[command.tag][name] += machine.counters[name] - seen[name]
                seen[name] = machine.counters[name]
        if isinstance(command, Interrupt):
            look()

    def work() -> None:
        with contextlib.suppress(_Stopped):
            try:
                machine.run(program.operand, program.commands, watch=watch)
                look()
                give(None)
            except Exception as error:
                give(error)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    try:
        while (found := given.get()) is not None:
            if isinstance(found, Exception):
                raise found
            yield found
    finally:
        stopped.set()
        worker.join()


@dataclass(frozen=True)
class StepRow:
    """What a step took.

    Members
    -------
    step : int
        In order of execution.
    predicted, clocks : int
        On paper, and measured.
    seconds : float
        That it was simulated for, the comparison included.
    counters : dict of str to int
        What was counted in it.
    by_tag : dict of int to int
        Clocks by which each tag's operations move the end on, see `clocks_by_tag`.
    """

    step: int
    predicted: int
    clocks: int
    seconds: float
    counters: dict[str, int]
    by_tag: dict[int, int]


def clocks_by_tag(
    commands: Sequence[Command], spans: Mapping[str, Sequence[tuple[int, int]]]
) -> "collections.Counter[int]":
    """Clocks that operations of a tag move the end on by, as they end one after the other.

    Parameters
    ----------
    commands : sequence of Command
        That were run.
    spans : mapping
        First clock and the one after the last of each operation, by engine; ValueError if there are not as many.
    """
    ends = []
    for engine, found in spans.items():
        own = [one for one in commands if isinstance(one, Operation) and one.engine == engine]
        ends += [(end, begin, one.tag) for one, (begin, end) in zip(own, found, strict=True)]
    clocks: collections.Counter[int] = collections.Counter()
    last = min((begin for _, begin, _ in ends), default=0)
    for end, _, tag in sorted(ends):
        clocks[tag] += end - last
        last = end
    return clocks


class WholeSampling:
    """An interpreter and a machine on the same sampling.

    Parameters
    ----------
    steps : Steps
        What is run.
    port : callable
        Makes the machine's port from its parameters and its memory.
    first : int
        Step to begin with: `memory` is what those before it have left.
    memory : uint8 array, optional
        If it does not begin with step 0.

    Members
    -------
    driver : Driver
        Of the machine.
    end : Snapshot or None
        What the interpreter has left at the end.
    """

    def __init__(
        self,
        steps: Steps,
        port: Callable[[Parameters, np.ndarray], Port],
        *,
        first: int = 0,
        memory: np.ndarray | None = None,
    ):
        self._steps, self._first = steps, first
        self._program = program = steps.program if memory is None else steps.after(first, memory)
        self.driver = Driver(port(program.parameters, np.zeros(len(program.image), np.uint8)))
        self.end: Snapshot | None = None
        self._spans: dict[str, list[tuple[int, int]]] = {engine: [] for engine in ENGINES}
        self.driver.load(program)

    def run(self) -> Iterator[tuple[StepRow, np.ndarray]]:
        """Run the program: a row for each step, and what it has left in memory.

        Raises
        ------
        Failure
            At the first error or difference.
        """
        begun = time.perf_counter()
        ended = self._first - 1  # the last step that has
        before: Mapping[str, int] = {}
        snapshots = interpreted(self._program)
        with contextlib.closing(snapshots), failing(lambda: f"after step {ended}"):
            self.driver.run()
            for memory, expected in zip(self._memories(), snapshots, strict=True):
                self._compare(ended, memory, expected.memory)
                counters, now = self.driver.counters(), time.perf_counter()
                if ended >= self._first:
                    yield self._row(ended, counters, before, now - begun), memory
                before, begun, self.end = counters, now, expected
                ended += 1

    def odd(self) -> dict[str, tuple[int, int]]:
        """Counters and sticky bits at the end that are not the interpreter's: the machine's and the interpreter's."""
        expected = self.end
        if expected is None:
            raise ValueError("a sampling must have been run before it is compared")
        sticky = self.driver.sticky
        found = odd_counters(self.driver.counters(), expected.counters)
        return found | {
            name: (int(sticky[name]), int(seen)) for name, seen in expected.status.items() if sticky[name] != seen
        }

    def _memories(self) -> Iterator[np.ndarray]:
        p = self._program.parameters
        clocks = sum(timeline(turn, p).clocks for turn in self._steps.turns[self._first :])
        return itertools.chain(self.driver.interrupts(4 * clocks + 100_000), self._last())

    def _last(self) -> Iterator[np.ndarray]:
        yield self.driver.port.memory

    def _compare(self, step: int, got: np.ndarray, expected: np.ndarray) -> None:
        found = difference(self._steps.compiler, self._program.regions, got, expected)
        if found is not None:
            raise Failure(f"after step {step}: {found}")

    def _row(
        self,
        step: int,
        counters: Mapping[str, int],
        before: Mapping[str, int],
        seconds: float,
    ) -> StepRow:
        turn = self._steps.turns[step]
        counted = {name: count - before[name] for name, count in counters.items()}
        return StepRow(
            step=step,
            predicted=timeline(turn, self._program.parameters).clocks,
            clocks=counted["clocks"],
            seconds=seconds,
            counters=counted,
            by_tag=dict(clocks_by_tag(turn, self._spans_of(turn))),
        )

    def _spans_of(self, turn: Sequence[Command]) -> dict[str, list[tuple[int, int]]]:
        """Of a step's operations; the next one's may have begun to end while counters were read."""
        found = {}
        for engine, spans in self.driver.port.spans().items():
            waiting = self._spans[engine] + spans
            count = sum(isinstance(one, Operation) and one.engine == engine for one in turn)
            found[engine], self._spans[engine] = waiting[:count], waiting[count:]
        return found
