"""Static checks of emitted Verilog by Verilator, yosys and slang."""

import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rtl_gen import tools

WAIVERS = Path(__file__).with_name("waivers.vlt")
"""Waived Verilator warnings, each with its reason."""

# Models of the primitives that a target's leaves instantiate, from yosys' own libraries.
_PRIMITIVES = {"generic": (), "ecp5": ("ecp5/cells_sim.v",)}


def _verilator(file: Path, top: str, target: str) -> list[str]:
    command = [*tools.verilator_command(), "--lint-only", "-Wall", "--top-module", top, str(WAIVERS)]
    for library in _PRIMITIVES[target]:
        model = tools.yosys_share() / library
        # The models hold timing, and aliases that Verilator takes for duplicates: both warnings ignore waiver files.
        command += ["-Wno-SPECIFYIGN", "-Wno-MODDUP", f"+incdir+{model.parent}", "-v", str(model)]
    try:
        tools.run([*command, str(file)], cwd=file.parent)
    except tools.ToolError as error:
        return [line for line in error.output.splitlines() if line.startswith("%")] or [error.message]
    return []


def _read(files: Iterable[Path], target: str) -> str:
    lines = [f"read_verilog -lib +/{library}" for library in _PRIMITIVES[target]]
    return "\n".join([*lines, *(f'read_verilog "{file}"' for file in files)])


def _yosys(file: Path, top: str, target: str) -> list[str]:
    script = f"{_read([file], target)}\nhierarchy -check -top {top}\nproc\ncheck -assert\n"
    try:
        output = tools.run_yosys(script, cwd=file.parent)
    except tools.ToolError as error:
        return [error.message]
    return [line for line in output.splitlines() if line.startswith("Warning:")]


# Warnings about what `>>` leaves over are not asked for: taking the low bits of a shifted word is what is meant.
_SLANG = """import sys
from pyslang.driver import Driver
driver = Driver()
driver.addStandardArgs()
read = driver.parseCommandLine(sys.argv[1]) and driver.processOptions() and driver.parseAllSources()
if read:
    design = driver.createCompilation()
    driver.reportCompilation(design, True)
    driver.runAnalysis(design)
    read = driver.reportDiagnostics(True)
sys.exit(not read)
"""


def _slang(file: Path, top: str, target: str) -> list[str]:
    command = f'slang -Wextra -Wno-width-trunc --top {top} "{file}"'
    for library in _PRIMITIVES[target]:
        model = tools.yosys_share() / library
        command += f' -I "{model.parent}" -v "{model}" --suppress-warnings "{model.parent}"'
    tools.require("pyslang")
    try:
        output = tools.run([sys.executable, "-c", _SLANG, command], cwd=file.parent)
    except tools.ToolError as error:
        output = error.output
    return [line for line in output.splitlines() if ": warning: " in line or "error: " in line]


def check_files(
    files: dict[str, str],
    *,
    target: str = "generic",
    jobs: int = 1,
    track: Callable[[Iterable[str]], Iterable[str]] = iter,
) -> list[dict[str, Any]]:
    """Lint Verilog files, each of which holds a top module of its own name.

    Parameters
    ----------
    files : dict
        Name of the top module and text.
    target : str
        What the leaves are made of.
    jobs : int
        Readers at a time.
    track : function
        Wraps the names, for a progress bar.

    Returns
    -------
    list of dict
        Per file ``unit``, ``lines``, and the lists of complaints of each of `READERS`; none is a pass.
    """
    with tempfile.TemporaryDirectory(prefix="driftless-lint-") as folder, ThreadPoolExecutor(jobs) as pool:
        found = {}
        for name, text in files.items():
            file = Path(folder, f"{name}.v")
            file.write_text(text, encoding="utf-8")
            found[name] = {reader: pool.submit(check, file, name, target) for reader, check in READERS.items()}
        return [
            {
                "unit": name,
                "lines": files[name].count("\n"),
                **{reader: complaints.result() for reader, complaints in found[name].items()},
            }
            for name in track(files)
        ]


READERS: dict[str, Callable[[Path, str, str], list[str]]] = {
    "verilator": _verilator,
    "yosys": _yosys,
    "slang": _slang,
}
"""What reads each file, by name: complaints about a file, its top module, and what its leaves are made of."""


def check_together(files: dict[str, str], *, target: str = "generic") -> list[str]:
    """Read all files into one design and return what yosys complains about: no two may define the same module."""
    with tempfile.TemporaryDirectory(prefix="driftless-lint-") as folder:
        paths = []
        for name, text in files.items():
            paths.append(Path(folder, f"{name}.v"))
            paths[-1].write_text(text, encoding="utf-8")
        try:
            tools.run_yosys(f"{_read(paths, target)}\nhierarchy -check\n", cwd=folder)
        except tools.ToolError as error:
            return [error.message]
    return []
