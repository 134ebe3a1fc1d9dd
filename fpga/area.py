"""The area and clock of the pieces that matter, beside a dense group of the same lanes from the same run.

LUTs are counted after synthesis; the clock is the median over seeds, out of context, all ports registered (the
registers are counted apart), ECP5 speed grade 6.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from fpga.flow import Flow, Measurement
from fpga.mapped import Cells
from fpga.parts import ECP5_85F
from golden.diffusion.cost import areas
from golden.diffusion.cost.areas import piece
from golden.parameters import PRESETS, Parameters
from hw.arith.float import FLOAT16, FloatAdd, FloatMultiply
from hw.arith.leaves import LeafTarget
from hw.rivals.dense_group import DenseGroup
from hw.rivals.multiplied_group import MultipliedGroup
from hw.units import MultiplierGroup, OutlierSelector


@dataclasses.dataclass(frozen=True, kw_only=True)
class Goal:
    """What a piece has to reach; None where there is no goal.

    Parameters
    ----------
    share : float
        Largest share of the LUTs of a dense group of as many lanes.
    luts, luts_per_lane, dsp : int
        Largest numbers of cells.
    mhz : float
        Least clock frequency.
    """

    share: float | None = None
    luts: int | None = None
    luts_per_lane: int | None = None
    dsp: int | None = None
    mhz: float | None = None

    def __str__(self) -> str:
        """In words, for the table; empty if there is none."""
        parts = []
        if self.share is not None:
            parts.append(f"<= {self.share:.2f} of dense")
        if self.luts is not None:
            parts.append(f"<= {self.luts} LUTs")
        if self.luts_per_lane is not None:
            parts.append(f"<= {self.luts_per_lane} LUTs a lane")
        if self.dsp is not None:
            parts.append(f"<= {self.dsp} DSP" if self.dsp else "no DSP")
        if self.mhz is not None:
            parts.append(f">= {self.mhz:g} MHz")
        return ", ".join(parts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A piece to measure.

    Parameters
    ----------
    name : str
        What it is.
    make : functools.partial
        Makes the component: a class and its arguments, which say what it is.
    leaves : str
        Form of its leaves: ``"ecp5"`` or ``"generic"``.
    goal : Goal
        What it has to reach.
    lanes : int
        Lanes it works on; 0 if it has none.
    placed : bool
        Whether it is placed and routed; of the others only cells are counted.
    """

    name: str
    make: functools.partial
    goal: Goal = Goal()
    leaves: str = "ecp5"
    lanes: int = 0
    placed: bool = True


def _group(goal: Goal = Goal(), leaves: str = "ecp5", placed: bool = True, **settings: Any) -> Row:
    p = dataclasses.replace(Parameters(fraction_bits=10), **settings)
    make = functools.partial(MultiplierGroup, p)
    return Row(name=piece(p), make=make, goal=goal, leaves=leaves, lanes=p.lanes, placed=placed)


_multiplied = functools.partial(MultipliedGroup, Parameters(fraction_bits=10, digit_width=8, lanes=32, outliers=0))
_multiply, _add = functools.partial(FloatMultiply, FLOAT16), functools.partial(FloatAdd, FLOAT16)
_selector = functools.partial(OutlierSelector, PRESETS["paper"])

DENSE = Row(name=areas.DENSE, make=functools.partial(DenseGroup, lanes=16), goal=Goal(luts=5068, dsp=16), lanes=16)
"""The rival: the same number of lanes, every lane a floating-point multiplier."""

_PAPER = {
    name: getattr(PRESETS["paper"], name)
    for name in (
        *("digit_width", "lanes", "outliers", "exponent_policy", "overflow_policy", "weight_form"),
        *("accumulator_width", "output_passes"),
    )
}

ROWS = (
    _group(Goal(share=0.20, dsp=0, mhz=180), lanes=16, outliers=0),
    _group(Goal(share=0.27, dsp=0, mhz=180), leaves="generic", lanes=16, outliers=0),
    _group(Goal(share=0.29, dsp=2, mhz=140), lanes=16, outliers=1),
    _group(Goal(luts_per_lane=46, dsp=0), lanes=32, outliers=0),
    _group(digit_width=4, lanes=32, outliers=0),
    _group(digit_width=8, lanes=32, outliers=0),
    Row(name="multiplied group, k=8 n=32 m=0, aligned F=10, a DSP a lane", make=_multiplied, lanes=32),
    _group(**_PAPER, placed=False),
    *(_group(digit_width=k, lanes=16, outliers=0, placed=False) for k in (4, 8)),
    *(_group(digit_width=k, lanes=32, outliers=m, placed=False) for k in (3, 4) for m in (1, 2)),
    *(_group(digit_width=k, lanes=32, outliers=0, fraction_bits=12, placed=False) for k in (3, 4)),
    *(_group(digit_width=k, lanes=32, outliers=0, fraction_bits=14, placed=False) for k in (3, 4)),
    Row(name="FP16 multiply, rounded", make=_multiply, goal=Goal(luts=376, dsp=1, mhz=140)),
    Row(name="FP16 add, rounded", make=_add, goal=Goal(luts=600, mhz=120)),
    Row(name="outlier_selector, n=60 m=4", make=_selector, goal=Goal(mhz=150), lanes=60),
    DENSE,
)
"""What `area` measures."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """A row, measured.

    Members
    -------
    row : Row
        The piece.
    cells : Cells
        Its cells.
    dense : Cells
        Cells of the dense group in the same run.
    measurement : Measurement or None
        Its placements; None in a run without place and route, and of a row that is not placed.
    """

    row: Row
    cells: Cells
    dense: Cells
    measurement: Measurement | None

    @property
    def share(self) -> float | None:
        """LUTs over those of the dense group; None for a piece with another number of lanes."""
        return self.cells.luts / self.dense.luts if self.row.lanes == DENSE.lanes else None

    @property
    def mhz(self) -> float | None:
        """Median clock frequency."""
        return self.measurement.fmax_mhz if self.measurement else None

    @property
    def missed(self) -> list[str]:
        """What of the goal is not reached, in words; what was not measured is left out."""
        goal, missed = self.row.goal, []
        if goal.share is not None and self.share is not None and self.share > goal.share:
            missed.append(f"{self.share:.3f} of dense")
        if goal.luts is not None and self.cells.luts > goal.luts:
            missed.append(f"{self.cells.luts} LUTs")
        if goal.luts_per_lane is not None and self.cells.luts > goal.luts_per_lane * self.row.lanes:
            missed.append(f"{self.cells.luts / self.row.lanes:.1f} LUTs a lane")
        if goal.dsp is not None and self.cells.dsp > goal.dsp:
            missed.append(f"{self.cells.dsp} DSP")
        if goal.mhz is not None and self.mhz is not None and self.mhz < goal.mhz:
            missed.append(f"{self.mhz:.1f} MHz")
        return missed

    def to_row(self) -> dict[str, Any]:
        """Line of the table."""
        goal = str(self.row.goal)
        reached = f"no: {', '.join(self.missed)}" if self.missed else "yes" if goal else None
        return {
            "piece": self.row.name,
            "leaves": self.row.leaves,
            "LUTs": self.cells.luts,
            "DSP": self.cells.dsp,
            "FF": self.cells.ff,
            "MHz": None if self.mhz is None else round(self.mhz, 1),
            "of dense": None if self.share is None else round(self.share, 3),
            "a lane": round(self.cells.luts / self.row.lanes, 1) if self.row.lanes else None,
            "goal": goal or None,
            "reached": reached,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return a mapping for JSON."""
        return {
            "piece": self.row.name,
            "leaves": self.row.leaves,
            "lanes": self.row.lanes,
            "cells": dataclasses.asdict(self.cells),
            "share_of_dense": None if self.share is None else round(self.share, 4),
            "goal": dataclasses.asdict(self.row.goal),
            "missed": self.missed,
            "measurement": self.measurement.to_dict() if self.measurement else None,
        }


def area(
    flow: Flow, *, seeds: Sequence[int] = (1, 2, 3, 4, 5), place: bool = True, rows: Sequence[Row] = ROWS
) -> list[Outcome]:
    """Measure the pieces.

    Parameters
    ----------
    flow : Flow
        Tools.
    seeds : sequence of int
        Seeds of the placer.
    place : bool
        Whether to place and route, without which there are no clocks.
    rows : sequence of Row
        What to measure; the dense group is among them.

    Raises
    ------
    ValueError
        If the dense group is not among `rows`.
    ToolError
        If a tool fails.
    """
    if DENSE not in rows:
        raise ValueError("rows must hold the dense group, which every share is taken of")
    designs = [(f"{row.name}, {row.leaves} leaves", row.make, LeafTarget(row.leaves)) for row in rows]
    measurements: list[Measurement | None] = [None] * len(rows)
    cells = flow.count(designs, ECP5_85F)
    if place:
        chosen = [number for number, row in enumerate(rows) if row.placed]
        found = flow.measure([designs[number] for number in chosen], ECP5_85F, seeds=seeds, mode="out of context")
        for number, measurement in zip(chosen, found, strict=True):
            measurements[number] = measurement
    dense = cells[list(rows).index(DENSE)]
    return [
        Outcome(row=row, cells=own, dense=dense, measurement=measurement)
        for row, own, measurement in zip(rows, cells, measurements, strict=True)
    ]
