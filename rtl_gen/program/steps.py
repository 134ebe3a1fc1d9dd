"""Programs of steps that follow each other, with no host in between.

Each step begins with all engines idle and an `Interrupt`: who watches may look at memory there, and nobody has to.
Steps that differ in their tables alone become a loop.
"""

import dataclasses

import numpy as np

from golden.diffusion.networks.graph import Network
from golden.machine.command import UNIT_BYTES, Command, Interrupt, Stop, assemble
from rtl_gen.program.file import Program
from rtl_gen.program.memory import STEPS, Tensor
from rtl_gen.program.network import Compiler
from rtl_gen.program.schedule import Schedule, rolled
from rtl_gen.program.sums import SAMPLE_TAG


@dataclasses.dataclass(frozen=True, eq=False)
class Steps:
    """A program of steps.

    Members
    -------
    program : Program
        Its tensors: ``image``, what is denoised, and every state by its name.
    compiler : Compiler
        Of the network.
    turns : tuple of tuples of Command
        Of each step.
    starts : tuple of int
        Where the tables of each step begin in their region, in units of memory.
    """

    program: Program
    compiler: Compiler
    turns: tuple[tuple[Command, ...], ...]
    starts: tuple[int, ...]

    def after(self, step: int, memory: np.ndarray) -> Program:
        """The program of the steps from `step` on; it lies where the whole one did, and takes no more commands.

        Parameters
        ----------
        step : int
            Of those that there are.
        memory : uint8 array
            What the steps before it have left.
        """
        program, content = self.program, memory.copy()
        words = assemble([*rolled(self.turns[step:], self.starts[step:], STEPS), Stop()])
        first = (program.regions[program.operand.region][0] + program.operand.offset) * UNIT_BYTES
        content[first : first + words.nbytes] = words.view(np.uint8).ravel()
        return dataclasses.replace(program, image=content, commands=len(words))


class Turns:
    """Collects the commands of steps.

    Parameters
    ----------
    compiler : Compiler
        Of the network.
    """

    def __init__(self, compiler: Compiler):
        self._compiler = compiler
        self._schedules: list[Schedule] = []
        self._starts: list[int] = []

    def begin(self) -> Schedule:
        """A step begins: what takes its commands. All its tables are placed before the next one begins."""
        self._starts.append(self._compiler.memory.used(STEPS))
        schedule = Schedule(self._compiler.memory.parameters)
        schedule.barrier(SAMPLE_TAG)
        schedule.control(Interrupt(tag=SAMPLE_TAG))
        self._schedules.append(schedule)
        return schedule

    def closed(
        self, network: Network, **tensors: Tensor
    ) -> tuple[Program, Compiler, tuple[tuple[Command, ...], ...], tuple[int, ...]]:
        """The program, with further tensors by name, and what else `Steps` has."""
        compiler = self._compiler
        turns = tuple(tuple(schedule.commands) for schedule in self._schedules)
        commands = [*rolled(turns, self._starts, STEPS), Stop()]
        tags = {number: layer.name for number, layer in enumerate(network.layers)} | {SAMPLE_TAG: "sampler"}
        named = {"image": compiler.input, **tensors, **compiler.states}
        program = Program.of(compiler.memory, commands, named, tags)
        return program, compiler, turns, tuple(self._starts)
