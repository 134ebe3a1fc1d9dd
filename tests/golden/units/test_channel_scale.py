from fractions import Fraction

import numpy as np
import pytest

from golden.parameters import Parameters
from golden.units.channel_scale import channel_scale

pytestmark = pytest.mark.golden


def nearest(value: Fraction) -> tuple[int, bool]:
    """FP16 pattern of a fraction, clamped: rounded to the unit of its binade, then exact for numpy."""
    magnitude, exponent = abs(value), -14
    while magnitude >= Fraction(2) ** (exponent + 1):
        exponent += 1
    unit = Fraction(2) ** (exponent - 10)
    rounded = round(magnitude / unit) * unit
    sign = 0x8000 if value < 0 else 0
    if rounded > 65504:
        return sign | 0x7BFF, True
    return sign | int(np.float16(float(rounded)).view(np.uint16)), False


@pytest.mark.parametrize("width", [16, 32, 63, 64, 128])
def test_against_fractions(width):
    parameters = Parameters(lanes=8, accumulator_width=width)
    rng = np.random.default_rng(width)
    count = 300
    sums = np.array(
        [[int.from_bytes(rng.bytes(16), "little", signed=True) >> int(rng.integers(128 - width, 128)) for _ in range(8)]
         for _ in range(count)], object,
    )  # fmt: skip
    sums[0, :4] = [0, -1, 2 ** (width - 1) - 1, -(2 ** (width - 1))]
    if width <= 63:
        sums = sums.astype(np.int64)
    scale = rng.integers(0, 2**16, (count, 8)).astype(np.uint16)
    size = np.array([[int(s).bit_length() for s in row] for row in sums])
    lsb = np.clip(rng.integers(-26, 18, (count, 8)) - size - (scale >> 10 & 31).astype(int) + 15, -256, 255)
    lsb = np.where(rng.random((count, 8)) < 0.1, rng.integers(-256, 256, (count, 8)), lsb)
    poisoned = rng.random((count, 8)) < 0.03
    got = channel_scale(sums, poisoned, scale, lsb, parameters)
    overflow = False
    for v in range(count):
        for i in range(8):
            factor = scale[v, i].view(np.float16)
            if poisoned[v, i] or not np.isfinite(factor):
                assert got.values[v, i] == 0x7E00
                continue
            value = int(sums[v, i]) * Fraction(float(factor)) * Fraction(2) ** int(lsb[v, i])
            pattern, clamped = nearest(value)
            assert got.values[v, i] == pattern, (sums[v, i], factor, lsb[v, i])
            overflow |= clamped
    assert got.status == {"overflow": overflow, "poisoned": True}
    assert overflow


def test_a_shift_is_added_before_the_one_rounding(fresh_seed):
    """Sums and shifts of like magnitude, cancelling ones and ties among them, against fractions."""
    parameters = Parameters(lanes=8, accumulator_width=32)
    rng = np.random.default_rng(fresh_seed)
    shape = (400, 8)
    sums = rng.integers(-(2**31), 2**31, shape) >> rng.integers(0, 31, shape)
    scale = rng.integers(0, 0x7C00, shape).astype(np.uint16) | (rng.integers(0, 2, shape) << 15).astype(np.uint16)
    shift = rng.integers(0, 0x7C00, shape).astype(np.uint16) | (rng.integers(0, 2, shape) << 15).astype(np.uint16)
    size = np.frexp(sums * scale.view(np.float16).astype(float))[1]
    near = np.frexp(shift.view(np.float16).astype(float))[1]
    lsb = np.clip(near - size + rng.integers(-14, 3, shape), -256, 255)
    lsb[0], sums[0], scale[0], shift[0] = -24, 1 << np.arange(8), 0x3800, 0x6400  # halves of a unit of 1024
    scale[1, 0], shift[1, 1] = 0x7C00, 0x7E00
    got = channel_scale(sums, False, scale, lsb, parameters, shift=shift)
    assert got.values[1, :2].tolist() == [0x7E00, 0x7E00]
    for v, i in np.ndindex(shape):
        if v != 1 or i > 1:
            factor, added = (Fraction(float(part[v, i].view(np.float16))) for part in (scale, shift))
            value = int(sums[v, i]) * factor * Fraction(2) ** int(lsb[v, i]) + added
            pattern, _ = nearest(value)
            pattern = 0 if not value else pattern
            assert got.values[v, i] == pattern, (sums[v, i], factor, lsb[v, i], added)


def test_one_scale_for_each_channel():
    parameters = Parameters(lanes=4, memory_lanes=1)
    got = channel_scale([[2, -4, 0, 3]], False, np.array([0x3C00, 0x3800, 0xBC00, 0x0001]), -1, parameters)
    assert got.values.tolist() == [[0x3C00, 0xBC00, 0, 2]]  # 1, -1, +0, and 1.5 subnormals: a tie, to even
    assert got.status == {"overflow": False, "poisoned": False}
    assert channel_scale([[-1, 0, 0, 0]], False, 0x3C00, -40, parameters).values.tolist() == [[0x8000, 0, 0, 0]]


def test_bad_arguments():
    parameters = Parameters(lanes=4, accumulator_width=16, memory_lanes=1)
    with pytest.raises(ValueError, match=r"^sums must be in -32768\.\.32767, not 32768$"):
        channel_scale([[0, 0, 0, 32768]], False, 0x3C00, 0, parameters)
    with pytest.raises(ValueError, match=r"^lsb must be in -256\.\.255, not 256$"):
        channel_scale([[0, 0, 0, 0]], False, 0x3C00, 256, parameters)
