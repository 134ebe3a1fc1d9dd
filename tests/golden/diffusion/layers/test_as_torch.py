"""Layers against torch: its recorded outputs, and its own where it is installed."""

import numpy as np
import pytest

from golden.diffusion import layers
from golden.diffusion.layers import Convolution
from tests.golden.diffusion.layers.torch_cases import CASES, CONVOLUTIONS, RECORDED, by_torch, layer

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def recorded():
    with np.load(RECORDED) as file:
        return dict(file)


@pytest.mark.parametrize("case", CASES)
def test_every_layer_is_torchs(case, recorded):
    found, inputs = layer(case)
    value, expected = found(*inputs), recorded[case]
    assert value.dtype == np.float32 and value.shape == found.shape(*(x.shape for x in inputs))
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch says what it costs
@pytest.mark.parametrize("case", CASES)
def test_the_record_is_torchs(case, recorded):
    pytest.importorskip("torch", reason="needs the extra 'import'")
    np.testing.assert_allclose(recorded[case], by_torch(case), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_a_product_by_the_whole_weight_is_the_same(case, recorded):
    """What differential executors multiply by: zeros between the groups."""
    found, (x,) = layer(case)
    assert found.whole_weight.shape[:2] == (12, 6)
    y = found.product(x, found.whole_weight, found.bias)
    np.testing.assert_allclose(y, recorded[case], rtol=1e-5, atol=1e-5)
    columns = found.whole_weight.reshape(12, -1) @ found.columns(x)
    bare = found.product(x, found.weight)
    np.testing.assert_allclose(columns.reshape(12, 2, -1).swapaxes(0, 1).reshape(y.shape), bare, atol=1e-4)
    assert found.macs(x.shape) == recorded[case].size * found.weight[0].size


WEIGHT = np.ones((4, 2, 3, 3), np.float32)


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (
            {"weight": np.ones((4, 2, 3, 2), np.float32)},
            r"Weight of layer 'c' must be \(out, in / groups, kernel, kernel\), not",
        ),
        ({"weight": WEIGHT[..., 0, 0]}, r"Weight of layer 'c' must be .*, not \(4, 2\)$"),
        ({"stride": 0}, r"Stride of layer 'c' must be a positive integer, not 0$"),
        ({"stride": (2, 2)}, r"Stride of layer 'c' must be a positive integer, not \(2, 2\)$"),
        ({"dilation": 1.0}, r"Dilation of layer 'c' must be a positive integer, not 1.0$"),
        ({"groups": 3}, r"Groups of layer 'c' must divide its 4 outputs, not be 3$"),
        ({"padding": "same", "stride": 2}, r"Padding of layer 'c' must be numbers where the stride is 2, not 'same'$"),
        ({"padding": -1}, r"Padding of layer 'c' must be an integer from 0 on, 'same' or two pairs of them, not -1$"),
        ({"padding": (1, 1)}, r"Padding of layer 'c' must be .*, not \(1, 1\)$"),
        ({"padding": "valid"}, r"Padding of layer 'c' must be .*, not 'valid'$"),
    ],
)
def test_refused_by_name(arguments, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        Convolution("c", ("x",), **{"weight": WEIGHT, **arguments})


A, TWO, THREE = ("a",), ("a", "b"), ("a", "b", "c")
UNFIT = [
    (Convolution("c", A, WEIGHT), [(1, 3, 5, 5)], r"images of 2 channels, not shapes \(1, 3, 5, 5\)$"),
    (Convolution("c", A, WEIGHT), [(1, 2, 5)], r"images of 2 channels, not shapes \(1, 2, 5\)$"),
    (Convolution("c", A, WEIGHT, groups=2), [(1, 2, 5, 5)], "images of 4 channels, not"),
    (Convolution("c", A, WEIGHT), [(1, 2, 2, 5)], "images that with their padding are not smaller than 3, not"),
    (layers.Linear("c", A, WEIGHT[:, :, 0, 0]), [(1, 4)], "values of 2 channels, not"),
    (layers.MatMul("c", TWO), [(1, 2, 3), (1, 4, 3)], "values that agree in all but one axis, not"),
    (layers.Add("c", TWO), [(1, 2), (1, 3)], r"two values of one shape, not shapes \(1, 2\) and \(1, 3\)$"),
    (layers.Multiply("c", TWO), [(1, 2), (1, 3)], "two values of one shape, not"),
    (layers.AddChannel("c", TWO), [(1, 2, 3, 3), (1, 3)], "an image and a value for each of its channels, not"),
    (layers.AddConstant("c", A, np.ones(4)), [(1, 3)], r"values that a table \(4,\) can be added to, not"),
    (layers.Concat("c", TWO), [(1, 2, 3, 3), (1, 2, 3, 4)], "two values that differ in their channels, axis 1, only"),
    (layers.Modulate("c", THREE), [(1, 2, 3), (1, 3), (1, 2)], "a value, and a shift and a scale for each of its"),
    (layers.Gate("c", TWO), [(1, 2, 3), (1, 2)], "a value and a gate for each of its channels, not"),
    (layers.Norm("c", A, groups=3), [(1, 4, 2, 2)], "a multiple of 3 channels, not"),
    (layers.Norm("c", A, np.ones(4)), [(1, 2, 3)], "values of 4 channels, not"),
    (layers.Mean("c", A), [(1, 2)], "values with positions, not"),
    (layers.AveragePool("c", A), [(1, 2, 1, 4)], "images of at least 2 pixels a side, not"),
]


@pytest.mark.parametrize("found, shapes, sentence", UNFIT, ids=[type(row[0]).__name__ for row in UNFIT])
def test_values_that_do_not_fit_are_refused_by_name(found, shapes, sentence):
    with pytest.raises(ValueError, match=f"^Layer 'c' must read {sentence}"):
        found.shape(*shapes)
