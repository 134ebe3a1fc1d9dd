"""A word that waits, and its state."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw import payloads
from hw.near_memory import layouts


class Join(wiring.Component):
    """Pairs what waits with the state that was asked for when it was formed.

    Latency: none (combinational). Throughput: one word per clock.

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.
    waiting : StructLayout
        Payload of what waits; reads its state unless it has `refresh` (with a field `first`: if that is set).

    Members
    -------
    i : In(stream of `waiting`)
        What waits.
    read_data : In(stream of `payloads.memory_word`)
        The words asked for, in order.
    o : Out(stream of `layouts.joined`)
        Both.
    """

    latency = 0

    def __init__(self, parameters: Parameters, waiting: data.StructLayout):
        self._waiting = waiting
        super().__init__(
            {
                "i": In(stream.Signature(waiting)),
                "read_data": In(stream.Signature(payloads.memory_word(parameters))),
                "o": Out(stream.Signature(layouts.joined(parameters, waiting))),
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        i, o, fields = self.i, self.o, self._waiting.members
        reads, here = Signal(), Signal()
        m.d.comb += [
            reads.eq(~i.p.refresh & (i.p.first if "first" in fields else 1)),
            here.eq(~reads | self.read_data.valid),
            o.valid.eq(i.valid & here),
            i.ready.eq(o.ready & here),
            self.read_data.ready.eq(o.ready & i.valid & reads),
            o.p.state.eq(self.read_data.payload),
            *(o.p[name].eq(i.p[name]) for name in fields),
        ]
        return m
