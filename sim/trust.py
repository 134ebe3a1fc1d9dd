"""``sim trust``: thousands of programs broken off, wrong, or refused by memory, on the whole machine's Verilog."""

import collections
import json
import time
from collections.abc import Iterator, Sequence

import click

from golden.common import console
from golden.diffusion.differential.method import Method
from hw.accelerator import Accelerator
from rtl_gen import options
from rtl_gen.program.commands import on_machine
from sim.machine.invented import invented
from sim.machine.trust import Programs, Trial, Trials, small_sections
from sim.machine.verilated import MachineModel, Memory
from sim.play import MODES

_TOLD = 20  # failures that are printed


@click.command("trust")
@click.option("--resets", default=100, show_default=True, type=click.IntRange(0), help="Programs broken off.")
@click.option("--mutants", default=1000, show_default=True, type=click.IntRange(0), help="Programs with a mistake.")
@click.option("--faults", default=100, show_default=True, type=click.IntRange(0), help="Beats that memory refuses.")
@click.option(
    "--invented",
    "others",
    default=100,
    show_default=True,
    type=click.IntRange(0),
    help="Programs that no compiler writes, without a mistake.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the network and all trials.")
@click.option(
    "--method", default="closed-int3", show_default=True, help="Closed loop, raw or diffy: a name, or a file .json."
)
@click.option(
    "--mode",
    default="both",
    show_default=True,
    type=click.Choice([mode for mode in MODES if mode != "reset"]),
    help="Pauses of memory.",
)
@options.machine(default=lambda others: "tiny", shown="tiny")
@options.as_json
@click.pass_context
def command(
    context: click.Context,
    resets: int,
    mutants: int,
    faults: int,
    others: int,
    seed: int,
    method: str,
    mode: str,
    machine: options.Machine,
    as_json: bool,
) -> None:
    """Run layers of a small random network with something wrong, on the Verilog of the whole machine.

    Resets come at any clock, by register and by pin, and the next program must run as ever. Mutants are wrong numbers
    and operands of commands, flipped bits of programs, of what they read, and of streams on the link, and regions that
    end too early: memory, or the cause of the error, must be the interpreter's. A refused beat must end the program
    with its response. What is invented has other fields, operations by themselves, loops, and groups on the link
    without a spool: memory, counters and sticky bits must be the interpreter's. Memory checks the bus in every clock,
    and that nothing outside the regions is touched. Ends with code 1 if anything was not as it should be. The defaults
    take about two minutes, 10,000 mutants about fifteen.
    """
    chosen = on_machine(Method.named(method), machine)
    with console.advancing("Compiling program and Verilog", 2) as advance:
        programs = Programs(small_sections(chosen, seed))
        advance()
        trials = Trials(
            MachineModel(Accelerator(chosen.machine)), programs, Memory(latency=7, mode=mode, seed=seed), seed
        )
        advance()

    def inventions(count: int) -> Iterator[Trial]:
        return (trials.counted(turn, invented(programs, seed, turn)) for turn in range(count))

    rows, failures = [], []
    causes: collections.Counter[str] = collections.Counter()
    for name, made, count in (
        ("resets", trials.resets, resets),
        ("mutants", trials.mutants, mutants),
        ("refused beats", trials.faults, faults),
        ("invented", inventions, others),
    ):
        begun, clocks = time.perf_counter(), trials.clocks
        found = list(console.progress(made(count), name.capitalize(), count))
        rows += _rows(found)
        failures += [trial for trial in found if trial.failure]
        causes.update(trial.outcome for trial in found)
        if found:
            rows[-1] |= {"clocks": trials.clocks - clocks, "seconds": round(time.perf_counter() - begun, 1)}
    summary = {"machine": machine.name, "method": method, "seed": seed, "mode": mode}
    listed = [{"outcome": outcome, "trials": number} for outcome, number in causes.most_common()]
    if as_json:
        told = [trial.__dict__ for trial in failures]
        click.echo(json.dumps(summary | {"trials": rows, "outcomes": listed, "failures": told}, indent=2))
    else:
        console.show(rows, title=f"Trials of {machine.name}, seed {seed}")
        console.show(listed, title="How they ended")
    for trial in failures[:_TOLD]:
        click.echo(f"FAIL {trial.kind}, turn {trial.turn}, {trial.told}: {trial.failure}", err=True)
    if failures:
        context.exit(1)
    if not as_json:
        click.echo(f"All {sum(causes.values())} trials ended as they should.")


def _rows(trials: Sequence[Trial]) -> list[dict[str, object]]:
    """A row for each kind."""
    rows = []
    for kind in dict.fromkeys(trial.kind for trial in trials):
        found = [trial for trial in trials if trial.kind == kind]
        ends = collections.Counter(trial.outcome for trial in found)
        rows.append(
            {
                "kind": kind,
                "trials": len(found),
                "equal": ends["equal"],
                "error": len(found) - ends["equal"] - ends["open"] - ends["failed"],
                "open": ends["open"],
                "failed": ends["failed"],
                "clocks": None,
                "seconds": None,
            }
        )
    return sorted(rows, key=lambda row: str(row["kind"]))
