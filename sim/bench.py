"""What a bench is, and running one: vectors with golden answers, played through a unit's emitted Verilog."""

import dataclasses
import importlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.hdl import ShapeLike
from amaranth.lib import data, wiring

from golden.common import names
from golden.parameters import Parameters
from hw.arith.leaves import LeafTarget
from rtl_gen import emission, tools
from sim import player, simulator, vectors

__all__ = [
    "BENCHES",
    "MODES",
    "Bench",
    "Case",
    "Mismatch",
    "Request",
    "Result",
    "carry_out",
    "load",
    "run",
    "variants",
]

BENCHES = (
    "delta_quantizer",
    "outlier_selector",
    "int_float_multiplier",
    "float_multiplier",
    "multiplier_group",
    "channel_scale",
    "sign_mask",
    "delta_compressor",
    "delta_decompressor",
    "near_memory_engine",
    "float_multiply",
    "float_add",
)
"""Every bench: the units in the order of the data flow, then the floating-point arithmetic they are built from."""

MODES = {"none": (0, 0), "idle": (1, 0), "back-pressure": (0, 1), "both": (1, 1)}
"""Whether the inputs pause and whether the outputs stall, by name."""

_ECP5_CELLS = ("CCU2C", "LUT4", "LUT2")  # what leaves instantiate, and what the models of those instantiate
_PATIENCE = 8192  # clocks without any transfer until a run counts as hung: far beyond the longest draw of pauses


@dataclass(frozen=True)
class Request:
    """What vectors are asked for.

    Members
    -------
    parameters : Parameters
        The machine.
    full : bool
        All of them, or a quick selection.
    seed : int
        Makes random vectors repeatable.
    """

    parameters: Parameters
    full: bool = False
    seed: int = 0

    def generator(self, *salt: int) -> np.random.Generator:
        """Return a generator of random numbers of its own for each `salt`."""
        return np.random.default_rng([self.seed, *salt])

    def count(self, quick: int, full: int) -> int:
        """`quick` or `full`."""
        return full if self.full else quick


@dataclass(frozen=True)
class Case:
    """Vectors that run from one reset to the next.

    Members
    -------
    name : str
        What they are.
    inputs, outputs : mapping of str to values
        For each stream its vectors, as `sim.vectors.pack` takes them; outputs by the golden model.
    settings : mapping of str to int
        Values of the inputs that are no streams.
    status : mapping of str to bool
        Sticky bits expected at the end; one left out must stay low, and the unit need not have one that does.
    memory : Memory or None
        Content of the memory, for a unit that has one.
    rate : float or None
        Throughput promised for these vectors, if not that of the bench.
    """

    name: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    settings: Mapping[str, int] = field(default_factory=dict)
    status: Mapping[str, bool] = field(default_factory=dict)
    memory: "Memory | None" = None
    rate: float | None = None


@dataclass(frozen=True)
class Memory:
    """Content of a unit's memory.

    Members
    -------
    address : uint32 (N,)
        Every word that the unit may touch.
    before, after : values
        Words at the start and, by the golden model, at the end; as `sim.vectors.pack` takes them.
    """

    address: np.ndarray
    before: Any
    after: Any


@dataclass(frozen=True)
class Bench:
    """A unit with its cases.

    Members
    -------
    name : str
        The unit's.
    component : wiring.Component
        What is emitted.
    cases : sequence of Case
        Vectors.
    groups_per_clock : float
        Throughput the unit promises: transfers of the busiest stream, per clock, in mode none. 0 for no promise.
    memory : MemoryPorts or None
        Streams that a memory serves.
    """

    name: str
    component: wiring.Component
    cases: Sequence[Case]
    groups_per_clock: float = 1.0
    memory: player.MemoryPorts | None = None


@dataclass(frozen=True)
class Mismatch:
    """The first thing in which a unit differs from the golden model.

    Members
    -------
    unit, case, mode : str
        Where.
    what : str
        ``value``, ``missing``, ``stuck``, ``extra``, ``unstable``, ``status``, ``clear``, ``memory``, ``stray`` or
        ``throughput``.
    stream, where : str
        Stream and field.
    index : int
        Number of the output in its case.
    lane : int or None
        Lane, if the field has lanes.
    cycle : int
        Clock, from the start of the run.
    got, expected : int or float
        Values.
    """

    unit: str
    case: str
    mode: str
    what: str
    stream: str
    where: str
    index: int
    lane: int | None
    cycle: int
    got: int | float
    expected: int | float

    def __str__(self) -> str:
        lane = "-" if self.lane is None else self.lane
        text = {
            "value": f"{self.where} of output {self.index} of stream {self.stream}",
            "missing": f"outputs of stream {self.stream} before the unit hung",
            "stuck": f"inputs of stream {self.stream} taken before the unit hung",
            "extra": f"outputs of stream {self.stream}",
            "unstable": f"payload of stream {self.stream} dropped or changed before it was taken",
            "status": f"sticky bit {self.where} at the end",
            "clear": f"sticky bit {self.where} after clear",
            "stray": "accesses to memory words that belong to nobody",
            "memory": f"{self.where} of memory word {self.index} at the end",
            "throughput": "transfers per clock",
        }[self.what]
        return (
            f"unit {self.unit}, lane {lane}, cycle {self.cycle}: {text}: got {_number(self.got)}, "
            f"expected {_number(self.expected)} (case {self.case}, mode {self.mode})"
        )


def _number(value: int | float) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value} ({value:#x})" if value > 9 else str(value)


@dataclass(frozen=True)
class Result:
    """Outcome of a bench.

    Members
    -------
    unit : str
        Name.
    vectors : int
        Outputs compared in one mode, all cases.
    runs : int
        Cases times modes.
    cycles : int
        Clocks of all runs.
    groups_per_clock : float
        Worst case of mode none.
    rates : mapping of str to float
        Transfers of the busiest stream per clock in mode none, by case; without the short ones.
    mismatches : int
        Values that differed and whatever else was wrong.
    first : Mismatch or None
        The first of them.
    seconds : float
        Wall time.
    waves : Path or None
        Waveforms, if asked for.
    """

    unit: str
    vectors: int
    runs: int
    cycles: int
    groups_per_clock: float
    rates: Mapping[str, float]
    mismatches: int
    first: Mismatch | None
    seconds: float
    waves: Path | None = None


def _module(name: str) -> Any:
    if name not in BENCHES:
        raise ValueError(names.unknown("Unit", name, BENCHES))
    return importlib.import_module(f"sim.benches.{name}")


def load(name: str, request: Request) -> Bench:
    """Make a bench: build the unit and its vectors.

    Raises
    ------
    ValueError
        If there is no such bench.
    """
    return _module(name).bench(request)


def variants(name: str, parameters: Parameters) -> dict[str, Parameters]:
    """Other parameters under which the full vectors of a bench run, by a name that tells what differs.

    Most units have some: formats and policies that one machine cannot have at once.
    """
    make = getattr(_module(name), "variants", None)
    found = {} if make is None else make(parameters)
    return {label: other for label, other in found.items() if other != parameters}


def run(
    bench: Bench,
    *,
    seed: int = 0,
    modes: Sequence[str] = tuple(MODES),
    waves: bool = False,
    folder: Path | None = None,
    leaves: str = "generic",
) -> Result:
    """Run a bench.

    Parameters
    ----------
    bench : Bench
        From `load`.
    seed : int
        Of the pauses.
    modes : sequence of str
        Patterns of pauses, of `MODES`.
    waves : bool
        Keep waveforms.
    folder : Path, optional
        Working folder; default one of its own below `simulator.BUILD`, which goes unless waveforms are in it.
    leaves : str
        Form of the unit's leaves: ``"ecp5"`` is simulated with the models of its cells that come with yosys.

    Raises
    ------
    SimulationError
        If the simulation cannot be built or breaks down.
    """
    began = time.monotonic()
    unit = emission.emit(bench.component, name=bench.name, platform=LeafTarget(leaves))
    play = Play(bench, seed=seed, modes=modes)
    sources = {f"{bench.name}.v": unit.text, "player.sv": play.top(unit)}
    if leaves == "ecp5":
        sources["cells.v"] = _ecp5_cells()
    model = simulator.build(sources, waves=waves)
    with simulator.workspace(bench.name, folder) as space:
        outcomes = model.run(play.plan, play.files, space.folder)
        space.keep = waves
    found = space.folder / "dump.vcd" if waves else None
    return play.judge(outcomes, seconds=time.monotonic() - began, waves=found)


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


def carry_out(name: str, request: Request, waves: bool = False) -> Result:
    """`load` a bench and `run` it."""
    return run(load(name, request), seed=request.seed, waves=waves)


class Play:
    """A bench turned into files and a plan for the player, and the player's outcomes back into words."""

    def __init__(self, bench: Bench, *, seed: int = 0, modes: Sequence[str] = tuple(MODES)):
        self.bench = bench
        self.ports = player.interface(bench.component.signature, bench.memory)
        self.streams = {port.name: port for port in (*self.ports.inputs, *self.ports.outputs)}
        clear = any(port.name == "clear" for port in self.ports.settings)
        settings = [port.name for port in self.ports.settings]
        status = [port.name for port in self.ports.status]
        rows: dict[str, list[np.ndarray]] = {name: [] for name in self.streams}
        if bench.memory is not None:
            rows |= {"memory_before": [], "memory_after": []}
        self.runs: list[tuple[Case, str]] = []
        runs = []
        for number, case in enumerate(bench.cases):
            self._check(case, settings, status)
            slices = {}
            for port, values in self._values(case):
                packed = vectors.pack(port.shape, values)
                slices[port.name] = [sum(map(len, rows[port.name])), len(packed)]
                rows[port.name].append(packed)
            if self.ports.word is not None:
                layout = data.StructLayout({"address": 32, "data": self.ports.word.shape})
                for name, words in (("memory_before", case.memory.before), ("memory_after", case.memory.after)):
                    packed = vectors.pack(layout, {"address": case.memory.address, "data": words})
                    slices["memory"] = [sum(map(len, rows[name])), len(packed)]
                    rows[name].append(packed)
            for mode in modes:
                idle, stall = MODES[mode]
                self.runs.append((case, mode))
                runs.append(
                    {
                        "seed": (seed * 1_000_003 + number) & 0xFFFFFFFF,
                        "idle": idle,
                        "stall": stall,
                        "settings": {name: int(case.settings.get(name, 0)) for name in settings},
                        "streams": slices,
                        "status": {name: int(case.status.get(name, 0)) for name in status},
                    }
                )
        self.files = {name: np.concatenate(parts) for name, parts in rows.items()}
        self.plan = {
            "settings": settings,
            "status": status,
            "clear": clear,
            "inputs": [port.name for port in self.ports.inputs],
            "outputs": [port.name for port in self.ports.outputs],
            "memory": bench.memory is not None,
            "patience": _PATIENCE,
            "runs": runs,
        }

    def _values(self, case: Case) -> Iterator[tuple[player.Stream, Any]]:
        for ports, given in ((self.ports.inputs, case.inputs), (self.ports.outputs, case.outputs)):
            for port in ports:
                yield port, given[port.name]

    def _check(self, case: Case, settings: Sequence[str], status: Sequence[str]) -> None:
        for what, given, known in (
            ("inputs", case.inputs, [port.name for port in self.ports.inputs]),
            ("outputs", case.outputs, [port.name for port in self.ports.outputs]),
        ):
            if sorted(given) != sorted(known):
                raise ValueError(f"{what} of case {case.name!r} must be {known}, not {sorted(given)}")
        raised = {name for name, value in case.status.items() if value}
        for what, given, known in (("settings", case.settings, settings), ("status", raised, status)):
            for name in given:
                if name not in known:
                    raise ValueError(names.unknown(f"{what} of case {case.name!r}", name, known))

    def top(self, unit: emission.Emitted, *, faults: bool = False) -> str:
        """SystemVerilog of the player around the emitted unit."""
        clocked = any(port.name == "clk" for port in unit.ports)
        return player.top(unit.name, self.ports, clocked=clocked, faults=faults)

    def judge(
        self, outcomes: Sequence[Mapping[str, Any]], *, seconds: float = 0.0, waves: Path | None = None
    ) -> Result:
        """Say what the outcomes mean."""
        mismatches, first = 0, None
        rates = {}
        for (case, mode), outcome in zip(self.runs, outcomes, strict=False):
            found = list(self._mismatches(case, mode, outcome))
            rate = self._rate(outcome)
            if mode == "none" and rate:
                rates[case.name] = rate
                promised = self.bench.groups_per_clock if case.rate is None else case.rate
                if rate < 0.999 * promised and not found:
                    found.append(self._mismatch(case, mode, "throughput", got=rate, expected=promised))
            mismatches += len(found) + sum(max(output["wrong"] - 1, 0) for output in outcome["outputs"].values())
            mismatches += max(outcome["memory"].get("wrong", 0) - 1, 0)
            first = first or (found[0] if found else None)
        return Result(
            unit=self.bench.name,
            vectors=sum(len(self.files[port.name]) for port in self.ports.outputs),
            runs=len(outcomes),
            cycles=sum(outcome["cycles"] for outcome in outcomes),
            groups_per_clock=min(rates.values(), default=0.0),
            rates=rates,
            mismatches=mismatches,
            first=first,
            seconds=seconds,
            waves=waves,
        )

    def _rate(self, outcome: Mapping[str, Any]) -> float:
        # Transfers per clock of the busier stream; short runs say nothing.
        rates = [
            counters["taken"] / (counters["last_cycle"] - counters["first_cycle"] + 1)
            for counters in (*outcome["inputs"].values(), *outcome["outputs"].values(), outcome["memory"])
            if counters and counters["taken"] >= 64
        ]
        return max(rates, default=0.0)

    def _mismatch(self, case: Case, mode: str, what: str, **values: Any) -> Mismatch:
        defaults = {"stream": "", "where": "", "index": 0, "lane": None, "cycle": 0, "got": 0, "expected": 0}
        return Mismatch(unit=self.bench.name, case=case.name, mode=mode, what=what, **(defaults | values))

    def _mismatches(self, case: Case, mode: str, outcome: Mapping[str, Any]) -> Iterator[Mismatch]:
        wrong = [
            (output["wrong_cycle"], name, output) for name, output in outcome["outputs"].items() if output["wrong"]
        ]
        for cycle, name, output in sorted(wrong, key=lambda entry: entry[0]):
            shape = self.streams[name].shape
            where, lane, got, expected = self._difference(shape, output["wrong_got"], output["wrong_expected"])
            yield self._mismatch(
                case,
                mode,
                "value",
                stream=name,
                where=where,
                index=output["wrong_index"],
                lane=lane,
                cycle=cycle,
                got=got,
                expected=expected,
            )
        common = {"cycle": outcome["cycles"]}
        for name, output in outcome["outputs"].items():
            if output["unstable"]:
                yield self._mismatch(case, mode, "unstable", stream=name, got=1, **common)
            if output["extra"]:
                yield self._mismatch(
                    case, mode, "extra", stream=name, got=output["taken"] + 1, expected=output["taken"], **common
                )
        memory = outcome["memory"]
        if memory.get("unstable"):
            yield self._mismatch(case, mode, "unstable", stream="of the memory", got=1, **common)
        if memory.get("stray"):
            yield self._mismatch(case, mode, "stray", got=1, **common)
        if memory.get("wrong"):
            where, lane, got, expected = self._difference(
                self.ports.word.shape, memory["wrong_got"], memory["wrong_expected"]
            )
            yield self._mismatch(
                case,
                mode,
                "memory",
                where=where,
                lane=lane,
                index=memory["wrong_address"],
                got=got,
                expected=expected,
                **common,
            )
        if outcome["hung"]:
            for what, kind, given in (("missing", "outputs", case.outputs), ("stuck", "inputs", case.inputs)):
                for name, counters in outcome[kind].items():
                    count = len(vectors.pack(self.streams[name].shape, given[name]))
                    if counters["taken"] < count:
                        yield self._mismatch(
                            case, mode, what, stream=name, got=counters["taken"], expected=count, **common
                        )
        for name, value in outcome["status"].items():
            expected = int(case.status.get(name, 0))
            if value != expected:
                yield self._mismatch(case, mode, "status", where=name, got=value, expected=expected, **common)
        for name, value in outcome.get("cleared", {}).items():
            if value:
                yield self._mismatch(case, mode, "clear", where=name, got=value, **common)

    def _difference(self, shape: ShapeLike, got: int, expected: int) -> tuple[str, int | None, int, int]:
        theirs, ours = vectors.decode(shape, got), vectors.decode(shape, expected)
        n = getattr(getattr(self.bench.component, "parameters", None), "lanes", 0)
        for leaf in vectors.leaves(shape):
            if theirs[leaf.name] != ours[leaf.name]:
                lane = next((part for part in reversed(leaf.path) if isinstance(part, int)), None)
                if lane is None and leaf.width == n:  # one flag per lane
                    lane = ((theirs[leaf.name] ^ ours[leaf.name]) & -(theirs[leaf.name] ^ ours[leaf.name])).bit_length()
                    lane -= 1
                return leaf.name, lane, theirs[leaf.name], ours[leaf.name]
        raise AssertionError("a mismatch must differ in a field")


def replace(parameters: Parameters, **values: Any) -> Parameters:
    """`parameters` with other values."""
    return dataclasses.replace(parameters, **values)
