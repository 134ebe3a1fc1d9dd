"""Products, fast and exact (numerics, sections 6 and 7, and 12.11 to 12.13): sums in units of the state behind them."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from golden.diffusion.differential.arithmetic import align
from golden.diffusion.differential.quantise import Passes
from golden.diffusion.differential.sums import (
    Bound,
    Compiled,
    Group,
    group_edges,
    grouped_matmul,
    grouped_patterns,
    weight_patterns,
)
from golden.diffusion.layers import Layer
from golden.parameters import EXPONENT_BIAS, Parameters
from golden.units.closed_loop import align as align_state
from golden.units.weights import align_weights, product_exponent


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
            Groups of a vector at most, in whatever step: the window is proven for them.
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


class ExactCore(Core):
    """Sums of `golden.units.multiplier_group`: each group rounded once to the accumulators' unit, and added exactly."""

    def __init__(self, parameters: Parameters):
        super().__init__(parameters)
        self._compiled: dict[str, Compiled] = {}
        self._wide = parameters.accumulator_width > 53
        self._digits = float(2 ** (parameters.digit_width - 1)) if parameters.outliers == 0 else None

    def product(
        self, layer: Layer, sent: Passes, segments: tuple[int, ...], unit: int | np.ndarray, result: int, passes: int
    ) -> Sums:
        """Pass by pass, group by group, tap by tap."""
        if layer.name not in self._compiled:
            self._compiled[layer.name] = self._compile(layer, segments, _pieces(layer, unit) - result, passes)
        weights = self._compiled[layer.name]
        return Sums(weights.product(layer, sent.terms, self._bound, wide=self._wide), weights.lsb)

    def _bound(self, counts: np.ndarray) -> Bound:
        """What is known of the lanes of a group, in counts."""
        found = Bound.of(np.asarray(counts, np.float64) * 2.0**-EXPONENT_BIAS, self._digits)
        return Bound(found.unit + EXPONENT_BIAS, found.largest)

    def _compile(self, layer: Layer, segments: tuple[int, ...], shift: np.ndarray, passes: int) -> Compiled:
        machine = self.parameters
        edges = group_edges(segments or (layer.whole_weight.shape[1],), machine.lanes)
        integers, units = [], []
        for (start, stop), patterns in zip(edges, grouped_patterns(layer, edges, machine), strict=True):
            values, exponent = align_weights(patterns, machine)
            integers.append(values[..., : stop - start])
            units.append(exponent - machine.fraction_bits + shift[start])
        unit = np.concatenate(units, axis=1)
        totals = np.concatenate([np.abs(part.astype(np.int64)).sum(axis=-1) for part in integers], axis=1)
        lsb = product_exponent(unit, totals, machine, passes=passes)
        groups = [
            Group(part[:, tap], (exponent[:, tap] - lsb)[:, None])
            for part, exponent in zip(integers, units, strict=True)
            for tap in range(part.shape[1])
        ]
        return Compiled(edges, groups, lsb)

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
        half = 2 ** (machine.accumulator_width - 1)

        def group(rows: np.ndarray) -> Group:
            integers, exponent = weights(rows)
            return Group(integers, (exponent + shift - lsb)[..., None])

        def beyond(total: np.ndarray) -> np.ndarray:
            return np.clip(total, -half, half - 1)

        return Sums(
            grouped_matmul(layer, sent.terms, held, group, self._bound, beyond, right=right, parameters=machine), lsb
        )
