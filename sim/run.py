"""Running a bench: the unit's emitted Verilog in Verilator, against its golden answers."""

import dataclasses
import re
import time
from collections.abc import Sequence
from pathlib import Path

from hw.arith.leaves import LeafTarget
from rtl_gen import tools
from rtl_gen.verilog import emission
from sim import play, simulator
from sim.bench import Bench, Request, load
from sim.result import Result, judge

_ECP5_CELLS = ("CCU2C", "LUT4", "LUT2")  # what leaves instantiate, and what the models of those instantiate


def run(
    bench: Bench,
    *,
    seed: int = 0,
    modes: Sequence[str] = tuple(play.MODES),
    waves: bool = False,
    folder: Path | None = None,
    leaves: str = "generic",
    model: simulator.Model | None = None,
) -> Result:
    """Run a bench.

    Parameters
    ----------
    bench : Bench
        From `sim.bench.load`.
    seed : int
        Of the pauses.
    modes : sequence of str
        Patterns of pauses, of `sim.play.MODES`.
    waves : bool
        Keep waveforms.
    folder : Path, optional
        Working folder; default one of its own below `simulator.BUILD`, which goes unless waveforms are in it.
    leaves : str
        Form of the unit's leaves: ``"ecp5"`` is simulated with the models of its cells that come with yosys.
    model : simulator.Model, optional
        What `build` made of the same unit with the same `waves` and `leaves`; default: build it now.

    Raises
    ------
    SimulationError
        If the simulation cannot be built or breaks down.
    """
    began = time.monotonic()
    made = play.Play(bench, seed=seed, modes=modes)
    model = model or build(bench, waves=waves, leaves=leaves)
    with simulator.workspace(bench.name, folder) as space:
        outcomes = model.run(made.plan, made.files, space.folder)
        space.keep = waves
    found = space.folder / "dump.vcd" if waves else None
    return judge(made, outcomes, seconds=time.monotonic() - began, waves=found)


def build(bench: Bench, *, waves: bool = False, leaves: str = "generic") -> simulator.Model:
    """Emit a bench's unit and build its simulation, which runs benches of this unit with whatever vectors.

    Raises
    ------
    SimulationError
        If the simulation cannot be built.
    """
    unit = emission.emit(bench.component, name=bench.name, platform=LeafTarget(leaves))
    sources = {f"{bench.name}.v": unit.text, "player.sv": play.top(bench, unit)}
    if leaves == "ecp5":
        sources["cells.v"] = _ecp5_cells()
    return simulator.build(sources, waves=waves)


def _ecp5_cells() -> str:
    """Models of the cells that leaves instantiate, without their delays."""
    share = tools.yosys_share() / "ecp5"
    text = "".join((share / name).read_text(encoding="utf-8") for name in ("ccu2c_sim.vh", "common_sim.vh"))
    found = {name: re.search(rf"^module {name}\(.*?^endmodule\n", text, re.M | re.S) for name in _ECP5_CELLS}
    missing = [name for name, match in found.items() if match is None]
    if missing:
        raise tools.ToolError(
            f"Yosys' models of ECP5 cells must hold {' and '.join(missing)}; another version is needed"
        )
    return "".join(re.sub(r"^\s*specify.*?endspecify\n", "", match[0], flags=re.M | re.S) for match in found.values())


def carry_out(name: str, request: Request, seeds: Sequence[int] = (), waves: bool = False) -> list[Result]:
    """Load a bench and run it with each of `seeds` (default: that of `request`)."""
    requests = [dataclasses.replace(request, seed=seed) for seed in seeds or [request.seed]]
    model, results = None, []
    for request in requests:
        bench = load(name, request)
        model = model or build(bench, waves=waves)
        results.append(run(bench, seed=request.seed, waves=waves, model=model))
    return results
