"""Products, fast and exact (numerics, sections 6 and 7, and 12.11 to 12.13): sums in units of the state behind them."""

import abc
import dataclasses
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from golden.diffusion.differential.arithmetic import align
from golden.diffusion.differential.quantise import Grouping, Passes
from golden.diffusion.differential.sums import Bound, Group, weight_patterns
from golden.diffusion.layers import Convolution, Layer
from golden.parameters import Parameters
from golden.units.closed_loop import align as align_state
from golden.units.weights import align_weights, largest_dequantised

__all__ = ["Core", "ExactCore", "FloatCore", "Sums"]


@dataclasses.dataclass(frozen=True, eq=False)
class Sums:
    """What accumulators hold: float64 or float32 in units of the state, or Python integers.

    Members
    -------
    values : array
        In units of ``2^lsb``.
    lsb : int
        Exponent of the accumulators' unit over that of the state; 0 for floats.
    """

    values: np.ndarray
    lsb: int = 0


def _pieces(layer: Layer, unit: int | np.ndarray) -> np.ndarray:
    """Unit of each input channel of a product with weights, int (channels,)."""
    channels = layer.whole_weight.shape[1]
    if not isinstance(unit, np.ndarray):
        return np.full(channels, unit)
    return np.broadcast_to(np.moveaxis(unit, layer.contracted[0], -1).reshape(-1, channels)[0], channels)


class Core(abc.ABC):
    """Multiplies.

    Parameters
    ----------
    parameters : Parameters
        Of the machine.
    """

    def __init__(self, parameters: Parameters):
        self.parameters = parameters

    @abc.abstractmethod
    def product(
        self, layer: Layer, sent: Passes, segments: tuple[int, ...], unit: int | np.ndarray, result: int, passes: int
    ) -> Sums:
        """Weights times what was sent.

        Parameters
        ----------
        layer : Layer
            With weights.
        sent : Passes
            Counts of the operand.
        segments : tuple of int
            Channels of the pieces of a concatenation, padded to groups apart; empty: all in one.
        unit : int, or int array
            Exponents of the operand's units.
        result : int
            Of the state's unit.
        passes : int
            The most that the layer's operand is ever sent in: the window is proven for them.
        """

    @abc.abstractmethod
    def matmul(self, layer: Layer, sent: Passes, held: np.ndarray, *, right: bool, shift: int) -> Sums:
        """What was sent of one operand of a product of two activations times what is held of the other.

        Parameters
        ----------
        layer : Layer
            The product.
        sent : Passes
            Counts of the operand that changed: the left one or, if `right`, the right one.
        held : array
            Counts of the other one, aligned.
        shift : int
            Exponents of both units less that of the state's.
        """

    @abc.abstractmethod
    def conditioned(self, layer: Layer, sent: Passes, fixed: np.ndarray, *, right: bool, shift: int) -> Sums:
        """As `matmul`, where the other operand is conditioning: real numbers, which enter as weights do (section 6)."""


class FloatCore(Core):
    """Sums in binary32, or in binary64, which holds nearly every sum exactly and takes twice the time."""

    def __init__(self, parameters: Parameters, dtype: type = np.float32):
        super().__init__(parameters)
        self._dtype = dtype
        self._weights: dict[str, np.ndarray] = {}

    def product(
        self, layer: Layer, sent: Passes, segments: tuple[int, ...], unit: int | np.ndarray, result: int, passes: int
    ) -> Sums:
        """By one matrix product."""
        if layer.name not in self._weights:
            weight = align(layer.whole_weight, 1, self.parameters, segments)
            shift = (_pieces(layer, unit) - result).reshape(1, -1, *[1] * (weight.ndim - 2))
            self._weights[layer.name] = np.ldexp(weight.astype(self._dtype), shift)
        return Sums(layer.product(sent.values.astype(self._dtype, copy=False), self._weights[layer.name]))

    def matmul(self, layer: Layer, sent: Passes, held: np.ndarray, *, right: bool, shift: int) -> Sums:
        """By one matrix product."""
        return self._times(layer, sent, held, right, shift)

    def conditioned(self, layer: Layer, sent: Passes, fixed: np.ndarray, *, right: bool, shift: int) -> Sums:
        """By one matrix product."""
        return self._times(layer, sent, align(fixed, layer.contracted[not right], self.parameters), right, shift)

    def _times(self, layer: Layer, sent: Passes, held: np.ndarray, right: bool, shift: int) -> Sums:
        delta, held = (part.astype(self._dtype, copy=False) for part in (sent.values, held))
        a, b = (held, delta) if right else (delta, held)
        total = a @ (b.swapaxes(-1, -2) if layer.transposed else b)
        total *= self._dtype(2.0**shift)
        return Sums(total)


@dataclasses.dataclass(frozen=True, eq=False)
class _Compiled:
    edges: list[tuple[int, int]]  # first and last input channel of each group of lanes
    groups: list[Group]  # group of lanes by group of lanes, tap by tap
    lsb: int


class ExactCore(Core):
    """Sums of `golden.units.multiplier_group`: each group rounded once to the accumulators' unit, and added exactly."""

    def __init__(self, parameters: Parameters):
        super().__init__(parameters)
        self._compiled: dict[str, _Compiled] = {}
        self._wide = parameters.accumulator_width > 53
        self._digits = float(2 ** (parameters.digit_width - 1)) if parameters.outliers == 0 else None

    def product(
        self, layer: Layer, sent: Passes, segments: tuple[int, ...], unit: int | np.ndarray, result: int, passes: int
    ) -> Sums:
        """Pass by pass, group by group, tap by tap."""
        if layer.name not in self._compiled:
            self._compiled[layer.name] = self._compile(layer, segments, _pieces(layer, unit) - result, passes)
        weights = self._compiled[layer.name]
        total = None
        for term in sent.terms:
            if isinstance(layer, Convolution):
                taps = layer.weight.shape[2] * layer.weight.shape[3]
                columns = layer.columns(term).reshape(layer.whole_weight.shape[1], taps, -1)
            else:
                columns = np.ascontiguousarray(term.reshape(-1, term.shape[-1]).T)[:, None]
            bound = _bound(term, self._digits)
            if total is None:
                total = np.zeros((len(layer.weight), columns.shape[2]), object if self._wide else np.float64)
            for index, (start, stop) in enumerate(weights.edges):
                for tap in range(columns.shape[1]):
                    row = weights.groups[index * columns.shape[1] + tap]
                    total += row.times(columns[start:stop, tap], bound, wide=self._wide)
        if isinstance(layer, Convolution):
            batch, _, height, width = layer.shape(sent.values.shape)
            total = np.ascontiguousarray(total.reshape(-1, batch, height, width).transpose(1, 0, 2, 3))
        else:
            total = np.ascontiguousarray(total.T).reshape(*sent.values.shape[:-1], -1)
        return Sums(total, weights.lsb)

    def _compile(self, layer: Layer, segments: tuple[int, ...], shift: np.ndarray, passes: int) -> _Compiled:
        machine, n = self.parameters, self.parameters.lanes
        weight = layer.whole_weight.reshape(*layer.whole_weight.shape[:2], -1)
        taps = weight.shape[2]
        grouping = Grouping(-1, segments or (weight.shape[1],), n)
        edges = [(int(a), int(a + b)) for a, b in zip(grouping.starts, grouping.lengths, strict=True)]
        integers, units = [], []
        for start, stop in edges:
            patterns = np.zeros((len(weight), taps, n), np.uint16)
            patterns[..., : stop - start] = weight_patterns(weight[:, start:stop], machine).transpose(0, 2, 1)
            values, exponent = align_weights(patterns, machine)
            integers.append(values[..., : stop - start])
            units.append(exponent - machine.fraction_bits + shift[start])
        unit = np.concatenate(units, axis=1)
        totals = np.concatenate([np.abs(part.astype(np.int64)).sum(axis=-1) for part in integers], axis=1)
        lsb = self._window(unit, totals, passes)
        groups = [
            Group(part[:, tap], (exponent[:, tap] - lsb)[:, None])
            for part, exponent in zip(integers, units, strict=True)
            for tap in range(taps)
        ]
        return _Compiled(edges, groups, lsb)

    def _window(self, unit: np.ndarray, totals: np.ndarray, passes: int) -> int:
        """The least ``L`` whose window provably holds every sum of ``|d| < 3 2^(w-2)`` (numerics, 12.11)."""
        machine = self.parameters
        most = 3 * 2 ** (machine.state_width - 2)
        worst = largest_dequantised(machine, most * 2.0**-24, passes=passes) * 2**24
        low = int(unit.min())
        largest = max(
            sum(int(t) << int(u) - low for t, u in zip(row, exponents, strict=True))
            for row, exponents in zip(totals, unit, strict=True)
        )
        roundings, lsb = Fraction(passes * unit.shape[1], 2), low
        limit = 2 ** (machine.accumulator_width - 1) - 1
        if roundings > limit / 2:
            raise ValueError(
                f"accumulator_width must hold the roundings of {passes * unit.shape[1]} groups, "
                f"not be {machine.accumulator_width}"
            )
        while worst * largest * Fraction(2) ** (low - lsb) + roundings * (lsb > low) > limit:
            lsb += 1
        return lsb

    def matmul(self, layer: Layer, sent: Passes, held: np.ndarray, *, right: bool, shift: int) -> Sums:
        """Pass by pass, group by group; a sum that leaves its accumulator clamps there."""

        def weights(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            found = align_state(rows.astype(np.int64), self.parameters)
            return found.weights, found.exponent

        return self._times(layer, sent, held, right, shift, weights)

    def conditioned(self, layer: Layer, sent: Passes, fixed: np.ndarray, *, right: bool, shift: int) -> Sums:
        """As `matmul`."""

        def weights(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            integers, exponent = align_weights(weight_patterns(rows, self.parameters), self.parameters)
            return integers, exponent - self.parameters.fraction_bits

        return self._times(layer, sent, fixed, right, shift, weights)

    def _times(
        self,
        layer: Layer,
        sent: Passes,
        held: np.ndarray,
        right: bool,
        shift: int,
        weights: Callable[[np.ndarray], Any],
    ) -> Sums:
        machine = self.parameters
        lsb = machine.state_width + 1 - machine.accumulator_width
        rows = held if right or layer.transposed else held.swapaxes(-1, -2)
        grouping = Grouping(-1, (rows.shape[-1],), machine.lanes)
        compiled = []
        for start, length in zip(grouping.starts.tolist(), grouping.lengths.tolist(), strict=True):
            integers, exponent = weights(rows[..., start : start + length])
            compiled.append((start, start + length, Group(integers, (exponent + shift - lsb)[..., None])))
        dtype = object if self._wide else np.float64
        total = np.zeros((), dtype)
        half = 2 ** (machine.accumulator_width - 1)
        for term in sent.terms:
            if right and not layer.transposed:
                term = term.swapaxes(-1, -2)
            bound = _bound(term, self._digits)
            for start, stop, group in compiled:
                columns = np.ascontiguousarray(term[..., start:stop].swapaxes(-1, -2))
                total = total + group.times(columns, bound, wide=self._wide).astype(dtype, copy=False)
                if max(-total.min(), total.max()) >= half:
                    total = np.clip(total, -half, half - 1)
        return Sums(total if right else np.ascontiguousarray(total.swapaxes(-1, -2)), lsb)


def _bound(counts: np.ndarray, digits: float | None) -> Bound:
    """What is known of the lanes of a group, in counts."""
    found = Bound.of(np.asarray(counts, np.float64) * 2.0**-24, digits)
    return Bound(found.unit + 24, found.largest)
