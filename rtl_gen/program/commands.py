"""``rtl_gen program``: networks as programs, what they cost, and what they say."""

import collections
import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from golden.cli import options as drawing
from golden.cli.drawn import Drawn, drawn_by_program
from golden.cli.subject import subject
from golden.common import console
from golden.common import drawing as pictures
from golden.common import names as known
from golden.diffusion.cost.cambricon_d import CAMBRICON_D
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.differential.run import run
from golden.diffusion.networks.published import PUBLISHED
from golden.diffusion.networks.published import network as published
from golden.machine.command import ENGINES, Command, Operation, disassemble
from golden.machine.work import repeated, timeline, work
from golden.parameters import PRESETS, Parameters
from rtl_gen import options
from rtl_gen.program.activity import activity
from rtl_gen.program.file import Program, listing
from rtl_gen.program.forecast import PAPER_SIZED, Forecast, forecast
from rtl_gen.program.sampling import Sampled, compile_sampling
from rtl_gen.program.sums import SAMPLE_TAG

one_method = click.option(
    "--method",
    default="closed-int4",
    show_default=True,
    help="Any that sends digits: a name, or a file .json. Exponents are chosen by group, or of chains as the machine "
    "does, whatever it says.",
)

_CARRIED = (
    *("passes", "first_passes", "early_passes", "last_passes", "input_passes", "mix_passes", "layer_passes"),
    *("early_steps", "late_steps", "refresh"),
)
"""Members of a rival that the closed loop takes over which stands for it."""

_RAW_OUTPUTS = {"output_width": 16, "output_bits": 14}
"""Outputs of the rivals cross raw: as integers of 16 bits they lose next to nothing."""


def programmed(method: Method) -> Method:
    """The closed loop that stands for a method in a program; a closed loop stands for itself.

    A raw method starts anew in every step. Diffy's takes deltas against the value before, so nothing corrects what its
    digits miss. So does the published dataflow, whose chains stay deltas besides, with repairs where it has them. All
    have the machine's fixed point near memory, and exponents that groups choose.

    Raises
    ------
    ValueError
        If no closed loop can stand for the method.
    """
    if method.flow == "closed_loop":
        return method
    if method.flow == "dense":
        raise ValueError("Method of a program must send digits, not be of flow dense")
    for name, wanted in (("tensor_scale", False), ("mask_width", 1), ("mask_operand", "digits")):
        found = getattr(method, name) if name == "tensor_scale" else getattr(method.machine, name)
        if found != wanted:
            raise ValueError(f"{name} must be {str(wanted).lower()} in a program, not {str(found).lower()}")
    carried = {name: getattr(method, name) for name in _CARRIED}
    if method.flow == "raw":
        carried |= {"refresh": 1}
    machine = Parameters(digit_width=method.machine.digit_width)
    chained = method.flow == "sign_mask"
    if chained:
        machine = dataclasses.replace(
            machine, dataflows=("closed_loop", "sign_mask"), flip_repair=method.machine.flip_repair
        )
        carried |= {"attention": method.attention}
    against = "held" if method.flow == "raw" else "before"
    return Method(machine=machine, against=against, chains=chained, **carried, **_RAW_OUTPUTS)


def on_machine(method: Method, machine: options.Machine) -> Method:
    """A method on a machine, as `programmed`: passes, floors and repairs are the method's, everything else the
    machine's, that exponents of chains are static among it.

    Raises
    ------
    ValueError
        If the method has no program, or the machine was stated to have other digits, or not its dataflow.
    """
    method = programmed(method)
    digits = method.machine.digit_width
    if "digit_width" in machine.stated and machine.parameters.digit_width != digits:
        raise ValueError(f"digit_width must be the method's, {digits}, not {machine.parameters.digit_width}")
    dataflows = machine.parameters.dataflows
    if method.chains and not machine.parameters.masks:
        if "dataflows" in machine.stated:
            raise ValueError(f"dataflows must hold sign_mask for chains, not {', '.join(dataflows)}")
        dataflows = method.machine.dataflows
    parameters = dataclasses.replace(
        machine.parameters,
        digit_width=digits,
        joint_width=method.output_width,
        state_width=method.machine.state_width,
        dataflows=dataflows,
        flip_repair=method.machine.flip_repair or machine.parameters.flip_repair,
    )
    return dataclasses.replace(method, machine=parameters)


def compiled(drawn: Drawn, method: str, machine: options.Machine) -> Sampled:
    """Compile what a command line asks for; errors as of `Drawn.sampling`, `on_machine` and `compile_sampling`."""
    sampling = drawn.sampling(drawn.subject())
    chosen = on_machine(Method.named(method), machine)
    return compile_sampling(sampling, chosen, calibrate(sampling), track=_compiling)


def _compiling(plan: Any) -> Any:
    return console.progress(plan, "Compiling")


@dataclasses.dataclass(frozen=True)
class _Asked:
    """What a command of the group is asked for."""

    drawn: Drawn
    method: str
    machine: options.Machine

    def compiled(self) -> Sampled:
        """The program."""
        return compiled(self.drawn, self.method, self.machine)


@click.group("program", invoke_without_command=True)
@one_method
@drawn_by_program()
@options.machine
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write.  [default: build/NETWORK-METHOD]")
@options.as_json
@click.pass_context
def command(
    context: click.Context, method: str, drawn: Drawn, machine: options.Machine, out: Path | None, as_json: bool
) -> None:
    """Compile a whole sampling into a program: memory.bin, program.json and listing.txt.

    Several images, and both halves of guidance, are rows of the array.
    Calibrating the network takes longest: about a minute for 50 steps of the U-Net.
    """
    context.obj = asked = _Asked(drawn, method, machine)
    if context.invoked_subcommand is not None:
        return
    begin = time.perf_counter()
    sampled = asked.compiled()
    folder = out or Path("build", f"{Path(drawn.network).stem}-{method}")
    sampled.program.save(folder)
    row = _summary(sampled.program) | {"seconds": round(time.perf_counter() - begin, 1), "folder": str(folder)}
    console.show([row], title=f"{drawn.network}, {method}, {drawn.steps} steps on {machine.name}", as_json=as_json)


def _summary(program: Program) -> dict[str, Any]:
    commands = disassemble(program.words())
    p = program.parameters
    return {
        "commands": len(commands),
        "with loops": sum(times for _, times in repeated(commands)),
        "memory KiB": -(-len(program.image) // 1024),
        "states": len(program.tensors),
        "rows x columns x n": f"{p.rows} x {p.columns} x {p.lanes}",
    }


@command.command("explain")
@options.as_json
@click.pass_obj
def explain(asked: _Asked, as_json: bool) -> None:
    """What each layer costs, before anything runs: groups, clocks of each engine, bytes, use of the array.

    Clocks are a model of the machine over the whole sampling. Of a published network (see `golden traffic`) only shapes
    are known: shown is a step of each kind, of one image.
    """
    network = asked.drawn.network
    if network in PUBLISHED:
        chosen = on_machine(Method.named(asked.method), asked.machine)
        found = forecast(published(network), chosen, steps=asked.drawn.steps, track=_compiling)
        memory = [{"memory": name, "MB": round(size / 1e6, 1)} for name, size in found.memory.items()]
        if as_json:
            click.echo(json.dumps({"steps": found.by_step(), "memory": memory}, indent=2))
            return
        console.show(found.by_step(), title=f"{network}, {asked.method}, on {asked.machine.name}")
        console.show(memory, title="Memory")
        return
    rows = layer_rows(asked.compiled().program)
    console.show(rows, title="Layers over the whole sampling", as_json=as_json)


def layer_rows(program: Program) -> list[dict[str, Any]]:
    """A row for each layer, and one for all: counts and clocks over the whole program."""
    return _rows(disassemble(program.words()), program.tags, program.parameters)


def _rows(commands: list[Command], tags: Mapping[int, str], p: Parameters) -> list[dict[str, Any]]:
    found: dict[int, dict[str, int]] = {}
    for one, times in repeated(commands):
        if not isinstance(one, Operation):
            continue
        cost = work(one, p)
        row = found.setdefault(one.tag, dict.fromkeys(("operations", "groups", "vectors", "bytes", *ENGINES), 0))
        row["operations"] += times
        row["groups"] += times * cost.groups
        row["vectors"] += times * cost.vectors
        row["bytes"] += times * (cost.read + cost.written)
        row[one.engine] += times * cost.clocks
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
    program = asked.compiled().program if folder is None else Program.open(folder)
    click.echo(listing(disassemble(program.words()), program.tags | {SAMPLE_TAG: "sampler"}), nl=False)


MACHINES = {"paper-sized": PAPER_SIZED}
"""Machines of `forecast` that are no presets."""


@click.command("forecast")
@click.option("--network", default="unet,unet-silu,dit", show_default=True, help="Names, comma separated.")
@click.option("--method", default="closed-int4", show_default=True, help="Closed loop: a name, or a file .json.")
@drawing.steps()
@click.option(
    "--preset",
    "presets",
    default="edge,ulx3s",
    show_default=True,
    help="Machines, comma separated; paper-sized is one.",
)
@click.option("--images", default="1,4", show_default=True, help="Numbers of images, comma separated.")
@click.option(
    "--by",
    type=click.Choice(["total", "step", "layer"]),
    default="total",
    show_default=True,
    help="What a row is for; a layer's is its part of the whole sampling.",
)
@click.option(
    "--output-bits",
    default=8.5,
    show_default=True,
    type=click.FloatRange(0, 64),
    callback=console.finite,
    help="Bits of an output on the link, for the traffic of published networks.",
)
@click.option(
    "--activity",
    "active",
    is_flag=True,
    help="Also zero groups and megabits on the link, from another image that golden draws; of networks with weights.",
)
@drawing.picture("plot", "forecast.png", "Draw speed-up and traffic of published networks.")
@options.as_json
def forecast_command(
    network: str,
    method: str,
    steps: int,
    presets: str,
    images: str,
    by: str,
    output_bits: float,
    active: bool,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Clocks and use of the array of samplings, before anything is calibrated or built.

    Use is what the layers need over what the array could do in all clocks; bound is the engine that is busy the
    longest, and how much of the time. Of published networks a second table has speed-up and traffic over a dense
    machine of the same cost, from the operations of the program.
    """
    drawing.writable(plot)
    counts = drawing.numbers(images, "Images")
    if 0 in counts:
        raise ValueError("Images must be at least 1, not 0")
    listed = drawing.each(network, "Networks")
    for name in listed if active else ():
        if name in PUBLISHED:
            raise ValueError(f"Network must have weights for --activity, which {name!r} has not")
    rows: list[dict[str, Any]] = []
    beside: list[dict[str, Any]] = []
    for name in listed:
        one = published(name) if name in PUBLISHED else subject(name, None, None).network
        for machine in drawing.each(presets, "Presets"):
            p = known.lookup("Preset", machine, PRESETS | MACHINES)
            chosen = on_machine(Method.named(method), options.Machine(machine, p))
            for count in counts:
                found = forecast(one, chosen, steps=steps, samples=count, track=_compiling)
                head = {"network": name, "machine": machine, "images": count}
                rows += [head | row for row in _chosen(found, by)]
                if active:
                    rows[-1] |= _of_values(found, name, chosen, steps, count)
                if name in PUBLISHED:
                    beside += [{"machine": machine} | row for row in found.against_dense(output_bits)]
    beside += [
        {"machine": title, "network": name, "with": "published", "speedup": speed, "traffic": moved}
        for name in dict.fromkeys(row["network"] for row in beside)
        for title, (speed, moved) in CAMBRICON_D.get(name, {}).items()
    ]
    if as_json:
        click.echo(json.dumps({"samplings": rows, "published": beside}, indent=2))
    else:
        console.show(rows, title=f"{method}, {steps} steps")
        if beside:
            console.show(beside, title="Speed-up over dense of the same cost, and its traffic off the chip")
    if plot is not None:
        _draw(beside, plot)
        click.echo(f"Picture: {plot}", err=as_json)


def _of_values(found: Forecast, name: str, method: Method, steps: int, count: int) -> dict[str, Any]:
    """What depends on values, of a whole sampling."""
    other = subject(name, None, None).sampling(count, steps, None, seed=_OTHER)
    total: collections.Counter[str] = collections.Counter()
    for one in activity(found, run(other, method, measured=True).measure):
        total.update(one)
    return {
        "zero": round(total["array_zero_groups"] / total["array_groups"], 3),
        "Mbit up": round(total["link_group_bits"] / 1e6, 2),
        "Mbit down": round(total["link_output_bits"] / 1e6, 2),
    }


_OTHER = 20261128
"""Seed of the image that a forecast is made from."""


def _chosen(found: Forecast, by: str) -> list[dict[str, Any]]:
    if by == "layer":
        return found.by_layer()
    return found.by_step() if by == "step" else found.by_step()[-1:]


def _draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Bars: speed-up and traffic of each machine, network beside network."""
    networks = list(dict.fromkeys(row["network"] for row in rows))
    machines = list(dict.fromkeys((row["machine"], row["with"]) for row in rows))
    with pictures.figure(path, 1, 2, figsize=(13, 5)) as (_, axes):
        for panel, key in zip(axes[0], ("speedup", "traffic"), strict=True):
            for place, (machine, memory) in enumerate(machines):
                heights = {
                    row["network"]: row[key] for row in rows if (row["machine"], row["with"]) == (machine, memory)
                }
                at = [number + (place + 0.5) * 0.8 / len(machines) - 0.4 for number in range(len(networks))]
                values = [heights.get(name) or 0 for name in networks]
                panel.bar(at, values, 0.8 / len(machines), label=f"{machine}, {memory}")
            panel.axhline(1, color="k", linewidth=0.7)
            panel.set_xticks(range(len(networks)), networks)
            panel.set(title=f"{key} over dense of the same cost")
        pictures.legend(axes[0][0])
