"""One port for several parts that never run together."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Module, Mux, Value
from amaranth.lib.wiring import Out

from hw.arith.bits import or_tree


def share(m: Module, port: Any, parts: Sequence[tuple[Value, Any]]) -> None:
    """Give a port to whichever part is chosen.

    A part that has asked for something stays chosen until it has it, or until what it wrote has arrived.

    Parameters
    ----------
    m : Module
        Module that the parts stand in.
    port : interface
        What the parts' ports are joined to: a port of the same signature, as seen inside the component, or a component
        that has the other side of it.
    parts : sequence of (Value, interface)
        Whether a part is chosen, at most one; and its port, whose members are streams, and inputs that all parts see.
        The last one is taken to be where none is.
    """
    for name, member in parts[0][1].signature.members.items():
        joined, ends = getattr(port, name), [(chosen, getattr(part, name)) for chosen, part in parts]
        if member.is_port:
            m.d.comb += [end.eq(joined) for _, end in ends]
        elif member.flow == Out:
            payload = ends[-1][1].payload
            for chosen, end in ends[:-1]:
                payload = Mux(chosen, end.payload, payload)
            m.d.comb += [
                joined.payload.eq(payload),
                joined.valid.eq(or_tree(end.valid & chosen for chosen, end in ends)),
                *(end.ready.eq(joined.ready & chosen) for chosen, end in ends),
            ]
        else:
            m.d.comb += [
                joined.ready.eq(or_tree(end.ready & chosen for chosen, end in ends)),
                *(end.payload.eq(joined.payload) for _, end in ends),
                *(end.valid.eq(joined.valid & chosen) for chosen, end in ends),
            ]
