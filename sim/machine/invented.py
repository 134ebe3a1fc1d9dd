"""Programs that no compiler writes: fields drawn anew, single operations, loops, groups on the link without a spool.

They are made of layers of `sim.machine.trust.Programs`. The machine must leave the memory, counters and sticky bits of
the interpreter, or end with its error: an invented program ends well, or leaves a region in a loop, one with an odd
field ends as it may.
"""

import dataclasses
import functools
import random

import numpy as np

from golden.machine import image
from golden.machine.accelerator import MachineError
from golden.machine.command import (
    ENGINES,
    NOWHERE,
    Coefficients,
    Command,
    Emit,
    End,
    Interrupt,
    LoadGroups,
    Loop,
    Operand,
    Operation,
    Slot,
    Stamp,
    Step,
    Wait,
    layout,
)
from rtl_gen.program.memory import STATES
from sim.machine.trust import Mistake, Programs, Wrong

_TRIES = 8
"""Programs with an odd field that are drawn until it is certain how one ends."""

_FEW = 6
"""Low bits of what is counted that may be others."""

_COUNTS = frozenset(
    "lines width vectors channels rows sets size outputs groups height records outer inner columns kernel_lines "
    "kernel_columns collected across segment".split()
)
"""Fields of which there is something to do for each: they stay small."""

_VECTORS = ("state", "held", "origin", "source1", "source2", "source3")
"""Operands of vectors that are read."""

_CALM = Wait(load=True, multiply=True, accumulate=True, emit=True)

_Drawn = tuple[int, list[Command], np.ndarray]
"""Number of a layer, commands that stand in its place, and the memory before them."""


def invented(programs: Programs, seed: int, turn: int) -> Mistake:
    """A program of one kind or another, by turns, and what the interpreter makes of it.

    Parameters
    ----------
    programs : Programs
        What it is made of.
    seed, turn : int
        All that is drawn follows from them.
    """
    draw = random.Random(f"{seed} invented {turn}")
    alone = [(f"{kind.__name__} alone", functools.partial(_alone, kind=kind)) for kind in programs.emissions]
    made = [("other fields", _redrawn_layer), ("loops", _looped), ("no spool", _linked), *alone, *alone]
    kind, make = made[turn % len(made)]
    while True:
        try:
            number, commands, memory = make(draw, programs)
            if draw.random() < 0.6:
                _shake(draw, programs, number, commands, memory)
            size = programs.place(number, commands, memory)
            told = "; ".join(map(str, commands)) if len(commands) < 3 else f"{len(commands)} other commands"
            found = programs.interpreted(kind, number, Wrong(told, memory, size=size))
        except (ArithmeticError, LookupError, MachineError, ValueError):
            continue  # fields that no command has, or numbers on which the law is silent
        if found.memory is not None or (make is _looped and found.cause == "region"):
            return found


def fields(programs: Programs) -> list[tuple[type[Operation], Slot]]:
    """Fields of the operations that programs have, each with its operation."""
    every = (one for number in programs.varied for one in programs.sections[number].commands)
    kinds = dict.fromkeys(type(one) for one in every if isinstance(one, Operation))
    return [(kind, slot) for kind in kinds for slot in layout(kind)]


def odd_field(programs: Programs, seed: int, turn: int) -> Mistake:
    """A program of which a field is odd, and what the interpreter makes of it: rarely is any end right.

    Turns go through `fields`, twice: the first time a field is 0, then one of its bits is another.

    Parameters are those of `invented`.
    """
    draw, every = random.Random(f"{seed} odd {turn}"), fields(programs)
    kind, slot = every[turn % len(every)]
    for _ in range(_TRIES):
        number = draw.choice([one for one in programs.varied if kind in map(type, programs.sections[one].commands)])
        memory, commands = programs.before[number].copy(), list(programs.sections[number].commands)
        place = draw.choice([place for place, one in enumerate(commands) if type(one) is kind])
        if kind in programs.emissions:
            memory, commands, place = programs.before[number + 1].copy(), [commands[place]], 0
            commands = [dataclasses.replace(commands[0], pop=(), push=())]
        bit = draw.randrange(_FEW if slot.name in _COUNTS else 32) % slot.width
        try:
            value = _odd(slot, getattr(commands[place], slot.name), None if turn < len(every) else 1 << bit)
            commands[place] = dataclasses.replace(commands[place], **{slot.name: value})
            wrong = Wrong(f"{slot.name} of {commands[place]}", memory, size=programs.place(number, commands, memory))
            found = programs.interpreted("odd field", number, wrong)
        except (ArithmeticError, LookupError, ValueError):
            continue
        if found.memory is not None or found.cause is not None:
            break
    return found


def _odd(slot: Slot, value: object, bits: int | None) -> object:
    """A value with other bits, or 0."""
    code = value.encode() if slot.kind is Operand else slot.kind.index(value) if isinstance(slot.kind, tuple) else value
    code = 0 if bits is None else int(code) & (1 << slot.width) - 1 ^ bits
    if slot.kind is Operand:
        return Operand.decode(code)
    if isinstance(slot.kind, tuple):
        return slot.kind[code]
    return slot.kind(code - (slot.signed and code >> slot.width - 1) * (1 << slot.width))


def _layer(draw: random.Random, programs: Programs) -> _Drawn:
    """A layer as it is."""
    number = draw.choice(programs.varied)
    return number, list(programs.sections[number].commands), programs.before[number].copy()


def _redrawn_layer(draw: random.Random, programs: Programs) -> _Drawn:
    """A layer of which an operation or two have some other fields."""
    number, commands, memory = _layer(draw, programs)
    _sprinkle(draw, commands)
    operations = [place for place, one in enumerate(commands) if isinstance(one, Operation)]
    for place in draw.sample(operations, min(draw.choice([1, 1, 2]), len(operations))):
        commands[place] = _redrawn(draw, commands[place], 0.1)
    return number, commands, memory


def _alone(draw: random.Random, programs: Programs, kind: type[Operation]) -> _Drawn:
    """An operation of the emit engine behind its layer: some fields are drawn anew."""
    number, command = draw.choice(programs.emissions[kind])
    command = dataclasses.replace(_redrawn(draw, command, 0.2), pop=(), push=())
    memory = programs.before[number + 1].copy()
    if isinstance(command, Coefficients):
        _fill_sums(draw, programs, command, memory)
    return number, [command], memory


def _looped(draw: random.Random, programs: Programs) -> _Drawn:
    """A layer, or such an operation, in loops that move regions; then once more where it was."""
    if draw.random() < 0.3:
        number, commands, memory = _layer(draw, programs)
    else:
        number, commands, memory = _alone(draw, programs, draw.choice(list(programs.emissions)))
    _sprinkle(draw, commands)
    commands = once = [_CALM, *commands]
    for _ in range(draw.choice([1, 1, 2, 3, 4])):
        regions = draw.sample(range(1, 8), draw.randrange(3))
        strides = [draw.choice([1, 2, 3, -1, -2, 1 + draw.getrandbits(27), -1 - draw.getrandbits(28)]) for _ in regions]
        steps = tuple(map(Step, regions, strides))
        commands = [Loop(turns=draw.choice([1, 2, 2, 3]), steps=steps), *commands, End()]
    return number, [*commands, *once], memory


def _sprinkle(draw: random.Random, commands: list[Command]) -> None:
    """Put commands that touch nothing between others."""
    for _ in range(draw.randrange(3)):
        engines = {engine: draw.random() < 0.5 for engine in ENGINES}
        kind = draw.choice([Stamp, Interrupt, functools.partial(Wait, **engines)])
        commands.insert(draw.randrange(len(commands) + 1), kind(tag=draw.getrandbits(16)))


def _linked(draw: random.Random, programs: Programs) -> _Drawn:
    """A layer of which an emission and the load of its groups use the link, without a spool."""
    number, commands, memory = _layer(draw, programs)
    emissions = {one.spool: place for place, one in enumerate(commands) if isinstance(one, Emit) and one.sent}
    loads = {one.source: place for place, one in enumerate(commands) if isinstance(one, LoadGroups)}
    for spool in emissions.keys() & loads.keys():
        for place, other, engine in ((emissions[spool], "push", "load"), (loads[spool], "pop", "emit")):
            left = tuple(one for one in getattr(commands[place], other) if one != engine)
            commands[place] = dataclasses.replace(commands[place], link=True, **{other: left})
    return number, commands, memory


def _redrawn(draw: random.Random, command: Operation, share: float) -> Operation:
    """Some fields are others."""
    some = [slot for slot in layout(type(command)) if draw.random() < share]
    return dataclasses.replace(command, **{slot.name: _other(draw, slot, getattr(command, slot.name)) for slot in some})


def _other(draw: random.Random, slot: Slot, value: object) -> object:
    """A value of a field, often another one."""
    if slot.kind is bool:
        return draw.random() < 0.5
    if isinstance(slot.kind, tuple):
        return draw.choice(slot.kind)
    if slot.kind is Operand:
        return Operand(STATES, draw.randrange(256)) if value == NOWHERE else value.moved(draw.randrange(8))
    near = [0, 1, value + 1, value - 1, 2 * value, draw.randrange(16)]
    if slot.name in _COUNTS:
        return draw.choice(near)
    return draw.choice([*near, draw.getrandbits(draw.randrange(1, slot.width)) * draw.choice([1, 1 - 2 * slot.signed])])


def _fill_sums(draw: random.Random, programs: Programs, command: Coefficients, memory: np.ndarray) -> None:
    """Any sums that a set may have."""
    records, most = command.sets * command.size, draw.randrange(1, 55 - command.size.bit_length())

    def numbers(bits: int) -> np.ndarray:
        return np.array([draw.getrandbits(draw.randrange(bits)) for _ in range(records)], np.int64)

    data = image.pack_sums(image.Sums(numbers(most) - numbers(most), numbers(64), numbers(6) == 1))
    for operand, part in ((command.sums1, data[: command.records1]), (command.sums2, data[command.records1 :])):
        begin = programs.byte_at(operand)
        memory[begin : begin + part.size] = part.ravel()


def _shake(draw: random.Random, programs: Programs, number: int, commands: list[Command], memory: np.ndarray) -> None:
    """Vectors, or some bytes next to each other, of those that a program reads, are others."""
    places = programs.bytes_read(memory, number, programs.place(number, commands, memory))
    if draw.random() < 0.5:
        for operand in dict.fromkeys(getattr(command, name, NOWHERE) for command in commands for name in _VECTORS):
            data = _vectors(draw, programs)
            begin = programs.byte_at(operand)
            some = np.intersect1d(places, np.arange(begin, begin + data.size))
            memory[some] = data[some - begin]
        return
    first = draw.randrange(len(places))
    some = places[first : first + (1 << draw.randrange(10))]
    noise = np.frombuffer(draw.randbytes(len(some)), np.uint8)
    ends = np.array([0, 1, 127, 128, 255], np.uint8)
    memory[some] = draw.choice([noise, memory[some] ^ noise & draw.choice([1, 15, 128]), ends[noise % 5]])


def _vectors(draw: random.Random, programs: Programs) -> np.ndarray:
    """Bytes of vectors of a state, of numbers of all sizes."""
    p = programs.program.parameters
    most = draw.randrange(1, p.state_width)
    widths = [draw.randrange(most) for _ in range(64)]
    numbers = [[draw.getrandbits(width) * draw.choice([-1, 1]) for _ in range(p.lanes)] for width in widths]
    return image.pack_vectors(np.array(numbers), p).ravel()
