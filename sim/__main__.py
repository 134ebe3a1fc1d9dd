"""Command line of the simulations: ``python -m sim``."""

import concurrent.futures
import functools
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from golden import console
from golden.parameters import DEFAULT_PRESET, Parameters, preset
from sim import bench


@console.group("Simulations of the emitted Verilog against the golden model (cocotb on Verilator).")
def main(traceback: bool) -> None:
    """Root of the command line."""


def _machine(command: Callable[..., Any]) -> Callable[..., Any]:
    # The three options that choose a machine, handed on as one object.
    @click.option("--preset", "name", help=f"Named machine.  [default: {DEFAULT_PRESET}]")
    @click.option("--config", type=click.Path(path_type=Path), help="Machine as a JSON file.")
    @click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a parameter (repeatable).")
    @functools.wraps(command)
    def wrapped(*args: Any, name: str | None, config: Path | None, settings: tuple[str, ...], **others: Any) -> Any:
        if name is not None and config is not None:
            raise ValueError(f"A machine must come from --preset or --config, not both ({name} and {config})")
        parameters = Parameters.from_file(config) if config is not None else preset(name or DEFAULT_PRESET)
        return command(*args, parameters=parameters.with_settings(settings), **others)

    return wrapped


@main.command()
@click.argument("unit", default="all")
@_machine
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of vectors and pauses.")
@click.option("--waves", is_flag=True, help="Write waveforms (VCD); quick vectors unless asked otherwise.")
@click.option("--vectors", type=click.Choice(["quick", "full"]), help="How many.  [default: full]")
@click.option("--only", is_flag=True, help="These parameters only, without each unit's further variants.")
@click.option("--jobs", default=os.cpu_count() or 1, type=click.IntRange(1), help="Benches at a time.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def run(
    context: click.Context,
    unit: str,
    parameters: Parameters,
    seed: int,
    waves: bool,
    vectors: str | None,
    only: bool,
    jobs: int,
    as_json: bool,
) -> None:
    """Run the bench of UNIT (or all): every stream without pauses, with idle inputs, stalled outputs, and both.

    With full vectors each unit also runs in variants, formats and policies that one machine cannot have at once. Ends
    with code 1 if anything differs from the golden model.
    """
    full = vectors == "full" or vectors is None and not waves
    names = list(bench.BENCHES) if unit == "all" else [unit]
    work = []
    for name in names:
        machines = {"": parameters}
        if full and not only:
            machines |= bench.variants(name, parameters)
        work += [(name, label, bench.Request(machine, full, seed), waves) for label, machine in machines.items()]
    results = _in_parallel(work, jobs)
    console.show([_row(label, result) for label, result in results], title="Benches", as_json=as_json)
    for label, result in results:
        if result.waves:
            click.echo(f"{result.unit} {label}: waveforms in {result.waves}".replace(" :", ":"), err=as_json)
    failures = [(label, result) for label, result in results if result.first]
    for label, result in failures:
        click.echo(f"FAIL {'(' + label + ') ' if label else ''}{result.first}", err=True)
    if failures:
        context.exit(1)


def _in_parallel(work: list[tuple[str, str, bench.Request, bool]], jobs: int) -> list[tuple[str, bench.Result]]:
    if min(jobs, len(work)) <= 1:
        return [(label, bench.carry_out(name, *rest)) for name, label, *rest in console.progress(work, "Benches")]
    # Processes of their own: making vectors is Python's work, and simulators change the environment.
    processes = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=processes) as pool:
        waiting = [pool.submit(bench.carry_out, name, *rest) for name, _, *rest in work]
        try:
            done = concurrent.futures.as_completed(waiting)
            for future in console.progress(done, "Benches", total=len(waiting)):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        return [(label, future.result()) for (_, label, *_), future in zip(work, waiting, strict=True)]


def _row(label: str, result: bench.Result) -> dict[str, Any]:
    return {
        "unit": result.unit,
        "variant": label,
        "vectors": result.vectors,
        "modes": len(bench.MODES),
        "runs": result.runs,
        "cycles": result.cycles,
        "groups/clock": round(result.groups_per_clock, 4) or None,
        "mismatches": result.mismatches,
        "seconds": round(result.seconds, 1),
    }


if __name__ == "__main__":
    main(prog_name="python -m sim")
