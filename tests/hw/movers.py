"""A machine of four engines that only copy: what is around engines is tested apart from the real ones."""

from amaranth.hdl import Module, Signal

from golden.machine.command import Accumulate, Combine, LoadWeights, Multiply
from golden.parameters import preset
from hw.accelerator import Accelerator
from hw.control.cluster import Cluster
from hw.control.engine import Engine, Fields

TINY = preset("tiny")


class Mover(Engine):
    """Copies units of memory from one operand to another, word by word."""

    kind: type
    source = target = count = ""

    def _members(self, parameters):
        return super()._members(parameters) | {
            "states_read": self.read(parameters),
            "states_written": self.write(parameters),
        }

    def elaborate(self, platform):
        m = Module()
        fields = Fields(self.operation.p, self.kind)
        source, target, count = (getattr(fields, name) for name in (self.source, self.target, self.count))
        read, write = self.states_read, self.states_written
        asked_read, asked_write = Signal(), Signal()
        left = Signal(32)
        words = 32 * 8 // self.parameters.memory_width
        for port, operand, asked in ((read, source, asked_read), (write, target, asked_write)):
            m.d.comb += [
                port.request.valid.eq(self.operation.valid & ~asked),
                port.request.p.region.eq(operand.region),
                port.request.p.address.eq(operand.offset * 32),
                port.request.p.bytes.eq(count * 32),
            ]
            with m.If(port.request.valid & port.request.ready):
                m.d.sync += asked.eq(1)
        m.d.comb += [
            write.data.valid.eq(read.data.valid & asked_write & (left != 0)),
            write.data.p.data.eq(read.data.payload),
            write.data.p.strobe.eq(-1),
            read.data.ready.eq(write.data.ready & asked_write & (left != 0)),
            self.operation.ready.eq(asked_read & asked_write & (left == 0) & write.idle),
        ]
        with m.If(write.data.valid & write.data.ready):
            m.d.sync += left.eq(left - 1)
        with m.If(self.operation.ready | ~self.operation.valid):
            m.d.sync += [asked_read.eq(0), asked_write.eq(0)]
        with m.If(~asked_read):
            m.d.sync += left.eq(count * words)
        return m


def _mover(name, kind, source, target, count):
    body = {"name": name, "kind": kind, "source": source, "target": target, "count": count}
    return type(f"{kind.__name__}Mover", (Mover,), body)


class Waiter(Engine):
    """Has no operand: takes as many clocks as there are lines, and breaks a rule of its fields if told to."""

    name = "multiply"

    def elaborate(self, platform):
        m = Module()
        fields = Fields(self.operation.p, Multiply)
        clocks = Signal(8)
        m.d.comb += [
            self.operation.ready.eq(self.operation.valid & (clocks == fields.lines) & (self.error == 0)),
            self.overflow.eq(self.operation.valid & fields.half),
        ]
        m.d.sync += clocks.eq(clocks + 1)
        with m.If(self.operation.ready | ~self.operation.valid):
            m.d.sync += clocks.eq(0)
        with m.If(self.operation.valid & (fields.columns == 255)):
            m.d.sync += self.error.eq(3)
        return m


MOVERS = (
    _mover("load", LoadWeights, "source", "source", "records"),
    Waiter,
    _mover("accumulate", Accumulate, "origin", "state", "first"),
    _mover("emit", Combine, "source1", "state", "vectors"),
)


class Movers(Cluster):
    """All four engines."""

    name = "movers"

    def _make(self, parameters):
        return [kind(parameters) for kind in MOVERS]

    def _members(self, parameters):
        return {}

    def _connect(self, m):
        pass


def moving_machine(parameters=TINY):
    """The accelerator with engines that copy."""
    return Accelerator(parameters, [Movers(parameters)])


def moved(memory, program, regions):
    """What a program without loops leaves in memory, its commands one after the other; and the bytes read."""
    memory, total = memory.copy(), 0

    def units(operand, count):
        first = 32 * (regions[operand.region][0] + operand.offset)
        return slice(first, first + 32 * count)

    for command in program:
        if isinstance(command, LoadWeights):
            total += 32 * command.records
        for kind, mover in ((Accumulate, MOVERS[2]), (Combine, MOVERS[3])):
            if isinstance(command, kind):
                count = getattr(command, mover.count)
                source, target = getattr(command, mover.source), getattr(command, mover.target)
                memory[units(target, count)] = memory[units(source, count)]
                total += 32 * count
    return memory, total
