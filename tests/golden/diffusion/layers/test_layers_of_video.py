import math

import numpy as np
import pytest

from golden.diffusion import layers
from golden.diffusion.layers import pointwise

pytestmark = pytest.mark.golden


@pytest.fixture
def rng():
    return np.random.default_rng(21)


def values(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def agree(layer, got, expected, *inputs):
    assert got.dtype == np.float32
    assert got.shape == np.shape(expected) == layer.shape(*(x.shape for x in inputs))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_error_function():
    x = np.concatenate([np.linspace(-8, 8, 4001), [0.46875, -0.46875, 4, -4, 100, -100, 0.0]])
    expected = np.array([math.erf(v) for v in x])
    inside = np.abs(x) <= 4
    np.testing.assert_allclose(pointwise.erf(x)[inside], expected[inside], rtol=1e-14)
    np.testing.assert_allclose(pointwise.erf(x), expected, rtol=0, atol=1e-8)


def test_erf_gelu_and_multiply(rng):
    x = np.concatenate([values(rng, 50) * 4, np.array([0, -200, 200], np.float32)])
    layer = layers.ErfGELU("g", ("x",))
    agree(layer, layer(x), [v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in map(float, x)], x)
    a, b = values(rng, 2, 3), values(rng, 2, 3)
    layer = layers.Multiply("m", ("a", "b"))
    expected = [[p * q for p, q in zip(*rows, strict=True)] for rows in zip(a.tolist(), b.tolist(), strict=True)]
    agree(layer, layer(a, b), expected, a, b)


def test_affine_layer_norm(rng):
    x, weight, bias = values(rng, 2, 5, 6) * 3 + 1, values(rng, 6), values(rng, 6)
    layer = layers.Norm("n", ("x",), weight, bias, epsilon=0.1)
    normal = [[(row - row.mean()) / math.sqrt(row.astype(float).var() + 0.1) for row in item] for item in x]
    agree(layer, layer(x), np.array(normal) * weight + bias, x)
    assert layer.parameters().keys() == {"weight", "bias"}


def test_rms_norm(rng):
    x, weight = values(rng, 2, 5, 6) * 3 + 1, values(rng, 6)
    layer = layers.Norm("n", ("x",), weight, epsilon=0.1, centred=False)
    rows = [[row / math.sqrt(sum(v * v for v in row.tolist()) / 6 + 0.1) * weight for row in item] for item in x]
    agree(layer, layer(x), rows, x)
    assert layer.parameters().keys() == {"weight"}


def test_average_pool(rng):
    x = values(rng, 2, 3, 4, 5)
    layer = layers.AveragePool("p", ("x",))
    expected = np.empty((2, 3, 2, 2))
    for n, c, i, j in np.ndindex(expected.shape):
        expected[n, c, i, j] = x[n, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean()
    agree(layer, layer(x), expected, x)


def test_rotary(rng):
    x = values(rng, 2, 3, 5, 4)
    layer = layers.Rotary("r", ("x",), period=100.0)
    expected = np.empty(x.shape)
    for n, h, p, j in np.ndindex(2, 3, 5, 2):
        turned = complex(x[n, h, p, 2 * j], x[n, h, p, 2 * j + 1]) * np.exp(1j * p * 100.0 ** (-j / 2))
        expected[n, h, p, 2 * j : 2 * j + 2] = turned.real, turned.imag
    agree(layer, layer(x), expected, x)


def test_rotary_products_depend_on_the_distance_only(rng):
    layer = layers.Rotary("r", ("x",))
    query, key = np.tile(values(rng, 1, 1, 8), (1, 6, 1)), np.tile(values(rng, 1, 1, 8), (1, 6, 1))
    scores = layer(query)[0] @ layer(key)[0].T
    for offset in range(-5, 6):
        diagonal = np.diagonal(scores, offset)
        np.testing.assert_allclose(diagonal, np.full_like(diagonal, diagonal[0]), rtol=1e-4, atol=1e-5)
