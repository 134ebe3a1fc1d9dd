"""STDiT of Open-Sora: attention over the patches of a frame, over the frames of a patch, and to a text.

Two forms: *joint* (version 1.0), whose blocks attend over both axes in turn, and *alternating* (version 1.2, STDiT3),
whose blocks attend over one of them, with normalised queries and keys and rotary positions in time. Both modulate by
adaLN-single: one block makes six vectors of the timestep, each transformer block adds a table of its own (Chen et al.,
*PixArt-alpha*, 2023). Layers are called as the modules of Open-Sora are.

There is no mask: every text token counts and no frame is given. Source: Open-Sora, branches opensora/v1.0 and v1.2.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from golden.common.checked import Checked, Count, Positive
from golden.diffusion import layers as kinds
from golden.diffusion.networks.builder import Builder, check_multiple
from golden.diffusion.networks.graph import Network
from golden.diffusion.networks.sources import Source, grid, line
from golden.diffusion.networks.transformer import SIX

Form = Literal["joint", "alternating"]


@dataclass(frozen=True, kw_only=True)
class STDiTConfig(Checked, label="STDiT {}"):
    """Shape of an STDiT; the defaults are STDiT-XL/2 on 16 frames of 512 x 512 pixels.

    Parameters
    ----------
    form : str
        ``"joint"`` (version 1.0) or ``"alternating"`` (version 1.2).
    frames, height, width : int
        Of the video the network sees, in latent pixels.
    channels_in, channels_out : int
        Channels of the video and of the output (the noise and its variance).
    patch : int
        Side of a patch of one frame; divides height and width.
    channels, heads : int
        Channels of a token, a multiple of 4, and attention heads; channels of a head are even.
    depth : int
        Number of blocks, each over both axes, or of pairs of blocks.
    text_width, tokens : int
        Channels and number of the text states.
    space_scale, time_scale : float
        What positions in a frame and in time (joint form only) are divided by.

    Raises
    ------
    ValueError
        If a rule above is broken.
    """

    form: Form = "joint"
    frames: Count = 16
    height: Count = 64
    width: Count = 64
    channels_in: Count = 4
    channels_out: Count = 8
    patch: Count = 2
    channels: Count = 1152
    heads: Count = 16
    depth: Count = 28
    text_width: Count = 4096
    tokens: Count = 120
    space_scale: Positive = 1.0
    time_scale: Positive = 1.0

    def check_together(self) -> None:
        """What divides what."""
        check_multiple("STDiT height", self.height, self.patch, "patch")
        check_multiple("STDiT width", self.width, self.patch, "patch")
        check_multiple("STDiT channels", self.channels, 4)
        check_multiple("STDiT channels", self.channels, 2 * self.heads, "twice heads,")

    @property
    def places(self) -> tuple[int, int]:
        """Rows and columns of patches in a frame."""
        return self.height // self.patch, self.width // self.patch


class _STDiT(Builder):
    """The blocks; `vectors` are the six of the shared block side by side, `text` the projected text, once made."""

    def __init__(self, config: STDiTConfig, source: Source):
        super().__init__(source)
        self.config = config
        self.vectors = self.text = ""

    def embedding(self, name: str, x: str) -> str:
        channels = self.config.channels
        h = self.add(kinds.TimeEncoding, f"{name}.encoding", x, channels=256)
        h = self.linear(f"{name}.mlp.0", h, 256, channels)
        h = self.add(kinds.SiLU, f"{name}.mlp.1", h)
        return self.linear(f"{name}.mlp.2", h, channels, channels)

    def perceptron_of(self, name: str, x: str, width_in: int, wide: int) -> str:
        h = self.linear(f"{name}.fc1", x, width_in, wide)
        h = self.add(kinds.GELU, f"{name}.act", h)
        return self.linear(f"{name}.fc2", h, wide, self.config.channels)

    def self_attention(self, name: str, x: str, temporal: bool) -> str:
        """Attention over the patches of a frame, or over the frames of a patch."""
        config = self.config
        channels, wide = config.channels, config.channels // config.heads
        h = self.frames_last(f"{name}.by_place", x) if temporal else x
        h = self.linear(f"{name}.qkv", h, channels, 3 * channels)
        query, key, value = self.parts(f"{name}.qkv", h, ("query", "key", "value"))
        if config.form == "joint":
            h = self.attend(name, query, key, value, config.heads, channels)
        else:
            query, key, value = (
                self.heads(f"{name}.{word}", part, config.heads)
                for word, part in (("query", query), ("key", key), ("value", value))
            )
            query, key = (
                self.rms_norm(f"{name}.{norm}", part, wide) for norm, part in (("q_norm", query), ("k_norm", key))
            )
            if temporal:
                query, key = (self.add(kinds.Rotary, f"{part}.rotary", part) for part in (query, key))
            h = self.mix(name, query, key, value, 1 / math.sqrt(wide))
        h = self.linear(f"{name}.proj", h, channels, channels)
        return self.frames_last(f"{name}.by_frame", h) if temporal else h

    def text_attention(self, name: str, x: str) -> str:
        config = self.config
        channels = config.channels
        query = self.linear(f"{name}.q_linear", x, channels, channels)
        query = self.move(f"{name}.merged", query, "b f t c -> b (f t) c")
        both = self.linear(f"{name}.kv_linear", self.text, channels, 2 * channels)
        key, value = self.parts(f"{name}.kv_linear", both, ("key", "value"))
        h = self.attend(name, query, key, value, config.heads, channels)
        h = self.move(f"{name}.framed", h, "b (f t) c -> b f t c", f=config.frames)
        return self.linear(f"{name}.proj", h, channels, channels)

    def block(self, name: str, x: str, axes: tuple[bool, ...], positions: np.ndarray | None = None) -> str:
        """One block; `axes` says of each attention whether it is over time, the first one's input is modulated."""
        channels = self.config.channels
        own = self.table(f"{name}.scale_shift_table", self.vectors, 6, channels)
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.parts(name, own, SIX)
        h = self.modulated(f"{name}.norm1", f"{name}.modulate1", x, channels, (shift, scale), 1e-6)
        for index, temporal in enumerate(axes):
            part = f"{name}.attn" if index == 0 else f"{name}.attn_temp"
            if index:
                # the stream itself, not normalised; positions enter the attention and not the stream
                h = x
                if positions is not None:
                    h = self.add(kinds.AddConstant, f"{part}.positions", h, table=positions)
            x = self.gated(f"{part}.add", x, self.self_attention(part, h, temporal), gate)
        x = self.add(kinds.Add, f"{name}.cross_attn.add", x, self.text_attention(f"{name}.cross_attn", x))
        h = self.modulated(f"{name}.norm2", f"{name}.modulate2", x, channels, (shift_mlp, scale_mlp), 1e-6)
        return self.gated(name, x, self.perceptron_of(f"{name}.mlp", h, channels, 4 * channels), gate_mlp)


def stdit(config: STDiTConfig, source: Source, name: str = "stdit") -> Network:
    """Build the STDiT.

    Inputs are ``video`` float32 ``(batch, channels_in, frames, height, width)``, ``timestep`` ``(batch,)``, ``text``
    float32 ``(batch, tokens, text_width)``, and in the alternating form ``fps`` ``(batch,)``, frames in a second.
    """
    b = _STDiT(config, source)
    channels, (rows, columns) = config.channels, config.places

    time = b.embedding("t_embedder", "timestep")
    if config.form == "alternating":
        time = b.add(kinds.Add, "t_embedder.sum", time, b.embedding("fps_embedder", "fps"))
    b.vectors = b.add(kinds.SiLU, "t_block.0", time)
    b.vectors = b.linear("t_block.1", b.vectors, channels, 6 * channels)
    b.text = b.perceptron_of("y_embedder.y_proj", "text", config.text_width, channels)

    h = b.patch_embedding("x_embedder.proj", "video", config.channels_in, channels, config.patch, frames=True)
    units = (1 / config.space_scale, 1 / config.space_scale)
    if config.form == "alternating":
        # the grid is stretched to a square of as many places
        side = round(math.sqrt(rows * columns))
        units = (units[0] * side / rows, units[1] * side / columns)
    h = b.add(kinds.AddConstant, "pos_embed", h, table=grid(channels, rows, columns, units))
    if config.form == "joint":
        positions = line(channels, np.arange(config.frames) / config.time_scale).astype(np.float32)[:, None]
        for index in range(config.depth):
            h = b.block(f"blocks.{index}", h, (False, True), positions if index == 0 else None)
    else:
        for index in range(config.depth):
            h = b.block(f"spatial_blocks.{index}", h, (False,))
            h = b.block(f"temporal_blocks.{index}", h, (True,))
    last = b.add(kinds.Concat, "final_layer.twice", time, time)
    last = b.table("final_layer.scale_shift_table", last, 2, channels)
    factors = b.parts("final_layer", last, ("shift", "scale"))
    h = b.modulated("final_layer.norm_final", "final_layer.modulate", h, channels, factors, 1e-6)
    h = b.linear("final_layer.linear", h, channels, config.patch**2 * config.channels_out)
    parts = 2 if config.channels_out == 2 * config.channels_in else 1
    b.unpatch("unpatch", h, config.patch, rows, True, parts)

    inputs: dict[str, kinds.Shape] = {
        "video": (config.channels_in, config.frames, config.height, config.width),
        "timestep": (),
        "text": (config.tokens, config.text_width),
    }
    if config.form == "alternating":
        inputs["fps"] = ()
    return Network(name, inputs, b.layers, dataclasses.asdict(config))
