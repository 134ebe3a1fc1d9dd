import pytest
from amaranth.hdl import Assert, Assume, Elaboratable, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In

from rtl_gen import tools
from rtl_gen.proof import ENGINES, prove
from tests.hw.streams import inspect

pytestmark = pytest.mark.formal


class Counter(wiring.Component):
    """Counts `step` clocks; never passes 5 if it wraps in time."""

    step: In(1)

    def __init__(self, wrap, *, assume=False):
        self.wrap, self.assume = wrap, assume
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        count = Signal(4, init=1)
        with m.If(self.step):
            m.d.sync += count.eq(count + 1)
            with m.If(count == self.wrap):
                m.d.sync += count.eq(1)
        if self.assume:
            m.d.comb += Assume(~self.step)
        m.d.comb += [Assert(count <= 5), Assert(count != 0)]
        return m


class Commutes(wiring.Component):
    """a + b = b + a, or not."""

    a: In(8)
    b: In(8)

    def __init__(self, *, broken=False, assume=False):
        self.broken, self.assume = broken, assume
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        if self.assume:
            m.d.comb += Assume(self.a != 77)
        m.d.comb += Assert(self.a + self.b == self.b + self.a + (self.broken & (self.a == 77)))
        return m


@pytest.mark.parametrize("engine", ENGINES)
def test_proves_what_holds(engine):
    assert prove(Counter(5), "counter", engine=engine, depth=12).proven
    assert prove(Commutes(), "commutes", engine=engine, depth=1).proven
    assert prove(Commutes(broken=True, assume=True), "commutes", engine=engine, depth=1).proven
    assert prove(Counter(9, assume=True), "counter", engine=engine, depth=8).proven


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind, arguments, sign", [(Counter, {"wrap": 9}, "step"), (Commutes, {"broken": True}, "a")])
def test_breaks_what_does_not(engine, kind, arguments, sign, tmp_path):
    result = prove(kind(**arguments), "broken", engine=engine, depth=8, folder=tmp_path)
    assert not result
    assert result.trace == tmp_path / "broken.vcd"
    assert f" {sign} " in result.trace.read_text()


@pytest.mark.parametrize("engine", ["bmc", "unrolled"])
def test_bounded_proofs_see_no_further_than_their_depth(engine, tmp_path):
    assert prove(Counter(9), "short", engine=engine, depth=5).proven
    assert not prove(Counter(9), "short", engine=engine, depth=6, folder=tmp_path).proven


def test_a_memory_can_be_part_of_a_proof():
    class Remembers(wiring.Component):
        address: In(2)
        write: In(1)

        def elaborate(self, platform):
            m = Module()
            m.submodules.memory = store = memory.Memory(shape=4, depth=4, init=[3, 3, 3, 3])
            write, read = store.write_port(), store.read_port(domain="comb")
            m.d.comb += [
                write.en.eq(self.write),
                write.addr.eq(self.address),
                write.data.eq(3),
                read.addr.eq(self.address),
                Assert(read.data == 3),
            ]
            return m

    assert prove(Remembers(), "remembers", engine="abc").proven
    for engine in ("bmc", "unrolled"):
        assert prove(Remembers(), "remembers", engine=engine, depth=4).proven


def test_induction_without_an_answer_is_an_error():
    class Apart(Elaboratable):
        """Two counters in step; that they are is not inductive over one clock of the parity asserted."""

        def elaborate(self, platform):
            m = Module()
            a, b = Signal(4), Signal(4)
            m.d.sync += [a.eq(a + 1), b.eq(b + 1)]
            m.d.comb += Assert((a != 8) | (b == 8))
            return m

    with pytest.raises(tools.ToolError, match=r"^The proof of apart by induction over 2 clocks has no answer$"):
        prove(Apart(), "apart", engine="induction", depth=2)
    assert prove(Apart(), "apart", engine="abc").proven


def test_no_answer_in_time_is_an_error():
    class Factors(wiring.Component):
        a: In(24)
        b: In(24)

        def elaborate(self, platform):
            m = Module()
            m.d.comb += Assert((self.a * self.b != 274876858369) | (self.a < 3) | (self.b < 3) | (self.a == 524287))
            return m

    with pytest.raises(tools.ToolError, match=r"^The proof of factors has no answer within 2 s$"):
        prove(Factors(), "factors", timeout=2)


def test_rejections():
    component = inspect(Counter(5))
    with pytest.raises(ValueError, match=r"^engine must be abc or bmc or unrolled or induction, not 'hope'$"):
        prove(component, "counter", engine="hope")
    with pytest.raises(ValueError, match=r"^name of a proof must be letters, digits, '_', '.' and '-', not '../x'$"):
        prove(component, "../x")

    class Empty(wiring.Component):
        a: In(1)

        def elaborate(self, platform):
            return Module()

    with pytest.raises(ValueError, match=r"^component must hold an assertion, and that of empty has none$"):
        prove(Empty(), "empty")
