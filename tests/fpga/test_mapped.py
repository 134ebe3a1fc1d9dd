"""Counting cells and adding boundaries, on netlists small enough to count by hand and to simulate here."""

import copy

import pytest

from fpga.mapped import Cells, Netlist

pytestmark = pytest.mark.synth


def _cell(kind, directions, parameters=None, **connections):
    return {
        "hide_name": 0,
        "type": kind,
        "parameters": parameters or {},
        "attributes": {},
        "port_directions": {name: "output" if name in directions else "input" for name in connections},
        "connections": {name: [bit] for name, bit in connections.items()},
    }


def _design(cells, ports):
    nets = {name: {"hide_name": 0, "bits": bits, "attributes": {}} for name, (_, bits) in ports.items()}
    ports = {name: {"direction": direction, "bits": bits} for name, (direction, bits) in ports.items()}
    unit = {"attributes": {}, "ports": ports, "cells": cells, "netnames": nets}
    return {"creator": "hand", "modules": {"unit": unit, "LUT4": {"ports": {}, "cells": {}, "netnames": {}}}}


_AND = "1000100010001000"  # of the first two inputs
_PORTS = {"clk": ("input", [2]), "rst": ("input", [3]), "a": ("input", [4, 5]), "y": ("output", [6, 7, "0"])}


def _ice40():
    """y[0] = a[0] & a[1], y[1] the same one clock later, y[2] constant."""
    cells = {
        "both": _cell("SB_LUT4", "O", {"LUT_INIT": _AND}, I0=4, I1=5, I2="0", I3="0", O=6),
        "later": _cell("SB_DFF", "Q", C=2, D=6, Q=7),
        "$scope": _cell("$scopeinfo", ""),
    }
    return _design(cells, _PORTS)


def _ecp5():
    cells = {
        "part.both": _cell("LUT4", "Z", {"INIT": _AND}, A=4, B=5, C="0", D="0", Z=6),
        "part.later": _cell("TRELLIS_FF", "Q", CLK=2, DI=6, LSR="0", Q=7),
        "sum": _cell("CCU2C", ("S0", "S1"), CIN="0", A0=4, B0=5, S0=8, S1=9),
        "product": _cell("MULT18X18D", "P0", A0=4, P0=10),
        "row": _cell("DP16KD", "DOA0", ADA0=4, DOA0=11),
        "small": _cell("TRELLIS_DPR16X4", "DO", RAD=4, DO=12),
    }
    return _design(cells, _PORTS)


class _Simulation:
    """Flip-flops and look-up tables of a netlist, clock by clock."""

    def __init__(self, netlist):
        self.module = netlist._module
        self.values = {"0": 0, "1": 1, "x": 0}

    def _tables(self):
        for cell in self.module["cells"].values():
            pins = {name: bits[0] for name, bits in cell["connections"].items()}
            if cell["type"] in ("SB_LUT4", "LUT4"):
                names = ("I0", "I1", "I2", "I3", "O") if cell["type"] == "SB_LUT4" else ("A", "B", "C", "D", "Z")
                *inputs, output = (pins[name] for name in names)
                init = int(cell["parameters"]["LUT_INIT" if cell["type"] == "SB_LUT4" else "INIT"], 2)
                index = sum(self.values.get(bit, 0) << position for position, bit in enumerate(inputs))
                self.values[output] = init >> index & 1

    def clock(self, **ports):
        """Apply inputs, read the outputs before the edge, then clock."""
        for name, value in ports.items():
            for index, bit in enumerate(self.module["ports"][name]["bits"]):
                self.values[bit] = value >> index & 1
        for _ in range(4):
            self._tables()
        outputs = {
            name: sum(self.values.get(bit, 0) << index for index, bit in enumerate(port["bits"]))
            for name, port in self.module["ports"].items()
            if port["direction"] == "output"
        }
        flops = [
            cell["connections"] for cell in self.module["cells"].values() if cell["type"] in ("SB_DFF", "TRELLIS_FF")
        ]
        edge = {pins["Q"][0]: self.values.get(pins.get("D", pins.get("DI"))[0], 0) for pins in flops}
        self.values.update(edge)
        return outputs


def test_cells_of_ecp5():
    netlist = Netlist(_ecp5(), "unit", "ecp5")
    assert netlist.cells == Cells(luts=3, lut_memory=6, carry=1, ff=1, dsp=1, bram=1, logic=9)
    assert netlist.luts_by_part() == {"part": 1, "": 2}


def test_cells_of_ice40():
    netlist = Netlist(_ice40(), "unit", "ice40")
    # The table also drives a port, so the flip-flop after it takes a place of its own.
    assert netlist.cells == Cells(luts=1, ff=1, logic=2)


def test_only_the_top_module_is_kept():
    assert '"LUT4":{' not in Netlist(_ice40(), "unit", "ice40").text()


@pytest.mark.parametrize(("family", "design"), [("ecp5", _ecp5), ("ice40", _ice40)])
def test_registered_boundaries(family, design):
    netlist = Netlist(design(), "unit", family)
    before = netlist.cells
    assert netlist.register_boundaries() == Cells(ff=5, logic=5 if family == "ice40" else 0)
    assert netlist.cells.luts == before.luts
    simulation = _Simulation(netlist)
    got = [simulation.clock(a=value)["y"] for value in (3, 1, 2, 3, 3, 0, 0, 0)]
    # Two registers around the table, one more inside for the second bit.
    assert got == [0, 0, 1, 2, 0, 1, 3, 2]
    assert {name for name, port in netlist._module["ports"].items() if port["direction"] == "input"} == {
        "clk",
        "rst",
        "a",
    }


@pytest.mark.parametrize(("family", "design"), [("ecp5", _ecp5), ("ice40", _ice40)])
def test_serial_harness(family, design):
    netlist = Netlist(design(), "unit", family)
    harness = netlist.serialise_boundaries()
    assert (harness.luts, harness.ff) == (3, 5)
    ports = netlist._module["ports"]
    assert sorted(ports) == ["clk", "harness_in", "harness_load", "harness_out", "rst"]
    assert [len(port["bits"]) for port in ports.values()] == [1] * 5
    for value in range(4):
        simulation = _Simulation(netlist)
        for bit in (value >> 1 & 1, value & 1):
            simulation.clock(harness_in=bit, harness_load=0)
        simulation.clock(harness_in=0, harness_load=1)
        # The last output is nearest to the pin.
        out = [simulation.clock(harness_in=0, harness_load=0)["harness_out"] for _ in range(3)]
        assert out[::-1] == [int(value == 3), 0, 0]


def test_wide_resets_take_global_wires():
    design = _ecp5()
    cells = design["modules"]["unit"]["cells"]
    for number in range(3):
        cells[f"wide{number}"] = _cell("TRELLIS_FF", "Q", CLK=2, DI=4, LSR=3, Q=20 + number)
    for number in range(2):
        cells[f"narrow{number}"] = _cell("TRELLIS_FF", "Q", CLK=2, DI=4, LSR=6, Q=30 + number)
    cells["reader"] = _cell("LUT4", "Z", {"INIT": _AND}, A=3, B=5, C="0", D="0", Z=40)
    netlist = Netlist(design, "unit", "ecp5")
    before, count = copy.deepcopy(cells), netlist.cells
    assert netlist.buffer_resets(least=3) == 1
    assert netlist.cells == count
    assert cells["global_reset_0"]["type"] == "DCCA"
    assert cells["global_reset_0"]["connections"]["CLKI"] == [3]
    (buffered,) = cells.pop("global_reset_0")["connections"]["CLKO"]
    assert not any([buffered] in cell["connections"].values() for cell in before.values())
    # Put back, the resets of the three are all that had changed.
    for number in range(3):
        assert cells[f"wide{number}"]["connections"]["LSR"] == [buffered]
        cells[f"wide{number}"]["connections"]["LSR"] = [3]
    assert cells == before


def test_constant_resets_take_no_global_wire():
    netlist = Netlist(_ecp5(), "unit", "ecp5")
    assert netlist.buffer_resets(least=1) == 0


def test_tiles_are_kept_empty():
    netlist = Netlist(_ecp5(), "unit", "ecp5")
    cells, before = netlist._module["cells"], set(netlist._module["cells"])
    netlist.keep_empty([(16, 2), (18, 4)])
    added = [cell for name, cell in cells.items() if name not in before]
    places = {cell["attributes"]["BEL"] for cell in added}
    assert len(added) == len(places) == 16 and {"X16/Y2/SLICEA.K0", "X18/Y4/SLICED.K1"} <= places
    assert all(cell["type"] == "LUT4" and list(cell["connections"]) == ["Z"] for cell in added)
    # Each drives a wire that nothing reads.
    outputs = [cell["connections"]["Z"][0] for cell in added]
    assert len(set(outputs)) == 16
    assert not any(set(outputs) & set(bits) for name in before for bits in cells[name]["connections"].values())


def test_a_design_without_a_clock_gets_one():
    design = _ice40()
    del design["modules"]["unit"]["ports"]["clk"], design["modules"]["unit"]["cells"]["later"]
    netlist = Netlist(design, "unit", "ice40")
    netlist.register_boundaries()
    simulation = _Simulation(netlist)
    assert [simulation.clock(a=3)["y"] & 1 for _ in range(4)] == [0, 0, 1, 1]
    (clock,) = netlist._module["ports"]["clk"]["bits"]
    assert all(c["connections"]["C"] == [clock] for c in netlist._module["cells"].values() if c["type"] == "SB_DFF")


def test_capacity():
    cells = Cells(luts=10, logic=12, ff=3, dsp=2)
    assert cells.beyond({"luts": 12, "ff": 3, "dsp": 2, "bram": 0}) == []
    assert cells.beyond({"luts": 11, "ff": 2, "dsp": 2}) == [("luts", 12, 11), ("ff", 3, 2)]
    assert cells + cells == Cells(luts=20, logic=24, ff=6, dsp=4)


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match=r"^family must be ecp5 or ice40, not 'xc7'$"):
        Netlist(_ecp5(), "unit", "xc7")
    with pytest.raises(ValueError, match=r"^A netlist must hold its top module 'other', not only unit, LUT4$"):
        Netlist(_ecp5(), "other", "ecp5")
    with pytest.raises(ValueError, match=r"^family must be ecp5 for global wires of resets, not ice40$"):
        Netlist(_ice40(), "unit", "ice40").buffer_resets()
    with pytest.raises(ValueError, match=r"^family must be ecp5 for tiles that are kept empty, not ice40$"):
        Netlist(_ice40(), "unit", "ice40").keep_empty([(2, 2)])
    with pytest.raises(OSError):
        Netlist.read(tmp_path / "none.json", "unit", "ecp5")


def test_text_is_read_back(tmp_path):
    netlist = Netlist(_ecp5(), "unit", "ecp5")
    netlist.register_boundaries()
    netlist.write(tmp_path / "n.json")
    again = Netlist.read(tmp_path / "n.json", "unit", "ecp5")
    assert again.text() == netlist.text()
    assert copy.deepcopy(again).cells == netlist.cells
