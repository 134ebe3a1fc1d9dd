"""Closed loop near memory, in fixed point: the true activation, and its delta against what the consumers hold.

Words: ``Y`` is the raw output of the layer before, ``x = f(norm(Y))`` the true input of the layer after, ``Xhat`` the
sum of everything its consumers have been sent. Values are integers; each tensor has a unit ``2^s``, of any size.
Source: ``docs/closed-loop.md``, section 12.
"""

import dataclasses
from typing import Any

import numpy as np

from golden import formats
from golden.common import names
from golden.parameters import Parameters
from golden.units import activation_tables
from golden.units.delta_group import DeltaGroups
from golden.units.near_memory_engine import poison_code, poisoned_state, state_magnitude_max
from golden.units.state_quantizer import quantise_state

FUNCTIONS = ("identity", "relu", *activation_tables.FUNCTIONS)
"""Names of the functions of an emission."""


def functions(name: str, z: Any, unit: int, result: int) -> np.ndarray:
    """``RNE(f(z 2^unit) / 2^result)``, not clamped (numerics, 12.8).

    Raises
    ------
    ValueError
        If there is no such function.
    """
    names.lookup("Activation", name, dict.fromkeys(FUNCTIONS))
    if name in activation_tables.FUNCTIONS:
        return activation_tables.apply(name, z, unit, result)
    z = np.asarray(z, np.int64)
    return formats.round_shift(np.maximum(z, 0) if name == "relu" else z, result - unit)


def activation_max(parameters: Parameters) -> int:
    """Largest magnitude of x, ``2^(w-2) - 1``: one bit narrower than its state, so that Xhat never clamps."""
    return 2 ** (parameters.state_width - 2) - 1


def accumulate(
    state: Any, delta: Any, parameters: Parameters, *, bias: Any = 0, poisoned: Any = False
) -> tuple[np.ndarray, dict[str, bool]]:
    """``Y = clamp(Y + delta + bias)`` (numerics, 12.2).

    Parameters
    ----------
    state : int array
        Integers of `state_width` bits; the most negative one is poison.
    delta : int array of the same shape
        In units of the state.
    parameters : Parameters
        Gives the width.
    bias : int, or int array
        Of `state_width` + 1 bits: the difference of two biases.
    poisoned : bool, or bool array
        Where the delta is poisoned.

    Raises
    ------
    ValueError
        If a state or a bias has too many bits.
    """
    width = parameters.state_width
    state, delta, bias = (np.asarray(part, np.int64) for part in (state, delta, bias))
    for name, part, bits in (("state", state, width), ("bias", bias, width + 1)):
        if part.size and not -(2 ** (bits - 1)) <= part.min() <= part.max() < 2 ** (bits - 1):
            raise ValueError(f"{name} must be signed integers of {bits} bits, not {part.min()}..{part.max()}")
    lost = poisoned_state(state, parameters) | poisoned
    total, overflow = formats.clamp(np.where(lost, 0, state + delta + bias), state_magnitude_max(parameters))
    return np.where(lost, poison_code(parameters), total), {"overflow": overflow, "poisoned": bool(np.any(poisoned))}


@dataclasses.dataclass(frozen=True, eq=False)
class Aligned:
    """What readers hold of a state, as weights (numerics, 12.13).

    Members
    -------
    weights : int64 (..., n)
        ``RNE(v / 2^e)``, below ``2^(F+1)`` in magnitude.
    exponent : int64 (...)
        e, 0 or more.
    poisoned : bool (...)
        Groups with a poisoned element; their weights are 0.
    """

    weights: np.ndarray
    exponent: np.ndarray
    poisoned: np.ndarray


def align(values: Any, parameters: Parameters) -> Aligned:
    """Align groups of n state elements: the least exponent at which each rounds below ``2^(F+1)``.

    Parameters
    ----------
    values : int (..., n)
        State.
    parameters : Parameters
        Gives F and the width.
    """
    values = np.asarray(values, np.int64)
    poisoned = (values == poison_code(parameters)).any(axis=-1)
    values = np.where(poisoned[..., None], 0, values)
    largest = np.abs(values).max(axis=-1, initial=0)
    limit = 2 ** (parameters.fraction_bits + 1)
    exponent = np.maximum(formats.bit_length(largest) - parameters.fraction_bits - 1, 0)
    exponent = exponent + (formats.round_shift(largest, exponent) >= limit)
    return Aligned(formats.round_shift(values, exponent[..., None]), exponent, poisoned)


@dataclasses.dataclass(frozen=True, eq=False)
class Emitted:
    """What one step sends to the consumers.

    Members
    -------
    groups : DeltaGroups
        Vector by vector, its passes in order.
    vector : int64 (G,)
        Vector of each group.
    last : bool (G,)
        Set on the last group of each vector.
    xhat : int64 (vectors, n)
        What the consumers hold now.
    status : dict
        Sticky ``poisoned``; Xhat never clamps.
    """

    groups: DeltaGroups
    vector: np.ndarray
    last: np.ndarray
    xhat: np.ndarray
    status: dict[str, bool]


def emit(
    x: Any, xhat: Any, parameters: Parameters, passes: int = 1, *, start: bool = False, exact: bool = False
) -> Emitted:
    """Send what the consumers lack (numerics, 12.10).

    Parameters
    ----------
    x, xhat : int (vectors, n)
        The true activation, at most `activation_max` in magnitude, and what the consumers hold; poison as in a state.
    parameters : Parameters
        Of the machine.
    passes : int
        Of the delta.
    start : bool
        The consumers start anew: Xhat counts as 0 and not poisoned.
    exact : bool
        Xhat becomes x itself, whatever was sent.
    """
    x = np.asarray(x, np.int64)
    held = np.zeros_like(x) if start else np.asarray(xhat, np.int64)
    bad = (poisoned_state(x, parameters) | poisoned_state(held, parameters)).any(axis=1)
    sent = quantise_state(np.where(bad[:, None], 0, x - held), parameters, passes, poisoned=bad)
    total = np.where(bad[:, None], 0, x if exact else held)
    if not exact:
        np.add.at(total, sent.vector, sent.groups.fixed())
    xhat = np.where(bad[:, None], poison_code(parameters), total)
    return Emitted(sent.groups, sent.vector, sent.last, xhat, {"poisoned": bool(bad.any())})
