"""Steps of a sampling cut into programs of their own, layer by layer or in longer runs.

A section leaves all that the next one needs in memory, so each can be run by another executor. Its commands are those
of the whole sampling, but for tokens and loops.
"""

import dataclasses
from collections.abc import Callable, Hashable

import numpy as np

from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import Profile
from golden.diffusion.layers import Layer
from golden.diffusion.sampling import Denoiser, Sampling
from golden.machine.command import Command, Operand, Stop, assemble
from golden.parameters import Parameters
from rtl_gen.program.file import Program
from rtl_gen.program.memory import PROGRAMS
from rtl_gen.program.network import Compiler
from rtl_gen.program.sampling import SamplerCommands, ordered
from rtl_gen.program.schedule import Schedule
from rtl_gen.program.sums import SAMPLE_TAG


@dataclasses.dataclass(frozen=True, eq=False)
class Section:
    """Commands of consecutive layers of a step.

    Members
    -------
    step : int
        In order of execution, from 0.
    layers : tuple of Layer
        Whose commands these are; none: those of the sampler.
    commands : tuple of Operation
        Without the Stop.
    operand : Operand
        First command.
    size : int
        Commands in memory, with the Stop and what configures.
    """

    step: int
    layers: tuple[Layer, ...]
    commands: tuple[Command, ...]
    operand: Operand
    size: int

    @property
    def name(self) -> str:
        """For tables and messages: of its last product, if there is one."""
        if not self.layers:
            return "sampler"
        products = [layer.name for layer in self.layers if layer.contracted]
        return products[-1] if products else self.layers[-1].name


@dataclasses.dataclass(frozen=True, eq=False)
class Sections:
    """Steps of a sampling.

    Members
    -------
    sampling : Sampling
        What is drawn.
    compiler : Compiler
        Of the network, with the places of all states.
    program : Program
        The memory with everything in it; its own command is the first one of the first section.
    sections : tuple of Section
        In order of execution.
    given : tuple of mappings
        Inputs of the network behind the first, in each step.
    """

    sampling: Sampling
    compiler: Compiler
    program: Program
    sections: tuple[Section, ...]
    given: tuple[dict[str, np.ndarray], ...]


def cut_sampling(
    sampling: Sampling,
    method: Method,
    profile: Profile,
    steps: int,
    together: Callable[[Layer], Hashable],
    *,
    at_once: int = 256,
) -> Sections:
    """Compile the first steps of a sampling without guidance.

    Parameters
    ----------
    sampling : Sampling
        What is drawn.
    method : Method
        How.
    profile : Profile
        Of the sampling.
    steps : int
        How many of its steps.
    together : callable
        Layers that follow each other, and for which it returns equal values, share a section.
    at_once : int
        As of `Compiler`.

    Raises
    ------
    ValueError
        If a layer or the process cannot be expressed, or there is guidance or a cache.
    """
    if sampling.guidance is not None or sampling.cache is not None:
        raise ValueError("sampling must be without guidance and cache to be cut into sections")
    inputs = Denoiser(sampling).inputs
    compiler = Compiler(sampling.network, method, profile, samples=sampling.count, at_once=at_once)
    sampler = SamplerCommands(sampling, compiler)
    plain: list[tuple[int, tuple[Layer, ...], list[Command]]] = []
    given = []
    for index, (timestep, here, there) in enumerate(list(sampling.process.plan(sampling.steps))[:steps]):
        cuts = _Cuts(together, compiler.memory.parameters)
        given.append(ordered(sampling, timestep, inputs, sampling.count))
        compiler.step(index, sampling.steps, given[-1], schedule=cuts.schedule, before=cuts.before)
        cuts.end()
        sampler.step(cuts.schedule, index, here, there)
        cuts.end()
        for layers, commands in cuts.sections:
            plain.append((index, layers, commands))
    memory = compiler.memory
    sections = []
    for index, layers, commands in plain:
        words = assemble([*commands, Stop()])
        place = memory.place(PROGRAMS, words.view(np.uint8))
        sections.append(Section(index, layers, tuple(commands), place, len(words)))
    tags = {number: layer.name for number, layer in enumerate(sampling.network.layers)} | {SAMPLE_TAG: "sampler"}
    machine = memory.load()
    program = Program(
        memory.parameters,
        machine.memory,
        tuple((region.base, region.limit) for region in machine.regions),
        sections[0].operand,
        sections[0].size,
        {"image": compiler.input, **compiler.states},
        tags,
    )
    return Sections(sampling, compiler, program, tuple(sections), tuple(given))


class _Cuts:
    """Cuts the commands of a step while they are added."""

    def __init__(self, together: Callable[[Layer], Hashable], parameters: Parameters):
        self.schedule = Schedule(parameters)
        self.sections: list[tuple[tuple[Layer, ...], list[Command]]] = []
        self._together, self._layers, self._begun = together, [], 0

    def before(self, layer: Layer) -> None:
        """A layer is about to be added."""
        if self._layers and self._together(self._layers[-1]) != self._together(layer):
            self.end()
        self._layers.append(layer)

    def end(self) -> None:
        """Close the section under way, if it has commands: its layers wait for the next one otherwise."""
        commands = self.schedule.commands[self._begun :]
        if commands:
            self.sections.append((tuple(self._layers), commands))
            self.schedule.barrier()
            self._layers, self._begun = [], len(self.schedule.commands)
