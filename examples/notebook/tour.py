# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A tour in pictures
#
# Four questions, each with a picture that this notebook computes: does the image drift, what does a
# bit buy, what crosses the link, and what keeps the machine busy? The network is the digits model
# of the example `pytorch_model`, eight images in ten steps, so that all of it takes seconds.

# %%
import contextlib
import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from golden.common import rooms
from golden.diffusion import Method, Sampling, compare, run
from golden.diffusion.cost.predict import Rates
from golden.diffusion.cost.traffic import step
from golden.diffusion.differential.profile import calibrate
from golden.machine.command import disassemble
from golden.machine.work import executed, timeline
from golden.parameters import preset
from rtl_gen.options import Machine
from rtl_gen.program.commands import on_machine
from rtl_gen.program.sampling import compile_sampling

ROOT = Path(rooms.__file__).resolve().parents[2]
HOME = ROOT / "examples/pytorch_model"
sys.path.insert(0, str(HOME))
with contextlib.chdir(HOME):
    from digits8 import network

    digits = network()
sampling = Sampling(digits, list(range(8)), steps=10, seed=1)
methods = {name: Method.named(name) for name in ("paper", "closed-int3", "closed-int4", "raw-int8")}

# %% [markdown]
# ## Drift
#
# PSNR of the sample against the dense sampling, after each step. The published dataflow never
# corrects what it loses; the closed loop sends the difference to what its readers really hold.

# %%
rows = compare(sampling, methods)
figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
for row in rows:
    axes.plot(range(1, 11), row["drift"], marker="o", label=row["method"])
axes.set(xlabel="step", ylabel="PSNR, dB")
axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# ## What a bit buys
#
# The same methods by bits on the link, for an element there and back (32 for raw FP16).

# %%
notes = {name: run(sampling.of([3]), method, measured=True).measure for name, method in methods.items()}
costs = {name: step(digits, methods[name], Rates.measured(notes[name], joint=True)) for name in methods}
figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
for row in rows:
    name = row["method"]
    axes.scatter(32 * costs[name].ratio, row["psnr_mean"], label=name)
axes.set(xlabel="bits on the link", ylabel="PSNR, dB")
axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# ## Traffic
#
# Bytes of one step: over the link between core and near memory, in and out, and between near memory
# and DRAM.

# %%
parts = {"link in": "link_in", "link out": "link_out", "memory read": "read", "memory written": "written"}
figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
left = np.zeros(len(costs))
for label, attribute in parts.items():
    values = np.array([getattr(cost, attribute) for cost in costs.values()]) / 1024
    axes.barh(list(costs), values, left=left, label=label)
    left += values
axes.set(xlabel="KiB a step")
axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# ## What the machine does
#
# The same network as a program for the preset `edge`: the layers that move the end on by most
# clocks. These clocks are predicted, before any Verilog is there.

# %%
one = Sampling(digits, [3], steps=3, seed=1)
compiled = compile_sampling(one, on_machine(methods["closed-int3"], Machine("edge", preset("edge"))), calibrate(one))
program = compiled.program
line = timeline(executed(disassemble(program.words())), program.parameters)
figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
longest = sorted(line.by_tag, key=line.by_tag.get)[-16:]
axes.barh([program.tags.get(tag, "") for tag in longest], [line.by_tag[tag] / 1000 for tag in longest])
axes.set(xlabel="thousands of clocks")
plt.show()

# %% [markdown]
# And this is what the emitted Verilog did with a block of the U-Net in one step, when `python -m
# sim machine` ran it: each bar is an operation of an engine. What overlaps costs nothing; where the
# array's line is empty, the machine waits.

# %%
trace = json.loads((ROOT / "docs/figures/trace.json").read_text(encoding="utf-8"))
section = next(section for section in trace["output"]["sections"] if section["ran"])
figure, axes = plt.subplots(figsize=(10, 3), layout="constrained")
for place, spans in enumerate(section["spans"].values()):
    bars = [(begin / 1000, (end - begin) / 1000) for begin, end in spans]
    axes.broken_barh(bars, (place - 0.35, 0.7), facecolor=f"C{place}", edgecolor="white", linewidth=0.3)
axes.set(yticks=range(len(section["spans"])), yticklabels=section["spans"], xlabel="thousands of clocks")
axes.set_title(f"{section['clocks']:,} clocks, array {section['use']:.0%} at work")
plt.show()
