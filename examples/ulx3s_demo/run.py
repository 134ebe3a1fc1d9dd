"""The demo on the ULX3S: ``python examples/ulx3s_demo/run.py [--build]``.

Simulates what the board does, some groups of it, and prints what its UART says: once as it is, once with a stored sum
falsified. With ``--build`` it places and routes the bitstream, too, which takes minutes.
"""

import argparse
import random
import subprocess
import sys

from amaranth.sim import Simulator

from fpga.content import recorded_content
from fpga.demo import Demo
from golden.parameters import preset

BIT_CLOCKS = 2
"""Clocks of a bit on the UART: short, so that the simulation is."""


def said(content, title):
    """What the demo says after its first round."""
    demo = Demo(content, title=title, bit_clocks=BIT_CLOCKS, pause_clocks=5, beat_clocks=50)
    text = bytearray()

    async def listen(ctx):
        while not text.endswith(b"\r\n"):
            await ctx.tick().until(~demo.tx)  # a start bit, one clock ago
            byte = 0
            for place in range(8):
                await ctx.tick().repeat(BIT_CLOCKS)
                byte |= ctx.get(demo.tx) << place
            await ctx.tick().repeat(BIT_CLOCKS)  # the stop bit
            text.append(byte)

    simulator = Simulator(demo)
    simulator.add_clock(1e-6)
    simulator.add_testbench(listen)
    simulator.run()
    return text.decode("ascii").strip()


def main():
    """Run the example; code 1 if the demo does not pass, or does not notice the wrong sum."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--groups", type=int, default=160, help="groups of the recorded layer")
    parser.add_argument("--build", action="store_true", help="place and route the bitstream for an LFE5U-85F, too")
    given = parser.parse_args()
    content = recorded_content(preset("edge"), given.groups)
    wrong = random.Random(given.seed).randrange(given.groups)

    passed, failed = said(content, "edge"), said(content.corrupted(wrong), "edge")
    print(passed)
    print(failed)
    if " PASS " not in passed or not failed.endswith(f"first wrong sum {wrong:04d}"):
        parser.exit(1, f"The first should pass, and the second name sum {wrong}\n")
    if given.build:
        parser.exit(
            subprocess.run([sys.executable, "-m", "fpga", "build", "--board", "ulx3s-85f", "--demo"]).returncode
        )


if __name__ == "__main__":
    main()
