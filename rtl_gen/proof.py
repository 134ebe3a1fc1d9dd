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
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, Elaboratable, Fragment, Module, Value
from amaranth.lib import wiring

from rtl_gen import tools
from rtl_gen.verilog.emission import Emitted

ENGINES = ("abc", "bmc", "unrolled", "induction")
"""``abc`` answers for runs of any length (`dprove` if there are no registers, else `pdr`), the fastest where it ends.
``bmc`` looks at every run of `depth` clocks, with yices; ``unrolled`` does too, with abc, often in less time if there
are no memories. ``induction`` is ``bmc``, and proves that after any `depth` good clocks the next is good."""


@dataclasses.dataclass(frozen=True)
class Proof:
    """What came of a proof.

    Parameters
    ----------
    name, engine : str
        As asked.
    proven : bool
        Whether every assertion holds (with ``bmc`` and ``unrolled``: in the first `depth` clocks).
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
        Clocks, for all but ``abc``.
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

# The solver's memories are read without a clock.
_SMT2 = f"""\
{_READ}
memory_collect
memory_nordff
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
setundef -anyseq
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
        return self._abc("pdr", r"Property proved")

    def unrolled(self) -> tuple[bool, str]:
        """Runs of `depth` clocks."""
        return self._abc(f"bmc3 -F {self._depth}", rf"No output asserted in {self._depth} frames")

    def _abc(self, engine: str, proven: str) -> tuple[bool, str]:
        """What an engine of abc says if there are registers; `proven` is what it prints where all holds."""
        self._yosys(_AIGER)
        with (self._folder / "proof.aig").open("rb") as file:
            # aig: variables, inputs, latches, outputs, gates, then bad states and constraints, if any.
            header = [int(word) for word in file.readline().split()[1:]]
        latches, constraints = header[2], (header + [0, 0])[6]
        if not latches:
            engine = "pdr" if constraints else "dprove"
            proven = "(Property proved|UNSATISFIABLE|Networks are equivalent)"
        fold = "fold; " if latches or constraints else ""
        output = self._run([*tools.abc_command(), "-q", f"read_aiger proof.aig; strash; {fold}orpos; {engine}"])
        if re.search(f"^{proven}", output, re.MULTILINE):
            return True, output
        broken = re.search(r"asserted in frame (\d+)", output)
        if not broken and not re.search(r"^(SATISFIABLE|Networks are NOT EQUIVALENT)", output, re.MULTILINE):
            raise tools.ToolError(f"abc gives no answer for the proof of {self._name}", output)
        # The same counterexample again, in signals instead of gates.
        self._depth = int(broken[1]) + 1 if broken else 1
        holds, again = self.bmc()
        if holds:
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


# Emitted Verilog ------------------------------------------------------------------------------------------------------


def prove_same(
    component: wiring.Component, emitted: Emitted, *, platform: Any = None, folder: Path | str | None = None
) -> None:
    """Prove that emitted Verilog is the circuit that Amaranth describes, with yosys as the reader of both.

    Signals are paired by name (`Emitted.signals`), so that a proof is found for units of any size; a wrong pair
    could only make it fail.

    Parameters
    ----------
    component : Component
        What was emitted; made anew, since Amaranth elaborates once.
    emitted : Emitted
        The text, whatever its ports.
    platform : optional
        As given to `emit`.
    folder : path, optional
        Working folder, with the log ``proof.log``; default: one of its own that goes.

    Raises
    ------
    tools.ToolError
        If the circuits differ, or no proof is found.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="driftless-proof-") as own:
            prove_same(component, emitted, platform=platform, folder=own)
        return
    folder, name = Path(folder), emitted.name
    described = rtlil.convert(component, name=name, platform=platform, emit_src=False)
    (folder / "gold.il").write_text(described, encoding="utf-8")
    (folder / "gold.v").write_text(_flat_top(emitted, as_described=True), encoding="utf-8")
    (folder / "gate.v").write_text(f"{emitted.text}\n{_flat_top(emitted)}", encoding="utf-8")
    # What is a port in both is paired as such.
    members = {port.member.replace(".", "__") or port.name for port in emitted.ports}
    rows = [(old, new) for old, new, is_row in emitted.signals if is_row]
    signals = [(old, new) for old, new, is_row in emitted.signals if not is_row and old not in members]
    script = f"""\
read_rtlil gold.il
read_verilog gold.v
{_lowered("gold", [f"described.{old}" for old, _ in signals], [f"described.{old}" for old, _ in rows])}
read_verilog gate.v
{_lowered("gate", [f"emitted.{new}" for _, new in signals], [f"emitted.{new}" for _, new in rows])}
design -copy-from gold -as gold gold
design -copy-from gate -as gate gate
equiv_make gold gate both
hierarchy -top both
opt -full
equiv_simple -undef
equiv_induct -undef -seq 6
equiv_status -assert
"""
    log = tools.run_yosys(script, cwd=folder, log=folder / "proof.log")
    if "Equivalence successfully proven!" not in log:
        raise tools.ToolError(f"yosys gives no answer for the proof of {name}", log)


def _lowered(name: str, signals: list[str], rows: list[str]) -> str:
    """Commands that make one flat netlist of logic and flip-flops of a design, with its signals renamed in pairs."""

    def renamed(kind: str, found: list[str]) -> list[str]:
        return [f"cd {name}", *(f"rename {each} {kind}{number}" for number, each in enumerate(found)), "cd .."]

    return "\n".join(
        [
            "hierarchy -check -top flat_top",
            "proc",
            "flatten",
            f"rename flat_top {name}",
            *renamed("signal", signals),
            "memory",
            "opt_clean",
            *renamed("row", rows),
            f"design -stash {name}",
        ]
    )


def _flat_top(emitted: Emitted, as_described: bool = False) -> str:
    """A module with one port for each member, around the emitted module or the one that Amaranth describes.

    Outputs that are no registers are inverted at will: yosys would take one that is nothing but a register in one of
    the two for that register.
    """
    widths: dict[tuple[str, str], int] = {}
    connections, lines = [], []
    turned: set[tuple[str, int]] = set()
    for port in emitted.ports:
        member = port.member.replace(".", "__") or port.name
        parts = port.parts or ((0, port.width),)
        key = (port.direction, member)
        widths[key] = max(widths.get(key, 0), *(first + count for first, count in parts))
        inner = f"{member}_inner" if port.direction == "output" else member
        if port.direction == "output" and port.name not in emitted.registers:
            turned.update((member, bit) for first, count in parts for bit in range(first, first + count))
        pieces = [f"{inner}[{first + count - 1}:{first}]" for first, count in reversed(parts)]
        filler = port.width - sum(count for _, count in parts)
        if filler and port.direction == "output":
            lines.append(f"  wire [{filler - 1}:0] {port.name}_filler;")
            pieces.insert(0, f"{port.name}_filler")
        elif filler:
            pieces.insert(0, f"{filler}'b0")
        connections.append(f"    .{port.name}({{{', '.join(pieces)}}})")
    ports = ["  input inverted"]
    for (direction, member), count in widths.items():
        ports.append(f"  {direction} [{count - 1}:0] {member}")
        if direction == "output":
            bits = [
                f"{member}_inner[{bit}]{' ^ inverted' if (member, bit) in turned else ''}"
                for bit in reversed(range(count))
            ]
            lines += [f"  wire [{count - 1}:0] {member}_inner;", f"  assign {member} = {{{', '.join(bits)}}};"]
    if as_described:
        connections = [
            f"    .{member}({member}{'_inner' if direction == 'output' else ''})" for direction, member in widths
        ]
    instance = "described" if as_described else "emitted"
    return "\n".join(
        [
            "module flat_top (",
            ",\n".join(ports),
            ");",
            *lines,
            f"  {emitted.name} {instance} (",
            ",\n".join(connections),
            "  );",
            "endmodule",
            "",
        ]
    )
