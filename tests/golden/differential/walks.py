"""Tensors cut into vectors by plain loops, and the units' quantiser on them: what the fast one must agree with."""

import numpy as np

from golden.units.delta_quantizer import quantise_all


def patterns(values):
    """FP16 patterns of FP16 numbers."""
    halves = np.asarray(values, np.float32).astype(np.float16)
    assert (halves.astype(np.float32) == values).all()
    return np.where(halves == 0, np.float16(0), halves).view(np.uint16)


def vectors(values, axis, segments, n):
    """Rows (V, n) in stream order: position by position, the groups of a position side by side, padded with zeros."""
    last = np.moveaxis(values, axis, -1)
    rows = []
    for position in last.reshape(-1, last.shape[-1]):
        start = 0
        for length in segments:
            for first in range(start, start + length, n):
                part = position[first : min(first + n, start + length)]
                rows.append(np.concatenate([part, np.zeros(n - len(part), values.dtype)]))
            start += length
    return np.array(rows)


def tensor(rows, shape, axis, segments, n):
    """The inverse of `vectors`."""
    moved = list(shape)
    moved.append(moved.pop(axis))
    kept = np.concatenate([np.arange(n) < min(n, length - at) for length in segments for at in range(0, length, n)])
    flat = rows.reshape(-1, len(kept))[:, kept]
    return np.moveaxis(flat.reshape(moved), -1, axis)


def units(values, axis, segments, parameters, passes, **options):
    """Groups of all passes as the units make them, and the tensor that they dequantise to."""
    rows = vectors(patterns(values), axis, segments, parameters.lanes)
    result = quantise_all(rows, parameters, passes, **options)
    total = np.zeros(rows.shape, np.int64)
    np.add.at(total, result.vector, result.groups.fixed())
    return result, tensor((total * 2.0**-24).astype(np.float32), values.shape, axis, segments, parameters.lanes)


def halves(rng, shape, low=-20, high=6):
    """FP16 numbers of very different magnitudes, some of them 0 and some of them ties."""
    values = rng.standard_normal(shape) * np.exp2(rng.integers(low, high, shape))
    values[rng.random(shape) < 0.15] = 0
    coarse = rng.integers(-300, 301, shape) * np.exp2(rng.integers(low, max(high - 6, low + 1), shape) * 1.0)
    values = np.where(rng.random(shape) < 0.4, coarse, values)
    return np.clip(values, -65504, 65504).astype(np.float16).astype(np.float32)
