"""Whether the emitted Verilog of the whole machine can be trusted: programs broken off, wrong, or refused by memory.

Words: a *trial* is a program that something is done to, and what must come of it. Whatever is done, the machine comes
to an end within its watchdog, and the memory behind its bus sees to it that no region is left.
"""

import collections
import contextlib
import dataclasses
import functools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.networks import UNetConfig, scattered, unet
from golden.diffusion.sampling import Sampling
from golden.machine import hazards
from golden.machine.accelerator import CHIP_REGION, Accelerator, MachineError
from golden.machine.command import (
    NOWHERE,
    UNIT_BYTES,
    Accumulate,
    Command,
    LoadGroups,
    Operand,
    Operation,
    Stamp,
    Stop,
    Wait,
    assemble,
)
from golden.machine.registers import COUNTERS, REGISTERS, TRACE, Register, register
from golden.machine.work import timeline
from golden.parameters import ZERO_GROUP
from golden.units.delta_group import DeltaGroups
from golden.units.joint_stream import JointGroups
from rtl_gen.program.memory import SPOOLS
from rtl_gen.program.sections import Sections, cut_sampling
from sim.machine.driver import Driver, Timeout
from sim.machine.port import InterpreterPort, Port
from sim.machine.run import odd_counters
from sim.machine.verilated import Fault, MachineModel, Memory, ProtocolError, VerilatedPort

WATCHDOG = 4_000
"""Clocks without progress that a trial may take: far more than memory ever does."""

_WAITS = frozenset({"token", "starved"})
"""Causes that the hardware does not know: an engine waits for ever, and the others go on meanwhile."""

_BEHIND = 1 << 22  # bytes that an access behind the end of a region may meet

_OTHERS = [one for one in REGISTERS if one.offset < register(f"{COUNTERS[0].name}_low").offset]
"""Registers that are no counters."""

_STICKY = sum(field.mask for field in register("sticky").fields)

_KEPT = 256  # mistakes whose outcome is remembered

_CALM = 16  # clocks between two looks at a machine that was halted

_FORGOTTEN = 1 << 16  # vectors of a tile that never comes, at most


class _Blocked(Exception):
    """The program waits for an engine that has stopped."""


class _Engines(Accelerator):
    """An interpreter whose engines stop one by one, to see which causes the hardware may tell first.

    An operation at fault ends its engine and goes on itself, to meet what else it breaks: the hardware asks ahead, for
    places of lines behind a damaged one, say. Engines beside it go on, until they wait for one that has stopped.

    Members
    -------
    causes : set of str
        What may be told.
    """

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.causes: set[str] = set()
        self._stopped: set[str] = set()
        self._broken = False

    def _carry_out(self, operation: Operation) -> None:
        if operation.engine in self._stopped:
            return
        self._broken, tokens = False, self._tokens.copy()
        try:
            super()._carry_out(operation)
        except MachineError as error:
            self._breaks(error.cause)
        except (ArithmeticError, LookupError, ValueError):  # what comes of numbers that broke a rule
            if not self._broken:
                raise
        if self._broken:
            self._stopped.add(operation.engine)
            self._tokens = tokens  # none is pushed

    def _breaks(self, cause: str) -> None:
        self.causes.add(cause)
        self._broken = True

    def _next(self, position: int, command: Command | None, turns: Any) -> int:
        if isinstance(command, Wait) and any(getattr(command, engine) for engine in self._stopped):
            raise _Blocked
        return super()._next(position, command, turns)

    def _sound(self, holds: bool, sentence: str, cause: str = "damaged") -> None:
        if not holds:
            self._breaks(cause)

    def _offset(self, operand: Operand, begin: int, size: int, *, moves: bool = True) -> int:
        try:
            return super()._offset(operand, begin, size, moves=moves)
        except MachineError as error:
            if not moves or size > _BEHIND:  # a fetched command, or more than there can be
                raise
            self._breaks(error.cause)
            place = self._place(operand)
            end = len(getattr(self, place))
            setattr(self, place, np.append(getattr(self, place), np.zeros(size, np.uint8)))
            return end

    def _slot(self, c: LoadGroups, slot: int, sent: int) -> DeltaGroups:
        held = len(self.memory)
        try:
            return super()._slot(c, slot, sent)
        except MachineError as error:
            if len(self.memory) == held:  # else it lies past its region, and never comes
                self._breaks(error.cause)
            return DeltaGroups.zeros(c.width * c.groups * sent, self.parameters)

    def _accumulate(self, c: Accumulate) -> None:
        n, come = self.parameters.lanes, (c.rows + 1) * c.outer * c.inner
        if c.exchanged:
            come = (c.rows + 1) * ((c.outer - 1) * n + c.tail)
        if not self._down and not c.groups and come <= _FORGOTTEN:
            # States are read before a vector has come.
            self._breaks("starved")
            self._down.append(JointGroups(np.full(come, ZERO_GROUP, np.uint8), np.zeros((come, n), np.int32)))
        super()._accumulate(c)


def small_sections(method: Method, seed: int) -> Sections:
    """Two steps of a small U-Net of random parameters, cut into layers: convolutions, norms, attention, resampling.

    Its attention has as many positions as the machine has lanes, or a few more.
    """
    side = 2 * max(math.isqrt(method.machine.lanes - 1) + 1, 2)
    config = UNetConfig(side=side, widths=(4, 8), attention=(False, True), groups=2, encoding=4, embedding=8)
    sampling = Sampling(scattered(unet, config, seed), [1], steps=3)
    return cut_sampling(sampling, method, calibrate(sampling), 2, lambda layer: layer.name)


@dataclasses.dataclass(frozen=True)
class Trial:
    """What came of a trial.

    Members
    -------
    kind : str
        What was done to the program: one of `MUTANTS`, "reset" or "refused beat".
    turn : int
        Number of the trial, from which all that is drawn follows.
    told : str
        The layer, and what was done.
    outcome : str
        "equal", the cause of an error, or "open" where the machine may do what it likes.
    failure : str
        What should not have been; nothing, if all is well.
    """

    kind: str
    turn: int
    told: str
    outcome: str
    failure: str = ""


class Programs:
    """Programs of single layers, with the memory before and after each as the interpreter leaves it.

    Parameters
    ----------
    made : Sections
        Of a sampling, a section for each layer.

    Members
    -------
    program : Program
        The first one, with the memory of all.
    sections : tuple of Section
        The layers.
    before : list of uint8 arrays
        Memory in front of each, and behind the last one.
    counters : list of mappings
        What each has counted, by `golden.machine.registers.COUNTERS`.
    sticky : list of dict of str to bool
        What has happened to numbers in each.
    varied : list of int
        Layers that each have a command with a field that is 0, 1, more, or a word, as in none before.
    emissions : dict of type to list of (int, Operation)
        Operations of the emit engine in these, by kind, each with the number of its layer.
    """

    def __init__(self, made: Sections):
        self.program, self.sections = made.program, made.sections
        self.before: list[np.ndarray] = []
        self.counters: list[Mapping[str, int]] = []
        self.sticky: list[dict[str, bool]] = []
        self._read: dict[int, np.ndarray] = {}
        self.mistake = functools.lru_cache(_KEPT)(self._mistake)
        self.noise = functools.lru_cache(_KEPT)(self._noise)
        driver = Driver(InterpreterPort(self.program.parameters, self.program.image.copy()))
        driver.load(self.program)
        for section in self.sections:
            self.before.append(driver.port.memory.copy())
            driver.run(section.operand, section.size)
            driver.wait(0)
            self.counters.append(driver.counters())
            self.sticky.append(driver.sticky)
            driver.set("sticky", _STICKY)
        self.before.append(driver.port.memory.copy())
        self.varied = self._varied()
        self.emissions: dict[type[Operation], list[tuple[int, Operation]]] = {}
        for number in self.varied:
            for command in self.sections[number].commands:
                if isinstance(command, Operation) and command.engine == "emit":
                    self.emissions.setdefault(type(command), []).append((number, command))

    def _varied(self) -> list[int]:
        seen: set[tuple[str, str, object]] = set()
        found = []
        for number, section in enumerate(self.sections):
            fields = {
                (type(command).__name__, field.name, _sort(getattr(command, field.name)))
                for command in section.commands
                for field in dataclasses.fields(command)
                if field.name != "tag"
            }
            if not fields <= seen:
                found.append(number)
            seen |= fields
        return found

    def interpreter(
        self, memory: np.ndarray, limits: Sequence[int] | None = None, kind: type[Accelerator] = Accelerator
    ) -> Accelerator:
        """An interpreter with this memory, and these limits of the regions instead of the program's."""
        reference = kind(self.program.parameters, 0)
        reference.memory = memory
        for number, (region, (base, limit)) in enumerate(zip(reference.regions, self.program.regions, strict=True)):
            region.base, region.limit = base, limit if limits is None else limits[number]
        return reference

    def _mistake(self, seed: int, turn: int) -> "Mistake":
        """What a turn of a seed draws, and what the interpreter makes of it."""
        draw = random.Random(f"{seed} mutant {turn}")
        kind = draw.choice(MUTANTS)
        number = draw.choice(self.that_read(_READS.get(kind, ())))
        return self.interpreted(kind, number, _WRONG[kind](draw, self, number))

    def _noise(self, seed: int, turn: int) -> "Mistake":
        """A layer on random numbers in a region that it reads, and what the interpreter makes of it."""
        draw = random.Random(f"{seed} noise {turn}")
        number = self.varied[turn % len(self.varied)]
        region = draw.choice([region for region in range(1, 7) if len(self.read_of(number, region))])
        memory, places = self.before[number].copy(), self.read_of(number, region)
        memory[places] = np.random.default_rng(draw.getrandbits(32)).integers(0, 256, len(places), np.uint8)
        return self.interpreted("noise", number, Wrong(f"noise in region {region}", memory))

    def interpreted(self, kind: str, number: int, wrong: "Wrong") -> "Mistake":
        """What the interpreter makes of a layer with something wrong."""
        reference, section = self.interpreter(wrong.memory.copy(), wrong.limits), self.sections[number]
        memory, cause = None, None
        try:
            hazards.check(reference, section.operand, wrong.size or section.size)
            memory = reference.memory
        except MachineError as error:
            cause = error.cause
        except hazards.HazardError:
            pass
        return Mistake(kind, number, wrong, memory, cause, reference.counters, dict(reference.status))

    def byte_at(self, operand: Operand) -> int:
        """First byte of memory of what an operand names."""
        return (self.program.regions[operand.region][0] + operand.offset) * UNIT_BYTES

    def words_at(self, number: int) -> int:
        """First byte of a layer's program."""
        return self.byte_at(self.sections[number].operand)

    def place(self, number: int, commands: Sequence[Command], memory: np.ndarray) -> int:
        """Write commands and a `Stop` in the place of a layer's program; how many these are."""
        words, at = assemble([*commands, Stop()]), self.words_at(number)
        memory[at : at + words.nbytes] = words.view(np.uint8).ravel()
        return len(words)

    def read(self, number: int) -> np.ndarray:
        """Bytes of memory that a layer finds and reads, ascending, its program left out."""
        if number not in self._read:
            self._read[number] = self.bytes_read(self.before[number], number, self.sections[number].size)
        return self._read[number]

    def bytes_read(self, memory: np.ndarray, number: int, size: int) -> np.ndarray:
        """Those that a program of so many commands finds and reads which stands in the place of a layer's.

        Raises
        ------
        MachineError
            If it does not end well.
        """
        reference = self.interpreter(memory.copy())
        found, written = [], np.zeros(len(reference.memory), bool)

        def watch(name: str, places: np.ndarray, write: bool) -> None:
            if name == "memory" and write:
                written[places] = True
            elif name == "memory":
                found.append(places[~written[places]])

        reference.access = watch
        reference.run(self.sections[number].operand, size)
        return np.unique(np.concatenate([np.zeros(0, np.int64), *map(np.ravel, found)]))

    def read_of(self, number: int, region: int) -> np.ndarray:
        """Those of them that lie in a region."""
        base, limit = self.program.regions[region]
        places = self.read(number)
        return places[(places >= base * UNIT_BYTES) & (places < (base + limit) * UNIT_BYTES)]

    def that_read(self, regions: Sequence[int]) -> list[int]:
        """Layers that read something of any of these regions; all layers, if there are none."""
        layers = range(len(self.sections))
        return [one for one in layers if not regions or any(len(self.read_of(one, region)) for region in regions)]


@dataclasses.dataclass(frozen=True)
class Wrong:
    """A layer's program with something wrong.

    Members
    -------
    told : str
        What was done.
    memory : uint8 array
        With the program in it.
    limits : sequence of int, optional
        Of the regions, if others.
    size : int
        Commands, if others; 0: as many as the layer has.
    """

    told: str
    memory: np.ndarray
    limits: Sequence[int] | None = None
    size: int = 0


class Mistake(NamedTuple):
    """A layer with something wrong, and what the interpreter makes of it.

    Members
    -------
    kind : str
        What is wrong.
    number : int
        Of the layer.
    wrong : Wrong
        Its program.
    memory : uint8 array or None
        What it leaves, if that is certain.
    cause : str or None
        Of the error, if there is one; without memory and cause any end is right.
    counters, sticky : mapping
        What it counts, and what happens to numbers.
    """

    kind: str
    number: int
    wrong: Wrong
    memory: np.ndarray | None
    cause: str | None
    counters: Mapping[str, int]
    sticky: Mapping[str, bool]


def _sort(value: object) -> object:
    """Of a field's value: numbers from 2 on are of one sort."""
    if isinstance(value, int):
        return min(value, 2)
    return value if isinstance(value, str) else repr(type(value))


def _elsewhere(operand: Operand, regions: int, units: int) -> Operand:
    """Where an operand is after regions got other numbers, but for that of the chip, and lie so many units lower."""
    region = operand.region if operand.region == CHIP_REGION else (operand.region + regions) % CHIP_REGION
    return Operand(region, operand.offset + units)


def _values(kind: type, command: Command) -> list[str]:
    """Fields of a command that are of a kind."""
    return [field.name for field in dataclasses.fields(command) if type(getattr(command, field.name)) is kind]


def _with_a_change(
    draw: random.Random, programs: Programs, number: int, kind: type, change: Callable[[Any], Any]
) -> Wrong:
    """One field of this kind, of one command, becomes what `change` makes of it, if the field takes it."""
    section, memory = programs.sections[number], programs.before[number].copy()
    while True:
        commands = list(section.commands)
        place = draw.choice([place for place, command in enumerate(commands) if _values(kind, command)])
        command = commands[place]
        name = draw.choice(_values(kind, command))
        try:
            changed = change(getattr(command, name))
            commands[place] = dataclasses.replace(command, **{name: changed})
            words = assemble([*commands, Stop()]).view(np.uint8).ravel()
        except ValueError:  # more than its bits
            continue
        if words.size <= section.size * UNIT_BYTES:
            memory[programs.words_at(number) :][: words.size] = words
            return Wrong(f"{name} of {command} becomes {changed}", memory)


def _number(draw: random.Random, programs: Programs, number: int) -> Wrong:
    """A number of a command is another one."""
    return _with_a_change(
        draw,
        programs,
        number,
        int,
        lambda value: draw.choice([0, 1, value + 1, max(value - 1, 0), 2 * value, value + draw.randrange(16)]),
    )


def _operand(draw: random.Random, programs: Programs, number: int) -> Wrong:
    """An operand of a command lies elsewhere."""
    return _with_a_change(
        draw,
        programs,
        number,
        Operand,
        lambda value: draw.choice(
            [
                value.moved(draw.choice([1, draw.randrange(1, 64), 1 << draw.randrange(20)])),
                dataclasses.replace(value, region=draw.randrange(8)),
            ]
        ),
    )


def _flipped(draw: random.Random, memory: np.ndarray, among: np.ndarray) -> Wrong:
    """Bits of some bytes flip."""
    places = [(int(among[draw.randrange(len(among))]), draw.randrange(8)) for _ in range(draw.choice([1, 1, 5, 50]))]
    changed = memory.copy()
    for place, bit in places:
        changed[place] ^= 1 << bit
    return Wrong("bits " + ", ".join(f"{place}.{bit}" for place, bit in places) + " flip", changed)


def _program(draw: random.Random, programs: Programs, number: int) -> Wrong:
    """Bits of the program flip."""
    begin = programs.words_at(number)
    places = np.arange(begin, begin + programs.sections[number].size * UNIT_BYTES)
    return _flipped(draw, programs.before[number], places)


def _image(draw: random.Random, programs: Programs, number: int) -> Wrong:
    """Bits of what the program reads flip."""
    return _flipped(draw, programs.before[number], programs.read(number))


def _stream(draw: random.Random, programs: Programs, number: int) -> Wrong:
    """Bits of groups in a spool flip."""
    return _flipped(draw, programs.before[number], programs.read_of(number, SPOOLS))


def _region(draw: random.Random, programs: Programs, number: int) -> Wrong:
    """A region ends earlier, often before or within what is read."""
    limits = [limit for _, limit in programs.program.regions]
    region = draw.choice([region for region, limit in enumerate(limits) if limit])
    places = programs.read_of(number, region) // UNIT_BYTES - programs.program.regions[region][0]
    ends = [*places.tolist(), limits[region] - 1] if draw.random() < 0.8 else range(limits[region])
    limits[region] = draw.choice(ends)
    return Wrong(f"region {region} ends at {limits[region]}", programs.before[number].copy(), limits)


_WRONG: Mapping[str, Callable[[random.Random, Programs, int], Wrong]] = {
    "number": _number,
    "operand": _operand,
    "program": _program,
    "image": _image,
    "stream": _stream,
    "region": _region,
}

_READS = {"image": range(1, 7), "stream": (SPOOLS,)}
"""Regions of which a layer must read something to be given such a mistake."""

MUTANTS = tuple(_WRONG)
"""What can be wrong: a number or an operand of a command; bits of the program, of what it reads, of groups in a spool;
the end of a region."""


class Trials:
    """Trials of one machine, one after the other; only its own means bring it back from one to the next.

    Parameters
    ----------
    model : MachineModel
        The machine.
    programs : Programs
        What it runs.
    how : Memory
        How memory behaves.
    seed : int
        Of all that is drawn.
    mutant : int
        Number of the mutant that the machine is, if the model has any; 0: none.
    limit : int
        Clocks that a program may take which is not as it should be.
    """

    def __init__(
        self,
        model: MachineModel,
        programs: Programs,
        how: Memory,
        seed: int,
        *,
        mutant: int = 0,
        limit: int = 2_000_000,
    ):
        self._programs, self._seed, self._clocks = programs, seed, limit
        memory = np.zeros(len(programs.program.image), np.uint8)
        self._port = VerilatedPort(model, programs.program.parameters, memory, how, mutant=mutant)
        self._driver = Driver(self._port, watchdog=WATCHDOG)
        self._driver.load(programs.program)

    @property
    def clocks(self) -> int:
        """That have passed."""
        return self._port.clocks

    def shown(self, *, counters: bool = False) -> dict[str, int]:
        """What registers hold, counters too if they are asked for."""
        found = {one.name: self._port.read(one.offset) for one in _OTHERS}
        return found | self._driver.counters() if counters else found

    def layers(self) -> Iterator[Trial]:
        """Run layers that differ, as they are: memory and, of all together, counters and sticky bits are right."""
        programs, expected = self._programs, collections.Counter()
        self._restart(1)
        sticky = dict.fromkeys(programs.sticky[0], False)
        for number in programs.varied:
            outcome, failure = self._right(number, clear=number == programs.varied[0])
            expected.update(programs.counters[number])
            sticky = {name: seen or programs.sticky[number][name] for name, seen in sticky.items()}
            if not failure and number == programs.varied[-1]:
                failure = self._odd(expected, sticky)
            yield self._judged("layer", number, self._name(number), (outcome, failure))

    def moved(self, units: Sequence[int]) -> Iterator[Trial]:
        """Run these layers with so many units added to every operand and taken from every base; all is as before.

        Regions have other numbers besides: the first time one more, then two more.
        """
        programs = self._programs
        for turn, distance in enumerate(units):
            other = functools.partial(_elsewhere, regions=turn + 1, units=distance)
            for number, (base, limit) in enumerate(programs.program.regions):
                region = other(Operand(number)).region
                self._driver.set(f"region{region}_base", base - distance & 0xFFFFFFFF)
                self._driver.set(f"region{region}_limit", limit + distance)
            for number in programs.varied:
                section = programs.sections[number]
                commands = [
                    dataclasses.replace(
                        command,
                        **{
                            name: other(getattr(command, name))
                            for name in _values(Operand, command)
                            if getattr(command, name) != NOWHERE
                        },
                    )
                    for command in section.commands
                ]
                memory, expected = programs.before[number].copy(), programs.before[number + 1].copy()
                for image in (memory, expected):
                    programs.place(number, commands, image)
                outcome, failure = self._end(memory, other(section.operand), section.size)
                failure = failure or self._difference(outcome, expected)
                yield self._judged("moved", turn, f"{self._name(number)}, {distance} units on", (outcome, failure))
        self._driver.load(programs.program)

    def noise(self, count: int) -> Iterator[Trial]:
        """Run these layers on random numbers in a region that they read: counters and sticky bits are right, too."""
        for turn in range(count):
            yield self.counted(turn, self._programs.noise(self._seed, turn))

    def counted(self, turn: int, mistake: Mistake) -> Trial:
        """Run a program: it ends as the interpreter says and, if it ends well, counters and sticky bits are right.

        Parameters
        ----------
        turn : int
            Number of the trial.
        mistake : Mistake
            The program, and what the interpreter makes of it.
        """
        self._driver.set("sticky", _STICKY)
        trial = self._tried(turn, mistake)
        if trial.outcome != "equal":
            return trial
        told = trial.outcome, self._odd(mistake.counters, mistake.sticky)
        return self._judged(trial.kind, turn, trial.told, told)

    def stamps(self, count: int) -> Iterator[Trial]:
        """Run programs of stamps: the trace keeps as many as it has room for, in order, and tells of the others."""
        programs = self._programs
        number = max(range(len(programs.sections)), key=lambda one: programs.sections[one].size)
        for turn, draw in self._turns("stamps", count):
            tags = [draw.getrandbits(16) for _ in range(draw.choice([3, TRACE, TRACE + 3]))]
            memory = programs.before[number].copy()
            size = programs.place(number, [Stamp(tag=tag) for tag in tags], memory)
            outcome, failure = self._end(memory, programs.sections[number].operand, size)
            lost, clocks = self._driver.get("trace", "lost"), []
            for left in range(min(len(tags), TRACE), 0, -1):
                held = [self._driver.get("trace", name) for name in ("stamps", "tag")]
                clocks.append(self._driver.get("trace_clock", "clock"))
                if not failure and held != [left, tags[len(clocks) - 1]]:
                    failure = f"stamp {len(clocks) - 1} is {held}, not {[left, tags[len(clocks) - 1]]}"
                self._driver.command("advance")
            took = self._driver.counters()["clocks"]
            if not failure and (lost != (len(tags) > TRACE) or clocks != sorted(set(clocks)) or clocks[-1] > took):
                failure = f"of {len(tags)} stamps in {took} clocks, lost is {lost}, clocks are {clocks}"
            yield self._judged("stamps", turn, f"{len(tags)} stamps", (outcome, failure))

    def registers(self, count: int) -> Iterator[Trial]:
        """Write any values to the registers that take them, of an idle machine: all hold what the interpreter's do.

        Counters are left out, which a reset does not clear.
        """
        for turn, draw in self._turns("registers", count):
            self._port.reset(1)
            ports = self._port, InterpreterPort(self._port.parameters, self._port.memory)
            for one in _OTHERS:
                value = draw.getrandbits(32)
                if any(field.access == "rw" for field in one.fields):
                    for port in ports:
                        port.write(one.offset, value)
            odd = {one.name: read for one in _OTHERS if len(set(read := [self._at_rest(one, p) for p in ports])) > 1}
            self._port.reset(1)
            self._driver.load(self._programs.program)
            self._driver.set("watchdog", WATCHDOG)
            failure = "; ".join(f"{name} is {got:#x}, not {expected:#x}" for name, (got, expected) in odd.items())
            yield self._judged("registers", turn, "registers are written and read", ("equal", failure))

    @staticmethod
    def _at_rest(one: Register, port: Port) -> int:
        """What a register holds; an engine at rest may wait for the link."""
        return port.read(one.offset) & ~sum(field.mask for field in one.fields if field.name == "link")

    def resets(self, count: int) -> Iterator[Trial]:
        """Break off a program at any clock, by the register or by the pin; the next one must run as ever."""
        for turn, draw in self._turns("reset", count):
            broken, number = (draw.randrange(len(self._programs.sections)) for _ in range(2))
            clock = draw.choice([draw.randrange(1, 600), draw.randrange(600, 4_000)])
            pin = draw.random() < 0.5
            told = f"{self._name(broken)} is broken off at clock {clock} by the {'pin' if pin else 'register'}"
            section = self._programs.sections[broken]
            self._port.memory[:] = self._programs.before[broken]
            self._driver.run(section.operand, section.size)
            self._port.advance(clock)
            if pin:
                self._restart(draw.randrange(1, 4))
            else:
                self._driver.reset()
            yield self._judged("reset", turn, f"{told}, then {self._name(number)}", self._right(number))

    def halts(self, count: int) -> Iterator[Trial]:
        """Halt a program at any clock, some interrupts enabled: what was begun ends; the next one must run as ever."""
        for turn, draw in self._turns("halt", count):
            halted, number = (draw.randrange(len(self._programs.sections)) for _ in range(2))
            clock, enabled = draw.randrange(draw.choice([600, 12_000])), draw.getrandbits(3)
            told = f"{self._name(halted)} is halted at clock {clock}, interrupts {enabled:03b}"
            section = self._programs.sections[halted]
            self._port.memory[:] = self._programs.before[halted]
            self._driver.run(section.operand, section.size)
            self._driver.set("interrupt_enable", enabled)
            self._port.advance(clock)
            self._driver.command("halt")
            found = "equal", self._calm(halted, enabled)
            if not found[1]:
                told, found = f"{told}, then {self._name(number)}", self._right(number)
            yield self._judged("halt", turn, told, found)

    def _calm(self, number: int, enabled: int) -> str:
        """What should not be, once a layer that was halted has come to rest or to its end."""
        for _ in range(0, WATCHDOG, _CALM):
            if not self._driver.get("status", "busy"):
                break
            self._port.advance(_CALM)
        status = [field.name for field in register("status").fields if self._driver.get("status", field.name)]
        pending = self._port.read(register("interrupt").offset)
        told = bool(self._port.advance(1))
        if status not in (["halted"], ["done"]) or pending != (status == ["done"]) or told != bool(pending & enabled):
            return f"status is {' '.join(status)}, of interrupts {pending:03b} are pending, one is told: {told}"
        return self._difference("equal", self._programs.before[number + 1]) if status == ["done"] else ""

    def mutants(self, count: int) -> Iterator[Trial]:
        """Run programs with something wrong: they must end as the interpreter says."""
        for turn in range(count):
            yield self._tried(turn, self._programs.mistake(self._seed, turn))

    def _tried(self, turn: int, mistake: Mistake) -> Trial:
        number, wrong, expected, cause = mistake.number, mistake.wrong, mistake.memory, mistake.cause
        self._limit(wrong.limits)
        section = self._programs.sections[number]
        outcome, failure = self._end(wrong.memory, section.operand, wrong.size or section.size)
        self._limit(None)
        if not failure and expected is not None:
            failure = self._difference(outcome, expected)
        elif not failure and cause is not None and outcome != cause:
            allowed = self._causes(number, wrong, cause)
            if outcome not in allowed:
                failure = f"must end with {' or '.join(sorted(allowed))}, not {outcome}"
        shown = "open" if expected is None and cause is None else outcome
        return self._judged(mistake.kind, turn, f"{self._name(number)}: {wrong.told}", (shown, failure))

    def faults(self, count: int) -> Iterator[Trial]:
        """Refuse a beat of a program, any of those that it reads or writes: an error; the next program runs as ever."""
        beats: dict[int, dict[str, int]] = {}
        for turn, draw in self._turns("fault", count):
            number = draw.randrange(len(self._programs.sections))
            if number not in beats:
                self._restart(1)
                self._run(number, self._programs.before[number])
                beats[number] = self._port.traffic
            write = draw.random() < 0.5
            what = "written" if write else "read"
            fault = Fault(write, draw.randrange(beats[number][f"beats {what}"]), draw.choice([2, 3]))
            self._restart(1)
            self._port.refuse([fault])
            outcome, failure = self._run(number, self._programs.before[number])
            response = self._driver.get("error", "response")
            self._port.refuse([])
            if not failure and (outcome, response) != ("bus", fault.response):
                failure = f"must end with bus, response {fault.response}, not {outcome}, response {response}"
            told = f"{self._name(number)}: beat {fault.beat} {what} has response {fault.response}"
            yield self._judged("refused beat", turn, told, (outcome, failure))
            # Behind it, since registers tell of the error until a program begins.
            again = self._right(number)
            if again[1]:
                yield self._judged("refused beat", turn, f"{told}, then it has not", again)

    def _turns(self, kind: str, count: int) -> Iterator[tuple[int, random.Random]]:
        """Numbers from 0, each with what draws for it."""
        for turn in range(count):
            yield turn, random.Random(f"{self._seed} {kind} {turn}")

    def _name(self, number: int) -> str:
        section = self._programs.sections[number]
        return f"step {section.step}, {section.name}"

    def _restart(self, clocks: int) -> None:
        """Reset by the pin for some clocks; the watchdog is told again."""
        self._port.reset(clocks)
        self._driver.set("watchdog", WATCHDOG)

    def _limit(self, limits: Sequence[int] | None) -> None:
        for number, (_, limit) in enumerate(self._programs.program.regions):
            self._driver.set(f"region{number}_limit", limit if limits is None else limits[number])

    def _run(self, number: int, memory: np.ndarray, limit: int | None = None, *, clear: bool = True) -> tuple[str, str]:
        """Run a layer's program: "equal", for now, or the cause of its error; and what should not have been."""
        section = self._programs.sections[number]
        return self._end(memory, section.operand, section.size, limit, clear=clear)

    def _end(
        self, memory: np.ndarray, operand: Operand, size: int, limit: int | None = None, *, clear: bool = True
    ) -> tuple[str, str]:
        """Run a program: "equal", for now, or the cause of its error; and what should not have been."""
        try:
            self._port.memory[:] = memory
            self._driver.run(operand, size, clear=clear)
            if not self._port.advance(limit or self._clocks):
                raise Timeout(f"no interrupt has come; {self._driver.dump()}")
            self._driver.wait(limit or self._clocks)
        except MachineError as error:
            return error.cause, ""
        except (ProtocolError, Timeout) as error:
            self._restart(2)
            return "failed", str(error)
        return "equal", ""

    def _right(self, number: int, *, clear: bool = True) -> tuple[str, str]:
        """Run a layer as it is."""
        programs = self._programs
        predicted = timeline(programs.sections[number].commands, programs.program.parameters).clocks
        outcome, failure = self._run(number, programs.before[number], 20 * predicted + 10_000, clear=clear)
        return outcome, failure or self._difference(outcome, programs.before[number + 1])

    def _odd(self, counters: Mapping[str, int], sticky: Mapping[str, bool]) -> str:
        """Counters and sticky bits that are not these."""
        odd = odd_counters(self._driver.counters(), counters)
        odd |= {name: (seen, sticky[name]) for name, seen in self._driver.sticky.items() if seen != sticky[name]}
        return ", ".join(f"{name} is {one}, not {two}" for name, (one, two) in odd.items())

    def _difference(self, outcome: str, expected: np.ndarray) -> str:
        if outcome != "equal":
            return f"must end well, not with {outcome}"
        odd = np.flatnonzero(self._port.memory != expected)
        return f"{len(odd)} bytes of memory differ, the first at {odd[0]}" if len(odd) else ""

    def _causes(self, number: int, wrong: Wrong, first: str) -> set[str]:
        """Causes of which any may be told: the interpreter's, others of that operation, and of those beside it."""
        section = self._programs.sections[number]
        engines = self._programs.interpreter(wrong.memory.copy(), wrong.limits, _Engines)
        # A command at fault is told when all operations before it are done.
        with contextlib.suppress(_Blocked, MachineError):
            engines.run(section.operand, wrong.size or section.size)
        return (engines.causes | {first}) - _WAITS | ({"watchdog"} if first in _WAITS else set())

    @staticmethod
    def _judged(kind: str, turn: int, told: str, found: tuple[str, str]) -> Trial:
        outcome, failure = found
        return Trial(kind, turn, told, "failed" if failure else outcome, failure)
