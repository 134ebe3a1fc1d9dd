"""Queues of operations in front of the engines, in one memory."""

from amaranth.hdl import Array, Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.machine.command import CLOSED_LOOP, ENGINES
from hw.control.decoder import head, queue_word
from hw.control.engine import operation, words
from hw.memory import Ram

QUEUE_DEPTH = 8
"""Operations that wait in front of an engine at most, the one under way included."""

_HEAD_WORDS = 2


def queued_operation(engine: str, dataflows: tuple[str, ...] = CLOSED_LOOP) -> data.StructLayout:
    """An operation with what the control must know of it."""
    head_fields = {"pop": len(ENGINES), "push": len(ENGINES), "tag": 16, "position": 32}
    return data.StructLayout({**head_fields, "operation": operation(engine, dataflows)})


class OperationQueues(wiring.Component):
    """Operations come word by word, and leave whole: one for each engine stands ready while another one is under way.

    Latency: 2 clocks and one for each word of the longest operation of its engine, if no other engine's is on the way.

    Parameters
    ----------
    dataflows : sequence of str
        What the machine is built for (`golden.machine.command.DATAFLOWS`).

    Members
    -------
    i : In(stream of `queue_word`)
        Operations. Ready as long as the queue of the engine has room; an operation counts once its last word has come.
    load, multiply, accumulate, emit : Out(stream of `queued_operation`)
        The next one of each engine.
    taken : In(4)
        Operations that are done, a bit for each engine.
    levels : Out(array of 4 bits)
        Operations of each engine that are not done.
    """

    def __init__(self, dataflows: tuple[str, ...] = CLOSED_LOOP):
        self._words = {engine: _HEAD_WORDS + words(engine, dataflows) for engine in ENGINES}
        self._dataflows = dataflows
        super().__init__(
            {
                "i": In(stream.Signature(queue_word())),
                **{engine: Out(stream.Signature(queued_operation(engine, dataflows))) for engine in ENGINES},
                "taken": In(len(ENGINES)),
                "levels": Out(data.ArrayLayout(range(QUEUE_DEPTH + 1), len(ENGINES))),
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        slots = range(QUEUE_DEPTH)
        slot_words = 1 << (max(self._words.values()) - 1).bit_length()
        m.submodules.slots = ram = Ram(32, len(ENGINES) * QUEUE_DEPTH * slot_words)
        index = Signal(range(slot_words))
        tails = Array(Signal(slots, name=f"{engine}_tail") for engine in ENGINES)
        puts, ends = Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(self.levels[self.i.p.engine] != QUEUE_DEPTH),
            puts.eq(self.i.valid & self.i.ready),
            ends.eq(puts & self.i.p.last),
            ram.write_enable.eq(puts),
            ram.write_address.eq(Cat(index, tails[self.i.p.engine], self.i.p.engine)),
            ram.write_data.eq(self.i.p.word),
        ]
        with m.If(ends):
            m.d.sync += index.eq(0)
        with m.Elif(puts):
            m.d.sync += index.eq(index + 1)

        # One operation after the other is read into the place of its engine.
        wanted = Signal(len(ENGINES))
        chosen = Signal(range(len(ENGINES)))
        reads, arrives = Signal(), Signal()
        row = Signal(range(slot_words))
        arriving = Signal.like(row)
        last_row = Signal.like(row)
        heads = Array(Signal(slots, name=f"{engine}_head") for engine in ENGINES)
        m.d.comb += [
            ram.read_enable.eq(1),
            ram.read_address.eq(Cat(row, heads[chosen], chosen)),
        ]
        m.d.sync += [arrives.eq(reads), arriving.eq(row)]
        for number, engine in enumerate(ENGINES):
            waiting = Signal(range(QUEUE_DEPTH + 1), name=f"{engine}_waiting")
            o = getattr(self, engine)
            comes = ends & (self.i.p.engine == number)
            arrived = Signal(name=f"{engine}_arrived")
            here = arrives & (chosen == number)
            m.d.comb += [
                wanted[number].eq((waiting != 0) & ~o.valid),
                arrived.eq(here & (arriving == self._words[engine] - 1)),
            ]
            m.d.sync += [
                self.levels[number].eq(self.levels[number] + comes - self.taken[number]),
                waiting.eq(waiting + comes - arrived),
            ]
            with m.If(comes):
                m.d.sync += tails[number].eq(tails[number] + 1)
            with m.If(arrived):
                m.d.sync += [o.valid.eq(1), heads[number].eq(heads[number] + 1)]
            with m.Elif(o.ready):
                m.d.sync += o.valid.eq(0)
            with m.If(chosen == number):
                m.d.comb += last_row.eq(self._words[engine] - 1)
            with m.If(here), m.Switch(arriving):
                with m.Case(0):
                    first = data.View(head(), ram.read_data)
                    m.d.sync += [getattr(o.p, name).eq(getattr(first, name)) for name in ("pop", "push", "tag")]
                    m.d.sync += o.p.operation.opcode.eq(first.opcode)
                with m.Case(1):
                    m.d.sync += o.p.position.eq(ram.read_data)
                for word in range(self._words[engine] - _HEAD_WORDS):
                    with m.Case(_HEAD_WORDS + word):
                        m.d.sync += o.p.operation.words[word].eq(ram.read_data)

        with m.FSM(name="reading"):
            with m.State("CHOOSE"):
                m.d.sync += row.eq(0)
                for number in reversed(range(len(ENGINES))):
                    with m.If(wanted[number]):
                        m.d.sync += chosen.eq(number)
                with m.If(wanted.any() & ~arrives):
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += reads.eq(1)
                m.d.sync += row.eq(row + 1)
                with m.If(row == last_row):
                    m.next = "CHOOSE"
        return m
