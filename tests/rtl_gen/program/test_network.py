"""Whole networks and samplings as programs: every state equals that of golden's exact executor."""

import dataclasses
import re

import numpy as np
import pytest

from golden.diffusion import zoo
from golden.diffusion.differential.closed_loop import ClosedLoop
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.differential.run import executor
from golden.diffusion.sampling import Cache, RectifiedFlow, Sampler, Sampling
from golden.machine import hazards
from golden.machine.command import Loop, Stop, assemble, disassemble
from rtl_gen.program.commands import programmed
from rtl_gen.program.file import Program, listing
from rtl_gen.program.memory import PROGRAMS
from rtl_gen.program.network import Compiler
from rtl_gen.program.sampling import compile_sampling
from tests.golden.diffusion.sampling.networks import SMALL, random_unet

pytestmark = pytest.mark.golden


def method(name, **machine):
    """A method on a machine with room enough."""
    found = programmed(Method.named(name))
    room = {"group_buffer": 4096, "weight_buffer": 1024, "joint_width": found.output_width, "link_form": "direct"}
    room["tile_positions"] = max(16, machine.get("lanes", found.machine.lanes))
    return dataclasses.replace(found, machine=dataclasses.replace(found.machine, **room | machine))


class Both:
    """A network in the interpreter and in the exact executor."""

    def __init__(self, network, chosen, profile, **options):
        self.network, self.loop = network, ClosedLoop(network, chosen, profile, exact=True)
        self.compiler = Compiler(network, chosen, profile, **options)
        self.machine = None

    def step(self, index, steps, image, given, *, checked=True):
        """Run a step in both; names of states that differ, and how many were compared."""
        compiler, seen = self.compiler, {}
        commands = [*compiler.step(index, steps, given), Stop()]
        words = assemble(commands)
        assert disassemble(words) == commands
        place = compiler.memory.place(PROGRAMS, words.view(np.uint8))
        machine = compiler.memory.load()
        if self.machine is not None:  # states go on; programs and tables have grown
            for region in range(8):
                before, now = self.machine.regions[region], machine.regions[region]
                if region not in (3, 4):
                    held = self.machine.memory[before.base * 32 : (before.base + before.limit) * 32]
                    machine.memory[now.base * 32 : now.base * 32 + len(held)] = held
        self.machine = machine
        state = compiler.integers(compiler.laid_out(image[0]), compiler.input.unit)
        compiler.write(machine, compiler.input, state)
        (hazards.check if checked else type(machine).run)(*((machine, place, len(words))))

        def keep(layer, values):
            seen[layer.name] = self.loop(layer, values)
            return seen[layer.name]

        self.loop.begin_step(index, steps)
        self.network(image, *given.values(), executor=keep)
        wrong, compared = [], 0
        for layer in self.network.layers:
            if {layer.name, f"{layer.name}.0"} & compiler.states.keys() and hasattr(seen.get(layer.name), "counts"):
                compared += 1
                found = compiler.value(layer.name, lambda tensor: compiler.read(machine, tensor))
                if not np.array_equal(found, seen[layer.name].counts[0]):
                    wrong.append(layer.name)
        return wrong, compared


@pytest.mark.parametrize(
    "name, chosen, machine, states",
    [
        ("unet", "closed-int4", {}, 44),
        ("unet-silu", "closed-int3", {"lanes": 16, "memory_lanes": 4, "outliers": 1, "rows": 3}, 44),
        ("dit", "closed-int3", {"columns": 8}, 42),
    ],
)
def test_every_state_of_the_zoo(name, chosen, machine, states):
    network = zoo.load(name)
    sampling = Sampling(network, [3], steps=20)
    both = Both(network, method(chosen, **machine), calibrate(sampling))
    rng = np.random.default_rng(7)
    image = rng.normal(0, 1, (1, 1, 16, 16)).astype(np.float32)
    for index in range(2):
        given = {"timestep": np.array([900 - 40 * index]), "label": np.array([3])}
        wrong, compared = both.step(index, 20, image, given)
        assert not wrong and compared == states, (index, wrong, compared)
        image = image + rng.normal(0, 0.05, image.shape).astype(np.float32)


@pytest.mark.parametrize("seed", range(8))
def test_every_state_of_random_networks_on_random_machines(seed):
    rng = np.random.default_rng(seed)
    network = random_unet(seed)
    lanes = int(rng.choice([4, 8, 16]))
    machine = {
        "lanes": lanes,
        "memory_lanes": 4,
        "outliers": int(rng.integers(0, 3)),
        "digit_width": int(rng.integers(3, 6)),
        "rows": int(rng.integers(1, 4)),
        "columns": int(rng.choice([1, 3, 4])),
        "state_width": int(rng.integers(16, 21)),
        "accumulator_width": int(rng.choice([32, 40])),
        "tile_positions": int(rng.choice([16, 32])),
    }
    chosen = method("closed-int4", **machine)
    profile = calibrate(Sampling(network, [1], steps=4))
    both = Both(network, chosen, profile)
    shape = next(iter(network.inputs.values()))
    image = rng.normal(0, 1, (1, *shape)).astype(np.float32)
    for index in range(3):
        given = {name: np.array([1 + 100 * (3 - index) * (name == "timestep")]) for name in list(network.inputs)[1:]}
        wrong, compared = both.step(index, 4, image, given)
        assert not wrong and compared > 3, (seed, index, wrong, compared)
        image = image + rng.normal(0, 0.1, image.shape).astype(np.float32)


@pytest.mark.parametrize("rows, lanes", [(1, 10), (3, 12)])
def test_tokens_lie_in_lines_that_blocks_need(rows, lanes):
    """4 x 4 pixels are tokens in lines of another width where blocks of n of them would take too many whole lines."""
    network = random_unet(rows, dataclasses.replace(SMALL, channels=12, widths=(12, 24)))
    machine = {"lanes": lanes, "memory_lanes": 2, "rows": rows, "columns": 4, "outliers": 1, "tile_positions": lanes}
    both = Both(network, method("closed-int4", **machine), calibrate(Sampling(network, [1], steps=4)))
    scores = next(layer for layer in network.layers if layer.bilinear)
    rng = np.random.default_rng(lanes)
    image = rng.normal(0, 1, (1, *next(iter(network.inputs.values())))).astype(np.float32)
    for index in range(2):
        given = {name: np.array([1 + 100 * (3 - index) * (name == "timestep")]) for name in list(network.inputs)[1:]}
        wrong, compared = both.step(index, 4, image, given)
        assert not wrong and compared > 3, (index, wrong, compared)
        image = image + rng.normal(0, 0.1, image.shape).astype(np.float32)
    assert both.compiler.states[scores.inputs[0]].width == (2 if lanes == 10 else 4)


@pytest.mark.parametrize(
    "name, chosen, options",
    [
        ("unet", "closed-int4", {"steps": 6}),
        ("unet-silu", "closed-int3", {"steps": 4, "guidance": 3.0}),
        ("unet", "closed-int3", {"steps": 7, "cache": Cache((0, 3, 6))}),
        ("dit", "closed-int4", {"steps": 3, "process": RectifiedFlow()}),
        ("unet", "closed-int4", {"steps": 4, "process": Sampler(eta=1.0)}),
        ("unet", "diffy", {"steps": 3}),
        ("dit", "raw-int8", {"steps": 2}),
        ("dit", "paper", {"steps": 2}),
    ],
)
def test_a_whole_sampling_is_one_program(name, chosen, options, tmp_path):
    network, chosen = zoo.load(name), method(chosen)
    sampling = Sampling(network, [3], seed=11, **options)
    profile = calibrate(sampling)
    sampled = compile_sampling(sampling, chosen, profile)
    sampled.program.save(tmp_path)
    program = Program.open(tmp_path)
    machine = program.load()
    machine.run(program.operand, program.commands)
    expected = sampling.images(executor(network, chosen, profile, exact=True))
    np.testing.assert_array_equal(sampled.images(machine), expected)


@pytest.mark.parametrize(
    "name, chosen, rows, options",
    [
        ("unet", "closed-int4", 2, {"steps": 3}),
        ("unet-silu", "closed-int3", 3, {"steps": 2, "guidance": 3.0}),
        ("dit", "closed-int4", 2, {"steps": 2, "process": Sampler(eta=1.0)}),
        pytest.param("dit", "closed-int3", 2, {"steps": 2, "guidance": 2.0}, marks=pytest.mark.slow),
    ],
)
def test_several_images_are_rows_of_one_program(name, chosen, rows, options):
    network, chosen = zoo.load(name), method(chosen, rows=rows)
    sampling = Sampling(network, [3, 8], seed=4, **options)
    profile = calibrate(sampling)
    sampled = compile_sampling(sampling, chosen, profile)
    machine = sampled.program.load()
    hazards.check(machine, sampled.program.operand, sampled.program.commands)
    expected = sampling.images(executor(network, chosen, profile, exact=True))
    np.testing.assert_array_equal(sampled.images(machine), expected)


def test_steps_that_differ_in_tables_alone_are_loops():
    network = zoo.load("unet")
    sampling = Sampling(network, [3], steps=12)
    sampled = compile_sampling(sampling, method("closed-int4"), calibrate(sampling))
    commands = disassemble(sampled.program.words())
    turns = [command.turns for command in commands if isinstance(command, Loop)]
    assert sum(turns) >= 8 and len(commands) < 5000
    text = listing(commands, sampled.program.tags)
    assert len(text.splitlines()) == len(commands)
    assert re.search(r"Multiply +stem.conv .*<- load", text)


def test_a_program_ends_the_same_wherever_it_lies_and_whatever_ran_before():
    network, chosen = zoo.load("unet"), method("closed-int4")
    first, second = (Sampling(network, [label], steps=2, seed=5) for label in (3, 8))
    profile = calibrate(first)
    one, other = (compile_sampling(sampling, chosen, profile) for sampling in (first, second))
    images = []
    machine = one.program.load()
    machine.run(one.program.operand, one.program.commands)
    images.append(one.images(machine))
    # A, B, A on the same machine: regions and image of each are laid anew, nothing is reset
    for program in (other, one):
        laid = program.program.load()
        machine.memory, machine.regions = laid.memory, laid.regions
        machine.run(program.program.operand, program.program.commands)
        images.append(program.images(machine))
    # and every region moved by another distance
    moved = one.program.load()
    memory, base = np.zeros(len(moved.memory) + 32 * 800, np.uint8), 3
    for number, region in enumerate(moved.regions[:7]):
        memory[32 * base : 32 * (base + region.limit)] = moved.memory[
            32 * region.base : 32 * (region.base + region.limit)
        ]
        region.base, base = base, base + region.limit + 7 * number
    moved.memory = memory
    moved.run(one.program.operand, one.program.commands)
    np.testing.assert_array_equal(images[0], images[2])
    np.testing.assert_array_equal(images[0], one.images(moved))
    assert not np.array_equal(images[0], images[1])


def test_what_cannot_be_expressed_is_refused_by_its_name():
    sampling = Sampling(zoo.load("unet"), [3], steps=3)
    profile = calibrate(sampling)
    sentence = "tile_positions must be at least lanes = 32 for layer 'down1.attention.scores', not 16"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        compile_sampling(sampling, method("closed-int4", tile_positions=16, group_buffer=8192), profile)
    with pytest.raises(ValueError, match="cannot be expressed: it normalises more than norm_buffer = 16 channels$"):
        compile_sampling(sampling, method("closed-int4", norm_buffer=16), profile)
    sentence = (
        r"attention.scores' \(matmul\) cannot be expressed: functions of the machine must hold attention, not tables$"
    )
    with pytest.raises(ValueError, match=sentence):
        compile_sampling(sampling, method("closed-int4", functions=["tables"]), profile)
    learned = dataclasses.replace(sampling, process=Sampler(eta=1.0, variance="learned"))
    with pytest.raises(ValueError, match="Variance of a sampler must not be learned in a program"):
        compile_sampling(learned, method("closed-int4"), profile)
