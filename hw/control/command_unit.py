"""The command unit: runs a program, and says how it went."""

from amaranth.hdl import Module, Mux, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.machine.command import CLOSED_LOOP, COMMAND_WORDS, ENGINES
from hw.bus.ports import MemoryRead
from hw.control.decoder import CommandDecoder
from hw.control.dispatcher import Dispatcher, standing
from hw.control.engine import CAUSE_WIDTH, OFFSET_WIDTH, cause, operand, operation
from hw.control.fetch import CommandFetch
from hw.control.queues import QUEUE_DEPTH, OperationQueues
from hw.stream.records import RecordReader

FETCH = 15
"""Number that stands for the fetching of commands among engines."""

_QUIET = 128
"""Clocks without a new operation after which none is to come any more: more than it takes to read every queue."""


def failure() -> data.StructLayout:
    """Why a program was ended: 0 everywhere if it was not. `unit` is a unit of memory, if there is one."""
    return data.StructLayout({"cause": CAUSE_WIDTH, "engine": 4, "response": 2, "tag": 16, "position": 32, "unit": 32})


def bus_fault() -> data.StructLayout:
    """An access that did not succeed: its cause, 0 for none; whose it was, or `FETCH`; what the bus said; where."""
    return data.StructLayout({"cause": CAUSE_WIDTH, "engine": 4, "response": 2, "unit": 32})


class CommandUnit(wiring.Component):
    """Fetches the commands of a program and hands operations to the engines.

    A program ends at its Stop, by an error, by `halt`, or by `reset`. In each case the bus is drained, everything but
    the registers of software is reset, and the unit is idle again: the next program finds nothing of this one.

    Errors: the first one ends the program; of several in one clock that of the bus, then that of the lowest engine.
    An error of a command is told when the operations before it are done, so it is the first one in the program, too.
    If nothing moves for `watchdog` clocks, that is an error of the lowest engine that has an operation.

    Parameters
    ----------
    memory_width : int
        Bits of a word of memory.
    dataflows : sequence of str
        What the machine is built for (`golden.machine.command.DATAFLOWS`).

    Members
    -------
    read : Out(MemoryRead)
        Where commands are read.
    load, multiply, accumulate, emit : Out(stream of `operation`)
        To the engines.
    causes : In(array of 4 bits)
        Causes of the engines' errors (`Engine.error`).
    bus : In(bus_fault)
        Error of the bus; stays until `clear`.
    progress : In(1)
        Something moved: a word of memory, a vector on the link, a group in the array.
    drain, drained : Out(1), In(1)
        The bus is to finish what it has begun; it has.
    clear : Out(1)
        Resets engines and bus, one clock.
    program, size, limit : In
        See `CommandFetch`.
    watchdog : In(32)
        Clocks without progress after which a program is given up; 0: never.
    start, halt, reset : In(1)
        Told by software, one clock each. A start while a program runs is ignored.
    hold : In(1)
        What was started waits.
    busy, resetting, halted, done, failed : Out(1)
        What the machine does; how the last program ended.
    failure : Out(failure)
        Why the last program was ended.
    ends, fails, reached, stamps : Out(1)
        Events: `done` and `failed` become true; an Interrupt, a Stamp was carried out.
    tag, clock : Out(16), Out(32)
        With `reached` and `stamps`: tag of the command; clocks since the start.
    standings, levels : Out(arrays)
        See `Dispatcher` and `OperationQueues`.
    clocks, commands : Out(1)
        Events for the counters of these names.
    load_busy, load_waiting, load_operations, multiply_busy, ... : Out(1)
        Events for the counters of these names.
    """

    def __init__(self, memory_width: int, dataflows: tuple[str, ...] = CLOSED_LOOP):
        self._memory_width, self._dataflows = memory_width, dataflows
        super().__init__(
            {
                "read": Out(MemoryRead(memory_width)),
                **{engine: Out(stream.Signature(operation(engine, dataflows))) for engine in ENGINES},
                "causes": In(data.ArrayLayout(CAUSE_WIDTH, len(ENGINES))),
                "bus": In(bus_fault()),
                "progress": In(1),
                "drain": Out(1),
                "drained": In(1),
                "clear": Out(1),
                "program": In(operand()),
                "size": In(32),
                "limit": In(OFFSET_WIDTH),
                "watchdog": In(32),
                **{name: In(1) for name in ("start", "halt", "reset", "hold")},
                **{name: Out(1) for name in ("busy", "resetting", "halted", "done", "failed")},
                "failure": Out(failure()),
                **{name: Out(1) for name in ("ends", "fails", "reached", "stamps")},
                "tag": Out(16),
                "clock": Out(32),
                "standings": Out(data.ArrayLayout(standing(), len(ENGINES))),
                "levels": Out(data.ArrayLayout(range(QUEUE_DEPTH + 1), len(ENGINES))),
                "clocks": Out(1),
                "commands": Out(1),
                **{f"{engine}_{event}": Out(1) for engine in ENGINES for event in ("busy", "waiting", "operations")},
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        reader = RecordReader(self._memory_width, 32, COMMAND_WORDS)
        fetch = CommandFetch()
        decoder = CommandDecoder(self._dataflows)
        queues = OperationQueues(self._dataflows)
        dispatcher = Dispatcher(self._dataflows)
        for name, part in (
            ("reader", reader),
            ("fetch", fetch),
            ("decoder", decoder),
            ("queues", queues),
            ("dispatcher", dispatcher),
        ):
            m.submodules[name] = ResetInserter(self.clear)(part)
        wiring.connect(m, wiring.flipped(self.read), reader.port)
        wiring.connect(m, fetch.request, reader.i)
        wiring.connect(m, reader.o, fetch.items)
        wiring.connect(m, fetch.words, decoder.words)
        wiring.connect(m, decoder.queue, queues.i)
        for number, engine in enumerate(ENGINES):
            wiring.connect(m, getattr(queues, engine), getattr(dispatcher, f"{engine}_i"))
            wiring.connect(m, getattr(dispatcher, engine), wiring.flipped(getattr(self, engine)))
            m.d.comb += [
                decoder.queued[number].eq(queues.levels[number] != 0),
                getattr(self, f"{engine}_busy").eq(dispatcher.under_way[number]),
                getattr(self, f"{engine}_waiting").eq(dispatcher.standings[number].waiting.any()),
                getattr(self, f"{engine}_operations").eq(dispatcher.taken[number]),
            ]
        halting = Signal()
        m.d.comb += [
            fetch.program.eq(self.program),
            fetch.size.eq(self.size),
            fetch.limit.eq(self.limit),
            fetch.start.eq(decoder.start),
            fetch.jump.eq(decoder.jump),
            fetch.target.eq(decoder.target),
            decoder.position.eq(fetch.position),
            decoder.fault.eq(fetch.fault),
            decoder.halt.eq(halting),
            queues.taken.eq(dispatcher.taken),
            self.standings.eq(dispatcher.standings),
            self.levels.eq(queues.levels),
            self.tag.eq(decoder.tag),
            self.reached.eq(decoder.reached),
            self.stamps.eq(decoder.stamp),
            self.commands.eq(decoder.decoded),
        ]

        moves = Signal()
        still = Signal(32)
        quiet = Signal(range(_QUIET))
        # What operations that have ended have yet to tell the counters is there within 32 clocks.
        m.d.sync += moves.eq(self.progress | decoder.decoded | dispatcher.begun.any() | dispatcher.taken.any())
        m.d.sync += [still.eq(still + 1), self.clock.eq(self.clock + 1), quiet.eq(quiet + ~quiet.all())]
        with m.If(moves | ~self.clocks):
            m.d.sync += still.eq(0)
        with m.If(~self.clocks):
            m.d.sync += self.clock.eq(0)
        with m.If(dispatcher.under_way.any() | ~(halting | decoder.stopped)):
            m.d.sync += quiet.eq(0)

        # What is wrong comes late in a clock and is told two clocks later: it stays wrong.
        causes, bus = Signal.like(self.causes), Signal.like(self.bus)
        m.d.sync += [causes.eq(self.causes), bus.eq(self.bus)]
        with m.If(self.clear):
            m.d.sync += [causes.eq(0), bus.eq(0)]
        finds = Signal(failure())
        found = Signal(failure())
        self._find(m, finds, causes, bus, dispatcher, decoder, still)
        m.d.sync += found.eq(finds)

        begins = Signal()
        with m.If(self.start & ~self.busy):
            m.d.sync += [
                begins.eq(1),
                self.busy.eq(1),
                self.halted.eq(0),
                self.done.eq(0),
                self.failed.eq(0),
                self.failure.eq(0),
            ]
        with m.If(self.halt & self.busy):
            m.d.sync += halting.eq(1)
        # A register, whose wires lead all over the machine.
        m.d.sync += self.clear.eq(0)
        with m.FSM(name="program"):
            with m.State("IDLE"):
                with m.If(self.resetting):
                    m.next = "DRAIN"
                with m.Elif(begins & decoder.ready & ~self.hold):
                    m.d.comb += decoder.start.eq(1)
                    m.d.sync += begins.eq(0)
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += self.clocks.eq(1)
                with m.If(self.resetting):
                    m.next = "DRAIN"
                with m.Elif(found.cause.any()):
                    m.d.sync += self.failure.eq(found)
                    m.next = "DRAIN"
                with m.Elif((decoder.stopped & quiet[5:].any()) | (decoder.halted & quiet.all())):
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.comb += self.drain.eq(1)
                with m.If(self.drained):
                    m.d.sync += self.clear.eq(1)
                    m.next = "CLEAR"
            with m.State("CLEAR"):
                m.d.sync += [begins.eq(0), self.busy.eq(0), halting.eq(0), self.resetting.eq(0)]
                with m.If(~self.resetting):
                    m.d.comb += [self.fails.eq(self.failure.cause.any()), self.ends.eq(~self.fails & ~halting)]
                    m.d.sync += [self.failed.eq(self.fails), self.done.eq(self.ends), self.halted.eq(halting)]
                m.next = "IDLE"
        with m.If(self.reset):
            m.d.sync += [
                self.resetting.eq(1),
                self.halted.eq(0),
                self.done.eq(0),
                self.failed.eq(0),
                self.failure.eq(0),
            ]
        return m

    def _find(
        self,
        m: Module,
        found: data.View,
        causes: data.View,
        bus: data.View,
        dispatcher: Dispatcher,
        decoder: CommandDecoder,
        still: Signal,
    ) -> None:
        """What is wrong in this clock, and whose fault it is: the last of these conditions that holds."""
        expired = Signal()
        blamed = Signal(4)
        m.d.sync += expired.eq(self.watchdog.any() & (still == self.watchdog))
        with m.If(decoder.cause.any() | expired):
            m.d.comb += [found.cause.eq(Mux(expired, cause("watchdog"), decoder.cause)), blamed.eq(FETCH)]
        for number in reversed(range(len(ENGINES))):
            with m.If(expired & dispatcher.standings[number].opcode.any()):
                m.d.comb += blamed.eq(number)
        for number in reversed(range(len(ENGINES))):
            with m.If(causes[number].any()):
                m.d.comb += [found.cause.eq(causes[number]), blamed.eq(number)]
        with m.If(bus.cause.any()):
            m.d.comb += [found.cause.eq(bus.cause), blamed.eq(bus.engine)]
        m.d.comb += [
            found.engine.eq(blamed),
            found.response.eq(bus.response),
            found.unit.eq(bus.unit),
            # What is read ahead is no command yet.
            found.tag.eq(Mux(bus.cause.any(), 0, decoder.tag)),
            found.position.eq(decoder.at),
        ]
        with m.Switch(blamed):
            for number in range(len(ENGINES)):
                with m.Case(number):
                    m.d.comb += [
                        found.tag.eq(dispatcher.standings[number].tag),
                        found.position.eq(dispatcher.standings[number].position),
                    ]
