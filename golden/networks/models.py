"""Builders of the networks of the zoo: a configuration and a source of parameters give a `Network`."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from golden.networks import layers as kinds
from golden.networks.graph import Network
from golden.networks.layers import Layer, Shape

Source = Callable[[str, Shape], np.ndarray]
"""Gives the parameter of a dotted name and shape."""


def initial(seed: int) -> Source:
    """Random parameters to start training from: He et al. (2015) for weights; norms start as the identity, biases at 0.

    The last convolution of each residual branch and of the network starts at 0, so that every block starts as the
    identity (Ho et al., *Denoising diffusion probabilistic models*, 2020).
    """
    rng = np.random.default_rng(seed)

    def source(name: str, shape: Shape) -> np.ndarray:
        owner, parameter = name.rsplit(".", 1)
        role = owner.rsplit(".", 1)[-1]
        if parameter == "bias" or role in ("conv2", "project") or owner == "head.conv":
            return np.zeros(shape, np.float32)
        if role.startswith("norm"):
            return np.ones(shape, np.float32)
        # an embedding is as large as what it is added to; smaller, the label is learnt thousands of iterations later
        deviation = 1.0 if role == "embedding" else math.sqrt(2 / math.prod(shape[1:]))
        return (rng.standard_normal(shape) * deviation).astype(np.float32)

    return source


def stored(parameters: Mapping[str, np.ndarray]) -> Source:
    """Parameters read from a mapping.

    Raises
    ------
    ValueError
        When a parameter is asked for that is missing, has another shape, or is not finite.
    """

    def source(name: str, shape: Shape) -> np.ndarray:
        if name not in parameters:
            raise ValueError(f"Parameters must contain {name!r}, not only {len(parameters)} others")
        value = np.asarray(parameters[name], np.float32)
        if value.shape != shape:
            raise ValueError(f"Parameter {name!r} must have the shape {shape}, not {value.shape}")
        if not np.isfinite(value).all():
            raise ValueError(f"Parameter {name!r} must be finite, not {value[~np.isfinite(value)][0]}")
        return value

    return source


class _Builder:
    """Appends layers; every method returns the name of what it appended last."""

    def __init__(self, source: Source, groups: int):
        self.source = source
        self.groups = groups
        self.layers: list[Layer] = []

    def add(self, kind: type[Layer], name: str, *inputs: str, **arguments: object) -> str:
        self.layers.append(kind(name, inputs, **arguments))
        return name

    def convolution(self, name: str, x: str, width_in: int, width_out: int, size: int = 3, stride: int = 1) -> str:
        weight = self.source(f"{name}.weight", (width_out, width_in, size, size))
        bias = self.source(f"{name}.bias", (width_out,))
        return self.add(kinds.Convolution, name, x, weight=weight, bias=bias, stride=stride)

    def linear(self, name: str, x: str, width_in: int, width_out: int) -> str:
        weight = self.source(f"{name}.weight", (width_out, width_in))
        return self.add(kinds.Linear, name, x, weight=weight, bias=self.source(f"{name}.bias", (width_out,)))

    def norm(self, name: str, x: str, width: int) -> str:
        weight, bias = self.source(f"{name}.weight", (width,)), self.source(f"{name}.bias", (width,))
        return self.add(kinds.GroupNorm, name, x, weight=weight, bias=bias, groups=self.groups)

    def block(self, name: str, x: str, time: str, width_in: int, width_out: int, width_time: int) -> str:
        h = self.norm(f"{name}.norm1", x, width_in)
        h = self.add(kinds.ReLU, f"{name}.relu1", h)
        h = self.convolution(f"{name}.conv1", h, width_in, width_out)
        shift = self.linear(f"{name}.time", time, width_time, width_out)
        h = self.add(kinds.AddChannel, f"{name}.shift", h, shift)
        h = self.norm(f"{name}.norm2", h, width_out)
        h = self.add(kinds.ReLU, f"{name}.relu2", h)
        h = self.convolution(f"{name}.conv2", h, width_out, width_out)
        if width_in != width_out:
            x = self.convolution(f"{name}.skip", x, width_in, width_out, size=1)
        return self.add(kinds.Add, f"{name}.add", x, h)

    def attention(self, name: str, x: str, width: int) -> str:
        h = self.norm(f"{name}.norm", x, width)
        h = self.add(kinds.Tokens, f"{name}.tokens", h)
        query, key, value = (self.linear(f"{name}.{part}", h, width, width) for part in ("query", "key", "value"))
        scale = 1 / math.sqrt(width)
        h = self.add(kinds.MatMul, f"{name}.scores", query, key, transposed=True, scale=scale)
        h = self.add(kinds.Softmax, f"{name}.softmax", h)
        h = self.add(kinds.MatMul, f"{name}.mix", h, value)
        h = self.linear(f"{name}.project", h, width, width)
        h = self.add(kinds.Image, f"{name}.image", h)
        return self.add(kinds.Add, f"{name}.add", x, h)


@dataclass(frozen=True)
class UNetConfig:
    """Shape of a class-conditional U-Net that predicts the noise in an image.

    Parameters
    ----------
    side : int
        Height and width of the image, in pixels; divisible by 2 to the number of levels less 1.
    channels : int
        Channels of the image.
    classes : int
        Number of labels.
    widths : tuple of int
        Channels of each level; each level halves height and width of the one before.
    attention : tuple of bool
        For each level, whether its blocks are followed by self-attention over its pixels.
    groups : int
        Groups of every GroupNorm; divides every width.
    encoding, embedding : int
        Channels of the sinusoidal time encoding, and of the embedding of time and class.
    """

    side: int = 16
    channels: int = 1
    classes: int = 10
    widths: tuple[int, ...] = (32, 64, 64)
    attention: tuple[bool, ...] = (False, True, False)
    groups: int = 8
    encoding: int = 32
    embedding: int = 128

    def __post_init__(self) -> None:
        """Check every rule above."""
        object.__setattr__(self, "widths", tuple(self.widths))
        object.__setattr__(self, "attention", tuple(self.attention))
        for name in ("side", "channels", "classes", "groups", "encoding", "embedding"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"U-Net {name} must be a positive integer, not {getattr(self, name)!r}")
        if not self.widths:
            raise ValueError("U-Net widths must name at least one level, not ()")
        if len(self.attention) != len(self.widths):
            raise ValueError(f"U-Net attention must have {len(self.widths)} flags, not {len(self.attention)}")
        for width in self.widths:
            if width < 1 or width % self.groups:
                raise ValueError(f"U-Net widths must be positive multiples of groups ({self.groups}), not {width}")
        if self.side % 2 ** (len(self.widths) - 1):
            raise ValueError(f"U-Net side must be divisible by {2 ** (len(self.widths) - 1)}, not {self.side}")
        if self.encoding % 2:
            raise ValueError(f"U-Net encoding must be even, not {self.encoding}")


def unet(config: UNetConfig, source: Source, name: str = "unet") -> Network:
    """Build the U-Net of Ho et al. (2020) with ReLU and a class embedding added to the time embedding.

    Inputs are ``image`` float32 ``(batch, channels, side, side)``, ``timestep`` and ``label`` ``(batch,)``; the output
    is the predicted noise, shaped as the image. Each level goes down through one residual block (and attention) and
    comes back up through one over the concatenation with its skip connection.
    """
    b = _Builder(source, config.groups)
    widths, wide = config.widths, config.embedding
    top = len(widths) - 1

    time = b.add(kinds.TimeEncoding, "time.encoding", "timestep", channels=config.encoding)
    time = b.linear("time.linear1", time, config.encoding, wide)
    time = b.add(kinds.ReLU, "time.relu1", time)
    time = b.linear("time.linear2", time, wide, wide)
    table = b.source("label.embedding.weight", (config.classes, wide))
    label = b.add(kinds.Embedding, "label.embedding", "label", weight=table)
    time = b.add(kinds.Add, "time.add", time, label)
    time = b.add(kinds.ReLU, "time.relu2", time)

    h = b.convolution("stem.conv", "image", config.channels, widths[0])
    skips = []
    for level, width in enumerate(widths):
        h = b.block(f"down{level}.block", h, time, width, width, wide)
        if config.attention[level]:
            h = b.attention(f"down{level}.attention", h, width)
        skips.append(h)
        if level < top:
            h = b.convolution(f"down{level}.reduce", h, width, widths[level + 1], stride=2)
    h = b.block("middle.block", h, time, widths[top], widths[top], wide)
    for level in reversed(range(len(widths))):
        width = widths[level]
        h = b.add(kinds.Concat, f"up{level}.concat", h, skips[level])
        h = b.block(f"up{level}.block", h, time, 2 * width, width, wide)
        if config.attention[level]:
            h = b.attention(f"up{level}.attention", h, width)
        if level:
            h = b.add(kinds.Upsample, f"up{level}.upsample", h)
            h = b.convolution(f"up{level}.enlarge", h, width, widths[level - 1])
    h = b.norm("head.norm", h, widths[0])
    h = b.add(kinds.ReLU, "head.relu", h)
    b.convolution("head.conv", h, widths[0], config.channels)

    image = (config.channels, config.side, config.side)
    return Network(name, {"image": image, "timestep": (), "label": ()}, b.layers, dataclasses.asdict(config))


@dataclass(frozen=True)
class ClassifierConfig:
    """Shape of a small convolutional classifier.

    Parameters
    ----------
    side, channels, classes : int
        As in `UNetConfig`.
    widths : tuple of int
        Channels of each stage (convolution, norm, ReLU); all but the first halve height and width.
    groups : int
        Groups of every GroupNorm; divides every width.
    """

    side: int = 16
    channels: int = 1
    classes: int = 10
    widths: tuple[int, ...] = (16, 32, 64)
    groups: int = 8

    def __post_init__(self) -> None:
        """Check every rule above."""
        object.__setattr__(self, "widths", tuple(self.widths))
        for name in ("side", "channels", "classes", "groups"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"Classifier {name} must be a positive integer, not {getattr(self, name)!r}")
        if not self.widths:
            raise ValueError("Classifier widths must name at least one convolution, not ()")
        for width in self.widths:
            if width < 1 or width % self.groups:
                raise ValueError(f"Classifier widths must be positive multiples of groups ({self.groups}), not {width}")


def classifier(config: ClassifierConfig, source: Source, name: str = "classifier") -> Network:
    """Build the classifier: input ``image`` as of the U-Net, output logits float32 ``(batch, classes)``.

    The value of the layer ``features``, ``(batch, widths[-1])``, is what distances between sets of images are measured
    on.
    """
    b = _Builder(source, config.groups)
    h, width_in = "image", config.channels
    for index, width in enumerate(config.widths):
        h = b.convolution(f"stage{index}.conv", h, width_in, width, stride=1 if index == 0 else 2)
        h = b.norm(f"stage{index}.norm", h, width)
        h = b.add(kinds.ReLU, f"stage{index}.relu", h)
        width_in = width
    h = b.add(kinds.Mean, "features", h)
    b.linear("logits", h, width_in, config.classes)
    image = (config.channels, config.side, config.side)
    return Network(name, {"image": image}, b.layers, dataclasses.asdict(config))
