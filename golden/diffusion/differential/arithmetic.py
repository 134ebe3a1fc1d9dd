"""What computes in the rivals, raw, diffy and the open loop: their primitives, in floating point.

`golden.diffusion.differential.exact` has the same primitives on exact numbers; the closed loop has its own, in
`golden.diffusion.differential.fixed`.
"""

import functools
from collections.abc import Sequence

import numpy as np

from golden.diffusion.differential.method import Method
from golden.diffusion.differential.quantise import (
    Grouping,
    Passes,
    half,
    quantise,
    quantise_tensor,
    weight_numbers,
)
from golden.diffusion.layers import Layer, Role
from golden.formats import FORMATS
from golden.parameters import EXPONENT_BIAS, Parameters
from golden.units.activations import activation
from golden.units.sign_mask import segments


@functools.cache
def _outcomes(name: str) -> np.ndarray:
    """Results of an activation for all FP16 patterns, float32; for an infinity that of the largest number."""
    results = activation(name, np.arange(2**16, dtype=np.uint16)).values.view(np.float16).astype(np.float32)
    results[0x7C00], results[0xFC00] = results[0x7BFF], results[0xFBFF]
    return results


def tabulated(name: str, values: np.ndarray) -> np.ndarray:
    """Activation of values, which are rounded to FP16 and clamped first: FP16 numbers held as float32."""
    with np.errstate(over="ignore"):
        return _outcomes(name)[values.astype(np.float16).view(np.uint16)]


def align(weights: np.ndarray, axis: int, parameters: Parameters, segments: tuple[int, ...] = ()) -> np.ndarray:
    """Weights rounded to what aligned weights can hold (numerics, section 6), as float32.

    Parameters
    ----------
    weights : float32
        Any finite values; they are rounded to the format of weights first.
    axis : int
        The contracted axis.
    parameters : Parameters
        Gives the format, n and F.
    segments : tuple of int
        Lengths that are padded to groups separately; the default is the whole axis.
    """
    axis = axis if axis < 0 else axis - weights.ndim
    weights = weight_numbers(weights, parameters)
    grouping = Grouping(axis, segments or (weights.shape[axis],), parameters.lanes)
    parts = grouping.split(weights)
    exponent = np.frexp(np.abs(parts).max(axis=parts.ndim + axis, keepdims=True))[1] - 1
    lsb = np.maximum(exponent, FORMATS[parameters.weight_format].least) - parameters.fraction_bits
    # BF16 has numbers whose unit's reciprocal binary32 has not
    one = np.float32(1) if parameters.weight_format == "float16" else np.float64(1)
    rounded = np.rint(parts * np.ldexp(one, -lsb)) * np.ldexp(one, lsb)
    return grouping.join(rounded).astype(np.float32, copy=False)


def _declared(weights: np.ndarray, parameters: Parameters) -> np.ndarray:
    """Weights in float form; beyond the declared range they are refused, as by the units (numerics, section 13.10)."""
    numbers = weight_numbers(weights, parameters)
    low, high = parameters.weight_exponent_min, parameters.weight_exponent_max
    largest = float(np.abs(numbers).max(initial=0))
    if largest >= 2.0 ** (high + 1):
        raise ValueError(f"Weights must be zero or have exponents in {low}..{high}, not {largest:g}")
    return numbers


class Arithmetic:
    """Primitives that differential executors are written in; values are arrays of real numbers.

    Floating point with the machine's roundings: only sums of products differ from its bits, by their own rounding.

    Parameters
    ----------
    method : Method
        How a network is executed.
    dtype : type
        Of the products: float32, or float64, which holds nearly every sum exactly and takes twice the time.
    """

    def __init__(self, method: Method, dtype: type = np.float32):
        self._dtype = dtype
        self._method = method
        self._machine = method.machine
        self._half_state = method.flow == "diffy" or method.machine.state_format == "float16"
        self._top = np.float32(2 ** (method.machine.state_width - 1) - 1)
        self._weights: dict[str, np.ndarray] = {}

    # State ----------------------------------------------------------------------------------------------------------

    def grid(self, value: np.ndarray, s: int) -> np.ndarray:
        """Round to a multiple of ``2^s``, or to FP16 where the state is FP16; clamped."""
        if self._half_state:
            return half(np.asarray(value))
        result = value * np.float32(2.0**-s)
        np.rint(result, out=result)
        np.clip(result, -self._top, self._top, out=result)
        result *= np.float32(2.0**s)
        return result.astype(np.float32, copy=False)

    def difference(self, x: np.ndarray, held: np.ndarray) -> np.ndarray:
        """``x - held`` in full."""
        return x - held

    def change(self, now: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """``now - before`` as FP16 numbers, one rounding (numerics 14.1); `now` itself if nothing was before."""
        if before is None:
            return half(now)
        # states of fixed point have their difference in binary32, FP16 numbers need more
        return half((now.astype(np.float64) if self._half_state else now) - before)

    def add(
        self,
        held: np.ndarray | None,
        delta: np.ndarray,
        s: int,
        *,
        terms: Sequence[np.ndarray] = (),
        bias: np.ndarray | None = None,
    ) -> np.ndarray:
        """New state (numerics 11.1 and 11.2): what is held (None: nothing), plus a delta, plus a bias.

        The `terms` add up to the delta; an FP16 state takes them one by one. In the open loop a delta may lie between
        units of the state: it is rounded to them on its way in.
        """
        between = self._method.flow == "sign_mask"
        total = held
        for term in terms or (delta,):
            if self._half_state:
                term = half(term)
            elif between:
                term = np.rint(term * np.float32(2.0**-s)) * np.float32(2.0**s)
            total = term if total is None else total + term
            if self._half_state:  # binary32 holds enough of the sum that rounding it again is as good as rounding once
                total = half(total)
        if bias is not None:
            total = half(total + bias) if self._half_state else total + bias
        if not self._half_state:
            top = self._top * np.float32(2.0**s)
            total = np.clip(total, -top, top)
        return total

    def bias(self, layer: Layer, s: int) -> np.ndarray | None:
        """Bias of a layer in the state's format, ready to be added; None if it has none."""
        bias = getattr(layer, "bias", None)
        if bias is None:
            return None
        return self.grid(bias, s).reshape(-1, *[1] * (-1 - layer.channel_axis))

    # Core and link --------------------------------------------------------------------------------------------------

    def quantise(
        self,
        difference: np.ndarray,
        grouping: Grouping,
        *,
        passes: int | np.ndarray,
        floor: int,
        exponent: int | None = None,
        tensor_scale: bool = False,
    ) -> Passes:
        """Delta groups of differences, which are rounded to FP16 first; exponents are at least `floor`.

        With `tensor_scale` digits of one scale an item (numerics 13.12).
        """
        if tensor_scale:
            return quantise_tensor(difference, grouping, self._machine.digit_width)
        floor = -EXPONENT_BIAS if self._half_state else floor
        passes = passes[..., None] if isinstance(passes, np.ndarray) else passes
        return self._groups(difference, grouping, passes, floor, exponent)

    def _groups(
        self, difference: np.ndarray, grouping: Grouping, passes: int | np.ndarray, floor: int, exponent: int | None
    ) -> Passes:
        return quantise(
            half(difference),
            grouping,
            self._machine,
            passes=passes,
            floor=floor,
            exponent=None if exponent is None else max(exponent, floor),
            split=self._half_state,
        )

    def product(
        self, layer: Layer, delta: np.ndarray, segments: tuple[int, ...] = (), *, terms: Sequence[np.ndarray] = ()
    ) -> np.ndarray:
        """Weights times deltas, without bias, in the form that `outputs` takes.

        The `terms` add up to the delta; exact numbers are multiplied group by group.
        """
        if layer.name not in self._weights:
            machine = self._machine
            if machine.weight_form == "aligned":
                weight = align(layer.whole_weight, 1, machine, segments)
            else:
                weight = _declared(layer.whole_weight, machine)
            self._weights[layer.name] = weight.astype(self._dtype, copy=False)
        return layer.product(delta.astype(self._dtype, copy=False), self._weights[layer.name])

    def matmul(
        self, layer: Layer, a: np.ndarray, b: np.ndarray, *, right: bool = False, terms: Sequence[np.ndarray] = ()
    ) -> np.ndarray:
        """Product of two activations, without the layer's factor; what is no delta (`right`: the left one) are weights.

        The `terms` add up to the delta.
        """
        machine = self._machine
        raw, axis = (a, layer.contracted[0]) if right else (b, layer.contracted[1])
        raw = align(raw, axis, machine) if machine.weight_form == "aligned" else _declared(raw, machine)
        a, b = (one.astype(self._dtype, copy=False) for one in ((raw, b) if right else (a, raw)))
        return a @ (b.swapaxes(-1, -2) if layer.transposed else b)

    def scaled(self, sums: np.ndarray, layer: Layer, scale: np.ndarray | None = None) -> np.ndarray:
        """Products times the factor of their layer, or times the `scale` of each item's digits: FP16 numbers."""
        factor = getattr(layer, "scale", 1.0)
        if scale is not None:
            sums = sums * scale
        elif factor != 1.0:
            sums = sums * half(np.float32(factor))
        return half(sums)

    def outputs(self, change: np.ndarray, layer: Layer, s: int, *, scale: np.ndarray | None = None) -> np.ndarray:
        """Products as they reach the state; `scale` is that of what was multiplied, if it came as digits of one."""
        change = self.scaled(change, layer, scale)
        return change if self._half_state else self.grid(change, s)

    # Near memory ----------------------------------------------------------------------------------------------------

    def mask(self, state: np.ndarray, s: int) -> np.ndarray:
        """Sign mask of a state, bool (numerics 9.1)."""
        return state >= 0

    def sloped(self, function: str, state: np.ndarray, values: np.ndarray, s: int) -> np.ndarray:
        """FP16 values times the slopes of the segments that a state is in, FP16 numbers (numerics 9.4)."""
        table = segments(function, self._machine.mask_width)
        borders = table.fixed(-6 if self._half_state else s)  # FP16 holds the thresholds, units of 1/64, exactly
        codes = np.searchsorted(borders * 2.0 ** (-6 if self._half_state else s), state.ravel(), side="right")
        slopes = np.array(table.slopes, np.uint16).view(np.float16).astype(np.float32)
        return half(slopes[codes].reshape(state.shape) * values)

    def near(self, layer: Layer, values: Sequence[np.ndarray]) -> np.ndarray:
        """A layer near memory, from raw values (numerics 13.1 to 13.7)."""
        values = [np.asarray(value, np.float32) for value in values]
        if layer.role is Role.SOFTMAX:
            return self._softmax(layer, values[0])
        if layer.function is not None:
            return tabulated(layer.function, values[0])
        if layer.role is Role.MEAN:
            return self._mean(layer, values[0])
        if layer.role is Role.NORM:
            return self._norm(layer, values[0])
        # moved, or every operation is one of binary32, in the order in which the layer writes them
        return layer(*values)

    def _softmax(self, layer: Layer, value: np.ndarray) -> np.ndarray:
        e = tabulated(layer.function, value - value.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True, dtype=np.float64)

    def _mean(self, layer: Layer, value: np.ndarray) -> np.ndarray:
        return layer(value.astype(np.float64))  # exact sums of states, and quotients good enough to be rounded

    def _norm(self, layer: Layer, value: np.ndarray) -> np.ndarray:
        """Mean and variance in binary64: for states, nearly always as good as exact once rounded; then binary32."""
        shape = layer.sets(value.shape)
        rows = value.reshape(int(np.prod(shape)), -1).astype(np.float64)
        mean = rows.mean(axis=1) if layer.centred else np.zeros(len(rows))
        variance = np.einsum("ij,ij->i", rows, rows) / rows.shape[1] - mean * mean
        root = (1 / np.sqrt(variance + np.float64(np.float32(layer.epsilon)))).astype(np.float32)
        z = value.reshape(len(rows), -1) - mean.astype(np.float32)[:, None]
        return self._affine(layer, z, root, value.shape)

    def _affine(self, layer: Layer, rows: np.ndarray, factors: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The last binary32 operations of a norm: times a factor of each set, times the scale, plus the shift."""
        z = (rows * factors[:, None]).reshape(shape)
        if layer.weight is not None:
            z *= layer.per_channel(layer.weight, z.ndim)
        if layer.bias is not None:
            z += layer.per_channel(layer.bias, z.ndim)
        return z

    def divided(self, layer: Layer, delta: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        """A norm of deltas: over a given deviation of each statistics set, times the scale (numerics 14.2)."""
        z = np.asarray(delta, np.float32).reshape(deviation.size, -1)
        z = z * (np.float32(1) / np.asarray(deviation, np.float32)).reshape(-1, 1)
        z = z.reshape(delta.shape)
        if layer.weight is not None:
            z *= layer.per_channel(layer.weight, delta.ndim)
        return z
