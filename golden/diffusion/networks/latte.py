"""Latte: transformer blocks over the patches of a frame and over the frames of a patch in turn (Ma et al., 2024).

Layers are called as the modules of diffusers' ``LatteTransformer3DModel`` are, so that a checkpoint gives the
parameters by name; `golden.diffusion.zoo.importer` reads them.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np

from golden.common.checked import Count
from golden.diffusion import layers as kinds
from golden.diffusion.networks.builder import Builder
from golden.diffusion.networks.graph import Network
from golden.diffusion.networks.sources import Source, grid, line
from golden.diffusion.networks.transformer import SIX, TransformerConfig


@dataclass(frozen=True, kw_only=True)
class LatteConfig(TransformerConfig, label="Latte {}"):
    """Shape of a Latte; `depth` counts pairs of blocks, one over a frame and one over time.

    Parameters
    ----------
    frames : int
        Of the video.
    text_width, tokens : int
        Channels and number of the text states.
    cross : bool
        The blocks over a frame look at the text.
    """

    side: Count = 64
    frames: Count = 16
    text_width: Count = 4096
    tokens: Count = 120
    cross: bool = True


def latte(config: LatteConfig, source: Source, name: str = "latte") -> Network:
    """Build the Latte.

    Inputs are ``video`` float32 ``(batch, channels_in, frames, side, side)``, ``timestep`` ``(batch,)`` and ``text``
    float32 ``(batch, tokens, text_width)``.
    """
    b = Builder(source)
    width, rows = config.width, config.side // config.patch

    h = b.patch_embedding("pos_embed.proj", "video", config.channels_in, width, config.patch, frames=True)
    # from 64 pixels on, positions lie closer the larger the image is
    unit = 1 / max(config.side // 64, 1)
    table = grid(width, rows, rows, (unit, unit))
    h = b.add(kinds.AddConstant, "pos_embed", h, table=table)
    time = b.time_embedding("adaln_single.emb", "timestep", width)
    vectors = b.add(kinds.SiLU, "adaln_single.silu", time)
    vectors = b.linear("adaln_single.linear", vectors, width, 6 * width)
    text = b.perceptron("caption_projection", "text", config.text_width, width, width, "gelu-approximate")

    rules = config.epsilon, config.affine

    def block(name: str, x: str, cross: bool) -> str:
        own = b.table(f"{name}.scale_shift_table", vectors, 6, width)
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = b.parts(name, own, SIX)
        normal = b.modulated(f"{name}.norm1", f"{name}.modulate1", x, width, (shift, scale), *rules)
        branch = b.attention(f"{name}.attn1", normal, width, config.heads, bias=config.bias)
        x = b.gated(f"{name}.add1", x, branch, gate)
        if cross:
            more = (width, config.heads, width, config.bias, config.frames)
            x = b.add(kinds.Add, f"{name}.add2", x, b.cross_attention(f"{name}.attn2", x, text, *more))
        normal = b.modulated(f"{name}.norm2", f"{name}.modulate2", x, width, (shift_mlp, scale_mlp), *rules)
        return b.gated(name, x, b.feed_forward(f"{name}.ff", normal, width, config.activation), gate_mlp)

    for index in range(config.depth):
        h = block(f"transformer_blocks.{index}", h, config.cross)
        h = b.frames_last(f"temporal_transformer_blocks.{index}.by_place", h)
        if index == 0 and config.frames > 1:
            table = line(width, np.arange(config.frames)).astype(np.float32)
            h = b.add(kinds.AddConstant, "temp_pos_embed", h, table=table)
        h = block(f"temporal_transformer_blocks.{index}", h, False)
        h = b.frames_last(f"temporal_transformer_blocks.{index}.by_frame", h)
    last = b.add(kinds.Concat, "scale_shift_table.twice", time, time)
    last = b.table("scale_shift_table", last, 2, width)
    factors = b.parts("scale_shift_table", last, ("shift", "scale"))
    config.ending(b, h, "proj_out", factors, frames=True)
    inputs = {"video": (config.channels_in, config.frames, config.side, config.side), "timestep": ()}
    return Network(name, inputs | {"text": (config.tokens, config.text_width)}, b.layers, dataclasses.asdict(config))
