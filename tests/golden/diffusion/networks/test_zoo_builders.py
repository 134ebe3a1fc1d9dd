import itertools
import math
import re

import numpy as np
import pytest

from golden.diffusion.networks import ClassifierConfig, DiTConfig, Recorder, UNetConfig, dit, initial, stored, unet
from golden.diffusion.networks.sources import grid
from golden.diffusion.sampling import noise

pytestmark = pytest.mark.golden

SMALL_UNET = {"side": 8, "widths": (8, 16), "attention": (False, True), "groups": 4, "encoding": 8, "embedding": 16}
SMALL = DiTConfig(side=8, channels=2, classes=3, width=8, blocks=2, heads=2, ratio=3, encoding=6, null_label=True)


def randomised(build, config):
    """Every parameter random: a zero would hide what it multiplies."""
    rng = np.random.default_rng(5)
    start = build(config, initial(0)).parameters()
    return build(config, stored({name: rng.standard_normal(value.shape) * 0.3 for name, value in start.items()}))


def call(network, labels, **options):
    return network(noise(network, 3, len(labels)), np.full(len(labels), 250), np.array(labels), **options)


def test_the_twin_differs_in_its_activations_alone():
    relu, silu = (unet(UNetConfig(activation=name), initial(0)) for name in ("relu", "silu"))
    assert {layer.kind for layer in silu.layers} == {layer.kind for layer in relu.layers} - {"relu"} | {"silu"}
    assert "down0.block.silu1" in silu.by_name and "time.silu2" in silu.by_name and "head.silu" in silu.by_name
    for a, b in zip(relu.layers, silu.layers, strict=True):
        assert a.name == b.name.replace("silu", "relu") and a.kind == b.kind.replace("silu", "relu")
        assert a.inputs == tuple(name.replace("silu", "relu") for name in b.inputs)


def test_null_label_is_one_more_row():
    for build, config in ((unet, UNetConfig(**SMALL_UNET, null_label=True)), (dit, SMALL)):
        network = randomised(build, config)
        assert network.config["classes"] == config.classes and network.config["null_label"] is True
        assert len(network.by_name["label.embedding"].weight) == config.classes + 1
        assert np.abs(call(network, [config.classes]) - call(network, [0])).max() > 1e-3
    assert len(unet(UNetConfig(**SMALL_UNET), initial(0)).by_name["label.embedding"].weight) == 10


def test_configurations_without_the_newer_fields_still_build():
    config = unet(UNetConfig(**SMALL_UNET), initial(0)).config
    del config["activation"], config["null_label"]
    assert UNetConfig(**config) == UNetConfig(**SMALL_UNET)


def test_positions():
    table = grid(8, 3, 3)
    assert table.shape == (9, 8) and table.dtype == np.float32
    for row, column in itertools.product(range(3), range(3)):
        expected = []
        for place in (column, row):
            angles = [place / 10_000 ** (i / 2) for i in range(2)]
            expected += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
        np.testing.assert_allclose(table[3 * row + column], expected, rtol=1e-6, atol=1e-7)


def test_a_new_transformer_is_the_identity():
    """adaLN-zero: every block passes its input on, and the head answers 0."""
    network = dit(SMALL, initial(0))
    recorder = Recorder()
    assert not call(network, [0, 3], executor=recorder).any()
    stem = recorder.records["stem.position"].output
    assert np.array_equal(recorder.records["block1.mlp.add"].output, stem) and stem.std() > 0.1


def test_transformer_against_the_published_one():
    """Peebles and Xie's blocks, head by head and patch by patch, in float64."""
    network = randomised(dit, SMALL)
    p = {name: value.astype(np.float64) for name, value in network.parameters().items()}
    image, t, label = noise(network, 3, 1)[0].astype(np.float64), 250, 1

    def linear(name, x):
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    def silu(x):
        return x / (1 + np.exp(-x))

    def gelu(x):
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    def normal(x, shift, scale):
        x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-6)
        return x * (1 + scale) + shift

    def attention(name, x):
        heads = []
        for part in (slice(0, 4), slice(4, 8)):
            q, k, v = (linear(f"{name}.{which}", x)[:, part] for which in ("query", "key", "value"))
            e = np.exp(q @ k.T / math.sqrt(4))
            heads.append(e / e.sum(axis=1, keepdims=True) @ v)
        return linear(f"{name}.output", np.concatenate(heads, axis=1))

    frequencies = [10_000 ** (-i / 3) for i in range(3)]
    encoding = np.array([math.cos(t * f) for f in frequencies] + [math.sin(t * f) for f in frequencies])
    c = linear("time.linear2", silu(linear("time.linear1", encoding))) + p["label.embedding.weight"][label]
    image = np.moveaxis(image, 0, -1)
    x = np.stack([image[i : i + 2, j : j + 2].ravel() for i in (0, 2, 4, 6) for j in (0, 2, 4, 6)])
    x = linear("stem.linear", x) + p["stem.position.table"]
    for block in ("block0", "block1"):
        shift1, scale1, gate1, shift2, scale2, gate2 = linear(f"{block}.modulation", silu(c)).reshape(6, 8)
        x = x + gate1 * attention(f"{block}.attention", normal(x, shift1, scale1))
        hidden = gelu(linear(f"{block}.mlp.linear1", normal(x, shift2, scale2)))
        x = x + gate2 * linear(f"{block}.mlp.linear2", hidden)
    tokens = linear("head.linear", normal(x, *linear("head.modulation", silu(c)).reshape(2, 8)))
    expected = np.empty((2, 8, 8))
    for channel, i, j in np.ndindex(expected.shape):
        expected[channel, i, j] = tokens[i // 2 * 4 + j // 2, (i % 2 * 2 + j % 2) * 2 + channel]
    np.testing.assert_allclose(call(network, [label])[0], expected, rtol=1e-4, atol=1e-4)


def test_shapes_and_names_of_the_transformer():
    network = randomised(dit, SMALL)
    recorder = Recorder()
    call(network, [0, 3], executor=recorder)
    shapes = network.shapes(2)
    assert {name: record.output.shape for name, record in recorder.records.items()} == {
        layer.name: shapes[layer.name] for layer in network.layers
    }
    kinds = {layer.name: layer.kind for layer in network.layers}
    for part in ("query", "key", "value", "output"):
        assert kinds[f"block1.attention.{part}"] == "linear"
    assert kinds["block0.mlp.gelu"] == "gelu" and kinds["block0.attention.gated"] == "gate"
    assert network.macs()["block0.attention.scores"] == 2 * 16 * 16 * 4
    assert DiTConfig(**network.config) == SMALL


@pytest.mark.parametrize(
    "config, change, message",
    [
        (UNetConfig, {"activation": "tanh"}, "U-Net activation must be relu or silu, not 'tanh'"),
        (UNetConfig, {"null_label": 1}, "U-Net null_label must be true or false, not 1"),
        (UNetConfig, {"classes": True}, "U-Net classes must be an integer, not True"),
        (DiTConfig, {"blocks": 0}, "DiT blocks must be at least 1, not 0"),
        (DiTConfig, {"ratio": 2.5}, "DiT ratio must be an integer, not 2.5"),
        (DiTConfig, {"null_label": None}, "DiT null_label must be true or false, not None"),
        (DiTConfig, {"patch": 3}, "DiT side must be a multiple of patch 3, not 16"),
        (DiTConfig, {"width": 126}, "DiT width must be a multiple of 4, not 126"),
        (DiTConfig, {"heads": 3}, "DiT width must be a multiple of heads 3, not 128"),
        (DiTConfig, {"encoding": 33}, "DiT encoding must be a multiple of 2, not 33"),
        (ClassifierConfig, {"side": 0}, "Classifier side must be at least 1, not 0"),
    ],
)
def test_bad_config(config, change, message):
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}"):
        config(**change)
