"""Command line of the FPGA flows: ``python -m fpga``."""

from golden.common import start

if __name__ == "__main__":
    start.begin()  # before the imports, which take their time

import dataclasses
import functools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from fpga import flow as flows
from fpga.area import area
from fpga.bitstream import build_demo, pack
from fpga.content import DEFAULT_GROUPS, recorded_content
from fpga.mapped import Cells
from fpga.parts import BOARDS, Board, Part, board
from golden.common import console, names
from hw.arith.leaves import LeafTarget
from hw.tops import COMPONENTS
from hw.units import UNITS
from rtl_gen import options


@console.group("Open-tool flows for FPGAs: units and demos on boards, and what the pieces cost.")
def main(traceback: bool) -> None:
    """Root of the command line."""


_jobs = click.option(
    "--jobs", default=os.cpu_count() or 1, show_default=True, type=click.IntRange(1), help="Tools at a time."
)


def _seeds(command: Callable[..., Any]) -> Callable[..., Any]:
    @click.option(
        "--seeds", "n_seeds", default=5, show_default=True, type=click.IntRange(1), help="Placements to take."
    )
    @functools.wraps(command)
    def wrapped(*args: Any, n_seeds: int, **others: Any) -> Any:
        return command(*args, seeds=range(1, n_seeds + 1), **others)

    return wrapped


def _default_preset(others: dict[str, Any]) -> str:
    return board(others["board_name"]).preset


@main.command("build")
@click.option("--board", "board_name", required=True, metavar="NAME", help=f"Board: {', '.join(BOARDS)}.")
@click.option("--unit", "unit_name", metavar="NAME", help=f"Unit to measure: {', '.join(COMPONENTS)}.")
@click.option("--demo", is_flag=True, help="Build the self-checking demo and its bitstream instead.")
@options.machine(default=_default_preset, shown="; ".join(f"{name}: {entry.preset}" for name, entry in BOARDS.items()))
@_seeds
@click.option("--quick", is_flag=True, help="Count a unit's cells only: no place and route, no clock.")
@click.option(
    "--target-mhz",
    type=click.FloatRange(0, min_open=True),
    callback=console.finite,
    help="Clock target.  [default: the board's]",
)
@click.option("--corrupt", type=int, metavar="INDEX", help="Falsify a stored sum of the demo, which must report it.")
@click.option(
    "--out", default=flows.DEFAULT_FOLDER, show_default=True, type=click.Path(path_type=Path), help="Folder to write."
)
@_jobs
@options.as_json
def build_command(
    board_name: str,
    unit_name: str | None,
    demo: bool,
    machine: options.Machine,
    seeds: range,
    quick: bool,
    target_mhz: float | None,
    corrupt: int | None,
    out: Path,
    jobs: int,
    as_json: bool,
) -> None:
    """Place and route a unit or the demo on a board; code 1 if it does not fit or misses its clock target.

    Minutes for a unit, far longer for the parts of a machine; --quick counts their cells without placing.
    """
    target = board(board_name)
    if demo == (unit_name is not None):
        raise ValueError("A build must have either --unit NAME or --demo")
    if corrupt is not None and not demo:
        raise ValueError("--corrupt must come with --demo, whose sums it falsifies")
    if quick and demo:
        raise ValueError("--quick must come with --unit, whose cells it counts")
    flow = flows.Flow(out, jobs)
    goal = target.clock_mhz if target_mhz is None else target_mhz
    what = "demo" if unit_name is None else unit_name
    folder = out / target.name / f"{what}-{machine.name}"
    report: dict[str, Any] = {
        "board": target.name,
        "machine": machine.name,
        "parameters": machine.parameters.to_dict(),
    }
    bitstream = None
    if unit_name is None:
        content = recorded_content(machine.parameters, DEFAULT_GROUPS)
        if corrupt is not None:
            content = content.corrupted(corrupt)
        measurement, bitstream = build_demo(flow, target, content, title=machine.name, seeds=seeds, folder=folder)
    else:
        make = names.lookup("Unit", unit_name, COMPONENTS)
        part = target.part if unit_name in UNITS else target.part.for_machines
        design = (unit_name, functools.partial(make, machine.parameters), LeafTarget(part.leaf_target))
        if quick:
            _count(flow, target, design, part, machine.name, report, folder, as_json)
            return
        (measurement,) = flow.measure([design], part, seeds=seeds, target_mhz=goal)
        if unit_name not in UNITS and measurement.best.configuration is not None:
            bitstream = pack(measurement.best.configuration, part, folder, unit_name)
    report |= {
        "target_mhz": goal,
        "reached": measurement.fmax_mhz >= goal,
        "bitstream": str(bitstream) if bitstream else None,
        **measurement.to_dict(),
    }
    _write_report(report, folder)
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        _show_build(target, machine.name, measurement, goal, folder, bitstream)
    measurement.require(goal)


def _write_report(report: Mapping[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _count(
    flow: flows.Flow,
    board: Board,
    design: flows.Design,
    part: Part,
    machine: str,
    report: dict[str, Any],
    folder: Path,
    as_json: bool,
) -> None:
    """Count the cells of a unit, and refuse it after that if the part has not as many."""
    (netlist,) = flow.map([design], part)
    name, cells, luts = design[0], netlist.cells, netlist.luts_by_part(3)
    report |= {"name": name, "part": part.name, "cells": dataclasses.asdict(cells), "luts_by_part": dict(luts)}
    _write_report(report, folder)
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        _show_cells(board, [(name, cells)], f"{name}, machine {machine}, on {board.name}, counted")
        _show_parts(luts, cells)
        click.echo(f"Report: {folder / 'report.json'}")
    flow.require_room(cells, name, part)


def _show_cells(board: Board, parts: list[tuple[str, Cells]], title: str) -> None:
    capacity = board.part.capacity
    shown = (("LUT", "luts"), ("LUT as memory", "lut_memory"), ("FF", "ff"), ("DSP", "dsp"), ("BRAM", "bram"))
    rows = [{"cells of": name, **{title: getattr(cells, key) for title, key in shown}} for name, cells in parts]
    rows.append({"cells of": f"{board.part.name} has", **{title: capacity.get(key) for title, key in shown}})
    console.show(rows, title=title)


def _show_parts(luts_by_part: Mapping[str, int], cells: Cells) -> None:
    console.show(
        [
            {"part": name or "what joins them", "LUTs": luts, "share": f"{luts / cells.luts:.1%}"}
            for name, luts in _by_part(luts_by_part)
        ],
        title="Look-up tables by part (without those that are memory)",
    )


def _show_build(
    board: Board, machine: str, measurement: flows.Measurement, goal: float, folder: Path, bitstream: Path | None
) -> None:
    parts = [(measurement.name, measurement.cells)]
    if measurement.mode != "pins" or measurement.harness.ff:
        what = "shift registers" if measurement.mode == "serial harness" else "registers at the ports"
        parts.append((f"around it: {what}", measurement.harness))
    title = f"{measurement.name}, machine {machine}, on {board.name}, measured: {measurement.mode}"
    _show_cells(board, parts, title)
    if measurement.luts_by_part:
        _show_parts(measurement.luts_by_part, measurement.cells)
    rates = sorted(placement.fmax_mhz for placement in measurement.placements)
    console.show(
        [
            {
                "clock": "MHz",
                "target": goal,
                "median": round(measurement.fmax_mhz, 1),
                "least": round(rates[0], 1),
                "most": round(rates[-1], 1),
                "seeds": len(rates),
                "reached": "yes" if measurement.fmax_mhz >= goal else "no",
            }
        ]
    )
    path = measurement.typical.path
    if path:
        total = sum(hop.delay_ns for hop in path)
        routing = sum(hop.delay_ns for hop in path if hop.kind == "routing")
        click.echo(f"Slowest path: {total:.2f} ns, {routing:.2f} ns of it wires, {path[0].cell} -> {path[-1].cell}")
    click.echo(f"Report: {folder / 'report.json'}")
    if bitstream:
        click.echo(f"Bitstream: {bitstream} (seed {measurement.best.seed}, {measurement.best.fmax_mhz:.1f} MHz)")


def _by_part(luts: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Parts, the largest first, and behind each the parts of it that have a twentieth of it or more."""
    totals: Counter[str] = Counter()
    for name, count in luts.items():
        totals[name.split(".")[0]] += count
    for part, total in totals.most_common():
        yield part, total
        inner = {name: count for name, count in luts.items() if name.startswith(f"{part}.") and 20 * count >= total}
        yield from sorted(inner.items(), key=lambda item: -item[1])


@main.command("area")
@_seeds
@click.option("--quick", is_flag=True, help="Count cells only: no place and route, no clocks.")
@click.option(
    "--out", default=flows.DEFAULT_FOLDER, show_default=True, type=click.Path(path_type=Path), help="Folder to write."
)
@_jobs
@options.as_json
def area_command(seeds: range, quick: bool, out: Path, jobs: int, as_json: bool) -> None:
    """Measure the pieces on ECP5 beside a dense group of the same lanes, and compare with the goals.

    About ten minutes the first time with --quick, far longer with place and route; what has not changed comes from the
    cache in seconds.
    """
    outcomes = area(flows.Flow(out, jobs), seeds=tuple(seeds), place=not quick)
    report = [outcome.to_dict() for outcome in outcomes]
    out.mkdir(parents=True, exist_ok=True)
    (out / "area.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if as_json:
        click.echo(json.dumps(report, indent=2))
        return
    clocks = "without clocks" if quick else f"out of context, MHz: median of {len(seeds)} seed(s)"
    console.show(
        [outcome.to_row() for outcome in outcomes],
        title=f"Area on ECP5 (speed grade 6), LUTs = LUT4 + 2 x CCU2C, {clocks}",
    )
    click.echo(f"Report: {out / 'area.json'}")


if __name__ == "__main__":
    main()
