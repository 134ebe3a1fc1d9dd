"""The quantiser of whole tensors in floating point: the same digits as ``golden.units.delta_quantizer``, fast.

Words: the *axis* is the contracted one; *segments* are the lengths of the pieces it is a concatenation of, each cut
into groups of its own. Values are FP16 numbers held as float32, so every step here is exact but for its rounding.
Source: ``docs/numerics.md``, section 3.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from golden import formats
from golden.parameters import EXPONENT_BIAS, Parameters

HALF_MAX = np.float32(65504)


def half(values: np.ndarray) -> np.ndarray:
    """Nearest FP16 numbers (ties to even, clamped to +-65504) as float32.

    ::

        x = f 2^e  ->  (x + c) - c with c = 1.5 * 2^(e + 13), e at least -14

    The sum has the unit ``2^(e - 10)`` of an FP16 number in its last place, so binary32 itself rounds there; numpy
    converts to float16 and back three times as slowly.
    """
    if values.dtype != np.float32 or values.ndim == 0:
        with np.errstate(over="ignore"):
            result = values.astype(np.float16).astype(np.float32)
        return np.clip(result, -HALF_MAX, HALF_MAX)
    bits = values.view(np.uint32)
    offset = bits & np.uint32(0x7F800000)  # 2^e
    if offset.size and offset.max() >= 0x47000000:  # 2^15: some may be too large
        values = np.clip(values, -HALF_MAX, HALF_MAX)
        offset = np.minimum(offset, np.uint32(0x47000000))
    np.maximum(offset, np.uint32(0x38800000), out=offset)  # 2^-14
    offset += np.uint32((13 << 23) + (1 << 22))
    result = values + offset.view(np.float32)
    result -= offset.view(np.float32)
    signs = np.bitwise_and(bits, np.uint32(0x80000000), out=offset)
    result.view(np.uint32)[...] |= signs  # the zeros keep theirs
    return result


def weight_numbers(values: np.ndarray, parameters: Parameters) -> np.ndarray:
    """Nearest numbers that the machine takes as weights, as float32 (numerics, section 13.10).

    Parameters
    ----------
    values : float32
        Any finite values.
    parameters : Parameters
        Gives the format and, in float form, the least magnitude; one beyond the declared range is not looked at.
    """
    if parameters.weight_format == "float16":
        result = half(values)
    else:
        bits = np.asarray(values, np.float32).view(np.uint32)
        top = np.uint32(0x7F7F0000)
        magnitude = bits & np.uint32(0x7FFFFFFF)
        magnitude = np.minimum((magnitude + np.uint32(0x7FFF) + (magnitude >> 16 & 1)) & np.uint32(0xFFFF0000), top)
        result = (magnitude | (bits & np.uint32(0x80000000))).view(np.float32)
    least = parameters.weight_exponent_min
    if parameters.weight_form == "float" and least > formats.FORMATS[parameters.weight_format].least:
        magnitude = np.abs(values)
        near = np.where(magnitude > np.float32(2.0 ** (least - 1)), np.float32(2.0**least), np.float32(0))
        result = np.where(magnitude < np.float32(2.0**least), np.copysign(near, values), result)
    return result


@functools.lru_cache(maxsize=1024)
def _edges(segments: tuple[int, ...], lanes: int) -> tuple[np.ndarray, np.ndarray, bool]:
    """Starts and lengths of groups, and whether all are of one length."""
    edges = np.cumsum((0, *segments[:-1]))
    starts = np.concatenate([edge + np.arange(0, length, lanes) for edge, length in zip(edges, segments, strict=True)])
    lengths = np.diff(starts, append=sum(segments))
    return starts, lengths, bool((lengths == lengths[0]).all())


@dataclasses.dataclass(frozen=True)
class Grouping:
    """How an axis is cut into groups.

    Parameters
    ----------
    axis : int
        The contracted axis, counted from the end (negative).
    segments : tuple of int
        Lengths that are padded to whole groups separately; they add up to the axis.
    lanes : int
        n.
    """

    axis: int
    segments: tuple[int, ...]
    lanes: int

    @property
    def starts(self) -> np.ndarray:
        """First index of each group on the axis, int64."""
        return _edges(self.segments, self.lanes)[0]

    @property
    def lengths(self) -> np.ndarray:
        """Elements of each group, int64."""
        return _edges(self.segments, self.lanes)[1]

    @property
    def even(self) -> bool:
        """Whether every group is full, or there is only one."""
        return _edges(self.segments, self.lanes)[2]

    def split(self, values: np.ndarray) -> np.ndarray:
        """The axis as two, groups and lanes; padded with zeros unless it is `even`."""
        axis = values.ndim + self.axis
        if not self.even:
            values = self._padded(values)
        lanes = self.lanes if not self.even else int(self.lengths[0])
        return values.reshape(*values.shape[:axis], -1, lanes, *values.shape[axis + 1 :])

    def join(self, groups: np.ndarray) -> np.ndarray:
        """The inverse of `split`."""
        axis = groups.ndim - 1 + self.axis
        joined = groups.reshape(*groups.shape[:axis], -1, *groups.shape[axis + 2 :])
        if self.even:
            return joined
        lanes = np.arange(self.lanes)
        kept = (lanes < self.lengths[:, None]).ravel()
        return np.compress(kept, joined, axis=axis)

    def _padded(self, values: np.ndarray) -> np.ndarray:
        axis = values.ndim + self.axis
        shape = list(values.shape)
        shape[axis] = len(self.lengths) * self.lanes
        kept = (np.arange(self.lanes) < self.lengths[:, None]).ravel()
        padded = np.zeros(shape, values.dtype)
        padded[(slice(None),) * axis + (kept,)] = values
        return padded


class Vectors:
    """Vectors of n lanes that a tensor is cut into, and back."""

    def __init__(self, values: np.ndarray, grouping: Grouping, lanes: int):
        self.split = grouping.split(values)
        self._grouping = grouping
        self._axis = self.split.ndim + grouping.axis
        moved = np.moveaxis(self.split, self._axis, -1)
        self._shape, width = moved.shape, moved.shape[-1]
        self.flat = np.zeros((moved.size // width, lanes), values.dtype)
        self.flat[:, :width] = moved.reshape(-1, width)

    def groups(self, flat: np.ndarray) -> np.ndarray:
        """Rows of lanes in the shape of `Grouping.split`; rows of one for what belongs to a vector."""
        width = min(flat.shape[1], self._shape[-1])
        return np.moveaxis(flat[:, :width].reshape(*self._shape[:-1], width), -1, self._axis)

    def tensor(self, flat: np.ndarray) -> np.ndarray:
        """Rows of lanes in the shape of the tensor."""
        return np.ascontiguousarray(self._grouping.join(self.groups(flat)))

    def rows(self, values: np.ndarray) -> np.ndarray:
        """Of values broadcast against `groups` of one lane, that of each vector."""
        shape = list(self.split.shape)
        shape[self._axis] = 1
        return np.moveaxis(np.broadcast_to(values, shape), self._axis, -1).ravel()


def run_on(values: np.ndarray, axis: int) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Values of a batch as (batch, 1, all), `axis` fastest, so that vectors run on over positions; and the way back."""
    moved = np.moveaxis(values, axis, -1)

    def back(result: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.moveaxis(result.reshape(moved.shape), -1, axis))

    return moved.reshape(len(moved), 1, -1), back


@dataclasses.dataclass(frozen=True, eq=False)
class Passes:
    """A quantised tensor.

    Members
    -------
    values : float32
        Dequantised sum of all passes.
    lanes : float32
        What was quantised, `Grouping.split`.
    exponent : int32, an axis of one where the lanes are; or None
        ``e`` of pass 0, shape of `Grouping.split` with one lane; None under one scale for a whole tensor.
    last : int32, as `exponent`
        Of the last pass.
    exact : bool, or None
        Lanes that travel as outliers, shape of `Grouping.split`; None if there is no outlier.
    saturated : int
        Lanes that overflowed and were not carried.
    terms : tuple of arrays
        What each group of a vector holds, in order, shaped as `values`, which is their sum; () where that does not
        matter. With a `scale`: the digits.
    scale : float32 (batch, 1, ...), or None
        The one scale of each item, if it has no exponents.
    """

    values: np.ndarray
    lanes: np.ndarray
    exponent: np.ndarray | None
    last: np.ndarray | None
    exact: np.ndarray | None
    saturated: int
    terms: tuple[np.ndarray, ...] = ()
    scale: np.ndarray | None = None

    def items(self, which: np.ndarray) -> "Passes":
        """Some items of the batch; of what was saturated nothing is said."""
        parts = {name: getattr(self, name) for name in ("values", "lanes", "exponent", "last", "exact", "scale")}
        parts = {name: None if part is None else part[which] for name, part in parts.items()}
        return dataclasses.replace(self, **parts, saturated=0)

    def moved(self, places: int) -> "Passes":
        """The same numbers in a unit that is ``2^places`` times as small; under exponents."""
        factor = np.float32(2.0**places)
        return dataclasses.replace(
            self,
            values=self.values * factor,
            lanes=self.lanes * factor,
            exponent=None if self.exponent is None else self.exponent + places,
            last=None if self.last is None else self.last + places,
            terms=tuple(term * factor for term in self.terms),
        )


def quantise(
    values: np.ndarray,
    grouping: Grouping,
    parameters: Parameters,
    *,
    passes: int | np.ndarray = 1,
    floor: int = -EXPONENT_BIAS,
    exponent: int | None = None,
    outliers: int | None = None,
    finer: int | None = None,
    split: bool = False,
) -> Passes:
    """Quantise in passes; their sum is one rounding to the last step, since each step is a multiple of the next.

    Parameters
    ----------
    values : float32
        FP16 numbers.
    grouping : Grouping
        Of the axis.
    parameters : Parameters
        Gives k, m and the overflow policy.
    passes : int, or int array broadcast against `Passes.exponent`
        1 or more.
    floor : int
        Least exponent (not its code).
    exponent : int, optional
        Exponent of pass 0 under the layer policy, raised to `floor`; the default is the group policy.
    outliers : int, optional
        m; the default is that of `parameters`.
    finer : int, optional
        Bits behind the first digit at most, instead of `passes`: the joint form (``docs/formats.md``).
    split : bool
        Whether `Passes.terms` are wanted, pass by pass; an outlier is in the first one. The joint form has one term.
    """
    k = parameters.digit_width
    m = parameters.outliers if outliers is None else outliers
    lanes = grouping.split(values)
    axis = lanes.ndim + grouping.axis
    magnitude = np.abs(lanes)
    # An exponent e fits |x| < (2^k - 1) 2^(e-1); frexp gives the least power of two above.
    scale = np.float32(2 / (2**k - 1))
    if exponent is None:
        if m == 0 or m >= lanes.shape[axis]:
            decisive = magnitude.max(axis=axis, keepdims=True) if m == 0 else np.zeros_like(lanes.take([0], axis))
        else:
            place = lanes.shape[axis] - 1 - m
            decisive = np.partition(magnitude, place, axis=axis).take([place], axis)
        e = np.frexp(decisive * scale)[1]
        np.maximum(e, floor, out=e)
        e[decisive == 0] = floor
        if finer is not None:
            # what rounds up to the border at the last step has no first digit there
            last = np.maximum(e - finer, floor).astype(np.float32)
            rounded = np.rint(decisive * np.exp2(-last)) * np.exp2(last)
            e += rounded >= np.ldexp(np.float32((2**k - 1) / 2), e)
        exact = magnitude >= np.ldexp(np.float32((2**k - 1) / 2), e) if m else None
        stuck = None
    else:
        exponent = max(exponent, floor)
        e = np.full_like(lanes.take([0], axis), exponent, np.int32)
        over = magnitude >= np.ldexp(np.float32((2**k - 1) / 2), exponent)
        exact = over if parameters.replays else over & (np.cumsum(over, axis=axis, dtype=np.int16) <= m)
        stuck = over & ~exact
    last = np.maximum(e - ((np.asarray(passes) - 1) * (k - 1) if finer is None else finer), floor)
    one = np.float32(1)

    def rounded(step: np.ndarray) -> np.ndarray:
        result = lanes * np.ldexp(one, -step)
        np.rint(result, out=result)
        result *= np.ldexp(one, step)
        if stuck is not None:
            top = np.float32((2 ** (k - 1) - 1) * 2.0**exponent)
            np.copyto(result, np.copysign(top, lanes), where=stuck)
        if exact is not None:
            np.copyto(result, lanes, where=exact)
        return grouping.join(result)

    saturated = 0 if stuck is None else int(stuck.sum())
    values, terms = rounded(last), ()
    if split and finer is None:
        steps = (np.maximum(e - number * (k - 1), last) for number in range(int(np.max(passes))))
        sums = [np.zeros_like(values), *(rounded(step) for step in steps)]
        terms = tuple(after - before for before, after in zip(sums, sums[1:], strict=False))
    return Passes(values, lanes, e, last, exact, saturated, terms)


def quantise_tensor(values: np.ndarray, grouping: Grouping, digit_width: int) -> Passes:
    """Quantise under one real scale for each item of the batch (numerics, section 13.12).

    Numerics: binary64 holds quotients of state elements and binary32 numbers closely enough that `rint` sees on which
    side of a half they are.
    """
    values = np.asarray(values, np.float64)
    top = np.abs(values).max(axis=tuple(range(1, values.ndim)), keepdims=True)
    scale = (np.maximum(top, 2.0**-EXPONENT_BIAS) / (2 ** (digit_width - 1) - 1)).astype(np.float32)
    digits = np.rint(values / scale.astype(np.float64))
    terms = (digits.astype(np.float32),)
    return Passes(digits * scale.astype(np.float64), grouping.split(values), None, None, None, 0, terms, scale)
