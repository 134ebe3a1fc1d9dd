"""Rules that arguments of this package share."""

import numbers
from typing import Any

import numpy as np


def check_integer(name: str, value: Any, low: int = 1) -> None:
    """Refuse what is no integer, or one below `low`.

    Raises
    ------
    ValueError
        Naming the argument, the rule and the value.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
        rule = "a positive integer" if low == 1 else f"an integer of at least {low}"
        raise ValueError(f"{name} must be {rule}, not {value!r}")


def check_finite(name: str, value: Any) -> None:
    """Refuse what is no finite number.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, the rule and the value.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, not {value!r}")
    if not np.isfinite(value):
        raise ValueError(f"{name} must be finite, not {value!r}")
