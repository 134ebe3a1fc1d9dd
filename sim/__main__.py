"""Command line of the simulations: ``python -m sim``."""

from golden.common import start

if __name__ == "__main__":
    start.begin()  # before the imports, which take their time

import concurrent.futures
import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from golden.common import console, processes
from rtl_gen import options
from sim import bench, compare, latency, mutants, parts, play, sample, stream, trust
from sim import layer as layers
from sim import run as running
from sim.machine import mutants as machine_mutants
from sim.machine.command import command as machine_command
from sim.ranges import half_open
from sim.result import Result


@console.group("Simulations of the emitted Verilog against the golden model (cocotb on Verilator).")
def main(traceback: bool) -> None:
    """Root of the command line."""


main.add_command(sample.command)
main.add_command(stream.command)
main.add_command(compare.command)
main.add_command(machine_command)
main.add_command(trust.command)


@main.command()
@click.argument("unit", default="all")
@options.machine
@click.option("--seed", type=click.IntRange(0), help="Seed of vectors and pauses.  [default: 0]")
@click.option("--seeds", metavar="A:B", help="Every seed of this half-open range, in place of one.")
@click.option("--waves", is_flag=True, help="Write waveforms (VCD); quick vectors unless asked otherwise.")
@click.option("--vectors", type=click.Choice(["quick", "full"]), help="How many.  [default: full]")
@click.option("--only", is_flag=True, help="These parameters only, without each unit's further variants.")
@options.jobs
@options.as_json
@click.pass_context
def run(
    context: click.Context,
    unit: str,
    machine: options.Machine,
    seed: int | None,
    seeds: str | None,
    waves: bool,
    vectors: str | None,
    only: bool,
    jobs: int,
    as_json: bool,
) -> None:
    """Run the bench of UNIT (or all): every stream without pauses, with idle inputs, stalled outputs, and both.

    With full vectors each unit also runs in variants, formats and policies that one machine cannot have at once. Ends
    with code 1 if anything differs from the golden model. All units of preset tiny take about four minutes of
    processor time with --only.
    """
    if seed is not None and seeds is not None:
        raise ValueError(f"Seeds must be given by --seed or --seeds, not by both, {seed} and {seeds!r}")
    chosen = [seed or 0] if seeds is None else list(half_open("Seeds", seeds))
    full = vectors == "full" or vectors is None and not waves
    names = list(bench.BENCHES) if unit == "all" else [unit]
    work = []
    for name in names:
        machines = {"": machine.parameters}
        if full and not only:
            machines |= bench.variants(name, machine.parameters)
        work += [(name, label, bench.Request(other, full), chosen, waves) for label, other in machines.items()]
    results = _in_parallel(work, jobs)
    console.show([_row(label, result) for label, result in results], title="Benches", as_json=as_json)
    every = [(label, result) for label, found in results for result in found]
    for label, result in every:
        if result.waves:
            click.echo(f"{result.unit} {label}: waveforms in {result.waves}".replace(" :", ":"), err=as_json)
    failures = [(label, result) for label, result in every if result.first]
    for label, result in failures:
        where = [label] * bool(label) + [f"seed {result.seed}"] * (len(chosen) > 1)
        click.echo(f"FAIL {'(' + ', '.join(where) + ') ' if where else ''}{result.first}", err=True)
    if failures:
        context.exit(1)


def _in_parallel(
    work: list[tuple[str, str, bench.Request, list[int], bool]], jobs: int
) -> list[tuple[str, list[Result]]]:
    if min(jobs, len(work)) <= 1:
        bar = console.progress(work, "Benches", named=lambda one: f"{one[0]} {one[1]}".strip())
        return [(label, running.carry_out(name, *rest)) for name, label, *rest in bar]
    # Processes of their own: making vectors is Python's work, and simulators change the environment.
    with processes.pool(jobs) as pool:
        waiting = [pool.submit(running.carry_out, name, *rest) for name, _, *rest in work]
        titles = {future: f"{name} {label}".strip() for future, (name, label, *_) in zip(waiting, work, strict=True)}
        done = concurrent.futures.as_completed(waiting)
        for future in console.progress(done, "Benches", total=len(waiting), named=titles.get):
            future.result()
        return [(label, future.result()) for (_, label, *_), future in zip(work, waiting, strict=True)]


def _row(label: str, results: list[Result]) -> dict[str, Any]:
    """One row for a unit under all its seeds."""
    return {
        "unit": results[0].unit,
        "variant": label,
        "seeds": len(results),
        "vectors": sum(result.vectors for result in results),
        "runs": sum(result.runs for result in results),
        "cycles": sum(result.cycles for result in results),
        "groups/clock": round(min(result.groups_per_clock for result in results), 4) or None,
        "mismatches": sum(result.mismatches for result in results),
        "seconds": round(sum(result.seconds for result in results), 1),
    }


@main.command(name="mutate")
@click.argument("unit", default="all")
@options.machine(default=lambda others: "tiny", shown="tiny")
@click.option(
    "--count", type=click.IntRange(1), help="Mutants of each unit.  [default: 150, of each file of the machine 20]"
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of mutants, vectors and pauses.")
@click.option("--among", default="", metavar="TEXT", help="Of `machine`: only files of hw with this in their names.")
@click.option(
    "--patience",
    type=click.IntRange(1),
    metavar="SECONDS",
    help=f"Of `machine`: processor time of each form of a proof.  [default: {mutants.PATIENT}]",
)
@options.as_json
@click.pass_context
def inject(
    context: click.Context,
    unit: str,
    machine: options.Machine,
    count: int | None,
    seed: int,
    among: str,
    patience: int | None,
    as_json: bool,
) -> None:
    """Draw mutants of the Verilog of UNIT (or all) and see which of them its bench catches.

    UNIT may also be a file of tests of the machine's parts, as tests/hw/link/test_serial_joint.py: its runs are the
    bench of each part in it, of the shapes that the tests have. And it may be `machine`: mutants of each file that the
    whole machine is made of, which run layers of a small network. Ends with code 1 if a mutant survives that is not
    proven to be the unit itself. About two minutes a unit.
    """
    reports = []
    for name, given in (("Among", among), ("Patience", patience)):
        if given and unit != "machine":
            raise ValueError(f"{name} must be given with the unit machine, not with {unit!r}")
    if unit == "machine":
        reports = machine_mutants.run(
            machine.parameters,
            count=count or 20,
            seed=seed,
            among=among,
            patience=patience or mutants.PATIENT,
            track=lambda drawn: console.progress(drawn, "Mutants", named=lambda one: one[0]),
        )
    elif unit.endswith(".py"):
        count = count or 150
        reports = parts.run(
            Path(unit), count=count, seed=seed, track=lambda drawn: console.progress(drawn, "Mutants", count)
        )
    else:
        for name in console.progress(list(bench.BENCHES) if unit == "all" else [unit], "Mutants", named=str):
            reports.append(mutants.run(name, machine.parameters, count=count or 150, seed=seed))
    rows = [
        {
            "unit": report.unit,
            "mutants": len(report.findings),
            "caught": report.caught,
            "equivalent": report.equivalent,
            "survived": len(report.survived),
            "caught %": round(100 * report.score, 2),
            "seconds": round(report.seconds, 1),
        }
        for report in reports
    ]
    console.show(rows, title="Mutants", as_json=as_json)
    for report in reports:
        for mutant in report.survived:
            click.echo(f"survived: unit {report.unit}, mutant {mutant.number}: {mutant}", err=True)
    if any(report.survived for report in reports):
        context.exit(1)


@main.command("latency")
@options.machine
def latency_command(machine: options.Machine) -> None:
    """Print how long each unit takes, with a timing diagram of its first vectors, as Markdown for the site."""
    click.echo(latency.markdown(machine.name, machine.parameters), nl=False)


@main.command()
@click.option("--layer", metavar="NAME", help="Convolution of the network, see `golden layers`.  [default: recorded]")
@click.option(
    "--steps", default="1:6", show_default=True, metavar="A:B", help="Steps, half-open, in order of execution."
)
@options.machine
@click.option(
    "--positions", type=click.IntRange(1), help="Only so many output positions, evenly spread.  [default: all]"
)
@click.option("--mode", default="none", show_default=True, type=click.Choice(list(play.MODES)), help="Pauses.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the pauses.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Picture to save, .png.")
@options.as_json
@click.pass_context
def layer(
    context: click.Context,
    layer: str | None,
    steps: str,
    machine: options.Machine,
    positions: int | None,
    mode: str,
    seed: int,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Stream a real convolution with its norm and ReLU through the units, step by step, in RTL.

    Deltas of the trained network are quantised, multiplied, scaled, masked, compressed, decompressed and added to the
    state near memory; every value is compared with the golden model. State before the first step is the network's own.
    Five steps take about three minutes, compiling the simulators included.
    """
    chosen = half_open("Steps", steps)
    if plot is not None and (plot.suffix != ".png" or not plot.parent.is_dir()):
        raise ValueError(f"Picture must be a .png in a folder that exists, not {str(plot)!r}")
    first, last = chosen.start, chosen.stop
    found = layers.recording(layer, first, last)
    made = layers.prepare(found, machine.parameters, first, last, positions=positions, seed=seed)
    results = made.run(modes=[mode], seed=seed, track=lambda units: console.progress(units, "Units"))
    rates = next(result.rates for result in results if result.unit == "multiplier_group")
    rows = []
    for step in made.steps:
        rate = rates.get(f"step {step.step}")
        rows.append({"step": step.step, "cycles per group": 1 / rate if rate else None})
        rows[-1] |= {field: value for field, value in dataclasses.asdict(step).items() if field != "step"}
    units = [
        {key: value for key, value in _row("", [result]).items() if key not in ("variant", "seeds")}
        for result in results
    ]
    if as_json:
        click.echo(
            json.dumps({"layer": made.name, "positions": made.positions, "steps": rows, "units": units}, indent=2)
        )
    else:
        what = " -> ".join([found.kind, *(kind for kind in made.followed_by if kind != "convolution")])
        click.echo(f"{made.name} ({what}): {made.positions} of {made.all_positions} positions, {machine.name}")
        console.show([_short(row) for row in rows], title="Steps")
        click.echo(
            "Bits per element of the compressed deltas, in: of the input in one pass, out: of the output in "
            f"{machine.parameters.output_passes}; list: the published list and bitmap, H0: order-0 entropy of digits."
        )
        console.show(units, title="Units")
    if plot is not None:
        layers.plot(made, plot)
        click.echo(f"Picture: {plot}", err=as_json)
    for result in results:
        if result.first:
            click.echo(f"FAIL {result.first}", err=True)
    if any(result.first for result in results):
        context.exit(1)


def _short(row: dict[str, Any]) -> dict[str, Any]:
    # Heads and figures that fit a line; bits are per element, beside the published form and the order-0 entropy.
    return {
        "step": row["step"],
        "zero %": round(100 * row["zero"], 1),
        "inlier %": round(100 * row["inlier"], 1),
        "outlier %": round(100 * row["outlier"], 2),
        "cycles/group": row["cycles per group"] and round(row["cycles per group"], 3),
        **{
            f"{short} {name}": round(row[f"{side}_{field}"], 2)
            for short, side in (("in", "input"), ("out", "output"))
            for name, field in (("bits", "bits"), ("list", "list_bitmap"), ("H0", "entropy"))
        },
        "flips": row["flips"],
        "PSNR dB": round(row["psnr"], 1),
    }


if __name__ == "__main__":
    main(prog_name="python -m sim")
