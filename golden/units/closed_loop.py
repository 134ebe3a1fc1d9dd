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
from golden.units.joint_stream import JointGroups, JointStream
from golden.units.near_memory_engine import poison_code, poisoned_state, state_magnitude_max
from golden.units.norm import UNIT, Affine, RealNorm, affine, coefficients, normalise, sums, variance_floor
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
    state: Any, delta: Any, parameters: Parameters, *, bias: Any = 0, start: Any = False, poisoned: Any = False
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
    start, poisoned : bool, or bool array
        Where the old state counts as 0 and not poisoned; where the delta is poisoned.

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
    old = np.where(start, 0, state)
    lost = (old == poison_code(parameters)) | poisoned
    total, overflow = formats.clamp(np.where(lost, 0, old + delta + bias), state_magnitude_max(parameters))
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
class Norm(RealNorm):
    """A normalisation over sets of elements of a state in fixed point; x of padding is 0.

    Members
    -------
    unit : int
        u counts units of ``2^unit``.
    """

    dtype = np.float64

    unit: int = UNIT

    def apply(
        self, y: np.ndarray, poisoned: np.ndarray, unit: int, result: int, parameters: Parameters
    ) -> tuple[np.ndarray, np.ndarray, bool]:
        """z of a state of unit ``2^unit`` in units of ``2^result``, where it is poisoned, and whether one was clamped.

        A poisoned element poisons its whole set.
        """
        sets = self.sets
        used = sets >= 0
        count = int(sets.max(initial=-1)) + 1
        y = np.where(poisoned, 0, y)
        totals, squares = sums(y, sets, count)
        sizes = np.bincount(sets[used], minlength=count)
        mean, root, exponent = (np.zeros(count, np.int64) for _ in range(3))
        for size in np.unique(sizes[sizes > 0]).tolist():
            rows = sizes == size
            floor = variance_floor(self.epsilon, size, unit)
            found = coefficients(totals[rows], squares[rows], size, floor, unit=self.unit, centred=self.centred)
            mean[rows], root[rows], exponent[rows] = found.mean, found.root, found.exponent
        bad = np.zeros(count, np.bool_)
        bad[sets[used & poisoned]] = True
        which = np.where(used, sets, 0)
        u, beyond = normalise(np.where(used, y, 0), mean[which], root[which], exponent[which])
        tables = Affine.of(self.gamma, self.beta, result, source=self.unit, width=parameters.state_width)
        z, clamped = affine(np.where(used, u, 0), tables, state_magnitude_max(parameters))
        return np.where(used, z, 0), used & bad[which], beyond or clamped


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


class ClosedLoop:
    """State of one tensor near memory and one emission of it.

    Parameters
    ----------
    parameters : Parameters
        Of the machine; the state must be fixed-point and the exponent policy ``group``.
    vectors : int
        Vectors of the tensor.
    unit : int
        s of Y: it counts units of ``2^unit``.
    result : int
        s of x and Xhat; the default is that of Y.
    middle : int
        s of z, what the function reads; the default is that of x with a norm, that of Y without one.
    function : str
        ``"identity"``, ``"relu"``, ``"silu"``, ``"gelu"`` or ``"erf_gelu"``.
    norm : Norm, optional
        Comes before the function.

    Members
    -------
    y, xhat : int64 (vectors, n)
        The state, 0 at first.

    Raises
    ------
    ValueError
        If the state is not fixed-point, the function unknown, or the norm's sets have another shape.
    """

    def __init__(
        self,
        parameters: Parameters,
        vectors: int,
        *,
        unit: int,
        result: int | None = None,
        middle: int | None = None,
        function: str = "identity",
        norm: Norm | None = None,
    ):
        if parameters.state_format != "fixed":
            raise ValueError(f"state_format must be fixed in the closed loop, not {parameters.state_format}")
        if parameters.exponent_policy != "group" and not parameters.masks:
            raise ValueError(f"exponent_policy must be group in the closed loop, not {parameters.exponent_policy}")
        names.lookup("Activation", function, dict.fromkeys(FUNCTIONS))
        shape = (vectors, parameters.lanes)
        if norm is not None and norm.sets.shape != shape:
            raise ValueError(f"sets of the norm must have the shape {shape}, not {norm.sets.shape}")
        self._parameters = parameters
        self._unit = unit
        self._result = unit if result is None else result
        self._middle = middle if middle is not None else self._result if norm is not None else unit
        self._function = function
        self._norm = norm
        self.y = np.zeros(shape, np.int64)
        self.xhat = np.zeros(shape, np.int64)

    def update(
        self, stream: JointStream, groups: JointGroups, *, bias: Any = 0, start: bool = False
    ) -> dict[str, bool]:
        """Add output deltas, a group for each vector, to Y: sticky status."""
        poisoned = groups.exponent == 63
        self.y, status = accumulate(
            self.y, stream.fixed(groups), self._parameters, bias=bias, start=start, poisoned=poisoned[:, None]
        )
        return status

    def activate(self) -> tuple[np.ndarray, dict[str, bool]]:
        """x, clamped to `activation_max`, poison as in a state: int64 (vectors, n), and sticky status."""
        p = self._parameters
        poisoned = poisoned_state(self.y, p)
        z, overflow = np.where(poisoned, 0, self.y), False
        if self._norm is not None:
            z, poisoned, overflow = self._norm.apply(z, poisoned, self._unit, self._middle, p)
        x, clamped = formats.clamp(
            np.where(poisoned, 0, functions(self._function, z, self._middle, self._result)), activation_max(p)
        )
        return np.where(poisoned, poison_code(p), x), {
            "overflow": overflow or clamped,
            "poisoned": bool(poisoned.any()),
        }

    def emit(self, passes: int = 1, *, start: bool = False) -> Emitted:
        """Send what the consumers lack, and remember it; sticky status of all of it."""
        x, status = self.activate()
        sent = emit(x, self.xhat, self._parameters, passes, start=start)
        self.xhat = sent.xhat
        status = {"overflow": status["overflow"], "poisoned": status["poisoned"] or sent.status["poisoned"]}
        return dataclasses.replace(sent, status=status)
