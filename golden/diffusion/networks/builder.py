"""What the builders of networks share: layers appended by name, attention, feed-forward, modulation."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from golden.diffusion import layers as kinds
from golden.diffusion.layers import Layer, Shape
from golden.diffusion.networks.sources import Source

Activation = Literal["silu", "relu", "gelu", "gelu-approximate"]
"""Activations by name; ``"gelu"`` is the exact one, ``"gelu-approximate"`` its tanh form."""

ACTIVATIONS: dict[Activation, type[Layer]] = {
    "silu": kinds.SiLU,
    "relu": kinds.ReLU,
    "gelu": kinds.ErfGELU,
    "gelu-approximate": kinds.GELU,
}
"""Class of each activation."""


FeedForward = Literal["geglu", "gelu", "gelu-approximate"]
"""What may stand between the two matrices of a feed-forward."""


def unallocated(name: str, shape: Shape) -> np.ndarray:
    """Parameters of which only the shape exists: one zero, seen everywhere. For shapes, MACs and bytes only."""
    return np.broadcast_to(np.float32(0), shape)


def check_multiple(what: str, value: int, divisor: int, of: str = "") -> None:
    """Refuse what is no multiple of a divisor.

    Raises
    ------
    ValueError
        ``<what> must be a multiple of <of> <divisor>, not <value>``.
    """
    if value % divisor:
        raise ValueError(f"{what} must be a multiple of {of}{' ' * bool(of)}{divisor}, not {value}")


class Builder:
    """Appends layers; every method returns the name of what it appended last.

    Parameters
    ----------
    source : Source
        Where parameters come from.
    """

    def __init__(self, source: Source):
        self.source = source
        self.layers: list[Layer] = []

    def add(self, kind: type[Layer], name: str, *inputs: str, **arguments: object) -> str:
        """Append a layer of a class."""
        self.layers.append(kind(name, inputs, **arguments))
        return name

    def affine(self, name: str, shape: Shape, bias: bool = True) -> dict[str, np.ndarray]:
        """``weight`` of a shape, and ``bias`` of its first axis, if there is to be one."""
        given = {"bias": self.source(f"{name}.bias", shape[:1])} if bias else {}
        return {"weight": self.source(f"{name}.weight", shape), **given}

    def convolution(
        self,
        name: str,
        x: str,
        width_in: int,
        width_out: int,
        size: int = 3,
        stride: int = 1,
        padding: kinds.Padding | None = None,
        *,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> str:
        """Append a convolution. Without `padding` the kernel must be odd, and its half is padded.

        Raises
        ------
        ValueError
            If a rule of `kinds.Convolution` is broken.
        """
        if padding is None and size % 2 == 0:
            raise ValueError(f"Padding of layer {name!r} must be given for the even kernel {size}")
        weights = self.affine(name, (width_out, width_in // groups, size, size), bias)
        padding = dilation * (size // 2) if padding is None else padding
        how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return self.add(kinds.Convolution, name, x, **weights, **how)

    def linear(self, name: str, x: str, width_in: int, width_out: int, bias: bool = True) -> str:
        """Append a matrix product."""
        return self.add(kinds.Linear, name, x, **self.affine(name, (width_out, width_in), bias))

    def patch_embedding(self, name: str, x: str, width_in: int, width_out: int, size: int, frames: bool) -> str:
        """Append patches and the matrix product that a convolution of kernel and stride `size` is on them."""
        h = self.patches(f"{name}.patches", x, size, frames)
        return self.linear(name, h, width_in * size**2, width_out)

    def group_norm(self, name: str, x: str, width: int, groups: int, epsilon: float = 1e-5) -> str:
        """Append a norm of groups of channels, with scale and shift of its own."""
        return self.add(kinds.Norm, name, x, **self.affine(name, (width,)), groups=groups, epsilon=epsilon)

    def layer_norm(self, name: str, x: str, width: int, epsilon: float, affine: bool = False) -> str:
        """Append a norm of the last axis, with scale and shift of its own if `affine`."""
        return self.add(kinds.Norm, name, x, **self.affine(name, (width,)) if affine else {}, epsilon=epsilon)

    def rms_norm(self, name: str, x: str, width: int, epsilon: float = 1e-6) -> str:
        """Append a norm of the last axis by its root mean square, with a scale of its own."""
        weight = self.source(f"{name}.weight", (width,))
        return self.add(kinds.Norm, name, x, weight=weight, epsilon=epsilon, centred=False)

    def activation(self, name: str, x: str, activation: str) -> str:
        """Append one of `ACTIVATIONS`."""
        return self.add(ACTIVATIONS[activation], name, x)

    def parts(self, name: str, x: str, words: Sequence[str]) -> list[str]:
        """Append the equal parts of the last axis, called ``<name>.<word>``."""
        pattern, n = "... (n c) -> ... c", len(words)
        return [self.move(f"{name}.{word}", x, pattern, index, n=n) for index, word in enumerate(words)]

    def move(self, name: str, x: str, pattern: str, index: int = 0, **sizes: int) -> str:
        """Append a `kinds.Move`."""
        return self.add(kinds.Move, name, x, pattern=pattern, sizes=sizes, index=index)

    def tokens(self, name: str, x: str) -> str:
        """Append pixels as tokens, row by row."""
        return self.move(name, x, "b c h w -> b (h w) c")

    def image(self, name: str, x: str, rows: int) -> str:
        """Append tokens as pixels of so many rows."""
        return self.move(name, x, "b (h w) c -> b c h w", h=rows)

    def upsample(self, name: str, x: str, factor: int = 2) -> str:
        """Append squares of equal pixels."""
        return self.move(name, x, "b c h w -> b c (h p) (w q)", p=factor, q=factor)

    def patches(self, name: str, x: str, size: int, frames: bool = False) -> str:
        """Append squares of pixels as tokens, row by row; a token holds row by row, channels last."""
        pattern = "b c f (h p) (w q) -> b f (h w) (p q c)" if frames else "b c (h p) (w q) -> b (h w) (p q c)"
        return self.move(name, x, pattern, p=size, q=size)

    def unpatch(self, name: str, x: str, size: int, rows: int, frames: bool = False, parts: int = 1) -> str:
        """Append tokens as squares of pixels, so many rows of them; a token holds row by row, channels last.

        Of several equal `parts` of the channels (a prediction and its variance) a token holds one after the other.
        """
        before, after = ("b f", "b (n c) f") if frames else ("b", "b (n c)")
        if parts == 1:
            pattern = f"{before} (h w) (p q c) -> {after} (h p) (w q)".replace("(n c)", "c")
            return self.move(name, x, pattern, h=rows, p=size, q=size)
        return self.move(name, x, f"{before} (h w) (n p q c) -> {after} (h p) (w q)", n=parts, h=rows, p=size, q=size)

    def heads(self, name: str, x: str, heads: int) -> str:
        """Append neighbouring channels of tokens as attention heads."""
        return self.move(name, x, "... t (h c) -> ... h t c", h=heads)

    def frames_last(self, name: str, x: str) -> str:
        """Append the tokens of one place in all frames together, or, of those, the tokens of a frame together again."""
        return self.move(name, x, "b f t c -> b t f c")

    def time_embedding(self, name: str, x: str, width: int, shift: float = 0.0) -> str:
        """Append ``time_proj``, the encoding of a number in 256 channels, and ``timestep_embedder`` over it."""
        h = self.add(kinds.TimeEncoding, f"{name}.time_proj", x, channels=256, shift=shift)
        return self.perceptron(f"{name}.timestep_embedder", h, 256, width, width, "silu")

    def perceptron(self, name: str, x: str, width_in: int, wide: int, width_out: int, activation: str) -> str:
        """Append ``linear_1``, ``act``, ``linear_2``."""
        h = self.linear(f"{name}.linear_1", x, width_in, wide)
        h = self.activation(f"{name}.act", h, activation)
        return self.linear(f"{name}.linear_2", h, wide, width_out)

    def attend(self, name: str, query: str, key: str, value: str, heads: int, width: int) -> str:
        """Append ``softmax(q k.T / sqrt(width / heads)) v`` of heads side by side."""
        split = [
            self.heads(f"{name}.{word}", x, heads) for word, x in (("query", query), ("key", key), ("value", value))
        ]
        return self.mix(name, *split, scale=1 / math.sqrt(width // heads))

    def mix(self, name: str, query: str, key: str, value: str, scale: float) -> str:
        """As `attend`, of values that are split into heads already."""
        h = self.add(kinds.MatMul, f"{name}.scores", query, key, transposed=True, scale=scale)
        h = self.add(kinds.Softmax, f"{name}.softmax", h)
        h = self.add(kinds.MatMul, f"{name}.mix", h, value)
        return self.move(f"{name}.joined", h, "... h t c -> ... t (h c)")

    def projections(
        self, name: str, x: str, context: str, width: int, width_context: int, bias: bool
    ) -> tuple[str, str, str]:
        """Append ``to_q`` of `x`, ``to_k`` and ``to_v`` of `context`."""
        query = self.linear(f"{name}.to_q", x, width, width, bias)
        key = self.linear(f"{name}.to_k", context, width_context, width, bias)
        return query, key, self.linear(f"{name}.to_v", context, width_context, width, bias)

    def attention(
        self, name: str, x: str, width: int, heads: int, context: str = "", width_context: int = 0, bias: bool = False
    ) -> str:
        """Append projections, attention within the last-but-one axis, ``to_out.0``; `context` gives keys and values."""
        parts = self.projections(name, x, context or x, width, width_context if context else width, bias)
        h = self.attend(name, *parts, heads, width)
        return self.linear(f"{name}.to_out.0", h, width, width)

    def cross_attention(
        self, name: str, x: str, context: str, width: int, heads: int, width_context: int, bias: bool, frames: int
    ) -> str:
        """Append attention of the tokens of all frames to one context."""
        query, key, value = self.projections(name, x, context, width, width_context, bias)
        query = self.move(f"{name}.merged", query, "b f t c -> b (f t) c")
        h = self.attend(name, query, key, value, heads, width)
        h = self.move(f"{name}.framed", h, "b (f t) c -> b f t c", f=frames)
        return self.linear(f"{name}.to_out.0", h, width, width)

    def feed_forward(self, name: str, x: str, width: int, activation: str) -> str:
        """Append ``net.0`` (one of `FeedForward`, four times as wide) and ``net.2``."""
        wide = 4 * width
        if activation == "geglu":
            h = self.linear(f"{name}.net.0.proj", x, width, 2 * wide)
            h, gate = self.parts(f"{name}.net.0", h, ("hidden", "gate"))
            gate = self.add(kinds.ErfGELU, f"{name}.net.0.gelu", gate)
            h = self.add(kinds.Multiply, f"{name}.net.0", h, gate)
        else:
            h = self.linear(f"{name}.net.0.proj", x, width, wide)
            h = self.activation(f"{name}.net.0", h, activation)
        return self.linear(f"{name}.net.2", h, wide, width)

    def table(self, name: str, x: str, rows: int, width: int) -> str:
        """Append the sum with a learnt table of `rows` times `width` values, laid out flat."""
        return self.add(kinds.AddConstant, name, x, table=self.source(f"{name}.table", (rows * width,)))

    def modulated(
        self, norm: str, name: str, x: str, width: int, factors: Sequence[str], epsilon: float, affine: bool = False
    ) -> str:
        """A norm of tokens, and behind it shift and scale that others say: ``norm(x) (1 + scale) + shift``."""
        return self.add(kinds.Modulate, name, self.layer_norm(norm, x, width, epsilon, affine), *factors)

    def gated(self, name: str, x: str, branch: str, gate: str) -> str:
        """Append ``x + gate * branch``, called `name`."""
        h = self.add(kinds.Gate, f"{name}.gated", branch, gate)
        return self.add(kinds.Add, name, x, h)

    def condition(self, encoding: int, width: int, labels: int, activation: str) -> str:
        """Append what makes one activated vector of ``timestep`` and ``label``, for every block to read."""
        time = self.add(kinds.TimeEncoding, "time.encoding", "timestep", channels=encoding)
        time = self.linear("time.linear1", time, encoding, width)
        time = self.activation(f"time.{activation}1", time, activation)
        time = self.linear("time.linear2", time, width, width)
        table = self.source("label.embedding.weight", (labels, width))
        label = self.add(kinds.Embedding, "label.embedding", "label", weight=table)
        time = self.add(kinds.Add, "time.add", time, label)
        return self.activation(f"time.{activation}2", time, activation)
