"""Verilated models as shared libraries: Verilog and the C++ that drives it, called from Python without a process.

A bench in C++ is 100 times faster than one that wakes Python every clock, and needs no VPI, hence no public signal.
"""

import concurrent.futures
import ctypes
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from rtl_gen import tools
from sim.simulator import BUILD, SimulationError

__all__ = ["FOLDER", "build", "identifier"]

FOLDER = Path(__file__).parent
"""Where the C++ is."""

_VERILATE = ("-Wno-fatal", "-Wno-lint", "-Wno-style", "--no-timing", "--x-initial", "fast", "--no-trace-top")
_COMPILE = (
    "-std=c++17",
    "-fPIC",
    "-fvisibility=hidden",
    # Two models in one process share nothing.
    "-fno-gnu-unique",
    "-DVL_USER_FATAL",
    "-w",
)
_RUNTIME = ("verilated.cpp", "verilated_threads.cpp")
_UNIT = 1_500_000
"""Bytes of C++ that are compiled as one: in small files most of the time goes into the same headers; large models
are spread over the processors."""

# Names that Verilator takes for words of C++, though emission does not.
_WORDS = frozenset({"cdecl", "huge", "interrupt", "near", "pascal", "synchronized"})


def identifier(port: str) -> str:
    """What a model's C++ calls a port."""
    return f"__SYM__{port}" if port in _WORDS else port.replace("__", "___05F")


def build(
    top: str,
    sources: Mapping[str, str],
    bench: str,
    *,
    optimise: str = "-O2",
    threads: int = 1,
    waves: bool = False,
    visible: Sequence[str] = (),
    folder: Path | None = None,
) -> ctypes.CDLL:
    """Build a model and its bench, or find the one built before from the same sources.

    Parameters
    ----------
    top : str
        Top module; the model's class is called ``Unit``.
    sources : mapping of str to str
        Texts by file name: Verilog, and headers that the bench includes.
    bench : str
        File of `FOLDER` that drives the model.
    optimise : str
        Option of the compiler.
    threads : int
        Threads that a model computes with.
    waves : bool
        Whether it can write waveforms (VCD).
    visible : sequence of str
        Signals of one bit that the bench may look at, in whatever module they are; ``visible.h`` lists them.
    folder : Path, optional
        Where models are kept; default `sim.simulator.BUILD`.

    Raises
    ------
    SimulationError
        If Verilator or the compiler refuses.
    ToolError
        If a tool is missing, or a path has a space.
    """
    folder = (folder or BUILD).absolute()
    tools.require_no_space("Folder of simulations", folder)
    texts = {file.name: file.read_text(encoding="utf-8") for file in sorted(FOLDER.glob("*.h"))}
    texts |= {bench: (FOLDER / bench).read_text(encoding="utf-8")} | dict(sources)
    versions = [tools.examine(tool)["version"] for tool in tools.TOOLS if tool.name in ("verilator", "g++")]
    setup = [versions, _VERILATE, _COMPILE, optimise, threads, waves, list(visible)]
    key = hashlib.sha256(json.dumps([setup, top, texts], sort_keys=True).encode()).hexdigest()[:16]
    target = folder / "native" / key
    library = target / "model.so"
    folder.joinpath("native").mkdir(parents=True, exist_ok=True)
    with open(target.with_suffix(".lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()
            for name, text in texts.items():
                (target / name).write_text(text, encoding="utf-8")
            runtime = _runtime(folder, setup, optimise, waves)
            verilog = [name for name in texts if name.endswith((".v", ".sv"))]
            (target / "visible.vlt").write_text(
                "\n".join(["`verilator_config", *(f'public_flat_rd -module "*" -var "{name}"' for name in visible), ""])
            )
            _make(top, ["visible.vlt", *verilog], target, runtime, optimise, threads, waves, visible)
    return ctypes.CDLL(str(library))


def _make(
    top: str,
    verilog: Sequence[str],
    target: Path,
    runtime: Sequence[Path],
    optimise: str,
    threads: int,
    waves: bool,
    visible: Sequence[str],
) -> None:
    command = [*tools.verilator_command(), "--cc", *_VERILATE, "--prefix", "Unit", "--top-module", top]
    command += ["--threads", str(threads), *["--trace-vcd"] * waves, "-Mdir", ".", *verilog]
    try:
        tools.run(command, cwd=target, log=target / "build.log")
        _list_visible(top, visible, target)
        # What runs once, and is long, is not worth optimising.
        files = sorted(target.glob("*.cpp"))
        slow = [file for file in files if "__Slow" in file.name]
        fast = [file for file in files if file not in slow]
        jobs = [(unit, "-O0") for unit in _join(slow, "slow")] + [(unit, optimise) for unit in _join(fast, "fast")]
        objects = _compile(jobs, target, waves)
        link = ["g++", "-shared", "-o", "model.part", *map(str, objects), *map(str, runtime)]
        tools.run([*link, "-pthread", "-latomic", "-Wl,-Bsymbolic"], cwd=target)
    except tools.ToolError as error:
        raise SimulationError(f"{error.message.replace('env failed', 'Verilator failed', 1)} ({target})") from error
    (target / "model.part").rename(target / "model.so")
    for file in {*objects, *(unit for unit, _ in jobs), *target.glob("Unit*")}:
        file.unlink()


def _join(files: Sequence[Path], name: str) -> list[Path]:
    """Write files that include the given ones, up to `_UNIT` bytes each."""
    groups: list[list[Path]] = []
    room = 0
    for file in files:
        size = file.stat().st_size
        if size > room or not groups:
            groups.append([])
            room = _UNIT
        groups[-1].append(file)
        room -= size
    units = []
    for number, group in enumerate(groups):
        units.append(group[0].with_name(f"{name}{number}.cc"))
        units[-1].write_text("".join(f'#include "{file.name}"\n' for file in group), encoding="utf-8")
    return units


def _list_visible(top: str, visible: Sequence[str], target: Path) -> None:
    """Write ``visible.h``: the signals that were made visible, by their path below the top module."""
    root = (target / "Unit___024root.h").read_text(encoding="utf-8")
    names = "|".join(map(identifier, visible)) or "(?!)"
    found = re.findall(rf"CData/\*0:0\*/ ({top}__DOT__\w+__DOT__(?:{names}));", root)
    lines = [f'    {{"{name.split("__DOT__", 1)[1].replace("__DOT__", ".")}", &unit.rootp->{name}}},' for name in found]
    text = ["#pragma once", '#include "Unit___024root.h"', "struct Visible {", "  const char* path;"]
    text += ["  const uint8_t* data;", "};", "inline std::vector<Visible> visible(Unit& unit) {", "  return {"]
    (target / "visible.h").write_text("\n".join([*text, *lines, "  };", "}", ""]), encoding="utf-8")


def _compile(jobs: Sequence[tuple[Path, str]], target: Path, waves: bool) -> list[Path]:
    root = tools.verilator_root() / "include"
    include = ["-I.", f"-I{root}", f"-I{root / 'vltstd'}", f"-DVM_TRACE={waves:d}", f"-DVM_TRACE_VCD={waves:d}"]

    def one(job: tuple[Path, str]) -> Path:
        file, optimise = job
        made = target / f"{file.stem}.o"
        tools.run(["g++", "-c", *_COMPILE, optimise, *include, str(file), "-o", str(made)], cwd=target)
        return made

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(one, jobs))


def _runtime(folder: Path, setup: object, optimise: str, waves: bool) -> list[Path]:
    """Objects of Verilator's run-time library, made once."""
    target = folder / "native" / f"runtime-{hashlib.sha256(json.dumps(setup).encode()).hexdigest()[:16]}"
    with open(target.with_suffix(".lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            part = target.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            names = [*_RUNTIME, *["verilated_vcd_c.cpp"] * waves]
            _compile([(tools.verilator_root() / "include" / name, optimise) for name in names], part, waves)
            part.rename(target)
    return sorted(target.glob("*.o"))
