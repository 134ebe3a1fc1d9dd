"""What the transformers that diffusers has, DiT and Latte, share: shape, and the two branches of a block."""

from collections.abc import Sequence
from dataclasses import dataclass

from golden.common.checked import Checked, Count, Positive
from golden.diffusion.networks.builder import Builder, FeedForward, check_multiple

SIX = ("shift_attention", "scale_attention", "gate_attention", "shift_mlp", "scale_mlp", "gate_mlp")
"""The six vectors that modulate a block, in order."""


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(Checked):
    """Shape of a transformer over patches.

    Parameters
    ----------
    side : int
        Height and width of an image, in pixels.
    channels_in, channels_out : int
        Channels of the sample and of the output.
    patch : int
        Side of a patch; divides `side`.
    width, heads : int
        Channels of a token, a multiple of 4, and attention heads, a divisor of them.
    depth : int
        Number of blocks.
    activation : str
        Within the feed-forward, one of `FeedForward`.
    bias : bool
        Queries, keys and values have a bias.
    epsilon : float
        Added to the variance in the norms of the blocks.
    affine : bool
        These norms have scale and shift of their own.

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
    activation: FeedForward = "gelu-approximate"
    bias: bool = True
    epsilon: Positive = 1e-6
    affine: bool = False

    def check_together(self) -> None:
        """What divides what."""
        check_multiple(self.called("side"), self.side, self.patch, "patch")
        check_multiple(self.called("width"), self.width, 4)
        check_multiple(self.called("width"), self.width, self.heads, "heads")

    def ending(self, b: Builder, x: str, last: str, factors: Sequence[str], *, frames: bool = False) -> str:
        """From tokens to the output: a modulated norm, the linear layer `last`, patches put together."""
        h = b.modulated("norm_out", "norm_out.modulate", x, self.width, factors, 1e-6)
        h = b.linear(last, h, self.width, self.patch**2 * self.channels_out)
        parts = 2 if self.channels_out == 2 * self.channels_in else 1
        return b.unpatch("unpatch", h, self.patch, self.side // self.patch, frames, parts)
