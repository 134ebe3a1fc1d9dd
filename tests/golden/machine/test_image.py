"""Memory of the machine: bits by hand, and back again."""

import re
from pathlib import Path

import numpy as np
import pytest

from golden.machine import image
from golden.parameters import Parameters
from golden.units.delta_group import DeltaGroups
from golden.units.norm import Coefficients

pytestmark = pytest.mark.golden

SHAPES = [(4, 18, 10, 3, 1), (5, 17, 12, 2, 0), (16, 24, 16, 8, 8), (60, 16, 11, 3, 4)]


def parameters(lanes, width, fraction, digits, outliers):
    return Parameters(
        lanes=lanes, memory_lanes=1, state_width=width, fraction_bits=fraction, digit_width=digits, outliers=outliers
    )


def number(record):
    return int.from_bytes(bytes(record), "little")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_vectors_and_weights_by_shifts_of_integers(shape, seed):
    p, rng = parameters(*shape), np.random.default_rng(seed)
    w, n, f = p.state_width, p.lanes, p.fraction_bits + 2
    vectors = rng.integers(-(2 ** (w - 1)), 2 ** (w - 1), (7, n))
    data = image.pack_vectors(vectors, p)
    assert data.shape == (7, image.vector_bytes(p)) == (7, -(-n * w // 8))
    for vector, record in zip(vectors.tolist(), data, strict=True):
        assert number(record) == sum((value % 2**w) << i * w for i, value in enumerate(vector))
    np.testing.assert_array_equal(image.unpack_vectors(data, p), vectors)
    weights, scale = rng.integers(-(2 ** (f - 1)), 2 ** (f - 1), (5, n)), rng.integers(-256, 256, 5)
    data = image.pack_weights(weights, scale, p)
    assert data.shape == (5, image.weight_bytes(p))
    for row, one, record in zip(weights.tolist(), scale.tolist(), data, strict=True):
        assert number(record) == one % 512 | sum((value % 2**f) << 9 + i * f for i, value in enumerate(row))
    found = image.unpack_weights(data, p)
    np.testing.assert_array_equal(found[0], weights)
    np.testing.assert_array_equal(found[1], scale)


@pytest.mark.parametrize("shape", SHAPES)
def test_groups_by_shifts_of_integers(shape):
    p, rng = parameters(*shape), np.random.default_rng(1)
    n, k, m = p.lanes, p.digit_width, p.outliers
    lane_bits = (n - 1).bit_length()
    groups = DeltaGroups(
        rng.integers(0, 64, 9).astype(np.uint8),
        np.zeros(9, np.bool_),
        rng.integers(-(2 ** (k - 1)), 2 ** (k - 1), (9, n)).astype(np.int8),
        rng.random((9, m)) < 0.5,
        rng.integers(0, n, (9, m)).astype(np.uint8),
        rng.integers(0, 65536, (9, m)).astype(np.uint16),
    )
    data = image.pack_groups(groups, p)
    assert data.shape == (9, image.group_bytes(p))
    for index, record in enumerate(data):
        fields = [(int(groups.exponent[index]), 6)]
        fields += [(int(one) % 2**k, k) for one in groups.digits[index]]
        fields += [(int(one), 1) for one in groups.outlier_valid[index]]
        fields += [(int(one), lane_bits) for one in groups.outlier_lane[index]]
        fields += [(int(one), 16) for one in groups.outlier_value[index]]
        expected = position = 0
        for value, width in fields:
            expected |= value << position
            position += width
        assert number(record) == expected
    found = image.unpack_groups(data, p)
    for name in ("exponent", "digits", "outlier_valid", "outlier_lane", "outlier_value"):
        np.testing.assert_array_equal(getattr(found, name), getattr(groups, name))


def test_sums_coefficients_entries_and_constants():
    sums = image.Sums(np.array([-3, 2**62]), np.array([7, 2**63 - 1]), np.array([True, False]))
    data = image.pack_sums(sums).reshape(2, image.SUM_BYTES)
    assert number(data[0]) == (-3) % 2**64 | 7 << 64 | 1 << 127
    found = image.unpack_sums(data)
    assert found.total.tolist() == [-3, 2**62] and found.square.tolist() == [7, 2**63 - 1]
    assert found.poisoned.tolist() == [True, False]
    one = Coefficients(np.array([-(2**31)]), np.array([131071]), np.array([-128]))
    data = image.pack_coefficients(image.Roots(one, np.array([8]), np.array([True]), np.array([True])))
    assert number(data[0]) == 2**31 | 131071 << 32 | 128 << 49 | 8 << 57 | 1 << 61 | 1 << 63
    back = image.unpack_coefficients(data)
    assert (back.coefficients.mean[0], back.coefficients.root[0], back.coefficients.exponent[0]) == (
        -(2**31),
        131071,
        -128,
    )
    assert (back.finer[0], back.second[0], back.poisoned[0]) == (8, True, True)
    assert image.unpack_entries(image.pack_entries([-1, 2**31 - 1])).tolist() == [-1, 2**31 - 1]
    assert image.unpack_floors(image.pack_floors([0, 2**127 + 1])) == [0, 2**127 + 1]


def test_example_of_the_page():
    p = Parameters(lanes=4, memory_lanes=4, state_width=18)
    shown = image.pack_vectors([[1, -1, 5, -(2**17)]], p).tobytes().hex(" ")
    page = " ".join((Path(__file__).resolve().parents[3] / "docs/formats.md").read_text().split())
    assert re.search(r"elements 1, -1, 5, poison are the 9 bytes `([0-9a-f ]+)`", page)[1] == shown
