"""Mutants of a whole machine's Verilog, judged by programs: those of every file of the hardware, in one model.

A mutant sits in a module of the emitted text, and counts for the file of `hw` that the module is written in; where
equal parts share a module it sits in all of them. It is caught if a program leaves other memory, counters or sticky
bits than the interpreter, breaks a rule of the bus, or does not end; or if registers, which tell of clocks too, hold
something else than the machine's own after the same program. What is left is compared with its module by a proof.
"""

import dataclasses
import itertools
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from amaranth.hdl import Fragment
from amaranth.lib import wiring

from golden.diffusion.differential.method import Method
from golden.parameters import Parameters
from hw.accelerator import Accelerator
from rtl_gen.options import Machine
from rtl_gen.program.commands import on_machine
from rtl_gen.verilog import emission
from rtl_gen.verilog.naming import plain_name
from sim.machine.driver import Timeout
from sim.machine.invented import fields, invented, odd_field
from sim.machine.trust import Programs, Trial, Trials, small_sections
from sim.machine.verilated import MachineModel, Memory
from sim.mutants import PATIENT, Drawn, Finding, Mutant, Report, draw, is_equivalent
from sim.simulator import SimulationError

_REGISTERS, _STAMPS, _INVENTED, _NOISE, _MISTAKES, _RESETS, _HALTS, _FAULTS = 2, 2, 104, 12, 40, 4, 6, 24
"""Trials of each kind that a mutant meets behind the layers."""

_ORIGINS = (0x5A5A5000, 0xA5A5A000)
"""Where memory lies, before what is wrong and then: every bit of an address is 0 once, and 1."""

_DISTANCES = 0x2AAAAAA, 0x1555555
"""Units by which operands are moved: every bit is 0 once, and 1."""

_LIMIT = 100_000  # clocks of a program that is not as it should be: ten times what any of them takes


def files(component: wiring.Component, name: str) -> dict[str, str]:
    """The file, below the project, of every module that `emission.emit` may write for a component of that name."""
    found: dict[str, str] = {}

    def walk(fragment: Fragment, path: str) -> None:
        origin = next((one for one in fragment.origins or () if type(one).__module__.startswith("hw.")), None)
        if origin is not None:
            file = type(origin).__module__.replace(".", "/") + ".py"
            found.setdefault(path, file)
            found.setdefault(re.sub(r"_?\d+$", "", path), file)
        for number, (below, called, _) in enumerate(fragment.subfragments):
            walk(below, plain_name(f"{path}_{called or f'U{number}'}"))

    walk(Fragment.get(component, None), name)
    return found


def mutate(text: str, sources: Mapping[str, str], count: int, seed: int = 0) -> Drawn:
    """Draw mutants of each file of a machine.

    Parameters
    ----------
    text : str
        Emitted Verilog of the machine, whose top module is ``unit``.
    sources : mapping of str to str
        File of each module; modules that are not in it stay as they are.
    count : int
        Mutants of each file, fewer if it has no place for as many.
    seed : int
        Of the draw.

    Raises
    ------
    ToolError
        If yosys fails.
    """
    by_file: dict[str, list[str]] = {}
    for module in re.findall(r"^module (\w+)", text, re.MULTILINE):
        if module in sources:
            by_file.setdefault(sources[module], []).append(module)
    return draw(text, "unit", dict(sorted(by_file.items())), count, seed, flatten=False)


class Judge:
    """Tells mutants of a machine from it, by all that `sim.machine.trust` does to programs of layers.

    Parameters
    ----------
    model : MachineModel
        With the mutants.
    programs : Programs
        What it runs.
    seed : int
        Of all that is drawn, and of the pauses of memory.

    Raises
    ------
    SimulationError
        If the machine fails a trial without any mutant.
    """

    def __init__(self, model: MachineModel, programs: Programs, seed: int):
        self._model, self._programs, self._seed = model, programs, seed
        self._hows = [Memory(latency=7, mode="both", seed=seed, origin=origin) for origin in _ORIGINS]
        self._shown: list[dict[str, int]] = []
        self._invented = [invented(programs, seed, turn) for turn in range(_INVENTED)]
        self._odd_fields = [odd_field(programs, seed, turn) for turn in range(2 * len(fields(programs)))]
        failure = self(0)
        if failure is not None:
            raise SimulationError(f"The machine must be right without a mutant: {failure}")

    def __call__(self, number: int) -> str | None:
        """What the first trial that a mutant fails shows, if it fails any; mutant 0, the machine itself, fails none."""
        place = itertools.count()
        try:
            for how, carry_out in zip(self._hows, (self._as_they_are, self._wrong), strict=True):
                trials = Trials(self._model, self._programs, how, self._seed, mutant=number, limit=_LIMIT)
                for trial in carry_out(trials):
                    failure = trial.failure or self._odd(next(place), trials.shown(counters=trial.kind == "layer"))
                    if failure:
                        return f"{trial.told}: {failure}"
        except (SimulationError, Timeout, ValueError) as error:  # while registers are written, or by what they say
            return str(error)
        return None

    def _odd(self, place: int, shown: dict[str, int]) -> str:
        """The first register that is not what it was after the same trial of the machine itself."""
        if place == len(self._shown):
            self._shown.append(shown)
        right = self._shown[place]
        return next(
            (f"{name} is {shown[name]:#x}, not {right[name]:#x}" for name in right if shown[name] != right[name]), ""
        )

    def _as_they_are(self, trials: Trials) -> Iterator[Trial]:
        yield from trials.layers()
        yield from trials.registers(_REGISTERS)
        yield from trials.stamps(_STAMPS)
        yield from itertools.starmap(trials.counted, enumerate(self._invented))

    def _wrong(self, trials: Trials) -> Iterator[Trial]:
        yield from trials.noise(_NOISE)
        yield from trials.moved(_DISTANCES)
        yield from trials.mutants(_MISTAKES)
        yield from itertools.starmap(trials.counted, enumerate(self._odd_fields))
        yield from trials.resets(_RESETS)
        yield from trials.halts(_HALTS)
        yield from trials.faults(_FAULTS)


def run(
    parameters: Parameters,
    *,
    count: int = 20,
    seed: int = 0,
    among: str = "",
    full: bool = True,
    patience: int = PATIENT,
    track: Callable[[list[tuple[str, Mutant]]], Iterable[tuple[str, Mutant]]] = iter,
) -> list[Report]:
    """Draw mutants of the files of a machine and see which of them its programs catch.

    Parameters
    ----------
    parameters : Parameters
        The machine.
    count : int
        Mutants of each file.
    seed : int
        Of mutants, of the network and of the trials.
    among : str
        What the names of the files have in them.
    full : bool
        Whether those that the trials miss meet the proof.
    patience : int
        Seconds of processor time of each form of it.
    track : callable
        Wraps files and mutants, to show progress.

    Returns
    -------
    list of Report
        One for each file. What is proven to do the same as its module, alone, does so in the machine; what is not may
        do so all the same, since a machine does not give its modules whatever they take.

    Raises
    ------
    ValueError
        If no file has such a name.
    SimulationError
        If the simulation cannot be built, or the machine fails without any mutant.
    """
    component = Accelerator(parameters)
    sources = {module: file for module, file in files(component, "unit").items() if among in file}
    if not sources:
        raise ValueError(f"Files must have {among!r} in their names, but none of this machine has")
    unit = emission.emit(component, name="unit", ports="flat")
    drawn = mutate(unit.text, sources, count, seed)
    method = on_machine(Method.named(f"closed-int{parameters.digit_width}"), Machine("tiny", parameters))
    model = MachineModel(component, optimise="-O1", mutated=dataclasses.replace(unit, text=drawn.text))
    judge = Judge(model, Programs(small_sections(method, seed)), seed)
    findings: dict[str, list[Finding]] = {file: [] for file in drawn.mutants}
    seconds = dict.fromkeys(drawn.mutants, 0.0)
    for file, mutant in track([(file, mutant) for file, found in drawn.mutants.items() for mutant in found]):
        begun = time.monotonic()
        failure = judge(mutant.number)
        proven = full and failure is None and is_equivalent(drawn.netlist, mutant, patience)
        findings[file].append(Finding(mutant, failure, proven))
        seconds[file] += time.monotonic() - begun
    return [Report(file, found, seconds[file]) for file, found in findings.items()]
