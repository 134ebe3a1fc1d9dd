"""Offering operations to the engines as soon as their tokens are there."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.machine.command import CLOSED_LOOP, ENGINES
from hw.control.engine import operation
from hw.control.queues import queued_operation

TOKENS_MAX = 255
"""Tokens that wait from one engine to another at most."""


def standing() -> data.StructLayout:
    """Where an engine stands: the operation in front of it, 0 if there is none, and what that one waits for.

    `tokens` counts those of each other engine, in the order of `ENGINES`; the own one's place is 0.
    """
    return data.StructLayout(
        {
            "opcode": 8,
            "tag": 16,
            "position": 32,
            "waiting": len(ENGINES),
            "tokens": data.ArrayLayout(8, len(ENGINES)),
        }
    )


class Dispatcher(wiring.Component):
    """Holds one operation for each engine, pops its tokens, offers it, and pushes its tokens once it is taken.

    Latency: 2 clocks from an operation to its offer.

    Parameters
    ----------
    dataflows : sequence of str
        What the machine is built for (`golden.machine.command.DATAFLOWS`).

    Members
    -------
    load_i, multiply_i, accumulate_i, emit_i : In(stream of `queued_operation`)
        Operations in the order of each engine.
    load, multiply, accumulate, emit : Out(stream of `operation`)
        To the engines.
    begun, taken : Out(4)
        Events: operations that are offered from the next clock on; that are done.
    under_way : Out(4)
        Engines that have an operation offered.
    standings : Out(array of `standing`)
        Where the engines stand.
    """

    def __init__(self, dataflows: tuple[str, ...] = CLOSED_LOOP):
        self._dataflows = dataflows
        super().__init__(
            {
                **{f"{engine}_i": In(stream.Signature(queued_operation(engine, dataflows))) for engine in ENGINES},
                **{engine: Out(stream.Signature(operation(engine, dataflows))) for engine in ENGINES},
                "begun": Out(len(ENGINES)),
                "taken": Out(len(ENGINES)),
                "under_way": Out(len(ENGINES)),
                "standings": Out(data.ArrayLayout(standing(), len(ENGINES))),
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        others = {engine: [other for other in ENGINES if other != engine] for engine in ENGINES}
        tokens = {
            (source, engine): Signal(8, name=f"{source}_to_{engine}") for engine in ENGINES for source in others[engine]
        }
        pushing = {engine: Signal(len(ENGINES), name=f"{engine}_pushes") for engine in ENGINES}
        for number, engine in enumerate(ENGINES):
            i, o = getattr(self, f"{engine}_i"), getattr(self, engine)
            held = Signal(queued_operation(engine, self._dataflows), name=f"{engine}_held")
            full = Signal(name=f"{engine}_full")
            missing = Signal(len(ENGINES), name=f"{engine}_missing")
            begins = self.begun[number]
            taken = self.taken[number]
            for other in others[engine]:
                source = ENGINES.index(other)
                m.d.comb += missing[source].eq(held.pop[source] & (tokens[other, engine] == 0))
            m.d.comb += [
                # Tokens that are still to be pushed come first, so that there is one set of them an engine.
                begins.eq(full & ~o.valid & ~missing.any() & ~pushing[engine].any()),
                taken.eq(o.valid & o.ready),
                # Not in the clock in which one is taken: what an engine waits for is not to reach all that is held.
                i.ready.eq(~full),
                o.payload.eq(held.operation),
            ]
            with m.If(i.valid & i.ready):
                m.d.sync += [full.eq(1), held.eq(i.payload)]
            with m.If(taken):
                m.d.sync += full.eq(0)
            with m.If(begins):
                m.d.sync += o.valid.eq(1)
            with m.Elif(o.ready):
                m.d.sync += o.valid.eq(0)
            with m.If(taken):
                m.d.sync += pushing[engine].eq(held.push)
            standing_here = self.standings[number]
            m.d.comb += [
                self.under_way[number].eq(o.valid),
                standing_here.tag.eq(held.tag),
                standing_here.position.eq(held.position),
            ]
            with m.If(full):
                m.d.comb += standing_here.opcode.eq(held.operation.opcode)
                with m.If(~o.valid):
                    m.d.comb += standing_here.waiting.eq(missing)

            for other in others[engine]:
                source = ENGINES.index(other)
                count = tokens[other, engine]
                comes = Signal(name=f"{other}_pushes_{engine}")
                m.d.comb += [
                    comes.eq(pushing[other][number] & (count != TOKENS_MAX)),
                    standing_here.tokens[source].eq(count),
                ]
                m.d.sync += count.eq(count + comes - (begins & held.pop[source]))
                with m.If(comes):
                    m.d.sync += pushing[other][number].eq(0)
        return m
