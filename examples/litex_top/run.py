"""The accelerator in a LiteX system: ``python examples/litex_top/run.py``.

Emits the accelerator, builds a system of it, RAM and a port for a host, and lets Verilator read the Verilog that LiteX
writes together with the accelerator's.
"""

import argparse
import contextlib
import logging
import subprocess
import sys
from pathlib import Path

from driftless_litex import Driftless
from litex.build.generic_platform import Pins
from litex.build.sim import SimPlatform
from litex.gen import LiteXModule
from litex.soc.integration.soc import SoCRegion
from litex.soc.integration.soc_core import SoCMini
from litex.soc.interconnect import axi
from migen import ClockDomain

from rtl_gen import tools

REGISTERS = 0x3000_0000
"""Where the system has the registers; LiteX puts the RAM at 0x4000_0000."""


class Clocking(LiteXModule):
    """Clock and reset from pins."""

    def __init__(self, platform):
        self.cd_sys = ClockDomain()
        self.comb += [self.cd_sys.clk.eq(platform.request("clk")), self.cd_sys.rst.eq(platform.request("rst"))]


def system(folder, machine, ram):
    """Write ``soc.v``: the accelerator, so many bytes of RAM, and AXI4-Lite for a host, on one AXI bus."""
    host = axi.AXILiteInterface(data_width=32, address_width=32)
    platform = SimPlatform("SIM", [("clk", 0, Pins(1)), ("rst", 0, Pins(1)), *host.get_ios("host")])
    soc = SoCMini(
        platform,
        clk_freq=int(50e6),
        bus_standard="axi",
        bus_data_width=128,
        integrated_main_ram_size=ram,
    )
    soc.crg = Clocking(platform)
    soc.driftless = driftless = Driftless(platform, machine)
    soc.bus.add_slave("driftless", driftless.registers, SoCRegion(origin=REGISTERS, size=0x1000, cached=False))
    soc.bus.add_master("driftless", driftless.memory)
    soc.comb += host.connect_to_pads(platform.request("host"), mode="slave")
    soc.bus.add_master("host", host)
    soc.finalize()
    with contextlib.chdir(folder):  # LiteX writes contents of memories into files beside it
        platform.get_verilog(soc, name="soc").write("soc.v")


def call(command, folder):
    """Run a tool; exit with what it says if it fails."""
    done = subprocess.run(
        command, cwd=folder, env=tools.verilator_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def main():
    """Run the example; code 1 if Verilator refuses the system."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/examples/litex_top"))
    given = parser.parse_args()
    logging.disable(logging.INFO)  # LiteX tells its life
    folder = given.out.absolute()
    build = [sys.executable, "-m", "rtl_gen", "build", "--preset", "tiny", "--unit", "accelerator", "--out"]
    subprocess.run([*build, str(folder / "machine")], check=True, stdout=subprocess.DEVNULL)

    system(folder, folder / "machine", 1 << 16)
    print(f"{given.out}/soc.v: a system of {len((folder / 'soc.v').read_text().splitlines())} lines")
    sources = ["-Wno-fatal", "-Wno-lint", "-Imachine", "machine/accelerator.v", "soc.v"]
    call(["verilator", "--lint-only", "--top-module", "soc", *sources], folder)
    print("Verilator reads it with the accelerator in it")


if __name__ == "__main__":
    main()
