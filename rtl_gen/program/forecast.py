"""What a sampling costs on a machine, before there are weights: clocks, use of the array, bytes, by step and by layer.

Programs are those of `rtl_gen.program.outline`, clocks those of `golden.machine.work`.

Words: *use of the array* is what the layers need over what the array could do in all clocks, `needed_groups` over
groups times clocks; the *bound* is the engine that is busy the longest, with its share of the clocks.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from golden.diffusion.cost.cambricon_d import BANDWIDTH
from golden.diffusion.cost.predict import multipliers, predict
from golden.diffusion.cost.rates import Rates
from golden.diffusion.cost.traffic import loads
from golden.diffusion.differential.method import Method
from golden.diffusion.networks.graph import Network
from golden.machine import image
from golden.machine.command import ENGINES, Emit, LoadWeights, Multiply, Operation
from golden.machine.work import Timeline, needed_by_tag, needed_groups, repeated, timeline, work
from golden.parameters import PRESETS, Parameters
from rtl_gen.program.outline import OutlinedStep, outlined

PAPER_SIZED = Parameters(
    lanes=60,
    outliers=0,
    fraction_bits=10,
    rows=128,
    columns=128,
    memory_lanes=12,
    near_lanes=60,
    accumulator_width=48,
    tile_positions=256,
    group_buffer=32768,
    weight_buffer=32768,
    row_buffer=4096,
    norm_buffer=8192,
    memory_width=256,
)
"""A machine with a closed loop and as many groups, of as many lanes, as the published one."""


@dataclasses.dataclass(frozen=True, eq=False)
class Forecast:
    """A sampling on a machine.

    Members
    -------
    network : Network
        That is sampled.
    parameters : Parameters
        Of the machine.
    steps : list of OutlinedStep
        Each kind of step.
    lines : list of Timeline
        Of each kind.
    memory : mapping of str to int
        Bytes of the regions, by what they hold.
    """

    network: Network
    parameters: Parameters
    steps: Sequence[OutlinedStep]
    lines: Sequence[Timeline]
    memory: Mapping[str, int]

    @property
    def slots(self) -> int:
        """Groups that the array can do in a clock."""
        return self.parameters.rows * self.parameters.columns

    def by_step(self) -> list[dict[str, Any]]:
        """A row for a step of each kind, and one for the whole sampling."""
        rows, total = [], collections.Counter()
        for step, line in zip(self.steps, self.lines, strict=True):
            counts = self._counts(step, line)
            rows.append(self._row(step.name, counts))
            total.update({name: step.count * count for name, count in counts.items()})
        return [*rows, self._row("all", total)]

    def _counts(self, step: OutlinedStep, line: Timeline) -> dict[str, int]:
        operations = list(_operations(step))
        found = [(work(one, self.parameters), times) for one, times in operations]
        return {
            "operations": sum(times for _, times in operations),
            "clocks": line.clocks,
            "needed": needed_groups(step.commands),
            "bytes": sum(times * (one.read + one.written) for one, times in found),
            **{engine: line.busy[engine] for engine in ENGINES},
        }

    def _row(self, name: str, counts: Mapping[str, int]) -> dict[str, Any]:
        clocks = counts["clocks"]
        bound = max(ENGINES, key=lambda engine: counts[engine])
        return {
            "steps": name,
            "operations": counts["operations"],
            "clocks": clocks,
            "use": round(counts["needed"] / (self.slots * clocks), 3),
            "bound": bound,
            "busy": round(counts[bound] / clocks, 3),
            "array": round(counts["multiply"] / clocks, 3),
            "MB": round(counts["bytes"] / 1e6, 1),
        }

    def by_layer(self) -> list[dict[str, Any]]:
        """A row for each layer with a product, over the whole sampling, and one for all.

        A layer's clocks are those by which it moves the end on. Layers overlap: the use of a single one, and engines'
        shares of its clocks, can be above 1.
        """
        clocks: collections.Counter[int] = collections.Counter()
        needed: collections.Counter[int] = collections.Counter()
        busy: collections.Counter[tuple[int, str]] = collections.Counter()
        for step, line in zip(self.steps, self.lines, strict=True):
            clocks.update({tag: step.count * count for tag, count in line.by_tag.items()})
            for one, times in _operations(step):
                busy[one.tag, one.engine] += step.count * times * work(one, self.parameters).clocks
            needed.update({tag: step.count * count for tag, count in needed_by_tag(step.commands).items()})
        rows = []
        for tag, count in sorted(needed.items()):
            if count:
                shares = {engine: busy[tag, engine] for engine in ENGINES}
                rows.append(self._of_layer(self.network.layers[tag].name, clocks[tag], count, shares))
        whole = {engine: 0 for engine in ENGINES}
        for step, line in zip(self.steps, self.lines, strict=True):
            whole = {engine: whole[engine] + step.count * line.busy[engine] for engine in ENGINES}
        elapsed = sum(step.count * line.clocks for step, line in zip(self.steps, self.lines, strict=True))
        return [*rows, self._of_layer("all", elapsed, needed.total(), whole)]

    def _of_layer(self, name: str, clocks: int, needed: int, busy: Mapping[str, int]) -> dict[str, Any]:
        clocks = max(clocks, 1)
        return {
            "layer": name,
            "clocks": clocks,
            "use": round(needed / (self.slots * clocks), 3),
            "bound": max(ENGINES, key=lambda engine: busy[engine]),
            **{engine: round(busy[engine] / clocks, 2) for engine in ENGINES},
        }

    def against_dense(self, output_bits: float) -> list[dict[str, Any]]:
        """Speed-up over a dense machine whose FP16 multipliers cost as much, and traffic over its weights.

        As `golden.diffusion.cost.cambricon_d.against_dense` has it, from the operations of the program: each layer
        takes as long as the slower of array and memory, near memory and link keep up; dense activations stay on the
        chip. Products of two activations are left out, as they are published. Traffic is weights as the program reads
        them, groups as they are sent, and outputs of `output_bits` for each element.

        Returns
        -------
        list of dict
            With the published bandwidth, and with that of the machine.
        """
        p, weighted = self.parameters, {load.name for load in loads(self.network) if load.weights}
        tags = {number for number, layer in enumerate(self.network.layers) if not layer.bilinear}
        count = sum(step.count for step in self.steps)
        array: collections.Counter[int] = collections.Counter()
        moved: collections.Counter[int] = collections.Counter()
        for step in self.steps:
            for one, times in _operations(step):
                if one.tag not in tags:
                    continue
                times *= step.count
                array[one.tag] += times * (work(one, p).clocks if isinstance(one, Multiply) else 0)
                moved[one.tag] += times * _crossing(one, p, output_bits)
        paper = PRESETS["paper"]
        fair = multipliers(p) / multipliers(paper) * self.slots / (paper.rows * paper.columns)
        dense = [predict(load, "dense", Rates(), paper) for load in loads(self.network) if load.name in weighted]
        rows = []
        for name, bandwidth in (("published memory", BANDWIDTH), ("its own memory", p.memory_width / 8)):
            mine = sum(max(array[tag] * fair, moved[tag] / bandwidth) for tag in array)
            theirs = count * sum(max(cost.cycles, cost.weights / bandwidth) for cost in dense)
            rows.append(
                {
                    "network": self.network.name,
                    "with": name,
                    "bytes a clock": bandwidth,
                    "speedup": round(theirs / mine, 2),
                    "traffic": round(moved.total() / (count * sum(cost.weights for cost in dense)), 2),
                }
            )
        return rows


def _operations(step: OutlinedStep) -> Iterator[tuple[Operation, int]]:
    """Operations of a step, each with how often loops carry it out."""
    return ((one, times) for one, times in repeated(step.commands) if isinstance(one, Operation))


def _crossing(one: Operation, p: Parameters, output_bits: float) -> float:
    """Bytes off the chip: weights, groups that are sent, outputs."""
    found = work(one, p)
    if isinstance(one, LoadWeights):
        return found.read
    if isinstance(one, Emit) and one.sent:
        return found.written - found.vectors * image.vector_bytes(p)
    if isinstance(one, Multiply) and one.leave:
        return (one.rows + 1) * one.lines * one.columns * one.collected * output_bits / 8
    return 0.0


def forecast(
    network: Network,
    method: Method,
    *,
    steps: int = 50,
    samples: int = 1,
    track: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> Forecast:
    """Compile the shape of a sampling, and play it through on paper; parameters as of `outlined`.

    Raises
    ------
    ValueError
        If a layer cannot be expressed.
    """
    found, memory = outlined(network, method, steps=steps, samples=samples, track=track)
    lines = [timeline(step.commands, method.machine) for step in found]
    return Forecast(network, method.machine, found, lines, memory)
