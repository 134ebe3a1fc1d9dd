"""The control of the machine: the command unit, and what software has of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from amaranth.hdl import Module, ResetInserter
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.machine.command import ENGINES
from golden.machine.registers import capabilities, fingerprint, register
from golden.parameters import Parameters
from hw.bus.axi import AXI4Lite
from hw.bus.lite_slave import LiteSlave
from hw.bus.ports import MemoryRead
from hw.bus.regions import RegionTable
from hw.bus.span_check import Lookup
from hw.control.command_unit import CommandUnit, bus_fault
from hw.control.counters import Amounts, Counters
from hw.control.engine import CAUSE_WIDTH, OFFSET_WIDTH, operation
from hw.control.registers import ADDRESS_WIDTH, RegisterBank
from hw.control.trace import Trace
from hw.memory import Ram

_OWN_EVENTS = (
    "clocks",
    "commands",
    *(f"{engine}_{event}" for engine in ENGINES for event in ("busy", "waiting", "operations")),
)
"""Counters that the command unit has events for."""


class ControlUnit(wiring.Component):
    """Registers, counters, the trace and the table of regions around the `CommandUnit`.

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.
    events : mapping of str to int
        Counters that engines have events for: bits of each by name.
    flows : sequence of str
        Counters that bytes are added to.
    work : StructLayout, optional
        What an operation of the array adds to counters: ``array_`` and the name of each field.

    Members
    -------
    registers : In(AXI4Lite)
        The bus of software.
    interrupt : Out(1)
        An event that software has enabled came.
    read : Out(MemoryRead)
        Where commands are read.
    load, multiply, accumulate, emit : Out(stream of `operation`)
        To the engines.
    causes, bus, progress, drain, drained, clear
        See `CommandUnit`.
    lookup : In(Lookup)
        The table of regions.
    (events) : In(width)
        Events of the engines.
    bytes, flow, asked : In
        What is added to a counter of `flows`, and whether.
    counts : In(stream of `work`)
        What an operation of the array has done.
    overflow, poisoned : In(1)
        Events: something was clamped, or was poisoned.
    reading, writing : In(array of 8 bits)
        Of each engine, its ports that memory is busy for.
    linked : In(4)
        Engines that wait for the link, or that it waits for.
    """

    def __init__(
        self, parameters: Parameters, events: Mapping[str, int], flows: Sequence[str], work: data.StructLayout | None
    ):
        self._parameters = parameters
        self._events, self._flows, self._work = dict(events), list(flows), work
        members: dict[str, Any] = {
            "registers": In(AXI4Lite(ADDRESS_WIDTH)),
            "interrupt": Out(1),
            "read": Out(MemoryRead(parameters.memory_width)),
            **{engine: Out(stream.Signature(operation(engine, parameters.dataflows))) for engine in ENGINES},
            "causes": In(data.ArrayLayout(CAUSE_WIDTH, len(ENGINES))),
            "bus": In(bus_fault()),
            "progress": In(1),
            "drain": Out(1),
            "drained": In(1),
            "clear": Out(1),
            "lookup": In(Lookup()),
            **{name: In(width) for name, width in events.items()},
            "bytes": In(32),
            "flow": In(range(len(self._flows))),
            "asked": In(1),
            **({"counts": In(stream.Signature(work))} if work else {}),
            "overflow": In(1),
            "poisoned": In(1),
            "reading": In(data.ArrayLayout(8, len(ENGINES))),
            "writing": In(data.ArrayLayout(8, len(ENGINES))),
            "linked": In(len(ENGINES)),
        }
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        m.submodules.slave = slave = LiteSlave(ADDRESS_WIDTH)
        m.submodules.bank = bank = RegisterBank()
        m.submodules.regions = regions = RegionTable()
        m.submodules.limits = limits = Ram(OFFSET_WIDTH, 8, distributed=True)
        array = [f"array_{name}" for name in self._work.members] if self._work else []
        m.submodules.counters = counters = Counters(
            dict.fromkeys(_OWN_EVENTS, 1) | self._events, [*self._flows, *array]
        )
        m.submodules.unit = unit = CommandUnit(self._parameters.memory_width, self._parameters.dataflows)
        trace = Trace()
        m.submodules.trace = ResetInserter(bank.control_start & ~unit.busy)(trace)
        wiring.connect(m, wiring.flipped(self.registers), slave.bus)
        wiring.connect(m, slave.registers, bank.port)
        wiring.connect(m, wiring.flipped(self.lookup), regions.lookup)
        wiring.connect(m, unit.read, wiring.flipped(self.read))
        for engine in ENGINES:
            wiring.connect(m, getattr(unit, engine), wiring.flipped(getattr(self, engine)))

        # The unit and the engines.
        m.d.comb += [
            unit.causes.eq(self.causes),
            unit.bus.eq(self.bus),
            unit.progress.eq(self.progress),
            self.drain.eq(unit.drain),
            unit.drained.eq(self.drained),
            self.clear.eq(unit.clear),
        ]
        # Software and the unit.
        m.d.comb += [
            unit.program.eq(bank.program_operand),
            unit.size.eq(bank.program_size_commands),
            unit.watchdog.eq(bank.watchdog_clocks),
            unit.limit.eq(limits.read_data),
            *(getattr(unit, name).eq(getattr(bank, f"control_{name}")) for name in ("start", "halt", "reset")),
            bank.parameters_hash.eq(fingerprint(self._parameters)),
            *(
                getattr(bank, f"capabilities_{field.name}").eq(bool(capabilities(self._parameters) & field.mask))
                for field in register("capabilities").fields
            ),
            *(
                getattr(bank, f"status_{name}").eq(getattr(unit, name))
                for name in ("busy", "halted", "resetting", "done")
            ),
            bank.status_error.eq(unit.failed),
            bank.interrupt_done.eq(unit.ends),
            bank.interrupt_error.eq(unit.fails),
            bank.interrupt_reached.eq(unit.reached),
            bank.sticky_overflow.eq(self.overflow),
            bank.sticky_poisoned.eq(self.poisoned),
            *(
                getattr(bank, f"error_{name}").eq(getattr(unit.failure, name))
                for name in ("cause", "engine", "response", "tag")
            ),
            bank.error_position_command.eq(unit.failure.position),
            bank.error_address_unit.eq(unit.failure.unit),
            self.interrupt.eq(bank.interrupt),
        ]
        with m.If(unit.reached):
            m.d.sync += bank.reached_tag.eq(unit.tag)
        for number, engine in enumerate(ENGINES):
            where = unit.standings[number]
            fields = {
                "command_opcode": where.opcode,
                "command_queued": unit.levels[number],
                "command_waiting": where.waiting,
                "command_tag": where.tag,
                "traffic_reads": self.reading[number],
                "traffic_writes": self.writing[number],
                "traffic_link": self.linked[number],
                **{f"tokens_{other}": where.tokens[n] for n, other in enumerate(ENGINES) if other != engine},
            }
            m.d.comb += [getattr(bank, f"{engine}_{name}").eq(value) for name, value in fields.items()]

        # Regions and counters: memories that software reaches by the bank.
        m.d.comb += [
            regions.address.eq(bank.region),
            regions.write_enable.eq(bank.region_write),
            regions.write_data.eq(bank.region_value),
            bank.region_read.eq(regions.read_data),
            limits.write_enable.eq(bank.region_write & bank.region[0]),
            limits.write_address.eq(bank.region[1:]),
            limits.write_data.eq(bank.region_value),
            limits.read_enable.eq(1),
            limits.read_address.eq(unit.program.region),
            counters.half.eq(bank.counter),
            counters.wanted.eq(bank.counter_valid),
            bank.counter_ready.eq(counters.ready),
            bank.counter_read.eq(counters.value),
            # What is started together with a clear counts from 0.
            unit.hold.eq(counters.busy),
            counters.freeze.eq(bank.control_freeze),
            counters.clear.eq(bank.control_clear),
            *(getattr(counters, name).eq(getattr(unit, name)) for name in _OWN_EVENTS),
            *(getattr(counters, name).eq(getattr(self, name)) for name in self._events),
            counters.amount.eq(self.bytes),
            counters.which.eq(self.flow),
            counters.valid.eq(self.asked),
        ]
        if self._work:
            m.submodules.amounts = amounts = Amounts(self._work)
            wiring.connect(m, wiring.flipped(self.counts), amounts.i)
            with m.If(~self.asked):
                m.d.comb += [
                    amounts.ready.eq(1),
                    counters.amount.eq(amounts.amount),
                    counters.which.eq(len(self._flows) + amounts.which),
                    counters.valid.eq(amounts.valid),
                ]
        m.d.comb += [
            trace.stamps.eq(unit.stamps),
            trace.tag.eq(unit.tag),
            trace.clock.eq(unit.clock),
            trace.advance.eq(bank.control_advance),
            bank.trace_tag.eq(trace.oldest_tag),
            bank.trace_stamps.eq(trace.waiting),
            bank.trace_lost.eq(trace.lost),
            bank.trace_clock_clock.eq(trace.oldest_clock),
        ]
        return m
