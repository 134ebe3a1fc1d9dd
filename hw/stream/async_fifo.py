"""A first-in first-out queue between two clocks."""

from amaranth.hdl import Cat, Module, ShapeLike, Signal, Value
from amaranth.lib import cdc, memory, stream, wiring
from amaranth.lib.wiring import In, Out


class AsyncFifo(wiring.Component):
    """A queue that is filled in one clock domain and emptied in another, of any two frequencies.

    Each side counts in a Gray code, of which one bit changes at a time, and sees the other side's count two of its own
    clocks late (C. E. Cummings, Simulation and Synthesis Techniques for Asynchronous FIFO Design, SNUG 2002, style 2).
    Both sides are reset together, or neither is.

    Latency: a clock of the input, and 2 to 3 of the output. Throughput: a payload in each clock of the slower side.

    Parameters
    ----------
    payload_shape : ShapeLike
        Shape of the payload.
    depth : int
        Payloads it holds, a power of two; at least 8 for full throughput.
    i_domain, o_domain : str
        Clock domains of the input and of the output.

    Members
    -------
    i : In(stream)
        Input.
    o : Out(stream)
        Output.

    Raises
    ------
    TypeError
        If `depth` is no integer.
    ValueError
        If `depth` is no power of two, or below 2.
    """

    def __init__(self, payload_shape: ShapeLike, depth: int, *, i_domain: str, o_domain: str):
        if not isinstance(depth, int):
            raise TypeError(f"Depth of a queue must be an integer, not {depth!r}")
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"Depth of a queue must be a power of two, at least 2, not {depth}")
        self._payload_shape, self._depth = payload_shape, depth
        self._i_domain, self._o_domain = i_domain, o_domain
        super().__init__({"i": In(stream.Signature(payload_shape)), "o": Out(stream.Signature(payload_shape))})

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        m.submodules.rows = rows = memory.Memory(
            shape=self._payload_shape, depth=self._depth, init=[], attrs={"no_rw_check": 1}
        )
        write, read = rows.write_port(domain=self._i_domain), rows.read_port(domain=self._o_domain)

        # Counts, modulo twice the depth, and their Gray codes on either side.
        counts = range(2 * self._depth)
        written = Signal(counts)
        next_written = Signal(counts)
        written_code = Signal(counts)
        seen_written = Signal(counts)
        taken = Signal(counts)
        next_taken = Signal(counts)
        taken_code = Signal(counts)
        seen_taken = Signal(counts)
        m.submodules.to_output = cdc.FFSynchronizer(written_code, seen_written, o_domain=self._o_domain)
        m.submodules.to_input = cdc.FFSynchronizer(taken_code, seen_taken, o_domain=self._i_domain)

        # The codes of two counts that are `depth` apart differ in their two highest bits, and in no other.
        apart = 3 << len(written) - 2
        m.d.comb += [
            self.i.ready.eq(written_code != seen_taken ^ apart),
            next_written.eq(written + (self.i.valid & self.i.ready)),
            write.en.eq(self.i.valid & self.i.ready),
            write.addr.eq(written[:-1]),
            write.data.eq(self.i.payload),
            self.o.valid.eq(taken_code != seen_written),
            next_taken.eq(taken + (self.o.valid & self.o.ready)),
            read.addr.eq(next_taken[:-1]),
            self.o.payload.eq(read.data),
        ]
        m.d[self._i_domain] += [written.eq(next_written), written_code.eq(_gray(next_written))]
        m.d[self._o_domain] += [taken.eq(next_taken), taken_code.eq(_gray(next_taken))]
        return m


def _gray(count: Value) -> Value:
    return count ^ Cat(count[1:])
