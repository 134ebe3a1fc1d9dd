"""What is kept is found again by what it belongs to, and by nothing else."""

import dataclasses

import numpy as np
import pytest

from golden.diffusion.differential import kept
from golden.diffusion.differential.allocation import gains_of
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.networks import Network
from golden.diffusion.sampling import Cache, Sampler, Sampling
from tests.golden.diffusion.sampling.networks import random_unet

pytestmark = pytest.mark.golden


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "driftless"


def changed(network):
    """The same but for one bias."""
    found = list(network.layers)
    found[-1] = dataclasses.replace(found[-1], bias=found[-1].bias + 1)
    return Network(network.name, network.inputs, found, network.config)


def test_an_entry_belongs_to_network_process_and_guidance(folder):
    sampling = Sampling(random_unet(null_label=True), [3], 4)
    value = {"a": 0.1, "b": [1, 2]}
    assert kept.load("gains", sampling, 5) is None
    assert kept.save("gains", sampling, value, 5)
    assert kept.load("gains", Sampling(random_unet(null_label=True), [7], 9, seed=3, cache=Cache([0])), 5) == value
    others = (
        dataclasses.replace(sampling, process=Sampler(eta=1.0)),
        dataclasses.replace(sampling, guidance=2.0),
        Sampling(changed(sampling.network), [3], 4),
    )
    assert all(kept.load("gains", other, 5) is None for other in others)
    assert kept.load("gains", sampling, 6) is None and kept.load("effects", sampling, 5) is None
    assert len(list(folder.rglob("*.json"))) == 1


def test_what_cannot_be_read_or_written_is_not_kept(folder, monkeypatch):
    sampling = Sampling(random_unet(), [3], 4)
    kept.save("gains", sampling, {})
    (path,) = folder.rglob("*.json")
    for text in ("{", "[" * 100_000):
        path.write_text(text)
        assert kept.load("gains", sampling) is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(path))  # a file
    assert not kept.save("gains", sampling, {})


def test_gains_are_measured_once_and_then_known_to_every_profile(monkeypatch):
    sampling = Sampling(random_unet(), [3], 2)
    assert calibrate(sampling).gains == {}
    found = gains_of(sampling)
    assert set(found) > {"stem.conv", "head.conv"} and all(np.isfinite(list(found.values())))
    monkeypatch.setattr("golden.diffusion.differential.allocation.measure_gains", None)
    assert gains_of(sampling) == found
    assert calibrate(Sampling(sampling.network, [3], 3)).gains == found
