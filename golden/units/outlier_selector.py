"""Leftmost-outlier selection. Source: ``docs/numerics.md``, section 4."""

import dataclasses
from typing import Any

import numpy as np

from golden import formats
from golden.parameters import Parameters


@dataclasses.dataclass(frozen=True, eq=False)
class Selection:
    """What the selector found for V vectors.

    Members
    -------
    valid : bool (V, m)
        Which slots are used; they fill from slot 0.
    lane : uint8 (V, m)
        Lane of each slot, ascending; 0 if unused.
    value : uint16 (V, m)
        The lane's value; 0 if unused.
    rest : bool (V, n)
        The flags that found no slot.
    """

    valid: np.ndarray
    lane: np.ndarray
    value: np.ndarray
    rest: np.ndarray


def outlier_selector(flags: Any, values: Any, parameters: Parameters) -> Selection:
    """Pick the first m lanes with their flag set, lane 0 first.

    Parameters
    ----------
    flags : bool (V, n)
        Lanes to choose from.
    values : uint16 (V, n)
        FP16 patterns.
    parameters : Parameters
        Gives n and m.

    Raises
    ------
    TypeError, ValueError
        If an array is of another type, or the shapes are not (V, n).
    """
    flags, values = formats.flags("Flags", flags), formats.patterns("Values", values)
    if flags.shape != values.shape or flags.ndim != 2 or flags.shape[1] != parameters.lanes:
        raise ValueError(
            f"Flags and values must have the shape (vectors, {parameters.lanes}), not {flags.shape} and {values.shape}"
        )
    rank = np.cumsum(flags, axis=1, dtype=np.int16) - 1
    chosen = flags & (rank < parameters.outliers)
    vectors, lanes = np.nonzero(chosen)
    slots = rank[vectors, lanes]
    shape = (len(flags), parameters.outliers)
    valid, lane, value = np.zeros(shape, np.bool_), np.zeros(shape, np.uint8), np.zeros(shape, np.uint16)
    valid[vectors, slots] = True
    lane[vectors, slots] = lanes
    value[vectors, slots] = values[vectors, lanes]
    return Selection(valid, lane, value, flags & ~chosen)
