import re

import numpy as np
import pytest

from golden.diffusion import zoo
from golden.diffusion.networks import Recorder
from golden.diffusion.sampling import Sampling, Schedule, noise

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def unet():
    return zoo.load("unet")


DRAWING = ["unet", "unet-silu", "dit"]


def test_shipped_files_are_small():
    sizes = {path.name: path.stat().st_size for path in zoo.DATA.iterdir()}
    weights = {f"{name}.safetensors" for name in zoo.NETWORKS}
    references = {"reference.npz", "reference-unet-silu.npz", "reference-dit.npz"}
    assert set(sizes) == weights | references | {"recorded.npz", "digits.npz", zoo.GAINS}
    assert sizes["unet.safetensors"] <= 4e6
    assert sizes["recorded.npz"] <= 1e6
    assert sizes["digits.npz"] <= 50e3
    assert sum(sizes[name] for name in weights) <= 10e6
    assert sum(sizes[name] for name in references - {"reference.npz"}) <= 3e6
    assert sum(sizes.values()) <= 12e6


@pytest.mark.parametrize(
    "name, kinds",
    [
        ("unet", {"convolution", "norm", "relu", "concat", "matmul", "softmax", "move"}),
        ("unet-silu", {"convolution", "norm", "silu", "concat", "matmul", "softmax", "move"}),
        ("dit", {"norm", "modulate", "gate", "gelu", "matmul", "softmax", "move"}),
    ],
)
def test_networks_are_what_the_readme_says(name, kinds):
    network = zoo.load(name)
    parameters = network.parameters()
    assert network.name == name and network.config["classes"] == 10
    low, high = (1e6, 2e6) if name == "dit" else (0.3e6, 1e6)
    assert low <= sum(value.size for value in parameters.values()) <= high
    assert all(np.array_equal(value, value.astype(np.float16)) for value in parameters.values())
    assert kinds <= {layer.kind for layer in network.layers}
    assert network.inputs == {"image": (1, 16, 16), "timestep": (), "label": ()}
    assert len(parameters["label.embedding.weight"]) == (10 if name == "unet" else 11)


@pytest.mark.parametrize(
    "name, bound",
    [
        ("unet", 1e-4),
        # these references are rounded to FP16, which alone takes up to 2^-11 = 4.9e-4 of the largest value
        ("unet-silu", 1e-3),
        ("dit", 1e-3),
    ],
)
def test_numpy_and_torch_agree_on_every_layer(name, bound):
    network, reference = zoo.load(name), zoo.reference(name)
    recorder = Recorder()
    network(*(reference[name] for name in network.inputs), executor=recorder)
    assert set(recorder.records) == set(reference) - set(network.inputs)
    for layer, record in recorder.records.items():
        worst = np.abs(record.output - reference[layer]).max() / np.abs(reference[layer]).max()
        assert worst <= bound, layer


@pytest.mark.parametrize(
    "name, count, steps, least",
    [
        ("unet", 200, 20, 0.9),
        ("unet-silu", 50, 20, 0.9),
        ("dit", 50, 20, 0.8),  # a smoke test: 20 steps are few for it; the goal of 0.9 is that of 50 steps
        *(pytest.param(name, 200, 50, 0.9, marks=pytest.mark.slow) for name in DRAWING),
    ],
)
def test_the_classifier_finds_the_asked_digit(name, count, steps, least):
    labels = np.arange(count) % 10
    found = zoo.classify(Sampling(zoo.load(name), labels, steps, seed=1).images())
    right = found == labels
    assert right.mean() >= least
    # and no single digit is lost
    assert min(right[labels == digit].mean() for digit in range(10)) >= 0.6


@pytest.mark.parametrize("name", ["unet-silu", "dit"])
def test_the_null_label_knows_less_than_the_right_one_and_more_than_a_wrong_one(name):
    network = zoo.load(name)
    labels = np.arange(20) % 10
    images = Sampling(network, labels, 10, seed=5).images()
    added = noise(network, 6, 20)
    level = 700
    signal = np.float32(Schedule().signal[level])
    noisy = np.sqrt(signal) * images + np.sqrt(1 - signal) * added
    right, null, wrong = (
        np.square(network(noisy, np.full(20, level), given) - added).mean()
        for given in (labels, np.full(20, 10), (labels + 3) % 10)
    )
    assert right < null < wrong


def test_samples_of_one_digit_differ(unet):
    images = Sampling(unet, [4] * 8, 10, seed=2).images()
    apart = [np.abs(images[i] - images[j]).mean() for i in range(8) for j in range(i)]
    assert min(apart) > 0.05


def test_unknown_network():
    message = "Network must be one of the known names, not 'unett'; did you mean unet or unet-silu?"
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
