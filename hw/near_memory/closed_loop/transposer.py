"""Blocks of vectors transposed, u elements a clock."""

from amaranth.hdl import Cat, Module, Mux, Shape, ShapeLike, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw.arith.bits import choose, looked_up, multiply_constant, named
from hw.memory import Ram
from hw.stream import Stage


def block_part(parameters: Parameters, shape: ShapeLike) -> data.StructLayout:
    """`near_lanes` elements of a vector; `last` ends the vector, `end` the last vector of a row."""
    return data.StructLayout({"values": data.ArrayLayout(shape, parameters.near_lanes), "last": 1, "end": 1})


class Transposer(wiring.Component):
    """Takes the vectors of a row in blocks, and puts out each block's columns: those of its first lanes, as vectors.

    ::

        vector v, lane l  -->  memory (v + l) mod u  -->  column l, element v

    Along that diagonal neither a part of a vector nor a part of a column needs a memory twice. A column is filled up
    with zeros to whole vectors. A block is written while the one before it is read, if there is room for both.

    Latency: a block, and 3 clocks. Throughput: u elements per clock.

    Parameters
    ----------
    parameters : Parameters
        Uses ``lanes`` and ``near_lanes``, which divides them.
    shape : ShapeLike
        Of an element; zeros are all bits 0.
    capacity : int, optional
        Vectors that there is room for; without it, those of two blocks of n. Of an even number, and a power of two of
        rows, two blocks of half as many fit.

    Members
    -------
    block : In
        Vectors of a block, at least 1; n where nothing is connected. It changes only when all is `idle`.
    kept : In
        Columns of a block that are put out, 1 to n; read with the block's last part.
    i : In(stream of `block_part`)
        Vectors; `end` ends a block before it is full.
    o : Out(stream of `block_part`)
        Their columns; `end` is with the last one of a row.
    idle : Out(1)
        All that came has left, but for what is not yet a block.
    """

    def __init__(self, parameters: Parameters, shape: ShapeLike, capacity: int | None = None):
        self._parameters, self._shape = parameters, shape
        n, u = parameters.lanes, parameters.near_lanes
        size = (n if capacity is None else capacity) * n // u
        # The second block begins at a power of two, so that no address is added to another.
        if capacity is None:
            self._second = 1 << (size - 1).bit_length()
            self._rows = self._second + size
        else:
            self._second = 1 << (size - 1).bit_length() - 1
            self._rows = size
        self._most = n if capacity is None else capacity
        part = block_part(parameters, shape)
        super().__init__(
            {
                "block": In(range(self._most + 1), init=n),
                "kept": In(range(n + 1)),
                "i": In(stream.Signature(part)),
                "o": Out(stream.Signature(part)),
                "idle": Out(1),
            }
        )

    @property
    def parameters(self) -> Parameters:
        """The machine's parameters."""
        return self._parameters

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        p, m = self._parameters, Module()
        n, u = p.lanes, p.near_lanes
        rams = []
        for bank in range(u):
            m.submodules[f"bank{bank}"] = ram = Ram(Shape.cast(self._shape).width, self._rows)
            rams.append(ram)
        blocks = [_Block(number, self._most, n) for number in range(2)]
        double = named(m, "double", self.block <= (self._rows - self._second) * u // n)

        # Written as they come.
        half, vector, turn = Signal(name="write_half"), Signal(range(self._most)), Signal(range(u), name="turn")
        address = Signal(range(self._rows), name="write_address")
        takes = named(m, "takes", self.i.valid & self.i.ready)
        closes = named(m, "closes", self.i.p.last & (self.i.p.end | (vector == self.block - 1)))
        values = [Value.cast(value) for value in self.i.p.values]
        m.d.comb += self.i.ready.eq(~Mux(half, blocks[1].full, blocks[0].full))
        for bank, ram in enumerate(rams):
            m.d.comb += [
                ram.write_enable.eq(takes),
                ram.write_address.eq(self._in_half(address, half & double)),
                ram.write_data.eq(choose(m, f"to{bank}_", turn, [values[(bank - shift) % u] for shift in range(u)])),
            ]
        with m.If(takes):
            m.d.sync += address.eq(Mux(closes, 0, address + 1))
            with m.If(self.i.p.last):
                m.d.sync += [vector.eq(vector + 1), turn.eq(Mux(turn == u - 1, 0, turn + 1))]
            with m.If(closes):
                m.d.sync += [vector.eq(0), turn.eq(0), half.eq(half ^ double)]
        self._read(m, rams, blocks, double)
        for number, block in enumerate(blocks):
            with m.If(takes & closes & (half == number)):
                m.d.sync += [
                    block.full.eq(1),
                    block.last.eq(vector),
                    block.last_column.eq(self.kept - 1),
                    block.end.eq(self.i.p.end),
                ]
        return m

    def _in_half(self, address: Value, half: Value) -> Value:
        """An address of the first block as one of the block at hand."""
        return Cat(address[: self._second.bit_length() - 1], address[self._second.bit_length() - 1 :] | half)

    def _read(self, m: Module, rams: list[Ram], blocks: list["_Block"], double: Value) -> None:
        p = self._parameters
        n, u = p.lanes, p.near_lanes
        half, lane = Signal(name="read_half"), Signal(range(n), name="lane")
        # Parts of a column, those of them that are past whole vectors; the lane as a multiple of u and the rest.
        part, in_vector = Signal(range(-(-self._most // n) * n // u), name="part"), Signal(range(n // u))
        word, turn = Signal(range(n // u), name="word"), Signal(range(u), name="read_turn")
        reading = stream.Signature(data.StructLayout({"last": 1, "end": 1})).create(path=("reading",))
        last, last_column = (
            named(m, name, Mux(half, getattr(blocks[1], name), getattr(blocks[0], name)))
            for name in ("last", "last_column")
        )
        ends_vector = named(m, "ends_vector", in_vector == n // u - 1)
        ends_column = named(m, "ends_column", ends_vector & (multiply_constant(part + 1, u) > last))
        ends_block = named(m, "ends_block", ends_column & (lane == last_column))
        m.d.comb += [
            reading.valid.eq(Mux(half, blocks[1].full, blocks[0].full)),
            reading.p.last.eq(ends_vector),
            reading.p.end.eq(ends_block & Mux(half, blocks[1].end, blocks[0].end)),
        ]
        s = Stage.begin(m, reading)
        s.turn, s.last, s.ends = turn, reading.p.last, reading.p.end
        s.present = [multiply_constant(part, u) + place <= last for place in range(u)]
        base = named(m, "base", multiply_constant(part, n) + word)
        for bank, ram in enumerate(rams):
            place = [(bank - shift) % u * (n // u) for shift in range(u)]
            row = named(m, f"row{bank}", (base + looked_up(m, f"step{bank}", turn, place))[: len(ram.read_address)])
            m.d.comb += [ram.read_enable.eq(s.moves), ram.read_address.eq(self._in_half(row, half & double))]
        with m.If(s.moves):
            m.d.sync += [part.eq(part + 1), in_vector.eq(in_vector + 1)]
            with m.If(ends_vector):
                m.d.sync += in_vector.eq(0)
            with m.If(ends_column):
                wraps = turn == u - 1
                m.d.sync += [part.eq(0), lane.eq(lane + 1)]
                m.d.sync += [turn.eq(Mux(wraps, 0, turn + 1)), word.eq(word + wraps)]
            with m.If(ends_block):
                m.d.sync += [lane.eq(0), turn.eq(0), word.eq(0), half.eq(half ^ double)]
        for number, block in enumerate(blocks):
            with m.If(s.moves & ends_block & (half == number)):
                m.d.sync += block.full.eq(0)

        s = s.cut()
        held, under_way = [ram.read_data for ram in rams], s.valid
        s.values = [
            choose(m, f"from{place}_", s.turn, [held[(place + shift) % u] for shift in range(u)])
            & s.present[place].replicate(len(held[0]))
            for place in range(u)
        ]
        s = s.cut()
        m.d.comb += self.idle.eq(~(blocks[0].full | blocks[1].full | under_way | s.valid | self.o.valid))
        s.finish(self.o, Cat(*s.values, s.last, s.ends), depth=s.cuts)


class _Block:
    """What is known of a block that waits or is read.

    Members
    -------
    full : Signal
        It is there.
    last, last_column : Signal
        Numbers of its last vector, and of its last column.
    end : Signal
        Whether a row ends with it.
    """

    def __init__(self, number: int, most: int, lanes: int):
        self.full = Signal(name=f"full{number}")
        self.last = Signal(range(most), name=f"last{number}")
        self.last_column = Signal(range(lanes), name=f"last_column{number}")
        self.end = Signal(name=f"end{number}")
