"""The primitives of a differential execution on exact numbers: the bits that the machine produces, by the unit models.

Words: a *term* is what one group of each vector holds (a pass, or a replay), dequantised, as an array of the shape of
the tensor; the *reach* of a tensor is the power of two that no difference of two of its states exceeds.

Every value between layers is held as a float that is exactly a number of the machine: a state element (an integer of up
to 24 bits in units of ``2^s``), a binary32 number near memory, an FP16 number, or a sum in units of ``2^L``. Sums of a
group are matrix products of such floats, in binary32 or binary64 where that provably holds them, else in integers.
Sums of accumulators of more than 53 bits are Python integers.
Source: ``docs/numerics.md``.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from golden import formats
from golden.diffusion.differential.arithmetic import Arithmetic, tabulated
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import Profile
from golden.diffusion.differential.quantise import Grouping, Passes, Vectors
from golden.diffusion.differential.sums import (
    Bound,
    Compiled,
    Group,
    group_edges,
    grouped_matmul,
    grouped_patterns,
    low_zeros,
    weight_patterns,
)
from golden.diffusion.layers import Convolution, Layer, Role
from golden.diffusion.networks.graph import Network, main_values
from golden.parameters import EXPONENT_BIAS, ZERO_GROUP, Parameters
from golden.units.channel_scale import channel_scale
from golden.units.delta_quantizer import quantise_passes
from golden.units.sign_mask import mask_codes, segment_mask, segments
from golden.units.single_norm import Norm, normalise
from golden.units.weights import align_weights, compile_weights, weight_integers


def check_exact(method: Method, network: Network | None = None) -> None:
    """Refuse what has no exact form.

    Raises
    ------
    ValueError
        If the flow is dense, or a layer of the network that follows its first input has no bit-exact rule.
    """
    if method.flow == "dense":
        raise ValueError("flow must be differential in exact arithmetic, not dense, which is binary32 by definition")
    main = frozenset() if network is None else main_values(network)
    for layer in network.layers if network else ():
        if layer.name in main and layer.role in (Role.OTHER, Role.EMBEDDING):
            kind = type(layer).__name__
            raise ValueError(f"Layer {layer.name!r} must be of a class with a bit-exact rule, not {kind}")


class ExactArithmetic(Arithmetic):
    """The machine's bits.

    Parameters
    ----------
    method : Method
        How a network is executed.
    profile : Profile
        Of the network: units of the states, and with them the windows of the accumulators.

    Raises
    ------
    ValueError
        If `check_exact` refuses the method.
    """

    def __init__(self, method: Method, profile: Profile):
        check_exact(method)
        super().__init__(method, np.float64)
        machine = method.machine
        self._profile = profile
        self._wide = machine.accumulator_width > 53
        # in the open loop a group of a product may hold digits of several exponents, and repairs
        digits = machine.outliers == 0 and method.flow != "sign_mask"
        self._digits = float(2 ** (machine.digit_width - 1)) if digits else None
        self._passes = method.most_passes + machine.flip_repair * method.first_passes
        self._products: dict[str, tuple[Compiled, float]] = {}  # and the reach of what each reads
        self._lsb: dict[str, np.ndarray] = {}  # L of each output channel, by layer

    # State ----------------------------------------------------------------------------------------------------------

    def _clamped(self, units: np.ndarray, s: int) -> np.ndarray:
        """State of so many units of ``2^s``."""
        top = float(self._top)
        return (np.clip(units, -top, top) * 2.0**s).astype(np.float32)

    def grid(self, value: np.ndarray, s: int) -> np.ndarray:
        """Round to the state's format: fixed point or FP16, clamped."""
        value = np.asarray(value, np.float64)
        if not np.isfinite(value).all():
            raise ValueError("Values must be finite in exact arithmetic: poison is a matter of the units")
        if self._half_state:
            return _half(value)
        return self._clamped(np.rint(value * 2.0**-s), s)

    def difference(self, x: np.ndarray, held: np.ndarray) -> np.ndarray:
        """``x - held``, exactly."""
        return x.astype(np.float64) - held

    def change(self, now: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """``now - before`` as FP16 numbers, one rounding (numerics 14.1)."""
        return _half(now if before is None else self.difference(now, before))

    def add(
        self,
        held: np.ndarray | None,
        delta: np.ndarray,
        s: int,
        *,
        terms: Sequence[np.ndarray] = (),
        bias: np.ndarray | None = None,
    ) -> np.ndarray:
        """New state, as `golden.units.near_memory_engine` makes it (numerics 11.1 and 11.2)."""
        total = np.zeros(delta.shape) if held is None else held.astype(np.float64)
        if self._half_state:
            for term in terms or (delta,):
                total = _half(total + _half(term).astype(np.float64)).astype(np.float64)
            return _half(total) if bias is None else _half(total + bias)
        total *= 2.0**-s
        for term in terms or (delta,):
            total += np.rint(term * 2.0**-s)  # digits are whole units, outliers are rounded
        if bias is not None:
            total += bias * 2.0**-s
        return self._clamped(total, s)

    # Groups ---------------------------------------------------------------------------------------------------------

    def _groups(
        self, difference: np.ndarray, grouping: Grouping, passes: int | np.ndarray, floor: int, exponent: int | None
    ) -> Passes:
        """By `golden.units.delta_quantizer`."""
        return quantised(_pattern(difference), grouping, self._machine, passes, floor, exponent)

    def scaled(self, sums: np.ndarray, layer: Layer, scale: np.ndarray | None = None) -> np.ndarray:
        """Products times the factor of their layer: `golden.units.channel_scale`; or times a scale (numerics 13.12)."""
        lsb = self._lsb[layer.name]
        if isinstance(layer, Convolution):
            lsb = lsb[:, None, None]
        integers = sums if self._wide else np.rint(np.ldexp(sums, -lsb)).astype(np.int64)
        if scale is not None:
            significand, exponent = np.frexp(scale)
            factor = (significand * 2.0**24).astype(np.int64)
            return _value(formats.encode_half(integers.astype(object) * factor, lsb + exponent - 24)[0])
        factor = np.array([getattr(layer, "scale", 1.0)]).astype(np.float16).view(np.uint16)
        return _value(channel_scale(integers, False, factor, lsb, self._machine).values)

    def outputs(self, change: np.ndarray, layer: Layer, s: int, *, scale: np.ndarray | None = None) -> np.ndarray:
        """Products as they reach the state."""
        return self.grid(self.scaled(change, layer, scale), s)

    # Products -------------------------------------------------------------------------------------------------------

    def _reach(self, name: str) -> float:
        """Power of two that no delta of a tensor is to exceed; with flip repair one and a repair together."""
        width = self._machine.state_width + self._machine.flip_repair
        s = self._profile.state_exponent(name, self._machine.state_width)
        return min(2.0 ** (s + width), 65504.0)

    def _floor(self, name: str) -> int:
        """Exponent of the unit that every delta of a tensor is a multiple of."""
        if self._half_state:
            return -EXPONENT_BIAS
        return self._profile.state_exponent(name, self._machine.state_width)

    def product(
        self, layer: Layer, delta: np.ndarray, segments: tuple[int, ...] = (), *, terms: Sequence[np.ndarray] = ()
    ) -> np.ndarray:
        """Weights times deltas, as `golden.units.multiplier_group` sums them.

        Real numbers; with accumulators of more than 53 bits, integers in units of ``2^L``.
        """
        if layer.name not in self._products:
            self._compile(layer, segments)
        weights, reach = self._products[layer.name]
        limit = 2 ** (self._machine.accumulator_width - 1) - 1
        total = weights.product(
            layer,
            [np.asarray(term, np.float32) for term in terms or (delta,)],
            self._bounds(terms),
            wide=self._wide,
            limit=lambda term: limit if np.abs(term).max(initial=0) > reach else None,
        )
        if self._wide:
            return total
        return np.ldexp(total, weights.lsb.reshape(-1, *[1] * (-1 - layer.channel_axis)))

    def _bounds(self, terms: Sequence[np.ndarray]) -> Callable[[np.ndarray], Bound]:
        return lambda term: Bound.of(term, self._digits if terms else None)

    def _compile(self, layer: Layer, segments: tuple[int, ...]) -> None:
        machine, source = self._machine, layer.inputs[0]
        reach, floor, passes = self._reach(source), self._floor(source), self._passes
        if self._method.tensor_scale:
            reach, floor, passes = float(machine.digit_max), 0, 1
        edges = group_edges(segments or (layer.whole_weight.shape[1],), machine.lanes)
        patterns = np.concatenate(grouped_patterns(layer, edges, machine), axis=1)
        compiled = compile_weights(  # a static exponent is one that the group policy may choose for such a delta
            patterns,
            dataclasses.replace(machine, exponent_policy="group"),
            largest=reach,
            passes=passes,
            floor=floor + EXPONENT_BIAS,
        )
        integers = weight_integers(compiled.weights, machine)
        taps = integers.shape[1] // len(edges)
        groups = [
            Group(integers[:, group, : edges[group // taps][1] - edges[group // taps][0]], scale[:, None])
            for group, scale in enumerate(compiled.scale.T)
        ]
        self._products[layer.name] = Compiled(edges, groups, compiled.lsb), reach
        self._lsb[layer.name] = compiled.lsb

    def matmul(
        self, layer: Layer, a: np.ndarray, b: np.ndarray, *, right: bool = False, terms: Sequence[np.ndarray] = ()
    ) -> np.ndarray:
        """Product of two activations with one ``L``, summed as by `product`; weights are aligned as they arrive."""
        machine = self._machine
        if layer.name not in self._lsb:
            self._lsb[layer.name] = np.array(self._window(layer), np.int64)
        lsb = int(self._lsb[layer.name])

        def weights(rows: np.ndarray) -> Group:
            patterns = weight_patterns(rows, machine)
            if machine.weight_form == "aligned":
                integers, exponent = align_weights(patterns, machine)
                scale = exponent - machine.fraction_bits - lsb
            else:
                integers = weight_integers(patterns, machine)
                scale = np.full(patterns.shape[:-1], machine.weight_lsb - lsb)
            return Group(integers, scale[..., None])

        def beyond(total: np.ndarray) -> np.ndarray:
            raise ValueError(f"accumulator_width must hold the sums of {layer.name!r}, with least bit 2^{lsb}")

        fixed, delta = (a, b) if right else (b, a)
        moving = [np.asarray(term, np.float32) for term in terms or (delta,)]
        bounds = self._bounds(terms)
        total = grouped_matmul(layer, moving, fixed, weights, bounds, beyond, right=right, parameters=machine)
        return total if self._wide else total * 2.0**lsb

    def _window(self, layer: Layer) -> int:
        """``L`` of a product of activations: the accumulator holds twice what the state behind it does.

        No bound on every pair of operands is of use here: 32 bits would leave a unit of ``2^-12`` to scores of 2^5.
        """
        width = self._machine.state_width
        reach = 2.0 ** (self._profile.state_exponent(layer.name, width) + width) / abs(float(_half(layer.scale)))
        return int(np.frexp(reach)[1]) + 1 - (self._machine.accumulator_width - 1)

    # Near memory ----------------------------------------------------------------------------------------------------

    def _stored(self, state: np.ndarray, s: int) -> np.ndarray:
        """State as the units take it: integers, or FP16 patterns."""
        return _pattern(state) if self._half_state else np.rint(state * 2.0**-s).astype(np.int64)

    def mask(self, state: np.ndarray, s: int) -> np.ndarray:
        """Sign mask of a state (numerics 9.1)."""
        return mask_codes(self._stored(state, s), dataclasses.replace(self._machine, mask_width=1)).astype(np.bool_)

    def sloped(self, function: str, state: np.ndarray, values: np.ndarray, s: int) -> np.ndarray:
        """FP16 values times the slopes of the segments that a state is in (numerics 9.4)."""
        table = segments(function, self._machine.mask_width)
        codes = mask_codes(self._stored(state, s), self._machine, thresholds=table.of(self._machine, s))
        return _value(segment_mask(_pattern(values), codes, table.slopes).values)

    def _mean(self, layer: Layer, value: np.ndarray) -> np.ndarray:
        pixels = layer.averaged(np.rint(value * 2.0**EXPONENT_BIAS).astype(np.int64))
        return self._quotient(pixels.sum(axis=-1), pixels.shape[-1], -EXPONENT_BIAS, layer)

    def _softmax(self, layer: Layer, value: np.ndarray) -> np.ndarray:
        """One rounding of ``e_i / sum e``."""
        value = value.astype(np.float64)
        below = value - value.max(axis=-1, keepdims=True)  # exact: both are states of one unit
        e = (tabulated("exp", below).astype(np.float64) * 2.0**EXPONENT_BIAS).astype(np.int64)
        return self._quotient(e, e.sum(axis=-1, keepdims=True), 0, layer)

    def _quotient(self, dividend: np.ndarray, divisor: np.ndarray | int, exponent: int, layer: Layer) -> np.ndarray:
        """``dividend / divisor * 2^exponent``, rounded once to the unit of the layer's state, or to FP16."""
        s = self._profile.state_exponent(layer.name, self._machine.state_width)
        unit = -30 if self._half_state else s  # 2^-30: FP16 sees no more of it than whether there is a rest
        divisor = formats.shift_left(divisor, max(unit - exponent, 0))
        quotient, rest = np.divmod(formats.shift_left(dividend, max(exponent - unit, 0)), divisor)
        if self._half_state:
            return _value(formats.encode_half(2 * quotient + (rest > 0), unit - 1)[0])
        up = (2 * rest > divisor) | ((2 * rest == divisor) & (quotient & 1 == 1))
        return self._clamped((quotient + up).astype(np.float64), s)

    def _norm(self, layer: Layer, value: np.ndarray) -> np.ndarray:
        rows, exponent = _rows(layer, value)
        sets = np.broadcast_to(np.arange(len(rows))[:, None], rows.shape)
        gamma, beta = (_factors(layer, name, value, rows.shape) for name in ("weight", "bias"))
        norm = Norm(sets, 1.0 if gamma is None else gamma, 0.0 if beta is None else beta, layer.epsilon, layer.centred)
        return normalise(rows, np.zeros(rows.shape, np.bool_), norm, exponent)[0].reshape(value.shape)


def _half(values: np.ndarray) -> np.ndarray:
    """Nearest FP16 numbers, clamped, zero always +0, as float32: one rounding."""
    with np.errstate(over="ignore"):
        result = np.asarray(values, np.float64).astype(np.float16).astype(np.float32)
    return np.clip(result, -65504, 65504) + np.float32(0)


def _pattern(values: np.ndarray) -> np.ndarray:
    """FP16 patterns of the nearest numbers, clamped."""
    return _half(values).astype(np.float16).view(np.uint16)


def _value(patterns: np.ndarray) -> np.ndarray:
    return patterns.view(np.float16).astype(np.float32)


def quantised(
    patterns: np.ndarray,
    grouping: Grouping,
    parameters: Parameters,
    passes: int | np.ndarray,
    floor: int,
    exponent: int | None,
) -> Passes:
    """FP16 patterns through `golden.units.delta_quantizer`, vectors of different numbers of passes apart.

    Parameters
    ----------
    patterns : uint16
        Of any shape.
    grouping : Grouping
        How they are cut into vectors.
    parameters : Parameters
        Of the machine.
    passes : int, or int array broadcast against `Passes.exponent`
        1 or more.
    floor : int
        Least exponent (not its code).
    exponent : int or None
        The static one, raised to `floor`; None: the group policy.
    """
    vectors = Vectors(patterns, grouping, parameters.lanes)
    flat, n, k = vectors.flat, parameters.lanes, parameters.digit_width
    counts = vectors.rows(np.asarray(passes))
    least = floor if exponent is None else max(exponent, floor)
    first = np.full(len(flat), least, np.int32)
    terms: list[np.ndarray] = []
    exact = np.zeros(flat.shape, np.bool_) if parameters.outliers else None
    for count in np.unique(counts):
        rows = np.flatnonzero(counts == count)
        result = quantise_passes(
            flat[rows],
            parameters,
            int(count),
            floor=floor + EXPONENT_BIAS,
            by_group=exponent is None,
            exponent=least + EXPONENT_BIAS,
        )
        starts = np.searchsorted(result.vector, np.arange(len(rows)))
        number = np.arange(len(result.vector)) - starts[result.vector]
        where = rows[result.vector]
        fixed = (result.groups.fixed() * 2.0**-EXPONENT_BIAS).astype(np.float32)
        for index in range(int(number.max(initial=-1)) + 1):
            if index == len(terms):
                terms.append(np.zeros(flat.shape, np.float32))
            terms[index][where[number == index]] = fixed[number == index]
        code = result.groups.exponent[starts].astype(np.int32)
        if exponent is None:  # a zero group has the least exponent
            first[rows] = np.where(code == ZERO_GROUP, least, code - EXPONENT_BIAS)
        if exact is not None:
            groups, slots = np.nonzero(result.groups.outlier_valid)
            exact[where[groups], result.groups.outlier_lane[groups, slots]] = True
    values = sum((term.astype(np.float64) for term in terms), np.zeros(flat.shape))
    saturated = 0
    if exponent is not None:
        over = np.abs(_value(flat)) >= (2**k - 1) * 2.0 ** (least - 1)
        saturated = int(np.count_nonzero(over if exact is None else over & ~exact))
    last = np.maximum(first - (counts - 1) * (k - 1), floor).astype(np.int32)
    return Passes(
        vectors.tensor(values),
        vectors.groups(_value(flat)),
        vectors.groups(first[:, None]),
        vectors.groups(last[:, None]),
        None if exact is None else vectors.groups(exact),
        saturated,
        tuple(vectors.tensor(term[:, :n]) for term in terms),
    )


def _rows(layer: Layer, value: np.ndarray) -> tuple[np.ndarray, int]:
    """State as integers, a row for each statistics set, and the exponent of their unit: the coarsest that holds all."""
    units = value.astype(np.float64) * 2.0**EXPONENT_BIAS
    whole = np.rint(units)
    if (whole != units).any() or np.abs(whole).max(initial=0) >= 2.0**62:
        raise ValueError(f"Norm {layer.name!r} must read a state, not values between its units")
    integers = whole.astype(np.int64)
    shift = low_zeros(integers)
    integers >>= shift
    if not formats.fits(integers, 31):
        raise ValueError(f"Norm {layer.name!r} must read states of at most 31 bits over all parts of a concatenation")
    sets = math.prod(layer.sets(value.shape))
    return integers.reshape(sets, -1), shift - EXPONENT_BIAS


def _factors(layer: Layer, name: str, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """Scale or shift of a norm for each element of its rows; None if it has none."""
    factor = getattr(layer, name)
    if factor is None:
        return None
    return np.broadcast_to(layer.per_channel(factor, value.ndim), value.shape).reshape(shape)
