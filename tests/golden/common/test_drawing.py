"""Pictures: colours that stay, legends and labels that cover nothing, steps that are whole."""

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib import pyplot
from matplotlib.text import Annotation, Text
from PIL import Image

from golden.__main__ import main
from golden.common import drawing
from golden.diffusion.differential.method import METHODS

pytestmark = pytest.mark.golden

PICTURES = (
    "compare --steps 3 --count 2 --network unet,dit --method paper,closed-int3 --plot p.png",
    "compare --steps 2 --count 1 --network unet,dit --method paper,closed-int3 --pareto p.png",
    "stats --steps 2 --plot p.png",
    "traffic --network unet,sd15 --input-bits 2.7 --output-bits 8 --zero-groups 0 --plot p.png",
    "sweep --network unet --steps 2 --count 1 --variant paper;raw-int8 --plot p.png",
    "stream --video turn --frames 6 --method closed-int3 --plot p.png",
    "sample --steps 1 --count 20 --method dense,raw-int8 --plot p.png",
)


@pytest.fixture
def figures(monkeypatch):
    """Figures that are drawn, with everything in its place, before they are closed."""
    kept, close = [], pyplot.close

    def keep(figure):
        figure.draw_without_rendering()
        kept.append(figure)

    monkeypatch.setattr(pyplot, "close", keep)
    yield kept
    for figure in kept:
        close(figure)


@pytest.mark.parametrize("line", PICTURES)
def test_legends_cover_no_panel(tmp_path, monkeypatch, figures, line):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, line.split())
    assert result.exit_code == 0, result.output
    (figure,) = figures
    panels = [panel.get_window_extent() for panel in figure.axes]
    for legend in filter(None, (panel.get_legend() for panel in figure.axes)):
        titles = [text for panel in figure.axes for text in (panel.title, panel.xaxis.label) if text.get_text()]
        taken = [*panels, *(text.get_window_extent() for text in titles)]
        assert not any(legend.get_window_extent().overlaps(box) for box in taken)
    ticks = [panel.get_xticks() for panel in figure.axes if panel.get_xlabel() == "step"]
    assert all(float(tick).is_integer() for found in ticks for tick in found)


def test_samples_carry_their_labels(tmp_path, monkeypatch, figures):
    monkeypatch.chdir(tmp_path)
    arguments = "sample --steps 1 --count 4 --labels 3,1,4 --method dense,raw-int8-tensor --plot p.png"
    assert CliRunner().invoke(main, arguments.split()).exit_code == 0
    above = figures[0].axes[0]
    assert [label.get_text() for label in above.get_xticklabels()] == ["3", "1", "4", "3"]
    assert [panel.get_ylabel() for panel in figures[0].axes] == ["dense", "raw-int8-tensor"]
    dark = (np.asarray(Image.open("p.png").convert("L")) < 250).any(axis=0)
    assert not dark[:3].any() and not dark[-3:].any()  # no name is cut off


def test_a_method_has_one_colour_in_every_picture():
    named = drawing.colours(METHODS)
    assert len(set(named.values())) == len(METHODS)
    assert all(drawing.colours(["other", name])[name] == colour for name, colour in named.items())
    same = drawing.colours(["closed-int3", "closed-int3: m = 1", "closed-int3, predicted"])
    assert len(set(same.values())) == 1
    others = drawing.colours(f"method{i}" for i in range(8))
    assert len({*others.values(), *named.values()}) == 8 + len(METHODS)


def test_labels_cover_nothing():
    made, panel = pyplot.subplots()
    points = [*((10 + 0.01 * number, 50) for number in range(8)), (0, 0), (20, 60), (20, 0)]
    panel.plot(*zip(*points, strict=True), "o")
    made.draw_without_rendering()
    drawing.annotate(panel, points, [f"method number {number}" for number in range(len(points))])
    labels = [label for label in panel.texts if isinstance(label, Annotation)]
    made.draw_without_rendering()
    boxes = [Text.get_window_extent(label) for label in labels]
    pyplot.close(made)
    frame = panel.get_window_extent()
    assert len(boxes) == len(points)
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1 for box in boxes)
    assert not any(one.overlaps(other) for number, one in enumerate(boxes) for other in boxes[:number])
