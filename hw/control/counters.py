"""Counters of 64 bits, many of them, in one memory with one adder."""

from collections.abc import Mapping

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.machine.registers import COUNTERS
from hw.memory import Ram
from hw.stream.fifo import Fifo

__all__ = ["Counters", "counted"]

_NAMES = [counter.name for counter in COUNTERS]
_INDEX_WIDTH = (len(COUNTERS) - 1).bit_length()
_AMOUNT_WIDTH = 32
_STEPS = 3
"""Kinds of steps that take turns."""


def counted() -> data.StructLayout:
    """An amount, and the number of the counter that it is added to, as `golden.machine.registers.COUNTERS` has it."""
    return data.StructLayout({"index": _INDEX_WIDTH, "amount": _AMOUNT_WIDTH})


class Counters(wiring.Component):
    """Counts events. What was counted is read from a copy, so that all of it is of one moment.

    Small amounts gather in registers, and are added to the memory in turns. Large ones wait in a queue of 16 that gives
    one every 6 clocks: those that find it full are lost.

    Latency: a copy or a clear takes 6 clocks for each row of the memory, and begins when all that came before it has
    been added, 6 clocks for each counter of small amounts. A counter that is wanted waits for that. What comes while
    counters are cleared may be lost.

    Parameters
    ----------
    widths : mapping of str to int
        Counters that small amounts are added to: bits of an amount by name; at least one.

    Members
    -------
    (names) : In(width)
        What is added in this clock.
    large, large_valid : In(`counted`), In(1)
        What is added to any counter.
    freeze, clear : In(1)
        Copy all counters; make them 0, but not the copies. At once: first the one, then the other.
    half : In
        Which half of which copy is wanted: twice the number of the counter, and 1 for the high half.
    wanted, ready, value : In(1), Out(1), Out(32)
        Wanted until it is ready; its value in that clock.

    Raises
    ------
    ValueError
        If `widths` names no counter, or what is none.
    """

    def __init__(self, widths: Mapping[str, int]):
        if not widths:
            raise ValueError("widths must name at least one counter, not none")
        for name in widths:
            if name not in _NAMES:
                raise ValueError(f"widths must name counters of the table, not {name!r}")
        self._widths = dict(widths)
        super().__init__(
            {
                **{name: In(width) for name, width in widths.items()},
                "large": In(counted()),
                "large_valid": In(1),
                "freeze": In(1),
                "clear": In(1),
                "half": In(_INDEX_WIDTH + 1),
                "wanted": In(1),
                "ready": Out(1),
                "value": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        # The counters, then their copies.
        m.submodules.rows = rows = Ram(64, 2 << _INDEX_WIDTH)
        m.submodules.queue = queue = Fifo(counted(), 16)
        m.d.comb += [
            queue.i.valid.eq(self.large_valid),
            queue.i.payload.eq(self.large),
            rows.read_enable.eq(1),
        ]

        small = list(self._widths)
        turn = Signal(range(max(len(small), 2)))
        added = Signal()
        gathered = Signal(_AMOUNT_WIDTH)
        gathered_index = Signal(_INDEX_WIDTH)
        for number, name in enumerate(small):
            width = self._widths[name] + (2 * _STEPS * len(small)).bit_length()
            pending = Signal(width, name=f"{name}_pending")
            own = turn == number
            m.d.sync += pending.eq(Mux(added & own, 0, pending) + getattr(self, name))
            with m.If(own):
                m.d.comb += [gathered.eq(pending), gathered_index.eq(_NAMES.index(name))]

        # What is asked for is done in passes over all counters, once all that has gathered by then is added.
        copies, clears = Signal(), Signal()
        wait = max(len(small), queue.depth + 1) + 1
        settling = Signal(range(wait + 1))
        place = Signal(_INDEX_WIDTH)
        passes = Signal()
        ends = Signal()
        m.d.comb += passes.eq((copies | clears) & ~settling.any())
        with m.If(ends & copies):
            m.d.sync += copies.eq(0)
        with m.Elif(ends):
            m.d.sync += clears.eq(0)
        with m.If(self.freeze):
            m.d.sync += copies.eq(1)
        with m.If(self.clear):
            m.d.sync += clears.eq(1)

        # A step takes two clocks: a row is read, then a row is written.
        row = Signal(_INDEX_WIDTH + 1)
        writes = Signal()
        m.d.comb += rows.read_address.eq(row)
        with m.FSM(name="step"):
            with m.State("LARGE"):
                m.d.comb += row.eq(queue.o.p.index)
                m.d.sync += writes.eq(queue.o.valid)
                m.next = "LARGE_WRITE"
            with m.State("LARGE_WRITE"):
                m.d.comb += [
                    rows.write_enable.eq(writes),
                    rows.write_address.eq(queue.o.p.index),
                    rows.write_data.eq(rows.read_data + queue.o.p.amount),
                    queue.o.ready.eq(writes),
                ]
                m.next = "SMALL"
            with m.State("SMALL"):
                m.d.comb += row.eq(gathered_index)
                m.next = "SMALL_WRITE"
            with m.State("SMALL_WRITE"):
                m.d.comb += [
                    rows.write_enable.eq(1),
                    rows.write_address.eq(gathered_index),
                    rows.write_data.eq(rows.read_data + gathered),
                    added.eq(1),
                ]
                m.d.sync += turn.eq(Mux(turn == len(small) - 1, 0, turn + 1))
                with m.If(settling.any()):
                    m.d.sync += settling.eq(settling - 1)
                m.next = "COPY"
            with m.State("COPY"):
                m.d.comb += row.eq(Mux(passes, place, Cat(self.half[1:], 1)))
                m.d.sync += writes.eq(passes)
                m.next = "COPY_WRITE"
            with m.State("COPY_WRITE"):
                with m.If(writes):
                    m.d.comb += [
                        rows.write_enable.eq(1),
                        rows.write_address.eq(Cat(place, copies)),
                        rows.write_data.eq(Mux(copies, rows.read_data, 0)),
                        ends.eq(place.all()),
                    ]
                    m.d.sync += place.eq(place + 1)
                with m.Elif(~copies & ~clears):
                    m.d.comb += [
                        self.value.eq(rows.read_data.word_select(self.half[0], 32)),
                        self.ready.eq(self.wanted),
                    ]
                m.next = "LARGE"
        with m.If(self.freeze | self.clear):
            m.d.sync += settling.eq(wait)
        return m
