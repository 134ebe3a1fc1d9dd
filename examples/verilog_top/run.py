"""Two units in a Verilog top of one's own: ``python examples/verilog_top/run.py [--simulator iverilog|verilator]``.

Emits the units, draws vectors and weights, simulates `testbench.v` and compares each sum with the golden model.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from golden.parameters import preset
from golden.units.delta_quantizer import delta_quantizer
from golden.units.multiplier_group import multiplier_group
from golden.units.weights import align_weights
from rtl_gen import tools

HERE = Path(__file__).resolve().parent

CHANGE = [0.00390625, 0.0037841796875, 0.0, 0.07421875]
WEIGHTS = [0.1263427734375, 0.034393310546875, 0.036041259765625, 0.041473388671875]
"""The group of docs/tutorial.md, which is played first."""


def draw(parameters, seed, sums=40):
    """Vectors of a few dot products: FP16 patterns (V, n), weights (V, n), scales, first, last (V,)."""
    draw = np.random.default_rng(seed)
    lengths = np.append(1, draw.integers(1, 6, sums))
    count, n = int(lengths.sum()), parameters.lanes
    values = (draw.standard_normal((count, n)) * np.exp2(draw.integers(-8, 4, (count, 1)))).astype(np.float16)
    values *= draw.random((count, n)) < 0.7
    last = np.zeros(count, bool)
    last[np.cumsum(lengths) - 1] = True
    weights = draw.standard_normal((count, n)).astype(np.float16)
    values[0], weights[0] = CHANGE, WEIGHTS
    aligned, exponents = align_weights(weights.view(np.uint16), parameters)
    scale = exponents - parameters.fraction_bits + 24  # the accumulator counts units of 2^-24
    return values.view(np.uint16), aligned, scale, np.roll(last, 1), last


def pack(fields):
    """Concatenate (value, bits) pairs, the first one on top."""
    word = 0
    for value, bits in fields:
        word = word << bits | int(value) & (1 << bits) - 1
    return word


def lanes(values, bits):
    """Lane 0 at the bottom."""
    return pack([(value, bits) for value in values[::-1]]), bits * len(values)


def simulate(simulator, folder):
    """Compile and run the test bench; returns what it printed."""
    sources = [str(HERE / name) for name in ("testbench.v", "dot_product.v")]
    sources += [f"units/{unit}.v" for unit in ("delta_quantizer", "multiplier_group")]
    if simulator == "iverilog":
        commands = [["iverilog", "-g2005", "-I", "units", "-o", "testbench.vvp", *sources], ["vvp", "testbench.vvp"]]
    else:
        options = ["--binary", "--timing", "-Wno-fatal", "-Wno-lint", "--top-module", "testbench", "-Iunits"]
        commands = [["verilator", *options, *sources], ["obj_dir/Vtestbench"]]
    for command in commands:
        done = subprocess.run(
            command, cwd=folder, env=tools.verilator_environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{command[0]} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def main():
    """Run the example; code 1 if a sum differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulator", choices=["iverilog", "verilator"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/examples/verilog_top"))
    given = parser.parse_args()
    simulator = given.simulator or ("iverilog" if shutil.which("iverilog") else "verilator")
    parameters, folder = preset("tiny"), given.out.absolute()
    units = ["--unit", "delta_quantizer", "--unit", "multiplier_group"]
    build = [sys.executable, "-m", "rtl_gen", "build", "--preset", "tiny", *units, "--out", str(folder / "units")]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)

    values, weights, scale, first, last = draw(parameters, given.seed)
    words = [
        pack(
            [
                (first[i], 1),
                (last[i], 1),
                (scale[i], 9),
                lanes(weights[i], parameters.weight_width),
                lanes(values[i], 16),
            ]
        )
        for i in range(len(values))
    ]
    (folder / "vectors.hex").write_text("\n".join(f"{word:x}" for word in [len(words), *words]) + "\n")

    groups = delta_quantizer(values, parameters).groups
    sums = multiplier_group(groups, weights, parameters, scale=scale, first=first, last=last)
    expected = [f"sum {total} {poisoned:d}" for total, poisoned in zip(sums.sum, sums.poisoned, strict=True)]
    found = [line for line in simulate(simulator, folder).splitlines() if line.startswith(("sum", "gave up"))]
    for number, (got, wanted) in enumerate(zip(found, expected, strict=False)):
        if got != wanted:
            sys.exit(f"Sum {number}: {simulator} printed {got!r}, golden says {wanted!r}")
    if len(found) != len(expected):
        sys.exit(f"{simulator} printed {len(found)} lines, golden has {len(expected)} sums")
    vectors = slice(0, 1 + int(np.argmax(last)))
    products = values[vectors].view(np.float16).astype(np.float64) * weights[vectors]
    exact = (products * np.exp2(scale[vectors, None] - 24.0)).sum()
    print(f"{len(words)} vectors, {len(expected)} sums, each equal to golden's ({simulator}, seed {given.seed})")
    once = sums.sum[0] / 2**24
    print(f"the first: {sums.sum[0]} units of 2^-24, {once:.4f} by one pass of 3 bits; exact {exact:.4f}")


if __name__ == "__main__":
    main()
