"""Steps of a network of which only shapes are known: what the machine has to do, without weights and calibration.

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

__all__ = ["OutlinedStep", "outlined"]

TIMESTEP = 500
"""Given to the network."""


@dataclasses.dataclass(frozen=True, eq=False)
class OutlinedStep:
    """A step.

    Members
    -------
    name : str
        ``"start"``, of raw values, or ``"delta"``.
    commands : list of Command
        In order.
    """

    name: str
    commands: list[Command]


def outlined(
    network: Network,
    method: Method,
    *,
    track: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> tuple[list[OutlinedStep], dict[str, int]]:
    """The first step of a sampling and one in its midst, of one image.

    Parameters
    ----------
    network : Network
        Its weights are not looked at.
    method : Method
        A closed loop, on the machine.
    track : callable
        Wraps the iteration over the steps, to show progress.

    Returns
    -------
    list of OutlinedStep
        The two.
    dict of str to int
        Bytes of memory of the regions, by what they hold.

    Raises
    ------
    ValueError
        If a layer cannot be expressed.
    """
    middle = method.early_steps + 1
    steps = middle + method.late_steps + 1
    compiler = Compiler(network, method, Profile(steps, {}, {}, {}), filled=False)
    given = {
        name: np.full(1, TIMESTEP) if name == "timestep" else np.zeros((1, *shape), np.float32 if shape else np.int64)
        for name, shape in list(network.inputs.items())[1:]
    }
    found = []
    for name, index in track([("start", 0), ("delta", middle)]):
        schedule = Schedule(compiler.memory.parameters)
        compiler.step(index, steps, given, schedule=schedule)
        found.append(OutlinedStep(name, schedule.commands))
    regions = {"weights": WEIGHTS, "states": STATES, "tables": TABLES, "tables of steps": STEPS, "spools": SPOOLS}
    return found, {name: UNIT_BYTES * compiler.memory.used(region) for name, region in regions.items()}
