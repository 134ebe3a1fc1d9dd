"""Steps of a network of which only shapes are looked at: what the machine has to do, without weights and calibration.

Every value counts as below 1, weights have room and no content, conditioning is 0. So commands, bytes and clocks on
paper are those of a real network of this shape.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import Profile
from golden.diffusion.networks.graph import Network
from golden.machine.command import UNIT_BYTES, Command
from rtl_gen.program.memory import SPOOLS, STATES, STEPS, TABLES, WEIGHTS
from rtl_gen.program.network import Compiler
from rtl_gen.program.schedule import Schedule

TIMESTEP = 500
"""Given to the network."""


@dataclasses.dataclass(frozen=True, eq=False)
class OutlinedStep:
    """A kind of step.

    Members
    -------
    name : str
        Which steps of the sampling are of it: ``"steps 1-8, 47-49"``.
    indices : tuple of int
        Their numbers, from 0.
    commands : list of Command
        Of one, in order.
    """

    name: str
    indices: tuple[int, ...]
    commands: list[Command]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.indices)


def outlined(
    network: Network,
    method: Method,
    *,
    steps: int = 50,
    samples: int = 1,
    track: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> tuple[list[OutlinedStep], dict[str, int]]:
    """Each kind of step of a sampling, without what the sampler adds. Steps that send the same passes are of one kind.

    Parameters
    ----------
    network : Network
        Its weights are not looked at.
    method : Method
        A closed loop, on the machine.
    steps, samples : int
        Of the sampling; images.
    track : callable
        Wraps the iteration over the kinds, to show progress.

    Returns
    -------
    list of OutlinedStep
        In the order of their first steps.
    dict of str to int
        Bytes of memory of the regions, by what they hold.

    Raises
    ------
    ValueError
        If a layer cannot be expressed.
    """
    compiler = Compiler(network, method, Profile(steps, {}, {}, {}), samples=samples, filled=False)
    given = {
        name: np.full(samples, TIMESTEP)
        if name == "timestep"
        else np.zeros((samples, *shape), np.float32 if shape else np.int64)
        for name, shape in list(network.inputs.items())[1:]
    }
    found = []
    for indices in track(list(_kinds(network, method, steps))):
        schedule = Schedule(compiler.memory.parameters)
        compiler.step(indices[0], steps, given, schedule=schedule)
        found.append(OutlinedStep(_named(indices), tuple(indices), schedule.commands))
    regions = {"weights": WEIGHTS, "states": STATES, "tables": TABLES, "tables of steps": STEPS, "spools": SPOOLS}
    return found, {name: UNIT_BYTES * compiler.memory.wanted(region) for name, region in regions.items()}


def _kinds(network: Network, method: Method, steps: int) -> Iterable[list[int]]:
    """Steps that send the same passes."""
    sources = {source for layer in network.layers if layer.contracted for source in layer.inputs}
    kinds: dict[Any, list[int]] = {}
    for index in range(steps):
        passes = tuple(method.passes_of(network, source, index, steps) for source in sources)
        kinds.setdefault((method.refreshes(index), passes), []).append(index)
    return kinds.values()


def _named(indices: list[int]) -> str:
    """``step 0``, ``steps 1-8, 47-49``."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and runs[-1][-1] == index - 1:
            runs[-1][1:] = [index]
        else:
            runs.append([index])
    return f"step{'s' * (len(indices) > 1)} {', '.join('-'.join(map(str, run)) for run in runs)}"
