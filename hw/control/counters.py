"""Counters of 64 bits, many of them, in one memory with one adder."""

from collections.abc import Mapping, Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.machine.registers import COUNTERS
from hw.arith.bits import choose
from hw.memory import Ram

_NAMES = [counter.name for counter in COUNTERS]
_INDEX_WIDTH = (len(COUNTERS) - 1).bit_length()
_NOTHING = (1 << _INDEX_WIDTH) - 1
"""A row that no counter has: it stays 0."""

_AMOUNT_WIDTH = 36


class Counters(wiring.Component):
    """Counts events. What was counted is read from a copy, so that all of it is of one moment.

    Events gather in registers, amounts in a small memory of their own; the memory of counters takes from both in turns.

    Latency: a copy or a clear takes 8 clocks for each row of the memory, and begins when all that came before it has
    been added, 8 clocks for two counters. A counter that is wanted waits for that. What comes while counters are
    cleared may be lost.

    Parameters
    ----------
    widths : mapping of str to int
        Counters of events: bits of what is added in a clock, by name; at least one.
    amounts : sequence of str
        Counters that amounts are added to, one of them in a clock; at least one.

    Members
    -------
    (names of events) : In(width)
        What is added in this clock.
    amount, which, valid : In(32), In, In(1)
        What is added in this clock, to which counter of `amounts`, and whether.
    freeze, clear : In(1)
        Copy all counters; make them 0, but not the copies. At once: first the one, then the other.
    half : In
        Which half of which copy is wanted: twice the number of the counter, and 1 for the high half.
    busy : Out(1)
        A copy or a clear is under way.
    wanted, ready, value : In(1), Out(1), Out(32)
        Wanted until it is ready; its value in that clock.

    Raises
    ------
    ValueError
        If a name is no counter's, or there is none.
    """

    def __init__(self, widths: Mapping[str, int], amounts: Sequence[str]):
        for argument, names in [("widths", widths), ("amounts", amounts)]:
            if not names:
                raise ValueError(f"{argument} must name at least one counter, not none")
            for name in names:
                if name not in _NAMES:
                    raise ValueError(f"{argument} must name counters of the table, not {name!r}")
        self._widths, self._amounts = dict(widths), list(amounts)
        super().__init__(
            {
                **{name: In(width) for name, width in widths.items()},
                "amount": In(32),
                "which": In(range(len(amounts))),
                "valid": In(1),
                "freeze": In(1),
                "clear": In(1),
                "busy": Out(1),
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
        row = Signal(_INDEX_WIDTH + 1)
        target = Signal.like(row)
        addend = Signal(_AMOUNT_WIDTH)
        turn_width = (4 * len(self._widths)).bit_length()
        gathered = Signal(max(self._widths.values()) + turn_width)
        m.d.comb += [
            rows.read_enable.eq(1),
            rows.read_address.eq(row),
            rows.write_address.eq(target),
            rows.write_data.eq(rows.read_data + addend),
            self.value.eq(rows.read_data.word_select(self.half[0], 32)),
        ]

        # Events: small counters run freely, and what they stood at last is kept. Like the memories, no reset changes
        # them. Between two turns of a counter lie 4 clocks for each.
        events = list(self._widths)
        event = Signal(range(max(len(events), 2)))
        takes_event = Signal()
        now, added = Signal.like(gathered), Signal.like(gathered)
        width = len(now)
        event_row = Signal(_INDEX_WIDTH)
        m.submodules.stood = stood = memory.Memory(
            shape=width, depth=max(len(events), 2), init=[], attrs={"ram_style": "distributed"}
        )
        store, load = stood.write_port(), stood.read_port(domain="comb")
        m.d.comb += [
            store.addr.eq(event),
            store.data.eq(now),
            store.en.eq(takes_event),
            load.addr.eq(event),
        ]
        running = []
        for name in events:
            # What tells an event often comes late in a clock.
            amount = Signal(self._widths[name], name=f"{name}_now", reset_less=True)
            m.d.sync += amount.eq(getattr(self, name))
            counter = Signal(len(amount) + turn_width, name=f"{name}_running", reset_less=True)
            with m.If(amount.any()):
                m.d.sync += counter.eq(counter + (amount if len(amount) > 1 else 1))
            running.append(counter)
        m.d.comb += [
            now.eq(choose(m, "running", event, running)),
            event_row.eq(choose(m, "event_row", event, [Const(_NAMES.index(name), _INDEX_WIDTH) for name in events])),
            added.eq(now - load.data),
            # Of a narrow counter the difference is as narrow.
            gathered.eq(added & choose(m, "event_mask", event, [Const((1 << len(one)) - 1, width) for one in running])),
        ]
        with m.If(takes_event):
            m.d.sync += event.eq(Mux(event == len(events) - 1, 0, event + 1))

        # Amounts: in a clock without one, what has gathered of one counter is taken.
        m.submodules.sums = sums = memory.Memory(
            shape=_AMOUNT_WIDTH, depth=len(self._amounts), init=[], attrs={"ram_style": "distributed"}
        )
        put, got = sums.write_port(), sums.read_port(domain="comb")
        flow = Signal(range(len(self._amounts)))
        wants_flow, takes_flow = Signal(), Signal()
        flow_row = Signal(_INDEX_WIDTH)
        m.d.comb += [
            takes_flow.eq(wants_flow & ~self.valid),
            got.addr.eq(Mux(self.valid, self.which, flow)),
            put.addr.eq(got.addr),
            put.data.eq(Mux(self.valid, got.data + self.amount, 0)),
            put.en.eq(self.valid | wants_flow),
        ]
        with m.Switch(flow):
            for number, name in enumerate(self._amounts):
                with m.Case(number):
                    m.d.comb += flow_row.eq(_NAMES.index(name))
        with m.If(takes_flow):
            m.d.sync += flow.eq(Mux(flow == len(self._amounts) - 1, 0, flow + 1))

        # What is asked for is done in passes over all rows, once all that has gathered by then is added.
        copies, clears, passes, ends = Signal(), Signal(), Signal(), Signal()
        turns = max((len(events) + 1) // 2, len(self._amounts)) + 1
        settling = Signal(range(turns + 1))
        place = Signal(_INDEX_WIDTH)
        m.d.comb += [self.busy.eq(copies | clears), passes.eq(self.busy & ~settling.any())]
        with m.If(ends & copies):
            m.d.sync += copies.eq(0)
        with m.Elif(ends):
            m.d.sync += clears.eq(0)
        with m.If(self.freeze):
            m.d.sync += copies.eq(1)
        with m.If(self.clear):
            m.d.sync += clears.eq(1)
        with m.If(takes_flow & settling.any()):
            m.d.sync += settling.eq(settling - 1)
        with m.If(self.freeze | self.clear):
            m.d.sync += settling.eq(turns)

        # A step takes two clocks: a row is read, then a row is written. Every other step is for an event.
        step = Signal(2)
        writes, passing = Signal(), Signal()
        m.d.sync += [writes.eq(~writes), rows.write_enable.eq(0), passing.eq(0), addend.eq(0), target.eq(row)]
        with m.If(writes):
            m.d.sync += step.eq(step + 1)
        with m.Else():
            with m.Switch(step):
                with m.Case(0, 2):
                    m.d.comb += [takes_event.eq(1), row.eq(event_row)]
                    m.d.sync += [addend.eq(gathered), rows.write_enable.eq(1)]
                with m.Case(1):
                    m.d.comb += [wants_flow.eq(1), row.eq(flow_row)]
                    m.d.sync += [addend.eq(got.data), rows.write_enable.eq(takes_flow)]
                with m.Case(3):
                    m.d.sync += [passing.eq(passes), rows.write_enable.eq(passes), target.eq(Cat(place, copies))]
                    with m.If(~passes):
                        m.d.comb += row.eq(Cat(self.half[1:], 1))
                    with m.Elif(copies):
                        m.d.comb += row.eq(place)
                    with m.Else():
                        m.d.comb += row.eq(_NOTHING)
        with m.If(writes & (step == 3)):
            m.d.comb += [ends.eq(passing & place.all()), self.ready.eq(self.wanted & ~self.busy)]
            m.d.sync += place.eq(place + passing)
        return m


class Amounts(wiring.Component):
    """Several counters' amounts, which come together, one after the other.

    Parameters
    ----------
    layout : StructLayout
        The amounts, of 32 bits at most.

    Members
    -------
    i : In(stream of `layout`)
        What is to be added.
    which, amount, valid, ready : Out, Out(32), Out(1), In(1)
        One of them: the number of its field.
    """

    def __init__(self, layout: data.StructLayout):
        self._count = len(layout.members)
        super().__init__(
            {
                "i": In(stream.Signature(layout)),
                "which": Out(range(self._count)),
                "amount": Out(32),
                "valid": Out(1),
                "ready": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        amounts = [self.i.p[name] for name in self.i.p.shape().members]
        m.d.comb += [
            self.valid.eq(self.i.valid),
            self.amount.eq(choose(m, "amount", self.which, amounts)),
            self.i.ready.eq(self.ready & (self.which == self._count - 1)),
        ]
        with m.If(self.valid & self.ready):
            m.d.sync += self.which.eq(Mux(self.i.ready, 0, self.which + 1))
        return m
