"""LUTs of a multiplier lane, as ``python -m fpga area`` measures them: of a report, or the ones that are shipped.

Only figures of the very group count (k, n, m, form of the weights): nothing is scaled from one to another. DSP blocks
are not in the LUTs; outliers and dense lanes take one each.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from golden.common.checked import read_json
from golden.parameters import Parameters

SHIPPED = Path(__file__).parent / "areas.json"
"""Figures on ECP5 with the command and the date that made them; see ``docs/fpga.md``."""

DENSE = "dense group, FP16 x FP16, n=16"
"""Piece of a report that stands for a dense machine."""


def piece(parameters: Parameters) -> str:
    """Name of a multiplier group in a report."""
    p = parameters
    form = f"aligned F={p.fraction_bits}" if p.weight_form == "aligned" else "float"
    return f"multiplier_group, k={p.digit_width} n={p.lanes} m={p.outliers}, {form}"


def read(path: Path | None = None) -> list[dict[str, Any]]:
    """Rows of a report of ``python -m fpga area`` (its ``area.json``); without a file those that are shipped.

    Raises
    ------
    OSError, ValueError
        If it cannot be read or is something else.
    """
    if path is None:
        return read_json("Areas", SHIPPED)["rows"]
    try:
        report = read_json("Areas", path)
    except ValueError as error:
        raise ValueError(f"Areas must be a report of `python -m fpga area`, not {str(path)!r}") from error
    if not isinstance(report, list) or not report or not all(map(_measured, report)):
        raise ValueError(f"Areas must be a report of `python -m fpga area`, not {str(path)!r}")
    return report


def _measured(row: Any) -> bool:
    """Whether a row of the report is a piece with its lanes (0: not in lanes) and LUTs."""
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("piece", "leaves")):
        return False
    cells = row.get("cells")
    numbers = (row.get("lanes"), cells.get("luts") if isinstance(cells, dict) else None)
    return all(type(value) is int and value >= 0 for value in numbers)


def lane(areas: Sequence[Mapping[str, Any]], parameters: Parameters | None) -> float | None:
    """LUTs of a lane of a machine's multiplier group, or (None) of a dense group; None if it was not measured."""
    name = DENSE if parameters is None else piece(parameters)
    for row in areas:
        if row["piece"] == name and row["leaves"] == "ecp5":
            return row["cells"]["luts"] / row["lanes"]
    return None
