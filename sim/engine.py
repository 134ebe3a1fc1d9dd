"""The bench of one engine, or of any part with ports to memory: its Verilog, a memory behind it, operations.

>>> from sim import engine
>>> outcome = engine.run(  # doctest: +SKIP
...     LoadEngine(parameters),
...     memory,
...     regions,
...     operations=[LoadWeights(source=Operand(1), records=4)],
...     seed=3,
... )
>>> outcome.error, outcome.clocks, outcome.streams["weights"]["scale"]  # doctest: +SKIP
(None, [97], array([3, 5, -2, 0]))

Every port of the kinds `hw.bus.ports.MemoryRead` and `MemoryWrite` is found in the signature and served by one memory,
a word read and a word written a clock; every other stream is played or kept; an input that is no stream is a setting,
an output that is none is a status. Operations go to the stream ``operation``, one after the other.

Rules that are checked in every clock: what is offered stays until it is taken; a span is of at least a byte and gets
all its words; no byte outside it is written; words that were asked for are taken; an operation is taken when every
write has arrived, and never after an error.
"""

import contextlib
import ctypes
import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.hdl import unsigned
from amaranth.lib import wiring

from golden.common import names
from golden.machine.accelerator import CHIP_REGION, Region
from golden.machine.command import DATAFLOWS, UNIT_BYTES, Operation, pack
from golden.machine.registers import CAUSES
from hw.bus import ports as bus
from rtl_gen.verilog import emission
from sim import native, player, vectors
from sim.play import MODES
from sim.simulator import SimulationError

_FLAGS = ("idle", "stall", "late")
_MUTANT = "mutant"  # no part has a port of that name
_GRACE = 1024  # clocks without any movement until all is over: more than a serial coder takes to fill its widest word


class Violation(SimulationError):
    """A part broke a rule of one of its ports."""


class Hung(SimulationError):
    """Nothing moved for too long, or a run did not end within its limit."""


@dataclass(frozen=True)
class Outcome:
    """What a run left.

    Members
    -------
    memory, chip : uint8 arrays
        What they hold at the end.
    streams : mapping of str to values
        What each output stream gave, by field, as `sim.vectors.unpack` tells.
    cycles : mapping of str to int64 arrays
        Clock of each transfer of every stream, from the end of the reset on.
    clocks : list of int
        Of each operation that was taken, from the one before.
    error : str or None
        Cause, of `golden.machine.registers.CAUSES`; ``region`` also where a span does not lie in its region.
    sentence : str
        What the bench says of the error, if anything.
    status : mapping of str to int
        Every output that is no stream: the bits that were high at any time.
    moved : mapping of str to int
        Bytes that each port to memory has read or written.
    length : int
        Clocks of the whole run.
    """

    memory: np.ndarray
    chip: np.ndarray
    streams: Mapping[str, Any]
    cycles: Mapping[str, np.ndarray]
    clocks: list[int]
    error: str | None
    sentence: str
    status: Mapping[str, int]
    moved: Mapping[str, int]
    length: int


@dataclass(frozen=True, eq=False)
class Recorded:
    """A run, as it can be repeated.

    Members
    -------
    component : Component
        The part.
    arguments : mapping of str to values
        Those of `Model.run`.
    outcome : Outcome
        What it left.
    """

    component: wiring.Component
    arguments: Mapping[str, Any]
    outcome: Outcome


_records: list[list[Recorded]] = []


@contextlib.contextmanager
def recording() -> Iterator[list[Recorded]]:
    """Record every run that ends without a broken rule."""
    found: list[Recorded] = []
    _records.append(found)
    try:
        yield found
    finally:
        _records.remove(found)


class Model:
    """A part as a compiled simulation; `build` makes it.

    Parameters
    ----------
    component : Component
        The part.
    waves : bool
        Whether it can write waveforms.
    mutated : str, optional
        Verilog with mutants of the part (`sim.mutants.mutate`) in place of its own; the setting ``mutant`` chooses one.
    """

    def __init__(self, component: wiring.Component, *, waves: bool = False, mutated: str | None = None):
        self.component = component
        found = player.interface(component.signature)
        self._memories = _memory_members(component.signature)
        theirs = {f"{name}__{member}" for name in self._memories for member in ("request", "data", "idle")}
        own = {
            kind: [port for port in getattr(found, kind) if port.name not in theirs]
            for kind in ("inputs", "outputs", "settings", "status")
        }
        self._streams = [*own["inputs"], *own["outputs"]]
        self._inputs = {port.name for port in own["inputs"]}
        self._settings, self._status = own["settings"], own["status"]
        unit = emission.emit(component, name="unit", ports="flat")
        if mutated is not None:
            self._settings.append(player.Port(_MUTANT, unsigned(32)))
        sources = {"unit.v": mutated or unit.text, "table.h": self._table(unit)}
        library = native.build("unit", sources, "engine.cpp", optimise="-O1", waves=waves)
        self._library, self._waves = library, waves
        library.bench_open.restype = ctypes.c_void_p
        library.bench_message.restype = ctypes.c_char_p
        for name in ("bench_now", "bench_taken", "bench_moved"):
            getattr(library, name).restype = ctypes.c_uint64
        for name in ("bench_cycles", "bench_payloads", "bench_seen"):
            getattr(library, name).restype = ctypes.c_void_p

    def _table(self, unit: emission.Emitted) -> str:
        """C++ that lists the ports of the model."""
        by_member = {port.member: port for port in unit.ports}
        for name in ("clk", "rst"):
            if not any(port.name == name and not port.member for port in unit.ports):
                raise ValueError(
                    f"component must have a clock and a reset, {type(self.component).__name__} has no {name}"
                )

        def port(name: str) -> str:
            if name == _MUTANT:
                return f"Port{{&unit.{_MUTANT}, 32}}"
            found = by_member.get(name.replace("__", "."))
            return f"Port{{&unit.{native.identifier(found.name)}, {found.width}}}" if found else "Port{nullptr, 0}"

        def stream(name: str, into: bool) -> str:
            members = ", ".join(port(f"{name}__{member}") for member in ("valid", "payload", "ready"))
            return f"StreamPorts{{{json.dumps(name)}, {str(into).lower()}, {members}}}"

        streams = [stream(one.name, one.name in self._inputs) for one in self._streams]
        memories = [
            f"MemoryPortsOf{{{json.dumps(name)}, {str(write).lower()}, {stream(f'{name}__request', False)}, "
            f"{stream(f'{name}__data', not write)}, {port(f'{name}__idle')}}}"
            for name, write in self._memories.items()
        ]
        lists = {
            "std::vector<StreamPorts> streams": streams,
            "std::vector<MemoryPortsOf> memories": memories,
            "std::vector<Port> settings": [port(one.name) for one in self._settings],
            "std::vector<Port> status": [port(one.name) for one in self._status],
        }
        operation = next((number for number, one in enumerate(self._streams) if one.name == "operation"), -1)
        error = next((number for number, one in enumerate(self._status) if one.name == "error"), -1)
        lines = [
            '#include "Unit.h"',
            *(
                f"const unsigned k{name.title().replace('_', '')} = {getattr(bus, name)};"
                for name in ("REGION_WIDTH", "ADDRESS_WIDTH", "BYTES_WIDTH")
            ),
            "struct Table {",
            "  explicit Table(Unit& unit) : unit(unit) {}",
            "  Unit& unit;",
            "  Port clk{&unit.clk, 1}, rst{&unit.rst, 1};",
            *(f"  {name}{{{', '.join(entries)}}};" for name, entries in lists.items()),
            f"  int operation = {operation}, error = {error};",
            "};",
        ]
        return "\n".join(lines) + "\n"

    def run(
        self,
        memory: np.ndarray,
        regions: Sequence[Region],
        operations: Sequence[Operation] = (),
        *,
        streams: Mapping[str, Any] | None = None,
        settings: Mapping[str, int] | None = None,
        chip: np.ndarray | None = None,
        mode: str = "both",
        seed: int = 0,
        latency: int = 4,
        patience: int = 8192,
        limit: int = 10_000_000,
        waves: Path | None = None,
    ) -> Outcome:
        """Run from a reset until everything given was taken, or an error, and nothing moves any more.

        Parameters
        ----------
        memory : uint8 array
            What memory holds before; it stays as it is.
        regions : sequence of Region
            Where regions lie, by number; those past the last one have no room.
        operations : sequence of Operation
            What is offered to the stream ``operation``, as it stands.
        streams : mapping of str to values
            What is offered to other input streams, as `sim.vectors.pack` takes it; nothing where nothing is given.
        settings : mapping of str to int
            Values of inputs that are no streams; 0 where none is given.
        chip : uint8 array, optional
            What region 7 lies in; without it, in memory.
        mode : str
            Pauses, of `sim.play.MODES`. With ``reset``, a reset comes in the midst of a first run.
        seed : int
            Of the pauses.
        latency : int
            Clocks from a span to its first word, and from a word to its place in memory; with pauses on inputs up to
            31 more.
        patience : int
            Clocks without any movement until the run counts as hung.
        limit : int
            Clocks of a run at most.
        waves : Path, optional
            File .vcd to write, of both runs with ``reset``.

        Raises
        ------
        Violation
            If the part breaks a rule of a port.
        Hung
            If nothing moves any more and something was not taken, or the limit is reached.
        ValueError
            If a name is unknown or a value does not fit.
        """
        if waves is not None and not self._waves:
            return build(self.component, waves=True).run(
                memory, regions, operations, streams=streams, settings=settings, chip=chip, mode=mode, seed=seed,
                latency=latency, patience=patience, limit=limit, waves=waves,
            )  # fmt: skip
        if mode not in MODES:
            raise ValueError(names.unknown("mode", mode, MODES))
        rows = self._rows(operations, streams or {})
        spaces = [np.array(memory, np.uint8), np.array(chip if chip is not None else (), np.uint8)]
        before = [space.copy() for space in spaces]
        library = self._library
        bench = ctypes.c_void_p(library.bench_open())
        try:
            if waves is not None:
                library.bench_waves(bench, str(waves).encode())
            self._place(bench, regions, spaces, chip is not None)
            for number, port in enumerate(self._streams):
                given = np.ascontiguousarray(rows.get(port.name, np.zeros((0, 1), np.uint8)))
                library.bench_stream(bench, number, _pointer(given), ctypes.c_uint64(len(given)))
            self._set(bench, settings or {})
            flags = sum((flag in MODES[mode]) << bit for bit, flag in enumerate(_FLAGS))
            start = functools.partial(library.bench_reset, bench, ctypes.c_uint32(seed), flags, latency)
            bounds = [ctypes.c_uint64(value) for value in (patience, min(patience, _GRACE + latency))]
            self._judge(bench, start(2, 0))
            if "noise" in MODES[mode]:
                draw = np.random.default_rng([seed, 1])
                begun, clocks = int(draw.integers(2, 200)), int(draw.integers(1, 4))
                self._judge(bench, library.bench_play(bench, *bounds, ctypes.c_uint64(begun)), hung=False)
                for space, held in zip(spaces, before, strict=True):
                    space[:] = held
                self._judge(bench, start(clocks, 1))
            self._judge(bench, library.bench_play(bench, *bounds, ctypes.c_uint64(limit)), given=rows)
            outcome = self._outcome(bench, spaces)
        finally:
            library.bench_close(bench)
        arguments = {
            "memory": before[0], "regions": [dataclasses.replace(region) for region in regions],
            "operations": operations, "streams": streams, "settings": settings,
            "chip": None if chip is None else before[1], "mode": mode, "seed": seed, "latency": latency,
            "patience": patience,
        }  # fmt: skip
        for found in _records:
            found.append(Recorded(self.component, arguments, outcome))
        return outcome

    def _rows(self, operations: Sequence[Operation], streams: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Little-endian bytes of what each input stream is given."""
        given = dict(streams)
        shapes = {port.name: port.shape for port in self._streams if port.name in self._inputs}
        if operations:
            if "operation" not in shapes:
                raise ValueError(f"operations must go to an engine, {type(self.component).__name__} takes none")
            width = shapes["operation"]["words"].shape.length
            words = [[*pack(operation, DATAFLOWS), *[0] * width][:width] for operation in operations]
            opcodes = np.array([operation.opcode for operation in operations])
            given["operation"] = {"opcode": opcodes, "words": np.array(words, np.int64)}
        for name in given:
            if name not in shapes:
                raise ValueError(names.unknown("streams", name, shapes))
        return {
            name: np.ascontiguousarray(vectors.pack(shapes[name], values)[:, ::-1]) for name, values in given.items()
        }

    def _place(self, bench: ctypes.c_void_p, regions: Sequence[Region], spaces: list[np.ndarray], chip: bool) -> None:
        for number, region in enumerate(regions):
            space = spaces[chip and number == CHIP_REGION]
            base, size = region.base * UNIT_BYTES, region.limit * UNIT_BYTES
            if base + size > space.size:
                raise ValueError(
                    f"regions must lie in memory of {space.size} bytes, region {number} ends at {base + size}"
                )
            self._library.bench_region(bench, number, *map(ctypes.c_uint64, (base, size)), _pointer(space))

    def _set(self, bench: ctypes.c_void_p, settings: Mapping[str, int]) -> None:
        known = {port.name: (number, port) for number, port in enumerate(self._settings)}
        for name in settings:
            if name not in known:
                raise ValueError(names.unknown("settings", name, known))
        for name, (number, port) in known.items():
            row = np.ascontiguousarray(vectors.pack(port.width, np.array([settings.get(name, 0)]))[0, ::-1])
            self._library.bench_setting(bench, number, _pointer(row))

    def _judge(
        self, bench: ctypes.c_void_p, code: int, *, given: Mapping[str, np.ndarray] | None = None, hung: bool = True
    ) -> None:
        message = self._library.bench_message(bench).decode()
        clock = self._library.bench_now(bench)
        if code == 1:
            raise Violation(f"Clock {clock}: {message}")
        if code == 2 and hung:
            taken = {port.name: self._library.bench_taken(bench, number) for number, port in enumerate(self._streams)}
            waits = [f"{len(rows) - taken[name]} of {name}" for name, rows in given.items() if taken[name] < len(rows)]
            raise Hung(f"Clock {clock}: the unit must come to rest, but {' and '.join(waits) or 'none'} are left")
        if code == 3:
            raise SimulationError(f"Simulation broke down: {message}")

    def _outcome(self, bench: ctypes.c_void_p, spaces: list[np.ndarray]) -> Outcome:
        library = self._library
        streams, cycles = {}, {}
        for number, port in enumerate(self._streams):
            count = library.bench_taken(bench, number)
            cycles[port.name] = _copy(library.bench_cycles(bench, number), np.uint64, count).astype(np.int64)
            if port.name not in self._inputs:
                size = -(-port.width // 8)
                rows = _copy(library.bench_payloads(bench, number), np.uint8, count * size).reshape(count, size)
                streams[port.name] = vectors.unpack(port.shape, rows[:, ::-1])
        status = {
            port.name: int.from_bytes(_copy(library.bench_seen(bench, number), np.uint8, -(-port.width // 8)), "little")
            for number, port in enumerate(self._status)
        }
        beyond = bool(library.bench_beyond(bench))
        cause = CAUSES[status.get("error", 0)]
        return Outcome(
            memory=spaces[0],
            chip=spaces[1],
            streams=streams,
            cycles=cycles,
            clocks=np.diff(cycles.get("operation", np.zeros(0, np.int64)), prepend=0).tolist(),
            error="region" if beyond else cause if cause != CAUSES[0] else None,
            sentence=library.bench_message(bench).decode(),
            status=status,
            moved={name: library.bench_moved(bench, number) for number, name in enumerate(self._memories)},
            length=library.bench_now(bench),
        )


@functools.lru_cache(maxsize=32)
def build(component: wiring.Component, *, waves: bool = False) -> Model:
    """Emit and compile a part, or find what was made of it before; with `waves`, slower, so that it can write them.

    Raises
    ------
    SimulationError
        If it cannot be compiled.
    ValueError
        If it has no clock or no reset, or a member that is an array of ports.
    """
    return Model(component, waves=waves)


def run(
    component: wiring.Component,
    memory: np.ndarray,
    regions: Sequence[Region],
    operations: Sequence[Operation] = (),
    **options: Any,
) -> Outcome:
    """``build(component).run(...)``, see `Model.run`."""
    return build(component).run(memory, regions, operations, **options)


def _memory_members(signature: wiring.Signature, prefix: str = "") -> dict[str, bool]:
    """Ports to memory by name, and whether they write."""
    found = {}
    for name, member in signature.members.items():
        if not member.is_signature:
            continue
        if isinstance(member.signature, bus.MemoryRead | bus.MemoryWrite):
            found[prefix + name] = isinstance(member.signature, bus.MemoryWrite)
        else:
            found |= _memory_members(member.signature, f"{prefix}{name}__")
    return found


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _copy(address: int | None, kind: type, count: int) -> np.ndarray:
    if not count:
        return np.zeros(0, kind)
    size = count * np.dtype(kind).itemsize
    return np.frombuffer(ctypes.string_at(address, size), kind).copy()
