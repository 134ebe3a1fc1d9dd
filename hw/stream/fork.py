"""One stream to several: each takes a payload when it likes, the source goes on when all have."""

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import stream

from hw.arith.bits import named, or_tree


def fork(m: Module, name: str, i: stream.Interface, outputs: list[tuple[stream.Interface, Value]]) -> None:
    """Give every payload of `i` to each output that wants it.

    Payloads of the outputs are the caller's to drive. No latency.

    Parameters
    ----------
    m : Module
        Module to add to.
    name : str
        Starts the names of all signals.
    i : stream interface
        Source, as seen inside the component.
    outputs : list of (stream interface, Value)
        Streams as seen inside, and whether each wants this payload; what none wants is dropped.
    """
    waits = []
    for index, (o, wanted) in enumerate(outputs):
        # Taken already, while another one is not.
        taken = Signal(name=f"{name}_taken{index}")
        m.d.comb += o.valid.eq(i.valid & wanted & ~taken)
        m.d.sync += taken.eq(i.valid & ~i.ready & (taken | (o.valid & o.ready)))
        waits.append(named(m, f"{name}_waits{index}", wanted & ~taken & ~o.ready))
    m.d.comb += i.ready.eq(~or_tree(waits))
