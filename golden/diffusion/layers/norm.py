"""Normalisation by the statistics of the value itself."""

from dataclasses import dataclass

import numpy as np

from golden.diffusion.layers.base import Layer, Role, Shape


@dataclass(frozen=True, eq=False)
class Norm(Layer, kind="norm", role=Role.NORM):
    """Normalise sets of elements to mean 0 and variance 1, then scale and shift each channel.

    ==============  ================================================  ==========  =========
    norm            a set                                             `groups`    `centred`
    ==============  ================================================  ==========  =========
    ``GroupNorm``   neighbouring channels of one item, all positions  1 or more   True
    ``LayerNorm``   all channels of one token, the last axis          0           True
    ``RMSNorm``     as of a ``LayerNorm``                             0           False
    ==============  ================================================  ==========  =========

    Sources: Wu and He, *Group normalization*, 2018; Ba et al., *Layer normalization*, 2016; Zhang and Sennrich, *Root
    mean square layer normalization*, 2019 (of queries and keys it is QK-norm).

    Parameters
    ----------
    weight, bias : float32 (channels,) or None
        Scale and shift; None: 1 and 0.
    groups : int
        Groups of channels, axis 1; 0: each vector along the last axis is a set.
    epsilon : float
        Added to the variance.
    centred : bool
        Take the mean away; otherwise it counts as 0, and the variance is the mean square.
    """

    weight: np.ndarray | None = None
    bias: np.ndarray | None = None
    groups: int = 0
    epsilon: float = 1e-5
    centred: bool = True

    def sets(self, shape: Shape) -> Shape:
        """Of a value's shape, that of its statistics: ``(batch, groups)``, or all but the last axis."""
        return (shape[0], self.groups) if self.groups else shape[:-1]

    def rows(self, x: np.ndarray) -> np.ndarray:
        """Elements of each set along the last axis, ``(*sets, elements)``."""
        return x.reshape(*self.sets(x.shape), -1)

    def per_channel(self, factor: np.ndarray, ndim: int) -> np.ndarray:
        """Scale or shift, ready to be broadcast against a value of so many axes."""
        return factor.reshape(-1, *[1] * (ndim - 2)) if self.groups else factor

    def shape(self, *shapes: Shape) -> Shape:
        """That of the value."""
        (x,) = shapes
        channels = x[1 if self.groups else -1]
        self._check(not self.groups or channels % self.groups == 0, f"a multiple of {self.groups} channels", x)
        for factor in self.parameters().values():
            self._check(factor.shape == (channels,), f"values of {len(factor)} channels", x)
        return x

    def statistics(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (with `epsilon` under the root) of each set."""
        rows = self.rows(x)
        mean = rows.mean(axis=-1) if self.centred else np.zeros(rows.shape[:-1], x.dtype)
        variance = np.square(rows - mean[..., None]).mean(axis=-1)
        return mean, np.sqrt(variance + np.float32(self.epsilon))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Normalise ``(batch, channels, ...)``, or ``(..., channels)`` without groups."""
        mean, deviation = self.statistics(x)
        z = self.rows(x) - mean[..., None]
        z /= deviation[..., None]
        z = z.reshape(x.shape)
        if self.weight is not None:
            z *= self.per_channel(self.weight, x.ndim)
        if self.bias is not None:
            z += self.per_channel(self.bias, x.ndim)
        return z

    def parameters(self) -> dict[str, np.ndarray]:
        """``weight`` and ``bias``, those there are."""
        return {name: value for name in ("weight", "bias") if (value := getattr(self, name)) is not None}
