"""Clock by clock: when a unit takes its first vectors and when results leave, watched in Amaranth's simulator."""

import collections
import json
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from amaranth.hdl import Const, Value
from amaranth.sim import Simulator, SimulatorContext

from golden.parameters import Parameters
from hw.units import UNITS
from sim import bench as benches
from sim import player, vectors

_MOST = 100  # clocks: far beyond the longest unit

_HEAD = """\
# Clock by clock

How long the units of the machine {machine} take, if nobody waits. Each was fed without pauses in a
simulation, and its outputs were always ready: these diagrams are what was seen
(`python -m sim latency`). Capital letters are inputs, small ones results, in order. The arrow leads
from the first vector, its last part, to its result."""


@dataclass(frozen=True)
class Watch:
    """What the streams of a unit did.

    Members
    -------
    inputs, outputs : dict of str to list
        For each stream by name ``(valid, ready)`` of each clock.
    complete : list of int
        Clocks in which the last part of a vector was taken.
    """

    inputs: dict[str, list[tuple[int, int]]]
    outputs: dict[str, list[tuple[int, int]]]
    complete: list[int] = field(default_factory=list)

    @property
    def latency(self) -> int:
        """Clocks from the last part of the first vector to the first result."""
        return min(seen.index((1, 1)) for seen in self.outputs.values() if (1, 1) in seen) - self.complete[0]

    def diagram(self) -> dict[str, Any]:
        """All of it as a timing diagram in the language of WaveDrom."""
        clocks = len(next(iter(self.inputs.values())))
        signals: list[dict[str, Any]] = [{"name": "clk", "wave": "p" + "." * (clocks - 1)}]
        for streams, letters, node in (
            (self.inputs, string.ascii_uppercase, "I"),
            (self.outputs, string.ascii_lowercase, "O"),
        ):
            for name, seen in streams.items():
                signals.append({"name": f"{name}_valid", "wave": _wave(valid for valid, _ in seen)})
                if streams is self.inputs:
                    signals.append({"name": f"{name}_ready", "wave": _wave(ready for _, ready in seen)})
                signals.append({"name": name, **_payloads(seen, letters)})
                if (1, 1) in seen:
                    signals[-1]["node"] = "." * (self.complete[0] if node == "I" else seen.index((1, 1))) + node
        return {"signal": signals, "edge": [f"I->O {self.latency}"]}


def _wave(levels: Iterable[int]) -> str:
    """A wave of levels, each written where it changes."""
    levels = list(levels)
    pairs = zip([None, *levels], levels, strict=False)
    return "".join("." if level == before else str(level) for before, level in pairs)


def _payloads(seen: Sequence[tuple[int, int]], letters: str) -> dict[str, Any]:
    """The wave of a stream's payloads: a new letter behind each transfer."""
    number, told, wave = 0, None, ""
    for valid, ready in seen:
        now = number if valid else -1
        wave += "." if now == told else "3" if valid else "x"
        number, told = number + (valid and ready), now
    count = wave.count("3")
    return {"wave": wave, "data": [letters[number % 26] for number in range(count)]}


def watch(bench: benches.Bench, results: int = 3) -> Watch:
    """Play the begin of a case without pauses, and note what the streams do.

    The case is one in which every input, or every stream of one group, makes a result. A memory, if the unit has one,
    answers in the next clock.

    Parameters
    ----------
    bench : Bench
        From `sim.bench.load`.
    results : int
        Payloads of the first output after which the watch ends.

    Raises
    ------
    RuntimeError
        If the results do not come within 100 clocks.
    """
    unit = bench.component
    ports = player.interface(unit.signature, bench.memory)
    case = next(case for case in bench.cases if _one_by_one(case, ports))
    waiting = {port.name: collections.deque(_numbers(port, case.inputs[port.name])) for port in ports.inputs}
    found = Watch({port.name: [] for port in ports.inputs}, {port.name: [] for port in ports.outputs})
    first = found.outputs[ports.outputs[0].name]

    async def feed(ctx: SimulatorContext) -> None:
        for port in ports.settings:
            ctx.set(Value.cast(getattr(unit, port.name)), int(case.settings.get(port.name, 0)))
        for port in ports.outputs:
            ctx.set(getattr(unit, port.name).ready, 1)
        while first.count((1, 1)) < results:
            if len(first) == _MOST:
                raise RuntimeError(f"{bench.name} must give {results} results within {_MOST} clocks")
            for name, rest in waiting.items():
                ctx.set(getattr(unit, name).valid, bool(rest))
                ctx.set(Value.cast(getattr(unit, name).payload), rest[0] if rest else 0)
            for name, clocks in (found.inputs | found.outputs).items():
                clocks.append((int(ctx.get(getattr(unit, name).valid)), int(ctx.get(getattr(unit, name).ready))))
            for name, rest in waiting.items():
                if rest and found.inputs[name][-1] == (1, 1):
                    rest.popleft()
                    if ctx.get(getattr(getattr(unit, name).payload, "last", Const(1))):
                        found.complete.append(len(found.inputs[name]) - 1)
            await ctx.tick()

    async def serve(ctx: SimulatorContext) -> None:
        words = dict(zip(case.memory.address.tolist(), _numbers(ports.word, case.memory.before), strict=True))
        request, answer, write = (getattr(unit, name) for name in vars(bench.memory).values())
        ctx.set(request.ready, 1)
        ctx.set(write.ready, 1)
        asked: collections.deque[int] = collections.deque()
        reading = answer.ready, request.valid, request.payload.address
        writing = write.valid, write.payload.address, Value.cast(write.payload.data)
        async for *_, taken, reads, place, writes, written, word in ctx.tick().sample(*reading, *writing):
            if asked and taken:
                asked.popleft()
            if reads:
                asked.append(words[place])
            if writes:
                words[written] = word
            ctx.set(answer.valid, bool(asked))
            ctx.set(Value.cast(answer.payload), asked[0] if asked else 0)

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(feed)
    if bench.memory is not None:
        simulator.add_testbench(serve, background=True)
    simulator.run()
    return found


def _one_by_one(case: benches.Case, ports: player.Interface) -> bool:
    counts = {len(_numbers(port, case.inputs[port.name])) for port in ports.inputs}
    counts |= {len(_numbers(port, case.outputs[port.name])) for port in ports.outputs}
    return len(counts) == 1 or case.name == "one group a stream"


def _numbers(port: player.Stream, values: Any) -> list[int]:
    return [int.from_bytes(row.tobytes(), "big") for row in vectors.pack(port.shape, values)]


def markdown(machine: str, parameters: Parameters) -> str:
    """A page: a table of all units, and a diagram of each.

    Parameters
    ----------
    machine : str
        Name of the machine.
    parameters : Parameters
        Its parameters.
    """
    table, sections = ["| unit | clocks | at most |", "|---|---|---|"], []
    for name in UNITS:
        bench = benches.load(name, benches.Request(parameters))
        found = watch(bench)
        table.append(f"| [{name}](#{name}) | {found.latency} | {bench.component.throughput} |")
        drawn = found.diagram()
        signals = ",\n".join(f"  {json.dumps(signal)}" for signal in drawn["signal"])
        text = f'{{ "signal": [\n{signals}\n], "edge": {json.dumps(drawn["edge"])} }}'
        sections += ["", f"## {name}", "", "```{wavedrom}", text, "```"]
    return "\n".join([_HEAD.format(machine=machine), "", *table, *sections]) + "\n"
