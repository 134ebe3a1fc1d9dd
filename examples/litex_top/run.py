"""The accelerator in a LiteX system: ``python examples/litex_top/run.py [--simulate]``.

Emits the accelerator, builds a system of it, RAM and a port for a host, and lets Verilator read the Verilog that LiteX
writes. With ``--simulate`` a host runs a program on that system, and the RAM is compared with the interpreter's memory.
"""

import argparse
import contextlib
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
from driftless_litex import Driftless
from litex.build.generic_platform import Pins
from litex.build.sim import SimPlatform
from litex.gen import LiteXModule
from litex.soc.integration.soc import SoCRegion
from litex.soc.integration.soc_core import SoCMini
from litex.soc.interconnect import axi
from migen import ClockDomain

from golden.diffusion import Builder, Method, Network, Sampling, initial
from golden.diffusion.differential.profile import calibrate
from golden.machine.command import UNIT_BYTES
from golden.machine.registers import register
from golden.parameters import preset
from rtl_gen import tools
from rtl_gen.options import Machine
from rtl_gen.program.commands import on_machine
from rtl_gen.program.sampling import compile_sampling
from sim.machine import Driver, InterpreterPort

HERE = Path(__file__).resolve().parent
REGISTERS, RAM = 0x3000_0000, 0x4000_0000
"""Where the system has the registers and the RAM."""


class Clocking(LiteXModule):
    """Clock and reset from pins."""

    def __init__(self, platform):
        self.cd_sys = ClockDomain()
        self.comb += [self.cd_sys.clk.eq(platform.request("clk")), self.cd_sys.rst.eq(platform.request("rst"))]


def system(folder, machine, ram):
    """Write ``soc.v``: the accelerator, RAM that holds `ram` (uint8), and AXI4-Lite for a host, on one AXI bus."""
    host = axi.AXILiteInterface(data_width=32, address_width=32)
    platform = SimPlatform("SIM", [("clk", 0, Pins(1)), ("rst", 0, Pins(1)), *host.get_ios("host")])
    words = [int.from_bytes(word, "little") for word in ram.reshape(-1, 16)]
    soc = SoCMini(
        platform,
        clk_freq=int(50e6),
        bus_standard="axi",
        bus_data_width=128,
        integrated_main_ram_size=len(ram),
        integrated_main_ram_init=words,
    )
    soc.crg = Clocking(platform)
    soc.driftless = driftless = Driftless(platform, machine)
    soc.bus.add_slave("driftless", driftless.registers, SoCRegion(origin=REGISTERS, size=0x1000, cached=False))
    soc.bus.add_master("driftless", driftless.memory)
    soc.comb += host.connect_to_pads(platform.request("host"), mode="slave")
    soc.bus.add_master("host", host)
    soc.finalize()
    with contextlib.chdir(folder):  # the RAM's content goes into a file of its own
        platform.get_verilog(soc, name="soc").write("soc.v")


def small_program(parameters, seed):
    """A sampling of two steps by a network of two convolutions with random weights."""
    b = Builder(initial(seed))
    h = b.activation("relu", b.convolution("first", "image", 1, 4), "relu")
    b.convolution("second", h, 4, 1)
    sampling = Sampling(Network("small", {"image": (1, 4, 4), "timestep": ()}, b.layers), 1, steps=2, seed=seed)
    method = on_machine(Method.named("closed-int3"), Machine("tiny", parameters))
    return compile_sampling(sampling, method, calibrate(sampling)).program


def host_script(program):
    """What the host writes: the lines of ``writes.hex``, address and value."""
    values = {"watchdog": 1 << 16, "program": program.operand.encode(), "program_size": program.commands}
    for number, (base, limit) in enumerate(program.regions):
        values |= {f"region{number}_base": base + RAM // UNIT_BYTES, f"region{number}_limit": limit}
    start = next(field.mask for field in register("control").fields if field.name == "start")
    pairs = [(REGISTERS + register(name).offset, value) for name, value in values.items()]
    pairs.append((REGISTERS + register("control").offset, start))
    return "".join(f"{address:08x}{value:08x}\n" for address, value in pairs)


def call(command, folder):
    """Run a tool; exit with what it says if it fails."""
    done = subprocess.run(
        command, cwd=folder, env=tools.verilator_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def main():
    """Run the example; code 1 if the memories differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--simulate", action="store_true", help="run a program, too; compiling takes minutes")
    parser.add_argument("--out", type=Path, default=Path("build/examples/litex_top"))
    given = parser.parse_args()
    logging.disable(logging.INFO)  # LiteX tells its life
    folder = given.out.absolute()
    build = [sys.executable, "-m", "rtl_gen", "build", "--preset", "tiny", "--unit", "accelerator", "--out"]
    subprocess.run([*build, str(folder / "machine")], check=True, stdout=subprocess.DEVNULL)

    program = small_program(preset("tiny"), given.seed)
    memory = np.zeros(1 << max(12, len(program.image).bit_length()), np.uint8)
    memory[: len(program.image)] = program.image
    system(folder, folder / "machine", memory)
    print(f"{given.out}/soc.v: a system of {len((folder / 'soc.v').read_text().splitlines())} lines")
    sources = ["-Wno-fatal", "-Wno-lint", "-Imachine", "machine/accelerator.v", "soc.v"]
    call(["verilator", "--lint-only", "--top-module", "soc", *sources], folder)
    print("Verilator reads it with the accelerator in it")
    if not given.simulate:
        return

    (folder / "writes.hex").write_text(host_script(program))
    call(["verilator", "--binary", "--timing", "-O1", "--top-module", "host", *sources, str(HERE / "host.v")], folder)
    status = f"{REGISTERS + register('status').offset:x}"
    print(call(["obj_dir/Vhost", f"+status={status}"], folder).splitlines()[0])
    driver = Driver(InterpreterPort(program.parameters, memory))
    driver.load(program)
    driver.run()
    driver.wait(timeout=1)
    text = (folder / "ram.hex").read_text()
    words = [line for line in text.splitlines() if not line.startswith("//")]
    found = np.frombuffer(b"".join(int(word, 16).to_bytes(16, "little") for word in words), np.uint8)
    if not np.array_equal(found, driver.port.memory):
        parser.exit(1, f"{int((found != driver.port.memory).sum())} bytes of the RAM differ from the interpreter's\n")
    print(
        f"RAM is equal to the interpreter's memory, {int((found != program.image[: len(found)]).sum())} bytes changed"
    )


if __name__ == "__main__":
    main()
