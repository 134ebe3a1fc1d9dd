"""What near memory computes of states, fast and exact (numerics, 12.2 to 12.9 and 12.13 to 12.16)."""

import abc
import functools
import math
from collections.abc import Sequence

import numpy as np

from golden import formats
from golden.diffusion.differential.fixed.link import largest, row_maximum
from golden.diffusion.differential.fixed.value import Fixed, Normed
from golden.diffusion.differential.quantise import Grouping
from golden.diffusion.layers import Layer, Norm
from golden.parameters import Parameters
from golden.units import softmax
from golden.units.closed_loop import activation_max, align, functions
from golden.units.combine import Factors, combine, multiply
from golden.units.near_memory_engine import state_magnitude_max
from golden.units.norm import Affine, Coefficients, affine, coefficients, normalise, variance_floor


def across(vector: np.ndarray | None, value: np.ndarray, axis: int) -> np.ndarray:
    """Numbers by channel, (channels,) or (batch, channels), ready to be broadcast against a value along `axis`."""
    if vector is None:
        return np.zeros((), np.float32)
    shape = [1] * value.ndim
    shape[axis] = vector.shape[-1]
    if vector.ndim == 2:
        shape[0] = len(vector)
    return vector.reshape(shape)


class Near(abc.ABC):
    """Operations on states of one width; results are clamped to it.

    Parameters
    ----------
    parameters : Parameters
        Gives the width, n and F.
    """

    def __init__(self, parameters: Parameters):
        self.parameters = parameters
        self.top = state_magnitude_max(parameters)
        self.narrow = activation_max(parameters)

    def state(self, values: np.ndarray, unit: int) -> Fixed:
        """Real numbers, each rounded once to a state."""
        values = np.asarray(values, np.float64)
        if not np.isfinite(values).all():
            raise ValueError("Values must be finite in the closed loop: poison is a matter of the units")
        return Fixed(np.clip(np.rint(np.ldexp(values, -unit)), -self.top, self.top).astype(np.float32), unit)

    def emitted(self, value: Fixed) -> np.ndarray:
        """x of a value that is sent as it is: a bit narrower than its state (numerics, 12.8)."""
        return np.clip(value.counts, np.float32(-self.narrow), np.float32(self.narrow))

    def accumulate(self, held: np.ndarray | None, delta: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
        """``clamp(Y + delta + bias)``, float32, in the place of the delta (numerics, 12.2)."""
        total = delta.astype(np.float32, copy=False)
        if held is not None:
            total += held
        if bias is not None:
            total += bias
        return np.clip(total, np.float32(-self.top), np.float32(self.top), out=total)

    def mean(self, value: Fixed, layer: Layer, unit: int) -> Fixed:
        """Means over pixels (numerics, 12.16)."""
        pixels = layer.averaged(value.counts)
        total = pixels.sum(axis=-1, dtype=np.float64).astype(np.int64)
        size, shift = pixels.shape[-1], int(np.max(value.unit)) - unit
        dividend = formats.shift_left(total, max(shift, 0))
        found = formats.round_quotient(dividend, np.int64(size) << max(-shift, 0))
        return Fixed(formats.clamp(found, self.top)[0].astype(np.float32), unit)

    def _coefficients(
        self, layer: Norm, total: np.ndarray, square: np.ndarray, size: int, units: np.ndarray, unit: int
    ) -> Coefficients:
        """Coefficients of sets whose elements count these units."""
        parts = Coefficients(*(np.zeros(len(total), np.int64) for _ in range(3)))
        for one in np.unique(units).tolist():
            rows = units == one
            floor = variance_floor(layer.epsilon, size, one)
            found = coefficients(total[rows], square[rows], size, floor, unit=unit, centred=layer.centred)
            parts.mean[rows], parts.root[rows], parts.exponent[rows] = found.mean, found.root, found.exponent
        return parts

    def norm(self, layer: Norm, value: Fixed, unit: int) -> Normed:
        """First stage of a norm: u in units of ``2^unit`` (numerics, 12.4 to 12.6)."""
        count = math.prod(layer.sets(value.counts.shape))
        size = value.counts.size // count
        finer = None
        if isinstance(value.unit, np.ndarray):
            each = np.broadcast_to(value.unit, value.counts.shape).reshape(count, size)
            units = each.min(axis=1)
            finer = each - units[:, None]
        else:
            units = np.full(count, value.unit)
        u = self._first(layer, value.counts.reshape(count, size), finer, units, unit)
        ndim = value.counts.ndim
        gain = np.ones((), np.float32) if layer.weight is None else layer.per_channel(layer.weight, ndim)
        shift = np.zeros((), np.float32) if layer.bias is None else layer.per_channel(layer.bias, ndim)
        return Normed(u.reshape(value.counts.shape), unit, gain, shift)

    def affine(self, source: Normed, unit: int, *, least: float | None = None) -> np.ndarray:
        """Second stage (numerics, 12.7): z in units of ``2^unit``; below `least` it counts as that."""
        tables = Affine.of(source.gain, source.shift, unit, source=source.unit, width=self.parameters.state_width)
        return self._second(source.u, tables, -self.top if least is None else least)

    @abc.abstractmethod
    def _first(
        self, layer: Norm, rows: np.ndarray, finer: np.ndarray | None, units: np.ndarray, unit: int
    ) -> np.ndarray: ...

    @abc.abstractmethod
    def _second(self, u: np.ndarray, tables: Affine, least: float) -> np.ndarray: ...

    @abc.abstractmethod
    def function(self, name: str, z: np.ndarray, unit: int, result: int) -> np.ndarray:
        """``f(z)`` in units of ``2^result``, a bit narrower than its state (numerics, 12.8)."""

    @abc.abstractmethod
    def softmax(self, value: Fixed, unit: int) -> np.ndarray:
        """Probabilities along the last axis in units of ``2^unit`` (numerics, 12.9)."""

    @abc.abstractmethod
    def combine(
        self, values: Sequence[Fixed], factors: Sequence[np.ndarray], unit: int, limit: int | None = None
    ) -> Fixed:
        """Sum of values times real factors, one rounding to units of ``2^unit`` (numerics, 12.14)."""

    @abc.abstractmethod
    def multiply(self, left: Fixed, right: Fixed, unit: int) -> Fixed:
        """Product of two values, one rounding (numerics, 12.15)."""

    @abc.abstractmethod
    def align(self, counts: np.ndarray, axis: int) -> np.ndarray:
        """State as weights, in groups along an axis: the counts that they stand for (numerics, 12.13)."""

    def _factors(self, values: Sequence[Fixed], factors: Sequence[np.ndarray], unit: int) -> tuple[Factors, ...]:
        reals = [np.asarray(factor, np.float64) * value.factor for factor, value in zip(factors, values, strict=True)]
        units = [int(value.unit) if not isinstance(value.unit, np.ndarray) else 0 for value in values]
        for number, value in enumerate(values):
            if isinstance(value.unit, np.ndarray):  # by element: units are part of the factors
                reals[number] = np.ldexp(reals[number], value.unit)
        return Factors.of(reals, units, unit)


@functools.lru_cache(maxsize=256)
def _outcomes(name: str, unit: int, result: int, width: int, narrow: int) -> np.ndarray:
    """A function of every state of a width, float32, the least first."""
    z = np.arange(-(2 ** (width - 1)), 2 ** (width - 1))
    return np.clip(functions(name, z, unit, result), -narrow, narrow).astype(np.float32)


@functools.cache
def _powers() -> tuple[np.ndarray, np.ndarray]:
    """Of every argument of a softmax: the power of two, and what it adds to the sum; float32 holds both."""
    argument = np.arange(softmax.ARGUMENT_MAX + 1)
    t, whole = softmax.powers(argument & 2**13 - 1), argument >> 13
    return np.ldexp(t.astype(np.float32), -whole), formats.round_shift(t << 8, whole).astype(np.float32)


class FloatNear(Near):
    """Near memory in floating point with the machine's roundings: every product and sum fits binary64."""

    def __init__(self, parameters: Parameters):
        super().__init__(parameters)
        self._exact = ExactNear(parameters)
        self._roomy = parameters.state_width <= 20  # binary64 holds all of a combine's sum

    def _first(
        self, layer: Norm, rows: np.ndarray, finer: np.ndarray | None, units: np.ndarray, unit: int
    ) -> np.ndarray:
        if finer is not None and not self._roomy:
            return self._exact._first(layer, rows, finer, units, unit)
        u = rows.astype(np.float64)
        if finer is not None:
            np.ldexp(u, finer, out=u)
        size = rows.shape[1]
        square = np.einsum("ij,ij->i", u, u)
        if square.max(initial=0) >= 2.0**53:
            return self._exact._first(layer, rows, finer, units, unit)
        found = self._coefficients(layer, u.sum(axis=1).astype(np.int64), square.astype(np.int64), size, units, unit)
        u -= np.ldexp(found.mean, -8)[:, None]
        u *= np.ldexp(found.root.astype(np.float64), found.exponent)[:, None]
        np.rint(u, out=u)
        if size > 2 ** (2 * (17 + unit)) / 2:  # no element is further off than the root of their number
            np.clip(u, 1 - 2**17, 2**17 - 1, out=u)
        return u

    def _second(self, u: np.ndarray, tables: Affine, least: float) -> np.ndarray:
        z = u * np.ldexp(tables.gain.astype(np.float64), -tables.places)
        z += tables.shift * 0.25
        np.rint(z, out=z)
        return np.clip(z, least, self.top, out=z)

    def function(self, name: str, z: np.ndarray, unit: int, result: int) -> np.ndarray:
        """By a table of every outcome where the state is narrow."""
        width = self.parameters.state_width
        if name == "relu" and unit == result:
            return np.clip(z, 0, self.narrow).astype(np.float32)
        if not self._roomy:
            return self._exact.function(name, z, unit, result)
        index = z.astype(np.intp)
        index += 2 ** (width - 1)
        return _outcomes(name, unit, result, width, self.narrow).take(index, mode="clip")

    def softmax(self, value: Fixed, unit: int) -> np.ndarray:
        """By tables of every power."""
        root, exponent = softmax.log2_factor(value.factor, int(value.unit))
        argument = (row_maximum(value.counts) - value.counts) * np.ldexp(float(root), exponent)
        np.rint(argument, out=argument)
        index = np.minimum(argument, softmax.ARGUMENT_MAX, out=argument).astype(np.intp)
        powers, shares = _powers()
        total = shares.take(index).sum(axis=-1, keepdims=True, dtype=np.float64).astype(np.int64)
        length = formats.bit_length(total - 1)
        reciprocal = formats.round_quotient(np.int64(1) << 15 + length, total)
        x = powers.take(index) * np.ldexp(reciprocal.astype(np.float64), -(7 + length + unit))
        np.rint(x, out=x)
        return np.minimum(x, self.narrow).astype(np.float32)

    def combine(
        self, values: Sequence[Fixed], factors: Sequence[np.ndarray], unit: int, limit: int | None = None
    ) -> Fixed:
        """In binary64, or in binary32 where all that is asked for is a sum."""
        if not self._roomy:
            return self._exact.combine(values, factors, unit, limit)
        top = self.top if limit is None else limit
        plain = all(
            np.ndim(factor) == 0 and factor * value.factor == 1 and not np.ndim(value.unit) and value.unit == unit
            for factor, value in zip(factors, values, strict=True)
        )
        if plain:
            total = values[0].counts + values[1].counts
            for value in values[2:]:
                total += value.counts
        else:
            found = self._factors(values, factors, unit)
            reals = [np.ldexp(factor.values.astype(np.float64), -factor.places) for factor in found]
            total = values[0].counts * reals[0]
            for value, factor in zip(values[1:], reals[1:], strict=True):
                total += value.counts * factor
            np.rint(total, out=total)
        return Fixed(np.clip(total, -top, top, out=total).astype(np.float32, copy=False), unit)

    def multiply(self, left: Fixed, right: Fixed, unit: int) -> Fixed:
        """In binary64."""
        total = left.counts.astype(np.float64) * right.counts
        total *= np.ldexp(1.0, left.unit + right.unit - unit)
        np.rint(total, out=total)
        return Fixed(np.clip(total, -self.top, self.top).astype(np.float32), unit)

    def align(self, counts: np.ndarray, axis: int) -> np.ndarray:
        """In binary32."""
        limit = np.float32(2.0 ** (self.parameters.fraction_bits + 1))
        if max(counts.max(), -counts.min()) < limit:
            return counts
        grouping = Grouping(axis, (counts.shape[axis],), self.parameters.lanes)
        parts = grouping.split(counts)
        most = largest(parts, parts.ndim + axis)
        exponent = np.maximum(np.frexp(most)[1] - (self.parameters.fraction_bits + 1), 0)
        exponent += np.rint(np.ldexp(most, -exponent)) >= limit
        rounded = parts * np.ldexp(np.float32(1), -exponent)
        np.rint(rounded, out=rounded)
        rounded *= np.ldexp(np.float32(1), exponent)
        return grouping.join(rounded)


class ExactNear(Near):
    """Near memory by the unit models."""

    def _first(
        self, layer: Norm, rows: np.ndarray, finer: np.ndarray | None, units: np.ndarray, unit: int
    ) -> np.ndarray:
        y = rows.astype(np.int64)
        shifted = y if finer is None else y << finer
        square = (
            (shifted.astype(object) ** 2).sum(axis=1) if not formats.fits(shifted, 24) else (shifted**2).sum(axis=1)
        )
        found = self._coefficients(layer, shifted.sum(axis=1), square, rows.shape[1], units, unit)
        columns = (part[:, None] for part in (found.mean, found.root, found.exponent))
        return normalise(y, *columns, finer=0 if finer is None else finer)[0].astype(np.float64)

    def _second(self, u: np.ndarray, tables: Affine, least: float) -> np.ndarray:
        return np.maximum(affine(u.astype(np.int64), tables, self.top)[0], least).astype(np.float64)

    def function(self, name: str, z: np.ndarray, unit: int, result: int) -> np.ndarray:
        """By `golden.units.closed_loop.functions`."""
        return formats.clamp(functions(name, z.astype(np.int64), unit, result), self.narrow)[0].astype(np.float32)

    def softmax(self, value: Fixed, unit: int) -> np.ndarray:
        """By `golden.units.softmax`."""
        root, exponent = softmax.log2_factor(value.factor, int(value.unit))
        found = softmax.probabilities(value.counts.astype(np.int64), root, exponent, unit)
        return formats.clamp(found, self.narrow)[0].astype(np.float32)

    def combine(
        self, values: Sequence[Fixed], factors: Sequence[np.ndarray], unit: int, limit: int | None = None
    ) -> Fixed:
        """By `golden.units.combine`."""
        found = self._factors(values, factors, unit)
        states = [value.counts.astype(np.int64) for value in values]
        return Fixed(combine(states, found, self.top if limit is None else limit)[0].astype(np.float32), unit)

    def multiply(self, left: Fixed, right: Fixed, unit: int) -> Fixed:
        """By `golden.units.combine`."""
        places = unit - left.unit - right.unit
        found, _ = multiply(left.counts.astype(np.int64), right.counts.astype(np.int64), places, self.top)
        return Fixed(found.astype(np.float32), unit)

    def align(self, counts: np.ndarray, axis: int) -> np.ndarray:
        """By `golden.units.closed_loop.align`."""
        grouping = Grouping(axis, (counts.shape[axis],), self.parameters.lanes)
        parts = np.moveaxis(grouping.split(counts), counts.ndim + 1 + axis, -1).astype(np.int64)
        found = align(parts, self.parameters)
        values = (found.weights << found.exponent[..., None]).astype(np.float32)
        return grouping.join(np.ascontiguousarray(np.moveaxis(values, -1, counts.ndim + 1 + axis)))
