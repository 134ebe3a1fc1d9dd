"""Xhat never clamps: whatever x and Xhat are, the new Xhat is within ``2^(w-2)`` of x, so it is a number of w bits."""

import pytest
from amaranth.hdl import Assert, Assume, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from golden.parameters import preset
from hw.near_memory.closed_loop.delta_path import DeltaPath
from rtl_gen.proof import prove

pytestmark = pytest.mark.formal


class Contract(wiring.Component):
    """One vector of a single row, free of poison, through the path."""

    def __init__(self, parameters, passes, least=0):
        self.parameters, self.passes, self.least = parameters, passes, least
        elements = parameters.near_lanes * parameters.state_width
        super().__init__({"x": In(elements), "held": In(elements)})

    def elaborate(self, platform):
        m = Module()
        p = self.parameters
        w = p.state_width
        m.submodules.path = path = DeltaPath(p)
        taken = Signal()
        xs = Signal.like(path.x.p["values"])
        m.d.comb += [
            path.x.p["values"].as_value().eq(self.x),
            path.x.p.last.eq(1),
            path.x.valid.eq(~taken),
            path.held.payload.as_value().eq(self.held),
            path.held.valid.eq(1),
            path.passes.eq(self.passes - 1),
            path.vectors.eq(1),
            path.o.ready.eq(1),
            path.updated.ready.eq(1),
        ]
        for x, held in zip(path.x.p["values"], path.held.p, strict=True):
            m.d.comb += [
                Assume((x < 2 ** (w - 2)) & (x > -(2 ** (w - 2)))),
                Assume(held != Const(-(2 ** (w - 1)), w)),
            ]
        with m.If(path.x.ready & path.x.valid):
            m.d.sync += [taken.eq(1), xs.eq(path.x.p["values"])]
        for x, new in zip(xs, path.updated.p, strict=True):
            away = Signal(range(-(2**w), 2**w))
            m.d.comb += away.eq(new - x)
            with m.If(path.updated.valid):
                m.d.comb += Assert(Mux(away < 0, -away, away) <= 2 ** (w - 2) - self.least)
        return m


def machine(digit_width, outliers):
    settings = ["state_width=16", "near_lanes=4", f"digit_width={digit_width}", f"outliers={outliers}"]
    return preset("tiny").with_settings(settings)


@pytest.mark.parametrize(("outliers", "passes"), [(0, 1), (0, 3), (1, 3), (2, 1)])
@pytest.mark.parametrize("digit_width", [2, 3, 8])
def test_xhat_never_clamps(digit_width, outliers, passes):
    contract = Contract(machine(digit_width, outliers), passes)
    name = f"xhat_{digit_width}_{outliers}_{passes}"
    proof = prove(contract, name, engine="bmc", depth=20 + 4 * passes, timeout=300)
    assert proof, proof.output


def test_the_bound_is_reached(tmp_path):
    """With two bits a digit; so the proof above looks at results, and would fail."""
    contract = Contract(machine(2, 0), 1, least=1)
    assert not prove(contract, "xhat_bound", engine="bmc", depth=20, folder=tmp_path)
