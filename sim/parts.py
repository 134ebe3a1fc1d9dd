"""Mutants of the parts of a machine, judged by what the parts' own tests make them do.

The tests of a part compare what `sim.engine` gives it with golden. Their runs are recorded once, then repeated on each
mutant. A mutant is caught if it breaks a rule of a port, or leaves something else than what the tests found right:
memory, streams, the cause of an error. Clocks do not count.
"""

import contextlib
import io
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from amaranth.lib import wiring

from rtl_gen.verilog import emission
from sim import engine, mutants
from sim.simulator import SimulationError

_SLOWER = 4
"""Times the clocks of a run that a mutant may take, before it counts as caught."""


def record(tests: Path, seed: int = 0) -> list[engine.Recorded]:
    """Carry out a file of tests and record the runs of the parts in it.

    Parameters
    ----------
    tests : Path
        For pytest.
    seed : int
        Of the tests that draw.

    Raises
    ------
    ValueError
        If there is no such file, or its tests run no part by `sim.engine`.
    SimulationError
        If a test fails, or pytest is not installed.
    """
    if not tests.is_file():
        raise ValueError(f"Unit must be a unit's name or a file of tests that exists, not {str(tests)!r}")
    try:
        import pytest
    except ImportError:
        raise SimulationError("pytest must be installed to run the tests of parts: pip install pytest") from None
    before = os.environ.get("DRIFTLESS_SEED")
    os.environ["DRIFTLESS_SEED"] = str(seed)
    printed = io.StringIO()
    try:
        with engine.recording() as found, contextlib.redirect_stdout(printed):
            code = pytest.main(["-q", "-x", "-p", "no:cacheprovider", str(tests)])
    finally:
        os.environ.pop("DRIFTLESS_SEED")
        if before is not None:
            os.environ["DRIFTLESS_SEED"] = before
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        last = printed.getvalue().strip().splitlines()[-1].strip("= ")  # between rules, if more words are asked for
        raise SimulationError(f"Tests must pass without a mutant: {last}")
    if not found:
        raise ValueError(f"Tests of a part must run it by sim.engine, and those of {tests.name} run none")
    return found


def run(
    tests: Path,
    *,
    count: int = 150,
    seed: int = 0,
    full: bool = True,
    track: Callable[[Iterable[mutants.Mutant]], Iterable[mutants.Mutant]] = iter,
) -> list[mutants.Report]:
    """Draw mutants of each kind of part that a file of tests runs, and see which of them the tests catch.

    Of a kind that runs in several shapes, the one that runs most often is taken.

    Parameters
    ----------
    tests : Path
        For pytest.
    count : int
        Mutants of each kind.
    seed : int
        Of mutants, and of tests that draw.
    full : bool
        Whether survivors are compared with the part by a proof.
    track : callable
        Wraps the mutants, to show progress.

    Raises
    ------
    ValueError, SimulationError
        As `record` does.
    """
    kinds: dict[str, dict[int, list[engine.Recorded]]] = {}
    for one in record(tests, seed):
        kinds.setdefault(type(one.component).__name__, {}).setdefault(id(one.component), []).append(one)
    return [_of_part(name, max(shapes.values(), key=len), count, seed, full, track) for name, shapes in kinds.items()]


def _of_part(
    name: str,
    runs: Sequence[engine.Recorded],
    count: int,
    seed: int,
    full: bool,
    track: Callable[[Iterable[mutants.Mutant]], Iterable[mutants.Mutant]],
) -> mutants.Report:
    began = time.monotonic()
    component: wiring.Component = runs[0].component
    unit = emission.emit(component, name="unit", ports="flat")
    drawn = mutants.mutate(unit.text, "unit", count, seed)
    model = engine.Model(component, mutated=drawn.text)
    runs = sorted(runs, key=lambda one: one.outcome.length)
    itself = _caught(model, runs, 0)
    if itself is not None:
        raise SimulationError(f"Runs of {name} must be the same when they are repeated: {itself}")
    findings = []
    for mutant in track(drawn.mutants["unit"]):
        difference = _caught(model, runs, mutant.number)
        proven = full and difference is None and mutants.is_equivalent(drawn.netlist, mutant)
        findings.append(mutants.Finding(mutant, difference, proven))
    return mutants.Report(name, findings, time.monotonic() - began)


def _caught(model: engine.Model, runs: Sequence[engine.Recorded], number: int) -> str | None:
    """What the first run that differs shows, if there is one."""
    for one in runs:
        settings = {**(one.arguments["settings"] or {}), "mutant": number}
        limit = _SLOWER * one.outcome.length + 10_000
        try:
            found = model.run(**{**one.arguments, "settings": settings}, limit=limit)
        except SimulationError as error:
            return str(error)
        difference = _difference(found, one.outcome)
        if difference is not None:
            return difference
    return None


def _difference(found: engine.Outcome, expected: engine.Outcome) -> str | None:
    if found.error != expected.error:
        return f"error {found.error}, not {expected.error}"
    if expected.error is not None:
        return None  # what else an engine leaves behind an error is its own affair
    for name in ("memory", "chip"):
        if not np.array_equal(getattr(found, name), getattr(expected, name)):
            return f"{name} differs"
    for name, values in expected.streams.items():
        if not _same(found.streams[name], values):
            return f"stream {name} differs"
    return next((f"{name} differs" for name, seen in expected.status.items() if found.status[name] != seen), None)


def _same(found: object, expected: object) -> bool:
    """Whether values of a stream, by field if it has fields, are equal."""
    if isinstance(expected, dict):
        return all(_same(found[name], values) for name, values in expected.items())
    return np.array_equal(found, expected)
