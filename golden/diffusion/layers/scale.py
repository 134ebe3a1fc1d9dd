"""Products, and products and sums, element by element."""

from dataclasses import dataclass

import numpy as np

from golden.diffusion.layers.base import Layer, Pair, Role, Shape


def _per_channel(vector: np.ndarray, ndim: int, axis: int) -> np.ndarray:
    """``(batch, channels)`` ready to be broadcast along `axis` of a value with `ndim` axes."""
    shape = [1] * ndim
    shape[0], shape[axis] = vector.shape
    return vector.reshape(shape)


@dataclass(frozen=True, eq=False)
class Modulate(Layer, kind="modulate", role=Role.SCALE):
    """``x * (1 + scale) + shift``, with a shift and a scale for each channel: adaptive normalisation.

    Source: Peebles and Xie, *Scalable diffusion models with transformers*, 2023. Inputs: x, shift, scale.

    Parameters
    ----------
    axis : int
        Channels of x: the last axis of tokens, axis 1 of images.
    """

    axis: int = -1

    def __call__(self, x: np.ndarray, shift: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Scale and shift ``(batch, ..., channels)`` by ``(batch, channels)``."""
        shift, scale = (_per_channel(vector, x.ndim, self.axis) for vector in (shift, scale))
        return x * (np.float32(1) + scale) + shift

    def shape(self, *shapes: Shape) -> Shape:
        """That of x."""
        x, *vectors = shapes
        channels = (x[0], x[self.axis])
        self._check(vectors == [channels] * 2, "a value, and a shift and a scale for each of its channels", *shapes)
        return x


@dataclass(frozen=True, eq=False)
class Gate(Layer, kind="gate", role=Role.SCALE, linear=True):
    """``x * gate``, with a gate for each channel. Inputs: x, gate.

    Parameters
    ----------
    axis : int
        Channels of x: the last axis of tokens, axis 1 of images.
    """

    axis: int = -1

    def __call__(self, x: np.ndarray, gate: np.ndarray) -> np.ndarray:
        """Scale ``(batch, ..., channels)`` by ``(batch, channels)``."""
        return x * _per_channel(gate, x.ndim, self.axis)

    def shape(self, *shapes: Shape) -> Shape:
        """That of x."""
        x, gate = shapes
        self._check(gate == (x[0], x[self.axis]), "a value and a gate for each of its channels", x, gate)
        return x


@dataclass(frozen=True, eq=False)
class Multiply(Pair, kind="multiply", role=Role.SCALE, linear=True):
    """Product of two values of one shape, element by element: the gate of GEGLU. Both change from step to step."""

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Multiply elementwise."""
        return a * b


def exchanged_pairs(x: np.ndarray) -> np.ndarray:
    """Neighbouring pairs of the last axis, each with its elements exchanged."""
    return x.reshape(*x.shape[:-1], -1, 2)[..., ::-1].reshape(x.shape)


@dataclass(frozen=True, eq=False)
class Rotary(Layer, kind="rotary", role=Role.SCALE, linear=True):
    """Rotary position embedding: neighbouring pairs of channels are turned by an angle that grows with the token.

    With pair j of ``width / 2`` and token p the angle is ``p * period ** (-2 j / width)``; the product of a query and a
    key then depends on their distance only. Source: Su et al., *RoFormer*, 2021, section 3.2.

    Parameters
    ----------
    period : float
        Longest wavelength over 2 pi, in tokens.
    """

    period: float = 10_000.0

    def shape(self, *shapes: Shape) -> Shape:
        """That of the value."""
        (x,) = shapes
        self._check(x[-1] % 2 == 0, "tokens of an even number of channels", x)
        return x

    def factors(self, tokens: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """What each element is multiplied with, and what its neighbour in the pair is: float32 (tokens, width)."""
        # float64 inside, as for the encoding of timesteps
        angle = np.arange(tokens)[:, None] * self.period ** (-2 * np.arange(width // 2) / width)
        cosine, sine = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        own, other = (np.stack(pair, axis=-1) for pair in ((cosine, cosine), (-sine, sine)))
        return own.reshape(tokens, width), other.reshape(tokens, width)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Turn ``(..., tokens, width)``."""
        own, other = self.factors(*x.shape[-2:])
        return x * own + exchanged_pairs(x) * other
