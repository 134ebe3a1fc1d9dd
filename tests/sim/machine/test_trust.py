"""What the whole machine on emitted Verilog does with programs that are broken off, moved, or wrong."""

import dataclasses
import random

import numpy as np
import pytest

from golden.machine import hazards
from golden.machine.accelerator import Accelerator, MachineError
from golden.machine.command import UNIT_BYTES, Operation, Stop, assemble
from sim.machine import Driver, InterpreterPort
from sim.machine.verilated import Memory, VerilatedPort
from tests.sim.machine.test_networks import METHOD, model, sections

pytestmark = pytest.mark.cocotb

MACHINE = METHOD.machine
WATCHDOG = 20_000


class Layers:
    """Programs of single layers, with the memory before and after each as the interpreter leaves it."""

    def __init__(self):
        made = sections(3)
        self.program, self.sections, self.before = made.program, made.sections, []
        driver = Driver(InterpreterPort(MACHINE, made.program.image.copy()))
        driver.load(made.program)
        for section in self.sections:
            self.before.append(driver.port.memory.copy())
            driver.run(section.operand, section.size)
            driver.wait(0)
        self.before.append(driver.port.memory.copy())

    def of(self, *kinds):
        """Numbers of the layers that have an operation of each of these kinds."""
        found = [{type(command).__name__ for command in section.commands} for section in self.sections]
        return [number for number, names in enumerate(found) if names >= set(kinds)]

    def words_at(self, number):
        """First byte of a layer's program."""
        return (self.program.regions[0][0] + self.sections[number].operand.offset) * UNIT_BYTES


@pytest.fixture(scope="module")
def layers():
    return Layers()


def machine(layers, **how):
    """A driver of the Verilog."""
    memory = np.zeros(len(layers.program.image), np.uint8)
    driver = Driver(VerilatedPort(model(), MACHINE, memory, Memory(**how)), watchdog=WATCHDOG)
    driver.load(layers.program)
    return driver


def run(driver, layers, number, memory=None):
    """Run a layer's program on the memory that it finds."""
    driver.port.memory[:] = layers.before[number] if memory is None else memory
    driver.run(layers.sections[number].operand, layers.sections[number].size)
    driver.wait(2_000_000)


def test_after_a_reset_at_any_clock_every_program_is_right(layers, fresh_seed):
    draw = random.Random(fresh_seed)
    driver = machine(layers, latency=9, mode="both", seed=fresh_seed)
    for _ in range(30):
        broken, number = draw.randrange(len(layers.sections)), draw.randrange(len(layers.sections))
        driver.port.memory[:] = layers.before[broken]
        driver.run(layers.sections[broken].operand, layers.sections[broken].size)
        driver.port.advance(draw.choice([draw.randrange(1, 600), draw.randrange(600, 12_000)]))
        driver.reset()
        run(driver, layers, number)
        np.testing.assert_array_equal(driver.port.memory, layers.before[number + 1], layers.sections[number].name)


def test_programs_in_any_order_need_no_reset(layers, fresh_seed):
    draw = random.Random(fresh_seed)
    driver = machine(layers, latency=5, mode="idle", seed=fresh_seed)
    for _ in range(20):
        number = draw.randrange(len(layers.sections))
        run(driver, layers, number)
        np.testing.assert_array_equal(driver.port.memory, layers.before[number + 1], layers.sections[number].name)


def test_programs_run_wherever_regions_lie(layers, fresh_seed):
    draw, regions = random.Random(fresh_seed), layers.program.regions
    size = len(layers.program.image) + 9 * 100 * UNIT_BYTES
    driver = Driver(VerilatedPort(model(), MACHINE, np.zeros(size, np.uint8), Memory(latency=5)), watchdog=WATCHDOG)
    driver.load(layers.program)
    for _ in range(5):
        number = draw.randrange(len(layers.sections))
        order, base, places = draw.sample(range(7), 7), 0, {}
        for region in order:
            base += draw.randrange(100)
            places[region] = base
            base += regions[region][1]
        memory = np.random.default_rng(fresh_seed).integers(0, 256, size, np.uint8)
        expected = memory.copy()
        for region, place in places.items():
            first, limit = regions[region]
            for target, source in ((memory, layers.before[number]), (expected, layers.before[number + 1])):
                target[32 * place : 32 * (place + limit)] = source[32 * first : 32 * (first + limit)]
            driver.set(f"region{region}_base", place)
        run(driver, layers, number, memory)
        np.testing.assert_array_equal(driver.port.memory, expected, layers.sections[number].name)


def test_a_program_without_one_of_its_tokens_goes_wrong(layers, fresh_seed):
    """For at least one of them: else tokens would not be needed."""
    number = layers.of("Emit", "LoadGroups", "Multiply", "Accumulate")[-1]
    section, at = layers.sections[number], layers.words_at(number)
    tokens = [
        (place, engine)
        for place, command in enumerate(section.commands)
        if isinstance(command, Operation)
        for engine in command.pop
    ]
    driver, wrong = machine(layers, latency=30, mode="both", seed=fresh_seed), 0
    for place, engine in random.Random(fresh_seed).sample(tokens, min(len(tokens), 12)):
        commands = list(section.commands)
        kept = tuple(other for other in commands[place].pop if other != engine)
        commands[place] = dataclasses.replace(commands[place], pop=kept)
        words = assemble([*commands, Stop()]).view(np.uint8).ravel()
        memory, expected = layers.before[number].copy(), layers.before[number + 1].copy()
        memory[at : at + words.size] = expected[at : at + words.size] = words
        try:
            run(driver, layers, number, memory)
            wrong += not np.array_equal(driver.port.memory, expected)
        except MachineError:
            wrong += 1
    assert wrong


def with_a_wrong_field(draw, layers, number):
    """A layer's memory with one number of one command changed."""
    memory, commands = layers.before[number].copy(), list(layers.sections[number].commands)
    while True:
        place = draw.randrange(len(commands))
        command = commands[place]
        name = draw.choice(
            [field.name for field in dataclasses.fields(command) if type(getattr(command, field.name)) is int]
        )
        value = getattr(command, name)
        other = draw.choice([0, 1, value + 1, max(value - 1, 0), 2 * value, value + draw.randrange(16)])
        try:
            changed = dataclasses.replace(command, **{name: other})
            words = assemble([*commands[:place], changed, *commands[place + 1 :], Stop()]).view(np.uint8).ravel()
        except ValueError:  # more than its bits
            continue
        if words.size <= layers.sections[number].size * UNIT_BYTES:
            memory[layers.words_at(number) :][: words.size] = words
            return memory, f"{name} of {command} becomes {other}"


def with_wrong_bits(draw, layers, number):
    """A layer's memory with bits of its program, or of what it reads, flipped."""
    memory, regions = layers.before[number].copy(), layers.program.regions
    begin, size = layers.words_at(number), layers.sections[number].size * UNIT_BYTES
    if draw.random() < 0.5:
        region = draw.choice([number for number in range(1, 7) if regions[number][1]])
        begin, size = (UNIT_BYTES * value for value in regions[region])
    places = [(begin + draw.randrange(size), draw.randrange(8)) for _ in range(draw.choice([1, 5, 50]))]
    for place, bit in places:
        memory[place] ^= 1 << bit
    return memory, f"bits {places} flip"


def interpreted(layers, number, memory):
    """Memory and error after a program; None in place of the memory where the hardware may leave another one."""
    reference = Accelerator(MACHINE, 0)
    reference.memory = memory.copy()
    for region, (base, limit) in zip(reference.regions, layers.program.regions, strict=True):
        region.base, region.limit = base, limit
    try:
        hazards.check(reference, layers.sections[number].operand, layers.sections[number].size)
    except MachineError as error:
        return None, error.cause
    except hazards.HazardError:
        return None, None
    return reference.memory, None


@pytest.mark.parametrize("count", [40, pytest.param(3000, marks=pytest.mark.slow)])
def test_programs_that_are_wrong_end_as_the_interpreter_says(layers, count):
    """Nothing hangs past the watchdog, and the memory behind the bus sees to it that no region is left."""
    driver, seen = machine(layers, latency=7, mode="both", seed=count), set()
    for turn in range(count):
        draw = random.Random(f"{count} {turn}")
        number = draw.randrange(len(layers.sections))
        memory, told = draw.choice([with_a_wrong_field, with_wrong_bits])(draw, layers, number)
        expected, cause = interpreted(layers, number, memory)
        try:
            run(driver, layers, number, memory)
            found = None
        except MachineError as error:
            found = error.cause
        told = f"turn {turn}, {layers.sections[number].name}: {told}"
        if expected is not None:
            assert found is None, told
            np.testing.assert_array_equal(driver.port.memory, expected, told)
        elif cause is not None:
            assert found == {"token": "watchdog", "starved": "watchdog"}.get(cause, cause), told
        seen.add(cause)
    assert {None, "command", "field"} <= seen
