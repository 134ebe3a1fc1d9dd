"""A program of a network of one's own: compiled, listed, run by both executors.

``python examples/program/run.py [--verilog]``: without the option by the interpreter alone, which takes seconds.
"""

import argparse

import numpy as np

from golden.diffusion import Builder, Method, Network, Sampling, initial, layers
from golden.diffusion.differential.profile import calibrate
from golden.machine.command import disassemble
from golden.parameters import preset
from hw.accelerator import Accelerator
from rtl_gen.options import Machine
from rtl_gen.program.commands import on_machine
from rtl_gen.program.sampling import compile_sampling
from sim.machine import Driver, InterpreterPort
from sim.machine.verilated import MachineModel, Memory, VerilatedPort


def network(seed):
    """A small denoiser of 8 x 8 images, with random weights: two convolutions, a norm, a time shift, a residual."""
    b = Builder(initial(seed))
    time = b.linear("time", b.add(layers.TimeEncoding, "encoding", "timestep", channels=16), 16, 16)
    top = b.convolution("stem", "image", 1, 16)
    h = b.activation("silu", b.group_norm("norm", top, 16, 4), "silu")
    h = b.convolution("conv", h, 16, 16)
    h = b.add(layers.AddChannel, "shifted", h, b.linear("shift", time, 16, 16))
    h = b.add(layers.Add, "residual", top, h)
    b.convolution("head", b.activation("relu", h, "relu"), 16, 1)
    return Network("small", {"image": (1, 8, 8), "timestep": ()}, b.layers)


def main():
    """Run the example; code 1 if the memories differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--verilog", action="store_true", help="run the emitted Verilog, too; compiling it takes minutes"
    )
    given = parser.parse_args()

    method = on_machine(Method.named("closed-int3"), Machine("tiny", preset("tiny")))
    sampling = Sampling(network(given.seed), 1, steps=3, seed=given.seed)
    program = compile_sampling(sampling, method, calibrate(sampling)).program
    listing = disassemble(program.words())
    print(f"{len(listing)} commands, {len(program.image)} bytes of memory; the first five:")
    for command in listing[:5]:
        print(f"  {str(command)[:90]} ...")

    ports = {"interpreter": InterpreterPort}
    if given.verilog:
        model = MachineModel(Accelerator(program.parameters), optimise="-O1")
        ports["verilog"] = lambda parameters, memory: VerilatedPort(model, parameters, memory, Memory())
    left = {}
    for name, port in ports.items():
        driver = Driver(port(program.parameters, np.zeros(len(program.image), np.uint8)))
        driver.load(program)
        driver.run()
        driver.wait(timeout=50_000_000)
        left[name] = driver.port.memory.copy()
        groups = driver.counters()["array_groups"]
        print(f"{name}: {groups} groups multiplied, {int((left[name] != program.image).sum())} bytes of memory changed")
    if any((memory != left["interpreter"]).any() for memory in left.values()):
        parser.exit(1, "The memories differ\n")
    if given.verilog:
        print("memories are equal, byte for byte")


if __name__ == "__main__":
    main()
