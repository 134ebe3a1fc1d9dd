"""The machine as software sees it: registers, and memory. The interpreter behind the same registers.

Words: a *port* is where a driver reaches a machine, whatever carries it out: the interpreter, the emitted Verilog, a
board. Source: ``docs/machine.md``, registers.
"""

from typing import Protocol

import numpy as np

from golden.machine.accelerator import Accelerator, MachineError
from golden.machine.command import OPERATIONS, UNIT_BYTES, Operand
from golden.machine.registers import CAUSES, COUNTERS, REGISTERS, capabilities, fingerprint, register
from golden.parameters import Parameters


class Port(Protocol):
    """Where a driver reaches a machine.

    Members
    -------
    parameters : Parameters
        Of the machine.
    memory : uint8 array
        What memory holds; the driver writes it only while the machine is idle.
    """

    parameters: Parameters
    memory: np.ndarray

    def read(self, offset: int) -> int:
        """Read a register."""

    def write(self, offset: int, value: int) -> None:
        """Write a register."""

    def advance(self, clocks: int) -> bool:
        """Let so many clocks pass, or fewer if the machine interrupts; whether it does."""

    def spans(self) -> dict[str, list[tuple[int, int]]]:
        """First clock and the one after the last of each operation, by engine, since this was last asked, if known."""


class InterpreterPort:
    """The interpreter behind registers: a program has run as soon as it is started.

    Parameters
    ----------
    parameters : Parameters
        Of the machine.
    memory : uint8 array
        Its memory.
    """

    def __init__(self, parameters: Parameters, memory: np.ndarray):
        self.parameters = parameters
        self._machine = Accelerator(parameters, 0)
        self._machine.memory = memory
        self._values = {one.offset: one.reset for one in REGISTERS}
        self._set("parameters", fingerprint(parameters))
        self._set("capabilities", capabilities(parameters))
        self._writable = {
            one.offset: sum(field.mask for field in one.fields if field.access == "rw") for one in REGISTERS
        }

    @property
    def memory(self) -> np.ndarray:
        """What memory holds."""
        return self._machine.memory

    def read(self, offset: int) -> int:
        """Read a register; where there is none, 0."""
        return self._values.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        """Write a register."""
        mask = self._writable.get(offset, 0)
        if mask:
            self._values[offset] = self._values[offset] & ~mask | value & mask
        elif offset in (register("interrupt").offset, register("sticky").offset):
            self._values[offset] &= ~value
        elif offset == register("control").offset:
            self._control(value)

    def advance(self, clocks: int) -> bool:
        """Nothing is left to do."""
        return False

    def spans(self) -> dict[str, list[tuple[int, int]]]:
        """None: it has no clocks."""
        return {}

    def _get(self, name: str) -> int:
        return self._values[register(name).offset]

    def _set(self, name: str, value: int) -> None:
        self._values[register(name).offset] = value

    def _control(self, value: int) -> None:
        bits = {field.name for field in register("control").fields if value & field.mask}
        machine = self._machine
        if "reset" in bits:
            for name in ("status", "error", "error_position", "error_address"):
                self._set(name, 0)
        if "clear" in bits:
            machine.counters.clear()
        if "start" in bits:
            self._run()
        if "freeze" in bits:
            for counter in COUNTERS:
                count = machine.counters[counter.name]
                self._set(f"{counter.name}_low", count & 0xFFFFFFFF)
                self._set(f"{counter.name}_high", count >> 32)

    def _run(self) -> None:
        machine = self._machine
        for number, region in enumerate(machine.regions):
            region.base, region.limit = self._get(f"region{number}_base"), self._get(f"region{number}_limit")
        machine.status = {"overflow": False, "poisoned": False}
        flags = {field.name: field.mask for field in register("status").fields}
        try:
            machine.run(Operand.decode(self._get("program")), self._get("program_size"))
        except MachineError as error:
            event = "error"
            self._set("error", CAUSES.index(error.cause) | self._engine(error.position) << 8 | error.tag << 16)
            self._set("error_position", error.position)
        else:
            event = "done"
            self._set("error", 0)
        self._set("status", flags[event])
        events = {field.name: field.mask for field in register("interrupt").fields}
        self._set("interrupt", self._get("interrupt") | events[event])
        sticky = {field.name: field.mask for field in register("sticky").fields}
        self._set("sticky", self._get("sticky") | sum(sticky[name] for name, seen in machine.status.items() if seen))

    def _engine(self, position: int) -> int:
        """Number of the engine of a command of the program; 15 for what no engine carries out."""
        program = Operand.decode(self._get("program"))
        unit = self._get(f"region{program.region}_base") + program.offset + position
        word = int(self.memory[unit * UNIT_BYTES :][:4].view("<u4")[0])
        return word >> 12 & 15 if word & 255 >= min(kind.opcode for kind in OPERATIONS) else 15
