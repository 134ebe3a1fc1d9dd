"""How every picture of Driftless looks: colours by what they stand for, legends beside the curves, files complete.

Matplotlib is imported when a picture is drawn; commands without one start faster.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from golden.common import files

METHODS = {
    "dense": "#222222",
    "paper": "#d55e00",
    "closed-int3": "#0072b2",
    "closed-int4": "#009e73",
    "raw-int8": "#e69f00",
    "raw-int8-tensor": "#8c510a",
    "dense FP16": "#222222",
    "dense INT8": "#999999",
    "Diffy": "#cc79a7",
    "diffy": "#cc79a7",
    "Cambricon-D": "#d55e00",
}
"""Colour of each method and machine, in every picture; most are of Okabe and Ito's palette, which the colour-blind tell
apart."""

_OTHERS = ("#56b4e9", "#6a3d9a", "#b2df8a", "#f0a3b5", "#4d4d9f", "#7f7f00", "#17becf", "#a6a6a6", "#5c4033", "#bcbd22")

DIGITS = {"zero": "#c9d6df", "inlier": "#52616b", "outlier": "#d1495b"}
"""Colour of each kind of digit."""

SIDES = {"inputs": "#0072b2", "outputs": "#d55e00"}
"""Colour of what products read, and of what leaves them."""


def colours(names: Iterable[str]) -> dict[str, str]:
    """Colour of each name of a picture: that of its method, or one of the others, in order of appearance.

    What follows a comma or a colon is no part of a method's name: ``closed-int3: m = 1`` looks like ``closed-int3``.
    """
    found: dict[str, str] = {}
    others = itertools.cycle(_OTHERS)
    unknown: dict[str, str] = {}
    for name in dict.fromkeys(names):
        method = name.split(",")[0].split(":")[0]
        if method not in METHODS and method not in unknown:
            unknown[method] = next(others)
        found[name] = METHODS.get(method) or unknown[method]
    return found


@contextmanager
def figure(path: Path, rows: int = 1, columns: int = 1, **settings: Any) -> Iterator[tuple[Any, Any]]:
    """Matplotlib's figure and its axes (always an array of rows and columns), saved as PNG at the end."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    made, axes = pyplot.subplots(rows, columns, layout="constrained", squeeze=False, **settings)
    try:
        yield made, axes
        with files.complete(path) as partial:
            made.savefig(partial, dpi=110, format="png")
    finally:
        pyplot.close(made)


def legend(panel: Any, columns: int = 3) -> None:
    """A legend half an inch below a panel, however tall that is: it covers no curve, nor the name of the axis."""
    from matplotlib.transforms import ScaledTranslation

    below = panel.transAxes + ScaledTranslation(0, -0.5, panel.figure.dpi_scale_trans)
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "bbox_transform": below, "frameon": False}
    panel.legend(fontsize="small", ncols=columns, **place)


def over_steps(*panels: Any) -> None:
    """Name the horizontal axis of panels and put ticks at whole steps."""
    for panel in panels:
        panel.set_xlabel("step")
        panel.xaxis.get_major_locator().set_params(integer=True)


def images(panel: Any, sheet: np.ndarray) -> None:
    """A sheet of images, without axes."""
    panel.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    panel.set(xticks=[], yticks=[], frame_on=False)
    panel.tick_params(length=0)


def annotate(
    panel: Any,
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    lines: Sequence[Sequence[tuple[float, float]]] = (),
) -> None:
    """Write a text beside each point of a panel where it covers no other text, point or line, and no edge.

    Where nothing is free, what covers the least is taken.

    Parameters
    ----------
    panel : matplotlib axes
        Drawn once, so that its place is known.
    points : sequence of (float, float)
        In data coordinates.
    texts : sequence of str
        One for each point.
    lines : sequence of sequence of (float, float)
        Corners of lines to leave free, in data coordinates.
    """
    from matplotlib.text import Text

    renderer, frame = panel.figure.canvas.get_renderer(), panel.get_window_extent()
    taken = [_around(place, 4) for place in _pixels(panel, points)]
    for corners in (_pixels(panel, line) for line in lines):
        for start, end in itertools.pairwise(corners):
            taken += [_around(start + share * (end - start), 1) for share in np.linspace(0, 1, 40)]
    for point, text in sorted(zip(points, texts, strict=True), key=lambda pair: -pair[0][1]):
        best: tuple[float, Any, Any] | None = None
        for place in _PLACES:
            label = panel.annotate(text, point, textcoords="offset points", fontsize="x-small", **place)
            label.update_positions(renderer)
            box = Text.get_window_extent(label, renderer)  # without its pointer
            sides = (frame.x0 - box.x0, box.x1 - frame.x1, frame.y0 - box.y0, box.y1 - frame.y1)
            cost = 1000 * sum(max(0, side) for side in sides) + sum(_shared(box, other) for other in taken)
            if best is not None and cost >= best[0]:
                label.remove()
                continue
            if best is not None:
                best[1].remove()
            best = cost, label, box
            if not cost:
                break
        taken.append(best[2])


def _place(distance: float, degrees: float) -> dict[str, Any]:
    """Arguments of matplotlib's `annotate` for a text so many points from its point."""
    right, up = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    across = "left" if right > 0.3 else "right" if right < -0.3 else "center"
    upright = "bottom" if up > 0.3 else "top" if up < -0.3 else "center"
    pointer = {"arrowstyle": "-", "linewidth": 0.5, "color": "0.6"} if distance > 8 else None
    return {"xytext": (distance * right, distance * up), "ha": across, "va": upright, "arrowprops": pointer}


_PLACES = [
    _place(distance, degrees)
    for distance in (6, 14, 24, 36, 50, 66, 84)
    for degrees in (0, 180, 90, 270, 30, 330, 150, 210, 60, 300, 120, 240)
]
"""Where a text may stand from its point, the best place first."""


def _pixels(panel: Any, points: Sequence[tuple[float, float]]) -> np.ndarray:
    return panel.transData.transform(np.reshape(np.asarray(points, float), (-1, 2)))


def _around(place: np.ndarray, radius: float) -> Any:
    from matplotlib.transforms import Bbox

    return Bbox([place - radius, place + radius])


def _shared(one: Any, other: Any) -> float:
    """Area that two boxes share, in square pixels."""
    width, height = min(one.x1, other.x1) - max(one.x0, other.x0), min(one.y1, other.y1) - max(one.y0, other.y0)
    return width * height if width > 0 and height > 0 else 0.0
