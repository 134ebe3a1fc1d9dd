"""What the builders of networks share: a list of layers that grows, and rules of their configurations."""

from collections.abc import Mapping, Sequence

from golden.networks import layers as kinds
from golden.networks.layers import Layer
from golden.networks.sources import Source

ACTIVATIONS: Mapping[str, type[Layer]] = {"relu": kinds.ReLU, "silu": kinds.SiLU}
"""Activations a configuration may name; a layer's own name ends in the same word."""


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

    def group_norm(self, name: str, x: str, width: int, groups: int) -> str:
        """Append a GroupNorm."""
        weight, bias = self.source(f"{name}.weight", (width,)), self.source(f"{name}.bias", (width,))
        return self.add(kinds.GroupNorm, name, x, weight=weight, bias=bias, groups=groups)

    def activation(self, name: str, x: str, activation: str) -> str:
        """Append one of `ACTIVATIONS`."""
        return self.add(ACTIVATIONS[activation], name, x)

    def parts(self, name: str, x: str, words: Sequence[str]) -> list[str]:
        """Append the equal parts of the last axis, called ``<name>.<word>``."""
        return [
            self.add(kinds.Part, f"{name}.{word}", x, index=index, parts=len(words)) for index, word in enumerate(words)
        ]

    def condition(self, encoding: int, width: int, labels: int, activation: str) -> str:
        """Append what makes one activated vector of ``timestep`` and ``label``, for every block to read."""
        time = self.add(kinds.TimeEncoding, "time.encoding", "timestep", channels=encoding)
        time = self.linear("time.linear1", time, encoding, width)
        time = self.activation(f"time.{activation}1", time, activation)
        time = self.linear("time.linear2", time, width, width)
        table = self.source("label.embedding.weight", (labels, width))
        label = self.add(kinds.Embedding, "label.embedding", "label", weight=table)
        time = self.add(kinds.Add, "time.add", time, label)
        return self.activation(f"time.{activation}2", time, activation)


def check_counts(owner: str, values: Mapping[str, object]) -> None:
    """Refuse values that are not positive integers.

    Raises
    ------
    ValueError
        Naming the owner, the field and the value.
    """
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{owner} {name} must be a positive integer, not {value!r}")


def check_flag(owner: str, name: str, value: object) -> None:
    """Refuse a value that is not a bool.

    Raises
    ------
    ValueError
        Naming the owner, the field and the value.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{owner} {name} must be true or false, not {value!r}")
