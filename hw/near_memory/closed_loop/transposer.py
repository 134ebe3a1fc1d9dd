"""Blocks of n vectors transposed, u elements a clock."""

from amaranth.hdl import Cat, Module, Mux, Shape, ShapeLike, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw.arith.bits import choose, looked_up, multiply_constant, named
from hw.memory import Ram
from hw.stream import Stage

__all__ = ["Transposer", "block_part"]


def block_part(parameters: Parameters, shape: ShapeLike) -> data.StructLayout:
    """`near_lanes` elements of a vector; `last` ends the vector, `end` the last vector of a row."""
    return data.StructLayout({"values": data.ArrayLayout(shape, parameters.near_lanes), "last": 1, "end": 1})


class Transposer(wiring.Component):
    """Takes the vectors of a row in blocks of n, and puts out each block's columns as vectors.

    ::

        vector v, lane l  -->  memory (v + l) mod u  -->  vector l, lane v

    Along that diagonal neither a part of a vector nor a part of a column needs a memory twice. The last block of a row
    is filled up with zeros. One block is written while the one before it is read.

    Latency: a block, and 3 clocks. Throughput: u elements per clock.

    Parameters
    ----------
    parameters : Parameters
        Uses ``lanes`` and ``near_lanes``, which divides them.
    shape : ShapeLike
        Of an element; zeros are all bits 0.

    Members
    -------
    kept : In
        Vectors of a block that are put out, 1 to n: those of the first lanes. It changes between rows only, and when
        nothing is under way.
    i : In(stream of `block_part`)
        Vectors.
    o : Out(stream of `block_part`)
        Their columns; `end` is with the last one of a row.
    """

    def __init__(self, parameters: Parameters, shape: ShapeLike):
        self._parameters, self._shape = parameters, shape
        part = block_part(parameters, shape)
        super().__init__(
            {
                "kept": In(range(parameters.lanes + 1)),
                "i": In(stream.Signature(part)),
                "o": Out(stream.Signature(part)),
            }
        )

    @property
    def parameters(self) -> Parameters:
        """The machine's parameters."""
        return self._parameters

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        p, m = self._parameters, Module()
        n, u = p.lanes, p.near_lanes
        width = Shape.cast(self._shape).width
        size = n * n // u
        half_depth = 1 << (size - 1).bit_length()
        rams = []
        for bank in range(u):
            m.submodules[f"bank{bank}"] = ram = Ram(width, half_depth + size)
            rams.append(ram)
        full = [Signal(name=f"full{half}") for half in range(2)]
        counts = [Signal(range(n), name=f"count{half}") for half in range(2)]
        ends = [Signal(name=f"end{half}") for half in range(2)]

        # Written as they come.
        half, vector, turn = Signal(name="write_half"), Signal(range(n), name="vector"), Signal(range(u), name="turn")
        address = Signal(range(size), name="write_address")
        takes = named(m, "takes", self.i.valid & self.i.ready)
        closes = named(m, "closes", self.i.p.last & (self.i.p.end | (vector == n - 1)))
        values = [Value.cast(value) for value in self.i.p.values]
        m.d.comb += self.i.ready.eq(~Mux(half, full[1], full[0]))
        for bank, ram in enumerate(rams):
            m.d.comb += [
                ram.write_enable.eq(takes),
                ram.write_address.eq(Cat(address, half)),
                ram.write_data.eq(choose(m, f"to{bank}_", turn, [values[(bank - shift) % u] for shift in range(u)])),
            ]
        with m.If(takes):
            m.d.sync += address.eq(Mux(closes, 0, address + 1))
            with m.If(self.i.p.last):
                m.d.sync += [vector.eq(vector + 1), turn.eq(Mux(turn == u - 1, 0, turn + 1))]
            with m.If(closes):
                m.d.sync += [vector.eq(0), turn.eq(0), half.eq(~half)]
        self._read(m, rams, full, counts, ends)
        for number in range(2):
            with m.If(takes & closes & (half == number)):
                m.d.sync += [full[number].eq(1), counts[number].eq(vector), ends[number].eq(self.i.p.end)]
        return m

    def _read(self, m: Module, rams: list, full: list, counts: list, ends: list) -> None:
        p = self._parameters
        n, u = p.lanes, p.near_lanes
        size = n * n // u
        half, lane, block = Signal(name="read_half"), Signal(range(n), name="lane"), Signal(range(n // u), name="block")
        # The lane as a multiple of u and the rest, and the first vector of the block of columns times n / u.
        word, turn, first = (
            Signal(range(n // u), name="word"),
            Signal(range(u), name="read_turn"),
            Signal(range(size), name="first"),
        )
        reading = stream.Signature(data.StructLayout({"last": 1, "end": 1})).create(path=("reading",))
        ends_vector = named(m, "ends_vector", block == n // u - 1)
        ends_block = named(m, "ends_block", ends_vector & (lane + 1 == self.kept))
        m.d.comb += [
            reading.valid.eq(Mux(half, full[1], full[0])),
            reading.p.last.eq(ends_vector),
            reading.p.end.eq(ends_block & Mux(half, ends[1], ends[0])),
        ]
        s = Stage.begin(m, reading)
        count = Mux(half, counts[1], counts[0])
        s.turn, s.last, s.ends = turn, reading.p.last, reading.p.end
        s.present = [multiply_constant(block, u) + place <= count for place in range(u)]
        base = named(m, "base", first + word)
        for bank, ram in enumerate(rams):
            place = [(bank - shift) % u * (n // u) for shift in range(u)]
            row = named(m, f"row{bank}", (base + looked_up(m, f"step{bank}", turn, place))[: (size - 1).bit_length()])
            m.d.comb += [ram.read_enable.eq(s.moves), ram.read_address.eq(Cat(row, half))]
        with m.If(s.moves):
            m.d.sync += [block.eq(block + 1), first.eq(first + n)]
            with m.If(ends_vector):
                wraps = turn == u - 1
                m.d.sync += [block.eq(0), first.eq(0), lane.eq(lane + 1)]
                m.d.sync += [turn.eq(Mux(wraps, 0, turn + 1)), word.eq(word + wraps)]
            with m.If(ends_block):
                m.d.sync += [lane.eq(0), turn.eq(0), word.eq(0), half.eq(~half)]
        for number in range(2):
            with m.If(s.moves & ends_block & (half == number)):
                m.d.sync += full[number].eq(0)

        s = s.cut()
        held = [ram.read_data for ram in rams]
        s.values = [
            choose(m, f"from{place}_", s.turn, [held[(place + shift) % u] for shift in range(u)])
            & s.present[place].replicate(len(held[0]))
            for place in range(u)
        ]
        s = s.cut()
        s.finish(self.o, Cat(*s.values, s.last, s.ends), depth=s.cuts)
