"""The diffusion transformer of the zoo."""

import dataclasses
import math
from dataclasses import dataclass

from golden.diffusion import layers as kinds
from golden.diffusion.networks.builder import Builder, check_counts, check_flag
from golden.diffusion.networks.graph import Network
from golden.diffusion.networks.sources import Source


@dataclass(frozen=True)
class DiTConfig:
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

    side: int = 16
    channels: int = 1
    classes: int = 10
    patch: int = 2
    width: int = 128
    blocks: int = 4
    heads: int = 4
    ratio: int = 4
    encoding: int = 32
    null_label: bool = False

    def __post_init__(self) -> None:
        """Check every rule above."""
        counts = ("side", "channels", "classes", "patch", "width", "blocks", "heads", "ratio", "encoding")
        check_counts("DiT", {name: getattr(self, name) for name in counts})
        check_flag("DiT", "null_label", self.null_label)
        if self.side % self.patch:
            raise ValueError(f"DiT patch must divide side ({self.side}), not {self.patch}")
        if self.width % 4:
            raise ValueError(f"DiT width must be divisible by 4, not {self.width}")
        if self.width % self.heads:
            raise ValueError(f"DiT heads must divide width ({self.width}), not {self.heads}")
        if self.encoding % 2:
            raise ValueError(f"DiT encoding must be even, not {self.encoding}")


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
