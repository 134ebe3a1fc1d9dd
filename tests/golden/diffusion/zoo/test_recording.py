import re

import numpy as np
import pytest

from golden.diffusion import layers, zoo
from golden.diffusion.networks import Network
from golden.diffusion.sampling import Sampling
from golden.diffusion.zoo import Recording, capture

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def unet():
    return zoo.load("unet")


@pytest.fixture(scope="module")
def recorded():
    return zoo.recorded()


def test_shipped_recording_is_the_convolution_of_a_block(recorded):
    assert recorded.kind == "convolution" and recorded.weight.shape == (64, 64, 3, 3) and recorded.stride == 1
    assert recorded.followed_by == ("add_channel", "norm", "relu", "convolution") and recorded.relu
    assert recorded.total == 50
    assert recorded.steps.tolist() == list(range(50)) and recorded.timesteps.tolist() == list(range(980, -1, -20))
    assert recorded.inputs[0].shape == recorded.output.shape == (50, 1, 64, 8, 8)
    assert recorded.inputs[0].dtype == recorded.output.dtype == recorded.weight.dtype == np.float16
    assert recorded.shift.shape == (50, 1, 64)
    assert recorded.norm_weight.shape == recorded.norm_bias.shape == (64,) and recorded.norm_groups == 8
    assert not recorded.before[0].any()


def test_shipped_recording_is_what_the_network_does_now(recorded, unet):
    """The weights are those of the network, the inputs follow from the seed, up to float32 in another order."""
    layer = unet.by_name[recorded.layer]
    assert np.array_equal(recorded.weight, layer.weight) and np.array_equal(recorded.bias, layer.bias)
    again = capture(Sampling(unet, recorded.labels, seed=recorded.seed), recorded.layer, last=3, half=True)
    now, then = again.inputs[0].astype(np.float32), recorded.inputs[0][:3].astype(np.float32)
    assert np.abs(now - then).max() <= 2e-3 * np.abs(then).max()


def test_outputs_of_the_shipped_recording_follow_from_its_inputs(recorded):
    """Y = W X + b in float64, one tap at a time."""
    x = np.pad(recorded.inputs[0][:, 0].astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    y = np.zeros((50, 64, 8, 8)) + recorded.bias[:, None, None]
    for i in range(3):
        for j in range(3):
            y += np.tensordot(recorded.weight[:, :, i, j], x[:, :, i : i + 8, j : j + 8], (1, 1)).swapaxes(0, 1)
    np.testing.assert_allclose(recorded.output[:, 0], y, rtol=2**-10, atol=1e-4)


def test_deltas_are_small_and_not_empty(recorded):
    deltas = recorded.deltas()
    assert deltas.dtype == np.float16 and deltas.shape == recorded.inputs[0].shape
    assert np.array_equal(deltas[0], recorded.inputs[0][0])
    later, raw = np.abs(deltas[1:].astype(float)).mean(), np.abs(recorded.inputs[0].astype(float)).mean()
    assert 0 < later < raw / 4
    assert np.isfinite(deltas).all()


@pytest.mark.parametrize("n", [16, 32, 60, 64])
def test_groups(recorded, n):
    groups = recorded.groups(n)
    count = -(-64 // n)
    assert groups.shape == (50, 64, count, n) and groups.dtype == np.float16
    flat = groups.reshape(50, 64, -1)
    assert not flat[:, :, 64:].any()
    # position 19 is row 2, column 3
    np.testing.assert_array_equal(flat[7, 19, :64], recorded.deltas()[7, 0, :, 2, 3])


@pytest.mark.parametrize("n", [0, -1, 2.0])
def test_bad_groups(recorded, n):
    with pytest.raises(ValueError, match=f"^Lanes n must be a positive integer, not {n!r}$"):
        recorded.groups(n)


@pytest.mark.parametrize("name", ["unet", "unet-silu", "dit"])
def test_every_kind_of_layer_can_be_captured(name):
    network = zoo.load(name)
    for layer in {layer.kind: layer for layer in network.layers}.values():
        recording = capture(Sampling(network, [3], 4), layer.name, first=0, last=1)
        assert recording.kind == layer.kind and recording.output.shape[0] == 1
        assert len(recording.inputs) == len(layer.inputs) == len(recording.before)
        np.testing.assert_array_equal(layer(*(value[0] for value in recording.inputs)), recording.output[0])


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("layer", ["up1.block.conv1", "down1.attention.scores", "label.embedding", "up0.concat"])
def test_a_part_of_a_sampling_is_that_part_of_the_whole(unet, tmp_path, layer, half):
    sampling = Sampling(unet, [3, 5], 6, seed=4)
    whole = capture(sampling, layer, last=4, half=half)
    part = capture(sampling, layer, first=2, last=4, half=half)
    assert part.steps.tolist() == [2, 3] and part.timesteps.tolist() == whole.timesteps[2:4].tolist()
    np.testing.assert_array_equal(part.output, whole.output[2:4])
    for operand in range(len(part.inputs)):
        np.testing.assert_array_equal(part.inputs[operand], whole.inputs[operand][2:4])
        np.testing.assert_array_equal(part.before[operand], whole.inputs[operand][1])
        np.testing.assert_array_equal(part.deltas(operand), whole.deltas(operand)[2:4])
    part.save(tmp_path / "part.npz")
    again = Recording.load(tmp_path / "part.npz")
    for name, value in vars(part).items():
        if isinstance(value, np.ndarray) or (isinstance(value, tuple) and value and isinstance(value[0], np.ndarray)):
            for a, b in zip(np.atleast_1d(value), np.atleast_1d(getattr(again, name)), strict=True):
                assert a.dtype == b.dtype
                np.testing.assert_array_equal(a, b)
        else:
            assert getattr(again, name) == value and type(getattr(again, name)) is type(value)
    with np.load(tmp_path / "part.npz") as file:
        np.testing.assert_array_equal(file["deltas"], part.deltas())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part.npz"]


def test_what_follows(unet):
    recording = capture(Sampling(unet, [3, 5], 2), "down0.block.conv1")
    assert recording.followed_by_names == tuple(f"down0.block.{name}" for name in ("shift", "norm2", "relu2", "conv2"))
    following = capture(Sampling(unet, [3, 5], 2), "down0.block.norm2")
    # batch-matrix products of other shapes may round differently, hence not bit for bit
    np.testing.assert_allclose(recording.output + recording.shift[..., None, None], following.inputs[0], atol=1e-5)
    assert capture(Sampling(unet, [3], 1), "head.conv").followed_by == ()
    assert capture(Sampling(unet, [3], 1), "down0.block.conv2").followed_by == ()
    assert not capture(Sampling(unet, [3], 1), "down0.block.conv2").relu


@pytest.mark.parametrize("first, last", [(2, 2), (3, 2), (0, 11), (-1, 3), (10, 11)])
def test_bad_steps(unet, first, last):
    message = f"Steps must be a half-open range within 0:10, not {first}:{last}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        capture(Sampling(unet, [3], 10), "stem.conv", first=first, last=last)


def test_unknown_layer(unet):
    with pytest.raises(ValueError, match=r"^Layer must be one of the known names, not 'stem.cnv'; did you mean stem"):
        capture(Sampling(unet, [3]), "stem.cnv")


def test_load_rejects_other_files(tmp_path):
    path = tmp_path / "other.npz"
    with pytest.raises(OSError):
        Recording.load(path)
    for content in (b"", b"text", b"PK\x03\x04 cut off"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"^Recording must be an \.npz of `golden capture`, not '.*other\.npz'$"):
            Recording.load(path)
    np.savez(path, inputs=np.zeros(3))
    with pytest.raises(ValueError, match=r" must have format 1, not None$"):
        Recording.load(path)


@pytest.mark.parametrize(
    "how, plain",
    [
        ({"padding": 1}, True),
        ({"padding": 1, "stride": 2}, True),
        ({}, False),
        ({"padding": 2, "dilation": 2}, False),
        ({"padding": 1, "groups": 2}, False),
        ({"padding": ((0, 1), (0, 1)), "stride": 2}, False),
    ],
)
def test_a_recording_says_whether_its_convolution_is_plain(tmp_path, how, plain):
    weight = np.full((2, 2 // how.get("groups", 1), 3, 3), 0.1, np.float32)
    found = [layers.Convolution("conv", ("image",), weight, **how), layers.Mean("mean", ("conv",))]
    found.append(layers.AddChannel("out", ("image", "mean")))
    recording = capture(Sampling(Network("one", {"image": (2, 8, 8), "timestep": ()}, found), 1, 3), "conv", last=1)
    recording.save(tmp_path / "one.npz")
    assert recording.plain is Recording.load(tmp_path / "one.npz").plain is plain
