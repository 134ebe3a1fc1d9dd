import dataclasses

import numpy as np
import pytest
from click.testing import CliRunner

pytestmark = pytest.mark.golden

torch = pytest.importorskip("torch", reason="needs the extra 'train'")

from golden.__main__ import main  # noqa: E402
from golden.diffusion import zoo  # noqa: E402
from golden.diffusion.networks import ClassifierConfig, DiTConfig, Recorder, UNetConfig, initial, stored, unet  # noqa: E402
from golden.diffusion.zoo import train  # noqa: E402

torch.set_num_threads(1)  # threads of several test processes would only wait for each other

SMALL_UNET = {"widths": (8, 16), "attention": (False, True), "groups": 4, "encoding": 8, "embedding": 16}
SMALL = {
    "unet": UNetConfig(**SMALL_UNET),
    "unet-silu": UNetConfig(**SMALL_UNET, activation="silu", null_label=True),
    "dit": DiTConfig(width=16, blocks=2, heads=2, encoding=8, null_label=True),
}


@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_numpy_and_torch_agree_on_every_layer(name):
    rng = np.random.default_rng(3)
    config = ClassifierConfig() if name == "classifier" else train.RECIPES[name].config
    _, build = zoo.NETWORKS[name]
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


def test_shipped_statistics_are_those_of_the_real_digits():
    images, labels = train.digits()
    shipped, now = zoo.digits(), zoo.statistics(images)
    np.testing.assert_allclose(shipped.mean, now.mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(shipped.covariance, now.covariance, rtol=1e-3, atol=1e-5)
    assert np.mean(zoo.classify(images) == labels) > 0.98


def test_one_label_in_ten_is_dropped():
    torch.manual_seed(0)
    labels = torch.arange(20_000) % 10
    dropped = train.drop(labels, 10)
    assert 0.09 < (dropped == 10).float().mean().item() < 0.11
    assert torch.equal(dropped[dropped != 10], labels[dropped != 10])


@pytest.mark.parametrize("name", train.RECIPES)
def test_training_is_repeatable(name):
    recipe = dataclasses.replace(train.RECIPES[name], config=SMALL[name], iterations=(2, 1), batch=16, start=None)
    first, again = (train.train_denoiser(name, recipe, seed=1).parameters_float16() for _ in range(2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert np.any(first["head.linear.weight" if name == "dit" else "head.conv.weight"])


@pytest.mark.parametrize("name", train.RECIPES)
def test_labels_are_dropped_where_there_is_a_null_label(monkeypatch, name):
    given = []
    monkeypatch.setattr(train, "drop", lambda labels, null: given.append(null) or labels)
    recipe = dataclasses.replace(train.RECIPES[name], config=SMALL[name], iterations=(2,), batch=16, start=None)
    train.train_denoiser(name, recipe, seed=1)
    assert given == ([] if name == "unet" else [10, 10])


def test_how_long_training_takes_is_told_early(monkeypatch, capsys):
    """By a clock of 3 s an iteration, of the iterations that are left in all runs."""
    monkeypatch.setattr(train, "TOLD", 2)
    ticks = iter([0.0, 6.0])
    monkeypatch.setattr(train.time, "monotonic", lambda: next(ticks))
    monkeypatch.setattr(train.console, "progress", lambda items, title: items)
    recipe = dataclasses.replace(train.RECIPES["unet"], config=SMALL["unet"], batch=4)
    train.train_run("unet", recipe, initial(0), 1, 5, after=4)
    told = capsys.readouterr().err
    assert "iteration 2 of 9, loss " in told and "6 s, about 21 s left" in told


def test_the_twin_goes_on_from_the_shipped_weights():
    shipped = zoo.load("unet")
    recipe = train.RECIPES["unet-silu"]
    source = train.grown(zoo.load(recipe.start))
    for name, value in unet(recipe.config, source, "unet-silu").parameters().items():
        if name == "label.embedding.weight":
            np.testing.assert_allclose(value[10], value[:10].sum(axis=0) / 10, rtol=1e-5, atol=1e-6)
            value = value[:10]
        assert np.array_equal(value, shipped.parameters()[name]), name


def test_the_script_writes_what_the_zoo_loads(tmp_path):
    result = CliRunner().invoke(main, ["train", "--network", "dit", "--iterations", "1", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dit.safetensors", "reference-dit.npz"]
    network = zoo.load("dit", tmp_path)
    assert network.config == dataclasses.asdict(train.RECIPES["dit"].config)
    with np.load(tmp_path / "reference-dit.npz") as file:
        assert set(file) == {layer.name for layer in network.layers} | set(network.inputs)
        assert file["image"].dtype == np.float32 and file["head.image"].dtype == np.float16


def test_the_script_refuses_unknown_networks(tmp_path):
    result = CliRunner().invoke(main, ["train", "--network", "dot", "--out", str(tmp_path / "new")])
    assert result.exit_code == 2
    assert result.stderr == "Error: Network must be one of the known names, not 'dot'; did you mean dit?\n"
    assert not (tmp_path / "new").exists()
