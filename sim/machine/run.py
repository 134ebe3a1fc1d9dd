"""Both executors side by side: sections of a sampling by the interpreter and by a machine, memories compared.

Where the machine is not to run a section, the interpreter does alone, and what it leaves is written to the machine's
memory between two programs.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from golden.machine.accelerator import MachineError
from golden.machine.command import ENGINES, Command
from golden.machine.registers import COUNTERS
from golden.machine.work import needed_groups, timeline
from golden.parameters import Parameters
from rtl_gen.program.memory import Tensor
from rtl_gen.program.sections import Section, Sections
from sim.machine.comparison import Difference, difference
from sim.machine.driver import Driver, Timeout
from sim.machine.port import InterpreterPort, Port


class Failure(Exception):
    """The machine did something else than the interpreter; the text says what."""


@contextlib.contextmanager
def failing(where: Callable[[], str]) -> Iterator[None]:
    """Turn an error of the machine, or a program that does not end, into a `Failure` that says where."""
    try:
        yield
    except MachineError as error:
        raise Failure(f"{where()}: {error.sentence}, command {error.position}") from error
    except Timeout as error:
        raise Failure(f"{where()}: the program has not ended\n{error}") from error


def odd_counters(got: Mapping[str, int], expected: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Counters that differ, but for clocks, which the interpreter has none of: what was counted, and expected."""
    counted = [counter.name for counter in COUNTERS if counter.unit != "clocks"]
    return {name: (got[name], expected[name]) for name in counted if got[name] != expected[name]}


@dataclass(frozen=True)
class Row:
    """What a section took.

    Members
    -------
    step : int
        In order of execution.
    name : str
        Of its last product, or layer.
    ran : bool
        Whether the machine ran it; otherwise the interpreter alone.
    predicted, clocks : int
        On paper, and measured.
    use, busy : float
        Groups that the layers need, and those of them that are not zero, over what the array could have done in these
        clocks.
    stalls : dict of str to int
        Clocks in which an engine waited for a token, by engine.
    flows : dict of str to int
        Bytes by flow, see `golden.machine.registers.COUNTERS`.
    link_bits : float or None
        Bits of each element sent to the core.
    psnr : float or None
        Of the state behind it against the network's own, dB.
    commands : tuple of Command
        The section's.
    odd : dict of str to tuple of int
        Counters that are not the interpreter's: what the machine has counted, and the interpreter.
    spans : dict
        First clock and the one after the last of each operation, by engine, where they are known.
    counters : dict of str to int
        All of them.
    """

    step: int
    name: str
    ran: bool
    predicted: int
    clocks: int
    use: float
    busy: float
    stalls: dict[str, int]
    flows: dict[str, int]
    link_bits: float | None
    psnr: float | None
    commands: tuple[Command, ...]
    odd: dict[str, tuple[int, int]]
    spans: dict[str, list[tuple[int, int]]]
    counters: dict[str, int]


class SideBySide:
    """An interpreter and a machine on the same sections.

    Parameters
    ----------
    sections : Sections
        What is run.
    port : callable
        Makes the machine's port from its parameters and its memory.
    on_machine : callable
        Which sections the machine runs.
    first : int
        Step before which the interpreter runs alone.
    fenced : bool
        Whether memories are compared after every section, or after each step and before the interpreter runs alone.

    Members
    -------
    reference, driver : Driver
        Of the interpreter and of the machine.
    seconds : float
        That the machine has run.
    """

    def __init__(
        self,
        sections: Sections,
        port: Callable[[Parameters, np.ndarray], Port],
        on_machine: Callable[[Section], bool],
        *,
        first: int = 0,
        fenced: bool = True,
    ):
        self._sections, self._on_machine, self._first, self._fenced = sections, on_machine, first, fenced
        self.seconds = 0.0
        program = sections.program
        self.reference = Driver(InterpreterPort(program.parameters, np.zeros(len(program.image), np.uint8)))
        self.driver = Driver(port(program.parameters, np.zeros(len(program.image), np.uint8)))
        for driver in (self.reference, self.driver):
            driver.load(program)

    def run(self) -> Iterator[Row]:
        """Run all sections.

        Raises
        ------
        Failure
            At the first error, difference, or program that does not end.
        """
        sections, values = self._sections.sections, {}
        unseen: Section | None = None  # the last one that the machine ran and whose memory was not compared
        for number, section in enumerate(sections):
            last = number + 1 == len(sections) or sections[number + 1].step != section.step
            if number == 0 or sections[number - 1].step != section.step:
                values = self._network(section.step)
            ran = section.step >= self._first and self._on_machine(section)
            if unseen is not None and not ran:
                self._compare(unseen)
                unseen = None
            self._interpret(section)
            if ran:
                counters, unseen = self._simulate(section), section
            else:
                counters = self.reference.counters()
                self.driver.port.memory[:] = self.reference.port.memory
            if unseen is not None and (self._fenced or last):
                self._compare(section)
                unseen = None
            yield self._row(section, ran, counters, values)

    def _interpret(self, section: Section) -> None:
        self.reference.run(section.operand, section.size)
        self.reference.wait(0)

    def _simulate(self, section: Section) -> dict[str, int]:
        predicted = timeline(section.commands, self._sections.program.parameters).clocks
        begun = time.perf_counter()
        with failing(lambda: self._where(section)):
            self.driver.run(section.operand, section.size)
            self.driver.wait(20 * predicted + 100_000)
        self.seconds += time.perf_counter() - begun
        return self.driver.counters()

    def _compare(self, section: Section) -> None:
        found = self.difference()
        if found is not None:
            raise Failure(f"{self._where(section)}: {found}")

    def difference(self) -> Difference | None:
        """The first place where the machine's memory is not the interpreter's."""
        memories = self.driver.port.memory, self.reference.port.memory
        return difference(self._sections.compiler, self._sections.program.regions, *memories)

    @staticmethod
    def _where(section: Section) -> str:
        return f"step {section.step}, after {section.name}"

    # Figures --------------------------------------------------------------------------------------------------------

    def _network(self, step: int) -> dict[str, np.ndarray]:
        """Values of the network itself, on what the sample is at the beginning of a step."""
        compiler, network = self._sections.compiler, self._sections.sampling.network
        samples = np.stack([compiler.put_back(one) for one in self._real(compiler.input)]).astype(np.float32)
        given = self._sections.given[step].values()
        _, values = network(samples, *given, keep=list(compiler.states.keys() & network.by_name.keys()))
        return values

    def _real(self, tensor: Tensor) -> np.ndarray:
        """A tensor's elements as real numbers, (samples, positions, channels)."""
        samples = [self.reference.read(tensor.sample(number)) for number in range(tensor.samples)]
        return np.stack(samples) * 2.0**tensor.unit

    def _psnr(self, section: Section, values: dict[str, np.ndarray]) -> float | None:
        layer = section.layers[-1] if section.layers else None
        if layer is None or layer.name not in values:
            return None
        compiler = self._sections.compiler
        tensor = compiler.states[layer.name]
        expected = np.asarray(values[layer.name], np.float64)
        if layer.bilinear:
            expected /= layer.scale  # a factor goes to whoever reads the product
        samples = [compiler.value(layer.name, self.reference.read, number) for number in range(len(expected))]
        found = np.stack(samples) * 2.0**tensor.unit
        error = np.sqrt(np.mean((found - expected) ** 2))
        return float(20 * np.log10(np.ptp(expected) / error)) if error else float("inf")

    def _row(self, section: Section, ran: bool, counters: dict[str, int], values: dict[str, np.ndarray]) -> Row:
        p = self._sections.program.parameters
        predicted = timeline(section.commands, p).clocks
        clocks = counters["clocks"] if ran else 0
        slots = (clocks or predicted) * p.rows * p.columns
        worked = counters["array_groups"] - counters["array_zero_groups"]
        sent = counters["emitted"] * p.lanes
        return Row(
            step=section.step,
            name=section.name,
            ran=ran,
            predicted=predicted,
            clocks=clocks,
            use=needed_groups(section.commands) / slots,
            busy=worked / slots,
            stalls={engine: counters[f"{engine}_waiting"] for engine in ENGINES},
            flows={name: count for name, count in counters.items() if name.startswith(("memory_", "chip_"))},
            link_bits=8 * counters["memory_spools_written"] / sent if sent else None,
            psnr=self._psnr(section, values),
            commands=section.commands,
            odd=odd_counters(counters, self.reference.counters()),
            spans=self.driver.port.spans() if ran else {},
            counters=dict(counters),
        )


def total(rows: Sequence[Row], p: Parameters) -> dict[str, float]:
    """Use of the array by elapsed clocks over sections that the machine ran, as `Row` has it for one."""
    ran = [row for row in rows if row.ran]
    clocks = sum(row.clocks or row.predicted for row in ran)
    slots = max(clocks, 1) * p.rows * p.columns
    return {
        "clocks": sum(row.clocks for row in ran),
        "predicted": sum(row.predicted for row in ran),
        "use": sum(needed_groups(row.commands) for row in ran) / slots,
        "busy": sum(row.counters["array_groups"] - row.counters["array_zero_groups"] for row in ran) / slots,
    }
