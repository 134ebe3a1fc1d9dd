"""What a method gives for what it costs: rows with PSNR, bits on the link and area times clocks, put in an order.

A quotient of decibels and bytes favours whatever sends little, however bad its images are, since decibels are a
logarithm: half the bytes outweigh twice the error by far. So every row also says how far it is from a baseline in
each figure by itself, and whether it is on the *front*: no other row of its network and steps has at least its PSNR for
no more bits and no more area, one of them better.
"""

from collections.abc import Mapping, Sequence
from typing import Any

BASELINE = "raw-int8-tensor"
"""INT8 as it is usually meant: what the others are compared with."""

KEYS = ("db_per_byte", "db_per_area")
"""Figures that `ranked` sorts by."""

_COSTS = ("link_bits", "area_cycles")


def merits(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with what their PSNR costs.

    Parameters
    ----------
    rows : sequence of mapping
        With ``variant`` or ``method``, ``network``, ``steps``, ``psnr_mean``, ``link_bits`` and ``area_cycles``; what
        is not known is None.

    Returns
    -------
    list of dict
        The rows, and ``db_per_byte``: PSNR over bytes on the link for a boundary element (in and out together);
        ``db_per_area``: PSNR over LUTs times clocks of a multiply-accumulate; against `BASELINE` ``db_over`` (a
        difference, dB), ``link_over`` and ``area_over`` (quotients), None without it; ``front``.
    """
    found = []
    for row in rows:
        same = [other for other in rows if (other["network"], other["steps"]) == (row["network"], row["steps"])]
        base: Mapping[str, Any] = next((other for other in same if _name(other) == BASELINE), {})
        psnr, link, area = row["psnr_mean"], row["link_bits"], row["area_cycles"]
        known = base.get("psnr_mean")
        found.append(
            {
                **row,
                "db_per_byte": _over(psnr, None if link is None else link / 8),
                "db_per_area": _over(psnr, area),
                "db_over": None if psnr is None or known is None else psnr - known,
                "link_over": _over(link, base.get("link_bits")),
                "area_over": _over(area, base.get("area_cycles")),
                "front": None if _point(row) is None else not any(_beats(other, row) for other in same),
            }
        )
    return found


def ranked(rows: Sequence[Mapping[str, Any]], key: str) -> list[Mapping[str, Any]]:
    """Rows of `merits`, the best first for each network and number of steps; those without the figure come last."""
    return sorted(rows, key=lambda row: (row["network"], row["steps"], row[key] is None, -(row[key] or 0)))


def _name(row: Mapping[str, Any]) -> str:
    return row["variant"] if "variant" in row else row["method"]


def _over(value: float | None, by: float | None) -> float | None:
    return value / by if value is not None and by else None


def _point(row: Mapping[str, Any]) -> tuple[float, ...] | None:
    """PSNR and costs, more of each the better; None if one is not known."""
    values = (row["psnr_mean"], *(row[key] for key in _COSTS))
    return None if None in values else (values[0], -values[1], -values[2])


def _beats(other: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    one, two = _point(other), _point(row)
    return one is not None and two is not None and one != two and all(a >= b for a, b in zip(one, two, strict=True))
