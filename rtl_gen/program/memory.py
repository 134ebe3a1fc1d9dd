"""Where everything lies: regions that grow as things are placed in them, and the image that a program starts from."""

import dataclasses
from typing import Any

import numpy as np

from golden.machine import image
from golden.machine.accelerator import CHIP_REGION, Accelerator
from golden.machine.command import UNIT_BYTES, Operand
from golden.parameters import Parameters

__all__ = [
    "INPUTS",
    "PROGRAMS",
    "SPOOLS",
    "STATES",
    "STEPS",
    "TABLES",
    "WEIGHTS",
    "Emission",
    "Memory",
    "Placed",
    "Tensor",
]

PROGRAMS, WEIGHTS, STATES, STEPS, TABLES, SPOOLS, INPUTS = range(7)
"""Regions by what they hold, see ``docs/machine.md``."""


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
    """

    name: str
    data: Operand
    lines: int
    width: int
    channels: int
    unit: int
    sums: Operand | None = None
    summed: str = "no"

    @property
    def positions(self) -> int:
        """How many there are."""
        return self.lines * self.width

    def vectors(self, lanes: int) -> int:
        """Vectors of n elements."""
        if self.channels >= lanes:
            return self.positions * -(-self.channels // lanes)
        return -(-self.positions * self.channels // lanes)


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

    def groups(self, lanes: int) -> int:
        """Groups of a position."""
        return _groups(self.channels, self.segment, lanes)


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
        or ``"bytes"`` for everything that nobody writes.
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
        self._content: list[tuple[Operand, bytes]] = []
        self._placed: list[Placed] = []

    def place(self, region: int, content: Any, name: str = "", kind: str = "bytes") -> Operand:
        """Place bytes, a uint8 array, or so many zero bytes (int) on the next unit of a region.

        `name` and `kind` are for people, see `Placed`.
        """
        operand = Operand(region, self._used[region])
        self._placed.append(Placed(operand, name, kind))
        size = content if isinstance(content, int) else len(np.asarray(content, np.uint8).ravel())
        self._used[region] += -(-size // UNIT_BYTES)
        if not isinstance(content, int):
            self._content.append((operand, np.ascontiguousarray(content, np.uint8).tobytes()))
        return operand

    def used(self, region: int) -> int:
        """Units of memory that a region has so far."""
        return self._used[region]

    def find(self, region: int, unit: int) -> "Placed":
        """What lies at a unit of a region."""
        before = [one for one in self._placed if one.operand.region == region and one.operand.offset <= unit]
        return max(before, key=lambda one: one.operand.offset, default=Placed(Operand(region), "", "bytes"))

    def fill(self, operand: Operand, content: Any) -> None:
        """Give content to what was placed as zeros."""
        self._content.append((operand, np.ascontiguousarray(content, np.uint8).tobytes()))

    def tensor(
        self, name: str, lines: int, width: int, channels: int, unit: int, *, summed: str = "no", region: int = STATES
    ) -> Tensor:
        """A state of zeros."""
        plain = Tensor(name, Operand(region), lines, width, channels, unit)
        data = self.place(
            region, plain.vectors(self.parameters.lanes) * image.vector_bytes(self.parameters), name, "state"
        )
        records = {"no": 0, "channel": channels, "position": lines * width}[summed]
        sums = self.place(STATES, records * image.SUM_BYTES, name, "sums") if records else None
        return dataclasses.replace(plain, data=data, sums=sums, summed=summed)

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
    ) -> Emission:
        """Room for Xhat and for the longest groups that there can be; parameters as of `Emission`."""
        p = self.parameters
        groups = _groups(channels, segment, p.lanes)
        held = self.place(STATES, lines * width * groups * image.vector_bytes(p), name, "held")
        slot = -(-_slot_bytes(p, width * groups * passes) // UNIT_BYTES)
        spool = self.place(SPOOLS, lines * slot * UNIT_BYTES, name, "spool")
        lengths = self.place(SPOOLS, lines * image.ENTRY_BYTES, name, "lengths")
        return Emission(name, held, spool, lengths, slot, lines, width, channels, unit, passes, along, segment)

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


def _groups(channels: int, segment: int, lanes: int) -> int:
    segment = segment or channels
    return channels // segment * -(-segment // lanes)


def _slot_bytes(p: Parameters, groups: int) -> int:
    """Bytes of so many groups, however long they are."""
    if p.link_form == "direct":
        return groups * image.group_bytes(p)
    n, m, k = p.lanes, p.outliers, p.digit_width
    longest = 10 + m.bit_length() + n * (1 + 2 * (k >= 3) + max(k - 3, 0) + 1) + m * ((n - 1).bit_length() + 16)
    blocks = [64] * (groups // 64) + [groups % 64] * (groups % 64 > 0)
    return sum(-(-(48 + block * longest) // p.link_width) * p.link_width // 8 for block in blocks)
