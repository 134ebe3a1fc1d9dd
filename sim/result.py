"""What the outcomes of a bench mean: the first thing that differs from the golden model, and figures."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.hdl import ShapeLike

from sim import vectors
from sim.bench import Case
from sim.play import Play


@dataclass(frozen=True)
class Mismatch:
    """The first thing in which a unit differs from the golden model.

    Members
    -------
    unit, case, mode : str
        Where.
    what : str
        ``value``, ``missing``, ``stuck``, ``extra``, ``unstable``, ``status``, ``clear``, ``memory``, ``stray``,
        ``endless`` or ``throughput``.
    stream, where : str
        Stream and field.
    index : int
        Number of the output in its case.
    lane : int or None
        Lane, if the field has lanes.
    cycle : int
        Clock, from the start of the run.
    got, expected : int or float
        Values.
    """

    unit: str
    case: str
    mode: str
    what: str
    stream: str = ""
    where: str = ""
    index: int = 0
    lane: int | None = None
    cycle: int = 0
    got: int | float = 0
    expected: int | float = 0

    def __str__(self) -> str:
        lane = "-" if self.lane is None else self.lane
        text = {
            "value": f"{self.where} of output {self.index} of stream {self.stream}",
            "missing": f"outputs of stream {self.stream} before the unit hung",
            "stuck": f"inputs of stream {self.stream} taken before the unit hung",
            "extra": f"outputs of stream {self.stream}",
            "unstable": f"payload of stream {self.stream} dropped or changed before it was taken",
            "status": f"sticky bit {self.where} at the end",
            "clear": f"sticky bit {self.where} after clear",
            "stray": "accesses to memory words that belong to nobody",
            "memory": f"{self.where} of memory word {self.index} at the end",
            "throughput": "transfers per clock",
            "endless": "clocks until the unit was stopped, which never came to rest",
        }[self.what]
        return (
            f"unit {self.unit}, lane {lane}, cycle {self.cycle}: {text}: got {_number(self.got)}, "
            f"expected {_number(self.expected)} (case {self.case}, mode {self.mode})"
        )


def _number(value: int | float) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value} ({value:#x})" if value > 9 else str(value)


@dataclass(frozen=True)
class Result:
    """Outcome of a bench.

    Members
    -------
    unit : str
        Name.
    vectors : int
        Outputs compared in one mode, all cases.
    runs : int
        Cases times modes.
    cycles : int
        Clocks of all runs.
    groups_per_clock : float
        Worst case of mode none.
    rates : mapping of str to float
        Transfers of the busiest stream per clock in mode none, by case; without the short ones.
    mismatches : int
        Values that differed and whatever else was wrong.
    first : Mismatch or None
        The first of them.
    seed : int
        Of vectors and pauses.
    seconds : float
        Wall time.
    waves : Path or None
        Waveforms, if asked for.
    """

    unit: str
    vectors: int
    runs: int
    cycles: int
    groups_per_clock: float
    rates: Mapping[str, float]
    mismatches: int
    first: Mismatch | None
    seed: int
    seconds: float
    waves: Path | None = None


def judge(
    play: Play, outcomes: Sequence[Mapping[str, Any]], *, seconds: float = 0.0, waves: Path | None = None
) -> Result:
    """Say what the outcomes of a plan mean: one for each of its runs, or for the first of them."""
    mismatches, first = 0, None
    rates = {}
    for (case, mode), outcome in zip(play.runs, outcomes, strict=False):
        found = list(_mismatches(play, case, mode, outcome))
        rate = _rate(outcome)
        if mode == "none" and rate:
            rates[case.name] = rate
            promised = play.bench.groups_per_clock if case.rate is None else case.rate
            if rate < 0.999 * promised and not found:
                found.append(Mismatch(play.bench.name, case.name, mode, "throughput", got=rate, expected=promised))
        mismatches += len(found) + sum(max(output["wrong"] - 1, 0) for output in outcome["outputs"].values())
        mismatches += max(outcome["memory"].get("wrong", 0) - 1, 0)
        first = first or (found[0] if found else None)
    return Result(
        unit=play.bench.name,
        vectors=sum(len(play.files[port.name]) for port in play.ports.outputs),
        runs=len(outcomes),
        cycles=sum(outcome["cycles"] for outcome in outcomes),
        groups_per_clock=min(rates.values(), default=0.0),
        rates=rates,
        mismatches=mismatches,
        first=first,
        seed=play.seed,
        seconds=seconds,
        waves=waves,
    )


def _rate(outcome: Mapping[str, Any]) -> float:
    # Transfers per clock of the busier stream; short runs say nothing.
    rates = [
        counters["taken"] / (counters["last_cycle"] - counters["first_cycle"] + 1)
        for counters in (*outcome["inputs"].values(), *outcome["outputs"].values(), outcome["memory"])
        if counters and counters["taken"] >= 64
    ]
    return max(rates, default=0.0)


def _mismatches(play: Play, case: Case, mode: str, outcome: Mapping[str, Any]) -> Iterator[Mismatch]:
    differs = functools.partial(Mismatch, play.bench.name, case.name, mode)
    wrong = [(output["wrong_cycle"], name, output) for name, output in outcome["outputs"].items() if output["wrong"]]
    for cycle, name, output in sorted(wrong, key=lambda entry: entry[0]):
        fields = _difference(play, play.streams[name].shape, output["wrong_got"], output["wrong_expected"])
        yield differs("value", stream=name, index=output["wrong_index"], cycle=cycle, **fields)
    differs = functools.partial(differs, cycle=outcome["cycles"])
    for name, output in outcome["outputs"].items():
        if output["unstable"]:
            yield differs("unstable", stream=name, got=1)
        if output["extra"]:
            yield differs("extra", stream=name, got=output["taken"] + 1, expected=output["taken"])
    memory = outcome["memory"]
    if memory.get("unstable"):
        yield differs("unstable", stream="of the memory", got=1)
    if memory.get("stray"):
        yield differs("stray", got=1)
    if memory.get("wrong"):
        fields = _difference(play, play.ports.word.shape, memory["wrong_got"], memory["wrong_expected"])
        yield differs("memory", index=memory["wrong_address"], **fields)
    if outcome["hung"]:
        unfinished = False
        for what, kind, given in (("missing", "outputs", case.outputs), ("stuck", "inputs", case.inputs)):
            for name, counters in outcome[kind].items():
                count = len(vectors.pack(play.streams[name].shape, given[name]))
                if counters["taken"] < count:
                    unfinished = True
                    yield differs(what, stream=name, got=counters["taken"], expected=count)
        if not unfinished:
            yield differs("endless", got=outcome["cycles"])
    for name, value in outcome["status"].items():
        expected = int(case.status.get(name, 0))
        if value != expected:
            yield differs("status", where=name, got=value, expected=expected)
    for name, value in outcome.get("cleared", {}).items():
        if value:
            yield differs("clear", where=name, got=value)


def _difference(play: Play, shape: ShapeLike, got: int, expected: int) -> dict[str, Any]:
    """Field, lane and numbers of the first difference between two payloads."""
    theirs, ours = vectors.decode(shape, got), vectors.decode(shape, expected)
    n = getattr(getattr(play.bench.component, "parameters", None), "lanes", 0)
    for leaf in vectors.leaves(shape):
        odd = theirs[leaf.name] ^ ours[leaf.name]
        if odd:
            lane = next((part for part in reversed(leaf.path) if isinstance(part, int)), None)
            if lane is None and leaf.width == n:  # one flag per lane
                lane = (odd & -odd).bit_length() - 1
            return {"where": leaf.name, "lane": lane, "got": theirs[leaf.name], "expected": ours[leaf.name]}
    raise AssertionError("a mismatch must differ in a field")
