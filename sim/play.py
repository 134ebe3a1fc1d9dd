"""A bench as the player takes it: files of vectors, and a plan of runs."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from amaranth.lib import data

from golden.common import names
from rtl_gen.verilog import emission
from sim import player, vectors
from sim.bench import Bench, Case

MODES = {
    "none": (),
    "idle": ("idle",),
    "back-pressure": ("stall",),
    "both": ("idle", "stall"),
    "late": ("late",),
    "reset": ("idle", "stall", "noise"),
}
"""What streams do, by name: inputs pause (``idle``); outputs stall (``stall``), or are ready only after they have seen
something offered, while `clear` is high all the time (``late``); a reset cuts short what has begun, and the inputs go
on offering junk meanwhile (``noise``)."""

FLAGS = ("idle", "stall", "late", "noise")
"""Inputs of the player that a mode sets."""

_PATIENCE = 8192  # clocks without any transfer until a run counts as hung: far beyond the longest draw of pauses


class Play:
    """A bench turned into files and a plan for the player.

    Parameters
    ----------
    bench : Bench
        From `sim.bench.load`.
    seed : int
        Of the pauses.
    modes : sequence of str
        Patterns of pauses, of `MODES`.

    Attributes
    ----------
    plan : dict
        What `sim.player.testbench` runs.
    files : dict of str to uint8 array
        Vectors of each stream.
    bench, seed :
        As given.
    runs : list of (Case, str)
        Case and mode of each run of the plan.
    ports : player.Interface
        The unit's boundary.
    """

    def __init__(self, bench: Bench, *, seed: int = 0, modes: Sequence[str] = tuple(MODES)):
        self.bench, self.seed = bench, seed
        self.ports = player.interface(bench.component.signature, bench.memory)
        self.streams = {port.name: port for port in (*self.ports.inputs, *self.ports.outputs)}
        clear = any(port.name == "clear" for port in self.ports.settings)
        settings = [port.name for port in self.ports.settings]
        status = [port.name for port in self.ports.status]
        rows: dict[str, list[np.ndarray]] = {name: [] for name in self.streams}
        if bench.memory is not None:
            rows |= {"memory_before": [], "memory_after": []}
        self.runs: list[tuple[Case, str]] = []
        runs, prelude = [], np.random.default_rng([seed, 1])
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
                self.runs.append((case, mode))
                runs.append(
                    {
                        "seed": (seed * 1_000_003 + number) & 0xFFFFFFFF,
                        "flags": {flag: int(flag in MODES[mode]) for flag in FLAGS},
                        "limit": 4 * _PATIENCE + 256 * sum(count for _, count in slices.values()),
                        "begun": int(prelude.integers(2, 200)),
                        # One clock of reset is enough for every unit.
                        "reset": int(prelude.integers(1, 4)),
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


def top(bench: Bench, unit: emission.Emitted, *, mutants: bool = False) -> str:
    """SystemVerilog of the player around the emitted unit of a bench."""
    ports = player.interface(bench.component.signature, bench.memory)
    return player.top(unit, ports, mutants=mutants)
