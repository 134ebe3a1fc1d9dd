"""Trained networks that ship with the package, and values recorded from them.

``load("unet")`` is a class-conditional U-Net that draws digits of 16 x 16 pixels, ``load("unet-silu")`` its twin with
SiLU, ``load("dit")`` a transformer; both also take the label 10, which stands for none. ``load("classifier")``
tells digits apart. All were trained by `zoo.train` on the real digits of scikit-learn. ``recorded()`` are inputs
and outputs of one convolution of the U-Net over a whole sampling; `golden.diffusion.zoo.quality` measures images.
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy

from golden.common import files, names
from golden.common.checked import read_json
from golden.diffusion.networks import (
    ClassifierConfig,
    DiTConfig,
    Network,
    Recorder,
    UNetConfig,
    classifier,
    dit,
    stored,
    unet,
)
from golden.diffusion.sampling import Sampling
from golden.diffusion.zoo.quality import Statistics
from golden.diffusion.zoo.recording import Recording, capture
from golden.diffusion.zoo.tensors import read_tensors

__all__ = [
    "DATA",
    "DRAWS",
    "NETWORKS",
    "Recording",
    "Statistics",
    "capture",
    "classify",
    "digits",
    "digest",
    "features",
    "gains",
    "load",
    "record_set",
    "recorded",
    "reference",
    "reference_file",
    "statistics",
    "store",
]

DATA = Path(__file__).parent / "data"
"""Folder of the shipped files."""

NETWORKS = {
    "unet": (UNetConfig, unet),
    "unet-silu": (UNetConfig, unet),
    "dit": (DiTConfig, dit),
    "classifier": (ClassifierConfig, classifier),
}
"""Configuration and builder of every network of the zoo, by name."""

DRAWS = tuple(name for name in NETWORKS if name != "classifier")
"""Networks that draw digits."""

GAINS = "gains.json"
"""File of the gains of every network that draws; ``python -m golden gains --ship`` makes it."""

RECORDED_LAYER = "down1.block.conv1"
"""Layer of the shipped recording: 3 x 3, 64 to 64 channels on 8 x 8 pixels, followed by time shift, norm and ReLU."""


def load(name: str, folder: Path | None = None) -> Network:
    """Network of the zoo with its trained weights (stored as FP16, used as float32).

    Parameters
    ----------
    name : str
        One of `NETWORKS`.
    folder : Path
        Where ``<name>.safetensors`` is; the default is the package.

    Raises
    ------
    ValueError
        If there is no such network or the file is not one of its weights.
    OSError
        If the file cannot be read.
    """
    config_class, build = names.lookup("Network", name, NETWORKS)
    path = Path(folder or DATA) / f"{name}.safetensors"
    metadata, parameters = read_tensors(path)
    if metadata.get("network") != name:
        raise ValueError(f"Weights in {path} must be of network {name!r}, not {metadata.get('network')!r}")
    network = build(config_class(**json.loads(metadata["config"])), stored(parameters), name)
    extra = sorted(set(parameters) - set(network.parameters()))
    if extra:
        raise ValueError(f"Weights in {path} must be parameters of network {name!r}, not {extra[0]!r}")
    return network


def store(path: Path, network: Network, parameters: Mapping[str, np.ndarray]) -> None:
    """Write weights for `load`.

    Parameters
    ----------
    path : Path
        File to write, ``<name>.safetensors``.
    network : Network
        Gives name and configuration.
    parameters : mapping of str to array
        Parameters under the names of `Network.parameters`, in the type to be stored.
    """
    metadata = {"network": network.name, "config": json.dumps(network.config)}
    tensors = {name: np.ascontiguousarray(value) for name, value in parameters.items()}
    with files.complete(path) as partial:
        partial.write_bytes(safetensors.numpy.save(tensors, metadata))


def recorded() -> Recording:
    """Shipped recording of one convolution of the U-Net: one image, all 50 steps of a sampling. See `Recording`."""
    return Recording.load(DATA / "recorded.npz")


def record_set(network: Network) -> Recording:
    """Make what `recorded` reads: one image of the digit 3, 50 steps."""
    return capture(Sampling(network, [3]), RECORDED_LAYER, half=True)


def reference_file(name: str) -> str:
    """File name of what torch computed for the network of this name."""
    return "reference.npz" if name == "unet" else f"reference-{name}.npz"


def reference(name: str = "unet") -> dict[str, np.ndarray]:
    """What torch computed for every layer of a shipped network in one call.

    Parameters
    ----------
    name : str
        Name of a network that draws.

    Returns
    -------
    dict
        The inputs ``image``, ``timestep`` and ``label`` (batch 1), and under every layer's name its output: float32,
        but rounded to FP16 in the files of all networks other than "unet", except for the inputs.
    """
    with np.load(DATA / reference_file(name)) as file:
        return {key: value.astype(np.float32) if value.dtype.kind == "f" else value for key, value in file.items()}


@functools.lru_cache(maxsize=8)
def digest(network: Network) -> str:
    """What tells a network with its weights from others: SHA-256 of all parameters, hexadecimal."""
    found = hashlib.sha256()
    for name, value in sorted(network.parameters().items()):
        found.update(name.encode() + np.ascontiguousarray(value, np.float32).tobytes())
    return found.hexdigest()


def gains(network: Network) -> dict[str, float]:
    """Shipped gains of a network's products (`differential.allocation`); empty for other weights than ours."""
    return dict(_gains().get(digest(network), {})) if network.name in DRAWS else {}


@functools.cache
def _gains() -> dict[str, dict[str, float]]:
    found = read_json("Shipped gains", DATA / GAINS)
    return {one["digest"]: one["gains"] for one in found["networks"].values()}


def features(images: np.ndarray, network: Network | None = None) -> np.ndarray:
    """Features that a classifier finds in images: the value of its layer ``features``.

    Parameters
    ----------
    images : float (count, 1, 16, 16)
        Images in -1..1.
    network : Network
        Classifier; the default is the shipped one.

    Returns
    -------
    float32 (count, 64)
        Features.

    Raises
    ------
    ValueError
        If there is no image.
    """
    return _examine(images, network, "features")


def classify(images: np.ndarray, network: Network | None = None) -> np.ndarray:
    """Digit that a classifier finds in each image, int64 ``(count,)``; parameters as of `features`."""
    return _examine(images, network, "logits").argmax(axis=1)


def _examine(images: np.ndarray, network: Network | None, layer: str) -> np.ndarray:
    if not len(images):
        raise ValueError("Images must be at least one, not 0")
    network = network or load("classifier")
    recorder = Recorder([layer])
    parts = []
    for first in range(0, len(images), 256):  # in batches, because an image takes about 0.2 MB while it is examined
        network(images[first : first + 256], executor=recorder)
        parts.append(recorder.records[layer].output)
    return np.concatenate(parts)


def statistics(images: np.ndarray, network: Network | None = None) -> Statistics:
    """Statistics of the features of images, for `golden.diffusion.zoo.quality.frechet`; parameters as of `features`."""
    return Statistics.of(features(images, network))


def digits() -> Statistics:
    """Statistics of the shipped classifier's features over the 1,797 real digits that the networks were trained on."""
    return Statistics.load(DATA / "digits.npz")
