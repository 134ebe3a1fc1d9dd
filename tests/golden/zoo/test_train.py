import numpy as np
import pytest

pytestmark = pytest.mark.golden

torch = pytest.importorskip("torch", reason="needs the extra 'train'")

from golden.networks import ClassifierConfig, Recorder, UNetConfig, classifier, initial, stored, unet  # noqa: E402
from golden.zoo import train  # noqa: E402

torch.set_num_threads(1)  # threads of several test processes would only wait for each other


@pytest.mark.parametrize("build, config", [(unet, UNetConfig()), (classifier, ClassifierConfig())])
def test_numpy_and_torch_agree_on_every_layer(build, config):
    rng = np.random.default_rng(3)
    start = build(config, initial(0)).parameters()
    network = build(config, stored({name: rng.standard_normal(value.shape) * 0.1 for name, value in start.items()}))
    expected = train.reference(network)
    recorder = Recorder()
    network(*(expected[name] for name in network.inputs), executor=recorder)
    assert set(recorder.records) | set(network.inputs) == set(expected)
    for name, record in recorder.records.items():
        assert np.abs(record.output - expected[name]).max() <= 1e-4 * np.abs(expected[name]).max(), name


def test_digits_are_real_images():
    images, labels = train.digits()
    assert images.shape == (1797, 1, 16, 16) and images.dtype == np.float32
    assert images.min() == -1 and images.max() == 1
    assert np.bincount(labels).min() > 150


def test_training_is_repeatable():
    config = UNetConfig(widths=(8, 16), attention=(False, False), groups=4, encoding=8, embedding=16)
    first, again = (train.train_unet(config, seed=1, iterations=3).parameters_float16() for _ in range(2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert np.any(first["head.conv.weight"])
