"""What the cost model knows of a layer: its shape, and what of it crosses the link."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal

from golden.common.checked import Checked, Count, Whole
from golden.diffusion.layers import Convolution, Layer, Linear, Shape
from golden.parameters import SCALE_WIDTH, Parameters

HALF_BYTES = 2
"""Bytes of a raw activation or a stored weight."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerShape(Checked):
    """Shape of a linear layer.

    Parameters
    ----------
    kind : str
        ``"convolution"`` or ``"linear"``; a linear layer has kernel 1 and its tokens as height.
    in_channels, out_channels : int
        Channels.
    kernel, stride : int
        Of a convolution (square, padded to keep the size).
    height, width : int
        Of the input, in pixels.
    out_height, out_width : int
        Of the output; 0: of a padding that keeps the size, ``ceil(height / stride)`` and ``ceil(width / stride)``.
    batch : int
        Images that share the weights of one load.

    Raises
    ------
    TypeError, ValueError
        If a value is no positive integer, or a linear layer has a kernel or a stride.
    """

    kind: Literal["convolution", "linear"] = "convolution"
    in_channels: Count
    out_channels: Count
    kernel: Count = 1
    stride: Count = 1
    height: Count = 1
    width: Count = 1
    batch: Count = 1
    out_height: Whole = 0
    out_width: Whole = 0

    def check_together(self) -> None:
        """A linear layer has neither kernel nor stride."""
        for name in ("kernel", "stride"):
            if self.kind == "linear" and getattr(self, name) != 1:
                raise ValueError(f"{name} of a linear layer must be 1, not {getattr(self, name)}")

    @property
    def inputs(self) -> int:
        """Input elements: ``batch * in_channels * height * width``."""
        return self.batch * self.in_channels * self.height * self.width

    @property
    def positions(self) -> int:
        """Output positions: ``batch * out_height * out_width``."""
        rows = self.out_height or -(-self.height // self.stride)
        return self.batch * rows * (self.out_width or -(-self.width // self.stride))

    @property
    def outputs(self) -> int:
        """Output elements: ``positions * out_channels``."""
        return self.positions * self.out_channels

    @property
    def macs(self) -> int:
        """Multiply-accumulates: ``outputs * in_channels * kernel^2``, the padding's included."""
        return self.outputs * self.in_channels * self.kernel**2

    def groups_per_output(self, parameters: Parameters) -> int:
        """Groups of one output: ``kernel^2 * ceil(in_channels / n)``; under the layer policy the contracted indices
        are flattened first: ``ceil(kernel^2 * in_channels / n)``.
        """
        n = parameters.lanes
        if parameters.exponent_policy == "layer":
            return -(-(self.kernel**2) * self.in_channels // n)
        return self.kernel**2 * -(-self.in_channels // n)

    def tiles(self, parameters: Parameters) -> int:
        """Output tiles of the array: ``ceil(positions / rows) * ceil(out_channels / columns)``."""
        return -(-self.positions // parameters.rows) * -(-self.out_channels // parameters.columns)

    def array_clocks(self, parameters: Parameters, *, zero_groups: float = 0.0) -> int:
        """Clocks of the array for one pass of digits.

        Its rows share the weights, so they go in lockstep: a clock is skipped where the groups of all rows are zero:
        ``tiles * groups_per_output * (1 - z^rows)``, rounded up.

        Parameters
        ----------
        parameters : Parameters
            The machine.
        zero_groups : float
            Share ``z``, see `golden.diffusion.cost.rates.Rates`.
        """
        share = 1 - zero_groups**parameters.rows
        return math.ceil(self.tiles(parameters) * self.groups_per_output(parameters) * share)

    def dense_clocks(self, parameters: Parameters, lanes: float) -> int:
        """Clocks of an array whose groups have so many FP16 multipliers: ``tiles * ceil(groups_per_output * n /
        lanes)``.
        """
        return self.tiles(parameters) * math.ceil(self.groups_per_output(parameters) * parameters.lanes / lanes)

    def weight_bytes(self, parameters: Parameters, *, scales: bool) -> int:
        """Weights in their stored order, padding included: ``out_channels * groups_per_output * n`` values of 2 bytes.

        Parameters
        ----------
        parameters : Parameters
            The machine.
        scales : bool
            Whether each group has a scale of 2 bytes beside it, as aligned weights do.
        """
        group = HALF_BYTES * parameters.lanes + (math.ceil(SCALE_WIDTH / 8) if scales else 0)
        return self.out_channels * self.groups_per_output(parameters) * group


def layer_shape(layer: Layer, shape: Shape) -> LayerShape | None:
    """Shape of a convolution or matrix product for the cost model, of its first input's; None for other kinds.

    The tokens of all frames stand for the height of a matrix product.
    """
    if isinstance(layer, Linear):
        out_channels, in_channels = layer.weight.shape
        height = math.prod(shape[1:-1])
        sizes = {"in_channels": in_channels, "out_channels": out_channels}
        return LayerShape(kind="linear", height=height, batch=shape[0], **sizes)
    if isinstance(layer, Convolution):
        batch, in_channels, height, width = shape  # all of a grouped one: the machine multiplies by the zeros between
        _, out_channels, out_height, out_width = layer.shape(shape)
        return LayerShape(
            in_channels=in_channels,
            out_channels=out_channels,
            kernel=layer.weight.shape[2],
            stride=layer.stride,
            height=height,
            width=width,
            batch=batch,
            out_height=out_height,
            out_width=out_width,
        )
    return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Load:
    """A layer and what of it crosses the link.

    Members
    -------
    name, kind : str
        As of the layer.
    shapes : tuple of LayerShape
        Products to compute: one, or none; two for a product of two activations in delta form.
    digits : tuple of str
        The operand that is digits in each of `shapes`.
    dense : tuple of LayerShape
        Products when nothing is a delta.
    weights : bool
        Whether one operand are weights.
    sources : mapping of str to int
        Operands that this layer is the first to read, and their elements.
    outputs : int
        Elements of its result, if it is a product.
    groups : mapping of str to int
        Values that are quantised for this layer in the open loop, and their elements.
    masked : int
        Elements that a mask stands for, in the open loop.
    raw : bool
        Whether the core makes digits of its raw operand in the open loop: it is no product with weights or deltas.
    masked_operand : bool
        Whether its operand comes from an activation, in the open loop: repairs of that one are groups of it too.
    raw_in, raw_out : int
        Elements that cross in FP16 in the open loop: operands of raw attention; results that go where no delta goes.
    """

    name: str
    kind: str
    shapes: tuple[LayerShape, ...] = ()
    digits: tuple[str, ...] = ()
    dense: tuple[LayerShape, ...] = ()
    weights: bool = True
    sources: Mapping[str, int] = dataclasses.field(default_factory=dict)
    outputs: int = 0
    groups: Mapping[str, int] = dataclasses.field(default_factory=dict)
    masked: int = 0
    raw: bool = False
    masked_operand: bool = False
    raw_in: int = 0
    raw_out: int = 0

    @classmethod
    def alone(cls, shape: LayerShape) -> "Load":
        """A layer by itself: it reads its input, and its result is masked and quantised for whoever reads it."""
        return cls(
            name="",
            kind=shape.kind,
            shapes=(shape,),
            dense=(shape,),
            sources={"": shape.inputs},
            outputs=shape.outputs,
            groups={"": shape.outputs},
            masked=shape.outputs,
        )

    @property
    def inputs(self) -> int:
        """Elements of all `sources`."""
        return sum(self.sources.values())
