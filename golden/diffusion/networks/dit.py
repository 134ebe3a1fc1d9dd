"""The diffusion transformer of the zoo."""

import dataclasses
import math
from dataclasses import dataclass

from golden.common.checked import Checked, Count
from golden.diffusion import layers as kinds
from golden.diffusion.networks.builder import Builder, check_multiple
from golden.diffusion.networks.graph import Network
from golden.diffusion.networks.sources import Source


@dataclass(frozen=True)
class DiTConfig(Checked, label="DiT {}"):
    """Shape of a class-conditional diffusion transformer that predicts the noise in an image.

    Parameters
    ----------
    side, channels, classes : int
        As in `UNetConfig`.
    patch : int
        Side of the square of pixels that becomes one token; divides `side`.
    width : int
        Channels of a token, and of the embedding of time and class; divisible by 4.
    blocks : int
        Transformer blocks.
    heads : int
        Attention heads; divides `width`.
    ratio : int
        Channels inside the MLP over `width`.
    encoding : int
        Channels of the sinusoidal time encoding.
    null_label : bool
        Whether the label ``classes`` stands for no label.
    """

    side: Count = 16
    channels: Count = 1
    classes: Count = 10
    patch: Count = 2
    width: Count = 128
    blocks: Count = 4
    heads: Count = 4
    ratio: Count = 4
    encoding: Count = 32
    null_label: bool = False

    def check_together(self) -> None:
        """What divides what."""
        check_multiple("DiT side", self.side, self.patch, "patch")
        check_multiple("DiT width", self.width, 4)
        check_multiple("DiT width", self.width, self.heads, "heads")
        check_multiple("DiT encoding", self.encoding, 2)


class _Builder(Builder):
    def __init__(self, source: Source, config: DiTConfig):
        super().__init__(source)
        self.config = config

    def normal(self, name: str, x: str, shift: str, scale: str) -> str:
        h = self.layer_norm(f"{name}.norm", x, self.config.width, 1e-6)
        return self.add(kinds.Modulate, f"{name}.modulate", h, shift, scale)

    def block(self, name: str, x: str, condition: str) -> str:
        modulation = self.linear(f"{name}.modulation", condition, self.config.width, 6 * self.config.width)
        attention, mlp = f"{name}.attention", f"{name}.mlp"
        words = [f"{branch}.{part}" for branch in ("attention", "mlp") for part in ("shift", "scale", "gate")]
        shift1, scale1, gate1, shift2, scale2, gate2 = self.parts(name, modulation, words)
        h = self.attention(attention, self.normal(attention, x, shift1, scale1))
        x = self.gated(attention, x, h, gate1)
        h = self.mlp(mlp, self.normal(mlp, x, shift2, scale2))
        return self.gated(mlp, x, h, gate2)

    def gated(self, name: str, x: str, branch: str, gate: str) -> str:
        h = self.add(kinds.Gate, f"{name}.gated", branch, gate)
        return self.add(kinds.Add, f"{name}.add", x, h)

    def attention(self, name: str, x: str) -> str:
        width, heads = self.config.width, self.config.heads
        parts = [self.linear(f"{name}.{part}", x, width, width) for part in ("query", "key", "value")]
        query, key, value = (self.heads(f"{part}_heads", part, heads) for part in parts)
        scale = 1 / math.sqrt(width // heads)
        h = self.mix(name, query, key, value, scale)
        return self.linear(f"{name}.output", h, width, width)

    def mlp(self, name: str, x: str) -> str:
        width, inner = self.config.width, self.config.ratio * self.config.width
        h = self.linear(f"{name}.linear1", x, width, inner)
        h = self.add(kinds.GELU, f"{name}.gelu", h)
        return self.linear(f"{name}.linear2", h, inner, width)


def dit(config: DiTConfig, source: Source, name: str = "dit") -> Network:
    """Build the transformer of Peebles and Xie (2023) with adaLN-zero and learnt positions.

    Inputs and output are those of `unet`. Time and label become one vector; each block derives from it a shift, a scale
    and a gate for each of its two branches, attention and MLP. The published SiLU before every modulation reads the
    same vector in every block, and is computed once (``time.silu2``).
    """
    b = _Builder(source, config)
    width, pixels = config.width, config.channels * config.patch**2
    condition = b.condition(config.encoding, width, config.classes + config.null_label, "silu")
    h = b.patches("stem.patches", "image", config.patch)
    h = b.linear("stem.linear", h, pixels, width)
    table = source("stem.position.table", ((config.side // config.patch) ** 2, width))
    h = b.add(kinds.AddConstant, "stem.position", h, table=table)
    for index in range(config.blocks):
        h = b.block(f"block{index}", h, condition)
    modulation = b.linear("head.modulation", condition, width, 2 * width)
    h = b.normal("head", h, *b.parts("head", modulation, ("shift", "scale")))
    h = b.linear("head.linear", h, width, pixels)
    b.unpatch("head.image", h, config.patch, config.side // config.patch)
    image = (config.channels, config.side, config.side)
    return Network(name, {"image": image, "timestep": (), "label": ()}, b.layers, dataclasses.asdict(config))
