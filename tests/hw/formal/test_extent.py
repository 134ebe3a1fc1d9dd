"""Y, Xhat and the spool of an emission lie where ``docs/machine.md``, Tensors and Emit, says, for fields of 16 bits.

Products are not computed: each is any number here, and what is multiplied is what the page names. That the multiplier
multiplies is shown by `tests/hw/arith/test_serial.py`. So the widths of fields cost a proof little.
"""

import pytest
from amaranth.hdl import Assert, Assume, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from golden.parameters import preset
from hw.arith.serial import Multiplier
from hw.near_memory.closed_loop import extent
from rtl_gen.proof import prove

pytestmark = pytest.mark.formal

N, SIZE = 4, 9
"""Lanes of the machine, and bytes of a vector."""

TURNS = 3
"""Segments of a row, and lines of a spool along positions, at most."""

PLACED, CLOCKS = 22, 42
"""In which Y is placed, and all is done, if the multiplier answers in the next clock."""

FIELDS = ("line", "lines", "width", "channels", "segment", "across")

PRODUCTS = {"begin": 32, "positions": 32, "first": 48, "count": 48, "vectors": 32, "held_first": 48, "held_count": 48}
"""Bits of each product whose factors are both unknown."""

LARGEST = (2**16 - 1) ** 3
"""No product of three fields is larger."""

KINDS = {
    "narrow": {"wide": False},
    "wide": {"wide": True},
    "scores": {"wide": True, "scores": True},
    "narrow along": {"wide": False, "along": True},
    "wide along": {"wide": True, "along": True},
    "scores along": {"wide": True, "scores": True, "along": True},
    "narrow, no attention": {"wide": False, "attends": False},
    "wide, no attention": {"wide": True, "attends": False},
}


class Told(Multiplier):
    """Stands for the multiplier: it is given `asked`, and says `answer` a clock later, when it `answers`."""

    def __init__(self):
        super().__init__(32, 16)
        self.asked = Signal(self.i.payload.shape())
        self.answer, self.answers = Signal.like(self.o.payload), Signal()

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [self.i.ready.eq(~self.answers), self.o.valid.eq(self.answers), self.o.payload.eq(self.answer)]
        with m.If(~self.answers):
            m.d.sync += [self.answers.eq(self.i.valid), self.asked.eq(self.i.payload)]
        with m.Elif(self.o.ready):
            m.d.sync += self.answers.eq(0)
        return m


def down(elements):
    """Vectors that so many elements fill."""
    return elements >> 2


def up(elements):
    """Vectors that so many elements need."""
    return (elements + (N - 1)) >> 2


def least(value, bits):
    """The number, or the largest one of so many bits."""
    most = (1 << bits) - 1
    return Mux(value < most, value, most)


class Emission(wiring.Component):
    """One emission is placed; if it comes `again`, after another one of other fields whose products are any numbers."""

    def __init__(self, monkeypatch, *, wide, scores=False, along=False, attends=True, again=False, fault=False):
        self.wide, self.scores, self.along, self.attends = wide, scores, along, attends
        self.again, self.fault = again, fault
        # The emission before has rows of one segment, in one line, along positions: it leaves a trace in all registers.
        self.begins = CLOCKS if again else 0
        self.product = Told()
        monkeypatch.setattr(extent, "Multiplier", lambda a, b_width: self.product)
        self.rigid = dict.fromkeys(FIELDS, 16) | {f"{name}_is": bits for name, bits in PRODUCTS.items()}
        if again:
            self.rigid |= {f"before_{name}": 16 for name in FIELDS}
        super().__init__({name: In(bits) for name, bits in (self.rigid | {"answer": 48}).items()})

    def elaborate(self, platform):
        m = Module()
        functions = [] if self.attends else ['functions=["tables"]']
        m.submodules.dut = self.dut = dut = extent.Extent(preset("tiny").with_settings(functions))
        self.clock, self.begun = Signal(8), Signal()
        begins, at_first = self.clock == self.begins, self.clock == 0
        m.d.sync += [self.clock.eq(self.clock + 1), self.begun.eq(self.begun | begins)]
        now = {}
        for name in self.rigid:
            given, kept = getattr(self, name), Signal(self.rigid[name], name=f"{name}_kept")
            now[name] = Signal.like(given, name=f"{name}_now")
            m.d.sync += kept.eq(now[name])
            m.d.comb += now[name].eq(Mux(at_first, given, kept))
        here = self.begun | begins
        for name in FIELDS:
            m.d.comb += getattr(dut, name).eq(Mux(here, now[name], now[f"before_{name}"]) if self.again else now[name])
        m.d.comb += [
            dut.start.eq(begins | at_first),
            dut.scores.eq(here & self.scores),
            dut.along.eq(Mux(here, self.along, 1)),
            # Fields that are 0 are refused before.
            Assume((now["lines"] != 0) & (now["width"] != 0) & (now["channels"] != 0)),
        ]
        if self.again:
            one_line = (now["before_channels"] == now["before_across"]) & (now["before_segment"] == 0)
            m.d.comb += Assume(one_line & (now["before_channels"] != 0) & (now["before_channels"] < N))
        if not self.scores:
            m.d.comb += Assume((now["channels"] >= N) == self.wide)
        self._check(m, now)
        return m

    def _check(self, m, now):
        dut, along = self.dut, self.along
        line, lines, width, channels, segment, across = (now[name] for name in FIELDS)
        begin, positions, first, count, vectors, held_first, held_count = (now[f"{name}_is"] for name in PRODUCTS)
        # No product of fields that are not 0 is 0, and none is too large.
        m.d.comb += Assume((positions != 0) & (first <= LARGEST) & (count <= LARGEST))
        of, row, length = Signal(16), Signal(16), Signal(16)
        m.d.comb += [
            of.eq(up(channels)),
            row.eq(least(positions, 16) if along else channels),
            length.eq(Mux(segment == 0, row, segment) if self.attends else row),
        ]
        # Whole segments of a row, and whole lines of the spool; 0 if it is no whole number.
        segments, turns = Signal(range(TURNS + 1)), Signal(range(TURNS + 1))
        for number in range(1, TURNS + 1):
            with m.If(row == number * length):
                m.d.comb += segments.eq(number)
            with m.If(channels == number * across):
                m.d.comb += turns.eq(number)
        groups, uneven = Signal(16), Signal()
        m.d.comb += [
            Assume(row <= TURNS * length),
            Assume((channels <= TURNS * across) | (across == 0)) if along else [],
            groups.eq(segments * up(length)),
            uneven.eq((segments == 0) | (along & (turns == 0))),
        ]
        self._answer(
            m,
            [
                (width, line, begin),
                (width, lines, positions),
                (begin, of if self.wide else channels, first),
                (positions, of if self.wide else channels, count),
                (None, SIZE, None),
                *([(of, SIZE, None)] if self.attends else []),
            ],
            [
                (across if along else width, groups, vectors),
                (begin, groups, held_first),
                (channels if along else positions, groups, held_count),
                (None, SIZE, None),
            ],
            uneven,
        )
        vector = first if self.wide else down(first)
        with m.If(self.begun & dut.placed):
            m.d.comb += [
                Assert(dut.wide == self.wide),
                Assert(dut.begin == begin),
                Assert(dut.positions == positions),
                Assert(dut.skip == (0 if self.wide else first[:2])),
                Assert(dut.of == of),
                Assert(dut.state.address == least((vector + self.fault) * SIZE, 35)),
                Assert(dut.state.records == least(count if self.wide else up(first + count) - vector, 24)),
            ]
            if self.attends:
                m.d.comb += Assert(dut.stride == of * SIZE)
        with m.If(self.begun & dut.done):
            m.d.comb += Assert(dut.placed)
            with m.If(~uneven):
                m.d.comb += [
                    Assert(dut.held.address == least(held_first * SIZE, 35)),
                    Assert(dut.held.records == least(held_count, 24)),
                    Assert(dut.sent.lines == (turns if along else lines)),
                    Assert(dut.sent.vectors == least(vectors, 24)),
                ]
            if self.attends:
                m.d.comb += [Assert(dut.row == row), Assert(dut.length == length), Assert(dut.uneven == uneven)]
                with m.If(~uneven):
                    m.d.comb += Assert(dut.apart == ((segments > 1) & (length[:2] != 0)))
        with m.If(self.clock == self.begins + PLACED - 1):
            m.d.comb += Assert(dut.placed)
        with m.If(self.clock == self.begins + CLOCKS - 1):
            m.d.comb += Assert(dut.done)
        if self.again:
            with m.If(self.clock == self.begins):
                m.d.comb += Assert(dut.done)

    def _answer(self, m, of_y, of_held, uneven):
        """Each product is asked for in its turn: two factors (None: any), and what it comes to (None: the product).

        What an uneven row comes to is of no account.
        """
        product, number = self.product, Signal(5)
        with m.If(self.begun & product.answers):
            m.d.sync += number.eq(number + 1)
        m.d.comb += product.answer.eq(self.answer)
        with m.If(self.begun):
            with m.Switch(number):
                for at, (a, b, answer) in enumerate(of_y + of_held):
                    with m.Case(at):
                        same = (product.asked.b == b) & (1 if a is None else product.asked.a == a)
                        wanted = product.answers & (~uneven if at >= len(of_y) else 1)
                        m.d.comb += [
                            Assert(~wanted | same),
                            product.answer.eq(product.asked.a * SIZE if answer is None else answer),
                        ]
                with m.Default():
                    m.d.comb += Assert(~product.answers)


def test_y_lies_where_the_page_says(monkeypatch):
    proof = prove(Emission(monkeypatch, wide=False), "extent_y", engine="unrolled", depth=PLACED, timeout=300)
    assert proof, proof.output


def test_a_vector_one_further_is_found(monkeypatch, tmp_path):
    dut = Emission(monkeypatch, wide=False, fault=True)
    assert not prove(dut, "extent_fault", engine="unrolled", depth=PLACED, timeout=600, folder=tmp_path)


TRIALS = [(kind, False) for kind in KINDS] + [(kind, True) for kind in ("wide", "narrow along")]


@pytest.mark.slow
@pytest.mark.parametrize("kind, again", TRIALS)
def test_everything_lies_where_the_page_says(kind, again, monkeypatch):
    dut = Emission(monkeypatch, again=again, **KINDS[kind])
    proof = prove(dut, "extent", engine="unrolled", depth=dut.begins + CLOCKS, timeout=1800)
    assert proof, proof.output
