"""A bus whose master and slave have clocks of their own."""

from typing import Any

from amaranth.hdl import Cat, Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.stream.async_fifo import AsyncFifo

_CHANNELS = ("aw", "w", "b", "ar", "r")


class Crossing(wiring.Component):
    """The five channels of AXI4 or AXI4-Lite, each through a queue between two clocks (Gray-coded counts).

    Both sides are to be reset together, when nothing is outstanding.

    Latency: about 4 clocks of the side that takes. Throughput: a payload a clock of the slower side.

    Parameters
    ----------
    bus : AXI4 or AXI4Lite
        The bus, as its master sees it.
    depth : int
        Payloads of each queue, a power of two, at least 8 for full throughput.
    master, slave : str
        Clock domains.

    Members
    -------
    i : In(bus)
        From the master, in its domain.
    o : Out(bus)
        To the slave, in its domain.

    Raises
    ------
    TypeError, ValueError
        If `depth` is no power of two, or below 2.
    """

    def __init__(self, bus: wiring.Signature, *, depth: int = 16, master: str = "sync", slave: str = "bus"):
        self._depth, self._master, self._slave = depth, master, slave
        super().__init__({"i": In(bus), "o": Out(bus)})

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        for prefix in _CHANNELS:
            forth = self.o.signature.members[f"{prefix}valid"].flow == Out
            source, target = (self.i, self.o) if forth else (self.o, self.i)
            domains = (self._master, self._slave) if forth else (self._slave, self._master)
            came, goes = _payload(source, prefix), _payload(target, prefix)
            m.submodules[prefix] = queue = AsyncFifo(len(came), self._depth, i_domain=domains[0], o_domain=domains[1])
            m.d.comb += [
                queue.i.payload.eq(came),
                queue.i.valid.eq(getattr(source, f"{prefix}valid")),
                getattr(source, f"{prefix}ready").eq(queue.i.ready),
                goes.eq(queue.o.payload),
                getattr(target, f"{prefix}valid").eq(queue.o.valid),
                queue.o.ready.eq(getattr(target, f"{prefix}ready")),
            ]
        return m


def _payload(bus: Any, prefix: str) -> Value:
    """Everything that a channel carries beside its handshake."""
    names = [name for name in bus.signature.members if name.startswith(prefix)]
    return Cat(getattr(bus, name) for name in names if not name.endswith(("valid", "ready")))
