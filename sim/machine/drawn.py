"""Images drawn by a program of steps: by the interpreter of the machine, or by its emitted Verilog beside it."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from golden.cli import options as drawing
from golden.common import console
from golden.diffusion.networks.graph import Network
from golden.machine.accelerator import Accelerator as Interpreter
from golden.machine.work import timeline
from hw.accelerator import Accelerator
from rtl_gen.program.steps import Steps
from sim.machine import figures
from sim.machine.checkpoint import Checkpoint, digest
from sim.machine.run import Failure
from sim.machine.verilated import MachineModel, Memory, VerilatedPort
from sim.machine.whole import Snapshot, StepRow, WholeSampling, interpreted

EXECUTORS = ("golden", "verilog")

executor = click.option(
    "--executor",
    type=click.Choice(EXECUTORS),
    default="verilog",
    show_default=True,
    help="What runs the program: the interpreter alone, or the emitted Verilog beside it.",
)
resume = click.option(
    "--resume", is_flag=True, help="Go on behind the last step of a run of the Verilog that was stopped."
)


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
    """What a run has left.

    Members
    -------
    steps : Steps
        What was run.
    rows : tuple of StepRow
        Of each step of the Verilog; empty for the interpreter.
    end : Snapshot
        Memory, status, and counters of all steps.
    """

    steps: Steps
    rows: tuple[StepRow, ...]
    end: Snapshot

    def machine(self) -> Interpreter:
        """A machine with that memory."""
        machine = self.steps.program.load()
        machine.memory[:] = self.end.memory
        return machine

    @property
    def clocks(self) -> int:
        """Of all steps: measured, or on paper where the interpreter ran."""
        p = self.steps.program.parameters
        return sum(row.clocks for row in self.rows) or sum(timeline(turn, p).clocks for turn in self.steps.turns)

    def tables(
        self, network: Network, drawn: np.ndarray, dense: np.ndarray, runs: int = 0
    ) -> dict[str, list[dict[str, Any]]]:
        """Tables by title: of the images and those of the dense network, clocks, layers, bytes.

        With so many `runs` of the network, each of all of it, also what the interpreter has counted of the link.
        """
        rows, turns, p = self.rows, self.steps.turns, self.steps.program.parameters
        run = figures.totals(rows, turns, p) if rows else figures.counts(self.end.counters)
        found = {
            "images": figures.images(network, drawn, dense),
            "run": [run | {"clamped": self.end.status["overflow"]}],
        }
        if rows:
            found["layers"] = figures.shares(network, rows)
        elif runs:
            found["link"] = figures.link(network, self.end.counters, runs)
        return found | {"flows": figures.flows(self.end.counters)}


@dataclasses.dataclass(frozen=True)
class Run:
    """How programs are run, and where a run that was stopped is kept.

    Members
    -------
    executor : str
        One of `EXECUTORS`.
    place : Path
        Of the checkpoint.
    kept : Checkpoint or None
        What to go on from.
    """

    executor: str
    place: Path
    kept: Checkpoint | None

    @classmethod
    def of(cls, executor: str, command: str, parts: Sequence[str], resumed: bool) -> "Run":
        """A run that is named by the command and some words.

        Raises
        ------
        ValueError
            If there is nothing to resume.
        """
        if executor == "golden" and resumed:
            raise ValueError("--resume must be with the executor verilog, not with golden, which has no clocks")
        place = drawing.FOLDER / f"{'-'.join([command, *(Path(part).stem for part in parts)])}.npz"
        return cls(executor, place, Checkpoint.load(place) if resumed else None)

    def draw(self, steps: Steps, about: str) -> Drawn:
        """Run a program; `about` says in words what it draws.

        Raises
        ------
        Failure
            At the first error or difference of the Verilog.
        ValueError
            If what is kept is of another program.
        """
        if self.executor == "golden":
            return Drawn(steps, (), _interpret(steps))
        try:
            return self._simulate(steps, about)
        except KeyboardInterrupt:
            if self.place.exists():
                click.echo(f"Steps that have ended are in {self.place}: --resume goes on behind them.", err=True)
            raise

    def _simulate(self, steps: Steps, about: str) -> Drawn:
        """Run the Verilog beside the interpreter."""
        program, kept = steps.program, self.kept
        if kept is not None:
            kept.check(program, about)
        rows = list(kept.rows) if kept else []
        with console.advancing("Compiling the Verilog", 1) as advance:
            model = MachineModel(Accelerator(program.parameters), traced=True)
            advance()
        both = WholeSampling(
            steps,
            lambda parameters, memory: VerilatedPort(model, parameters, memory, Memory()),
            first=len(rows),
            memory=kept.memory if kept else None,
        )
        with console.advancing("Running", len(steps.turns)) as advance:
            for _ in rows:
                advance()
            for row, memory in both.run():
                rows.append(row)
                advance()
                if len(rows) < len(steps.turns):
                    Checkpoint(digest(program), about, tuple(rows), memory).save(self.place)
        odd = both.odd()
        if odd:
            told = "; ".join(f"{name}: got {got}, expected {expected}" for name, (got, expected) in odd.items())
            raise Failure(f"counters at the end: {told}")
        self.place.unlink(missing_ok=True)
        return Drawn(steps, tuple(rows), dataclasses.replace(both.end, counters=figures.counted(rows)))


def show(title: str, told: dict[str, Any], tables: dict[str, list[dict[str, Any]]], *, as_json: bool) -> None:
    """Print tables, or JSON of them and of what else is told."""
    if as_json:
        click.echo(json.dumps(told | tables, indent=2))
        return
    for name, table in tables.items():
        console.show(table, title=f"{title}: {name}")


def _interpret(steps: Steps) -> Snapshot:
    """What the interpreter leaves at the end."""
    with console.advancing("Running", len(steps.turns)) as advance:
        found: list[Snapshot] = []
        for snapshot in interpreted(steps.program):
            if found:  # the first one is of the time before the first step
                advance()
            found = [snapshot]
    return found[0]
