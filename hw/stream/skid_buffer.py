"""A register between two streams that also cuts the path of `ready`."""

from amaranth.hdl import Module, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


class SkidBuffer(wiring.Component):
    """Two places for payloads: the output register, and a spare that catches what arrives while the output waits.

    Every output is a register, so no combinational path crosses the buffer in either direction. A chain of `Pipeline`
    stages has one long path from the last ``ready`` to the first; a skid buffer between them cuts it.

    Latency: 1 clock. Throughput: one payload per clock.

    Parameters
    ----------
    payload_shape : ShapeLike
        Shape of the payload.

    Members
    -------
    i : In(stream)
        Input.
    o : Out(stream)
        Output.
    """

    latency = 1

    def __init__(self, payload_shape: ShapeLike):
        super().__init__({"i": In(stream.Signature(payload_shape)), "o": Out(stream.Signature(payload_shape))})

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        # The spare holds a payload only while the output register does too, so order is kept.
        spare = Signal.like(self.i.payload, name="spare")
        empty = Signal(init=1, name="spare_empty")
        m.d.comb += self.i.ready.eq(empty)
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [
                self.o.valid.eq(self.i.valid | ~empty),
                empty.eq(1),
            ]
            with m.If(empty):
                m.d.sync += self.o.payload.eq(self.i.payload)
            with m.Else():
                m.d.sync += self.o.payload.eq(spare)
        with m.Elif(self.i.valid & empty):
            m.d.sync += [spare.eq(self.i.payload), empty.eq(0)]
        return m
