"""What a bench is: a unit and vectors with golden answers."""

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from amaranth.lib import wiring

from golden.common import names
from golden.parameters import Parameters
from sim import player

BENCHES = (
    "delta_quantizer",
    "outlier_selector",
    "int_float_multiplier",
    "float_multiplier",
    "multiplier_group",
    "channel_scale",
    "sign_mask",
    "delta_compressor",
    "delta_decompressor",
    "near_memory_engine",
    "float_multiply",
    "float_add",
)
"""Every bench: the units in the order of the data flow, then the floating-point arithmetic they are built from."""


@dataclass(frozen=True)
class Request:
    """What vectors are asked for.

    Members
    -------
    parameters : Parameters
        The machine.
    full : bool
        All of them, or a quick selection.
    seed : int
        Makes random vectors repeatable.
    """

    parameters: Parameters
    full: bool = False
    seed: int = 0

    def generator(self, *salt: int) -> np.random.Generator:
        """Return a generator of random numbers of its own for each `salt`."""
        return np.random.default_rng([self.seed, *salt])

    def count(self, quick: int, full: int) -> int:
        """`quick` or `full`."""
        return full if self.full else quick


@dataclass(frozen=True)
class Case:
    """Vectors that run from one reset to the next.

    Members
    -------
    name : str
        What they are.
    inputs, outputs : mapping of str to values
        For each stream its vectors, as `sim.vectors.pack` takes them; outputs by the golden model.
    settings : mapping of str to int
        Values of the inputs that are no streams.
    status : mapping of str to bool
        Sticky bits expected at the end; one left out must stay low, and the unit need not have one that does.
    memory : Memory or None
        Content of the memory, for a unit that has one.
    rate : float or None
        Throughput promised for these vectors, if not that of the bench.
    """

    name: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    settings: Mapping[str, int] = field(default_factory=dict)
    status: Mapping[str, bool] = field(default_factory=dict)
    memory: "Memory | None" = None
    rate: float | None = None


@dataclass(frozen=True)
class Memory:
    """Content of a unit's memory.

    Members
    -------
    address : uint32 (N,)
        Every word that the unit may touch.
    before, after : values
        Words at the start and, by the golden model, at the end; as `sim.vectors.pack` takes them.
    """

    address: np.ndarray
    before: Any
    after: Any


@dataclass(frozen=True)
class Bench:
    """A unit with its cases.

    Members
    -------
    name : str
        The unit's.
    component : wiring.Component
        What is emitted.
    cases : sequence of Case
        Vectors.
    groups_per_clock : float
        Throughput the unit promises: transfers of the busiest stream, per clock, in mode none. 0 for no promise.
    memory : MemoryPorts or None
        Streams that a memory serves.
    """

    name: str
    component: wiring.Component
    cases: Sequence[Case]
    groups_per_clock: float = 1.0
    memory: player.MemoryPorts | None = None


@functools.lru_cache(maxsize=32)
def component(make: Callable[..., wiring.Component], *arguments: Any, **options: Any) -> wiring.Component:
    """``make(*arguments, **options)``, made once: the benches of a unit under many seeds share what is emitted."""
    return make(*arguments, **options)


def _module(name: str) -> Any:
    if name not in BENCHES:
        raise ValueError(names.unknown("Unit", name, BENCHES))
    return importlib.import_module(f"sim.benches.{name}")


def load(name: str, request: Request) -> Bench:
    """Make a bench: build the unit and its vectors.

    Raises
    ------
    ValueError
        If there is no such bench.
    """
    return _module(name).bench(request)


def variants(name: str, parameters: Parameters) -> dict[str, Parameters]:
    """Other parameters under which the full vectors of a bench run, by a name that tells what differs.

    Most units have some: formats and policies that one machine cannot have at once.
    """
    make = getattr(_module(name), "variants", None)
    found = {} if make is None else make(parameters)
    return {label: other for label, other in found.items() if other != parameters}
