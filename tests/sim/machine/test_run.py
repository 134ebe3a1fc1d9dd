"""Both executors side by side: every kind of difference is found and named."""

import dataclasses

import numpy as np
import pytest

from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.networks import DiTConfig, dit, scattered
from golden.diffusion.sampling import Sampling
from golden.machine.command import Multiply
from golden.machine.registers import register
from golden.machine.work import needed_groups
from rtl_gen.program.memory import SPOOLS, STATES
from rtl_gen.program.sections import cut_sampling
from sim.machine import InterpreterPort
from sim.machine.comparison import difference
from sim.machine.run import Failure, SideBySide, total
from tests.golden.diffusion.sampling.networks import random_unet

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def sections():
    return cut(1)


def cut(images, network=None):
    found = Method.named("closed-int4")
    room = {"group_buffer": 4096, "weight_buffer": 1024, "joint_width": found.output_width, "tile_positions": 32}
    parameters = dataclasses.replace(found.machine, lanes=4, memory_lanes=4, rows=2, **room)
    chosen = dataclasses.replace(found, machine=parameters)
    sampling = Sampling(network or random_unet(5), [1] * images, steps=3)
    return cut_sampling(sampling, chosen, calibrate(sampling), 2, lambda layer: layer.name)


def every(section):
    return True


def bare(section):
    """Whether no layer of it is a product of two activations."""
    return not any(layer.bilinear for layer in section.layers)


class Miscounting(InterpreterPort):
    """An interpreter that reads a counter too high by one."""

    def read(self, offset):
        return super().read(offset) + (offset == register("combined_low").offset)


class Wrong(InterpreterPort):
    """An interpreter that flips a bit of memory after its program number `when`."""

    def __init__(self, parameters, memory, when, place):
        super().__init__(parameters, memory)
        self._when, self._place, self._runs = when, place, 0

    def _run(self):
        super()._run()
        self._runs += 1
        if self._runs == self._when:
            self.memory[self._place] ^= 4


def test_equal_executors_are_equal_and_measured(sections):
    both = SideBySide(sections, InterpreterPort, bare, first=1)
    rows = list(both.run())
    assert len(rows) == len(sections.sections) and both.difference() is None
    for section, row in zip(sections.sections, rows, strict=True):
        assert row.ran == (row.step == 1 and bare(section))
    assert all(0 <= row.busy <= row.use <= 1 for row in rows)
    found = total(rows, sections.program.parameters)
    assert found["predicted"] == sum(row.predicted for row in rows if row.ran) and 0 < found["use"] < 1
    assert all(row.psnr > 30 for row in rows if row.psnr is not None)


def test_groups_that_layers_need(sections):
    network = sections.sampling.network
    shapes = network.shapes()
    n, seen = sections.program.parameters.lanes, 0
    for section in sections.sections:
        (layer,) = [layer for layer in section.layers if layer.contracted] or [None]
        if layer is None or layer.bilinear or len(shapes[layer.name]) != 4 or section.step == 0:
            continue
        commands = [command for command in section.commands if isinstance(command, Multiply)]
        passes = commands[0].passes + 1
        _, outputs, height, width = shapes[layer.name]
        inputs = layer.whole_weight.shape[1]
        if len(layer.inputs) == 1 and inputs % n == 0:
            expected = height * width * outputs * int(np.prod(layer.whole_weight.shape[2:])) * (inputs // n) * passes
            assert needed_groups(section.commands) == expected, section.name
            seen += 1
    assert seen >= 3


@pytest.mark.parametrize("kind", ["state", "held", "sums", "coefficients", "spool"])
def test_what_differs_is_named(sections, kind):
    memory, regions = sections.compiler.memory, sections.program.regions
    region = SPOOLS if kind == "spool" else STATES
    place = next(
        memory.find(region, unit) for unit in range(memory.used(region)) if memory.find(region, unit).kind == kind
    )
    at = 32 * (regions[region][0] + place.operand.offset)
    when = len(sections.sections) // 2
    runs = SideBySide(sections, lambda p, memory: Wrong(p, memory, when, at), every, fenced=True)
    with pytest.raises(Failure, match=rf"^step \d, after [^:]*: region {region} .*, {kind} of {place.name}, .*: got "):
        list(runs.run())


def test_an_overlapped_run_is_compared_after_each_step(sections):
    at = 32 * sum(sections.program.regions[SPOOLS]) - 1  # the last length, which nothing reads in between
    runs = SideBySide(sections, lambda p, memory: Wrong(p, memory, 1, at), bare, fenced=False)
    alone = next(number for number, section in enumerate(sections.sections) if not bare(section))
    with pytest.raises(Failure, match=f"^step 0, after {sections.sections[alone - 1].name}: region 5 "):
        list(runs.run())
    ran = sum(section.step == 1 and bare(section) for section in sections.sections)
    overlapped = SideBySide(
        sections,
        lambda p, memory: Wrong(p, memory, ran, at),
        bare,
        first=1,
        fenced=False,
    )
    with pytest.raises(Failure, match="^step 1, after sampler: region 5 "):
        list(overlapped.run())


def test_the_first_element_of_a_state_that_differs(sections):
    compiler, program = sections.compiler, sections.program
    name, tensor = next((name, one) for name, one in compiler.states.items() if one.channels >= 8)
    got, expected = program.image.copy(), program.image.copy()
    start = 32 * (program.regions[STATES][0] + tensor.data.offset)
    size = tensor.vectors(4) * -(-4 * program.parameters.state_width // 8) // tensor.vectors(4)
    vector = 5 * -(-tensor.channels // 4) + 1  # position 5, channels 4 to 7
    got[start + vector * size] = 3
    found = difference(compiler, program.regions, got, expected)
    line, column = divmod(5, tensor.width)
    assert (found.name, found.kind, found.element) == (name, "state", f"line {line}, column {column}, channel 4")
    assert (found.got, found.expected, found.count) == (3, 0, 1)
    assert str(found).endswith("channel 4: got 3, expected 0 (1 bytes differ)")


def test_several_images():
    made = cut(2)
    rows = list(SideBySide(made, InterpreterPort, every).run())
    assert all(row.psnr > 30 for row in rows if row.psnr is not None)
    name, tensor = next((name, one) for name, one in made.compiler.states.items() if one.channels >= 8)
    got, expected = made.program.image.copy(), made.program.image.copy()
    got[32 * (made.program.regions[STATES][0] + tensor.sample(1).data.offset)] = 1
    found = difference(made.compiler, made.program.regions, got, expected)
    assert (found.name, found.element) == (name, "image 1, line 0, column 0, channel 0")


def test_heads_that_are_padded_apart():
    """Six channels of a head in vectors of four: the figure is of the six."""
    config = DiTConfig(side=8, patch=2, width=12, blocks=1, heads=2, encoding=8)
    rows = list(SideBySide(cut(1, scattered(dit, config, 5)), InterpreterPort, every).run())
    (mixed,) = [row.psnr for row in rows if row.name.endswith("mix") and row.step == 1]
    assert mixed > 30


def test_counters_that_differ_are_told(sections):
    rows = list(SideBySide(sections, Miscounting, every).run())
    assert all(list(row.odd) == ["combined"] for row in rows if row.ran)
    got, expected = rows[-1].odd["combined"]
    assert got == expected + 1
