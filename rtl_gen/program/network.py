"""A network as a program: one step after the other, by the rounding points of the closed loop.

`Compiler` walks the layers of a network once to lay out memory (states, what readers hold, weights), then once for each
step, and adds commands. What depends on the conditioning alone is computed by the layers themselves and becomes tables.

Words: a *part* is one tensor of a concatenation; a value is *made* when it is no state but what an emission makes of
one (norm, function). Source: ``docs/closed-loop.md``, 12.17 to 12.21, and the table of layers in ``docs/machine.md``.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from golden import formats
from golden.diffusion.differential.chains import (
    Chain,
    Scales,
    chain_passes,
    most_groups,
    most_kept,
    repair_passes,
    scales,
    static_exponent,
)
from golden.diffusion.differential.closed_loop import ClosedLoop
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import Profile
from golden.diffusion.layers import (
    Add,
    AddConstant,
    Concat,
    Convolution,
    Gate,
    Layer,
    Linear,
    MatMul,
    Modulate,
    Move,
    Multiply,
    Norm,
    ReLU,
    Role,
    Rotary,
)
from golden.diffusion.networks.graph import Network, conditioned
from golden.machine import image
from golden.machine.accelerator import Accelerator
from golden.machine.command import UNIT_BYTES, Align, Coefficients, Combine, Command, Operand, Rows, Step
from golden.units import softmax
from golden.units.combine import Factors
from golden.units.norm import Affine, variance_floor
from rtl_gen.program import near
from rtl_gen.program.layout import attended, exchanges, joins, layouts, merges, splits
from rtl_gen.program.memory import (
    INPUTS,
    LONGEST_SLOT,
    MIXES,
    SPOOLS,
    STATES,
    STEPS,
    TABLES,
    Emission,
    Kept,
    Memory,
    Stripes,
    Tensor,
    slot_units,
)
from rtl_gen.program.products import (
    Bias,
    Buffers,
    Kernel,
    Leaving,
    Piece,
    Product,
    Target,
    Weights,
    bias_vectors,
    compile_weights,
    multiply,
    reach,
    room_for_weights,
)
from rtl_gen.program.schedule import Schedule


@dataclasses.dataclass(frozen=True, eq=False)
class _Value:
    """A value of the network on its way to whoever reads it.

    Members
    -------
    parts : tuple of Tensor
        The states it is made of; more than one are a concatenation.
    repeat : int
        2 where every position stands twice by two times.
    heads : int
        Heads that its channels are split into; 0: none.
    source : Layer or None
        Norm in front of it, not finished.
    gain, shift : arrays
        Real factors and shifts of each channel so far.
    middle, result : int
        s of z and of x, where it is made.
    function : str
        f.
    scores : Layer or None
        Product of two activations whose softmax it is.
    varying : bool
        Whether gain and shift depend on the step.
    padded : int
        Channels of each head, where heads that attention mixed are padded to whole vectors apart; 0: they are not.
    apart : bool
        Whether the parts are those that readers take one of.
    by_head : bool
        Whether each head of a position is a position of the parts.
    turned : bool
        Whether frames and places are exchanged, but not in memory.
    masked : tuple of Piece
        Where it is what the signs of the step before leave of a chain's groups: these.
    """

    parts: tuple[Tensor, ...]
    repeat: int = 1
    heads: int = 0
    source: Norm | None = None
    gain: Any = None
    shift: Any = None
    middle: int | None = None
    result: int | None = None
    function: str = "identity"
    scores: MatMul | None = None
    varying: bool = False
    padded: int = 0
    apart: bool = False
    by_head: bool = False
    turned: bool = False
    masked: tuple[Piece, ...] = ()

    @property
    def made(self) -> bool:
        """Whether it is no state."""
        return self.result is not None or self.source is not None


@dataclasses.dataclass(frozen=True, eq=False)
class _Pending:
    """A product whose bias is not known yet or, of a chain, whose factors and shifts are not: now and before."""

    layer: Layer
    value: _Value
    shifts: tuple[np.ndarray, np.ndarray] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class _Gated:
    """A value times factors, on its way into a sum."""

    value: _Value
    gate: np.ndarray


class Compiler:
    """Makes programs of a network under a method, for a batch of samples.

    Parameters
    ----------
    network : Network
        To run.
    method : Method
        How; its flow must be closed_loop.
    profile : Profile
        Of the network and the sampling.
    memory : Memory, optional
        Takes everything; the default is an empty one of the method's machine.
    samples : int
        How many of them; they are rows of the array, as far as it has rows.
    kept : str, optional
        Layer whose value some steps take from the last step that ran the whole network (DeepCache).
    steady : bool
        Whether what is given besides the first input is the same in every step.
    filled : bool
        Whether records of weights have content; without it a network is compiled for its shapes.
    at_once : int
        Products of heads that attention takes without a loop over sequences, of a vector of outputs each.

    Members
    -------
    memory : Memory
        What was placed.
    states : dict of str to Tensor
        State of each value that has one.
    input, output : Tensor
        Of the network.

    Raises
    ------
    ValueError
        If a layer cannot be expressed, by its name.
    """

    def __init__(
        self,
        network: Network,
        method: Method,
        profile: Profile,
        memory: Memory | None = None,
        *,
        samples: int = 1,
        kept: str | None = None,
        steady: bool = False,
        filled: bool = True,
        at_once: int = 256,
    ):
        self._network, self._method, self._profile = network, method, profile
        self._loop = ClosedLoop(network, method, profile)
        self._chains = {} if kept else self._loop.chains
        if kept and self._loop.chains:
            raise ValueError("chains must run in every step, not beside a value that is kept (DeepCache)")
        self._kept_groups: dict[str, Kept] = {}  # by product of a chain
        self._ran: dict[str, int] = {}  # step in which a chain ran last, and how often, by product
        self._turns: dict[str, int] = {}
        self._shifts: dict[str, np.ndarray] = {}  # what a chain has added by channel, by layer
        machine = dataclasses.replace(method.machine, joint_width=method.output_width)
        self.memory = memory or Memory(machine)
        self.samples = samples
        self._parameters = self.memory.parameters
        self._shapes, self._layouts = network.shapes(), layouts(network)
        self._input = next(iter(network.inputs))
        self.states: dict[str, Tensor] = {}
        self._emissions: dict[tuple[str, int, str, int, bool, bool], Emission] = {}
        self._weights: dict[str, tuple[Weights, ...]] = {}  # of each part
        self._tables: dict[Any, Any] = {}
        self._constants: dict[bytes, Operand] = {}  # tables that are the same in every step, by content
        self._fixed: dict[str, np.ndarray] = {}  # right operands that are conditioning, by product
        self._added: dict[str, np.ndarray] = {}  # the bias that a state holds, by its name
        self._buffers = Buffers(self._parameters)
        self._index, self._steps = 0, None
        self._starts: tuple[bool | None, ...] = (True,) * samples
        self._schedule = Schedule(self._parameters)
        self._sent: set[Any] = set()
        self._turn: list[int] | None = None  # samples of the turn of a loop that is under way
        self._stripes: dict[tuple[int, int], Stripes] = {}
        self._scales: dict[Any, Operand] = {}  # of the norms of the step
        self._at_once: set[str] = set()  # states whose channels are there all together
        self._tags = {layer.name: number for number, layer in enumerate(network.layers)}
        self._kept, self._steady, self._filled, self._products_at_once = kept, steady, filled, at_once
        self._saved: Any = None  # the value of the kept layer
        self._always = {layer.name for layer in network.evaluated({kept} if kept else ())}
        self.input = self._input_tensor()
        self.output: Tensor | None = None

    @property
    def chains(self) -> frozenset[str]:
        """Activations that chains end in."""
        return frozenset(chain.activation.name for chain in self._chains.values())

    @property
    def prediction(self) -> int:
        """s of what the network predicts."""
        return self._loop.units[self._network.layers[-1].name]

    @property
    def _running(self) -> tuple[int, ...]:
        """Samples that run in this step."""
        return tuple(sample for sample, start in enumerate(self._starts) if start is not None)

    @property
    def _runs(self) -> list[tuple[range, bool]]:
        """Samples that follow each other and all start in this step, or all go on."""
        found, first = [], 0
        for start, run in itertools.groupby(self._starts):
            last = first + len(list(run))
            if start is not None:
                found.append((range(first, last), start))
            first = last
        return found

    # What the caller calls ------------------------------------------------------------------------------------------

    def step(
        self,
        index: int,
        steps: int | None,
        given: Mapping[str, np.ndarray],
        *,
        whole: bool = True,
        schedule: Schedule | None = None,
        starts: Sequence[bool | None] | None = None,
        before: Callable[[Layer], None] | None = None,
    ) -> list[Command]:
        """Commands of a step; steps are compiled in order.

        Parameters
        ----------
        index : int
            From 0.
        steps : int or None
            Of the sampling.
        given : mapping of str to array
            Inputs of the network besides the first, of all samples.
        whole : bool
            Whether the whole network runs, or what is left of it where the kept value is known.
        schedule : Schedule, optional
            Takes the commands; the default is a new one.
        starts : sequence of bool or None, optional
            For each sample whether it starts anew; None: it does not run. The default is that all run, and start where
            the method sends raw values.
        before : callable, optional
            Called with each layer that commands express, before they are added.
        """
        self._index, self._steps = index, steps
        self._buffers = Buffers(self._parameters)  # so that steps that are alike have the same commands
        refreshed = self._method.refreshes(index)
        self._starts = tuple(one if one is None else one or refreshed for one in starts or [False] * self.samples)
        if self._chains and len(set(self._starts)) > 1:
            raise ValueError("chains must be of samples that start together, not of a stream's")
        self._schedule = schedule or Schedule(self._parameters)
        self._sent.clear()
        self._scales.clear()
        values: dict[str, Any] = {self._input: _Value((self.input,))}
        for name, value in given.items():  # as the network itself takes them
            value = np.asarray(value)
            values[name] = value.astype(np.float32) if value.dtype.kind == "f" else value
        if not whole:
            values[self._kept] = self._saved
        for layer in self._ordered(self._network.evaluated(() if whole else {self._kept})):
            read = [values[name] for name in layer.inputs]
            if layer.name not in self._loop.main:
                values[layer.name] = conditioned(layer, read)
            else:
                if before is not None:
                    before(layer)
                values[layer.name] = self._layer(layer, read)
        if self._kept and whole:
            self._saved = self._settled(self._kept, values[self._kept])
        found = self._settled(self._network.layers[-1].name, values[self._network.layers[-1].name])
        self.output, *others = found.parts
        if others and not found.apart:
            raise ValueError(f"Output of network {self._network.name!r} must be one value, not a concatenation")
        return self._schedule.commands

    def _ordered(self, layers: Sequence[Layer]) -> list[Layer]:
        """Layers by how many products come before them: those that wait for none are there while others do."""
        depth: dict[str, int] = {}
        for layer in layers:
            before = max((depth.get(name, 0) for name in layer.inputs), default=0)
            depth[layer.name] = before + bool(layer.contracted) if layer.name in self._loop.main else 0
        return sorted(layers, key=lambda layer: depth[layer.name])

    def write(self, machine: Accelerator, tensor: Tensor, values: np.ndarray) -> None:
        """Put integers (positions, channels) into a tensor of one sample in a machine's memory."""
        machine.write_tensor(tensor.data, np.asarray(values, np.int64).reshape(-1, tensor.channels))

    def read(self, machine: Accelerator, tensor: Tensor) -> np.ndarray:
        """Integers (positions, channels) of a tensor of one sample in a machine's memory."""
        return machine.read_tensor(tensor.data, tensor.positions, tensor.channels)

    def value(self, name: str, read: Callable[[Tensor], np.ndarray], sample: int = 0) -> np.ndarray:
        """Integers of a value that has a state, of one sample, in the shape that it has in the network.

        Parameters
        ----------
        name : str
            Of its layer.
        read : callable
            Reads a tensor of one sample: (positions, channels).
        sample : int
            Which.
        """
        layout, shape = self._layouts[name], list(self._shapes[name][1:])
        parts = [name] if name in self.states else [f"{name}.0", f"{name}.1"]  # a prediction and its variance
        shape[layout.axis] //= len(parts)
        found = [self._read(self.states[part], name, tuple(shape), read, sample) for part in parts]
        return np.concatenate(found, layout.axis)

    def _read(
        self, state: Tensor, name: str, shape: tuple[int, ...], read: Callable[[Tensor], np.ndarray], sample: int
    ) -> np.ndarray:
        layer, layout = self._network.by_name[name], self._layouts[name]
        each = state.samples // self.samples
        found = np.stack([read(state.sample(sample * each + number)) for number in range(each)])
        if layout.heads and not (isinstance(layer, MatMul) and layer.transposed):
            *_, rows, channels = shape  # heads side by side, in whole vectors where products made them
            found = found.reshape(layout.sequences((1, *shape)), rows, layout.heads, -1)[..., :channels]
            return found.swapaxes(1, 2).reshape(shape)
        if isinstance(layer, MatMul) or each > 1:
            return found[..., : shape[-1]].reshape(shape)
        return layout.of_positions(found, shape)

    def laid_out(self, value: np.ndarray) -> np.ndarray:
        """The network's input, one item (channels, ...), as `write` takes it."""
        name = self._input
        if self._mover is not None:
            value, name = self._mover(value[None])[0], self._mover.name
        return self._layouts[name].by_position(value)

    def put_back(self, values: np.ndarray) -> np.ndarray:
        """Values (positions, channels) of the input's state as the network's input, one item."""
        shape = next(iter(self._network.inputs.values()))
        places = self.laid_out(np.arange(np.prod(shape)).reshape(shape))
        found = np.empty(places.size, values.dtype)
        found[places.ravel()] = values.ravel()
        return found.reshape(shape)

    def check_prediction(self) -> None:
        """Refuse a network that a sampler's sums cannot follow: its output must lie in memory like its input.

        Raises
        ------
        ValueError
            If it has other channels, or patches in another order.
        """
        shape, last = next(iter(self._network.inputs.values())), self._network.layers[-1]
        after, alike = self._shapes[last.name][1:], True
        fits = after in (shape, (2 * shape[0], *shape[1:]))  # without or with a variance behind it
        if fits and isinstance(last, Move):
            before = self._shapes[last.inputs[0]]
            tokens = np.arange(np.prod(before)).reshape(before)
            places = self.laid_out(last(tokens)[0, : shape[0]])
            alike = np.array_equal(places, tokens.reshape(-1, before[-1])[:, : places.shape[-1]])
        if not fits or not alike:
            what = f"have the shape {shape}, not {after}" if not fits else "have its patches in the input's order"
            raise ValueError(f"Output of network {self._network.name!r} must {what}, to be sampled by a program")

    # Tensors --------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def _mover(self) -> Move | None:
        """The layer that cuts the input into tokens, if that is how it is read: it lies in memory so."""
        readers = self._network.consumers(self._input)
        if len(readers) == 1 and isinstance(readers[0], Move):
            return readers[0]
        return None

    def _input_tensor(self) -> Tensor:
        unit = self._loop.units[self._input]
        lines, width, channels = self._grid(self._mover.name if self._mover else self._input)
        return self.memory.tensor(self._input, lines, width, channels, unit, region=INPUTS, samples=self.samples)

    def _grid(self, name: str) -> tuple[int, int, int]:
        """Lines, width and channels of a value's state, as it lies in memory."""
        shape, layout = self._shapes[name], self._layouts[name]
        places = [length for axis, length in enumerate(shape, -len(shape)) if axis != layout.axis][1:]
        if len(places) < 2:
            return *self._cut(int(np.prod(places))), shape[layout.axis]
        lines, *rest = (places[1], places[0], *places[2:]) if layout.exchanged else places
        width = int(np.prod(rest))
        if layout.axis == -1:
            lines, width = self._pieces(lines, width)
        return lines, width, shape[layout.axis]

    def _pieces(self, frames: int, width: int) -> tuple[int, int]:
        """Frames of tokens as lines: whole ones, or cut into as few pieces as slots, banks and tiles hold of any value,
        and into more where rows of the array would have no line else.
        """
        p = self._parameters
        fits = [one for one in range(1, width + 1) if width % one == 0 and self._fit(one)]
        if not fits or width in fits:
            return frames, width
        busy = [one for one in fits if one <= p.tile_positions and frames * (width // one) >= p.rows]
        one = max(busy or fits)
        return frames * (width // one), one

    @functools.cached_property
    def _linear(self) -> list[Linear]:
        """Linear layers that read states."""
        return [one for one in self._network.layers if isinstance(one, Linear) and one.inputs[0] in self._loop.main]

    def _fit(self, width: int) -> bool:
        """Whether slots and banks hold lines of so many tokens, and tiles whole vectors of few outputs of them."""
        p = self._parameters
        groups = (
            width * self._method.most_passes * max((self._groups(layer.inputs[0]) for layer in self._linear), default=0)
        )
        outputs = {self._shapes[layer.name][-1] // self._loop.parts(layer) for layer in self._linear}
        whole = [width * p.lanes // math.gcd(p.lanes, width * few) for few in outputs if few < p.lanes]
        return (
            groups <= p.group_buffer
            and slot_units(p, groups) <= LONGEST_SLOT
            and max(whole, default=0) <= p.tile_positions
        )

    def _groups(self, name: str) -> int:
        """Groups of a token that a linear layer reads: heads that attention has mixed may be padded apart."""
        source = self._network.by_name.get(name)
        heads = self._layouts[source.inputs[0]].heads if source is not None and joins(source) else 1
        return heads * -(-self._shapes[name][-1] // heads // self._parameters.lanes)

    def _cut(self, positions: int, *, exchanged: bool = True) -> tuple[int, int]:
        """Positions as lines: as long as rows of the array have a line each, and as wide as a tile; if products are
        exchanged, so that they then keep as many rows busy as they can: their rows have whole blocks of n positions,
        and whole lines.
        """
        p = self._parameters

        def busy(width: int) -> int:
            block = math.lcm(p.lanes, width)
            each = -(-positions // p.rows // block) * block
            return -(-positions // each) if block <= p.tile_positions else 0

        fits = [
            width
            for width in range(1, p.tile_positions + 1)
            if positions % width == 0 and positions // width >= p.rows and (exchanged or self._fit(width))
        ]
        width = max(fits, key=lambda width: (busy(width) if exchanged else 0, width), default=1)
        return positions // width, width

    def _summed(self, name: str) -> str:
        """What sums a norm needs of a value: through moves and concatenations."""
        kinds = set()
        for layer in self._network.consumers(name):
            if isinstance(layer, Norm):
                kinds.add("channel" if layer.groups else "position")
            elif isinstance(layer, Concat) or merges(layer) or exchanges(layer):
                kinds.add(self._summed(layer.name))
        kinds.discard("no")
        if len(kinds) > 1:
            raise ValueError(f"Norms that read {name!r} must all be by channel or all by position")
        return kinds.pop() if kinds else "no"

    def _tensor(
        self, name: str, like: Tensor | None = None, *, unit: int | None = None, channels: int | None = None
    ) -> Tensor:
        """The state of a value; the defaults are its own unit and channels. What loops go over has its own region."""
        if name not in self.states:
            unit = self._loop.units[name] if unit is None else unit
            channels = channels or self._shapes[name][self._layouts[name].axis]
            lines, width, _ = (like.lines, like.width, 0) if like else self._grid(name)
            summed, samples = self._summed(name), like.samples if like else self.samples
            if like is None or not like.together:
                self.states[name] = self.memory.tensor(
                    name, lines, width, channels, unit, summed=summed, samples=samples
                )
            elif not like.stride:
                self.states[name] = self.memory.tensor(
                    name, lines, width, channels, unit, samples=samples, within=INPUTS, together=like.together
                )
            else:  # as far apart as what it is made of
                size = samples * like.stride * UNIT_BYTES
                data = self.memory.place(STATES, size, name, "state", within=INPUTS)
                self.states[name] = dataclasses.replace(
                    like, name=name, data=data, channels=channels, unit=unit, sums=None, summed="no"
                )
        return self.states[name]

    def _numbers(self, tensor: Tensor) -> list[int]:
        """Samples of a state that run in this step, or in the turn under way: those of a sequence are apart."""
        each = tensor.samples // self.samples
        if self._turn is not None and each > 1:
            return self._turn
        return [sample * each + number for sample in self._running for number in range(each)]

    def _begins(self, tensor: Tensor, number: int) -> bool:
        """Whether a sample of a state starts anew in this step."""
        return bool(self._starts[self._sample_of(tensor, number)])

    def _sample_of(self, tensor: Tensor, number: int) -> int:
        """The network's sample that a sample of a state belongs to."""
        return number // (tensor.samples // self.samples)

    # Layers ---------------------------------------------------------------------------------------------------------

    def _layer(self, layer: Layer, values: list[Any]) -> Any:
        if isinstance(layer, MatMul):
            return self._matmul(layer, *values)
        if layer.contracted:
            if layer.name in self._loop.handed_on or (layer.name in self._chains and not self._starts[0]):
                return _Pending(layer, values[0])
            return self._product(layer, values[0], layer.name, None)
        handlers = {
            Role.NORM: self._norm,
            Role.ACTIVATION: self._activation,
            Role.SOFTMAX: self._softmax,
            Role.SUM: self._sum,
            Role.SCALE: self._scale,
            Role.MOVE: self._move,
        }
        if layer.role not in handlers:
            raise self._refused(layer, "no command adds up positions of a state")
        return handlers[layer.role](layer, values)

    def _require(self, layer: Layer, function: str) -> None:
        """Refuse a layer that the machine was built without."""
        functions = self._parameters.functions
        if function not in functions:
            held = ", ".join(functions) or "none"
            raise self._refused(layer, f"functions of the machine must hold {function}, not {held}")

    def _refused(self, layer: Layer, why: str) -> ValueError:
        return ValueError(f"Layer {layer.name!r} ({layer.kind}) cannot be expressed: {why}")

    def _move(self, layer: Layer, values: list[Any]) -> _Value:
        if isinstance(layer, Concat):
            found = [self._settled(*pair) for pair in zip(layer.inputs, values, strict=True)]
            if any(value.repeat != 1 or value.heads for value in found):
                raise self._refused(layer, "a part of it is upsampled or split into heads")
            return _Value(tuple(part for value in found for part in value.parts))
        (value,) = values
        if layer is self._mover and layer.inputs == (self._input,):
            return value
        pattern = "".join(layer.pattern.split())
        if merges(layer) and not value.turned:
            return self._in_lines(layer, value)
        if exchanges(layer):
            return dataclasses.replace(value, turned=not value.turned)
        if pattern == "bchw->bc(hp)(wq)" and layer.sizes == {"p": 2, "q": 2} and value.repeat == 1:
            return dataclasses.replace(value, repeat=2)
        if splits(layer) and not value.made:
            return dataclasses.replace(value, heads=self._layouts[layer.name].heads)
        if joins(layer) and value.heads:
            return dataclasses.replace(value, heads=0)
        if value.apart and layer.takes_one:
            return _Value((value.parts[layer.index],), turned=value.turned)
        if layer is self._network.layers[-1]:
            return value  # whoever reads the image moves it
        raise self._refused(layer, f"the move {layer.pattern!r} has no command")

    def _in_lines(self, layer: Layer, value: _Value) -> _Value:
        """A value whose pixels are taken as tokens, or these as pixels again: in other lines where blocks need them."""
        p, width = self._parameters, value.parts[0].width
        before, after = (self._layouts[name].axis == -3 for name in (layer.inputs[0], layer.name))
        if after:
            width = self._shapes[layer.name][-1] // value.repeat
        elif before and math.lcm(p.lanes, width) > p.tile_positions:
            _, width = self._cut(value.parts[0].positions)
        if width == value.parts[0].width:
            return value
        return dataclasses.replace(value, parts=tuple(part.viewed(width) for part in value.parts))

    def _norm(self, layer: Norm, values: list[Any]) -> _Value | _Pending:
        if isinstance(values[0], _Pending):
            return values[0]
        value = self._settled(layer.inputs[0], values[0])
        if value.repeat != 1:
            raise self._refused(layer, "it reads an upsampled value")
        if len(value.parts) > 1 and not layer.groups:
            raise self._refused(layer, "it reads a concatenation by position")
        if value.heads:
            value = dataclasses.replace(value, parts=(self._by_head(layer, value),), by_head=True)
        room = self._parameters.norm_buffer
        if max(part.channels for part in value.parts) > room:
            raise self._refused(layer, f"it normalises more than norm_buffer = {room} channels")
        channels = sum(part.channels for part in value.parts)
        gain = np.ones(channels, np.float32) if layer.weight is None else layer.weight
        shift = np.zeros(channels, np.float32) if layer.bias is None else layer.bias
        return self._finished(layer, dataclasses.replace(value, source=layer, gain=gain, shift=shift))

    def _by_head(self, layer: Norm, value: _Value) -> Tensor:
        """A state of which each head of a position is a position, with sums that a copy of it onto itself makes."""
        (state,) = value.parts
        if value.by_head:
            raise self._refused(layer, "its heads were normalised or turned before")
        key, lanes, channels = ("heads", state.name), self._parameters.lanes, state.channels // value.heads
        if channels % lanes if channels >= lanes else state.channels >= lanes and state.channels % lanes:
            raise self._refused(layer, f"its heads of {channels} channels are cut by vectors of lanes = {lanes}")
        if key not in self._tables:
            self._tables[key] = self.memory.with_sums(state, state.width * value.heads, channels)
        if key not in self._sent:
            self._sent.add(key)
            view = self._tables[key]
            (factor,) = Factors.of([1.0], [view.unit], view.unit)
            table = self.table(near.factors(factor), varying=False)
            for number in self._numbers(view):
                self._combine(layer, view, [view], number, "sum", {"factor1": table})
        return self._tables[key]

    def _finished(self, layer: Layer, value: _Value) -> _Value:
        """A norm or a modulation that nothing else takes over."""
        if layer.name in self._loop.handed_on:
            return value
        unit = self._loop.units[layer.name]
        return dataclasses.replace(value, middle=unit, result=unit)

    def _scale(self, layer: Layer, values: list[Any]) -> Any:
        if isinstance(layer, Modulate):
            value = values[0]
            if not isinstance(value, _Value) or value.source is None:
                raise self._refused(layer, "no norm stands before it")
            shift, scale = (np.asarray(part) for part in values[1:])
            scale = np.float32(1) + scale
            return self._finished(
                layer,
                dataclasses.replace(value, gain=value.gain * scale, shift=value.shift * scale + shift, varying=True),
            )
        if isinstance(layer, Gate):
            gated = _Gated(self._settled(layer.inputs[0], values[0]), np.asarray(values[1]))
            return gated if layer.name in self._loop.handed_on else self._combined(layer, [gated])
        if isinstance(layer, Multiply):
            left, right = (self._settled(*pair) for pair in zip(layer.inputs, values, strict=True))
            return self._multiplied(layer, left, right)
        return self._rotated(layer, self._settled(layer.inputs[0], values[0]))

    def _rotated(self, layer: Rotary, value: _Value) -> _Value:
        """Every element times a cosine, and its neighbour times a sine."""
        lanes = self._parameters.lanes
        if lanes % 2:
            raise self._refused(layer, f"pairs of channels are cut by vectors of lanes = {lanes}")
        if len(value.parts) > 1 or value.turned:
            raise self._refused(layer, "it reads a concatenation, or frames in another order")
        (part,) = value.parts
        state = self._tensor(layer.name, part, channels=part.channels)
        tables = layer.factors(*self._shapes[layer.name][-2:])
        options: dict[str, Any] = {"permuted": True}
        for term, factor in enumerate(Factors.of(tables, [part.unit] * 2, state.unit), 1):
            heads = np.repeat(factor.values[:, None], value.heads or 1, axis=1)
            elements = image.vectors_of(heads.reshape(-1, part.channels), lanes)
            options[f"factor{term}"] = self.table(near.factors(Factors(elements, factor.places)), varying=False)
            options[f"kind{term}"] = "element"
        for number in self._numbers(state):
            self._combine(layer, state, [part, part], number, "sum", options, whole=True)
        return dataclasses.replace(value, parts=(state,))

    def _activation(self, layer: Layer, values: list[Any]) -> _Value:
        (value,) = values
        if isinstance(value, _Pending):
            return self._chained(self._chains[layer.name], value)
        unit = self._loop.units[layer.name]
        name = "relu" if isinstance(layer, ReLU) else layer.function
        if name != "relu":
            self._require(layer, "tables")
        if value.source is not None and value.result is None:
            middle = unit if name == "relu" else self._loop.units[layer.inputs[0]]
        else:
            value = self._settled(layer.inputs[0], value)
            if len(value.parts) > 1:
                raise self._refused(layer, "it reads a concatenation without a norm")
            middle = value.parts[0].unit
        found = dataclasses.replace(value, middle=middle, result=unit, function=name)
        if layer.name in self._chains:
            self._begin_chain(self._chains[layer.name], found)
        return found

    def _softmax(self, layer: Layer, values: list[Any]) -> _Value:
        value = self._settled(layer.inputs[0], values[0])
        scores = self._network.by_name[layer.inputs[0]]
        if not isinstance(scores, MatMul):
            raise self._refused(layer, "it does not read a product of two activations")
        room = self._parameters.row_buffer
        if self._shapes[layer.name][-1] > room:
            raise self._refused(layer, f"it has rows of more than row_buffer = {room} scores")
        state = dataclasses.replace(value.parts[0], channels=self._shapes[layer.name][-1])
        return dataclasses.replace(value, parts=(state,), scores=scores, result=2 - self._parameters.state_width)

    def _settled(self, name: str, value: Any) -> _Value:
        """A value as states: what an emission makes is written as one."""
        if not isinstance(value, _Value):
            raise ValueError(f"Layer {name!r} cannot be read as a state")
        if value.padded:
            raise ValueError(
                f"Layer {name!r} must be read by a linear layer alone: its heads of {value.padded} channels are no "
                f"multiples of lanes = {self._parameters.lanes}"
            )
        if not value.made:
            return value
        if value.source is not None and value.result is None:
            raise ValueError(f"Layer {name!r} must be finished before it is read")
        if len(value.parts) > 1 or value.scores is not None:
            raise ValueError(f"Layer {name!r} must be one tensor to be written as a state")
        target = self._tensor(name, value.parts[0], channels=value.parts[0].channels)
        if ("written", name) not in self._sent:
            self._sent.add(("written", name))
            self._make(name, value, 0, None, target)
        return _Value((target,), value.repeat, value.heads, by_head=value.by_head, turned=value.turned)

    # Sums -----------------------------------------------------------------------------------------------------------

    def _sum(self, layer: Layer, values: list[Any]) -> _Value:
        first = values[0]
        if layer.name in self._chains:
            shift = self._shift(layer, values)
            before, self._shifts[layer.name] = self._shifts.get(layer.name), shift
            if not self._starts[0]:
                return dataclasses.replace(first, shifts=(shift, before))
        if isinstance(first, _Pending):
            return self._product(first.layer, first.value, layer.name, self._shift(layer, values))
        return self._combined(layer, values)

    def _shift(self, layer: Layer, values: list[Any]) -> np.ndarray:
        """What is added to a product's bias: (samples, channels), or more than two axes by position."""
        if isinstance(layer, AddConstant):
            return layer.table[None] if np.ndim(layer.table) > 1 else layer.table
        shift = np.asarray(values[1])
        if shift.ndim > 2 and self.samples > 1:
            raise self._refused(layer, "samples differ in what is added by position")
        return shift

    def _combined(self, layer: Layer, values: list[Any]) -> _Value:
        unit = self._loop.units[layer.name]
        operands: list[tuple[Tensor, np.ndarray]] = []
        read: list[_Value] = []
        for name, value in zip(layer.inputs, values, strict=False):
            gate = np.ones(())
            if isinstance(value, _Gated):
                value, gate = value.value, value.gate
            if isinstance(value, np.ndarray):
                raise self._refused(layer, "it adds conditioning to a state that is no product's")
            value = self._settled(name, value)
            if len(value.parts) > 1 or value.repeat != 1:
                raise self._refused(layer, "an operand is a concatenation, or upsampled")
            read.append(value)
            operands.append((value.parts[0], gate))
        if isinstance(layer, AddConstant):
            operands.append((self._constant(layer, operands[0][0], unit), np.ones(())))
        elif not isinstance(layer, Add | Gate):
            raise self._refused(layer, "it has no command")
        if len({value.turned for value in read}) > 1:
            raise self._refused(layer, "its operands lie in different orders")
        state = self._tensor(layer.name, operands[0][0])
        sources = [tensor for tensor, _ in operands]
        found = Factors.of([gate for _, gate in operands], [tensor.unit for tensor in sources], unit)
        tables = sum(np.ndim(_of_sample(factor.values, 0)) > 0 for factor in found)
        if tables > 1:
            raise self._refused(layer, "two of its operands have a factor for each channel")
        if tables and state.channels > self._parameters.norm_buffer:
            room = self._parameters.norm_buffer
            raise self._refused(layer, f"it has factors for more than norm_buffer = {room} channels")
        for number in self._numbers(state):
            options: dict[str, Any] = {}
            for term, factor in enumerate(found, 1):
                mine = dataclasses.replace(factor, values=_of_sample(factor.values, self._sample_of(state, number)))
                options[f"factor{term}"] = self.table(near.factors(mine), varying=bool(np.ndim(mine.values)))
                options[f"kind{term}"] = "channel" if np.ndim(mine.values) else "one"
            self._combine(layer, state, sources, number, "sum", options)
        return _Value((state,), turned=read[0].turned)

    def _multiplied(self, layer: Layer, left: _Value, right: _Value) -> _Value:
        if left.turned != right.turned:
            raise self._refused(layer, "its operands lie in different orders")
        state = self._tensor(layer.name, left.parts[0])
        places = state.unit - left.parts[0].unit - right.parts[0].unit
        factor = self.table(near.factors(Factors(np.zeros(0, np.int64), places)), varying=False)
        for number in self._numbers(state):
            self._combine(layer, state, [left.parts[0], right.parts[0]], number, "product", {"factor1": factor})
        return _Value((state,), turned=left.turned)

    def _combine(
        self,
        layer: Layer,
        state: Tensor,
        sources: list[Tensor],
        sample: int,
        form: Any,
        options: dict[str, Any],
        *,
        whole: bool = False,
    ) -> None:
        """Add a state, in runs of lines unless `whole`: whoever reads it can begin with the first of them."""
        p = self._parameters
        self._at_once.add(state.name)
        state, sources = state.sample(sample), [source.sample(sample) for source in sources]
        for lines in [range(state.lines)] if whole else self._runs_of_lines(state):
            first = lines.start * state.width
            vectors = state.vectors(p.lanes) * len(lines) // state.lines
            begin = first * -(-state.channels // p.lanes) * image.vector_bytes(p) // UNIT_BYTES
            sums = state.sums or Operand(0, 0)
            if state.summed == "position":
                sums = sums.moved(first * image.SUM_BYTES // UNIT_BYTES)
            self._schedule.add(
                Combine(
                    tag=self._tags[layer.name],
                    state=state.data.moved(begin),
                    **{f"source{number}": source.data.moved(begin) for number, source in enumerate(sources, 1)},
                    sums=sums,
                    vectors=vectors,
                    terms=len(sources),
                    form=form,
                    summed=state.summed,
                    fresh=state.summed == "position" or lines.start == 0,
                    channels=state.channels,
                    middle=sources[-1].unit,
                    result=sources[-1].unit,
                    **options,
                ),
                reads=[place for source in sources for place in source.places(self._lines_of(source, state, lines))],
                writes=[*state.places(lines), *state.sums_places(p.lanes, lines=lines)],
            )

    @staticmethod
    def _lines_of(tensor: Tensor, like: Tensor, lines: range) -> range:
        """Lines of a tensor that hold the positions of some lines of another one."""
        return range(lines.start * like.width // tensor.width, -(-lines.stop * like.width // tensor.width))

    def _runs_of_lines(self, state: Tensor, positions: int = 1) -> list[range]:
        """Lines of a state as tiles make them, as far as its vectors and its sums then begin on units of memory.

        Each begins at a multiple of so many `positions`.
        """
        p = self._parameters
        if state.channels < p.lanes:
            return [range(state.lines)]
        line_bytes = state.width * -(-state.channels // p.lanes) * image.vector_bytes(p)
        sizes = [line_bytes, state.width * image.SUM_BYTES] if state.summed == "position" else [line_bytes]
        ends = reach(Kernel(), Target.whole(state, p.lanes), p, 1, state.lines)
        ends = [
            end
            for end in ends
            if end == state.lines
            or not (end * state.width % positions or any(end * size % UNIT_BYTES for size in sizes))
        ]
        return list(itertools.starmap(range, itertools.pairwise([0, *ends])))

    def table(self, content: np.ndarray, *, varying: bool) -> Operand:
        """Bytes of a table in memory: of this step, or one for all steps."""
        if varying and not self._steady:
            return self.memory.place(STEPS, content)
        mark = content.tobytes()
        if mark not in self._constants:
            self._constants[mark] = self.memory.place(TABLES, content)
        return self._constants[mark]

    def _constant(self, layer: AddConstant, like: Tensor, unit: int) -> Tensor:
        """A position table as a state."""
        key = ("constant", layer.name)
        if key not in self._tables:
            data = self.memory.place(TABLES, self._content(lambda: self._by_position(layer, layer.table), like, unit))
            # one for all samples
            self._tables[key] = dataclasses.replace(
                like, name=layer.name, data=data, unit=unit, sums=None, summed="no", stride=0
            )
        return self._tables[key]

    def _content(self, real: Callable[[], np.ndarray], like: Tensor, unit: int) -> np.ndarray | int:
        """Bytes of real numbers (positions, channels) as a state, or how many where shapes are all that counts."""
        if not self._filled:
            return like.vectors(self._parameters.lanes) * image.vector_bytes(self._parameters)
        return self.vectors(self.integers(real(), unit)).ravel()

    def _by_position(self, layer: Layer, table: np.ndarray) -> np.ndarray:
        """What a layer adds to its value, as it lies in memory: (positions, channels)."""
        return self._layouts[layer.name].by_position(np.broadcast_to(table, self._shapes[layer.name][1:]))

    def integers(self, real: np.ndarray, unit: int) -> np.ndarray:
        """Real numbers as integers of a state of unit ``2^unit``."""
        top = 2 ** (self._parameters.state_width - 1) - 1
        return np.clip(np.rint(np.ldexp(np.asarray(real, np.float64), -unit)), -top, top).astype(np.int64)

    def vectors(self, values: np.ndarray) -> np.ndarray:
        """Bytes of a state of integers (positions, channels)."""
        vectors = image.vectors_of(values, self._parameters.lanes)
        return image.pack_vectors(vectors, self._parameters)

    # Chains ---------------------------------------------------------------------------------------------------------

    def _state_of_chain(self, chain: Chain) -> Tensor:
        """What the groups of a chain are added to: the product's own state, if no norm comes in between."""
        return self._tensor(
            chain.read, self.states[self._loop.state_of(chain.product)], unit=self._loop.units[chain.read]
        )

    def _begin_chain(self, chain: Chain, value: _Value) -> None:
        """State and signs of a chain whose product has started anew.

        The signs are those of the state after a product of zero groups, which changes nothing.
        """
        name, p = chain.product.name, self._parameters
        state = self._state_of_chain(chain)
        if chain.norm is not None:
            self._make(chain.read, dataclasses.replace(value, function="identity"), 0, None, state)
        if name not in self._kept_groups:
            room = most_kept(self._method), repair_passes(self._method)
            self._kept_groups[name] = self.memory.kept(chain.read, state, *room)
        self._ran[name], self._turns[name] = self._index, 0
        kept = self._kept_groups[name]
        nothing = np.zeros((len(kept.spools), p.lanes), np.uint16)
        records = self.table(image.pack_scales(nothing, nothing), varying=False)
        (weights,) = self._weights[name]
        empty = dataclasses.replace(kept.spools[0], lines=0)
        product = Product(
            name, (Piece(empty),), Kernel(), dataclasses.replace(weights, groups=1), self._whole(state), 0
        )
        self._run(
            product,
            [1],
            None,
            None,
            False,
            range(self.samples),
            chain.product,
            Leaving(kept, 0, 1, None, 0, records, False),
        )

    def _whole(self, state: Tensor) -> Target:
        return Target.whole(state, self._parameters.lanes)

    def _chained(self, chain: Chain, pending: _Pending) -> _Value:
        """A product of a chain, whose groups stay deltas; what the signs of the step before leave of them."""
        layer, value, n = chain.product, pending.value, self._parameters.lanes
        state, kept = self._state_of_chain(chain), self._kept_groups[layer.name]
        kernel, _ = self._kernel(layer)
        target = self._whole(state)
        ends = reach(kernel, target, self._parameters, value.repeat, value.parts[0].lines)
        pieces = self._send(layer, 0, value, "channels", ends)
        units = self._loop.units[self._loop.state_of(layer)], state.unit
        if self._filled:
            found = scales(chain, self._profile, self._index, self._ran[layer.name], units, pending.shifts)
        else:
            nothing = np.zeros(state.channels, np.uint16)
            found = Scales(0, nothing, nothing)
        shifts = np.atleast_2d(found.shifts)
        if (shifts == shifts[:1]).all():
            shifts = shifts[:1]
        factors, shifts = (
            np.pad(part, ((0, 0), (0, -part.shape[1] % n))).reshape(-1, n)
            for part in np.broadcast_arrays(found.factors, shifts)
        )
        by_sample = len(shifts) > len(kept.spools)
        records = self.table(image.pack_scales(factors, shifts), varying=True)
        before = self._turns[layer.name]
        self._ran[layer.name], self._turns[layer.name] = self._index, 1 - before
        passes = self._passes(chain.activation.name, False)
        exponent = static_exponent(chain, self._profile, state.unit, self._parameters)
        product = Product(layer.name, tuple(pieces), kernel, self._weights[layer.name][0], target, 0)
        leaving = Leaving(kept, 1 - before, passes, exponent, found.places, records, by_sample)
        if kept.repairing:  # before the product leaves those of this step
            self._repair(chain, kept)
        sent = [self._passes(layer.inputs[0], False)] * len(pieces)
        self._run(product, sent, None, None, False, range(self.samples), layer, leaving)
        masked = [Piece(spool, signs=signs[before]) for spool, signs in zip(kept.spools, kept.signs, strict=True)]
        masked[0] = dataclasses.replace(masked[0], repairs=kept.repairing)
        return _Value((state,), masked=tuple(masked))

    def _repair(self, chain: Chain, kept: Kept) -> None:
        """Send what masks that changed in the step before are worth."""
        for sample in range(self.samples):
            near.emit(
                self._schedule,
                kept.repairs.sample(sample),
                kept.repairing.sample(sample),
                kept.repairing.passes,
                start=True,
                tag=self._tags[chain.activation.name],
            )

    # Emissions ------------------------------------------------------------------------------------------------------

    def _send(
        self, layer: Layer, number: int, value: _Value, along: str, ends: Sequence[int] | None = None, raw: int = 0
    ) -> list[Piece]:
        """Send an operand of a product, once in a step for all readers that always run together.

        It is sent in runs of lines, up to each of `ends`, so that the product can begin with the first of them. With
        `raw` it is sent anew in every step, in so many passes.
        """
        if value.masked:
            return list(value.masked)
        name = layer.inputs[number]
        emissions = [self._emission(layer, name, value, part, along, raw=raw > 0) for part in range(len(value.parts))]
        turn = self._turn[0] if self._turn else None
        new = [part for part, emission in enumerate(emissions) if (emission, turn) not in self._sent]
        self._sent.update((emission, turn) for emission in emissions)
        whole = ends is None or value.parts[0].channels < self._parameters.lanes
        for lines in [None] if whole else itertools.starmap(range, itertools.pairwise([0, *ends])):
            for part in new:
                self._make(name, value, part, emissions[part], None, lines, raw)
        return [Piece(emission, value.repeat) for emission in emissions]

    def _passes(self, name: str, start: bool) -> int:
        """Passes of a value in this step, of samples that start or go on."""
        if name in self.chains and not start:
            return chain_passes(self._method, self._network, self._chains[name], self._index, self._steps)
        passes = self._method.passes_of(self._network, name, self._index, self._steps)
        return max(passes, self._method.first_passes) if start else passes

    def _emission(
        self, layer: Layer, name: str, value: _Value, number: int, along: str, *, raw: bool = False
    ) -> Emission:
        """What a reader holds of a part of a value, and with it those that always run when it does; `raw`: those that
        get it anew in every step."""
        key = (name, number, along, value.heads, layer.name in self._always, raw)
        if key not in self._emissions:
            part = value.parts[number]
            unit = part.unit if value.result is None else value.result
            if value.by_head:
                part = dataclasses.replace(part, width=part.width // value.heads, channels=part.channels * value.heads)
            lines, width, channels = part.lines, part.width, part.channels
            segment = channels // value.heads if value.heads and along == "channels" else 0
            if along == "positions":
                head, p = channels // (value.heads or 1), self._parameters
                fits = [one for one in range(1, p.tile_positions + 1) if head % one == 0]
                # the product is exchanged: a tile has whole lines and whole blocks of n, or all of a head
                blocks = [one for one in fits if one == head or math.lcm(p.lanes, one) <= p.tile_positions]
                across = max(blocks or fits)
                lines, width, channels = part.channels // across, across, part.positions
            self._emissions[key] = self.memory.emission(
                f"{name}.{number}",
                lines,
                width,
                channels,
                unit,
                self._method.most_passes,
                along=along,
                segment=segment,
                samples=part.samples,
                stripes=self._stripes_of(part),
                role=(isinstance(layer, MatMul) and layer.transposed, layer.inputs.index(name)),
            )
        return self._emissions[key]

    def _make(
        self,
        name: str,
        value: _Value,
        number: int,
        emission: Emission | None,
        target: Tensor | None,
        lines: range | None = None,
        raw: int = 0,
    ) -> None:
        """Emit a part of a value, or some of its lines; `raw` as of `_send`: such readers take the value as it is."""
        for sample in self._numbers(value.parts[number]):
            start = raw > 0 or self._begins(value.parts[number], sample)
            near.emit(
                self._schedule,
                value.parts[number].sample(sample),
                emission.sample(sample) if emission else None,
                raw or (self._passes(name, start) if emission else 1),
                unit=value.result,
                function=value.function,
                norm=self._coefficients(value, number, sample, lines) if value.source is not None else None,
                softmax=self._rows_of(value, sample, lines) if value.scores is not None else None,
                middle=value.middle,
                start=start,
                exact=self._method.against == "before" or raw > 0,
                target=target.sample(sample) if target else None,
                lines=lines,
                tag=self._tags.get(name, 0),
            )

    def _coefficients(self, value: _Value, number: int, sample: int, lines: range | None) -> near.Norm:
        """The norm of a part: its tables, and the coefficients that some of its lines need, once in a step."""
        layer = value.source
        parts = [part.sample(sample) for part in value.parts]
        unit = self._loop.u_unit(layer)
        if layer.groups:
            channels = sum(part.channels for part in parts)
            sets, size = layer.groups, channels // layer.groups
            count, set_channels = size * parts[0].positions, size
        else:
            sets, size = parts[0].positions, 1
            count, set_channels = parts[0].channels, 0
        finer = parts[1].unit - parts[0].unit if len(parts) > 1 else 0
        if len(parts) > 2 or not -8 <= finer <= 8:
            raise self._refused(layer, "it reads more than two tensors, or units more than eight places apart")
        key = ("roots", layer.name, sample)
        if key not in self._tables:
            self._tables[key] = self.memory.place(STATES, sets * image.COEFFICIENT_BYTES, layer.name, "coefficients")
        roots = self._tables[key]
        runs = tuple((run, (*key, run.start)) for run in self._runs_of_sets(layer, parts, sets, size))
        first = sum(part.channels for part in parts[:number])
        mine = slice(first, first + parts[number].channels)
        tables = Affine.of(value.gain, value.shift, value.middle, source=unit, width=self._parameters.state_width)
        gain, shift = (
            np.broadcast_to(
                _of_sample(table, self._sample_of(value.parts[0], sample)), sum(part.channels for part in parts)
            )[mine]
            for table in (tables.gain, tables.shift)
        )
        own = Affine(gain, shift, tables.places)
        mark = (layer.name, number, sample, near.scales(own).tobytes())
        if mark not in self._scales:
            self._scales[mark] = self.table(near.scales(own), varying=value.varying)
        found = near.Norm(roots, self._scales[mark], set_channels, first if layer.groups else 0, number == 1, runs)
        floors = self._floors_of(layer, parts, sets, size, count)
        wanted = found.places(parts[number], range(parts[number].lines) if lines is None else lines)
        for run, place in runs:
            if place in self._sent or place not in wanted:
                continue
            self._sent.add(place)
            sums = self._records(parts, parts[0].channels if layer.groups else sets, run, size)
            tensors = [part.sums.moved(begin * image.SUM_BYTES // UNIT_BYTES) for part, begin, _ in sums]
            self._schedule.add(
                Coefficients(
                    tag=self._tags[layer.name],
                    sums1=tensors[0],
                    sums2=tensors[1] if len(sums) > 1 else Operand(0, 0),
                    floors=self.table(image.pack_floors(floors[run.start : run.stop]), varying=False),
                    result=roots.moved(run.start * image.COEFFICIENT_BYTES // UNIT_BYTES),
                    sets=len(run),
                    size=size,
                    records1=sums[0][2],
                    shift=finer if len(sums) > 1 else 0,
                    centred=layer.centred,
                    unit=-unit,
                    count=count,
                ),
                reads=[place for part, begin, many in sums for place in self._sums_of(part, begin, many)],
                writes=[place],
            )
        return found

    @staticmethod
    def _records(parts: Sequence[Tensor], of_first: int, sets: range, size: int) -> list[tuple[Tensor, int, int]]:
        """Records of sums of some sets: of which tensor, the first and how many; the first tensor has `of_first`."""
        begin, end = sets.start * size, sets.stop * size
        counts = max(min(end, of_first) - begin, 0), max(end - max(begin, of_first), 0)
        found = [(begin, counts[0]), (max(begin - of_first, 0), counts[1])]
        return [(part, first, count) for part, (first, count) in zip(parts, found, strict=False) if count]

    def _sums_of(self, tensor: Tensor, first: int, count: int) -> list[Hashable]:
        """What stands for some records of the sums of a tensor, where accesses are ordered."""
        lanes, last = self._parameters.lanes, first + count - 1
        vectors, lines = (range(first // each, last // each + 1) for each in (lanes, tensor.width))
        return tensor.sums_places(lanes, vectors, lines)

    def _runs_of_sets(self, layer: Norm, parts: Sequence[Tensor], sets: int, size: int) -> list[range]:
        """Sets whose coefficients are computed together: before others, where their sums are there before.

        Each begins on a unit of memory: coefficients, K and sums.
        """
        least = UNIT_BYTES // image.COEFFICIENT_BYTES
        if not layer.groups:
            ends = [run.stop * parts[0].width for run in self._runs_of_lines(parts[0], least)]
        elif any(part.channels % 2 for part in parts):
            ends = []
        else:
            # vectors of channels of a product are there one after the other
            each = max(least, self._parameters.lanes // size, -(-sets // 4))
            ends = list(range(each, sets, each)) if parts[-1].name not in self._at_once else []
            ends = sorted({*ends, *(part.channels // size for part in parts[:-1])})
        ends = [end for end in ends if end % least == 0 and 0 < end < sets]
        return list(itertools.starmap(range, itertools.pairwise([0, *ends, sets])))

    @staticmethod
    def _floors_of(layer: Norm, parts: Sequence[Tensor], sets: int, size: int, count: int) -> list[int]:
        """K of each set, in the unit that its sums have."""
        if not layer.groups:
            return [variance_floor(layer.epsilon, count, parts[0].unit)] * sets
        units = np.repeat([part.unit for part in parts], [part.channels for part in parts]).reshape(sets, size)
        return [variance_floor(layer.epsilon, count, int(unit)) for unit in units.min(axis=1)]

    def _rows_of(self, value: _Value, sample: int, lines: range | None) -> near.Softmax:
        """The softmax of scores, with the rows that some of their lines need."""
        scores = value.scores
        tensor = value.parts[0].sample(sample)
        root, exponent = softmax.log2_factor(scores.scale, tensor.unit)
        key = ("rows", scores.name, sample)
        if key not in self._tables:
            size = tensor.positions * image.COEFFICIENT_BYTES
            self._tables[key] = self._for_turns(tensor, ("rows", sample), size, scores.name, "rows")
        rows = self._tables[key]
        least = UNIT_BYTES // image.COEFFICIENT_BYTES
        runs = tuple((run, (*key, run.start)) for run in self._runs_of_lines(tensor, least))
        found = near.Softmax(rows, root, exponent, runs)
        wanted = found.places(range(tensor.lines) if lines is None else lines)
        for run, place in runs:
            if place in self._sent or place not in wanted:
                continue
            self._sent.add(place)
            first = run.start * tensor.width
            begin = first * -(-tensor.channels // self._parameters.lanes) * image.vector_bytes(self._parameters)
            self._schedule.add(
                Rows(
                    tag=self._tags[scores.name],
                    state=tensor.data.moved(begin // UNIT_BYTES),
                    result=rows.moved(first // least),
                    rows=len(run) * tensor.width,
                    channels=tensor.channels,
                    root=root,
                    exponent=exponent,
                ),
                reads=tensor.places(run),
                writes=[place],
            )
        return found

    # Products -------------------------------------------------------------------------------------------------------

    def _product(self, layer: Layer, value: _Value, name: str, shift: np.ndarray | None) -> _Value:
        """A product with weights; `name` is that of its state, `shift` what the layer after it adds."""
        kernel, weight = self._kernel(layer)
        states = self._product_states(layer, value, name)
        targets = [self._target(layer, value, state, name) for state in states]
        ends = reach(kernel, targets[0], self._parameters, value.repeat, value.parts[0].lines)
        pieces = self._send(layer, 0, value, "channels", ends)
        if layer.name not in self._weights:
            if value.padded:
                weight = self._between_heads(weight, value.padded)
            self._weights[layer.name] = self._compiled(weight, pieces, states[0].unit, parts=len(states))
        for number, (target, weights) in enumerate(zip(targets, self._weights[layer.name], strict=True)):
            product = Product(layer.name, tuple(pieces), kernel, weights, target, self._loop.floors[layer.name])
            bias, adds, origin = self._bias(layer, target.state, number, shift)
            for samples, start in self._runs:
                sent = [self._passes(layer.inputs[0], start)] * len(pieces)
                mine = bias if adds[samples].any() else None
                self._run(product, sent, mine, origin if start else None, start, samples, layer)
        turned = self._layouts[name].exchanged and not attended(self._network, name)
        return _Value(tuple(states), apart=len(states) > 1, turned=turned)

    def _target(self, layer: Layer, value: _Value, state: Tensor, name: str) -> Target:
        """Where a product's outputs go: sequences of attention apart, everything else in the order of the frames."""
        whole = Target.whole(state, self._parameters.lanes)
        sequences, turned = state.samples // self.samples, self._layouts[name].exchanged
        moved = turned and value.turned == attended(self._network, name)
        if sequences == 1 and not moved:
            return whole
        if moved and state.summed == "position":
            raise self._refused(layer, "a norm by position reads frames that it exchanges")
        read, places = value.parts[0], self._shapes[layer.inputs[0]][1:3]
        frames, tokens = places[::-1] if value.turned else places
        pieces = tokens // read.width
        if (read.lines, read.width * pieces) != (frames * pieces, tokens):
            raise self._refused(layer, "its frames do not lie in lines of their own")
        # from token to token of a frame, and from frame to frame: one of them is from sequence to sequence
        apart = state.step if sequences > 1 else whole.step * frames
        step, frame_step = (apart, whole.step) if moved else (whole.step, apart)
        follow = pieces == 1 or frame_step == tokens * step
        return dataclasses.replace(
            whole,
            lines=read.lines,
            width=read.width,
            sequences=sequences,
            step=step,
            line_step=frame_step if pieces == 1 else read.width * step,
            pieces=1 if follow else pieces,
            frame_step=0 if follow else frame_step,
        )

    def _product_states(self, layer: Layer, value: _Value, name: str) -> list[Tensor]:
        """What a product adds to: a state, or one for each part that its readers take."""
        parts = self._loop.parts(layer)
        if isinstance(layer, Convolution):
            if parts == 1:
                return [self._tensor(name, channels=None if self._filled else self._room_for_blocks(layer))]
        elif value.repeat != 1:
            raise self._refused(layer, "it reads upsampled tokens")
        if parts == 1:
            return [self._product_state(name, name, value)]
        channels = self._shapes[layer.name][self._layouts[layer.name].axis] // parts
        readers = {reader.index: reader.name for reader in self._network.consumers(layer.name) if reader.takes_one}
        names = [readers.get(part, f"{name}.{part}") for part in range(parts)]
        unit = self._loop.units[layer.name]
        return [self._product_state(one, layer.name, value, unit=unit, channels=channels) for one in names]

    def _product_state(self, name: str, of: str, value: _Value, **options: Any) -> Tensor:
        """The state of a product's outputs, or of a part of them; sequences of attention are samples of it."""
        like: Tensor | None = value.parts[0]
        shape, layout = self._shapes[of], self._layouts[of]
        if attended(self._network, of) and layout.sequences(shape) > 1:
            lanes, (lines, width) = self._parameters.lanes, self._cut(shape[-2])
            if shape[-1] < lanes:
                raise ValueError(f"Frames of {of!r} must have at least lanes = {lanes} channels, not {shape[-1]}")
            sequences = layout.sequences(shape)
            together = self._together(of, sequences)
            samples = self.samples * sequences
            like = dataclasses.replace(like, lines=lines, width=width, samples=samples, together=together, stride=0)
        elif layout.exchanged or layout.axis != -1:
            lines, width, _ = self._grid(of)
            like = dataclasses.replace(like, lines=lines, width=width)
        return self._tensor(name, like, **options)

    def _room_for_blocks(self, layer: Layer) -> int | None:
        """Channels of a network that is compiled for its shapes, where the last layer has fewer than n, if its vectors
        cannot run on over positions: too many whole lines for a tile would be whole vectors."""
        p, (lines, width, channels) = self._parameters, self._grid(layer.name)
        whole = p.lanes // math.gcd(p.lanes, width * channels)
        fits = channels >= p.lanes or min(whole, lines) * width <= p.tile_positions
        return None if fits or self._network.consumers(layer.name) else p.lanes

    def _between_heads(self, weight: np.ndarray, channels: int) -> np.ndarray:
        """Weights (outputs, inputs, taps) of heads of so many channels, each padded to whole groups."""
        outputs, _, taps = weight.shape
        heads = weight.reshape(outputs, -1, channels, taps)
        padding = -channels % self._parameters.lanes
        return np.pad(heads, ((0, 0), (0, 0), (0, padding), (0, 0))).reshape(outputs, -1, taps)

    @staticmethod
    def _kernel(layer: Layer) -> tuple[Kernel, np.ndarray]:
        """Of a convolution or a linear layer: geometry, and weights (outputs, inputs, taps)."""
        weight = layer.whole_weight
        if isinstance(layer, Linear):
            return Kernel(), weight[:, :, None]
        (top, _), (left, _) = layer.margins
        lines, columns = weight.shape[2:]
        kernel = Kernel(lines, columns, layer.stride, layer.dilation, top, left)
        return kernel, weight.reshape(*weight.shape[:2], -1)

    def _compiled(
        self, weight: np.ndarray, pieces: list[Piece], unit: int, *, lsb: int | None = None, parts: int = 1
    ) -> tuple[Weights, ...]:
        """Records of real weights (outputs, inputs, taps), rounded once to the machine's format (numerics, 12.21)."""
        if not self._filled:
            return room_for_weights(self.memory, len(weight), weight.shape[2], pieces, parts)
        patterns = formats.FORMATS[self._parameters.weight_format].from_floats(weight)
        return compile_weights(self.memory, patterns, pieces, unit, most_groups(self._method), lsb=lsb, parts=parts)

    def _bias(
        self, layer: Layer, state: Tensor, part: int, shift: np.ndarray | None
    ) -> tuple[Bias | None, np.ndarray, Tensor | None]:
        """What is added in this step by channel, of each sample or of all; who adds it; what starts add by position."""
        nobody = np.zeros(self.samples, bool)
        own = getattr(layer, "bias", None)
        own = np.zeros(state.channels, np.float32) if own is None else own[part * state.channels :][: state.channels]
        if shift is not None and np.ndim(shift) > 2:
            key = ("origin", state.name)
            if key not in self._tables:
                own = own.reshape(-1, *[1] * (-1 - self._layouts[layer.name].axis))
                of = self._network.by_name[state.name]
                content = self._content(lambda: self._by_position(of, np.asarray(own + shift)[0]), state, state.unit)
                room = content if isinstance(content, int) else len(content)
                data = self.memory.place(TABLES, self.samples * state.stride * UNIT_BYTES or room)
                for sample in range(self.samples if self._filled else 0):
                    # a row of the array finds its own where its state has its own
                    self.memory.fill(Operand(TABLES, data.offset + sample * state.stride), content)
                self._tables[key] = dataclasses.replace(state, data=data, sums=None, summed="no")
            return None, nobody, self._tables[key]
        bias = self.integers(own if shift is None else own + shift, state.unit)
        if (bias == bias[:1]).all() and bias.ndim > 1:
            bias = bias[0]
        before = self._added.get(state.name, np.zeros_like(bias))
        self._added[state.name] = bias
        starts = [start for _, start in self._runs]
        if len(set(starts)) == 1:
            new = bias if starts[0] else bias - before
        else:
            new = np.where(np.array(self._starts, bool)[:, None], bias, bias - before)
        adds = nobody | (new != 0).any(axis=-1)
        if not adds[list(self._running)].any():
            return None, nobody, None
        vectors = bias_vectors(new, self._parameters.lanes)
        step = vectors.shape[1] if vectors.ndim > 2 else 0
        return Bias(self.table(image.pack_entries(vectors), varying=shift is not None), step), adds, None

    def _run(
        self,
        product: Product,
        sent: Sequence[int],
        bias: Bias | None,
        origin: Tensor | None,
        start: bool,
        samples: range,
        layer: Layer,
        leaving: Leaving | None = None,
    ) -> None:
        multiply(
            self._schedule,
            self._parameters,
            product,
            sent,
            buffers=self._buffers,
            bias=bias,
            origin=origin,
            start=start,
            samples=samples,
            leaving=leaving,
            tag=self._tags[layer.name],
        )

    def _matmul(self, layer: MatMul, left: Any, right: Any) -> _Value:
        """Two products: what changed of the left times what is held of the right, then the other way round."""
        self._require(layer, "attention")
        if not isinstance(left, _Value):
            raise self._refused(layer, "its left operand is conditioning")
        if left.turned or (isinstance(right, _Value) and right.turned):
            raise self._refused(layer, "no linear layer stands between it and what exchanges frames")
        rows, columns = self._shapes[layer.name][-2:]
        split = self._layouts[layer.inputs[0]].heads
        heads = split or 1
        if layer.transposed:
            left = self._settled(layer.inputs[0], left)
            grid = self._cut(rows, exchanged=isinstance(right, _Value))
            state = self._scores(layer, left.parts[0], heads, columns, grid)
        else:
            state = self._mix(layer, heads, left.parts[0].together, exchanged=isinstance(right, _Value))
        if len(left.parts) > 1:
            raise self._refused(layer, "an operand is a concatenation")
        if isinstance(right, _Value):
            self._both(layer, left, right, state, heads)
        elif left.parts[0].samples > self.samples:
            raise self._refused(layer, "its right operand is conditioning, and its left one has sequences")
        else:
            self._constant_right(layer, left, right, state, heads)
        if layer.transposed:
            return _Value((state,))
        padded = columns if state.channels != heads * columns else 0
        return _Value((state,), heads=split, padded=padded)

    def _both(self, layer: MatMul, left: _Value, right: _Value, state: Tensor, heads: int) -> None:
        """Both operands change; from raw values there is one product, of the left's digits and of all of the right."""
        p = self._parameters
        rows, columns = self._shapes[layer.name][-2:]
        right = self._settled(layer.inputs[1], right)
        if len(right.parts) > 1:
            raise self._refused(layer, "an operand is a concatenation")
        if right.by_head and not layer.transposed:
            raise self._refused(layer, "heads that it contracts along positions were normalised")
        if not layer.transposed and self._shapes[layer.inputs[0]][-1] > p.row_buffer:
            raise self._refused(layer, f"it contracts more than row_buffer = {p.row_buffer} positions")
        if p.tile_positions < p.lanes:
            raise ValueError(
                f"tile_positions must be at least lanes = {p.lanes} for layer {layer.name!r}, not {p.tile_positions}"
            )
        along, raw = "channels" if layer.transposed else "positions", self._method.attention == "raw"
        held = [
            self._emission(layer, name, value, 0, axis, raw=raw)
            for name, value, axis in zip(layer.inputs, (left, right), ("channels", along), strict=True)
        ]
        scale = 24 + held[0].unit + held[1].unit - state.unit - self._declared
        # what is held of the right before it is sent, then of the left after it was
        of = left.parts[0]
        if self._turn is None and of.together:
            for turn in self._in_turns([left.parts[0], right.parts[0], state], held, self._tags[layer.name]):
                self._turn = turn
                self._both(layer, left, right, state, heads)
            self._turn = None
            return
        numbers = self._numbers(of)
        going_on = [number for number in numbers if not (raw or self._begins(of, number))]
        before = self._aligned(layer, held[1], heads, columns, right, scale, "right", going_on)
        ends = [run.stop for run in self._runs_of_lines(left.parts[0])]
        if raw:
            sent = self._passes(layer.inputs[0], True)
            (one,) = self._send(layer, 0, left, "channels", ends, raw=sent)
            self._send(layer, 1, right, along, raw=1)
            whole = self._aligned(layer, held[1], heads, columns, right, scale, "right", numbers)
            for sample, weights in whole.items():
                for head in range(heads):
                    self._head(layer, state, one.emission, weights[head], sample, head, heads, sent, False, True)
            return
        (one,) = self._send(layer, 0, left, "channels", ends)
        for sample, weights in before.items():
            sent = self._passes(layer.inputs[0], False)
            for head in range(heads):
                self._head(layer, state, one.emission, weights[head], sample, head, heads, sent, False, False)
        (two,) = self._send(layer, 1, right, along)
        after = self._aligned(layer, held[0], heads, rows, left, scale, "left", numbers)
        for sample, weights in after.items():
            start = self._begins(of, sample)
            sent = self._passes(layer.inputs[1], start)
            for head in range(heads):
                self._head(layer, state, two.emission, weights[head], sample, head, heads, sent, True, start)

    def _in_turns(self, tensors: Sequence[Tensor], held: Sequence[Emission], tag: int) -> Iterator[list[int]]:
        """Samples of a turn, within a loop over all sequences of each sample of the network."""
        together, of = tensors[0].together, tensors[0]
        strides = {(one.data.region, one.stride * together) for one in tensors if one.samples > self.samples}
        strides |= {(one.held.region, one.stride * together) for one in held}
        for one in tensors:
            if one.samples == self.samples:  # a mix: sequences follow each other
                size = one.positions // (of.samples // self.samples) * -(-one.channels // self._parameters.lanes)
                strides.add((one.data.region, size * together * image.vector_bytes(self._parameters) // UNIT_BYTES))
        steps = [Step(region, stride) for region, stride in sorted(strides)]
        each = of.samples // self.samples
        for sample in self._running:
            with self._schedule.loop(each // together, steps, tag):
                yield list(range(sample * each, sample * each + together))

    def _together(self, name: str, sequences: int) -> int:
        """Sequences of a turn, where attention to a value is a loop over them; 0: there are few enough at once."""
        p, read = self._parameters, self._attended_as(name)
        heads, (rows, channels) = self._layouts[read].heads or 1, self._shapes[read][-2:]
        most = max(self._products_at_once // (heads * -(-rows // p.lanes)), 1)
        # turns begin on units of memory, in what is mixed too
        mixed = rows * heads * -(-channels // p.lanes) * image.vector_bytes(p)
        fits = [
            one
            for one in range(1, min(most, sequences - 1) + 1)
            if sequences % one == 0 and one * mixed % UNIT_BYTES == 0
        ]
        return max(fits, default=0) if sequences > most else 0

    def _attended_as(self, name: str) -> str:
        """What attention reads of a value: it, or what its heads are."""
        for reader in self._network.consumers(name):
            if splits(reader):
                return reader.name
            if not isinstance(reader, MatMul) and attended(self._network, reader.name):
                return self._attended_as(reader.name)
        return name

    def _stripes_of(self, tensor: Tensor) -> Stripes | None:
        """Where what attention holds of the sequences of a state lies, if it is a loop over them."""
        if not tensor.together:
            return None
        key = tensor.samples, tensor.together
        if key not in self._stripes:
            p, most = self._parameters, 0
            for layer in self._network.layers:
                if isinstance(layer, MatMul) and layer.name in self._loop.main:
                    shapes = [self._shapes[name] for name in (layer.name, *layer.inputs)]
                    layout = self._layouts[layer.name]
                    if layout.sequences(shapes[0]) * self.samples == tensor.samples:
                        heads = layout.heads or 1
                        # elements in whole vectors, along either axis
                        found = (
                            heads * one * -(-max(other, p.lanes) // p.lanes)
                            for shape in shapes
                            for one, other in itertools.permutations(shape[-2:])
                        )
                        most = max(most, *found)
            stride = -(-most * image.vector_bytes(p) // UNIT_BYTES)
            kept = self._method.attention != "raw"
            self._stripes[key] = Stripes(self.memory, tensor.samples, stride, tensor.together, kept=kept)
        return self._stripes[key]

    def _for_turns(self, tensor: Tensor, role: Hashable, size: int, name: str, kind: str) -> Operand:
        """Room for what is made of a sample of a state; in a loop it is used up in the same turn."""
        if tensor.together:
            return self.memory.shared(role, SPOOLS, size, name, kind)
        return self.memory.place(STATES, size, name, kind)

    def _constant_right(self, layer: MatMul, left: _Value, right: np.ndarray, state: Tensor, heads: int) -> None:
        """The right operand is conditioning: it enters as weights do, and is computed once."""
        known = self._fixed.setdefault(layer.name, right)
        if not np.array_equal(known, right):
            raise self._refused(layer, "its right operand is conditioning that changes from step to step")
        (piece,) = self._send(layer, 0, left, "channels")
        one = dataclasses.replace(piece.emission, channels=self._shapes[layer.inputs[0]][-1], segment=0)
        for sample, head in itertools.product(self._running, range(heads)):
            key = ("constant", layer.name, sample, head)
            if key not in self._tables:
                matrix = right.reshape(self.samples, heads, *right.shape[-2:])[sample, head]
                weight = np.ascontiguousarray(matrix if layer.transposed else matrix.T)[:, :, None]
                (self._tables[key],) = self._compiled(weight, [Piece(one)], state.unit, lsb=self._declared)
            start = bool(self._starts[sample])
            sent = self._passes(layer.inputs[0], start)
            weights = self._tables[key]
            self._head(layer, state, piece.emission, weights, sample, head, heads, sent, False, start)

    @property
    def _declared(self) -> int:
        """L of a product of two activations (numerics, 12.12)."""
        return self._parameters.state_width + 1 - self._parameters.accumulator_width

    def _scores(self, layer: MatMul, left: Tensor, heads: int, columns: int, grid: tuple[int, int]) -> Tensor:
        """State of scores: the rows of all heads of a sequence, one after the other, in whole vectors each."""
        if layer.name not in self.states:
            lines, width = grid
            unit = self._loop.units[layer.name]
            channels, stripes = max(columns, self._parameters.lanes), self._stripes_of(left)
            self.states[layer.name] = self.memory.tensor(
                layer.name, heads * lines, width, channels, unit, samples=left.samples, stripes=stripes
            )
        return self.states[layer.name]

    def _mix(self, layer: MatMul, heads: int, together: int, *, exchanged: bool) -> Tensor:
        """State of what the rows of a softmax make of values: heads side by side, each in whole vectors."""
        if layer.name not in self.states:
            *_, rows, channels = shape = self._shapes[layer.name]
            lanes, sequences = self._parameters.lanes, self._layouts[layer.name].sequences(shape)
            if heads > 1 or channels < lanes:
                channels = heads * -(-channels // lanes) * lanes
            grid = self._pieces(sequences, rows) if sequences > 1 else self._cut(rows, exchanged=exchanged)
            unit = self._loop.units[layer.name]
            self.states[layer.name] = self.memory.tensor(
                layer.name,
                *grid,
                channels,
                unit,
                summed=self._summed(layer.name),
                samples=self.samples,
                within=MIXES if together else None,
            )
        return self.states[layer.name]

    def _aligned(
        self,
        layer: MatMul,
        emission: Emission,
        heads: int,
        outputs: int,
        value: _Value,
        scale: int,
        side: str,
        samples: Iterable[int],
    ) -> dict[int, list[Weights]]:
        """What readers hold of an operand, as records: one run of them for each sample and head."""
        p = self._parameters
        groups = emission.groups(p.lanes)
        # positions of an emission that belong to a head, or groups of a position
        split = emission.segment or (value.heads and emission.along == "channels")
        each = groups // heads if split else groups
        found: dict[int, list[Weights]] = {}
        for sample, head in itertools.product(samples, range(heads)):
            key = ("aligned", layer.name, side, sample, head)
            if key not in self._tables:
                size, role = outputs * each * image.weight_bytes(p), (layer.transposed, side, sample, head)
                self._tables[key] = self._for_turns(value.parts[0], role, size, layer.name, "records")
            records = self._tables[key]
            first = head * each if split else head * outputs * groups
            of_sample = emission.sample(sample)
            block_bytes = p.lanes * each * image.weight_bytes(p)
            # a product begins with the records of its first vector of channels
            size = p.lanes if block_bytes % UNIT_BYTES == 0 else outputs
            for begin in range(0, outputs, size):
                end = min(begin + size, outputs)
                vectors = first + begin * groups, first + (end - 1) * groups + each - 1
                low, high = (vector // (groups * emission.width) for vector in vectors)
                self._schedule.add(
                    Align(
                        tag=self._tags[layer.name],
                        held=of_sample.held,
                        result=records.moved(begin * each * image.weight_bytes(p) // UNIT_BYTES),
                        first=vectors[0],
                        step=groups,
                        outputs=end - begin,
                        groups=each,
                        scale=scale,
                    ),
                    reads=of_sample.places("held", range(low, high + 1)),
                    writes=[("records", records, block) for block in range(begin // p.lanes, -(-end // p.lanes))],
                )
            found.setdefault(sample, []).append(Weights(records, each, self._declared))
        return found

    def _head(
        self,
        layer: MatMul,
        state: Tensor,
        emission: Emission,
        weights: Weights,
        sample: int,
        head: int,
        heads: int,
        sent: int,
        exchanged: bool,
        start: bool,
    ) -> None:
        """One head of one of the two products, of one sample: its weights are no other's."""
        n = self._parameters.lanes
        sample, sequence = divmod(sample, emission.samples // self.samples)
        rows, outputs = self._shapes[layer.name][-2:]
        of = -(-state.channels // n)
        if layer.transposed:  # scores: the rows of a head stand together
            state = state.sample(sample * (state.samples // self.samples) + sequence)
            begin = head * rows * of
        else:  # the mix: heads are parts of the channels
            state = state.sample(sample)
            begin = sequence * rows * of + head * of // heads
        emission = emission.sample(sample * (emission.samples // self.samples) + sequence)
        groups = emission.groups(n)
        split = groups // weights.groups if weights.groups else 1
        lines = emission.lines if split > 1 or heads == 1 else emission.lines // heads
        first_line = 0 if split > 1 else head * lines
        first_group = head * weights.groups if split > 1 else 0
        target = Target(
            state,
            lines,
            emission.width,
            rows if exchanged else outputs,
            begin,
            of,
            emission.width * of,
            exchanged=exchanged,
        )
        product = Product(
            layer.name,
            (Piece(emission),),
            Kernel(),
            weights,
            target,
            self._loop.floors[layer.name],
            (first_line, lines, first_group, weights.groups),
        )
        self._run(product, [sent], None, None, start, range(1), layer)


def _of_sample(numbers: np.ndarray, sample: int) -> np.ndarray:
    """Numbers of a sample: those of all, (channels,) or one; or its own of (samples, channels)."""
    numbers = np.asarray(numbers)
    return numbers[sample if len(numbers) > 1 else 0] if numbers.ndim == 2 else numbers
