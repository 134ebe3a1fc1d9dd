"""Engines side by side: what the two halves of the accelerator are."""

from collections.abc import Iterator, Sequence
from typing import Any

from amaranth.hdl import Cat, Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.machine.registers import COUNTERS
from golden.parameters import Parameters
from hw.bus.ports import MemoryRead, MemoryWrite
from hw.control.engine import CAUSE_WIDTH, Engine, operation

_COUNTED = {counter.name for counter in COUNTERS}


def check_machine(parameters: Parameters) -> None:
    """Refuse parameters of a machine that engines cannot be made for.

    Raises
    ------
    TypeError
        If `parameters` is no `Parameters`.
    ValueError
        If the machine has no closed loop.
    """
    if not isinstance(parameters, Parameters):
        raise TypeError(f"parameters must be Parameters, not {parameters!r}")
    parameters.check_closed_loop()


def memory_ports(component: wiring.Component, kind: type[wiring.Signature]) -> list[str]:
    """Names of a component's ports of a kind, `MemoryRead` or `MemoryWrite`."""
    members = component.signature.members.items()
    return [name for name, member in members if member.is_signature and isinstance(member.signature, kind)]


class Cluster(wiring.Component):
    """Engines, with what they share; of each, all that goes out of the cluster under the engine's name.

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.

    Attributes
    ----------
    name, summary : str
        Class attributes: name of its emitted module; what it does, one line.

    Members
    -------
    (engine) : In(stream of `operation`)
        What an engine is to do.
    (engine)_error : Out(4)
        Its error.
    (engine)_(port) : Out(MemoryRead or MemoryWrite)
        Its ports to memory. Each carries one flow, which its name ends in (`golden.machine.registers.COUNTERS`).
    (counter) : Out(width)
        Events for counters.
    overflow, poisoned : Out(1)
        Events: something was clamped, or was poisoned.

    Raises
    ------
    TypeError
        If `parameters` is no `Parameters`.
    ValueError
        If the machine has no closed loop.
    """

    name: str
    summary: str

    def __init__(self, parameters: Parameters):
        check_machine(parameters)
        self._parameters = parameters
        self._engines = self._make(parameters)
        members: dict[str, Any] = {"overflow": Out(1), "poisoned": Out(1)}
        for engine in self._engines:
            members[engine.name] = In(stream.Signature(operation(engine.name, parameters.dataflows)))
            members[f"{engine.name}_error"] = Out(CAUSE_WIDTH)
            members |= {name: engine.signature.members[port] for name, port in self._ports(engine)}
            members |= {name: engine.signature.members[name] for name in _events(engine)}
        super().__init__(members | self._members(parameters))

    def _make(self, parameters: Parameters) -> Sequence[Engine]:
        """The engines."""
        raise NotImplementedError(f"{type(self).__name__} must define _make")

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        """Ports that the cluster has besides."""
        raise NotImplementedError(f"{type(self).__name__} must define _members")

    def _connect(self, m: Module) -> None:
        """What is between the engines, and between them and the cluster's own ports."""
        raise NotImplementedError(f"{type(self).__name__} must define _connect")

    @property
    def parameters(self) -> Parameters:
        """The machine's parameters."""
        return self._parameters

    @property
    def engines(self) -> tuple[str, ...]:
        """Names of the engines."""
        return tuple(engine.name for engine in self._engines)

    @property
    def events(self) -> dict[str, int]:
        """Counters that there are events for, and the bits of each."""
        return {name: len(getattr(self, name)) for name in self.signature.members if name in _COUNTED}

    @staticmethod
    def _ports(engine: Engine) -> Iterator[tuple[str, str]]:
        """Names of an engine's ports to memory, outside and inside."""
        for kind in (MemoryRead, MemoryWrite):
            for port in memory_ports(engine, kind):
                yield f"{engine.name}_{port}", port

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        for engine in self._engines:
            m.submodules[engine.name] = engine
            wiring.connect(m, wiring.flipped(getattr(self, engine.name)), engine.operation)
            m.d.comb += getattr(self, f"{engine.name}_error").eq(engine.error)
            for name, port in self._ports(engine):
                wiring.connect(m, getattr(engine, port), wiring.flipped(getattr(self, name)))
            m.d.comb += [getattr(self, name).eq(getattr(engine, name)) for name in _events(engine)]
        for event in ("overflow", "poisoned"):
            m.d.comb += getattr(self, event).eq(Cat(getattr(engine, event) for engine in self._engines).any())
        self._connect(m)
        return m


def _events(engine: Engine) -> list[str]:
    return [name for name in engine.signature.members if name in _COUNTED]
