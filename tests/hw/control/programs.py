"""Programs for the tests of the command unit, what it must make of them, and a memory to fetch them from."""

import dataclasses
import random

import numpy as np

from golden.machine.accelerator import Accelerator, MachineError
from golden.machine.command import (
    CLOSED_LOOP,
    ENGINES,
    End,
    Interrupt,
    Loop,
    Operand,
    Stamp,
    Step,
    Stop,
    Wait,
    layout,
    operations,
    pack,
)
from golden.parameters import preset

LIMIT = (1 << 29) - 1
TINY = preset("tiny")


@dataclasses.dataclass(frozen=True)
class Told:
    """An operation as an engine is told it."""

    opcode: int
    tag: int
    words: tuple[int, ...]
    pop: tuple[str, ...]
    push: tuple[str, ...]


class Recorder(Accelerator):
    """The interpreter with engines that do nothing but note what they were told: by engine, with moves added."""

    def __init__(self, memory, dataflows):
        super().__init__(dataclasses.replace(TINY, dataflows=dataflows), len(memory))
        self.memory[:] = memory
        self.told = {engine: [] for engine in ENGINES}

    def _note(self, command):
        dataflows = self.parameters.dataflows
        words = pack(command, dataflows)
        for slot in layout(type(command), dataflows):
            if slot.kind is Operand:
                operand = getattr(command, slot.name)
                offset = operand.offset + self._moved[operand.region]
                words[slot.word] = operand.region << 29 | (offset if 0 <= offset < LIMIT else LIMIT)
        self.told[command.engine].append(Told(command.opcode, command.tag, tuple(words), command.pop, command.push))

    _load_weights = _load_groups = _load_scales = _multiply = _accumulate = _combine = _coefficients = _emit = (
        _align
    ) = _rows = _note


def expected(memory, regions, program, commands, dataflows=CLOSED_LOOP):
    """What the engines are told, and cause, position and tag of the error, if there is one."""
    machine = Recorder(memory, dataflows)
    for region, (base, limit) in zip(machine.regions, regions, strict=True):
        region.base, region.limit = base, limit
    try:
        machine.run(program, commands)
    except MachineError as error:
        return machine.told, (error.cause, error.position, error.tag), machine.counters["commands"]
    return machine.told, None, machine.counters["commands"]


def random_operation(draw, credits, dataflows):
    """An operation with random fields, which pops no token that was not pushed before."""
    kind = draw.choice(operations(dataflows))
    values = {}
    for slot in layout(kind, dataflows):
        if slot.kind is Operand:
            values[slot.name] = Operand(draw.randrange(8), draw.choice([draw.getrandbits(29), draw.getrandbits(8)]))
        elif isinstance(slot.kind, tuple):
            values[slot.name] = draw.choice(slot.kind)
        elif slot.kind is bool:
            values[slot.name] = draw.random() < 0.5
        else:
            low = -(1 << slot.width - 1) if slot.signed else 0
            values[slot.name] = draw.randrange(low, low + (1 << slot.width))
    others = [engine for engine in ENGINES if engine != kind.engine]
    pop = [other for other in others if credits[other, kind.engine] and draw.random() < 0.7]
    push = [other for other in others if draw.random() < 0.4]
    for other in pop:
        credits[other, kind.engine] -= 1
    for other in push:
        credits[kind.engine, other] = credits.get((kind.engine, other), 0) + 1
    return kind(tag=draw.getrandbits(16), pop=tuple(pop), push=tuple(push), **values)


def random_program(draw, length, dataflows=CLOSED_LOOP, *, depth=0, credits=None):
    """Random commands, loops included. Tokens that are popped in a loop were pushed in the same turn of it."""
    credits = dict.fromkeys(((a, b) for a in ENGINES for b in ENGINES), 0) if credits is None else credits
    program = []
    while len(program) < length:
        case = draw.random()
        if case < 0.08 and depth < Loop.DEPTH:
            regions = draw.sample(range(8), draw.randrange(6))
            strides = [draw.choice([1, -1]) * draw.choice([3, draw.randrange(1, 1 << 28)]) for _ in regions]
            steps = tuple(Step(*pair) for pair in zip(regions, strides, strict=True))
            body = random_program(
                draw, draw.randrange(4), dataflows, depth=depth + 1, credits=dict.fromkeys(credits, 0)
            )
            program += [Loop(turns=draw.randrange(1, 4), steps=steps, tag=draw.getrandbits(16)), *body, End()]
        elif case < 0.2:
            waits = {engine: draw.random() < 0.5 for engine in ENGINES}
            program.append(draw.choice([Stamp, Interrupt])(tag=draw.getrandbits(16)) if case < 0.14 else Wait(**waits))
        else:
            program.append(random_operation(draw, credits, dataflows))
    return program if depth else [*program, Stop(tag=draw.getrandbits(16))]


def image(words, *, units=64, at=5):
    """Memory with a program at unit `at`, noise around it."""
    memory = np.frombuffer(random.Random(1).randbytes(32 * (units + len(words))), np.uint8).copy()
    memory[32 * at : 32 * (at + len(words))] = np.asarray(words, np.uint32).view(np.uint8).ravel()
    return memory
