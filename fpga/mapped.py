"""Netlists as yosys writes them for nextpnr: counting their cells, and putting a unit between boundaries.

A unit is synthesised alone and counted. What a measurement needs around it, a flip-flop at every port or a shift
register, is added to the mapped netlist afterwards, so that it cannot change how the unit was mapped and every cell
belongs clearly to the unit or to the harness.
"""

import dataclasses
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

GLOBAL_FLIP_FLOPS = 1000
"""Flip-flops that make it worth to give their reset one of the eight global wires that reach more than clocks."""

Bit = int | str
"""A wire of a netlist by number, or a constant: ``"0"``, ``"1"``, ``"x"``, ``"z"``."""

_CONTROL = ("clk", "rst")
"""Ports that are neither data nor registered: the clock, and the reset (a path that no board's clock constrains)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cells:
    """Cells of a mapped netlist.

    Members
    -------
    luts : int
        ECP5: LUT4 + 2 x CCU2C (a CCU2C is two look-up tables with a carry). iCE40: SB_LUT4.
    lut_memory : int
        Look-up tables used as memory, apart from `luts` (ECP5: 6 for a 16 x 4 TRELLIS_DPR16X4).
    carry : int
        CCU2C or SB_CARRY.
    ff, dsp, bram : int
        Flip-flops, multiplier blocks, block RAMs.
    logic : int
        Places for look-up tables the netlist takes: on iCE40 also flip-flops that cannot share one with the
        look-up table before them.
    """

    luts: int = 0
    lut_memory: int = 0
    carry: int = 0
    ff: int = 0
    dsp: int = 0
    bram: int = 0
    logic: int = 0

    def __add__(self, other: "Cells") -> "Cells":
        values = {field.name: getattr(self, field.name) + getattr(other, field.name) for field in _FIELDS}
        return Cells(**values)

    def beyond(self, capacity: dict[str, int]) -> list[tuple[str, int, int]]:
        """What does not fit: name, cells needed, cells there are."""
        need = {"luts": self.logic, "ff": self.ff, "dsp": self.dsp, "bram": self.bram}
        return [(name, need[name], available) for name, available in capacity.items() if need[name] > available]


_FIELDS = dataclasses.fields(Cells)


class Netlist:
    """One flat module of a JSON netlist.

    Parameters
    ----------
    design : dict
        What yosys' ``write_json`` wrote.
    top : str
        Name of the module.
    family : str
        ``"ecp5"`` or ``"ice40"``.

    Raises
    ------
    ValueError
        If there is no such module or the family is unknown.
    """

    def __init__(self, design: dict[str, Any], top: str, family: str):
        if family not in ("ecp5", "ice40"):
            raise ValueError(f"family must be ecp5 or ice40, not {family!r}")
        if top not in design.get("modules", {}):
            found = ", ".join(design.get("modules", {})) or "none"
            raise ValueError(f"A netlist must hold its top module {top!r}, not only {found}")
        # The other modules are simulation models of cells, which nextpnr knows itself; they are most of the file.
        self._design = {"creator": design.get("creator", ""), "modules": {top: design["modules"][top]}}
        self._module = design["modules"][top]
        self.top = top
        self.family = family
        self._next = 1 + max((bit for bit in self._bits() if isinstance(bit, int)), default=1)

    @classmethod
    def read(cls, path: Path, top: str, family: str) -> "Netlist":
        """Read a file.

        Raises
        ------
        ValueError
            If it is not a netlist with that module.
        OSError
            If it cannot be read.
        """
        return cls(json.loads(Path(path).read_text(encoding="utf-8")), top, family)

    def write(self, path: Path) -> None:
        """Write a file that nextpnr reads."""
        Path(path).write_text(self.text(), encoding="utf-8")

    def text(self) -> str:
        """The netlist as JSON, the same for the same netlist."""
        return json.dumps(self._design, separators=(",", ":"), sort_keys=True)

    def _bits(self) -> Iterable[Bit]:
        for port in self._module["ports"].values():
            yield from port["bits"]
        for cell in self._module["cells"].values():
            for bits in cell["connections"].values():
                yield from bits
        for net in self._module["netnames"].values():
            yield from net["bits"]

    # Counting -------------------------------------------------------------------------------------------------------

    @property
    def types(self) -> Counter[str]:
        """Number of cells by type."""
        return Counter(cell["type"] for cell in self._module["cells"].values() if not cell["type"].startswith("$"))

    @property
    def cells(self) -> Cells:
        """Number of cells by kind."""
        types = self.types
        if self.family == "ecp5":
            luts = types["LUT4"] + 2 * types["CCU2C"]
            lut_memory = 6 * types["TRELLIS_DPR16X4"]
            return Cells(
                luts=luts,
                lut_memory=lut_memory,
                carry=types["CCU2C"],
                ff=types["TRELLIS_FF"],
                dsp=types["MULT18X18D"],
                bram=types["DP16KD"],
                logic=luts + lut_memory,
            )
        return Cells(
            luts=types["SB_LUT4"],
            carry=types["SB_CARRY"],
            ff=sum(count for name, count in types.items() if name.startswith("SB_DFF")),
            dsp=types["SB_MAC16"],
            bram=sum(count for name, count in types.items() if name.startswith("SB_RAM")),
            logic=types["SB_LUT4"] + self._lone_flip_flops(),
        )

    def _lone_flip_flops(self) -> int:
        readers: Counter[Bit] = Counter()
        from_table: set[Bit] = set()
        for cell in self._module["cells"].values():
            for port, bits in cell["connections"].items():
                if cell["port_directions"].get(port) == "input":
                    readers.update(bits)
                elif cell["type"] == "SB_LUT4":
                    from_table.update(bits)
        for port in self._module["ports"].values():
            if port["direction"] == "output":
                readers.update(port["bits"])
        data = [
            cell["connections"]["D"][0] for cell in self._module["cells"].values() if cell["type"].startswith("SB_DFF")
        ]
        return sum(bit not in from_table or readers[bit] > 1 for bit in data)

    def luts_by_part(self, depth: int = 1) -> Counter[str]:
        """Look-up tables by the part of the design whose name they carry (its first `depth` instances).

        Yosys names a cell after the wire it drives; a look-up table that serves two parts counts for one of them.
        """
        weight = {"LUT4": 1, "CCU2C": 2, "SB_LUT4": 1}
        result: Counter[str] = Counter()
        for name, cell in self._module["cells"].items():
            if cell["type"] in weight:
                path = name.split(".")[:-1][:depth]
                result[".".join(path)] += weight[cell["type"]]
        return result

    def data_bits(self, direction: str) -> int:
        """Bits of the ports of a direction (``"input"``, ``"output"``), clock and reset apart."""
        return sum(len(port["bits"]) for _, port in self._data_ports(direction))

    def _data_ports(self, direction: str) -> list[tuple[str, dict[str, Any]]]:
        return [
            (name, port)
            for name, port in self._module["ports"].items()
            if port["direction"] == direction and name not in _CONTROL
        ]

    # Boundaries -----------------------------------------------------------------------------------------------------

    def register_boundaries(self) -> Cells:
        """Put a flip-flop at every data port; returns the cells added.

        Clock and reset stay as they are.
        """
        before = self.cells
        clock = self._clock()
        for name, port in self._data_ports("input"):
            outside = [self._wire() for _ in port["bits"]]
            for index, (bit, new) in enumerate(zip(port["bits"], outside, strict=True)):
                self._flip_flop(f"boundary_{name}_{index}", clock, data=new, output=bit)
            self._rename_port(name, outside)
        for name, port in self._data_ports("output"):
            outside = [self._wire() for _ in port["bits"]]
            for index, (bit, new) in enumerate(zip(port["bits"], outside, strict=True)):
                self._flip_flop(f"boundary_{name}_{index}", clock, data=bit, output=new)
            self._rename_port(name, outside)
        return self._added(before)

    def serialise_boundaries(self) -> Cells:
        """Replace all data ports by shift registers, one bit in and one out; returns the cells added.

        ``harness_in`` shifts into the unit's inputs every clock. While ``harness_load`` is high, the unit's outputs are
        taken into a second shift register, else that one shifts towards ``harness_out``. Clock and reset stay.
        """
        before = self.cells
        clock = self._clock()
        entry, load = self._wire(), self._wire()
        inputs, outputs = self._data_ports("input"), self._data_ports("output")
        shifted: Bit = entry
        for name, port in inputs:
            for index, bit in enumerate(port["bits"]):
                self._flip_flop(f"harness_{name}_{index}", clock, data=shifted, output=bit)
                shifted = bit
        shifted = "0"
        for name, port in outputs:
            for index, bit in enumerate(port["bits"]):
                chosen, held = self._wire(), self._wire()
                self._select(f"harness_{name}_{index}_select", load, bit, shifted, output=chosen)
                self._flip_flop(f"harness_{name}_{index}", clock, data=chosen, output=held)
                shifted = held
        for name, _ in inputs + outputs:
            self._remove_port(name)
        if inputs:
            self._add_port("harness_in", "input", [entry])
        if outputs:
            self._add_port("harness_load", "input", [load])
            self._add_port("harness_out", "output", [shifted])
        return self._added(before)

    # Before it is placed --------------------------------------------------------------------------------------------

    def buffer_resets(self, least: int = GLOBAL_FLIP_FLOPS) -> int:
        """Give a global wire to every net that resets `least` flip-flops or more; returns how many there are.

        ECP5 only. Of itself nextpnr gives global wires to clocks alone, and leads the reset of a machine to tens of
        thousands of flip-flops over the wires that everything else needs. What is no reset stays where it was.

        Raises
        ------
        ValueError
            If the netlist is of another family.
        """
        self._require_ecp5("global wires of resets")
        resets: defaultdict[Bit, list[dict[str, Any]]] = defaultdict(list)
        for cell in self._module["cells"].values():
            if cell["type"] == "TRELLIS_FF":
                for bit in cell["connections"].get("LSR", []):
                    if isinstance(bit, int):
                        resets[bit].append(cell)
        wide = {bit: cells for bit, cells in resets.items() if len(cells) >= least}
        for index, (bit, cells) in enumerate(wide.items()):
            buffered = self._wire()
            self._cell(f"global_reset_{index}", "DCCA", {}, CLKI=("input", bit), CLKO=("output", buffered))
            for cell in cells:
                cell["connections"]["LSR"] = [buffered]
        return len(wide)

    def keep_empty(self, tiles: Iterable[tuple[int, int]]) -> None:
        """Fill logic tiles with look-up tables that do nothing, so that nothing else is placed there.

        ECP5 only. nextpnr fills tiles to the last look-up table, and then wires are missing where many words meet. The
        wires of an empty tile serve its neighbours.

        Parameters
        ----------
        tiles : iterable of (int, int)
            Column and row, as nextpnr counts them.

        Raises
        ------
        ValueError
            If the netlist is of another family.
        """
        self._require_ecp5("tiles that are kept empty")
        for column, row in tiles:
            for place in (f"SLICE{letter}.K{half}" for letter in "ABCD" for half in (0, 1)):
                name = f"empty_{column}_{row}_{place}"
                self._cell(name, "LUT4", {"INIT": "0" * 16}, Z=("output", self._wire()))
                self._module["cells"][name]["attributes"]["BEL"] = f"X{column}/Y{row}/{place}"

    def _require_ecp5(self, what: str) -> None:
        if self.family != "ecp5":
            raise ValueError(f"family must be ecp5 for {what}, not {self.family}")

    def _added(self, before: Cells) -> Cells:
        after = self.cells
        return Cells(**{field.name: getattr(after, field.name) - getattr(before, field.name) for field in _FIELDS})

    def _wire(self) -> int:
        self._next += 1
        return self._next - 1

    def _clock(self) -> Bit:
        if "clk" not in self._module["ports"]:
            self._add_port("clk", "input", [self._wire()])
        return self._module["ports"]["clk"]["bits"][0]

    def _add_port(self, name: str, direction: str, bits: list[Bit]) -> None:
        self._module["ports"][name] = {"direction": direction, "bits": list(bits)}
        self._module["netnames"][name] = {"hide_name": 0, "bits": list(bits), "attributes": {}}

    def _remove_port(self, name: str) -> None:
        # The wires stay, under a name that no port has.
        del self._module["ports"][name]
        net = self._module["netnames"].pop(name, None)
        if net is not None:
            self._module["netnames"][f"unit_{name}"] = net

    def _rename_port(self, name: str, bits: list[Bit]) -> None:
        direction = self._module["ports"][name]["direction"]
        self._remove_port(name)
        self._add_port(name, direction, bits)

    def _cell(self, name: str, kind: str, parameters: dict[str, str], **connections: tuple[str, Bit]) -> None:
        self._module["cells"][name] = {
            "hide_name": 0,
            "type": kind,
            "parameters": parameters,
            "attributes": {},
            "port_directions": {port: direction for port, (direction, _) in connections.items()},
            "connections": {port: [bit] for port, (_, bit) in connections.items()},
        }

    def _flip_flop(self, name: str, clock: Bit, *, data: Bit, output: Bit) -> None:
        if self.family == "ecp5":
            parameters = {
                "CEMUX": "1 ",  # the space makes it a text: a value of only zeros and ones is read as a number
                "CLKMUX": "CLK",
                "GSR": "DISABLED",
                "LSRMUX": "LSR",
                "REGSET": "RESET",
                "SRMODE": "LSR_OVER_CE",
            }
            ports = {"CLK": ("input", clock), "DI": ("input", data), "LSR": ("input", "0"), "Q": ("output", output)}
            self._cell(name, "TRELLIS_FF", parameters, **ports)
        else:
            self._cell(name, "SB_DFF", {}, C=("input", clock), D=("input", data), Q=("output", output))

    def _select(self, name: str, select: Bit, high: Bit, low: Bit, *, output: Bit) -> None:
        table = {"A": "I0", "B": "I1", "C": "I2", "D": "I3", "Z": "O"}
        # Entry i of the table holds: bit 0 of i (select) ? bit 1 (high) : bit 2 (low).
        init = "".join(str((i >> 1 if i & 1 else i >> 2) & 1) for i in reversed(range(16)))
        ports = {
            "A": ("input", select),
            "B": ("input", high),
            "C": ("input", low),
            "D": ("input", "0"),
            "Z": ("output", output),
        }
        if self.family == "ecp5":
            self._cell(name, "LUT4", {"INIT": init}, **ports)
        else:
            self._cell(name, "SB_LUT4", {"LUT_INIT": init}, **{table[port]: value for port, value in ports.items()})
