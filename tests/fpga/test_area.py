"""The table of areas: goals, shares and what counts as reached."""

import functools

import pytest

from fpga.area import DENSE, ROWS, Goal, Outcome, Row, area
from fpga.flow import Flow, Measurement, Placement
from fpga.mapped import Cells
from golden.diffusion.cost import areas

pytestmark = pytest.mark.synth


def _outcome(goal, cells, mhz=None, lanes=16):
    measurement = None
    if mhz is not None:
        placements = (Placement(1, mhz, {}, ()),)
        measurement = Measurement(
            name="x", part="p", mode="out of context", cells=cells, harness=Cells(), placements=placements
        )
    row = Row(name="x", make=functools.partial(object), goal=goal, lanes=lanes)
    return Outcome(row=row, cells=cells, dense=Cells(luts=5000), measurement=measurement)


@pytest.mark.parametrize(
    ("goal", "cells", "mhz", "missed"),
    [
        (Goal(share=0.20, dsp=0, mhz=180), Cells(luts=1000), 180.0, []),
        (Goal(share=0.20, dsp=0, mhz=180), Cells(luts=1001, dsp=1), 179.9, ["0.200 of dense", "1 DSP", "179.9 MHz"]),
        (Goal(luts=376, dsp=1), Cells(luts=377, dsp=1), 1.0, ["377 LUTs"]),
        (Goal(luts_per_lane=46), Cells(luts=736), None, []),
        (Goal(luts_per_lane=46), Cells(luts=737), None, ["46.1 LUTs a lane"]),
        (Goal(mhz=150), Cells(luts=9999), None, []),
    ],
)
def test_goals(goal, cells, mhz, missed):
    outcome = _outcome(goal, cells, mhz)
    assert outcome.missed == missed
    line = outcome.to_row()
    assert line["reached"] == ("no: " + ", ".join(missed) if missed else "yes")
    assert line["of dense"] == round(cells.luts / 5000, 3)
    assert outcome.to_dict()["missed"] == missed


def test_only_as_many_lanes_are_compared():
    line = _outcome(Goal(luts=10), Cells(luts=10), lanes=32).to_row()
    assert line["of dense"] is None and line["reached"] == "yes" and line["a lane"] == 0.3


def test_goals_in_words():
    assert str(Goal()) == "" and _outcome(Goal(), Cells(luts=10)).to_row()["reached"] is None
    assert str(Goal(share=0.29, dsp=2, mhz=140)) == "<= 0.29 of dense, <= 2 DSP, >= 140 MHz"
    assert str(Goal(luts=376, luts_per_lane=46, dsp=0)) == "<= 376 LUTs, <= 46 LUTs a lane, no DSP"


def test_the_dense_group_is_needed(tmp_path):
    with pytest.raises(ValueError, match=r"^rows must hold the dense group, which every share is taken of$"):
        area(Flow(tmp_path), rows=ROWS[:1])


def test_every_piece_can_be_made():
    for row in ROWS:
        piece = row.make()
        piece._MustUse__used = True  # only looked at
        assert hasattr(piece, "elaborate"), row.name
        assert " at 0x" not in repr(row.make), row.name  # which the cache knows it by
    assert len({(repr(row.make), row.leaves) for row in ROWS}) == len(ROWS)
    assert DENSE in ROWS


def test_shipped_figures_are_of_these_pieces():
    """No figure for a piece that is gone, and one for each that is there."""
    names = {(row.name, row.leaves, row.lanes) for row in ROWS}
    assert {(row["piece"], row["leaves"], row["lanes"]) for row in areas.read()} == names


@pytest.mark.slow
def test_cell_counts_of_every_piece(tmp_path):
    outcomes = area(Flow(tmp_path), place=False)
    for outcome in outcomes:
        assert outcome.missed == [], (outcome.row.name, outcome.row.leaves)
        assert outcome.measurement is None and outcome.mhz is None
