"""Building and running Verilator simulations through cocotb's runner."""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cocotb_tools import runner

from rtl_gen import tools
from sim import player

BUILD = Path("build/sim")
"""Where models and runs are kept, below the working folder."""

# What Verilator has to say about emitted code is the business of `rtl_gen lint`.
_OPTIONS = ["-Wno-fatal", "-Wno-lint", "-Wno-style", "-Wno-PROCASSINIT", "--no-timing", "--x-initial", "fast"]

_RUNTIME = ("verilated.o", "verilated_vpi.o", "verilated_threads.o", "verilated_vcd_c.o")


class SimulationError(tools.ToolError):
    """A model cannot be built or its simulation broke down: one sentence, exit code 1."""


class _Verilator(runner.Verilator):
    """cocotb's runner with three changes.

    Only the player's own ports are visible to the test (cocotb makes every signal so, at a third of the speed); the
    objects of Verilator's run-time library, most of a small model's compile time, are shared; and the environment is
    that of `rtl_gen.tools`.
    """

    def __init__(self, runtime: Path):
        super().__init__()
        self._runtime = runtime

    def _set_env_common(self) -> None:
        super()._set_env_common()
        libraries = self.env["PATH"].rsplit(os.pathsep, 1)[1]
        self.env.update(tools.verilator_environment())
        self.env["PATH"] += os.pathsep + libraries
        # Otherwise cocotb colours its log, and a test inside `pytest` would report to that pytest.
        self.env["NO_COLOR"] = "1"
        self.env["COCOTB_LOG_LEVEL"] = "WARNING"

    def _simulator_in_path_build_only(self) -> None:
        self.executable = shutil.which("verilator", path=tools.verilator_environment()["PATH"]) or "verilator"

    def _build_command(self) -> list[list[str]]:
        verilate, make = super()._build_command()
        position = verilate.index("--public-flat-rw")
        verilate[position : position + 1] = ["--public-depth", "1"]
        objects = [str(self._runtime / name) for name in _RUNTIME if (self._runtime / name).exists()]
        # The copies are younger than the makefile they depend on, so make leaves them alone.
        share = [["cp", *objects, str(self.build_dir)]] if objects else []
        return [verilate, *share, make]


@dataclass(frozen=True)
class Model:
    """A built simulation.

    Members
    -------
    folder : Path
        Where it was built.
    waves : bool
        Whether it can write waveforms.
    """

    folder: Path
    waves: bool

    def run(self, plan: Mapping[str, Any], files: Mapping[str, np.ndarray], folder: Path) -> list[dict[str, Any]]:
        """Run a plan (`sim.player.testbench`) and return the outcome of each of its runs.

        Parameters
        ----------
        plan : mapping
            What to run.
        files : mapping of str to uint8 array
            Vectors of each stream, as `sim.vectors.pack` makes them.
        folder : Path
            Working folder; waveforms stay there.

        Raises
        ------
        SimulationError
            If the simulation broke down before the end of its plan.
        """
        folder.mkdir(parents=True, exist_ok=True)
        outcome = folder / "outcome.json"
        outcome.unlink(missing_ok=True)
        (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
        for name, rows in files.items():
            if rows.nbytes >= 1 << 31:
                raise SimulationError(f"Vectors of stream {name} must be below 2 GiB, not {rows.nbytes} bytes")
            rows.tofile(folder / f"{name}.bin")
        simulator = _Verilator(self.folder)
        log = folder / "simulation.log"
        error = ""
        try:
            with _quiet():
                simulator.test(
                    test_module="sim.player.testbench",
                    hdl_toplevel="player",
                    hdl_toplevel_lang="verilog",
                    build_dir=str(self.folder.absolute()),
                    test_dir=str(folder.absolute()),
                    waves=self.waves,
                    log_file=str(log.absolute()),
                )
        except (subprocess.CalledProcessError, SystemExit, RuntimeError) as problem:
            error = str(problem)
        outcomes = json.loads(outcome.read_text(encoding="utf-8")) if outcome.exists() else []
        if not outcomes:
            last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
            reason = error or (last[-1] if last else "no output")
            raise SimulationError(f"Simulation broke down: {reason} ({log})")
        for name in files:
            (folder / f"{name}.bin").unlink()
        return outcomes


@dataclass
class Workspace:
    """A working folder, and whether it is to stay."""

    folder: Path
    keep: bool = False


@contextlib.contextmanager
def workspace(name: str, folder: Path | None = None) -> Iterator[Workspace]:
    """A working folder for one run: `folder`, or one that no other run has and that goes when the run has gone well."""
    if folder is not None:
        yield Workspace(folder, keep=True)
        return
    (BUILD / "runs").mkdir(parents=True, exist_ok=True)
    space = Workspace(Path(tempfile.mkdtemp(prefix=f"{name}-", dir=BUILD / "runs")))
    yield space
    if not space.keep:
        shutil.rmtree(space.folder, ignore_errors=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # The runner announces each command, and each failed test, on its logger.
    previous = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(previous)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build(sources: Mapping[str, str], *, waves: bool = False, folder: Path | None = None) -> Model:
    """Build a model of the module ``player``, or find the one built before from the same sources.

    Parameters
    ----------
    sources : mapping of str to str
        Texts by file name; the player's own modules are added.
    waves : bool
        Whether runs write waveforms (VCD).
    folder : Path, optional
        Where models are kept; default `BUILD`.

    Raises
    ------
    SimulationError
        If Verilator or the compiler refuses.
    ToolError
        If a tool is missing, or a path has a space.
    """
    folder = (folder or BUILD).absolute()
    tools.require_no_space("Folder of simulations", folder)
    texts = {file.name: file.read_text(encoding="utf-8") for file in sorted(player.FOLDER.glob("*.sv"))} | dict(sources)
    versions = [tools.examine(tool)["version"] for tool in tools.TOOLS if tool.name in ("verilator", "cocotb", "g++")]
    setup = json.dumps([versions, sys.version_info[:3], sys.prefix, _OPTIONS, waves])
    key = hashlib.sha256(json.dumps([setup, texts], sort_keys=True).encode()).hexdigest()[:16]
    runtime = folder / "runtime" / hashlib.sha256(setup.encode()).hexdigest()[:16]
    target = folder / "models" / key
    model = Model(target, waves)
    with _locked(folder / "models" / f"{key}.lock"):
        if (target / "ready").exists():
            return model
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        files = []
        for name, text in texts.items():
            file = target / name
            file.write_text(text, encoding="utf-8")
            files.append(str(file))
        log = target / "build.log"
        simulator = _Verilator(runtime)
        # Whoever is first makes the run-time objects; others wait for them rather than compile them again.
        with _locked(runtime.with_suffix(".lock")) if not runtime.exists() else contextlib.nullcontext():
            try:
                with _quiet():
                    simulator.build(
                        sources=[file for file in files],
                        hdl_toplevel="player",
                        build_dir=str(target),
                        build_args=_OPTIONS,
                        waves=waves,
                        log_file=str(log),
                    )
            except (subprocess.CalledProcessError, SystemExit, RuntimeError) as problem:
                lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
                reasons = [line for line in lines if "%Error" in line or "error:" in line] or [str(problem)]
                raise SimulationError(f"Verilator failed: {reasons[0].strip()} ({log})") from problem
            _keep_runtime(target, runtime)
        for file in target.glob("*.o"):
            file.unlink()
        (target / "ready").touch()
    return model


def _keep_runtime(target: Path, runtime: Path) -> None:
    if runtime.exists():
        return
    with tempfile.TemporaryDirectory(dir=runtime.parent) as temporary:
        part = Path(temporary, "objects")
        part.mkdir()
        for name in _RUNTIME:
            if (target / name).exists():
                shutil.copy2(target / name, part / name)
        part.rename(runtime)
