"""The emitted Verilog of the whole machine behind registers, with a memory on its AXI4 port.

The memory has a latency and a bandwidth for figures, or random pauses and errors for trust; it checks the protocol in
every clock, and that nothing is touched outside the machine's regions.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from amaranth.lib import wiring

from golden.common import names
from golden.machine.accelerator import CHIP_REGION
from golden.machine.command import ENGINES, UNIT_BYTES
from golden.machine.registers import register
from golden.parameters import Parameters
from hw.bus.axi import AXI4, AXI4Lite
from rtl_gen.verilog import emission
from sim import native
from sim.play import MODES
from sim.simulator import SimulationError

_FLAGS = ("idle", "stall", "late")
_OFFERS = ("operation_valid", "operation_ready")  # of an engine


class ProtocolError(SimulationError):
    """The machine broke a rule of a bus, or touched memory outside its regions."""


@dataclass(frozen=True)
class Memory:
    """How the memory behaves.

    Members
    -------
    latency : int
        Clocks from an address to its first beat, and from a last beat to its answer.
    beats, clocks : int
        So many beats in so many clocks, each way.
    mode : str
        Pauses, of `sim.play.MODES` without ``reset``.
    seed : int
        Of the pauses.
    origin : int
        Address of its first byte, in whole pages of 4 KiB. A port adds it to the bases of regions and takes it away
        again, so that programs and drivers need not know it.
    """

    latency: int = 40
    beats: int = 1
    clocks: int = 1
    mode: str = "none"
    seed: int = 0
    origin: int = 0

    def __post_init__(self) -> None:
        if self.mode not in MODES or self.mode == "reset":
            raise ValueError(names.unknown("mode", self.mode, [mode for mode in MODES if mode != "reset"]))
        for name, least in (("latency", 1), ("beats", 1), ("clocks", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if self.beats > self.clocks:
            raise ValueError(f"beats must be at most clocks = {self.clocks}, not {self.beats}")
        if self.origin not in range(0, 1 << 32, 4096):
            raise ValueError(f"origin must be a multiple of 4096 below 2^32, not {self.origin}")


_PLAIN = Memory()


@dataclass(frozen=True)
class Fault:
    """A beat that memory refuses.

    Members
    -------
    write : bool
        Of writes, or of reads.
    beat : int
        Its number since the reset.
    response : int
        2 (SLVERR) or 3 (DECERR).
    """

    write: bool
    beat: int
    response: int = 2


class MachineModel:
    """A machine as a compiled simulation.

    Parameters
    ----------
    component : Component
        With the members ``memory`` (`hw.bus.axi.AXI4`), ``registers`` (`hw.bus.axi.AXI4Lite`, flipped) and
        ``interrupt``.
    threads : int
        That compute it.
    traced : bool
        Whether a port can tell when each engine was at work.
    waves : bool
        Whether it can write waveforms.
    optimise : str
        Option of the compiler: how fast it runs, against how long it is compiled.
    mutated : Emitted, optional
        The machine as it is emitted, in a text with mutants of it (`sim.machine.mutants.mutate`); a port chooses one.

    Raises
    ------
    SimulationError
        If it cannot be compiled.
    """

    def __init__(
        self,
        component: wiring.Component,
        *,
        threads: int = 1,
        traced: bool = False,
        waves: bool = False,
        optimise: str = "-O3",
        mutated: emission.Emitted | None = None,
    ):
        unit = mutated or emission.emit(component, name="unit", ports="flat")
        sources = {"unit.v": unit.text, "table.h": _table(component, unit, threads, mutated is not None)}
        self.library = library = native.build(
            "unit", sources, "machine.cpp", optimise=optimise, threads=threads, waves=waves,
            visible=_OFFERS if traced else (),
        )  # fmt: skip
        library.machine_open.restype = ctypes.c_void_p
        library.machine_now.restype = ctypes.c_uint64
        library.machine_spans.restype = ctypes.c_void_p
        for name in ("machine_message", "machine_signal"):
            getattr(library, name).restype = ctypes.c_char_p


def _table(component: wiring.Component, unit: emission.Emitted, threads: int, mutated: bool) -> str:
    """C++ that lists the ports of the model."""
    by_member = {port.member or port.name: port for port in unit.ports}

    def port(name: str) -> str:
        found = by_member.get(name)
        return f"Port{{&unit.{native.identifier(found.name)}, {found.width}}}" if found else "Port{nullptr, 0}"

    def ports(name: str, kind: type) -> str:
        signature = component.signature.members[name].signature
        if not isinstance(signature, kind) and not isinstance(signature.flip(), kind):
            raise ValueError(f"{name} of a machine must be {kind.__name__}, not {signature!r}")
        return ", ".join(f".{member} = {port(f'{name}.{member}')}" for member in signature.members)

    mutant = "Port{&unit.mutant, 32}" if mutated else "Port{nullptr, 0}"
    return "\n".join(
        [
            '#include "Unit.h"',
            f"constexpr unsigned kThreads = {threads};",
            "struct Table {",
            "  explicit Table(Unit& unit) : unit(unit) {}",
            "  Unit& unit;",
            f"  Port clk = {port('clk')}, rst = {port('rst')}, interrupt = {port('interrupt')}, mutant = {mutant};",
            f"  AxiPorts memory{{{ports('memory', AXI4)}}};",
            f"  LitePorts registers{{{ports('registers', AXI4Lite)}}};",
            "};",
            "",
        ]
    )


class VerilatedPort:
    """A simulated machine as a driver sees it.

    Parameters
    ----------
    model : MachineModel
        Compiled from the machine of `parameters`.
    parameters : Parameters
        Of the machine.
    memory : uint8 array
        Behind the machine's bus; it is used as it stands.
    how : Memory
        How it behaves.
    faults : sequence of Fault
        Beats that it refuses.
    waves : Path, optional
        File .vcd to write, if the model can.
    mutant : int
        Number of the mutant that it is, if the model has any; 0: none.
    """

    def __init__(
        self,
        model: MachineModel,
        parameters: Parameters,
        memory: np.ndarray,
        how: Memory = _PLAIN,
        faults: Sequence[Fault] = (),
        waves: Path | None = None,
        mutant: int = 0,
    ):
        self.parameters, self.memory = parameters, memory
        self._origin = how.origin // UNIT_BYTES
        self._library = model.library
        self._machine = ctypes.c_void_p(self._library.machine_open())
        self._regions = [[0, 0] for _ in range(8)]
        self._places = {
            register(f"region{number}_{part}").offset: (number, index)
            for number in range(8)
            for index, part in enumerate(("base", "limit"))
        }
        library, machine = self._library, self._machine
        # What lies below is never looked at: it is in no span that `_allow` tells.
        at, size = memory.ctypes.data - how.origin, how.origin + memory.size
        library.machine_memory(machine, ctypes.c_void_p(at), ctypes.c_uint64(size))
        flags = sum((flag in MODES[how.mode]) << bit for bit, flag in enumerate(_FLAGS))
        numbers = map(ctypes.c_uint64, (how.latency, how.beats, how.clocks))
        library.machine_settings(machine, *numbers, ctypes.c_uint32(how.seed), flags)
        library.machine_mutant(machine, mutant)
        self.refuse(faults)
        self._watched = self._watch()
        if waves is not None:
            library.machine_waves(machine, str(waves).encode())
        self.reset(2)

    def _watch(self) -> list[str]:
        """Watch the engines whose operations the model shows; their names."""
        library, machine = self._library, self._machine
        paths = [library.machine_signal(machine, number).decode() for number in range(library.machine_signals(machine))]
        found = []
        for engine in ENGINES:
            pairs = [[path for path in paths if path.split(".")[-2:] == [engine, offer]] for offer in _OFFERS]
            if all(pairs):
                library.machine_watch(machine, *(paths.index(min(ends, key=len)) for ends in pairs))
                found.append(engine)
        return found

    def spans(self) -> dict[str, list[tuple[int, int]]]:
        """First clock and the one after the last of each operation, by engine, since this was last asked."""
        found, count = {}, ctypes.c_uint64()
        for number, engine in enumerate(self._watched):
            address = self._library.machine_spans(self._machine, number, ctypes.byref(count))
            values = np.frombuffer(ctypes.string_at(address, 8 * count.value), np.uint64) if count.value else []
            ends = [int(value) for value in values]
            found[engine] = list(zip(ends[::2], ends[1::2], strict=False))
        self._library.machine_forget(self._machine)
        return found

    def __del__(self) -> None:
        if getattr(self, "_machine", None):
            self._library.machine_close(self._machine)

    @property
    def clocks(self) -> int:
        """That have passed."""
        return self._library.machine_now(self._machine)

    @property
    def traffic(self) -> dict[str, int]:
        """Bursts and beats on the bus since the reset."""
        counts = (ctypes.c_uint64 * 4)()
        self._library.machine_traffic(self._machine, counts)
        return dict(zip(("bursts read", "beats read", "bursts written", "beats written"), counts, strict=True))

    def reset(self, clocks: int) -> None:
        """Hold the machine's reset for so many clocks."""
        self._judge(self._library.machine_reset(self._machine, clocks))

    def refuse(self, faults: Sequence[Fault]) -> None:
        """Let memory refuse these beats, and no others."""
        triples = np.array([[fault.write, fault.beat, fault.response] for fault in faults], np.uint64)
        self._library.machine_faults(self._machine, ctypes.c_void_p(triples.ctypes.data), len(triples))

    def read(self, offset: int) -> int:
        """Read a register."""
        value = ctypes.c_uint32()
        self._judge(self._library.machine_read(self._machine, offset, ctypes.byref(value)))
        return value.value - self._moves(offset) & 0xFFFFFFFF

    def write(self, offset: int, value: int) -> None:
        """Write a register."""
        value = value + self._moves(offset) & 0xFFFFFFFF
        if offset in self._places:
            number, index = self._places[offset]
            self._regions[number][index] = value
            self._allow()
        self._judge(self._library.machine_write(self._machine, offset, ctypes.c_uint32(value)))

    def advance(self, clocks: int) -> bool:
        """Let so many clocks pass, or fewer if the machine interrupts; whether it does."""
        self._judge(self._library.machine_advance(self._machine, ctypes.c_uint64(clocks)))
        return bool(self._library.machine_interrupts(self._machine))

    def _moves(self, offset: int) -> int:
        """Units that a register is moved by: those of bases."""
        return self._origin if self._places.get(offset, (0, 1))[1] == 0 else 0

    def _allow(self) -> None:
        """Tell the memory which bytes the machine may touch."""
        spans = [
            [max(base, self._origin) * UNIT_BYTES, (base + limit) * UNIT_BYTES]
            for number, (base, limit) in enumerate(self._regions)
            if number != CHIP_REGION
        ]
        pairs = np.array(spans, np.uint64)
        self._library.machine_ranges(self._machine, ctypes.c_void_p(pairs.ctypes.data), len(pairs))

    def _judge(self, code: int) -> None:
        if code:
            message = self._library.machine_message(self._machine).decode()
            kind = ProtocolError if code == 1 else SimulationError
            raise kind(f"Clock {self.clocks}: {message}")
