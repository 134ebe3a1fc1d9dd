"""The parts and boards that `fpga` builds for: what they hold, and how their tools are called."""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

from golden.common import names


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """An FPGA.

    Parameters
    ----------
    name : str
        Name in reports, with package and speed grade.
    family : str
        ``"ecp5"`` or ``"ice40"``.
    synthesis : str
        Yosys command that maps to it.
    place : tuple of str
        Options of nextpnr that choose it.
    pins : int
        Pins a design can use.
    capacity : mapping of str to int
        What it holds, by the names of `fpga.netlist.Cells`.
    leaf_target : str
        Leaves of `hw.arith` that fit it.
    beyond_pins : str
        How a design with more ports than there are pins is measured, see `fpga.flow.Mode`.
    routing : mapping of str to str
        Settings under which a placed design is routed, by nextpnr's names; none: placed and routed in one run.
    empty_tiles : tuple of (int, int)
        Logic tiles, column and row, that are kept empty if the design leaves room for that.
    """

    name: str
    family: str
    synthesis: str
    place: tuple[str, ...]
    pins: int
    capacity: Mapping[str, int]
    leaf_target: str = "generic"
    beyond_pins: str = "serial harness"
    routing: Mapping[str, str] = dataclasses.field(default_factory=dict)
    empty_tiles: tuple[tuple[int, int], ...] = ()

    @property
    def for_machines(self) -> "Part":
        """The same part for a whole machine.

        Without wide multiplexers, which cost more look-up tables than they save: on control and near memory 3 to 26 %
        fewer LUT4 (``synth_ecp5 -nowidelut``), no slower. On pins, since clock, resets and enables of tens of thousands
        of flip-flops need global wires. By nextpnr's second router: the first one rips up as much as it routes. With
        empty tiles in between, without which no machine was routed. Placed for the clock more than nextpnr does by
        itself (timing weight 10): half of a path is wires, and a machine is as wide as the part.
        """
        ecp5 = self.family == "ecp5"
        return dataclasses.replace(
            self,
            synthesis=self.synthesis + " -nowidelut" * ecp5,
            beyond_pins="serial harness",
            place=(*self.place, *(("--placer-heap-timingweight", "30") if ecp5 else ())),
            routing={"router": "router2"} if ecp5 else {},
            empty_tiles=_EMPTY_TILES.get(self.name, ()),
        )


ECP5_85F = Part(
    name="LFE5U-85F-6BG381",
    family="ecp5",
    # No pads: nextpnr adds them where a design has pins, and a design out of context must have none.
    synthesis="synth_ecp5 -noiopad",
    place=("--85k", "--package", "CABGA381", "--speed", "6"),
    pins=197,
    capacity={"luts": 83640, "ff": 83640, "dsp": 156, "bram": 208},
    leaf_target="ecp5",
    beyond_pins="out of context",
)

ECP5_25F = dataclasses.replace(
    ECP5_85F,
    name="LFE5U-25F-6BG381",
    place=("--25k", *ECP5_85F.place[1:]),
    capacity={"luts": 24288, "ff": 24288, "dsp": 28, "bram": 56},
)

UP5K = Part(
    name="iCE40UP5K-SG48",
    family="ice40",
    synthesis="synth_ice40 -device u -dsp",
    place=("--up5k", "--package", "sg48"),
    pins=39,
    capacity={"luts": 5280, "ff": 5280, "dsp": 8, "bram": 30},
)

# Every second tile of every second row; rows 10, 22, 34, ... hold block RAM and multipliers.
_EMPTY_TILES = {
    ECP5_85F.name: tuple((column, row) for row in range(2, 85, 2) if row % 12 != 10 for column in range(16, 125, 2))
}

PARTS = {part.name: part for part in (ECP5_85F, ECP5_25F, UP5K)}
"""The parts by name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Board:
    """A board of amaranth-boards.

    Parameters
    ----------
    name : str
        Name on the command line.
    part : Part
        Its FPGA.
    clock_mhz : float
        Its oscillator, the default clock target.
    preset : str
        Default preset.
    platform : str
        Module and class of its Amaranth platform.
    leds : tuple of (str, int)
        LEDs of the demo: pass, fail, heartbeat.
    extras : str
        Attribute of the platform with resources that are not part of it until they are added.
    """

    name: str
    part: Part
    clock_mhz: float
    preset: str
    platform: str
    leds: tuple[tuple[str, int], tuple[str, int], tuple[str, int]]
    extras: str = ""

    def make_platform(self) -> Any:
        """Make the Amaranth platform; one platform serves one design."""
        module, _, name = self.platform.partition(":")
        platform = getattr(importlib.import_module(module), name)()
        if self.extras:
            platform.add_resources(getattr(platform, self.extras))
        return platform


BOARDS: dict[str, Board] = {
    board.name: board
    for board in (
        Board(
            name="ulx3s-85f",
            part=ECP5_85F,
            clock_mhz=25.0,
            preset="edge",
            platform="amaranth_boards.ulx3s:ULX3S_85F_Platform",
            leds=(("led", 0), ("led", 1), ("led", 2)),
        ),
        Board(
            name="ulx3s-25f",
            part=ECP5_25F,
            clock_mhz=25.0,
            preset="edge25",
            platform="amaranth_boards.ulx3s:ULX3S_25F_Platform",
            leds=(("led", 0), ("led", 1), ("led", 2)),
        ),
        Board(
            name="icebreaker",
            part=UP5K,
            clock_mhz=12.0,
            preset="tiny",
            platform="amaranth_boards.icebreaker:ICEBreakerPlatform",
            leds=(("led_g", 0), ("led_r", 0), ("led_g", 1)),
            extras="break_off_pmod",  # the heartbeat is there; the board itself has two LEDs
        ),
    )
}
"""The boards by name."""


def board(name: str) -> Board:
    """Board of that name.

    Raises
    ------
    ValueError
        If there is no such board.
    """
    return names.lookup("Board", name, BOARDS)
