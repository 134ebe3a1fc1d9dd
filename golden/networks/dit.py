"""The diffusion transformer of the zoo."""

import dataclasses
import math
from dataclasses import dataclass

from golden.networks import layers as kinds
from golden.networks.builder import Builder, Source, check_flag, check_positive
from golden.networks.graph import Network


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
        fields = ("side", "channels", "classes", "patch", "width", "blocks", "heads", "ratio", "encoding")
        check_positive("DiT", self, fields)
        check_flag("DiT", self, "null_label")
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

    def split(self, x: str, names: list[str]) -> list[str]:
        return [self.add(kinds.Part, name, x, index=index, parts=len(names)) for index, name in enumerate(names)]

    def normal(self, name: str, x: str, shift: str, scale: str) -> str:
        h = self.add(kinds.LayerNorm, f"{name}.norm", x)
        return self.add(kinds.Modulate, f"{name}.modulate", h, shift, scale)

    def block(self, name: str, x: str, condition: str) -> str:
        modulation = self.linear(f"{name}.modulation", condition, self.config.width, 6 * self.config.width)
        branches = [f"{name}.{branch}" for branch in ("attention", "mlp")]
        parts = self.split(
            modulation, [f"{branch}.{part}" for branch in branches for part in ("shift", "scale", "gate")]
        )
        for branch, inside in zip(branches, (self.attention, self.mlp), strict=True):
            shift, scale, gate, *parts = parts
            h = inside(branch, self.normal(branch, x, shift, scale))
            h = self.add(kinds.Gate, f"{branch}.gated", h, gate)
            x = self.add(kinds.Add, f"{branch}.add", x, h)
        return x

    def attention(self, name: str, x: str) -> str:
        width, heads = self.config.width, self.config.heads
        parts = [self.linear(f"{name}.{part}", x, width, width) for part in ("query", "key", "value")]
        query, key, value = (self.add(kinds.Heads, f"{part}_heads", part, heads=heads) for part in parts)
        scale = 1 / math.sqrt(width // heads)
        h = self.add(kinds.MatMul, f"{name}.scores", query, key, transposed=True, scale=scale)
        h = self.add(kinds.Softmax, f"{name}.softmax", h)
        h = self.add(kinds.MatMul, f"{name}.mix", h, value)
        h = self.add(kinds.Joined, f"{name}.joined", h)
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
    h = b.add(kinds.Patches, "stem.patches", "image", size=config.patch)
    h = b.linear("stem.linear", h, pixels, width)
    table = source("stem.position.table", ((config.side // config.patch) ** 2, width))
    h = b.add(kinds.AddConstant, "stem.position", h, table=table)
    for index in range(config.blocks):
        h = b.block(f"block{index}", h, condition)
    modulation = b.linear("head.modulation", condition, width, 2 * width)
    h = b.normal("head", h, *b.split(modulation, ["head.shift", "head.scale"]))
    h = b.linear("head.linear", h, width, pixels)
    b.add(kinds.Unpatch, "head.image", h, size=config.patch)
    image = (config.channels, config.side, config.side)
    return Network(name, {"image": image, "timestep": (), "label": ()}, b.layers, dataclasses.asdict(config))
