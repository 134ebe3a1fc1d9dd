"""Sums of groups as accumulators take them, on exact numbers, and patterns of weights."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from golden import formats
from golden.diffusion.differential.quantise import Grouping, weight_numbers
from golden.diffusion.layers import Convolution, Layer
from golden.parameters import EXPONENT_BIAS, Parameters


def low_zeros(integers: np.ndarray) -> int:
    """Zeros that every integer ends in; 0 if there is none but 0."""
    bits = int(np.bitwise_or.reduce(integers, axis=None))
    return (bits & -bits).bit_length() - 1 if bits else 0


@dataclasses.dataclass(frozen=True)
class Bound:
    """Of values: the exponent of a `unit` that all are multiples of, and their `largest` magnitude as integers.

    Where the lanes of a group are digits of one exponent, the integers of a group are its digits.
    """

    unit: int
    largest: float

    @classmethod
    def of(cls, values: np.ndarray, digits: float | None) -> "Bound":
        """Bound of multiples of ``2^-24``; `digits` is the magnitude that no digit exceeds, if that is known."""
        integers = np.rint(values * 2.0**EXPONENT_BIAS).astype(np.int64)
        unit = low_zeros(integers) - EXPONENT_BIAS
        return cls(unit, float(np.abs(values).max(initial=0)) * 2.0**-unit if digits is None else digits)


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Weights of one group: ``integers`` (..., rows, lanes), and of each row the `scale` to the accumulator's unit."""

    integers: np.ndarray
    scale: np.ndarray

    @functools.cached_property
    def _real(self) -> np.ndarray:
        return np.ldexp(self.integers.astype(np.float64), self.scale)

    @functools.cached_property
    def _single(self) -> np.ndarray:
        return self._real.astype(np.float32)

    @functools.cached_property
    def _most(self) -> float:
        """Largest sum of magnitudes of a row."""
        return float(np.abs(self.integers.astype(np.float64)).sum(axis=-1).max(initial=0))

    def times(self, columns: np.ndarray, bound_of: Bound, *, wide: bool = False) -> np.ndarray:
        """``RNE(S * 2^scale)`` of all rows and columns: floats that hold it or, if `wide`, Python integers.

        Parameters
        ----------
        columns : float32 (..., lanes, columns)
            Dequantised group of each column.
        bound_of : Bound
            What is known of them.
        wide : bool
            Whether the accumulator has more than 53 bits.
        """
        bound = self._most * bound_of.largest
        if bound < 2.0**53:
            # binary32 has no room for the weights in units of a wide accumulator
            single = bound < 2.0**24 and not wide
            result = self._single @ columns if single else self._real @ columns.astype(np.float64)
            np.rint(result, out=result)
            return _integer(result) if wide else result
        dtype = np.int64 if bound < 2.0**62 else object
        fixed = np.rint(columns.astype(np.float64) * 2.0**-bound_of.unit).astype(np.int64)
        sums = self.integers.astype(dtype) @ fixed.astype(dtype)
        return formats.round_shift(sums, -(self.scale + bound_of.unit)).astype(object if wide else np.float64)


_integer = np.frompyfunc(int, 1, 1)


def group_edges(segments: tuple[int, ...], lanes: int) -> list[tuple[int, int]]:
    """First index of each group of lanes on an axis, and the one behind it; `segments` are padded apart."""
    grouping = Grouping(-1, segments, lanes)
    return [(int(a), int(a + b)) for a, b in zip(grouping.starts, grouping.lengths, strict=True)]


def grouped_patterns(layer: Layer, edges: Sequence[tuple[int, int]], parameters: Parameters) -> list[np.ndarray]:
    """Patterns of a layer's weights, uint16 (outputs, taps, n) for each group of lanes, padded with zeros."""
    weight, found = layer.whole_weight.reshape(*layer.whole_weight.shape[:2], -1), []
    for start, stop in edges:
        patterns = np.zeros((len(weight), weight.shape[2], parameters.lanes), np.uint16)
        patterns[..., : stop - start] = weight_patterns(weight[:, start:stop], parameters).transpose(0, 2, 1)
        found.append(patterns)
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Compiled:
    """Weights of a layer as an accumulator takes them.

    Members
    -------
    edges : list of pairs of int
        See `group_edges`, of the input channels.
    groups : list of Group
        Group of lanes by group of lanes, tap by tap.
    lsb : int, or int array (outputs,)
        Exponent of the accumulators' unit.
    """

    edges: list[tuple[int, int]]
    groups: list[Group]
    lsb: int | np.ndarray

    def product(
        self,
        layer: Layer,
        terms: Sequence[np.ndarray],
        bound: Callable[[np.ndarray], Bound],
        *,
        wide: bool,
        limit: Callable[[np.ndarray], int | None] = lambda term: None,
    ) -> np.ndarray:
        """Sums of all groups of all terms, each rounded once to the accumulators' unit.

        Parameters
        ----------
        layer : Layer
            A product with weights.
        terms : sequence of arrays
            What each group of a vector holds, in the shape of the operand.
        bound : callable
            What is known of a term.
        wide : bool
            Whether sums are Python integers.
        limit : callable
            For a term the accumulator's largest magnitude, where a sum may leave it and clamps.

        Returns
        -------
        array
            In units of ``2^lsb``, in the shape of the layer's output.
        """
        total = None
        for term in terms:
            if isinstance(layer, Convolution):
                taps = layer.weight.shape[2] * layer.weight.shape[3]
                columns = layer.columns(term).reshape(term.shape[1], taps, -1)
            else:
                columns = np.ascontiguousarray(term.reshape(-1, term.shape[-1]).T)[:, None]
            known, most = bound(term), limit(term)
            if total is None:
                total = np.zeros((len(layer.whole_weight), columns.shape[2]), object if wide else np.float64)
            for index, (start, stop) in enumerate(self.edges):
                for tap in range(columns.shape[1]):
                    group = self.groups[index * columns.shape[1] + tap]
                    total += group.times(columns[start:stop, tap], known, wide=wide)
                    if most is not None:
                        total = np.clip(total, -most - 1, most)
        if isinstance(layer, Convolution):
            batch, _, height, width = layer.shape(terms[0].shape)
            return np.ascontiguousarray(total.reshape(-1, batch, height, width).transpose(1, 0, 2, 3))
        return np.ascontiguousarray(total.T).reshape(*terms[0].shape[:-1], -1)


def grouped_matmul(
    layer: Layer,
    terms: Sequence[np.ndarray],
    fixed: np.ndarray,
    weights: Callable[[np.ndarray], Group],
    bound: Callable[[np.ndarray], Bound],
    beyond: Callable[[np.ndarray], np.ndarray],
    *,
    right: bool,
    parameters: Parameters,
) -> np.ndarray:
    """Sums of a product of two activations, group by group along the contracted axis.

    Parameters
    ----------
    layer : Layer
        The product.
    terms : sequence of arrays
        What each group of a vector of the moving operand holds: the left one or, if `right`, the right one.
    fixed : array
        The other operand.
    weights : callable
        Of rows of the fixed operand, a group of lanes long, integers and their scale to the accumulators' unit.
    bound : callable
        What is known of a term.
    beyond : callable
        What becomes of sums of which one is past the accumulators' range.

    Returns
    -------
    array
        In the accumulators' unit, in the shape of the layer's output; Python integers past 53 bits.
    """
    rows = fixed if right or layer.transposed else fixed.swapaxes(-1, -2)
    edges = group_edges((rows.shape[-1],), parameters.lanes)
    groups = [weights(rows[..., start:stop]) for start, stop in edges]
    wide = parameters.accumulator_width > 53
    total, half = np.zeros((), object if wide else np.float64), 2 ** (parameters.accumulator_width - 1)
    for term in terms:
        if right and not layer.transposed:
            term = term.swapaxes(-1, -2)
        known = bound(term)
        for (start, stop), group in zip(edges, groups, strict=True):
            columns = np.ascontiguousarray(term[..., start:stop].swapaxes(-1, -2))
            total = total + group.times(columns, known, wide=wide).astype(total.dtype, copy=False)
            if max(-total.min(), total.max()) >= half:
                total = beyond(total)
    return total if right else np.ascontiguousarray(total.swapaxes(-1, -2))


def weight_patterns(values: np.ndarray, parameters: Parameters) -> np.ndarray:
    """Patterns of the nearest weights."""
    numbers = weight_numbers(np.ascontiguousarray(values, np.float32), parameters)
    if parameters.weight_format == "float16":
        return numbers.astype(np.float16).view(np.uint16)
    return (numbers.view(np.uint32) >> 16).astype(np.uint16)
