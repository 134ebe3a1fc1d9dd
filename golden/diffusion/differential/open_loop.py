"""Execution on deltas alone: the published dataflow, in which the sign bits of the step before stand for an activation.

Words: a `Flow` is a value on its way: its *delta* of this step, all the core sees, and its *raw* value, state near
memory. Deltas are quantised where they enter an activation or a product; an activation masks the very groups that the
near-memory engine gets too.

::

      product --> delta norm --> quantise --+--> mask by Y(t-1) >= 0 --> product
                                            |
                                            +--> near memory: Y += delta, new sign bits

What has no delta form (attention in raw form, softmax, modulation) is evaluated from raw values, and its delta is the
difference of two evaluations. Norms use the published rule: deviations calibrated for every step, averaged over the two
steps a delta lies between; the mean cancels. A step that sends raw values evaluates everything exactly.
Source: ``docs/open-loop.md``, section 14.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from golden.diffusion.differential.base import Rival
from golden.diffusion.differential.quantise import Grouping, run_on
from golden.diffusion.layers import Add, AddChannel, AddConstant, Layer, Role


@dataclasses.dataclass(frozen=True, eq=False)
class Flow:
    """A value between two layers.

    Members
    -------
    raw : float32
        State near memory after this step.
    delta : float32
        What changed in this step, FP16 numbers or a sum of delta groups; the raw value itself where an item starts
        anew.
    terms : tuple of arrays
        What each group of a vector holds, in order, shaped as `delta`, which is their sum; () if it is not quantised.
    """

    raw: np.ndarray
    delta: np.ndarray
    terms: tuple[np.ndarray, ...] = ()


class OpenLoop(Rival):
    """Executor of the flow sign_mask.

    Products are in binary64 by default, which holds the sums of an accumulator of 48 bits nearly always.
    """

    flows = ("sign_mask",)
    where = " in the open loop"
    dtype = np.float64

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self._raw: dict[str, np.ndarray] = {}  # by layer: its state; of an activation the one it masks by
        self._read: dict[tuple[str, int], np.ndarray] = {}  # by layer and operand: raw value it has taken account of
        self._ran: dict[str, tuple[int, int]] = {}  # by layer: the last two steps in which it ran
        self._held: dict[tuple[str, int], np.ndarray] = {}  # sums of groups: of a product's operand, of an activation
        self._repairs: dict[str, np.ndarray] = {}
        self._groups: dict[tuple[str, int], tuple[np.ndarray, Flow]] = {}  # of this step: a delta and what it became
        self._fresh: bool | np.ndarray = True
        self._reference: np.ndarray | None = None

    def begin_step(self, index: int, steps: int | None, reference: np.ndarray | None = None) -> None:
        """A step begins: items of the batch take up their references, or start anew. Step 0 forgets all that was."""
        self._index, self._steps = index, steps
        self._reference = reference
        self._fresh = self._method.refreshes(index)
        self._groups.clear()
        tensors = (self._raw, self._read, self._held, self._repairs)
        if index == 0:
            for states in (*tensors, self._ran):
                states.clear()
        if reference is None or self._fresh:
            return
        anew = self._restore(tensors, reference)
        self._fresh = False if anew is None else anew

    def result(self, value: Flow | np.ndarray) -> np.ndarray:
        """Raw value of a flow."""
        return value.raw if isinstance(value, Flow) else value

    def held(self, value: Flow | np.ndarray) -> Flow | np.ndarray:
        """A flow that has not changed in this step."""
        if not isinstance(value, Flow):
            return value
        nothing = np.zeros_like(value.raw)
        return Flow(value.raw, nothing, (nothing,))

    def __call__(self, layer: Layer, values: Sequence[Flow | np.ndarray]) -> Flow | np.ndarray:
        """Evaluate a layer."""
        if layer.name not in self._main:
            return layer(*values)
        flows = [self._arrive(layer, number, value) for number, value in enumerate(values)]
        self._ran[layer.name] = self._last(layer.name), self._index
        if layer.bilinear:
            return self._matmul(layer, flows)
        if layer.contracted:
            return self._product(layer, flows[0])
        if layer.role is Role.ACTIVATION:
            return self._activation(layer, flows[0])
        if layer.role is Role.NORM:
            return self._norm(layer, flows[0])
        if layer.role is Role.MOVE:
            return self._moved(layer, flows)
        return self._sum(layer, flows, self._linear(layer, flows))

    # Values ---------------------------------------------------------------------------------------------------------

    def _last(self, name: str) -> int:
        """Step before this one in which a layer ran the last time; -1: never."""
        before, latest = self._ran.get(name, (-1, -1))
        return before if latest == self._index else latest

    def _arrive(self, layer: Layer, number: int, value: Flow | np.ndarray) -> Flow:
        """Value as a flow whose delta covers everything since the layer last ran."""
        key, source = (layer.name, number), layer.inputs[number]
        if not isinstance(value, Flow):
            raw = np.asarray(value, np.float32)
            if source == self._input:
                raw = self._arithmetic.grid(raw, self._exponent(source))
            elif layer.role is Role.SUM:
                raw = self._arithmetic.grid(raw, self._exponent(layer.name))
            value = Flow(raw, self._change(raw, self._read.get(key)))
        elif key in self._read and self._last(source) > self._last(layer.name):
            value = Flow(value.raw, self._change(value.raw, self._read[key]))
        self._read[key] = value.raw
        return value

    def _change(self, now: np.ndarray, before: np.ndarray | None) -> np.ndarray:
        """Delta between two raw values."""
        change = self._arithmetic.change
        if before is None or self._fresh is True:
            return change(now)
        return self._pick(lambda: change(now), change(now, before))

    def _pick(self, anew: Callable[[], np.ndarray], usual: np.ndarray) -> np.ndarray:
        """What `anew` gives for items that start anew, `usual` for the others."""
        if self._fresh is False:
            return usual
        return np.where(np.reshape(self._fresh, (-1, *[1] * (usual.ndim - 1))), anew(), usual)

    def _before(self, state: np.ndarray | None) -> np.ndarray | None:
        """What new state adds to: nothing for items that start anew."""
        if state is None or self._fresh is True:
            return None
        return self._pick(lambda: np.zeros_like(state), state)

    def _moved(self, layer: Layer, flows: Sequence[Flow]) -> Flow:
        """The order of values does not matter to a mask: groups stay groups, but for those of a concatenation."""
        raw, delta = layer(*(flow.raw for flow in flows)), layer(*(flow.delta for flow in flows))
        terms = tuple(layer(term) for term in flows[0].terms) if len(flows) == 1 else ()
        return Flow(raw, delta, terms)

    def _sum(
        self,
        layer: Layer,
        flows: Sequence[Flow],
        linear: Callable[[], np.ndarray] | None,
        evaluated: Callable[[], np.ndarray] | None = None,
    ) -> Flow:
        """Flow of a layer: its state takes its delta in, or (without delta form) is evaluated and gives the delta.

        Parameters
        ----------
        layer, flows : Layer, sequence of Flow
            What is evaluated, of which values.
        linear : callable, optional
            Gives the delta from deltas, FP16 numbers.
        evaluated : callable, optional
            Gives the raw value; the default is the layer near memory, of the raw values of `flows`.
        """
        a, s = self._arithmetic, self._exponent(layer.name)
        before = self._raw.get(layer.name)

        def whole() -> np.ndarray:
            value = a.near(layer, [flow.raw for flow in flows]) if evaluated is None else evaluated()
            return a.grid(value, s)

        if before is None or self._fresh is True or linear is None:
            raw = whole()
            delta = self._change(raw, before)
        else:
            delta = linear()
            raw = self._pick(whole, a.add(before, delta, s))
            delta = self._pick(lambda: a.change(raw), delta)
        self._raw[layer.name] = raw
        return Flow(raw, delta)

    def _linear(self, layer: Layer, flows: Sequence[Flow]) -> Callable[[], np.ndarray] | None:
        """Delta of a layer from those of its operands; None if it has no such form, as products of two values."""
        conditioned = any(source not in self._main for source in layer.inputs)
        additive = isinstance(layer, AddChannel) or (isinstance(layer, Add) and not conditioned)
        if isinstance(layer, AddConstant):
            return lambda: self._arithmetic.change(flows[0].delta)
        if additive or (layer.linear and len(flows) == 1 and layer.role is not Role.MEAN):
            return lambda: self._arithmetic.change(self._arithmetic.near(layer, [flow.delta for flow in flows]))
        return None

    # Layers ---------------------------------------------------------------------------------------------------------

    def _quantised(self, flow: Flow, source: str, axis: int) -> Flow:
        """The flow as delta groups, which near memory gets too."""
        if flow.terms:
            return flow
        known = self._groups.get((source, axis))
        if known is not None and known[0] is flow.delta:
            return known[1]
        result = Flow(flow.raw, *self._sent(flow.delta, source, axis))
        self._groups[source, axis] = flow.delta, result
        return result

    def _sent(self, delta: np.ndarray, source: str, axis: int) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """A delta as groups, dequantised, and what each group holds; it goes to all readers of its source at once."""
        c, machine = self._method, self._method.machine
        passes = c.passes_of(self._network, source, self._index, self._steps)
        layer_policy = machine.exponent_policy == "layer"
        fresh = max(c.first_passes, passes), None
        usual = passes, self._profile.layer_exponent(source, machine.digit_width) if layer_policy else None
        if isinstance(self._fresh, bool):
            values, *terms = self._digits(delta, source, axis, *(fresh if self._fresh else usual))
            return values, tuple(terms)
        result: list[np.ndarray] = []
        for items, how in ((self._fresh, fresh), (~self._fresh, usual)):
            if items.any():
                for number, part in enumerate(self._digits(delta[items], source, axis, *how)):
                    if number == len(result):
                        result.append(np.zeros(delta.shape, part.dtype))
                    result[number][items] = part
        return result[0], tuple(result[1:])

    def _digits(
        self, values: np.ndarray, source: str, axis: int, passes: int, exponent: int | None, *, raw: str = ""
    ) -> list[np.ndarray]:
        """Sum of the groups of FP16 numbers, and what each group holds.

        Parameters
        ----------
        values : float32
            Numbers of the value `source`.
        source : str
            Gives the floor.
        axis : int
            Of the groups.
        passes : int
            1 or more.
        exponent : int or None
            The static one; None: the group policy.
        raw : str
            Layer that asks for raw values: they are noted as its own, and crossed the link as FP16 numbers.
        """
        axis, machine = axis if axis < 0 else axis - values.ndim, self._method.machine
        grouping, back = self._grouping(source, axis, values.shape), None
        if exponent is not None:  # groups of a static exponent run on over positions: only the last one is padded
            values, back = run_on(values, axis)
            grouping = Grouping(-1, (values.shape[-1],), machine.lanes)
        sent = self._arithmetic.quantise(
            values, grouping, passes=passes, floor=self._exponent(source), exponent=exponent
        )
        if self._measure is not None:
            if raw:
                self._measure.raw(self._index, raw, sent, grouping)
            else:
                self._measure.output(self._index, source, sent, grouping, machine.outliers)
        found = [sent.values, *(sent.terms or (sent.values,))]
        return found if back is None else [back(one) for one in found]

    def _raw_digits(self, layer: Layer, values: np.ndarray, axis: int) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Raw FP16 numbers that a layer reads, as digits (numerics 14.3): their sum, and what each group holds."""
        values, *terms = self._digits(values, layer.inputs[0], axis, self._method.first_passes, None, raw=layer.name)
        return values, tuple(terms)

    def _product(self, layer: Layer, flow: Flow) -> Flow:
        a, s = self._arithmetic, self._exponent(layer.name)
        flow = self._quantised(flow, layer.inputs[0], layer.contracted[0])
        change = a.scaled(a.product(layer, flow.delta, self._segments(layer), terms=flow.terms), layer)
        before, bias = self._before(self._raw.get(layer.name)), None
        if before is None:
            bias = a.bias(layer, s)
        elif self._fresh is not False:
            bias = self._pick(lambda: a.bias(layer, s), np.zeros_like(change))
        raw = a.add(before, change, s, bias=bias)
        self._raw[layer.name] = raw
        return Flow(raw, a.change(raw) if before is None else self._pick(lambda: a.change(raw), change))

    def _activation(self, layer: Layer, flow: Flow) -> Flow:
        """Mask or scale the groups by what the step before left, then let near memory add them."""
        a, machine, s = self._arithmetic, self._method.machine, self._exponent(layer.inputs[0])
        old = self._raw.get(layer.name)
        flow = self._quantised(flow, layer.inputs[0], self._channels(layer.inputs[0]))
        state = a.add(self._before(old), flow.delta, s, terms=flow.terms)
        self._raw[layer.name] = state
        if old is None or self._fresh is True:
            old = state
        masks_by = self._pick(lambda: state, old)  # an item that starts anew has no other state
        signs = layer.function is None or machine.mask_width == 1
        if signs:
            terms = self._masked(layer, flow, a.mask(masks_by, s), a.mask(state, s), state)
        else:
            terms = (a.sloped(layer.function, masks_by, a.change(flow.delta), s),)
        held = self._held.get((layer.name, 0))
        delta = sum(terms[1:], terms[0])
        total = a.add(self._before(held), delta, s, terms=terms)
        if layer.function is not None and self._fresh is not False:
            exact = a.grid(a.near(layer, [state]), s)
            total = self._pick(lambda: exact, total)
            delta = self._pick(lambda: a.change(exact), delta)
        self._held[layer.name, 0] = total
        # SiLU and GELU of raw values are no groups, nor are groups times the slopes of segments
        groups = layer.function is None or (signs and self._fresh is False)
        return Flow(total, delta, terms if groups else ())

    def _channels(self, name: str) -> int:
        """Axis of a value's channels: that of the product it comes from, unless it was laid out anew since."""
        layer = self._network.by_name.get(name)
        if layer is None:
            return -3 if len(self._network.inputs[name]) == 3 else -1
        return layer.channel_axis or self._channels(layer.inputs[0])

    def _masked(
        self, layer: Layer, flow: Flow, mask: np.ndarray, after: np.ndarray, state: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """Groups behind a sign mask, and the repairs of the step before; those of this step are kept."""
        terms = tuple(np.where(mask, term, np.zeros_like(term)) for term in flow.terms)
        if self._fresh is True:
            self._repairs.pop(layer.name, None)
            return terms
        flips = mask != after
        if self._measure is not None:
            self._measure.flips[self._index, layer.name] = int(np.count_nonzero(flips)), flips.size
        if self._method.machine.flip_repair:
            if layer.name in self._repairs:
                repairs = self._before(self._repairs[layer.name])
                terms += self._raw_digits(layer, repairs, self._channels(layer.inputs[0]))[1]
            self._repairs[layer.name] = np.where(flips, self._arithmetic.change(np.abs(state)), np.float32(0))
        return terms

    def _norm(self, layer: Layer, flow: Flow) -> Flow:
        """``gamma delta / deviation`` by the published rule; else the difference of norms of raw values."""
        if self._method.norm == "current":
            return self._sum(layer, [flow], None)
        now = self._profile.deviations(layer.name, self._index)
        before = self._profile.deviations(layer.name, max(self._last(layer.name), 0), self._reference)
        used = (now + before) / 2
        used = np.broadcast_to(used, (len(flow.raw), *used.shape[1:]))
        a = self._arithmetic

        def linear() -> np.ndarray:
            return a.change(a.divided(layer, flow.delta, used))

        return self._sum(layer, [flow], linear)

    def _matmul(self, layer: Layer, flows: Sequence[Flow]) -> Flow:
        a = self._arithmetic
        if self._method.attention == "raw" or any(source not in self._main for source in layer.inputs):
            left, terms = self._raw_digits(layer, a.change(flows[0].raw), layer.contracted[0])
            return self._sum(
                layer, flows, None, lambda: a.scaled(a.matmul(layer, left, flows[1].raw, terms=terms), layer)
            )
        moving, before, after = [], [], []
        for number, (flow, axis) in enumerate(zip(flows, layer.contracted, strict=True)):
            source = layer.inputs[number]
            flow = self._quantised(flow, source, axis)
            held = self._before(self._held.get((layer.name, number)))
            total = a.add(held, flow.delta, self._exponent(source), terms=flow.terms)
            self._held[layer.name, number] = total
            moving.append(flow)
            before.append(held)
            after.append(total)

        def evaluated() -> np.ndarray:
            return a.scaled(a.matmul(layer, moving[0].delta, after[1], terms=moving[0].terms), layer)

        def linear() -> np.ndarray:
            change = a.matmul(layer, after[0], moving[1].delta, right=True, terms=moving[1].terms)
            change += a.matmul(layer, moving[0].delta, before[1], terms=moving[0].terms)
            return a.scaled(change, layer)

        return self._sum(layer, flows, linear, evaluated)
