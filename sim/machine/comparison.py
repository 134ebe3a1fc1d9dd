"""Two memories side by side: the first thing that differs, as a person would say it."""

from dataclasses import dataclass

import numpy as np

from golden.machine import image
from golden.machine.command import UNIT_BYTES
from golden.parameters import Parameters
from rtl_gen.program.memory import Memory
from rtl_gen.program.network import Compiler

_REGIONS = ("programs", "weights", "states", "tables of steps", "tables", "spools", "inputs", "on the chip")


@dataclass(frozen=True)
class Difference:
    """The first place where a memory is not what it should be.

    Members
    -------
    region : int
        Number.
    name, kind : str
        What lies there, see `rtl_gen.program.memory.Placed`.
    element : str
        Which part of it: position and channel of a state, number of a record, byte.
    got, expected : int
        What is there.
    count : int
        Bytes that differ in all.
    """

    region: int
    name: str
    kind: str
    element: str
    got: int
    expected: int
    count: int

    def __str__(self) -> str:
        what = f"{self.kind} of {self.name}" if self.name else "memory"
        return (
            f"region {self.region} ({_REGIONS[self.region]}), {what}, {self.element}: got {self.got}, "
            f"expected {self.expected} ({self.count} bytes differ)"
        )


def difference(
    compiler: Compiler, regions: tuple[tuple[int, int], ...], got: np.ndarray, expected: np.ndarray
) -> Difference | None:
    """Compare memories of which a compiler knows what lies where.

    Parameters
    ----------
    compiler : Compiler
        Its memory is asked.
    regions : tuple of (int, int)
        First unit of memory and units of each region.
    got, expected : uint8 arrays
        Of one length.

    Returns
    -------
    Difference or None
        None if they are equal.
    """
    odd = np.flatnonzero(got != expected)
    if not odd.size:
        return None
    at = int(odd[0])
    region = next(
        number
        for number, (base, limit) in enumerate(regions)
        if number != 7 and base <= at // UNIT_BYTES < base + limit
    )
    memory = compiler.memory
    begin = regions[region][0] * UNIT_BYTES
    placed = memory.find(region, (at - begin) // UNIT_BYTES)
    offset = at - begin - placed.operand.offset * UNIT_BYTES
    start = at - offset
    size = _record_bytes(placed.kind, memory.parameters)
    number = offset // size
    pair = [data[start + number * size : start + (number + 1) * size] for data in (got, expected)]
    if placed.kind in ("state", "held"):
        element, values = _element(compiler, memory, placed.name, placed.kind, number, pair)
    else:
        element = f"{'byte' if size == 1 else 'record'} {number}"
        values = [int.from_bytes(data.tobytes(), "little") for data in pair]
    return Difference(region, placed.name, placed.kind, element, *values, odd.size)


def _record_bytes(kind: str, p: Parameters) -> int:
    return {
        "state": image.vector_bytes(p),
        "held": image.vector_bytes(p),
        "sums": image.SUM_BYTES,
        "coefficients": image.COEFFICIENT_BYTES,
        "rows": image.COEFFICIENT_BYTES,
        "records": image.weight_bytes(p),
        "lengths": image.ENTRY_BYTES,
    }.get(kind, 1)


def _element(
    compiler: Compiler, memory: Memory, name: str, kind: str, vector: int, pair: list[np.ndarray]
) -> tuple[str, list[int]]:
    """Which element of a vector differs, and its values; the bits behind the elements are the padding."""
    values = [image.unpack_vectors(data[None], memory.parameters)[0] for data in pair]
    lanes = np.flatnonzero(values[0] != values[1])
    if not lanes.size:
        return f"padding of vector {vector}", [int.from_bytes(data.tobytes(), "little") for data in pair]
    lane, n = int(lanes[0]), memory.parameters.lanes
    found = [int(value[lane]) for value in values]
    tensor = compiler.states.get(name)
    if kind == "held" or tensor is None:
        return f"vector {vector}, lane {lane}", found
    prefix = ""
    if tensor.samples > 1:
        number, vector = divmod(vector, tensor.step)
        prefix = f"image {number}, "
    if tensor.channels < n:
        position, channel = divmod(vector * n + lane, tensor.channels)
    else:
        of = -(-tensor.channels // n)
        position, channel = vector // of, vector % of * n + lane
    return f"{prefix}line {position // tensor.width}, column {position % tensor.width}, channel {channel}", found
