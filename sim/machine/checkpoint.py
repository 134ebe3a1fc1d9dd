"""Where a sampling stands after a step, in a file: what another run goes on from."""

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from golden.common import files
from golden.machine.registers import fingerprint
from rtl_gen.program.file import Program
from sim.machine.whole import StepRow


def digest(program: Program) -> str:
    """What tells a program from others: of its machine, commands and data."""
    found = hashlib.sha256(program.image)
    found.update(f"{fingerprint(program.parameters)} {program.operand} {program.commands}".encode())
    return found.hexdigest()


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A sampling after some of its steps.

    Members
    -------
    program : str
        `digest` of the whole one.
    about : str
        What it draws, in words.
    rows : tuple of StepRow
        Of the steps that were run.
    memory : uint8 array
        What they have left.
    """

    program: str
    about: str
    rows: tuple[StepRow, ...]
    memory: np.ndarray

    def save(self, path: Path) -> None:
        """Write it; the file is there whole or as it was before."""
        told = {"program": self.program, "about": self.about, "rows": [asdict(row) for row in self.rows]}
        with files.complete(path) as part, open(part, "wb") as file:
            np.savez(file, memory=self.memory, told=np.array(json.dumps(told)))

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Read what `save` wrote.

        Raises
        ------
        OSError
            If it cannot be read.
        ValueError
            If it is something else.
        """
        try:
            with open(path, "rb") as file, np.load(file) as arrays:
                told, memory = json.loads(str(arrays["told"])), arrays["memory"]
            return cls(told["program"], told["about"], _rows(told["rows"]), memory)
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"Checkpoint must be one that `sim` wrote, not {str(path)!r}") from error

    def check(self, program: Program, about: str) -> None:
        """Refuse another program.

        Raises
        ------
        ValueError
            If it is not the one that this is of.
        """
        if self.program != digest(program):
            raise ValueError(f"Checkpoint must be of this program ({about}), not of another ({self.about})")


def _rows(found: Sequence[dict[str, Any]]) -> tuple[StepRow, ...]:
    """Rows as JSON gives them, in which tags are strings."""
    return tuple(
        StepRow(**row | {"by_tag": {int(tag): clocks for tag, clocks in row["by_tag"].items()}}) for row in found
    )
