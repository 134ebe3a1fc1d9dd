"""Faults in a unit's emitted Verilog: a bench that does not find them proves nothing.

Every fault sits in the same text and is switched on by number (`faults::active`), so one simulation serves them all.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtl_gen import emission
from sim import simulator
from sim.bench import Bench
from sim.play import Play, top
from sim.result import Mismatch, judge

__all__ = ["KINDS", "PACKAGE", "Fault", "Finding", "inject", "run"]

KINDS = ("inverted bit", "stuck select", "dropped carry", "stuck condition")
"""What can go wrong: a bit of a wire is inverted; a multiplexer always takes its first input; an adder loses its
carries; a condition of a register is always true."""

PACKAGE = """\
// Which fault is switched on; 0 for none.
package faults;
  int unsigned active;
endpackage
"""

_ASSIGN = re.compile(r"^(\s*assign )(\w+)( = )([^;]+)(;)$")
_SELECT = re.compile(r"^([\w\[\]:]+) \? ([^?]+)$")
_CARRY = re.compile(r"^([^+?]+) \+ ([^+?]+)$")
_CONDITION = re.compile(r"^(\s*if \()(\w+)(\) begin)$")
_WIDTH = re.compile(r"^\s*(?:input|output)?\s*(?:wire|reg)\s*(?:signed\s*)?(?:\[(\d+):0\])?\s*(\w+)\s*[;,]?$")


@dataclass(frozen=True)
class Fault:
    """A fault in a text.

    Members
    -------
    number : int
        Switches it on.
    kind : str
        One of `KINDS`.
    line : int
        Line of the emitted text, from 1.
    before, after : str
        What stood there and what stands for it.
    """

    number: int
    kind: str
    line: int
    before: str
    after: str


@dataclass(frozen=True)
class Finding:
    """What a bench made of a fault: the first mismatch, or None if it did not notice."""

    fault: Fault
    mismatch: Mismatch | None


def _widths(lines: Sequence[str]) -> dict[int, int]:
    """Bits of the wire that each line assigns, by the line's index."""
    declared: dict[str, int] = {}
    found = {}
    for index, line in enumerate(lines):
        if line.startswith("module "):
            declared = {}
        if match := _WIDTH.match(line):
            declared[match[2]] = int(match[1] or 0) + 1
        if (match := _ASSIGN.match(line)) and match[2] in declared:
            found[index] = declared[match[2]]
    return found


def _sites(text: str) -> dict[str, list[tuple[int, str]]]:
    """For each kind its possible places: index of a line, and the faulty expression or condition."""
    sites: dict[str, list[tuple[int, str]]] = {kind: [] for kind in KINDS}
    lines = text.splitlines()
    widths = _widths(lines)
    for index, line in enumerate(lines):
        if assign := _ASSIGN.match(line):
            right, width = assign[4], widths.get(index)
            if width is None:
                continue
            # Bits in turn, so that low and high ones have theirs.
            bit = len(sites["inverted bit"]) * 5 % width
            sites["inverted bit"].append((index, f"SOUND ^ {width}'b{1 << bit:0{width}b}"))
            if select := _SELECT.match(right):
                sites["stuck select"].append((index, f"1'h1 ? {select[2]}"))
            if carry := _CARRY.match(right):
                sites["dropped carry"].append((index, f"{carry[1]} ^ {carry[2]}"))
        if (condition := _CONDITION.match(line)) and condition[2] != "rst":
            sites["stuck condition"].append((index, "1'h1"))
    return sites


def inject(text: str, *, per_kind: int = 3) -> tuple[str, list[Fault]]:
    """Put faults into an emitted unit, evenly over its text.

    Parameters
    ----------
    text : str
        Emitted Verilog.
    per_kind : int
        Faults of each kind, where there are so many places.

    Returns
    -------
    text : str
        With all faults, none of them active while ``faults::active`` is 0; needs `PACKAGE`.
    faults : list of Fault
        By number.

    Raises
    ------
    ValueError
        If `per_kind` is below 1 or the text has no place for any fault.
    """
    if per_kind < 1:
        raise ValueError(f"per_kind must be at least 1, not {per_kind}")
    lines = text.splitlines()
    faults: list[Fault] = []
    taken: set[int] = set()
    for kind, sites in _sites(text).items():
        sites = [site for site in sites if site[0] not in taken]
        chosen = [sites[(2 * turn + 1) * len(sites) // (2 * per_kind)] for turn in range(per_kind) if sites]
        for index, faulty in dict(chosen).items():
            taken.add(index)
            number = len(faults) + 1
            faulty = faulty.replace("SOUND", f"fault{number}_sound")
            faults.append(Fault(number, kind, index + 1, lines[index].strip(), faulty))
    if not faults:
        raise ValueError("Text must be emitted Verilog with an assignment in it, but has none")
    widths = _widths(lines)
    for fault in faults:
        line = lines[fault.line - 1]
        when = f"faults::active == 32'd{fault.number}"
        if match := _ASSIGN.match(line):
            # Wires of their own, so that neither expression changes the other's width or sign.
            wire = f"  wire [{widths[fault.line - 1] - 1}:0] fault{fault.number}"
            lines[fault.line - 1] = (
                f"{wire}_sound = {match[4]};\n{wire}_faulty = {fault.after};\n"
                f"{match[1]}{match[2]} = {when} ? fault{fault.number}_faulty : fault{fault.number}_sound;"
            )
        elif match := _CONDITION.match(line):
            lines[fault.line - 1] = f"{match[1]}{when} || {match[2]}{match[3]}"
    return "\n".join(lines) + "\n", faults


def run(
    bench: Bench,
    *,
    per_kind: int = 3,
    seed: int = 0,
    modes: Sequence[str] = ("none", "both"),
    folder: Path | None = None,
) -> list[Finding]:
    """Run a bench against each fault in turn, until its first mismatch.

    Raises
    ------
    SimulationError
        If the simulation cannot be built or breaks down, or the unit fails without any fault.
    """
    unit = emission.emit(bench.component, name=bench.name)
    text, faults = inject(unit.text, per_kind=per_kind)
    play = Play(bench, seed=seed, modes=modes)
    sources = {"faults.sv": PACKAGE, f"{bench.name}.v": text, "player.sv": top(bench, unit, faults=True)}
    model = simulator.build(sources)
    plan = play.plan | {"faults": [0, *(fault.number for fault in faults)]}
    with simulator.workspace(f"{bench.name}-faults", folder) as space:
        outcomes = model.run(plan, play.files, space.folder)
    per_fault: dict[int, list] = {number: [] for number in range(len(faults) + 1)}
    for outcome in outcomes:
        per_fault[outcome["fault"]].append(outcome)
    clean = judge(play, per_fault[0])
    if clean.first is not None:
        raise simulator.SimulationError(f"Bench of {bench.name} must pass without a fault: {clean.first}")
    return [Finding(fault, judge(play, per_fault[fault.number]).first) for fault in faults]
