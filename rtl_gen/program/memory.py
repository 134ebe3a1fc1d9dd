"""Where everything lies: regions that grow as things are placed in them, and the image that a program starts from."""

import dataclasses
import math
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np

from golden.machine import image
from golden.machine.accelerator import CHIP_REGION, Accelerator
from golden.machine.command import UNIT_BYTES, Operand
from golden.parameters import Parameters

PROGRAMS, WEIGHTS, STATES, STEPS, TABLES, SPOOLS, INPUTS = range(7)
"""Regions by what they hold, see ``docs/machine.md``."""

LONGEST_SLOT = 2**16 - 1
"""Units of memory of a slot at most: a field of commands."""

_LIMIT = 2**29 - 1
"""Units of memory of a region at most."""

MIXES, HELD = PROGRAMS, WEIGHTS
"""Regions of what attention makes in loops, and of what it keeps for the next step: a loop moves a region by one
stride, and `INPUTS` by that of the queries, keys and values."""

_ORDERED = 64
"""Parts of a value that are ordered, if it has more than eight times as many lines."""

_OVERFLOWS = (INPUTS, PROGRAMS, WEIGHTS)
"""Regions that take states and spools which find no room in their own, up to three quarters of them."""


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A state.

    Members
    -------
    name : str
        For listings.
    data : Operand
        Its first vector.
    lines, width, channels : int
        Positions go line by line.
    unit : int
        s: an element counts ``2^unit``.
    sums : Operand or None
        Records of sums, if a norm reads the tensor.
    summed : str
        What they are of: ``"channel"`` or ``"position"``.
    samples : int
        How many of them follow each other.
    step, stride : int
        From sample to sample, in vectors and in units of memory.
    sums_step : int
        From sample to sample, in records of sums.
    grain : int
        Positions that are ordered together; 0: a line. Of a view with other lines: a line of what it is a view of.
    together : int
        Samples that attention takes in a turn of a loop; 0: it has none.
    """

    name: str
    data: Operand
    lines: int
    width: int
    channels: int
    unit: int
    sums: Operand | None = None
    summed: str = "no"
    samples: int = 1
    step: int = 0
    stride: int = 0
    sums_step: int = 0
    grain: int = 0
    together: int = 0

    @property
    def positions(self) -> int:
        """How many a sample has."""
        return self.lines * self.width

    def places(self, lines: Iterable[int] | None = None) -> list[Hashable]:
        """What stands for some of its lines, or for all, where accesses are ordered."""
        numbers = self._ordered(range(self.lines) if lines is None else lines)
        return [("state", first, one) for first in _starts(self.data, self.stride, self.samples) for one in numbers]

    def _ordered(self, lines: Iterable[int]) -> list[int]:
        """Numbers of what is ordered together and has positions of some lines."""
        grain = self.grain or self.width
        if grain == self.width:
            return list(lines)
        if isinstance(lines, range):  # they follow each other
            return list(range(lines.start * self.width // grain, -(-lines.stop * self.width // grain)))
        ends = ((line * self.width // grain, -(-(line + 1) * self.width // grain)) for line in lines)
        return sorted({number for begin, end in ends for number in range(begin, end)})

    def viewed(self, width: int) -> "Tensor":
        """The same positions in lines of so many."""
        return dataclasses.replace(self, lines=self.positions // width, width=width, grain=self.grain or self.width)

    def sums_places(
        self, lanes: int, vectors: Iterable[int] | None = None, lines: Iterable[int] | None = None
    ) -> list[Hashable]:
        """What stands for its sums: those by channel of some vectors of a position, those by position of some lines."""
        if self.sums is None:
            return []
        if self.summed == "channel":
            numbers = range(-(-self.channels // lanes)) if vectors is None else vectors
        else:
            numbers = self._ordered(range(self.lines) if lines is None else lines)
        starts = _starts(self.sums, self.sums_step * image.SUM_BYTES // UNIT_BYTES, self.samples)
        return [("sums", first, number) for first in starts for number in numbers]

    def vectors(self, lanes: int) -> int:
        """Vectors of n elements of a sample."""
        if self.channels >= lanes:
            return self.positions * -(-self.channels // lanes)
        return -(-self.positions * self.channels // lanes)

    def sample(self, number: int) -> "Tensor":
        """One of the samples, as a tensor of its own."""
        sums = None
        if self.sums is not None:
            sums = self.sums.moved(number * self.sums_step * image.SUM_BYTES // UNIT_BYTES)
        data = self.data.moved(number * self.stride)
        return dataclasses.replace(self, data=data, sums=sums, samples=1)


@dataclasses.dataclass(frozen=True, eq=False)
class Emission:
    """What the readers of a value hold of it, and where its groups are spooled.

    Members
    -------
    name : str
        For listings.
    held : Operand
        Xhat.
    spool, lengths : Operand
        Slots and the table of their lengths.
    slot : int
        Units of memory of a slot.
    lines, width : int
        Positions of the spool: of the tensor or, along positions, its channels.
    channels : int
        That are contracted: of the tensor or, along positions, its positions.
    unit : int
        Of x.
    passes : int
        The most that it is ever sent in.
    along : str
        Axis of a group, ``"channels"`` or ``"positions"``.
    segment : int
        Channels that are padded to whole groups apart; 0: all of them.
    samples : int
        How many of them follow each other.
    stride : int
        Units of memory from the Xhat of a sample to that of the next one.
    step : int
        Slots from sample to sample.
    together : int
        Samples of a turn of a loop, whose slots serve in every turn; 0: all have slots of their own.
    """

    name: str
    held: Operand
    spool: Operand
    lengths: Operand
    slot: int
    lines: int
    width: int
    channels: int
    unit: int
    passes: int
    along: str = "channels"
    segment: int = 0
    samples: int = 1
    stride: int = 0
    step: int = 0
    together: int = 0

    def places(self, kind: str, lines: Iterable[int] | None = None) -> list[Hashable]:
        """What stands for some of its lines, or for all, where accesses are ordered: ``"held"`` or ``"spool"``."""
        lines = range(self.lines) if lines is None else lines
        together = _together(self.lines)
        if together > 1:
            lines = sorted({line // together for line in lines})
        first, step = (self.held, self.stride) if kind == "held" else (self.spool, self.step * self.slot)
        return [(kind, start, line) for start in _starts(first, step, self.samples) for line in lines]

    def sample(self, number: int) -> "Emission":
        """One of the samples, as an emission of its own."""
        slots = self.step * (number % self.together if self.together else number)
        return dataclasses.replace(
            self,
            held=self.held.moved(number * self.stride),
            spool=self.spool.moved(slots * self.slot),
            lengths=self.lengths.moved(slots * image.ENTRY_BYTES // UNIT_BYTES),
            samples=1,
        )

    def groups(self, lanes: int) -> int:
        """Groups of a position."""
        return _groups(self.channels, self.segment, lanes)


@dataclasses.dataclass(frozen=True, eq=False)
class Kept:
    """Groups of a chain that near memory keeps, for vectors of channels apart, and the signs of what they add to.

    Members
    -------
    spools : tuple of Emission
        By vector of channels: groups of n of them, whose Xhat nobody keeps.
    signs : tuple of tuple of Operand
        By vector of channels: two sign tensors, which take turns.
    repairs : Tensor or None
        What masks that the last step changed are worth.
    repairing : Emission or None
        Its groups.
    """

    spools: tuple[Emission, ...]
    signs: tuple[tuple[Operand, Operand], ...]
    repairs: Tensor | None = None
    repairing: Emission | None = None


@dataclasses.dataclass(frozen=True)
class Placed:
    """Something in memory.

    Members
    -------
    operand : Operand
        Its first unit.
    name : str
        What it belongs to: a value, a layer.
    kind : str
        ``"state"``, ``"held"``, ``"sums"``, ``"coefficients"``, ``"rows"``, ``"records"``, ``"spool"``, ``"lengths"``,
        ``"signs"``, or ``"bytes"`` for everything that nobody writes.
    """

    operand: Operand
    name: str
    kind: str


class Memory:
    """Places things in regions.

    Parameters
    ----------
    parameters : Parameters
        Of the machine.
    """

    def __init__(self, parameters: Parameters):
        self.parameters = parameters
        self._used = [0] * 8
        self._wanted = [0] * 8
        self._shared: dict[Hashable, Operand] = {}
        self._content: list[tuple[Operand, bytes]] = []
        self._placed: list[Placed] = []

    def place(
        self, region: int, content: Any, name: str = "", kind: str = "bytes", *, within: int | None = None
    ) -> Operand:
        """Place bytes, a uint8 array, or so many zero bytes (int) on the next unit of a region.

        `name` and `kind` are for people, see `Placed`. What is of one region can lie `within` another.

        Raises
        ------
        ValueError
            If the region has no room.
        """
        size = content if isinstance(content, int) else len(np.asarray(content, np.uint8).ravel())
        units, place = -(-size // UNIT_BYTES), region if within is None else within
        if self._used[place] + units > _LIMIT:
            raise ValueError(
                f"Region {place} must hold at most {_LIMIT} units, not {self._used[place] + units} with {name!r} "
                f"({kind})"
            )
        operand = Operand(place, self._used[place])
        self._placed.append(Placed(operand, name, kind))
        self._used[place] += units
        self._wanted[region] += units
        if not isinstance(content, int):
            self._content.append((operand, np.ascontiguousarray(content, np.uint8).tobytes()))
        return operand

    def shared(self, key: Hashable, region: int, size: int, name: str, kind: str) -> Operand:
        """So many bytes that all who give the same key and size have, one after the other."""
        if (key, size) not in self._shared:
            self._shared[key, size] = self.place(region, size, name, kind)
        return self._shared[key, size]

    def _roomy(self, region: int, size: int) -> int:
        """The region, or another one that has room for so many bytes if it has not."""
        units = -(-size // UNIT_BYTES)
        rooms = {region: _LIMIT - _LIMIT // 16} | {other: _LIMIT * 3 // 4 for other in _OVERFLOWS if other != region}
        return next((one for one, room in rooms.items() if self._used[one] + units <= room), region)

    def used(self, region: int) -> int:
        """Units of memory that a region has so far."""
        return self._used[region]

    def wanted(self, region: int) -> int:
        """Units of memory of all that is of a region, wherever it lies."""
        return self._wanted[region]

    def find(self, region: int, unit: int) -> "Placed":
        """What lies at a unit of a region."""
        before = [one for one in self._placed if one.operand.region == region and one.operand.offset <= unit]
        return max(before, key=lambda one: one.operand.offset, default=Placed(Operand(region), "", "bytes"))

    def fill(self, operand: Operand, content: Any) -> None:
        """Give content to what was placed as zeros."""
        self._content.append((operand, np.ascontiguousarray(content, np.uint8).tobytes()))

    def tensor(
        self,
        name: str,
        lines: int,
        width: int,
        channels: int,
        unit: int,
        *,
        summed: str = "no",
        region: int = STATES,
        samples: int = 1,
        within: int | None = None,
        together: int = 0,
        stripes: "Stripes | None" = None,
    ) -> Tensor:
        """States of zeros, one for each sample; parameters as of `Tensor` and `place`. In `stripes` there are no sums.

        Raises
        ------
        ValueError
            If a vector would hold elements of two samples.
        """
        several = lines if together else _together(lines)  # sequences of a loop are ordered as a whole
        grain = width * several if several > 1 else 0
        plain = Tensor(name, Operand(region), lines, width, channels, unit, summed=summed, samples=samples, grain=grain)
        step = plain.vectors(self.parameters.lanes)
        size = image.vector_bytes(self.parameters)
        if stripes is not None:
            data = stripes.place(-(-step * size // UNIT_BYTES), name, "state", "state")
            return dataclasses.replace(plain, data=data, stride=stripes.stride, together=stripes.together)
        if samples > 1:
            step = self._sample_step(plain, step)
        if within is None and region == STATES:
            within = self._roomy(region, samples * step * size)
        data = self.place(region, samples * step * size, name, "state", within=within)
        positions, lanes = lines * width, self.parameters.lanes
        if channels < lanes:  # a combine counts what fills the last vector as elements of one more position
            positions = -(-plain.vectors(lanes) * lanes // channels)
        records = {"no": 0, "channel": channels, "position": positions}[summed]
        if samples > 1:
            apart = positions_of(step, channels, self.parameters.lanes)
            records = {"no": 0, "channel": channels + channels % 2, "position": apart}[summed]
        sums = self.place(STATES, samples * records * image.SUM_BYTES, name, "sums") if records else None
        stride = step * size // UNIT_BYTES if samples > 1 else 0
        return dataclasses.replace(
            plain, data=data, sums=sums, step=step, stride=stride, sums_step=records, together=together
        )

    def with_sums(self, state: Tensor, width: int, channels: int) -> Tensor:
        """The elements of a state as more positions of fewer channels, with sums by position of its own."""
        lanes = self.parameters.lanes
        grain = state.grain * (width // state.width)
        view = dataclasses.replace(state, width=width, channels=channels, grain=grain, summed="position")
        records = positions_of(view.vectors(lanes), channels, lanes) + 1  # what fills the last vector counts as one
        records += records % 2
        sums = self.place(STATES, state.samples * records * image.SUM_BYTES, state.name, "sums")
        return dataclasses.replace(view, sums=sums, sums_step=records)

    def _sample_step(self, plain: Tensor, vectors: int) -> int:
        """Vectors from sample to sample: each sample starts on a unit of memory, as do its records of positions."""
        lanes = self.parameters.lanes
        if plain.channels < lanes and plain.positions * plain.channels % lanes:
            raise ValueError(
                f"Several samples of {plain.name!r} must be whole vectors, which {plain.positions} x {plain.channels} "
                f"elements in lanes = {lanes} are not"
            )
        whole = UNIT_BYTES // math.gcd(image.vector_bytes(self.parameters), UNIT_BYTES)
        if plain.channels < lanes:
            whole = math.lcm(whole, plain.channels // math.gcd(plain.channels, lanes))
        else:
            whole = math.lcm(whole, -(-plain.channels // lanes))
        step = -(-vectors // whole) * whole
        while plain.summed == "position" and positions_of(step, plain.channels, lanes) % 2:
            step += whole
        return step

    def emission(
        self,
        name: str,
        lines: int,
        width: int,
        channels: int,
        unit: int,
        passes: int,
        *,
        along: str = "channels",
        segment: int = 0,
        samples: int = 1,
        stripes: "Stripes | None" = None,
        role: Hashable = None,
    ) -> Emission:
        """Room for Xhat and for the longest groups that there can be; parameters as of `Emission`.

        With `stripes` it lies in them, and its slots serve in every turn of a loop, of all emissions of its `role`.

        Raises
        ------
        ValueError
            If a line is too long for the slots of a spool.
        """
        p = self.parameters
        groups = _groups(channels, segment, p.lanes)
        stride = -(-lines * width * groups * image.vector_bytes(p) // UNIT_BYTES)
        shape = lines, width, channels, unit, passes, along, segment
        if stripes is not None:
            held = stripes.place(stride, name, "held", role)
            found = self._spooled(name, held, groups, stripes.together, stripes.stride, *shape, role=role)
            return dataclasses.replace(found, samples=samples, together=stripes.together)
        size = samples * stride * UNIT_BYTES
        held = self.place(STATES, size, name, "held", within=self._roomy(STATES, size))
        return self._spooled(name, held, groups, samples, stride, *shape)

    def _spooled(
        self,
        name: str,
        held: Operand,
        groups: int,
        samples: int,
        stride: int,
        lines: int,
        width: int,
        *shape: Any,
        role: Hashable = None,
    ) -> Emission:
        """An emission with room for the longest groups that there can be, `groups` a position."""
        p = self.parameters
        slot = slot_units(p, width * groups * shape[2])
        if slot > LONGEST_SLOT:
            raise ValueError(f"Groups of a line of {name!r} must take at most {LONGEST_SLOT} units, not {slot}")
        entries = UNIT_BYTES // image.ENTRY_BYTES
        step = lines if samples == 1 else -(-lines // entries) * entries
        sizes = {"spool": samples * step * slot * UNIT_BYTES, "lengths": samples * step * image.ENTRY_BYTES}
        if role is not None:
            spool, lengths = (self.shared((role, kind), SPOOLS, size, name, kind) for kind, size in sizes.items())
        else:
            spool, lengths = (
                self.place(SPOOLS, size, name, kind, within=self._roomy(SPOOLS, size)) for kind, size in sizes.items()
            )
        return Emission(
            name, held, spool, lengths, slot, lines, width, *shape, samples=samples, stride=stride, step=step
        )

    def kept(self, name: str, state: Tensor, groups: int, repairs: int = 0) -> Kept:
        """Room for what a product of a chain adds to a state, so many groups a vector, and for its signs; with
        `repairs`, passes of them, also for these.
        """
        p = self.parameters
        shape = state.lines, state.width, p.lanes, state.unit, groups, "channels", 0
        blocks = range(-(-state.channels // p.lanes))
        spools = tuple(self._spooled(f"{name}.{one}", Operand(0, 0), 1, state.samples, 0, *shape) for one in blocks)
        size = state.samples * spools[0].step * state.width * image.sign_bytes(p)
        signs = tuple(
            (self.place(STATES, size, name, "signs"), self.place(STATES, size, name, "signs")) for _ in blocks
        )
        if not repairs:
            return Kept(spools, signs)
        grid = f"{name}.repairs", state.lines, state.width, state.channels, state.unit
        repaired = self.tensor(*grid, samples=state.samples)
        return Kept(spools, signs, repaired, self.emission(*grid, repairs, samples=state.samples))

    def load(self, machine: Accelerator | None = None) -> Accelerator:
        """A machine (a new one, unless one is given) that holds the image."""
        bases, base = [], 0
        for region in range(8):
            bases.append(0 if region == CHIP_REGION else base)
            base += 0 if region == CHIP_REGION else self._used[region]
        if machine is None:
            machine = Accelerator(self.parameters, base * UNIT_BYTES, self._used[CHIP_REGION] * UNIT_BYTES)
        for region in range(8):
            machine.regions[region].base, machine.regions[region].limit = bases[region], self._used[region]
        for operand, content in self._content:
            memory = machine.chip if operand.region == CHIP_REGION else machine.memory
            start = (bases[operand.region] + operand.offset) * UNIT_BYTES
            memory[start : start + len(content)] = np.frombuffer(content, np.uint8)
        return machine


class Stripes:
    """Places of several samples, as far apart in each as a loop over the samples goes in a turn.

    Parameters
    ----------
    memory : Memory
        Takes them, in the region `HELD`.
    samples, stride : int
        How many, and units of memory from one to the next.
    together : int
        Samples of a turn.
    kept : bool
        Whether what lies there is still wanted when the loop is over; all of one role have the same place otherwise.
    """

    def __init__(self, memory: Memory, samples: int, stride: int, together: int, *, kept: bool):
        self._memory, self._samples, self._kept = memory, samples, kept
        self.stride, self.together = stride, together
        self._left, self._next = 0, Operand(HELD)
        self._found: dict[Hashable, Operand] = {}

    def place(self, units: int, name: str, kind: str, role: Hashable) -> Operand:
        """So many units of memory of each sample; where they lie of the first."""
        if not self._kept and (role, units) in self._found:
            return self._found[role, units]
        if units > self._left:
            size = self._samples * self.stride * UNIT_BYTES
            self._left, self._next = self.stride, self._memory.place(STATES, size, name, kind, within=HELD)
        found = self._found[role, units] = self._next
        self._left, self._next = self._left - units, found.moved(units)
        return found


def positions_of(vectors: int, channels: int, lanes: int) -> int:
    """Positions of so many channels that vectors of n elements hold."""
    return vectors * lanes // channels if channels < lanes else vectors // -(-channels // lanes)


def _together(lines: int) -> int:
    """Lines that are ordered together, of a value of so many."""
    return -(-lines // _ORDERED) if lines >= 8 * _ORDERED else 1


def _starts(first: Operand, step: int, samples: int) -> list[tuple[int, int]]:
    """Where each of several samples begins: region and unit of memory."""
    return [(first.region, first.offset + number * step) for number in range(samples)]


def _groups(channels: int, segment: int, lanes: int) -> int:
    segment = segment or channels
    return channels // segment * -(-segment // lanes)


def slot_units(p: Parameters, groups: int) -> int:
    """Units of memory that so many groups take, however long they are."""
    return -(-_slot_bytes(p, groups) // UNIT_BYTES)


def _slot_bytes(p: Parameters, groups: int) -> int:
    if p.link_form == "direct":
        return groups * image.group_bytes(p)
    n, m, k = p.lanes, p.outliers, p.digit_width
    longest = 10 + m.bit_length() + n * (1 + 2 * (k >= 3) + max(k - 3, 0) + 1) + m * ((n - 1).bit_length() + 16)
    blocks = [64] * (groups // 64) + [groups % 64] * (groups % 64 > 0)
    return sum(-(-(48 + 16 * p.link_checks + block * longest) // p.link_width) * p.link_width // 8 for block in blocks)
