"""Tensors cut into vectors by plain loops, and units that run on them: what the fast ones must agree with."""

import dataclasses

import numpy as np

from golden.parameters import ZERO_GROUP
from golden.units.channel_scale import channel_scale
from golden.units.delta_group import DeltaGroups
from golden.units.delta_quantizer import quantise_passes
from golden.units.multiplier_group import multiplier_group
from golden.units.near_memory_engine import near_memory_engine
from golden.units.sign_mask import mask_codes, sign_mask
from golden.units.weights import compile_weights


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
    result = quantise_passes(rows, parameters, passes, **options)
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


# The open loop by units ---------------------------------------------------------------------------------------------


def as_outliers(rows):
    """Groups that carry FP16 patterns (V, n) as outliers, in as many slots as there are lanes."""
    count, n = rows.shape
    valid, lane, value = np.zeros((count, n), bool), np.zeros((count, n), np.uint8), np.zeros((count, n), np.uint16)
    for number, row in enumerate(rows):
        used = np.flatnonzero(row & 0x7FFF)
        valid[number, : len(used)], lane[number, : len(used)], value[number, : len(used)] = True, used, row[used]
    return DeltaGroups(
        np.where(valid.any(axis=1), 0, ZERO_GROUP), np.zeros(count, bool), np.zeros((count, n), int), valid, lane, value
    )


def numbers(values):
    """Values of FP16 patterns."""
    return np.asarray(values, np.uint16).view(np.float16).astype(np.float32)


def nearest(values):
    """FP16 patterns of float64 or float32 values: RNE, clamped, no negative zero."""
    with np.errstate(over="ignore"):
        return (np.clip(np.asarray(values).astype(np.float16), -65504, 65504) + np.float16(0)).view(np.uint16)


class Layout:
    """How an image is cut into vectors: along its channels, or (`static`) along all that an item holds."""

    def __init__(self, shape, n, static=False):
        self.shape, self.n, self.static = shape, n, static
        self.inner = (shape[0], 1, int(np.prod(shape[1:]))) if static else shape

    def rows(self, image):
        if not self.static:
            return vectors(image, -3, (self.shape[1],), self.n)
        return vectors(np.moveaxis(image, 1, -1).reshape(self.inner), -1, self.inner[2:], self.n)

    def image(self, rows):
        if not self.static:
            return tensor(rows, self.shape, -3, (self.shape[1],), self.n)
        batch, channels, *place = self.shape
        flat = tensor(rows, self.inner, -1, self.inner[2:], self.n)
        return np.moveaxis(flat.reshape(batch, *place, channels), -1, 1)


class Stream:
    """Groups of an image in stream order, made by the quantiser or given.

    Parameters
    ----------
    groups : DeltaGroups
        Vector by vector.
    vector : int (G,)
        Of each group.
    layout : Layout
        Of the vectors.
    """

    def __init__(self, groups, vector, layout):
        self.groups, self.vector, self.layout = groups, vector, layout
        self.last = np.diff(vector, append=-1) != 0

    @classmethod
    def quantised(cls, values, parameters, passes, floor, exponent):
        layout = Layout(values.shape, parameters.lanes, exponent is not None)
        options = {} if exponent is None else {"exponent": exponent}
        result = quantise_passes(
            layout.rows(values), parameters, passes, floor=floor, by_group=exponent is None, **options
        )
        return cls(result.groups, result.vector, layout)

    @classmethod
    def values(cls, patterns, n):
        layout = Layout(patterns.shape, n)
        rows = layout.rows(patterns)
        return cls(as_outliers(rows), np.arange(len(rows)), layout)

    def masked(self, mask, parameters):
        """Behind a sign mask, 0 or 1 for each element."""
        return Stream(sign_mask(self.groups, mask[self.vector], parameters), self.vector, self.layout)

    def total(self):
        """What all groups of a vector hold together, float64 image."""
        rows = np.zeros((self.vector[-1] + 1, self.layout.n), np.int64)
        np.add.at(rows, self.vector, self.groups.fixed())
        return self.layout.image(rows * 2.0**-24)

    def by_channels(self):
        """Groups along channels: (terms, vectors) streams of `slots` for the multiplier, term by term."""
        number = np.arange(len(self.vector)) - np.searchsorted(self.vector, self.vector)
        along = Layout(self.layout.shape, self.layout.n)
        found = []
        for term in range(number.max() + 1):
            chosen = number == term
            parts = np.zeros((3, self.vector[-1] + 1, self.layout.n), np.int64)  # digits, their codes, outliers
            parts[0, self.vector[chosen]] = self.groups.digits[chosen]
            parts[1, self.vector[chosen]] = self.groups.shifts()[chosen, None]
            rows, places = np.nonzero(self.groups.outlier_valid & chosen[:, None])
            at = self.vector[rows], self.groups.outlier_lane[rows, places]
            parts[(2, *at)] = self.groups.outlier_value[rows, places]
            digits, codes, outliers = (along.rows(self.layout.image(part)) for part in parts)
            groups = as_outliers(outliers.astype(np.uint16))
            code = np.where(digits != 0, codes, 0).max(axis=1)
            empty = ~digits.any(axis=1) & ~groups.outlier_valid.any(axis=1)
            found.append(groups.replace(digits=digits.astype(np.int8), exponent=np.where(empty, ZERO_GROUP, code)))
        return found


class State:
    """State near memory of an image: the engine's, from step to step."""

    def __init__(self, parameters, s):
        self.parameters, self.s = parameters, s
        self.rows, self.layout = None, None

    @property
    def image(self):
        values = numbers(self.rows) if self.parameters.state_format == "float16" else self.rows * 2.0**self.s
        return self.layout.image(np.asarray(values, np.float32))

    def pattern(self, image):
        """An image as the state holds it: integers or FP16 patterns."""
        if self.parameters.state_format == "float16":
            return nearest(image).astype(np.int64)
        top = 2 ** (self.parameters.state_width - 1) - 1
        return np.clip(np.rint(np.asarray(image, np.float64) * 2.0**-self.s), -top, top).astype(np.int64)

    def set(self, image):
        self.layout = Layout(image.shape, self.parameters.lanes)
        self.rows = self.layout.rows(self.pattern(image))

    def add(self, stream, refresh, bias=None, thresholds=()):
        """Add a stream; the masks before and after, and repairs (V, n) as FP16 patterns."""
        groups = stream.groups
        if self.rows is None:
            self.rows, self.layout = np.zeros((stream.vector[-1] + 1, self.parameters.lanes), np.int64), stream.layout
        elif self.layout.static != stream.layout.static:
            self.rows = stream.layout.rows(self.layout.image(self.rows))
            self.layout = stream.layout
        before = mask_codes(self.rows, self.parameters, thresholds=thresholds)
        found = near_memory_engine(
            self.rows,
            groups,
            dataclasses.replace(self.parameters, outliers=groups.outliers),
            address=stream.vector,
            last=stream.last,
            refresh=refresh,
            bias=0 if bias is None else self.layout.rows(self.pattern(bias))[stream.vector],
            state_exponent=self.s,
            thresholds=thresholds,
        )
        self.rows = found.state
        after = np.zeros_like(before)
        after[found.address] = found.mask
        repairs = np.zeros(before.shape, np.uint16)
        repairs[found.repairs.address, found.repairs.lane] = found.repairs.value
        return before, after, repairs


def multiplied(layer, streams, parameters, *, largest, passes, floor):
    """A convolution of one tap by `multiplier_group` and `channel_scale`, the groups of all streams: FP16 patterns."""
    n = parameters.lanes
    weight = layer.weight[:, :, 0, 0]
    outs, ins = weight.shape
    count = -(-ins // n)
    rows = nearest(np.pad(weight, ((0, 0), (0, count * n - ins)))).reshape(outs, count, n)
    proof = dataclasses.replace(parameters, exponent_policy="group")
    compiled = compile_weights(rows, proof, largest=largest, passes=passes, floor=floor)
    terms = [term for stream in streams for term in stream.by_channels()]
    # position by position, group by group, term by term
    order = np.arange(len(terms) * len(terms[0])).reshape(len(terms), -1).T.ravel()
    groups = DeltaGroups.concatenate(terms)[order]
    group = order % len(terms[0]) % count
    first, last = (np.arange(len(order)) % (count * len(terms)) == place for place in (0, count * len(terms) - 1))
    sums = [
        multiplier_group(
            groups, compiled.weights[o, group], parameters, scale=compiled.scale[o, group], first=first, last=last
        ).sum
        for o in range(outs)
    ]
    scaled = channel_scale(np.stack(sums), False, np.array([0x3C00], np.uint16), compiled.lsb[:, None], parameters)
    batch, _, *place = streams[0].layout.shape
    return np.moveaxis(scaled.values.reshape(outs, batch, *place), 0, 1), compiled.exact.all()
