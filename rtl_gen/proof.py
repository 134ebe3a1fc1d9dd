"""Proofs: an Amaranth component full of assertions, and an engine that proves them for every input or breaks one.

A *proof* is a component whose input ports are free and whose `elaborate` contains `Assert` (and `Assume`) of
`amaranth.hdl`. Everything starts from the initial values of its registers; its reset is not a free input.
"""

import dataclasses
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, Elaboratable, Fragment, Module, Value
from amaranth.lib import wiring

from rtl_gen import tools

__all__ = ["ENGINES", "Proof", "prove"]

ENGINES = ("abc", "bmc", "induction")
"""``abc`` answers for runs of any length (`dprove` if there are no registers, else `pdr`), the fastest where it ends.
``bmc`` looks at every run of `depth` clocks, with yices; ``induction`` does too, and proves that after any `depth` good
clocks the next is good."""


@dataclasses.dataclass(frozen=True)
class Proof:
    """What came of a proof.

    Parameters
    ----------
    name, engine : str
        As asked.
    proven : bool
        Whether every assertion holds (with ``bmc``: in the first `depth` clocks).
    trace : Path or None
        VCD of a counterexample, if one was found.
    seconds : float
        Wall time.
    output : str
        What the engine printed.
    """

    name: str
    engine: str
    proven: bool
    trace: Path | None
    seconds: float
    output: str

    def __bool__(self) -> bool:
        return self.proven


def prove(
    component: Elaboratable,
    name: str,
    *,
    engine: str = "abc",
    depth: int = 20,
    timeout: float = 120,
    folder: Path | str | None = None,
    ports: tuple[Value, ...] = (),
) -> Proof:
    """Prove every assertion in a component, or find a counterexample.

    Parameters
    ----------
    component : elaboratable
        With `Assert` and `Assume`; the inputs of its signature, and `ports`, are free in every clock.
    name : str
        Name of the proof; names its files.
    engine : str
        One of `ENGINES`.
    depth : int
        Clocks, for ``bmc`` and ``induction``.
    timeout : float
        Seconds.
    folder : path, optional
        Where the trace of a counterexample goes; default: the system's temporary folder.
    ports : tuple of Value
        Free inputs beside those of the signature.

    Raises
    ------
    ValueError
        If `engine` is unknown, or the component holds no assertion (nothing would be proven).
    tools.ToolError
        If a tool fails, or has no answer within `timeout`.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine must be {' or '.join(ENGINES)}, not {engine!r}")
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise ValueError(f"name of a proof must be letters, digits, '_', '.' and '-', not {name!r}")
    text = _rtlil(component, ports)
    if not re.search(r"^\s*cell \$check ", text, re.MULTILINE):
        raise ValueError(f"component must hold an assertion, and that of {name} has none")
    start = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix=f"driftless-proof-{name}-"))
    try:
        (work / "proof.il").write_text(text, encoding="utf-8")
        job = _Job(work, name, depth, timeout)
        proven, output = getattr(job, engine)()
        trace = None
        if not proven:
            target = Path(folder) if folder is not None else Path(tempfile.gettempdir())
            target.mkdir(parents=True, exist_ok=True)
            trace = Path(shutil.copy(work / "trace.vcd", target / f"{name}.vcd"))
    finally:
        shutil.rmtree(work)
    return Proof(name, engine, proven, trace, time.monotonic() - start, output)


def _rtlil(component: Elaboratable, ports: tuple[Value, ...]) -> str:
    free = list(ports)
    if isinstance(component, wiring.Component):
        members = component.signature.flatten(component)
        free += [Value.cast(value) for _, member, value in members if member.flow == wiring.In]
    top = Module()
    # Without a reset: a proof starts from the registers' initial values.
    top.domains.sync = domain = ClockDomain("sync", reset_less=True)
    top.submodules.proof = component
    return rtlil.convert(Fragment.get(top, None), ports=[domain.clk, *free], name="top")


# An assertion becomes a cell that must hold in every clock.
_READ = """\
read_rtlil proof.il
hierarchy -check -top top
proc
flatten
async2sync
chformal -lower
opt -fast
"""

_SMT2 = f"""\
{_READ}
dffunmap
write_smt2 -wires proof.smt2
"""

_AIGER = f"""\
{_READ}
memory_map -formal
setundef -undriven -anyseq
setattr -unset keep
delete -output
opt -full
techmap
opt -fast
formalff -clk2ff -ff2anyinit
simplemap
dffunmap
aigmap
opt_clean
write_aiger -I -B -zinit -no-startoffset proof.aig
"""


class _Job:
    """One proof in one folder. Each engine returns whether it is proven, and what was printed."""

    def __init__(self, folder: Path, name: str, depth: int, timeout: float):
        self._folder, self._name, self._depth, self._timeout = folder, name, depth, timeout
        self._end = time.monotonic() + timeout

    def _left(self) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise self._unanswered()
        return left

    def _unanswered(self) -> tools.ToolError:
        return tools.ToolError(f"The proof of {self._name} has no answer within {self._timeout:g} s")

    def _run(self, command: list[str]) -> str:
        return self._timed(tools.run, command)

    def _yosys(self, script: str) -> None:
        self._timed(tools.run_yosys, script)

    def _timed(self, tool: Callable[..., str], job: list[str] | str) -> str:
        try:
            return tool(job, cwd=self._folder, timeout=self._left())
        except tools.ToolError as error:
            if time.monotonic() >= self._end:
                raise self._unanswered() from error
            raise

    def abc(self) -> tuple[bool, str]:
        """Any length."""
        self._yosys(_AIGER)
        with (self._folder / "proof.aig").open("rb") as file:
            # aig: variables, inputs, latches, outputs, gates, then bad states and constraints, if any.
            header = [int(word) for word in file.readline().split()[1:]]
        latches, constraints = header[2], (header + [0, 0])[6]
        engine = "fold; orpos; pdr" if latches or constraints else "orpos; dprove"
        output = self._run([*tools.abc_command(), "-q", f"read_aiger proof.aig; strash; {engine}"])
        if re.search(r"^(UNSATISFIABLE|Property proved|Networks are equivalent)", output, re.MULTILINE):
            return True, output
        broken = re.search(r"asserted in frame (\d+)", output)
        if not broken and not re.search(r"^(SATISFIABLE|Networks are NOT EQUIVALENT)", output, re.MULTILINE):
            raise tools.ToolError(f"abc gives no answer for the proof of {self._name}", output)
        # The same counterexample again, in signals instead of gates.
        self._depth = int(broken[1]) + 1 if broken else 1
        proven, again = self.bmc()
        if proven:
            raise tools.ToolError(f"abc breaks the proof of {self._name} and yices does not", output + again)
        return False, output + again

    def bmc(self) -> tuple[bool, str]:
        """Runs of `depth` clocks."""
        self._yosys(_SMT2)
        return self._smtbmc()

    def induction(self) -> tuple[bool, str]:
        """Runs of `depth` clocks, then any that goes on from as many good ones."""
        proven, output = self.bmc()
        if not proven:
            return False, output
        proven, more = self._smtbmc("-i")
        if not proven:
            raise tools.ToolError(
                f"The proof of {self._name} by induction over {self._depth} clocks has no answer", output + more
            )
        return True, output + more

    def _smtbmc(self, *options: str) -> tuple[bool, str]:
        command = [*tools.smtbmc_command(), *options, "-t", str(self._depth), "--dump-vcd", "trace.vcd", "proof.smt2"]
        try:
            output = self._run(command)
        except tools.ToolError as error:
            if re.search(r"Status: FAILED", error.output, re.IGNORECASE):
                return False, error.output
            raise
        if not re.search(r"Status: PASSED", output, re.IGNORECASE):
            raise tools.ToolError(f"yosys-smtbmc gives no answer for the proof of {self._name}", output)
        return True, output
