# amaranth: UnusedElaboratable=no
"""Synthesis, capacity, place and route: on a small design with the real tools, and on reports made by hand."""

import contextlib
import dataclasses
import functools
import json
import re

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from fpga import flow as flows
from fpga.bitstream import pack
from fpga.flow import DoesNotFit, Flow, Measurement, Placement, TargetMissed, read_placement
from fpga.mapped import GLOBAL_FLIP_FLOPS, Cells
from fpga.parts import BOARDS, ECP5_85F, UP5K, board
from golden.common import processes
from hw.arith.float import FLOAT16, FloatFormat, FloatMultiply
from hw.arith.leaves import LeafTarget
from hw.stream import Fifo
from rtl_gen import tools

pytestmark = pytest.mark.synth


# A small design needs no room around it.
MACHINE = dataclasses.replace(ECP5_85F.for_machines, empty_tiles=ECP5_85F.for_machines.empty_tiles[:2])


class Accumulate(wiring.Component):
    """A running sum of 16 bits; with `width` it has that many more ports than it needs."""

    def __init__(self, width=8):
        super().__init__({"a": In(width), "total": Out(16)})

    def elaborate(self, platform):
        m = Module()
        stage = Signal(16)
        m.d.sync += [stage.eq(stage + self.a[:8]), self.total.eq(stage)]
        return m


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("flow")


def _no_tools(monkeypatch):
    def run(*args, **options):
        raise AssertionError(f"no tool should run, not {args[0]}")

    monkeypatch.setattr(tools, "run", run)


def test_ecp5_out_of_context(folder, monkeypatch):
    flow = Flow(folder, jobs=2)
    design = ("accumulate", Accumulate(200), None)
    (result,) = flow.measure([design], ECP5_85F, seeds=(1, 2))
    assert result.mode == "out of context"
    assert (result.cells.ff, result.cells.dsp, result.cells.bram) == (32, 0, 0)
    assert result.cells.luts == 2 * result.cells.carry == 16
    assert (result.harness.ff, result.harness.luts) == (216, 0)
    assert [placement.seed for placement in result.placements] == [1, 2]
    assert all(200 < placement.fmax_mhz < 1000 for placement in result.placements)
    assert "TRELLIS_IO" not in result.placements[0].used
    path = result.typical.path
    assert abs(sum(hop.delay_ns for hop in path) - 1000 / result.typical.fmax_mhz) < 0.1
    assert path[-1].kind == "setup"

    # The same again comes from the cache; another seed does not.
    _no_tools(monkeypatch)
    assert flow.measure([("accumulate", Accumulate(200), None)], ECP5_85F, seeds=(1, 2)) == [result]
    with pytest.raises(AssertionError, match="no tool should run"):
        flow.measure([("accumulate", Accumulate(200), None)], ECP5_85F, seeds=(3,))


def test_a_machine_with_more_ports_than_pins_is_placed_on_pins(folder):
    flow, part = Flow(folder, jobs=2), MACHINE
    design = ("accumulate", Accumulate(200), None)
    (result,) = flow.measure([design], part, seeds=(1,), target_mhz=80)
    assert result.mode == "serial harness"
    # Two tiles hold nothing but look-up tables without inputs; where they do not fit besides, none is kept empty.
    full = dataclasses.replace(part, capacity={**part.capacity, "luts": result.cells.logic + result.harness.logic + 15})
    (dense,) = flow.measure([design], full, seeds=(1,), target_mhz=80)
    combinational = [one.placements[0].used["TRELLIS_COMB"] for one in (result, dense)]
    assert combinational[0] - combinational[1] == 16
    # Clock, reset, bit in, which to take, bit out.
    assert result.placements[0].used["TRELLIS_IO"] == 5
    assert result.placements[0].used["DCCA"] == 1
    bitstream = pack(result.best.configuration, part, folder, "accumulate")
    assert bitstream == folder / "accumulate.bit"
    assert b"\xff\xff\xbd\xb3" in bitstream.read_bytes()[:256]  # the preamble of ECP5


def test_a_placed_machine_is_routed_again_without_being_placed(folder, monkeypatch):
    flow, part = Flow(folder, jobs=1), MACHINE
    design = ("accumulate", Accumulate(200), None)
    (first,) = flow.measure([design], part, seeds=(1,), target_mhz=80)
    commands = []

    def run(command, **options):
        commands.append(command)
        return actual(command, **options)

    actual = tools.run
    monkeypatch.setattr(tools, "run", run)
    other = dataclasses.replace(part, routing={**part.routing, "router": "router1"})
    (second,) = flow.measure([design], other, seeds=(1,), target_mhz=80)
    (command,) = commands
    assert "--no-place" in command and "--router" not in command
    assert second.placements[0].used == first.placements[0].used


class Delay(wiring.Component):
    """What came in GLOBAL_FLIP_FLOPS clocks ago: as many flip-flops, all reset."""

    def __init__(self):
        super().__init__({"i": In(1), "o": Out(1)})

    def elaborate(self, platform):
        m = Module()
        held = Signal(GLOBAL_FLIP_FLOPS)
        m.d.sync += held.eq(Cat(self.i, held))
        m.d.comb += self.o.eq(held[-1])
        return m


def test_the_reset_of_a_machine_takes_a_global_wire(folder):
    (result,) = Flow(folder, jobs=1).measure([("delay", Delay(), None)], MACHINE, seeds=(1,))
    assert result.cells.ff == GLOBAL_FLIP_FLOPS
    # One for the clock, one for the reset: in tiles, it goes from a global wire to one of the fabric.
    assert result.placements[0].used["DCCA"] == 2
    assert re.search(r"^arc: [VH]\S+ G_HPBX\d+00$", result.best.configuration, re.MULTILINE)


def test_a_piece_is_elaborated_once(tmp_path, monkeypatch):
    multiply = ("multiply", functools.partial(FloatMultiply, FLOAT16), LeafTarget("generic"))
    (cells,) = Flow(tmp_path, 1).count([multiply], ECP5_85F)
    assert cells.luts > 100

    def elaborate(*args):
        raise AssertionError(f"nothing should be elaborated, not {args[1]}")

    class Pool:
        submit = elaborate

    monkeypatch.setattr(processes, "pool", lambda jobs: contextlib.nullcontext(Pool()))
    assert Flow(tmp_path, 1).count([multiply], ECP5_85F) == [cells]
    # other arguments, other leaves, another name, other sources
    name, component, leaves = multiply
    others = [(name, functools.partial(FloatMultiply, FloatFormat(8, 7)), leaves)]
    others += [(name, component, LeafTarget("ecp5")), ("product", component, leaves)]
    for other in others:
        with pytest.raises(AssertionError, match="^nothing should be elaborated"):
            Flow(tmp_path, 1).count([other], ECP5_85F)
    monkeypatch.setattr(flows, "_sources", lambda: "changed")
    with pytest.raises(AssertionError, match="^nothing should be elaborated"):
        Flow(tmp_path, 1).count([multiply], ECP5_85F)


def test_ice40_on_pins_and_in_a_serial_harness(folder):
    flow = Flow(folder, jobs=2)
    (pins,) = flow.measure([("accumulate", Accumulate(8), None)], UP5K, seeds=(1,))
    (serial,) = flow.measure([("accumulate", Accumulate(32), None)], UP5K, seeds=(1,))
    assert (pins.mode, serial.mode) == ("pins", "serial harness")
    assert pins.cells == serial.cells
    assert (pins.harness.ff, serial.harness.ff, serial.harness.luts) == (24, 48, 16)
    assert pins.placements[0].used["SB_IO"] == 26
    assert serial.placements[0].used["SB_IO"] == 5
    assert pins.fmax_mhz > 20 and serial.fmax_mhz > 20


def test_what_does_not_fit_is_not_placed(folder, monkeypatch):
    small = dataclasses.replace(UP5K, name="small", capacity={"luts": 20, "ff": 20, "dsp": 1, "bram": 1})

    def place(*args, **options):
        raise AssertionError("nothing must be placed")

    monkeypatch.setattr(Flow, "place", place)
    with pytest.raises(
        DoesNotFit,
        match=r"^accumulate does not fit small: it needs \d+ LUTS of 20 and 56 FF of 20; nothing was placed$",
    ) as refusal:
        Flow(folder).measure([("accumulate", Accumulate(8), None)], small, seeds=(1,))
    assert refusal.value.exit_code == 1


def test_a_failing_tool_is_a_sentence(folder):
    with pytest.raises(tools.ToolError, match=r"^yosys failed: .*ERROR"):
        Flow(folder).synthesise("module other; endmodule", "top", UP5K)


class Elements(wiring.Component):
    """Registered elements of an array, each a wire whose name looks like a bit's."""

    def __init__(self):
        super().__init__({"a": In(data.ArrayLayout(5, 2)), "b": Out(data.ArrayLayout(5, 2))})

    def elaborate(self, platform):
        m = Module()
        held = Signal(data.ArrayLayout(5, 2))
        m.d.sync += [held.eq(self.a), self.b.eq(held)]
        return m


def test_elements_of_arrays_are_not_taken_for_bits(folder):
    text = rtlil.convert(Elements(), name="elements", emit_src=False)
    assert "\\held[1]\n" in text
    netlist = Flow(folder).synthesise(text, "elements", ECP5_85F, "rtlil")
    assert netlist.cells.ff == 20
    names = json.loads(netlist.text())["modules"]["elements"]["netnames"]
    assert "held" in names and not [name for name in names if name.endswith("]")]


def test_memories_promise_nothing_about_collisions(folder):
    (cells,) = Flow(folder).count([("queue", functools.partial(Fifo, 64, 256), None)], ECP5_85F)
    assert cells.bram == 2
    # Two addresses, a level and a valid bit; a promise, which Amaranth's RTLIL makes, would add 64 registers and more.
    assert cells.ff <= 2 * 8 + 9 + 1


def test_a_failing_design_is_named(folder, monkeypatch):
    def run(*args, **options):
        raise tools.ToolError("yosys failed: ERROR: no")

    monkeypatch.setattr(tools, "run", run)
    with pytest.raises(tools.ToolError, match=r"^sum of 9 bits: yosys failed: ERROR: no$"):
        Flow(folder).count([("sum of 9 bits", Accumulate(9), None)], UP5K)


def test_refusals(folder):
    with pytest.raises(ValueError, match=r"^jobs must be at least 1, not -1$"):
        Flow(folder, jobs=-1)
    with pytest.raises(ValueError, match=r"^seeds must hold at least one seed, not none$"):
        Flow(folder).measure([], UP5K, seeds=())
    with pytest.raises(ValueError, match=r"^out_of_context must be false with family ice40, not true$"):
        Flow(folder).place(None, UP5K, 1, out_of_context=True)
    with pytest.raises(ValueError, match=r"^Board must be .* not 'ulx3s'; did you mean ulx3s-85f or ulx3s-25f\?$"):
        board("ulx3s")


# Reports ------------------------------------------------------------------------------------------------------------

_HOP = {"delay": 1.25, "type": "logic", "from": {"cell": "x", "port": "Q"}, "to": {"cell": "y", "port": "D"}}
_REPORT = {
    "fmax": {"fast": {"achieved": 200.0, "constraint": 12}, "slow": {"achieved": 90.5, "constraint": 12}},
    "critical_paths": [
        {"from": "posedge fast", "to": "posedge fast", "path": []},
        {"from": "<async>", "to": "posedge slow", "path": []},
        {"from": "posedge slow", "to": "posedge slow", "path": [_HOP]},
    ],
    "utilization": {"SB_IO": {"used": 3, "available": 39}, "SB_GB": {"used": 0, "available": 8}},
}


def test_a_report_is_that_of_its_slowest_clock():
    placement = read_placement(_REPORT, 7)
    assert placement == Placement(7, 90.5, {"SB_IO": 3}, (flows.Hop(1.25, "logic", "y", "D"),))


def test_a_report_without_a_clock():
    with pytest.raises(ValueError, match=r"^A design must have a path from register to register"):
        read_placement({"fmax": {}}, 1)


def _measured(*rates):
    placements = tuple(Placement(seed, rate, {}, ()) for seed, rate in enumerate(rates, 1))
    return Measurement(name="x", part="p", mode="pins", cells=Cells(luts=1), harness=Cells(), placements=placements)


def test_the_median_decides():
    measurement = _measured(90.0, 130.0, 100.0, 80.0, 120.0)
    assert measurement.fmax_mhz == 100.0
    assert (measurement.best.seed, measurement.typical.seed) == (2, 3)
    measurement.require(100.0)
    with pytest.raises(
        TargetMissed,
        match=r"^The clock target of 100.5 MHz is missed: x reaches 100.0 MHz on p \(median of 5 seeds\)$",
    ) as missed:
        measurement.require(100.5)
    assert missed.value.exit_code == 1
    report = json.loads(json.dumps(measurement.to_dict()))
    assert report["fmax_mhz"]["least"] == 80.0 and report["fmax_mhz"]["most"] == 130.0
    assert report["cells"]["luts"] == 1
    assert "pyosys" in report["tools"]


def test_boards_are_those_of_amaranth_boards():
    for entry in BOARDS.values():
        platform = entry.make_platform()
        assert platform.default_clk_frequency == entry.clock_mhz * 1e6
        device, package = platform.device.replace("-", ""), platform.package
        name = entry.part.name.replace("-", "")
        assert name.startswith(device) and name.endswith(package)
