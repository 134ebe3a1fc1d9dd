"""Execution in the closed loop: fixed point near memory over any network, by the machine's commands (numerics, 12).

Words: an *emission* sends what readers of a value lack, as delta groups; a product adds to a state ``Y``. What lies
between two products is evaluated near memory, from states, with the rounding points of the machine's commands.

::

      Y --> norm, factors, f --> x --> x - Xhat --> groups --+--> product --> joint form --> Y += ... + bias
                                           ^                 |
                                           +--- Xhat += -----+
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from golden.diffusion.differential.allocation import output_bits_by_product
from golden.diffusion.differential.base import Differential
from golden.diffusion.differential.chains import (
    Chain,
    chain_passes,
    chains,
    most_groups,
    repair_passes,
    scales,
    static_exponent,
)
from golden.diffusion.differential.fixed import (
    ExactCore,
    ExactLink,
    ExactNear,
    Fixed,
    FloatCore,
    FloatLink,
    FloatNear,
)
from golden.diffusion.differential.fixed.core import Sums
from golden.diffusion.differential.fixed.link import output_vectors
from golden.diffusion.differential.fixed.near import across
from golden.diffusion.differential.fixed.value import Chained, Change, Gated, Masked, Normed
from golden.diffusion.differential.measure import Measure
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import Profile
from golden.diffusion.differential.quantise import Grouping, Passes, quantise
from golden.diffusion.layers import (
    Add,
    AddChannel,
    AddConstant,
    Concat,
    Convolution,
    Gate,
    Layer,
    Linear,
    Modulate,
    Move,
    Multiply,
    Role,
    Rotary,
)
from golden.diffusion.layers.scale import exchanged_pairs
from golden.diffusion.networks.graph import Network, conditioned
from golden.parameters import EXPONENT_BIAS
from golden.units.norm import UNIT


@dataclasses.dataclass(frozen=True, eq=False)
class _Sent:
    """What readers get of an operand in a step.

    Members
    -------
    passes : Passes
        Counts.
    before, after : array
        What they held, None if they start; what they hold now.
    start : bool, or bool (batch,)
        Whether they start; which items do.
    unit : int, or int array
        Of the counts.
    """

    passes: Passes
    before: np.ndarray | None
    after: np.ndarray
    start: bool | np.ndarray
    unit: int | np.ndarray


def handed_on(network: Network, main: frozenset[str]) -> frozenset[str]:
    """Layers whose value is no state and no emission: the one layer that reads it is part of the same command."""
    found = set()
    for layer in network.layers:
        readers = network.consumers(layer.name)
        if layer.name not in main or len(readers) != 1 or readers[0].inputs.count(layer.name) > 1:
            continue
        reader = readers[0]
        alone = reader.inputs[0] == layer.name and not any(name in main for name in reader.inputs[1:])
        fits = {
            Role.PRODUCT: alone
            and isinstance(reader, AddChannel | AddConstant)
            and not getattr(layer, "scale", 1) != 1,
            Role.NORM: (alone and isinstance(reader, Modulate)) or reader.role is Role.ACTIVATION,
        }.get(layer.role, False)
        if isinstance(layer, Modulate):
            fits = reader.role is Role.ACTIVATION and layer.inputs[0] in found
        if isinstance(layer, Gate):
            fits = isinstance(reader, Add) and layer.inputs[1] not in main
        if fits:
            found.add(layer.name)
    return frozenset(found)


class ClosedLoop(Differential):
    """Executor of the closed loop.

    Parameters
    ----------
    network, method, profile, measure
        As for `Differential`.
    exact : bool
        Whether the machine's bits are computed, by the unit models, rather than in floating point.
    dtype : type
        Of the fast form's products: float32, or float64, which holds nearly every sum exactly.

    Members
    -------
    main : frozenset of str
        Values that depend on the network's first input.
    handed_on : frozenset of str
        See the function of that name.
    units, floors : dict of str to int
        Exponent of the unit of each value; of each product, the code of the finest step of its outputs.
    chains : dict of str to Chain
        By each layer of theirs; none unless the method has chains.
    """

    flows = ("closed_loop",)
    where = " in the closed loop"

    def __init__(
        self,
        network: Network,
        method: Method,
        profile: Profile,
        *,
        exact: bool = False,
        dtype: type = np.float32,
        measure: Measure | None = None,
    ):
        super().__init__(network, method, profile, measure)
        self.main = self._main
        machine = method.machine
        self._core = ExactCore(machine) if exact else FloatCore(machine, dtype)
        width = method.output_width
        self._link = ExactLink(machine, width) if exact else FloatLink(machine, width, keep=measure is not None)
        self._near = (ExactNear if exact else FloatNear)(machine)
        self.handed_on = handed_on(network, self.main)
        found = chains(network, self.main, machine.lanes) if method.chains else ()
        self.chains = {layer.name: chain for chain in found for layer in chain.layers}
        self._shifts: dict[str, np.ndarray] = {}  # what a chain has added by channel, by layer
        self._ran: dict[str, int] = {}  # step in which a chain ran last, by product
        self._states: dict[str, np.ndarray] = {}  # Y of products, and z of chains, by layer
        self._repairs: dict[str, np.ndarray] = {}  # of masks that the last step changed, by activation
        self._bias: dict[str, np.ndarray] = {}  # what their states hold of bias and shifts, by layer
        self._held: dict[tuple[str, int], np.ndarray] = {}  # Xhat, by reader and operand
        self._fixed: dict[str, np.ndarray] = {}  # operands that are conditioning, by product
        self._sent: dict[tuple[str, int], list[_Sent]] = {}  # in this step, by value and axis
        self._most_groups = most_groups(method)
        self._anew: np.ndarray | None = None
        self._guided = False  # whether the prediction of this step is a guided one

    def begin_step(self, index: int, steps: int | None, reference: np.ndarray | None = None) -> None:
        """A step begins: nothing is sent yet. Step 0 forgets all that was."""
        self._index, self._steps = index, steps
        self._sent.clear()
        self._anew, self._guided = None, False
        kept = (self._states, self._repairs, self._bias, self._held, self._fixed)
        if self.chains and reference is not None:
            raise ValueError("chains must be of items that start together, not of a stream's")
        if index == 0:
            for states in kept:
                states.clear()
        if reference is not None and index > 0:
            self._anew = self._restore(kept, reference)

    def result(self, value: Any) -> np.ndarray:
        """Real values, binary32."""
        return value if isinstance(value, np.ndarray) else value.real

    def held(self, value: Any) -> Any:
        """A value of an earlier step is a state like any other."""
        return value if isinstance(value, np.ndarray) else self._settled(value)

    def combine(self, terms: Mapping[str, tuple[np.ndarray, Any]], name: str) -> np.ndarray:
        """A sum in a sampler's step: one combine of states (numerics, 12.22 and 12.23)."""
        width = self._method.machine.state_width
        predicted = self.units[self._network.layers[-1].name]
        units = {
            "image": self.units[self._input],
            "without": predicted,
            "prediction": predicted + self._guided,
            "guided": predicted + 1,
            "clean": 2 - width,
            "fresh": 5 - width,  # up to 8 deviations
        }
        values = [self._near.state(value, units[term]) for term, (value, _) in terms.items()]
        factors = [np.float64(factor) for _, factor in terms.values()]
        self._guided |= name == "guided"
        limit = 2 ** (width - 2) if name == "clean" else None
        return self._near.combine(values, factors, units[name], limit).real

    # Units ----------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def units(self) -> dict[str, int]:
        """s of every value; those of the pieces of a concatenation lie at most 8 places apart (numerics, 12.4)."""
        width = self._method.machine.state_width
        units = {name: self._profile.unit(name, width) for name in self.main}
        for layer in self._network.layers:
            scale = getattr(layer, "scale", 1.0)
            if layer.bilinear and scale != 1.0:
                units[layer.name] = self._profile.unit(layer.name, width, factor=scale)
        for chain in self.chains.values():
            units[chain.activation.name] = units[chain.read]
        for layer in self._network.layers:
            if isinstance(layer, Concat) and layer.name in self.main:
                owners = [self._owner(name) for name in layer.inputs]
                coarsest = max(units.get(name, -(10**6)) for name in owners)
                for name in owners:
                    if name in units:
                        units[name] = max(units[name], coarsest - 8)
        return units

    def _pieces(self, source: str) -> tuple[int, ...]:
        """Channels of the parts of a concatenation, with a norm or f behind it too: each is emitted apart."""
        layer = self._network.by_name.get(source)
        while layer is not None and (layer.role in (Role.NORM, Role.ACTIVATION) or isinstance(layer, Modulate)):
            source = layer.inputs[0]
            layer = self._network.by_name.get(source)
        return super()._pieces(source)

    def _heads(self, source: str) -> tuple[int, ...]:
        """Of what attention's products mix; heads lie, and are sent, in whole groups each (numerics, 12.20)."""
        owner = self._network.by_name.get(self._owner(source))
        if owner is None or not owner.bilinear or owner.transposed or len(self._shapes[owner.name]) < 4:
            return ()
        *_, heads, _, channels = self._shapes[owner.name]
        return (channels,) * heads if self._shapes[source][-1] == heads * channels else ()

    def _owner(self, name: str) -> str:
        """The value whose elements a value has, perhaps in another order."""
        layer = self._network.by_name.get(name)
        while layer is not None and layer.role is Role.MOVE and not isinstance(layer, Concat):
            name = layer.inputs[0]
            layer = self._network.by_name.get(name)
        return name

    @functools.cached_property
    def floors(self) -> dict[str, int]:
        """Code of the finest step of each product's outputs."""
        width = self._method.machine.state_width
        bits = output_bits_by_product(self._network, self._method, self._profile)
        floors = {}
        for name, own in bits.items():
            layer = self._network.by_name[name]
            magnitude = self._profile.unit(name, width, factor=getattr(layer, "scale", 1.0)) + width - 2
            code = magnitude - own - self.units[self.state_of(layer)]
            floors[name] = min(max(code, 0), 42 - self._method.machine.digit_width)
        return floors

    def state_of(self, layer: Layer) -> str:
        """Name of the value that the state of a product is."""
        return self._network.consumers(layer.name)[0].name if layer.name in self.handed_on else layer.name

    def parts(self, layer: Layer) -> int:
        """Equal parts of a product's outputs that its readers take, one by one; 1: they take it whole.

        A last convolution with twice the channels of the sample has two: a prediction and its variance.
        """
        readers = self._network.consumers(layer.name)
        if isinstance(layer, Convolution) and layer is self._network.layers[-1]:
            return 2 if self._shapes[layer.name][1] == 2 * self._shapes[self._input][1] else 1
        if not isinstance(layer, Linear) or not readers or not all(isinstance(reader, Move) for reader in readers):
            return 1
        taken = {reader.parts for reader in readers}
        return taken.pop() if len(taken) == 1 else 1

    # Layers ---------------------------------------------------------------------------------------------------------

    def __call__(self, layer: Layer, values: Sequence[Any]) -> Any:
        """Evaluate a layer; what is conditioning stays an array of real numbers."""
        if layer.name not in self.main:
            return conditioned(layer, values)
        values = [
            self._near.state(value, self.units[name])
            if name == self._input and isinstance(value, np.ndarray)
            else value
            for name, value in zip(layer.inputs, values, strict=True)
        ]
        if isinstance(values[0], Chained):
            return self._along(layer, values)
        if layer.contracted:
            return self._product(layer, values)
        if layer.role is Role.NORM:
            return self._finished(
                layer, self._near.norm(layer, self._plain(layer.inputs[0], values[0]), self.u_unit(layer))
            )
        if layer.role is Role.ACTIVATION:
            return self._activation(layer, values[0])
        if layer.role is Role.SOFTMAX:
            return self._softmax(layer, values[0])
        if layer.role is Role.SUM:
            return self._sum(layer, values)
        if layer.role is Role.SCALE:
            return self._scale(layer, values)
        if layer.role is Role.MEAN:
            return self._near.mean(self._plain(layer.inputs[0], values[0]), layer, self.units[layer.name])
        if isinstance(layer, Concat):
            return self._concat([self._plain(*pair) for pair in zip(layer.inputs, values, strict=True)])
        if layer.role is Role.MOVE:
            return self._settled(values[0]).moved(layer)
        # a class of one's own: no law says how
        return self._near.state(layer(*map(self.result, values)), self.units[layer.name])

    def _settled(self, value: Any) -> Fixed:
        if not isinstance(value, Fixed):
            raise TypeError(f"Value must be a state, not {type(value).__name__}")
        return value

    def _plain(self, name: str, value: Fixed) -> Fixed:
        """A value without a factor of its own: one combine, if it has one."""
        value = self._settled(value)
        if value.factor == 1.0:
            return value
        return self._near.combine([value], [np.float64(1)], self._profile.unit(name, self._method.machine.state_width))

    def u_unit(self, layer: Layer) -> int:
        """Exponent of the unit of u: all that is calibrated stays below ``2^17`` units (numerics, 12.6)."""
        deviation = self._profile.deviation.get(layer.name)
        if deviation is None or not deviation.size:
            return UNIT
        most = 2 * self._profile.largest.get(layer.inputs[0], 1.0) * 2 / max(float(np.min(deviation)), 1e-300)
        return min(max(int(np.frexp(most)[1]) - 17, -60), UNIT)

    def _finished(self, layer: Layer, value: Normed) -> Any:
        """A norm or a modulation: its value, or what the layer behind it takes."""
        if layer.name in self.handed_on:
            return value
        unit = self.units[layer.name]
        return Fixed(self._near.affine(value, unit).astype(np.float32), unit)

    def _activation(self, layer: Layer, value: Any) -> Fixed:
        unit = self.units[layer.name]
        name = layer.function or "relu"
        chain = self.chains.get(layer.name)
        if isinstance(value, Normed):
            middle = unit if name == "relu" else self.units[layer.inputs[0]]
            z = self._near.affine(value, middle, least=0 if name == "relu" and chain is None else None)
        else:
            value = self._plain(layer.inputs[0], value)
            z, middle = value.counts, value.unit
        if isinstance(middle, np.ndarray):
            raise ValueError(f"Layer {layer.name!r} must read one tensor, not a concatenation without a norm")
        if chain is not None:  # what the groups of the steps to come are added to
            state = z if chain.norm is None else np.clip(z, -self._near.narrow, self._near.narrow)
            self._states[layer.name] = state.astype(np.float32)
            self._repairs[layer.name] = np.zeros_like(self._states[layer.name])
        return Fixed(self._near.function(name, z, middle, unit), unit)

    def _softmax(self, layer: Layer, value: Any) -> Fixed:
        value = self._settled(value)
        if value.factor <= 0 or isinstance(value.unit, np.ndarray):
            value = self._plain(layer.inputs[0], value)
        unit = 2 - self._method.machine.state_width
        return Fixed(self._near.softmax(value, unit), unit)

    def _concat(self, parts: list[Fixed]) -> Fixed:
        counts = np.concatenate([part.counts for part in parts], axis=1)
        units = [part.unit for part in parts]
        if all(isinstance(unit, int) for unit in units) and len(set(units)) == 1:
            return Fixed(counts, units[0])
        whole = any(isinstance(unit, np.ndarray) and len(unit) > 1 for unit in units)
        shapes = [part.counts.shape if whole else (1, part.counts.shape[1], 1, 1) for part in parts]
        return Fixed(
            counts, np.concatenate([np.broadcast_to(*pair) for pair in zip(units, shapes, strict=True)], axis=1)
        )

    def _sum(self, layer: Layer, values: list[Any]) -> Fixed:
        unit = self.units[layer.name]
        if isinstance(values[0], Change):
            source = self._network.by_name[layer.inputs[0]]
            bias = across(getattr(source, "bias", None), values[0].counts, source.channel_axis or -1)
            if layer.name in self.chains:
                self._shifts[layer.name] = values[1]
            shift = layer.table if isinstance(layer, AddConstant) else values[1][:, :, None, None]
            return Fixed(self._accumulate(source, values[0], bias + shift, unit), unit)
        operands, factors = [], []
        for value in values:
            gate = np.float64(1)
            if isinstance(value, Gated):
                value, gate = value.value, value.factors
            if isinstance(value, np.ndarray):
                shaped = value[:, :, None, None] if isinstance(layer, AddChannel) else value
                value = self._near.state(shaped, unit)
            operands.append(self._settled(value))
            factors.append(gate)
        if isinstance(layer, AddConstant):
            operands.append(self._near.state(layer.table, unit))
            factors.append(np.float64(1))
        return self._near.combine(operands, factors, unit)

    def _scale(self, layer: Layer, values: list[Any]) -> Any:
        unit = self.units[layer.name]
        if isinstance(layer, Multiply):
            left, right = (self._plain(*pair) for pair in zip(layer.inputs, values, strict=True))
            return self._near.multiply(left, right, unit)
        if isinstance(layer, Rotary):
            return self._rotary(layer, self._settled(values[0]), unit)
        if any(name in self.main for name in layer.inputs[1:]):
            raise ValueError(
                f"Factors of layer {layer.name!r} must be conditioning in the closed loop, not depend on the image"
            )
        if isinstance(layer, Gate):
            value = self._settled(values[0])
            gate = across(values[1], value.counts, layer.axis)
            if layer.name in self.handed_on:
                return Gated(value, gate)
            return self._near.combine([value], [gate], unit)
        value = values[0]
        if not isinstance(value, Normed):
            value = self._plain(layer.inputs[0], value)
            value = Normed(
                value.counts.astype(np.float64), int(value.unit), np.ones((), np.float32), np.zeros((), np.float32)
            )
        shift, scale = (across(part, value.u, layer.axis) for part in values[1:])
        scale = np.float32(1) + scale
        return self._finished(layer, Normed(value.u, value.unit, value.gain * scale, value.shift * scale + shift))

    def _rotary(self, layer: Rotary, value: Fixed, unit: int) -> Fixed:
        """Every element times a cosine, and its neighbour times a sine: one combine."""
        neighbours = Fixed(exchanged_pairs(value.counts), value.unit, value.factor)
        return self._near.combine([value, neighbours], layer.factors(*value.counts.shape[-2:]), unit)

    # Chains ---------------------------------------------------------------------------------------------------------

    def _along(self, layer: Layer, values: list[Any]) -> Any:
        """A layer of a chain whose product has not started anew."""
        chain, value = self.chains[layer.name], values[0]
        if layer is chain.shift:
            before, self._shifts[layer.name] = self._shifts[layer.name], values[1]
            return dataclasses.replace(value, shifts=(values[1], before))
        return value if layer is chain.norm else self._masked(chain, value)

    def _masked(self, chain: Chain, value: Chained) -> Masked:
        """Groups of a chain: near memory takes them, readers what the signs of the step before leave."""
        name, axis = chain.activation.name, chain.product.channel_axis or -1
        unit, machine = self.units[name], self._method.machine
        of_state = self.units[self.state_of(chain.product)]
        last = self._ran.get(chain.product.name, 0)
        found = scales(chain, self._profile, self._index, last, (of_state, unit), value.shifts)
        self._ran[chain.product.name] = self._index
        factors, shifts = (across(part, value.sums.values, axis) for part in (found.factors, found.shifts))
        counts = self._link.scaled(value.sums, found.places, factors, shifts)
        passes = chain_passes(self._method, self._network, chain, self._index, self._steps)
        grouping = Grouping(axis, (counts.shape[axis],), machine.lanes)
        sent = self._link.keep(counts, grouping, passes, static_exponent(chain, self._profile, unit, machine))
        before = self._states[name]
        self._states[name] = after = self._near.accumulate(before, sent.values.astype(np.float32), None)
        mask = before >= 0
        flipped = mask != (after >= 0)
        if self._measure is not None:
            self._measure.output(self._index, name, sent.moved(-EXPONENT_BIAS), grouping, machine.outliers)
            self._measure.flips[self._index, name] = int(np.count_nonzero(flipped)), mask.size
        values = np.where(mask, sent.values, 0)
        terms = tuple(np.where(mask, term, np.zeros_like(term)) for term in sent.terms)
        if machine.flip_repair:
            repairs = self._repaired(name, grouping)
            values, terms = values + repairs.values, terms + repairs.terms
            self._repairs[name] = np.where(flipped, np.abs(after), np.float32(0))
        return Masked(dataclasses.replace(sent, values=values, terms=terms), unit)

    def _repaired(self, name: str, grouping: Grouping) -> Passes:
        """Groups of what the masks that changed in the step before are worth."""
        due = self._near.emitted(Fixed(self._repairs[name], self.units[name]))
        found = self._link.send(due, grouping, repair_passes(self._method))
        if self._measure is not None:
            self._measure.raw(self._index, name, found.moved(-EXPONENT_BIAS), grouping)
        return found

    # What is sent ---------------------------------------------------------------------------------------------------

    def _send(self, layer: Layer, number: int, value: Fixed) -> _Sent:
        """Send an operand to a product, once for all readers that hold the same."""
        if isinstance(value, Masked):
            return _Sent(value.passes, None, value.passes.values, False, value.unit)
        source, axis = layer.inputs[number], layer.contracted[number]
        c = self._method
        known = self._held.get((layer.name, number))
        start: bool | np.ndarray = c.refreshes(self._index) or known is None
        for sent in self._sent.get((source, axis), ()):
            if sent.start is True if start else sent.before is known:
                self._held[layer.name, number] = sent.after
                return sent
        value = self._plain(source, value)
        x = self._near.emitted(value)
        passes: int | np.ndarray = c.passes_of(self._network, source, self._index, self._steps)
        if start and not c.refreshes(self._index):
            passes = max(passes, c.first_passes)
        held = None if start else known
        if held is not None and self._anew is not None:
            start = self._anew
            which = start.reshape(-1, *[1] * (x.ndim - 1))
            held = np.where(which, np.float32(0), held)
            passes = np.where(which, max(passes, c.first_passes), passes)
        grouping = self._grouping(source, axis, x.shape)
        exact = c.against == "before"
        read = x.copy() if exact else x  # what is sent may be worked out in place
        difference = read if held is None else np.subtract(x, held, out=read)
        found = self._link.send(difference, grouping, passes)
        if exact:
            after = x
        else:
            after = found.values.astype(np.float32) if held is None else held + found.values
        result = _Sent(found, known if start is not True else None, after, start, value.unit)
        self._sent.setdefault((source, axis), []).append(result)
        self._held[layer.name, number] = after
        if self._measure is not None:
            parts = [found] if isinstance(start, bool) else [found.items(which) for which in (start, ~start)]
            for part in parts:
                if len(part.values):
                    self._measure.sent(self._index, source, part.moved(-EXPONENT_BIAS), grouping)
        return result

    # Products -------------------------------------------------------------------------------------------------------

    def _product(self, layer: Layer, values: list[Any]) -> Any:
        unit = self.units[self.state_of(layer)]
        if layer.bilinear:
            change = self._matmul(layer, values, unit)
        else:
            sent = self._send(layer, 0, values[0])
            sums = self._core.product(layer, sent.passes, self._segments(layer), sent.unit, unit, self._most_groups)
            chain = self.chains.get(layer.name)
            if chain is not None:
                if sent.start is False:
                    return Chained(sums)
                self._ran[layer.name] = self._index
            change = Change(self._outputs(layer, sums), sent.start, unit)
        if layer.name in self.handed_on:
            return change
        if change.start is False and layer.name in self._states:
            bias = None  # its readers have it
        else:
            bias = across(getattr(layer, "bias", None), change.counts, layer.channel_axis or -1)
        return Fixed(self._accumulate(layer, change, bias, unit), unit, getattr(layer, "scale", 1.0))

    def _outputs(self, layer: Layer, sums: Sums, *, again: bool = False) -> np.ndarray:
        """Sums as they reach the state; `again` if the product added to it in this step already."""
        axis, lanes = layer.channel_axis or -1, self._method.machine.lanes
        channels, parts = sums.values.shape[axis], self.parts(layer)
        if parts > 1 and channels < parts * lanes:  # vectors of each part run on
            found = [
                self._output(layer, dataclasses.replace(sums, values=part), again=again or number > 0)
                for number, part in enumerate(np.split(sums.values, parts, axis))
            ]
            return np.concatenate(found, axis)
        return self._output(
            layer, sums, (channels // parts,) * parts if layer.bilinear or parts > 1 else (), again=again
        )

    def _output(self, layer: Layer, sums: Sums, pieces: tuple[int, ...] = (), *, again: bool) -> np.ndarray:
        axis, lanes = layer.channel_axis or -1, self._method.machine.lanes
        values, grouping, back = output_vectors(sums.values, axis, lanes, pieces)
        found = self._link.joint(Sums(values, sums.lsb), grouping, self.floors[layer.name])
        if self._measure is not None:
            if found.exponent is None:
                k = self._method.machine.digit_width
                found = quantise(
                    found.lanes, grouping, self._method.machine,
                    finer=self._method.output_width - k, floor=self.floors[layer.name], outliers=0,
                )  # fmt: skip
            else:
                found = dataclasses.replace(found, lanes=grouping.split(found.lanes))
            self._measure.output(self._index, layer.name, found.moved(-EXPONENT_BIAS), grouping, again=again)
        return back(found.values)

    def _accumulate(self, layer: Layer, change: Change, bias: np.ndarray | None, unit: int) -> np.ndarray:
        """The state of a product after a step; of its bias what is new: nothing, where that is None."""
        held = self._states.get(layer.name)
        if bias is None:
            self._states[layer.name] = total = self._near.accumulate(held, change.counts, None)
            return total
        bias = np.clip(np.rint(np.ldexp(bias.astype(np.float64), -unit)), -self._near.top, self._near.top)
        if bias.ndim == 0 or len(bias) != len(change.counts):
            bias = np.broadcast_to(
                bias, (len(change.counts), *np.broadcast_shapes(bias.shape, (1,) * change.counts.ndim)[1:])
            )
        if change.start is True or held is None:
            held, new = None, bias
        else:
            new = bias - self._bias[layer.name]
            if change.start is not False:
                which = np.reshape(change.start, (-1, *[1] * (held.ndim - 1)))
                held, new = np.where(which, np.float32(0), held), np.where(which, bias, new)
        self._bias[layer.name] = bias
        total = self._near.accumulate(held, change.counts, new.astype(np.float32) if new.any() else None)
        self._states[layer.name] = total
        return total

    def _matmul(self, layer: Layer, values: list[Any], unit: int) -> Change:
        """``dA B(t-1)``, then ``A(t) dB``, each rounded on its own; ``dA B`` if one operand is conditioning."""
        main = [source in self.main for source in layer.inputs]
        if not all(main):
            return self._conditioned(layer, values, main.index(True), unit)
        if self._method.attention == "raw":
            return self._raw_matmul(layer, values, unit)
        left = self._send(layer, 0, values[0])
        right = self._send(layer, 1, values[1])
        shift = int(left.unit) + int(right.unit) - unit
        product = functools.partial(self._core.matmul, layer, shift=shift)
        counts = 0
        if right.start is not True:
            before = right.before
            if right.start is not False:
                before = np.where(right.start.reshape(-1, *[1] * (before.ndim - 1)), np.float32(0), before)
            held = self._near.align(before, layer.contracted[1])
            counts = self._outputs(layer, product(left.passes, held, right=False))
        held = self._near.align(left.after, layer.contracted[0])
        again = right.start is not True
        counts = counts + self._outputs(layer, product(right.passes, held, right=True), again=again)
        return Change(counts, left.start, unit)

    def _raw_matmul(self, layer: Layer, values: list[Any], unit: int) -> Change:
        """``A(t) B(t)`` anew: digits of the left as in a first step, all of the right one aligned (numerics, 12.29)."""
        self._held.pop((layer.name, 0), None)
        left, right = self._send(layer, 0, values[0]), self._plain(layer.inputs[1], values[1])
        held = self._near.align(self._near.emitted(right), layer.contracted[1])
        shift = int(left.unit) + int(right.unit) - unit
        counts = self._outputs(layer, self._core.matmul(layer, left.passes, held, right=False, shift=shift))
        return Change(counts, True, unit)

    def _conditioned(self, layer: Layer, values: list[Any], moving: int, unit: int) -> Change:
        """A product whose other operand is conditioning, which enters as weights do."""
        known, fixed = self._fixed.get(layer.name), values[1 - moving]
        if known is not None and not np.array_equal(known, fixed):
            self._held.pop((layer.name, moving), None)
        self._fixed[layer.name] = fixed
        sent = self._send(layer, moving, values[moving])
        sums = self._core.conditioned(layer, sent.passes, fixed, right=moving == 1, shift=int(sent.unit) - unit)
        return Change(self._outputs(layer, sums), sent.start, unit)
