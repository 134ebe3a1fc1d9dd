"""The trace: stamps that wait for software."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.machine.registers import TRACE
from hw.stream.fifo import Fifo


class Trace(wiring.Component):
    """A queue of stamps, empty after a reset. One that comes when it is full is lost, which is told.

    Members
    -------
    stamps, tag, clock : In(1), In(16), In(32)
        A stamp comes; what it says.
    advance : In(1)
        The oldest one has been read.
    oldest_tag, oldest_clock : Out(16), Out(32)
        The oldest one; 0 if there is none.
    waiting : Out(8)
        How many there are.
    lost : Out(1)
        One was lost.
    """

    def __init__(self):
        super().__init__(
            {
                **{"stamps": In(1), "tag": In(16), "clock": In(32), "advance": In(1)},
                **{"oldest_tag": Out(16), "oldest_clock": Out(32), "waiting": Out(range(TRACE + 1)), "lost": Out(1)},
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        m.submodules.queue = queue = Fifo(data.StructLayout({"tag": 16, "clock": 32}), TRACE)
        room, comes, goes = Signal(), Signal(), Signal()
        m.d.comb += [
            room.eq(self.waiting != TRACE),
            comes.eq(self.stamps & room),
            goes.eq(self.advance & queue.o.valid),
            queue.i.valid.eq(comes),
            queue.i.p.tag.eq(self.tag),
            queue.i.p.clock.eq(self.clock),
            queue.o.ready.eq(goes),
        ]
        with m.If(queue.o.valid):
            m.d.comb += [self.oldest_tag.eq(queue.o.p.tag), self.oldest_clock.eq(queue.o.p.clock)]
        m.d.sync += [self.waiting.eq(self.waiting + comes - goes), self.lost.eq(self.lost | (self.stamps & ~room))]
        return m
