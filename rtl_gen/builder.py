# amaranth: UnusedElaboratable=no
# A unit whose constructor refuses the parameters is never elaborated.
"""A folder of Verilog and collateral for a machine: written whole or not at all."""

import hashlib
import importlib.metadata
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from golden.common import processes
from golden.common.rooms import VERSION
from golden.parameters import Parameters
from hw.arith.leaves import LeafTarget
from hw.tops import COMPONENTS
from rtl_gen import registers
from rtl_gen.verilog.collateral import collateral
from rtl_gen.verilog.emission import Emitted, emit
from rtl_gen.verilog.lint import WAIVERS
from rtl_gen.verilog.usage import recorded

SCHEMA = 1
"""Version of ``manifest.json``; see ``docs/generator.md``."""

MANIFEST = "manifest.json"

_GENERATOR = "driftless"


def build(
    parameters: Parameters,
    units: Sequence[str],
    out: Path,
    *,
    machine: str,
    target: str = "generic",
    ports: str = "fields",
    jobs: int = 1,
    track: Callable[[Iterable[str]], Iterable[str]] = iter,
) -> dict[str, Any]:
    """Emit units and their collateral into a folder and return the manifest.

    The folder appears under its name when everything in it is complete. One that an earlier build has written is
    replaced; any other must be empty.

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.
    units : sequence of str
        Names in `hw.tops.COMPONENTS`.
    out : Path
        Folder to write.
    machine : str
        Name of the machine, for the collateral.
    target : str
        What the leaves are made of, see `hw.arith.leaves`.
    ports : str
        How payloads become ports, one of `rtl_gen.verilog.ports.FORMS`.
    jobs : int
        Units to emit at a time.
    track : function
        Wraps the names of the units as they are finished, for a progress bar.

    Raises
    ------
    ValueError
        If `out` is a file, the current folder, or holds anything that no build has written; or if a unit does not
        support the parameters.
    """
    out = Path(out).absolute()
    _check_out(out)
    found = dict(zip(units, track(emit_units(parameters, units, target=target, ports=ports, jobs=jobs)), strict=True))
    by_unit = {name: {f"{name}.v": emitted.text} | collateral(emitted) for name, (emitted, _) in found.items()}
    if "accelerator" in found:
        by_unit["accelerator"] |= registers.files(machine, parameters)
    files = {path: text for texts in by_unit.values() for path, text in texts.items()}
    files["filelist.f"] = "".join(f"{name}.v\n" for name in found)
    files[f"driftless_{machine}.core"] = _core(machine, list(found))
    files[WAIVERS.name] = WAIVERS.read_text(encoding="utf-8")
    tools = tool_versions()
    manifest = {
        "schema": SCHEMA,
        "generator": _GENERATOR,
        "version": VERSION,
        "machine": machine,
        "target": target,
        "parameters": parameters.to_dict(),
        "tools": tools,
        "files": [{"path": path, "sha256": _sha256(text)} for path, text in sorted(files.items())],
        "units": [
            {
                "name": name,
                "summary": facts["summary"],
                "files": list(by_unit[name]),
                "modules": list(emitted.modules),
                "ports": [port.to_dict() for port in emitted.ports],
                "parameters": parameters.to_dict(),
                "latency": facts["latency"],
                "throughput": facts["throughput"],
                "tools": tools,
                "sha256": {path: _sha256(text) for path, text in by_unit[name].items()},
            }
            for name, (emitted, facts) in found.items()
        ],
    }
    files[MANIFEST] = json.dumps(manifest, indent=2) + "\n"
    _write(out, files)
    return manifest


def emit_units(
    parameters: Parameters, units: Sequence[str], *, target: str = "generic", ports: str = "fields", jobs: int = 1
) -> Iterator[tuple[Emitted, dict[str, Any]]]:
    """Yield for each unit, in order, what was emitted and its ``summary``, ``latency`` and ``throughput``."""
    tasks = [(name, parameters, target, ports) for name in units]
    if jobs == 1 or len(tasks) == 1:
        yield from map(_emit_unit, tasks)
        return
    with processes.pool(min(jobs, len(tasks))) as pool:
        yield from pool.map(_emit_unit, tasks)


def _emit_unit(task: tuple[str, Parameters, str, str]) -> tuple[Emitted, dict[str, Any]]:
    name, parameters, target, ports = task
    component = COMPONENTS[name](recorded(parameters))
    # What joins others has no one latency.
    facts = {name: getattr(component, name, None) for name in ("summary", "latency", "throughput")}
    return emit(component, platform=LeafTarget(target), ports=ports), facts


def tool_versions() -> dict[str, str]:
    """Versions of what the emitted text depends on."""
    return {"amaranth": importlib.metadata.version("amaranth")}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _core(machine: str, units: Sequence[str]) -> str:
    lines = [
        "CAPI=2:",
        f"name: driftless-hw:driftless:{machine}:{VERSION}",
        f"description: Units of a differential diffusion accelerator, machine {machine}",
        "",
        "filesets:",
        "  rtl:",
        "    files:",
        *(f"      - {name}.v" for name in units),
        "    file_type: verilogSource-2005",
        "  waivers:",
        "    files:",
        f"      - {WAIVERS.name}",
        "    file_type: vlt",
        "",
        "targets:",
        # the first unit stands for all: each has a target of its own
        *_target("default", units[0]),
        *_target("lint", units[0]),
    ]
    for name in units:
        lines += _target(name, name)
    return "\n".join(lines) + "\n"


def _target(name: str, top: str) -> list[str]:
    return [
        f"  {name}:",
        "    filesets: [waivers, rtl]",
        f"    toplevel: {top}",
        "    flow: lint",
        "    flow_options: {tool: verilator, verilator_options: [-Wall]}",
    ]


# Writing ------------------------------------------------------------------------------------------------------------


def _check_out(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise ValueError(f"Output must be a folder, not the file {out}")
    if out.samefile(Path.cwd()):
        raise ValueError(f"Output must be a folder of its own, not the current one ({out})")
    present = {str(path.relative_to(out)) for path in out.rglob("*") if not path.is_dir()}
    if not present and not any(out.iterdir()):
        return
    foreign = sorted(present - _written(out)) or ([] if _written(out) else ["no manifest"])
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise ValueError(
            f"Output folder must be empty or hold an earlier build alone, not {out} with {foreign[0]}{more}"
        )


def _written(out: Path) -> set[str]:
    """Files of an earlier build in `out`; nothing if there was none."""
    try:
        manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        if manifest["generator"] != _GENERATOR:
            return set()
        return {MANIFEST, *(file["path"] for file in manifest["files"])}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _write(out: Path, files: dict[str, str]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that renaming is all that is left to do when everything is there.
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}-", suffix=".part", dir=out.parent))
    try:
        fresh = staging / "new"
        fresh.mkdir()
        for path, text in files.items():
            (fresh / path).write_text(text, encoding="utf-8", newline="\n")
        _check_out(out)
        if out.exists():
            old = staging / "old"
            os.rename(out, old)
            try:
                os.rename(fresh, out)
            except BaseException:
                os.rename(old, out)
                raise
        else:
            os.rename(fresh, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
