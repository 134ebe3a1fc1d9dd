"""What is sent, fast and exact: states as delta groups (numerics, 12.10), sums in the joint form (12.11)."""

import abc
import dataclasses
from collections.abc import Callable

import numpy as np

from golden import formats
from golden.diffusion.differential.exact import quantised
from golden.diffusion.differential.fixed.core import Sums
from golden.diffusion.differential.quantise import Grouping, Passes, Vectors, half, quantise, run_on
from golden.parameters import EXPONENT_BIAS, ZERO_GROUP, Parameters
from golden.units.channel_scale import channel_scale
from golden.units.joint_stream import JointStream
from golden.units.state_quantizer import quantise_state


def _halved(flat: np.ndarray, length: int) -> np.ndarray:
    """Maximum of each `length` neighbours, a power of two: numpy reduces a short last axis ten times as slowly."""
    while length > 1:
        flat, length = np.maximum(flat[0::2], flat[1::2]), length // 2
    return flat


def _even(values: np.ndarray) -> bool:
    length = values.shape[-1]
    return not length & length - 1 and values.flags.c_contiguous


def largest(lanes: np.ndarray, axis: int) -> np.ndarray:
    """Largest magnitude along an axis, which stays with length 1: float32."""
    if axis != lanes.ndim - 1 or not _even(lanes):
        return np.abs(lanes).max(axis=axis, keepdims=True)
    bits = (lanes.view(np.int32) & np.int32(0x7FFFFFFF)).ravel()  # integers that order like magnitudes
    return _halved(bits, lanes.shape[-1]).view(np.float32).reshape(*lanes.shape[:-1], 1)


def row_maximum(values: np.ndarray) -> np.ndarray:
    """Maximum along the last axis, which stays with length 1."""
    if not _even(values):
        return values.max(axis=-1, keepdims=True)
    return _halved(values.ravel(), values.shape[-1]).reshape(*values.shape[:-1], 1)


def output_vectors(
    sums: np.ndarray, axis: int, lanes: int, pieces: tuple[int, ...] = ()
) -> tuple[np.ndarray, Grouping, Callable[[np.ndarray], np.ndarray]]:
    """Outputs of a product cut into vectors along their channels, how, and the way back (numerics, 12.20).

    Where there are fewer channels than lanes, vectors run on over positions. If there are `pieces` of the channels,
    each piece of each position has vectors of its own.
    """
    if pieces or sums.shape[axis] >= lanes:
        return sums, Grouping(axis, pieces or (sums.shape[axis],), lanes), lambda values: values
    values, back = run_on(sums, axis)
    return values, Grouping(-1, (values.shape[-1],), lanes), back


class Link(abc.ABC):
    """Quantises; `Passes` here hold counts, and their exponents are codes.

    Parameters
    ----------
    parameters : Parameters
        Of the machine.
    width : int
        Bits of a lane of the joint form.
    """

    def __init__(self, parameters: Parameters, width: int):
        self.parameters = parameters
        self.width = width

    @abc.abstractmethod
    def send(self, difference: np.ndarray, grouping: Grouping, passes: int | np.ndarray) -> Passes:
        """Delta groups of counts.

        Parameters
        ----------
        difference : float32 array
            x - Xhat.
        grouping : Grouping
            Of the contracted axis.
        passes : int, or int array by item (batch, 1, ...)
            Passes.
        """

    @abc.abstractmethod
    def keep(self, numbers: np.ndarray, grouping: Grouping, passes: int, exponent: int | None) -> Passes:
        """Delta groups of what a product of a chain gives (numerics, 12.26).

        Parameters
        ----------
        numbers : float32 array
            FP16 numbers in counts of ``2^-24``, as `scaled` makes them.
        grouping : Grouping
            Of their channels.
        passes : int
            Passes.
        exponent : int or None
            Code of the static exponent; None: the group policy.
        """

    @abc.abstractmethod
    def joint(self, sums: Sums, grouping: Grouping, floor: int) -> Passes:
        """Sums as they reach the state, one rounding each; `floor` is the code of the finest step."""

    @abc.abstractmethod
    def scaled(self, sums: Sums, places: int, factors: np.ndarray, shifts: np.ndarray) -> np.ndarray:
        """``RNE16(sum 2^places factor + shift)`` in counts of ``2^-24``, float32 (numerics, 12.25).

        Parameters
        ----------
        sums : Sums
            Of a product.
        places : int
            See above.
        factors, shifts : uint16, broadcast against the sums
            FP16 patterns.
        """


class FloatLink(Link):
    """In binary32, which holds every difference of two states.

    Parameters
    ----------
    parameters, width
        See `Link`.
    keep : bool
        Whether what is quantised is still asked for, by a measure; otherwise the result takes its place.
    """

    def __init__(self, parameters: Parameters, width: int, *, keep: bool = True):
        super().__init__(parameters, width)
        self._keep = keep

    def send(self, difference: np.ndarray, grouping: Grouping, passes: int | np.ndarray) -> Passes:
        """Exponents by the largest lanes, digits by one rounding to the last step."""
        p, k = self.parameters, self.parameters.digit_width
        lanes = grouping.split(difference)
        axis = lanes.ndim + grouping.axis
        m = p.outliers
        exact = None
        if m == 0:
            decisive = largest(lanes, axis)
        elif m >= lanes.shape[axis]:
            decisive = np.zeros_like(lanes.take([0], axis))
        else:
            decisive = np.partition(np.abs(lanes), -1 - m, axis=axis).take([-1 - m], axis)
        # 2^(e-1) (2^k - 1) is an odd number of halves: a quarter keeps every integer off the border
        e = np.frexp((decisive + np.float64(0.25)) * (2 / (2**k - 1)))[1]
        np.maximum(e, 0, out=e)
        if m:
            exact = np.abs(lanes) >= np.ldexp(np.float64((2**k - 1) / 2), e)
        count = passes[..., None] if isinstance(passes, np.ndarray) else passes
        last = np.maximum(e - (count - 1) * (k - 1), 0)
        if last.any():
            place = lanes if not self._keep and exact is None else None
            sent = np.multiply(lanes, np.ldexp(np.float32(1), -last), out=place)
            np.rint(sent, out=sent)
            sent *= np.ldexp(np.float32(1), last)
        else:
            sent = lanes
        if exact is not None and exact.any():
            sent = np.where(exact, half(lanes * np.float32(2.0**-EXPONENT_BIAS)) * np.float32(2.0**EXPONENT_BIAS), sent)
        values = difference if not last.any() and exact is None else grouping.join(sent)
        return Passes(values, lanes, e, last, exact, 0)

    def keep(self, numbers: np.ndarray, grouping: Grouping, passes: int, exponent: int | None) -> Passes:
        """As `send`, or under the static exponent."""
        if exponent is None:
            return self.send(numbers, grouping, passes)
        return quantise(numbers, grouping, self.parameters, passes=passes, floor=exponent, exponent=exponent)

    def joint(self, sums: Sums, grouping: Grouping, floor: int) -> Passes:
        """One rounding to the floor where no vector is beyond it; else by `quantise`."""
        k, values = self.parameters.digit_width, sums.values
        limit = ((2**k - 1) * 2.0 ** (self.width - k - 1) - 0.5) * 2.0**floor
        if max(values.max(initial=0), -values.min(initial=0)) >= limit:
            found = quantise(values, grouping, self.parameters, finer=self.width - k, floor=floor, outliers=0)
            return dataclasses.replace(found, lanes=values)
        unit = values.dtype.type(2.0**floor)
        rounded = np.multiply(values, 1 / unit, out=None if self._keep else values)
        np.rint(rounded, out=rounded)
        rounded *= unit
        return Passes(rounded, values, None, None, None, 0)

    def scaled(self, sums: Sums, places: int, factors: np.ndarray, shifts: np.ndarray) -> np.ndarray:
        """In binary64."""
        factor, shift = (part.view(np.float16).astype(np.float64) for part in (factors, shifts))
        total = np.ldexp(sums.values * factor, places + sums.lsb + formats.HALF_LSB) + shift
        return (half(total) * np.float32(2.0**EXPONENT_BIAS)).astype(np.float32)


class ExactLink(Link):
    """By the quantisers of states and of FP16 numbers, and by `golden.units.joint_stream`."""

    def send(self, difference: np.ndarray, grouping: Grouping, passes: int | np.ndarray) -> Passes:
        """Vectors of different numbers of passes apart."""
        p = self.parameters
        vectors = Vectors(difference.astype(np.int64), grouping, p.lanes)
        flat = vectors.flat
        counts = vectors.rows(np.asarray(passes[..., None] if isinstance(passes, np.ndarray) else passes))
        first = np.zeros(len(flat), np.int32)
        terms = [np.zeros(flat.shape, np.float32) for _ in range(int(counts.max(initial=1)))]
        exact = np.zeros(flat.shape, np.bool_) if p.outliers else None
        for count in np.unique(counts).tolist():
            rows = np.flatnonzero(counts == count)
            groups = quantise_state(flat[rows], p, count).groups
            fixed = groups.fixed().reshape(len(rows), count, -1)
            for number in range(count):
                terms[number][rows] = fixed[:, number]
            codes = groups.exponent.reshape(len(rows), count)[:, 0].astype(np.int32)
            first[rows] = np.where(codes == ZERO_GROUP, 0, codes)
            if exact is not None:
                at, slots = np.nonzero(groups.outlier_valid)
                exact[rows[at // count], groups.outlier_lane[at, slots]] = True
        last = np.maximum(first - (counts - 1) * (p.digit_width - 1), 0).astype(np.int32)
        return Passes(
            vectors.tensor(sum(terms)),
            vectors.groups(flat.astype(np.float32)),
            vectors.groups(first[:, None]),
            vectors.groups(last[:, None]),
            None if exact is None else vectors.groups(exact),
            0,
            tuple(vectors.tensor(term) for term in terms),
        )

    def keep(self, numbers: np.ndarray, grouping: Grouping, passes: int, exponent: int | None) -> Passes:
        """By `golden.units.delta_quantizer`."""
        patterns = np.ldexp(numbers, -EXPONENT_BIAS).astype(np.float16).view(np.uint16)
        floor = (exponent or 0) - EXPONENT_BIAS
        static = None if exponent is None else floor
        return quantised(patterns, grouping, self.parameters, passes, floor, static).moved(EXPONENT_BIAS)

    def joint(self, sums: Sums, grouping: Grouping, floor: int) -> Passes:
        """By the joint stream's quantiser, from the accumulators."""
        values = sums.values if sums.values.dtype == object else sums.values.astype(np.int64)
        vectors = Vectors(values, grouping, self.parameters.lanes)
        stream = JointStream(self.parameters, self.width, floor)
        groups, _ = stream.quantise(vectors.flat, sums.lsb + formats.HALF_LSB)
        code = np.where(groups.exponent == ZERO_GROUP, floor, groups.exponent).astype(np.int32)
        last = code - np.minimum(self.width - self.parameters.digit_width, code - floor)
        found = vectors.tensor(stream.fixed(groups).astype(np.float64))
        lanes = np.ldexp(vectors.tensor(vectors.flat).astype(np.float64), sums.lsb)
        return Passes(found, lanes, vectors.groups(code[:, None]), vectors.groups(last[:, None]), None, 0, (found,))

    def scaled(self, sums: Sums, places: int, factors: np.ndarray, shifts: np.ndarray) -> np.ndarray:
        """By `golden.units.channel_scale`, from the accumulators."""
        values = sums.values if sums.values.dtype == object else sums.values.astype(np.int64)
        lsb = sums.lsb + places + formats.HALF_LSB
        found = channel_scale(values, False, factors, lsb, self.parameters, shift=np.broadcast_to(shifts, values.shape))
        return formats.half_to_fixed(found.values).astype(np.float32)
