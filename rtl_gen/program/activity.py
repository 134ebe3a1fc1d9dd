"""What a forecast cannot know from shapes: zero groups, and how long streams of deltas become.

Golden draws another image by the same method and takes notes. They say how many groups of a value are not zero, and how
many bits it takes; the program says where those groups go, and which are zero by their place: borders, and passes that
fill a tile up.
"""

import collections
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from golden.diffusion.differential.measure import Measure, Row, framing
from golden.diffusion.networks.graph import Network, main_values
from golden.machine.command import Command, Emit, LoadGroups, Multiply, Operand
from golden.machine.work import repeated, work
from golden.parameters import Parameters
from rtl_gen.program.forecast import Forecast

_ZERO_BITS = 3
"""Of a zero group in a stream."""


def activity(found: Forecast, measure: Measure) -> list["collections.Counter[str]"]:
    """Counters of each step of a sampling that depend on values, as the interpreter would count them.

    Parameters
    ----------
    found : Forecast
        Of the sampling.
    measure : Measure
        Notes of another image, drawn by the same method in as many steps.

    Returns
    -------
    list of Counter
        ``array_groups``, ``array_zero_groups``, ``link_group_bits``, ``link_output_bits``; with a compressed link also
        bytes ``memory_spools_read`` and ``memory_spools_written``. In the order of the steps.
    """
    p, rates = found.parameters, _Rates(found.network, measure)
    counted = {}
    for step in found.steps:
        traced = _Traced.of(step.commands, p)
        for index in step.indices:
            counted[index] = traced.counters(rates, index, p)
    return [counted[index] for index in sorted(counted)]


@dataclasses.dataclass(frozen=True)
class _Rates:
    """What the notes say of a value in a step, by the tag of its emission, or of a product by its own."""

    network: Network
    measure: Measure

    def _name(self, tag: int) -> str:
        """Of a value that is sent; the network's input has no layer, and the tag 0."""
        name = self.network.layers[tag].name
        return name if tag or name in main_values(self.network) else next(iter(self.network.inputs))

    def sent(self, index: int, tag: int, passes: int) -> tuple[float, float]:
        """Groups of a vector that are not zero, and its bits in a stream of so many passes."""
        row = self.measure.inputs.get((index, self._name(tag)), Row())
        vectors = max(row.vectors, 1)
        bits = (row.bits - framing(row.groups, self.measure.parameters)) / vectors
        return (row.groups - row.zero_groups) / vectors, bits + _ZERO_BITS * (passes - row.groups / vectors)

    def output(self, index: int, tag: int) -> float:
        """Bits of a joint vector."""
        row = self.measure.outputs.get((index, self.network.layers[tag].name), Row())
        return (row.joint - framing(row.vectors, self.measure.parameters)) / max(row.vectors, 1)


@dataclasses.dataclass(frozen=True)
class _Spool:
    """Groups of an emission, as they were sent last.

    Members
    -------
    tag, passes : int
        Of the emission.
    vectors : int
        Of a line.
    """

    tag: int
    passes: int
    vectors: int


@dataclasses.dataclass
class _Traced:
    """Where the groups of a step go.

    Members
    -------
    groups : int
        Groups times channels that tiles multiply.
    held : Counter of (tag, passes)
        Those of them that a value fills.
    written, read : Counter of _Spool
        Lines.
    left : Counter of (tag, vectors)
        Tiles by the product and the vectors that leave.
    """

    groups: int = 0
    held: "collections.Counter[tuple[int, int]]" = dataclasses.field(default_factory=collections.Counter)
    written: "collections.Counter[_Spool]" = dataclasses.field(default_factory=collections.Counter)
    read: "collections.Counter[_Spool]" = dataclasses.field(default_factory=collections.Counter)
    left: "collections.Counter[tuple[int, int]]" = dataclasses.field(default_factory=collections.Counter)

    @classmethod
    def of(cls, commands: Sequence[Command], p: Parameters) -> "_Traced":
        """Trace the commands of a step."""
        traced = cls()
        spools: dict[Operand, _Spool] = {}
        numbers: list[tuple[int, int]] = []  # what stands in the banks
        banks = np.full((2, p.rows, p.group_buffer), -1)
        for one, times in repeated(commands):
            if isinstance(one, Emit) and one.sent:
                vectors = work(one, p).vectors
                lines = one.channels // one.across if one.along == "positions" else one.lines
                spools[one.spool] = _Spool(one.tag, one.passes + 1, vectors // lines)
                traced.written[spools[one.spool]] += times * lines
            elif isinstance(one, LoadGroups):
                spool = spools[one.source]
                number = len(numbers)
                numbers.append((spool.tag, spool.passes))
                seen = set()
                for row, line, places in _placed(one):
                    banks[int(one.half), row, places] = -1 if line is None else number
                    seen.add(None if line is None else (row if one.slot_step else 0, line))
                traced.read[spool] += times * len(seen - {None})
            elif isinstance(one, Multiply):
                found = banks[int(one.half), : one.rows + 1][:, _multiplied(one)]
                traced.groups += times * found.size * one.channels
                for number, count in zip(*np.unique(found[found >= 0], return_counts=True), strict=True):
                    traced.held[numbers[number]] += times * int(count) * one.channels
                if one.leave:
                    of_row = -(-one.lines * one.columns * one.collected // p.lanes)
                    traced.left[one.tag, (one.rows + 1) * of_row] += times
        return traced

    def counters(self, rates: _Rates, index: int, p: Parameters) -> "collections.Counter[str]":
        """What is counted in a step."""

        def bits(lines: "collections.Counter[_Spool]") -> float:
            return sum(
                count * (one.vectors * rates.sent(index, one.tag, one.passes)[1] + framing(one.vectors * one.passes, p))
                for one, count in lines.items()
            )

        used = sum(count * rates.sent(index, *key)[0] / key[1] for key, count in self.held.items())
        outputs = sum(
            count * (vectors * rates.output(index, tag) + framing(vectors, p))
            for (tag, vectors), count in self.left.items()
        )
        found = {
            "array_groups": self.groups,
            "array_zero_groups": self.groups - used,
            "link_group_bits": bits(self.written),
            "link_output_bits": outputs,
        }
        if p.link_form == "compressed":
            found |= {"memory_spools_written": bits(self.written) / 8, "memory_spools_read": bits(self.read) / 8}
        return collections.Counter({name: round(count) for name, count in found.items()})


def _placed(c: LoadGroups) -> Iterator[tuple[int, int | None, np.ndarray]]:
    """Row, line of the spool (None: zero groups) and addresses of what a load puts into the banks."""
    slots, line = c.passes + 1, c.left + c.width * c.repeat + c.right
    inner = (np.arange(c.groups)[:, None] * slots + np.arange(slots)).ravel()
    sent = (np.arange(c.groups)[:, None] * slots + np.arange(c.sent + 1)).ravel()
    for row in range(c.rows + 1):
        for number in range(c.lines):
            begin = c.at + number * line * c.pitch + c.first
            yield row, None, (begin + np.arange(line)[:, None] * c.pitch + inner).ravel()
            y = c.line + row * c.line_step + number
            if 0 <= y < c.height * c.repeat:
                columns = c.left + np.arange(c.width * c.repeat)
                yield row, c.skip + y // c.repeat, (begin + columns[:, None] * c.pitch + sent).ravel()


def _multiplied(c: Multiply) -> np.ndarray:
    """Addresses that a tile reads, once for each of its channels."""
    place = c.at + np.arange(c.lines)[:, None] * c.line_pitch + np.arange(c.columns) * c.column_pitch
    tap = np.arange(c.kernel_lines)[:, None] * c.kernel_pitch + np.arange(c.kernel_columns) * c.tap_pitch
    inner = tap.ravel()[:, None] + np.arange(c.groups * (c.passes + 1))
    return (place.ravel()[:, None] + inner.ravel()).ravel()
