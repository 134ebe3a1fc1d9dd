"""A first-in first-out queue between two streams, deep enough to need a memory."""

from amaranth.hdl import Module, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.memory import Ram


class Fifo(wiring.Component):
    """A queue in a `Ram`, whose read register is its output.

    Latency: 2 clocks when empty. Throughput: one payload per clock.

    Parameters
    ----------
    payload_shape : ShapeLike
        Shape of the payload.
    depth : int
        Rows of the memory, a power of two. The output holds one payload more.

    Members
    -------
    i : In(stream)
        Input; ready while the memory has a free row.
    o : Out(stream)
        Output.

    Raises
    ------
    TypeError
        If `depth` is no integer.
    ValueError
        If `depth` is no power of two, or below 2.
    """

    latency = 2

    def __init__(self, payload_shape: ShapeLike, depth: int):
        if not isinstance(depth, int):
            raise TypeError(f"Depth of a queue must be an integer, not {depth!r}")
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"Depth of a queue must be a power of two, at least 2, not {depth}")
        self._depth = depth
        self._payload_shape = payload_shape
        super().__init__({"i": In(stream.Signature(payload_shape)), "o": Out(stream.Signature(payload_shape))})

    @property
    def depth(self) -> int:
        """Rows of the memory."""
        return self._depth

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        m.submodules.ram = ram = Ram(self._payload_shape, self._depth)
        written = Signal(range(self._depth))
        read = Signal(range(self._depth))
        # Kept in a register so that neither side waits for a subtraction.
        level = Signal(range(self._depth + 1))
        # One a line: how Amaranth names what stands in one assignment depends on the version of Python.
        put = Signal()
        get = Signal()
        m.d.comb += [
            self.i.ready.eq(level != self._depth),
            put.eq(self.i.valid & self.i.ready),
            get.eq((level != 0) & (~self.o.valid | self.o.ready)),
            ram.write_enable.eq(put),
            ram.write_address.eq(written),
            ram.write_data.eq(self.i.payload),
            ram.read_enable.eq(get),
            ram.read_address.eq(read),
            self.o.payload.eq(ram.read_data),
        ]
        m.d.sync += level.eq(level + put - get)
        with m.If(put):
            m.d.sync += written.eq(written + 1)
        with m.If(get):
            m.d.sync += [read.eq(read + 1), self.o.valid.eq(1)]
        with m.Elif(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        return m
