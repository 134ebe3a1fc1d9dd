"""Delta groups: what travels between all units. Source: ``docs/numerics.md``, section 2."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from golden import formats
from golden.parameters import EXPONENT_BIAS, POISONED_GROUP, ZERO_GROUP, Parameters

_TYPES = {
    "exponent": np.uint8,
    "replay": np.bool_,
    "digits": np.int8,
    "outlier_valid": np.bool_,
    "outlier_lane": np.uint8,
    "outlier_value": np.uint16,
}


@dataclasses.dataclass(frozen=True, eq=False)
class DeltaGroups:
    """G delta groups of n lanes and m outlier slots, in stream order.

    Members
    -------
    exponent : uint8 (G,)
        Codes: ``e + 24``, 62 zero group, 63 poisoned group.
    replay : bool (G,)
        Group that only carries more outliers of the vector before it.
    digits : int8 (G, n)
        ``-Q..Q``.
    outlier_valid, outlier_lane, outlier_value : bool, uint8, uint16 (G, m)
        Slots, filled from slot 0 in order of lane; unused slots are all zero.

    Raises
    ------
    ValueError
        If the shapes do not belong together or a value does not fit its type.
    """

    exponent: np.ndarray
    replay: np.ndarray
    digits: np.ndarray
    outlier_valid: np.ndarray
    outlier_lane: np.ndarray
    outlier_value: np.ndarray

    def __post_init__(self) -> None:
        """Bring every array to its type and check the shapes."""
        for name, dtype in _TYPES.items():
            given = np.asarray(getattr(self, name))
            array = given.astype(dtype, copy=False)
            if given.dtype != dtype and not np.array_equal(array, given):
                raise ValueError(f"{name} of delta groups must fit {np.dtype(dtype).name}, not {given.dtype}")
            object.__setattr__(self, name, array)
        count = self.exponent.shape
        if len(count) != 1:
            raise ValueError(f"exponent of delta groups must have one axis, not {len(count)}")
        for name in _TYPES:
            shape = getattr(self, name).shape
            if shape[:1] != count or len(shape) != (1 if name in ("exponent", "replay") else 2):
                raise ValueError(f"{name} of {count[0]} delta groups must have a row for each, not the shape {shape}")
        for name in ("outlier_lane", "outlier_value"):
            if getattr(self, name).shape != self.outlier_valid.shape:
                raise ValueError(
                    f"{name} must have the shape of outlier_valid, {self.outlier_valid.shape}, "
                    f"not {getattr(self, name).shape}"
                )

    def __len__(self) -> int:
        return len(self.exponent)

    def __getitem__(self, index: Any) -> "DeltaGroups":
        """Groups of a slice, a mask or an index array; one integer gives one group, still with its first axis."""
        if isinstance(index, int | np.integer):
            index = slice(index, index + 1 or None)
        return DeltaGroups(*(getattr(self, name)[index] for name in _TYPES))

    @property
    def lanes(self) -> int:
        """n, digits of a group."""
        return self.digits.shape[1]

    @property
    def outliers(self) -> int:
        """m, outlier slots of a group."""
        return self.outlier_valid.shape[1]

    @property
    def poisoned(self) -> np.ndarray:
        """Which groups hold a NaN or an infinity, bool (G,)."""
        return self.exponent == POISONED_GROUP

    @property
    def zero(self) -> np.ndarray:
        """Which groups are zero groups, bool (G,)."""
        return self.exponent == ZERO_GROUP

    @classmethod
    def zeros(cls, count: int, parameters: Parameters) -> "DeltaGroups":
        """`count` zero groups."""
        slots = (count, parameters.outliers)
        return cls(
            np.full(count, ZERO_GROUP, np.uint8),
            np.zeros(count, np.bool_),
            np.zeros((count, parameters.lanes), np.int8),
            np.zeros(slots, np.bool_),
            np.zeros(slots, np.uint8),
            np.zeros(slots, np.uint16),
        )

    @classmethod
    def poison(cls, count: int, parameters: Parameters) -> "DeltaGroups":
        """`count` poisoned groups."""
        return dataclasses.replace(cls.zeros(count, parameters), exponent=np.full(count, POISONED_GROUP, np.uint8))

    @classmethod
    def concatenate(cls, parts: Iterable["DeltaGroups"]) -> "DeltaGroups":
        """All groups of `parts`, one after the other."""
        parts = list(parts)
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in _TYPES))

    def replace(self, **arrays: Any) -> "DeltaGroups":
        """The same groups with some arrays exchanged."""
        return dataclasses.replace(self, **arrays)

    def equals(self, other: "DeltaGroups") -> np.ndarray:
        """Which groups agree with those of `other` in every field, bool (G,)."""
        if self.digits.shape != other.digits.shape or self.outlier_valid.shape != other.outlier_valid.shape:
            raise ValueError(
                f"Groups to compare must have equal shapes, not {self.digits.shape} + {self.outlier_valid.shape} "
                f"and {other.digits.shape} + {other.outlier_valid.shape}"
            )
        equal = np.ones(len(self), np.bool_)
        for name in _TYPES:
            same = getattr(self, name) == getattr(other, name)
            equal &= same if same.ndim == 1 else same.all(axis=1)
        return equal

    def shifts(self) -> np.ndarray:
        """Left shift of each group's digits to units of ``2^-24``: the code, 0 for zero and poisoned groups."""
        return np.where(self.exponent < ZERO_GROUP, self.exponent, 0).astype(np.int64)

    def fixed(self) -> np.ndarray:
        """Dequantised lanes as int64 (G, n) multiples of ``2^-24``; poisoned groups read 0."""
        lanes = self.digits.astype(np.int64) << self.shifts()[:, None]
        rows, slots = np.nonzero(self.outlier_valid)
        lanes[rows, self.outlier_lane[rows, slots]] = formats.half_to_fixed(self.outlier_value[rows, slots])
        return lanes

    def dequantise(self) -> np.ndarray:
        """Exact values, float64 (G, n): ``q * 2^e``, or the outlier's value; NaN in every lane of a poisoned group."""
        values = self.fixed() * 2.0**-EXPONENT_BIAS
        rows, slots = np.nonzero(self.outlier_valid)
        odd = ~formats.is_finite(self.outlier_value[rows, slots])
        values[rows[odd], self.outlier_lane[rows, slots][odd]] = np.nan
        values[self.poisoned] = np.nan
        return values

    def check(self, parameters: Parameters) -> None:
        """Refuse groups that break a rule of section 2 of the numerics.

        Raises
        ------
        ValueError
            One sentence with the first offending group.
        """
        if self.lanes != parameters.lanes or self.outliers != parameters.outliers:
            raise ValueError(
                f"Delta groups must have {parameters.lanes} lanes and {parameters.outliers} outliers, "
                f"not {self.lanes} and {self.outliers}"
            )
        code = self.exponent.astype(np.int64)
        used = self.outlier_valid.sum(axis=1)
        special = code >= ZERO_GROUP
        lane = self.outlier_lane.astype(np.int64)
        order = (np.diff(lane, axis=1) <= 0) & self.outlier_valid[:, 1:]
        gap = self.outlier_valid[:, 1:] & ~self.outlier_valid[:, :-1]
        idle = ~self.outlier_valid & ((self.outlier_lane != 0) | (self.outlier_value != 0))
        if self.outliers:
            under = np.take_along_axis(self.digits, np.minimum(lane, self.lanes - 1), axis=1)
        else:
            under = np.zeros(self.outlier_valid.shape)
        rules = {
            f"an exponent code in 0..{42 - parameters.digit_width}, 62 or 63": (code > 42 - parameters.digit_width)
            & ~special,
            f"digits in -{parameters.digit_max}..{parameters.digit_max}": (
                np.abs(self.digits.astype(np.int64)) > parameters.digit_max
            ).any(axis=1),
            "a zero or poisoned group all zero": special & (self.digits.any(axis=1) | (used > 0) | self.replay),
            "a replay group only where the configuration replays, with digits 0": self.replay
            & (self.digits.any(axis=1) | (not parameters.replays)),
            "outlier slots filled from slot 0 in order of lane": (order | gap).any(axis=1),
            f"outlier lanes below {self.lanes}": (lane >= self.lanes).any(axis=1),
            "unused outlier slots all zero": idle.any(axis=1),
            "digit 0 in the lane of an outlier": ((under != 0) & self.outlier_valid).any(axis=1),
        }
        for rule, broken in rules.items():
            if broken.any():
                raise ValueError(f"Delta group must have {rule}, not as in group {int(np.argmax(broken))}")
