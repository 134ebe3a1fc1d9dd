"""``rtl_gen program``: networks as programs, what they cost, and what they say."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from golden.cli import options as drawing
from golden.cli.subject import subject
from golden.common import console
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.networks.published import PUBLISHED
from golden.diffusion.networks.published import network as published
from golden.machine.command import ENGINES, Command, Operation, disassemble
from golden.machine.work import executed, timeline, work
from golden.parameters import Parameters
from rtl_gen import options
from rtl_gen.program.file import Program, listing
from rtl_gen.program.outline import outlined
from rtl_gen.program.sampling import Sampled, compile_sampling
from rtl_gen.program.sums import SAMPLE_TAG

__all__ = ["command", "compiled", "labels", "on_machine", "several"]

labels = click.option("--label", help="Class of each image, comma separated, for a network that takes labels.")
several = click.option("--images", type=click.IntRange(1), help="How many to draw.  [default: one for each label]")


def on_machine(method: Method, machine: options.Machine) -> Method:
    """A method on a machine: flow, passes and floors are the method's, everything else the machine's.

    Raises
    ------
    ValueError
        If the method is not a closed loop, or the machine's digits were stated to be others than the method's.
    """
    if method.flow != "closed_loop":
        raise ValueError(f"Method of a program must be a closed loop, not of flow {method.flow}")
    digits = method.machine.digit_width
    if "digit_width" in machine.stated and machine.parameters.digit_width != digits:
        raise ValueError(f"digit_width must be the method's, {digits}, not {machine.parameters.digit_width}")
    parameters = dataclasses.replace(
        machine.parameters,
        digit_width=digits,
        joint_width=method.output_width,
        state_width=method.machine.state_width,
    )
    return dataclasses.replace(method, machine=parameters)


def compiled(
    machine: options.Machine,
    network: str,
    method: str,
    steps: int,
    *,
    label: str | None,
    seed: int,
    guidance: float | None,
    cache: Any,
    images: int | None = None,
    conditioning: Path | None = None,
    sampler: str | None = None,
) -> Sampled:
    """Compile images, as a command line asks for them: as many as there are labels, unless it says how many."""
    one = subject(network, conditioning, sampler)
    chosen = on_machine(Method.named(method), machine)
    count = images or (len(label.split(",")) if label else 1)
    sampling = one.sampling(count, steps, label, guidance=guidance, seed=seed, cache=cache)
    profile = calibrate(sampling)
    return compile_sampling(sampling, chosen, profile, track=lambda plan: console.progress(plan, "Compiling"))


@dataclasses.dataclass(frozen=True)
class _Asked:
    """What a command of the group is asked for."""

    make: Callable[[], Sampled]
    network: str
    method: str
    machine: options.Machine


@click.group("program", invoke_without_command=True)
@drawing.network
@click.option("--method", default="closed-int4", show_default=True, help="Closed loop: a name, or a file .json.")
@drawing.steps()
@labels
@several
@drawing.seed
@drawing.sampling
@drawing.caching
@options.machine
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write.  [default: build/NETWORK-METHOD]")
@options.as_json
@click.pass_context
def command(
    context: click.Context,
    network: str,
    method: str,
    steps: int,
    label: str | None,
    images: int | None,
    seed: int,
    conditioning: Path | None,
    guidance: float | None,
    sampler: str | None,
    cache: Any,
    machine: options.Machine,
    out: Path | None,
    as_json: bool,
) -> None:
    """Compile a whole sampling into a program: memory.bin, program.json and listing.txt.

    Several images, and both halves of guidance, are rows of the array.
    Calibrating the network takes longest: about a minute for 50 steps of the U-Net.
    """

    def make() -> Sampled:
        return compiled(
            machine, network, method, steps, label=label, seed=seed, guidance=guidance, cache=cache,
            images=images, conditioning=conditioning, sampler=sampler,
        )  # fmt: skip

    context.obj = _Asked(make, network, method, machine)
    if context.invoked_subcommand is not None:
        return
    begin = time.perf_counter()
    sampled = make()
    folder = out or Path("build", f"{Path(network).stem}-{method}")
    sampled.program.save(folder)
    row = _summary(sampled.program) | {"seconds": round(time.perf_counter() - begin, 1), "folder": str(folder)}
    console.show([row], title=f"{network}, {method}, {steps} steps on {machine.name}", as_json=as_json)


def _summary(program: Program) -> dict[str, Any]:
    commands = disassemble(program.words())
    p = program.parameters
    return {
        "commands": len(commands),
        "with loops": sum(1 for _ in executed(commands)),
        "memory KiB": -(-len(program.image) // 1024),
        "states": len(program.tensors),
        "rows x columns x n": f"{p.rows} x {p.columns} x {p.lanes}",
    }


@command.command("explain")
@options.as_json
@click.pass_obj
def explain(asked: _Asked, as_json: bool) -> None:
    """What each layer costs, before anything runs: groups, clocks of each engine, bytes, use of the array.

    Clocks are a model of the machine without the skipping of zero groups, over the whole sampling. Of a published
    network (see `golden traffic`) only shapes are known: shown are its first step, and one in the midst, of one image.
    """
    if asked.network in PUBLISHED:
        chosen = on_machine(Method.named(asked.method), asked.machine)
        steps, sizes = outlined(
            published(asked.network), chosen, track=lambda names: console.progress(names, "Compiling")
        )
        rows = [
            {"step": one.name, "commands": len(one.commands)} | _totals(one.commands, chosen.machine) for one in steps
        ]
        memory = [{"memory": name, "MB": round(size / 1e6, 1)} for name, size in sizes.items()]
        if as_json:
            click.echo(json.dumps({"steps": rows, "memory": memory}, indent=2))
            return
        console.show(rows, title=f"{asked.network}, {asked.method}, a step on {asked.machine.name}")
        console.show(memory, title="Memory")
        return
    rows = layer_rows(asked.make().program)
    console.show(rows, title="Layers over the whole sampling", as_json=as_json)


def _totals(commands: list[Command], p: Parameters) -> dict[str, Any]:
    """Of all layers together, without a name."""
    *_, last = _rows(commands, {}, p)
    return {name: value for name, value in last.items() if name != "layer"}


def layer_rows(program: Program) -> list[dict[str, Any]]:
    """A row for each layer, and one for all: counts and clocks over the whole program."""
    return _rows(list(executed(disassemble(program.words()))), program.tags, program.parameters)


def _rows(commands: list[Command], tags: Mapping[int, str], p: Parameters) -> list[dict[str, Any]]:
    found: dict[int, dict[str, int]] = {}
    for one in commands:
        if not isinstance(one, Operation):
            continue
        cost = work(one, p)
        row = found.setdefault(one.tag, dict.fromkeys(("operations", "groups", "vectors", "bytes", *ENGINES), 0))
        row["operations"] += 1
        row["groups"] += cost.groups
        row["vectors"] += cost.vectors
        row["bytes"] += cost.read + cost.written
        row[one.engine] += cost.clocks
    line = timeline(commands, p)
    rows = []
    for tag, row in found.items():
        rows.append(_row(tags.get(tag, f"{tag:#06x}"), row, line.by_tag.get(tag, 0), p))
    total = {name: sum(row[name] for row in found.values()) for name in next(iter(found.values()))}
    rows.append(_row("all", total, line.clocks, p))
    return rows


def _row(name: str, row: dict[str, int], clocks: int, p: Parameters) -> dict[str, Any]:
    slots = p.rows * p.columns * clocks
    return {
        "layer": name,
        "operations": row["operations"],
        "groups": row["groups"],
        **{f"{engine} clocks": row[engine] for engine in ENGINES},
        "clocks": clocks,
        "array": None if not slots or not row["groups"] else round(row["groups"] / slots, 3),
        "bytes": row["bytes"],
    }


@command.command("disassemble")
@click.option("--from", "folder", type=click.Path(path_type=Path), help="Folder of a program, in place of compiling.")
@click.pass_obj
def disassemble_command(asked: _Asked, folder: Path | None) -> None:
    """Print the commands, a line each."""
    program = asked.make().program if folder is None else Program.open(folder)
    click.echo(listing(disassemble(program.words()), program.tags | {SAMPLE_TAG: "sampler"}), nl=False)
