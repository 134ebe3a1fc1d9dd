"""In which order the elements of a network's values lie in memory.

A state is a list of positions, each with its channels. Tokens of frames are two axes of positions: they lie frame after
frame, and stay so where the network exchanges both axes, so that no element moves between blocks over a frame and
blocks over time. Only what attention reads lies as its sequences do: each is a sample of its own.
"""

import dataclasses

import numpy as np

from golden.diffusion.layers import Layer, MatMul, Move, Norm, Rotary
from golden.diffusion.networks.graph import Network


def _is(layer: Layer, *patterns: str) -> bool:
    return isinstance(layer, Move) and " ".join(layer.pattern.split()) in patterns


def splits(layer: Layer) -> bool:
    """Whether a layer makes heads of channels."""
    return _is(layer, "... t (h c) -> ... h t c")


def joins(layer: Layer) -> bool:
    """Whether a layer puts heads side by side."""
    return _is(layer, "... h t c -> ... t (h c)")


def exchanges(layer: Layer) -> bool:
    """Whether a layer exchanges frames and places."""
    return _is(layer, "b f t c -> b t f c")


def merges(layer: Layer) -> bool:
    """Whether a layer only writes positions as one axis, or as two."""
    return _is(layer, "b c h w -> b (h w) c", "b (h w) c -> b c h w", "b f t c -> b (f t) c", "b (f t) c -> b f t c")


@dataclasses.dataclass(frozen=True)
class Layout:
    """Of a value.

    Members
    -------
    axis : int
        Of its channels, counted from the end.
    heads : int
        That its channels are split into; 0: they are not.
    exchanged : bool
        Whether its first two axes of positions were exchanged.
    """

    axis: int
    heads: int = 0
    exchanged: bool = False

    def sequences(self, shape: tuple[int, ...]) -> int:
        """Of attention, in a value of this shape (batch, ...): heads of one sequence count once."""
        return int(np.prod(shape[1 : -3 if self.heads else -2]))

    def by_position(self, values: np.ndarray) -> np.ndarray:
        """Values of one item, without its batch axis, as they lie in memory: (positions, channels)."""
        values = np.moveaxis(values, self.axis, -1)
        if self.exchanged:
            values = values.swapaxes(0, 1)
        return values.reshape(-1, values.shape[-1])

    def of_positions(self, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The inverse of `by_position`, for a value of this shape without its batch axis."""
        places = self.by_position(np.arange(np.prod(shape)).reshape(shape))
        found = np.empty(places.size, values.dtype)
        found[places.ravel()] = values.ravel()
        return found.reshape(shape)


def layouts(network: Network) -> dict[str, Layout]:
    """Layout of every input and value of a network."""
    shapes = network.shapes()
    found = {name: Layout(1 - len(shapes[name])) for name in network.inputs}
    for layer in network.layers:
        before = found[layer.inputs[0]]
        axis = before.axis if layer.channel_axis is None else layer.channel_axis
        heads = shapes[layer.name][-3] if splits(layer) else 0 if joins(layer) else before.heads
        found[layer.name] = Layout(axis, heads, before.exchanged != exchanges(layer))
    return found


def attended(network: Network, name: str) -> bool:
    """Whether a product of two activations reads a value, perhaps split into heads, normalised or turned before."""
    return any(
        isinstance(reader, MatMul)
        or (splits(reader) or isinstance(reader, Norm | Rotary) or _is(reader, "... (n c) -> ... c"))
        and attended(network, reader.name)
        for reader in network.consumers(name)
    )
