"""One port to memory for several parts that never run together."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Module, Mux, Value

from hw.arith.bits import or_tree

__all__ = ["share"]


def share(m: Module, port: Any, parts: Sequence[tuple[Value, Any]]) -> None:
    """Give a port to whichever part is chosen.

    A part that has asked for words stays chosen until it has them, or until what it wrote has arrived.

    Parameters
    ----------
    m : Module
        Module that the parts stand in.
    port : interface of `hw.bus.ports.MemoryRead` or `MemoryWrite`
        The port, as seen inside the component.
    parts : sequence of (Value, interface)
        Whether a part is chosen, at most one; and its port. The last one is taken to be where none is.
    """
    writes = hasattr(port, "idle")
    streams = ("request", "data") if writes else ("request",)
    for name in streams:
        payload = getattr(parts[-1][1], name).payload
        for chosen, part in parts[:-1]:
            payload = Mux(chosen, getattr(part, name).payload, payload)
        m.d.comb += getattr(port, name).payload.eq(payload)
        m.d.comb += getattr(port, name).valid.eq(or_tree(getattr(part, name).valid & chosen for chosen, part in parts))
        m.d.comb += [getattr(part, name).ready.eq(getattr(port, name).ready & chosen) for chosen, part in parts]
    for chosen, part in parts:
        if writes:
            m.d.comb += part.idle.eq(port.idle)
        else:
            m.d.comb += [part.data.payload.eq(port.data.payload), part.data.valid.eq(port.data.valid & chosen)]
    if not writes:
        m.d.comb += port.data.ready.eq(or_tree(part.data.ready & chosen for chosen, part in parts))
