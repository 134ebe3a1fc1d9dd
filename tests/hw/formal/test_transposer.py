"""Blocks are transposed: lane l of vector v becomes element v of column l, none lost, whoever stalls, however they end.

The part never looks at what it moves. So each element is its own number here, and where it comes out is told by
additions alone.
"""

import pytest
from amaranth.hdl import Array, Assert, Assume, Const, Module, Mux, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from golden.parameters import preset
from hw.near_memory.closed_loop.transposer import Transposer
from rtl_gen.proof import prove

pytestmark = pytest.mark.formal

LANES = 4
WIDTH = 7
"""Bits of an element's number."""

CAPACITIES = {None: range(LANES, LANES + 1), 6: range(1, 7)}
"""Vectors that there is room for, and those of a block that are tried."""

CLOCKS = {2: {False: 26, True: 16}, 4: {False: 16, True: 12}}
"""Of the runs that are looked at, without and with stalls, by elements a clock.

Without stalls two whole blocks come, and leave, and a third one begins.
"""


class Blocks(wiring.Component):
    """Block after block of one size, columns of which a number are kept; rows end where they like."""

    def __init__(self, capacity, u, *, stalls=False, fault=False):
        self.capacity, self.blocks, self.u = capacity, CAPACITIES[capacity], u
        self.stalls, self.fault = stalls, fault
        members = {"block": In(range(self.blocks.stop)), "kept": In(range(LANES + 1))}
        super().__init__(members | {name: In(1) for name in ("end", "valid", "ready")})

    def elaborate(self, platform):
        m = Module()
        # Blocks of one part a vector go through in fewer clocks than there are stages: more of them are under way.
        u, parts, bits = self.u, LANES // self.u, 2 if self.u < LANES else 3
        p = preset("tiny").with_settings([f"lanes={LANES}", f"near_lanes={u}"])
        m.submodules.dut = dut = Transposer(p, unsigned(WIDTH), self.capacity)
        started, block, kept = Signal(), Signal.like(self.block, name="block_now"), Signal.like(self.kept, name="now")
        with m.If(~started):
            m.d.sync += [started.eq(1), block.eq(self.block), kept.eq(self.kept)]
        m.d.comb += [
            Assume((self.block >= self.blocks.start) & (self.block < self.blocks.stop)),
            Assume((self.kept != 0) & (self.kept <= LANES)),
            dut.block.eq(block),
            dut.kept.eq(kept),
            dut.i.valid.eq((self.valid | ~Const(self.stalls)) & started),
            dut.o.ready.eq(self.ready | ~Const(self.stalls)),
        ]
        # Elements that came, those of the block under way, blocks that came and left, and what is known of them.
        came, vector, part, number, out = Signal(WIDTH), Signal(3), Signal(range(parts)), Signal(4), Signal(4)
        blocks = [Array(Signal(width, name=f"{name}{at}") for at in range(1 << bits)) for name, width in _KNOWN.items()]
        bases, counts, ends = blocks
        came_at, out_at = number[:bits], out[:bits]
        last = part == parts - 1
        comes = dut.i.valid & dut.i.ready
        for lane, value in enumerate(dut.i.p["values"]):
            m.d.comb += value.eq(came + lane)
        m.d.comb += [dut.i.p.last.eq(last), dut.i.p.end.eq(last & self.end)]
        closes = last & (self.end | (vector + 1 == block))
        with m.If(comes):
            m.d.sync += [came.eq(came + u), part.eq(Mux(last, 0, part + 1)), vector.eq(Mux(closes, 0, vector + last))]
            with m.If((vector == 0) & (part == 0)):
                m.d.sync += bases[came_at].eq(came)
            with m.If(closes):
                m.d.sync += [number.eq(number + 1), counts[came_at].eq(vector + 1), ends[came_at].eq(self.end)]
        # The column that comes out, and the element of it.
        column, element = Signal(2), Signal(4)
        base, count = bases[out_at], counts[out_at]
        ends_vector = (element & (LANES - 1)) == LANES - u
        ends_column = ends_vector & (element + u >= count)
        ends_block = ends_column & (column + 1 == kept)
        with m.If(dut.o.valid):
            m.d.comb += [
                Assert(out != number),
                Assert(dut.o.p.last == ends_vector),
                Assert(dut.o.p.end == (ends_block & ends[out_at])),
            ]
            for place, value in enumerate(dut.o.p["values"]):
                expected = (base + ((element + place) << 2) + column + self.fault * (element == 2))[:WIDTH]
                m.d.comb += Assert(value == Mux(element + place < count, expected, 0))
        with m.If(dut.o.valid & dut.o.ready):
            m.d.sync += element.eq(Mux(ends_column, 0, element + u))
            with m.If(ends_column):
                m.d.sync += column.eq(Mux(ends_block, 0, column + 1))
            with m.If(ends_block):
                m.d.sync += out.eq(out + 1)
        m.d.comb += [Assert(~dut.idle | (out == number)), Assert((number - out)[:4] <= 1 << bits)]
        # A block that is there comes.
        waits = Signal(4)
        m.d.sync += waits.eq(Mux((out != number) & ~dut.o.valid, waits + 1, 0))
        m.d.comb += Assert(waits <= 3)
        return m


_KNOWN = {"base": WIDTH, "count": 3, "end": 1}
"""What is known of a block: the number of its first element, its vectors, whether it ends a row."""


@pytest.mark.parametrize("stalls", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("capacity, u", [(None, 2), (6, 2), (None, 4)])
def test_every_element_goes_to_its_column(capacity, u, stalls):
    dut = Blocks(capacity, u, stalls=stalls)
    proof = prove(dut, "transposer", engine="unrolled", depth=CLOCKS[u][stalls], timeout=900)
    assert proof, proof.output


def test_an_element_of_another_vector_is_found(tmp_path):
    dut = Blocks(None, 2, fault=True)
    assert not prove(dut, "transposer_fault", engine="unrolled", depth=CLOCKS[2][False], timeout=600, folder=tmp_path)
