"""DiT: a transformer over patches of an image, modulated by time and label (Peebles and Xie, 2023).

Layers are called as the modules of diffusers' ``DiTTransformer2DModel`` are, so that a checkpoint gives the parameters
by name; `golden.diffusion.zoo.importer` reads them.
"""

import dataclasses
from dataclasses import dataclass

from golden.common.checked import Count, Positive
from golden.diffusion import layers as kinds
from golden.diffusion.networks.builder import Builder
from golden.diffusion.networks.graph import Network
from golden.diffusion.networks.sources import Source, grid
from golden.diffusion.networks.transformer import SIX, TransformerConfig


@dataclass(frozen=True, kw_only=True)
class DiT2DConfig(TransformerConfig, label="DiT {}"):
    """Shape of a DiT, whose norms before attention are plain, with an epsilon of 1e-6.

    Parameters
    ----------
    classes : int
        Labels, without the one that stands for no label.
    shared : bool
        One embedding of time and label serves all blocks; otherwise each block has its own, as diffusers stores them.
    """

    epsilon: Positive = 1e-5
    classes: Count = 1000
    shared: bool = True


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
        factors = shift, scale
        normal = b.modulated(f"{block}.norm1.norm", f"{block}.norm1.modulate", h, width, factors, 1e-6)
        branch = b.attention(f"{block}.attn1", normal, width, config.heads, bias=config.bias)
        h = b.gated(f"{block}.add1", h, branch, gate)
        factors = shift_mlp, scale_mlp
        normal = b.modulated(f"{block}.norm3", f"{block}.modulate", h, width, factors, config.epsilon, config.affine)
        h = b.gated(block, h, b.feed_forward(f"{block}.ff", normal, width, config.activation), gate_mlp)
    vectors = b.linear("proj_out_1", first, width, 2 * width)
    config.ending(b, h, "proj_out_2", b.parts("proj_out_1", vectors, ("shift", "scale")))
    inputs: dict[str, kinds.Shape] = {"image": (config.channels_in, config.side, config.side)}
    return Network(name, inputs | {"timestep": (), "label": ()}, b.layers, dataclasses.asdict(config))
