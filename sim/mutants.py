"""Mutants of a unit's emitted Verilog: a bench that does not tell them from the unit proves nothing.

Yosys draws the mutants (``mutate``): a bit of a cell's port is inverted, stuck, or depends on another one. All sit in
one model and are chosen by an input, so that one simulation serves all. What a bench does not catch with quick vectors
is compared with the unit by a short proof of equivalence (abc); what is left meets the full vectors, then a long proof.
"""

import re
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from golden.parameters import Parameters
from rtl_gen import tools
from rtl_gen.verilog import emission
from sim import simulator
from sim.bench import Bench, Request, load
from sim.play import MODES, Play, top
from sim.result import Mismatch, judge

_READ = """\
read_verilog unit.v
hierarchy -check -top {top}
proc
{flatten}
memory_collect
opt -full
wreduce
opt_clean
rename -src
splitcells
opt_clean
"""
"""Without the bits that nothing reads, mutants of which are the unit, and with contents of memories as parameters."""

_MITER = """\
read_rtlil netlist.il
copy {module} mutant
{command}
{cut}
miter -equiv -flatten {module} mutant both
hierarchy -top both
setundef -init -zero
opt -fast
memory_map
setundef -init -zero
setundef -zero
opt -full
techmap
opt -fast
setundef -zero
formalff -clk2ff
simplemap
dffunmap
aigmap
opt_clean
write_aiger -zinit both.aig
"""
"""What has no value yet gets one before anything is left out: else it would be equal to all it is compared with."""

_APPLY = "-ctrl mutant 32 "
"""Options with which a mutant waits for its number at the input `mutant`."""

_BRIEF, PATIENT = 10, 120
"""Seconds of processor time of a proof of equivalence, however busy the machine is: before full vectors, and after."""


@dataclass(frozen=True)
class Mutant:
    """A mutant.

    Members
    -------
    number : int
        Chooses it; 0 is the unit itself.
    command : str
        Yosys' command that makes it, without its number.
    """

    number: int
    command: str

    @property
    def module(self) -> str:
        """That it sits in."""
        return re.search(r"-module (\S+)", self.command)[1]

    def __str__(self) -> str:
        field = dict(re.findall(r"-(mode|cell|port|portbit|wire) (\S+)", self.command))
        return f"{field['mode']} at port {field['port']}[{field.get('portbit', 0)}] of the cell at {field['cell']}"


@dataclass(frozen=True)
class Drawn:
    """Mutants of a text.

    Members
    -------
    text : str
        Verilog with all of them, chosen by the new input ``mutant`` of each module: 0 is the text as it was.
    mutants : dict of str to list of Mutant
        By kind, ascending; numbers from 1.
    netlist : str
        In what they were drawn, as RTLIL.
    """

    text: str
    mutants: dict[str, list[Mutant]]
    netlist: str


@dataclass(frozen=True)
class Finding:
    """What became of a mutant.

    Members
    -------
    mutant : Mutant
        The mutant.
    mismatch : Mismatch or str or None
        By which it was caught; of a part, in words.
    equivalent : bool
        Whether it is proven to be the unit.
    """

    mutant: Mutant
    mismatch: Mismatch | str | None
    equivalent: bool = False


@dataclass(frozen=True)
class Report:
    """What became of a unit's mutants.

    Members
    -------
    unit : str
        The unit.
    findings : sequence of Finding
        One for each mutant.
    seconds : float
        Wall time.
    """

    unit: str
    findings: Sequence[Finding]
    seconds: float

    @property
    def survived(self) -> list[Mutant]:
        """Mutants that were neither caught nor proven equivalent."""
        return [finding.mutant for finding in self.findings if not (finding.mismatch or finding.equivalent)]

    @property
    def equivalent(self) -> int:
        """Mutants proven to be the unit."""
        return sum(finding.equivalent for finding in self.findings)

    @property
    def caught(self) -> int:
        """Mutants that the bench told from the unit."""
        return sum(finding.mismatch is not None for finding in self.findings)

    @property
    def score(self) -> float:
        """Share caught of those not proven equivalent."""
        return self.caught / max(len(self.findings) - self.equivalent, 1)


def mutate(text: str, unit: str, count: int, seed: int = 0) -> Drawn:
    """Draw mutants of a unit.

    Parameters
    ----------
    text : str
        Emitted Verilog.
    unit : str
        Its top module.
    count : int
        Mutants; yosys spreads them over the text.
    seed : int
        Of the draw.

    Returns
    -------
    Drawn
        Of one kind, the unit.

    Raises
    ------
    ValueError
        If `count` is below 1 or the text has no place for a mutant.
    ToolError
        If yosys fails.
    """
    if count < 1:
        raise ValueError(f"count of mutants must be at least 1, not {count}")
    drawn = draw(text, unit, {unit: ()}, count, seed)
    if not drawn.mutants[unit]:
        raise ValueError(f"Verilog of {unit} must have a cell to mutate, but has none")
    return drawn


def draw(
    text: str, top: str, modules: Mapping[str, Sequence[str]], count: int, seed: int = 0, *, flatten: bool = True
) -> Drawn:
    """Draw mutants of several kinds, all in one text.

    Parameters
    ----------
    text, top, seed
        As those of `mutate`.
    modules : mapping of str to sequence of str
        By kind, the modules in which its mutants are drawn; none for the whole text.
    count : int
        Mutants of each kind, fewer if it has no place for as many.
    flatten : bool
        Make one module of all first.

    Raises
    ------
    ToolError
        If yosys fails.
    """
    files = {name: f"list{number}.txt" for number, name in enumerate(modules)}
    read = _READ.format(top=top, flatten="flatten" * flatten)
    lists = "".join(
        f"mutate -list {count} -seed {seed} {_APPLY}{number * count + 1} -o {files[name]} {' '.join(among)}\n"
        for number, (name, among) in enumerate(modules.items())
    )
    applied = "".join(f"script {file}\n" for file in files.values())
    with tempfile.TemporaryDirectory(prefix="driftless-mutants-") as folder:
        Path(folder, "unit.v").write_text(text, encoding="utf-8")
        tools.run_yosys(
            f"{read}write_rtlil netlist.il\n{lists}{applied}opt_clean\n"
            "write_verilog -noattr -noparallelcase mutated.v\n",
            cwd=folder,
        )
        found = {
            name: [_mutant(line) for line in Path(folder, file).read_text(encoding="utf-8").splitlines()]
            for name, file in files.items()
        }
        return Drawn(_read(folder, "mutated.v"), found, _read(folder, "netlist.il"))


def _read(folder: str, name: str) -> str:
    return Path(folder, name).read_text(encoding="utf-8")


def _mutant(line: str) -> Mutant:
    """That of a line of yosys' list."""
    return Mutant(int(re.search(rf"{_APPLY}(\d+) ", line)[1]), re.sub(rf"{_APPLY}\d+ ", "", line))


def is_equivalent(netlist: str, mutant: Mutant, seconds: int = PATIENT) -> bool:
    """Whether abc proves, in so many seconds, that a mutant does what its module does, from the initial state on.

    The module is looked at alone: on inputs that a machine never gives it, it has to do the same, too. If it has
    modules below, it is tried first with these taken out: all that they are given must be equal, whatever they give.
    Registers without an initial value begin with 0. So does one whose output is a mutant's, which loses its own.

    Parameters
    ----------
    netlist : str
        In which the mutant was drawn.
    mutant : Mutant
        The mutant.
    seconds : int
        Of processor time for either form.
    """
    if re.search(r"-port \w*clk ", mutant.command, re.IGNORECASE):
        return False  # the proof knows one clock, of which gates see nothing
    modules = _with_those_below(netlist, mutant.module)
    netlist = "\n".join([re.search(r"^autoidx.*$", netlist, re.MULTILINE)[0], *modules, ""])
    cuts = [f"expose -evert {mutant.module} mutant", ""]
    return any(_is_proven(netlist, mutant, cut, seconds) for cut in cuts[len(modules) == 1 :])


def _with_those_below(netlist: str, module: str) -> list[str]:
    """Text of a module of RTLIL, and of all that it is made of."""
    every = re.finditer(r"^module \\(\S+)$.*?^end$", netlist, re.MULTILINE | re.DOTALL)
    texts = {one[1]: one[0] for one in every}
    found, left = {}, [module]
    while left:
        name = left.pop()
        if name not in found:
            found[name] = texts[name]
            left += re.findall(r"^  cell \\(\S+) ", texts[name], re.MULTILINE)
    return list(found.values())


def _is_proven(netlist: str, mutant: Mutant, cut: str, seconds: int) -> bool:
    """One form of the proof."""
    command = re.sub(r"-module \S+", "-module mutant", mutant.command)
    with tempfile.TemporaryDirectory(prefix="driftless-mutant-") as folder:
        Path(folder, "netlist.il").write_text(netlist, encoding="utf-8")
        limit = ["sh", "-c", f'ulimit -t {seconds} && exec "$@"', "sh"]
        prove = [*limit, *tools.abc_command(), "-q", "read_aiger both.aig; strash; lcorr; scorr; dprove"]
        try:
            script = _MITER.format(module=mutant.module, command=command, cut=cut)
            tools.run_yosys(script, cwd=folder, timeout=10 * seconds)
            output = tools.run(prove, cwd=folder)
        except tools.ToolError:
            return False  # no answer in time
    return bool(re.search(r"^(UNSATISFIABLE|Networks are equivalent)", output, re.MULTILINE))


class _Subject:
    """A unit's model with all its mutants."""

    def __init__(self, bench: Bench, count: int, seed: int):
        self.name = bench.name
        self.unit = emission.emit(bench.component, name=bench.name)
        drawn = mutate(self.unit.text, bench.name, count, seed)
        self.mutants, self.netlist = drawn.mutants[bench.name], drawn.netlist
        self.model = simulator.build({f"{bench.name}.v": drawn.text, "player.sv": top(bench, self.unit, mutants=True)})

    def play(self, bench: Bench, mutants: Sequence[Mutant], modes: Sequence[str], seed: int) -> list[Finding]:
        """Run the bench with each of the mutants until its first mismatch, and with none of them."""
        play = Play(bench, seed=seed, modes=modes)
        numbers = [0, *(mutant.number for mutant in mutants)]
        with simulator.workspace(f"{bench.name}-mutants") as space:
            outcomes = self.model.run(play.plan | {"mutants": numbers}, play.files, space.folder)
        found: dict[int, list] = {number: [] for number in numbers}
        for outcome in outcomes:
            found[outcome["mutant"]].append(outcome)
        itself = judge(play, found[0]).first
        if itself is not None:
            raise simulator.SimulationError(f"Bench of {bench.name} must pass without a mutant: {itself}")
        return [Finding(mutant, judge(play, found[mutant.number]).first) for mutant in mutants]


def run(
    name: str,
    parameters: Parameters,
    *,
    count: int = 150,
    seed: int = 0,
    full: bool = True,
    track: Callable[[Iterable[Mutant]], Iterable[Mutant]] = iter,
) -> Report:
    """Draw mutants of a unit and see which of them its bench catches.

    Parameters
    ----------
    name : str
        Of the bench.
    parameters : Parameters
        The machine.
    count : int
        Mutants.
    seed : int
        Of mutants, vectors and pauses.
    full : bool
        Whether those that quick vectors miss meet the proof, and then the full ones.
    track : callable
        Wraps the mutants that are proven, to show progress.

    Raises
    ------
    SimulationError
        If the simulation cannot be built or breaks down, or the unit fails without any mutant.
    """
    began = time.monotonic()
    bench = load(name, Request(parameters, seed=seed))
    subject = _Subject(bench, count, seed)
    findings = {mutant.number: Finding(mutant, None) for mutant in subject.mutants}

    def left() -> list[Mutant]:
        return [one.mutant for one in findings.values() if not (one.mismatch or one.equivalent)]

    def play(bench: Bench, modes: Sequence[str]) -> None:
        findings.update({one.mutant.number: one for one in subject.play(bench, left(), modes, seed)})

    def prove(seconds: int) -> None:
        for mutant in track(left()):
            same = is_equivalent(subject.netlist, mutant, seconds)
            findings[mutant.number] = Finding(mutant, None, same)

    # What pauses show is shown by all at once; then each pattern by itself.
    play(bench, ["none", "both", "late", "reset"])
    if full:
        # Full vectors take longer than a short proof that they are in vain, and less than a long one.
        prove(_BRIEF)
        if left():
            play(load(name, Request(parameters, full=True, seed=seed)), list(MODES))
        prove(PATIENT)
    return Report(name, [findings[mutant.number] for mutant in subject.mutants], time.monotonic() - began)
