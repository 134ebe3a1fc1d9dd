"""U-Nets of the published diffusion models: residual blocks, self-attention or transformers over text at some levels.

Layers are called as the modules of diffusers are (``down_blocks.0.resnets.1.conv2``), so that a checkpoint of
``UNet2DModel`` or ``UNet2DConditionModel`` gives the parameters by name; `golden.diffusion.zoo.importer` reads them.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from golden.common.checked import Checked, Count, Positive, Whole
from golden.diffusion import layers as kinds
from golden.diffusion.networks.builder import Activation, Builder, check_multiple
from golden.diffusion.networks.graph import Network
from golden.diffusion.networks.sources import Source

Attention = Literal["none", "self", "text"]
Resample = Literal["convolution", "residual"]
TimeNorm = Literal["default", "scale_shift"]


@dataclass(frozen=True, kw_only=True)
class UNet2DConfig(Checked, label="U-Net {}"):
    """Shape of a U-Net.

    Parameters
    ----------
    side : int
        Height and width of the image, in pixels; divisible by 2 to the number of levels less 1.
    channels_in, channels_out : int
        Channels of the image and of the output.
    widths : tuple of int
        Channels of each level.
    blocks : tuple of int
        Residual blocks of each level on the way down; one more on the way up.
    down, up : tuple of str
        What follows each residual block: ``"none"``, ``"self"`` (attention over the pixels) or ``"text"`` (a
        transformer that also looks at the text). `down` from the first level to the last, `up` from the last to the
        first.
    middle : str or None
        The same between the two residual blocks at the bottom; None: there is nothing at the bottom.
    shrink, enlarge : tuple of str
        How a level is left on the way down, and up (from the last level): ``"convolution"``, or ``"residual"`` for a
        residual block that pools or repeats pixels.
    heads : tuple of int
        Attention heads of each level.
    depth : tuple of int
        Transformer blocks of each ``"text"`` at each level.
    text_width, tokens : int
        Channels and number of the text states; 0 without text.
    linear_projection : bool
        The matrices around a transformer come after pixels are tokens, not before.
    classes : int
        Labels of a class-conditional network; 0: none.
    groups : int
        Groups of every GroupNorm.
    middle_groups : int
        Groups of the norm before the attention at the bottom; 0: no norm there.
    epsilon : float
        Added to the variance in every norm of pixels but that of a transformer (1e-6).
    activation, outer_activation : str
        Within residual blocks; of the time embedding and of the head.
    time_norm : str
        How time enters a residual block: ``"default"``, a shift before the second norm, or ``"scale_shift"`` after it.
    time_width : int
        Channels of the time embedding.
    frequency_shift : float
        As `kinds.TimeEncoding.shift`.
    sines_first : bool
        As `kinds.TimeEncoding.sines_first`.
    corner : bool
        The convolutions that shrink pad below and to the right only.

    Raises
    ------
    ValueError
        If a rule above is broken.
    """

    side: Count = 32
    channels_in: Count = 3
    channels_out: Count = 3
    widths: tuple[Count, ...] = (32, 64)
    blocks: tuple[Count, ...] = (2, 2)
    down: tuple[Attention, ...] = ("none", "self")
    up: tuple[Attention, ...] = ("self", "none")
    middle: Attention | None = "self"
    shrink: tuple[Resample, ...] = ("convolution", "convolution")
    enlarge: tuple[Resample, ...] = ("convolution", "convolution")
    heads: tuple[Count, ...] = (1, 1)
    depth: tuple[Count, ...] = (1, 1)
    text_width: Whole = 0
    tokens: Whole = 0
    linear_projection: bool = False
    classes: Whole = 0
    groups: Count = 32
    middle_groups: Whole = 32
    epsilon: Positive = 1e-5
    activation: Activation = "silu"
    outer_activation: Activation = "silu"
    time_norm: TimeNorm = "default"
    time_width: Count = 128
    frequency_shift: float = 0.0
    sines_first: bool = False
    corner: bool = False

    def check_together(self) -> None:
        """As many levels in every field, and what divides what."""
        levels = len(self.widths)
        if not levels:
            raise ValueError("U-Net widths must name at least one level, not ()")
        for name in ("blocks", "down", "up", "shrink", "enlarge", "heads", "depth"):
            if len(getattr(self, name)) != levels:
                found = len(getattr(self, name))
                raise ValueError(f"U-Net {name} must have {levels} values, one for each level, not {found}")
        check_multiple("U-Net side", self.side, 2 ** (levels - 1))
        for index, (width, heads) in enumerate(zip(self.widths, self.heads, strict=True)):
            check_multiple("U-Net widths", width, self.groups, "groups")
            if self._attends(index):
                check_multiple("U-Net widths", width, heads, "heads")
        check_multiple("U-Net widths", self.widths[-1], self.middle_groups or 1, "middle_groups")
        check_multiple("U-Net widths[0]", self.widths[0], 2)
        if self.text and not self.text_width * self.tokens:
            given = f"{self.text_width} and {self.tokens}"
            raise ValueError(f"U-Net text_width and tokens must be positive where it takes text, not {given}")

    def _attends(self, level: int) -> bool:
        here = {self.down[level], self.up[-1 - level]}
        return bool(here - {"none"}) or (level == len(self.widths) - 1 and self.middle in ("self", "text"))

    @property
    def text(self) -> bool:
        """True if the network takes text states."""
        return "text" in (*self.down, *self.up, self.middle)


class _UNet(Builder):
    """The blocks; `time` is the embedding after its activation, once made."""

    def __init__(self, config: UNet2DConfig, source: Source):
        super().__init__(source)
        self.config = config
        self.time = ""

    def norm(self, name: str, x: str, width: int) -> str:
        return self.group_norm(name, x, width, self.config.groups, self.config.epsilon)

    def residual(
        self, name: str, x: str, width_in: int, width_out: int, resize: Callable[[str, str], str] | None = None
    ) -> str:
        config = self.config
        h = self.norm(f"{name}.norm1", x, width_in)
        h = self.activation(f"{name}.nonlinearity1", h, config.activation)
        if resize:
            x, h = resize(f"{name}.resize_skip", x), resize(f"{name}.resize", h)
        h = self.convolution(f"{name}.conv1", h, width_in, width_out)
        if config.time_norm == "default":
            shift = self.linear(f"{name}.time_emb_proj", self.time, config.time_width, width_out)
            h = self.add(kinds.AddChannel, f"{name}.shift", h, shift)
            h = self.norm(f"{name}.norm2", h, width_out)
        else:
            both = self.linear(f"{name}.time_emb_proj", self.time, config.time_width, 2 * width_out)
            scale, shift = self.parts(f"{name}.time_emb_proj", both, ("scale", "shift"))
            h = self.norm(f"{name}.norm2", h, width_out)
            h = self.add(kinds.Modulate, f"{name}.modulate", h, shift, scale, axis=1)
        h = self.activation(f"{name}.nonlinearity2", h, config.activation)
        h = self.convolution(f"{name}.conv2", h, width_out, width_out)
        if width_in != width_out:
            x = self.convolution(f"{name}.conv_shortcut", x, width_in, width_out, size=1)
        return self.add(kinds.Add, name, x, h)

    def attended(self, kind: Attention, name: str, x: str, level: int, groups: int) -> str:
        if kind == "self":
            return self.self_attention(name, x, level, groups)
        return self.transformer(name, x, level) if kind == "text" else x

    def self_attention(self, name: str, x: str, level: int, groups: int) -> str:
        width = self.config.widths[level]
        h = self.group_norm(f"{name}.group_norm", x, width, groups, self.config.epsilon) if groups else x
        h = self.tokens(f"{name}.tokens", h)
        h = self.attention(name, h, width, self.config.heads[level], bias=True)
        h = self.image(f"{name}.image", h, self.config.side >> level)
        return self.add(kinds.Add, name, x, h)

    def transformer(self, name: str, x: str, level: int) -> str:
        config = self.config
        width, heads = config.widths[level], config.heads[level]
        h = self.group_norm(f"{name}.norm", x, width, config.groups, 1e-6)
        if config.linear_projection:
            h = self.tokens(f"{name}.tokens", h)
            h = self.linear(f"{name}.proj_in", h, width, width)
        else:
            h = self.convolution(f"{name}.proj_in", h, width, width, size=1)
            h = self.tokens(f"{name}.tokens", h)
        for index in range(config.depth[level]):
            block = f"{name}.transformer_blocks.{index}"
            normal = self.layer_norm(f"{block}.norm1", h, width, 1e-5, affine=True)
            branch = self.attention(f"{block}.attn1", normal, width, heads)
            h = self.add(kinds.Add, f"{block}.add1", h, branch)
            normal = self.layer_norm(f"{block}.norm2", h, width, 1e-5, affine=True)
            branch = self.attention(f"{block}.attn2", normal, width, heads, "text", config.text_width)
            h = self.add(kinds.Add, f"{block}.add2", h, branch)
            normal = self.layer_norm(f"{block}.norm3", h, width, 1e-5, affine=True)
            h = self.add(kinds.Add, block, h, self.feed_forward(f"{block}.ff", normal, width, "geglu"))
        if config.linear_projection:
            h = self.linear(f"{name}.proj_out", h, width, width)
            h = self.image(f"{name}.image", h, self.config.side >> level)
        else:
            h = self.image(f"{name}.image", h, self.config.side >> level)
            h = self.convolution(f"{name}.proj_out", h, width, width, size=1)
        return self.add(kinds.Add, name, x, h)

    def pool(self, name: str, x: str) -> str:
        return self.add(kinds.AveragePool, name, x)

    def shrink(self, name: str, x: str, level: int) -> str:
        width = self.config.widths[level]
        if self.config.shrink[level] == "residual":
            return self.residual(name, x, width, width, self.pool)
        padding = ((0, 1), (0, 1)) if self.config.corner else 1
        return self.convolution(f"{name}.conv", x, width, width, stride=2, padding=padding)

    def enlarge(self, name: str, x: str, index: int, width: int) -> str:
        if self.config.enlarge[index] == "residual":
            return self.residual(name, x, width, width, self.upsample)
        h = self.upsample(f"{name}.upsample", x)
        return self.convolution(f"{name}.conv", h, width, width)


def unet2d(config: UNet2DConfig, source: Source, name: str = "unet2d") -> Network:
    """Build the U-Net.

    Inputs are ``image`` float32 ``(batch, channels_in, side, side)``, ``timestep`` ``(batch,)``, then ``label``
    ``(batch,)`` if there are classes and ``text`` float32 ``(batch, tokens, text_width)`` if the network takes text.
    """
    b = _UNet(config, source)
    widths, wide = config.widths, config.time_width
    bottom = len(widths) - 1

    arguments = {"shift": config.frequency_shift, "sines_first": config.sines_first}
    time = b.add(kinds.TimeEncoding, "time_proj", "timestep", channels=widths[0], **arguments)
    time = b.perceptron("time_embedding", time, widths[0], wide, wide, config.outer_activation)
    if config.classes:
        table = b.source("class_embedding.weight", (config.classes, wide))
        label = b.add(kinds.Embedding, "class_embedding", "label", weight=table)
        time = b.add(kinds.Add, "time_embedding.sum", time, label)
    b.time = b.activation("time_embedding.activation", time, config.activation)

    h = b.convolution("conv_in", "image", config.channels_in, widths[0])
    skips = [(h, widths[0])]
    width_in = widths[0]
    for level, width in enumerate(widths):
        block = f"down_blocks.{level}"
        for index in range(config.blocks[level]):
            h = b.residual(f"{block}.resnets.{index}", h, width_in, width)
            h = b.attended(config.down[level], f"{block}.attentions.{index}", h, level, config.groups)
            skips.append((h, width))
            width_in = width
        if level < bottom:
            h = b.shrink(f"{block}.downsamplers.0", h, level)
            skips.append((h, width))
    if config.middle is not None:
        h = b.residual("mid_block.resnets.0", h, width_in, width_in)
        h = b.attended(config.middle, "mid_block.attentions.0", h, bottom, config.middle_groups)
        h = b.residual("mid_block.resnets.1", h, width_in, width_in)
    for number, level in enumerate(reversed(range(len(widths)))):
        block, width = f"up_blocks.{number}", widths[level]
        for index in range(config.blocks[level] + 1):
            skip, width_skip = skips.pop()
            h = b.add(kinds.Concat, f"{block}.concat.{index}", h, skip)
            h = b.residual(f"{block}.resnets.{index}", h, width_in + width_skip, width)
            h = b.attended(config.up[number], f"{block}.attentions.{index}", h, level, config.groups)
            width_in = width
        if level:
            h = b.enlarge(f"{block}.upsamplers.0", h, number, width)
    h = b.norm("conv_norm_out", h, widths[0])
    h = b.activation("conv_act", h, config.outer_activation)
    b.convolution("conv_out", h, widths[0], config.channels_out)

    inputs: dict[str, kinds.Shape] = {"image": (config.channels_in, config.side, config.side), "timestep": ()}
    if config.classes:
        inputs["label"] = ()
    if config.text:
        inputs["text"] = (config.tokens, config.text_width)
    return Network(name, inputs, b.layers, dataclasses.asdict(config))
