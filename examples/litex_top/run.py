"""The accelerator in a LiteX system: ``python examples/litex_top/run.py``.

Emits the accelerator, builds a system of it, RAM and a port for a host, and simulates that system in Verilator: the
host writes a program into RAM and starts it. What RAM holds in the end is compared with what the interpreter leaves.
"""

import argparse
import contextlib
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
from driftless_litex import Driftless
from host import HostPort
from litex.build.generic_platform import Pins
from litex.build.sim import SimPlatform
from litex.gen import LiteXModule
from litex.soc.integration.soc import SoCRegion
from litex.soc.integration.soc_core import SoCMini
from litex.soc.interconnect import axi
from migen import ClockDomain

from golden.diffusion import Builder, Method, Network, Sampling, initial
from golden.diffusion.differential.profile import calibrate
from golden.parameters import preset
from rtl_gen import tools
from rtl_gen.options import Machine
from rtl_gen.program.commands import on_machine
from rtl_gen.program.sampling import compile_sampling
from sim.machine import Driver, InterpreterPort

REGISTERS = 0x3000_0000
"""Where the system has the accelerator's registers."""

RAM = 0x4000_0000
"""Where LiteX puts the RAM."""


class Clocking(LiteXModule):
    """Clock and reset from pins."""

    def __init__(self, platform):
        self.cd_sys = ClockDomain()
        self.comb += [self.cd_sys.clk.eq(platform.request("clk")), self.cd_sys.rst.eq(platform.request("rst"))]


def system(folder, machine, size):
    """Write ``soc.v``: the accelerator, so many bytes of RAM, and AXI4-Lite for a host, on one AXI bus."""
    host = axi.AXILiteInterface(data_width=32, address_width=32)
    pins = [(name, 0, Pins(1)) for name in ("clk", "rst", "irq")]
    platform = SimPlatform("SIM", [*pins, *host.get_ios("host")])
    soc = SoCMini(
        platform,
        clk_freq=int(50e6),
        bus_standard="axi",
        bus_data_width=128,
        integrated_main_ram_size=size,
    )
    soc.crg = Clocking(platform)
    soc.driftless = driftless = Driftless(platform, machine)
    soc.bus.add_slave("driftless", driftless.registers, SoCRegion(origin=REGISTERS, size=0x1000, cached=False))
    soc.bus.add_master("driftless", driftless.memory)
    soc.comb += platform.request("irq").eq(driftless.interrupt)
    soc.comb += host.connect_to_pads(platform.request("host"), mode="slave")
    soc.bus.add_master("host", host)
    soc.finalize()
    with contextlib.chdir(folder):  # LiteX writes contents of memories into files beside it
        platform.get_verilog(soc, name="soc").write("soc.v")


def verilator(folder, *options):
    """Let Verilator read the system; exit with what it says if it refuses."""
    sources = ["-Imachine", "machine/accelerator.v", "soc.v"]
    command = ["verilator", "-Wno-fatal", "-Wno-lint", "--top-module", "soc", *sources, *options]
    done = subprocess.run(
        command, cwd=folder, env=tools.verilator_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"verilator failed:\n{(done.stdout + done.stderr)[-2000:]}")


def simulation(folder):
    """Compile the system and its host; the program."""
    host = str(Path(__file__).with_name("host.cpp"))
    build = ["--cc", "--exe", "--build", "-j", "2", "-O3", "-MAKEFLAGS", "OPT_FAST=-O1", "-Mdir", "model"]
    verilator(folder, *build, host)
    return folder / "model" / "Vsoc"


def small_program(seed):
    """A network of two convolutions with random weights, sampled in two steps, as a program."""
    b = Builder(initial(seed))
    h = b.activation("relu", b.convolution("first", "image", 1, 4), "relu")
    b.convolution("second", h, 4, 1)
    sampling = Sampling(Network("small", {"image": (1, 4, 4), "timestep": ()}, b.layers), 1, steps=2, seed=seed)
    method = on_machine(Method.named("closed-int3"), Machine("tiny", preset("tiny")))
    return compile_sampling(sampling, method, calibrate(sampling)).program


def main():
    """Run the example; code 1 if the memories differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/examples/litex_top"))
    parser.add_argument("--lint", action="store_true", help="only build it, and let Verilator read it")
    given = parser.parse_args()
    logging.disable(logging.INFO)  # LiteX tells its life
    folder = given.out.absolute()
    build = [sys.executable, "-m", "rtl_gen", "build", "--preset", "tiny", "--unit", "accelerator", "--out"]
    subprocess.run([*build, str(folder / "machine")], check=True, stdout=subprocess.DEVNULL)

    program = small_program(given.seed)
    size = 1 << (len(program.image) - 1).bit_length()
    system(folder, folder / "machine", size)
    print(f"{given.out}/soc.v: {size} bytes of RAM, {program.commands} commands for the accelerator")
    if given.lint:
        verilator(folder, "--lint-only")
        print("Verilator reads the system with the accelerator in it")
        return

    left = []
    with HostPort(simulation(folder), folder, program.parameters, REGISTERS, RAM, size) as port:
        for place in (port, InterpreterPort(program.parameters, np.zeros(size, np.uint8))):
            driver = Driver(place)
            driver.load(program)
            driver.run()
            driver.wait(timeout=1_000_000)
            left.append(place.memory[: len(program.image)])
        groups = driver.counters()["array_groups"]
    if (left[0] != left[1]).any():
        parser.exit(1, "RAM differs from the interpreter's memory\n")
    print(f"the program has multiplied {groups} groups; RAM is what the interpreter leaves, byte for byte")


if __name__ == "__main__":
    main()
