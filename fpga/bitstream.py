"""The demo on a board: pins from amaranth-boards, place and route over seeds, and the bitstream of the fastest."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import io

from fpga.content import Content
from fpga.demo import Demo, clocks
from fpga.flow import Flow, Measurement
from fpga.mapped import Cells
from fpga.parts import Board, Part
from rtl_gen import tools

_NAME = "driftless_demo"


class BoardDemo(Elaboratable):
    """A demo on the pins of a board.

    Parameters
    ----------
    demo : Demo
        The demo, with the board's timing.
    board : Board
        Names the LEDs.
    """

    def __init__(self, demo: Demo, board: Board):
        self._demo = demo
        self._board = board

    def elaborate(self, platform: Any) -> Module:  # noqa: D102
        m = Module()
        m.submodules.demo = self._demo
        for index, (resource, number) in enumerate(self._board.leds):
            led = io.Buffer("o", platform.request(resource, number, dir="-"))
            m.submodules[f"led{index}"] = led
            m.d.comb += led.o.eq(self._demo.leds[index])
        m.submodules.tx = tx = io.Buffer("o", platform.request("uart", 0, dir="-").tx)
        m.d.comb += tx.o.eq(self._demo.tx)
        return m


def build_demo(
    flow: Flow, board: Board, content: Content, *, title: str, seeds: Iterable[int], folder: Path
) -> tuple[Measurement, Path]:
    """Build the demo for a board.

    Parameters
    ----------
    flow : Flow
        Tools.
    board : Board
        The board.
    content : Content
        What the ROMs hold.
    title : str
        What the demo calls the machine.
    seeds : iterable of int
        Seeds of the placer; the fastest is packed.
    folder : Path
        Where the bitstream goes.

    Returns
    -------
    tuple of Measurement and Path
        The figures and the bitstream.

    Raises
    ------
    ToolError
        If a tool fails, or the design does not fit.
    """
    platform = board.make_platform()
    demo = Demo(content, title=title, **clocks(board.clock_mhz * 1e6))
    # The platform's own build script wants tools named as their authors name them; its files are all that is needed.
    plan = platform.prepare(BoardDemo(demo, board), _NAME, debug_verilog=False)
    ecp5 = board.part.family == "ecp5"
    constraints = _text(plan.files[f"{_NAME}.{'lpf' if ecp5 else 'pcf'}"])
    netlist = flow.synthesise(_text(plan.files[f"{_NAME}.il"]), _NAME, board.part, "rtlil")
    cells = netlist.cells
    flow.require_room(cells, f"The demo of {title}", board.part)
    placements = flow.place_all(netlist, board.part, seeds, constraints=constraints)
    measurement = Measurement(
        name="demo",
        part=board.part.name,
        mode="pins",
        cells=cells,
        harness=Cells(),
        placements=tuple(placements),
    )
    return measurement, pack(measurement.best.configuration, board.part, folder, _NAME)


def pack(configuration: str, part: Part, folder: Path, name: str) -> Path:
    """Make a bitstream.

    Parameters
    ----------
    configuration : str
        Of a placement.
    part : Part
        Where that is.
    folder : Path
        Where the bitstream goes.
    name : str
        Its name, without an ending.

    Returns
    -------
    Path
        The bitstream.

    Raises
    ------
    ToolError
        If the packer fails.
    """
    ecp5 = part.family == "ecp5"
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / f"{name}.{'config' if ecp5 else 'asc'}"
    source.write_text(configuration, encoding="utf-8")
    bitstream = folder / f"{name}.{'bit' if ecp5 else 'bin'}"
    # The packers see the folder they run in.
    if ecp5:
        command = [*tools.ecppack_command(), "--compress", "--input", source.name, "--bit", bitstream.name]
    else:
        command = [*tools.icepack_command(), source.name, bitstream.name]
    tools.run(command, cwd=folder, log=folder / "pack.log")
    return bitstream


def _text(content: str | bytes) -> str:
    return content.decode("utf-8") if isinstance(content, bytes) else content
