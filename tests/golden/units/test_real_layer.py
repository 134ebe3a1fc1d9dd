"""The units together on the shipped recording: a convolution of the U-Net, step by step, against numpy's floats."""

import numpy as np
import pytest

from golden.diffusion import zoo
from golden.parameters import PRESETS, Parameters
from golden.units.channel_scale import channel_scale
from golden.units.delta_compressor import delta_compressor
from golden.units.delta_decompressor import delta_decompressor
from golden.units.delta_quantizer import quantise_passes
from golden.units.multiplier_group import multiplier_group
from golden.units.near_memory_engine import near_memory_engine
from golden.units.weights import compile_weights

pytestmark = pytest.mark.golden

CHANNELS = 16  # of the 64 outputs: enough for a lane group, and quick
EXPONENT = -12  # of the state


def padded_groups(groups_by_position, side, chunks):
    """Index of the group under each tap of each output position; the groups' count stands for padding."""
    index = np.full((side + 2, side + 2, chunks), -1)
    index[1:-1, 1:-1] = np.arange(side * side * chunks).reshape(side, side, chunks)
    taps = [index[i : i + side, j : j + side] for i in range(3) for j in range(3)]
    return np.stack(taps, axis=2).reshape(side * side, -1)  # (positions, taps * chunks)


def convolve(groups, passes, compiled, parameters, side, chunks):
    """Sums of every position and channel: int64 (positions, CHANNELS)."""
    pad = len(groups)
    stream = type(groups).concatenate([groups, type(groups).zeros(passes, parameters)])
    under = padded_groups(groups, side, chunks)
    under = np.where(under < 0, pad // passes, under)
    rows = (under[:, :, None] * passes + np.arange(passes)).reshape(len(under), -1)
    first = np.arange(rows.shape[1]) == 0
    last = first[::-1]
    sums = []
    for channel in range(CHANNELS):
        weights = np.repeat(compiled.weights[channel], passes, axis=0)
        scale = np.repeat(compiled.scale[channel], passes)
        result = multiplier_group(
            stream[rows.ravel()],
            np.tile(weights, (len(rows), 1)),
            parameters,
            scale=np.tile(scale, len(rows)),
            first=np.tile(first, len(rows)),
            last=np.tile(last, len(rows)),
        )
        assert result.status == {"overflow": False, "poisoned": False}
        sums.append(result.sum)
    return np.stack(sums, axis=1)


@pytest.mark.parametrize(("name", "floor"), [("edge", 57.0), ("ulx3s", 53.0)])
def test_open_loop_of_a_convolution(name, floor):
    """First step raw in four passes, then deltas: the state follows the layer's true output."""
    recording = zoo.recorded()
    parameters = PRESETS[name]
    n = parameters.lanes
    side, steps = recording.inputs[0].shape[-1], 6
    vectors = recording.groups(n)
    chunks = vectors.shape[2]
    weights = recording.weight[:CHANNELS].astype(np.float16)  # (out, in, 3, 3) -> (out, taps * chunks, n)
    weights = weights.transpose(0, 2, 3, 1).reshape(CHANNELS, -1, n).view(np.uint16)
    largest = float(np.abs(vectors[:steps].astype(np.float64)).max())
    state = np.zeros((side * side, n), np.int64)
    decibels = []
    for step in range(steps):
        passes = 4 if step == 0 else 1
        compiled = compile_weights(weights, parameters, largest=largest, passes=passes)
        result = quantise_passes(vectors[step].reshape(-1, n).view(np.uint16), parameters, passes)
        sums = convolve(result.groups, passes, compiled, parameters, side, chunks)
        lanes = np.zeros((side * side, n), np.int64)
        lanes[:, :CHANNELS] = sums
        lsb = np.zeros(n, np.int64)
        lsb[:CHANNELS] = compiled.lsb
        scaled = channel_scale(lanes, False, 0x3C00, lsb, parameters)
        assert scaled.status == {"overflow": False, "poisoned": False}
        outputs = quantise_passes(scaled.values, parameters, parameters.output_passes, floor=EXPONENT + 24)
        words = delta_compressor(outputs.groups, parameters, passes=parameters.output_passes)
        decoded = delta_decompressor(words, parameters, passes=parameters.output_passes)
        assert not decoded.error and decoded.groups.equals(outputs.groups).all()
        update = near_memory_engine(
            state, decoded.groups, parameters, address=outputs.vector, last=outputs.last, refresh=step == 0,
            state_exponent=EXPONENT,
        )  # fmt: skip
        assert update.status == {"overflow": False, "poisoned": False}
        state = update.state
        truth = recording.output[step, 0].astype(np.float64) - recording.bias[:, None, None]
        truth = truth.transpose(1, 2, 0).reshape(side * side, -1)[:, :CHANNELS]
        error = state[:, :CHANNELS] * 2.0**EXPONENT - truth
        decibels.append(10 * np.log10(np.ptp(truth) ** 2 / np.mean(error**2)))
        assert np.array_equal(update.mask[:, :CHANNELS], state[:, :CHANNELS] >= 0)
    assert decibels[0] > 60 and min(decibels) > floor, decibels


def test_exact_sums_are_the_convolution():
    """With a wide accumulator and float weights nothing is rounded: the sums are the products of dequantised deltas."""
    recording = zoo.recorded()
    parameters = Parameters(weight_form="float", accumulator_width=96, lanes=16)
    vectors = recording.groups(16)[3].reshape(-1, 16).view(np.uint16)
    weights = recording.weight[:2].astype(np.float16).transpose(0, 2, 3, 1).reshape(2, -1, 16)
    compiled = compile_weights(weights.view(np.uint16), parameters, largest=1000.0)
    assert compiled.exact.all()
    result = quantise_passes(vectors, parameters, 1)
    values = result.groups.dequantise().reshape(8, 8, 4, 16)
    stream = result.groups[np.arange(4)]  # the 64 channels of position 0, as a 1 x 1 convolution with the middle tap
    for channel in range(2):
        middle = slice(4 * 4, 5 * 4)
        got = multiplier_group(
            stream, compiled.weights[channel, middle], parameters, scale=compiled.scale[channel, middle],
            first=[1, 0, 0, 0], last=[0, 0, 0, 1],
        )  # fmt: skip
        exact = (values[0, 0] * weights[channel, middle].astype(np.float64)).sum()  # few bits: exact in binary64
        assert float(int(got.sum[0])) * 2.0 ** int(compiled.lsb[channel]) == exact
