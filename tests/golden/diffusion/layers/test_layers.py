import itertools
import math

import numpy as np
import pytest

from golden.diffusion import layers

pytestmark = pytest.mark.golden


@pytest.fixture
def rng():
    return np.random.default_rng(20)


def values(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def agree(layer, got, expected, *inputs):
    assert got.dtype == np.float32
    assert got.shape == np.shape(expected) == layer.shape(*(x.shape for x in inputs))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [(4, 4), (5, 7)])
def test_convolution(rng, size, stride, side):
    x, weight, bias = values(rng, 2, 3, *side), values(rng, 4, 3, size, size), values(rng, 4)
    layer = layers.Convolution("c", ("x",), weight, bias, stride, size // 2)
    pad = size // 2
    height, width = math.ceil(side[0] / stride), math.ceil(side[1] / stride)
    expected = np.zeros((2, 4, height, width))
    for n, o, row, column in np.ndindex(expected.shape):
        total = float(bias[o])
        for c, i, j in itertools.product(range(3), range(size), range(size)):
            y, z = row * stride + i - pad, column * stride + j - pad
            if 0 <= y < side[0] and 0 <= z < side[1]:
                total += float(x[n, c, y, z]) * float(weight[o, c, i, j])
        expected[n, o, row, column] = total
    agree(layer, layer(x), expected, x)
    assert layer.macs(x.shape) == 2 * height * width * 4 * 3 * size * size


def test_convolution_columns_follow_the_weights(rng):
    x, weight = values(rng, 2, 3, 4, 4), values(rng, 4, 3, 3, 3)
    layer = layers.Convolution("c", ("x",), weight, padding=1)
    product = weight.reshape(4, -1) @ layer.columns(x)
    np.testing.assert_allclose(product.reshape(4, 2, 4, 4).swapaxes(0, 1), layer(x), rtol=1e-6)


def test_linear(rng):
    x, weight, bias = values(rng, 2, 5, 3), values(rng, 4, 3), values(rng, 4)
    layer = layers.Linear("l", ("x",), weight, bias)
    expected = [[[np.dot(row, w) + b for w, b in zip(weight, bias, strict=True)] for row in item] for item in x]
    agree(layer, layer(x), expected, x)
    assert layer.macs(x.shape) == 2 * 5 * 3 * 4


def test_group_norm(rng):
    x, weight, bias = values(rng, 2, 6, 3, 3) * 3 + 5, values(rng, 6), values(rng, 6)
    layer = layers.Norm("g", ("x",), weight, bias, groups=3, epsilon=0.1)
    expected = np.empty(x.shape)
    for n, g in itertools.product(range(2), range(3)):
        part = x[n, 2 * g : 2 * g + 2].astype(np.float64)
        normal = (part - part.mean()) / math.sqrt(part.var() + 0.1)
        expected[n, 2 * g : 2 * g + 2] = normal * weight[2 * g : 2 * g + 2, None, None]
        expected[n, 2 * g : 2 * g + 2] += bias[2 * g : 2 * g + 2, None, None]
    agree(layer, layer(x), expected, x)
    mean, deviation = layer.statistics(x)
    np.testing.assert_allclose(mean[1, 2], x[1, 4:].mean(), rtol=1e-5)
    np.testing.assert_allclose(deviation[1, 2], math.sqrt(x[1, 4:].var() + 0.1), rtol=1e-5)


def test_relu(rng):
    x = np.array([[-1, -0.0, 0, 2]], np.float32)
    layer = layers.ReLU("r", ("x",))
    agree(layer, layer(x), [[0, 0, 0, 2]], x)


def test_softmax_of_large_values():
    x = np.array([[1000, 1000 + math.log(3)], [-1000, -1000]], np.float32)
    layer = layers.Softmax("s", ("x",))
    np.testing.assert_allclose(layer(x), [[0.25, 0.75], [0.5, 0.5]], rtol=1e-4)


@pytest.mark.parametrize("transposed", [False, True])
def test_matmul(rng, transposed):
    a, b = values(rng, 2, 3, 4), values(rng, 2, 4, 5)
    layer = layers.MatMul("m", ("a", "b"), transposed=transposed, scale=0.5)
    other = np.ascontiguousarray(b.swapaxes(1, 2)) if transposed else b
    agree(layer, layer(a, other), 0.5 * np.einsum("nij,njk->nik", a, b), a, other)
    assert layer.macs(a.shape, other.shape) == 2 * 3 * 4 * 5


def test_add_channel_and_concat(rng):
    x, y, shift = values(rng, 2, 3, 4, 4), values(rng, 2, 3, 4, 4), values(rng, 2, 3)
    agree(layers.Add("a", ("x", "y")), layers.Add("a", ("x", "y"))(x, y), x + y, x, y)
    layer = layers.AddChannel("c", ("x", "s"))
    expected = x.copy()
    expected[1, 2] += shift[1, 2]
    np.testing.assert_array_equal(layer(x, shift)[1, 2], expected[1, 2])
    layer = layers.Concat("c", ("x", "y"))
    joined = layer(x, y)
    assert joined.shape == layer.shape(x.shape, y.shape) == (2, 6, 4, 4)
    np.testing.assert_array_equal(joined[:, 4], y[:, 1])


def test_mean():
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    layer = layers.Mean("m", ("x",))
    agree(layer, layer(x), [[1.5]], x)


def test_time_encoding():
    layer = layers.TimeEncoding("e", ("t",), channels=4, period=100.0)
    t = np.array([0, 7])
    expected = [[1, 1, 0, 0], [math.cos(7), math.cos(0.7), math.sin(7), math.sin(0.7)]]
    agree(layer, layer(t), expected, t)


def test_time_encoding_with_the_sines_first_and_the_longest_wave_at_the_period():
    layer = layers.TimeEncoding("e", ("t",), channels=4, period=100.0, shift=1.0, sines_first=True)
    t = np.array([7])
    agree(layer, layer(t), [[math.sin(7), math.sin(0.07), math.cos(7), math.cos(0.07)]], t)


def test_embedding(rng):
    table = values(rng, 3, 4)
    layer = layers.Embedding("e", ("label",), table)
    label = np.array([2, 0])
    agree(layer, layer(label), [table[2], table[0]], label)


def test_linear_layers_are_linear_in_their_first_input(rng):
    image = (2, 3, 4, 4)
    weight, bias, square = values(rng, 3, 3, 3, 3), values(rng, 3), values(rng, *image)
    others = {"matmul": (values(rng, 2, 3, 4, 4),), "add": (square,), "concat": (square,)}
    others |= {"add_channel": (values(rng, 2, 3),), "gate": (values(rng, 2, 4),), "multiply": (square,)}
    arguments = {
        "convolution": {"weight": weight, "bias": bias},
        "linear": {"weight": values(rng, 3, 4), "bias": bias},
        "add_constant": {"table": values(rng, 4)},
        "move": {"pattern": "b c h w -> b (h w) c"},
    }
    for kind in layers.KINDS:
        if not kind.linear:
            continue
        layer = kind("x", ("a", "b"), **arguments.get(kind.kind, {}))
        shape = image
        a, b = values(rng, *shape), values(rng, *shape)
        rest = others.get(kind.kind, ())
        whole, change = layer(a + b, *rest), layer(b, *rest) - layer(np.zeros_like(b), *rest)
        np.testing.assert_allclose(whole, layer(a, *rest) + change, rtol=1e-4, atol=1e-4)
        assert whole.shape == layer.shape(shape, *(x.shape for x in rest)), kind


def test_layer_norm(rng):
    x = values(rng, 2, 5, 6) * 3 + 1
    expected = [[(row - row.mean()) / math.sqrt(row.astype(float).var() + 1e-6) for row in item] for item in x]
    layer = layers.Norm("n", ("x",), epsilon=1e-6)
    agree(layer, layer(x), expected, x)


def test_silu_and_gelu(rng):
    x = np.concatenate([values(rng, 50) * 4, np.array([0, -200, 200], np.float32)])
    silu = [float(v) / (1 + math.exp(min(-float(v), 700))) for v in x]
    agree(layers.SiLU("s", ("x",)), layers.SiLU("s", ("x",))(x), silu, x)
    gelu = [0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) for v in map(float, x)]
    agree(layers.GELU("g", ("x",)), layers.GELU("g", ("x",))(x), gelu, x)


@pytest.mark.parametrize("axis", [-1, 1])
def test_modulate_and_gate(rng, axis):
    x, shift, scale = values(rng, 2, 3, 4, 3), values(rng, 2, 3), values(rng, 2, 3)
    expected, gated = np.empty(x.shape), np.empty(x.shape)
    for n, *rest in np.ndindex(x.shape):
        channel = rest[axis] if axis == -1 else rest[0]
        expected[n, *rest] = x[n, *rest] * (1 + scale[n, channel]) + shift[n, channel]
        gated[n, *rest] = x[n, *rest] * scale[n, channel]
    layer = layers.Modulate("m", ("x", "shift", "scale"), axis=axis)
    agree(layer, layer(x, shift, scale), expected, x, shift, scale)
    layer = layers.Gate("g", ("x", "scale"), axis=axis)
    agree(layer, layer(x, scale), gated, x, scale)


def test_contracted_axes(rng):
    assert layers.Convolution("c", ("x",), values(rng, 3, 3, 3, 3), values(rng, 3)).contracted == (-3,)
    assert layers.Linear("l", ("x",), values(rng, 3, 4), values(rng, 3)).contracted == (-1,)
    assert layers.MatMul("m", ("a", "b")).contracted == (-1, -2)
    assert layers.MatMul("m", ("a", "b"), transposed=True).contracted == (-1, -1)
    assert layers.ReLU("r", ("x",)).contracted == ()


def test_every_layer_has_a_role():
    roles = {role: {kind.kind for kind in layers.KINDS if kind.role is role} for role in layers.Role}
    assert roles[layers.Role.PRODUCT] == {"convolution", "linear", "matmul"}
    assert roles[layers.Role.SUM] == {"add", "add_channel", "add_constant"}
    assert roles[layers.Role.MEAN] == {"mean", "average_pool"}
    assert not roles[layers.Role.OTHER]
    for kind in layers.KINDS:
        assert kind.linear or kind.role not in (layers.Role.PRODUCT, layers.Role.SUM, layers.Role.MOVE)


def test_a_layer_of_ones_own_has_no_role_but_runs():
    class Square(layers.Layer):
        def __call__(self, x):
            return x * x

    square = Square("square", ("x",))
    assert square.role is layers.Role.OTHER and not square.stored and not square.bilinear
    x = np.array([3.0], np.float32)
    agree(square, square(x), [9], x)


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


def test_what_a_class_cannot_say_is_refused():
    with pytest.raises(ValueError, match="^Keyword of class Odd must be one of the known names, not 'lineal'; did"):
        type("Odd", (layers.Layer,), {}, lineal=True)
