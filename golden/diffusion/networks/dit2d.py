"""DiT: a transformer over patches of an image, modulated by time and label (Peebles and Xie, 2023).

Layers are called as the modules of diffusers' ``DiTTransformer2DModel`` are, so that a checkpoint gives the parameters
by name; `golden.diffusion.zoo.importer` reads them.
"""

import dataclasses
from dataclasses import dataclass

from golden.common.checked import Checked, Count
from golden.diffusion import layers as kinds
from golden.diffusion.networks.builder import Builder, FeedForward, Positive, check_multiple, grid
from golden.diffusion.networks.graph import Network
from golden.diffusion.networks.sources import Source

SIX = ("shift_attention", "scale_attention", "gate_attention", "shift_mlp", "scale_mlp", "gate_mlp")
"""The six vectors that modulate a block, in order."""


@dataclass(frozen=True, kw_only=True)
class DiT2DConfig(Checked, label="DiT {}"):
    """Shape of a DiT.

    Parameters
    ----------
    side : int
        Height and width of the image, in pixels.
    channels_in, channels_out : int
        Channels of the image and of the output.
    patch : int
        Side of a patch; divides `side`.
    width, heads : int
        Channels of a token, a multiple of 4, and attention heads, a divisor of them.
    depth : int
        Number of blocks.
    classes : int
        Labels, without the one that stands for no label.
    activation : str
        Within the feed-forward, one of `FeedForward`.
    bias : bool
        Queries, keys and values have a bias.
    epsilon : float
        Added to the variance in the norm before the feed-forward (1e-6 in the others).
    affine : bool
        That norm has scale and shift of its own.
    shared : bool
        One embedding of time and label serves all blocks; otherwise each block has its own, as diffusers stores them.

    Raises
    ------
    ValueError
        If a rule above is broken.
    """

    side: Count = 32
    channels_in: Count = 4
    channels_out: Count = 8
    patch: Count = 2
    width: Count = 1152
    heads: Count = 16
    depth: Count = 28
    classes: Count = 1000
    activation: FeedForward = "gelu-approximate"
    bias: bool = True
    epsilon: Positive = 1e-5
    affine: bool = False
    shared: bool = True

    def check_together(self) -> None:
        """What divides what."""
        check_multiple("DiT side", self.side, self.patch, "patch")
        check_multiple("DiT width", self.width, 4)
        check_multiple("DiT width", self.width, self.heads, "heads")


def dit2d(config: DiT2DConfig, source: Source, name: str = "dit2d") -> Network:
    """Build the DiT.

    Inputs are ``image`` float32 ``(batch, channels_in, side, side)``, ``timestep`` and ``label`` ``(batch,)``; label
    `classes` stands for none.
    """
    b = Builder(source)
    width, rows = config.width, config.side // config.patch

    def embedding(block: str) -> str:
        time = b.time_embedding(f"{block}.norm1.emb", "timestep", width, shift=1.0)
        table = f"{block}.norm1.emb.class_embedder.embedding_table"
        weight = b.source(f"{table}.weight", (config.classes + 1, width))
        label = b.add(kinds.Embedding, table, "label", weight=weight)
        total = b.add(kinds.Add, f"{block}.norm1.emb", time, label)
        return b.add(kinds.SiLU, f"{block}.norm1.silu", total)

    h = b.patch_embedding("pos_embed.proj", "image", config.channels_in, width, config.patch, frames=False)
    h = b.add(kinds.AddConstant, "pos_embed", h, table=grid(width, rows, rows))
    first = embedding("transformer_blocks.0")
    for index in range(config.depth):
        block = f"transformer_blocks.{index}"
        condition = first if index == 0 or config.shared else embedding(block)
        vectors = b.linear(f"{block}.norm1.linear", condition, width, 6 * width)
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = b.parts(f"{block}.norm1", vectors, SIX)
        normal = b.layer_norm(f"{block}.norm1.norm", h, width, 1e-6)
        normal = b.add(kinds.Modulate, f"{block}.norm1.modulate", normal, shift, scale)
        branch = b.attention(f"{block}.attn1", normal, width, config.heads, bias=config.bias)
        h = b.gated(f"{block}.add1", h, branch, gate)
        normal = b.layer_norm(f"{block}.norm3", h, width, config.epsilon, config.affine)
        normal = b.add(kinds.Modulate, f"{block}.modulate", normal, shift_mlp, scale_mlp)
        h = b.gated(block, h, b.feed_forward(f"{block}.ff", normal, width, config.activation), gate_mlp)
    vectors = b.linear("proj_out_1", first, width, 2 * width)
    shift, scale = b.parts("proj_out_1", vectors, ("shift", "scale"))
    h = b.layer_norm("norm_out", h, width, 1e-6)
    h = b.add(kinds.Modulate, "norm_out.modulate", h, shift, scale)
    h = b.linear("proj_out_2", h, width, config.patch**2 * config.channels_out)
    b.unpatch("unpatch", h, config.patch, rows)
    inputs: dict[str, kinds.Shape] = {"image": (config.channels_in, config.side, config.side)}
    return Network(name, inputs | {"timestep": (), "label": ()}, b.layers, dataclasses.asdict(config))
