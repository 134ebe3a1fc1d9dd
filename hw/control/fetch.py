"""Reading a program: commands word by word, asked for ahead, from any place on."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.machine.command import COMMAND_WORDS, UNIT_BYTES
from hw.control.engine import CAUSE_WIDTH, OFFSET_WIDTH, cause, operand
from hw.stream.records import record_span

_AHEAD = 5
"""Commands that are asked for ahead."""


class CommandFetch(wiring.Component):
    """Words of a program's commands, one after the other, from command 0 on.

    Some commands are asked for ahead, as far as the program and its region reach: what is never carried out may be
    read, but no access leaves a region that the program begins in. A jump drops what was read ahead.

    Throughput: a word a clock, as long as memory answers within 32 clocks.

    Members
    -------
    program : In(operand)
        First command.
    size : In(32)
        Commands at most.
    limit : In(29)
        Units of memory that the program's region has.
    start : In(1)
        Begin.
    jump, target : In(1), In(32)
        Go on with the command of this number, which was fetched before.
    request : Out(stream of `record_span`)
        To a reader of records of 32 bytes.
    items : In(stream of 32 bits)
        What it reads.
    words : Out(stream of 32 bits)
        Words of the command `position`, and of those after it.
    position : Out(32)
        Number of the command whose words are taken.
    fault : Out(4)
        Cause why there is no command of that number, else 0: at the size (`command`), or at the limit (`region`).
    """

    def __init__(self):
        super().__init__(
            {
                "program": In(operand()),
                "size": In(32),
                "limit": In(OFFSET_WIDTH),
                "start": In(1),
                "jump": In(1),
                "target": In(32),
                "request": Out(stream.Signature(record_span())),
                "items": In(stream.Signature(32)),
                "words": Out(stream.Signature(32)),
                "position": Out(32),
                "fault": Out(CAUSE_WIDTH),
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        running = Signal()
        index = Signal(range(COMMAND_WORDS))
        # The next command to ask for: equality is enough to find the end, for nothing begins behind it unless the
        # program does, and the bus refuses that.
        unit = Signal(OFFSET_WIDTH + 1)
        ended = Signal()
        # Where a program ends stands long before it starts.
        end = Signal.like(unit, name="end")
        m.d.sync += end.eq(self.program.offset + self.size)
        m.d.comb += ended.eq((unit == end) | (unit == self.limit))

        # An offered request stays as it is: its words are stale if a jump comes before it is taken.
        coming = Signal(range(_AHEAD * COMMAND_WORDS + 1))
        stale = Signal.like(coming)
        asks, takes = Signal(), Signal()
        room = coming <= (_AHEAD - 1) * COMMAND_WORDS
        m.d.comb += [
            asks.eq(running & ~self.jump & ~ended & room & (~self.request.valid | self.request.ready)),
            takes.eq(self.items.valid & self.items.ready),
            self.request.p.region.eq(self.program.region),
            self.request.p.records.eq(1),
        ]
        with m.If(self.request.ready):
            m.d.sync += self.request.valid.eq(0)
        with m.If(asks):
            m.d.sync += [self.request.valid.eq(1), self.request.p.address.eq(unit * UNIT_BYTES), unit.eq(unit + 1)]
        m.d.sync += coming.eq(coming + Mux(asks, COMMAND_WORDS, 0) - takes)

        m.d.comb += [
            self.words.payload.eq(self.items.payload),
            self.words.valid.eq(self.items.valid & ~stale.any() & ~self.jump),
            self.items.ready.eq(stale.any() | (self.words.ready & ~self.jump)),
        ]
        with m.If(self.words.valid & self.words.ready):
            m.d.sync += index.eq(index + 1)
            with m.If(index == COMMAND_WORDS - 1):
                m.d.sync += self.position.eq(self.position + 1)
        with m.If(self.start):
            m.d.sync += [running.eq(1), unit.eq(self.program.offset)]
        with m.If(self.jump):
            m.d.sync += [
                unit.eq(self.program.offset + self.target),
                self.position.eq(self.target),
                stale.eq(coming - takes),
            ]
        with m.Elif(takes & stale.any()):
            m.d.sync += stale.eq(stale - 1)
        with m.If(running & ended & ~coming.any()):
            m.d.comb += self.fault.eq(Mux(self.position == self.size, cause("command"), cause("region")))
        return m
