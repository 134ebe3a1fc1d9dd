"""What the whole machine on emitted Verilog does with programs that are broken off, moved, or wrong."""

import dataclasses
import random

import numpy as np
import pytest

from golden.machine.accelerator import MachineError
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
