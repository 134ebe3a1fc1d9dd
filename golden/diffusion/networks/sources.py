"""Sources of parameters: random ones to start training from, stored ones, and tables of positions."""

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

from golden.diffusion.layers import Shape
from golden.diffusion.networks.graph import Network

Source = Callable[[str, Shape], np.ndarray]
"""Gives the parameter of a dotted name and shape."""

_Config = TypeVar("_Config")

_ZERO = ("conv2", "project", "modulation")


def initial(seed: int) -> Source:
    """Random parameters to start training from: He et al. (2015) for weights; norms start as the identity, biases at 0.

    What closes a residual branch starts at 0, so that every block starts as the identity: the last convolution of the
    U-Net's branches (Ho et al., *Denoising diffusion probabilistic models*, 2020), the modulation of the transformer's,
    gates included (adaLN-zero: Peebles and Xie, *Scalable diffusion models with transformers*, 2023). So does the last
    layer of the network. Positions start as the sines and cosines of `grid`.
    """
    rng = np.random.default_rng(seed)

    def source(name: str, shape: Shape) -> np.ndarray:
        owner, parameter = name.rsplit(".", 1)
        role = owner.rsplit(".", 1)[-1]
        if parameter == "table":
            side = math.isqrt(shape[0])
            return grid(shape[1], side, side)
        if parameter == "bias" or role in _ZERO or owner in ("head.conv", "head.linear"):
            return np.zeros(shape, np.float32)
        if role.startswith("norm"):
            return np.ones(shape, np.float32)
        # an embedding is as large as what it is added to; smaller, the label is learnt thousands of iterations later
        deviation = 1.0 if role == "embedding" else math.sqrt(2 / math.prod(shape[1:]))
        return (rng.standard_normal(shape) * deviation).astype(np.float32)

    return source


def line(width: int, positions: np.ndarray) -> np.ndarray:
    """Sinusoidal table of positions: first the sines, then the cosines, float64 ``(positions, width)``."""
    half = width // 2
    angle = np.asarray(positions, np.float64).reshape(-1, 1) * 10_000.0 ** (-np.arange(half) / half)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)


def grid(width: int, rows: int, columns: int, units: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """Sinusoidal table of a grid, row by row: half of the channels for the column, then half for the row, float32.

    Source: Peebles and Xie, *Scalable diffusion models with transformers*, 2023.

    Parameters
    ----------
    width : int
        Channels; a multiple of 4.
    rows, columns : int
        Size of the grid.
    units : two floats
        Distance between rows, and between columns.
    """
    row, column = np.meshgrid(np.arange(rows) * units[0], np.arange(columns) * units[1], indexing="ij")
    return np.concatenate([line(width // 2, column), line(width // 2, row)], axis=1).astype(np.float32)


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


def scattered(build: Callable[[_Config, Source], Network], config: _Config, seed: int) -> Network:
    """Build a network of random parameters, none of them zero: nothing in it is without effect.

    Parameters
    ----------
    build : callable
        Makes the network of its shape and a source.
    config : of any kind that `build` takes
        Its shape.
    seed : int
        Of the parameters.
    """
    rng = np.random.default_rng(seed)
    start = build(config, initial(0)).parameters()
    return build(config, stored({name: rng.standard_normal(value.shape) * 0.2 for name, value in start.items()}))
