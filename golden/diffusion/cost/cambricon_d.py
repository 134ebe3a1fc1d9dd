"""The published machine: its figures, and what the cost model predicts for them."""

import dataclasses
from collections.abc import Sequence

from golden.diffusion.cost.layer import Load
from golden.diffusion.cost.predict import multipliers, predict
from golden.diffusion.cost.rates import Rates
from golden.parameters import PRESETS, Parameters

PAPER = "Cambricon-D, ISCA 2024, doi 10.1109/ISCA59077.2024.00070"
"""Where `CAMBRICON_D` is from."""

CAMBRICON_D: dict[str, dict[str, tuple[float, float | None]]] = {
    "guided-diffusion-128": {
        "Cambricon-D": (1.46, 1.12),
        "its PE, Diffy's dataflow": (0.72, 3.27),
        "its dataflow, int5 PE without outliers": (1.33, None),
        "its outliers on an asynchronous array": (1.00, None),
    },
    "guided-diffusion-256": {
        "Cambricon-D": (2.02, 1.32),
        "its PE, Diffy's dataflow": (0.77, 5.78),
        "its dataflow, int5 PE without outliers": (1.65, None),
        "its outliers on an asynchronous array": (1.70, None),
    },
    "guided-diffusion-512": {
        "Cambricon-D": (2.38, 2.04),
        "its PE, Diffy's dataflow": (0.60, 11.58),
        "its dataflow, int5 PE without outliers": (1.73, None),
        "its outliers on an asynchronous array": (1.13, None),
    },
    "sd15": {
        "Cambricon-D": (2.38, 1.48),
        "its PE, Diffy's dataflow": (1.03, 6.83),
        "its dataflow, int5 PE without outliers": (1.85, None),
        "its outliers on an asynchronous array": (2.09, None),
    },
}
"""Published: speed-up over the dense machine of the same arithmetic cost, and off-chip traffic relative to it, None
where it is not given. The last two are its own ablations of the PE.

The fourth network is Stable Diffusion 1.4 at 512 x 512 pixels, whose shape is that of ``sd15``.
"""


BANDWIDTH = 1500.0
"""Bytes off chip in a clock of the published machine: 1.5 TB/s at 1 GHz; its array is that of the preset ``paper``."""


def against_dense(
    table: Sequence[Load],
    flow: str,
    rates: Rates,
    parameters: Parameters | None = None,
) -> tuple[float, float]:
    """Predicted counterpart of a row of `CAMBRICON_D`: speed-up over the dense machine, and traffic relative to it.

    In every layer the array or the memory is the slower. The dense machine has as many FP16 multipliers as cost as much
    as those of a published group, and keeps activations on chip: it moves weights alone. (With that assumption Diffy's
    dataflow moves 2.8 to 11 times as much, as published.) The others move weights and what crosses the link. Products
    of two activations are left out: published, they take 0.9 % of the time.

    Parameters
    ----------
    table : sequence of Load
        The network.
    flow, rates :
        As for `predict`.
    parameters : Parameters
        Of a group, the default is the published one. There are always 128 x 128 of the published cost: groups of
        another shape are counted as many as cost as much.
    """
    paper = PRESETS["paper"]
    own_shape = dataclasses.replace(parameters or paper, rows=paper.rows, columns=paper.columns)
    fair = multipliers(own_shape) / multipliers(paper)
    times, moved = [0.0, 0.0], [0.0, 0.0]
    for load in table:
        if not load.weights:
            continue
        dense, own = predict(load, "dense", Rates(), paper), predict(load, flow, rates, own_shape)
        for side, cycles, size in ((0, dense.cycles, dense.weights), (1, own.cycles * fair, own.weights + own.link)):
            times[side] += max(cycles, size / BANDWIDTH)
            moved[side] += size
    return times[0] / times[1], moved[1] / moved[0]
