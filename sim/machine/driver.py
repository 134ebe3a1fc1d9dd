"""The driver: loads a program, runs it, waits for it, reads counters, and says in words where a machine stands.

>>> from sim.machine import Driver, InterpreterPort
>>> driver = Driver(InterpreterPort(program.parameters, np.zeros(len(program.image), np.uint8)))  # doctest: +SKIP
>>> driver.load(program)  # doctest: +SKIP
>>> driver.run()  # doctest: +SKIP
>>> driver.wait(timeout=1_000_000)  # doctest: +SKIP
>>> driver.counters()["array_groups"]  # doctest: +SKIP
18432

It is the same over every port: what differs between the interpreter, a simulation and a board is how registers are
reached.
"""

import collections
from collections.abc import Iterator, Mapping

import numpy as np

from golden.machine import image
from golden.machine.accelerator import MachineError
from golden.machine.command import DATAFLOWS, ENGINES, UNIT_BYTES, VERSION, Operand, operations
from golden.machine.registers import CAUSES, COUNTERS, IDENTITY, fingerprint, register
from rtl_gen.program.file import Program
from rtl_gen.program.memory import Tensor
from sim.machine.port import Port

_SLICE = 1 << 16  # clocks between two looks at the status, and for the bus to drain
_ANSWERED = 12  # clocks at least that an answer to an interrupt takes
_DRAINED = 64  # clocks between two looks at the bus
_REACHED = next(field.mask for field in register("interrupt").fields if field.name == "reached")


class Timeout(RuntimeError):
    """A program has not ended in time; the text is what `Driver.dump` says."""


class Driver:
    """Runs programs on the machine behind a port.

    Parameters
    ----------
    port : Port
        Where the machine is.
    watchdog : int
        Clocks without progress after which the machine gives up; 0: never.

    Raises
    ------
    ValueError
        If what is behind the port is no such machine, or another build of it.
    """

    def __init__(self, port: Port, *, watchdog: int = 1 << 20):
        self.port = port
        self._program: Program | None = None
        self._tags: Mapping[int, str] = {}
        for name, found, expected in (
            ("id", self.get("id", "id"), IDENTITY),
            ("version of the commands", self.get("version", "commands"), VERSION),
            ("hash of the parameters", self.get("parameters", "hash"), fingerprint(port.parameters)),
        ):
            if found != expected:
                raise ValueError(f"{name} must be {expected:#x}, not {found:#x}")
        self.set("watchdog", watchdog)

    # Registers ------------------------------------------------------------------------------------------------------

    def get(self, name: str, field: str) -> int:
        """A field of a register."""
        found = register(name)
        return self._field(name, field, self.port.read(found.offset))

    @staticmethod
    def _field(name: str, field: str, value: int) -> int:
        slot = next(one for one in register(name).fields if one.name == field)
        return (value & slot.mask) >> slot.low

    def set(self, name: str, value: int) -> None:
        """Write a whole register."""
        self.port.write(register(name).offset, value)

    def command(self, *names: str) -> None:
        """Write bits of the register ``control``."""
        bits = {field.name: field.mask for field in register("control").fields}
        self.set("control", sum(bits[name] for name in names))

    # What a program needs -------------------------------------------------------------------------------------------

    def load(self, program: Program) -> None:
        """Write a program's memory and its regions.

        Raises
        ------
        ValueError
            If the program is for another machine, or the memory too small.
        """
        if program.parameters != self.port.parameters:
            raise ValueError("program must be for the parameters of this machine")
        if len(program.image) > len(self.port.memory):
            raise ValueError(f"memory must hold {len(program.image)} bytes, not {len(self.port.memory)}")
        self._program, self._tags = program, program.tags
        self.port.memory[: len(program.image)] = program.image
        for number, (base, limit) in enumerate(program.regions):
            self.set(f"region{number}_base", base)
            self.set(f"region{number}_limit", limit)

    def read(self, tensor: Tensor) -> np.ndarray:
        """Elements of a state, of one sample, of the program that was loaded: int64 (positions, channels)."""
        p = self.port.parameters
        base, count = self._of_program().regions[tensor.data.region][0], tensor.vectors(p.lanes)
        begin = (base + tensor.data.offset) * UNIT_BYTES
        data = self.port.memory[begin : begin + count * image.vector_bytes(p)]
        vectors = image.unpack_vectors(data.reshape(count, -1), p)
        if tensor.channels < p.lanes:
            return vectors.ravel()[: tensor.positions * tensor.channels].reshape(-1, tensor.channels)
        return vectors.reshape(tensor.positions, -1)[:, : tensor.channels]

    def _of_program(self) -> Program:
        if self._program is None:
            raise ValueError("a program must be loaded first")
        return self._program

    def run(self, operand: Operand | None = None, commands: int | None = None, *, clear: bool = True) -> None:
        """Start the program that was loaded, or the one that lies elsewhere in its memory.

        Counters start at 0, or where they are without `clear`.
        """
        program = self._of_program()
        self.set("program", (operand or program.operand).encode())
        self.set("program_size", program.commands if commands is None else commands)
        self.set("interrupt", sum(field.mask for field in register("interrupt").fields))
        self.set("interrupt_enable", sum(field.mask for field in register("interrupt_enable").fields))
        self.command("start", *["clear"] * clear)

    def wait(self, timeout: int) -> None:
        """Wait until the program has ended.

        Parameters
        ----------
        timeout : int
            Clocks to wait at most.

        Raises
        ------
        MachineError
            If an error has ended it.
        Timeout
            If it has not ended in time.
        """
        for _ in self.interrupts(timeout):
            pass

    def interrupts(self, timeout: int) -> Iterator[np.ndarray]:
        """What memory holds as each `Interrupt` is carried out, until the program has ended, which waits for nobody.

        Parameters, errors: those of `wait`.
        """
        while True:
            status = self.port.read(register("status").offset)
            if self._field("status", "error", status):
                raise self._error()
            if self._field("status", "done", status):
                return
            if timeout <= 0:
                raise Timeout(self.dump())
            clocks = min(timeout, _SLICE)
            if not self.port.advance(clocks):
                timeout -= clocks
                continue
            timeout -= _ANSWERED
            memory = self.port.memory.copy()  # before a register is read, which takes clocks
            if self.get("interrupt", "reached"):
                self.set("interrupt", _REACHED)
                yield memory

    def reset(self) -> None:
        """Stop whatever runs and forget it; registers and memory stay.

        Raises
        ------
        Timeout
            If the bus has not drained in time.
        """
        self.command("reset")
        for _ in range(0, _SLICE, _DRAINED):
            if not self.get("status", "resetting"):
                return
            self.port.advance(_DRAINED)
        raise Timeout(self.dump())

    def counters(self) -> "collections.Counter[str]":
        """What was counted since the start of the last program, by `golden.machine.registers.COUNTERS`."""
        self.command("freeze")
        found: collections.Counter[str] = collections.Counter()
        for counter in COUNTERS:
            low, high = (self.port.read(register(f"{counter.name}_{half}").offset) for half in ("low", "high"))
            found[counter.name] = low | high << 32
        return found

    @property
    def sticky(self) -> dict[str, bool]:
        """What happened to numbers since it was cleared: ``overflow``, ``poisoned``."""
        return {field.name: bool(self.get("sticky", field.name)) for field in register("sticky").fields}

    # Words ----------------------------------------------------------------------------------------------------------

    def dump(self) -> str:
        """Where the machine and each of its engines stand, a line each."""
        return "\n".join([self._state(), *(self._engine(engine) for engine in ENGINES)])

    def _error(self) -> MachineError:
        value = self.port.read(register("error").offset)
        cause, engine, response, tag = (
            self._field("error", name, value) for name in ("cause", "engine", "response", "tag")
        )
        where = f"in the {ENGINES[engine]} engine" if engine < len(ENGINES) else "while commands were fetched"
        sentence = f"error {CAUSES[cause] if cause < len(CAUSES) else cause} {where}{self._of(tag)}"
        if CAUSES[cause : cause + 1] in (("region",), ("bus",)):
            sentence += f", at unit {self.get('error_address', 'unit')} of memory"
        if response:
            sentence += f", response {response} of the bus"
        name = CAUSES[cause] if cause < len(CAUSES) else str(cause)
        return MachineError(name, sentence, self.get("error_position", "command"), tag)

    def _of(self, tag: int) -> str:
        return f" for {self._tags[tag]}" if tag in self._tags else f" (tag {tag:#06x})"

    def _state(self) -> str:
        status = self.port.read(register("status").offset)
        names = [field.name for field in register("status").fields if status & field.mask]
        words = {
            "busy": "a program is under way",
            "halted": "it was halted",
            "resetting": "the bus is draining after a reset",
            "done": "the program has ended",
            "error": str(self._error()) if "error" in names else "",
        }
        told = "; ".join(words[name] for name in names) or "nothing was started"
        return f"machine: {told}"

    def _engine(self, engine: str) -> str:
        command, tokens, traffic = (
            self.port.read(register(f"{engine}_{part}").offset) for part in ("command", "tokens", "traffic")
        )
        opcode, queued, waiting, tag = (
            self._field(f"{engine}_command", name, command) for name in ("opcode", "queued", "waiting", "tag")
        )
        told = []
        if opcode:
            kinds = {kind.opcode: kind.__name__ for kind in operations(DATAFLOWS)}
            told.append(f"{kinds.get(opcode, hex(opcode))}{self._of(tag)}")
        else:
            told.append("idle")
        if waiting:
            others = [other for number, other in enumerate(ENGINES) if waiting >> number & 1]
            told.append(f"waits for a token of {' and '.join(others)}")
        if queued:
            told.append(f"{queued} queued")
        counts = [(other, self._field(f"{engine}_tokens", other, tokens)) for other in ENGINES if other != engine]
        held = [f"{count} of {other}" for other, count in counts if count]
        if held:
            told.append(f"tokens: {', '.join(held)}")
        for part, what in (("reads", "reads outstanding"), ("writes", "writes outstanding"), ("link", "on the link")):
            count = self._field(f"{engine}_traffic", part, traffic)
            if count:
                told.append(f"{count} {what}")
        return f"{engine}: {'; '.join(told)}"
