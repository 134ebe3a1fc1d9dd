"""The accelerator for LiteX: a module with an AXI master `memory`, an AXI4-Lite slave `registers`, and `interrupt`."""

import json
from pathlib import Path

from litex.gen import LiteXModule
from litex.soc.interconnect import axi
from migen import ClockSignal, Instance, ResetSignal, Signal


class Driftless(LiteXModule):
    """The accelerator that ``python -m rtl_gen build`` wrote.

    Parameters
    ----------
    platform : GenericPlatform
        Gets the Verilog as a source.
    folder : Path
        What was built, with ``manifest.json`` and ``accelerator.v``.

    Attributes
    ----------
    memory : AXIInterface
        Its memory, for ``soc.bus.add_master`` or a port of LiteDRAM.
    registers : AXILiteInterface
        For ``soc.bus.add_slave``: 4 KiB, not cached.
    interrupt : Signal
        An event that software has enabled came.
    """

    def __init__(self, platform, folder):
        manifest = json.loads((Path(folder) / "manifest.json").read_text(encoding="utf-8"))
        ports = next(unit["ports"] for unit in manifest["units"] if unit["name"] == "accelerator")
        width = {port["name"]: port["width"] for port in ports}
        self.memory = axi.AXIInterface(
            data_width=width["memory_wdata"], address_width=width["memory_awaddr"], id_width=width["memory_awid"]
        )
        self.registers = axi.AXILiteInterface(data_width=32, address_width=width["registers_awaddr"])
        self.interrupt = Signal()

        self._buses = {"memory": self.memory, "registers": self.registers}
        own = {"clk": ClockSignal(), "rst": ResetSignal(), "interrupt": self.interrupt}
        self.specials += Instance(
            "accelerator",
            **{
                f"{port['direction'][0]}_{port['name']}": own[port["name"]] if port["name"] in own else self._of(port)
                for port in ports
            },
        )
        platform.add_source(str(Path(folder) / "accelerator.v"))

    def _of(self, port):
        """Signal of an interface that a port belongs to: ``memory_awaddr`` is ``memory.aw.addr``."""
        bus, _, signal = port["name"].partition("_")
        channel = next(name for name in ("aw", "ar", "w", "b", "r") if signal.startswith(name))
        return getattr(getattr(self._buses[bus], channel), signal.removeprefix(channel))
