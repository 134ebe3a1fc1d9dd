"""Orders and fronts of rows whose figures are easy."""

import pytest

from golden.diffusion.cost.ranking import merits, ranked

pytestmark = pytest.mark.golden


def row(variant, psnr, link, area, network="unet", steps=50):
    return {
        "variant": variant,
        "network": network,
        "steps": steps,
        "psnr_mean": psnr,
        "link_bits": link,
        "area_cycles": area,
    }


ROWS = (
    row("raw-int8-tensor", 50.0, 24.0, 100.0),
    row("closed", 60.0, 12.0, 150.0),
    row("worse", 59.0, 12.0, 150.0),
    row("open", 12.0, 4.0, 300.0),
    row("unknown", 70.0, 2.0, None),
    row("closed", 40.0, 16.0, 80.0, steps=20),
)


def test_figures():
    base, closed, worse, opened, unknown, other = merits(ROWS)
    assert closed["db_per_byte"] == 40 and closed["db_per_area"] == 0.4
    assert (closed["db_over"], closed["link_over"], closed["area_over"]) == (10, 0.5, 1.5)
    assert (base["db_over"], base["link_over"], base["area_over"]) == (0, 1, 1)
    assert [one["front"] for one in (base, closed, worse, opened)] == [True, True, False, True]
    assert unknown["front"] is None and unknown["db_per_area"] is None and unknown["db_per_byte"] == 280
    assert other["front"] and other["db_over"] is None and other["area_over"] is None  # no baseline at 20 steps


def test_order():
    found = merits(ROWS)
    assert [one["variant"] for one in ranked(found, "db_per_area")] == [
        *("closed", "raw-int8-tensor", "closed", "worse", "open", "unknown")
    ]
    assert [one["steps"] for one in ranked(found, "db_per_byte")] == [20, 50, 50, 50, 50, 50]
