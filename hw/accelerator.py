"""The accelerator: control, hub and engines, joined."""

import collections
from collections.abc import Sequence

from amaranth.hdl import Module, ResetInserter
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.machine.command import ENGINES, Combine
from golden.parameters import Parameters
from hw.arith.bits import or_tree
from hw.bus.axi import AXI4, AXI4Lite
from hw.bus.hub import Hub
from hw.bus.ports import MemoryRead, MemoryWrite
from hw.bus.span_check import Fault
from hw.control.cluster import Cluster, check_machine, memory_ports
from hw.control.command_unit import FETCH
from hw.control.control_unit import ControlUnit
from hw.control.engine import cause
from hw.control.registers import ADDRESS_WIDTH
from hw.core.core import Core
from hw.near_memory.closed_loop.near_memory import NearMemory

_QUEUE_WORDS = 64
"""Words of a port's queue: so many that memory of 40 clocks brings weights as fast as they are taken."""

_FETCH_PORT = "fetch"

_COMBINED = {"emit_held_read": "memory_states_read", "emit_held_written": "memory_states_written"}
"""Counters of the bytes of a `Combine` at ports that are of another flow otherwise."""


class Accelerator(wiring.Component):
    """The whole machine. See ``docs/machine.md``.

    ::

        registers <-> control -- operations --> clusters of engines
                         |                          |
                         +------- hub --------------+
                                   |
                                 memory

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.
    clusters : sequence of Cluster, optional
        Engines that it has; default: all of them, as `Core` and `NearMemory`. What one gives `up`, `down` or
        `down_groups` is what another one takes under that name.

    Members
    -------
    memory : Out(AXI4)
        Memory.
    registers : In(AXI4Lite)
        Software's side.
    interrupt : Out(1)
        An event that software has enabled came.
    """

    name = "accelerator"
    summary = "the whole machine: a program in memory runs a network"

    def __init__(self, parameters: Parameters, clusters: Sequence[Cluster] | None = None):
        check_machine(parameters)
        self._parameters = parameters
        self._clusters = None if clusters is None else tuple(clusters)
        super().__init__(
            {
                "memory": Out(AXI4(32, parameters.memory_width)),
                "registers": In(AXI4Lite(ADDRESS_WIDTH)),
                "interrupt": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        if self._clusters is None:  # made only now: an accelerator may be made for its signature alone
            self._clusters = Core(self._parameters), NearMemory(self._parameters)
        ports = {kind: [_FETCH_PORT] if kind is MemoryRead else [] for kind in (MemoryRead, MemoryWrite)}
        for kind, names in ports.items():
            for cluster in self._clusters:
                names += memory_ports(cluster, kind)
        events: dict[str, int] = {}
        for cluster in self._clusters:
            events |= cluster.events
        flows = sorted({_flow(name) for names in ports.values() for name in names if name != _FETCH_PORT})
        hub = Hub(self._parameters.memory_width, ports[MemoryRead], ports[MemoryWrite], depth=_QUEUE_WORDS)
        counting = [cluster for cluster in self._clusters if "counts" in cluster.signature.members]
        work = counting[0].counts.payload.shape() if counting else None
        m.submodules.control = control = ControlUnit(self._parameters, events, flows, work)
        m.submodules.hub = ResetInserter(control.clear)(hub)
        wiring.connect(m, wiring.flipped(self.registers), control.registers)
        wiring.connect(m, hub.memory, wiring.flipped(self.memory))
        wiring.connect(m, hub.lookup, control.lookup)
        wiring.connect(m, control.read, getattr(hub, _FETCH_PORT))
        m.d.comb += [
            self.interrupt.eq(control.interrupt),
            hub.drain.eq(control.drain),
            control.drained.eq(hub.drained),
            control.progress.eq(hub.moved),
        ]
        for cluster in self._clusters:
            m.submodules["_".join(cluster.engines)] = ResetInserter(control.clear)(cluster)
            for engine in cluster.engines:
                wiring.connect(m, getattr(control, engine), getattr(cluster, engine))
                m.d.comb += control.causes[ENGINES.index(engine)].eq(getattr(cluster, f"{engine}_error"))
            for names in ports.values():
                for name in names:
                    if name in cluster.signature.members:
                        wiring.connect(m, getattr(cluster, name), getattr(hub, name))
            m.d.comb += [getattr(control, name).eq(getattr(cluster, name)) for name in cluster.events]
        if counting:
            wiring.connect(m, counting[0].counts, control.counts)
        for event in ("overflow", "poisoned"):
            m.d.comb += getattr(control, event).eq(sum(getattr(cluster, event) for cluster in self._clusters) != 0)
        self._link(m, control)
        self._attribute(m, hub, control, ports, flows)
        return m

    def _link(self, m: Module, control: ControlUnit) -> None:
        """Connect what clusters give up and down to those that take it, and tell who waits."""
        for ways, engines in ((("up",), ("emit", "load")), (("down", "down_groups"), ("multiply", "accumulate"))):
            waits = []
            for way in ways:
                ends = [one for one in self._clusters if way in one.signature.members]
                gives = [one for one in ends if one.signature.members[way].flow == Out]
                takes = [one for one in ends if one.signature.members[way].flow == In]
                for source, target in zip(gives, takes, strict=True):
                    wiring.connect(m, getattr(source, way), getattr(target, way))
                    waits.append(getattr(source, way).valid ^ getattr(target, way).ready)
            if waits:
                m.d.sync += [control.linked[ENGINES.index(engine)].eq(or_tree(waits)) for engine in engines]

    def _attribute(
        self, m: Module, hub: Hub, control: ControlUnit, ports: dict[type, list[str]], flows: list[str]
    ) -> None:
        """What the hub says of a port is said of its engine, and its bytes are counted under its flow."""
        m.d.comb += [
            control.bus.response.eq(hub.error.response),
            control.bus.unit.eq(hub.error.unit),
            control.bus.engine.eq(FETCH),
        ]
        # Counters add them up a clock later.
        m.d.sync += [control.asked.eq(0), control.bytes.eq(hub.asked.bytes)]
        with m.If(hub.error.fault == Fault.REGION):
            m.d.comb += control.bus.cause.eq(cause("region"))
        with m.Elif(hub.error.fault == Fault.BUS):
            m.d.comb += control.bus.cause.eq(cause("bus"))
        firsts = {MemoryRead: 0, MemoryWrite: len(hub.busy) - max(len(ports[MemoryWrite]), 2)}
        for kind, busy in ((MemoryRead, control.reading), (MemoryWrite, control.writing)):
            places = collections.Counter[int]()
            for port, name in enumerate(ports[kind], firsts[kind]):
                if name == _FETCH_PORT:
                    continue
                engine = ENGINES.index(name.partition("_")[0])
                with m.If(hub.error.port == port):
                    m.d.comb += control.bus.engine.eq(engine)
                with m.If(hub.asked.port == port):
                    m.d.sync += [control.asked.eq(hub.asked.valid), control.flow.eq(flows.index(_flow(name)))]
                    if name in _COMBINED:
                        with m.If(control.emit.p.opcode == Combine.opcode):
                            m.d.sync += control.flow.eq(flows.index(_COMBINED[name]))
                m.d.comb += busy[engine][places[engine]].eq(hub.busy[port])
                places[engine] += 1


def _flow(port: str) -> str:
    """Counter of the bytes of a port, which is the end of its name."""
    return "memory_" + "_".join(port.split("_")[-2:])
