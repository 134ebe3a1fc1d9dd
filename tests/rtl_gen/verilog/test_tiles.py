# amaranth: UnusedElaboratable=no
"""Tiles are written once, and what is written is the circuit that Amaranth describes tile by tile."""

import dataclasses
import time

import pytest
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.parameters import preset
from hw.core.array import MultiplierArray
from hw.tiles import Tile
from rtl_gen.proof import prove_same
from rtl_gen.tools import ToolError
from rtl_gen.verilog.emission import emit


class Inner(Tile):
    """Counts, and adds what it counted to one of its inputs, whose name a signal has too; it leaves `spare` alone."""

    def __init__(self, parameters):
        self.elaborated = 0
        super().__init__(
            parameters,
            {
                "pair": In(data.ArrayLayout(3, 2)),
                "on": In(1),
                "spare": In(2),
                "nothing": In(0),
                "both": Out(data.StructLayout({"sum": 4, "odd": 1})),
                "count": Out(3),
            },
        )

    def describe(self, platform):
        m = Module()
        pair = Signal(3, name="pair")
        with m.If(self.on):
            m.d.sync += self.count.eq(self.count + pair)
        m.d.comb += [
            pair.eq(self.pair[1]),
            self.both.sum.eq(self.pair[0] + self.count),
            self.both.odd.eq(self.count[0] ^ self.pair[0][2]),
        ]
        return m


class Outer(Tile):
    """Two inner tiles in a row, the second always on."""

    def __init__(self, parameters):
        super().__init__(parameters, {"i": In(6), "on": In(1), "o": Out(5)})

    def describe(self, platform):
        m = Module()
        m.submodules.first = first = Inner(self.parameters)
        m.submodules.second = second = Inner(self.parameters)
        second.give(pair=Cat(first.both.sum[1:3], first.count, self.on), on=1)
        m.d.comb += [
            first.pair.eq(self.i),
            first.on.eq(self.on),
            first.spare.eq(self.i[2:4]),
            self.o.eq(Cat(second.both.odd, second.both.sum)),
        ]
        return m


class Design(wiring.Component):
    """Three outer tiles, one of which sees constants, and an inner one beside them."""

    i: In(6)
    o: Out(5)
    p: Out(5)
    q: Out(4)

    def __init__(self):
        self.parameters = preset("tiny")
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = inner = Inner(self.parameters)
        outer = [Outer(self.parameters) for _ in range(3)]
        m.submodules += outer
        m.d.comb += [
            inner.pair.eq(self.i),
            inner.on.eq(self.i[5]),
            outer[0].i.eq(self.i),
            outer[0].on.eq(self.i[0]),
            outer[1].i.eq(0b101101),
            outer[1].on.eq(outer[0].o[4]),
            outer[2].i.eq(Cat(outer[0].o, outer[1].o[2])),
            outer[2].on.eq(0),
            self.o.eq(outer[2].o),
            self.p.eq(Cat(outer[0].o[:3], inner.both.sum)),
            self.q.eq(inner.count),
        ]
        return m


@pytest.fixture(scope="module")
def emitted():
    """The text, with the names of the registers alone: other signals have other names where each tile is described."""
    found = emit(Design(), name="tiled")
    registers = tuple(pair for pair in found.signals if pair[1].endswith(".count"))
    return dataclasses.replace(found, signals=registers)


@pytest.mark.unit
def test_a_tile_is_written_once(emitted):
    assert len(emitted.modules) == 3
    assert emitted.text.count("\nmodule ") == 3


@pytest.mark.unit
@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"count": 0}, "what is given to Inner must be one of its inputs, not count"),
        ({"other": 0}, "what is given to Inner must be one of its inputs, not other"),
        ({"pair": Cat(1, 0)}, "pair of Inner must have 6 bits, not 2"),
    ],
)
def test_only_inputs_are_given_and_as_wide_as_they_are(given, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        Inner(preset("tiny")).give(**given)


@pytest.mark.formal
def test_text_is_the_circuit_that_amaranth_describes(emitted):
    prove_same(Design(), emitted)


@pytest.mark.formal
def test_the_proof_notices_a_tile_in_the_wrong_place(emitted):
    wrong = emitted.text.replace(".on_value(1'b1)", ".on_value(1'b0)")
    assert wrong != emitted.text
    with pytest.raises(ToolError):
        prove_same(Design(), dataclasses.replace(emitted, text=wrong))


@pytest.mark.unit
def test_a_large_array_takes_what_its_kinds_of_tiles_take():
    sizes = {}
    for side in (4, 16):
        p = dataclasses.replace(preset("edge"), rows=side, columns=side)
        start = time.process_time()
        sizes[side] = len(emit(MultiplierArray(p), name="multiplier_array").text)
        assert time.process_time() - start < 30
    assert sizes[16] < 3 * sizes[4]
