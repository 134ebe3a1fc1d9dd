"""Execution on deltas alone: the published dataflow, in which the sign bits of the step before stand for an activation.

Words: a `Flow` is a value on its way: its *delta* of this step, all the core sees, and its *raw* value, the sum near
memory of what was sent. Deltas are quantised where they enter an activation or a product; an activation masks the very
groups that the near-memory engine gets too.

::

      product --> delta norm --> quantise --+--> mask by Y(t-1) >= 0 --> product
                                            |
                                            +--> near memory: Y += delta, new sign bits

What has no delta form (attention in raw form, softmax, modulation) is evaluated from raw values, and its delta is the
difference of two evaluations. Norms use the published rule: deviations calibrated for every step, averaged over the two
steps a delta lies between; the mean cancels. A step that sends raw values evaluates everything exactly.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from golden.differential.arithmetic import FloatArithmetic
from golden.differential.configuration import Configuration
from golden.differential.measure import Measure
from golden.differential.profile import ACTIVATIONS, Profile, main_values
from golden.differential.quantise import Grouping, half
from golden.networks.graph import Network, StatefulExecutor
from golden.networks.layers import Layer
from golden.units.sign_mask import segments

__all__ = ["Flow", "OpenLoop"]

BLENDING = ("mean", "average_pool", "rotary", "add_constant")
"""Linear kinds of one input that do more than put its values in another order."""


@dataclasses.dataclass(frozen=True, eq=False)
class Flow:
    """A value between two layers.

    Members
    -------
    raw : float32
        What near memory holds after this step.
    delta : float32
        What changed in this step; the raw value itself where an item starts anew.
    quantised : bool
        Whether `delta` is a sum of delta groups already.
    """

    raw: np.ndarray
    delta: np.ndarray
    quantised: bool = False


class OpenLoop(StatefulExecutor):
    """Executor of the flow sign_mask.

    Parameters
    ----------
    network : Network
        To run.
    configuration : Configuration
        How.
    profile : Profile
        Of the network and the number of steps.
    measure : Measure
        Takes notes of what is sent, if given.

    Raises
    ------
    ValueError
        If the configuration has another flow.
    """

    def __init__(
        self, network: Network, configuration: Configuration, profile: Profile, measure: Measure | None = None
    ):
        if configuration.flow != "sign_mask":
            raise ValueError(f"flow must be sign_mask in the open loop, not {configuration.flow}")
        self._network = network
        self._configuration = configuration
        self._profile = profile
        self._measure = measure
        self._arithmetic = FloatArithmetic(configuration)
        self._main = main_values(network)
        self._input = next(iter(network.inputs))
        self._raw: dict[str, np.ndarray] = {}  # by layer: its value, or for an activation what it masks by
        self._read: dict[tuple[str, int], np.ndarray] = {}  # by layer and operand: raw value it has taken account of
        self._ran: dict[str, tuple[int, int]] = {}  # by layer: the last two steps in which it ran
        self._held: dict[tuple[str, int], np.ndarray] = {}  # by layer and operand of a product of activations
        self._repairs: dict[str, np.ndarray] = {}
        self._deviation: dict[str, np.ndarray] = {}
        self._groups: dict[tuple[str, int], tuple[np.ndarray, Flow]] = {}  # of this step: a delta and what it became
        self._index, self._steps = -1, profile.steps
        self._fresh: bool | np.ndarray = True
        self._reference: np.ndarray | None = None

    def begin_step(self, index: int, steps: int, reference: np.ndarray | None = None) -> None:
        """A step begins: items of the batch take up their references, or start anew. Step 0 forgets all that was."""
        self._index, self._steps, self._reference = index, steps, reference
        self._fresh = self._configuration.refreshes(index)
        self._groups.clear()
        tensors = (self._raw, self._read, self._held, self._repairs, self._deviation)
        if index == 0:
            for states in (*tensors, self._ran):
                states.clear()
        if reference is None or self._fresh:
            return
        for states in tensors:
            for name, value in states.items():
                states[name] = value[np.maximum(reference, 0)]
        if (reference < 0).any():
            self._fresh = reference < 0

    def result(self, value: Flow | np.ndarray) -> np.ndarray:
        """Raw value of a flow."""
        return value.raw if isinstance(value, Flow) else value

    def held(self, value: Flow | np.ndarray) -> Flow | np.ndarray:
        """A flow that has not changed in this step."""
        return Flow(value.raw, np.zeros_like(value.raw), True) if isinstance(value, Flow) else value

    def __call__(self, layer: Layer, values: Sequence[Flow | np.ndarray]) -> Flow | np.ndarray:
        """Evaluate a layer."""
        if layer.name not in self._main:
            return layer(*values)
        flows = [self._arrive(layer, number, value) for number, value in enumerate(values)]
        self._ran[layer.name] = self._last(layer.name), self._index
        if layer.kind == "matmul":
            return self._matmul(layer, flows)
        if layer.contracted:
            return self._product(layer, flows[0])
        if layer.kind in ACTIVATIONS:
            return self._activation(layer, flows[0])
        if layer.kind in ("group_norm", "layer_norm"):
            return self._norm(layer, flows[0])
        raws = [flow.raw for flow in flows]
        conditioned = any(source not in self._main for source in layer.inputs)
        if layer.linear and (not conditioned or layer.kind == "add_channel"):
            return self._sum(layer, lambda: layer(*raws), lambda: self._linear(layer, flows), flows)
        return self._sum(layer, lambda: layer(*raws), None, flows)

    # Values ---------------------------------------------------------------------------------------------------------

    def _last(self, name: str) -> int:
        """Step before this one in which a layer ran the last time; -1: never."""
        before, latest = self._ran.get(name, (-1, -1))
        return before if latest == self._index else latest

    def _arrive(self, layer: Layer, number: int, value: Flow | np.ndarray) -> Flow:
        """Value as a flow whose delta covers everything since the layer last ran."""
        key = (layer.name, number)
        if not isinstance(value, Flow):
            raw = np.asarray(value, np.float32)
            if layer.inputs[number] == self._input:
                raw = half(raw)
            value = Flow(raw, self._change(raw, self._read.get(key)))
        elif key in self._read and self._last(layer.inputs[number]) > self._last(layer.name):
            value = Flow(value.raw, self._change(value.raw, self._read[key]))
        self._read[key] = value.raw
        return value

    def _change(self, now: np.ndarray, before: np.ndarray | None) -> np.ndarray:
        if before is None or self._fresh is True:
            return now
        return self._pick(now, now - before)

    def _pick(self, exact: np.ndarray, delta: np.ndarray) -> np.ndarray:
        """`exact` for items that start anew, `delta` for the others."""
        if isinstance(self._fresh, bool):
            return exact if self._fresh else delta
        return np.where(self._fresh.reshape(-1, *[1] * (delta.ndim - 1)), exact, delta)

    def _sum(
        self,
        layer: Layer,
        exact: Callable[[], np.ndarray],
        linear: Callable[[], np.ndarray] | None,
        flows: Sequence[Flow],
    ) -> Flow:
        """Flow of a layer: the sum of its deltas, or (without delta form) the difference of exact values."""
        before = self._raw.get(layer.name)
        if before is None or self._fresh is True:
            raw = delta = exact()
        elif linear is None:
            raw = exact()
            delta = self._pick(raw, raw - before)
        else:
            delta = linear()
            raw = before + delta
            if self._fresh is not False:
                whole = exact()
                raw, delta = self._pick(whole, raw), self._pick(whole, delta)
        self._raw[layer.name] = raw
        # the order of values does not matter to a mask; whatever else happens to them makes them plain numbers again
        shaping = layer.linear and len(flows) == 1 and layer.kind not in BLENDING
        return Flow(raw, delta, shaping and flows[0].quantised)

    def _linear(self, layer: Layer, flows: Sequence[Flow]) -> np.ndarray:
        if layer.kind == "add_constant":
            return flows[0].delta
        return layer(*(flow.delta for flow in flows))

    # Layers ---------------------------------------------------------------------------------------------------------

    def _quantised(self, flow: Flow, source: str, axis: int) -> Flow:
        """The flow as delta groups, which near memory gets too."""
        if flow.quantised:
            return flow
        known = self._groups.get((source, axis))
        if known is not None and known[0] is flow.delta:
            return known[1]
        result = Flow(flow.raw, self._sent(flow.delta, source, axis), True)
        self._groups[source, axis] = flow.delta, result
        return result

    def _sent(self, delta: np.ndarray, source: str, axis: int) -> np.ndarray:
        """A delta as groups, dequantised; it goes to all readers of its source at once."""
        c, machine = self._configuration, self._configuration.machine
        readers = tuple(layer.name for layer in self._network.consumers(source))
        axis = axis if axis < 0 else axis - delta.ndim
        passes = c.passes_of(self._index, self._steps, readers, first_layer=source == self._input)
        digits = c.digits_of(readers)

        def quantised(values: np.ndarray, count: int, exponent: int | None) -> np.ndarray:
            along = axis
            if exponent is not None:  # groups of a static exponent run on over positions: only the last one is padded
                values = np.moveaxis(values, axis, -1)
                shape, along = values.shape, -1
                values = values.reshape(len(values), 1, -1)
            grouping = Grouping(along, (values.shape[along],), machine.lanes)
            sent = self._arithmetic.quantise(
                values, grouping, digit_width=digits, passes=count, floor=-24, exponent=exponent
            )
            if self._measure is not None:
                self._measure.output(self._index, source, sent, grouping, digits, machine.outliers)
            if exponent is None:
                return sent.values
            return np.ascontiguousarray(np.moveaxis(sent.values.reshape(shape), -1, axis))

        layer_policy = machine.exponent_policy == "layer"
        fresh = max(c.first_passes, passes), None
        usual = passes, self._profile.layer_exponent(source, digits) if layer_policy else None
        if isinstance(self._fresh, bool):
            return quantised(delta, *(fresh if self._fresh else usual))
        result = np.empty_like(delta)
        for items, how in ((self._fresh, fresh), (~self._fresh, usual)):
            if items.any():
                result[items] = quantised(delta[items], *how)
        return result

    def _product(self, layer: Layer, flow: Flow) -> Flow:
        flow = self._quantised(flow, layer.inputs[0], layer.contracted[0])
        change = half(self._arithmetic.product(layer, flow.delta))
        before = self._raw.get(layer.name)
        bias = layer.bias[:, None, None] if layer.kind == "convolution" else layer.bias
        if before is None or self._fresh is True:
            raw = delta = change + bias
        else:
            delta = self._pick(change + bias, change)
            raw = self._pick(delta, before + change)
        self._raw[layer.name] = raw
        return Flow(raw, delta)

    def _activation(self, layer: Layer, flow: Flow) -> Flow:
        """Mask or scale the groups by what the step before left, then let near memory add them."""
        before = self._raw.get(layer.name)
        flow = self._quantised(flow, layer.inputs[0], 1 if flow.delta.ndim == 4 else -1)
        state = flow.delta if before is None else self._pick(flow.delta, before + flow.delta)
        self._raw[layer.name] = state
        s = self._configuration.machine.mask_width
        exact = layer(state)
        if before is None or self._fresh is True:
            delta = exact
            self._repairs.pop(layer.name, None)
        elif layer.kind == "relu" or s == 1:
            mask = before >= 0
            delta = flow.delta * mask
            flips = mask != (state >= 0)
            if self._fresh is not False:
                flips &= ~self._fresh.reshape(-1, *[1] * (flips.ndim - 1))
            if self._measure is not None:
                self._measure.flips[self._index, layer.name] = int(np.count_nonzero(flips)), flips.size
            if self._configuration.machine.flip_repair:
                if layer.name in self._repairs:
                    delta = delta + self._repairs[layer.name]
                self._repairs[layer.name] = half(np.abs(state) * flips)
        else:
            table = segments(layer.kind, s)
            codes = np.searchsorted(np.array(table.thresholds) / 64, before.ravel(), side="right")
            slopes = np.array(table.slopes, np.uint16).view(np.float16).astype(np.float32)
            delta = half(slopes[codes].reshape(before.shape) * flow.delta)
        key = (layer.name, 0)
        held = self._held.get(key)
        delta = self._pick(exact, delta)
        self._held[key] = delta if held is None else self._pick(exact, held + delta)
        # SiLU and GELU of raw values are no groups, nor are groups times the slopes of segments
        return Flow(self._held[key], delta, layer.kind == "relu" or (s == 1 and self._fresh is False))

    def _norm(self, layer: Layer, flow: Flow) -> Flow:
        """``gamma delta / deviation`` by the published rule; else the difference of norms of raw values."""
        form = self._configuration.norm
        if form == "current":
            return self._sum(layer, lambda: layer(flow.raw), None, [flow])
        if form == "previous":
            mean, deviation = layer.statistics(flow.raw)
            before = self._deviation.get(layer.name)
            self._deviation[layer.name] = deviation
            used = deviation if before is None else self._pick(deviation, before)
            return self._sum(layer, lambda: layer.normalised(flow.raw, mean, used), None, [flow])
        now = self._profile.deviations(layer.name, self._index)
        before = self._profile.deviations(layer.name, max(self._last(layer.name), 0), self._reference)
        used = (now + before) / 2
        used = np.broadcast_to(used, (len(flow.raw), *used.shape[1:]))

        def linear() -> np.ndarray:
            scaled = layer.normalised(flow.delta, np.zeros_like(used), used)
            bias = getattr(layer, "bias", None)  # the shift of a GroupNorm; it cancels like the mean
            return scaled if bias is None else scaled - bias[:, None, None]

        return self._sum(layer, lambda: layer(flow.raw), linear, [flow])

    def _matmul(self, layer: Layer, flows: Sequence[Flow]) -> Flow:
        main = [source in self._main for source in layer.inputs]
        if self._configuration.attention == "raw" or not all(main):
            return self._sum(layer, lambda: half(layer(*(half(flow.raw) for flow in flows))), None, flows)
        held, deltas = [], []
        for number, (flow, axis) in enumerate(zip(flows, layer.contracted, strict=True)):
            delta = self._quantised(flow, layer.inputs[number], axis).delta
            before = self._held.get((layer.name, number))
            total = delta if before is None or self._fresh is True else self._pick(delta, before + delta)
            self._held[layer.name, number] = total
            deltas.append(delta)
            held.append((before, total))
        (_, left), (right, whole) = held

        def linear() -> np.ndarray:
            return half(layer(left, deltas[1]) + layer(deltas[0], right))

        return self._sum(layer, lambda: half(layer(left, whole)), linear, flows)
