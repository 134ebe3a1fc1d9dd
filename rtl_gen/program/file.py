"""A program with all that it runs on: what every executor loads."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from golden.common.checked import read_json
from golden.machine.accelerator import Accelerator
from golden.machine.command import UNIT_BYTES, Command, Operand, Operation, assemble, disassemble
from golden.parameters import Parameters
from rtl_gen.program.memory import PROGRAMS, Memory, Tensor

SCHEMA = 2
"""Version of the description beside the memory image."""


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A program.

    Members
    -------
    parameters : Parameters
        Of the machine that it is for.
    image : uint8 array
        Memory at the start, region after region.
    regions : tuple of (int, int)
        First unit of memory and units of each; those of RAM on the chip count there.
    operand : Operand
        First command.
    commands : int
        How many there are.
    tensors : mapping of str to Tensor
        What a driver writes or reads.
    tags : mapping of int to str
        What a tag stands for.
    """

    parameters: Parameters
    image: np.ndarray
    regions: tuple[tuple[int, int], ...]
    operand: Operand
    commands: int
    tensors: Mapping[str, Tensor]
    tags: Mapping[int, str]

    @classmethod
    def of(
        cls, memory: Memory, commands: list[Command], tensors: Mapping[str, Tensor], tags: Mapping[int, str]
    ) -> "Program":
        """Place commands, and close the memory."""
        words = assemble(commands)
        operand = memory.place(PROGRAMS, words.view(np.uint8))
        machine = memory.load()
        regions = tuple((region.base, region.limit) for region in machine.regions)
        return cls(memory.parameters, machine.memory, regions, operand, len(words), dict(tensors), dict(tags))

    def load(self) -> Accelerator:
        """A machine that is ready to run it."""
        chip = self.regions[7][1] * UNIT_BYTES
        machine = Accelerator(self.parameters, len(self.image), chip)
        machine.memory[:] = self.image
        for region, (base, limit) in zip(machine.regions, self.regions, strict=True):
            region.base, region.limit = base, limit
        return machine

    def words(self) -> np.ndarray:
        """The commands as they lie in memory: uint32 (commands, 8)."""
        start = (self.regions[self.operand.region][0] + self.operand.offset) * UNIT_BYTES
        return self.image[start : start + self.commands * UNIT_BYTES].view("<u4").reshape(-1, 8)

    def save(self, folder: Path) -> None:
        """Write ``memory.bin``, ``program.json`` and ``listing.txt``.

        Raises
        ------
        OSError
            If the folder cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.bin").write_bytes(self.image.tobytes())
        tensors = {name: _described(tensor) for name, tensor in self.tensors.items()}
        description = {
            "schema": SCHEMA,
            "parameters": self.parameters.to_dict(),
            "regions": [list(region) for region in self.regions],
            "program": {"region": self.operand.region, "offset": self.operand.offset, "commands": self.commands},
            "tensors": tensors,
            "tags": {str(tag): name for tag, name in self.tags.items()},
        }
        (folder / "program.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
        (folder / "listing.txt").write_text(listing(disassemble(self.words()), self.tags), encoding="utf-8")

    @classmethod
    def open(cls, folder: Path) -> "Program":
        """Read what `save` wrote.

        Raises
        ------
        OSError
            If a file cannot be read.
        ValueError
            If the description is not one, or the memory is not as long as it says.
        """
        found = read_json("Program", folder / "program.json")
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            schema = found.get("schema") if isinstance(found, dict) else None
            raise ValueError(f"schema of a program must be {SCHEMA}, not {schema!r}")
        try:
            program, regions = found["program"], tuple((int(base), int(limit)) for base, limit in found["regions"])
            operand, commands = Operand(program["region"], program["offset"]), int(program["commands"])
            tensors = {name: _tensor(name, one) for name, one in found["tensors"].items()}
            tags = {int(tag): name for tag, name in found["tags"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"Program must have everything that `rtl_gen program` writes, not without {error}"
            ) from None
        image = np.fromfile(folder / "memory.bin", np.uint8)
        size = sum(limit for number, (_, limit) in enumerate(regions) if number != 7) * UNIT_BYTES
        if len(image) != size or len(regions) != 8:
            raise ValueError(f"Memory of a program must be of {size} bytes, not {len(image)}")
        return cls(Parameters.from_dict(found["parameters"]), image, regions, operand, commands, tensors, tags)


def _described(tensor: Tensor) -> dict[str, Any]:
    names = ("lines", "width", "channels", "unit", "samples", "stride")
    return {
        "region": tensor.data.region,
        "offset": tensor.data.offset,
        **{name: getattr(tensor, name) for name in names},
    }


def _tensor(name: str, found: Mapping[str, Any]) -> Tensor:
    data = Operand(found["region"], found["offset"])
    shape = found["lines"], found["width"], found["channels"], found["unit"]
    return Tensor(name, data, *shape, samples=found["samples"], stride=found["stride"])


def listing(commands: list[Command], tags: Mapping[int, str]) -> str:
    """Commands as text: a line each, with the fields that are not what they are by default."""
    lines, depth = [], 0
    for position, command in enumerate(commands):
        name = type(command).__name__
        depth -= name == "End"
        fields = []
        for field in dataclasses.fields(command):
            value = getattr(command, field.name)
            if field.name in ("tag", "pop", "push") or value == field.default:
                continue
            shown = f"{value.region}:{value.offset:#x}" if isinstance(value, Operand) else value
            fields.append(f"{field.name}={shown}")
        tokens = ""
        if isinstance(command, Operation):
            tokens = "".join(
                [
                    f" <- {' '.join(command.pop)}" * bool(command.pop),
                    f" -> {' '.join(command.push)}" * bool(command.push),
                ]
            )
        label = tags.get(command.tag, "") if isinstance(command, Operation) else ""
        lines.append(f"{position:6} {'  ' * depth}{name:<13}{label:<28} {' '.join(map(str, fields))}{tokens}".rstrip())
        depth += name == "Loop"
    return "\n".join(lines) + "\n"
