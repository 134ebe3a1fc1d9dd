"""A network as a list of layers in order of evaluation, the executor that runs it, and the trace of a run.

An *executor* is any callable ``(layer, values) -> value``. `Network` walks its layers and asks the executor for each of
them, so a differential or a bit-exact execution is another executor over the same network: it keeps its state by
`Layer.name` and reads the parameters of the layer. `dense` calls the layer itself.
"""

import abc
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from golden.common import names, threads
from golden.diffusion.layers import Layer, Shape

Executor = Callable[[Layer, Sequence[np.ndarray]], np.ndarray]
"""Evaluates one layer: takes the layer and the values of its inputs, returns its value."""

Combine = Callable[[Mapping[str, tuple[np.ndarray, Any]], str], np.ndarray]
"""Makes a sum in a sampler's step: takes values and their factors by what they are, and what the sum is.

Values are an ``"image"``, a ``"prediction"`` (``"without"`` conditioning), ``"fresh"`` noise; sums are a ``"guided"``
prediction, the ``"clean"`` image, which is clipped to -1..1, and the next ``"image"``.
"""


def binary32(terms: Mapping[str, tuple[np.ndarray, Any]], name: str) -> np.ndarray:
    """A sum in a sampler's step, see `Combine`; a factor of 1 costs no rounding."""
    total = None
    for value, factor in terms.values():
        term = value if np.ndim(factor) == 0 and factor == 1 else np.float32(factor) * value
        total = term if total is None else total + term
    return np.clip(total, -1, 1) if name == "clean" else total


class StatefulExecutor(abc.ABC):
    """Executor that remembers the steps before: of the values it passes from layer to layer it may make what it likes.

    A sampler calls `begin_step` before each evaluation of the network; `Network` calls the executor itself for each
    layer, and `result` for the last one.

    """

    def combine(self, terms: Mapping[str, tuple[np.ndarray, Any]], name: str) -> np.ndarray:
        """A sum in a sampler's step, see `Combine`, as the executor rounds it: in binary32 unless it says otherwise."""
        return binary32(terms, name)

    def begin_step(self, index: int, steps: int | None, reference: np.ndarray | None = None) -> None:  # noqa: B027
        """A step begins.

        Parameters
        ----------
        index : int
            Number of the step in order of execution, from 0.
        steps : int or None
            How many there are; None: nobody knows, and none is the last.
        reference : int (batch,), optional
            For each item of the batch, the item whose state of the step before is its reference; -1: none, it starts
            anew. The default is each item its own.
        """

    @abc.abstractmethod
    def __call__(self, layer: Layer, values: Sequence[Any]) -> Any:
        """Evaluate `layer` for the values of its inputs: inputs of the network arrive as arrays."""

    def result(self, value: Any) -> np.ndarray:
        """Raw value as an array, of a value that the executor returned."""
        return value

    def held(self, value: Any) -> Any:
        """A value of an earlier step, as layers are to read it in a step that does not compute it anew."""
        return value


def _raw(executor: Executor, value: Any) -> np.ndarray:
    return executor.result(value) if isinstance(executor, StatefulExecutor) else value


def combine_of(executor: Executor) -> Combine:
    """What makes the sums of a sampler's step."""
    return executor.combine if isinstance(executor, StatefulExecutor) else binary32


def begin_step(executor: Executor, index: int, steps: int | None, reference: np.ndarray | None = None) -> None:
    """Tell an executor that a step begins, if it is one that keeps state. See `StatefulExecutor.begin_step`."""
    if isinstance(executor, StatefulExecutor):
        executor.begin_step(index, steps, reference)


def dense(layer: Layer, values: Sequence[np.ndarray]) -> np.ndarray:
    """Executor that computes every layer from raw values in float32."""
    return layer(*values)


def conditioned(layer: Layer, values: Sequence[np.ndarray]) -> np.ndarray:
    """A layer of the conditioning, for tables that must have the same bits wherever they are made.

    Numerics: real numbers are taken and computed in binary64, the result is rounded once to binary32. Sums of binary64
    in another order differ in bits that this rounding all but never lets through.
    """
    found = layer(*(value.astype(np.float64) if value.dtype.kind == "f" else value for value in values))
    return found.astype(np.float32) if found.dtype.kind == "f" else found


class Network:
    """A feed-forward network.

    Parameters
    ----------
    name : str
        Name in the zoo.
    inputs : mapping of str to tuple of int
        Names of the inputs in calling order, each with its shape without the batch axis.
    layers : sequence of Layer
        Every layer after those it reads; the last one is the output.
    config : mapping, optional
        What the network was built from: JSON values only. With ``classes`` a further row of labels is the null label.

    Raises
    ------
    TypeError
        If a layer is none, or reads more or fewer values than it takes.
    ValueError
        If a name occurs twice, or a layer reads a name that does not stand before it, or shapes that it cannot take.
    """

    def __init__(
        self, name: str, inputs: Mapping[str, Shape], layers: Sequence[Layer], config: Mapping[str, Any] | None = None
    ):
        known = set(inputs)
        for layer in layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"Layers of network {name!r} must be of the class Layer, not {type(layer).__name__}")
            if layer.name in known:
                raise ValueError(f"Layer name must be unique in network {name!r}, not {layer.name!r} again")
            for source in layer.inputs:
                if not isinstance(source, str):
                    raise TypeError(f"Input of layer {layer.name!r} must be a name, not {type(source).__name__}")
                if source not in known:
                    raise ValueError(f"Input of layer {layer.name!r} must be an earlier layer, not {source!r}")
            known.add(layer.name)
            try:
                inspect.signature(layer.__call__).bind(*layer.inputs)
            except TypeError as error:
                raise TypeError(f"Layer {layer.name!r} must read as many values as it takes: {error}") from None
        if not layers:
            raise ValueError(f"Network {name!r} must have a layer, not none")
        self._name = name
        self._inputs = dict(inputs)
        self._layers = tuple(layers)
        self._config = dict(config or {})
        self._by_name = {layer.name: layer for layer in layers}
        self._consumers: dict[str, list[Layer]] = {name: [] for name in known}
        for layer in layers:
            for source in dict.fromkeys(layer.inputs):
                self._consumers[source].append(layer)
        self._largest = max(self.macs().values())
        self._plans: dict[tuple[frozenset[str], frozenset[str]], list[tuple[Layer, list[str]]]] = {}

    @property
    def name(self) -> str:
        """Name in the zoo."""
        return self._name

    @property
    def inputs(self) -> dict[str, Shape]:
        """Input names and their shapes without the batch axis."""
        return dict(self._inputs)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Layers in order of evaluation."""
        return self._layers

    @property
    def config(self) -> dict[str, Any]:
        """What the network was built from."""
        return dict(self._config)

    @property
    def by_name(self) -> Mapping[str, Layer]:
        """Layers by name."""
        return self._by_name

    def __call__(
        self,
        *inputs: np.ndarray,
        executor: Executor = dense,
        given: Mapping[str, Any] | None = None,
        keep: Iterable[str] = (),
    ) -> Any:
        """Evaluate the network, or what is left of it where some values are known: what the output needs, no more.

        Parameters
        ----------
        inputs : arrays (batch, ...)
            One for each name in `inputs`. Images are taken as float32, timesteps and labels as they are.
        executor : Executor
            Evaluates each layer.
        given : mapping of str to value
            Values of layers that are known, as the executor takes them (see `StatefulExecutor.held`). They are not
            evaluated, nor is what only they need.
        keep : iterable of str
            Layers whose values are returned beside the output.

        Returns
        -------
        array
            Value of the last layer; with `keep`, the pair of it and a dict of the values kept, as the executor returned
            them.

        Raises
        ------
        TypeError, ValueError
            If the number of inputs or the shape of one is wrong, or `given` or `keep` names no layer.
        """
        given, keep = dict(given or {}), tuple(keep)
        plan = self._plan(frozenset(given), frozenset(keep))
        values: dict[str, Any] = self._check(inputs) | given
        with threads.limited(self._largest * len(inputs[0])):
            for layer, dead in plan:
                values[layer.name] = executor(layer, [values[source] for source in layer.inputs])
                for source in dead:
                    del values[source]
        output = _raw(executor, values[self._layers[-1].name])
        return (output, {name: values[name] for name in keep}) if keep else output

    def evaluated(self, given: Iterable[str] = (), keep: Iterable[str] = ()) -> tuple[Layer, ...]:
        """Layers that a call with these names `given` and to `keep` evaluates, in order."""
        return tuple(layer for layer, _ in self._plan(frozenset(given), frozenset(keep)))

    def _plan(self, given: frozenset[str], keep: frozenset[str]) -> list[tuple[Layer, list[str]]]:
        """Layers to evaluate, each with the values that nothing needs after it."""
        if (given, keep) not in self._plans:
            for name in sorted(given | keep):
                names.lookup("Layer", name, self._by_name)
            wanted = {self._layers[-1].name, *keep}
            backwards = []
            for layer in reversed(self._layers):
                if layer.name in wanted and layer.name not in given:
                    dead = [source for source in dict.fromkeys(layer.inputs) if source not in wanted]
                    backwards.append((layer, dead))
                    wanted.update(layer.inputs)
            self._plans[given, keep] = backwards[::-1]
        return self._plans[given, keep]

    def _check(self, inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        if len(inputs) != len(self._inputs):
            names = ", ".join(self._inputs)
            raise TypeError(f"Inputs of network {self._name!r} must be {names}, not {len(inputs)} arrays")
        values = {}
        for (name, shape), value in zip(self._inputs.items(), inputs, strict=True):
            value = np.asarray(value)
            if value.shape[1:] != shape or value.ndim != len(shape) + 1:
                expected = ", ".join(["batch", *map(str, shape)])
                raise ValueError(f"Input {name!r} must have the shape ({expected}), not {value.shape}")
            values[name] = value.astype(np.float32) if value.dtype.kind == "f" else value
        if len({len(value) for value in values.values()}) > 1:
            sizes = ", ".join(f"{name} {len(value)}" for name, value in values.items())
            raise ValueError(f"Batch size must be the same for every input, not {sizes}")
        return values

    def parameters(self) -> dict[str, np.ndarray]:
        """Every parameter under ``<layer>.<parameter>``, float32."""
        return {f"{layer.name}.{name}": value for layer in self._layers for name, value in layer.parameters().items()}

    def shapes(self, batch: int = 1) -> dict[str, Shape]:
        """Shape of every input and every layer's output."""
        shapes: dict[str, Shape] = {name: (batch, *shape) for name, shape in self._inputs.items()}
        for layer in self._layers:
            shapes[layer.name] = layer.shape(*(shapes[source] for source in layer.inputs))
        return shapes

    def macs(self, batch: int = 1) -> dict[str, int]:
        """Multiply-accumulates of every layer in one call."""
        shapes = self.shapes(batch)
        return {layer.name: layer.macs(*(shapes[source] for source in layer.inputs)) for layer in self._layers}

    def consumers(self, name: str) -> tuple[Layer, ...]:
        """Layers that read the value called `name`."""
        return tuple(self._consumers.get(name, ()))


def main_values(network: Network) -> frozenset[str]:
    """Names of the values that depend on the network's first input; the rest is conditioning, computed apart."""
    found = {next(iter(network.inputs))}
    for layer in network.layers:
        if found.intersection(layer.inputs):
            found.add(layer.name)
    return frozenset(found)


@dataclass(frozen=True)
class Record:
    """What one layer saw in one call.

    Members
    -------
    inputs : tuple of arrays
        Values read.
    output : array
        Value computed, before anything that follows.
    """

    inputs: tuple[np.ndarray, ...]
    output: np.ndarray


@dataclass
class Recorder(StatefulExecutor):
    """Executor that keeps what the named layers saw in the last call, and leaves the work to another executor.

    Parameters
    ----------
    names : iterable of str, or None
        Layers to record; None records all of them.
    executor : Executor
        Does the work.

    Members
    -------
    records : dict of str to Record
        By layer name; overwritten by the next call.
    """

    names: Iterable[str] | None = None
    executor: Executor = dense
    records: dict[str, Record] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Names become a set; sums are those of the executor that does the work."""
        self.combine = combine_of(self.executor)
        self.names = None if self.names is None else frozenset(self.names)

    def begin_step(self, index: int, steps: int | None, reference: np.ndarray | None = None) -> None:
        """Tell the executor that does the work."""
        begin_step(self.executor, index, steps, reference)

    def result(self, value: Any) -> np.ndarray:
        """As the executor that does the work says."""
        return _raw(self.executor, value)

    def held(self, value: Any) -> Any:
        """As the executor that does the work says."""
        return self.executor.held(value) if isinstance(self.executor, StatefulExecutor) else value

    def __call__(self, layer: Layer, values: Sequence[np.ndarray]) -> np.ndarray:
        """Evaluate `layer` and keep the record."""
        output = self.executor(layer, values)
        if self.names is None or layer.name in self.names:
            raw = [_raw(self.executor, value) for value in (*values, output)]
            self.records[layer.name] = Record(tuple(raw[:-1]), raw[-1])
        return output
