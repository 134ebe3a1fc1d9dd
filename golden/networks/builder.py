"""What the builders of networks share: sources of parameters, and a list of layers that grows."""

import math
from collections.abc import Callable, Mapping

import numpy as np

from golden.networks import layers as kinds
from golden.networks.layers import Layer, Shape

Source = Callable[[str, Shape], np.ndarray]
"""Gives the parameter of a dotted name and shape."""

ACTIVATIONS: Mapping[str, type[Layer]] = {"relu": kinds.ReLU, "silu": kinds.SiLU}
"""Activations a configuration may name; a layer's own name ends in the same word."""

_ZERO = ("conv2", "project", "modulation")


def initial(seed: int) -> Source:
    """Random parameters to start training from: He et al. (2015) for weights; norms start as the identity, biases at 0.

    What closes a residual branch starts at 0, so that every block starts as the identity: the last convolution of the
    U-Net's branches (Ho et al., *Denoising diffusion probabilistic models*, 2020), the modulation of the transformer's,
    gates included (adaLN-zero: Peebles and Xie, *Scalable diffusion models with transformers*, 2023). So does the last
    layer of the network. Positions start as the sines and cosines of `positions`.
    """
    rng = np.random.default_rng(seed)

    def source(name: str, shape: Shape) -> np.ndarray:
        owner, parameter = name.rsplit(".", 1)
        role = owner.rsplit(".", 1)[-1]
        if parameter == "table":
            return positions(math.isqrt(shape[0]), shape[1])
        if parameter == "bias" or role in _ZERO or owner in ("head.conv", "head.linear"):
            return np.zeros(shape, np.float32)
        if role.startswith("norm"):
            return np.ones(shape, np.float32)
        # an embedding is as large as what it is added to; smaller, the label is learnt thousands of iterations later
        deviation = 1.0 if role == "embedding" else math.sqrt(2 / math.prod(shape[1:]))
        return (rng.standard_normal(shape) * deviation).astype(np.float32)

    return source


def positions(side: int, channels: int) -> np.ndarray:
    """Sines and cosines of row and column of each token of a square image (Peebles and Xie, 2023).

    Parameters
    ----------
    side : int
        Tokens in a row.
    channels : int
        Divisible by 4: a quarter each for the sines and cosines of the column, then of the row.

    Returns
    -------
    float32 (side * side, channels)
        One vector for each token, row by row.
    """
    frequency = 10_000.0 ** (-np.arange(channels // 4) / (channels // 4))
    row, column = np.divmod(np.arange(side * side), side)
    angles = [place[:, None] * frequency for place in (column, row)]
    return np.concatenate([f(angle) for angle in angles for f in (np.sin, np.cos)], axis=1).astype(np.float32)


def stored(parameters: Mapping[str, np.ndarray]) -> Source:
    """Parameters read from a mapping.

    Raises
    ------
    ValueError
        When a parameter is asked for that is missing, has another shape, or is not finite.
    """

    def source(name: str, shape: Shape) -> np.ndarray:
        if name not in parameters:
            raise ValueError(f"Parameters must contain {name!r}, not only {len(parameters)} others")
        value = np.asarray(parameters[name], np.float32)
        if value.shape != shape:
            raise ValueError(f"Parameter {name!r} must have the shape {shape}, not {value.shape}")
        if not np.isfinite(value).all():
            raise ValueError(f"Parameter {name!r} must be finite, not {value[~np.isfinite(value)][0]}")
        return value

    return source


class Builder:
    """Appends layers; every method returns the name of what it appended last.

    Parameters
    ----------
    source : Source
        Where parameters come from.

    Members
    -------
    layers : list of Layer
        What was appended.
    """

    def __init__(self, source: Source):
        self.source = source
        self.layers: list[Layer] = []

    def add(self, kind: type[Layer], name: str, *inputs: str, **arguments: object) -> str:
        """Append a layer that owns no parameters, or those given."""
        self.layers.append(kind(name, inputs, **arguments))
        return name

    def convolution(self, name: str, x: str, width_in: int, width_out: int, size: int = 3, stride: int = 1) -> str:
        """Append a convolution."""
        weight = self.source(f"{name}.weight", (width_out, width_in, size, size))
        bias = self.source(f"{name}.bias", (width_out,))
        return self.add(kinds.Convolution, name, x, weight=weight, bias=bias, stride=stride)

    def linear(self, name: str, x: str, width_in: int, width_out: int) -> str:
        """Append a linear layer."""
        weight = self.source(f"{name}.weight", (width_out, width_in))
        return self.add(kinds.Linear, name, x, weight=weight, bias=self.source(f"{name}.bias", (width_out,)))

    def norm(self, name: str, x: str, width: int, groups: int) -> str:
        """Append a GroupNorm."""
        weight, bias = self.source(f"{name}.weight", (width,)), self.source(f"{name}.bias", (width,))
        return self.add(kinds.GroupNorm, name, x, weight=weight, bias=bias, groups=groups)

    def activation(self, activation: str, name: str, x: str, number: str = "") -> str:
        """Append one of `ACTIVATIONS`, called ``<name>.<activation><number>``."""
        return self.add(ACTIVATIONS[activation], f"{name}.{activation}{number}", x)

    def condition(self, encoding: int, width: int, labels: int, activation: str) -> str:
        """Append what makes one activated vector of ``timestep`` and ``label``, for every block to read."""
        time = self.add(kinds.TimeEncoding, "time.encoding", "timestep", channels=encoding)
        time = self.linear("time.linear1", time, encoding, width)
        time = self.activation(activation, "time", time, "1")
        time = self.linear("time.linear2", time, width, width)
        table = self.source("label.embedding.weight", (labels, width))
        label = self.add(kinds.Embedding, "label.embedding", "label", weight=table)
        time = self.add(kinds.Add, "time.add", time, label)
        return self.activation(activation, "time", time, "2")


def check_positive(what: str, config: object, names: tuple[str, ...]) -> None:
    """Require that the named fields of a configuration are positive integers.

    Raises
    ------
    ValueError
        Naming the first that is not.
    """
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{what} {name} must be a positive integer, not {value!r}")


def check_flag(what: str, config: object, name: str) -> None:
    """Require that the named field of a configuration is a bool.

    Raises
    ------
    ValueError
        If it is not.
    """
    if not isinstance(getattr(config, name), bool):
        raise ValueError(f"{what} {name} must be true or false, not {getattr(config, name)!r}")
