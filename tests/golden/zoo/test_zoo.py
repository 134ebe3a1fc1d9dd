import re

import numpy as np
import pytest

from golden import zoo
from golden.networks import Recorder
from golden.sampling import noise, sample

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def unet():
    return zoo.load("unet")


def test_shipped_files_are_small(unet):
    sizes = {path.name: path.stat().st_size for path in zoo.DATA.iterdir()}
    assert set(sizes) == {"unet.safetensors", "classifier.safetensors", "recorded.npz", "reference.npz"}
    assert sizes["unet.safetensors"] <= 4e6
    assert sizes["recorded.npz"] <= 1e6
    assert sum(sizes.values()) <= 5e6


def test_unet_is_what_the_readme_says(unet):
    parameters = unet.parameters()
    assert 0.3e6 <= sum(value.size for value in parameters.values()) <= 1e6
    assert all(np.array_equal(value, value.astype(np.float16)) for value in parameters.values())
    kinds = {layer.kind for layer in unet.layers}
    assert {"convolution", "group_norm", "relu", "concat", "matmul", "softmax", "upsample"} <= kinds
    assert unet.inputs == {"image": (1, 16, 16), "timestep": (), "label": ()}


def test_numpy_and_torch_agree_on_every_layer(unet):
    reference = zoo.reference()
    recorder = Recorder()
    unet(*(reference[name] for name in unet.inputs), executor=recorder)
    assert set(recorder.records) == set(reference) - set(unet.inputs)
    for name, record in recorder.records.items():
        worst = np.abs(record.output - reference[name]).max() / np.abs(reference[name]).max()
        assert worst <= 1e-4, name


@pytest.mark.parametrize("steps", [20, pytest.param(50, marks=pytest.mark.slow)])
def test_the_classifier_finds_the_asked_digit(unet, steps):
    labels = np.arange(200) % 10
    found = zoo.load("classifier")(sample(unet, labels, steps, seed=1)).argmax(axis=1)
    share = (found == labels).mean()
    assert share >= 0.9
    # and no single digit is lost
    assert min((found == labels)[labels == digit].mean() for digit in range(10)) >= 0.6


def test_samples_of_one_digit_differ(unet):
    images = sample(unet, [4] * 8, 10, seed=2)
    apart = [np.abs(images[i] - images[j]).mean() for i in range(8) for j in range(i)]
    assert min(apart) > 0.05


def test_unknown_network():
    message = "Network must be one of the known names, not 'unett'; did you mean unet?"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        zoo.load("unett")


def test_load_rejects_other_files(tmp_path, unet):
    with pytest.raises(OSError):
        zoo.load("unet", tmp_path)
    path = tmp_path / "unet.safetensors"
    path.write_bytes(b"not weights at all")
    with pytest.raises(ValueError, match=r"^Weights must be a safetensors file, not "):
        zoo.load("unet", tmp_path)
    zoo.store(path, zoo.load("classifier"), {})
    with pytest.raises(ValueError, match=r" must be of network 'unet', not 'classifier'$"):
        zoo.load("unet", tmp_path)
    zoo.store(path, unet, unet.parameters() | {"stray.weight": np.zeros(1, np.float16)})
    with pytest.raises(ValueError, match=r" must be parameters of network 'unet', not 'stray.weight'$"):
        zoo.load("unet", tmp_path)


def test_store_and_load(tmp_path, unet):
    zoo.store(tmp_path / "unet.safetensors", unet, unet.parameters())
    again = zoo.load("unet", tmp_path)
    assert again.config == unet.config
    x = noise(unet, 0, 1)
    assert np.array_equal(again(x, [3], [3]), unet(x, [3], [3]))
