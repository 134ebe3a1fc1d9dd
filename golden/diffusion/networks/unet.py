"""The U-Net of the zoo, with either activation."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from golden.common.checked import Checked, Count
from golden.diffusion import layers as kinds
from golden.diffusion.networks.builder import Builder, check_multiple
from golden.diffusion.networks.graph import Network
from golden.diffusion.networks.sources import Source


@dataclass(frozen=True)
class UNetConfig(Checked, label="U-Net {}"):
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
    activation : str
        ``"relu"`` or ``"silu"``.
    null_label : bool
        Whether the label ``classes`` stands for no label.
    """

    side: Count = 16
    channels: Count = 1
    classes: Count = 10
    widths: tuple[Count, ...] = (32, 64, 64)
    attention: tuple[bool, ...] = (False, True, False)
    groups: Count = 8
    encoding: Count = 32
    embedding: Count = 128
    activation: Literal["relu", "silu"] = "relu"
    null_label: bool = False

    def check_together(self) -> None:
        """As many levels in every field, and what divides what."""
        if not self.widths:
            raise ValueError("U-Net widths must name at least one level, not ()")
        if len(self.attention) != len(self.widths):
            raise ValueError(f"U-Net attention must have {len(self.widths)} flags, not {len(self.attention)}")
        for width in self.widths:
            check_multiple("U-Net widths", width, self.groups, "groups")
        check_multiple("U-Net side", self.side, 2 ** (len(self.widths) - 1))
        check_multiple("U-Net encoding", self.encoding, 2)


class _Builder(Builder):
    def __init__(self, source: Source, config: UNetConfig):
        super().__init__(source)
        self.config = config

    def block(self, name: str, x: str, time: str, width_in: int, width_out: int) -> str:
        activation, groups = self.config.activation, self.config.groups
        h = self.group_norm(f"{name}.norm1", x, width_in, groups)
        h = self.activation(f"{name}.{activation}1", h, activation)
        h = self.convolution(f"{name}.conv1", h, width_in, width_out)
        shift = self.linear(f"{name}.time", time, self.config.embedding, width_out)
        h = self.add(kinds.AddChannel, f"{name}.shift", h, shift)
        h = self.group_norm(f"{name}.norm2", h, width_out, groups)
        h = self.activation(f"{name}.{activation}2", h, activation)
        h = self.convolution(f"{name}.conv2", h, width_out, width_out)
        if width_in != width_out:
            x = self.convolution(f"{name}.skip", x, width_in, width_out, size=1)
        return self.add(kinds.Add, f"{name}.add", x, h)

    def attention(self, name: str, x: str, width: int, side: int) -> str:
        h = self.group_norm(f"{name}.norm", x, width, self.config.groups)
        h = self.tokens(f"{name}.tokens", h)
        query, key, value = (self.linear(f"{name}.{part}", h, width, width) for part in ("query", "key", "value"))
        scale = 1 / math.sqrt(width)
        h = self.add(kinds.MatMul, f"{name}.scores", query, key, transposed=True, scale=scale)
        h = self.add(kinds.Softmax, f"{name}.softmax", h)
        h = self.add(kinds.MatMul, f"{name}.mix", h, value)
        h = self.linear(f"{name}.project", h, width, width)
        h = self.image(f"{name}.image", h, side)
        return self.add(kinds.Add, f"{name}.add", x, h)


def unet(config: UNetConfig, source: Source, name: str = "unet") -> Network:
    """Build the U-Net of Ho et al. (2020) with a class embedding added to the time embedding.

    Inputs are ``image`` float32 ``(batch, channels, side, side)``, ``timestep`` and ``label`` ``(batch,)``; the output
    is the predicted noise, shaped as the image. Each level goes down through one residual block (and attention) and
    comes back up through one over the concatenation with its skip connection.
    """
    b = _Builder(source, config)
    widths, wide = config.widths, config.embedding
    top = len(widths) - 1
    time = b.condition(config.encoding, wide, config.classes + config.null_label, config.activation)

    h = b.convolution("stem.conv", "image", config.channels, widths[0])
    skips = []
    for level, width in enumerate(widths):
        h = b.block(f"down{level}.block", h, time, width, width)
        if config.attention[level]:
            h = b.attention(f"down{level}.attention", h, width, config.side >> level)
        skips.append(h)
        if level < top:
            h = b.convolution(f"down{level}.reduce", h, width, widths[level + 1], stride=2)
    h = b.block("middle.block", h, time, widths[top], widths[top])
    for level in reversed(range(len(widths))):
        width = widths[level]
        h = b.add(kinds.Concat, f"up{level}.concat", h, skips[level])
        h = b.block(f"up{level}.block", h, time, 2 * width, width)
        if config.attention[level]:
            h = b.attention(f"up{level}.attention", h, width, config.side >> level)
        if level:
            h = b.upsample(f"up{level}.upsample", h)
            h = b.convolution(f"up{level}.enlarge", h, width, widths[level - 1])
    h = b.group_norm("head.norm", h, widths[0], config.groups)
    h = b.activation(f"head.{config.activation}", h, config.activation)
    b.convolution("head.conv", h, widths[0], config.channels)

    image = (config.channels, config.side, config.side)
    return Network(name, {"image": image, "timestep": (), "label": ()}, b.layers, dataclasses.asdict(config))
