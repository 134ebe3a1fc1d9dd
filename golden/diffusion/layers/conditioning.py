"""How timestep and label become vectors."""

from dataclasses import dataclass

import numpy as np

from golden.diffusion.layers.base import Layer, Role, Shape


@dataclass(frozen=True, eq=False)
class TimeEncoding(Layer, kind="time_encoding", role=Role.EMBEDDING, channel_axis=-1):
    """Sinusoidal encoding of a timestep (Vaswani et al., *Attention is all you need*, 2017, section 3.5).

    Parameters
    ----------
    channels : int
        Even length of the encoding: first the cosines, then the sines.
    period : float
        Longest wavelength over 2 pi, in timesteps.
    shift : float
        Of ``n`` wavelengths number i is ``period ** (i / (n - shift))``: with 1 the longest is `period` itself.
    sines_first : bool
        First the sines, then the cosines.
    """

    channels: int = 32
    period: float = 10_000.0
    shift: float = 0.0
    sines_first: bool = False

    def __call__(self, timestep: np.ndarray) -> np.ndarray:
        """Encode ``(batch,)`` timesteps as float32 ``(batch, channels)``."""
        half = self.channels // 2
        # float64 inside: an angle near 1000 has no more than 13 good fraction bits in float32
        angle = np.asarray(timestep, np.float64)[:, None] * self.period ** (-np.arange(half) / (half - self.shift))
        waves = (np.sin, np.cos) if self.sines_first else (np.cos, np.sin)
        return np.concatenate([wave(angle) for wave in waves], axis=1).astype(np.float32)

    def shape(self, *shapes: Shape) -> Shape:
        """``(batch, channels)``."""
        return (shapes[0][0], self.channels)


@dataclass(frozen=True, eq=False)
class Embedding(Layer, kind="embedding", role=Role.EMBEDDING, channel_axis=-1):
    """A row of a table for each label.

    Parameters
    ----------
    weight : float32 (labels, channels)
        Table.
    """

    weight: np.ndarray

    def __call__(self, label: np.ndarray) -> np.ndarray:
        """Look up ``(batch,)`` integer labels."""
        return self.weight[label]

    def parameters(self) -> dict[str, np.ndarray]:
        """``weight``."""
        return {"weight": self.weight}

    def shape(self, *shapes: Shape) -> Shape:
        """``(batch, channels)``."""
        return (shapes[0][0], self.weight.shape[1])
