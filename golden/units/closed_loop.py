"""Closed loop near memory: the true activation, and its delta against what the consumers hold.

Words: ``Y`` is the raw output of the layer before, ``x = f(norm(Y))`` the true input of the layer after, ``Xhat`` the
sum of everything its consumers have been sent. Source: ``docs/numerics.md``, section 12.
"""

import dataclasses
import math
from fractions import Fraction
from typing import Any

import numpy as np

from golden import formats
from golden.common import names
from golden.parameters import EXPONENT_BIAS, Parameters
from golden.units.activations import ACTIVATIONS, activation
from golden.units.delta_group import DeltaGroups
from golden.units.delta_quantizer import quantise_all
from golden.units.near_memory_engine import Update, near_memory_engine, poison_code, poisoned_state, state_magnitude_max

__all__ = ["ClosedLoop", "Emitted", "Norm", "normalise", "reciprocal_root_single", "round_single"]

FUNCTIONS = ("identity", "relu", *ACTIVATIONS)
"""Names of the activations: the first two are exact in binary32, the others tables from FP16 to FP16."""


def round_single(value: Fraction) -> np.float32:
    """Nearest binary32 (ties to even) of an exact rational."""
    if value == 0:
        return np.float32(0)
    magnitude = abs(value)
    # floor(log2), at most one too large by the lengths alone
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    lsb = max(exponent - 23, -149)
    rounded = math.ldexp(float(round(magnitude / Fraction(2) ** lsb)), lsb)
    with np.errstate(over="ignore"):
        return np.float32(-rounded if value < 0 else rounded)


def reciprocal_root_single(value: Fraction) -> np.float32:
    """Nearest binary32 (ties to even) of the real number ``1 / sqrt(value)``, for a positive rational."""
    numerator, denominator = value.denominator, value.numerator
    # Scaled by 4^shift, the root has at least 30 bits; a sticky bit below them decides every tie.
    shift = max(30 + (denominator.bit_length() - numerator.bit_length()) // 2 + 1, 0)
    square = (numerator << 2 * shift) // denominator
    root = math.isqrt(square)
    sticky = root * root * denominator != numerator << 2 * shift
    return round_single(Fraction(2 * root + sticky, 2 ** (shift + 1)))


@dataclasses.dataclass(frozen=True, eq=False)
class Norm:
    """A normalisation over sets of elements: GroupNorm, LayerNorm, RMS norm.

    Members
    -------
    sets : int (vectors, n)
        Statistics set of each element, 0 and up; -1 for padding, whose x is 0.
    gamma, beta : float32, broadcast against `sets`
        Scale and shift.
    epsilon : float
        Added to the variance, as binary32; positive.
    centred : bool
        Whether the mean is taken away; without it the variance is the mean square: RMS norm (numerics, section 12.18).

    Raises
    ------
    ValueError
        If a number is not finite or `epsilon` not positive.
    """

    sets: np.ndarray
    gamma: Any = 1.0
    beta: Any = 0.0
    epsilon: float = 1e-5
    centred: bool = True

    def __post_init__(self) -> None:
        """Check the numbers and bring them to binary32."""
        object.__setattr__(self, "sets", np.asarray(self.sets, np.int64))
        for name in ("gamma", "beta"):
            array = np.asarray(getattr(self, name), np.float32)
            if not np.isfinite(array).all():
                raise ValueError(f"{name} must be finite, not {array[~np.isfinite(array)].ravel()[0]}")
            object.__setattr__(self, name, array)
        if not np.isfinite(np.float32(self.epsilon)) or not np.float32(self.epsilon) > 0:
            raise ValueError(f"epsilon must be positive and finite, not {self.epsilon}")


def _totals(sets: np.ndarray, values: np.ndarray, count: int) -> list[int]:
    """Exact sum of the values of each set."""
    parts = []
    for part in (values >> 24, values & (2**24 - 1)):  # each far from 63 bits for any set that fits memory
        sums = np.zeros(count, np.int64)
        np.add.at(sums, sets, part)
        parts.append(sums.tolist())
    return [(high << 24) + low for high, low in zip(*parts, strict=True)]


def normalise(y: Any, poisoned: Any, norm: Norm, state_exponent: int) -> tuple[np.ndarray, np.ndarray]:
    """Normalise a fixed-point state (numerics, section 12.2).

    Numerics: ``sum Y`` and ``sum Y^2`` are exact; mean and reciprocal deviation are rounded once; the four operations
    that follow are binary32 operations.

    Parameters
    ----------
    y : int (vectors, n)
        State in units of ``2^state_exponent``, below ``2^24`` in magnitude.
    poisoned : bool (vectors, n)
        Elements that poison their whole set.
    norm : Norm
        Sets, scale and shift.
    state_exponent : int
        ``s``.

    Returns
    -------
    z : float32 (vectors, n)
        0 for padding.
    poisoned : bool (vectors, n)
        Elements of poisoned sets.
    """
    y, poisoned = np.asarray(y, np.int64), np.asarray(poisoned, np.bool_)
    sets = norm.sets
    used = sets >= 0
    count = int(sets.max(initial=-1)) + 1
    sizes = np.bincount(sets[used], minlength=count).tolist()
    sums = _totals(sets[used], y[used], count) if norm.centred else [0] * count
    squares = _totals(sets[used], y[used] ** 2, count)
    unit = Fraction(2) ** state_exponent
    epsilon = Fraction(float(np.float32(norm.epsilon)))
    mean, scale = np.zeros(count, np.float32), np.zeros(count, np.float32)
    for index, (size, total, square) in enumerate(zip(sizes, sums, squares, strict=True)):
        if size:
            variance = Fraction(square * size - total * total, size * size) * unit * unit
            mean[index] = round_single(Fraction(total, size) * unit)
            scale[index] = reciprocal_root_single(variance + epsilon)
    bad = np.zeros(count, np.bool_)
    bad[sets[used & poisoned]] = True
    which = np.where(used, sets, 0)
    with np.errstate(over="ignore"):
        t = np.ldexp(y.astype(np.float32), state_exponent) - mean[which]
        z = (t * scale[which]) * norm.gamma + norm.beta
    return np.where(used, z, np.float32(0)).astype(np.float32), used & bad[which]


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
    x : int32 (vectors, n)
        The true activation in state LSBs, poisoned elements as the state's poison.
    status : dict
        Sticky ``overflow``, ``poisoned`` and ``saturated``.
    """

    groups: DeltaGroups
    vector: np.ndarray
    last: np.ndarray
    x: np.ndarray
    status: dict[str, bool]


class ClosedLoop:
    """State of one tensor near memory, and its update in the closed loop.

    Parameters
    ----------
    parameters : Parameters
        Of the machine; the state must be fixed-point.
    vectors : int
        Vectors of the tensor.
    state_exponent : int
        ``s``, -24 to ``18 - k``: the unit of Y and Xhat is ``2^s``.
    function : str
        ``"identity"``, ``"relu"``, ``"silu"``, ``"gelu"`` or ``"exp"``.
    norm : Norm, optional
        Comes before the function.

    Members
    -------
    y, xhat : int32 (vectors, n)
        The state, 0 at first.

    Raises
    ------
    ValueError
        If the state is not fixed-point, the exponent is out of range, the function unknown, or the norm's sets have
        another shape.
    """

    def __init__(
        self,
        parameters: Parameters,
        vectors: int,
        *,
        state_exponent: int,
        function: str = "identity",
        norm: Norm | None = None,
    ):
        if parameters.state_format != "fixed":
            raise ValueError(f"state_format must be fixed in the closed loop, not {parameters.state_format}")
        if not -24 <= state_exponent <= parameters.exponent_max:
            raise ValueError(f"state_exponent must be in -24..{parameters.exponent_max}, not {state_exponent}")
        names.lookup("Activation", function, dict.fromkeys(FUNCTIONS))
        shape = (vectors, parameters.lanes)
        if norm is not None and norm.sets.shape != shape:
            raise ValueError(f"sets of the norm must have the shape {shape}, not {norm.sets.shape}")
        self._parameters = parameters
        self._exponent = state_exponent
        self._function = function
        self._norm = norm
        self.y = np.zeros(shape, np.int32)
        self.xhat = np.zeros(shape, np.int32)

    def update(
        self, groups: DeltaGroups, *, address: Any, last: Any = True, refresh: Any = False, bias: Any = 0
    ) -> Update:
        """Add output deltas to Y: `near_memory_engine` without a mask. Thresholds of a segment mask are all 0 here."""
        count = 2**self._parameters.mask_width - 1 if self._parameters.mask_width > 1 else 0
        result = near_memory_engine(
            self.y,
            groups,
            self._parameters,
            address=address,
            last=last,
            refresh=refresh,
            bias=bias,
            state_exponent=self._exponent,
            thresholds=np.zeros(count, np.int64),
        )
        self.y = result.state
        return result

    def activate(self) -> tuple[np.ndarray, dict[str, bool]]:
        """``x = RNE(f(norm(Y)) / 2^s)``, clamped like the state: int32 (vectors, n), and sticky status."""
        s, top = self._exponent, state_magnitude_max(self._parameters)
        poisoned = poisoned_state(self.y, self._parameters)
        y = np.where(poisoned, 0, self.y)
        if self._norm is None:
            z = np.ldexp(y.astype(np.float32), s)
        else:
            z, poisoned = normalise(y, poisoned, self._norm, s)
        overflow = False
        if self._function in ACTIVATIONS:
            half, clamped = _single_to_half(z)
            half = np.where(poisoned, 0, half)
            result = activation(self._function, half)
            overflow = bool((clamped & ~poisoned).any()) or result.status["overflow"]
            value = formats.half_to_fixed(result.values) * 2.0**-24
        else:
            value = np.maximum(z, np.float32(0)) if self._function == "relu" else z
            value = value.astype(np.float64)
        # Scaling by a power of two and rint are exact and RNE in binary64, which holds binary32 with room to spare.
        x = np.rint(np.ldexp(value, -s))
        overflow |= bool(((np.abs(x) > top) & ~poisoned).any())
        x = np.clip(x, -top, top).astype(np.int64)
        if self._norm is not None:
            x = np.where(self._norm.sets >= 0, x, 0)
        x = np.where(poisoned, poison_code(self._parameters), x).astype(np.int32)
        return x, {"overflow": overflow, "poisoned": bool(poisoned.any())}

    def emit(self, passes: int = 1, *, refresh: bool = False, exponent: Any = None) -> Emitted:
        """Send what the consumers lack, and remember it.

        Parameters
        ----------
        passes : int
            Passes of the delta.
        refresh : bool
            The consumers start anew: Xhat counts as 0.
        exponent : int, or int (vectors,)
            Exponent code of pass 0 under the layer policy, at least ``s + 24``; the default is the group policy.
        """
        p, s = self._parameters, self._exponent
        poison, top = poison_code(p), state_magnitude_max(p)
        floor = s + EXPONENT_BIAS
        if exponent is not None and (np.asarray(exponent) < floor).any():
            raise ValueError(f"exponent must be at least state_exponent + 24 = {floor}, not {np.min(exponent)}")
        x, status = self.activate()
        held = np.zeros_like(self.xhat) if refresh else self.xhat
        bad = poisoned_state(x, p) | poisoned_state(held, p)
        difference = np.where(bad, 0, x.astype(np.int64) - held)
        values, clamped = formats.encode_half(difference, s)
        values = np.where(bad, formats.HALF_NAN, values).astype(np.uint16)
        code = floor if exponent is None else exponent
        result = quantise_all(values, p, passes, floor=floor, by_group=exponent is None, exponent=code)
        groups, vector = result.groups, result.vector
        sent = np.zeros(held.shape, np.int64)
        np.add.at(sent, vector, groups.fixed() >> floor)  # exact: no digit and no outlier lies under the state's LSB
        total = held + sent
        lost = np.zeros(held.shape, np.bool_)
        np.logical_or.at(lost, vector, np.broadcast_to(groups.poisoned[:, None], groups.digits.shape))
        lost |= bad
        overflow = bool(clamped.any()) or bool(((np.abs(total) > top) & ~lost).any())
        self.xhat = np.where(lost, poison, np.clip(total, -top, top)).astype(np.int32)
        return Emitted(
            groups=groups,
            vector=vector,
            last=result.last,
            x=x,
            status={
                **result.status,
                "overflow": status["overflow"] or overflow,
                "poisoned": bool(lost.any()),
            },
        )


def _single_to_half(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """FP16 patterns of binary32 numbers, RNE with clamp, and which were clamped."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    clamped = np.isinf(half)
    half = np.where(clamped, np.copysign(np.float16(65504), half), half).astype(np.float16)
    patterns = half.view(np.uint16)
    return np.where(values == 0, 0, patterns).astype(np.uint16), clamped
