"""Figures of README and docs: recorded from the commands that print them, written into the pages, compared by a test.

::

    python docs/figures/record.py                   # what is recorded: command, commit, about how long it takes
    python docs/figures/record.py fidelity-50       # run the command again, keep its output, write the pages
    python docs/figures/record.py all               # every one, shortest first
    python docs/figures/record.py pages             # write the pages from what is recorded, and run nothing

A recording is ``docs/figures/NAME.json``: ``command``, ``commit`` it ran at, ``output`` (what ``--json`` printed,
without what differs from run to run). A table of a page stands between two comments, ``figures: NAME`` and ``end of
figures``.
"""

import dataclasses
import itertools
import json
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from golden.diffusion import zoo
from golden.diffusion.cost.ranking import merits
from golden.diffusion.differential.method import Method
from golden.parameters import preset
from rtl_gen import options
from rtl_gen.program.commands import on_machine
from sim.bench import BENCHES
from sim.machine import figures

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).resolve().parent

VOLATILE = (
    "drift",
    "seconds",
    "compile s",
    "time_ratio",
    "file",
    "plot",
    "critical_path",
    "harness",
    "used",
    "clocks a second",
)
"""Keys that differ from run to run, or that no page shows."""

NETWORKS = ("unet", "unet-silu", "dit")
METHODS = ("paper", "closed-int3", "closed-int4", "raw-int8", "raw-int8-tensor")
STEPS = (20, 50, 100)
_COMPARE = "python -m golden compare --network unet,unet-silu,dit --steps {} --count 16 --json"

RANKED = (
    *("closed-int3", "closed-int3: n = 16", "closed-int3: m = 1", "closed-int4", "closed-int4: n = 16"),
    *("closed-int4: m = 1", "raw-int8", "raw-int8-tensor", "paper", "diffy: digits of closed-int3"),
)
"""Variants whose merits stand beside each other."""

_SMALL_AND_LARGE = ("edge25", "ulx3s")

_STREAM = "python -m golden stream --video move,turn,blend"

_INTERVALS = (1, 2, 3, 5)
"""Distances of cache steps."""

COMMANDS: dict[str, tuple[str, int]] = {
    "stream": (f"{_STREAM} --method closed-int3,paper --reference frames,timesteps --json", 1),
    "stream-cached": (f"{_STREAM} --method dense,closed-int3,closed-int4 --frames 16 --cache 1,2,3 --json", 1),
    **{
        f"cached-{interval}": (
            "python -m golden compare --network unet --steps 50 --count 4 --method dense,closed-int3,closed-int4 "
            f"--cache {interval} --json",
            1,
        )
        for interval in _INTERVALS
    },
    "traffic": ("python -m golden traffic --network unet,unet-silu,dit,sd15,dit-xl-2 --json", 1),
    "sample-200": ("python -m golden sample --count 200 --json", 1),
    "fidelity-20": (_COMPARE.format(20), 2),
    "machines-3": ("python -m sim compare --network unet --steps 3 --plot docs/images/machines.png --json", 2),
    "machines-20": ("python -m sim compare --network unet --steps 20 --label 3 --json", 4),
    "use": ("python -m rtl_gen forecast --network unet,dit --by layer --json", 2),
    "layer": ("python -m sim layer --steps 1:6 --json", 3),
    "trace": (
        "python -m sim machine --preset tiny --set group_buffer=4096 --set weight_buffer=2048 --steps 2:3 "
        "--overlapped --trace build/trace.json --json",
        3,
    ),
    "fidelity-50": (_COMPARE.format(50), 4),
    "fidelity-100": (_COMPARE.format(100), 8),
    "verilog-dit": ("python -m sim sample --network dit --label 7 --steps 20 --preset edge --json", 5),
    "verilog-unet-silu": (
        "python -m sim sample --network unet-silu --label 5 --steps 20 --guidance 3 --preset edge --json",
        6,
    ),
    "verilog-unet": (
        "python -m sim sample --network unet --label 3 --steps 50 --preset edge --png docs/images/verilog.png --json",
        7,
    ),
    **{
        f"rate-{name}": (
            f"python -m sim sample --network unet --label 3 --steps 50 --preset {name} --set link_form=direct "
            "--clock 50 --json",
            10,
        )
        for name in _SMALL_AND_LARGE
    },
}
"""Command of each recording, and minutes that it takes on two cores."""

AGAIN = " --seed 20261128"
"""The second seed of every variant."""

SWEEPS: dict[str, tuple[str, int]] = {
    f"sweep-{network}-{steps}{'-again' if seed else ''}": (
        f"python -m golden sweep --network {network} --steps {steps} --count 16{seed} --json",
        minutes,
    )
    for seed, steps, minutes in (("", 50, 6), ("", 20, 3), (AGAIN, 50, 6), (AGAIN, 20, 3))
    for network in NETWORKS
}
"""Every variant, on each network; tables have the columns of those that are recorded."""


MUTANTS: dict[str, tuple[str, int]] = {
    f"mutants-{unit}-{seed}": (f"python -m sim mutate {unit} --count 150 --seed {seed} --json", 5)
    for seed in (0, 1)
    for unit in BENCHES
}
"""Mutants of every unit; the table has the seeds that are recorded."""

INTERPRETED: dict[str, tuple[str, int]] = {
    f"interpreted-{preset}-{method}-{seed}": (
        f"python -m sim sample --executor golden --network unet --method {method} --preset {preset} --images 4 "
        f"--seed {seed} --json",
        2,
    )
    for preset, method, seed in itertools.product(("ulx3s", "edge"), ("closed-int3", "closed-int4"), range(4))
}
"""Four times four images by the interpreter; the table has those that are recorded."""

PROGRAMS: dict[str, tuple[str, int]] = {
    f"program-{network}": (
        f"python -m rtl_gen forecast --network {network} --preset paper-sized --images 1 --method {method} "
        f"--by step --plot docs/images/program-{network}.png --json",
        minutes,
    )
    for network, method, minutes in (
        ("sd15", "closed-int3", 5),
        ("dit-xl-2", "closed-int3", 2),
        ("stdit-xl-2", "docs/figures/methods/raw-attention.json", 20),
    )
}
"""Published networks as programs; the table has those that are recorded."""

EVERY = COMMANDS | SWEEPS | MUTANTS | INTERPRETED | PROGRAMS


@dataclasses.dataclass(frozen=True)
class Recording:
    """What a command printed."""

    command: str
    commit: str
    output: Any

    @classmethod
    def load(cls, name: str) -> "Recording":
        """The one that is kept; OSError if there is none."""
        return cls(**json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")))

    @classmethod
    def found(cls, names: Iterable[str]) -> "dict[str, Recording]":
        """Those of `names` that are kept."""
        return {name: cls.load(name) for name in names if (FOLDER / f"{name}.json").exists()}

    @property
    def source(self) -> str:
        """Line of a page that says where figures are from."""
        return f"`{self.command.removesuffix(' --json')}`, commit `{self.commit}`"


# Tables -------------------------------------------------------------------------------------------------------------


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _psnr(row: dict[str, Any]) -> str:
    """Mean and least PSNR of images; None is one without limit."""
    return "exact" if row["psnr_mean"] is None else f"{row['psnr_mean']:.1f} ({row['psnr_min']:.1f})"


def _compared(steps: int) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["method"], row["network"]): row for row in Recording.load(f"fidelity-{steps}").output}


def _of_methods(cell: Callable[[dict[str, Any]], str]) -> list[str]:
    """A row for each method, a column for each network and number of steps."""
    found = {steps: _compared(steps) for steps in STEPS}
    columns = [(network, steps) for network in NETWORKS for steps in STEPS]
    head = ["method", *(f"{network}, {steps}" for network, steps in columns)]
    body = [[f"`{method}`", *(cell(found[steps][method, network]) for network, steps in columns)] for method in METHODS]
    return [*_table(head, body), "", *(f"{Recording.load(f'fidelity-{steps}').source}.  " for steps in STEPS)]


def psnr() -> list[str]:
    """PSNR of every method, network and number of steps, the least image in brackets."""
    return _of_methods(_psnr)


def structure() -> list[str]:
    """SSIM, and the share of images that are classified like the dense ones."""
    return _of_methods(lambda row: f"{row['ssim_mean']:.3f} / {row['agreement']:.2f}")


def frechet() -> list[str]:
    """Frechet distance to real digits."""
    return _of_methods(lambda row: f"{row['frechet']:.2f}")


def summary() -> list[str]:
    """The README's: PSNR of 50 steps in words, and what machines do in three over Diffy's dataflow."""
    words = {
        "paper": "published open loop",
        "closed-int3": "closed loop, INT3, m = 0",
        "closed-int4": "closed loop, INT4, m = 0",
        "raw-int8": "INT8 under group exponents",
        "raw-int8-tensor": "INT8, one scale a tensor",
        "diffy": "Diffy's dataflow",
    }
    found, ran = _compared(50), Recording.load("machines-3")
    counted = {row["method"]: (row["clocks"] * row["cost"], row["link"], row["memory MB"]) for row in ran.output}

    def cells(method: str) -> Iterator[str]:
        for network in NETWORKS:
            yield f"{found[method, network]['psnr_mean']:.1f} dB" if (method, network) in found else ""
        for own, other in zip(counted.get(method, [None] * 3), counted["diffy"], strict=True):
            yield "" if own is None else f"{own / other:.2f}"

    rows = [[f"{text} (`{method}`)", *cells(method)] for method, text in words.items()]
    return [
        *_table(["method", "U-Net, ReLU", "U-Net, SiLU", "DiT", "clocks", "link", "memory"], rows),
        "",
        f"{Recording.load('fidelity-50').source}.  ",
        f"{ran.source}.",
    ]


def ranking() -> list[str]:
    """PSNR of variants over what they cost."""
    found = Recording.load("sweep-unet-50")
    rows = {row["variant"]: row for row in merits(found.output)}
    body = [
        [f"`{name}`", *(f"{rows[name][key]:{form}}" for key, form in zip(_RANKS, _FORMS, strict=True))]
        for name in RANKED
    ]
    return [*_table(["variant", *_RANKS], body), "", f"{found.source}."]


_RANKS = ("psnr_mean", "link_bits", "area_cycles", "db_per_byte", "db_per_area")
_FORMS = (".1f", ".1f", ".1f", ".1f", ".2f")


def sweep_rows(name: str) -> dict[str, dict[str, Any]]:
    """Rows of a sweep by variant, none if it is not recorded."""
    return {row["variant"]: row for of in Recording.found([name]).values() for row in of.output}


def _swept(*names: str) -> list[str]:
    """Rows of variants, one change each; a pattern that ends in a star stands for all that begin like it.

    A column for each network and number of steps: dB, mean (least); behind a stroke the mean of the second seed.
    """
    first = sweep_rows("sweep-unet-50")
    recorded = {name: rows for name in SWEEPS if (rows := sweep_rows(name))}
    columns = [name for name in recorded if not name.endswith("-again")]
    chosen = [row for row in first for name in names if row == name or name[-1] == "*" and row.startswith(name[:-1])]
    body = []
    for name in chosen:
        cells = []
        for column in columns:
            row, again = recorded[column][name], recorded.get(f"{column}-again")
            other = f" / {again[name]['psnr_mean']:.1f}" if again and name in again else ""
            cells.append(f"{row['psnr_mean']:.1f}{other} ({row['psnr_min']:.1f})")
        row, lut = first[name], first[name]["area_cycles"]
        cost = "" if lut is None else f"{lut:.0f}"
        body.append([name, *cells, f"{row['link_bits'] / 32:.3f}", f"{row['array']:.2f}", cost])
    heads = [", ".join(column.removeprefix("sweep-").rsplit("-", 1)) for column in columns]
    head = ["variant", *heads, "link", "array", "LUT clocks"]
    return [*_table(head, body), "", *(f"{Recording.load(name).source}.  " for name in recorded)]


def _changes(*what: str) -> list[str]:
    """Both closed loops, each as it is and with each change."""
    changes = ["", *(f": {one}" for one in what)]
    return [base + change for base in ("closed-int3", "closed-int4") for change in changes]


def digits() -> list[str]:
    """Digits, lanes, weights and passes of the closed loop, beside rivals."""
    changed = ("n = 16", "m = 1", "m = 2", "F = 12", "F = 14", "two passes in 4 early and 2 late steps")
    changed += ("one pass early", "one pass at the end", "one pass for the mix of attention")
    return _swept(*_changes(*changed), "raw-int8", "raw-int8-tensor")


def outputs() -> list[str]:
    """Bits of outputs."""
    return _swept(*_changes("even output bits", "even output bits, one more", "one output bit*"))


def states() -> list[str]:
    """Widths of states."""
    return _swept(*_changes("state*"))


def open_loop() -> list[str]:
    """The published rules, and what changes when they do."""
    return _swept("paper*", "diffy*")


def layer() -> list[str]:
    """Steps of a layer in RTL."""
    found = Recording.load("layer")
    head = ["step", "zero / inlier / outlier", "cycles per group", "bits per input element (list + bitmap, entropy)"]
    head += ["bits per output element, 4 passes", "flipped signs of 4,096", "PSNR of the output"]
    rows = []
    for row in found.output["steps"]:
        sides = [
            f"{row[f'{side}_bits']:.2f} ({row[f'{side}_list_bitmap']:.2f}, {row[f'{side}_entropy']:.2f})"
            for side in ("input", "output")
        ]
        shares = f"{100 * row['zero']:.1f} / {100 * row['inlier']:.1f} / {100 * row['outlier']:.2f} %"
        cycles = f"{row['cycles per group']:.3g}"
        rows.append([str(row["step"]), shares, cycles, *sides, str(row["flips"]), f"{row['psnr']:.1f} dB"])
    return [*_table(head, rows), "", f"{found.source}."]


def drawn() -> list[str]:
    """Samplings by the Verilog of the whole machine."""
    head = ["network", "machine", "steps", "clocks", "on paper", "use of the array", "attention: MACs, clocks"]
    head += ["PSNR", "digit", "MB moved"]
    rows, sources = [], []
    for name in ("verilog-unet", "verilog-unet-silu", "verilog-dit", *map("rate-{}".format, _SMALL_AND_LARGE)):
        found = Recording.load(name)
        (run,), (image,) = found.output["run"], found.output["images"]
        attention = next(row for row in found.output["layers"] if row["layers"] == "attention")
        shares = f"{100 * attention['share of MACs']:.1f} %, {100 * attention['share of clocks']:.1f} %"
        moved = sum(row["read MB"] + row["written MB"] for row in found.output["flows"])
        cells = [f"`{found.output['network']}`", f"`{found.output['machine']}`", str(found.output["steps"])]
        cells += [f"{run['clocks']:,}", f"{run['predicted']:,}"]
        cells += [f"{run['use']:.3f}", shares, f"{image['PSNR dB']} dB", str(image["classified"]), f"{moved:.0f}"]
        rows.append(cells)
        if name.startswith("verilog"):
            sources.append(f"{found.source}.  ")
    return [*_table(head, rows), "", *sources]


def interpreted() -> list[str]:
    """Samplings by the interpreter: what their images are like, and what they take on the link and in memory."""
    head = ["machine", "method", "images", "PSNR, dB: mean", "scatter", "least", "SSIM", "classified alike"]
    head += ["bits of an operand", "of an output", "link", "MB an image"]
    kept: dict[tuple[str, str], list[Recording]] = {}
    for found in Recording.found(INTERPRETED).values():
        kept.setdefault((found.output["machine"], found.output["method"]), []).append(found)
    rows, sources = [], []
    for (machine, method), runs in kept.items():
        images = [row for run in runs for row in run.output["images"]]
        ratios = [row["PSNR dB"] for row in images]
        alike = sum(row["classified"] == row["dense classified"] for row in images)
        links = [run.output["link"][0] for run in runs]
        moved = sum(row["read MB"] + row["written MB"] for run in runs for row in run.output["flows"])
        cells = [f"`{machine}`", f"`{method}`", str(len(images)), f"{statistics.mean(ratios):.1f}"]
        cells += [f"{statistics.stdev(ratios):.1f}", f"{min(ratios):.1f}"]
        cells += [f"{statistics.mean(row['SSIM'] for row in images):.4f}", f"{alike} of {len(images)}"]
        for key, form in (("bits of an operand", ".2f"), ("bits of an output", ".2f"), ("link", ".3f")):
            cells.append(f"{statistics.mean(link[key] for link in links):{form}}")
        rows.append([*cells, f"{moved / len(images):.0f}"])
        sources.append(f"{runs[0].source}{f', {len(runs)} seeds' if len(runs) > 1 else ''}.  ")
    return [*_table(head, rows), "", *sources]


def programs() -> list[str]:
    """Published networks as programs: steps of each kind, then speed-up and traffic over dense."""
    head = ["network", "steps", "operations", "M clocks", "bound", "busy", "array busy", "GB moved"]
    beside_head = ["network", "", "speed-up over dense", "traffic over dense"]
    rows, beside, sources = [], [], []
    for found in Recording.found(PROGRAMS).values():
        for row in found.output["samplings"]:
            cells = [f"`{row['network']}`", row["steps"], f"{row['operations']:,}", f"{row['clocks'] / 1e6:,.0f}"]
            cells += [row["bound"], f"{row['busy']:.2f}", f"{row['array']:.3f}", f"{row['MB'] / 1e3:,.1f}"]
            rows.append(cells)
        for row in found.output["published"]:
            traffic = "" if row["traffic"] is None else f"{row['traffic']:.2f}"
            who = f"{row['machine']}, {row['with']}"
            beside.append([f"`{row['network']}`", who, f"{row['speedup']:.2f}", traffic])
        sources.append(f"{found.source}.  ")
    return [*_table(head, rows), "", *_table(beside_head, beside), "", *sources]


_VIDEOS = {"move": "1/8 pixel a frame", "turn": "2 degrees a frame", "blend": "becomes another digit"}


def _of_streams(name: str, head: list[str], words: Callable[[dict[str, Any]], list[str]]) -> list[str]:
    """Rows of ``golden stream``, with bits where some are sent; None is a PSNR without limit."""
    found, rows = Recording.load(name), []
    for row in found.output:
        bits = ["" if row[key] is None else f"{row[key]:.2f}" for key in ("input_bits", "output_bits")]
        rows.append([_VIDEOS[row["video"]], *words(row), *bits, *_more(row, "cached" in name, _psnr(row))])
    return [*_table(["video", *head], rows), "", f"{found.source}."]


def _more(row: dict[str, Any], cached: bool, least: str) -> list[str]:
    if not cached:
        return [least]
    megabits = "" if row["megabits"] is None else f"{row['megabits']:.2f}"
    return [megabits, least, "exact" if row["psnr_same"] is None else f"{row['psnr_same']:.1f}"]


def stream() -> list[str]:
    """Streams along frames and along timesteps."""
    head = ["method", "deltas along", "bits in", "bits out", "PSNR (least)"]
    return _of_streams("stream", head, lambda row: [row["method"], row["reference"]])


def stream_cached() -> list[str]:
    """Streams that reuse deep values."""
    head = ["N", "method", "bits in", "bits out", "Mbit an image", "PSNR, whole stream (least)", "same schedule"]
    return _of_streams("stream-cached", head, lambda row: [str(row["cache"]), row["method"]])


def link() -> list[str]:
    """Predicted link of small and of published networks."""
    found = Recording.load("traffic")
    flows = {(row["network"], row["method"]): row for row in found.output if row["table"] == "flows"}
    methods = ("Diffy", "paper", "closed-int3", "closed-int4")
    rows = []
    for network in dict.fromkeys(name for name, _ in flows):
        cells = [f"{flows[network, method]['ratio']:.2f}" for method in methods]
        rows.append([f"`{network}`", *cells, f"{flows[network, 'paper']['ratio_groups']:.2f}"])
    return [*_table(["network", *methods, "paper: groups and masks alone"], rows), "", f"{found.source}."]


def cached() -> list[str]:
    """Samplings with cache steps, dense and by methods, against those without."""
    rows, sources = [], []
    for interval in _INTERVALS:
        found = Recording.load(f"cached-{interval}")
        for row in found.output:
            rows.append([str(interval), f"{row['multiplications']:.3f}", row["method"], _psnr(row)])
        sources.append(f"{found.source}.  ")
    return [*_table(["N", "multiplications", "method", "PSNR, mean (least)"], rows), "", *sources]


_PLACED = 37.1
"""MHz of `edge25`, placed: docs/fpga.md, the clock of the whole."""


def rates() -> list[str]:
    """Images a second on a small and on a large machine, beside dense INT8."""
    rows, sources = [], []
    for name in _SMALL_AND_LARGE:
        found = Recording.load(f"rate-{name}")
        (run,), network = found.output["run"], zoo.load(found.output["network"])
        machine = on_machine(Method.named(found.output["method"]), options.Machine(name, preset(name))).machine
        counters, steps, clocks = {"array_groups": run["groups"]}, found.output["steps"], run["clocks"]
        for row in figures.rates(network, counters, clocks, steps, 1, _PLACED, machine):
            rows.append([f"`{name}`: {row['machine']}", f"{row['clocks an image']:,}", f"{row['images a second']:.2f}"])
        sources.append(f"{found.source}.  ")
    return [*_table(["machine", "clocks an image", f"images a second at {_PLACED} MHz"], rows), "", *sources]


def _used() -> dict[tuple[str, str, int], dict[str, dict[str, Any]]]:
    """Rows of the forecast by network, machine and images, then by layer."""
    found: dict[tuple[str, str, int], dict[str, dict[str, Any]]] = {}
    for row in Recording.load("use").output["samplings"]:
        found.setdefault((row["network"], row["machine"], row["images"]), {})[row["layer"]] = row
    return found


def use() -> list[str]:
    """Predicted use of the array over samplings, and what falls under 0.7."""
    head = ["network", "machine", "images", "clocks", "use", "layers under 0.7", "their clocks"]
    rows = []
    for (network, machine, images), layers in _used().items():
        every = layers["all"]
        low = [row for name, row in layers.items() if name != "all" and row["use"] < 0.7]
        share = sum(row["clocks"] for row in low) / every["clocks"]
        cells = [f"`{network}`", f"`{machine}`", str(images), f"{every['clocks']:,}", f"{every['use']:.3f}"]
        rows.append([*cells, f"{len(low)} of {len(layers) - 1}", f"{100 * share:.0f} %"])
    return [*_table(head, rows), "", f"{Recording.load('use').source}."]


def use_of_layers() -> list[str]:
    """The same by layer; where it is under 0.7, the engine that is busy the longest."""
    found = _used()
    machines = list(dict.fromkeys((machine, images) for _, machine, images in found))
    head = ["layer", *(f"`{machine}`, {images}" for machine, images in machines)]
    rows = []
    for network in dict.fromkeys(network for network, *_ in found):
        columns = [found[network, *machine] for machine in machines]
        for name in columns[0]:
            cells = [(column[name]["use"], column[name]["bound"]) for column in columns]
            texts = [f"{use:.2f}" + f", {bound}" * (use < 0.7) for use, bound in cells]
            rows.append([f"`{network}`: {name}", *texts])
    return _table(head, rows)


def machines(steps: int) -> list[str]:
    """What machines do for each method."""
    found = Recording.load(f"machines-{steps}")
    head = ["method", "groups of", "counted by", "PSNR, dB", "M clocks", "M clocks x cost", "use", "not zero", "link"]
    head += ["memory, MB", "groups", "zero, %", "outliers, %"]
    rows = []
    for row in found.output:
        cells = [f"`{row['method']}`", row["groups of"], row["counted by"], f"{row['PSNR dB']:.1f}"]
        cells += [f"{row['clocks'] / 1e6:.2f}", f"{row['clocks'] * row['cost'] / 1e6:,.0f}"]
        cells += [f"{row[name]:.2f}" for name in ("use", "not zero", "link")]
        cells += [f"{row['memory MB']:.0f}", f"{row['groups']:,}"]
        rows.append([*cells, *(f"{100 * row[name]:.1f}" for name in ("zero", "outliers"))])
    return [*_table(head, rows), "", f"{found.source}."]


def mutants() -> list[str]:
    """What became of each unit's mutants by seed, with the share caught of those that are not the unit itself."""
    found = Recording.found(MUTANTS)
    seeds = sorted({name.rsplit("-", 1)[1] for name in found})

    def cell(name: str) -> str:
        if name not in found:
            return ""
        (row,) = found[name].output
        return f"{row['caught']}, {row['equivalent']}, {row['survived']}: {row['caught %']:.1f} %"

    head = ["unit", *(f"seed {seed}: caught, the unit itself, left" for seed in seeds)]
    body = [
        [f"`{unit}`", *cells] for unit in BENCHES if any(cells := [cell(f"mutants-{unit}-{seed}") for seed in seeds])
    ]
    commits = ", ".join(f"`{commit}`" for commit in dict.fromkeys(of.commit for of in found.values()))
    source = f"`python -m sim mutate UNIT --count 150 --seed SEED`, commits {commits}."
    return [*_table(head, body), "", source]


TABLES: dict[str, Callable[[], list[str]]] = {
    "summary": summary,
    "psnr": psnr,
    "structure": structure,
    "frechet": frechet,
    "machines": lambda: machines(20),
    "machines-3": lambda: machines(3),
    "ranking": ranking,
    "digits": digits,
    "outputs": outputs,
    "states": states,
    "open-loop": open_loop,
    "layer": layer,
    "mutants": mutants,
    "drawn": drawn,
    "interpreted": interpreted,
    "programs": programs,
    "stream": stream,
    "stream-cached": stream_cached,
    "cached": cached,
    "link": link,
    "rates": rates,
    "use": use,
    "use-of-layers": use_of_layers,
}
"""Tables by the name that a page gives between its comments."""

PAGES = {
    "README.md": ("summary",),
    "docs/simulation.md": ("layer", "mutants", "drawn", "rates"),
    "docs/fidelity.md": ("psnr", "structure", "frechet", "machines", "machines-3"),
    "docs/golden.md": ("link", "ranking"),
    "docs/use.md": ("use", "use-of-layers", "interpreted", "programs"),
    "docs/sampling.md": ("stream", "cached", "stream-cached"),
    "docs/decisions/004-closed-loop-digits.md": ("digits",),
    "docs/decisions/005-output-deltas.md": ("outputs",),
    "docs/decisions/006-state-norm-prediction.md": ("states", "open-loop"),
}
"""Tables of each page."""

SENTENCES: tuple[tuple[str, str, str, Callable[[Any], str]], ...] = (
    (
        "README.md",
        r"finds the asked class in ([\d.]+) % of 200 such samples",
        "sample-200",
        lambda output: f"{100 * output[0]['found']:.1f}",
    ),
    (
        "README.md",
        r"numpy \(([\d.]+) dB",
        "verilog-unet",
        lambda output: f"{output['images'][0]['PSNR dB']}",
    ),
    (
        "README.md",
        r"use of the array \| ([\d.]+) of",
        "verilog-unet",
        lambda output: f"{output['run'][0]['use']:.2f}",
    ),
    (
        "README.md",
        r"use of the array \| [\d.]+ of ([\d.]+) M clocks",
        "verilog-unet",
        lambda output: f"{output['run'][0]['clocks'] / 1e6:.1f}",
    ),
)
"""Figures in sentences: page, what stands around it, recording, and the figure as it is written."""


def _block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- figures: {name} -->\n)(.*?)(<!-- end of figures -->)", re.S)


def page(path: str, text: str) -> str:
    """A page with the figures that are recorded.

    Raises
    ------
    ValueError
        If the page has not the places that `PAGES` and `SENTENCES` name.
    """
    for name in PAGES.get(path, ()):
        body = "\n".join(["", *TABLES[name](), "", ""])
        text, count = _block(name).subn(lambda match, body=body: match[1] + body + match[3], text)
        if count != 1:
            raise ValueError(f"Page must have figures {name} once, not {count} times in {path}")
    for of, pattern, name, written in SENTENCES:
        if of == path:
            match = re.search(pattern, text)
            if match is None:
                raise ValueError(f"Page must have the sentence {pattern!r}, not so {path}")
            text = text[: match.start(1)] + written(Recording.load(name).output) + text[match.end(1) :]
    return text


# Recording ----------------------------------------------------------------------------------------------------------


def steady(output: Any) -> Any:
    """Output of a command without what differs from run to run."""
    if isinstance(output, dict):
        return {key: steady(value) for key, value in output.items() if key not in VOLATILE}
    return [steady(value) for value in output] if isinstance(output, list) else output


def commit() -> str:
    """Commit of the tree, with a plus if files of it were changed since."""
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no", "--", ":!docs", ":!README.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return head.stdout.strip() + ("+" if changed.stdout else "")


def record(name: str) -> None:
    """Run a command and keep what it prints; its progress goes to standard error."""
    command, _ = EVERY[name]
    _, *arguments = shlex.split(command)
    run = subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    # A mutant that survives is code 1, and a figure like the others.
    if run.returncode and not (name in MUTANTS and run.stdout):
        raise subprocess.CalledProcessError(run.returncode, run.args)
    kept = {"command": command, "commit": commit(), "output": steady(json.loads(run.stdout))}
    (FOLDER / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def write_pages() -> None:
    """Put what is recorded into every page."""
    for path in dict.fromkeys((*PAGES, *(path for path, *_ in SENTENCES))):
        file = ROOT / path
        file.write_text(page(path, file.read_text(encoding="utf-8")), encoding="utf-8")


def main(asked: list[str]) -> int:
    """Record what is asked for."""
    unknown = [name for name in asked if name not in (*EVERY, "all", "pages")]
    if unknown:
        print(f"Error: Figures must be all, pages or of {', '.join(EVERY)}, not {unknown[0]!r}", file=sys.stderr)
        return 2
    if not asked:
        kept = Recording.found(EVERY)
        for name, (command, minutes) in EVERY.items():
            where = f"commit {kept[name].commit}" if name in kept else "not recorded"
            print(f"{name}: {command}; {where}; about {minutes} min")
        return 0
    names = [name for name in EVERY if name in asked or "all" in asked]
    for number, name in enumerate(names, 1):
        command, minutes = EVERY[name]
        print(f"[{number}/{len(names)}] {name}, about {minutes} min: {command}", file=sys.stderr, flush=True)
        start = time.monotonic()
        record(name)
        print(f"[{number}/{len(names)}] {name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    write_pages()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
